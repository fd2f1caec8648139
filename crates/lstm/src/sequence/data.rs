//! The data of a run over sequences, read into tokens or numbers, and labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use super::batch::Sequences;
use super::config::{ClassWeights, SequenceConfig};
use super::numbers::{self, Scalers};
use super::read::{Parts, Record, Wanted, read};
use super::read_numbers::read_sequences;
use super::read_tags::read_sentences;
use crate::rng::{Purpose, Rng};
use crate::run::task_kind::TaskKind;
use crate::said::count;
use crate::text::TextError;
use crate::text::source::Source;
use crate::text::tokenizer::{Tokenizer, TokenizerKind};
use crate::train::pretrained::{Inherited, Pretrained};

/// A part of the data.
#[derive(Clone, Debug, Default)]
pub struct Examples {
    /// The tokens and the labels.
    pub sequences: Sequences,
    /// The texts that they are of, as they are cut into words.
    pub texts: Vec<String>,
    /// The words of each, where they have labels.
    pub words: Vec<Vec<String>>,
    /// The sequences of numbers as they are in the data, each `[T, F]`; not a number where missing.
    pub series: Vec<Vec<f32>>,
    /// The numbers that are to be said of each, as they are in the data.
    pub targets: Vec<Vec<f64>>,
    /// The texts, or sequences, of which only the first tokens, or steps, are read.
    pub cut: usize,
    /// The tokens that the vocabulary has not.
    pub unknown: usize,
}

/// The data of a run, read.
#[derive(Clone, Debug)]
pub struct SequenceDataset {
    /// The tokenizer, of the training data; none of numbers.
    pub tokenizer: Option<Tokenizer>,
    /// The scales of numbers, of the training data.
    pub scalers: Scalers,
    /// Trained on.
    pub train: Examples,
    /// Watched.
    pub valid: Option<Examples>,
    /// Measured at the end.
    pub test: Option<Examples>,
    /// Whether what is watched was held out of the training data without being asked for.
    pub held_out: bool,
    /// How long reading took, in seconds.
    pub seconds: f64,
    /// The values that the run goes on from, if it starts from a language model.
    pub inherited: Option<Inherited>,
    /// The values of a bag of words, once one was fitted to what is trained on.
    pub(crate) bag: OnceLock<Vec<f32>>,
}

/// The share of the training data that is held out to be watched, if nothing else is said.
const HELD_OUT: u32 = 10;

/// The most labels: those of a file whose columns were confused are as many as its lines.
const MOST_LABELS: usize = 1_000;

fn unusable<T>(why: String) -> Result<T, TextError> {
    Err(TextError::Unusable(why))
}

