//! Labelled texts from files that people have: CSV and TSV, JSON lines, `LABEL text` lines, a folder for each class.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::read_numbers::target;
use crate::data::table::separator_of;
use crate::data::{Column, DataError, Table, TableKind};
use crate::text::TextError;
use crate::text::archive::unpacked;
use crate::text::decode::as_text;
use crate::text::source::Source;

/// A text with its labels, and where it was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The text.
    pub text: String,
    /// Its words, where each has a label.
    pub words: Vec<String>,
    /// Its labels, as they are written; of words one for each.
    pub labels: Vec<String>,
    /// The numbers that are to be said of it, where that is learned.
    pub targets: Vec<f64>,
    /// The values of a sequence of numbers, `[T, features]`; not a number where missing.
    pub values: Vec<f32>,
    /// The values of a step.
    pub features: usize,
    /// The line, from 1, and the column or key of the label; of a folder's file neither.
    pub place: Place,
}

impl Record {
    /// The same with the text of its words.
    pub(crate) fn joined(self) -> Self {
        Self { text: self.words.join(" "), ..self }
    }
}

/// Where a record was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: Option<u64>,
    /// The column or key.
    pub column: Option<String>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        Ok(())
    }
}

/// What of a file is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// The column or key of the text; `text` where nothing is said.
    pub text: Option<&'a str>,
    /// That of the label; `label` where nothing is said. Of numbers several, with commas between them.
    pub label: Option<&'a str>,
    /// Whether labels are numbers.
    pub numbers: bool,
    /// What stands between several labels of one example, where there can be several.
    pub separator: Option<&'a str>,
    /// Whether there are labels to be read. Where not, a line is all text.
    pub labels: bool,
    /// Whether bytes that are no UTF-8 are replaced.
    pub lossy: bool,
}

/// How a file is written, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A header, then records, with this between their fields.
    Table(u8),
    /// A JSON object a line.
    JsonLines,
    /// A text a line.
    Lines,
}

impl Form {
    /// That of a file of this name; what it is compressed with does not matter.
    pub fn of(path: &Path) -> Self {
        let extension = unpacked(path).extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match extension.as_str() {
            "csv" => Self::Table(b','),
            "tsv" | "tab" => Self::Table(b'\t'),
            "jsonl" | "ndjson" => Self::JsonLines,
            _ => Self::Lines,
        }
    }

    /// The same of a file whose name says nothing of it, such as what came from standard input, where its first line is a JSON object.
    pub(crate) fn or_objects(self, text: &str) -> Self {
        if self == Self::Lines && begins_with_an_object(text) { Self::JsonLines } else { self }
    }
}

/// Whether the first line of a text is a JSON object.
fn begins_with_an_object(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    first.is_some_and(|line| line.starts_with('{') && serde_json::from_str::<Value>(line).is_ok())
}

/// How a label is marked in the files of fastText.
const MARK: &str = "__label__";

pub(super) fn unusable<T>(why: String) -> Result<T, TextError> {
    Err(TextError::Unusable(why))
}

/// The texts of a file.
///
/// # Errors
/// A file that cannot be read, with the line and the column of what is wrong.
pub fn read_file(path: &Path, wanted: Wanted) -> Result<Vec<Record>, TextError> {
    let bytes = Source::from_file(path)?.read_whole()?;
    let text = as_text(path, 0, &bytes, wanted.lossy)?;
    let records = match Form::of(path).or_objects(&text) {
        // A table of values with commas in them is separated otherwise, whatever its name says.
        Form::Table(b',') => table(path, &text, separator_of(text.as_bytes()), wanted)?,
        Form::Table(delimiter) => table(path, &text, delimiter, wanted)?,
        Form::JsonLines => json_lines(path, &text, wanted)?,
        Form::Lines => lines(path, &text, wanted)?,
    };
    if records.is_empty() {
        return unusable(format!(
            "{} has no examples; give a file with a text and a label in each line",
            path.display()
        ));
    }
    Ok(records)
}

