//! Tokens back into text.

use super::{EOS, Tokenizer, TokenizerKind, words};

/// Turns tokens into text, one after the other: words are parted by spaces, `<eos>` ends a line.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    /// Whether the next word needs no space before it.
    pub(super) at_start: bool,
    /// Of subwords: those of the line so far, and the text that was given for them.
    pub(super) line: Vec<u32>,
    pub(super) written: String,
}

/// Subwords of a line that are decoded together at most; of more only the later half, so that a long line takes no longer.
pub(super) const DECODED: usize = 128;

impl Decoder<'_> {
    /// The bytes that the next token adds. Those of a character that is not whole yet are held back.
    pub fn push(&mut self, id: u32) -> Vec<u8> {
        let (kind, token) = (self.tokenizer.kind(), self.tokenizer.token(id));
        let bytes = match (&self.tokenizer.subwords, kind, token) {
            (Some(_), _, EOS) => {
                let mut bytes = self.finish();
                bytes.push(b'\n');
                bytes
            }
            (Some(subwords), ..) => {
                self.line.push(id);
                let text = subwords.decode(&self.line);
                if text.ends_with(char::REPLACEMENT_CHARACTER) && self.line.len() < 2 * DECODED {
                    return Vec::new();
                }
                self.write(&text)
            }
            (None, _, EOS) => b"\n".to_vec(),
            (None, TokenizerKind::Words, _) => words::written(token, self.at_start),
            (None, TokenizerKind::Bytes, _) if id < 256 => vec![id as u8],
            (None, ..) => token.as_bytes().to_vec(),
        };
        self.at_start = bytes.ends_with(b"\n");
        bytes
    }

    /// The bytes that were kept back, when no token follows.
    pub fn finish(&mut self) -> Vec<u8> {
        let bytes = match &self.tokenizer.subwords {
            Some(subwords) => self.write(&subwords.decode(&self.line)),
            None => Vec::new(),
        };
        self.line.clear();
        self.written.clear();
        bytes
    }

    /// The bytes that `text`, that of the line so far, adds to those that were written.
    fn write(&mut self, text: &str) -> Vec<u8> {
        let same = text.bytes().zip(self.written.bytes()).take_while(|(a, b)| a == b).count();
        let added = text.as_bytes()[same..].to_vec();
        self.written = text.to_owned();
        if text.ends_with('\n') {
            self.line.clear();
            self.written.clear();
        } else if self.line.len() >= DECODED {
            self.line.drain(..DECODED / 2);
            self.written = self.tokenizer.subwords.as_ref().map_or(String::new(), |s| s.decode(&self.line));
        }
        added
    }
}
