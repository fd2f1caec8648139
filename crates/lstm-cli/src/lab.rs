//! `lstm lab`: the experiment that the project grew from, on one page.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use lstm::lab::{Experiment, experiment, page};
use lstm::report::write_page;

use crate::length_options::duration;
use crate::output::{count, perplexity, seconds, talk, use_threads};
use crate::progress::Progress;

/// The options of `lstm lab`.
#[derive(clap::Args)]
pub struct Lab {
    /// A text file or a folder [default: the built-in language]
    text: Option<PathBuf>,
    /// The time that all models take together, such as 90s or 10m [default: 5m]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    budget: Option<f64>,
    /// The steps of each run [default: as many as fit the time]
    #[arg(long, conflicts_with = "budget")]
    steps: Option<u64>,
    /// How often each model is trained, from other random numbers [default: 3]
    #[arg(long)]
    seeds: Option<usize>,
    /// The page [default: lab.html]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print one JSON object too [default: a table]
    #[arg(long)]
    json: bool,
    /// Threads to use [default: all processors]
    #[arg(long)]
    threads: Option<usize>,
}

/// Five minutes, three seeds.
const BUDGET: f64 = 300.0;
const SEEDS: usize = 3;

/// Runs the experiment and writes its page.
pub fn run(options: Lab) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let budget = options.budget.unwrap_or(BUDGET);
    let wanted = Experiment { text: options.text, budget, steps: options.steps, seeds: options.seeds.unwrap_or(SEEDS) };
    let progress = Progress::new();
    let results = experiment(&wanted, &mut |what, done| {
        progress.stage(format_args!("{what} ({:.0} % done)", 100.0 * done));
    });
    progress.finish();
    let results = results?;
    let path = options.out.unwrap_or("lab.html".into());
    write_page(&path, &page(&results))?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string(&results)?)?;
    } else {
        writeln!(out, "{:<44} {:>10} {:>22}", "model", "perplexity", "seeds")?;
        for tried in &results.tried {
            let (mean, low, high) = tried.end();
            let spread = format!("{} to {}", perplexity(low), perplexity(high));
            writeln!(out, "{:<44} {:>10} {spread:>22}", tried.trial.name, perplexity(mean))?;
        }
        writeln!(out, "{} each, {}", count(results.steps, "step"), seconds(results.seconds))?;
    }
    talk(format_args!("page     {}", path.display()));
    Ok(ExitCode::SUCCESS)
}
