//! The run for data and a time: size, directions, pooling, dropout, rate and epochs, chosen by the validation of short trials.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use super::config::{ClassWeights, SequenceConfig, SequenceModelConfig};
use super::data::SequenceDataset;
use super::plan_numbers;
use super::pooling::Pooling;
use super::task::SequenceTask;
use crate::model::Loss;
use crate::nn::precision::Precision;
use crate::optim::averaging::Averaging;
use crate::optim::schedule::Moment;
use crate::run::checkpoint::Progress;
use crate::run::error::TrainError;
use crate::run::settings::Settings as _;
use crate::run::task_kind::TaskKind;
use crate::said::count;
use crate::train::fastest::{self, PrecisionChoice, is_left_open};
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

/// The shares of a bag of words that are tried, the first where there is no time to try; the share of the time that fitting one may take, and
/// the seconds that it takes for each token and label: 1.3 to 1.7 µs were measured.
const SHARES: [f32; 4] = [0.5, 0.7, 0.3, 0.0];
const OF_BAG: f64 = 0.05;
const BAG_SECONDS: f64 = 2e-6;

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

/// Those of a model that starts from a language model, whose layers are as they are.
const OF_TAKEN: [Candidate; 5] = [
    ("the usual rates", |_| ()),
    ("parts one after the other, at falling rates", |config| {
        config.unfreeze = 1;
        config.fine_tuning.layer_rate_decay = 0.4;
        config.model.pooling = config.model.pooling.map(|_| Pooling::Concat);
    }),
    ("more dropout", |config| {
        config.model.dropout.words = 0.2;
        config.model.dropout.input = 0.5;
        config.model.dropout.output = 0.6;
    }),
    ("a third of the rate", |config| config.training.schedule.learning_rate /= 3.0),
    ("pooled by attention", |config| config.model.pooling = config.model.pooling.map(|_| Pooling::Attention)),
];

/// What choosing measures time by: a clock; or steps, each of which takes so many seconds for a parameter, so that what is chosen is the
/// same on every machine.
#[derive(Debug)]
pub(super) enum Watch {
    Clock(Instant),
    #[cfg(test)]
    Steps {
        of_parameter: f64,
        spent: std::cell::Cell<f64>,
    },
}

impl Watch {
    /// The seconds since it was started.
    pub(super) fn elapsed(&self) -> f64 {
        match self {
            Self::Clock(started) => started.elapsed().as_secs_f64(),
            #[cfg(test)]
            Self::Steps { spent, .. } => spent.get(),
        }
    }

    /// Whether time is what a clock says, so that it can be measured.
    fn is_clock(&self) -> bool {
        matches!(self, Self::Clock(_))
    }

    /// A step of a model of so many parameters was taken.
    fn count(&self, _parameters: usize) {
        #[cfg(test)]
        if let Self::Steps { of_parameter, spent } = self {
            spent.set(spent.get() + of_parameter * _parameters as f64);
        }
    }
}

/// Makes a choice the settings of a run: what is decided already lies over it, and what the data decided.
pub(super) type Fitted<'a, E> = dyn Fn(SequenceConfig) -> Result<SequenceConfig, E> + 'a;

/// Chooses the precision for settings and the data as these read them, unless it was decided; from there on all choices are fitted to it.
pub(super) type Precise<'a, E> =
    dyn Fn(&mut SequenceConfig, &Arc<SequenceDataset>) -> Result<Option<PrecisionChoice>, E> + 'a;

/// Trains for `epochs` epochs or so many seconds; gives the validation loss. Nothing is written.
pub(super) fn trial(
    config: &SequenceConfig,
    data: &Arc<SequenceDataset>,
    epochs: usize,
    seconds: f64,
    watch: &Watch,
) -> Result<Loss, TrainError> {
    let of_shares = trial_of_shares(config, data, epochs, seconds, watch, &[config.model.bag])?;
    Ok(of_shares.into_iter().next().unwrap_or_default())
}

