//! Softmax and cross-entropy over rows of scores, forward and backward in one visit while a row is in cache; the
//! logarithm of a sum of exponentials.

use std::cell::RefCell;

use crate::gemm::matrix::Start;
use crate::memory::Aligned;
use crate::ops::activation::exp_of_minus;
use crate::ops::reduce::column_sums;
use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team;
use crate::team::chunks::{chunk, for_each_chunk};
use crate::team::shared::Shared;

/// The groups that rows are cut into; each keeps column sums of its own, so it depends on the number of rows alone.
const GROUPS: usize = 16;

/// The gradient side of [`cross_entropy`].
#[derive(Debug)]
pub struct ScoreGradient<'a> {
    /// A factor of the summed negative log-likelihood.
    pub scale: f32,
    /// `[M]`: a factor of each row's before it is summed; `None` for 1.
    pub weights: Option<&'a [f32]>,
    /// `[V]`, out: the sums of the gradient's columns, which are the gradient of a bias.
    pub bias: &'a mut [f32],
    /// The value that those sums start from.
    pub start: Start,
}

/// Softmax cross-entropy of every row. scores: `[M, V]`; targets: `[M]`, each below V; nll: `[M]`, out, in nats.
///
/// With `gradient`, the scores become the gradient of `scale` times the summed nll: `(softmax - onehot) · scale`, and
/// times the row's weight where there are weights; without, they stay.
///
/// # Panics
/// When the lengths do not fit each other or a target is not below V.
pub fn cross_entropy(
    scores: &mut [f32],
    vocabulary: usize,
    targets: &[u32],
    nll: &mut [f32],
    gradient: Option<ScoreGradient>,
) {
    let rows = targets.len();
    assert_eq!((scores.len(), nll.len()), (rows * vocabulary, rows), "shapes of a loss");
    assert!(targets.iter().all(|&target| (target as usize) < vocabulary), "a target is below {vocabulary}");
    thread_local! {
        /// Column sums of each group of rows, reused.
        static SUMS: RefCell<Aligned> = const { RefCell::new(Aligned::new()) };
    }
    let size = rows.div_ceil(GROUPS).max(1);
    let groups = rows.div_ceil(size);
    let mut sums = SUMS.take();
    let scale = gradient.as_ref().map(|gradient| {
        assert_eq!(gradient.bias.len(), vocabulary, "a bias has a value for every token");
        assert!(gradient.weights.is_none_or(|weights| weights.len() == rows), "a weight for every row");
        sums.at_least(groups * vocabulary);
        (gradient.scale, gradient.weights)
    });
    let (scores, nll, group_sums) = (Shared::new(scores), Shared::new(nll), Shared::new(&mut sums));
    team::for_each(groups, |group| {
        let own = chunk(rows, group, size);
        // SAFETY: groups are disjoint.
        let (scores, nll) =
            unsafe { (scores.take(own.start * vocabulary..own.end * vocabulary), nll.take(own.clone())) };
        let sums = match scale {
            // SAFETY: as above.
            Some(_) => unsafe { group_sums.take(group * vocabulary..(group + 1) * vocabulary) },
            None => &mut [],
        };
        let first = own.start;
        let rows = scores.chunks_exact_mut(vocabulary).zip(&targets[own]).zip(nll);
        for (index, ((row, &target), nll)) in rows.enumerate() {
            let scale = scale.map(|(scale, weights)| scale * weights.map_or(1.0, |weights| weights[first + index]));
            *nll = dispatch(Row { row, target: target as usize, scale, sums, first: index == 0 });
        }
    });
    if let Some(gradient) = gradient {
        column_sums(gradient.bias, gradient.start, &sums[..groups * vocabulary]);
    }
    SUMS.set(sums);
}

/// One row; gives its negative log-likelihood.
struct Row<'a> {
    row: &'a mut [f32],
    target: usize,
    scale: Option<f32>,
    /// The column sums of the rows before it in its group.
    sums: &'a mut [f32],
    first: bool,
}

