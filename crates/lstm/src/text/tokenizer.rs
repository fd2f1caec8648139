//! Tokenizers: words, characters, bytes. A vocabulary comes from the training text alone.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::TextError;
use super::corpus::{Source, visit_text};
use crate::config::ConfigError;
use crate::formats::{FormatError, write_bytes};

/// What a token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// What stands between white space; every line ends with `<eos>`.
    #[default]
    Words,
    /// A Unicode character.
    Chars,
    /// A byte.
    Bytes,
}

impl fmt::Display for TokenizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Words => "words",
            Self::Chars => "chars",
            Self::Bytes => "bytes",
        })
    }
}

impl FromStr for TokenizerKind {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        match value {
            "words" => Ok(Self::Words),
            "chars" => Ok(Self::Chars),
            "bytes" => Ok(Self::Bytes),
            _ => {
                Err(ConfigError::Unknown { kind: "tokenizer", value: value.to_owned(), choices: "words, chars, bytes" })
            }
        }
    }
}

/// How a vocabulary is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VocabularyOptions {
    /// Rarer tokens become `<unk>`. `None`: 2 for words of a text without a literal `<unk>`, so that the model meets
    /// unknown words in training; else 1.
    pub min_count: Option<u64>,
    /// The most tokens to keep, the most frequent ones.
    pub max_size: Option<usize>,
    /// Whether lines are read one by one, with `<pad>`, `<sos>` and `<eos>` around them.
    pub line_markers: bool,
}

const UNK: &str = "<unk>";
const EOS: &str = "<eos>";
const SOS: &str = "<sos>";
const PAD: &str = "<pad>";

/// The version of the `tokenizer.json` this program writes.
const VERSION: u32 = 1;

/// A tokenizer and its vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    stored: Stored,
    ids: HashMap<String, u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stored {
    version: u32,
    kind: TokenizerKind,
    line_markers: bool,
    tokens: Vec<String>,
}

impl Tokenizer {
    /// Counts `source` and keeps its vocabulary: by falling count, then by first appearance.
    ///
    /// # Errors
    /// A text that cannot be read.
    pub fn build(
        kind: TokenizerKind,
        source: &Source,
        options: VocabularyOptions,
        lossy: bool,
    ) -> Result<Self, TextError> {
        let mut tokens: Vec<String> = Vec::new();
        if kind == TokenizerKind::Bytes {
            tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
        } else {
            let mut counts: HashMap<String, (u64, usize)> = HashMap::new();
            let mut line_ends = 0u64;
            let mut count = |token: &str| {
                if let Some(entry) = counts.get_mut(token) {
                    entry.0 += 1;
                } else {
                    let order = counts.len();
                    counts.insert(token.to_owned(), (1, order));
                }
            };
            let mut buffer = [0; 4];
            visit_text(source, lossy, false, &mut |line, ended| match kind {
                TokenizerKind::Words => {
                    line.split_whitespace().for_each(&mut count);
                    line_ends += u64::from(ended);
                }
                _ => {
                    let text = if options.line_markers { line.trim_end_matches('\n') } else { line };
                    text.chars().for_each(|c| count(c.encode_utf8(&mut buffer)));
                }
            })?;
            if kind == TokenizerKind::Words {
                let order = counts.len();
                counts.entry(EOS.to_owned()).or_insert((0, order)).0 += line_ends.max(1);
            }
            let words = kind == TokenizerKind::Words;
            let minimum = options.min_count.unwrap_or(if words && !counts.contains_key(UNK) { 2 } else { 1 });
            let special = |token: &str| [UNK, EOS].contains(&token);
            let rare: u64 = counts.iter().filter(|(t, (n, _))| *n < minimum && !special(t)).map(|(_, (n, _))| n).sum();
            let order = counts.len();
            counts.entry(UNK.to_owned()).or_insert((0, order)).0 += rare;
            let mut sorted: Vec<_> =
                counts.into_iter().filter(|(token, (count, _))| *count >= minimum || special(token)).collect();
            sorted.sort_by(|(_, (a, a_order)), (_, (b, b_order))| b.cmp(a).then(a_order.cmp(b_order)));
            tokens.extend(sorted.into_iter().map(|(token, _)| token));
            if let Some(max) = options.max_size {
                let kept: Vec<String> = tokens.iter().take(max).cloned().collect();
                let lost = [UNK, EOS].into_iter().filter(|t| tokens.iter().any(|x| x == t));
                let lost: Vec<String> = lost.filter(|t| !kept.iter().any(|x| x == t)).map(str::to_owned).collect();
                tokens = kept.into_iter().chain(lost).collect();
            }
        }
        if options.line_markers {
            for marker in [PAD, SOS, EOS] {
                if !tokens.iter().any(|token| token == marker) {
                    tokens.push(marker.to_owned());
                }
            }
        }
        Ok(Self::from_stored(Stored { version: VERSION, kind, line_markers: options.line_markers, tokens }))
    }

