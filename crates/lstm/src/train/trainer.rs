//! The training loop: truncated back-propagation through time with carried state, validation, checkpoints, resume.
//! It emits events and prints nothing.

mod kept;
mod members;
mod saved;
pub mod start;
mod validation;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::check::check_ranks;
use super::data::Data;
use super::event::{End, Event, Log, Outcome};
use super::gates::is_due;
use super::language::Language;
pub use super::length::{Bound, Extension};
use super::length::{evaluated, evaluation_seconds, has_spent, is_spent, rate_at, share_done, share_of_bounds};
use super::ranks::{Order, Orders};
use super::step::{StepResult, TrainStep};
use super::task::{Batches as _, Part, Task};
use crate::model::LanguageModel;
use crate::optim::schedule::ScheduleKind;
use crate::run::checkpoint::Progress;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::expectation::Expectation;
use crate::run::folder::Claim;
use crate::run::settings::Settings as _;
use crate::run::training::Training;
pub use kept::{Difference, Stretch, Verified};
use saved::Saved;

/// A run in progress: of a language model, where nothing else is said.
#[derive(Debug)]
pub struct Trainer<T = Language> {
    /// Shared with the steps, beside which the rest of the run changes.
    task: Arc<T>,
    /// Before the claim: it is dropped first, and then is written.
    saved: Saved,
    claim: Claim,
    /// Of a member that is trained after others: the folder of the whole run.
    first: Option<Claim>,
    progress: Progress,
    note: Option<String>,
    /// Seconds of training before this session, and since when it lasts.
    seconds_before: f64,
    started: Instant,
}

/// Seconds between checkpoints within an epoch: what a crash may cost.
const CHECKPOINT_SECONDS: f64 = 60.0;

/// The most of a time budget that goes into validations whose result decides nothing.
const VALIDATION_SHARE: f64 = 0.03;

/// How the training of an epoch or a validation ended.
enum Pass<T> {
    Done(T),
    Stopped,
}

/// Whether training is to stop here.
fn is_set(stop: Option<&AtomicBool>) -> bool {
    stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
}

impl Trainer {
    /// The configuration, everything resolved.
    pub fn config(&self) -> &RunConfig {
        self.task.settings()
    }

    /// The texts.
    pub fn data(&self) -> &Data {
        self.task.data()
    }

    /// The model.
    pub fn model(&self) -> &LanguageModel {
        self.task.model()
    }

    /// The seconds that its teachers took to read the text, if it has some.
    pub fn teaching_seconds(&self) -> Option<f64> {
        self.task.teachers().map(|teachers| teachers.seconds)
    }
}

impl<T: Task> Trainer<T> {
    /// What is trained.
    pub fn task(&self) -> &T {
        &self.task
    }

    /// The settings of the loop.
    pub fn training(&self) -> &Training {
        self.task.settings().training()
    }

    /// The test perplexity that was expected before training, if one was.
    pub fn expected(&self) -> Option<Expectation> {
        self.progress.position.expected
    }

    /// The tokens that were learned from since the run began.
    pub fn trained_tokens(&self) -> u64 {
        self.progress.position.tokens
    }

    /// The run folder.
    pub fn folder(&self) -> &Path {
        self.claim.folder().path()
    }

    /// Whether other processes are kept from writing the folder: some file systems have no locks.
    pub fn is_locked(&self) -> bool {
        self.claim.is_locked()
    }

    /// The bound that has ended the run, if it is over.
    pub fn ended_by(&self) -> Option<Bound> {
        if !self.is_over() {
            return None;
        }
        let (training, position) = (self.training(), &self.progress.position);
        let epochs = training.epochs.filter(|epochs| position.epoch >= *epochs).map(|_| Bound::Epochs(position.epoch));
        let steps = training.steps.filter(|steps| position.step >= *steps).map(|_| Bound::Steps(position.step));
        let patience = training.patience.filter(|_| self.out_of_patience()).map(Bound::Patience);
        epochs.or(steps).or(patience).or(training.budget.map(Bound::Budget))
    }

