//! What every forecast is compared with: the value one season ago, and exponential smoothing. Both know the series alone, and their
//! intervals are those of their errors in the training part.

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Series};
use super::head::Forecast;
use super::windows::Window;

/// A simple way to forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The last value at the same place in its season.
    SeasonalNaive,
    /// Additive exponential smoothing (Holt 1957; Winters 1960; Gardner 1985): a level, where it helps a damped trend and a season.
    Smoothing,
}

/// The least autocorrelation of a season, of the values' differences.
const LEAST_CORRELATION: f64 = 0.15;

/// The longest season that is looked for where the stamps are a counter.
const LONGEST: usize = 400;

/// The season of a dataset: of those that its step has, or of all that a counter could, the one whose values repeat most. 1: none does.
pub(crate) fn season(dataset: &Dataset) -> usize {
    let train = dataset.cuts[0];
    let cycles = dataset.frame.step.cycles(dataset.frame.clock);
    let is_time = dataset.frame.clock.is_time();
    let candidates: Vec<usize> = if is_time { cycles } else { (2..=LONGEST).collect() };
    let correlation = |lag: usize| {
        let each = dataset.series.iter().filter_map(|series| {
            let steps = train.saturating_sub(series.offset).min(series.observed);
            let values: Vec<f64> = (0..steps).map(|step| series.scaled(step, 0)).collect();
            let differences: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
            // Three seasons, so that what repeats did so twice.
            (3 * lag <= steps).then(|| autocorrelation(&differences, lag)).flatten()
        });
        let (count, sum) = each.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
        if count > 0.0 { sum / count } else { 0.0 }
    };
    let scored = candidates.into_iter().map(|lag| (lag, correlation(lag)));
    let best = scored.fold((1, LEAST_CORRELATION), |best, next| if next.1 > best.1 + 0.02 { next } else { best });
    best.0
}

/// The correlation of values with those `lag` before them, of the pairs that are there.
fn autocorrelation(values: &[f64], lag: usize) -> Option<f64> {
    let present = values.iter().filter(|value| !value.is_nan());
    let (count, sum) = present.clone().fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    let mean = sum / count;
    let variance = present.map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let pairs = values.iter().zip(values.iter().skip(lag)).filter(|(a, b)| !a.is_nan() && !b.is_nan());
    let (pairs, product) = pairs.fold((0.0, 0.0), |(pairs, sum), (a, b)| (pairs + 1.0, sum + (a - mean) * (b - mean)));
    (pairs > 0.0 && variance > 0.0).then(|| product / pairs / variance)
}

/// The mean absolute error of the naive forecast one season ahead over the training part of a target, on the series' scale: what MASE
/// divides by.
pub(crate) fn naive_error(dataset: &Dataset, series: &Series, target: usize) -> f64 {
    let steps = training_steps(dataset, series);
    let season = dataset.frame.season;
    let errors = (season..steps).map(|step| (series.scaled(step, target) - series.scaled(step - season, target)).abs());
    let (count, sum) =
        errors.filter(|error| !error.is_nan()).fold((0.0, 0.0), |(count, sum), error| (count + 1.0, sum + error));
    // Of a series too short for a season, or one that repeats exactly, the deviation of its values stands for it.
    if count > 0.0 && sum > 0.0 { sum / count } else { 1.0 }
}

/// The steps of a series that were trained on; of a table that none was, all.
fn training_steps(dataset: &Dataset, series: &Series) -> usize {
    let frame = &dataset.frame;
    let trained = frame.step.between(series.start, frame.until[0]) + 1;
    if trained <= 0 { series.observed } else { (trained as usize).min(series.observed) }
}

impl Baseline {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::SeasonalNaive, Self::Smoothing];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SeasonalNaive => "seasonal naive",
            Self::Smoothing => "exponential smoothing",
        }
    }

    /// The forecasts of windows on the series' scale, `[windows, horizon, targets]`.
    pub(crate) fn forecasts(self, dataset: &Dataset, windows: &[Window], horizon: usize) -> Vec<Forecast> {
        let targets = dataset.targets;
        let nothing = Forecast { point: 0.0, quantiles: Default::default() };
        let mut all = vec![nothing; windows.len() * horizon * targets];
        for (number, series) in dataset.series.iter().enumerate() {
            let own: Vec<usize> = (0..windows.len()).filter(|at| windows[*at].series == number).collect();
            if own.is_empty() {
                continue;
            }
            for target in 0..targets {
                let values: Vec<f64> = (0..series.observed).map(|step| series.scaled(step, target)).collect();
                let train = training_steps(dataset, series);
                let origins: Vec<usize> = own.iter().map(|at| windows[*at].origin).collect();
                let forecast = match self {
                    Self::SeasonalNaive => seasonal_naive(&values, train, dataset.frame.season, &origins, horizon),
                    Self::Smoothing => smoothed(&values, train, dataset.frame.season, &origins, horizon),
                };
                for (window, steps) in own.iter().zip(forecast.chunks(horizon)) {
                    for (step, forecast) in steps.iter().enumerate() {
                        all[(window * horizon + step) * targets + target] = *forecast;
                    }
                }
            }
        }
        all
    }
}

