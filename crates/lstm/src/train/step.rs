//! One training step: the gradient of a batch, or of several that count as one, and what the optimizer makes of it.

use std::ops::Range;

use super::ranks::{Alone, Order, Orders, Ranks};
use super::shards::{At, Exchanged, Shards};
use super::task::{Batches, Task};
use crate::model::Loss;
use crate::nn::dropout::Masks;
use crate::nn::gradients::Gradients;
use crate::nn::precision::Precision;
use crate::optim::averaging::Averaging;
use crate::run::checkpoint::Progress;
use crate::run::error::TrainError;
use crate::run::settings::Settings as _;
use crate::train::gates::LayerGates;

/// Takes training steps of a task. It holds what they work with, sized at the first and reused.
pub(crate) struct TrainStep<'a, T: Task> {
    task: &'a T,
    settings: Settings,
    batch: T::Batch,
    tape: T::Tape,
    /// The gradient of the step; while batches accumulate, their mean so far.
    gradients: Gradients,
    /// That of the latest of several batches.
    latest: Option<Gradients>,
    /// How the gradient is computed of a step that is cut into shards.
    shards: Option<Shards<'a, T>>,
    /// Who else takes the steps that this process orders.
    orders: Option<&'a Orders<'a>>,
    /// The share of the schedule that is done.
    done: f64,
    /// The epoch whose shares of the rate the optimizer has.
    shares_of: Option<usize>,
}

/// A run's settings of its steps.
#[derive(Clone, Copy, Debug)]
struct Settings {
    seed: u64,
    /// The batches of a step.
    accumulate: usize,
    precision: Precision,
    clip: Option<f32>,
    average: Averaging,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StepResult {
    /// The loss of all its batches.
    pub(crate) loss: Loss,
    /// The norm of the gradient before it was clipped. If it or the loss is not finite, nothing was changed.
    pub(crate) norm: f64,
    /// The learning rate that was applied: the one given, scaled with the length of batches that vary.
    pub(crate) learning_rate: f32,
}

impl<'a, T: Task> TrainStep<'a, T> {
    /// The steps of a run of this task, by this process alone.
    pub(crate) fn new(task: &'a T) -> Self {
        Self::on(task, &Alone)
    }

    /// The steps of a run of which this is rank 0, and the others do as it says.
    pub(crate) fn ordered(task: &'a T, orders: &'a Orders<'a>) -> Self {
        Self { orders: Some(orders), ..Self::on(task, orders.ranks()) }
    }

    /// The same of any rank.
    pub(crate) fn on(task: &'a T, ranks: &'a dyn Ranks) -> Self {
        let training = task.settings().training();
        let settings = Settings {
            seed: training.seed,
            accumulate: training.accumulate,
            precision: training.precision,
            clip: training.clip,
            average: training.average,
        };
        let (batch, tape, gradients) = (T::Batch::default(), task.tape(), task.gradients());
        let shards = training.shards.map(|of| Shards::new(task, ranks, of));
        Self { task, settings, batch, tape, gradients, latest: None, shards, orders: None, done: 0.0, shares_of: None }
    }

    /// Takes the next steps in another precision than the run's.
    pub(super) fn set_precision(&mut self, precision: Precision) {
        self.settings.precision = precision;
    }

    /// Brings the next steps to where the share `done` of the schedule is over.
    pub(crate) fn adjust(&mut self, done: f64) {
        self.task.adjust(done, &mut self.tape);
        self.done = done;
    }

    /// Brings the states that other ranks carry to this one, before they are looked at or saved.
    pub(crate) fn collect(&mut self, progress: &mut Progress) -> Result<(), TrainError> {
        self.order(Order::Collect)?;
        let Some(shards) = &self.shards else { return Ok(()) };
        let collected = shards.collect(&mut progress.state);
        self.noted(collected)
    }

    /// What the exchange with other ranks took, of a step that is cut into shards.
    pub(crate) fn exchanged(&self) -> Option<Exchanged> {
        self.shards.as_ref().map(|shards| shards.exchanged)
    }

    fn order(&self, order: Order) -> Result<(), TrainError> {
        self.orders.map_or(Ok(()), |orders| orders.give(order))
    }

    fn noted<R>(&self, result: Result<R, TrainError>) -> Result<R, TrainError> {
        match self.orders {
            Some(orders) => orders.noted(result),
            None => result,
        }
    }

    /// Measures the gates on the batch that is next. Nothing of the run changes.
    pub(crate) fn gates(&mut self, progress: &Progress, batches: &T::Batches<'_>) -> Vec<LayerGates> {
        batches.fill(progress.position.batch, &mut self.batch);
        self.task.gates(&progress.params, &self.batch, &progress.state)
    }

