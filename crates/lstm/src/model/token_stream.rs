//! One token at a time through a language model.

use lstm_kernels::Columns;

use crate::model::language_model::LanguageModel;
use crate::model::readout::mixed_logits;
use crate::nn::config::ConfigError;
use crate::nn::params::Params;
use crate::nn::stream::Stream;

/// B independent streams of tokens through a language model: each step takes one token a row and gives the logits of the
/// next. Weights are packed once, and nothing is allocated from step to step.
#[derive(Clone, Debug)]
pub struct TokenStream<'a> {
    table: &'a [f32],
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
        for (row, &token) in tokens.iter().enumerate() {
            let embedding = &self.table[token as usize * self.size..][..self.size];
            self.stream.input_mut(row).copy_from_slice(embedding);
        }
        self.stream.step();
        let (plan, batch) = (self.stream.plan(), tokens.len());
        let logits = plan.rows(self.logits);
        let Some(Mixed { prior, offsets, logits: mixed, vocabulary }) = &mut self.mixed else { return logits };
        mixed.resize(batch * *vocabulary, 0.0);
        mixed_logits(plan.rows(*prior), logits, offsets, mixed, *vocabulary);
        mixed
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
        let (stream, readout) = Stream::extended(self.lstm(), params, batch, |plan, stack| {
            self.readout().plan_step(params, plan, stack.output)
        })?;
        let (vocabulary, size) = (self.config().vocabulary, self.config().embedding());
        let mixed = |prior| Mixed { prior, offsets: Vec::new(), logits: Vec::new(), vocabulary };
        let (table, logits) = (params.get(self.embedding().table()), readout.logits);
        Ok(TokenStream { table, size, stream, logits, mixed: readout.prior.map(mixed) })
    }
}
