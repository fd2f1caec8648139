//! The training loop: truncated back-propagation through time with carried state, validation, checkpoints, resume.
//! It emits events and prints nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use thiserror::Error;

use super::data::Data;
use super::event::{End, Event, Log, Outcome};
pub use super::length::{Bound, Extension};
use super::length::{evaluation_seconds, has_spent, is_spent, lengthen, rate_at, share_done, share_of_bounds};
use super::step::{StepResult, TrainStep};
use crate::evaluate::Evaluation;
use crate::formats::{FormatError, write_bytes};
use crate::free_memory::{self, sum, times};
use crate::model::{LanguageModel, Loss, Sampler};
use crate::nn::config::ConfigError;
use crate::nn::params::Params;
use crate::optim::averaging::is_triggered;
use crate::optim::optimizer::OptimizerKind;
use crate::optim::schedule::ScheduleKind;
use crate::run::checkpoint::{Checkpoint, Progress};
use crate::run::config::{DataConfig, RunConfig};
use crate::run::folder::{Claim, RunFolder};
use crate::run::saved::{ModelCard, file_checksum, load_model, load_tokenizer, save_model, with_settings};
use crate::text::TextError;
use crate::text::batch::{Batches, Batching};
use crate::text::corpus::Corpus;
use crate::text::documents::{Documents, LineEnds};

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
    /// A loss or gradient that is not a number.
    #[error(
        "{what} {step} is not a finite number{}; start again with a lower learning rate or clip{}",
        last.map(|loss| format!(" (that of the step before was {})", nats(loss))).unwrap_or_default(),
        saved.map(|at| format!("; the checkpoint of step {at} is kept, and the best model if one was saved")).unwrap_or_default()
    )]
    NotFinite {
        /// What is not finite, up to the number of the step.
        what: &'static str,
        /// The step, from 1.
        step: u64,
        /// The loss of the step before, in nats.
        last: Option<f64>,
        /// The step of the last good checkpoint, where there is one.
        saved: Option<u64>,
    },
    /// A loss so large that its perplexity is no number.
    #[error(
        "the {what} loss up to step {step} is {}, whose perplexity is infinite: the training has diverged; start again with a \
         lower learning rate or clip{}",
        nats(*loss),
        saved.map(|at| format!("; the checkpoint of step {at} is kept, and the best model if one was saved")).unwrap_or_default()
    )]
    Diverged {
        /// Of which text.
        what: &'static str,
        /// The mean loss, in nats.
        loss: f64,
        /// The steps taken.
        step: u64,
        /// The step of the last good checkpoint, where there is one.
        saved: Option<u64>,
    },
    /// Anything else, said in full.
    #[error("{0}")]
    Unusable(String),
}

/// A loss as people read it, also one that has grown beyond reading.
fn nats(loss: f64) -> String {
    if loss < 1e4 { format!("{loss:.3} nats") } else { format!("{loss:.1e} nats") }
}

/// A run in progress.
#[derive(Debug)]
pub struct Trainer {
    config: RunConfig,
    data: Data,
    model: LanguageModel,
    claim: Claim,
    progress: Progress,
    saved: Saved,
    note: Option<String>,
    /// Seconds of training before this session, and since when it lasts.
    seconds_before: f64,
    started: Instant,
}

/// The last checkpoint: the step it is of, and when it was written.
#[derive(Debug)]
struct Saved {
    step: Option<u64>,
    at: Instant,
}

impl Saved {
    /// Writes the checkpoint over the last one, if it is one to go on from.
    fn save(&mut self, progress: &mut Progress, folder: &RunFolder, log: &Log) -> Result<(), TrainError> {
        self.check(progress)?;
        // Never behind the checkpoint, which says how much of it there is.
        progress.position.metrics = Some(log.sync()?);
        let path = folder.checkpoint();
        write_bytes(&path, &progress.to_bytes(&path)?)?;
        *self = Self { step: Some(progress.position.step), at: Instant::now() };
        Ok(())
    }

    /// Refuses parameters, moments and states that are no numbers: the last good ones are to be kept.
    fn check(&self, progress: &Progress) -> Result<(), TrainError> {
        if progress.is_finite() {
            return Ok(());
        }
        let what = "a parameter or state after step";
        Err(TrainError::NotFinite { what, step: progress.position.step, last: None, saved: self.step })
    }
}

