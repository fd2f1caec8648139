//! Optimizers over the flat buffer.

use std::fmt;
use std::str::FromStr;

use lstm_kernels::{AdamStep, adam, sgd, sum_of_squares};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// Which optimizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    Sgd,
    /// Adam (Kingma & Ba 2015): β₁ 0.9, β₂ 0.999, ε 1e-8.
    #[default]
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    #[serde(rename = "adamw")]
    AdamW,
}

impl fmt::Display for OptimizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sgd => "sgd",
            Self::Adam => "adam",
            Self::AdamW => "adamw",
        })
    }
}

impl FromStr for OptimizerKind {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        match value {
            "sgd" => Ok(Self::Sgd),
            "adam" => Ok(Self::Adam),
            "adamw" => Ok(Self::AdamW),
            _ => Err(ConfigError::Unknown { kind: "optimizer", value: value.to_owned(), choices: "sgd, adam, adamw" }),
        }
    }
}

/// An optimizer and its moments, laid out as the parameters.
#[derive(Clone, Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    weight_decay: f32,
    /// First moments; empty for SGD.
    pub first: Vec<f32>,
    /// Second moments; empty for SGD.
    pub second: Vec<f32>,
    /// The steps taken.
    pub steps: u64,
}

impl Optimizer {
    /// An optimizer for `len` parameters. `weight_decay` is coupled in SGD (an L2 penalty) and decoupled in AdamW.
    pub fn new(kind: OptimizerKind, weight_decay: f32, len: usize) -> Self {
        let moments = if kind == OptimizerKind::Sgd { 0 } else { len };
        Self { kind, weight_decay, first: vec![0.0; moments], second: vec![0.0; moments], steps: 0 }
    }

    /// One step at `rate`; a gradient whose norm exceeds `clip` is scaled down to it. Returns the norm before
    /// clipping; if that is not finite, nothing is changed.
    pub fn step(&mut self, params: &mut [f32], gradient: &[f32], rate: f32, clip: Option<f32>) -> f64 {
        let norm = sum_of_squares(gradient).sqrt();
        if !norm.is_finite() {
            return norm;
        }
        // PyTorch's clip_grad_norm_ also adds 1e-6 to the norm.
        let scale = clip.map_or(1.0, |clip| (f64::from(clip) / (norm + 1e-6)).min(1.0)) as f32;
        self.steps += 1;
        match self.kind {
            OptimizerKind::Sgd => sgd(params, gradient, rate, scale, self.weight_decay),
            OptimizerKind::Adam | OptimizerKind::AdamW => {
                let settings = AdamStep {
                    rate,
                    beta1: 0.9,
                    beta2: 0.999,
                    epsilon: 1e-8,
                    scale,
                    step: self.steps,
                    weight_decay: if self.kind == OptimizerKind::AdamW { self.weight_decay } else { 0.0 },
                };
                adam(params, gradient, &mut self.first, &mut self.second, settings);
            }
        }
        norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_gradient_is_clipped_and_a_broken_one_refused() {
        let mut optimizer = Optimizer::new(OptimizerKind::Sgd, 0.0, 2);
        let mut params = vec![0.0, 0.0];
        assert!((optimizer.step(&mut params, &[3.0, 4.0], 1.0, Some(1.0)) - 5.0).abs() < 1e-6);
        assert!((params[0] + 0.6).abs() < 1e-5 && (params[1] + 0.8).abs() < 1e-5);
        let before = params.clone();
        assert!(!optimizer.step(&mut params, &[f32::NAN, 0.0], 1.0, None).is_finite());
        assert_eq!(params, before);
    }
}
