//! The head: from vectors to the scores of labels, and their loss. Forward and backward.

use crate::model::Loss;
use crate::nn::config::Init;
use crate::nn::linear::Linear;
use crate::nn::params::{Layout, Params};

/// What the scores of a head are of, and so what its loss is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// One of C classes: softmax cross-entropy.
    Class,
    /// Any of C classes, each by itself: the logistic loss of each.
    Classes,
    /// One of C classes at every step: softmax cross-entropy.
    Tags,
    /// C numbers: the mean of their squared errors.
    Numbers,
}

/// What a head shall give, of M rows.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// `[M]`: the classes, each below C, of [`Objective::Class`] and [`Objective::Tags`].
    pub classes: Vec<u32>,
    /// `[M, C]`, each 0 or 1, of [`Objective::Classes`]; the numbers of [`Objective::Numbers`].
    pub values: Vec<f32>,
}

/// A linear map and its loss.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    objective: Objective,
    linear: Linear,
    width: usize,
    outputs: usize,
    /// The share of a class's target that is spread over all classes.
    smoothing: f32,
    /// `[C]`: the weights of the classes; empty where all weigh the same.
    class_weights: Vec<f32>,
}

impl Head {
    /// Adds its parameters to `layout`: `head.weight [C, width]` and `head.bias [C]`.
    pub(crate) fn in_layout(
        objective: Objective,
        width: usize,
        outputs: usize,
        smoothing: f32,
        layout: &mut Layout,
    ) -> Self {
        let linear = Linear::in_layout("head", width, outputs, layout);
        Self { objective, linear, width, outputs, smoothing, class_weights: Vec::new() }
    }

    /// The same with weights of its classes, one for each.
    pub(crate) fn weigh(&mut self, class_weights: Vec<f32>) {
        self.class_weights = class_weights;
    }

    /// C.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(crate) fn objective(&self) -> Objective {
        self.objective
    }

    /// Sets initial values.
    pub(crate) fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        self.linear.initialise(params, init, seed);
    }

    /// x `[M, width]` → scores `[M, C]`.
    pub(crate) fn scores(&self, params: &Params, x: &[f32], scores: &mut Vec<f32>) {
        scores.resize(x.len() / self.width * self.outputs, 0.0);
        self.linear.forward(params, x, scores);
    }

    /// The loss of scores `[M, C]`, which become the gradient of its mean over the rows.
    pub(crate) fn loss(&self, scores: &mut [f32], targets: &Targets) -> Loss {
        let rows = scores.len() / self.outputs;
        let scale = 1.0 / rows.max(1) as f32;
        let of_rows = scores.chunks_exact_mut(self.outputs).enumerate();
        let nll = match self.objective {
            Objective::Class | Objective::Tags => {
                of_rows.map(|(row, scores)| self.class_loss(scores, targets.classes[row] as usize, scale)).sum()
            }
            Objective::Classes => of_rows
                .map(|(row, scores)| {
                    self.classes_loss(scores, &targets.values[row * self.outputs..][..self.outputs], scale)
                })
                .sum(),
            Objective::Numbers => of_rows
                .map(|(row, scores)| squared_loss(scores, &targets.values[row * self.outputs..][..self.outputs], scale))
                .sum(),
        };
        Loss { nll, tokens: rows }
    }

    /// Cross-entropy of a row whose target is 1 − ε of `class` and ε/C of each.
    fn class_loss(&self, scores: &mut [f32], class: usize, scale: f32) -> f64 {
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = scores.iter().map(|score| f64::from(score - highest).exp()).sum();
        let log_sum = sum.ln() + f64::from(highest);
        let weight = self.class_weights.get(class).copied().unwrap_or(1.0);
        let spread = self.smoothing / scores.len() as f32;
        let mut loss = f64::from(1.0 - self.smoothing) * (log_sum - f64::from(scores[class]));
        if spread > 0.0 {
            loss += f64::from(spread) * scores.iter().map(|score| log_sum - f64::from(*score)).sum::<f64>();
        }
        for (at, score) in scores.iter_mut().enumerate() {
            let target = spread + if at == class { 1.0 - self.smoothing } else { 0.0 };
            let probability = (f64::from(*score) - log_sum).exp() as f32;
            *score = weight * scale * (probability - target);
        }
        f64::from(weight) * loss
    }

    /// The logistic losses of a row, one for each class.
    fn classes_loss(&self, scores: &mut [f32], targets: &[f32], scale: f32) -> f64 {
        let mut loss = 0.0;
        for (at, (score, target)) in scores.iter_mut().zip(targets).enumerate() {
            let weight = self.class_weights.get(at).map_or(1.0, |weight| if *target > 0.5 { *weight } else { 1.0 });
            let value = f64::from(*score);
            // −ln σ(x) of the signed score, without overflow.
            let signed = if *target > 0.5 { -value } else { value };
            loss += f64::from(weight) * (signed.max(0.0) + (-signed.abs()).exp().ln_1p());
            *score = weight * scale * (sigmoid(*score) - target);
        }
        loss
    }

    /// d_scores `[M, C]` → d_x `[M, width]` and the gradients of weight and bias, all of which it replaces.
    pub(crate) fn backward(
        &self,
        params: &Params,
        x: &[f32],
        d_scores: &[f32],
        d_x: &mut Vec<f32>,
        gradients: &mut Params,
    ) {
        d_x.resize(x.len(), 0.0);
        self.linear.backward(params, x, d_scores, Some(d_x), gradients);
    }

    /// Scores `[M, C]` become probabilities; numbers stay what they are.
    pub(crate) fn probabilities(&self, scores: &mut [f32]) {
        match self.objective {
            Objective::Class | Objective::Tags => scores.chunks_exact_mut(self.outputs).for_each(softmax),
            Objective::Classes => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
            Objective::Numbers => {}
        }
    }
}

/// The mean squared error of a row of numbers, which become its gradient times `scale`.
fn squared_loss(scores: &mut [f32], targets: &[f32], scale: f32) -> f64 {
    let each = 1.0 / scores.len() as f32;
    let mut loss = 0.0;
    for (score, target) in scores.iter_mut().zip(targets) {
        let error = *score - target;
        loss += f64::from(each) * f64::from(error).powi(2);
        *score = 2.0 * each * scale * error;
    }
    loss
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Scores become the probabilities of one of them.
pub(crate) fn softmax(scores: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - highest).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}
