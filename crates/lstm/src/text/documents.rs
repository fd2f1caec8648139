//! How a text is to be read: where its documents begin, between which no state is carried, and what ends its lines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::nn::config::ConfigError;

/// Where a document ends and the next begins, with a fresh state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Documents {
    /// After every empty line.
    Blank,
    /// After every line.
    Line,
    /// After every place where this stands, and the line feed behind it.
    After(String),
}

impl fmt::Display for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("blank"),
            Self::Line => f.write_str("line"),
            Self::After(delimiter) => f.write_str(delimiter),
        }
    }
}

impl FromStr for Documents {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        match value.to_ascii_lowercase().as_str() {
            "blank" => Ok(Self::Blank),
            "line" => Ok(Self::Line),
            _ if value.trim().is_empty() || value.contains(['\n', '\r']) => Err(ConfigError::Unknown {
                kind: "delimiter of documents",
                value: value.escape_debug().to_string(),
                choices: "blank (an empty line), line (every line is a document), or what stands between two, such as \
                          <|endoftext|>, within a line",
            }),
            _ => Ok(Self::After(value.to_owned())),
        }
    }
}

impl Serialize for Documents {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Documents {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Documents {
    /// The ends of the pieces of a line, and which of them end a document. line: a line, or a piece of a long one;
    /// `opens` and `ended`: whether it begins and ends one.
    pub(super) fn cut(&self, line: &[u8], opens: bool, ended: bool) -> Vec<(usize, bool)> {
        let blank = || opens && ended && line.iter().all(u8::is_ascii_whitespace);
        match self {
            Self::Line => vec![(line.len(), ended)],
            Self::Blank => vec![(line.len(), blank())],
            Self::After(delimiter) => {
                let delimiter = delimiter.as_bytes();
                let (mut cuts, mut from) = (Vec::new(), 0);
                while let Some(at) = line[from..].windows(delimiter.len()).position(|part| part == delimiter) {
                    let (start, mut end) = (from + at, from + at + delimiter.len());
                    if ended && line[end..].iter().all(u8::is_ascii_whitespace) {
                        end = line.len();
                    }
                    if start > from {
                        cuts.push((start, false));
                    }
                    cuts.push((end, true));
                    from = end;
                }
                if from < line.len() {
                    cuts.push((line.len(), false));
                }
                cuts
            }
        }
    }

    /// How many of the last bytes may be the beginning of a delimiter.
    pub(super) fn begun(&self, piece: &[u8]) -> usize {
        let Self::After(delimiter) = self else { return 0 };
        (1..delimiter.len()).rev().find(|&n| piece.ends_with(&delimiter.as_bytes()[..n])).unwrap_or(0)
    }
}

/// The end of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineEnds {
    /// A line feed; a carriage return before it is dropped.
    #[default]
    Lf,
    /// A line feed; a carriage return before it is a character like any other.
    Keep,
}

impl fmt::Display for LineEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lf => "lf",
            Self::Keep => "keep",
        })
    }
}

impl FromStr for LineEnds {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        match value {
            "lf" => Ok(Self::Lf),
            "keep" => Ok(Self::Keep),
            _ => Err(ConfigError::Unknown { kind: "way of line ends", value: value.to_owned(), choices: "lf, keep" }),
        }
    }
}

/// How a text is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The ends of its lines.
    pub line_ends: LineEnds,
    /// Where its documents begin; `None` for one document.
    pub documents: Option<Documents>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_read_and_nonsense_is_not() {
        assert_eq!("BLANK".parse::<Documents>().unwrap(), Documents::Blank);
        assert_eq!("line".parse::<Documents>().unwrap(), Documents::Line);
        assert_eq!("<|end|>".parse::<Documents>().unwrap(), Documents::After("<|end|>".to_owned()));
        for text in ["", " ", "a\nb"] {
            assert!(text.parse::<Documents>().unwrap_err().to_string().contains("blank (an empty line)"), "{text:?}");
        }
    }

    #[test]
    fn a_delimiter_belongs_to_the_document_it_ends() {
        let after = Documents::After("<e>".to_owned());
        assert_eq!(after.cut(b"a b<e>c\n", true, true), [(3, false), (6, true), (8, false)]);
        assert_eq!(after.cut(b"<e> \n", true, true), [(5, true)]);
        assert_eq!(after.cut(b"<e><e>x", true, false), [(3, true), (6, true), (7, false)]);
        assert_eq!(Documents::Blank.cut(b" \n", true, true), [(2, true)]);
        assert_eq!(Documents::Blank.cut(b" \n", false, true), [(2, false)]);
        assert_eq!([after.begun(b"ab<e"), after.begun(b"ab"), Documents::Line.begun(b"<e")], [2, 0, 0]);
    }
}
