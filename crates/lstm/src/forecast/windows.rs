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
