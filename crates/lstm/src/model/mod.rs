//! Models around the LSTM.

mod candidates;
mod config;
mod head;
mod language_model;
mod loss;
pub mod penalty;
pub use candidates::Sampler;
pub use config::*;
pub use language_model::*;
pub use loss::Loss;
