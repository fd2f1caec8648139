//! `lstm score`: the surprisal of every token, the perplexity of every line.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use lstm::model::Loss;
use lstm::score::{Lines, ScoredLine, ScoredToken, Text, score, score_mean};
use serde_json::{Value, json};

use crate::measured::{READING, Together, note_line_ends, open_together, text_source};
use crate::output::{count, perplexity, talk, use_threads};
use crate::progress::{Progress, during};

/// The options of `lstm score`.
#[derive(clap::Args)]
pub struct Score {
    /// The model: a run folder, or a model file
    run: PathBuf,
    /// The text file, - for standard input, or a folder: its test text, else its validation text, else all of it
    file: PathBuf,
    #[command(flatten)]
    together: Together,
    /// How lines follow each other: `joined`, each read after those before it, or `alone`, each from a fresh state, so that a
    /// line has the same figure wherever it stands [default: joined; lines and windows are alone as they are]
    #[arg(long, value_name = "HOW", value_parser = lines)]
    lines: Option<Lines>,
    /// Show the rank of each token too: 1 where it was the likeliest [default: in --json only]
    #[arg(long)]
    ranks: bool,
    /// Replace bytes that are not UTF-8 [default: refuse them]
    #[arg(long)]
    lossy: bool,
    /// Print one JSON object a line of the text [default: a readable line]
    #[arg(long)]
    json: bool,
    /// Threads to use; the result is the same for any number [default: all processors]
    #[arg(long)]
    threads: Option<usize>,
}

fn lines(value: &str) -> Result<Lines, String> {
    match value {
        "joined" => Ok(Lines::Joined),
        "alone" => Ok(Lines::Alone),
        _ => Err("it is one of joined, alone".to_owned()),
    }
}

/// Scores and prints.
pub fn run(options: Score) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let ensemble = open_together(&options.run, &options.together)?;
    let run = ensemble.first();
    let source = text_source(run, &options.file, options.lossy)?;
    let text = during(READING, || Text::read(&source, run, options.lossy))?;
    note_line_ends(run, &text.corpus);
    let is_seen = std::io::stdout().is_terminal();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (progress, has_begun) = (RefCell::new(Progress::new()), Cell::new(false));
    let mut write = |line: &ScoredLine| -> Result<()> {
        // On a terminal the lines themselves show how far it is.
        if is_seen && !has_begun.replace(true) {
            progress.borrow().finish();
        }
        if options.json {
            writeln!(out, "{}", as_json(line))?;
        } else {
            writeln!(out, "{}", as_text(line, options.ranks))?;
        }
        Ok(())
    };
    let of = text.corpus.tokens();
    let mut watch = |loss: Loss| {
        if !has_begun.get() {
            progress.borrow_mut().pass("scoring", loss.tokens, of, Some(loss));
        }
    };
    let lines = options.lines.unwrap_or_default();
    let loss = match ensemble.members().len() {
        1 => score(run, &text, lines, &mut watch, &mut write)?,
        _ => score_mean(&ensemble, &text, lines, &mut watch, &mut write)?,
    };
    out.flush()?;
    progress.borrow().finish();
    let unknown = match text.corpus.unknown {
        0 => String::new(),
        unknown => format!(", {} of the text unknown to the model", count(unknown as u64, "token")),
    };
    talk(format_args!(
        "perplexity {} on {}{unknown}",
        perplexity(loss.perplexity()),
        count(loss.tokens as u64, "token")
    ));
    Ok(ExitCode::SUCCESS)
}

/// A line for people: its perplexity, every token with its surprisal, and what is unknown.
fn as_text(line: &ScoredLine, ranks: bool) -> String {
    let mut said = format!("{:>10} ", perplexity(line.loss().perplexity()));
    for ScoredToken { text, nats, rank, unknown, .. } in &line.tokens {
        let shown: String = text.chars().map(seen).collect();
        // Where white space is part of a token, it is to be seen.
        let spaced = text.is_empty() || text.chars().any(char::is_whitespace);
        said.push_str(&if spaced { format!(" \"{shown}\"") } else { format!(" {shown}") });
        said.push_str(if unknown.is_some() { "(unknown)" } else { "" });
        said.push_str(&format!(":{nats:.2}"));
        if ranks {
            said.push_str(&format!("#{rank}"));
        }
    }
    if line.unknown() > 0 {
        let known = line.of_known().map_or("nothing else in it".to_owned(), |loss| {
            format!("perplexity {} without", perplexity(loss.perplexity()))
        });
        said.push_str(&format!("  [{} unknown, {known}]", line.unknown()));
    }
    said
}

/// A character as it is to be seen: itself, but for one that a terminal shows as nothing or obeys. One that joins the letter before
/// it, as a vowel of Thai does, is itself although a token may begin with it.
fn seen(c: char) -> String {
    if matches!(c, '\'' | '"' | '\\') { c.into() } else { format!("a{c}").escape_debug().skip(1).collect() }
}

/// A line for machines.
fn as_json(line: &ScoredLine) -> Value {
    let token = |token: &ScoredToken| {
        let ScoredToken { id, text, nats, rank, unknown } = token;
        let mut object = json!({"token": text, "id": id, "nats": nats, "rank": rank, "unknown": unknown.is_some()});
        if let Some(spelling) = unknown {
            object["spelling"] = json!(spelling);
        }
        object
    };
    let (loss, known) = (line.loss(), line.of_known());
    json!({
        "line": line.number,
        "perplexity": loss.perplexity(),
        "nll": loss.mean(),
        "unknown": line.unknown(),
        "perplexity_of_known": known.map(|loss| loss.perplexity()),
        "nll_of_known": known.map(|loss| loss.mean()),
        "tokens": line.tokens.iter().map(token).collect::<Vec<_>>(),
    })
}
