//! The model and its training for a table and a time: what is tried for a share of the time, by its validation, and what is said of it.

use std::sync::Arc;
use std::time::Instant;

use super::config::{ForecastConfig, Normalise};
use super::dataset::Dataset;
use super::task::Forecasting;
use crate::optim::schedule::Moment;
use crate::run::checkpoint::Progress;
use crate::run::error::TrainError;
use crate::said::{count, seconds};
use crate::train::fastest::{self, PrecisionChoice, is_left_open};
use crate::train::step::TrainStep;
use crate::train::task::{Batches as _, Evaluation as _, Part, Task as _};

/// A model that was tried.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Its settings.
    pub config: ForecastConfig,
    /// Its least validation loss.
    pub loss: f64,
    /// The epochs it was trained for, and those after which that was.
    pub epochs: f64,
    /// The epochs after which its validation was best.
    pub best_epoch: f64,
}

/// What was chosen for a table and a time.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The settings of the run.
    pub config: ForecastConfig,
    /// Why, in five lines.
    pub why: Vec<String>,
    /// All that was tried, in order.
    pub trials: Vec<Trial>,
}

/// The share of the time in which models are tried.
const TRIALS_SHARE: f64 = 0.55;

/// About as many models as are tried.
const TRIALS: f64 = 13.0;

/// The fewest steps by which a model is judged, and the most epochs.
const LEAST_STEPS: u64 = 30;
const MOST_EPOCHS: f64 = 30.0;

/// A trial is validated after each such part of it but the first, on so many windows: to look is not to take the time of learning.
const PARTS: u64 = 4;
const MOST_WATCHED: usize = 400;

/// A loss is better by this share of the difference to be more than luck.
const BETTER: f64 = 0.002;

/// Chooses context, size, dropout, rate and epochs for series, in `seconds` altogether, of which the rest is the run's. `given`: puts the
/// settings that are asked for in their places again; `tell` is told before each trial what it is.
///
/// # Errors
/// Series of which nothing can be trained.
pub fn plan(
    base: &ForecastConfig,
    dataset: &Arc<Dataset>,
    seconds: f64,
    given: &dyn Fn(&mut ForecastConfig),
    tell: &mut dyn FnMut(&str),
) -> Result<Plan, TrainError> {
    let started = Instant::now();
    let each = TRIALS_SHARE * seconds / TRIALS;
    let mut search = Search { dataset, given, tell, each, until: TRIALS_SHARE * seconds, started, trials: Vec::new() };
    let contexts = contexts(base, dataset);
    let mut start = base.clone();
    start.context = contexts[contexts.len() / 2];
    start.lstm.hidden = 32.into();
    // Of few windows small batches, so that a reading is many steps.
    start.training.batch = match dataset.cuts[0] * dataset.series.len() {
        0..500 => 16,
        500..3000 => 32,
        _ => 64,
    };
    let precision = precision(&mut start, dataset, seconds, given)?;
    let mut best = search.first(start)?;
    best = search
        .better(best, contexts.iter().map(|&context| move |config: &mut ForecastConfig| config.context = context))?;
    best = search.better(
        best,
        [Normalise::Window, Normalise::Series]
            .map(|normalise| move |config: &mut ForecastConfig| config.normalise = normalise),
    )?;
    best = search.better(best, [false].map(|linear| move |config: &mut ForecastConfig| config.linear = linear))?;
    best = search.better(
        best,
        [16, 64].map(|hidden: usize| move |config: &mut ForecastConfig| config.lstm.hidden = hidden.into()),
    )?;
    best =
        search.better(best, [0.0, 0.3].map(|dropout| move |config: &mut ForecastConfig| config.dropout = dropout))?;
    best = search.better(
        best,
        [6e-3, 7e-4].map(|rate| move |config: &mut ForecastConfig| config.training.schedule.learning_rate = rate),
    )?;
    best = search.better(best, [2].map(|layers| move |config: &mut ForecastConfig| config.lstm.layers = layers))?;
    let trials = search.trials;
    let Trial { mut config, epochs, best_epoch, loss } = trials[best].clone();
    // One that was best at its end is trained for as long as there is time; one that was best before, not much longer.
    let length = if best_epoch > 0.8 * epochs { MOST_EPOCHS } else { (1.5 * best_epoch).clamp(1.0, MOST_EPOCHS) };
    let left = (seconds - started.elapsed().as_secs_f64()).max(0.2 * seconds);
    config.training.epochs = Some(length.ceil() as usize);
    config.training.patience = Some((length / 3.0).ceil().max(4.0) as usize);
    config.training.budget = Some(left);
    given(&mut config);
    let why = explained(&config, dataset, &trials, (loss, left), precision);
    Ok(Plan { config, why, trials })
}

