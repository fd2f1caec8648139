//! The `lstm` command as its users meet it, one binary.

/// Evaluation that follows the text.
mod adapt;
/// Measuring the machine.
mod bench;
/// Pages in a browser that is told what to do.
mod browser;
/// Curves for TensorBoard.
mod curves;
/// Getting corpora from a server on this machine.
#[cfg(feature = "download")]
mod data;
/// Several models as one, and students of some.
mod ensemble;
/// Going on from a trained model on another text.
mod fine_tuning;
/// Forecasts: trained, made, measured, and tables that are refused.
mod forecast;
/// Files of other programs: shown, converted, refused.
mod foreign;
/// What generation writes and says.
mod generating;
/// Inside a model: pages, values, changes.
mod inspect;
/// Files of Keras: shown, written, read again, refused.
mod keras;
/// The life of a run folder: kills, full disks, two at once, signals, and what was changed behind its back.
mod life;
/// Runs of several models: trained, resumed, used as one.
mod members;
/// A model file alone: used, converted, refused.
mod model_file;
/// Several ranks of MPI: the same bits, refusals, kills.
#[cfg(feature = "mpi")]
mod mpi;
/// Sequences of numbers, and numbers that are said of sequences and texts.
mod numbers;
/// Texts as small as a model makes them, and back.
mod packing;
/// Bad input: a sentence, exit code 2, nothing lost or half-written.
mod refusals;
/// Pages of runs, as files and in a browser.
mod report;
/// Training, evaluating, generating, scoring, showing.
mod results;
/// Figures of texts with unknown words, line by line and in all.
mod scoring;
/// The server, asked over the network.
#[cfg(feature = "serve")]
mod serving;
/// Tasks beside language.
mod tasks;
/// How texts come in: folders, lines, documents.
mod texts;
/// Runs proven by taking steps again, and runs in one table.
mod verifying;
/// Products of fewer bits: a model's weights, a measurement's precision.
mod weights;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// What a command printed and how it ended.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The one JSON object on standard output.
    fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{}", self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lstm"));
    command.current_dir(folder).args(arguments);
    command
}

/// Runs `lstm` in `folder`.
fn lstm(folder: &Path, arguments: &[&str]) -> Said {
    Said::new(command(folder, arguments).output().unwrap())
}

/// The same with `input` on standard input.
fn piped(folder: &Path, arguments: &str, input: &str) -> Said {
    let mut command = command(folder, &arguments.split_whitespace().collect::<Vec<_>>());
    let piped = || std::process::Stdio::piped();
    let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
    // A command that refuses its options does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Said::new(child.wait_with_output().unwrap())
}

/// The same for a line without quotes in it.
fn line(folder: &Path, line: &str) -> Said {
    lstm(folder, &line.split_whitespace().collect::<Vec<_>>())
}

/// Sizes that train in a moment.
const TINY: &str = "--layers 2 --hidden 8 --embedding 6 --batch 4 --segment 8 --epochs 2";

/// A folder with `text.txt`: 400 short lines of nine words.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let words = ["the", "cat", "sees", "a", "dog", "and", "runs", "home", "today"];
    let text: String = (0..400)
        .map(|i| {
            let line: Vec<&str> = (0..3 + i % 7).map(|j| words[(i * 7 + j * (i % 5 + 1)) % 9]).collect();
            format!("{}\n", line.join(" "))
        })
        .collect();
    std::fs::write(folder.path().join("text.txt"), text).unwrap();
    folder
}

/// Such a folder with a finished run `run` in it.
fn trained(options: &str) -> TempDir {
    let folder = folder();
    let said = line(folder.path(), &format!("train text.txt {TINY} --out run {options}"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    folder
}
