//! A tokenizer: its vocabulary, and a text into tokens.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kind::TokenizerKind;
use super::pieces;
use super::subwords::Subwords;
use crate::text::TextError;
use crate::text::spelling::Spelling;

pub(super) const UNK: &str = "<unk>";
pub(super) const EOS: &str = "<eos>";
pub(super) const SOS: &str = "<sos>";
pub(super) const PAD: &str = "<pad>";

/// The version of the `tokenizer.json` this program writes: with what is known of the training text. Before there are that,
/// it is the first, or with subwords the second.
pub(super) const VERSION: u32 = 3;

/// A tokenizer and its vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    pub(super) stored: Stored,
    pub(super) ids: HashMap<String, u32>,
    /// The subwords; their tokens come first.
    pub(super) subwords: Option<Arc<Subwords>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    pub(super) version: u32,
    pub(super) kind: TokenizerKind,
    pub(super) line_markers: bool,
    /// All tokens; with subwords, those that are added to theirs.
    pub(super) tokens: Vec<String>,
    /// The `tokenizer.json` of the library that makes subwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subwords: Option<serde_json::Value>,
    /// How words without a token are spelled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) spelling: Option<Spelling>,
    /// The tokens that the training text has not, in runs: the first and the last of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unseen: Option<Vec<(u32, u32)>>,
}

impl Tokenizer {
    pub(super) fn of_subwords(kind: TokenizerKind, subwords: Subwords, line_markers: bool) -> Self {
        let known = subwords.tokens();
        let mut tokens = if subwords.keeps_line_feeds() { Vec::new() } else { vec![EOS] };
        if line_markers {
            tokens = vec![PAD, SOS, EOS];
        }
        let tokens = tokens.into_iter().map(str::to_owned).filter(|token| !known.contains(token)).collect();
        let document = Some(subwords.document().clone());
        let stored =
            Stored { version: 2, kind, line_markers, tokens, subwords: document, spelling: None, unseen: None };
        Self::new(stored, Some(subwords))
    }

    pub(super) fn new(mut stored: Stored, subwords: Option<Subwords>) -> Self {
        if let Some(subwords) = &subwords {
            stored.tokens.splice(0..0, subwords.tokens());
        }
        let ids = stored.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect();
        Self { stored, ids, subwords: subwords.map(Arc::new) }
    }

    /// The kind of tokens.
    pub fn kind(&self) -> TokenizerKind {
        self.stored.kind
    }

    /// V, the number of tokens.
    pub fn vocabulary_size(&self) -> usize {
        self.stored.tokens.len()
    }

    /// The text of a token.
    pub fn token(&self, id: u32) -> &str {
        self.stored.tokens.get(id as usize).map_or(UNK, String::as_str)
    }

