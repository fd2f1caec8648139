//! Parts of sequences of numbers that are read: read again in another way, chosen, and cut for a cross-validation.

use std::sync::OnceLock;

use super::config::SequenceConfig;
use super::data::{Examples, SequenceDataset};
use super::numbers::{NumbersConfig, Scalers};
use crate::rng::{Purpose, Rng};

impl Examples {
    /// These of the examples.
    fn chosen(&self, chosen: &[usize]) -> Self {
        let mut examples = Self::default();
        for &at in chosen {
            examples.series.push(self.series[at].clone());
            examples.targets.extend(self.targets.get(at).cloned());
            examples.sequences.push_numbers(&[0.0], 1, self.sequences.labels(at).to_vec());
        }
        examples
    }

    /// Adds others behind these.
    fn append(&mut self, others: &Self) {
        self.series.extend_from_slice(&others.series);
        self.targets.extend_from_slice(&others.targets);
        let labels = (0..others.sequences.len()).map(|at| others.sequences.labels(at).to_vec());
        labels.for_each(|labels| self.sequences.push_numbers(&[0.0], 1, labels));
    }

    /// The same sequences, read anew.
    fn read_as(&self, numbers: &NumbersConfig, scalers: &Scalers) -> Self {
        let mut examples = Self { cut: self.cut, unknown: self.unknown, ..Self::default() };
        for (at, values) in self.series.iter().enumerate() {
            let read = scalers.read(numbers, values);
            examples.sequences.push_numbers(&read, numbers.width(), self.sequences.labels(at).to_vec());
            if let Some(targets) = self.targets.get(at) {
                examples.sequences.aim(scalers.aim(targets));
            }
        }
        examples.series.clone_from(&self.series);
        examples.targets.clone_from(&self.targets);
        examples
    }
}

impl SequenceDataset {
    /// The same sequences of numbers, read as `config` says and on the scale of what is trained on here.
    pub(super) fn read_as(&self, config: &SequenceConfig) -> Self {
        let Some(numbers) = &config.model.numbers else { return self.clone() };
        let scalers = Scalers::of(&self.train.series, &self.train.targets, numbers.features);
        let [train, valid, test] = [Some(&self.train), self.valid.as_ref(), self.test.as_ref()]
            .map(|part| part.map(|part| part.read_as(numbers, &scalers)));
        let (tokenizer, inherited, bag) = (None, None, OnceLock::new());
        Self { train: train.unwrap_or_default(), valid, test, scalers, tokenizer, inherited, bag, ..*self }
    }

    /// The sequences that are trained on, and those that were held out of them.
    pub(super) fn count(&self) -> usize {
        let held_out = self.valid.as_ref().filter(|_| self.held_out);
        self.train.sequences.len() + held_out.map_or(0, |valid| valid.sequences.len())
    }

    /// The steps of the shortest sequence, and of the one in the middle.
    pub(super) fn lengths(&self) -> [usize; 2] {
        let features = self.scalers.features.len().max(1);
        let mut all: Vec<usize> = self.train.series.iter().map(|values| values.len() / features).collect();
        all.sort_unstable();
        [all.first(), all.get(all.len() / 2)].map(|length| length.copied().unwrap_or(1))
    }

    /// The data in so many parts, each watched once while the others are trained on: of each label the same share, by the seed. They are to
    /// be read before they are used.
    pub(super) fn folds(&self, count: usize, seed: u64) -> Vec<Self> {
        let mut whole = self.train.clone();
        if let Some(valid) = self.valid.as_ref().filter(|_| self.held_out) {
            whole.append(valid);
        }
        let mut order: Vec<usize> = (0..whole.series.len()).collect();
        Rng::new(seed, Purpose::Lines, 1).shuffle(&mut order);
        order.sort_by_key(|at| whole.sequences.labels(*at).first().copied());
        let fold = |fold: usize| {
            let (watched, trained): (Vec<_>, Vec<_>) = order.iter().enumerate().partition(|(at, _)| at % count == fold);
            let [train, valid] = [trained, watched].map(|part: Vec<(usize, &usize)>| {
                whole.chosen(&part.into_iter().map(|(_, example)| *example).collect::<Vec<_>>())
            });
            Self {
                train,
                valid: Some(valid),
                test: None,
                scalers: self.scalers.clone(),
                tokenizer: None,
                inherited: None,
                bag: OnceLock::new(),
                ..*self
            }
        };
        (0..count).map(fold).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::task_kind::TaskKind;

    #[test]
    fn each_example_is_watched_once_by_models_that_were_not_trained_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ts");
        let line = |at: usize| format!("{at},{}:{}\n", at * at, ["a", "b", "c"][at % 3]);
        let text: String = (0..31).map(line).collect();
        std::fs::write(&path, format!("@classLabel true a b c\n@data\n{text}")).unwrap();
        let mut config = SequenceConfig::usual_of_numbers(TaskKind::Classify);
        config.data.train = Some(path);
        let data = SequenceDataset::read(&mut config, None).unwrap();
        assert!(data.held_out && data.count() == 31 && data.lengths() == [2, 2]);
        let mut watched = Vec::new();
        for fold in data.folds(5, 1) {
            let fold = fold.read_as(&config);
            let valid = fold.valid.as_ref().unwrap();
            assert_eq!(fold.train.sequences.len() + valid.sequences.len(), 31);
            assert!((0..3).all(|label| (0..valid.sequences.len()).any(|at| valid.sequences.labels(at) == [label])));
            // On the scale of its own training part.
            let of_first: Vec<f64> = fold.train.series.iter().map(|values| f64::from(values[0])).collect();
            let mean = of_first.iter().sum::<f64>() / of_first.len() as f64;
            let all: Vec<f64> = fold.train.series.iter().flatten().map(|value| f64::from(*value)).collect();
            assert!(
                (fold.scalers.features[0].mean - all.iter().sum::<f64>() / all.len() as f64).abs() < 1e-9 && mean > 0.0
            );
            let trained: Vec<u32> = fold.train.series.iter().map(|values| values[0] as u32).collect();
            for values in &valid.series {
                assert!(!trained.contains(&(values[0] as u32)));
                watched.push(values[0] as usize);
            }
        }
        watched.sort_unstable();
        assert_eq!(watched, (0..31).collect::<Vec<_>>());
    }
}