impl SequenceConfig {
    /// What of a file is read: with its labels, if they are wanted.
    pub(crate) fn wanted(&self, labels: bool) -> Wanted<'_> {
        let data = &self.data;
        Wanted {
            text: data.text.as_deref(),
            label: data.label.as_deref(),
            numbers: self.task == TaskKind::Regress,
            separator: data.separator.as_deref().filter(|_| self.several),
            labels,
            lossy: data.lossy,
        }
    }

    /// A text as it is cut into tokens.
    pub(crate) fn prepared(&self, text: &str) -> String {
        // A text is one line to a tokenizer.
        let mut text: String = text.split(['\n', '\r']).collect::<Vec<_>>().join(" ");
        if self.lower_case {
            text = text.to_lowercase();
        }
        if self.split_punctuation && self.tokenizer == TokenizerKind::Words {
            text = text.split_whitespace().map(split_word).collect::<Vec<_>>().join(" ");
        }
        text
    }

    /// A word that has a label, as its token is written.
    fn word(&self, word: &str) -> String {
        if self.lower_case { word.to_lowercase() } else { word.to_owned() }
    }

    /// The tokens of words that have labels, each of which is one; at most as many as are read, at least one.
    fn word_tokens(&self, tokenizer: &Tokenizer, words: &[String]) -> (Vec<u32>, bool, usize) {
        let none = tokenizer.unknown().unwrap_or(0);
        let mut unknown = 0;
        let token = |word: &String| {
            tokenizer.id(&self.word(word)).unwrap_or_else(|| {
                unknown += 1;
                none
            })
        };
        let mut tokens: Vec<u32> = words.iter().take(self.longest).map(token).collect();
        if tokens.is_empty() {
            tokens.push(none);
        }
        (tokens, words.len() > self.longest, unknown)
    }

    /// The first tokens of a prepared text, at least one; and whether there are more, and how many are unknown.
    pub(crate) fn tokens(&self, tokenizer: &Tokenizer, text: &str) -> Result<(Vec<u32>, bool, usize), TextError> {
        let (mut tokens, mut unknown) = (Vec::new(), 0);
        tokenizer.encode_line(text.as_bytes(), text, false, &mut |token, without| {
            tokens.push(token);
            unknown += usize::from(without.is_some());
        })?;
        let is_cut = tokens.len() > self.longest;
        tokens.truncate(self.longest);
        if tokens.is_empty() {
            tokens.push(tokenizer.start());
        }
        Ok((tokens, is_cut, unknown))
    }
}

/// A word with the punctuation around it set apart. What is within a word stays, and so do apostrophes: don't, 's, o'clock.
fn split_word(word: &str) -> String {
    let opens = |c: char| "([{<\"“«„¿¡".contains(c);
    let closes = |c: char| ".,;:!?)]}>\"”»…".contains(c);
    let rest = word.trim_start_matches(opens);
    let before = &word[..word.len() - rest.len()];
    let core = rest.trim_end_matches(closes);
    // A word of nothing but punctuation, such as an ellipsis or a face, is a word.
    if core.is_empty() {
        return word.to_owned();
    }
    let after = &rest[core.len()..];
    let before = before.chars().map(String::from);
    let after = after.chars().map(String::from);
    before.chain([core.to_owned()]).chain(after).collect::<Vec<_>>().join(" ")
}

impl SequenceDataset {
    /// Reads the data. The labels and the tokenizer of a run that has them stay as they are; else they are those of the training data, and
    /// `config` has them and what depends on them afterwards.
    ///
    /// # Errors
    /// Data that cannot be used, with line and column.
    pub fn read(config: &mut SequenceConfig, tokenizer: Option<Tokenizer>) -> Result<Self, TextError> {
        Self::read_by(config, |config, records| Ok((tokenizer.map_or_else(|| build(config, records), Ok)?, None)))
    }

