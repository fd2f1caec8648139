//! The spelling of unknown words: a model of the characters of what a tokenizer has no token for, counted on such words of
//! the training text. With its cost a figure per character or per word is that of the text itself, whatever its tokens are.
//!
//! The probability of an unknown word w is that of the unknown token times that of its spelling,
//! P(w) = Π P(cᵢ | c₁ … cᵢ₋₁) · P(end | w), by an interpolated Kneser-Ney n-gram whose last resort is every character of
//! Unicode alike. No word is empty. Where the text itself writes the token in so many letters, as the Penn Treebank does,
//! that is told apart by how often either happened in training (Krichevsky & Trofimov 1981). All strings together have
//! probability 1.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::ngram::Ngram;
use crate::coder::Coder;

/// The characters of Unicode: code points but for surrogates.
const UNICODE: f64 = (0x11_0000 - 0x800) as f64;

/// The end of a word, and what stands before its first character.
const END: u32 = 0;

/// Any character that the counted words have not.
const OTHER: u32 = 1;

/// The longest grams that are tried.
const LONGEST: usize = 6;

/// The most different words that are kept, of the most characters each, and the most that all together count.
const MOST_WORDS: usize = 20_000;
const MOST_CHARACTERS: usize = 1_000;
const MOST_COUNTED: u64 = 40_000;

/// The most words that the length of the grams is chosen on.
const MOST_TRIED: usize = 5_000;

/// A model of how unknown words are spelled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spelling {
    /// The length of its grams.
    order: usize,
    /// How often training had the token in the place of a word, and how often its text said it itself.
    replaced: u64,
    literal: u64,
    /// Nats that a replaced word of the training text takes, by a model that has not counted it.
    training: f64,
    /// The words and how often each counts.
    words: Vec<(String, u64)>,
    #[serde(skip)]
    counted: Lazy,
}

/// The counts, made when they are first needed.
#[derive(Clone, Debug, Default)]
struct Lazy(OnceLock<Characters>);

impl PartialEq for Lazy {
    /// They follow from the words.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Spelling {
    /// Counts words, each so many times. `replaced` and `literal`: how often the training text has the token in the place
    /// of a word, and says it itself.
    pub fn of_words(words: HashMap<String, u64>, replaced: u64, literal: u64) -> Self {
        let cut = |word: String| word.chars().take(MOST_CHARACTERS).collect();
        let mut words: Vec<(String, u64)> = words.into_iter().map(|(word, count)| (cut(word), count)).collect();
        words.retain(|(word, count)| !word.is_empty() && *count > 0);
        words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let mut words = thinned(words, MOST_WORDS);
        let total: u64 = words.iter().map(|(_, count)| count).sum();
        if total > MOST_COUNTED {
            words.iter_mut().for_each(|(_, count)| *count = (*count * MOST_COUNTED / total).max(1));
        }
        let tried = thinned(words.clone(), MOST_TRIED);
        // The shorter one of two that do as well.
        let costs = (1..=LONGEST).map(|order| (order, held_out(&tried, order)));
        let best = costs.min_by(|a, b| a.1.total_cmp(&b.1));
        let (order, training) = best.unwrap_or((1, 0.0));
        Self { order, replaced, literal, training, words, counted: Lazy::default() }
    }

    /// The cost of spelling out an unknown word, in nats.
    pub fn nats(&self, word: &str) -> f64 {
        self.share(self.replaced) + self.characters().nats(word)
    }

    /// Codes what stands where the unknown token is: a word, by its spelling, or `None`, the token as the text's own. `chosen`
    /// is that where it is written. Gives `None` where what is read is no word.
    pub(crate) fn code(&self, coder: &mut impl Coder, chosen: Option<Option<&str>>) -> Option<Option<String>> {
        let kinds = [2 * self.replaced + 1, 2 * self.literal + 1];
        if coder.symbol(&kinds, chosen.map(|chosen| usize::from(chosen.is_none()))) == 1 {
            return Some(None);
        }
        let word = chosen.map(|chosen| chosen.unwrap_or_default());
        self.characters().code(coder, word).map(Some)
    }

    fn characters(&self) -> &Characters {
        self.counted.0.get_or_init(|| Characters::count(&self.words, self.order))
    }

    /// The cost of saying that the token is the text's own, in nats.
    pub fn literal_nats(&self) -> f64 {
        self.share(self.literal)
    }

    /// The cost of the unknown words of the training text, so many of them, and of so many tokens of its own. The model knows
    /// those very words; what is said is by models that do not.
    pub(crate) fn training_nats(&self, replaced: usize, literal: usize) -> f64 {
        replaced as f64 * (self.share(self.replaced) + self.training) + literal as f64 * self.literal_nats()
    }

    /// The length of the longest grams.
    pub fn order(&self) -> usize {
        self.order
    }

