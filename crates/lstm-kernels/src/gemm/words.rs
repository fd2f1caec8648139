//! Factors as words of two bf16, see [`Words`]. A product of words is then what a product of values is, over another K: the same
//! panels and loops, with [`Simd::dot_pairs`] for a multiply-add, or with tiles, whose rows the same panels are.
//!
//! Values are rounded to the nearest bf16, ties to even, subnormal ones to zero, as the instructions do; the rest of a value likewise.
//! Past K there are zeros. What is not finite gives what is not finite.

use std::ops::Range;

use crate::gemm::arithmetic::{Arithmetic, Factor, Format, Words};
use crate::gemm::matrix::Source;
use crate::gemm::tile::{PANEL, ROWS_OF_TILES, tile_rows};
use crate::memory::{Aligned, LINE};
use crate::simd::{Kernel, MOST_LANES, Simd, TILE_WORDS, dispatch_pairs};
use crate::team;
use crate::team::shared::Shared;

/// A square of words on its way to being transposed.
#[repr(align(64))]
struct Square([f32; MOST_LANES * MOST_LANES]);

impl Square {
    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; MOST_LANES * MOST_LANES])
    }

    /// Writes the first `rows` rows of the transpose, `stride` words apart; `columns` of each, or whole vectors.
    ///
    /// # Safety
    /// `to` is writable for them.
    #[inline(always)]
    unsafe fn turn<S: Simd>(&self, simd: S, rows: usize, columns: usize, to: *mut f32, stride: usize) {
        // SAFETY: as the caller promises; a square has a row a lane.
        unsafe {
            if rows == S::LANES && columns == S::LANES {
                simd.transpose(self.0.as_ptr(), S::LANES, to, stride);
                return;
            }
            let mut turned = Self::zero();
            simd.transpose(self.0.as_ptr(), S::LANES, turned.0.as_mut_ptr(), S::LANES);
            for row in 0..rows {
                simd.store_first(to.add(row * stride), columns, simd.load(turned.0.as_ptr().add(row * S::LANES)));
            }
        }
    }
}

/// The words of two vectors, `low` in the low halves: rounded, and the rest of them.
#[inline(always)]
fn words_of<S: Simd>(simd: S, words: Words, low: S::V, high: S::V) -> [S::V; 2] {
    let rounded = simd.pair(low, high);
    if !words.split {
        return [rounded; 2];
    }
    [rounded, simd.pair(simd.sub(low, simd.rounded(low)), simd.sub(high, simd.rounded(high)))]
}

/// The words of the first `rest` values at `at`, as many as a vector has: rounded, and the rest of them.
#[inline(always)]
unsafe fn words_along<S: Simd>(simd: S, words: Words, at: *const f32, rest: usize) -> [S::V; 2] {
    // SAFETY: `rest` values are readable, as the caller promises.
    let (first, second) = unsafe {
        if rest >= 2 * S::LANES {
            (simd.load(at), simd.load(at.add(S::LANES)))
        } else {
            let second = rest.saturating_sub(S::LANES);
            (simd.load_first(at, rest.min(S::LANES)), simd.load_first(at.wrapping_add(S::LANES), second))
        }
    };
    let rounded = simd.pair_along(first, second);
    if !words.split {
        return [rounded; 2];
    }
    [rounded, simd.pair_along(simd.sub(first, simd.rounded(first)), simd.sub(second, simd.rounded(second)))]
}

/// Row `k` of a factor that lies across, zero from `depth` on: its first `count` values, at most a vector of them.
#[inline(always)]
unsafe fn row<S: Simd>(simd: S, from: *const f32, stride: usize, k: usize, depth: usize, count: usize) -> S::V {
    // SAFETY: rows below `depth` are readable, as the caller promises.
    unsafe {
        match k < depth {
            true if count == S::LANES => simd.load(from.add(k * stride)),
            true => simd.load_first(from.add(k * stride), count),
            false => simd.splat(0.0),
        }
    }
}

/// Packs rows `ks` and columns `columns` of a right factor, one of whose strides is 1, as one panel of words
/// `[words][PANEL · lanes]`, zero past the columns.
///
/// # Safety
/// `source` is readable there; `panel` is writable for the words of `ks.len()` values; `columns` fit a panel.
#[inline(always)]
pub(crate) unsafe fn word_panel<S: Simd>(
    simd: S,
    words: Words,
    source: Source,
    ks: Range<usize>,
    columns: Range<usize>,
    panel: *mut f32,
) {
    let source = source.at(ks.start, columns.start);
    let (depth, columns) = (ks.len(), columns.len());
    if words.split {
        simd.call(Panel::<true> { words, source, depth, columns, panel });
    } else {
        simd.call(Panel::<false> { words, source, depth, columns, panel });
    }
}

