//! What a run is: its configuration with everything resolved, its presets, and its data.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::optimizer::OptimizerKind;
use super::schedule::Schedule;
use crate::config::{Init, InitScheme, Readout};
use crate::model::{LanguageModelConfig, LayerWiring};
use crate::text::TextError;
use crate::text::batches::Batching;
use crate::text::builtin::Grammar;
use crate::text::corpus::{Corpus, Source, Splits};
use crate::text::ngram::Ngram;
use crate::text::tokenizer::{Tokenizer, TokenizerKind, VocabularyOptions};

/// Everything that decides a run's bits; written to `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    /// One seed for initial values, order and dropout.
    pub seed: u64,
    /// B.
    pub batch: usize,
    /// T, the steps of truncated back-propagation.
    pub segment: usize,
    /// How texts are cut into batches.
    pub batching: Batching,
    /// The number of epochs to train.
    pub epochs: usize,
    /// The most training steps, if bounded.
    pub steps: Option<u64>,
    /// The most seconds, if bounded.
    pub budget: Option<f64>,
    /// Epochs without a better validation after which to stop.
    pub patience: Option<usize>,
    /// The gradient's norm is clipped to it.
    pub clip: Option<f32>,
    /// Which optimizer.
    pub optimizer: OptimizerKind,
    /// Its weight decay.
    pub weight_decay: f32,
    /// The learning rate.
    pub schedule: Schedule,
    /// The initial values.
    pub init: Init,
    /// What a token is.
    pub tokenizer: TokenizerKind,
    /// How the vocabulary is cut.
    pub vocabulary: VocabularyOptions,
    /// The model; its vocabulary is set by the text.
    pub model: LanguageModelConfig,
    /// Where the texts are.
    pub data: DataConfig,
}

/// Where the texts of a run are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataConfig {
    /// A file or folder; `None` for the built-in language.
    pub train: Option<PathBuf>,
    /// A validation file.
    pub valid: Option<PathBuf>,
    /// A test file.
    pub test: Option<PathBuf>,
    /// Percentages of training, validation and test, where there are no such files.
    pub split: Vec<u32>,
    /// Whether bytes that are no text are replaced.
    pub lossy: bool,
}

/// A named bundle of choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// For the built-in language.
    Builtin,
    /// For a text when nothing is said.
    Default,
    /// The report's own model and task.
    TextLstm,
    /// Zaremba et al. 2014, not regularised.
    Small,
    /// Zaremba et al. 2014, regularised.
    Medium,
    /// Zaremba et al. 2014, regularised.
    Large,
    /// A character model.
    Char,
}

impl Preset {
    /// The configuration. Zaremba's rate 1 and clip 5 are for the loss summed over T steps; here the loss is the mean
    /// over all tokens, so the rate is T times and the clip 1/T of it.
    pub fn config(self) -> RunConfig {
        let base = RunConfig {
            seed: 1,
            batch: 20,
            segment: 20,
            batching: Batching::Stream,
            epochs: 13,
            steps: None,
            budget: None,
            patience: None,
            clip: Some(0.25),
            optimizer: OptimizerKind::Sgd,
            weight_decay: 0.0,
            schedule: Schedule { rate: 20.0, decay: 2.0, decay_after: 4 },
            init: Init { scheme: InitScheme::Uniform(0.1), forget_bias: None },
            tokenizer: TokenizerKind::Words,
            vocabulary: VocabularyOptions::default(),
            model: LanguageModelConfig {
                vocabulary: 1,
                embedding: 200,
                hidden: 200,
                layers: 2,
                projection: None,
                wiring: LayerWiring::Stacked,
                readout: Readout::Hidden,
                horizon: None,
                dropout: 0.0,
            },
            data: DataConfig { split: vec![90, 5, 5], ..DataConfig::default() },
        };
        let model = |embedding, hidden, layers, dropout| LanguageModelConfig {
            embedding,
            hidden,
            layers,
            dropout,
            ..base.model.clone()
        };
        let adam = |rate, decay, decay_after| (OptimizerKind::Adam, Schedule { rate, decay, decay_after });
        let uniform = |a| Init { scheme: InitScheme::Uniform(a), forget_bias: None };
        match self {
            Self::Small => base,
            Self::Medium => RunConfig {
                segment: 35,
                epochs: 39,
                clip: Some(5.0 / 35.0),
                schedule: Schedule { rate: 35.0, decay: 1.2, decay_after: 6 },
                init: uniform(0.05),
                model: model(650, 650, 2, 0.5),
                ..base
            },
            Self::Large => RunConfig {
                segment: 35,
                epochs: 55,
                clip: Some(10.0 / 35.0),
                schedule: Schedule { rate: 35.0, decay: 1.15, decay_after: 14 },
                init: uniform(0.04),
                model: model(1500, 1500, 2, 0.65),
                ..base
            },
            Self::TextLstm => {
                let (optimizer, schedule) = adam(5e-4, 1.0, 1);
                RunConfig {
                    batch: 128,
                    segment: 5,
                    batching: Batching::Windows(5),
                    epochs: 5,
                    clip: None,
                    optimizer,
                    schedule,
                    init: Init { scheme: InitScheme::OnesBias, forget_bias: None },
                    model: LanguageModelConfig { readout: Readout::OutputGate, ..model(256, 128, 1, 0.0) },
                    ..base
                }
            }
            Self::Char => {
                let (optimizer, schedule) = adam(2e-3, 1.5, 6);
                RunConfig {
                    batch: 64,
                    segment: 64,
                    epochs: 12,
                    clip: Some(1.0),
                    optimizer,
                    schedule,
                    init: Init { scheme: InitScheme::Torch, forget_bias: Some(1.0) },
                    tokenizer: TokenizerKind::Chars,
                    model: model(64, 256, 2, 0.1),
                    ..base
                }
            }
            Self::Default => {
                let (optimizer, schedule) = adam(2e-3, 2.0, 4);
                RunConfig {
                    epochs: 10,
                    clip: Some(1.0),
                    optimizer,
                    schedule,
                    patience: Some(2),
                    init: Init { scheme: InitScheme::Uniform(0.1), forget_bias: Some(1.0) },
                    model: model(200, 200, 1, 0.3),
                    ..base
                }
            }
            Self::Builtin => {
                let (optimizer, schedule) = adam(4e-3, 2.0, 2);
                RunConfig {
                    batch: 32,
                    segment: 32,
                    epochs: 5,
                    clip: Some(1.0),
                    optimizer,
                    schedule,
                    init: Init { scheme: InitScheme::Torch, forget_bias: Some(1.0) },
                    vocabulary: VocabularyOptions { min_count: Some(1), ..VocabularyOptions::default() },
                    model: model(64, 128, 1, 0.0),
                    ..base
                }
            }
        }
    }
}

