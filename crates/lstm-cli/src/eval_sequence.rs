//! `lstm eval` of a model over sequences: how well it tells labels apart, or says numbers, with the baselines beside every figure.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use lstm::measures::bag_of_words::{BagOfWords, frequencies, most_frequent_tags};
use lstm::measures::classes::ClassMeasures;
use lstm::measures::entities::{EntityMeasures, are_entities};
use lstm::report::Results;
use lstm::run::TaskKind;
use lstm::run::saved::Origin;
use lstm::sequence::baseline::nearest;
use lstm::sequence::config::SequenceConfig;
use lstm::sequence::data::{Examples, SequenceDataset};
use lstm::sequence::saved::LoadedSequence;
use serde_json::{Value, json};

use crate::eval::Eval;
use crate::eval_regress::MeasuredNumbers;
use crate::output::{best, count, talk, use_threads};
use crate::progress::during;

/// The widths of the columns of figures.
const WIDTHS: [usize; 8] = [9, 9, 9, 7, 7, 9, 9, 9];

/// The figures of one who predicts.
struct Figures {
    classes: ClassMeasures,
    /// Of labels of entities.
    entities: Option<EntityMeasures>,
}

/// A model on some examples, and what the baselines reach on them.
pub enum Measured {
    /// Of labels.
    Labels(Box<MeasuredLabels>),
    /// Of numbers.
    Numbers(MeasuredNumbers),
}

/// Measures a model, and baselines of its training data where those are at hand.
pub fn measure(run: &LoadedSequence, examples: &Examples, data: Option<&SequenceDataset>) -> Measured {
    match run.config.task {
        TaskKind::Regress => Measured::Numbers(MeasuredNumbers::of(run, examples, data)),
        _ => Measured::Labels(Box::new(measure_labels(run, examples, data))),
    }
}

impl Measured {
    /// As a JSON object.
    pub fn json(&self, config: &SequenceConfig) -> Value {
        match self {
            Self::Labels(measured) => measured.json(config),
            Self::Numbers(measured) => measured.json(),
        }
    }

    /// The same for the page of a run: on its part `name`.
    pub fn results(&self, name: &str, config: &SequenceConfig) -> Results {
        match self {
            Self::Labels(measured) => measured.results(name, config),
            Self::Numbers(measured) => measured.results(name),
        }
    }

    /// A table of the model and the baselines on the data `name`.
    pub fn print(&self, out: &mut impl Write, name: &str, config: &SequenceConfig) -> Result<()> {
        match self {
            Self::Labels(measured) => measured.print(out, name, config),
            Self::Numbers(measured) => measured.print(out, name),
        }
    }
}

/// A model of labels on some examples, and what the baselines reach on them.
pub struct MeasuredLabels {
    model: Figures,
    /// None where the training data are not at hand.
    baselines: Option<[(String, Figures); 2]>,
    seconds: f64,
}

fn measure_labels(run: &LoadedSequence, examples: &Examples, data: Option<&SequenceDataset>) -> MeasuredLabels {
    let (sequences, classes) = (&examples.sequences, run.config.labels.len());
    let started = Instant::now();
    let predictions = run.predict_sequences(sequences);
    let seconds = started.elapsed().as_secs_f64();
    let measured = |predict: &dyn Fn(usize) -> Vec<f32>| of_examples(&run.config, examples, predict);
    let model = measured(&|at| predictions[at].probabilities.clone());
    let baselines = data.map(|data| {
        let train = &data.train;
        let labels = (0..train.sequences.len()).map(|at| train.sequences.labels(at));
        let shares = match run.config.task {
            TaskKind::Tag => frequencies(labels.clone().flat_map(|labels| labels.chunks(1)), classes),
            _ => frequencies(labels.clone(), classes),
        };
        let sure = |label: u32| (0..classes).map(move |at| f32::from(u8::from(at == label as usize)));
        let most_frequent = "most frequent label".to_owned();
        if run.config.task == TaskKind::Tag {
            let of_words = train.words.iter().map(Vec::as_slice);
            let tag = most_frequent_tags(of_words.zip(labels), classes);
            let of_words = |at: usize| examples.words[at].iter().flat_map(|word| sure(tag(word))).collect();
            [
                (most_frequent, measured(&|at| shares.repeat(sequences.labels(at).len()))),
                ("most frequent of word".to_owned(), measured(&of_words)),
            ]
        } else if run.config.model.numbers.is_some() {
            let (name, labels) = nearest(&run.config, data, examples);
            [(most_frequent, measured(&|_| shares.clone())), (name, measured(&|at| sure(labels[at]).collect()))]
        } else {
            let texts = train.texts.iter().map(String::as_str);
            let bag = BagOfWords::fit(texts.zip(labels), classes, run.config.several);
            [
                (most_frequent, measured(&|_| shares.clone())),
                ("bag of words".to_owned(), measured(&|at| bag.predict(&examples.texts[at]))),
            ]
        }
    });
    MeasuredLabels { model, baselines, seconds }
}

