//! Logistic regression on features that a text has or has not, by L-BFGS.

use std::collections::VecDeque;

/// Texts by their features, and their labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    /// The features that each text has, below F, none of them twice.
    pub(crate) rows: &'a [Vec<u32>],
    /// The labels of each, below C.
    pub(crate) labels: &'a [&'a [u32]],
    /// F.
    pub(crate) features: usize,
    /// C.
    pub(crate) classes: usize,
    /// Whether a text has any number of labels, each a regression of its own, and not exactly one.
    pub(crate) several: bool,
}

/// What was fitted.
#[derive(Clone, Debug)]
pub(crate) struct Logistic {
    classes: usize,
    several: bool,
    /// `[F + 1, C]`: a row for each feature, the bias last.
    weights: Vec<f32>,
}

/// The most iterations, and the largest component of the gradient, or the share of the objective that an iteration takes from it, at which
/// the minimum is found: of many texts rounding keeps the gradient from zero.
const ITERATIONS: usize = 200;
const TOLERANCE: f32 = 1e-3;
const GAIN: f64 = 1e-7;

/// The steps that L-BFGS remembers.
const MEMORY: usize = 5;

impl Logistic {
    /// The minimum of `½ |w|² + cost · Σ loss`, in which the bias is free. With `scale: [F, C]` a feature's value is not one but what it is
    /// for each class; the weights are of values of one all the same.
    pub(crate) fn fit(texts: Texts, cost: f32, scale: Option<&[f32]>) -> Self {
        let Texts { features, classes, several, .. } = texts;
        let mut problem = Problem { texts, cost, scale, scaled: Vec::new() };
        let mut weights = problem.minimise(vec![0.0; (features + 1) * classes]);
        if let Some(scale) = scale {
            weights.iter_mut().zip(scale).for_each(|(weight, scale)| *weight *= scale);
        }
        Self { classes, several, weights }
    }

    /// `[F + 1, C]`.
    pub(crate) fn into_weights(self) -> Vec<f32> {
        self.weights
    }

    /// The probability of each class of a text with these features: `[C]`.
    pub(crate) fn predict(&self, row: &[u32]) -> Vec<f32> {
        let mut scores = vec![0.0; self.classes];
        add_up(&self.weights, row, &mut scores);
        squash(&mut scores, self.several);
        scores
    }
}

/// scores `[C]` = the bias + the weights of the features of a row.
pub(crate) fn add_up(weights: &[f32], row: &[u32], scores: &mut [f32]) {
    let classes = scores.len();
    scores.copy_from_slice(&weights[weights.len() - classes..]);
    for feature in row {
        let of_feature = &weights[*feature as usize * classes..][..classes];
        scores.iter_mut().zip(of_feature).for_each(|(score, weight)| *score += weight);
    }
}

/// Scores become probabilities.
fn squash(scores: &mut [f32], several: bool) {
    if several {
        scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp()));
        return;
    }
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - highest).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// What is minimised.
struct Problem<'a> {
    texts: Texts<'a>,
    cost: f32,
    scale: Option<&'a [f32]>,
    /// The weights times the scale.
    scaled: Vec<f32>,
}

