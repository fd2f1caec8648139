//! The embedding: tokens to vectors, with dropout of values and of whole words. Forward, backward, and one token.

use lstm_kernels::Aligned;

use crate::free_memory::bytes_of;
use crate::model::config::LanguageModelConfig;
use crate::nn::config::{Init, InitScheme};
use crate::nn::dropout::{self, Dropout, DropoutRates, INPUT, Masks, WORDS};
use crate::nn::gradients::Gradients;
use crate::nn::params::{Layout, Params, Slot, gather};
use crate::text::batch::Batch;

/// A table of one vector for each token, the first parameter of a model.
#[derive(Clone, Debug)]
pub(super) struct Embedding {
    /// `embedding.weight [V, E]`.
    table: Slot,
    /// V.
    vocabulary: usize,
    /// E.
    size: usize,
    rates: DropoutRates,
}

/// The values that a forward pass leaves for its backward pass.
#[derive(Clone, Debug, Default)]
pub(super) struct EmbeddingTape {
    /// `[T, B, E]`.
    embedded: Aligned,
    mask: Vec<f32>,
    /// `[V]`: the mask of whole words.
    word_mask: Vec<f32>,
}

impl Embedding {
    /// Adds the table to `layout`, where it must be the first: its gradient is kept by rows, see [`Gradients`].
    pub(super) fn in_layout(config: &LanguageModelConfig, layout: &mut Layout) -> Self {
        let (vocabulary, size) = (config.vocabulary, config.embedding());
        Self { table: layout.add("embedding.weight", &[vocabulary, size]), vocabulary, size, rates: config.dropout }
    }

    /// The table's place, which a tied readout shares.
    pub(super) fn table(&self) -> Slot {
        self.table
    }

    /// Initial values: normal as `nn.Embedding`'s unless everything is `uniform(a)`.
    pub(super) fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        match init.scheme {
            InitScheme::Uniform(a) => params.fill_uniform(self.table, a, seed),
            InitScheme::Torch | InitScheme::OnesBias => params.fill_normal(self.table, seed),
        }
    }

    /// Gradients of a model of this `layout`, of which this table's touched rows are known.
    pub(super) fn gradients(&self, layout: std::sync::Arc<Layout>) -> Gradients {
        Gradients::zeros(layout, self.table, self.size)
    }

    /// The bytes of a tape for a segment of so many steps and rows.
    pub(super) fn bytes(&self, steps: usize, batch: usize) -> usize {
        let drops = usize::from(self.rates.input > 0.0);
        let words = usize::from(self.rates.embedding > 0.0);
        bytes_of(&[[steps, batch, self.size.saturating_mul(1 + drops)], [steps.min(1), words, self.vocabulary]])
    }

    /// tokens `[T, B]` → `tape.embedded: [T, B, E]`. Without `masks` nothing is dropped.
    pub(super) fn forward(&self, params: &Params, batch: &Batch, masks: Option<Masks>, tape: &mut EmbeddingTape) {
        gather(params.get(self.table), &batch.tokens, self.size, &mut tape.embedded);
        tape.word_mask.clear();
        tape.mask.clear();
        let Some(masks) = masks else { return };
        let DropoutRates { kind, input: rate, weights, embedding: words, .. } = self.rates;
        if words > 0.0 {
            masks.fill_shared(WORDS, words, &mut tape.word_mask, self.vocabulary);
            drop_words(&mut tape.embedded, &batch.tokens, &tape.word_mask);
        }
        if rate > 0.0 {
            let dropout = Dropout { kind, rate, weights, masks };
            dropout.apply(INPUT, batch.steps, &mut tape.embedded, &mut tape.mask);
        }
    }

    /// Adds d_embedded `[T, B, E]`, which it changes, to the gradient of the tokens' rows.
    pub(super) fn backward(&self, batch: &Batch, d_embedded: &mut [f32], tape: &EmbeddingTape, gradients: &mut Params) {
        dropout::apply(d_embedded, &tape.mask);
        drop_words(d_embedded, &batch.tokens, &tape.word_mask);
        let d_table = gradients.get_mut(self.table);
        for (source, &token) in d_embedded.chunks_exact(self.size).zip(&batch.tokens) {
            let target = &mut d_table[token as usize * self.size..][..self.size];
            target.iter_mut().zip(source).for_each(|(d, s)| *d += s);
        }
    }
}

impl EmbeddingTape {
    /// `[T, B, E]`.
    pub(super) fn embedded(&self) -> &[f32] {
        &self.embedded
    }
}

/// Multiplies the rows of `values: [T·B, E]` by the factors of their tokens; an empty mask drops nothing.
fn drop_words(values: &mut [f32], tokens: &[u32], mask: &[f32]) {
    if mask.is_empty() {
        return;
    }
    let size = values.len() / tokens.len().max(1);
    for (values, &token) in values.chunks_exact_mut(size.max(1)).zip(tokens) {
        let factor = mask[token as usize];
        values.iter_mut().for_each(|value| *value *= factor);
    }
}
