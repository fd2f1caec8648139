//! Sampling: one token after the other, drawn by its probability.

use super::chooser::{Chooser, Scratch};
use super::reading::{Readers, Rules};
use crate::ensemble::{Ensemble, MemberRef};
use crate::model::LanguageModel;
use crate::nn::config::ConfigError;
use crate::nn::params::Params;
use crate::nn::precision::Weights;

/// How the next token is chosen from its scores. What is set is applied in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The scores of tokens that were read or written before are divided by it where they are positive, and multiplied
    /// where they are negative (Keskar 2019); 1 for none.
    pub repetition_penalty: f32,
    /// The scores are divided by it: below 1 safer, above 1 wilder, 0 always the best.
    pub temperature: f32,
    /// Only the k best tokens; 0 for all.
    pub top_k: usize,
    /// Only the best tokens that together have this probability (Holtzman 2020); 1 for all.
    pub top_p: f32,
    /// Only tokens with at least this share of the best one's probability (Nguyen 2024); 0 for all.
    pub min_p: f32,
}

impl Default for Sampling {
    /// By the model's own probabilities.
    fn default() -> Self {
        Self { repetition_penalty: 1.0, temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

impl Sampling {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting out of its range, or one that can change nothing because the temperature is 0.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self { repetition_penalty, temperature, top_k, top_p, min_p } = *self;
        let range = |name, value: f32, expected| ConfigError::Range { name, value: value.to_string(), expected };
        if temperature != 0.0 && !(1e-3..=1e3).contains(&temperature) {
            return Err(range("temperature", temperature, "0, or a number from 0.001 to 1000"));
        }
        if !(1e-6..=1.0).contains(&top_p) {
            return Err(range("top-p", top_p, "from 0.000001 to 1"));
        }
        if min_p != 0.0 && !(1e-6..=1.0).contains(&min_p) {
            return Err(range("min-p", min_p, "0, or from 0.000001 to 1"));
        }
        if !(1e-3..=1e3).contains(&repetition_penalty) {
            return Err(range("repetition-penalty", repetition_penalty, "a number from 0.001 to 1000"));
        }
        let cuts = [("top-k", top_k > 0), ("top-p", top_p < 1.0), ("min-p", min_p > 0.0)];
        if let Some((name, _)) = cuts.iter().find(|(_, set)| temperature == 0.0 && *set) {
            return Err(ConfigError::Conflict(format!(
                "a temperature of 0 always takes the likeliest token, so {name} would change nothing; leave it out, or \
                 give a temperature above 0"
            )));
        }
        Ok(())
    }
}

/// A model that writes, without an end: each item is the next token.
#[derive(Debug)]
pub struct Generator<'a> {
    readers: Readers<'a>,
    chooser: Chooser,
    /// Tokens that are never written.
    banned: Vec<u32>,
    scratch: Scratch,
    /// The token written last, to be read before the next is chosen.
    last: Option<u32>,
}

impl<'a> Generator<'a> {
    /// A generator that has read nothing. `sample`: its number among those that write with the same seed, each its own
    /// text.
    ///
    /// # Errors
    /// Sampling settings out of range, or every token banned.
    pub fn new(
        model: &'a LanguageModel,
        params: &'a Params,
        rules: Rules,
        sampling: Sampling,
        seed: u64,
        sample: u64,
    ) -> Result<Self, ConfigError> {
        let weights = rules.weights;
        Self::of_members(&[MemberRef { model, params, weights, share: 1.0 }], rules, sampling, seed, sample)
    }

    /// The same of several models, by the mean of their probabilities. `weights`: how those that every token reads are kept; `None`
    /// for each model's own way.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn of_ensemble(
        ensemble: &'a Ensemble,
        weights: Option<Weights>,
        rules: Rules,
        sampling: Sampling,
        seed: u64,
        sample: u64,
    ) -> Result<Self, ConfigError> {
        Self::of_members(&ensemble.refs(weights), rules, sampling, seed, sample)
    }

    fn of_members(
        members: &[MemberRef<'a>],
        rules: Rules,
        sampling: Sampling,
        seed: u64,
        sample: u64,
    ) -> Result<Self, ConfigError> {
        sampling.validate()?;
        let vocabulary = members.first().map_or(0, |member| member.model.config().vocabulary);
        let fallback = rules.first_allowed(vocabulary)?;
        let chooser = Chooser::new(sampling, vocabulary, fallback, seed, sample);
        let banned = rules.banned.clone();
        let readers = Readers::of_members(members, rules, 1)?;
        Ok(Self { readers, chooser, banned, scratch: Scratch::default(), last: None })
    }

    /// Reads a token of the prompt.
    pub fn read(&mut self, token: u32) {
        if let Some(last) = self.last.replace(token) {
            self.readers.read(&[last]);
        }
        self.chooser.note(token);
    }
}

impl Iterator for Generator<'_> {
    type Item = u32;

