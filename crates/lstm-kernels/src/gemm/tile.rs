//! The register tile of every product: a few rows times two vectors of columns, summed over k in registers.
//!
//! With 12 rows and two vectors the sums take 24 of AVX-512's 32 registers; a step of k is 12 broadcasts and 2 loads for
//! 24 multiply-adds, less than the two loads a cycle the first-level cache gives. The left factor is read where it lies: a
//! broadcast value needs no neighbours. The right one is packed into panels two vectors wide, `[panel][k][2 · lanes]`, so that it
//! streams. Every sum runs over k in order in one accumulator, whatever tile it falls into: how a product is cut
//! among tiles and threads changes no bits. Factors are values or words of two bf16, and K is counted in either.

use std::marker::PhantomData;

use crate::gemm::arithmetic::Arithmetic;
use crate::gemm::matrix::{Initial, Out, Source};
use crate::memory::LINE;
use crate::simd::{self, Kernel, MOST_LANES, Simd, TILE_WORDS, TileProduct};

/// The vectors of columns of a panel.
pub(crate) const PANEL: usize = 2;

/// The rows of each tile when `rows` are cut: whole tiles, but no last one so thin that its sums would wait for each
/// other.
#[inline(always)]
pub(crate) fn tile_rows(left: usize, most: usize) -> usize {
    if left > most && left < most + most / 2 { left.div_ceil(2) } else { left.min(most) }
}

/// The rows of a product by registers of tiles, two of them.
pub(crate) const ROWS_OF_TILES: usize = 2 * simd::TILE_ROWS;

/// How the left factor lies in memory.
#[derive(Clone, Copy)]
pub(crate) enum Rows {
    /// Row by row, at its strides.
    Strided(Source),
    /// In tiles, `[tile][k][rows of the tile]`, as [`pack_tiles`](crate::gemm::pack::pack_tiles) leaves them.
    Tiles(*const f32),
}

/// out `[rows, columns]` = initial + left `[rows, depth]` · panel, for one panel of at most two vectors of columns.
///
/// # Safety
/// `left` is readable for `[rows, depth]`, `panel` for `depth` rows of two vectors; `out` is writable for
/// `[rows, columns]` and overlaps neither; a bias is readable for `columns`.
#[inline(always)]
pub(crate) unsafe fn panel<S: Simd, A: Arithmetic>(
    simd: S,
    rows: usize,
    depth: usize,
    columns: usize,
    left: Rows,
    panel: *const f32,
    out: Out,
    ahead: Ahead,
) {
    // A call, not inlined: the tiles of every shape are many instructions.
    match ahead {
        Ahead::Regions(regions) => {
            simd.call(Panel::<A, 0> { rows, depth, columns, left, panel, out, regions, next: panel, of: PhantomData })
        }
        Ahead::Stream(next) => {
            let regions = [Region::NONE; 2];
            if rows > S::TILE_ROWS {
                simd.call(Panel::<A, 1> { rows, depth, columns, left, panel, out, regions, next, of: PhantomData });
            } else {
                simd.call(Panel::<A, 2> { rows, depth, columns, left, panel, out, regions, next, of: PhantomData });
            }
        }
    }
}

/// The memory that is read next, to be brought nearer while a panel is computed.
#[derive(Clone, Copy)]
pub(crate) enum Ahead {
    /// Some memory elsewhere.
    Regions([Region; 2]),
    /// As many weights as the panel's, from here on.
    Stream(*const f32),
}

/// Stretches of memory at a distance from each other.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    pub(crate) data: *const f32,
    /// How many, and the values from one's beginning to the next one's.
    pub(crate) rows: usize,
    pub(crate) stride: usize,
    /// The values of each.
    pub(crate) len: usize,
}

impl Region {
    pub(crate) const NONE: Self = Self { data: std::ptr::null(), rows: 0, stride: 0, len: 0 };