/// Seconds between checkpoints within an epoch: what a crash may cost.
const CHECKPOINT_SECONDS: f64 = 60.0;

/// The most of a time budget that goes into validations whose result decides nothing.
const VALIDATION_SHARE: f64 = 0.03;

/// The part of a time budget in which it is seen how long an evaluation takes.
const EVALUATION_TRIAL: f64 = 0.005;

/// How the training of an epoch or a validation ended.
enum Pass<T> {
    Done(T),
    Stopped,
}

impl Trainer {
    /// Starts a run in `folder`, which must not exist unless it is a run and `force` is given.
    ///
    /// # Errors
    /// A setting, a text or a folder that cannot be used; nothing is left behind.
    pub fn create(config: RunConfig, data: Data, folder: &Path, force: bool) -> Result<Self, TrainError> {
        Self::begin(config, data, Claim::new(folder, force)?)
    }

    /// Starts a run in a folder that was claimed for it. A text from standard input that was written there is kept as the run's.
    ///
    /// # Errors
    /// A setting or a text that cannot be used; nothing is left behind.
    pub fn begin(mut config: RunConfig, data: Data, claim: Claim) -> Result<Self, TrainError> {
        let started = Instant::now();
        config.fit(data.tokenizer.vocabulary_size(), data.train.ids.len());
        config.data.crlf = (config.data.line_ends == LineEnds::Keep).then_some(2 * data.train.crlf > data.train.lines);
        config.data.inline_documents = match config.data.documents {
            Some(Documents::After(_)) => Some(2 * data.train.inline > data.train.delimiters),
            _ => None,
        };
        // Without validation nothing can be waited for.
        config.patience = config.patience.filter(|_| data.valid.is_some());
        config.validate()?;
        let model = LanguageModel::new(config.model.clone())?;
        check_effect(&config)?;
        check_memory(&config, &data, &model)?;
        check_schedule(&config, &data)?;
        if claim.spooled().is_some() {
            let text = claim.folder().text();
            config.data.train =
                Some(std::path::absolute(&text).map_err(|source| FormatError::Write { path: text, source })?);
        }
        let mut progress = Progress::new(&config, &model, data.fingerprint());
        (progress.position.seconds, progress.position.reading) = (data.seconds, data.seconds);
        progress.position.metrics = Some(0);
        begin(&config, &data, &mut progress, &claim)?;
        // Making the model and writing the first files are a part of the time that there is.
        let spent = data.seconds + started.elapsed().as_secs_f64();
        (progress.position.seconds, progress.position.reading) = (spent, spent);
        Ok(Self::assemble(config, data, model, claim, progress))
    }

    fn assemble(config: RunConfig, data: Data, model: LanguageModel, claim: Claim, progress: Progress) -> Self {
        let (seconds_before, now) = (progress.position.seconds, Instant::now());
        let saved = Saved { step: Some(progress.position.step), at: now };
        Self { config, data, model, claim, progress, saved, note: None, seconds_before, started: now }
    }

