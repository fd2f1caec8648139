//! The elementwise part of a step of the cell variants: peepholes, coupled gates, a normalised cell, zoneout. The products
//! are made before; rows are computed one by one, each in a pass of vectors over its units.
//!
//! With K gates, i, f, g, o or, where i = 1 − f, f, g, o, the arrays of a step are gates `[B, K·H]` and states `[B, H]`.
//! The equations are those of `lstm::cell::variant`.

use crate::ops::activation::{sigmoid, tanh};
use crate::ops::normalise::{normalise_row, normalise_row_backward};
use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team::chunks::for_each_share;
use crate::team::shared::{Shared, zero};

/// What of a cell differs from the plain one, zoneout apart, with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct VariantCell<'a> {
    /// H.
    pub hidden: usize,
    /// Whether i = 1 − f: there are three gates then.
    pub coupled: bool,
    /// `[3H]`: the peephole weights of i, f, o; `[2H]` of f, o if the gates are coupled.
    pub peepholes: Option<&'a [f32]>,
    /// The gains and biases of a layer-normalised cell.
    pub norm: Option<CellNorm<'a>>,
}

/// The parameters of a layer-normalised cell that a step needs.
#[derive(Clone, Copy, Debug)]
pub struct CellNorm<'a> {
    /// `[K·H]`: the gain of what comes from the hidden state; its bias is in the gates already.
    pub gain_hh: &'a [f32],
    /// `[H]`: the gain of the cell state.
    pub gain_cell: &'a [f32],
    /// `[H]`: its bias.
    pub bias_cell: &'a [f32],
}

/// What normalisation leaves of one step.
#[derive(Debug)]
pub struct NormTape<'a> {
    /// `[B, K·H]`: in W_hh h, out normalised.
    pub sums: &'a mut [f32],
    /// `[B]`.
    pub sum_scales: &'a mut [f32],
    /// `[B, H]`: the cell state, normalised.
    pub cells: &'a mut [f32],
    /// `[B]`.
    pub cell_scales: &'a mut [f32],
}

/// The same, read on the way back, and what it gives.
#[derive(Debug)]
pub struct NormGradient<'a> {
    /// `[B, K·H]`.
    pub sums: &'a [f32],
    /// `[B]`.
    pub sum_scales: &'a [f32],
    /// `[B, H]`.
    pub cells: &'a [f32],
    /// `[B]`.
    pub cell_scales: &'a [f32],
    /// `[B, K·H]`: receives the gradient of W_hh h.
    pub d_sums: &'a mut [f32],
    /// `[B, H]`: receives that of the normalised cell state, gain and bias applied.
    pub d_cells: &'a mut [f32],
}

/// Which rows have ended before step `t`: they compute nothing and keep their states.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// The length of each row; `None` when none ends.
    pub lengths: Option<&'a [usize]>,
    /// The step.
    pub t: usize,
}

impl Ended<'_> {
    fn holds(&self, row: usize) -> bool {
        self.lengths.is_some_and(|lengths| self.t >= lengths[row])
    }
}

/// How much of a state stays what it was (zoneout, Krueger et al. 2017): of all values the same share, or of each its own.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// The expectation, for evaluation; 0 keeps nothing.
    Rate(f32),
    /// One or zero for each value.
    Mask(&'a [f32]),
}

impl Keep<'_> {
    /// The share of a vector of values from `at` on.
    #[inline(always)]
    unsafe fn load<S: Simd>(self, simd: S, at: usize, lanes: impl Lane) -> S::V {
        match self {
            Keep::Rate(rate) => simd.splat(rate),
            // SAFETY: as the caller promises.
            Keep::Mask(mask) => unsafe { lanes.load(simd, mask.as_ptr().add(at)) },
        }
    }

    fn assert_fits(self, len: usize) {
        if let Keep::Mask(mask) = self {
            assert_eq!(mask.len(), len, "a mask for every value");
        }
    }
}

