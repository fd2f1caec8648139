//! The configuration of a run, everything resolved.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::formats::{FormatError, read_bounded, write_bytes};
use crate::model::LanguageModelConfig;
use crate::nn::config::{ConfigError, Init, above_zero, at_least_one, within};
use crate::optim::averaging::Averaging;
use crate::optim::optimizer::{AdamSettings, OptimizerKind};
use crate::optim::schedule::Schedule;
use crate::run::folder::RunFolder;
use crate::text::batch::Batching;
use crate::text::documents::{Documents, LineEnds, Reading};
use crate::text::shuffle::Shuffle;
use crate::text::tokenizer::{TokenizerKind, VocabularyOptions};

/// The version of the `config.toml` this program writes.
const VERSION: i64 = 1;

/// The most bytes of a `config.toml`, which has some two thousand.
const MOST_BYTES: u64 = 1 << 20;

/// How `config.toml` names a text that lies beside it.
const OWN_TEXT: &str = "text.txt";

/// Everything that decides a run's bits; written to `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// One seed for initial values, order and dropout.
    pub seed: u64,
    /// B.
    pub batch: usize,
    /// T, the steps of truncated back-propagation.
    pub segment: usize,
    /// The batches whose gradients are joined into one step, as if they were one batch of so many times the rows.
    #[serde(default = "default_accumulate")]
    pub accumulate: usize,
    /// Whether the steps of a stream's segments vary around T, and the rate with them, see [`Batches::varied`].
    ///
    /// [`Batches::varied`]: crate::text::batch::Batches::varied
    #[serde(default)]
    pub variable_segment: bool,
    /// How texts are cut into batches.
    pub batching: Batching,
    /// The most epochs. The first of the three bounds that is reached ends the run; where none is given, [`Self::fit`]
    /// chooses a number of epochs.
    pub epochs: Option<usize>,
    /// The most training steps.
    pub steps: Option<u64>,
    /// The most seconds, from the reading of the text to the end of the test. With such a bound the result depends on the
    /// machine's speed.
    pub budget: Option<f64>,
    /// Epochs without a better validation after which to stop; of a non-monotone average those since it began.
    pub patience: Option<usize>,
    /// Of a sampled softmax: the mean number of tokens that a step scores; `None` for all.
    #[serde(default)]
    pub candidates: Option<usize>,
    /// The share of the run after which every token is scored.
    #[serde(default = "default_candidates_until")]
    pub candidates_until: f64,
    /// Where the schedule stood when the run was lengthened, if it was.
    #[serde(default)]
    pub lengthened: Option<Lengthened>,
    /// The gradient's norm is clipped to it.
    pub clip: Option<f32>,
    /// Which optimizer.
    pub optimizer: OptimizerKind,
    /// The settings of Adam and AdamW.
    #[serde(default)]
    pub adam: AdamSettings,
    /// The average of the weights to evaluate and to save.
    #[serde(default)]
    pub average: Averaging,
    /// The optimizer's weight decay.
    pub weight_decay: f32,
    /// The learning rate.
    pub schedule: Schedule,
    /// The initial values.
    pub init: Init,
    /// The kind of tokens.
    pub tokenizer: TokenizerKind,
    /// How the vocabulary is cut.
    pub vocabulary: VocabularyOptions,
    /// The model; its vocabulary is set by the text.
    pub model: LanguageModelConfig,
    /// Where the texts are.
    pub data: DataConfig,
}

/// A run whose bounds were changed when it was resumed: from there on its schedule goes on from where it was to where the run now
/// ends, so that the rate does not jump.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lengthened {
    /// The share of the lengthened run that was done then.
    pub reached: f64,
    /// The share of the schedule that was.
    pub done: f64,
}

impl Lengthened {
    /// The share of the schedule that is done where `share` of the run is.
    pub(crate) fn of_schedule(self, share: f64) -> f64 {
        let Self { reached, done } = self;
        let rest = (1.0 - reached).max(f64::MIN_POSITIVE);
        (done + (share - reached).max(0.0) / rest * (1.0 - done)).min(1.0)
    }
}

/// The training steps that a run of the default preset takes at least, in up to [`MOST_EPOCHS`] epochs.
const STEPS_WANTED: usize = 2_000;
const MOST_EPOCHS: usize = 200;
const FEWEST_EPOCHS: usize = 10;

/// The most epochs that can be asked for, whatever they are for.
const MOST: usize = 1_000_000_000;

/// Tokens are numbered in 32 bits.
const MOST_TOKENS: usize = u32::MAX as usize;

/// One batch a step.
fn default_accumulate() -> usize {
    1
}

/// The last fifth of a run scores every token: it is then that the small errors of a sampled softmax would stay.
fn default_candidates_until() -> f64 {
    0.8
}

