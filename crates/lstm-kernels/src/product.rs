//! Matrix products: faer's single-threaded kernel on a grid of tasks that depends on the shape alone, so that the
//! bits do not depend on the number of threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

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

    fn view(self) -> MatRef<'a, f32> {
        let needed = extent(self.rows, self.columns, self.stride);
        let view = if needed == 0 {
            MatRef::from_row_major_slice(&[], self.rows, self.columns)
        } else {
            // SAFETY: the constructor checked that every row lies inside `data`.
            unsafe { MatRef::from_raw_parts(self.data.as_ptr(), self.rows, self.columns, self.stride as isize, 1) }
        };
        if self.transposed { view.transpose() } else { view }
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

fn extent(rows: usize, columns: usize, stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns }
}

fn check(len: usize, rows: usize, columns: usize, stride: usize) {
    assert!(stride >= columns, "a row of {columns} values does not fit a stride of {stride}");
    assert!(len >= extent(rows, columns, stride), "[{rows}, {columns}] does not fit {len} values");
}

/// Whether a product replaces its output or adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// out = a · b
    Replace,
    /// out += a · b
    Add,
}

/// The multiply-adds of one task: about 20 µs of one core, large against handing the task to a thread.
const TASK: usize = 1 << 21;

/// out `[M, N]` = or += a `[M, K]` · b `[K, N]`.
///
/// # Panics
/// When the shapes do not fit each other.
pub fn product(out: MatrixMut, accumulate: Accumulate, a: Matrix, b: Matrix) {
    let (a, b) = (a.view(), b.view());
    assert_eq!((a.nrows(), b.ncols(), a.ncols()), (out.rows, out.columns, b.nrows()), "shapes of a product");
    if out.rows == 0 || out.columns == 0 {
        return;
    }
    // SAFETY: the constructor checked that every row lies inside `data`, which is borrowed exclusively.
    let out =
        unsafe { MatMut::from_raw_parts_mut(out.data.as_mut_ptr(), out.rows, out.columns, out.stride as isize, 1) };
    let accumulate = match accumulate {
        Accumulate::Replace => Accum::Replace,
        Accumulate::Add => Accum::Add,
    };
    split(out, accumulate, a, b);
}

/// Halves the longer side until a task is small enough.
fn split(out: MatMut<f32>, accumulate: Accum, a: MatRef<f32>, b: MatRef<f32>) {
    let (rows, columns) = (out.nrows(), out.ncols());
    let longest = rows.max(columns);
    if rows * columns * a.ncols() <= TASK || longest < 128 {
        return matmul(out, accumulate, a, b, 1.0, Par::Seq);
    }
    // Whole register tiles on one side.
    let middle = (longest / 2).next_multiple_of(32);
    if rows >= columns {
        let (top, bottom) = out.split_at_row_mut(middle);
        let (a_top, a_bottom) = a.split_at_row(middle);
        rayon::join(|| split(top, accumulate, a_top, b), || split(bottom, accumulate, a_bottom, b));
    } else {
        let (left, right) = out.split_at_col_mut(middle);
        let (b_left, b_right) = b.split_at_col(middle);
        rayon::join(|| split(left, accumulate, a, b_left), || split(right, accumulate, a, b_right));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::tests::{close, values};

    #[test]
    fn agrees_with_the_definition_and_for_any_threads() {
        for (m, k, n) in [(1, 1, 1), (7, 33, 129), (129, 7, 33), (260, 129, 333), (3, 0, 5), (33, 129, 1)] {
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            let mut expected = values(m * n, 3);
            for (row, out) in expected.chunks_exact_mut(n).enumerate() {
                for (column, out) in out.iter_mut().enumerate() {
                    *out += (0..k).map(|i| a[row * k + i] * b[i * n + column]).sum::<f32>();
                }
            }
            let b_transposed: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
            let mut first: Option<Vec<f32>> = None;
            for threads in [1, 2, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut out = values(m * n, 3);
                pool.install(|| {
                    let b = Matrix::new(&b_transposed, n, k).transposed();
                    product(MatrixMut::new(&mut out, m, n), Accumulate::Add, Matrix::new(&a, m, k), b);
                });
                close(&out, &expected, 1e-4);
                assert_eq!(first.get_or_insert_with(|| out.clone()), &out);
            }
        }
    }
}