/// The arrays of one step forward.
#[derive(Debug)]
pub struct VariantForward<'a> {
    /// `[B, K·H]`: in the pre-activations (of a normalised cell those from the input, with all biases), out the activated
    /// gates.
    pub gates: &'a mut [f32],
    /// `[B, H]`: the cell state before.
    pub c_before: &'a [f32],
    /// `[B, H]`: receives the new one.
    pub c: &'a mut [f32],
    /// `[B, H]`: receives tanh of the new one, normalised if the cell is.
    pub tanh_c: &'a mut [f32],
    /// `[B, H]`: receives o ∘ tanh.
    pub shown: &'a mut [f32],
    /// Of a normalised cell.
    pub norm: Option<NormTape<'a>>,
}

/// The arrays of one step backward.
#[derive(Debug)]
pub struct VariantBackward<'a> {
    /// `[B, K·H]`: in the activated gates, out the gradients of their pre-activations.
    pub gates: &'a mut [f32],
    /// `[B, H]`.
    pub c_before: &'a [f32],
    /// `[B, H]`: as the forward step left it.
    pub tanh_c: &'a [f32],
    /// `[B, H]`: the gradient of o ∘ tanh.
    pub d_shown: &'a [f32],
    /// `[B, H]`: what a reader of the output gate adds to its gradient.
    pub d_o: Option<&'a [f32]>,
    /// `[B, H]`: in the gradient of the cell state after, out of that before; zero if it is `cut`.
    pub dc: &'a mut [f32],
    /// What of the cell state stayed.
    pub keep: Keep<'a>,
    /// Whether no gradient goes on to the step before.
    pub cut: bool,
    /// Of a normalised cell.
    pub norm: Option<NormGradient<'a>>,
}

impl VariantCell<'_> {
    /// K, the number of gates.
    pub(crate) fn gates(&self) -> usize {
        if self.coupled { 3 } else { 4 }
    }

    pub(crate) fn check(&self) {
        let width = self.gates() * self.hidden;
        if let Some(peepholes) = self.peepholes {
            assert_eq!(peepholes.len(), width - self.hidden, "a peephole for every gate but g");
        }
        if let Some(norm) = self.norm {
            let lengths = [norm.gain_hh, norm.gain_cell, norm.bias_cell].map(<[f32]>::len);
            assert_eq!(lengths, [width, self.hidden, self.hidden], "gains and biases");
        }
    }

    /// Computes the gates and the new states of every row.
    ///
    /// # Panics
    /// When the shapes do not fit each other.
    pub fn forward(&self, ended: Ended, step: VariantForward) {
        let VariantForward { gates, c_before, c, tanh_c, shown, norm } = step;
        let (hidden, width) = (self.hidden, self.gates() * self.hidden);
        let rows = c.len() / hidden;
        self.check();
        assert_eq!(gates.len(), rows * width, "gates are [B, K·H]");
        assert_eq!([c_before.len(), c.len(), tanh_c.len(), shown.len()], [rows * hidden; 4], "states are [B, H]");
        assert_eq!(self.norm.is_some(), norm.is_some(), "a tape for a normalised cell");
        let norm = norm.map(|norm| {
            assert_eq!([norm.sums.len(), norm.cells.len()], [rows * width, rows * hidden], "normalised rows");
            assert_eq!([norm.sum_scales.len(), norm.cell_scales.len()], [rows; 2], "a scale for every row");
            [norm.sums, norm.sum_scales, norm.cells, norm.cell_scales].map(Shared::new)
        });
        let [gates, c, tanh_c, shown] = [gates, c, tanh_c, shown].map(Shared::new);
        for_each_share(rows, width, |rows| {
            for row in rows {
                // SAFETY: rows inside the arrays, as was checked, each of one share.
                unsafe {
                    let pointers = CellRow {
                        gates: gates.at(row * width),
                        c_before: c_before[row * hidden..].as_ptr(),
                        c: c.at(row * hidden),
                        tanh_c: tanh_c.at(row * hidden),
                        shown: shown.at(row * hidden),
                        norm: norm.map(|[sums, sum_scales, cells, cell_scales]| NormRow {
                            sums: sums.at(row * width),
                            sum_scale: sum_scales.at(row),
                            cells: cells.at(row * hidden),
                            cell_scale: cell_scales.at(row),
                        }),
                    };
                    if ended.holds(row) {
                        std::ptr::copy_nonoverlapping(pointers.c_before, pointers.c, hidden);
                        zero(pointers.tanh_c, hidden);
                        zero(pointers.shown, hidden);
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

    /// The gradients of one step.
    ///
    /// # Panics
    /// When the shapes do not fit each other.
    pub fn backward(&self, ended: Ended, step: VariantBackward) {
        let VariantBackward { gates, c_before, tanh_c, d_shown, d_o, dc, keep, cut, norm } = step;
        let (hidden, width) = (self.hidden, self.gates() * self.hidden);
        let rows = dc.len() / hidden;
        self.check();
        assert_eq!(gates.len(), rows * width, "gates are [B, K·H]");
        assert_eq!([c_before.len(), tanh_c.len(), d_shown.len(), dc.len()], [rows * hidden; 4], "states are [B, H]");
        assert!(d_o.is_none_or(|d_o| d_o.len() == rows * hidden), "d_o is [B, H]");
        assert_eq!(self.norm.is_some(), norm.is_some(), "a tape for a normalised cell");
        keep.assert_fits(rows * hidden);
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
                    if ended.holds(row) {
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
                        c_before: c_before[row * hidden..].as_ptr(),
                        tanh_c: tanh_c[row * hidden..].as_ptr(),
                        d_shown: d_shown[row * hidden..].as_ptr(),
                        d_o: d_o.map(|d_o| d_o[row * hidden..].as_ptr()),
                        dc: dc.at(row * hidden),
                        keep,
                        first: row * hidden,
                        cut,
                        norm,
                    });
                }
            }
        });
    }
}

