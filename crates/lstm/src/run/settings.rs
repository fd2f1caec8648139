//! The settings of a run whatever it trains: what of them decides its bits, and `config.toml`.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::formats::{FormatError, read_bounded, write_bytes};
use crate::nn::config::ConfigError;
use crate::run::earlier::{as_now, without_nt_asgd};
use crate::run::folder::RunFolder;
use crate::run::task_kind::TaskKind;
use crate::run::training::Training;

/// The version of the `config.toml` this program writes.
const VERSION: i64 = 2;

/// The first, which stands in no other tables.
const FIRST: i64 = 1;

/// The most bytes of a `config.toml`, which has some two thousand.
pub(crate) const MOST_BYTES: u64 = 1 << 20;

/// The settings that say how long a run is.
const BOUNDS: [&str; 4] = ["epochs", "steps", "budget", "patience"];

/// Everything that decides a run's bits: the settings of the loop, and those of what it trains beside them.
pub trait Settings: Clone + Debug + PartialEq + Serialize + DeserializeOwned {
    /// The tasks whose settings these can be, by the `task` of `config.toml`; none for a model of one's own, which is not asked for it.
    const TASKS: &'static [TaskKind] = &[];

    /// The settings of the loop.
    fn training(&self) -> &Training;

    /// The same, to change.
    fn training_mut(&mut self) -> &mut Training;

    /// Checks every setting that the model does not check itself.
    ///
    /// # Errors
    /// A sentence naming the setting.
    fn validate(&self) -> Result<(), ConfigError> {
        self.training().validate()
    }

    /// The trained models, run folders or model files, that the run learns from.
    fn learns_from(&self) -> Vec<&Path> {
        Vec::new()
    }

    /// Where the data lie to train on, to validate with and to test with, where those have places of their own.
    fn places(&self) -> [Option<&Path>; 3] {
        [None; 3]
    }

    /// The same without where the data lie, which are proven by themselves and may be moved.
    fn without_places(&self) -> Self {
        self.clone()
    }

    /// The same as it is written into `folder`.
    fn stored_in(&self, _folder: &RunFolder) -> Self {
        self.clone()
    }

    /// The same as it was read from `folder`.
    ///
    /// # Errors
    /// A place that cannot be said.
    fn read_from(self, _folder: &RunFolder) -> Result<Self, FormatError> {
        Ok(self)
    }

    /// Everything that decides the bits of what follows, as it is noted in a checkpoint.
    fn deciding(&self) -> Value {
        let mut settings = self.without_places();
        settings.training_mut().keep_checkpoints = 0;
        json!(settings)
    }

    /// The settings that a model has for good: not how long it was to be trained, which may be changed.
    fn lasting(&self) -> Value {
        let mut settings = self.clone();
        *settings.training_mut() = self.training().of_any_length();
        settings.deciding()
    }

    /// The settings that `file`, a model or a checkpoint, notes.
    ///
    /// # Errors
    /// Settings of another program.
    fn noted(noted: &Value, file: &Path) -> Result<Self, FormatError> {
        serde_json::from_value(as_now(noted.clone())).map_err(|e| FormatError::Unusable {
            path: file.to_owned(),
            why: format!("its settings are none of this program ({e}); use the one that wrote it"),
        })
    }

    /// Refuses settings that were changed since `noted` was, and names the one. `of`: what of them was noted. Files of older
    /// programs noted nothing.
    ///
    /// # Errors
    /// The setting, with both values.
    fn check_against(
        &self,
        noted: &Value,
        of: fn(&Self) -> Value,
        folder: &RunFolder,
        file: &Path,
    ) -> Result<(), FormatError> {
        if noted.is_null() {
            return Ok(());
        }
        // By way of the settings, so that one that was not there yet has its default.
        let before = Self::noted(noted, file)?;
        let Some((name, [was, is])) = difference(&of(&before), &of(self), "") else { return Ok(()) };
        let bound = name.strip_prefix("training.").filter(|name| BOUNDS.contains(name));
        let advice =
            bound.map_or(", or start a new run".to_owned(), |name| format!(" and give `{name}` beside `resume`"));
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        Err(FormatError::Conflict {
            path: folder.config(),
            why: format!(
                "{name} is {is}, but was {was} when {file} was written: it was changed since; undo that{advice}"
            ),
        })
    }

    /// Writes `config.toml`.
    ///
    /// # Errors
    /// A folder that cannot be written.
    fn save(&self, folder: &RunFolder) -> Result<(), FormatError> {
        write_bytes(&folder.config(), &self.to_bytes(folder)?)
    }

