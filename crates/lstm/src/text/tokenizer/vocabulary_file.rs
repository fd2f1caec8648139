//! A vocabulary from a file with one word a line.

use std::collections::HashSet;
use std::path::Path;

use super::kind::TokenizerKind;
use super::tokens::{Stored, Tokenizer};
use crate::formats::FormatError;

impl Tokenizer {
    /// Reads what a model's tokens are: a `tokenizer.json`, for texts with or without markers around their lines, or words, one a line,
    /// the first that of row 0.
    ///
    /// # Errors
    /// A file that cannot be read or is neither; a line that is empty or there twice.
    pub fn read_vocabulary(path: &Path, line_markers: bool) -> Result<Self, FormatError> {
        let bytes = std::fs::read(path).map_err(|source| FormatError::Read { path: path.to_owned(), source })?;
        let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        if is_json && path.extension().is_some_and(|extension| extension == "json") {
            return Self::import(path, line_markers);
        }
        let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
            unusable(format!("line {line} is not UTF-8; give a vocabulary with one word a line, or a tokenizer.json"))
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut seen = HashSet::new();
        let mut words = Vec::new();
        for (index, word) in text.lines().enumerate() {
            let line = index + 1;
            if word.is_empty() {
                return Err(unusable(format!("line {line} is empty; a vocabulary has one word a line, row by row")));
            }
            if word.contains(char::is_whitespace) {
                return Err(unusable(format!(
                    "line {line} has white space in it ({word:?}); a vocabulary has one word a line and nothing else"
                )));
            }
            if !seen.insert(word) {
                return Err(unusable(format!(
                    "line {line} has {word} again; every row of a vocabulary is another word"
                )));
            }
            words.push(word.to_owned());
        }
        if words.is_empty() {
            return Err(unusable("it is empty; a vocabulary has one word a line".to_owned()));
        }
        let (kind, line_markers) = (TokenizerKind::Words, false);
        let stored =
            Stored { version: 1, kind, line_markers, tokens: words, subwords: None, spelling: None, unseen: None };
        Ok(Self::new(stored, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_rows_and_odd_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.txt");
        let read = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            Tokenizer::read_vocabulary(&path, false)
        };
        let words = read("the\r\n<unk>\r\n<eos>\r\nGrüße".as_bytes()).unwrap();
        assert_eq!(words.vocabulary_size(), 4);
        assert_eq!(words.encode("Grüße the x\n").unwrap(), [3, 0, 1, 2]);
        for (text, expected) in [
            (&b""[..], "it is empty"),
            (b"a\n\nb", "line 2 is empty"),
            (b"a\nb c", "line 2 has white space"),
            (b"a\nb\na", "line 3 has a again"),
            (b"a\n\xff", "line 2 is not UTF-8"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
