//! A table: named columns of cells, from comma- or tab-separated values or from JSON lines. Cells are text until a column is asked
//! for as numbers, so that what nobody asks for may hold anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{DataError, number, parquet};
use crate::said::count;
use crate::text::archive::{Compression, trouble, unpacked};

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// Values between this byte, with a first line of names (RFC 4180).
    Separated(u8),
    /// An object a line.
    JsonLines,
}

/// A table in memory: all cells one after the other, row by row.
#[derive(Clone, Debug)]
pub struct Table {
    path: PathBuf,
    columns: Vec<String>,
    text: String,
    /// Where each cell ends in `text`.
    ends: Vec<usize>,
    /// The line that each row begins on.
    lines: Vec<u64>,
}

/// The place of a column in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column(usize);

/// The bytes that are looked at to see how a table is written.
const PREVIEW: usize = 1 << 16;

/// The most columns: a file with more is no table, but something else taken for one.
const MOST_COLUMNS: usize = 100_000;

impl Table {
    /// Reads a file, also a compressed one (`.gz`, `.zst`), or standard input where `path` is `-`. The kind is that of its name or else of its
    /// first line.
    ///
    /// # Errors
    /// A file that cannot be read or is no table: rows of different lengths, columns of one name, text that is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        if path == Path::new("-") {
            return Self::parse(path, std::io::stdin().lock());
        }
        if path.is_dir() {
            return Err(DataError::of_file(path, "it is a folder; give one file with a table"));
        }
        let cannot = |e: std::io::Error| DataError::of_file(path, format!("cannot be read: {e}"));
        let mut file = File::open(path).map_err(cannot)?;
        if let Some(packed) = Compression::of(path) {
            return Self::parse(path, packed.reader(file));
        }
        if parquet::is_parquet(&mut file).map_err(cannot)? {
            return parquet::read(path, file);
        }
        Self::parse(path, BufReader::new(file))
    }

    /// Reads what is written under the name `path`.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub fn parse(path: &Path, mut reader: impl Read) -> Result<Self, DataError> {
        let cannot = |e: std::io::Error| DataError::of_file(path, trouble(&e));
        let mut preview = Vec::new();
        reader.by_ref().take(PREVIEW as u64).read_to_end(&mut preview).map_err(cannot)?;
        if preview.contains(&0) {
            return Err(DataError::of_file(
                path,
                "it is no text: it has bytes that are 0; give comma- or tab-separated \
                                                 values, or JSON lines",
            ));
        }
        let kind = kind_of(path, &preview);
        Self::parse_as(path, BufReader::new(Cursor::new(preview).chain(reader)), kind)
    }

    /// Reads what is written in this way.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub fn parse_as(path: &Path, reader: impl BufRead, kind: TableKind) -> Result<Self, DataError> {
        let table = match kind {
            TableKind::Separated(separator) => Self::separated(path, reader, separator),
            TableKind::JsonLines => Self::json_lines(path, reader),
        }?;
        if table.rows() == 0 {
            return Err(DataError::of_file(path, "it has no rows"));
        }
        Ok(table)
    }

    pub(super) fn empty(path: &Path, columns: Vec<String>) -> Self {
        Self { path: path.to_owned(), columns, text: String::new(), ends: Vec::new(), lines: Vec::new() }
    }

    /// Begins the row of this line; its cells follow.
    #[cfg(feature = "parquet")]
    pub(super) fn begin_row(&mut self, line: u64) {
        self.lines.push(line);
    }

    pub(super) fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }

    fn separated(path: &Path, reader: impl Read, separator: u8) -> Result<Self, DataError> {
        // Every line has an end, so that the line after a row is known whatever its own is.
        let reader = WithoutReturns::new(reader.chain(&b"\n"[..]));
        let mut reader =
            csv::ReaderBuilder::new().delimiter(separator).flexible(true).has_headers(false).from_reader(reader);
        let mut record = csv::ByteRecord::new();
        let Some(first) = next_row(path, &mut reader, &mut record)? else {
            return Err(DataError::of_file(path, "it is empty"));
        };
        let names = texts(path, first, &record)?;
        let mut columns: Vec<String> = Vec::new();
        for (at, name) in names.into_iter().enumerate() {
            // What pandas writes of its index has no name.
            let name = if name.trim().is_empty() { format!("column {}", at + 1) } else { name.trim().to_owned() };
            if columns.len() < MOST_COLUMNS && columns.contains(&name) {
                return Err(DataError::of_line(
                    path,
                    1,
                    format!("two columns are named \"{name}\"; rename one of them"),
                ));
            }
            columns.push(name);
        }
        if columns.len() > MOST_COLUMNS {
            return Err(DataError::of_line(path, 1, format!("it has {} columns; it is no table", columns.len())));
        }
        if let Some(name) = columns.iter().find(|name| number(name).is_ok_and(|number| number.is_some())) {
            let why = format!(
                "a column is named {name}: the first line has to say the names of the columns; put a line with them before it"
            );
            return Err(DataError::of_line(path, 1, why));
        }
        let mut table = Self::empty(path, columns);
        while let Some(line) = next_row(path, &mut reader, &mut record)? {
            if record.len() != table.columns.len() {
                let is_open = record.iter().any(|cell| cell.contains(&b'\n'));
                let why = format!(
                    "it has {} where the first line names {}; a value with the separator in it has to stand in quotes{}",
                    count(record.len(), "value"),
                    count(table.columns.len(), "column"),
                    if is_open { ", and here one is opened and perhaps never closed" } else { "" }
                );
                return Err(DataError::of_line(path, line, why));
            }
            table.lines.push(line);
            texts(path, line, &record)?.into_iter().for_each(|cell| table.push(cell));
        }
        Ok(table)
    }

    fn json_lines(path: &Path, reader: impl BufRead) -> Result<Self, DataError> {
        let mut rows: Vec<(u64, BTreeMap<String, String>)> = Vec::new();
        // In the order in which they are met.
        let mut columns: Vec<String> = Vec::new();
        for (at, line) in reader.lines().enumerate() {
            let number = at as u64 + 1;
            let line = line.map_err(|e| match e.kind() {
                ErrorKind::InvalidData => DataError::of_line(path, number, "it is not UTF-8; convert the file"),
                _ => DataError::of_file(path, trouble(&e)),
            })?;
            if line.trim().is_empty() {
                continue;
            }
            let object: serde_json::Map<String, Value> = serde_json::from_str(&line)
                .map_err(|e| DataError::of_line(path, number, format!("it is no JSON object: {e}")))?;
            let mut row = BTreeMap::new();
            for (name, value) in object {
                let cell = match value {
                    Value::Null => String::new(),
                    Value::String(text) => text,
                    Value::Number(_) | Value::Bool(_) => value.to_string(),
                    Value::Array(_) | Value::Object(_) => {
                        let why = "it holds a list or an object where a table has one value".to_owned();
                        return Err(DataError { column: Some(name), ..DataError::of_line(path, number, why) });
                    }
                };
                if !columns.contains(&name) {
                    columns.push(name.clone());
                }
                row.insert(name, cell);
            }
            rows.push((number, row));
        }
        let mut table = Self::empty(path, columns.clone());
        for (number, mut row) in rows {
            table.lines.push(number);
            columns.iter().for_each(|name| table.push(&row.remove(name).unwrap_or_default()));
        }
        Ok(table)
    }

    /// Where it is from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the columns, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.lines.len()
    }

    /// The line that a row begins on, from 1.
    pub fn line(&self, row: usize) -> u64 {
        self.lines[row]
    }

    /// The column of this name.
    ///
    /// # Errors
    /// None, with the names that there are.
    pub fn column(&self, name: &str) -> Result<Column, DataError> {
        let found = self.columns.iter().position(|column| column == name).map(Column);
        found.ok_or_else(|| {
            let names: Vec<String> = self.columns.iter().take(30).map(|name| format!("\"{name}\"")).collect();
            let more = if self.columns.len() > names.len() { " and more" } else { "" };
            DataError::of_file(
                &self.path,
                format!("no column is named \"{name}\"; there are {}{more}", names.join(", ")),
            )
        })
    }

    /// The name of a column.
    pub fn name(&self, column: Column) -> &str {
        &self.columns[column.0]
    }

    /// A cell as it is written.
    pub fn cell(&self, row: usize, column: Column) -> &str {
        let at = row * self.columns.len() + column.0;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start..self.ends[at]]
    }

    /// The error of a cell.
    pub(crate) fn error(&self, row: usize, column: Column, why: impl Into<String>) -> DataError {
        DataError {
            column: Some(self.columns[column.0].clone()),
            ..DataError::of_line(&self.path, self.lines[row], why)
        }
    }

    /// The number in a cell; `None` where it says that there is none.
    ///
    /// # Errors
    /// Text, and what is infinite.
    pub fn number(&self, row: usize, column: Column) -> Result<Option<f64>, DataError> {
        number(self.cell(row, column)).map_err(|why| self.error(row, column, why))
    }

    /// Whether every cell of a column is a number or missing, and one at least is a number.
    pub fn is_numeric(&self, column: Column) -> bool {
        let mut numbers = (0..self.rows()).map(|row| number(self.cell(row, column)));
        let mut found = false;
        numbers.all(|number| number.map(|number| found |= number.is_some()).is_ok()) && found
    }

    /// Whether more cells of a column are numbers than are text.
    pub(crate) fn is_mostly_numeric(&self, column: Column) -> bool {
        let (mut numbers, mut texts) = (0, 0);
        for row in 0..self.rows() {
            match number(self.cell(row, column)) {
                Ok(found) => numbers += usize::from(found.is_some()),
                Err(_) => texts += 1,
            }
        }
        numbers > texts
    }

    /// The numbers of a column.
    ///
    /// # Errors
    /// The first cell that is none, or a column without a single one.
    pub fn numbers(&self, column: Column) -> Result<Vec<Option<f64>>, DataError> {
        let numbers: Vec<Option<f64>> =
            (0..self.rows()).map(|row| self.number(row, column)).collect::<Result<_, _>>()?;
        if numbers.iter().all(Option::is_none) {
            let name = &self.columns[column.0];
            return Err(DataError::of_file(
                &self.path,
                format!("the column \"{name}\" is empty: it has no number at all"),
            ));
        }
        Ok(numbers)
    }
}

