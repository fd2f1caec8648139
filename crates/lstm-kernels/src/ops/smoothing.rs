//! What label smoothing changes in the gradient of softmax cross-entropy.

use crate::team::chunks::for_each_chunk;

/// Turns the gradient that [`cross_entropy`](crate::cross_entropy) left into that of smoothed targets (Szegedy 2016):
/// `epsilon` of every target's weight is spread over all V tokens, so `scale · epsilon / V` is taken from every
/// value and `scale · epsilon` given back to the target's.
///
/// d_scores: `[M, V]`; targets: `[M]`, each below V; scale and bias `[V]` as they were given to `cross_entropy`.
///
/// # Panics
/// When the lengths do not fit each other or a target is not below V.
pub fn smooth_targets(d_scores: &mut [f32], targets: &[u32], epsilon: f32, scale: f32, bias: &mut [f32]) {
    let width = bias.len();
    assert_eq!(d_scores.len(), targets.len() * width, "a gradient for every row and token");
    let (target_share, share) = (scale * epsilon, scale * epsilon / width as f32);
    let all = share * targets.len() as f32;
    bias.iter_mut().for_each(|d| *d -= all);
    targets.iter().for_each(|&target| bias[target as usize] += target_share);
    for_each_chunk(d_scores, width, |row, d_scores| {
        d_scores.iter_mut().for_each(|d| *d -= share);
        d_scores[targets[row] as usize] += target_share;
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, values};
    use crate::{ScoreGradient, Start, cross_entropy};

    #[test]
    fn agrees_with_double_precision() {
        for (rows, width) in [(1, 1), (3, 7), (5, 33), (40, 129)] {
            let (scale, epsilon) = (0.5, 0.1);
            let scores: Vec<f32> = values(rows * width, 4).iter().map(|x| 9.0 * x).collect();
            let targets: Vec<u32> = (0..rows).map(|row| (row * 5 % width) as u32).collect();
            let (mut gradient, mut nll, mut bias) = (scores.clone(), vec![0.0; rows], vec![1.0; width]);
            let asked = ScoreGradient { scale, weights: None, bias: &mut bias, start: Start::Out };
            cross_entropy(&mut gradient, width, &targets, &mut nll, Some(asked));
            smooth_targets(&mut gradient, &targets, epsilon, scale, &mut bias);
            let mut columns = vec![1.0; width];
            for row in 0..rows {
                let exact: Vec<f64> = scores[row * width..][..width].iter().map(|x| f64::from(*x)).collect();
                let total: f64 = exact.iter().map(|x| x.exp()).sum();
                let wanted = |i| {
                    let target = f64::from(u8::from(i == targets[row] as usize));
                    f64::from(1.0 - epsilon) * target + f64::from(epsilon) / width as f64
                };
                let expected: Vec<f32> =
                    (0..width).map(|i| (f64::from(scale) * (exact[i].exp() / total - wanted(i))) as f32).collect();
                close(&gradient[row * width..][..width], &expected, 1e-6);
                columns.iter_mut().zip(&expected).for_each(|(sum, x)| *sum += x);
            }
            close(&bias, &columns, 1e-5);
        }
    }
}
