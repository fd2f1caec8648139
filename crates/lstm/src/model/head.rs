//! From the LSTM's output to what the readout scores: the output itself, its projection to the embedding's size, or the
//! latent vectors of a mixture of softmaxes.
//!
//! A mixture of K softmaxes (Yang 2018) scores every position K times, and the position chooses how much each counts. The
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
//! every step of the readout's weights then moves the scores of all: five softmaxes that SGD at a rate of 30 takes in one
//! reading to a validation perplexity of 583 on a tenth of the Penn Treebank are at 2,184 with it.
//!
//! Of a target y, softmax k has the share rₖ = πₖ pₖ(y) / p(y). The gradient of -ln p(y) is rₖ times that of -ln pₖ(y) in
//! the scores of softmax k, and π - r in the scores P o.

use std::ops::Range;

use lstm_kernels::{
    Aligned, Matrix, MatrixMut, Start, column_log_sum_exp, cross_entropy, for_each_chunk, log_sum_exp, product, tanh,
    tanh_backward,
};

use super::LanguageModelConfig;
use crate::nn::params::{Layout, Params, Slot};

/// What lies between the LSTM's output `[rows, O]` and the readout.
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
    pub(super) softmaxes: usize,
    /// P.
    pub(super) prior: Slot,
    /// Λ.
    pub(super) latent: Slot,
}

/// What a pass through a head leaves behind. A position is K rows of what is scored; K is 1 without a mixture.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadTape {
    /// `[positions · K]`: what each row of scores is to predict.
    pub(super) targets: Vec<u32>,
    /// `[positions · K, E]`: what is scored, and its gradient; unused if it is the LSTM's output.
    pub(super) scored: Aligned,
    pub(super) d_scored: Aligned,
    pub(super) mixture: MixtureTape,
}

/// What a mixture leaves behind: `[positions, K]` each.
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

impl Head {
    /// The head that a model needs whose LSTM gives `output` values.
    pub(super) fn new(config: &LanguageModelConfig, output: usize, layout: &mut Layout) -> Self {
        let (size, softmaxes) = (config.embedding, config.softmaxes);
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

    /// From output `[positions, width]` to what is scored. targets: `[positions]`.
    pub(super) fn forward(&self, params: &Params, output: &[f32], width: usize, targets: &[u32], tape: &mut HeadTape) {
        let rows = targets.len();
        tape.targets.clear();
        tape.targets.extend(targets.iter().flat_map(|&target| std::iter::repeat_n(target, self.softmaxes())));
        let output = Matrix::new(output, rows, width);
        let linear = |to: &mut Aligned, weight: Slot| {
            let weight = params.get(weight);
            let columns = weight.len() / width;
            to.resize(rows * columns);
            let weight = Matrix::new(weight, columns, width).transposed();
            product(MatrixMut::new(to, rows, columns), Start::Zero, output, weight);
        };
        match *self {
            Self::Output => {}
            Self::Projection(slot) => linear(&mut tape.scored, slot),
            Self::Mixture(Mixture { softmaxes, prior, latent }) => {
                linear(&mut tape.scored, latent);
                tanh(&mut tape.scored);
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

    /// The backward pass of [`Self::forward`]: from `tape.d_scored` to d_output `[positions, width]` and the parameters'
    /// gradients; d_output stays where nothing lies between.
    pub(super) fn backward(
        &self,
        params: &Params,
        output: &[f32],
        width: usize,
        tape: &mut HeadTape,
        d_output: &mut Aligned,
        gradients: &mut Params,
    ) {
        let rows = output.len() / width;
        let output = Matrix::new(output, rows, width);
        let mut linear = |d: &[f32], weight: Slot, d_output: &mut [f32], start| {
            let columns = params.get(weight).len() / width;
            let d = Matrix::new(d, rows, columns);
            let d_weight = MatrixMut::new(gradients.get_mut(weight), columns, width);
            product(d_weight, Start::Zero, d.transposed(), output);
            let weight = Matrix::new(params.get(weight), columns, width);
            product(MatrixMut::new(d_output, rows, width), start, d, weight);
        };
        if !matches!(self, Self::Output) {
            d_output.resize(rows * width);
        }
        match *self {
            Self::Output => {}
            Self::Projection(slot) => linear(&tape.d_scored, slot, d_output, Start::Zero),
            Self::Mixture(Mixture { prior, latent, .. }) => {
                tanh_backward(&mut tape.d_scored, &tape.scored);
                linear(&tape.d_scored, latent, d_output, Start::Zero);
                linear(&tape.mixture.d_prior, prior, d_output, Start::Out);
            }
        }
    }
}

impl MixtureTape {
    /// The nll of some positions, and that of each of their rows of scores with the row's share in the position's.
    ///
    /// scores: `[rows, V]`; targets: `[rows]`; rows: which of all, K for each position; nll: `[positions]`, out; scale: of
    /// the loss, whose gradient in the prior's scores is kept.
    pub(super) fn weigh(
        &mut self,
        scores: &mut [f32],
        targets: &[u32],
        rows: Range<usize>,
        nll: &mut [f32],
        scale: f32,
    ) -> (&mut [f32], &[f32]) {
        let Self { prior, d_prior, nll: row_nll, shares } = self;
        let row_nll = &mut row_nll[rows.clone()];
        cross_entropy(scores, scores.len() / targets.len(), targets, row_nll, None);
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

/// The scores of a mixture's softmaxes into those of the mixture, ln p, for every row of a stream.
///
/// prior: P o, `[B, K]`; scores: `[B, K, V]`; offsets: scratch, `[B, K]`; out: `[B, V]`.
pub(super) fn mixed_scores(prior: &[f32], scores: &[f32], offsets: &mut Vec<f32>, out: &mut [f32], vocabulary: usize) {
    let softmaxes = prior.len() / (out.len() / vocabulary);
    offsets.clear();
    offsets.extend_from_slice(prior);
    for prior in offsets.chunks_exact_mut(softmaxes) {
        log_softmax(prior);
    }
    for_each_chunk(offsets, 1, |row, offset| {
        offset[0] -= log_sum_exp(&scores[row * vocabulary..][..vocabulary], 1.0) as f32;
    });
    let rows = scores.chunks_exact(softmaxes * vocabulary).zip(offsets.chunks_exact(softmaxes));
    for (out, (scores, offsets)) in out.chunks_exact_mut(vocabulary).zip(rows) {
        column_log_sum_exp(out, scores, offsets);
    }
}

/// Takes the logarithm of the sum of the exponentials from every value, and returns it.
fn log_softmax(values: &mut [f32]) -> f32 {
    let total = log_sum_exp(values, 1.0) as f32;
    values.iter_mut().for_each(|value| *value -= total);
    total
}
