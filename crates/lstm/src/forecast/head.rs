//! The head of a forecast: what the outputs of a position mean, their loss, and its gradient. A position is one target at one step of
//! the horizon.
//!
//! Outputs are of a window's own scale: `offset + scale · output` is a value. A loss is of values, so windows count by what their
//! errors are worth and not by how wild they are.

use super::special::{digamma, incomplete_beta, ln_gamma, logistic, normal_quantile, softplus, softplus_inverse};
use crate::named::{named, stored_as_text};

/// The levels of the quantiles that every forecast has.
pub const LEVELS: [f64; 11] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];

/// The place of the median among them.
pub const MEDIAN: usize = 5;

/// What a model says of a value that is to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Likelihood {
    /// Quantiles, by the pinball loss (Koenker & Bassett 1978). They never cross: each is the one nearer to the median and a step away
    /// from it.
    #[default]
    Quantiles,
    /// A Student t distribution, by its likelihood (Salinas 2020 with heavier tails).
    Student,
    /// A negative binomial distribution, for counts, by its likelihood (Salinas 2020).
    NegativeBinomial,
    /// One value, by the squared error.
    Point,
}

named!(
    Likelihood, "likelihood", "quantiles" => Quantiles, "student" => Student, "negative-binomial" => NegativeBinomial, "point" => Point,
);
stored_as_text!(Likelihood);

/// A forecast of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// The one value to name: the median of quantiles, the mean of a distribution.
    pub point: f64,
    /// The values at [`LEVELS`]; of a point forecast all the same.
    pub quantiles: [f64; LEVELS.len()],
}

impl Forecast {
    /// The same through an increasing map.
    pub fn map(self, map: impl Fn(f64) -> f64) -> Self {
        Self { point: map(self.point), quantiles: self.quantiles.map(map) }
    }

    /// Of a normal distribution.
    pub(crate) fn normal(mean: f64, deviation: f64) -> Self {
        Self { point: mean, quantiles: LEVELS.map(|level| mean + deviation * normal_quantile(level)) }
    }
}

/// The least of a scale or a shape, so that a loss is finite.
const LEAST: f64 = 1e-6;

/// The step from one quantile to the next that a model begins with, by the scale of its window, for each of a normal variable's.
const FIRST_SPREAD: f64 = 0.3;

impl Likelihood {
    /// The outputs of a position.
    pub(crate) fn outputs(self) -> usize {
        match self {
            Self::Quantiles => LEVELS.len(),
            Self::Student => 3,
            Self::NegativeBinomial => 2,
            Self::Point => 1,
        }
    }

    /// The output that moves the whole forecast.
    pub(crate) fn location(self) -> usize {
        if self == Self::Quantiles { MEDIAN } else { 0 }
    }

    /// Whether values are counts.
    pub fn counts(self) -> bool {
        self == Self::NegativeBinomial
    }

    /// The first value of each output's bias.
    pub(crate) fn first_bias(self, output: usize) -> f64 {
        match (self, output) {
            (Self::Quantiles, MEDIAN) | (Self::Point, _) | (Self::Student, 0) => 0.0,
            (Self::Quantiles, at) => {
                let inner = if at > MEDIAN { at - 1 } else { at + 1 };
                let gap = (normal_quantile(LEVELS[at]) - normal_quantile(LEVELS[inner])).abs();
                softplus_inverse(FIRST_SPREAD * gap)
            }
            (Self::Student, 1) => softplus_inverse(FIRST_SPREAD),
            (Self::Student, _) => softplus_inverse(4.0),
            (Self::NegativeBinomial, 0) => softplus_inverse(1.0),
            (Self::NegativeBinomial, _) => softplus_inverse(0.5),
        }
    }

