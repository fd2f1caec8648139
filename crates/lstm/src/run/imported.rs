//! A model from elsewhere becomes a run folder, to be used as any other.

use std::path::Path;

use crate::formats::FormatError;
use crate::formats::network::Language;
use crate::nn::config::ConfigError;
use crate::nn::precision::Weights;
use crate::run::config::{DataConfig, RunConfig};
use crate::run::folder::{Claim, Existing};
use crate::run::preset::Preset;
use crate::run::saved::{LoadedRun, ModelCard, Origin, file_checksum, model_bytes, tokenizer_text};
use crate::run::settings::Settings as _;
use crate::text::batch::Batching;

/// A model that was read from `source`, another program's file, as one of this program.
///
/// A run's training is not known here: the batches are those of a planned run, and nothing was measured. `batching`: how the model
/// reads a text.
///
/// # Errors
/// Batches that its tokens do not go with.
pub fn imported(language: Language, source: &Path, batching: Batching) -> Result<LoadedRun, ConfigError> {
    let Language { model, params, tokenizer } = language;
    if batching != Batching::Stream && !tokenizer.line_markers() {
        return Err(ConfigError::Conflict(format!(
            "the batches {batching} have markers around every line, which a list of words does not say; give the tokenizer.json of a run \
             that was trained so, or read the text as a stream"
        )));
    }
    let mut config = RunConfig {
        tokenizer: tokenizer.kind(),
        model: model.config().clone(),
        data: DataConfig { imported: Some(absolute(source)), ..DataConfig::default() },
        ..Preset::Default.config()
    };
    config.set_batching(batching);
    config.validate()?;
    let card = ModelCard { tokenizer: tokenizer.fingerprint(), config: config.lasting(), ..ModelCard::default() };
    let weights = Weights::F32;
    Ok(LoadedRun { origin: Origin::File(source.to_owned()), config, tokenizer, model, params, card, weights })
}

/// Writes the run folder of a model, over a run that is there if that is to be replaced. Where the model does not say what it was
/// trained on, the folder says which file it is from.
///
/// # Errors
/// A folder that is in use or cannot be written; nothing is left behind.
pub fn write_run(trained: &LoadedRun, folder: &Path, existing: Existing) -> Result<(), FormatError> {
    let LoadedRun { origin, tokenizer, params, card, .. } = trained;
    let mut config = trained.config.clone();
    if let Origin::File(file) = origin {
        config.data.imported = Some(absolute(file));
    }
    let claim = Claim::new(folder, existing)?;
    let folder = claim.folder();
    let words = tokenizer.to_bytes(&folder.tokenizer())?;
    let card = ModelCard { tokenizer_file: file_checksum(&words), config: config.lasting(), ..card.clone() };
    let mut pending = claim.pending()?;
    pending.add(&folder.config(), &config.to_bytes(folder)?)?;
    pending.add(&folder.tokenizer(), &words)?;
    pending.add(
        &folder.model(),
        &model_bytes(&folder.model(), params, &card, &tokenizer_text(tokenizer, &folder.model())?)?,
    )?;
    pending.publish()
}

fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
