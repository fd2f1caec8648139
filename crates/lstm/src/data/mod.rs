//! Data that are no texts: tables with named columns, time stamps in them, and sequences of numbers in the files that archives and
//! NumPy have them in. Every error names the file, and the line and the column where there are any.

mod arrays;
mod parquet;
mod sequence_table;
mod sequences;
mod stamp;
pub(crate) mod table;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use arrays::{Array, read_arrays};
pub use sequence_table::SequenceColumns;
pub use sequences::{Label, Sequences};
pub use stamp::{Clock, Stamp, Step};
pub use table::{Column, Table, TableKind};

/// Data that cannot be used, in a sentence.
#[derive(Debug, Error)]
#[error("{}{}: {why}", name(path), place(*line, column.as_deref()))]
pub struct DataError {
    /// The file; `-` is standard input.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: Option<u64>,
    /// The name of the column.
    pub column: Option<String>,
    /// What is wrong, and what to do.
    pub why: String,
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

fn place(line: Option<u64>, column: Option<&str>) -> String {
    let line = line.map_or(String::new(), |line| format!(", line {line}"));
    line + &column.map_or(String::new(), |column| format!(", column \"{column}\""))
}

impl DataError {
    /// Of a whole file.
    pub(crate) fn of_file(path: &Path, why: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, column: None, why: why.into() }
    }

    /// Of a line.
    pub(crate) fn of_line(path: &Path, line: u64, why: impl Into<String>) -> Self {
        Self { line: Some(line), ..Self::of_file(path, why) }
    }
}

/// The largest number that is computed with: what is made of it still fits f32.
const MOST: f64 = 1e30;

/// The ways in which files say that there is no value.
const MISSING: [&str; 7] = ["", "nan", "na", "n/a", "null", "none", "?"];

/// A number as files write it: `None` where they say that there is none.
///
/// # Errors
/// What is no number, infinite, or larger than [`MOST`].
pub(crate) fn number(text: &str) -> Result<Option<f64>, String> {
    let text = text.trim();
    if MISSING.iter().any(|missing| text.eq_ignore_ascii_case(missing)) {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(value) if value.abs() <= MOST => Ok(Some(value)),
        Ok(_) => Err(format!(
            "{text} is infinite or too large: the largest number that is computed with is {MOST:e}; leave it empty if the value is missing"
        )),
        Err(_) if decimal_comma(text) => {
            Err(format!("\"{text}\" is no number: write a decimal point, {}", text.replace(',', ".")))
        }
        Err(_) => Err(format!("\"{}\" is no number; leave it empty if the value is missing", shortened(text))),
    }
}

/// Whether a text would be a number if its comma were a point.
fn decimal_comma(text: &str) -> bool {
    text.matches(',').count() == 1 && text.replace(',', ".").parse::<f64>().is_ok()
}

/// A text as a sentence quotes it.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where() {
        let error = DataError::of_line(Path::new("-"), 3, "it is odd");
        assert_eq!(error.to_string(), "standard input, line 3: it is odd");
        let error =
            DataError { column: Some("load".to_owned()), ..DataError::of_file(Path::new("a.csv"), "it is odd") };
        assert_eq!(error.to_string(), "a.csv, column \"load\": it is odd");
    }

    #[test]
    fn numbers_are_read_and_what_is_none_is_said() {
        assert_eq!(number(" -1.5e3 "), Ok(Some(-1500.0)));
        for missing in ["", "  ", "NaN", "nan", "NA", "n/a", "NULL", "None", "?"] {
            assert_eq!(number(missing), Ok(None), "{missing}");
        }
        assert!(number("inf").unwrap_err().contains("infinite"));
        assert!(number("1e999").unwrap_err().contains("infinite"));
        // What is finite, and what is made of it is not.
        assert!(number("-1e300").unwrap_err().contains("1e30") && number("1e30") == Ok(Some(1e30)));
        assert!(number("3,5").unwrap_err().contains("3.5"));
        assert!(number("warm").unwrap_err().contains("\"warm\" is no number"));
    }
}