    /// The `part`-th of `parts` shares of its rows.
    #[inline(always)]
    pub(crate) fn share(self, parts: usize, part: usize) -> Self {
        let (first, last) = (self.rows * part / parts, self.rows * (part + 1) / parts);
        Self { data: self.data.wrapping_add(first * self.stride), rows: last - first, ..self }
    }

    #[inline(always)]
    fn prefetch<S: Simd>(self, simd: S) {
        for row in 0..self.rows {
            let data = self.data.wrapping_add(row * self.stride);
            for line in (0..self.len).step_by(LINE) {
                simd.prefetch(data.wrapping_add(line));
            }
        }
    }
}

/// A panel; `LINES` of what comes next are asked for at every k.
struct Panel<A, const LINES: usize> {
    rows: usize,
    depth: usize,
    columns: usize,
    left: Rows,
    panel: *const f32,
    out: Out,
    regions: [Region; 2],
    next: *const f32,
    of: PhantomData<A>,
}

impl<A: Arithmetic, const LINES: usize> Kernel for Panel<A, LINES> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if A::TILES {
            // SAFETY: as the caller of `panel` promises.
            return unsafe { self.by_tiles(simd) };
        }
        let Self { rows, depth, columns, left, panel, out, regions, next, .. } = self;
        let mut row = 0;
        let (mut turn, turns) = (0, rows.div_ceil(S::TILE_ROWS));
        // Each tile asks for its share of the stream.
        let width = PANEL * S::LANES;
        let step = width / turns.clamp(1, width);
        while row < rows {
            for region in regions {
                region.share(turns, turn).prefetch(simd);
            }
            let ahead = next.wrapping_add(turn * depth * step);
            turn += 1;
            let tile = tile_rows(rows - row, S::TILE_ROWS);
            let (out, ahead) = (out.at(row, 0), (ahead, step));
            // SAFETY: as the caller of `panel` promises; rows below `rows`.
            unsafe {
                match left {
                    // Rows that meet weights from memory are never packed.
                    Rows::Tiles(tiles) if LINES == 0 => {
                        let left = Source { data: tiles.wrapping_add(row * depth), row: 1, column: tile };
                        rows_of_panel::<S, A, LINES, true>(simd, tile, depth, columns, left, panel, out, ahead);
                    }
                    Rows::Strided(left) => {
                        rows_of_panel::<S, A, LINES, false>(
                            simd,
                            tile,
                            depth,
                            columns,
                            left.at(row, 0),
                            panel,
                            out,
                            ahead,
                        );
                    }
                    Rows::Tiles(_) => unreachable!("packed rows of a stream"),
                }
            }
            row += tile;
        }
    }
}

impl<A: Arithmetic, const LINES: usize> Panel<A, LINES> {
    /// The panel by registers of tiles, 32 rows at a time. Sums begin with what the product starts from.
    #[inline(always)]
    unsafe fn by_tiles<S: Simd>(self, simd: S) {
        let Self { rows, depth, columns, left, panel, out, regions, .. } = self;
        let Rows::Strided(left) = left else { unreachable!("rows of tiles lie along k") };
        let width = PANEL * S::LANES;
        let (turns, vectors) = (rows.div_ceil(ROWS_OF_TILES), columns.div_ceil(S::LANES));
        for turn in 0..turns {
            for region in regions {
                region.share(turns, turn).prefetch(simd);
            }
            let row = turn * ROWS_OF_TILES;
            let (out, rows) = (out.at(row, 0), (rows - row).min(ROWS_OF_TILES));
            let product = TileProduct {
                rows,
                steps: depth / TILE_WORDS,
                vectors,
                left: left.at(row, 0).data,
                panel: (panel, width),
                out: (out.data, out.row),
                goes_on: !matches!(out.initial, Initial::Zero),
            };
            // SAFETY: as the caller promises; sums are as large as the registers.
            unsafe {
                if columns == vectors * S::LANES {
                    if let Initial::Bias(bias) = out.initial {
                        for row in 0..rows {
                            for first in (0..columns).step_by(S::LANES) {
                                simd.store(out.data.add(row * out.row + first), simd.load(bias.add(first)));
                            }
                        }
                    } else if LINES == 0 {
                        // Lines of the output come while the sums are made: to wait for each would take longer than that.
                        for row in 0..rows {
                            for line in (0..columns).step_by(LINE) {
                                simd.prefetch_to_write(out.data.wrapping_add(row * out.row + line));
                            }
                        }
                    }
                    simd.multiply_tiles(product);
                    continue;
                }
                // The registers would reach past the last column.
                let mut sums = Sums([0.0; ROWS_OF_TILES * PANEL * MOST_LANES]);
                let to = sums.0.as_mut_ptr();
                for row in 0..rows {
                    match out.initial {
                        Initial::Zero => {}
                        Initial::Out => to.add(row * width).copy_from(out.data.add(row * out.row), columns),
                        Initial::Bias(bias) => to.add(row * width).copy_from(bias, columns),
                    }
                }
                simd.multiply_tiles(TileProduct { out: (to, width), ..product });
                for row in 0..rows {
                    out.data.add(row * out.row).copy_from(to.add(row * width), columns);
                }
            }
        }
    }
}

