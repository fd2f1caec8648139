//! Rows of text that a model, or several as one, reads side by side, token by token, and the scores of what comes next in each.

use lstm_kernels::log_sum_exp;

use super::documents::{DocumentEnds, End, Place};
use crate::ensemble::MemberRef;
use crate::model::TokenStream;
use crate::nn::config::ConfigError;
use crate::nn::precision::Weights;
use crate::run::config::RunConfig;
use crate::run::saved::LoadedRun;
use crate::text::batch::Batching;
use crate::text::tokenizer::Tokenizer;

/// How a model's texts begin, go on and what never stands in them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// The tokens before the first that is generated.
    pub start: u32,
    /// The token after which a line begins afresh, from a zero state and with `start`; `None` where texts just go on.
    pub line_end: Option<u32>,
    /// Where a document ends and the next begins, from a zero state and with `start`; `None` where texts just go on.
    pub documents: Option<DocumentEnds>,
    /// For a model trained on windows: the tokens it reads, from a zero state, for each next one. `None`: the state is
    /// carried from the first token on.
    pub window: Option<usize>,
    /// Tokens that are never written.
    pub banned: Vec<u32>,
    /// How the weights are kept that every token reads.
    pub weights: Weights,
}

impl Rules {
    /// The rules of a run: those of its training; never written are `<unk>`, `<pad>`, `<sos>` and, where that was noted, what
    /// its training text has not: scores of tokens that were never there to be predicted say little.
    pub fn of(run: &LoadedRun) -> Self {
        Self { weights: run.weights, ..Self::of_settings(&run.config, &run.tokenizer) }
    }

    /// The same of a run that is still training.
    pub(crate) fn of_settings(config: &RunConfig, tokenizer: &Tokenizer) -> Self {
        let window = match config.batching {
            Batching::Windows(n) => Some(n),
            Batching::Stream | Batching::Lines => None,
        };
        Self {
            start: tokenizer.sos().unwrap_or(tokenizer.start()),
            line_end: tokenizer.eos().filter(|_| tokenizer.line_markers()),
            documents: config
                .data
                .documents
                .as_ref()
                .map(|documents| DocumentEnds::of(documents, tokenizer, config.data.inline_documents == Some(true))),
            window,
            banned: [tokenizer.unknown(), tokenizer.pad(), tokenizer.sos()].into_iter().flatten().collect(),
            weights: Weights::F32,
        }
        .without(tokenizer.unseen().unwrap_or_default())
    }

    /// The same, with these tokens never written either.
    pub fn without(mut self, tokens: Vec<u32>) -> Self {
        self.banned.extend(tokens);
        self
    }

    /// The first token that is not banned.
    ///
    /// # Errors
    /// Every token banned.
    pub(super) fn first_allowed(&self, vocabulary: usize) -> Result<u32, ConfigError> {
        self.allowed(vocabulary).iter().position(|allowed| *allowed).map(|id| id as u32).ok_or_else(|| {
            ConfigError::Conflict("every token of the vocabulary is banned; there is nothing to write".to_owned())
        })
    }

    /// What a model is fed for a token of its text.
    pub(super) fn feed(&self, place: &mut Place, token: u32) -> Fed {
        let ends_line = Some(token) == self.line_end;
        let ends_document = self.documents.as_ref().map(|ends| place.read(ends, token));
        let starts = ends_line || ends_document == Some(End::With);
        let afresh = ends_line || ends_document.is_some_and(|end| end != End::Not);
        Fed { token: if starts { self.start } else { token }, afresh }
    }

    /// Whether each token may be written: `[V]`.
    fn allowed(&self, vocabulary: usize) -> Vec<bool> {
        let mut allowed = vec![true; vocabulary];
        for &id in &self.banned {
            if let Some(allowed) = allowed.get_mut(id as usize) {
                *allowed = false;
            }
        }
        allowed
    }
}

/// What a model is fed: a token, and whether from a zero state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fed {
    pub(super) token: u32,
    pub(super) afresh: bool,
}

/// Rows that a model reads, or several, of whose probabilities the mean counts.
#[derive(Debug)]
pub(super) struct Readers<'a> {
    rules: Rules,
    /// Whether each token may be written: `[V]`.
    allowed: Vec<bool>,
    /// Of every model, with its share in the mean.
    streams: Vec<(TokenStream<'a>, f64)>,
    /// Where each row is in its document, if there are documents.
    places: Vec<Place>,
    /// With a window: what each row has read, at most that many tokens.
    windows: Vec<Vec<u32>>,
    /// `[B, V]`, of what comes after the last token that was read.
    scores: Vec<f32>,
}

impl<'a> Readers<'a> {
    /// `rows` rows that have read the start.
    ///
    /// # Errors
    /// A model that cannot be run token by token.
    #[cfg(test)]
    pub(super) fn new(
        model: &'a crate::model::LanguageModel,
        params: &'a crate::nn::params::Params,
        rules: Rules,
        rows: usize,
    ) -> Result<Self, ConfigError> {
        let weights = rules.weights;
        Self::of_members(&[MemberRef { model, params, weights, share: 1.0 }], rules, rows)
    }

