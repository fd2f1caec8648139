//! The loop backward of the plain cell.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use super::packed::PackedRecurrence;
use crate::gemm::arithmetic::{Arithmetic, FactorKernel};
use crate::gemm::matrix::{Initial, Out, Source, Start};
use crate::gemm::pack::{Panels, column_share, panels_before};
use crate::gemm::streamed::{Grid, Streamed, Sweep};
use crate::gemm::tile::{self, PANEL};
use crate::gemm::words::LeftWords;
use crate::ops::reduce::column_sums;
use crate::recurrence::cell::Cell;
use crate::recurrence::segment::{Reaching, Recurrence, StepRows};
use crate::recurrence::tape::Sequence;
use crate::simd::{FirstLanes, Lane, Simd, WholeVector};
use crate::team::chunks::share;
use crate::team::shared::{Shared, zero};
use crate::team::{self, Member};

/// Runs the segment backward: the gates become the gradients of their pre-activations, 0 where masked, the bias that of the
/// biases.
///
/// # Panics
/// When an array is shorter than its shape.
pub(crate) fn backward(
    recurrence: &Recurrence,
    packed: &PackedRecurrence,
    reaching: Reaching,
    sequence: &mut Sequence,
) {
    let Reaching { d_hidden, d_gate, dh, dc } = reaching;
    let Sequence { gates, bias, c, tanh_c, raw, d_raw, d_projected, .. } = sequence;
    let projects = !raw.is_empty();
    d_raw.resize(raw.len());
    d_projected.resize(if projects { recurrence.rows() * recurrence.recurrent } else { 0 });
    let arrays = BackwardArrays {
        gates: Shared::new(gates),
        c: Shared::read_only(c),
        tanh_c: Shared::read_only(tanh_c),
        d_h: Shared::read_only(d_hidden),
        d_o: d_gate.map(Shared::read_only),
        dh: Shared::new(dh),
        dc: Shared::new(dc),
        projected: projects.then(|| (Shared::new(d_raw), Shared::new(d_projected))),
    };
    let (rows, hidden, recurrent) = (recurrence.rows(), recurrence.cell.hidden, recurrence.recurrent);
    arrays.gates.assert_fits(rows * 4 * hidden, "gates");
    arrays.c.assert_fits((rows + recurrence.batch) * hidden, "c");
    arrays.tanh_c.assert_fits(rows * hidden, "tanh_c");
    arrays.d_h.assert_fits(rows * recurrent, "d_hidden");
    arrays.dh.assert_fits(recurrence.batch * recurrent, "dh");
    arrays.dc.assert_fits(recurrence.batch * hidden, "dc");
    if let Some(d_o) = arrays.d_o {
        d_o.assert_fits(rows * hidden, "d_gate");
    }
    if let Some((d_raw, d_projected)) = arrays.projected {
        d_raw.assert_fits(rows * hidden, "d_raw");
        d_projected.assert_fits(rows * recurrent, "d_projected");
    }
    // The panels were cut for this many shares of units.
    let units = packed.units.max(1);
    let grid = Grid { rows: (team::threads() / units).clamp(1, recurrence.batch.max(1)), columns: units };
    let grid = match Grid::choose(recurrence.batch, 4 * hidden, recurrent) {
        chosen if chosen.columns == units => chosen,
        _ => grid,
    };
    team::run(grid.members(), |member| {
        packed.format.dispatch(BackwardTask { recurrence, packed, arrays, grid, member });
    });
    column_sums(bias, Start::Zero, gates);
}

#[derive(Clone, Copy)]
struct BackwardArrays {
    gates: Shared,
    c: Shared,
    tanh_c: Shared,
    d_h: Shared,
    d_o: Option<Shared>,
    dh: Shared,
    dc: Shared,
    /// The gradients before and after a projection.
    projected: Option<(Shared, Shared)>,
}

struct BackwardTask<'a> {
    recurrence: &'a Recurrence<'a>,
    packed: &'a PackedRecurrence,
    arrays: BackwardArrays,
    grid: Grid,
    member: &'a Member<'a>,
}