    /// Reads the data of a run that starts from a language model, whose settings were [laid over](Pretrained::lay_over_sequences) its own.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_from(config: &mut SequenceConfig, pretrained: &Pretrained) -> Result<Self, TextError> {
        Self::read_by(config, |config, records| {
            let mut tokenizer = pretrained.vocabulary(|| build(config, records))?;
            let inherited = pretrained.inherit(&mut tokenizer);
            Ok((tokenizer, Some(inherited)))
        })
    }

    fn read_by(
        config: &mut SequenceConfig,
        tokenizer: impl FnOnce(&SequenceConfig, &[Record]) -> Result<(Tokenizer, Option<Inherited>), TextError>,
    ) -> Result<Self, TextError> {
        let started = Instant::now();
        config.data.check_split().map_err(|error| TextError::Unusable(error.to_string()))?;
        let Some(train) = config.data.train.clone() else {
            return unusable(
                "there are no data to train on; give a file, or a folder with a folder for each class".to_owned(),
            );
        };
        if let Some(numbers) = &config.model.numbers {
            numbers.validate().map_err(|error| TextError::Unusable(error.to_string()))?;
        }
        let data = [Some(&train), config.data.valid.as_ref(), config.data.test.as_ref()];
        if (config.data.text.is_some() || config.data.label.is_some())
            && data.into_iter().flatten().all(|path| path.is_dir())
        {
            return unusable(format!(
                "{} is a folder with a folder for each class, whose files have no columns; leave `text` and `label` out, or give a file",
                train.display()
            ));
        }
        let (mut parts, columns) = read_parts(config, &train, true)?;
        if config.task == TaskKind::Regress {
            check_targets(config, &parts.train, &train)?;
        } else if config.labels.is_empty() {
            config.labels = labels(&parts.train, &train)?;
        }
        if let Some(numbers) = &mut config.model.numbers {
            numbers::fit(numbers, &parts.train, &columns)?;
        }
        for (given, part) in [(&config.data.valid, &mut parts.valid), (&config.data.test, &mut parts.test)] {
            if let Some(path) = given {
                *part = Some(read_parts(config, path, true)?.0.train);
            }
        }
        let held_out = parts.valid.is_none() && config.data.split.is_none();
        hold_out(&mut parts, config);
        check_held_out(&parts, config, &train)?;
        let (tokenizer, inherited) = match config.model.numbers {
            Some(_) => (None, None),
            None => {
                let (tokenizer, inherited) = tokenizer(config, &parts.train)?;
                (Some(tokenizer), inherited)
            }
        };
        config.model.vocabulary = tokenizer.as_ref().map_or(0, Tokenizer::vocabulary_size);
        config.model.outputs = config.labels.len();
        let (series, targets): (Vec<_>, Vec<_>) =
            parts.train.iter().map(|record| (record.values.clone(), record.targets.clone())).unzip();
        let scalers = Scalers::of(&series, &targets, config.features_of_a_step());
        let reader = Reader { config, tokenizer: tokenizer.as_ref(), scalers: &scalers };
        let examples = |records: &[Record]| reader.examples(records);
        Ok(Self {
            train: examples(&parts.train)?,
            valid: parts.valid.as_deref().map(examples).transpose()?,
            test: parts.test.as_deref().map(examples).transpose()?,
            held_out,
            seconds: started.elapsed().as_secs_f64(),
            inherited,
            tokenizer,
            scalers,
            bag: OnceLock::new(),
        })
    }

    /// One checksum of all data.
    pub fn fingerprint(&self) -> String {
        let part =
            |part: Option<&Examples>| part.map_or("none".to_owned(), |examples| examples.sequences.fingerprint());
        [part(Some(&self.train)), part(self.valid.as_ref()), part(self.test.as_ref())].join("-")
    }

    /// The weights of the classes in the loss; empty where all weigh the same.
    pub(crate) fn class_weights(&self, config: &SequenceConfig) -> Vec<f32> {
        if config.class_weights == ClassWeights::None {
            return Vec::new();
        }
        let sequences = &self.train.sequences;
        let mut counts = vec![0_usize; config.labels.len()];
        (0..sequences.len()).flat_map(|at| sequences.labels(at)).for_each(|label| counts[*label as usize] += 1);
        let all: usize = counts.iter().sum();
        let weight = |count: &usize| match *count {
            0 => 1.0,
            // Of several labels each is a question of its own: its yes weighs as much as its no.
            count if config.several => (sequences.len() - count).max(1) as f32 / count as f32,
            count => all as f32 / (config.labels.len() * count) as f32,
        };
        counts.iter().map(weight).collect()
    }
}

/// The records of a file, or of a folder with its parts, with their labels if they are wanted; and the names of their values, of numbers
/// in a table.
fn read_parts(config: &SequenceConfig, path: &Path, labels: bool) -> Result<(Parts, Vec<String>), TextError> {
    let (train, columns) = match (&config.model.numbers, config.task) {
        (Some(_), _) => read_sequences(config, path, labels)?,
        (None, TaskKind::Tag) => (read_sentences(path, config.wanted(labels))?, Vec::new()),
        (None, _) => return Ok((read(path, config.wanted(labels))?, Vec::new())),
    };
    Ok((Parts { train, ..Parts::default() }, columns))
}

