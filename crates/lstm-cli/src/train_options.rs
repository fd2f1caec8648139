//! The options of `lstm train`: what is trained and where it lies, and how all of them are laid over a preset. Those of text, learning and
//! length have files of their own.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Result, anyhow, bail};
use lstm::nn::config::{HiddenSizes, InitScheme, Readout, Wiring};
use lstm::optim::parts::Frozen;
use lstm::plan::{Basis, Decided};
use lstm::run::TaskKind;
use lstm::run::config::RunConfig;
use lstm::run::fine_tuning::VocabularyChange;
use lstm::run::folder::{Claim, Existing};
use lstm::run::preset::Preset;
use lstm::train::pretrained::Pretrained;
use lstm::train::trainer::Extension;

use crate::given::set;
use crate::learning_options::LearningOptions;
use crate::length_options::LengthOptions;
use crate::output::count;
use crate::ranks::SHARDS;
use crate::regularisation_options::RegularisationOptions;
use crate::teaching_options::TeachingOptions;
use crate::text_options::{TextOptions, absolute};

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
    learning: LearningOptions,
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
    /// Weigh what enters a cell by an exponential, against the sum of all weights before (the sLSTM of Beck et al. 2024)
    #[arg(long)]
    exponential: bool,
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
    /// Start the readout's biases as the logarithms of how often each token occurs in the training text;
    /// --unigram-bias=false undoes it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    unigram_bias: Option<bool>,
    /// Start the embedding from vectors of the company that each token keeps in the training text (Levy 2015);
    /// --spectral-embedding=false undoes it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    spectral_embedding: Option<bool>,
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
    /// Train so many models one after the other, alike but for their seeds (--seed and those that follow it), each in an equal part of
    /// --budget, which eval, score and generate use as one; they lie in members/ of the run folder. With --resume the run gets more of them,
    /// as long as it is
    #[arg(long, value_name = "K")]
    pub members: Option<usize>,
    /// Instead of training, try rates that grow from step to step, print the loss at each and which to use, and keep nothing
    /// (Smith 2017) [default: train]
    #[arg(long)]
    pub find_lr: bool,
    /// Instead of training, measure along its beginning how noisy gradients are, print how many rows of a batch are worth computing, and keep
    /// nothing (McCandlish et al. 2018) [default: train]
    #[arg(long)]
    pub find_batch: bool,
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
#[derive(Clone, Copy)]
struct Horizon(Option<usize>);

fn horizon(text: &str) -> Result<Horizon, String> {
    match (text, text.parse()) {
        ("segment", _) => Ok(Horizon(None)),
        (_, Ok(steps)) if steps > 0 => Ok(Horizon(Some(steps))),
        _ => Err(format!("`{text}` is neither a number of steps of at least 1 nor `segment`")),
    }
}

impl RunOptions {
    /// Whether it looks for a setting and keeps nothing.
    pub fn searches(&self) -> bool {
        self.find_lr || self.find_batch
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
            optimizer: self.learning.optimizer.map(|named| named.kind),
            likely_optimizer: self.learning.likely_optimizer(),
            // What it cannot be opened for is said where the options are laid over the run.
            pretrained: self.pretrained().ok().flatten(),
            members: self.fine_tuning.from.is_none() && self.teaching.teach.is_empty() && !self.run.searches(),
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
        self.learning.lay_over(&mut config)?;
        if self.ranks > 1 && self.learning.shards.is_none() {
            let usual = config.training.shards.unwrap_or(SHARDS);
            config.training.shards = Some(usual.min(config.training.batch));
        }
        // A plan's rate is chosen for the optimizer that is named.
        let keeps_rate = self.learning.learning_rate.is_none() && !self.is_planned() && !self.run.find_lr;
        if config.training.optimizer.has_moments() != has_moments && keeps_rate {
            bail!(
                "--optimizer {} needs a --learning-rate of its own: those of SGD are some ten thousand times Adam's; --find-lr \
                 finds one",
                config.training.optimizer
            );
        }
        config.training.set_length(self.length.length());
        if let Some(members) = self.run.members {
            config.training.set_members(members);
        }
        set(&mut config.training.keep_checkpoints, self.run.keep_checkpoints);
        if let (Some(latest), Some(epochs)) = (self.learning.non_monotone, config.training.epochs)
            && latest >= epochs
        {
            bail!(
                "--non-monotone {latest} leaves nothing to compare with in a run of {}; choose fewer, or more --epochs",
                count(epochs, "epoch")
            );
        }
        let counted = config.training.schedule.planned_epochs.or(config.training.epochs).unwrap_or(usize::MAX);
        if let Some(after) = self.learning.decay_after.filter(|after| *after > counted) {
            bail!(
                "--decay-after {after} is longer than the {} it is part of; choose fewer, or more --epochs",
                count(counted, "epoch")
            );
        }
        self.text_options.lay_over(&mut config)?;
        self.fine_tuning.lay_over(&mut config, &self.text_options)?;
        self.teaching.lay_over(&mut config, self.learning.candidates.is_some())?;
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
        let (train, learning_rate) = (self.text.clone(), self.learning.learning_rate);
        let (valid, test) = (self.text_options.valid.clone(), self.text_options.test.clone());
        let (keep_checkpoints, members) = (self.run.keep_checkpoints, self.run.members);
        let teachers = self.teaching.teach.clone();
        Ok(Extension {
            train,
            valid,
            test,
            teachers,
            learning_rate,
            epochs,
            steps,
            budget,
            patience,
            keep_checkpoints,
            members,
        })
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
        model.lstm.variant.exponential |= self.exponential;
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
        set(&mut config.unigram_bias, self.unigram_bias);
        set(&mut config.spectral_embedding, self.spectral_embedding);
        Ok(())
    }
}
