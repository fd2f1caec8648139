//! A recurrence over a segment: its sizes, the order of its steps, its masked rows, the cuts of its gradient; and what reaches
//! it, weights and gradients.

use std::ops::Range;

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
    /// Of a packed segment, whose rows are sorted by length, longest first: where each step's rows begin, and where the last's
    /// end, T + 1 numbers. Step t has the rows that are longer than t and no others, so an array `[T, B, ·]` is `[N, ·]`.
    pub packed: Option<&'a [usize]>,
}

/// Rows of a step whose states before it lie one after the other.
pub(super) struct StepRows {
    pub(super) rows: Range<usize>,
    /// Where row 0 would lie among the states before the step.
    pub(super) before: usize,
}

impl<'a> Recurrence<'a> {
    /// T·B, or N of a packed segment.
    pub(super) fn rows(&self) -> usize {
        self.packed.and_then(<[usize]>::last).copied().unwrap_or(self.steps * self.batch)
    }

    /// The n-th step to run, and the slots of the states before it and after it.
    pub(super) fn step(&self, n: usize) -> (usize, usize, usize) {
        let t = if self.reverse { self.steps - 1 - n } else { n };
        if self.reverse { (t, t + 1, t) } else { (t, t, t + 1) }
    }

    /// Where the rows of step `t` begin in an array `[T, B, ·]`.
    pub(super) fn first(&self, t: usize) -> usize {
        self.packed.map_or(t * self.batch, |starts| starts[t])
    }

    /// The rows of step `t`.
    pub(super) fn count(&self, t: usize) -> usize {
        match self.packed {
            Some(starts) if t < self.steps => starts[t + 1] - starts[t],
            Some(_) => 0,
            None => self.batch,
        }
    }

    /// Where the states after step `t` begin among those of all steps and the initial ones.
    pub(super) fn after(&self, t: usize) -> usize {
        if self.reverse { self.first(t) } else { self.batch + self.first(t) }
    }

    /// Where the initial states begin among those.
    pub(super) fn initial(&self) -> usize {
        if self.reverse { self.rows() } else { 0 }
    }

    /// Some `rows` of step `t` by where their states before it lie: those that begin at `t` in the reverse direction of a packed
    /// segment lie apart from those that have run.
    pub(super) fn before(&self, t: usize, rows: Range<usize>) -> [StepRows; 2] {
        if !self.reverse {
            let before = if t == 0 { 0 } else { self.after(t - 1) };
            return [StepRows { rows: rows.clone(), before }, StepRows { rows: rows.end..rows.end, before }];
        }
        let running = if t + 1 < self.steps { self.count(t + 1).clamp(rows.start, rows.end) } else { rows.start };
        let after = if t + 1 < self.steps { self.after(t + 1) } else { 0 };
        [
            StepRows { rows: rows.start..running, before: after },
            StepRows { rows: running..rows.end, before: self.initial() },
        ]
    }

    /// The step at which each row's states are final, row by row.
    pub(super) fn last_steps(&self) -> impl Iterator<Item = usize> {
        let mut last = self.steps.max(1) - 1;
        (0..self.batch).map(move |row| {
            while !self.reverse && last > 0 && self.count(last) <= row {
                last -= 1;
            }
            if self.reverse { 0 } else { last }
        })
    }

    /// Asserts that the steps of a packed segment have ever fewer rows, the first all of them.
    pub(super) fn check_packed(&self) {
        let Some(starts) = self.packed else { return };
        assert!(starts.len() == self.steps + 1 && starts[0] == 0, "where each of T steps begins, and the last ends");
        assert!(starts.is_sorted(), "every step begins after the one before");
        assert!(self.steps == 0 || self.count(0) == self.batch, "the first step has every row");
        assert!(
            (1..self.steps).all(|t| self.count(t) <= self.count(t - 1)),
            "rows are sorted by length, longest first"
        );
        assert!(self.lengths.is_none(), "a packed segment has no masked rows");
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
    /// `[K·H, I]`: read of a mogrified cell alone, whose input products are made step by step.
    pub weight_ih: &'a [f32],
}

/// The gradients that reach a recurrence.
#[derive(Debug)]
pub struct Reaching<'a> {
    /// `[T, B, R]`: of its hidden states, from above.
    pub d_hidden: &'a [f32],
    /// `[T, B, H]`: of the activated output gate, if it is read out.
    pub d_gate: Option<&'a [f32]>,
    /// `[B, R]` and `[B, S]`: in the gradient of the final state, out that of the initial.
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
        if let Some(mogrifier) = cell.mogrifier {
            assert_eq!(self.weight_ih.len(), cell.width() * mogrifier.input, "the input weights are [K·H, I]");
        }
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
