//! A trained model's loss on a text.

use crate::model::{LanguageModel, LanguageTape, Loss, Predicted};
use crate::params::Params;
use crate::state::State;
use crate::text::TextError;
use crate::text::batches::{Batch, Batches, Batching, NO_TARGET};
use crate::text::corpus::Corpus;
use crate::text::tokenizer::Tokenizer;

/// T, the steps of a pass: longer than in training, because nothing is kept for a backward pass and larger products
/// are faster.
const SEGMENT: usize = 256;

/// A pass over a whole text, batch by batch: every token is predicted once. A stream is one column with its state
/// carried from the first token to the last; windows and lines start from a zero state each, `rows` at a time.
pub struct Evaluation<'a> {
    model: &'a LanguageModel,
    params: &'a Params,
    batches: Batches<'a>,
    next: usize,
    state: State,
    tape: LanguageTape,
    batch: Batch,
    surprisal: Vec<f32>,
    total: Loss,
}

impl<'a> Evaluation<'a> {
    /// Before the first batch.
    ///
    /// # Errors
    /// A text without anything to predict.
    pub fn new(
        model: &'a LanguageModel,
        params: &'a Params,
        tokenizer: &'a Tokenizer,
        corpus: &'a Corpus,
        batching: Batching,
        rows: usize,
    ) -> Result<Self, TextError> {
        let batches = Batches::evaluation(corpus, tokenizer, batching, rows, SEGMENT)?;
        Ok(Self {
            model,
            params,
            next: 0,
            state: model.state(batches.rows()),
            tape: model.frozen_tape(),
            batch: Batch::default(),
            surprisal: Vec::new(),
            total: Loss::default(),
            batches,
        })
    }

    /// Evaluates the next batch; false when there is none.
    pub fn advance(&mut self) -> bool {
        if self.next == self.batches.len() {
            return false;
        }
        self.batches.get(self.next, &mut self.batch);
        self.next += 1;
        self.surprisal.clear();
        let loss =
            self.model.evaluate(self.params, &self.batch, &mut self.state, &mut self.tape, Some(&mut self.surprisal));
        self.total.add(loss);
        true
    }

    /// The predicted tokens of the last batch with their surprisal in nats, in the order of its positions: those of a
    /// text when `rows` is 1.
    pub fn predicted(&self) -> impl Iterator<Item = (u32, f32)> {
        let targets = self.batch.targets.iter().copied().filter(|&target| target != NO_TARGET);
        targets.zip(self.surprisal.iter().copied())
    }

    /// The predicted positions of the last batch with the outputs they were predicted from.
    pub(crate) fn scored(&self) -> Predicted<'_> {
        self.tape.predicted()
    }

    /// The tokens that the whole pass predicts.
    pub(crate) fn tokens(&self) -> usize {
        self.batches.predicted()
    }

    /// The loss so far.
    pub fn total(&self) -> Loss {
        self.total
    }

    /// Evaluates what is left of the text.
    pub fn finish(mut self) -> Loss {
        while self.advance() {}
        self.total
    }
}
