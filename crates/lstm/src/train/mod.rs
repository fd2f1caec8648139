//! Training: optimizers, the schedule, what a run is, and the loop.

pub mod optimizer;
pub mod run;
pub mod schedule;
pub mod trainer;
