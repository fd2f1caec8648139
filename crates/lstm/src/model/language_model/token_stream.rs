//! One token at a time through a language model.

use lstm_kernels::{Columns, StepPlan};

use super::LanguageModel;
use crate::model::head::{Head, Mixture, mixed_scores};
use crate::nn::config::ConfigError;
use crate::nn::params::Params;
use crate::nn::stream::Stream;

/// B independent streams of tokens through a language model: each step reads one token a row and scores what comes next.
/// Weights are packed once, and nothing is allocated from step to step.
#[derive(Clone, Debug)]
pub struct TokenStream<'a> {
    table: &'a [f32],
    size: usize,
    stream: Stream,
    scores: Columns,
    mixed: Option<Mixed>,
}

/// The prior's scores of a mixture of softmaxes, and what they and the softmaxes' are mixed into.
#[derive(Clone, Debug)]
struct Mixed {
    prior: Columns,
    offsets: Vec<f32>,
    /// `[B, V]`.
    scores: Vec<f32>,
    vocabulary: usize,
}

impl TokenStream<'_> {
    /// Every row reads its token. tokens: `[B]`; gives the scores of what comes next, `[B, V]`, whose softmax are its
    /// probabilities; of a mixture of softmaxes their logarithms.
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
        let (plan, batch) = (self.stream.plan(), tokens.len());
        let scores = plan.rows(self.scores);
        let Some(Mixed { prior, offsets, scores: mixed, vocabulary }) = &mut self.mixed else { return scores };
        mixed.resize(batch * *vocabulary, 0.0);
        mixed_scores(plan.rows(*prior), scores, offsets, mixed, *vocabulary);
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
        let vocabulary = self.config.vocabulary;
        let (stream, (scores, prior)) = Stream::extended(&self.lstm, params, batch, |plan, stack| {
            let linear = |plan: &mut StepPlan, weight, bias, parts: usize, read, width: usize| {
                let out = plan.buffer(parts * width);
                plan.linear_of_parts(params.get(weight), bias, parts, read, out);
                out
            };
            let scored = |plan: &mut StepPlan, parts, read| {
                linear(plan, self.readout, Some(params.get(self.readout_bias)), parts, read, vocabulary)
            };
            let output = stack.output;
            match self.head {
                Head::Output => (scored(plan, 1, output), None),
                Head::Projection(slot) => {
                    let projected = linear(plan, slot, None, 1, output, self.read_size);
                    (scored(plan, 1, projected), None)
                }
                Head::Mixture(Mixture { softmaxes, prior, latent }) => {
                    let prior = linear(plan, prior, None, 1, output, softmaxes);
                    let width = softmaxes * self.read_size;
                    let latent = linear(plan, latent, None, 1, output, width);
                    plan.tanh(latent);
                    (scored(plan, softmaxes, latent), Some(prior))
                }
            }
        })?;
        let mixed = prior.map(|prior| Mixed { prior, offsets: Vec::new(), scores: Vec::new(), vocabulary });
        let (table, size) = (params.get(self.embedding), self.config.embedding);
        Ok(TokenStream { table, size, stream, scores, mixed })
    }
}
