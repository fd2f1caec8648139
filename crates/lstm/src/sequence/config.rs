//! The settings of a run over sequences: what is read, the model, and `config.toml`.

use std::path::Path;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::numbers::NumbersConfig;
use super::pooling::Pooling;
use super::spelling::KINDS;
use crate::formats::FormatError;
use crate::named::{named, stored_as_text};
use crate::nn::config::{ConfigError, Init, LstmConfig, Readout, Wiring, at_least_one, rate};
use crate::nn::precision::Precision;
use crate::optim::averaging::Averaging;
use crate::optim::muon::MuonSettings;
use crate::optim::optimizer::{AdamSettings, OptimizerKind};
use crate::optim::parts::check_decay;
use crate::optim::schedule::{Schedule, ScheduleKind};
use crate::run::fine_tuning::FineTuning;
use crate::run::folder::RunFolder;
use crate::run::settings::Settings;
use crate::run::task_kind::TaskKind;
use crate::run::training::{Training, Wire};
use crate::said::count;
use crate::text::tokenizer::{TokenizerKind, VocabularyOptions};

/// Everything that decides the bits of a run over sequences; written to `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceConfig {
    /// What is learned.
    pub task: TaskKind,
    /// The labels, in the order of the model's outputs: those of the training data, sorted; of a regression the names of its numbers.
    pub labels: Vec<String>,
    /// Whether an example has any number of labels, each predicted by itself, and not exactly one.
    #[serde(default)]
    pub several: bool,
    /// How much the classes weigh in the loss.
    #[serde(default)]
    pub class_weights: ClassWeights,
    /// The share of the target that is spread over all classes (Szegedy 2016).
    #[serde(default)]
    pub label_smoothing: f32,
    /// The kind of tokens.
    pub tokenizer: TokenizerKind,
    /// Whether capital letters are read as small ones.
    #[serde(default)]
    pub lower_case: bool,
    /// Whether punctuation around a word is a word of its own.
    #[serde(default)]
    pub split_punctuation: bool,
    /// The most tokens of a text, or steps of a sequence of numbers, that are read, its first.
    pub longest: usize,
    /// The language model that it starts from, and how its parts are trained.
    #[serde(default)]
    pub fine_tuning: FineTuning,
    /// The epochs by which each part of that model begins to be trained later than the one above it (Howard & Ruder 2018); 0 for all at
    /// once.
    #[serde(default)]
    pub unfreeze: usize,
    /// How it is trained.
    pub training: Training,
    /// How the vocabulary is cut.
    pub vocabulary: VocabularyOptions,
    /// The model.
    pub model: SequenceModelConfig,
    /// Where the data are.
    pub data: SequenceData,
}

/// The shape of a model over sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceModelConfig {
    /// V, the tokens; set by the data, and 0 of numbers.
    pub vocabulary: usize,
    /// C, the outputs: the number of labels; set by the data.
    pub outputs: usize,
    /// What becomes of the steps of a sequence; `None` where each has a label of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// The size of the vectors of a word's spelling, four of which stand beside its embedding: of its first letters, its last and its
    /// shape; 0 for none.
    #[serde(default)]
    pub spelling: usize,
    /// What of sequences of numbers is read; `None` of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<NumbersConfig>,
    /// Whether the states before the first step are learned, and not zero.
    #[serde(default)]
    pub initial_states: bool,
    /// The share that a bag of words has of the scores, a linear model of the tokens and pairs of a text that is fitted before the first
    /// step; 0 where there is none.
    #[serde(default)]
    pub bag: f32,
    /// What is dropped while it trains.
    pub dropout: SequenceDropout,
    /// The layers. Their input is the embedding and, behind it, the spelling; of numbers what a linear map makes of them.
    pub lstm: LstmConfig,
}

/// The rates of dropout, each in `[0, 1)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceDropout {
    /// Of tokens, each where it stands: it is read as the unknown one, or where there is none as nothing.
    pub words: f32,
    /// Of the embedding's values.
    pub input: f32,
    /// Of what each layer but the last gives to the next.
    pub hidden: f32,
    /// Of what is pooled, before the head.
    pub output: f32,
    /// Of the hidden-to-hidden weights (Wan 2013; Merity 2017).
    pub weights: f32,
}

/// Where the data of a run are, and what of them is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SequenceData {
    /// Trained on: a file, or a folder with a folder for each class.
    pub train: Option<PathBuf>,
    /// Watched; where there is none a part of the training data is held out.
    pub valid: Option<PathBuf>,
    /// Measured at the end.
    pub test: Option<PathBuf>,
    /// The column or the key of the text.
    pub text: Option<String>,
    /// The column or the key of the label; of several numbers those, with commas between them.
    pub label: Option<String>,
    /// The column that says which sequence a row is a step of, of numbers in a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// What stands between several labels of one example.
    pub separator: Option<String>,
    /// The percentages of the training data that are trained on, watched and measured; `None` for a tenth to watch, if no other data are.
    pub split: Option<Vec<u32>>,
    /// Whether bytes that are no UTF-8 are replaced.
    pub lossy: bool,
}

