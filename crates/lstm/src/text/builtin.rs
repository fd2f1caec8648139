//! The built-in language: English-like sentences from a small probabilistic grammar whose entropy is known exactly.
//!
//! A verb agrees in number with its subject across relative clauses and prepositional phrases, and what is opened by a
//! quote or a bracket is closed by its partner, so that counting short contexts cannot learn it. Every string has one
//! derivation (word classes are disjoint and every choice shows in its first word), so the entropy of a sentence is
//! the expected number of uses of each symbol times the entropy of its choice (Grenander 1967).

use super::tokenizer::TokenizerKind;
use crate::rng::{Purpose, Rng};

/// A piece of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// Another symbol.
    Symbol(usize),
    /// A word, by its index.
    Word(usize),
}

/// A symbol's rules with their probabilities.
#[derive(Clone, Debug, Default)]
struct Symbol {
    rules: Vec<(f64, Vec<Piece>)>,
}

/// A probabilistic grammar over a few hundred words.
#[derive(Clone, Debug)]
pub struct Grammar {
    symbols: Vec<Symbol>,
    names: Vec<String>,
    words: Vec<String>,
}

const NOUNS: &str = "dog cat bird horse farmer teacher doctor painter sailor child student neighbour writer singer \
    baker king queen pilot guard judge lawyer nurse clerk tailor miller hunter poet actor dancer driver soldier \
    gardener sister brother uncle aunt cousin visitor stranger traveller merchant priest prince duke captain waiter \
    butcher barber plumber porter shepherd weaver drummer juggler wizard giant rabbit tiger goat donkey";
const VERBS: &str = "see like know follow help watch hear admire trust remember visit paint greet call find miss \
    thank teach support amuse push pull hold lift chase invite blame praise forgive obey fear hire need warn scold join";
const INTRANSITIVE: &str = "sleep laugh run wait sing smile work rest dance travel shout whisper sneeze stumble swim \
    hesitate vanish return";
const ADJECTIVES: &str = "old young tall small quiet happy tired clever brave kind proud gentle busy honest rich lazy \
    loud shy strange gloomy noble polite cheerful weary wealthy humble nervous curious";
const PREPOSITIONS: &str = "near behind beside with without beyond around opposite against";
const ADVERBS: &str = "often today slowly again quietly always alone outside everywhere upstairs downstairs tonight \
    sometimes loudly calmly gladly";
const NAMES: &str = "anna peter maria john clara henry emma oscar laura simon alice martin sophie david helen frank \
    julia robert";

/// The plural of a noun.
fn plural(noun: &str) -> String {
    if noun == "child" { "children".to_owned() } else { format!("{noun}s") }
}

/// The third person singular of a verb.
fn third_person(verb: &str) -> String {
    let hisses = ["s", "sh", "ch"].iter().any(|ending| verb.ends_with(ending));
    format!("{verb}{}", if hisses { "es" } else { "s" })
}

