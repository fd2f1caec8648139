//! A language model and its texts, as a task of the loop.

use std::borrow::Borrow;
use std::path::Path;
use std::sync::Arc;

use super::data::{Data, batches, sampler};
use super::gates::{LayerGates, measure};
use super::task::{self, Part, Task};
use super::teachers::Teachers;
use crate::evaluate::Evaluation;
use crate::formats::FormatError;
use crate::generate::{Generator, Rules, Sampling};
use crate::model::{LanguageModel, LanguageTape, Loss, Sampler};
use crate::nn::config::{ConfigError, Init};
use crate::nn::dropout::Masks;
use crate::nn::gradients::Gradients;
use crate::nn::params::{Layout, Params};
use crate::nn::state::State;
use crate::optim::parts::{Share, shares};
use crate::run::config::{DataConfig, RunConfig};
use crate::run::error::TrainError;
use crate::run::expectation::Expectation;
use crate::run::fine_tuning::FineTuning;
use crate::run::folder::{Claim, Pending};
use crate::run::saved::{ModelCard, Texts, file_checksum, tokenizer_text};
use crate::text::batch::{Batch, Batches, NO_TARGET};
use crate::text::corpus::Corpus;
use crate::text::tokenizer::TokenizerKind;
use crate::text::vectors::vectors;
use crate::train::shards::Shard;

/// The tokens of a text that a model writes while it trains: words, and pieces of them.
const SAMPLED_WORDS: usize = 40;
const SAMPLED_PIECES: usize = 160;

/// A language model and its texts, which it has or borrows.
#[derive(Debug)]
pub struct Language<D = Data> {
    config: RunConfig,
    model: LanguageModel,
    data: D,
    /// Draws the candidates of a sampled softmax, while steps score those alone.
    sampler: Option<Arc<Sampler>>,
    /// The parameters that it starts with, if those are of a trained model.
    start: Option<Params>,
    /// What trained models say of the training text, if some teach.
    teachers: Option<Teachers>,
    /// The checksum of the whole `tokenizer.json`.
    tokenizer_file: String,
}

impl<D: Borrow<Data>> Language<D> {
    /// The model of a configuration that was fitted to these texts.
    ///
    /// # Errors
    /// A model that cannot be built, or is another than the one that it starts from.
    pub(crate) fn new(config: RunConfig, data: D) -> Result<Self, ConfigError> {
        let model = LanguageModel::new(config.model.clone())?;
        let sampler = sampler(&config, data.borrow());
        let start = data.borrow().inherited.as_ref().map(|inherited| inherited.params(&model)).transpose()?;
        Ok(Self { config, model, data, sampler, start, teachers: None, tokenizer_file: String::new() })
    }

    /// The same with the checksum of its tokenizer's file.
    pub(crate) fn with_tokenizer_file(self, tokenizer_file: String) -> Self {
        Self { tokenizer_file, ..self }
    }

    /// The same with teachers.
    pub(crate) fn taught(self, teachers: Option<Teachers>) -> Self {
        Self { teachers, ..self }
    }

    /// Its teachers, if it has some.
    pub(crate) fn teachers(&self) -> Option<&Teachers> {
        self.teachers.as_ref()
    }

    /// Its settings and texts, as another begins with.
    pub(crate) fn into_parts(self) -> (RunConfig, D) {
        (self.config, self.data)
    }

    /// The model.
    pub(crate) fn model(&self) -> &LanguageModel {
        &self.model
    }

    /// The texts.
    pub(crate) fn data(&self) -> &Data {
        self.data.borrow()
    }

    /// Whether steps score candidates at first.
    pub(crate) fn samples(&self) -> bool {
        self.sampler.is_some()
    }

    fn corpus(&self, part: Part) -> Option<&Corpus> {
        match part {
            Part::Validation => self.data().valid.as_ref(),
            Part::Test => self.data().test.as_ref(),
        }
    }
}

impl<D: Borrow<Data>> Task for Language<D> {
    type Settings = RunConfig;
    type Batch = Batch;
    type Batches<'a>
        = Batches<'a>
    where
        Self: 'a;
    type Tape = LanguageTape;
    type Evaluation<'a>
        = Evaluation<'a>
    where
        Self: 'a;

    fn settings(&self) -> &RunConfig {
        &self.config
    }

    fn settings_mut(&mut self) -> &mut RunConfig {
        &mut self.config
    }

    fn layout(&self) -> &Arc<Layout> {
        self.model.layout()
    }

    fn initialise(&self, init: &Init, seed: u64) -> Params {
        self.start.clone().unwrap_or_else(|| {
            let mut params = self.model.initialise(init, seed);
            let Data { train, tokenizer, .. } = self.data();
            if self.config.unigram_bias {
                self.model.start_from_counts(&mut params, &train.counts(tokenizer));
            }
            if self.config.spectral_embedding {
                let model = &self.config.model;
                let vectors = vectors(&train.ids, model.vocabulary, model.embedding(), seed);
                self.model.start_from_vectors(&mut params, &vectors);
            }
            params
        })
    }

    fn shares(&self, _epoch: usize) -> Vec<Share> {
        let FineTuning { freeze, layer_rate_decay, .. } = &self.config.fine_tuning;
        shares(self.layout(), self.config.model.lstm.layers, freeze, *layer_rate_decay)
    }

    fn gradients(&self) -> Gradients {
        self.model.gradients()
    }

    fn tape(&self) -> LanguageTape {
        self.model.tape()
    }

    fn state(&self, rows: usize) -> State {
        self.model.state(rows)
    }

    fn train_step(
        &self,
        params: &Params,
        batch: &Batch,
        state: &mut State,
        masks: Masks,
        tape: &mut LanguageTape,
        gradients: &mut Gradients,
    ) -> Loss {
        self.train_step_telling(params, batch, state, masks, tape, gradients, &mut |_, _, _| ())
    }

