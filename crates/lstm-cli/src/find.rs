//! `lstm train --find-lr`: which learning rates learn; `--find-batch`: how many rows of a batch are worth computing. Nothing is kept.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use lstm::run::config::RunConfig;
use lstm::train::batch_finder::{BatchCost, BatchFinder, NoisePoint};
use lstm::train::data::Data;
use lstm::train::rate_finder::{RateFinder, RatePoint};
use serde_json::json;

use crate::output::{grouped, talk};
use crate::signals::Signals;
use crate::stdin::Copy;
use crate::train::{read, say_text};
use crate::train_options::Train;

/// Runs the range test and prints its curve and its suggestions.
pub fn rate(options: &Train) -> Result<ExitCode> {
    within(options, |config, data, signals| {
        let optimizer = config.training.optimizer;
        talk(format_args!("testing  {optimizer} at rates that grow until the loss does"));
        let test = RateFinder::run(config, data, Some(&signals.stop))?;
        test.map_or(Ok(false), |test| report(&test, options.run.json).map(|()| true))
    })
}

/// Measures the gradient noise scale, prints it and the batch that it suggests.
pub fn batch(options: &Train) -> Result<ExitCode> {
    within(options, |config, data, signals| {
        let (rows, segment, rate) = (config.training.batch, config.segment, config.training.schedule.learning_rate);
        talk(format_args!("measuring the noise of gradients of {rows} rows, while training at rate {rate}"));
        let mut out = std::io::stdout().lock();
        if !options.run.json {
            writeln!(out, "  step     loss  noise scale, tokens  rows of {segment}")?;
        }
        let mut each = |point: &NoisePoint| {
            let scale = match point.tokens {
                Some(tokens) => grouped(tokens.round() as u64),
                None => format!("> {}", grouped(point.read as u64)),
            };
            let rows = point.rows.map_or_else(String::new, |rows| grouped(rows.round() as u64));
            if !options.run.json {
                // A reader that is gone is noticed by what is written at the end.
                let _ = writeln!(out, "{:>6} {:>8.4} {scale:>20} {rows:>9}", point.step, point.loss);
            }
        };
        let Some(found) = BatchFinder::run(config, data, Some(&signals.stop), &mut each)? else { return Ok(false) };
        if options.run.json {
            writeln!(out, "{}", serde_json::to_string(&found)?)?;
            return Ok(true);
        }
        let Some(batch) = found.batch else {
            talk("the gradient did not stand out of its noise; measure with a larger --batch");
            return Ok(true);
        };
        writeln!(out, "  rows  tokens/s  tokens needed  time needed")?;
        for BatchCost { rows, tokens_per_second, tokens_needed, time_needed, .. } in &found.costs {
            let speed = grouped(tokens_per_second.round() as u64);
            writeln!(out, "{rows:>6} {speed:>9} {tokens_needed:>14.2} {time_needed:>12.2}")?;
        }
        writeln!(out, "batch {batch}   needs the least time: fewer rows compute slower, of more each teaches less")?;
        talk(format_args!("try: --batch {batch}"));
        Ok(true)
    })
}

/// Reads the text for a `search` that keeps nothing, and says by which signal it was stopped if it gives false.
fn within(options: &Train, search: impl FnOnce(RunConfig, &Data, &Signals) -> Result<bool>) -> Result<ExitCode> {
    let mut config = options.config()?;
    let from = if options.reads_stdin() { "standard input".to_owned() } else { config.data.source() };
    say_text(&config, from)?;
    let signals = Signals::watch()?;
    // Standard input is read more than once; its copy is removed at the end.
    let copy = options.reads_stdin().then(Copy::create).transpose()?;
    if let Some(copy) = &copy {
        let path = copy.0.clone();
        signals.tidy(move || drop(Copy(path)));
        copy.fill()?;
        config.data.train = Some(copy.0.clone());
    }
    let data = read(options, &mut config, None)?;
    signals.begin();
    let is_done = search(config, &data, &signals)?;
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::from(signals.exit_code()) })
}

fn report(test: &RateFinder, as_json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        let point = |point: &RatePoint| json!({ "rate": point.learning_rate, "loss": point.loss });
        let curve: Vec<_> = test.curve.iter().map(point).collect();
        let result = json!({ "curve": curve, "steepest": test.steepest, "tenth_of_minimum": test.tenth_of_minimum });
        writeln!(out, "{result}")?;
        return Ok(());
    }
    writeln!(out, "          rate       loss")?;
    for RatePoint { learning_rate: rate, loss } in &test.curve {
        writeln!(out, "{rate:>14.2e} {loss:>10.4}")?;
    }
    match (test.steepest, test.tenth_of_minimum) {
        (Some(steepest), Some(tenth)) => {
            writeln!(out, "steepest {steepest:>5.2e}   where the loss falls fastest")?;
            writeln!(out, "tenth    {tenth:>5.2e}   a tenth of the rate at which it is lowest")?;
            talk(format_args!("try: --learning-rate {steepest:.1e}"));
        }
        _ => talk("the loss fell at no rate; look at the text and the model, or give a longer text"),
    }
    Ok(())
}
