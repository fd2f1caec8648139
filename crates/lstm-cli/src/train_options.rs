//! The options of `lstm train`, and how they are laid over a preset.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

use anyhow::{Result, anyhow, bail};
use lstm::nn::config::{ConfigError, HiddenSizes, InitScheme, Readout, Wiring};
use lstm::nn::precision::Precision;
use lstm::optim::averaging::Averaging;
use lstm::optim::optimizer::OptimizerKind;
use lstm::optim::parts::Frozen;
use lstm::optim::schedule::{ScheduleKind, Warmup};
use lstm::plan::{Basis, Decided, optimizer_of_rate};
use lstm::run::config::RunConfig;
use lstm::run::fine_tuning::VocabularyChange;
use lstm::run::folder::{Claim, Existing};
use lstm::run::preset::Preset;
use lstm::run::training::Wire;
use lstm::run::{Length, TaskKind};
use lstm::text::batch::Batching;
use lstm::text::documents::{Documents, LineEnds};
use lstm::text::shuffle::Shuffle;
use lstm::text::tokenizer::TokenizerKind;
use lstm::train::pretrained::Pretrained;
use lstm::train::trainer::Extension;

use crate::output::count;
use crate::ranks::SHARDS;
use crate::regularisation_options::RegularisationOptions;
use crate::teaching_options::TeachingOptions;

/// The options of `lstm train`. What is not given is the preset's.
#[derive(clap::Args)]
pub struct Train {
    /// A text file, also compressed (.gz, .zst), or a folder of them, or - for standard input, which is then kept in the run
    /// folder [default: the built-in language]
    text: Option<PathBuf>,
    /// What is learned: language, the next token of a text; classify, a label for each text; tag, a label for each word; forecast,
    /// what comes next in a table with time stamps. Each has options of its own, which --task classify --help and so on show [default: language]
    #[arg(long, default_value = "language", hide_default_value = true, value_name = "TASK")]
    task: TaskKind,
    /// A named bundle of choices: textlstm (of the word after five, by the hand-built LSTM of the report that this project grew
    /// from, which reads out its output gate), small, medium, large (Zaremba et al. 2014), awd (Merity et al. 2017), char (a
    /// character model) [default: a text's run is planned for it, the time and this machine, and explained]
    #[arg(long, value_parser = Preset::NAMED.map(|(name, _)| name))]
    preset: Option<String>,
    #[command(flatten)]
    text_options: TextOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    regularisation: RegularisationOptions,
    #[command(flatten)]
    training: TrainingOptions,
    #[command(flatten)]
    length: LengthOptions,
    #[command(flatten)]
    fine_tuning: FineTuningOptions,
    #[command(flatten)]
    teaching: TeachingOptions,
    #[command(flatten)]
    pub run: RunOptions,
    /// The processes that share its steps.
    #[arg(skip = 1usize)]
    pub ranks: usize,
}

/// What is read.
#[derive(clap::Args)]
#[command(next_help_heading = "Text")]
struct TextOptions {
    /// Validation text, a file or a folder [default: by --split; of a folder: its valid file]
    #[arg(long)]
    valid: Option<PathBuf>,
    /// Test text, a file or a folder [default: by --split; of a folder: its test file]
    #[arg(long)]
    test: Option<PathBuf>,
    /// Percentages for training, validation and test [default: 90/5/5, but at most 2 MiB
    /// for each of the last two]
    #[arg(long, value_parser = shares, value_name = "A/B/C")]
    split: Option<Shares>,
    /// Use about so many MiB of the training text, in pieces from all over it [default: all; with a budget what can be read in
    /// it]
    #[arg(long, value_parser = mebibytes, value_name = "MIB")]
    text_limit: Option<u64>,
    /// What a token is: words, chars, bytes, or subwords that are trained on the text: bpe, unigram, wordpiece; or the
    /// path of a tokenizer.json
    #[arg(long, value_parser = tokenizer_choice, value_name = "KIND")]
    tokenizer: Option<TokenizerChoice>,
    /// Rarer tokens become <unk>
    #[arg(long)]
    min_count: Option<u64>,
    /// Keep only the most frequent tokens; make so many subwords
    #[arg(long)]
    vocab_size: Option<usize>,
    /// Replace bytes that are not UTF-8 [default: refuse them]
    #[arg(long)]
    lossy: bool,
    /// Shuffle the lines by the seed before the text is split, for lists that are sorted: lines [default: the order of the text]
    #[arg(long, value_name = "WHAT")]
    shuffle: Option<Shuffle>,
    /// Begin with a fresh state after every empty line (blank), every line (line), or wherever this stands, such as
    /// <|endoftext|>, a line feed behind it included [default: the text is one document]
    #[arg(long, value_name = "BLANK|LINE|STRING")]
    documents: Option<Documents>,
    /// What ends a line: lf, a carriage return before it being dropped, or keep, which leaves that in the text [default: lf;
    /// --tokenizer bytes: keep]
    #[arg(long, value_name = "HOW")]
    line_ends: Option<LineEnds>,
}