    /// The text that a token stands for, as people read it: white space is itself, and bytes that are no whole character are
    /// `\\xNN`. What stands for no text has its name.
    pub fn text(&self, id: u32) -> String {
        match &self.subwords {
            Some(subwords) => subwords.text(id).unwrap_or_else(|| self.token(id).to_owned()),
            None if self.kind() == TokenizerKind::Bytes && id < 256 => pieces::readable(&[id as u8]),
            None => self.token(id).to_owned(),
        }
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// The id of `<unk>`; bytes and pairs of them have none.
    pub fn unknown(&self) -> Option<u32> {
        match &self.subwords {
            Some(subwords) => subwords.unknown(),
            None => self.id(UNK),
        }
    }

    /// The id of `<eos>`, the end of a line.
    pub fn eos(&self) -> Option<u32> {
        self.id(EOS)
    }

    /// The id of `<sos>`, the start of a line.
    pub fn sos(&self) -> Option<u32> {
        self.id(SOS)
    }

    /// The id of `<pad>`.
    pub fn pad(&self) -> Option<u32> {
        self.id(PAD)
    }

    /// Whether a line ends with this token.
    pub fn ends_line(&self, id: u32) -> bool {
        match &self.subwords {
            _ if self.eos() == Some(id) => true,
            Some(subwords) => subwords.keeps_line_feeds() && subwords.decode(&[id]).ends_with('\n'),
            None => self.line_feed() == Some(id),
        }
    }

    /// The token that a line feed is, where it is one by itself.
    fn line_feed(&self) -> Option<u32> {
        match (&self.subwords, self.kind()) {
            (Some(subwords), _) => {
                let mut ids = Vec::new();
                subwords.encode("\n", &mut |id, _| ids.push(id)).ok()?;
                ids.last().copied().filter(|_| subwords.keeps_line_feeds())
            }
            (None, TokenizerKind::Bytes) => self.id("<0x0A>"),
            (None, _) => self.id("\n"),
        }
    }

    /// The token before the first of a stream: the end of a line.
    pub fn start(&self) -> u32 {
        self.eos().or_else(|| self.line_feed()).or_else(|| self.unknown()).unwrap_or(0)
    }

    /// Whether a text takes so long to encode that several threads should share it.
    pub(crate) fn is_slow(&self) -> bool {
        self.subwords.is_some()
    }

    /// Hands the tokens of one line to `token(id, unknown)`, where `unknown` is the text of what has no token and became the
    /// unknown one. A line that ends also ends as a token, unless the markers are added by the batches.
    ///
    /// # Errors
    /// A text that a tokenizer from a file has no tokens for.
    pub(crate) fn encode_line(
        &self,
        line: &[u8],
        text: &str,
        ended: bool,
        token: &mut dyn FnMut(u32, Option<&str>),
    ) -> Result<(), TextError> {
        if let Some(subwords) = &self.subwords {
            let ends_itself = subwords.keeps_line_feeds() && !self.line_markers();
            subwords.encode(if ends_itself { text } else { text.trim_end_matches('\n') }, token)?;
            if let Some(eos) = self.eos().filter(|_| ended && !ends_itself && !self.line_markers()) {
                token(eos, None);
            }
            return Ok(());
        }
        let unknown = self.unknown().unwrap_or(0);
        let mut put = |piece: &str| match self.id(piece) {
            Some(id) => token(id, None),
            None => token(unknown, Some(piece)),
        };
        let (kind, line_markers) = (self.kind(), self.stored.line_markers);
        if kind == TokenizerKind::Bytes {
            pieces::encode_bytes(line, line_markers, &mut |id| token(id, None));
            return Ok(());
        }
        pieces::split(kind, text, line_markers, &mut put);
        if ended && kind.ends_lines() && !line_markers {
            put(EOS);
        }
        Ok(())
    }

    /// How words without a token are spelled out; `None` where it is not known, or where every text has tokens.
    pub fn spelling(&self) -> Option<&Spelling> {
        self.stored.spelling.as_ref()
    }

    /// The tokens that the training text has not; `None` where that was not noted.
    pub fn unseen(&self) -> Option<Vec<u32>> {
        let runs = self.stored.unseen.as_ref()?;
        let size = self.vocabulary_size() as u32;
        Some(runs.iter().flat_map(|&(first, last)| first..last.saturating_add(1).min(size)).collect())
    }

    /// Whether the batches put `<sos>` and `<eos>` around lines.
    pub fn line_markers(&self) -> bool {
        self.stored.line_markers
    }

    /// The tokens of a piece of text, such as a prompt; where lines have markers, what ends in it does so with `<eos>`.
    ///
    /// # Errors
    /// A text that a tokenizer from a file has no tokens for.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        for line in text.split_inclusive('\n') {
            let ended = line.ends_with('\n');
            self.encode_line(line.as_bytes(), line, ended, &mut |id, _| ids.push(id))?;
            ids.extend(self.eos().filter(|_| ended && self.line_markers()));
        }
        Ok(ids)
    }
}
