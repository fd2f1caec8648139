//! The learning-rate range test (Smith 2017): training with a rate that grows at every step shows which rates learn.

use std::sync::atomic::{AtomicBool, Ordering};

use super::check::{check_accumulation, check_effect, check_memory};
use super::data::Data;
use super::language::Language;
use super::step::TrainStep;
use super::task::{Batches as _, Task};
use super::teachers::Teachers;
use crate::optim::optimizer::OptimizerKind;
use crate::run::checkpoint::Progress;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::settings::Settings as _;

/// One step of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatePoint {
    /// The rate of the step.
    pub learning_rate: f32,
    /// The training loss, smoothed over the steps so far, in nats per token.
    pub loss: f64,
}

/// The learning rates that a run's model learns with.
#[derive(Clone, Debug, PartialEq)]
pub struct RateFinder {
    /// The smoothed loss at every rate, from the lowest, until it grew beyond use.
    pub curve: Vec<RatePoint>,
    /// The rate at which the loss fell fastest; `None` where it never fell.
    pub steepest: Option<f32>,
    /// A tenth of the rate at which the loss was lowest; `None` where it never fell.
    pub tenth_of_minimum: Option<f32>,
}

/// Steps while the rate grows tenfold.
const STEPS_PER_DECADE: u32 = 20;

/// The share of itself that the smoothed loss keeps at every step.
const SMOOTHING: f64 = 0.9;

/// The test ends where the smoothed loss is so many times its lowest.
const BEYOND_USE: f64 = 2.0;

/// The powers of ten from which and to which the rate grows.
fn decades(optimizer: OptimizerKind) -> (i32, i32) {
    // A step of Adam is as long as its rate, one of SGD as its gradient, too, whose norm is far below one.
    if optimizer.has_moments() { (-6, 1) } else { (-3, 3) }
}

impl RateFinder {
    /// Trains the run's model from its start, with nothing written; the run's own schedule and length do not matter.
    /// `None` if `stop`, where there is one, was set before the end.
    ///
    /// # Errors
    /// A setting or a text that cannot be used, or a loss that is not finite before it ever fell.
    pub fn run(mut config: RunConfig, data: &Data, stop: Option<&AtomicBool>) -> Result<Option<Self>, TrainError> {
        config.fit(data.tokenizer.vocabulary_size(), data.train.ids.len());
        // From random numbers: of what counting leaves to be learned the few steps at a rate show nothing.
        config.start_uncounted();
        config.validate()?;
        let teachers = Teachers::read(&mut config, data)?;
        let task = Language::new(config, data)?.taught(teachers);
        check_effect(task.settings())?;
        check_memory(task.settings(), data, task.model())?;
        check_accumulation(&task)?;
        Self::of_task(&task, stop)
    }

