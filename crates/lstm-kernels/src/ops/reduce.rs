//! Passes over vectors and rows: sums of columns and of products of columns, norms, products by value.

use std::cell::RefCell;
use std::ops::Range;

use crate::gemm::matrix::{Matrix, Start};
use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team;
use crate::team::chunks::{CHUNK, chunk, for_each_chunk, for_each_piece};
use crate::team::shared::Shared;

/// The columns that one task takes.
const COLUMNS: usize = 128;

/// out `[N]` = start + the sums of the columns of `rows: [M, N]`.
///
/// # Panics
/// When `rows` is not a whole number of rows.
pub fn column_sums(out: &mut [f32], start: Start, rows: &[f32]) {
    let width = out.len();
    assert!(width == 0 && rows.is_empty() || width > 0 && rows.len().is_multiple_of(width), "rows of {width} columns");
    let tasks = if rows.len() <= CHUNK { 1 } else { width.div_ceil(COLUMNS) };
    let size = if tasks == 1 { width } else { COLUMNS };
    let parts = Shared::new(out);
    team::for_each(tasks, |index| {
        let columns = chunk(width, index, size);
        // SAFETY: chunks are disjoint.
        let out = unsafe { parts.take(columns.clone()) };
        dispatch(ColumnSums { out, rows, width, first: columns.start, start });
    });
}

struct ColumnSums<'a> {
    out: &'a mut [f32],
    rows: &'a [f32],
    width: usize,
    first: usize,
    start: Start,
}

impl Kernel for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { out, rows, width, first, start } = self;
        let mut done = 0;
        while done < out.len() {
            // Four vectors side by side while there are as many.
            let vectors = if out.len() - done >= 4 * S::LANES { 4 } else { 1 };
            let count = S::LANES.min(out.len() - done);
            let mut sums = [simd.splat(0.0); 4];
            for row in rows.chunks_exact(width) {
                let at = row[first + done..].as_ptr();
                // SAFETY: `vectors` whole vectors, or `count` values, from `first + done` are inside the row.
                unsafe {
                    if vectors == 4 {
                        for (v, sum) in sums.iter_mut().enumerate() {
                            *sum = simd.add(*sum, simd.load(at.add(v * S::LANES)));
                        }
                    } else {
                        sums[0] = simd.add(sums[0], simd.load_first(at, count));
                    }
                }
            }
            for (v, sum) in sums.into_iter().enumerate().take(vectors) {
                let out = out[done + v * S::LANES..].as_mut_ptr();
                // SAFETY: `count` values are inside the output.
                unsafe {
                    let sum = if start == Start::Out { simd.add(simd.load_first(out, count), sum) } else { sum };
                    simd.store_first(out, count, sum);
                }
            }
            done += vectors * count;
        }
    }
}

/// out `[N]` = start + the sums over rows of a ∘ b, both `[M, N]`.
///
/// # Panics
/// When the shapes do not fit each other, or a matrix is transposed.
pub fn column_products(out: &mut [f32], start: Start, a: Matrix, b: Matrix) {
    let (rows, width) = a.shape();
    assert_eq!([a.shape(), b.shape()], [(rows, out.len()); 2], "columns of two matrices");
    assert_eq!([a.source().column, b.source().column], [1; 2], "matrices row by row");
    let tasks = if rows * width <= CHUNK { 1 } else { width.div_ceil(COLUMNS) };
    let size = if tasks == 1 { width } else { COLUMNS };
    let parts = Shared::new(out);
    team::for_each(tasks, |index| {
        let columns = chunk(width, index, size);
        // SAFETY: chunks are disjoint.
        let out = unsafe { parts.take(columns.clone()) };
        dispatch(ColumnProducts { out, first: columns.start, rows, a, b, start });
    });
}

struct ColumnProducts<'a> {
    out: &'a mut [f32],
    first: usize,
    rows: usize,
    a: Matrix<'a>,
    b: Matrix<'a>,
    start: Start,
}

impl Kernel for ColumnProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { out, first: before, rows, a, b, start } = self;
        let (a, b) = (a.source(), b.source());
        // SAFETY: the matrices hold these rows and columns, which was checked when they were made.
        unsafe {
            for_vectors!(S, out.len(), |first, lanes| {
                let mut sum = simd.splat(0.0);
                for row in 0..rows {
                    let at = before + first;
                    let x = lanes.load(simd, a.data.add(row * a.row + at));
                    sum = simd.mul_add(x, lanes.load(simd, b.data.add(row * b.row + at)), sum);
                }
                let out = out.as_mut_ptr().add(first);
                let sum = if start == Start::Out { simd.add(lanes.load(simd, out), sum) } else { sum };
                lanes.store(simd, out, sum);
            });
        }
    }
}

