//! `lstm show RUN…`: several runs as one table, the best first, with the settings in which they differ.

use std::cmp::Ordering;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use lstm::report::overlay::{Figures, Laid, check_one_task, differences, names};
use serde_json::{Map, Value, json};

use crate::output::{count, seconds};
use crate::progress::during;
use crate::report::values;

/// How the table is written.
pub enum Form {
    Text,
    Csv,
    Json,
}

/// Writes the table.
pub fn run(runs: &[PathBuf], form: Form) -> Result<ExitCode> {
    let mut laid: Vec<Laid> =
        during("reading the runs", || runs.iter().map(|run| Laid::read(run)).collect::<Result<_, _>>())?;
    check_one_task(&laid)?;
    laid.sort_by(|a, b| by_figure(&a.last, &b.last));
    let mut out = std::io::stdout().lock();
    match form {
        Form::Text => out.write_all(text(&laid).as_bytes())?,
        Form::Csv => out.write_all(values(&laid).as_bytes())?,
        Form::Json => writeln!(out, "{}", objects(&laid))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The better validation first, that of runs which have one; then the better test.
fn by_figure(a: &Figures, b: &Figures) -> Ordering {
    let or_last = |value: Option<f64>| value.filter(|value| !value.is_nan()).unwrap_or(f64::INFINITY);
    let order = |a, b| or_last(a).total_cmp(&or_last(b));
    order(a.valid, b.valid).then_with(|| order(a.test, b.test))
}

/// Columns as wide as what stands in them, numbers to the right.
fn text(laid: &[Laid]) -> String {
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| laid[0].about.shown(value));
    let mut columns: Vec<(String, Vec<String>)> = vec![("run".to_owned(), names(laid))];
    let mut figure = |name: &str, of: &dyn Fn(&Figures) -> String| {
        columns.push((name.to_owned(), laid.iter().map(|run| of(&run.last)).collect()));
    };
    figure("valid", &|last| shown(last.valid));
    figure("test", &|last| shown(last.test));
    if laid.iter().any(|run| run.last.result.is_some()) {
        figure("result", &|last| last.result.clone().unwrap_or("-".to_owned()));
    }
    figure("read", &|last| count(last.epochs as u64, "epoch"));
    figure("time", &|last| seconds(last.seconds));
    let empty_is_a_dash = |value: String| if value.is_empty() { "-".to_owned() } else { value };
    let different = differences(laid);
    // A setting is known by the last part of its name, unless another one has it too.
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let short = |name: &str| match different.iter().filter(|(other, _)| last(other) == last(name)).count() {
        1 => last(name),
        _ => name.to_owned(),
    };
    let dashed = |values: &[String]| values.iter().cloned().map(empty_is_a_dash).collect();
    columns.extend(different.iter().map(|(name, values)| (short(name), dashed(values))));
    let width = |text: &str| text.chars().count();
    let mut lines = vec![String::new(); laid.len() + 1];
    for (place, (name, values)) in columns.iter().enumerate() {
        let widest = values.iter().map(|value| width(value)).fold(width(name), usize::max);
        for (line, value) in lines.iter_mut().zip([name].into_iter().chain(values)) {
            let blanks = " ".repeat(widest - width(value));
            match place {
                0 => line.extend([value.as_str(), &blanks]),
                _ => line.extend(["  ", &blanks, value]),
            }
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// An object a run.
fn objects(laid: &[Laid]) -> Value {
    let different = differences(laid);
    let object = |(number, run): (usize, &Laid)| {
        let settings: Map<String, Value> =
            different.iter().map(|(name, values)| (name.clone(), json!(values[number]))).collect();
        json!({"run": run.folder, "figures": run.last, "settings": settings})
    };
    laid.iter().enumerate().map(object).collect()
}
