//! The files of a run: its checkpoint, its best model, and a run opened to be used.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::formats::FormatError;
use crate::formats::safetensors::{Contents, Tensor, read, to_bytes, write};
use crate::model::{LanguageModel, Loss};
use crate::nn::params::Params;
use crate::nn::state::State;
use crate::optim::averaging::{Averaging, average_in};
use crate::optim::optimizer::Optimizer;
use crate::run::config::{RunConfig, RunFolder};
use crate::text::corpus::Corpus;
use crate::text::tokenizer::Tokenizer;
use crate::train::data::{test_text, training_text, validation_text};
use crate::train::trainer::TrainError;

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
    /// The validation losses of the epochs, in nats per token, where NT-ASGD waits for its trigger.
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
    /// The fingerprint of the texts.
    pub(crate) data: String,
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

/// What changes during training.
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
const AVERAGE: &str = "average";

impl Progress {
    /// The start of a run.
    pub(crate) fn new(config: &RunConfig, model: &LanguageModel, data: String) -> Self {
        let from_the_start = config.average != Averaging::None;
        Self {
            params: model.initialise(&config.init, config.seed),
            average: from_the_start.then(|| Params::zeros(model.layout().clone())),
            optimizer: Optimizer::new(config.optimizer, config.weight_decay, model.layout().len())
                .with_adam(config.adam),
            state: model.state(config.batch),
            position: Position { data, averaged: from_the_start.then_some(0), ..Position::default() },
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
        let keep = match averaging {
            Averaging::Ema(keep) => keep,
            // NT-ASGD's: the mean of all since the trigger.
            Averaging::None => 1.0,
        };
        average_in(average.values_mut(), self.params.values(), *averaged, keep);
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

    /// The bytes of a checkpoint that shall be `path`.
    pub(crate) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, FormatError> {
        let values = [&self.state.h[..], &self.state.c, &self.optimizer.first, &self.optimizer.second];
        let shapes = values.map(|values| [values.len()]);
        let mut tensors = tensors(&self.params);
        tensors.extend((0..STATES.len()).map(|i| (STATES[i], &shapes[i][..], values[i])));
        let average = self.average.as_ref().map(|average| (average.values(), [average.values().len()]));
        tensors.extend(average.as_ref().map(|(values, shape)| (AVERAGE, &shape[..], *values)));
        let document = serde_json::to_value(&self.position)
            .map_err(|e| FormatError::Unusable { path: path.to_owned(), why: e.to_string() })?;
        to_bytes(path, &tensors, document)
    }

    /// Reads the checkpoint of a run of this configuration and model.
    pub(crate) fn load(path: &Path, config: &RunConfig, model: &LanguageModel) -> Result<Self, FormatError> {
        let contents = read(path)?;
        let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
        let position: Position = serde_json::from_value(contents.document.clone())
            .map_err(|e| unusable(format!("it is no checkpoint of this program ({e})")))?;
        let mut progress = Self::new(config, model, String::new());
        progress.params = read_params(model, &contents, path)?;
        let has = position.averaged.is_some();
        if has && !config.averages() || !has && config.average != Averaging::None {
            let found = if has { "an" } else { "no" };
            return Err(unusable(format!(
                "it has {found} average of the weights, which does not fit config.toml: that was changed since it was \
                 written; undo the change, or start a new run"
            )));
        }
        if has {
            progress.begin_average();
        }
        let Self { optimizer, state, average, .. } = &mut progress;
        let states = [&mut state.h[..], &mut state.c, &mut optimizer.first, &mut optimizer.second];
        let states = STATES.into_iter().zip(states);
        for (name, target) in states.chain(average.as_mut().map(|average| (AVERAGE, average.values_mut()))) {
            match contents.tensors.get(name) {
                Some((_, values)) if values.len() == target.len() => target.copy_from_slice(values),
                found => {
                    let found = found.map_or("nothing".to_owned(), |(_, values)| format!("{} values", values.len()));
                    let expected = target.len();
                    return Err(unusable(format!(
                        "{name} should have {expected} values, found {found}: config.toml was changed since it was \
                         written; undo the change, or start a new run"
                    )));
                }
            }
        }
        progress.optimizer.steps = position.step;
        progress.position = position;
        Ok(progress)
    }
}

fn tensors(params: &Params) -> Vec<Tensor<'_>> {
    let entries = params.layout().entries().iter();
    entries.map(|entry| (entry.name.as_str(), entry.shape.as_slice(), params.get(entry.slot))).collect()
}

/// What is known of a saved model beside its parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The fingerprint of the tokenizer it belongs to.
    pub tokenizer: String,
    /// The fingerprint of the text it was trained on; empty where it was not noted.
    #[serde(default)]
    pub text: String,
    /// The epoch it is from, counted from 1, and the steps taken until then.
    pub epoch: usize,
    /// The steps taken until then.
    pub step: u64,
    /// The training loss of its epoch.
    pub train: Loss,
    /// Its validation loss.
    pub valid: Option<Loss>,
    /// Its test loss, once the run has ended.
    pub test: Option<Loss>,
    /// The perplexity no model can beat, where it is known.
    pub floor: Option<f64>,
}

