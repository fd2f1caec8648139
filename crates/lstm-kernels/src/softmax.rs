//! Softmax and cross-entropy over rows of scores, forward and backward in one visit while a row is in cache.

use rayon::prelude::*;

use crate::activation::{Vectorised, exp};
use crate::isa::dispatch;

/// Softmax cross-entropy of every row. scores: `[M, V]`; targets: `[M]`, each below V; nll: `[M]`, out, in nats.
///
/// `bias: [V]` is added to every row first. With `gradient`, the scores become the gradient of `scale` times the
/// summed nll: `(softmax - onehot) · scale`; without, they become log-probabilities.
///
/// # Panics
/// When the lengths do not fit each other or a target is not below V.
pub fn cross_entropy(
    scores: &mut [f32],
    vocabulary: usize,
    targets: &[u32],
    bias: Option<&[f32]>,
    scale: f32,
    gradient: bool,
    nll: &mut [f32],
) {
    assert_eq!((scores.len(), nll.len()), (targets.len() * vocabulary, targets.len()), "shapes of a loss");
    let rows = scores.par_chunks_mut(vocabulary.max(1)).zip(targets).zip(nll);
    rows.for_each(|((row, &target), nll)| {
        let target = target as usize;
        let row_nll = dispatch(Vectorised(
            #[inline(always)]
            || {
                if let Some(bias) = bias {
                    row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
                }
                row_loss(row, target, scale, gradient)
            },
        ));
        *nll = row_nll;
    });
}

#[inline(always)]
fn row_loss(row: &mut [f32], target: usize, scale: f32, gradient: bool) -> f32 {
    // Sixteen lanes: a fixed order of additions that fills a vector register.
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let max = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, x| max.max(*x));
    let chosen = row[target] - max;
    let mut sums = [0.0f32; LANES];
    let (blocks, rest) = row.as_chunks_mut::<LANES>();
    for block in blocks {
        for (sum, x) in sums.iter_mut().zip(block) {
            let e = exp(*x - max);
            *sum += e;
            *x = if gradient { e } else { *x - max };
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        let e = exp(*x - max);
        *sum += e;
        *x = if gradient { e } else { *x - max };
    }
    let total: f32 = sums.iter().sum();
    let log_total = total.ln();
    if gradient {
        let factor = scale / total;
        row.iter_mut().for_each(|x| *x *= factor);
        row[target] -= scale;
    } else {
        row.iter_mut().for_each(|x| *x -= log_total);
    }
    log_total - chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::tests::{close, values};

    #[test]
    fn agrees_with_double_precision() {
        for (rows, width) in [(1, 1), (3, 7), (5, 33), (4, 1029)] {
            let scores: Vec<f32> = values(rows * width, 4).iter().map(|x| 9.0 * x).collect();
            let bias = values(width, 5);
            let targets: Vec<u32> = (0..rows).map(|row| (row * 5 % width) as u32).collect();
            let mut gradient = scores.clone();
            let mut nll = vec![0.0; rows];
            cross_entropy(&mut gradient, width, &targets, Some(&bias), 0.5, true, &mut nll);
            for row in 0..rows {
                let exact: Vec<f64> =
                    (0..width).map(|i| f64::from(scores[row * width + i]) + f64::from(bias[i])).collect();
                let total: f64 = exact.iter().map(|x| x.exp()).sum();
                let target = targets[row] as usize;
                close(&nll[row..=row], &[(total.ln() - exact[target]) as f32], 1e-5);
                let expected: Vec<f32> = (0..width)
                    .map(|i| 0.5 * (exact[i].exp() / total - f64::from(u8::from(i == target))) as f32)
                    .collect();
                close(&gradient[row * width..][..width], &expected, 1e-6);
            }
        }
    }
}
