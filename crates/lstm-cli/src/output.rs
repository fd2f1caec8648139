//! What the subcommands share in printing results and in starting up.

use std::path::Path;

use anyhow::{Result, bail};
use lstm::model::Loss;
use lstm::text::corpus::{Corpus, Source};
use lstm::train::trainer::LoadedRun;
use serde_json::{Value, json};

/// Uses `threads` threads, or as many as there are processors.
pub fn use_threads(threads: Option<usize>) -> Result<()> {
    if threads == Some(0) {
        bail!("--threads is 0; it must be at least 1");
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build_global()?;
    Ok(())
}

/// A result as JSON.
pub fn loss_json(loss: Option<Loss>, unknown: Option<usize>) -> Value {
    loss.map_or(
        Value::Null,
        |loss| json!({"perplexity": loss.perplexity(), "nll": loss.mean(), "tokens": loss.tokens, "unknown": unknown}),
    )
}

/// A run and a text to use it on.
pub fn open(run: &Path, file: &Path, lossy: bool) -> Result<(LoadedRun, Corpus)> {
    let run = LoadedRun::open(run)?;
    let corpus = Corpus::read(&Source::from_file(file)?, &run.tokenizer, lossy)?;
    Ok((run, corpus))
}
