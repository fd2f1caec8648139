//! Four plain values at a time: every processor has it, and it is what the others are tested against.

use super::vector::{Kernel, Simd};

/// No vector instructions needed.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn map(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

impl Simd for Scalar {
    type V = [f32; 4];
    const LANES: usize = 4;
    const TILE_ROWS: usize = 4;

    #[inline(never)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> [f32; 4] {
        // SAFETY: readable, as the caller promises.
        unsafe { at.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32, value: [f32; 4]) {
        // SAFETY: writable, as the caller promises.
        unsafe { at.cast::<[f32; 4]>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn load_first(self, at: *const f32, count: usize) -> [f32; 4] {
        // SAFETY: lanes below `count` are readable, as the caller promises.
        std::array::from_fn(|lane| if lane < count { unsafe { *at.add(lane) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_first(self, at: *mut f32, count: usize, value: [f32; 4]) {
        for (lane, value) in value.into_iter().enumerate().take(count) {
            // SAFETY: lanes below `count` are writable, as the caller promises.
            unsafe { *at.add(lane) = value };
        }
    }
    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn sqrt(self, a: [f32; 4]) -> [f32; 4] {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    fn mul_add(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        // Two roundings: without the instruction, `f32::mul_add` is a slow call.
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn neg_mul_add(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        self.sub(c, self.mul(a, b))
    }
    #[inline(always)]
    fn max(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn scale(self, a: [f32; 4], _: [f32; 4], shifted: [f32; 4]) -> [f32; 4] {
        map(a, shifted, |a, shifted| a * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23))
    }
    #[inline(always)]
    fn lanes(self, a: [f32; 4]) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        lanes[..4].copy_from_slice(&a);
        lanes
    }
}
