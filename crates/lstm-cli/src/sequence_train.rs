//! `lstm train --task classify` and `tag`: from labelled texts or words to a trained model.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, anyhow, bail};
use lstm::nn::config::{HiddenSizes, InitScheme, Wiring};
use lstm::optim::parts::Frozen;
use lstm::run::TaskKind;
use lstm::run::fine_tuning::VocabularyChange;
use lstm::sequence::Pooling;
use lstm::sequence::config::{ClassWeights, SequenceConfig};
use lstm::sequence::data::SequenceDataset;
use lstm::sequence::plan::SequencePlan;
use lstm::sequence::saved::LoadedSequence;
use lstm::sequence::task::SequenceTask;
use lstm::text::tokenizer::TokenizerKind;
use lstm::train::event::{End, Outcome};
use lstm::train::pretrained::{Inherited, Pretrained};
use lstm::train::task::Task as _;
use lstm::train::trainer::Trainer;
use serde_json::{Value, json};

use crate::eval_sequence::{Measured, measure};
use crate::output::{best, count, grouped, talk, use_threads};
use crate::progress::during;
use crate::signals::Signals;
use crate::task_options::{TaskRun, TaskTraining, extension};
use crate::task_train::{Kept, absolute, describe, drive};
use crate::train_options::{LengthOptions, Shares, set, shares};

/// The options of `lstm train` of a task over sequences.
#[derive(clap::Args)]
#[command(about = "Train a model that gives each text, or each word, a label")]
pub struct TrainSequence {
    /// The labelled texts: CSV or TSV with a header, JSON lines, lines of a label and a text, each also compressed (.gz, .zst); or a
    /// folder with a folder for each class. Labelled words: columns with white space between them, a word a line and an empty line
    /// between sentences; JSON lines of tokens and tags, or of a text and spans
    file: Option<PathBuf>,
    /// What is learned: classify, a label for each text; tag, a label for each word
    #[arg(long, value_name = "TASK")]
    task: Option<TaskKind>,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    fine_tuning: FineTuningOptions,
    #[command(flatten)]
    regularisation: RegularisationOptions,
    #[command(flatten)]
    training: TaskTraining,
    #[command(flatten)]
    length: LengthOptions,
    #[command(flatten)]
    run: TaskRun,
}

/// What is read.
#[derive(clap::Args)]
#[command(next_help_heading = "Data")]
struct DataOptions {
    /// The data to watch the training with [default: a tenth of the training data, of each label the same share]
    #[arg(long)]
    valid: Option<PathBuf>,
    /// The data to measure the result with [default: none; of a folder with parts its test folder]
    #[arg(long)]
    test: Option<PathBuf>,
    /// Percentages for training, validation and test [default: 90/10/0]
    #[arg(long, value_parser = shares, value_name = "A/B/C")]
    split: Option<Shares>,
    /// The column, or the key, of the text; of columns without a header a number [default: text; the first]
    #[arg(long, value_name = "COL")]
    text: Option<String>,
    /// The column, or the key, of the label; of columns without a header a number [default: label; the last]
    #[arg(long, value_name = "COL")]
    label: Option<String>,
    /// Let an example have several labels, or none, with this between them, and predict each by itself [default: exactly one]
    #[arg(long, value_name = "STRING")]
    separator: Option<String>,
    /// What a token is: words, chars, bytes, or subwords that are trained on the texts: bpe, unigram, wordpiece
    #[arg(long, value_name = "KIND")]
    tokenizer: Option<TokenizerKind>,
    /// Rarer tokens become <unk>
    #[arg(long)]
    min_count: Option<u64>,
    /// Keep only the most frequent tokens; make so many subwords
    #[arg(long)]
    vocab_size: Option<usize>,
    /// Read capital letters as small ones; --lower-case=false undoes it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    lower_case: Option<bool>,
    /// Make the punctuation around words words of their own; --split-punctuation=false undoes it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    split_punctuation: Option<bool>,
    /// Read at most so many tokens of a text, its first
    #[arg(long, value_name = "TOKENS")]
    longest: Option<usize>,
    /// Replace bytes that are not UTF-8 [default: refuse them]
    #[arg(long)]
    lossy: bool,
}

