//! Models around the LSTM: an embedding before it, a readout behind it.

mod config;
mod embedding;
mod language_model;
pub(crate) mod loss;
pub mod penalty;
mod readout;
mod token_stream;

pub use config::*;
pub use language_model::*;
pub use loss::Loss;
pub use readout::{Lesson, Sampler, TOP};
pub use token_stream::TokenStream;
