//! Where the texts of a run come from: found, cut and noted upon, before a tokenizer reads them.

use std::path::{Path, PathBuf};

use crate::run::config::{DataConfig, RunConfig};
use crate::text::TextError;
use crate::text::builtin::Grammar;
use crate::text::corpus::Corpus;
use crate::text::documents::LineEnds;
use crate::text::folder::Layout;
use crate::text::lines::visit_text;
use crate::text::shuffle::Sorted;
use crate::text::source::{Source, Splits};
use crate::text::tokenizer::{Tokenizer, TokenizerKind};

/// The training text of `config`, not read yet.
///
/// # Errors
/// A text that cannot be used.
pub(crate) fn training_source(config: &RunConfig) -> Result<Source, TextError> {
    Ok(Texts::of(config)?.splits.train)
}

/// The training text of `config` alone.
///
/// # Errors
/// A text that cannot be used.
pub(crate) fn training_text(config: &RunConfig, tokenizer: &Tokenizer) -> Result<Corpus, TextError> {
    Corpus::read_training(&training_source(config)?, tokenizer, config.data.lossy)
}

/// The validation text of `config`, if it has one.
///
/// # Errors
/// A text that cannot be used.
pub(crate) fn validation_text(config: &RunConfig, tokenizer: &Tokenizer) -> Result<Option<Corpus>, TextError> {
    let valid = Texts::of(config)?.splits.valid;
    valid.map(|source| Corpus::read(&source, tokenizer, config.data.lossy)).transpose()
}

/// The test text of `config`, if it has one.
///
/// # Errors
/// A text that cannot be used.
pub(crate) fn test_text(config: &RunConfig, tokenizer: &Tokenizer) -> Result<Option<Corpus>, TextError> {
    let test = Texts::of(config)?.splits.test;
    test.map(|source| Corpus::read(&source, tokenizer, config.data.lossy)).transpose()
}

/// A note on how texts were read.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The validation text is the training text, so it says nothing of other texts.
    ValidIsTrain {
        /// The lines of it.
        lines: usize,
    },
    /// There was a test text alone, so a part of the training text became the validation's.
    ValidHeldOut,
    /// Validation and test are pieces from all over the files.
    AllOver {
        /// How many.
        files: usize,
    },
    /// Several files are so short that the last of them became validation and test.
    EndOfLastFile,
    /// The lines are in an order, so what is cut off their end is unlike the rest.
    Sorted(Sorted),
    /// Lines end with a carriage return and a line feed.
    CarriageReturns {
        /// How many.
        lines: usize,
        /// Of so many.
        of: usize,
        /// How they were taken.
        kept: LineEnds,
    },
}

/// The texts of a run, not read yet.
pub(super) struct Texts {
    pub(super) splits: Splits,
    /// The perplexity no model can beat, where it is known.
    pub(super) floor: Option<f64>,
    pub(super) notes: Vec<Note>,
}

impl Texts {
    /// Finds the texts of `config` and cuts them.
    pub(super) fn of(config: &RunConfig) -> Result<Self, TextError> {
        let data = &config.data;
        let mut notes = Vec::new();
        let mut floor = None;
        let mut splits = match &data.train {
            None => {
                let grammar = Grammar::standard();
                floor = grammar.floor_perplexity(config.tokenizer);
                let text =
                    |split, tokens| Source::from_text(&grammar.sample(config.training.shared_seed(), split, tokens));
                Splits { train: text(0, 600_000), valid: Some(text(1, 20_000)), test: Some(text(2, 50_000)) }
            }
            Some(path) => cut(found(path, config)?, config, &mut notes)?,
        };
        let reading = data.reading();
        splits.train = splits.train.read_as(&reading);
        splits.valid = splits.valid.map(|source| source.read_as(&reading));
        splits.test = splits.test.map(|source| source.read_as(&reading));
        if let Some(most) = data.most {
            splits.train = splits.train.sample(most)?;
        }
        Ok(Self { splits, floor, notes })
    }
}

/// The texts in a file or folder, and those that are given beside it.
fn found(path: &Path, config: &RunConfig) -> Result<Splits, TextError> {
    let DataConfig { split, lossy, .. } = &config.data;
    let layout = layout(path, &config.data)?;
    if !lossy && config.tokenizer != TokenizerKind::Bytes {
        layout.files().try_for_each(Source::check_start)?;
    }
    let of = |files: &[PathBuf]| (!files.is_empty()).then(|| Source::from_files(files)).transpose();
    let train = Source::from_files(&layout.train)?;
    let mut splits = Splits { train, valid: of(&layout.valid)?, test: of(&layout.test)? };
    let bytes = config.tokenizer == TokenizerKind::Bytes;
    if config.data.shuffle.is_some() {
        splits.train = splits.train.shuffled(config.training.shared_seed(), *lossy || bytes)?;
    }
    if (splits.valid.is_some() || splits.test.is_some()) && split.is_some() {
        return Err(TextError::Unusable(format!(
            "{} has validation and test files of its own, so `split` contradicts it; leave `split` out, or give the \
             training file alone",
            path.display()
        )));
    }
    Ok(splits)
}

/// The files of a run whose training text lies at `train`.
pub(super) fn layout(train: &Path, config: &DataConfig) -> Result<Layout, TextError> {
    let mut layout = if train.is_dir() { Layout::of(train)? } else { Layout::of_file(train) };
    if let Some(valid) = &config.valid {
        layout = layout.with_valid(valid)?;
    }
    match &config.test {
        Some(test) => layout.with_test(test),
        None => Ok(layout),
    }
}

/// Cuts off the training text what there are no other texts for.
fn cut(mut splits: Splits, config: &RunConfig, notes: &mut Vec<Note>) -> Result<Splits, TextError> {
    let DataConfig { split, most, lossy, .. } = &config.data;
    let text = splits.train.clone();
    match (&splits.valid, &splits.test) {
        (Some(_), _) => return Ok(splits),
        (None, Some(_)) => {
            let Some(cut) = text.hold_out_validation()? else { return Ok(splits) };
            (splits.train, splits.valid) = (cut.train, cut.valid);
            notes.push(Note::ValidHeldOut);
            return Ok(splits);
        }
        (None, None) => {
            let cut = match split {
                Some(shares) => text.split(shares),
                None => text.split_by_default(*most),
            };
            splits = cut.or_else(|error| {
                // Of a file that is no text at all, that is the first thing to say.
                visit_text(&text, *lossy, config.tokenizer == TokenizerKind::Bytes, &mut |_, _| ())?;
                Err(error)
            })?;
        }
    }
    let held_out: u64 = [&splits.valid, &splits.test].into_iter().flatten().map(Source::bytes).sum();
    if text.files() > 1 {
        let all_over = text.is_cut_all_over(held_out);
        notes.push(if all_over { Note::AllOver { files: text.files() } } else { Note::EndOfLastFile });
    } else if let Some(sorted) = text.sorted()? {
        notes.push(Note::Sorted(sorted));
    }
    Ok(splits)
}
