//! Writing with a model, one token at a time.

use crate::config::ConfigError;
use crate::model::{LanguageModel, LanguageTape};
use crate::params::Params;
use crate::rng::{Purpose, Rng};
use crate::state::State;

/// How the next token is chosen from its scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The scores are divided by it: below 1 safer, above 1 wilder, 0 always the best.
    pub temperature: f32,
    /// Only the k best tokens; 0 for all.
    pub top_k: usize,
    /// Only the best tokens that together have this probability (Holtzman 2020); 1 for all.
    pub top_p: f32,
}

impl Sampling {
    /// Checks the settings.
    ///
    /// # Errors
    /// A temperature below 0 or a `top_p` outside (0, 1].
    pub fn validate(&self) -> Result<(), ConfigError> {
        let range = |name, value: f32, expected| ConfigError::Range { name, value: value.to_string(), expected };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(range("temperature", self.temperature, "a number of at least 0"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(range("top-p", self.top_p, "above 0 and at most 1"));
        }
        Ok(())
    }
}

/// A model that writes.
#[derive(Debug)]
pub struct Generator<'a> {
    model: &'a LanguageModel,
    params: &'a Params,
    state: State,
    tape: LanguageTape,
    sampling: Sampling,
    banned: Vec<u32>,
    rng: Rng,
    /// With a fixed context: its length, and the tokens read so far (at most that many).
    window: Option<usize>,
    read: Vec<u32>,
    /// Scores and tokens that may come next.
    candidates: Vec<(f32, u32)>,
    /// The first token that is not banned, for a model that scores nothing.
    fallback: u32,
}

impl<'a> Generator<'a> {
    /// A generator that has read nothing. `banned` tokens are never written; `window`: the model reads that many tokens
    /// from a zero state for each next one (a model trained on windows), else its state is carried.
    ///
    /// # Errors
    /// Sampling settings out of range, or every token banned.
    pub fn new(
        model: &'a LanguageModel,
        params: &'a Params,
        sampling: Sampling,
        banned: Vec<u32>,
        window: Option<usize>,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        sampling.validate()?;
        let mut allowed = (0..model.config().vocabulary as u32).filter(|id| !banned.contains(id));
        let fallback = allowed.next().ok_or_else(|| {
            ConfigError::Conflict("every token of the vocabulary is banned; there is nothing to write".to_owned())
        })?;
        Ok(Self {
            model,
            params,
            state: model.state(1),
            tape: model.frozen_tape(),
            sampling,
            banned,
            rng: Rng::new(seed, Purpose::Generate, 0),
            window,
            read: Vec::new(),
            candidates: Vec::new(),
            fallback,
        })
    }

    /// Reads a token and writes the next; feed what it returns to go on.
    pub fn next(&mut self, token: u32) -> u32 {
        self.read(token);
        if self.window.is_some() {
            self.state.reset();
            for index in 0..self.read.len() {
                self.advance(self.read[index]);
            }
        }
        self.choose()
    }

    /// Reads a token without choosing a next one, as for a prompt.
    pub fn read(&mut self, token: u32) {
        match self.window {
            None => self.advance(token),
            Some(n) => {
                self.read.push(token);
                if self.read.len() > n {
                    self.read.remove(0);
                }
            }
        }
    }

    fn advance(&mut self, token: u32) {
        let scores = self.model.next_scores(self.params, &[token], &mut self.state, &mut self.tape);
        self.candidates.clear();
        self.candidates.extend(scores.iter().copied().zip(0..));
    }

