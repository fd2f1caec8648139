//! A bag of words beside the network: a linear model of which tokens, and which pairs of neighbours, a text has. What it says of a text is
//! little of what the layers say of it, so that both together are right more often than either.
//!
//! It is a logistic regression on the tokens and pairs that stand in a text, each by how much more often it stands with a label than with
//! the others (Wang & Manning 2012): of N texts N_c have label c; n of them have feature f, and n_c of these the label; then the value of f
//! for c is
//!
//! ```text
//! π_c = N_c / N
//! r_fc = ln((n_c + a π_c) / (n − n_c + a (1 − π_c))) − ln(π_c / (1 − π_c))
//! ```
//!
//! and zero in a text that has not f. Pairs are hashed to rows. It is fitted to the training data before the first step, no step changes it,
//! and the layers learn as if it were not there; where scores are asked for, they are the mean of both, of which it has a share.

use std::cell::RefCell;

use super::batch::{SequenceBatch, Sequences};
use crate::measures::logistic::{Logistic, Texts, add_up};
use crate::nn::lookup::Lookup;
use crate::nn::params::{Layout, Params};

/// a: with two labels that are as frequent as one another, one is added to the count of either.
const DRAWN: f64 = 2.0;

/// How much the losses of the texts weigh beside the squares of the weights: the best of 0.1 to 1 on mr and subj, on sst2 nearly.
const COST: f32 = 0.5;

/// The most weights of pairs, and their rows for each token: of 7,146 tokens 134,000 words of film reviews make 60,000 pairs.
const WEIGHTS_OF_PAIRS: usize = 1 << 18;
const ROWS_OF_TOKEN: usize = 16;

/// The name of its parameters.
pub(crate) const NAME: &str = "bag";

/// A linear model of tokens and pairs. It holds no values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bag {
    /// `bag.weight [V + P + 1, C]`: a row for each token, for each of P pairs, and the bias.
    table: Lookup,
    vocabulary: usize,
    /// P.
    pairs: usize,
    /// The share of its scores.
    share: f32,
}

/// P: the rows of pairs of so many tokens, where there are so many classes.
fn pairs(vocabulary: usize, classes: usize) -> usize {
    let most = (WEIGHTS_OF_PAIRS / classes.max(1)).min(vocabulary.saturating_mul(ROWS_OF_TOKEN));
    most.clamp(1 << 10, 1 << 17).next_power_of_two()
}

impl Bag {
    pub(crate) fn in_layout(vocabulary: usize, classes: usize, share: f32, layout: &mut Layout) -> Self {
        let pairs = pairs(vocabulary, classes);
        let table = Lookup::in_layout(NAME, vocabulary.saturating_add(pairs + 1), classes, layout);
        Self { table, vocabulary, pairs, share }
    }

    /// Changes its share.
    pub(crate) fn set_share(&mut self, share: f32) {
        self.share = share;
    }

    /// Its values.
    pub(crate) fn table<'a>(&self, params: &'a mut Params) -> &'a mut [f32] {
        self.table.table(params)
    }

    /// The features of a text: its tokens and the pairs of neighbours, ascending, none of them twice.
    fn features(&self, tokens: impl Iterator<Item = u32>, row: &mut Vec<u32>) {
        let (vocabulary, pairs) = (self.vocabulary as u32, self.pairs as u32);
        row.clear();
        let mut before: Option<u32> = None;
        for token in tokens {
            row.push(token);
            if let Some(before) = before {
                let bytes = (u64::from(before) << 32 | u64::from(token)).to_le_bytes();
                row.push(vocabulary + crc32fast::hash(&bytes) % pairs);
            }
            before = Some(token);
        }
        row.sort_unstable();
        row.dedup();
    }

    /// The values for these data: `[V + P + 1, C]`.
    pub(crate) fn fit(&self, data: &Sequences, several: bool) -> Vec<f32> {
        let (features, classes) = (self.vocabulary + self.pairs, self.table.size());
        let row = |at| {
            let mut row = Vec::new();
            self.features(data.tokens(at).iter().copied(), &mut row);
            row
        };
        let rows: Vec<Vec<u32>> = (0..data.len()).map(row).collect();
        let labels: Vec<&[u32]> = (0..data.len()).map(|at| data.labels(at)).collect();
        let texts = Texts { rows: &rows, labels: &labels, features, classes, several };
        let ratios = log_count_ratios(texts);
        Logistic::fit(texts, COST, Some(&ratios)).into_weights()
    }

    /// Scores `[B, C]` of the network become those of both.
    pub(crate) fn mix(&self, params: &Params, batch: &SequenceBatch, scores: &mut [f32]) {
        thread_local! {
            /// Reused, so that a batch allocates nothing.
            static OWN: RefCell<(Vec<u32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
        }
        let (mut row, mut own) = OWN.take();
        own.resize(self.table.size(), 0.0);
        let weights = self.table.values(params);
        for (at, (length, scores)) in batch.lengths.iter().zip(scores.chunks_exact_mut(self.table.size())).enumerate() {
            self.features(batch.starts[..*length].iter().map(|start| batch.tokens[start + at]), &mut row);
            add_up(weights, &row, &mut own);
            scores.iter_mut().zip(&own).for_each(|(score, own)| *score += self.share * (own - *score));
        }
        OWN.set((row, own));
    }
}

