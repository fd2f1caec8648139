//! Where documents end in what is read and written token by token, as they do in the training text.

use crate::text::documents::Documents;
use crate::text::tokenizer::Tokenizer;

/// The ends of documents, in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentEnds {
    documents: Documents,
    /// The place of each token in a line: `[V]`.
    kinds: Vec<Kind>,
    /// Of [`Documents::After`]: the tokens of the delimiter; empty if it has none of its own.
    delimiter: Vec<u32>,
    /// Whether the next document begins right behind it, in the same line: then its first token is drawn as that of a document.
    inline: bool,
}

/// The part of a token in the lines it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    WhiteSpace,
    LineEnd,
}

/// Whether a document ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Not,
    /// Before the token, which is the first of the next.
    Before,
    /// With the token.
    With,
}

/// Where a row is in its document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place {
    /// The last tokens, as many as the delimiter has.
    last: Vec<u32>,
    /// Whether there was something else than white space in the line.
    has_text: bool,
    /// Whether the delimiter was read; a line feed behind it is its own.
    delimited: bool,
}

impl DocumentEnds {
    /// Those of a tokenizer's tokens. inline: whether documents that a text delimits go on in its line.
    pub fn of(documents: &Documents, tokenizer: &Tokenizer, inline: bool) -> Self {
        let kind = |id| {
            let blank = || tokenizer.decoder("x ").push(id).iter().all(u8::is_ascii_whitespace);
            match tokenizer.ends_line(id) {
                true => Kind::LineEnd,
                false if blank() => Kind::WhiteSpace,
                false => Kind::Text,
            }
        };
        let delimiter = match documents {
            Documents::After(delimiter) => tokenizer.encode(delimiter).unwrap_or_default(),
            Documents::Blank | Documents::Line => Vec::new(),
        };
        // What is unknown could be anything.
        let known = delimiter.iter().all(|&id| Some(id) != tokenizer.unknown());
        Self {
            documents: documents.clone(),
            kinds: (0..tokenizer.vocabulary_size() as u32).map(kind).collect(),
            delimiter: if known { delimiter } else { Vec::new() },
            inline,
        }
    }
}

impl Place {
    /// Reads a token.
    pub(super) fn read(&mut self, ends: &DocumentEnds, token: u32) -> End {
        let kind = ends.kinds.get(token as usize).copied().unwrap_or(Kind::Text);
        let ends_line = kind == Kind::LineEnd;
        let was_empty = !self.has_text;
        self.has_text = !ends_line && (self.has_text || kind == Kind::Text);
        match &ends.documents {
            Documents::Line if ends_line => End::With,
            Documents::Blank if ends_line && was_empty => End::With,
            Documents::Line | Documents::Blank => End::Not,
            Documents::After(_) => {
                let delimited = std::mem::take(&mut self.delimited);
                self.last.push(token);
                self.last.drain(..self.last.len().saturating_sub(ends.delimiter.len()));
                if delimited && ends_line {
                    return End::With;
                }
                self.delimited = !ends.delimiter.is_empty() && self.last == ends.delimiter;
                if self.delimited {
                    // No token is of two delimiters.
                    self.last.clear();
                }
                if ends.inline && self.delimited {
                    return End::With;
                }
                if delimited && kind == Kind::WhiteSpace {
                    self.delimited = true;
                    return End::Not;
                }
                if delimited && !ends.inline { End::Before } else { End::Not }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::source::Source;
    use crate::text::tokenizer::{TokenizerKind, VocabularyOptions};

    /// A mark behind every token of `text` with which a document ends, and before one of the next.
    fn marked(documents: &Documents, kind: TokenizerKind, text: &str) -> String {
        marked_by(documents, kind, text, false)
    }

    fn marked_by(documents: &Documents, kind: TokenizerKind, text: &str, inline: bool) -> String {
        let options = VocabularyOptions { min_count: Some(1), ..Default::default() };
        let tokenizer = Tokenizer::build(kind, &Source::from_text(text), options, false).unwrap();
        let ends = DocumentEnds::of(documents, &tokenizer, inline);
        let mut place = Place::default();
        let mut marked = String::new();
        let mut decoder = tokenizer.decoder("");
        for id in tokenizer.encode(text).unwrap() {
            let end = place.read(&ends, id);
            marked.push_str(if end == End::Before { "|" } else { "" });
            marked.push_str(&String::from_utf8(decoder.push(id)).unwrap());
            marked.push_str(if end == End::With { "|" } else { "" });
        }
        marked
    }

    #[test]
    fn documents_end_where_they_do_in_training() {
        let after = Documents::After("%%".to_owned());
        let text = "a b\n\nc\n \nd\n";
        assert_eq!(marked(&Documents::Blank, TokenizerKind::Chars, text), "a b\n\n|c\n \n|d\n");
        assert_eq!(marked(&Documents::Line, TokenizerKind::Chars, "a b\nc\n"), "a b\n|c\n|");
        assert_eq!(marked(&after, TokenizerKind::Chars, "a%b%%\nc%%d %% \ne"), "a%b%%\n|c%%|d %% \n|e");
        assert_eq!(marked(&Documents::Blank, TokenizerKind::Words, "a b\n\nc\nd\n"), "a b\n\n|c\nd\n");
        assert_eq!(marked(&after, TokenizerKind::Words, "a b\n%%\nc d\n"), "a b\n%%\n|c d\n");
        // Where they go on in the line, the next begins with what follows, and a line feed is the delimiter's all the same.
        let inline = |kind, text| marked_by(&after, kind, text, true);
        assert_eq!(inline(TokenizerKind::Chars, "a%b%%c%%%%d\n%% \ne"), "a%b%%|c%%|%%|d\n%%| \n|e");
        assert_eq!(inline(TokenizerKind::Words, "a %% b\n"), "a %%| b\n");
    }
}