    /// Whether the schedule has come down to a rate with which nothing more is learned.
    pub fn has_spent_its_rate(&self) -> bool {
        let position = &self.progress.position;
        let count = self.task.batches(position.epoch).map_or(1, |batches| batches.count());
        let (training, evaluated) = (self.training(), evaluated(&*self.task));
        has_spent(&training.schedule, position, share_done(training, evaluated, position, count))
    }

    /// The steps taken since the run began.
    pub fn step(&self) -> u64 {
        self.progress.position.step
    }

    /// A sentence about the schedule of a run that was made longer.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Trains to the end, or until `stop`, if there is one, is set; then a checkpoint is saved.
    ///
    /// # Errors
    /// A loss that is not finite, or a folder that can no longer be written.
    pub fn run(&mut self, observer: &mut dyn FnMut(&Event), stop: Option<&AtomicBool>) -> Result<Outcome, TrainError> {
        self.run_on(&Orders::to_nobody(), observer, stop)
    }

    /// The same on several ranks, of which this is number 0 and the others [`follow`](super::ranks::follow).
    ///
    /// # Errors
    /// As [`Self::run`]; a rank that refuses the run, or is lost.
    pub fn run_on(
        &mut self,
        orders: &Orders<'_>,
        observer: &mut dyn FnMut(&Event),
        stop: Option<&AtomicBool>,
    ) -> Result<Outcome, TrainError> {
        let outcome = self.train(orders, observer, stop);
        let written = self.saved.finish();
        let outcome = outcome?;
        written.map(|()| outcome)
    }

