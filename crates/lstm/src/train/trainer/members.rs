//! Several models of one run, one after the other: alike but for their seeds, each a run in a folder of its own, so that each can be resumed,
//! shown and used by itself. The run's own is the first; what the others are is in its settings, so that nothing else has to be kept.

use std::path::Path;
use std::sync::Arc;

use super::{Extension, Trainer};
use crate::run::config::{DataConfig, RunConfig};
use crate::run::error::TrainError;
use crate::run::folder::{Claim, Existing, RunFolder};
use crate::run::training::{Member, Training};
use crate::said::count;
use crate::train::data::Data;
use crate::train::task::Task;

impl Trainer {
    /// Which member it is of a run of several; `None` of a run of one model, and of a member that was resumed by itself, which goes on alone.
    pub fn member(&self) -> Option<Member> {
        let member = self.training().member.filter(|member| member.of > 1);
        member.filter(|member| member.number == 1 || self.first.is_some())
    }

    /// Whether another member comes after this one.
    pub fn has_next_member(&self) -> bool {
        self.member().is_some_and(|member| member.number < member.of)
    }

    /// The next member, when this one is trained: begun, or gone on with from its last checkpoint. Until the last one ends, the whole run is
    /// this process's.
    ///
    /// # Errors
    /// There is none; as [`Trainer::begin`] and [`Trainer::resume`].
    pub fn next_member(self) -> Result<Self, TrainError> {
        let Some(Member { number, of }) = self.member().filter(|_| self.has_next_member()) else {
            return Err(TrainError::Unusable(format!("{} has no further member to train", self.whole_run().display())));
        };
        let Self { task, saved, claim, first, .. } = self;
        // What is written is written, and nobody else has the task.
        drop(saved);
        let first = first.unwrap_or(claim);
        let (mut config, data) = match Arc::into_inner(task) {
            Some(language) => language.into_parts(),
            None => return Err(TrainError::Unusable("the member before is still being trained".to_owned())),
        };
        let folder = first.folder().member(number + 1);
        let next = if folder.config().exists() {
            let DataConfig { train, valid, test, .. } = config.data;
            // They may have been moved with the run, or were named anew.
            let extension = Extension { train, valid, test, teachers: config.teaching.models, ..Extension::default() };
            Self::resume_as(folder.path(), &extension, Some(Member { number: number + 1, of }))?
        } else {
            let Training { seed, .. } = config.training;
            (config.training.seed, config.training.lengthened) = (seed + 1, None);
            config.training.member = Some(Member { number: number + 1, of });
            // Reading was a part of the first one's time.
            Self::begin(config, Data { seconds: 0.0, ..data }, Claim::new(folder.path(), Existing::Refuse)?)?
        };
        Ok(Self { first: Some(first), ..next })
    }
}

impl<T: Task> Trainer<T> {
    /// The folder of the whole run: of a member that of the first.
    pub fn whole_run(&self) -> &Path {
        self.first.as_ref().map_or(self.folder(), |first| first.folder().path())
    }
}

/// Refuses to take members from a run that it has.
pub(super) fn check_members(config: &RunConfig, folder: &RunFolder) -> Result<(), TrainError> {
    let Some(Member { number: 1, of }) = config.training.member else { return Ok(()) };
    let begun = |member: &RunFolder| -> Option<usize> { member.path().file_name()?.to_str()?.parse().ok() };
    let others = folder.other_members()?;
    match others.iter().filter(|member| member.config().exists()).filter_map(begun).max() {
        Some(last) if last > of => Err(TrainError::Unusable(format!(
            "`members` is {of}, but {} of the run {} begun already; give that many or more",
            count(last, "member"),
            if last == 1 { "is" } else { "are" }
        ))),
        _ => Ok(()),
    }
}
