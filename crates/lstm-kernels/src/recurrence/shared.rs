//! An array that the members of a team share.

/// An array of which every member reads and writes its own parts.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    data: *mut f32,
    len: usize,
}

// SAFETY: members write disjoint parts and meet before one reads what another wrote.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(data: &mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len() }
    }

    /// For an array that nobody writes.
    pub(crate) fn read_only(data: &[f32]) -> Self {
        Self { data: data.as_ptr().cast_mut(), len: data.len() }
    }

    pub(crate) fn assert_holds(self, len: usize, what: &str) {
        assert!(self.len >= len, "{what} has {} values, but its shape needs {len}", self.len);
    }

    /// # Safety
    /// `offset` is at most the length, and what is accessed behind it is the caller's.
    #[inline(always)]
    pub(crate) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: inside the array, as the caller promises.
        unsafe { self.data.add(offset) }
    }
}

#[inline(always)]
pub(crate) unsafe fn zero(at: *mut f32, len: usize) {
    // SAFETY: writable, as the caller promises.
    unsafe { std::ptr::write_bytes(at, 0, len) };
}