    /// The same of models of one vocabulary.
    ///
    /// # Errors
    /// A model that cannot be run token by token.
    pub(super) fn of_members(members: &[MemberRef<'a>], rules: Rules, rows: usize) -> Result<Self, ConfigError> {
        let start = vec![rules.start; rows];
        let windows = vec![Vec::new(); rows];
        let allowed = rules.allowed(members.first().map_or(0, |member| member.model.config().vocabulary));
        let stream = |of: &MemberRef<'a>| Ok((of.model.stream_with(of.params, rows, of.weights)?, of.share));
        let streams = members.iter().map(stream).collect::<Result<_, ConfigError>>()?;
        let mut readers =
            Self { rules, allowed, streams, places: vec![Place::default(); rows], windows, scores: Vec::new() };
        readers.read(&start);
        Ok(readers)
    }

    /// Whether each token may be written: `[V]`.
    pub(super) fn allowed(&self) -> &[bool] {
        &self.allowed
    }

    /// Every row reads its token. tokens: `[B]`.
    pub(super) fn read(&mut self, tokens: &[u32]) {
        let mut tokens = tokens.to_vec();
        for (row, token) in tokens.iter_mut().enumerate() {
            let fed = self.rules.feed(&mut self.places[row], *token);
            *token = fed.token;
            if fed.afresh {
                self.reset(row);
            }
        }
        let Some(n) = self.rules.window else { return self.advance(&tokens) };
        for (window, token) in self.windows.iter_mut().zip(tokens) {
            window.push(token);
            window.drain(..window.len().saturating_sub(n));
        }
    }

    /// The scores of what comes next: `[B, V]`.
    pub(super) fn scores(&mut self) -> &[f32] {
        if self.rules.window.is_some() {
            // Every row has read as many tokens, so their windows are equally long.
            (0..self.windows.len()).for_each(|row| self.reset(row));
            for step in 0..self.windows[0].len() {
                let tokens: Vec<u32> = self.windows.iter().map(|window| window[step]).collect();
                self.advance(&tokens);
            }
        }
        &self.scores
    }

    /// Row i becomes what row `rows[i]` was; there are then `rows.len()` of them.
    pub(super) fn keep(&mut self, rows: &[usize]) {
        for (stream, _) in &mut self.streams {
            let mut kept = stream.with_batch(rows.len());
            for (row, &from) in rows.iter().enumerate() {
                kept.streams_mut().copy_state(row, stream.streams(), from);
            }
            *stream = kept;
        }
        self.windows = rows.iter().map(|&row| self.windows[row].clone()).collect();
        self.places = rows.iter().map(|&row| self.places[row].clone()).collect();
    }

    fn reset(&mut self, row: usize) {
        self.streams.iter_mut().for_each(|(stream, _)| stream.streams_mut().reset(row));
    }

    fn advance(&mut self, tokens: &[u32]) {
        let Self { streams, scores, allowed, .. } = self;
        scores.clear();
        if let [(stream, _)] = &mut streams[..] {
            scores.extend_from_slice(stream.step(tokens));
            return;
        }
        let vocabulary = allowed.len();
        scores.resize(tokens.len() * vocabulary, 0.0);
        for (stream, share) in streams {
            let logits = stream.step(tokens).chunks_exact(vocabulary);
            for (mean, logits) in scores.chunks_exact_mut(vocabulary).zip(logits) {
                let sum = log_sum_exp(logits, 1.0);
                let p = |logit: f32| (*share * (f64::from(logit) - sum).exp()) as f32;
                mean.iter_mut().zip(logits).for_each(|(mean, &logit)| *mean += p(logit));
            }
        }
        scores.iter_mut().for_each(|p| *p = p.ln());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiny::{VOCABULARY, model};
    use super::*;

    fn assert_close(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} and {b:?}");
    }

    /// The scores after `tokens` in a row of its own.
    fn alone(rules: &Rules, tokens: &[u32]) -> Vec<f32> {
        let (model, params) = model();
        let mut readers = Readers::new(&model, &params, rules.clone(), 1).unwrap();
        tokens.iter().for_each(|&token| readers.read(&[token]));
        readers.scores().to_vec()
    }

    #[test]
    fn kept_rows_go_on_as_if_they_were_alone() {
        for window in [None, Some(2)] {
            let rules = Rules { start: 1, window, ..Rules::default() };
            let (model, params) = model();
            let mut readers = Readers::new(&model, &params, rules.clone(), 3).unwrap();
            readers.read(&[2, 3, 4]);
            readers.keep(&[2, 0, 2, 1]);
            readers.read(&[5, 6, 7, 8]);
            let together = readers.scores().to_vec();
            for (row, tokens) in [[4, 5], [2, 6], [4, 7], [3, 8]].iter().enumerate() {
                assert_close(&together[row * VOCABULARY..][..VOCABULARY], &alone(&rules, tokens));
            }
        }
    }

    #[test]
    fn a_window_sees_its_last_tokens_and_nothing_before() {
        let rules = Rules { window: Some(3), ..Rules::default() };
        assert_eq!(alone(&rules, &[9, 9, 9, 1, 2, 3]), alone(&rules, &[1, 2, 3]));
        assert_ne!(alone(&rules, &[9, 2, 3]), alone(&rules, &[1, 2, 3]));
    }

    #[test]
    fn a_line_begins_afresh_where_lines_have_markers() {
        let rules = Rules { start: 1, line_end: Some(0), ..Rules::default() };
        assert_eq!(alone(&rules, &[5, 6, 0, 7]), alone(&rules, &[7]));
        let stream = Rules { line_end: None, ..rules };
        assert_ne!(alone(&stream, &[5, 6, 0, 7]), alone(&stream, &[7]));
    }
}
