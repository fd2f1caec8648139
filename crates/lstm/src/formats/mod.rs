//! Files: written whole or not at all, and the sentences for those that cannot be used.

pub mod network;
pub mod safetensors;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), FormatError> {
    let mut staged = Staged::default();
    staged.add(path, bytes)?;
    staged.publish()
}

/// Files written in full under temporary names, to take their places together. Those that never do are removed.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// Temporary names and places.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Staged {
    /// Writes a file that shall become `path`.
    pub(crate) fn add(&mut self, path: &Path, bytes: &[u8]) -> Result<(), FormatError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        self.files.push((partial.clone(), path.to_owned()));
        let written = fs::write(&partial, bytes).and_then(|()| File::open(&partial)?.sync_all());
        written.map_err(|source| FormatError::Write { path: path.to_owned(), source })
    }

    /// Puts the files in their places.
    pub(crate) fn publish(mut self) -> Result<(), FormatError> {
        while let Some((partial, path)) = self.files.first() {
            let placed = fs::rename(partial, path).and_then(|()| sync_folder(path));
            placed.map_err(|source| FormatError::Write { path: path.clone(), source })?;
            self.files.remove(0);
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (partial, _) in &self.files {
            let _ = fs::remove_file(partial);
        }
    }
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

/// Makes the rename itself last: on Unix it is an entry of the folder.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
