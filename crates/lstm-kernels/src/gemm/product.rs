//! Matrix products.
//!
//! The loops, from outside in (Goto & van de Geijn 2008): blocks of rows, so that their part of the left factor stays in
//! the second-level cache; blocks of k; panels of columns, packed just before they are used, so that a panel stays in
//! the first-level cache while all rows of the block go past it; register tiles. Blocks of k depend on K alone, so a
//! product has the same bits however it is shared among threads.

use std::cell::RefCell;
use std::ops::Range;

use crate::gemm::arithmetic::{Arithmetic, FactorKernel, Format, Values, Words, format};
use crate::gemm::matrix::{Initial, Matrix, MatrixMut, Out, Source, Start};
use crate::gemm::pack::{pack_panel, pack_tiles};
use crate::gemm::tile::{self, Ahead, PANEL, ROWS_OF_TILES, Region, Rows};
use crate::gemm::words::{left_words, word_panel, word_tiles};
use crate::memory::{Aligned, second_level_bytes};
use crate::simd::{Kernel, Simd, TILE_WORDS, dispatch};
use crate::team;
use crate::team::chunks::share;

/// The most k of a block: a panel of that depth and two vectors of columns takes at most 36 KiB, about the first-level
/// cache. Somewhat more than a power of two, for each block visits the whole output once.
const DEPTH: usize = 288;

/// The same in words, of whole groups also where each comes three times.
const MOST_WORDS: usize = 6 * 3 * TILE_WORDS;

/// The most words of rows of tiles that are packed together; for tiles a sum that goes on has the bits of one that never stopped.
const MOST_TILE_WORDS: usize = 36 * TILE_WORDS;

/// The blocks of so many groups of words, by which both factors are packed.
fn word_blocks(words: Words, groups: usize) -> usize {
    let most = if words.tiles { MOST_TILE_WORDS } else { MOST_WORDS };
    groups.div_ceil(most / TILE_WORDS / words.parts()).max(1)
}

/// The most values of a block of rows, by the size of the second-level cache: every block packs every panel again, so it is as
/// large as lets the next one come beside it. Where rows lie at a stride of a large power of two they share few sets of that
/// cache, and blocks stay small. `only`: K is one block, so that every row is visited once.
fn most_of_block(only: bool, left: Source) -> usize {
    let half = second_level_bytes() / 4 / 2;
    match (only, left.row != 1 && conflicts(left.row)) {
        (false, true) => half.min(60 << 10),
        (true, true) => half.min(96 << 10),
        // Beside a block there are the factor it was packed from, and the next one on its way.
        _ if left.row == 1 => half / 2,
        (..) => half.max(60 << 10),
    }
}

/// The multiply-adds that are worth another thread: some 2 µs of a fast core, twice what calling its team costs.
pub(crate) const WORTH_A_THREAD: usize = 1 << 18;

/// out `[M, N]` = start + a `[M, K]` · b `[K, N]`.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn product(out: MatrixMut, start: Start, a: Matrix, b: Matrix) {
    products(a, [(out, start, b)]);
}

/// Products of one left factor with several right ones: out `[M, N]` = start + a `[M, K]` · b `[K, N]` for each. The
/// left factor is read once.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn products<const SIDES: usize>(a: Matrix, sides: [(MatrixMut, Start, Matrix); SIDES]) {
    multiply(a, sides.map(|(out, start, b)| (out, start.into(), b)));
}

/// out `[M, N]` = a `[M, K]` · b `[K, N]` + bias `[N]` in every row.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn product_with_bias(out: MatrixMut, bias: &[f32], a: Matrix, b: Matrix) {
    assert_eq!(bias.len(), out.shape().1, "a bias has a value for every column");
    multiply(a, [(out, Initial::Bias(bias.as_ptr()), b)]);
}