impl RunConfig {
    /// Whether the weights are averaged, from the start or from a trigger on.
    pub(crate) fn averages(&self) -> bool {
        self.average != Averaging::None
    }

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
        if self.epochs.is_none() && self.steps.is_none() && self.budget.is_none() {
            let batches = (tokens / self.batch.max(1)).div_ceil(self.segment.max(1));
            let steps_per_epoch = batches.div_ceil(self.accumulate.max(1)).max(1);
            self.epochs = Some((STEPS_WANTED / steps_per_epoch).clamp(FEWEST_EPOCHS, MOST_EPOCHS));
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
        at_least_one("batch", self.batch)?;
        at_least_one("segment", self.segment)?;
        at_least_one("accumulate", self.accumulate)?;
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
        if let Some(epochs) = self.epochs {
            at_least_one("epochs", epochs)?;
            within("epochs", epochs, 1..=MOST, "at most 1000000000")?;
        }
        if let Some(steps) = self.steps {
            at_least_one("steps", usize::try_from(steps).unwrap_or(usize::MAX))?;
            within("steps", steps, 1..=1_000_000_000_000, "at most 1000000000000")?;
        }
        if let Some(patience) = self.patience {
            within("patience", patience, 1..=MOST, "a number of epochs up to 1000000000")?;
        }
        // What config.toml can hold.
        within("seed", self.seed, 0..=i64::MAX as u64, "at most 9223372036854775807")?;
        if let Some(count) = self.vocabulary.min_count {
            within("min-count", count, 1..=i64::MAX as u64, "a count from 1 on")?;
        }
        if let Some(size) = self.vocabulary.max_size {
            within("vocab-size", size, 2..=MOST_TOKENS, "a number of tokens from 2 to 4294967295")?;
        }
        self.schedule.validate()?;
        if let Some(clip) = self.clip {
            within("clip", clip, 1e-6..=1e6, "a norm from 0.000001 to 1000000")?;
        }
        if let Some(budget) = self.budget {
            above_zero("budget", budget)?;
        }
        if self.weight_decay != 0.0 {
            let expected = "0, or a number from 1e-10 to 1000000";
            within("weight-decay", self.weight_decay, 1e-10..=1e6, expected)?;
        }
        let taken = self.weight_decay * self.schedule.learning_rate;
        if taken >= 1.0 {
            return Err(ConfigError::Conflict(format!(
                "a weight decay of {} at a learning rate of {} takes away {taken} times every weight in a step; their \
                 product must be below 1",
                self.weight_decay, self.schedule.learning_rate
            )));
        }
        if self.weight_decay > 0.0 && self.optimizer == OptimizerKind::Adam {
            let why = "weight decay in plain adam is scaled away by its second moment; use the optimizer adamw";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        if self.model.penalties.temporal > 0.0 && self.steps_of_segment() == 1 {
            let why =
                "tar compares each step with the one before it, but a segment has one step; give it more, or no tar";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        self.adam.validate()?;
        if let Some(bias) = self.init.forget_bias {
            within("forget-bias", bias, -100.0..=100.0, "a number from -100 to 100")?;
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
        let shortest =
            Self { epochs: None, steps: None, budget: None, patience: None, lengthened: None, ..self.clone() };
        shortest.deciding()
    }

    /// The settings that `file`, a model or a checkpoint, notes.
    pub(crate) fn noted(noted: &Value, file: &Path) -> Result<Self, FormatError> {
        serde_json::from_value(noted.clone()).map_err(|e| FormatError::Unusable {
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
        let bound = ["epochs", "steps", "budget", "patience"].contains(&name.as_str());
        let advice =
            if bound { format!(" and give `{name}` beside `resume`") } else { ", or start a new run".to_owned() };
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
        let damaged = |e: toml::de::Error| {
            unusable(format!("it is no configuration of this program; undo the change, or restore it from a copy\n{e}"))
        };
        let Versioned { version } = toml::from_str(&text).map_err(damaged)?;
        let version =
            version.ok_or_else(|| unusable(format!("it should say version = {VERSION}; restore it from a copy")))?;
        match *version.get_ref() {
            VERSION => {}
            newer if newer > VERSION => {
                return Err(unusable(format!("its version {newer} is newer than {VERSION}; update the program")));
            }
            _ => return Err(unusable(format!("it should say version = {VERSION}; restore it from a copy"))),
        }
        // Every other key is one of a setting; blanks in the version's place keep the numbers of the lines.
        let line = text[..version.span().start].rfind('\n').map_or(0, |at| at + 1);
        let settings = [&text[..line], &" ".repeat(version.span().end - line), &text[version.span().end..]].concat();
        let mut config: Self = toml::from_str(&without_nt_asgd(&settings)).map_err(damaged)?;
        if config.data.train.as_deref() == Some(Path::new(OWN_TEXT)) {
            let own = std::path::absolute(folder.text());
            config.data.train = Some(own.map_err(|source| FormatError::Read { path: folder.text(), source })?);
        }
        config.validate().map_err(|e| unusable(e.to_string()))?;
        Ok(config)
    }
}

/// An older configuration, whose optimizer nt-asgd was SGD with a non-monotone average, as it is written now. Lines keep their
/// numbers.
fn without_nt_asgd(settings: &str) -> String {
    const KEY: &str = "non_monotone = ";
    let Some(left_out) = settings.lines().find_map(|line| line.strip_prefix(KEY)) else { return settings.to_owned() };
    let averaged = settings.lines().any(|line| line == "optimizer = \"nt-asgd\"");
    let line = |line: &str| match line {
        "optimizer = \"nt-asgd\"" => "optimizer = \"sgd\"".to_owned(),
        "average = \"none\"" if averaged => String::new(),
        line if line.starts_with(KEY) && averaged => format!("average = \"non-monotone({left_out})\""),
        line if line.starts_with(KEY) => String::new(),
        line => line.to_owned(),
    };
    settings.lines().map(|each| line(each) + "\n").collect()
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
        assert_eq!(read(&sgd).map(|config| config.average), Ok(Averaging::None));
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
