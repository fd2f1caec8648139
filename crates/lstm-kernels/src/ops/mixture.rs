//! What a mixture of softmaxes needs beside products and cross-entropy: tanh of its latent vectors, forward and backward,
//! and the scores of the mixture.

use crate::ops::activation::{self, exp_of_minus};
use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team::chunks::{CHUNK, for_each_chunk};

/// values = tanh(values).
pub fn tanh(values: &mut [f32]) {
    for_each_chunk(values, CHUNK, |_, values| dispatch(Tanh { values }));
}

pub(crate) struct Tanh<'a> {
    pub(crate) values: &'a mut [f32],
}

impl Kernel for Tanh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let at = self.values.as_mut_ptr();
        for_vectors!(S, self.values.len(), |i, lanes| {
            // SAFETY: these values.
            unsafe { lanes.store(simd, at.add(i), activation::tanh(simd, lanes.load(simd, at.add(i)))) };
        });
    }
}

/// d ∘= 1 - tanh². d: the gradient of what [`tanh`] gave, then of what it was given; `tanh`: what it gave.
///
/// # Panics
/// When the lengths differ.
pub fn tanh_backward(d: &mut [f32], tanh: &[f32]) {
    assert_eq!(d.len(), tanh.len(), "a gradient for every value");
    for_each_chunk(d, CHUNK, |index, d| {
        let tanh = &tanh[index * CHUNK..][..d.len()];
        d.iter_mut().zip(tanh).for_each(|(d, tanh)| *d *= 1.0 - tanh * tanh);
    });
}

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
    fn passes_agree_with_double_precision_for_any_threads() {
        for len in [1, 7, 33, 129, 70_001] {
            let x: Vec<f32> = values(len, 1).iter().map(|x| 4.0 * x).collect();
            let d = values(len, 2);
            let exact = |f: fn(f64, f64) -> f64| -> Vec<f32> {
                x.iter().zip(&d).map(|(x, d)| f(f64::from(*x), f64::from(*d)) as f32).collect()
            };
            for threads in [1, 3] {
                let (mut forward, mut backward) = (x.clone(), d.clone());
                with_threads(threads, || {
                    tanh(&mut forward);
                    tanh_backward(&mut backward, &forward);
                });
                close(&forward, &exact(|x, _| x.tanh()), 1e-6);
                close(&backward, &exact(|x, d| d * (1.0 - x.tanh() * x.tanh())), 1e-6);
            }
        }
    }

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