/// The figures of one who predicts these probabilities of each example, `[C]` or `[words, C]`.
fn of_examples(config: &SequenceConfig, examples: &Examples, predict: &dyn Fn(usize) -> Vec<f32>) -> Figures {
    let (sequences, classes) = (&examples.sequences, config.labels.len());
    let mut measures = ClassMeasures::new(classes);
    let is_tagged = config.task == TaskKind::Tag;
    let mut entities =
        (is_tagged && are_entities(config.labels.iter().map(String::as_str))).then(EntityMeasures::default);
    for at in 0..sequences.len() {
        let (probabilities, labels) = (predict(at), sequences.labels(at));
        if is_tagged {
            let name = |label: usize| config.labels[label].as_str();
            let mut predicted = Vec::new();
            for (probabilities, label) in probabilities.chunks(classes).zip(labels) {
                measures.add(probabilities, *label as usize);
                let likeliest = (0..classes).rev().max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
                predicted.push(name(likeliest.unwrap_or(0)));
            }
            if let Some(entities) = &mut entities {
                let right: Vec<&str> = labels.iter().map(|label| name(*label as usize)).collect();
                entities.add(&right, &predicted);
            }
        } else if config.several {
            measures.add_several(&probabilities, labels);
        } else {
            measures.add(&probabilities, labels[0] as usize);
        }
    }
    Figures { classes: measures, entities }
}

impl Figures {
    /// The figure by which models are compared.
    fn first(&self, several: bool) -> f64 {
        match &self.entities {
            Some(entities) => entities.all().f1,
            None if several => self.classes.micro_f1(),
            None => self.classes.accuracy(),
        }
    }

    fn json(&self) -> Value {
        let mut object = json!({
            "accuracy": self.classes.accuracy(),
            "macro_f1": self.classes.macro_f1(),
            "micro_f1": self.classes.micro_f1(),
            "ece": self.classes.calibration_error(),
            "loss": self.classes.loss(),
        });
        if let Some(entities) = &self.entities {
            object["entities"] = json!(entities.all());
        }
        object
    }

    /// The figures as they are read, in the order of the table's head.
    fn cells(&self) -> Vec<String> {
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        let classes = &self.classes;
        let shares = [classes.accuracy(), classes.macro_f1(), classes.micro_f1(), classes.calibration_error()];
        let entities = self.entities.iter().flat_map(|entities| {
            let score = entities.all();
            [score.precision, score.recall, score.f1].map(percent)
        });
        shares.map(percent).into_iter().chain([format!("{:.3}", classes.loss())]).chain(entities).collect()
    }

    fn row(&self, name: &str) -> String {
        let cells = self.cells().into_iter().zip(WIDTHS).map(|(cell, width)| format!(" {cell:>width$}"));
        format!("{name:<25}{}", cells.collect::<String>())
    }
}

impl MeasuredLabels {
    /// The baselines that are no worse.
    fn unbeaten(&self, several: bool) -> Vec<&str> {
        let own = self.model.first(several);
        let baselines = self.baselines.iter().flatten();
        baselines.filter(|(_, figures)| figures.first(several) >= own).map(|(name, _)| name.as_str()).collect()
    }

    fn json(&self, config: &SequenceConfig) -> Value {
        let mut object = self.model.json();
        let classes = &self.model.classes;
        object["examples"] = classes.examples().into();
        object["seconds"] = self.seconds.into();
        let labels = config.labels.iter().enumerate();
        object["labels"] = labels.map(|(at, label)| (label.clone(), json!(classes.of_class(at)))).collect();
        if let Some(entities) = &self.model.entities {
            object["types"] = entities.of_types().map(|(kind, score)| (kind.to_owned(), json!(score))).collect();
        }
        if !config.several {
            object["confusion"] = classes.confusion().map(|row| json!(row)).collect();
        }
        object["baselines"] = match &self.baselines {
            Some(baselines) => baselines.iter().map(|(name, figures)| (name.clone(), figures.json())).collect(),
            None => Value::Null,
        };
        object["beats_baselines"] = self.baselines.as_ref().map(|_| self.unbeaten(config.several).is_empty()).into();
        object
    }

