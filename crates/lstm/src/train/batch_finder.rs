//! The gradient noise scale (McCandlish, Kaplan, Amodei et al. 2018, arXiv 1812.06162): how many tokens of a step are worth computing.
//!
//! The gradient of a batch is the true one, G, and noise around it, whose variances add up to tr Σ / B for B tokens. Of a batch of
//! `tr Σ / |G|²` tokens half is noise: with fewer, twice the tokens nearly halve the steps that are needed; with more, they hardly
//! change them. So small batches need the fewest tokens, large ones the fewest steps; which needs the least time depends on how many tokens a
//! second the machine trains on in each, which is measured. Both parts are estimated from the gradients g of k batches at the same parameters, without bias:
//!
//! ```text
//! v = Σ |g − ḡ|² / (k − 1)      |G|² = |ḡ|² − v / k      noise scale = v / |G|² batches
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::check::{check_accumulation, check_effect, check_memory};
use super::data::Data;
use super::language::Language;
use super::step::TrainStep;
use super::task::{Batches as _, Task};
use super::teachers::Teachers;
use crate::run::checkpoint::Progress;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::settings::Settings as _;
use crate::said::count;

/// The noise scale at one place of a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NoisePoint {
    /// The steps before it.
    pub step: u64,
    /// The training loss there, in nats per token.
    pub loss: f64,
    /// The noise scale in tokens; `None` where the gradient did not stand out of the noise of `read` tokens, so that it is larger.
    pub tokens: Option<f64>,
    /// The same in rows of the run's segments.
    pub rows: Option<f64>,
    /// The tokens that it was measured on.
    pub read: usize,
}

/// What a batch of some rows costs, by the last noise scale and this machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BatchCost {
    /// The rows.
    pub rows: usize,
    /// The tokens of a step.
    pub tokens: f64,
    /// The tokens that are trained on in a second.
    pub tokens_per_second: f64,
    /// How many times the tokens it needs until a loss is reached that steps of very few need: 1 + tokens / scale, the paper's equation 2.11.
    pub tokens_needed: f64,
    /// How many times the time that the fastest of all needs.
    pub time_needed: f64,
}

/// The noise scale along the beginning of a training, and the batch that it suggests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BatchFinder {
    /// Measured at steps that double.
    pub points: Vec<NoisePoint>,
    /// What batches cost; empty where the last scale is larger than what was read.
    pub costs: Vec<BatchCost>,
    /// The rows that need the least time.
    pub batch: Option<usize>,
}

/// The steps before a measurement; the rate has risen at the first.
const PLACES: [u64; 5] = [50, 100, 200, 400, 800];

/// The steps that are timed of a batch, and for how long at least.
const STEPS: usize = 3;
const LONG_ENOUGH: Duration = Duration::from_millis(200);

/// Larger batches are not timed once one needs so many times the time of the best.
const BEYOND: f64 = 1.5;

/// The batches of a measurement, which goes on to twice as many for as long as the scale is larger than all that was read; and the fewest of a
/// text.
const BATCHES: [usize; 4] = [32, 64, 128, 256];
const FEWEST: usize = 4;

impl BatchFinder {
    /// Trains the run's model from its start at its learning rate, with nothing written; its schedule and length do not matter. `each` is given
    /// every point when it was measured. `None` if `stop`, where there is one, was set before the end.
    ///
    /// # Errors
    /// A setting or a text that cannot be used, one of too few batches, or a loss that is not finite.
    pub fn run(
        mut config: RunConfig,
        data: &Data,
        stop: Option<&AtomicBool>,
        each: &mut dyn FnMut(&NoisePoint),
    ) -> Result<Option<Self>, TrainError> {
        config.fit(data.tokenizer.vocabulary_size(), data.train.ids.len());
        config.validate()?;
        let teachers = Teachers::read(&mut config, data)?;
        let task = Language::new(config, data)?.taught(teachers);
        check_effect(task.settings())?;
        check_memory(task.settings(), data, task.model())?;
        check_accumulation(&task)?;
        let Some(points) = Self::of_task(&task, stop, each)? else { return Ok(None) };
        let config = task.settings().clone();
        let scale = points.last().and_then(|last| last.tokens);
        let Some(costs) = scale.map_or(Ok(Some(Vec::new())), |scale| Self::costs(&config, data, scale, stop))? else {
            return Ok(None);
        };
        let batch = costs.iter().find(|cost| cost.time_needed == 1.0).map(|cost| cost.rows);
        Ok(Some(Self { points, costs, batch }))
    }

