//! Training: the texts of a run, one step, the loop with its events, and what finds a rate or a batch for it.

pub mod batch_finder;
pub(crate) mod check;
pub mod data;
pub mod event;
pub(crate) mod fastest;
pub mod gates;
pub mod language;
mod length;
pub mod new_run;
pub mod pretrained;
pub mod ranks;
pub mod rate_finder;
pub mod shards;
pub(crate) mod step;
pub mod task;
pub(crate) mod teachers;
pub(crate) mod texts;
pub mod trainer;
