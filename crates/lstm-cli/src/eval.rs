//! `lstm eval`: a trained model's perplexity on a text.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use lstm::train::trainer::evaluate;

/// The options of `lstm eval`.
#[derive(clap::Args)]
pub struct Eval {
    /// The run folder
    run: PathBuf,
    /// The text
    file: PathBuf,
    /// Replace bytes that are not UTF-8
    #[arg(long)]
    lossy: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Threads to use [default: all processors]
    #[arg(long)]
    threads: Option<usize>,
}

/// Evaluates and prints.
pub fn run(options: Eval) -> Result<ExitCode> {
    crate::output::use_threads(options.threads)?;
    let (run, corpus) = crate::output::open(&options.run, &options.file, options.lossy)?;
    let started = Instant::now();
    let loss = evaluate(&run.model, &run.params, &run.tokenizer, &corpus, &run.config, &mut |_, _| ())?;
    let seconds = started.elapsed().as_secs_f64();
    if options.json {
        let mut result = crate::output::loss_json(Some(loss), Some(corpus.unknown));
        result["seconds"] = seconds.into();
        println!("{result}");
    } else {
        println!(
            "perplexity {:.2} ({:.4} nats a token) on {} tokens, {} of them unknown to the model, in {seconds:.1} s",
            loss.perplexity(),
            loss.mean(),
            loss.tokens,
            corpus.unknown
        );
    }
    Ok(ExitCode::SUCCESS)
}