/// What the model is.
#[derive(clap::Args)]
#[command(next_help_heading = "Model")]
struct ModelOptions {
    /// Number of layers
    #[arg(long)]
    layers: Option<usize>,
    /// Hidden size, or one for each layer such as 1150,1150,400
    #[arg(long)]
    hidden: Option<HiddenSizes>,
    /// Embedding size
    #[arg(long)]
    embedding: Option<usize>,
    /// Project the hidden state to this size
    #[arg(long)]
    projection: Option<usize>,
    /// What a layer takes from the one below: stacked, skip, scores; more layers of textlstm are joined by scores
    #[arg(long)]
    wiring: Option<Wiring>,
    /// Let every layer after the first add its input to its hidden states, where the sizes agree (He 2016); --residual=false
    /// undoes it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    residual: Option<bool>,
    /// Let every unit's gates see its own cell: the input and forget gates the one before, the output gate the new one (Gers &
    /// Schmidhuber 2000)
    #[arg(long)]
    peepholes: bool,
    /// Couple the input gate to the forget gate, i = 1 - f (Greff et al. 2017)
    #[arg(long)]
    coupled: bool,
    /// Normalise what the gates get from the input and from the hidden state, and the cell state that is read, each with a
    /// gain and a bias (Ba et al. 2016)
    #[arg(long)]
    layer_norm: bool,
    /// Let input and hidden state gate one another before every step in so many rounds, in the paper 5 (a mogrifier, Melis et al. 2019)
    #[arg(long, value_name = "ROUNDS")]
    mogrify: Option<usize>,
    /// Make each matrix of those rounds the product of two of this rank
    #[arg(long, value_name = "RANK")]
    mogrify_rank: Option<usize>,
    /// What is read out: hidden, output-gate
    #[arg(long)]
    readout: Option<Readout>,
    /// Make the readout's weights the embedding's, by a projection where their sizes differ (Press & Wolf 2017);
    /// --tied=false undoes it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    tied: Option<bool>,
    /// Predict by a mixture of so many softmaxes, each of a vector of its own (Yang 2018); a step scores the vocabulary as
    /// often
    #[arg(long, value_name = "K")]
    softmaxes: Option<usize>,
    /// Cut the gradient through time every so many steps, or `segment` for never
    #[arg(long, value_parser = horizon)]
    horizon: Option<Horizon>,
    /// Initial values: torch, uniform(a), ones-bias
    #[arg(long)]
    init: Option<InitScheme>,
    /// Sum of the forget gate's biases at the start
    #[arg(long)]
    forget_bias: Option<f32>,
}

/// What it starts from, and which parts are trained how.
#[derive(clap::Args)]
#[command(next_help_heading = "Fine-tuning")]
struct FineTuningOptions {
    /// Go on from this trained model, a run folder or a model file, on another text: with its shape, its values and its tokens
    /// [default: a model of its own]
    #[arg(long, value_name = "MODEL")]
    from: Option<PathBuf>,
    /// What becomes of the model's vocabulary of words, chars or bytes: keep, other words of the text are unknown; extend, they come behind
    /// it and start from the mean of all; match, it becomes the text's own, and words that both have keep their values
    #[arg(long, value_name = "HOW")]
    vocabulary: Option<VocabularyChange>,
    /// Parts that are not trained, with commas between them: embedding, readout, the numbers of layers from 0 on
    #[arg(long, value_name = "PARTS")]
    freeze: Option<Frozen>,
    /// Train each layer at this share of the rate of the layer above it, and the embedding at that of the first layer's
    #[arg(long, value_name = "SHARE")]
    layer_rate_decay: Option<f32>,
    /// The model, opened.
    #[arg(skip)]
    opened: OnceLock<Pretrained>,
}

