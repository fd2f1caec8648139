//! How long a run is: its bounds, the share of them that is used, what of the schedule that is, and a run that is made longer.

use std::path::{Path, PathBuf};

use super::task::{Batches as _, Part, Task};
use crate::formats::FormatError;
use crate::optim::schedule::{Moment, Schedule, ScheduleKind, Warmup};
use crate::run::checkpoint::Position;
use crate::run::config::{DataConfig, RunConfig};
use crate::run::error::TrainError;
use crate::run::settings::Settings;
use crate::run::training::{Lengthened, Member, Training};
use crate::said::{DIGITS, count, rounded};

/// The changes to a run that is resumed: the bounds that are given replace those it had.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extension {
    /// Where the texts lie now; they have to be the same.
    pub train: Option<PathBuf>,
    /// The validation text.
    pub valid: Option<PathBuf>,
    /// The test text.
    pub test: Option<PathBuf>,
    /// Where the teachers lie now, in their order; empty for where they lay.
    pub teachers: Vec<PathBuf>,
    /// The rate from which a schedule that has come down to 0 comes down again over what is added.
    pub learning_rate: Option<f32>,
    /// The most epochs.
    pub epochs: Option<usize>,
    /// The most training steps.
    pub steps: Option<u64>,
    /// The most seconds, those before included.
    pub budget: Option<f64>,
    /// Epochs without a better validation; 0 for any number.
    pub patience: Option<usize>,
    /// The checkpoints of the latest epochs to keep; 0 for none.
    pub keep_checkpoints: Option<usize>,
    /// How many members the run is to have; those that are added are as long as it is.
    pub members: Option<usize>,
}

impl Extension {
    /// Says of what a run reads where it lies now: its texts and its teachers.
    pub(super) fn move_to(&self, config: &mut RunConfig) -> Result<(), TrainError> {
        let (given, run) = (self.teachers.len(), config.teaching.models.len());
        if given > 0 && given != run {
            return Err(TrainError::Unusable(match run {
                0 => "`teach` says where teachers lie now, but the run has none; leave it out, or start a new run"
                    .to_owned(),
                run => format!(
                    "`teach` names {}, but the run has {}; name each of them where it lies now",
                    count(given, "model"),
                    count(run, "teacher")
                ),
            }));
        }
        for (now, before) in self.teachers.iter().zip(&mut config.teaching.models) {
            *before = absolute(now)?;
        }
        let DataConfig { train, valid, test, .. } = &mut config.data;
        self.move_data([train, valid, test])
    }

    /// The same of the places of the data alone: to train on, to watch, to measure.
    ///
    /// # Errors
    /// Data that the run had none of, and data that are not where they are said to be.
    pub(crate) fn move_data(&self, places: [&mut Option<PathBuf>; 3]) -> Result<(), TrainError> {
        for ((name, now), before) in PARTS.into_iter().zip([&self.train, &self.valid, &self.test]).zip(places) {
            if let Some(now) = now {
                if before.is_none() {
                    let why = match name {
                        "training" => "it learned the built-in language; leave it out, or start a new run".to_owned(),
                        _ => format!(
                            "what it has of {name} is a part of its training data; leave this out, and if those were moved, name them alone \
                             beside `resume`"
                        ),
                    };
                    return Err(TrainError::Unusable(format!(
                        "{} is given as the {name} data to go on with, but the run has none of its own: {why}",
                        now.display()
                    )));
                }
                *before = Some(absolute(now)?);
            }
            if let Some(path) = before.as_ref().filter(|path| !path.exists()) {
                let lay = if now.is_some() { "" } else { ", where they lay before" };
                return Err(TrainError::Unusable(format!(
                    "the run's {name} data are not at {}{lay}; {}, or put them back",
                    path.display(),
                    name_now(name)
                )));
            }
        }
        Ok(())
    }

    /// Puts the bounds that are given in the place of those of a run that stands at `position`.
    ///
    /// # Errors
    /// A bound that the run is past: it would say of the run what it is not.
    pub(crate) fn lengthen(&self, training: &mut Training, position: &Position) -> Result<(), TrainError> {
        let Position { epoch, batch, step, seconds, .. } = *position;
        let begun = epoch + usize::from(batch > 0);
        self.check_members(training)?;
        // One that it has already changes nothing.
        let past = match *self {
            Self { epochs: Some(epochs), .. } if epochs < begun && self.epochs != training.epochs => Some(format!(
                "`epochs` is {epochs}, but the run has begun {begun} already; give more, or {begun} to end it there"
            )),
            Self { steps: Some(steps), .. } if steps < step && self.steps != training.steps => Some(format!(
                "`steps` is {steps}, but the run has taken {step} already; give more, or {step} to end it there"
            )),
            Self { budget: Some(budget), .. } if budget < seconds && self.budget != training.budget => Some(format!(
                "`budget` is {budget} s, but the run has used {seconds:.1} s already; give more, or leave it out"
            )),
            _ => None,
        };
        if let Some(why) = past {
            return Err(TrainError::Unusable(why));
        }
        training.epochs = self.epochs.or(training.epochs);
        training.steps = self.steps.or(training.steps);
        training.budget = self.budget.or(training.budget);
        if let Some(patience) = self.patience {
            training.patience = (patience > 0).then_some(patience);
        }
        training.keep_checkpoints = self.keep_checkpoints.unwrap_or(training.keep_checkpoints);
        if let Some(of) = self.members {
            training.member = Some(Member { number: 1, of });
        }
        Ok(())
    }