impl Kernel for Row<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let Self { row, target, scale, sums, first } = self;
        let lanes = S::LANES;
        let whole = row.len() - row.len() % (4 * lanes);
        let at = row.as_mut_ptr();
        // Four vectors side by side, so that sums do not wait for each other; a row's rest goes one by one.
        let mut most = [simd.splat(f32::NEG_INFINITY); 4];
        for i in (0..whole).step_by(4 * lanes) {
            for (v, most) in most.iter_mut().enumerate() {
                // SAFETY: whole vectors of the row.
                *most = simd.max(unsafe { simd.load(at.add(i + v * lanes)) }, *most);
            }
        }
        let [a, b, c, d] = most;
        let most = simd.lanes(simd.max(simd.max(a, b), simd.max(c, d)));
        let most = most[..lanes].iter().chain(&row[whole..]).fold(f32::NEG_INFINITY, |most, x| most.max(*x));
        let chosen = row[target] - most;
        let shift = simd.splat(most);
        let mut totals = [simd.splat(0.0); 4];
        for i in (0..whole).step_by(4 * lanes) {
            for (v, total) in totals.iter_mut().enumerate() {
                // SAFETY: whole vectors of the row.
                unsafe {
                    let at = at.add(i + v * lanes);
                    let e = exp_of_minus(simd, simd.sub(shift, simd.load(at)));
                    *total = simd.add(*total, e);
                    if scale.is_some() {
                        simd.store(at, e);
                    }
                }
            }
        }
        let [a, b, c, d] = totals;
        let mut total = simd.add(simd.add(a, b), simd.add(c, d));
        for i in (whole..row.len()).step_by(lanes) {
            let count = lanes.min(row.len() - i);
            // SAFETY: `count` values of the row; lanes past them are made 0.
            unsafe {
                let at = at.add(i);
                let e = exp_of_minus(simd, simd.sub(shift, simd.load_first(at, count)));
                let mut kept = [0.0; 16];
                simd.store_first(kept.as_mut_ptr(), count, e);
                total = simd.add(total, simd.load(kept.as_ptr()));
                if scale.is_some() {
                    simd.store_first(at, count, e);
                }
            }
        }
        let total: f32 = simd.lanes(total)[..lanes].iter().sum();
        if let Some(scale) = scale {
            let factor = simd.splat(scale / total);
            for i in (0..row.len()).step_by(lanes) {
                let count = lanes.min(row.len() - i);
                // SAFETY: `count` values of the row and of the sums.
                unsafe {
                    let (at, sums) = (at.add(i), sums.as_mut_ptr().add(i));
                    if count == lanes {
                        let gradient = simd.mul(factor, simd.load(at));
                        simd.store(at, gradient);
                        simd.store(sums, if first { gradient } else { simd.add(simd.load(sums), gradient) });
                    } else {
                        let gradient = simd.mul(factor, simd.load_first(at, count));
                        simd.store_first(at, count, gradient);
                        let before = if first { simd.splat(0.0) } else { simd.load_first(sums, count) };
                        simd.store_first(sums, count, simd.add(before, gradient));
                    }
                }
            }
            row[target] -= scale;
            sums[target] -= scale;
        }
        total.ln() - chosen
    }
}

/// Turns the gradient that [`cross_entropy`] left into that of smoothed targets (Szegedy 2016):
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

/// ln Σ exp(scale · x) over `values`, in nats; -∞ of none. The largest is taken out first, so nothing overflows.
/// `scale` is not negative. It is computed by the calling thread alone.
pub fn log_sum_exp(values: &[f32], scale: f32) -> f64 {
    if values.is_empty() { f64::NEG_INFINITY } else { dispatch(LogSumExp { values, scale }) }
}

struct LogSumExp<'a> {
    values: &'a [f32],
    scale: f32,
}

impl Kernel for LogSumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        let Self { values, scale } = self;
        let group = 4 * S::LANES;
        let (groups, rest) = values.split_at(values.len() - values.len() % group);
        // Four vectors side by side, as in a row of scores.
        let mut most = [simd.splat(f32::NEG_INFINITY); 4];
        for group in groups.chunks_exact(group) {
            for (v, most) in most.iter_mut().enumerate() {
                // SAFETY: whole vectors of the group.
                *most = simd.max(unsafe { simd.load(group.as_ptr().add(v * S::LANES)) }, *most);
            }
        }
        let [a, b, c, d] = most;
        let most = simd.lanes(simd.max(simd.max(a, b), simd.max(c, d)));
        let most = most[..S::LANES].iter().chain(rest).fold(f32::NEG_INFINITY, |most, x| most.max(*x));
        let (factor, shift) = (simd.splat(scale), simd.splat(most));
        let mut totals = [simd.splat(0.0); 4];
        for group in groups.chunks_exact(group) {
            for (v, total) in totals.iter_mut().enumerate() {
                // SAFETY: as above.
                let x = unsafe { simd.load(group.as_ptr().add(v * S::LANES)) };
                *total = simd.add(*total, exp_of_minus(simd, simd.mul(factor, simd.sub(shift, x))));
            }
        }
        let [a, b, c, d] = totals;
        let lanes = simd.lanes(simd.add(simd.add(a, b), simd.add(c, d)));
        let mut total: f32 = lanes[..S::LANES].iter().sum();
        for part in rest.chunks(S::LANES) {
            // SAFETY: as many values as the part has.
            let x = unsafe { simd.load_first(part.as_ptr(), part.len()) };
            let lanes = simd.lanes(exp_of_minus(simd, simd.mul(factor, simd.sub(shift, x))));
            total += lanes[..part.len()].iter().sum::<f32>();
        }
        f64::from(scale) * f64::from(most) + f64::from(total).ln()
    }
}

/// out = exp(scale · (x - the largest)) of `values`, and gives the largest. What is below e⁻⁸⁷ comes out as that.
/// `scale` is not negative. It is computed by the calling thread alone.
///
/// # Panics
/// When `out` is not as long.
pub fn exponentials(values: &[f32], scale: f32, out: &mut [f32]) -> f32 {
    assert_eq!(values.len(), out.len(), "an exponential of every value");
    dispatch(Exponentials { values, scale, out })
}

