//! Choices that bring others with them, whoever makes them.

use super::config::RunConfig;
use crate::nn::config::Wiring;
use crate::run::preset::Preset;
use crate::text::batch::Batching;
use crate::text::documents::LineEnds;
use crate::text::tokenizer::TokenizerKind;

impl RunConfig {
    /// Sets what a token is, and how lines end: to bytes every byte is a token.
    pub fn set_tokenizer(&mut self, kind: TokenizerKind) {
        self.tokenizer = kind;
        self.data.line_ends = if kind == TokenizerKind::Bytes { LineEnds::Keep } else { LineEnds::Lf };
    }

    /// Sets how texts are cut into batches. Segments of varying length are those of a stream.
    pub fn set_batching(&mut self, batching: Batching) {
        self.batching = batching;
        self.variable_segment &= batching == Batching::Stream;
        self.partial_shuffle &= batching == Batching::Stream;
    }

    /// Lets the model start from nothing that is counted in its text.
    pub(crate) fn start_uncounted(&mut self) {
        (self.unigram_bias, self.spectral_embedding) = (false, false);
    }

    /// Sets the number of layers of a run of `preset`. Those of the report are joined by their scores.
    pub fn set_layers(&mut self, layers: usize, preset: Preset) {
        self.model.lstm.layers = layers;
        if preset == Preset::TextLstm && layers > 1 {
            self.model.lstm.wiring = Wiring::Scores;
        }
    }
}