/// What the model is.
#[derive(clap::Args)]
#[command(next_help_heading = "Model")]
struct ModelOptions {
    /// Number of layers
    #[arg(long)]
    layers: Option<usize>,
    /// Hidden size of each direction, or one for each layer such as 200,100
    #[arg(long)]
    hidden: Option<HiddenSizes>,
    /// Embedding size
    #[arg(long)]
    embedding: Option<usize>,
    /// Size of four vectors beside a word's embedding, of its first letters, its last two and three, and its shape; 0 for none
    #[arg(long, value_name = "SIZE")]
    spelling: Option<usize>,
    /// Let every layer also run from the last token to the first; --bidirectional=false undoes it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    bidirectional: Option<bool>,
    /// What a layer takes from the one below: stacked, skip
    #[arg(long)]
    wiring: Option<Wiring>,
    /// How the steps of a text become one vector: last, mean, max, attention, or concat, the first three one behind the other
    #[arg(long)]
    pooling: Option<Pooling>,
    /// Initial values: torch, uniform(a), ones-bias
    #[arg(long)]
    init: Option<InitScheme>,
    /// Sum of the forget gate's biases at the start
    #[arg(long)]
    forget_bias: Option<f32>,
}

/// The language model that it starts from, and how the parts of it are trained.
#[derive(clap::Args)]
#[command(next_help_heading = "Fine-tuning")]
struct FineTuningOptions {
    /// Start from this trained language model, a run folder or a model file: with its embedding, its layers and its kind of tokens, in one
    /// direction, at rates that fall from part to part [default: a model of its own]
    #[arg(long, value_name = "MODEL")]
    from: Option<PathBuf>,
    /// What becomes of the model's vocabulary of words, chars or bytes: keep, other words of the data are unknown; extend, they come
    /// behind it and start from the mean of all; match, it becomes the data's own, and words that both have keep their values
    /// [default: extend; of subwords keep]
    #[arg(long, value_name = "HOW")]
    vocabulary: Option<VocabularyChange>,
    /// Parts of the model that are never trained, with commas between them: embedding, the numbers of layers from 0 on [default: none]
    #[arg(long, value_name = "PARTS")]
    freeze: Option<Frozen>,
    /// Train each part of the model at this share of the rate of the part above it; the head, which is new, has the whole rate
    /// [default: 0.9]
    #[arg(long, value_name = "SHARE")]
    layer_rate_decay: Option<f32>,
    /// Begin to train each part of the model so many epochs after the one above it; 0 for all at once [default: 0]
    #[arg(long, value_name = "EPOCHS")]
    unfreeze: Option<usize>,
    /// The model, opened.
    #[arg(skip)]
    opened: OnceLock<Pretrained>,
}

impl FineTuningOptions {
    /// The language model, if there is one.
    fn pretrained(&self) -> Result<Option<&Pretrained>> {
        let Some(model) = &self.from else { return Ok(None) };
        if self.opened.get().is_none() {
            let pretrained = match self.vocabulary {
                Some(change) => Pretrained::open(model, change),
                None => Pretrained::open_extending(model),
            };
            let _ = self.opened.set(pretrained.map_err(|error| anyhow!("--from {}: {error}", model.display()))?);
        }
        Ok(self.opened.get())
    }

    fn lay_over(&self, config: &mut SequenceConfig) {
        if let Some(freeze) = &self.freeze {
            config.fine_tuning.freeze = freeze.clone();
        }
        set(&mut config.fine_tuning.layer_rate_decay, self.layer_rate_decay);
        set(&mut config.unfreeze, self.unfreeze);
    }
}