/// A panel to pack: the first `depth` rows and `columns` columns of `source`. Whether in two parts is a constant: the other way would
/// cost a tenth of a product of few rows.
struct Panel<const SPLIT: bool> {
    words: Words,
    source: Source,
    depth: usize,
    columns: usize,
    panel: *mut f32,
}

impl<const SPLIT: bool> Kernel for Panel<SPLIT> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { words, source, depth, columns, panel } = self;
        let words = Words { split: SPLIT, ..words };
        let (single, width) = (words.single(depth), PANEL * S::LANES);
        for first in (0..width).step_by(S::LANES) {
            let count = columns.saturating_sub(first).min(S::LANES);
            let from = source.data.wrapping_add(first * source.column);
            let to = panel.wrapping_add(first);
            if source.column == 1 {
                for word in 0..single {
                    let (at, apart) = words.place(word, single);
                    // SAFETY: rows below `depth` of `columns` values are readable, and the panel has all words' rows, as the caller of
                    // `word_panel` promises.
                    unsafe {
                        let low = row(simd, from, source.row, 2 * word, depth, count);
                        let high = row(simd, from, source.row, 2 * word + 1, depth, count);
                        let parts = words_of(simd, words, low, high);
                        for part in 0..words.parts() {
                            let own = if Factor::Right.is_low(part) { parts[1] } else { parts[0] };
                            simd.store(to.add((at + part * apart) * width), own);
                        }
                    }
                }
                continue;
            }
            // Along k: squares of words are transposed in registers. A group is whole squares, but for the last.
            let mut squares = [Square::zero(), Square::zero()];
            for word in (0..single).step_by(S::LANES) {
                for lane in 0..count {
                    // SAFETY: column `first + lane` has `depth` values; a square has a row a lane.
                    unsafe {
                        let at = from.wrapping_add(2 * word + lane * source.column);
                        let [rounded, rest] = words_along(simd, words, at, depth.saturating_sub(2 * word));
                        simd.store(squares[0].0.as_mut_ptr().add(lane * S::LANES), rounded);
                        if SPLIT {
                            simd.store(squares[1].0.as_mut_ptr().add(lane * S::LANES), rest);
                        }
                    }
                }
                let (at, apart) = words.place(word, single);
                for part in 0..words.parts() {
                    let square = if Factor::Right.is_low(part) { &squares[1] } else { &squares[0] };
                    let to = to.wrapping_add((at + part * apart) * width);
                    // SAFETY: rows of words of the panel, as the caller promises.
                    unsafe { square.turn(simd, S::LANES.min(single - word), S::LANES, to, width) };
                }
            }
        }
    }
}

/// Where rows of words go: the words from one row's beginning to the next one's, and those from one group's to the next one's.
#[derive(Clone, Copy)]
pub(crate) struct RowsOfWords {
    to: *mut f32,
    row: usize,
    group: usize,
}

impl RowsOfWords {
    /// Rows at a stride, the words of each one after the other.
    #[inline(always)]
    pub(crate) fn dense(to: *mut f32, row: usize) -> Self {
        Self { to, row, group: TILE_WORDS }
    }

    /// The rows of two registers of tiles: group by group, so that they are read as one stream.
    #[inline(always)]
    fn of_tiles(to: *mut f32) -> Self {
        Self { to, row: TILE_WORDS, group: ROWS_OF_TILES * TILE_WORDS }
    }

    /// Those from row `row` on.
    #[inline(always)]
    fn skip(self, row: usize) -> Self {
        Self { to: self.to.wrapping_add(row * self.row), ..self }
    }

    /// Where a word of the first row is.
    #[inline(always)]
    fn at(self, word: usize) -> *mut f32 {
        self.to.wrapping_add(word / TILE_WORDS * self.group + word % TILE_WORDS)
    }
}

