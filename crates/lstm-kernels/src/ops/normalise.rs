//! Layer normalisation of rows (Ba, Kiros & Hinton 2016), forward and backward. Its rows are also a part of the steps of a
//! normalised cell.
//!
//! Of a row x of N values with mean μ and variance v: x̂ = (x − μ) / √(v + ε), y = gain ∘ x̂ + bias. Backward, with
//! d̂ = δy ∘ gain and s = 1 / √(v + ε): δx = s · (d̂ − mean(d̂) − x̂ · mean(d̂ ∘ x̂)).

use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team::chunks::for_each_share;
use crate::team::shared::Shared;

/// The constant that is added to the variance.
const EPSILON: f32 = 1e-5;

/// Normalises every row of `values: [M, N]` in place: y = gain ∘ x̂ + bias. x̂ goes to `normalised: [M, N]` and
/// 1 / √(v + ε) to `scales: [M]`.
///
/// # Panics
/// When the lengths do not fit each other.
pub fn layer_norm(values: &mut [f32], normalised: &mut [f32], scales: &mut [f32], gain: &[f32], bias: &[f32]) {
    let (rows, width) = (scales.len(), gain.len());
    assert_eq!([values.len(), normalised.len()], [rows * width; 2], "rows of values, normalised");
    assert_eq!(bias.len(), width, "a bias for every value of a row");
    let (values, normalised, scales) = (Shared::new(values), Shared::new(normalised), Shared::new(scales));
    for_each_share(rows, width, |rows| {
        for row in rows {
            // SAFETY: rows inside the arrays, each of one share.
            unsafe {
                let (values, normalised) = (values.at(row * width), normalised.at(row * width));
                dispatch(NormaliseRow { values, normalised, scale: scales.at(row), gain, bias });
            }
        }
    });
}

/// Turns the gradient of y `[M, N]` into that of x; what the forward pass left as [`layer_norm`] says.
///
/// # Panics
/// When the lengths do not fit each other.
pub fn layer_norm_backward(gradient: &mut [f32], normalised: &[f32], scales: &[f32], gain: &[f32]) {
    let (rows, width) = (scales.len(), gain.len());
    assert_eq!([gradient.len(), normalised.len()], [rows * width; 2], "rows of gradients, normalised");
    let gradient = Shared::new(gradient);
    for_each_share(rows, width, |rows| {
        for row in rows {
            // SAFETY: rows inside the array, each of one share.
            let gradient = unsafe { gradient.at(row * width) };
            let normalised = &normalised[row * width..][..width];
            dispatch(NormaliseRowBackward { gradient, normalised, scale: scales[row], gain });
        }
    });
}

/// One row forward; x̂ may lie where y will.
pub(crate) struct NormaliseRow<'a> {
    pub(crate) values: *mut f32,
    pub(crate) normalised: *mut f32,
    pub(crate) scale: *mut f32,
    pub(crate) gain: &'a [f32],
    pub(crate) bias: &'a [f32],
}

impl Kernel for NormaliseRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { values, normalised, scale, gain, bias } = self;
        // SAFETY: rows as long as the gain, as whoever made it promised.
        unsafe {
            *scale = normalise_row(simd, values, normalised, gain.len());
            for_vectors!(S, gain.len(), |first, lanes| {
                let x = lanes.load(simd, normalised.add(first));
                let gain = lanes.load(simd, gain.as_ptr().add(first));
                lanes.store(simd, values.add(first), simd.mul_add(x, gain, lanes.load(simd, bias.as_ptr().add(first))));
            });
        }
    }
}

struct NormaliseRowBackward<'a> {
    gradient: *mut f32,
    normalised: &'a [f32],
    scale: f32,
    gain: &'a [f32],
}

impl Kernel for NormaliseRowBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { gradient, normalised, scale, gain } = self;
        // SAFETY: rows as long as the gain, as whoever made it promised.
        unsafe {
            let (normalised, len) = (normalised.as_ptr(), gain.len());
            normalise_row_backward(simd, gradient, gain.as_ptr(), normalised, scale, gradient, len);
        }
    }
}

/// x̂ of a row of `len` values, which may replace it; gives 1 / √(v + ε).
///
/// # Safety
/// Both rows are accessible for `len` values.
#[inline(always)]
pub(crate) unsafe fn normalise_row<S: Simd>(simd: S, values: *const f32, normalised: *mut f32, len: usize) -> f32 {
    // SAFETY: as the caller promises, for every access.
    unsafe {
        let mut sum = simd.splat(0.0);
        for_vectors!(S, len, |first, lanes| {
            sum = simd.add(sum, lanes.load(simd, values.add(first)));
        });
        let mean = simd.splat(total(simd, sum) / len as f32);
        let mut squares = simd.splat(0.0);
        for_vectors!(S, len, |first, lanes| {
            let from_mean = lanes.only(simd, simd.sub(lanes.load(simd, values.add(first)), mean));
            squares = simd.mul_add(from_mean, from_mean, squares);
            lanes.store(simd, normalised.add(first), from_mean);
        });
        let scale = 1.0 / (total(simd, squares) / len as f32 + EPSILON).sqrt();
        let factor = simd.splat(scale);
        for_vectors!(S, len, |first, lanes| {
            let at = normalised.add(first);
            lanes.store(simd, at, simd.mul(lanes.load(simd, at), factor));
        });
        scale
    }
}

