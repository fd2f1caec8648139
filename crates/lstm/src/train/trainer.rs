//! The training loop: truncated back-propagation through time with carried state, validation, checkpoints, resume.
//! It emits events and prints nothing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use super::optimizer::Optimizer;
use super::run::{Data, RunConfig, RunFolder};
use crate::config::ConfigError;
use crate::dropout::Dropout;
use crate::formats::safetensors::{Contents, FormatError, Tensor, read, write};
use crate::formats::write_atomically;
use crate::model::{LanguageModel, Loss};
use crate::params::Params;
use crate::state::State;
use crate::text::TextError;
use crate::text::batches::{Batch, Batches, Batching};
use crate::text::corpus::Corpus;
use crate::text::tokenizer::Tokenizer;

/// Training that cannot start or go on, in a sentence.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A model or checkpoint file.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A loss that is not a number.
    #[error(
        "the loss of step {step} is not a finite number (the last good one was {last:.3} nats); lower --rate or --clip. \
         The last good checkpoint is kept"
    )]
    NotFinite {
        /// The step.
        step: u64,
        /// The last finite loss.
        last: f64,
    },
    /// Anything else, said in full.
    #[error("{0}")]
    Unusable(String),
}

/// What happens during training.
#[derive(Clone, Debug)]
pub enum Event {
    /// A step was taken.
    Step {
        /// The epoch, from 0.
        epoch: usize,
        /// The step within the epoch, from 1, and how many it has.
        step: (usize, usize),
        /// The mean loss of the step, in nats.
        loss: f64,
        /// The mean loss of the epoch so far, in nats.
        epoch_loss: f64,
        /// Predicted tokens a second of this session.
        tokens_per_second: f64,
        /// The share of the whole run that is done.
        progress: f64,
    },
    /// An epoch ended and was validated.
    Epoch {
        /// The epoch, from 0.
        epoch: usize,
        /// Its training loss.
        train: Loss,
        /// The validation's.
        valid: Option<Loss>,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every epoch, step or second was used.
    Complete,
    /// Validation stopped improving.
    Patience,
    /// It was asked to stop; a checkpoint was saved.
    Interrupted,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The last epoch's training loss.
    pub train: Loss,
    /// The best validation loss.
    pub valid: Option<Loss>,
    /// The best model's test loss.
    pub test: Option<Loss>,
    /// Seconds of training, of all its sessions.
    pub seconds: f64,
    /// Predicted training tokens a second.
    pub tokens_per_second: f64,
    /// Why it ended.
    pub end: End,
}

/// Where training stands; with parameters, moments and states, all that a checkpoint holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Position {
    epoch: usize,
    batch: usize,
    step: u64,
    epoch_loss: Loss,
    last_epoch: Loss,
    best: Option<Loss>,
    epochs_since_best: usize,
    seconds: f64,
    tokens: u64,
    data: String,
}

/// A run in progress.
#[derive(Debug)]
pub struct Trainer {
    /// The configuration.
    pub config: RunConfig,
    /// The texts.
    pub data: Data,
    /// The model.
    pub model: LanguageModel,
    folder: RunFolder,
    params: Params,
    optimizer: Optimizer,
    state: State,
    position: Position,
    started: Instant,
    seconds_before: f64,
}

/// Seconds between checkpoints within an epoch.
const CHECKPOINT_SECONDS: f64 = 60.0;

