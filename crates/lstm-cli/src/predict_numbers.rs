//! `lstm predict` with a model of sequences of numbers: of the files that it learns from, or of lines, each a sequence.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lstm::sequence::saved::LoadedSequence;
use serde_json::{Value, json};

use crate::output::{count, talk};
use crate::predict::Predict;
use crate::predict_sequence::{header, object, row};

/// Predicts and prints.
pub fn run(run: &LoadedSequence, options: &Predict, mut out: impl Write) -> Result<ExitCode> {
    for (option, given) in [("--text", options.text.is_some()), ("--lossy", options.lossy)] {
        if given {
            bail!("{option} is of texts, and this is a model of sequences of numbers; leave it out");
        }
    }
    if !options.json {
        header(run, &mut out)?;
    }
    let mut answer = |sequences: &[Vec<f32>]| -> Result<()> {
        for prediction in run.predict_numbers(sequences)? {
            if !options.json {
                row(run, &prediction, &mut out)?;
                continue;
            }
            let mut object = object(run, &prediction);
            if options.attention {
                object["attention"] = json!(prediction.attention);
            }
            writeln!(out, "{object}")?;
        }
        Ok(out.flush()?)
    };
    if options.file == Path::new("-") {
        for (at, line) in std::io::stdin().lock().lines().enumerate() {
            answer(&[sequence(&line?, run, at + 1)?])?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let examples = run.read_unlabelled(&options.file)?;
    let knows_missing = run.config.model.numbers.as_ref().is_some_and(|numbers| numbers.missing);
    if examples.unknown > 0 && !knows_missing {
        talk(format_args!(
            "note     {} missing, of which the training data had none: the model reads nothing there, and has not learned to",
            count(examples.unknown as u64, "value")
        ));
    }
    answer(&examples.series)?;
    Ok(ExitCode::SUCCESS)
}

/// The sequence of a line: a JSON list of steps, each a list of its values, or of one value a step; null where one is missing.
fn sequence(line: &str, run: &LoadedSequence, number: usize) -> Result<Vec<f32>> {
    let features = run.config.model.numbers.as_ref().map_or(1, |numbers| numbers.features);
    let expected = if features == 1 {
        "a list of numbers such as [0.5, null, 1.5]".to_owned()
    } else {
        format!("a list of steps of {features} numbers each, such as [[0.5, null, …], …]")
    };
    let wrong = |found: &str| anyhow::anyhow!("line {number} of standard input: {expected} is expected, found {found}");
    let Ok(Value::Array(steps)) = serde_json::from_str::<Value>(line) else { return Err(wrong("something else")) };
    let value = |value: &Value| match value {
        Value::Null => Ok(f32::NAN),
        Value::Number(number) => match number.as_f64().filter(|number| number.abs() <= 1e30) {
            Some(number) => Ok(number as f32),
            None => Err(wrong(&format!("{number}, which is too large"))),
        },
        other => Err(wrong(&other.to_string())),
    };
    let mut values = Vec::new();
    for step in &steps {
        match step {
            Value::Array(of_step) if of_step.len() == features => {
                values.extend(of_step.iter().map(value).collect::<Result<Vec<f32>>>()?);
            }
            Value::Array(of_step) => return Err(wrong(&format!("a step of {}", of_step.len()))),
            alone if features == 1 => values.push(value(alone)?),
            other => return Err(wrong(&other.to_string())),
        }
    }
    if values.is_empty() {
        return Err(wrong("no step"));
    }
    Ok(values)
}
