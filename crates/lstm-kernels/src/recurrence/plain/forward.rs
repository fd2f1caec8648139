//! The loop forward of the plain cell.

use std::cell::RefCell;

use super::cells::{Cells, ROWS, Scratch};
use super::packed::PackedRecurrence;
use super::units::own_blocks;
use crate::gemm::arithmetic::{Arithmetic, FactorKernel};
use crate::gemm::matrix::{Initial, Out, Source};
use crate::gemm::pack::{Panels, column_share};
use crate::gemm::streamed::{Grid, Streamed, Sweep};
use crate::gemm::words::LeftWords;
use crate::recurrence::segment::{Recurrence, StepRows};
use crate::recurrence::tape::Sequence;
use crate::simd::Simd;
use crate::team::chunks::share;
use crate::team::shared::{Shared, zero};
use crate::team::{self, Member};

/// Runs the segment: from the input part of the gates and the initial state to all else in `sequence`.
///
/// # Panics
/// When an array is shorter than its shape.
pub(crate) fn forward(recurrence: &Recurrence, packed: &PackedRecurrence, sequence: &mut Sequence) {
    let Sequence { gates, h, c, tanh_c, raw, .. } = sequence;
    let projects = !raw.is_empty();
    let arrays = ForwardArrays {
        gates: Shared::new(gates),
        h: Shared::new(h),
        c: Shared::new(c),
        tanh_c: Shared::new(tanh_c),
        raw: projects.then(|| Shared::new(raw)),
    };
    let (rows, hidden) = (recurrence.rows(), recurrence.cell.hidden);
    arrays.gates.assert_fits(rows * 4 * hidden, "gates");
    arrays.h.assert_fits((rows + recurrence.batch) * recurrence.recurrent, "h");
    arrays.c.assert_fits((rows + recurrence.batch) * hidden, "c");
    arrays.tanh_c.assert_fits(rows * hidden, "tanh_c");
    if let Some(raw) = arrays.raw {
        raw.assert_fits(rows * hidden, "raw");
    }
    let grid = Grid::choose(recurrence.batch, recurrence.recurrent, 4 * hidden);
    team::run(grid.members(), |member| {
        // A team of another size than asked for shares in one direction only; the result is the same.
        let grid = if member.count == grid.members() { grid } else { Grid { rows: 1, columns: member.count } };
        packed.format.dispatch(ForwardTask { recurrence, packed, arrays, grid, member });
    });
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
    packed: &'a PackedRecurrence,
    arrays: ForwardArrays,
    grid: Grid,
    member: &'a Member<'a>,
}

impl FactorKernel for ForwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, A: Arithmetic>(self, simd: S) {
        let Self { recurrence, packed, arrays, grid, member } = self;
        let format = packed.format;
        let (hidden, recurrent) = (recurrence.cell.hidden, recurrence.recurrent);
        let part = member.index % grid.columns;
        let own = own_blocks(hidden, S::LANES, grid.columns, part);
        let projected = column_share(recurrent, grid.columns, part);
        let mut scratch = Scratch::zero();
        let mut words = WORDS.take();
        let mut pass = 0;
        for n in 0..recurrence.steps {
            let (t, ..) = recurrence.step(n);
            let (now, after) = (recurrence.first(t), recurrence.after(t));
            // Of a packed segment every step has other rows.
            let rows = share(recurrence.count(t), grid.rows, member.index / grid.columns);
            for StepRows { rows, before } in recurrence.before(t, rows.clone()) {
                for first in rows.clone().step_by(ROWS) {
                    let count = (rows.end - first).min(ROWS);
                    // SAFETY: rows and steps inside the arrays, which were checked; this member's rows and units alone are
                    // written, and what others wrote of the step before was met for.
                    unsafe {
                        let gates = arrays.gates.at((now + first) * 4 * hidden);
                        let cells = Cells {
                            pre: (gates, 4 * hidden),
                            gates,
                            c_before: arrays.c.at((before + first) * hidden),
                            c: arrays.c.at((after + first) * hidden),
                            tanh_c: arrays.tanh_c.at((now + first) * hidden),
                            h: match arrays.raw {
                                Some(raw) => (raw.at((now + first) * hidden), hidden),
                                None => (arrays.h.at((after + first) * recurrent), recurrent),
                            },
                            hidden,
                        };
                        let h_before = arrays.h.at((before + first) * recurrent);
                        let left = Source { data: h_before, row: recurrent, column: 1 };
                        let left = words.rows::<S, A>(simd, format, left, count, recurrent);
                        let weights = Panels::new(&packed.recurrent, format.len(recurrent));
                        let product = Streamed::<A>::new(count, left, weights, Sweep::of_pass(pass));
                        product.cells(simd, &own, &cells, &mut scratch);
                    }
                    pass += 1;
                }
            }
            if let Some(raw) = arrays.raw {
                if grid.columns > 1 {
                    member.meet();
                }
                // SAFETY: as above; the columns of `h` are this member's.
                unsafe {
                    let left = Source { data: raw.at((now + rows.start) * hidden), row: hidden, column: 1 };
                    let left = words.rows::<S, A>(simd, format, left, rows.len(), hidden);
                    // Shares begin at whole vectors; the forward panels are cut as one share.
                    let weights = Panels::new(&packed.projection, format.len(hidden));
                    let product = Streamed::<A>::new(rows.len(), left, weights, Sweep::of_pass(n));
                    let h = arrays.h.at((after + rows.start) * recurrent + projected.start);
                    let out = Out { data: h, row: recurrent, initial: Initial::Zero };
                    product.columns(simd, projected.clone(), out);
                }
            }
            if recurrence.lengths.is_some() {
                for row in rows.clone().filter(|row| recurrence.masked(t, *row)) {
                    let units = own.units.clone();
                    let columns = if arrays.raw.is_some() { projected.clone() } else { units.clone() };
                    // SAFETY: as above.
                    unsafe {
                        let [StepRows { before, .. }, beginning] = recurrence.before(t, row..row + 1);
                        let before = if beginning.rows.is_empty() { before } else { beginning.before };
                        let h = |first: usize| arrays.h.at((first + row) * recurrent + columns.start);
                        std::ptr::copy_nonoverlapping(h(before), h(after), columns.len());
                        let c = |first: usize| arrays.c.at((first + row) * hidden + units.start);
                        std::ptr::copy_nonoverlapping(c(before), c(after), units.len());
                        let at = now + row;
                        for gate in 0..4 {
                            zero(arrays.gates.at(at * 4 * hidden + gate * hidden + units.start), units.len());
                        }
                        zero(arrays.tanh_c.at(at * hidden + units.start), units.len());
                        if let Some(raw) = arrays.raw {
                            zero(raw.at(at * hidden + units.start), units.len());
                        }
                    }
                }
            }
            if grid.columns > 1 || recurrence.packed.is_some() {
                member.meet();
            }
        }
        WORDS.set(words);
    }
}

thread_local! {
    /// Hidden states as words of bf16, before the product that they go into.
    static WORDS: RefCell<LeftWords> = const { RefCell::new(LeftWords::new()) };
}
