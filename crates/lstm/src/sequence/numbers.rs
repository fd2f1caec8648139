//! Sequences of numbers as a model reads them: which values a step has, the scale of each, and which of them are missing.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::read::Record;
use crate::forecast::Scaler;
use crate::formats::FormatError;
use crate::nn::config::{ConfigError, at_least_one, within};
use crate::nn::dropout::Masks;
use crate::rng::{Purpose, Rng};
use crate::text::TextError;

/// What of sequences of numbers is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumbersConfig {
    /// F, the values of a step; set by the data.
    pub features: usize,
    /// Their columns, of data from a table; set by the data where they are not named.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Whether the training data miss some: then each value has a second number beside it, which is 1 where it is missing. Set by the
    /// data.
    pub missing: bool,
    /// The steps that the layers read as one, one behind the other (a patch, as of Nie 2023).
    pub patch: usize,
    /// The steps from the beginning of one patch to that of the next.
    pub stride: usize,
    /// The deviation of the noise that training adds to every value, on its scale.
    #[serde(default)]
    pub noise: f32,
    /// The deviation of the factor that training multiplies each sequence by, whose mean is 1.
    #[serde(default)]
    pub gain: f32,
}

impl Default for NumbersConfig {
    fn default() -> Self {
        Self { features: 1, columns: Vec::new(), missing: false, patch: 1, stride: 1, noise: 0.0, gain: 0.0 }
    }
}

impl NumbersConfig {
    /// I, the numbers that the layers' input reads at once.
    pub fn width(&self) -> usize {
        self.patch.saturating_mul(self.features).saturating_mul(1 + usize::from(self.missing))
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("patch", self.patch)?;
        at_least_one("stride", self.stride)?;
        let expected = "0, or a deviation from 0.000001 to 10";
        for (name, deviation) in [("noise", self.noise), ("gain", self.gain)] {
            if deviation != 0.0 {
                within(name, deviation, 1e-6..=10.0, expected)?;
            }
        }
        if self.stride > self.patch {
            return Err(ConfigError::Conflict(format!(
                "`stride` is {} and `patch` {}: the steps between patches would never be read; choose a `stride` of at most the `patch`",
                self.stride, self.patch
            )));
        }
        Ok(())
    }

    /// Adds what training adds to the numbers of a batch, `[N, I]`, longest row first, whose steps begin at `starts`. What is missing stays
    /// so.
    pub(crate) fn disturb(&self, numbers: &mut [f32], starts: &[usize], masks: Masks) {
        if self.noise == 0.0 && self.gain == 0.0 {
            return;
        }
        let mut rng = Rng::of_part(masks.seed, Purpose::Noise, masks.step, masks.shard);
        let rows = starts.get(1).copied().unwrap_or(0);
        let gains: Vec<f32> = (0..rows).map(|_| 1.0 + self.gain * rng.normal()).collect();
        let (width, each) = (self.width(), 1 + usize::from(self.missing));
        for step in starts.windows(2) {
            let of_step = numbers[step[0] * width..step[1] * width].chunks_exact_mut(width);
            for (row, gain) in of_step.zip(&gains) {
                for value in row.chunks_exact_mut(each) {
                    let there = value.get(1).is_none_or(|missing| *missing == 0.0);
                    let added = if self.noise > 0.0 { self.noise * rng.normal() } else { 0.0 };
                    value[0] = if there { gain * (value[0] + added) } else { 0.0 };
                }
            }
        }
    }

    /// The first step of each patch of a sequence of `steps` steps: the last is moved back to the sequence's end.
    fn patches(&self, steps: usize) -> impl Iterator<Item = usize> + use<> {
        let last = steps.saturating_sub(self.patch);
        let (count, stride) = (last.div_ceil(self.stride.max(1)) + 1, self.stride);
        (0..count).map(move |number| (number * stride).min(last))
    }
}

/// The scales of values and of what is said of them, of the training data alone; they lie in the model's file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scalers {
    /// Of each of the F values of a step; none of texts.
    pub features: Vec<Scaler>,
    /// Of each number that is said; none of labels.
    pub targets: Vec<Scaler>,
}

/// The metadata key of the scalers in a model's file.
pub(crate) const SCALERS: &str = "scalers.json";