/// The sums of the registers of tiles, where fewer columns are wanted.
#[repr(align(64))]
struct Sums([f32; ROWS_OF_TILES * PANEL * MOST_LANES]);

#[inline(always)]
unsafe fn rows_of_panel<S: Simd, A: Arithmetic, const LINES: usize, const PACKED: bool>(
    simd: S,
    rows: usize,
    depth: usize,
    columns: usize,
    left: Source,
    panel: *const f32,
    out: Out,
    ahead: (*const f32, usize),
) {
    macro_rules! tiles {
        ($vectors:literal: $($rows:literal)*) => {
            match rows {
                $($rows if $rows <= S::TILE_ROWS => {
                    tile::<S, A, $rows, $vectors, LINES, PACKED>(simd, depth, columns, left, panel, out, ahead)
                })*
                _ => unreachable!("a tile has 1 to {} rows, not {rows}", S::TILE_ROWS),
            }
        };
    }
    // SAFETY: as the caller promises.
    unsafe {
        if columns > S::LANES { tiles!(2: 1 2 3 4 5 6 7 8 9 10 11 12) } else { tiles!(1: 1 2 3 4 5 6 7 8 9 10 11 12) }
    }
}

#[inline(always)]
unsafe fn tile<
    S: Simd,
    A: Arithmetic,
    const ROWS: usize,
    const VECTORS: usize,
    const LINES: usize,
    const PACKED: bool,
>(
    simd: S,
    depth: usize,
    columns: usize,
    left: Source,
    panel: *const f32,
    out: Out,
    (mut ahead, step): (*const f32, usize),
) {
    if let Initial::Out = out.initial {
        // What the sums are added to may lie in memory: it comes while they are made.
        Region { data: out.data, rows: ROWS, stride: out.row, len: VECTORS * S::LANES }.prefetch(simd);
    }
    let mut sums = [[simd.splat(0.0); VECTORS]; ROWS];
    // The strides of a packed factor are constants: displacements from one pointer.
    let left = if PACKED { Source { data: left.data, row: 1, column: ROWS } } else { left };
    // Three rows share a pointer (base, base + row, base + 2 · row are addressing modes), so twelve rows take four.
    let group = 3 * left.row;
    let second = left.data.wrapping_add(group);
    let mut rows = [left.data, second, second.wrapping_add(group), second.wrapping_add(2 * group)];
    let mut weights = panel;
    for _ in 0..depth {
        // SAFETY: inside the factors, as the caller promises.
        unsafe {
            let mut vectors = [simd.splat(0.0); VECTORS];
            for v in 0..VECTORS {
                vectors[v] = simd.load(weights.add(v * S::LANES));
            }
            for r in 0..ROWS {
                let factor = simd.splat(*rows[r / 3].add(r % 3 * left.row));
                for v in 0..VECTORS {
                    sums[r][v] = A::add_product(simd, factor, vectors[v], sums[r][v]);
                }
            }
        }
        for line in 0..LINES {
            simd.prefetch(ahead.wrapping_add(line * LINE));
        }
        ahead = ahead.wrapping_add(step);
        for group in 0..4 {
            rows[group] = rows[group].wrapping_add(left.column);
        }
        weights = weights.wrapping_add(PANEL * S::LANES);
    }
    // SAFETY: as the caller promises.
    unsafe { finish_any(simd, sums, columns, out) }
}

