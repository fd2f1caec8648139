//! How good forecasts are: errors of the one value, on the series' scale and on the table's, and of the quantiles.

use serde::Serialize;

use super::dataset::Scaler;
use super::head::{Forecast, LEVELS};

/// The errors of forecasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    /// The values that were forecast.
    pub count: usize,
    /// The mean squared error on the scale of the series' training part: less its mean, by its deviation.
    pub mse_scaled: f64,
    /// The mean absolute error on that scale.
    pub mae_scaled: f64,
    /// The mean absolute error on the table's scale.
    pub mae: f64,
    /// The root of the mean squared error on the table's scale.
    pub rmse: f64,
    /// The mean absolute error by that of the seasonal naive forecast one season ahead in the training part (Hyndman & Koehler 2006).
    pub mase: f64,
    /// The continuous ranked probability score on the series' scale: twice the pinball loss, averaged over the levels of the quantiles. Of a point
    /// forecast it is the absolute error.
    pub crps_scaled: f64,
    /// The same on the table's scale.
    pub crps: f64,
    /// The share of values that lie within the 90 % interval; none of a point forecast.
    pub coverage: Option<f64>,
}

/// Adds up errors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    count: f64,
    squared: f64,
    absolute: f64,
    absolute_table: f64,
    squared_table: f64,
    by_naive: f64,
    pinball: f64,
    pinball_table: f64,
    within: f64,
    has_interval: bool,
}

impl Tally {
    /// Adds a forecast and the value that came, both on the series' scale. `naive`: the naive forecast's error in the training part, on that
    /// scale.
    pub(crate) fn add(&mut self, forecast: &Forecast, value: f64, scaler: Scaler, naive: f64) {
        let error = value - forecast.point;
        let pinball = pinball(forecast, value);
        self.count += 1.0;
        self.squared += error * error;
        self.absolute += error.abs();
        self.absolute_table += error.abs() * scaler.deviation;
        self.squared_table += (error * scaler.deviation).powi(2);
        self.by_naive += error.abs() / naive;
        self.pinball += pinball;
        self.pinball_table += pinball * scaler.deviation;
        let [low, high] = [forecast.quantiles[0], forecast.quantiles[LEVELS.len() - 1]];
        self.within += if (low..=high).contains(&value) { 1.0 } else { 0.0 };
        self.has_interval |= low < high;
    }

    /// The measures of all that was added.
    pub(crate) fn measures(&self) -> Measures {
        let mean = |sum: f64| sum / self.count;
        Measures {
            count: self.count as usize,
            mse_scaled: mean(self.squared),
            mae_scaled: mean(self.absolute),
            mae: mean(self.absolute_table),
            rmse: mean(self.squared_table).sqrt(),
            mase: mean(self.by_naive),
            crps_scaled: mean(self.pinball),
            crps: mean(self.pinball_table),
            coverage: self.has_interval.then(|| mean(self.within)),
        }
    }
}

/// Twice the pinball loss of a forecast's quantiles, averaged.
pub(crate) fn pinball(forecast: &Forecast, value: f64) -> f64 {
    let losses = LEVELS.iter().zip(forecast.quantiles).map(|(level, quantile)| {
        let error = value - quantile;
        error * (level - if error < 0.0 { 1.0 } else { 0.0 })
    });
    2.0 / LEVELS.len() as f64 * losses.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_those_of_their_definitions() {
        let scaler = Scaler { mean: 10.0, deviation: 4.0 };
        let mut tally = Tally::default();
        for (forecast, value) in [(Forecast::normal(0.0, 1.0), 0.5), (Forecast::normal(1.0, 1.0), -2.0)] {
            tally.add(&forecast, value, scaler, 0.5);
        }
        let measures = tally.measures();
        assert_eq!((measures.count, measures.mae_scaled, measures.mae), (2, 1.75, 7.0));
        assert!((measures.mse_scaled - 4.625).abs() < 1e-12);
        assert!((measures.rmse - 4.0 * 4.625_f64.sqrt()).abs() < 1e-12);
        assert_eq!((measures.mase, measures.coverage), (3.5, Some(0.5)));
        // Of a point, the pinball losses of all levels have the mean of half the absolute error.
        let point = Forecast { point: 1.0, quantiles: [1.0; LEVELS.len()] };
        assert!((pinball(&point, 3.0) - 2.0).abs() < 1e-12 && (pinball(&point, 0.0) - 1.0).abs() < 1e-12);
        let mut tally = Tally::default();
        tally.add(&point, 3.0, scaler, 1.0);
        assert_eq!(tally.measures().coverage, None);
        // That of a normal variable at its own mean is near the exact score of 0.2337 (Gneiting & Raftery 2007).
        assert!((pinball(&Forecast::normal(0.0, 1.0), 0.0) - 0.2337).abs() < 0.03);
    }
}
