//! Optimizers over the flat buffer.

use std::ops::Range;

use lstm_kernels::{AdamStep, Aligned, adam, sgd, sum_of_squares};
use serde::{Deserialize, Serialize};

use crate::named::named;
use crate::nn::config::{ConfigError, rate, within};
use crate::nn::params::Layout;
use crate::optim::decay::DecayShares;
use crate::optim::muon::{Muon, MuonSettings};
use crate::optim::parts::{Share, cut};

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
    /// [Muon](crate::optim::muon) for the layers' matrices, AdamW for the rest: embedding, softmax, vectors.
    Muon,
    /// Muon for the layers' matrices, SGD for the rest.
    MuonSgd,
}

named!(OptimizerKind, "optimizer",
    "sgd" => Sgd, "adam" => Adam, "adamw" => AdamW, "muon" => Muon, "muon-sgd" => MuonSgd);

impl OptimizerKind {
    /// Whether it keeps both moments of the gradient, so that its learning rates are those of Adam: Adam and its like.
    pub fn has_moments(self) -> bool {
        matches!(self, Self::Adam | Self::AdamW | Self::Muon)
    }

    /// Whether it changes matrices by Muon.
    pub fn is_muon(self) -> bool {
        matches!(self, Self::Muon | Self::MuonSgd)
    }

    /// The buffers beside parameters and gradient: moments.
    pub(crate) fn buffers(self) -> usize {
        match self {
            Self::Sgd => 0,
            Self::MuonSgd => 1,
            Self::Adam | Self::AdamW | Self::Muon => 2,
        }
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
    /// Whether a row of the embedding that a step does not touch stays as it is, its moments too. Of SGD, which has no moments, the weight decay waits:
    /// every sixteenth step all that there is decays by sixteen times as much.
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

/// The steps after which the decay of lazy SGD reaches everything: what every parameter passes through memory for takes a good part of a step that has
/// a gradient for a tenth of them.
pub(crate) const DECAY_EVERY: u64 = 16;

/// How parameters are changed by one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) rate: f32,
    /// A factor of the gradient (clipping).
    pub(super) scale: f32,
    pub(super) weight_decay: f32,
}

/// An optimizer and its moments, laid out as the parameters.
#[derive(Clone, Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    weight_decay: f32,
    /// The shares of the weight decay that stretches of the parameters have, if not all have all of it.
    decays: Vec<(Range<usize>, f32)>,
    adam: AdamSettings,
    /// First moments, and the momentum of Muon; empty for SGD.
    pub first: Aligned,
    /// Second moments; empty for SGD.
    pub second: Aligned,
    /// The steps taken.
    pub steps: u64,
    /// The shares of the learning rate that parts have, if not all have all of it.
    shares: Vec<Share>,
    /// Ranges within them, and within stretches of one decay, reused.
    within: Vec<Range<usize>>,
    of_stretch: Vec<Range<usize>>,
    /// What of Muon is, and ranges of the rest, reused.
    muon: Option<Muon>,
    of_rest: Vec<Range<usize>>,
}

impl Optimizer {
    /// An optimizer for `len` parameters. `weight_decay` is coupled in SGD (an L2 penalty, which without a momentum is the
    /// same) and decoupled in AdamW and Muon.
    pub fn new(kind: OptimizerKind, weight_decay: f32, len: usize) -> Self {
        let adam = AdamSettings::default();
        let [first, second] = [1, 2].map(|buffer| Aligned::zeros(if kind.buffers() >= buffer { len } else { 0 }));
        let (shares, decays) = Default::default();
        let (within, of_stretch, of_rest) = Default::default();
        let (steps, muon) = (0, None);
        Self { kind, weight_decay, decays, adam, first, second, steps, shares, within, of_stretch, muon, of_rest }
    }

    /// The same with the matrices of `layout` and the settings of Muon, which without them has no matrix to change; other optimizers have
    /// none of them. `height`: the rate at the height of the schedule, which that of the matrices stands beside.
    pub fn with_muon(self, layout: &Layout, settings: MuonSettings, height: f32) -> Self {
        let muon = self.kind.is_muon().then(|| Muon::of(layout, settings, height));
        Self { muon, ..self }
    }

    /// The same with groups of the parameters of `layout` that have another share of the weight decay.
    pub fn with_decay_shares(self, layout: &Layout, shares: &DecayShares) -> Self {
        Self { decays: shares.stretches(layout), ..self }
    }

