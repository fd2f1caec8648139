//! Training.

pub mod checkpoint;
pub mod event;
pub mod optimizer;
pub mod preset;
pub mod run;
pub mod schedule;
pub mod trainer;
