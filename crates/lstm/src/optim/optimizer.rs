//! Optimizers over the flat buffer.

use std::ops::Range;

use lstm_kernels::{AdamStep, Aligned, adam, sgd, sum_of_squares};
use serde::{Deserialize, Serialize};

use crate::named::named;
use crate::nn::config::{ConfigError, rate, within};

/// Which optimizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    Sgd,
    /// Adam (Kingma & Ba 2015), see [`AdamSettings`].
    #[default]
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    #[serde(rename = "adamw")]
    AdamW,
}

named!(OptimizerKind, "optimizer", "sgd" => Sgd, "adam" => Adam, "adamw" => AdamW);

impl OptimizerKind {
    /// Whether it keeps moments of the gradient: Adam and its like.
    pub fn has_moments(self) -> bool {
        matches!(self, Self::Adam | Self::AdamW)
    }
}

/// The settings of Adam and AdamW.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamSettings {
    /// β₁, the share of the first moment, the mean of the gradients, that every step keeps.
    pub beta1: f32,
    /// β₂, that of the second moment, the mean of their squares.
    pub beta2: f32,
    /// ε, added to the root of the second moment.
    pub epsilon: f32,
    /// Whether a row of the embedding that a step does not touch stays as it is, its moments too.
    pub lazy: bool,
}

impl Default for AdamSettings {
    /// The paper's: β₁ 0.9, β₂ 0.999, ε 1e-8, every parameter.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, lazy: false }
    }
}

impl AdamSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// A sentence naming the setting.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            rate(name, beta)?;
        }
        within("epsilon", self.epsilon, 1e-20..=1.0, "a number from 1e-20 to 1")
    }
}

/// An optimizer and its moments, laid out as the parameters.
#[derive(Clone, Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    weight_decay: f32,
    adam: AdamSettings,
    /// First moments; empty for SGD.
    pub first: Aligned,
    /// Second moments; empty for SGD.
    pub second: Aligned,
    /// The steps taken.
    pub steps: u64,
}

impl Optimizer {
    /// An optimizer for `len` parameters. `weight_decay` is coupled in SGD (an L2 penalty) and decoupled in AdamW.
    pub fn new(kind: OptimizerKind, weight_decay: f32, len: usize) -> Self {
        let moments = if kind.has_moments() { len } else { 0 };
        let adam = AdamSettings::default();
        Self { kind, weight_decay, adam, first: Aligned::zeros(moments), second: Aligned::zeros(moments), steps: 0 }
    }

    /// The same with other settings of Adam; SGD has none of them.
    pub fn with_adam(self, adam: AdamSettings) -> Self {
        Self { adam, ..self }
    }

    /// One step at `rate`; a gradient whose norm exceeds `clip` is scaled down to it. Returns the norm before
    /// clipping; if that is not finite, nothing is changed.
    pub fn step(&mut self, params: &mut [f32], gradient: &[f32], rate: f32, clip: Option<f32>) -> f64 {
        let all = 0..gradient.len();
        self.step_within(params, gradient, std::slice::from_ref(&all), rate, clip)
    }

