//! Corpora: texts as compact ids.

use std::borrow::Cow;
use std::collections::HashMap;

use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::TextError;
use super::decode::as_text;
use super::lines::visit_lines;
use super::source::Source;
use super::tokenizer::{Tokenizer, TokenizerKind};
use crate::model::loss::Loss;

/// Token ids in as few bytes as the vocabulary allows.
#[derive(Clone, Debug, PartialEq)]
pub enum Ids {
    /// Up to 256 tokens.
    U8(Vec<u8>),
    /// Up to 65,536 tokens.
    U16(Vec<u16>),
    /// Any number.
    U32(Vec<u32>),
}

impl Ids {
    fn for_vocabulary(size: usize) -> Self {
        match size {
            0..=0x100 => Self::U8(Vec::new()),
            0x101..=0x1_0000 => Self::U16(Vec::new()),
            _ => Self::U32(Vec::new()),
        }
    }

    /// The bytes of one.
    fn width(&self) -> u64 {
        match self {
            Self::U8(_) => 1,
            Self::U16(_) => 2,
            Self::U32(_) => 4,
        }
    }

    /// Makes room for so many more, so that growing does not copy them.
    fn reserve(&mut self, count: usize) {
        match self {
            Self::U8(ids) => ids.reserve(count),
            Self::U16(ids) => ids.reserve(count),
            Self::U32(ids) => ids.reserve(count),
        }
    }

    fn push(&mut self, id: u32) {
        match self {
            Self::U8(ids) => ids.push(id as u8),
            Self::U16(ids) => ids.push(id as u16),
            Self::U32(ids) => ids.push(id),
        }
    }

    /// The id at `index`.
    pub fn get(&self, index: usize) -> u32 {
        match self {
            Self::U8(ids) => u32::from(ids[index]),
            Self::U16(ids) => u32::from(ids[index]),
            Self::U32(ids) => ids[index],
        }
    }

    /// How often each of `vocabulary` ids occurs.
    pub(crate) fn counts(&self, vocabulary: usize) -> Vec<u64> {
        let mut counts = vec![0; vocabulary];
        (0..self.len()).for_each(|index| counts[self.get(index) as usize] += 1);
        counts
    }

    /// The number of ids.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(ids) => ids.len(),
            Self::U16(ids) => ids.len(),
            Self::U32(ids) => ids.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The treatment of words that have no token.
enum Unknown {
    /// Their cost is looked up, if it can be.
    Spelled,
    /// They are only counted: their text is what the model of their spelling was made of.
    Counted,
    /// They are kept, each with the place of its token, and their cost is looked up.
    Kept(Vec<(usize, String)>),
}

/// What becomes a corpus.
struct Encoder<'a> {
    corpus: Corpus,
    tokenizer: &'a Tokenizer,
    hasher: crc32fast::Hasher,
    unknown: Unknown,
    /// What unknown words that came before take.
    spelled: HashMap<String, f64>,
    nats: f64,
    /// The token that words without one become.
    unknown_id: Option<u32>,
    /// The threads that share a text that is slow to encode, where there are several.
    pool: Option<ThreadPool>,
    /// What they will share next, and the bytes of it.
    waiting: Vec<Waiting>,
    size: usize,
}

/// What begins with a piece of text.
#[derive(Clone, Copy)]
struct Opens {
    line: bool,
    document: bool,
}

/// A line, or a piece of a long one, to be encoded beside others.
struct Waiting {
    opens: Opens,
    text: String,
    ended: bool,
}