    /// Refuses what would make the first of several members another than the rest, and to give a member members.
    fn check_members(&self, training: &Training) -> Result<(), TrainError> {
        let refused = |why: String| Err(TrainError::Unusable(why));
        let Some(Member { number, of }) = training.member.filter(|member| member.of > 1) else {
            return match (self.members, self.epochs.or(self.patience), self.steps, self.budget) {
                (Some(_), None, None, None) | (None, ..) => Ok(()),
                _ => refused(
                    "`members` gives a run that goes on more members, as long as it is, so it is not made longer at once; leave out one or the \
                     other"
                        .to_owned(),
                ),
            };
        };
        if number > 1 && self.members.is_some() {
            return refused(format!(
                "this is member {number} of {of} of a run; give `members` to that run, two folders up, or leave it out"
            ));
        }
        let changes = (self.epochs.is_some() && self.epochs != training.epochs)
            || (self.steps.is_some() && self.steps != training.steps)
            || (self.budget.is_some() && self.budget != training.budget)
            || self.patience.is_some();
        if number == 1 && changes {
            return refused(format!(
                "the run has {of} members that are equally long, so `epochs`, `steps`, `budget` and `patience` make none of them longer; \
                 `members` {} adds as many again",
                2 * of
            ));
        }
        Ok(())
    }
}

/// The parts of a run's data, in the order of their places.
const PARTS: [&str; 3] = ["training", "validation", "test"];

/// How it is said where such data lie now.
fn name_now(part: &str) -> &'static str {
    match part {
        "validation" => "name where they lie now by `valid` beside `resume`",
        "test" => "name where they lie now by `test` beside `resume`",
        _ => "name where they lie now beside `resume`",
    }
}

/// Refuses data that are not those which a run's checkpoint noted, and names those that differ. What has no place of its own is a part of
/// the training data.
pub(super) fn check_data(settings: &impl Settings, noted: &str, found: &str) -> Result<(), TrainError> {
    if noted == found {
        return Ok(());
    }
    let places = settings.places();
    let (mut differing, both) = ([false; 3], noted.split('-').zip(found.split('-')));
    for (part, (noted, found)) in both.enumerate().take(PARTS.len()) {
        let place = if places[part].is_some() { part } else { 0 };
        differing[place] |= noted != found;
    }
    // Where they are noted as one, or in another number of parts.
    differing[0] |= differing == [false; 3];
    let part = differing.iter().position(|differs| *differs).unwrap_or(0);
    let what = ["trained on", "validated with", "tested with"][part];
    let data = places[part].map_or("the data given are".to_owned(), |path| format!("{} is", path.display()));
    Err(TrainError::Unusable(format!(
        "{data} not what the run was {what}: it changed since the run began, or is another, so the run cannot go on with the same result; \
         restore it, {}, or start a new run",
        name_now(PARTS[part])
    )))
}

fn absolute(path: &Path) -> Result<PathBuf, FormatError> {
    std::path::absolute(path).map_err(|source| FormatError::Read { path: path.to_owned(), source })
}

/// A bound that ended a run, with what was reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// So many epochs.
    Epochs(usize),
    /// So many steps.
    Steps(u64),
    /// So many seconds.
    Budget(f64),
    /// So many epochs without a better validation.
    Patience(usize),
}

/// Whether the steps or the seconds are used up. `evaluated`: the positions to validate on and to test with, [`evaluated`].
pub(super) fn is_spent(training: &Training, evaluated: usize, position: &Position) -> bool {
    training.budget.is_some_and(|budget| position.trained() >= training_seconds(budget, evaluated, position))
        || training.steps.is_some_and(|steps| position.step >= steps)
}

/// The positions to validate on and to test with; of a member once more, by all of them together.
pub(super) fn evaluated<T: Task>(task: &T) -> usize {
    let once: usize = [Part::Validation, Part::Test].into_iter().filter_map(|part| task.positions(part)).sum();
    if task.settings().training().members() > 1 { 2 * once } else { once }
}

/// The seconds to evaluate so many positions, as long as those took that were.
pub(super) fn evaluation_seconds(positions: usize, position: &Position) -> f64 {
    let (count, seconds) = position.evaluated;
    positions as f64 * seconds / count.max(1) as f64
}

/// The share of a time budget that is kept for saving and for what is not foreseen, and the least of it that is trained in.
const SPARE: f64 = 0.015;
const LEAST_TRAINING: f64 = 0.05;

