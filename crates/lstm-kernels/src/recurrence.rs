//! The recurrent loop over a segment, forward and backward.
//!
//! Rows of a batch never meet, so they are cut into tasks of [`TASK_ROWS`] rows that run through the whole segment
//! without waiting for each other. In a task each step is a small product: tiles of up to five rows by four vectors
//! of columns stay in registers while the weights, packed in panels of that width, stream past once. Every output
//! value adds its terms in the order of k, whatever the tile, so the bits do not depend on the cut.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::activation::{sigmoid, tanh};
use crate::isa::dispatch;

/// The batch rows of one task: two register tiles.
const TASK_ROWS: usize = 10;

/// The batch rows of one register tile: 5 × 4 sums, 4 weights and a factor fit the 32 registers of AVX-512.
const TILE_ROWS: usize = 5;

/// The vectors of columns of one panel.
const PANEL: usize = 4;

/// A `[K, N]` matrix in column panels of `PANEL` vectors: `[panel][k][PANEL · lanes]`, zero past N.
#[derive(Clone, Debug, Default)]
struct Panels {
    data: Vec<f32>,
    k: usize,
    n: usize,
}

impl Panels {
    /// Packs the matrix whose value at (k, n) is `value(k, n)`.
    fn pack(&mut self, k: usize, n: usize, value: impl Fn(usize, usize) -> f32 + Sync) {
        let width = PANEL * dispatch(Lanes);
        (self.k, self.n) = (k, n);
        self.data.resize(n.div_ceil(width) * k * width, 0.0);
        if k == 0 {
            return;
        }
        self.data.par_chunks_mut(k * width).enumerate().for_each(|(panel, data)| {
            for (i, row) in data.chunks_exact_mut(width).enumerate() {
                for (lane, x) in row.iter_mut().enumerate() {
                    let column = panel * width + lane;
                    *x = if column < n { value(i, column) } else { 0.0 };
                }
            }
        });
    }

