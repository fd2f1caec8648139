//! The configuration of a run, everything resolved.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::formats::{FormatError, read_bounded, write_bytes};
use crate::model::LanguageModelConfig;
use crate::nn::config::{ConfigError, at_least_one, within};
use crate::run::earlier::{as_now, without_nt_asgd};
use crate::run::folder::RunFolder;
use crate::run::training::Training;
use crate::text::batch::Batching;
use crate::text::documents::{Documents, LineEnds, Reading};
use crate::text::shuffle::Shuffle;
use crate::text::tokenizer::{TokenizerKind, VocabularyOptions};

/// The version of the `config.toml` this program writes.
const VERSION: i64 = 2;

/// The first, which stands in no other tables.
const FIRST: i64 = 1;

/// The most bytes of a `config.toml`, which has some two thousand.
const MOST_BYTES: u64 = 1 << 20;

/// The settings that say how long a run is.
const BOUNDS: [&str; 4] = ["epochs", "steps", "budget", "patience"];

/// How `config.toml` names a text that lies beside it.
const OWN_TEXT: &str = "text.txt";

/// Everything that decides the bits of a language model's run; written to `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// T, the steps of truncated back-propagation.
    pub segment: usize,
    /// Whether the steps of a stream's segments vary around T, and the rate with them, see [`Batches::varied`].
    ///
    /// [`Batches::varied`]: crate::text::batch::Batches::varied
    #[serde(default)]
    pub variable_segment: bool,
    /// How texts are cut into batches.
    pub batching: Batching,
    /// Of a sampled softmax: the mean number of tokens that a step scores; `None` for all.
    #[serde(default)]
    pub candidates: Option<usize>,
    /// The share of the run after which every token is scored.
    #[serde(default = "default_candidates_until")]
    pub candidates_until: f64,
    /// The kind of tokens.
    pub tokenizer: TokenizerKind,
    /// How it is trained.
    pub training: Training,
    /// How the vocabulary is cut.
    pub vocabulary: VocabularyOptions,
    /// The model; its vocabulary is set by the text.
    pub model: LanguageModelConfig,
    /// Where the texts are.
    pub data: DataConfig,
}

/// The training steps that a run of the default preset takes at least, in up to [`MOST_EPOCHS`] epochs.
const STEPS_WANTED: usize = 2_000;
const MOST_EPOCHS: usize = 200;
const FEWEST_EPOCHS: usize = 10;

/// Tokens are numbered in 32 bits.
const MOST_TOKENS: usize = u32::MAX as usize;

/// The last fifth of a run scores every token: it is then that the small errors of a sampled softmax would stay.
fn default_candidates_until() -> f64 {
    0.8
}

impl RunConfig {
    /// How the vocabulary is cut, and whether the batches put markers around lines.
    pub(crate) fn vocabulary_options(&self) -> VocabularyOptions {
        VocabularyOptions { line_markers: self.batching != Batching::Stream, ..self.vocabulary }
    }

    /// Sets what depends on the text: the vocabulary, the steps of windows, and, where nothing bounds the run, the
    /// epochs. `tokens`: of the training text.
    pub fn fit(&mut self, vocabulary: usize, tokens: usize) {
        self.model.vocabulary = vocabulary;
        if let Batching::Windows(n) = self.batching {
            self.segment = n;
        }
        if self.training.epochs.is_none() && self.training.steps.is_none() && self.training.budget.is_none() {
            let batches = (tokens / self.training.batch.max(1)).div_ceil(self.segment.max(1));
            let steps_per_epoch = batches.div_ceil(self.training.accumulate.max(1)).max(1);
            self.training.epochs = Some((STEPS_WANTED / steps_per_epoch).clamp(FEWEST_EPOCHS, MOST_EPOCHS));
        }
    }

    /// The time steps of a segment of training: those of a window, where windows are read.
    pub(crate) fn steps_of_segment(&self) -> usize {
        if let Batching::Windows(n) = self.batching { n } else { self.segment }
    }

    /// Checks every setting that the model does not check itself.
    ///
    /// # Errors
    /// A sentence naming the setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.training.validate()?;
        at_least_one("segment", self.segment)?;
        if self.variable_segment && self.batching != Batching::Stream {
            return Err(ConfigError::Conflict(format!(
                "segments of variable length are cut from a stream, not from {}; leave `variable-segment` out, or choose \
                 `batches` stream",
                self.batching
            )));
        }
        if let (Some(documents), Some(Shuffle::Lines)) = (&self.data.documents, self.data.shuffle)
            && *documents != Documents::Line
        {
            return Err(ConfigError::Conflict(format!(
                "shuffled lines would tear apart documents that end at \"{documents}\"; leave `shuffle` or `documents` out"
            )));
        }
        if let Some(documents) = self.data.documents.as_ref().filter(|_| self.batching != Batching::Stream) {
            return Err(ConfigError::Conflict(format!(
                "{} read every line from a fresh state, so no state is carried from a document to the next (\"{documents}\"); \
                 leave `documents` out, or choose `batches` stream",
                self.batching
            )));
        }
        if let Some(candidates) = self.candidates {
            at_least_one("candidates", candidates)?;
            if self.model.penalties.label_smoothing > 0.0 {
                let why = "label smoothing raises every token, but a sampled softmax scores a few; leave `candidates` or \
                           `label-smoothing` out";
                return Err(ConfigError::Conflict(why.to_owned()));
            }
        }
        let expected = "a share of the run above 0 and up to 1";
        within("candidates-until", self.candidates_until, 1e-6..=1.0, expected)?;
        if let Some(count) = self.vocabulary.min_count {
            within("min-count", count, 1..=i64::MAX as u64, "a count from 1 on")?;
        }
        if let Some(size) = self.vocabulary.max_size {
            within("vocab-size", size, 2..=MOST_TOKENS, "a number of tokens from 2 to 4294967295")?;
        }
        if self.model.penalties.temporal > 0.0 && self.steps_of_segment() == 1 {
            let why =
                "tar compares each step with the one before it, but a segment has one step; give it more, or no tar";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        Ok(())
    }

