//! The options that training has for every task beside language: how it learns, and where its run lies.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use lstm::formats::tensorboard::Curves;
use lstm::nn::precision::Precision;
use lstm::optim::averaging::Averaging;
use lstm::optim::decay::DecayShares;
use lstm::optim::optimizer::OptimizerKind;
use lstm::optim::schedule::{ScheduleKind, Warmup};
use lstm::run::TaskKind;
use lstm::run::folder::{Claim, Existing};
use lstm::run::training::Training;
use lstm::train::trainer::Extension;

use crate::given::set;
use crate::length_options::LengthOptions;

/// How it learns.
#[derive(clap::Args)]
#[command(next_help_heading = "Training")]
pub struct TaskTraining {
    /// Sequences of a step
    #[arg(long)]
    pub batch: Option<usize>,
    /// The precision of a step's matrix products: f32; bf16, up to twice as fast on a processor with AVX512-BF16, more with AMX; bf16x3,
    /// each factor in two bf16. Where the run is chosen for a time it is bf16 if steps are measured to be faster in that, by a tenth at least
    #[arg(long)]
    pub precision: Option<Precision>,
    /// Join the gradients of so many batches into one step
    #[arg(long, value_name = "BATCHES")]
    accumulate: Option<usize>,
    /// sgd, adam, adamw; muon, muon-sgd, which make the momentum of the layers' matrices orthogonal (Jordan 2024) and leave the rest to
    /// adamw or sgd
    #[arg(long)]
    optimizer: Option<OptimizerKind>,
    /// The learning rate of the matrices of muon and muon-sgd, which falls as the other does
    #[arg(long, value_name = "RATE")]
    muon_rate: Option<f32>,
    /// The learning rate
    #[arg(long, visible_alias = "lr", value_name = "RATE")]
    pub learning_rate: Option<f32>,
    /// β₁ of adam and adamw, the share of the mean gradient that every step keeps
    #[arg(long)]
    beta1: Option<f32>,
    /// β₂ of adam and adamw, that of the mean squared gradient
    #[arg(long)]
    beta2: Option<f32>,
    /// ε of adam and adamw, added to the root of the mean squared gradient
    #[arg(long)]
    epsilon: Option<f32>,
    /// How the rate changes over the run: constant; linear, cosine, down to 0; one-cycle, up and down; wsd, down to 0 over the last fifth; step,
    /// by --decay after --decay-after; plateau, by --decay after an epoch that does not improve the validation
    #[arg(long)]
    schedule: Option<ScheduleKind>,
    /// Let the rate rise at first, for so many steps or such a share of the run below 1
    #[arg(long, value_name = "STEPS|SHARE")]
    warmup: Option<Warmup>,
    /// Divide the rate by this every epoch after --decay-after, or at a plateau [default: none; the schedules step and plateau need it]
    #[arg(long)]
    decay: Option<f32>,
    /// Epochs at the full rate, of the schedule step
    #[arg(long, value_name = "EPOCHS")]
    decay_after: Option<usize>,
    /// Evaluate and save an average of the weights: none; ema(share), of which every step keeps that share; non-monotone(n), the mean of all
    /// since an epoch's validation was worse than the best of those before it but the latest n; tail(share), the mean over that last share of
    /// the run
    #[arg(long)]
    average: Option<Averaging>,
    /// Clip the gradient's norm to this; 0 for never
    #[arg(long)]
    clip: Option<f32>,
    /// Weight decay
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

impl TaskTraining {
    /// The options and their places in the settings of a run, for the defaults in help.
    pub const SETTINGS: [(&'static str, &'static str); 17] = [
        ("batch", "/training/batch"),
        ("precision", "/training/precision"),
        ("accumulate", "/training/accumulate"),
        ("optimizer", "/training/optimizer"),
        ("muon-rate", "/training/muon/rate"),
        ("learning-rate", "/training/schedule/learning_rate"),
        ("beta1", "/training/adam/beta1"),
        ("beta2", "/training/adam/beta2"),
        ("epsilon", "/training/adam/epsilon"),
        ("schedule", "/training/schedule/kind"),
        ("warmup", "/training/schedule/warmup"),
        ("decay-after", "/training/schedule/decay_after"),
        ("average", "/training/average"),
        ("clip", "/training/clip"),
        ("weight-decay", "/training/weight_decay"),
        ("weight-decay-shares", "/training/weight_decay_shares"),
        ("seed", "/training/seed"),
    ];