    /// out `[rows, N]` += a `[rows, K]` · panels, where row r of `a` starts at `a[r · K]`.
    #[inline(always)]
    fn multiply<S: Simd>(&self, simd: S, a: &[f32], out: &mut [f32], a_tile: &mut Vec<f32>) {
        let (panels, _) = S::as_simd_f32s(&self.data);
        let rows = out.len() / self.n;
        for first in (0..rows).step_by(TILE_ROWS) {
            let tile = TILE_ROWS.min(rows - first);
            // Interleaved `[k][tile]`, so that the inner loop reads its factors in order.
            a_tile.clear();
            for k in 0..self.k {
                a_tile.extend((first..first + tile).map(|row| a[row * self.k + k]));
            }
            for (panel, weights) in panels.chunks_exact((self.k * PANEL).max(1)).enumerate() {
                let at = (first, panel * PANEL * S::F32_LANES);
                match tile {
                    1 => self.tile::<S, 1>(simd, a_tile, weights, out, at),
                    2 => self.tile::<S, 2>(simd, a_tile, weights, out, at),
                    3 => self.tile::<S, 3>(simd, a_tile, weights, out, at),
                    4 => self.tile::<S, 4>(simd, a_tile, weights, out, at),
                    _ => self.tile::<S, TILE_ROWS>(simd, a_tile, weights, out, at),
                }
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize>(
        &self,
        simd: S,
        a: &[f32],
        weights: &[S::f32s],
        out: &mut [f32],
        (row, column): (usize, usize),
    ) {
        let mut sums = [[simd.splat_f32s(0.0); PANEL]; ROWS];
        for (factors, weights) in a.as_chunks::<ROWS>().0.iter().zip(weights.as_chunks::<PANEL>().0) {
            for (sums, factor) in sums.iter_mut().zip(factors) {
                let factor = simd.splat_f32s(*factor);
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = simd.mul_add_e_f32s(factor, *weight, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let out = &mut out[(row + r) * self.n..][..self.n][column..];
            for (lane, sum) in sums.iter().enumerate() {
                let Some(out) = out.get_mut(lane * S::F32_LANES..) else { break };
                let end = S::F32_LANES.min(out.len());
                let out = &mut out[..end];
                let total = simd.add_f32s(simd.partial_load_f32s(out), *sum);
                simd.partial_store_f32s(out, total);
            }
        }
    }
}

/// The number of lanes of a vector.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// The recurrent weights, packed for one direction of the loop. The buffers are reused.
#[derive(Clone, Debug, Default)]
pub struct PackedRecurrence {
    recurrent: Panels,
    projection: Panels,
}

impl PackedRecurrence {
    /// Packs `weight_hh: [4H, R]` and `weight_hr: [P, H]` for the forward or the backward loop.
    pub fn pack(
        &mut self,
        weight_hh: &[f32],
        weight_hr: Option<&[f32]>,
        hidden: usize,
        recurrent: usize,
        backward: bool,
    ) {
        let gates = 4 * hidden;
        if backward {
            self.recurrent.pack(gates, recurrent, |k, n| weight_hh[k * recurrent + n]);
        } else {
            self.recurrent.pack(recurrent, gates, |k, n| weight_hh[n * recurrent + k]);
        }
        if let Some(weight_hr) = weight_hr {
            if backward {
                self.projection.pack(recurrent, hidden, |k, n| weight_hr[k * hidden + n]);
            } else {
                self.projection.pack(hidden, recurrent, |k, n| weight_hr[n * hidden + k]);
            }
        }
    }
}

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

/// A `[steps, B, width]` array of which each task reads and writes its own rows.
#[derive(Clone, Copy)]
struct Shared {
    data: *mut f32,
    len: usize,
    batch: usize,
    width: usize,
}

// SAFETY: tasks take disjoint row ranges of it (see `Shared::rows`).
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(data: &mut [f32], batch: usize, width: usize) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), batch, width }
    }

    /// Rows `rows` of step `step`.
    ///
    /// SAFETY: no two live slices may hold the same row of the same step.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    unsafe fn rows<'b>(&self, step: usize, rows: &std::ops::Range<usize>) -> &'b mut [f32] {
        let start = (step * self.batch + rows.start) * self.width;
        let len = rows.len() * self.width;
        assert!(start + len <= self.len, "a row of a segment");
        // SAFETY: inside the array, as just checked; exclusive, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}

impl Recurrence<'_> {
    /// Runs the segment.
    ///
    /// gates `[T, B, 4H]`: in the input part of the pre-activations, biases included, out the activated i, f, g, o;
    /// h `[T + 1, B, R]` and c `[T + 1, B, H]`: slot 0 holds the initial state and step t writes slot t + 1 (reverse:
    /// slot T holds it, step t writes slot t); tanh_c `[T, B, H]`; raw `[T, B, H]`: `o ∘ tanh c` before projection,
    /// empty without one. A masked step copies its row's states and zeroes the rest.
    ///
    /// # Panics
    /// When an array is shorter than its shape.
    pub fn forward(&self, gates: &mut [f32], h: &mut [f32], c: &mut [f32], tanh_c: &mut [f32], raw: &mut [f32]) {
        let (batch, hidden) = (self.batch, self.hidden);
        let arrays = ForwardArrays {
            gates: Shared::new(gates, batch, 4 * hidden),
            h: Shared::new(h, batch, self.recurrent),
            c: Shared::new(c, batch, hidden),
            tanh_c: Shared::new(tanh_c, batch, hidden),
            raw: (!raw.is_empty()).then(|| Shared::new(raw, batch, hidden)),
        };
        self.for_each_task(|rows| dispatch(ForwardTask { recurrence: self, arrays, rows }));
    }

    /// Runs the segment backward.
    ///
    /// gates `[T, B, 4H]`: in the activated gates, out the gradients of their pre-activations (0 where masked); c and
    /// tanh_c as [`Recurrence::forward`] left them; d_h `[T, B, R]`: the gradient of `h` from above; d_o `[T, B, H]`:
    /// that of the activated output gate, if it is read; dh `[B, R]`, dc `[B, H]`: in the gradient of the final state,
    /// out that of the initial. With a projection, raw_gradient `[T, B, H]` and d_projected `[T, B, R]` receive the
    /// gradients before and after it; else both are empty.
    ///
    /// # Panics
    /// When an array is shorter than its shape.
    pub fn backward(
        &self,
        gates: &mut [f32],
        c: &[f32],
        tanh_c: &[f32],
        d_h: &[f32],
        d_o: Option<&[f32]>,
        dh: &mut [f32],
        dc: &mut [f32],
        raw_gradient: &mut [f32],
        d_projected: &mut [f32],
    ) {
        let (batch, hidden) = (self.batch, self.hidden);
        let projected = !d_projected.is_empty();
        let arrays = BackwardArrays {
            gates: Shared::new(gates, batch, 4 * hidden),
            c,
            tanh_c,
            d_h,
            d_o,
            dh: Shared::new(dh, batch, self.recurrent),
            dc: Shared::new(dc, batch, hidden),
            raw_gradient: projected.then(|| Shared::new(raw_gradient, batch, hidden)),
            d_projected: projected.then(|| Shared::new(d_projected, batch, self.recurrent)),
        };
        self.for_each_task(|rows| dispatch(BackwardTask { recurrence: self, arrays, rows }));
    }

    fn for_each_task(&self, task: impl Fn(std::ops::Range<usize>) + Sync) {
        let tasks = self.batch.div_ceil(TASK_ROWS);
        let rows = |task: usize| task * TASK_ROWS..self.batch.min((task + 1) * TASK_ROWS);
        if tasks == 1 {
            return task(rows(0));
        }
        (0..tasks).into_par_iter().for_each(|index| task(rows(index)));
    }

    /// The n-th step to run, and the slots of the states it reads and writes.
    fn step(&self, n: usize) -> (usize, usize, usize) {
        let t = if self.reverse { self.steps - 1 - n } else { n };
        if self.reverse { (t, t + 1, t) } else { (t, t, t + 1) }
    }

    fn masked(&self, t: usize, row: usize) -> bool {
        self.lengths.is_some_and(|lengths| t >= lengths[row])
    }
}

#[derive(Clone, Copy)]
struct ForwardArrays {
    gates: Shared,
    h: Shared,
    c: Shared,
    tanh_c: Shared,
    raw: Option<Shared>,
}

struct ForwardTask<'a> {
    recurrence: &'a Recurrence<'a>,
    arrays: ForwardArrays,
    rows: std::ops::Range<usize>,
}

