//! The tokens that a text will have, foreseen before it is read, and whether they fit the memory.

use super::TextError;
use super::lines::visit_lines;
use super::source::{Source, size};
use super::tokenizer::kind::TokenizerKind;
use crate::free_memory::free_memory;

/// The bytes of a text that are looked at to tell how many tokens it has.
const SAMPLE: u64 = 4 << 20;

impl Source {
    /// About how many tokens the text has, by those of its first megabytes; `None` for one so short that it does not
    /// matter.
    pub(super) fn expected_tokens(&self, kind: TokenizerKind) -> Result<Option<u64>, TextError> {
        if self.bytes() <= SAMPLE {
            return Ok(None);
        }
        let (sample, _) = self.cut(SAMPLE)?;
        let mut tokens = 0;
        visit_lines(&sample, &mut |line| {
            tokens += kind.expected(line.bytes, line.ended);
            Ok(())
        })?;
        Ok(Some((tokens as u128 * u128::from(self.bytes()) / u128::from(sample.bytes())) as u64))
    }

    /// Refuses a text whose ids, of `width` bytes each, do not fit the free memory; else gives the number of tokens to
    /// make room for.
    pub(crate) fn check_memory(&self, kind: TokenizerKind, width: u64) -> Result<usize, TextError> {
        let expected = self.expected_tokens(kind)?.unwrap_or(0);
        match free_memory() {
            Some(free) if expected.saturating_mul(width) > free => Err(TextError::Unusable(format!(
                "{} has {} of text, which takes {} of memory as token ids, but {} are free; use a shorter text (for \
                 validation a few megabytes are plenty)",
                self.name(),
                size(self.bytes()),
                size(expected.saturating_mul(width)),
                size(free)
            ))),
            _ => Ok(expected as usize),
        }
    }
}
