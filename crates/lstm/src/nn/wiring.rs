//! Wirings: what a layer takes as its input, and how its gates meet it. Stacked, the hidden states of the layer below;
//! skip, the stack's own input joined to them; scores, what the layer below scores joined to them. Each is decided here,
//! for the forward pass, the backward pass, and one step.

use std::ops::Range;

use lstm_kernels::{Aligned, Columns, Matrix, MatrixMut, Start, StepPlan, column_sums, product, product_with_bias};

use crate::free_memory::bytes_of;
use crate::nn::config::{Init, InitScheme, LstmConfig, Wiring};
use crate::nn::params::{Layout, Params, ParamsMut, ParamsRef, Slot};
use crate::nn::recurrent::{Recurrent, RecurrentTape};

/// The most floats a slab of scores between layers holds (4 MiB): scores are made, used and forgotten slab by slab, so
/// a vocabulary of any size needs no `T·B·V` floats.
const SLAB: usize = 1 << 20;

/// The input of one layer: `concat(joined, hidden below)`.
#[derive(Clone, Debug)]
pub(crate) struct LayerInput {
    joined: Joined,
    /// The width of what is joined, and of the whole input.
    width: usize,
    columns: usize,
}

/// The part of an input that is joined to the hidden states below.
#[derive(Clone, Debug)]
enum Joined {
    /// Nothing. Below the first layer is the stack's input.
    Nothing,
    /// The stack's input.
    Input,
    /// The scores of the layer below, `W r + b` of its readout r.
    Scores {
        /// `[S, output]`.
        weight: Slot,
        /// `[S]`.
        bias: Slot,
    },
}

/// Scratch for a slab of scores, and for its gradient.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerInputTape {
    scores: Aligned,
    d_scores: Aligned,
}

/// The values that lie below a layer.
#[derive(Clone, Copy)]
pub(crate) struct Below<'a> {
    /// The stack's input, `[T, B, I]`.
    pub(crate) input: &'a [f32],
    /// The hidden states of the layer below, `[T, B, D·R]`; of the first layer the stack's input.
    pub(crate) hidden: &'a [f32],
    /// The readout of the layer below, `[T, B, output]`.
    pub(crate) readout: &'a [f32],
}

/// Where the gradients of what lies below a layer go.
pub(crate) struct DBelow<'a> {
    /// Of the stack's input; `None` below the first layer, where `hidden` is that.
    pub(crate) input: Option<GradientSum<'a>>,
    /// Of the hidden states.
    pub(crate) hidden: GradientSum<'a>,
    /// Of the output gates, if they are what is read out: added to.
    pub(crate) gate: Option<&'a mut [f32]>,
}

/// A gradient that several parts add up to: the first part replaces what the buffer held.
pub(crate) struct GradientSum<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) start: &'a mut Start,
}

impl GradientSum<'_> {
    /// The values for the next part, and how it enters them.
    fn next(&mut self) -> (&mut [f32], Start) {
        (self.values, std::mem::replace(self.start, Start::Out))
    }
}

impl LayerInput {
    /// The input of layer `layer`; the parameters of its wiring are added to `layout`.
    pub(crate) fn in_layout(config: &LstmConfig, layer: usize, prefix: &str, layout: &mut Layout) -> Self {
        let columns = config.layer_input(layer);
        if layer == 0 {
            return Self { joined: Joined::Nothing, width: 0, columns };
        }
        let below = layer - 1;
        match config.wiring {
            Wiring::Stacked => Self { joined: Joined::Nothing, width: 0, columns },
            Wiring::Skip => Self { joined: Joined::Input, width: config.input, columns },
            Wiring::Scores => {
                let size = config.scores;
                let shape = [size, config.layer_output(below)];
                let weight = layout.add(format!("{prefix}weight_score_l{below}"), &shape);
                let bias = layout.add(format!("{prefix}bias_score_l{below}"), &[size]);
                Self { joined: Joined::Scores { weight, bias }, width: size, columns }
            }
        }
    }

    /// The input weights' columns that meet the hidden states below.
    pub(crate) fn hidden_columns(&self) -> Range<usize> {
        self.width..self.columns
    }

