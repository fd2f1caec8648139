//! What a trainer tells its observers, and the observer that keeps it: the metrics file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::formats::{FormatError, write_bytes};
use crate::model::Loss;

/// What happens during training.
#[derive(Clone, Debug)]
pub enum Event {
    /// A step was taken.
    Step {
        /// The epoch, from 0.
        epoch: usize,
        /// The steps taken since the run began.
        step: u64,
        /// The step within the epoch, from 1, and how many the epoch has.
        of_epoch: (usize, usize),
        /// The mean loss of the step, in nats.
        loss: f64,
        /// The mean loss of the epoch so far, in nats.
        epoch_loss: f64,
        /// The norm of the gradient before clipping.
        norm: f64,
        /// The learning rate.
        rate: f32,
        /// Predicted tokens a second since training began or was resumed.
        tokens_per_second: f64,
        /// The share of the whole run that is done, in [0, 1].
        progress: f64,
        /// Seconds of training since the run began.
        seconds: f64,
    },
    /// Training begins, or goes on.
    Started {
        /// The steps taken since the run began.
        step: u64,
    },
    /// The validation or the test has come so far.
    Evaluating {
        /// The tokens read.
        tokens: usize,
        /// All of them.
        of: usize,
    },
    /// The model was validated: at the end of an epoch, or of a run that ended within one.
    Validated {
        /// The epoch, from 0.
        epoch: usize,
        /// The steps taken since the run began.
        step: u64,
        /// The training loss of the epoch so far.
        train: Loss,
        /// The validation's, if there is a text for it.
        valid: Option<Loss>,
        /// Whether it is the best so far, and was saved as the model.
        best: bool,
        /// Seconds of training since the run began.
        seconds: f64,
    },
    /// An epoch ended that a run with a time budget has no time to validate.
    EpochEnded {
        /// The epoch, from 0.
        epoch: usize,
        /// The steps taken since the run began.
        step: u64,
        /// Its training loss.
        train: Loss,
        /// Seconds of training since the run began.
        seconds: f64,
    },
    /// Validation no longer improved, so NT-ASGD began to average the weights.
    Averaging {
        /// The steps taken since the run began.
        step: u64,
    },
    /// The best model was tested.
    Tested {
        /// The steps taken since the run began.
        step: u64,
        /// The test loss.
        test: Loss,
    },
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Every epoch, step or second was used.
    Complete,
    /// Validation stopped improving.
    Patience,
    /// It was asked to stop; a checkpoint was saved.
    Interrupted,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The last epoch's training loss.
    pub train: Loss,
    /// The best validation loss.
    pub valid: Option<Loss>,
    /// The best model's test loss.
    pub test: Option<Loss>,
    /// The epochs that were begun; the training loss is of the last that was validated.
    pub epochs: usize,
    /// The epoch and the step after which the model was best: the one that is kept and tested. `None` where the run was
    /// interrupted before it was over.
    pub best: Option<(usize, u64)>,
    /// Seconds of training, validation included, since the run began.
    pub seconds: f64,
    /// Predicted training tokens in each of these seconds.
    pub tokens_per_second: f64,
    /// Why it ended.
    pub end: End,
}

/// Steps between two lines of the metrics file; the report prints as often.
const STEPS_PER_LINE: u64 = 100;

/// `metrics.jsonl`: a line every 100 steps, a line for every epoch and validation, one where averaging begins, one for
/// the test.
#[derive(Debug)]
pub(crate) struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens the file and drops what was recorded after `step`: a resumed run will take those steps again.
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self, FormatError> {
        let trouble = |source| FormatError::Write { path: path.to_owned(), source };
        if let Ok(text) = std::fs::read_to_string(path) {
            let kept = |line: &&str| {
                let value: Value = serde_json::from_str(line).unwrap_or_default();
                value["step"].as_u64().is_some_and(|recorded| recorded <= step) && value["test"].is_null()
            };
            let kept: String = text.lines().filter(kept).map(|line| format!("{line}\n")).collect();
            if kept != text {
                write_bytes(path, kept.as_bytes())?;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(trouble)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Records an event.
    pub(crate) fn record(&mut self, event: &Event) -> Result<(), FormatError> {
        let line = match event {
            Event::Started { .. } | Event::Evaluating { .. } => return Ok(()),
            Event::Step { step, .. } if step % STEPS_PER_LINE != 0 => return Ok(()),
            Event::Step { epoch, step, epoch_loss, norm, rate, tokens_per_second, seconds, .. } => json!({
                "step": step, "epoch": epoch + 1, "loss": epoch_loss, "norm": norm, "rate": rate,
                "tokens_per_second": tokens_per_second, "seconds": seconds,
            }),
            Event::Validated { epoch, step, train, valid, best, seconds } => json!({
                "step": step, "epoch": epoch + 1, "train": train.perplexity(),
                "valid": valid.map(|loss| loss.perplexity()), "best": best, "seconds": seconds,
            }),
            Event::EpochEnded { epoch, step, train, seconds } => json!({
                "step": step, "epoch": epoch + 1, "train": train.perplexity(), "seconds": seconds,
            }),
            Event::Averaging { step } => json!({ "step": step, "averaging": true }),
            Event::Tested { step, test } => json!({ "step": step, "test": test.perplexity() }),
        };
        writeln!(self.file, "{line}").map_err(|source| FormatError::Write { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_records_every_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let validated = |step| Event::Validated {
            epoch: 0,
            step,
            train: Loss { nll: 2.0, tokens: 2 },
            valid: None,
            best: true,
            seconds: 1.0,
        };
        let mut metrics = MetricsFile::open(&path, 0).unwrap();
        for step in [100, 200, 300] {
            metrics.record(&validated(step)).unwrap();
        }
        let mut metrics = MetricsFile::open(&path, 200).unwrap();
        metrics.record(&validated(300)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let steps: Vec<u64> =
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [100, 200, 300]);
    }
}
