//! The positions that are predicted: of a batch those that have a target, after the dropout of outputs.

use lstm_kernels::{Aligned, multiply};

use crate::free_memory::bytes_of;
use crate::nn::dropout::{DropoutKind, DropoutRates, Masks, OUTPUT};
use crate::nn::params::gather;
use crate::text::batch::{Batch, NO_TARGET};

/// Which outputs are predicted from, and how they are dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Positions {
    /// O, the size of an output.
    width: usize,
    kind: DropoutKind,
    rate: f32,
}

/// The values that the forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub(in crate::model) struct PositionsTape {
    /// Whether every position is predicted from its output as it is.
    is_whole: bool,
    /// The positions that are predicted, and their outputs after dropout; unused if `is_whole`.
    rows: Vec<u32>,
    outputs: Aligned,
    mask: Vec<f32>,
    /// The tokens to predict.
    pub(in crate::model) targets: Vec<u32>,
    /// The gradient of the outputs that are predicted from, and of all outputs.
    pub(super) d_outputs: Aligned,
    d_all: Aligned,
}

impl Positions {
    pub(super) fn new(width: usize, rates: DropoutRates) -> Self {
        Self { width, kind: rates.kind, rate: rates.output }
    }

    /// The bytes of a tape for a segment of so many steps and rows.
    pub(super) fn bytes(&self, steps: usize, batch: usize) -> usize {
        // Where outputs are dropped they are copied, with a mask; the gradient is then made twice.
        let copies = if self.rate > 0.0 { 4 } else { 1 };
        bytes_of(&[[steps, batch, self.width.saturating_mul(copies)]])
    }

    /// Gathers the outputs `[T, B, O]` of the positions that have a target; if all have one and nothing is dropped, they stay
    /// where they lie.
    pub(super) fn forward(&self, outputs: &[f32], batch: &Batch, masks: Option<Masks>, tape: &mut PositionsTape) {
        let masks = masks.filter(|_| self.rate > 0.0);
        tape.mask.clear();
        tape.targets.clear();
        tape.is_whole = masks.is_none() && !batch.targets.contains(&NO_TARGET);
        if tape.is_whole {
            tape.targets.extend_from_slice(&batch.targets);
            return;
        }
        tape.rows.clear();
        for (row, &target) in batch.targets.iter().enumerate() {
            if target != NO_TARGET {
                tape.rows.push(row as u32);
                tape.targets.push(target);
            }
        }
        gather(outputs, &tape.rows, self.width, &mut tape.outputs);
        if let Some(masks) = masks {
            let len = match self.kind {
                DropoutKind::Standard => tape.outputs.len(),
                DropoutKind::Locked => batch.batch * self.width,
            };
            masks.fill(OUTPUT, self.rate, &mut tape.mask, len);
            self.drop(batch.batch, &tape.rows, &tape.mask, &mut tape.outputs);
        }
    }

    /// The way back: from `tape.d_outputs` to the gradient of all outputs `[T, B, O]`.
    pub(super) fn backward<'a>(&self, batch: &Batch, tape: &'a mut PositionsTape) -> &'a mut [f32] {
        let PositionsTape { is_whole, rows, mask, d_outputs, d_all, .. } = tape;
        self.drop(batch.batch, rows, mask, d_outputs);
        if *is_whole {
            return d_outputs;
        }
        d_all.resize(batch.tokens.len() * self.width);
        d_all.fill(0.0);
        for (&row, source) in rows.iter().zip(d_outputs.chunks_exact(self.width)) {
            d_all[row as usize * self.width..][..self.width].copy_from_slice(source);
        }
        d_all
    }

    /// Multiplies the outputs of the predicted `rows`, or their gradient, by the mask if one was drawn: `[rows, O]`, or
    /// `[B, O]`.
    fn drop(&self, batch: usize, rows: &[u32], mask: &[f32], values: &mut [f32]) {
        match self.kind {
            _ if mask.is_empty() => {}
            DropoutKind::Standard => multiply(values, mask),
            DropoutKind::Locked => {
                for (values, &row) in values.chunks_exact_mut(self.width).zip(rows) {
                    let mask = &mask[row as usize % batch * self.width..][..self.width];
                    values.iter_mut().zip(mask).for_each(|(value, factor)| *value *= factor);
                }
            }
        }
    }
}

impl PositionsTape {
    /// The outputs that are predicted from: `all` where they lie, or those that were gathered.
    pub(in crate::model) fn outputs<'a>(&'a self, all: &'a [f32]) -> &'a [f32] {
        if self.is_whole { all } else { &self.outputs }
    }

    /// The same, beside the targets, to leave their gradient.
    pub(super) fn parts<'a>(&'a mut self, all: &'a [f32]) -> (&'a [f32], &'a [u32], &'a mut Aligned) {
        let Self { is_whole, outputs, targets, d_outputs, .. } = self;
        (if *is_whole { all } else { outputs }, targets, d_outputs)
    }
}
