//! The exponential, sigmoid and tanh of a vector; tanh of many values, forward and backward.
//!
//! Bounds against the correctly rounded value, tested for every float: exp 2 ULP, sigmoid 4 ULP, tanh 3 ULP. Arguments
//! whose exp is not a normal number are clamped: below -87.3 exp gives 1.2e-38, above 88.3 it gives 2.2e38; there a
//! sigmoid is at most 1.2e-38. NaN stays NaN.

use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team::chunks::{CHUNK, for_each_chunk};

/// e⁻ˣ = 2ⁿ · (1 - q), see [`split`].
#[inline(always)]
pub(crate) fn exp_of_minus<S: Simd>(simd: S, x: S::V) -> S::V {
    let Split { q, n, shifted } = split(simd, clamp(simd, x, -88.3, 87.3));
    simd.scale(simd.sub(simd.splat(1.0), q), n, shifted)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::V) -> S::V {
    simd.reciprocal(simd.add(simd.splat(1.0), exp_of_minus(simd, x)))
}

/// tanh x = (1 - e⁻²ˣ) / (1 + e⁻²ˣ); the numerator is 2ⁿ · q + (1 - 2ⁿ), so that nothing cancels near zero.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::V) -> S::V {
    // Beyond, tanh rounds to ±1.
    let x = clamp(simd, x, -10.0, 10.0);
    let Split { q, n, shifted } = split(simd, simd.add(x, x));
    let power = simd.scale(simd.splat(1.0), n, shifted);
    let numerator = simd.mul_add(power, q, simd.sub(simd.splat(1.0), power));
    simd.div(numerator, simd.sub(simd.splat(2.0), numerator))
}

#[inline(always)]
fn clamp<S: Simd>(simd: S, x: S::V, low: f32, high: f32) -> S::V {
    // With the bound first, NaN stays NaN.
    simd.max(simd.splat(low), simd.min(simd.splat(high), x))
}

/// e⁻ˣ in parts: x = r - n·ln 2, q = 1 - e⁻ʳ.
struct Split<V> {
    q: V,
    n: V,
    /// n as an integer, in the low bits.
    shifted: V,
}

/// The reduction of Cody & Waite (1980), and a polynomial in r.
#[inline(always)]
fn split<S: Simd>(simd: S, x: S::V) -> Split<S::V> {
    let s = |value: f32| simd.splat(value);
    let round = s(12_582_912.0); // 1.5 · 2²³: adding it leaves the nearest integer in the low bits
    let shifted = simd.neg_mul_add(x, s(std::f32::consts::LOG2_E), round);
    let n = simd.sub(shifted, round);
    let r = simd.mul_add(n, s(-2.121_944_4e-4), simd.mul_add(n, s(0.693_359_4), x));
    // Two halves of the polynomial at once, for a shorter chain.
    let square = simd.mul(r, r);
    let low = simd.neg_mul_add(s(1.666_666_5e-1), r, s(0.5));
    let middle = simd.neg_mul_add(s(8.333_452e-3), r, s(4.166_579_6e-2));
    let high = simd.neg_mul_add(s(1.987_569_1e-4), r, s(1.398_199_9e-3));
    let p = simd.mul_add(simd.mul_add(high, square, middle), square, low);
    Split { q: simd.neg_mul_add(p, square, r), n, shifted }
}

/// values = tanh(values).
pub fn tanh_of(values: &mut [f32]) {
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
            unsafe { lanes.store(simd, at.add(i), tanh(simd, lanes.load(simd, at.add(i)))) };
        });
    }
}