/// The most origins in the training part by which the errors of a horizon are measured.
const MOST_ORIGINS: usize = 500;

/// Origins all over the training part but its first third, whose horizons lie in it.
fn training_origins(train: usize, horizon: usize) -> Vec<usize> {
    let (from, until) = ((train / 3).max(1), train.saturating_sub(horizon));
    (from..=until).step_by((until.saturating_sub(from) / MOST_ORIGINS).max(1)).collect()
}

/// Forecasts of `points(origin)`, with intervals of the errors that it makes in the training part at each step of the horizon.
fn with_intervals(
    values: &[f64],
    train: usize,
    origins: &[usize],
    horizon: usize,
    points: &mut dyn FnMut(&[usize]) -> Vec<f64>,
) -> Vec<Forecast> {
    let tried = training_origins(train, horizon);
    let mut squares = vec![(0.0, 0.0); horizon];
    for (origin, points) in tried.iter().zip(points(&tried).chunks(horizon)) {
        for (step, point) in points.iter().enumerate() {
            let error = values.get(origin + step).map_or(f64::NAN, |value| value - point);
            if !error.is_nan() {
                squares[step] = (squares[step].0 + 1.0, squares[step].1 + error * error);
            }
        }
    }
    // Where a training part is too short to have erred, a deviation of the values themselves.
    let deviation = |step: usize| match squares[step] {
        (0.0, _) => 1.0,
        (count, sum) => f64::max(sum / count, 1e-12).sqrt(),
    };
    let deviations: Vec<f64> = (0..horizon).map(deviation).collect();
    let points = points(origins);
    points.iter().enumerate().map(|(at, point)| Forecast::normal(*point, deviations[at % horizon])).collect()
}

fn seasonal_naive(values: &[f64], train: usize, season: usize, origins: &[usize], horizon: usize) -> Vec<Forecast> {
    let mut points = |origins: &[usize]| {
        let point = |origin: usize, step: usize| {
            // So many seasons back, or where that is missing one more; else the last value there is.
            let back = (step / season + 1) * season;
            let seasons = (0..).map(|more| (origin + step).checked_sub(back + more * season)).map_while(|at| at);
            let same = seasons.map(|at| values[at]).find(|value| !value.is_nan());
            let last = || values[..origin].iter().rev().copied().find(|value| !value.is_nan());
            same.or_else(last).unwrap_or(0.0)
        };
        let point = &point;
        origins.iter().flat_map(|&origin| (0..horizon).map(move |step| point(origin, step))).collect()
    };
    with_intervals(values, train, origins, horizon, &mut points)
}

/// Additive exponential smoothing with a damped trend and a season, whose shares may be zero.
#[derive(Clone, Copy, Debug)]
struct Shares {
    level: f64,
    trend: f64,
    damping: f64,
    season: f64,
    /// 1 for no season.
    period: usize,
}

/// The most steps that shares are fitted to, the last of the training part.
const MOST_FITTED: usize = 3000;

/// The longest season that is smoothed: each of its places has a state.
const LONGEST_SMOOTHED: usize = 400;

