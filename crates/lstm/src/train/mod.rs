//! Training: what a run is, its texts, the optimizers and their schedule, and the loop with its events and checkpoints.

pub mod average;
pub mod checkpoint;
pub mod data;
pub mod event;
pub mod optimizer;
pub mod plan;
pub mod preset;
pub mod range_test;
pub mod run;
pub mod schedule;
mod step;
pub mod trainer;
