//! Sampled softmax (Jean 2015): a training step scores some tokens instead of the whole vocabulary.
//!
//! Every token of the vocabulary is a candidate of the step with a probability π of its own, the frequent ones always.
//! A candidate's logit is raised by `-ln π`, so that the sum of the exponentials is in the mean that of the whole
//! vocabulary (Horvitz & Thompson 1952). A position's target is always scored, as it is; the targets of other positions
//! that were not drawn do not count for it. Evaluation scores everything.

use std::ops::Range;
use std::sync::Arc;

use lstm_kernels::{Aligned, for_each_chunk};

use crate::nn::dropout::Masks;
use crate::nn::params::{Params, Slot, gather};
use crate::rng::{Purpose, Rng};

/// The power of a token's frequency that its probability to be a candidate grows with: between that of the unigram
/// distribution and a flat one, as for negative samples (Mikolov 2013).
const POWER: f64 = 0.75;

/// Stands for `-ln ∞`: a candidate for one position that is none for the others. Small enough that its exponential
/// vanishes, large enough that a logit is found again behind it to 4e-6.
const EXCLUDED: f32 = -60.0;

/// The rows of the readout's gradient that one thread fills at a time.
const SCATTERED: usize = 64;

/// No column.
const NONE: u32 = u32::MAX;

/// The probability of every token to be a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    inclusion: Vec<f32>,
}

impl Sampler {
    /// For `candidates` tokens a step in the mean. counts: `[V]`, how often each token occurs in the training text.
    pub fn new(counts: &[u64], candidates: usize) -> Self {
        let weights: Vec<f64> = counts.iter().map(|&count| (count as f64 + 1.0).powf(POWER)).collect();
        let expected = |factor: f64| weights.iter().map(|weight| (factor * weight).min(1.0)).sum::<f64>();
        // The factor with which so many are expected: by halving an interval that holds it.
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..64 {
            let middle = (low + high) / 2.0;
            if expected(middle) < candidates as f64 { low = middle } else { high = middle }
        }
        Self { inclusion: weights.iter().map(|weight| (high * weight).min(1.0) as f32).collect() }
    }

    /// The mean number of candidates.
    pub fn expected(&self) -> f64 {
        self.inclusion.iter().map(|&inclusion| f64::from(inclusion)).sum()
    }
}

/// The candidates of a step, and the gradient of their part of the readout.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    pub(super) drawn: Drawn,
    pub(super) gradient: Part,
}

/// The candidates of a step. K: their number, another at every step.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    sampler: Arc<Sampler>,
    bits: Vec<u8>,
    /// `[K]`: which tokens.
    tokens: Vec<u32>,
    /// `[V]`: the column of every token that is a candidate.
    columns: Vec<u32>,
    /// `[K]`: what each logit is raised by.
    raised: Vec<f32>,
    /// The columns of the targets.
    targets: Vec<u32>,
    /// Their rows of the readout, the bias raised.
    readout: Part,
}

/// The rows of a readout, or of its gradient, that belong to the candidates.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// `[K, E]`.
    pub(super) weight: Aligned,
    /// `[K]`.
    pub(super) bias: Vec<f32>,
}

impl Candidates {
    pub(super) fn new(sampler: Arc<Sampler>) -> Self {
        let columns = vec![NONE; sampler.inclusion.len()];
        let drawn = Drawn {
            sampler,
            bits: Vec::new(),
            tokens: Vec::new(),
            columns,
            raised: Vec::new(),
            targets: Vec::new(),
            readout: Part::default(),
        };
        Self { drawn, gradient: Part::default() }
    }

    /// Draws the candidates of a step, and gathers their rows of the readout. targets: what the rows of logits predict;
    /// slots: of the readout's weights and bias.
    pub(super) fn draw(&mut self, of: Masks, targets: &[u32], params: &Params, slots: (Slot, Slot)) {
        let Self { drawn, gradient } = self;
        drawn.choose(of, targets);
        let Drawn { tokens, raised, readout, .. } = drawn;
        let (weight, bias) = (params.get(slots.0), params.get(slots.1));
        let width = weight.len() / bias.len();
        gather(weight, tokens, width, &mut readout.weight);
        readout.bias.clear();
        readout.bias.extend(tokens.iter().zip(raised).map(|(&token, raised)| bias[token as usize] + *raised));
        gradient.weight.resize(readout.weight.len());
        gradient.bias.resize(readout.bias.len(), 0.0);
    }
}

