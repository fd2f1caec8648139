//! Averages of the weights over the steps: what is validated, saved and used in place of the weights of the last step.

use std::fmt;
use std::str::FromStr;

use crate::named::stored_as_text;
use crate::nn::config::ConfigError;

/// Which average of the weights a run keeps beside them, whatever its optimizer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Averaging {
    /// None: the weights are used as they are.
    #[default]
    None,
    /// An exponential moving average that keeps this share of itself at every step; over the first steps, fewer than
    /// 1/(1 − share), their mean (Polyak & Juditsky 1992).
    Ema(f32),
}

impl fmt::Display for Averaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Ema(share) => write!(f, "ema({share})"),
        }
    }
}

impl FromStr for Averaging {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        let share = value.strip_prefix("ema(").and_then(|rest| rest.strip_suffix(')')).map(str::parse::<f32>);
        match (value, share) {
            ("none", _) => Ok(Self::None),
            (_, Some(Ok(share))) if share > 0.0 && share < 1.0 => Ok(Self::Ema(share)),
            _ => Err(ConfigError::Unknown {
                kind: "way of averaging",
                value: value.to_owned(),
                choices: "none, ema(share) with a share above 0 and below 1, such as ema(0.999)",
            }),
        }
    }
}

stored_as_text!(Averaging);

/// Takes `values` into an average of `count` values with these. `keep`: the share of itself that the average keeps at
/// most; 1 for the plain mean.
pub(crate) fn average_in(average: &mut [f32], values: &[f32], count: u64, keep: f32) {
    let share = (1.0 / count as f32).max(1.0 - keep);
    average.iter_mut().zip(values).for_each(|(average, value)| *average += share * (value - *average));
}

/// Whether the averaging of NT-ASGD begins (Merity 2017, algorithm 1): the loss is worse than the best of the `earlier`
/// ones, in order, the last `patience` of them left out.
pub(crate) fn is_triggered(loss: f64, earlier: &[f64], patience: usize) -> bool {
    let compared = &earlier[..earlier.len().saturating_sub(patience)];
    compared.iter().any(|before| loss > *before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_nonsense_is_refused() {
        for name in ["none", "ema(0.999)"] {
            assert_eq!(name.parse::<Averaging>().unwrap().to_string(), name);
        }
        for name in ["ema", "ema(1)", "ema(0)", "ema(nan)", "ema(x)", "mean", "ema(0.99999999999)"] {
            assert!(name.parse::<Averaging>().unwrap_err().to_string().contains("ema(0.999)"), "{name}");
        }
    }

    #[test]
    fn a_mean_is_a_mean_and_a_moving_average_forgets() {
        let values: [f32; 6] = [3.0, 5.0, -2.0, 8.0, 1.0, 4.0];
        let average = |keep: f32| {
            let mut average = [0.0];
            (1..).zip(values).for_each(|(count, value)| average_in(&mut average, &[value], count, keep));
            average[0]
        };
        assert!((average(1.0) - values.iter().sum::<f32>() / 6.0).abs() < 1e-6);
        // The mean of the first two, then half of the new.
        let expected = values[2..].iter().fold(4.0, |average, value| (average + value) / 2.0);
        assert!((average(0.5) - expected).abs() < 1e-6);
    }

    #[test]
    fn the_trigger_looks_past_the_latest_validations() {
        let losses = [5.0, 4.0, 3.0, 3.5, 3.2, 3.1];
        let triggered = |patience| (0..6).find(|&t| is_triggered(losses[t], &losses[..t], patience));
        assert_eq!([0, 1, 2, 3, 5].map(triggered), [Some(3), Some(4), Some(5), None, None]);
    }
}