/// How it is trained.
#[derive(clap::Args)]
#[command(next_help_heading = "Training")]
struct TrainingOptions {
    /// How the text is read: stream, windows(n), lines
    #[arg(long)]
    batches: Option<Batching>,
    /// Rows read side by side; of a planned run rate and warm-up follow them
    #[arg(long)]
    batch: Option<usize>,
    /// Steps of truncated back-propagation
    #[arg(long)]
    segment: Option<usize>,
    /// The precision of a step's matrix products: f32; bf16, up to twice as fast on a processor with AVX512-BF16 or AMX; bf16x3, each
    /// factor in two bf16 (16 to 17 bits), faster than f32 with AMX alone. Parameters and sums are f32 in each, and so are validation
    /// and the saved model. A planned run with a time is in bf16 where its steps are measured to be faster in that, by a tenth at least, and
    /// else in f32
    #[arg(long)]
    precision: Option<Precision>,
    /// Join the gradients of so many batches into one step, as if they were one batch with so many times the rows
    #[arg(long, value_name = "BATCHES")]
    accumulate: Option<usize>,
    /// Cut a step's rows into so many shards, whose gradients are computed by themselves and added in a fixed order: as many ranks
    /// of MPI can share it, and the bits are the same for any number of them; on several ranks 8 unless said, or as many as rows; of a planned run as many as ranks
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// How gradients travel between ranks: f32; bf16, in half the bytes, with what that leaves out added to the next step's, whose bits
    /// depend on the number of ranks
    #[arg(long)]
    wire: Option<Wire>,
    /// Let the steps of a stream's segments vary around --segment, and the rate with them (Merity 2017);
    /// --variable-segment=false undoes it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    variable_segment: Option<bool>,
    /// Let the columns of a stream begin elsewhere in every epoch, so that other tokens stand side by side (Press 2019);
    /// --partial-shuffle=false undoes it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    partial_shuffle: Option<bool>,
    /// Score so many tokens in a step, drawn by their frequency and by what is to be predicted, instead of the whole
    /// vocabulary: a sampled softmax (Jean 2015)
    #[arg(long, value_name = "TOKENS")]
    candidates: Option<usize>,
    /// Score every token after this share of the run all the same
    #[arg(long, value_name = "SHARE")]
    candidates_until: Option<f64>,
    /// sgd; nt-asgd, sgd whose weights are averaged once validation no longer improves; adam; adamw; muon, which makes the momentum of
    /// the layers' matrices orthogonal (Jordan 2024) and leaves embedding, softmax and biases to adamw; muon-sgd, which leaves them to
    /// sgd. Of a planned run a --learning-rate below 0.1 chooses adam, another sgd
    #[arg(long)]
    optimizer: Option<NamedOptimizer>,
    /// The learning rate of the matrices of muon and muon-sgd, which falls as the other does
    #[arg(long, value_name = "RATE")]
    muon_rate: Option<f32>,
    /// The share of the momentum that every step of muon and muon-sgd keeps
    #[arg(long, value_name = "SHARE")]
    muon_momentum: Option<f32>,
    /// β₁ of adam and adamw, the share of the mean gradient that every step keeps
    #[arg(long)]
    beta1: Option<f32>,
    /// β₂ of adam and adamw, that of the mean squared gradient
    #[arg(long)]
    beta2: Option<f32>,
    /// ε of adam and adamw, added to the root of the mean squared gradient
    #[arg(long)]
    epsilon: Option<f32>,
    /// Let adam and adamw leave alone what a step does not touch: the rows of the embedding of tokens that are neither read nor,
    /// where they are the readout's, scored
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    lazy: Option<bool>,
    /// Let the trigger of nt-asgd, or of a non-monotone average, compare with all but so many of the latest validations
    /// [default: 5]
    #[arg(long, value_name = "EPOCHS")]
    non_monotone: Option<usize>,
    /// Evaluate and save an average of the weights: none, ema(share), of which every step keeps that share, such as
    /// ema(0.999); non-monotone(n), the mean of all since an epoch's validation was worse than the best of those before it
    /// but the latest n, as nt-asgd has it; tail(share), the mean of all over that last share of the run, such as tail(0.3)
    /// (Izmailov 2018)
    #[arg(long)]
    average: Option<Averaging>,
    /// The learning rate
    #[arg(long, visible_alias = "lr", alias = "rate", value_name = "RATE")]
    learning_rate: Option<f32>,
    /// How the rate changes over the run, be that epochs, steps or time: constant; step, by --decay after --decay-after;
    /// linear, cosine, down to 0; one-cycle, up and down; wsd, down to 0 over the last fifth (Hu 2024); plateau, by --decay after an epoch that does not improve the
    /// validation. With --optimizer nt-asgd it is constant unless said otherwise
    #[arg(long)]
    schedule: Option<ScheduleKind>,
    /// Let the rate rise at first, for so many steps or such a share of the run below 1
    #[arg(long, value_name = "STEPS|SHARE")]
    warmup: Option<Warmup>,
    /// Divide the rate by this every epoch after --decay-after, or at a plateau
    #[arg(long)]
    decay: Option<f32>,
    /// Epochs at the full rate
    #[arg(long)]
    decay_after: Option<usize>,
    /// Clip the gradient's norm to this; 0 for never
    #[arg(long)]
    clip: Option<f32>,
    /// Weight decay
    #[arg(long)]
    weight_decay: Option<f32>,
    /// One seed for everything
    #[arg(long)]
    seed: Option<u64>,
}