struct Exponentials<'a> {
    values: &'a [f32],
    scale: f32,
    out: &'a mut [f32],
}

impl Kernel for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let Self { values, scale, out } = self;
        let (whole, rest) = values.split_at(values.len() - values.len() % S::LANES);
        let mut most = simd.splat(f32::NEG_INFINITY);
        for part in whole.chunks_exact(S::LANES) {
            // SAFETY: a whole vector.
            most = simd.max(unsafe { simd.load(part.as_ptr()) }, most);
        }
        let most = simd.lanes(most);
        let most = most[..S::LANES].iter().chain(rest).fold(f32::NEG_INFINITY, |most, x| most.max(*x));
        let (factor, shift) = (simd.splat(scale), simd.splat(most));
        for_vectors!(S, values.len(), |first, lanes| {
            // SAFETY: the lanes that are meant are inside both, which are equally long.
            unsafe {
                let x = lanes.load(simd, values.as_ptr().add(first));
                let e = exp_of_minus(simd, simd.mul(factor, simd.sub(shift, x)));
                lanes.store(simd, out.as_mut_ptr().add(first), e);
            }
        });
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, values};

    #[test]
    fn agrees_with_double_precision() {
        for (rows, width) in [(1, 1), (3, 7), (5, 33), (40, 129), (4, 1029)] {
            let scores: Vec<f32> = values(rows * width, 4).iter().map(|x| 9.0 * x).collect();
            let targets: Vec<u32> = (0..rows).map(|row| (row * 5 % width) as u32).collect();
            let (mut gradient, mut nll, mut plain_nll) = (scores.clone(), vec![0.0; rows], vec![0.0; rows]);
            let mut bias = vec![1.0; width];
            let weights = values(rows, 5);
            let asked = ScoreGradient { scale: 0.5, weights: Some(&weights), bias: &mut bias, start: Start::Out };
            cross_entropy(&mut gradient, width, &targets, &mut nll, Some(asked));
            let mut untouched = scores.clone();
            cross_entropy(&mut untouched, width, &targets, &mut plain_nll, None);
            assert_eq!((untouched, plain_nll), (scores.clone(), nll.clone()));
            let mut columns = vec![1.0; width];
            for row in 0..rows {
                let exact: Vec<f64> = scores[row * width..][..width].iter().map(|x| f64::from(*x)).collect();
                let total: f64 = exact.iter().map(|x| x.exp()).sum();
                let target = targets[row] as usize;
                close(&nll[row..=row], &[(total.ln() - exact[target]) as f32], 1e-5);
                let factor = 0.5 * weights[row];
                let expected: Vec<f32> = (0..width)
                    .map(|i| factor * (exact[i].exp() / total - f64::from(u8::from(i == target))) as f32)
                    .collect();
                close(&gradient[row * width..][..width], &expected, 1e-6);
                columns.iter_mut().zip(&expected).for_each(|(sum, x)| *sum += x);
            }
            close(&bias, &columns, 1e-5);
        }
    }

    #[test]
    fn a_sum_of_exponentials_agrees_with_double_precision() {
        assert_eq!(log_sum_exp(&[], 1.0), f64::NEG_INFINITY);
        for len in [1, 7, 33, 64, 129, 1029] {
            let scores: Vec<f32> = values(len, 4).iter().map(|x| 400.0 * x).collect();
            for scale in [0.0, 0.1, 1.0, 3.0] {
                let scaled = || scores.iter().map(|x| f64::from(scale) * f64::from(*x));
                let most = scaled().fold(f64::NEG_INFINITY, f64::max);
                let expected = most + scaled().map(|x| (x - most).exp()).sum::<f64>().ln();
                let got = log_sum_exp(&scores, scale);
                assert!((got - expected).abs() < 1e-5, "{len}, {scale}: {got} and {expected}");
            }
        }
    }

    #[test]
    fn exponentials_agree_with_double_precision() {
        assert_eq!(exponentials(&[], 1.0, &mut []), f32::NEG_INFINITY);
        for len in [1, 7, 33, 64, 129] {
            let mut scores: Vec<f32> = values(len, 4).iter().map(|x| 9.0 * x).collect();
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for scale in [0.0, 0.1, 1.0, 3.0] {
                let mut out = vec![f32::NAN; len];
                assert_eq!(exponentials(&scores, scale, &mut out), largest);
                let expected: Vec<f32> = scores.iter().map(|x| (scale * (x - largest)).exp()).collect();
                close(&out, &expected, 1e-5);
            }
            scores.push(f32::NEG_INFINITY);
            let mut out = vec![f32::NAN; len + 1];
            exponentials(&scores, 2.0, &mut out);
            assert!(out[len] < 1e-37, "{}", out[len]);
        }
    }

    #[test]
    fn smoothed_targets_agree_with_double_precision() {
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