impl WithSimd for ForwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { recurrence, arrays, rows } = self;
        let (hidden, recurrent) = (recurrence.hidden, recurrence.recurrent);
        let packed = recurrence.packed;
        let mut a_tile = Vec::new();
        for n in 0..recurrence.steps {
            let (t, before, after) = recurrence.step(n);
            // SAFETY: this task's rows only; the slots before and after are different steps of `h` and `c`.
            let (gates, h_before, h, c_before, c, tanh_c) = unsafe {
                (
                    arrays.gates.rows(t, &rows),
                    &*arrays.h.rows(before, &rows),
                    arrays.h.rows(after, &rows),
                    &*arrays.c.rows(before, &rows),
                    arrays.c.rows(after, &rows),
                    arrays.tanh_c.rows(t, &rows),
                )
            };
            // SAFETY: as above. Without a projection `h` itself receives what is otherwise projected.
            let mut raw = arrays.raw.map(|raw| unsafe { raw.rows(t, &rows) });
            packed.recurrent.multiply(simd, h_before, gates, &mut a_tile);
            let target = raw.as_deref_mut().unwrap_or(&mut *h);
            for row in 0..rows.len() {
                let at = row * hidden..(row + 1) * hidden;
                activate(
                    &mut gates[4 * at.start..4 * at.end],
                    &c_before[at.clone()],
                    &mut c[at.clone()],
                    &mut tanh_c[at.clone()],
                    &mut target[at],
                );
            }
            if let Some(raw) = raw.as_deref() {
                h.fill(0.0);
                packed.projection.multiply(simd, raw, h, &mut a_tile);
            }
            for row in (0..rows.len()).filter(|row| recurrence.masked(t, rows.start + row)) {
                let (at, h_at) = (row * hidden..(row + 1) * hidden, row * recurrent..(row + 1) * recurrent);
                h[h_at.clone()].copy_from_slice(&h_before[h_at]);
                c[at.clone()].copy_from_slice(&c_before[at.clone()]);
                gates[4 * at.start..4 * at.end].fill(0.0);
                tanh_c[at.clone()].fill(0.0);
                if let Some(raw) = raw.as_deref_mut() {
                    raw[at].fill(0.0);
                }
            }
        }
    }
}

/// The gates' non-linearities and the state update of one row.
#[inline(always)]
fn activate(gates: &mut [f32], c_before: &[f32], c: &mut [f32], tanh_c: &mut [f32], h: &mut [f32]) {
    let hidden = c.len();
    let (i, rest) = gates.split_at_mut(hidden);
    let (f, rest) = rest.split_at_mut(hidden);
    let (g, o) = rest.split_at_mut(hidden);
    // One length for all, or the compiler checks each access.
    let (f, g, o) = (&mut f[..hidden], &mut g[..hidden], &mut o[..hidden]);
    let (c_before, tanh_c, h) = (&c_before[..hidden], &mut tanh_c[..hidden], &mut h[..hidden]);
    for u in 0..hidden {
        i[u] = sigmoid(i[u]);
        f[u] = sigmoid(f[u]);
        g[u] = tanh(g[u]);
        o[u] = sigmoid(o[u]);
        c[u] = f[u] * c_before[u] + i[u] * g[u];
        tanh_c[u] = tanh(c[u]);
        h[u] = o[u] * tanh_c[u];
    }
}

#[derive(Clone, Copy)]
struct BackwardArrays<'a> {
    gates: Shared,
    c: &'a [f32],
    tanh_c: &'a [f32],
    d_h: &'a [f32],
    d_o: Option<&'a [f32]>,
    dh: Shared,
    dc: Shared,
    raw_gradient: Option<Shared>,
    d_projected: Option<Shared>,
}

struct BackwardTask<'a> {
    recurrence: &'a Recurrence<'a>,
    arrays: BackwardArrays<'a>,
    rows: std::ops::Range<usize>,
}

