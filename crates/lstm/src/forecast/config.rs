//! The settings of a forecast: which columns of which table, how far ahead from how much before, and the model.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::head::Likelihood;
use crate::formats::FormatError;
use crate::named::{named, stored_as_text};
use crate::nn::config::{ConfigError, Init, InitScheme, LstmConfig, at_least_one, rate, within};
use crate::optim::averaging::Averaging;
use crate::optim::muon::MuonSettings;
use crate::optim::optimizer::{AdamSettings, OptimizerKind};
use crate::optim::schedule::{Schedule, ScheduleKind, Warmup};
use crate::run::folder::RunFolder;
use crate::run::settings::Settings;
use crate::run::task_kind::TaskKind;
use crate::run::training::{Training, Wire};

/// What every window is measured from, so that a model sees shapes and not levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalise {
    /// The window's last value, on the series' scale (Zeng 2023).
    #[default]
    Last,
    /// The mean and the deviation of the window's values (Kim 2022, without its learned part).
    Window,
    /// The mean and the deviation of the series' training part.
    Series,
}

named!(Normalise, "normalisation", "last" => Last, "window" => Window, "series" => Series);
stored_as_text!(Normalise);

/// The table, and what its columns are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Where the table lies.
    pub table: Option<PathBuf>,
    /// The column of time stamps.
    pub time: String,
    /// The columns that are forecast.
    pub target: Vec<String>,
    /// The column that tells several series apart.
    pub series: Option<String>,
    /// Columns whose values are known for the time that is forecast too: holidays, prices, plans.
    #[serde(default)]
    pub known: Vec<String>,
    /// Columns that have one value a series.
    #[serde(default)]
    pub fixed: Vec<String>,
}

/// A forecast's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastConfig {
    /// What is learned: a forecast.
    pub task: TaskKind,
    /// The steps that are forecast.
    pub horizon: usize,
    /// The steps before them that are read.
    pub context: usize,
    /// What is said of every value.
    pub likelihood: Likelihood,
    /// What a window is measured from.
    pub normalise: Normalise,
    /// Whether a linear map from the context to the horizon is added to what the layers say (Lai 2018).
    pub linear: bool,
    /// The rate of dropout between layers and before the head.
    pub dropout: f32,
    /// The parts of the table's time for training, validation and test: percentages that add up to 100, or numbers of steps.
    pub split: Vec<u32>,
    /// The table.
    pub columns: Columns,
    /// The layers; their input is what the columns give.
    pub lstm: LstmConfig,
    /// How it is trained.
    pub training: Training,
}

/// The most steps of a context and a horizon together.
const MOST_STEPS: usize = 100_000;

/// The split where nothing is said.
pub const SPLIT: [u32; 3] = [70, 10, 20];

impl ForecastConfig {
    /// The settings of a forecast of these columns where nothing else is said.
    pub fn new(columns: Columns, horizon: usize, context: usize) -> Self {
        let schedule = Schedule {
            kind: ScheduleKind::Cosine,
            learning_rate: 2e-3,
            warmup: Warmup::Share(0.05),
            ..Schedule::step(2e-3, 1.0, 1)
        };
        let training = Training {
            seed: 1,
            batch: 64,
            precision: Default::default(),
            accumulate: 1,
            shards: None,
            wire: Wire::F32,
            epochs: Some(20),
            steps: None,
            budget: None,
            patience: Some(5),
            clip: Some(1.0),
            optimizer: OptimizerKind::AdamW,
            average: Averaging::Ema(0.99),
            weight_decay: 0.01,
            weight_decay_shares: None,
            adam: AdamSettings::default(),
            muon: MuonSettings::default(),
            schedule,
            init: Init { scheme: InitScheme::Torch, forget_bias: Some(1.0) },
            keep_checkpoints: 0,
            lengthened: None,
            member: None,
        };
        Self {
            task: TaskKind::Forecast,
            horizon,
            context,
            likelihood: Likelihood::default(),
            normalise: Normalise::default(),
            linear: true,
            dropout: 0.1,
            split: SPLIT.to_vec(),
            columns,
            lstm: LstmConfig { layers: 1, ..LstmConfig::new(1, 64) },
            training,
        }
    }

    /// Whether the split is one of percentages, and not of steps.
    pub(crate) fn is_in_percent(&self) -> bool {
        self.split.iter().map(|&part| u64::from(part)).sum::<u64>() == 100
    }
}

impl Settings for ForecastConfig {
    const TASKS: &'static [TaskKind] = &[TaskKind::Forecast];

    fn training(&self) -> &Training {
        &self.training
    }

    fn training_mut(&mut self) -> &mut Training {
        &mut self.training
    }

    fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("horizon", self.horizon)?;
        at_least_one("context", self.context)?;
        within(
            "context",
            self.context.saturating_add(self.horizon),
            2..=MOST_STEPS,
            "with the horizon at most 100000 steps",
        )?;
        rate("dropout", self.dropout)?;
        let Columns { time, target, series, known, fixed, .. } = &self.columns;
        if target.is_empty() {
            return Err(ConfigError::Conflict("`target` names no column; name the one to forecast".to_owned()));
        }
        let mut named: Vec<&String> =
            [time].into_iter().chain(target).chain(series).chain(known).chain(fixed).collect();
        named.sort();
        if let Some(pair) = named.windows(2).find(|pair| pair[0] == pair[1]) {
            let why = format!(
                "the column \"{}\" is named twice among `time`, `target`, `series`, `known` and `static`; name it once",
                pair[0]
            );
            return Err(ConfigError::Conflict(why));
        }
        if !(2..=3).contains(&self.split.len()) || self.split[0] == 0 || self.split[1] == 0 {
            let given: Vec<String> = self.split.iter().map(u32::to_string).collect();
            return Err(ConfigError::Conflict(format!(
                "`split` is {}; give two or three percentages that add up to 100, such as 70/10/20, or numbers of steps, such as \
                 8640/2880/2880, of which the first two are not 0",
                given.join("/")
            )));
        }
        self.lstm.validate()?;
        self.training.validate()
    }

    fn places(&self) -> [Option<&Path>; 3] {
        [self.columns.table.as_deref(), None, None]
    }

    fn without_places(&self) -> Self {
        let mut settings = self.clone();
        settings.columns.table = None;
        settings
    }

    fn stored_in(&self, folder: &RunFolder) -> Self {
        let mut settings = self.clone();
        let table = self.columns.table.as_ref().and_then(|table| std::path::absolute(table).ok());
        settings.columns.table = folder.stored(table.as_deref());
        settings
    }

    fn read_from(mut self, folder: &RunFolder) -> Result<Self, FormatError> {
        self.columns.table = folder.located(self.columns.table)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_and_read_and_what_cannot_be_is_refused() {
        let columns = Columns { time: "date".to_owned(), target: vec!["load".to_owned()], ..Columns::default() };
        let config = ForecastConfig::new(columns, 24, 168);
        config.validate().unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<ForecastConfig>(&text).unwrap(), config);
        let said = |change: fn(&mut ForecastConfig)| {
            let mut config = config.clone();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(said(|config| config.horizon = 0).contains("`horizon` is 0"));
        assert!(said(|config| config.columns.target.clear()).contains("`target` names no column"));
        assert!(said(|config| config.columns.known = vec!["load".to_owned()]).contains("\"load\" is named twice"));
        assert!(said(|config| config.split = vec![50, 0, 50]).contains("`split` is 50/0/50"));
    }
}
