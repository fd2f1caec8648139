//! The tasks that a run can be of: the one list of them, and how a run or a model file says its own.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::formats::safetensors::document;
use crate::formats::{FormatError, read_bounded};
use crate::named::named;
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::run::settings::MOST_BYTES;
use crate::setting::ConfigError;

/// What a model is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// The next token of a text.
    #[default]
    Language,
    /// A label for each text or sequence.
    Classify,
    /// A label for each word of a text.
    Tag,
    /// Numbers for each text or sequence.
    Regress,
    /// What comes next in a table with time stamps.
    Forecast,
}

named!(TaskKind, "task", "language" => Language, "classify" => Classify, "tag" => Tag, "regress" => Regress, "forecast" => Forecast);

impl TaskKind {
    /// Every task.
    pub const ALL: [Self; 5] = [Self::Language, Self::Classify, Self::Tag, Self::Regress, Self::Forecast];

    /// What its losses are means over, of which so many are trained on in a second.
    pub fn counted(self) -> &'static str {
        match self {
            Self::Language => "tokens",
            Self::Tag => "words",
            Self::Forecast => "values",
            Self::Classify | Self::Regress => "examples",
        }
    }

    /// The task of a run folder or a model file. What says none is of language, as is what is no model of this program: who opens it says
    /// what it is.
    ///
    /// # Errors
    /// A folder that is no run, or a task that this program does not know.
    pub fn of(path: &Path) -> Result<Self, TrainError> {
        if path.is_file() {
            let noted = document(path).unwrap_or_default();
            return Ok(Self::of_settings(&noted["config"], path)?);
        }
        Ok(Self::in_folder(&RunFolder::open(path)?)?)
    }

    /// The task of a run.
    pub(crate) fn in_folder(folder: &RunFolder) -> Result<Self, FormatError> {
        let file = folder.config();
        let text = read_bounded(&file, MOST_BYTES)?;
        // One that is damaged is described by who loads it.
        let settings: Value = toml::from_str(&String::from_utf8_lossy(&text)).unwrap_or_default();
        Self::of_settings(&settings, &file)
    }

    /// The task that settings name, those of `file`.
    pub(crate) fn of_settings(settings: &Value, file: &Path) -> Result<Self, FormatError> {
        let Some(name) = settings["task"].as_str() else { return Ok(Self::Language) };
        name.parse().map_err(|error: ConfigError| FormatError::Unusable {
            path: file.to_owned(),
            why: format!("{error}; it is of a newer version: update the program"),
        })
    }

    /// Refuses a model of this task where one of `expected` is needed, found in `file`.
    pub(crate) fn check(self, expected: &[Self], file: &Path) -> Result<(), FormatError> {
        if expected.is_empty() || expected.contains(&self) {
            return Ok(());
        }
        let expected: Vec<String> = expected.iter().map(Self::to_string).collect();
        let why = format!(
            "it is of the task {self}, and this needs a model of the task {}; give such a one (lstm show, lstm eval and lstm predict go by \
             the model's own task)",
            expected.join(" or ")
        );
        Err(FormatError::Unusable { path: file.to_owned(), why })
    }
}
