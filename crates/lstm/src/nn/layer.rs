//! One layer over a segment: its input wired to both directions, their hidden states joined, the residual connection,
//! masks, and what is read out. Forward, backward, and one step.

use lstm_kernels::{Aligned, Columns, Reaching, Start, StepPlan};

use crate::free_memory::bytes_of;
use crate::nn::config::{Init, LstmConfig, Readout};
use crate::nn::dropout::{self, Dropout, layer_place};
use crate::nn::params::{Layout, Params, ParamsMut, ParamsRef};
use crate::nn::recurrent::{Recurrent, RecurrentTape};
use crate::nn::segment::Segment;
use crate::nn::state::State;
use crate::nn::wiring::{Below, DBelow, LayerInput, LayerInputTape};

/// One layer of a stack, in one or two directions.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    input: LayerInput,
    directions: Vec<Recurrent>,
    /// The layer's number, from 0.
    index: usize,
    /// R and H.
    recurrent: usize,
    hidden: usize,
    /// S.
    cell_state: usize,
    readout: Readout,
    /// Whether the input is added to the hidden states: what is given on is h + x, what recurs stays h.
    adds_input: bool,
    /// Whether another layer takes what this one gives, and dropout is applied to it.
    is_below: bool,
}

/// The values that a forward pass leaves behind, and scratch of the backward pass.
#[derive(Clone, Debug)]
pub(crate) struct LayerTape {
    input: LayerInputTape,
    directions: Vec<RecurrentTape>,
    /// `[T, B, D·R]`: the hidden states of both directions, zero where masked, after dropout; where none of this
    /// changes anything they stay in the direction's tape.
    hidden: Aligned,
    is_copied: bool,
    /// `[T, B, D·H]`: the output gates, likewise; empty for the `hidden` readout.
    gate: Aligned,
    hidden_mask: Vec<f32>,
    gate_mask: Vec<f32>,
    /// One direction's columns of the gradients that reach the layer.
    d_direction: Aligned,
    d_gate_direction: Aligned,
}

/// The gradient of what a layer gives: it is the stack's, which hands it from the layer above to this one.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerGradient {
    /// `[T, B, D·R]`.
    pub(crate) hidden: Aligned,
    /// `[T, B, D·H]`, if the output gates are read out.
    pub(crate) gate: Aligned,
}

/// The gradients that reach a layer.
pub(crate) struct ReachingLayer<'a> {
    /// `[T, B, D·R]`: of its hidden states.
    pub(crate) d_hidden: &'a [f32],
    /// `[T, B, D·H]`: of its output gates, if they are read out.
    pub(crate) d_gate: Option<&'a [f32]>,
    /// Of the whole stack: in the gradient of the final state, out that of the initial.
    pub(crate) state: &'a mut State,
}

/// Where one step of a layer finds and leaves its values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerColumns {
    /// `[B, I + R]`: the input beside the hidden state before.
    pub(crate) joined: Columns,
    /// `[B, I]`, of those.
    pub(crate) input: Columns,
    /// The hidden state `[B, R]`, of those.
    pub(crate) h: Columns,
    /// The cell state, `[B, H]`.
    pub(crate) c: Columns,
    /// What hidden states are clamped to, `[B, R]`, if they can be; not a number for those that are free.
    pub(crate) clamps: Option<Columns>,
}

impl Layer {
    /// Adds the parameters of layer `index`, and of its wiring to the one below, to `layout`.
    pub(crate) fn in_layout(config: &LstmConfig, index: usize, prefix: &str, layout: &mut Layout) -> Self {
        let input = LayerInput::in_layout(config, index, prefix, layout);
        let directions = [false, true].into_iter().take(config.directions());
        Self {
            input,
            directions: directions
                .map(|reverse| Recurrent::in_layout(config, index, reverse, prefix, layout))
                .collect(),
            index,
            recurrent: config.recurrent(index),
            hidden: config.hidden.of(index),
            cell_state: config.cell_state(index),
            readout: config.readout,
            adds_input: config.adds_input(index),
            is_below: index + 1 < config.layers,
        }
    }