impl WithSimd for BackwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { recurrence, arrays, rows } = self;
        let (batch, hidden, recurrent) = (recurrence.batch, recurrence.hidden, recurrence.recurrent);
        let packed = recurrence.packed;
        let mut a_tile = Vec::new();
        let mut total = vec![0.0; rows.len() * recurrent];
        let mut carried = vec![0.0; rows.len() * recurrent];
        // SAFETY: this task's rows only.
        let (dh, dc) = unsafe { (arrays.dh.rows(0, &rows), arrays.dc.rows(0, &rows)) };
        let no_gate = vec![0.0; hidden];
        for n in (0..recurrence.steps).rev() {
            let (t, before, _) = recurrence.step(n);
            let first = t * batch + rows.start;
            // SAFETY: this task's rows only.
            let gates = unsafe { arrays.gates.rows(t, &rows) };
            for row in 0..rows.len() {
                let at = row * recurrent..(row + 1) * recurrent;
                let d_h = &arrays.d_h[(first + row) * recurrent..][..recurrent];
                let (total, dh) = (&mut total[at.clone()], &dh[at]);
                if recurrence.masked(t, rows.start + row) {
                    total.fill(0.0);
                } else {
                    for ((total, dh), d_h) in total.iter_mut().zip(dh).zip(d_h) {
                        *total = dh + d_h;
                    }
                }
            }
            // SAFETY: this task's rows only.
            let raw_gradient = arrays.raw_gradient.map(|array| unsafe { array.rows(t, &rows) });
            let d_raw: &[f32] = match raw_gradient {
                None => &total,
                Some(d_raw) => {
                    d_raw.fill(0.0);
                    packed.projection.multiply(simd, &total, d_raw, &mut a_tile);
                    d_raw
                }
            };
            for row in 0..rows.len() {
                let at = row * hidden..(row + 1) * hidden;
                if recurrence.masked(t, rows.start + row) {
                    gates[4 * at.start..4 * at.end].fill(0.0);
                    continue;
                }
                let source = (first + row) * hidden..(first + row + 1) * hidden;
                let c_before = &arrays.c[(before * batch + rows.start + row) * hidden..][..hidden];
                differentiate(
                    &mut gates[4 * at.start..4 * at.end],
                    c_before,
                    &arrays.tanh_c[source.clone()],
                    &d_raw[at.clone()],
                    arrays.d_o.map_or(&no_gate, |d_o| &d_o[source]),
                    &mut dc[at],
                );
            }
            if let Some(d_projected) = arrays.d_projected {
                // SAFETY: this task's rows only.
                unsafe { d_projected.rows(t, &rows) }.copy_from_slice(&total);
            }
            let cut = n > 0 && recurrence.horizon.is_some_and(|horizon| n % horizon == 0);
            carried.fill(0.0);
            if !cut {
                packed.recurrent.multiply(simd, gates, &mut carried, &mut a_tile);
            }
            for row in 0..rows.len() {
                // A masked step hands its gradient on untouched; there is no step whose gradient could be cut.
                if !recurrence.masked(t, rows.start + row) {
                    let at = row * recurrent..(row + 1) * recurrent;
                    dh[at.clone()].copy_from_slice(&carried[at]);
                }
                if cut {
                    dh[row * recurrent..(row + 1) * recurrent].fill(0.0);
                    dc[row * hidden..(row + 1) * hidden].fill(0.0);
                }
            }
        }
    }
}

/// The gradients of one row's pre-activations, into `gates`, and of its previous cell state, into `dc`.
#[inline(always)]
fn differentiate(gates: &mut [f32], c_before: &[f32], tanh_c: &[f32], dh: &[f32], d_o: &[f32], dc: &mut [f32]) {
    let hidden = dc.len();
    let (i, rest) = gates.split_at_mut(hidden);
    let (f, rest) = rest.split_at_mut(hidden);
    let (g, o) = rest.split_at_mut(hidden);
    let (f, g, o) = (&mut f[..hidden], &mut g[..hidden], &mut o[..hidden]);
    let (c_before, tanh_c, dh, d_o) = (&c_before[..hidden], &tanh_c[..hidden], &dh[..hidden], &d_o[..hidden]);
    for u in 0..hidden {
        let (iu, fu, gu, ou) = (i[u], f[u], g[u], o[u]);
        let d_cell = dc[u] + dh[u] * ou * (1.0 - tanh_c[u] * tanh_c[u]);
        o[u] = (dh[u] * tanh_c[u] + d_o[u]) * ou * (1.0 - ou);
        i[u] = d_cell * gu * iu * (1.0 - iu);
        f[u] = d_cell * c_before[u] * fu * (1.0 - fu);
        g[u] = d_cell * iu * (1.0 - gu * gu);
        dc[u] = d_cell * fu;
    }
}
