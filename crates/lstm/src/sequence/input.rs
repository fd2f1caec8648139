//! The input of a model over sequences: a step becomes the vector that the layers read. Forward and backward.

use std::sync::Arc;

use lstm_kernels::Aligned;

use super::batch::SequenceBatch;
use super::config::SequenceModelConfig;
use super::spelling::{self, KINDS};
use crate::nn::config::{Init, InitScheme};
use crate::nn::gradients::Gradients;
use crate::nn::linear::Linear;
use crate::nn::lookup::Lookup;
use crate::nn::params::{Layout, Params};

/// The bound of the embedding's initial values, uniform (Kim 2014), where nothing else is said.
const EMBEDDING_BOUND: f32 = 0.25;

/// What makes the vectors of a sequence's steps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input {
    /// A lookup of tokens, `embedding.weight [V, E]`, and behind it of their spelling, `spelling.weight [rows, D]`.
    Tokens(Lookup, Option<Lookup>),
    /// A linear map of numbers, `input.weight [E, I]` and `input.bias [E]`.
    Numbers(Linear),
}

/// The steps of a batch as they are read: tokens `[N]`, or numbers `[N, I]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) numbers: &'a [f32],
}

impl Input {
    /// Adds its parameters to `layout`.
    pub(crate) fn in_layout(config: &SequenceModelConfig, layout: &mut Layout) -> Self {
        let size = config.embedding();
        if let Some(numbers) = &config.numbers {
            return Self::Numbers(Linear::in_layout("input", numbers.width(), size, layout));
        }
        let words = Lookup::in_layout("embedding", config.vocabulary, size, layout);
        let spelling = config.spelling > 0;
        let spelling = spelling.then(|| Lookup::in_layout("spelling", spelling::ROWS, config.spelling, layout));
        Self::Tokens(words, spelling)
    }

    /// Sets initial values.
    pub(crate) fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        let bound = if let InitScheme::Uniform(a) = init.scheme { a } else { EMBEDDING_BOUND };
        match self {
            Self::Tokens(words, spelling) => {
                [Some(words), spelling.as_ref()]
                    .into_iter()
                    .flatten()
                    .for_each(|of| of.initialise(params, bound, seed));
            }
            Self::Numbers(linear) => linear.initialise(params, init, seed),
        }
    }

    /// Gradients of a model that begins with it.
    pub(crate) fn gradients(&self, layout: &Arc<Layout>) -> Gradients {
        match self {
            Self::Tokens(words, _) => words.gradients(layout),
            Self::Numbers(_) => Gradients::dense(layout.clone()),
        }
    }

    /// The vectors of a batch's N steps: `out [N, ·]`, which it sizes.
    pub(crate) fn forward(&self, params: &Params, batch: &SequenceBatch, steps: Steps, out: &mut Aligned) {
        match self {
            Self::Tokens(words, None) => {
                out.resize(steps.tokens.len() * words.size());
                words.forward(params, steps.tokens, out);
            }
            Self::Tokens(words, Some(spelling)) => {
                let input = words.size() + KINDS * spelling.size();
                out.resize(steps.tokens.len() * input);
                for ((to, token), kinds) in out.chunks_exact_mut(input).zip(steps.tokens).zip(&batch.spelling) {
                    let (word, spelled) = to.split_at_mut(words.size());
                    word.copy_from_slice(words.row(params, *token));
                    for (to, row) in spelled.chunks_exact_mut(spelling.size()).zip(kinds) {
                        to.copy_from_slice(spelling.row(params, *row));
                    }
                }
            }
            Self::Numbers(linear) => {
                out.resize(batch.steps() * linear.output());
                linear.forward(params, steps.numbers, out);
            }
        }
    }

    /// d_out `[N, ·]` → the gradients of its parameters; the rows of the words that were touched are zero before.
    pub(crate) fn backward(
        &self,
        params: &Params,
        batch: &SequenceBatch,
        steps: Steps,
        d_out: &[f32],
        gradients: &mut Params,
    ) {
        match self {
            Self::Tokens(words, None) => words.backward(steps.tokens, d_out, gradients),
            Self::Tokens(words, Some(spelling)) => {
                spelling.zero(gradients);
                let input = words.size() + KINDS * spelling.size();
                for ((source, token), kinds) in d_out.chunks_exact(input).zip(steps.tokens).zip(&batch.spelling) {
                    let (word, spelled) = source.split_at(words.size());
                    words.add(*token, word, gradients);
                    for (source, row) in spelled.chunks_exact(spelling.size()).zip(kinds) {
                        spelling.add(*row, source, gradients);
                    }
                }
            }
            Self::Numbers(linear) => linear.backward(params, steps.numbers, d_out, None, gradients),
        }
    }
}