impl Trainer {
    /// Starts a run in `folder`, which must not exist unless it is a run and `force` is given.
    ///
    /// # Errors
    /// A setting, a text or a folder that cannot be used; nothing is left behind.
    pub fn create(mut config: RunConfig, data: Data, folder: &Path, force: bool) -> Result<Self, TrainError> {
        config.model.vocabulary = data.tokenizer.vocabulary_size();
        let model = LanguageModel::new(config.model.clone())?;
        for (name, value) in [("batch", config.batch), ("segment", config.segment)] {
            crate::config::at_least_one(name, value)?;
        }
        Batches::training(&data.train, &data.tokenizer, config.batching, config.batch, config.segment, config.seed, 0)?;
        let folder = RunFolder(folder.to_owned());
        if folder.path().exists()
            && std::fs::read_dir(folder.path()).map_or(true, |mut entries| entries.next().is_some())
        {
            let shown = folder.path().display();
            if !folder.config().exists() {
                return Err(TrainError::Unusable(format!("{shown} exists and is not a run; choose another --out")));
            }
            if !force {
                return Err(TrainError::Unusable(format!(
                    "{shown} exists; choose another --out, pass --force to replace it, or go on with it by --resume"
                )));
            }
            for file in [folder.checkpoint(), folder.model(), folder.metrics()] {
                let _ = std::fs::remove_file(file);
            }
        }
        let trouble = |e: std::io::Error| TrainError::Unusable(format!("{}: {e}", folder.path().display()));
        std::fs::create_dir_all(folder.path()).map_err(trouble)?;
        let text = toml::to_string_pretty(&config).map_err(|e| TrainError::Unusable(e.to_string()))?;
        write_atomically(&folder.config(), text.as_bytes()).map_err(trouble)?;
        data.tokenizer.save(&folder.tokenizer())?;
        let params = model.initialise(&config.init, config.seed);
        let position = Position { data: data.fingerprint(), ..Position::default() };
        Ok(Self::assemble(config, data, model, folder, params, position))
    }

    fn assemble(
        config: RunConfig,
        data: Data,
        model: LanguageModel,
        folder: RunFolder,
        params: Params,
        position: Position,
    ) -> Self {
        let optimizer = Optimizer::new(config.optimizer, config.weight_decay, params.values().len());
        let state = model.state(config.batch);
        let seconds_before = position.seconds;
        let started = Instant::now();
        Self { config, data, model, folder, params, optimizer, state, position, started, seconds_before }
    }

    /// Goes on with the run in `folder` from its last checkpoint, with the same bits as if it had never stopped.
    /// `change` may lengthen the run.
    ///
    /// # Errors
    /// A folder that is no run, files that are damaged, or texts that changed.
    pub fn resume(folder: &Path, change: impl FnOnce(&mut RunConfig)) -> Result<Self, TrainError> {
        let folder = RunFolder(folder.to_owned());
        let mut config = read_config(&folder)?;
        change(&mut config);
        let tokenizer = Tokenizer::load(&folder.tokenizer())?;
        let data = Data::read(&config, Some(tokenizer))?;
        let model = LanguageModel::new(config.model.clone())?;
        let path = folder.checkpoint();
        let contents = read(&path)?;
        let unusable = |why: &str| FormatError::Unusable { path: path.clone(), why: why.to_owned() };
        let position: Position =
            serde_json::from_value(contents.document.clone()).map_err(|e| unusable(&e.to_string()))?;
        if position.data != data.fingerprint() {
            return Err(TrainError::Unusable(
                "the texts changed since this run began, so it cannot go on with the same result; restore them or start \
                 a new run"
                    .to_owned(),
            ));
        }
        let params = read_params(&model, &contents, &path)?;
        let mut trainer = Self::assemble(config, data, model, folder, params, position);
        let load = |name: &str, target: &mut Vec<f32>| match contents.tensors.get(name) {
            Some((_, values)) if values.len() == target.len() => {
                target.copy_from_slice(values);
                Ok(())
            }
            _ => Err(unusable(&format!("{name} is missing or does not fit config.toml"))),
        };
        load("state.h", &mut trainer.state.h)?;
        load("state.c", &mut trainer.state.c)?;
        load("optimizer.first", &mut trainer.optimizer.first)?;
        load("optimizer.second", &mut trainer.optimizer.second)?;
        trainer.optimizer.steps = trainer.position.step;
        trainer.cut_metrics()?;
        Ok(trainer)
    }

