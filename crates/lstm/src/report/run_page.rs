//! The page of one run.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chart::{Chart, Curve, Scale, shares, thinned};
use super::history::History;
use super::machine::{Machine, operations};
use super::page::{self, Page, escape, figures, write_page};
use crate::model::LanguageModel;
use crate::run::about::About;
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::run::settings::written;
use crate::run::summary::Summary;
use crate::run::task_kind::TaskKind;
use crate::run::training::Training;
use crate::said::{grouped, perplexity};

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
    /// How the best model of a task beside language did on its data, once the run is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<Results>,
}

/// How a model and its baselines did on a part of the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The part.
    pub part: String,
    /// The figure by which models are compared, with its name: `("accuracy", "82.10 %")`.
    pub headline: (String, String),
    /// The names of the figures.
    pub head: Vec<String>,
    /// The model's figures, then the baselines', each behind its name.
    pub rows: Vec<Vec<String>>,
    /// What is to be said of them, such as that a baseline is better.
    pub said: String,
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

    /// The results that count most: those of the last part.
    pub fn headline(&self) -> Option<&Results> {
        self.results.last()
    }
}

/// The most measurements of gates that are drawn of all layers together, and the most texts.
const MOST_GATES: usize = 500;
const MOST_SAMPLES: usize = 24;

/// Where the x of a chart is: in steps, in what is counted, in minutes.
pub(super) fn axes(counted: &str) -> [&str; 3] {
    ["steps", counted, "minutes"]
}

