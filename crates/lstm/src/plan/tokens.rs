//! The kind of tokens, chosen by measuring: the text's characters, subwords and words are counted on a sample of it, and those
//! that foresee held-out pieces of it in the fewest bits a character are taken.
//!
//! The measure is a Kneser-Ney model of each kind of token. It is the same on every machine, takes a second where a
//! network would take minutes to tell the kinds apart, and orders them as networks do (`docs/budget.md`). What a word
//! costs that training never had is spelled out by a model of the characters of rare words.

use std::collections::HashMap;
use std::f64::consts::LN_2;

use crate::text::TextError;
use crate::text::corpus::Corpus;
use crate::text::lines::visit_text;
use crate::text::ngram::Ngram;
use crate::text::source::Source;
use crate::text::spelling::Spelling;
use crate::text::tokenizer::{Tokenizer, TokenizerKind, VocabularyOptions};

/// The kinds of tokens to choose from, from the one that is taken where they are level. Beside each, how many tokens its
/// models count at a time: the best of them stands for the kind, since what a text does not need only adds noise (eight
/// random digits in a row take 4.5 bits a character with seven, 4 with two).
const KINDS: [(TokenizerKind, &[usize]); 3] =
    [(TokenizerKind::Words, &[1, 3]), (TokenizerKind::Chars, &[2, 4, 7]), (TokenizerKind::Bpe, &[1, 2, 4])];

/// How much better a later kind has to be to be taken all the same, as a share and in bits a character. Networks learn
/// characters sooner than subwords, of which each has a vector to be learned: of tinyshakespeare subwords are 1.5 % better
/// by counting and 2 % worse in a network's forty seconds, of molecules 2 % worse and three times as bad.
const LEVEL: (f64, f64) = (1.02, 0.005);

/// What characters lose of that where there is more text to read, as a power of e, and between how many of them it grows with their logarithm: a long text
/// teaches a vector for each subword, and in the same time more of it is read in them. In a minute of one processor subwords end 4 to 10 % above
/// characters on four texts of a million of them, 7 to 13 % below on three of two to six million, 3 % above on a fourth, which counting does not
/// tell apart (`docs/budget.md`).
const LOST_IN_LONG: f64 = 0.11;
const LONG: (f64, f64) = (1.15e6, 2e6);

/// The most characters between white space, on average, of a text that has words.
const LONGEST_WORDS: f64 = 12.0;

/// The bytes of a sample for each second of a run, and the bounds of them.
const SAMPLED_A_SECOND: f64 = 24.0 * 1024.0;
const SAMPLED: (f64, f64) = (32.0 * 1024.0, 512.0 * 1024.0);

/// The pieces that a sample is cut into; every tenth is held out.
const PIECES: usize = 40;
const HELD_OUT: usize = 10;

/// The gain of a doubling of the text, as a share of that of the doubling before it.
const GAIN: f64 = 0.85;

/// The bits of a character that training never had: one of all there are.
const UNKNOWN_CHARACTER: f64 = 20.0;

/// The share of unknown words above which what stands between white space is no word: a line of Thai, of Chinese, a name.
const MOST_UNKNOWN: f64 = 0.25;

/// The characters of a text for each of its subwords, so that each is met often enough, and the bounds of their number.
const CHARACTERS_PER_SUBWORD: f64 = 280.0;
const SUBWORDS: (usize, usize) = (500, 8_000);

/// How many subwords to make of a text of so many characters.
pub(super) fn subwords(characters: f64) -> usize {
    ((characters / CHARACTERS_PER_SUBWORD) as usize).clamp(SUBWORDS.0, SUBWORDS.1)
}

/// A part of a text to measure on.
pub(super) struct Sample {
    text: String,
    /// The bytes of the text that it is of.
    of: u64,
}

impl Sample {
    /// Of the text of a run of so many seconds.
    ///
    /// # Errors
    /// A text that cannot be read.
    pub(super) fn of(source: &Source, seconds: f64, lossy: bool) -> Result<Self, TextError> {
        let most = (SAMPLED_A_SECOND * seconds).clamp(SAMPLED.0, SAMPLED.1) as u64;
        let mut text = String::new();
        visit_text(&source.sample(most)?, lossy, false, &mut |line, _| text.push_str(line))?;
        Ok(Self { text, of: source.bytes() })
    }

    /// The sample as a text.
    pub(super) fn source(&self) -> Source {
        Source::from_text(&self.text)
    }

    /// Whether it has nothing but white space.
    pub(super) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> f64 {
        self.text.len() as f64
    }

