//! How surprising each token of a text is to a trained model, line by line.

use crate::ensemble::{Ensemble, Mean};
use crate::evaluate::{Evaluation, SEGMENT};
use crate::free_memory::{free_memory, size};
use crate::model::Loss;
use crate::run::saved::LoadedRun;
use crate::text::TextError;
use crate::text::batch::{Batches, Batching};
use crate::text::corpus::Corpus;
use crate::text::source::Source;
use crate::text::tokenizer::Tokenizer;

/// How the lines of a text follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lines {
    /// As in the text: each is read after those before it.
    #[default]
    Joined,
    /// Each from a fresh state, so that its figure does not depend on where it stands.
    Alone,
}

/// A token of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredToken {
    /// Its id.
    pub id: u32,
    /// The text of it; of an unknown word the word.
    pub text: String,
    /// Its surprisal.
    pub nats: f32,
    /// Its place among all tokens by their probability: 1 is the likeliest.
    pub rank: u32,
    /// Of an unknown word: what it takes to spell it out, in nats, where that is known.
    pub unknown: Option<Option<f64>>,
}

/// A line of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoredLine {
    /// Its number, from 1.
    pub number: usize,
    /// Its tokens, of windows those that are predicted.
    pub tokens: Vec<ScoredToken>,
}

impl ScoredLine {
    /// The loss of all its tokens.
    pub fn loss(&self) -> Loss {
        self.of(|_| true)
    }

    /// The loss of those that are known; `None` where none is.
    pub fn of_known(&self) -> Option<Loss> {
        Some(self.of(|token| token.unknown.is_none())).filter(|loss| loss.tokens > 0)
    }

    /// How many tokens are unknown.
    pub fn unknown(&self) -> usize {
        self.tokens.iter().filter(|token| token.unknown.is_some()).count()
    }

    fn of(&self, counts: impl Fn(&ScoredToken) -> bool) -> Loss {
        let counted = self.tokens.iter().filter(|token| counts(token));
        counted
            .fold(Loss::default(), |sum, token| Loss { nll: sum.nll + f64::from(token.nats), tokens: sum.tokens + 1 })
    }
}

/// A text to be scored.
#[derive(Debug)]
pub struct Text {
    /// Its tokens.
    pub corpus: Corpus,
    /// The places of unknown tokens and what stands there.
    unknown: Vec<(usize, String)>,
}

impl Text {
    /// Reads a text as a run does.
    ///
    /// # Errors
    /// A text that cannot be read, or has no tokens.
    pub fn read(source: &Source, run: &LoadedRun, lossy: bool) -> Result<Self, TextError> {
        let (corpus, unknown) = Corpus::read_keeping(source, &run.tokenizer, lossy)?;
        Ok(Self { corpus, unknown })
    }
}

/// Scores a text and hands each of its lines to `line`, and the loss so far to `watch` now and then; gives the loss of all.
///
/// # Errors
/// A text without anything to predict, and those of `line`.
pub fn score<E: From<TextError>>(
    run: &LoadedRun,
    text: &Text,
    lines: Lines,
    watch: &mut dyn FnMut(Loss),
    line: &mut dyn FnMut(&ScoredLine) -> Result<(), E>,
) -> Result<Loss, E> {
    let (tokenizer, batching, corpus) = (&run.tokenizer, run.config.batching, &text.corpus);
    let (model, params) = (&run.model, &run.params);
    let pass = |starts: Option<Vec<usize>>| {
        let evaluation = match starts {
            Some(starts) => Evaluation::of_lines(model, params, tokenizer, corpus, starts),
            None => Evaluation::in_order(model, params, tokenizer, corpus, batching)?,
        };
        Ok(Pass::One(Box::new(evaluation.ranked())))
    };
    score_by(tokenizer, batching, text, lines, pass, watch, line)
}

/// The same with several models, by the mean of their probabilities.
///
/// # Errors
/// As for [`score`].
pub fn score_mean<E: From<TextError>>(
    ensemble: &Ensemble,
    text: &Text,
    lines: Lines,
    watch: &mut dyn FnMut(Loss),
    line: &mut dyn FnMut(&ScoredLine) -> Result<(), E>,
) -> Result<Loss, E> {
    let LoadedRun { tokenizer, config, .. } = ensemble.first();
    let (batching, corpus) = (config.batching, &text.corpus);
    let pass = |starts: Option<Vec<usize>>| {
        let batches = match starts {
            Some(starts) => Batches::of_starts(corpus, tokenizer, starts, SEGMENT),
            None => Batches::evaluation(corpus, tokenizer, batching, 1, SEGMENT)?,
        };
        Ok(Pass::Mean(Box::new(Mean::new(ensemble.refs(None), batches))))
    };
    score_by(tokenizer, batching, text, lines, pass, watch, line)
}

/// A pass over a text in its order.
enum Pass<'a> {
    One(Box<Evaluation<'a>>),
    Mean(Box<Mean<'a>>),
}

impl Pass<'_> {
    fn advance(&mut self) -> bool {
        match self {
            Self::One(evaluation) => evaluation.advance(),
            Self::Mean(mean) => mean.advance(),
        }
    }

    fn total(&self) -> Loss {
        match self {
            Self::One(evaluation) => evaluation.total(),
            Self::Mean(mean) => mean.total(),
        }
    }

    /// The predicted tokens of the last batch, each with its surprisal in nats and its rank.
    fn tokens(&self) -> Vec<(u32, f32, u32)> {
        match self {
            Self::One(evaluation) => {
                let tokens = evaluation.predicted().zip(evaluation.ranks());
                tokens.map(|((id, nats), &rank)| (id, nats, rank)).collect()
            }
            Self::Mean(mean) => {
                let rank = |id: u32, all: &[f32]| all.iter().filter(|p| **p > all[id as usize]).count() as u32 + 1;
                mean.predicted().map(|(id, nats, all)| (id, nats, rank(id, all))).collect()
            }
        }
    }
}