/// Refuses numbers that cannot be learned, and names them where they have no names yet.
fn check_targets(config: &mut SequenceConfig, records: &[Record], path: &Path) -> Result<(), TextError> {
    let count = records.first().map_or(0, |record| record.targets.len());
    if let Some(other) = records.iter().find(|record| record.targets.len() != count) {
        return unusable(format!(
            "{}: it has {} numbers to be learned, and those before it {count}",
            other.place,
            other.targets.len()
        ));
    }
    if config.labels.is_empty() {
        let named = config.data.label.iter().flat_map(|names| names.split(',')).map(|name| name.trim().to_owned());
        config.labels = named.collect();
        if config.labels.len() != count {
            let name = |at: usize| if count == 1 { "target".to_owned() } else { format!("target {}", at + 1) };
            config.labels = (0..count).map(name).collect();
        }
    }
    for (at, name) in config.labels.iter().enumerate() {
        let mut targets = records.iter().map(|record| record.targets.get(at));
        let first = targets.next().flatten();
        if targets.all(|target| target == first) {
            return unusable(format!(
                "{}: {name} is {} in every example, so there is nothing to learn; give data in which it differs",
                path.display(),
                first.copied().unwrap_or(f64::NAN)
            ));
        }
    }
    Ok(())
}

/// What makes examples of records: the settings, and what the training data decided.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) config: &'a SequenceConfig,
    pub(crate) tokenizer: Option<&'a Tokenizer>,
    pub(crate) scalers: &'a Scalers,
}