/// What keeps it from learning by heart.
#[derive(clap::Args)]
#[command(next_help_heading = "Regularisation")]
struct RegularisationOptions {
    /// Read so many of the tokens as <unk>, each where it stands
    #[arg(long, value_name = "RATE")]
    dropout_words: Option<f32>,
    /// Drop of the embedding's values
    #[arg(long, value_name = "RATE")]
    dropout_input: Option<f32>,
    /// Drop of what each layer but the last gives to the next
    #[arg(long, value_name = "RATE")]
    dropout_hidden: Option<f32>,
    /// Drop of what is pooled
    #[arg(long, value_name = "RATE")]
    dropout_output: Option<f32>,
    /// Drop of the hidden-to-hidden weights
    #[arg(long, value_name = "RATE")]
    dropout_weights: Option<f32>,
    /// Spread this share of the target over all labels
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f32>,
    /// How much labels weigh: none, every example the same; balanced, every label the same
    #[arg(long, value_name = "HOW")]
    class_weights: Option<ClassWeights>,
}

/// The options whose default is a value of the settings, and where.
const SETTINGS: [(&str, &str); 24] = [
    ("tokenizer", "/tokenizer"),
    ("min-count", "/vocabulary/min_count"),
    ("vocab-size", "/vocabulary/max_size"),
    ("lower-case", "/lower_case"),
    ("split-punctuation", "/split_punctuation"),
    ("longest", "/longest"),
    ("layers", "/model/lstm/layers"),
    ("hidden", "/model/lstm/hidden"),
    ("spelling", "/model/spelling"),
    ("bidirectional", "/model/lstm/bidirectional"),
    ("wiring", "/model/lstm/wiring"),
    ("pooling", "/model/pooling"),
    ("init", "/training/init/scheme"),
    ("forget-bias", "/training/init/forget_bias"),
    ("dropout-words", "/model/dropout/words"),
    ("dropout-input", "/model/dropout/input"),
    ("dropout-hidden", "/model/dropout/hidden"),
    ("dropout-output", "/model/dropout/output"),
    ("dropout-weights", "/model/dropout/weights"),
    ("label-smoothing", "/label_smoothing"),
    ("class-weights", "/class_weights"),
    ("epochs", "/training/epochs"),
    ("patience", "/training/patience"),
    ("clip", "/training/clip"),
];

/// The command with the defaults of its options in their help.
pub fn shown(task: TaskKind, train: clap::Command) -> clap::Command {
    let settings: Vec<(&str, &str)> = SETTINGS.into_iter().chain(TaskTraining::SETTINGS).collect();
    let usual = SequenceConfig::usual(task);
    let train = crate::defaults::shown_by(train, &json!(usual), &settings).mut_arg("embedding", |argument| {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        argument.help(format!("{help} [default: {}]", usual.model.embedding()))
    });
    if task != TaskKind::Tag {
        return train;
    }
    NOT_OF_WORDS.into_iter().fold(train, |train, name| train.mut_arg(name, |argument| argument.hide(true)))
}

/// The options that have no part where each word has a label.
const NOT_OF_WORDS: [&str; 4] = ["separator", "tokenizer", "split_punctuation", "pooling"];

impl TrainSequence {
    /// The settings that the options come to, before the data are read.
    fn config(&self, task: TaskKind) -> Result<SequenceConfig> {
        let usual = SequenceConfig::usual(task);
        self.over(if self.fine_tuning.from.is_some() { usual.fine_tuned() } else { usual })
    }

