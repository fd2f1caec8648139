//! Matrices: over slices, whose shapes are checked once, and over pointers, as kernels take them.

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
    pub(crate) fn shape(self) -> (usize, usize) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    /// The values, for kernels.
    pub(crate) fn source(self) -> Source {
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

    /// (rows, columns).
    pub(crate) fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// The values, for kernels that begin their sums with `initial`.
    pub(crate) fn out(self, initial: Initial) -> Out {
        Out { data: self.data.as_mut_ptr(), row: self.stride, initial }
    }
}

fn check(len: usize, rows: usize, columns: usize, stride: usize) {
    let extent = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns };
    assert!(stride >= columns, "a row of {columns} values does not fit a stride of {stride}");
    assert!(len >= extent, "[{rows}, {columns}] does not fit {len} values");
}

/// The value that the sums of a result start from: overwriting an output, or adding to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Zero: the output is overwritten, so it need not be zeroed before.
    Zero,
    /// The output: the result is added to it.
    Out,
}

impl Start {
    /// `self` for the `first` of several parts of a sum, [`Start::Out`] for those after it.
    pub fn of_part(self, first: bool) -> Self {
        if first { self } else { Self::Out }
    }

    /// out = values, or out += values.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn store(self, out: &mut [f32], values: &[f32]) {
        assert_eq!(out.len(), values.len(), "a value for every output");
        match self {
            Self::Zero => out.copy_from_slice(values),
            Self::Out => out.iter_mut().zip(values).for_each(|(out, value)| *out += value),
        }
    }
}

/// A read-only matrix: the value at (r, c) is `data[r · row + c · column]`.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) data: *const f32,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl Source {
    /// From row `row` and column `column` on.
    #[inline(always)]
    pub(crate) fn at(self, row: usize, column: usize) -> Self {
        Self { data: self.data.wrapping_add(row * self.row + column * self.column), ..self }
    }
}

/// [`Start`], or one value for each column, as kernels take it.
#[derive(Clone, Copy)]
pub(crate) enum Initial {
    Zero,
    Out,
    Bias(*const f32),
}

impl From<Start> for Initial {
    fn from(start: Start) -> Self {
        match start {
            Start::Zero => Self::Zero,
            Start::Out => Self::Out,
        }
    }
}

/// The output `[rows, columns]`: the value at (r, c) is `data[r · row + c]`.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) data: *mut f32,
    pub(crate) row: usize,
    pub(crate) initial: Initial,
}

impl Out {
    /// From row `row` and column `column` on.
    #[inline(always)]
    pub(crate) fn at(self, row: usize, column: usize) -> Self {
        let initial = match self.initial {
            Initial::Bias(bias) => Initial::Bias(bias.wrapping_add(column)),
            initial => initial,
        };
        Self { data: self.data.wrapping_add(row * self.row + column), initial, ..self }
    }
}

// SAFETY: it is only read, while its owner is borrowed.
unsafe impl Send for Source {}
// SAFETY: as above.
unsafe impl Sync for Source {}
// SAFETY: who hands one to another thread keeps what is written disjoint; see the products.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_parts_of_a_sum_are_added() {
        for (start, expected) in [(Start::Zero, [3.0, 5.0]), (Start::Out, [13.0, 25.0])] {
            let mut out = [10.0, 20.0];
            for (index, part) in [[1.0, 2.0], [2.0, 3.0]].iter().enumerate() {
                start.of_part(index == 0).store(&mut out, part);
            }
            assert_eq!(out, expected);
        }
    }

    #[test]
    #[should_panic(expected = "[3, 4] does not fit 10 values")]
    fn a_matrix_larger_than_its_slice_is_refused() {
        Matrix::with_stride(&[0.0; 10], 3, 4, 4);
    }
}