/// Adds what the sums start from and stores them: [`finish`], for what is known only at run time.
///
/// Each case is a loop that is unrolled whole: an index that is not constant would keep the sums in memory, where every
/// multiply-add before would store them.
#[inline(always)]
unsafe fn finish_any<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    sums: [[S::V; VECTORS]; ROWS],
    columns: usize,
    out: Out,
) {
    // SAFETY: the columns are inside the output and the bias, as the caller promises.
    unsafe {
        match (out.initial, columns == VECTORS * S::LANES) {
            (Initial::Zero, true) => finish::<S, ROWS, VECTORS, ZERO, true>(simd, sums, columns, out, out.data),
            (Initial::Out, true) => finish::<S, ROWS, VECTORS, OUT, true>(simd, sums, columns, out, out.data),
            (Initial::Bias(bias), true) => finish::<S, ROWS, VECTORS, BIAS, true>(simd, sums, columns, out, bias),
            (Initial::Zero, false) => finish::<S, ROWS, VECTORS, ZERO, false>(simd, sums, columns, out, out.data),
            (Initial::Out, false) => finish::<S, ROWS, VECTORS, OUT, false>(simd, sums, columns, out, out.data),
            (Initial::Bias(bias), false) => finish::<S, ROWS, VECTORS, BIAS, false>(simd, sums, columns, out, bias),
        }
    }
}

/// [`Initial`], as a constant.
const ZERO: u8 = 0;
const OUT: u8 = 1;
const BIAS: u8 = 2;

#[inline(always)]
unsafe fn finish<S: Simd, const ROWS: usize, const VECTORS: usize, const FROM: u8, const WHOLE: bool>(
    simd: S,
    sums: [[S::V; VECTORS]; ROWS],
    columns: usize,
    out: Out,
    from: *const f32,
) {
    // Vectors before the last are whole.
    let rest = columns - (VECTORS - 1) * S::LANES;
    for r in 0..ROWS {
        for v in 0..VECTORS {
            let whole = WHOLE || v + 1 < VECTORS;
            // SAFETY: as the caller promises.
            unsafe {
                let at = out.data.add(r * out.row + v * S::LANES);
                let from = if FROM == BIAS { from.add(v * S::LANES) } else { at.cast_const() };
                let mut total = sums[r][v];
                if FROM != ZERO {
                    total = simd.add(if whole { simd.load(from) } else { simd.load_first(from, rest) }, total);
                }
                if whole { simd.store(at, total) } else { simd.store_first(at, rest, total) }
            }
        }
    }
}

/// The most rows [`few_rows`] takes.
pub(crate) const FEW_ROWS: usize = 3;

/// out `[rows, panels · PANEL · lanes]` = initial + left `[rows, depth]` · panels, for so few rows that several panels are
/// needed to keep the multiply-adds from waiting for each other. One panel begins `stride` values after the other.
///
/// # Safety
/// As for [`panel`], for whole panels; at most [`FEW_ROWS`] rows, and none is fine.
#[inline(always)]
pub(crate) unsafe fn few_rows<S: Simd, A: Arithmetic>(
    simd: S,
    rows: usize,
    depth: usize,
    panels: usize,
    left: Source,
    (weights, stride): (*const f32, usize),
    out: Out,
) {
    if panels * stride > STREAM {
        simd.call(FewRows::<A, true> { rows, depth, panels, left, weights, stride, out, of: PhantomData });
    } else {
        simd.call(FewRows::<A, false> { rows, depth, panels, left, weights, stride, out, of: PhantomData });
    }
}