impl Drawn {
    /// K.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Which they are.
    pub(super) fn tokens(&self) -> impl Iterator<Item = u32> {
        self.tokens.iter().copied()
    }

    /// The candidates' weights `[K, E]`, and their bias `[K]`, raised.
    pub(super) fn readout(&self) -> (&[f32], &[f32]) {
        (&self.readout.weight, &self.readout.bias)
    }

    fn choose(&mut self, of: Masks, targets: &[u32]) {
        let Self { sampler, bits, tokens, columns, raised, .. } = self;
        for &token in &*tokens {
            columns[token as usize] = NONE;
        }
        tokens.clear();
        raised.clear();
        let inclusion = &sampler.inclusion;
        bits.resize(4 * inclusion.len(), 0);
        Rng::new(of.seed, Purpose::Candidates, of.step).fill(bits);
        let draws = bits.as_chunks::<4>().0.iter().map(|bits| u32::from_le_bytes(*bits) >> 8);
        for (token, (&inclusion, draw)) in inclusion.iter().zip(draws).enumerate() {
            // 24 bits, which a float counts exactly: a probability of 1 is certain.
            if (draw as f32) < inclusion * (1 << 24) as f32 {
                columns[token] = tokens.len() as u32;
                tokens.push(token as u32);
                raised.push(-inclusion.ln());
            }
        }
        self.targets.clear();
        for &target in targets {
            let column = &mut columns[target as usize];
            if *column == NONE {
                *column = tokens.len() as u32;
                tokens.push(target);
                raised.push(EXCLUDED);
            }
            self.targets.push(*column);
        }
    }

    /// Takes back what the logit of the target of each of some `rows` was raised by, and gives the targets' columns.
    /// logits: `[rows, K]`.
    pub(super) fn lower_targets(&self, logits: &mut [f32], rows: Range<usize>) -> &[u32] {
        let targets = &self.targets[rows];
        for (row, &column) in logits.chunks_exact_mut(self.len()).zip(targets) {
            row[column as usize] -= self.raised[column as usize];
        }
        targets
    }