impl FactorKernel for BackwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, A: Arithmetic>(self, simd: S) {
        let Self { recurrence, packed, arrays, grid, member } = self;
        let (share_of_rows, parts) = if member.count == grid.members() {
            let part = member.index % grid.columns;
            ((grid.rows, member.index / grid.columns), part..part + 1)
        } else if member.index == 0 {
            // The panels are cut for more members than there are: one takes every part of a phase before the next.
            ((1, 0), 0..grid.columns)
        } else {
            return;
        };
        let others = parts.len() < grid.columns;
        // Of a packed segment every step has other rows, which other members had before.
        let others_had_rows = recurrence.packed.is_some() && share_of_rows.0 > 1;
        let words = WORDS.take();
        let mut backward = Backward::<A> { recurrence, packed, arrays: &arrays, rows: 0..0, words, of: PhantomData };
        let part = |part| Part::new(recurrence, grid.columns, part, PANEL * S::LANES);
        // Made once: a step of one row takes not much longer.
        let own = part(parts.start);
        for n in (0..recurrence.steps).rev() {
            backward.rows = share(recurrence.count(recurrence.step(n).0), share_of_rows.0, share_of_rows.1);
            for phase in 0..Backward::<A>::PHASES {
                // SAFETY: members take different rows or different parts, and meet after every phase that others read.
                let mut shared = unsafe { backward.phase(simd, phase, n, &own) };
                for other in parts.clone().skip(1) {
                    // SAFETY: as above.
                    shared |= unsafe { backward.phase(simd, phase, n, &part(other)) };
                }
                if shared && others {
                    member.meet();
                }
            }
            if others_had_rows {
                member.meet();
            }
        }
        WORDS.set(backward.words);
    }
}

thread_local! {
    /// Gradients as words of bf16, before the product that they go into.
    static WORDS: RefCell<LeftWords> = const { RefCell::new(LeftWords::new()) };
}

/// The units and columns of one of the members that share rows.
struct Part {
    /// Its units, and the panels of the projection before theirs.
    units: Range<usize>,
    projection: usize,
    /// Its columns of the recurrent state, and the panels of the recurrent weights before theirs.
    columns: Range<usize>,
    recurrent: usize,
}

impl Part {
    /// The `part`-th of `parts`; panels are `width` wide.
    #[inline(always)]
    fn new(recurrence: &Recurrence, parts: usize, part: usize, width: usize) -> Self {
        let (hidden, recurrent) = (recurrence.cell.hidden, recurrence.recurrent);
        Self {
            units: column_share(hidden, parts, part),
            projection: panels_before(hidden, parts, part, width),
            columns: column_share(recurrent, parts, part),
            recurrent: panels_before(recurrent, parts, part, width),
        }
    }
}

/// A step backward in phases; after each, what its parts wrote may be read by all.
struct Backward<'a, A> {
    recurrence: &'a Recurrence<'a>,
    packed: &'a PackedRecurrence,
    arrays: &'a BackwardArrays,
    rows: Range<usize>,
    words: LeftWords,
    of: PhantomData<A>,
}

