//! The choice of one token by its scores: what [`Sampling`] says, over the whole vocabulary at the speed of its vectors.

use lstm_kernels::exponentials;

use super::sampling::Sampling;
use crate::rng::{Purpose, Rng};

/// Weights that are summed before it is looked whether the draw falls among them.
const GROUP: usize = 64;

/// What one text chooses its tokens with: its settings, its random numbers and the tokens that it has seen.
#[derive(Clone, Debug)]
pub(super) struct Chooser {
    sampling: Sampling,
    rng: Rng,
    /// Whether each token was read or written before: `[V]`, empty where nothing asks for it.
    seen: Vec<bool>,
    /// The first token that is not banned, for a model that scores nothing.
    fallback: u32,
}

/// Memory that choices share, whoever makes them.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    /// The scores as the choice sees them, and their weights: `[V]`.
    scores: Vec<f32>,
    weights: Vec<f32>,
    candidates: Vec<(f32, u32)>,
}

impl Chooser {
    /// `sample`: its number among those that write with the same seed.
    pub(super) fn new(sampling: Sampling, vocabulary: usize, fallback: u32, seed: u64, sample: u64) -> Self {
        let seen = if sampling.repetition_penalty == 1.0 { Vec::new() } else { vec![false; vocabulary] };
        Self { sampling, rng: Rng::new(seed, Purpose::Generate, sample), seen, fallback }
    }

    /// Notes a token that was read or written.
    pub(super) fn note(&mut self, token: u32) {
        if let Some(seen) = self.seen.get_mut(token as usize) {
            *seen = true;
        }
    }

    /// The token that comes next. scores: `[V]`; banned: tokens that it is not.
    pub(super) fn choose(&mut self, scores: &[f32], banned: &[u32], scratch: &mut Scratch) -> u32 {
        let Sampling { repetition_penalty, temperature, top_k, top_p, min_p } = self.sampling;
        let Scratch { scores: own, weights, candidates } = scratch;
        own.clear();
        // What is not a number is as good as impossible.
        own.extend(scores.iter().map(|&score| if score > f32::NEG_INFINITY { score } else { f32::NEG_INFINITY }));
        for &id in banned {
            if let Some(score) = own.get_mut(id as usize) {
                *score = f32::NEG_INFINITY;
            }
        }
        for (score, _) in own.iter_mut().zip(&self.seen).filter(|(_, seen)| **seen) {
            *score = if *score > 0.0 { *score / repetition_penalty } else { *score * repetition_penalty };
        }
        weights.resize(own.len(), 0.0);
        let scale = if temperature == 0.0 { 1.0 } else { temperature.recip() };
        let best = exponentials(own, scale, weights);
        if best == f32::NEG_INFINITY {
            return self.fallback;
        }
        if temperature == 0.0 {
            // Ties go to the lower id, so that the choice is the same everywhere.
            return own.iter().position(|score| *score == best).map_or(self.fallback, |id| id as u32);
        }
        let (own, weights) = (&own[..], &mut weights[..]);
        banned.iter().filter(|id| (**id as usize) < own.len()).for_each(|&id| weights[id as usize] = 0.0);
        let uniform = self.rng.uniform();
        if top_k == 0 && top_p == 1.0 && min_p == 0.0 {
            return draw(weights, uniform).unwrap_or(self.fallback);
        }
        let total: f64 = weights.chunks(GROUP).map(sum).sum();
        let kept = |score: f32| (f64::from(score - best) / f64::from(temperature)).exp();
        let is_cut = (1..own.len()).contains(&top_k);
        // Below it nothing can be kept, so that few are sorted: of top-k the k-th best of the groups' best; of top-p a weight of
        // which all V together are less than what is left out; of min-p itself.
        let lowest = if is_cut { kth_best(own, top_k) } else { f32::NEG_INFINITY };
        let nucleus = if is_cut { 0.0 } else { (1.0 - f64::from(top_p)) * total / own.len() as f64 };
        let lightest = (0.999 * nucleus.max(f64::from(min_p))) as f32;
        candidates.clear();
        let all = own.iter().zip(weights.iter()).zip(0..);
        candidates.extend(all.filter_map(|((&score, &weight), id)| {
            let keeps = score >= lowest && weight >= lightest && score > f32::NEG_INFINITY;
            keeps.then_some((score, id))
        }));
        let better = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let mut mass = total;
        if is_cut {
            if top_k < candidates.len() {
                candidates.select_nth_unstable_by(top_k - 1, better);
                candidates.truncate(top_k);
                candidates.sort_unstable_by_key(|(_, id)| *id);
            }
            mass = candidates.iter().map(|(score, _)| kept(*score)).sum();
        }
        if top_p < 1.0 {
            candidates.sort_unstable_by(better);
            let (enough, mut count) = (f64::from(top_p) * mass, 0);
            mass = 0.0;
            while mass < enough && count < candidates.len() {
                mass += kept(candidates[count].0);
                count += 1;
            }
            candidates.truncate(count);
        }
        if min_p > 0.0 {
            // The best one's weight is 1.
            candidates.retain(|(score, _)| kept(*score) >= f64::from(min_p));
            mass = candidates.iter().map(|(score, _)| kept(*score)).sum();
        }
        let mut draw = uniform * mass;
        for (score, id) in candidates.iter() {
            draw -= kept(*score);
            if draw < 0.0 {
                return *id;
            }
        }
        // Rounding may leave a last crumb of the mass.
        candidates.last().map_or(self.fallback, |(_, id)| *id)
    }
}