impl Shares {
    /// Runs through `values` and calls `at` before each of them, and after the last, with its number and the state: level, trend, season
    /// turned so that the next place is `number % period`.
    fn run(&self, values: &[f64], mut at: impl FnMut(usize, f64, f64, &[f64])) {
        let first = &values[..values.len().min(2 * self.period.max(5))];
        let present: Vec<f64> = first.iter().copied().filter(|value| !value.is_nan()).collect();
        let mut level = present.iter().sum::<f64>() / present.len().max(1) as f64;
        let mut season = vec![0.0; self.period];
        if self.period > 1 {
            for (place, season) in season.iter_mut().enumerate() {
                let own: Vec<f64> =
                    first.iter().skip(place).step_by(self.period).copied().filter(|value| !value.is_nan()).collect();
                *season = if own.is_empty() { 0.0 } else { own.iter().sum::<f64>() / own.len() as f64 - level };
            }
        }
        let mut trend = 0.0;
        for (number, value) in values.iter().enumerate() {
            at(number, level, trend, &season);
            let place = number % self.period;
            let drift = self.damping * trend;
            let error = value - level - drift - season[place];
            // What is missing was what was expected.
            let error = if error.is_nan() { 0.0 } else { error };
            level += drift + self.level * error;
            trend = drift + self.trend * error;
            season[place] += self.season * error;
        }
        at(values.len(), level, trend, &season);
    }

    /// The mean squared error one step ahead, after the first seasons.
    fn error(&self, values: &[f64]) -> f64 {
        let (mut count, mut sum) = (0.0, 0.0);
        let skipped = (2 * self.period).min(values.len() / 2);
        self.run(values, |number, level, trend, season| {
            let Some(value) = values.get(number).filter(|value| !value.is_nan() && number >= skipped) else { return };
            let error = value - level - self.damping * trend - season[number % self.period];
            (count, sum) = (count + 1.0, sum + error * error);
        });
        if count > 0.0 { sum / count } else { f64::INFINITY }
    }

    /// The shares of numbers without bounds.
    fn of(free: &[f64], has_trend: bool, period: usize) -> Self {
        let share = |at: usize, most: f64| most * super::special::logistic(free[at]);
        let level = share(0, 1.0);
        Self {
            level,
            trend: if has_trend { share(1, level) } else { 0.0 },
            damping: if has_trend { 0.8 + share(2, 0.18) } else { 0.0 },
            season: if period > 1 { share(3, 1.0 - level) } else { 0.0 },
            period,
        }
    }

    /// The best shares for values one step ahead, of each kind of model: with and without a trend, with and without a season.
    fn fits(values: &[f64], season: usize) -> Vec<Self> {
        let is_smoothed = season > 1 && season <= LONGEST_SMOOTHED && values.len() >= 3 * season;
        let periods = if is_smoothed { vec![1, season] } else { vec![1] };
        let kinds = periods.into_iter().flat_map(|period| [(false, period), (true, period)]);
        let fit = |(has_trend, period)| {
            let objective = |free: &[f64]| Self::of(free, has_trend, period).error(values);
            Self::of(&minimise(&objective, [-1.0, -2.0, 0.0, -2.0]).0, has_trend, period)
        };
        kinds.map(fit).collect()
    }

    /// The forecasts from origins, `[origins, horizon]`.
    fn points(&self, values: &[f64], origins: &[usize], horizon: usize) -> Vec<f64> {
        let mut all = vec![0.0; origins.len() * horizon];
        let mut places: Vec<Vec<usize>> = vec![Vec::new(); values.len() + 1];
        origins.iter().enumerate().for_each(|(place, origin)| places[*origin].push(place));
        self.run(values, |number, level, trend, season| {
            for place in &places[number] {
                let (mut drift, mut damping) = (0.0, 1.0);
                for step in 0..horizon {
                    damping *= self.damping;
                    drift += damping * trend;
                    all[place * horizon + step] = level + drift + season[(number + step) % self.period];
                }
            }
        });
        all
    }
}

/// The downhill simplex (Nelder & Mead 1965) from around `start`.
fn minimise(objective: &dyn Fn(&[f64]) -> f64, start: [f64; 4]) -> ([f64; 4], f64) {
    let mut simplex: Vec<([f64; 4], f64)> = vec![(start, objective(&start))];
    for at in 0..4 {
        let mut corner = start;
        corner[at] += 1.5;
        simplex.push((corner, objective(&corner)));
    }
    for _ in 0..120 {
        simplex.sort_by(|a, b| a.1.total_cmp(&b.1));
        let worst = simplex[4];
        if (worst.1 - simplex[0].1).abs() <= 1e-9 * simplex[0].1.abs() {
            break;
        }
        let centre: [f64; 4] =
            std::array::from_fn(|at| simplex[..4].iter().map(|corner| corner.0[at]).sum::<f64>() / 4.0);
        let towards = |share: f64| -> ([f64; 4], f64) {
            let corner = std::array::from_fn(|at| centre[at] + share * (centre[at] - worst.0[at]));
            (corner, objective(&corner))
        };
        let reflected = towards(1.0);
        let next = if reflected.1 < simplex[0].1 {
            let expanded = towards(2.0);
            if expanded.1 < reflected.1 { expanded } else { reflected }
        } else if reflected.1 < simplex[3].1 {
            reflected
        } else {
            towards(if reflected.1 < worst.1 { 0.5 } else { -0.5 })
        };
        if next.1 < worst.1 {
            simplex[4] = next;
        } else {
            let best = simplex[0].0;
            for corner in &mut simplex[1..] {
                corner.0 = std::array::from_fn(|at| best[at] + 0.5 * (corner.0[at] - best[at]));
                corner.1 = objective(&corner.0);
            }
        }
    }
    simplex.sort_by(|a, b| a.1.total_cmp(&b.1));
    simplex[0]
}

