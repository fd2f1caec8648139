//! Sums of products of signed bytes, exact in 32 bits: whatever computes them, the bits are the same.

use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// The outputs of a panel.
pub(crate) const OUTPUTS: usize = 64;

/// The values of K that lie side by side for every output.
pub(crate) const GROUP: usize = 4;

/// The instructions that add up products of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Int8 {
    /// `vpdpbusd`.
    #[cfg(target_arch = "x86_64")]
    Vnni(Vnni),
    /// 16-bit products on AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// 16-bit products on NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Plain loops.
    Scalar,
}

/// Proof of AVX-512 VNNI.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vnni(());

/// Proof of AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

/// The best of this processor within the instruction set that kernels use.
pub(crate) fn int8() -> Int8 {
    static CHOSEN: OnceLock<Int8> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let allowed = |unit: &Int8| match super::isa() {
            "scalar" => *unit == Int8::Scalar,
            #[cfg(target_arch = "x86_64")]
            "avx2" => !matches!(unit, Int8::Vnni(_)),
            _ => true,
        };
        available_int8().into_iter().find(allowed).unwrap_or(Int8::Scalar)
    })
}

/// Those of this processor, best first.
pub(crate) fn available_int8() -> Vec<Int8> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
            all.push(Int8::Vnni(Vnni(())));
        }
        if is_x86_feature_detected!("avx2") {
            all.push(Int8::Avx2(Avx2(())));
        }
    }
    #[cfg(target_arch = "aarch64")]
    all.push(Int8::Neon);
    all.push(Int8::Scalar);
    all
}

impl Int8 {
    /// sums `[64]` += x `[4 · groups]` · panel `[groups][64][4]`, whose sums over K are `weights`.
    ///
    /// # Panics
    /// When the panel is shorter.
    pub(crate) fn add_panel(self, x: &[i8], panel: &[i8], weights: &[i32; OUTPUTS], sums: &mut [i32; OUTPUTS]) {
        assert!(x.len().is_multiple_of(GROUP) && panel.len() >= x.len() * OUTPUTS, "a panel of bytes");
        // Only an instruction for unsigned x needs them.
        let _ = weights;
        match self {
            // SAFETY: the value proves the instructions; lengths were checked.
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(_) => unsafe { vnni(x, panel, weights, sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => unsafe { avx2(x, panel, sums) },
            // SAFETY: NEON is part of the architecture; lengths were checked.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon(x, panel, sums) },
            Self::Scalar => scalar(x, panel, sums),
        }
    }
}

fn scalar(x: &[i8], panel: &[i8], sums: &mut [i32; OUTPUTS]) {
    for (x, panel) in x.chunks_exact(GROUP).zip(panel.chunks_exact(GROUP * OUTPUTS)) {
        for (sum, weights) in sums.iter_mut().zip(panel.chunks_exact(GROUP)) {
            *sum += x.iter().zip(weights).map(|(x, weight)| i32::from(*x) * i32::from(*weight)).sum::<i32>();
        }
    }
}

/// The instruction multiplies unsigned by signed bytes: 128 is added to every x, and 128 times the weights taken away.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn vnni(x: &[i8], panel: &[i8], weights: &[i32; OUTPUTS], sums: &mut [i32; OUTPUTS]) {
    // SAFETY: inside the slices, whose lengths the caller checked.
    unsafe {
        let flip = _mm512_set1_epi32(0x8080_8080_u32.cast_signed());
        let mut totals = [_mm512_setzero_si512(); 4];
        let mut at = panel.as_ptr();
        for group in 0..x.len() / GROUP {
            let four = x.as_ptr().add(group * GROUP).cast::<i32>().read_unaligned();
            let four = _mm512_xor_si512(_mm512_set1_epi32(four), flip);
            for v in 0..4 {
                let vector = _mm512_loadu_si512(at.add(64 * v).cast());
                totals[v] = _mm512_dpbusd_epi32(totals[v], four, vector);
            }
            // About a microsecond ahead of a stream that no cache holds.
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(2048));
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(2048 + 64));
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(2048 + 128));
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(2048 + 192));
            at = at.add(256);
        }
        for v in 0..4 {
            let to = sums.as_mut_ptr().add(16 * v);
            let weights = _mm512_loadu_si512(weights.as_ptr().add(16 * v).cast());
            let added = _mm512_sub_epi32(totals[v], _mm512_slli_epi32::<7>(weights));
            _mm512_storeu_si512(to.cast(), _mm512_add_epi32(_mm512_loadu_si512(to.cast_const().cast()), added));
        }
    }
}

