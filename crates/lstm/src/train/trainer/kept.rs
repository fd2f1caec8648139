//! Checkpoints that are kept beside the latest, and the proof that they are of use for: the steps between two of them, taken again.

use std::sync::atomic::AtomicBool;

use super::{Trainer, is_set};
use crate::formats::{FormatError, write_bytes};
use crate::run::checkpoint::{AVERAGE, Checkpoint, Progress, Trail};
use crate::run::error::TrainError;
use crate::run::settings::Settings as _;
use crate::run::training::Wire;
use crate::train::length::rate_at;
use crate::train::step::TrainStep;
use crate::train::task::{Batches as _, Task};

/// The steps between two checkpoints that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The steps taken before it.
    pub from: u64,
    /// Those taken at its end.
    pub to: u64,
}

/// The result of taking a stretch again.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// Which.
    pub stretch: Stretch,
    /// The numbers that were compared: parameters, their average, moments, states.
    pub values: usize,
    /// What computed the run's products in this stretch, one after the other, and what does here: others round otherwise.
    pub isas: Vec<String>,
    /// See `isas`.
    pub here: &'static str,
    /// The mean training loss of the epoch at its end in nats, as the run noted it and as it came out.
    pub loss: [f64; 2],
    /// What is not the same, bit for bit; nothing, where the result is the code's.
    pub differences: Vec<Difference>,
}

impl Verified {
    /// Whether every bit is the same.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty() && self.loss[0].to_bits() == self.loss[1].to_bits()
    }
}

/// An array that came out otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its name in the checkpoint.
    pub name: String,
    /// How many of its values differ, and how many there are.
    pub differing: (usize, usize),
    /// The first of them: its place, the value that was kept and the one that came out.
    pub first: (usize, f32, f32),
    /// The largest difference.
    pub most: f32,
}

impl<T: Task> Trainer<T> {
    /// Keeps the checkpoint of where training stands, and as many before it as are asked for.
    pub(super) fn keep_checkpoint(&mut self) -> Result<(), TrainError> {
        self.saved.finish()?;
        let (most, folder) = (self.training().keep_checkpoints, self.claim.folder());
        let position = &mut self.progress.position;
        if most == 0 {
            position.trail = None;
        } else {
            let path = folder.kept_checkpoint(position.step);
            write_bytes(&path, &self.progress.to_bytes(&path)?)?;
            let since = self.progress.position.step;
            self.progress.position.trail = Some(Trail { since, ..Trail::default() });
        }
        let kept = folder.kept_steps()?;
        for step in &kept[..kept.len().saturating_sub(most)] {
            folder.remove_kept(*step)?;
        }
        Ok(())
    }

    /// The stretches that can be taken again, in order: both ends are kept, and nothing between them is unknown.
    ///
    /// # Errors
    /// A checkpoint that is damaged.
    pub fn stretches(&self) -> Result<Vec<Stretch>, TrainError> {
        let folder = self.claim.folder();
        let kept = folder.kept_steps()?;
        let mut stretches = Vec::new();
        for &to in &kept {
            let trail = Checkpoint::position(&folder.kept_checkpoint(to))?.trail;
            let Some(Trail { since: from, shares, .. }) = trail else { continue };
            if kept.contains(&from) && shares.len() as u64 == to - from && from < to {
                stretches.push(Stretch { from, to });
            }
        }
        Ok(stretches)
    }

