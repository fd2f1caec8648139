//! Keras: `.keras`, `.h5` of both layouts, `.weights.h5`; read as a chain of layers, written as what `load_model` and
//! `load_weights` take.
//!
//! Keras has its gates in the order i, f, c, o, which is this library's i, f, g, o; its kernels are `[inputs, 4H]`, where PyTorch's
//! are their transposes; it has one bias where PyTorch has two, so the second is zero.

mod chain;
mod hdf5;
mod layers;
mod places;
mod write;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::Value;
use zip::ZipArchive;

use super::FormatError;
use super::import::{Hints, Import};
use hdf5::Tree;

pub(crate) use write::{describe, write};

/// What is in a `.keras` file.
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";
const METADATA: &str = "metadata.json";

/// How many times a file's size its parts may take, which may be compressed; Keras stores them as they are.
const GROWTH: u64 = 16;
/// What small files may claim beyond that.
const SLACK: u64 = 1 << 20;

/// Room for the reader of HDF5, which follows types that lie in each other by calling itself: a type has at most 64 KiB, and each
/// level 8 of them. Only what is used of the room is taken.
const STACK: usize = 64 << 20;

/// Whether an archive is Keras's and not PyTorch's, by what is in it.
pub(crate) fn is_keras(path: &Path) -> bool {
    let archive = File::open(path).ok().and_then(|file| ZipArchive::new(BufReader::new(file)).ok());
    archive
        .is_some_and(|archive| archive.index_for_name(CONFIG).is_some() && archive.index_for_name(METADATA).is_some())
}

/// Reads a model or its weights.
///
/// # Errors
/// As [`foreign::read`](super::foreign::read); a layer that has no place in a chain is refused by its name.
pub(crate) fn read(path: &Path, hints: Hints) -> Result<Import, FormatError> {
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    if !hints.map.is_empty() {
        let why = "the layers of a Keras file say themselves where their weights belong; names are mapped in a state dict alone";
        return Err(unusable(why.to_owned()));
    }
    let bytes = std::fs::read(path).map_err(|source| FormatError::Read { path: path.to_owned(), source })?;
    let reading = std::thread::Builder::new().stack_size(STACK).spawn(move || import(bytes));
    let reading = reading.map_err(|source| FormatError::Read { path: path.to_owned(), source })?;
    let gone = "the reader of HDF5 gave up on it: the file is damaged; fetch or save it again";
    reading.join().unwrap_or_else(|_| Err(gone.to_owned())).map_err(unusable)
}

/// The network of a file.
fn import(bytes: Vec<u8>) -> Result<Import, String> {
    if !bytes.starts_with(b"PK") {
        let tree = Tree::open(bytes)?;
        let model = ["", "model_weights"].into_iter().find_map(|group| tree.text(group, "model_config"));
        let version = ["", "model_weights"].into_iter().find_map(|group| tree.text(group, "keras_version"));
        let model = model.map(|text| json(text.as_bytes(), "its attribute model_config")).transpose()?;
        let what = if model.is_some() { "a model as HDF5 (.h5)" } else { "weights alone, as HDF5" };
        return layers::import(&tree, model.as_ref(), version.as_deref(), kind(version.as_deref(), what));
    }
    let size = bytes.len() as u64;
    let mut archive = ZipArchive::new(std::io::Cursor::new(bytes))
        .map_err(|error| format!("{error}: the archive is truncated or damaged; fetch or save it again"))?;
    let mut entry = |name: &str| -> Result<Vec<u8>, String> {
        let damaged =
            |error: &dyn std::fmt::Display| format!("{name} of the archive: {error}; fetch or save the file again");
        let entry = archive.by_name(name).map_err(|error| damaged(&error))?;
        let most = size.saturating_mul(GROWTH).saturating_add(SLACK);
        if entry.size() > most {
            return Err(format!("its {name} claims {} bytes, in a file of {size}", entry.size()));
        }
        let mut bytes = Vec::new();
        entry.take(most).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
        Ok(bytes)
    };
    let model = json(&entry(CONFIG)?, CONFIG)?;
    let version = json(&entry(METADATA)?, METADATA)?["keras_version"].as_str().map(str::to_owned);
    let tree = Tree::open(entry(WEIGHTS)?)?;
    layers::import(&tree, Some(&model), version.as_deref(), kind(version.as_deref(), "a model (.keras)"))
}

fn kind(version: Option<&str>, what: &str) -> String {
    format!("Keras{}, {what}", version.map(|version| format!(" {version}")).unwrap_or_default())
}

fn json(bytes: &[u8], what: &str) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{what} is no configuration ({error}); save the model again"))
}

/// Values `[rows, columns]` with rows and columns changed over.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}