/// The scale of values, of which those that are missing count nothing. What is constant stays at 0 on its scale.
fn scaler(values: impl Iterator<Item = f64> + Clone) -> Scaler {
    let values = values.filter(|value| !value.is_nan());
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    let deviation = (values.map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    // What differs by rounding alone is constant.
    Scaler { mean, deviation: if deviation > 1e-12 * mean.abs() { deviation } else { 1.0 } }
}

impl Scalers {
    /// Those of sequences that are trained on, each step of which has `features` values, and of what is to be said of them.
    pub(crate) fn of(series: &[Vec<f32>], targets: &[Vec<f64>], features: usize) -> Self {
        let feature = |feature: usize| {
            let values = series.iter().flat_map(move |values| values.iter().skip(feature).step_by(features.max(1)));
            scaler(values.map(|value| f64::from(*value)))
        };
        let numbers = targets.first().map_or(0, Vec::len);
        let target = |target: usize| scaler(targets.iter().map(move |targets| targets[target]));
        Self { features: (0..features).map(feature).collect(), targets: (0..numbers).map(target).collect() }
    }

    /// The numbers that the layers read of a sequence `[T, F]`, patch by patch: `[patches, I]`. What is missing, and what a sequence that is
    /// shorter than a patch has not, is 0.
    pub(crate) fn read(&self, config: &NumbersConfig, values: &[f32]) -> Vec<f32> {
        let steps = values.len() / config.features;
        let mut read = Vec::new();
        for start in config.patches(steps) {
            for step in start..start + config.patch {
                for (feature, scaler) in self.features.iter().enumerate() {
                    let value = values.get(step * config.features + feature).filter(|value| !value.is_nan());
                    read.push(value.map_or(0.0, |value| scaler.scale(f64::from(*value)) as f32));
                    if config.missing {
                        read.push(f32::from(u8::from(value.is_none())));
                    }
                }
            }
        }
        read
    }

    /// What is to be said, on its scale.
    pub(crate) fn aim(&self, targets: &[f64]) -> Vec<f32> {
        self.targets.iter().zip(targets).map(|(scaler, target)| scaler.scale(*target) as f32).collect()
    }

    /// What was said, as numbers of the data.
    pub fn restore(&self, said: &[f32]) -> Vec<f64> {
        self.targets.iter().zip(said).map(|(scaler, said)| scaler.restore(f64::from(*said))).collect()
    }

    /// The text of a model's file.
    pub(crate) fn to_text(&self, path: &Path) -> Result<String, FormatError> {
        let why = |e| format!("the scalers cannot be described: {e}");
        serde_json::to_string(self).map_err(|e| FormatError::Unusable { path: path.to_owned(), why: why(e) })
    }

    /// That of a file, for so many values and numbers.
    pub(crate) fn of_text(
        text: Option<&String>,
        [features, targets]: [usize; 2],
        path: &Path,
    ) -> Result<Self, FormatError> {
        let read: Option<Self> = match text {
            None if features == 0 && targets == 0 => Some(Self::default()),
            text => text.and_then(|text| serde_json::from_str(text).ok()),
        };
        let fits = |scalers: &Self| (scalers.features.len(), scalers.targets.len()) == (features, targets);
        read.filter(fits).ok_or_else(|| FormatError::Unusable {
            path: path.to_owned(),
            why: "its scalers are missing, or not those of its values; restore it from a copy".to_owned(),
        })
    }
}

/// Notes in `config` what the training data decide of how they are read.
///
/// # Errors
/// A value that is missing in all of them.
pub(crate) fn fit(config: &mut NumbersConfig, records: &[Record], columns: &[String]) -> Result<(), TextError> {
    config.features = records.first().map_or(0, |record| record.features);
    if config.columns.is_empty() {
        config.columns = columns.to_vec();
    }
    let features = config.features;
    for feature in 0..features {
        let mut all = records.iter().flat_map(|record| record.values.iter().skip(feature).step_by(features));
        if all.all(|value| value.is_nan()) {
            let name = config
                .columns
                .get(feature)
                .map_or(format!("dimension {}", feature + 1), |name| format!("column {name}"));
            let file = records[0].place.file.display();
            return Err(TextError::Unusable(format!("{file}, {name} is empty: it has no number at all; leave it out")));
        }
    }
    let shortest = records.iter().map(|record| record.values.len() / features.max(1)).min().unwrap_or(0);
    let misses = |record: &Record| record.values.iter().any(|value| value.is_nan());
    config.missing = shortest < config.patch || records.iter().any(misses);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(values: &[f32], targets: &[f64]) -> Record {
        Record { values: values.to_vec(), features: 2, targets: targets.to_vec(), ..Record::default() }
    }

    #[test]
    fn values_are_scaled_by_the_training_data_and_what_is_missing_is_marked() {
        let records = [record(&[2.0, 7.0, 2.0, 7.0], &[10.0]), record(&[6.0, f32::NAN, 6.0, 7.0], &[30.0])];
        let mut config = NumbersConfig::default();
        fit(&mut config, &records, &[]).unwrap();
        assert_eq!((config.features, config.missing, config.width()), (2, true, 4));
        let series: Vec<Vec<f32>> = records.iter().map(|record| record.values.clone()).collect();
        let scalers = Scalers::of(&series, &[vec![10.0], vec![30.0]], 2);
        assert_eq!(scalers.features[0], Scaler { mean: 4.0, deviation: 2.0 });
        // A constant is 0 and no more.
        assert_eq!(scalers.features[1], Scaler { mean: 7.0, deviation: 1.0 });
        let read = scalers.read(&config, &[4.0, f32::NAN, 6.0, 9.0]);
        assert_eq!(read, [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 2.0, 0.0]);
        assert_eq!((scalers.aim(&[40.0]), scalers.restore(&[-1.0])), (vec![2.0], vec![10.0]));
        let text = scalers.to_text(Path::new("m")).unwrap();
        assert_eq!(Scalers::of_text(Some(&text), [2, 1], Path::new("m")).unwrap(), scalers);
        assert!(Scalers::of_text(Some(&text), [3, 1], Path::new("m")).unwrap_err().to_string().contains("scalers"));
        let error = fit(&mut config, &[record(&[1.0, f32::NAN], &[])], &[]).unwrap_err().to_string();
        assert!(error.contains("dimension 2 is empty"), "{error}");
    }

    #[test]
    fn noise_is_that_of_its_step_and_leaves_what_is_missing() {
        let config = NumbersConfig { missing: true, noise: 0.1, gain: 0.2, ..NumbersConfig::default() };
        let fresh = [1.0, 0.0, 0.0, 1.0, 2.0, 0.0];
        let disturbed = |step| {
            let mut numbers = fresh;
            config.disturb(&mut numbers, &[0, 2, 3], Masks { seed: 1, step, shard: 0, share: 1.0 });
            numbers
        };
        assert_eq!(disturbed(3), disturbed(3));
        assert_ne!(disturbed(3), disturbed(4));
        let found = disturbed(3);
        assert!(found[0] != 1.0 && found[4] != 2.0 && found[2] == 0.0, "{found:?}");
        assert_eq!([found[1], found[3], found[5]], [0.0, 1.0, 0.0]);
    }

    #[test]
    fn patches_cover_every_step_and_the_last_ends_with_the_sequence() {
        let config = NumbersConfig { patch: 4, stride: 3, ..NumbersConfig::default() };
        let starts = |steps| config.patches(steps).collect::<Vec<_>>();
        assert_eq!(starts(4), [0]);
        assert_eq!(starts(5), [0, 1]);
        assert_eq!(starts(7), [0, 3]);
        assert_eq!(starts(9), [0, 3, 5]);
        let scalers = Scalers { features: vec![Scaler { mean: 0.0, deviation: 1.0 }], targets: Vec::new() };
        assert_eq!(scalers.read(&config, &[1., 2., 3., 4., 5.]), [1., 2., 3., 4., 2., 3., 4., 5.]);
        // Shorter than a patch: what it has not is marked, where something is.
        let config = NumbersConfig { missing: true, ..config };
        assert_eq!(scalers.read(&config, &[1., 2.]), [1., 0., 2., 0., 0., 1., 0., 1.]);
        assert!(NumbersConfig { stride: 5, ..config }.validate().unwrap_err().to_string().contains("`stride` is 5"));
    }
}