/// One text of a line that is a line of a stream: of this form, without labels.
///
/// # Errors
/// A line that is none of that form.
pub fn read_line(line: &str, form: Form, key: Option<&str>) -> Result<String, TextError> {
    let Form::JsonLines = form else { return Ok(line.to_owned()) };
    let place = Place { file: "standard input".into(), line: None, column: None };
    let value: Value =
        serde_json::from_str(line).map_err(|error| TextError::Unusable(format!("{place}: no JSON object: {error}")))?;
    text_of(&value, key.unwrap_or("text"), &place)
}

fn table(path: &Path, text: &str, delimiter: u8, wanted: Wanted) -> Result<Vec<Record>, TextError> {
    let table = Table::parse_as(path, text.as_bytes(), TableKind::Separated(delimiter)).map_err(of_data)?;
    let column = |named: Option<&str>, usual: &str, setting: &str| {
        let found = table.column(named.unwrap_or(usual));
        found.map_err(|error| TextError::Unusable(format!("{error}: name one of them by `{setting}`")))
    };
    let text_at = column(wanted.text, "text", "text")?;
    let label_names: Vec<&str> = match wanted.label.unwrap_or("label") {
        _ if !wanted.labels => Vec::new(),
        names if wanted.numbers => names.split(',').map(str::trim).collect(),
        name => vec![name],
    };
    let labels_at: Vec<Column> =
        label_names.into_iter().map(|name| column(Some(name), "label", "label")).collect::<Result<_, _>>()?;
    if labels_at.contains(&text_at) {
        return unusable(format!("`text` and `label` name the same column of {}; name two", path.display()));
    }
    let mut records = Vec::with_capacity(table.rows());
    for row in 0..table.rows() {
        let place = |column: Column| Place {
            file: path.to_owned(),
            line: Some(table.line(row)),
            column: Some(table.name(column).to_owned()),
        };
        let (mut labels, mut targets) = (Vec::new(), Vec::new());
        for at in &labels_at {
            match wanted.numbers {
                true => targets.push(target(table.cell(row, *at), &place(*at))?),
                false => labels = labels_of(table.cell(row, *at), wanted.separator, &place(*at))?,
            }
        }
        let text = table.cell(row, text_at).to_owned();
        if wanted.labels && text.trim().is_empty() {
            return unusable(format!("{}: the text is empty; remove the line, or fill it", place(text_at)));
        }
        let place = place(labels_at.first().copied().unwrap_or(text_at));
        records.push(Record { text, labels, targets, place, ..Record::default() });
    }
    Ok(records)
}

fn of_data(error: DataError) -> TextError {
    TextError::Unusable(error.to_string())
}

/// The labels that a field holds.
fn labels_of(field: &str, separator: Option<&str>, place: &Place) -> Result<Vec<String>, TextError> {
    let Some(separator) = separator else {
        let label = field.trim();
        if label.is_empty() {
            return unusable(format!("{place}: the label is empty; remove the line, or fill it"));
        }
        return Ok(vec![label.to_owned()]);
    };
    let mut labels: Vec<String> = field.split(separator).map(|label| label.trim().to_owned()).collect();
    labels.retain(|label| !label.is_empty());
    labels.sort();
    labels.dedup();
    Ok(labels)
}

fn text_of(value: &Value, key: &str, place: &Place) -> Result<String, TextError> {
    match &value[key] {
        Value::String(text) => Ok(text.clone()),
        Value::Null => {
            let keys: Vec<&str> =
                value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default();
            unusable(format!(
                "{place}: there is no {key}; the keys are {}: name one of them by `text`",
                if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
            ))
        }
        other => unusable(format!("{place}: {key} should be a text, found {other}")),
    }
}