impl Reader<'_> {
    /// The examples of a file: to measure a model on, with labels that are the model's, or without labels.
    pub(crate) fn read(self, path: &Path, labels: bool) -> Result<Examples, TextError> {
        let parts = read_parts(self.config, path, labels)?.0;
        self.examples(&parts.test.unwrap_or(parts.train))
    }

    /// The examples of records.
    pub(crate) fn examples(self, records: &[Record]) -> Result<Examples, TextError> {
        match (self.tokenizer, &self.config.model.numbers) {
            (Some(tokenizer), None) => self.of_texts(tokenizer, records),
            _ => self.of_numbers(records),
        }
    }

    /// The number of each label.
    fn numbered(&self) -> BTreeMap<&str, u32> {
        self.config.labels.iter().map(String::as_str).zip(0..).collect()
    }

    /// The numbers of a record's labels.
    fn labels(&self, record: &Record, numbered: &BTreeMap<&str, u32>) -> Result<Vec<u32>, TextError> {
        let number = |label: &String| match numbered.get(label.as_str()) {
            Some(number) => Ok(*number),
            None => unusable(format!(
                "{}: the label {label} is none of the training data, which have {}; remove the line, or train on data that have it",
                record.place,
                some_of(&self.config.labels)
            )),
        };
        let mut labels = record.labels.iter().map(number).collect::<Result<Vec<u32>, _>>()?;
        if self.config.task != TaskKind::Tag {
            labels.sort_unstable();
        }
        Ok(labels)
    }

    /// Adds what is to be said of the record that was added last.
    fn aim(&self, examples: &mut Examples, record: &Record) -> Result<(), TextError> {
        if self.config.task != TaskKind::Regress || record.targets.is_empty() {
            return Ok(());
        }
        let expected = self.config.labels.len();
        if record.targets.len() != expected {
            let found = record.targets.len();
            return unusable(format!(
                "{}: it has {found} numbers to be said, and the training data {expected}",
                record.place
            ));
        }
        examples.sequences.aim(self.scalers.aim(&record.targets));
        examples.targets.push(record.targets.clone());
        Ok(())
    }

    /// The numbers of sequences of them.
    fn of_numbers(self, records: &[Record]) -> Result<Examples, TextError> {
        let mut examples = Examples::default();
        let Some(numbers) = &self.config.model.numbers else { return Ok(examples) };
        let numbered = self.numbered();
        for record in records {
            if record.features != numbers.features {
                return unusable(format!(
                    "{}: a step has {}, where the training data have {}",
                    record.place,
                    count(record.features, "value"),
                    numbers.features
                ));
            }
            let most = self.config.longest.saturating_mul(numbers.features);
            let values = &record.values[..record.values.len().min(most)];
            let read = self.scalers.read(numbers, values);
            if let Some(at) = read.iter().position(|value| !value.is_finite()) {
                return unusable(format!(
                    "{}: value {} of the sequence is too far from those of the training data to be computed with",
                    record.place,
                    at + 1
                ));
            }
            examples.sequences.push_numbers(&read, numbers.width(), self.labels(record, &numbered)?);
            self.aim(&mut examples, record)?;
            examples.cut += usize::from(values.len() < record.values.len());
            examples.unknown += values.iter().filter(|value| value.is_nan()).count();
            examples.series.push(values.to_vec());
        }
        Ok(examples)
    }

    /// The tokens of texts.
    fn of_texts(self, tokenizer: &Tokenizer, records: &[Record]) -> Result<Examples, TextError> {
        let (config, numbered) = (self.config, self.numbered());
        let mut examples = Examples::default();
        for record in records {
            let is_tagged = config.task == TaskKind::Tag;
            let text = if is_tagged { record.text.clone() } else { config.prepared(&record.text) };
            let (tokens, cut, unknown) = match is_tagged {
                true => config.word_tokens(tokenizer, &record.words),
                false => config.tokens(tokenizer, &text)?,
            };
            let mut labels = self.labels(record, &numbered)?;
            if is_tagged {
                labels.truncate(tokens.len());
            }
            examples.sequences.push(&tokens, labels);
            self.aim(&mut examples, record)?;
            if config.model.spelling > 0 {
                let words = text.split_whitespace();
                examples.sequences.spell(
                    if is_tagged {
                        record.words.iter().map(String::as_str).take(tokens.len()).collect::<Vec<_>>()
                    } else {
                        words.take(tokens.len()).collect()
                    }
                    .into_iter(),
                );
            }
            if is_tagged {
                examples.words.push(record.words.clone());
            }
            examples.texts.push(text);
            examples.cut += usize::from(cut);
            examples.unknown += unknown;
        }
        Ok(examples)
    }
}

/// The labels of the training data, sorted: as numbers where they all are.
fn labels(records: &[Record], path: &Path) -> Result<Vec<String>, TextError> {
    let labels: BTreeSet<&String> = records.iter().flat_map(|record| &record.labels).collect();
    let mut labels: Vec<String> = labels.into_iter().cloned().collect();
    let number = |label: &String| label.parse::<f64>().ok().filter(|number| number.is_finite());
    if labels.iter().all(|label| number(label).is_some()) {
        labels.sort_by(|a, b| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)).then(a.cmp(b)));
    }
    match labels.len() {
        0 => unusable(format!("{} has no labels, so there is nothing to learn", path.display())),
        1 => unusable(format!(
            "every example of {} has the label {}, so there is nothing to tell apart; give data of two classes at least",
            path.display(),
            labels[0]
        )),
        count if count > MOST_LABELS => unusable(format!(
            "{} has {count} different labels, and at most {MOST_LABELS} can be told apart; is another column the label?",
            path.display()
        )),
        _ => Ok(labels),
    }
}