/// [`products`]; a bias is as long as a row of its product.
fn multiply<const SIDES: usize>(a: Matrix, sides: [(MatrixMut, Initial, Matrix); SIDES]) {
    let (m, k) = a.shape();
    let sides = sides.map(|(out, initial, b)| {
        let (k_b, n) = b.shape();
        assert_eq!(((m, n), k), (out.shape(), k_b), "shapes of a product");
        Side { n, right: b.source(), out: out.out(initial) }
    });
    let product = Product { m, k, left: a.source(), sides: &sides };
    let columns: usize = sides.iter().map(|side| side.n).sum();
    let threads = (m * columns * k / WORTH_A_THREAD).clamp(1, team::threads());
    // The team's other members have none of their own.
    let format = format();
    let by_tiles = matches!(format, Format::Words(Words { tiles: true, .. }));
    let tasks = dispatch(Cut { product: &product, threads, by_tiles });
    team::for_each(tasks.down * tasks.across, |task| {
        let (rows, panels) = (share(tasks.tiles, tasks.down, task / tasks.across), task % tasks.across);
        let rows = m.min(rows.start * tasks.tile)..m.min(rows.end * tasks.tile);
        let panels = share(tasks.panels, tasks.across, panels);
        match format {
            Format::Values => dispatch(Block { product: &product, rows, panels }),
            Format::Words(words) => words.dispatch(WordBlock { product: &product, words, rows, panels }),
        }
    });
}

/// A product to compute, in parts that write disjoint blocks of the output.
struct Product<'a> {
    m: usize,
    k: usize,
    left: Source,
    sides: &'a [Side],
}

/// A right factor `[K, N]` and where its product goes.
struct Side {
    n: usize,
    right: Source,
    out: Out,
}

/// A panel of one of the right factors.
struct PanelOf<'a> {
    side: &'a Side,
    columns: Range<usize>,
}

impl Product<'_> {
    /// The panels of all right factors, of `width` columns each.
    fn panels(&self, width: usize) -> usize {
        self.sides.iter().map(|side| side.n.div_ceil(width)).sum()
    }

    /// The `index`-th of them.
    fn panel(&self, mut index: usize, width: usize) -> PanelOf<'_> {
        for side in self.sides {
            let panels = side.n.div_ceil(width);
            if index < panels {
                return PanelOf { side, columns: index * width..side.n.min((index + 1) * width) };
            }
            index -= panels;
        }
        unreachable!("a panel of the product")
    }
}

/// How a product is shared among threads: `down · across` tasks.
struct Tasks {
    tile: usize,
    tiles: usize,
    panels: usize,
    down: usize,
    across: usize,
}

/// Chooses the tasks.
struct Cut<'a> {
    product: &'a Product<'a>,
    threads: usize,
    by_tiles: bool,
}

impl Kernel for Cut<'_> {
    type Output = Tasks;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Tasks {
        let Self { product, threads, by_tiles } = self;
        let &Product { m, left, sides, .. } = product;
        let (tile, panels) = (if by_tiles { ROWS_OF_TILES } else { S::TILE_ROWS }, product.panels(PANEL * S::LANES));
        let tiles = m.div_ceil(tile);
        let mut tasks = Tasks { tile, tiles, panels, down: 1, across: 1 };
        if threads == 1 {
            return tasks;
        }
        // The time of the busiest thread, if tasks are taken in turn; every task packs its own panels and rows. Tasks
        // side by side write to the same cache lines where they meet, so rows are cut first. Tiles multiply so fast that to pack a
        // value takes as long as to multiply it some 300 times.
        let along = sides.iter().all(|side| side.right.column == 1);
        let (pack_panel, pack_row) = match by_tiles {
            false => (if along { 4 } else { 10 }, if left.row == 1 { 8 } else { 2 }),
            true => (if along { 200 } else { 300 }, if left.row == 1 { 250 } else { 150 }),
        };
        let mut best = usize::MAX;
        for across in 1..=panels.min(8 * threads) {
            for down in 1..=tiles.min(4 * threads) {
                let turns = (down * across).div_ceil(threads);
                let rows = tiles.div_ceil(down) * tile;
                let cost = turns * (panels.div_ceil(across) * (rows + pack_panel) * PANEL * 8 + rows * pack_row);
                if cost < best {
                    best = cost;
                    (tasks.down, tasks.across) = (down, across);
                }
            }
        }
        tasks
    }
}

/// Some rows and panels of a product.
struct Block<'a> {
    product: &'a Product<'a>,
    rows: Range<usize>,
    panels: Range<usize>,
}

/// The same in words of bf16: both factors are packed, block by block.
struct WordBlock<'a> {
    product: &'a Product<'a>,
    words: Words,
    rows: Range<usize>,
    panels: Range<usize>,
}