/// How long: the first bound that is reached ends the run.
#[derive(clap::Args)]
#[command(next_help_heading = "Length")]
pub struct LengthOptions {
    /// Most epochs
    #[arg(long)]
    epochs: Option<usize>,
    /// Most steps; the schedule is stretched over them [default: no bound]
    #[arg(long)]
    steps: Option<u64>,
    /// Most time, such as 60 or 60s, 10m, 1h30m, 1d; the schedule is stretched over it [default: 10m for a planned run without
    /// another bound; else no bound]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    budget: Option<f64>,
    /// Stop after so many epochs without a better validation; 0 for never
    #[arg(long)]
    patience: Option<usize>,
}

/// Where the run lies and how it is shown.
#[derive(clap::Args)]
#[command(next_help_heading = "Run")]
pub struct RunOptions {
    /// The run folder [default: runs/NAME of the text]
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Replace a run that exists [default: refuse]
    #[arg(long)]
    pub force: bool,
    /// Go on with this run where it stopped; --epochs, --steps, --budget and --patience may lengthen it, --learning-rate is what a
    /// schedule that has come down to 0 then comes down from once more, and a text that was moved, or by --teach all teachers, are named where
    /// they lie now
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,
    /// Write curves for TensorBoard into this folder; with --resume give it again to go on with them [default: none]
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// Instead of training, try rates that grow from step to step, print the loss at each and which to use, and keep nothing
    /// (Smith 2017) [default: train]
    #[arg(long)]
    pub find_lr: bool,
    /// Keep the checkpoints of the last so many epochs beside the latest, for lstm verify; each is as large as that one [default: 0]
    #[arg(long, value_name = "N")]
    pub keep_checkpoints: Option<usize>,
    /// Threads to use; the result is the same for any number [default: all processors]
    #[arg(long)]
    pub threads: Option<usize>,
    /// End with one JSON object on standard output [default: a table]
    #[arg(long)]
    pub json: bool,
}

/// Steps between cuts of the gradient through time; `None` for never within a segment.
/// An optimizer by its name in the literature: nt-asgd is SGD with an average that begins by its trigger.
#[derive(Clone, Copy, Debug)]
struct NamedOptimizer {
    kind: OptimizerKind,
    average: Option<Averaging>,
}

impl FromStr for NamedOptimizer {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        if name == "nt-asgd" {
            return Ok(Self { kind: OptimizerKind::Sgd, average: Some(Averaging::NonMonotone(Averaging::LEFT_OUT)) });
        }
        let kind = name.parse().map_err(|_| ConfigError::Unknown {
            kind: "optimizer",
            value: name.to_owned(),
            choices: "sgd, nt-asgd, adam, adamw, muon, muon-sgd",
        })?;
        Ok(Self { kind, average: None })
    }
}

#[derive(Clone, Copy)]
struct Horizon(Option<usize>);

fn horizon(text: &str) -> Result<Horizon, String> {
    match (text, text.parse()) {
        ("segment", _) => Ok(Horizon(None)),
        (_, Ok(steps)) if steps > 0 => Ok(Horizon(Some(steps))),
        _ => Err(format!("`{text}` is neither a number of steps of at least 1 nor `segment`")),
    }
}

/// MiB, as bytes.
fn mebibytes(text: &str) -> Result<u64, String> {
    let bytes = text.parse::<f64>().ok().map(|mebibytes| mebibytes * f64::from(1 << 20));
    // An exbibyte is more than any text has, and what config.toml can hold.
    let enough = bytes.filter(|bytes| (1024.0..=2f64.powi(60)).contains(bytes));
    let wrong = || format!("`{text}` is no number of MiB from 0.001 on (and up to 1099511627776), such as 50");
    enough.map(|bytes| bytes as u64).ok_or_else(wrong)
}

/// The percentages of a split.
#[derive(Clone)]
pub struct Shares(pub Vec<u32>);

pub fn shares(text: &str) -> Result<Shares, String> {
    let shares: Result<Vec<u32>, _> = text.split('/').map(str::parse).collect();
    shares
        .ok()
        .filter(|shares| shares.iter().all(|&share| share <= 100))
        .map(Shares)
        .ok_or_else(|| format!("`{text}` is not a list of percentages such as 90/5/5"))
}

/// A kind of tokenizer, or a file with one.
#[derive(Clone, Debug)]
enum TokenizerChoice {
    Kind(TokenizerKind),
    File(PathBuf),
}