    /// Trains to the end, or until `stop` is set; then a checkpoint is saved.
    ///
    /// # Errors
    /// A loss that is not finite, or a folder that can no longer be written.
    pub fn run(&mut self, observer: &mut dyn FnMut(&Event), stop: &AtomicBool) -> Result<Outcome, TrainError> {
        self.started = Instant::now();
        self.seconds_before = self.position.seconds;
        let tokens_before = self.position.tokens;
        let mut gradients = Params::zeros(self.model.layout().clone());
        let mut tape = self.model.tape();
        let mut batch = Batch::default();
        let mut saved = Instant::now();
        let mut end = End::Complete;
        let mut last_loss = f64::NAN;
        let config = self.config.clone();
        if !self.folder.checkpoint().exists() {
            self.save_checkpoint()?;
        }
        'run: while self.position.epoch < config.epochs || self.bounded() {
            if self.spent() {
                break;
            }
            let epoch = self.position.epoch;
            let batches = Batches::training(
                &self.data.train,
                &self.data.tokenizer,
                config.batching,
                config.batch,
                config.segment,
                config.seed,
                epoch as u64,
            )?;
            let count = batches.len();
            while self.position.batch < count {
                batches.get(self.position.batch, &mut batch);
                let dropout = Dropout { rate: config.model.dropout, seed: config.seed, step: self.position.step };
                let loss = self.model.train_step(
                    &self.params,
                    &batch,
                    &mut self.state,
                    Some(dropout),
                    &mut tape,
                    &mut gradients,
                );
                let rate = config.schedule.rate(self.schedule_epoch(count));
                let norm = self.optimizer.step(self.params.values_mut(), gradients.values(), rate, config.clip);
                if !loss.nll.is_finite() || !norm.is_finite() {
                    return Err(TrainError::NotFinite { step: self.position.step + 1, last: last_loss });
                }
                last_loss = loss.mean();
                self.position.epoch_loss.add(loss);
                self.position.step += 1;
                self.position.batch += 1;
                self.position.tokens += loss.tokens as u64;
                self.position.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
                let session = self.started.elapsed().as_secs_f64();
                observer(&Event::Step {
                    epoch,
                    step: (self.position.batch, count),
                    loss: last_loss,
                    epoch_loss: self.position.epoch_loss.mean(),
                    tokens_per_second: (self.position.tokens - tokens_before) as f64 / session,
                    progress: self.progress(count),
                });
                let stopped = stop.load(Ordering::Relaxed);
                if stopped || saved.elapsed().as_secs_f64() > CHECKPOINT_SECONDS {
                    self.save_checkpoint()?;
                    saved = Instant::now();
                }
                if stopped {
                    end = End::Interrupted;
                    break 'run;
                }
                if self.spent() && self.position.batch < count {
                    break;
                }
            }
            let train = self.position.epoch_loss;
            let valid = self.data.valid.as_ref().map(|corpus| self.evaluate(corpus)).transpose()?;
            let best = match (valid, self.position.best) {
                (Some(valid), Some(best)) => valid.nll < best.nll,
                _ => true,
            };
            if best {
                self.position.best = valid;
                self.position.epochs_since_best = 0;
                self.save_model(train, valid)?;
            } else {
                self.position.epochs_since_best += 1;
            }
            self.append_metrics(train, valid)?;
            self.position.last_epoch = train;
            self.position.epoch_loss = Loss::default();
            self.position.epoch += 1;
            self.position.batch = 0;
            self.save_checkpoint()?;
            saved = Instant::now();
            observer(&Event::Epoch { epoch, train, valid, best });
            if config.patience.is_some_and(|patience| self.position.epochs_since_best >= patience) {
                end = End::Patience;
                break;
            }
        }
        let seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        let mut test = None;
        if end != End::Interrupted {
            let best = read(&self.folder.model())?;
            self.params = read_params(&self.model, &best, &self.folder.model())?;
            test = self.data.test.as_ref().map(|corpus| self.evaluate(corpus)).transpose()?;
        }
        Ok(Outcome {
            train: self.position.last_epoch,
            valid: self.position.best,
            test,
            seconds,
            tokens_per_second: self.position.tokens as f64 / seconds,
            end,
        })
    }

    /// Whether steps or seconds, not epochs, end the run.
    fn bounded(&self) -> bool {
        self.config.budget.is_some() || self.config.steps.is_some()
    }

    fn spent(&self) -> bool {
        let seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        self.config.budget.is_some_and(|budget| seconds >= budget)
            || self.config.steps.is_some_and(|steps| self.position.step >= steps)
    }

    fn progress(&self, batches: usize) -> f64 {
        let by_epochs =
            (self.position.epoch as f64 + self.position.batch as f64 / batches as f64) / self.config.epochs as f64;
        let by_steps = self.config.steps.map(|steps| self.position.step as f64 / steps as f64);
        let by_time = self.config.budget.map(|budget| self.position.seconds / budget);
        by_steps.into_iter().chain(by_time).reduce(f64::max).unwrap_or(by_epochs).min(1.0)
    }

    /// The epoch the schedule is at: with a budget or a number of steps the planned epochs are stretched over it.
    fn schedule_epoch(&self, batches: usize) -> usize {
        if !self.bounded() {
            return self.position.epoch;
        }
        ((self.progress(batches) * self.config.epochs as f64) as usize).min(self.config.epochs.saturating_sub(1))
    }

    fn evaluate(&self, corpus: &Corpus) -> Result<Loss, TrainError> {
        let Self { model, params, data, config, .. } = self;
        Ok(evaluate(model, params, &data.tokenizer, corpus, config, &mut |_, _| ())?)
    }

    fn tensors<'a>(&'a self, params: &'a Params) -> Vec<Tensor<'a>> {
        let entries = params.layout().entries().iter();
        entries.map(|entry| (entry.name.as_str(), entry.shape.as_slice(), params.get(entry.slot))).collect()
    }

    fn save_model(&self, train: Loss, valid: Option<Loss>) -> Result<(), TrainError> {
        let document = json!({
            "model": self.config.model,
            "tokenizer": self.data.tokenizer.fingerprint(),
            "epoch": self.position.epoch + 1,
            "train": train.perplexity(),
            "valid": valid.map(|loss| loss.perplexity()),
        });
        Ok(write(&self.folder.model(), &self.tensors(&self.params), document)?)
    }

    fn save_checkpoint(&self) -> Result<(), TrainError> {
        let extra = [
            ("state.h", &self.state.h),
            ("state.c", &self.state.c),
            ("optimizer.first", &self.optimizer.first),
            ("optimizer.second", &self.optimizer.second),
        ];
        let shapes = extra.map(|(_, values)| [values.len()]);
        let mut tensors = self.tensors(&self.params);
        tensors.extend(extra.iter().zip(&shapes).map(|((name, values), shape)| (*name, &shape[..], values.as_slice())));
        let document = serde_json::to_value(&self.position).map_err(|e| TrainError::Unusable(e.to_string()))?;
        Ok(write(&self.folder.checkpoint(), &tensors, document)?)
    }

    fn append_metrics(&self, train: Loss, valid: Option<Loss>) -> Result<(), TrainError> {
        use std::io::Write;
        let line = json!({
            "epoch": self.position.epoch + 1,
            "step": self.position.step,
            "train": train.perplexity(),
            "valid": valid.map(|loss| loss.perplexity()),
            "seconds": self.position.seconds,
        });
        let path = self.folder.metrics();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.map_err(|e| TrainError::Unusable(format!("{}: {e}", path.display())))
    }

    /// Drops what was recorded after the checkpoint: it will come again.
    fn cut_metrics(&self) -> Result<(), TrainError> {
        let path = self.folder.metrics();
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
        let known = |line: &&str| {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            value["step"].as_u64().is_some_and(|step| step <= self.position.step)
        };
        let kept: String = text.lines().filter(known).map(|line| format!("{line}\n")).collect();
        write_atomically(&path, kept.as_bytes()).map_err(|e| TrainError::Unusable(format!("{}: {e}", path.display())))
    }
}

