//! A language model from elsewhere becomes a run folder, to be used as any other.

use std::path::Path;

use serde_json::json;

use crate::formats::FormatError;
use crate::formats::network::Language;
use crate::formats::safetensors::to_bytes;
use crate::run::config::{DataConfig, RunConfig};
use crate::run::folder::{Claim, Existing};
use crate::run::preset::Preset;
use crate::run::saved::{ModelCard, file_checksum, tensors};

/// Writes the run folder of a model that was read from `source`, over a run that is there if that is to be replaced.
///
/// A run's training is not known here: the batches are those of a planned run, the training text is given as
/// the file that the model is from, and nothing was measured.
///
/// # Errors
/// A folder that is in use or cannot be written; nothing is left behind.
pub fn write_imported(
    language: &Language,
    source: &Path,
    folder: &Path,
    existing: Existing,
) -> Result<(), FormatError> {
    let Language { model, params, tokenizer } = language;
    let source = std::path::absolute(source).unwrap_or_else(|_| source.to_owned());
    let config = RunConfig {
        tokenizer: tokenizer.kind(),
        model: model.config().clone(),
        data: DataConfig { train: Some(source), ..DataConfig::default() },
        ..Preset::Default.config()
    };
    let claim = Claim::new(folder, existing)?;
    let folder = claim.folder();
    let words = tokenizer.to_bytes(&folder.tokenizer())?;
    let card = ModelCard {
        tokenizer: tokenizer.fingerprint(),
        tokenizer_file: file_checksum(&words),
        config: config.lasting(),
        ..ModelCard::default()
    };
    let mut pending = claim.pending()?;
    pending.add(&folder.config(), &config.to_bytes(folder)?)?;
    pending.add(&folder.tokenizer(), &words)?;
    pending.add(&folder.model(), &to_bytes(&folder.model(), &tensors(params), json!(card))?)?;
    pending.publish()
}