    /// The loss of one position, and the gradient by its outputs. `value`: what came.
    pub(crate) fn loss(self, outputs: &[f32], [offset, scale]: [f64; 2], value: f64, gradient: &mut [f32]) -> f64 {
        let output = |at: usize| f64::from(outputs[at]);
        match self {
            Self::Quantiles => {
                let quantiles = quantiles(outputs, [offset, scale]);
                let weight = 2.0 / LEVELS.len() as f64;
                let mut loss = 0.0;
                let slopes: [f64; LEVELS.len()] = std::array::from_fn(|at| {
                    let error = value - quantiles[at];
                    let below = if error < 0.0 { 1.0 } else { 0.0 };
                    loss += weight * error * (LEVELS[at] - below);
                    weight * (below - LEVELS[at])
                });
                gradient[MEDIAN] = (scale * slopes.iter().sum::<f64>()) as f32;
                let (mut above, mut under) = (0.0, 0.0);
                for at in (MEDIAN + 1..LEVELS.len()).rev() {
                    above += slopes[at];
                    gradient[at] = (scale * logistic(output(at)) * above) as f32;
                }
                for at in 0..MEDIAN {
                    under += slopes[at];
                    gradient[at] = (-scale * logistic(output(at)) * under) as f32;
                }
                loss
            }
            Self::Student => {
                let (location, spread, freedom) = student(outputs, [offset, scale]);
                let z = (value - location) / spread;
                let (square, heavy) = (z * z, (freedom + 1.0) / (freedom + z * z));
                gradient[0] = (-scale * heavy * z / spread) as f32;
                gradient[1] = (scale * logistic(output(1)) * (1.0 - heavy * square) / spread) as f32;
                let by_freedom = digamma(freedom / 2.0) - digamma((freedom + 1.0) / 2.0)
                    + 1.0 / freedom
                    + (square / freedom).ln_1p()
                    - heavy * square / freedom;
                gradient[2] = (0.5 * logistic(output(2)) * by_freedom) as f32;
                ln_gamma(freedom / 2.0) - ln_gamma((freedom + 1.0) / 2.0)
                    + 0.5 * (freedom * std::f64::consts::PI).ln()
                    + spread.ln()
                    + 0.5 * (freedom + 1.0) * (square / freedom).ln_1p()
            }
            Self::NegativeBinomial => {
                let (mean, shape) = negative_binomial(outputs, scale);
                let share = (shape + value) / (shape + mean);
                gradient[0] = (scale * logistic(output(0)) * (share - value / mean)) as f32;
                let by_shape = digamma(shape) - digamma(value + shape) - (shape / (shape + mean)).ln() - 1.0 + share;
                gradient[1] = (-shape * shape * logistic(output(1)) * by_shape) as f32;
                ln_gamma(shape) + ln_gamma(value + 1.0)
                    - ln_gamma(value + shape)
                    - shape * (shape / (shape + mean)).ln()
                    - value * (mean / (shape + mean)).ln()
            }
            Self::Point => {
                let error = offset + scale * output(0) - value;
                gradient[0] = (2.0 * scale * error) as f32;
                error * error
            }
        }
    }

    /// The forecast that the outputs of a position say. `widen`: factors of how far each quantile is from the median, of
    /// [`Likelihood::Quantiles`] and [`Likelihood::Student`].
    pub(crate) fn forecast(self, outputs: &[f32], place: [f64; 2]) -> Forecast {
        match self {
            Self::Quantiles => {
                let quantiles = quantiles(outputs, place);
                Forecast { point: quantiles[MEDIAN], quantiles }
            }
            Self::Student => {
                let (location, spread, freedom) = student(outputs, place);
                Forecast {
                    point: location,
                    quantiles: LEVELS.map(|p| location + spread * student_quantile(p, freedom)),
                }
            }
            Self::NegativeBinomial => {
                let (mean, shape) = negative_binomial(outputs, place[1]);
                Forecast { point: mean, quantiles: LEVELS.map(|p| count_quantile(p, mean, shape)) }
            }
            Self::Point => {
                let point = place[0] + place[1] * f64::from(outputs[0]);
                Forecast { point, quantiles: [point; LEVELS.len()] }
            }
        }
    }
}

/// The quantiles of a position: the median, and steps away from it on both sides.
fn quantiles(outputs: &[f32], [offset, scale]: [f64; 2]) -> [f64; LEVELS.len()] {
    let mut values = [0.0; LEVELS.len()];
    let step = |at: usize| scale * softplus(f64::from(outputs[at]));
    values[MEDIAN] = offset + scale * f64::from(outputs[MEDIAN]);
    for at in MEDIAN + 1..LEVELS.len() {
        values[at] = values[at - 1] + step(at);
    }
    for at in (0..MEDIAN).rev() {
        values[at] = values[at + 1] - step(at);
    }
    values
}

