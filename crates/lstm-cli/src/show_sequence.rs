//! `lstm show` of a model over sequences.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use lstm::model::Loss;
use lstm::run::TaskKind;
use lstm::run::saved::Origin;
use lstm::sequence::config::ClassWeights;
use lstm::sequence::saved::LoadedSequence;
use serde_json::json;

use crate::output::{Taken, best, count, grouped, learning, parts, sequences};
use crate::sequence_train::shape;

/// Shows the model.
pub fn run(path: &Path, as_json: bool) -> Result<ExitCode> {
    let run = LoadedSequence::open(path)?;
    let (config, card, layout) = (&run.config, &run.card, run.model.layout());
    let mut out = std::io::stdout().lock();
    if as_json {
        let loss = |loss: Option<Loss>| loss.map(|loss| json!({"loss": loss.mean(), "examples": loss.tokens}));
        let results = json!({
            "epoch": card.epoch, "step": card.step,
            "train": loss(Some(card.train)), "valid": loss(card.valid), "test": loss(card.test),
        });
        let tensors: Vec<_> =
            layout.entries().iter().map(|entry| json!({"name": entry.name, "shape": entry.shape})).collect();
        let shown = json!({"config": config, "results": results, "parameters": layout.len(), "tensors": tensors});
        writeln!(out, "{shown}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut row = |name: &str, value: String| writeln!(out, "{name:<11} {value}");
    row("task", config.task.to_string())?;
    let labels = if config.task == TaskKind::Regress { "numbers" } else { "labels" };
    row(labels, format!("{}: {}", config.labels.len(), config.labels.join(", ")))?;
    row("layers", shape(config))?;
    match &config.model.numbers {
        None => row("vocabulary", format!("{} {}", grouped(config.model.vocabulary as u64), config.tokenizer.noun()))?,
        Some(numbers) => {
            let named =
                if numbers.columns.is_empty() { String::new() } else { format!(": {}", numbers.columns.join(", ")) };
            let missing = if numbers.missing { ", which may be missing" } else { "" };
            row("step", format!("{}{named}{missing}", count(numbers.features as u64, "value")))?;
            row("noise", format!("{} on values, {} on their scale", numbers.noise, numbers.gain))?;
        }
    }
    row(
        "trained on",
        match (&run.origin, &config.data.train) {
            (Origin::Run(_), Some(path)) => path.display().to_string(),
            _ => "data that the model file does not name".to_owned(),
        },
    )?;
    let training = &config.training;
    row("batches", sequences(training, Taken::Anywhere))?;
    row("optimizer", learning(training))?;
    if let Some(from) = &config.fine_tuning.from {
        row("from", from.display().to_string())?;
    }
    if let Some(parts) = parts(&config.fine_tuning, config.unfreeze) {
        row("parts", parts)?;
    }
    if config.label_smoothing > 0.0 {
        row("smoothing", config.label_smoothing.to_string())?;
    }
    if config.class_weights != ClassWeights::None {
        row("weights", format!("of labels {}", config.class_weights))?;
    }
    if config.model.bag > 0.0 {
        row("bag of words", format!("{} of the scores", config.model.bag))?;
    }
    let dropout = &config.model.dropout;
    row(
        "dropout",
        format!(
            "words {}, input {}, hidden {}, output {}, recurrent weights {}",
            dropout.words, dropout.input, dropout.hidden, dropout.output, dropout.weights
        ),
    )?;
    row("model", best(card.epoch, card.step))?;
    let trained = Some(card.train).filter(|loss| loss.tokens > 0);
    for (name, loss) in [("train", trained), ("valid", card.valid), ("test", card.test)] {
        let said = loss.map_or("not measured".to_owned(), |loss| {
            format!("loss {:.4} on {}", loss.mean(), count(loss.tokens as u64, "example"))
        });
        row(name, said)?;
    }
    row("parameters", grouped(layout.len() as u64))?;
    for entry in layout.entries() {
        writeln!(out, "  {:<26} {:?}", entry.name, entry.shape)?;
    }
    Ok(ExitCode::SUCCESS)
}
