//! Passes over vectors and rows: biases, column sums, norms.

use rayon::prelude::*;

/// The values of one task: large against handing it to a thread, small against the second-level cache.
pub(crate) const CHUNK: usize = 1 << 16;

/// Sets every row of `rows: [M, N]` to `a: [N]`, plus `b: [N]`.
pub fn fill_bias(rows: &mut [f32], a: &[f32], b: Option<&[f32]>) {
    if a.is_empty() {
        return;
    }
    let per_task = (CHUNK / a.len()).max(1) * a.len();
    rows.par_chunks_mut(per_task).for_each(|rows| {
        for row in rows.chunks_exact_mut(a.len()) {
            match b {
                None => row.copy_from_slice(a),
                Some(b) => row.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = a + b),
            }
        }
    });
}

/// out `[N]` += the sums of the columns of `rows: [M, N]`.
pub fn column_sums(out: &mut [f32], rows: &[f32]) {
    let width = out.len();
    out.par_chunks_mut(256).enumerate().for_each(|(chunk, out)| {
        let mut sums = [0.0f32; 256];
        let sums = &mut sums[..out.len()];
        for row in rows.chunks_exact(width) {
            for (sum, x) in sums.iter_mut().zip(&row[chunk * 256..]) {
                *sum += x;
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out += *sum;
        }
    });
}

/// The sum of the squares, in double precision over fixed chunks.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    let chunk_sum = |chunk: &[f32]| {
        let mut lanes = [0.0f64; 16];
        let (blocks, rest) = chunk.as_chunks::<16>();
        for block in blocks {
            for (lane, x) in lanes.iter_mut().zip(block) {
                *lane += f64::from(*x) * f64::from(*x);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(*x) * f64::from(*x);
        }
        lanes.iter().sum::<f64>()
    };
    let sums: Vec<f64> = values.par_chunks(CHUNK).map(chunk_sum).collect();
    sums.iter().sum()
}

/// values ∘= factors.
pub fn multiply(values: &mut [f32], factors: &[f32]) {
    values.par_chunks_mut(CHUNK).zip(factors.par_chunks(CHUNK)).for_each(|(values, factors)| {
        for (x, factor) in values.iter_mut().zip(factors) {
            *x *= factor;
        }
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Reproducible values in [-1, 1).
    pub(crate) fn values(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).max(1);
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// Every difference is at most `tolerance` of the larger of the value and one.
    pub(crate) fn close(got: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(got.len(), expected.len());
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            let bound = tolerance * expected.abs().max(1.0);
            assert!((got - expected).abs() <= bound, "at {i}: got {got}, expected {expected}");
        }
    }

    #[test]
    fn passes_agree_with_their_definitions() {
        for (rows, width) in [(1, 1), (7, 33), (129, 300)] {
            let matrix = values(rows * width, 1);
            let mut sums = vec![1.0; width];
            column_sums(&mut sums, &matrix);
            let expected: Vec<f32> =
                (0..width).map(|c| 1.0 + (0..rows).map(|r| matrix[r * width + c]).sum::<f32>()).collect();
            close(&sums, &expected, 1e-5);
            let (a, b) = (values(width, 2), values(width, 3));
            let mut filled = matrix.clone();
            fill_bias(&mut filled, &a, Some(&b));
            assert!((0..rows * width).all(|i| filled[i] == a[i % width] + b[i % width]));
        }
        let long = values(200_003, 5);
        let plain: f64 = long.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((sum_of_squares(&long) / plain - 1.0).abs() < 1e-12);
    }
}
