//! `lstm show`: what a trained model is.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use lstm::train::trainer::LoadedRun;
use serde_json::json;

/// The options of `lstm show`.
#[derive(clap::Args)]
pub struct Show {
    /// The run folder
    run: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Shows the run.
pub fn run(options: Show) -> Result<ExitCode> {
    let run = LoadedRun::open(&options.run)?;
    let layout = run.model.layout();
    let mut out = std::io::stdout();
    if options.json {
        let entries: Vec<_> =
            layout.entries().iter().map(|entry| json!({"name": entry.name, "shape": entry.shape})).collect();
        let shown =
            json!({"config": run.config, "results": run.document, "parameters": layout.len(), "tensors": entries});
        writeln!(out, "{shown}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let model = run.model.config();
    let trained_on =
        run.config.data.train.as_ref().map_or("the built-in language".to_owned(), |p| p.display().to_string());
    writeln!(out, "layers      {} × {} hidden, embedding {}", model.layers, model.hidden, model.embedding)?;
    writeln!(out, "vocabulary  {} {}", model.vocabulary, run.tokenizer.kind())?;
    writeln!(out, "readout     {}, initialised {}", model.readout, run.config.init.scheme)?;
    writeln!(out, "batches     {}, {} × {}", run.config.batching, run.config.batch, run.config.segment)?;
    writeln!(out, "trained on  {trained_on}, epoch {}", run.document["epoch"])?;
    writeln!(
        out,
        "perplexity  train {:.2}, valid {:.2}",
        number(&run.document["train"]),
        number(&run.document["valid"])
    )?;
    writeln!(out, "\nparameters  {}", layout.len())?;
    for entry in layout.entries() {
        writeln!(out, "  {:<24} {:?}", entry.name, entry.shape)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}
