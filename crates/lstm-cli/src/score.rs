//! `lstm score`: the surprisal of every token, the perplexity of every line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use lstm::train::trainer::evaluate;
use serde_json::json;

/// The options of `lstm score`.
#[derive(clap::Args)]
pub struct Score {
    /// The run folder
    run: PathBuf,
    /// The text
    file: PathBuf,
    /// Replace bytes that are not UTF-8
    #[arg(long)]
    lossy: bool,
    /// Print one JSON object a line of the text
    #[arg(long)]
    json: bool,
}

/// Scores and prints.
pub fn run(options: Score) -> Result<ExitCode> {
    crate::output::use_threads(None)?;
    let (mut run, corpus) = crate::output::open(&options.run, &options.file, options.lossy)?;
    // One row at a time keeps lines and windows in the order of the text.
    run.config.batch = 1;
    let mut scored = Vec::new();
    evaluate(&run.model, &run.params, &run.tokenizer, &corpus, &run.config, &mut |token, nats| {
        scored.push((token, nats))
    })?;
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let newline = [run.tokenizer.eos(), run.tokenizer.id("\n"), run.tokenizer.id("<0x0A>")];
    for line in scored.split_inclusive(|(token, _)| newline.contains(&Some(*token))) {
        let total: f64 = line.iter().map(|(_, nats)| f64::from(*nats)).sum();
        let perplexity = (total / line.len() as f64).exp();
        if options.json {
            let tokens: Vec<_> =
                line.iter().map(|(id, nats)| json!({"token": run.tokenizer.token(*id), "nats": nats})).collect();
            writeln!(out, "{}", json!({"perplexity": perplexity, "nll": total / line.len() as f64, "tokens": tokens}))?;
        } else {
            write!(out, "{perplexity:10.2} ")?;
            for (id, nats) in line {
                write!(out, " {}:{nats:.2}", run.tokenizer.token(*id).escape_debug())?;
            }
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