/// The same of each of the shares that a bag of words may have, where there is one.
fn trial_of_shares(
    config: &SequenceConfig,
    data: &Arc<SequenceDataset>,
    epochs: usize,
    seconds: f64,
    watch: &Watch,
    shares: &[f32],
) -> Result<Vec<Loss>, TrainError> {
    let started = watch.elapsed();
    let task = SequenceTask::new(config.clone(), data.clone())?;
    let (mut progress, mut step) = (Progress::new(&task), TrainStep::new(&task));
    let schedule = config.training.schedule;
    let count = task.batches(0)?.count();
    'training: for epoch in 0..epochs {
        let batches = task.batches(epoch)?;
        while progress.position.batch < count {
            let spent = (watch.elapsed() - started) / seconds;
            let done = (progress.position.step as f64 / (epochs * count) as f64).max(spent);
            if done >= 1.0 {
                break 'training;
            }
            let at = Moment { epoch, step: progress.position.step, done, plateaus: 0 };
            let result = step.take(&mut progress, &batches, schedule.learning_rate_at(at))?;
            watch.count(task.layout().len());
            if !result.loss.nll.is_finite() || !result.norm.is_finite() {
                // A rate that is far too high is no choice.
                return Ok(vec![Loss { nll: f64::INFINITY, tokens: 1 }; shares.len()]);
            }
        }
        progress.position.begin_epoch();
    }
    let of_share = |share: &f32| {
        let task = task.with_share(*share);
        let mut evaluation = task.evaluation(progress.evaluated(), Part::Validation)?;
        while evaluation.advance() {}
        Ok(evaluation.total())
    };
    shares.iter().map(of_share).collect()
}

/// The average of the weights for epochs of so many steps.
fn averaged(steps: usize) -> Averaging {
    let share = 1.0 - 1.0 / (AVERAGED_EPOCHS * steps.max(1) as f32);
    // As it is read back from its text.
    Averaging::Ema((share * 1e4).round().clamp(1.0, 9999.0) / 1e4)
}

/// The seconds of an epoch of training.
pub(super) fn epoch_seconds(
    config: &SequenceConfig,
    data: &Arc<SequenceDataset>,
    watch: &Watch,
) -> Result<f64, TrainError> {
    let task = SequenceTask::new(config.clone(), data.clone())?;
    let (mut progress, mut step) = (Progress::new(&task), TrainStep::new(&task));
    let batches = task.batches(0)?;
    step.take(&mut progress, &batches, 1e-6)?;
    let steps = TIMED_STEPS.min(batches.count());
    let started = watch.elapsed();
    for number in 0..steps {
        progress.position.batch = number;
        step.take(&mut progress, &batches, 1e-6)?;
        watch.count(task.layout().len());
    }
    Ok((watch.elapsed() - started) * batches.count() as f64 / steps as f64)
}