    /// Sets initial values as `init` says.
    pub(crate) fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        self.directions.iter().for_each(|direction| direction.initialise(params, init, seed));
        self.input.initialise(params, init, seed);
    }

    /// An empty tape.
    pub(crate) fn tape(&self) -> LayerTape {
        LayerTape {
            input: LayerInputTape::default(),
            directions: self.directions.iter().map(|_| RecurrentTape::default()).collect(),
            hidden: Aligned::new(),
            is_copied: false,
            gate: Aligned::new(),
            hidden_mask: Vec::new(),
            gate_mask: Vec::new(),
            d_direction: Aligned::new(),
            d_gate_direction: Aligned::new(),
        }
    }

    /// The bytes of a tape for a segment of so many steps and rows in training, and of the gradient of what the layer gives.
    pub(crate) fn bytes(&self, steps: usize, batch: usize, drops_weights: bool) -> usize {
        let (output, gates) = (self.output_width(), self.gate_width());
        let of_gates = usize::from(self.readout == Readout::OutputGate);
        let own = bytes_of(&[[steps, batch, output], [steps, batch, gates.saturating_mul(2 * of_gates)]]);
        let directions = self.directions.iter().map(|direction| direction.bytes(steps, batch, drops_weights));
        directions.chain([self.input.bytes(steps, batch)]).fold(own, usize::saturating_add)
    }

    /// D·R, the width of the hidden states given on.
    pub(crate) fn output_width(&self) -> usize {
        self.directions.len().saturating_mul(self.recurrent)
    }

    /// D·H, the width of the output gates of both directions.
    pub(crate) fn gate_width(&self) -> usize {
        self.directions.len().saturating_mul(self.hidden)
    }

    /// Runs a segment. state: of the whole stack, in the initial, out the final. `dropout`: in training, on what is given to
    /// the layer above, and on recurrent weights. `frozen`: the weights are those of the tape's first use.
    pub(crate) fn forward(
        &self,
        params: ParamsRef,
        below: Below,
        segment: Segment,
        state: &mut State,
        dropout: Option<Dropout>,
        frozen: bool,
        tape: &mut LayerTape,
    ) {
        for (number, (direction, own)) in self.directions.iter().zip(&mut tape.directions).enumerate() {
            direction.begin(params, segment, dropout, own);
            self.input.forward(params, below, segment.rows(), direction, own, &mut tape.input);
            let (h, c) = state.both_mut(self.index * self.directions.len() + number);
            direction.forward(params, segment, h, c, frozen, own);
        }
        self.join(below, segment, dropout.filter(|dropout| dropout.rate > 0.0 && self.is_below), tape);
    }

    /// Joins what is given on: the hidden states of both directions side by side, and, if they are read out, their output gates.
    fn join(&self, below: Below, segment: Segment, dropout: Option<Dropout>, tape: &mut LayerTape) {
        let (rows, width) = (segment.rows(), self.output_width());
        // One direction's hidden states are read where the recurrence left them, unless they must be changed.
        tape.is_copied = self.directions.len() > 1 || segment.lengths.is_some() || dropout.is_some() || self.adds_input;
        if tape.is_copied {
            tape.hidden.resize(rows * width);
            for (number, direction) in tape.directions.iter().enumerate() {
                put_columns(&mut tape.hidden, width, number * self.recurrent, direction.hidden(), self.recurrent);
            }
            segment.clear_masked(&mut tape.hidden);
            if self.adds_input {
                Start::Out.store(&mut tape.hidden, below.hidden);
            }
        }
        if self.readout == Readout::OutputGate {
            let (width, hidden) = (self.gate_width(), self.hidden);
            tape.gate.resize(rows * width);
            for (number, (direction, own)) in self.directions.iter().zip(&tape.directions).enumerate() {
                let of_gates = direction.width();
                // The gates of a masked step are zero already.
                for (row, gates) in own.gates().chunks_exact(of_gates).enumerate() {
                    tape.gate[row * width + number * hidden..][..hidden].copy_from_slice(&gates[of_gates - hidden..]);
                }
            }
        }
        tape.hidden_mask.clear();
        tape.gate_mask.clear();
        let Some(dropout) = dropout else { return };
        dropout.apply(layer_place(self.index, 0), segment.steps, &mut tape.hidden, &mut tape.hidden_mask);
        if !tape.gate.is_empty() {
            dropout.apply(layer_place(self.index, 1), segment.steps, &mut tape.gate, &mut tape.gate_mask);
        }
    }

    /// The backward pass of the joining: from the gradient of what was given on to that of the hidden states and gates.
    pub(crate) fn join_backward(&self, segment: Segment, tape: &LayerTape, gradient: &mut LayerGradient) {
        dropout::apply(&mut gradient.hidden, &tape.hidden_mask);
        dropout::apply(&mut gradient.gate, &tape.gate_mask);
        segment.clear_masked(&mut gradient.hidden);
    }

    /// Runs the last forward pass backward, from the gradients that reach the layer to those of its parameters and `to` those of
    /// what lies below.
    pub(crate) fn backward(
        &self,
        params: ParamsRef,
        below: Below,
        segment: Segment,
        reaching: ReachingLayer,
        mut to: DBelow,
        tape: &mut LayerTape,
        gradients: &mut ParamsMut,
        accumulate: Start,
    ) {
        let ReachingLayer { d_hidden, d_gate, state } = reaching;
        let LayerTape { input, directions, d_direction, d_gate_direction, .. } = tape;
        let (recurrent, hidden) = (self.recurrent, self.hidden);
        for (number, (direction, own)) in self.directions.iter().zip(directions).enumerate() {
            let width = self.output_width();
            let d_own = take_columns(d_hidden, width, number * recurrent, recurrent, d_direction);
            let d_gate =
                d_gate.map(|d_gate| take_columns(d_gate, self.gate_width(), number * hidden, hidden, d_gate_direction));
            let (dh, dc) = state.both_mut(self.index * self.directions.len() + number);
            let reaching = Reaching { d_hidden: d_own, d_gate, dh, dc };
            let met = (self.input.hidden_columns(), below.hidden);
            direction.backward(params, segment, reaching, met, own, gradients, accumulate);
            let from = (direction, &*own, number == 0);
            self.input.backward(params, below, segment.rows(), from, &mut to, input, gradients, accumulate);
        }
        if self.adds_input {
            Start::Out.store(to.hidden.values, d_hidden);
        }
    }

    /// Makes room for one step in `plan`.
    pub(crate) fn plan_columns(&self, plan: &mut StepPlan, clamps: bool) -> LayerColumns {
        let columns = self.input.columns();
        let joined = plan.buffer(columns + self.recurrent);
        LayerColumns {
            joined,
            input: joined.part(0..columns),
            h: joined.part(columns..columns + self.recurrent),
            c: plan.buffer(self.cell_state),
            clamps: clamps.then(|| plan.buffer(self.recurrent)),
        }
    }

    /// Appends to `plan` what this layer takes of the stack's `input`, before any layer runs.
    pub(crate) fn plan_input(&self, plan: &mut StepPlan, input: Columns, own: LayerColumns) {
        self.input.plan_input(plan, input, own.input);
    }

    /// Appends one step to `plan`, its weights packed: from the layer's columns to `above`, where the hidden state goes that
    /// is given on, and to what the layer `next` takes of the readout, which is returned with the gates `[B, K·H]`.
    pub(crate) fn plan_step(
        &self,
        params: ParamsRef,
        plan: &mut StepPlan,
        own: LayerColumns,
        above: Columns,
        next: Option<(&Self, LayerColumns)>,
    ) -> (Columns, Columns) {
        let direction = &self.directions[0];
        let recurring = if self.adds_input { plan.buffer(self.recurrent) } else { above };
        let gates = direction.plan_step(params, plan, own.joined, own.c, recurring);
        if let Some(clamps) = own.clamps {
            plan.clamp(recurring, clamps);
            plan.carry(recurring, own.h);
        }
        if self.adds_input {
            plan.sum(recurring, own.input, above);
        }
        let width = direction.width();
        let readout = match self.readout {
            Readout::Hidden => above,
            Readout::OutputGate => gates.part(width - self.hidden..width),
        };
        if let Some((layer, columns)) = next {
            layer.input.plan_below(params, plan, readout, columns.input);
        }
        (readout, gates)
    }

    /// The columns of this layer's input that hold the hidden state of the layer below.
    pub(crate) fn hidden_below(&self, own: LayerColumns) -> Columns {
        own.input.part(self.input.hidden_columns())
    }
}

