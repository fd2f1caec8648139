//! The events of a training, and the observer that keeps them: the metrics file.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::formats::{FormatError, disk, write_bytes};
use crate::model::Loss;
use crate::train::gates::LayerGates;
use crate::train::shards::Exchanged;

/// An event of a training.
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
        /// The tokens predicted since the run began, and since the epoch did.
        tokens: (u64, usize),
        /// Seconds of training since the run began.
        seconds: f64,
    },
    /// The gates were measured on the batch that is next, before its step.
    Gates {
        /// The steps taken since the run began.
        step: u64,
        /// Every layer's.
        layers: Vec<LayerGates>,
    },
    /// The model that was just validated wrote a few lines.
    Sampled {
        /// The epoch, from 0.
        epoch: usize,
        /// The steps taken since the run began.
        step: u64,
        /// The text.
        text: String,
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
    /// Validation no longer improved, so a non-monotone average of the weights began.
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
    /// What the exchange between ranks took, of a run whose steps are cut into shards.
    pub exchanged: Option<Exchanged>,
}

/// Steps between two lines of the metrics file; the report prints as often.
const STEPS_PER_LINE: u64 = 100;

/// The first steps that have a line all the same, for runs that have few.
const FIRST_LINES: [u64; 6] = [1, 2, 5, 10, 20, 50];

/// `metrics.jsonl`: a line every 100 steps and for some of the first, a line for every epoch and validation, one for gates that were
/// measured and for a text that was written, one where averaging begins, one for the test.
#[derive(Debug)]
struct MetricsFile {
    path: PathBuf,
    /// The figure of a loss that is recorded.
    figure: fn(Loss) -> f64,
    file: File,
    /// The lines that are kept.
    kept: Vec<String>,
    /// Those behind them, which a resumed run may write again.
    rest: VecDeque<String>,
}

impl MetricsFile {
    /// Opens the file, of which a checkpoint after `step` knows `lines`: what was recorded later will be again. Where it knows of none, those up to
    /// the step are kept.
    fn open(path: &Path, lines: Option<usize>, step: u64, figure: fn(Loss) -> f64) -> Result<Self, FormatError> {
        let trouble = |source| FormatError::Write { path: path.to_owned(), source };
        let whole = |line: &&str| serde_json::from_str::<Value>(line).is_ok();
        let text = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut kept: Vec<String> = text.lines().filter(whole).map(str::to_owned).collect();
        let earlier = |line: &&String| {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            value["step"].as_u64().is_some_and(|recorded| recorded <= step) && value["test"].is_null()
        };
        let lines = lines.unwrap_or_else(|| kept.iter().take_while(earlier).count());
        let rest = kept.split_off(lines.min(kept.len())).into();
        let file = disk::open_end(path).map_err(trouble)?;
        let mut metrics = Self { path: path.to_owned(), figure, file, kept, rest };
        if !text.is_empty() && !text.ends_with('\n') {
            metrics.cut()?;
        }
        Ok(metrics)
    }

    /// Leaves nothing but what is kept, so that what follows stands behind it.
    fn cut(&mut self) -> Result<(), FormatError> {
        let text: String = self.kept.iter().map(|line| format!("{line}\n")).collect();
        self.rest.clear();
        write_bytes(&self.path, text.as_bytes())?;
        let opened = disk::open_end(&self.path);
        self.file = opened.map_err(|source| FormatError::Write { path: self.path.clone(), source })?;
        Ok(())
    }

    /// What makes that last which is recorded by now.
    fn last(&self) -> Result<impl FnOnce() -> Result<(), FormatError> + Send + use<>, FormatError> {
        let path = self.path.clone();
        let trouble = move |source| FormatError::Write { path: path.clone(), source };
        let file = self.file.try_clone().map_err(&trouble)?;
        Ok(move || disk::sync(&file).map_err(trouble))
    }

