//! The softmax over the vocabulary: logits, cross-entropy, and their gradient, slab by slab.

use lstm_kernels::{
    Aligned, Columns, Matrix, MatrixMut, ScoreGradient, Start, StepPlan, column_sums, cross_entropy, product,
    product_with_bias, smooth_targets,
};

use super::candidates::{Candidates, Drawn};
use super::lesson::Lesson;
use super::mixture::Rows;
use crate::free_memory::bytes_of;
use crate::model::loss::Loss;
use crate::nn::config::{Init, InitScheme};
use crate::nn::params::{Params, Slot};

/// The most floats of a slab of logits (32 MiB): the loss goes through the rows slab by slab, so that a large vocabulary
/// needs no `T·B·V` floats. The readout's weight and gradient pass through the cache once a slab: a training step of 700
/// tokens over V = 33,278 with 2 layers of 200 takes 87 ms on 2 cores with this slab, 102 with half of it, 155 with an
/// eighth; with V = 10,000 this and half of it are the same.
pub(in crate::model) const SLAB: usize = 1 << 23;

/// logits = weight · x + bias.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Softmax {
    /// `readout.weight [V, E]`; the embedding's place in a tied model.
    pub(in crate::model) weight: Slot,
    /// `readout.bias [V]`.
    pub(in crate::model) bias: Slot,
    /// The size of x: E, or the LSTM's output.
    pub(in crate::model) width: usize,
    /// V.
    pub(super) vocabulary: usize,
    /// Whether the weights are the embedding's too.
    pub(super) tied: bool,
    /// ε of label smoothing.
    pub(super) smoothing: f32,
}

/// A slab of logits, and the loss of every position.
#[derive(Clone, Debug, Default)]
pub(in crate::model) struct SoftmaxTape {
    pub(in crate::model) logits: Aligned,
    /// `[positions]`, in nats.
    pub(super) nll: Vec<f32>,
    /// The ranks of the targets, where an evaluation is asked for them.
    ranks: Option<Ranks>,
    /// What teachers say of the positions of a training step, where there are some, and column sums that their word replaces.
    pub(in crate::model) lesson: Option<Lesson>,
    untaught: Vec<f32>,
}

/// The ranks of the targets among all tokens by their probability: 1 for the likeliest.
#[derive(Clone, Debug, Default)]
struct Ranks {
    /// `[positions]`.
    ranks: Vec<u32>,
    /// The logarithms of a mixture's probabilities.
    mixed: Vec<f32>,
}

impl SoftmaxTape {
    /// Lets evaluations find the ranks too.
    pub(in crate::model) fn rank(&mut self) {
        self.ranks = Some(Ranks::default());
    }

    /// The ranks that the last evaluation found: `[positions]`.
    pub(in crate::model) fn ranks(&self) -> &[u32] {
        self.ranks.as_ref().map_or(&[], |ranks| &ranks.ranks)
    }
}

