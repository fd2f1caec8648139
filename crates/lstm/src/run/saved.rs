//! The best model of a run, and a run opened to be used.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::formats::FormatError;
use crate::formats::safetensors::{Contents, Tensor, read, to_bytes, write};
use crate::model::{LanguageModel, Loss};
use crate::nn::params::Params;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::text::corpus::Corpus;
use crate::text::tokenizer::Tokenizer;
use crate::train::data::{test_text, training_text, validation_text};

/// The facts about a saved model beside its parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The fingerprint of the tokenizer it belongs to.
    pub tokenizer: String,
    /// The checksum of the whole `tokenizer.json`; empty where it was not noted.
    #[serde(default)]
    pub tokenizer_file: String,
    /// The settings it was trained with, but for where its texts lie and how long it was to be trained: `RunConfig::lasting`. Null where they
    /// were not noted.
    #[serde(default)]
    pub config: Value,
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
    let card = card(&contents, path)?;
    Ok((model_params(model, &contents, path)?, card))
}

/// Refuses a best model that is not that of the run with this configuration, tokenizer and training text: damaged, or of another run.
/// A run that goes on would say its results, or end in an error when all is trained.
pub(crate) fn check_model(
    folder: &RunFolder,
    config: &RunConfig,
    model: &LanguageModel,
    tokenizer_file: &str,
    text: &str,
) -> Result<(), FormatError> {
    let path = folder.model();
    let (_, card) = load_model(&path, model)?;
    config.check_against(&card.config, RunConfig::lasting, folder, &path)?;
    let noted = [(&card.tokenizer_file, tokenizer_file), (&card.text, text)];
    if noted.iter().any(|(noted, found)| !noted.is_empty() && noted != found) {
        let why = "it is the model of another run, with another text or tokenizer; put this run's own in its place";
        return Err(FormatError::Unusable { path, why: why.to_owned() });
    }
    Ok(())
}

fn card(contents: &Contents, path: &Path) -> Result<ModelCard, FormatError> {
    serde_json::from_value(contents.document.clone()).map_err(|e| FormatError::Unusable {
        path: path.to_owned(),
        why: format!("it is no model of this program ({e})"),
    })
}

/// The parameters of a model file, of which nothing may be left over.
fn model_params(model: &LanguageModel, contents: &Contents, path: &Path) -> Result<Params, FormatError> {
    let params = read_params(model, contents, path)?;
    contents.refuse_others(path, |name| model.layout().entries().iter().any(|entry| entry.name == name))?;
    Ok(params)
}

/// The bytes of a model file that says of itself that it was trained with `config`, everything else as it is.
pub(crate) fn with_settings(path: &Path, config: &RunConfig) -> Result<Vec<u8>, FormatError> {
    let Contents { tensors, mut document } = read(path)?;
    document["config"] = config.lasting();
    let mut tensors: Vec<Tensor> =
        tensors.iter().map(|(name, (shape, values))| (name.as_str(), &shape[..], &values[..])).collect();
    tensors.sort_unstable_by_key(|(name, ..)| *name);
    to_bytes(path, &tensors, document)
}

/// Every parameter, to be written.
pub(crate) fn tensors(params: &Params) -> Vec<Tensor<'_>> {
    let entries = params.layout().entries().iter();
    entries.map(|entry| (entry.name.as_str(), entry.shape.as_slice(), params.get(entry.slot))).collect()
}

/// Every parameter of `model`, of its own shape.
pub(crate) fn read_params(model: &LanguageModel, contents: &Contents, path: &Path) -> Result<Params, FormatError> {
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

/// The tokenizer of a run, and the checksum of its file.
///
/// # Errors
/// A file that is none, or not the one with the checksum `expected`, if that is not empty.
pub(crate) fn load_tokenizer(
    folder: &RunFolder,
    expected: &str,
    belongs_to: &Path,
) -> Result<(Tokenizer, String), FormatError> {
    let path = folder.tokenizer();
    let bytes = Tokenizer::read_file(&path)?;
    let tokenizer = Tokenizer::from_bytes(&path, &bytes)?;
    let found = file_checksum(&bytes);
    if !expected.is_empty() && found != expected {
        let why = format!(
            "it is another tokenizer than {} was trained with, or was changed since; put the one it was trained with \
             beside it",
            belongs_to.display()
        );
        return Err(FormatError::Unusable { path, why });
    }
    Ok((tokenizer, found))
}

/// The checksum of all bytes of a file.
pub(crate) fn file_checksum(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
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
    /// The facts about them.
    pub card: ModelCard,
}

impl LoadedRun {
    /// Loads the best model of a run.
    ///
    /// # Errors
    /// A folder that is no run, damaged files, or a configuration or a tokenizer that is not the model's.
    pub fn open(folder: &Path) -> Result<Self, TrainError> {
        let folder = RunFolder::open(folder)?;
        let mut config = RunConfig::load(&folder)?;
        let path = folder.model();
        if !path.exists() && folder.checkpoint().exists() {
            return Err(TrainError::NoModel { folder: folder.path().to_owned() });
        }
        let contents = read(&path)?;
        let card = card(&contents, &path)?;
        let (tokenizer, _) = load_tokenizer(&folder, &card.tokenizer_file, &path)?;
        // The model is sized by its tokenizer, so that one of another size is found as what it is.
        let trained_on = config.model.vocabulary;
        if card.tokenizer != tokenizer.fingerprint()
            || trained_on != tokenizer.vocabulary_size() && card.config.is_null()
        {
            return Err(TrainError::Unusable(format!(
                "{} was trained with another tokenizer than {} (vocabulary {trained_on} against {}); put the one it \
                 was trained with beside it",
                path.display(),
                folder.tokenizer().display(),
                tokenizer.vocabulary_size(),
            )));
        }
        config.check_against(&card.config, RunConfig::lasting, &folder, &path)?;
        config.model.vocabulary = tokenizer.vocabulary_size();
        let model = LanguageModel::new(config.model.clone())?;
        let params = model_params(&model, &contents, &path)?;
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
