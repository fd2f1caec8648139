//! The configuration of a run, everything resolved.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::formats::FormatError;
use crate::model::LanguageModelConfig;
use crate::nn::config::{ConfigError, at_least_one, within};
use crate::run::fine_tuning::FineTuning;
use crate::run::folder::RunFolder;
use crate::run::settings::Settings;
use crate::run::task_kind::TaskKind;
use crate::run::teaching::Teaching;
use crate::run::training::Training;
use crate::text::batch::Batching;
use crate::text::documents::{Documents, LineEnds, Reading};
use crate::text::shuffle::Shuffle;
use crate::text::tokenizer::{TokenizerKind, VocabularyOptions};

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
    /// Whether the columns of a stream begin elsewhere in every epoch, see [`Batches::rotated`].
    ///
    /// [`Batches::rotated`]: crate::text::batch::Batches::rotated
    #[serde(default)]
    pub partial_shuffle: bool,
    /// Whether the readout's biases start as the logarithms of how often each token occurs in the training text, so that an untrained model
    /// is one of single tokens.
    #[serde(default)]
    pub unigram_bias: bool,
    /// Whether the embedding starts from vectors of the company that each token keeps in the training text, see
    /// `text/vectors.rs`, in place of random numbers.
    #[serde(default)]
    pub spectral_embedding: bool,
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
    /// The trained model that it goes on from, if there is one, and what is trained how.
    #[serde(default)]
    pub fine_tuning: FineTuning,
    /// The trained models that it learns from beside its text, if there are any.
    #[serde(default, skip_serializing_if = "Teaching::is_none")]
    pub teaching: Teaching,
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

    /// The same with other values for some settings: an object of names as `config.toml` has them, those of a table either as an object or
    /// behind its name and a full stop, such as `{"training.batch": 20}`; `null` for a choice that is left open.
    ///
    /// # Errors
    /// A name that no setting has, or a value that it cannot have.
    pub fn with_settings(&self, given: &serde_json::Map<String, Value>) -> Result<Self, ConfigError> {
        /// Lays `given` over the tables of `to`.
        fn lay_over(to: &mut Value, given: &Value) {
            match (to, given) {
                (Value::Object(to), Value::Object(given)) => {
                    given.iter().for_each(|(name, value)| lay_over(to.entry(name).or_insert(Value::Null), value));
                }
                (to, given) => *to = given.clone(),
            }
        }
        let refused = |error: serde_json::Error| ConfigError::Conflict(format!("a setting cannot be used: {error}"));
        let mut all = serde_json::to_value(self).map_err(refused)?;
        for (path, value) in given {
            let nested = path.rsplit('.').fold(value.clone(), |inner, name| serde_json::json!({ name: inner }));
            lay_over(&mut all, &nested);
        }
        serde_json::from_value(all).map_err(refused)
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
        self.fine_tuning.validate(&self.model)?;
        self.teaching.validate(&self.model, self.candidates)?;
        if let Some(from) = self.fine_tuning.from.as_ref().filter(|_| self.training.members() > 1) {
            return Err(ConfigError::Conflict(format!(
                "`members` are of use where each begins elsewhere, but all would begin as {}; leave out `members` or `from`",
                from.display()
            )));
        }
        at_least_one("segment", self.segment)?;
        if self.variable_segment && self.batching != Batching::Stream {
            return Err(ConfigError::Conflict(format!(
                "segments of variable length are cut from a stream, not from {}; leave `variable-segment` out, or choose \
                 `batches` stream",
                self.batching
            )));
        }
        if self.partial_shuffle && (self.batching != Batching::Stream || self.data.documents.is_some()) {
            let what = self.data.documents.as_ref().map_or(self.batching.to_string(), |_| "documents".to_owned());
            return Err(ConfigError::Conflict(format!(
                "the columns of a stream are rotated, and there are none where {what} are read, each from its start; leave \
                 `partial-shuffle` out"
            )));
        }
        let counted = [("unigram-bias", self.unigram_bias), ("spectral-embedding", self.spectral_embedding)];
        if let (Some((setting, _)), Some(model)) = (counted.into_iter().find(|(_, is)| *is), &self.fine_tuning.from) {
            return Err(ConfigError::Conflict(format!(
                "the values are those of {}, which the run starts from, and none that are counted in its text; leave `{setting}` out",
                model.display()
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
        if self.training.optimizer.is_muon() && self.fine_tuning.freeze.holds_every_layer(self.model.lstm.layers) {
            return Err(ConfigError::Conflict(format!(
                "the `optimizer` {} changes the layers' matrices, and `freeze` names every layer; choose adamw or sgd, or leave a layer \
                 out",
                self.training.optimizer
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
}

impl Settings for RunConfig {
    const TASKS: &'static [TaskKind] = &[TaskKind::Language];

    fn learns_from(&self) -> Vec<&Path> {
        self.fine_tuning.from.iter().chain(&self.teaching.models).map(AsRef::as_ref).collect()
    }

    fn training(&self) -> &Training {
        &self.training
    }

    fn training_mut(&mut self) -> &mut Training {
        &mut self.training
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Self::validate(self)
    }

    fn places(&self) -> [Option<&Path>; 3] {
        let DataConfig { train, valid, test, .. } = &self.data;
        [train, valid, test].map(Option::as_deref)
    }

    fn without_places(&self) -> Self {
        let data =
            DataConfig { train: None, valid: None, test: None, tokenizer: None, imported: None, ..self.data.clone() };
        let fine_tuning = FineTuning { from: None, ..self.fine_tuning.clone() };
        let teaching = Teaching { models: Vec::new(), ..self.teaching.clone() };
        Self { data, fine_tuning, teaching, ..self.clone() }
    }

    fn stored_in(&self, folder: &RunFolder) -> Self {
        let train = folder.stored(self.data.train.as_deref());
        Self { data: DataConfig { train, ..self.data.clone() }, ..self.clone() }
    }

    fn read_from(mut self, folder: &RunFolder) -> Result<Self, FormatError> {
        self.data.train = folder.located(self.data.train)?;
        Ok(self)
    }
}

/// Where the texts of a run are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A file or folder; `None` for the built-in language, or where the model was [imported](Self::imported).
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
    /// The file that the model was read from, where nothing is known of the texts that it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<PathBuf>,
}

/// Runs from before there was a choice kept carriage returns.
fn kept_line_ends() -> LineEnds {
    LineEnds::Keep
}

impl DataConfig {
    /// What the model was trained on, in a few words.
    pub fn source(&self) -> String {
        match (&self.imported, &self.train) {
            (Some(file), _) => format!("texts that {} does not name", file.display()),
            (None, Some(text)) => text.display().to_string(),
            (None, None) => "the built-in language".to_owned(),
        }
    }

    /// How its texts are read, and others that its model is used on.
    pub fn reading(&self) -> Reading {
        Reading { line_ends: self.line_ends, documents: self.documents.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::preset::Preset;

    /// A folder with this `config.toml`, read.
    fn read(text: &str) -> Result<RunConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
        RunConfig::load(&RunFolder(folder.path().to_owned())).map_err(|error| error.to_string())
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
        let error = read(&written.replacen("segment", "segmant", 1)).unwrap_err();
        assert!(error.contains("segmant") && error.contains("line 2"), "{error}");
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