    /// Everything that decides the bits of what follows, as it is noted in a checkpoint: all but where the texts lie, which are proven by
    /// themselves.
    pub(crate) fn deciding(&self) -> Value {
        let data = DataConfig { train: None, valid: None, test: None, tokenizer: None, ..self.data.clone() };
        json!(Self { data, ..self.clone() })
    }

    /// The settings that a model has for good: not how long it was to be trained, which may be lengthened.
    pub(crate) fn lasting(&self) -> Value {
        Self { training: self.training.of_any_length(), ..self.clone() }.deciding()
    }

    /// The settings that `file`, a model or a checkpoint, notes.
    pub(crate) fn noted(noted: &Value, file: &Path) -> Result<Self, FormatError> {
        serde_json::from_value(as_now(noted.clone())).map_err(|e| FormatError::Unusable {
            path: file.to_owned(),
            why: format!("its settings are none of this program ({e}); use the one that wrote it"),
        })
    }

    /// Refuses a configuration that was changed since `noted` was, and names the setting. `of`: what of it was noted. Files of older
    /// programs noted nothing.
    pub(crate) fn check_against(
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
    pub(crate) fn save(&self, folder: &RunFolder) -> Result<(), FormatError> {
        write_bytes(&folder.config(), &self.to_bytes(folder)?)
    }

    /// The bytes of `config.toml`.
    pub(crate) fn to_bytes(&self, folder: &RunFolder) -> Result<Vec<u8>, FormatError> {
        // A run can be moved with the text that it keeps.
        let own = self.data.train.as_deref() == std::path::absolute(folder.text()).ok().as_deref();
        let train = if own { Some(PathBuf::from(OWN_TEXT)) } else { self.data.train.clone() };
        let data = DataConfig { train, ..self.data.clone() };
        let text = toml::to_string(&Self { data, ..self.clone() })
            .map_err(|e| FormatError::Unusable { path: folder.config(), why: format!("cannot be described: {e}") })?;
        Ok(format!("version = {VERSION}\n{text}").into_bytes())
    }

    /// Reads `config.toml`.
    pub(crate) fn load(folder: &RunFolder) -> Result<Self, FormatError> {
        let path = folder.config();
        let unusable = |why: String| FormatError::Unusable { path: path.clone(), why };
        let text = String::from_utf8(read_bounded(&path, MOST_BYTES)?)
            .map_err(|_| unusable("it is no text; restore it from a copy".to_owned()))?;
        /// The version alone, whatever stands beside it.
        #[derive(Deserialize)]
        struct Versioned {
            version: Option<toml::Spanned<i64>>,
        }
        let damaged = |e: String| {
            unusable(format!("it is no configuration of this program; undo the change, or restore it from a copy\n{e}"))
        };
        let Versioned { version } = toml::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let version =
            version.ok_or_else(|| unusable(format!("it should say version = {VERSION}; restore it from a copy")))?;
        let number = *version.get_ref();
        if number > VERSION {
            return Err(unusable(format!("its version {number} is newer than {VERSION}; update the program")));
        }
        if number < FIRST {
            return Err(unusable(format!("it should say version = {VERSION}; restore it from a copy")));
        }
        // Every other key is one of a setting; blanks in the version's place keep the numbers of the lines.
        let line = text[..version.span().start].rfind('\n').map_or(0, |at| at + 1);
        let settings = [&text[..line], &" ".repeat(version.span().end - line), &text[version.span().end..]].concat();
        let mut config: Self = if number == FIRST {
            let settings: Value = toml::from_str(&without_nt_asgd(&settings)).map_err(|e| damaged(e.to_string()))?;
            serde_json::from_value(as_now(settings)).map_err(|e| damaged(e.to_string()))?
        } else {
            toml::from_str(&settings).map_err(|e| damaged(e.to_string()))?
        };
        if config.data.train.as_deref() == Some(Path::new(OWN_TEXT)) {
            let own = std::path::absolute(folder.text());
            config.data.train = Some(own.map_err(|source| FormatError::Read { path: folder.text(), source })?);
        }
        config.validate().map_err(|e| unusable(e.to_string()))?;
        Ok(config)
    }
}

/// Where the texts of a run are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A file or folder; `None` for the built-in language.
    pub train: Option<PathBuf>,
    /// A validation file.
    pub valid: Option<PathBuf>,
    /// A test file.
    pub test: Option<PathBuf>,
    /// Percentages of training, validation and test, where there are no such files; `None` for 90/5/5, but of a
    /// long text, or one of which little is used, less for the last two.
    pub split: Option<Vec<u32>>,
    /// About how many bytes of the training text are used, in pieces from all over it; `None` for all.
    #[serde(default)]
    pub most: Option<u64>,
    /// Whether bytes that are no text are replaced.
    pub lossy: bool,
    /// The end of a line.
    #[serde(default = "kept_line_ends")]
    pub line_ends: LineEnds,
    /// Where line ends are kept: whether most lines of the training text end with a carriage return too.
    #[serde(default)]
    pub crlf: Option<bool>,
    /// The parts that are shuffled by the seed before the text is split.
    #[serde(default)]
    pub shuffle: Option<Shuffle>,
    /// Where a document ends and the next begins with a fresh state; `None` for one document.
    #[serde(default)]
    pub documents: Option<Documents>,
    /// Where a text stands between documents: whether the next mostly begins in the same line.
    #[serde(default)]
    pub inline_documents: Option<bool>,
    /// The `tokenizer.json` to use, for a tokenizer from a file.
    #[serde(default)]
    pub tokenizer: Option<PathBuf>,
}

