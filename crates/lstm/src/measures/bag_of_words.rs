//! What counting reaches: the most frequent label, and a logistic regression on the words and pairs of words that a text has.

use std::collections::{HashMap, HashSet};

use super::logistic::{Logistic, Texts};
use super::ridge::{Ridge, Row};

/// A logistic regression on the unigrams and bigrams of texts, each there or not, with an L2 penalty: the minimum of
/// `½ |w|² + C Σ loss` with C = 1, as scikit-learn's `LogisticRegression` has it, by L-BFGS.
#[derive(Clone, Debug)]
pub struct BagOfWords {
    features: HashMap<String, u32>,
    regression: Logistic,
}

/// The most weights: beyond that features that occur once are left out, then those that occur twice, and so on.
const MOST_WEIGHTS: usize = 8_000_000;

/// Calls `feature` for the words of a text and the pairs of neighbours, each as often as it occurs.
fn features(text: &str, mut feature: impl FnMut(&str)) {
    let mut before: Option<&str> = None;
    let mut pair = String::new();
    for word in text.split_whitespace() {
        feature(word);
        if let Some(before) = before {
            pair.clear();
            pair.push_str(before);
            pair.push(' ');
            pair.push_str(word);
            feature(&pair);
        }
        before = Some(word);
    }
}

/// The features of texts and their places, of which there are no more than can have weights for so many outputs.
fn vocabulary<'a>(texts: impl Iterator<Item = &'a str>, outputs: usize) -> HashMap<String, u32> {
    let mut counts: HashMap<String, u32> = HashMap::new();
    let mut order: Vec<String> = Vec::new();
    for text in texts {
        let mut seen = HashSet::new();
        features(text, |feature| {
            if !seen.insert(feature.to_owned()) {
                return;
            }
            match counts.get_mut(feature) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(feature.to_owned(), 1);
                    order.push(feature.to_owned());
                }
            }
        });
    }
    let mut least = 1;
    while order.iter().filter(|feature| counts[*feature] >= least).count() * outputs > MOST_WEIGHTS {
        least += 1;
    }
    let kept = order.into_iter().filter(|feature| counts[feature] >= least);
    kept.zip(0..).collect()
}

/// The places of the features that a text has, ascending.
fn places(known: &HashMap<String, u32>, text: &str) -> Vec<u32> {
    let mut row = Vec::new();
    features(text, |feature| row.extend(known.get(feature)));
    row.sort_unstable();
    row.dedup();
    row
}

/// A ridge regression of one number on the unigrams and bigrams of texts, each there or not.
#[derive(Clone, Debug)]
pub struct RidgeOfWords {
    features: HashMap<String, u32>,
    ridge: Ridge,
}

impl RidgeOfWords {
    /// The regression of the numbers of texts.
    pub fn fit(texts: &[String], numbers: &[f64]) -> Self {
        let features = vocabulary(texts.iter().map(String::as_str), 1);
        let rows: Vec<Row> = texts.iter().map(|text| Self::row(&features, text)).collect();
        let ridge = Ridge::fit(&rows, numbers, features.len());
        Self { features, ridge }
    }

    fn row(features: &HashMap<String, u32>, text: &str) -> Row {
        places(features, text).into_iter().map(|at| (at, 1.0)).collect()
    }

    /// The number of a text.
    pub fn predict(&self, text: &str) -> f64 {
        self.ridge.predict(&Self::row(&self.features, text))
    }
}

impl BagOfWords {
    /// The regression of texts with their labels, numbers below `classes`; with `several` each label is a regression of its own.
    pub fn fit<'a>(
        examples: impl Iterator<Item = (&'a str, &'a [u32])> + Clone,
        classes: usize,
        several: bool,
    ) -> Self {
        let features = vocabulary(examples.clone().map(|(text, _)| text), classes);
        let rows: Vec<Vec<u32>> = examples.clone().map(|(text, _)| places(&features, text)).collect();
        let labels: Vec<&[u32]> = examples.map(|(_, labels)| labels).collect();
        let texts = Texts { rows: &rows, labels: &labels, features: features.len(), classes, several };
        Self { features, regression: Logistic::fit(texts, 1.0, None) }
    }

    /// The probability of each class: `[C]`.
    pub fn predict(&self, text: &str) -> Vec<f32> {
        self.regression.predict(&places(&self.features, text))
    }
}

/// The share of training examples that have each label: what the most frequent label's guess is made of.
pub fn frequencies<'a>(labels: impl Iterator<Item = &'a [u32]>, classes: usize) -> Vec<f32> {
    let (mut counts, mut all) = (vec![0_u32; classes], 0_u32);
    for labels in labels {
        labels.iter().for_each(|label| counts[*label as usize] += 1);
        all += 1;
    }
    counts.iter().map(|count| *count as f32 / all.max(1) as f32).collect()
}

/// The label that each word has most often in `sentences` of words with their labels, the smallest of equals, and the most frequent one
/// of all for words that are in none.
pub fn most_frequent_tags<'a>(
    sentences: impl Iterator<Item = (&'a [String], &'a [u32])>,
    classes: usize,
) -> impl Fn(&str) -> u32 {
    let mut of_words: HashMap<&str, Vec<u32>> = HashMap::new();
    let mut all = vec![0_u32; classes];
    for (words, labels) in sentences {
        for (word, label) in words.iter().zip(labels) {
            of_words.entry(word).or_insert_with(|| vec![0; classes])[*label as usize] += 1;
            all[*label as usize] += 1;
        }
    }
    let most = |counts: &[u32]| (0..counts.len()).rev().max_by_key(|at| counts[*at]).unwrap_or(0) as u32;
    let (overall, known) = (most(&all), of_words.into_iter());
    let known: HashMap<String, u32> = known.map(|(word, counts)| (word.to_owned(), most(&counts))).collect();
    move |word| known.get(word).copied().unwrap_or(overall)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against scikit-learn 1.7: CountVectorizer(binary=True, ngram_range=(1, 2), token_pattern=r"\S+"), LogisticRegression(C=1, tol=1e-8).
    #[test]
    fn the_regression_is_that_of_scikit_learn() {
        let texts = ["good film", "bad film", "not good", "a good one", "bad , not good", "one film"];
        let labels: [&[u32]; 6] = [&[1], &[0], &[0], &[1], &[0], &[2]];
        let model = BagOfWords::fit(texts.into_iter().zip(labels), 3, false);
        let sums: Vec<f32> = texts.iter().map(|text| model.predict(text).iter().sum()).collect();
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5));
        assert!(model.predict("bad film")[0] > 0.5 && model.predict("good film")[1] > 0.5);
        let several = BagOfWords::fit(texts.into_iter().zip(labels), 3, true);
        assert!(several.predict("one film")[2] > 0.4 && several.predict("bad film")[2] < 0.4);
        let good = RidgeOfWords::fit(&texts.map(str::to_owned), &[1.0, -1.0, -1.0, 1.0, -1.0, 0.0]);
        assert!(good.predict("a good film") > 0.2 && good.predict("bad film") < -0.2);
        let words = ["a", "b", "a", "a"].map(str::to_owned);
        let tag = most_frequent_tags([(&words[..], &[1, 2, 1, 0][..])].into_iter(), 3);
        assert_eq!([tag("a"), tag("b"), tag("c")], [1, 2, 1]);
        assert_eq!(frequencies(labels.into_iter(), 3), [0.5, 2.0 / 6.0, 1.0 / 6.0]);
    }
}
