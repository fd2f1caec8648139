//! `lstm report`: runs over one another, or one run's page anew.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use lstm::report::overlay::{Figures, Laid, check_one_task, compare, differences, names, write_overlay};
use lstm::report::{Facts, write_run_page};
use lstm::run::folder::RunFolder;

use crate::measured::open;
use crate::output::{cell, perplexity, seconds, talk};
use crate::progress::during;
use crate::repeat;

/// What the counts of the baseline are of.
const ORDERS: [usize; 2] = [3, 5];

/// The options of `lstm report`.
#[derive(clap::Args)]
pub struct Report {
    /// The run folders
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The page [default: of one run its own report.html, of several report.html here]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the final figures and what differs as comma-separated values, and write no page [default: a page]
    #[arg(long, conflicts_with = "out")]
    csv: bool,
    /// Count a Kneser-Ney trigram and 5-gram on the training text, as lines to compare with; of one run [default: what is known]
    #[arg(long, conflicts_with = "csv")]
    baseline: bool,
}

/// Writes the page, or the values.
pub fn run(options: Report) -> Result<ExitCode> {
    let Report { runs, out, csv, baseline } = &options;
    if let ([run], false) = (&runs[..], *csv) {
        return one(run, out.as_deref(), *baseline);
    }
    if *baseline {
        bail!("--baseline is counted for one run at a time; give one, and lay it over others after");
    }
    let laid: Vec<Laid> =
        during("reading the runs", || runs.iter().map(|run| Laid::read(run)).collect::<Result<_, _>>())?;
    check_one_task(&laid)?;
    if *csv {
        std::io::stdout().write_all(values(&laid).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = out.clone().unwrap_or("report.html".into());
    write_overlay(&laid, &path)?;
    let mut out = std::io::stdout().lock();
    for (run, name) in laid.iter().zip(names(&laid)) {
        let shown = |value: &Option<f64>| value.map_or("-".to_owned(), |value| run.about.shown(value));
        let Figures { valid, test, seconds: spent, result, .. } = &run.last;
        let result = result.as_ref().map_or(String::new(), |result| format!("  {result}"));
        writeln!(
            out,
            "{name:<24} valid {:>10}  test {:>10}  {:>8}{result}",
            shown(valid),
            shown(test),
            seconds(*spent)
        )?;
    }
    for (name, values) in differences(&laid) {
        let shown = |value: String| if value.is_empty() { "-".to_owned() } else { value };
        writeln!(out, "{name:<24} {}", values.into_iter().map(shown).collect::<Vec<_>>().join("  "))?;
    }
    talk(format_args!("page     {}", path.display()));
    Ok(ExitCode::SUCCESS)
}

/// One run's own page.
fn one(run: &Path, out: Option<&Path>, baseline: bool) -> Result<ExitCode> {
    // Its files take their places first, if they have yet to.
    let laid = Laid::read(run)?;
    let folder = RunFolder(run.to_owned());
    let mut facts = Facts::of(&folder);
    if facts.command.is_none() {
        facts.command = laid.about.language.as_ref().and_then(repeat::chosen);
    }
    if baseline && laid.about.language.is_none() {
        bail!(
            "--baseline counts n-grams of a text, and {} is of the task {}, whose baselines stand beside its results when it is over; leave it out",
            run.display(),
            laid.about.task
        );
    }
    if baseline {
        let loaded = open(run)?;
        during("counting", || compare(&loaded, &ORDERS, &mut facts))?;
        for level in &facts.levels {
            writeln!(std::io::stdout(), "{:<40} {:>10}", level.name, perplexity(level.perplexity))?;
        }
    }
    let path = match out {
        Some(path) => {
            lstm::report::write_run_page_to(&folder, &facts, path)?;
            path.to_owned()
        }
        None => {
            write_run_page(&folder, &facts)?;
            folder.report()
        }
    };
    talk(format_args!("page     {}", path.display()));
    Ok(ExitCode::SUCCESS)
}

/// The final figures and the settings that differ, a run a line.
pub fn values(laid: &[Laid]) -> String {
    let different = differences(laid);
    let of_task = laid.first().is_some_and(|run| run.about.language.is_none());
    let counted = laid.first().map_or("tokens", |run| run.about.task.counted());
    let figures = ["parameters", "epochs", "steps", counted, "seconds", "train", "valid", "test"];
    let head = ["run"]
        .into_iter()
        .chain(figures)
        .chain(of_task.then_some("result"))
        .chain(different.iter().map(|(name, _)| name.as_str()));
    let mut text = format!("{}\n", head.map(cell).collect::<Vec<_>>().join(","));
    for (number, run) in laid.iter().enumerate() {
        let Figures { parameters, epochs, steps, tokens, seconds, train, valid, test, result } = &run.last;
        let parameters = parameters.map_or(String::new(), |parameters| parameters.to_string());
        let shown = |value: &Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let mut cells = vec![run.folder.display().to_string(), parameters, epochs.to_string(), steps.to_string()];
        cells.extend([tokens.to_string(), format!("{seconds:.3}"), shown(train), shown(valid), shown(test)]);
        cells.extend(of_task.then(|| result.clone().unwrap_or_default()));
        cells.extend(different.iter().map(|(_, values)| values[number].clone()));
        text.push_str(&format!("{}\n", cells.iter().map(|text| cell(text)).collect::<Vec<_>>().join(",")));
    }
    text
}
