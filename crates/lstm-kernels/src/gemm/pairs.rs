//! Factors of bf16 in pairs: a word of 32 bits holds the values of k and k + 1, the even one in its low half. A product of
//! words is then what a product of values is, at half the depth: the same panels, tiles and loops, with
//! [`Simd::dot_pairs`] for a multiply-add.
//!
//! Values are rounded to the nearest bf16, ties to even, subnormal ones to zero, as the instructions do. Past an odd K the
//! other half is zero.

use std::ops::Range;

use crate::gemm::arithmetic::{Arithmetic, Pairs, Values};
use crate::gemm::matrix::Source;
use crate::gemm::tile::{PANEL, tile_rows};
use crate::memory::{Aligned, LINE};
use crate::simd::{Kernel, MOST_LANES, Simd, dispatch_pairs};
use crate::team;
use crate::team::shared::Shared;

/// A square of words on its way to being transposed.
#[repr(align(64))]
struct Square([f32; MOST_LANES * MOST_LANES]);

/// Packs rows `ks` and columns `columns` of `source`, one of whose strides is 1, as one panel of words
/// `[k / 2][PANEL · lanes]`, zero past the columns.
///
/// # Safety
/// `source` is readable there; `panel` is writable for `ks.len() / 2` rows of a panel, rounded up; `columns` fit a panel.
#[inline(always)]
pub(crate) unsafe fn pair_panel<S: Simd>(
    simd: S,
    source: Source,
    ks: Range<usize>,
    columns: Range<usize>,
    panel: *mut f32,
) {
    let source = source.at(ks.start, columns.start);
    simd.call(Panel { source, depth: ks.len(), columns: columns.len(), panel, width: PANEL * S::LANES });
}

/// A panel to pack: the first `depth` rows and `columns` columns of `source`, `width` words a row.
struct Panel {
    source: Source,
    depth: usize,
    columns: usize,
    panel: *mut f32,
    width: usize,
}

impl Kernel for Panel {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { source, depth, columns, panel, width } = self;
        let words = depth.div_ceil(2);
        for first in (0..width).step_by(S::LANES) {
            let count = columns.saturating_sub(first).min(S::LANES);
            let from = source.data.wrapping_add(first * source.column);
            let to = panel.wrapping_add(first);
            if source.column == 1 {
                // SAFETY: rows below `depth` of `columns` values are readable, as the caller of `pair_panel` promises.
                let row = |k: usize| unsafe {
                    match k < depth {
                        true if count == S::LANES => simd.load(from.add(k * source.row)),
                        true => simd.load_first(from.wrapping_add(k * source.row), count),
                        false => simd.splat(0.0),
                    }
                };
                for word in 0..words {
                    // SAFETY: the panel holds `words` rows of `width` words, as the caller promises.
                    unsafe { simd.store(to.add(word * width), simd.pair(row(2 * word), row(2 * word + 1))) };
                }
                continue;
            }
            // Along k: squares of words are transposed in registers.
            let (mut square, mut turned) = (Square([0.0; 256]), Square([0.0; 256]));
            for word in (0..words).step_by(S::LANES) {
                let rest = depth - 2 * word;
                for lane in 0..count {
                    // SAFETY: column `first + lane` has `rest` values from row `2 * word` on; a square has a row a lane.
                    unsafe {
                        let at = from.add(2 * word + lane * source.column);
                        let words = pair_of(simd, at, rest);
                        simd.store(square.0.as_mut_ptr().add(lane * S::LANES), words);
                    }
                }
                // SAFETY: rows up to `words` of the panel are written, of `width` words, as the caller promises.
                unsafe {
                    if word + S::LANES <= words {
                        simd.transpose(square.0.as_ptr(), S::LANES, to.add(word * width), width);
                        continue;
                    }
                    simd.transpose(square.0.as_ptr(), S::LANES, turned.0.as_mut_ptr(), S::LANES);
                    for last in 0..words - word {
                        let row = simd.load(turned.0.as_ptr().add(last * S::LANES));
                        simd.store(to.add((word + last) * width), row);
                    }
                }
            }
        }
    }
}

/// The words of the first `rest` values at `at`, as many as a vector has.
#[inline(always)]
unsafe fn pair_of<S: Simd>(simd: S, at: *const f32, rest: usize) -> S::V {
    // SAFETY: `rest` values are readable, as the caller promises.
    unsafe {
        if rest >= 2 * S::LANES {
            simd.pair_along(simd.load(at), simd.load(at.add(S::LANES)))
        } else {
            let second = rest.saturating_sub(S::LANES);
            let high = simd.load_first(at.wrapping_add(S::LANES), second);
            simd.pair_along(simd.load_first(at, rest.min(S::LANES)), high)
        }
    }
}

