//! Averages of the weights over the steps: what is validated, saved and used in place of the weights of the last step.

use std::fmt;
use std::str::FromStr;

use crate::named::stored_as_text;
use crate::nn::config::{ConfigError, at_least_one, within};

/// More validations than any run has.
const MOST_LEFT_OUT: usize = 1_000_000_000;

/// Which average of the weights a run keeps beside them, whatever its optimizer.
///
/// SGD with [`Averaging::NonMonotone`] is the NT-ASGD of Merity et al. 2017.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Averaging {
    /// None: the weights are used as they are.
    #[default]
    None,
    /// An exponential moving average that keeps this share of itself at every step; over the first steps, fewer than
    /// 1/(1 − share), their mean (Polyak & Juditsky 1992).
    Ema(f32),
    /// The mean of all weights since validation no longer improved: since an epoch's loss was worse than the best of those
    /// before it, the latest so many of them left out (non-monotonically triggered averaging, Merity 2017).
    NonMonotone(usize),
    /// The mean of all weights over this last share of the run, its tail (stochastic weight averaging, Izmailov 2018).
    Tail(f64),
}

impl Averaging {
    /// The latest validations that the trigger of [`Averaging::NonMonotone`] leaves out in Merity 2017.
    pub const LEFT_OUT: usize = 5;

    /// The non-monotone average whose trigger leaves out the latest so many validations.
    ///
    /// # Errors
    /// When they are none, or more than any run has.
    pub fn non_monotone(left_out: usize) -> Result<Self, ConfigError> {
        at_least_one("non-monotone", left_out)?;
        within("non-monotone", left_out, 1..=MOST_LEFT_OUT, "a number of epochs up to 1000000000")?;
        Ok(Self::NonMonotone(left_out))
    }

    /// Whether it begins with the run's first step.
    pub(crate) fn begins_at_once(self) -> bool {
        matches!(self, Self::Ema(_))
    }

    /// Whether it begins where the share `done` of the schedule is over.
    pub(crate) fn begins_at(self, done: f64) -> bool {
        matches!(self, Self::Tail(share) if done >= 1.0 - share)
    }

    /// Whether its beginning depends on the validation.
    pub(crate) fn watches_validation(self) -> bool {
        matches!(self, Self::NonMonotone(_))
    }

    /// The share of itself that the average keeps at a step, at most.
    pub(crate) fn kept(self) -> f32 {
        match self {
            Self::Ema(share) => share,
            Self::None | Self::NonMonotone(_) | Self::Tail(_) => 1.0,
        }
    }
}

impl fmt::Display for Averaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Ema(share) => write!(f, "ema({share})"),
            Self::NonMonotone(left_out) => write!(f, "non-monotone({left_out})"),
            Self::Tail(share) => write!(f, "tail({share})"),
        }
    }
}

impl FromStr for Averaging {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        let of = |name: &str| value.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        let share = of("ema").and_then(|share| share.parse::<f32>().ok());
        let left_out = of("non-monotone").and_then(|left_out| Self::non_monotone(left_out.parse().ok()?).ok());
        let tail = of("tail").and_then(|share| share.parse::<f64>().ok());
        match (value, share, left_out) {
            ("none", ..) => Ok(Self::None),
            _ if tail.is_some_and(|share| (1e-6..1.0).contains(&share)) => Ok(Self::Tail(tail.unwrap_or_default())),
            (_, Some(share), _) if share > 0.0 && share < 1.0 => Ok(Self::Ema(share)),
            (_, _, Some(non_monotone)) => Ok(non_monotone),
            _ => Err(ConfigError::Unknown {
                kind: "way of averaging",
                value: value.to_owned(),
                choices: "none, ema(share) with a share above 0 and below 1, such as ema(0.999), non-monotone(n) with a number of \
                          validations of 1 or more, such as non-monotone(5), tail(share) with a share of the run below 1, such as tail(0.3)",
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

/// Whether a non-monotone average begins (Merity 2017, algorithm 1): the loss is worse than the best of the `earlier`
/// ones, in order, the last `left_out` of them left out.
pub(crate) fn is_triggered(loss: f64, earlier: &[f64], left_out: usize) -> bool {
    let compared = &earlier[..earlier.len().saturating_sub(left_out)];
    compared.iter().any(|before| loss > *before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_nonsense_is_refused() {
        for name in ["none", "ema(0.999)", "non-monotone(5)", "tail(0.3)"] {
            assert_eq!(name.parse::<Averaging>().unwrap().to_string(), name);
        }
        for name in [
            "ema",
            "ema(1)",
            "ema(0)",
            "ema(nan)",
            "ema(x)",
            "mean",
            "ema(0.99999999999)",
            "non-monotone(0)",
            "non-monotone",
            "non-monotone(-1)",
            "tail",
            "tail(0)",
            "tail(1)",
            "tail(nan)",
        ] {
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
