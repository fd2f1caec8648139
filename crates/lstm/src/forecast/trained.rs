//! A trained model at work: forecasts after a table's end, and how good those were that could have been made before it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::baseline::{Baseline, naive_error};
use super::config::ForecastConfig;
use super::dataset::{Dataset, Frame, unusable};
use super::head::{Forecast, LEVELS, MEDIAN};
use super::measures::{Measures, Tally};
use super::model::ForecastModel;
use super::task::FRAME;
use super::windows::{ForecastBatch, InputLayout, Window};
use crate::data::{Stamp, Table};
use crate::formats::FormatError;
use crate::formats::safetensors::read;
use crate::nn::params::Params;
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::run::saved::{ModelCard, card, model_params, save_model};
use crate::run::settings::Settings as _;
use crate::run::task_kind::TaskKind;
use crate::said::count;

/// A trained forecast, to use.
#[derive(Debug)]
pub struct TrainedForecast {
    /// The file of the model.
    pub path: PathBuf,
    /// The settings; of a model file without where its table lies.
    pub config: ForecastConfig,
    /// How tables are read and scaled.
    pub frame: Frame,
    /// The model.
    pub model: ForecastModel,
    /// Its best parameters.
    pub params: Params,
    /// The facts about them.
    pub card: ModelCard,
}

/// The forecast of one value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Predicted {
    /// The time stamp, written as the table's are.
    pub time: String,
    /// The series, "" where a table has one.
    pub series: String,
    /// The target.
    pub target: String,
    /// The one value to name.
    pub point: f64,
    /// The values at [`LEVELS`]; none of a point forecast.
    pub quantiles: Vec<f64>,
}

/// The measures of a model beside those of its baselines, on the same values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The first time stamp that was forecast, and the last.
    pub from: String,
    /// The last.
    pub to: String,
    /// The origins from which it was forecast, of all series.
    pub origins: usize,
    /// The steps after which the naive forecast takes a season to repeat.
    pub season: usize,
    /// Of the model.
    pub model: Measures,
    /// Of each baseline, by name.
    pub baselines: Vec<(String, Measures)>,
    /// The mean absolute error on the series' scale at each step of the horizon.
    pub by_step: Vec<f64>,
}

impl Comparison {
    /// The baselines that are as good as the model or better, by the score of its quantiles, or of a point forecast by its absolute error.
    pub fn beaten_by(&self) -> Vec<&str> {
        let score = |measures: &Measures| match self.model.coverage {
            Some(_) => measures.crps_scaled,
            None => measures.mae_scaled,
        };
        let model = score(&self.model);
        self.baselines.iter().filter(|(_, measures)| score(measures) <= model).map(|(name, _)| name.as_str()).collect()
    }
}

/// Which forecasts are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Every one whose horizon is after the model's validation, or all of a table that reaches no further.
    AfterValidation,
    /// Those of the model's test part.
    Test,
    /// Those of its validation part.
    Validation,
    /// So many, a horizon apart, up to the table's end.
    Last(usize),
}

/// Fewer errors on the validation part than these say nothing of a quantile.
const FEW_ERRORS: usize = 40;

