//! A tokenizer made of a training text: its vocabulary, and what else the text says.

use std::collections::HashMap;

use super::extend::runs;
use super::kind::TokenizerKind;
use super::pieces;
use super::subwords::{Method, Subwords};
use super::tokens::{EOS, PAD, SOS, Stored, Tokenizer, VERSION};
use super::vocabulary::{VocabularyOptions, counted};
use crate::text::TextError;
use crate::text::lines::visit_text;
use crate::text::source::Source;
use crate::text::spelling::Spelling;

/// The most subwords to make if nothing is said.
pub(super) const SUBWORDS: usize = 8000;

impl Tokenizer {
    /// Counts `source` and keeps its vocabulary: by falling count, then by first appearance.
    ///
    /// # Errors
    /// A text that cannot be read, or a vocabulary too small for it.
    pub fn build(
        kind: TokenizerKind,
        source: &Source,
        options: VocabularyOptions,
        lossy: bool,
    ) -> Result<Self, TextError> {
        if let Some(method) = Method::of(kind) {
            let size = options.max_size.unwrap_or(SUBWORDS);
            // One of them ends a line where no subword does, others are around lines.
            let added = if options.line_markers { 3 } else { usize::from(method != Method::Pairs) };
            let subwords = Subwords::train(method, source, size.saturating_sub(added), lossy)?;
            return Ok(Self::of_subwords(kind, subwords, options.line_markers));
        }
        let mut tokens = match kind {
            TokenizerKind::Bytes => pieces::every_byte(),
            _ => counted(kind, source, options, lossy)?,
        };
        if options.line_markers {
            for marker in [PAD, SOS, EOS] {
                if !tokens.iter().any(|token| token == marker) {
                    tokens.push(marker.to_owned());
                }
            }
        }
        let line_markers = options.line_markers;
        let stored = Stored { version: 1, kind, line_markers, tokens, subwords: None, spelling: None, unseen: None };
        Ok(Self::new(stored, None))
    }

    /// Takes what a training text says beside the vocabulary: the tokens it has, and how words without one are spelled.
    /// counts: how often it has each token; unknown: in how many places it has a word without one.
    ///
    /// # Errors
    /// A text that cannot be read.
    pub(crate) fn learn(
        &mut self,
        source: &Source,
        counts: &[u64],
        unknown: usize,
        lossy: bool,
    ) -> Result<(), TextError> {
        let unseen = runs((0..).zip(counts).filter(|(_, count)| **count == 0).map(|(id, _)| id));
        let spelling = match self.unknown() {
            Some(id) => {
                let literal = counts[id as usize].saturating_sub(unknown as u64);
                Some(Spelling::of_words(self.words_without_tokens(source, lossy)?, unknown as u64, literal))
            }
            None => None,
        };
        (self.stored.version, self.stored.spelling, self.stored.unseen) = (VERSION, spelling, Some(unseen));
        Ok(())
    }

    /// The words of a text that have no token and how often each occurs, by pieces from all over it; where there are few, the
    /// rarest words beside them, which new ones are most like.
    fn words_without_tokens(&self, source: &Source, lossy: bool) -> Result<HashMap<String, u64>, TextError> {
        /// The bytes that are looked at.
        const LOOKED_AT: u64 = 4 << 20;
        /// So many different words are enough.
        const ENOUGH: usize = 1000;
        let mut words: HashMap<String, u64> = HashMap::new();
        let of_characters = self.kind() == TokenizerKind::Chars;
        let mut buffer = [0; 4];
        let mut count = |word: &str| match words.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(words.insert(word.to_owned(), 1)),
        };
        visit_text(&source.sample(LOOKED_AT)?, lossy, false, &mut |line, _| {
            if of_characters {
                line.chars().filter(|c| *c != '\n').for_each(|c| count(c.encode_utf8(&mut buffer)));
            } else {
                line.split_whitespace().for_each(&mut count);
            }
        })?;
        let mut sorted: Vec<(String, u64)> = words.into_iter().collect();
        sorted.sort_unstable_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        let mut without: HashMap<String, u64> = HashMap::new();
        for (word, count) in &sorted {
            self.encode_line(word.as_bytes(), word, false, &mut |_, unknown| {
                if let Some(unknown) = unknown {
                    *without.entry(unknown.to_owned()).or_default() += count;
                }
            })?;
        }
        let missing = ENOUGH.saturating_sub(without.len());
        let mut rarest = 0;
        for (at, (word, count)) in sorted.iter().enumerate() {
            rarest = if at < missing { *count } else { rarest };
            if *count > rarest || missing == 0 || of_characters {
                break;
            }
            without.entry(word.clone()).or_insert(1);
        }
        Ok(without)
    }
}
