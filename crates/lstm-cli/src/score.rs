//! `lstm score`: the surprisal of every token, the perplexity of every line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use lstm::evaluate::Evaluation;
use lstm::text::tokenizer::Tokenizer;
use serde::Serialize;

use crate::output::{count, open, perplexity, talk, use_threads};

/// The options of `lstm score`.
#[derive(clap::Args)]
pub struct Score {
    /// The run folder
    run: PathBuf,
    /// The text file, - for standard input, or a folder: its test text, else its validation text, else all of it
    file: PathBuf,
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

/// A line of the text, for machines.
#[derive(Serialize)]
struct Line<'a> {
    perplexity: f64,
    nll: f64,
    tokens: Vec<Token<'a>>,
}

/// A token of it and its surprisal.
#[derive(Serialize)]
struct Token<'a> {
    token: &'a str,
    nats: f32,
}

/// Scores and prints.
pub fn run(options: Score) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let (run, corpus) = open(&options.run, &options.file, options.lossy)?;
    let tokenizer = &run.tokenizer;
    let mut evaluation = Evaluation::in_order(&run.model, &run.params, tokenizer, &corpus, run.config.batching)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut line = Vec::new();
    while evaluation.advance() {
        for (token, nats) in evaluation.predicted() {
            line.push((token, nats));
            if tokenizer.ends_line(token) {
                write_line(&mut out, tokenizer, &line, options.json)?;
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        write_line(&mut out, tokenizer, &line, options.json)?;
    }
    out.flush()?;
    let loss = evaluation.total();
    let tokens = count(loss.tokens as u64, "token");
    talk(format_args!("perplexity {} on {tokens}", perplexity(loss.perplexity())));
    Ok(ExitCode::SUCCESS)
}

/// One line of the text: its perplexity, then every token with its surprisal.
fn write_line(out: &mut impl Write, tokenizer: &Tokenizer, line: &[(u32, f32)], as_json: bool) -> Result<()> {
    let mean = line.iter().map(|(_, nats)| f64::from(*nats)).sum::<f64>() / line.len() as f64;
    if as_json {
        let tokens = line.iter().map(|&(id, nats)| Token { token: tokenizer.token(id), nats }).collect();
        writeln!(out, "{}", serde_json::to_string(&Line { perplexity: mean.exp(), nll: mean, tokens })?)?;
        return Ok(());
    }
    write!(out, "{:>10} ", perplexity(mean.exp()))?;
    for (id, nats) in line {
        write!(out, " {}:{nats:.2}", tokenizer.token(*id).escape_debug())?;
    }
    writeln!(out)?;
    Ok(())
}