/// d ∘= 1 - tanh². d: the gradient of what [`tanh_of`] gave, then of what it was given; `tanh`: what it gave.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::simd::{Isa, vectors};
    use crate::testing::{close, values};
    use crate::{team, with_threads};

    /// The functions of this file over slices.
    #[derive(Clone, Copy)]
    enum Function {
        Sigmoid,
        Tanh,
        Exp,
    }

    struct InPlace<'a> {
        function: Function,
        values: &'a mut [f32],
    }

    impl Kernel for InPlace<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for chunk in self.values.chunks_mut(S::LANES) {
                // SAFETY: as many values as the chunk has.
                unsafe {
                    let x = simd.load_first(chunk.as_ptr(), chunk.len());
                    let y = match self.function {
                        Function::Sigmoid => sigmoid(simd, x),
                        Function::Tanh => tanh(simd, x),
                        Function::Exp => exp_of_minus(simd, simd.sub(simd.splat(0.0), x)),
                    };
                    simd.store_first(chunk.as_mut_ptr(), chunk.len(), y);
                }
            }
        }
    }

    /// The largest error in ULP over every float of the given exponents, of both signs, within `range`.
    fn worst(
        isa: Isa,
        function: Function,
        exact: impl Fn(f64) -> f64 + Sync,
        (exponents, every): (std::ops::Range<u32>, u32),
        range: std::ops::Range<f32>,
    ) -> f64 {
        const BLOCK: u32 = 1 << 12;
        let per_exponent = (1u32 << 23) / BLOCK;
        let worst = AtomicU64::new(0);
        let blocks = (exponents.end - exponents.start) * per_exponent * 2;
        team::for_each(blocks.div_ceil(every) as usize, |block| {
            let block = block as u32 * every;
            let sign = (block & 1) << 31;
            let first = sign | ((exponents.start << 23) + (block >> 1) * BLOCK);
            let arguments: Vec<f32> = (first..=first + (BLOCK - 1)).map(f32::from_bits).collect();
            let mut results = arguments.clone();
            isa.run(InPlace { function, values: &mut results });
            let mut block_worst = 0.0f64;
            for (x, got) in arguments.iter().zip(&results).filter(|(x, _)| range.contains(x)) {
                let expected = exact(f64::from(*x));
                // The distance to the next float, of the expected value's exponent.
                let exponent = ((expected as f32).to_bits() >> 23 & 0xff).max(1);
                let ulp = f64::from_bits(u64::from(exponent + 1023 - 127 - 23) << 52);
                block_worst = block_worst.max((f64::from(*got) - expected).abs() / ulp);
            }
            // Positive doubles order as their bits.
            worst.fetch_max(block_worst.to_bits(), Ordering::Relaxed);
        });
        f64::from_bits(worst.into_inner())
    }

    /// Against the library's functions in double precision: with the best instruction set every float between 2⁻¹² and
    /// 128, with the others every 61st block of 4096 of them. Below, where the functions are a few terms of their
    /// series, such blocks for all. Where the processor is emulated, there is no time for all: the environment variable
    /// `LSTM_ULP_EVERY` takes one block of so many of these.
    #[test]
    fn errors_stay_within_the_stated_ulp_for_every_float() {
        let all = f32::MIN..f32::MAX;
        let every = std::env::var("LSTM_ULP_EVERY").map_or(1, |number| number.parse().unwrap());
        for (index, (isa, name)) in vectors().into_iter().enumerate() {
            let some = 61 * every;
            let (tiny, rest) = ((0..115, some), (115..134, if index == 0 { every } else { some }));
            let exps = [
                worst(isa, Function::Exp, |x| 1.0 + x * (1.0 + x * (0.5 + x / 6.0)), tiny.clone(), all.clone()),
                worst(isa, Function::Exp, f64::exp, rest.clone(), -87.3..88.3),
            ];
            let sigmoids = [
                worst(isa, Function::Sigmoid, |x| 0.5 + x * (0.25 - x * x / 48.0), tiny.clone(), all.clone()),
                worst(isa, Function::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), rest.clone(), -87.3..f32::MAX),
            ];
            let tanhs = [
                worst(isa, Function::Tanh, |x| x * (1.0 - x * x / 3.0), tiny, all.clone()),
                worst(isa, Function::Tanh, |x| 1.0 - 2.0 / ((2.0 * x).exp() + 1.0), rest, all.clone()),
            ];
            eprintln!("{name}: exp {exps:.3?}, sigmoid {sigmoids:.3?}, tanh {tanhs:.3?} ULP");
            for (function, errors, bound) in [("exp", exps, 2.0), ("sigmoid", sigmoids, 4.0), ("tanh", tanhs, 3.0)] {
                assert!(errors.iter().all(|&error| error <= bound), "{name} {function}: {errors:?} ULP");
            }
        }
    }

    #[test]
    fn the_ends_are_finite_and_nan_stays() {
        let ends = [f32::NEG_INFINITY, f32::MIN, -1e3, -88.0, 88.4, 1e3, f32::MAX, f32::INFINITY];
        for (isa, _) in vectors() {
            let apply = |function, values: &[f32]| {
                let mut values = values.to_vec();
                isa.run(InPlace { function, values: &mut values });
                values
            };
            assert!(apply(Function::Exp, &ends).iter().all(|x| x.is_finite() && *x > 0.0));
            let expected = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
            for (got, expected) in apply(Function::Sigmoid, &ends).iter().zip(expected) {
                assert!((got - expected).abs() <= 1.2e-38, "{got} {expected}");
            }
            assert_eq!(apply(Function::Tanh, &ends), [-1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0]);
            for function in [Function::Exp, Function::Sigmoid, Function::Tanh] {
                assert!(apply(function, &[0.0, f32::NAN])[1].is_nan());
            }
        }
    }

    #[test]
    fn tanh_of_many_values_agrees_with_double_precision_for_any_threads() {
        for len in [1, 7, 33, 129, 70_001] {
            let x: Vec<f32> = values(len, 1).iter().map(|x| 4.0 * x).collect();
            let d = values(len, 2);
            let exact = |f: fn(f64, f64) -> f64| -> Vec<f32> {
                x.iter().zip(&d).map(|(x, d)| f(f64::from(*x), f64::from(*d)) as f32).collect()
            };
            for threads in [1, 3] {
                let (mut forward, mut backward) = (x.clone(), d.clone());
                with_threads(threads, || {
                    tanh_of(&mut forward);
                    tanh_backward(&mut backward, &forward);
                });
                close(&forward, &exact(|x, _| x.tanh()), 1e-6);
                close(&backward, &exact(|x, d| d * (1.0 - x.tanh() * x.tanh())), 1e-6);
            }
        }
    }
}
