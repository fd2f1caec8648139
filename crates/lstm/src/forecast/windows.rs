//! Windows: a context and the horizon after it, of one series; batches of them as the model reads them.

use super::config::{ForecastConfig, Normalise};
use super::dataset::{Dataset, Series, least_context};

/// A window: the series and the step that is the first to be forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The number of the series.
    pub series: usize,
    /// The first step of the horizon, counted from the series' start.
    pub origin: usize,
}

/// The least variance of a window by the variance of its series: a window in which nothing happens would make noise of what comes.
const LEAST_VARIANCE: f64 = 1e-2;

impl Dataset {
    /// The windows whose whole horizon lies in the steps `from..to` of the table, at every `stride`-th of them, and that have a value in
    /// both of their parts.
    pub(crate) fn windows(&self, config: &ForecastConfig, from: usize, to: usize, stride: usize) -> Vec<Window> {
        let least = least_context(config);
        let mut windows = Vec::new();
        for (number, series) in self.series.iter().enumerate() {
            let end = to.saturating_sub(series.offset).min(series.observed);
            let first = from.saturating_sub(series.offset).max(least);
            let Some(last) = end.checked_sub(config.horizon) else { continue };
            for origin in (first..=last).step_by(stride.max(1)) {
                let has = |from: usize, to: usize| {
                    series.values[from * self.targets..to * self.targets].iter().any(|value| !value.is_nan())
                };
                if has(origin.saturating_sub(config.context), origin) && has(origin, origin + config.horizon) {
                    windows.push(Window { series: number, origin });
                }
            }
        }
        windows
    }

    /// The window after the last value of every series, whose horizon is not known.
    pub(crate) fn last_windows(&self) -> Vec<Window> {
        self.series.iter().enumerate().map(|(series, of)| Window { series, origin: of.observed }).collect()
    }
}

/// How the values of a step lie in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InputLayout {
    /// D.
    pub(crate) targets: usize,
    /// What the calendar and the known columns give.
    pub(crate) known: usize,
    /// What is fixed for a series.
    pub(crate) fixed: usize,
}

impl InputLayout {
    pub(crate) fn of(dataset: &Dataset) -> Self {
        Self { targets: dataset.targets, known: dataset.known_width(), fixed: dataset.fixed_width() }
    }

    /// Of each target its value and whether it is there; whether the step is to be forecast; what is known, what is fixed; the offset
    /// and the scale of each target's window.
    pub(crate) fn width(self) -> usize {
        4 * self.targets + 1 + self.known + self.fixed
    }
}

/// Windows side by side.
#[derive(Clone, Debug, Default)]
pub struct ForecastBatch {
    /// B.
    pub(crate) rows: usize,
    /// `[C + H, B, input]`.
    pub(crate) input: Vec<f32>,
    /// The contexts as the linear map reads them, `[targets, B, C]`; 0 where missing.
    pub(crate) history: Vec<f32>,
    /// The values to come, in the model's units, `[H, B, targets]`; not a number where missing.
    pub(crate) target: Vec<f64>,
    /// The offset and the scale of each row's targets, `[B, targets]`, in the model's units.
    pub(crate) places: Vec<[f64; 2]>,
}

impl ForecastBatch {
    /// Reads windows; with their horizons' values, if those are `known`.
    pub(crate) fn fill(&mut self, dataset: &Dataset, config: &ForecastConfig, windows: &[Window], known: bool) {
        let (context, horizon, targets) = (config.context, config.horizon, dataset.targets);
        let layout = InputLayout::of(dataset);
        let (width, rows) = (layout.width(), windows.len());
        self.rows = rows;
        self.input.clear();
        self.input.resize((context + horizon) * rows * width, 0.0);
        self.history.clear();
        self.history.resize(targets * rows * context, 0.0);
        self.target.clear();
        self.target.resize(horizon * rows * targets, f64::NAN);
        self.places.clear();
        for (row, window) in windows.iter().enumerate() {
            let series = &dataset.series[window.series];
            let first = window.origin.saturating_sub(context);
            // The steps before the series' start are missing.
            let padding = context - (window.origin - first);
            let mut fixed = series.fixed.clone();
            for target in 0..targets {
                let place = place(config, series, target, first..window.origin);
                for step in first..window.origin {
                    let value = (value(config, series, step, target) - place[0]) / place[1];
                    if value.is_nan() {
                        continue;
                    }
                    let at = padding + step - first;
                    let input = &mut self.input[(at * rows + row) * width..][..width];
                    (input[target], input[targets + target]) = (value as f32, 1.0);
                    self.history[(target * rows + row) * context + at] = value as f32;
                }
                if known {
                    for step in 0..horizon {
                        self.target[(step * rows + row) * targets + target] =
                            value(config, series, window.origin + step, target);
                    }
                }
                fixed.extend(level(config, series, target, place));
                self.places.push(place);
            }
            for at in 0..context + horizon {
                let input = &mut self.input[(at * rows + row) * width..][..width];
                let (is_future, rest) = input[2 * targets..].split_first_mut().expect("whether it is the future");
                *is_future = if at >= context { 1.0 } else { 0.0 };
                if at >= padding {
                    let step = first + at - padding;
                    rest[..layout.known].copy_from_slice(&series.known[step * layout.known..][..layout.known]);
                }
                rest[layout.known..].copy_from_slice(&fixed);
            }
        }
    }
}

/// A value in the model's units: on the series' scale, or a count as it is.
fn value(config: &ForecastConfig, series: &Series, step: usize, target: usize) -> f64 {
    if config.likelihood.counts() {
        series.values[step * series.scalers.len() + target]
    } else {
        series.scaled(step, target)
    }
}