thread_local! {
    /// A packed panel, and a packed block of rows.
    static PACKED: RefCell<[Aligned; 2]> = const { RefCell::new([Aligned::new(), Aligned::new()]) };
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { product, rows, panels } = self;
        let &Product { k, left, .. } = product;
        let width = PANEL * S::LANES;
        // Taken out and put back: a borrow would put the loops into a closure.
        let mut packed = PACKED.take();
        let panel = packed[0].at_least(DEPTH.min(k) * width);
        // A factor that lies across is read twelve values of a line at every k, and each k is another page: packed it is a
        // stream, which some panels must pay for. With a second-level cache of 2 MiB (Intel's since 2023) any number does, by
        // a fifth and more; on Zen 4, of 1 MiB, four to seven lose 2 to 7 %.
        let pays = conflicts(left.column) || panels.len() >= 8 || second_level_bytes() > 1 << 20;
        let across = left.row == 1 && left.column != 1 && pays;
        let blocks = k.div_ceil(DEPTH).max(1);
        let row_blocks = rows.len().div_ceil(most_of_block(blocks == 1, left) / k.div_ceil(blocks).max(1));
        // Row blocks of whole tiles, so that only the last one has a short tile.
        let tiles = rows.len().div_ceil(S::TILE_ROWS);
        let visit = |visit: usize| {
            let tiles = share(tiles, row_blocks, visit / blocks);
            let at = |tile: usize| rows.end.min(rows.start + tile * S::TILE_ROWS);
            (at(tiles.start)..at(tiles.end), share(k, blocks, visit % blocks))
        };
        for number in 0..row_blocks * blocks {
            let (rows, ks) = visit(number);
            let (height, depth) = (rows.len(), ks.len());
            let block_left = left.at(rows.start, ks.start);
            let tiles = if across { packed[1].at_least(height * depth) } else { std::ptr::null_mut() };
            if across {
                // SAFETY: rows and ks lie inside the left factor; the buffer was just grown.
                unsafe { pack_tiles(simd, block_left.data, left.column, height, depth, tiles) };
            }
            let (next_left, next_ks) = match number + 1 < row_blocks * blocks {
                true => {
                    let (rows, ks) = visit(number + 1);
                    (region(left.at(rows.start, ks.start), rows.len(), ks.len()), ks)
                }
                false => (Region::NONE, 0..0),
            };
            for index in panels.clone() {
                let PanelOf { side: &Side { right, out, .. }, columns } = product.panel(index, width);
                let mut out = out.at(rows.start, columns.start);
                if number % blocks > 0 {
                    out.initial = Initial::Out;
                }
                let (next, next_ks) = match index + 1 < panels.end {
                    true => (product.panel(index + 1, width), &ks),
                    false => (product.panel(panels.start, width), &next_ks),
                };
                // Columns of the right factor lie as rows of the left one do.
                let right_next = next.side.right;
                let transposed = Source { row: right_next.column, column: right_next.row, ..right_next };
                let at_next = transposed.at(next.columns.start, next_ks.start);
                let next_panel = region(at_next, next.columns.len(), next_ks.len());
                let ahead = [next_left.share(panels.len(), index - panels.start), next_panel];
                // SAFETY: the matrices were checked against their slices when they were made and against each other
                // by `products`; rows and columns of the output are this task's own; the panel was grown above.
                unsafe {
                    pack_panel(simd, right, ks.clone(), columns.clone(), panel);
                    let left = if across { Rows::Tiles(tiles) } else { Rows::Strided(block_left) };
                    tile::panel::<S, Values>(
                        simd,
                        height,
                        depth,
                        columns.len(),
                        left,
                        panel,
                        out,
                        Ahead::Regions(ahead),
                    );
                }
            }
        }
        PACKED.set(packed);
    }
}