impl Problem<'_> {
    /// The objective at `weights`, and its gradient.
    fn objective(&mut self, weights: &[f32], gradient: &mut [f32]) -> f64 {
        let Texts { rows, labels, classes, several, .. } = self.texts;
        let bias = weights.len() - classes;
        let effective = match self.scale {
            None => weights,
            Some(scale) => {
                self.scaled.clear();
                self.scaled.extend(weights.iter().zip(scale).map(|(weight, scale)| weight * scale));
                self.scaled.extend_from_slice(&weights[bias..]);
                &self.scaled
            }
        };
        gradient.fill(0.0);
        let (mut nll, mut scores) = (0.0, vec![0.0; classes]);
        for (row, labels) in rows.iter().zip(labels) {
            add_up(effective, row, &mut scores);
            squash(&mut scores, several);
            for (class, score) in scores.iter_mut().enumerate() {
                let has = labels.contains(&(class as u32));
                let of_right = if has { *score } else { 1.0 - *score };
                if has || several {
                    nll -= f64::from(of_right.max(f32::MIN_POSITIVE)).ln();
                }
                *score = self.cost * (*score - f32::from(u8::from(has)));
            }
            let mut add = |feature: usize| {
                let of_feature = &mut gradient[feature * classes..][..classes];
                of_feature.iter_mut().zip(&scores).for_each(|(to, d)| *to += d);
            };
            row.iter().for_each(|feature| add(*feature as usize));
            add(bias / classes);
        }
        // The bias is not drawn to zero.
        let norm: f64 = weights[..bias].iter().map(|weight| 0.5 * f64::from(weight * weight)).sum();
        if let Some(scale) = self.scale {
            gradient.iter_mut().zip(scale).for_each(|(d, scale)| *d *= scale);
        }
        gradient[..bias].iter_mut().zip(weights).for_each(|(d, weight)| *d += weight);
        norm + f64::from(self.cost) * nll
    }

    /// L-BFGS with a search for a step that goes down enough (Nocedal & Wright 2006, algorithms 7.4 and 3.1), from `weights`.
    fn minimise(&mut self, mut weights: Vec<f32>) -> Vec<f32> {
        let len = weights.len();
        let (mut gradient, mut next_gradient) = (vec![0.0; len], vec![0.0; len]);
        let mut value = self.objective(&weights, &mut gradient);
        let mut history: VecDeque<(Vec<f32>, Vec<f32>, f64)> = VecDeque::new();
        for _ in 0..ITERATIONS {
            if gradient.iter().all(|d| d.abs() < TOLERANCE) {
                break;
            }
            let direction = direction(&gradient, &history);
            let slope = dot(&gradient, &direction);
            let mut step = if history.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
            let mut moved = Vec::new();
            let mut found = f64::INFINITY;
            for _ in 0..30 {
                moved = weights.iter().zip(&direction).map(|(weight, d)| weight + step as f32 * d).collect();
                found = self.objective(&moved, &mut next_gradient);
                if found <= value + 1e-4 * step * slope {
                    break;
                }
                step *= 0.5;
            }
            if found >= value {
                break;
            }
            let is_found = value - found < GAIN * value;
            let s: Vec<f32> = moved.iter().zip(&weights).map(|(new, old)| new - old).collect();
            let y: Vec<f32> = next_gradient.iter().zip(&gradient).map(|(new, old)| new - old).collect();
            let curvature = dot(&s, &y);
            if curvature > 1e-10 {
                if history.len() == MEMORY {
                    history.pop_front();
                }
                history.push_back((s, y, curvature));
            }
            (weights, value) = (moved, found);
            std::mem::swap(&mut gradient, &mut next_gradient);
            if is_found {
                break;
            }
        }
        weights
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The direction −H g, with H as the remembered steps have it.
fn direction(gradient: &[f32], history: &VecDeque<(Vec<f32>, Vec<f32>, f64)>) -> Vec<f32> {
    let mut q: Vec<f32> = gradient.iter().map(|d| -d).collect();
    let add = |q: &mut [f32], factor: f64, v: &[f32]| q.iter_mut().zip(v).for_each(|(q, v)| *q += factor as f32 * v);
    let mut alphas = Vec::new();
    for (s, y, curvature) in history.iter().rev() {
        let alpha = dot(s, &q) / curvature;
        add(&mut q, -alpha, y);
        alphas.push(alpha);
    }
    if let Some((_, y, curvature)) = history.back() {
        let scale = (curvature / dot(y, y)) as f32;
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y, curvature), alpha) in history.iter().zip(alphas.into_iter().rev()) {
        let beta = dot(y, &q) / curvature;
        add(&mut q, alpha - beta, s);
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_minimum_also_of_scaled_features() {
        let rows: [Vec<u32>; 5] = [vec![0, 1], vec![1, 2], vec![0], vec![2, 3], vec![0, 3]];
        let scale: Vec<f32> = (0..12).map(|at| [0.5, -1.5, 2.0, 0.0][at * 5 % 4]).collect();
        for (several, labels) in
            [(false, [&[0][..], &[1], &[2], &[1], &[0]]), (true, [&[0, 1][..], &[], &[2], &[1], &[0, 1, 2]])]
        {
            let texts = Texts { rows: &rows, labels: &labels, features: 4, classes: 3, several };
            for scale in [None, Some(&scale[..])] {
                let mut problem = Problem { texts, cost: 0.5, scale, scaled: Vec::new() };
                let found = problem.minimise(vec![0.0; 15]);
                let (mut gradient, mut unused) = (vec![0.0; 15], vec![0.0; 15]);
                let value = problem.objective(&found, &mut gradient);
                assert!(gradient.iter().all(|d| d.abs() < 2e-3), "{gradient:?}");
                // Its gradient is that of its value.
                let at: Vec<f32> = (0..15).map(|at| 0.1 * at as f32 - 0.7).collect();
                let middle = problem.objective(&at, &mut gradient);
                assert!(middle > value);
                for place in 0..15 {
                    let mut moved = |by: f32| {
                        let mut moved = at.clone();
                        moved[place] += by;
                        problem.objective(&moved, &mut unused)
                    };
                    let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                    assert!((difference - f64::from(gradient[place])).abs() < 2e-3, "{place}");
                }
                // The weights are of features whose value is one.
                let fitted = Logistic::fit(texts, 0.5, scale);
                let zero = (0..12).all(|at| scale.is_none_or(|scale| scale[at] != 0.0) || fitted.weights[at] == 0.0);
                assert!(zero && fitted.predict(&rows[0]).iter().all(|p| (0.0..=1.0).contains(p)));
            }
        }
    }
}
