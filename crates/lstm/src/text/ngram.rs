//! An n-gram model with interpolated Kneser-Ney smoothing (Chen & Goodman 1998), the baseline of what counting can do.

use std::collections::{HashMap, HashSet};

/// The counts of one context: total, and by next token.
#[derive(Clone, Debug, Default)]
struct Counts {
    total: u64,
    next: HashMap<u32, u64>,
}

/// An n-gram model.
#[derive(Clone, Debug)]
pub struct Ngram {
    vocabulary: usize,
    /// By the length of the context: counts by context.
    orders: Vec<HashMap<Vec<u32>, Counts>>,
    discounts: Vec<f64>,
    end: Option<u32>,
}

impl Ngram {
    /// Counts `ids`. Contexts do not reach across `end`, the end of a line.
    pub fn train(order: usize, ids: &[u32], vocabulary: usize, end: Option<u32>) -> Self {
        let order = order.max(1);
        let mut orders: Vec<HashMap<Vec<u32>, Counts>> = vec![HashMap::new(); order];
        let mut before: Vec<HashSet<Vec<u32>>> = vec![HashSet::new(); order];
        for at in 0..ids.len() {
            let context = context(ids, at, order - 1, end);
            let reach = context.len();
            for length in 0..=reach {
                let gram = &context[reach - length..];
                // Below the highest order Kneser-Ney counts the different tokens before, not the occurrences; a gram
                // that starts its line has nothing before it and is counted as it occurs.
                let counted = length == order - 1 || length == reach || {
                    let mut longer = context[reach - length - 1..].to_vec();
                    longer.push(ids[at]);
                    before[length].insert(longer)
                };
                if counted {
                    let counts = orders[length].entry(gram.to_vec()).or_default();
                    counts.total += 1;
                    *counts.next.entry(ids[at]).or_default() += 1;
                }
            }
        }
        let discounts = orders.iter().map(|contexts| {
            let (mut once, mut twice) = (0.0, 0.0);
            for count in contexts.values().flat_map(|counts| counts.next.values()) {
                once += f64::from(u8::from(*count == 1));
                twice += f64::from(u8::from(*count == 2));
            }
            if once > 0.0 { once / (once + 2.0 * twice) } else { 0.5 }
        });
        let discounts = discounts.collect();
        Self { vocabulary, orders, discounts, end }
    }

    /// The probability of `token` after `context`.
    pub fn probability(&self, context: &[u32], token: u32) -> f64 {
        let mut probability = 1.0 / self.vocabulary as f64;
        for length in 0..=context.len().min(self.orders.len() - 1) {
            let Some(counts) = self.orders[length].get(&context[context.len() - length..]) else { break };
            let (total, discount) = (counts.total as f64, self.discounts[length]);
            let count = counts.next.get(&token).map_or(0.0, |&count| count as f64);
            probability = ((count - discount).max(0.0) + discount * counts.next.len() as f64 * probability) / total;
        }
        probability
    }

    /// The perplexity of `ids`, every one of them predicted.
    pub fn perplexity(&self, ids: &[u32]) -> f64 {
        let nll: f64 = (0..ids.len())
            .map(|at| -self.probability(context(ids, at, self.orders.len() - 1, self.end), ids[at]).ln())
            .sum();
        (nll / ids.len().max(1) as f64).exp()
    }
}

/// The tokens before `at` in its line, at most `longest`; the end of the line before counts as one.
fn context(ids: &[u32], at: usize, longest: usize, end: Option<u32>) -> &[u32] {
    let mut start = at;
    while start > 0 && at - start < longest {
        start -= 1;
        if Some(ids[start]) == end {
            break;
        }
    }
    &ids[start..at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_learn() {
        let ids: Vec<u32> = (0..600).map(|i| [0, 1, 2, 1, 3][i % 5]).collect();
        let model = Ngram::train(3, &ids, 5, Some(3));
        for context in [&[][..], &[0, 1], &[2, 1], &[4, 4], &[3]] {
            let total: f64 = (0..5).map(|token| model.probability(context, token)).sum();
            assert!((total - 1.0).abs() < 1e-12, "{context:?}: {total}");
        }
        assert!(model.perplexity(&ids) < 1.1);
    }
}
