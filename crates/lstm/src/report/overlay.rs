//! Several runs over one another: their curves, what differs between them, and how they ended.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::chart::{Chart, Curve, Scale};
use super::history::History;
use super::page::{self, Page, escape, write_page};
use super::run_page::{Facts, axes, flatten};
use crate::formats::FormatError;
use crate::run::about::About;
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::run::saved::LoadedRun;
use crate::run::summary::Summary;
use crate::said::{count, grouped};
use crate::text::ngram::Ngram;

/// A run among others.
#[derive(Debug)]
pub struct Laid {
    /// Its folder.
    pub folder: PathBuf,
    /// Its task and its settings.
    pub about: About,
    /// Its course.
    pub history: History,
    /// Its last figures.
    pub last: Figures,
}

/// How a run ended, or where it stands.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Its parameters, once there is a model.
    pub parameters: Option<usize>,
    /// Epochs, steps, tokens and seconds of training.
    pub epochs: usize,
    /// See `epochs`.
    pub steps: u64,
    /// See `epochs`; of other tasks examples, words or values.
    pub tokens: u64,
    /// See `epochs`.
    pub seconds: f64,
    /// The training perplexity of its last epoch; of other tasks here and below the loss.
    pub train: Option<f64>,
    /// Its best validation perplexity.
    pub valid: Option<f64>,
    /// The test perplexity of the best model.
    pub test: Option<f64>,
    /// Of a task beside language the figure by which models are compared, with its name and its part.
    pub result: Option<String>,
}

impl Laid {
    /// Reads what there is of a run.
    ///
    /// # Errors
    /// A folder that is no run, or files that cannot be read.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let folder = RunFolder::open(path)?;
        let mut about = About::load(&folder)?;
        let history = History::read(&folder.metrics())?;
        let card = Summary::of(path).card;
        if let Some(card) = &card {
            about.check_model(card, &folder)?;
            if !card.was_trained_here()
                && let Some(settings) = about.settings.as_object_mut()
            {
                settings.remove("training");
            }
        }
        let (steps, tokens, seconds) = history.end();
        let last = Figures {
            parameters: about.parameters(&folder)?,
            epochs: history.epochs.last().map_or(0, |epoch| epoch.epoch),
            steps,
            tokens,
            seconds,
            train: history.epochs.last().and_then(|epoch| epoch.train),
            valid: history.best().and_then(|epoch| epoch.valid),
            test: history.test.or(card.and_then(|card| card.test).map(|loss| about.figure(loss))),
            result: Facts::of(&folder).headline().map(|results| {
                let (name, value) = &results.headline;
                format!("{name} {value}, {}", results.part)
            }),
        };
        Ok(Self { folder: path.to_owned(), about, history, last })
    }
}

/// Refuses runs of which no figure can be compared.
///
/// # Errors
/// Runs of different tasks.
pub fn check_one_task(runs: &[Laid]) -> Result<(), TrainError> {
    let Some(first) = runs.first() else { return Ok(()) };
    match runs.iter().find(|run| run.about.task != first.about.task) {
        None => Ok(()),
        Some(other) => Err(TrainError::Unusable(format!(
            "{} is of the task {} and {} of the task {}, which have no figure in common; lay runs of one task over one another",
            first.folder.display(),
            first.about.task,
            other.folder.display(),
            other.about.task
        ))),
    }
}

/// The settings in which runs differ: the name of each with its value in every run, an empty one where a run has none.
pub fn differences(runs: &[Laid]) -> Vec<(String, Vec<String>)> {
    let flat: Vec<Vec<(String, String)>> = runs
        .iter()
        .map(|run| {
            let mut flat = Vec::new();
            flatten("", &run.about.settings, &mut flat);
            flat
        })
        .collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in flat.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let values = |name: &String| -> Vec<String> {
        let value =
            |run: &Vec<(String, String)>| run.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        flat.iter().map(|run| value(run).unwrap_or_default()).collect()
    };
    let all = names.into_iter().map(|name| (name.clone(), values(name)));
    all.filter(|(_, values)| values.iter().any(|value| *value != values[0])).collect()
}

/// Short names by which runs are told apart: the last part of their paths, or the whole where that is not enough.
pub fn names(runs: &[Laid]) -> Vec<String> {
    let last = |run: &Laid| run.folder.file_name().unwrap_or(run.folder.as_os_str()).to_string_lossy().into_owned();
    let short: Vec<String> = runs.iter().map(last).collect();
    let mut distinct = short.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() == short.len() {
        short
    } else {
        runs.iter().map(|run| run.folder.display().to_string()).collect()
    }
}

/// The points of a run's curve: steps, seconds, value.
type PointsOf = fn(&Laid) -> Vec<(u64, f64, f64)>;

