//! The page of one run.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chart::{Chart, Curve, Scale, shares, thinned};
use super::history::History;
use super::machine::{Machine, operations};
use super::page::{self, Page, escape, figures, grouped, perplexity, write_page};
use crate::model::LanguageModel;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::run::settings::{Settings as _, written};
use crate::run::summary::Summary;

/// A perplexity to compare with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Whose it is.
    pub name: String,
    /// How much.
    pub perplexity: f64,
}

/// A session of training: from which step on, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The steps that were taken before.
    pub from: u64,
    /// The machine.
    pub machine: Machine,
}

/// The facts of a run that its other files have not. They are kept in the page, and taken over when it is written anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The command that repeats the run.
    #[serde(default)]
    pub command: Option<String>,
    /// The sessions.
    #[serde(default)]
    pub sessions: Vec<Session>,
    /// What its perplexity is compared with.
    #[serde(default)]
    pub levels: Vec<Level>,
}

impl Facts {
    /// Those that a run's page carries.
    pub fn of(folder: &RunFolder) -> Self {
        let html = std::fs::read_to_string(folder.report()).unwrap_or_default();
        page::facts(&html).and_then(|facts| serde_json::from_value(facts["run"].clone()).ok()).unwrap_or_default()
    }

    /// Takes in a level, in place of one of its name.
    pub fn set(&mut self, name: &str, perplexity: f64) {
        self.levels.retain(|level| level.name != name);
        self.levels.push(Level { name: name.to_owned(), perplexity });
    }
}

/// The most measurements of gates that are drawn of all layers together, and the most texts.
const MOST_GATES: usize = 500;
const MOST_SAMPLES: usize = 24;

/// Where the x of a chart is: in steps, in tokens, in minutes.
const AXES: [&str; 3] = ["steps", "tokens", "minutes"];

/// The page of the run in `folder`, as its files have it now.
///
/// # Errors
/// Files that cannot be read.
pub fn run_page(folder: &RunFolder, facts: &Facts) -> Result<String, TrainError> {
    let config = RunConfig::load(folder)?;
    let model = LanguageModel::new(config.model.clone())?;
    let history = History::read(&folder.metrics())?;
    let name = folder.path().file_name().map_or("run".to_owned(), |name| name.to_string_lossy().into_owned());
    let card = Summary::of(folder.path()).card;
    let mut facts = facts.clone();
    if let Some(floor) = card.as_ref().and_then(|card| card.floor) {
        facts.set(FLOOR, floor);
    }
    let mut body = String::new();
    let (step, tokens, seconds) = history.end();
    let best = history.best();
    let mut said = Vec::new();
    if let Some(test) = history.test {
        said.push((perplexity(test), "test perplexity".to_owned()));
    }
    if let Some((best, valid)) = best.and_then(|best| Some((best, best.valid?))) {
        said.push((perplexity(valid), format!("best validation, epoch {}", best.epoch)));
    }
    said.extend(facts.levels.iter().map(|level| (perplexity(level.perplexity), level.name.clone())));
    said.push((grouped(model.layout().len() as u64), "parameters".to_owned()));
    said.push((grouped(step), format!("steps, {} tokens", grouped(tokens))));
    said.push((format!("{:.1} min", seconds / 60.0), "of training".to_owned()));
    let state = if history.test.is_some() || is_over(&config, &history) { "" } else { ", as far as it has come" };
    let _ = writeln!(
        body,
        "<p class=\"dim\">{}: {}{state}.</p>",
        escape(&source(&config)),
        escape(&config.model.to_string())
    );
    body.push_str(&figures(&said));
    body.push_str("<h2>Learning</h2>\n<fieldset class=\"choice\" style=\"border:0;padding:0\"><legend class=\"dim\">Against</legend>");
    for (number, axis) in AXES.iter().enumerate() {
        let checked = if number == 0 { " checked" } else { "" };
        let _ = write!(body, "<label><input type=\"radio\" name=\"x\" id=\"x{number}\"{checked}> {axis}</label>");
    }
    body.push_str("</fieldset>\n<style>.x1,.x2{display:none}</style>\n<div class=\"grid charts\">\n");
    for (number, axis) in AXES.iter().enumerate() {
        for chart in learning(&config, &history, &facts, &model, number) {
            let chart = Chart { x: axis, ..chart }.html();
            if !chart.is_empty() {
                let _ = writeln!(body, "<div class=\"x{number}\">{chart}</div>");
            }
        }
    }
    body.push_str("</div>\n");
    if step == 0 {
        body.push_str("<p>No step was recorded yet.</p>\n");
    }
    gates(&history, &mut body);
    samples(&history, &mut body);
    settings(&config, &facts, &mut body);
    let value = serde_json::json!({ "run": facts });
    let title = format!("{name}: a run of lstm");
    Ok(Page { title: &title, body: &body, facts: Some(&value), ..Page::default() }.html())
}

