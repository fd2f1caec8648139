//! Matrix products.
//!
//! The loops, from outside in (Goto & van de Geijn 2008): blocks of rows, so that their part of the left factor stays in
//! the second-level cache; blocks of k; panels of columns, packed just before they are used, so that a panel stays in
//! the first-level cache while all rows of the block go past it; register tiles. Blocks of k depend on K alone, so a
//! product has the same bits however it is shared among threads.

use std::cell::RefCell;
use std::ops::Range;

use crate::pack::{Source, pack_panel, pack_tiles};
use crate::simd::{Kernel, Simd, dispatch};
use crate::team;
use crate::tile::{self, From, Left, Out, PANEL, Rows};

/// A read-only matrix over a slice.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// Dense, row-major.
    ///
    /// # Panics
    /// When `data` is shorter than `rows · columns`.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::with_stride(data, rows, columns, columns)
    }

    /// Row-major with `stride` values from one row to the next.
    ///
    /// # Panics
    /// When `data` does not reach the last value or the stride is less than a row.
    pub fn with_stride(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(data.len(), rows, columns, stride);
        Self { data, rows, columns, stride, transposed: false }
    }

    /// The same values with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// (rows, columns) as the product sees them.
    fn shape(self) -> (usize, usize) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    fn source(self) -> Source {
        let (row, column) = if self.transposed { (1, self.stride) } else { (self.stride, 1) };
        Source { data: self.data.as_ptr(), row, column }
    }
}

/// A matrix over a slice, to write. Row-major.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// Dense, row-major.
    ///
    /// # Panics
    /// When `data` is shorter than `rows · columns`.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::with_stride(data, rows, columns, columns)
    }

    /// Row-major with `stride` values from one row to the next.
    ///
    /// # Panics
    /// When `data` does not reach the last value or the stride is less than a row.
    pub fn with_stride(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(data.len(), rows, columns, stride);
        Self { data, rows, columns, stride }
    }
}

fn check(len: usize, rows: usize, columns: usize, stride: usize) {
    let extent = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns };
    assert!(stride >= columns, "a row of {columns} values does not fit a stride of {stride}");
    assert!(len >= extent, "[{rows}, {columns}] does not fit {len} values");
}

/// What a product's sums start from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start<'a> {
    /// out = a · b
    Zero,
    /// out += a · b
    Out,
    /// out = a · b + bias `[N]`, in every row.
    Bias(&'a [f32]),
}

/// The most k of a block: a panel of that depth and two vectors of columns takes 32 KiB of the first-level cache.
const DEPTH: usize = 256;

/// The most rows of a block: of depth [`DEPTH`] they take 384 KiB of the second-level cache.
const ROWS: usize = 384;

/// The multiply-adds that are worth a second thread: about 10 µs of one core.
const WORTH_A_THREAD: usize = 1 << 20;

/// What packing costs, in multiply-adds of a vector each, for a vector of the right factor.
const PACKING: usize = 6;

/// out `[M, N]` = start + a `[M, K]` · b `[K, N]`.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn product(out: MatrixMut, start: Start, a: Matrix, b: Matrix) {
    let ((m, k), (k_b, n)) = (a.shape(), b.shape());
    assert_eq!((m, n, k), (out.rows, out.columns, k_b), "shapes of a product");
    let from = match start {
        Start::Zero => From::Zero,
        Start::Out => From::Out,
        Start::Bias(bias) => {
            assert_eq!(bias.len(), n, "a bias has a value for every column");
            From::Bias(bias.as_ptr())
        }
    };
    let a = a.source();
    let left = Left { data: a.data, row: a.row, depth: a.column };
    let out = Out { data: out.data.as_mut_ptr(), row: out.stride, from };
    let product = Product { m, n, k, left, right: b.source(), out };
    let threads = (m * n * k / WORTH_A_THREAD).clamp(1, team::threads());
    let grid = dispatch(Cut { product: &product, threads });
    team::for_each(grid.down * grid.across, |task| {
        let (rows, panels) = (share(grid.tiles, grid.down, task / grid.across), task % grid.across);
        let rows = m.min(rows.start * grid.tile)..m.min(rows.end * grid.tile);
        dispatch(Block { product: &product, rows, panels: share(grid.panels, grid.across, panels) });
    });
}

