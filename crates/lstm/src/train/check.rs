//! Whether a run's settings, its texts and the memory go together: what is refused before the first step.

use std::path::Path;

use super::data::Data;
use super::task::{Batches as _, Part, Task};
use crate::free_memory::{self, sum, times};
use crate::model::LanguageModel;
use crate::nn::config::ConfigError;
use crate::optim::averaging::Averaging;
use crate::optim::schedule::ScheduleKind;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::settings::Settings;
use crate::run::training::{Training, Wire};
use crate::said::count;
use crate::text::batch::Batching;

/// Refuses to begin a run in the folder of a model that it learns from, which would be gone.
pub(super) fn check_sources<S: Settings>(settings: &S, folder: &Path) -> Result<(), TrainError> {
    let Ok(folder) = folder.canonicalize() else { return Ok(()) };
    let lies_there = |source: &&Path| {
        let source = source.canonicalize().unwrap_or_default();
        source == folder || source.is_file() && source.parent() == Some(&folder)
    };
    match settings.learns_from().into_iter().find(lies_there) {
        Some(source) => Err(TrainError::Unusable(format!(
            "{} is what the run learns from, and would be replaced by it; choose another `out`",
            source.display()
        ))),
        None => Ok(()),
    }
}

/// Refuses a schedule that is longer than the run, and what looks at a validation that the run has not.
pub(super) fn check_schedule<T: Task>(task: &T) -> Result<(), TrainError> {
    let training = task.settings().training();
    let steps = check_accumulation(task)? as u64;
    let by_epochs = training.epochs.map(|epochs| steps.saturating_mul(epochs as u64));
    // How many steps fit a time budget alone is not known before.
    if let Some(steps) = [by_epochs, training.steps].into_iter().flatten().min() {
        training.schedule.fits(steps)?;
    }
    let watches = match (training.schedule.kind, training.average) {
        _ if task.positions(Part::Validation).is_some() => None,
        (ScheduleKind::Plateau, _) => Some("the schedule plateau"),
        (_, Averaging::NonMonotone(_)) => Some("a non-monotone average, as nt-asgd has it,"),
        _ => None,
    };
    watches.map_or(Ok(()), |what| {
        Err(TrainError::Unusable(format!(
            "{what} watches the validation, but there is no validation text; give `valid` or `split`, or choose another"
        )))
    })
}

/// Refuses more batches a step than an epoch has; gives the steps of an epoch.
pub(super) fn check_accumulation<T: Task>(task: &T) -> Result<usize, TrainError> {
    let (count, joined) = (task.batches(0)?.count(), task.settings().training().accumulate);
    if joined > count.max(1) {
        return Err(TrainError::Unusable(format!(
            "`accumulate` joins {joined} batches into one step, but an epoch has {count}; choose fewer, or smaller batches"
        )));
    }
    Ok(count.div_ceil(joined))
}

/// Refuses ranks that would have nothing to do, and to begin a run alone whose gradients travel rounded: nothing would.
pub fn check_ranks(training: &Training, ranks: usize, begins: bool) -> Result<(), TrainError> {
    let why = match training.shards {
        _ if ranks > 1 && training.members() > 1 => format!(
            "`members` are trained one after the other by one process, but there are {ranks} ranks, which share the steps of one model; leave it \
             out, or start one process"
        ),
        _ if ranks == 1 && begins && training.wire != Wire::F32 => format!(
            "`wire` {} says how gradients travel between ranks, but this is one process, in which none does; start several ranks, or leave it out",
            training.wire
        ),
        _ if ranks == 1 => return Ok(()),
        Some(shards) if shards >= ranks => return Ok(()),
        Some(shards) => format!(
            "there are {ranks} ranks, but a step of this run is cut into {}; start at most {}, or a new run with more `shards`",
            count(shards, "shard"),
            count(shards, "rank")
        ),
        None => format!(
            "this run computes each gradient in one piece, which one process does; {ranks} ranks share the steps of a run that was begun with `shards`"
        ),
    };
    Err(TrainError::Unusable(why))
}

/// Refuses settings that would change nothing on this text.
pub(super) fn check_effect(config: &RunConfig) -> Result<(), ConfigError> {
    let vocabulary = config.model.vocabulary;
    if let Some(candidates) = config.candidates.filter(|&candidates| candidates >= vocabulary) {
        return Err(ConfigError::Conflict(format!(
            "`candidates` is {candidates}, but the vocabulary has {}, all of which are scored anyway; leave it out, or choose fewer",
            count(vocabulary, "token")
        )));
    }
    let embedding = config.model.embedding();
    if config.spectral_embedding && embedding > vocabulary {
        return Err(ConfigError::Conflict(format!(
            "`spectral-embedding` finds as many directions as there are tokens, {vocabulary}, and `embedding` is {embedding}; leave it out, or choose a \
             smaller one"
        )));
    }
    let dropout = config.model.dropout;
    if dropout.start < 1.0 && !dropout.any() {
        return Err(ConfigError::Conflict(format!(
            "`dropout-start` is {}, but nothing is dropped; leave it out, or give a rate by `dropout`",
            dropout.start
        )));
    }
    let steps = config.steps_of_segment();
    match config.model.lstm.horizon {
        Some(horizon) if horizon > steps && !config.variable_segment && config.batching != Batching::Lines => {
            Err(ConfigError::Conflict(format!(
                "`horizon` is {horizon}, but the gradient ends at the start of its segment of {} anyway; leave it out, or choose fewer steps or a \
                 longer segment",
                count(steps, "step")
            )))
        }
        _ => Ok(()),
    }
}

/// Refuses a model whose parameters, gradients and moments, and what a segment leaves for its backward pass, do not
/// fit the free memory.
pub(crate) fn check_memory(config: &RunConfig, data: &Data, model: &LanguageModel) -> Result<(), TrainError> {
    let beside = usize::from(config.training.averages()) + usize::from(config.training.accumulate > 1);
    // The sums of shards that wait for others, and what travels of them.
    let beside = beside + config.training.shards.map_or(0, |shards| shards.ilog2() as usize + 3);
    let copies = 2 + config.training.optimizer.buffers() + beside;
    let parameters = model.layout().len();
    // A segment ends with its text; a window does not.
    let steps = match config.batching {
        Batching::Windows(n) => n,
        _ => config.segment.min(data.train.ids.len() + 1),
    };
    // A tape for no rows holds the packed weights.
    let packed = model.bytes(0, 0);
    let values = sum([times(&[parameters, copies, size_of::<f32>()]), packed as u128]);
    let segment = model.bytes(steps, config.training.batch).saturating_sub(packed) as u128;
    let (what, smaller) = if values >= segment {
        (format!("training a model of {parameters} parameters"), "`hidden`, `embedding` or vocabulary")
    } else {
        (
            format!("training on a segment of {} by {}", count(steps, "step"), count(config.training.batch, "row")),
            "`segment`, window, `batch` or `hidden`",
        )
    };
    let mixture = if config.model.softmaxes > 1 { "`softmaxes`, " } else { "" };
    free_memory::check_memory(|| what, sum([values, segment]), &format!("{mixture}{smaller}"))?;
    Ok(())
}
