//! `lstm eval` of a model over sequences: how well it tells labels apart, with the baselines beside every figure.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use lstm::measures::bag_of_words::{BagOfWords, frequencies};
use lstm::measures::classes::ClassMeasures;
use lstm::run::saved::Origin;
use lstm::sequence::config::SequenceConfig;
use lstm::sequence::data::{Examples, SequenceDataset};
use lstm::sequence::saved::LoadedSequence;
use serde_json::{Value, json};

use crate::eval::Eval;
use crate::output::{best, count, talk, use_threads};
use crate::progress::during;

/// A model on some examples, and what counting reaches on them.
pub struct Measured {
    model: ClassMeasures,
    /// The most frequent label, and a logistic regression; none where the training data are not at hand.
    baselines: Option<[(&'static str, ClassMeasures); 2]>,
    seconds: f64,
}

/// Measures a model, and baselines of its training data where those are at hand.
pub fn measure(run: &LoadedSequence, examples: &Examples, data: Option<&SequenceDataset>) -> Measured {
    let (sequences, classes, several) = (&examples.sequences, run.config.labels.len(), run.config.several);
    let measured = |predict: &mut dyn FnMut(usize) -> Vec<f32>| {
        let mut measures = ClassMeasures::new(classes);
        for at in 0..sequences.len() {
            let probabilities = predict(at);
            match sequences.labels(at) {
                labels if several => measures.add_several(&probabilities, labels),
                labels => measures.add(&probabilities, labels[0] as usize),
            }
        }
        measures
    };
    let started = Instant::now();
    let predictions = run.predict_sequences(sequences);
    let model = measured(&mut |at| predictions[at].probabilities.clone());
    let seconds = started.elapsed().as_secs_f64();
    let baselines = data.map(|data| {
        let train = &data.train;
        let labels = (0..train.sequences.len()).map(|at| train.sequences.labels(at));
        let shares = frequencies(labels.clone(), classes);
        let bag = BagOfWords::fit(train.texts.iter().map(String::as_str).zip(labels), classes, several);
        [
            ("most frequent label", measured(&mut |_| shares.clone())),
            ("bag of words", measured(&mut |at| bag.predict(&examples.texts[at]))),
        ]
    });
    Measured { model, baselines, seconds }
}

impl Measured {
    /// The baselines that are no worse.
    fn unbeaten(&self, several: bool) -> Vec<&'static str> {
        let figure = |measures: &ClassMeasures| if several { measures.micro_f1() } else { measures.accuracy() };
        let baselines = self.baselines.iter().flatten();
        baselines.filter(|(_, measures)| figure(measures) >= figure(&self.model)).map(|(name, _)| *name).collect()
    }

    /// As a JSON object.
    pub fn json(&self, config: &SequenceConfig) -> Value {
        let figures = |measures: &ClassMeasures| {
            json!({
                "accuracy": measures.accuracy(),
                "macro_f1": measures.macro_f1(),
                "micro_f1": measures.micro_f1(),
                "ece": measures.calibration_error(),
                "loss": measures.loss(),
            })
        };
        let mut object = figures(&self.model);
        object["examples"] = self.model.examples().into();
        object["seconds"] = self.seconds.into();
        object["labels"] = config
            .labels
            .iter()
            .enumerate()
            .map(|(at, label)| (label.clone(), json!(self.model.of_class(at))))
            .collect();
        if !config.several {
            object["confusion"] = self.model.confusion().map(|row| json!(row)).collect();
        }
        object["baselines"] = match &self.baselines {
            Some(baselines) => {
                baselines.iter().map(|(name, measures)| ((*name).to_owned(), figures(measures))).collect()
            }
            None => Value::Null,
        };
        object["beats_baselines"] = self.baselines.as_ref().map(|_| self.unbeaten(config.several).is_empty()).into();
        object
    }

    /// A table of the model and the baselines on the data `name`.
    pub fn print(&self, out: &mut impl Write, name: &str, config: &SequenceConfig) -> Result<()> {
        let examples = count(self.model.examples(), "example");
        let head = if config.several { "all right" } else { "accuracy" };
        writeln!(
            out,
            "{:<22} {head:>9} {:>9} {:>9} {:>7} {:>7}",
            format!("{name}, {examples}"),
            "macro F1",
            "micro F1",
            "ECE",
            "loss"
        )?;
        let row = |name: &str, measures: &ClassMeasures| {
            let percent = |share: f64| format!("{:.2}", 100.0 * share);
            format!(
                "{name:<22} {:>9} {:>9} {:>9} {:>7} {:>7.3}",
                percent(measures.accuracy()),
                percent(measures.macro_f1()),
                percent(measures.micro_f1()),
                percent(measures.calibration_error()),
                measures.loss()
            )
        };
        writeln!(out, "{}", row("  model", &self.model))?;
        for (name, measures) in self.baselines.iter().flatten() {
            writeln!(out, "{}", row(&format!("  {name}"), measures))?;
        }
        let unbeaten = self.unbeaten(config.several);
        if !unbeaten.is_empty() {
            writeln!(out, "  the model does not beat the {}", unbeaten.join(" and the "))?;
        }
        Ok(())
    }

    /// How each label fares, and which are taken for which.
    fn print_labels(&self, out: &mut impl Write, config: &SequenceConfig) -> Result<()> {
        const MOST_COLUMNS: usize = 12;
        let widest = config.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(5);
        writeln!(out, "{:<widest$} {:>9} {:>7} {:>7} {:>9}", "label", "precision", "recall", "F1", "examples")?;
        for (at, label) in config.labels.iter().enumerate() {
            let score = self.model.of_class(at);
            let [precision, recall, f1] = [score.precision, score.recall, score.f1].map(|share| 100.0 * share);
            writeln!(out, "{label:<widest$} {precision:>9.2} {recall:>7.2} {f1:>7.2} {:>9}", score.support)?;
        }
        if config.several || config.labels.len() > MOST_COLUMNS {
            return Ok(());
        }
        let width = widest.max(6);
        let names = config.labels.iter().map(|label| format!(" {label:>width$}")).collect::<String>();
        writeln!(out, "{:<widest$}{names}   (columns: predicted)", "")?;
        for (label, row) in config.labels.iter().zip(self.model.confusion()) {
            let counts = row.iter().map(|count| format!(" {count:>width$}")).collect::<String>();
            writeln!(out, "{label:<widest$}{counts}")?;
        }
        Ok(())
    }
}

/// Evaluates and prints.
pub fn run(options: &Eval) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let run = LoadedSequence::open(&options.run)?;
    let data = match &run.origin {
        Origin::Run(_) => Some(during("reading the training data", || run.data())),
        Origin::File(_) => None,
    };
    let read;
    let (name, examples) = match (&options.file, &data) {
        (Some(file), _) => {
            read = run.read(file)?;
            (file.display().to_string(), &read)
        }
        (None, None) => bail!(
            "{} is a model by itself, without data of its own; give the data to measure it on, or the folder of its run",
            options.run.display()
        ),
        (None, Some(Err(error))) => bail!("{error}"),
        (None, Some(Ok(data))) => match (&data.test, &data.valid) {
            (Some(test), _) => ("test".to_owned(), test),
            (None, Some(valid)) => ("valid".to_owned(), valid),
            (None, None) => bail!("{} has no data to measure it on; give them", options.run.display()),
        },
    };
    if let Some(Err(error)) = &data {
        talk(format_args!("note     no baselines: {error}"));
    }
    if data.is_none() {
        talk(
            "note     no baselines: a model file does not say where its training data lie; the folder of its run does",
        );
    }
    let training = data.as_ref().and_then(|data| data.as_ref().ok());
    let measured = during("measuring", || measure(&run, examples, training));
    let mut out = std::io::stdout().lock();
    if options.json {
        let mut result = measured.json(&run.config);
        result["task"] = json!(run.config.task);
        result["model"] = json!({"epoch": run.card.epoch, "step": run.card.step});
        writeln!(out, "{result}")?;
        return Ok(ExitCode::SUCCESS);
    }
    measured.print(&mut out, &name, &run.config)?;
    measured.print_labels(&mut out, &run.config)?;
    writeln!(out, "model    {}", best(run.card.epoch, run.card.step))?;
    Ok(ExitCode::SUCCESS)
}
