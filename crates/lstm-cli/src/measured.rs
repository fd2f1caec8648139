//! The objects of a measurement: a model that is opened, and a text that is read in the run's way.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use lstm::run::saved::LoadedRun;
use lstm::text::corpus::Corpus;
use lstm::text::source::Source;
use lstm::text::tokenizer::TokenizerKind;
use lstm::{Ensemble, LanguageModel};

use crate::notes;
use crate::output::{count, talk};
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
    /// once [default: the run alone]
    #[arg(long, value_name = "RUN")]
    with: Vec<PathBuf>,
    /// The shares of the models in the mean, the first one's first, such as 2,1,1 [default: all alike]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', allow_negative_numbers = true)]
    shares: Vec<f64>,
    /// Of runs that are of several models use the first so many, such as 1 [default: all]
    #[arg(long, value_name = "K")]
    members: Option<usize>,
}

/// Opens a model and those that are used with it.
pub fn open_together(first: &Path, Together { with, shares, members }: &Together) -> Result<Ensemble> {
    let paths = std::iter::once(first).chain(with.iter().map(PathBuf::as_path));
    let ensemble = open_members(paths, *members)?;
    Ok(if shares.is_empty() { ensemble } else { ensemble.with_shares(shares)? })
}

/// Opens runs with so many of their members, and says where that is more than the runs that are named.
pub fn open_members<'a>(runs: impl IntoIterator<Item = &'a Path>, most: Option<usize>) -> Result<Ensemble> {
    if most == Some(0) {
        bail!("--members is 0; it must be at least 1");
    }
    let runs: Vec<&Path> = runs.into_iter().collect();
    let (named, first) = (runs.len(), runs.first().map_or(String::new(), |run| run.display().to_string()));
    let ensemble = during("opening the model", || Ensemble::open_runs(runs, most.unwrap_or(usize::MAX)))?;
    let models = ensemble.members().len();
    if let Some(of) = most.filter(|most| *most > 1 && named == 1 && *most > models) {
        bail!("--members is {of}, but {first} has {}; give at most as many", count(models, "trained model"));
    }
    if models > named {
        let of = if named == 1 { first } else { count(named, "run") };
        talk(format_args!("members  {models} models of {of} are used as one; --members 1 takes the first alone"));
    }
    Ok(ensemble)
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