impl FactorKernel for WordBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, A: Arithmetic>(self, simd: S) {
        let Self { product, words, rows, panels } = self;
        let &Product { k, left, .. } = product;
        let width = PANEL * S::LANES;
        let mut packed = PACKED.take();
        // Blocks of K are whole groups of words, so that no pair is cut, nor the values that a tile takes.
        let groups = words.single(k).div_ceil(TILE_WORDS);
        let blocks = word_blocks(words, groups);
        let most_depth = words.parts() * TILE_WORDS * groups.div_ceil(blocks);
        let block_of = |number: usize| {
            let groups = share(groups, blocks, number);
            2 * TILE_WORDS * groups.start..k.min(2 * TILE_WORDS * groups.end)
        };
        let tile = if A::TILES { ROWS_OF_TILES } else { S::TILE_ROWS };
        // Words are half of the values they are read from, which pass beside them.
        let most = second_level_bytes() / 4 / if A::TILES { 2 } else { 4 };
        let panel_len = most_depth * width;
        // One of the factors stays in the second-level cache while the other passes, each packed once: all rows of the task, or if they
        // do not fit all of its panels. Where neither fits, panels are packed for every block of rows.
        let all_panels = panels.len() * blocks * panel_len;
        let kept = A::TILES && rows.len() * most_depth > most && all_panels <= most;
        let most_rows = if kept { (most - all_panels / 2) / 2 } else { most } / most_depth.max(1);
        let row_blocks = rows.len().div_ceil(most_rows.max(tile) / tile * tile).max(1);
        let tiles = rows.len().div_ceil(tile);
        let [panel_buffer, left_buffer] = &mut packed;
        let panel = panel_buffer.at_least(if kept { all_panels } else { panel_len });
        let kept_panel = |number: usize, index: usize| {
            panel.wrapping_add((number * panels.len() + index - panels.start) * panel_len)
        };
        if kept {
            for (number, index) in (0..blocks).flat_map(|number| panels.clone().map(move |index| (number, index))) {
                let PanelOf { side, columns } = product.panel(index, width);
                // SAFETY: as below.
                unsafe {
                    word_panel(simd, words, side.right, block_of(number), columns, kept_panel(number, index));
                }
            }
        }
        for block in 0..row_blocks {
            let rows_of = |block: usize| {
                let own = share(tiles, row_blocks, block);
                let at = |of: usize| rows.end.min(rows.start + of * tile);
                at(own.start)..at(own.end)
            };
            let own = rows_of(block);
            for number in 0..blocks {
                let ks = block_of(number);
                let (height, depth) = (own.len(), words.len(ks.len()));
                let block_left = left.at(own.start, ks.start);
                // Rows that pass by kept panels lie far from each other if they lie across: they come while the ones before are used.
                let next_left = match block + 1 < row_blocks {
                    true if kept && number + 1 == blocks => {
                        let rows = rows_of(block + 1);
                        region(left.at(rows.start, 0), rows.len(), block_of(0).len())
                    }
                    _ => Region::NONE,
                };
                // SAFETY: rows and ks lie inside the left factor; the buffer was just grown. The rest as in `Block`.
                unsafe {
                    let left = if left.row == 1 && left.column != 1 && !A::TILES {
                        let to = left_buffer.at_least(height * depth);
                        word_tiles(simd, words, block_left.data, left.column, (height, ks.len()), to);
                        Rows::Tiles(to)
                    } else {
                        Rows::Strided(left_words(simd, words, block_left, (height, ks.len()), left_buffer))
                    };
                    for index in panels.clone() {
                        let PanelOf { side: &Side { right, out, .. }, columns } = product.panel(index, width);
                        let mut out = out.at(own.start, columns.start);
                        if number > 0 {
                            out.initial = Initial::Out;
                        }
                        let mut panel = panel;
                        let mut ahead = [next_left.share(panels.len(), index - panels.start), Region::NONE];
                        if kept {
                            panel = kept_panel(number, index);
                        } else {
                            // Tiles need all that the first-level cache can ask for at a time themselves.
                            if !A::TILES {
                                ahead[1] = {
                                    let after = if index + 1 < panels.end { index + 1 } else { panels.start };
                                    let next = product.panel(after, width);
                                    let Source { data, row, column } = next.side.right;
                                    let transposed = Source { data, row: column, column: row };
                                    region(transposed.at(next.columns.start, ks.start), next.columns.len(), ks.len())
                                };
                            }
                            word_panel(simd, words, right, ks.clone(), columns.clone(), panel);
                        }
                        let ahead = Ahead::Regions(ahead);
                        tile::panel::<S, A>(simd, height, depth, columns.len(), left, panel, out, ahead);
                    }
                }
            }
        }
        PACKED.set(packed);
    }
}

/// Whether values at this stride fall into so few sets of the first-level cache that they push each other out: of its 64
/// sets, which repeat every 4 KiB, they reach 4 KiB / gcd(4 KiB, stride).
fn conflicts(stride: usize) -> bool {
    const REPEAT: usize = 1024;
    REPEAT >> stride.trailing_zeros().min(10) < 32
}

