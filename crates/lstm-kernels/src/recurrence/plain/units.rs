//! How units are cut: into blocks as wide as vectors, of which each member of a team has its share.

use std::ops::Range;

use crate::gemm::tile::PANEL;

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

#[cfg(test)]
mod tests {
    use super::*;

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
