//! The tasks beside language: which one a command is about, and where its subcommands go on. This is the one list of them.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{ArgMatches, Args, FromArgMatches};
use lstm::run::TaskKind;

use crate::forecast_train::TrainForecast;
use crate::sequence_train::TrainSequence;
use crate::{
    eval, eval_forecast, eval_sequence, forecast_train, predict_forecast, predict_sequence, sequence_train, show,
    show_forecast, show_sequence,
};

/// The task of `lstm train`: that of `--task`, or of the run that `--resume` names. What cannot be found out is left to who parses the
/// arguments or opens the run.
pub fn of_train(arguments: &[OsString]) -> TaskKind {
    if arguments.get(1).is_none_or(|command| command != "train") {
        return TaskKind::Language;
    }
    let value = |option: &str| {
        let joined = format!("{option}=");
        arguments.iter().enumerate().skip(2).find_map(|(at, argument)| {
            let argument = argument.to_str()?;
            if argument == option {
                return arguments.get(at + 1)?.to_str();
            }
            argument.strip_prefix(&joined)
        })
    };
    match (value("--task"), value("--resume")) {
        (Some(name), _) => name.parse().unwrap_or_default(),
        (None, Some(run)) => TaskKind::of(Path::new(run)).unwrap_or_default(),
        (None, None) => TaskKind::Language,
    }
}

/// The command `train` of a task beside language; `train`: that of language.
pub fn train_command(task: TaskKind, train: clap::Command) -> clap::Command {
    match task {
        TaskKind::Language => crate::defaults::shown(train),
        TaskKind::Classify | TaskKind::Tag | TaskKind::Regress => {
            sequence_train::shown(task, TrainSequence::augment_args(clap::Command::new("train")))
        }
        TaskKind::Forecast => forecast_train::shown(TrainForecast::augment_args(clap::Command::new("train"))),
    }
}

/// The commands `train` of all tasks beside language, by whose flags sentences name settings.
pub fn train_commands() -> Vec<clap::Command> {
    let others = TaskKind::ALL.into_iter().filter(|task| *task != TaskKind::Language);
    others.map(|task| train_command(task, clap::Command::new("train"))).collect()
}

/// Trains a model of a task beside language.
pub fn train(task: TaskKind, given: &ArgMatches) -> Result<ExitCode> {
    crate::ranks::refuse("several ranks train language models alone; start one process for another task")?;
    match task {
        TaskKind::Language => bail!("a language model is trained by its own options"),
        TaskKind::Classify | TaskKind::Tag | TaskKind::Regress => {
            sequence_train::run(task, TrainSequence::from_arg_matches(given)?)
        }
        TaskKind::Forecast => forecast_train::run(&TrainForecast::from_arg_matches(given)?),
    }
}

/// Evaluates a model by its task.
pub fn evaluate(options: eval::Eval) -> Result<ExitCode> {
    let task = TaskKind::of(&options.run)?;
    if task != TaskKind::Language && options.members.is_some() {
        bail!("--members is of language models, but {} is of {task}; leave it out", options.run.display());
    }
    match task {
        TaskKind::Language => eval::run(options),
        TaskKind::Classify | TaskKind::Tag | TaskKind::Regress => eval_sequence::run(&options),
        TaskKind::Forecast => eval_forecast::run(&options),
    }
}

/// Predicts with a model by its task.
pub fn predict(options: crate::predict::Predict) -> Result<ExitCode> {
    match TaskKind::of(&options.model)? {
        TaskKind::Language if !lstm::run::saved::is_trained(&options.model) => {
            // What it is that cannot be used is said by who opens it.
            lstm::LanguageModel::open(&options.model)?;
            bail!("{} is no model", options.model.display())
        }
        TaskKind::Language => bail!(
            "{} is a language model, which writes and scores texts: lstm generate, lstm score; lstm train --task classify makes one that \
             predicts",
            options.model.display()
        ),
        TaskKind::Classify | TaskKind::Tag | TaskKind::Regress => predict_sequence::run(&options),
        TaskKind::Forecast => predict_forecast::run(&options),
    }
}

/// Shows a run or a model by its task; a file of another program, and the list of all runs, by `lstm show` itself.
pub fn show(options: show::Show) -> Result<ExitCode> {
    let run = match &options.runs[..] {
        [run] if !options.csv && lstm::run::saved::is_trained(run) => run,
        _ => return show::run(options),
    };
    match TaskKind::of(run)? {
        TaskKind::Language => show::run(options),
        TaskKind::Classify | TaskKind::Tag | TaskKind::Regress => show_sequence::run(run, options.json),
        TaskKind::Forecast => show_forecast::run(run, options.json),
    }
}
