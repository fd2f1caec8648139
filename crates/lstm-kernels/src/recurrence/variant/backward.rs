//! One step backward of cells that differ from the plain one: peepholes, coupled gates, a normalised cell, an sLSTM's. The products are made
//! after; rows are computed one by one, each in a pass of vectors over its units.
//!
//! With K gates the arrays of a step are gates `[B, K·H]` and states `[B, S]`. The equations are those of
//! `lstm::cell::variant`.

use super::zoneout::Zoneout;
use crate::ops::normalise::normalise_row_backward;
use crate::recurrence::cell::{Cell, CellNorm};
use crate::recurrence::segment::MaskedRows;
use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team::chunks::for_each_share;
use crate::team::shared::{Shared, zero};

/// The same on the way back, and the gradients that it gives.
#[derive(Debug)]
pub(super) struct NormGradient<'a> {
    /// `[B, K·H]`.
    pub(super) sums: &'a [f32],
    /// `[B]`.
    pub(super) sum_scales: &'a [f32],
    /// `[B, H]`.
    pub(super) cells: &'a [f32],
    /// `[B]`.
    pub(super) cell_scales: &'a [f32],
    /// `[B, K·H]`: receives the gradient of W_hh h.
    pub(super) d_sums: &'a mut [f32],
    /// `[B, H]`: receives that of the normalised cell state, gain and bias applied.
    pub(super) d_cells: &'a mut [f32],
}

/// The arrays of one step backward.
#[derive(Debug)]
pub(super) struct VariantBackward<'a> {
    /// `[B, K·H]`: in the activated gates, out the gradients of their pre-activations.
    pub(super) gates: &'a mut [f32],
    /// `[B, S]`: the cell states before and after.
    pub(super) c_before: &'a [f32],
    pub(super) c: &'a [f32],
    /// `[B, H]`: as the forward step left it.
    pub(super) tanh_c: &'a [f32],
    /// `[B, H]`: the gradient of o ∘ tanh.
    pub(super) d_h: &'a [f32],
    /// `[B, H]`: what a reader of the output gate adds to its gradient.
    pub(super) d_o: Option<&'a [f32]>,
    /// `[B, S]`: in the gradient of the cell state after, out of that before; zero if it is `cut`.
    pub(super) dc: &'a mut [f32],
    /// The share of the cell state that stayed.
    pub(super) zoneout: Zoneout<'a>,
    /// Whether no gradient goes on to the step before.
    pub(super) cut: bool,
    /// Of a normalised cell.
    pub(super) norm: Option<NormGradient<'a>>,
}

impl Cell<'_> {
    /// The gradients of one step.
    ///
    /// # Panics
    /// When the shapes do not fit each other.
    pub(super) fn step_backward(&self, masked: MaskedRows, step: VariantBackward) {
        let VariantBackward { gates, c_before, c, tanh_c, d_h, d_o, dc, zoneout, cut, norm } = step;
        let (hidden, state, width) = (self.hidden, self.state(), self.width());
        let rows = d_h.len() / hidden;
        assert_eq!(gates.len(), rows * width, "gates are [B, K·H]");
        assert_eq!([c_before.len(), c.len(), dc.len()], [rows * state; 3], "cell states are [B, S]");
        assert_eq!([tanh_c.len(), d_h.len()], [rows * hidden; 2], "hidden states are [B, H]");
        assert!(d_o.is_none_or(|d_o| d_o.len() == rows * hidden), "d_o is [B, H]");
        assert_eq!(self.norm.is_some(), norm.is_some(), "a tape for a normalised cell");
        zoneout.assert_fits(rows * hidden);
        let norm = norm.map(|norm| {
            let NormGradient { sums, sum_scales, cells, cell_scales, d_sums, d_cells } = norm;
            assert_eq!([sums.len(), d_sums.len()], [rows * width; 2], "normalised sums are [B, K·H]");
            assert_eq!([cells.len(), d_cells.len()], [rows * hidden; 2], "normalised cells are [B, H]");
            assert_eq!([sum_scales.len(), cell_scales.len()], [rows; 2], "a scale for every row");
            (sums, sum_scales, cells, cell_scales, Shared::new(d_sums), Shared::new(d_cells))
        });
        let (gates, dc) = (Shared::new(gates), Shared::new(dc));
        for_each_share(rows, width, |rows| {
            for row in rows {
                // SAFETY: rows inside the arrays, as was checked, each of one share.
                unsafe {
                    let gates = gates.at(row * width);
                    let norm = norm.map(|(sums, sum_scales, cells, cell_scales, d_sums, d_cells)| NormRowGradient {
                        sums: sums[row * width..].as_ptr(),
                        sum_scale: sum_scales[row],
                        cells: cells[row * hidden..].as_ptr(),
                        cell_scale: cell_scales[row],
                        d_sums: d_sums.at(row * width),
                        d_cells: d_cells.at(row * hidden),
                    });
                    if masked.contains(row) {
                        zero(gates, width);
                        if let Some(norm) = norm {
                            zero(norm.d_sums, width);
                            zero(norm.d_cells, hidden);
                        }
                        continue;
                    }
                    dispatch(Backward {
                        cell: self,
                        gates,
                        c_before: c_before[row * state..].as_ptr(),
                        c: c[row * state..].as_ptr(),
                        tanh_c: tanh_c[row * hidden..].as_ptr(),
                        d_h: d_h[row * hidden..].as_ptr(),
                        d_o: d_o.map(|d_o| d_o[row * hidden..].as_ptr()),
                        dc: dc.at(row * state),
                        zoneout,
                        first: row * hidden,
                        cut,
                        norm,
                    });
                }
            }
        });
    }
}