fn tokenizer_choice(text: &str) -> Result<TokenizerChoice, String> {
    match text.parse() {
        Ok(kind) => Ok(TokenizerChoice::Kind(kind)),
        Err(_) if text.ends_with(".json") || Path::new(text).is_file() => Ok(TokenizerChoice::File(text.into())),
        Err(error) => Err(format!("{error}, or the path of a tokenizer.json")),
    }
}

/// The most that a time can be: what a run of it would do no longer depends on it.
const LONGEST: (f64, &str) = (365.0 * 86_400.0, "365d");

/// Seconds of `60`, `90s`, `10m`, `1h30m`, `1d`.
pub fn duration(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is not a duration; write it like 90s, 10m, 1h30m or 1d, or as seconds like 60");
    let number = |digits: &str| digits.parse::<f64>().ok().filter(|n| *n >= 0.0).ok_or_else(wrong);
    let (mut total, mut digits, mut smallest) = (0.0, String::new(), f64::INFINITY);
    for c in text.chars() {
        let unit = match c {
            's' => 1.0,
            'm' => 60.0,
            'h' => 3600.0,
            'd' => 86_400.0,
            '0'..='9' | '.' => {
                digits.push(c);
                continue;
            }
            _ => return Err(wrong()),
        };
        // From the largest unit down: 30m1h is a slip of the pen.
        if unit >= smallest {
            return Err(wrong());
        }
        smallest = unit;
        total += unit * number(&digits)?;
        digits.clear();
    }
    if !digits.is_empty() {
        if smallest < f64::INFINITY {
            return Err(wrong());
        }
        total = number(&digits)?;
    }
    match total {
        total if total > LONGEST.0 => Err(format!("`{text}` is too long; the most is {}", LONGEST.1)),
        total if total > 0.0 => Ok(total),
        _ => Err(wrong()),
    }
}

pub fn set<T: Copy>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

impl Train {
    /// The preset with the options laid over it. Of a run that is [planned](Self::is_planned), what is known of it before its
    /// text is read.
    pub fn config(&self) -> Result<RunConfig> {
        self.decided(&|chosen| self.over(chosen)).start_from(self.basis())
    }

    /// The settings that the options are laid over.
    pub fn basis(&self) -> Basis {
        let named = Preset::NAMED.into_iter().find(|(name, _)| Some(*name) == self.preset.as_deref());
        Basis::of(named.map(|(_, preset)| preset), self.text.is_some())
    }

    /// What the options decide about a run that is planned, by laying them over it with `overlay`.
    pub fn decided<'a>(&'a self, overlay: &'a dyn Fn(RunConfig) -> Result<RunConfig>) -> Decided<'a, anyhow::Error> {
        Decided {
            tokens: self.text_options.tokenizer.is_some() || self.text_options.min_count.is_some(),
            optimizer: self.training.optimizer.map(|named| named.kind),
            likely_optimizer: self.training.likely_optimizer(),
            // What it cannot be opened for is said where the options are laid over the run.
            pretrained: self.pretrained().ok().flatten(),
            ..Decided::by(overlay)
        }
    }

    /// The options laid over the choices of a preset or a plan.
    pub fn over(&self, mut config: RunConfig) -> Result<RunConfig> {
        let preset = if let Basis::Preset(preset) = self.basis() { preset } else { Preset::Default };
        if let Some(pretrained) = self.pretrained()? {
            pretrained.lay_over(&mut config);
        }
        self.model.lay_over(&mut config, preset)?;
        self.regularisation.lay_over(&mut config.model)?;
        let has_moments = config.training.optimizer.has_moments();
        self.training.lay_over(&mut config)?;
        if self.ranks > 1 && self.training.shards.is_none() {
            let usual = config.training.shards.unwrap_or(SHARDS);
            config.training.shards = Some(usual.min(config.training.batch));
        }
        // A plan's rate is chosen for the optimizer that is named.
        let keeps_rate = self.training.learning_rate.is_none() && !self.is_planned() && !self.run.find_lr;
        if config.training.optimizer.has_moments() != has_moments && keeps_rate {
            bail!(
                "--optimizer {} needs a --learning-rate of its own: those of SGD are some ten thousand times Adam's; --find-lr \
                 finds one",
                config.training.optimizer
            );
        }
        config.training.set_length(self.length.length());
        set(&mut config.training.keep_checkpoints, self.run.keep_checkpoints);
        if let (Some(latest), Some(epochs)) = (self.training.non_monotone, config.training.epochs)
            && latest >= epochs
        {
            bail!(
                "--non-monotone {latest} leaves nothing to compare with in a run of {}; choose fewer, or more --epochs",
                count(epochs, "epoch")
            );
        }
        let counted = config.training.schedule.planned_epochs.or(config.training.epochs).unwrap_or(usize::MAX);
        if let Some(after) = self.training.decay_after.filter(|after| *after > counted) {
            bail!(
                "--decay-after {after} is longer than the {} it is part of; choose fewer, or more --epochs",
                count(counted, "epoch")
            );
        }
        self.text_options.lay_over(&mut config)?;
        self.fine_tuning.lay_over(&mut config, &self.text_options)?;
        self.teaching.lay_over(&mut config, self.training.candidates.is_some())?;
        config.data.train = absolute(&self.text)?;
        Ok(config)
    }

