//! The run of a step: every member of a team takes its share of each phase, and all meet before anyone reads what another
//! wrote.

use std::sync::Arc;

use super::phase::{Buffer, Columns, Phase};
use crate::gemm::arithmetic::Values;
use crate::gemm::matrix::{Initial, Out, Source};
use crate::gemm::narrow::NarrowFactor;
use crate::gemm::pack::{Panels, column_share};
use crate::gemm::streamed::{Streamed, Sweep};
use crate::memory::Aligned;
use crate::ops::activation::Tanh;
use crate::ops::normalise::NormaliseRow;
use crate::recurrence::plain::{Cells, ROWS, Scratch, own_blocks};
use crate::recurrence::variant::{Blend, CellRow, Gate, NormRow, Zoneout, cell_row};
use crate::simd::{Kernel, Simd};
use crate::team::Member;
use crate::team::chunks::share;
use crate::team::shared::Shared;

/// A plan at work.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) buffers: &'a [Buffer],
    pub(super) packed: &'a [Arc<Aligned>],
    pub(super) narrow: &'a [Arc<NarrowFactor>],
    /// The first row, the number of rows, and the phases that are run for them.
    pub(super) phases: [(usize, usize, &'a [Phase]); 2],
    pub(super) values: Shared,
}

pub(super) struct Step<'a> {
    pub(super) plan: Plan<'a>,
    pub(super) member: &'a Member<'a>,
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { plan: Plan { buffers, packed, narrow, phases, values }, member } = self;
        let mut scratch = Scratch::zero();
        let phases = phases.into_iter().filter(|(_, rows, _)| *rows > 0);
        let phases = phases.flat_map(|(first, rows, phases)| phases.iter().map(move |phase| (first, rows, phase)));
        for (first_row, batch, phase) in phases {
            // SAFETY: columns were checked when the plan was made; each member writes its own units, columns or rows,
            // and all meet before anyone reads what another wrote.
            unsafe {
                let stride = |columns: &Columns| buffers[columns.buffer].width;
                // Rows count from the first that the phase is run for.
                let at = |columns: &Columns, row: usize| {
                    let buffer = &buffers[columns.buffer];
                    let row = if buffer.shared { row } else { first_row + row };
                    values.at(buffer.offset + row * buffer.width + columns.first)
                };
                match phase {
                    Phase::Cells { packed: weights, bias, joined, gates, c, tanh_c, out } => {
                        let own = own_blocks(c.width, S::LANES, member.count, member.index);
                        let weights = Panels::new(&packed[*weights], joined.width);
                        let mut row = 0;
                        while row < batch {
                            let rows = ROWS.min(batch - row);
                            let cells = Cells {
                                pre: (at(bias, 0), 0),
                                gates: at(gates, row),
                                c_before: at(c, row),
                                c: at(c, row),
                                tanh_c: at(tanh_c, row),
                                h: (at(out, row), stride(out)),
                                hidden: c.width,
                            };
                            let left = Source { data: at(joined, row), row: stride(joined), column: 1 };
                            let product = Streamed::<Values>::new(rows, left, weights, Sweep::Up);
                            product.cells(simd, &own, &cells, &mut scratch);
                            row += rows;
                        }
                    }
                    Phase::Linear { packed: weights, bias, input, out, parts } => {
                        let columns = column_share(out.width / parts, member.count, member.index);
                        let first = columns.start;
                        let initial =
                            bias.map_or(Initial::Zero, |bias| Initial::Bias(at(&bias, 0).add(first).cast_const()));
                        let out = Out { data: at(out, 0).add(first), row: stride(out) / parts, initial };
                        let left = Source { data: at(input, 0), row: stride(input) / parts, column: 1 };
                        let weights = Panels::new(&packed[*weights], input.width / parts);
                        let (rows, sweep) = (batch * parts, Sweep::Up);
                        let product = Streamed::<Values>::new(rows, left, weights, sweep);
                        product.columns(simd, columns, out);
                    }
                    Phase::Narrow { factor, bias, added, input, out, parts } => {
                        let initial = match bias {
                            Some(bias) => Initial::Bias(at(bias, 0).cast_const()),
                            None if *added => Initial::Out,
                            None => Initial::Zero,
                        };
                        let out = Out { data: at(out, 0), row: stride(out) / parts, initial };
                        let left = Source { data: at(input, 0), row: stride(input) / parts, column: 1 };
                        narrow[*factor].product(simd, batch * parts, left, out, (member.count, member.index));
                    }
                    Phase::Tanh { values } => {
                        for row in share(batch, member.count, member.index) {
                            let values = std::slice::from_raw_parts_mut(at(values, row), values.width);
                            Tanh { values }.run(simd);
                        }
                    }
                    Phase::Variant { parameters, form, gates, norm, c_before, c, tanh_c, out } => {
                        let cell = form.cell(&packed[*parameters]);
                        for row in share(batch, member.count, member.index) {
                            // Nothing reads the scales without a backward pass.
                            let mut scales = [0.0; 2];
                            let [sum_scale, cell_scale] = &mut scales;
                            let norm = norm.as_ref().map(|(sums, cells)| NormRow {
                                sums: at(sums, row),
                                sum_scale,
                                cells: at(cells, row),
                                cell_scale,
                            });
                            let row = CellRow {
                                gates: at(gates, row),
                                c_before: at(c_before, row),
                                c: at(c, row),
                                tanh_c: at(tanh_c, row),
                                h: at(out, row),
                                norm,
                            };
                            cell_row(simd, &cell, row);
                        }
                    }
                    Phase::Normalise { parameters, values } => {
                        let (gain, bias) = packed[*parameters].split_at(values.width);
                        for row in share(batch, member.count, member.index) {
                            let (mut scale, values) = (0.0, at(values, row));
                            let row = NormaliseRow { values, normalised: values, scale: &raw mut scale, gain, bias };
                            row.run(simd);
                        }
                    }
                    Phase::Gate { sums, values } => {
                        for row in share(batch, member.count, member.index) {
                            let (gates, values) = (at(sums, row), at(values, row));
                            Gate { gates, changed: values, values, len: sums.width }.run(simd);
                        }
                    }
                    Phase::Blend { values, before, rate } => {
                        for row in share(batch, member.count, member.index) {
                            let (to, before) = (at(values, row), at(before, row));
                            let zoneout = Zoneout::Rate(*rate);
                            Blend { values: to, before, len: values.width, zoneout, first: 0 }.run(simd);
                        }
                    }
                    Phase::Clamp { values, settings } => {
                        for row in share(batch, member.count, member.index) {
                            let (to, settings) = (at(values, row), at(settings, row));
                            for i in 0..values.width {
                                let setting = *settings.add(i);
                                if !setting.is_nan() {
                                    *to.add(i) = setting;
                                }
                            }
                        }
                    }
                    Phase::Sum { a, b, out } => {
                        for row in share(batch, member.count, member.index) {
                            let (a, b, to) = (at(a, row), at(b, row), at(out, row));
                            (0..out.width).for_each(|i| *to.add(i) = *a.add(i) + *b.add(i));
                        }
                    }
                    Phase::Copy { from, to, .. } => {
                        for row in share(batch, member.count, member.index) {
                            std::ptr::copy(at(from, row), at(to, row), from.width);
                        }
                    }
                }
            }
            if !matches!(phase, Phase::Copy { later: true, .. }) {
                member.meet();
            }
        }
    }
}
