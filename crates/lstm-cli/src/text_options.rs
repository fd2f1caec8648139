//! The options of `lstm train` that say what text is read and how, and how they are laid over a run.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use lstm::run::config::RunConfig;
use lstm::text::documents::{Documents, LineEnds};
use lstm::text::shuffle::Shuffle;
use lstm::text::tokenizer::TokenizerKind;

use crate::given::set;

/// What is read.
#[derive(clap::Args)]
#[command(next_help_heading = "Text")]
pub struct TextOptions {
    /// Validation text, a file or a folder [default: by --split; of a folder: its valid file]
    #[arg(long)]
    pub valid: Option<PathBuf>,
    /// Test text, a file or a folder [default: by --split; of a folder: its test file]
    #[arg(long)]
    pub test: Option<PathBuf>,
    /// Percentages for training, validation and test [default: 90/5/5, but at most 2 MiB
    /// for each of the last two]
    #[arg(long, value_parser = shares, value_name = "A/B/C")]
    split: Option<Shares>,
    /// Use about so many MiB of the training text, in pieces from all over it [default: all; with a budget what can be read in
    /// it]
    #[arg(long, value_parser = mebibytes, value_name = "MIB")]
    text_limit: Option<u64>,
    /// What a token is: words, chars, bytes, or subwords that are trained on the text: bpe, unigram, wordpiece; or the
    /// path of a tokenizer.json
    #[arg(long, value_parser = tokenizer_choice, value_name = "KIND")]
    pub tokenizer: Option<TokenizerChoice>,
    /// Rarer tokens become <unk>
    #[arg(long)]
    pub min_count: Option<u64>,
    /// Keep only the most frequent tokens; make so many subwords
    #[arg(long)]
    pub vocab_size: Option<usize>,
    /// Replace bytes that are not UTF-8 [default: refuse them]
    #[arg(long)]
    lossy: bool,
    /// Shuffle the lines by the seed before the text is split, for lists that are sorted: lines [default: the order of the text]
    #[arg(long, value_name = "WHAT")]
    shuffle: Option<Shuffle>,
    /// Begin with a fresh state after every empty line (blank), every line (line), or wherever this stands, such as
    /// <|endoftext|>, a line feed behind it included [default: the text is one document]
    #[arg(long, value_name = "BLANK|LINE|STRING")]
    documents: Option<Documents>,
    /// What ends a line: lf, a carriage return before it being dropped, or keep, which leaves that in the text [default: lf;
    /// --tokenizer bytes: keep]
    #[arg(long, value_name = "HOW")]
    line_ends: Option<LineEnds>,
}

/// MiB, as bytes.
fn mebibytes(text: &str) -> Result<u64, String> {
    let bytes = text.parse::<f64>().ok().map(|mebibytes| mebibytes * f64::from(1 << 20));
    // An exbibyte is more than any text has, and what config.toml can hold.
    let enough = bytes.filter(|bytes| (1024.0..=2f64.powi(60)).contains(bytes));
    let wrong = || format!("`{text}` is no number of MiB from 0.001 on (and up to 1099511627776), such as 50");
    enough.map(|bytes| bytes as u64).ok_or_else(wrong)
}

/// The percentages of a split.
#[derive(Clone)]
pub struct Shares(pub Vec<u32>);

pub fn shares(text: &str) -> Result<Shares, String> {
    let shares: Result<Vec<u32>, _> = text.split('/').map(str::parse).collect();
    shares
        .ok()
        .filter(|shares| shares.iter().all(|&share| share <= 100))
        .map(Shares)
        .ok_or_else(|| format!("`{text}` is not a list of percentages such as 90/5/5"))
}

/// A kind of tokenizer, or a file with one.
#[derive(Clone, Debug)]
pub enum TokenizerChoice {
    Kind(TokenizerKind),
    File(PathBuf),
}

fn tokenizer_choice(text: &str) -> Result<TokenizerChoice, String> {
    match text.parse() {
        Ok(kind) => Ok(TokenizerChoice::Kind(kind)),
        Err(_) if text.ends_with(".json") || Path::new(text).is_file() => Ok(TokenizerChoice::File(text.into())),
        Err(error) => Err(format!("{error}, or the path of a tokenizer.json")),
    }
}

/// So that a run can be resumed from any folder.
pub fn absolute(path: &Option<PathBuf>) -> std::io::Result<Option<PathBuf>> {
    path.as_ref().map(std::path::absolute).transpose()
}

impl TextOptions {
    /// Lays the options over a run.
    pub fn lay_over(&self, config: &mut RunConfig) -> Result<()> {
        match &self.tokenizer {
            Some(TokenizerChoice::Kind(kind)) => config.set_tokenizer(*kind),
            Some(TokenizerChoice::File(path)) => {
                config.tokenizer = TokenizerKind::File;
                config.data.tokenizer = Some(std::path::absolute(path)?);
            }
            None => {}
        }
        let (cuts, why) = config.tokenizer.cuts();
        let given = [("--min-count", self.min_count.is_some()), ("--vocab-size", self.vocab_size.is_some())];
        if let Some(((option, _), _)) = given.into_iter().zip(cuts).find(|((_, given), cuts)| *given && !cuts) {
            bail!("{option} and --tokenizer {} contradict each other: {why}", config.tokenizer);
        }
        if self.lossy && config.tokenizer == TokenizerKind::Bytes {
            bail!("--lossy and --tokenizer bytes contradict each other: every byte is a token as it is");
        }
        if self.vocab_size == Some(0) {
            bail!("--vocab-size is 0; it must be at least 1");
        }
        config.vocabulary.min_count = self.min_count.or(config.vocabulary.min_count);
        config.vocabulary.max_size = self.vocab_size.or(config.vocabulary.max_size);
        config.data.valid = absolute(&self.valid)?;
        config.data.test = absolute(&self.test)?;
        config.data.split = self.split.clone().map(|shares| shares.0);
        config.data.most = self.text_limit;
        config.data.lossy = self.lossy;
        config.data.shuffle = self.shuffle;
        config.data.documents = self.documents.clone();
        set(&mut config.data.line_ends, self.line_ends);
        Ok(())
    }
}
