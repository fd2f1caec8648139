//! NEON: 4 lanes, 32 registers; every 64-bit Arm processor has it.

use std::arch::aarch64::*;

use super::scalar::Scalar;
use super::vector::{Kernel, Simd};

/// Proof of NEON, which is part of the architecture.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn new() -> Self {
        Self(())
    }

    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

// SAFETY, for every intrinsic below: NEON is part of the architecture, and memory is accessible as the caller promises.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const TILE_ROWS: usize = 12;

    #[inline(never)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(at) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32, value: float32x4_t) {
        unsafe { vst1q_f32(at, value) }
    }
    #[inline(always)]
    unsafe fn load_first(self, at: *const f32, count: usize) -> float32x4_t {
        unsafe { self.load(Scalar.load_first(at, count).as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store_first(self, at: *mut f32, count: usize, value: float32x4_t) {
        let mut lanes = [0.0; 4];
        unsafe {
            self.store(lanes.as_mut_ptr(), value);
            Scalar.store_first(at, count, lanes);
        }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn load_halves(self, at: *const u32) -> [float32x4_t; 2] {
        unsafe {
            let words = vld1q_u32(at);
            let high = vandq_u32(words, vdupq_n_u32(0xffff_0000));
            [vreinterpretq_f32_u32(vshlq_n_u32::<16>(words)), vreinterpretq_f32_u32(high)]
        }
    }
    #[inline(always)]
    fn sqrt(self, a: float32x4_t) -> float32x4_t {
        unsafe { vsqrtq_f32(a) }
    }
    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    fn neg_mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmsq_f32(c, a, b) }
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }
    #[inline(always)]
    fn scale(self, a: float32x4_t, _: float32x4_t, shifted: float32x4_t) -> float32x4_t {
        unsafe {
            let exponent = vaddq_u32(vreinterpretq_u32_f32(shifted), vdupq_n_u32(127));
            vmulq_f32(a, vreinterpretq_f32_u32(vshlq_n_u32::<23>(exponent)))
        }
    }
    #[inline(always)]
    fn lanes(self, a: float32x4_t) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        unsafe { self.store(lanes.as_mut_ptr(), a) };
        lanes
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let row = |r: usize| self.load(from.add(r * from_stride));
            // Pairs of values of rows 0 and 1, and of rows 2 and 3, from even and from odd columns.
            let pairs = |a, b| (vreinterpretq_f64_f32(vtrn1q_f32(a, b)), vreinterpretq_f64_f32(vtrn2q_f32(a, b)));
            let ((even_01, odd_01), (even_23, odd_23)) = (pairs(row(0), row(1)), pairs(row(2), row(3)));
            let columns = [
                vtrn1q_f64(even_01, even_23),
                vtrn1q_f64(odd_01, odd_23),
                vtrn2q_f64(even_01, even_23),
                vtrn2q_f64(odd_01, odd_23),
            ];
            for (c, column) in columns.into_iter().enumerate() {
                self.store(to.add(c * to_stride), vreinterpretq_f32_f64(column));
            }
        }
    }
}