/// The `part`-th of `parts` nearly equal parts of `0..all`.
pub(crate) fn share(all: usize, parts: usize, part: usize) -> Range<usize> {
    all * part / parts..all * (part + 1) / parts
}

/// A product to compute, in parts that write disjoint blocks of the output.
struct Product {
    m: usize,
    n: usize,
    k: usize,
    left: Left,
    right: Source,
    out: Out,
}

/// How a product is shared among threads: `down · across` tasks.
struct Grid {
    tile: usize,
    tiles: usize,
    panels: usize,
    down: usize,
    across: usize,
}

/// Chooses the grid.
struct Cut<'a> {
    product: &'a Product,
    threads: usize,
}

impl Kernel for Cut<'_> {
    type Output = Grid;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Grid {
        let Self { product: &Product { m, n, .. }, threads } = self;
        let (tile, panels) = (S::TILE_ROWS, n.div_ceil(PANEL * S::LANES));
        let tiles = m.div_ceil(tile);
        let mut grid = Grid { tile, tiles, panels, down: 1, across: 1 };
        if threads == 1 {
            return grid;
        }
        // The time of the busiest thread, if tasks are taken in turn: every task packs its own panels. Of equal cuts the
        // finer one wins, which evens out what other programs take from a core.
        let mut best = usize::MAX;
        for down in 1..=tiles.min(4 * threads) {
            for across in 1..=panels.min(8 * threads) {
                let turns = (down * across).div_ceil(threads);
                let rows = tiles.div_ceil(down) * tile;
                let cost = turns * panels.div_ceil(across) * (rows + PACKING);
                if cost <= best {
                    best = cost;
                    (grid.down, grid.across) = (down, across);
                }
            }
        }
        grid
    }
}

/// Some rows and panels of a product.
struct Block<'a> {
    product: &'a Product,
    rows: Range<usize>,
    panels: Range<usize>,
}