    /// Goes on with the run in `folder` from its last checkpoint, with the same bits as if it had never stopped.
    ///
    /// # Errors
    /// A folder that is no run, files that are damaged, or texts that changed.
    pub fn resume(folder: &Path, extension: Extension) -> Result<Self, TrainError> {
        let claim = Claim::existing(folder)?;
        let folder = claim.folder();
        let stored = RunConfig::load(folder)?;
        let path = folder.checkpoint();
        let checkpoint = Checkpoint::read(&path)?;
        stored.check_against(&checkpoint.position.config, RunConfig::deciding, folder, &path)?;
        let (tokenizer, tokenizer_file) = load_tokenizer(folder, &checkpoint.position.tokenizer_file, &path)?;
        if tokenizer.vocabulary_size() != stored.model.vocabulary {
            return Err(TrainError::Unusable(format!(
                "{} has {} tokens, but the run was trained with {}; put the tokenizer it was trained with beside it",
                folder.tokenizer().display(),
                tokenizer.vocabulary_size(),
                stored.model.vocabulary
            )));
        }
        let mut config = extension.lay_over(&stored)?;
        config.validate()?;
        let data = Data::read(&config, Some(tokenizer))?;
        if data.valid.is_none() && extension.patience.is_some_and(|patience| patience > 0) {
            return Err(TrainError::Unusable(
                "patience waits for a better validation, but the run has no validation text; leave `patience` out"
                    .to_owned(),
            ));
        }
        if checkpoint.position.data != data.fingerprint() {
            let text = config
                .data
                .train
                .as_ref()
                .map_or("the built-in language".to_owned(), |path| path.display().to_string());
            return Err(TrainError::Unusable(format!(
                "{text} is not what the run was trained on: the run's texts or its tokenizer.json changed since it began, so \
                 it cannot go on with the same result; restore them, name the text that it was trained on after --resume, or \
                 start a new run"
            )));
        }
        let model = LanguageModel::new(config.model.clone())?;
        check_memory(&config, &data, &model)?;
        check_schedule(&config, &data)?;
        let mut progress = checkpoint.restore(&config, &model)?;
        progress.position.tokenizer_file = tokenizer_file;
        let note = lengthen(&stored, &mut config, extension.rate, &data, &progress.position)?;
        progress.position.config = config.deciding();
        if stored.deciding() != progress.position.config {
            // Together, for each proves the other.
            let mut pending = claim.pending()?;
            pending.add(&folder.config(), &config.to_bytes(folder)?)?;
            pending.add(&path, &progress.to_bytes(&path)?)?;
            if config.lasting() != stored.lasting() && folder.model().exists() {
                pending.add(&folder.model(), &with_settings(&folder.model(), &config)?)?;
            }
            pending.keep_others();
            pending.publish()?;
        } else if stored != config {
            config.save(folder)?;
        }
        Ok(Self { note, ..Self::assemble(config, data, model, claim, progress) })
    }

    /// The configuration, everything resolved.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The texts.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The model.
    pub fn model(&self) -> &LanguageModel {
        &self.model
    }

    /// The run folder.
    pub fn folder(&self) -> &Path {
        self.claim.folder().path()
    }

    /// Whether other processes are kept from writing the folder: some file systems have no locks.
    pub fn is_locked(&self) -> bool {
        self.claim.is_locked()
    }

    /// What has ended the run, if it is over.
    pub fn ended_by(&self) -> Option<Bound> {
        if !self.is_over() {
            return None;
        }
        let (config, position) = (&self.config, &self.progress.position);
        let epochs = config.epochs.filter(|epochs| position.epoch >= *epochs).map(|_| Bound::Epochs(position.epoch));
        let steps = config.steps.filter(|steps| position.step >= *steps).map(|_| Bound::Steps(position.step));
        let patience = config.patience.filter(|_| self.out_of_patience()).map(Bound::Patience);
        epochs.or(steps).or(patience).or(config.budget.map(Bound::Budget))
    }

    /// Whether the schedule has come down to a rate with which nothing more is learned.
    pub fn has_spent_its_rate(&self) -> bool {
        let position = &self.progress.position;
        let count = batches(&self.config, &self.data, position.epoch).map_or(1, |batches| batches.len());
        has_spent(&self.config.schedule, position, share_done(&self.config, &self.data, position, count))
    }

    /// The steps taken since the run began.
    pub fn step(&self) -> u64 {
        self.progress.position.step
    }

    /// What became of the schedule of a run that was made longer, in a sentence.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Trains to the end, or until `stop` is set; then a checkpoint is saved.
    ///
    /// # Errors
    /// A loss that is not finite, or a folder that can no longer be written.
    pub fn run(&mut self, observer: &mut dyn FnMut(&Event), stop: &AtomicBool) -> Result<Outcome, TrainError> {
        self.started = Instant::now();
        self.saved.at = self.started;
        self.seconds_before = self.progress.position.seconds;
        let (path, lines) = (self.claim.folder().metrics(), self.progress.position.metrics);
        let mut log = Log::open(&path, lines, self.step(), observer)?;
        let mut end = End::Complete;
        log.emit(&Event::Started { step: self.step() })?;
        // A copy of the shape, so that the rest of the run can change beside it.
        let model = self.model.clone();
        let mut train_step = TrainStep::new(&model, &self.config, sampler(&self.config, &self.data));
        let tokens_before = self.progress.position.tokens;
        self.time_evaluation()?;
        while !self.is_over() {
            let trained = self.train_epoch(&mut train_step, tokens_before, &mut log, stop)?;
            let validated = match trained {
                Pass::Done(true) if self.has_no_time_to_validate() => self.end_epoch(&mut log)?,
                Pass::Done(whole_epoch) => self.validate(whole_epoch, &mut log, stop)?,
                Pass::Stopped => Pass::Stopped,
            };
            if let Pass::Stopped = validated {
                end = End::Interrupted;
                break;
            }
        }
        drop(train_step);
        let (mut test, mut best) = (None, None);
        if end != End::Interrupted {
            match self.test(&mut log, stop)? {
                Pass::Done(card) => (test, best) = (card.test, Some((card.epoch, card.step))),
                Pass::Stopped => end = End::Interrupted,
            }
        }
        if end == End::Complete && self.out_of_patience() {
            end = End::Patience;
        }
        let position = &self.progress.position;
        Ok(Outcome {
            train: position.last_train,
            valid: position.best,
            test,
            epochs: position.epoch + usize::from(position.batch > 0),
            best,
            seconds: position.seconds,
            tokens_per_second: position.tokens as f64 / position.seconds.max(1e-9),
            end,
        })
    }

