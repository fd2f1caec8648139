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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use super::*;
    use crate::rng::{Purpose, Rng};
    use crate::run::folder::{Claim, Existing};
    use crate::train::trainer::Trainer;

    /// Writes `count` sequences: a wave of two speeds, or of many whose number is to be told, and noise.
    fn waves(path: &Path, count: usize, seed: u64, numbers: bool) {
        let mut rng = Rng::new(seed, Purpose::Init, 9);
        let mut text = format!("@{}\n@data\n", if numbers { "targetLabel true" } else { "classLabel true slow fast" });
        for at in 0..count {
            let speed = if numbers { rng.uniform_in(0.2, 1.2) } else { [0.3, 0.6][at % 2] };
            let (phase, steps) = (rng.uniform_in(0.0, 6.0), 18 + (rng.bits() % 8) as usize);
            let value = |t: usize, rng: &mut Rng| 40.0 + 7.0 * (phase + speed * t as f32).sin() + rng.normal();
            let wave: Vec<String> = (0..steps).map(|t| format!("{:.3}", value(t, &mut rng))).collect();
            let label = if numbers { format!("{:.4}", 100.0 * speed) } else { ["slow", "fast"][at % 2].to_owned() };
            text += &format!("{}:{label}\n", wave.join(","));
        }
        std::fs::write(path, text).unwrap();
    }

    /// The test loss of what is chosen for so many seconds, of which a step takes two ten-millionths for each parameter; and the reasons.
    fn chosen(task: TaskKind, folder: &Path, name: &str, seconds: f64) -> (f64, Vec<String>) {
        let [train, test] = ["train.ts", "test.ts"].map(|name| folder.join(name));
        let over = |mut config: SequenceConfig| -> Result<SequenceConfig, TrainError> {
            (config.data.train, config.data.test) = (Some(train.clone()), Some(test.clone()));
            (config.training.epochs, config.training.budget) = (None, Some(seconds));
            Ok(config)
        };
        let mut config = over(SequenceConfig::usual_of_numbers(task)).unwrap();
        let mut data = SequenceDataset::read(&mut config, None).unwrap();
        data.seconds = 0.0;
        let mut data = Arc::new(data);
        let watch = Watch::Steps { of_parameter: 2e-7, spent: Cell::new(0.0) };
        let plan = SequencePlan::choose_by(&config, &mut data, seconds, &over, &watch).unwrap();
        let mut config = plan.config;
        config.training.budget = None;
        let claim = Claim::new(&folder.join(name), Existing::Refuse).unwrap();
        let outcome = Trainer::begin_sequences(config, data, claim).unwrap().run(&mut |_| (), None).unwrap();
        (outcome.test.unwrap().mean(), plan.why)
    }

    #[test]
    fn ten_times_the_time_is_no_worse_with_few_sequences_either() {
        for task in [TaskKind::Classify, TaskKind::Regress] {
            let folder = tempfile::tempdir().unwrap();
            let is_regression = task == TaskKind::Regress;
            waves(&folder.path().join("train.ts"), 40, 3, is_regression);
            waves(&folder.path().join("test.ts"), 100, 4, is_regression);
            let (short, _) = chosen(task, folder.path(), "short", 2.0);
            let (long, why) = chosen(task, folder.path(), "long", 20.0);
            assert!(why[0].contains("patch") && why[1].contains("cross-validation"), "{why:?}");
            assert!(long < short * 1.1 + 0.05, "{long} after ten times the time of {short}: {why:?}");
            // The guess of the mean, or of both labels alike, is worse.
            assert!(long < if is_regression { 0.6 } else { 0.5 }, "{long}");
        }
    }
}