/// How much the classes weigh in the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClassWeights {
    /// Every example weighs the same.
    #[default]
    None,
    /// Every class weighs the same: an example by the inverse of how often its label occurs.
    Balanced,
}

named!(ClassWeights, "weighting of classes", "none" => None, "balanced" => Balanced);
stored_as_text!(ClassWeights);

impl SequenceConfig {
    /// The settings of a run of this task where nothing else is said. What the data decide, they have yet to.
    pub fn usual(task: TaskKind) -> Self {
        let training = Training {
            seed: 1,
            batch: 32,
            precision: Precision::F32,
            accumulate: 1,
            shards: None,
            wire: Wire::F32,
            epochs: Some(12),
            steps: None,
            budget: None,
            patience: Some(4),
            clip: Some(1.0),
            optimizer: OptimizerKind::Adam,
            average: Averaging::None,
            weight_decay: 0.0,
            weight_decay_shares: None,
            adam: AdamSettings::default(),
            muon: MuonSettings::default(),
            schedule: Schedule { kind: ScheduleKind::Constant, ..Schedule::step(1e-3, 1.0, 1) },
            init: Init::default(),
            keep_checkpoints: 0,
            lengthened: None,
            member: None,
        };
        let lstm = LstmConfig { bidirectional: true, ..LstmConfig::new(128, 128) };
        let tags = task == TaskKind::Tag;
        let dropout = SequenceDropout { words: 0.1, input: 0.3, hidden: 0.0, output: 0.5, weights: 0.0 };
        let pooling = (!tags).then_some(Pooling::Max);
        let (numbers, initial_states) = (None, false);
        let mut model = SequenceModelConfig {
            vocabulary: 1,
            outputs: 0,
            pooling,
            spelling: 0,
            numbers,
            initial_states,
            bag: 0.0,
            dropout,
            lstm,
        };
        model.set_input(if tags { 100 } else { 128 }, if tags { 16 } else { 0 });
        Self {
            task,
            labels: Vec::new(),
            several: false,
            class_weights: ClassWeights::None,
            label_smoothing: 0.0,
            tokenizer: TokenizerKind::Words,
            lower_case: true,
            split_punctuation: !tags,
            longest: 400,
            fine_tuning: FineTuning::default(),
            unfreeze: 0,
            training,
            vocabulary: VocabularyOptions::default(),
            model,
            data: SequenceData::default(),
        }
    }
}

impl SequenceConfig {
    /// The same for sequences of numbers, which are read as they are.
    pub fn usual_of_numbers(task: TaskKind) -> Self {
        let mut config = Self::usual(task);
        let lstm = LstmConfig { bidirectional: true, ..LstmConfig::new(32, 64) };
        let dropout = SequenceDropout { words: 0.0, input: 0.0, hidden: 0.0, output: 0.2, weights: 0.0 };
        let (numbers, pooling) = (Some(NumbersConfig::default()), Some(Pooling::Concat));
        config.model = SequenceModelConfig { vocabulary: 0, numbers, pooling, dropout, lstm, ..config.model };
        config.longest = 100_000;
        config.training.batch = 16;
        config.training.optimizer = OptimizerKind::AdamW;
        config.training.weight_decay = 0.01;
        config.training.schedule = Schedule { kind: ScheduleKind::OneCycle, ..Schedule::step(3e-3, 1.0, 1) };
        config.training.average = Averaging::Ema(0.99);
        config.training.init.forget_bias = Some(1.0);
        (config.training.epochs, config.training.patience) = (Some(100), None);
        config
    }

    /// F, the values of a step of a sequence of numbers; 0 of texts.
    pub fn features_of_a_step(&self) -> usize {
        self.model.numbers.as_ref().map_or(0, |numbers| numbers.features)
    }
}

impl SequenceData {
    /// Refuses percentages that are none, or leave nothing to train on.
    pub(super) fn check_split(&self) -> Result<(), ConfigError> {
        let Some(split) = &self.split else { return Ok(()) };
        let sum: u64 = split.iter().map(|share| u64::from(*share)).sum();
        if sum == 100 && (2..=3).contains(&split.len()) && split[0] > 0 {
            return Ok(());
        }
        let value = split.iter().map(u32::to_string).collect::<Vec<_>>().join("/");
        let expected = "two or three percentages that add up to 100, the first of them, what is trained on, above 0, such as 80/10/10";
        Err(ConfigError::Range { name: "split", value, expected })
    }
}

impl SequenceDropout {
    fn validate(&self) -> Result<(), ConfigError> {
        rate("dropout-words", self.words)?;
        rate("dropout-input", self.input)?;
        rate("dropout-hidden", self.hidden)?;
        rate("dropout-output", self.output)?;
        rate("dropout-weights", self.weights)
    }
}