    /// Lays the options over a task's own settings.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub fn lay_over(&self, training: &mut Training) -> Result<()> {
        set(&mut training.batch, self.batch);
        set(&mut training.precision, self.precision);
        set(&mut training.accumulate, self.accumulate);
        if let Some(optimizer) = self.optimizer {
            if optimizer.has_moments() != training.optimizer.has_moments() && self.learning_rate.is_none() {
                bail!("--optimizer {optimizer} needs a --learning-rate of its own: those of SGD are far from Adam's");
            }
            training.optimizer = optimizer;
        }
        if self.muon_rate.is_some() && !training.optimizer.is_muon() {
            bail!(
                "--muon-rate and the optimizer {} contradict each other; it is of muon and muon-sgd",
                training.optimizer
            );
        }
        training.muon.rate = self.muon_rate.or(training.muon.rate);
        let of_adam = [
            ("--beta1", self.beta1.is_some()),
            ("--beta2", self.beta2.is_some()),
            ("--epsilon", self.epsilon.is_some()),
        ];
        if let Some((option, _)) = of_adam.into_iter().find(|(_, given)| *given && !training.optimizer.has_moments()) {
            bail!("{option} and the optimizer {} contradict each other; it is of adam and adamw", training.optimizer);
        }
        set(&mut training.adam.beta1, self.beta1);
        set(&mut training.adam.beta2, self.beta2);
        set(&mut training.adam.epsilon, self.epsilon);
        set(&mut training.schedule.learning_rate, self.learning_rate);
        if let Some(schedule) = self.schedule {
            training.set_schedule(schedule);
        }
        let kind = training.schedule.kind;
        let divides = matches!(kind, ScheduleKind::Step | ScheduleKind::Plateau);
        if self.decay.is_some() != divides {
            match divides {
                true => bail!("--schedule {kind} divides the rate: give by what, such as --decay 2"),
                false => bail!(
                    "--decay and the schedule {kind} contradict each other; --schedule step and plateau divide the rate"
                ),
            }
        }
        if self.decay_after.is_some() && kind != ScheduleKind::Step {
            bail!("--decay-after and the schedule {kind} contradict each other; --schedule step counts epochs");
        }
        set(&mut training.schedule.decay, self.decay);
        set(&mut training.schedule.decay_after, self.decay_after);
        set(&mut training.schedule.warmup, self.warmup);
        if let Some(average) = self.average {
            training.set_average(average);
        }
        match self.clip {
            Some(0.0) => training.clip = None,
            clip => training.clip = clip.or(training.clip),
        }
        set(&mut training.weight_decay, self.weight_decay);
        let given = |shares: DecayShares| (!shares.is_none()).then_some(shares);
        set(&mut training.weight_decay_shares, self.weight_decay_shares.map(given));
        set(&mut training.seed, self.seed);
        Ok(())
    }
}

/// Where the run lies and how it is shown.
#[derive(clap::Args)]
#[command(next_help_heading = "Run")]
pub struct TaskRun {
    /// The run folder [default: runs/NAME of the data]
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Replace a run that exists [default: refuse]
    #[arg(long)]
    pub force: bool,
    /// Go on with this run where it stopped; --epochs, --steps, --budget and --patience may lengthen it, --learning-rate is what a
    /// schedule that has come down to 0 then comes down from once more, and data that were moved are named where they lie now
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,
    /// Keep the checkpoints of the last so many epochs beside the latest, for lstm verify; each is as large as that one [default: 0]
    #[arg(long, value_name = "N")]
    pub keep_checkpoints: Option<usize>,
    /// Write curves for TensorBoard into this folder; with --resume give it again to go on with them [default: none]
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// Threads to use; the result is the same for any number [default: all processors]
    #[arg(long)]
    pub threads: Option<usize>,
    /// End with one JSON object on standard output [default: a table]
    #[arg(long)]
    pub json: bool,
}

impl TaskRun {
    /// The curves that are asked for, before anything takes time.
    ///
    /// # Errors
    /// A folder that cannot be written, or has the curves of another run.
    pub fn curves(&self, task: TaskKind) -> Result<Option<Curves>> {
        let curves = self.tensorboard.as_ref().map(|folder| Curves::open(folder, self.resume.is_some()));
        Ok(curves.transpose()?.map(|curves| curves.of_task(task)))
    }

    /// The run folder, now this process's: the one given, or runs/NAME of the data, or the first of runs/NAME-2, … that is free.
    ///
    /// # Errors
    /// A folder that cannot be used.
    pub fn claim(&self, data: &Path) -> Result<Claim> {
        if let Some(folder) = &self.out {
            let existing = if self.force { Existing::Replace } else { Existing::Refuse };
            return Ok(Claim::new(folder, existing)?);
        }
        let mut name = data.canonicalize().unwrap_or_else(|_| data.to_owned());
        if name.extension().is_some_and(|extension| extension == "gz" || extension == "zst") {
            name.set_extension("");
        }
        let name = name.file_stem().map_or("run".into(), |name| name.to_string_lossy());
        let name = if is_stdin(data) { "stdin".into() } else { name };
        Ok(Claim::first_free(&Path::new("runs").join(name.as_ref()))?)
    }
}

/// Whether data come from standard input.
pub fn is_stdin(data: &Path) -> bool {
    data == Path::new("-")
}

/// What `--resume` may change. `file`: where the data to train on lie now.
///
/// # Errors
/// Standard input, which such a run keeps.
pub fn extension(
    file: Option<&Path>,
    length: &LengthOptions,
    training: &TaskTraining,
    run: &TaskRun,
) -> Result<Extension> {
    if file.is_some_and(is_stdin) {
        bail!(
            "- and --resume contradict each other: the data that a run read from standard input are kept in its folder"
        );
    }
    let bounds = length.length();
    Ok(Extension {
        train: file.map(Path::to_owned),
        learning_rate: training.learning_rate,
        epochs: bounds.epochs,
        steps: bounds.steps,
        budget: bounds.budget,
        patience: bounds.patience,
        keep_checkpoints: run.keep_checkpoints,
        ..Extension::default()
    })
}
