//! An n-gram model with interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998), the baseline of what counting
//! can do.

mod of_corpus;

use crate::model::loss::Loss;

/// The tokens that follow a context.
#[derive(Clone, Copy, Debug, Default)]
struct Context {
    /// The sum of the counts of what follows; 0 where nothing does.
    total: f64,
    /// The share of the probability that is left to the shorter context.
    backoff: f64,
}

/// The grams of one length.
#[derive(Clone, Debug, Default)]
struct Grams {
    /// Sorted: the index of the gram without its last token among those one shorter, and the last token. Of single tokens
    /// there are none: their index is the token.
    keys: Vec<u64>,
    /// How often each occurs; for all but the longest grams, and those that begin a line, after how many different
    /// tokens (Kneser & Ney 1995).
    counts: Vec<u32>,
    /// Each gram as a context; none for the longest.
    contexts: Vec<Context>,
    /// The discounts of counts of 1, of 2, and of more.
    discounts: [f64; 3],
}

impl Grams {
    fn find(&self, shorter: usize, token: u32) -> Option<usize> {
        self.keys.binary_search(&key(shorter, token)).ok()
    }
}

/// At most 2³² grams of a length are told apart, as tokens of a text are.
fn key(shorter: usize, token: u32) -> u64 {
    ((shorter as u64) << 32) | u64::from(token)
}

/// An n-gram model.
#[derive(Clone, Debug)]
pub struct Ngram {
    vocabulary: usize,
    end: Option<u32>,
    /// The context of the first token, which is empty.
    empty: Context,
    /// By length: single tokens, pairs, ….
    grams: Vec<Grams>,
}

impl Ngram {
    /// Counts `ids`, of a vocabulary that they are all within, in grams of up to `order` tokens (1 to 255). Contexts do not reach
    /// across `end`, the end of a line; it is what a line's first token comes after.
    pub fn train(order: usize, ids: &[u32], vocabulary: usize, end: Option<u32>) -> Self {
        Self::count(order, &Running::new(ids, end, &[]), vocabulary, end)
    }

    fn count(order: usize, text: &Running, vocabulary: usize, end: Option<u32>) -> Self {
        let order = order.clamp(1, 255);
        let reaches = text.reaches(order - 1);
        let counted = |length: usize| {
            let reaches = &reaches;
            (text.first..text.ids.len()).filter(move |&at| reaches[at] as usize >= length - 1)
        };
        // Which gram of the length before last and of the last length ends at each token.
        let mut index: Vec<u32> = text.ids.to_vec();
        let mut grams = vec![Grams { counts: vec![0; vocabulary], ..Grams::default() }];
        counted(1)
            .filter(|&at| order == 1 || reaches[at] == 0)
            .for_each(|at| grams[0].counts[text.ids[at] as usize] += 1);
        for length in 2..=order {
            let key_at = |at: usize| key(index[at - 1] as usize, text.ids[at]);
            let mut keys: Vec<u64> = counted(length).map(key_at).collect();
            keys.sort_unstable();
            keys.dedup();
            keys.shrink_to_fit();
            let (mut counts, mut seen) = (vec![0; keys.len()], vec![false; keys.len()]);
            let mut next = vec![0; text.ids.len()];
            let shorter = &mut grams[length - 2].counts;
            for at in counted(length) {
                let Ok(gram) = keys.binary_search(&key_at(at)) else { continue };
                next[at] = gram as u32;
                // A gram that begins its line has no token before it to be told apart by.
                if length == order || reaches[at] as usize == length - 1 {
                    counts[gram] += 1;
                }
                if !std::mem::replace(&mut seen[gram], true) {
                    shorter[index[at] as usize] += 1;
                }
            }
            index = next;
            grams.push(Grams { keys, counts, ..Grams::default() });
        }
        let mut model = Self { vocabulary, end, empty: Context::default(), grams };
        model.smooth();
        model
    }

    /// The length of its longest grams.
    pub fn order(&self) -> usize {
        self.grams.len()
    }

