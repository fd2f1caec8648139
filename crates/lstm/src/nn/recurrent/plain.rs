//! The loop over a segment of the plain cell, which is fused down to the register tile: see
//! [`lstm_kernels::Recurrence`]. Nothing that other cells need is in it.

use lstm_kernels::{BackwardBuffers, PackedRecurrence, Recurrence, Start, column_sums};

use super::sequence::{Loop, Reaching, Sequence};

/// The recurrent weights, packed for either pass.
#[derive(Clone, Debug, Default)]
pub(super) struct PlainTape {
    forward: PackedRecurrence,
    backward: PackedRecurrence,
}

impl PlainTape {
    /// From the input part of the gates and the initial state in `sequence` to all else in it. `pack`: whether the weights
    /// are other ones than before.
    pub(super) fn forward(&mut self, run: Loop, pack: bool, sequence: &mut Sequence) {
        if pack {
            self.forward.pack_forward(run.weights);
        }
        let Sequence { gates, h, c, tanh_c, raw, .. } = sequence;
        recurrence(run, &self.forward).forward(gates, h, c, tanh_c, raw);
    }

    /// The way back: the gates become the gradients of their pre-activations, the bias that of the biases.
    pub(super) fn backward(&mut self, run: Loop, reaching: Reaching, sequence: &mut Sequence) {
        if run.weights.weight_hr.is_some() {
            sequence.raw_gradient.resize(run.segment.rows() * run.sizes.hidden);
        }
        self.backward.pack_backward(run.weights, run.segment.batch);
        let Reaching { d_hidden, d_gate, dh, dc } = reaching;
        recurrence(run, &self.backward).backward(BackwardBuffers {
            gates: &mut sequence.gates,
            c: &sequence.c,
            tanh_c: &sequence.tanh_c,
            d_h: d_hidden,
            d_o: d_gate,
            dh,
            dc,
            raw_gradient: &mut sequence.raw_gradient,
            d_projected: &mut sequence.d_projected,
        });
        column_sums(&mut sequence.bias, Start::Zero, &sequence.gates);
    }
}

fn recurrence<'a>(run: Loop<'a>, packed: &'a PackedRecurrence) -> Recurrence<'a> {
    let Loop { segment, sizes, .. } = run;
    Recurrence {
        steps: segment.steps,
        batch: segment.batch,
        hidden: sizes.hidden,
        recurrent: sizes.recurrent,
        reverse: sizes.reverse,
        lengths: segment.lengths,
        packed,
        horizon: sizes.horizon,
    }
}