/// The row of a [`NormGradient`].
#[derive(Clone, Copy)]
struct NormRowGradient {
    sums: *const f32,
    sum_scale: f32,
    cells: *const f32,
    cell_scale: f32,
    d_sums: *mut f32,
    d_cells: *mut f32,
}

/// One row backward.
struct Backward<'a> {
    cell: &'a Cell<'a>,
    gates: *mut f32,
    c_before: *const f32,
    c: *const f32,
    tanh_c: *const f32,
    d_h: *const f32,
    d_o: Option<*const f32>,
    dc: *mut f32,
    zoneout: Zoneout<'a>,
    /// Where the row begins in the mask.
    first: usize,
    cut: bool,
    norm: Option<NormRowGradient>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.cell.exponential {
            // SAFETY: as whoever made it promised.
            return unsafe { self.exponential(simd) };
        }
        let Self { cell, gates, c_before, tanh_c, d_h, d_o, dc, zoneout, first, cut, norm, .. } = self;
        let Cell { hidden, coupled, peepholes, norm: parameters, .. } = *cell;
        let norm = parameters.zip(norm);
        let one = simd.splat(1.0);
        let f_at = if coupled { 0 } else { hidden };
        let (g_at, o_at) = (f_at + hidden, f_at + 2 * hidden);
        let o_peephole = f_at + hidden;
        // y' = y (1 - y) for the logistic function, 1 - y² for tanh.
        let logistic = |y: S::V| simd.neg_mul_add(y, y, y);
        // SAFETY: as whoever made it promised, for every access.
        unsafe {
            if let Some((CellNorm { gain_cell, .. }, norm)) = norm {
                for_vectors!(S, hidden, |unit, lanes| {
                    let tanh_c = lanes.load(simd, tanh_c.add(unit));
                    let o = lanes.load(simd, gates.add(o_at + unit));
                    let d = simd.mul(lanes.load(simd, d_h.add(unit)), o);
                    lanes.store(simd, norm.d_cells.add(unit), simd.mul(d, simd.neg_mul_add(tanh_c, tanh_c, one)));
                });
                // What reaches the cell state through its normalisation, on its way in the place of W_hh h's gradient.
                let (d, gain) = (norm.d_cells.cast_const(), gain_cell.as_ptr());
                normalise_row_backward(simd, d, gain, norm.cells, norm.cell_scale, norm.d_sums, hidden);
            }
            for_vectors!(S, hidden, |unit, lanes| {
                let gate = |at: usize| lanes.load(simd, gates.add(at + unit));
                let peephole = |at: usize| peepholes.map(|weights| lanes.load(simd, weights.as_ptr().add(at + unit)));
                let (f, g, o) = (gate(f_at), gate(g_at), gate(o_at));
                let i = if coupled { simd.sub(one, f) } else { gate(0) };
                let (c_before, tanh_c) = (lanes.load(simd, c_before.add(unit)), lanes.load(simd, tanh_c.add(unit)));
                let d_h = lanes.load(simd, d_h.add(unit));
                let mut d_o_gate = simd.mul(d_h, tanh_c);
                if let Some(d_o) = d_o {
                    d_o_gate = simd.add(d_o_gate, lanes.load(simd, d_o.add(unit)));
                }
                let d_o = simd.mul(d_o_gate, logistic(o));
                let d_after = lanes.load(simd, dc.add(unit));
                let kept = zoneout.load(simd, first + unit, lanes);
                let mut d_cell = simd.mul(simd.sub(one, kept), d_after);
                d_cell = match norm {
                    Some((_, norm)) => simd.add(d_cell, lanes.load(simd, norm.d_sums.add(unit))),
                    None => simd.mul_add(simd.mul(d_h, o), simd.neg_mul_add(tanh_c, tanh_c, one), d_cell),
                };
                if let Some(weight) = peephole(o_peephole) {
                    d_cell = simd.mul_add(weight, d_o, d_cell);
                }
                let through_f = if coupled { simd.sub(c_before, g) } else { c_before };
                let d_f = simd.mul(simd.mul(d_cell, through_f), logistic(f));
                let d_g = simd.mul(simd.mul(d_cell, i), simd.neg_mul_add(g, g, one));
                let mut d_before = simd.mul_add(kept, d_after, simd.mul(d_cell, f));
                if let Some(weight) = peephole(f_at) {
                    d_before = simd.mul_add(weight, d_f, d_before);
                }
                if !coupled {
                    let d_i = simd.mul(simd.mul(d_cell, g), logistic(i));
                    if let Some(weight) = peephole(0) {
                        d_before = simd.mul_add(weight, d_i, d_before);
                    }
                    lanes.store(simd, gates.add(unit), d_i);
                }
                for (at, gradient) in [(f_at, d_f), (g_at, d_g), (o_at, d_o)] {
                    lanes.store(simd, gates.add(at + unit), gradient);
                }
                lanes.store(simd, dc.add(unit), if cut { simd.splat(0.0) } else { d_before });
            });
            if let Some((CellNorm { gain_hh, .. }, norm)) = norm {
                let (gain, len) = (gain_hh.as_ptr(), o_at + hidden);
                normalise_row_backward(simd, gates, gain, norm.sums, norm.sum_scale, norm.d_sums, len);
            }
        }
    }
}

