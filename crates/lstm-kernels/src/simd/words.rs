//! Words of two bf16, and the bits of their sums of products: the definitions that every instruction is held to.

use super::vector::Simd;

/// The words of k that a product of tiles adds up together: 32 values.
pub(crate) const TILE_WORDS: usize = 16;

/// The rows of a tile.
pub(crate) const TILE_ROWS: usize = 16;

/// `x` as bf16, in the high half of a word: to the nearest, ties to even, subnormal numbers to zero, NaN to NaN.
#[inline(always)]
fn high_half(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() {
        (bits | 0x0040_0000) & 0xffff_0000
    } else if bits & 0x7f80_0000 == 0 {
        bits & 0x8000_0000
    } else {
        (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000
    }
}

/// A word of two bf16.
#[inline(always)]
pub(crate) fn word(low: f32, high: f32) -> f32 {
    f32::from_bits(high_half(low) >> 16 | high_half(high))
}

/// `x` rounded to bf16.
#[inline(always)]
pub(crate) fn rounded(x: f32) -> f32 {
    f32::from_bits(high_half(x))
}

#[inline(always)]
fn low(x: f32) -> f32 {
    f32::from_bits(x.to_bits() << 16)
}

#[inline(always)]
fn high(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & 0xffff_0000)
}

/// Subnormal numbers to zero.
#[inline(always)]
fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(x) } else { x }
}

/// c + the products of both halves of two words, just as `vdpbf16ps` computes it: the high halves first, each multiply-add
/// rounded once to the nearest, subnormal results zero. This is what defines the bits of products of pairs.
#[inline(always)]
pub(crate) fn dot_of_words(a: f32, b: f32, c: f32) -> f32 {
    let c = flush(high(a).mul_add(high(b), flush(c)));
    flush(low(a).mul_add(low(b), c))
}

/// c + the products of both halves of sixteen words, just as `tdpbf16ps` computes it: the low halves one after the other from
/// zero, the high halves likewise, then the two sums together, then c; each multiply-add and addition rounded once to the nearest,
/// subnormal inputs and results zero. This is what defines the bits of products of tiles.
pub(crate) fn dot_of_tile(words: [(f32, f32); TILE_WORDS], c: f32) -> f32 {
    let (mut even, mut odd) = (0.0f32, 0.0f32);
    for (a, b) in words {
        even = flush(flush(low(a)).mul_add(flush(low(b)), even));
        odd = flush(flush(high(a)).mul_add(flush(high(b)), odd));
    }
    flush(flush(c) + flush(even + odd))
}

/// out `[rows, vectors · lanes]` = left `[rows, 16 · steps]` · panel `[16 · steps, vectors · lanes]`, of words, or += of a sum that
/// goes on: then it has the bits of one that never stopped. Values of two tiles
/// of rows and two vectors of columns at most, so that they are what the registers of tiles hold.
///
/// The left factor lies `[steps][rows of two tiles][words]`.
///
/// The left factor and the panel are readable there, and the output is writable and overlaps neither.
#[derive(Clone, Copy)]
pub(crate) struct TileProduct {
    pub(crate) rows: usize,
    pub(crate) steps: usize,
    pub(crate) vectors: usize,
    pub(crate) left: *const f32,
    /// Where the panel and the output begin, and the words from one row to the next.
    pub(crate) panel: (*const f32, usize),
    pub(crate) out: (*mut f32, usize),
    /// Whether the sums begin with the output.
    pub(crate) goes_on: bool,
}

impl TileProduct {
    /// Computes it by [`dot_of_tile`]: slow, and what the instructions are tested against.
    ///
    /// # Safety
    /// As the type says.
    pub(crate) unsafe fn by_definition(self, lanes: usize) {
        let Self { rows, steps, vectors, left, panel, out, goes_on } = self;
        for row in 0..rows {
            for column in 0..vectors * lanes {
                // SAFETY: inside the output, as the caller promises.
                let mut sum = if goes_on { unsafe { *out.0.add(row * out.1 + column) } } else { 0.0 };
                for first in (0..steps * TILE_WORDS).step_by(TILE_WORDS) {
                    let mut words = [(0.0, 0.0); TILE_WORDS];
                    for (k, words) in words.iter_mut().enumerate() {
                        // SAFETY: inside the factors, as the caller promises.
                        *words = unsafe {
                            let left = left.add(2 * TILE_ROWS * first + row * TILE_WORDS + k);
                            (*left, *panel.0.add((first + k) * panel.1 + column))
                        };
                    }
                    sum = dot_of_tile(words, sum);
                }
                // SAFETY: inside the output, as the caller promises.
                unsafe { *out.0.add(row * out.1 + column) = sum };
            }
        }
    }
}