/// Holds out of the training data what is to be watched and measured: of each label the same share, by the seed.
fn hold_out(parts: &mut Parts, config: &SequenceConfig) {
    let shares = match (&config.data.split, &parts.valid) {
        (Some(split), _) => [split.get(1).copied().unwrap_or(0), split.get(2).copied().unwrap_or(0)],
        (None, None) => [HELD_OUT, 0],
        (None, Some(_)) => return,
    };
    let records = std::mem::take(&mut parts.train);
    let mut order: Vec<usize> = (0..records.len()).collect();
    Rng::new(config.training.seed, Purpose::Lines, 0).shuffle(&mut order);
    // The labels of words are not those of sentences, and numbers are none.
    let is_labelled = config.task == TaskKind::Classify;
    if is_labelled {
        order.sort_by(|a, b| records[*a].labels.cmp(&records[*b].labels));
    }
    let mut held: Vec<Option<usize>> = vec![None; records.len()];
    let (mut owed, mut before) = ([0; 2], None);
    for at in order {
        // One of each label stays to be learned.
        let labels = &records[at].labels;
        if is_labelled && before.replace(labels) != Some(labels) {
            continue;
        }
        for (part, share) in shares.into_iter().enumerate() {
            owed[part] += share;
        }
        if let Some(part) = (0..2).find(|part| owed[*part] >= 100) {
            owed[part] -= 100;
            held[at] = Some(part);
        }
    }
    let mut others = [Vec::new(), Vec::new()];
    for (record, held) in records.into_iter().zip(held) {
        match held {
            None => parts.train.push(record),
            Some(part) => others[part].push(record),
        }
    }
    let [valid, test] = others;
    if shares[0] > 0 {
        parts.valid = Some(valid);
    }
    if shares[1] > 0 {
        parts.test = Some(test);
    }
}

/// Refuses parts of which nothing is left.
fn check_held_out(parts: &Parts, config: &SequenceConfig, path: &Path) -> Result<(), TextError> {
    let empty = |part: &Option<Vec<Record>>| part.as_ref().is_some_and(Vec::is_empty);
    if empty(&parts.valid) || empty(&parts.test) || parts.train.len() < 2 {
        let examples = parts.train.len() + parts.valid.as_ref().map_or(0, Vec::len);
        return unusable(format!(
            "{} has {}, of which none would be left to train on or to watch; give more, or the data to watch by `valid`",
            path.display(),
            count(examples, "example")
        ));
    }
    if config.task == TaskKind::Regress {
        return Ok(());
    }
    let trained: BTreeSet<&String> = parts.train.iter().flat_map(|record| &record.labels).collect();
    if let Some(missing) = config.labels.iter().find(|label| !trained.contains(label)) {
        return unusable(format!(
            "the label {missing} of {} is in none of the examples that are left to train on; give more of it, or the data to watch by `valid`",
            path.display()
        ));
    }
    Ok(())
}

fn build(config: &SequenceConfig, records: &[Record]) -> Result<Tokenizer, TextError> {
    if config.tokenizer == TokenizerKind::File {
        return unusable(
            "a tokenizer from a file is of language models; choose words, chars, bytes, bpe, unigram or wordpiece"
                .to_owned(),
        );
    }
    let prepared = |record: &Record| match config.task {
        TaskKind::Tag => record.words.iter().map(|word| config.word(word)).collect::<Vec<_>>().join(" "),
        _ => config.prepared(&record.text),
    };
    let texts: Vec<String> = records.iter().map(prepared).collect();
    Tokenizer::build(config.tokenizer, &Source::from_text(&texts.join("\n")), config.vocabulary, false)
}

/// Labels, the first of many.
fn some_of(labels: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = labels.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if labels.len() > SHOWN { format!("{shown} and {} more", labels.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_around_a_word_is_set_apart_and_within_it_stays() {
        for (word, split) in [
            ("good.", "good ."),
            ("(\"well\"),", "( \" well \" ) ,"),
            ("don't", "don't"),
            ("n't", "n't"),
            ("...", "..."),
            (":)", ":)"),
            ("state-of-the-art!", "state-of-the-art !"),
            ("3.5", "3.5"),
        ] {
            assert_eq!(split_word(word), split);
        }
    }
}