impl<A: Arithmetic> Backward<'_, A> {
    const PHASES: usize = 3;

    /// Runs one phase of the n-th step for one part; gives whether other parts read what it wrote.
    #[inline(always)]
    unsafe fn phase<S: Simd>(&mut self, simd: S, phase: usize, n: usize, part: &Part) -> bool {
        // SAFETY: as the caller promises.
        unsafe {
            match (phase, self.arrays.projected) {
                (0, None) => false,
                (0, Some((_, d_projected))) => {
                    self.collect(simd, n, part.columns.clone(), d_projected);
                    true
                }
                (1, _) => {
                    if let Some((d_raw, d_projected)) = self.arrays.projected {
                        self.unproject(simd, n, part, d_projected, d_raw);
                    }
                    self.differentiate(simd, n, part.units.clone());
                    true
                }
                _ => {
                    self.carry(simd, n, part);
                    // The next step's phase 0 or 1 reads this part's own columns of dh alone.
                    false
                }
            }
        }
    }

    /// The gradient of the projected state: what is carried plus what comes from above.
    #[inline(always)]
    unsafe fn collect<S: Simd>(&self, simd: S, n: usize, columns: Range<usize>, total: Shared) {
        let recurrent = self.recurrence.recurrent;
        let (t, ..) = self.recurrence.step(n);
        let now = self.recurrence.first(t);
        for row in self.rows.clone() {
            let at = (now + row) * recurrent;
            for first in columns.clone().step_by(S::LANES) {
                let count = S::LANES.min(columns.end - first);
                // SAFETY: inside the arrays, this part's columns.
                unsafe {
                    let sum = if self.recurrence.masked(t, row) {
                        simd.splat(0.0)
                    } else {
                        let carried = simd.load_first(self.arrays.dh.at(row * recurrent + first), count);
                        simd.add(carried, simd.load_first(self.arrays.d_h.at(at + first), count))
                    };
                    simd.store_first(total.at(at + first), count, sum);
                }
            }
        }
    }

    /// d_raw `[rows, H]` = d_projected `[rows, P]` · weight_hr, for this part's units.
    #[inline(always)]
    unsafe fn unproject<S: Simd>(&mut self, simd: S, n: usize, part: &Part, d_projected: Shared, d_raw: Shared) {
        let Recurrence { cell: Cell { hidden, .. }, recurrent, .. } = *self.recurrence;
        let (t, ..) = self.recurrence.step(n);
        let at = self.recurrence.first(t) + self.rows.start;
        // SAFETY: inside the arrays, this part's columns.
        unsafe {
            let left = Source { data: d_projected.at(at * recurrent), row: recurrent, column: 1 };
            let format = self.packed.format;
            let left = self.words.rows::<S, A>(simd, format, left, self.rows.len(), recurrent);
            let weights = Panels::new(&self.packed.projection, format.len(recurrent)).skip(simd, part.projection);
            let product = Streamed::<A>::new(self.rows.len(), left, weights, Sweep::of_pass(n));
            let out = Out { data: d_raw.at(at * hidden + part.units.start), row: hidden, initial: Initial::Zero };
            product.columns(simd, 0..part.units.len(), out);
        }
    }

    /// The gradients of the gates' pre-activations, and of the previous cell state.
    #[inline(always)]
    unsafe fn differentiate<S: Simd>(&self, simd: S, n: usize, units: Range<usize>) {
        let (t, ..) = self.recurrence.step(n);
        for StepRows { rows, before } in self.recurrence.before(t, self.rows.clone()) {
            // SAFETY: as the caller promises.
            unsafe { self.differentiate_rows(simd, n, rows, before, units.clone()) };
        }
    }

    /// The same for rows whose states before the step lie one after the other.
    #[inline(always)]
    unsafe fn differentiate_rows<S: Simd>(
        &self,
        simd: S,
        n: usize,
        rows: Range<usize>,
        before: usize,
        units: Range<usize>,
    ) {
        let hidden = self.recurrence.cell.hidden;
        let (t, ..) = self.recurrence.step(n);
        let now = self.recurrence.first(t);
        let cut = self.recurrence.cut(n);
        for row in rows {
            let at = now + row;
            // SAFETY: inside the arrays, this part's units, for every access below.
            unsafe {
                let gates = self.arrays.gates.at(at * 4 * hidden);
                if self.recurrence.masked(t, row) {
                    (0..4).for_each(|gate| zero(gates.add(gate * hidden + units.start), units.len()));
                    continue;
                }
                let unit = UnitGradients {
                    gates,
                    c_before: self.arrays.c.at((before + row) * hidden),
                    tanh_c: self.arrays.tanh_c.at(at * hidden),
                    dh: match self.arrays.projected {
                        Some((d_raw, _)) => [Some(d_raw.at(at * hidden).cast_const()), None],
                        None => {
                            let carried = self.arrays.dh.at(row * hidden).cast_const();
                            [Some(carried), Some(self.arrays.d_h.at(at * hidden).cast_const())]
                        }
                    },
                    d_o: self.arrays.d_o.map(|d_o| d_o.at(at * hidden).cast_const()),
                    dc: self.arrays.dc.at(row * hidden),
                    hidden,
                };
                let mut first = units.start;
                while first < units.end {
                    let count = S::LANES.min(units.end - first);
                    if count == S::LANES {
                        unit.differentiate(simd, first, WholeVector, cut);
                    } else {
                        unit.differentiate(simd, first, FirstLanes(count), cut);
                    }
                    first += count;
                }
            }
        }
    }

    /// dh `[rows, R]` = d_gates `[rows, 4H]` · weight_hh, for this part's columns.
    #[inline(always)]
    unsafe fn carry<S: Simd>(&mut self, simd: S, n: usize, part: &Part) {
        let Recurrence { cell: Cell { hidden, .. }, batch, recurrent, .. } = *self.recurrence;
        let columns = part.columns.clone();
        let (t, ..) = self.recurrence.step(n);
        let masked = |row: usize| self.recurrence.masked(t, row);
        let cut = self.recurrence.cut(n);
        // SAFETY: inside the arrays, this part's columns, for every access below.
        unsafe {
            let dh = |row: usize| self.arrays.dh.at(row * recurrent + columns.start);
            let mut out = Out { data: dh(self.rows.start), row: recurrent, initial: Initial::Zero };
            if self.recurrence.lengths.is_some() || cut {
                // A masked step hands its gradient on untouched: it is no step, so there is nothing to cut either. The
                // gradients of its gates are zero, so they may be added.
                self.rows.clone().filter(|row| !masked(*row)).for_each(|row| zero(dh(row), columns.len()));
                out.initial = Initial::Out;
            }
            if !cut {
                let gates = self.arrays.gates.at((self.recurrence.first(t) + self.rows.start) * 4 * hidden);
                let format = self.packed.format;
                let weights = Panels::new(&self.packed.recurrent, format.len(4 * hidden)).skip(simd, part.recurrent);
                if batch == 1 && A::IS_F32 {
                    tile::one_row(simd, hidden, columns.len(), gates, weights.row(simd, 0, 0), out);
                } else {
                    let left = Source { data: gates, row: 4 * hidden, column: 1 };
                    let left = self.words.rows::<S, A>(simd, format, left, self.rows.len(), 4 * hidden);
                    let product = Streamed::<A>::new(self.rows.len(), left, weights, Sweep::of_pass(n));
                    product.columns(simd, 0..columns.len(), out);
                }
            }
        }
    }
}