impl Backward<'_> {
    /// The same of an sLSTM. What reaches its normaliser n goes on as the gradient of log n, n times that of n.
    ///
    /// # Safety
    /// The pointers lead to rows of the cell's sizes.
    #[inline(always)]
    unsafe fn exponential<S: Simd>(self, simd: S) {
        let Self { cell: Cell { hidden, .. }, gates, c_before, c, tanh_c, d_h, d_o, dc, cut, .. } = self;
        let hidden = *hidden;
        let one = simd.splat(1.0);
        // SAFETY: as the caller promises, for every access.
        unsafe {
            for_vectors!(S, hidden, |unit, lanes| {
                let gate = |at: usize| lanes.load(simd, gates.add(at * hidden + unit));
                let (share, f, z, o) = (gate(0), gate(1), gate(2), gate(3));
                let stays = simd.sub(one, share);
                let d_h = lanes.load(simd, d_h.add(unit));
                let mut d_o_gate = simd.mul(d_h, lanes.load(simd, tanh_c.add(unit)));
                if let Some(d_o) = d_o {
                    d_o_gate = simd.add(d_o_gate, lanes.load(simd, d_o.add(unit)));
                }
                let d_cell = simd.mul_add(d_h, o, lanes.load(simd, dc.add(unit)));
                let n = lanes.load(simd, c.add(hidden + unit));
                let d_share = simd.mul(d_cell, simd.sub(z, lanes.load(simd, c_before.add(unit))));
                let d_log = simd.neg_mul_add(d_share, share, simd.mul(n, lanes.load(simd, dc.add(hidden + unit))));
                let d_gates = [
                    simd.mul(share, simd.add(d_share, d_log)),
                    simd.mul(simd.mul(d_log, stays), simd.sub(one, f)),
                    simd.mul(simd.mul(d_cell, share), simd.neg_mul_add(z, z, one)),
                    simd.mul(d_o_gate, simd.neg_mul_add(o, o, o)),
                ];
                for (at, gradient) in d_gates.into_iter().enumerate() {
                    lanes.store(simd, gates.add(at * hidden + unit), gradient);
                }
                let d_before = [simd.mul(d_cell, stays), simd.div(simd.mul(d_log, f), n)];
                for (at, gradient) in d_before.into_iter().enumerate() {
                    lanes.store(simd, dc.add(at * hidden + unit), if cut { simd.splat(0.0) } else { gradient });
                }
            });
        }
    }
}