/// Scores a text by the pass that `pass` makes of the tokens at which lines begin, where each is read from a fresh state.
fn score_by<'a, E: From<TextError>>(
    tokenizer: &Tokenizer,
    batching: Batching,
    text: &Text,
    lines: Lines,
    pass: impl FnOnce(Option<Vec<usize>>) -> Result<Pass<'a>, TextError>,
    watch: &mut dyn FnMut(Loss),
    line: &mut dyn FnMut(&ScoredLine) -> Result<(), E>,
) -> Result<Loss, E> {
    let Text { corpus, unknown } = text;
    let is_unknown_end = |at: usize| {
        let found = unknown.binary_search_by_key(&at, |(place, _)| *place);
        found.is_ok_and(|found| unknown[found].1.ends_with('\n'))
    };
    let ends = |at: usize| tokenizer.ends_line(corpus.ids.get(at)) || is_unknown_end(at);
    check_memory(corpus, free_memory(), ends)?;
    // Windows and lines begin afresh as they are.
    let is_alone = (batching, lines) == (Batching::Stream, Lines::Alone);
    let mut pass = pass(is_alone.then(|| (1..corpus.ids.len()).filter(|&at| ends(at - 1)).collect()))?;
    let mut places = places(corpus, batching);
    let mut scored = ScoredLine { number: 1, ..ScoredLine::default() };
    while pass.advance() {
        watch(pass.total());
        // In this order no place is taken that has no token.
        for ((id, nats, rank), at) in pass.tokens().into_iter().zip(&mut places) {
            let found = at.and_then(|at| unknown.binary_search_by_key(&at, |(place, _)| *place).ok());
            let word = found.map(|found| unknown[found].1.clone());
            let spelling = word.as_ref().map(|word| tokenizer.spelling().map(|spelling| spelling.nats(word)));
            let text = word.unwrap_or_else(|| tokenizer.text(id));
            scored.tokens.push(ScoredToken { id, text, nats, rank, unknown: spelling });
            if at.is_none_or(ends) {
                line(&scored)?;
                scored = ScoredLine { number: scored.number + 1, ..ScoredLine::default() };
            }
        }
    }
    if !scored.tokens.is_empty() {
        line(&scored)?;
    }
    Ok(pass.total())
}

/// Refuses a text with a line whose scores do not fit the memory, of which `free` bytes are free: a line is handed on as one.
fn check_memory(corpus: &Corpus, free: Option<u64>, ends: impl Fn(usize) -> bool) -> Result<(), TextError> {
    /// Of a token, with the text of it.
    const BYTES: u64 = size_of::<ScoredToken>() as u64 + 32;
    let Some(free) = free.filter(|free| corpus.ids.len() as u64 * BYTES > *free) else { return Ok(()) };
    let (mut line, mut start) = (1, 0);
    for at in 0..corpus.ids.len() {
        let tokens = (at + 1 - start) as u64;
        if tokens * BYTES > free {
            return Err(TextError::Unusable(format!(
                "line {line} has more than {tokens} tokens, whose scores take more than the {} of memory that are free; cut it, or \
                 measure the text as a whole, by: lstm eval",
                size(free.into())
            )));
        }
        if ends(at) {
            (line, start) = (line + 1, at + 1);
        }
    }
    Ok(())
}

/// The places of the predicted tokens in the order of a text, `None` for the ends of lines that batches put there.
fn places(corpus: &Corpus, batching: Batching) -> Box<dyn Iterator<Item = Option<usize>> + '_> {
    let first = match batching {
        Batching::Stream => return Box::new((0..corpus.ids.len()).map(Some)),
        Batching::Lines => 1,
        Batching::Windows(n) => n,
    };
    Box::new((0..corpus.line_starts.len()).flat_map(move |line| {
        let range = corpus.line(line);
        // With its end.
        let length = range.len() + 1;
        (first.min(length)..=length).map(move |at| (at < length).then(|| range.start + at - 1))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenizer::{Tokenizer, TokenizerKind, VocabularyOptions};

    #[test]
    fn a_line_whose_scores_do_not_fit_the_memory_is_named() {
        let source = Source::from_text(&format!("short\n{}\nshort\n", "long".repeat(1000)));
        let tokenizer = Tokenizer::build(TokenizerKind::Chars, &source, VocabularyOptions::default(), false).unwrap();
        let corpus = Corpus::read(&source, &tokenizer, false).unwrap();
        let ends = |at: usize| tokenizer.ends_line(corpus.ids.get(at));
        let error = check_memory(&corpus, Some(100_000), ends).unwrap_err().to_string();
        assert!(error.contains("line 2 has more than") && error.contains("lstm eval"), "{error}");
        assert!(check_memory(&corpus, Some(10_000_000), ends).is_ok() && check_memory(&corpus, None, ends).is_ok());
        // Many lines that fit one by one are no trouble.
        let source = Source::from_text(&"some words in a line\n".repeat(1000));
        let corpus = Corpus::read(&source, &tokenizer, true).unwrap();
        let ends = |at: usize| at % 21 == 20;
        assert!(check_memory(&corpus, Some(100_000), ends).is_ok());
    }
}
