//! How well numbers are said: absolute and squared errors, and the share of the variance that is explained.

use serde::Serialize;

/// The errors of one number over examples.
#[derive(Clone, Copy, Debug, Default)]
pub struct NumberMeasures {
    count: u64,
    absolute: f64,
    squared: f64,
    /// The mean of the right values so far and the sum of their squared distances from it (Welford 1962).
    mean: f64,
    spread: f64,
}

/// The figures of one number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NumberScore {
    /// The mean absolute error.
    pub mae: f64,
    /// The root of the mean squared error.
    pub rmse: f64,
    /// The share of the variance that is explained, 1 − Σ (y − ŷ)² / Σ (y − ȳ)²; `None` where all values are the same.
    pub r2: Option<f64>,
}

impl NumberMeasures {
    /// Adds an example.
    pub fn add(&mut self, said: f64, right: f64) {
        self.count += 1;
        self.absolute += (said - right).abs();
        self.squared += (said - right).powi(2);
        let off = right - self.mean;
        self.mean += off / self.count as f64;
        self.spread += off * (right - self.mean);
    }

    /// The figures of all examples.
    pub fn score(&self) -> NumberScore {
        let count = self.count.max(1) as f64;
        NumberScore {
            mae: self.absolute / count,
            rmse: (self.squared / count).sqrt(),
            r2: (self.spread > 0.0).then(|| 1.0 - self.squared / self.spread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against scikit-learn 1.7: mean_absolute_error, root_mean_squared_error, r2_score of its documentation's example.
    #[test]
    fn figures_are_those_of_scikit_learn() {
        let mut measures = NumberMeasures::default();
        for (said, right) in [(2.5, 3.0), (0.0, -0.5), (2.0, 2.0), (8.0, 7.0)] {
            measures.add(said, right);
        }
        let score = measures.score();
        assert!((score.mae - 0.5).abs() < 1e-12 && (score.rmse - 0.375_f64.sqrt()).abs() < 1e-12);
        assert!((score.r2.unwrap() - 0.948_608_137_044_967_8).abs() < 1e-12);
        let mut constant = NumberMeasures::default();
        constant.add(1.0, 2.0);
        constant.add(1.0, 2.0);
        assert_eq!(constant.score().r2, None);
    }
}
