//! The best model of a run, and a trained model opened to be used: from its run folder, or from its file alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::formats::FormatError;
use crate::formats::foreign::Format;
use crate::formats::safetensors::{Contents, MOST_HEADER, Tensor, is_ours, map, read, to_bytes};
use crate::formats::{quantized, write_bytes};
use crate::model::{LanguageModel, Loss};
use crate::nn::params::{Layout, Params};
use crate::nn::precision::Weights;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::run::settings::Settings;
use crate::run::task_kind::TaskKind;
use crate::text::corpus::Corpus;
use crate::text::tokenizer::Tokenizer;
use crate::train::texts::{test_text, training_text, validation_text};

/// The facts about a saved model beside its parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The fingerprint of the tokenizer it belongs to.
    pub tokenizer: String,
    /// The checksum of the whole `tokenizer.json`; empty where it was not noted.
    #[serde(default)]
    pub tokenizer_file: String,
    /// The settings it was trained with, but for where its texts lie and how long it was to be trained: `Settings::lasting`. Null where they
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

impl ModelCard {
    /// Whether this program trained the model. Of one that was converted from another program's file, the settings of training are those that
    /// a run has before anything is chosen, and say nothing of it.
    pub fn was_trained_here(&self) -> bool {
        self.step > 0
    }
}

/// The metadata key of the tokenizer: the text of its `tokenizer.json`.
pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// Writes a model file.
pub(crate) fn save_model(path: &Path, params: &Params, card: &ModelCard, texts: &Texts) -> Result<(), FormatError> {
    write_bytes(path, &model_bytes(path, params, card, texts)?)
}

/// The texts in the metadata of a model file beside its card, by their keys.
pub type Texts = BTreeMap<String, String>;

/// The bytes of a model file that shall be `path`: the parameters, and in the metadata the configuration and results (`card`) and
/// all else that the model needs. The same model is the same bytes.
pub(crate) fn model_bytes(
    path: &Path,
    params: &Params,
    card: &ModelCard,
    texts: &Texts,
) -> Result<Vec<u8>, FormatError> {
    to_bytes(path, &tensors(params), json!(card), texts)
}

/// The whole tokenizer, as a model file that shall be `path` has it.
pub(crate) fn tokenizer_text(tokenizer: &Tokenizer, path: &Path) -> Result<Texts, FormatError> {
    let text = String::from_utf8(tokenizer.to_bytes(path)?).expect("JSON is text");
    // Beyond some million tokens a header would be longer than readers of the format take; such a model needs its run folder.
    let fits = (text.len() as u64) < MOST_HEADER / 2;
    Ok(fits.then(|| (TOKENIZER.to_owned(), text)).into_iter().collect())
}

/// Reads `model.safetensors`.
pub(crate) fn load_model(path: &Path, layout: &Arc<Layout>) -> Result<(Params, ModelCard), FormatError> {
    let contents = read(path)?;
    let card = card(&contents, path)?;
    Ok((model_params(layout, contents, path)?, card))
}

pub(crate) fn card(contents: &Contents, path: &Path) -> Result<ModelCard, FormatError> {
    serde_json::from_value(contents.document.clone()).map_err(|e| {
        let why = match contents.document.get("epoch_loss") {
            Some(_) => "it is a checkpoint, from which a run goes on, and no model; give the model.safetensors beside it, or the \
                        run folder"
                .to_owned(),
            None => format!("it is no model of this program ({e})"),
        };
        FormatError::Unusable { path: path.to_owned(), why }
    })
}

/// The parameters of a model file, of which nothing may be left over.
pub(crate) fn model_params(layout: &Arc<Layout>, contents: Contents, path: &Path) -> Result<Params, FormatError> {
    check_shapes(layout, &contents, path)?;
    contents.refuse_others(path, |name| layout.entries().iter().any(|entry| entry.name == name))?;
    Ok(contents.into_params(layout))
}

/// The bytes of a model file that says of itself that it was trained with `settings`, everything else as it is.
pub(crate) fn with_settings(path: &Path, settings: &impl Settings) -> Result<Vec<u8>, FormatError> {
    let contents = read(path)?;
    let mut document = contents.document.clone();
    document["config"] = settings.lasting();
    to_bytes(path, &contents.tensors(), document, &contents.texts)
}