    /// Sets discounts and contexts, when all is counted.
    fn smooth(&mut self) {
        for length in 1..=self.grams.len() {
            let mut counts_of_counts = [0.0; 4];
            for &count in &self.grams[length - 1].counts {
                if let 1..=4 = count {
                    counts_of_counts[count as usize - 1] += 1.0;
                }
            }
            let discounts = discounts(counts_of_counts);
            let (shorter, rest) = self.grams.split_at_mut(length - 1);
            let grams = &mut rest[0];
            grams.discounts = discounts;
            let add = |context: &mut Context, count: u32| {
                context.total += f64::from(count);
                context.backoff += discounts[(count as usize).min(3) - 1];
            };
            let finish = |context: &mut Context| context.backoff /= context.total.max(1.0);
            match shorter.last_mut() {
                None => {
                    grams.counts.iter().filter(|count| **count > 0).for_each(|&count| add(&mut self.empty, count));
                    finish(&mut self.empty);
                }
                Some(shorter) => {
                    shorter.contexts = vec![Context::default(); shorter.counts.len()];
                    for (key, &count) in grams.keys.iter().zip(&grams.counts) {
                        add(&mut shorter.contexts[(key >> 32) as usize], count);
                    }
                    shorter.contexts.iter_mut().for_each(finish);
                }
            }
        }
    }

    /// The probability of `token` after `context`, of whose tokens the last order − 1 are looked at.
    pub fn probability(&self, context: &[u32], token: u32) -> f64 {
        let mut probability = 1.0 / self.vocabulary as f64;
        for length in 0..=context.len().min(self.grams.len() - 1) {
            let found = match length {
                0 => Some((0, self.empty)),
                _ => self.gram(&context[context.len() - length..]).map(|at| (at, self.grams[length - 1].contexts[at])),
            };
            // A longer context was seen only where the shorter one was.
            let Some((at, Context { total, backoff })) = found.filter(|(_, context)| context.total > 0.0) else {
                break;
            };
            let grams = &self.grams[length];
            let gram = if length == 0 { Some(token as usize) } else { grams.find(at, token) };
            let count = gram.map_or(0, |gram| grams.counts[gram]);
            let kept = if count == 0 { 0.0 } else { f64::from(count) - grams.discounts[(count as usize).min(3) - 1] };
            probability = kept / total + backoff * probability;
        }
        probability
    }

    /// The index of a gram of at least one token.
    fn gram(&self, tokens: &[u32]) -> Option<usize> {
        let mut at = *tokens.first()? as usize;
        for (grams, &token) in self.grams[1..].iter().zip(&tokens[1..]) {
            at = grams.find(at, token)?;
        }
        (at < self.grams[tokens.len() - 1].counts.len()).then_some(at)
    }

    /// The perplexity of `ids`, every one of them predicted.
    pub fn perplexity(&self, ids: &[u32]) -> f64 {
        self.predict(&Running::new(ids, self.end, &[]), |_| true).perplexity()
    }

    /// The loss of those tokens that `predicted` says, which is asked for each in turn.
    fn predict(&self, text: &Running, mut predicted: impl FnMut(u32) -> bool) -> Loss {
        let reaches = text.reaches(self.grams.len() - 1);
        let mut loss = Loss::default();
        for at in text.first..text.ids.len() {
            if predicted(text.ids[at]) {
                let context = &text.ids[at - reaches[at] as usize..at];
                loss.add(Loss { nll: -self.probability(context, text.ids[at]).ln(), tokens: 1 });
            }
        }
        loss
    }
}

/// A text to count or predict.
struct Running {
    /// Its tokens; the end of a line stands before the first where lines end.
    ids: Vec<u32>,
    /// The first that is counted or predicted.
    first: usize,
    /// Those that begin documents, which have nothing before them.
    starts: Vec<usize>,
}

impl Running {
    /// starts: of documents, in `ids`.
    fn new(ids: &[u32], end: Option<u32>, starts: &[usize]) -> Self {
        let first = usize::from(end.is_some());
        // The end of a line that stands before the text is before its first document too.
        let starts = starts.iter().filter(|start| **start > 0).map(|start| start + first).collect();
        Self { ids: end.iter().chain(ids).copied().collect(), first, starts }
    }

    /// The length of the context of each token: those before it in its line and its document, at most `longest`; the end of
    /// the line before counts as one.
    fn reaches(&self, longest: usize) -> Vec<u8> {
        let end = if self.first == 1 { self.ids.first() } else { None };
        let mut reaches = Vec::with_capacity(self.ids.len());
        let mut reach = 0;
        let mut starts = self.starts.iter().peekable();
        for at in 0..self.ids.len() {
            // Where a line ended with the document, its end says no more than where the next begins.
            if starts.next_if_eq(&&at).is_some() && Some(&self.ids[at - 1]) != end {
                reach = 0;
            }
            reaches.push(reach.min(longest) as u8);
            reach = if Some(&self.ids[at]) == end { 1 } else { (reach + 1).min(longest) };
        }
        reaches
    }
}

