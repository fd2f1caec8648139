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
    order: Vec<(f32, u32)>,
}

impl<'a> Generator<'a> {
    /// A generator that has read nothing. `banned` tokens are never written; `window`: the model reads that many tokens
    /// from a zero state for each next one (a model trained on windows), else its state is carried.
    ///
    /// # Errors
    /// Sampling settings out of range.
    pub fn new(
        model: &'a LanguageModel,
        params: &'a Params,
        sampling: Sampling,
        banned: Vec<u32>,
        window: Option<usize>,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        sampling.validate()?;
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
            order: Vec::new(),
        })
    }

    /// Reads a token and writes the next; feed what it returns to go on. Of a prompt, ignore all results but the last.
    pub fn next(&mut self, token: u32) -> u32 {
        self.score(token);
        self.choose()
    }

    /// Reads a token without choosing a next one.
    pub fn read(&mut self, token: u32) {
        self.score(token);
    }

    fn score(&mut self, token: u32) {
        let mut scored = |token: u32, state: &mut State| {
            let scores = self.model.next_scores(self.params, &[token], state, &mut self.tape);
            self.order.clear();
            self.order.extend(scores.iter().zip(0..).map(|(&score, id)| (score, id)));
        };
        match self.window {
            None => scored(token, &mut self.state),
            Some(n) => {
                self.read.push(token);
                if self.read.len() > n {
                    self.read.remove(0);
                }
                self.state.reset();
                for &token in &self.read {
                    scored(token, &mut self.state);
                }
            }
        }
    }

    fn choose(&mut self) -> u32 {
        let Sampling { temperature, top_k, top_p } = self.sampling;
        let banned = &self.banned;
        self.order.retain(|(_, id)| !banned.contains(id));
        // Ties go to the lower id, so that the choice is the same everywhere.
        self.order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let Some(&(best, first)) = self.order.first() else { return 0 };
        if temperature == 0.0 {
            return first;
        }
        if top_k > 0 {
            self.order.truncate(top_k);
        }
        let weights: Vec<f64> =
            self.order.iter().map(|(score, _)| (f64::from(score - best) / f64::from(temperature)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut kept = 0;
        let mut mass = 0.0;
        for weight in &weights {
            kept += 1;
            mass += weight;
            if mass >= f64::from(top_p) * total {
                break;
            }
        }
        let mut draw = self.rng.uniform() * mass;
        for (weight, (_, id)) in weights[..kept].iter().zip(&self.order) {
            draw -= weight;
            if draw <= 0.0 {
                return *id;
            }
        }
        self.order[kept - 1].1
    }
}
