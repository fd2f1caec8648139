//! The training of a task beside language, watched and ended as that of a language model is.

use std::path::Path;

use anyhow::{Result, anyhow};
use lstm::model::Loss;
use lstm::run::error::TrainError;
use lstm::run::settings::Settings as _;
use lstm::run::training::Training;
use lstm::train::event::{End, Event, Outcome};
use lstm::train::task::Task;
use lstm::train::trainer::Trainer;

use crate::output::{count, grouped, seconds, talk};
use crate::progress::Progress;
use crate::signals::Signals;
use crate::train::ended;

/// Trains to the end, or until a signal stops it: then there is no outcome, and it is said how the run goes on. `figure`: what the loss
/// is called, and its value as people read it.
///
/// # Errors
/// A training that went wrong, a folder that cannot be written.
pub fn drive<T: Task>(
    trainer: &mut Trainer<T>,
    signals: &Signals,
    figure: (&'static str, fn(Loss) -> f64),
) -> Result<Option<Outcome>> {
    signals.begin();
    if !trainer.is_locked() {
        talk("note     this file system has no locks, so nothing keeps a second process from writing the same run");
    }
    let run = trainer.folder().display().to_string();
    if let Some(bound) = trainer.ended_by() {
        talk(format_args!("note     the run is over: {}; a longer bound goes on with it", ended(bound)));
    }
    let go_on = format!("go on with: lstm train --resume {run}");
    let mut progress = Progress::of(figure);
    let outcome = trainer.run(&mut |event: &Event| progress.show(event), Some(&signals.stop));
    progress.finish();
    let outcome = outcome.map_err(|error| match error {
        TrainError::Format(error) => anyhow!("{error}; then {go_on}"),
        error => error.into(),
    })?;
    if outcome.end == End::Interrupted {
        talk(format_args!("stopped and saved; {go_on}"));
        return Ok(None);
    }
    Ok(Some(outcome))
}

/// Says how a run is trained and where it lies.
pub fn describe<T: Task>(trainer: &Trainer<T>) {
    let training: &Training = trainer.task().settings().training();
    let bounds: Vec<String> = [
        training.epochs.map(|epochs| count(epochs as u64, "epoch")),
        training.steps.map(|steps| count(steps, "step")),
        training.budget.map(seconds),
        training.patience.map(|patience| format!("{} without a better validation", count(patience as u64, "epoch"))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let averaged = match training.average {
        lstm::optim::averaging::Averaging::None => String::new(),
        average => format!(", averaged by {average}"),
    };
    talk(format_args!(
        "training {} a step, {} at {}{averaged}, until {}",
        count(training.batch as u64, "sequence"),
        training.optimizer,
        training.schedule,
        bounds.join(" or ")
    ));
    let from =
        if trainer.step() > 0 { format!(", going on after step {}", grouped(trainer.step())) } else { String::new() };
    talk(format_args!("run      {}{from}", trainer.folder().display()));
}

/// A place that data were given at, as `config.toml` has it: so that a run can be resumed from any folder.
///
/// # Errors
/// A current folder that is gone.
pub fn absolute(path: Option<&Path>) -> std::io::Result<Option<std::path::PathBuf>> {
    path.map(std::path::absolute).transpose()
}
