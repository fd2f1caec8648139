//! Beam search: the likeliest text that looking at a few at a time finds.

use super::reading::{Readers, Rules};
use crate::ensemble::{Ensemble, MemberRef};
use crate::free_memory::{check_memory, sum, times};
use crate::model::LanguageModel;
use crate::nn::config::{ConfigError, at_least_one};
use crate::nn::params::Params;
use crate::nn::precision::Weights;

/// A text that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without the prompt.
    pub tokens: Vec<u32>,
    /// The natural logarithm of the probability that the model gives them after the prompt.
    pub log_probability: f64,
    /// Whether it ended by itself, not by its length.
    pub ended: bool,
}

/// A search that goes on from each of its likeliest texts at once, token by token, and keeps the likeliest of what
/// comes of them. Equal ones are taken in the order of their tokens, so that the result is the same everywhere.
#[derive(Debug)]
pub struct Beam<'a> {
    readers: Readers<'a>,
    width: usize,
    vocabulary: usize,
}

impl<'a> Beam<'a> {
    /// A search that looks at `width` texts at a time and has read nothing.
    ///
    /// # Errors
    /// A width of 0, or every token banned.
    pub fn new(model: &'a LanguageModel, params: &'a Params, rules: Rules, width: usize) -> Result<Self, ConfigError> {
        let weights = rules.weights;
        Self::of_members(&[MemberRef { model, params, weights, share: 1.0 }], rules, width)
    }

    /// The same with several models, by the mean of their probabilities. `weights`: how those that every token reads are kept; `None`
    /// for each model's own way.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn of_ensemble(
        ensemble: &'a Ensemble,
        weights: Option<Weights>,
        rules: Rules,
        width: usize,
    ) -> Result<Self, ConfigError> {
        Self::of_members(&ensemble.refs(weights), rules, width)
    }

    fn of_members(members: &[MemberRef<'a>], rules: Rules, width: usize) -> Result<Self, ConfigError> {
        at_least_one("beam", width)?;
        let vocabulary = members.first().map_or(0, |member| member.model.config().vocabulary);
        rules.first_allowed(vocabulary)?;
        // Of every text that is looked at: its states, the scores of what comes next, and each of them as a candidate.
        let states = members.iter().map(|member| member.model.state(1)).map(|state| state.h.len() + state.c.len());
        let values = times(&[vocabulary, size_of::<f32>() + size_of::<Candidate>()]);
        let bytes = times(&[states.sum(), 2 * size_of::<f32>()]);
        let beam = sum([values, bytes]).saturating_mul(width as u128);
        check_memory(|| format!("a beam of {width} texts over {vocabulary} tokens"), beam, "`beam`")?;
        Ok(Self { readers: Readers::of_members(members, rules, 1)?, width, vocabulary })
    }

    /// Reads a token of the prompt.
    pub fn read(&mut self, token: u32) {
        self.readers.read(&[token]);
    }

    /// The likeliest texts of `length` tokens, or fewer where `ends` says that a text is over; the likeliest first, at
    /// most `width` of them.
    pub fn search(mut self, length: usize, ends: &mut dyn FnMut(&[u32]) -> bool) -> Vec<Hypothesis> {
        let mut found: Vec<Hypothesis> = Vec::new();
        let mut live = vec![Hypothesis { tokens: Vec::new(), log_probability: 0.0, ended: false }];
        for _ in 0..length {
            let mut candidates = self.candidates(&live);
            // Twice the width, so that texts that end leave enough to go on with.
            let wanted = self.width.saturating_mul(2).min(candidates.len());
            if wanted == 0 {
                break;
            }
            let better = |a: &Candidate, b: &Candidate| {
                let by_probability = b.log_probability.total_cmp(&a.log_probability);
                by_probability.then_with(|| (a.row, a.token).cmp(&(b.row, b.token)))
            };
            candidates.select_nth_unstable_by(wanted - 1, better);
            candidates.truncate(wanted);
            candidates.sort_unstable_by(better);
            let (mut rows, mut next) = (Vec::new(), Vec::new());
            for Candidate { row, token, log_probability } in candidates {
                if next.len() == self.width {
                    break;
                }
                let mut tokens = live[row].tokens.clone();
                tokens.push(token);
                let ended = ends(&tokens);
                let text = Hypothesis { tokens, log_probability, ended };
                if ended {
                    found.push(text);
                } else {
                    rows.push(row);
                    next.push(text);
                }
            }
            live = next;
            sort(&mut found);
            found.truncate(self.width);
            // What goes on only gets less likely.
            let worst = found.get(self.width - 1).map_or(f64::NEG_INFINITY, |text| text.log_probability);
            live.retain(|text| text.log_probability > worst);
            if live.is_empty() || live[0].tokens.len() == length {
                break;
            }
            // The likeliest come first, so those that were dropped were the last.
            rows.truncate(live.len());
            self.readers.keep(&rows);
            let tokens: Vec<u32> = live.iter().filter_map(|text| text.tokens.last().copied()).collect();
            self.readers.read(&tokens);
        }
        found.extend(live);
        sort(&mut found);
        found.truncate(self.width);
        found
    }

    /// Every way in which the texts can go on by one token.
    fn candidates(&mut self, live: &[Hypothesis]) -> Vec<Candidate> {
        let allowed = self.readers.allowed().to_vec();
        let scores = self.readers.scores();
        let mut candidates = Vec::with_capacity(scores.len());
        for (row, scores) in scores.chunks_exact(self.vocabulary).enumerate() {
            let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let possible = scores.iter().filter(|score| **score > f32::NEG_INFINITY);
            let mass: f64 = possible.map(|score| f64::from(score - best).exp()).sum();
            let base = live[row].log_probability - f64::from(best) - mass.ln();
            candidates.extend((0..).zip(scores).filter_map(|(token, &score)| {
                let log_probability = base + f64::from(score);
                // What is not a number, or impossible, is as good as banned.
                let possible = log_probability > f64::NEG_INFINITY && allowed[token as usize];
                possible.then_some(Candidate { row, token, log_probability })
            }));
        }
        candidates
    }
}