    /// The width of the whole input.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Sets initial values as `init` says.
    pub(crate) fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        let Joined::Scores { weight, bias } = self.joined else { return };
        let fan_in = params.get(weight).len() / self.width;
        let bound = init.linear_bound(fan_in);
        params.fill_uniform(weight, bound, seed);
        match init.scheme {
            InitScheme::OnesBias => params.get_mut(bias).fill(1.0),
            _ => params.fill_uniform(bias, bound, seed),
        }
    }

    /// The bytes of a tape.
    pub(crate) fn bytes(&self, steps: usize, batch: usize) -> usize {
        match self.joined {
            Joined::Nothing | Joined::Input => 0,
            Joined::Scores { .. } => {
                bytes_of(&[[2, steps, batch.saturating_mul(self.width)]]).min(bytes_of(&[[2, 1, SLAB.max(self.width)]]))
            }
        }
    }

    /// The product of the input with the input weights of one direction, into its gates.
    pub(crate) fn forward(
        &self,
        params: ParamsRef,
        below: Below,
        rows: usize,
        direction: &Recurrent,
        direction_tape: &mut RecurrentTape,
        tape: &mut LayerInputTape,
    ) {
        let joined = 0..self.width;
        direction.add_input(params, self.hidden_columns(), 0..rows, below.hidden, Start::Zero, direction_tape);
        match self.joined {
            Joined::Nothing => {}
            Joined::Input => direction.add_input(params, joined, 0..rows, below.input, Start::Out, direction_tape),
            Joined::Scores { .. } => {
                for slab in slabs(rows, self.width) {
                    self.score(params, below.readout, slab.clone(), &mut tape.scores);
                    direction.add_input(params, joined.clone(), slab, &tape.scores, Start::Out, direction_tape);
                }
            }
        }
    }

    /// The way back from the gates' gradients of one direction, the `first` or another: to the gradients of what lies below,
    /// of the input weights that met what is joined, and of the scores' parameters.
    pub(crate) fn backward(
        &self,
        params: ParamsRef,
        below: Below,
        rows: usize,
        (direction, direction_tape, first): (&Recurrent, &RecurrentTape, bool),
        to: &mut DBelow,
        tape: &mut LayerInputTape,
        gradients: &mut ParamsMut,
        accumulate: Start,
    ) {
        let joined = 0..self.width;
        let (d_hidden, start) = to.hidden.next();
        direction.input_gradient(params, self.hidden_columns(), 0..rows, d_hidden, start, direction_tape);
        match self.joined {
            Joined::Nothing => {}
            Joined::Input => {
                let (source, at) = (below.input, 0..rows);
                direction.input_weight_gradient(joined.clone(), at, source, direction_tape, gradients, accumulate);
                if let Some((d_input, start)) = to.input.as_mut().map(GradientSum::next) {
                    direction.input_gradient(params, joined, 0..rows, d_input, start, direction_tape);
                }
            }
            Joined::Scores { .. } => {
                let LayerInputTape { scores, d_scores } = tape;
                for slab in slabs(rows, self.width) {
                    let is_first = slab.start == 0;
                    self.score(params, below.readout, slab.clone(), scores);
                    let (at, start) = (slab.clone(), accumulate.of_part(is_first));
                    direction.input_weight_gradient(joined.clone(), at, scores, direction_tape, gradients, start);
                    d_scores.resize(slab.len() * self.width);
                    let (at, replace) = (slab.clone(), Start::Zero);
                    direction.input_gradient(params, joined.clone(), at, d_scores, replace, direction_tape);
                    let d_readout = to.gate.as_deref_mut().unwrap_or(to.hidden.values);
                    let shared = accumulate.of_part(is_first && first);
                    self.score_backward(params, below.readout, slab, d_scores, d_readout, gradients, shared);
                }
            }
        }
    }

    /// Appends to `plan` what is joined of the stack's `input`, before any layer runs, so that none waits for it.
    /// `whole`: the layer's input.
    pub(crate) fn plan_input(&self, plan: &mut StepPlan, input: Columns, whole: Columns) {
        if let Joined::Input = self.joined {
            plan.carry(input, whole.part(0..self.width));
        }
    }

    /// Appends to `plan` what is joined of the layer below, whose readout is `readout`.
    pub(crate) fn plan_below(&self, params: ParamsRef, plan: &mut StepPlan, readout: Columns, whole: Columns) {
        if let Joined::Scores { weight, bias } = self.joined {
            plan.linear(params.get(weight), Some(params.get(bias)), readout, whole.part(0..self.width));
        }
    }

    /// scores `[rows, S]` = readout `[rows, output]` · Wᵀ + b, for one slab of rows of all `readout`.
    fn score(&self, params: ParamsRef, readout: &[f32], rows: Range<usize>, scores: &mut Aligned) {
        let Joined::Scores { weight, bias } = self.joined else { return };
        let (weight, bias) = (params.get(weight), params.get(bias));
        let width = weight.len() / bias.len();
        scores.resize(rows.len() * bias.len());
        product_with_bias(
            MatrixMut::new(scores, rows.len(), bias.len()),
            bias,
            Matrix::new(&readout[rows.start * width..rows.end * width], rows.len(), width),
            Matrix::new(weight, bias.len(), width).transposed(),
        );
    }

    /// The backward pass of [`Self::score`]. d_scores: `[rows, S]`; adds to the rows of d_readout `[T·B, output]`.
    fn score_backward(
        &self,
        params: ParamsRef,
        readout: &[f32],
        rows: Range<usize>,
        d_scores: &[f32],
        d_readout: &mut [f32],
        gradients: &mut ParamsMut,
        accumulate: Start,
    ) {
        let Joined::Scores { weight, bias } = self.joined else { return };
        let size = self.width;
        let width = params.get(weight).len() / size;
        let part = rows.start * width..rows.end * width;
        let d_scores_matrix = Matrix::new(d_scores, rows.len(), size);
        column_sums(gradients.get_mut(bias), accumulate, d_scores);
        product(
            MatrixMut::new(gradients.get_mut(weight), size, width),
            accumulate,
            d_scores_matrix.transposed(),
            Matrix::new(&readout[part.clone()], rows.len(), width),
        );
        product(
            MatrixMut::new(&mut d_readout[part], rows.len(), width),
            Start::Out,
            d_scores_matrix,
            Matrix::new(params.get(weight), size, width),
        );
    }
}

/// The rows `0..rows` in slabs whose scores, `size` a row, stay within [`SLAB`] floats.
fn slabs(rows: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let step = (SLAB / size).max(1);
    (0..rows).step_by(step).map(move |start| start..rows.min(start + step))
}
