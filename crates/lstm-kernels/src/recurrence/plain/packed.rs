//! The recurrent weights, laid out for the loops.

use super::units::{Block, Blocks};
use crate::gemm::arithmetic::{Format, format};
use crate::gemm::matrix::Source;
use crate::gemm::pack::{WORTH_A_THREAD, pack_columns, pack_vectors};
use crate::gemm::streamed::Grid;
use crate::gemm::tile::PANEL;
use crate::gemm::words::word_columns;
use crate::memory::Aligned;
use crate::recurrence::segment::{Recurrence, RecurrentWeights};
use crate::simd::{Kernel, Simd, dispatch, lanes};
use crate::team;
use crate::team::shared::Shared;

/// The recurrent weights, packed for one direction of the loop. The buffers are reused.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackedRecurrence {
    pub(super) recurrent: Aligned,
    pub(super) projection: Aligned,
    /// The shares of units the backward loop's panels are cut into.
    pub(super) units: usize,
    /// That of the products that were asked for when they were packed.
    pub(super) format: Format,
    /// The weights as words before they are cut into blocks.
    words: Aligned,
}

impl PackedRecurrence {
    /// Packs the weights for the forward loop.
    pub(crate) fn pack_forward(&mut self, recurrence: &Recurrence, weights: RecurrentWeights) {
        let (RecurrentWeights { weight_hh, weight_hr, .. }, hidden, recurrent) =
            (weights, recurrence.cell.hidden, recurrence.recurrent);
        (self.units, self.format) = (1, format());
        let Self { recurrent: packed, projection, format, words: buffer, .. } = self;
        match *format {
            Format::Values => pack_blocks(packed, &[(weight_hh, recurrent)], hidden),
            Format::Words(words) => {
                word_columns(buffer, words, weight_hh, recurrent, 4 * hidden);
                pack_blocks(packed, &[(buffer, words.len(recurrent))], hidden);
            }
        }
        if let Some(weight_hr) = weight_hr {
            let source = Source { data: weight_hr.as_ptr(), row: 1, column: hidden };
            pack_columns(projection, *format, source, (hidden, recurrent), 1);
        }
    }

    /// Packs the weights for the backward loop over the rows of `recurrence`.
    pub(crate) fn pack_backward(&mut self, recurrence: &Recurrence, weights: RecurrentWeights) {
        let (RecurrentWeights { weight_hh, weight_hr, .. }, hidden, recurrent) =
            (weights, recurrence.cell.hidden, recurrence.recurrent);
        self.units = Grid::choose(recurrence.batch, 4 * hidden, recurrent).columns;
        self.format = format();
        let Self { recurrent: packed, projection, units, format, .. } = self;
        let pack = |packed: &mut Aligned, weight: &[f32], depth: usize, columns: usize| {
            let source = Source { data: weight.as_ptr(), row: columns, column: 1 };
            pack_columns(packed, *format, source, (depth, columns), *units);
        };
        pack(packed, weight_hh, 4 * hidden, recurrent);
        if let Some(weight_hr) = weight_hr {
            pack(projection, weight_hr, recurrent, hidden);
        }
    }
}

/// Packs gate matrices `[4H, K]`, joined along K, in blocks of units: `[block][k][gate][unit]`.
pub(crate) fn pack_blocks(packed: &mut Aligned, parts: &[(&[f32], usize)], hidden: usize) {
    let depth: usize = parts.iter().map(|(_, k)| k).sum();
    parts.iter().for_each(|(weight, k)| assert_eq!(weight.len(), 4 * hidden * k, "a gate matrix is [4H, K]"));
    let lanes = lanes();
    let width = PANEL * lanes;
    let blocks = Blocks::new(hidden, lanes);
    packed.resize(blocks.at(blocks.len()).panel * depth * width);
    let shared = Shared::new(packed);
    team::for_each_on(4 * hidden * depth / WORTH_A_THREAD, blocks.len(), |index| {
        let block = blocks.at(index);
        let mut first = 0;
        for &(weight, k) in parts {
            // SAFETY: a block's panels are its own.
            unsafe { dispatch(PackBlock { weight, k, hidden, block, depth, first, packed: shared.at(0) }) };
            first += k;
        }
    });
}

/// One block of units of one gate matrix.
struct PackBlock<'a> {
    weight: &'a [f32],
    k: usize,
    hidden: usize,
    block: Block,
    depth: usize,
    first: usize,
    packed: *mut f32,
}

impl Kernel for PackBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weight, k, hidden, block, depth, first, packed } = self;
        let width = PANEL * S::LANES;
        let units = block.width.min(hidden - block.unit);
        for gate in 0..4 {
            let column = gate * block.width;
            let panel = block.panel + column / width;
            let to = packed.wrapping_add(panel * depth * width + first * width + column % width);
            let from = weight[(gate * hidden + block.unit) * k..].as_ptr();
            if block.width == S::LANES {
                let source = Source { data: from, row: 1, column: k };
                // SAFETY: `units` rows of K from `from` are inside the matrix; the vectors lie in the block's panels.
                unsafe { pack_vectors(simd, source, 0..k, units, to, width) };
                continue;
            }
            for unit in 0..block.width {
                for k_at in 0..k {
                    // SAFETY: as above.
                    unsafe {
                        *to.add(k_at * width + unit) = if unit < units { *from.add(unit * k + k_at) } else { 0.0 };
                    }
                }
            }
        }
    }
}