impl Softmax {
    /// Sets initial values. A tied weight starts as a readout: its logits would be far too large otherwise.
    pub(super) fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        let bound = init.linear_bound(self.width);
        params.fill_uniform(self.weight, bound, seed);
        match init.scheme {
            InitScheme::OnesBias => params.get_mut(self.bias).fill(1.0),
            _ => params.fill_uniform(self.bias, bound, seed),
        }
    }

    /// The bytes of a tape for so many steps and rows, each a position of K softmaxes.
    pub(super) fn bytes(&self, steps: usize, batch: usize, softmaxes: usize) -> usize {
        let position = softmaxes.saturating_mul(self.vocabulary);
        let slab = bytes_of(&[[1, 1, SLAB.max(position)]]);
        bytes_of(&[[steps, batch, position]]).min(slab).saturating_add(bytes_of(&[[steps, batch, 1]]))
    }

    /// The weights' and the bias's places.
    pub(super) fn slots(&self) -> (Slot, Slot) {
        (self.weight, self.bias)
    }

    /// The loss of all rows; with `gradients` also their gradient and that of weight and bias, which replaces what was there.
    /// With `candidates` the logits are theirs alone.
    pub(super) fn loss(
        &self,
        params: &Params,
        rows: Rows,
        mut gradients: Option<&mut Params>,
        candidates: Option<&mut Candidates>,
        tape: &mut SoftmaxTape,
    ) -> Loss {
        let Rows { values, targets: row_targets, d_values, mut mixture, softmaxes } = rows;
        let SoftmaxTape { logits, nll, ranks, lesson, untaught } = tape;
        if let Some(Ranks { ranks, .. }) = ranks {
            ranks.clear();
        }
        let (width, rows) = (self.width, row_targets.len());
        let positions = rows / softmaxes;
        let scale = 1.0 / positions.max(1) as f32;
        nll.resize(positions, 0.0);
        if gradients.is_some() {
            d_values.resize(rows * width);
        }
        let (candidates, mut part) = match candidates {
            Some(Candidates { drawn, gradient }) => (Some(&*drawn), Some(gradient)),
            None => (None, None),
        };
        // V, or the number of candidates.
        let classes = candidates.map_or(self.vocabulary, Drawn::len);
        // Whole positions.
        let step = (SLAB / classes.max(1) / softmaxes).max(1) * softmaxes;
        for start in (0..rows).step_by(step) {
            let end = rows.min(start + step);
            logits.resize((end - start) * classes);
            let whole = || (params.get(self.weight), params.get(self.bias));
            let (weight, bias) = candidates.map_or_else(whole, Drawn::readout);
            let weight = Matrix::new(weight, classes, width);
            let x = Matrix::new(&values[start * width..end * width], end - start, width);
            product_with_bias(MatrixMut::new(logits, end - start, classes), bias, x, weight.transposed());
            let targets = match candidates {
                Some(candidates) => candidates.lower_targets(logits, start..end),
                None => &row_targets[start..end],
            };
            let nll = &mut nll[start / softmaxes..end / softmaxes];
            let (nll, weights) = match mixture.as_deref_mut() {
                None => (nll, None),
                Some(mixture) => {
                    let (nll, shares) = mixture.weigh(logits, targets, start..end, nll, scale);
                    (nll, Some(shares))
                }
            };
            let Some(gradients) = gradients.as_deref_mut() else {
                if weights.is_none() {
                    cross_entropy(logits, classes, targets, nll, None);
                }
                if let Some(Ranks { ranks, mixed }) = ranks {
                    let logits: &[f32] = match mixture.as_deref() {
                        None => logits,
                        Some(mixture) => mixture.mix(logits, targets, start..end, softmaxes, mixed),
                    };
                    let rank = |(logits, &target): (&[f32], &u32)| {
                        let likelier = logits.iter().filter(|logit| **logit > logits[target as usize]);
                        likelier.count() as u32 + 1
                    };
                    ranks.extend(logits.chunks_exact(classes).zip(targets.iter().step_by(softmaxes)).map(rank));
                }
                continue;
            };
            let (d_weight, d_bias) = match part.as_deref_mut() {
                Some(part) => (&mut part.weight[..], &mut part.bias[..]),
                None => gradients.pair_mut(self.weight, self.bias),
            };
            let sums = Start::Zero.of_part(start == 0);
            if let Some(lesson) = lesson {
                // A run with teachers scores every token, by one softmax.
                untaught.resize(classes, 0.0);
                let asked = ScoreGradient { scale, weights: None, bias: untaught, start: Start::Zero };
                cross_entropy(logits, classes, targets, nll, Some(asked));
                lesson.apply(logits, classes, targets, start, scale);
                column_sums(d_bias, sums, logits);
            } else {
                let asked = ScoreGradient { scale, weights, bias: &mut *d_bias, start: sums };
                cross_entropy(logits, classes, targets, nll, Some(asked));
            }
            if self.smoothing > 0.0 {
                smooth_targets(logits, targets, self.smoothing, scale, d_bias);
            }
            let d_logits = Matrix::new(logits, end - start, classes);
            product(MatrixMut::new(d_weight, classes, width), sums, d_logits.transposed(), x);
            let d_x = MatrixMut::new(&mut d_values[start * width..end * width], end - start, width);
            product(d_x, Start::Zero, d_logits, weight);
        }
        if let Some(gradients) = gradients {
            match candidates.zip(part) {
                // Nothing was predicted, so no slab replaced what they held.
                _ if rows == 0 => {
                    gradients.get_mut(self.weight).fill(0.0);
                    gradients.get_mut(self.bias).fill(0.0);
                }
                Some((candidates, part)) => candidates.scatter(part, gradients, self.slots(), self.tied),
                None => {}
            }
        }
        Loss { nll: nll.iter().map(|&nll| f64::from(nll)).sum(), tokens: positions }
    }

    /// Appends one step to `plan`: from x `[B, parts, width]` to logits `[B, parts, V]`.
    pub(super) fn plan_step(&self, params: &Params, plan: &mut StepPlan, parts: usize, x: Columns) -> Columns {
        let out = plan.buffer(parts * self.vocabulary);
        plan.linear_of_parts(params.get(self.weight), Some(params.get(self.bias)), parts, x, out);
        out
    }
}
