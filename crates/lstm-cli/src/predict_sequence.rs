//! `lstm predict` with a model over sequences: the label of each text or word, and how sure of it the model is.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lstm::run::TaskKind;
use lstm::sequence::Pooling;
use lstm::sequence::read::{Form, Wanted, read_file, read_line};
use lstm::sequence::read_tags::{read_sentences, words};
use lstm::sequence::saved::{LoadedSequence, Prediction};
use serde_json::{Map, Value, json};

use crate::output::{cell, talk, use_threads};
use crate::predict::Predict;
use crate::predict_numbers;

/// The texts that are predicted together.
const TOGETHER: usize = 4096;

/// Predicts and prints.
pub fn run(options: &Predict) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let run = LoadedSequence::open(&options.model)?;
    if options.attention && run.config.model.pooling != Some(Pooling::Attention) {
        bail!("--attention is of a model that is pooled by attention, and this one is not; leave it out");
    }
    let out = std::io::stdout().lock();
    if run.config.model.numbers.is_some() {
        return predict_numbers::run(&run, options, out);
    }
    let mut writer = Answers { run: &run, options, sentences: 0, out };
    writer.begin()?;
    if options.file == Path::new("-") {
        stream(&mut writer)?;
    } else {
        file(&mut writer)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A file: many texts at once.
fn file(writer: &mut Answers<impl Write>) -> Result<()> {
    let (run, options) = (writer.run, writer.options);
    let form = Form::of(&options.file);
    if run.config.task == TaskKind::Tag {
        return sentences(writer);
    }
    if form == Form::Lines && options.text.is_some() {
        bail!(
            "--text names a column, and {} is read as lines of text, which have none; leave it out",
            options.file.display()
        );
    }
    let wanted = Wanted {
        text: options.text.as_deref().or(run.config.data.text.as_deref()),
        lossy: options.lossy,
        ..Wanted::default()
    };
    let mut texts: Vec<String> = read_file(&options.file, wanted)?.into_iter().map(|record| record.text).collect();
    if form == Form::Lines && has_labels(run, &texts) {
        talk("note     every line begins with a label of the model, which is not read as text");
        let second = |text: &String| text.split_once(char::is_whitespace).map_or("", |(_, text)| text).to_owned();
        texts = texts.iter().map(second).collect();
    }
    for texts in texts.chunks(TOGETHER) {
        writer.answer(texts)?;
    }
    Ok(())
}

/// A file of sentences: columns with the model's labels, JSON lines, or a sentence a line.
fn sentences(writer: &mut Answers<impl Write>) -> Result<()> {
    let (run, options) = (writer.run, writer.options);
    let own = &run.config.data;
    let wanted = |labels| Wanted {
        text: options.text.as_deref().or(own.text.as_deref()),
        label: own.label.as_deref(),
        labels,
        lossy: options.lossy,
        ..Wanted::default()
    };
    let labelled = read_sentences(&options.file, wanted(true)).ok().filter(|records| {
        let known = |label: &String| run.config.labels.contains(label);
        Form::of(&options.file) != Form::JsonLines && records.iter().all(|record| record.labels.iter().all(known))
    });
    let records = match labelled {
        Some(records) => {
            talk("note     it has columns with labels of the model, which are not read as words");
            records
        }
        None => read_sentences(&options.file, wanted(false))?,
    };
    let sentences: Vec<Vec<String>> = records.into_iter().map(|record| record.words).collect();
    for sentences in sentences.chunks(TOGETHER) {
        writer.answer_words(sentences)?;
    }
    Ok(())
}

/// Whether every line begins with one of the labels, and goes on.
fn has_labels(run: &LoadedSequence, texts: &[String]) -> bool {
    texts.iter().all(|text| {
        let label = text.split_once(char::is_whitespace).map(|(label, _)| label);
        label.is_some_and(|label| run.config.labels.iter().any(|known| known == label))
    })
}

/// Standard input: a line, an answer.
fn stream(writer: &mut Answers<impl Write>) -> Result<()> {
    let mut input = std::io::stdin().lock();
    let (mut bytes, mut number) = (Vec::new(), 0);
    loop {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        number += 1;
        let line = match std::str::from_utf8(&bytes) {
            Ok(line) => line.to_owned(),
            Err(_) if writer.options.lossy => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => bail!("line {number} of standard input is not UTF-8; --lossy replaces such bytes"),
        };
        let line = line.trim_end_matches(['\n', '\r']);
        // A key makes lines of standard input JSON objects.
        let form = if writer.options.text.is_some() { Form::JsonLines } else { Form::Lines };
        let text = read_line(line, form, writer.options.text.as_deref())?;
        if writer.run.config.task == TaskKind::Tag {
            writer.answer_words(&[words(&text)])?;
        } else {
            writer.answer(&[text])?;
        }
        writer.out.flush()?;
    }
}

/// Where answers go, in one form.
struct Answers<'a, W> {
    run: &'a LoadedSequence,
    options: &'a Predict,
    /// The sentences answered so far.
    sentences: usize,
    out: W,
}