    /// Trains to the end of the epoch or of the run; gives whether it was the epoch's.
    fn train_epoch(
        &mut self,
        train_step: &mut TrainStep,
        tokens_before: u64,
        log: &mut Log,
        stop: &AtomicBool,
    ) -> Result<Pass<bool>, TrainError> {
        let epoch = self.progress.position.epoch;
        let Self { config, data, claim, progress, saved, .. } = self;
        let batches = batches(config, data, epoch)?;
        let count = batches.len();
        let mut last = None;
        while progress.position.batch < count && !is_spent(config, data, &progress.position) {
            let position = &progress.position;
            let done = share_done(config, data, position, count);
            train_step.sample(done < config.candidates_until);
            let learning_rate = rate_at(&config.schedule, position, done);
            let broken = {
                let (step, saved) = (position.step + 1, saved.step);
                move |what| TrainError::NotFinite { what, step, last, saved }
            };
            let result = train_step.take(progress, &batches, learning_rate);
            if !result.loss.nll.is_finite() {
                return Err(broken("the loss of step"));
            }
            if !result.norm.is_finite() {
                return Err(broken("the norm of the gradient of step"));
            }
            let StepResult { loss, norm, learning_rate: rate } = result;
            last = Some(loss.mean());
            let position = &mut progress.position;
            let session = self.started.elapsed().as_secs_f64();
            position.seconds = self.seconds_before + session;
            log.emit(&Event::Step {
                epoch,
                step: position.step,
                of_epoch: (position.batch, count),
                loss: loss.mean(),
                epoch_loss: position.epoch_loss.mean(),
                norm,
                rate,
                tokens_per_second: (position.tokens - tokens_before) as f64 / session,
                progress: share_of_bounds(config, data, position, count),
                seconds: position.seconds,
            })?;
            let stopped = stop.load(Ordering::Relaxed);
            if stopped || saved.at.elapsed().as_secs_f64() > CHECKPOINT_SECONDS {
                saved.save(progress, claim.folder(), log)?;
            }
            if stopped {
                return Ok(Pass::Stopped);
            }
        }
        Ok(Pass::Done(progress.position.batch == count))
    }

    /// Whether a time budget is better spent on training than on validating at the end of this epoch. The end of the run
    /// is validated, and so is every epoch where something depends on it.
    fn has_no_time_to_validate(&self) -> bool {
        let (config, position) = (&self.config, &self.progress.position);
        let Some(valid) = &self.data.valid else { return false };
        let watched = config.patience.is_some()
            || config.optimizer == OptimizerKind::NtAsgd
            || config.schedule.kind == ScheduleKind::Plateau;
        let is_last =
            config.epochs.is_some_and(|epochs| position.epoch + 1 >= epochs) || is_spent(config, &self.data, position);
        let spent = position.evaluated.1 + evaluation_seconds(valid.tokens(), position);
        config.budget.is_some() && !watched && !is_last && spent > VALIDATION_SHARE * position.seconds
    }

    /// Closes an epoch without a validation.
    fn end_epoch(&mut self, log: &mut Log) -> Result<Pass<()>, TrainError> {
        let position = &mut self.progress.position;
        position.last_train = position.epoch_loss;
        let (epoch, step, train, seconds) = (position.epoch, position.step, position.epoch_loss, position.seconds);
        position.begin_epoch();
        log.emit(&Event::EpochEnded { epoch, step, train, seconds })?;
        Ok(Pass::Done(()))
    }