    /// Lets parts be frozen from now on, or trained at a share of the rate. What is frozen is as it is: no decay, no moment moves it, and its
    /// gradient is no part of the norm.
    pub(crate) fn set_shares(&mut self, shares: Vec<Share>) {
        self.shares = shares;
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
        let whole = [Share { range: 0..params.len(), rate: 1.0, since: 0 }];
        let (own, mut within) = (std::mem::take(&mut self.shares), std::mem::take(&mut self.within));
        let shares = if own.is_empty() { &whole[..] } else { &own };
        within.clear();
        let trained = if own.is_empty() {
            ranges
        } else {
            shares.iter().filter(|share| share.rate > 0.0).for_each(|share| cut(ranges, &share.range, &mut within));
            &within
        };
        let norm = sum_of_squares(gradient, trained).sqrt();
        if norm.is_finite() {
            // PyTorch's clip_grad_norm_ also adds 1e-6 to the norm.
            let scale = clip.map_or(1.0, |clip| (f64::from(clip) / (norm + 1e-6)).min(1.0)) as f32;
            self.steps += 1;
            for share in shares.iter().filter(|share| share.rate > 0.0) {
                let of_gradient = if own.is_empty() {
                    ranges
                } else {
                    within.clear();
                    cut(ranges, &share.range, &mut within);
                    &within
                };
                let change = Change { rate, scale, weight_decay: self.weight_decay };
                if self.decays.is_empty() {
                    self.change(params, gradient, of_gradient, share, change);
                    continue;
                }
                let (decays, mut of_stretch) = (std::mem::take(&mut self.decays), std::mem::take(&mut self.of_stretch));
                for (stretch, of_decay) in &decays {
                    let range = stretch.start.max(share.range.start)..stretch.end.min(share.range.end);
                    of_stretch.clear();
                    cut(of_gradient, &range, &mut of_stretch);
                    let change = Change { weight_decay: of_decay * self.weight_decay, ..change };
                    if !range.is_empty() {
                        self.change(params, gradient, &of_stretch, &Share { range, ..*share }, change);
                    }
                }
                (self.decays, self.of_stretch) = (decays, of_stretch);
            }
        }
        (self.shares, self.within) = (own, within);
        norm
    }

    /// Changes the parameters of a `share`, of which those of `ranges` have a gradient, at its share of the rate.
    fn change(&mut self, params: &mut [f32], gradient: &[f32], ranges: &[Range<usize>], share: &Share, change: Change) {
        // Decay and moments reach every parameter.
        let (everywhere, of_each) = match self.kind {
            OptimizerKind::Sgd | OptimizerKind::MuonSgd => {
                let due = if self.adam.lazy { DECAY_EVERY } else { 1 };
                let decay = if self.steps.is_multiple_of(due) { due as f32 * change.weight_decay } else { 0.0 };
                (decay != 0.0, Change { weight_decay: decay, ..change })
            }
            OptimizerKind::Adam | OptimizerKind::AdamW | OptimizerKind::Muon => (!self.adam.lazy, change),
        };
        let ranges = if everywhere { std::slice::from_ref(&share.range) } else { ranges };
        let at_its_rate = |change: Change| Change { rate: change.rate * share.rate, ..change };
        let (since, of_each) = (share.since, at_its_rate(of_each));
        let Some(mut muon) = self.muon.take() else {
            self.change_each(params, gradient, ranges, since, of_each);
            return;
        };
        muon.step(params, gradient, &mut self.first, &share.range, at_its_rate(change));
        let mut of_rest = std::mem::take(&mut self.of_rest);
        of_rest.clear();
        muon.rest().iter().for_each(|rest| cut(ranges, rest, &mut of_rest));
        self.change_each(params, gradient, &of_rest, since, of_each);
        (self.muon, self.of_rest) = (Some(muon), of_rest);
    }

