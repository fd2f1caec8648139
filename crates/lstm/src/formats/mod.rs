//! Files: written whole or not at all, and the sentences for those that cannot be used.

pub(crate) mod disk;
pub mod foreign;
pub mod import;
mod keras;
pub mod network;
mod onnx;
mod pytorch;
pub(crate) mod quantized;
pub mod safetensors;
mod state_dict;
pub mod tensorboard;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

/// A file that cannot be written or is not what it should be, in a sentence.
#[derive(Debug, Error)]
pub enum FormatError {
    /// The file could not be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written; what was there before is untouched.
    #[error("{} cannot be written: {source}; {}", path.display(), advice(source))]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there but cannot be used.
    #[error("{}: {why}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The file or folder does not go with what was asked for.
    #[error("{}: {why}", path.display())]
    Conflict {
        /// Which.
        path: PathBuf,
        /// Why, and what to do; settings are named in backticks.
        why: String,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "what was saved before is untouched; free some space and try again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "choose a folder that you may write to",
        _ => "what was saved before is untouched",
    }
}

/// Writes `bytes` under a temporary name, syncs and renames: a reader never sees half a file, and a failure leaves
/// the old one.
///
/// # Errors
/// A place that cannot be written.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), FormatError> {
    let partial = Partial::beside(path);
    let written = disk::write(&partial.0, bytes).and_then(|()| disk::rename(&partial.0, path));
    let written = written.and_then(|()| disk::sync_folder(path.parent().unwrap_or(Path::new(""))));
    written.map_err(|source| FormatError::Write { path: path.to_owned(), source })
}

/// A temporary name of this process's own; what has it in the end is removed.
#[derive(Debug)]
pub(crate) struct Partial(pub(crate) PathBuf);

impl Partial {
    /// One for what shall be `path`: `config.toml.4711-0.partial`.
    pub(crate) fn beside(path: &Path) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}-{}{PARTIAL}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
        Self(path.with_file_name(name))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is gone where it has become what it shall be.
        let _ = if self.0.is_dir() { fs::remove_dir_all(&self.0) } else { fs::remove_file(&self.0) };
    }
}

/// How temporary names end.
const PARTIAL: &str = ".partial";

/// Whether `name` is a temporary one of the file `of`, of whatever process.
pub(crate) fn is_partial(name: &str, of: &str) -> bool {
    name.strip_prefix(of).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(PARTIAL))
}

/// Reads a file of which no more than `most` bytes make sense: a longer one is refused before it is read.
///
/// # Errors
/// A file that cannot be read, is none, or is too long.
pub(crate) fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, FormatError> {
    let trouble = |source| FormatError::Read { path: path.to_owned(), source };
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    let file = open(path)?;
    let length = file.metadata().map_err(trouble)?.len();
    if length > most {
        return Err(unusable(format!(
            "it has {length} bytes, but no such file has more than {most}: it is damaged or another file; restore it \
             from a copy"
        )));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(most).read_to_end(&mut bytes).map_err(trouble)?;
    Ok(bytes)
}

/// Opens a regular file to read it; a folder or a pipe in its place is refused.
pub(crate) fn open(path: &Path) -> Result<File, FormatError> {
    let trouble = |source| FormatError::Read { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(trouble)?.is_file() {
        let why = "it is no regular file; put the file that belongs there in its place".to_owned();
        return Err(FormatError::Unusable { path: path.to_owned(), why });
    }
    File::open(path).map_err(trouble)
}
