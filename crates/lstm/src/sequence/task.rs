//! A model over sequences and its data, as a task of the loop.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::bag;
use super::batch::{SequenceBatch, SequenceBatches};
use super::config::{SequenceConfig, SequenceData};
use super::data::{Examples, SequenceDataset};
use super::head::Objective;
use super::model::{SequenceModel, SequenceTape};
use super::numbers::{SCALERS, Scalers};
use crate::formats::FormatError;
use crate::free_memory::{check_memory, sum, times};
use crate::model::Loss;
use crate::nn::config::Init;
use crate::nn::dropout::Masks;
use crate::nn::gradients::Gradients;
use crate::nn::params::{Layout, Params};
use crate::nn::state::State;
use crate::optim::parts::{Share, Taken, shares_by};
use crate::run::error::TrainError;
use crate::run::folder::{Claim, Pending};
use crate::run::saved::{ModelCard, Texts, file_checksum, load_tokenizer, tokenizer_text};
use crate::run::settings::Settings as _;
use crate::said::count;
use crate::text::tokenizer::Tokenizer;
use crate::train::task::{Batches as _, Evaluation, Part, Task};
use crate::train::trainer::start::Stopped;
use crate::train::trainer::{Extension, Trainer};

/// A model over sequences and its data.
#[derive(Debug)]
pub struct SequenceTask {
    config: SequenceConfig,
    model: SequenceModel,
    data: Arc<SequenceDataset>,
    /// The checksum of the whole `tokenizer.json`.
    tokenizer_file: String,
}

impl SequenceTask {
    /// The model of settings that were fitted to these data.
    ///
    /// # Errors
    /// A model that cannot be built, or that does not fit the memory.
    pub fn new(config: SequenceConfig, data: impl Into<Arc<SequenceDataset>>) -> Result<Self, TrainError> {
        let data = data.into();
        config.validate()?;
        let mut model = SequenceModel::new(&config, data.tokenizer.as_ref().and_then(Tokenizer::unknown))?;
        model.weigh(data.class_weights(&config));
        let task = Self { config, model, data, tokenizer_file: String::new() };
        task.check_memory()?;
        Ok(task)
    }

    /// Refuses what does not fit the memory: parameters, gradients, moments, and the longest batch.
    fn check_memory(&self) -> Result<(), TrainError> {
        let (parameters, rows) = (self.model.layout().len(), self.config.training.batch);
        let longest = self.data.train.sequences.longest();
        let bytes = sum([times(&[parameters, 5, size_of::<f32>()]), self.model.bytes(longest, rows) as u128]);
        let what = || {
            let what = if self.config.model.numbers.is_some() { "step" } else { "token" };
            format!("training on {} of {}", count(rows, "sequence"), count(longest, what))
        };
        Ok(check_memory(what, bytes, "`batch`, `longest`, `hidden` or `embedding`")?)
    }

    /// The model.
    pub fn model(&self) -> &SequenceModel {
        &self.model
    }

    /// The same with another share of the scores for a bag of words, where there is one.
    pub(super) fn with_share(&self, share: f32) -> Self {
        let mut model = self.model.clone();
        model.set_share(share);
        let (config, data) = (self.config.clone(), self.data.clone());
        Self { config, model, data, tokenizer_file: self.tokenizer_file.clone() }
    }

    /// The data.
    pub fn data(&self) -> &SequenceDataset {
        &self.data
    }

    fn examples(&self, part: Part) -> Option<&Examples> {
        match part {
            Part::Validation => self.data.valid.as_ref(),
            Part::Test => self.data.test.as_ref(),
        }
    }
}

