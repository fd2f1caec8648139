//! Texts whose words have labels: columns as those of CoNLL, tokens or spans in JSON lines.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::read::{Form, Place, Record, Wanted, unusable};
use crate::said::count;
use crate::text::TextError;
use crate::text::decode::as_text;
use crate::text::source::Source;

/// The sentences of a file: each with its words and, where labels are wanted, a label for each.
///
/// # Errors
/// A file that cannot be read, with the line of what is wrong.
pub fn read_sentences(path: &Path, wanted: Wanted) -> Result<Vec<Record>, TextError> {
    let bytes = Source::from_file(path)?.read_whole()?;
    let text = as_text(path, 0, &bytes, wanted.lossy)?;
    let records = match Form::of(path).or_objects(&text) {
        Form::JsonLines => json_lines(path, &text, wanted)?,
        Form::Table(b',') => {
            return unusable(format!(
                "{} is a table of commas; words with labels are read from columns with white space between them, a word a line and an \
                 empty line between sentences, or from JSON lines",
                path.display()
            ));
        }
        Form::Lines | Form::Table(_) if wanted.labels => columns(path, &text, wanted)?,
        Form::Lines | Form::Table(_) => plain(path, &text),
    };
    if records.is_empty() {
        return unusable(format!("{} has no sentences", path.display()));
    }
    Ok(records)
}

/// The line with which the files of CoNLL-2003 begin a document.
const DOCUMENT: &str = "-DOCSTART-";

fn columns(path: &Path, text: &str, wanted: Wanted) -> Result<Vec<Record>, TextError> {
    let place = |number: usize| Place { file: path.to_owned(), line: Some(number as u64 + 1), column: None };
    let number = |named: Option<&str>, setting: &str| match named.map(str::parse::<usize>) {
        None => Ok(None),
        Some(Ok(number)) if number > 0 => Ok(Some(number - 1)),
        Some(_) => unusable(format!("`{setting}` is the number of a column of {}, from 1", path.display())),
    };
    let (word_at, label_at) = (number(wanted.text, "text")?.unwrap_or(0), number(wanted.label, "label")?);
    let mut records: Vec<Record> = Vec::new();
    let mut open: Option<Record> = None;
    let mut width = None;
    for (at, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.first().is_none_or(|first| *first == DOCUMENT) {
            records.extend(open.take());
            continue;
        }
        let expected = *width.get_or_insert(fields.len());
        if fields.len() != expected || expected < 2 {
            let expected =
                if expected < 2 { "two at least, a word and its label".to_owned() } else { expected.to_string() };
            return unusable(format!(
                "{}: it has {}, and {expected} are expected; a sentence ends with an empty line",
                place(at),
                count(fields.len(), "column")
            ));
        }
        let label_at = label_at.unwrap_or(expected - 1);
        if word_at.max(label_at) >= expected || word_at == label_at {
            return unusable(format!(
                "{}: it has {expected} columns; name two of them by `text` and `label`",
                place(at)
            ));
        }
        let record = open.get_or_insert_with(|| Record { place: place(at), ..Record::default() });
        record.words.push(fields[word_at].to_owned());
        record.labels.push(fields[label_at].to_owned());
    }
    records.extend(open);
    Ok(records.into_iter().map(Record::joined).collect())
}

/// Text without labels: a sentence a line; or, where no line has more than a word and empty lines part them, a word a line.
fn plain(path: &Path, text: &str) -> Vec<Record> {
    let are_words = text.lines().all(|line| line.split_whitespace().count() <= 1);
    if are_words && text.trim().lines().any(|line| line.trim().is_empty()) {
        let mut records: Vec<Record> = Vec::new();
        let mut open: Option<Record> = None;
        for (number, line) in text.lines().enumerate() {
            let Some(word) = line.split_whitespace().next() else {
                records.extend(open.take());
                continue;
            };
            let place = Place { file: path.to_owned(), line: Some(number as u64 + 1), column: None };
            open.get_or_insert_with(|| Record { place, ..Record::default() }).words.push(word.to_owned());
        }
        return records.into_iter().chain(open).map(Record::joined).collect();
    }
    let of_line = |(number, line): (usize, &str)| {
        let place = Place { file: path.to_owned(), line: Some(number as u64 + 1), column: None };
        Record { words: words(line), place, ..Record::default() }.joined()
    };
    text.lines().enumerate().map(of_line).collect()
}

/// The words of a text without labels, with the punctuation around them set apart.
pub fn words(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let cut = places(&characters, &BTreeSet::new());
    cut.into_iter().map(|(start, end)| characters[start..end].iter().collect()).collect()
}