    /// What steps of 1, 2, 4 … rows cost, until the time grows; `None` if it was stopped.
    fn costs(
        config: &RunConfig,
        data: &Data,
        scale: f64,
        stop: Option<&AtomicBool>,
    ) -> Result<Option<Vec<BatchCost>>, TrainError> {
        let mut costs: Vec<BatchCost> = Vec::new();
        let mut best = f64::INFINITY;
        for rows in (0..).map(|power| 1 << power) {
            if is_set(stop) {
                return Ok(None);
            }
            let mut config = config.clone();
            config.training.batch = rows;
            config.training.shards = config.training.shards.map(|shards| shards.min(rows));
            // So many rows that the text or the memory has no room for them are none to choose.
            let timed = Language::new(config, data).map_err(TrainError::from).and_then(|task| {
                check_memory(task.settings(), data, task.model())?;
                check_accumulation(&task)?;
                time(&task)
            });
            let Ok((tokens, seconds)) = timed else { break };
            let tokens_needed = 1.0 + tokens / scale;
            let time_needed = tokens_needed * seconds / tokens;
            costs.push(BatchCost { rows, tokens, tokens_per_second: tokens / seconds, tokens_needed, time_needed });
            best = best.min(time_needed);
            if time_needed > BEYOND * best {
                break;
            }
        }
        costs.iter_mut().for_each(|cost| cost.time_needed /= best);
        Ok(Some(costs))
    }

    /// The same for any task.
    fn of_task<T: Task>(
        task: &T,
        stop: Option<&AtomicBool>,
        each: &mut dyn FnMut(&NoisePoint),
    ) -> Result<Option<Vec<NoisePoint>>, TrainError> {
        let training = task.settings().training();
        let (height, rows) = (training.schedule.learning_rate, training.batch);
        let mut progress = Progress::new(task);
        let mut train_step = TrainStep::new(task);
        train_step.adjust(0.0);
        let mut these = task.batches(0)?;
        let measured = BATCHES[BATCHES.len() - 1].min(these.count());
        if measured < FEWEST {
            return Err(TrainError::Unusable(format!(
                "the noise of a gradient is measured on at least {FEWEST} batches, but the training text has {}; choose a smaller `batch` or \
                 `segment`, or give a longer text",
                count(measured, "batch")
            )));
        }
        let mut points = Vec::new();
        for place in PLACES {
            while progress.position.step < place {
                if is_set(stop) {
                    return Ok(None);
                }
                these = with_room(task, 1, &mut progress, these)?;
                let step = progress.position.step + 1;
                let rate = height * (step as f32 / PLACES[0] as f32).min(1.0);
                let result = train_step.take(&mut progress, &these, rate)?;
                if !result.norm.is_finite() || !result.loss.nll.is_finite() {
                    return Err(TrainError::NotFinite { what: "the loss of step", step, last: None, saved: None });
                }
            }
            these = with_room(task, measured, &mut progress, these)?;
            // Epochs of lines may differ by a batch.
            let most = measured.min(these.count());
            let Some(point) = Self::measure(&mut train_step, &mut progress, &these, (most, rows), stop)? else {
                return Ok(None);
            };
            each(&point);
            points.push(point);
        }
        Ok(Some(points))
    }

    /// Measures on at most `most` of the next batches of so many `rows`, from which nothing is learned; `None` if it was stopped.
    fn measure<T: Task>(
        train_step: &mut TrainStep<'_, T>,
        progress: &mut Progress,
        batches: &T::Batches<'_>,
        (most, rows): (usize, usize),
        stop: Option<&AtomicBool>,
    ) -> Result<Option<NoisePoint>, TrainError> {
        let (mut sum, mut squares, mut nll, mut tokens) = (Vec::new(), 0.0, 0.0, 0);
        let (mut count, mut scale) = (0, None);
        while scale.is_none() && count < most {
            if is_set(stop) {
                return Ok(None);
            }
            let (loss, gradient) = train_step.look(progress, batches)?;
            sum.resize(gradient.len(), 0.0_f64);
            for (sum, value) in sum.iter_mut().zip(gradient) {
                *sum += f64::from(*value);
                squares += f64::from(*value) * f64::from(*value);
            }
            (nll, tokens, count) = (nll + loss.nll, tokens + loss.tokens, count + 1);
            if BATCHES.contains(&count) || count == most {
                scale = noise_scale(count, sum.iter().map(|sum| sum * sum).sum(), squares);
            }
        }
        let of_batch = tokens as f64 / count as f64;
        Ok(Some(NoisePoint {
            step: progress.position.step,
            loss: nll / tokens.max(1) as f64,
            tokens: scale.map(|batches| batches * of_batch),
            rows: scale.map(|batches| batches * rows as f64),
            read: tokens,
        }))
    }
}

/// Whether the search is to stop.
fn is_set(stop: Option<&AtomicBool>) -> bool {
    stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
}

/// The batches `these` of an epoch, or where fewer than `count` are left of them those of the next.
fn with_room<'t, T: Task>(
    task: &'t T,
    count: usize,
    progress: &mut Progress,
    these: T::Batches<'t>,
) -> Result<T::Batches<'t>, TrainError> {
    if progress.position.batch + count <= these.count() {
        return Ok(these);
    }
    progress.position.begin_epoch();
    task.batches(progress.position.epoch)
}