/// The page of several runs.
pub fn overlay(runs: &[Laid]) -> String {
    let names = names(runs);
    let mut body = String::new();
    let is_language = runs.iter().all(|run| run.about.language.is_some());
    let counted = runs.first().map_or("tokens", |run| run.about.task.counted());
    let validation: PointsOf =
        |run| run.history.epochs.iter().filter_map(|epoch| Some((epoch.step, epoch.seconds, epoch.valid?))).collect();
    let training: PointsOf = |run| {
        let losses = run.history.losses().into_iter();
        // What the metrics have of steps are losses, of epochs figures.
        let figure = |loss: f64| if run.about.language.is_some() { loss.exp() } else { loss };
        losses.map(|(line, loss)| (line.step, line.seconds, figure(loss))).collect()
    };
    let [first, second] = match is_language {
        true => [("Validation perplexity", Scale::Log, validation), ("Training perplexity", Scale::Log, training)],
        false => [("Validation loss", Scale::Linear, validation), ("Training loss", Scale::Linear, training)],
    };
    let speed = match counted {
        "tokens" => "Tokens a second",
        "words" => "Words a second",
        "values" => "Values a second",
        _ => "Examples a second",
    };
    let charts: [(&str, Scale, PointsOf); 4] = [
        first,
        second,
        ("Norm of the gradient", Scale::Log, |run| {
            run.history.steps.iter().filter_map(|line| Some((line.step, line.seconds, line.norm?))).collect()
        }),
        (speed, Scale::Linear, |run| {
            run.history.speeds().into_iter().map(|(line, speed)| (line.step, line.seconds, speed)).collect()
        }),
    ];
    body.push_str("<fieldset class=\"choice\" style=\"border:0;padding:0\"><legend class=\"dim\">Against</legend>");
    for (number, axis) in axes(counted).iter().enumerate() {
        let checked = if number == 0 { " checked" } else { "" };
        let _ = write!(body, "<label><input type=\"radio\" name=\"x\" id=\"x{number}\"{checked}> {axis}</label>");
    }
    body.push_str("</fieldset>\n<style>.x1,.x2{display:none}</style>\n<div class=\"grid charts\">\n");
    for (number, axis) in axes(counted).iter().enumerate() {
        for (title, y_scale, points) in &charts {
            let curve = |(index, run): (usize, &Laid)| {
                let at = |(step, seconds, value): (u64, f64, f64)| match number {
                    0 => (step as f64, value),
                    1 => (run.history.tokens_at(step), value),
                    _ => (seconds / 60.0, value),
                };
                // More runs than colours: the second eight are dashed.
                let points = points(run).into_iter().map(at).collect();
                Curve { dashed: index % 16 >= 8, ..Curve::new(&names[index], index, points) }
            };
            let curves = runs.iter().enumerate().map(curve).collect();
            let chart = Chart { title, x: axis, y_scale: *y_scale, curves, ..Chart::default() }.html();
            let _ = writeln!(body, "<div class=\"x{number}\">{chart}</div>");
        }
    }
    body.push_str("</div>\n<h2>How they ended</h2>\n");
    let rows: Vec<Vec<String>> = runs
        .iter()
        .zip(&names)
        .map(|(run, name)| {
            let Figures { parameters, epochs, steps, seconds, train, valid, test, result, .. } = &run.last;
            let shown = |value: &Option<f64>| value.map_or("-".to_owned(), |value| run.about.shown(value));
            let mut row = vec![
                name.clone(),
                shown(train),
                shown(valid),
                shown(test),
                parameters.map_or("-".to_owned(), |parameters| grouped(parameters as u64)),
                grouped(*epochs as u64),
                grouped(*steps),
                format!("{:.1}", seconds / 60.0),
            ];
            row.extend((!is_language).then(|| result.clone().unwrap_or_else(|| "-".to_owned())));
            row
        })
        .collect();
    let mut head = vec!["run", "train", "valid", "test", "parameters", "epochs", "steps", "minutes"];
    head.extend((!is_language).then_some("result"));
    body.push_str(&page::table(&head, &[1, 2, 3, 4, 5, 6, 7], &rows));
    body.push_str("<h2>In what they differ</h2>\n");
    let different = differences(runs);
    if different.is_empty() {
        body.push_str("<p>Their settings are the same.</p>\n");
    } else {
        let head: Vec<&str> = ["setting"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let rows: Vec<Vec<String>> =
            different.into_iter().map(|(name, values)| [name].into_iter().chain(values).collect()).collect();
        body.push_str(&page::table(&head, &[], &rows));
    }
    let title = format!("{} of lstm", count(runs.len(), "run"));
    let _ = writeln!(body, "<p class=\"dim\">{}</p>", escape(&names.join(", ")));
    Page { title: &title, body: &body, ..Page::default() }.html()
}

/// Writes the page of several runs.
///
/// # Errors
/// A file that cannot be written, or that is none of this program's.
pub fn write_overlay(runs: &[Laid], path: &Path) -> Result<(), FormatError> {
    write_page(path, &overlay(runs))
}

/// Counts n-grams on the training text of a run and keeps their perplexity on its validation text (without one: its test text) with the
/// run's page, to compare with. orders: how many tokens are counted together.
///
/// # Errors
/// A text that is no longer there, or a page that cannot be written.
pub fn compare(run: &LoadedRun, orders: &[usize], facts: &mut Facts) -> Result<(), TrainError> {
    let (train, valid) = (run.training_text()?, run.validation_text()?);
    let Some(text) = valid.map_or_else(|| run.test_text(), |valid| Ok(Some(valid)))? else { return Ok(()) };
    for &order in orders {
        let model = Ngram::of_corpus(order, &train, &run.tokenizer)?;
        let loss = model.loss(&text, &run.tokenizer, run.config.batching);
        facts.set(&format!("Kneser-Ney {order}-gram"), loss.perplexity());
    }
    Ok(())
}