impl Grammar {
    /// The language of the program.
    pub fn standard() -> Self {
        let mut grammar = Self { symbols: Vec::new(), names: Vec::new(), words: Vec::new() };
        let each = |words: &str, form: fn(&str) -> String| words.split_whitespace().map(form).collect::<Vec<_>>();
        for (class, words, form) in [
            ("noun.one", NOUNS, str::to_owned as fn(&str) -> String),
            ("noun.many", NOUNS, plural),
            ("verb.one", VERBS, third_person),
            ("verb.many", VERBS, str::to_owned),
            ("rest.one", INTRANSITIVE, third_person),
            ("rest.many", INTRANSITIVE, str::to_owned),
            ("adjective", ADJECTIVES, str::to_owned),
            ("preposition", PREPOSITIONS, str::to_owned),
            ("adverb", ADVERBS, str::to_owned),
            ("name", NAMES, str::to_owned),
        ] {
            grammar.class(class, &each(words, form));
        }
        grammar.rules("sentence", &[(0.8, "<clause> ."), (0.1, "<quote> ."), (0.1, "<bracket> .")]);
        grammar.rules("quote", &[(0.5, "\" <clause> \" said <name>"), (0.5, "' <clause> ' said <name>")]);
        grammar.rules("bracket", &[(0.5, "( <clause> ) <clause>"), (0.5, "[ <clause> ] <clause>")]);
        grammar.rules(
            "clause",
            &[(0.4, "<phrase.one> <action.one>"), (0.4, "<phrase.many> <action.many>"), (0.2, "<name> <action.one>")],
        );
        for (number, determiner) in [("one", "this"), ("many", "these")] {
            let mut rules = |name: &str, rules: &[(f64, &str)]| {
                let numbered = |text: &str| text.replace('#', number);
                let rules: Vec<_> = rules.iter().map(|(probability, text)| (*probability, numbered(text))).collect();
                let rules: Vec<_> = rules.iter().map(|(probability, text)| (*probability, text.as_str())).collect();
                grammar.rules(&numbered(name), &rules);
            };
            rules("phrase.#", &[(0.7, "the <core.#>"), (0.3, &format!("{determiner} <core.#>"))]);
            rules("core.#", &[(0.3, "<adjective> <head.#>"), (0.7, "<head.#>")]);
            rules("head.#", &[(1.0, "<noun.#> <place> <relative.#>")]);
            rules("relative.#", &[(0.78, ""), (0.11, "who <verb.#> <object>"), (0.11, "that <person> ,")]);
            rules("action.#", &[(0.6, "<verb.#> <object> <manner>"), (0.4, "<rest.#> <manner>")]);
        }
        grammar.rules("place", &[(0.8, ""), (0.2, "<preposition> <object.short>")]);
        grammar.rules("object.short", &[(0.5, "the <noun.one>"), (0.5, "the <noun.many>")]);
        grammar.rules("object", &[(0.35, "a <noun.one>"), (0.35, "some <noun.many>"), (0.3, "<name>")]);
        grammar.rules("manner", &[(0.7, ""), (0.3, "<adverb>")]);
        grammar.rules(
            "person",
            &[(0.5, "every <noun.one> <place> <verb.one>"), (0.5, "all <noun.many> <place> <verb.many>")],
        );
        grammar
    }

    /// A class of words with falling probabilities, about as 1 / rank^0.7.
    fn class(&mut self, name: &str, words: &[String]) {
        let weight = |rank: usize| (rank as f64 + 2.0).powf(-0.7);
        let total: f64 = (0..words.len()).map(weight).sum();
        let index = self.symbol(name);
        for (rank, word) in words.iter().enumerate() {
            let word = self.word(word);
            self.symbols[index].rules.push((weight(rank) / total, vec![Piece::Word(word)]));
        }
    }