/// Writes `model.safetensors`.
pub(crate) fn save_model(path: &Path, params: &Params, card: &ModelCard) -> Result<(), FormatError> {
    write(path, &tensors(params), json!(card))
}

/// Reads `model.safetensors`.
pub(crate) fn load_model(path: &Path, model: &LanguageModel) -> Result<(Params, ModelCard), FormatError> {
    let contents = read(path)?;
    let params = read_params(model, &contents, path)?;
    let card = serde_json::from_value(contents.document).map_err(|e| FormatError::Unusable {
        path: path.to_owned(),
        why: format!("it is no model of this program ({e})"),
    })?;
    Ok((params, card))
}

fn read_params(model: &LanguageModel, contents: &Contents, path: &Path) -> Result<Params, FormatError> {
    let mut params = Params::zeros(model.layout().clone());
    for entry in model.layout().entries() {
        match contents.tensors.get(&entry.name) {
            Some((shape, values)) if *shape == entry.shape => params.get_mut(entry.slot).copy_from_slice(values),
            found => {
                let found = found.map_or("nothing".to_owned(), |(shape, _)| format!("{shape:?}"));
                let why = format!(
                    "{} should be {:?}, found {found}: it does not fit the model that config.toml and tokenizer.json \
                     describe; put the files it was trained with beside it",
                    entry.name, entry.shape
                );
                return Err(FormatError::Unusable { path: path.to_owned(), why });
            }
        }
    }
    Ok(params)
}

/// A trained model, to use.
#[derive(Debug)]
pub struct LoadedRun {
    /// The configuration.
    pub config: RunConfig,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The model.
    pub model: LanguageModel,
    /// Its best parameters.
    pub params: Params,
    /// What is known of them.
    pub card: ModelCard,
}

impl LoadedRun {
    /// Loads the best model of a run.
    ///
    /// # Errors
    /// A folder that is no run, damaged files, or a model of another tokenizer.
    pub fn open(folder: &Path) -> Result<Self, TrainError> {
        let folder = RunFolder(folder.to_owned());
        let mut config = RunConfig::load(&folder)?;
        config.validate()?;
        let tokenizer = Tokenizer::load(&folder.tokenizer())?;
        let path = folder.model();
        if !path.exists() && folder.checkpoint().exists() {
            return Err(TrainError::Unusable(format!(
                "{} has no model yet: it is saved after the first validation; go on with `lstm train --resume {}`",
                folder.path().display(),
                folder.path().display()
            )));
        }
        // The model is sized by its tokenizer, so that one of another size is found as what it is.
        let trained_on = config.model.vocabulary;
        config.model.vocabulary = tokenizer.vocabulary_size();
        let card: Value = read(&path)?.document;
        if card["tokenizer"] != tokenizer.fingerprint().as_str() || trained_on != config.model.vocabulary {
            return Err(TrainError::Unusable(format!(
                "{} was trained with another tokenizer than {} (vocabulary {trained_on} against {}); put the one it \
                 was trained with beside it",
                path.display(),
                folder.tokenizer().display(),
                config.model.vocabulary,
            )));
        }
        let model = LanguageModel::new(config.model.clone())?;
        let (params, card) = load_model(&path, &model)?;
        Ok(Self { config, tokenizer, model, params, card })
    }

    /// The text it was trained on, read again.
    ///
    /// # Errors
    /// A text that is no longer there, or no longer the same.
    pub fn training_text(&self) -> Result<Corpus, TrainError> {
        let text = training_text(&self.config, &self.tokenizer)?;
        if !self.card.text.is_empty() && self.card.text != text.fingerprint {
            return Err(TrainError::Unusable(
                "the training text changed since the model was trained on it, so nothing can be compared on the same \
                 data; restore it, or train again"
                    .to_owned(),
            ));
        }
        Ok(text)
    }

    /// The tokens that its training text has not: as its tokenizer notes, or by the text itself, read again, of a run from
    /// before there was such a note.
    ///
    /// # Errors
    /// A text that is no longer there, or no longer the same.
    pub fn unseen(&self) -> Result<Vec<u32>, TrainError> {
        if let Some(unseen) = self.tokenizer.unseen() {
            return Ok(unseen);
        }
        let counts = self.training_text()?.counts(&self.tokenizer);
        Ok((0..).zip(counts).filter(|(_, count)| *count == 0).map(|(id, _)| id).collect())
    }

    /// The text it was validated on, read again, if it has one.
    ///
    /// # Errors
    /// A text that is no longer there.
    pub fn validation_text(&self) -> Result<Option<Corpus>, TrainError> {
        Ok(validation_text(&self.config, &self.tokenizer)?)
    }

    /// The text it was tested with, read again, if it has one.
    ///
    /// # Errors
    /// A text that is no longer there.
    pub fn test_text(&self) -> Result<Option<Corpus>, TrainError> {
        Ok(test_text(&self.config, &self.tokenizer)?)
    }
}