/// [`Simd::chain_tiles`] by definition.
pub(super) fn chain_by_definition(rounds: usize) -> usize {
    let words = std::hint::black_box([(word(0.5, 0.5), word(0.5, 0.5)); TILE_WORDS]);
    let sum = (0..rounds).fold(0.0, |sum, _| dot_of_tile(words, sum));
    std::hint::black_box(sum);
    2 * TILE_WORDS
}

#[inline(always)]
pub(super) fn pair_by_lane<S: Simd>(simd: S, low: S::V, high: S::V) -> S::V {
    let (low, high) = (simd.lanes(low), simd.lanes(high));
    let words: [f32; 16] = std::array::from_fn(|lane| word(low[lane], high[lane]));
    // SAFETY: an array is as long as the widest vectors.
    unsafe { simd.load(words.as_ptr()) }
}

#[inline(always)]
pub(super) fn pair_along_by_lane<S: Simd>(simd: S, first: S::V, second: S::V) -> S::V {
    let mut values = [0.0; 32];
    values[..S::LANES].copy_from_slice(&simd.lanes(first)[..S::LANES]);
    values[S::LANES..2 * S::LANES].copy_from_slice(&simd.lanes(second)[..S::LANES]);
    let words: [f32; 16] = std::array::from_fn(|lane| word(values[2 * lane], values[2 * lane + 1]));
    // SAFETY: as above.
    unsafe { simd.load(words.as_ptr()) }
}

#[inline(always)]
pub(super) fn rounded_by_lane<S: Simd>(simd: S, x: S::V) -> S::V {
    let mut lanes = simd.lanes(x);
    for lane in &mut lanes {
        *lane = rounded(*lane);
    }
    // SAFETY: as above.
    unsafe { simd.load(lanes.as_ptr()) }
}

#[inline(always)]
pub(super) fn dot_by_lane<S: Simd>(simd: S, a: S::V, b: S::V, c: S::V) -> S::V {
    let (a, b, c) = (simd.lanes(a), simd.lanes(b), simd.lanes(c));
    let sums: [f32; 16] = std::array::from_fn(|lane| dot_of_words(a[lane], b[lane], c[lane]));
    // SAFETY: as above.
    unsafe { simd.load(sums.as_ptr()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(c: f32, pairs: &[(f32, f32)]) -> f32 {
        let value = |k: usize| pairs.get(k).copied().unwrap_or((0.0, 0.0));
        let words = std::array::from_fn(|w| {
            let (even, odd) = (value(2 * w), value(2 * w + 1));
            (word(even.0, odd.0), word(even.1, odd.1))
        });
        dot_of_tile(words, c)
    }

    /// The cases by which the order of the instruction's additions was found on a processor that has it.
    #[test]
    fn a_tile_adds_even_and_odd_products_apart() {
        let e = |n: i32| 2.0f32.powi(n);
        let subnormal = f32::from_bits(0x0008_0000);
        // Subnormal inputs, results and accumulators are zero.
        assert_eq!(tile(0.0, &[(subnormal, e(20))]), 0.0);
        assert_eq!(tile(0.0, &[(e(-70), e(-70))]), 0.0);
        assert_eq!(tile(subnormal, &[]), 0.0);
        assert_eq!(tile(e(-126), &[(e(-100), e(-40))]), e(-126));
        // Ties go to the even one, also where even and odd products together are none.
        assert_eq!(tile(1.0, &[(e(-12), e(-12))]), 1.0);
        assert_eq!(tile(1.0, &[(e(-12), e(-12)); 2]), 1.0 + e(-23));
        assert_eq!(tile(1.0, &[(e(-12), e(-12)), (0.0, 0.0), (e(-12), e(-12))]), 1.0 + e(-23));
        assert_eq!(tile(1.0, &[(1.5 * e(-12), e(-12))]), 1.0 + e(-23));
        // c is added last, and alone.
        assert_eq!(tile(e(30), &[(-e(30), 1.0), (1.0, 1.0)]), 0.0);
        assert_eq!(tile(1.0, &[(e(30), 1.0), (-e(30), 1.0)]), 1.0);
        assert_eq!(tile(e(-30), &[(1.0, 1.0), (-1.0, 1.0)]), e(-30));
        // Even and odd products never meet before: 2^30 − 2^30 + 1 within one of them, lost across them.
        assert_eq!(tile(0.0, &[(e(30), 1.0), (0.0, 0.0), (-e(30), 1.0), (0.0, 0.0), (1.0, 1.0)]), 1.0);
        assert_eq!(tile(0.0, &[(e(30), 1.0), (-e(30), 1.0), (1.0, 1.0)]), 0.0);
        assert_eq!(tile(0.0, &[(f32::MAX / 2.0, 4.0)]), f32::INFINITY);
        assert!(tile(0.0, &[(f32::INFINITY, 0.0)]).is_nan());
    }
}
