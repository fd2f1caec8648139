//! The shape of a language model.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::free_memory::{sum, times};
use crate::model::penalty::Penalties;
use crate::nn::config::{ConfigError, HiddenSizes, LstmConfig, Wiring};
use crate::nn::dropout::DropoutRates;
use crate::said::count;

/// The shape of a language model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageModelConfig {
    /// V, the number of tokens.
    pub vocabulary: usize,
    /// The layers between embedding and readout: their input is the embedding, of size E. They read forward; the number of
    /// scores is not theirs, for in the wiring `scores` it is the vocabulary.
    pub lstm: LstmConfig,
    /// The dropout in training: of the embedding, between layers, before the readout (Zaremba 2014).
    pub dropout: DropoutRates,
    /// The penalties added to the loss in training.
    #[serde(default)]
    pub penalties: Penalties,
    /// Whether the readout's weights are the embedding's (Press & Wolf 2017): one table, whose gradient is the sum of
    /// both uses. Where the last layer's output has not the embedding's size E, a learned projection
    /// `readout_projection.weight [E, output]` without a bias brings it there (Inan 2017).
    #[serde(default)]
    pub tied: bool,
    /// K, the number of softmaxes that a token is predicted by (Yang 2018): with more than one each scores a latent vector
    /// of the embedding's size, from `mixture_latent.weight [K·E, output]`, and `mixture_prior.weight [K, output]` weighs
    /// them.
    #[serde(default = "one_softmax")]
    pub softmaxes: usize,
}

fn one_softmax() -> usize {
    1
}

impl LanguageModelConfig {
    /// One layer of `hidden` units, read out as they are, nothing dropped.
    pub fn new(vocabulary: usize, embedding: usize, hidden: impl Into<HiddenSizes>) -> Self {
        Self::of(vocabulary, LstmConfig::new(embedding, hidden))
    }

    /// A model around these layers, with scores over its vocabulary where they score; nothing dropped.
    pub fn of(vocabulary: usize, lstm: LstmConfig) -> Self {
        Self {
            vocabulary,
            lstm: LstmConfig { scores: 0, ..lstm },
            dropout: DropoutRates::default(),
            penalties: Penalties::default(),
            tied: false,
            softmaxes: 1,
        }
    }

    /// E, the size of a token's embedding.
    pub fn embedding(&self) -> usize {
        self.lstm.input
    }

    /// The bytes of the parameters in numbers that do not wrap round, layers included.
    ///
    /// # Errors
    /// Hidden sizes that are not one for each layer.
    pub(crate) fn bytes(&self) -> Result<u128, ConfigError> {
        let lstm = self.with_scores();
        let output = lstm.output();
        let read = if self.tied || self.softmaxes > 1 { self.embedding() } else { output };
        let readout = if self.tied { 0 } else { times(&[self.vocabulary, read]) };
        let head = match self.softmaxes {
            1 if self.tied && output != self.embedding() => times(&[self.embedding(), output]),
            1 => 0,
            softmaxes => times(&[softmaxes, self.embedding().saturating_add(1), output]),
        };
        let values = sum([times(&[self.vocabulary, self.embedding()]), readout, head, self.vocabulary as u128]);
        Ok(sum([lstm.bytes()?, values.saturating_mul(4)]))
    }

    /// The layers as they are built, with scores over the vocabulary.
    pub(crate) fn with_scores(&self) -> LstmConfig {
        let scores = if self.lstm.wiring == Wiring::Scores { self.vocabulary } else { 0 };
        LstmConfig { scores, ..self.lstm.clone() }
    }
}

impl fmt::Display for LanguageModelConfig {
    /// Its sizes: `10,000 tokens, embedding 200, 2 layers of 200`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LstmConfig { layers: number, hidden, .. } = &self.lstm;
        let tokens = count(self.vocabulary, "token");
        write!(f, "{tokens}, embedding {}, {} of {hidden}", self.embedding(), count(*number, "layer"))?;
        match self.softmaxes {
            1 => Ok(()),
            softmaxes => write!(f, ", {softmaxes} softmaxes"),
        }
    }
}
