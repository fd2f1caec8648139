//! The operations of a vector of f32, which every instruction set implements; and how many of its lanes are meant: all, or
//! the first ones at the end of a row.

use super::words::{self, TileProduct};

/// The vector operations of one instruction set.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`Self::LANES`] values.
    type V: Copy;
    /// The values of a vector, a multiple of 4.
    const LANES: usize;
    /// The most rows of a register tile of two vectors of columns: its sums, two vectors of the right factor and a
    /// broadcast value stay in registers.
    const TILE_ROWS: usize;

    /// Runs a kernel that is compiled for this instruction set once, and called.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;
    /// The same value in every lane.
    fn splat(self, value: f32) -> Self::V;
    /// # Safety
    /// `at` is readable for [`Self::LANES`] values.
    unsafe fn load(self, at: *const f32) -> Self::V;
    /// # Safety
    /// `at` is writable for [`Self::LANES`] values.
    unsafe fn store(self, at: *mut f32, value: Self::V);
    /// The first `count` values, zero in the other lanes.
    ///
    /// # Safety
    /// `at` is readable for `count` values, at most [`Self::LANES`].
    unsafe fn load_first(self, at: *const f32, count: usize) -> Self::V;
    /// Stores the first `count` lanes.
    ///
    /// # Safety
    /// `at` is writable for `count` values, at most [`Self::LANES`].
    unsafe fn store_first(self, at: *mut f32, count: usize, value: Self::V);
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// 1 / a, to 2 ULP; 0 where that is less than a normal number.
    #[inline(always)]
    fn reciprocal(self, a: Self::V) -> Self::V {
        self.div(self.splat(1.0), a)
    }
    /// Asks for a cache line to be brought to the second-level cache; any address may be given.
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        let _ = at;
    }
    /// The same for a line that will be written.
    #[inline(always)]
    fn prefetch_to_write(self, at: *const f32) {
        let _ = at;
    }
    /// The bf16 values in the low and in the high halves of [`Self::LANES`] words, as f32.
    ///
    /// # Safety
    /// `at` is readable for [`Self::LANES`] words.
    #[inline(always)]
    unsafe fn load_halves(self, at: *const u32) -> [Self::V; 2] {
        let mut halves = [[0.0; 16]; 2];
        for lane in 0..Self::LANES {
            // SAFETY: as the caller promises.
            let word = unsafe { *at.add(lane) };
            halves[0][lane] = f32::from_bits(word << 16);
            halves[1][lane] = f32::from_bits(word & 0xffff_0000);
        }
        // SAFETY: an array is as long as the widest vectors.
        halves.map(|half| unsafe { self.load(half.as_ptr()) })
    }
    /// Words of bf16: `low` rounded in their low halves, `high` in their high ones; see [`words::word`].
    #[inline(always)]
    fn pair(self, low: Self::V, high: Self::V) -> Self::V {
        words::pair_by_lane(self, low, high)
    }
    /// The words of neighbours: of the values of `first`, and then of `second`.
    #[inline(always)]
    fn pair_along(self, first: Self::V, second: Self::V) -> Self::V {
        words::pair_along_by_lane(self, first, second)
    }
    /// Values rounded to bf16, still as f32.
    #[inline(always)]
    fn rounded(self, x: Self::V) -> Self::V {
        words::rounded_by_lane(self, x)
    }
    /// c + the products of both halves of words, see [`words::dot_of_words`].
    #[inline(always)]
    fn dot_pairs(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        words::dot_by_lane(self, a, b, c)
    }
    /// A product of words by tiles, see [`words::dot_of_tile`].
    ///
    /// # Safety
    /// As [`TileProduct`] says.
    #[inline(always)]
    unsafe fn multiply_tiles(self, product: TileProduct) {
        // SAFETY: as the caller promises.
        unsafe { product.by_definition(Self::LANES) }
    }
    /// `rounds` of products of tiles on registers alone, to measure them; gives the multiply-adds of a round.
    #[inline(always)]
    fn chain_tiles(self, rounds: usize) -> usize {
        words::chain_by_definition(rounds)
    }
    /// √a
    fn sqrt(self, a: Self::V) -> Self::V;
    /// a · b + c, rounded once where the instruction set can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a · b, rounded once where the instruction set can.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · 2ⁿ` for the whole number `n`, of which 1.5 · 2²³ was added: `shifted = n + 1.5 · 2²³`. The result is a
    /// normal number for n in [-126, 127] and a in [0.5, 2).
    fn scale(self, a: Self::V, n: Self::V, shifted: Self::V) -> Self::V;
    /// The values of a vector, for reductions.
    fn lanes(self, a: Self::V) -> [f32; 16];
    /// Writes the transpose of a square: `to[c · to_stride + r] = from[r · from_stride + c]` for r and c below
    /// [`Self::LANES`].
    ///
    /// # Safety
    /// Both are accessible for [`Self::LANES`] rows of [`Self::LANES`] values at their strides.
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for c in 0..Self::LANES {
            for r in 0..Self::LANES {
                // SAFETY: as the caller promises.
                unsafe { *to.add(c * to_stride + r) = *from.add(r * from_stride + c) };
            }
        }
    }
}

