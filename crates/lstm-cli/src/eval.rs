//! `lstm eval`: a trained model's perplexity on a text.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use lstm::evaluate::Evaluation;
use lstm::text::ngram::Ngram;
use serde_json::Value;

use crate::adapt::Adapt;
use crate::output::{count, grouped, loss_json, open, per_word, perplexity, use_threads};

/// The tokens that the baseline counts together.
const BASELINE_ORDER: usize = 5;

/// The options of `lstm eval`.
#[derive(clap::Args)]
pub struct Eval {
    /// The run folder
    run: PathBuf,
    /// The text file, - for standard input, or a folder: its test text, else its validation text, else all of it
    file: PathBuf,
    /// Replace bytes that are not UTF-8 [default: refuse them]
    #[arg(long)]
    lossy: bool,
    /// Compare with a Kneser-Ney 5-gram that is counted on the same training text [default: the model alone]
    #[arg(long)]
    baseline: bool,
    #[command(flatten)]
    adapt: Adapt,
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
    let ready = options.adapt.prepare(&run, &options.run)?;
    let started = Instant::now();
    let (batching, rows) = (run.config.batching, run.config.batch);
    let loss = Evaluation::new(&run.model, &run.params, &run.tokenizer, &corpus, batching, rows)?.finish();
    let seconds = started.elapsed().as_secs_f64();
    let adapted = ready.map(|ready| ready.run(&run, &corpus)).transpose()?;
    let baseline = options.baseline.then(|| -> Result<_> {
        let started = Instant::now();
        let model = Ngram::of_corpus(BASELINE_ORDER, &run.training_text()?, &run.tokenizer)?;
        Ok((model.loss(&corpus, &run.tokenizer, batching), started.elapsed().as_secs_f64()))
    });
    let baseline = baseline.transpose()?;
    let mut out = std::io::stdout();
    if options.json {
        let mut result = loss_json(Some(loss), Some(&corpus));
        result["seconds"] = seconds.into();
        result["adapted"] = adapted.map_or(Ok(Value::Null), |adapted| adapted.json(&corpus))?;
        result["baseline"] = baseline.map_or(Value::Null, |(loss, seconds)| {
            let mut baseline = loss_json(Some(loss), Some(&corpus));
            baseline["order"] = BASELINE_ORDER.into();
            baseline["seconds"] = seconds.into();
            baseline
        });
        writeln!(out, "{result}")?;
    } else {
        writeln!(
            out,
            "perplexity {} ({:.4} nats a token) on {}, {} of them unknown to the model, in {seconds:.1} s",
            perplexity(loss.perplexity()),
            loss.mean(),
            count(loss.tokens as u64, "token"),
            grouped(corpus.unknown as u64)
        )?;
        let per_word = |loss| per_word(&corpus, loss);
        writeln!(out, "{}", per_word(loss))?;
        if let Some(adapted) = adapted {
            writeln!(out, "{}", adapted.line())?;
            writeln!(out, "{}", per_word(adapted.loss))?;
        }
        if let Some((loss, seconds)) = baseline {
            let (perplexity, nats) = (loss.perplexity(), loss.mean());
            writeln!(
                out,
                "baseline   {perplexity:.2} ({nats:.4} nats a token), a Kneser-Ney {BASELINE_ORDER}-gram of the same \
                 training text, in {seconds:.1} s"
            )?;
            writeln!(out, "{}", per_word(loss))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
