//! From a text file to batches of token ids.

pub(crate) mod archive;
pub mod batch;
pub mod builtin;
pub mod corpus;
pub(crate) mod decode;
pub mod documents;
mod file_kind;
pub mod folder;
mod foreseen;
pub(crate) mod lines;
pub mod ngram;
mod purpose;
pub mod shuffle;
pub mod source;
pub mod spelling;
mod split;
pub mod tokenizer;
pub(crate) mod vectors;

use std::path::PathBuf;

use thiserror::Error;

/// A text or tokenizer that cannot be used, in a sentence.
#[derive(Debug, Error)]
pub enum TextError {
    /// A file or folder could not be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Bytes that are not UTF-8.
    #[error(
        "{}: byte {offset} is not valid UTF-8; convert the file, or give `lossy` to replace such bytes (a model trained \
         with `tokenizer` bytes reads any file)", path.display()
    )]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// The first wrong byte, from 0.
        offset: u64,
    },
    /// A NUL byte where text is expected.
    #[error("{}: byte {offset} is NUL, so this looks like a binary file, not text (a model trained with `tokenizer` bytes reads any file)", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// The first NUL byte, from 0.
        offset: u64,
    },
    /// Anything else, said in full.
    #[error("{0}")]
    Unusable(String),
}