/// Zoneout of a state: values `[B, N]` = keep ∘ before + (1 − keep) ∘ values; a row that has ended keeps all.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn hold(values: &mut [f32], before: &[f32], batch: usize, keep: Keep, ended: Ended) {
    let width = values.len() / batch.max(1);
    assert_eq!([values.len(), before.len()], [batch * width; 2], "states are [B, N]");
    keep.assert_fits(values.len());
    let values = Shared::new(values);
    for_each_share(batch, width, |rows| {
        for row in rows {
            // SAFETY: rows inside the array, each of one share.
            let at = unsafe { values.at(row * width) };
            let before = &before[row * width..][..width];
            if ended.holds(row) {
                // SAFETY: as above.
                unsafe { std::ptr::copy_nonoverlapping(before.as_ptr(), at, width) };
            } else {
                dispatch(Blend { values: at, before: before.as_ptr(), len: width, keep, first: row * width });
            }
        }
    });
}

/// The way back through [`hold`]: of the whole gradient of a state, what was `carried` to it plus what came from `above`,
/// `d_new` receives the part of the new value, and `carried` keeps that of the value before; none of it if it is `cut`.
/// A row that has ended hands its carried gradient on. All `[B, N]`.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn hold_backward(
    carried: &mut [f32],
    above: &[f32],
    d_new: &mut [f32],
    batch: usize,
    keep: Keep,
    cut: bool,
    ended: Ended,
) {
    let width = carried.len() / batch.max(1);
    assert_eq!([carried.len(), above.len(), d_new.len()], [batch * width; 3], "gradients are [B, N]");
    keep.assert_fits(carried.len());
    let (carried, d_new) = (Shared::new(carried), Shared::new(d_new));
    for_each_share(batch, width, |rows| {
        for row in rows {
            // SAFETY: rows inside the arrays, each of one share.
            unsafe {
                let (first, d_new) = (row * width, d_new.at(row * width));
                if ended.holds(row) {
                    zero(d_new, width);
                } else {
                    let (carried, above) = (carried.at(first), above[first..][..width].as_ptr());
                    dispatch(Unblend { carried, above, d_new, len: width, keep, first, cut });
                }
            }
        }
    });
}