/// Weights beyond these do not stay in the second-level cache until the next step.
const STREAM: usize = 192 << 10;

struct FewRows<A, const ASK: bool> {
    rows: usize,
    depth: usize,
    panels: usize,
    left: Source,
    weights: *const f32,
    stride: usize,
    out: Out,
    of: PhantomData<A>,
}

impl<A: Arithmetic, const ASK: bool> Kernel for FewRows<A, ASK> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rows, depth, panels, left, weights, stride, out, .. } = self;
        let width = PANEL * S::LANES;
        let mut first = 0;
        // A member of a team may have no row of a step.
        while first < panels && rows > 0 {
            // As many as keep the multiply-adds busy, and no last one alone.
            let together = match (rows, panels - first) {
                (1, 3 | 5) => 3,
                (1, 4..) => 4,
                (_, 2..) => 2,
                _ => 1,
            };
            let (weights, out) = (weights.wrapping_add(first * stride), out.at(0, first * width));
            // SAFETY: as the caller of `few_rows` promises.
            unsafe {
                match (rows, together) {
                    (1, 4) => wide::<S, A, 1, 4, ASK>(simd, depth, left, (weights, stride), out),
                    (1, 3) => wide::<S, A, 1, 3, ASK>(simd, depth, left, (weights, stride), out),
                    (1, 2) => wide::<S, A, 1, 2, ASK>(simd, depth, left, (weights, stride), out),
                    (2, 2) => wide::<S, A, 2, 2, ASK>(simd, depth, left, (weights, stride), out),
                    (3, 2) => wide::<S, A, 3, 2, ASK>(simd, depth, left, (weights, stride), out),
                    (1, _) => wide::<S, A, 1, 1, ASK>(simd, depth, left, (weights, stride), out),
                    (2, _) => wide::<S, A, 2, 1, ASK>(simd, depth, left, (weights, stride), out),
                    (3, _) => wide::<S, A, 3, 1, ASK>(simd, depth, left, (weights, stride), out),
                    _ => unreachable!("at most {FEW_ROWS} rows, not {rows}"),
                }
            }
            first += together;
        }
    }
}

#[inline(always)]
unsafe fn wide<S: Simd, A: Arithmetic, const ROWS: usize, const PANELS: usize, const ASK: bool>(
    simd: S,
    depth: usize,
    left: Source,
    (weights, stride): (*const f32, usize),
    out: Out,
) {
    let mut sums = [[[simd.splat(0.0); PANEL]; PANELS]; ROWS];
    for k in 0..depth {
        for p in 0..PANELS {
            if ASK {
                // Far enough ahead that memory beyond the caches keeps up: about a microsecond of such a stream.
                let ahead = weights.wrapping_add(p * stride + k * PANEL * S::LANES + AHEAD);
                simd.prefetch(ahead);
                simd.prefetch(ahead.wrapping_add(LINE));
            }
            for v in 0..PANEL {
                // SAFETY: inside the factors, as the caller promises.
                unsafe {
                    let vector = simd.load(weights.add(p * stride + (k * PANEL + v) * S::LANES));
                    for r in 0..ROWS {
                        let factor = simd.splat(*left.data.add(r * left.row + k * left.column));
                        sums[r][p][v] = A::add_product(simd, factor, vector, sums[r][p][v]);
                    }
                }
            }
        }
    }
    for r in 0..ROWS {
        for p in 0..PANELS {
            for v in 0..PANEL {
                let at = (p * PANEL + v) * S::LANES;
                // SAFETY: whole vectors of the output, as the caller promises.
                unsafe {
                    let out_at = out.data.add(r * out.row + at);
                    let from = match out.initial {
                        Initial::Zero => simd.splat(0.0),
                        Initial::Out => simd.load(out_at),
                        Initial::Bias(bias) => simd.load(bias.add(at)),
                    };
                    simd.store(out_at, simd.add(from, sums[r][p][v]));
                }
            }
        }
    }
}