/// Chooses the precision for the model that is tried first, unless it was decided.
fn precision(
    config: &mut ForecastConfig,
    dataset: &Arc<Dataset>,
    seconds: f64,
    given: &dyn Fn(&mut ForecastConfig),
) -> Result<Option<PrecisionChoice>, TrainError> {
    let laid = |precision| {
        let mut config = config.clone();
        config.training.precision = precision;
        given(&mut config);
        Ok::<_, TrainError>(config.training.precision)
    };
    if !is_left_open(laid)? {
        return Ok(None);
    }
    let mut first = config.clone();
    given(&mut first);
    let task = Forecasting::new(first, dataset.clone())?;
    let choice = fastest::choose(&task, config.lstm.variant.layer_norm, seconds)?;
    config.training.precision = choice.precision();
    Ok(Some(choice))
}

/// The contexts that are worth trying: some seasons, some horizons, of what the table has.
fn contexts(base: &ForecastConfig, dataset: &Dataset) -> Vec<usize> {
    /// The longest, beyond which a step of training takes too long.
    const LONGEST: usize = 512;
    let (season, horizon) = (dataset.frame.season, base.horizon);
    let most = (dataset.cuts[0] / 3).clamp(1, LONGEST);
    let wanted = if season > 1 { [2 * season, 4 * season, 7 * season] } else { [horizon, 3 * horizon, 6 * horizon] };
    let mut contexts: Vec<usize> =
        wanted.iter().map(|context| (*context).max(horizon.min(most)).clamp(2, most.max(2))).collect();
    contexts.sort_unstable();
    contexts.dedup();
    contexts
}

/// Trials one after the other.
struct Search<'a> {
    dataset: &'a Arc<Dataset>,
    given: &'a dyn Fn(&mut ForecastConfig),
    tell: &'a mut dyn FnMut(&str),
    /// Seconds for each, and for all.
    each: f64,
    until: f64,
    started: Instant,
    trials: Vec<Trial>,
}

impl Search<'_> {
    /// The first trial, which there is whatever the time.
    fn first(&mut self, mut config: ForecastConfig) -> Result<usize, TrainError> {
        (self.given)(&mut config);
        (self.tell)(&format!("trying {}", described(&config)));
        let trial = tried(config, self.dataset, self.each)?;
        self.trials.push(trial);
        Ok(0)
    }

    /// The best of a trial and of what each change makes of it, while there is time.
    fn better<C: Fn(&mut ForecastConfig)>(
        &mut self,
        mut best: usize,
        changes: impl IntoIterator<Item = C>,
    ) -> Result<usize, TrainError> {
        let from = self.trials[best].config.clone();
        for change in changes {
            let mut config = from.clone();
            change(&mut config);
            (self.given)(&mut config);
            let is_new = self.trials.iter().all(|trial| trial.config != config);
            if !is_new || self.started.elapsed().as_secs_f64() + 0.5 * self.each > self.until {
                continue;
            }
            (self.tell)(&format!("trying {}", described(&config)));
            // What cannot be built for this table is no choice.
            let Ok(trial) = tried(config, self.dataset, self.each) else { continue };
            self.trials.push(trial);
            let (least, loss) = (self.trials[best].loss, self.trials[self.trials.len() - 1].loss);
            if loss < least - BETTER * least.abs() {
                best = self.trials.len() - 1;
            }
        }
        Ok(best)
    }
}

/// Trains a model for about so many seconds, down to a rate of zero.
fn tried(config: ForecastConfig, dataset: &Arc<Dataset>, seconds: f64) -> Result<Trial, TrainError> {
    let task = Forecasting::new(config.clone(), dataset.clone())?.watched_on(MOST_WATCHED);
    let mut progress = Progress::new(&task);
    let mut step = TrainStep::new(&task);
    let mut batches = task.batches(0)?;
    let of_epoch = batches.count();
    let most = ((MOST_EPOCHS * of_epoch as f64) as u64).max(LEAST_STEPS);
    let started = Instant::now();
    let (mut total, mut taken) = (most, 0);
    let mut trial = Trial { config, loss: f64::INFINITY, epochs: 0.0, best_epoch: 0.0 };
    while taken < total {
        if progress.position.batch >= of_epoch {
            progress.position.begin_epoch();
            batches = task.batches(progress.position.epoch)?;
        }
        let done = taken as f64 / total as f64;
        let schedule = &task.settings().training.schedule;
        let rate = schedule.learning_rate_at(Moment { epoch: progress.position.epoch, step: taken, done, plateaus: 0 });
        let result = step.take(&mut progress, &batches, rate)?;
        if !result.norm.is_finite() {
            break;
        }
        taken += 1;
        // The first steps find how many there can be; validations take their part of the time.
        if taken == 5 || taken == 20 {
            let possible = 0.85 * seconds * taken as f64 / started.elapsed().as_secs_f64().max(1e-6);
            total = (possible as u64).clamp(LEAST_STEPS, most);
        }
        let validates = taken >= total || taken.is_multiple_of((total / PARTS).max(10)) && taken * 3 >= total;
        if validates {
            let mut evaluation = task.evaluation(progress.evaluated(), Part::Validation)?;
            while evaluation.advance() {}
            let loss = evaluation.total().mean();
            if loss < trial.loss {
                (trial.loss, trial.best_epoch) = (loss, taken as f64 / of_epoch as f64);
            }
        }
    }
    trial.epochs = taken as f64 / of_epoch as f64;
    Ok(trial)
}

