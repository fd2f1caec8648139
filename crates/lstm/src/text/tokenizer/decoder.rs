//! Tokens back into text.

use super::pieces;
use super::tokens::{EOS, Tokenizer};

/// Turns tokens into text, one after the other: words are parted by spaces, `<eos>` ends a line.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Whether the next word needs no space before it.
    at_start: bool,
    /// Of subwords: those of the line so far, and the text that was given for them.
    line: Vec<u32>,
    written: String,
}

/// Subwords of a line that are decoded together at most; of more only the later half, so that a long line takes no longer.
pub(super) const DECODED: usize = 128;

impl Tokenizer {
    /// A decoder of tokens into text that goes on from `before`.
    pub fn decoder(&self, before: &str) -> Decoder<'_> {
        let at_start = before.is_empty() || before.ends_with(['\n', ' ']);
        let mut decoder = Decoder { tokenizer: self, at_start, line: Vec::new(), written: String::new() };
        let started = before.rsplit('\n').next().unwrap_or("");
        if let Some(subwords) = self.subwords.as_ref().filter(|_| !started.is_empty()) {
            // What no token stands for is not gone on from.
            let _ = subwords.encode(started, &mut |id, _| decoder.line.push(id));
            decoder.written = subwords.decode(&decoder.line);
            if started.ends_with(' ') && !decoder.written.ends_with(' ') {
                decoder.written.push(' ');
            }
        }
        decoder
    }
}

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
            (None, ..) => pieces::written(kind, id, token, self.at_start),
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