impl<W: Write> Answers<'_, W> {
    /// The header of CSV.
    fn begin(&mut self) -> Result<()> {
        if self.run.config.task == TaskKind::Tag {
            if !self.options.json {
                writeln!(self.out, "sentence,word,label,probability")?;
            }
        } else if !self.options.json {
            header(self.run, &mut self.out)?;
        }
        Ok(())
    }

    /// The labels of the words of sentences: a row a word, or an object a sentence.
    fn answer_words(&mut self, sentences: &[Vec<String>]) -> Result<()> {
        let labels = &self.run.config.labels;
        for (words, prediction) in sentences.iter().zip(self.run.tag(sentences)?) {
            self.sentences += 1;
            let tags = prediction.tags(labels.len());
            let sure = |at: usize| prediction.probabilities[at * labels.len() + tags[at]];
            let read = words.len().min(tags.len());
            if read < words.len() {
                let longest = self.run.config.longest;
                talk(format_args!(
                    "note     sentence {} has more than {longest} words, the rest of which has no labels",
                    self.sentences
                ));
            }
            if self.options.json {
                let named: Vec<&str> = tags[..read].iter().map(|tag| labels[*tag].as_str()).collect();
                let shares: Vec<f32> = (0..read).map(sure).collect();
                writeln!(self.out, "{}", json!({"tokens": words, "tags": named, "probabilities": shares}))?;
                continue;
            }
            for (at, word) in words.iter().take(read).enumerate() {
                let label = cell(&labels[tags[at]]);
                writeln!(self.out, "{},{},{label},{:.4}", self.sentences, cell(word), sure(at))?;
            }
        }
        Ok(())
    }

    fn answer(&mut self, texts: &[String]) -> Result<()> {
        let predictions = self.run.predict(texts)?;
        for (text, prediction) in texts.iter().zip(&predictions) {
            if !self.options.json {
                row(self.run, prediction, &mut self.out)?;
                continue;
            }
            let mut object = object(self.run, prediction);
            if self.options.attention {
                let tokens = self.run.tokens(text)?;
                object["attention"] =
                    tokens.iter().zip(&prediction.attention).map(|(token, weight)| json!([token, weight])).collect();
            }
            writeln!(self.out, "{object}")?;
        }
        Ok(())
    }
}

/// The header of CSV: the label and those of the probabilities, or the names of the numbers.
pub fn header(run: &LoadedSequence, out: &mut impl Write) -> Result<()> {
    let names = run.config.labels.iter().map(|label| cell(label)).collect::<Vec<_>>().join(",");
    let label = if run.config.task == TaskKind::Regress { "" } else { "label," };
    Ok(writeln!(out, "{label}{names}")?)
}

/// What is said of an example, as a row of CSV.
pub fn row(run: &LoadedSequence, prediction: &Prediction, out: &mut impl Write) -> Result<()> {
    let labels = &run.config.labels;
    if run.config.task == TaskKind::Regress {
        let numbers = run.said(prediction).into_iter().map(|number| (number as f32).to_string());
        return Ok(writeln!(out, "{}", numbers.collect::<Vec<_>>().join(","))?);
    }
    let label = if run.config.several {
        let said = prediction.likely().into_iter().map(|at| labels[at].as_str());
        said.collect::<Vec<_>>().join(run.config.data.separator.as_deref().unwrap_or(","))
    } else {
        labels[prediction.best()].clone()
    };
    let shares = prediction.probabilities.iter().map(|share| format!("{share:.4}"));
    Ok(writeln!(out, "{},{}", cell(&label), shares.collect::<Vec<_>>().join(","))?)
}

/// The same as a JSON object.
pub fn object(run: &LoadedSequence, prediction: &Prediction) -> Value {
    let labels = &run.config.labels;
    if run.config.task == TaskKind::Regress {
        let numbers: Map<_, _> = labels
            .iter()
            .zip(run.said(prediction))
            .map(|(name, number)| (name.clone(), json!(number as f32)))
            .collect();
        return json!({ "numbers": numbers });
    }
    let shares: Map<_, _> =
        labels.iter().zip(&prediction.probabilities).map(|(label, share)| (label.clone(), json!(share))).collect();
    let mut object = json!({ "probabilities": shares });
    if run.config.several {
        object["labels"] = prediction.likely().into_iter().map(|at| labels[at].as_str()).collect();
    } else {
        object["label"] = labels[prediction.best()].as_str().into();
    }
    object
}
