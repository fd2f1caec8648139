//! `lstm train --task classify`, `tag` and `regress`: from labelled texts, words or sequences of numbers to a trained model.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, anyhow, bail};
use lstm::data::Sequences;
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
use lstm::train::trainer::{Extension, Trainer};
use serde_json::{Value, json};

use crate::eval_sequence::{Measured, measure};
use crate::given::set;
use crate::length_options::LengthOptions;
use crate::output::{self, best, count, grouped, talk, use_threads};
use crate::progress::during;
use crate::signals::Signals;
use crate::stdin;
use crate::task_options::{TaskRun, TaskTraining, extension, is_stdin};
use crate::task_train::{Kept, absolute, describe, drive};
use crate::text_options::{Shares, shares};

/// The options of `lstm train` of a task over sequences.
#[derive(clap::Args)]
#[command(about = "Train a model that gives each text, word or sequence of numbers a label, or says numbers of it")]
pub struct TrainSequence {
    /// The labelled texts: CSV or TSV with a header, JSON lines, lines of a label and a text, each also compressed (.gz, .zst); or a
    /// folder with a folder for each class. Labelled words: columns with white space between them, a word a line and an empty line
    /// between sentences; JSON lines of tokens and tags, or of a text and spans. Sequences of numbers: .ts of the UCR and UEA archives,
    /// .npz with x [sequences, steps, values], y and perhaps lengths; a table with a row a step, with --sequence. Or - for standard
    /// input, lines or JSON lines, which is then kept in the run folder
    file: Option<PathBuf>,
    /// What is learned: classify, a label for each text or sequence; tag, a label for each word; regress, numbers for each text or sequence
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
    /// The column, or the key, of the label; of columns without a header a number; of several numbers those, with commas between them
    /// [default: label; the last]
    #[arg(long, value_name = "COL")]
    label: Option<String>,
    /// The column that says which sequence a row is a step of: the table is one of sequences of numbers [default: it is one of texts]
    #[arg(long, value_name = "COL")]
    sequence: Option<String>,
    /// The columns of a step's values, with commas between them [default: all but those of --sequence and --label]
    #[arg(long, value_name = "COL,…", value_delimiter = ',', requires = "sequence")]
    features: Vec<String>,
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
    /// Read at most so many tokens of a text, or steps of a sequence, its first
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
    /// Embedding size; of numbers the size of the linear map that they go through
    #[arg(long)]
    embedding: Option<usize>,
    /// Size of four vectors beside a word's embedding, of its first letters, its last two and three, and its shape; 0 for none
    #[arg(long, value_name = "SIZE")]
    spelling: Option<usize>,
    /// Let a bag of words have this share of the scores: a linear model of which words and pairs of words a text has, fitted to the training
    /// data before the first step, which the layers do not see [default: 0; with --budget planned]
    #[arg(long, value_name = "SHARE")]
    bag: Option<f32>,
    /// Let the layers read so many steps of numbers as one, one behind the other [default: 1; with --budget planned]
    #[arg(long, value_name = "STEPS")]
    patch: Option<usize>,
    /// Begin such a patch every so many steps [default: a quarter of --patch; with --budget planned]
    #[arg(long, value_name = "STEPS")]
    stride: Option<usize>,
    /// Learn the states before the first step; --initial-states=false undoes it [default: zeros]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    initial_states: Option<bool>,
    /// Let every layer also run from the last token to the first; --bidirectional=false undoes it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    bidirectional: Option<bool>,
    /// What a layer takes from the one below: stacked, skip
    #[arg(long)]
    wiring: Option<Wiring>,
    /// How the steps of a text become one vector: last, mean, max, attention, or concat, the first three one behind the other
    #[arg(long)]
    pooling: Option<Pooling>,
    /// Initial values: torch, uniform(a), ones-bias; with --from of what is new
    #[arg(long)]
    init: Option<InitScheme>,
    /// Sum of the forget gate's biases at the start; with --from of layers that run backward
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
    /// Add normal noise of this deviation to numbers while training, on their scale [default: 0; with --budget planned]
    #[arg(long, value_name = "DEVIATION")]
    noise: Option<f32>,
    /// Multiply each sequence of numbers while training by a normal factor around 1 of this deviation [default: 0; with --budget planned]
    #[arg(long, value_name = "DEVIATION")]
    gain: Option<f32>,
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
    let hidden = idle(task, None).into_iter().flat_map(|(_, options, _)| options);
    hidden.fold(train, |train, name| train.mut_arg(*name, |argument| argument.hide(true)))
}

