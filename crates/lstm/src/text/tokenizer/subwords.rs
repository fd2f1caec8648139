//! Subwords: byte-level pairs (Sennrich 2016, Radford 2019), unigrams (Kudo 2018) and word pieces (Schuster & Nakajima
//! 2012), trained on a text or read from any `tokenizer.json` of the library that does the work, `tokenizers`.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::fixed_length::FixedLength;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::tokenizer::{AddedToken, OffsetReferential, OffsetType, PreTokenizedString};
use tokenizers::{DecoderWrapper, ModelWrapper, PreTokenizer, PreTokenizerWrapper, Trainer};

use super::kind::TokenizerKind;
use super::pieces::readable;
use crate::text::TextError;
use crate::text::lines::visit_text;
use crate::text::source::Source;

/// The kind of subwords that [`Subwords::train`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Of the bytes of the text, with the space before a word part of it. Loses nothing.
    Pairs,
    /// Of its characters, with the space before a word part of it. Loses nothing but characters that training never had.
    Unigram,
    /// Of words, as whatever stands between white space.
    Pieces,
}

/// The token of what training never had, in a vocabulary that is trained here.
const UNKNOWN: &str = "<unk>";

/// The longest piece of a text that pairs (in bytes) and unigrams (in characters) are sought in: the time to train is
/// quadratic in it, and a text without white space is one word: 300 kB of random ACGT took 56 s. A whole number of
/// characters of two, three or four bytes each.
const LONGEST_PIECE: usize = 96;

/// The fewest times that what becomes a subword occurs: a pair that occurs once foresees nothing, and a short text would get
/// more subwords than it has tokens.
const LEAST_OFTEN: u64 = 2;

/// The longest word, in characters, that word pieces are sought in: the library reads a longer one as unknown, whatever
/// pieces there are.
const LONGEST_WORD: usize = 100;

/// The most numbers that a vocabulary may leave out, beside one for each that it has: files of real models leave out some
/// hundred.
const MOST_UNUSED: usize = 1 << 16;

/// A tokenizer of the library.
#[derive(Clone, Debug)]
pub(crate) struct Subwords {
    inner: tokenizers::Tokenizer,
    document: Value,
    /// The token of what training never had, and its name.
    unknown: Option<(u32, String)>,
    keeps_line_feeds: bool,
}

impl Method {
    /// The way in which subwords of a kind are trained, if they are.
    pub(super) fn of(kind: TokenizerKind) -> Option<Self> {
        match kind {
            TokenizerKind::Bpe => Some(Self::Pairs),
            TokenizerKind::Unigram => Some(Self::Unigram),
            TokenizerKind::Wordpiece => Some(Self::Pieces),
            TokenizerKind::Words | TokenizerKind::Chars | TokenizerKind::Bytes | TokenizerKind::File => None,
        }
    }
}

