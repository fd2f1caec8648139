//! `lstm eval`: a trained model's perplexity on a text.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use lstm::evaluate::Evaluation;

use crate::output::{grouped, loss_json, open, use_threads};

/// The options of `lstm eval`.
#[derive(clap::Args)]
pub struct Eval {
    /// The run folder
    run: PathBuf,
    /// The text file
    file: PathBuf,
    /// Replace bytes that are not UTF-8 [default: refuse them]
    #[arg(long)]
    lossy: bool,
    /// Print one JSON object [default: a sentence]
    #[arg(long)]
    json: bool,
    /// Threads to use; the result is the same for any number [default: all processors]
    #[arg(long)]
    threads: Option<usize>,
}

/// Evaluates and prints.
pub fn run(options: Eval) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let (run, corpus) = open(&options.run, &options.file, options.lossy)?;
    let started = Instant::now();
    let (batching, rows) = (run.config.batching, run.config.batch);
    let loss = Evaluation::new(&run.model, &run.params, &run.tokenizer, &corpus, batching, rows)?.finish();
    let seconds = started.elapsed().as_secs_f64();
    let mut out = std::io::stdout();
    if options.json {
        let mut result = loss_json(Some(loss), Some(corpus.unknown));
        result["seconds"] = seconds.into();
        writeln!(out, "{result}")?;
    } else {
        writeln!(
            out,
            "perplexity {:.2} ({:.4} nats a token) on {} tokens, {} of them unknown to the model, in {seconds:.1} s",
            loss.perplexity(),
            loss.mean(),
            grouped(loss.tokens as u64),
            grouped(corpus.unknown as u64)
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
