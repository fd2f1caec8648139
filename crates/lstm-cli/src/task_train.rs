//! Training that is watched: with its page, its curves and its end; of any task.

use std::path::Path;

use anyhow::{Result, anyhow};
use lstm::formats::FormatError;
use lstm::formats::tensorboard::Curves;
use lstm::model::Loss;
use lstm::report::{Report as Page, Results};
use lstm::run::error::TrainError;
use lstm::run::settings::Settings as _;
use lstm::run::training::Training;
use lstm::train::event::{End, Event, Outcome};
use lstm::train::task::Task;
use lstm::train::trainer::Trainer;

use crate::output::{Taken, grouped, note_unit, sequences, talk, until};
use crate::progress::Progress;
use crate::repeat;
use crate::signals::Signals;
use crate::task_options::TaskRun;
use crate::train::ended_by;

/// What is kept of a run while it trains, beside its own files: its page, and the curves that are asked for.
pub struct Kept {
    page: Page,
    curves: Option<Curves>,
    /// What goes on with the run.
    go_on: String,
}

impl Kept {
    /// That of a run which is about to train. `folder`: that of the curves, of the whole run where it is a member of one.
    ///
    /// # Errors
    /// A folder of curves that cannot be written.
    pub fn begin<T: Task>(
        trainer: &Trainer<T>,
        page: Page,
        mut curves: Option<Curves>,
        folder: Option<&Path>,
    ) -> Result<Self> {
        let with_curves = folder.map_or(String::new(), |folder| format!(" --tensorboard {}", folder.display()));
        let go_on = format!("go on with: lstm train --resume {}{with_curves}", trainer.whole_run().display());
        if let Some(curves) = &mut curves {
            let begun = curves.begin(trainer.folder(), trainer.step());
            begun.map_err(|error| match error {
                error @ FormatError::Write { .. } => anyhow!("{error}; then {go_on}"),
                error => error.into(),
            })?;
        }
        Ok(Self { page, curves, go_on })
    }

    /// What goes on with the run, in words.
    pub fn go_on(&self) -> &str {
        &self.go_on
    }

    /// Lets `run` train, with what watches it, to the end or until a signal stops it: then there is no outcome, and it is said how the run
    /// goes on.
    ///
    /// # Errors
    /// A training that went wrong, a folder that cannot be written.
    pub fn train(
        &mut self,
        mut progress: Progress,
        run: impl FnOnce(&mut dyn FnMut(&Event)) -> Result<Outcome, TrainError>,
    ) -> Result<Option<Outcome>> {
        let Self { page, curves, go_on } = self;
        let (mut has_gaps, mut is_behind) = (false, false);
        let mut observer = |event: &Event| {
            progress.show(event);
            if let Err(error) = page.record(event)
                && !std::mem::replace(&mut is_behind, true)
            {
                progress.say(&format!("note     {error}; training goes on without it"));
            }
            // The run is worth more than its curves.
            if let Some(Err(error)) = curves.as_mut().map(|curves| curves.record(event))
                && !std::mem::replace(&mut has_gaps, true)
            {
                progress.say(&format!("note     {error}; training goes on meanwhile, with a gap in its curves"));
            }
        };
        let outcome = run(&mut observer);
        progress.finish();
        if outcome.is_ok()
            && let Err(error) = page.finish()
        {
            talk(format_args!("note     {error}"));
        }
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

    /// Adds to the page how the best model did.
    pub fn measured(&mut self, results: Vec<Results>) {
        if let Err(error) = self.page.measured(results) {
            talk(format_args!("note     {error}"));
        }
    }
}

/// Trains a task beside language to the end, or until a signal stops it: then there is no outcome, and it is said how the run goes on.
/// `figure`: what the loss is called, and its value as people read it.
///
/// # Errors
/// A training that went wrong, a folder that cannot be written.
pub fn drive<T: Task>(
    trainer: &mut Trainer<T>,
    signals: &Signals,
    figure: (&'static str, fn(Loss) -> f64),
    run: &TaskRun,
    curves: Option<Curves>,
) -> Result<Option<(Outcome, Kept)>> {
    signals.begin();
    if !trainer.is_locked() {
        talk("note     this file system has no locks, so nothing keeps a second process from writing the same run");
    }
    if let Some(bound) = trainer.ended_by() {
        talk(format_args!("note     the run is over: {}; a longer bound goes on with it", ended_by(bound)));
    }
    let command = run.resume.is_none().then(|| repeat::given(std::env::args()));
    let page = Page::begin_task(trainer, command);
    let mut kept = Kept::begin(trainer, page, curves, run.tensorboard.as_deref())?;
    let outcome = kept.train(Progress::of(figure), |observer| trainer.run(observer, Some(&signals.stop)))?;
    Ok(outcome.map(|outcome| (outcome, kept)))
}

/// Says how a run is trained and where it lies.
pub fn describe<T: Task>(trainer: &Trainer<T>) {
    let training: &Training = trainer.task().settings().training();
    talk(format_args!(
        "training {}, {}, until {}",
        sequences(training, Taken::Here),
        training.learning(),
        until(training)
    ));
    note_unit(training.precision);
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
