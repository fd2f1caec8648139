//! AVX-512 (16 lanes, 32 registers) and AVX2 with FMA (8 lanes, 16 registers).

use std::arch::x86_64::*;

use super::amx;
use super::vector::{Kernel, Simd};
use super::words::{self, TileProduct};

/// Products of bf16 by multiply-adds of f32, by `vdpbf16ps`, by tiles.
pub(crate) const MULTIPLY_ADDS: u8 = 0;
pub(crate) const PAIRS: u8 = 1;
pub(crate) const TILES: u8 = 2;

/// Proof of AVX-512 F, BW, DQ and VL; with [`PAIRS`] also of `vdpbf16ps` and its conversions, with [`TILES`] of AMX too.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const UNIT: u8>(());

impl Avx512<TILES> {
    pub(crate) fn detect() -> Option<Self> {
        (Avx512::<PAIRS>::detect().is_some() && amx::is_granted()).then_some(Self(()))
    }

    /// Pretends that there are tiles.
    ///
    /// # Safety
    /// The processor has the rest, and who traps what it lacks.
    #[cfg(test)]
    pub(super) unsafe fn assume() -> Option<Self> {
        Avx512::<PAIRS>::detect().map(|_| Self(()))
    }
}

impl Avx512<PAIRS> {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512bf16") && Avx512::<MULTIPLY_ADDS>::detect().is_some()).then_some(Self(()))
    }
}

impl<const UNIT: u8> Avx512<UNIT> {
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn with_features<K: Kernel>(simd: Avx512<MULTIPLY_ADDS>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        fn with_bf16<K: Kernel, const UNIT: u8>(simd: Avx512<UNIT>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: the value proves that the processor has these features.
        unsafe { if UNIT == MULTIPLY_ADDS { with_features(Avx512(()), kernel) } else { with_bf16(self, kernel) } }
    }

    /// Proof of the first of what it proves.
    pub(crate) fn vectors(self) -> Avx512<MULTIPLY_ADDS> {
        Avx512(())
    }
}

impl Avx512<TILES> {
    /// Runs a kernel that may use tiles, and gives their registers back.
    pub(crate) fn run_and_release<K: Kernel>(self, kernel: K) -> K::Output {
        let output = self.run(kernel);
        // SAFETY: the value proves that the processor has tiles.
        unsafe { amx::release() };
        output
    }

    /// Proof of `vdpbf16ps`, which is a part of it.
    pub(crate) fn pairs(self) -> Avx512<PAIRS> {
        Avx512(())
    }
}

impl Avx512<MULTIPLY_ADDS> {
    pub(crate) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        (all && Avx2::detect().is_some()).then_some(Self(()))
    }
}

/// Proof of AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma")]
        fn with_features<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: the value proves that the processor has these features.
        unsafe { with_features(self, kernel) }
    }
}

#[inline(always)]
fn first(count: usize) -> u16 {
    ((1u32 << count) - 1) as u16
}

