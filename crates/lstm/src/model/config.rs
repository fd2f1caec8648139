//! The shape of a language model.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::free_memory::{sum, times};
use crate::model::penalty::Penalties;
use crate::nn::config::{CellOptions, ConfigError, HiddenSizes, LstmConfig, Readout, Wiring};
use crate::nn::dropout::DropoutRates;

/// The shape of a language model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageModelConfig {
    /// V, the number of tokens.
    pub vocabulary: usize,
    /// E, the size of a token's embedding.
    pub embedding: usize,
    /// H, the hidden size, of all layers or of each.
    pub hidden: HiddenSizes,
    /// L, the number of layers.
    pub layers: usize,
    /// P, if the hidden state is projected.
    pub projection: Option<usize>,
    /// The input of a layer after the first.
    pub wiring: Wiring,
    /// The part of the last layer that is read out.
    pub readout: Readout,
    /// The steps after which the gradient through the states is cut; `None` for the whole segment.
    pub horizon: Option<usize>,
    /// Whether every layer after the first adds its input to its hidden states where the sizes agree.
    #[serde(default)]
    pub residual: bool,
    /// The ways in which the cells differ from the plain LSTM's.
    #[serde(default)]
    pub variant: CellOptions,
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
        Self {
            vocabulary,
            embedding,
            hidden: hidden.into(),
            layers: 1,
            projection: None,
            wiring: Wiring::default(),
            readout: Readout::default(),
            horizon: None,
            residual: false,
            variant: CellOptions::default(),
            dropout: DropoutRates::default(),
            penalties: Penalties::default(),
            tied: false,
            softmaxes: 1,
        }
    }

    /// The bytes of the parameters in numbers that do not wrap round, layers included.
    ///
    /// # Errors
    /// Hidden sizes that are not one for each layer.
    pub(crate) fn bytes(&self) -> Result<u128, ConfigError> {
        let lstm = self.lstm();
        let output = lstm.output();
        let read = if self.tied || self.softmaxes > 1 { self.embedding } else { output };
        let readout = if self.tied { 0 } else { times(&[self.vocabulary, read]) };
        let head = match self.softmaxes {
            1 if self.tied && output != self.embedding => times(&[self.embedding, output]),
            1 => 0,
            softmaxes => times(&[softmaxes, self.embedding.saturating_add(1), output]),
        };
        let values = sum([times(&[self.vocabulary, self.embedding]), readout, head, self.vocabulary as u128]);
        Ok(sum([lstm.bytes()?, values.saturating_mul(4)]))
    }

    /// The shape of the layers between embedding and readout: these settings, over embeddings, with scores over the vocabulary.
    pub(crate) fn lstm(&self) -> LstmConfig {
        LstmConfig {
            layers: self.layers,
            projection: self.projection,
            wiring: self.wiring,
            scores: if self.wiring == Wiring::Scores { self.vocabulary } else { 0 },
            readout: self.readout,
            horizon: self.horizon,
            residual: self.residual,
            variant: self.variant,
            ..LstmConfig::new(self.embedding, self.hidden.clone())
        }
    }

    /// A model around layers of this shape, the rest as [`Self::new`] has it.
    pub(crate) fn around(lstm: &LstmConfig, vocabulary: usize) -> Self {
        Self {
            layers: lstm.layers,
            projection: lstm.projection,
            wiring: lstm.wiring,
            readout: lstm.readout,
            horizon: lstm.horizon,
            residual: lstm.residual,
            variant: lstm.variant,
            ..Self::new(vocabulary, lstm.input, lstm.hidden.clone())
        }
    }
}

impl fmt::Display for LanguageModelConfig {
    /// Its sizes: `10000 tokens, embedding 200, 2 layers of 200`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers = if self.layers == 1 { "layer" } else { "layers" };
        write!(f, "{} tokens, embedding {}, ", self.vocabulary, self.embedding)?;
        write!(f, "{} {layers} of {}", self.layers, self.hidden)?;
        match self.softmaxes {
            1 => Ok(()),
            softmaxes => write!(f, ", {softmaxes} softmaxes"),
        }
    }
}
