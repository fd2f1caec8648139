//! Why a run cannot begin, go on or be used.

use std::path::PathBuf;

use thiserror::Error;

use crate::data::DataError;
use crate::formats::FormatError;
use crate::nn::config::ConfigError;
use crate::text::TextError;

/// Training that cannot start or go on, in a sentence.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A table, or sequences of numbers.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model or checkpoint file.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A loss or gradient that is not a number.
    #[error(
        "{what} {step} is not a finite number{}; start again with a lower learning rate or clip{}",
        last.map(|loss| format!(" (that of the step before was {})", nats(loss))).unwrap_or_default(),
        saved.map(|at| format!("; the checkpoint of step {at} is kept, and the best model if one was saved")).unwrap_or_default()
    )]
    NotFinite {
        /// The name of the value that is not finite, up to the number of the step.
        what: &'static str,
        /// The step, from 1.
        step: u64,
        /// The loss of the step before, in nats.
        last: Option<f64>,
        /// The step of the last good checkpoint, where there is one.
        saved: Option<u64>,
    },
    /// A loss so large that its perplexity is no number.
    #[error(
        "the {what} loss up to step {step} is {}, whose perplexity is infinite: the training has diverged; start again with a \
         lower learning rate or clip{}",
        nats(*loss),
        saved.map(|at| format!("; the checkpoint of step {at} is kept, and the best model if one was saved")).unwrap_or_default()
    )]
    Diverged {
        /// Of which text.
        what: &'static str,
        /// The mean loss, in nats.
        loss: f64,
        /// The steps taken.
        step: u64,
        /// The step of the last good checkpoint, where there is one.
        saved: Option<u64>,
    },
    /// A run whose training has not come to a model yet.
    #[error("{} has no model yet: it is saved after the first validation; resume the run", folder.display())]
    NoModel {
        /// The run.
        folder: PathBuf,
    },
    /// Anything else, said in full.
    #[error("{0}")]
    Unusable(String),
}

/// A loss as people read it, also one that has grown beyond reading.
fn nats(loss: f64) -> String {
    if loss < 1e4 { format!("{loss:.3} nats") } else { format!("{loss:.1e} nats") }
}
