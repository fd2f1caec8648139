//! What streaming carries from one segment to the next: the hidden and cell state of every layer and direction.

use crate::config::LstmConfig;

/// Hidden and cell states, as the model takes and returns them.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Hidden states `[L·D, B, R]`, layer by layer, forward direction first.
    pub h: Vec<f32>,
    /// Cell states `[L·D, B, H]`.
    pub c: Vec<f32>,
    batch: usize,
}

impl State {
    /// The state before anything was read: zeros, for `batch` rows.
    pub fn zeros(config: &LstmConfig, batch: usize) -> Self {
        let rows = config.layers * config.directions() * batch;
        Self { h: vec![0.0; rows * config.recurrent()], c: vec![0.0; rows * config.hidden], batch }
    }

    /// B, the number of rows.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Sets every state to zero.
    pub fn reset(&mut self) {
        self.h.fill(0.0);
        self.c.fill(0.0);
    }

    /// Both states of the `index`-th layer and direction, to write: `[B, R]` and `[B, H]`.
    pub(crate) fn both_mut(&mut self, index: usize, h: usize, c: usize) -> (&mut [f32], &mut [f32]) {
        (&mut self.h[index * h..][..h], &mut self.c[index * c..][..c])
    }
}