impl SequenceModelConfig {
    /// E, the size of a token's vector.
    pub fn embedding(&self) -> usize {
        self.lstm.input.saturating_sub(self.spelling.saturating_mul(KINDS))
    }

    /// Sets the sizes of a token's vectors, and so the input of the layers.
    pub fn set_input(&mut self, embedding: usize, spelling: usize) {
        self.spelling = spelling;
        self.lstm.input = if embedding == 0 { 0 } else { embedding.saturating_add(spelling.saturating_mul(KINDS)) };
    }

    /// Checks every setting; what the layers themselves cannot be, they say when they are made.
    ///
    /// # Errors
    /// A sentence naming the setting.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.embedding() == 0 {
            return Err(ConfigError::Zero { name: "embedding" });
        }
        self.dropout.validate()?;
        rate("bag", self.bag)?;
        if let Some(numbers) = &self.numbers {
            numbers.validate()?;
        }
        let LstmConfig { wiring, readout, horizon, variant, .. } = &self.lstm;
        if *wiring == Wiring::Scores || *readout != Readout::Hidden || horizon.is_some() || !variant.is_plain() {
            let why = "a model over sequences has plain cells, whose hidden states are read and whose layers are joined by the wiring \
                       stacked or skip; leave out what differs";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        Ok(())
    }
}

impl Settings for SequenceConfig {
    const TASKS: &'static [TaskKind] = &[TaskKind::Classify, TaskKind::Tag, TaskKind::Regress];

    fn learns_from(&self) -> Vec<&Path> {
        self.fine_tuning.from.iter().map(AsRef::as_ref).collect()
    }

    fn training(&self) -> &Training {
        &self.training
    }

    fn training_mut(&mut self) -> &mut Training {
        &mut self.training
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.training.validate()?;
        at_least_one("longest", self.longest)?;
        check_decay(self.fine_tuning.layer_rate_decay)?;
        if self.unfreeze > 1_000_000 {
            let expected = "a number of epochs up to 1000000";
            return Err(ConfigError::Range { name: "unfreeze", value: self.unfreeze.to_string(), expected });
        }
        if self.fine_tuning.from.is_none() && (self.unfreeze > 0 || self.fine_tuning != FineTuning::default()) {
            let why = "`freeze`, `unfreeze` and `layer-rate-decay` are of the parts that a run takes from a language model; say by `from` \
                       which, or leave them out";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        if self.model.numbers.is_some() && self.fine_tuning.from.is_some() {
            let why = "a language model reads tokens, and sequences of numbers have none; leave `from` out";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        self.fine_tuning.freeze.validate_taken(self.model.lstm.layers)?;
        rate("label-smoothing", self.label_smoothing)?;
        if self.model.numbers.is_some() && (self.task == TaskKind::Tag || self.several || self.model.spelling > 0) {
            let why = "a sequence of numbers has one label, or numbers to be said of it, and no words; leave out what is of words, of \
                       several labels, or the `task` tag";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        if self.task == TaskKind::Regress
            && (self.several || self.label_smoothing > 0.0 || self.class_weights != ClassWeights::None)
        {
            let why = "a regression learns numbers and no labels; leave out `separator`, `label-smoothing` and `class-weights`";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        if self.model.spelling > 0 && self.tokenizer != TokenizerKind::Words {
            let why = "the spelling of words is read beside words alone; leave `spelling` out, or choose the `tokenizer` words";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        if self.several && self.label_smoothing > 0.0 {
            let why = "several labels are predicted each by itself, so there is nothing to spread; leave `label-smoothing` out";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        let takes_a_bag = self.task == TaskKind::Classify && self.model.numbers.is_none();
        if self.model.bag > 0.0 && (!takes_a_bag || self.class_weights != ClassWeights::None) {
            let why = "a bag of words says labels of whole texts, in which every example counts the same; leave `bag` out, or what differs";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        self.data.check_split()?;
        self.model.validate()
    }

    fn places(&self) -> [Option<&Path>; 3] {
        let SequenceData { train, valid, test, .. } = &self.data;
        [train, valid, test].map(Option::as_deref)
    }

    fn without_places(&self) -> Self {
        let data = SequenceData { train: None, valid: None, test: None, ..self.data.clone() };
        Self { data, ..self.clone() }
    }

    fn stored_in(&self, folder: &RunFolder) -> Self {
        let train = folder.stored(self.data.train.as_deref());
        Self { data: SequenceData { train, ..self.data.clone() }, ..self.clone() }
    }

    fn read_from(mut self, folder: &RunFolder) -> Result<Self, FormatError> {
        self.data.train = folder.located(self.data.train)?;
        if self.labels.len() != self.model.outputs {
            let why = format!(
                "it names {}, but its model has {}; restore it from a copy",
                count(self.labels.len(), "label"),
                count(self.model.outputs, "output")
            );
            return Err(FormatError::Unusable { path: folder.config(), why });
        }
        Ok(self)
    }
}
