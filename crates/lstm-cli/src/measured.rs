//! The objects of a measurement: a model that is opened, and a text that is read in the run's way.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Result;
use lstm::run::saved::LoadedRun;
use lstm::text::corpus::Corpus;
use lstm::text::source::Source;
use lstm::text::tokenizer::TokenizerKind;
use lstm::{Ensemble, LanguageModel};

use crate::notes;
use crate::output::talk;
use crate::progress::during;

/// Said while a text is read.
pub const READING: &str = "reading the text";

/// Opens a model to use it: a run folder, or a model file.
pub fn open(path: &Path) -> Result<LoadedRun> {
    Ok(during("opening the model", || LanguageModel::open(path))?)
}

/// The models that are used beside the first, as one.
#[derive(clap::Args)]
pub struct Together {
    /// Use this model too, a run folder or a model file of the same tokens: the mean of the probabilities counts; may be given more than
    /// once [default: one model alone]
    #[arg(long, value_name = "RUN")]
    with: Vec<PathBuf>,
    /// The shares of the models in the mean, the first one's first, such as 2,1,1 [default: all alike]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', allow_negative_numbers = true)]
    shares: Vec<f64>,
}

/// Opens a model and those that are used with it.
pub fn open_together(first: &Path, Together { with, shares }: &Together) -> Result<Ensemble> {
    let paths = std::iter::once(first).chain(with.iter().map(PathBuf::as_path));
    let ensemble = during("opening the model", || Ensemble::open(paths))?;
    Ok(if shares.is_empty() { ensemble } else { ensemble.with_shares(shares)? })
}

/// A text to measure a run on, which is read in the way of the run's own.
pub fn text_source(run: &LoadedRun, file: &Path, lossy: bool) -> Result<Source> {
    let lossy = lossy || run.tokenizer.kind() == TokenizerKind::Bytes;
    let find = || Source::to_measure(file, lossy);
    // Who writes the text on the terminal is not to be talked to meanwhile.
    let is_typed = file == Path::new("-") && std::io::stdin().is_terminal();
    let (source, files) = if is_typed { find() } else { during(READING, find) }?;
    if let Some(files) = files {
        talk(format_args!("files    {files}"));
    }
    Ok(source.read_as(&run.config.data.reading()))
}

/// Says where the ends of a text's lines are not those of the run's.
pub fn note_line_ends(run: &LoadedRun, corpus: &Corpus) {
    if let Some(note) = notes::of_line_ends(&run.config.data, &run.tokenizer, corpus) {
        talk(format_args!("note     {note}"));
    }
}