thread_local! {
    /// A packed panel, and a packed block of rows.
    static PACKED: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// The buffer grown to hold `len` values.
pub(crate) fn grown(buffer: &mut Vec<f32>, len: usize) -> *mut f32 {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    buffer.as_mut_ptr()
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { product: &Product { n, k, left, right, out, .. }, rows, panels } = self;
        let width = PANEL * S::LANES;
        // Taken out and put back: a borrow would put the loops into a closure.
        let mut packed = PACKED.take();
        let panel = grown(&mut packed[0], DEPTH.min(k) * width);
        let blocks = k.div_ceil(DEPTH).max(1);
        let row_blocks = rows.len().div_ceil(ROWS);
        for row_block in 0..row_blocks {
            // Whole tiles, so that only the last block has a short one.
            let tiles = share(rows.len().div_ceil(S::TILE_ROWS), row_blocks, row_block);
            let first_row = rows.start + tiles.start * S::TILE_ROWS;
            let height = rows.end.min(rows.start + tiles.end * S::TILE_ROWS) - first_row;
            for block in 0..blocks {
                let ks = share(k, blocks, block);
                let depth = ks.len();
                let across = left.row == 1 && left.depth != 1;
                let block_left = left.at(first_row, ks.start);
                let tiles =
                    if across { grown(&mut packed[1], height * depth + S::LANES) } else { std::ptr::null_mut() };
                if across {
                    // SAFETY: rows and ks lie inside the left factor; the buffer was just grown.
                    unsafe { pack_tiles(simd, block_left.data, left.depth, height, depth, tiles) };
                }
                for index in panels.clone() {
                    let columns = index * width..n.min((index + 1) * width);
                    let mut out = out.at(first_row, columns.start);
                    if block > 0 {
                        out.from = From::Out;
                    }
                    // SAFETY: the matrices were checked against their slices when they were made and against each other
                    // by `product`; rows and columns of the output are this task's own; the panel was grown above.
                    unsafe {
                        pack_panel(simd, right, ks.clone(), columns.clone(), panel);
                        let left = if across { Rows::Tiles(tiles) } else { Rows::Strided(block_left) };
                        tile::panel(simd, height, depth, columns.len(), left, panel, out);
                    }
                }
            }
        }
        PACKED.set(packed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::available;
    use crate::vector::tests::{close, values};

    /// (M, K, N): odd sizes, more than one block of k and of rows, nothing at all.
    const SHAPES: [(usize, usize, usize); 9] = [
        (1, 1, 1),
        (7, 33, 129),
        (129, 7, 33),
        (260, 129, 333),
        (3, 0, 5),
        (33, 129, 1),
        (13, 700, 17),
        (801, 20, 40),
        (0, 3, 2),
    ];

    #[test]
    fn agrees_with_the_definition_and_for_any_threads() {
        for (m, k, n) in SHAPES {
            let (a, b, bias) = (values(m * k, 1), values(k * n, 2), values(n, 4));
            let a_transposed: Vec<f32> = (0..m * k).map(|i| a[(i % m) * k + i / m]).collect();
            let b_transposed: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
            let before = values(m * n, 3);
            let sum = |row: usize, column: usize| (0..k).map(|i| a[row * k + i] * b[i * n + column]).sum::<f32>();
            for start in [Start::Zero, Start::Out, Start::Bias(&bias)] {
                let expected: Vec<f32> = (0..m * n)
                    .map(|i| {
                        sum(i / n, i % n)
                            + match start {
                                Start::Zero => 0.0,
                                Start::Out => before[i],
                                Start::Bias(bias) => bias[i % n],
                            }
                    })
                    .collect();
                let mut first: Option<Vec<f32>> = None;
                for (threads, across) in [(1, false), (2, false), (3, true), (2, true)] {
                    let mut out = before.clone();
                    let (a, b) = match across {
                        false => (Matrix::new(&a, m, k), Matrix::new(&b_transposed, n, k).transposed()),
                        true => (Matrix::new(&a_transposed, k, m).transposed(), Matrix::new(&b, k, n)),
                    };
                    team::with_threads(threads, || product(MatrixMut::new(&mut out, m, n), start, a, b));
                    close(&out, &expected, 1e-4);
                    assert_eq!(first.get_or_insert_with(|| out.clone()), &out, "{m} {k} {n} {threads}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_agrees_with_the_scalar_one() {
        for (m, k, n) in SHAPES {
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            let mut results = Vec::new();
            for (isa, _) in available() {
                let mut out = vec![f32::NAN; m * n];
                let left = Left { data: a.as_ptr(), row: k, depth: 1 };
                let right = Source { data: b.as_ptr(), row: n, column: 1 };
                let out_view = Out { data: out.as_mut_ptr(), row: n, from: From::Zero };
                let product = Product { m, n, k, left, right, out: out_view };
                let panels = isa.run(Cut { product: &product, threads: 1 }).panels;
                isa.run(Block { product: &product, rows: 0..m, panels: 0..panels });
                results.push(out);
            }
            let (scalar, others) = results.split_last().unwrap();
            others.iter().for_each(|other| close(other, scalar, 1e-4));
        }
    }

    #[test]
    fn strides_leave_what_lies_between_alone() {
        let (a, b) = (values(5 * 9, 1), values(9 * 20, 2));
        let mut out = vec![7.0; 5 * 21];
        let [a, b] = [Matrix::with_stride(&a, 5, 8, 9), Matrix::with_stride(&b, 8, 19, 20)];
        product(MatrixMut::with_stride(&mut out, 5, 19, 21), Start::Zero, a, b);
        assert!(out.chunks_exact(21).all(|row| row[19..] == [7.0, 7.0] && row[..19].iter().all(|x| *x != 7.0)));
    }
}