impl Trainer<SequenceTask> {
    /// Starts a run over sequences in a folder that was claimed for it. Data from standard input that were written there are kept as the run's.
    ///
    /// # Errors
    /// A setting or data that cannot be used; nothing is left behind.
    pub fn begin_sequences(
        mut config: SequenceConfig,
        data: impl Into<Arc<SequenceDataset>>,
        claim: Claim,
    ) -> Result<Self, TrainError> {
        let (data, started) = (data.into(), Instant::now());
        if claim.spooled().is_some() {
            config.data.train = Some(claim.folder().own_text()?);
        }
        config.training.patience = config.training.patience.filter(|_| data.valid.is_some());
        let seconds = data.seconds;
        let path = claim.folder().tokenizer();
        let bytes = data.tokenizer.as_ref().map(|tokenizer| tokenizer.to_bytes(&path)).transpose()?;
        let tokenizer_file = bytes.map_or(String::new(), |bytes| file_checksum(&bytes));
        let task = SequenceTask { tokenizer_file, ..SequenceTask::new(config, data)? };
        Self::begin_task(task, claim, seconds + started.elapsed().as_secs_f64())
    }

    /// Goes on with the run over sequences in `folder` from its last checkpoint, with the same bits as if it had never stopped.
    ///
    /// # Errors
    /// A folder that is no run, files that are damaged, or data that changed.
    pub fn resume_sequences(folder: &Path, extension: &Extension) -> Result<Self, TrainError> {
        let stopped = Stopped::<SequenceConfig>::open(folder)?;
        let found = if stopped.settings().model.numbers.is_none() { Some(stopped.tokenizer()?) } else { None };
        let (tokenizer, tokenizer_file) = found.map_or((None, String::new()), |(of, file)| (Some(of), file));
        let mut config = stopped.extended(extension)?;
        let SequenceData { train, valid, test, .. } = &mut config.data;
        extension.move_data([train, valid, test])?;
        let data = SequenceDataset::read(&mut config, tokenizer)?;
        let task = SequenceTask { tokenizer_file, ..SequenceTask::new(config, data)? };
        stopped.go_on(task, extension.learning_rate)
    }
}

impl Stopped<SequenceConfig> {
    fn tokenizer(&self) -> Result<(Tokenizer, String), TrainError> {
        let folder = self.folder();
        let found = load_tokenizer(folder, self.tokenizer_file(), &folder.checkpoint())?;
        if found.0.vocabulary_size() != self.settings().model.vocabulary {
            let why = "it is not the tokenizer that the run was trained with; put that beside it".to_owned();
            return Err(FormatError::Unusable { path: folder.tokenizer(), why }.into());
        }
        Ok(found)
    }
}

impl Task for SequenceTask {
    type Settings = SequenceConfig;
    type Batch = SequenceBatch;
    type Batches<'a> = SequenceBatches<'a>;
    type Tape = SequenceTape;
    type Evaluation<'a> = SequenceEvaluation<'a>;

    fn settings(&self) -> &SequenceConfig {
        &self.config
    }

    fn settings_mut(&mut self) -> &mut SequenceConfig {
        &mut self.config
    }

    fn layout(&self) -> &Arc<Layout> {
        self.model.layout()
    }

    fn initialise(&self, init: &Init, seed: u64) -> Params {
        let mut params = self.model.initialise(init, seed);
        if let Some(inherited) = &self.data.inherited {
            inherited.lay_into(&mut params, &self.config.model.lstm);
        }
        if let Some(bag) = self.model.bag() {
            let fitted = self.data.bag.get_or_init(|| bag.fit(&self.data.train.sequences, self.config.several));
            bag.table(&mut params).copy_from_slice(fitted);
        }
        params
    }

    fn shares(&self, epoch: usize) -> Vec<Share> {
        let SequenceConfig { fine_tuning, unfreeze, training, .. } = &self.config;
        if fine_tuning.from.is_none() && self.model.bag().is_none() {
            return Vec::new();
        }
        let taken = Taken {
            layers: self.config.model.lstm.layers,
            frozen: &fine_tuning.freeze,
            decay: fine_tuning.layer_rate_decay,
            unfreeze: *unfreeze,
        };
        let batches = self.data.train.sequences.len().div_ceil(training.batch);
        let steps = batches.div_ceil(training.accumulate);
        shares_by(self.layout(), |name| match fine_tuning.from {
            // It was fitted before the first step.
            _ if name.starts_with(bag::NAME) => (0.0, 0),
            Some(_) => taken.share(name, epoch, steps),
            None => (1.0, 0),
        })
    }

