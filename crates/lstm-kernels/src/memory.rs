//! Where values lie: from a cache line on, so that no vector lies on two; and many of them on large pages, as a pass over
//! the rows of a matrix touches a page a row, and the processor remembers only some thousand pages of 4 KiB.

use std::ops::{Deref, DerefMut};
use std::{fmt, slice};

/// Buffers shorter than this gain nothing: 1 MiB.
const LARGE: usize = 1 << 18;

/// The values of a cache line.
pub(crate) const LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Values that begin with a cache line, on large pages where they are many and the system has such pages.
///
/// The allocator begins where it likes, and then a vector of 16 values lies on two lines: twice the loads, and two
/// misses for one. A tenth of a training step on a Cascade Lake server.
#[derive(Clone, Default)]
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// No values.
    pub const fn new() -> Self {
        Self { lines: Vec::new(), len: 0 }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut values = Self::new();
        values.resize(len);
        values
    }

    /// Sets the length. What is new is zero; where there was no room for so many, what they held is gone.
    pub fn resize(&mut self, len: usize) {
        let lines = len.div_ceil(LINE);
        if lines > self.lines.capacity() {
            self.lines = Vec::new();
            self.lines.reserve_exact(lines);
            self.len = 0;
            // Asked for before the first value is written: pages that are in use stay as they are.
            prefer_large_pages(&self.lines);
        }
        let kept = self.len.min(len);
        self.lines.resize(lines, Line([0.0; LINE]));
        self.len = len;
        // A line that stays may hold values past the old length.
        let stale = kept..len.min(kept.next_multiple_of(LINE));
        self[stale].fill(0.0);
    }

    /// The length for which there is room.
    pub fn capacity(&self) -> usize {
        self.lines.capacity() * LINE
    }

    /// Sets the length to at least `len`, which makes scratch of changing sizes zeros once, and gives where it begins.
    pub(crate) fn at_least(&mut self, len: usize) -> *mut f32 {
        if self.len < len {
            self.resize(len);
        }
        self.as_mut_ptr()
    }
}

impl From<&[f32]> for Aligned {
    fn from(values: &[f32]) -> Self {
        let mut aligned = Self::zeros(values.len());
        aligned.copy_from_slice(values);
        aligned
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a line is an array of values and has no padding; the lines hold `len` of them.
        unsafe { slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl fmt::Debug for Aligned {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self[..].fmt(f)
    }
}

impl PartialEq for Aligned {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

#[cfg(target_os = "linux")]
fn prefer_large_pages(lines: &Vec<Line>) {
    const PAGE: usize = 4096;
    if lines.capacity() * LINE < LARGE {
        return;
    }
    let (start, end) = (lines.as_ptr() as usize, lines.as_ptr().wrapping_add(lines.capacity()) as usize);
    let start = start.next_multiple_of(PAGE);
    let len = (end - start) / PAGE * PAGE;
    // SAFETY: whole pages inside the buffer; the advice changes how they are backed, never what they hold. A system
    // without large pages refuses it, which is as good.
    unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn prefer_large_pages(_: &Vec<Line>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_begin_with_a_line_and_what_is_new_is_zero() {
        for len in [0, 1, 15, 16, 17, 3 * LARGE + 7] {
            let values = Aligned::zeros(len);
            assert!(values.len() == len && values.iter().all(|x| *x == 0.0));
            assert!(values.as_ptr().cast::<Line>().is_aligned());
        }
        let mut values = Aligned::zeros(40);
        values.fill(1.0);
        values.resize(20);
        assert_eq!(values[..], [1.0; 20]);
        values.resize(40);
        assert_eq!((&values[..20], &values[20..]), (&[1.0; 20][..], &[0.0; 20][..]));
        values.resize(2 * LARGE);
        assert_eq!(values.len(), 2 * LARGE);
    }

    #[test]
    fn scratch_never_shrinks() {
        let mut scratch = Aligned::default();
        scratch.at_least(33);
        scratch.at_least(3);
        assert_eq!(scratch.len(), 33);
    }
}