impl Encoder<'_> {
    /// Takes the next line, or piece of one.
    fn line(&mut self, opens: Opens, bytes: &[u8], text: Cow<str>, ended: bool) -> Result<(), TextError> {
        /// The bytes that are worth several threads.
        const AT_ONCE: usize = 4 << 20;
        if self.pool.is_none() {
            self.open(opens);
            return self.tokenizer.encode_line(bytes, &text, ended, &mut |id, unknown| self.push(id, unknown));
        }
        self.size += text.len();
        self.waiting.push(Waiting { opens, text: text.into_owned(), ended });
        if self.size < AT_ONCE { Ok(()) } else { self.encode_waiting() }
    }

    /// Encodes what waits, side by side, and takes the tokens in order.
    fn encode_waiting(&mut self) -> Result<(), TextError> {
        let Some(pool) = &self.pool else { return Ok(()) };
        let (lines, tokenizer) = (std::mem::take(&mut self.waiting), self.tokenizer);
        self.size = 0;
        let encode = |Waiting { opens, text, ended }: Waiting| {
            let mut tokens = Vec::new();
            tokenizer
                .encode_line(text.as_bytes(), &text, ended, &mut |id, unknown| {
                    tokens.push((id, unknown.map(str::to_owned)));
                })
                .map(|()| (opens, tokens))
        };
        let encoded: Vec<Result<_, TextError>> = pool.install(|| lines.into_par_iter().map(encode).collect());
        for line in encoded {
            let (opens, tokens) = line?;
            self.open(opens);
            tokens.into_iter().for_each(|(id, unknown)| self.push(id, unknown.as_deref()));
        }
        Ok(())
    }

    fn open(&mut self, opens: Opens) {
        let at = self.corpus.ids.len();
        if opens.line && self.tokenizer.line_markers() {
            self.corpus.line_starts.push(at);
        }
        // A document without tokens is none.
        if opens.document && self.corpus.document_starts.last() != Some(&at) {
            self.corpus.document_starts.push(at);
        }
    }

    fn push(&mut self, id: u32, unknown: Option<&str>) {
        if let Some(unknown) = unknown {
            self.corpus.unknown += 1;
            self.spell(unknown);
        } else if Some(id) == self.unknown_id {
            self.corpus.literal += 1;
        }
        self.corpus.ids.push(id);
        self.hasher.update(&id.to_le_bytes());
    }

    fn spell(&mut self, word: &str) {
        /// So many words are remembered.
        const REMEMBERED: usize = 1 << 16;
        if let Unknown::Kept(kept) = &mut self.unknown {
            kept.push((self.corpus.ids.len(), word.to_owned()));
        }
        let (Some(spelling), false) = (self.tokenizer.spelling(), matches!(self.unknown, Unknown::Counted)) else {
            return;
        };
        let nats = match self.spelled.get(word) {
            Some(nats) => *nats,
            None => spelling.nats(word),
        };
        if self.spelled.len() < REMEMBERED {
            self.spelled.insert(word.to_owned(), nats);
        }
        self.nats += nats;
    }
}

/// A text as ids.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The ids in order.
    pub ids: Ids,
    /// Where each line starts; only for tokenizers with line markers.
    pub line_starts: Vec<usize>,
    /// Where each document starts; empty where the text is one.
    pub document_starts: Vec<usize>,
    /// How often what delimits documents was found.
    pub delimiters: usize,
    /// After how many of these the line went on.
    pub inline: usize,
    /// The lines that ended with a carriage return and a line feed.
    pub crlf: usize,
    /// The tokens that training never had.
    pub unknown: usize,
    /// Those that are the unknown token in so many letters.
    pub literal: usize,
    /// The cost of spelling out the unknown tokens, in nats beside their loss; `None` where that is not known.
    pub spelling: Option<f64>,
    /// The lines.
    pub lines: usize,
    /// The words: what stands between white space, and the end of each line as one more (as the Penn Treebank is counted).
    pub words: usize,
    /// The characters, line feeds included.
    pub characters: usize,
    /// The bytes read.
    pub bytes: u64,
    /// A checksum of the ids.
    pub fingerprint: String,
}

impl Corpus {
    /// Reads a text.
    ///
    /// # Errors
    /// A text that cannot be read, is not text, is empty, or does not fit the memory.
    pub fn read(source: &Source, tokenizer: &Tokenizer, lossy: bool) -> Result<Self, TextError> {
        Ok(Self::read_with(source, tokenizer, lossy, Unknown::Spelled)?.0)
    }

