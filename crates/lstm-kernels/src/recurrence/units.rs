//! How units and columns are cut: into blocks as wide as vectors, into shares for the members of a team.

use std::ops::Range;

use super::cells::MOST_LANES;
use crate::product::share;
use crate::simd::{Kernel, Simd, dispatch};
use crate::team;
use crate::tile::PANEL;

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
pub(super) fn blocks(hidden: usize, lanes: usize) -> impl Iterator<Item = Block> + Clone {
    let (whole, rest) = (hidden / lanes, hidden % lanes);
    let (whole, rest) = if rest > 3 * lanes / 4 { (whole + 1, 0) } else { (whole, rest) };
    let half = rest > lanes / 4;
    let quarter = rest > if half { lanes / 2 } else { 0 };
    let tail = [(half, lanes / 2), (quarter, lanes / 4)].into_iter().filter(|(present, _)| *present);
    let widths = std::iter::repeat_n(lanes, whole).chain(tail.map(|(_, width)| width));
    widths.scan((0, 0), move |(unit, panel), width| {
        let block = Block { unit: *unit, width, panel: *panel };
        *unit += width;
        *panel += (4 * width).div_ceil(PANEL * lanes);
        Some(block)
    })
}

/// The vectors of columns of a block.
pub(super) fn vectors(block: Block, lanes: usize) -> usize {
    4 * block.width / lanes
}

/// The blocks a member owns.
pub(crate) struct OwnBlocks {
    /// At which block they begin, and how many they are.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Their units.
    pub(crate) units: Range<usize>,
}

pub(crate) fn own_blocks(hidden: usize, lanes: usize, parts: usize, part: usize) -> OwnBlocks {
    let all: usize = blocks(hidden, lanes).map(|block| vectors(block, lanes)).sum();
    // A block belongs to the part its middle lies in.
    let owner = |before: usize, block: Block| (2 * before + vectors(block, lanes)) * parts / (2 * all.max(1));
    let (mut own, mut before) = (OwnBlocks { first: 0, count: 0, units: 0..0 }, 0);
    for (index, block) in blocks(hidden, lanes).enumerate() {
        if owner(before, block) == part {
            if own.count == 0 {
                (own.first, own.units.start) = (index, block.unit);
            }
            own.count += 1;
            own.units.end = hidden.min(block.unit + block.width);
        }
        before += vectors(block, lanes);
    }
    own
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
            let meeting = if grid.units > 1 { 1000 } else { 0 };
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
    fn blocks_cover_the_units_once() {
        for lanes in [4, 8, 16] {
            for hidden in 1..100 {
                let list: Vec<Block> = blocks(hidden, lanes).collect();
                let mut unit = 0;
                for block in &list {
                    assert_eq!(block.unit, unit);
                    unit += block.width;
                }
                assert!(unit >= hidden && unit < hidden + lanes.div_ceil(4), "{hidden} units in {list:?}");
                for parts in 1..5 {
                    let own: Vec<OwnBlocks> = (0..parts).map(|part| own_blocks(hidden, lanes, parts, part)).collect();
                    assert_eq!(own.iter().map(|own| own.count).sum::<usize>(), list.len());
                    assert_eq!(own.iter().map(|own| own.units.len()).sum::<usize>(), hidden);
                }
            }
        }
    }
}