    /// Writes the next token; there always is one.
    fn next(&mut self) -> Option<u32> {
        if let Some(last) = self.last.take() {
            self.readers.read(&[last]);
        }
        let token = self.chooser.choose(self.readers.scores(), &self.banned, &mut self.scratch);
        self.chooser.note(token);
        self.last = Some(token);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiny::{VOCABULARY, model};
    use super::*;

    const ALL: Sampling = Sampling { repetition_penalty: 1.0, temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };

    /// How often each token is chosen from `scores`, of `draws`, when `seen` were read before.
    fn frequencies(sampling: Sampling, scores: &[f32], banned: &[u32], seen: &[u32], draws: usize) -> Vec<f64> {
        let (model, params) = model();
        let rules = Rules { banned: banned.to_vec(), ..Rules::default() };
        let mut generator = Generator::new(&model, &params, rules, sampling, 7, 0).unwrap();
        seen.iter().for_each(|&token| generator.read(token));
        let mut counts = vec![0.0; scores.len()];
        for _ in 0..draws {
            let chosen = generator.chooser.choose(scores, banned, &mut generator.scratch);
            counts[chosen as usize] += 1.0 / draws as f64;
        }
        counts
    }

    fn assert_frequencies(sampling: Sampling, scores: &[f32], seen: &[u32], weights: &[f64]) {
        let total: f64 = weights.iter().sum();
        for (seen, weight) in frequencies(sampling, scores, &[], seen, 40_000).iter().zip(weights) {
            assert!((seen - weight / total).abs() < 0.01, "{sampling:?}: {seen} and {}", weight / total);
            assert!(*weight > 0.0 || *seen == 0.0, "{sampling:?}");
        }
    }

    #[test]
    fn frequencies_follow_the_softmax_at_a_temperature() {
        let scores = [0.3, -1.0, 2.0, 0.3, 1.1];
        for temperature in [0.5f32, 1.0, 2.0] {
            let weights = scores.map(|score| f64::from(score / temperature).exp());
            assert_frequencies(Sampling { temperature, ..ALL }, &scores, &[], &weights);
        }
    }

    #[test]
    fn the_penalty_lowers_the_scores_of_what_was_there_before() {
        let scores = [1.0f32, -1.0, 2.0, 0.5];
        let penalised = [0.5f32, -2.0, 2.0, 0.5].map(|score| f64::from(score).exp());
        assert_frequencies(Sampling { repetition_penalty: 2.0, ..ALL }, &scores, &[0, 1], &penalised);
        // A penalty below 1 invites repetition.
        let invited = [2.0f32, -0.5, 2.0, 0.5].map(|score| f64::from(score).exp());
        assert_frequencies(Sampling { repetition_penalty: 0.5, ..ALL }, &scores, &[0, 1], &invited);
        // Before the temperature, and what was written counts as what was read.
        let different = |repetition_penalty| {
            let greedy = Sampling { repetition_penalty, temperature: 0.0, ..ALL };
            let (model, params) = model();
            let generator = Generator::new(&model, &params, Rules::default(), greedy, 1, 0).unwrap();
            generator.take(20).collect::<std::collections::HashSet<u32>>().len()
        };
        assert!(different(100.0) > different(1.0));
    }

    #[test]
    fn temperature_zero_takes_the_best_and_the_first_of_equals() {
        let greedy = Sampling { temperature: 0.0, ..ALL };
        assert_eq!(frequencies(greedy, &[0.0, 3.0, 3.0, 1.0], &[], &[], 1), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(frequencies(greedy, &[0.0, 3.0, 3.0, 1.0], &[1], &[], 1), [0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn top_k_top_p_and_min_p_cut_the_tail_and_banned_tokens_never_come() {
        // Probabilities 0.3, 0.5, 0.05, 0.15.
        let scores = [0.3f32.ln(), 0.5f32.ln(), 0.05f32.ln(), 0.15f32.ln()];
        let kept = |sampling, banned: &[u32]| -> Vec<bool> {
            let seen = frequencies(sampling, &scores, banned, &[], 4_000);
            seen.into_iter().map(|seen| seen > 0.0).collect()
        };
        let cut = |top_k, top_p, min_p| kept(Sampling { top_k, top_p, min_p, ..ALL }, &[]);
        assert_eq!(cut(2, 1.0, 0.0), [true, true, false, false]);
        assert_eq!(cut(9, 1.0, 0.0), [true, true, true, true]);
        assert_eq!(cut(0, 0.4, 0.0), [false, true, false, false]);
        assert_eq!(cut(0, 0.7, 0.0), [true, true, false, false]);
        assert_eq!(cut(0, 0.9, 0.0), [true, true, false, true]);
        assert_eq!(cut(1, 0.9, 0.0), [false, true, false, false]);
        assert_eq!(kept(ALL, &[1, 2]), [true, false, false, true]);
        // Of the best one's probability: 0.6, 1, 0.1, 0.3.
        assert_eq!(cut(0, 1.0, 0.09), [true, true, true, true]);
        assert_eq!(cut(0, 1.0, 0.2), [true, true, false, true]);
        assert_eq!(cut(0, 1.0, 0.5), [true, true, false, false]);
        assert_eq!(cut(0, 1.0, 1.0), [false, true, false, false]);
        assert_eq!(cut(3, 0.9, 0.5), [true, true, false, false]);
        // After the temperature: at ½ the shares are squared, at 2 they are rooted.
        assert_eq!(kept(Sampling { temperature: 0.5, min_p: 0.2, ..ALL }, &[]), [true, true, false, false]);
        assert_eq!(kept(Sampling { temperature: 2.0, min_p: 0.2, ..ALL }, &[]), [true, true, true, true]);
        assert_frequencies(Sampling { min_p: 0.2, ..ALL }, &scores, &[], &[0.3, 0.5, 0.0, 0.15]);
    }

    #[test]
    fn impossible_tokens_never_come_and_something_must_be_allowed() {
        let scores = [f32::NEG_INFINITY, f32::NAN, 1.0, f32::NEG_INFINITY];
        assert_eq!(frequencies(ALL, &scores, &[], &[], 64), [0.0, 0.0, 1.0, 0.0]);
        assert_eq!(frequencies(ALL, &[f32::NAN; 4], &[0], &[], 1), [0.0, 1.0, 0.0, 0.0]);
        let (model, params) = model();
        let banned = Rules { banned: (0..VOCABULARY as u32).collect(), ..Rules::default() };
        let error = Generator::new(&model, &params, banned, ALL, 1, 0).unwrap_err();
        assert!(error.to_string().contains("every token"), "{error}");
    }

    #[test]
    fn impossible_settings_are_sentences() {
        let error = |sampling: Sampling| sampling.validate().unwrap_err().to_string();
        assert!(error(Sampling { temperature: -0.5, ..ALL }).contains("`temperature` is -0.5"));
        assert!(error(Sampling { temperature: f32::NAN, ..ALL }).contains("temperature"));
        assert!(error(Sampling { top_p: 0.0, ..ALL }).contains("`top-p` is 0"));
        assert!(error(Sampling { top_p: 1.5, ..ALL }).contains("`top-p` is 1.5"));
        assert!(error(Sampling { min_p: -0.1, ..ALL }).contains("`min-p` is -0.1"));
        assert!(error(Sampling { min_p: f32::NAN, ..ALL }).contains("`min-p` is NaN"));
        assert!(error(Sampling { repetition_penalty: 0.0, ..ALL }).contains("`repetition-penalty` is 0"));
        assert!(error(Sampling { temperature: 0.0, top_k: 3, ..ALL }).contains("top-k would change nothing"));
    }

    #[test]
    fn each_seed_and_each_sample_writes_its_own_text_and_always_the_same() {
        let (model, params) = model();
        let rules = Rules { start: 1, banned: vec![0], ..Rules::default() };
        let write = |seed, sample| -> Vec<u32> {
            Generator::new(&model, &params, rules.clone(), ALL, seed, sample).unwrap().take(40).collect()
        };
        assert_eq!(write(1, 0), write(1, 0));
        assert_eq!(write(1, 1), write(1, 1));
        assert_ne!(write(1, 0), write(2, 0));
        assert_ne!(write(1, 0), write(1, 1));
        assert!(!write(1, 0).contains(&0));
    }

    #[test]
    fn what_was_read_and_written_is_what_comes_before_the_next() {
        let (model, params) = model();
        let mut generator = Generator::new(&model, &params, Rules::default(), ALL, 1, 0).unwrap();
        generator.read(4);
        generator.read(2);
        let written = [generator.next().unwrap(), generator.next().unwrap()];
        generator.next();
        let mut readers = Readers::new(&model, &params, Rules::default(), 1).unwrap();
        [4, 2, written[0], written[1]].iter().for_each(|&token| readers.read(&[token]));
        assert_eq!(generator.readers.scores(), readers.scores());
    }
}
