//! The loop of the plain cell: the same bits for any number of threads.

use super::{BackwardBuffers, PackedRecurrence, Recurrence, RecurrentWeights};
use crate::team;
use crate::testing::values;

/// What a segment leaves, forward and backward.
#[derive(Debug, PartialEq)]
struct Passed {
    /// gates, h, c, raw
    forward: [Vec<f32>; 4],
    /// gates, dh, dc, d_projected
    backward: [Vec<f32>; 4],
}

/// Runs a segment there and back; gives also how many shares of units the way back was packed for.
fn pass([steps, batch, hidden]: [usize; 3], projection: Option<usize>, lengths: Option<&[usize]>) -> (Passed, usize) {
    let recurrent = projection.unwrap_or(hidden);
    let (weight_hh, weight_hr) = (values(4 * hidden * recurrent, 1), values(recurrent * hidden, 2));
    let weight_hr = projection.map(|_| &weight_hr[..]);
    let weights = RecurrentWeights { weight_hh: &weight_hh, weight_hr, hidden, recurrent };
    let rows = steps * batch;
    let [mut packed, mut packed_backward] = [PackedRecurrence::default(), PackedRecurrence::default()];
    packed.pack_forward(weights);
    packed_backward.pack_backward(weights, batch);
    let mut gates = values(rows * 4 * hidden, 3);
    let (mut h, mut c) = (values((rows + batch) * recurrent, 4), values((rows + batch) * hidden, 5));
    let projected = |len| vec![0.0; if projection.is_some() { len } else { 0 }];
    let (mut tanh_c, mut raw) = (vec![0.0; rows * hidden], projected(rows * hidden));
    let (reverse, horizon) = (false, None);
    let recurrence = Recurrence { steps, batch, hidden, recurrent, reverse, lengths, packed: &packed, horizon };
    recurrence.forward(&mut gates, &mut h, &mut c, &mut tanh_c, &mut raw);
    let forward = [gates.clone(), h, c.clone(), raw.clone()];
    let (d_h, mut dh, mut dc) = (values(rows * recurrent, 6), values(batch * recurrent, 7), values(batch * hidden, 8));
    let mut d_projected = projected(rows * recurrent);
    Recurrence { packed: &packed_backward, ..recurrence }.backward(BackwardBuffers {
        gates: &mut gates,
        c: &c,
        tanh_c: &tanh_c,
        d_h: &d_h,
        d_o: None,
        dh: &mut dh,
        dc: &mut dc,
        raw_gradient: &mut raw,
        d_projected: &mut d_projected,
    });
    (Passed { forward, backward: [gates, dh, dc, d_projected] }, packed_backward.units)
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
