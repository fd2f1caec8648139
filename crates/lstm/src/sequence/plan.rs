//! The run for data and a time: size, directions, pooling, dropout, rate and epochs, chosen by the validation of short trials.

use std::sync::Arc;
use std::time::Instant;

use super::config::SequenceConfig;
use super::data::SequenceDataset;
use super::pooling::Pooling;
use super::task::SequenceTask;
use crate::model::Loss;
use crate::optim::averaging::Averaging;
use crate::optim::schedule::Moment;
use crate::run::checkpoint::Progress;
use crate::run::error::TrainError;
use crate::run::settings::Settings as _;
use crate::run::task_kind::TaskKind;
use crate::train::step::TrainStep;
use crate::train::task::{Batches as _, Evaluation as _, Part, Task as _};

/// A run that was chosen, and why.
#[derive(Clone, Debug)]
pub struct SequencePlan {
    /// Its settings.
    pub config: SequenceConfig,
    /// The reasons, a sentence each.
    pub why: Vec<String>,
    /// The seconds that choosing took.
    pub seconds: f64,
}

/// The share of the time that trials may take.
const TRIALS: f64 = 0.4;

/// The epochs of a trial, and those of the run: more learn small data by heart.
const TRIAL_EPOCHS: usize = 4;
const MOST_EPOCHS: usize = 10;

/// The epochs that the average of the weights goes back: of 6,920, 8,000 and 8,530 examples in two classes it lowered the validation loss
/// by 0.01 to 0.03, where the rate coming down to 0 lowered it by nothing.
const AVERAGED_EPOCHS: f32 = 2.0;

/// The fewest epochs of the run for which a model of full size is worth it.
const FEWEST_EPOCHS: f64 = 4.0;

/// The steps by which the speed is measured, after one that packs weights and touches memory.
const TIMED_STEPS: usize = 6;

/// A choice that is tried: its name, and what it changes.
type Candidate = (&'static str, fn(&mut SequenceConfig));

/// The choices, the most promising first: a trial that there is no time for is not missed much.
const CANDIDATES: [Candidate; 6] = [
    ("the usual size", |_| ()),
    ("more dropout", |config| {
        config.model.dropout.words = 0.2;
        config.model.dropout.input = 0.5;
        config.model.dropout.output = 0.6;
    }),
    ("three times the rate", |config| config.training.schedule.learning_rate *= 3.0),
    ("pooled by attention", |config| config.model.pooling = config.model.pooling.map(|_| Pooling::Attention)),
    ("the last, the mean and the largest", |config| {
        config.model.pooling = config.model.pooling.map(|_| Pooling::Concat)
    }),
    ("one direction, twice as wide", |config| {
        config.model.lstm.bidirectional = false;
        config.model.lstm.hidden = 256.into();
    }),
];

/// Trains for `epochs` epochs or so many seconds; gives the validation loss. Nothing is written.
fn trial(
    config: &SequenceConfig,
    data: &Arc<SequenceDataset>,
    epochs: usize,
    seconds: f64,
) -> Result<Loss, TrainError> {
    let started = Instant::now();
    let task = SequenceTask::new(config.clone(), data.clone())?;
    let (mut progress, mut step) = (Progress::new(&task), TrainStep::new(&task));
    let schedule = config.training.schedule;
    let count = task.batches(0)?.count();
    'training: for epoch in 0..epochs {
        let batches = task.batches(epoch)?;
        while progress.position.batch < count {
            let spent = started.elapsed().as_secs_f64() / seconds;
            let done = (progress.position.step as f64 / (epochs * count) as f64).max(spent);
            if done >= 1.0 {
                break 'training;
            }
            let at = Moment { epoch, step: progress.position.step, done, plateaus: 0 };
            let result = step.take(&mut progress, &batches, schedule.learning_rate_at(at))?;
            if !result.loss.nll.is_finite() || !result.norm.is_finite() {
                // A rate that is far too high is no choice.
                return Ok(Loss { nll: f64::INFINITY, tokens: 1 });
            }
        }
        progress.position.begin_epoch();
    }
    let mut evaluation = task.evaluation(progress.evaluated(), Part::Validation)?;
    while evaluation.advance() {}
    Ok(evaluation.total())
}

/// The average of the weights for epochs of so many steps.
fn averaged(steps: usize) -> Averaging {
    let share = 1.0 - 1.0 / (AVERAGED_EPOCHS * steps.max(1) as f32);
    // As it is read back from its text.
    Averaging::Ema((share * 1e4).round().clamp(1.0, 9999.0) / 1e4)
}

/// The seconds of an epoch of training.
fn epoch_seconds(config: &SequenceConfig, data: &Arc<SequenceDataset>) -> Result<f64, TrainError> {
    let task = SequenceTask::new(config.clone(), data.clone())?;
    let (mut progress, mut step) = (Progress::new(&task), TrainStep::new(&task));
    let batches = task.batches(0)?;
    step.take(&mut progress, &batches, 1e-6)?;
    let steps = TIMED_STEPS.min(batches.count());
    let started = Instant::now();
    for number in 0..steps {
        progress.position.batch = number;
        step.take(&mut progress, &batches, 1e-6)?;
    }
    Ok(started.elapsed().as_secs_f64() * batches.count() as f64 / steps as f64)
}