/// The token that the share `uniform` of all weights falls on.
fn draw(weights: &[f32], uniform: f64) -> Option<u32> {
    let total: f64 = weights.chunks(GROUP).map(sum).sum();
    let mut left = uniform * total;
    for (group, weights) in weights.chunks(GROUP).enumerate() {
        let own = sum(weights);
        if left >= own {
            left -= own;
            continue;
        }
        for (at, weight) in weights.iter().enumerate() {
            left -= f64::from(*weight);
            if left < 0.0 {
                return Some((group * GROUP + at) as u32);
            }
        }
    }
    // Rounding may leave a last crumb.
    weights.iter().rposition(|weight| *weight > 0.0).map(|id| id as u32)
}

/// Their sum, in an order that vectors can follow.
fn sum(weights: &[f32]) -> f64 {
    let mut sums = [0.0f32; 16];
    for part in weights.chunks(16) {
        for (sum, weight) in sums.iter_mut().zip(part) {
            *sum += weight;
        }
    }
    sums.iter().map(|sum| f64::from(*sum)).sum()
}

/// A score that at least k of `scores` reach: the k-th best of the best of each group; none where there are fewer groups.
fn kth_best(scores: &[f32], k: usize) -> f32 {
    let mut best: Vec<f32> =
        scores.chunks(GROUP).map(|group| group.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
    if k > best.len() {
        return f32::NEG_INFINITY;
    }
    *best.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// The choice as its definition has it: every token sorted, every weight in double precision.
    fn slow(sampling: Sampling, scores: &[f32], uniform: f64) -> u32 {
        let Sampling { temperature, top_k, top_p, min_p, .. } = sampling;
        let mut candidates: Vec<(f32, u32)> = scores.iter().copied().zip(0..).collect();
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let best = candidates[0].0;
        let weight = |score: f32| (f64::from(score - best) / f64::from(temperature)).exp();
        if top_k > 0 {
            candidates.truncate(top_k);
        }
        if top_p == 1.0 {
            candidates.sort_by_key(|(_, id)| *id);
        }
        let enough = f64::from(top_p) * candidates.iter().map(|(score, _)| weight(*score)).sum::<f64>();
        let mut mass = 0.0;
        candidates.retain(|(score, _)| {
            let keeps = mass < enough || top_p == 1.0;
            mass += weight(*score);
            keeps
        });
        candidates.retain(|(score, _)| weight(*score) >= f64::from(min_p));
        let mut draw = uniform * candidates.iter().map(|(score, _)| weight(*score)).sum::<f64>();
        for (score, id) in &candidates {
            draw -= weight(*score);
            if draw < 0.0 {
                return *id;
            }
        }
        candidates.last().unwrap().1
    }

    #[test]
    fn the_fast_choice_is_the_slow_one_for_many_tokens() {
        let mut random = Rng::new(5, Purpose::Init, 1);
        let mut scratch = Scratch::default();
        let all = Sampling::default();
        for vocabulary in [1, 7, 63, 64, 65, 1029, 10_000] {
            let scores: Vec<f32> = (0..vocabulary).map(|_| 3.0 * random.normal()).collect();
            for sampling in [
                all,
                Sampling { temperature: 0.01, ..all },
                Sampling { temperature: 3.0, ..all },
                Sampling { top_k: 1, ..all },
                Sampling { top_k: 40, temperature: 2.0, ..all },
                Sampling { top_k: 5000, top_p: 0.7, ..all },
                Sampling { top_p: 0.9, ..all },
                Sampling { top_p: 0.01, ..all },
                Sampling { min_p: 0.1, ..all },
                Sampling { top_p: 0.95, min_p: 0.02, temperature: 1.5, ..all },
            ] {
                let mut chooser = Chooser::new(sampling, vocabulary, 0, 7, 0);
                let mut uniform = Rng::new(7, Purpose::Generate, 0);
                let same = (0..50)
                    .filter(|_| {
                        chooser.choose(&scores, &[], &mut scratch) == slow(sampling, &scores, uniform.uniform())
                    })
                    .count();
                // A draw that falls on a border of two tokens may round to either.
                assert!(same >= 49, "{sampling:?} of {vocabulary}: {same}");
            }
        }
    }

    #[test]
    fn what_is_banned_never_comes_however_likely_and_cold() {
        let mut scratch = Scratch::default();
        let scores: Vec<f32> = (0..200).map(|id| if id == 77 { 500.0 } else { -(id as f32) }).collect();
        for temperature in [0.0, 0.001, 1.0, 1000.0] {
            for top_k in [0, 3] {
                let sampling = Sampling { temperature, top_k, ..Sampling::default() };
                let mut chooser = Chooser::new(sampling, 200, 0, 1, 0);
                for _ in 0..200 {
                    let chosen = chooser.choose(&scores, &[77], &mut scratch);
                    assert_ne!(chosen, 77);
                    assert!(temperature > 0.1 || chosen == 0, "{chosen} at {temperature}");
                }
            }
        }
        let mut chooser = Chooser::new(Sampling::default(), 3, 2, 1, 0);
        let impossible = [f32::NAN, f32::NEG_INFINITY, f32::NAN];
        assert_eq!(chooser.choose(&impossible, &[], &mut scratch), 2);
    }
}
