//! From the LSTM's output to what the softmax is taken of: the output itself, its projection to the embedding's size, or the
//! latent vectors of a mixture of softmaxes.
//!
//! A mixture of K softmaxes (Yang 2018) predicts every position K times, and the position chooses how much each counts. The
//! logarithms of its probabilities, positions by tokens, are then no matrix whose rank is bound by the embedding's
//! size, as those of one softmax are. O: the size of the LSTM's output o.
//!
//! ```text
//! π  = softmax(P o)                   P: [K, O]
//! zₖ = tanh(Λₖ o)                     Λ: [K·E, O]
//! p  = Σₖ πₖ pₖ,  pₖ = softmax(R zₖ + b)    R: [V, E], b: [V]
//! ```
//!
//! As in the paper's equations the latent vectors have no bias. One would be what all positions share, so it grows fastest, and
//! every step of the readout's weights then moves the logits of all: five softmaxes that SGD at a rate of 30 takes in one
//! reading to a validation perplexity of 583 on a tenth of the Penn Treebank are at 2,184 with it.
//!
//! Of a target y, softmax k has the share rₖ = πₖ pₖ(y) / p(y). The gradient of -ln p(y) is rₖ times that of -ln pₖ(y) in
//! the logits of softmax k, and π - r in the logits P o.

use std::ops::Range;

use lstm_kernels::{
    Aligned, Columns, Matrix, MatrixMut, Start, StepPlan, column_log_sum_exp, cross_entropy, for_each_chunk,
    log_sum_exp, product, tanh, tanh_backward,
};

use crate::free_memory::bytes_of;
use crate::model::config::LanguageModelConfig;
use crate::nn::params::{Layout, Params, Slot};

/// The part between the LSTM's output `[rows, O]` and the softmax.
#[derive(Clone, Copy, Debug)]
pub(super) enum Head {
    /// Nothing.
    Output,
    /// A projection `[E, O]` without a bias, in a tied model whose sizes differ.
    Projection(Slot),
    /// Latent vectors, and how much the softmax of each counts.
    Mixture(Mixture),
}

/// The parameters of a mixture of softmaxes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixture {
    /// K.
    softmaxes: usize,
    /// P.
    prior: Slot,
    /// Λ.
    latent: Slot,
}

/// The values that a pass through a head leaves behind. A position is K rows that a softmax is taken of; K is 1 without a mixture.
#[derive(Clone, Debug, Default)]
pub(in crate::model) struct HeadTape {
    /// `[positions · K]`: what each row is to predict.
    pub(super) targets: Vec<u32>,
    /// `[positions · K, E]`: the rows, and their gradient; unused if they are the LSTM's outputs.
    pub(in crate::model) vectors: Aligned,
    d_vectors: Aligned,
    mixture: MixtureTape,
}

/// The values that a mixture leaves behind: `[positions, K]` each.
#[derive(Clone, Debug, Default)]
pub(super) struct MixtureTape {
    /// ln π, and the gradient of P o.
    prior: Aligned,
    d_prior: Vec<f32>,
    /// -ln pₖ(y).
    nll: Vec<f32>,
    /// r.
    shares: Vec<f32>,
}

/// The rows that a softmax is taken of: one for each position, or K of a mixture.
pub(super) struct Rows<'a> {
    /// `[positions · K, width]`.
    pub(super) values: &'a [f32],
    /// `[positions · K]`.
    pub(super) targets: &'a [u32],
    /// The gradient of the values, out.
    pub(super) d_values: &'a mut Aligned,
    /// The mixture that weighs the K rows of a position.
    pub(super) mixture: Option<&'a mut MixtureTape>,
    /// K.
    pub(super) softmaxes: usize,
}

impl Head {
    /// The head that a model needs whose LSTM gives `output` values.
    pub(super) fn in_layout(config: &LanguageModelConfig, output: usize, layout: &mut Layout) -> Self {
        let (size, softmaxes) = (config.embedding(), config.softmaxes);
        if softmaxes > 1 {
            return Self::Mixture(Mixture {
                softmaxes,
                prior: layout.add("mixture_prior.weight", &[softmaxes, output]),
                // More than memory can hold is refused by whoever knows how much there is.
                latent: layout.add("mixture_latent.weight", &[softmaxes.saturating_mul(size), output]),
            });
        }
        match config.tied && output != size {
            true => Self::Projection(layout.add("readout_projection.weight", &[size, output])),
            false => Self::Output,
        }
    }

    /// K.
    pub(super) fn softmaxes(&self) -> usize {
        if let Self::Mixture(mixture) = self { mixture.softmaxes } else { 1 }
    }

    /// Fresh parameters, uniform within `bound`.
    pub(super) fn initialise(&self, params: &mut Params, bound: f32, seed: u64) {
        match *self {
            Self::Output => {}
            Self::Projection(slot) => params.fill_uniform(slot, bound, seed),
            Self::Mixture(Mixture { prior, latent, .. }) => {
                [prior, latent].into_iter().for_each(|slot| params.fill_uniform(slot, bound, seed));
            }
        }
    }

