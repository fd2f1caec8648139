//! A task: a model with its data and its loss, all that the loop needs to know of what it trains.

use std::path::Path;
use std::sync::Arc;

use crate::formats::FormatError;
use crate::model::Loss;
use crate::nn::config::Init;
use crate::nn::dropout::Masks;
use crate::nn::gradients::Gradients;
use crate::nn::params::{Layout, Params};
use crate::nn::state::State;
use crate::optim::parts::Share;
use crate::run::error::TrainError;
use crate::run::expectation::Expectation;
use crate::run::folder::{Claim, Pending};
use crate::run::saved::{ModelCard, Texts};
use crate::run::settings::Settings;
use crate::train::gates::LayerGates;
use crate::train::shards::Shard;

/// A model with its data and its loss. The loop ([`Trainer`](super::trainer::Trainer)), the step, the rate finder and the checkpoint
/// work with any.
pub trait Task {
    /// Its settings, beside those of the loop.
    type Settings: Settings;
    /// A batch, sized at its first use and reused.
    type Batch: Default;
    /// The batches of an epoch.
    type Batches<'a>: Batches<Self::Batch>
    where
        Self: 'a;
    /// The values that a pass leaves behind, sized at its first use and reused.
    type Tape;
    /// A pass over the validation or the test data.
    type Evaluation<'a>: Evaluation
    where
        Self: 'a;

    /// The settings of the run.
    fn settings(&self) -> &Self::Settings;

    /// The same, to change what the task has nothing to do with.
    fn settings_mut(&mut self) -> &mut Self::Settings;

    /// The parameters' names, shapes and places.
    fn layout(&self) -> &Arc<Layout>;

    /// Fresh parameters.
    fn initialise(&self, init: &Init, seed: u64) -> Params;

    /// The shares of the learning rate that its parameters have in an epoch, from 0, in order and without a gap; none, where all have all
    /// of it.
    fn shares(&self, _epoch: usize) -> Vec<Share> {
        Vec::new()
    }

    /// Gradients for [`Self::train_step`].
    fn gradients(&self) -> Gradients {
        Gradients::dense(self.layout().clone())
    }

    /// A tape for training.
    fn tape(&self) -> Self::Tape;

    /// The state that is carried from batch to batch of `rows` rows; none, where every batch begins anew.
    fn state(&self, _rows: usize) -> State {
        State::none()
    }

    /// Forward and backward over one batch: `gradients` receives the gradient of the mean loss of the positions that count,
    /// in place of what it held; the loss is their sum. `masks` tell what is dropped.
    fn train_step(
        &self,
        params: &Params,
        batch: &Self::Batch,
        state: &mut State,
        masks: Masks,
        tape: &mut Self::Tape,
        gradients: &mut Gradients,
    ) -> Loss;

    /// The same, and `complete` is told as the pass back goes on: the loss, the place of the gradient's buffer from which on nothing of it
    /// changes any more, and the buffer. Those places are [`Self::completes_from`].
    fn train_step_telling(
        &self,
        params: &Params,
        batch: &Self::Batch,
        state: &mut State,
        masks: Masks,
        tape: &mut Self::Tape,
        gradients: &mut Gradients,
        _complete: &mut dyn FnMut(Loss, usize, &mut [f32]),
    ) -> Loss {
        self.train_step(params, batch, state, masks, tape, gradients)
    }

    /// The places of the gradient's buffer from which on it is complete before all of it is, from the end down.
    fn completes_from(&self) -> Vec<usize> {
        Vec::new()
    }

    /// The gates of every layer on a batch that is read from `state`, which stays as it is; none, where there are none to be shown.
    fn gates(&self, _params: &Params, _batch: &Self::Batch, _state: &State) -> Vec<LayerGates> {
        Vec::new()
    }

    /// What the model writes, where it writes; `number` says which text of all that it could.
    fn sample(&self, _params: &Params, _number: u64) -> Option<String> {
        None
    }

    /// The length of a batch and the usual length: with their ratio the learning rate of its step is scaled.
    fn lengths(&self, _batch: &Self::Batch) -> (usize, usize) {
        (1, 1)
    }

    /// Brings the tape to where the share `done` of the schedule is over, if training changes on the way.
    fn adjust(&self, _done: f64, _tape: &mut Self::Tape) {}

    /// The share of its rates of dropout that a step has where the share `done` of the schedule is over.
    fn dropped(&self, _done: f64) -> f32 {
        1.0
    }

    /// Whether [`Self::adjust`] or [`Self::dropped`] change anything.
    fn adjusts(&self) -> bool {
        false
    }

    /// One checksum of all data, to notice that they changed.
    fn fingerprint(&self) -> String;

    /// The batches of one epoch, from 0. Any of them may be asked for at any time, so a resumed run goes on anywhere.
    ///
    /// # Errors
    /// Data that are too few.
    fn batches(&self, epoch: usize) -> Result<Self::Batches<'_>, TrainError>;

    /// The positions that a pass over a part of the data predicts, if there is such a part.
    fn positions(&self, part: Part) -> Option<usize>;

    /// A pass over a part that there is.
    ///
    /// # Errors
    /// Data without anything to predict.
    fn evaluation<'a>(&'a self, params: &'a Params, part: Part) -> Result<Self::Evaluation<'a>, TrainError>;

    /// The figure of a loss that metrics and curves show.
    fn figure(loss: Loss) -> f64 {
        loss.mean()
    }

    /// The test perplexity that was expected when its data were read, if one was.
    fn expected(&self) -> Option<Expectation> {
        None
    }

    /// Notes in a model's file what proves that it is this task's: the fingerprint of its data, the checksum of files that belong to it.
    fn describe(&self, _card: &mut ModelCard) {}

    /// The texts that a model's file has in its metadata beside that, so that it is whole by itself: labels, scalers, a tokenizer.
    /// `path`: the file's.
    ///
    /// # Errors
    /// What cannot be written as text.
    fn texts(&self, _path: &Path) -> Result<Texts, FormatError> {
        Ok(Texts::new())
    }

    /// The files, as texts, that other ranks need beside the settings to read this run: those of a task that can be trained on several.
    ///
    /// # Errors
    /// A task that cannot.
    fn files_to_follow(&self) -> Result<Vec<String>, TrainError> {
        let why = "several ranks train language models alone; start this with one process";
        Err(TrainError::Unusable(why.to_owned()))
    }

    /// Adds the files that a run has beside its settings and its checkpoint to its first files.
    ///
    /// # Errors
    /// A folder that cannot be written.
    fn add_files(&self, _claim: &Claim, _first: &mut Pending) -> Result<(), FormatError> {
        Ok(())
    }
}

/// The data that are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Watched while training: the best model is the one with the lowest loss on it.
    Validation,
    /// Measured at the end.
    Test,
}

/// The batches of an epoch.
pub trait Batches<B> {
    /// Their number.
    fn count(&self) -> usize;

    /// Fills `batch` with batch `number`.
    fn fill(&self, number: usize, batch: &mut B);

    /// Fills `part` with the rows of a shard of batch `number`, which is `whole`; false where the shard has none, or none that counts.
    fn cut(&self, number: usize, whole: &B, shard: Shard, part: &mut B) -> bool;
}

/// A pass over data, batch by batch.
pub trait Evaluation {
    /// Evaluates the next batch; false when there is none.
    fn advance(&mut self) -> bool;

    /// The positions of the last batch.
    fn positions(&self) -> usize;

    /// The loss so far, or what else the best model has least of, such as its errors.
    fn total(&self) -> Loss;
}