/// Every parameter, to be written.
pub(crate) fn tensors(params: &Params) -> Vec<Tensor<'_>> {
    let entries = params.layout().entries().iter();
    entries.map(|entry| (entry.name.as_str(), entry.shape.as_slice(), params.get(entry.slot))).collect()
}

/// Every parameter of a model, of its own shape.
pub(crate) fn read_params(layout: &Arc<Layout>, contents: &Contents, path: &Path) -> Result<Params, FormatError> {
    check_shapes(layout, contents, path)?;
    let mut params = Params::zeros(layout.clone());
    for entry in layout.entries() {
        if let Some((_, values)) = contents.get(&entry.name) {
            params.get_mut(entry.slot).copy_from_slice(values);
        }
    }
    Ok(params)
}

/// Refuses a file without a parameter of a model, or with one of another shape.
fn check_shapes(layout: &Arc<Layout>, contents: &Contents, path: &Path) -> Result<(), FormatError> {
    for entry in layout.entries() {
        let found = contents.get(&entry.name);
        if found.is_some_and(|(shape, _)| *shape == entry.shape) {
            continue;
        }
        let found = found.map_or("nothing".to_owned(), |(shape, _)| format!("{shape:?}"));
        let why = format!(
            "{} should be {:?}, found {found}: it does not fit the model that its configuration and tokenizer describe; put \
             the files it was trained with beside it",
            entry.name, entry.shape
        );
        return Err(FormatError::Unusable { path: path.to_owned(), why });
    }
    Ok(())
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

/// The checksum of a model's parameters.
pub(crate) fn params_checksum(params: &Params) -> String {
    file_checksum(bytemuck::cast_slice(params.values()))
}

/// The checksum of all bytes of a file.
pub(crate) fn file_checksum(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

/// Where a trained model was opened.
#[derive(Clone, Debug)]
pub enum Origin {
    /// In the folder of its run, which knows where its texts lie.
    Run(RunFolder),
    /// In a file that is the whole model, wherever that lies.
    File(PathBuf),
}

impl Origin {
    /// The folder where the model lies; what is kept beside it is found there.
    pub fn folder(&self) -> RunFolder {
        match self {
            Self::Run(folder) => folder.clone(),
            Self::File(file) => RunFolder(file.parent().unwrap_or(Path::new("")).to_owned()),
        }
    }
}

/// A trained model, to use.
#[derive(Debug)]
pub struct LoadedRun {
    /// Where it is from.
    pub origin: Origin,
    /// The configuration; of a model file without where texts lie.
    pub config: RunConfig,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The model.
    pub model: LanguageModel,
    /// Its best parameters.
    pub params: Params,
    /// The facts about them.
    pub card: ModelCard,
    /// How the file has its weights, and so how one token at a time reads them where nothing else is asked for.
    pub weights: Weights,
}

impl LanguageModel {
    /// Opens a trained model, to evaluate, score or generate with: `path` is a run folder, or a model file (`model.safetensors`)
    /// wherever it lies.
    ///
    /// ```no_run
    /// let trained = lstm::LanguageModel::open("model.safetensors")?;
    /// println!("{} tokens", trained.tokenizer.vocabulary_size());
    /// # Ok::<(), lstm::TrainError>(())
    /// ```
    ///
    /// # Errors
    /// As [`LoadedRun::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<LoadedRun, TrainError> {
        LoadedRun::open(path.as_ref())
    }
}

/// Whether a path is a trained model of this program: a run folder, or a model file.
pub fn is_trained(path: &Path) -> bool {
    path.is_dir() && path.join("config.toml").exists() || is_ours(path)
}

impl LoadedRun {
    /// Loads the best model of a run, or a model file.
    ///
    /// # Errors
    /// What is neither, damaged files, or a configuration or a tokenizer that is not the model's.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        if path.is_file() { Self::of_file(path) } else { Self::of_folder(path) }
    }

    /// A model file alone: its metadata say what it is.
    fn of_file(path: &Path) -> Result<Self, TrainError> {
        let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
        if !is_ours(path) && Format::of(path).is_ok() {
            let why = "it is another program's file, or was cut off; convert it into a model of this one first";
            return Err(unusable(why.to_owned()).into());
        }
        let contents = map(path)?;
        let card = card(&contents, path)?;
        TaskKind::of_settings(&card.config, path)?.check(RunConfig::TASKS, path)?;
        let Some(text) = contents.texts.get(TOKENIZER).filter(|_| !card.config.is_null()) else {
            let why = "it says nothing of its tokenizer, as model files of earlier versions, and those of some million tokens, do; \
                       give the run folder that it lies in, or put it back into it";
            return Err(unusable(why.to_owned()).into());
        };
        let tokenizer = Tokenizer::from_bytes(path, text.as_bytes())?;
        let config = RunConfig::noted(&card.config, path)?;
        if card.tokenizer != tokenizer.fingerprint() || config.model.vocabulary != tokenizer.vocabulary_size() {
            let why = "its tokenizer is not the one that it was trained with; restore it from a copy".to_owned();
            return Err(unusable(why).into());
        }
        Self::assemble(Origin::File(path.to_owned()), config, tokenizer, contents, card, path)
    }

    fn of_folder(folder: &Path) -> Result<Self, TrainError> {
        let folder = RunFolder::open(folder)?;
        let mut config = RunConfig::load(&folder)?;
        let path = folder.model();
        if !path.exists() && folder.checkpoint().exists() {
            return Err(TrainError::NoModel { folder: folder.path().to_owned() });
        }
        let contents = map(&path)?;
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
        Self::assemble(Origin::Run(folder), config, tokenizer, contents, card, &path)
    }

    fn assemble(
        origin: Origin,
        config: RunConfig,
        tokenizer: Tokenizer,
        contents: Contents,
        card: ModelCard,
        path: &Path,
    ) -> Result<Self, TrainError> {
        let model = LanguageModel::new(config.model.clone())?;
        let weights = if contents.quantized { Weights::Int8 } else { Weights::F32 };
        let params = model_params(model.layout(), contents, path)?;
        Ok(Self { origin, config, tokenizer, model, params, card, weights })
    }

    /// Writes the whole model into one file.
    ///
    /// # Errors
    /// A place that cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FormatError> {
        save_model(path, &self.params, &self.card, &tokenizer_text(&self.tokenizer, path)?)
    }

    /// Writes the whole model into one file a quarter the size: every matrix as bytes with a scale a row.
    ///
    /// # Errors
    /// A model that is quantized already, a place that cannot be written.
    pub fn save_quantized(&self, path: &Path) -> Result<(), TrainError> {
        if self.weights == Weights::Int8 {
            let why = "it is quantized already; copy its file as it is".to_owned();
            return Err(FormatError::Unusable { path: self.origin.folder().model(), why }.into());
        }
        let texts = tokenizer_text(&self.tokenizer, path)?;
        if texts.is_empty() {
            let why = "its tokenizer does not fit a model file".to_owned();
            return Err(FormatError::Unusable { path: path.to_owned(), why }.into());
        }
        let card = ModelCard { config: self.config.lasting(), ..self.card.clone() };
        Ok(write_bytes(path, &quantized::to_bytes(path, &tensors(&self.params), json!(card), &texts)?)?)
    }

    /// Refuses to look for a text of a model that does not know of any.
    fn knows_texts(&self, which: &str) -> Result<(), TrainError> {
        match (&self.origin, &self.config.data.imported) {
            (Origin::Run(folder), Some(file)) => Err(TrainError::Unusable(format!(
                "{} has no {which} text of its own, for its model was read from {}; train it on one, by `from`",
                folder.path().display(),
                file.display()
            ))),
            (Origin::Run(_), None) => Ok(()),
            (Origin::File(path), _) => Err(TrainError::Unusable(format!(
                "{} is a model by itself, and does not say where its {which} text lies; give the folder of its run",
                path.display()
            ))),
        }
    }

    /// The text it was trained on, read again.
    ///
    /// # Errors
    /// A text that is no longer there, or no longer the same.
    pub fn training_text(&self) -> Result<Corpus, TrainError> {
        self.knows_texts("training")?;
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
        self.knows_texts("validation")?;
        Ok(validation_text(&self.config, &self.tokenizer)?)
    }

    /// The text it was tested with, read again, if it has one.
    ///
    /// # Errors
    /// A text that is no longer there.
    pub fn test_text(&self) -> Result<Option<Corpus>, TrainError> {
        self.knows_texts("test")?;
        Ok(test_text(&self.config, &self.tokenizer)?)
    }
}
