//! The kinds of tokens: their names, and what is to be known of each outside of the tokenizers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::setting::ConfigError;

/// A kind of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// A word: all between white space; every line ends with `<eos>`.
    #[default]
    Words,
    /// A Unicode character.
    Chars,
    /// A byte.
    Bytes,
    /// A piece of a word made of frequent pairs of bytes.
    Bpe,
    /// A piece of a word, one of those that make the text likeliest.
    Unigram,
    /// A piece of a word; a word begins where a piece has no mark.
    Wordpiece,
    /// As a `tokenizer.json` says.
    File,
}

impl TokenizerKind {
    /// The word for many of its tokens.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Chars => "chars",
            Self::Bytes => "bytes",
            Self::Bpe | Self::Unigram | Self::Wordpiece | Self::File => "subwords",
        }
    }

    /// Whether the end of a line is a token of its own, `<eos>`, where no markers stand around lines.
    pub(super) fn ends_lines(self) -> bool {
        self == Self::Words
    }

    /// Whether its subwords are trained on the text.
    pub(crate) fn is_trained(self) -> bool {
        matches!(self, Self::Bpe | Self::Unigram | Self::Wordpiece)
    }

    /// Whether a vocabulary of it can be cut: rare tokens left out, and a most of them set; and if not, why.
    pub fn cuts(self) -> ([bool; 2], &'static str) {
        match self {
            Self::Words | Self::Chars => ([true, true], ""),
            Self::Bytes => ([false, false], "the vocabulary is the 256 bytes"),
            Self::File => ([false, false], "the vocabulary is the file's"),
            Self::Bpe | Self::Unigram | Self::Wordpiece => ([false, true], "rare words are made of subwords"),
        }
    }

    /// About how many tokens a line is, its end with it where it `ended`.
    pub(crate) fn expected(self, line: &[u8], ended: bool) -> usize {
        match self {
            Self::Chars => line.iter().filter(|&&byte| byte & 0xC0 != 0x80).count(),
            Self::Bytes => line.len(),
            // A word is a subword at least.
            _ => line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count() + usize::from(ended),
        }
    }

    /// Whether its tokens are characters or bytes, not words or parts of them.
    pub(crate) fn is_of_characters(self) -> bool {
        matches!(self, Self::Chars | Self::Bytes)
    }
}

impl fmt::Display for TokenizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Words => "words",
            Self::Chars => "chars",
            Self::Bytes => "bytes",
            Self::Bpe => "bpe",
            Self::Unigram => "unigram",
            Self::Wordpiece => "wordpiece",
            Self::File => "file",
        })
    }
}

impl FromStr for TokenizerKind {
    type Err = ConfigError;

    /// The kinds that are made from the training text.
    fn from_str(value: &str) -> Result<Self, ConfigError> {
        match value {
            "words" => Ok(Self::Words),
            "chars" => Ok(Self::Chars),
            "bytes" => Ok(Self::Bytes),
            "bpe" => Ok(Self::Bpe),
            "unigram" => Ok(Self::Unigram),
            "wordpiece" => Ok(Self::Wordpiece),
            _ => Err(ConfigError::Unknown {
                kind: "tokenizer",
                value: value.to_owned(),
                choices: "words, chars, bytes, bpe, unigram, wordpiece",
            }),
        }
    }
}