    /// The names of the figures.
    fn head(&self, config: &SequenceConfig) -> Vec<&'static str> {
        let first = if config.several { "all right" } else { "accuracy" };
        let entities: &[&str] = if self.model.entities.is_some() { &["precision", "recall", "entity F1"] } else { &[] };
        [first, "macro F1", "micro F1", "ECE", "loss"].into_iter().chain(entities.iter().copied()).collect()
    }

    fn results(&self, name: &str, config: &SequenceConfig) -> Results {
        let row = |name: &str, figures: &Figures| [name.to_owned()].into_iter().chain(figures.cells()).collect();
        let baselines = self.baselines.iter().flatten().map(|(name, figures)| row(name, figures));
        let unbeaten = self.unbeaten(config.several);
        let first = match (&self.model.entities, config.several) {
            (Some(_), _) => "entity F1",
            (None, true) => "micro F1",
            (None, false) => "accuracy",
        };
        Results {
            part: name.to_owned(),
            headline: (first.to_owned(), format!("{:.2} %", 100.0 * self.model.first(config.several))),
            head: self.head(config).into_iter().map(str::to_owned).collect(),
            rows: [row("model", &self.model)].into_iter().chain(baselines).collect(),
            said: match unbeaten.is_empty() {
                true => String::new(),
                false => format!("The model does not beat the baseline: {}.", unbeaten.join(", ")),
            },
        }
    }

    fn print(&self, out: &mut impl Write, name: &str, config: &SequenceConfig) -> Result<()> {
        let thing = if config.task == TaskKind::Tag { "word" } else { "example" };
        let examples = count(self.model.classes.examples(), thing);
        let head = self.head(config).into_iter().zip(WIDTHS).map(|(name, width)| format!(" {name:>width$}"));
        writeln!(out, "{:<25}{}", format!("{name}, {examples}"), head.collect::<String>())?;
        writeln!(out, "{}", self.model.row("  model"))?;
        for (name, figures) in self.baselines.iter().flatten() {
            writeln!(out, "{}", figures.row(&format!("  {name}")))?;
        }
        let unbeaten = self.unbeaten(config.several);
        if !unbeaten.is_empty() {
            writeln!(out, "  the model does not beat the baseline: {}", unbeaten.join(", "))?;
        }
        Ok(())
    }

    /// How each label fares, and which are taken for which.
    fn print_labels(&self, out: &mut impl Write, config: &SequenceConfig) -> Result<()> {
        const MOST_COLUMNS: usize = 12;
        let widest = config.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(6);
        writeln!(out, "{:<widest$} {:>9} {:>7} {:>7} {:>9}", "label", "precision", "recall", "F1", "examples")?;
        let labels = config.labels.iter().enumerate().map(|(at, label)| (&label[..], self.model.classes.of_class(at)));
        let scores: Vec<_> = match &self.model.entities {
            Some(entities) => entities.of_types().collect(),
            None => labels.collect(),
        };
        for (label, score) in scores {
            let [precision, recall, f1] = [score.precision, score.recall, score.f1].map(|share| 100.0 * share);
            writeln!(out, "{label:<widest$} {precision:>9.2} {recall:>7.2} {f1:>7.2} {:>9}", score.support)?;
        }
        if config.several || config.labels.len() > MOST_COLUMNS {
            return Ok(());
        }
        let names = config.labels.iter().map(|label| format!(" {label:>widest$}")).collect::<String>();
        writeln!(out, "{:<widest$}{names}   (columns: predicted)", "")?;
        for (label, row) in config.labels.iter().zip(self.model.classes.confusion()) {
            let counts = row.iter().map(|count| format!(" {count:>widest$}")).collect::<String>();
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
            let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
            (name, &read)
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
    if examples.cut > 0 {
        talk(format_args!(
            "note     of {} only the first {} tokens, or steps, are read and measured",
            count(examples.cut as u64, "example"),
            run.config.longest
        ));
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
    if let Measured::Labels(measured) = &measured {
        measured.print_labels(&mut out, &run.config)?;
    }
    writeln!(out, "model    {}", best(run.card.epoch, run.card.step))?;
    Ok(ExitCode::SUCCESS)
}