/// Where the words of a text begin and end, in characters: between white space, punctuation around a word apart, and cut at `cuts`.
fn places(text: &[char], cuts: &BTreeSet<usize>) -> Vec<(usize, usize)> {
    let opens = |c: char| "([{<\"“«„¿¡".contains(c);
    let closes = |c: char| ".,;:!?)]}>\"”»…".contains(c);
    let mut places = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if text[at].is_whitespace() {
            at += 1;
            continue;
        }
        let end =
            (at + 1..text.len()).find(|end| text[*end].is_whitespace() || cuts.contains(end)).unwrap_or(text.len());
        let (mut first, mut last) = (at, end);
        while first < last && opens(text[first]) {
            first += 1;
        }
        while last > first && closes(text[last - 1]) {
            last -= 1;
        }
        if first == last {
            // Nothing but punctuation is a word.
            places.push((at, end));
        } else {
            places.extend((at..first).map(|at| (at, at + 1)));
            places.push((first, last));
            places.extend((last..end).map(|at| (at, at + 1)));
        }
        at = end;
    }
    places
}

fn json_lines(path: &Path, text: &str, wanted: Wanted) -> Result<Vec<Record>, TextError> {
    let mut records = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = Place { file: path.to_owned(), line: Some(number as u64 + 1), column: None };
        let value: Value = match serde_json::from_str(line) {
            Ok(value @ Value::Object(_)) => value,
            _ => return unusable(format!("{place}: a JSON object is expected in each line")),
        };
        records.push(sentence(&value, wanted, place)?);
    }
    Ok(records)
}

/// The words and labels of one object: `tokens` and `tags`, or a `text` and the `spans` of its characters that have labels.
pub fn sentence(value: &Value, wanted: Wanted, place: Place) -> Result<Record, TextError> {
    let key = |named: Option<&str>, usual: [&'static str; 2]| -> String {
        let found = usual.into_iter().find(|key| !value[*key].is_null()).unwrap_or(usual[0]);
        named.unwrap_or(found).to_owned()
    };
    let text_key = key(wanted.text, ["tokens", "text"]);
    let strings = |value: &Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
    };
    match &value[&text_key] {
        Value::Array(_) => {
            let label_key = key(wanted.label, ["tags", "labels"]);
            let Some(words) = strings(&value[&text_key]) else {
                return unusable(format!("{place}: {text_key} should be a list of words"));
            };
            let labels = if wanted.labels { strings(&value[&label_key]) } else { Some(Vec::new()) };
            match labels {
                Some(labels) if labels.len() == words.len() || !wanted.labels => {
                    Ok(Record { words, labels, place, ..Record::default() }.joined())
                }
                labels => unusable(format!(
                    "{place}: {label_key} should be a list of {}, one for each word, found {}",
                    count(words.len(), "label"),
                    labels.map_or("none".to_owned(), |labels| labels.len().to_string())
                )),
            }
        }
        Value::String(text) => {
            let label_key = key(wanted.label, ["spans", "entities"]);
            let spans = if wanted.labels { spans(&value[&label_key], &label_key, &place)? } else { Vec::new() };
            let characters: Vec<char> = text.chars().collect();
            of_spans(&characters, spans, place)
        }
        _ => unusable(format!("{place}: there is neither a list of words, tokens, nor a text; name its key by `text`")),
    }
}

/// Spans as `{"start": 0, "end": 5, "label": "PER"}` or `[0, 5, "PER"]`, in characters.
fn spans(value: &Value, key: &str, place: &Place) -> Result<Vec<(usize, usize, String)>, TextError> {
    let of = |span: &Value| -> Option<(usize, usize, String)> {
        let [start, end, label] = match span {
            Value::Array(parts) => [parts.first()?, parts.get(1)?, parts.get(2)?],
            span => [&span["start"], &span["end"], &span["label"]],
        };
        let whole = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
        Some((whole(start)?, whole(end)?, label.as_str()?.to_owned()))
    };
    let all: Option<Vec<_>> = value.as_array().and_then(|spans| spans.iter().map(of).collect());
    let Some(mut all) = all else {
        return unusable(format!(
            "{place}: {key} should be a list of spans such as {{\"start\": 0, \"end\": 5, \"label\": \"PER\"}}; name its key by `label`"
        ));
    };
    all.sort();
    Ok(all)
}