/// The sum of the squares of the values in `ranges`: in single precision over a few thousand values, those sums in
/// double precision.
pub fn sum_of_squares(values: &[f32], ranges: &[Range<usize>]) -> f64 {
    thread_local! {
        static SUMS: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
    }
    let mut sums = SUMS.take();
    let pieces: usize = ranges.iter().map(|range| range.len().div_ceil(CHUNK)).sum();
    sums.clear();
    sums.resize(pieces, 0.0);
    let parts = Shared::new(&mut sums);
    for_each_piece(ranges, |index, piece| {
        let piece = &values[piece];
        let sum = dispatch(Squares { values: piece });
        // Squares beyond single precision are rare enough to be summed again.
        let slow = || piece.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        // SAFETY: every piece has a number of its own.
        unsafe { parts.take(index..index + 1)[0] = if sum.is_finite() { sum } else { slow() } };
    });
    let total = sums.iter().sum();
    SUMS.set(sums);
    total
}

struct Squares<'a> {
    values: &'a [f32],
}

impl Kernel for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        let mut total = 0.0;
        for block in self.values.chunks(4096) {
            // Four sums side by side, so that none waits for itself.
            let mut sums = [simd.splat(0.0); 4];
            let four = block.len() - block.len() % (4 * S::LANES);
            let at = block.as_ptr();
            for i in (0..four).step_by(4 * S::LANES) {
                for (v, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: whole vectors of the block.
                    let x = unsafe { simd.load(at.add(i + v * S::LANES)) };
                    *sum = simd.mul_add(x, x, *sum);
                }
            }
            for_vectors!(S, block.len() - four, |i, lanes| {
                // SAFETY: the values after those.
                let x = unsafe { lanes.load(simd, at.add(four + i)) };
                sums[0] = simd.mul_add(x, x, sums[0]);
            });
            let [a, b, c, d] = sums;
            let lanes = simd.lanes(simd.add(simd.add(a, b), simd.add(c, d)));
            total += lanes[..S::LANES].iter().map(|x| f64::from(*x)).sum::<f64>();
        }
        total
    }
}

/// values ∘= factors.
///
/// # Panics
/// When the lengths differ.
pub fn multiply(values: &mut [f32], factors: &[f32]) {
    assert_eq!(values.len(), factors.len(), "a factor for every value");
    for_each_chunk(values, CHUNK, |index, values| {
        let factors = &factors[index * CHUNK..][..values.len()];
        values.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, values};

    #[test]
    fn passes_agree_with_their_definitions() {
        for (rows, width) in [(1, 1), (7, 33), (129, 300)] {
            let matrix = values(rows * width, 1);
            let mut sums = vec![1.0; width];
            column_sums(&mut sums, Start::Out, &matrix);
            let column = |c: usize| (0..rows).map(|r| matrix[r * width + c]).sum::<f32>();
            close(&sums, &(0..width).map(|c| 1.0 + column(c)).collect::<Vec<_>>(), 1e-5);
            column_sums(&mut sums, Start::Zero, &matrix);
            close(&sums, &(0..width).map(column).collect::<Vec<_>>(), 1e-5);
        }
        let long = values(200_003, 5);
        let plain = |range: Range<usize>| long[range].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        let whole = sum_of_squares(&long, std::slice::from_ref(&(0..200_003)));
        assert!((whole / plain(0..200_003) - 1.0).abs() < 1e-6);
        let some = [3..40, 50_000..150_001, 199_990..200_003];
        let expected: f64 = some.iter().cloned().map(plain).sum();
        assert!((sum_of_squares(&long, &some) / expected - 1.0).abs() < 1e-6);
        assert_eq!(sum_of_squares(&[3e30, 4e30], std::slice::from_ref(&(0..2))).sqrt() as f32, 5e30);
        assert!(sum_of_squares(&[f32::NAN], std::slice::from_ref(&(0..1))).is_nan());
        let mut product = long.clone();
        multiply(&mut product, &long);
        assert!(product.iter().zip(&long).all(|(product, x)| *product == x * x));
    }

    #[test]
    fn columns_of_products_agree_with_their_definition() {
        for (rows, width) in [(1, 1), (7, 33), (129, 300)] {
            let (a, b) = (values(rows * (width + 5), 1), values(rows * width, 2));
            let mut sums = vec![1.0; width];
            let (left, right) = (Matrix::with_stride(&a[5..], rows, width, width + 5), Matrix::new(&b, rows, width));
            column_products(&mut sums, Start::Out, left, right);
            let sum = |c: usize| (0..rows).map(|r| a[r * (width + 5) + 5 + c] * b[r * width + c]).sum::<f32>();
            close(&sums, &(0..width).map(|c| 1.0 + sum(c)).collect::<Vec<_>>(), 1e-5);
            column_products(&mut sums, Start::Zero, left, right);
            close(&sums, &(0..width).map(sum).collect::<Vec<_>>(), 1e-5);
        }
    }
}
