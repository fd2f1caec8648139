//! `lstm show` of a model of forecasts.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use lstm::forecast::{Normalise, TrainedForecast};
use serde_json::json;

use crate::forecast_train::layers;
use crate::output::{Taken, best, count, grouped, learning, sequences};

/// Shows the model.
pub fn run(path: &Path, as_json: bool) -> Result<ExitCode> {
    let trained = TrainedForecast::open(path)?;
    let (config, frame, card, layout) = (&trained.config, &trained.frame, &trained.card, trained.model.layout());
    let mut out = std::io::stdout().lock();
    if as_json {
        let tensors: Vec<_> =
            layout.entries().iter().map(|entry| json!({"name": entry.name, "shape": entry.shape})).collect();
        let results = json!({
            "epoch": card.epoch, "step": card.step, "train": card.train.mean(),
            "valid": card.valid.map(|loss| loss.mean()), "test": card.test.map(|loss| loss.mean()),
        });
        let shown = json!({
            "config": config, "frame": frame, "results": results, "parameters": layout.len(), "tensors": tensors,
        });
        writeln!(out, "{shown}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut row = |name: &str, value: String| writeln!(out, "{name:<11} {value}");
    let columns = &config.columns;
    row("task", config.task.to_string())?;
    row("target", columns.target.join(", "))?;
    row(
        "time",
        format!(
            "{} in steps of {}, trained up to {}",
            columns.time,
            frame.step.written(frame.clock),
            frame.written_until(0)
        ),
    )?;
    if let Some(series) = &columns.series {
        row("series", format!("{} by {series}", count(frame.scalers.len() as u64, "series").trim_end_matches('s')))?;
    }
    for (name, named) in [("known", &columns.known), ("static", &columns.fixed)] {
        if !named.is_empty() {
            row(name, named.join(", "))?;
        }
    }
    let season = if frame.season > 1 { format!(", season of {}", frame.season) } else { String::new() };
    row(
        "forecast",
        format!("{} from {}{season}", count(config.horizon as u64, "step"), count(config.context as u64, "step")),
    )?;
    row("says", config.likelihood.to_string())?;
    let normalised = match config.normalise {
        Normalise::Last => "the window's last value",
        Normalise::Window => "the window's mean and deviation",
        Normalise::Series => "the series' mean and deviation",
    };
    let linear = if config.linear { ", and a linear map" } else { "" };
    row("layers", format!("{}{linear}; measured from {normalised}; dropout {}", layers(config), config.dropout))?;
    row("batches", sequences(&config.training, Taken::Anywhere))?;
    row("optimizer", learning(&config.training))?;
    row("model", best(card.epoch, card.step))?;
    for (name, loss) in [("train", Some(card.train)), ("valid", card.valid), ("test", card.test)] {
        let said = loss.filter(|loss| loss.tokens > 0).map_or("not measured".to_owned(), |loss| {
            format!("loss {:.4} on {}", loss.mean(), count(loss.tokens as u64, "value"))
        });
        row(name, said)?;
    }
    row("parameters", grouped(layout.len() as u64))?;
    Ok(ExitCode::SUCCESS)
}