/// The memory of some rows of a factor.
fn region(left: Source, rows: usize, depth: usize) -> Region {
    match left.column {
        1 => Region { data: left.data, rows, stride: left.row, len: depth },
        stride => Region { data: left.data, rows: depth, stride, len: rows },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::arithmetic::{EVERY_WORDS, with_format};
    use crate::simd::{available, vectors};
    use crate::testing::{close, values};

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
            for start in [Some(Start::Zero), Some(Start::Out), None] {
                let initial = |i: usize| match start {
                    Some(Start::Zero) => 0.0,
                    Some(Start::Out) => before[i],
                    None => bias[i % n],
                };
                let expected: Vec<f32> = (0..m * n).map(|i| sum(i / n, i % n) + initial(i)).collect();
                let mut first: Option<Vec<f32>> = None;
                for (threads, across) in [(1, false), (2, false), (3, true), (2, true)] {
                    let mut out = before.clone();
                    let (a, b) = match across {
                        false => (Matrix::new(&a, m, k), Matrix::new(&b_transposed, n, k).transposed()),
                        true => (Matrix::new(&a_transposed, k, m).transposed(), Matrix::new(&b, k, n)),
                    };
                    let to = MatrixMut::new(&mut out, m, n);
                    team::with_threads(threads, || match start {
                        Some(start) => product(to, start, a, b),
                        None => product_with_bias(to, &bias, a, b),
                    });
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
            for (isa, _) in vectors() {
                let mut out = vec![f32::NAN; m * n];
                let left = Source { data: a.as_ptr(), row: k, column: 1 };
                let right = Source { data: b.as_ptr(), row: n, column: 1 };
                let out_view = Out { data: out.as_mut_ptr(), row: n, initial: Initial::Zero };
                let sides = [Side { n, right, out: out_view }];
                let product = Product { m, k, left, sides: &sides };
                let panels = isa.run(Cut { product: &product, threads: 1, by_tiles: false }).panels;
                isa.run(Block { product: &product, rows: 0..m, panels: 0..panels });
                results.push(out);
            }
            let (scalar, others) = results.split_last().unwrap();
            others.iter().for_each(|other| close(other, scalar, 1e-4));
        }
    }

    /// More than one block of k by which tiles are packed; and all panels kept while many rows pass.
    const SHAPES_OF_TILES: [(usize, usize, usize); 2] = [(35, 1300, 40), (900, 700, 33)];

    /// Products of words are sums in order, of pairs with blocks of K apart: the same bits on every instruction set.
    #[test]
    fn words_give_the_bits_of_their_definition_everywhere() {
        let shapes = EVERY_WORDS.into_iter().flat_map(|words| {
            let of_tiles = if words.tiles { &SHAPES_OF_TILES[..] } else { &[] };
            SHAPES.iter().chain(of_tiles).map(move |shape| (*shape, words))
        });
        for ((m, k, n), words) in shapes {
            let (a, b, bias, before) = (values(m * k, 1), values(k * n, 2), values(n, 4), values(m * n, 3));
            let a_transposed: Vec<f32> = (0..m * k).map(|i| a[(i % m) * k + i / m]).collect();
            let b_transposed: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
            let most_groups = MOST_WORDS / TILE_WORDS / words.parts();
            // By definition it takes its time: some of a large product.
            let step = (m * n * k / 2_000_000).max(1);
            for initial in [Initial::Zero, Initial::Out, Initial::Bias(bias.as_ptr())] {
                let from = |i: usize| match initial {
                    Initial::Zero => 0.0,
                    Initial::Out => before[i],
                    Initial::Bias(_) => bias[i % n],
                };
                let dot =
                    |i: usize| words.dot(&a[i / n * k..][..k], &b_transposed[i % n * k..][..k], from(i), most_groups);
                let expected: Vec<(usize, f32)> = (0..m * n).step_by(step).map(|i| (i, dot(i))).collect();
                let check = |out: &[f32], about: String| {
                    assert!(expected.iter().all(|(i, dot)| out[*i] == *dot), "{words:?}, {m} {k} {n}, {about}");
                };
                let mut every = available();
                #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
                every.extend(crate::simd::trapped());
                for isa in every {
                    for across in [false, true] {
                        let mut out = before.clone();
                        let (left, right) = match across {
                            false => (Matrix::new(&a, m, k), Matrix::new(&b_transposed, n, k).transposed()),
                            true => (Matrix::new(&a_transposed, k, m).transposed(), Matrix::new(&b, k, n)),
                        };
                        let sides =
                            [Side { n, right: right.source(), out: Out { data: out.as_mut_ptr(), row: n, initial } }];
                        let product = Product { m, k, left: left.source(), sides: &sides };
                        let panels = n.div_ceil(PANEL * isa.run(WidthOf));
                        words.run_on(isa, WordBlock { product: &product, words, rows: 0..m, panels: 0..panels });
                        check(&out, format!("{}, across: {across}", isa.unit()));
                    }
                }
                for threads in [1, 2, 3] {
                    let mut out = before.clone();
                    let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
                    let sides = [(MatrixMut::new(&mut out, m, n), initial, b)];
                    team::with_threads(threads, || with_format(Format::Words(words), || multiply(a, sides)));
                    check(&out, format!("{threads} threads"));
                }
            }
        }
    }

    struct WidthOf;

    impl Kernel for WidthOf {
        type Output = usize;

        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::LANES
        }
    }

    /// In two parts a factor has 16 to 17 bits: each of the three products left out or rounded is 2⁻¹⁷ of the whole at most.
    #[test]
    fn two_parts_are_a_hundred_times_nearer_than_one() {
        for (m, k, n) in [(7, 33, 129), (13, 700, 17), (33, 129, 1)] {
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            let exact = |i: usize| -> f64 {
                (0..k).map(|at| f64::from(a[i / n * k + at]) * f64::from(b[at * n + i % n])).sum()
            };
            for tiles in [false, true] {
                let worst = |split: bool| {
                    let mut out = vec![f32::NAN; m * n];
                    with_format(Format::Words(Words { split, tiles }), || {
                        let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
                        product(MatrixMut::new(&mut out, m, n), Start::Zero, a, b);
                    });
                    let error = |(i, x): (usize, &f32)| (f64::from(*x) - exact(i)).abs();
                    out.iter().enumerate().map(error).fold(0.0, f64::max) / (k as f64).sqrt()
                };
                let (one, two) = (worst(false), worst(true));
                assert!(two < 2.0f64.powi(-16) && two < one / 100.0, "{m} {k} {n}: {one:e} and {two:e}");
            }
        }
    }

    /// What is no number in one row of either factor reaches that row or column alone; tails of K and of tiles included.
    #[test]
    fn rows_of_words_do_not_touch() {
        for ((m, k, n), words) in [(13, 33, 35), (1, 1, 1), (40, 700, 3)]
            .into_iter()
            .flat_map(|shape| EVERY_WORDS.map(|words| (shape, words)))
        {
            let (mut a, b) = (values(m * k, 1), values(n * k, 2));
            a[m / 2 * k + k - 1] = f32::NAN;
            let mut out = vec![0.0; m * n];
            with_format(Format::Words(words), || {
                product(
                    MatrixMut::new(&mut out, m, n),
                    Start::Zero,
                    Matrix::new(&a, m, k),
                    Matrix::new(&b, n, k).transposed(),
                );
            });
            for (row, out) in out.chunks_exact(n).enumerate() {
                assert!(out.iter().all(|x| x.is_nan() == (row == m / 2)), "{words:?}: {m} {k} {n}: row {row}");
            }
        }
    }

    #[test]
    fn several_right_factors_give_what_each_gives_alone() {
        let (m, k) = (70, 300);
        let (a, b, c) = (values(m * k, 1), values(k * 33, 2), values(k * 70, 3));
        let (a, b, c) = (Matrix::new(&a, k, m).transposed(), Matrix::new(&b, k, 33), Matrix::new(&c, k, 70));
        let mut alone = [vec![0.0; m * 33], vec![1.0; m * 70]];
        let mut together = alone.clone();
        let [to_b, to_c] = &mut alone;
        product(MatrixMut::new(to_b, m, 33), Start::Zero, a, b);
        product(MatrixMut::new(to_c, m, 70), Start::Out, a, c);
        let [to_b, to_c] = &mut together;
        products(a, [(MatrixMut::new(to_b, m, 33), Start::Zero, b), (MatrixMut::new(to_c, m, 70), Start::Out, c)]);
        assert_eq!(alone, together);
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