    /// Refuses what no text can have given.
    pub(crate) fn check(&self) -> Result<(), String> {
        let counted: u64 = self.words.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
        let bounds = (1..=LONGEST).contains(&self.order)
            && self.words.len() <= MOST_WORDS
            && counted <= MOST_COUNTED + MOST_WORDS as u64
            && self.words.iter().all(|(word, _)| !word.is_empty() && word.len() <= 4 * MOST_CHARACTERS)
            && self.training >= 0.0;
        if bounds { Ok(()) } else { Err("its model of unknown words is out of bounds".to_owned()) }
    }

    fn share(&self, of: u64) -> f64 {
        let all = self.replaced as f64 + self.literal as f64;
        -((of as f64 + 0.5) / (all + 1.0)).ln()
    }
}

/// At most so many of sorted words: half of them the first, the others from all over the rest.
fn thinned(words: Vec<(String, u64)>, most: usize) -> Vec<(String, u64)> {
    if words.len() <= most {
        return words;
    }
    let (first, length) = (most / 2, words.len());
    let (rest, wanted) = (length - first, most - first);
    let kept = |at: usize| at < first || (at - first) * wanted / rest != (at - first + 1) * wanted / rest;
    words.into_iter().enumerate().filter(|(at, _)| kept(*at)).map(|(_, word)| word).collect()
}

/// The nats of a word by grams of this length that were counted without it: every second word is scored by the others, and
/// by what is left of its half when each was taken away once.
fn held_out(words: &[(String, u64)], order: usize) -> f64 {
    let (mut nats, mut scored) = (0.0, 0);
    for half in 0..2 {
        let is_scored = |at: usize| at % 2 == half;
        let others =
            words.iter().enumerate().map(|(at, (word, count))| (word.clone(), count - u64::from(is_scored(at))));
        let characters = Characters::count(&others.collect::<Vec<_>>(), order);
        for (word, count) in words.iter().enumerate().filter(|(at, _)| is_scored(*at)).map(|(_, word)| word) {
            nats += *count as f64 * characters.nats(word);
            scored += count;
        }
    }
    nats / scored.max(1) as f64
}

/// Counted characters.
#[derive(Clone, Debug)]
struct Characters {
    ids: HashMap<char, u32>,
    grams: Ngram,
}

impl Characters {
    fn count(words: &[(String, u64)], order: usize) -> Self {
        let (mut ids, mut text) = (HashMap::new(), Vec::new());
        for (word, count) in words.iter().filter(|(_, count)| *count > 0) {
            let start = text.len();
            for character in word.chars() {
                let next = ids.len() as u32 + OTHER + 1;
                text.push(*ids.entry(character).or_insert(next));
            }
            text.push(END);
            let end = text.len();
            (1..*count).for_each(|_| text.extend_from_within(start..end));
        }
        let vocabulary = ids.len() + 2;
        Self { grams: Ngram::train(order, &text, vocabulary, Some(END)), ids }
    }

    /// Codes a word character by character; gives `None` where what is read is none.
    fn code(&self, coder: &mut impl Coder, word: Option<&str>) -> Option<String> {
        let known: HashMap<u32, char> = self.ids.iter().map(|(character, id)| (*id, *character)).collect();
        let mut characters = word.map(str::chars);
        let (mut ids, mut spelled) = (vec![END], String::new());
        loop {
            let next = characters.as_mut().map(Iterator::next);
            let id = |c: char| self.ids.get(&c).copied().unwrap_or(OTHER);
            let frequency = |id: u32| match id {
                // No word is empty.
                END if spelled.is_empty() => 0,
                _ => 1 + (self.grams.probability(&ids, id) * (1u64 << 32) as f64) as u64,
            };
            let frequencies: Vec<u64> = (0..known.len() as u32 + 2).map(frequency).collect();
            let symbol = coder.symbol(&frequencies, next.map(|next| next.map_or(END, id) as usize)) as u32;
            ids.push(symbol);
            match symbol {
                END => return Some(spelled),
                OTHER => {
                    let scalar = coder.number(24, next.flatten().map(|c| u32::from(c).into()));
                    spelled.push(char::from_u32(scalar as u32)?);
                }
                _ => spelled.push(*known.get(&symbol)?),
            }
            if coder.is_over() {
                return None;
            }
        }
    }