    /// Takes the steps of a stretch again, from the checkpoint at its beginning, and compares every bit with the one at its end. Nothing of
    /// the run changes. `observer` is told how many steps are taken; `None`, where `stop` was set.
    ///
    /// # Errors
    /// Checkpoints that are damaged, or of other data.
    pub fn verify(
        &self,
        stretch: Stretch,
        observer: &mut dyn FnMut(u64),
        stop: Option<&AtomicBool>,
    ) -> Result<Option<Verified>, TrainError> {
        let (folder, task) = (self.claim.folder(), &*self.task);
        if self.training().wire != Wire::F32 {
            let why = "its gradients travelled in `wire` bf16, rounded by each rank for itself, which one process does not do again";
            return Err(TrainError::Unusable(why.to_owned()));
        }
        let begin = Checkpoint::read(&folder.kept_checkpoint(stretch.from))?.restore(task)?;
        let path = folder.kept_checkpoint(stretch.to);
        let end = Checkpoint::read(&path)?;
        for noted in [&begin.position.data, &end.position.data] {
            if *noted != task.fingerprint() {
                let why = "it is of other data than the run has now; restore those".to_owned();
                return Err(FormatError::Unusable { path, why }.into());
            }
        }
        let Some(again) = self.again(begin, &end, observer, stop)? else { return Ok(None) };
        let mut differences = Vec::new();
        let mut values = 0;
        let mut compare = |name: &str, again: &[f32]| {
            values += again.len();
            let kept = end.values(name).unwrap_or_default();
            differences.extend(difference(name, kept, again));
        };
        for entry in task.layout().entries() {
            compare(&entry.name, again.params.get(entry.slot));
        }
        again.states().iter().for_each(|(name, values)| compare(name, values));
        // One that the validation at the end of the stretch began has taken nothing in yet.
        if end.position.averaged.is_some_and(|averaged| averaged > 0) {
            compare(AVERAGE, again.average.as_ref().map_or(&[], |average| average.values()));
        }
        let loss = [end.position.last_train.mean(), again.position.epoch_loss.mean()];
        let isas = end.position.trail.map(|trail| trail.isas).unwrap_or_default();
        let here = task.settings().training().precision.unit();
        Ok(Some(Verified { stretch, values, isas, here, loss, differences }))
    }

    /// Goes on from `progress` by the trail that `end` notes.
    fn again(
        &self,
        mut progress: Progress,
        end: &Checkpoint,
        observer: &mut dyn FnMut(u64),
        stop: Option<&AtomicBool>,
    ) -> Result<Option<Progress>, TrainError> {
        let task = &*self.task;
        // The schedule may have been changed since, when the run was made longer.
        let schedule = match &end.position.config {
            noted if noted.is_null() => self.training().schedule,
            noted => T::Settings::noted(noted, self.folder())?.training().schedule,
        };
        let shares = end.position.trail.as_ref().map_or(&[][..], |trail| &trail.shares);
        let mut taken = 0;
        let mut train_step = TrainStep::new(task);
        loop {
            let batches = task.batches(progress.position.epoch)?;
            while progress.position.batch < batches.count() {
                let Some(&done) = shares.get(taken) else { return Ok(Some(progress)) };
                if is_set(stop) {
                    return Ok(None);
                }
                train_step.adjust(done);
                progress.begins_to_average(self.training().average, done);
                let rate = rate_at(&schedule, &progress.position, done);
                let before = progress.position.step;
                train_step.take(&mut progress, &batches, rate)?;
                if progress.position.step == before {
                    let what = "the loss or the gradient of step";
                    return Err(TrainError::NotFinite { what, step: before + 1, last: None, saved: Some(before) });
                }
                taken += 1;
                observer(taken as u64);
            }
            if taken == shares.len() {
                return Ok(Some(progress));
            }
            progress.position.begin_epoch();
        }
    }
}

/// What of an array is not the same.
fn difference(name: &str, kept: &[f32], again: &[f32]) -> Option<Difference> {
    let pairs = || kept.iter().zip(again).enumerate().filter(|(_, (kept, again))| kept.to_bits() != again.to_bits());
    let missing = again.len().abs_diff(kept.len());
    let (place, (&kept_value, &value)) = match pairs().next() {
        Some(first) => first,
        None if missing > 0 => (kept.len().min(again.len()), (&f32::NAN, &f32::NAN)),
        None => return None,
    };
    Some(Difference {
        name: name.to_owned(),
        differing: (pairs().count() + missing, again.len()),
        first: (place, kept_value, value),
        most: pairs().map(|(_, (kept, again))| (kept - again).abs()).fold(0.0, f32::max),
    })
}
