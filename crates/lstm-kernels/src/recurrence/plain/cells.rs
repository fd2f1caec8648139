//! The cells of a step: the product of the hidden states with the recurrent weights, and the gates and states of its units.

use super::units::{Block, OwnBlocks};
use crate::gemm::arithmetic::Arithmetic;
use crate::gemm::matrix::{Initial, Out};
use crate::gemm::streamed::{Streamed, few_rows, streamed};
use crate::gemm::tile::{FEW_ROWS, PANEL};
use crate::ops::activation::{sigmoid, tanh};
use crate::simd::{Lane, MOST_LANES, Simd, for_vectors};

/// The most rows that go through a block of units before the next block: their pre-activations stay in the first-level
/// cache.
pub(crate) const ROWS: usize = 48;

/// The blocks of units that are computed before they are activated, for few rows.
const GROUP: usize = 4;

/// Pre-activations of a block, or of a group of blocks of few rows, on their way to the non-linearities.
#[repr(align(64))]
pub(crate) struct Scratch([f32; ROWS * 4 * MOST_LANES]);

impl Scratch {
    pub(crate) fn zero() -> Self {
        Self([0.0; ROWS * 4 * MOST_LANES])
    }
}

/// Where the gates and states of some rows lie: gates `[·, 4H]`, states `[·, H]`.
pub(crate) struct Cells {
    /// The input part of the pre-activations, and the values from one row to the next.
    pub(crate) pre: (*const f32, usize),
    pub(crate) gates: *mut f32,
    pub(crate) c_before: *const f32,
    pub(crate) c: *mut f32,
    pub(crate) tanh_c: *mut f32,
    /// `o ∘ tanh c`, and the values from one row to the next.
    pub(crate) h: (*mut f32, usize),
    pub(crate) hidden: usize,
}

impl<A: Arithmetic> Streamed<A> {
    /// The product, the non-linearities and the state update for some blocks of units.
    ///
    /// # Safety
    /// The factors and the arrays of `cells` are accessible for `rows` rows and those blocks, and nobody else writes there.
    #[inline(always)]
    pub(crate) unsafe fn cells<S: Simd>(&self, simd: S, own: &OwnBlocks, cells: &Cells, scratch: &mut Scratch) {
        let &Self { rows, left, weights, sweep, .. } = self;
        let width = PANEL * S::LANES;
        let OwnBlocks { blocks, own, .. } = own;
        let scratch = scratch.0.as_mut_ptr();
        // SAFETY: the scratch holds the blocks of a group of few rows, or one block of `ROWS` rows; the rest as the
        // caller promises.
        unsafe {
            if rows <= FEW_ROWS && !A::TILES {
                for group in sweep.order(0..own.len().div_ceil(GROUP)) {
                    let first = own.start + group * GROUP;
                    let group = first..own.end.min(first + GROUP);
                    let begin = blocks.at(first).panel;
                    let panels = blocks.at(group.end).panel - begin;
                    let out = Out { data: scratch, row: panels * width, initial: Initial::Zero };
                    few_rows::<S, A>(simd, rows, panels, left, weights.skip(simd, begin), out);
                    for block in group.clone().map(|index| blocks.at(index)) {
                        let scratch = scratch.add((block.panel - begin) * width);
                        cell_states(simd, rows, block, scratch, panels * width, cells);
                    }
                    for index in group {
                        hidden_states(simd, rows, blocks.at(index), cells);
                    }
                }
                return;
            }
            for index in sweep.order(own.clone()) {
                let block = blocks.at(index);
                let columns = 4 * block.width;
                let panels = columns.div_ceil(width);
                for panel in 0..panels {
                    let at = |panel: usize| weights.row(simd, panel, 0);
                    let next = if panel + 1 < panels {
                        at(block.panel + panel + 1)
                    } else {
                        at(blocks.at(sweep.after(index, own)).panel)
                    };
                    let own_panel = at(block.panel + panel);
                    let out = Out { data: scratch.add(panel * width), row: columns, initial: Initial::Zero };
                    streamed::<S, A>(simd, rows, weights.depth(), columns.min(width), left, (own_panel, next), out);
                }
                cell_states(simd, rows, block, scratch, columns, cells);
                hidden_states(simd, rows, block, cells);
            }
        }
    }
}

/// The gates and the cell state of one block of units. sums: `[rows, stride]`, the recurrent part of the pre-activations.
#[inline(always)]
unsafe fn cell_states<S: Simd>(simd: S, rows: usize, block: Block, sums: *const f32, stride: usize, cells: &Cells) {
    let (Block { unit, width, .. }, hidden) = (block, cells.hidden);
    for_vectors!(S, width.min(hidden - unit), |_first, lanes| {
        for row in 0..rows {
            // SAFETY: as the caller promises; the block is no wider than a vector.
            unsafe {
                let gates = cells.gates.add(row * 4 * hidden + unit);
                let from = cells.pre.0.add(row * cells.pre.1 + unit);
                let sums = sums.add(row * stride);
                let pre = |gate: usize| {
                    simd.add(lanes.load(simd, from.add(gate * hidden)), lanes.load(simd, sums.add(gate * width)))
                };
                let (i, f, o) = (sigmoid(simd, pre(0)), sigmoid(simd, pre(1)), sigmoid(simd, pre(3)));
                let g = tanh(simd, pre(2));
                let at = row * hidden + unit;
                let c = simd.mul_add(f, lanes.load(simd, cells.c_before.add(at)), simd.mul(i, g));
                for (gate, value) in [i, f, g, o].into_iter().enumerate() {
                    lanes.store(simd, gates.add(gate * hidden), value);
                }
                lanes.store(simd, cells.c.add(at), c);
            }
        }
    });
}

/// The hidden states of one block of units, `o ∘ tanh c`. They are one chain from end to end: a loop apart from that of
/// [`cell_states`], so that the chains of several rows or blocks run side by side.
#[inline(always)]
unsafe fn hidden_states<S: Simd>(simd: S, rows: usize, block: Block, cells: &Cells) {
    let (Block { unit, width, .. }, hidden) = (block, cells.hidden);
    for_vectors!(S, width.min(hidden - unit), |_first, lanes| {
        for row in 0..rows {
            // SAFETY: as the caller promises; the block is no wider than a vector.
            unsafe {
                let at = row * hidden + unit;
                let tanh_c = tanh(simd, lanes.load(simd, cells.c.add(at)));
                let o = lanes.load(simd, cells.gates.add((4 * row + 3) * hidden + unit));
                lanes.store(simd, cells.tanh_c.add(at), tanh_c);
                lanes.store(simd, cells.h.0.add(row * cells.h.1 + unit), simd.mul(o, tanh_c));
            }
        }
    });
}
