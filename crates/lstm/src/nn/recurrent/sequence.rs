//! What the loops of all cells run over: the arrays of one direction over a segment, and its sizes.

use lstm_kernels::{Aligned, RecurrentWeights};

use crate::nn::segment::Segment;

/// The sizes and the course of one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// K, the gates with parameters.
    pub(super) gates: usize,
    /// I.
    pub(super) input: usize,
    /// H.
    pub(super) hidden: usize,
    /// R.
    pub(super) recurrent: usize,
    pub(super) reverse: bool,
    pub(super) horizon: Option<usize>,
}

/// What the loops of all cells read and write.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    /// `[T, B, K·H]`: activated gates; after the backward pass the gradients of their pre-activations, of a normalised cell
    /// those of W_ih x.
    pub(super) gates: Aligned,
    /// `[T + 1, B, R]`: the hidden states with the initial one in front (behind, in the reverse direction).
    pub(super) h: Aligned,
    /// `[T + 1, B, H]`: the cell states, likewise.
    pub(super) c: Aligned,
    /// `[T, B, H]`: tanh of the cell states.
    pub(super) tanh_c: Aligned,
    /// `[T, B, H]`: the hidden states before projection; empty without one.
    pub(super) raw: Aligned,
    /// `[B, H]` or `[T, B, H]`, as the loop needs it: the gradient of those.
    pub(super) raw_gradient: Aligned,
    /// `[T, B, R]`: that of the projected ones; empty without a projection.
    pub(super) d_projected: Aligned,
    /// `[K·H]`: the sum of both biases; in the backward pass its gradient.
    pub(super) bias: Aligned,
}

/// A loop over a segment: what it runs with.
#[derive(Clone, Copy)]
pub(super) struct Loop<'a> {
    pub(super) segment: Segment<'a>,
    pub(super) sizes: Sizes,
    pub(super) weights: RecurrentWeights<'a>,
}

/// The gradients that reach one direction of a layer.
pub(crate) struct Reaching<'a> {
    /// `[T, B, R]`: of its hidden states, from above.
    pub(crate) d_hidden: &'a [f32],
    /// `[T, B, H]`: of the activated output gate, if it is read out.
    pub(crate) d_gate: Option<&'a [f32]>,
    /// `[B, R]` and `[B, H]`: in the gradient of the final state, out that of the initial.
    pub(crate) dh: &'a mut [f32],
    /// See `dh`.
    pub(crate) dc: &'a mut [f32],
}

impl Sizes {
    /// K·H, the width of the gates.
    pub(super) fn width(self) -> usize {
        self.gates.saturating_mul(self.hidden)
    }

    /// The slots of the initial and the final state among the T + 1.
    pub(super) fn end_slots(self, steps: usize) -> (usize, usize) {
        if self.reverse { (steps, 0) } else { (0, steps) }
    }

    /// The n-th step to run, and the slots of the states before it and after it.
    pub(super) fn step(self, steps: usize, n: usize) -> (usize, usize, usize) {
        let t = if self.reverse { steps - 1 - n } else { n };
        if self.reverse { (t, t + 1, t) } else { (t, t, t + 1) }
    }

    /// Whether the gradient is cut between the n-th step and the one before it.
    pub(super) fn cut(self, n: usize) -> bool {
        n > 0 && self.horizon.is_some_and(|horizon| n.is_multiple_of(horizon))
    }
}

/// The T slots that steps wrote, of T + 1.
pub(super) fn after(slots: &[f32], steps: usize, reverse: bool) -> &[f32] {
    let slot = slots.len() / (steps + 1);
    if reverse { &slots[..slots.len() - slot] } else { &slots[slot..] }
}

/// The T slots that steps started from, of T + 1.
pub(super) fn before(slots: &[f32], steps: usize, reverse: bool) -> &[f32] {
    after(slots, steps, !reverse)
}
