//! Both passes over a segment: the one entry for every cell.

use super::cell::CellParameter;
use super::plain::{self, PackedRecurrence};
use super::segment::{Reaching, Recurrence, RecurrentWeights};
use super::tape::Sequence;
use super::variant::{self, VariantTape};

/// The arrays that a pass forward leaves for the way back, and the scratch of both, reused from segment to segment.
#[derive(Clone, Debug, Default)]
pub struct RecurrenceTape {
    /// The arrays that every cell has.
    pub sequence: Sequence,
    /// The plain cell's recurrent weights, packed for either pass.
    packed: PackedRecurrence,
    packed_backward: PackedRecurrence,
    /// Those of the other cells alone.
    variant: VariantTape,
    /// Whether the weights have been packed for the pass forward.
    is_packed: bool,
}

impl RecurrenceTape {
    /// After the way back, the gradients of the gates' recurrent part W_hh h where they are others than those of the input
    /// part, of a normalised cell: `[T, B, K·H]`.
    pub fn d_recurrent(&self) -> Option<&[f32]> {
        Some(&self.variant.d_sums[..]).filter(|d| !d.is_empty())
    }

    /// What the gates of a mogrified cell read at each step, after either pass: the input `[T, B, I]` and the hidden state `[T, B, R]`.
    pub fn mogrified(&self) -> Option<(&[f32], &[f32])> {
        self.variant.mogrified(&self.sequence)
    }

    /// After the way back, the gradient of a parameter that only some cells have.
    pub fn parameter_gradient(&self, parameter: CellParameter) -> &[f32] {
        self.variant.gradient(parameter)
    }
}

impl Recurrence<'_> {
    /// Runs the segment over the input part of the gates, in a tape of its size. h: `[B, R]`, c: `[B, S]`, in the initial
    /// state, out the final. A masked step copies its row's states and zeroes the rest. `frozen`: the weights are those that
    /// were packed at the tape's first use.
    ///
    /// # Panics
    /// When the shapes do not fit each other.
    pub fn forward(
        &self,
        weights: RecurrentWeights,
        h: &mut [f32],
        c: &mut [f32],
        frozen: bool,
        tape: &mut RecurrenceTape,
    ) {
        self.cell.check(self.recurrent);
        self.check_packed();
        weights.check(self);
        let RecurrenceTape { sequence, packed, variant, is_packed, .. } = tape;
        let (recurrent, state) = (self.recurrent, self.cell.state());
        sequence.h[self.initial() * recurrent..][..h.len()].copy_from_slice(h);
        sequence.c[self.initial() * state..][..c.len()].copy_from_slice(c);
        let pack = !(frozen && *is_packed);
        if self.cell.is_plain() {
            if pack {
                packed.pack_forward(self, weights);
            }
            plain::forward(self, packed, sequence);
        } else {
            assert!(self.packed.is_none(), "only the plain cell runs a packed segment");
            if pack {
                variant.pack_forward(self, weights);
            }
            variant::forward(self, variant, sequence);
        }
        *is_packed = true;
        if self.steps == 0 {
            return;
        }
        for (row, last) in self.last_steps().enumerate() {
            let last = self.after(last) + row;
            h[row * recurrent..][..recurrent].copy_from_slice(&sequence.h[last * recurrent..][..recurrent]);
            c[row * state..][..state].copy_from_slice(&sequence.c[last * state..][..state]);
        }
    }

    /// Runs the segment backward: the tape's gates become the gradients of their input part, its bias that of the biases,
    /// and it has the gradients of all that the cell computes with.
    ///
    /// # Panics
    /// When the shapes do not fit each other.
    pub fn backward(&self, weights: RecurrentWeights, reaching: Reaching, tape: &mut RecurrenceTape) {
        self.cell.check(self.recurrent);
        self.check_packed();
        weights.check(self);
        let RecurrenceTape { sequence, packed_backward, variant, .. } = tape;
        if self.cell.is_plain() {
            packed_backward.pack_backward(self, weights);
            plain::backward(self, packed_backward, reaching, sequence);
        } else {
            variant.pack_backward(self, weights);
            variant::backward(self, reaching, variant, sequence);
        }
    }
}
