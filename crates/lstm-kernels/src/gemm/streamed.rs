//! Products whose right factor streams: weights that are packed once and met at every step, from the second-level cache or
//! beyond, by too few rows to hide it. How members of a team share such a product.

use std::marker::PhantomData;
use std::ops::Range;

use crate::gemm::arithmetic::Arithmetic;
use crate::gemm::matrix::{Initial, Out, Source};
use crate::gemm::pack::Panels;
use crate::gemm::tile::{self, Ahead, FEW_ROWS, PANEL, Rows};
use crate::simd::{MOST_LANES, Simd, TILE_WORDS};
use crate::team;
use crate::team::chunks::share;

/// The most words of k of a panel that rows go through before its next k: 128 KiB.
const DEPTH: usize = 1024;

/// A product whose right factor streams: left `[rows, depth]` · weights `[depth, ·]`.
pub(crate) struct Streamed<A> {
    pub(crate) rows: usize,
    pub(crate) left: Source,
    pub(crate) weights: Panels,
    /// In which order they are passed; the columns of few rows take no notice of it.
    pub(crate) sweep: Sweep,
    of: PhantomData<A>,
}

impl<A: Arithmetic> Streamed<A> {
    /// The product of so many rows; K is that of the weights.
    #[inline(always)]
    pub(crate) fn new(rows: usize, left: Source, weights: Panels, sweep: Sweep) -> Self {
        Self { rows, left, weights, sweep, of: PhantomData }
    }

    /// out `[rows, columns]` = the product, for a range of columns that begins with a whole vector; `out` begins at the
    /// first of them.
    ///
    /// # Safety
    /// The factors are readable and `out` is writable for `rows` rows and those columns, and nobody else writes there.
    #[inline(always)]
    pub(crate) unsafe fn columns<S: Simd>(&self, simd: S, columns: Range<usize>, out: Out) {
        let &Self { rows, left, weights, sweep, .. } = self;
        let width = PANEL * S::LANES;
        let mut first = columns.start;
        if rows <= FEW_ROWS && first.is_multiple_of(width) && !A::TILES {
            let whole = columns.len() / width;
            // SAFETY: whole panels, as the caller promises.
            unsafe {
                few_rows::<S, A>(simd, rows, whole, left, weights.skip(simd, first / width), out);
            }
            first += whole * width;
        }
        let range = first / width..columns.end.div_ceil(width).max(first / width);
        for index in sweep.order(range.clone()) {
            // A share may begin in the middle of a panel.
            let from = first.max(index * width);
            let count = ((index + 1) * width).min(columns.end) - from;
            // SAFETY: vectors inside the panel, as the caller promises; two of them only from its beginning.
            unsafe {
                let panel = weights.row(simd, index, 0).add(from - index * width);
                let next = weights.row(simd, sweep.after(index, &range), 0);
                streamed::<S, A>(
                    simd,
                    rows,
                    weights.depth(),
                    count,
                    left,
                    (panel, next),
                    out.at(0, from - columns.start),
                );
            }
        }
    }
}

/// One panel of weights that streams from the second-level cache or beyond, and the panel after it: as many k at a time
/// as stay near until the last rows have met them, while the next ones are on their way.
///
/// # Safety
/// As for [`tile::panel`], whose panels follow each other.
#[inline(always)]
pub(crate) unsafe fn streamed<S: Simd, A: Arithmetic>(
    simd: S,
    rows: usize,
    depth: usize,
    columns: usize,
    left: Source,
    (panel, next): (*const f32, *const f32),
    mut out: Out,
) {
    let blocks = depth.div_ceil(DEPTH).max(1);
    // Tiles take whole groups of words.
    let group = if A::TILES { TILE_WORDS } else { 1 };
    for block in 0..blocks {
        let groups = share(depth / group, blocks, block);
        let ks = groups.start * group..groups.end * group;
        // SAFETY: as the caller promises.
        unsafe {
            let at = |k: usize| panel.add(k * PANEL * S::LANES);
            let next = Ahead::Stream(if ks.end < depth { at(ks.end) } else { next });
            let left = Rows::Strided(left.at(0, ks.start));
            tile::panel::<S, A>(simd, rows, ks.len(), columns, left, at(ks.start), out, next);
        }
        out.initial = Initial::Out;
    }
}

