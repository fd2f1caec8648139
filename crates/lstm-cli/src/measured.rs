//! The objects of a measurement: a model that is opened, and a text that is read in the run's way.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::Result;
use lstm::LanguageModel;
use lstm::run::saved::LoadedRun;
use lstm::text::corpus::Corpus;
use lstm::text::source::Source;
use lstm::text::tokenizer::TokenizerKind;

use crate::notes;
use crate::output::talk;
use crate::progress::during;

/// Said while a text is read.
pub const READING: &str = "reading the text";

/// Opens a model to use it: a run folder, or a model file.
pub fn open(path: &Path) -> Result<LoadedRun> {
    Ok(during("opening the model", || LanguageModel::open(path))?)
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