/// Where the values of one row lie at one step, each `[H]` but the gates `[4H]`.
struct UnitGradients {
    gates: *mut f32,
    c_before: *const f32,
    tanh_c: *const f32,
    /// The gradient of `o ∘ tanh c`, in one part or two.
    dh: [Option<*const f32>; 2],
    d_o: Option<*const f32>,
    dc: *mut f32,
    hidden: usize,
}

impl UnitGradients {
    /// The gradients of the pre-activations of a vector of units, into the gates, and of the previous cell state.
    #[inline(always)]
    unsafe fn differentiate<S: Simd>(&self, simd: S, unit: usize, lanes: impl Lane, cut: bool) {
        let one = simd.splat(1.0);
        let load = |at: *const f32| {
            // SAFETY: as the caller promises.
            unsafe { lanes.load(simd, at.add(unit)) }
        };
        let gate = |gate: usize| load(self.gates.wrapping_add(gate * self.hidden));
        let (i, f, g, o) = (gate(0), gate(1), gate(2), gate(3));
        let tanh_c = load(self.tanh_c);
        let dh = match self.dh {
            [Some(a), Some(b)] => simd.add(load(a), load(b)),
            [Some(a), None] => load(a),
            _ => simd.splat(0.0),
        };
        let through_tanh = simd.neg_mul_add(tanh_c, tanh_c, one);
        let d_cell = simd.mul_add(simd.mul(dh, o), through_tanh, load(self.dc));
        let mut d_out = simd.mul(dh, tanh_c);
        if let Some(d_o) = self.d_o {
            d_out = simd.add(d_out, load(d_o));
        }
        // y' = y (1 - y) for the logistic function, 1 - y² for tanh.
        let logistic = |y: S::V| simd.neg_mul_add(y, y, y);
        let gradients = [
            simd.mul(simd.mul(d_cell, g), logistic(i)),
            simd.mul(simd.mul(d_cell, load(self.c_before)), logistic(f)),
            simd.mul(simd.mul(d_cell, i), simd.neg_mul_add(g, g, one)),
            simd.mul(d_out, logistic(o)),
        ];
        let d_before = if cut { simd.splat(0.0) } else { simd.mul(d_cell, f) };
        // SAFETY: as the caller promises.
        unsafe {
            for (gate, gradient) in gradients.into_iter().enumerate() {
                lanes.store(simd, self.gates.add(gate * self.hidden + unit), gradient);
            }
            lanes.store(simd, self.dc.add(unit), d_before);
        }
    }
}
