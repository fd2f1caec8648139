//! `lstm show`: what a trained model is.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use lstm::ensemble::members_of;
use lstm::model::Loss;
use lstm::model::penalty::Penalties;
use lstm::report::{Facts, Results};
use lstm::run::about::About;
use lstm::run::config::RunConfig;
use lstm::run::expectation::Expectation;
use lstm::run::folder::RunFolder;
use lstm::run::saved::{LoadedRun, Origin, is_trained};
use lstm::run::summary::Summary;
use serde::Serialize;
use serde_json::{Value, json};

use crate::output::{
    BELOW_FLOOR, Taken, band, batches, best, came_of, count, expected_json, grouped, learning, loss_json, parts,
    perplexity, seconds,
};
use crate::show_file::show_file;
use crate::show_runs::{self, Form};

/// The options of `lstm show`.
#[derive(clap::Args)]
pub struct Show {
    /// A run folder, a model file, or a file of another program (.pt, .pth, .safetensors, .onnx, .keras, .h5); of several run folders a
    /// table, the best first, with the settings in which they differ; where none is given, the runs in runs/ are listed
    pub runs: Vec<PathBuf>,
    /// Print one JSON object, of several runs an array of them [default: a table]
    #[arg(long)]
    pub json: bool,
    /// Print the table of several runs as comma-separated values [default: a table]
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// The run, for machines.
#[derive(Serialize)]
struct Shown {
    /// Its `training` is null where this program did not train the model.
    config: Value,
    results: Value,
    /// The models that are used as one, this one first.
    members: Vec<PathBuf>,
    parameters: usize,
    tensors: Vec<Value>,
}

/// Shows the run.
pub fn run(options: Show) -> Result<ExitCode> {
    let run = match &options.runs[..] {
        [run] if !options.csv => run,
        [] if options.csv => bail!("--csv is of a table of runs; name them, as in lstm show --csv runs/*"),
        [] => return list(options.json),
        runs => {
            let form = match (options.csv, options.json) {
                (true, _) => Form::Csv,
                (false, true) => Form::Json,
                (false, false) => Form::Text,
            };
            return show_runs::run(runs, form);
        }
    };
    if run.is_file() && !is_trained(run) {
        return show_file(run, options.json);
    }
    let members = members_of(run)?;
    let run = LoadedRun::open(run)?;
    let (config, model, card, layout) = (&run.config, run.model.config(), &run.card, run.model.layout());
    let expected = match &run.origin {
        Origin::Run(folder) => Expectation::of_run(folder),
        Origin::File(_) => None,
    };
    let reached = card.test.map(|loss| loss.perplexity());
    let mut out = std::io::stdout().lock();
    if options.json {
        let tensors: Vec<_> =
            layout.entries().iter().map(|entry| json!({"name": entry.name, "shape": entry.shape})).collect();
        let results = json!({
            "epoch": card.epoch,
            "step": card.step,
            "train": loss_json(Some(card.train), None),
            "valid": loss_json(card.valid, None),
            "test": loss_json(card.test, None),
            "floor": card.floor,
            "expected": expected.map(|(expected, trained)| expected_json(expected, reached, trained)),
        });
        let mut config = json!(config);
        if !card.was_trained_here() {
            config["training"] = Value::Null;
        }
        let shown = Shown { config, results, members, parameters: layout.len(), tensors };
        writeln!(out, "{}", serde_json::to_string(&shown)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let projection = model.lstm.projection.map(|size| format!(", projected to {size}")).unwrap_or_default();
    let horizon = model.lstm.horizon.map_or("the whole segment".to_owned(), |steps| count(steps, "step"));
    let mut row = |name: &str, value: String| writeln!(out, "{name:<11} {value}");
    row(
        "layers",
        format!("{} × {} hidden, embedding {}{projection}", model.lstm.layers, model.lstm.hidden, model.embedding()),
    )?;
    row("wiring", format!("{}, readout {}, gradient through {horizon}", model.lstm.wiring, model.lstm.readout))?;
    if !model.lstm.variant.is_plain() {
        row("cells", model.lstm.variant.to_string())?;
    }
    if model.lstm.residual {
        row("residual", "layers add their input where sizes agree".to_owned())?;
    }
    if model.tied {
        row("tied", "the readout's weights are the embedding's".to_owned())?;
    }
    if model.softmaxes > 1 {
        row("softmaxes", format!("a mixture of {}", model.softmaxes))?;
    }
    row("vocabulary", format!("{} {}", grouped(model.vocabulary as u64), run.tokenizer.kind().noun()))?;
    let was_trained_here = card.was_trained_here();
    if was_trained_here {
        let forget = config.training.init.forget_bias.map(|bias| format!(", forget bias {bias}")).unwrap_or_default();
        let biases = if config.unigram_bias { ", biases of the readout by how often tokens occur" } else { "" };
        let vectors = if config.spectral_embedding { ", embedding by what stands beside tokens" } else { "" };
        row(
            "initial",
            format!("{}{forget}{biases}{vectors}, seed {}", config.training.init.scheme, config.training.seed),
        )?;
    }
    row(
        "trained on",
        match &run.origin {
            Origin::Run(_) => config.data.source(),
            Origin::File(_) => "a text that the model file does not name".to_owned(),
        },
    )?;
    if was_trained_here {
        training_rows(config, &mut row)?;
    } else {
        row("reads", config.batching.to_string())?;
    }
    let go_on = if was_trained_here { "" } else { "; lstm train TEXT --from this goes on from it" };
    row("model", best(card.epoch, card.step) + go_on)?;
    let trained = Some(card.train).filter(|loss| loss.tokens > 0);
    for (name, loss) in [("train", trained), ("valid", card.valid), ("test", card.test)] {
        let said = loss.map_or("not measured".to_owned(), |loss| {
            let below = match card.floor {
                Some(floor) if name == "train" && loss.perplexity() < floor => format!(", {BELOW_FLOOR}"),
                _ => String::new(),
            };
            let of = if name == "train" { "while it trained" } else { "by this model" };
            let (perplexity, tokens) = (perplexity(loss.perplexity()), count(loss.tokens as u64, "token"));
            format!("perplexity {perplexity} on {tokens}, {of}{below}")
        });
        row(name, said)?;
    }
    if let Some((expected, trained)) = expected {
        let said = reached.map_or_else(|| band(&expected), |reached| came_of(&expected, reached, trained));
        row("expected", format!("test perplexity {said}"))?;
    }
    if let Some(floor) = card.floor {
        row("floor", format!("perplexity {floor:.2}, which no model can beat on a new text"))?;
    }
    if let Some(of) =
        config.training.member.filter(|member| member.number == 1 && member.of > 1).map(|member| member.of)
    {
        let others: Vec<String> = members[1..].iter().map(|member| member.display().to_string()).collect();
        let trained = members.len();
        row(
            "members",
            match (trained, others.is_empty()) {
                (_, true) => format!(
                    "the first of {of}, of which none other is trained to its end; lstm train --resume goes on with them"
                ),
                (trained, _) => format!(
                    "the first of {}, which eval, score and generate use as one, with {}",
                    if trained == of { of.to_string() } else { format!("{trained} that are trained of {of}") },
                    others.join(", ")
                ),
            },
        )?;
    }
    row("parameters", grouped(layout.len() as u64))?;
    for entry in layout.entries() {
        writeln!(out, "  {:<26} {:?}", entry.name, entry.shape)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How a run of this program was trained.
fn training_rows(config: &RunConfig, row: &mut impl FnMut(&str, String) -> std::io::Result<()>) -> std::io::Result<()> {
    row("batches", batches(config, Taken::Anywhere))?;
    row("optimizer", learning(&config.training))?;
    if let Some(from) = &config.fine_tuning.from {
        row("from", from.display().to_string())?;
    }
    if let Some(parts) = parts(&config.fine_tuning, 0) {
        row("parts", parts)?;
    }
    if !config.teaching.is_none() {
        let models: Vec<String> = config.teaching.models.iter().map(|model| model.display().to_string()).collect();
        row("teachers", format!("{}, with a weight of {}", models.join(", "), config.teaching.weight))?;
    }
    row("dropout", config.model.dropout.to_string())?;
    let Penalties { activation, temporal, label_smoothing } = config.model.penalties;
    for (name, weight) in [("ar", activation), ("tar", temporal), ("smoothing", label_smoothing)] {
        if weight > 0.0 {
            row(name, weight.to_string())?;
        }
    }
    Ok(())
}

/// Where runs are, if nothing else was said when they were trained.
const RUNS: &str = "runs";

/// Lists the runs, the latest first.
fn list(as_json: bool) -> Result<ExitCode> {
    let folder = Path::new(RUNS);
    let runs = if folder.is_dir() { Summary::of_all(folder)? } else { Vec::new() };
    if runs.is_empty() {
        bail!(
            "there are no runs in {RUNS}/; `lstm train` makes one there, and `lstm show RUN` shows one from elsewhere"
        );
    }
    let mut out = std::io::stdout().lock();
    if as_json {
        let object = |run: &Summary| {
            let written = run.written.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let about = run.about.as_ref().ok();
            let loss = |loss: Option<Loss>| match about {
                Some(About { language: None, .. }) => {
                    json!(loss.map(|loss| json!({"loss": loss.mean(), "count": loss.tokens})))
                }
                _ => loss_json(loss, None),
            };
            json!({
                "run": run.folder,
                "task": about.map(|about| about.task),
                "written": written.map(|since| since.as_secs()),
                "seconds": run.seconds,
                "text": about.map(|about| &about.source),
                "epoch": run.card.as_ref().map(|card| card.epoch),
                "valid": run.card.as_ref().map(|card| loss(card.valid)),
                "test": run.card.as_ref().map(|card| loss(card.test)),
                "result": headline(run).map(|Results { part, headline: (name, value), .. }| json!({"part": part, name: value})),
                "trouble": run.about.as_ref().err().map(ToString::to_string),
            })
        };
        writeln!(out, "{}", Value::from(runs.iter().map(object).collect::<Vec<_>>()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let results: Vec<String> = runs.iter().map(result).collect();
    let names: Vec<String> = runs.iter().map(|run| run.folder.display().to_string()).collect();
    let widest = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
    let (name_width, width) = (widest(&names), widest(&results).max("result".len()));
    writeln!(out, "{:<name_width$}  written (UTC)        spent  task      {:<width$}  of", "run", "result")?;
    for ((run, name), result) in runs.iter().zip(&names).zip(&results) {
        let date = run.written.map_or("-".to_owned(), date);
        let spent = run.seconds.map_or("-".to_owned(), seconds);
        let (task, of) = match &run.about {
            Ok(about) => (about.task.to_string(), format!("{}, {}", about.source, about.reads)),
            Err(error) => ("-".to_owned(), error.to_string()),
        };
        writeln!(out, "{name:<name_width$}  {date:<16}  {spent:>8}  {task:<8}  {result:<width$}  {of}")?;
    }
    writeln!(
        out,
        "\nspent is the time of training, result what the best model reaches on test data or, if that is said, on validation data; \
         lstm show RUN says more"
    )?;
    Ok(ExitCode::SUCCESS)
}

/// How the best model of a run of a task beside language did, as its page notes.
fn headline(run: &Summary) -> Option<Results> {
    Facts::of(&RunFolder(run.folder.clone())).headline().cloned()
}

/// The figure of a run by which runs are compared.
fn result(run: &Summary) -> String {
    if let Some(Results { part, headline: (name, value), .. }) = headline(run) {
        return if part == "test" { format!("{name} {value}") } else { format!("{name} {value} ({part})") };
    }
    let (Ok(about), Some(card)) = (&run.about, &run.card) else { return "-".to_owned() };
    let shown = |loss: Loss| format!("{} {}", about.figure_name(), about.shown(about.figure(loss)));
    match (card.test, card.valid) {
        (Some(test), _) => shown(test),
        (None, Some(valid)) => format!("{} (valid)", shown(valid)),
        (None, None) => "-".to_owned(),
    }
}

/// The day and the minute of a time, in UTC.
fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, minutes) = (seconds / 86_400, seconds % 86_400 / 60);
    // Years that begin with March have their odd days at their end (Hinnant, "chrono-compatible low-level date algorithms").
    let from_march = days + 719_468;
    let (era, day) = (from_march / 146_097, from_march % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (1_709_164_860, "2024-02-29 00:01"),
            (1_764_417_600, "2025-11-29 12:00"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