/// What the floor is called.
pub(super) const FLOOR: &str = "floor: no model can beat it on a new text";

/// Whether nothing more is to come of a run without a test.
fn is_over(config: &RunConfig, history: &History) -> bool {
    let last = history.epochs.last();
    last.is_some_and(|last| {
        config.training.epochs.is_some_and(|epochs| last.epoch >= epochs)
            || config.training.steps.is_some_and(|steps| last.step >= steps)
    })
}

/// The text that a run was trained on.
pub(super) fn source(config: &RunConfig) -> String {
    config.data.train.as_ref().map_or("the built-in language".to_owned(), |path| path.display().to_string())
}

/// The charts of learning, over the axis `number`.
fn learning<'a>(
    config: &RunConfig,
    history: &History,
    facts: &Facts,
    model: &LanguageModel,
    number: usize,
) -> Vec<Chart<'a>> {
    let x = |step: u64, seconds: f64| match number {
        0 => step as f64,
        1 => history.tokens_at(step),
        _ => seconds / 60.0,
    };
    let train: Vec<(f64, f64)> =
        history.losses().into_iter().map(|(line, loss)| (x(line.step, line.seconds), loss)).collect();
    let valid: Vec<(f64, f64)> =
        history.epochs.iter().filter_map(|epoch| Some((x(epoch.step, epoch.seconds), epoch.valid?.ln()))).collect();
    let (end, _, seconds) = history.end();
    let across = |value: f64| vec![(x(0, 0.0), value), (x(end, seconds), value)];
    let mut loss = vec![Curve::new("training", 0, train), Curve::new("validation", 1, valid)];
    for (number, level) in facts.levels.iter().enumerate() {
        loss.push(Curve { dashed: true, ..Curve::new(&level.name, 2 + number, across(level.perplexity.ln())) });
    }
    if let Some(step) = history.averaging {
        let at = x(step, history.steps.iter().rfind(|line| line.step <= step).map_or(0.0, |line| line.seconds));
        let (low, high) =
            loss[0].points.iter().fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p.1), high.max(p.1)));
        if low < high {
            loss.push(Curve { dashed: true, ..Curve::new("averaging begins", 7, vec![(at, low), (at, high)]) });
        }
    }
    let exp =
        |curve: &Curve| Curve { points: curve.points.iter().map(|&(x, y)| (x, y.exp())).collect(), ..curve.clone() };
    let of = |value: fn(&super::history::Steps) -> Option<f64>| -> Vec<(f64, f64)> {
        history.steps.iter().filter_map(|line| Some((x(line.step, line.seconds), value(line)?))).collect()
    };
    let norm = of(|line| line.norm);
    let mut norms = vec![Curve::new("before clipping", 0, norm.clone())];
    if let Some(clip) = config.training.clip.map(f64::from) {
        norms.push(Curve::new("after", 1, norm.into_iter().map(|(x, norm)| (x, norm.min(clip))).collect()));
    }
    let speeds = history.speeds();
    let speed: Vec<(f64, f64)> = speeds.iter().map(|(line, speed)| (x(line.step, line.seconds), *speed)).collect();
    let operations = operations(config, model);
    let peak =
        |step: u64| facts.sessions.iter().rfind(|session| session.from < step).and_then(|session| session.machine.peak);
    let shares: Vec<(f64, f64)> = speeds
        .iter()
        .filter_map(|(line, speed)| {
            Some((x(line.step, line.seconds), speed * operations / (peak(line.step)? * 1e9) * 100.0))
        })
        .collect();
    vec![
        Chart { title: "Perplexity", y_scale: Scale::Log, curves: loss.iter().map(exp).collect(), ..Chart::default() },
        Chart { title: "Loss, nats a token", curves: loss, ..Chart::default() },
        Chart {
            title: "Learning rate",
            curves: vec![Curve::new("rate", 4, of(|line| Some(line.rate)))],
            ..Chart::default()
        },
        Chart { title: "Norm of the gradient", y_scale: Scale::Log, curves: norms, ..Chart::default() },
        Chart { title: "Tokens a second", curves: vec![Curve::new("trained", 2, speed)], ..Chart::default() },
        Chart {
            title: "Share of the machine's peak, %",
            curves: vec![Curve::new("f32 operations", 3, shares)],
            ..Chart::default()
        },
    ]
}