    /// The characters of `bytes` of the text.
    pub(super) fn characters(&self, bytes: f64) -> f64 {
        bytes * self.text.chars().count() as f64 / self.bytes().max(1.0)
    }

    /// Its pieces: cut at the end of a line where there is one near, else behind white space, else anywhere.
    fn pieces(&self) -> Vec<&str> {
        let size = (self.text.len() / PIECES).max(1);
        let (mut pieces, mut rest) = (Vec::new(), self.text.as_str());
        while rest.len() > size {
            let start = boundary(rest, size);
            let window = &rest[start..boundary(rest, start + size)];
            let line = window.find('\n').map(|at| start + at + 1);
            let space = || window.find(' ').map(|at| start + at + 1);
            let (piece, after) = rest.split_at(line.or_else(space).unwrap_or(start));
            pieces.push(piece);
            rest = after;
        }
        pieces.extend((!rest.is_empty()).then_some(rest));
        pieces
    }

    /// The pieces to learn from, of which each `every`-th is taken, and those to measure on.
    fn split(&self, every: usize) -> (String, String) {
        let pieces = self.pieces();
        let is_held_out = |at: usize| at % HELD_OUT == HELD_OUT / 2 || at + 1 == pieces.len() && at < HELD_OUT / 2;
        let of = |held_out: bool| pieces.iter().enumerate().filter(move |(at, _)| is_held_out(*at) == held_out);
        let taken = of(false).enumerate().filter(|(at, _)| at % every == 0).map(|(_, (_, piece))| *piece);
        (taken.collect(), of(true).map(|(_, piece)| *piece).collect())
    }
}

