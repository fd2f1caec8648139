//! A recurrence over a segment: its sizes, the order of its steps, its masked rows, the cuts of its gradient; and what reaches
//! it, weights and gradients.

use super::cell::Cell;

/// The recurrence of one direction of one layer over a segment.
#[derive(Clone, Copy, Debug)]
pub struct Recurrence<'a> {
    /// Which cell.
    pub cell: Cell<'a>,
    /// R, the size of the recurrent state: P with a projection, else H.
    pub recurrent: usize,
    /// Whether the steps run from the last to the first.
    pub reverse: bool,
    /// The number of steps after which the gradient through the states is cut.
    pub horizon: Option<usize>,
    /// T, the steps.
    pub steps: usize,
    /// B, the rows.
    pub batch: usize,
    /// The length of each row; `None` when all have T steps.
    pub lengths: Option<&'a [usize]>,
}

impl<'a> Recurrence<'a> {
    /// T·B.
    pub(super) fn rows(&self) -> usize {
        self.steps * self.batch
    }

    /// The n-th step to run, and the slots of the states before it and after it.
    pub(super) fn step(&self, n: usize) -> (usize, usize, usize) {
        let t = if self.reverse { self.steps - 1 - n } else { n };
        if self.reverse { (t, t + 1, t) } else { (t, t, t + 1) }
    }

    /// The slots of the initial and the final state among the T + 1.
    pub(super) fn end_slots(&self) -> (usize, usize) {
        if self.reverse { (self.steps, 0) } else { (0, self.steps) }
    }

    /// The rows that are masked at step `t`.
    pub(super) fn masked_at(&self, t: usize) -> MaskedRows<'a> {
        MaskedRows { lengths: self.lengths, t }
    }

    /// Whether `row` is masked at step `t`.
    pub(super) fn masked(&self, t: usize, row: usize) -> bool {
        self.masked_at(t).contains(row)
    }

    /// Whether the gradient is cut between the n-th step and the one before it.
    pub(super) fn cut(&self, n: usize) -> bool {
        n > 0 && self.horizon.is_some_and(|horizon| n.is_multiple_of(horizon))
    }
}

/// The weights of a recurrence.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentWeights<'a> {
    /// `[K·H, R]`.
    pub weight_hh: &'a [f32],
    /// `[P, H]`, if the hidden state is projected.
    pub weight_hr: Option<&'a [f32]>,
}

/// The gradients that reach a recurrence.
#[derive(Debug)]
pub struct Reaching<'a> {
    /// `[T, B, R]`: of its hidden states, from above.
    pub d_hidden: &'a [f32],
    /// `[T, B, H]`: of the activated output gate, if it is read out.
    pub d_gate: Option<&'a [f32]>,
    /// `[B, R]` and `[B, H]`: in the gradient of the final state, out that of the initial.
    pub dh: &'a mut [f32],
    /// See `dh`.
    pub dc: &'a mut [f32],
}

impl RecurrentWeights<'_> {
    /// Asserts the shapes.
    pub(super) fn check(&self, recurrence: &Recurrence) {
        let &Recurrence { cell, recurrent, .. } = recurrence;
        assert_eq!(self.weight_hh.len(), cell.width() * recurrent, "the recurrent weights are [K·H, R]");
        let projected = self.weight_hr.map_or(cell.hidden, |weight_hr| weight_hr.len() / cell.hidden.max(1));
        assert_eq!(projected, recurrent, "the recurrent state is as large as the projection, or the cell");
    }
}

/// The rows that are past their length at step `t`: they compute nothing and keep their states.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaskedRows<'a> {
    /// The length of each row; `None` when no row is masked.
    pub(super) lengths: Option<&'a [usize]>,
    pub(super) t: usize,
}

impl MaskedRows<'_> {
    #[inline(always)]
    pub(super) fn contains(&self, row: usize) -> bool {
        self.lengths.is_some_and(|lengths| self.t >= lengths[row])
    }
}