impl LayerTape {
    /// The hidden states as the layer above and the reader of the stack see them: `[T, B, D·R]`.
    pub(crate) fn hidden(&self) -> &[f32] {
        if self.is_copied { &self.hidden } else { self.directions[0].hidden() }
    }

    /// The layer's readout: `[T, B, output]`.
    pub(crate) fn readout(&self) -> &[f32] {
        if self.gate.is_empty() { self.hidden() } else { &self.gate }
    }

    /// One direction's.
    pub(crate) fn direction(&self, direction: usize) -> &RecurrentTape {
        &self.directions[direction]
    }
}

/// Writes `source: [rows, width]` into the columns of `out: [rows, total]` that start at `first`.
fn put_columns(out: &mut [f32], total: usize, first: usize, source: &[f32], width: usize) {
    if total == width {
        out.copy_from_slice(source);
        return;
    }
    for (row, source) in out.chunks_exact_mut(total).zip(source.chunks_exact(width)) {
        row[first..first + width].copy_from_slice(source);
    }
}

/// The columns of `source: [rows, total]` that start at `first`, as `[rows, width]`; copied only if there are others.
fn take_columns<'a>(source: &'a [f32], total: usize, first: usize, width: usize, copy: &'a mut Aligned) -> &'a [f32] {
    if total == width {
        return source;
    }
    copy.resize(source.len() / total * width);
    for (to, row) in copy.chunks_exact_mut(width).zip(source.chunks_exact(total)) {
        to.copy_from_slice(&row[first..first + width]);
    }
    copy
}