impl Subwords {
    /// Trains `method` on `source` for a vocabulary of `size` at most. The same text gives the same tokenizer.
    ///
    /// # Errors
    /// A text that cannot be read, or a vocabulary too small for what it is made of.
    pub(crate) fn train(method: Method, source: &Source, size: usize, lossy: bool) -> Result<Self, TextError> {
        let splitter = splitter(method);
        let words = words(&splitter, method, source, lossy)?;
        let characters: BTreeSet<char> = match method {
            Method::Pairs => ByteLevel::alphabet().into_iter().collect(),
            Method::Unigram | Method::Pieces => words.iter().flat_map(|(word, _)| word.chars()).collect(),
        };
        let failed = |e: tokenizers::Error| TextError::Unusable(format!("the tokenizer cannot be trained: {e}"));
        if words.is_empty() {
            return Err(TextError::Unusable(
                "the training text has no words to make subwords of; give a text with more than white space".to_owned(),
            ));
        }
        // The library makes room for as many as are asked for; a merge joins two pieces of a word, so there are no more of
        // them than pieces, and of unigrams that come twice neither.
        let most = words.iter().map(|(word, _)| word.len()).fold(2 * characters.len() + 2, usize::saturating_add);
        let size = size.min(most);
        // The library sums in as many parts as there are threads; with one the result is the same everywhere.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|e| failed(e.into()))?;
        let model = match method {
            Method::Pairs => {
                check_size(size, characters.len(), "bpe starts from the 256 bytes", "chars")?;
                pool.install(|| pairs(size, &words)).map_err(failed)?
            }
            Method::Unigram => {
                let why = "unigram needs the <unk> token and one for each character of the text";
                check_size(size, 1 + characters.len(), why, "bpe or chars")?;
                pool.install(|| unigrams(size, &words, &characters)).map_err(failed)?
            }
            Method::Pieces => {
                let inner = words.iter().flat_map(|(word, _)| word.chars().skip(1)).map(|c| format!("##{c}"));
                let inner: BTreeSet<String> = inner.collect();
                let why = "wordpiece needs the <unk> token and one or two for each character of the text";
                check_size(size, 1 + characters.len() + inner.len(), why, "bpe or chars")?;
                pool.install(|| pieces(size, &words, inner)).map_err(failed)?
            }
        };
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(splitter));
        inner.with_decoder(Some(decoder(method)));
        let document = inner.to_string(false).map_err(failed)?;
        Self::read(document.as_bytes()).map_err(TextError::Unusable)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(document: &[u8]) -> Result<Self, String> {
        let document: Value = serde_json::from_slice(document).map_err(|e| format!("it is no JSON: {e}"))?;
        if !document["model"].is_object() {
            return Err("it has no `model`, which every tokenizer.json of the tokenizers library has".to_owned());
        }
        let json = document.to_string();
        let mut inner =
            tokenizers::Tokenizer::from_bytes(json.as_bytes()).map_err(|e| format!("it is refused: {e}"))?;
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        inner.with_padding(None);
        let vocabulary = inner.get_vocab(true);
        let Some(&highest) = vocabulary.values().max() else {
            return Err("its vocabulary is empty".to_owned());
        };
        // Every number up to the highest becomes a row of the model's tables.
        if highest as usize > 2 * vocabulary.len() + MOST_UNUSED {
            let known = vocabulary.len();
            return Err(format!("it numbers tokens up to {highest}, but it has only {known}; number them from 0 on"));
        }
        let model = &document["model"];
        let unknown = match (&model["unk_token"], model["unk_id"].as_u64()) {
            (Value::String(name), _) => inner.token_to_id(name).map(|id| (id, name.clone())),
            (_, Some(id)) => u32::try_from(id).ok().and_then(|id| inner.id_to_token(id).map(|name| (id, name))),
            _ => None,
        };
        let mut subwords = Self { inner, document, unknown, keeps_line_feeds: false };
        subwords.keeps_line_feeds = subwords.round_trip("a\n").is_some_and(|text| text.ends_with('\n'));
        Ok(subwords)
    }

    fn round_trip(&self, text: &str) -> Option<String> {
        let ids = self.inner.encode_fast(text, false).ok()?.get_ids().to_vec();
        Some(self.decode(&ids))
    }

    /// Its `tokenizer.json`.
    pub(crate) fn document(&self) -> &Value {
        &self.document
    }

    /// The names of its tokens by id. An id that it does not use has a name that no text can give.
    pub(crate) fn tokens(&self) -> Vec<String> {
        let vocabulary = self.inner.get_vocab(true);
        let size = vocabulary.values().max().map_or(0, |&id| id as usize + 1);
        let mut tokens: Vec<String> = (0..size).map(|id| format!("<unused {id}>")).collect();
        for (token, id) in vocabulary {
            tokens[id as usize] = token;
        }
        tokens
    }

    /// The token of what training never had.
    pub(crate) fn unknown(&self) -> Option<u32> {
        self.unknown.as_ref().map(|(id, _)| *id)
    }

    /// Whether the end of a line is a token of its own making; else it has to be given one.
    pub(crate) fn keeps_line_feeds(&self) -> bool {
        self.keeps_line_feeds
    }