/// As [`streamed`], for few rows and several panels.
///
/// # Safety
/// As for [`tile::few_rows`].
#[inline(always)]
pub(crate) unsafe fn few_rows<S: Simd, A: Arithmetic>(
    simd: S,
    rows: usize,
    panels: usize,
    left: Source,
    weights: Panels,
    mut out: Out,
) {
    // The blocks of k are those of more rows: members of other teams have other numbers of rows.
    let depth = weights.depth();
    let blocks = depth.div_ceil(DEPTH).max(1);
    for block in 0..blocks {
        let ks = share(depth, blocks, block);
        // SAFETY: as the caller promises.
        unsafe {
            let weights = (weights.row(simd, 0, ks.start), weights.stride(simd));
            tile::few_rows::<S, A>(simd, rows, ks.len(), panels, left.at(0, ks.start), weights, out);
        }
        out.initial = Initial::Out;
    }
}

/// The order in which weights are passed that are passed at every step: there and back, so that a step begins with what
/// the caches still have of the last one, where always from the first to the last would find none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sweep {
    Up,
    Down,
}

impl Sweep {
    /// That of the `pass`-th pass over the same weights.
    pub(crate) fn of_pass(pass: usize) -> Self {
        if pass.is_multiple_of(2) { Self::Up } else { Self::Down }
    }

    /// The indices in this order.
    #[inline(always)]
    pub(crate) fn order(self, range: Range<usize>) -> impl Iterator<Item = usize> {
        range.clone().map(move |index| if self == Self::Up { index } else { range.start + range.end - 1 - index })
    }

    /// The index that comes after `index`; the last again where the next sweep begins with it.
    #[inline(always)]
    pub(crate) fn after(self, index: usize, range: &Range<usize>) -> usize {
        if self == Self::Up { (index + 1).min(range.end - 1) } else { index.saturating_sub(1).max(range.start) }
    }
}

/// How members share a product: `rows · columns` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
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
            let columns = columns.div_ceil(MOST_LANES).div_ceil(grid.columns) * MOST_LANES;
            // One tile alone waits for the weights that a second one finds in the first-level cache.
            let alone = if rows <= 12 { 11 } else { 10 };
            let compute = rows.max(4) * depth * columns / 320 * alone;
            let bytes = 4 * depth * columns;
            let read = if bytes > 700 << 10 { bytes / 12 } else { bytes / 40 };
            let meeting = if grid.columns > 1 { 900 } else { 0 };
            // A segment's start, over some steps.
            let team = if grid.rows * grid.columns > 1 { 400 } else { 0 };
            compute.max(read) + meeting + team
        };
        let threads = team::threads();
        let rows = (1..=threads.min(batch.max(1))).map(|rows| Grid { rows, columns: threads / rows });
        let grids = std::iter::once(Grid { rows: 1, columns: 1 }).chain(rows);
        grids.min_by_key(cost).unwrap_or(Grid { rows: 1, columns: 1 })
    }

    pub(crate) fn members(self) -> usize {
        self.rows * self.columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_go_there_and_back() {
        let passes = [0, 1, 2].map(Sweep::of_pass);
        let order: Vec<Vec<usize>> = passes.iter().map(|pass| pass.order(3..6).collect()).collect();
        assert_eq!(order, [[3, 4, 5], [5, 4, 3], [3, 4, 5]]);
        for (pass, order) in passes.iter().zip(order) {
            let after: Vec<usize> = order.iter().map(|index| pass.after(*index, &(3..6))).collect();
            assert_eq!(after, [order[1], order[2], order[2]]);
        }
    }
}