impl SequencePlan {
    /// Chooses the run for these data, which it may read in another way, and `budget` seconds. `base` are the settings that the data were read by;
    /// `overlay` lays over a choice what is decided already.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub fn choose<E: From<TrainError>>(
        base: &SequenceConfig,
        data: &mut Arc<SequenceDataset>,
        budget: f64,
        overlay: &dyn Fn(SequenceConfig) -> Result<SequenceConfig, E>,
    ) -> Result<Self, E> {
        Self::choose_by(base, data, budget, overlay, &Watch::Clock(Instant::now()))
    }

    pub(super) fn choose_by<E: From<TrainError>>(
        base: &SequenceConfig,
        data: &mut Arc<SequenceDataset>,
        budget: f64,
        overlay: &dyn Fn(SequenceConfig) -> Result<SequenceConfig, E>,
        watch: &Watch,
    ) -> Result<Self, E> {
        let precision = Cell::new(Precision::F32);
        let fit = |mut config: SequenceConfig| -> Result<SequenceConfig, E> {
            config.training.precision = precision.get();
            let mut config = overlay(config)?;
            config.labels.clone_from(&base.labels);
            (config.model.vocabulary, config.model.outputs) = (base.model.vocabulary, base.model.outputs);
            if let Some((numbers, known)) = config.model.numbers.as_mut().zip(base.model.numbers.as_ref()) {
                (numbers.features, numbers.missing) = (known.features, known.missing);
                numbers.columns.clone_from(&known.columns);
            }
            Ok(config)
        };
        let precise = |config: &mut SequenceConfig, data: &Arc<SequenceDataset>| -> Result<_, E> {
            let laid = |one| {
                precision.set(one);
                Ok::<_, E>(fit(config.clone())?.training.precision)
            };
            let is_open = is_left_open(laid);
            precision.set(Precision::F32);
            if !is_open? || !watch.is_clock() {
                return Ok(None);
            }
            let task = SequenceTask::new(config.clone(), data.clone())?;
            let choice = fastest::choose(&task, config.model.lstm.variant.layer_norm, budget).map_err(E::from)?;
            precision.set(choice.precision());
            config.training.precision = choice.precision();
            Ok(Some(choice))
        };
        if base.model.numbers.is_some() {
            let plan = plan_numbers::choose(base, data, budget, (&fit, &precise), watch)?;
            plan.config.validate().map_err(TrainError::from)?;
            return Ok(plan);
        }
        let data: &Arc<SequenceDataset> = data;
        let is_taken = data.inherited.is_some();
        let left = budget - data.seconds;
        let work = (data.train.sequences.total_tokens() * base.model.outputs) as f64;
        let takes_a_bag = base.task == TaskKind::Classify
            && base.class_weights == ClassWeights::None
            && BAG_SECONDS * work < OF_BAG * left;
        let candidates: &[Candidate] = if is_taken { &OF_TAKEN } else { &CANDIDATES };
        let fitted = |change: fn(&mut SequenceConfig)| -> Result<SequenceConfig, E> {
            let mut config = SequenceConfig::usual(base.task);
            if is_taken {
                config = config.fine_tuned();
            }
            config.training.average = averaged(data.train.sequences.len().div_ceil(config.training.batch));
            config.model.bag = if takes_a_bag { SHARES[0] } else { 0.0 };
            change(&mut config);
            fit(config)
        };
        let with_share = |config: &SequenceConfig, share: f32| -> Result<SequenceConfig, E> {
            let model = SequenceModelConfig { bag: share, ..config.model.clone() };
            fit(SequenceConfig { model, ..config.clone() })
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
        let mut precision = precise(&mut chosen, data)?;
        let mut epoch = epoch_seconds(&chosen, data, watch)?;
        let affordable = |epoch: f64, share: f64| share * left / epoch.max(1e-9);
        let is_small = !is_taken && affordable(epoch, 0.9) < FEWEST_EPOCHS;
        if is_small {
            chosen = fitted(small)?;
            precision = precise(&mut chosen, data)?;
            let before = epoch;
            epoch = epoch_seconds(&chosen, data, watch)?;
            why.push(format!(
                "size: small, for an epoch of the usual size takes {before:.1} s of the {budget:.0} s, and {FEWEST_EPOCHS} at least are needed"
            ));
        }
        // A trial of fewer epochs than two says little.
        let trials = (affordable(epoch, TRIALS) / TRIAL_EPOCHS as f64) as usize;
        // Each with the share of a bag of words that was best, and what it was before that was known.
        let mut tried: Vec<(&str, SequenceConfig, SequenceConfig, f64)> = Vec::new();
        if !is_small && trials >= 2 && data.valid.is_some() {
            let share = TRIALS * left / trials.min(candidates.len()) as f64;
            for &(name, change) in candidates.iter().take(trials) {
                let config = fitted(change)?;
                // What is decided already leaves some of them the same.
                if tried.iter().any(|(_, _, before, _)| *before == config) {
                    continue;
                }
                if watch.elapsed() + 0.5 * share > TRIALS * left {
                    break;
                }
                let mut shares = vec![config.model.bag];
                if config.model.bag == SHARES[0] && with_share(&config, 0.0)?.model.bag == 0.0 {
                    shares = SHARES.to_vec();
                }
                let losses = trial_of_shares(&config, data, TRIAL_EPOCHS, share, watch, &shares)?;
                let each = shares.into_iter().zip(losses.iter().map(Loss::mean));
                if let Some((share, loss)) = each.min_by(|a, b| a.1.total_cmp(&b.1)) {
                    tried.push((name, with_share(&config, share)?, config, loss));
                }
            }
        }
        match tried.iter().min_by(|a, b| a.3.total_cmp(&b.3)) {
            Some((name, config, ..)) => {
                chosen = config.clone();
                let all: Vec<String> = tried.iter().map(|(name, .., loss)| format!("{name} {loss:.4}")).collect();
                why.push(format!(
                    "{name}: the lowest validation loss of {} after {} each: {}",
                    count(tried.len(), "model"),
                    count(TRIAL_EPOCHS, "epoch"),
                    all.join(", ")
                ));
                epoch = epoch_seconds(&chosen, data, watch)?;
            }
            None => why.push("nothing else was tried: the time is better spent on training".to_owned()),
        }
        let rest = left - watch.elapsed();
        let epochs = ((0.95 * rest / epoch.max(1e-9)) as usize).clamp(1, MOST_EPOCHS);
        let asked = chosen.training.epochs.or(chosen.training.steps.map(|_| usize::MAX));
        if asked.is_none() {
            chosen.training.epochs = Some(epochs);
            why.push(format!(
                "epochs: {epochs}, for one takes {epoch:.1} s and {rest:.0} s are left; more than {MOST_EPOCHS} learn by heart"
            ));
        }
        why.extend(precision.map(|choice| choice.to_string()));
        why.push(format!("rate: {}; the best epoch by validation is kept", chosen.training.learning()));
        if let Some(from) = &chosen.fine_tuning.from {
            let later = match chosen.unfreeze {
                0 => "all of them from the start".to_owned(),
                1 => "one epoch later".to_owned(),
                epochs => format!("{epochs} epochs later"),
            };
            why.push(format!(
                "from {}: its embedding and layers, each at {} times the rate of the part above it, {later}",
                from.display(),
                chosen.fine_tuning.layer_rate_decay
            ));
        }
        if chosen.model.bag > 0.0 {
            let found = match with_share(&chosen, 0.0)?.model.bag == 0.0 {
                false => "as given",
                true if tried.is_empty() => "which is usual",
                true => "the best of some by the validation loss",
            };
            why.push(format!(
                "bag of words: a linear model of words and pairs has {} of the scores, {found}",
                chosen.model.bag
            ));
        }
        let directions = if chosen.model.lstm.bidirectional { "both directions" } else { "one direction" };
        let task = match base.task {
            TaskKind::Tag => "a label for each word",
            TaskKind::Regress => "numbers for each text",
            _ => "a label for each text",
        };
        why.push(format!(
            "model: {task} from embeddings of {} and {} units in {directions}, dropout {} of words, {} of inputs, {} of outputs",
            chosen.model.embedding(),
            chosen.model.lstm.hidden,
            chosen.model.dropout.words,
            chosen.model.dropout.input,
            chosen.model.dropout.output
        ));
        chosen.training.budget = Some(budget);
        chosen.validate().map_err(TrainError::from)?;
        Ok(Self { config: chosen, why, seconds: watch.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};
    use crate::run::folder::{Claim, Existing};
    use crate::sequence::saved::LoadedSequence;
    use crate::train::trainer::Trainer;

    /// Sentences of 4 to 9 of 300 words, a third of which speak for one of two labels; one label in ten is wrong.
    fn sentences(count: usize) -> String {
        let mut rng = Rng::new(3, Purpose::Init, 0);
        let mut drawn = |most: usize| (rng.uniform_in(0.0, 1.0) * most as f32) as usize % most;
        let mut text = String::new();
        for _ in 0..count {
            let label = drawn(2);
            let words: Vec<String> = (0..4 + drawn(6))
                .map(|_| match drawn(3) {
                    0 => format!("w{}", 2 * drawn(50) + label),
                    _ => format!("w{}", 100 + drawn(200)),
                })
                .collect();
            let said = if drawn(10) == 0 { 1 - label } else { label };
            text += &format!("{} {}\n", ["a", "b"][said], words.join(" "));
        }
        text
    }

    #[test]
    fn ten_times_the_time_is_never_worse_by_more_than_noise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sentences.txt");
        std::fs::write(&path, sentences(900)).unwrap();
        let mut base = SequenceConfig::usual(TaskKind::Classify);
        base.data.train = Some(path.clone());
        base.data.split = Some(vec![40, 15, 45]);
        let mut data = SequenceDataset::read(&mut base, None).unwrap();
        data.seconds = 0.0;
        let mut data = Arc::new(data);
        let mut right = Vec::new();
        for (number, budget) in [0.3, 3.0, 30.0].into_iter().enumerate() {
            // A small model, in which a million parameters take a tenth of a second a step.
            let overlay = |mut config: SequenceConfig| {
                config.data = base.data.clone();
                config.model.set_input(16, 0);
                config.model.lstm.hidden = 16.into();
                config.training.set_length(crate::run::Length { budget: Some(budget), ..Default::default() });
                Ok::<_, TrainError>(config)
            };
            let watch = Watch::Steps { of_parameter: 1e-6, spent: 0.0.into() };
            let mut config = SequencePlan::choose_by(&base, &mut data, budget, &overlay, &watch).unwrap().config;
            assert!(config.training.epochs.unwrap() <= MOST_EPOCHS);
            config.training.budget = None;
            let claim = Claim::new(&folder.path().join(format!("run-{number}")), Existing::Refuse).unwrap();
            let mut trainer = Trainer::begin_sequences(config, data.clone(), claim).unwrap();
            trainer.run(&mut |_| (), None).unwrap();
            let run = LoadedSequence::open(trainer.folder()).unwrap();
            let test = &data.test.as_ref().unwrap().sequences;
            let said = run.predict_sequences(test);
            let is_right = |at: &usize| said[*at].best() == test.labels(*at)[0] as usize;
            right.push((0..test.len()).filter(is_right).count() as f64 / test.len() as f64);
        }
        // Two standard deviations of the share of right ones among 405.
        let noise = 2.0 * (0.25_f64 / data.test.as_ref().unwrap().sequences.len() as f64).sqrt();
        assert!(right[1] >= right[0] - noise && right[2] >= right[1] - noise, "{right:?}, {noise}");
        assert!(right[2] > 0.6, "it learns: {right:?}");
    }
}