    /// Makes the gradient of the whole readout of `part`, that of the candidates. slots: of the readout's weights and
    /// bias; `rest_is_zero`: of the weights' gradient, so that only the candidates' rows are written.
    pub(super) fn scatter(&self, part: &Part, gradients: &mut Params, slots: (Slot, Slot), rest_is_zero: bool) {
        let bias = gradients.get_mut(slots.1);
        bias.fill(0.0);
        self.tokens.iter().zip(&part.bias).for_each(|(&token, gradient)| bias[token as usize] = *gradient);
        let weight = gradients.get_mut(slots.0);
        let width = weight.len() / self.columns.len();
        if rest_is_zero {
            for (&token, row) in self.tokens.iter().zip(part.weight.chunks_exact(width)) {
                weight[token as usize * width..][..width].copy_from_slice(row);
            }
            return;
        }
        for_each_chunk(weight, SCATTERED * width, |chunk, rows| {
            for (row, column) in rows.chunks_exact_mut(width).zip(&self.columns[chunk * SCATTERED..]) {
                match *column {
                    NONE => row.fill(0.0),
                    column => row.copy_from_slice(&part.weight[column as usize * width..][..width]),
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LanguageModel, LanguageModelConfig};
    use crate::nn::config::Init;
    use crate::text::batch::Batch;

    const COUNTS: [u64; 9] = [100, 0, 7, 1, 1, 30, 2, 12, 4];

    fn batch() -> Batch {
        Batch {
            steps: 2,
            batch: 1,
            tokens: vec![3, 5],
            targets: vec![5, 3],
            lengths: None,
            fresh: true,
            ..Batch::default()
        }
    }

    #[test]
    fn as_many_are_drawn_as_asked_for_and_the_frequent_always() {
        for candidates in [1, 3, 8] {
            let sampler = Sampler::new(&COUNTS, candidates);
            assert!((sampler.expected() - candidates as f64).abs() < 1e-3, "{sampler:?}");
            let most = sampler.inclusion.iter().fold(0.0f32, |most, &x| most.max(x));
            assert_eq!(sampler.inclusion[0], most);
        }
        assert_eq!(Sampler::new(&COUNTS, 8).inclusion[0], 1.0);
        assert_eq!(Sampler::new(&COUNTS, 9).inclusion, [1.0; 9]);
        let sampler = Arc::new(Sampler::new(&COUNTS, 3));
        let mut drawn = Candidates::new(sampler.clone()).drawn;
        let mut counts = [0; 9];
        let draws = 20_000;
        for step in 0..draws {
            drawn.choose(Masks { seed: 1, step, shard: 0, share: 1.0 }, &[]);
            drawn.tokens.iter().for_each(|&token| counts[token as usize] += 1);
        }
        for (count, inclusion) in counts.into_iter().zip(&sampler.inclusion) {
            let share = f64::from(count) / draws as f64;
            assert!((share - f64::from(*inclusion)).abs() < 0.015, "{share} and {inclusion}");
        }
    }

    #[test]
    fn the_sum_of_the_exponentials_is_in_the_mean_that_of_the_whole_vocabulary() {
        let model = LanguageModel::new(LanguageModelConfig::new(9, 4, 5)).unwrap();
        let mut params = model.initialise(&Init::default(), 1);
        params.values_mut().iter_mut().for_each(|value| *value *= 3.0);
        let (mut tape, mut gradients) = (model.tape(), model.gradients());
        let mut step = |sampler: Option<&Arc<Sampler>>, step| {
            tape.sample(sampler);
            let masks = Some(Masks { seed: 1, step, shard: 0, share: 1.0 });
            let mut one = batch();
            one.targets[0] = crate::text::batch::NO_TARGET;
            let loss = model.train_step(&params, &one, &mut model.state(1), masks, &mut tape, &mut gradients);
            loss.mean().exp()
        };
        let whole = step(None, 0);
        let sampler = Arc::new(Sampler::new(&COUNTS, 4));
        let draws = 20_000;
        let mean = (0..draws).map(|number| step(Some(&sampler), number)).sum::<f64>() / draws as f64;
        assert!((mean - whole).abs() < 0.02 * whole, "{mean} and {whole}");
    }

    #[test]
    fn where_every_token_is_a_candidate_nothing_is_sampled() {
        for tied in [false, true] {
            let config = LanguageModelConfig { tied, ..LanguageModelConfig::new(9, 5, 5) };
            let model = LanguageModel::new(config).unwrap();
            let params = model.initialise(&Init::default(), 1);
            let step = |sampler: Option<&Arc<Sampler>>, masks| {
                let (mut tape, mut gradients) = (model.tape(), model.gradients());
                tape.sample(sampler);
                let loss = model.train_step(&params, &batch(), &mut model.state(1), masks, &mut tape, &mut gradients);
                (loss, gradients.values().to_vec())
            };
            let masks = Some(Masks { seed: 1, step: 0, shard: 0, share: 1.0 });
            let whole = step(None, masks);
            assert_eq!(step(Some(&Arc::new(Sampler::new(&COUNTS, 9))), masks), whole);
            // A step without masks draws nothing, its candidates neither.
            let few = Arc::new(Sampler::new(&COUNTS, 2));
            assert_eq!(step(Some(&few), None), whole);
            assert_ne!(step(Some(&few), masks), whole);
        }
    }

    #[test]
    fn a_gradient_buffer_may_be_used_for_sampled_and_whole_steps_in_turn() {
        for tied in [false, true] {
            let config = LanguageModelConfig { tied, ..LanguageModelConfig::new(9, 5, 5) };
            let model = LanguageModel::new(config).unwrap();
            let params = model.initialise(&Init::default(), 1);
            let sampler = Arc::new(Sampler::new(&COUNTS, 2));
            let step = |number: u64, gradients: &mut crate::nn::gradients::Gradients| {
                let mut tape = model.tape();
                tape.sample(Some(&sampler).filter(|_| number % 3 != 2));
                let masks = Some(Masks { seed: 1, step: number, shard: 0, share: 1.0 });
                model.train_step(&params, &batch(), &mut model.state(1), masks, &mut tape, gradients);
                let mut outside = gradients.values().to_vec();
                gradients.ranges().iter().for_each(|range| outside[range.clone()].fill(0.0));
                assert!(outside.iter().all(|&value| value == 0.0));
            };
            let mut reused = model.gradients();
            for number in 0..8 {
                let mut fresh = model.gradients();
                step(number, &mut reused);
                step(number, &mut fresh);
                assert_eq!(reused.values(), fresh.values());
                assert_eq!(reused.ranges(), fresh.ranges());
                assert_eq!(reused.ranges().len() == 1, tied && number % 3 == 2);
            }
        }
    }
}
