//! Lessons of teachers: what other models say of the positions of a step, beside the tokens that came (Hinton, Vinyals & Dean 2015).
//!
//! A lesson has the likeliest tokens of a position, and what is left for all others together. With q the teachers' probabilities of
//! the likeliest, q_rest what is left, p the student's, p_rest what it has for all others, y the token that came, and α the
//! weight of the teachers, a position's loss is
//!
//! ```text
//! -(1 - α) ln p_y - α (Σ q_k ln p_k + q_rest ln p_rest)
//! ```
//!
//! whose gradient in the logits is `p - (1 - α) 1[y] - α q` at the likeliest, and `p (1 - α q_rest / p_rest)` at all others.

use lstm_kernels::for_each_chunk;

/// The most tokens of a position that a lesson names: all others count as one.
pub const TOP: usize = 32;

/// What teachers say of the predicted positions of a step.
#[derive(Clone, Debug, Default)]
pub struct Lesson {
    /// α.
    weight: f32,
    /// K, the likeliest tokens of a position.
    top: usize,
    /// `[rows, K]`: which they are, and their probabilities.
    ids: Vec<u32>,
    shares: Vec<f32>,
}

impl Lesson {
    /// Begins a lesson of no positions.
    ///
    /// # Panics
    /// When K is more than [`TOP`].
    pub fn begin(&mut self, weight: f32, top: usize) {
        assert!(top <= TOP, "a lesson names {TOP} tokens at most");
        (self.weight, self.top) = (weight, top);
        self.ids.clear();
        self.shares.clear();
    }

    /// Adds what is said of the next position: K different tokens, and their probabilities.
    pub fn add(&mut self, ids: &[u32], shares: &[f32]) {
        self.ids.extend_from_slice(ids);
        self.shares.extend_from_slice(shares);
    }

    /// α.
    #[cfg(test)]
    pub(in crate::model) fn weight(&self) -> f32 {
        self.weight
    }

    /// K.
    #[cfg(test)]
    pub(in crate::model) fn top(&self) -> usize {
        self.top
    }

    /// What is said of a position.
    #[cfg(test)]
    pub(in crate::model) fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let own = row * self.top..(row + 1) * self.top;
        (&self.ids[own.clone()], &self.shares[own])
    }

    /// Turns the gradient `scale · (p - 1[y])` of the rows from `first` on into that of the taught loss. d_scores: `[rows, V]`; targets: `[rows]`.
    pub(super) fn apply(&self, d_scores: &mut [f32], vocabulary: usize, targets: &[u32], first: usize, scale: f32) {
        let top = self.top;
        for_each_chunk(d_scores, vocabulary, |row, d| {
            let at = (first + row) * top;
            let lesson = (&self.ids[at..at + top], &self.shares[at..at + top]);
            teach(d, targets[row] as usize, lesson, self.weight, scale);
        });
    }
}

/// One row, of which the likeliest are taken out while the others are summed and scaled.
fn teach(d: &mut [f32], target: usize, (ids, shares): (&[u32], &[f32]), weight: f32, scale: f32) {
    // scale · p.
    d[target] += scale;
    let mut likeliest = [0.0; TOP];
    for (kept, &id) in likeliest.iter_mut().zip(ids) {
        *kept = std::mem::take(&mut d[id as usize]);
    }
    let (rest, left) = (sum(d), (1.0 - shares.iter().sum::<f32>()).max(0.0));
    // Where the student has nothing left for all others, no step of theirs changes that.
    let factor = if rest > 0.0 { 1.0 - weight * left * scale / rest } else { 1.0 };
    d.iter_mut().for_each(|d| *d *= factor);
    for ((kept, &id), share) in likeliest.iter().zip(ids).zip(shares) {
        d[id as usize] = kept - weight * scale * share;
    }
    d[target] -= scale * (1.0 - weight);
}

/// The sum of a row, in an order that its length alone decides.
fn sum(values: &[f32]) -> f32 {
    let (groups, rest) = values.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for group in groups {
        sums.iter_mut().zip(group).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().chain(rest).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow twin: the loss of the logits, in double precision.
    fn loss(logits: &[f64], target: usize, ids: &[u32], shares: &[f32], weight: f64) -> f64 {
        let whole = logits.iter().map(|z| z.exp()).sum::<f64>();
        let p = |id: usize| logits[id].exp() / whole;
        let others: f64 = (0..logits.len()).filter(|id| !ids.contains(&(*id as u32))).map(p).sum();
        let left = 1.0 - shares.iter().map(|q| f64::from(*q)).sum::<f64>();
        let taught: f64 = ids.iter().zip(shares).map(|(&id, &q)| f64::from(q) * p(id as usize).ln()).sum();
        -(1.0 - weight) * p(target).ln() - weight * (taught + left * others.ln())
    }

    #[test]
    fn the_gradient_of_a_row_is_that_of_its_loss() {
        let of = |i: usize| ((i * i * 7 + 3 * i) % 11) as f64 / 3.0 - 1.5;
        for (vocabulary, ids, target) in [
            (7, vec![2, 0, 5], 0),
            (7, vec![2, 0, 5], 3),
            (40, (0..32).collect(), 35),
            (2, vec![1], 0),
            (33, (0..32).collect(), 32),
        ] {
            let logits: Vec<f64> = (0..vocabulary).map(of).collect();
            let whole: f64 = logits.iter().map(|z| z.exp()).sum();
            let shares: Vec<f32> = ids.iter().map(|&id| 0.9 / ids.len() as f32 * (1.0 - 0.02 * id as f32)).collect();
            for (weight, scale) in [(0.3, 1.0), (1.0, 0.25)] {
                let mut lesson = Lesson::default();
                lesson.begin(weight, ids.len());
                lesson.add(&ids, &shares);
                let mut d: Vec<f32> = logits.iter().map(|z| scale * (z.exp() / whole) as f32).collect();
                d[target] -= scale;
                lesson.apply(&mut d, vocabulary, &[target as u32], 0, scale);
                for i in 0..vocabulary {
                    let at = |by: f64| {
                        let mut moved = logits.clone();
                        moved[i] += by;
                        loss(&moved, target, &ids, &shares, f64::from(weight))
                    };
                    let expected = f64::from(scale) * (at(1e-5) - at(-1e-5)) / 2e-5;
                    assert!(
                        (f64::from(d[i]) - expected).abs() < 2e-6,
                        "{vocabulary} {weight} {i}: {} {expected}",
                        d[i]
                    );
                }
                assert!(d.iter().sum::<f32>().abs() < 1e-6);
            }
        }
    }
}
