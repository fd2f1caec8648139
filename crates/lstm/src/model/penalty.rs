//! Penalties, added to the loss in training to keep a model from overfitting; off in evaluation.
//!
//! Beside the mean negative log-likelihood a training step then descends
//!
//! - `α · mean((m ⊙ h)²)`, activation regularisation (AR, Merity 2017): of what is read out, after dropout;
//! - `β · mean((h_t − h_{t−1})²)`, temporal activation regularisation (TAR, Merity 2017): of the last layer's output
//!   before dropout, between the steps of one segment;
//! - with `ε` of the target's weight spread evenly over all tokens (label smoothing, Szegedy 2016).
//!
//! The loss that is reported stays the plain negative log-likelihood.

use serde::{Deserialize, Serialize};

use crate::nn::config::{ConfigError, rate, within};
use crate::nn::segment::Segment;

/// The weights of what is added to the loss. Zero is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Penalties {
    /// α of activation regularisation, at least 0.
    pub activation: f32,
    /// β of temporal activation regularisation, at least 0.
    pub temporal: f32,
    /// ε of label smoothing, in `[0, 1)`.
    pub label_smoothing: f32,
}

impl Penalties {
    /// Checks every weight.
    ///
    /// # Errors
    /// The weight that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (name, value) in [("ar", self.activation), ("tar", self.temporal)] {
            if value != 0.0 {
                within(name, value, 1e-9..=1e6, "0, or a number from 0.000000001 to 1000000")?;
            }
        }
        rate("label-smoothing", self.label_smoothing)
    }
}

/// Adds the gradient of `alpha · mean(values²)`.
pub(crate) fn activation(alpha: f32, values: &[f32], gradient: &mut [f32]) {
    if alpha == 0.0 {
        return;
    }
    let factor = 2.0 * alpha / values.len().max(1) as f32;
    gradient.iter_mut().zip(values).for_each(|(gradient, value)| *gradient += factor * value);
}

/// Adds the gradient of `beta · mean((h_t − h_{t−1})²)` over the steps t of a row within its length, but the first.
///
/// output, gradient: `[T, B, ·]`.
pub(crate) fn temporal(beta: f32, segment: Segment, output: &[f32], gradient: &mut [f32]) {
    if beta == 0.0 {
        return;
    }
    let Segment { steps, batch, lengths, .. } = segment;
    let width = output.len() / (steps * batch).max(1);
    let length = |row: usize| lengths.map_or(steps, |lengths| lengths[row]);
    let pairs: usize = (0..batch).map(|row| length(row).saturating_sub(1)).sum();
    let factor = 2.0 * beta / (pairs * width).max(1) as f32;
    for step in 1..steps {
        for row in (0..batch).filter(|&row| step < length(row)) {
            let at = (step * batch + row) * width;
            let (before, after) = gradient.split_at_mut(at);
            let before = &mut before[at - batch * width..][..width];
            let states = output[at - batch * width..][..width].iter().zip(&output[at..at + width]);
            for ((h_before, h), (d_before, d)) in states.zip(before.iter_mut().zip(&mut after[..width])) {
                let change = factor * (h - h_before);
                *d += change;
                *d_before -= change;
            }
        }
    }
}