    /// The rules of a symbol: their probabilities and pieces, where `<name>` is another symbol.
    fn rules(&mut self, name: &str, rules: &[(f64, &str)]) {
        let index = self.symbol(name);
        for (probability, pieces) in rules {
            let mut parse = |piece: &str| match piece.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
                Some(symbol) => Piece::Symbol(self.symbol(symbol)),
                None => Piece::Word(self.word(piece)),
            };
            let pieces = pieces.split_whitespace().map(&mut parse).collect();
            self.symbols[index].rules.push((*probability, pieces));
        }
    }

    fn symbol(&mut self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.symbols.push(Symbol::default());
            self.names.len() - 1
        })
    }

    fn word(&mut self, word: &str) -> usize {
        self.words.iter().position(|known| known == word).unwrap_or_else(|| {
            self.words.push(word.to_owned());
            self.words.len() - 1
        })
    }

    /// The class of a word, such as `noun.many` or `verb.one`; `None` of the words that are in none.
    pub fn class_of(&self, word: &str) -> Option<&str> {
        let word = Piece::Word(self.words.iter().position(|known| known == word)?);
        let is_class = |symbol: &Symbol| symbol.rules.iter().all(|(_, pieces)| matches!(pieces[..], [Piece::Word(_)]));
        let found = self
            .symbols
            .iter()
            .position(|symbol| is_class(symbol) && symbol.rules.iter().any(|(_, p)| p[0] == word))?;
        Some(&self.names[found])
    }

    /// The words of the language.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Sentences, one a line, at least `tokens` tokens of them counting the ends of lines. Each `split` has its own.
    pub fn sample(&self, seed: u64, split: u64, tokens: usize) -> String {
        let mut rng = Rng::new(seed, Purpose::BuiltinText, split);
        let mut text = String::new();
        let mut count = 0;
        while count < tokens {
            let (words, _) = self.sentence(&mut rng);
            count += words.len() + 1;
            let words: Vec<&str> = words.iter().map(|&word| self.words[word].as_str()).collect();
            text.push_str(&words.join(" "));
            text.push('\n');
        }
        text
    }

    /// One sentence and its log-probability.
    fn sentence(&self, rng: &mut Rng) -> (Vec<usize>, f64) {
        let mut words = Vec::new();
        let mut log_probability = 0.0;
        let mut stack = vec![Piece::Symbol(self.start())];
        while let Some(piece) = stack.pop() {
            match piece {
                Piece::Word(word) => words.push(word),
                Piece::Symbol(symbol) => {
                    let mut draw = rng.uniform();
                    let rules = &self.symbols[symbol].rules;
                    let chosen = rules.iter().position(|(probability, _)| {
                        draw -= probability;
                        draw < 0.0
                    });
                    let (probability, pieces) = &rules[chosen.unwrap_or(rules.len() - 1)];
                    log_probability += probability.ln();
                    stack.extend(pieces.iter().rev());
                }
            }
        }
        (words, log_probability)
    }

    fn start(&self) -> usize {
        self.names.iter().position(|name| name == "sentence").unwrap_or(0)
    }

    /// The expected number of uses of each symbol in a sentence: the fixed point of e = start + Σ e · (expected
    /// children), reached because no symbol can, on average, reproduce itself.
    fn expected_uses(&self) -> Vec<f64> {
        let mut uses = vec![0.0; self.symbols.len()];
        for _ in 0..10_000 {
            let mut next = vec![0.0; uses.len()];
            next[self.start()] = 1.0;
            for (symbol, uses) in self.symbols.iter().zip(&uses) {
                for (probability, pieces) in &symbol.rules {
                    for piece in pieces {
                        if let Piece::Symbol(child) = piece {
                            next[*child] += uses * probability;
                        }
                    }
                }
            }
            let moved: f64 = next.iter().zip(&uses).map(|(a, b)| (a - b).abs()).sum();
            uses = next;
            if moved == 0.0 {
                break;
            }
        }
        uses
    }

    /// The exact entropy of a sentence, in nats.
    pub fn entropy_per_sentence(&self) -> f64 {
        let choice = |symbol: &Symbol| -> f64 { symbol.rules.iter().map(|(p, _)| -p * p.ln()).sum() };
        self.symbols.iter().zip(self.expected_uses()).map(|(symbol, uses)| uses * choice(symbol)).sum()
    }

    /// The exact expected number of tokens of a sentence, its end included; of subwords it is not known.
    pub fn tokens_per_sentence(&self, kind: TokenizerKind) -> Option<f64> {
        let (of_word, end): (fn(&str) -> usize, f64) = match kind {
            TokenizerKind::Words => (|_| 1, 1.0),
            // With the space or the line end behind it; every character is one byte.
            TokenizerKind::Chars | TokenizerKind::Bytes => (|word| word.len() + 1, 0.0),
            _ => return None,
        };
        let tokens = |piece: &Piece| match piece {
            Piece::Symbol(_) => 0,
            Piece::Word(word) => of_word(&self.words[*word]),
        };
        let sum = |pieces: &[Piece]| pieces.iter().map(tokens).sum::<usize>() as f64;
        let expected = |symbol: &Symbol| symbol.rules.iter().map(|(p, pieces)| p * sum(pieces)).sum::<f64>();
        let uses = self.expected_uses();
        Some(end + self.symbols.iter().zip(uses).map(|(symbol, uses)| uses * expected(symbol)).sum::<f64>())
    }

    /// The perplexity per token below which no model can stay: exp(entropy / tokens) of a sentence.
    pub fn floor_perplexity(&self, kind: TokenizerKind) -> Option<f64> {
        Some((self.entropy_per_sentence() / self.tokens_per_sentence(kind)?).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Grammar {
        /// The probabilities of all derivations of every prefix split: the inside probability of `words` under
        /// `pieces`, found by trying every rule (an independent way to the probability of a string).
        fn inside(&self, pieces: &[Piece], words: &[usize]) -> f64 {
            match pieces.split_first() {
                None => f64::from(u8::from(words.is_empty())),
                Some((Piece::Word(word), rest)) => match words.split_first() {
                    Some((first, words)) if first == word => self.inside(rest, words),
                    _ => 0.0,
                },
                Some((Piece::Symbol(symbol), rest)) => self.symbols[*symbol]
                    .rules
                    .iter()
                    .map(|(probability, body)| {
                        let pieces: Vec<Piece> = body.iter().chain(rest).copied().collect();
                        if matches!((pieces.first(), words.first()), (Some(Piece::Word(a)), b) if Some(a) != b) {
                            return 0.0;
                        }
                        probability * self.inside(&pieces, words)
                    })
                    .sum(),
            }
        }
    }

    #[test]
    fn every_word_has_one_meaning() {
        let grammar = Grammar::standard();
        let mut words: Vec<&str> = grammar.words().iter().map(String::as_str).collect();
        assert!(words.len() > 300, "{} words", words.len());
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), grammar.words().len());
        // A word in two classes would give a sentence two derivations.
        let mut classes = vec![0; words.len()];
        for (_, pieces) in grammar.symbols.iter().flat_map(|symbol| &symbol.rules) {
            if let [Piece::Word(word)] = pieces[..] {
                classes[word] += 1;
            }
        }
        assert!(classes.iter().all(|&count| count <= 1));
    }

    #[test]
    fn every_sentence_has_one_derivation_and_the_entropy_is_exact() {
        let grammar = Grammar::standard();
        for symbol in &grammar.symbols {
            assert!((symbol.rules.iter().map(|(p, _)| p).sum::<f64>() - 1.0).abs() < 1e-12);
        }
        let mut rng = Rng::new(11, Purpose::BuiltinText, 9);
        let n = 20_000;
        let (mut sum, mut squares, mut tokens, mut characters) = (0.0, 0.0, 0usize, 0usize);
        for index in 0..n {
            let (words, log_probability) = grammar.sentence(&mut rng);
            if index < 400 {
                let inside = grammar.inside(&[Piece::Symbol(grammar.start())], &words);
                assert!((inside.ln() - log_probability).abs() < 1e-9, "{words:?}");
            }
            sum -= log_probability;
            squares += log_probability * log_probability;
            tokens += words.len() + 1;
            characters += words.iter().map(|&word| grammar.words()[word].len() + 1).sum::<usize>();
        }
        let mean = sum / f64::from(n);
        let error = ((squares / f64::from(n) - mean * mean) / f64::from(n)).sqrt();
        assert!((mean - grammar.entropy_per_sentence()).abs() < 4.0 * error);
        assert!(
            (tokens as f64 / f64::from(n) - grammar.tokens_per_sentence(TokenizerKind::Words).unwrap()).abs() < 0.2
        );
        assert!(
            (characters as f64 / f64::from(n) - grammar.tokens_per_sentence(TokenizerKind::Chars).unwrap()).abs() < 1.0
        );
    }

    #[test]
    fn a_trigram_stays_well_above_the_floor() {
        use crate::text::ngram::Ngram;
        let grammar = Grammar::standard();
        let ids = |split, tokens| -> Vec<u32> {
            let text = grammar.sample(1, split, tokens);
            let id = |word: &str| grammar.words().iter().position(|w| w == word).unwrap() as u32 + 1;
            text.lines().flat_map(|line| line.split(' ').map(id).chain([0]).collect::<Vec<_>>()).collect()
        };
        let model = Ngram::train(3, &ids(0, 300_000), grammar.words().len() + 1, Some(0));
        let floor = grammar.floor_perplexity(TokenizerKind::Words).unwrap();
        let ratio = model.perplexity(&ids(1, 30_000)) / floor;
        eprintln!("floor {floor:.3}, trigram {ratio:.3} times as much");
        assert!(ratio > 1.1, "{ratio}");
    }
}
