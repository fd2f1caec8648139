//! Optimizer steps, and those of dynamic evaluation: one threaded pass over the flat buffers, or over the parts of them
//! that have a gradient.

use std::ops::Range;

use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team::chunks::for_each_piece;
use crate::team::shared::Shared;

/// p -= rate · (scale · g + weight_decay · p), in `ranges`.
pub fn sgd(params: &mut [f32], gradient: &[f32], ranges: &[Range<usize>], rate: f32, scale: f32, weight_decay: f32) {
    let parts = Shared::new(params);
    for_each_piece(ranges, |_, piece| {
        // SAFETY: pieces are disjoint.
        let params = unsafe { parts.take(piece.clone()) };
        dispatch(Sgd { params, gradient: &gradient[piece], step: rate * scale, keep: 1.0 - rate * weight_decay });
    });
}

struct Sgd<'a> {
    params: &'a mut [f32],
    gradient: &'a [f32],
    step: f32,
    keep: f32,
}

impl Kernel for Sgd<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { params, gradient, .. } = self;
        let (step, keep) = (simd.splat(self.step), simd.splat(self.keep));
        let (p, g) = (params.as_mut_ptr(), gradient[..params.len()].as_ptr());
        for_vectors!(S, params.len(), |i, lanes| {
            // SAFETY: both have these values.
            unsafe {
                let decayed = simd.mul(keep, lanes.load(simd, p.add(i)));
                lanes.store(simd, p.add(i), simd.neg_mul_add(step, lanes.load(simd, g.add(i)), decayed));
            }
        });
    }
}

/// The settings of one Adam step.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// The learning rate.
    pub rate: f32,
    /// The decay of the first moment.
    pub beta1: f32,
    /// The decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// A factor of the gradient (clipping).
    pub scale: f32,
    /// The number of this step, from 1.
    pub step: u64,
    /// Decoupled weight decay (Loshchilov & Hutter 2019); 0 for plain Adam.
    pub weight_decay: f32,
}

/// Adam (Kingma & Ba 2015) with bias correction, PyTorch's formula, in `ranges`.
///
/// # Panics
/// When the lengths differ.
pub fn adam(
    params: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    ranges: &[Range<usize>],
    settings: AdamStep,
) {
    let len = params.len();
    assert!([gradient.len(), first.len(), second.len()] == [len; 3], "a gradient and moments for every parameter");
    let (params, first, second) = (Shared::new(params), Shared::new(first), Shared::new(second));
    for_each_piece(ranges, |_, piece| {
        // SAFETY: pieces are disjoint.
        let [params, first, second] = [&params, &first, &second].map(|parts| unsafe { parts.take(piece.clone()) });
        dispatch(Adam { params, gradient: &gradient[piece], first, second, settings });
    });
}

struct Adam<'a> {
    params: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    settings: AdamStep,
}

impl Kernel for Adam<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { params, gradient, first, second, settings } = self;
        let AdamStep { rate, beta1, beta2, epsilon, scale, step, weight_decay } = settings;
        let correction = |beta: f32| (1.0 - f64::from(beta).powf(step as f64)) as f32;
        let s = |value: f32| simd.splat(value);
        let (rate_1, root_2) = (s(rate / correction(beta1)), s(1.0 / correction(beta2).sqrt()));
        let len = params.len();
        let (params, gradient) = (params.as_mut_ptr(), gradient[..len].as_ptr());
        let (first, second) = (first[..len].as_mut_ptr(), second[..len].as_mut_ptr());
        for_vectors!(S, len, |i, lanes| {
            // SAFETY: all four have these values.
            unsafe {
                let g = simd.mul(s(scale), lanes.load(simd, gradient.add(i)));
                let m = simd.mul_add(s(beta1), lanes.load(simd, first.add(i)), simd.mul(s(1.0 - beta1), g));
                let squared = simd.mul(simd.mul(s(1.0 - beta2), g), g);
                let v = simd.mul_add(s(beta2), lanes.load(simd, second.add(i)), squared);
                let root = simd.mul_add(simd.sqrt(v), root_2, s(epsilon));
                let decayed = simd.mul(s(1.0 - rate * weight_decay), lanes.load(simd, params.add(i)));
                lanes.store(simd, first.add(i), m);
                lanes.store(simd, second.add(i), v);
                lanes.store(simd, params.add(i), simd.sub(decayed, simd.div(simd.mul(rate_1, m), root)));
            }
        });
    }
}

/// The settings of one step of dynamic evaluation.
#[derive(Clone, Copy, Debug)]
pub struct AdaptStep {
    /// η, the learning rate.
    pub rate: f32,
    /// ε, added to the root of the mean squared gradient.
    pub epsilon: f32,
    /// A factor of that root; their product, at most 1, is the share of the way back that a parameter goes.
    pub pull: f32,
}

/// One step of dynamic evaluation with the update rule RMS + decay (Krause 2018), `rms` being the root of a parameter's
/// mean squared gradient and `anchor` its trained value:
/// `p += min(pull · rms, 1) · (anchor - p) - rate · g / (rms + epsilon)`.
///
/// # Panics
/// When the lengths differ.
pub fn adapt(params: &mut [f32], gradient: &[f32], rms: &[f32], anchor: &[f32], settings: AdaptStep) {
    let len = params.len();
    assert!([gradient.len(), rms.len(), anchor.len()] == [len; 3], "a gradient, its root and an anchor for every one");
    let params = Shared::new(params);
    for_each_piece(std::slice::from_ref(&(0..len)), |_, piece| {
        // SAFETY: pieces are disjoint.
        let params = unsafe { params.take(piece.clone()) };
        let [gradient, rms, anchor] = [gradient, rms, anchor].map(|values| &values[piece.clone()]);
        dispatch(Adapt { params, gradient, rms, anchor, settings });
    });
}