    fn from_stored(stored: Stored) -> Self {
        let ids = stored.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect();
        Self { stored, ids }
    }

    /// What a token is.
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

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// The id of `<unk>`; bytes have none.
    pub fn unknown(&self) -> Option<u32> {
        self.id(UNK)
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

    /// What stands before the first token of a stream: the end of a line.
    pub fn start(&self) -> u32 {
        let newline = if self.kind() == TokenizerKind::Bytes { "<0x0A>" } else { "\n" };
        self.eos().or_else(|| self.id(newline)).or_else(|| self.unknown()).unwrap_or(0)
    }

    /// Hands the tokens of one line to `token(id, seen)`, where `seen` is false for what training never had. A line
    /// that ends also ends as a token, unless the markers are added by the batches.
    pub(crate) fn encode_line(&self, line: &[u8], text: &str, ended: bool, token: &mut dyn FnMut(u32, bool)) {
        let unknown = self.unknown().unwrap_or(0);
        let mut put = |piece: &str| match self.id(piece) {
            Some(id) => token(id, true),
            None => token(unknown, false),
        };
        match self.kind() {
            TokenizerKind::Words => {
                text.split_whitespace().for_each(&mut put);
                if ended && !self.stored.line_markers {
                    put(EOS);
                }
            }
            TokenizerKind::Chars => {
                let text = if self.stored.line_markers { text.trim_end_matches('\n') } else { text };
                let mut buffer = [0; 4];
                text.chars().for_each(|c| put(c.encode_utf8(&mut buffer)));
            }
            TokenizerKind::Bytes => {
                let end = line.len() - usize::from(self.stored.line_markers && line.ends_with(b"\n"));
                line[..end].iter().for_each(|&byte| token(u32::from(byte), true));
            }
        }
    }

    /// Whether the batches put `<sos>` and `<eos>` around lines.
    pub fn line_markers(&self) -> bool {
        self.stored.line_markers
    }

    /// The tokens of a piece of text, such as a prompt; where lines have markers, what ends in it does so with `<eos>`.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for line in text.split_inclusive('\n') {
            let ended = line.ends_with('\n');
            self.encode_line(line.as_bytes(), line, ended, &mut |id, _| ids.push(id));
            ids.extend(self.eos().filter(|_| ended && self.line_markers()));
        }
        ids
    }

    /// What turns tokens into text that goes on from `before`.
    pub fn decoder(&self, before: &str) -> Decoder<'_> {
        Decoder { tokenizer: self, at_start: before.is_empty() || before.ends_with(['\n', ' ']) }
    }

    /// A short checksum of the vocabulary: a model belongs to one tokenizer.
    pub fn fingerprint(&self) -> String {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.kind().to_string().as_bytes());
        for token in &self.stored.tokens {
            hasher.update(token.as_bytes());
            hasher.update(&[0]);
        }
        format!("{:08x}", hasher.finalize())
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FormatError> {
        let unusable = |why| FormatError::Unusable { path: path.to_owned(), why };
        let json = serde_json::to_vec_pretty(&self.stored).map_err(|e| unusable(e.to_string()))?;
        write_bytes(path, &json)
    }

    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// A file that is missing, is none, or is from a newer version.
    pub fn load(path: &Path) -> Result<Self, FormatError> {
        let bytes = std::fs::read(path).map_err(|source| FormatError::Read { path: path.to_owned(), source })?;
        let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
        let damaged = |what: String| {
            unusable(format!("not a tokenizer of this program ({what}); restore it from a copy, or train again"))
        };
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if let Some(version) = json["version"].as_u64().filter(|version| *version > VERSION.into()) {
            return Err(unusable(format!("its version {version} is newer than {VERSION}; update the program")));
        }
        let stored: Stored = serde_json::from_value(json).map_err(|e| damaged(e.to_string()))?;
        let tokenizer = Self::from_stored(stored);
        if tokenizer.ids.len() != tokenizer.vocabulary_size() || tokenizer.ids.is_empty() {
            return Err(damaged("its vocabulary is empty or repeats a token".to_owned()));
        }
        Ok(tokenizer)
    }
}