/// The gates of every layer, from the first measurement to the last.
fn gates(history: &History, body: &mut String) {
    let layers = history.gates.first().map_or(0, |line| line.gates.len());
    let lines: Vec<_> = history.gates.iter().filter(|line| line.gates.len() == layers).cloned().collect();
    if layers == 0 {
        return;
    }
    let lines = thinned(&lines, (MOST_GATES / layers).clamp(8, 80));
    let steps: Vec<f64> = lines.iter().map(|line| line.step as f64).collect();
    body.push_str(
        "<h2>Gates</h2>\n<p>How the values of each gate are spread, from the first step to the last: blue is shut (below a tenth; of g near −1), \
         orange open (above nine tenths; of g near 1). A forget gate near one keeps the cell: a unit whose gate is f on average holds 1/e of \
         what it had after −1/ln f tokens.</p>\n",
    );
    for layer in 0..layers {
        let of = |gate: fn(&crate::train::gates::LayerGates) -> &[f64]| -> Vec<Vec<f64>> {
            lines.iter().map(|line| gate(&line.gates[layer]).to_vec()).collect()
        };
        let _ = write!(body, "<h3>Layer {}</h3>\n<div class=\"small\">\n", layer + 1);
        body.push_str(&shares("input gate i", "steps", &steps, &of(|gates| &gates.i)));
        body.push_str(&shares("forget gate f", "steps", &steps, &of(|gates| &gates.f)));
        body.push_str(&shares("candidate g", "steps", &steps, &of(|gates| &gates.g)));
        body.push_str(&shares("output gate o", "steps", &steps, &of(|gates| &gates.o)));
        body.push_str("</div>\n");
    }
    let mut curves = Vec::new();
    for layer in 0..layers {
        let at = |place: usize| lines.iter().map(move |line| (line.step as f64, line.gates[layer].memory[place]));
        let spread = lines.iter().map(|line| {
            let [low, _, high] = line.gates[layer].memory;
            (line.step as f64, low, high)
        });
        curves.push(Curve {
            spread: spread.collect(),
            ..Curve::new(format!("layer {}", layer + 1), layer, at(1).collect())
        });
        curves.push(Curve { dashed: true, ..Curve::new("its longest tenth above", layer, at(2).collect()) });
    }
    let title = "How long units remember, tokens (the middle unit of each layer)";
    let chart = Chart { title, x: "steps", x_scale: Scale::LogFromZero, y_scale: Scale::Log, curves };
    let _ = writeln!(body, "<div class=\"grid\">{}</div>", chart.html());
}

/// What the model wrote, epoch by epoch.
fn samples(history: &History, body: &mut String) {
    if history.samples.is_empty() {
        return;
    }
    body.push_str("<h2>What it writes</h2>\n");
    for sample in thinned(&history.samples, MOST_SAMPLES) {
        let _ =
            write!(body, "<h3>After epoch {}</h3>\n<pre>{}</pre>\n", sample.epoch, escape(sample.sample.trim_end()));
    }
}

/// The command, the machine and the configuration.
fn settings(config: &RunConfig, facts: &Facts, body: &mut String) {
    if let Some(command) = &facts.command {
        let _ = write!(body, "<h2>To repeat it</h2>\n<pre>{}</pre>\n", escape(command));
    }
    if !facts.sessions.is_empty() {
        body.push_str("<h2>Trained on</h2>\n");
        let rows: Vec<Vec<String>> = facts
            .sessions
            .iter()
            .map(|Session { from, machine }| {
                let Machine { processor, instructions, threads, system, peak, version } = machine;
                let peak = peak.map_or("not measured".to_owned(), |peak| format!("{peak:.0}"));
                vec![
                    grouped(*from),
                    processor.clone(),
                    instructions.clone(),
                    threads.to_string(),
                    peak,
                    system.clone(),
                    version.clone(),
                ]
            })
            .collect();
        let head = ["from step", "processor", "instructions", "threads", "peak, GFLOP/s", "system", "lstm"];
        body.push_str(&page::table(&head, &[0, 3, 4], &rows));
    }
    let value = serde_json::to_value(config).unwrap_or(Value::Null);
    let mut flat = Vec::new();
    flatten("", &value, &mut flat);
    let rows: Vec<Vec<String>> = flat.into_iter().map(|(name, value)| vec![name, value]).collect();
    let _ = write!(body, "<h2>Configuration</h2>\n<details><summary>Everything, resolved</summary>\n");
    body.push_str(&page::table(&["setting", "value"], &[], &rows));
    body.push_str("</details>\n");
}

/// Every value of a document with its name, the tables' names before it.
pub(super) fn flatten(name: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, into);
            }
        }
        Value::Null => {}
        Value::String(text) => into.push((name.to_owned(), text.clone())),
        other => into.push((name.to_owned(), written(other))),
    }
}

/// Writes a run's page beside its other files.
///
/// # Errors
/// Files that cannot be read or written.
pub fn write_run_page(folder: &RunFolder, facts: &Facts) -> Result<(), TrainError> {
    let html = run_page(folder, facts)?;
    write_page(folder.report().as_path(), &html)?;
    Ok(())
}

/// Writes a run's page elsewhere.
///
/// # Errors
/// Files that cannot be read or written, or a file there that is no page of this program.
pub fn write_run_page_to(folder: &RunFolder, facts: &Facts, path: &std::path::Path) -> Result<(), TrainError> {
    let html = run_page(folder, facts)?;
    Ok(write_page(path, &html)?)
}