    /// The bytes of a tape for so many steps and rows, with vectors of `width`.
    pub(super) fn bytes(&self, steps: usize, batch: usize, width: usize) -> usize {
        let softmaxes = self.softmaxes();
        let of_mixture = if let Self::Mixture(_) = self { softmaxes.saturating_mul(4) } else { 0 };
        let vectors = if let Self::Output = self { 0 } else { softmaxes.saturating_mul(width).saturating_mul(2) };
        bytes_of(&[[steps, batch, vectors], [steps, batch, of_mixture], [steps, batch, softmaxes]])
    }

    /// From outputs `[positions, O]` to what the softmax is taken of. targets: `[positions]`.
    pub(super) fn forward(&self, params: &Params, outputs: &[f32], width: usize, targets: &[u32], tape: &mut HeadTape) {
        let rows = targets.len();
        tape.targets.clear();
        tape.targets.extend(targets.iter().flat_map(|&target| std::iter::repeat_n(target, self.softmaxes())));
        let outputs = Matrix::new(outputs, rows, width);
        let linear = |to: &mut Aligned, weight: Slot| {
            let weight = params.get(weight);
            let columns = weight.len() / width;
            to.resize(rows * columns);
            let weight = Matrix::new(weight, columns, width).transposed();
            product(MatrixMut::new(to, rows, columns), Start::Zero, outputs, weight);
        };
        match *self {
            Self::Output => {}
            Self::Projection(slot) => linear(&mut tape.vectors, slot),
            Self::Mixture(Mixture { softmaxes, prior, latent }) => {
                linear(&mut tape.vectors, latent);
                tanh(&mut tape.vectors);
                let MixtureTape { prior: log_prior, d_prior, nll, shares } = &mut tape.mixture;
                linear(log_prior, prior);
                for prior in log_prior.chunks_exact_mut(softmaxes) {
                    log_softmax(prior);
                }
                // Room for what the loss leaves.
                [d_prior, nll, shares].into_iter().for_each(|values| values.resize(rows * softmaxes, 0.0));
            }
        }
    }

    /// The rows that the softmax is taken of: the vectors of the tape, or the outputs themselves.
    pub(super) fn rows<'a>(&self, outputs: &'a [f32], d_outputs: &'a mut Aligned, tape: &'a mut HeadTape) -> Rows<'a> {
        let HeadTape { targets, vectors, d_vectors, mixture } = tape;
        let softmaxes = self.softmaxes();
        let (values, d_values, mixture) = match self {
            Self::Output => (outputs, d_outputs, None),
            Self::Projection(_) => (&vectors[..], d_vectors, None),
            Self::Mixture(_) => (&vectors[..], d_vectors, Some(mixture)),
        };
        Rows { values, targets, d_values, mixture, softmaxes }
    }

    /// The backward pass of [`Self::forward`]: from the vectors' gradient to d_outputs `[positions, O]` and the parameters'
    /// gradients; d_outputs stays where nothing lies between.
    pub(super) fn backward(
        &self,
        params: &Params,
        outputs: &[f32],
        width: usize,
        tape: &mut HeadTape,
        d_outputs: &mut Aligned,
        gradients: &mut Params,
    ) {
        let rows = tape.targets.len() / self.softmaxes();
        let output = Matrix::new(outputs, rows, width);
        let mut linear = |d: &[f32], weight: Slot, d_output: &mut [f32], start| {
            let columns = params.get(weight).len() / width;
            let d = Matrix::new(d, rows, columns);
            let d_weight = MatrixMut::new(gradients.get_mut(weight), columns, width);
            product(d_weight, Start::Zero, d.transposed(), output);
            let weight = Matrix::new(params.get(weight), columns, width);
            product(MatrixMut::new(d_output, rows, width), start, d, weight);
        };
        if !matches!(self, Self::Output) {
            d_outputs.resize(rows * width);
        }
        match *self {
            Self::Output => {}
            Self::Projection(slot) => linear(&tape.d_vectors, slot, d_outputs, Start::Zero),
            Self::Mixture(Mixture { prior, latent, .. }) => {
                tanh_backward(&mut tape.d_vectors, &tape.vectors);
                linear(&tape.d_vectors, latent, d_outputs, Start::Zero);
                linear(&tape.mixture.d_prior, prior, d_outputs, Start::Out);
            }
        }
    }

    /// Appends one step to `plan`, from the LSTM's output `[B, O]`: to the vectors `[B, K, width]`, and of a mixture to the
    /// prior's logits `[B, K]`.
    pub(super) fn plan_step(
        &self,
        params: &Params,
        plan: &mut StepPlan,
        output: Columns,
        width: usize,
    ) -> (Columns, Option<Columns>) {
        let mut linear = |slot: Slot, width: usize| {
            let out = plan.buffer(width);
            plan.linear(params.get(slot), None, output, out);
            out
        };
        match *self {
            Self::Output => (output, None),
            Self::Projection(slot) => (linear(slot, width), None),
            Self::Mixture(Mixture { softmaxes, prior, latent }) => {
                let prior = linear(prior, softmaxes);
                let latent = linear(latent, softmaxes * width);
                plan.tanh(latent);
                (latent, Some(prior))
            }
        }
    }
}