    /// The bytes of `config.toml`.
    ///
    /// # Errors
    /// Settings that TOML cannot say.
    fn to_bytes(&self, folder: &RunFolder) -> Result<Vec<u8>, FormatError> {
        let text = toml::to_string(&self.stored_in(folder))
            .map_err(|e| FormatError::Unusable { path: folder.config(), why: format!("cannot be described: {e}") })?;
        Ok(format!("version = {VERSION}\n{text}").into_bytes())
    }

    /// Reads `config.toml`, of this version or the first.
    ///
    /// # Errors
    /// A file that is damaged, or newer than this program.
    fn load(folder: &RunFolder) -> Result<Self, FormatError> {
        let path = folder.config();
        let unusable = |why: String| FormatError::Unusable { path: path.clone(), why };
        let text = String::from_utf8(read_bounded(&path, MOST_BYTES)?)
            .map_err(|_| unusable("it is no text; restore it from a copy".to_owned()))?;
        /// The version alone, whatever stands beside it.
        #[derive(Deserialize)]
        struct Versioned {
            version: Option<toml::Spanned<i64>>,
            task: Option<String>,
        }
        let damaged = |e: String| {
            unusable(format!("it is no configuration of this program; undo the change, or restore it from a copy\n{e}"))
        };
        let Versioned { version, task } = toml::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let version =
            version.ok_or_else(|| unusable(format!("it should say version = {VERSION}; restore it from a copy")))?;
        let number = *version.get_ref();
        if number > VERSION {
            return Err(unusable(format!("its version {number} is newer than {VERSION}; update the program")));
        }
        if number < FIRST {
            return Err(unusable(format!("it should say version = {VERSION}; restore it from a copy")));
        }
        if !Self::TASKS.is_empty() {
            TaskKind::of_settings(&json!({ "task": task }), &path)?.check(Self::TASKS, &path)?;
        }
        // Every other key is one of a setting; blanks in the version's place keep the numbers of the lines.
        let line = text[..version.span().start].rfind('\n').map_or(0, |at| at + 1);
        let settings = [&text[..line], &" ".repeat(version.span().end - line), &text[version.span().end..]].concat();
        let settings: Self = if number == FIRST {
            let settings: Value = toml::from_str(&without_nt_asgd(&settings)).map_err(|e| damaged(e.to_string()))?;
            serde_json::from_value(as_now(settings)).map_err(|e| damaged(e.to_string()))?
        } else {
            toml::from_str(&settings).map_err(|e| damaged(e.to_string()))?
        };
        let settings = settings.read_from(folder)?;
        settings.validate().map_err(|e| unusable(e.to_string()))?;
        Ok(settings)
    }
}

/// What sentences call a setting of a language model that `config.toml` has under this name: `model.lstm.hidden` is `hidden`. Their options
/// are called the same.
pub fn said_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let said = match parts[..] {
        ["batching"] => "batches".to_owned(),
        ["training", "member", ..] => "members".to_owned(),
        [.., "vocabulary", "max_size"] => "vocab-size".to_owned(),
        [.., "init", "scheme"] => "init".to_owned(),
        [.., "schedule", "kind"] => "schedule".to_owned(),
        [.., "adam", "beta1" | "beta2"] => parts[parts.len() - 1].to_owned(),
        [.., "penalties", "activation"] => "ar".to_owned(),
        [.., "penalties", "temporal"] => "tar".to_owned(),
        [.., "lstm", "input"] => "embedding".to_owned(),
        [.., of @ ("dropout" | "zoneout" | "muon"), part] => format!("{of}-{part}"),
        [.., last] => last.to_owned(),
        [] => String::new(),
    };
    said.replace('_', "-")
}

/// The first setting that differs, with both values as `config.toml` has them.
pub(crate) fn difference(was: &Value, is: &Value, name: &str) -> Option<(String, [String; 2])> {
    if let (Value::Object(before), Value::Object(now)) = (was, is) {
        let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let inner = |key: &String| if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        return keys.into_iter().find_map(|key| difference(&was[key], &is[key], &inner(key)));
    }
    (was != is).then(|| (name.to_owned(), [written(was), written(is)]))
}

/// A value as `config.toml` has it.
pub(crate) fn written(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        // A single-precision number has its own few digits; a whole one has all of them.
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(value) if f64::from(value as f32) == value => (value as f32).to_string(),
            _ => number.to_string(),
        },
        value => value.to_string(),
    }
}
