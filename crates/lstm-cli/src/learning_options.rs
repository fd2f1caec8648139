//! The options of `lstm train` that say how a model learns: batches, precision, optimizer, rate; and how they are laid over a run.

use std::str::FromStr;

use anyhow::{Result, bail};
use lstm::nn::config::ConfigError;
use lstm::nn::precision::Precision;
use lstm::optim::averaging::Averaging;
use lstm::optim::decay::DecayShares;
use lstm::optim::optimizer::OptimizerKind;
use lstm::optim::schedule::{ScheduleKind, Warmup};
use lstm::plan::optimizer_of_rate;
use lstm::run::config::RunConfig;
use lstm::run::training::Wire;
use lstm::text::batch::Batching;

use crate::given::set;
use crate::output::count;

/// How it is trained.
#[derive(clap::Args)]
#[command(next_help_heading = "Training")]
pub struct LearningOptions {
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
    pub shards: Option<usize>,
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
    pub candidates: Option<usize>,
    /// Score every token after this share of the run all the same
    #[arg(long, value_name = "SHARE")]
    candidates_until: Option<f64>,
    /// sgd; nt-asgd, sgd whose weights are averaged once validation no longer improves; adam; adamw; muon, which makes the momentum of
    /// the layers' matrices orthogonal (Jordan 2024) and leaves embedding, softmax and biases to adamw; muon-sgd, which leaves them to
    /// sgd. Of a planned run a --learning-rate below 0.1 chooses adam, another sgd
    #[arg(long)]
    pub optimizer: Option<NamedOptimizer>,
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
    /// where they are the readout's, scored; and let the weight decay of sgd wait, to reach everything every sixteenth step
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    lazy: Option<bool>,
    /// Let the trigger of nt-asgd, or of a non-monotone average, compare with all but so many of the latest validations
    /// [default: 5]
    #[arg(long, value_name = "EPOCHS")]
    pub non_monotone: Option<usize>,
    /// Evaluate and save an average of the weights: none, ema(share), of which every step keeps that share, such as
    /// ema(0.999); non-monotone(n), the mean of all since an epoch's validation was worse than the best of those before it
    /// but the latest n, as nt-asgd has it; tail(share), the mean of all over that last share of the run, such as tail(0.3)
    /// (Izmailov 2018)
    #[arg(long)]
    average: Option<Averaging>,
    /// The learning rate
    #[arg(long, visible_alias = "lr", alias = "rate", value_name = "RATE")]
    pub learning_rate: Option<f32>,
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
    pub decay_after: Option<usize>,
    /// Clip the gradient's norm to this; 0 for never
    #[arg(long)]
    clip: Option<f32>,
    /// Weight decay: of sgd a part of the gradient, of adamw and muon beside it
    #[arg(long)]
    weight_decay: Option<f32>,
    /// The share of it that a group of parameters has, 1 if it is not named: embedding, input and recurrent for the layers' matrices, readout, vectors
    /// for all that is no matrix (`embedding=0.1,vectors=0`)
    #[arg(long, value_name = "GROUP=SHARE,...")]
    weight_decay_shares: Option<DecayShares>,
    /// One seed for everything
    #[arg(long)]
    seed: Option<u64>,
}

/// An optimizer by its name in the literature: nt-asgd is SGD with an average that begins by its trigger.
#[derive(Clone, Copy, Debug)]
pub struct NamedOptimizer {
    pub kind: OptimizerKind,
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

impl LearningOptions {
    /// The options of Adam alone, and whether they are given.
    fn of_adam(&self) -> [(&'static str, bool); 3] {
        [("--beta1", self.beta1.is_some()), ("--beta2", self.beta2.is_some()), ("--epsilon", self.epsilon.is_some())]
    }

    /// The optimizer that options can only mean where none is named.
    pub fn likely_optimizer(&self) -> Option<OptimizerKind> {
        let decays = self.weight_decay.is_some_and(|decay| decay > 0.0);
        let given = self.of_adam().iter().any(|(_, given)| *given) || self.lazy == Some(true) && !decays;
        let adam = given.then_some(OptimizerKind::Adam);
        adam.or(self.learning_rate.map(optimizer_of_rate))
    }

    /// Lays the options over a run.
    pub fn lay_over(&self, config: &mut RunConfig) -> Result<()> {
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
        if self.lazy == Some(true) && !config.training.optimizer.has_moments() && config.training.weight_decay == 0.0 {
            bail!(
                "--lazy and the optimizer {} contradict each other; it is of adam and adamw, and of the weight decay of sgd, of which there is none",
                config.training.optimizer
            );
        }
        let given = |shares: DecayShares| (!shares.is_none()).then_some(shares);
        set(&mut config.training.weight_decay_shares, self.weight_decay_shares.map(given));
        set(&mut config.training.seed, self.seed);
        Ok(())
    }
}