    /// The loss and the gradient of the batch that is next, past which the position moves; the parameters stay.
    ///
    /// # Errors
    /// A rank that is lost.
    pub(super) fn look(
        &mut self,
        progress: &mut Progress,
        batches: &T::Batches<'_>,
    ) -> Result<(Loss, &[f32]), TrainError> {
        let number = progress.position.batch;
        let (loss, _) = self.gradient(progress, batches, number..number + 1)?;
        progress.position.batch += 1;
        Ok((loss, self.gradients.values()))
    }

    /// Takes the next step of an epoch: from its next batches to changed parameters, and the position moved on.
    ///
    /// # Errors
    /// A rank that is lost.
    pub(crate) fn take(
        &mut self,
        progress: &mut Progress,
        batches: &T::Batches<'_>,
        learning_rate: f32,
    ) -> Result<StepResult, TrainError> {
        let Settings { accumulate, clip, average, .. } = self.settings;
        let first = progress.position.batch;
        let numbers = first..batches.count().min(first.saturating_add(accumulate));
        let (epoch, step) = (progress.position.epoch, progress.position.step);
        self.order(Order::Step { epoch, batch: first, step, done: self.done, learning_rate })?;

        // Forward and backward: the gradient of the mean loss.
        let (loss, lengths) = self.gradient(progress, batches, numbers.clone())?;
        let learning_rate = learning_rate * (lengths.0 as f32 / lengths.1 as f32);
        if !loss.nll.is_finite() {
            return Ok(StepResult { loss, norm: f64::NAN, learning_rate });
        }

        // Clip the gradient and change the parameters.
        if self.shares_of.replace(epoch) != Some(epoch) {
            progress.optimizer.set_shares(self.task.shares(epoch));
        }
        let (params, gradients) = (progress.params.values_mut(), &self.gradients);
        let (precision, optimizer) = (self.settings.precision, &mut progress.optimizer);
        // The products of an optimizer of matrices are in the step's precision, too.
        let norm = precision
            .within(|| optimizer.step_within(params, gradients.values(), gradients.ranges(), learning_rate, clip));
        if !norm.is_finite() {
            return Ok(StepResult { loss, norm, learning_rate });
        }

        // What is validated and saved is the average of the parameters, if there is one.
        progress.average_in(average);
        progress.position.advance(loss, numbers.end);
        Ok(StepResult { loss, norm, learning_rate })
    }