fn described(config: &ForecastConfig) -> String {
    let linear = if config.linear { "" } else { ", no linear map" };
    format!(
        "context {}, {} × {} units, dropout {}, rate {}, from {}{linear}",
        config.context,
        config.lstm.layers,
        config.lstm.hidden,
        config.dropout,
        config.training.schedule.learning_rate,
        config.normalise
    )
}

/// Why, in five lines.
fn explained(
    config: &ForecastConfig,
    dataset: &Dataset,
    trials: &[Trial],
    (loss, left): (f64, f64),
    precision: Option<PrecisionChoice>,
) -> Vec<String> {
    let frame = &dataset.frame;
    let season = match frame.season {
        1 => "no season".to_owned(),
        season => format!("a season of {season}"),
    };
    // The best of the others that differ in one way.
    let against = |differs: &dyn Fn(&ForecastConfig) -> bool, said: &dyn Fn(&ForecastConfig) -> String| {
        let others = trials.iter().filter(|trial| differs(&trial.config));
        let best = others.min_by(|a, b| a.loss.total_cmp(&b.loss));
        best.map_or(String::new(), |other| format!(", against {:.4} with {}", other.loss, said(&other.config)))
    };
    let training = &config.training;
    vec![
        format!(
            "{} series of {} of {}, {season}; {} tried on the validation part, whose best loss is {loss:.4}",
            dataset.series.len(),
            count(dataset.cuts[2], "step"),
            frame.step.written(frame.clock),
            count(trials.len(), "model")
        ),
        format!(
            "context {}: {loss:.4}{}",
            config.context,
            against(&|other| other.context != config.context, &|other| other.context.to_string())
        ),
        format!(
            "{} of {} units: {loss:.4}{}{}",
            count(config.lstm.layers, "layer"),
            config.lstm.hidden,
            against(
                &|other| other.lstm.hidden != config.lstm.hidden || other.lstm.layers != config.lstm.layers,
                &|other| format!("{} of {}", other.lstm.layers, other.lstm.hidden)
            ),
            precision.map_or(String::new(), |choice| format!("; {choice}"))
        ),
        format!(
            "measured from {}, dropout {}, {} linear map: {loss:.4}{}",
            match config.normalise {
                Normalise::Last => "the window's last value",
                Normalise::Window => "the window's mean and deviation",
                Normalise::Series => "the series' mean and deviation",
            },
            config.dropout,
            if config.linear { "with a" } else { "without a" },
            against(&|other| other.normalise != config.normalise, &|other| format!("{}", other.normalise))
        ),
        format!(
            "{}; at most {} in the {} that are left{}",
            training.schedule,
            count(training.epochs.unwrap_or(0), "epoch"),
            seconds(left),
            training
                .patience
                .map_or(String::new(), |patience| format!(", {patience} without a better validation end it"))
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::Table;
    use crate::forecast::config::Columns;
    use crate::optim::schedule::ScheduleKind;
    use crate::rng::{Purpose, Rng};

    #[test]
    fn ten_times_the_time_is_no_worse_and_what_is_given_stays() {
        let mut rng = Rng::new(2, Purpose::Init, 0);
        let row = |at: usize| {
            let season = [0.0, 2.0, 1.0, 3.0, -1.0, -2.0][at % 6];
            format!("{at},{}\n", season + 0.01 * at as f64 + 0.3 * f64::from(rng.normal()))
        };
        let text: String = ["step,value\n".to_owned()].into_iter().chain((0..300).map(row)).collect();
        let table = Table::parse(Path::new("table.csv"), text.as_bytes()).unwrap();
        let columns = Columns { time: "step".to_owned(), target: vec!["value".to_owned()], ..Columns::default() };
        let mut config = ForecastConfig::new(columns, 6, 0);
        config.split = Vec::new();
        config.training.set_schedule(ScheduleKind::Wsd);
        let dataset = Arc::new(Dataset::read(&table, &mut config).unwrap());
        assert_eq!(dataset.frame.season, 6);
        let best = |seconds: f64| {
            let mut told = 0;
            let given = |config: &mut ForecastConfig| config.lstm.hidden = 12.into();
            let plan = plan(&config, &dataset, seconds, &given, &mut |_| told += 1).unwrap();
            assert!(plan.trials.iter().all(|trial| trial.config.lstm.hidden == 12.into()));
            assert_eq!((plan.why.len(), told), (5, plan.trials.len()));
            assert!(plan.config.training.budget.unwrap() > 0.0 && plan.config.context >= 6);
            assert!(plan.why[4].starts_with("rate ") && plan.why[4].contains(", wsd"), "{}", plan.why[4]);
            plan.trials.iter().map(|trial| trial.loss).fold(f64::INFINITY, f64::min)
        };
        let (short, long) = (best(0.3), best(3.0));
        assert!(long <= 1.05 * short, "{long} after ten times the time of {short}");
    }
}