    /// As [`Self::step`], for a gradient that is zero outside of `ranges`, see
    /// [`Gradients::ranges`](crate::nn::gradients::Gradients::ranges).
    pub fn step_within(
        &mut self,
        params: &mut [f32],
        gradient: &[f32],
        ranges: &[Range<usize>],
        rate: f32,
        clip: Option<f32>,
    ) -> f64 {
        let norm = sum_of_squares(gradient, ranges).sqrt();
        if !norm.is_finite() {
            return norm;
        }
        // PyTorch's clip_grad_norm_ also adds 1e-6 to the norm.
        let scale = clip.map_or(1.0, |clip| (f64::from(clip) / (norm + 1e-6)).min(1.0)) as f32;
        self.steps += 1;
        match self.kind {
            OptimizerKind::Sgd => {
                // Decay reaches every parameter.
                let all = 0..params.len();
                let ranges = if self.weight_decay == 0.0 { ranges } else { std::slice::from_ref(&all) };
                sgd(params, gradient, ranges, rate, scale, self.weight_decay);
            }
            OptimizerKind::Adam | OptimizerKind::AdamW => {
                let settings = AdamStep {
                    rate,
                    beta1: self.adam.beta1,
                    beta2: self.adam.beta2,
                    epsilon: self.adam.epsilon,
                    scale,
                    step: self.steps,
                    weight_decay: if self.kind == OptimizerKind::AdamW { self.weight_decay } else { 0.0 },
                };
                let all = 0..params.len();
                let ranges = if self.adam.lazy { ranges } else { std::slice::from_ref(&all) };
                adam(params, gradient, &mut self.first, &mut self.second, ranges, settings);
            }
        }
        norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

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

    fn values(n: usize, number: u64) -> Vec<f32> {
        let mut rng = Rng::new(5, Purpose::Init, number);
        (0..n).map(|_| rng.uniform_in(-1.0, 1.0)).collect()
    }

    fn assert_close(actual: &[f32], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len());
        for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
            assert!((f64::from(a) - e).abs() <= 1e-5 * (1.0 + e.abs()), "{i}: {a} and {e}");
        }
    }

    fn norm(x: &[f32]) -> f64 {
        x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
    }

    #[test]
    fn sgd_clips_by_the_norm_of_the_whole_gradient() {
        for n in [1, 7, 129, 20_001] {
            let (start, gradient) = (values(n, 0), values(n, 1));
            let length = norm(&gradient);
            for (clip, scale) in [(None, 1.0), (Some(1e9), 1.0), (Some(0.25), (0.25 / length).min(1.0))] {
                let mut parameters = start.clone();
                let mut optimizer = Optimizer::new(OptimizerKind::Sgd, 0.0, n);
                let seen = optimizer.step(&mut parameters, &gradient, 0.5, clip);
                assert!((seen - length).abs() <= 1e-6 * length);
                let expected: Vec<f64> =
                    start.iter().zip(&gradient).map(|(&p, &g)| f64::from(p) - 0.5 * scale * f64::from(g)).collect();
                assert_close(&parameters, &expected);
                assert_eq!(optimizer.first.len(), 0);
                assert_eq!(optimizer.steps, 1);
            }
        }
    }

    #[test]
    fn adam_is_its_formula() {
        let other = AdamSettings { beta1: 0.0, beta2: 0.9, epsilon: 0.1, lazy: false };
        for (config, decay, settings) in [
            (OptimizerKind::Adam, 0.0, AdamSettings::default()),
            (OptimizerKind::AdamW, 0.01, AdamSettings::default()),
            (OptimizerKind::Adam, 0.0, other),
            (OptimizerKind::AdamW, 0.01, AdamSettings { beta1: 0.5, ..other }),
        ] {
            let [beta1, beta2, epsilon] = [settings.beta1, settings.beta2, settings.epsilon].map(f64::from);
            let n = 131;
            let mut parameters = values(n, 0);
            let mut optimizer = Optimizer::new(config, decay as f32, n).with_adam(settings);
            let mut expected: Vec<f64> = parameters.iter().map(|&p| f64::from(p)).collect();
            let (mut first, mut second) = (vec![0.0f64; n], vec![0.0f64; n]);
            let (rate, clip) = (0.01, 1.5);
            for step in 1..=20 {
                let gradient = values(n, step);
                let scale = (clip / norm(&gradient)).min(1.0);
                optimizer.step(&mut parameters, &gradient, rate as f32, Some(clip as f32));
                for i in 0..n {
                    let g = scale * f64::from(gradient[i]);
                    expected[i] -= rate * decay * expected[i];
                    first[i] = beta1 * first[i] + (1.0 - beta1) * g;
                    second[i] = beta2 * second[i] + (1.0 - beta2) * g * g;
                    let corrected = first[i] / (1.0 - beta1.powi(step as i32));
                    let root = (second[i] / (1.0 - beta2.powi(step as i32))).sqrt();
                    expected[i] -= rate * corrected / (root + epsilon);
                }
            }
            for (&actual, &expected) in parameters.iter().zip(&expected) {
                assert!((f64::from(actual) - expected).abs() < 1e-4, "{actual} and {expected}");
            }
            assert_close(&optimizer.first, &first);
            assert_close(&optimizer.second, &second);
            assert_eq!(optimizer.steps, 20);
        }
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let default = AdamSettings::default();
        for (settings, expected) in [
            (AdamSettings { beta1: 1.0, ..default }, "`beta1` is 1"),
            (AdamSettings { beta2: -0.1, ..default }, "`beta2` is -0.1"),
            (AdamSettings { beta2: f32::NAN, ..default }, "`beta2` is NaN"),
            (AdamSettings { epsilon: 0.0, ..default }, "`epsilon` is 0"),
        ] {
            assert!(settings.validate().unwrap_err().to_string().contains(expected));
        }
        assert!(AdamSettings { beta1: 0.0, ..default }.validate().is_ok());
    }

    #[test]
    fn a_restored_optimizer_continues_with_the_same_bits() {
        let n = 50;
        let mut parameters = values(n, 0);
        let mut optimizer = Optimizer::new(OptimizerKind::Adam, 0.0, n);
        optimizer.step(&mut parameters, &values(n, 1), 0.01, None);
        let mut restored = Optimizer::new(OptimizerKind::Adam, 0.0, n);
        restored.steps = optimizer.steps;
        restored.first.copy_from_slice(&optimizer.first);
        restored.second.copy_from_slice(&optimizer.second);
        let mut again = parameters.clone();
        optimizer.step(&mut parameters, &values(n, 2), 0.01, None);
        restored.step(&mut again, &values(n, 2), 0.01, None);
        assert_eq!(parameters, again);
        assert_eq!((optimizer.first, optimizer.second), (restored.first, restored.second));
    }
}