    /// Changes the parameters of `ranges` each by its own gradient; `since`: the steps before their first.
    fn change_each(
        &mut self,
        params: &mut [f32],
        gradient: &[f32],
        ranges: &[Range<usize>],
        since: u64,
        Change { rate, scale, weight_decay }: Change,
    ) {
        if !self.kind.has_moments() {
            sgd(params, gradient, ranges, rate, scale, weight_decay);
            return;
        }
        let settings = AdamStep {
            rate,
            beta1: self.adam.beta1,
            beta2: self.adam.beta2,
            epsilon: self.adam.epsilon,
            scale,
            step: self.steps.saturating_sub(since).max(1),
            weight_decay: if self.kind == OptimizerKind::Adam { 0.0 } else { weight_decay },
        };
        adam(params, gradient, &mut self.first, &mut self.second, ranges, settings);
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

    fn norm_of(x: &[f32]) -> f64 {
        x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
    }

    #[test]
    fn sgd_clips_by_the_norm_of_the_whole_gradient() {
        for n in [1, 7, 129, 20_001] {
            let (start, gradient) = (values(n, 0), values(n, 1));
            let length = norm_of(&gradient);
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
    fn what_is_frozen_stays_and_the_rest_is_trained_as_if_it_were_alone() {
        // Frozen in the middle; the last at half of the rate.
        let shares = [(0..20, 1.0), (20..50, 0.0), (50..81, 0.5)].map(|(range, rate)| Share { range, rate, since: 0 });
        for kind in [OptimizerKind::Sgd, OptimizerKind::Adam, OptimizerKind::AdamW] {
            let decay = if kind == OptimizerKind::Adam { 0.0 } else { 0.01 };
            let (start, mut params) = (values(81, 0), values(81, 0));
            let mut optimizer = Optimizer::new(kind, decay, 81);
            optimizer.set_shares(shares.to_vec());
            let alone = |range: Range<usize>| (Optimizer::new(kind, decay, range.len()), start[range].to_vec());
            let (mut first, mut last) = (alone(0..20), alone(50..81));
            for step in 1..6 {
                let gradient = values(81, step);
                let norm = optimizer.step(&mut params, &gradient, 0.1, Some(0.5));
                let expected = (norm_of(&gradient[..20]).powi(2) + norm_of(&gradient[50..]).powi(2)).sqrt();
                assert!((norm - expected).abs() < 1e-5);
                let scale = (0.5 / (norm + 1e-6)) as f32;
                for ((optimizer, params), range, rate) in [(&mut first, 0..20, 0.1), (&mut last, 50..81, 0.05)] {
                    let clipped: Vec<f32> = gradient[range].iter().map(|g| g * scale).collect();
                    optimizer.step(params, &clipped, rate, None);
                }
            }
            assert_eq!(params[20..50], start[20..50], "{kind}");
            for (trained, expected) in params[..20].iter().chain(&params[50..]).zip(first.1.iter().chain(&last.1)) {
                assert!((trained - expected).abs() < 1e-5, "{kind}: {trained} and {expected}");
            }
            assert!(params[..20] != start[..20] && params[50..] != start[50..]);
        }
    }

    #[test]
    fn what_has_a_share_of_the_decay_is_trained_as_if_it_were_alone_with_it() {
        let mut layout = Layout::default();
        for (name, shape) in
            [("embedding.weight", &[10, 2][..]), ("lstm.weight_hh_l0", &[10, 3]), ("readout.bias", &[31])]
        {
            layout.add(name, shape);
        }
        // The embedding and half of the matrix at half of the rate.
        let shares = [(0..35, 0.5), (35..81, 1.0)].map(|(range, rate)| Share { range, rate, since: 0 });
        let parts = [(0..20, 0.05, 3.0), (20..35, 0.05, 1.0), (35..50, 0.1, 1.0), (50..81, 0.1, 0.0)];
        for kind in [OptimizerKind::Sgd, OptimizerKind::AdamW] {
            let (start, mut params) = (values(81, 0), values(81, 0));
            let given = "embedding=3,vectors=0".parse().unwrap();
            let mut optimizer = Optimizer::new(kind, 0.01, 81).with_decay_shares(&layout, &given);
            optimizer.set_shares(shares.to_vec());
            let mut alone = parts.clone().map(|(range, rate, share)| {
                (Optimizer::new(kind, 0.01 * share, range.len()), start[range.clone()].to_vec(), range, rate)
            });
            for step in 1..6 {
                let gradient = values(81, step);
                optimizer.step(&mut params, &gradient, 0.1, None);
                for (optimizer, params, range, rate) in &mut alone {
                    optimizer.step(params, &gradient[range.clone()], *rate, None);
                }
            }
            let expected: Vec<f32> = alone.into_iter().flat_map(|(_, params, ..)| params).collect();
            assert_eq!(params, expected, "{kind}");
        }
        // SGD leaves alone what has neither gradient nor decay.
        let mut params = vec![1.0; 81];
        let given = "embedding=0,recurrent=0,vectors=2".parse().unwrap();
        let mut optimizer = Optimizer::new(OptimizerKind::Sgd, 0.1, 81).with_decay_shares(&layout, &given);
        optimizer.step_within(&mut params, &[0.0; 81], &[], 1.0, None);
        assert!(params[..50].iter().all(|value| *value == 1.0) && params[50..].iter().all(|value| *value == 0.8));
    }

    #[test]
    fn the_decay_of_lazy_sgd_waits_and_loses_nothing() {
        let lazy = AdamSettings { lazy: true, ..AdamSettings::default() };
        // Only the first half has a gradient.
        let (len, half) = (200, 0..100);
        let train = |settings: AdamSettings, steps: u64| {
            let mut optimizer = Optimizer::new(OptimizerKind::Sgd, 1e-4, len).with_adam(settings);
            let mut params = values(len, 0);
            for step in 1..=steps {
                let mut gradient = values(len, step);
                gradient[100..].fill(0.0);
                optimizer.step_within(&mut params, &gradient, std::slice::from_ref(&half), 0.5, None);
            }
            params
        };
        // What has no gradient is left alone until it is due, and then has decayed as often.
        assert_eq!(train(lazy, DECAY_EVERY - 1)[100..], values(len, 0)[100..]);
        let (now, then) = (train(AdamSettings::default(), 5 * DECAY_EVERY), train(lazy, 5 * DECAY_EVERY));
        let start = values(len, 0);
        for i in 0..len {
            assert!((now[i] - then[i]).abs() < 1e-3 * (1.0 + now[i].abs()), "{i}: {} and {}", now[i], then[i]);
        }
        let decayed = |params: &[f32]| (params[150] / start[150]).ln();
        assert!((decayed(&then) / decayed(&now) - 1.0).abs() < 1e-2 && decayed(&then) < -0.0039);
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
                let scale = (clip / norm_of(&gradient)).min(1.0);
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
