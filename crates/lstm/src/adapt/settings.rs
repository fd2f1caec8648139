//! The settings of adaptation, and the file of a run folder that keeps them: `adaptation.toml`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::formats::{FormatError, read_bounded, write_bytes};
use crate::nn::config::{ConfigError, at_least_one, rate, within};
use crate::nn::params::Params;
use crate::run::folder::RunFolder;

/// The version of the `adaptation.toml` this program writes.
const VERSION: u32 = 2;

/// How a model follows the text it is measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adaptation {
    /// The continuous cache: what followed similar outputs (Grave 2017).
    Cache,
    /// Dynamic evaluation: it goes on learning (Krause 2018).
    Dynamic,
    /// A cache beside the model that goes on learning.
    Both,
}

impl Adaptation {
    /// Whether a cache takes part.
    pub fn has_cache(self) -> bool {
        self != Self::Dynamic
    }

    /// Whether the model goes on learning.
    pub fn is_dynamic(self) -> bool {
        self != Self::Cache
    }
}

impl fmt::Display for Adaptation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cache => "cache",
            Self::Dynamic => "dynamic",
            Self::Both => "both",
        })
    }
}

impl FromStr for Adaptation {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        match value {
            "cache" => Ok(Self::Cache),
            "dynamic" => Ok(Self::Dynamic),
            "both" => Ok(Self::Both),
            _ => Err(ConfigError::Unknown {
                kind: "adaptation",
                value: value.to_owned(),
                choices: "cache, dynamic, both",
            }),
        }
    }
}

/// The settings of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSettings {
    /// θ, how much more an output that is alike counts.
    pub theta: f32,
    /// λ, the weight of the cache; the model's is 1 - λ.
    pub weight: f32,
    /// W, the latest positions that are looked back at.
    pub window: usize,
}

impl CacheSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// A sentence naming the setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        zero_or("cache-theta", self.theta)?;
        rate("cache-weight", self.weight)?;
        at_least_one("cache-window", self.window)?;
        within("cache-window", self.window, 1..=MOST_TOKENS, "a number of tokens from 1 to 1000000000")
    }
}

/// The settings of dynamic evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicSettings {
    /// η, the learning rate.
    pub rate: f32,
    /// λ, how strongly parameters are drawn back to their trained values.
    pub decay: f32,
    /// n, the tokens of a column that are scored before they are learned from.
    pub segment: usize,
    /// The parts of the text that are read side by side; every step learns from a segment of each.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub columns: usize,
}

fn one() -> usize {
    1
}

/// Files from before there were columns have none.
fn is_one(columns: &usize) -> bool {
    *columns == 1
}

impl DynamicSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// A sentence naming the setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        zero_or("dynamic-rate", self.rate)?;
        zero_or("dynamic-decay", self.decay)?;
        at_least_one("dynamic-segment", self.segment)?;
        within("dynamic-segment", self.segment, 1..=MOST_TOKENS, "a number of tokens from 1 to 1000000000")?;
        at_least_one("dynamic-columns", self.columns)?;
        within("dynamic-columns", self.columns, 1..=MOST_COLUMNS, "a number of columns from 1 to 1024")
    }
}

/// More columns than a step is faster by.
const MOST_COLUMNS: usize = 1024;

/// More tokens than a text is looked back at, or a segment has.
const MOST_TOKENS: usize = 1_000_000_000;

fn zero_or(name: &'static str, value: f32) -> Result<(), ConfigError> {
    within(name, value, 0.0..=f32::MAX, "a number of at least 0")?;
    // The bounds of a learning rate; a model at a greater one follows nothing.
    let sense = "0, or a number from 0.0000000001 to 10000";
    if value == 0.0 { Ok(()) } else { within(name, value, 1e-10..=1e4, sense) }
}

/// The parts of an adaptation, with their settings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    /// Of the cache.
    pub cache: Option<CacheSettings>,
    /// Of dynamic evaluation.
    pub dynamic: Option<DynamicSettings>,
}