impl SequencePlan {
    /// Chooses the run for these data and `budget` seconds, of which `read` are spent. `base` are the settings that the data were read by;
    /// `overlay` lays over a choice what is decided already.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub fn choose<E: From<TrainError>>(
        base: &SequenceConfig,
        data: &Arc<SequenceDataset>,
        budget: f64,
        overlay: &dyn Fn(SequenceConfig) -> Result<SequenceConfig, E>,
    ) -> Result<Self, E> {
        let started = Instant::now();
        let fitted = |change: fn(&mut SequenceConfig)| -> Result<SequenceConfig, E> {
            let mut config = SequenceConfig::usual(base.task);
            config.training.average = averaged(data.train.sequences.len().div_ceil(config.training.batch));
            change(&mut config);
            let mut config = overlay(config)?;
            config.labels.clone_from(&base.labels);
            (config.model.vocabulary, config.model.outputs) = (base.model.vocabulary, base.model.outputs);
            Ok(config)
        };
        let mut why = Vec::new();
        let small: fn(&mut SequenceConfig) = |config| {
            let spelling = config.model.spelling;
            config.model.lstm.hidden = 48.into();
            config.model.set_input(50, spelling);
            // In so few steps the usual rate learns hardly anything.
            config.training.schedule.learning_rate *= 4.0;
        };
        let mut chosen = fitted(|_| ())?;
        let mut epoch = epoch_seconds(&chosen, data)?;
        let left = budget - data.seconds;
        let affordable = |epoch: f64, share: f64| share * left / epoch.max(1e-9);
        let is_small = affordable(epoch, 0.9) < FEWEST_EPOCHS;
        if is_small {
            chosen = fitted(small)?;
            let before = epoch;
            epoch = epoch_seconds(&chosen, data)?;
            why.push(format!(
                "size: small, for an epoch of the usual size takes {before:.1} s of the {budget:.0} s, and {FEWEST_EPOCHS} at least are needed"
            ));
        }
        // A trial of fewer epochs than two says little.
        let trials = (affordable(epoch, TRIALS) / TRIAL_EPOCHS as f64) as usize;
        let mut tried: Vec<(&str, SequenceConfig, f64)> = Vec::new();
        if !is_small && trials >= 2 && data.valid.is_some() {
            let share = TRIALS * left / trials.min(CANDIDATES.len()) as f64;
            for (name, change) in CANDIDATES.into_iter().take(trials) {
                let config = fitted(change)?;
                // What is decided already leaves some of them the same.
                if tried.iter().any(|(_, before, _)| *before == config) {
                    continue;
                }
                if started.elapsed().as_secs_f64() + 0.5 * share > TRIALS * left {
                    break;
                }
                let loss = trial(&config, data, TRIAL_EPOCHS, share)?;
                tried.push((name, config, loss.mean()));
            }
        }
        match tried.iter().min_by(|a, b| a.2.total_cmp(&b.2)) {
            Some((name, config, _)) => {
                chosen = config.clone();
                let all: Vec<String> = tried.iter().map(|(name, _, loss)| format!("{name} {loss:.4}")).collect();
                why.push(format!(
                    "{name}: the lowest validation loss after {TRIAL_EPOCHS} epochs of {}: {}",
                    tried.len(),
                    all.join(", ")
                ));
                epoch = epoch_seconds(&chosen, data)?;
            }
            None => why.push("nothing else was tried: the time is better spent on training".to_owned()),
        }
        let rest = left - started.elapsed().as_secs_f64();
        let epochs = ((0.95 * rest / epoch.max(1e-9)) as usize).clamp(1, MOST_EPOCHS);
        let asked = chosen.training.epochs.or(chosen.training.steps.map(|_| usize::MAX));
        if asked.is_none() {
            chosen.training.epochs = Some(epochs);
        }
        why.push(format!(
            "epochs: {epochs}, for one takes {epoch:.1} s and {rest:.0} s are left; more than {MOST_EPOCHS} learn by heart"
        ));
        let schedule = chosen.training.schedule;
        why.push(format!(
            "rate: {} at {schedule}, and the weights averaged over about {AVERAGED_EPOCHS} epochs; the best epoch by validation is kept",
            chosen.training.optimizer
        ));
        let directions = if chosen.model.lstm.bidirectional { "both directions" } else { "one direction" };
        let task = if base.task == TaskKind::Tag { "each word" } else { "each text" };
        why.push(format!(
            "model: a label for {task} from embeddings of {} and {} units in {directions}, dropout {} of words, {} of inputs, {} of outputs",
            chosen.model.embedding(),
            chosen.model.lstm.hidden,
            chosen.model.dropout.words,
            chosen.model.dropout.input,
            chosen.model.dropout.output
        ));
        chosen.training.budget = Some(budget);
        chosen.validate().map_err(TrainError::from)?;
        Ok(Self { config: chosen, why, seconds: started.elapsed().as_secs_f64() })
    }
}
