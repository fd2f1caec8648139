//! The checkpoint. It is copied between two steps and written by a thread of its own, while training goes on.

use std::panic::resume_unwind;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crate::formats::{FormatError, write_bytes};
use crate::run::checkpoint::Progress;
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::train::event::Log;

/// The last checkpoint: the step it is of, when it was taken, and the thread that writes it. Nothing else of the run but lines of its metrics
/// is written meanwhile, so that after a kill there is what there would be if it had been written at once.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) step: Option<u64>,
    pub(super) at: Instant,
    writing: Option<JoinHandle<Result<(), FormatError>>>,
}

impl Saved {
    /// One that is written.
    pub(super) fn of(step: u64) -> Self {
        Self { step: Some(step), at: Instant::now(), writing: None }
    }

    /// Writes the checkpoint over the last one, if it is one to go on from. It is written when [`Self::finish`] returns.
    pub(super) fn save(&mut self, progress: &mut Progress, folder: &RunFolder, log: &Log) -> Result<(), TrainError> {
        self.finish()?;
        self.check(progress)?;
        let (lines, last) = log.mark()?;
        progress.position.metrics = Some(lines);
        let path = folder.checkpoint();
        let bytes = progress.to_bytes(&path)?;
        let place = path.clone();
        // The metrics are never behind the checkpoint, which says how much of them there is.
        let writing = Builder::new().name("checkpoint".to_owned()).spawn(move || {
            last()?;
            write_bytes(&place, &bytes)
        });
        let writing = writing.map_err(|source| FormatError::Write { path, source })?;
        (self.step, self.at, self.writing) = (Some(progress.position.step), Instant::now(), Some(writing));
        Ok(())
    }

    /// Waits until the last checkpoint is written.
    ///
    /// # Errors
    /// That it could not be.
    pub(super) fn finish(&mut self) -> Result<(), TrainError> {
        let written =
            self.writing.take().map_or(Ok(()), |writing| writing.join().unwrap_or_else(|panic| resume_unwind(panic)));
        Ok(written?)
    }

    /// Notices that the last checkpoint could not be written; waits for nothing.
    pub(super) fn look(&mut self) -> Result<(), TrainError> {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) { self.finish() } else { Ok(()) }
    }

    /// Refuses parameters, moments and states that are no numbers: the last good ones are to be kept.
    pub(super) fn check(&mut self, progress: &Progress) -> Result<(), TrainError> {
        if progress.is_finite() {
            return Ok(());
        }
        self.finish()?;
        let what = "a parameter or state after step";
        Err(TrainError::NotFinite { what, step: progress.position.step, last: None, saved: self.step })
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        // Where training ended otherwise, that is what is said.
        let _ = self.writing.take().map(JoinHandle::join);
    }
}