    /// The options laid over settings.
    fn over(&self, mut config: SequenceConfig) -> Result<SequenceConfig> {
        let task = config.task;
        let given = [
            ("--separator", self.data.separator.is_some()),
            ("--tokenizer", self.data.tokenizer.is_some()),
            ("--split-punctuation", self.data.split_punctuation.is_some()),
            ("--pooling", self.model.pooling.is_some()),
        ];
        if let Some((option, _)) = given.into_iter().find(|(_, given)| *given && task == TaskKind::Tag) {
            bail!(
                "{option} has no part in --task tag: each word of the data is read as it stands and has one label; leave it out"
            );
        }
        if let Some(pretrained) = self.fine_tuning.pretrained()? {
            pretrained.lay_over_sequences(&mut config)?;
            let is_kept = config.fine_tuning.vocabulary == VocabularyChange::Keep;
            let counted =
                [("--min-count", self.data.min_count.is_some()), ("--vocab-size", self.data.vocab_size.is_some())];
            if let Some((option, _)) = counted.into_iter().find(|(_, given)| *given && is_kept) {
                bail!(
                    "{option} and --vocabulary keep contradict each other: no word of the data is counted; leave it out, or choose extend or match"
                );
            }
        }
        let DataOptions { text, label, separator, split, lossy, .. } = &self.data;
        if separator.as_ref().is_some_and(String::is_empty) {
            bail!("--separator is empty; give what stands between labels, such as , or ;");
        }
        config.several = separator.is_some();
        config.data.train = absolute(self.file.as_deref())?;
        config.data.valid = absolute(self.data.valid.as_deref())?;
        config.data.test = absolute(self.data.test.as_deref())?;
        config.data.split = split.clone().map(|shares| shares.0);
        (config.data.text, config.data.label) = (text.clone(), label.clone());
        (config.data.separator, config.data.lossy) = (separator.clone(), *lossy);
        set(&mut config.tokenizer, self.data.tokenizer);
        let (cuts, why) = config.tokenizer.cuts();
        let given = [("--min-count", self.data.min_count.is_some()), ("--vocab-size", self.data.vocab_size.is_some())];
        if let Some(((option, _), _)) = given.into_iter().zip(cuts).find(|((_, given), cuts)| *given && !cuts) {
            bail!("{option} and --tokenizer {} contradict each other: {why}", config.tokenizer);
        }
        if self.data.vocab_size == Some(0) {
            bail!("--vocab-size is 0; it must be at least 1");
        }
        config.vocabulary.min_count = self.data.min_count.or(config.vocabulary.min_count);
        config.vocabulary.max_size = self.data.vocab_size.or(config.vocabulary.max_size);
        set(&mut config.lower_case, self.data.lower_case);
        set(&mut config.split_punctuation, self.data.split_punctuation);
        if self.data.split_punctuation.is_some() && config.tokenizer != TokenizerKind::Words {
            bail!("--split-punctuation and --tokenizer {} contradict each other: it is of words", config.tokenizer);
        }
        set(&mut config.longest, self.data.longest);
        self.model.lay_over(&mut config)?;
        self.fine_tuning.lay_over(&mut config);
        self.regularisation.lay_over(&mut config)?;
        self.training.lay_over(&mut config.training)?;
        config.training.set_length(self.length.length());
        set(&mut config.training.keep_checkpoints, self.run.keep_checkpoints);
        Ok(config)
    }
}

impl ModelOptions {
    fn lay_over(&self, config: &mut SequenceConfig) -> Result<()> {
        let lstm = &mut config.model.lstm;
        let sizes = match &self.hidden {
            Some(HiddenSizes::Each(sizes)) => Some(sizes.len()),
            _ => None,
        };
        set(&mut lstm.layers, self.layers.or(sizes));
        if let Some(hidden) = &self.hidden {
            lstm.hidden = hidden.clone();
        }
        set(&mut lstm.bidirectional, self.bidirectional);
        set(&mut lstm.wiring, self.wiring);
        if lstm.layers == 1 && lstm.wiring != Wiring::Stacked {
            bail!("--wiring {} joins one layer to the next; it needs --layers of at least 2", lstm.wiring);
        }
        let model = &mut config.model;
        let [embedding, spelling] =
            [self.embedding.unwrap_or(model.embedding()), self.spelling.unwrap_or(model.spelling)];
        model.set_input(embedding, spelling);
        model.pooling = self.pooling.or(model.pooling);
        set(&mut config.training.init.scheme, self.init);
        config.training.init.forget_bias = self.forget_bias.or(config.training.init.forget_bias);
        Ok(())
    }
}

