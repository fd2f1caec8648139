//! A lookup, `nn.Embedding`: tokens become the rows of a table. Forward and backward.

use std::sync::Arc;

use crate::nn::gradients::Gradients;
use crate::nn::params::{Layout, Params, Slot};

/// A table of one vector for each token. It holds no values.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// `NAME.weight [V, E]`.
    table: Slot,
    size: usize,
}

impl Lookup {
    /// Adds the table to `layout`: `NAME.weight [vocabulary, size]`.
    pub fn in_layout(name: &str, vocabulary: usize, size: usize, layout: &mut Layout) -> Self {
        Self { table: layout.add(format!("{name}.weight"), &[vocabulary, size]), size }
    }

    /// E.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Sets initial values, uniform within ±`bound`.
    pub fn initialise(&self, params: &mut Params, bound: f32, seed: u64) {
        params.fill_uniform(self.table, bound, seed);
    }

    /// Gradients of a model whose first parameter the table is: of the table only the rows that a batch touches.
    pub(crate) fn gradients(&self, layout: &Arc<Layout>) -> Gradients {
        Gradients::zeros(layout.clone(), self.table, self.size)
    }

    /// The row of a token.
    pub(crate) fn row<'a>(&self, params: &'a Params, token: u32) -> &'a [f32] {
        &params.get(self.table)[token as usize * self.size..][..self.size]
    }

    /// All rows, `[V, E]`.
    pub(crate) fn values<'a>(&self, params: &'a Params) -> &'a [f32] {
        params.get(self.table)
    }

    /// The same, to be set.
    pub(crate) fn table<'a>(&self, params: &'a mut Params) -> &'a mut [f32] {
        params.get_mut(self.table)
    }

    /// tokens `[N]` → out `[N, E]`.
    pub fn forward(&self, params: &Params, tokens: &[u32], out: &mut [f32]) {
        for (to, token) in out.chunks_exact_mut(self.size).zip(tokens) {
            to.copy_from_slice(self.row(params, *token));
        }
    }

    /// d_out `[N, E]` → the gradient of the table, to which it is added: zero the touched rows before.
    pub fn backward(&self, tokens: &[u32], d_out: &[f32], gradients: &mut Params) {
        for (token, source) in tokens.iter().zip(d_out.chunks_exact(self.size)) {
            self.add(*token, source, gradients);
        }
    }

    /// Adds the gradient of one token's row.
    pub(crate) fn add(&self, token: u32, source: &[f32], gradients: &mut Params) {
        let target = &mut gradients.get_mut(self.table)[token as usize * self.size..][..self.size];
        target.iter_mut().zip(source).for_each(|(to, from)| *to += from);
    }

    /// Zeroes the gradient of the whole table.
    pub fn zero(&self, gradients: &mut Params) {
        gradients.get_mut(self.table).fill(0.0);
    }
}
