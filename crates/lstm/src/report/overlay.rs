//! Several runs over one another: their curves, what differs between them, and how they ended.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::chart::{Chart, Curve, Scale};
use super::history::History;
use super::page::{self, Page, escape, grouped, perplexity, write_page};
use super::run_page::{Facts, flatten};
use crate::formats::FormatError;
use crate::model::LanguageModel;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::run::saved::LoadedRun;
use crate::run::settings::Settings as _;
use crate::run::summary::Summary;
use crate::text::ngram::Ngram;

/// A run among others.
#[derive(Debug)]
pub struct Laid {
    /// Its folder.
    pub folder: PathBuf,
    /// Its settings.
    pub config: RunConfig,
    /// Its course.
    pub history: History,
    /// Its last figures.
    pub last: Figures,
}

/// How a run ended, or where it stands.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Its parameters.
    pub parameters: usize,
    /// Epochs, steps, tokens and seconds of training.
    pub epochs: usize,
    /// See `epochs`.
    pub steps: u64,
    /// See `epochs`.
    pub tokens: u64,
    /// See `epochs`.
    pub seconds: f64,
    /// The training perplexity of its last epoch.
    pub train: Option<f64>,
    /// Its best validation perplexity.
    pub valid: Option<f64>,
    /// The test perplexity of the best model.
    pub test: Option<f64>,
}

impl Laid {
    /// Reads what there is of a run.
    ///
    /// # Errors
    /// A folder that is no run, or files that cannot be read.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let folder = RunFolder::open(path)?;
        let config = RunConfig::load(&folder)?;
        let history = History::read(&folder.metrics())?;
        let card = Summary::of(path).card;
        let (steps, tokens, seconds) = history.end();
        let last = Figures {
            parameters: LanguageModel::new(config.model.clone())?.layout().len(),
            epochs: history.epochs.last().map_or(0, |epoch| epoch.epoch),
            steps,
            tokens,
            seconds,
            train: history.epochs.last().and_then(|epoch| epoch.train),
            valid: history.best().and_then(|epoch| epoch.valid),
            test: history.test.or(card.and_then(|card| card.test).map(|loss| loss.perplexity())),
        };
        Ok(Self { folder: path.to_owned(), config, history, last })
    }
}

/// The settings in which runs differ: the name of each with its value in every run, an empty one where a run has none.
pub fn differences(runs: &[Laid]) -> Vec<(String, Vec<String>)> {
    let flat: Vec<Vec<(String, String)>> = runs
        .iter()
        .map(|run| {
            let mut flat = Vec::new();
            flatten("", &serde_json::to_value(&run.config).unwrap_or(Value::Null), &mut flat);
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
    let charts: [(&str, Scale, PointsOf); 4] = [
        ("Validation perplexity", Scale::Log, |run| {
            run.history.epochs.iter().filter_map(|epoch| Some((epoch.step, epoch.seconds, epoch.valid?))).collect()
        }),
        ("Training perplexity", Scale::Log, |run| {
            run.history.losses().into_iter().map(|(line, loss)| (line.step, line.seconds, loss.exp())).collect()
        }),
        ("Norm of the gradient", Scale::Log, |run| {
            run.history.steps.iter().filter_map(|line| Some((line.step, line.seconds, line.norm?))).collect()
        }),
        ("Tokens a second", Scale::Linear, |run| {
            run.history.speeds().into_iter().map(|(line, speed)| (line.step, line.seconds, speed)).collect()
        }),
    ];
    body.push_str("<fieldset class=\"choice\" style=\"border:0;padding:0\"><legend class=\"dim\">Against</legend>");
    for (number, axis) in ["steps", "tokens", "minutes"].iter().enumerate() {
        let checked = if number == 0 { " checked" } else { "" };
        let _ = write!(body, "<label><input type=\"radio\" name=\"x\" id=\"x{number}\"{checked}> {axis}</label>");
    }
    body.push_str("</fieldset>\n<style>.x1,.x2{display:none}</style>\n<div class=\"grid charts\">\n");
    for (number, axis) in ["steps", "tokens", "minutes"].iter().enumerate() {
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
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), perplexity);
    let rows: Vec<Vec<String>> = runs
        .iter()
        .zip(&names)
        .map(|(run, name)| {
            let Figures { parameters, epochs, steps, seconds, train, valid, test, .. } = &run.last;
            vec![
                name.clone(),
                shown(*train),
                shown(*valid),
                shown(*test),
                grouped(*parameters as u64),
                grouped(*epochs as u64),
                grouped(*steps),
                format!("{:.1}", seconds / 60.0),
            ]
        })
        .collect();
    let head = ["run", "train", "valid", "test", "parameters", "epochs", "steps", "minutes"];
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
    let title = format!("{} runs of lstm", runs.len());
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
