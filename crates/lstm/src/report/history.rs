//! The course of a run, as its `metrics.jsonl` tells it.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::formats::FormatError;
use crate::train::gates::LayerGates;

/// A line of steps.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Steps {
    /// The steps taken.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: usize,
    /// The mean training loss of the epoch so far, in nats.
    pub loss: Option<f64>,
    /// The gradient's norm before it was clipped.
    pub norm: Option<f64>,
    /// The learning rate.
    pub rate: f64,
    /// Tokens predicted since the run began, and since the epoch did; of runs from before they were noted 0.
    #[serde(default)]
    pub tokens: u64,
    /// See `tokens`.
    #[serde(default)]
    pub epoch_tokens: u64,
    /// Seconds since the run began.
    pub seconds: f64,
}

/// A line of the end of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Epoch {
    /// The steps taken.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: usize,
    /// The perplexity in training.
    pub train: Option<f64>,
    /// The validation's.
    #[serde(default)]
    pub valid: Option<f64>,
    /// Whether the model was the best so far.
    #[serde(default)]
    pub best: bool,
    /// Seconds since the run began.
    pub seconds: f64,
}

/// A line of gates.
#[derive(Clone, Debug, Deserialize)]
pub struct Gates {
    /// The steps taken before.
    pub step: u64,
    /// Every layer's.
    pub gates: Vec<LayerGates>,
}

/// A line of a text that the model wrote.
#[derive(Clone, Debug, Deserialize)]
pub struct Sample {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The text.
    pub sample: String,
}

/// The course of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every hundred steps.
    pub steps: Vec<Steps>,
    /// The ends of epochs.
    pub epochs: Vec<Epoch>,
    /// The gates.
    pub gates: Vec<Gates>,
    /// The texts.
    pub samples: Vec<Sample>,
    /// Where averaging began.
    pub averaging: Option<u64>,
    /// The test perplexity.
    pub test: Option<f64>,
}

impl History {
    /// Reads the metrics of a run; a run that has none yet has an empty course, and a line that is not whole yet is not counted.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(path: &Path) -> Result<Self, FormatError> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self::of(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(FormatError::Read { path: path.to_owned(), source }),
        }
    }

    /// From the lines.
    pub fn of(lines: &str) -> Self {
        let mut history = Self::default();
        for line in lines.lines() {
            let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
            let has = |key: &str| value.get(key).is_some();
            match () {
                () if has("gates") => history.gates.extend(Gates::deserialize(&value)),
                () if has("sample") => history.samples.extend(Sample::deserialize(&value)),
                () if has("averaging") => history.averaging = value["step"].as_u64(),
                () if has("test") => history.test = value["test"].as_f64(),
                () if has("train") => history.epochs.extend(Epoch::deserialize(&value)),
                () => history.steps.extend(Steps::deserialize(&value)),
            }
        }
        history
    }

    /// Where the run stands: step, tokens, seconds.
    pub fn end(&self) -> (u64, u64, f64) {
        let last = self.steps.last();
        let epoch = self.epochs.last();
        let step = last.map_or(0, |line| line.step).max(epoch.map_or(0, |line| line.step));
        let seconds = last.map_or(0.0, |line| line.seconds).max(epoch.map_or(0.0, |line| line.seconds));
        (step, self.tokens_at(step) as u64, seconds)
    }

    /// The tokens that were predicted after so many steps; between lines, and behind the last, evenly.
    pub fn tokens_at(&self, step: u64) -> f64 {
        let after = self.steps.partition_point(|line| line.step < step);
        let place = |line: &Steps| (line.step as f64, line.tokens as f64);
        let before = after.checked_sub(1).map_or((0.0, 0.0), |at| place(&self.steps[at]));
        let (from, to) = match self.steps.get(after) {
            Some(line) => (before, place(line)),
            None => ((0.0, 0.0), before),
        };
        let share = if to.0 > from.0 { (step as f64 - from.0) / (to.0 - from.0) } else { 0.0 };
        from.1 + share * (to.1 - from.1)
    }

    /// The mean training loss between each line and the one before it, in nats. Where the tokens were not noted it is that of the epoch
    /// so far.
    pub fn losses(&self) -> Vec<(&Steps, f64)> {
        let mut losses = Vec::with_capacity(self.steps.len());
        let mut before: Option<&Steps> = None;
        for line in &self.steps {
            let Some(loss) = line.loss else { continue };
            let of_epoch =
                before.filter(|before| before.epoch == line.epoch && line.epoch_tokens > before.epoch_tokens);
            let mean = of_epoch.and_then(|before| {
                let total = |line: &Steps| Some(line.loss? * line.epoch_tokens as f64);
                Some((total(line)? - total(before)?) / (line.epoch_tokens - before.epoch_tokens) as f64)
            });
            losses.push((line, mean.unwrap_or(loss)));
            before = Some(line);
        }
        losses
    }

    /// Tokens a second between each line and the one before it, at the step of the line. A pause between two sessions counts as none:
    /// seconds are those of training.
    pub fn speeds(&self) -> Vec<(&Steps, f64)> {
        let pairs =
            self.steps.windows(2).filter(|pair| pair[1].seconds > pair[0].seconds && pair[1].tokens > pair[0].tokens);
        // The first steps have lines of their own, too short to be timed.
        let pairs = pairs.filter(|pair| pair[1].step - pair[0].step >= 20);
        pairs
            .map(|pair| (&pair[1], (pair[1].tokens - pair[0].tokens) as f64 / (pair[1].seconds - pair[0].seconds)))
            .collect()
    }

    /// The best validation perplexity.
    pub fn best(&self) -> Option<&Epoch> {
        self.epochs.iter().rfind(|epoch| epoch.best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_is_told_apart_and_half_a_line_is_not_counted() {
        let history = History::of(
            "{\"step\":0,\"gates\":[]}\n\
             {\"step\":10,\"epoch\":1,\"loss\":4.0,\"norm\":1.0,\"rate\":0.1,\"tokens\":100,\"epoch_tokens\":100,\"seconds\":1.0}\n\
             {\"step\":30,\"epoch\":1,\"loss\":3.0,\"norm\":1.0,\"rate\":0.1,\"tokens\":300,\"epoch_tokens\":300,\"seconds\":2.0}\n\
             {\"step\":40,\"epoch\":1,\"train\":20.0,\"valid\":18.0,\"best\":true,\"seconds\":3.0}\n\
             {\"step\":40,\"epoch\":1,\"sample\":\"the cat\"}\n{\"step\":40,\"test\":19.0}\n{\"step\":5",
        );
        assert_eq!(
            (history.gates.len(), history.steps.len(), history.epochs.len(), history.samples.len()),
            (1, 2, 1, 1)
        );
        // 400 nats in the first hundred tokens, 500 in the two hundred after them.
        let losses: Vec<f64> = history.losses().into_iter().map(|(_, loss)| loss).collect();
        assert_eq!(losses, [4.0, 2.5]);
        assert_eq!([5, 20, 40].map(|step| history.tokens_at(step)), [50.0, 200.0, 400.0]);
        assert_eq!((history.end(), history.test, history.speeds()[0].1), ((40, 400, 3.0), Some(19.0), 200.0));
    }
}