    /// Validates, saves the model if it is the best, and closes the epoch if all of it was trained.
    fn validate(&mut self, whole_epoch: bool, log: &mut Log, stop: &AtomicBool) -> Result<Pass<()>, TrainError> {
        self.saved.check(&self.progress)?;
        let before = Instant::now();
        let valid = match self
            .data
            .valid
            .as_ref()
            .map(|corpus| self.evaluate(self.progress.evaluated(), corpus, log, stop))
            .transpose()?
        {
            Some(Pass::Stopped) => {
                self.save_checkpoint(log)?;
                return Ok(Pass::Stopped);
            }
            Some(Pass::Done(loss)) => Some(loss),
            None => None,
        };
        let position = &mut self.progress.position;
        // A perplexity that is no number any more is that of a model that has lost what it learned; it is never the best.
        let is_lost = |loss: Loss| !loss.perplexity().is_finite();
        let lost = [(Some(position.epoch_loss), "training"), (valid, "validation")];
        if let Some((loss, what)) =
            lost.iter().find_map(|(loss, what)| Some((loss.filter(|&loss| is_lost(loss))?, what)))
        {
            return Err(TrainError::Diverged { what, loss: loss.mean(), step: position.step, saved: self.saved.step });
        }
        position.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        position.evaluated.0 += valid.map_or(0, |loss| loss.tokens as u64);
        position.evaluated.1 += before.elapsed().as_secs_f64();
        let best = match (valid, position.best) {
            (Some(valid), Some(best)) => valid.nll < best.nll,
            _ => true,
        };
        position.validated = Some(position.step);
        position.last_train = position.epoch_loss;
        let (epoch, train) = (position.epoch, position.epoch_loss);
        if best {
            position.best = valid;
            position.epochs_since_best = 0;
        } else if whole_epoch {
            position.epochs_since_best += 1;
            position.plateaus += 1;
        }
        let event = Event::Validated { epoch, step: position.step, train, valid, best, seconds: position.seconds };
        if whole_epoch {
            position.begin_epoch();
        }
        if best {
            let card = ModelCard {
                tokenizer: self.data.tokenizer.fingerprint(),
                tokenizer_file: self.progress.position.tokenizer_file.clone(),
                config: self.config.lasting(),
                text: self.data.train.fingerprint.clone(),
                epoch: epoch + 1,
                step: self.step(),
                train,
                valid,
                test: None,
                floor: self.data.floor,
            };
            save_model(&self.claim.folder().model(), self.progress.evaluated(), &card)?;
        }
        let triggered = whole_epoch && self.begins_to_average(valid);
        log.emit(&event)?;
        if triggered {
            log.emit(&Event::Averaging { step: self.step() })?;
        }
        // Last: a kill before it costs the validation, which is then done again, but no line of the metrics.
        self.save_checkpoint(log)?;
        Ok(Pass::Done(()))
    }

    /// Whether this validation of an epoch is where NT-ASGD begins to average; then it does, and patience begins anew.
    fn begins_to_average(&mut self, valid: Option<Loss>) -> bool {
        let Some(valid) = valid.filter(|_| self.waits_to_average()).map(|loss| loss.mean()) else { return false };
        let position = &mut self.progress.position;
        let triggered = is_triggered(valid, &position.validations, self.config.non_monotone);
        if triggered {
            position.validations.clear();
            position.epochs_since_best = 0;
            self.progress.begin_average();
        } else {
            position.validations.push(valid);
        }
        triggered
    }

    /// Whether NT-ASGD has not begun to average yet.
    fn waits_to_average(&self) -> bool {
        self.config.optimizer == OptimizerKind::NtAsgd && self.progress.position.averaged.is_none()
    }

    /// Tests the best model and keeps the result with it; gives what is known of it.
    fn test(&mut self, log: &mut Log, stop: &AtomicBool) -> Result<Pass<ModelCard>, TrainError> {
        let path = self.claim.folder().model();
        let (params, mut card) = load_model(&path, &self.model)?;
        let Some(corpus) = &self.data.test else { return Ok(Pass::Done(card)) };
        if card.test.is_none() {
            let Pass::Done(loss) = self.evaluate(&params, corpus, log, stop)? else { return Ok(Pass::Stopped) };
            card.test = Some(loss);
            save_model(&path, &params, &card)?;
        }
        if let Some(test) = card.test {
            log.emit(&Event::Tested { step: self.step(), test })?;
        }
        Ok(Pass::Done(card))
    }