/// How a table is written, by its name or else by its first line: what separates most of it.
fn kind_of(path: &Path, preview: &[u8]) -> TableKind {
    let name = unpacked(path);
    let extension = name.extension().and_then(|extension| extension.to_str()).unwrap_or("").to_ascii_lowercase();
    let start = preview.strip_prefix(b"\xef\xbb\xbf").unwrap_or(preview);
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    if ["jsonl", "ndjson", "json"].contains(&extension.as_str()) || first == Some(&b'{') {
        return TableKind::JsonLines;
    }
    if extension == "tsv" {
        return TableKind::Separated(b'\t');
    }
    TableKind::Separated(separator_of(start))
}

/// What separates most of the first line of a table.
pub(crate) fn separator_of(start: &[u8]) -> u8 {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |separator: u8| line.iter().filter(|byte| **byte == separator).count();
    // Where they are as many, the first of the three.
    [b';', b'\t', b','].into_iter().max_by_key(|separator| count(*separator)).unwrap_or(b',')
}

/// Without the carriage return of a line's end: `csv` counts a line when it has read the first half of its end, so that of two
/// halves is counted a row too late.
struct WithoutReturns<R>(BufReader<R>);

impl<R: Read> WithoutReturns<R> {
    fn new(reader: R) -> Self {
        Self(BufReader::new(reader))
    }
}