/// The loss of a whole text: streams in one column with the state carried throughout. `each` receives every predicted
/// token and its surprisal in nats, in order (of the batches, for windows and lines).
///
/// # Errors
/// A text without anything to predict.
pub fn evaluate(
    model: &LanguageModel,
    params: &Params,
    tokenizer: &Tokenizer,
    corpus: &Corpus,
    config: &RunConfig,
    each: &mut dyn FnMut(u32, f32),
) -> Result<Loss, TextError> {
    // Longer segments than in training: nothing is learned, and larger products are faster.
    let segment = config.segment.max(256);
    let batch_rows = if config.batching == Batching::Lines { config.batch.min(32) } else { config.batch };
    let batches = Batches::evaluation(corpus, tokenizer, config.batching, batch_rows, segment)?;
    let mut state = model.state(batches.rows());
    let mut tape = model.frozen_tape();
    let (mut batch, mut total, mut surprisal) = (Batch::default(), Loss::default(), Vec::new());
    for index in 0..batches.len() {
        batches.get(index, &mut batch);
        surprisal.clear();
        total.add(model.evaluate(params, &batch, &mut state, &mut tape, Some(&mut surprisal)));
        let targets = batch.targets.iter().filter(|&&target| target != crate::text::batches::NO_TARGET);
        for (&target, &nats) in targets.zip(&surprisal) {
            each(target, nats);
        }
    }
    Ok(total)
}