    fn choose(&mut self) -> u32 {
        let Sampling { temperature, top_k, top_p } = self.sampling;
        let (banned, candidates) = (&self.banned, &mut self.candidates);
        // What is not a number, or impossible, is as good as banned.
        candidates.retain(|(score, id)| *score > f32::NEG_INFINITY && !banned.contains(id));
        // Ties go to the lower id, so that the choice is the same everywhere.
        let better = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let Some(&(best, first)) = candidates.iter().min_by(|a, b| better(a, b)) else { return self.fallback };
        if temperature == 0.0 {
            return first;
        }
        if (1..candidates.len()).contains(&top_k) {
            candidates.select_nth_unstable_by(top_k - 1, better);
            candidates.truncate(top_k);
            candidates.sort_unstable_by_key(|(_, id)| *id);
        }
        let weight = |score: f32| (f64::from(score - best) / f64::from(temperature)).exp();
        let mut mass: f64 = candidates.iter().map(|(score, _)| weight(*score)).sum();
        if top_p < 1.0 {
            candidates.sort_unstable_by(better);
            let (enough, mut kept) = (f64::from(top_p) * mass, 0);
            mass = 0.0;
            while mass < enough && kept < candidates.len() {
                mass += weight(candidates[kept].0);
                kept += 1;
            }
            candidates.truncate(kept);
        }
        let mut draw = self.rng.uniform() * mass;
        for (score, id) in candidates.iter() {
            draw -= weight(*score);
            if draw < 0.0 {
                return *id;
            }
        }
        // Rounding may leave a last crumb of the mass.
        candidates.last().map_or(first, |(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Init, Readout};
    use crate::model::{LanguageModelConfig, LayerWiring};

    const ALL: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 };

    fn model() -> (LanguageModel, Params) {
        let config = LanguageModelConfig {
            vocabulary: 11,
            embedding: 5,
            hidden: 6,
            layers: 2,
            projection: None,
            wiring: LayerWiring::Stacked,
            readout: Readout::Hidden,
            horizon: None,
            dropout: 0.0,
        };
        let model = LanguageModel::new(config).unwrap();
        let params = model.initialise(&Init::default(), 3);
        (model, params)
    }

    /// How often each token is chosen from `scores`, of `draws`.
    fn frequencies(sampling: Sampling, scores: &[f32], banned: &[u32], draws: usize) -> Vec<f64> {
        let (model, params) = model();
        let mut generator = Generator::new(&model, &params, sampling, banned.to_vec(), None, 7).unwrap();
        let mut counts = vec![0.0; scores.len()];
        for _ in 0..draws {
            generator.candidates.clear();
            generator.candidates.extend(scores.iter().copied().zip(0..));
            counts[generator.choose() as usize] += 1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn frequencies_follow_the_softmax_at_a_temperature() {
        let scores = [0.3, -1.0, 2.0, 0.3, 1.1];
        for temperature in [0.5f32, 1.0, 2.0] {
            let weights = scores.map(|score| f64::from(score / temperature).exp());
            let total: f64 = weights.iter().sum();
            let seen = frequencies(Sampling { temperature, ..ALL }, &scores, &[], 40_000);
            for (seen, weight) in seen.iter().zip(weights) {
                assert!((seen - weight / total).abs() < 0.01, "{seen} and {}", weight / total);
            }
        }
    }

    #[test]
    fn temperature_zero_takes_the_best_and_the_first_of_equals() {
        let greedy = Sampling { temperature: 0.0, ..ALL };
        assert_eq!(frequencies(greedy, &[0.0, 3.0, 3.0, 1.0], &[], 1), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(frequencies(greedy, &[0.0, 3.0, 3.0, 1.0], &[1], 1), [0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail_and_banned_tokens_never_come() {
        // Probabilities 0.3, 0.5, 0.05, 0.15.
        let scores = [0.3f32.ln(), 0.5f32.ln(), 0.05f32.ln(), 0.15f32.ln()];
        let kept = |top_k, top_p, banned: &[u32]| -> Vec<bool> {
            let seen = frequencies(Sampling { top_k, top_p, ..ALL }, &scores, banned, 4_000);
            seen.into_iter().map(|seen| seen > 0.0).collect()
        };
        assert_eq!(kept(2, 1.0, &[]), [true, true, false, false]);
        assert_eq!(kept(9, 1.0, &[]), [true, true, true, true]);
        assert_eq!(kept(0, 0.4, &[]), [false, true, false, false]);
        assert_eq!(kept(0, 0.7, &[]), [true, true, false, false]);
        assert_eq!(kept(0, 0.9, &[]), [true, true, false, true]);
        assert_eq!(kept(1, 0.9, &[]), [false, true, false, false]);
        assert_eq!(kept(0, 1.0, &[1, 2]), [true, false, false, true]);
    }

    #[test]
    fn impossible_tokens_never_come_and_something_must_be_allowed() {
        let scores = [f32::NEG_INFINITY, f32::NAN, 1.0, f32::NEG_INFINITY];
        assert_eq!(frequencies(ALL, &scores, &[], 64), [0.0, 0.0, 1.0, 0.0]);
        assert_eq!(frequencies(ALL, &[f32::NAN; 4], &[0], 1), [0.0, 1.0, 0.0, 0.0]);
        let (model, params) = model();
        let error = Generator::new(&model, &params, ALL, (0..11).collect(), None, 1).unwrap_err();
        assert!(error.to_string().contains("every token"), "{error}");
    }

    #[test]
    fn impossible_settings_are_sentences() {
        let error = |sampling: Sampling| sampling.validate().unwrap_err().to_string();
        assert!(error(Sampling { temperature: -0.5, ..ALL }).contains("`temperature` is -0.5"));
        assert!(error(Sampling { temperature: f32::NAN, ..ALL }).contains("temperature"));
        assert!(error(Sampling { top_p: 0.0, ..ALL }).contains("`top-p` is 0"));
        assert!(error(Sampling { top_p: 1.5, ..ALL }).contains("`top-p` is 1.5"));
    }

    #[test]
    fn the_same_seed_writes_the_same_and_another_does_not() {
        let (model, params) = model();
        let write = |seed| -> Vec<u32> {
            let mut generator = Generator::new(&model, &params, ALL, vec![0], None, seed).unwrap();
            let mut token = 1;
            (0..40)
                .map(|_| {
                    token = generator.next(token);
                    token
                })
                .collect()
        };
        assert_eq!(write(1), write(1));
        assert_ne!(write(1), write(2));
        assert!(!write(1).contains(&0));
    }

    #[test]
    fn a_window_sees_its_last_tokens_and_nothing_before() {
        let (model, params) = model();
        let greedy = Sampling { temperature: 0.0, ..ALL };
        let choose = |tokens: &[u32]| {
            let mut generator = Generator::new(&model, &params, greedy, Vec::new(), Some(3), 1).unwrap();
            let (last, before) = tokens.split_last().unwrap();
            before.iter().for_each(|&token| generator.read(token));
            generator.next(*last);
            generator.candidates
        };
        assert_eq!(choose(&[9, 9, 9, 1, 2, 3]), choose(&[1, 2, 3]));
        assert_ne!(choose(&[9, 2, 3]), choose(&[1, 2, 3]));
    }
}