/// The discounts of counts of 1, of 2, and of more, by how many grams have a count of 1, 2, 3 and 4 (Chen & Goodman 1998,
/// equation 26). For texts too small or too regular to estimate them, half of a count up to 3.
fn discounts([once, twice, thrice, four_times]: [f64; 4]) -> [f64; 3] {
    let y = once / (once + 2.0 * twice);
    let estimated = [1.0 - 2.0 * y * twice / once, 2.0 - 3.0 * y * thrice / twice, 3.0 - 4.0 * y * four_times / thrice];
    // Zero, negative or no number: some count never occurred, or a higher one occurred more often than it should.
    let usable = estimated.iter().zip([1.0, 2.0, 3.0]).all(|(discount, count)| *discount > 0.0 && *discount < count);
    if usable { estimated } else { [0.5, 1.0, 1.5] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};
    use crate::text::batch::Batching;
    use crate::text::corpus::Corpus;
    use crate::text::source::Source;
    use crate::text::tokenizer::Tokenizer;
    use crate::text::tokenizer::{TokenizerKind, VocabularyOptions};
    use std::collections::{HashMap, HashSet};
    use std::path::Path;

    /// The definition, slowly: every count looked for in the lines themselves.
    struct Slow {
        vocabulary: u32,
        order: usize,
        /// Grams and their counts, by length.
        counts: Vec<HashMap<Vec<u32>, u32>>,
    }

    impl Slow {
        fn new(order: usize, lines: &[Vec<u32>], vocabulary: u32, end: u32) -> Self {
            let marked = lines.iter().map(|line| [&[end], &line[..], &[end]].concat());
            let marked: Vec<Vec<u32>> = marked.collect();
            let windows = |length: usize| marked.iter().flat_map(move |line| line.windows(length));
            let counts = (1..=order).map(|length| {
                let mut occurrences: HashMap<Vec<u32>, u32> = HashMap::new();
                let mut befores: HashMap<Vec<u32>, HashSet<u32>> = HashMap::new();
                windows(length).for_each(|gram| *occurrences.entry(gram.to_vec()).or_default() += 1);
                for gram in windows(length + 1) {
                    befores.entry(gram[1..].to_vec()).or_default().insert(gram[0]);
                }
                let begins_line = |gram: &[u32]| gram.len() > 1 && gram[0] == end;
                let mut counts: HashMap<Vec<u32>, u32> = HashMap::new();
                for (gram, occurrences) in occurrences {
                    let raw = length == order || begins_line(&gram);
                    let count = if raw { occurrences } else { befores.get(&gram).map_or(0, HashSet::len) as u32 };
                    counts.insert(gram, count);
                }
                if length == 1 && order == 1 {
                    // The start of a line is not predicted.
                    *counts.get_mut(&vec![end]).unwrap() -= lines.len() as u32;
                }
                counts
            });
            Self { vocabulary, order, counts: counts.collect() }
        }

        fn probability(&self, context: &[u32], token: u32) -> f64 {
            let context = &context[context.len() - context.len().min(self.order - 1)..];
            let gram = |token| [context, &[token]].concat();
            let count = |token| self.counts[context.len()].get(&gram(token)).copied().unwrap_or(0);
            let shorter = if context.is_empty() {
                1.0 / f64::from(self.vocabulary)
            } else {
                self.probability(&context[1..], token)
            };
            let total: u32 = (0..self.vocabulary).map(count).sum();
            if total == 0 {
                return shorter;
            }
            let with = |n: u32| self.counts[context.len()].values().filter(|count| **count == n).count() as f64;
            let discounts = discounts([with(1), with(2), with(3), with(4)]);
            let discount = |count: u32| if count == 0 { 0.0 } else { discounts[count.min(3) as usize - 1] };
            let left: f64 = (0..self.vocabulary).map(|token| discount(count(token))).sum();
            (f64::from(count(token)) - discount(count(token)) + left * shorter) / f64::from(total)
        }
    }

    /// Lines of words that follow each other unevenly.
    fn lines(number: usize, end: u32) -> Vec<Vec<u32>> {
        let mut rng = Rng::new(5, Purpose::Shuffle, 0);
        let mut line = || {
            let mut word = 0;
            let mut next = || {
                let draw = rng.below(end as usize).min(rng.below(end as usize)) as u32;
                word = if rng.below(3) == 0 { draw } else { (word + draw) % end };
                word
            };
            (0..next() + next()).map(|_| next()).collect()
        };
        (0..number).map(|_| line()).collect()
    }

    fn joined(lines: &[Vec<u32>], end: u32) -> Vec<u32> {
        lines.iter().flat_map(|line| line.iter().copied().chain([end])).collect()
    }

    #[test]
    fn probabilities_are_those_of_the_definition_and_sum_to_one() {
        let end = 9;
        // Of few lines the discounts cannot be estimated, of many they can.
        for (order, number) in [(1, 40), (2, 4), (3, 40), (4, 300), (5, 300)] {
            let lines = lines(number, end);
            let fast = Ngram::train(order, &joined(&lines, end), 11, Some(end));
            let slow = Slow::new(order, &lines, 11, end);
            let mut rng = Rng::new(6, Purpose::Shuffle, 1);
            let mut contexts: Vec<Vec<u32>> = vec![vec![], vec![end], vec![10], vec![10, 0], vec![0, 10]];
            for _ in 0..60 {
                let line = [&[end], &lines[rng.below(lines.len())][..]].concat();
                let at = rng.below(line.len()) + 1;
                contexts.push(line[at.saturating_sub(6)..at].to_vec());
                contexts.push((0..rng.below(5)).map(|_| rng.below(9) as u32).collect());
            }
            for context in contexts {
                let mut total = 0.0;
                for token in 0..11 {
                    let (fast, slow) = (fast.probability(&context, token), slow.probability(&context, token));
                    assert!((fast - slow).abs() < 1e-12, "order {order} {context:?} {token}: {fast} and {slow}");
                    total += fast;
                }
                assert!((total - 1.0).abs() < 1e-12, "{context:?}: {total}");
            }
        }
    }

    #[test]
    fn a_text_counted_by_hand() {
        // "a b", "a b", "a" with a 0, b 1, end 2: after the end a 3 times, after a b twice and the end once, after b the
        // end twice. a comes after one other token, b after one, the end after two.
        let model = Ngram::train(2, &[0, 1, 2, 0, 1, 2, 0, 2], 3, Some(2));
        let single = [0.5 / 4.0 + 0.5 / 3.0, 0.5 / 4.0 + 0.5 / 3.0, 1.0 / 4.0 + 0.5 / 3.0];
        let after_a = [0.0 + 0.5 * single[0], 1.0 / 3.0 + 0.5 * single[1], 0.5 / 3.0 + 0.5 * single[2]];
        for token in 0..3 {
            assert!((model.probability(&[], token) - single[token as usize]).abs() < 1e-15);
            assert!((model.probability(&[0], token) - after_a[token as usize]).abs() < 1e-15);
            assert!((model.probability(&[1, 0], token) - after_a[token as usize]).abs() < 1e-15);
        }
        // a after the end and b after a: the geometric mean of their inverse probabilities.
        let first = 1.5 / 3.0 + 0.5 * single[0];
        assert!((model.perplexity(&[0, 1]) - (first * after_a[1]).powf(-0.5)).abs() < 1e-12);
    }

    #[test]
    fn discounts_follow_chen_and_goodman() {
        // Y = 100 / 180.
        let [one, two, three] = discounts([100.0, 40.0, 20.0, 12.0]);
        assert!((one - (1.0 - 2.0 * (5.0 / 9.0) * 0.4)).abs() < 1e-15);
        assert!((two - (2.0 - 3.0 * (5.0 / 9.0) * 0.5)).abs() < 1e-15);
        assert!((three - (3.0 - 4.0 * (5.0 / 9.0) * 0.6)).abs() < 1e-15);
        for none in [[0.0, 4.0, 2.0, 1.0], [4.0, 0.0, 2.0, 1.0], [4.0, 2.0, 0.0, 1.0], [1.0, 1.0, 9.0, 1.0], [0.0; 4]] {
            assert_eq!(discounts(none), [0.5, 1.0, 1.5]);
        }
    }

    /// They reached into the document before: one of a text in characters has no line ends that stop them.
    #[test]
    fn contexts_do_not_cross_the_beginnings_of_documents() {
        use crate::text::documents::Reading;
        let reading = Reading { documents: Some("blank".parse().unwrap()), ..Reading::default() };
        let texts: Vec<String> =
            (0..40).map(|i| format!("{}{}cab\n\n", ["ab", "ba", "c"][i % 3], "a".repeat(i % 4))).collect();
        let source = |texts: &[&String]| {
            Source::from_text(&texts.iter().map(|text| text.as_str()).collect::<String>()).read_as(&reading)
        };
        let all: Vec<&String> = texts.iter().collect();
        for kind in [TokenizerKind::Chars, TokenizerKind::Bytes, TokenizerKind::Bpe, TokenizerKind::Words] {
            let options = VocabularyOptions { min_count: Some(1), ..Default::default() };
            let tokenizer = Tokenizer::build(kind, &source(&all), options, false).unwrap();
            let corpus = |texts: &[&String]| Corpus::read(&source(texts), &tokenizer, false).unwrap();
            let model = Ngram::of_corpus(4, &corpus(&all), &tokenizer).unwrap();
            let nll = |texts: &[&String]| model.loss(&corpus(texts), &tokenizer, Batching::Stream).nll;
            // Each document costs the same among others and alone, and they teach the same in any order.
            let alone: f64 = all.iter().map(|text| nll(&[text])).sum();
            assert!((nll(&all) - alone).abs() < 1e-9 * alone, "{kind}: {} and {alone}", nll(&all));
            let turned: Vec<&String> = all.iter().rev().copied().collect();
            let other = Ngram::of_corpus(4, &corpus(&turned), &tokenizer).unwrap();
            let of_turned = other.loss(&corpus(&all), &tokenizer, Batching::Stream).nll;
            assert!((of_turned - alone).abs() < 1e-9 * alone, "{kind}: {of_turned} and {alone}");
        }
    }

    #[test]
    fn a_text_without_line_ends_is_one_long_context() {
        let ids: Vec<u32> = (0..600).map(|i| [0, 1, 2, 1, 3][i % 5]).collect();
        let model = Ngram::train(3, &ids, 5, None);
        for context in [&[][..], &[0, 1], &[2, 1], &[4, 4], &[3]] {
            let total: f64 = (0..5).map(|token| model.probability(context, token)).sum();
            assert!((total - 1.0).abs() < 1e-12, "{context:?}: {total}");
        }
        assert!(model.perplexity(&ids) < 1.1);
    }

    #[test]
    fn what_a_model_predicts_is_what_is_compared() {
        let source = Source::from_text("a b c d e f g\nh\n\ni j k l m\nn o\n");
        for (batching, expected) in [(Batching::Stream, 20), (Batching::Lines, 20), (Batching::Windows(5), 9)] {
            let line_markers = batching != Batching::Stream;
            let options = VocabularyOptions { line_markers, min_count: Some(1), ..Default::default() };
            let tokenizer = Tokenizer::build(TokenizerKind::Words, &source, options, false).unwrap();
            let corpus = Corpus::read(&source, &tokenizer, false).unwrap();
            let model = Ngram::of_corpus(3, &corpus, &tokenizer).unwrap();
            assert_eq!(model.loss(&corpus, &tokenizer, batching).tokens, expected, "{batching}");
        }
    }

    #[test]
    fn the_penn_treebank_has_about_its_published_perplexity() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/ptb");
        if !folder.exists() {
            eprintln!("skipped: the Penn Treebank is not beside the project");
            return;
        }
        let splits = Source::open(&folder).unwrap();
        let options = VocabularyOptions::default();
        let tokenizer = Tokenizer::build(TokenizerKind::Words, &splits.train, options, false).unwrap();
        let train = Corpus::read(&splits.train, &tokenizer, false).unwrap();
        let test = Corpus::read(&splits.test.unwrap(), &tokenizer, false).unwrap();
        let loss = Ngram::of_corpus(5, &train, &tokenizer).unwrap().loss(&test, &tokenizer, Batching::Stream);
        eprintln!("{} on {} tokens", loss.perplexity(), loss.tokens);
        // Mikolov 2011 has 141.2.
        assert!(loss.tokens == 82_430 && (139.0..143.0).contains(&loss.perplexity()), "{}", loss.perplexity());
    }
}