// SAFETY, for every intrinsic below: `self` proves the instruction set, and memory is accessible as the caller promises.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<const UNIT: u8> Simd for Avx512<UNIT> {
    type V = __m512;
    const LANES: usize = 16;
    const TILE_ROWS: usize = 12;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        self.run(kernel)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32, value: __m512) {
        unsafe { _mm512_storeu_ps(at, value) }
    }
    #[inline(always)]
    unsafe fn load_first(self, at: *const f32, count: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(first(count), at) }
    }
    #[inline(always)]
    unsafe fn store_first(self, at: *mut f32, count: usize, value: __m512) {
        unsafe { _mm512_mask_storeu_ps(at, first(count), value) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn reciprocal(self, a: __m512) -> __m512 {
        // 14 bits, doubled by one step of Newton's method: a third of a division's time.
        unsafe {
            let near = _mm512_rcp14_ps(a);
            _mm512_mul_ps(near, _mm512_fnmadd_ps(a, near, _mm512_set1_ps(2.0)))
        }
    }
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
    #[inline(always)]
    fn prefetch_to_write(self, at: *const f32) {
        // The intrinsic for it asks to read where the feature is not enabled, which no processor with AVX-512 lacks.
        unsafe { std::arch::asm!("prefetchw [{0}]", in(reg) at, options(nostack, preserves_flags, readonly)) }
    }
    #[inline(always)]
    unsafe fn load_halves(self, at: *const u32) -> [__m512; 2] {
        unsafe {
            let words = _mm512_loadu_si512(at.cast());
            let high = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(high)]
        }
    }
    #[inline(always)]
    fn pair(self, low: __m512, high: __m512) -> __m512 {
        if UNIT < PAIRS {
            return words::pair_by_lane(self, low, high);
        }
        unsafe {
            let halves = |x| _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)));
            _mm512_castsi512_ps(_mm512_or_si512(halves(low), _mm512_slli_epi32::<16>(halves(high))))
        }
    }
    #[inline(always)]
    fn pair_along(self, first: __m512, second: __m512) -> __m512 {
        if UNIT < PAIRS {
            return words::pair_along_by_lane(self, first, second);
        }
        unsafe { std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first)) }
    }
    #[inline(always)]
    fn rounded(self, x: __m512) -> __m512 {
        if UNIT < PAIRS {
            return words::rounded_by_lane(self, x);
        }
        unsafe {
            let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }
    #[inline(always)]
    unsafe fn multiply_tiles(self, product: TileProduct) {
        unsafe { if UNIT == TILES { amx::multiply(product) } else { product.by_definition(Self::LANES) } }
    }
    #[inline(always)]
    fn chain_tiles(self, rounds: usize) -> usize {
        if UNIT == TILES { unsafe { amx::chain(rounds) } } else { words::chain_by_definition(rounds) }
    }
    #[inline(always)]
    fn dot_pairs(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe {
            if UNIT >= PAIRS {
                // No closure: one that is not inlined has not the features, and takes thirty times as long.
                let a = std::mem::transmute::<__m512, __m512bh>(a);
                let b = std::mem::transmute::<__m512, __m512bh>(b);
                return _mm512_dpbf16_ps(c, a, b);
            }
            let halves = |x: __m512| {
                let words = _mm512_castps_si512(x);
                let high = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
                (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(high))
            };
            let flush = |x: __m512| {
                let small = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(x), _mm512_set1_ps(f32::MIN_POSITIVE));
                _mm512_mask_and_ps(x, small, x, _mm512_set1_ps(-0.0))
            };
            let ((a_low, a_high), (b_low, b_high)) = (halves(a), halves(b));
            let c = flush(_mm512_fmadd_ps(a_high, b_high, flush(c)));
            flush(_mm512_fmadd_ps(a_low, b_low, c))
        }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn neg_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn scale(self, a: __m512, n: __m512, _: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(a, n) }
    }
    #[inline(always)]
    fn lanes(self, a: __m512) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        unsafe { self.store(lanes.as_mut_ptr(), a) };
        lanes
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            // Pairs of rows, then of pairs, within 128-bit lanes: `quads[4 j + q]` holds, in its lane l, column
            // 4 l + q of rows 4 j to 4 j + 3.
            let mut quads = [_mm512_setzero_ps(); 16];
            for j in 0..4 {
                let row = |r: usize| _mm512_loadu_ps(from.add((4 * j + r) * from_stride));
                let (low_01, high_01) = (_mm512_unpacklo_ps(row(0), row(1)), _mm512_unpackhi_ps(row(0), row(1)));
                let (low_23, high_23) = (_mm512_unpacklo_ps(row(2), row(3)), _mm512_unpackhi_ps(row(2), row(3)));
                let pair = |a: __m512, b: __m512| (_mm512_castps_pd(a), _mm512_castps_pd(b));
                let (a, b) = pair(low_01, low_23);
                quads[4 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                quads[4 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                let (a, b) = pair(high_01, high_23);
                quads[4 * j + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                quads[4 * j + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            }
            // Then the 4 × 4 lanes of the four vectors that share q.
            for q in 0..4 {
                let [a, b, c, d] = [quads[q], quads[4 + q], quads[8 + q], quads[12 + q]];
                let (ab_even, ab_odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                let (cd_even, cd_odd) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
                self.store(to.add(q * to_stride), _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even));
                self.store(to.add((8 + q) * to_stride), _mm512_shuffle_f32x4::<0xdd>(ab_even, cd_even));
                self.store(to.add((4 + q) * to_stride), _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd));
                self.store(to.add((12 + q) * to_stride), _mm512_shuffle_f32x4::<0xdd>(ab_odd, cd_odd));
            }
        }
    }
}