/// Packs a row of `len` values along k as words, `len / 2` of them, rounded up.
///
/// # Safety
/// `from` and `to` are accessible for so many.
#[inline(always)]
pub(crate) unsafe fn pair_row<S: Simd>(simd: S, from: *const f32, len: usize, to: *mut f32) {
    let words = len.div_ceil(2);
    for word in (0..words).step_by(S::LANES) {
        // SAFETY: as the caller promises.
        unsafe {
            let pairs = pair_of(simd, from.add(2 * word), len - 2 * word);
            match words - word {
                rest if rest >= S::LANES => simd.store(to.add(word), pairs),
                rest => simd.store_first(to.add(word), rest, pairs),
            }
        }
    }
}

/// Packs `rows` rows of a left factor `[rows, depth]` that lies along k, as words at a stride.
///
/// # Safety
/// As for [`pair_row`], for every row.
#[inline(always)]
pub(crate) unsafe fn pair_rows<S: Simd>(simd: S, left: Source, rows: usize, depth: usize, to: *mut f32, stride: usize) {
    for row in 0..rows {
        // SAFETY: as the caller promises.
        unsafe { pair_row(simd, left.at(row, 0).data, depth, to.add(row * stride)) };
    }
}

/// Packs `rows` rows of a left factor that is contiguous along its rows' direction, as words in tiles
/// `[tile][k / 2][rows of the tile]`. The value at (r, k) is `from[r + k · stride]`.
///
/// # Safety
/// `from` is readable there, `to` writable for `rows · depth / 2` words, rounded up.
#[inline(always)]
pub(crate) unsafe fn pair_tiles<S: Simd>(
    simd: S,
    from: *const f32,
    stride: usize,
    rows: usize,
    depth: usize,
    to: *mut f32,
) {
    let words = depth.div_ceil(2);
    for word in 0..words {
        let mut first = 0;
        while first < rows {
            let tile = tile_rows(rows - first, S::TILE_ROWS);
            let to = to.wrapping_add(first * words + word * tile);
            for lane in (0..tile).step_by(S::LANES) {
                let (at, count) = (first + lane, (tile - lane).min(S::LANES));
                // SAFETY: rows below `rows`, k below `depth`; the words of this tile at this k.
                unsafe {
                    let row = |k: usize| match k < depth {
                        true => simd.load_first(from.wrapping_add(at + k * stride), count),
                        false => simd.splat(0.0),
                    };
                    simd.store_first(to.add(lane), count, simd.pair(row(2 * word), row(2 * word + 1)));
                }
            }
            first += tile;
        }
    }
}

/// The rows of a left factor as words, reused from product to product.
#[derive(Debug, Default)]
pub(crate) struct LeftWords(Aligned);

impl LeftWords {
    pub(crate) const fn new() -> Self {
        Self(Aligned::new())
    }

    /// The rows of `left`, `[rows, depth]`, which lies along k.
    ///
    /// # Safety
    /// They are readable.
    #[inline(always)]
    pub(crate) unsafe fn rows<S: Simd>(&mut self, simd: S, left: Source, rows: usize, depth: usize) -> Source {
        // Whole lines, an odd number of them: rows at a power of two would share few sets of a cache.
        let stride = (depth.div_ceil(2).div_ceil(LINE) | 1) * LINE;
        let to = self.0.at_least(rows * stride);
        // SAFETY: as the caller promises; the buffer was just grown.
        unsafe { pair_rows(simd, left, rows, depth, to, stride) };
        Source { data: to, row: stride, column: 1 }
    }
}

/// How products of an arithmetic take a left factor that lies along k.
pub(crate) trait LeftFactor: Arithmetic {
    /// The rows of `left`, `[rows, depth]`, as words: where they lie, or in `words`.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn rows<S: Simd>(simd: S, words: &mut LeftWords, left: Source, rows: usize, depth: usize) -> Source;
}

impl LeftFactor for Values {
    #[inline(always)]
    unsafe fn rows<S: Simd>(_: S, _: &mut LeftWords, left: Source, _: usize, _: usize) -> Source {
        left
    }
}

impl LeftFactor for Pairs {
    #[inline(always)]
    unsafe fn rows<S: Simd>(simd: S, words: &mut LeftWords, left: Source, rows: usize, depth: usize) -> Source {
        // SAFETY: as the caller promises.
        unsafe { words.rows(simd, left, rows, depth) }
    }
}

/// The words of a right factor `[depth, columns]`, as a matrix of words of its own: `[columns, depth / 2]` where the factor lies
/// along k (at `row` 1), else `[depth / 2, columns]`. Gives where they lie, as a source of words.
pub(crate) fn pair_factor(words: &mut Aligned, source: Source, depth: usize, columns: usize) -> Source {
    let half = depth.div_ceil(2);
    words.resize(half * columns);
    let to = Shared::new(words);
    if source.row == 1 {
        team::for_each(columns.div_ceil(TOGETHER), |group| {
            let own = group * TOGETHER..columns.min((group + 1) * TOGETHER);
            // SAFETY: columns of the factor, each with its words.
            let to = unsafe { to.at(own.start * half) };
            let left = Source { row: source.column, column: 1, ..source.at(0, own.start) };
            dispatch_pairs(Rows { left, rows: own.len(), depth, to, stride: half });
        });
        return Source { data: words.as_ptr(), row: 1, column: half };
    }
    team::for_each(half.div_ceil(TOGETHER), |group| {
        let own = group * TOGETHER..half.min((group + 1) * TOGETHER);
        let rows = 2 * own.start..depth.min(2 * own.end);
        // SAFETY: rows of the factor, two for each row of words.
        let to = unsafe { to.at(own.start * columns) };
        dispatch_pairs(Across { source: source.at(rows.start, 0), rows: rows.len(), columns, to });
    });
    Source { data: words.as_ptr(), row: columns, column: 1 }
}