fn json_lines(path: &Path, text: &str, wanted: Wanted) -> Result<Vec<Record>, TextError> {
    let (text_key, label_key) = (wanted.text.unwrap_or("text"), wanted.label.unwrap_or("label"));
    let mut records = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = Place { file: path.to_owned(), line: Some(number as u64 + 1), column: None };
        let value: Value = match serde_json::from_str(line) {
            Ok(value @ Value::Object(_)) => value,
            Ok(_) => return unusable(format!("{place}: a JSON object is expected in each line")),
            Err(error) => return unusable(format!("{place}: no JSON object ({error})")),
        };
        let written = |value: &Value| match value {
            Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            _ => None,
        };
        let mut targets = Vec::new();
        let labels = match (&value[label_key], wanted.separator) {
            _ if !wanted.labels => Vec::new(),
            _ if wanted.numbers => {
                targets = numbers_of(&value, label_key, &place)?;
                Vec::new()
            }
            (Value::Array(labels), Some(_)) => {
                let all: Option<Vec<String>> = labels.iter().map(written).collect();
                let Some(mut all) = all else {
                    return unusable(format!("{place}: {label_key} should be a list of labels"));
                };
                all.sort();
                all.dedup();
                all
            }
            (Value::Array(_), None) => {
                return unusable(format!(
                    "{place}: {label_key} is a list of labels; say by `separator` that an example can have several"
                ));
            }
            (value, separator) => match written(value) {
                Some(label) => labels_of(&label, separator, &place)?,
                None => {
                    return unusable(format!(
                        "{place}: {label_key} should be a label, found {value}; name its key by `label`"
                    ));
                }
            },
        };
        let text = text_of(&value, text_key, &place)?;
        if wanted.labels && text.trim().is_empty() {
            return unusable(format!("{place}: {text_key} is empty; remove the line, or fill it"));
        }
        let place = Place { column: Some(label_key.to_owned()), ..place };
        records.push(Record { text, labels, targets, place, ..Record::default() });
    }
    Ok(records)
}

/// The numbers that a JSON object has under keys with commas between them, or in a list under one.
fn numbers_of(value: &Value, keys: &str, place: &Place) -> Result<Vec<f64>, TextError> {
    let mut numbers = Vec::new();
    for key in keys.split(',').map(str::trim) {
        let place = Place { column: Some(key.to_owned()), ..place.clone() };
        let said = match &value[key] {
            Value::Array(said) => &said[..],
            said => std::slice::from_ref(said),
        };
        for said in said {
            numbers.push(match said {
                Value::String(text) => target(text, &place)?,
                said => target(&said.to_string(), &place)?,
            });
        }
    }
    Ok(numbers)
}

/// Lines of a label and a text: with a tab between them, if every line has one, else white space.
fn lines(path: &Path, text: &str, wanted: Wanted) -> Result<Vec<Record>, TextError> {
    let filled = || text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let place = |number: usize| Place { file: path.to_owned(), line: Some(number as u64 + 1), column: None };
    if !wanted.labels {
        // Of what is only predicted an empty line is a text too: the answers stand beside the lines.
        let all = text.lines().enumerate();
        let records =
            all.map(|(number, line)| Record { text: line.to_owned(), place: place(number), ..Record::default() });
        return Ok(records.collect());
    }
    if wanted.text.is_some() || wanted.label.is_some() {
        return unusable(format!(
            "{} is read as lines of a label and a text, which have no columns; leave `text` and `label` out, or give the file a name that \
             ends in .csv, .tsv or .jsonl",
            path.display()
        ));
    }
    let has_tabs = filled().all(|(_, line)| line.contains('\t'));
    let mut records = Vec::new();
    for (number, line) in filled() {
        let place = place(number);
        let (labels, text) = if line.starts_with(MARK) {
            let marked = line.split_whitespace().take_while(|word| word.starts_with(MARK));
            let labels: Vec<String> = marked.map(|word| word[MARK.len()..].to_owned()).collect();
            let text: Vec<&str> = line.split_whitespace().skip(labels.len()).collect();
            if labels.len() > 1 && wanted.separator.is_none() {
                return unusable(format!(
                    "{place}: it has {} labels; say by `separator` that an example can have several",
                    labels.len()
                ));
            }
            (labels, text.join(" "))
        } else {
            let line = line.trim_start_matches(' ');
            let parts = if has_tabs { line.split_once('\t') } else { line.split_once(char::is_whitespace) };
            let (label, text) = parts.unwrap_or((line, ""));
            if wanted.numbers {
                if text.trim().is_empty() {
                    return unusable(format!(
                        "{place}: it has a number and no text; each line is a number, then the text"
                    ));
                }
                let (targets, text) = (vec![target(label, &place)?], text.trim().to_owned());
                records.push(Record { text, targets, place, ..Record::default() });
                continue;
            }
            (labels_of(label, wanted.separator, &place)?, text.trim().to_owned())
        };
        if text.is_empty() {
            return unusable(format!("{place}: it has a label and no text; each line is a label, then the text"));
        }
        records.push(Record { text, labels, place, ..Record::default() });
    }
    Ok(records)
}