/// The first place from `at` on where a character of `text` begins, or its end.
fn boundary(text: &str, at: usize) -> usize {
    (at..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

/// A kind of token, measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The kind.
    pub kind: TokenizerKind,
    /// The bits of a character of a text that was not learned from, the spelling of unknown words included.
    pub bits: f64,
}

/// Every kind of token that a text can be read in, the one to take first. read: the bytes of the text that a run could
/// read in its time, which may be fewer than it has.
///
/// # Errors
/// A text that cannot be read.
pub(super) fn compare(sample: &Sample, vocabulary: VocabularyOptions, read: f64) -> Result<Vec<Measured>, TextError> {
    let doublings = ((sample.of as f64).min(read) / sample.bytes().max(1.0)).log2().max(0.0);
    let (train, held_out) = sample.split(1);
    let of_characters = characters_lose(sample, read);
    let mut measured = Vec::new();
    for (place, (kind, orders)) in KINDS.into_iter().enumerate() {
        let bits_of = |train: &str| bits(kind, orders, train, &held_out, vocabulary);
        let Some(of_all) = bits_of(&train)? else { continue };
        // What more of the text will gain is foreseen from what the second half of the sample gained.
        let gained = if doublings > 0.0 { bits_of(&sample.split(2).0)?.map_or(0.0, |half| half - of_all) } else { 0.0 };
        let ahead = gained.max(0.0) * GAIN * (1.0 - GAIN.powf(doublings)) / (1.0 - GAIN);
        let bits = (of_all - ahead).max(0.0);
        // Only in the order that they are taken in.
        let lost = if kind == TokenizerKind::Chars { of_characters } else { 1.0 };
        let handicap = LEVEL.1 * place as f64 + bits * lost * LEVEL.0.powi(place as i32);
        measured.push((handicap, Measured { kind, bits }));
    }
    measured.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    Ok(measured.into_iter().map(|(_, measured)| measured).collect())
}

/// How many times their bits characters count for, by how many of them can be read: see [`LOST_IN_LONG`].
fn characters_lose(sample: &Sample, read: f64) -> f64 {
    let words = sample.text.split_whitespace().count().max(1);
    if sample.text.chars().count() as f64 > LONGEST_WORDS * words as f64 {
        return 1.0;
    }
    let (from, to) = LONG;
    let characters = sample.characters((sample.of as f64).min(read)).clamp(from, to);
    (LOST_IN_LONG * (characters / from).ln() / (to / from).ln()).exp()
}

/// The bits of a character of `held_out` for what counted `train`; `None` where there is nothing to count, or no words.
fn bits(
    kind: TokenizerKind,
    orders: &[usize],
    train: &str,
    held_out: &str,
    vocabulary: VocabularyOptions,
) -> Result<Option<f64>, TextError> {
    let sources = [train, held_out].map(Source::from_text);
    if train.trim().is_empty() || held_out.trim().is_empty() {
        return Ok(None);
    }
    let mut options = vocabulary;
    if kind == TokenizerKind::Bpe {
        let size = subwords(train.chars().count() as f64);
        options.max_size = Some(options.max_size.map_or(size, |most| most.min(size)).max(SUBWORDS.0));
    }
    let tokenizer = Tokenizer::build(kind, &sources[0], options, false)?;
    let [learned, measured] = sources.map(|source| Corpus::read(&source, &tokenizer, false));
    let (learned, measured) = (learned?, measured?);
    if learned.ids.len() < 2 {
        return Ok(None);
    }
    if kind == TokenizerKind::Words && measured.unknown as f64 > MOST_UNKNOWN * measured.ids.len() as f64 {
        return Ok(None);
    }
    // A network reads on over the end of a line, so what is counted does too.
    let ids = |corpus: &Corpus| -> Vec<u32> { (0..corpus.ids.len()).map(|at| corpus.ids.get(at)).collect() };
    let (learn, foresee) = (ids(&learned), ids(&measured));
    let nll = |order: &usize| {
        let model = Ngram::train(*order, &learn, tokenizer.vocabulary_size(), None);
        model.perplexity(&foresee).ln() * foresee.len() as f64
    };
    let least = orders.iter().map(nll).fold(f64::INFINITY, f64::min);
    let spelled = match kind {
        TokenizerKind::Words => spelling(train, held_out, &tokenizer),
        _ => measured.unknown as f64 * UNKNOWN_CHARACTER * LN_2,
    };
    Ok(Some((least + spelled) / measured.characters.max(1) as f64 / LN_2))
}

/// The nats that it takes to spell the words of `held_out` that `words` does not know, learned from those that `train`
/// has once.
fn spelling(train: &str, held_out: &str, words: &Tokenizer) -> f64 {
    let unknown: Vec<&str> = held_out.split_whitespace().filter(|word| words.id(word).is_none()).collect();
    if unknown.is_empty() {
        return 0.0;
    }
    let mut counts: HashMap<&str, u64> = HashMap::new();
    train.split_whitespace().for_each(|word| *counts.entry(word).or_default() += 1);
    let rare: HashMap<String, u64> =
        counts.into_iter().filter(|(_, count)| *count == 1).map(|(word, _)| (word.to_owned(), 1)).collect();
    let replaced = rare.len() as u64;
    let spelling = Spelling::of_words(rare, replaced, 0);
    unknown.into_iter().map(|word| spelling.nats(word)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};
    use crate::text::builtin::Grammar;

    /// A text of `count` draws.
    fn text(count: usize, mut draw: impl FnMut(&mut Rng) -> String) -> String {
        let mut rng = Rng::new(1, Purpose::Generate, 7);
        (0..count).map(|_| draw(&mut rng)).collect()
    }

    fn below(rng: &mut Rng, most: usize) -> usize {
        (rng.uniform() * most as f64) as usize
    }

    /// The first of a table much more often than the last, as words are.
    fn often_first(rng: &mut Rng, most: usize) -> usize {
        ((most as f64).powf(rng.uniform()) as usize - 1).min(most - 1)
    }

    fn chosen(text: &str) -> (TokenizerKind, Vec<Measured>) {
        let sample = Sample::of(&Source::from_text(text), 600.0, false).unwrap();
        let measured = compare(&sample, VocabularyOptions::default(), f64::INFINITY).unwrap();
        (measured[0].kind, measured)
    }

    /// Words of `letters` that `spell` makes of two to six of them, by frequency, in lines joined by `between`.
    fn language(letters: &[char], kinds: usize, longest: usize, between: &str) -> String {
        let mut rng = Rng::new(2, Purpose::Generate, 7);
        let word =
            |_| (0..1 + below(&mut rng, longest)).map(|_| letters[often_first(&mut rng, letters.len())]).collect();
        let words: Vec<String> = (0..kinds).map(word).collect();
        text(2_500, |rng| {
            let mut word = below(rng, 40);
            let line: Vec<&str> = (0..6 + below(rng, 10))
                .map(|_| {
                    // What follows depends on what was there, among a tenth of all.
                    word = (word * 31 + 17 * often_first(rng, 12)) % 40 * (kinds / 40) + often_first(rng, kinds / 40);
                    &words[word][..]
                })
                .collect();
            line.join(between) + "\n"
        })
    }

    #[test]
    fn texts_without_white_space_are_read_in_characters() {
        let dna = text(60_000, |rng| ["A", "C", "G", "T"][below(rng, 4)].to_owned());
        let thai: Vec<char> = ('ก'..='ฮ').chain('ะ'..='ู').collect();
        let chinese: Vec<char> = ('一'..='鿿').step_by(17).collect();
        let syllables = ["ka", "ri", "mo", "len", "tas", "di", "ro", "na", "bel", "su", "fi", "ga"];
        let name = |rng: &mut Rng| (0..1 + below(rng, 3)).map(|_| syllables[below(rng, 12)]).collect::<String>() + "\n";
        let atoms = ["C", "C", "C", "N", "O", "c1ccccc1", "C(=O)O", "Cl", "[nH]", "(C)", "=", "S"];
        let molecule = |rng: &mut Rng| (0..3 + below(rng, 8)).map(|_| atoms[below(rng, 12)]).collect::<String>() + "\n";
        for (name, text) in [
            ("dna", dna),
            ("thai", language(&thai, 2_000, 6, "")),
            ("chinese", language(&chinese, 2_000, 3, "")),
            ("names", text(6_000, name)),
            ("smiles", text(4_000, molecule)),
        ] {
            let (kind, measured) = chosen(&text);
            assert_eq!(kind, TokenizerKind::Chars, "{name}: {measured:?}");
            if name == "dna" {
                let bits = measured[0].bits;
                assert!((1.99..2.03).contains(&bits), "four letters at random take two bits each, not {bits}");
            }
        }
    }

    #[test]
    fn a_text_of_words_is_read_in_words() {
        let letters: Vec<char> = ('a'..='z').collect();
        for text in [Grammar::standard().sample(1, 0, 20_000), language(&letters, 800, 7, " ")] {
            let (kind, measured) = chosen(&text);
            assert_eq!(kind, TokenizerKind::Words, "{measured:?}");
        }
    }

    #[test]
    fn characters_lose_where_there_is_more_text_of_words_to_read() {
        let words = Sample::of(&Source::from_text(&"some words of a text \n".repeat(2_000)), 600.0, false).unwrap();
        let of = |sample: &Sample, characters: f64| {
            characters_lose(&Sample { of: characters as u64, text: sample.text.clone() }, 1e9)
        };
        let lost = [1e5, 1.1e6, 1.6e6, 2.1e6, 1e8].map(|characters| of(&words, characters));
        assert!(lost[0] == 1.0 && lost[1] == 1.0 && lost[2] > 1.05 && lost[3] == lost[4], "{lost:?}");
        assert!((lost[4].ln() - LOST_IN_LONG).abs() < 1e-9);
        assert_eq!(
            characters_lose(&Sample { of: 100_000_000, text: words.text.clone() }, 1e6),
            1.0,
            "no time to read it"
        );
        let dna = Sample::of(&Source::from_text(&"ACGTTGCA".repeat(4_000)), 600.0, false).unwrap();
        assert_eq!(of(&dna, 1e8), 1.0);
    }

    /// A word that is unknown costs what it takes to spell it: 12 letters at random, and what stands between them.
    #[test]
    fn unknown_words_are_spelled_out() {
        let letter = |rng: &mut Rng| char::from(b'a' + below(rng, 26) as u8);
        let words = text(3_000, |rng| (0..12).map(|_| letter(rng)).chain(['\n']).collect());
        let (kind, measured) = chosen(&words);
        assert_eq!(kind, TokenizerKind::Chars, "{measured:?}");
        let least = 12.0 * 26f64.log2() / 13.0;
        assert!(measured.iter().all(|measured| measured.bits > 0.98 * least), "{least}: {measured:?}");
    }

    #[test]
    fn a_sample_is_cut_into_what_is_learned_and_what_is_held_out() {
        for text in ["a line of words\n".repeat(300), "word ".repeat(1_000), "字".repeat(2_000), "ab".to_owned()] {
            let sample = Sample::of(&Source::from_text(&text), 600.0, false).unwrap();
            assert_eq!(sample.pieces().concat(), text);
            let (train, held_out) = sample.split(1);
            assert_eq!(train.len() + held_out.len(), text.len());
            assert!(!train.is_empty() && !held_out.is_empty(), "{text:.20}");
            let (half, again) = sample.split(2);
            assert!(half.len() < train.len() || text.len() < 10);
            assert_eq!(again, held_out);
        }
        assert_eq!([0.0, 280_000.0, 1e9].map(subwords), [500, 1_000, 8_000]);
    }
}