/// How far ahead [`wide`] asks for weights, in values.
const AHEAD: usize = 512;

/// out `[columns]` = initial + left `[parts · depth]` · panels, of one row. Its K is summed in as many parts as there are gates,
/// for one sum of a column would wait for itself: the sums are others than those of more rows.
///
/// # Safety
/// As for [`panel`]; `left` is dense.
#[inline(always)]
pub(crate) unsafe fn one_row<S: Simd>(
    simd: S,
    depth: usize,
    columns: usize,
    left: *const f32,
    weights: *const f32,
    out: Out,
) {
    if columns * PARTS * depth > STREAM {
        simd.call(OneRow::<true> { depth, columns, left, weights, out });
    } else {
        simd.call(OneRow::<false> { depth, columns, left, weights, out });
    }
}

/// The parts of [`one_row`].
const PARTS: usize = 4;

struct OneRow<const ASK: bool> {
    depth: usize,
    columns: usize,
    left: *const f32,
    weights: *const f32,
    out: Out,
}

impl<const ASK: bool> Kernel for OneRow<ASK> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { depth, columns, left, weights, out } = self;
        let width = PANEL * S::LANES;
        let mut first = 0;
        while first < columns {
            let (weights, out) = (weights.wrapping_add(first * PARTS * depth), out.at(0, first));
            let rest = columns - first;
            // SAFETY: as the caller of `one_row` promises.
            unsafe {
                first += match rest.div_ceil(width) {
                    1 => one_row_panels::<S, 1, ASK>(simd, depth, rest, left, weights, out),
                    3 => one_row_panels::<S, 3, ASK>(simd, depth, rest, left, weights, out),
                    _ => one_row_panels::<S, 2, ASK>(simd, depth, rest, left, weights, out),
                }
            }
        }
    }
}

/// Some panels of [`one_row`]; gives their columns.
#[inline(always)]
unsafe fn one_row_panels<S: Simd, const PANELS: usize, const ASK: bool>(
    simd: S,
    depth: usize,
    columns: usize,
    left: *const f32,
    weights: *const f32,
    out: Out,
) -> usize {
    let width = PANEL * S::LANES;
    let mut sums = [[[simd.splat(0.0); PANEL]; PANELS]; PARTS];
    for k in 0..depth {
        for part in 0..PARTS {
            // SAFETY: inside the factors, as the caller promises.
            unsafe {
                let factor = simd.splat(*left.add(part * depth + k));
                for p in 0..PANELS {
                    let at = weights.wrapping_add(((p * PARTS + part) * depth + k) * width);
                    if ASK {
                        simd.prefetch(at.wrapping_add(AHEAD));
                        simd.prefetch(at.wrapping_add(AHEAD + LINE));
                    }
                    for v in 0..PANEL {
                        let vector = simd.load(at.add(v * S::LANES));
                        sums[part][p][v] = simd.mul_add(factor, vector, sums[part][p][v]);
                    }
                }
            }
        }
    }
    for p in 0..PANELS {
        let total = |v: usize| simd.add(simd.add(sums[0][p][v], sums[1][p][v]), simd.add(sums[2][p][v], sums[3][p][v]));
        let (out, columns) = (out.at(0, p * width), width.min(columns - p * width));
        // SAFETY: as the caller promises.
        unsafe {
            if columns > S::LANES {
                finish_any(simd, [[total(0), total(1)]], columns, out);
            } else {
                finish_any(simd, [[total(0)]], columns, out);
            }
        }
    }
    columns.min(PANELS * width)
}
