//! The recurrent loop over a segment, forward and backward, as one call that a team of threads stays in.
//!
//! A step is a small product followed by the gates' non-linearities. Its weights are packed once a segment: for the
//! forward loop in blocks of units, `[block][k][gate][unit]`, so that the four gates of a block are computed together
//! and activated while they are in the first-level cache. Members of the team own rows, units, or both, see [`Grid`]:
//! rows never meet, so members that share none run without waiting; members that share rows meet once a step.

mod backward;
mod cells;
mod forward;
mod packed;
pub(crate) mod step;
mod units;
pub(crate) mod variant;

use crate::gemm::streamed::Grid;
use crate::simd::dispatch;
use crate::team;
use crate::team::shared::Shared;
use backward::{BackwardArrays, BackwardTask};
use forward::{ForwardArrays, ForwardTask};

pub use packed::{PackedRecurrence, RecurrentWeights};

/// One direction of one layer's recurrence over a segment.
#[derive(Clone, Copy, Debug)]
pub struct Recurrence<'a> {
    /// T, the steps.
    pub steps: usize,
    /// B, the rows.
    pub batch: usize,
    /// H, the hidden size.
    pub hidden: usize,
    /// R, the size of the recurrent state: P with a projection, else H.
    pub recurrent: usize,
    /// Whether the steps run from the last to the first.
    pub reverse: bool,
    /// The length of each row; `None` when all have T steps.
    pub lengths: Option<&'a [usize]>,
    /// The weights, packed for the pass at hand.
    pub packed: &'a PackedRecurrence,
    /// The number of steps after which the gradient through the states is cut.
    pub horizon: Option<usize>,
}

/// What the way back over a segment reads and writes.
#[derive(Debug)]
pub struct BackwardBuffers<'a> {
    /// `[T, B, 4H]`: in the activated gates, out the gradients of their pre-activations, 0 where masked.
    pub gates: &'a mut [f32],
    /// `[T + 1, B, H]` and `[T, B, H]`, as [`Recurrence::forward`] left them.
    pub c: &'a [f32],
    /// See `c`.
    pub tanh_c: &'a [f32],
    /// `[T, B, R]`: the gradient of `h` from above.
    pub d_h: &'a [f32],
    /// `[T, B, H]`: that of the activated output gate, if it is read.
    pub d_o: Option<&'a [f32]>,
    /// `[B, R]` and `[B, H]`: in the gradient of the final state, out that of the initial.
    pub dh: &'a mut [f32],
    /// See `dh`.
    pub dc: &'a mut [f32],
    /// `[T, B, H]` and `[T, B, R]`: out the gradients before and after a projection; both empty without one.
    pub raw_gradient: &'a mut [f32],
    /// See `raw_gradient`.
    pub d_projected: &'a mut [f32],
}