    fn gradients(&self) -> Gradients {
        self.model.gradients()
    }

    fn tape(&self) -> SequenceTape {
        self.model.tape()
    }

    fn train_step(
        &self,
        params: &Params,
        batch: &SequenceBatch,
        _state: &mut State,
        masks: Masks,
        tape: &mut SequenceTape,
        gradients: &mut Gradients,
    ) -> Loss {
        self.model.train_step(params, batch, Some(masks), tape, gradients)
    }

    fn fingerprint(&self) -> String {
        self.data.fingerprint()
    }

    fn batches(&self, epoch: usize) -> Result<SequenceBatches<'_>, TrainError> {
        let training = &self.config.training;
        let (train, outputs) = (&self.data.train.sequences, self.model.outputs());
        Ok(SequenceBatches::of_epoch(train, training.batch, outputs, training.seed, epoch))
    }

    fn positions(&self, part: Part) -> Option<usize> {
        let positions = |examples: &Examples| match self.model.outputs().0 {
            Objective::Tags => examples.sequences.total_tokens(),
            _ => examples.sequences.len(),
        };
        self.examples(part).map(positions)
    }

    fn evaluation<'a>(&'a self, params: &'a Params, part: Part) -> Result<SequenceEvaluation<'a>, TrainError> {
        let missing = || TrainError::Unusable("there are no such data to evaluate on".to_owned());
        let examples = self.examples(part).ok_or_else(missing)?;
        let batches = SequenceBatches::of_all(&examples.sequences, self.config.training.batch, self.model.outputs());
        Ok(SequenceEvaluation::new(&self.model, params, batches))
    }

    fn describe(&self, card: &mut ModelCard) {
        card.tokenizer = self.data.tokenizer.as_ref().map_or(String::new(), Tokenizer::fingerprint);
        card.tokenizer_file = self.tokenizer_file.clone();
        card.text = self.data.train.sequences.fingerprint();
    }

    fn texts(&self, path: &Path) -> Result<Texts, FormatError> {
        let of = self.data.tokenizer.as_ref().map(|tokenizer| tokenizer_text(tokenizer, path));
        let mut texts = of.transpose()?.unwrap_or_default();
        if self.data.scalers != Scalers::default() {
            texts.insert(SCALERS.to_owned(), self.data.scalers.to_text(path)?);
        }
        Ok(texts)
    }

    fn add_files(&self, claim: &Claim, first: &mut Pending) -> Result<(), FormatError> {
        let SequenceData { train, valid, test, .. } = &self.config.data;
        first.add_text(claim, [train, valid, test].map(|data| data.as_deref()))?;
        let Some(tokenizer) = &self.data.tokenizer else { return Ok(()) };
        let path = claim.folder().tokenizer();
        first.add(&path, &tokenizer.to_bytes(&path)?)
    }
}

/// A pass over examples.
#[derive(Debug)]
pub struct SequenceEvaluation<'a> {
    model: &'a SequenceModel,
    params: &'a Params,
    batches: SequenceBatches<'a>,
    batch: SequenceBatch,
    tape: SequenceTape,
    next: usize,
    total: Loss,
}

impl<'a> SequenceEvaluation<'a> {
    /// Over these batches.
    pub(crate) fn new(model: &'a SequenceModel, params: &'a Params, batches: SequenceBatches<'a>) -> Self {
        let (batch, tape) = (SequenceBatch::default(), model.frozen_tape());
        Self { model, params, batches, batch, tape, next: 0, total: Loss::default() }
    }
}

impl Evaluation for SequenceEvaluation<'_> {
    fn advance(&mut self) -> bool {
        if self.next == self.batches.count() {
            return false;
        }
        self.batches.fill(self.next, &mut self.batch);
        self.total.add(self.model.loss(self.params, &self.batch, &mut self.tape));
        self.next += 1;
        true
    }

    fn positions(&self) -> usize {
        match self.model.outputs().0 {
            Objective::Tags => self.batch.steps(),
            _ => self.batch.examples.len(),
        }
    }

    fn total(&self) -> Loss {
        self.total
    }
}
