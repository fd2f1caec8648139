//! One step forward of cells that differ from the plain one: peepholes, coupled gates, a normalised cell, an sLSTM's. The products are made
//! before; rows are computed one by one, each in a pass of vectors over its units.
//!
//! With K gates the arrays of a step are gates `[B, K·H]` and states `[B, S]`. The equations are those of
//! `lstm::cell::variant`.

use crate::ops::activation::{exp_of_minus, sigmoid, tanh};
use crate::ops::normalise::normalise_row;
use crate::recurrence::cell::{Cell, CellNorm};
use crate::recurrence::segment::MaskedRows;
use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team::chunks::for_each_share;
use crate::team::shared::{Shared, zero};

/// The values that normalisation leaves of one step.
#[derive(Debug)]
pub(super) struct NormTape<'a> {
    /// `[B, K·H]`: in W_hh h, out normalised.
    pub(super) sums: &'a mut [f32],
    /// `[B]`.
    pub(super) sum_scales: &'a mut [f32],
    /// `[B, H]`: the cell state, normalised.
    pub(super) cells: &'a mut [f32],
    /// `[B]`.
    pub(super) cell_scales: &'a mut [f32],
}

/// The arrays of one step forward.
#[derive(Debug)]
pub(super) struct VariantForward<'a> {
    /// `[B, K·H]`: in the pre-activations (of a normalised cell those from the input, with all biases), out the activated
    /// gates.
    pub(super) gates: &'a mut [f32],
    /// `[B, S]`: the cell state before.
    pub(super) c_before: &'a [f32],
    /// `[B, S]`: receives the new one.
    pub(super) c: &'a mut [f32],
    /// `[B, H]`: receives tanh of the new one, normalised if the cell is; of an sLSTM what it is divided by its normaliser.
    pub(super) tanh_c: &'a mut [f32],
    /// `[B, H]`: receives what o lets through of that.
    pub(super) h: &'a mut [f32],
    /// Of a normalised cell.
    pub(super) norm: Option<NormTape<'a>>,
}

impl Cell<'_> {
    /// Computes the gates and the new states of every row.
    ///
    /// # Panics
    /// When the shapes do not fit each other.
    pub(super) fn step_forward(&self, masked: MaskedRows, step: VariantForward) {
        let VariantForward { gates, c_before, c, tanh_c, h, norm } = step;
        let (hidden, state, width) = (self.hidden, self.state(), self.width());
        let rows = h.len() / hidden;
        assert_eq!(gates.len(), rows * width, "gates are [B, K·H]");
        assert_eq!([c_before.len(), c.len()], [rows * state; 2], "cell states are [B, S]");
        assert_eq!([tanh_c.len(), h.len()], [rows * hidden; 2], "hidden states are [B, H]");
        assert_eq!(self.norm.is_some(), norm.is_some(), "a tape for a normalised cell");
        let norm = norm.map(|norm| {
            assert_eq!([norm.sums.len(), norm.cells.len()], [rows * width, rows * hidden], "normalised rows");
            assert_eq!([norm.sum_scales.len(), norm.cell_scales.len()], [rows; 2], "a scale for every row");
            [norm.sums, norm.sum_scales, norm.cells, norm.cell_scales].map(Shared::new)
        });
        let [gates, c, tanh_c, h] = [gates, c, tanh_c, h].map(Shared::new);
        for_each_share(rows, width, |rows| {
            for row in rows {
                // SAFETY: rows inside the arrays, as was checked, each of one share.
                unsafe {
                    let pointers = CellRow {
                        gates: gates.at(row * width),
                        c_before: c_before[row * state..].as_ptr(),
                        c: c.at(row * state),
                        tanh_c: tanh_c.at(row * hidden),
                        h: h.at(row * hidden),
                        norm: norm.map(|[sums, sum_scales, cells, cell_scales]| NormRow {
                            sums: sums.at(row * width),
                            sum_scale: sum_scales.at(row),
                            cells: cells.at(row * hidden),
                            cell_scale: cell_scales.at(row),
                        }),
                    };
                    if masked.contains(row) {
                        std::ptr::copy_nonoverlapping(pointers.c_before, pointers.c, state);
                        match self.exponential {
                            true => std::ptr::copy_nonoverlapping(pointers.c_before, pointers.tanh_c, hidden),
                            false => zero(pointers.tanh_c, hidden),
                        }
                        zero(pointers.h, hidden);
                        zero(pointers.gates, width);
                        if let Some(norm) = pointers.norm {
                            zero(norm.sums, width);
                            zero(norm.cells, hidden);
                            (*norm.sum_scale, *norm.cell_scale) = (0.0, 0.0);
                        }
                    } else {
                        dispatch(Forward { cell: self, row: pointers });
                    }
                }
            }
        });
    }
}

/// Where one row of a step lies.
#[derive(Clone, Copy)]
pub(crate) struct CellRow {
    pub(crate) gates: *mut f32,
    pub(crate) c_before: *const f32,
    pub(crate) c: *mut f32,
    pub(crate) tanh_c: *mut f32,
    pub(crate) h: *mut f32,
    pub(crate) norm: Option<NormRow>,
}

/// The row of a [`NormTape`].
#[derive(Clone, Copy)]
pub(crate) struct NormRow {
    pub(crate) sums: *mut f32,
    pub(crate) sum_scale: *mut f32,
    pub(crate) cells: *mut f32,
    pub(crate) cell_scale: *mut f32,
}

struct Forward<'a> {
    cell: &'a Cell<'a>,
    row: CellRow,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: as whoever made it promised.
        unsafe { cell_row(simd, self.cell, self.row) };
    }
}