    /// Hands the tokens of `text` to `token(id, unknown)`, where `unknown` is the text of what training never had.
    ///
    /// # Errors
    /// A text that the tokenizer has no tokens for.
    pub(crate) fn encode(&self, text: &str, token: &mut dyn FnMut(u32, Option<&str>)) -> Result<(), TextError> {
        let failed = |e: tokenizers::Error| {
            let start: String = text.chars().take(40).collect();
            TextError::Unusable(format!("the tokenizer has no tokens for the text {start:?}: {e}"))
        };
        let Some((unknown, name)) = &self.unknown else {
            let encoding = self.inner.encode_fast(text, false).map_err(failed)?;
            encoding.get_ids().iter().for_each(|&id| token(id, None));
            return Ok(());
        };
        let encoding = self.inner.encode(text, false).map_err(failed)?;
        for (&id, &(start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            let piece = text.get(start..end).unwrap_or_default();
            // A text may say it in so many letters, as the Penn Treebank does.
            token(id, Some(piece).filter(|piece| id == *unknown && piece.trim() != name));
        }
        Ok(())
    }

    /// The text that a token stands for, in the way its decoder reads it; `None` for one that stands for none.
    pub(crate) fn text(&self, id: u32) -> Option<String> {
        let token = self.inner.id_to_token(id)?;
        if self.inner.get_added_tokens_decoder().contains_key(&id) {
            return Some(token);
        }
        let decodes = |kind: &str| {
            let decoder = &self.document["decoder"];
            let parts = decoder["decoders"].as_array().into_iter().flatten();
            std::iter::once(decoder).chain(parts).find(|decoder| decoder["type"] == kind)
        };
        if decodes("ByteLevel").is_some() {
            let bytes: Option<Vec<u8>> = token.chars().map(byte).collect();
            return Some(bytes.map_or(token, |bytes| readable(&bytes)));
        }
        if let Some(byte) = decodes("ByteFallback").and_then(|_| token.strip_prefix("<0x")?.strip_suffix('>')) {
            return u8::from_str_radix(byte, 16).ok().map(|byte| readable(&[byte]));
        }
        if let Some(decoder) = decodes("WordPiece") {
            let prefix = decoder["prefix"].as_str().unwrap_or("##");
            return Some(token.strip_prefix(prefix).unwrap_or(&token).to_owned());
        }
        if let Some(decoder) = decodes("BPEDecoder") {
            return Some(token.replace(decoder["suffix"].as_str().unwrap_or("</w>"), " "));
        }
        Some(token.replace('▁', " "))
    }

    /// The text of tokens that follow each other from the start of a line.
    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        // Only an id beyond the vocabulary fails, and there is none here.
        self.inner.decode(ids, true).unwrap_or_default()
    }
}

/// The byte that a character of byte-level pairs stands for: printable ones for themselves, the 68 others for the characters
/// from U+0100 on (Radford 2019).
fn byte(character: char) -> Option<u8> {
    let code = character as u32;
    let is_itself = |code: u32| matches!(code, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_itself(code) {
        return Some(code as u8);
    }
    (0..=0xFF).filter(|code| !is_itself(*code)).nth(code.checked_sub(0x100)? as usize).map(|code| code as u8)
}

fn splitter(method: Method) -> PreTokenizerWrapper {
    match method {
        Method::Pairs => cut(ByteLevel::new(false, false, true).into()),
        Method::Unigram => cut(Metaspace::new('▁', PrependScheme::Never, true).into()),
        Method::Pieces => WhitespaceSplit.into(),
    }
}

/// Cuts what `words` splits off into pieces of bounded length. Being part of the `tokenizer.json`, it is done wherever that
/// is used.
fn cut(words: PreTokenizerWrapper) -> PreTokenizerWrapper {
    Sequence::new(vec![words, FixedLength::new(LONGEST_PIECE).into()]).into()
}

fn decoder(method: Method) -> DecoderWrapper {
    match method {
        Method::Pairs => ByteLevel::new(false, false, true).into(),
        Method::Unigram => Metaspace::new('▁', PrependScheme::Never, true).into(),
        Method::Pieces => tokenizers::decoders::wordpiece::WordPiece::new("##".to_owned(), false).into(),
    }
}

/// The bytes of a text that pairs are sought in: more give the same few thousand.
const SAMPLE: u64 = 4 << 20;

/// The words of a text and how often each occurs, in the order of the alphabet. The text is read line by line; only its
/// different words are kept. Pairs, which need not have seen every character, are sought in pieces from all over a long text.
fn words(
    splitter: &PreTokenizerWrapper,
    method: Method,
    source: &Source,
    lossy: bool,
) -> Result<Vec<(String, u64)>, TextError> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut failed = None;
    let most = if method == Method::Pairs { SAMPLE } else { u64::MAX };
    visit_text(&source.sample(most)?, lossy, false, &mut |line, _| {
        let line = if method == Method::Pairs { line } else { line.trim_end_matches('\n') };
        let mut split = PreTokenizedString::from(line);
        if let Err(error) = splitter.pre_tokenize(&mut split) {
            failed.get_or_insert(error);
        }
        for (word, _, _) in split.get_splits(OffsetReferential::Original, OffsetType::None) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.to_owned(), 1)),
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(TextError::Unusable(format!("the text cannot be split into words: {error}")));
    }
    counts.remove("");
    let kinds = counts.len();
    let is_read = |word: &str| method != Method::Pieces || word.chars().count() <= LONGEST_WORD;
    let mut words: Vec<_> = counts.into_iter().filter(|(word, _)| is_read(word)).collect();
    if words.is_empty() && kinds > 0 {
        return Err(TextError::Unusable(format!(
            "wordpiece reads a word of more than {LONGEST_WORD} characters as unknown, and the text has no shorter one; \
             choose the tokenizer chars or bpe"
        )));
    }
    words.sort_unstable();
    Ok(words)
}