/// Bytes become 16 bits, whose products are added in pairs without a limit.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(x: &[i8], panel: &[i8], sums: &mut [i32; OUTPUTS]) {
    // SAFETY: inside the slices, whose lengths the caller checked.
    unsafe {
        for quarter in 0..4 {
            let mut totals = [_mm256_setzero_si256(); 4];
            for group in 0..x.len() / GROUP {
                let four = x.as_ptr().add(group * GROUP).cast::<i32>().read_unaligned();
                let four = _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
                let at = panel.as_ptr().add(group * GROUP * OUTPUTS + 64 * quarter);
                for v in 0..4 {
                    let vector = _mm256_cvtepi8_epi16(_mm_loadu_si128(at.add(16 * v).cast()));
                    totals[v] = _mm256_add_epi32(totals[v], _mm256_madd_epi16(four, vector));
                }
            }
            for v in 0..4 {
                // Two sums beside each other for each of four outputs.
                let mut pairs = [0i32; 8];
                _mm256_storeu_si256(pairs.as_mut_ptr().cast(), totals[v]);
                for (sum, pair) in sums[16 * quarter + 4 * v..].iter_mut().zip(pairs.chunks_exact(2)) {
                    *sum += pair[0] + pair[1];
                }
            }
        }
    }
}

/// As on AVX2.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn neon(x: &[i8], panel: &[i8], sums: &mut [i32; OUTPUTS]) {
    // SAFETY: inside the slices, whose lengths the caller checked.
    unsafe {
        for quarter in 0..4 {
            let mut totals = [vdupq_n_s32(0); 4];
            for group in 0..x.len() / GROUP {
                let four = x.as_ptr().add(group * GROUP).cast::<i32>().read_unaligned();
                let four = vreinterpret_s8_s32(vdup_n_s32(four));
                let at = panel.as_ptr().add(group * GROUP * OUTPUTS + 64 * quarter);
                for v in 0..4 {
                    let vector = vld1q_s8(at.add(16 * v));
                    // Two outputs in each half; the sums of two products lie side by side.
                    let low = vpaddlq_s16(vmull_s8(vget_low_s8(vector), four));
                    let high = vpaddlq_s16(vmull_s8(vget_high_s8(vector), four));
                    totals[v] = vaddq_s32(totals[v], vpaddq_s32(low, high));
                }
            }
            for v in 0..4 {
                let to = sums.as_mut_ptr().add(16 * quarter + 4 * v);
                vst1q_s32(to, vaddq_s32(vld1q_s32(to), totals[v]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_processor_gives_the_exact_sums() {
        for groups in [0, 1, 7, 33] {
            let byte = |i: usize, step: usize| ((i * step + 7) % 255) as i8;
            let x: Vec<i8> = (0..groups * GROUP).map(|i| if i % 5 == 0 { -127 } else { byte(i, 91) }).collect();
            let weight = |i: usize| if i.is_multiple_of(3) { -128 } else { byte(i, 57) };
            let panel: Vec<i8> = (0..groups * GROUP * OUTPUTS).map(weight).collect();
            let expected: [i32; OUTPUTS] = std::array::from_fn(|output| {
                let product =
                    |k: usize| i32::from(x[k]) * i32::from(panel[(k / GROUP * OUTPUTS + output) * GROUP + k % GROUP]);
                5 + (0..x.len()).map(product).sum::<i32>()
            });
            let weights = std::array::from_fn(|output| {
                (0..x.len()).map(|k| i32::from(panel[(k / GROUP * OUTPUTS + output) * GROUP + k % GROUP])).sum()
            });
            for unit in available_int8() {
                let mut sums = [5; OUTPUTS];
                unit.add_panel(&x, &panel, &weights, &mut sums);
                assert_eq!(sums, expected, "{unit:?}, {groups} groups");
            }
        }
    }
}
