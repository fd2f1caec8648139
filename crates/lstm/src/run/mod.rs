//! A run and its folder: its configuration, the presets, the checkpoints and the saved model.

pub mod about;
pub mod checkpoint;
mod choices;
pub mod config;
mod earlier;
pub mod error;
pub mod expectation;
pub mod fine_tuning;
pub mod folder;
pub mod imported;
pub mod preset;
pub mod saved;
pub mod settings;
pub mod summary;
pub mod task_kind;
pub mod teaching;
pub mod training;

pub use task_kind::TaskKind;
pub use training::Length;