/// Turns tokens into text, one after the other: words are parted by spaces, `<eos>` ends a line.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Whether the next word needs no space before it.
    at_start: bool,
}

impl Decoder<'_> {
    /// The bytes that the next token adds.
    pub fn push(&mut self, id: u32) -> Vec<u8> {
        let (kind, token) = (self.tokenizer.kind(), self.tokenizer.token(id));
        let bytes = match (kind, token) {
            (_, EOS) => b"\n".to_vec(),
            (TokenizerKind::Words, _) if !self.at_start => format!(" {token}").into_bytes(),
            (TokenizerKind::Bytes, _) if id < 256 => vec![id as u8],
            _ => token.as_bytes().to_vec(),
        };
        self.at_start = bytes.ends_with(b"\n");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(kind: TokenizerKind, text: &str, options: VocabularyOptions) -> Tokenizer {
        Tokenizer::build(kind, &Source::from_text(text), options, false).unwrap()
    }

    #[test]
    fn words_seen_once_become_unknown_unless_the_text_says_unk() {
        let words = build(TokenizerKind::Words, "a b a\nc a b\n", VocabularyOptions::default());
        assert_eq!(words.encode("a c zzz\n"), vec![0, 3, 3, 2]);
        assert_eq!((words.token(0), words.token(1), words.token(2), words.token(3)), ("a", "b", "<eos>", "<unk>"));
        let with_unk = build(TokenizerKind::Words, "a b <unk>\n", VocabularyOptions::default());
        assert_eq!(with_unk.vocabulary_size(), 4);
    }

    #[test]
    fn characters_and_bytes_decode_to_what_they_encode() {
        for kind in [TokenizerKind::Chars, TokenizerKind::Bytes] {
            let text = "Grüße,\nWelt\n";
            let tokenizer = build(kind, text, VocabularyOptions::default());
            let mut decoder = tokenizer.decoder("");
            let bytes: Vec<u8> = tokenizer.encode(text).iter().flat_map(|&id| decoder.push(id)).collect();
            assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }

    #[test]
    fn markers_have_ids_of_their_own_and_sizes_are_cut() {
        let options = VocabularyOptions { line_markers: true, max_size: Some(2), ..Default::default() };
        let words = build(TokenizerKind::Words, "a a a b b c <unk>\n", options);
        assert_eq!(words.vocabulary_size(), 6);
        assert!(words.pad().is_some() && words.sos() != words.eos());
        let [a, eos] = ["a", EOS].map(|token| words.id(token).unwrap());
        assert_eq!(words.encode("a a\na"), [a, a, eos, a]);
    }

    #[test]
    fn a_saved_tokenizer_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let tokenizer = build(TokenizerKind::Words, "x y x y\n", VocabularyOptions::default());
        tokenizer.save(&path).unwrap();
        assert_eq!(Tokenizer::load(&path).unwrap().fingerprint(), tokenizer.fingerprint());
        std::fs::write(&path, "{}").unwrap();
        assert!(Tokenizer::load(&path).unwrap_err().to_string().contains("not a tokenizer"));
    }
}