/// Where one row of a step lies.
#[derive(Clone, Copy)]
pub(crate) struct CellRow {
    pub(crate) gates: *mut f32,
    pub(crate) c_before: *const f32,
    pub(crate) c: *mut f32,
    pub(crate) tanh_c: *mut f32,
    pub(crate) shown: *mut f32,
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
    cell: &'a VariantCell<'a>,
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
pub(crate) unsafe fn cell_row<S: Simd>(simd: S, cell: &VariantCell, row: CellRow) {
    let VariantCell { hidden, coupled, peepholes, norm } = *cell;
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
                lanes.store(simd, row.shown.add(unit), simd.mul(o, tanh_c));
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
                lanes.store(simd, row.shown.add(unit), simd.mul(o, tanh_c));
            });
        }
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
    cell: &'a VariantCell<'a>,
    gates: *mut f32,
    c_before: *const f32,
    tanh_c: *const f32,
    d_shown: *const f32,
    d_o: Option<*const f32>,
    dc: *mut f32,
    keep: Keep<'a>,
    /// Where the row begins in the mask.
    first: usize,
    cut: bool,
    norm: Option<NormRowGradient>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { cell, gates, c_before, tanh_c, d_shown, d_o, dc, keep, first, cut, norm } = self;
        let VariantCell { hidden, coupled, peepholes, norm: parameters } = *cell;
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
                    let d = simd.mul(lanes.load(simd, d_shown.add(unit)), o);
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
                let d_shown = lanes.load(simd, d_shown.add(unit));
                let mut d_o_gate = simd.mul(d_shown, tanh_c);
                if let Some(d_o) = d_o {
                    d_o_gate = simd.add(d_o_gate, lanes.load(simd, d_o.add(unit)));
                }
                let d_o = simd.mul(d_o_gate, logistic(o));
                let d_after = lanes.load(simd, dc.add(unit));
                let kept = keep.load(simd, first + unit, lanes);
                let mut d_cell = simd.mul(simd.sub(one, kept), d_after);
                d_cell = match norm {
                    Some((_, norm)) => simd.add(d_cell, lanes.load(simd, norm.d_sums.add(unit))),
                    None => simd.mul_add(simd.mul(d_shown, o), simd.neg_mul_add(tanh_c, tanh_c, one), d_cell),
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

/// keep ∘ before + (1 − keep) ∘ values.
pub(crate) struct Blend<'a> {
    pub(crate) values: *mut f32,
    pub(crate) before: *const f32,
    pub(crate) len: usize,
    pub(crate) keep: Keep<'a>,
    /// Where the row begins in the mask.
    pub(crate) first: usize,
}

impl Kernel for Blend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { values, before, len, keep, first } = self;
        let one = simd.splat(1.0);
        // SAFETY: as whoever made it promised.
        unsafe {
            for_vectors!(S, len, |at, lanes| {
                let kept = keep.load(simd, first + at, lanes);
                let new = simd.mul(simd.sub(one, kept), lanes.load(simd, values.add(at)));
                lanes.store(simd, values.add(at), simd.mul_add(kept, lanes.load(simd, before.add(at)), new));
            });
        }
    }
}

struct Unblend<'a> {
    carried: *mut f32,
    above: *const f32,
    d_new: *mut f32,
    len: usize,
    keep: Keep<'a>,
    first: usize,
    cut: bool,
}