#[inline(always)]
unsafe fn first_mask(count: usize) -> __m256i {
    // Lanes below `count` have their top bit set.
    const BITS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: 8 values from 8 - count lie inside the 16; AVX is proven by the caller.
    unsafe { _mm256_loadu_si256(BITS.as_ptr().add(8 - count).cast()) }
}

// SAFETY, for every intrinsic below: `self` proves the instruction set, and memory is accessible as the caller promises.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        self.run(kernel)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32, value: __m256) {
        unsafe { _mm256_storeu_ps(at, value) }
    }
    #[inline(always)]
    unsafe fn load_first(self, at: *const f32, count: usize) -> __m256 {
        unsafe { _mm256_maskload_ps(at, first_mask(count)) }
    }
    #[inline(always)]
    unsafe fn store_first(self, at: *mut f32, count: usize, value: __m256) {
        unsafe { _mm256_maskstore_ps(at, first_mask(count), value) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn load_halves(self, at: *const u32) -> [__m256; 2] {
        unsafe {
            let words = _mm256_loadu_si256(at.cast());
            let high = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)), _mm256_castsi256_ps(high)]
        }
    }
    #[inline(always)]
    fn dot_pairs(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe {
            let halves = |x: __m256| {
                let words = _mm256_castps_si256(x);
                let high = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
                (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)), _mm256_castsi256_ps(high))
            };
            let flush = |x: __m256| {
                let sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0));
                let size = _mm256_andnot_ps(_mm256_set1_ps(-0.0), x);
                let small = _mm256_cmp_ps::<_CMP_LT_OQ>(size, _mm256_set1_ps(f32::MIN_POSITIVE));
                _mm256_blendv_ps(x, sign, small)
            };
            let ((a_low, a_high), (b_low, b_high)) = (halves(a), halves(b));
            let c = flush(_mm256_fmadd_ps(a_high, b_high, flush(c)));
            flush(_mm256_fmadd_ps(a_low, b_low, c))
        }
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn neg_mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn scale(self, a: __m256, _: __m256, shifted: __m256) -> __m256 {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }
    #[inline(always)]
    fn lanes(self, a: __m256) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        unsafe { self.store(lanes.as_mut_ptr(), a) };
        lanes
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for first in [0, 4] {
            unsafe {
                // Four columns of row r in the low half and of row 4 + r in the high one, so that halves are never
                // crossed.
                let rows = |r: usize| {
                    let at = |r: usize| _mm_loadu_ps(from.add(r * from_stride + first));
                    _mm256_set_m128(at(4 + r), at(r))
                };
                let (low_01, high_01) = (_mm256_unpacklo_ps(rows(0), rows(1)), _mm256_unpackhi_ps(rows(0), rows(1)));
                let (low_23, high_23) = (_mm256_unpacklo_ps(rows(2), rows(3)), _mm256_unpackhi_ps(rows(2), rows(3)));
                for (c, (a, b)) in [(low_01, low_23), (high_01, high_23)].into_iter().enumerate() {
                    let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
                    let to = to.add((first + 2 * c) * to_stride);
                    self.store(to, _mm256_castpd_ps(_mm256_unpacklo_pd(a, b)));
                    self.store(to.add(to_stride), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
                }
            }
        }
    }
}
