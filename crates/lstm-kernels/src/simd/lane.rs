//! How many lanes of a vector are meant: all, or the first ones at the end of a row.

use super::Simd;

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
