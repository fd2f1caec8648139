//! `lstm predict` with a model of forecasts: what comes after the last value of each series of a table.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lstm::data::Table;
use lstm::forecast::{LEVELS, TrainedForecast};
use serde_json::json;

use crate::output::{cell, talk, use_threads};
use crate::predict::Predict;
use crate::progress::during;

/// Predicts and prints.
pub fn run(options: &Predict) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let of_texts = [("text", options.text.is_some()), ("attention", options.attention), ("lossy", options.lossy)];
    if let Some((option, _)) = of_texts.iter().find(|(_, given)| *given) {
        bail!("--{option} has no part in a forecast: it is of models that read texts; leave it out");
    }
    let trained = TrainedForecast::open(&options.model)?;
    let table = during("reading the table", || Table::read(&options.file))?;
    let (predicted, dataset) = during("forecasting", || trained.predict(&table))?;
    note_unknown(&dataset.unknown);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let with_series = trained.config.columns.series.is_some();
    if !options.json {
        let levels = if predicted.first().is_some_and(|first| !first.quantiles.is_empty()) { &LEVELS[..] } else { &[] };
        let levels: Vec<String> = levels.iter().map(|level| format!(",q{level}")).collect();
        writeln!(out, "time,{}target,point{}", if with_series { "series," } else { "" }, levels.concat())?;
    }
    for row in predicted {
        if options.json {
            let quantiles: serde_json::Map<String, serde_json::Value> =
                LEVELS.iter().zip(&row.quantiles).map(|(level, value)| (level.to_string(), json!(value))).collect();
            let mut shown = json!({"time": row.time, "target": row.target, "point": row.point});
            if with_series {
                shown["series"] = json!(row.series);
            }
            if !quantiles.is_empty() {
                shown["quantiles"] = json!(quantiles);
            }
            writeln!(out, "{shown}")?;
            continue;
        }
        let series = if with_series { format!("{},", cell(&row.series)) } else { String::new() };
        let quantiles: Vec<String> = row.quantiles.iter().map(|value| format!(",{}", short(*value))).collect();
        writeln!(out, "{},{series}{},{}{}", row.time, cell(&row.target), short(row.point), quantiles.concat())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Says which series a model has not been trained on.
pub fn note_unknown(unknown: &[String]) {
    if let [first, rest @ ..] = unknown {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        talk(format_args!(
            "note     the series \"{first}\"{more} was not trained on: its values are scaled by those of this table"
        ));
    }
}

/// A number with as many digits as single precision has.
fn short(value: f64) -> String {
    (value as f32).to_string()
}