    /// The same for any task.
    fn of_task<T: Task>(task: &T, stop: Option<&AtomicBool>) -> Result<Option<Self>, TrainError> {
        let mut progress = Progress::new(task);
        let mut train_step = TrainStep::new(task);
        train_step.adjust(0.0);
        let (from, to) = decades(task.settings().training().optimizer);
        let mut curve: Vec<RatePoint> = Vec::new();
        let (mut average, mut lowest) = (0.0, f64::INFINITY);
        let mut these = task.batches(0)?;
        for step in 0..=((to - from) as u32 * STEPS_PER_DECADE) {
            if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Ok(None);
            }
            if progress.position.batch == these.count() {
                progress.position.begin_epoch();
                these = task.batches(progress.position.epoch)?;
            }
            let rate = 10f64.powf(f64::from(from) + f64::from(step) / f64::from(STEPS_PER_DECADE)) as f32;
            let result = train_step.take(&mut progress, &these, rate)?;
            average = SMOOTHING * average + (1.0 - SMOOTHING) * result.loss.mean();
            // The first values are not yet smoothed over as many as the later ones.
            let smoothed = average / (1.0 - SMOOTHING.powi(step as i32 + 1));
            if !smoothed.is_finite() || smoothed > BEYOND_USE * lowest {
                break;
            }
            lowest = lowest.min(smoothed);
            curve.push(RatePoint { learning_rate: rate, loss: smoothed });
            if !result.norm.is_finite() {
                break;
            }
        }
        if curve.is_empty() {
            return Err(TrainError::NotFinite { what: "the loss of step", step: 1, last: None, saved: None });
        }
        Ok(Some(Self::of(curve)))
    }

    /// The suggestions that a curve gives.
    fn of(curve: Vec<RatePoint>) -> Self {
        let lowest = curve.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).copied();
        let lowest = lowest.filter(|lowest| curve.first().is_some_and(|first| lowest.loss < first.loss));
        let tenth_of_minimum = lowest.map(|lowest| lowest.learning_rate / 10.0);
        // The rates grow by the same factor from step to step, so a difference is a slope over their logarithm.
        let until = lowest.and_then(|lowest| curve.iter().position(|point| *point == lowest)).unwrap_or(0);
        let falls = curve[..curve.len().min(until + 2)]
            .windows(3)
            .map(|near| (near[2].loss - near[0].loss, near[1].learning_rate));
        let steepest = falls.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|(fall, _)| *fall < 0.0);
        Self { steepest: steepest.map(|(_, rate)| rate), tenth_of_minimum, curve }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::preset::Preset;
    use crate::text::builtin::Grammar;

    #[test]
    fn suggestions_are_the_steepest_fall_and_a_tenth_of_the_minimum() {
        let losses = [5.0, 4.9, 4.7, 4.0, 3.2, 3.0, 2.9, 3.5, 6.0];
        let curve = |losses: &[f64]| -> Vec<RatePoint> {
            losses.iter().enumerate().map(|(i, &loss)| RatePoint { learning_rate: 2f32.powi(i as i32), loss }).collect()
        };
        let test = RateFinder::of(curve(&losses));
        // From 4.7 to 3.2 around the fourth; the lowest is the seventh.
        assert_eq!((test.steepest, test.tenth_of_minimum), (Some(8.0), Some(6.4)));
        let rising = RateFinder::of(curve(&[5.0, 5.1, 5.3]));
        assert_eq!((rising.steepest, rising.tenth_of_minimum), (None, None));
    }

    #[test]
    fn every_optimizer_has_a_curve_that_falls_and_rises_and_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text.txt");
        std::fs::write(&text, Grammar::standard().sample(3, 0, 2000)).unwrap();
        for (optimizer, range) in [(OptimizerKind::Adam, 1e-4..0.3), (OptimizerKind::Sgd, 0.1..300.0)] {
            let mut config = Preset::Builtin.config();
            config.data.train = Some(text.clone());
            (config.training.optimizer, config.training.batch, config.segment) = (optimizer, 4, 8);
            (config.model.lstm.hidden, config.model.lstm.input) = (24.into(), 16);
            let data = Data::read(&config, None).unwrap();
            let run = || RateFinder::run(config.clone(), &data, None).unwrap().unwrap();
            let test = run();
            assert_eq!(test, run());
            let suggested = [test.steepest, test.tenth_of_minimum].map(Option::unwrap);
            eprintln!("{optimizer}: {suggested:?}, {} points", test.curve.len());
            assert!(suggested.iter().all(|rate| range.contains(rate)), "{optimizer}: {suggested:?}");
            assert!(test.curve.windows(2).all(|pair| pair[1].learning_rate > pair[0].learning_rate));
            let lowest = test.curve.iter().map(|point| point.loss).fold(f64::INFINITY, f64::min);
            let (first, last) = (test.curve[0].loss, test.curve[test.curve.len() - 1].loss);
            assert!(lowest < 0.95 * first && last > 1.02 * lowest, "{first} {lowest} {last}");
            assert_eq!(RateFinder::run(config.clone(), &data, Some(&AtomicBool::new(true))).unwrap(), None);
        }
    }
}
