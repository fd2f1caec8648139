//! `lstm eval` of a model of forecasts: its errors beside those of its baselines, wherever it could have forecast.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lstm::data::Table;
use lstm::forecast::{Origins, TrainedForecast};

use crate::eval::Eval;
use crate::forecast_train::{comparison_json, print_comparison};
use crate::output::use_threads;
use crate::predict_forecast::note_unknown;
use crate::progress::during;

/// Evaluates and prints.
pub fn run(options: &Eval) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let trained = TrainedForecast::open(&options.run)?;
    let origins = match (options.backtest, &options.file) {
        (Some(0), _) => bail!("--backtest is 0; it must be at least 1"),
        (Some(count), _) => Origins::Last(count),
        (None, None) if trained.frame.until[2] > trained.frame.until[1] => Origins::Test,
        (None, _) => Origins::AfterValidation,
    };
    let dataset = during("reading the table", || match &options.file {
        Some(file) => trained.read(&Table::read(file)?),
        None => trained.read_own(),
    })?;
    note_unknown(&dataset.unknown);
    let comparison = during("measuring", || trained.compare_on(&dataset, origins))?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", comparison_json(&comparison))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{} to {}:", comparison.from, comparison.to)?;
    print_comparison(&mut out, &comparison)?;
    Ok(ExitCode::SUCCESS)
}
