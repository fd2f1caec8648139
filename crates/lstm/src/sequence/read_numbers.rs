//! Labelled sequences of numbers from the files that people have: those of the archives, NumPy's arrays, tables with a row a step.

use std::path::Path;

use super::config::SequenceConfig;
use super::read::{Place, Record, unusable};
use crate::data::{self, Label, SequenceColumns, shortened};
use crate::run::task_kind::TaskKind;
use crate::text::TextError;

/// The sequences of a file, and the names of their values where it has such.
///
/// # Errors
/// A file that cannot be read or has no labels, with line and column.
pub(crate) fn read_sequences(
    config: &SequenceConfig,
    path: &Path,
    labels: bool,
) -> Result<(Vec<Record>, Vec<String>), TextError> {
    let numbers = config.task == TaskKind::Regress;
    let names: Vec<String> = match &config.data.label {
        _ if !labels => Vec::new(),
        Some(named) if numbers => named.split(',').map(|name| name.trim().to_owned()).collect(),
        Some(named) => vec![named.clone()],
        None => vec!["label".to_owned()],
    };
    let wrong = |error: data::DataError| TextError::Unusable(error.to_string());
    let read = match &config.data.sequence {
        Some(sequence) => {
            let features = config.model.numbers.as_ref().map_or(&[][..], |numbers| &numbers.columns);
            data::Sequences::of_table(path, SequenceColumns { sequence, labels: &names, numbers, features })
        }
        None if config.data.label.is_some() => {
            return unusable(format!(
                "{} has no columns, so `label` has no part in it; leave it out, or give a table and the column `sequence`",
                path.display()
            ));
        }
        None => data::Sequences::read(path),
    }
    .map_err(wrong)?;
    let of_arrays = config.data.sequence.is_none() && read.lines.iter().all(Option::is_none);
    let mut records = Vec::new();
    for (at, ((values, label), line)) in read.values.into_iter().zip(read.labels).zip(read.lines).enumerate() {
        let column = if of_arrays { Some(format!("y[{at}]")) } else { config.data.label.clone().filter(|_| labels) };
        let place = Place { file: path.to_owned(), line, column };
        let mut record = Record { values, features: read.features, place, ..Record::default() };
        if labels {
            match label {
                Label::None => {
                    return unusable(format!(
                        "{} has no labels, so there is nothing to learn: a .ts says them by @classLabel or @targetLabel, an .npz in its array y",
                        path.display()
                    ));
                }
                Label::Class(class) if !numbers && class.is_empty() => {
                    return unusable(format!("{}: the label is empty; remove the sequence, or fill it", record.place));
                }
                Label::Class(class) if !numbers => record.labels = vec![class],
                Label::Class(class) => record.targets = vec![target(&class, &record.place)?],
                Label::Numbers(targets) if numbers => {
                    if targets.iter().any(|target| !target.is_finite()) {
                        return unusable(format!(
                            "{}: a number that is to be learned is missing or infinite; remove the sequence, or fill it",
                            record.place
                        ));
                    }
                    record.targets = targets;
                }
                Label::Numbers(targets) => {
                    return unusable(format!(
                        "{}: its label {} is a number that is measured, not a class; `task` regress learns such, or write classes as texts or \
                         whole numbers",
                        record.place,
                        targets.first().copied().unwrap_or(f64::NAN)
                    ));
                }
            }
        }
        records.push(record);
    }
    Ok((records, read.columns))
}

/// The number that a text says.
pub(super) fn target(text: &str, place: &Place) -> Result<f64, TextError> {
    match data::number(text) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => unusable(format!("{place}: the number is missing; remove the line, or fill it")),
        Err(_) if text.trim().parse::<f64>().is_err() => unusable(format!(
            "{place}: a number is expected, found \"{}\"; remove the line, or correct it",
            shortened(text)
        )),
        Err(why) => unusable(format!("{place}: {why}")),
    }
}