/// Refuses a vocabulary of fewer tokens than a method needs; `others` are tokenizers that may do with fewer.
fn check_size(size: usize, least: usize, why: &str, others: &str) -> Result<(), TextError> {
    if size >= least {
        return Ok(());
    }
    Err(TextError::Unusable(format!(
        "a vocabulary of {size} is too small: {why}, {least} in all; give `vocab-size` {least} or more, or use `tokenizer` \
         {others}"
    )))
}

/// Gives the words to a trainer, each as often as it occurs, but not all at once.
fn feed<T: Trainer>(trainer: &mut T, words: &[(String, u64)]) -> tokenizers::Result<()> {
    const AT_ONCE: u64 = 1 << 14;
    let repeated = words.iter().flat_map(|(word, count)| {
        let whole = (0..count / AT_ONCE).map(|_| AT_ONCE);
        whole.chain([count % AT_ONCE]).map(move |times| format!("{times} {word}"))
    });
    trainer.feed(repeated, |repeated| {
        let (times, word) = repeated.split_once(' ').unwrap_or(("0", ""));
        Ok(vec![word.to_owned(); times.parse()?])
    })
}

fn pairs(size: usize, words: &[(String, u64)]) -> tokenizers::Result<ModelWrapper> {
    let mut trainer: BpeTrainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(size)
        .min_frequency(LEAST_OFTEN)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    feed(&mut trainer, words)?;
    let mut model = BPE::default();
    trainer.train(&mut model)?;
    Ok(model.into())
}

fn pieces(size: usize, words: &[(String, u64)], inner: BTreeSet<String>) -> tokenizers::Result<ModelWrapper> {
    // Given in order, they do not come in that of a hash table.
    let special = std::iter::once(UNKNOWN.to_owned()).chain(inner).map(|token| AddedToken::from(token, true));
    let mut trainer: WordPieceTrainer = WordPieceTrainer::builder()
        .show_progress(false)
        .vocab_size(size)
        .min_frequency(LEAST_OFTEN)
        .special_tokens(special.collect())
        .build();
    feed(&mut trainer, words)?;
    let mut model = WordPiece::builder().unk_token(UNKNOWN.to_owned()).build()?;
    trainer.train(&mut model)?;
    Ok(model.into())
}

fn unigrams(size: usize, words: &[(String, u64)], characters: &BTreeSet<char>) -> tokenizers::Result<ModelWrapper> {
    let total: u64 = words.iter().map(|(_, count)| count).sum();
    // The library counts in 32 bits.
    let shrink = total / (1 << 31) + 1;
    let shrunk = |count: &u64| count.div_ceil(shrink).min(u64::from(u32::MAX)) as u32;
    let sentences = words.iter().map(|(word, count)| (word.clone(), shrunk(count))).collect();
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(u32::try_from(size).unwrap_or(u32::MAX) - 1)
        .build()?;
    let mut trained = Unigram::default();
    trainer.do_train(sentences, &mut trained)?;
    let mut pieces: Vec<(String, f64)> = trained.iter().filter(|(piece, _)| piece != UNKNOWN).cloned().collect();
    order_added_scores(&mut pieces, characters.len());
    let used = uses(&pieces, words)?;
    pieces.retain(|(piece, _)| {
        piece.chars().nth(1).is_none() || used.get(piece).is_some_and(|count| *count >= LEAST_OFTEN)
    });
    let vocabulary = std::iter::once((UNKNOWN.to_owned(), 0.0)).chain(pieces).collect();
    Ok(Unigram::from(vocabulary, Some(0), false)?.into())
}

/// How often each piece comes where the words are cut into the likeliest ones.
fn uses(pieces: &[(String, f64)], words: &[(String, u64)]) -> tokenizers::Result<HashMap<String, u64>> {
    let vocabulary = std::iter::once((UNKNOWN.to_owned(), 0.0)).chain(pieces.iter().cloned()).collect();
    let model = Unigram::from(vocabulary, Some(0), false)?;
    let mut uses: HashMap<String, u64> = HashMap::new();
    for (word, count) in words {
        for piece in model.encode(word)? {
            *uses.entry(piece).or_default() += count;
        }
    }
    Ok(uses)
}

