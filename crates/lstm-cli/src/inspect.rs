//! `lstm inspect`: what a model does inside while it reads a text.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Result, bail};
use lstm::formats::FormatError;
use lstm::inspect::effect::{Change, Gate, What};
use lstm::inspect::{Looked, Shown, Wanted, look, page, table, tokens, tokens_of};
use lstm::report::write_page;
use lstm::text::tokenizer::TokenizerKind;

use crate::inspect_shown::{Window, show};
use crate::measured::{open, text_source};
use crate::output::{talk, use_threads};
use crate::progress::during;

/// The options of `lstm inspect`.
#[derive(clap::Args)]
pub struct Inspect {
    /// The model: a run folder, or a model file
    run: PathBuf,
    /// The text file, or - for standard input
    #[arg(required_unless_present = "text", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// The text itself
    #[arg(long)]
    text: Option<String>,
    /// The page to write [default: inspect.html]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print one JSON object with every value, and write no page
    #[arg(long, conflicts_with_all = ["out", "csv", "npz"])]
    json: bool,
    /// Print a line for every token, layer and unit as comma-separated values, and write no page
    #[arg(long, conflicts_with_all = ["out", "npz", "explain", "clamp", "gate", "off", "ablate", "labels"])]
    csv: bool,
    /// Write every gate and state as NumPy arrays to this file, and no page
    #[arg(long, conflicts_with_all = ["out", "explain", "clamp", "gate", "off", "ablate", "labels"], value_name = "FILE")]
    npz: Option<PathBuf>,
    /// Tokens whose predictions are explained by exact gradients, by their numbers from 1, such as 3,17 [default: the most
    /// surprising, as many as take little time]
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    explain: Vec<usize>,
    /// Hold a unit's cell at a value, as LAYER.UNIT=VALUE, or as LAYER.UNIT=VALUE@FROM..TO while some tokens are read; layers and tokens
    /// are counted from 1, units from 0. It can be given more than once, as those below
    #[arg(long, value_name = "CELL", value_parser = cell, allow_hyphen_values = true)]
    clamp: Vec<Change>,
    /// Hold a gate at a value: LAYER.i=0, of one unit LAYER.i.UNIT=0, also with @FROM..TO
    #[arg(long, value_name = "GATE", value_parser = gate)]
    gate: Vec<Change>,
    /// Switch off a unit, LAYER.UNIT, or a layer, LAYER, also with @FROM..TO
    #[arg(long, value_name = "UNIT", value_parser = off)]
    off: Vec<Change>,
    /// Switch off every unit in turn and rank them by what that costs: all
    #[arg(long, value_name = "WHICH", value_parser = ["all"])]
    ablate: Option<String>,
    /// A file with a word for each token, parted by white space: which units follow each kind is said
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Threads to use; the result is the same for any number [default: all processors]
    #[arg(long)]
    threads: Option<usize>,
}

/// The tokens while whose reading a change holds.
type Span = Option<(usize, usize)>;

/// The part of a change behind `@`: FROM..TO.
fn spanned(value: &str) -> Result<(&str, Span), String> {
    let Some((what, span)) = value.split_once('@') else { return Ok((value, None)) };
    let parsed = span.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    Ok((what, Some(parsed.ok_or("behind @ are two numbers of tokens, such as @3..7")?)))
}

fn number<T: FromStr>(value: &str, what: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{value:?} is no {what}"))
}

fn cell(value: &str) -> Result<Change, String> {
    let (what, span) = spanned(value)?;
    let parts = what.split_once('=').and_then(|(unit, value)| Some((unit.split_once('.')?, value)));
    let ((layer, unit), value) = parts.ok_or("it is LAYER.UNIT=VALUE, such as 1.17=2.5")?;
    let what = What::Cell(number(unit, "unit")?, number(value, "value")?);
    Ok(Change { layer: number(layer, "layer")?, what, span })
}

