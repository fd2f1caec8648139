//! The settings of a run that goes on from a trained model: `[fine_tuning]` of `config.toml`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::LanguageModelConfig;
use crate::named::{named, stored_as_text};
use crate::nn::config::ConfigError;
use crate::optim::parts::{Frozen, check_decay};

/// How a vocabulary goes on to another text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VocabularyChange {
    /// It stays as it is: other words of the text are unknown.
    #[default]
    Keep,
    /// The text's other words come behind it.
    Extend,
    /// It is the text's own; words that both have keep their values.
    Match,
}

named!(VocabularyChange, "change of the vocabulary", "keep" => Keep, "extend" => Extend, "match" => Match);
stored_as_text!(VocabularyChange);

impl VocabularyChange {
    /// Whether the tokens of the text are counted, so that settings of that have a part.
    pub fn counts(self) -> bool {
        self != Self::Keep
    }
}

/// Where a run starts from, if that is a trained model, and which of its parts are trained how: the table `[fine_tuning]` of `config.toml`.
/// The values themselves are in the run's first checkpoint, so that it never asks for the model again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FineTuning {
    /// The run folder or model file; `None` for a run from its own initial values.
    pub from: Option<PathBuf>,
    /// The checksum of its parameters.
    pub parameters: Option<String>,
    /// How its vocabulary went on to the text.
    pub vocabulary: VocabularyChange,
    /// The parts that are not trained.
    pub freeze: Frozen,
    /// The rate of a layer is so many times that of the layer above it, the embedding's of the first layer's.
    pub layer_rate_decay: f32,
}

impl Default for FineTuning {
    /// A run of its own, all of it at one rate.
    fn default() -> Self {
        Self {
            from: None,
            parameters: None,
            vocabulary: VocabularyChange::Keep,
            freeze: Frozen::default(),
            layer_rate_decay: 1.0,
        }
    }
}

impl FineTuning {
    /// Refuses parts that `model` has not, and rates that are none.
    pub(crate) fn validate(&self, model: &LanguageModelConfig) -> Result<(), ConfigError> {
        check_decay(self.layer_rate_decay)?;
        self.freeze.validate(model.lstm.layers, model.tied)
    }
}
