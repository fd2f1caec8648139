//! Models around the LSTM.

mod config;
mod language_model;
pub use config::*;
pub use language_model::*;