    fn nats(&self, word: &str) -> f64 {
        let mut ids = vec![END];
        ids.extend(word.chars().map(|character| self.ids.get(&character).copied().unwrap_or(OTHER)));
        ids.push(END);
        let others = ids.iter().filter(|id| **id == OTHER).count() as f64;
        let given: f64 = (1..ids.len()).map(|at| self.grams.probability(&ids[..at], ids[at]).ln()).sum();
        let not_empty = (1.0 - self.grams.probability(&ids[..1], END)).ln();
        others * (UNICODE - self.ids.len() as f64).ln() - given + not_empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

    fn spelling(words: &[(&str, u64)]) -> Spelling {
        Spelling::of_words(words.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect(), 3, 0)
    }

    /// Every word of up to `length` characters from a, b, and all others at once, and every beginning of a longer one.
    fn probability_of_all(model: &Spelling, length: usize) -> (f64, f64) {
        let characters = Characters::count(&model.words, model.order);
        let (mut whole, mut begun) = (0.0, 0.0);
        let mut open: Vec<String> = vec![String::new()];
        for _ in 0..length {
            let longer = open.iter().flat_map(|word| ['a', 'b', '字'].map(|next| format!("{word}{next}")));
            open = longer.collect();
            // One foreign character stands for all there are.
            let alike = |word: &String| (UNICODE - 2.0).powi(word.matches('字').count() as i32);
            whole += open.iter().map(|word| alike(word) * (-characters.nats(word)).exp()).sum::<f64>();
            let ends = |word: &String| {
                let ids: Vec<u32> = std::iter::once(END)
                    .chain(word.chars().map(|c| characters.ids.get(&c).copied().unwrap_or(OTHER)))
                    .collect();
                characters.grams.probability(&ids, END)
            };
            // A beginning has the probability of the word that ends there over that of ending.
            begun = open.iter().map(|w| alike(w) * (-characters.nats(w)).exp() / ends(w) * (1.0 - ends(w))).sum();
        }
        (whole, begun)
    }

    #[test]
    fn the_probabilities_of_all_words_sum_to_one() {
        for words in [&[("abba", 3), ("ab", 1), ("b", 2), ("baab", 1)][..], &[("a", 1), ("b", 1)], &[("ab", 40)]] {
            let mut model = spelling(words);
            for order in 1..=LONGEST {
                model.order = order;
                let (whole, begun) = probability_of_all(&model, 9);
                assert!((whole + begun - 1.0).abs() < 1e-9, "order {order}: {whole} and {begun}");
                assert!(whole > 0.5);
            }
        }
        // Both kinds of the token together.
        for (replaced, literal) in [(0, 0), (5, 0), (0, 45_020), (7, 9)] {
            let model = Spelling::of_words(HashMap::new(), replaced, literal);
            let sum = (-model.share(replaced)).exp() + (-model.share(literal)).exp();
            assert!((sum - 1.0).abs() < 1e-12 && model.literal_nats() > 0.0);
        }
    }

    #[test]
    fn without_any_word_every_character_of_unicode_is_alike() {
        let model = Spelling::of_words(HashMap::new(), 0, 0);
        // Of an end and a character each is a half; the first of a word is never an end.
        let of = |length: f64| length * UNICODE.ln() + length * 2.0f64.ln() + 2.0f64.ln();
        assert!((model.nats("é") - of(1.0)).abs() < 1e-9);
        assert!((model.nats("né字") - of(3.0)).abs() < 1e-9);
    }

    #[test]
    fn random_words_take_what_random_letters_take() {
        let mut rng = Rng::new(7, Purpose::Shuffle, 0);
        let mut word = || (0..12).map(|_| (b'a' + rng.below(26) as u8) as char).collect::<String>();
        let counted: HashMap<String, u64> = (0..3000).map(|_| (word(), 1)).collect();
        let model = Spelling::of_words(counted.clone(), 3000, 0);
        let least = 12.0 * 26.0f64.ln();
        let mean = |words: &[String]| words.iter().map(|w| model.nats(w)).sum::<f64>() / words.len() as f64;
        let fresh: Vec<String> = (0..500).map(|_| word()).collect();
        let known: Vec<String> = counted.into_keys().collect();
        // Neither new words nor those that were counted, nor what is said of the training text, are below it; and little
        // is lost but the length, which a gram does not know.
        for nats in [mean(&fresh), mean(&known), model.training_nats(1, 0)] {
            assert!(nats > 0.99 * least && nats < 1.12 * least, "{nats} of {least}, order {}", model.order);
        }
    }

    #[test]
    fn words_like_those_that_were_counted_take_less() {
        let stems = ["walk", "talk", "jump", "paint", "learn", "train", "climb", "point", "count", "print"];
        let ends = ["s", "ed", "ing", "er", "ers", "able", "less", "ness"];
        let words = stems.iter().flat_map(|stem| ends.map(|end| (format!("{stem}{end}"), 1)));
        let model = Spelling::of_words(words.collect(), 80, 0);
        assert!(model.order > 2, "{}", model.order);
        assert!(model.nats("painters") < 0.5 * model.nats("srtepnia"));
        assert!(model.nats("walking") < model.training_nats(1, 0) && model.nats("Ω") > UNICODE.ln());
    }

    #[test]
    fn of_many_words_the_frequent_and_some_of_the_others_are_kept() {
        let words: Vec<(String, u64)> = (0..1000).map(|n| (format!("{n}"), 1000 - n)).collect();
        let kept = thinned(words.clone(), 100);
        assert!(kept.len() == 100 && kept[..50] == words[..50]);
        assert!(kept[99].0.parse::<u64>().unwrap() > 950);
        let many: HashMap<String, u64> = (0..30_000).map(|n| (format!("w{n}"), 100)).collect();
        let model = Spelling::of_words(many, 1, 0);
        assert!(model.words.len() == MOST_WORDS && model.check().is_ok());
    }
}
