//! A run that is about to begin: in a few lines what `lstm train` does.

use std::path::{Path, PathBuf};

use super::pretrained::Pretrained;
use super::trainer::Trainer;
use crate::optim::optimizer::OptimizerKind;
use crate::plan::{Basis, Decided, optimizer_of_rate, prepare};
use crate::run::Length;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::fine_tuning::VocabularyChange;
use crate::run::folder::{Claim, Existing};
use crate::run::preset::Preset;
use crate::text::tokenizer::TokenizerKind;

/// A run that is about to begin. What is not decided here is the preset's; without one it is chosen for the text, the time and
/// this machine.
pub struct NewRun {
    text: Option<PathBuf>,
    preset: Option<Preset>,
    existing: Existing,
    length: Length,
    members: Option<usize>,
    tokenizer: Option<TokenizerKind>,
    optimizer: Option<OptimizerKind>,
    learning_rate: Option<f32>,
    from: Option<(PathBuf, VocabularyChange)>,
    changes: Vec<Change>,
    settings: serde_json::Map<String, serde_json::Value>,
}

/// A change of any setting.
type Change = Box<dyn Fn(&mut RunConfig) + Send>;

impl NewRun {
    /// A run on a text: a file, or a folder of files. `None` for the built-in language.
    pub fn new(text: Option<&Path>) -> Self {
        Self {
            text: text.map(Path::to_owned),
            preset: None,
            existing: Existing::Refuse,
            length: Length::default(),
            members: None,
            tokenizer: None,
            optimizer: None,
            learning_rate: None,
            from: None,
            changes: Vec::new(),
            settings: serde_json::Map::new(),
        }
    }

    /// Takes the settings of a preset, not of a plan.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.preset = Some(preset);
        self
    }

    /// Goes on from a trained model, a run folder or a model file: its shape, its values, and its vocabulary with that change. Parts can be
    /// frozen, or trained at rates of their own, by [`RunConfig::fine_tuning`].
    pub fn from(mut self, model: impl AsRef<Path>, vocabulary: VocabularyChange) -> Self {
        self.from = Some((model.as_ref().to_owned(), vocabulary));
        self
    }

    /// Learns from trained models too, run folders or model files of the same tokens: `weight` of what is learned is the mean of what they
    /// say. Every step then scores the whole vocabulary.
    pub fn teach<P: AsRef<Path>>(self, models: impl IntoIterator<Item = P>, weight: f32) -> Self {
        let absolute = |path: P| std::path::absolute(path.as_ref()).unwrap_or_else(|_| path.as_ref().to_owned());
        let models: Vec<PathBuf> = models.into_iter().map(absolute).collect();
        self.with(move |config| {
            (config.teaching.models, config.teaching.weight) = (models.clone(), weight);
            config.candidates = None;
        })
    }

    /// Replaces a run that has the folder.
    pub fn replace(mut self) -> Self {
        self.existing = Existing::Replace;
        self
    }

    /// Bounds the run by epochs.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.length.epochs = Some(epochs);
        self
    }

    /// Bounds the run by training steps.
    pub fn steps(mut self, steps: u64) -> Self {
        self.length.steps = Some(steps);
        self
    }

    /// Bounds the run by seconds.
    pub fn budget(mut self, seconds: f64) -> Self {
        self.length.budget = Some(seconds);
        self
    }

    /// Makes it a run of so many models, which [`Trainer::next_member`] trains one after the other: alike but for their seeds, each in an equal
    /// part of the time. Else it is one.
    pub fn members(mut self, members: usize) -> Self {
        self.members = Some(members);
        self
    }

    /// Says what a token is.
    pub fn tokenizer(mut self, kind: TokenizerKind) -> Self {
        self.tokenizer = Some(kind);
        self
    }

    /// Names the optimizer.
    pub fn optimizer(mut self, kind: OptimizerKind) -> Self {
        self.optimizer = Some(kind);
        self
    }

    /// Sets the learning rate; of a planned run it says too whether the optimizer is SGD or Adam, if none is named.
    pub fn learning_rate(mut self, rate: f32) -> Self {
        self.learning_rate = Some(rate);
        self
    }

    /// Changes any other setting. Of a planned run this is asked for more than once, over what is chosen.
    pub fn with(mut self, change: impl Fn(&mut RunConfig) + Send + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Sets any settings by their names in `config.toml`, see [`RunConfig::with_settings`].
    pub fn settings(mut self, settings: serde_json::Map<String, serde_json::Value>) -> Self {
        self.settings.extend(settings);
        self
    }

    /// Reads the text, chooses what is not decided, and begins the run in `folder`.
    ///
    /// # Errors
    /// A setting, a text or a folder that cannot be used; nothing is left behind.
    pub fn begin(self, folder: impl AsRef<Path>) -> Result<Trainer, TrainError> {
        let text = self.text.as_deref().map(std::path::absolute).transpose();
        let text = text.map_err(|error| TrainError::Unusable(format!("the text cannot be found: {error}")))?;
        let pretrained = self.from.as_ref().map(|(model, change)| Pretrained::open(model, *change)).transpose()?;
        let claim = Claim::new(folder.as_ref(), self.existing)?;
        let overlay = |mut config: RunConfig| {
            config.data.train = text.clone();
            if let Some(pretrained) = &pretrained {
                pretrained.lay_over(&mut config);
            }
            if let Some(kind) = self.tokenizer {
                config.set_tokenizer(kind);
            }
            if let Some(kind) = self.optimizer {
                config.training.optimizer = kind;
            }
            if let Some(rate) = self.learning_rate {
                config.training.schedule.learning_rate = rate;
            }
            config.training.set_length(self.length);
            if let Some(members) = self.members {
                config.training.set_members(members);
            }
            self.changes.iter().for_each(|change| change(&mut config));
            Ok::<_, TrainError>(config.with_settings(&self.settings)?)
        };
        let decided = Decided {
            tokens: self.tokenizer.is_some(),
            pretrained: pretrained.as_ref(),
            optimizer: self.optimizer,
            likely_optimizer: self.learning_rate.map(optimizer_of_rate),
            ..Decided::by(&overlay)
        };
        let basis = Basis::of(self.preset, text.is_some());
        let (config, data) = prepare(basis, &decided, &mut |_| ())?.into_parts();
        Trainer::begin(config, data, claim)
    }
}
