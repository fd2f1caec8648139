//! The scores of a mixture of softmaxes.

use crate::ops::activation::exp_of_minus;
use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team::chunks::for_each_chunk;

/// The columns whose sums one thread takes at a time.
const COLUMNS: usize = 2048;

/// out `[V]` = ln Σₖ exp(scores `[K, V]` + offsets `[K]`), where no score with its offset is much above 0: the
/// logarithms of a mixture's probabilities, where the offset of a row of scores is the logarithm of the row's weight
/// less that of the sum of its exponentials. Below -87.3 they are not exact.
///
/// # Panics
/// When the lengths do not fit each other.
pub fn column_log_sum_exp(out: &mut [f32], scores: &[f32], offsets: &[f32]) {
    let width = out.len();
    assert_eq!(scores.len(), offsets.len() * width, "a score for every offset and column");
    for_each_chunk(out, COLUMNS, |index, out| {
        let first = index * COLUMNS;
        dispatch(Columns { out, scores: &scores[first.min(scores.len())..], width, offsets });
        out.iter_mut().for_each(|sum| *sum = sum.ln());
    });
}

/// out = Σₖ exp(scores + offsets) of columns whose scores begin at `scores`, from row to row `width` apart.
struct Columns<'a> {
    out: &'a mut [f32],
    scores: &'a [f32],
    width: usize,
    offsets: &'a [f32],
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { out, scores, width, offsets } = self;
        let to = out.as_mut_ptr();
        for_vectors!(S, out.len(), |i, lanes| {
            let mut sum = simd.splat(0.0);
            for (k, offset) in offsets.iter().enumerate() {
                // SAFETY: these columns of row k, as the caller's slices were checked to hold.
                let score = unsafe { lanes.load(simd, scores[k * width..].as_ptr().add(i)) };
                let less = simd.sub(simd.splat(-offset), score);
                sum = simd.add(sum, exp_of_minus(simd, less));
            }
            // SAFETY: these values.
            unsafe { lanes.store(simd, to.add(i), sum) };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, values};
    use crate::with_threads;

    #[test]
    fn a_mixture_is_the_weighted_sum_of_its_softmaxes() {
        for (rows, width) in [(1, 1), (2, 7), (3, 129), (5, 4_101)] {
            let scores: Vec<f32> = values(rows * width, 3).iter().map(|x| 9.0 * x).collect();
            let weights: Vec<f64> = (0..rows).map(|k| (k + 1) as f64 / (rows * (rows + 1) / 2) as f64).collect();
            let exp = |x: &f32| f64::from(*x).exp();
            let totals: Vec<f64> = scores.chunks(width).map(|row| row.iter().map(exp).sum()).collect();
            let offsets: Vec<f32> =
                weights.iter().zip(&totals).map(|(weight, total)| (weight.ln() - total.ln()) as f32).collect();
            let expected: Vec<f32> = (0..width)
                .map(|v| (0..rows).map(|k| weights[k] * exp(&scores[k * width + v]) / totals[k]).sum::<f64>().ln())
                .map(|x| x as f32)
                .collect();
            for threads in [1, 3] {
                let mut out = vec![f32::NAN; width];
                with_threads(threads, || column_log_sum_exp(&mut out, &scores, &offsets));
                close(&out, &expected, 2e-6);
            }
        }
    }
}
