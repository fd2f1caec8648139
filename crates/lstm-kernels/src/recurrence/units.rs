//! How units and columns are cut: into blocks as wide as vectors, into shares for the members of a team.

use std::ops::Range;

use super::cells::MOST_LANES;
use crate::gemm::product::share;
use crate::gemm::tile::PANEL;
use crate::simd::{Kernel, Simd, dispatch};
use crate::team;

/// Consecutive units whose four gates are packed side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The first unit.
    pub(super) unit: usize,
    /// The units it has room for: a vector's lanes, a half or a quarter of them.
    pub(super) width: usize,
    /// The panels before it.
    pub(super) panel: usize,
}

/// The blocks of `hidden` units: whole vectors, then a half and a quarter as the rest needs them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    lanes: usize,
    whole: usize,
    half: bool,
    quarter: bool,
}

impl Blocks {
    pub(super) fn new(hidden: usize, lanes: usize) -> Self {
        let (whole, rest) = (hidden / lanes, hidden % lanes);
        let (whole, rest) = if rest > 3 * lanes / 4 { (whole + 1, 0) } else { (whole, rest) };
        let half = rest > lanes / 4;
        let quarter = rest > if half { lanes / 2 } else { 0 };
        Self { lanes, whole, half, quarter }
    }

    pub(super) fn len(self) -> usize {
        self.whole + usize::from(self.half) + usize::from(self.quarter)
    }

    /// The `index`-th block; with their number for an index, where one more would begin.
    #[inline(always)]
    pub(super) fn at(self, index: usize) -> Block {
        let Self { lanes, whole, half, .. } = self;
        let after = index.saturating_sub(whole);
        let width = match (after, half) {
            (0, _) if index < whole => lanes,
            (0, true) => lanes / 2,
            _ => lanes / 4,
        };
        // A half fills a panel of two vectors, a quarter begins one.
        let before =
            if after > 0 && half { lanes / 2 } else { 0 } + if after > usize::from(half) { lanes / 4 } else { 0 };
        Block { unit: index.min(whole) * lanes + before, width, panel: index.min(whole) * (4 / PANEL) + after }
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Block> {
        (0..self.len()).map(move |index| self.at(index))
    }
}

/// The vectors of columns of a block.
pub(super) fn vectors(block: Block, lanes: usize) -> usize {
    4 * block.width / lanes
}

/// The blocks a member owns.
pub(crate) struct OwnBlocks {
    /// All blocks, and which of them.
    pub(super) blocks: Blocks,
    pub(super) own: Range<usize>,
    /// Their units.
    pub(crate) units: Range<usize>,
}

pub(crate) fn own_blocks(hidden: usize, lanes: usize, parts: usize, part: usize) -> OwnBlocks {
    let blocks = Blocks::new(hidden, lanes);
    let all: usize = blocks.iter().map(|block| vectors(block, lanes)).sum();
    // A block belongs to the part its middle lies in.
    let owner = |before: usize, block: Block| (2 * before + vectors(block, lanes)) * parts / (2 * all.max(1));
    let (mut own, mut units, mut before) = (0..0, 0..0, 0);
    for (index, block) in blocks.iter().enumerate() {
        if owner(before, block) == part {
            if own.is_empty() {
                (own.start, units.start) = (index, block.unit);
            }
            own.end = index + 1;
            units.end = hidden.min(block.unit + block.width);
        }
        before += vectors(block, lanes);
    }
    OwnBlocks { blocks, own, units }
}

/// In which order weights are passed that are passed at every step: there and back, so that a step begins with what the caches hold
/// of the last one, where always from the first to the last would find none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sweep {
    Up,
    Down,
}

impl Sweep {
    /// That of the `pass`-th pass over the same weights.
    pub(super) fn of(pass: usize) -> Self {
        if pass.is_multiple_of(2) { Self::Up } else { Self::Down }
    }

    /// The indices in this order.
    #[inline(always)]
    pub(super) fn over(self, range: Range<usize>) -> impl Iterator<Item = usize> {
        range.clone().map(move |index| if self == Self::Up { index } else { range.start + range.end - 1 - index })
    }

    /// The index that comes after `index`; the last again where the next sweep begins with it.
    #[inline(always)]
    pub(super) fn after(self, index: usize, range: &Range<usize>) -> usize {
        if self == Self::Up { (index + 1).min(range.end - 1) } else { index.saturating_sub(1).max(range.start) }
    }
}