impl Settings {
    /// Checks every setting.
    ///
    /// # Errors
    /// A sentence naming the setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.cache.map_or(Ok(()), |cache| cache.validate())?;
        self.dynamic.map_or(Ok(()), |dynamic| dynamic.validate())
    }
}

/// The settings that were tuned for a model: `adaptation.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    version: u32,
    /// The checksum of the parameters they belong to.
    model: String,
    /// The checksum of all else; the first version had none.
    checksum: Option<String>,
    /// Of a cache alone.
    pub cache: Option<CacheSettings>,
    /// Of dynamic evaluation.
    pub dynamic: Option<DynamicSettings>,
    /// Of a cache beside a model that goes on learning.
    pub cache_with_dynamic: Option<CacheSettings>,
}

impl Tuned {
    /// Nothing tuned yet.
    pub fn new(params: &Params) -> Self {
        Self { version: VERSION, model: checksum(params), ..Self::default() }
    }

    /// Reads what was tuned for these parameters; nothing, where there is no file or it is another model's.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn load(folder: &RunFolder, params: &Params) -> Result<Self, FormatError> {
        let path = folder.adaptation();
        /// It has some three hundred.
        const MOST_BYTES: u64 = 1 << 16;
        let bytes = match read_bounded(&path, MOST_BYTES) {
            Err(FormatError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::new(params));
            }
            read => read?,
        };
        let unusable = |why: String| FormatError::Unusable {
            path: path.clone(),
            why: format!("{why}; remove it, and the settings are tuned again"),
        };
        let text = String::from_utf8(bytes).map_err(|_| unusable("it is no text".to_owned()))?;
        let tuned: Self = toml::from_str(&text).map_err(|e| unusable(e.to_string()))?;
        if !(1..=VERSION).contains(&tuned.version) {
            return Err(unusable(format!("its version is {}, not {VERSION}", tuned.version)));
        }
        let caches = [tuned.cache, tuned.cache_with_dynamic];
        for settings in caches.map(|cache| Settings { cache, dynamic: tuned.dynamic }) {
            settings.validate().map_err(|e| unusable(e.to_string()))?;
        }
        let expected = (tuned.version > 1 || tuned.checksum.is_some()).then(|| tuned.sum(&path)).transpose()?;
        if tuned.checksum != expected {
            return Err(unusable("its checksum is wrong: it was changed or is damaged".to_owned()));
        }
        let tuned = Self { checksum: None, ..tuned };
        Ok(if tuned.model == checksum(params) { tuned } else { Self::new(params) })
    }

    /// Writes `adaptation.toml`.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn save(&self, folder: &RunFolder) -> Result<(), FormatError> {
        let path = folder.adaptation();
        let mut sealed = Self { version: VERSION, ..self.clone() };
        sealed.checksum = Some(sealed.sum(&path)?);
        write_bytes(&path, sealed.text(&path)?.as_bytes())
    }

    /// The file that shall be `path`.
    fn text(&self, path: &Path) -> Result<String, FormatError> {
        let why = |e: toml::ser::Error| format!("cannot be described: {e}");
        toml::to_string(self).map_err(|e| FormatError::Unusable { path: path.to_owned(), why: why(e) })
    }

    /// The checksum of all else.
    fn sum(&self, path: &Path) -> Result<String, FormatError> {
        let text = Self { checksum: None, ..self.clone() }.text(path)?;
        Ok(format!("{:08x}", crc32fast::hash(text.as_bytes())))
    }

    /// The settings that were tuned for `adaptation`; parts may be missing.
    pub fn of(&self, adaptation: Adaptation) -> Settings {
        match adaptation {
            Adaptation::Cache => Settings { cache: self.cache, dynamic: None },
            Adaptation::Dynamic => Settings { cache: None, dynamic: self.dynamic },
            Adaptation::Both => Settings { cache: self.cache_with_dynamic, dynamic: self.dynamic },
        }
    }
}

fn checksum(params: &Params) -> String {
    format!("{:08x}", crc32fast::hash(bytemuck::cast_slice(params.values())))
}