/// r: `[F, C]`.
fn log_count_ratios(texts: Texts) -> Vec<f32> {
    let Texts { rows, labels, features, classes, .. } = texts;
    let (mut together, mut of_features) = (vec![0_u32; features * classes], vec![0_u32; features]);
    let mut of_classes = vec![0_u32; classes];
    for (row, labels) in rows.iter().zip(labels) {
        for feature in row.iter().map(|feature| *feature as usize) {
            of_features[feature] += 1;
            labels.iter().for_each(|label| together[feature * classes + *label as usize] += 1);
        }
        labels.iter().for_each(|label| of_classes[*label as usize] += 1);
    }
    // A label that all texts have, or none, has odds all the same.
    let share = |count: &u32| (f64::from(*count) / rows.len().max(1) as f64).clamp(1e-9, 1.0 - 1e-9);
    let shares: Vec<f64> = of_classes.iter().map(share).collect();
    let of_feature = |(together, all): (&[u32], &u32)| -> Vec<f32> {
        let ratio = |(with, share): (&u32, &f64)| {
            let without = f64::from(all - with) + DRAWN * (1.0 - share);
            let odds = (f64::from(*with) + DRAWN * share) / without;
            (odds.ln() - (share / (1.0 - share)).ln()) as f32
        };
        together.iter().zip(&shares).map(ratio).collect()
    };
    together.chunks_exact(classes.max(1)).zip(&of_features).flat_map(of_feature).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sequence::head::Objective;

    fn texts() -> Sequences {
        let mut data = Sequences::default();
        let examples: [(&[u32], u32); 6] =
            [(&[0, 1], 0), (&[1, 0, 1, 0], 1), (&[2, 1], 0), (&[0, 1, 2], 0), (&[1, 0], 1), (&[1], 1)];
        examples.iter().for_each(|(tokens, label)| data.push(tokens, vec![*label]));
        data
    }

    fn bag(share: f32) -> (Bag, Params) {
        let mut layout = Layout::default();
        let bag = Bag::in_layout(3, 2, share, &mut layout);
        (bag, Params::zeros(Arc::new(layout)))
    }

    #[test]
    fn a_feature_of_one_label_speaks_for_it_and_one_of_no_text_for_none() {
        // Two texts of each label.
        let rows: [Vec<u32>; 4] = [vec![0, 1], vec![0, 2], vec![1, 2], vec![2]];
        let labels: [&[u32]; 4] = [&[0], &[0], &[1], &[1]];
        let texts = Texts { rows: &rows, labels: &labels, features: 4, classes: 2, several: false };
        let (three, two) = (3.0_f32.ln(), 1.5_f32.ln());
        let expected = [three, -three, 0.0, 0.0, -two, two, 0.0, 0.0];
        let found = log_count_ratios(texts);
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{found:?}");
        // Labels may be several: of three texts two have the first, one the second.
        let labels: [&[u32]; 3] = [&[0, 1], &[0], &[]];
        let texts = Texts { rows: &rows[..3], labels: &labels, features: 4, classes: 2, several: true };
        let (often, seldom) = (2.0_f64 / 3.0, 1.0_f64 / 3.0);
        let ratio = |with: f64, all: f64, share: f64| {
            ((with + 2.0 * share) / (all - with + 2.0 * (1.0 - share)) * (1.0 - share) / share).ln() as f32
        };
        let found = log_count_ratios(texts);
        assert!((found[0] - ratio(2., 2., often)).abs() < 1e-6 && (found[5] - ratio(0., 2., seldom)).abs() < 1e-6);
    }

    #[test]
    fn the_order_of_two_words_is_what_it_learns_and_its_share_is_what_it_has() {
        let data = texts();
        let (mut bag, mut params) = bag(1.0);
        let values = bag.fit(&data, false);
        bag.table(&mut params).copy_from_slice(&values);
        let mut batch = SequenceBatch::default();
        batch.fill(&data, &[0, 1, 2, 3, 4, 5], Objective::Class, 2);
        let mut scores = vec![3.0; 12];
        bag.mix(&params, &batch, &mut scores);
        for (scores, label) in scores.chunks(2).zip(&batch.targets.classes) {
            assert!(scores[*label as usize] > scores[1 - *label as usize], "{scores:?} {label}");
        }
        bag.set_share(0.25);
        let mut mixed = vec![3.0; 12];
        bag.mix(&params, &batch, &mut mixed);
        assert!(mixed.iter().zip(&scores).all(|(mixed, own)| (mixed - (0.75 * 3.0 + 0.25 * own)).abs() < 1e-6));
        // A row's scores are its own, whatever stands beside it.
        batch.fill(&data, &[3], Objective::Class, 2);
        let mut alone = vec![3.0; 2];
        bag.mix(&params, &batch, &mut alone);
        assert!(mixed.chunks(2).any(|row| row == alone));
    }
}
