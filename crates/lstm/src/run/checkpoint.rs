//! The checkpoint of a run: all that training needs to go on with the same bits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::formats::FormatError;
use crate::formats::safetensors::{Contents, document, read, to_bytes};
use crate::model::Loss;
use crate::nn::params::Params;
use crate::nn::state::State;
use crate::optim::averaging::{Averaging, average_in};
use crate::optim::optimizer::Optimizer;
use crate::run::expectation::Expectation;
use crate::run::saved::{read_params, tensors};
use crate::run::settings::Settings;
use crate::said::count;
use crate::train::task::Task;

/// Where training stands; with parameters, moments and states, all that a checkpoint holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The epoch, from 0.
    pub(crate) epoch: usize,
    /// The next batch of the epoch; their number when only the validation is left of it.
    pub(crate) batch: usize,
    /// The steps taken.
    pub(crate) step: u64,
    /// The step after which the model was last validated.
    pub(crate) validated: Option<u64>,
    /// The training loss of the epoch so far, and of the epoch validated last.
    pub(crate) epoch_loss: Loss,
    pub(crate) last_train: Loss,
    pub(crate) best: Option<Loss>,
    pub(crate) epochs_since_best: usize,
    /// The epochs whose validation was no better than the best before it.
    #[serde(default)]
    pub(crate) plateaus: usize,
    /// The steps whose weights are in the average; `None` before there is one.
    #[serde(default)]
    pub(crate) averaged: Option<u64>,
    /// The validation losses of the epochs, in nats per token, where a non-monotone average waits for its trigger.
    #[serde(default)]
    pub(crate) validations: Vec<f64>,
    /// The seconds that all took, and those before the first step.
    pub(crate) seconds: f64,
    #[serde(default)]
    pub(crate) reading: f64,
    pub(crate) tokens: u64,
    /// The tokens that were validated on, and the seconds that took.
    #[serde(default)]
    pub(crate) evaluated: (u64, f64),
    /// The seconds of writing what a validation leaves, the model and the checkpoint.
    #[serde(default)]
    pub(crate) saving: f64,
    /// The fingerprint of the texts.
    pub(crate) data: String,
    /// The settings of the run, [`Settings::deciding`]; null in a checkpoint that does not note them.
    #[serde(default)]
    pub(crate) config: Value,
    /// The checksum of the whole `tokenizer.json`; empty likewise.
    #[serde(default)]
    pub(crate) tokenizer_file: String,
    /// The lines of the metrics file until then.
    #[serde(default)]
    pub(crate) metrics: Option<usize>,
    /// The test perplexity that was expected before training, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<Expectation>,
    /// The way here from the checkpoint that was kept before; `None` where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trail: Option<Trail>,
}

/// The steps since a checkpoint that is kept: what has to be known beside it to take them again, for time passes otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trail {
    /// The step that the checkpoint is of.
    pub(crate) since: u64,
    /// The share of the schedule that was done before each step.
    pub(crate) shares: Vec<f64>,
    /// The units whose products took the steps, of the run's precision: their last bits differ. One after the other.
    pub(crate) isas: Vec<String>,
}

impl Trail {
    /// Notes a step that `unit` took, before which the share `done` of the schedule was over.
    pub(crate) fn push(&mut self, done: f64, unit: &str) {
        self.shares.push(done);
        if self.isas.last().is_none_or(|last| last != unit) {
            self.isas.push(unit.to_owned());
        }
    }
}

impl Position {
    /// The seconds of training, validations among them.
    pub(crate) fn trained(&self) -> f64 {
        self.seconds - self.reading
    }

    /// Goes on past a step of this `loss`, to the batch `next` of the epoch.
    pub(crate) fn advance(&mut self, loss: Loss, next: usize) {
        self.epoch_loss.add(loss);
        self.step += 1;
        self.batch = next;
        self.tokens += loss.tokens as u64;
    }

    /// Goes on to the first batch of the next epoch.
    pub(crate) fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.batch = 0;
        self.epoch_loss = Loss::default();
    }
}

/// The part of a run that changes during training.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) params: Params,
    /// The average of the parameters, from where it begins.
    pub(crate) average: Option<Params>,
    pub(crate) optimizer: Optimizer,
    pub(crate) state: State,
    pub(crate) position: Position,
}

const STATES: [&str; 4] = ["state.h", "state.c", "optimizer.first", "optimizer.second"];
pub(crate) const AVERAGE: &str = "average";

impl Progress {
    /// The start of a run.
    pub(crate) fn new<T: Task>(task: &T) -> Self {
        let (layout, training) = (task.layout(), task.settings().training());
        let from_the_start = training.average.begins_at_once();
        let mut optimizer = Optimizer::new(training.optimizer, training.weight_decay, layout.len())
            .with_adam(training.adam)
            .with_decay_shares(layout, &training.weight_decay_shares.unwrap_or_default())
            .with_muon(layout, training.muon, training.schedule.learning_rate);
        optimizer.set_shares(task.shares(0));
        Self {
            params: task.initialise(&training.init, training.seed),
            average: from_the_start.then(|| Params::zeros(layout.clone())),
            optimizer,
            state: task.state(training.batch),
            position: Position {
                data: task.fingerprint(),
                averaged: from_the_start.then_some(0),
                config: task.settings().deciding(),
                expected: task.expected(),
                ..Position::default()
            },
        }
    }

    /// The parameters to evaluate and to save: the average, once there is one.
    pub(crate) fn evaluated(&self) -> &Params {
        match &self.average {
            Some(average) if self.position.averaged != Some(0) => average,
            _ => &self.params,
        }
    }