fn of_spans(text: &[char], spans: Vec<(usize, usize, String)>, place: Place) -> Result<Record, TextError> {
    let mut before = 0;
    for (start, end, label) in &spans {
        if start >= end || *end > text.len() || *start < before {
            return unusable(format!(
                "{place}: the span {start} to {end} ({label}) is empty, overlaps the one before it, or ends behind the text of {} characters",
                text.len()
            ));
        }
        before = *end;
    }
    let cuts = spans.iter().flat_map(|(start, end, _)| [*start, *end]).collect();
    let mut record = Record { place, ..Record::default() };
    for (start, end) in places(text, &cuts) {
        let span = spans.iter().find(|(from, to, _)| *from <= start && end <= *to);
        record.words.push(text[start..end].iter().collect());
        record.labels.push(match span {
            None => "O".to_owned(),
            Some((from, _, label)) if text[*from..start].iter().all(|c| c.is_whitespace()) => format!("B-{label}"),
            Some((.., label)) => format!("I-{label}"),
        });
    }
    if record.words.is_empty() {
        return unusable(format!("{}: the text has no words; remove the line, or fill it", record.place));
    }
    Ok(record.joined())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELLED: Wanted =
        Wanted { text: None, label: None, numbers: false, separator: None, labels: true, lossy: false };

    fn with(name: &str, text: &str, wanted: Wanted) -> Result<Vec<(String, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let records = read_sentences(&path, wanted).map_err(|error| error.to_string())?;
        Ok(records.into_iter().map(|record| (record.words.join(" "), record.labels.join(" "))).collect())
    }

    #[test]
    fn every_form_gives_the_same_sentences() {
        let expected: Vec<(String, String)> = [("Ada Lovelace wrote (", "B-PER I-PER O O"), ("Paris .", "B-LOC O")]
            .map(|(words, labels)| (words.to_owned(), labels.to_owned()))
            .to_vec();
        let columns =
            "-DOCSTART- -X- O\n\nAda NNP B-PER\nLovelace NNP I-PER\nwrote VBD O\n( ( O\n\nParis NNP B-LOC\n. . O\n";
        let tokens = "{\"tokens\":[\"Ada\",\"Lovelace\",\"wrote\",\"(\"],\"tags\":[\"B-PER\",\"I-PER\",\"O\",\"O\"]}\n\
                      {\"tokens\":[\"Paris\",\".\"],\"tags\":[\"B-LOC\",\"O\"]}\n";
        let spans = "{\"text\":\"Ada Lovelace wrote (\",\"spans\":[{\"start\":0,\"end\":12,\"label\":\"PER\"}]}\n\
                     {\"text\":\"Paris.\",\"spans\":[[0,5,\"LOC\"]]}\n";
        for (name, text) in [("a.txt", columns), ("a.conll", columns), ("a.jsonl", tokens), ("b.jsonl", spans)] {
            assert_eq!(with(name, text, LABELLED), Ok(expected.clone()), "{name}");
        }
        let second = Wanted { label: Some("2"), ..LABELLED };
        assert_eq!(with("a.txt", columns, second).unwrap()[1].1, "NNP .");
        let plain = Wanted { labels: false, ..LABELLED };
        let of = |text: &str| -> Vec<String> {
            with("a.txt", text, plain).unwrap().into_iter().map(|(words, _)| words).collect()
        };
        assert_eq!(of("Ada\nLovelace\n\nParis.\n"), ["Ada Lovelace", "Paris."]);
        assert_eq!(of("Ada\nParis.\n"), ["Ada", "Paris ."]);
        assert_eq!(words("\"It's here,\" he said..."), ["\"", "It's", "here", ",", "\"", "he", "said", ".", ".", "."]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (name, text, wanted, said) in [
            ("a.txt", "a X\nb\n", LABELLED, "line 2: it has 1 column, and 2 are expected"),
            ("a.txt", "a\n", LABELLED, "line 1: it has 1 column, and two at least"),
            ("a.txt", "a X\n", Wanted { label: Some("3"), ..LABELLED }, "line 1: it has 2 columns; name two"),
            ("a.txt", "a X\n", Wanted { label: Some("x"), ..LABELLED }, "`label` is the number of a column"),
            ("a.csv", "a,X\n", LABELLED, "a table of commas"),
            (
                "a.jsonl",
                "{\"tokens\":[\"a\",\"b\"],\"tags\":[\"X\"]}\n",
                LABELLED,
                "a list of 2 labels, one for each word, found 1",
            ),
            ("a.jsonl", "{\"text\":\"abc\",\"spans\":[[1,9,\"X\"]]}\n", LABELLED, "the span 1 to 9 (X)"),
            ("a.jsonl", "{\"text\":\"abc\"}\n", LABELLED, "spans should be a list of spans"),
            ("a.txt", "\n\n", LABELLED, "has no sentences"),
        ] {
            let error = with(name, text, wanted).unwrap_err();
            assert!(error.contains(said), "{error}\n{said}");
        }
    }
}