/// Options that have no part in what is given: in what, which, and why.
type IdleOptions = (&'static str, &'static [&'static str], &'static str);

const OF_WORDS: IdleOptions = (
    "--task tag",
    &[
        "separator",
        "tokenizer",
        "split_punctuation",
        "bag",
        "pooling",
        "sequence",
        "features",
        "patch",
        "stride",
        "noise",
        "gain",
    ],
    "each word of the data is read as it stands and has one label",
);
const OF_REGRESSION: IdleOptions =
    ("--task regress", &["separator", "bag", "label_smoothing", "class_weights"], "it learns numbers and no labels");
const OF_NUMBERS: IdleOptions = (
    "sequences of numbers",
    &[
        "text",
        "separator",
        "tokenizer",
        "min_count",
        "vocab_size",
        "lower_case",
        "split_punctuation",
        "lossy",
        "spelling",
        "bag",
        "from",
    ],
    "they are no texts",
);
const OF_TEXTS: IdleOptions = (
    "texts",
    &["patch", "stride", "noise", "gain"],
    "it is of sequences of numbers: .ts, .npz, or a table with --sequence",
);

/// Those of a task and, where they are known, of data that are sequences of numbers or not.
fn idle(task: TaskKind, numbers: Option<bool>) -> Vec<IdleOptions> {
    let of_task = match task {
        TaskKind::Tag => Some(OF_WORDS),
        TaskKind::Regress => Some(OF_REGRESSION),
        _ => None,
    };
    let of_data = numbers.map(|numbers| if numbers { OF_NUMBERS } else { OF_TEXTS });
    of_task.into_iter().chain(of_data).collect()
}

impl TrainSequence {
    /// Whether the data are sequences of numbers.
    fn is_numbers(&self) -> bool {
        self.data.sequence.is_some() || self.file.as_deref().is_some_and(Sequences::is_one)
    }

    /// The settings that the options come to, before the data are read.
    fn config(&self, task: TaskKind) -> Result<SequenceConfig> {
        let usual = match self.is_numbers() {
            true => SequenceConfig::usual_of_numbers(task),
            false => SequenceConfig::usual(task),
        };
        self.over(if self.fine_tuning.from.is_some() { usual.fine_tuned() } else { usual })
    }

    /// The options that are given of those that some data or tasks have not.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let (data, model, regularisation) = (&self.data, &self.model, &self.regularisation);
        let given = [
            ("text", data.text.is_some()),
            ("sequence", data.sequence.is_some()),
            ("features", !data.features.is_empty()),
            ("separator", data.separator.is_some()),
            ("tokenizer", data.tokenizer.is_some()),
            ("min_count", data.min_count.is_some()),
            ("vocab_size", data.vocab_size.is_some()),
            ("lower_case", data.lower_case.is_some()),
            ("split_punctuation", data.split_punctuation.is_some()),
            ("lossy", data.lossy),
            ("spelling", model.spelling.is_some()),
            ("bag", model.bag.is_some()),
            ("from", self.fine_tuning.from.is_some()),
            ("pooling", model.pooling.is_some()),
            ("patch", model.patch.is_some()),
            ("stride", model.stride.is_some()),
            ("noise", regularisation.noise.is_some()),
            ("gain", regularisation.gain.is_some()),
            ("label_smoothing", regularisation.label_smoothing.is_some()),
            ("class_weights", regularisation.class_weights.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(option, _)| option)
    }

    /// The options laid over settings.
    fn over(&self, mut config: SequenceConfig) -> Result<SequenceConfig> {
        let task = config.task;
        for (what, options, why) in idle(task, Some(self.is_numbers())) {
            if let Some(option) = self.given().find(|given| options.contains(given)) {
                bail!("--{} has no part in {what}: {why}; leave it out", option.replace('_', "-"));
            }
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
        config.data.sequence.clone_from(&self.data.sequence);
        if let Some(numbers) = config.model.numbers.as_mut().filter(|_| !self.data.features.is_empty()) {
            numbers.columns.clone_from(&self.data.features);
        }
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
        if self.fine_tuning.from.is_some() && !config.model.lstm.bidirectional {
            let of_layers = match (self.model.forget_bias, self.model.init) {
                (Some(_), _) => Some("--forget-bias"),
                (_, Some(InitScheme::OnesBias)) => Some("--init ones-bias"),
                _ => None,
            };
            if let Some(option) = of_layers {
                bail!(
                    "{option} has no part with --from: the layers begin with the language model's values; leave it out, or add layers \
                     that run backward by --bidirectional, which begin with it"
                );
            }
        }
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
        set(&mut model.bag, self.bag);
        model.pooling = self.pooling.or(model.pooling);
        set(&mut model.initial_states, self.initial_states);
        if let Some(numbers) = &mut model.numbers {
            if let Some(patch) = self.patch {
                (numbers.patch, numbers.stride) = (patch, (patch / 4).max(1));
            }
            set(&mut numbers.stride, self.stride);
        }
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
        if let Some(numbers) = &mut config.model.numbers {
            set(&mut numbers.noise, self.noise);
            set(&mut numbers.gain, self.gain);
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
            let extension = Extension {
                valid: options.data.valid.clone(),
                test: options.data.test.clone(),
                ..extension(options.file.as_deref(), &options.length, &options.training, &options.run)?
            };
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
        bail!(
            "--task {task} needs data: give a file of labelled texts, a folder with a folder for each class, or sequences of numbers"
        );
    };
    let mut config = options.config(task)?;
    let mut claim = options.run.claim(file)?;
    let leftovers = claim.leftovers();
    signals.tidy(move || leftovers.remove());
    match is_stdin(file) {
        true => talk("data     standard input"),
        false => talk(format_args!("data     {}", file.display())),
    }
    if is_stdin(file) {
        config.data.train = Some(stdin::spool(&mut claim)?);
    }
    // They may be a copy of standard input.
    let train = config.data.train.clone();
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
        let plan = during("trying choices", || {
            let overlay = |chosen| -> Result<SequenceConfig> {
                let mut chosen = options.over(chosen)?;
                chosen.data.train.clone_from(&train);
                Ok(chosen)
            };
            SequencePlan::choose(&config, &mut data, budget, &overlay)
        })?;
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
    let each = tokens as f64 / data.train.sequences.len() as f64;
    let (thing, part) = if config.model.numbers.is_some() { ("sequence", "steps") } else { ("text", "tokens") };
    match &config.model.numbers {
        None => talk(format_args!(
            "tokens   {} {}, {each:.1} an example; vocabulary {}",
            grouped(tokens as u64),
            config.tokenizer.noun(),
            grouped(config.model.vocabulary as u64)
        )),
        Some(numbers) => {
            let steps: usize = data.train.series.iter().map(Vec::len).sum::<usize>() / numbers.features.max(1);
            let missing = match data.train.unknown {
                0 => String::new(),
                missing => format!("; {} missing", grouped(missing as u64)),
            };
            talk(format_args!(
                "steps    {} of {}, {:.1} a sequence{missing}",
                grouped(steps as u64),
                count(numbers.features as u64, "value"),
                steps as f64 / data.train.series.len() as f64
            ));
        }
    }
    if let (Some(from), Some(Inherited { kept, added, dropped, .. })) = (&config.fine_tuning.from, &data.inherited) {
        let [kept, added, dropped] = [kept, added, dropped].map(|count| grouped(*count as u64));
        let noun = config.tokenizer.noun();
        talk(format_args!("from     {}: {kept} {noun} kept, {added} added, {dropped} dropped", from.display()));
    }
    if let Some(parts) = output::parts(&config.fine_tuning, config.unfreeze) {
        talk(format_args!("parts    {parts}"));
    }
    if data.train.cut > 0 {
        talk(format_args!(
            "note     of {} only the first {} {part} are read; --longest reads more",
            count(data.train.cut as u64, thing),
            grouped(config.longest as u64)
        ));
    }
    let labels = config.labels.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
    let more = if config.labels.len() > 12 { ", …" } else { "" };
    let said = if config.task == TaskKind::Regress { "numbers " } else { "labels  " };
    talk(format_args!("{said} {}: {labels}{more}", config.labels.len()));
    talk(format_args!("model    {}: {}", shape(config), count(trainer.task().model().layout().len(), "parameter")));
}

/// A model in words.
pub fn shape(config: &SequenceConfig) -> String {
    let lstm = &config.model.lstm;
    let directions = if lstm.bidirectional { "two directions" } else { "one direction" };
    let input = match &config.model.numbers {
        None => format!("embedding {}", config.model.embedding()),
        Some(numbers) => {
            let [patch, stride, size] = [numbers.patch, numbers.stride, config.model.embedding()];
            format!("patches of {} every {stride} mapped to {size}", count(patch as u64, "step"))
        }
    };
    let initial = if config.model.initial_states { " from learned states" } else { "" };
    format!(
        "{input}{}, {} of {} in {directions}{initial}{}{}",
        if config.model.spelling > 0 {
            format!(" and 4 × {} of spelling", config.model.spelling)
        } else {
            String::new()
        },
        count(lstm.layers as u64, "layer"),
        lstm.hidden,
        config.model.pooling.map(|pooling| format!(", pooled by {pooling}")).unwrap_or_default(),
        if config.model.bag > 0.0 {
            format!(", {} of the scores by a bag of words", config.model.bag)
        } else {
            String::new()
        }
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