/// A finished run, to use.
#[derive(Debug)]
pub struct LoadedRun {
    /// The configuration.
    pub config: RunConfig,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The model.
    pub model: LanguageModel,
    /// Its best parameters.
    pub params: Params,
    /// What is known of them: epoch, perplexities.
    pub document: Value,
}

impl LoadedRun {
    /// Loads the best model of a run.
    ///
    /// # Errors
    /// A folder that is no run, damaged files, or a model of another tokenizer.
    pub fn open(folder: &Path) -> Result<Self, TrainError> {
        let folder = RunFolder(folder.to_owned());
        let config = read_config(&folder)?;
        let tokenizer = Tokenizer::load(&folder.tokenizer())?;
        let path = folder.model();
        let contents = read(&path)?;
        if contents.document["tokenizer"] != tokenizer.fingerprint().as_str() {
            return Err(TrainError::Unusable(format!(
                "{} was trained with another tokenizer than {}; put the one it was trained with beside it",
                path.display(),
                folder.tokenizer().display()
            )));
        }
        let model = LanguageModel::new(config.model.clone())?;
        let params = read_params(&model, &contents, &path)?;
        Ok(Self { config, tokenizer, model, params, document: contents.document })
    }
}

fn read_config(folder: &RunFolder) -> Result<RunConfig, TrainError> {
    let path = folder.config();
    let text = std::fs::read_to_string(&path).map_err(|e| {
        TrainError::Unusable(format!("{} is not a run folder: {}: {e}", folder.path().display(), path.display()))
    })?;
    toml::from_str(&text).map_err(|e| TrainError::Unusable(format!("{}: {e}", path.display())))
}

fn read_params(model: &LanguageModel, contents: &Contents, path: &Path) -> Result<Params, FormatError> {
    let mut params = Params::zeros(model.layout().clone());
    for entry in model.layout().entries() {
        match contents.tensors.get(&entry.name) {
            Some((shape, values)) if *shape == entry.shape => params.get_mut(entry.slot).copy_from_slice(values),
            found => {
                let found = found.map_or("nothing".to_owned(), |(shape, _)| format!("{shape:?}"));
                let why = format!(
                    "{} should be {:?}, found {found}: it is not the model config.toml describes",
                    entry.name, entry.shape
                );
                return Err(FormatError::Unusable { path: path.to_owned(), why });
            }
        }
    }
    Ok(params)
}