    /// Evaluates the first of a text for a moment, so that a time budget knows what it has to keep for evaluations.
    fn time_evaluation(&mut self) -> Result<(), TrainError> {
        let (Some(budget), Some(corpus)) = (self.config.budget, self.data.valid.as_ref().or(self.data.test.as_ref()))
        else {
            return Ok(());
        };
        if self.progress.position.evaluated.0 > 0 {
            return Ok(());
        }
        let mut evaluation = self.evaluation(self.progress.evaluated(), corpus)?;
        // The first step packs the weights and touches the memory.
        evaluation.advance();
        let (before, mut tokens) = (Instant::now(), 0);
        while before.elapsed().as_secs_f64() < EVALUATION_TRIAL * budget && evaluation.advance() {
            tokens += evaluation.predicted().count() as u64;
        }
        self.progress.position.evaluated = (tokens, before.elapsed().as_secs_f64());
        Ok(())
    }

    fn evaluation<'a>(&'a self, params: &'a Params, corpus: &'a Corpus) -> Result<Evaluation<'a>, TrainError> {
        let (tokenizer, batching, rows) = (&self.data.tokenizer, self.config.batching, self.config.batch);
        Ok(Evaluation::new(&self.model, params, tokenizer, corpus, batching, rows)?)
    }

    fn evaluate(
        &self,
        params: &Params,
        corpus: &Corpus,
        log: &mut Log,
        stop: &AtomicBool,
    ) -> Result<Pass<Loss>, TrainError> {
        let of = corpus.tokens();
        let mut evaluation = self.evaluation(params, corpus)?;
        while evaluation.advance() {
            if stop.load(Ordering::Relaxed) {
                return Ok(Pass::Stopped);
            }
            log.emit(&Event::Evaluating { tokens: evaluation.total().tokens, of })?;
        }
        Ok(Pass::Done(evaluation.total()))
    }

    /// Whether the run needs no more training: nothing is left to train, or training no longer helps, and the model
    /// is validated as it is.
    fn is_over(&self) -> bool {
        let position = &self.progress.position;
        let validated = position.validated == Some(position.step);
        validated
            && (self.config.epochs.is_some_and(|epochs| position.epoch >= epochs)
                || is_spent(&self.config, &self.data, position)
                || self.out_of_patience())
    }

    fn out_of_patience(&self) -> bool {
        // Before it averages, NT-ASGD waits for a validation that does not improve.
        !self.waits_to_average()
            && self.config.patience.is_some_and(|patience| self.progress.position.epochs_since_best >= patience)
    }

    fn save_checkpoint(&mut self, log: &Log) -> Result<(), TrainError> {
        self.saved.save(&mut self.progress, self.claim.folder(), log)
    }
}

/// Writes the first files of a run. Those of a run that is replaced go when these are written in full.
fn begin(config: &RunConfig, data: &Data, progress: &mut Progress, claim: &Claim) -> Result<(), FormatError> {
    let folder = claim.folder();
    let tokenizer = data.tokenizer.to_bytes(&folder.tokenizer())?;
    progress.position.tokenizer_file = file_checksum(&tokenizer);
    let mut pending = claim.pending()?;
    pending.add(&folder.config(), &config.to_bytes(folder)?)?;
    pending.add(&folder.tokenizer(), &tokenizer)?;
    pending.add(&folder.checkpoint(), &progress.to_bytes(&folder.checkpoint())?)?;
    let DataConfig { train, valid, test, .. } = &config.data;
    let own = std::path::absolute(folder.text()).ok();
    if let Some(spooled) = claim.spooled() {
        pending.adopt(&folder.text(), spooled)?;
    } else if [train, valid, test].into_iter().any(|text| text.is_some() && *text == own) {
        // The text of the run that is replaced is this one's too.
        pending.keep(&folder.text());
    }
    pending.publish()
}

/// The batches of one epoch.
pub(crate) fn batches<'a>(config: &RunConfig, data: &'a Data, epoch: usize) -> Result<Batches<'a>, TextError> {
    let RunConfig { batching, batch, segment, seed, .. } = *config;
    let batches = Batches::training(&data.train, &data.tokenizer, batching, batch, segment, seed, epoch as u64)?;
    Ok(if config.variable_segment { batches.varied(seed, epoch as u64) } else { batches })
}