impl TrainedForecast {
    /// Opens a run folder, or a model file wherever it lies.
    ///
    /// # Errors
    /// What is neither, is damaged, or is a model of another task.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let folder = path.is_dir().then(|| RunFolder::open(path)).transpose()?;
        let stored = folder.as_ref().map(ForecastConfig::load).transpose()?;
        let file = folder.as_ref().map_or(path.to_owned(), RunFolder::model);
        if let Some(folder) = &folder
            && !file.exists()
            && folder.checkpoint().exists()
        {
            return Err(TrainError::NoModel { folder: folder.path().to_owned() });
        }
        let contents = read(&file)?;
        let card = card(&contents, &file)?;
        TaskKind::of_settings(&card.config, &file)?.check(ForecastConfig::TASKS, &file)?;
        let noted = ForecastConfig::noted(&card.config, &file)?;
        if let Some((folder, stored)) = folder.as_ref().zip(stored.as_ref()) {
            stored.check_against(&card.config, ForecastConfig::lasting, folder, &file)?;
        }
        let config = stored.unwrap_or(noted);
        let damaged = |why: String| FormatError::Unusable { path: file.clone(), why };
        let text = contents.texts.get(FRAME);
        let text = text.ok_or_else(|| damaged("it says nothing of its scalers; restore it from a copy".to_owned()))?;
        let frame: Frame = serde_json::from_str(text)
            .map_err(|e| damaged(format!("its scalers cannot be read ({e}); restore it from a copy")))?;
        let fits = frame.widen.len() == LEVELS.len()
            && frame.scalers.values().all(|scalers| scalers.len() == config.columns.target.len())
            && frame.known.len() == config.columns.known.len()
            && frame.fixed.len() == config.columns.fixed.len();
        if !fits {
            return Err(damaged("its scalers are not those of its columns; restore it from a copy".to_owned()).into());
        }
        let model = ForecastModel::new(&config, frame.input(config.columns.target.len()))?;
        let params = model_params(model.layout(), contents, &file)?;
        Ok(Self { path: file, config, frame, model, params, card })
    }

    /// The series of a table, to be forecast or measured on.
    ///
    /// # Errors
    /// A table that does not fit the model.
    pub fn read(&self, table: &Table) -> Result<Dataset, TrainError> {
        Dataset::read_with(table, &self.config, &self.frame)
    }

    /// The series of the table that it was trained on, read again.
    ///
    /// # Errors
    /// A model file, which does not say where its table lies; a table that is no longer there or no longer the same.
    pub fn read_own(&self) -> Result<Dataset, TrainError> {
        let Some(path) = &self.config.columns.table else {
            return Err(unusable(format!(
                "{} is a model by itself, and does not say where its table lies; give a table, or the folder of its run",
                self.path.display()
            )));
        };
        let dataset = self.read(&Table::read(path)?)?;
        if !self.card.text.is_empty() && dataset.fingerprint != self.card.text {
            return Err(unusable(format!(
                "{} changed since the model was trained on it, so its test part is another; restore it, name it after the run to measure \
                 on it as it is now, or train again",
                path.display()
            )));
        }
        Ok(dataset)
    }

    /// The forecasts of windows on the series' scale, `[windows, horizon, targets]`.
    fn forecasts(&self, dataset: &Dataset, windows: &[Window]) -> Vec<Forecast> {
        let (targets, horizon) = (dataset.targets, self.config.horizon);
        let (mut batch, mut tape) = (ForecastBatch::default(), self.model.frozen_tape());
        let mut all = Vec::with_capacity(windows.len() * horizon * targets);
        for windows in windows.chunks(self.config.training.batch.max(64)) {
            batch.fill(dataset, &self.config, windows, false);
            let forecasts = self.model.forecasts(&self.params, &batch, &mut tape);
            for (row, window) in windows.iter().enumerate() {
                for step in 0..horizon {
                    for target in 0..targets {
                        let forecast = self.widened(forecasts[(step * windows.len() + row) * targets + target]);
                        let scaler = dataset.series[window.series].scalers[target];
                        all.push(match self.config.likelihood.counts() {
                            true => forecast.map(|value| scaler.scale(value)),
                            false => forecast,
                        });
                    }
                }
            }
        }
        all
    }

    /// A forecast whose quantiles are as far from the median as those of the validation part had to be.
    fn widened(&self, forecast: Forecast) -> Forecast {
        let median = forecast.quantiles[MEDIAN];
        let mut quantiles = forecast.quantiles;
        for (quantile, factor) in quantiles.iter_mut().zip(&self.frame.widen) {
            *quantile = median + factor * (*quantile - median);
        }
        Forecast { quantiles, ..forecast }
    }

    /// The forecasts for the time after the last value of every series of a table.
    ///
    /// # Errors
    /// A table that does not fit the model, or does not say what is known of the time to come.
    pub fn predict(&self, table: &Table) -> Result<(Vec<Predicted>, Dataset), TrainError> {
        let mut dataset = self.read(table)?;
        dataset.extend(self.config.horizon, table.path())?;
        let windows = dataset.last_windows();
        let forecasts = self.forecasts(&dataset, &windows);
        let (targets, horizon) = (dataset.targets, self.config.horizon);
        let has_quantiles = self.config.likelihood != super::head::Likelihood::Point;
        let mut all = Vec::new();
        for (number, window) in windows.iter().enumerate() {
            let series = &dataset.series[window.series];
            for step in 0..horizon {
                let stamp = dataset.frame.step.after(series.start, (window.origin + step) as i64);
                for target in 0..targets {
                    let scaler = series.scalers[target];
                    let forecast = forecasts[(number * horizon + step) * targets + target];
                    let forecast = forecast.map(|value| scaler.restore(value));
                    // Counts that went through a scale are whole again.
                    let forecast = match self.config.likelihood.counts() {
                        true => {
                            Forecast { quantiles: forecast.quantiles.map(|value| value.round().max(0.0)), ..forecast }
                        }
                        false => forecast,
                    };
                    all.push(Predicted {
                        time: series.clock(dataset.frame.clock, window.origin + step).write(stamp),
                        series: series.name.clone(),
                        target: self.config.columns.target[target].clone(),
                        point: forecast.point,
                        quantiles: if has_quantiles { forecast.quantiles.to_vec() } else { Vec::new() },
                    });
                }
            }
        }
        Ok((all, dataset))
    }

    /// The windows of the table whose forecasts are asked for.
    fn windows(&self, dataset: &Dataset, origins: Origins) -> Result<Vec<Window>, TrainError> {
        let start = dataset.series.iter().map(|series| series.start).min().unwrap_or(0);
        let steps = dataset.series.iter().map(|series| series.offset + series.observed).max().unwrap_or(0);
        let after = |stamp: Stamp| (dataset.frame.step.between(start, stamp) + 1).clamp(0, steps as i64) as usize;
        let [train, valid, test] = self.frame.until.map(after);
        let config = &self.config;
        let windows = match origins {
            Origins::Test => dataset.windows(config, valid, test, 1),
            Origins::Validation => dataset.windows(config, train, valid, 1),
            Origins::AfterValidation => {
                let after = dataset.windows(config, valid, steps, 1);
                if after.is_empty() { dataset.windows(config, 0, steps, 1) } else { after }
            }
            Origins::Last(count) => {
                let mut windows = Vec::new();
                for (number, series) in dataset.series.iter().enumerate() {
                    for fold in (1..=count).rev() {
                        let origin = series.observed.checked_sub(fold * config.horizon);
                        let origin = origin.filter(|origin| *origin >= super::dataset::least_context(config));
                        let origin = origin.ok_or_else(|| {
                            unusable(format!(
                                "{} {} steps, too few for `backtest` of {count} forecasts of {} steps one after the other; give fewer",
                                super::dataset::of_series(&series.name, "has"),
                                series.observed,
                                config.horizon
                            ))
                        })?;
                        windows.push(Window { series: number, origin });
                    }
                }
                windows
            }
        };
        if windows.is_empty() {
            return Err(unusable(format!(
                "the table has no stretch of {} with values before and in it, so nothing can be measured; give a longer one",
                count(config.horizon, "step")
            )));
        }
        Ok(windows)
    }

    /// The measures of the model and its baselines on a table.
    ///
    /// # Errors
    /// A table that does not fit the model, or has nothing to be measured on.
    pub fn compare(&self, table: &Table, origins: Origins) -> Result<Comparison, TrainError> {
        self.compare_on(&self.read(table)?, origins)
    }

    /// The same of series that were read already.
    ///
    /// # Errors
    /// Series that have nothing to be measured on.
    pub fn compare_on(&self, dataset: &Dataset, origins: Origins) -> Result<Comparison, TrainError> {
        let windows = self.windows(dataset, origins)?;
        let (targets, horizon) = (dataset.targets, self.config.horizon);
        let naive: Vec<f64> = dataset
            .series
            .iter()
            .flat_map(|series| (0..targets).map(move |target| naive_error(dataset, series, target)))
            .collect();
        let tally = |forecasts: &[Forecast], mut each: Option<&mut Vec<Tally>>| {
            let mut tally = Tally::default();
            for (number, window) in windows.iter().enumerate() {
                let series = &dataset.series[window.series];
                for step in 0..horizon {
                    for target in 0..targets {
                        let value = series.scaled(window.origin + step, target);
                        if value.is_nan() {
                            continue;
                        }
                        let forecast = &forecasts[(number * horizon + step) * targets + target];
                        let (scaler, naive) = (series.scalers[target], naive[window.series * targets + target]);
                        tally.add(forecast, value, scaler, naive);
                        if let Some(each) = &mut each {
                            each[step].add(forecast, value, scaler, naive);
                        }
                    }
                }
            }
            tally.measures()
        };
        let mut each = vec![Tally::default(); horizon];
        let model = tally(&self.forecasts(dataset, &windows), Some(&mut each));
        let baselines = Baseline::ALL
            .into_iter()
            .map(|baseline| (baseline.name().to_owned(), tally(&baseline.forecasts(dataset, &windows, horizon), None)));
        let stamps = windows.iter().map(|window| {
            let start = dataset.series[window.series].start;
            [0, horizon - 1].map(|step| dataset.frame.step.after(start, (window.origin + step) as i64))
        });
        let (from, to) =
            stamps.fold((Stamp::MAX, Stamp::MIN), |(from, to), [first, last]| (from.min(first), to.max(last)));
        let baselines = baselines.collect();
        Ok(Comparison {
            from: dataset.clock_of(from).write(from),
            to: dataset.clock_of(to).write(to),
            origins: windows.len(),
            season: dataset.frame.season,
            model,
            baselines,
            by_step: each.iter().map(|tally| tally.measures().mae_scaled).collect(),
        })
    }

    /// Finds how far each quantile has to be from the median so that it is one on the validation part, and notes it in the model's file
    /// (Romano 2019, by a factor for each level). A network is surer of what it has learned from than of what comes later.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn calibrate(&mut self, dataset: &Dataset) -> Result<(), TrainError> {
        self.frame.widen = vec![1.0; LEVELS.len()];
        let windows = self.windows(dataset, Origins::Validation)?;
        let forecasts = self.forecasts(dataset, &windows);
        let (targets, horizon) = (dataset.targets, self.config.horizon);
        let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); LEVELS.len()];
        for (number, window) in windows.iter().enumerate() {
            for step in 0..horizon {
                for target in 0..targets {
                    let value = dataset.series[window.series].scaled(window.origin + step, target);
                    let forecast = &forecasts[(number * horizon + step) * targets + target];
                    let median = forecast.quantiles[MEDIAN];
                    for (ratios, quantile) in ratios.iter_mut().zip(forecast.quantiles) {
                        let distance = (quantile - median).abs();
                        if !value.is_nan() && distance > 0.0 {
                            ratios.push((value - median) / distance);
                        }
                    }
                }
            }
        }
        // Both sides of a level by one factor: the validation part's own drift is no rule for what comes.
        for outer in 0..MEDIAN {
            let inner = LEVELS.len() - 1 - outer;
            let mut both: Vec<f64> =
                ratios[outer].iter().map(|ratio| -ratio).chain(ratios[inner].iter().copied()).collect();
            if both.len() < FEW_ERRORS {
                continue;
            }
            both.sort_by(f64::total_cmp);
            let at = ((both.len() as f64 * LEVELS[inner]).ceil() as usize).min(both.len() - 1);
            let factor = both[at].clamp(0.5, 2.0);
            (self.frame.widen[outer], self.frame.widen[inner]) = (factor, factor);
        }
        self.keep_order();
        self.save(&self.path)
    }

    /// Makes no factor smaller than those nearer to the median, so that quantiles that did not cross still do not.
    fn keep_order(&mut self) {
        for outer in (0..MEDIAN - 1).rev() {
            let inner = LEVELS.len() - 1 - outer;
            let least = self.frame.widen[outer + 1];
            let factor = self.frame.widen[outer].max(least);
            (self.frame.widen[outer], self.frame.widen[inner]) = (factor, factor);
        }
    }

    /// Writes the whole model into one file.
    ///
    /// # Errors
    /// A place that cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let text = serde_json::to_string(&self.frame)
            .map_err(|e| unusable(format!("the scalers cannot be described: {e}")))?;
        let texts = [(FRAME.to_owned(), text)].into();
        Ok(save_model(path, &self.params, &self.card, &texts)?)
    }
}

impl Frame {
    /// How the values of a step lie in the model's input.
    fn input(&self, targets: usize) -> InputLayout {
        let of = |encoders: &[super::dataset::Encoder]| encoders.iter().map(|encoder| encoder.width()).sum::<usize>();
        let cycles: usize = self.cycles.iter().map(|cycle| cycle.width()).sum();
        InputLayout { targets, known: cycles + of(&self.known), fixed: of(&self.fixed) }
    }
}
