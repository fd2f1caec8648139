//! A slice that is filled in chunks, by whichever thread is free.

use crate::team;
use crate::vector::{Parts, chunk};

/// Calls `task` for every chunk of `size` values, the last may be shorter, with the chunk's number. What a chunk gets
/// must depend on its number alone, so that the result is the same for any number of threads.
///
/// # Panics
/// When `size` is zero.
pub fn for_each_chunk(values: &mut [f32], size: usize, task: impl Fn(usize, &mut [f32]) + Sync) {
    let len = values.len();
    let parts = Parts::new(values);
    team::for_each(len.div_ceil(size), |index| {
        // SAFETY: chunks are disjoint.
        task(index, unsafe { parts.take(chunk(len, index, size)) });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_threads;

    #[test]
    fn every_value_is_in_one_chunk() {
        for (len, size) in [(0, 3), (1, 7), (10, 3), (9, 3), (1000, 33)] {
            let filled = |threads| {
                let mut values = vec![0.0; len];
                with_threads(threads, || {
                    for_each_chunk(&mut values, size, |index, chunk| chunk.iter_mut().for_each(|x| *x += index as f32));
                });
                values
            };
            let expected: Vec<f32> = (0..len).map(|i| (i / size) as f32).collect();
            assert_eq!(filled(1), expected);
            assert_eq!(filled(2), expected);
        }
    }
}