    /// The model that the run goes on from, if there is one.
    pub fn pretrained(&self) -> Result<Option<&Pretrained>> {
        let FineTuningOptions { from, vocabulary, opened, .. } = &self.fine_tuning;
        let Some(model) = from else { return Ok(None) };
        if opened.get().is_none() {
            let pretrained = Pretrained::open(model, vocabulary.unwrap_or_default());
            // Another thread has opened it by then, or this one.
            let _ = opened.set(pretrained.map_err(|error| anyhow!("--from {}: {error}", model.display()))?);
        }
        Ok(opened.get())
    }

    /// Whether the run is chosen for its time and its text, because no preset says what it is.
    pub fn is_planned(&self) -> bool {
        self.basis() == Basis::Planned
    }

    /// Whether the text comes from standard input.
    pub fn reads_stdin(&self) -> bool {
        self.text.as_deref() == Some(Path::new("-"))
    }

    /// Whether `--patience` was asked for.
    pub fn waits_for_validation(&self) -> bool {
        self.length.patience.is_some_and(|patience| patience > 0)
    }

    /// What `--resume` may change.
    pub fn extension(&self) -> Result<Extension> {
        if self.reads_stdin() {
            bail!(
                "- and --resume contradict each other: the text that a run read from standard input is kept in its folder"
            );
        }
        let LengthOptions { epochs, steps, budget, patience } = self.length;
        let (train, learning_rate) = (self.text.clone(), self.training.learning_rate);
        let (valid, test) = (self.text_options.valid.clone(), self.text_options.test.clone());
        let keep_checkpoints = self.run.keep_checkpoints;
        let teachers = self.teaching.teach.clone();
        Ok(Extension { train, valid, test, teachers, learning_rate, epochs, steps, budget, patience, keep_checkpoints })
    }

    /// The run folder, now this process's: the one given, or runs/NAME of the text, or the first of runs/NAME-2, … that is free.
    pub fn claim(&self) -> Result<Claim> {
        if let Some(folder) = &self.run.out {
            let existing = if self.run.force { Existing::Replace } else { Existing::Refuse };
            return Ok(Claim::new(folder, existing)?);
        }
        let text = self.text.as_deref();
        let absolute = text.and_then(|text| text.canonicalize().ok());
        let mut name = absolute.as_deref().or(text).map(Path::to_owned);
        if let Some(name) = name.as_mut().filter(|name| name.extension().is_some_and(|e| e == "gz" || e == "zst")) {
            name.set_extension("");
        }
        let name = name.as_deref().and_then(Path::file_stem);
        let name = name.map_or("builtin".into(), |name| name.to_string_lossy());
        let name = if self.reads_stdin() { "stdin".into() } else { name };
        Ok(Claim::first_free(&Path::new("runs").join(name.as_ref()))?)
    }
}

/// So that a run can be resumed from any folder.
fn absolute(path: &Option<PathBuf>) -> std::io::Result<Option<PathBuf>> {
    path.as_ref().map(std::path::absolute).transpose()
}

impl FineTuningOptions {
    fn lay_over(&self, config: &mut RunConfig, text: &TextOptions) -> Result<()> {
        let counts = self.from.is_none() || config.fine_tuning.vocabulary.counts();
        let counted = [("--min-count", text.min_count.is_some()), ("--vocab-size", text.vocab_size.is_some())];
        if let Some((option, _)) = counted.into_iter().find(|(_, given)| *given && !counts) {
            bail!(
                "{option} and --vocabulary keep contradict each other: no word of the text is counted; leave it out, or choose extend or match"
            );
        }
        if let Some(freeze) = &self.freeze {
            config.fine_tuning.freeze = freeze.clone();
        }
        set(&mut config.fine_tuning.layer_rate_decay, self.layer_rate_decay);
        Ok(())
    }
}