impl Recurrence<'_> {
    /// Runs the segment.
    ///
    /// gates `[T, B, 4H]`: in the input part of the pre-activations, biases included, out the activated i, f, g, o;
    /// h `[T + 1, B, R]` and c `[T + 1, B, H]`: slot 0 holds the initial state and step t writes slot t + 1 (reverse:
    /// slot T holds it, step t writes slot t); tanh_c `[T, B, H]`; raw `[T, B, H]`: `o ∘ tanh c` before projection,
    /// empty without one. A masked step copies its row's states and zeroes the rest.
    ///
    /// # Panics
    /// When an array is shorter than its shape.
    pub fn forward(&self, gates: &mut [f32], h: &mut [f32], c: &mut [f32], tanh_c: &mut [f32], raw: &mut [f32]) {
        let projected = !raw.is_empty();
        let arrays = ForwardArrays {
            gates: Shared::new(gates),
            h: Shared::new(h),
            c: Shared::new(c),
            tanh_c: Shared::new(tanh_c),
            raw: projected.then(|| Shared::new(raw)),
        };
        let (rows, hidden) = (self.steps * self.batch, self.hidden);
        arrays.gates.assert_fits(rows * 4 * hidden, "gates");
        arrays.h.assert_fits((rows + self.batch) * self.recurrent, "h");
        arrays.c.assert_fits((rows + self.batch) * hidden, "c");
        arrays.tanh_c.assert_fits(rows * hidden, "tanh_c");
        if let Some(raw) = arrays.raw {
            raw.assert_fits(rows * hidden, "raw");
        }
        let grid = Grid::choose(self.batch, self.recurrent, 4 * hidden);
        team::run(grid.members(), |member| {
            // A team of another size than asked for shares in one direction only; the result is the same.
            let grid = if member.count == grid.members() { grid } else { Grid { rows: 1, columns: member.count } };
            dispatch(ForwardTask { recurrence: self, arrays, grid, member });
        });
    }

    /// Runs the segment backward.
    ///
    /// # Panics
    /// When an array is shorter than its shape.
    pub fn backward(&self, buffers: BackwardBuffers) {
        let BackwardBuffers { gates, c, tanh_c, d_h, d_o, dh, dc, raw_gradient, d_projected } = buffers;
        let projected = !d_projected.is_empty();
        let arrays = BackwardArrays {
            gates: Shared::new(gates),
            c: Shared::read_only(c),
            tanh_c: Shared::read_only(tanh_c),
            d_h: Shared::read_only(d_h),
            d_o: d_o.map(Shared::read_only),
            dh: Shared::new(dh),
            dc: Shared::new(dc),
            projected: projected.then(|| (Shared::new(raw_gradient), Shared::new(d_projected))),
        };
        let (rows, hidden, recurrent) = (self.steps * self.batch, self.hidden, self.recurrent);
        arrays.gates.assert_fits(rows * 4 * hidden, "gates");
        arrays.c.assert_fits((rows + self.batch) * hidden, "c");
        arrays.tanh_c.assert_fits(rows * hidden, "tanh_c");
        arrays.d_h.assert_fits(rows * recurrent, "d_h");
        arrays.dh.assert_fits(self.batch * recurrent, "dh");
        arrays.dc.assert_fits(self.batch * hidden, "dc");
        if let Some(d_o) = arrays.d_o {
            d_o.assert_fits(rows * hidden, "d_o");
        }
        if let Some((raw_gradient, d_projected)) = arrays.projected {
            raw_gradient.assert_fits(rows * hidden, "raw_gradient");
            d_projected.assert_fits(rows * recurrent, "d_projected");
        }
        // The panels were cut for this many shares of units.
        let units = self.packed.units.max(1);
        let grid = Grid { rows: (team::threads() / units).clamp(1, self.batch.max(1)), columns: units };
        let grid = match Grid::choose(self.batch, 4 * hidden, recurrent) {
            chosen if chosen.columns == units => chosen,
            _ => grid,
        };
        team::run(grid.members(), |member| dispatch(BackwardTask { recurrence: self, arrays, grid, member }));
    }

    /// The n-th step to run, and the slots of the states it reads and writes.
    fn step(&self, n: usize) -> (usize, usize, usize) {
        let t = if self.reverse { self.steps - 1 - n } else { n };
        if self.reverse { (t, t + 1, t) } else { (t, t, t + 1) }
    }

    fn masked(&self, t: usize, row: usize) -> bool {
        self.lengths.is_some_and(|lengths| t >= lengths[row])
    }

    /// Whether the gradient is cut between the n-th step and the one before it.
    fn cut(&self, n: usize) -> bool {
        n > 0 && self.horizon.is_some_and(|horizon| n.is_multiple_of(horizon))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn pass(
        [steps, batch, hidden]: [usize; 3],
        projection: Option<usize>,
        lengths: Option<&[usize]>,
    ) -> (Passed, usize) {
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
        let (d_h, mut dh, mut dc) =
            (values(rows * recurrent, 6), values(batch * recurrent, 7), values(batch * hidden, 8));
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
            let run =
                |threads| crate::with_threads(threads, || pass([steps, batch, hidden], projection, Some(&lengths)).0);
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
}
