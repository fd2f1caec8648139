//! Tokenizers: words, characters, bytes, subwords. A vocabulary comes from the training text alone, or from a file.

mod bytes;
mod chars;
mod decoder;
pub(crate) mod kind;
mod subwords;
mod vocabulary;
mod words;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::decoder::Decoder;
pub use self::kind::TokenizerKind;
use self::subwords::{Method, Subwords};
use crate::formats::{FormatError, read_bounded, write_bytes};
use crate::text::TextError;
use crate::text::lines::visit_text;
use crate::text::source::Source;
use crate::text::spelling::Spelling;

/// How a vocabulary is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VocabularyOptions {
    /// Rarer tokens become `<unk>`. `None`: 2 for words of a text without a literal `<unk>`, so that the model meets
    /// unknown words in training; else 1.
    pub min_count: Option<u64>,
    /// The most tokens to keep, the most frequent ones; of subwords the most to make, 8000 if nothing is said.
    pub max_size: Option<usize>,
    /// Whether lines are read one by one, with `<pad>`, `<sos>` and `<eos>` around them.
    pub line_markers: bool,
}

const UNK: &str = "<unk>";
const EOS: &str = "<eos>";
const SOS: &str = "<sos>";
const PAD: &str = "<pad>";

/// The version of the `tokenizer.json` this program writes: with what is known of the training text. Before there are that,
/// it is the first, or with subwords the second.
const VERSION: u32 = 3;

/// The most subwords to make if nothing is said.
const SUBWORDS: usize = 8000;