impl RegularisationOptions {
    fn lay_over(&self, config: &mut SequenceConfig) -> Result<()> {
        let dropout = &mut config.model.dropout;
        set(&mut dropout.words, self.dropout_words);
        set(&mut dropout.input, self.dropout_input);
        set(&mut dropout.hidden, self.dropout_hidden);
        set(&mut dropout.output, self.dropout_output);
        set(&mut dropout.weights, self.dropout_weights);
        if self.dropout_hidden.is_some_and(|rate| rate > 0.0) && config.model.lstm.layers == 1 {
            bail!("--dropout-hidden is of what a layer gives to the next; it needs --layers of at least 2");
        }
        set(&mut config.label_smoothing, self.label_smoothing);
        set(&mut config.class_weights, self.class_weights);
        Ok(())
    }
}

/// Trains and prints.
pub fn run(task: TaskKind, options: TrainSequence) -> Result<ExitCode> {
    use_threads(options.run.threads)?;
    let signals = Signals::watch()?;
    let curves = options.run.curves(task)?;
    let mut trainer = match &options.run.resume {
        Some(folder) => {
            let extension = extension(&options.length, &options.training, &options.run);
            let trainer =
                during("reading the data and the checkpoint", || Trainer::resume_sequences(folder, &extension))?;
            if let Some(note) = trainer.note() {
                talk(format_args!("note     {note}"));
            }
            trainer
        }
        None => begin(task, &options, &signals)?,
    };
    say_data(&trainer);
    describe(&trainer);
    let driven = drive(&mut trainer, &signals, ("loss", |loss| loss.mean()), &options.run, curves)?;
    let Some((outcome, mut kept)) = driven else {
        return Ok(ExitCode::from(signals.exit_code()));
    };
    report(&trainer, &outcome, &mut kept, options.run.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Begins a run: its folder is this process's before the data are read.
fn begin(task: TaskKind, options: &TrainSequence, signals: &Signals) -> Result<Trainer<SequenceTask>> {
    let Some(file) = &options.file else {
        bail!("--task {task} needs data: give a file of labelled texts, or a folder with a folder for each class");
    };
    let mut config = options.config(task)?;
    let claim = options.run.claim(file)?;
    let leftovers = claim.leftovers();
    signals.tidy(move || leftovers.remove());
    talk(format_args!("data     {}", file.display()));
    let data = during("reading the data", || match options.fine_tuning.pretrained()? {
        Some(pretrained) => Ok(SequenceDataset::read_from(&mut config, pretrained)?),
        None => anyhow::Ok(SequenceDataset::read(&mut config, None)?),
    })?;
    if config.training.patience.is_some()
        && options.length.length().patience.is_some_and(|patience| patience > 0)
        && data.valid.is_none()
    {
        bail!("--patience waits for a better validation, but there are no data for one; give them by --valid");
    }
    let mut data = Arc::new(data);
    if let Some(budget) = options.length.length().budget {
        let plan =
            during("trying choices", || SequencePlan::choose(&config, &data, budget, &|chosen| options.over(chosen)))?;
        for line in &plan.why {
            talk(format_args!("plan     {line}"));
        }
        config = plan.config;
        // Choosing is a part of the time that there is.
        if let Some(data) = Arc::get_mut(&mut data) {
            data.seconds += plan.seconds;
        }
    }
    signals.begin();
    Ok(Trainer::begin_sequences(config, data, claim)?)
}

/// Says what the data are, and what the model is.
fn say_data(trainer: &Trainer<SequenceTask>) {
    let (data, config) = (trainer.task().data(), trainer.task().settings());
    let tokens = data.train.sequences.total_tokens();
    let parts =
        [("to train on", Some(&data.train)), ("to watch", data.valid.as_ref()), ("to measure", data.test.as_ref())];
    let parts =
        parts.into_iter().filter_map(|(what, part)| Some(format!("{} {what}", grouped(part?.sequences.len() as u64))));
    talk(format_args!("examples {}", parts.collect::<Vec<_>>().join(", ")));
    if data.held_out {
        talk("note     there are no data to watch, so a tenth of the training data is held out; --valid gives others");
    }
    talk(format_args!(
        "tokens   {} {}, {:.1} an example; vocabulary {}",
        grouped(tokens as u64),
        config.tokenizer.noun(),
        tokens as f64 / data.train.sequences.len() as f64,
        grouped(config.model.vocabulary as u64)
    ));
    if let (Some(from), Some(Inherited { kept, added, dropped, .. })) = (&config.fine_tuning.from, &data.inherited) {
        let [kept, added, dropped] = [kept, added, dropped].map(|count| grouped(*count as u64));
        let noun = config.tokenizer.noun();
        talk(format_args!("from     {}: {kept} {noun} kept, {added} added, {dropped} dropped", from.display()));
    }
    if data.train.cut > 0 {
        talk(format_args!(
            "note     of {} only the first {} tokens are read; --longest reads more",
            count(data.train.cut as u64, "text"),
            grouped(config.longest as u64)
        ));
    }
    let labels = config.labels.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
    let more = if config.labels.len() > 12 { ", …" } else { "" };
    talk(format_args!("labels   {}: {labels}{more}", config.labels.len()));
    talk(format_args!(
        "model    {}: {} parameters",
        shape(config),
        grouped(trainer.task().model().layout().len() as u64)
    ));
}

/// A model in words.
pub fn shape(config: &SequenceConfig) -> String {
    let lstm = &config.model.lstm;
    let directions = if lstm.bidirectional { "two directions" } else { "one direction" };
    format!(
        "embedding {}{}, {} of {} in {directions}{}",
        config.model.embedding(),
        if config.model.spelling > 0 {
            format!(" and 4 × {} of spelling", config.model.spelling)
        } else {
            String::new()
        },
        count(lstm.layers as u64, "layer"),
        lstm.hidden,
        config.model.pooling.map(|pooling| format!(", pooled by {pooling}")).unwrap_or_default()
    )
}

/// The results, on standard output, with the baselines beside them.
fn report(trainer: &Trainer<SequenceTask>, outcome: &Outcome, kept: &mut Kept, as_json: bool) -> Result<()> {
    let run = LoadedSequence::open(trainer.folder())?;
    let data = trainer.task().data();
    let mut parts: Vec<(&str, Measured)> = Vec::new();
    for (name, examples) in [("valid", &data.valid), ("test", &data.test)] {
        if let Some(examples) = examples {
            parts.push((name, during("measuring beside the baselines", || measure(&run, examples, Some(data)))));
        }
    }
    kept.measured(parts.iter().map(|(name, measured)| measured.results(name, &run.config)).collect());
    let mut out = std::io::stdout().lock();
    if as_json {
        let mut result = json!({
            "run": trainer.folder(),
            "task": trainer.task().settings().task,
            "seconds": outcome.seconds,
            "examples_per_second": outcome.tokens_per_second,
            "parameters": trainer.task().model().layout().len(),
            "best": outcome.best.map(|(epoch, step)| json!({"epoch": epoch, "step": step})),
            "train": json!({"loss": outcome.train.mean(), "examples": outcome.train.tokens}),
        });
        for (name, measured) in &parts {
            result[*name] = measured.json(&run.config);
        }
        for name in ["valid", "test"] {
            if result[name].is_null() {
                result[name] = Value::Null;
            }
        }
        writeln!(out, "{result}")?;
        return Ok(());
    }
    for (name, measured) in &parts {
        measured.print(&mut out, name, &run.config)?;
    }
    if let Some((epoch, step)) = outcome.best {
        writeln!(out, "model    {}", best(epoch, step))?;
    }
    writeln!(out, "{:.1} s, {} examples/s", outcome.seconds, grouped(outcome.tokens_per_second as u64))?;
    if outcome.end == End::Patience {
        talk("stopped early: validation no longer improved");
    }
    talk(format_args!("try: lstm predict {} FILE", trainer.folder().display()));
    Ok(())
}