impl TextOptions {
    fn lay_over(&self, config: &mut RunConfig) -> Result<()> {
        match &self.tokenizer {
            Some(TokenizerChoice::Kind(kind)) => config.set_tokenizer(*kind),
            Some(TokenizerChoice::File(path)) => {
                config.tokenizer = TokenizerKind::File;
                config.data.tokenizer = Some(std::path::absolute(path)?);
            }
            None => {}
        }
        let (cuts, why) = config.tokenizer.cuts();
        let given = [("--min-count", self.min_count.is_some()), ("--vocab-size", self.vocab_size.is_some())];
        if let Some(((option, _), _)) = given.into_iter().zip(cuts).find(|((_, given), cuts)| *given && !cuts) {
            bail!("{option} and --tokenizer {} contradict each other: {why}", config.tokenizer);
        }
        if self.lossy && config.tokenizer == TokenizerKind::Bytes {
            bail!("--lossy and --tokenizer bytes contradict each other: every byte is a token as it is");
        }
        if self.vocab_size == Some(0) {
            bail!("--vocab-size is 0; it must be at least 1");
        }
        config.vocabulary.min_count = self.min_count.or(config.vocabulary.min_count);
        config.vocabulary.max_size = self.vocab_size.or(config.vocabulary.max_size);
        config.data.valid = absolute(&self.valid)?;
        config.data.test = absolute(&self.test)?;
        config.data.split = self.split.clone().map(|shares| shares.0);
        config.data.most = self.text_limit;
        config.data.lossy = self.lossy;
        config.data.shuffle = self.shuffle;
        config.data.documents = self.documents.clone();
        set(&mut config.data.line_ends, self.line_ends);
        Ok(())
    }
}

impl ModelOptions {
    fn lay_over(&self, config: &mut RunConfig, preset: Preset) -> Result<()> {
        let sizes = match &self.hidden {
            Some(HiddenSizes::Each(sizes)) => Some(sizes.len()),
            _ => None,
        };
        if let Some(layers) = self.layers.or(sizes) {
            config.set_layers(layers, preset);
        }
        let model = &mut config.model;
        if let Some(hidden) = &self.hidden {
            model.lstm.hidden = hidden.clone();
        }
        set(&mut model.lstm.residual, self.residual);
        model.lstm.variant.peepholes |= self.peepholes;
        model.lstm.variant.coupled |= self.coupled;
        model.lstm.variant.layer_norm |= self.layer_norm;
        set(&mut model.lstm.variant.mogrify, self.mogrify);
        model.lstm.variant.mogrify_rank = self.mogrify_rank.or(model.lstm.variant.mogrify_rank);
        set(&mut model.lstm.input, self.embedding);
        set(&mut model.lstm.readout, self.readout);
        set(&mut model.tied, self.tied);
        set(&mut model.softmaxes, self.softmaxes);
        set(&mut model.lstm.horizon, self.horizon.map(|horizon| horizon.0));
        model.lstm.projection = self.projection.or(model.lstm.projection);
        set(&mut model.lstm.wiring, self.wiring);
        if model.lstm.layers == 1 && model.lstm.wiring != Wiring::Stacked {
            bail!("--wiring {} joins one layer to the next; it needs --layers of at least 2", model.lstm.wiring);
        }
        set(&mut config.training.init.scheme, self.init);
        config.training.init.forget_bias = self.forget_bias.or(config.training.init.forget_bias);
        Ok(())
    }
}