/// The rows of words of a task.
const TOGETHER: usize = 16;

struct Rows {
    left: Source,
    rows: usize,
    depth: usize,
    to: *mut f32,
    stride: usize,
}

impl Kernel for Rows {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { left, rows, depth, to, stride } = self;
        // SAFETY: as `pair_factor` has it.
        unsafe { pair_rows(simd, left, rows, depth, to, stride) };
    }
}

struct Across {
    source: Source,
    rows: usize,
    columns: usize,
    to: *mut f32,
}

impl Kernel for Across {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { source, rows, columns, to } = self;
        for word in 0..rows.div_ceil(2) {
            for first in (0..columns).step_by(S::LANES) {
                let count = S::LANES.min(columns - first);
                // SAFETY: as `pair_factor` has it.
                unsafe {
                    let row = |k: usize| match k < rows {
                        true => simd.load_first(source.data.wrapping_add(k * source.row + first), count),
                        false => simd.splat(0.0),
                    };
                    let pairs = simd.pair(row(2 * word), row(2 * word + 1));
                    simd.store_first(to.add(word * columns + first), count, pairs);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{available_pairs, word};
    use crate::testing::values;

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|x| x.to_bits()).collect()
    }

    /// Subnormal, infinite and other numbers among the values.
    fn odd_values(len: usize) -> Vec<f32> {
        let mut all = values(len, 3);
        for (i, x) in all.iter_mut().enumerate() {
            match i % 11 {
                3 => *x = f32::from_bits(x.to_bits() & 0x807f_ffff),
                5 => *x = f32::INFINITY,
                7 => *x *= 3.0e38,
                _ => {}
            }
        }
        all
    }

    struct Both<'a> {
        values: &'a [f32],
        depth: usize,
        columns: usize,
        row: Vec<f32>,
        panels: [Vec<f32>; 2],
        tiles: Vec<f32>,
    }

    impl Kernel for Both<'_> {
        type Output = (usize, Vec<f32>, [Vec<f32>; 2], Vec<f32>);

        #[inline(always)]
        fn run<S: Simd>(mut self, simd: S) -> Self::Output {
            let Self { values, depth, columns, .. } = self;
            let columns = columns.min(PANEL * S::LANES);
            // SAFETY: the buffers hold the widest panel.
            unsafe {
                pair_row(simd, values.as_ptr(), depth, self.row.as_mut_ptr());
                let across = Source { data: values.as_ptr(), row: self.columns, column: 1 };
                pair_panel(simd, across, 0..depth, 0..columns, self.panels[0].as_mut_ptr());
                let along = Source { data: values.as_ptr(), row: 1, column: depth };
                pair_panel(simd, along, 0..depth, 0..columns, self.panels[1].as_mut_ptr());
                pair_tiles(simd, values.as_ptr(), self.columns, self.columns, depth, self.tiles.as_mut_ptr());
            }
            (S::LANES, self.row, self.panels, self.tiles)
        }
    }

    #[test]
    fn every_instruction_set_packs_the_words_of_the_definition() {
        for (depth, columns) in [(1, 1), (2, 7), (33, 32), (64, 17), (129, 30)] {
            let values = odd_values(depth * columns);
            let words = depth.div_ceil(2);
            let value = |at: usize, exists: bool| if exists { values[at] } else { 0.0 };
            for (isa, name) in available_pairs() {
                let zeros = |len: usize| vec![0.0; len];
                let buffers = Both {
                    values: &values,
                    depth,
                    columns,
                    row: zeros(words),
                    panels: [zeros(words * 32), zeros(words * 32)],
                    tiles: zeros(words * columns),
                };
                let (lanes, row, panels, _) = isa.run(buffers);
                let expected: Vec<f32> =
                    (0..words).map(|w| word(values[2 * w], value(2 * w + 1, 2 * w + 1 < depth))).collect();
                assert_eq!(bits(&row), bits(&expected), "{name}: a row of {depth}");
                let width = PANEL * lanes;
                for (k, column) in (0..words).flat_map(|k| (0..width).map(move |column| (k, column))) {
                    let is_there = column < columns.min(width);
                    let at = [2 * k, 2 * k + 1];
                    let across = at.map(|k| value(k * columns + column, is_there && k < depth));
                    let along = at.map(|k| value(column * depth + k, is_there && k < depth));
                    for (panel, [low, high]) in panels.iter().zip([across, along]) {
                        let got = panel[k * width + column].to_bits();
                        assert_eq!(got, word(low, high).to_bits(), "{name}: word {k}, column {column}");
                    }
                }
            }
        }
    }
}
