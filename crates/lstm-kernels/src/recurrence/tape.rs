//! The arrays of a segment, whichever cell runs it: what the pass forward leaves for the way back. They are reused from
//! segment to segment.

use super::segment::{Recurrence, StepRows};
use crate::memory::Aligned;

/// The arrays of a recurrence over a segment.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    /// `[T, B, K·H]`: the input part of the gates' pre-activations, with the biases unless the cell is normalised; after the
    /// pass forward the activated gates; after the way back the gradients of the input part. A mogrified cell makes that part itself.
    pub gates: Aligned,
    /// `[T, B, I]`, of a mogrified cell: the input; after the way back its gradient.
    pub input: Aligned,
    /// `[K·H]`: the sum of both biases; after the way back its gradient.
    pub bias: Aligned,
    /// `[T, B, H]` and `[T, B, R]`: the masks of zoneout for the cell and the hidden states, one where a unit keeps its
    /// state and zero elsewhere; empty for the expectation.
    pub zoneout_masks: [Vec<f32>; 2],
    /// `[T + 1, B, R]`: the hidden states with the initial one in front (behind, in the reverse direction).
    pub(super) h: Aligned,
    /// `[T + 1, B, S]`: the cell states, likewise.
    pub(super) c: Aligned,
    /// `[T, B, H]`: tanh of the cell states; of an sLSTM the normalised cell states as they are.
    pub(super) tanh_c: Aligned,
    /// `[T, B, H]`: the hidden states before projection; empty without one.
    pub(super) raw: Aligned,
    /// `[B, H]` or `[T, B, H]`, as the loop needs it: the gradient of those.
    pub(super) d_raw: Aligned,
    /// `[T, B, R]`: the gradient of the projected ones; empty without a projection.
    pub(super) d_projected: Aligned,
    /// `[N, R]`: the hidden states before each step of a packed segment, which lie in several places.
    h_before: Aligned,
    /// The share of the T + 1 slots of states that is before or after the T steps: T·B or N, and B rows.
    rows: usize,
    batch: usize,
    reverse: bool,
    is_exponential: bool,
}

impl Sequence {
    /// Sizes the arrays of the pass forward for a segment.
    pub fn resize(&mut self, recurrence: &Recurrence, projects: bool) {
        let &Recurrence { cell, recurrent, reverse, batch, .. } = recurrence;
        recurrence.check_packed();
        let rows = recurrence.rows();
        (self.rows, self.batch, self.reverse) = (rows, batch, reverse);
        self.h_before.resize(0);
        self.gates.resize(rows * cell.width());
        self.input.resize(rows * cell.mogrifier.map_or(0, |mogrifier| mogrifier.input));
        self.bias.resize(cell.width());
        self.h.resize((rows + batch) * recurrent);
        self.c.resize((rows + batch) * cell.state());
        self.is_exponential = cell.exponential;
        self.tanh_c.resize(rows * cell.hidden);
        self.raw.resize(if projects { rows * cell.hidden } else { 0 });
    }

    /// The hidden states after each step: `[T, B, R]`.
    pub fn hidden(&self) -> &[f32] {
        self.after(&self.h)
    }

    /// The hidden states before each step: `[T, B, R]`; of a packed segment after [`Self::gather_before`].
    pub fn hidden_before(&self) -> &[f32] {
        if self.h_before.is_empty() { self.before(&self.h) } else { &self.h_before }
    }

    /// Brings the hidden states before each step of a packed segment together.
    pub fn gather_before(&mut self, recurrence: &Recurrence) {
        if recurrence.packed.is_none() {
            return;
        }
        let width = recurrence.recurrent;
        self.h_before.resize(self.rows * width);
        for t in 0..recurrence.steps {
            let first = recurrence.first(t);
            for StepRows { rows, before } in recurrence.before(t, 0..recurrence.count(t)) {
                let from = (before + rows.start) * width..(before + rows.end) * width;
                self.h_before[(first + rows.start) * width..(first + rows.end) * width].copy_from_slice(&self.h[from]);
            }
        }
    }

    /// The cell states after each step: `[T, B, H]`.
    pub fn cell(&self) -> &[f32] {
        if self.is_exponential { &self.tanh_c } else { self.after(&self.c) }
    }

    /// The hidden states before projection: `[T, B, H]`; empty without one.
    pub fn raw(&self) -> &[f32] {
        &self.raw
    }

    /// After the way back, the gradients of the projected hidden states: `[T, B, R]`; empty without a projection.
    pub fn d_projected(&self) -> &[f32] {
        &self.d_projected
    }

    /// The T slots that steps wrote, of T + 1.
    pub(super) fn after<'a>(&self, slots: &'a [f32]) -> &'a [f32] {
        let slot = self.slot(slots);
        if self.reverse { &slots[..slots.len() - slot] } else { &slots[slot..] }
    }

    /// The T slots that steps started from, of T + 1.
    pub(super) fn before<'a>(&self, slots: &'a [f32]) -> &'a [f32] {
        let slot = self.slot(slots);
        if self.reverse { &slots[slot..] } else { &slots[..slots.len() - slot] }
    }

    /// The values of one slot, `[B, ·]`.
    fn slot(&self, slots: &[f32]) -> usize {
        slots.len() / (self.rows + self.batch).max(1) * self.batch
    }
}

/// The `index`-th `size` values.
pub(super) fn part(values: &[f32], size: usize, index: usize) -> &[f32] {
    &values[index * size..][..size]
}

/// The same, to write.
pub(super) fn part_mut(values: &mut [f32], size: usize, index: usize) -> &mut [f32] {
    &mut values[index * size..][..size]
}