/// Packs `rows` rows of a left factor `[rows, depth]`, one of whose strides is 1, or the columns of a right one as such rows.
///
/// # Safety
/// `source` is readable there, `to` writable for the words of every row.
#[inline(always)]
pub(crate) unsafe fn word_rows<S: Simd>(
    simd: S,
    words: Words,
    side: Factor,
    source: Source,
    (rows, depth): (usize, usize),
    to: RowsOfWords,
) {
    if source.column == 1 {
        for row in 0..rows {
            // SAFETY: as the caller promises.
            unsafe { word_row(simd, words, side, source.at(row, 0).data, depth, to.skip(row)) };
        }
        return;
    }
    let single = words.single(depth);
    for first in (0..rows).step_by(S::LANES) {
        let count = S::LANES.min(rows - first);
        let from = source.at(first, 0).data;
        let mut squares = [Square::zero(), Square::zero()];
        for word in (0..single).step_by(S::LANES) {
            let many = S::LANES.min(single - word);
            for w in 0..many {
                // SAFETY: k below `depth` of `count` rows; a square has a row a lane.
                unsafe {
                    let low = row(simd, from, source.column, 2 * (word + w), depth, count);
                    let high = row(simd, from, source.column, 2 * (word + w) + 1, depth, count);
                    let [rounded, rest] = words_of(simd, words, low, high);
                    simd.store(squares[0].0.as_mut_ptr().add(w * S::LANES), rounded);
                    if words.split {
                        simd.store(squares[1].0.as_mut_ptr().add(w * S::LANES), rest);
                    }
                }
            }
            let (at, apart) = words.place(word, single);
            for part in 0..words.parts() {
                let square = &squares[usize::from(side.is_low(part) && words.split)];
                // SAFETY: words of these rows, as the caller promises.
                unsafe { square.turn(simd, count, many, to.skip(first).at(at + part * apart), to.row) };
            }
        }
    }
}

/// A row of [`word_rows`] that lies along k.
#[inline(always)]
unsafe fn word_row<S: Simd>(simd: S, words: Words, side: Factor, from: *const f32, depth: usize, to: RowsOfWords) {
    let single = words.single(depth);
    for word in (0..single).step_by(S::LANES) {
        let many = S::LANES.min(single - word);
        let (at, apart) = words.place(word, single);
        // SAFETY: as the caller promises.
        unsafe {
            let parts = words_along(simd, words, from.wrapping_add(2 * word), depth.saturating_sub(2 * word));
            for part in 0..words.parts() {
                let own = if side.is_low(part) { parts[1] } else { parts[0] };
                let to = to.at(at + part * apart);
                if many == S::LANES { simd.store(to, own) } else { simd.store_first(to, many, own) }
            }
        }
    }
}

/// Packs `rows` rows of a left factor that is contiguous along its rows' direction, as words in tiles
/// `[tile][words][rows of the tile]`. The value at (r, k) is `from[r + k · stride]`.
///
/// # Safety
/// `from` is readable there, `to` writable for the words of all rows.
#[inline(always)]
pub(crate) unsafe fn word_tiles<S: Simd>(
    simd: S,
    words: Words,
    from: *const f32,
    stride: usize,
    (rows, depth): (usize, usize),
    to: *mut f32,
) {
    let (single, all) = (words.single(depth), words.len(depth));
    for word in 0..single {
        let (place, apart) = words.place(word, single);
        let mut first = 0;
        while first < rows {
            let tile = tile_rows(rows - first, S::TILE_ROWS);
            let to = to.wrapping_add(first * all + place * tile);
            for lane in (0..tile).step_by(S::LANES) {
                let (at, count) = (first + lane, (tile - lane).min(S::LANES));
                // SAFETY: rows below `rows`, k below `depth`; the words of this tile at this k.
                unsafe {
                    let low = row(simd, from.add(at), stride, 2 * word, depth, count);
                    let high = row(simd, from.add(at), stride, 2 * word + 1, depth, count);
                    let parts = words_of(simd, words, low, high);
                    for part in 0..words.parts() {
                        let own = if Factor::Left.is_low(part) { parts[1] } else { parts[0] };
                        simd.store_first(to.add(part * apart * tile + lane), count, own);
                    }
                }
            }
            first += tile;
        }
    }
}