/// The tokens of a step, and the median of its seconds.
fn time<T: Task>(task: &T) -> Result<(f64, f64), TrainError> {
    let (mut progress, mut train_step) = (Progress::new(task), TrainStep::new(task));
    train_step.adjust(0.0);
    let these = task.batches(0)?;
    // Slow enough that nothing diverges.
    let rate = 1e-3 * task.settings().training().schedule.learning_rate;
    let (mut tokens, mut taken, started) = (0, Vec::new(), Instant::now());
    while progress.position.batch < these.count() && (taken.len() < STEPS || started.elapsed() < LONG_ENOUGH) {
        let begin = Instant::now();
        tokens += train_step.take(&mut progress, &these, rate)?.loss.tokens;
        taken.push(begin.elapsed().as_secs_f64());
    }
    let tokens = tokens as f64 / taken.len().max(1) as f64;
    taken.sort_by(f64::total_cmp);
    Ok((tokens, taken[taken.len() / 2]))
}

/// The noise scale in batches, from the square of the sum of `count` gradients and the sum of their squares; `None` where it is larger than
/// `count`, for then |G|² is a small difference of large numbers.
fn noise_scale(count: usize, square_of_sum: f64, sum_of_squares: f64) -> Option<f64> {
    let count = count as f64;
    let variance = (sum_of_squares - square_of_sum / count) / (count - 1.0);
    let gradient = square_of_sum / (count * count) - variance / count;
    (variance <= count * gradient && gradient > 0.0).then(|| variance / gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};
    use crate::run::preset::Preset;
    use crate::text::builtin::Grammar;

    #[test]
    fn the_scale_is_that_of_the_noise_that_was_added() {
        // Gradients of 500 values: 0.1 each, and noise of deviation 1, so that tr Σ is 500 and |G|² 5.
        let mut rng = Rng::new(1, Purpose::Init, 0);
        let (values, trials, count) = (500, 40, 256);
        let mut found = Vec::new();
        for _ in 0..trials {
            let (mut sum, mut squares) = (vec![0.0; values], 0.0);
            for _ in 0..count {
                for sum in &mut sum {
                    // The sum of twelve uniform numbers has variance 1.
                    let noise: f32 = (0..12).map(|_| rng.uniform_in(0.0, 1.0)).sum::<f32>() - 6.0;
                    let value = f64::from(0.1 + noise);
                    *sum += value;
                    squares += value * value;
                }
            }
            found.extend(noise_scale(count, sum.iter().map(|sum| sum * sum).sum(), squares));
        }
        found.sort_by(f64::total_cmp);
        let median = found[found.len() / 2];
        assert!(found.len() == trials && (80.0..125.0).contains(&median), "{median}");
        // Alike, and nothing but noise.
        assert_eq!(noise_scale(4, 16.0, 4.0), Some(0.0));
        assert_eq!([noise_scale(4, 0.0, 4.0), noise_scale(4, 6.0, 4.0)], [None, None]);
    }

    #[test]
    fn batches_of_other_sizes_have_the_same_scale_in_tokens_and_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text.txt");
        std::fs::write(&text, Grammar::standard().sample(3, 0, 8000)).unwrap();
        let run = |rows: usize, stop: Option<&AtomicBool>| {
            let mut config = Preset::Builtin.config();
            config.data.train = Some(text.clone());
            (config.training.batch, config.segment) = (rows, 8);
            (config.model.lstm.hidden, config.model.lstm.input) = (24.into(), 16);
            let data = Data::read(&config, None).unwrap();
            let mut seen = Vec::new();
            let found = BatchFinder::run(config, &data, stop, &mut |point| seen.push(*point)).unwrap();
            assert!(found.as_ref().is_none_or(|found| found.points == seen));
            found
        };
        let few = run(4, None).unwrap();
        assert_eq!(few.points, run(4, None).unwrap().points);
        assert_eq!(few.points.iter().map(|point| point.step).collect::<Vec<_>>(), PLACES);
        for NoisePoint { tokens, rows, read, .. } in &few.points {
            assert!(*read >= BATCHES[0] * 4 * 8 && tokens.is_none_or(|tokens| tokens <= *read as f64), "{few:?}");
            assert!(tokens.zip(*rows).is_none_or(|(tokens, rows)| (tokens / rows / 8.0 - 1.0).abs() < 0.05), "{few:?}");
        }
        // Later the two have learned more and less.
        let of = |found: &BatchFinder| found.points[0].tokens.unwrap();
        let many = run(16, None).unwrap();
        assert!((0.4..2.5).contains(&(of(&few) / of(&many))), "{few:?} {many:?}");
        assert!(many.points.windows(2).all(|two| two[1].loss < two[0].loss + 0.2), "{many:?}");
        assert_eq!(run(4, Some(&AtomicBool::new(true))), None);
        for found in [few, many] {
            let Some(scale) = found.points[PLACES.len() - 1].tokens else {
                assert!(found.costs.is_empty() && found.batch.is_none());
                continue;
            };
            let best = found.costs.iter().find(|cost| Some(cost.rows) == found.batch).unwrap();
            assert_eq!(best.time_needed, 1.0);
            for (power, cost) in found.costs.iter().enumerate() {
                assert_eq!(cost.rows, 1 << power);
                let alone = |cost: &BatchCost| (1.0 + cost.tokens / scale) / cost.tokens_per_second;
                assert!(
                    (cost.time_needed - alone(cost) / alone(best)).abs() < 1e-9 && cost.time_needed >= 1.0,
                    "{cost:?}"
                );
            }
        }
    }
}
