//! What the ranks beside rank 0 do: they take the steps that it orders, on a copy of the run that it gives them, and write nothing.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Order, Orders, Ranks, gather, tell};
use crate::nn::params::Params;
use crate::run::checkpoint::{Position, Progress};
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::text::tokenizer::Tokenizer;
use crate::train::check::check_memory;
use crate::train::data::Data;
use crate::train::language::Language;
use crate::train::shards::seconds_per_value;
use crate::train::step::TrainStep;
use crate::train::task::Task;
use crate::train::teachers::Teachers;

/// A run as rank 0 describes it.
#[derive(Serialize, Deserialize)]
struct Described {
    settings: Value,
    /// The files that a task has beside its settings.
    files: Vec<String>,
    position: Position,
    averages: bool,
    /// What goes on with it, in words.
    go_on: String,
}

/// How the sentence of a refusal names the file of the tokenizer that rank 0 sent.
const SENT: &str = "the tokenizer that rank 0 sent";

impl Orders<'_> {
    /// Gives the others this run of `task` to follow.
    pub(crate) fn begin<T: Task>(&self, task: &T, progress: &mut Progress) -> Result<(), TrainError> {
        let ranks = self.ranks();
        if ranks.count() == 1 {
            return Ok(());
        }
        let described = Described {
            settings: json!(task.settings()),
            files: task.files_to_follow()?,
            // The way that a checkpoint notes is rank 0's.
            position: Position { trail: None, ..progress.position.clone() },
            averages: progress.average.is_some(),
            go_on: self.go_on(),
        };
        let mut bytes = serde_json::to_vec(&described).unwrap_or_default();
        self.give(Order::Begin(bytes.len()))?;
        self.noted(tell(ranks, &mut bytes))?;
        let refused = self.noted(gather(ranks, &[]))?;
        if let Some((rank, why)) = refused.iter().enumerate().find(|(_, why)| !why.is_empty()) {
            return Err(TrainError::Unusable(format!("{}: {}", ranks.name(rank), String::from_utf8_lossy(why))));
        }
        self.noted(share(ranks, progress))
    }
}

/// Follows rank 0 until it has nothing more to do; of language models. `told`: what is to be done with how the run goes on, in words, as rank 0
/// [noted](Orders::note) it.
///
/// # Errors
/// A rank that is lost.
pub fn follow(ranks: &dyn Ranks, told: &mut dyn FnMut(&str)) -> Result<(), TrainError> {
    loop {
        match Order::heard(ranks)? {
            Order::Begin(bytes) => {
                let mut described = vec![0; bytes];
                tell(ranks, &mut described)?;
                let read = read(&described, told);
                let why = read.as_ref().err().map_or(String::new(), ToString::to_string);
                let refused = gather(ranks, why.as_bytes())?;
                // Rank 0 says so, and ends.
                let Some((task, mut progress)) = read.ok().filter(|_| refused.iter().all(Vec::is_empty)) else {
                    continue;
                };
                share(ranks, &mut progress)?;
                return take_part(ranks, &task, progress);
            }
            Order::Measure { values, wire } => {
                seconds_per_value(ranks, values, wire)?;
            }
            Order::End => return Ok(()),
            _ => {}
        }
    }
}

/// The run that rank 0 describes, with the texts as they are here.
fn read(described: &[u8], told: &mut dyn FnMut(&str)) -> Result<(Language, Progress), TrainError> {
    let unusable = |error: serde_json::Error| TrainError::Unusable(format!("rank 0 describes no run: {error}"));
    let Described { settings, files, position, averages, go_on } =
        serde_json::from_slice(described).map_err(unusable)?;
    told(&go_on);
    let mut config: RunConfig = serde_json::from_value(settings).map_err(unusable)?;
    let tokenizer = Tokenizer::from_bytes(Path::new(SENT), files.first().map_or(&[][..], String::as_bytes))?;
    let data = Data::read(&config, Some(tokenizer))?;
    if data.fingerprint() != position.data {
        let text = config.data.train.as_ref().map_or("its text".to_owned(), |path| path.display().to_string());
        return Err(TrainError::Unusable(format!(
            "{text} is another text here than at rank 0; give all ranks the same, under the same path"
        )));
    }
    let teachers = Teachers::read(&mut config, &data)?;
    let task = Language::new(config, data)?.taught(teachers);
    check_memory(task.settings(), task.data(), task.model())?;
    let mut progress = Progress::new(&task);
    progress.optimizer.steps = position.step;
    progress.position = position;
    progress.average = averages.then(|| Params::zeros(task.layout().clone()));
    Ok((task, progress))
}

/// Makes the values of every rank's progress those of rank 0.
fn share(ranks: &dyn Ranks, progress: &mut Progress) -> Result<(), TrainError> {
    let Progress { params, average, optimizer, state, .. } = progress;
    let all = [params.values_mut(), &mut optimizer.first, &mut optimizer.second, &mut state.h, &mut state.c];
    for values in all.into_iter().chain(average.as_mut().map(Params::values_mut)) {
        tell(ranks, bytemuck::cast_slice_mut(values))?;
    }
    Ok(())
}

/// Takes the steps that rank 0 orders.
fn take_part<T: Task>(ranks: &dyn Ranks, task: &T, mut progress: Progress) -> Result<(), TrainError> {
    let mut steps = TrainStep::on(task, ranks);
    let mut epoch = progress.position.epoch;
    let mut batches = task.batches(epoch)?;
    loop {
        match Order::heard(ranks)? {
            Order::Step { epoch: of, batch, step, done, learning_rate } => {
                if of != epoch {
                    (epoch, batches) = (of, task.batches(of)?);
                }
                let position = &mut progress.position;
                (position.epoch, position.batch, position.step) = (of, batch, step);
                steps.adjust(done);
                // What is no number is said by rank 0, which then ends.
                steps.take(&mut progress, &batches, learning_rate)?;
            }
            Order::Collect => steps.collect(&mut progress)?,
            Order::Average => progress.begin_average(),
            Order::End => return Ok(()),
            Order::Begin(_) | Order::Measure { .. } => {}
        }
    }
}
