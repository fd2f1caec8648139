//! The settings of a run that learns from trained models beside its text: `[teaching]` of `config.toml`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::LanguageModelConfig;
use crate::nn::config::{ConfigError, within};

/// Whose probabilities a run learns beside its text (distillation: Hinton 2015), and how much of what it learns they are: the table
/// `[teaching]` of `config.toml`. A resumed run reads the models again, which must be the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Teaching {
    /// The run folders or model files whose mean teaches; none for a run that learns from its text alone.
    pub models: Vec<PathBuf>,
    /// The checksums of their parameters.
    pub parameters: Vec<String>,
    /// α, the weight of the teachers; that of the token that came is 1 − α.
    pub weight: f32,
}

impl Default for Teaching {
    /// Nobody teaches.
    fn default() -> Self {
        Self { models: Vec::new(), parameters: Vec::new(), weight: 0.5 }
    }
}

impl Teaching {
    /// Whether nobody teaches.
    pub fn is_none(&self) -> bool {
        self.models.is_empty() && self.parameters.is_empty()
    }

    /// Refuses a weight that is none, and what needs other scores of a step than teachers do.
    pub(crate) fn validate(&self, model: &LanguageModelConfig, candidates: Option<usize>) -> Result<(), ConfigError> {
        within("teach-weight", self.weight, 1e-6..=1.0, "a share above 0 and up to 1")?;
        if self.is_none() {
            return Ok(());
        }
        let of_every_token = "teachers speak of every token, so every step needs the probability of each";
        let (what, leave) = if candidates.is_some() {
            ("a sampled softmax scores a few", "`candidates`")
        } else if model.softmaxes > 1 {
            ("a mixture of softmaxes has only the target's", "`softmaxes`")
        } else if model.penalties.label_smoothing > 0.0 {
            ("label smoothing raises all tokens alike in their place", "`label-smoothing`")
        } else {
            return Ok(());
        };
        Err(ConfigError::Conflict(format!("{of_every_token}, but {what}; leave {leave} or `teach` out")))
    }
}