impl<R: Read> Read for WithoutReturns<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let found = self.0.fill_buf()?;
            match found.iter().position(|byte| *byte == b'\r') {
                Some(0) => {
                    self.0.consume(1);
                    if self.0.fill_buf()?.first() != Some(&b'\n') {
                        out[0] = b'\r';
                        return Ok(1);
                    }
                }
                place => {
                    let count = place.unwrap_or(found.len()).min(out.len());
                    out[..count].copy_from_slice(&found[..count]);
                    self.0.consume(count);
                    return Ok(count);
                }
            }
        }
    }
}

/// Reads the next row, and gives the line that it begins on: the reader's own says where it began to look for it.
fn next_row(
    path: &Path,
    reader: &mut csv::Reader<impl Read>,
    record: &mut csv::ByteRecord,
) -> Result<Option<u64>, DataError> {
    let before = reader.position().line();
    match reader.read_byte_record(record) {
        Ok(false) => Ok(None),
        Ok(true) => {
            let within = record.iter().flatten().filter(|byte| **byte == b'\n').count() as u64;
            Ok(Some(reader.position().line().saturating_sub(1 + within).max(before)))
        }
        Err(e) => {
            if let csv::ErrorKind::Io(error) = e.kind() {
                return Err(DataError::of_file(path, trouble(error)));
            }
            Err(DataError::of_line(path, before, format!("cannot be read: {e}")))
        }
    }
}