/// The rows of `left`, `[rows, depth]`, as words in `buffer`.
///
/// Rows for tiles lie `[rows of two registers][group of words][row][word]`, so that they are read as one stream: the strides of what
/// is returned are those from a whole number of registers, or of groups, to another.
///
/// # Safety
/// They are readable.
#[inline(always)]
pub(crate) unsafe fn left_words<S: Simd>(
    simd: S,
    words: Words,
    left: Source,
    (rows, depth): (usize, usize),
    buffer: &mut Aligned,
) -> Source {
    let len = words.len(depth);
    // SAFETY: as the caller promises; the buffer is grown before.
    unsafe {
        if words.tiles {
            let to = buffer.at_least(rows.next_multiple_of(ROWS_OF_TILES) * len);
            for first in (0..rows).step_by(ROWS_OF_TILES) {
                let shape = ((rows - first).min(ROWS_OF_TILES), depth);
                let to = RowsOfWords::of_tiles(to.add(first * len));
                word_rows(simd, words, Factor::Left, left.at(first, 0), shape, to);
            }
            return Source { data: to, row: len, column: ROWS_OF_TILES };
        }
        // Whole lines, an odd number of them: rows at a power of two would share few sets of a cache.
        let stride = (len.div_ceil(LINE) | 1) * LINE;
        let to = buffer.at_least(rows * stride);
        word_rows(simd, words, Factor::Left, left, (rows, depth), RowsOfWords::dense(to, stride));
        Source { data: to, row: stride, column: 1 }
    }
}

/// The rows of a left factor as words, reused from product to product.
#[derive(Debug, Default)]
pub(crate) struct LeftWords(Aligned);

impl LeftWords {
    pub(crate) const fn new() -> Self {
        Self(Aligned::new())
    }

    /// The rows of `left`, `[rows, depth]`, as words.
    ///
    /// # Safety
    /// They are readable.
    #[inline(always)]
    pub(crate) unsafe fn words<S: Simd>(
        &mut self,
        simd: S,
        words: Words,
        left: Source,
        rows: usize,
        depth: usize,
    ) -> Source {
        // SAFETY: as the caller promises.
        unsafe { left_words(simd, words, left, (rows, depth), &mut self.0) }
    }

    /// The rows of `left`, `[rows, depth]`, which lies along k, in a format: where they lie, or as words here.
    ///
    /// # Safety
    /// They are readable.
    #[inline(always)]
    pub(crate) unsafe fn rows<S: Simd, A: Arithmetic>(
        &mut self,
        simd: S,
        format: Format,
        left: Source,
        rows: usize,
        depth: usize,
    ) -> Source {
        match format {
            Format::Words(words) if !A::IS_F32 => {
                // SAFETY: as the caller promises.
                unsafe { self.words(simd, words, left, rows, depth) }
            }
            _ => left,
        }
    }
}

/// The words of a right factor whose `columns` columns lie along k, `depth` values each and one after the other: as a matrix
/// `[columns][words]`.
pub(crate) fn word_columns(buffer: &mut Aligned, words: Words, factor: &[f32], depth: usize, columns: usize) {
    let len = words.len(depth);
    buffer.resize(len * columns);
    assert_eq!(factor.len(), depth * columns, "columns of a factor");
    let to = Shared::new(buffer);
    let source = Source { data: factor.as_ptr(), row: depth, column: 1 };
    team::for_each(columns.div_ceil(TOGETHER), |group| {
        let own = group * TOGETHER..columns.min((group + 1) * TOGETHER);
        // SAFETY: columns of the factor, each with its words.
        let to = unsafe { to.at(own.start * len) };
        dispatch_pairs(Columns { words, source: source.at(own.start, 0), columns: own.len(), depth, to });
    });
}

/// The columns of a task.
const TOGETHER: usize = 16;

struct Columns {
    words: Words,
    source: Source,
    columns: usize,
    depth: usize,
    to: *mut f32,
}

impl Kernel for Columns {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { words, source, columns, depth, to } = self;
        // SAFETY: as `word_columns` has it.
        unsafe {
            word_rows(simd, words, Factor::Right, source, (columns, depth), RowsOfWords::dense(to, words.len(depth)))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::arithmetic::EVERY_WORDS;
    use crate::simd::{available, rounded, word};
    use crate::testing::values;

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

    /// The words of one row or column by definition.
    fn defined(words: Words, side: Factor, values: &[f32]) -> Vec<f32> {
        let single = words.single(values.len());
        let value = |k: usize| values.get(k).copied().unwrap_or(0.0);
        let mut all = Vec::new();
        for first in (0..single).step_by(16) {
            for part in 0..words.parts() {
                let of = |x: f32| if words.split && side.is_low(part) { x - rounded(x) } else { x };
                all.extend((first..single.min(first + 16)).map(|w| word(of(value(2 * w)), of(value(2 * w + 1)))));
            }
        }
        all
    }

    /// Every packing of a matrix of `depth` rows and `columns` columns.
    struct All<'a> {
        words: Words,
        values: &'a [f32],
        depth: usize,
        columns: usize,
        packed: Packed,
    }

