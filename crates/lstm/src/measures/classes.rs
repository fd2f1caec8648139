//! How well labels are predicted: accuracy, precision, recall and F1, confusion, calibration.

use serde::Serialize;

/// How often each class was predicted where another was right, and how sure of it the model was.
#[derive(Clone, Debug)]
pub struct ClassMeasures {
    classes: usize,
    /// `[C, C]`: the right class, then the one that was predicted; of several labels unused.
    confusion: Vec<u64>,
    counts: Vec<Counts>,
    examples: u64,
    /// The examples all of whose labels are right.
    right: u64,
    bins: [Bin; BINS],
    nll: f64,
}

/// How often a class was rightly, wrongly and not predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    hits: u64,
    wrong: u64,
    missed: u64,
}

/// The bins of confidence, of equal width (Guo et al. 2017).
const BINS: usize = 15;

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    count: u64,
    confidence: f64,
    right: u64,
}

/// A share of two counts; 0 where there is nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Precision, recall and F1 of a class, each in [0, 1], and how many examples have it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    /// The share of what was predicted that is right.
    pub precision: f64,
    /// The share of what is right that was predicted.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
    /// The examples that have it.
    pub support: u64,
}

impl ClassScore {
    /// Of what was rightly, wrongly and not predicted.
    pub fn of(hits: u64, wrong: u64, missed: u64) -> Self {
        Counts { hits, wrong, missed }.into()
    }
}

impl From<Counts> for ClassScore {
    fn from(Counts { hits, wrong, missed }: Counts) -> Self {
        // 2PR/(P + R), which is 0 where neither is more.
        let f1 = share(2 * hits, 2 * hits + wrong + missed);
        Self { precision: share(hits, hits + wrong), recall: share(hits, hits + missed), f1, support: hits + missed }
    }
}