/// The cells of a row as text.
fn texts<'a>(path: &Path, line: u64, record: &'a csv::ByteRecord) -> Result<Vec<&'a str>, DataError> {
    let cells = record.iter().map(str::from_utf8).collect::<Result<_, _>>();
    cells.map_err(|_| DataError::of_line(path, line, "it is not UTF-8; convert the file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, text: &str) -> Result<Table, DataError> {
        Table::parse(Path::new(name), text.as_bytes())
    }

    #[test]
    fn the_same_table_is_read_from_every_kind() {
        let commas = table("a.csv", "\u{feff}day,load,note\n2020-01-01,1.5,\"a, b\"\n\n2020-01-02,,\n").unwrap();
        let tabs = table("a.tsv", "day\tload\tnote\n2020-01-01\t1.5\ta, b\n2020-01-02\t\t\n").unwrap();
        let semicolons = table("a.csv", "day;load;note\r\n2020-01-01;1.5;a, b\r\n2020-01-02;;\r\n").unwrap();
        let lines =
            "{\"day\":\"2020-01-01\",\"load\":1.5,\"note\":\"a, b\"}\n\n{\"day\":\"2020-01-02\",\"load\":null}\n";
        let json = table("a.jsonl", lines).unwrap();
        for table in [&commas, &tabs, &semicolons, &json] {
            let mut names = table.columns().to_vec();
            names.sort();
            assert_eq!(names, ["day", "load", "note"]);
            let [day, load, note] = ["day", "load", "note"].map(|name| table.column(name).unwrap());
            assert_eq!((table.rows(), table.cell(1, day), table.cell(0, note)), (2, "2020-01-02", "a, b"));
            assert_eq!(table.numbers(load).unwrap(), [Some(1.5), None]);
            assert!(table.is_numeric(load) && !table.is_numeric(day) && !table.is_numeric(note));
        }
        assert_eq!([commas.line(0), commas.line(1)], [2, 4]);
        assert_eq!([json.line(0), json.line(1)], [1, 3]);
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line_and_column() {
        let said = |name: &str, text: &str| table(name, text).unwrap_err().to_string();
        assert!(said("a.csv", "a,b\n1,2\n3\n").contains("a.csv, line 3: it has 1 value where the first line names 2"));
        assert!(said("a.csv", "a,a\n1,2\n").contains("line 1: two columns are named \"a\""));
        assert!(said("a.csv", "a,b\n").contains("no rows"));
        assert!(said("a.csv", "1,2\n3,4\n").contains("a column is named 1"));
        assert!(said("a.jsonl", "{\"a\":1}\n[1]\n").contains("line 2: it is no JSON object"));
        assert!(said("a.jsonl", "{\"a\":[1]}\n").contains("line 1, column \"a\": it holds a list"));
        let bytes = Table::parse(Path::new("a.csv"), &b"a,b\n1,\xff\n"[..]).unwrap_err().to_string();
        assert!(bytes.contains("line 2") && bytes.contains("UTF-8"), "{bytes}");
        assert!(Table::parse(Path::new("a.csv"), &b"a,b\n1,\0\n"[..]).unwrap_err().to_string().contains("no text"));
        let table = table("a.csv", "a,b\n1,x\n,y\n").unwrap();
        assert!(
            table.column("c").unwrap_err().to_string().contains("no column is named \"c\"; there are \"a\", \"b\"")
        );
        let why = table.numbers(table.column("b").unwrap()).unwrap_err().to_string();
        assert!(why.starts_with("a.csv, line 2, column \"b\": \"x\" is no number"), "{why}");
        // Whatever ends the lines.
        let returns = super::Table::parse(Path::new("a.csv"), &b"a,b\r\n1,2\r\n2,y\r\n"[..]).unwrap();
        let why = returns.numbers(returns.column("b").unwrap()).unwrap_err().to_string();
        assert!(why.starts_with("a.csv, line 3, column \"b\": \"y\" is no number"), "{why}");
        let empty = super::Table::parse(Path::new("a.csv"), &b"a,b\n1,\n2,NA\n"[..]).unwrap();
        let why = empty.numbers(empty.column("b").unwrap()).unwrap_err().to_string();
        assert!(why.contains("the column \"b\" is empty"), "{why}");
    }
}