    fn train_step_telling(
        &self,
        params: &Params,
        batch: &Batch,
        state: &mut State,
        masks: Masks,
        tape: &mut LanguageTape,
        gradients: &mut Gradients,
        complete: &mut dyn FnMut(Loss, usize, &mut [f32]),
    ) -> Loss {
        if let Some(teachers) = &self.teachers {
            teachers.teach(batch, tape);
        }
        self.model.train_step_telling(params, batch, state, Some(masks), tape, gradients, complete)
    }

    fn completes_from(&self) -> Vec<usize> {
        self.model.completes_from()
    }

    fn gates(&self, params: &Params, batch: &Batch, state: &State) -> Vec<LayerGates> {
        measure(&self.model, params, batch, state)
    }

    fn sample(&self, params: &Params, number: u64) -> Option<String> {
        let tokenizer = &self.data().tokenizer;
        let rules = Rules::of_settings(&self.config, tokenizer);
        let (sampling, seed) = (Sampling::default(), self.config.training.seed);
        // A vocabulary of which nothing may be written has no sample.
        let generator = Generator::new(&self.model, params, rules, sampling, seed, number).ok()?;
        let tokens = if tokenizer.kind() == TokenizerKind::Words { SAMPLED_WORDS } else { SAMPLED_PIECES };
        let mut decoder = tokenizer.decoder("");
        let mut text: Vec<u8> = generator.take(tokens).flat_map(|token| decoder.push(token)).collect();
        text.extend(decoder.finish());
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// A shorter segment has a noisier gradient, and there are more of them (Merity 2017).
    fn lengths(&self, batch: &Batch) -> (usize, usize) {
        if self.config.variable_segment { (batch.steps, self.config.segment) } else { (1, 1) }
    }

    /// Towards the end of a run every token is scored.
    fn adjust(&self, done: f64, tape: &mut LanguageTape) {
        let sampler = self.sampler.as_ref().filter(|_| done < self.config.candidates_until);
        if tape.samples() != sampler.is_some() {
            tape.sample(sampler);
        }
    }

    fn dropped(&self, done: f64) -> f32 {
        self.config.model.dropout.share_at(done)
    }

    fn adjusts(&self) -> bool {
        self.config.candidates.is_some() || self.config.model.dropout.start < 1.0
    }

    fn fingerprint(&self) -> String {
        self.data().fingerprint()
    }

    fn expected(&self) -> Option<Expectation> {
        self.data().expected
    }

    fn batches(&self, epoch: usize) -> Result<Batches<'_>, TrainError> {
        let batches = batches(&self.config, self.data(), epoch)?;
        Ok(if self.teachers.is_some() { batches.placed() } else { batches })
    }

    fn positions(&self, part: Part) -> Option<usize> {
        self.corpus(part).map(Corpus::tokens)
    }

    fn evaluation<'a>(&'a self, params: &'a Params, part: Part) -> Result<Evaluation<'a>, TrainError> {
        let missing = || TrainError::Unusable("there is no such text to evaluate on".to_owned());
        let (tokenizer, corpus) = (&self.data().tokenizer, self.corpus(part).ok_or_else(missing)?);
        let (batching, rows) = (self.config.batching, self.config.training.batch);
        Ok(Evaluation::new(&self.model, params, tokenizer, corpus, batching, rows)?)
    }

    fn figure(loss: Loss) -> f64 {
        loss.perplexity()
    }

    fn describe(&self, card: &mut ModelCard) {
        let data = self.data();
        card.tokenizer = data.tokenizer.fingerprint();
        card.tokenizer_file = self.tokenizer_file.clone();
        card.text = data.train.fingerprint.clone();
        card.floor = data.floor;
    }

    fn texts(&self, path: &Path) -> Result<Texts, FormatError> {
        tokenizer_text(&self.data().tokenizer, path)
    }

    fn files_to_follow(&self) -> Result<Vec<String>, TrainError> {
        let bytes = self.data().tokenizer.to_bytes(Path::new("tokenizer.json"))?;
        let text = String::from_utf8(bytes);
        Ok(vec![text.map_err(|_| TrainError::Unusable("the tokenizer is no text".to_owned()))?])
    }

    fn add_files(&self, claim: &Claim, first: &mut Pending) -> Result<(), FormatError> {
        let folder = claim.folder();
        first.add(&folder.tokenizer(), &self.data().tokenizer.to_bytes(&folder.tokenizer())?)?;
        let DataConfig { train, valid, test, .. } = &self.config.data;
        first.add_text(claim, [train, valid, test].map(|text| text.as_deref()))
    }
}

impl task::Batches<Batch> for Batches<'_> {
    fn count(&self) -> usize {
        self.len()
    }

    fn fill(&self, number: usize, batch: &mut Batch) {
        self.get(number, batch);
    }

    fn cut(&self, _number: usize, whole: &Batch, shard: Shard, part: &mut Batch) -> bool {
        whole.cut(shard.rows(whole.batch), part);
        part.targets.iter().any(|target| *target != NO_TARGET)
    }
}

impl task::Evaluation for Evaluation<'_> {
    fn advance(&mut self) -> bool {
        self.advance()
    }

    fn positions(&self) -> usize {
        self.predicted().count()
    }

    fn total(&self) -> Loss {
        self.total()
    }
}

/// The checksum of the file that this tokenizer is written as.
pub(super) fn checksum_of(data: &Data, claim: &Claim) -> Result<String, FormatError> {
    Ok(file_checksum(&data.tokenizer.to_bytes(&claim.folder().tokenizer())?))
}
