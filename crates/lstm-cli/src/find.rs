//! `lstm train --find-lr`: which learning rates learn. Nothing is kept.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use lstm::train::rate_finder::{RateFinder, RatePoint};
use serde_json::json;

use crate::output::talk;
use crate::signals::Signals;
use crate::stdin::Copy;
use crate::train::{read, say_text};
use crate::train_options::Train;

/// Runs the range test and prints its curve and its suggestions.
pub fn run(options: &Train) -> Result<ExitCode> {
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
    let optimizer = config.training.optimizer;
    talk(format_args!("testing  {optimizer} at rates that grow until the loss does"));
    let Some(test) = RateFinder::run(config, &data, Some(&signals.stop))? else {
        return Ok(ExitCode::from(signals.exit_code()));
    };
    report(&test, options.run.json)?;
    Ok(ExitCode::SUCCESS)
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