/// The folders of a folder, in the order of their names; hidden ones are none.
fn folders(path: &Path) -> Result<Vec<(String, PathBuf)>, TextError> {
    Ok(entries(path)?.into_iter().filter(|(_, path)| path.is_dir()).collect())
}

fn entries(path: &Path) -> Result<Vec<(String, PathBuf)>, TextError> {
    let trouble = |source| TextError::Io { path: path.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(trouble)? {
        let entry = entry.map_err(trouble)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// A folder with a folder for each class, each file of which is a text; `None` if it has folders of the parts of the data.
fn read_classes(path: &Path, wanted: Wanted) -> Result<Vec<Record>, TextError> {
    if wanted.numbers {
        return unusable(format!(
            "{} is a folder, whose folders say classes, but numbers are to be learned; give a file with them",
            path.display()
        ));
    }
    let mut records = Vec::new();
    for (label, class) in folders(path)? {
        for (_, file) in entries(&class)?.into_iter().filter(|(_, file)| file.is_file()) {
            let bytes = Source::from_file(&file)?.read_whole()?;
            let text = as_text(&file, 0, &bytes, wanted.lossy)?.into_owned();
            let place = Place { file, ..Place::default() };
            records.push(Record { text, labels: vec![label.clone()], place, ..Record::default() });
        }
    }
    if records.is_empty() {
        return unusable(format!(
            "{} has no folders with files in them; give a file of labelled texts, or a folder with a folder for each class",
            path.display()
        ));
    }
    Ok(records)
}

/// The parts of data: to train on, and what lies beside it to watch and to measure with.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// To train on.
    pub train: Vec<Record>,
    /// To watch.
    pub valid: Option<Vec<Record>>,
    /// To measure.
    pub test: Option<Vec<Record>>,
}

/// The names that the parts of a folder have.
const PARTS: [&[&str]; 3] = [&["train"], &["valid", "validation", "val", "dev"], &["test"]];

/// The texts of a file or a folder, which may hold all its parts.
///
/// # Errors
/// A file that cannot be read.
pub fn read(path: &Path, wanted: Wanted) -> Result<Parts, TextError> {
    if !path.is_dir() {
        return Ok(Parts { train: read_file(path, wanted)?, ..Parts::default() });
    }
    let within = folders(path)?;
    let part = |names: &[&str]| within.iter().find(|(name, _)| names.contains(&name.as_str()));
    let [train, valid, test] = PARTS.map(part);
    let Some((_, train)) = train else { return Ok(Parts { train: read_classes(path, wanted)?, ..Parts::default() }) };
    let other = |part: Option<&(String, PathBuf)>| part.map(|(_, path)| read_classes(path, wanted)).transpose();
    Ok(Parts { train: read_classes(train, wanted)?, valid: other(valid)?, test: other(test)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, text: &str, wanted: Wanted) -> Result<Vec<(String, Vec<String>)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let records = read_file(&path, wanted).map_err(|error| error.to_string())?;
        Ok(records.into_iter().map(|record| (record.text, record.labels)).collect())
    }

    const LABELLED: Wanted =
        Wanted { text: None, label: None, numbers: false, separator: None, labels: true, lossy: false };

    fn one(text: &str, label: &str) -> (String, Vec<String>) {
        (text.to_owned(), vec![label.to_owned()])
    }

    #[test]
    fn lines_are_counted_whatever_ends_them_and_an_open_quote_is_told() {
        for end in ["\n", "\r\n"] {
            let table = ["label,text", "a,x", "a,\"y", "z\"", ",empty"].join(end);
            let said = with("a.csv", &table, LABELLED).unwrap_err();
            assert!(said.contains("line 5"), "{said}");
        }
        let said = with("a.csv", "label,text\na,x\n\"a, y\nb,x\n", LABELLED).unwrap_err();
        assert!(said.contains("line 3") && said.contains("never closed"), "{said}");
    }

    #[test]
    fn every_form_gives_the_same_records() {
        let expected = vec![one("so, good", "pos"), one("bad \"one\"", "neg")];
        let files = [
            ("a.csv", "id,label,text\n1,pos,\"so, good\"\n2, neg ,\"bad \"\"one\"\"\"\n"),
            ("a.tsv", "text\tlabel\nso, good\tpos\n\"bad \"\"one\"\"\"\tneg\n"),
            (
                "a.jsonl",
                "{\"text\": \"so, good\", \"label\": \"pos\"}\n\n{\"label\":\"neg\",\"text\":\"bad \\\"one\\\"\"}\n",
            ),
            ("a.txt", "pos so, good\n\nneg bad \"one\"\n"),
            ("b.txt", "pos\tso, good\nneg\tbad \"one\"\n"),
            ("c.txt", "__label__pos so, good\n__label__neg bad \"one\"\n"),
        ];
        for (name, text) in files {
            assert_eq!(with(name, text, LABELLED), Ok(expected.clone()), "{name}");
        }
        let several = Wanted { separator: Some(";"), ..LABELLED };
        let labels = |text: &str, name: &str| with(name, text, several).unwrap()[0].1.clone();
        assert_eq!(labels("label,text\nb; a;b,x\n", "a.csv"), ["a", "b"]);
        assert_eq!(labels("{\"text\":\"x\",\"label\":[\"b\",1]}\n", "a.jsonl"), ["1", "b"]);
        assert_eq!(labels("__label__b __label__a x y\n", "a.txt"), ["b", "a"]);
        assert_eq!(labels("label,text\n,x\n", "a.csv"), [""; 0]);
        let unlabelled = Wanted { labels: false, ..LABELLED };
        assert_eq!(with("a.txt", "pos it\n\nis\n", unlabelled).unwrap().len(), 3);
    }

    #[test]
    fn numbers_are_read_from_every_form_and_what_is_none_is_said_with_its_place() {
        let numbers = |name: &str, text: &str, label: Option<&str>| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let records = read_file(&path, Wanted { numbers: true, label, ..LABELLED });
            records.map(|records| records[0].targets.clone()).map_err(|error| error.to_string())
        };
        assert_eq!(numbers("a.csv", "text,a,b\nx,1.5,-2\n", Some("a, b")).unwrap(), [1.5, -2.0]);
        assert_eq!(numbers("a.jsonl", "{\"text\":\"x\",\"label\":[1,2.5]}\n", None).unwrap(), [1.0, 2.5]);
        assert_eq!(numbers("a.jsonl", "{\"text\":\"x\",\"a\":1,\"b\":\"2\"}\n", Some("a,b")).unwrap(), [1.0, 2.0]);
        assert_eq!(numbers("a.txt", "3.5 so good\n", None).unwrap(), [3.5]);
        for (name, text, why) in [
            ("a.csv", "text,label\nx,1\ny,warm\n", "line 3, column label: a number is expected, found \"warm\""),
            ("a.csv", "text,label\nx,\n", "line 2, column label: the number is missing"),
            ("a.csv", "text,label\nx,inf\n", "line 2, column label: inf is infinite"),
            ("a.jsonl", "{\"text\":\"x\"}\n", "line 1, column label: the number is missing"),
            ("a.txt", "1 x\n2\n", "line 2: it has a number and no text"),
            ("a.txt", "good x\n", "line 1: a number is expected, found \"good\""),
        ] {
            let said = numbers(name, text, None).unwrap_err();
            assert!(said.contains(why), "{said}\n{why}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_column() {
        let named = Wanted { text: Some("review"), ..LABELLED };
        for (name, text, wanted, said) in [
            ("a.csv", "text,label\nx,a\ny,\n", LABELLED, "line 3, column label: the label is empty"),
            ("a.csv", "text,label\nx,a\n ,b\n", LABELLED, "line 3, column text: the text is empty"),
            ("a.csv", "text,label\nx,a\ny\n", LABELLED, "line 3: it has 1 value where the first line names 2 columns"),
            (
                "a.csv",
                "text,class\nx,a\n",
                LABELLED,
                "no column is named \"label\"; there are \"text\", \"class\": name one of them by `label`",
            ),
            ("a.csv", "text,label,label\nx,a,b\n", LABELLED, "two columns are named \"label\""),
            ("a.tsv", "text\tlabel\nx\ta\n", named, "no column is named \"review\""),
            ("a.jsonl", "{\"text\":\"x\",\"label\":\"a\"}\n[1]\n", LABELLED, "line 2: a JSON object is expected"),
            ("a.jsonl", "{\"text\":3,\"label\":\"a\"}\n", LABELLED, "line 1: text should be a text, found 3"),
            ("a.jsonl", "{\"body\":\"x\",\"label\":\"a\"}\n", LABELLED, "there is no text; the keys are body, label"),
            ("a.jsonl", "{\"text\":\"x\"}\n", LABELLED, "line 1: label should be a label, found null"),
            ("a.jsonl", "{\"text\":\"x\",\"label\":[\"a\",\"b\"]}\n", LABELLED, "`separator`"),
            ("a.txt", "pos good\n\nneg\n", LABELLED, "line 3: it has a label and no text"),
            ("a.txt", "__label__a __label__b x\n", LABELLED, "line 1: it has 2 labels"),
            ("a.txt", "pos good\n", named, "which have no columns"),
            ("a.csv", "text,label\n", LABELLED, "it has no rows"),
        ] {
            let error = with(name, text, wanted).unwrap_err();
            assert!(error.contains(said), "{error}\n{said}");
        }
    }

    #[test]
    fn a_folder_has_a_folder_for_each_class_or_for_each_part() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("plain/pos/1.txt", "good\nso");
        write("plain/neg/1.txt", "bad");
        write("parts/train/pos/1.txt", "good");
        write("parts/train/neg/1.txt", "bad");
        write("parts/test/neg/1.txt", "worse");
        let plain = read(&folder.path().join("plain"), LABELLED).unwrap();
        let labels: Vec<_> = plain.train.iter().map(|record| (record.text.as_str(), &record.labels[0][..])).collect();
        assert_eq!(labels, [("bad", "neg"), ("good\nso", "pos")]);
        let parts = read(&folder.path().join("parts"), LABELLED).unwrap();
        assert_eq!((parts.train.len(), parts.valid.is_none(), parts.test.unwrap().len()), (2, true, 1));
        let error = read(&folder.path().join("plain/pos"), LABELLED).unwrap_err().to_string();
        assert!(error.contains("a folder for each class"), "{error}");
        let error = read(&folder.path().join("plain"), Wanted { numbers: true, ..LABELLED }).unwrap_err().to_string();
        assert!(error.contains("numbers are to be learned"), "{error}");
    }
}