/// One row forward; the new cell state may replace the one before.
///
/// # Safety
/// The pointers lead to rows of the cell's sizes, a [`NormRow`] is there if the cell is normalised.
#[inline(always)]
pub(crate) unsafe fn cell_row<S: Simd>(simd: S, cell: &Cell, row: CellRow) {
    let Cell { hidden, coupled, peepholes, norm, .. } = *cell;
    if cell.exponential {
        // SAFETY: as the caller promises.
        return unsafe { exponential_row(simd, hidden, row) };
    }
    let norm = norm.zip(row.norm);
    let one = simd.splat(1.0);
    // The places of f, g and o among the gates, and of f and o among the peepholes.
    let f_at = if coupled { 0 } else { hidden };
    let (g_at, o_at) = (f_at + hidden, f_at + 2 * hidden);
    let o_peephole = f_at + hidden;
    // SAFETY: as the caller promises, for every access.
    unsafe {
        if let Some((_, norm)) = norm {
            *norm.sum_scale = normalise_row(simd, norm.sums, norm.sums, o_at + hidden);
        }
        for_vectors!(S, hidden, |unit, lanes| {
            let pre = |gate: usize| {
                let at = gate + unit;
                let pre = lanes.load(simd, row.gates.add(at));
                match norm {
                    None => pre,
                    Some((CellNorm { gain_hh, .. }, norm)) => {
                        let gain = lanes.load(simd, gain_hh.as_ptr().add(at));
                        simd.mul_add(gain, lanes.load(simd, norm.sums.add(at)), pre)
                    }
                }
            };
            let see = |pre: S::V, peephole: usize, c: S::V| match peepholes {
                None => pre,
                Some(weights) => simd.mul_add(lanes.load(simd, weights.as_ptr().add(peephole + unit)), c, pre),
            };
            let c_before = lanes.load(simd, row.c_before.add(unit));
            let f = sigmoid(simd, see(pre(f_at), f_at, c_before));
            let i = if coupled { simd.sub(one, f) } else { sigmoid(simd, see(pre(0), 0, c_before)) };
            let g = tanh(simd, pre(g_at));
            let c = simd.mul_add(f, c_before, simd.mul(i, g));
            let o = sigmoid(simd, see(pre(o_at), o_peephole, c));
            if !coupled {
                lanes.store(simd, row.gates.add(unit), i);
            }
            for (at, gate) in [(f_at, f), (g_at, g), (o_at, o)] {
                lanes.store(simd, row.gates.add(at + unit), gate);
            }
            lanes.store(simd, row.c.add(unit), c);
            if norm.is_none() {
                let tanh_c = tanh(simd, c);
                lanes.store(simd, row.tanh_c.add(unit), tanh_c);
                lanes.store(simd, row.h.add(unit), simd.mul(o, tanh_c));
            }
        });
        if let Some((CellNorm { gain_cell, bias_cell, .. }, norm)) = norm {
            *norm.cell_scale = normalise_row(simd, row.c, norm.cells, hidden);
            for_vectors!(S, hidden, |unit, lanes| {
                let gain = lanes.load(simd, gain_cell.as_ptr().add(unit));
                let bias = lanes.load(simd, bias_cell.as_ptr().add(unit));
                let tanh_c = tanh(simd, simd.mul_add(gain, lanes.load(simd, norm.cells.add(unit)), bias));
                lanes.store(simd, row.tanh_c.add(unit), tanh_c);
                let o = lanes.load(simd, row.gates.add(o_at + unit));
                lanes.store(simd, row.h.add(unit), simd.mul(o, tanh_c));
            });
        }
    }
}

/// The largest sum of an exponential gate: its exponential, and the square of that, are still numbers.
const MOST: f32 = 40.0;

/// The least that a normaliser is taken for, where all of its parts are too small for numbers.
const LEAST: f32 = 1e-30;

/// One row of an sLSTM forward: cell state and normaliser lie one after the other, and the share α of what is new takes the place of i.
///
/// # Safety
/// As of [`cell_row`].
#[inline(always)]
unsafe fn exponential_row<S: Simd>(simd: S, hidden: usize, row: CellRow) {
    // SAFETY: as the caller promises, for every access.
    unsafe {
        for_vectors!(S, hidden, |unit, lanes| {
            let pre = |gate: usize| lanes.load(simd, row.gates.add(gate * hidden + unit));
            // With the bounds first, NaN stays NaN.
            let i = exp_of_minus(simd, simd.sub(simd.splat(0.0), simd.min(simd.splat(MOST), pre(0))));
            let (f, z, o) = (sigmoid(simd, pre(1)), tanh(simd, pre(2)), sigmoid(simd, pre(3)));
            let c_before = lanes.load(simd, row.c_before.add(unit));
            let n_before = lanes.load(simd, row.c_before.add(hidden + unit));
            let n = simd.max(simd.splat(LEAST), simd.mul_add(f, n_before, i));
            let share = simd.div(i, n);
            let c = simd.mul_add(share, simd.sub(z, c_before), c_before);
            for (at, gate) in [share, f, z, o].into_iter().enumerate() {
                lanes.store(simd, row.gates.add(at * hidden + unit), gate);
            }
            lanes.store(simd, row.c.add(unit), c);
            lanes.store(simd, row.c.add(hidden + unit), n);
            lanes.store(simd, row.tanh_c.add(unit), c);
            lanes.store(simd, row.h.add(unit), simd.mul(o, c));
        });
    }
}
