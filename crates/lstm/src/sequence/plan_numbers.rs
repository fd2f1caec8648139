//! The run for sequences of numbers and a time. Few examples decide little, so choices are measured where there are few by
//! cross-validation, and the run then trains on all of them.

use std::sync::Arc;

use super::config::SequenceConfig;
use super::data::SequenceDataset;
use super::plan::{Fitted, Precise, SequencePlan, Watch, epoch_seconds, trial};
use super::pooling::Pooling;
use crate::model::Loss;
use crate::run::error::TrainError;
use crate::run::task_kind::TaskKind;

/// The share of the time that trials may take.
const TRIALS: f64 = 0.6;

/// The parts of a cross-validation, and the most examples that one is worth for: with more a tenth says enough.
const FOLDS: usize = 5;
const FEW: usize = 1_000;

/// The steps of a run over few sequences, and the fewest of a trial.
const STEPS: usize = 600;
const LEAST_STEPS: usize = 100;

/// The readings of many sequences.
const READINGS: usize = 40;

/// A choice is better by this share of the loss to be more than luck.
const BETTER: f64 = 0.02;

/// About as many choices as are tried.
const CHOICES: f64 = 12.0;

/// The deviations of noise and of the factor that are tried.
const NOISES: [(f32, f32); 3] = [(0.1, 0.2), (0.3, 0.2), (0.3, 0.0)];

/// A change of the settings, and what it is called.
type Change = (String, Box<dyn Fn(&mut SequenceConfig)>);

/// A way to measure a choice.
struct Search<'a, E> {
    /// The settings with what is decided already.
    fitted: &'a Fitted<'a, E>,
    /// What is trained on and watched: one pair, or one for each part of a cross-validation.
    folds: Vec<SequenceDataset>,
    /// The steps of a trial.
    steps: usize,
    watch: &'a Watch,
    /// The seconds after which nothing more is tried.
    until: f64,
    /// The seconds of one trial on one fold, the slowest so far.
    slowest: f64,
    tried: usize,
}

/// A choice and its loss.
#[derive(Clone)]
struct Choice {
    config: SequenceConfig,
    loss: f64,
}

impl<E: From<TrainError>> Search<'_, E> {
    /// The mean loss of a choice over the folds; none where there is no time for it.
    fn measure(&mut self, config: &SequenceConfig) -> Result<Option<f64>, E> {
        let mut total = Loss::default();
        for fold in &self.folds {
            let before = self.watch.elapsed();
            let left = self.until - before;
            if left < self.slowest {
                return Ok(None);
            }
            let fold = Arc::new(fold.read_as(config));
            let epochs = self.steps.div_ceil(batches(config, &fold));
            let loss = trial(config, &fold, epochs, left, self.watch)?;
            self.slowest = self.slowest.max(self.watch.elapsed() - before);
            total.add(loss);
            if !loss.nll.is_finite() {
                return Ok(Some(f64::INFINITY));
            }
        }
        self.tried += 1;
        Ok(Some(total.mean()))
    }

    /// The best of these changes of `best`, or `best` itself; and, for the reasons, all losses.
    fn better(&mut self, best: Choice, changes: Vec<Change>, said: &mut Vec<String>) -> Result<Choice, E> {
        let (mut found, mut all) = (best.clone(), Vec::new());
        for (name, change) in changes {
            let mut config = best.config.clone();
            change(&mut config);
            let config = (self.fitted)(config)?;
            // What is decided already leaves some of them the same.
            if config == best.config {
                continue;
            }
            let Some(loss) = self.measure(&config)? else { break };
            all.push(format!("{name} {loss:.3}"));
            if loss < found.loss && loss < best.loss * (1.0 - BETTER) {
                found = Choice { config, loss };
            }
        }
        if !all.is_empty() {
            said.push(format!("{:.3} against {}", best.loss, all.join(", ")));
        }
        Ok(found)
    }
}

/// Names a change.
fn change(name: impl Into<String>, change: impl Fn(&mut SequenceConfig) + 'static) -> Change {
    (name.into(), Box::new(change))
}

/// Sets a patch, and the stride that goes with it.
fn set_patch(config: &mut SequenceConfig, patch: usize) {
    if let Some(numbers) = &mut config.model.numbers {
        (numbers.patch, numbers.stride) = (patch, (patch / 4).max(1));
    }
}

