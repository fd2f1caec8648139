//! The runs in a folder, a few facts each: no model is read for it, only what stands before its tensors.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use super::about::About;
use super::folder::RunFolder;
use super::saved::ModelCard;
use crate::formats::FormatError;
use crate::formats::safetensors::document;

/// A run in short.
#[derive(Debug)]
pub struct Summary {
    /// Its folder.
    pub folder: PathBuf,
    /// When its checkpoint or its model was last written.
    pub written: Option<SystemTime>,
    /// The seconds that its metrics say were spent on it.
    pub seconds: Option<f64>,
    /// Its settings, or why they cannot be read.
    pub about: Result<About, FormatError>,
    /// The card of its best model; `None` before there is one, or where its file is damaged.
    pub card: Option<ModelCard>,
}

impl Summary {
    /// The runs in a folder, the latest first.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn of_all(folder: &Path) -> Result<Vec<Self>, FormatError> {
        let trouble = |source| FormatError::Read { path: folder.to_owned(), source };
        let mut runs = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(trouble)? {
            let path = entry.map_err(trouble)?.path();
            if path.join("config.toml").exists() {
                runs.push(Self::of(&path));
            }
        }
        runs.sort_by(|a, b| b.written.cmp(&a.written).then_with(|| a.folder.cmp(&b.folder)));
        Ok(runs)
    }

    pub(crate) fn of(path: &Path) -> Self {
        let folder = RunFolder(path.to_owned());
        let written = |file: PathBuf| std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
        Self {
            written: written(folder.checkpoint()).max(written(folder.model())),
            seconds: spent(&folder.metrics()),
            about: About::load(&folder),
            card: card(&folder.model()),
            folder: path.to_owned(),
        }
    }
}

/// The seconds of the last line that names them.
fn spent(metrics: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(metrics).ok()?;
    let seconds = |line: &str| serde_json::from_str::<Value>(line).ok()?["seconds"].as_f64();
    text.lines().rev().find_map(seconds)
}

/// The document of a model's file, which stands in front of its tensors.
pub(crate) fn card(model: &Path) -> Option<ModelCard> {
    serde_json::from_value(document(model)?).ok()
}
