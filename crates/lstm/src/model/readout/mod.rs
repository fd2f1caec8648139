//! The readout: from the LSTM's outputs to the loss of the tokens that they predict, and back.
//!
//! The positions that have a target ([`positions`]) give their outputs, a projection of them, or the latent vectors of a
//! mixture ([`mixture`]) to the softmax ([`softmax`]), in training perhaps of some candidates alone ([`candidates`]), or with
//! what other models say of them ([`lesson`]).

mod candidates;
mod lesson;
mod mixture;
mod positions;
mod softmax;

use std::sync::Arc;

use lstm_kernels::{Columns, Matrix, MatrixMut, StepPlan, product_with_bias};

use crate::model::config::LanguageModelConfig;
use crate::model::loss::Loss;
use crate::model::penalty::{self, Penalties};
use crate::nn::config::Init;
use crate::nn::dropout::Masks;
use crate::nn::gradients::Gradients;
use crate::nn::params::{Layout, Params, Slot};
use crate::text::batch::Batch;
use candidates::Candidates;
pub use candidates::Sampler;
pub use lesson::{Lesson, TOP};
pub(super) use mixture::mixed_logits;
use mixture::{Head, HeadTape, Rows};
use positions::{Positions, PositionsTape};
#[cfg(test)]
pub(super) use softmax::SLAB;
use softmax::{Softmax, SoftmaxTape};

/// The readout of a language model.
#[derive(Clone, Debug)]
pub(super) struct Readout {
    positions: Positions,
    head: Head,
    pub(super) softmax: Softmax,
    /// α of activation regularisation.
    activation: f32,
    /// O, the size of the LSTM's output.
    output: usize,
}

/// The values that a pass leaves behind.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadoutTape {
    pub(super) positions: PositionsTape,
    pub(super) head: HeadTape,
    pub(super) softmax: SoftmaxTape,
    /// The tokens that a training step predicts among instead of the whole vocabulary, and whether the last forward pass
    /// drew some.
    candidates: Option<Candidates>,
    is_sampled: bool,
}

/// Where one step leaves its values: logits `[B, K, V]`, and of a mixture the prior's, `[B, K]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadoutColumns {
    pub(super) logits: Columns,
    pub(super) prior: Option<Columns>,
}

impl Readout {
    /// The readout of an LSTM that gives `output` values. `table`: the embedding's place, for a tied one.
    pub(super) fn in_layout(config: &LanguageModelConfig, output: usize, table: Slot, layout: &mut Layout) -> Self {
        let head = Head::in_layout(config, output, layout);
        let width = if let Head::Output = head { output } else { config.embedding() };
        let Penalties { activation, label_smoothing: smoothing, .. } = config.penalties;
        let weight = match config.tied {
            true => table,
            false => layout.add("readout.weight", &[config.vocabulary, width]),
        };
        let bias = layout.add("readout.bias", &[config.vocabulary]);
        let (vocabulary, tied) = (config.vocabulary, config.tied);
        Self {
            positions: Positions::new(output, config.dropout),
            head,
            softmax: Softmax { weight, bias, width, vocabulary, tied, smoothing },
            activation,
            output,
        }
    }