impl TrainingOptions {
    /// The options of Adam alone, and whether they are given.
    fn of_adam(&self) -> [(&'static str, bool); 4] {
        [
            ("--beta1", self.beta1.is_some()),
            ("--beta2", self.beta2.is_some()),
            ("--epsilon", self.epsilon.is_some()),
            ("--lazy", self.lazy == Some(true)),
        ]
    }

    /// The optimizer that options can only mean where none is named.
    fn likely_optimizer(&self) -> Option<OptimizerKind> {
        let adam = self.of_adam().iter().any(|(_, given)| *given).then_some(OptimizerKind::Adam);
        adam.or(self.learning_rate.map(optimizer_of_rate))
    }

    fn lay_over(&self, config: &mut RunConfig) -> Result<()> {
        config.set_batching(self.batches.unwrap_or(config.batching));
        set(&mut config.training.batch, self.batch);
        if let (Batching::Windows(n), Some(segment)) = (config.batching, self.segment) {
            bail!("--segment {segment} and windows({n}) contradict each other: a window has {}", count(n, "step"));
        }
        set(&mut config.segment, self.segment);
        set(&mut config.training.precision, self.precision);
        set(&mut config.training.accumulate, self.accumulate);
        config.training.shards = self.shards.or(config.training.shards);
        set(&mut config.training.wire, self.wire);
        set(&mut config.variable_segment, self.variable_segment);
        set(&mut config.partial_shuffle, self.partial_shuffle);
        config.candidates = self.candidates.or(config.candidates);
        set(&mut config.candidates_until, self.candidates_until);
        if let Some(NamedOptimizer { kind, average }) = self.optimizer {
            if let (Some(own), Some(other)) = (average, self.average) {
                bail!(
                    "--average {other} contradicts --optimizer nt-asgd, which averages the weights itself, by {own}; leave \
                     --average out, or choose the optimizer sgd"
                );
            }
            config.training.optimizer = kind;
            // A preset's average is that of its optimizer.
            config.training.set_average(average.unwrap_or_default());
        }
        if self.lazy == Some(true) && config.model.tied && config.candidates.is_none() {
            bail!(
                "--lazy has no part in a tied model that scores every token: each step touches every row of its embedding; \
                 leave it out, or give --candidates or --tied=false"
            );
        }
        if let Some(average) = self.average {
            config.training.set_average(average);
        }
        let averages = matches!(config.training.average, Averaging::NonMonotone(_));
        if let Some(left_out) = self.non_monotone {
            if !averages {
                bail!(
                    "--non-monotone and the optimizer {} contradict each other; it is of nt-asgd, or of --average \
                     non-monotone(n)",
                    config.training.optimizer
                );
            }
            if let Some(average) = self.average {
                bail!("--non-monotone {left_out} and --average {average} say the same twice; leave one of them out");
            }
            config.training.average = Averaging::non_monotone(left_out)?;
        }
        if let Some((option, _)) =
            self.of_adam().into_iter().find(|(_, given)| *given && !config.training.optimizer.has_moments())
        {
            bail!(
                "{option} and the optimizer {} contradict each other; it is of adam and adamw, and of the part that muon leaves to it",
                config.training.optimizer
            );
        }
        let of_muon = [("--muon-rate", self.muon_rate.is_some()), ("--muon-momentum", self.muon_momentum.is_some())];
        if let Some((option, _)) = of_muon.into_iter().find(|(_, given)| *given && !config.training.optimizer.is_muon())
        {
            bail!(
                "{option} and the optimizer {} contradict each other; it is of muon and muon-sgd",
                config.training.optimizer
            );
        }
        config.training.muon.rate = self.muon_rate.or(config.training.muon.rate);
        set(&mut config.training.muon.momentum, self.muon_momentum);
        set(&mut config.training.adam.beta1, self.beta1);
        set(&mut config.training.adam.beta2, self.beta2);
        set(&mut config.training.adam.epsilon, self.epsilon);
        set(&mut config.training.adam.lazy, self.lazy);
        if averages && (self.decay.is_some() || self.decay_after.is_some()) {
            config.training.schedule.kind = ScheduleKind::Step;
        }
        set(&mut config.training.schedule.learning_rate, self.learning_rate);
        if let Some(schedule) = self.schedule {
            config.training.set_schedule(schedule);
        }
        set(&mut config.training.schedule.warmup, self.warmup);
        let kind = config.training.schedule.kind;
        if self.decay.is_some() && !matches!(kind, ScheduleKind::Step | ScheduleKind::Plateau) {
            bail!("--decay and the schedule {kind} contradict each other; --schedule step and plateau divide the rate");
        }
        if self.decay_after.is_some() && kind != ScheduleKind::Step {
            bail!("--decay-after and the schedule {kind} contradict each other; --schedule step counts epochs");
        }
        set(&mut config.training.schedule.decay, self.decay);
        set(&mut config.training.schedule.decay_after, self.decay_after);
        if self.clip == Some(0.0) {
            config.training.clip = None;
        } else {
            config.training.clip = self.clip.or(config.training.clip);
        }
        set(&mut config.training.weight_decay, self.weight_decay);
        set(&mut config.training.seed, self.seed);
        Ok(())
    }
}

impl LengthOptions {
    /// The bounds that are given.
    pub fn length(&self) -> Length {
        let Self { epochs, steps, budget, patience } = *self;
        Length { epochs, steps, budget, patience }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_nonsense_is_not() {
        let given =
            ["90s", "10m", "1h30m", "60", "0.5", "1d", "1d2h3m4.5s", "365d"].map(|text| duration(text).unwrap());
        assert_eq!(given, [90.0, 600.0, 5_400.0, 60.0, 0.5, 86_400.0, 93_784.5, 31_536_000.0]);
        for text in
            ["", "m", "1x", "-5s", "-5", "0s", "0", "1h30", "30m1h", "1s1s", "1e3", "inf", "nan", "1..5s", " 5s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["366d", "1000000000h", "99999999999999999999", "8761h"] {
            assert!(duration(text).unwrap_err().contains("the most is 365d"), "{text}");
        }
    }
}