/// The location, the scale and the degrees of freedom, of which there are more than two so that there is a variance.
fn student(outputs: &[f32], [offset, scale]: [f64; 2]) -> (f64, f64, f64) {
    let [location, spread, freedom] = [0, 1, 2].map(|at| f64::from(outputs[at]));
    (offset + scale * location, scale * (softplus(spread) + LEAST), 2.0 + softplus(freedom) + LEAST)
}

/// The mean, and the shape: the variance is mean + mean² / shape.
fn negative_binomial(outputs: &[f32], scale: f64) -> (f64, f64) {
    let [mean, spread] = [0, 1].map(|at| softplus(f64::from(outputs[at])) + LEAST);
    (scale * mean, 1.0 / spread)
}

/// The probability that a Student t variable is at most x.
fn student_cdf(x: f64, freedom: f64) -> f64 {
    let tail = 0.5 * incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + x * x));
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// The value below which a Student t variable lies with probability `p`: the expansion around a normal variable's (Fisher & Cornish 1960),
/// then Newton's method, which on a function that rises ever more slowly never goes past the root twice.
fn student_quantile(p: f64, freedom: f64) -> f64 {
    if p == 0.5 {
        return 0.0;
    }
    let upper = p.max(1.0 - p);
    let z = normal_quantile(upper);
    let cube = z * z * z;
    let mut x =
        z + (cube + z) / (4.0 * freedom) + (5.0 * cube * z * z + 16.0 * cube + 3.0 * z) / (96.0 * freedom * freedom);
    let constant =
        ln_gamma((freedom + 1.0) / 2.0) - ln_gamma(freedom / 2.0) - 0.5 * (freedom * std::f64::consts::PI).ln();
    for _ in 0..50 {
        let density = (constant - 0.5 * (freedom + 1.0) * (x * x / freedom).ln_1p()).exp();
        let step = (student_cdf(x, freedom) - upper) / density;
        x = (x - step).max(0.0);
        if step.abs() < 1e-13 * (1.0 + x) {
            break;
        }
    }
    if p > 0.5 { x } else { -x }
}

