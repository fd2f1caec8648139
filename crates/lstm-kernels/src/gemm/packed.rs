//! Products with one right factor again and again: packed once, as the weights of a recurrence are.

use std::cell::RefCell;

use crate::gemm::arithmetic::{Arithmetic, FactorKernel, Format, format};
use crate::gemm::matrix::{Matrix, Out, Source, Start};
use crate::gemm::pack::{Panels, column_share, pack_columns};
use crate::gemm::product::WORTH_A_THREAD;
use crate::gemm::streamed::{Grid, Streamed, Sweep};
use crate::gemm::words::LeftWords;
use crate::memory::Aligned;
use crate::simd::Simd;
use crate::team::chunks::share;
use crate::team::shared::Shared;
use crate::team::{self, Member};

/// A right factor `[K, N]`, packed in the precision of the products asked for when it was. The buffers are reused.
#[derive(Clone, Debug, Default)]
pub struct PackedFactor {
    values: Aligned,
    format: Format,
    depth: usize,
    columns: usize,
}

impl PackedFactor {
    /// Packs `factor`, `[K, N]`.
    pub fn pack(&mut self, factor: Matrix) {
        (self.depth, self.columns) = factor.shape();
        self.format = format();
        pack_columns(&mut self.values, self.format, factor.source(), factor.shape(), 1);
    }

    /// out `[M, N]` = start + a `[M, K]` · factor.
    ///
    /// # Panics
    /// When `a` and `out` do not have as many rows of the factor's sizes.
    pub fn product(&self, out: &mut [f32], start: Start, a: &[f32]) {
        let &Self { depth, columns, .. } = self;
        let rows = out.len() / columns.max(1);
        assert_eq!((out.len(), a.len()), (rows * columns, rows * depth), "rows of a product");
        let wanted = rows * columns * depth / WORTH_A_THREAD;
        let grid = if wanted < 2 { Grid { rows: 1, columns: 1 } } else { Grid::choose(rows, depth, columns) };
        let out = Shared::new(out);
        let left = Source { data: a.as_ptr(), row: depth, column: 1 };
        team::run(grid.members(), |member| {
            // A team of another size than asked for shares the columns alone; the result is the same.
            let grid = if member.count == grid.members() { grid } else { Grid { rows: 1, columns: member.count } };
            self.format.dispatch(Share { factor: self, rows, left, out, start, grid, member });
        });
    }
}

/// A member's rows and columns of a product.
struct Share<'a> {
    factor: &'a PackedFactor,
    rows: usize,
    left: Source,
    out: Shared,
    start: Start,
    grid: Grid,
    member: &'a Member<'a>,
}

impl FactorKernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, A: Arithmetic>(self, simd: S) {
        let Self { factor, left, out, start, grid, member, .. } = self;
        let &PackedFactor { ref values, format, depth, columns: all } = factor;
        let rows = share(self.rows, grid.rows, member.index / grid.columns);
        let columns = column_share(all, grid.columns, member.index % grid.columns);
        let mut words = WORDS.take();
        // SAFETY: rows and columns lie inside the factors, whose shapes were checked; this member's are its own.
        unsafe {
            let out = Out { data: out.at(rows.start * all + columns.start), row: all, initial: start.into() };
            let left = words.rows::<S, A>(simd, format, left.at(rows.start, 0), rows.len(), depth);
            let weights = Panels::new(values, format.len(depth));
            Streamed::<A>::new(rows.len(), left, weights, Sweep::Up).columns(simd, columns, out);
        }
        WORDS.set(words);
    }
}

thread_local! {
    /// A left factor as words.
    static WORDS: RefCell<LeftWords> = const { RefCell::new(LeftWords::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::arithmetic::{EVERY_WORDS, with_format};
    use crate::testing::{close, values};

    #[test]
    fn agrees_with_the_definition_and_for_any_threads() {
        for (m, k, n) in [(1, 1, 1), (2, 33, 7), (7, 129, 33), (50, 300, 129), (3, 1100, 800), (0, 3, 2), (2, 0, 3)] {
            let (a, b, before) = (values(m * k, 1), values(n * k, 2), values(m * n, 3));
            let sum = |i: usize| (0..k).map(|at| a[i / n * k + at] * b[i % n * k + at]).sum::<f32>();
            let mut packed = PackedFactor::default();
            packed.pack(Matrix::new(&b, n, k).transposed());
            for start in [Start::Zero, Start::Out] {
                let run = |threads| {
                    let mut out = before.clone();
                    crate::with_threads(threads, || packed.product(&mut out, start, &a));
                    out
                };
                let expected: Vec<f32> =
                    (0..m * n).map(|i| sum(i) + if start == Start::Out { before[i] } else { 0.0 }).collect();
                close(&run(1), &expected, 1e-4);
                for words in EVERY_WORDS {
                    let rounded = with_format(Format::Words(words), || {
                        let mut packed = PackedFactor::default();
                        packed.pack(Matrix::new(&b, n, k).transposed());
                        let run = |threads| {
                            let mut out = before.clone();
                            crate::with_threads(threads, || packed.product(&mut out, start, &a));
                            out
                        };
                        assert!([2, 3].map(run).iter().all(|out| *out == run(1)), "{words:?} [{m}, {k}] · [{k}, {n}]");
                        run(1)
                    });
                    // Both factors are off by 2⁻⁹ of themselves at most, in two parts by 2⁻¹⁷.
                    let bound = 2.0f32.powi(if words.split { -16 } else { -8 }) * (k as f32).sqrt().max(1.0);
                    assert!(
                        rounded.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= bound),
                        "{words:?} [{m}, {k}] · [{k}, {n}]"
                    );
                }
                for threads in [2, 3] {
                    assert!(run(1) == run(threads), "[{m}, {k}] · [{k}, {n}], {threads} threads");
                }
            }
        }
    }
}