struct Adapt<'a> {
    params: &'a mut [f32],
    gradient: &'a [f32],
    rms: &'a [f32],
    anchor: &'a [f32],
    settings: AdaptStep,
}

impl Kernel for Adapt<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { params, gradient, rms, anchor, settings } = self;
        let AdaptStep { rate, epsilon, pull } = settings;
        let s = |value: f32| simd.splat(value);
        let len = params.len();
        let (params, gradient) = (params.as_mut_ptr(), gradient[..len].as_ptr());
        let (rms, anchor) = (rms[..len].as_ptr(), anchor[..len].as_ptr());
        for_vectors!(S, len, |i, lanes| {
            // SAFETY: all four have these values.
            unsafe {
                let (p, g) = (lanes.load(simd, params.add(i)), lanes.load(simd, gradient.add(i)));
                let (rms, anchor) = (lanes.load(simd, rms.add(i)), lanes.load(simd, anchor.add(i)));
                let share = simd.min(simd.mul(s(pull), rms), s(1.0));
                let pulled = simd.mul_add(share, simd.sub(anchor, p), p);
                let step = simd.div(simd.mul(s(rate), g), simd.add(rms, s(epsilon)));
                lanes.store(simd, params.add(i), simd.sub(pulled, step));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, values};

    #[test]
    fn adam_is_its_formula() {
        let (p, g) = (values(1003, 1), values(1003, 2));
        let (m, v) = (values(1003, 3), values(1003, 4).iter().map(|x| x * x).collect::<Vec<_>>());
        let settings =
            AdamStep { rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-3, scale: 0.5, step: 3, weight_decay: 0.2 };
        let (mut new_p, mut new_m, mut new_v) = (p.clone(), m.clone(), v.clone());
        adam(&mut new_p, &g, &mut new_m, &mut new_v, std::slice::from_ref(&(0..1003)), settings);
        let m: Vec<f32> = (0..1003).map(|i| 0.9 * m[i] + 0.1 * 0.5 * g[i]).collect();
        let v: Vec<f32> = (0..1003).map(|i| 0.999 * v[i] + 0.001 * 0.25 * g[i] * g[i]).collect();
        let (correct_m, correct_v) = (1.0 - 0.9f32.powi(3), 1.0 - 0.999f32.powi(3));
        let step = |i: usize| 0.1 * (m[i] / correct_m) / ((v[i] / correct_v).sqrt() + 1e-3);
        close(&new_m, &m, 1e-6);
        close(&new_v, &v, 1e-6);
        let all: Vec<f32> = (0..1003).map(|i| p[i] * (1.0 - 0.1 * 0.2) - step(i)).collect();
        close(&new_p, &all, 2e-5);
        // What is outside of the ranges stays, moments and all.
        let (mut part_p, mut part_m, mut part_v) = (p.clone(), values(1003, 3), v.clone());
        part_v.copy_from_slice(&values(1003, 4).iter().map(|x| x * x).collect::<Vec<_>>());
        let (before_m, before_v) = (part_m.clone(), part_v.clone());
        adam(&mut part_p, &g, &mut part_m, &mut part_v, &[5..40, 900..1003], settings);
        for i in 0..1003 {
            let touched = (5..40).contains(&i) || i >= 900;
            let [before, after] = [[p[i], before_m[i], before_v[i]], [new_p[i], new_m[i], new_v[i]]];
            assert_eq!([part_p[i], part_m[i], part_v[i]], if touched { after } else { before });
        }
    }

    #[test]
    fn sgd_scales_and_decays_within_its_ranges() {
        let (p, g) = (values(100_000, 1), values(100_000, 2));
        let ranges = [1..18, 40_000..99_999];
        let mut new = p.clone();
        sgd(&mut new, &g, &ranges, 0.5, 0.1, 0.2);
        let expected: Vec<f32> = (0..100_000)
            .map(|i| if ranges.iter().any(|r| r.contains(&i)) { p[i] - 0.5 * (0.1 * g[i] + 0.2 * p[i]) } else { p[i] })
            .collect();
        close(&new, &expected, 1e-6);
    }

    #[test]
    fn a_step_of_dynamic_evaluation_is_its_formula() {
        for len in [1, 7, 33, 129, 100_001] {
            let (p, g, anchor) = (values(len, 1), values(len, 2), values(len, 3));
            let rms: Vec<f32> = values(len, 4).iter().map(|x| x.abs()).collect();
            let mut new = p.clone();
            adapt(&mut new, &g, &rms, &anchor, AdaptStep { rate: 0.1, epsilon: 0.5, pull: 2.0 });
            let pulled = |i: usize| p[i] + (2.0 * rms[i]).min(1.0) * (anchor[i] - p[i]);
            let expected: Vec<f32> = (0..len).map(|i| pulled(i) - 0.1 * g[i] / (rms[i] + 0.5)).collect();
            close(&new, &expected, 1e-6);
            // Without a rate, parameters at their anchor stay there to the bit.
            let mut still = p.clone();
            adapt(&mut still, &g, &rms, &p, AdaptStep { rate: 0.0, epsilon: 0.5, pull: 2.0 });
            assert_eq!(still, p);
        }
    }
}