/// The likeliest first.
fn sort(texts: &mut [Hypothesis]) {
    texts.sort_by(|a, b| b.log_probability.total_cmp(&a.log_probability).then_with(|| a.tokens.cmp(&b.tokens)));
}

/// A text with one token more.
struct Candidate {
    row: usize,
    token: u32,
    log_probability: f64,
}

#[cfg(test)]
mod tests {
    use super::super::tiny::{VOCABULARY, model};
    use super::*;

    fn rules() -> Rules {
        Rules { start: 1, banned: vec![0, 4], ..Rules::default() }
    }

    fn search(width: usize, length: usize, prompt: &[u32], ends: impl Fn(&[u32]) -> bool) -> Vec<Hypothesis> {
        let (model, params) = model();
        let mut beam = Beam::new(&model, &params, rules(), width).unwrap();
        prompt.iter().for_each(|&token| beam.read(token));
        beam.search(length, &mut |tokens| ends(tokens))
    }

    /// The definition: every text of up to `length` tokens, each read alone, the likeliest first.
    fn all(length: usize, prompt: &[u32], ends: impl Fn(&[u32]) -> bool) -> Vec<Hypothesis> {
        let (model, params) = model();
        let mut open = vec![Hypothesis { tokens: Vec::new(), log_probability: 0.0, ended: false }];
        let mut found = Vec::new();
        for _ in 0..length {
            let mut next = Vec::new();
            for text in open {
                let mut readers = Readers::new(&model, &params, rules(), 1).unwrap();
                prompt.iter().chain(&text.tokens).for_each(|&token| readers.read(&[token]));
                let weights: Vec<f64> = readers.scores().iter().map(|score| f64::from(*score).exp()).collect();
                let total: f64 = weights.iter().sum();
                for token in (0..VOCABULARY as u32).filter(|token| !rules().banned.contains(token)) {
                    let mut tokens = text.tokens.clone();
                    tokens.push(token);
                    let log_probability = text.log_probability + (weights[token as usize] / total).ln();
                    let ended = ends(&tokens);
                    if ended { &mut found } else { &mut next }.push(Hypothesis { tokens, log_probability, ended });
                }
            }
            open = next;
        }
        found.extend(open);
        sort(&mut found);
        found
    }

    fn assert_same(found: &[Hypothesis], expected: &[Hypothesis]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!((&found.tokens, found.ended), (&expected.tokens, expected.ended));
            assert!((found.log_probability - expected.log_probability).abs() < 1e-4, "{found:?}, {expected:?}");
        }
    }

    #[test]
    fn a_beam_as_wide_as_all_texts_finds_the_likeliest() {
        let width = VOCABULARY * VOCABULARY;
        for prompt in [&[][..], &[3, 7]] {
            assert_same(&search(width, 3, prompt, |_| false), &all(3, prompt, |_| false)[..width]);
            let ends = |tokens: &[u32]| tokens.ends_with(&[2]) || tokens.ends_with(&[6]);
            assert_same(&search(width, 3, prompt, ends), &all(3, prompt, ends)[..width]);
        }
    }

    #[test]
    fn a_wide_beam_finds_nothing_less_likely_than_one_of_one_which_is_greedy() {
        // Not so for every model; for this one it is, and the search gains something somewhere.
        let gains = (0..VOCABULARY as u32).map(|prompt| {
            let likeliest = |width| search(width, 6, &[prompt], |_| false)[0].log_probability;
            likeliest(64) - likeliest(1)
        });
        let gains: Vec<f64> = gains.collect();
        assert!(gains.iter().all(|gain| *gain > -1e-5) && gains.iter().any(|gain| *gain > 0.01), "{gains:?}");
        let (model, params) = model();
        let mut readers = Readers::new(&model, &params, rules(), 1).unwrap();
        readers.read(&[5]);
        for token in search(1, 6, &[5], |_| false)[0].tokens.clone() {
            let scores = readers.scores();
            let allowed = (0..VOCABULARY as u32).filter(|token| !rules().banned.contains(token));
            let best = allowed.max_by(|a, b| scores[*a as usize].total_cmp(&scores[*b as usize])).unwrap();
            assert_eq!(token, best);
            readers.read(&[token]);
        }
    }

    #[test]
    fn a_text_that_ends_is_not_gone_on_with() {
        for text in search(4, 5, &[], |tokens| tokens.len() == 2) {
            assert!(text.ended && text.tokens.len() == 2);
        }
        let empty = search(3, 0, &[], |_| false);
        assert_eq!((empty.len(), empty[0].tokens.len()), (1, 0));
    }

    #[test]
    fn impossible_settings_are_sentences() {
        let (model, params) = model();
        let error = Beam::new(&model, &params, rules(), 0).unwrap_err();
        assert!(error.to_string().contains("`beam` is 0"), "{error}");
        let banned = Rules { banned: (0..11).collect(), ..rules() };
        assert!(Beam::new(&model, &params, banned, 2).unwrap_err().to_string().contains("every token"));
    }
}