/// Runs from before there was a choice kept carriage returns.
fn kept_line_ends() -> LineEnds {
    LineEnds::Keep
}

impl DataConfig {
    /// How its texts are read, and others that its model is used on.
    pub fn reading(&self) -> Reading {
        Reading { line_ends: self.line_ends, documents: self.documents.clone() }
    }
}

/// The first setting that differs, with both values as `config.toml` has them.
fn difference(was: &Value, is: &Value, name: &str) -> Option<(String, [String; 2])> {
    if let (Value::Object(before), Value::Object(now)) = (was, is) {
        let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let inner = |key: &String| if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        return keys.into_iter().find_map(|key| difference(&was[key], &is[key], &inner(key)));
    }
    let written = |value: &Value| match value {
        Value::Null => "not set".to_owned(),
        // A single-precision number has its own few digits; a whole one has all of them.
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(value) if f64::from(value as f32) == value => (value as f32).to_string(),
            _ => number.to_string(),
        },
        value => value.to_string(),
    };
    (was != is).then(|| (name.to_owned(), [written(was), written(is)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::averaging::Averaging;
    use crate::run::preset::Preset;

    /// A folder with this `config.toml`, read.
    fn read(text: &str) -> Result<RunConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
        RunConfig::load(&RunFolder(folder.path().to_owned())).map_err(|error| error.to_string())
    }

    /// The optimizer nt-asgd was written so before its average had a name of its own.
    #[test]
    fn a_run_by_nt_asgd_of_an_earlier_version_is_sgd_with_a_non_monotone_average() {
        let config = Preset::Awd.config();
        let written = String::from_utf8(config.to_bytes(&RunFolder("run".into())).unwrap()).unwrap();
        let earlier = written
            .replace("optimizer = \"sgd\"", "optimizer = \"nt-asgd\"\nnon_monotone = 5")
            .replace("average = \"non-monotone(5)\"", "average = \"none\"");
        assert!(earlier.contains("nt-asgd") && earlier.contains("average = \"none\""), "{earlier}");
        assert_eq!(read(&earlier), Ok(config));
        let sgd = written.replace("optimizer = \"sgd\"", "optimizer = \"sgd\"\nnon_monotone = 3");
        let sgd = sgd.replace("average = \"non-monotone(5)\"", "average = \"none\"");
        assert_eq!(read(&sgd).map(|config| config.training.average), Ok(Averaging::None));
    }

    /// Only those at the top were refused; one in a table changed the result in silence, as that of a misspelt one does.
    #[test]
    fn a_key_that_there_is_none_of_is_named_with_its_line_in_every_table() {
        let config = Preset::Awd.config();
        let written = String::from_utf8(config.to_bytes(&RunFolder("run".into())).unwrap()).unwrap();
        assert_eq!(read(&written), Ok(config));
        let mut tables = 0;
        for (number, line) in written.lines().enumerate().filter(|(_, line)| line.starts_with('[')) {
            let strange = written.replacen(line, &format!("{line}\nstrange = 1"), 1);
            let error = read(&strange).unwrap_err();
            // The line after the table's, counted from one.
            let place = format!("line {}", number + 2);
            assert!(error.contains("strange") && error.contains(&place) && error.contains("config.toml"), "{error}");
            tables += 1;
        }
        assert!(tables >= 9, "{written}");
        let error = read(&written.replacen("seed", "sead", 1)).unwrap_err();
        assert!(error.contains("sead") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_file_that_is_much_too_long_is_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("config.toml")).unwrap();
        file.set_len(3 << 30).unwrap();
        let error = RunConfig::load(&RunFolder(folder.path().to_owned())).unwrap_err().to_string();
        assert!(error.contains("3221225472 bytes"), "{error}");
    }
}