    /// Takes the parameters into the average, if there is one.
    pub(crate) fn average_in(&mut self, averaging: Averaging) {
        let (Some(average), Some(averaged)) = (&mut self.average, &mut self.position.averaged) else { return };
        *averaged += 1;
        average_in(average.values_mut(), self.params.values(), *averaged, averaging.kept());
    }

    /// Begins the average of a run's tail, if the share `done` of the schedule is where that begins; gives whether it does.
    pub(crate) fn begins_to_average(&mut self, averaging: Averaging, done: f64) -> bool {
        let begins = self.position.averaged.is_none() && averaging.begins_at(done);
        if begins {
            self.begin_average();
        }
        begins
    }

    /// Begins an average with the next step.
    pub(crate) fn begin_average(&mut self) {
        self.average = Some(Params::zeros(self.params.layout().clone()));
        self.position.averaged = Some(0);
    }

    /// Whether training can go on from here: one value that is no number spoils all that follows.
    pub(crate) fn is_finite(&self) -> bool {
        let Self { params, average, optimizer, state, .. } = self;
        let average = average.as_ref().map_or(&[][..], Params::values);
        let values = [params.values(), average, &optimizer.first, &optimizer.second, &state.h, &state.c];
        values.iter().all(|values| values.iter().all(|value| value.is_finite()))
    }

    /// What changes beside the parameters and their average, by its name in a checkpoint.
    pub(crate) fn states(&self) -> [(&'static str, &[f32]); 4] {
        let values = [&self.state.h[..], &self.state.c, &self.optimizer.first, &self.optimizer.second];
        std::array::from_fn(|i| (STATES[i], values[i]))
    }

    /// The bytes of a checkpoint that shall be `path`.
    pub(crate) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, FormatError> {
        let states = self.states();
        let shapes = states.map(|(_, values)| [values.len()]);
        let mut tensors = tensors(&self.params);
        tensors.extend((0..STATES.len()).map(|i| (states[i].0, &shapes[i][..], states[i].1)));
        let average = self.average.as_ref().map(|average| (average.values(), [average.values().len()]));
        tensors.extend(average.as_ref().map(|(values, shape)| (AVERAGE, &shape[..], *values)));
        let document = serde_json::to_value(&self.position)
            .map_err(|e| FormatError::Unusable { path: path.to_owned(), why: e.to_string() })?;
        to_bytes(path, &tensors, document, &BTreeMap::new())
    }
}

/// A checkpoint as it was read, before the model that it is of is made.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
    contents: Contents,
    /// Where training stands.
    pub(crate) position: Position,
}

impl Checkpoint {
    /// Reads a checkpoint.
    pub(crate) fn read(path: &Path) -> Result<Self, FormatError> {
        let contents = read(path)?;
        let position = serde_json::from_value(contents.document.clone()).map_err(|e| FormatError::Unusable {
            path: path.to_owned(),
            why: format!("it is no checkpoint of this program ({e})"),
        })?;
        Ok(Self { path: path.to_owned(), contents, position })
    }

    /// Where training stands by the checkpoint in a file, whose tensors are not read.
    pub(crate) fn position(path: &Path) -> Result<Position, FormatError> {
        let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
        let document = document(path).ok_or_else(|| unusable("it is damaged; remove it".to_owned()))?;
        serde_json::from_value(document).map_err(|e| unusable(format!("it is no checkpoint of this program ({e})")))
    }

    /// The values of a tensor, if it has one of this name.
    pub(crate) fn values(&self, name: &str) -> Option<&[f32]> {
        self.contents.get(name).map(|(_, values)| values)
    }

    /// Its progress, for a run of this task.
    pub(crate) fn restore<T: Task>(self, task: &T) -> Result<Progress, FormatError> {
        let Self { path, contents, position } = self;
        let unusable = |why: String| FormatError::Unusable { path: path.clone(), why };
        let mut progress = Progress::new(task);
        let training = task.settings().training();
        let noted = progress.position.config.take();
        progress.params = read_params(task.layout(), &contents, &path)?;
        let has = position.averaged.is_some();
        if has && !training.averages() || !has && training.average.begins_at_once() {
            let found = if has { "an" } else { "no" };
            return Err(unusable(format!(
                "it has {found} average of the weights, which does not fit config.toml: that was changed since it was \
                 written; undo the change, or start a new run"
            )));
        }
        if has {
            progress.begin_average();
        }
        let Progress { optimizer, state, average, .. } = &mut progress;
        let states = [&mut state.h[..], &mut state.c, &mut optimizer.first, &mut optimizer.second];
        let states = STATES.into_iter().zip(states);
        for (name, target) in states.chain(average.as_mut().map(|average| (AVERAGE, average.values_mut()))) {
            match contents.get(name) {
                Some((_, values)) if values.len() == target.len() => target.copy_from_slice(values),
                found => {
                    let found = found.map_or("nothing".to_owned(), |(_, values)| count(values.len(), "value"));
                    let expected = count(target.len(), "value");
                    return Err(unusable(format!(
                        "{name} should have {expected}, found {found}: config.toml was changed since it was \
                         written; undo the change, or start a new run"
                    )));
                }
            }
        }
        progress.optimizer.steps = position.step;
        progress.position = Position { config: noted, ..position };
        contents.refuse_others(&path, |name| {
            let parameter = task.layout().entries().iter().any(|entry| entry.name == name);
            parameter || STATES.contains(&name) || has && name == AVERAGE
        })?;
        Ok(progress)
    }
}
