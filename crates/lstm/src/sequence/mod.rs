//! Models over sequences, of words or of numbers: a label for each, or for each of its words, or numbers; from files that people have.
//!
//! Embedding, or a linear map of numbers, an LSTM of any number of layers in one or two directions, pooling, a linear head; batches are packed, so padding costs
//! nothing.

mod bag;
pub mod baseline;
pub mod batch;
pub mod config;
pub mod data;
mod folds;
mod head;
mod initial;
mod input;
pub mod model;
pub mod numbers;
pub mod plan;
mod plan_numbers;
mod pooling;
mod pretrained;
pub mod read;
pub(crate) mod read_numbers;
pub mod read_tags;
pub mod saved;
pub mod spelling;
pub mod task;

pub use head::{Objective, Targets};
pub use pooling::Pooling;