/// The texts of a run, read.
#[derive(Debug)]
pub struct Data {
    /// The tokenizer, of the training text.
    pub tokenizer: Tokenizer,
    /// Trained on.
    pub train: Corpus,
    /// Watched.
    pub valid: Option<Corpus>,
    /// Measured at the end.
    pub test: Option<Corpus>,
    /// The perplexity no model can beat, where it is known.
    pub floor: Option<f64>,
    /// A trigram's test perplexity, for the built-in language.
    pub trigram: Option<f64>,
}

impl Data {
    /// Reads the texts; with `tokenizer`, a resumed run's own, instead of building one.
    ///
    /// # Errors
    /// A text that cannot be used.
    pub fn read(config: &RunConfig, tokenizer: Option<Tokenizer>) -> Result<Self, TextError> {
        let DataConfig { train, valid, test, split, lossy } = &config.data;
        let file = |path: &Option<PathBuf>| path.as_deref().map(Source::from_file).transpose();
        let mut floor = None;
        let splits = match train {
            None => {
                let grammar = Grammar::standard();
                floor = Some(grammar.floor_perplexity());
                let text = |split, tokens| Source::from_text(&grammar.sample(config.seed, split, tokens));
                Splits { train: text(0, 600_000), valid: Some(text(1, 20_000)), test: Some(text(2, 50_000)) }
            }
            Some(path) => {
                let mut splits = Source::open(path)?;
                let given = valid.is_some() || test.is_some() || splits.valid.is_some() || splits.test.is_some();
                if given {
                    splits.valid = file(valid)?.or(splits.valid);
                    splits.test = file(test)?.or(splits.test);
                    splits
                } else {
                    splits.train.split(split)?
                }
            }
        };
        let lines = config.batching != Batching::Stream;
        let options = VocabularyOptions { line_markers: lines, ..config.vocabulary };
        let tokenizer = match tokenizer {
            Some(tokenizer) => tokenizer,
            None => Tokenizer::build(config.tokenizer, &splits.train, options, *lossy)?,
        };
        let read = |source: &Source| Corpus::read(source, &tokenizer, *lossy);
        let train = read(&splits.train)?;
        if train.ids.len() < 2 {
            return Err(TextError::Unusable(
                "the training text has one token; to learn what follows what, at least two are needed".to_owned(),
            ));
        }
        let valid = splits.valid.as_ref().map(read).transpose()?;
        let test = splits.test.as_ref().map(read).transpose()?;
        let trigram = floor.and(test.as_ref()).map(|test| {
            let ids = |corpus: &Corpus| (0..corpus.ids.len()).map(|at| corpus.ids.get(at)).collect::<Vec<_>>();
            Ngram::train(3, &ids(&train), tokenizer.vocabulary_size(), tokenizer.eos()).perplexity(&ids(test))
        });
        Ok(Self { tokenizer, train, valid, test, floor, trigram })
    }

    /// One checksum of all texts, to notice that they changed.
    pub fn fingerprint(&self) -> String {
        let part = |corpus: Option<&Corpus>| corpus.map_or("none", |corpus| corpus.fingerprint.as_str()).to_owned();
        [part(Some(&self.train)), part(self.valid.as_ref()), part(self.test.as_ref())].join("-")
    }
}

/// The files of a run folder.
#[derive(Clone, Debug)]
pub struct RunFolder(pub PathBuf);

impl RunFolder {
    /// `config.toml`: everything resolved.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// `tokenizer.json`.
    pub fn tokenizer(&self) -> PathBuf {
        self.0.join("tokenizer.json")
    }

    /// `model.safetensors`: the best model.
    pub fn model(&self) -> PathBuf {
        self.0.join("model.safetensors")
    }

    /// `checkpoint.safetensors`: the latest state of training.
    pub fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint.safetensors")
    }

    /// `metrics.jsonl`: a line an epoch.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
}