/// What draws the candidates of a sampled softmax, by how often tokens occur in the training text.
pub(crate) fn sampler(config: &RunConfig, data: &Data) -> Option<Arc<Sampler>> {
    let candidates = config.candidates.filter(|&candidates| candidates < config.model.vocabulary)?;
    Some(Arc::new(Sampler::new(&data.train.ids.counts(config.model.vocabulary), candidates)))
}

/// Refuses a schedule that is longer than the run, and what looks at a validation that the run has not.
fn check_schedule(config: &RunConfig, data: &Data) -> Result<(), TrainError> {
    let steps = check_accumulation(config, data)? as u64;
    let by_epochs = config.epochs.map(|epochs| steps.saturating_mul(epochs as u64));
    // How many steps fit a time budget alone is not known before.
    if let Some(steps) = [by_epochs, config.steps].into_iter().flatten().min() {
        config.schedule.fits(steps)?;
    }
    let watches = match (config.schedule.kind, config.optimizer) {
        _ if data.valid.is_some() => None,
        (ScheduleKind::Plateau, _) => Some("the schedule plateau"),
        (_, OptimizerKind::NtAsgd) => Some("the optimizer nt-asgd"),
        _ => None,
    };
    watches.map_or(Ok(()), |what| {
        Err(TrainError::Unusable(format!(
            "{what} watches the validation, but there is no validation text; give --valid or --split, or choose another"
        )))
    })
}

/// Refuses more batches a step than an epoch has; gives the steps of an epoch.
pub(crate) fn check_accumulation(config: &RunConfig, data: &Data) -> Result<usize, TrainError> {
    let count = batches(config, data, 0)?.len();
    if config.accumulate > count.max(1) {
        let joined = config.accumulate;
        return Err(TrainError::Unusable(format!(
            "`accumulate` joins {joined} batches into one step, but an epoch has {count}; choose fewer, or smaller batches"
        )));
    }
    Ok(count.div_ceil(config.accumulate))
}

/// Refuses settings that would change nothing on this text.
pub(crate) fn check_effect(config: &RunConfig) -> Result<(), ConfigError> {
    let vocabulary = config.model.vocabulary;
    if let Some(candidates) = config.candidates.filter(|&candidates| candidates >= vocabulary) {
        return Err(ConfigError::Conflict(format!(
            "`candidates` is {candidates}, but the vocabulary has {vocabulary} tokens, all of which are scored anyway; leave \
             it out, or choose fewer"
        )));
    }
    let steps = config.steps_of_segment();
    match config.model.horizon {
        Some(horizon) if horizon > steps && !config.variable_segment && config.batching != Batching::Lines => {
            Err(ConfigError::Conflict(format!(
                "`horizon` is {horizon}, but the gradient ends at the start of its segment of {steps} steps anyway; leave it \
                 out, or choose fewer steps or a longer segment"
            )))
        }
        _ => Ok(()),
    }
}

/// Refuses a model whose parameters, gradients and moments, and what a segment leaves for its backward pass, do not
/// fit the free memory.
pub(crate) fn check_memory(config: &RunConfig, data: &Data, model: &LanguageModel) -> Result<(), TrainError> {
    let beside = usize::from(config.averages()) + usize::from(config.accumulate > 1);
    let copies = if config.optimizer.has_moments() { 4 } else { 2 } + beside;
    let parameters = model.layout().len();
    // A segment ends with its text; a window does not.
    let steps = match config.batching {
        Batching::Windows(n) => n,
        _ => config.segment.min(data.train.ids.len() + 1),
    };
    // A tape for no rows holds the packed weights.
    let packed = model.bytes(0, 0);
    let values = sum([times(&[parameters, copies, size_of::<f32>()]), packed as u128]);
    let segment = model.bytes(steps, config.batch).saturating_sub(packed) as u128;
    let (what, smaller) = if values >= segment {
        (format!("training a model of {parameters} parameters"), "`hidden`, `embedding` or vocabulary")
    } else {
        (
            format!("training on a segment of {steps} steps by {} rows", config.batch),
            "`segment`, window, `batch` or `hidden`",
        )
    };
    let mixture = if config.model.softmaxes > 1 { "`softmaxes`, " } else { "" };
    free_memory::check_memory(|| what, sum([values, segment]), &format!("{mixture}{smaller}"))?;
    Ok(())
}
