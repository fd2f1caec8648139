//! How a run of a forecast begins, and how it goes on: from a table to a [`Trainer`].

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::config::{Columns, ForecastConfig};
use super::dataset::{Dataset, unusable};
use super::plan::{Plan, plan};
use super::task::Forecasting;
use super::trained::{Comparison, Origins, TrainedForecast};
use crate::data::{Clock, Table};
use crate::run::error::TrainError;
use crate::run::folder::Claim;
use crate::train::trainer::start::Stopped;
use crate::train::trainer::{Extension, Trainer};

impl Columns {
    /// Finds the column of time stamps and the target where they are not named and only one column can be it. Gives what it found, to be
    /// said.
    ///
    /// # Errors
    /// None that can be it, or several, with their names.
    pub fn guess(&mut self, table: &Table) -> Result<Vec<String>, TrainError> {
        /// The rows that say what a column is.
        const LOOKED_AT: usize = 50;
        let (path, rows) = (table.path().display(), table.rows().min(LOOKED_AT));
        let mut said = Vec::new();
        let quoted = |names: &[&String]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        if self.time.is_empty() {
            const NAMES: [&str; 6] = ["date", "time", "datetime", "timestamp", "ds", "month"];
            // A few cells that are none are the table's defects, which are said by line; many are another column.
            let is_time = |name: &&String| {
                let Ok(column) = table.column(name) else { return false };
                let is_named = NAMES.iter().any(|own| name.eq_ignore_ascii_case(own));
                let is_stamp = |row: usize| {
                    Clock::parse(table.cell(row, column)).is_ok_and(|(_, clock)| clock.is_time() || is_named)
                };
                (0..rows).filter(|row| is_stamp(*row)).count() * 10 >= rows * 8
            };
            let found: Vec<&String> = table.columns().iter().filter(is_time).collect();
            let [time] = found[..] else {
                let what = if found.is_empty() { "no column has" } else { "several columns have" };
                let names = if found.is_empty() { table.columns().iter().take(30).collect() } else { found };
                return Err(unusable(format!(
                    "{path}: {what} time stamps; name the one by `time`: {}",
                    quoted(&names)
                )));
            };
            self.time = time.clone();
            said.push(format!("the time is \"{time}\""));
        }
        if self.target.is_empty() {
            let others: Vec<&String> =
                [&self.time].into_iter().chain(&self.series).chain(&self.known).chain(&self.fixed).collect();
            let is_free = |name: &&String| {
                !others.contains(name) && table.column(name).is_ok_and(|column| table.is_numeric(column))
            };
            let found: Vec<&String> = table.columns().iter().filter(is_free).collect();
            let [target] = found[..] else {
                let why = match found.is_empty() {
                    true => format!(
                        "{path}: no column beside those that are named has numbers; name the one to forecast by `target`"
                    ),
                    false => format!(
                        "{path}: several columns have numbers; name the one to forecast by `target`: {}",
                        quoted(&found)
                    ),
                };
                return Err(unusable(why));
            };
            self.target = vec![target.clone()];
            said.push(format!("the target is \"{target}\""));
        }
        Ok(said)
    }
}

/// A run that is about to begin: its settings and its series.
#[derive(Debug)]
pub struct Prepared {
    /// The settings, everything resolved.
    pub config: ForecastConfig,
    /// The series.
    pub dataset: Arc<Dataset>,
    /// What was guessed of the table's columns.
    pub guessed: Vec<String>,
    /// Since when.
    started: Instant,
}

impl Prepared {
    /// Reads the table of a run. A horizon, a context or a split that is not given (0, or empty) becomes what suits the table.
    ///
    /// # Errors
    /// A table that cannot be used, with line and column.
    pub fn read(mut config: ForecastConfig) -> Result<Self, TrainError> {
        let started = Instant::now();
        let path = config.columns.table.clone().ok_or_else(|| unusable("no table is given".to_owned()))?;
        let table = Table::read(&path)?;
        let guessed = config.columns.guess(&table)?;
        let dataset = Arc::new(Dataset::read(&table, &mut config)?);
        Ok(Self { config, dataset, guessed, started })
    }

    /// Chooses what is not `given` for the table and `seconds` altogether.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn plan(
        &mut self,
        seconds: f64,
        given: &dyn Fn(&mut ForecastConfig),
        tell: &mut dyn FnMut(&str),
    ) -> Result<Plan, TrainError> {
        let left = seconds - self.started.elapsed().as_secs_f64();
        let mut plan = plan(&self.config, &self.dataset, left, given, tell)?;
        // Of the run the time before it is a part.
        plan.config.training.budget =
            plan.config.training.budget.map(|left| left + self.started.elapsed().as_secs_f64());
        self.config = plan.config.clone();
        Ok(plan)
    }

    /// Begins the run in a folder that was claimed for it. A table from standard input that was written there is kept as the run's.
    ///
    /// # Errors
    /// Settings that cannot be used, or a folder that cannot be written; nothing is left behind.
    pub fn begin(mut self, claim: Claim) -> Result<Trainer<Forecasting>, TrainError> {
        if claim.spooled().is_some() {
            self.config.columns.table = Some(claim.folder().own_text()?);
        }
        let task = Forecasting::new(self.config, self.dataset)?;
        Trainer::begin_task(task, claim, self.started.elapsed().as_secs_f64())
    }
}

/// Goes on with the run in `folder`; with the table at `extension.train`, if it was moved.
///
/// # Errors
/// A folder that is no run of a forecast, damaged files, or a table that changed.
pub fn resume(folder: &Path, extension: &Extension) -> Result<Trainer<Forecasting>, TrainError> {
    let stopped = Stopped::<ForecastConfig>::open(folder)?;
    let mut config = stopped.extended(extension)?;
    extension.move_data([&mut config.columns.table, &mut None, &mut None])?;
    let path = config.columns.table.clone();
    let path =
        path.ok_or_else(|| unusable("the run does not say where its table lies; name it beside `resume`".to_owned()))?;
    let dataset = Dataset::read(&Table::read(&path)?, &mut config)?;
    let task = Forecasting::new(config, Arc::new(dataset))?;
    stopped.go_on(task, extension.learning_rate)
}

/// Ends a run: its best model's quantiles are set by its validation part, and it is measured beside its baselines on its test part, or
/// where there is none on that of validation.
///
/// # Errors
/// A model that cannot be read or written.
pub fn finish(trainer: &Trainer<Forecasting>) -> Result<(TrainedForecast, Comparison), TrainError> {
    let mut trained = TrainedForecast::open(trainer.folder())?;
    let dataset = trainer.task().dataset();
    trained.calibrate(dataset)?;
    let has_test = dataset.cuts[2] > dataset.cuts[1];
    let comparison = trained.compare_on(dataset, if has_test { Origins::Test } else { Origins::Validation })?;
    Ok((trained, comparison))
}
