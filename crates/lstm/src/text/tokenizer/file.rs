//! The file of a tokenizer, `tokenizer.json`: of this program, or of the `tokenizers` library.

use std::path::Path;

use super::kind::TokenizerKind;
use super::subwords::Subwords;
use super::tokens::{Stored, Tokenizer, VERSION};
use crate::formats::{FormatError, read_bounded, write_bytes};
use crate::said::count;
use crate::text::spelling::Spelling;

impl Tokenizer {
    /// Reads a `tokenizer.json`, of this program or of the `tokenizers` library, for texts with or without markers around
    /// their lines.
    ///
    /// # Errors
    /// A file that is missing, is neither, or is made for texts of the other kind.
    pub fn import(path: &Path, line_markers: bool) -> Result<Self, FormatError> {
        let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
        let bytes = Self::read_file(path)?;
        let json: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|e| unusable(format!("not a tokenizer.json: it is no JSON ({e})")))?;
        if json["kind"].is_string() {
            let tokenizer = Self::load(path)?;
            if tokenizer.line_markers() != line_markers {
                let [made, needed] = [!line_markers, line_markers].map(|with| if with { "with" } else { "without" });
                let conflict = |why| FormatError::Conflict { path: path.to_owned(), why };
                return Err(conflict(format!(
                    "it is made for texts {made} markers around their lines, and `batches` needs one {needed}; choose \
                     `batches` as in the run it is from, or another tokenizer"
                )));
            }
            return Ok(tokenizer);
        }
        let subwords = Subwords::read(&bytes).map_err(|why| {
            unusable(format!(
                "not a tokenizer.json that can be used: {why}; give one that the tokenizers library wrote"
            ))
        })?;
        Ok(Self::of_subwords(TokenizerKind::File, subwords, line_markers))
    }

    /// A short checksum of the vocabulary: a model belongs to one tokenizer.
    pub fn fingerprint(&self) -> String {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.kind().to_string().as_bytes());
        for token in &self.stored.tokens {
            hasher.update(token.as_bytes());
            hasher.update(&[0]);
        }
        if let Some(subwords) = &self.stored.subwords {
            hasher.update(subwords.to_string().as_bytes());
        }
        if self.stored.version >= 3 {
            let known = serde_json::json!([self.stored.spelling, self.stored.unseen]);
            hasher.update(known.to_string().as_bytes());
        }
        format!("{:08x}", hasher.finalize())
    }

    /// The first way in which this tokenizer's tokens are not those of `other`, as a part of a sentence about this one; `None` where both cut
    /// a text into the same tokens of the same numbers.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let (own, others) = (&self.stored, &other.stored);
        if own.kind != others.kind {
            return Some(format!("its tokens are {}, not {}", own.kind, others.kind));
        }
        if own.line_markers != others.line_markers {
            let [is, not] = [own, others].map(|one| if one.line_markers { "with" } else { "without" });
            return Some(format!("it reads texts {is} markers around their lines, not {not}"));
        }
        let mut pairs = own.tokens.iter().zip(&others.tokens).enumerate();
        if let Some((id, (own, others))) = pairs.find(|(_, (own, others))| own != others) {
            return Some(format!("its token {id} is {own:?}, not {others:?}"));
        }
        if own.tokens.len() != others.tokens.len() {
            return Some(format!("it has {}, not {}", count(own.tokens.len(), "token"), others.tokens.len()));
        }
        (own.subwords != others.subwords).then(|| "it cuts words into other pieces".to_owned())
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FormatError> {
        write_bytes(path, &self.to_bytes(path)?)
    }

    /// The bytes of a `tokenizer.json` that shall be `path`.
    pub(crate) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, FormatError> {
        let unusable = |why| FormatError::Unusable { path: path.to_owned(), why };
        let mut stored = self.stored.clone();
        if let Some(subwords) = &self.subwords {
            stored.tokens.drain(..subwords.tokens().len());
        }
        serde_json::to_vec_pretty(&stored).map_err(|e| unusable(e.to_string()))
    }

    /// The bytes of a `tokenizer.json`, of this program or another.
    ///
    /// # Errors
    /// A file that is missing, or far too long to be one.
    pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, FormatError> {
        /// Some ten million tokens.
        const MOST_BYTES: u64 = 512 << 20;
        read_bounded(path, MOST_BYTES)
    }

    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// A file that is missing, is none, or is from a newer version.
    pub fn load(path: &Path) -> Result<Self, FormatError> {
        Self::from_bytes(path, &Self::read_file(path)?)
    }

    /// The tokenizer that the bytes of the file `path` are.
    pub(crate) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, FormatError> {
        let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
        let damaged = |what: String| {
            unusable(format!("not a tokenizer of this program ({what}); restore it from a copy, or train again"))
        };
        let json: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        if let Some(version) = json["version"].as_u64().filter(|version| *version > VERSION.into()) {
            return Err(unusable(format!("its version {version} is newer than {VERSION}; update the program")));
        }
        let stored: Stored = serde_json::from_value(json).map_err(|e| damaged(e.to_string()))?;
        let subwords = stored.subwords.as_ref().map(|document| Subwords::read(document.to_string().as_bytes()));
        stored.spelling.as_ref().map_or(Ok(()), Spelling::check).map_err(damaged)?;
        let tokenizer = Self::new(stored, subwords.transpose().map_err(damaged)?);
        if tokenizer.ids.len() != tokenizer.vocabulary_size() || tokenizer.ids.is_empty() {
            return Err(damaged("its vocabulary is empty or repeats a token".to_owned()));
        }
        Ok(tokenizer)
    }
}