fn gate(value: &str) -> Result<Change, String> {
    let (what, span) = spanned(value)?;
    let form = "it is LAYER.GATE=VALUE or LAYER.GATE.UNIT=VALUE with a gate i, f, g or o, such as 1.f=1";
    let (place, value) = what.split_once('=').ok_or(form)?;
    let mut parts = place.split('.');
    let (layer, gate, unit) = (parts.next().ok_or(form)?, parts.next().ok_or(form)?, parts.next());
    let gate = match gate {
        "i" => Gate::I,
        "f" => Gate::F,
        "g" => Gate::G,
        "o" => Gate::O,
        _ => return Err(form.to_owned()),
    };
    let unit = unit.map(|unit| number(unit, "unit")).transpose()?;
    Ok(Change { layer: number(layer, "layer")?, what: What::Gate(gate, unit, number(value, "value")?), span })
}

fn off(value: &str) -> Result<Change, String> {
    let (what, span) = spanned(value)?;
    let (layer, what) = match what.split_once('.') {
        Some((layer, unit)) => (layer, What::Unit(number(unit, "unit")?)),
        None => (what, What::Layer),
    };
    Ok(Change { layer: number(layer, "layer")?, what, span })
}

/// Looks into the model and shows what is there.
pub fn run(options: Inspect) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let run = open(&options.run)?;
    let ids = match (&options.text, &options.file) {
        (Some(text), _) => tokens(&run, text)?,
        (None, Some(file)) => {
            let lossy = run.tokenizer.kind() == TokenizerKind::Bytes;
            tokens_of(&run, &text_source(&run, file, lossy)?, lossy)?
        }
        (None, None) => bail!("there is no text; give a file, or the text by --text"),
    };
    let labels = options.labels.as_deref().map(words).transpose()?;
    let changes: Vec<Change> = [&options.clamp, &options.gate, &options.off].into_iter().flatten().cloned().collect();
    let wanted = Wanted { explain: options.explain.clone(), changes, ablate: options.ablate.is_some(), labels };
    let looked = during("reading the text", || look(&run, &ids, &wanted))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if options.json {
        writeln!(out, "{}", table::json(&looked))?;
    } else if options.csv {
        table::csv(&looked.inspection, &mut out)?;
    } else if let Some(path) = &options.npz {
        let bytes = table::npz(&looked.inspection)?;
        if path.exists() && !(path.is_file() && is_archive(path)) {
            bail!("{} exists and holds no arrays; choose another --npz", path.display());
        }
        std::fs::write(path, bytes).map_err(|source| FormatError::Write { path: path.clone(), source })?;
        talk(format_args!("arrays   {}", path.display()));
    } else {
        show(&looked, &wanted.changes, Window::of_terminal(std::io::stdout().is_terminal()), &mut out)?;
        write(&looked, &wanted.changes, &options, run.config.model.to_string())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the page.
fn write(looked: &Looked, changes: &[Change], options: &Inspect, model: String) -> Result<()> {
    let path = options.out.clone().unwrap_or("inspect.html".into());
    let model = format!("{}: {model}", options.run.display());
    write_page(&path, &page(looked, Shown { model: &model, changes }))?;
    talk(format_args!("page     {}", path.display()));
    Ok(())
}

/// Whether a file begins as a `.npz` does.
fn is_archive(path: &Path) -> bool {
    let mut start = [0; 2];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && &start == b"PK"
}

/// The words of a file.
fn words(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|source| FormatError::Read { path: path.to_owned(), source })?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_and_nonsense_is_not() {
        let change = |layer, what, span| Ok(Change { layer, what, span });
        assert_eq!(cell("1.17=-2.5@3..7"), change(1, What::Cell(17, -2.5), Some((3, 7))));
        assert_eq!(gate("2.f=1"), change(2, What::Gate(Gate::F, None, 1.0), None));
        assert_eq!(gate("2.o.5=0@1..2"), change(2, What::Gate(Gate::O, Some(5), 0.0), Some((1, 2))));
        assert_eq!([off("1"), off("1.4")], [change(1, What::Layer, None), change(1, What::Unit(4), None)]);
        for wrong in ["1.17", "17=2", "a.1=2", "1.2=3@4", "1.2=x"] {
            assert!(cell(wrong).is_err(), "{wrong}");
        }
        for wrong in ["1.x=0", "1=0", "1.f", "1.f.u=0"] {
            assert!(gate(wrong).is_err(), "{wrong}");
        }
    }
}