    /// Reads the text that a tokenizer is, or will be, of. The spelling of its unknown words is what models say that have not
    /// counted them.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_training(source: &Source, tokenizer: &Tokenizer, lossy: bool) -> Result<Self, TextError> {
        Ok(Self::read_with(source, tokenizer, lossy, Unknown::Counted)?.0)
    }

    /// Reads a text and keeps its unknown words, each with the place of its token.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_keeping(
        source: &Source,
        tokenizer: &Tokenizer,
        lossy: bool,
    ) -> Result<(Self, Vec<(usize, String)>), TextError> {
        let (corpus, unknown) = Self::read_with(source, tokenizer, lossy, Unknown::Kept(Vec::new()))?;
        Ok((corpus, if let Unknown::Kept(kept) = unknown { kept } else { Vec::new() }))
    }

    fn read_with(
        source: &Source,
        tokenizer: &Tokenizer,
        lossy: bool,
        unknown: Unknown,
    ) -> Result<(Self, Unknown), TextError> {
        let of_training = matches!(unknown, Unknown::Counted);
        let bytes_kind = tokenizer.kind() == TokenizerKind::Bytes;
        let mut ids = Ids::for_vocabulary(tokenizer.vocabulary_size());
        // A little more than expected: to grow would copy them all.
        let expected = source.check_memory(tokenizer.kind(), ids.width())?;
        ids.reserve(expected + expected / 50);
        let corpus = Self {
            ids,
            line_starts: Vec::new(),
            document_starts: Vec::new(),
            delimiters: 0,
            inline: 0,
            crlf: 0,
            unknown: 0,
            literal: 0,
            spelling: None,
            lines: 0,
            words: 0,
            characters: 0,
            bytes: source.bytes(),
            fingerprint: String::new(),
        };
        let threads = lstm_kernels::threads();
        // Where the system gives no threads, this one does the work.
        let pool = (tokenizer.is_slow() && threads > 1)
            .then(|| rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok())
            .flatten();
        let hasher = crc32fast::Hasher::new();
        let mut encoder = Encoder {
            corpus,
            tokenizer,
            hasher,
            unknown,
            spelled: HashMap::new(),
            nats: 0.0,
            unknown_id: tokenizer.unknown(),
            pool,
            waiting: Vec::new(),
            size: 0,
        };
        let mut line_open = false;
        visit_lines(source, &mut |line| {
            let text = as_text(line.path, line.offset, line.bytes, lossy || bytes_kind)?;
            let corpus = &mut encoder.corpus;
            corpus.words += text.split_whitespace().count() + usize::from(line.ended);
            corpus.characters += text.chars().count();
            corpus.lines += usize::from(line.opens);
            corpus.crlf += usize::from(line.crlf);
            corpus.delimiters += usize::from(line.ends_document);
            corpus.inline += usize::from(line.ends_document && !line.ended);
            line_open = !line.ended;
            let begins_document = line.begins_document && source.reading().documents.is_some();
            encoder.line(Opens { line: line.opens, document: begins_document }, line.bytes, text, line.ended)
        })?;
        encoder.encode_waiting()?;
        let Encoder { mut corpus, hasher, nats, unknown, .. } = encoder;
        corpus.spelling = match tokenizer.spelling() {
            Some(spelling) if of_training => Some(spelling.training_nats(corpus.unknown, corpus.literal)),
            Some(spelling) => Some(nats + corpus.literal as f64 * spelling.literal_nats()),
            None => (corpus.unknown == 0).then_some(0.0),
        };
        if line_open && tokenizer.line_markers() {
            // Its end is predicted all the same.
            corpus.words += 1;
            corpus.characters += 1;
        }
        if corpus.document_starts.last() == Some(&corpus.ids.len()) {
            corpus.document_starts.pop();
        }
        corpus.fingerprint = format!("{:08x}", hasher.finalize());
        if corpus.ids.is_empty() {
            let why = "has no tokens: it is empty or only white space";
            return Err(TextError::Unusable(format!("{} {why}", source.name())));
        }
        Ok((corpus, unknown))
    }

    /// The tokens to predict: the ids, and the ends of lines where they are markers.
    pub fn tokens(&self) -> usize {
        self.ids.len() + self.line_starts.len()
    }

    /// How often each token occurs, with the ends of lines that batches put behind them.
    pub(crate) fn counts(&self, tokenizer: &Tokenizer) -> Vec<u64> {
        let mut counts = self.ids.counts(tokenizer.vocabulary_size());
        if let Some(eos) = tokenizer.eos().filter(|_| tokenizer.line_markers()) {
            counts[eos as usize] += self.line_starts.len() as u64;
        }
        counts
    }

    /// The perplexity per word of a model with this loss here: e to the power of the total loss over the number of words.
    /// Where not all tokens were predicted, the mean of those that were stands for the others. Unknown words are spelled out;
    /// `None` where it is not known what that takes, or where the text is not written in words.
    pub fn word_perplexity(&self, loss: Loss) -> Option<f64> {
        let of_words = (self.nats(loss)? / self.words.max(1) as f64).exp();
        Some(of_words).filter(|of_words| self.has_words() && of_words.is_finite())
    }

    /// Whether white space sets words apart: of DNA or Thai in long lines it does not, and a figure per word would be one per
    /// line.
    pub fn has_words(&self) -> bool {
        /// More characters a word than any language has on average.
        const LONGEST_MEAN: usize = 40;
        self.characters <= LONGEST_MEAN * self.words
    }

    /// The bits per character, counted likewise.
    pub fn bits_per_char(&self, loss: Loss) -> Option<f64> {
        Some(self.nats(loss)? / self.characters.max(1) as f64 / std::f64::consts::LN_2)
    }

    /// What the text itself takes, its unknown words spelled out.
    fn nats(&self, loss: Loss) -> Option<f64> {
        Some(loss.mean() * self.tokens() as f64 + self.spelling?)
    }

    /// The ids of one line, for tokenizers with line markers.
    pub(crate) fn line(&self, index: usize) -> std::ops::Range<usize> {
        let end = self.line_starts.get(index + 1).copied().unwrap_or(self.ids.len());
        self.line_starts[index]..end
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::text::tokenizer::VocabularyOptions;

    #[test]
    fn subwords_are_the_same_for_any_number_of_threads() {
        let text: String = (0..500).map(|n| format!("line {n} of a text\n")).collect();
        let source = Source::from_text(&text);
        for line_markers in [false, true] {
            let options = VocabularyOptions { line_markers, max_size: Some(300), ..Default::default() };
            let tokenizer = Tokenizer::build(TokenizerKind::Bpe, &source, options, false).unwrap();
            let read = |threads| {
                let read = || Corpus::read(&source, &tokenizer, false).unwrap();
                let Corpus { fingerprint, line_starts, words, .. } = lstm_kernels::with_threads(threads, read);
                (fingerprint, line_starts, words)
            };
            assert_eq!(read(1), read(3));
        }
    }

    #[test]
    fn perplexities_per_word_and_bits_per_character_do_not_depend_on_the_tokens() {
        // With their ends five words and 17 characters; 34 nats in all, whatever they are spread over.
        for kind in [TokenizerKind::Words, TokenizerKind::Chars, TokenizerKind::Bytes] {
            for line_markers in [false, true] {
                let source = Source::from_text("one größer\nthree\n");
                let options = VocabularyOptions { line_markers, min_count: Some(1), ..Default::default() };
                let tokenizer = Tokenizer::build(kind, &source, options, false).unwrap();
                let corpus = Corpus::read(&source, &tokenizer, false).unwrap();
                assert_eq!((corpus.words, corpus.characters), (5, 17), "{kind}");
                let expected = [(TokenizerKind::Words, 5), (TokenizerKind::Chars, 17), (TokenizerKind::Bytes, 19)];
                assert!(expected.contains(&(kind, corpus.tokens())), "{kind}: {}", corpus.tokens());
                let loss = Loss { nll: 34.0, tokens: corpus.tokens() };
                assert!((corpus.word_perplexity(loss).unwrap() - (34.0f64 / 5.0).exp()).abs() < 1e-9);
                assert!((corpus.bits_per_char(loss).unwrap() - 2.0 / 2.0f64.ln()).abs() < 1e-12);
                // Half of the tokens with half of the loss say the same.
                let half = Loss { nll: 34.0 / corpus.tokens() as f64, tokens: 1 };
                assert!((corpus.bits_per_char(half).unwrap() - 2.0 / 2.0f64.ln()).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_penn_treebank_has_its_published_counts() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ptb");
        if !folder.exists() {
            eprintln!("skipped: the Penn Treebank is not beside the project");
            return;
        }
        let splits = Source::open(&folder).unwrap();
        let tokenizer =
            Tokenizer::build(TokenizerKind::Words, &splits.train, VocabularyOptions::default(), false).unwrap();
        assert_eq!(tokenizer.vocabulary_size(), 10_000);
        for (source, tokens) in [(Some(splits.train), 929_589), (splits.valid, 73_760), (splits.test, 82_430)] {
            let corpus = Corpus::read(&source.unwrap(), &tokenizer, false).unwrap();
            assert_eq!((corpus.ids.len(), corpus.unknown), (tokens, 0));
        }
    }
}
