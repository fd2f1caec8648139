//! One token at a time through a language model.

use lstm_kernels::Columns;

use super::LanguageModel;
use crate::config::ConfigError;
use crate::params::Params;
use crate::stream::Stream;

/// B independent streams of tokens through a language model: each step reads one token a row and scores what comes next.
/// Weights are packed once, and nothing is allocated from step to step.
#[derive(Clone, Debug)]
pub struct TokenStream<'a> {
    table: &'a [f32],
    size: usize,
    stream: Stream,
    scores: Columns,
}

impl TokenStream<'_> {
    /// Every row reads its token. tokens: `[B]`; gives the scores of what comes next, `[B, V]`.
    ///
    /// # Panics
    /// When there is not one token a row, or one is not below V.
    pub fn read(&mut self, tokens: &[u32]) -> &[f32] {
        assert_eq!(tokens.len(), self.stream.batch(), "a token for every row");
        for (row, &token) in tokens.iter().enumerate() {
            let embedding = &self.table[token as usize * self.size..][..self.size];
            self.stream.input_mut(row).copy_from_slice(embedding);
        }
        self.stream.step();
        self.stream.plan().rows(self.scores)
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
        let (stream, scores) = Stream::extended(&self.lstm, params, batch, |plan, stack| {
            let mut read = stack.output;
            if let Some(slot) = self.readout_projection {
                let projected = plan.buffer(self.config.embedding);
                plan.linear(params.get(slot), None, read, projected);
                read = projected;
            }
            let scores = plan.buffer(self.config.vocabulary);
            plan.linear(params.get(self.readout), Some(params.get(self.readout_bias)), read, scores);
            scores
        })?;
        Ok(TokenStream { table: params.get(self.embedding), size: self.config.embedding, stream, scores })
    }
}
