//! The gradient of one training step: of a batch, or of several that count as one.

use std::ops::Range;
use std::sync::Arc;

use crate::model::{LanguageModel, LanguageTape, Loss, Sampler};
use crate::nn::dropout::Masks;
use crate::nn::params::{Gradients, Params};
use crate::nn::state::State;
use crate::run::config::RunConfig;
use crate::text::batch::{Batch, Batches};

/// What training steps work with, sized at the first and reused.
pub(super) struct Descent<'a> {
    model: &'a LanguageModel,
    batch: Batch,
    tape: LanguageTape,
    /// The gradient of the step; while batches accumulate, their mean so far.
    gradients: Gradients,
    /// That of the latest of several batches.
    latest: Option<Gradients>,
    sampler: Option<Arc<Sampler>>,
    sampling: bool,
}

/// What a step read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Read {
    /// The loss of all its batches.
    pub(super) loss: Loss,
    /// T of all its batches together.
    pub(super) steps: usize,
}

impl Read {
    /// What the rate is multiplied by: where segments vary, a shorter one has a noisier gradient, and there are more of
    /// them (Merity 2017). `batches`: those of the step.
    pub(super) fn rate_factor(&self, config: &RunConfig, batches: usize) -> f32 {
        if config.variable_segment { self.steps as f32 / (batches * config.segment) as f32 } else { 1.0 }
    }
}

impl<'a> Descent<'a> {
    /// With a `sampler`, steps score the tokens it draws, see [`Self::sample`].
    pub(super) fn new(model: &'a LanguageModel, sampler: Option<Arc<Sampler>>) -> Self {
        let (batch, tape, gradients) = (Batch::default(), model.tape(), model.gradients());
        Self { model, batch, tape, gradients, latest: None, sampler, sampling: false }
    }

    /// Whether the next steps score what the sampler draws, if there is one, or every token.
    pub(super) fn sample(&mut self, sampling: bool) {
        if self.sampling != sampling {
            self.tape.sample(self.sampler.as_ref().filter(|_| sampling));
            self.sampling = sampling;
        }
    }

    /// Works out the gradient of the mean loss of all tokens that the batches `numbers` predict, as if they were one
    /// batch. `step`: the steps taken before, which name the masks.
    pub(super) fn read(
        &mut self,
        config: &RunConfig,
        params: &Params,
        state: &mut State,
        batches: &Batches,
        numbers: Range<usize>,
        step: u64,
    ) -> Read {
        let mut all = Read::default();
        for (place, number) in numbers.enumerate() {
            batches.get(number, &mut self.batch);
            // Every batch of a step has masks of its own.
            let step = step * config.accumulate as u64 + place as u64;
            let masks = Masks { seed: config.seed, step };
            let Self { model, batch, tape, gradients, latest, .. } = self;
            let target = if place == 0 { &mut *gradients } else { latest.get_or_insert_with(|| model.gradients()) };
            let loss = model.train_step(params, batch, state, Some(masks), tape, target);
            all.loss.add(loss);
            all.steps += batch.steps;
            if let Some(latest) = latest.as_ref().filter(|_| place > 0) {
                gradients.average_in(latest, loss.tokens as f32 / all.loss.tokens.max(1) as f32);
            }
        }
        all
    }

    /// The gradient of the last step.
    pub(super) fn gradients(&self) -> &Gradients {
        &self.gradients
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::preset::Preset;
    use crate::text::batch::Batching;
    use crate::text::builtin::Grammar;
    use crate::text::corpus::Corpus;
    use crate::text::source::Source;
    use crate::text::tokenizer::{Tokenizer, TokenizerKind, VocabularyOptions};

    /// The loss and gradient of step `number` over a text in `batching`, of `accumulate` batches of `batch` rows.
    fn step(batching: Batching, batch: usize, accumulate: usize, number: usize) -> (Read, Vec<f32>) {
        let source = Source::from_text(&Grammar::standard().sample(3, 0, 300));
        let options = VocabularyOptions { line_markers: true, min_count: Some(1), ..Default::default() };
        let tokenizer = Tokenizer::build(TokenizerKind::Words, &source, options, false).unwrap();
        let corpus = Corpus::read(&source, &tokenizer, false).unwrap();
        let mut config = Preset::Builtin.config();
        (config.model.vocabulary, config.model.hidden, config.model.embedding) =
            (tokenizer.vocabulary_size(), 8.into(), 6);
        (config.batching, config.batch, config.segment, config.accumulate) = (batching, batch, 60, accumulate);
        let batches = Batches::training(&corpus, &tokenizer, batching, batch, 60, 1, 0).unwrap();
        let model = LanguageModel::new(config.model.clone()).unwrap();
        let params = model.initialise(&config.init, 1);
        let (mut descent, mut state) = (Descent::new(&model, None), model.state(batch));
        // What an earlier step left must not matter.
        descent.read(&config, &params, &mut state, &batches, 0..accumulate, 0);
        let numbers = number * accumulate..(number + 1) * accumulate;
        let read = descent.read(&config, &params, &mut state, &batches, numbers, 1);
        let gradients = descent.gradients();
        // Outside of its ranges the gradient is zero, as it says.
        let mut outside = gradients.values().to_vec();
        gradients.ranges().iter().for_each(|range| outside[range.clone()].fill(0.0));
        assert!(outside.iter().all(|&value| value == 0.0));
        (read, gradients.values().to_vec())
    }

    #[test]
    fn batches_that_accumulate_are_one_batch() {
        for (parts, number) in [(2, 1), (3, 2)] {
            let (whole, expected) = step(Batching::Windows(5), 12, 1, number);
            let (read, gradient) = step(Batching::Windows(5), 12 / parts, parts, number);
            assert_eq!((read.loss.tokens, whole.loss.tokens), (12, 12));
            assert!((read.loss.nll - whole.loss.nll).abs() < 1e-4, "{read:?} {whole:?}");
            assert_eq!(read.steps, whole.steps * parts);
            assert!(expected.iter().any(|value| value.abs() > 1e-3));
            for (value, expected) in gradient.iter().zip(&expected) {
                assert!((value - expected).abs() < 1e-6, "{value} and {expected}");
            }
        }
    }

    #[test]
    fn every_token_counts_the_same_in_lines_of_different_lengths() {
        // Whole lines, so that no state is carried from batch to batch: apart they give what one step has to join.
        let (first, first_gradient) = step(Batching::Lines, 6, 1, 2);
        let (second, second_gradient) = step(Batching::Lines, 6, 1, 3);
        assert_ne!(first.loss.tokens, second.loss.tokens);
        let (both, gradient) = step(Batching::Lines, 6, 2, 1);
        let tokens = (first.loss.tokens + second.loss.tokens) as f32;
        assert_eq!(both.loss.tokens as f32, tokens);
        let parts = first_gradient.iter().zip(&second_gradient);
        for ((first_value, second_value), value) in parts.zip(&gradient) {
            let expected = (first_value * first.loss.tokens as f32 + second_value * second.loss.tokens as f32) / tokens;
            assert!((value - expected).abs() < 1e-6, "{value} and {expected}");
        }
    }
}