/// Makes the scores of characters that the library adds at the end, just above the lowest of all and each a little higher
/// than the one before, go by the alphabet: it adds them in the order of a hash table.
fn order_added_scores(pieces: &mut [(String, f64)], characters: usize) {
    /// The step between them.
    const STEP: f64 = 0.0001;
    let lowest = pieces.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let highest = lowest + STEP * (characters + 1) as f64;
    pieces.sort_by(|a, b| a.0.cmp(&b.0));
    let added: Vec<usize> =
        (0..pieces.len()).filter(|&at| pieces[at].0.chars().count() == 1 && pieces[at].1 <= highest).collect();
    let mut scores: Vec<f64> = added.iter().map(|&at| pieces[at].1).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    for (at, score) in added.into_iter().zip(scores) {
        pieces[at].1 = score;
    }
    pieces.sort_by(|a, b| b.1.total_cmp(&a.1));
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: [Method; 3] = [Method::Pairs, Method::Unigram, Method::Pieces];

    /// Lines with repeated words, some of them long, and rare characters.
    fn text() -> String {
        let stems = ["walk", "talk", "jump", "paint", "learn", "train"];
        let ends = ["", "s", "ed", "ing", "er"];
        let words = (0..600).map(|i| format!("{}{}", stems[i % 6], ends[i % 5]));
        let words: Vec<String> = words.collect();
        let lines: Vec<String> = words.chunks(8).map(|line| line.join(" ") + "\n").collect();
        lines.concat() + "Größe žluťoučký naïve — q w z\n"
    }

    fn train(method: Method, size: usize) -> Subwords {
        Subwords::train(method, &Source::from_text(&text()), size, false).unwrap()
    }

    fn encode(subwords: &Subwords, text: &str) -> Vec<(u32, bool)> {
        let mut ids = Vec::new();
        subwords.encode(text, &mut |id, unknown| ids.push((id, unknown.is_none()))).unwrap();
        ids
    }

    #[test]
    fn the_same_text_gives_the_same_tokenizer_and_no_larger_one_than_asked_for() {
        for method in METHODS {
            let (first, second) = (train(method, 300), train(method, 300));
            assert_eq!(first.document(), second.document(), "{method:?}");
            assert!((30..=300).contains(&first.tokens().len()), "{method:?}: {}", first.tokens().len());
            let tokens: BTreeSet<String> = first.tokens().into_iter().collect();
            assert_eq!(tokens.len(), first.tokens().len());
        }
    }

    #[test]
    fn a_vocabulary_is_not_larger_than_the_text() {
        let text: String = (0..40).map(|n| format!("word{} ", n * n % 997)).collect();
        for (method, least) in [(Method::Pairs, 256), (Method::Unigram, 0), (Method::Pieces, 0)] {
            let subwords = Subwords::train(method, &Source::from_text(&text), 8_000, false).unwrap();
            let (kinds, tokens) = (subwords.tokens().len() - least, encode(&subwords, &text).len());
            assert!(kinds < tokens, "{method:?}: {kinds} of {tokens}");
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same_line() {
        for method in METHODS {
            let subwords = train(method, 300);
            for line in text().lines().chain(["walks learning", "talk"]) {
                let ids: Vec<u32> = encode(&subwords, line).into_iter().map(|(id, _)| id).collect();
                assert_eq!(subwords.decode(&ids), line, "{method:?}");
            }
            // White space is kept where it is part of the tokens.
            let odd = "  walk   talk ";
            let ids: Vec<u32> = encode(&subwords, odd).into_iter().map(|(id, _)| id).collect();
            let expected = if method == Method::Pieces { "walk talk" } else { odd };
            assert_eq!(subwords.decode(&ids), expected, "{method:?}");
            assert_eq!(subwords.keeps_line_feeds(), method == Method::Pairs);
        }
    }

    #[test]
    fn every_token_of_a_line_has_its_text() {
        for method in METHODS {
            let subwords = train(method, 300);
            for line in text().lines() {
                let ids = encode(&subwords, line);
                let shown: String = ids.iter().filter_map(|(id, _)| subwords.text(*id)).collect();
                // Only bytes of split characters are shown as such, and word pieces have no white space.
                let expected = if method == Method::Pieces { line.replace(' ', "") } else { line.to_owned() };
                assert!(shown == expected || method == Method::Pairs && shown.contains("\\x"), "{shown}");
                assert!(!shown.contains(['Ġ', 'Ċ', '▁']) && !shown.contains("##"));
            }
        }
        let bytes = (0..=0xFFu8).filter(|found| ByteLevel::alphabet().into_iter().any(|c| byte(c) == Some(*found)));
        assert_eq!(bytes.count(), 256);
        assert_eq!(
            [byte('Ġ'), byte('Ċ'), byte('Ã'), byte('a'), byte('字')],
            [Some(32), Some(10), Some(0xC3), Some(97), None]
        );
    }

    #[test]
    fn frequent_words_are_one_token_and_rare_ones_are_spelled() {
        for method in METHODS {
            let subwords = train(method, if method == Method::Pieces { 90 } else { 320 });
            let (frequent, rare) = (encode(&subwords, "walk").len(), encode(&subwords, "žluťoučký").len());
            assert!(frequent <= 2 && rare > 2 * frequent, "{method:?}: {frequent} and {rare}");
        }
    }

    #[test]
    fn only_what_training_never_had_is_unknown() {
        for method in METHODS {
            let subwords = train(method, 300);
            let unseen = encode(&subwords, "walk 漢 talk").iter().filter(|(_, seen)| !seen).count();
            assert_eq!(unseen, usize::from(method != Method::Pairs), "{method:?}");
        }
        let text = "the <unk> of the <unk>\n".repeat(50);
        for method in METHODS {
            let subwords = Subwords::train(method, &Source::from_text(&text), 280, false).unwrap();
            assert!(encode(&subwords, "the <unk> of").iter().all(|(_, seen)| *seen), "{method:?}");
        }
    }

    #[test]
    fn a_vocabulary_too_small_says_what_would_do() {
        for (method, needed) in [(Method::Pairs, "256"), (Method::Unigram, "<unk>"), (Method::Pieces, "<unk>")] {
            let error = Subwords::train(method, &Source::from_text(&text()), 20, false).unwrap_err().to_string();
            assert!(error.contains("20 is too small") && error.contains(needed), "{error}");
        }
    }

    /// Their training was quadratic in the length of a word, and word pieces of such a word are all unknown.
    #[test]
    fn a_word_without_an_end_is_cut_and_none_is_lost() {
        let letters = ["a", "c", "g", "t", "ж", "字", "𝄞"];
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            letters[(state >> 24) as usize % letters.len()]
        };
        let long: String = (0..12_000).map(|_| next()).collect();
        for method in [Method::Pairs, Method::Unigram] {
            let subwords = Subwords::train(method, &Source::from_text(&long), 2_000, false).unwrap();
            let ids: Vec<u32> = encode(&subwords, &long).into_iter().map(|(id, _)| id).collect();
            assert_eq!(subwords.decode(&ids), long, "{method:?}");
            let longest = subwords.tokens().iter().map(|token| token.chars().count()).max();
            assert!(longest <= Some(LONGEST_PIECE), "{method:?}");
        }
        let error = Subwords::train(Method::Pieces, &Source::from_text(&long), 2_000, false).unwrap_err().to_string();
        assert!(error.contains("no shorter one; choose the tokenizer chars or bpe"), "{error}");
        let some = Source::from_text(&format!("a word {long}\n"));
        assert!(
            encode(&Subwords::train(Method::Pieces, &some, 90, false).unwrap(), "word a").iter().all(|(_, seen)| *seen)
        );
    }

    #[test]
    fn documents_that_are_none_are_refused() {
        for (document, expected) in [
            ("nothing", "no JSON"),
            ("{}", "no `model`"),
            (r#"{"model": {"type": "Markov", "vocab": {}}}"#, "refused"),
            (r#"{"model": {"type": "WordLevel", "vocab": {}, "unk_token": "?"}}"#, ""),
        ] {
            let error = Subwords::read(document.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let document = r#"{"version": "1.0", "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst",
            "stride": 0}, "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer":
            {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 5}, "unk_token": "?"}}"#;
        let words = Subwords::read(document.as_bytes()).unwrap();
        assert_eq!(words.tokens().len(), 6);
        // A length is no part of a text's tokens.
        assert_eq!(encode(&words, "a b a b"), [(0, true), (5, true), (0, true), (5, true)]);
        let error = words.encode("a c", &mut |_, _| ()).unwrap_err().to_string();
        assert!(error.contains("no tokens for the text \"a c\""), "{error}");
    }
}
