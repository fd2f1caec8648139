//! Large buffers on large pages: a pass over many rows of a matrix touches a page a row, and the processor remembers
//! only some thousand pages of 4 KiB.

/// Buffers shorter than this gain nothing: 1 MiB.
const LARGE: usize = 1 << 18;

/// `len` zeros, on large pages where the system has them.
pub fn zeros(len: usize) -> Vec<f32> {
    // Asked for before the first value is written: pages that are in use stay as they are.
    let mut values = vec![0.0; len];
    prefer_large_pages(&mut values);
    values
}

/// Sets the length of `values`. A buffer that must grow is replaced by [`zeros`]: what it held is gone.
pub fn grow(values: &mut Vec<f32>, len: usize) {
    if len > values.capacity() {
        *values = zeros(len);
    } else {
        values.resize(len, 0.0);
    }
}

/// The buffer, at least `len` values long. Unlike [`grow`] it never shrinks, so that scratch of changing sizes is zeroed
/// once.
pub(crate) fn grown(buffer: &mut Vec<f32>, len: usize) -> *mut f32 {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    buffer.as_mut_ptr()
}

#[cfg(target_os = "linux")]
fn prefer_large_pages(values: &mut [f32]) {
    const PAGE: usize = 4096;
    if values.len() < LARGE {
        return;
    }
    let bytes = values.as_mut_ptr_range();
    let start = (bytes.start as usize).next_multiple_of(PAGE);
    let len = (bytes.end as usize - start) / PAGE * PAGE;
    // SAFETY: whole pages inside the buffer; the advice changes how they are backed, never what they hold. A system
    // without large pages refuses it, which is as good.
    unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn prefer_large_pages(_: &mut [f32]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_have_their_length_and_are_zero() {
        let mut values = zeros(3 * LARGE + 7);
        assert!(values.len() == 3 * LARGE + 7 && values.iter().all(|x| *x == 0.0));
        values.fill(1.0);
        grow(&mut values, 10);
        assert_eq!(values, [1.0; 10]);
        grow(&mut values, 4 * LARGE);
        assert_eq!(values.len(), 4 * LARGE);
    }
}