    fn train(
        &mut self,
        orders: &Orders<'_>,
        observer: &mut dyn FnMut(&Event),
        stop: Option<&AtomicBool>,
    ) -> Result<Outcome, TrainError> {
        check_ranks(self.training(), orders.ranks().count(), self.step() == 0)?;
        orders.begin(&*self.task, &mut self.progress)?;
        self.started = Instant::now();
        self.saved.at = self.started;
        self.seconds_before = self.progress.position.seconds;
        let (path, lines) = (self.claim.folder().metrics(), self.progress.position.metrics);
        let mut log = Log::open(&path, lines, self.step(), T::figure, observer)?;
        let mut end = End::Complete;
        log.emit(&Event::Started { step: self.step() })?;
        let task = self.task.clone();
        let mut train_step = TrainStep::ordered(&*task, orders);
        let tokens_before = self.progress.position.tokens;
        self.time_evaluation()?;
        while !self.is_over() {
            let trained = self.train_epoch(&mut train_step, tokens_before, &mut log, stop)?;
            if let Pass::Done(_) = trained {
                train_step.collect(&mut self.progress)?;
            }
            let averaged = self.progress.average.is_some();
            let validated = match trained {
                Pass::Done(true) if self.has_no_time_to_validate() => self.end_epoch(&mut log)?,
                Pass::Done(whole_epoch) => self.validate(whole_epoch, &mut log, stop)?,
                Pass::Stopped => Pass::Stopped,
            };
            if self.progress.average.is_some() && !averaged {
                orders.give(Order::Average)?;
            }
            if let Pass::Stopped = validated {
                end = End::Interrupted;
                break;
            }
        }
        let exchanged = train_step.exchanged();
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
            exchanged,
        })
    }

    /// Trains to the end of the epoch or of the run; gives whether it was the epoch's.
    fn train_epoch(
        &mut self,
        train_step: &mut TrainStep<'_, T>,
        tokens_before: u64,
        log: &mut Log,
        stop: Option<&AtomicBool>,
    ) -> Result<Pass<bool>, TrainError> {
        let epoch = self.progress.position.epoch;
        let Self { task, claim, progress, saved, .. } = self;
        let (training, evaluated) = (task.settings().training(), evaluated(&**task));
        let batches = task.batches(epoch)?;
        let count = batches.count();
        let mut last = None;
        while progress.position.batch < count && !is_spent(training, evaluated, &progress.position) {
            if is_due(progress.position.step) {
                train_step.collect(progress)?;
                let layers = train_step.gates(progress, &batches);
                if !layers.is_empty() {
                    log.emit(&Event::Gates { step: progress.position.step, layers })?;
                }
            }
            let position = &progress.position;
            let done = share_done(training, evaluated, position, count);
            train_step.adjust(done);
            if progress.begins_to_average(training.average, done) {
                log.emit(&Event::Averaging { step: progress.position.step })?;
            }
            let position = &progress.position;
            let learning_rate = rate_at(&training.schedule, position, done);
            let step = position.step + 1;
            let result = train_step.take(progress, &batches, learning_rate)?;
            saved.look()?;
            let broken = match (result.loss.nll.is_finite(), result.norm.is_finite()) {
                (true, true) => None,
                (false, _) => Some("the loss of step"),
                (true, false) => Some("the norm of the gradient of step"),
            };
            if let Some(what) = broken {
                saved.finish()?;
                return Err(TrainError::NotFinite { what, step, last, saved: saved.step });
            }
            if let Some(trail) = &mut progress.position.trail {
                trail.push(done, training.precision.unit());
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
                progress: share_of_bounds(training, evaluated, position, count),
                tokens: (position.tokens, position.epoch_loss.tokens),
                seconds: position.seconds,
            })?;
            let stopped = is_set(stop);
            if stopped || saved.at.elapsed().as_secs_f64() > CHECKPOINT_SECONDS {
                train_step.collect(progress)?;
                saved.save(progress, claim.folder(), log)?;
            }
            if stopped {
                return Ok(Pass::Stopped);
            }
        }
        Ok(Pass::Done(progress.position.batch == count))
    }

    /// Whether a time budget is better spent on training than on validating at the end of this epoch, and on writing what
    /// that leaves, which takes longer than a short text's epoch. The end of the run is validated, and so is every epoch
    /// where something depends on it.
    fn has_no_time_to_validate(&self) -> bool {
        let (training, position) = (self.training(), &self.progress.position);
        let Some(valid) = self.task.positions(Part::Validation) else { return false };
        let watched = training.patience.is_some()
            || training.average.watches_validation()
            || training.schedule.kind == ScheduleKind::Plateau;
        let is_last = training.epochs.is_some_and(|epochs| position.epoch + 1 >= epochs)
            || is_spent(training, evaluated(&*self.task), position);
        let spent = position.saving + position.evaluated.1 + evaluation_seconds(valid, position);
        training.budget.is_some() && !watched && !is_last && spent > VALIDATION_SHARE * position.seconds
    }

    /// Closes an epoch without a validation.
    fn end_epoch(&mut self, log: &mut Log) -> Result<Pass<()>, TrainError> {
        let position = &mut self.progress.position;
        position.last_train = position.epoch_loss;
        let (epoch, step, train, seconds) = (position.epoch, position.step, position.epoch_loss, position.seconds);
        position.begin_epoch();
        self.keep_checkpoint()?;
        log.emit(&Event::EpochEnded { epoch, step, train, seconds })?;
        Ok(Pass::Done(()))
    }

    /// Whether the run needs no more training: nothing is left to train, or training no longer helps, and the model
    /// is validated as it is.
    fn is_over(&self) -> bool {
        let position = &self.progress.position;
        let validated = position.validated == Some(position.step);
        validated
            && (self.training().epochs.is_some_and(|epochs| position.epoch >= epochs)
                || is_spent(self.training(), evaluated(&*self.task), position)
                || self.out_of_patience())
    }

    fn out_of_patience(&self) -> bool {
        // Before it begins, a non-monotone average waits for a validation that does not improve.
        !self.waits_to_average()
            && self.training().patience.is_some_and(|patience| self.progress.position.epochs_since_best >= patience)
    }

    fn save_checkpoint(&mut self, log: &Log) -> Result<(), TrainError> {
        self.saved.save(&mut self.progress, self.claim.folder(), log)
    }
}
