//! A run as lists and pages speak of it, whatever its task: its settings, what it was trained on, what its losses are read as.

use serde_json::{Value, json};

use super::config::RunConfig;
use super::folder::RunFolder;
use super::saved::ModelCard;
use super::settings::Settings;
use super::task_kind::TaskKind;
use super::training::Training;
use crate::forecast::ForecastConfig;
use crate::formats::FormatError;
use crate::formats::safetensors::values;
use crate::model::{LanguageModel, Loss};
use crate::nn::config::{ConfigError, LstmConfig};
use crate::said::count;
use crate::sequence::config::SequenceConfig;

/// The settings of a run of any task.
#[derive(Clone, Debug)]
pub struct About {
    /// Its task.
    pub task: TaskKind,
    /// How it is trained.
    pub training: Training,
    /// Everything, as `config.toml` has it.
    pub settings: Value,
    /// What it was trained on.
    pub source: String,
    /// What it reads of that, in a few words.
    pub reads: String,
    /// Its model, in a few words.
    pub model: String,
    /// The settings of a language model, which has more to show.
    pub language: Option<RunConfig>,
}

impl About {
    /// That of the run in `folder`.
    ///
    /// # Errors
    /// A configuration that cannot be read.
    pub fn load(folder: &RunFolder) -> Result<Self, FormatError> {
        let task = TaskKind::in_folder(folder)?;
        match task {
            TaskKind::Language => {
                let config = RunConfig::load(folder)?;
                Ok(Self {
                    source: config.data.source(),
                    reads: config.tokenizer.noun().to_owned(),
                    model: config.model.to_string(),
                    language: Some(config.clone()),
                    ..Self::of(&config, task)
                })
            }
            TaskKind::Forecast => {
                let config = ForecastConfig::load(folder)?;
                let columns = &config.columns;
                Ok(Self {
                    source: columns.table.as_ref().map_or("a table".to_owned(), |path| path.display().to_string()),
                    reads: columns.target.join(", "),
                    model: format!(
                        "{} from {}, {} by {}",
                        count(config.horizon, "step"),
                        config.context,
                        config.likelihood,
                        layers(&config.lstm)
                    ),
                    ..Self::of(&config, task)
                })
            }
            _ => {
                let config = SequenceConfig::load(folder)?;
                let pooling = config.model.pooling.map_or(String::new(), |pooling| format!(", pooled by {pooling}"));
                Ok(Self {
                    source: config.data.train.as_ref().map_or("data".to_owned(), |path| path.display().to_string()),
                    reads: match config.features_of_a_step() {
                        0 => config.tokenizer.noun().to_owned(),
                        1 => "one value a step".to_owned(),
                        values => format!("{values} values a step"),
                    },
                    model: format!("{} outputs, {}{pooling}", config.model.outputs, layers(&config.model.lstm)),
                    ..Self::of(&config, task)
                })
            }
        }
    }

    /// Refuses settings that were changed since the best model of the run in `folder` was written, as opening it does.
    ///
    /// # Errors
    /// The setting, with both values.
    pub(crate) fn check_model(&self, card: &ModelCard, folder: &RunFolder) -> Result<(), FormatError> {
        fn check<S: Settings>(card: &ModelCard, folder: &RunFolder) -> Result<(), FormatError> {
            S::load(folder)?.check_against(&card.config, S::lasting, folder, &folder.model())
        }
        match self.task {
            TaskKind::Language => check::<RunConfig>(card, folder),
            TaskKind::Forecast => check::<ForecastConfig>(card, folder),
            _ => check::<SequenceConfig>(card, folder),
        }
    }

    fn of(config: &impl Settings, task: TaskKind) -> Self {
        Self {
            task,
            training: config.training().clone(),
            settings: json!(config),
            source: String::new(),
            reads: String::new(),
            model: String::new(),
            language: None,
        }
    }

    /// What a loss is read as: the perplexity of a language model, the mean loss of another.
    pub fn figure(&self, loss: Loss) -> f64 {
        if self.language.is_some() { loss.perplexity() } else { loss.mean() }
    }

    /// What that is called.
    pub fn figure_name(&self) -> &'static str {
        if self.language.is_some() { "perplexity" } else { "loss" }
    }

    /// What stands behind the name of a part whose figure is no perplexity.
    pub(crate) fn of_loss(&self) -> &'static str {
        if self.language.is_some() { "" } else { " loss" }
    }

    /// A figure as people read it.
    pub fn shown(&self, figure: f64) -> String {
        match figure {
            figure if figure.abs() >= 1e6 || !figure.is_finite() => format!("{figure:.1e}"),
            figure if self.language.is_some() => format!("{figure:.2}"),
            figure => format!("{figure:.4}"),
        }
    }

    /// The number of its parameters; `None` where there is no model yet to count them of.
    ///
    /// # Errors
    /// A language model that cannot be built.
    pub fn parameters(&self, folder: &RunFolder) -> Result<Option<usize>, ConfigError> {
        match &self.language {
            Some(config) => Ok(Some(LanguageModel::new(config.model.clone())?.layout().len())),
            None => Ok(values(&folder.model())),
        }
    }
}

/// Layers in a few words.
fn layers(lstm: &LstmConfig) -> String {
    format!(
        "{} of {}{}",
        count(lstm.layers, "layer"),
        lstm.hidden,
        if lstm.bidirectional { " in two directions" } else { "" }
    )
}