impl ClassMeasures {
    /// Nothing yet, of so many classes.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            confusion: vec![0; classes * classes],
            counts: vec![Counts::default(); classes],
            examples: 0,
            right: 0,
            bins: [Bin::default(); BINS],
            nll: 0.0,
        }
    }

    /// Adds an example whose class is `right`. probabilities: `[C]`.
    pub fn add(&mut self, probabilities: &[f32], right: usize) {
        let best = (0..self.classes).rev().max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b])).unwrap_or(0);
        self.confusion[right * self.classes + best] += 1;
        self.examples += 1;
        if best == right {
            self.right += 1;
            self.counts[right].hits += 1;
        } else {
            self.counts[best].wrong += 1;
            self.counts[right].missed += 1;
        }
        self.bin(f64::from(probabilities[best]), best == right);
        self.nll -= f64::from(probabilities[right].max(f32::MIN_POSITIVE)).ln();
    }

    /// Adds an example that has all classes of `right` and no others, each predicted by itself. probabilities: `[C]`.
    pub fn add_several(&mut self, probabilities: &[f32], right: &[u32]) {
        self.examples += 1;
        let mut all = true;
        for (class, probability) in probabilities.iter().enumerate() {
            let (has, said) = (right.contains(&(class as u32)), *probability >= 0.5);
            let counts = &mut self.counts[class];
            match (has, said) {
                (true, true) => counts.hits += 1,
                (false, true) => counts.wrong += 1,
                (true, false) => counts.missed += 1,
                (false, false) => {}
            }
            all &= has == said;
            let sure = f64::from(if said { *probability } else { 1.0 - probability });
            self.bin(sure, has == said);
            let of_right = if has { *probability } else { 1.0 - probability };
            self.nll -= f64::from(of_right.max(f32::MIN_POSITIVE)).ln();
        }
        self.right += u64::from(all);
    }

    fn bin(&mut self, confidence: f64, right: bool) {
        let bin = &mut self.bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.confidence += confidence;
        bin.right += u64::from(right);
    }

    /// The examples.
    pub fn examples(&self) -> u64 {
        self.examples
    }

    /// The share of examples that are predicted rightly; of several labels those of which every one is.
    pub fn accuracy(&self) -> f64 {
        share(self.right, self.examples)
    }

    /// The scores of a class.
    pub fn of_class(&self, class: usize) -> ClassScore {
        self.counts[class].into()
    }

    /// The mean of the F1 of all classes; one that neither is there nor was predicted counts 0, as in scikit-learn.
    pub fn macro_f1(&self) -> f64 {
        self.counts.iter().map(|counts| ClassScore::from(*counts).f1).sum::<f64>() / self.classes.max(1) as f64
    }

    /// The F1 of all predictions together; of exactly one label the accuracy.
    pub fn micro_f1(&self) -> f64 {
        let mut all = Counts::default();
        for counts in &self.counts {
            all.hits += counts.hits;
            all.wrong += counts.wrong;
            all.missed += counts.missed;
        }
        ClassScore::from(all).f1
    }

    /// How far confidence is from accuracy on average, in [0, 1]: the expected calibration error of 15 bins (Guo et al. 2017).
    pub fn calibration_error(&self) -> f64 {
        let all: u64 = self.bins.iter().map(|bin| bin.count).sum();
        let gap = |bin: &Bin| (bin.confidence - bin.right as f64).abs();
        self.bins.iter().map(gap).sum::<f64>() / all.max(1) as f64
    }

    /// The mean negative log-likelihood of an example's labels, in nats.
    pub fn loss(&self) -> f64 {
        self.nll / self.examples.max(1) as f64
    }

    /// How often the examples of each class were predicted as each: `[C, C]`, row by row.
    pub fn confusion(&self) -> impl Iterator<Item = &[u64]> {
        self.confusion.chunks(self.classes.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn scores_are_those_of_scikit_learn() {
        // y = [0, 0, 0, 1, 1, 2], predicted [0, 0, 1, 1, 2, 2].
        let mut measures = ClassMeasures::new(3);
        for (right, said) in [(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (2, 2)] {
            let mut probabilities = [0.1; 3];
            probabilities[said] = 0.8;
            measures.add(&probabilities, right);
        }
        assert!(close(measures.accuracy(), 4.0 / 6.0) && close(measures.micro_f1(), 4.0 / 6.0));
        // f1_score(average="macro"): (0.8 + 0.5 + 2/3) / 3.
        assert!(close(measures.macro_f1(), (0.8 + 0.5 + 2.0 / 3.0) / 3.0));
        let first = measures.of_class(0);
        assert!(close(first.precision, 1.0) && close(first.recall, 2.0 / 3.0) && first.support == 3);
        assert_eq!(measures.confusion().map(<[u64]>::to_vec).collect::<Vec<_>>(), [[2, 1, 0], [0, 1, 1], [0, 0, 1]]);
        // All in one bin: |0.8 − 4/6|.
        assert!((measures.calibration_error() - (0.8 - 4.0 / 6.0)).abs() < 1e-6);
        let loss = -(4.0 * 0.8_f64.ln() + 2.0 * 0.1_f64.ln()) / 6.0;
        assert!((measures.loss() - loss).abs() < 1e-6);
    }

    #[test]
    fn several_labels_are_each_a_question() {
        let mut measures = ClassMeasures::new(3);
        measures.add_several(&[0.9, 0.6, 0.1], &[0]);
        measures.add_several(&[0.4, 0.9, 0.2], &[0, 1]);
        measures.add_several(&[0.1, 0.2, 0.3], &[]);
        assert!(close(measures.accuracy(), 1.0 / 3.0));
        // Hits 2, wrong 1, missed 1.
        assert!(close(measures.micro_f1(), 2.0 / 3.0));
        assert!(close(measures.macro_f1(), (2.0 / 3.0 + 2.0 / 3.0 + 0.0) / 3.0));
    }
}