    #[derive(Clone)]
    struct Packed {
        panels: [Vec<f32>; 2],
        rows: [Vec<f32>; 2],
        tiles: Vec<f32>,
    }

    impl Kernel for All<'_> {
        type Output = (usize, usize, Packed);

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> Self::Output {
            let Self { words, values, depth, columns, mut packed } = self;
            let (data, in_panel) = (values.as_ptr(), columns.min(PANEL * S::LANES));
            let across = Source { data, row: columns, column: 1 };
            let along = Source { data, row: 1, column: depth };
            let len = words.len(depth);
            // SAFETY: the buffers hold the widest panel, and the words of every column.
            unsafe {
                for (source, panel) in [across, along].into_iter().zip(&mut packed.panels) {
                    word_panel(simd, words, source, 0..depth, 0..in_panel, panel.as_mut_ptr());
                }
                for (source, rows) in [across, along].into_iter().zip(&mut packed.rows) {
                    let source = Source { row: source.column, column: source.row, ..source };
                    let to = RowsOfWords::dense(rows.as_mut_ptr(), len);
                    word_rows(simd, words, Factor::Left, source, (columns, depth), to);
                }
                word_tiles(simd, words, data, columns, (columns, depth), packed.tiles.as_mut_ptr());
            }
            (S::LANES, S::TILE_ROWS, packed)
        }
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        // The bits of what is no number are a processor's own.
        let half = |x: u32| if x & 0x7fff > 0x7f80 { 0x7fc0 } else { x };
        values.iter().map(|x| half(x.to_bits() >> 16) << 16 | half(x.to_bits() & 0xffff)).collect()
    }

    #[test]
    fn every_instruction_set_packs_the_words_of_the_definition() {
        for (depth, columns) in [(1, 1), (2, 7), (33, 32), (64, 17), (129, 30)] {
            let values = odd_values(depth * columns);
            for (isa, words) in available().into_iter().flat_map(|isa| EVERY_WORDS.map(|words| (isa, words))) {
                let (len, name) = (words.len(depth), isa.unit());
                let zeros = |len: usize| vec![0.0; len];
                let packed = Packed {
                    panels: [zeros(len * 32), zeros(len * 32)],
                    rows: [zeros(len * columns), zeros(len * columns)],
                    tiles: zeros(len * columns),
                };
                let (lanes, most, packed) = isa.run_pairs(All { words, values: &values, depth, columns, packed });
                let width = PANEL * lanes;
                for column in 0..columns {
                    let across: Vec<f32> = (0..depth).map(|k| values[k * columns + column]).collect();
                    let along = &values[column * depth..][..depth];
                    for (of, values) in [&across[..], along].into_iter().enumerate() {
                        let about = format!("{name}, {words:?}: column {column} of [{depth}, {columns}]");
                        let row = &packed.rows[of][column * len..][..len];
                        assert_eq!(bits(row), bits(&defined(words, Factor::Left, values)), "row, {about}");
                        if column < width {
                            let panel: Vec<f32> = (0..len).map(|w| packed.panels[of][w * width + column]).collect();
                            assert_eq!(bits(&panel), bits(&defined(words, Factor::Right, values)), "panel, {about}");
                        }
                    }
                    let (mut first, mut tile) = (0, tile_rows(columns, most));
                    while first + tile <= column {
                        first += tile;
                        tile = tile_rows(columns - first, most);
                    }
                    let own: Vec<f32> =
                        (0..len).map(|w| packed.tiles[first * len + w * tile + column - first]).collect();
                    assert_eq!(bits(&own), bits(&defined(words, Factor::Left, &across)), "{name}: tile");
                }
                for (w, column) in (0..len).flat_map(|w| (columns.min(width)..width).map(move |c| (w, c))) {
                    assert!(packed.panels.iter().all(|panel| panel[w * width + column] == 0.0), "{name}: padding");
                }
            }
        }
    }
}