/// The seconds of a time budget in which to train: those that reading, the last validation and the test leave of it; a twentieth
/// of all even if they leave none.
fn training_seconds(budget: f64, evaluated: usize, position: &Position) -> f64 {
    let left = (1.0 - SPARE) * budget - position.reading;
    (left - evaluation_seconds(evaluated, position)).max(LEAST_TRAINING * budget)
}

/// The share of the run that is done, in [0, 1], by the bound that is nearest. `batches`: those of the epoch.
pub(super) fn share_of_bounds(training: &Training, evaluated: usize, position: &Position, batches: usize) -> f64 {
    let epochs = position.epoch as f64 + position.batch as f64 / batches as f64;
    let by_epochs = training.epochs.map(|all| epochs / all as f64);
    let by_steps = training.steps.map(|all| position.step as f64 / all as f64);
    let by_time = training.budget.map(|budget| position.trained() / training_seconds(budget, evaluated, position));
    [by_epochs, by_steps, by_time].into_iter().flatten().fold(0.0, f64::max).min(1.0)
}

/// The share of the schedule that is done: of the whole run, but that it goes on from where it was when the run was lengthened.
pub(super) fn share_done(training: &Training, evaluated: usize, position: &Position, batches: usize) -> f64 {
    let share = share_of_bounds(training, evaluated, position, batches);
    training.lengthened.map_or(share, |lengthened| lengthened.of_schedule(share))
}

/// The rate of the step after `position`.
pub(super) fn rate_at(schedule: &Schedule, position: &Position, done: f64) -> f32 {
    schedule.learning_rate_at(Moment { epoch: position.epoch, step: position.step, done, plateaus: position.plateaus })
}

/// The share of the highest rate below which a schedule that ends at 0 is as good as there.
const SPENT: f64 = 0.01;

/// Whether a schedule that ends at 0 is as good as there: so little teaches nothing, however long it lasts.
pub(super) fn has_spent(schedule: &Schedule, position: &Position, done: f64) -> bool {
    schedule.ends_at_zero()
        && done > 0.5
        && f64::from(rate_at(schedule, position, done)) < SPENT * f64::from(schedule.learning_rate)
}

/// Lets the schedule of a run whose bounds were changed go on from where it was; from `rate`, where it had come down to 0. Gives what
/// to say of it. `stored`: the settings of the loop before.
pub(super) fn lengthen<T: Task>(
    stored: &Training,
    task: &mut T,
    rate: Option<f32>,
    position: &Position,
) -> Result<Option<String>, TrainError> {
    let bounds = |training: &Training| (training.epochs, training.steps, training.budget);
    let (evaluated, adjusts) = (evaluated(task), task.adjusts());
    let batches = task.batches(position.epoch)?.count();
    let training = task.settings_mut().training_mut();
    let done = share_done(stored, evaluated, position, batches);
    let reached = share_of_bounds(training, evaluated, position, batches);
    let schedule = training.schedule;
    let now = rate_at(&schedule, position, done);
    let is_spent = has_spent(&schedule, position, done);
    match rate {
        Some(rate) if is_spent && reached < 1.0 => {
            training.muon.rate = training.muon.rate.map(|of_matrices| of_matrices * (rate / schedule.learning_rate));
            (training.schedule.learning_rate, training.schedule.warmup) = (rate, Warmup::default());
            training.lengthened = Some(Lengthened { reached, done: 0.0 });
            task.settings().validate()?;
        }
        Some(_) => {
            let why = "a learning rate goes with a resumed run only where a schedule that ends at 0 has come down to it and the run is made \
                       longer: give more epochs, steps or budget, or leave it out";
            return Err(TrainError::Unusable(why.to_owned()));
        }
        None if bounds(stored) == bounds(training) => {}
        None if is_spent && reached < 1.0 => {
            let kept = SPENT as f32 * schedule.learning_rate;
            training.muon.rate = training.muon.rate.map(|of_matrices| SPENT as f32 * of_matrices);
            training.schedule =
                Schedule { kind: ScheduleKind::Constant, learning_rate: kept, warmup: Warmup::default(), ..schedule };
            return Ok(Some(format!(
                "the schedule {} had come down to {}, with which nothing more is learned: the rate is {} from now on, a hundredth of the \
                 highest; with a rate given it comes down from that once more",
                schedule.kind,
                rounded(now, 2),
                rounded(kept, DIGITS)
            )));
        }
        None if reached < 1.0 && (schedule.follows_length() || adjusts) => {
            training.lengthened = Some(Lengthened { reached, done });
            let goes_on = if done < 1.0 {
                "goes on from there to the new end"
            } else {
                "stays there, for its schedule has ended"
            };
            return Ok(Some(format!(
                "how long the run is was changed: its rate is {} now and {goes_on}",
                rounded(now, 3)
            )));
        }
        None => {}
    }
    Ok(None)
}