    /// Records an event.
    fn record(&mut self, event: &Event) -> Result<(), FormatError> {
        let figure = self.figure;
        let line = match event {
            Event::Started { .. } | Event::Evaluating { .. } => return Ok(()),
            Event::Step { step, .. } if step % STEPS_PER_LINE != 0 && !FIRST_LINES.contains(step) => return Ok(()),
            Event::Step { epoch, step, epoch_loss, norm, rate, tokens_per_second, tokens, seconds, .. } => json!({
                "step": step, "epoch": epoch + 1, "loss": epoch_loss, "norm": norm, "rate": rate,
                "tokens": tokens.0, "epoch_tokens": tokens.1,
                "tokens_per_second": tokens_per_second, "seconds": seconds,
            }),
            Event::Gates { step, layers } => json!({ "step": step, "gates": layers }),
            Event::Sampled { epoch, step, text } => json!({ "step": step, "epoch": epoch + 1, "sample": text }),
            Event::Validated { epoch, step, train, valid, best, seconds } => json!({
                "step": step, "epoch": epoch + 1, "train": figure(*train),
                "valid": valid.map(figure), "best": best, "seconds": seconds,
            }),
            Event::EpochEnded { epoch, step, train, seconds } => json!({
                "step": step, "epoch": epoch + 1, "train": figure(*train), "seconds": seconds,
            }),
            Event::Averaging { step } => json!({ "step": step, "averaging": true }),
            Event::Tested { step, test } => json!({ "step": step, "test": figure(*test) }),
        };
        let line = line.to_string();
        match self.rest.pop_front() {
            Some(written) if written == line => {}
            written => {
                if written.is_some() {
                    self.cut()?;
                }
                // In one piece: a line is there or not.
                let appended = disk::append(&mut self.file, format!("{line}\n").as_bytes());
                appended.map_err(|source| FormatError::Write { path: self.path.clone(), source })?;
            }
        }
        self.kept.push(line);
        Ok(())
    }
}

/// Where events go: to the metrics file, then to the observer.
pub(crate) struct Log<'a> {
    metrics: MetricsFile,
    observer: &'a mut dyn FnMut(&Event),
}

impl<'a> Log<'a> {
    /// Goes on with the metrics file `path` from a checkpoint after `step` that knows `lines` of it; it records the `figure` of losses.
    pub(crate) fn open(
        path: &Path,
        lines: Option<usize>,
        step: u64,
        figure: fn(Loss) -> f64,
        observer: &'a mut dyn FnMut(&Event),
    ) -> Result<Self, FormatError> {
        Ok(Self { metrics: MetricsFile::open(path, lines, step, figure)?, observer })
    }

    /// Records an event and tells it.
    pub(crate) fn emit(&mut self, event: &Event) -> Result<(), FormatError> {
        self.metrics.record(event)?;
        (self.observer)(event);
        Ok(())
    }

    /// The number of lines that are recorded by now, for a checkpoint to note, and what makes them last, to be called before that is written.
    pub(crate) fn mark(&self) -> Result<(usize, impl FnOnce() -> Result<(), FormatError> + Send + use<>), FormatError> {
        Ok((self.metrics.kept.len(), self.metrics.last()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, lines: Option<usize>, step: u64) -> MetricsFile {
        MetricsFile::open(path, lines, step, |loss| loss.perplexity()).unwrap()
    }

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
        let steps = || -> Vec<u64> {
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap()).collect()
        };
        let mut metrics = open(&path, Some(0), 0);
        for step in [100, 200, 300] {
            metrics.record(&validated(step)).unwrap();
        }
        // A checkpoint of an older program knows its step alone.
        let mut metrics = open(&path, None, 200);
        metrics.record(&validated(300)).unwrap();
        assert_eq!(steps(), [100, 200, 300]);
        // Half a line, as a kill leaves it.
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "{\"step\": 4").unwrap();
        let mut metrics = open(&path, Some(1), 200);
        metrics.record(&validated(250)).unwrap();
        metrics.record(&validated(300)).unwrap();
        assert_eq!(steps(), [100, 250, 300]);
        assert_eq!(metrics.kept.len(), 3);
    }

    /// A finished run that is gone on with records its test again: a kill in between shall not leave it without.
    #[test]
    fn what_is_recorded_again_as_it_was_is_never_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let tested = Event::Tested { step: 5, test: Loss { nll: 2.0, tokens: 2 } };
        open(&path, Some(0), 0).record(&tested).unwrap();
        let before = std::fs::read(&path).unwrap();
        let mut metrics = open(&path, Some(0), 5);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        metrics.record(&tested).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