impl Kernel for Unblend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { carried, above, d_new, len, keep, first, cut } = self;
        let one = simd.splat(1.0);
        // SAFETY: as whoever made it promised.
        unsafe {
            for_vectors!(S, len, |at, lanes| {
                let kept = keep.load(simd, first + at, lanes);
                let whole = simd.add(lanes.load(simd, carried.add(at)), lanes.load(simd, above.add(at)));
                lanes.store(simd, d_new.add(at), simd.mul(simd.sub(one, kept), whole));
                lanes.store(simd, carried.add(at), if cut { simd.splat(0.0) } else { simd.mul(kept, whole) });
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, values};

    /// One row and its parameters in double precision: the plain twin.
    struct Plain {
        hidden: usize,
        coupled: bool,
        peepholes: Option<Vec<f64>>,
        norm: Option<[Vec<f64>; 3]>,
    }

    fn double(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&value| f64::from(value)).collect()
    }

    fn single(values: &[f64]) -> Vec<f32> {
        values.iter().map(|&value| value as f32).collect()
    }

    fn normalised(x: &[f64]) -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / x.len() as f64;
        x.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt()).collect()
    }

    impl Plain {
        /// gates, c, tanh c, o ∘ tanh c; `sums` are W_hh h where the cell is normalised.
        fn forward(&self, pre: &[f64], c_before: &[f64], sums: &[f64]) -> [Vec<f64>; 4] {
            let h = self.hidden;
            let sums = normalised(sums);
            let first = if self.coupled { 0 } else { h };
            let pre = |at: usize| pre[at] + self.norm.as_ref().map_or(0.0, |norm| norm[0][at] * sums[at]);
            let peephole = |at: usize| self.peepholes.as_ref().map_or(0.0, |weights| weights[at]);
            let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
            let (mut gates, mut c) = (vec![0.0; first + 3 * h], vec![0.0; h]);
            for u in 0..h {
                let f = logistic(pre(first + u) + peephole(first + u) * c_before[u]);
                let i = if self.coupled { 1.0 - f } else { logistic(pre(u) + peephole(u) * c_before[u]) };
                let g = pre(first + h + u).tanh();
                c[u] = f * c_before[u] + i * g;
                let o = logistic(pre(first + 2 * h + u) + peephole(first + h + u) * c[u]);
                gates[u] = i;
                (gates[first + u], gates[first + h + u], gates[first + 2 * h + u]) = (f, g, o);
            }
            let read = match &self.norm {
                None => c.clone(),
                Some([_, gain, bias]) => {
                    normalised(&c).iter().zip(gain.iter().zip(bias)).map(|(c, (gain, bias))| c * gain + bias).collect()
                }
            };
            let tanh_c: Vec<f64> = read.iter().map(|c| c.tanh()).collect();
            let shown = (0..h).map(|u| gates[first + 2 * h + u] * tanh_c[u]).collect();
            [gates, c, tanh_c, shown]
        }
    }

    /// Every combination on odd sizes: forward against the plain twin, backward against its central differences, a row
    /// that has ended, and the same bits for any number of threads.
    #[test]
    fn agrees_with_the_plain_twin() {
        for bits in 0..8 {
            for hidden in [2, 7, 33, 129] {
                check(hidden, bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
            }
        }
    }

    fn check(hidden: usize, coupled: bool, peeps: bool, norms: bool) {
        let (batch, gates) = (4, if coupled { 3 } else { 4 });
        let (width, case) = (gates * hidden, format!("H {hidden}, {coupled} {peeps} {norms}"));
        let lengths = [2, 1, 2, 2];
        let ended = Ended { lengths: Some(&lengths), t: 1 };
        let peepholes = peeps.then(|| values(width - hidden, 1));
        let [gain_hh, gain_cell, bias_cell] = [(width, 2), (hidden, 3), (hidden, 4)].map(|(len, at)| values(len, at));
        let norm = CellNorm { gain_hh: &gain_hh, gain_cell: &gain_cell, bias_cell: &bias_cell };
        let cell = VariantCell { hidden, coupled, peepholes: peepholes.as_deref(), norm: norms.then_some(norm) };
        let plain = Plain {
            hidden,
            coupled,
            peepholes: peepholes.as_deref().map(double),
            norm: norms.then(|| [&gain_hh, &gain_cell, &bias_cell].map(|values| double(values))),
        };
        let (pre, c_before, sums) = (values(batch * width, 5), values(batch * hidden, 6), values(batch * width, 7));
        let [d_shown, d_o, d_after] = [8, 9, 10].map(|at| values(batch * hidden, at));
        let mask: Vec<f32> = (0..batch * hidden).map(|at| (at % 3 % 2) as f32).collect();
        let run = |threads| {
            let mut got = [pre.clone(), sums.clone(), vec![7.0; batch * width]];
            let mut states: [Vec<f32>; 5] = std::array::from_fn(|_| vec![7.0; batch * hidden]);
            let mut scales = [vec![7.0; batch], vec![7.0; batch]];
            let mut dc = d_after.clone();
            let [gates, sums, d_sums] = &mut got;
            let [c, tanh_c, shown, cells, d_cells] = &mut states;
            let [sum_scales, cell_scales] = &mut scales;
            let mut activated = Vec::new();
            crate::with_threads(threads, || {
                let tape = NormTape { sums, sum_scales, cells, cell_scales };
                let norm = norms.then_some(tape);
                cell.forward(ended, VariantForward { gates, c_before: &c_before, c, tanh_c, shown, norm });
                activated.clone_from(gates);
                let tape = NormGradient { sums, sum_scales, cells, cell_scales, d_sums, d_cells };
                let step = VariantBackward {
                    gates,
                    c_before: &c_before,
                    tanh_c,
                    d_shown: &d_shown,
                    d_o: Some(&d_o),
                    dc: &mut dc,
                    keep: Keep::Mask(&mask),
                    cut: false,
                    norm: norms.then_some(tape),
                };
                cell.backward(ended, step);
            });
            (activated, got, states, dc)
        };
        let (activated, [d_gates, _, d_sums], [c, tanh_c, shown, ..], dc) = run(1);
        assert!([2, 3].into_iter().all(|threads| run(threads) == run(1)), "{case}");
        for row in 0..batch {
            let (wide, own) = (row * width..(row + 1) * width, row * hidden..(row + 1) * hidden);
            if row == 1 {
                assert!(activated[wide.clone()].iter().chain(&d_gates[wide]).all(|&x| x == 0.0), "{case}");
                assert_eq!([&c[own.clone()], &dc[own.clone()]], [&c_before[own.clone()], &d_after[own]], "{case}");
                continue;
            }
            let inputs = [&pre[wide.clone()], &c_before[own.clone()], &sums[wide.clone()]].map(double);
            let [plain_gates, plain_c, plain_tanh, plain_shown] = plain.forward(&inputs[0], &inputs[1], &inputs[2]);
            close(&activated[wide.clone()], &single(&plain_gates), 1e-5);
            close(&c[own.clone()], &single(&plain_c), 1e-5);
            close(&tanh_c[own.clone()], &single(&plain_tanh), 2e-5);
            close(&shown[own.clone()], &single(&plain_shown), 2e-5);
            if hidden > 7 {
                continue;
            }
            // c' = keep c + (1 - keep) c̃ is read by a linear loss, so are o ∘ tanh and o.
            let loss = |inputs: &[Vec<f64>; 3]| {
                let [gates, c, _, shown] = plain.forward(&inputs[0], &inputs[1], &inputs[2]);
                let each = (0..hidden).map(|u| {
                    let at = own.start + u;
                    let (keep, before) = (f64::from(mask[at]), inputs[1][u]);
                    f64::from(d_after[at]) * (keep * before + (1.0 - keep) * c[u])
                        + f64::from(d_shown[at]) * shown[u]
                        + f64::from(d_o[at]) * gates[gates.len() - hidden + u]
                });
                each.sum::<f64>()
            };
            let slope = |which: usize, at: usize| {
                let moved = |by: f64| {
                    let mut moved = inputs.clone();
                    moved[which][at] += by;
                    loss(&moved)
                };
                ((moved(1e-5) - moved(-1e-5)) / 2e-5) as f32
            };
            let slopes = |which: usize, len: usize| (0..len).map(|at| slope(which, at)).collect::<Vec<f32>>();
            // A normalised pair is one differing sign: its scale is large, and so are slopes through it.
            close(&d_gates[wide.clone()], &slopes(0, width), 2e-4);
            close(&dc[own.clone()], &slopes(1, hidden), 2e-4);
            if norms {
                close(&d_sums[wide], &slopes(2, width), 2e-4);
            }
        }
    }

    #[test]
    fn zoneout_holds_what_its_mask_says_and_splits_the_gradient() {
        let (batch, width) = (3, 37);
        let (new, before, above) = (values(batch * width, 1), values(batch * width, 2), values(batch * width, 3));
        let mask: Vec<f32> = (0..batch * width).map(|at| (at % 2) as f32).collect();
        let ended = Ended { lengths: Some(&[5, 0, 5]), t: 0 };
        for keep in [Keep::Mask(&mask), Keep::Rate(0.25)] {
            let share = |at: usize| if let Keep::Mask(mask) = keep { mask[at] } else { 0.25 };
            let mut held = new.clone();
            hold(&mut held, &before, batch, keep, ended);
            let (mut carried, mut d_new) = (before.clone(), vec![7.0; batch * width]);
            hold_backward(&mut carried, &above, &mut d_new, batch, keep, false, ended);
            let mut cut = before.clone();
            hold_backward(&mut cut, &above, &mut vec![0.0; batch * width], batch, keep, true, ended);
            for at in 0..batch * width {
                let (keep, whole) = (share(at), before[at] + above[at]);
                let expected = match at / width {
                    1 => [before[at], before[at], 0.0, before[at]],
                    _ => [keep * before[at] + (1.0 - keep) * new[at], keep * whole, (1.0 - keep) * whole, 0.0],
                };
                close(&[held[at], carried[at], d_new[at], cut[at]], &expected, 1e-6);
            }
        }
    }
}
