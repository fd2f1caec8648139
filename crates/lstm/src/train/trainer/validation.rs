//! Validation at the end of an epoch and what depends on it: the best model, patience, a non-monotone average; the test at the end.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::{Pass, Trainer, is_set};
use crate::model::Loss;
use crate::nn::params::Params;
use crate::optim::averaging::{Averaging, is_triggered};
use crate::run::error::TrainError;
use crate::run::saved::{ModelCard, load_model, save_model};
use crate::run::settings::Settings as _;
use crate::train::event::{Event, Log};
use crate::train::task::{Evaluation as _, Part, Task};

/// The part of a time budget in which it is seen how long an evaluation takes.
const EVALUATION_TRIAL: f64 = 0.005;

impl<T: Task> Trainer<T> {
    /// Validates, saves the model if it is the best, and closes the epoch if all of it was trained.
    pub(super) fn validate(
        &mut self,
        whole_epoch: bool,
        log: &mut Log,
        stop: Option<&AtomicBool>,
    ) -> Result<Pass<()>, TrainError> {
        self.saved.check(&self.progress)?;
        let before = Instant::now();
        let valid = match self
            .task
            .positions(Part::Validation)
            .map(|of| self.evaluate(self.progress.evaluated(), Part::Validation, of, log, stop))
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
        // A figure that is no number any more is that of a model that has lost what it learned; it is never the best.
        let is_lost = |loss: Loss| !T::figure(loss).is_finite();
        let lost = [(Some(position.epoch_loss), "training"), (valid, "validation")];
        if let Some((loss, what)) =
            lost.iter().find_map(|(loss, what)| Some((loss.filter(|&loss| is_lost(loss))?, what)))
        {
            self.saved.finish()?;
            return Err(TrainError::Diverged { what, loss: loss.mean(), step: position.step, saved: self.saved.step });
        }
        position.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        position.evaluated.0 += valid.map_or(0, |loss| loss.tokens as u64);
        position.evaluated.1 += before.elapsed().as_secs_f64();
        let before = Instant::now();
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
        self.saved.finish()?;
        if best {
            let mut card = ModelCard {
                config: self.task.settings().lasting(),
                epoch: epoch + 1,
                step: self.step(),
                train,
                valid,
                ..ModelCard::default()
            };
            self.task.describe(&mut card);
            let path = self.claim.folder().model();
            save_model(&path, self.progress.evaluated(), &card, &self.task.texts(&path)?)?;
        }
        let triggered = whole_epoch && self.begins_to_average(valid);
        log.emit(&event)?;
        if let Some(text) = self.task.sample(self.progress.evaluated(), epoch as u64) {
            log.emit(&Event::Sampled { epoch, step: self.step(), text })?;
        }
        if triggered {
            log.emit(&Event::Averaging { step: self.step() })?;
        }
        self.keep_checkpoint()?;
        // Last: a kill before it costs the validation, which is then done again, but no line of the metrics.
        self.save_checkpoint(log)?;
        self.progress.position.saving += before.elapsed().as_secs_f64();
        Ok(Pass::Done(()))
    }

    /// Whether this validation of an epoch is where a non-monotone average begins; then it does, and patience begins anew.
    pub(super) fn begins_to_average(&mut self, valid: Option<Loss>) -> bool {
        let Averaging::NonMonotone(left_out) = self.training().average else { return false };
        let Some(valid) = valid.filter(|_| self.waits_to_average()).map(|loss| loss.mean()) else { return false };
        let position = &mut self.progress.position;
        let triggered = is_triggered(valid, &position.validations, left_out);
        if triggered {
            position.validations.clear();
            position.epochs_since_best = 0;
            self.progress.begin_average();
        } else {
            position.validations.push(valid);
        }
        triggered
    }

    /// Whether a non-monotone average has not begun yet.
    pub(super) fn waits_to_average(&self) -> bool {
        self.training().average.watches_validation() && self.progress.position.averaged.is_none()
    }

    /// Tests the best model and keeps the result with it; gives what is known of it.
    pub(super) fn test(&mut self, log: &mut Log, stop: Option<&AtomicBool>) -> Result<Pass<ModelCard>, TrainError> {
        let path = self.claim.folder().model();
        let (params, mut card) = load_model(&path, self.task.layout())?;
        let Some(of) = self.task.positions(Part::Test) else { return Ok(Pass::Done(card)) };
        if card.test.is_none() {
            let Pass::Done(loss) = self.evaluate(&params, Part::Test, of, log, stop)? else { return Ok(Pass::Stopped) };
            card.test = Some(loss);
            self.saved.finish()?;
            save_model(&path, &params, &card, &self.task.texts(&path)?)?;
        }
        if let Some(test) = card.test {
            log.emit(&Event::Tested { step: self.step(), test })?;
        }
        Ok(Pass::Done(card))
    }

    /// Evaluates the first of a text for a moment, so that a time budget knows what it has to keep for evaluations.
    pub(super) fn time_evaluation(&mut self) -> Result<(), TrainError> {
        let parts = [Part::Validation, Part::Test];
        let part = parts.into_iter().find(|part| self.task.positions(*part).is_some());
        let (Some(budget), Some(part)) = (self.training().budget, part) else { return Ok(()) };
        if self.progress.position.evaluated.0 > 0 {
            return Ok(());
        }
        let mut evaluation = self.task.evaluation(self.progress.evaluated(), part)?;
        // The first step packs the weights and touches the memory.
        evaluation.advance();
        let (before, mut tokens) = (Instant::now(), 0);
        while before.elapsed().as_secs_f64() < EVALUATION_TRIAL * budget && evaluation.advance() {
            tokens += evaluation.positions() as u64;
        }
        drop(evaluation);
        self.progress.position.evaluated = (tokens, before.elapsed().as_secs_f64());
        Ok(())
    }

    /// Evaluates a part of the data, which has `of` positions.
    pub(super) fn evaluate(
        &self,
        params: &Params,
        part: Part,
        of: usize,
        log: &mut Log,
        stop: Option<&AtomicBool>,
    ) -> Result<Pass<Loss>, TrainError> {
        let mut evaluation = self.task.evaluation(params, part)?;
        while evaluation.advance() {
            if is_set(stop) {
                return Ok(Pass::Stopped);
            }
            log.emit(&Event::Evaluating { tokens: evaluation.total().tokens, of })?;
        }
        Ok(Pass::Done(evaluation.total()))
    }
}
