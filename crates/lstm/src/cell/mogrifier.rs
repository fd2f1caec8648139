//! The rounds of a mogrified LSTM (Melis, Kočiský & Blunsom 2019): before a step its input and the hidden state gate one another in turn.
//! As [`crate::cell`] it is slow and obvious, and the definition.
//!
//! In the plain LSTM a word's input and the state it is read in meet in the gates' sums alone. Here the state says first which of the
//! input's values count, the input then which of the state's, and so on for r rounds; the step reads what is left, its cell state as ever:
//!
//! ```text
//! (20) x^i = 2σ(Q^i h^{i−1}) ∘ x^{i−2}     for odd i up to r       x^{−1} = x
//!      h^i = 2σ(R^i x^{i−1}) ∘ h^{i−2}     for even i up to r      h^0 = h
//! ```
//!
//! A gate whose sum is zero is 1: matrices of zeros leave the LSTM as it is. Q^i is `[I, R]` and R^i `[R, I]`, or each the product of
//! two matrices of a lower rank k. There are no biases.
//!
//! # The backward step
//!
//! With γ = 2σ(s), so that γ' = γ (1 − γ/2), from the last round to the first:
//!
//! ```text
//! (21) δs = δx^i ∘ x^{i−2} ∘ γ ∘ (1 − γ/2)      δx^{i−2} = δx^i ∘ γ
//!      δQ^i += δs (h^{i−1})ᵀ                    δh^{i−1} += Q^iᵀ δs
//! ```
//!
//! and the same with x and h exchanged. Zoneout keeps the hidden state of before the rounds.

use super::{Float, add_outer, add_transposed, dot, row};

/// The matrix of one round: what it gates has n values, what it reads m.
#[derive(Clone, Debug, PartialEq)]
pub struct Round<F> {
    /// `[n, m]`; `[n, k]` of a lower rank.
    pub left: Vec<F>,
    /// `[k, m]`; empty where the matrix is `left` itself.
    pub right: Vec<F>,
}

/// The input and the hidden state, or their gradients.
pub type Pair<F> = [Vec<F>; 2];

impl<F: Float> Round<F> {
    /// Zeros.
    pub fn zeros(n: usize, m: usize, rank: Option<usize>) -> Self {
        let zeros = |len| vec![F::ZERO; len];
        Self { left: zeros(n * rank.unwrap_or(m)), right: zeros(rank.map_or(0, |rank| rank * m)) }
    }

    /// What `left` reads of the source.
    fn inner(&self, source: &[F]) -> Vec<F> {
        if self.right.is_empty() { source.to_vec() } else { multiply(&self.right, source) }
    }

    /// The gates that this round opens.
    fn gates(&self, source: &[F]) -> Vec<F> {
        multiply(&self.left, &self.inner(source)).into_iter().map(|sum| (F::ONE + F::ONE) * sum.sigmoid()).collect()
    }
}

/// The pairs before the first round, and after each.
pub(super) fn forward<F: Float>(rounds: &[Round<F>], x: &[F], h: &[F]) -> Vec<Pair<F>> {
    let mut pairs = vec![[x.to_vec(), h.to_vec()]];
    for (index, round) in rounds.iter().enumerate() {
        let mut pair = pairs[index].clone();
        let (changed, read) = (index % 2, 1 - index % 2);
        let gates = round.gates(&pair[read]);
        pair[changed].iter_mut().zip(gates).for_each(|(value, gate)| *value = *value * gate);
        pairs.push(pair);
    }
    pairs
}

/// From the gradients `d` of the last pair to those of the first; the matrices' are added to `gradients`.
pub(super) fn backward<F: Float>(
    rounds: &[Round<F>],
    pairs: &[Pair<F>],
    mut d: Pair<F>,
    gradients: &mut [Round<F>],
) -> Pair<F> {
    for (index, (round, gradient)) in rounds.iter().zip(gradients).enumerate().rev() {
        let before = &pairs[index];
        let (changed, read) = (index % 2, 1 - index % 2);
        let gates = round.gates(&before[read]);
        let half = F::ONE / (F::ONE + F::ONE);
        let slope = |u: usize| gates[u] * (F::ONE - half * gates[u]);
        let d_sum: Vec<F> = (0..gates.len()).map(|u| d[changed][u] * before[changed][u] * slope(u)).collect();
        d[changed].iter_mut().zip(&gates).for_each(|(d, &gate)| *d = *d * gate);
        let inner = round.inner(&before[read]);
        add_outer(&mut gradient.left, &d_sum, &inner);
        if round.right.is_empty() {
            add_transposed(&mut d[read], &round.left, &d_sum);
        } else {
            let mut d_inner = vec![F::ZERO; inner.len()];
            add_transposed(&mut d_inner, &round.left, &d_sum);
            add_outer(&mut gradient.right, &d_inner, &before[read]);
            add_transposed(&mut d[read], &round.right, &d_inner);
        }
    }
    d
}

/// M v for a matrix of as many columns.
fn multiply<F: Float>(matrix: &[F], v: &[F]) -> Vec<F> {
    (0..matrix.len() / v.len()).map(|index| dot(row(matrix, index, v.len()), v)).collect()
}