/// δx of a row from δy, which it may replace.
///
/// # Safety
/// All rows are accessible for `len` values.
#[inline(always)]
pub(crate) unsafe fn normalise_row_backward<S: Simd>(
    simd: S,
    gradient: *const f32,
    gain: *const f32,
    normalised: *const f32,
    scale: f32,
    out: *mut f32,
    len: usize,
) {
    // SAFETY: as the caller promises, for every access.
    unsafe {
        let (mut sum, mut along) = (simd.splat(0.0), simd.splat(0.0));
        for_vectors!(S, len, |first, lanes| {
            let d = load_product(simd, lanes, gradient.add(first), gain.add(first));
            sum = simd.add(sum, d);
            along = simd.mul_add(d, lanes.load(simd, normalised.add(first)), along);
        });
        let mean = simd.splat(total(simd, sum) / len as f32);
        let along = simd.splat(total(simd, along) / len as f32);
        let scale = simd.splat(scale);
        for_vectors!(S, len, |first, lanes| {
            let d = load_product(simd, lanes, gradient.add(first), gain.add(first));
            let d = simd.neg_mul_add(lanes.load(simd, normalised.add(first)), along, simd.sub(d, mean));
            lanes.store(simd, out.add(first), simd.mul(scale, d));
        });
    }
}

/// a ∘ b of a vector.
#[inline(always)]
unsafe fn load_product<S: Simd>(simd: S, lanes: impl Lane, a: *const f32, b: *const f32) -> S::V {
    // SAFETY: as the caller promises.
    unsafe { simd.mul(lanes.load(simd, a), lanes.load(simd, b)) }
}

/// The sum of the lanes.
#[inline(always)]
fn total<S: Simd>(simd: S, sums: S::V) -> f32 {
    simd.lanes(sums)[..S::LANES].iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::vectors;
    use crate::testing::{close, values};

    /// One row in double precision: x̂ and 1 / √(v + ε).
    fn plain(x: &[f32]) -> (Vec<f64>, f64) {
        let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (variance + f64::from(EPSILON)).sqrt();
        (x.iter().map(|x| (x - mean) * scale).collect(), scale)
    }

    fn single(values: Vec<f64>) -> Vec<f32> {
        values.into_iter().map(|value| value as f32).collect()
    }

    #[test]
    fn agrees_with_double_precision_and_for_any_threads() {
        for (rows, width) in [(1, 1), (3, 7), (5, 33), (40, 129), (9, 800)] {
            let (x, d) = (values(rows * width, 1), values(rows * width, 2));
            let (gain, bias) = (values(width, 3), values(width, 4));
            let run = |threads| {
                crate::with_threads(threads, || {
                    let (mut y, mut normalised, mut scales) = (x.clone(), vec![0.0; x.len()], vec![0.0; rows]);
                    layer_norm(&mut y, &mut normalised, &mut scales, &gain, &bias);
                    let mut gradient = d.clone();
                    layer_norm_backward(&mut gradient, &normalised, &scales, &gain);
                    (y, normalised, scales, gradient)
                })
            };
            let (y, normalised, _, gradient) = run(1);
            assert!(run(1) == run(2) && run(1) == run(3));
            for row in 0..rows {
                let part = row * width..(row + 1) * width;
                let (exact, scale) = plain(&x[part.clone()]);
                close(&normalised[part.clone()], &single(exact.clone()), 1e-5);
                let expected = (0..width).map(|i| exact[i] * f64::from(gain[i]) + f64::from(bias[i])).collect();
                close(&y[part.clone()], &single(expected), 1e-5);
                let scaled: Vec<f64> = (0..width).map(|i| f64::from(d[part.start + i]) * f64::from(gain[i])).collect();
                let mean = scaled.iter().sum::<f64>() / width as f64;
                let along = scaled.iter().zip(&exact).map(|(d, x)| d * x).sum::<f64>() / width as f64;
                let expected = (0..width).map(|i| scale * (scaled[i] - mean - exact[i] * along)).collect();
                close(&gradient[part], &single(expected), 1e-4);
            }
        }
    }

    #[test]
    fn rows_far_from_zero_keep_their_differences() {
        for (isa, _) in vectors() {
            let x: Vec<f32> = values(37, 1).iter().map(|x| 100.0 + x).collect();
            let (mut y, mut normalised, mut scale) = (x.clone(), vec![0.0; 37], 0.0);
            let (gain, bias) = ([1.0; 37], [0.0; 37]);
            isa.run(NormaliseRow {
                values: y.as_mut_ptr(),
                normalised: normalised.as_mut_ptr(),
                scale: &raw mut scale,
                gain: &gain,
                bias: &bias,
            });
            close(&y, &single(plain(&x).0), 1e-4);
        }
    }
}