/// Chooses the run for these data and `budget` seconds; `fitted` lays over a choice what is decided already, `precise` chooses the precision.
pub(super) fn choose<E: From<TrainError>>(
    base: &SequenceConfig,
    data: &mut Arc<SequenceDataset>,
    budget: f64,
    (fitted, precise): (&Fitted<'_, E>, &Precise<'_, E>),
    watch: &Watch,
) -> Result<SequencePlan, E> {
    let left = budget - data.seconds;
    let (held_out, count) = (data.held_out, data.count());
    let crossed = held_out && count <= FEW;
    let folds = if crossed { data.folds(FOLDS, base.training.seed) } else { vec![data.as_ref().clone()] };
    let steps_of = |batch: usize| STEPS.max(READINGS * count / batch.max(1));

    let mut first = SequenceConfig::usual_of_numbers(base.task);
    first.training.batch = if count < 1_000 { 16 } else { 32 };
    // Short sequences step by step, long ones a quarter at once.
    let [shortest, middle] = data.lengths();
    let patches: Vec<usize> = {
        let mut all: Vec<usize> = [4, 8, 16].map(|part| middle / part).into_iter().chain([1]).collect();
        all.retain(|patch| *patch >= 1 && *patch <= shortest);
        all.dedup();
        all
    };
    set_patch(&mut first, patches[0]);
    let mut first = fitted(first)?;
    let read = Arc::new(folds[0].read_as(&first));
    let precision = precise(&mut first, &read)?;

    // What a step costs says how many there are for a trial.
    let until = TRIALS * left;
    let seconds = seconds_of_step(&first, &folds[0], watch)?;
    let steps = steps_of(first.training.batch);
    let affordable = until / CHOICES / folds.len() as f64 / seconds.max(1e-9);
    let trial_steps = (affordable as usize).clamp(LEAST_STEPS, steps);
    let mut search = Search { fitted, folds, steps: trial_steps, watch, until, slowest: 0.0, tried: 0 };
    let mut why = Vec::new();
    let mut best = match search.measure(&first)? {
        Some(loss) => Choice { loss, config: first },
        None => Choice { loss: f64::INFINITY, config: first },
    };
    if best.loss.is_finite() {
        let mut said = Vec::new();
        let changes = patches[1..].iter().map(|&patch| change(format!("patch {patch}"), move |c| set_patch(c, patch)));
        best = search.better(best, changes.collect(), &mut said)?;
        let changes = NOISES.map(|(noise, gain)| {
            change(format!("noise {noise} and {gain}"), move |config| {
                if let Some(numbers) = &mut config.model.numbers {
                    (numbers.noise, numbers.gain) = (noise, gain);
                }
            })
        });
        best = search.better(best, changes.into(), &mut said)?;
        let changes = [0.5, 0.0].map(|rate| change(format!("dropout {rate}"), move |c| c.model.dropout.output = rate));
        best = search.better(best, changes.into(), &mut said)?;
        let changes = [32, 128].map(|size: usize| {
            change(format!("{size} units"), move |config| {
                config.model.lstm.hidden = size.into();
                config.model.set_input(size / 2, 0);
            })
        });
        best = search.better(best, changes.into(), &mut said)?;
        let changes = vec![
            change("one direction", |config| config.model.lstm.bidirectional = false),
            change("pooled by attention", |config| config.model.pooling = Some(Pooling::Attention)),
        ];
        best = search.better(best, changes, &mut said)?;
        let rate = best.config.training.schedule.learning_rate;
        let changes = [3.0, 1.0 / 3.0].map(|factor: f32| {
            let rate = ((rate * factor * 1e5).round() / 1e5).max(1e-5);
            change(format!("rate {rate}"), move |config| config.training.schedule.learning_rate = rate)
        });
        best = search.better(best, changes.into(), &mut said)?;
        why.push(format!("tried: {}", said.join("; ")));
    }
    let tried = search.tried;
    let mut chosen = best.config;
    if tried <= 1 {
        why.clear();
        why.push("nothing else was tried: the time is better spent on training".to_owned());
    }
    if crossed {
        chosen.data.split = Some(vec![100, 0, 0]);
        why.push(format!(
            "measured by cross-validation in {FOLDS} parts, {trial_steps} steps each, for {count} examples are few; the run trains on all of \
             them, and its last epoch is kept"
        ));
    } else {
        why.push(format!(
            "measured on the data to watch, {trial_steps} steps each; the best epoch by validation is kept"
        ));
    }
    *data = Arc::new(SequenceDataset::read(&mut chosen, None).map_err(TrainError::from)?);
    let rest = left - watch.elapsed();
    let epoch = batches(&chosen, data);
    let seconds = seconds_of_step(&chosen, data, watch)?.max(1e-9);
    let affordable = (0.8 * rest / seconds / epoch as f64) as usize;
    let steps = steps_of(chosen.training.batch);
    let epochs = steps.div_ceil(epoch).min(affordable.max(1)).max(1);
    if chosen.training.epochs.is_none() && chosen.training.steps.is_none() {
        chosen.training.epochs = Some(epochs);
    }
    let length = match (chosen.training.epochs, chosen.training.steps) {
        (Some(epochs), _) => format!("epochs: {epochs} of {epoch} steps"),
        (None, steps) => format!("steps: {} of {epoch} an epoch", steps.unwrap_or_default()),
    };
    why.push(format!(
        "{length} of {} sequences, {}; an epoch takes {:.1} s",
        chosen.training.batch,
        chosen.training.learning(),
        seconds * epoch as f64
    ));
    why.extend(precision.map(|choice| choice.to_string()));
    let lstm = &chosen.model.lstm;
    if let Some(numbers) = &chosen.model.numbers {
        why.push(format!(
            "model: {} from patches of {} steps, one every {}, by {} units in {}, pooled by {}; dropout {} of outputs, noise {} on values \
             and {} on their scale",
            if base.task == TaskKind::Regress { "numbers" } else { "a label" },
            numbers.patch,
            numbers.stride,
            lstm.hidden,
            if lstm.bidirectional { "both directions" } else { "one direction" },
            chosen.model.pooling.unwrap_or_default(),
            chosen.model.dropout.output,
            numbers.noise,
            numbers.gain
        ));
    }
    chosen.training.budget = Some(budget);
    Ok(SequencePlan { config: chosen, why, seconds: watch.elapsed() })
}

/// The steps of an epoch.
fn batches(config: &SequenceConfig, data: &SequenceDataset) -> usize {
    data.train.sequences.batches_of_epoch(config.training.batch).max(1)
}

/// The seconds of a step.
fn seconds_of_step(config: &SequenceConfig, data: &SequenceDataset, watch: &Watch) -> Result<f64, TrainError> {
    let data = Arc::new(data.read_as(config));
    Ok(epoch_seconds(config, &data, watch)? / batches(config, &data) as f64)
}