    /// Sets initial values as `init` says.
    pub(super) fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        self.head.initialise(params, init.linear_bound(self.output), seed);
        self.softmax.initialise(params, init, seed);
    }

    /// The place of the biases.
    pub(super) fn bias(&self) -> Slot {
        self.softmax.slots().1
    }

    /// The bytes of a tape for a segment of so many steps and rows.
    pub(super) fn bytes(&self, steps: usize, batch: usize) -> usize {
        let softmaxes = self.head.softmaxes();
        [
            self.positions.bytes(steps, batch),
            self.head.bytes(steps, batch, self.softmax.width),
            self.softmax.bytes(steps, batch, softmaxes),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// From outputs `[T, B, O]` to what the softmax is taken of, at the positions that have a target. With `masks` outputs are
    /// dropped, and candidates are drawn if [`ReadoutTape::sample`] asked for them.
    pub(super) fn forward(
        &self,
        params: &Params,
        outputs: &[f32],
        batch: &Batch,
        masks: Option<Masks>,
        tape: &mut ReadoutTape,
    ) {
        self.positions.forward(outputs, batch, masks, &mut tape.positions);
        let positions = &tape.positions;
        self.head.forward(params, positions.outputs(outputs), self.output, &positions.targets, &mut tape.head);
        tape.is_sampled = false;
        if let Some((candidates, masks)) = tape.candidates.as_mut().zip(masks) {
            candidates.draw(masks, &tape.head.targets, params, self.softmax.slots());
            tape.is_sampled = true;
        }
    }

    /// Notes which rows of the embedding's table a training step touches: those of its tokens, and in a tied model those
    /// that it predicts among.
    pub(super) fn touch(&self, tokens: &[u32], tape: &ReadoutTape, gradients: &mut Gradients) {
        let tokens = tokens.iter().copied();
        match tape.candidates.as_ref().filter(|_| tape.is_sampled) {
            Some(candidates) if self.softmax.tied => gradients.touch(tokens.chain(candidates.drawn.tokens())),
            // As a readout, every row of the table has a gradient.
            None if self.softmax.tied => gradients.touch_all(),
            _ => gradients.touch(tokens),
        }
    }

    /// The loss after [`Self::forward`] of the same outputs; with `gradients` also the softmax's part of the way back.
    pub(super) fn loss(
        &self,
        params: &Params,
        outputs: &[f32],
        gradients: Option<&mut Params>,
        tape: &mut ReadoutTape,
    ) -> Loss {
        let ReadoutTape { positions, head, softmax, candidates, is_sampled } = tape;
        let (outputs, _, d_outputs) = positions.parts(outputs);
        let rows = self.head.rows(outputs, d_outputs, head);
        let candidates = candidates.as_mut().filter(|_| *is_sampled);
        self.softmax.loss(params, rows, gradients, candidates, softmax)
    }

    /// The way back after [`Self::loss`]: the gradient of all outputs `[T, B, O]`, and those of the parameters.
    pub(super) fn backward<'a>(
        &self,
        params: &Params,
        outputs: &[f32],
        batch: &Batch,
        gradients: &mut Params,
        tape: &'a mut ReadoutTape,
    ) -> &'a mut [f32] {
        let (outputs, _, d_outputs) = tape.positions.parts(outputs);
        self.head.backward(params, outputs, self.output, &mut tape.head, d_outputs, gradients);
        penalty::activation(self.activation, outputs, d_outputs);
        self.positions.backward(batch, &mut tape.positions)
    }

    /// Hands the logits `[V]` after each of the outputs `[rows, O]` to `each`, in order; of a mixture the logarithms of its
    /// probabilities.
    pub(super) fn logits(
        &self,
        params: &Params,
        outputs: &[f32],
        tape: &mut ReadoutTape,
        each: &mut dyn FnMut(&[f32]),
    ) {
        /// The positions of a slab: their logits are still in the cache when they are looked at.
        const POSITIONS: usize = 64;
        let Softmax { weight, bias, width, vocabulary, .. } = self.softmax;
        let (weight, bias) = (params.get(weight), params.get(bias));
        let weight = Matrix::new(weight, vocabulary, width);
        let softmaxes = self.head.softmaxes();
        let (mut offsets, mut mixed) = (Vec::new(), Vec::new());
        for outputs in outputs.chunks(POSITIONS * self.output) {
            let positions = outputs.len() / self.output;
            self.head.forward(params, outputs, self.output, &vec![0; positions], &mut tape.head);
            let Rows { values, mixture, .. } = self.head.rows(outputs, &mut tape.positions.d_outputs, &mut tape.head);
            let (logits, rows) = (&mut tape.softmax.logits, positions * softmaxes);
            logits.resize(rows * vocabulary);
            let x = Matrix::new(values, rows, width);
            product_with_bias(MatrixMut::new(logits, rows, vocabulary), bias, x, weight.transposed());
            let logits: &[f32] = match mixture {
                None => logits,
                Some(mixture) => {
                    mixed.resize(positions * vocabulary, 0.0);
                    mixed_logits(mixture.prior(), logits, &mut offsets, &mut mixed, vocabulary);
                    &mixed
                }
            };
            logits.chunks_exact(vocabulary).for_each(&mut *each);
        }
    }

    /// Appends one step to `plan`, from the LSTM's output `[B, O]`.
    pub(super) fn plan_step(&self, params: &Params, plan: &mut StepPlan, output: Columns) -> ReadoutColumns {
        let (x, prior) = self.head.plan_step(params, plan, output, self.softmax.width);
        ReadoutColumns { logits: self.softmax.plan_step(params, plan, self.head.softmaxes(), x), prior }
    }
}

impl ReadoutTape {
    /// Lets training steps predict among the tokens that `sampler` draws, or all.
    pub(super) fn sample(&mut self, sampler: Option<&Arc<Sampler>>) {
        self.candidates = sampler.map(|sampler| Candidates::new(sampler.clone()));
    }

    /// Whether training steps score candidates.
    pub(super) fn samples(&self) -> bool {
        self.candidates.is_some()
    }

    /// The negative log-likelihood of every predicted position, in nats.
    pub(super) fn nll(&self) -> &[f32] {
        &self.softmax.nll
    }
}