/// A computation that is compiled once for each instruction set.
pub(crate) trait Kernel {
    /// Its result.
    type Output;
    /// Runs it; must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Loads and stores of a part of a vector.
pub(crate) trait Lane: Copy {
    /// # Safety
    /// `at` is readable for the lanes that are meant; the others become zero.
    unsafe fn load<S: Simd>(self, simd: S, at: *const f32) -> S::V;
    /// # Safety
    /// `at` is writable for the lanes that are meant.
    unsafe fn store<S: Simd>(self, simd: S, at: *mut f32, value: S::V);
    /// The value with zero in the lanes that are not meant.
    fn only<S: Simd>(self, simd: S, value: S::V) -> S::V;
}

#[derive(Clone, Copy)]
pub(crate) struct WholeVector;

#[derive(Clone, Copy)]
pub(crate) struct FirstLanes(pub(crate) usize);

impl Lane for WholeVector {
    #[inline(always)]
    unsafe fn load<S: Simd>(self, simd: S, at: *const f32) -> S::V {
        // SAFETY: as the caller promises.
        unsafe { simd.load(at) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(self, simd: S, at: *mut f32, value: S::V) {
        // SAFETY: as the caller promises.
        unsafe { simd.store(at, value) }
    }
    #[inline(always)]
    fn only<S: Simd>(self, _: S, value: S::V) -> S::V {
        value
    }
}

impl Lane for FirstLanes {
    #[inline(always)]
    unsafe fn load<S: Simd>(self, simd: S, at: *const f32) -> S::V {
        // SAFETY: as the caller promises.
        unsafe { simd.load_first(at, self.0) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(self, simd: S, at: *mut f32, value: S::V) {
        // SAFETY: as the caller promises.
        unsafe { simd.store_first(at, self.0, value) }
    }
    #[inline(always)]
    fn only<S: Simd>(self, simd: S, value: S::V) -> S::V {
        let lanes = simd.lanes(value);
        // SAFETY: the lanes of a vector, of which these are the first.
        unsafe { simd.load_first(lanes.as_ptr(), self.0) }
    }
}

/// Runs a body once for every vector of `len` values, with the index of its first value and its [`Lane`]s: the body is
/// compiled for whole vectors and for the last values apart. A macro, for a closure cannot be generic over the lanes.
macro_rules! for_vectors {
    ($simd:ty, $len:expr, |$first:ident, $lanes:ident| $body:block) => {
        let (mut $first, len) = (0, $len);
        while $first + <$simd>::LANES <= len {
            let $lanes = $crate::simd::WholeVector;
            $body
            $first += <$simd>::LANES;
        }
        if $first < len {
            let $lanes = $crate::simd::FirstLanes(len - $first);
            $body
        }
    };
}
pub(crate) use for_vectors;