/// Of each kind the shares are those that are best one step ahead, as they are usually fitted; of the kinds it is the one whose forecasts
/// over the whole horizon were best in the training part, as one step says little of many.
fn smoothed(values: &[f64], train: usize, season: usize, origins: &[usize], horizon: usize) -> Vec<Forecast> {
    let fitted = &values[train.saturating_sub(MOST_FITTED)..train];
    let kinds = Shares::fits(fitted, season);
    let tried = training_origins(train, horizon);
    let error = |shares: &Shares| {
        let points = shares.points(&values[..train], &tried, horizon);
        let errors = points.iter().enumerate().map(|(at, point)| values[tried[at / horizon] + at % horizon] - point);
        let errors = errors.filter(|error| !error.is_nan());
        let (count, sum) = errors.fold((0.0, 0.0), |(count, sum), error| (count + 1.0, sum + error * error));
        if count > 0.0 { sum / count } else { f64::INFINITY }
    };
    let best = kinds.iter().map(|shares| (error(shares), *shares)).min_by(|a, b| a.0.total_cmp(&b.0));
    let naive = Shares { level: 1.0, trend: 0.0, damping: 0.0, season: 0.0, period: 1 };
    let shares = best.map_or(naive, |(_, shares)| shares);
    with_intervals(values, train, origins, horizon, &mut |origins| shares.points(values, origins, horizon))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_season_is_found_where_values_repeat() {
        let values: Vec<f64> = (0..300).map(|step| f64::from(step % 7) + 0.01 * f64::from(step)).collect();
        let differences: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(autocorrelation(&differences, 7).unwrap() > 0.9);
        assert!(autocorrelation(&differences, 6).unwrap() < 0.1);
    }

    #[test]
    fn the_naive_forecast_is_the_value_a_season_ago() {
        let mut values: Vec<f64> = (0..40).map(|step| f64::from(step % 4)).collect();
        values[38] = f64::NAN;
        let forecasts = seasonal_naive(&values, 30, 4, &[40], 6);
        let points: Vec<f64> = forecasts.iter().map(|forecast| forecast.point).collect();
        // 38 is missing, so that of 34 stands for it.
        assert_eq!(points, [0.0, 1.0, 2.0, 3.0, 0.0, 1.0]);
        // A season that repeats exactly has no error.
        assert!(forecasts[0].quantiles[10] - forecasts[0].quantiles[0] < 1e-4);
    }

    #[test]
    fn smoothing_follows_a_trend_with_a_season_and_noise() {
        let mut rng = crate::rng::Rng::new(5, crate::rng::Purpose::Init, 0);
        let truth = |step: usize| 0.02 * step as f64 + [0.0, 1.0, -0.5, 0.3, 2.0, -1.0][step % 6];
        let values: Vec<f64> = (0..400).map(|step| truth(step) + 0.1 * f64::from(rng.normal())).collect();
        let forecasts = smoothed(&values, 300, 6, &[400], 12);
        for (step, forecast) in forecasts.iter().enumerate() {
            assert!((forecast.point - truth(400 + step)).abs() < 0.35, "{step} {forecast:?}");
        }
        let spread = forecasts[0].quantiles[10] - forecasts[0].quantiles[0];
        assert!((0.2..0.8).contains(&spread), "{spread}");
        // Without a season to be found it is a level.
        let walk: Vec<f64> = (0..200)
            .scan(0.0, |at, _| {
                *at += f64::from(rng.normal());
                Some(*at)
            })
            .collect();
        assert!((smoothed(&walk, 150, 1, &[200], 3)[0].point - walk[199]).abs() < 1.0);
    }
}