/// A tokenizer and its vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    stored: Stored,
    ids: HashMap<String, u32>,
    /// The subwords; their tokens come first.
    subwords: Option<Arc<Subwords>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    kind: TokenizerKind,
    line_markers: bool,
    /// All tokens; with subwords, those that are added to theirs.
    tokens: Vec<String>,
    /// The `tokenizer.json` of the library that makes subwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subwords: Option<serde_json::Value>,
    /// How words without a token are spelled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spelling: Option<Spelling>,
    /// The tokens that the training text has not, in runs: the first and the last of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unseen: Option<Vec<(u32, u32)>>,
}

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
            TokenizerKind::Bytes => bytes::tokens(),
            _ => vocabulary::counted(kind, source, options, lossy)?,
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

    /// Reads a `tokenizer.json`, of this program or of the `tokenizers` library, for texts with or without markers around
    /// their lines.
    ///
    /// # Errors
    /// A file that is missing, is neither, or is made for texts of the other kind.
    pub fn import(path: &Path, line_markers: bool) -> Result<Self, FormatError> {
        let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
        let bytes = Self::read_file(path)?;
        let json: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|e| unusable(format!("not a tokenizer.json: it is no JSON ({e})")))?;
        if json["kind"].is_string() {
            let tokenizer = Self::load(path)?;
            if tokenizer.line_markers() != line_markers {
                let [made, needed] = [!line_markers, line_markers].map(|with| if with { "with" } else { "without" });
                let conflict = |why| FormatError::Conflict { path: path.to_owned(), why };
                return Err(conflict(format!(
                    "it is made for texts {made} markers around their lines, and `batches` needs one {needed}; choose \
                     `batches` as in the run it is from, or another tokenizer"
                )));
            }
            return Ok(tokenizer);
        }
        let subwords = Subwords::read(&bytes).map_err(|why| {
            unusable(format!(
                "not a tokenizer.json that can be used: {why}; give one that the tokenizers library wrote"
            ))
        })?;
        Ok(Self::of_subwords(TokenizerKind::File, subwords, line_markers))
    }

    fn of_subwords(kind: TokenizerKind, subwords: Subwords, line_markers: bool) -> Self {
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

    fn new(mut stored: Stored, subwords: Option<Subwords>) -> Self {
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
            None if self.kind() == TokenizerKind::Bytes && id < 256 => readable(&[id as u8]),
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
        match self.kind() {
            TokenizerKind::Words => {
                words::split(text, &mut put);
                if ended && !self.stored.line_markers {
                    put(EOS);
                }
            }
            TokenizerKind::Bytes => {
                bytes::encode(line, self.stored.line_markers, &mut |id| token(id, None));
            }
            _ => chars::split(text, self.stored.line_markers, &mut put),
        }
        Ok(())
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
        let unseen = vocabulary::runs((0..).zip(counts).filter(|(_, count)| **count == 0).map(|(id, _)| id));
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

    /// A short checksum of the vocabulary: a model belongs to one tokenizer.
    pub fn fingerprint(&self) -> String {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.kind().to_string().as_bytes());
        for token in &self.stored.tokens {
            hasher.update(token.as_bytes());
            hasher.update(&[0]);
        }
        if let Some(subwords) = &self.stored.subwords {
            hasher.update(subwords.to_string().as_bytes());
        }
        if self.stored.version >= 3 {
            let known = serde_json::json!([self.stored.spelling, self.stored.unseen]);
            hasher.update(known.to_string().as_bytes());
        }
        format!("{:08x}", hasher.finalize())
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FormatError> {
        write_bytes(path, &self.to_bytes(path)?)
    }

    /// The bytes of a `tokenizer.json` that shall be `path`.
    pub(crate) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, FormatError> {
        let unusable = |why| FormatError::Unusable { path: path.to_owned(), why };
        let mut stored = self.stored.clone();
        if let Some(subwords) = &self.subwords {
            stored.tokens.drain(..subwords.tokens().len());
        }
        serde_json::to_vec_pretty(&stored).map_err(|e| unusable(e.to_string()))
    }

    /// The bytes of a `tokenizer.json`, of this program or another.
    ///
    /// # Errors
    /// A file that is missing, or far too long to be one.
    pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, FormatError> {
        /// Some ten million tokens.
        const MOST_BYTES: u64 = 512 << 20;
        read_bounded(path, MOST_BYTES)
    }

    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// A file that is missing, is none, or is from a newer version.
    pub fn load(path: &Path) -> Result<Self, FormatError> {
        Self::from_bytes(path, &Self::read_file(path)?)
    }

    /// The tokenizer that the bytes of the file `path` are.
    pub(crate) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, FormatError> {
        let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
        let damaged = |what: String| {
            unusable(format!("not a tokenizer of this program ({what}); restore it from a copy, or train again"))
        };
        let json: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        if let Some(version) = json["version"].as_u64().filter(|version| *version > VERSION.into()) {
            return Err(unusable(format!("its version {version} is newer than {VERSION}; update the program")));
        }
        let stored: Stored = serde_json::from_value(json).map_err(|e| damaged(e.to_string()))?;
        let subwords = stored.subwords.as_ref().map(|document| Subwords::read(document.to_string().as_bytes()));
        stored.spelling.as_ref().map_or(Ok(()), Spelling::check).map_err(damaged)?;
        let tokenizer = Self::new(stored, subwords.transpose().map_err(damaged)?);
        if tokenizer.ids.len() != tokenizer.vocabulary_size() || tokenizer.ids.is_empty() {
            return Err(damaged("its vocabulary is empty or repeats a token".to_owned()));
        }
        Ok(tokenizer)
    }
}

/// Bytes as people read them: those that are no whole character are `\\xNN`.
fn readable(bytes: &[u8]) -> String {
    let chunk = |chunk: std::str::Utf8Chunk| {
        let escaped: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")).collect();
        chunk.valid().to_owned() + &escaped
    };
    bytes.utf8_chunks().map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::decoder::DECODED;
    use super::*;

    fn build(kind: TokenizerKind, text: &str, options: VocabularyOptions) -> Tokenizer {
        Tokenizer::build(kind, &Source::from_text(text), options, false).unwrap()
    }

    #[test]
    fn words_seen_once_become_unknown_unless_the_text_says_unk() {
        let words = build(TokenizerKind::Words, "a b a\nc a b\n", VocabularyOptions::default());
        assert_eq!(words.encode("a c zzz\n").unwrap(), vec![0, 3, 3, 2]);
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
            let bytes: Vec<u8> = tokenizer.encode(text).unwrap().iter().flat_map(|&id| decoder.push(id)).collect();
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
        assert_eq!(words.encode("a a\na").unwrap(), [a, a, eos, a]);
    }

    const SUBWORD_KINDS: [TokenizerKind; 3] = [TokenizerKind::Bpe, TokenizerKind::Unigram, TokenizerKind::Wordpiece];

    /// Lines with words that begin and end alike, characters of two bytes, and an empty line.
    fn lines() -> String {
        let words = ["Grüße", "größer", "größte", "grün", "grüner", "süß", "süßer"];
        let line = |i: usize| (0..3 + i % 4).map(|j| words[(i * 5 + j * 3) % 7]).collect::<Vec<_>>().join(" ") + "\n";
        (0..60).map(line).collect::<String>() + "\n" + &line(3)
    }

    #[test]
    fn subwords_written_one_by_one_are_the_text_also_after_a_prompt() {
        for kind in SUBWORD_KINDS {
            for (line_markers, max_size) in [(false, Some(300)), (true, Some(300)), (false, None)] {
                let options = VocabularyOptions { line_markers, max_size, ..Default::default() };
                let tokenizer = build(kind, &lines(), options);
                assert!(tokenizer.vocabulary_size() <= max_size.unwrap_or(SUBWORDS));
                let ids = tokenizer.encode(&lines()).unwrap();
                let write = |ids: &[u32], before: &str| {
                    let mut decoder = tokenizer.decoder(before);
                    let mut bytes: Vec<u8> = ids.iter().flat_map(|&id| decoder.push(id)).collect();
                    bytes.extend(decoder.finish());
                    String::from_utf8(bytes).unwrap()
                };
                assert_eq!(write(&ids, ""), lines(), "{kind} {line_markers}");
                // Cut anywhere, the rest goes on from what the first part says.
                for at in (0..ids.len()).step_by(7) {
                    let before = write(&ids[..at], "");
                    if !before.contains(char::REPLACEMENT_CHARACTER) && tokenizer.encode(&before).unwrap() == ids[..at]
                    {
                        assert_eq!(before.clone() + &write(&ids[at..], &before), lines(), "{kind} {before:?}");
                    }
                }
                let ends = ids.iter().filter(|&&id| tokenizer.ends_line(id)).count();
                assert_eq!(ends, 62, "{kind}");
            }
        }
    }

    #[test]
    fn a_long_line_of_subwords_is_decoded_as_it_is() {
        let text = "grüner süßer Grüße größer ".repeat(300);
        for kind in SUBWORD_KINDS {
            let tokenizer = build(kind, &text, VocabularyOptions { max_size: Some(280), ..Default::default() });
            let mut decoder = tokenizer.decoder("");
            let ids = tokenizer.encode(&text).unwrap();
            assert!(ids.len() > 4 * DECODED);
            let mut bytes: Vec<u8> = ids.iter().flat_map(|&id| decoder.push(id)).collect();
            bytes.extend(decoder.finish());
            assert_eq!(String::from_utf8(bytes).unwrap().trim_end(), text.trim_end(), "{kind}");
        }
    }

    #[test]
    fn a_prompt_that_ends_with_a_space_needs_no_other() {
        for kind in SUBWORD_KINDS {
            let tokenizer = build(kind, &lines(), VocabularyOptions::default());
            let next = tokenizer.encode("grün süß").unwrap();
            let mut decoder = tokenizer.decoder("grün ");
            // The prompt is read as one word; the next begins one.
            let rest: Vec<u8> = next[next.len() - 1..].iter().flat_map(|&id| decoder.push(id)).collect();
            let text = format!("grün {}", String::from_utf8(rest).unwrap());
            assert!(kind != TokenizerKind::Wordpiece || text == "grün süß", "{text}");
        }
    }

    #[test]
    fn a_saved_tokenizer_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        for kind in SUBWORD_KINDS.into_iter().chain([TokenizerKind::Chars, TokenizerKind::Words]) {
            for line_markers in [false, true] {
                let options = VocabularyOptions { line_markers, min_count: Some(1), ..Default::default() };
                let tokenizer = build(kind, &lines(), options);
                tokenizer.save(&path).unwrap();
                let loaded = Tokenizer::load(&path).unwrap();
                assert_eq!(loaded.fingerprint(), tokenizer.fingerprint());
                assert_eq!(loaded.vocabulary_size(), tokenizer.vocabulary_size());
                assert_eq!(loaded.encode(&lines()).unwrap(), tokenizer.encode(&lines()).unwrap());
                // Another run can use it, if its lines are read the same way.
                assert_eq!(Tokenizer::import(&path, line_markers).unwrap().fingerprint(), tokenizer.fingerprint());
                let error = Tokenizer::import(&path, !line_markers).unwrap_err().to_string();
                assert!(error.contains("markers around their lines"), "{error}");
            }
        }
    }

    #[test]
    fn a_tokenizer_from_a_file_ends_lines_in_its_own_way_or_is_given_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        for kind in SUBWORD_KINDS {
            let trained = build(kind, &lines(), VocabularyOptions::default());
            std::fs::write(&path, trained.stored.subwords.clone().unwrap().to_string()).unwrap();
            let imported = Tokenizer::import(&path, false).unwrap();
            assert_eq!(imported.kind(), TokenizerKind::File);
            assert_eq!(imported.encode(&lines()).unwrap(), trained.encode(&lines()).unwrap());
            assert_eq!(imported.eos().is_some(), kind != TokenizerKind::Bpe);
            let markers = Tokenizer::import(&path, true).unwrap();
            assert!([markers.pad(), markers.sos(), markers.eos()].iter().all(Option::is_some));
        }
        for (document, expected) in [("[1]", "no `model`"), ("x", "no JSON"), (r#"{"model": {}}"#, "refused")] {
            std::fs::write(&path, document).unwrap();
            let error = Tokenizer::import(&path, false).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("tokenizer.json"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "{}").unwrap();
        assert!(Tokenizer::load(&path).unwrap_err().to_string().contains("not a tokenizer"));
    }
}