impl MixtureTape {
    /// The nll of some positions, and that of each of their rows of logits with the row's share in the position's.
    ///
    /// logits: `[rows, V]`; targets: `[rows]`; rows: which of all, K for each position; nll: `[positions]`, out; scale: of
    /// the loss, whose gradient in the prior's logits is kept.
    pub(super) fn weigh(
        &mut self,
        logits: &mut [f32],
        targets: &[u32],
        rows: Range<usize>,
        nll: &mut [f32],
        scale: f32,
    ) -> (&mut [f32], &[f32]) {
        let Self { prior, d_prior, nll: row_nll, shares } = self;
        let row_nll = &mut row_nll[rows.clone()];
        cross_entropy(logits, logits.len() / targets.len(), targets, row_nll, None);
        let (shares, softmaxes) = (&mut shares[rows.clone()], rows.len() / nll.len());
        let positions = shares.chunks_exact_mut(softmaxes).zip(row_nll.chunks_exact(softmaxes));
        let priors = prior[rows.clone()].chunks_exact(softmaxes).zip(d_prior[rows].chunks_exact_mut(softmaxes));
        for ((nll, (shares, row_nll)), (prior, d_prior)) in nll.iter_mut().zip(positions).zip(priors) {
            let joint = shares.iter_mut().zip(prior).zip(row_nll);
            joint.for_each(|((share, prior), nll)| *share = prior - nll);
            *nll = -log_softmax(shares);
            for ((share, prior), d_prior) in shares.iter_mut().zip(prior).zip(d_prior) {
                *share = share.exp();
                *d_prior = scale * (prior.exp() - *share);
            }
        }
        (row_nll, shares)
    }
}

impl MixtureTape {
    /// ln π of every position, `[positions, K]`.
    pub(super) fn prior(&self) -> &[f32] {
        &self.prior
    }

    /// The logits of the softmaxes of some positions that were weighed into those of their mixture, ln p.
    ///
    /// logits: `[positions, K, V]`; targets: `[positions · K]`; rows: which of all; out: `[positions, V]`.
    pub(super) fn mix<'o>(
        &self,
        logits: &[f32],
        targets: &[u32],
        rows: Range<usize>,
        softmaxes: usize,
        out: &'o mut Vec<f32>,
    ) -> &'o [f32] {
        let vocabulary = logits.len() / targets.len();
        out.resize(logits.len() / softmaxes, 0.0);
        // ln π - ln Σ exp(logit), where the latter is what the target's logit and its nll sum to.
        let known = self.prior[rows.clone()].iter().zip(&self.nll[rows]).zip(logits.chunks_exact(vocabulary));
        let offsets: Vec<f32> = known
            .zip(targets)
            .map(|(((prior, nll), logits), &target)| prior - (nll + logits[target as usize]))
            .collect();
        let positions = logits.chunks_exact(softmaxes * vocabulary).zip(offsets.chunks_exact(softmaxes));
        for (out, (logits, offsets)) in out.chunks_exact_mut(vocabulary).zip(positions) {
            column_log_sum_exp(out, logits, offsets);
        }
        out
    }
}

/// The logits of a mixture's softmaxes into those of the mixture, ln p, for every row of a stream.
///
/// prior: P o, or its ln π, `[B, K]`; logits: `[B, K, V]`; offsets: scratch, `[B, K]`; out: `[B, V]`.
pub(in crate::model) fn mixed_logits(
    prior: &[f32],
    logits: &[f32],
    offsets: &mut Vec<f32>,
    out: &mut [f32],
    vocabulary: usize,
) {
    let softmaxes = prior.len() / (out.len() / vocabulary);
    offsets.clear();
    offsets.extend_from_slice(prior);
    for prior in offsets.chunks_exact_mut(softmaxes) {
        log_softmax(prior);
    }
    for_each_chunk(offsets, 1, |row, offset| {
        offset[0] -= log_sum_exp(&logits[row * vocabulary..][..vocabulary], 1.0) as f32;
    });
    let rows = logits.chunks_exact(softmaxes * vocabulary).zip(offsets.chunks_exact(softmaxes));
    for (out, (logits, offsets)) in out.chunks_exact_mut(vocabulary).zip(rows) {
        column_log_sum_exp(out, logits, offsets);
    }
}

/// Takes the logarithm of the sum of the exponentials from every value, and returns it.
fn log_softmax(values: &mut [f32]) -> f32 {
    let total = log_sum_exp(values, 1.0) as f32;
    values.iter_mut().for_each(|value| *value -= total);
    total
}
