//! A segment: its shape, the order of its steps, its masked rows and its cuts.

use super::packed::PackedRecurrence;

/// One direction of one layer's recurrence over a segment.
#[derive(Clone, Copy, Debug)]
pub struct Recurrence<'a> {
    /// T, the steps.
    pub steps: usize,
    /// B, the rows.
    pub batch: usize,
    /// H, the hidden size.
    pub hidden: usize,
    /// R, the size of the recurrent state: P with a projection, else H.
    pub recurrent: usize,
    /// Whether the steps run from the last to the first.
    pub reverse: bool,
    /// The length of each row; `None` when all have T steps.
    pub lengths: Option<&'a [usize]>,
    /// The weights, packed for the pass at hand.
    pub packed: &'a PackedRecurrence,
    /// The number of steps after which the gradient through the states is cut.
    pub horizon: Option<usize>,
}

impl Recurrence<'_> {
    /// The n-th step to run, and the slots of the states it reads and writes.
    pub(super) fn step(&self, n: usize) -> (usize, usize, usize) {
        let t = if self.reverse { self.steps - 1 - n } else { n };
        if self.reverse { (t, t + 1, t) } else { (t, t, t + 1) }
    }

    pub(super) fn masked(&self, t: usize, row: usize) -> bool {
        self.lengths.is_some_and(|lengths| t >= lengths[row])
    }

    /// Whether the gradient is cut between the n-th step and the one before it.
    pub(super) fn cut(&self, n: usize) -> bool {
        n > 0 && self.horizon.is_some_and(|horizon| n.is_multiple_of(horizon))
    }
}
