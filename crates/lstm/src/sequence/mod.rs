//! Models over sequences: a label for each text, from files that people have.
//!
//! Embedding, an LSTM of any number of layers in one or two directions, pooling, a linear head; batches are packed, so padding costs
//! nothing.

pub mod batch;
pub mod config;
pub mod data;
mod head;
pub mod model;
mod pooling;
pub mod read;
pub mod saved;
pub mod task;

pub use head::{Objective, Targets};
pub use pooling::Pooling;