/// The offset and the scale of a window, of what is observed in its context.
fn place(config: &ForecastConfig, series: &Series, target: usize, context: std::ops::Range<usize>) -> [f64; 2] {
    let observed = context.map(|step| value(config, series, step, target)).filter(|value| !value.is_nan());
    let (mut count, mut sum, mut squares, mut last) = (0.0, 0.0, 0.0, 0.0);
    for value in observed {
        (count, sum, squares, last) = (count + 1.0, sum + value, squares + value * value, value);
    }
    let mean = if count > 0.0 { sum / count } else { 0.0 };
    match config.normalise {
        // A count is of the order of those before it (Salinas 2020).
        _ if config.likelihood.counts() => [0.0, 1.0 + mean],
        Normalise::Last => [last, 1.0],
        Normalise::Window => [mean, ((squares / f64::max(count, 1.0) - mean * mean).max(0.0) + LEAST_VARIANCE).sqrt()],
        Normalise::Series => [0.0, 1.0],
    }
}

/// The offset and the scale of a window as the model reads them.
fn level(config: &ForecastConfig, series: &Series, target: usize, [offset, scale]: [f64; 2]) -> [f32; 2] {
    if config.likelihood.counts() {
        let scaler = series.scalers[target];
        return [scaler.scale(scale - 1.0) as f32, (scale.ln() - (1.0 + scaler.mean).ln()) as f32];
    }
    [offset as f32, scale.ln() as f32]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::Table;
    use crate::forecast::config::Columns;

    /// Twenty steps of a line, one of which is missing, beside a column that is known.
    fn dataset(normalise: Normalise) -> (Dataset, ForecastConfig) {
        let row =
            |at: usize| format!("{at},{},{}\n", if at == 5 { String::new() } else { (2 * at).to_string() }, at % 2);
        let text: String = ["time,value,known\n".to_owned()].into_iter().chain((1..=20).map(row)).collect();
        let table = Table::parse(Path::new("table.csv"), text.as_bytes()).unwrap();
        let columns = Columns {
            time: "time".to_owned(),
            target: vec!["value".to_owned()],
            known: vec!["known".to_owned()],
            ..Columns::default()
        };
        let mut config = ForecastConfig::new(columns, 2, 4);
        (config.normalise, config.split) = (normalise, vec![12, 4, 4]);
        (Dataset::read(&table, &mut config).unwrap(), config)
    }

    #[test]
    fn windows_lie_within_their_part() {
        let (dataset, config) = dataset(Normalise::Last);
        let origins = |from, to| -> Vec<usize> {
            dataset.windows(&config, from, to, 1).iter().map(|window| window.origin).collect()
        };
        // The horizon is within the part, the context may be before it, and before the table's start, of which two steps are enough.
        assert_eq!(origins(0, 12), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(origins(12, 16), [12, 13, 14]);
        assert_eq!(dataset.last_windows(), [Window { series: 0, origin: 20 }]);
    }

    #[test]
    fn a_batch_is_what_its_windows_see() {
        let (dataset, config) = dataset(Normalise::Last);
        let scaler = dataset.series[0].scalers[0];
        let windows = [Window { series: 0, origin: 3 }, Window { series: 0, origin: 6 }];
        let mut batch = ForecastBatch::default();
        batch.fill(&dataset, &config, &windows, true);
        let width = InputLayout::of(&dataset).width();
        assert_eq!((batch.rows, width, batch.input.len()), (2, 6, 6 * 2 * 6));
        let step = |step: usize, row: usize| &batch.input[(step * 2 + row) * width..][..width];
        // The first window begins a step before the table does.
        assert_eq!(step(0, 0)[..3], [0.0, 0.0, 0.0]);
        // Values are less the last one, and it is said where there are none: step 5 is missing, which is the second's third.
        assert_eq!(step(3, 0)[..3], [0.0, 1.0, 0.0]);
        assert_eq!(step(2, 1)[..2], [0.0, 0.0]);
        let two = 2.0 / scaler.deviation as f32;
        assert!((step(2, 0)[0] + two).abs() < 1e-6 && (step(1, 1)[0] + 2.0 * two).abs() < 1e-6);
        // In the horizon only what is known.
        assert_eq!(step(4, 0)[..3], [0.0, 0.0, 1.0]);
        assert_ne!(step(4, 0)[3], step(5, 0)[3]);
        assert_eq!(batch.history[4..8], [step(0, 1)[0], step(1, 1)[0], 0.0, step(3, 1)[0]]);
        let target = |step: usize, row: usize| scaler.restore(batch.target[step * 2 + row]);
        assert!((target(0, 0) - 8.0).abs() < 1e-9 && target(1, 0).is_nan() && (target(0, 1) - 14.0).abs() < 1e-9);
        assert!((scaler.restore(batch.places[0][0]) - 6.0).abs() < 1e-9 && batch.places[0][1] == 1.0);
    }

    #[test]
    fn a_window_s_own_mean_and_deviation_leave_its_shape() {
        let (dataset, config) = dataset(Normalise::Window);
        let mut batch = ForecastBatch::default();
        let windows = [Window { series: 0, origin: 10 }, Window { series: 0, origin: 14 }];
        batch.fill(&dataset, &config, &windows, false);
        assert!(batch.target.iter().all(|value| value.is_nan()));
        let (first, second) = batch.history.split_at(4);
        assert!(first.iter().zip(second).all(|(a, b)| (a - b).abs() < 1e-5), "{first:?} {second:?}");
        assert!(first.iter().sum::<f32>().abs() < 1e-5);
    }
}