/// The least count that a negative binomial variable does not exceed with probability `p`.
fn count_quantile(p: f64, mean: f64, shape: f64) -> f64 {
    let cdf = |count: f64| incomplete_beta(shape, count + 1.0, shape / (shape + mean));
    if cdf(0.0) >= p {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while cdf(high) < p {
        (low, high) = (high, 2.0 * high);
    }
    while high - low > 1.0 {
        let middle = ((low + high) / 2.0_f64).floor();
        if cdf(middle) < p { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Likelihood; 4] =
        [Likelihood::Quantiles, Likelihood::Student, Likelihood::NegativeBinomial, Likelihood::Point];

    fn outputs(likelihood: Likelihood) -> Vec<f32> {
        (0..likelihood.outputs()).map(|at| [0.3, -0.7, 1.1, 0.2, -1.4][at % 5]).collect()
    }

    #[test]
    fn gradients_are_finite_differences() {
        for likelihood in ALL {
            for (place, value) in [([0.2, 1.7], 3.0), ([-1.0, 0.6], 0.0), ([0.0, 12.0], 40.0)] {
                let outputs = outputs(likelihood);
                let mut gradient = vec![0.0; outputs.len()];
                let loss = likelihood.loss(&outputs, place, value, &mut gradient);
                assert!(loss.is_finite());
                for at in 0..outputs.len() {
                    let moved = |by: f32| {
                        let mut outputs = outputs.clone();
                        outputs[at] += by;
                        let by = f64::from(outputs[at]);
                        (by, likelihood.loss(&outputs, place, value, &mut vec![0.0; outputs.len()]))
                    };
                    let ((low, before), (high, after)) = (moved(-1e-3), moved(1e-3));
                    let expected = (after - before) / (high - low);
                    let found = f64::from(gradient[at]);
                    assert!(
                        (found - expected).abs() < 1e-4 * (1.0 + expected.abs()),
                        "{likelihood} {at}: {found} and {expected}"
                    );
                }
            }
        }
    }

    /// By PyTorch and SciPy: `tests/golden/forecast.py`.
    #[test]
    fn losses_gradients_and_quantiles_are_those_of_other_programs() {
        let cases: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../tests/golden/forecast.json")).unwrap();
        assert_eq!(cases.len(), 12);
        let near = |found: f64, expected: &serde_json::Value, within: f64| {
            let expected = expected.as_f64().unwrap();
            assert!((found - expected).abs() < within * (1.0 + expected.abs()), "{found} and {expected}");
        };
        for case in &cases {
            let likelihood: Likelihood = case["likelihood"].as_str().unwrap().parse().unwrap();
            let numbers = |key: &str| case[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap());
            let outputs: Vec<f32> = numbers("outputs").map(|value| value as f32).collect();
            let place: Vec<f64> = numbers("place").collect();
            let place = [place[0], place[1]];
            let mut gradient = vec![0.0; outputs.len()];
            let loss = likelihood.loss(&outputs, place, case["value"].as_f64().unwrap(), &mut gradient);
            near(loss, &case["loss"], 1e-12);
            for (found, expected) in gradient.iter().zip(case["gradient"].as_array().unwrap()) {
                near(f64::from(*found), expected, 1e-6);
            }
            let Forecast { quantiles, .. } = likelihood.forecast(&outputs, place);
            for (found, expected) in quantiles.iter().zip(case["quantiles"].as_array().unwrap()) {
                near(*found, expected, 1e-9);
            }
        }
    }

    #[test]
    fn quantiles_never_cross_whatever_the_outputs() {
        let mut rng = crate::rng::Rng::new(1, crate::rng::Purpose::Init, 0);
        for likelihood in ALL {
            for _ in 0..200 {
                let outputs: Vec<f32> = (0..likelihood.outputs()).map(|_| rng.uniform_in(-8.0, 8.0)).collect();
                let place = [f64::from(rng.uniform_in(-2.0, 2.0)), f64::from(rng.uniform_in(0.01, 3.0))];
                let Forecast { quantiles, .. } = likelihood.forecast(&outputs, place);
                assert!(quantiles.windows(2).all(|pair| pair[0] <= pair[1]), "{likelihood} {quantiles:?}");
            }
        }
    }

    #[test]
    fn a_likelihood_is_a_density_and_its_quantiles_are_its() {
        // The sum over a fine grid of exp(−loss), and of its part below each quantile.
        let outputs = outputs(Likelihood::Student);
        let place = [0.4, 0.9];
        let Forecast { quantiles, .. } = Likelihood::Student.forecast(&outputs, place);
        let density = |value: f64| (-Likelihood::Student.loss(&outputs, place, value, &mut [0.0; 3])).exp();
        let (step, reach) = (0.01, 4000.0);
        let mut total = 0.0;
        let mut below = [0.0; LEVELS.len()];
        let mut value = -reach;
        while value < reach {
            let mass = step * density(value);
            total += mass;
            for (below, quantile) in below.iter_mut().zip(quantiles) {
                *below += if value < quantile { mass } else { 0.0 };
            }
            value += step;
        }
        assert!((total - 1.0).abs() < 1e-3, "{total}");
        for (below, level) in below.iter().zip(LEVELS) {
            assert!((below - level).abs() < 6e-3, "{below} and {level}");
        }
        let counts = [0.3, -0.7];
        let mass = |value: f64| (-Likelihood::NegativeBinomial.loss(&counts, [0.0, 7.0], value, &mut [0.0; 2])).exp();
        let total: f64 = (0..2000).map(|value| mass(f64::from(value))).sum();
        let mean: f64 = (0..2000).map(|value| f64::from(value) * mass(f64::from(value))).sum();
        let forecast = Likelihood::NegativeBinomial.forecast(&counts, [0.0, 7.0]);
        assert!((total - 1.0).abs() < 1e-9 && (mean - forecast.point).abs() < 1e-6, "{total} {mean} {forecast:?}");
        for (quantile, level) in forecast.quantiles.into_iter().zip(LEVELS) {
            let until = |last: f64| (0..=last as i64).map(|value| mass(value as f64)).sum::<f64>();
            assert!(until(quantile) >= level && (quantile == 0.0 || until(quantile - 1.0) < level));
        }
    }
}
