//! How work is cut: into chunks that whichever thread is free takes, or into one share for each.

use std::cell::RefCell;
use std::ops::Range;

use crate::team;
use crate::team::shared::Shared;

/// The values of one task: large against handing it to a thread, small against the second-level cache.
pub(crate) const CHUNK: usize = 1 << 15;

/// The `part`-th of `parts` nearly equal parts of `0..all`.
pub(crate) fn share(all: usize, parts: usize, part: usize) -> Range<usize> {
    all * part / parts..all * (part + 1) / parts
}

/// The `index`-th chunk of `len` values.
pub(crate) fn chunk(len: usize, index: usize, size: usize) -> Range<usize> {
    len.min(index * size)..len.min((index + 1) * size)
}

/// The values of rows that are worth a second thread: some microseconds of one core.
const WORTH_A_THREAD: usize = 1 << 12;

/// Runs `task` on shares of `rows` rows of `width` values each, side by side where that is worth it.
pub(crate) fn for_each_share(rows: usize, width: usize, task: impl Fn(Range<usize>) + Sync) {
    let wanted = rows * width / WORTH_A_THREAD;
    team::run(wanted.min(rows), |member| task(share(rows, member.count, member.index)));
}

/// Calls `task` for every piece of the ranges, at most [`CHUNK`] values long, with the piece's number. Pieces depend on
/// the ranges alone; `ranges` do not overlap.
pub(crate) fn for_each_piece(ranges: &[Range<usize>], task: impl Fn(usize, Range<usize>) + Sync) -> usize {
    thread_local! {
        /// Reused, so that a pass allocates nothing.
        static PIECES: RefCell<Vec<Range<usize>>> = const { RefCell::new(Vec::new()) };
    }
    let mut pieces = PIECES.take();
    pieces.clear();
    for range in ranges {
        let cuts = range.clone().step_by(CHUNK);
        pieces.extend(cuts.map(|first| first..range.end.min(first + CHUNK)));
    }
    // Short pieces are handed out several at a time.
    let per_task = 8;
    let tasks = pieces.len().div_ceil(per_task);
    let run = |group: &[Range<usize>], first: usize| {
        group.iter().enumerate().for_each(|(i, piece)| task(first + i, piece.clone()));
    };
    if pieces.iter().map(Range::len).sum::<usize>() <= CHUNK {
        run(&pieces, 0);
    } else if ranges.len() == 1 {
        team::for_each(pieces.len(), |index| run(&pieces[index..=index], index));
    } else {
        team::for_each(tasks, |index| {
            let part = chunk(pieces.len(), index, per_task);
            run(&pieces[part.clone()], part.start);
        });
    }
    let count = pieces.len();
    PIECES.set(pieces);
    count
}

/// Calls `task` for every chunk of `size` values, the last may be shorter, with the chunk's number. What a chunk gets
/// must depend on its number alone, so that the result is the same for any number of threads.
///
/// # Panics
/// When `size` is zero.
pub fn for_each_chunk(values: &mut [f32], size: usize, task: impl Fn(usize, &mut [f32]) + Sync) {
    let len = values.len();
    let parts = Shared::new(values);
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
