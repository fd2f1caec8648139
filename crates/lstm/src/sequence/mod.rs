//! Models over sequences: a label for each text, or for each of its words, from files that people have.
//!
//! Embedding, an LSTM of any number of layers in one or two directions, pooling, a linear head; batches are packed, so padding costs
//! nothing.

pub mod batch;
pub mod config;
pub mod data;
mod head;
pub mod model;
pub mod plan;
mod pooling;
mod pretrained;
pub mod read;
pub mod read_tags;
pub mod saved;
pub mod spelling;
pub mod task;

pub use head::{Objective, Targets};
pub use pooling::Pooling;