/// The columns that the `part`-th of `parts` members owns: whole vectors, but for the last.
pub(crate) fn column_share(columns: usize, parts: usize, part: usize) -> Range<usize> {
    let lanes = dispatch(Lanes);
    let vectors = share(columns.div_ceil(lanes), parts, part);
    columns.min(vectors.start * lanes)..columns.min(vectors.end * lanes)
}

/// The number of lanes of a vector.
pub(super) struct Lanes;

impl Kernel for Lanes {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::LANES
    }
}

/// The panels before those of a part, when shares of columns are packed one after the other.
#[inline(always)]
pub(super) fn panels_before(columns: usize, parts: usize, part: usize, width: usize) -> usize {
    (0..part).map(|part| column_share(columns, parts, part).len().div_ceil(width)).sum()
}

/// How members share a step: `rows · units` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) rows: usize,
    pub(crate) units: usize,
}

impl Grid {
    /// The grid that takes least time for steps of `batch` rows, products `[depth] · [depth, columns]` and the current
    /// number of threads. Only speed depends on it.
    pub(crate) fn choose(batch: usize, depth: usize, columns: usize) -> Self {
        // In cycles: what a core computes, what it reads of weights (from its second-level cache or beyond), what a
        // meeting costs. Rows go in tiles of at most 12; fewer than 4 rows take as long as 4.
        let cost = |grid: &Grid| {
            let rows = batch.div_ceil(grid.rows);
            // Shares are whole vectors, here of the widest.
            let columns = columns.div_ceil(MOST_LANES).div_ceil(grid.units) * MOST_LANES;
            // One tile alone waits for the weights that a second one finds in the first-level cache.
            let alone = if rows <= 12 { 11 } else { 10 };
            let compute = rows.max(4) * depth * columns / 320 * alone;
            let bytes = 4 * depth * columns;
            let read = if bytes > 700 << 10 { bytes / 12 } else { bytes / 40 };
            let meeting = if grid.units > 1 { 300 } else { 0 };
            // A segment's start, over some steps.
            let team = if grid.rows * grid.units > 1 { 400 } else { 0 };
            compute.max(read) + meeting + team
        };
        let threads = team::threads();
        let rows = (1..=threads.min(batch.max(1))).map(|rows| Grid { rows, units: threads / rows });
        let grids = std::iter::once(Grid { rows: 1, units: 1 }).chain(rows);
        grids.min_by_key(cost).unwrap_or(Grid { rows: 1, units: 1 })
    }

    pub(crate) fn members(self) -> usize {
        self.rows * self.units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_go_there_and_back() {
        let passes = [0, 1, 2].map(Sweep::of);
        let over: Vec<Vec<usize>> = passes.iter().map(|pass| pass.over(3..6).collect()).collect();
        assert_eq!(over, [[3, 4, 5], [5, 4, 3], [3, 4, 5]]);
        for (pass, over) in passes.iter().zip(over) {
            let after: Vec<usize> = over.iter().map(|index| pass.after(*index, &(3..6))).collect();
            assert_eq!(after, [over[1], over[2], over[2]]);
        }
    }

    #[test]
    fn blocks_cover_the_units_once() {
        for lanes in [4, 8, 16] {
            for hidden in 1..100 {
                let list: Vec<Block> = Blocks::new(hidden, lanes).iter().collect();
                let (mut unit, mut panel) = (0, 0);
                for block in &list {
                    assert_eq!((block.unit, block.panel), (unit, panel));
                    unit += block.width;
                    panel += vectors(*block, lanes).div_ceil(PANEL);
                }
                assert_eq!(Blocks::new(hidden, lanes).at(list.len()).panel, panel);
                assert!(unit >= hidden && unit < hidden + lanes.div_ceil(4), "{hidden} units in {list:?}");
                for parts in 1..5 {
                    let own: Vec<OwnBlocks> = (0..parts).map(|part| own_blocks(hidden, lanes, parts, part)).collect();
                    assert_eq!(own.iter().map(|own| own.own.len()).sum::<usize>(), list.len());
                    assert_eq!(own.iter().map(|own| own.units.len()).sum::<usize>(), hidden);
                }
            }
        }
    }
}