/// The page of the run in `folder`, as its files have it now.
///
/// # Errors
/// Files that cannot be read.
pub fn run_page(folder: &RunFolder, facts: &Facts) -> Result<String, TrainError> {
    let about = About::load(folder)?;
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
    let (counted, figure) = (about.task.counted(), about.figure_name());
    let mut said = Vec::new();
    if let Some(Results { part, headline: (name, value), .. }) = facts.headline() {
        said.push((value.clone(), format!("{name}, {part}")));
    }
    let shown = |value: f64| about.shown(value);
    if let Some(test) = history.test {
        said.push((shown(test), format!("test {figure}")));
    }
    if let Some((best, valid)) = best.and_then(|best| Some((best, best.valid?))) {
        said.push((shown(valid), format!("best validation{}, epoch {}", about.of_loss(), best.epoch)));
    }
    said.extend(facts.levels.iter().map(|level| (perplexity(level.perplexity), level.name.clone())));
    if let Some(parameters) = about.parameters(folder)? {
        said.push((grouped(parameters as u64), "parameters".to_owned()));
    }
    said.push((grouped(step), format!("steps, {} {counted}", grouped(tokens))));
    said.push((format!("{:.1} min", seconds / 60.0), "of training".to_owned()));
    let state =
        if history.test.is_some() || is_over(&about.training, &history) { "" } else { ", as far as it has come" };
    let [source, model, way] = [&about.source, &about.model, &about.training.learning()].map(|text| escape(text));
    let _ = writeln!(body, "<p class=\"dim\">{source}: {model}, by {way}{state}.</p>");
    body.push_str(&figures(&said));
    results(&facts, &mut body);
    body.push_str("<h2>Learning</h2>\n<fieldset class=\"choice\" style=\"border:0;padding:0\"><legend class=\"dim\">Against</legend>");
    for (number, axis) in axes(counted).iter().enumerate() {
        let checked = if number == 0 { " checked" } else { "" };
        let _ = write!(body, "<label><input type=\"radio\" name=\"x\" id=\"x{number}\"{checked}> {axis}</label>");
    }
    body.push_str("</fieldset>\n<style>.x1,.x2{display:none}</style>\n<div class=\"grid charts\">\n");
    for (number, axis) in axes(counted).iter().enumerate() {
        for chart in learning(&about, &history, &facts, number)? {
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
    settings(&about, &facts, &mut body);
    let value = serde_json::json!({ "run": facts });
    let title = format!("{name}: a run of lstm");
    Ok(Page { title: &title, body: &body, facts: Some(&value), ..Page::default() }.html())
}

/// What the floor is called.
pub(super) const FLOOR: &str = "floor: no model can beat it on a new text";

/// Whether nothing more is to come of a run without a test.
fn is_over(training: &Training, history: &History) -> bool {
    let last = history.epochs.last();
    last.is_some_and(|last| {
        training.epochs.is_some_and(|epochs| last.epoch >= epochs)
            || training.steps.is_some_and(|steps| last.step >= steps)
    })
}

/// How the model and its baselines did.
fn results(facts: &Facts, body: &mut String) {
    for Results { part, head, rows, said, .. } in &facts.results {
        let _ = writeln!(body, "<h2>{}</h2>", escape(part));
        let head: Vec<&str> = [""].into_iter().chain(head.iter().map(String::as_str)).collect();
        let numbers: Vec<usize> = (1..head.len()).collect();
        body.push_str(&page::table(&head, &numbers, rows));
        if !said.is_empty() {
            let _ = writeln!(body, "<p>{}</p>", escape(said));
        }
    }
}

/// The charts of learning, over the axis `number`.
fn learning<'a>(about: &About, history: &History, facts: &Facts, number: usize) -> Result<Vec<Chart<'a>>, TrainError> {
    // What the metrics of a language model have is a perplexity.
    let nats = |figure: f64| if about.language.is_some() { figure.ln() } else { figure };
    let x = |step: u64, seconds: f64| match number {
        0 => step as f64,
        1 => history.tokens_at(step),
        _ => seconds / 60.0,
    };
    let train: Vec<(f64, f64)> =
        history.losses().into_iter().map(|(line, loss)| (x(line.step, line.seconds), loss)).collect();
    let valid: Vec<(f64, f64)> =
        history.epochs.iter().filter_map(|epoch| Some((x(epoch.step, epoch.seconds), nats(epoch.valid?)))).collect();
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
    if let Some(clip) = about.training.clip.map(f64::from) {
        norms.push(Curve::new("after", 1, norm.into_iter().map(|(x, norm)| (x, norm.min(clip))).collect()));
    }
    let speeds = history.speeds();
    let speed: Vec<(f64, f64)> = speeds.iter().map(|(line, speed)| (x(line.step, line.seconds), *speed)).collect();
    let mut charts = Vec::new();
    let mut last = Vec::new();
    let (loss_title, speed_title) = match about.task {
        TaskKind::Language => ("Loss, nats a token", "Tokens a second"),
        TaskKind::Tag => ("Loss, nats a word", "Words a second"),
        TaskKind::Forecast => ("Loss of a value", "Values a second"),
        _ => ("Loss of an example", "Examples a second"),
    };
    if let Some(config) = &about.language {
        let curves = loss.iter().map(exp).collect();
        charts.push(Chart { title: "Perplexity", y_scale: Scale::Log, curves, ..Chart::default() });
        let operations = operations(config, &LanguageModel::new(config.model.clone())?);
        let peak = |step: u64| {
            facts.sessions.iter().rfind(|session| session.from < step).and_then(|session| session.machine.peak)
        };
        let shares = speeds.iter().filter_map(|(line, speed)| {
            Some((x(line.step, line.seconds), speed * operations / (peak(line.step)? * 1e9) * 100.0))
        });
        last.push(Chart {
            title: "Share of the machine's peak in f32, %",
            curves: vec![Curve::new("operations", 3, shares.collect())],
            ..Chart::default()
        });
    }
    let rate = vec![Curve::new("rate", 4, of(|line| Some(line.rate)))];
    charts.extend([
        Chart { title: loss_title, curves: loss, ..Chart::default() },
        Chart { title: "Learning rate", curves: rate, ..Chart::default() },
        Chart { title: "Norm of the gradient", y_scale: Scale::Log, curves: norms, ..Chart::default() },
        Chart { title: speed_title, curves: vec![Curve::new("trained", 2, speed)], ..Chart::default() },
    ]);
    charts.extend(last);
    Ok(charts)
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
fn settings(about: &About, facts: &Facts, body: &mut String) {
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
        let head = ["from step", "processor", "instructions", "threads", "peak in f32, GFLOP/s", "system", "lstm"];
        body.push_str(&page::table(&head, &[0, 3, 4], &rows));
    }
    let mut flat = Vec::new();
    flatten("", &about.settings, &mut flat);
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