    /// Works out the gradient of the mean loss of all positions that the batches `numbers` predict, as if they were one
    /// batch. Gives their loss, and the length of all of them and of as many usual ones.
    fn gradient(
        &mut self,
        progress: &mut Progress,
        batches: &T::Batches<'_>,
        numbers: Range<usize>,
    ) -> Result<(Loss, (usize, usize)), TrainError> {
        if let Some(shards) = &mut self.shards {
            let Settings { seed, accumulate, precision, .. } = self.settings;
            let share = self.task.dropped(self.done);
            let at = At { progress, numbers, seed, accumulate, precision, share };
            let gradient = shards.gradient(at, batches, &mut self.tape, &mut self.gradients);
            return self.noted(gradient);
        }
        let Progress { params, state, position, .. } = progress;
        let (mut all, mut lengths) = (Loss::default(), (0, 0));
        for (place, number) in numbers.enumerate() {
            batches.fill(number, &mut self.batch);
            // Every batch of a step has masks of its own.
            let step = position.step * self.settings.accumulate as u64 + place as u64;
            let masks = Masks { seed: self.settings.seed, step, shard: 0, share: self.task.dropped(self.done) };
            let Self { task, batch, tape, gradients, latest, .. } = self;
            let target = if place == 0 { &mut *gradients } else { latest.get_or_insert_with(|| task.gradients()) };
            let precision = self.settings.precision;
            let loss = precision.within(|| task.train_step(params, batch, state, masks, tape, target));
            all.add(loss);
            let (length, usual) = task.lengths(batch);
            lengths = (lengths.0 + length, lengths.1 + usual);
            if let Some(latest) = latest.as_ref().filter(|_| place > 0) {
                gradients.average_in(latest, loss.tokens as f32 / all.tokens.max(1) as f32);
            }
        }
        Ok((all, lengths))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::optimizer::OptimizerKind;
    use crate::run::preset::Preset;
    use crate::text::batch::Batching;
    use crate::text::builtin::Grammar;
    use crate::text::corpus::Corpus;
    use crate::text::source::Source;
    use crate::text::tokenizer::{Tokenizer, TokenizerKind, VocabularyOptions};
    use crate::train::data::Data;
    use crate::train::language::Language;

    /// A text to train on alone.
    fn data(tokenizer: Tokenizer, train: Corpus) -> Data {
        let (valid, test, floor, trigram, expected, notes) = (None, None, None, None, None, Vec::new());
        Data { tokenizer, train, valid, test, floor, trigram, expected, notes, seconds: 0.0, inherited: None }
    }

    /// The loss, the time steps and the gradient of step `number` over a text in `batching`, of `accumulate` batches of `batch` rows.
    fn step(batching: Batching, batch: usize, accumulate: usize, number: usize) -> (Loss, usize, Vec<f32>) {
        let source = Source::from_text(&Grammar::standard().sample(3, 0, 300));
        let options = VocabularyOptions { line_markers: true, min_count: Some(1), ..Default::default() };
        let tokenizer = Tokenizer::build(TokenizerKind::Words, &source, options, false).unwrap();
        let corpus = Corpus::read(&source, &tokenizer, false).unwrap();
        let mut config = Preset::Builtin.config();
        (config.model.vocabulary, config.model.lstm.hidden, config.model.lstm.input) =
            (tokenizer.vocabulary_size(), 8.into(), 6);
        (config.batching, config.training.batch, config.segment, config.training.accumulate) =
            (batching, batch, 60, accumulate);
        config.training.seed = 1;
        let task = Language::new(config, data(tokenizer, corpus)).unwrap();
        let batches = task.batches(0).unwrap();
        let mut progress = Progress::new(&task);
        let mut step = TrainStep::new(&task);
        // What an earlier step left must not matter.
        step.gradient(&mut progress, &batches, 0..accumulate).unwrap();
        progress.position.step = 1;
        let numbers = number * accumulate..(number + 1) * accumulate;
        let (loss, steps) = step.gradient(&mut progress, &batches, numbers).unwrap();
        let gradients = &step.gradients;
        // Outside of its ranges the gradient is zero, as it says.
        let mut outside = gradients.values().to_vec();
        gradients.ranges().iter().for_each(|range| outside[range.clone()].fill(0.0));
        assert!(outside.iter().all(|&value| value == 0.0));
        (loss, steps.0, gradients.values().to_vec())
    }

    #[test]
    fn batches_that_accumulate_are_one_batch() {
        for (parts, number) in [(2, 1), (3, 2)] {
            let (whole, whole_steps, expected) = step(Batching::Windows(5), 12, 1, number);
            let (loss, steps, gradient) = step(Batching::Windows(5), 12 / parts, parts, number);
            assert_eq!((loss.tokens, whole.tokens), (12, 12));
            assert!((loss.nll - whole.nll).abs() < 1e-4, "{loss:?} {whole:?}");
            assert_eq!(steps, whole_steps * parts);
            assert!(expected.iter().any(|value| value.abs() > 1e-3));
            for (value, expected) in gradient.iter().zip(&expected) {
                assert!((value - expected).abs() < 1e-6, "{value} and {expected}");
            }
        }
    }

    #[test]
    fn every_token_counts_the_same_in_lines_of_different_lengths() {
        // Whole lines, so that no state is carried from batch to batch: apart they give what one step has to join.
        let (first, _, first_gradient) = step(Batching::Lines, 6, 1, 2);
        let (second, _, second_gradient) = step(Batching::Lines, 6, 1, 3);
        assert_ne!(first.tokens, second.tokens);
        let (both, _, gradient) = step(Batching::Lines, 6, 2, 1);
        let tokens = (first.tokens + second.tokens) as f32;
        assert_eq!(both.tokens as f32, tokens);
        let parts = first_gradient.iter().zip(&second_gradient);
        for ((first_value, second_value), value) in parts.zip(&gradient) {
            let expected = (first_value * first.tokens as f32 + second_value * second.tokens as f32) / tokens;
            assert!((value - expected).abs() < 1e-6, "{value} and {expected}");
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let source = Source::from_text(&Grammar::standard().sample(3, 0, 300));
        let tokenizer = Tokenizer::build(TokenizerKind::Words, &source, Default::default(), false).unwrap();
        let corpus = Corpus::read(&source, &tokenizer, false).unwrap();
        let mut config = Preset::Builtin.config();
        (config.training.optimizer, config.training.clip) = (OptimizerKind::Sgd, None);
        config.fit(tokenizer.vocabulary_size(), corpus.ids.len());
        let accumulate = config.training.accumulate;
        let task = Language::new(config, data(tokenizer, corpus)).unwrap();
        let batches = task.batches(0).unwrap();
        let mut progress = Progress::new(&task);
        let mut step = TrainStep::new(&task);
        let good = step.take(&mut progress, &batches, 0.1).unwrap();
        assert!(good.norm.is_finite() && good.loss.tokens > 0 && good.learning_rate == 0.1);
        assert_eq!((progress.position.step, progress.position.batch), (1, accumulate));
        // A rate far too high is soon not finite.
        for _ in 0..20 {
            progress.position.batch = 0;
            let (position, params) = (progress.position.clone(), progress.params.clone());
            let result = step.take(&mut progress, &batches, 1e38).unwrap();
            if !result.norm.is_finite() {
                assert_eq!((position, params), (progress.position, progress.params));
                return;
            }
        }
        panic!("every step was finite");
    }
}
