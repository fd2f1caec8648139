//! A slice that several threads write at once, each its own parts.

use std::ops::Range;

/// A slice of which every member of a team, or every task, writes parts of its own.
pub(crate) struct Shared<T = f32> {
    data: *mut T,
    len: usize,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: parts that are written at the same time are disjoint, and threads meet before one reads what another wrote, as
// `Shared::at` and `Shared::take` ask.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(data: &mut [T]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len() }
    }

    /// For a slice that nobody writes.
    pub(crate) fn read_only(data: &[T]) -> Self {
        Self { data: data.as_ptr().cast_mut(), len: data.len() }
    }

    /// Checks that a shape of `len` values fits.
    pub(crate) fn assert_fits(self, len: usize, what: &str) {
        assert!(self.len >= len, "{what} has {} values, but its shape needs {len}", self.len);
    }

    /// The place of a value.
    ///
    /// # Safety
    /// `offset` is at most the length, the slice stays borrowed, and what is accessed from there on is the caller's own.
    #[inline(always)]
    pub(crate) unsafe fn at(self, offset: usize) -> *mut T {
        // SAFETY: inside the slice, as the caller promises.
        unsafe { self.data.add(offset) }
    }

    /// A part, as a slice.
    ///
    /// # Safety
    /// No two live parts overlap, and the slice stays borrowed.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn take(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "a part of a slice");
        // SAFETY: inside the slice, as just checked, and exclusive, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.len()) }
    }
}

/// Writes `len` zeros.
///
/// # Safety
/// `at` is writable for `len` values.
#[inline(always)]
pub(crate) unsafe fn zero(at: *mut f32, len: usize) {
    // SAFETY: writable, as the caller promises.
    unsafe { std::ptr::write_bytes(at, 0, len) };
}
