//! The loop of the plain cell: the same bits for any number of threads.

use super::packed::PackedRecurrence;
use super::{backward, forward};
use crate::gemm::arithmetic::{EVERY_WORDS, Format, with_format};
use crate::recurrence::cell::Cell;
use crate::recurrence::segment::{Reaching, Recurrence, RecurrentWeights};
use crate::recurrence::tape::Sequence;
use crate::team;
use crate::testing::values;

/// The arrays that a segment leaves, forward and backward.
#[derive(Debug, PartialEq)]
struct Passed {
    /// gates, h, c, raw
    forward: [Vec<f32>; 4],
    /// gates, dh, dc, d_projected
    backward: [Vec<f32>; 4],
}

/// Runs a segment there and back; gives also how many shares of units the way back was packed for.
fn pass(shape: [usize; 3], projection: Option<usize>, lengths: Option<&[usize]>) -> (Passed, usize) {
    pass_of(shape, projection, lengths, None, false)
}

/// The same, of a packed segment whose steps begin at these rows, or in the other direction.
fn pass_of(
    [steps, batch, hidden]: [usize; 3],
    projection: Option<usize>,
    lengths: Option<&[usize]>,
    packed: Option<&[usize]>,
    reverse: bool,
) -> (Passed, usize) {
    let recurrent = projection.unwrap_or(hidden);
    let (weight_hh, weight_hr) = (values(4 * hidden * recurrent, 1), values(recurrent * hidden, 2));
    let weights =
        RecurrentWeights { weight_hh: &weight_hh, weight_hr: projection.map(|_| &weight_hr[..]), weight_ih: &[] };
    let cell = Cell::plain(hidden);
    let recurrence = Recurrence { cell, recurrent, reverse, horizon: None, steps, batch, lengths, packed };
    let rows = recurrence.rows();
    let mut sequence = Sequence::default();
    sequence.resize(&recurrence, projection.is_some());
    let initial =
        [values(rows * 4 * hidden, 3), values((rows + batch) * recurrent, 4), values((rows + batch) * hidden, 5)];
    let arrays = [&mut sequence.gates, &mut sequence.h, &mut sequence.c];
    arrays.into_iter().zip(&initial).for_each(|(array, initial)| array.copy_from_slice(initial));
    let [mut packed, mut packed_backward] = [PackedRecurrence::default(), PackedRecurrence::default()];
    packed.pack_forward(&recurrence, weights);
    packed_backward.pack_backward(&recurrence, weights);
    forward(&recurrence, &packed, &mut sequence);
    let after_forward = [&sequence.gates, &sequence.h, &sequence.c, &sequence.raw].map(|array| array.to_vec());
    let (d_hidden, mut dh, mut dc) =
        (values(rows * recurrent, 6), values(batch * recurrent, 7), values(batch * hidden, 8));
    let reaching = Reaching { d_hidden: &d_hidden, d_gate: None, dh: &mut dh, dc: &mut dc };
    backward(&recurrence, &packed_backward, reaching, &mut sequence);
    let after_backward = [sequence.gates.to_vec(), dh, dc, sequence.d_projected.to_vec()];
    (Passed { forward: after_forward, backward: after_backward }, packed_backward.units)
}

/// Teams of other sizes cut rows and units elsewhere; H is beyond one block of k in the backward product.
#[test]
fn the_same_bits_for_any_number_of_threads() {
    for (steps, batch, hidden, projection) in
        [(3, 6, 300, None), (2, 1, 40, None), (2, 50, 24, Some(10)), (2, 5, 129, Some(40))]
    {
        let lengths: Vec<usize> = (0..batch).map(|row| 1 + row % steps).collect();
        let run = |threads| crate::with_threads(threads, || pass([steps, batch, hidden], projection, Some(&lengths)).0);
        let one = run(1);
        for threads in [2, 3, 5] {
            assert!(one == run(threads), "T {steps}, B {batch}, H {hidden}, P {projection:?}, {threads} threads");
        }
    }
}

/// Of the last steps of a packed segment some members have no row: they must neither read nor write any.
#[test]
fn a_packed_segment_has_the_same_bits_for_any_number_of_threads() {
    for (counts, hidden, projection) in [
        (&[40, 40, 17, 3, 2, 1, 1][..], 64, None),
        (&[40, 40, 17, 3, 2, 1, 1][..], 64, Some(32)),
        (&[50, 1][..], 33, None),
        (&[3, 2, 1][..], 300, None),
    ] {
        let mut starts = vec![0];
        starts.extend(counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }));
        for reverse in [false, true] {
            let shape = [counts.len(), counts[0], hidden];
            let run =
                |threads| crate::with_threads(threads, || pass_of(shape, projection, None, Some(&starts), reverse).0);
            let one = run(1);
            for threads in [2, 3, 5] {
                assert!(one == run(threads), "{counts:?}, H {hidden}, P {projection:?}, {threads} threads, {reverse}");
            }
        }
    }
}

/// Every format of words: near the pass in f32, by as many bits as it has, and the same for any number of threads.
#[test]
fn words_are_near_and_the_same_for_any_number_of_threads() {
    for (shape, projection) in
        [([3, 6, 40], None), ([2, 2, 33], Some(10)), ([2, 21, 70], Some(40)), ([2, 50, 24], None)]
    {
        let lengths: Vec<usize> = (0..shape[1]).map(|row| 1 + row % shape[0]).collect();
        let exact = pass(shape, projection, Some(&lengths)).0;
        for words in EVERY_WORDS {
            let run = |threads| {
                crate::with_threads(threads, || {
                    with_format(Format::Words(words), || pass(shape, projection, Some(&lengths)).0)
                })
            };
            let one = run(1);
            assert!([2, 3].into_iter().all(|threads| run(threads) == one), "{shape:?}, {projection:?}, {words:?}");
            let arrays = |passed: &Passed| [passed.forward.clone(), passed.backward.clone()].concat();
            for (array, exact) in arrays(&one).iter().zip(arrays(&exact)) {
                let largest = exact.iter().fold(1e-3, |most: f32, x| most.max(x.abs()));
                let off = array.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
                let bound = if words.split { 1e-3 } else { 0.15 };
                assert!(off <= bound, "{shape:?}, {projection:?}, {words:?}: {off}");
                assert!(array.is_empty() || *array != exact, "{words:?} are other bits");
            }
        }
    }
}

/// Panels that were cut for two members, and a caller that finds the team at work: the same bits.
#[test]
fn a_lone_member_takes_the_parts_of_all() {
    let run = || {
        let (passed, units) = pass([3, 1, 300], None, None);
        assert_eq!(units, 2, "a shape that is shared by units");
        passed
    };
    crate::with_threads(2, || {
        let together = run();
        let alone = std::sync::Mutex::new(None);
        // The first member is the caller's own thread, which is at work while it runs this.
        team::run(2, |member| {
            if member.index == 0 {
                *alone.lock().unwrap() = Some(run());
            }
        });
        assert!(alone.into_inner().unwrap() == Some(together));
    });
}
