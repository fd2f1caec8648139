//! Models around the LSTM.

mod language_model;
pub use language_model::*;
