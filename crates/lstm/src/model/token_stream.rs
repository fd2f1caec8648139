//! One token at a time through a language model.

use std::borrow::Cow;
use std::ops::Range;

use lstm_kernels::Columns;

use crate::model::language_model::LanguageModel;
use crate::model::readout::mixed_logits;
use crate::nn::config::ConfigError;
use crate::nn::params::Params;
use crate::nn::precision::Weights;
use crate::nn::stream::Stream;

/// B independent streams of tokens through a language model: each step takes one token a row and gives the logits of the
/// next. Weights are packed once, and nothing is allocated from step to step.
#[derive(Clone, Debug)]
pub struct TokenStream<'a> {
    table: Cow<'a, [f32]>,
    size: usize,
    stream: Stream,
    logits: Columns,
    mixed: Option<Mixed>,
}

/// The prior's logits of a mixture of softmaxes, and what they and the softmaxes' are mixed into.
#[derive(Clone, Debug)]
struct Mixed {
    prior: Columns,
    offsets: Vec<f32>,
    /// `[B, V]`.
    logits: Vec<f32>,
    vocabulary: usize,
}

impl TokenStream<'_> {
    /// Takes a token for every row. tokens: `[B]`; gives the logits of the next, `[B, V]`, whose softmax are its
    /// probabilities; of a mixture of softmaxes their logarithms.
    ///
    /// # Panics
    /// When there is not one token a row, or one is not below V.
    pub fn step(&mut self, tokens: &[u32]) -> &[f32] {
        assert_eq!(tokens.len(), self.stream.batch(), "a token for every row");
        self.step_rows(tokens, 0..tokens.len());
        match &self.mixed {
            Some(mixed) => &mixed.logits,
            None => self.stream.plan().rows(self.logits),
        }
    }

    /// As [`Self::step`], for the first `tokens.len()` rows, and the logits for `results` of them alone: [`Self::logits`] gives
    /// them. A row's have the same bits whatever the others are.
    ///
    /// # Panics
    /// When there are not as many rows, or a token is not below V.
    pub fn step_rows(&mut self, tokens: &[u32], results: Range<usize>) {
        for (row, &token) in tokens.iter().enumerate() {
            let embedding = &self.table[token as usize * self.size..][..self.size];
            self.stream.input_mut(row).copy_from_slice(embedding);
        }
        self.stream.step_rows(tokens.len(), results.clone());
        if let Some(Mixed { prior, offsets, logits: mixed, vocabulary }) = &mut self.mixed {
            let plan = self.stream.plan();
            let rows =
                |columns: Columns| &plan.rows(columns)[results.start * columns.width()..results.end * columns.width()];
            mixed.resize(plan.batch() * *vocabulary, 0.0);
            let mixed = &mut mixed[results.start * *vocabulary..results.end * *vocabulary];
            mixed_logits(rows(*prior), rows(self.logits), offsets, mixed, *vocabulary);
        }
    }

    /// The logits of row `row` at its last step that had some: `[V]`.
    ///
    /// # Panics
    /// When there is no such row, or no step yet.
    pub fn logits(&self, row: usize) -> &[f32] {
        match &self.mixed {
            Some(Mixed { logits, vocabulary, .. }) => &logits[row * vocabulary..][..*vocabulary],
            None => self.stream.plan().row(self.logits, row),
        }
    }

    /// The streams behind the tokens: their number and states.
    pub fn streams(&self) -> &Stream {
        &self.stream
    }

    /// The streams, to change their states.
    pub fn streams_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// As many streams as asked for through the same model, from zero states.
    pub fn with_batch(&self, batch: usize) -> Self {
        Self { stream: self.stream.with_batch(batch), ..self.clone() }
    }
}

impl LanguageModel {
    /// B streams of tokens through this model, from zero states.
    ///
    /// # Errors
    /// A model that cannot be run token by token.
    pub fn stream<'a>(&'a self, params: &'a Params, batch: usize) -> Result<TokenStream<'a>, ConfigError> {
        self.stream_with(params, batch, Weights::F32)
    }

    /// The same with weights of fewer bits; the embedding, of which a token reads one row, is as it is.
    ///
    /// # Errors
    /// As for [`Self::stream`].
    pub fn stream_with<'a>(
        &'a self,
        params: &'a Params,
        batch: usize,
        weights: Weights,
    ) -> Result<TokenStream<'a>, ConfigError> {
        self.planned_stream(params, batch, weights, false)
    }

    /// One stream with a copy of the embedding, so that the parameters may change while it lasts; it goes on as it is.
    ///
    /// # Errors
    /// A model that cannot be run token by token.
    pub(crate) fn lasting_stream(&self, params: &Params) -> Result<TokenStream<'static>, ConfigError> {
        let TokenStream { table, size, stream, logits, mixed } = self.stream(params, 1)?;
        Ok(TokenStream { table: Cow::Owned(table.into_owned()), size, stream, logits, mixed })
    }

    /// The same, with hidden states that can be clamped.
    ///
    /// # Errors
    /// A model that cannot be run token by token.
    pub(crate) fn clampable_stream<'a>(
        &'a self,
        params: &'a Params,
        batch: usize,
        weights: Weights,
    ) -> Result<TokenStream<'a>, ConfigError> {
        self.planned_stream(params, batch, weights, true)
    }

    fn planned_stream<'a>(
        &'a self,
        params: &'a Params,
        batch: usize,
        weights: Weights,
        clamps: bool,
    ) -> Result<TokenStream<'a>, ConfigError> {
        let (stream, readout) = Stream::extended(self.lstm(), params, batch, weights, clamps, |plan, stack| {
            self.readout().plan_step(params, plan, stack.output)
        })?;
        let (vocabulary, size) = (self.config().vocabulary, self.config().embedding());
        let mixed = |prior| Mixed { prior, offsets: Vec::new(), logits: Vec::new(), vocabulary };
        let (table, logits) = (Cow::Borrowed(params.get(self.embedding().table())), readout.logits);
        Ok(TokenStream { table, size, stream, logits, mixed: readout.prior.map(mixed) })
    }
}
