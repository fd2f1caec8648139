//! Where text comes from: files, also compressed, parts of them and folders.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::TextError;
use super::archive::{BUFFER, Compression, trouble};
use super::decode::as_text;
use super::documents::Reading;
use super::folder::Layout;
use crate::free_memory::free_memory;

/// A text: whole files, parts of files, or text in memory; and how it is read.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub(super) parts: Vec<Part>,
    reading: Reading,
}

#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Bytes of a file; of a compressed one, of what is in it.
    File { path: PathBuf, compression: Option<Compression>, start: u64, end: u64 },
    /// Bytes of a text in memory, and what to call it.
    Memory { text: Arc<[u8]>, name: Arc<Path>, start: u64, end: u64 },
}

/// A text for training, and for validation and test if there are any.
#[derive(Clone, Debug)]
pub struct Splits {
    /// To train on.
    pub train: Source,
    /// To watch the training with.
    pub valid: Option<Source>,
    /// To measure the result with.
    pub test: Option<Source>,
}

/// An error met in reading a compressed file.
fn damaged(path: &Path) -> impl Fn(std::io::Error) -> TextError + '_ {
    move |error| TextError::Unusable(format!("{} {}", path.display(), trouble(&error)))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> TextError + '_ {
    |source| TextError::Io { path: path.to_owned(), source }
}

impl Source {
    /// A text in memory.
    pub fn from_text(text: &str) -> Self {
        Self::from_bytes(text.as_bytes(), "(text in memory)")
    }

    /// The bytes of a text in memory, and what to call it in a sentence.
    pub fn from_bytes(text: &[u8], name: &str) -> Self {
        let (text, name, end): (Arc<[u8]>, _, _) = (text.into(), Path::new(name).into(), text.len() as u64);
        Self { parts: vec![Part::Memory { text, name, start: 0, end }], reading: Reading::default() }
    }

    /// The same, read in this way.
    #[must_use]
    pub fn read_as(mut self, reading: &Reading) -> Self {
        self.reading = reading.clone();
        self
    }

    /// How it is read.
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The same with other parts.
    pub(super) fn of(&self, parts: Vec<Part>) -> Self {
        Self { parts, reading: self.reading.clone() }
    }

    /// All of it, unpacked: of a file that is a list of examples, which are in memory anyway.
    pub(crate) fn read_whole(&self) -> Result<Vec<u8>, TextError> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            let mut reader = part.reader(0)?.take(part.bytes());
            reader.read_to_end(&mut bytes).map_err(|error| part.trouble(error))?;
        }
        Ok(bytes)
    }

    /// The files that it is of.
    pub(crate) fn files(&self) -> usize {
        let mut paths: Vec<&Path> = self.parts.iter().map(Part::path).collect();
        paths.dedup();
        paths.len()
    }

    /// Refuses a file whose first bytes are not those of a text, before the rest of it is unpacked.
    pub(crate) fn check_start(path: &Path) -> Result<(), TextError> {
        const LOOKED_AT: u64 = 1 << 16;
        // What else is wrong with it is said when it is opened; a pipe can be read but once.
        if !path.is_file() {
            return Ok(());
        }
        let file = File::open(path).map_err(io(path))?;
        let mut first = Vec::new();
        let read = match Compression::of(path) {
            None => file.take(LOOKED_AT).read_to_end(&mut first).map_err(io(path)),
            Some(packed) => packed.reader(file).take(LOOKED_AT).read_to_end(&mut first).map_err(damaged(path)),
        };
        read?;
        // A character may be cut at the end of what was read.
        let whole = first.iter().rposition(|byte| byte.is_ascii()).map_or(0, |at| at + 1);
        as_text(path, 0, &first[..whole], false).map(|_| ())
    }

    /// One file, compressed if its name ends with `.gz` or `.zst`.
    ///
    /// # Errors
    /// A file that is missing, empty, a folder, or that cannot be unpacked.
    pub fn from_file(path: &Path) -> Result<Self, TextError> {
        let metadata = std::fs::metadata(path).map_err(io(path))?;
        if metadata.is_dir() {
            return Err(TextError::Unusable(format!("{} is a folder; a text file is expected here", path.display())));
        }
        if !metadata.is_file() {
            let why = "is not a regular file; a text is read more than once, so save it to a file first";
            return Err(TextError::Unusable(format!("{} {why}", path.display())));
        }
        let compression = Compression::of(path);
        let file = File::open(path).map_err(io(path))?;
        let end = match compression {
            None => metadata.len(),
            // Its length is known, and that it is whole, when it was read once.
            Some(packed) => std::io::copy(&mut packed.reader(file), &mut std::io::sink()).map_err(damaged(path))?,
        };
        if end == 0 {
            return Err(TextError::Unusable(format!("{} is empty; there is nothing to read", path.display())));
        }
        let parts = vec![Part::File { path: path.to_owned(), compression, start: 0, end }];
        Ok(Self { parts, reading: Reading::default() })
    }

    /// A file, or a folder: of files named for training, validation and test, or of text files to be joined in the
    /// order of their names, as [`Layout`] says. Each may be compressed.
    ///
    /// # Errors
    /// A file that cannot be read, or a folder without text.
    pub fn open(path: &Path) -> Result<Splits, TextError> {
        if !path.is_dir() {
            return Ok(Splits { train: Self::from_file(path)?, valid: None, test: None });
        }
        let layout = Layout::of(path)?;
        let some = |files: &[PathBuf]| (!files.is_empty()).then(|| Self::from_files(files)).transpose();
        Ok(Splits { train: Self::from_files(&layout.train)?, valid: some(&layout.valid)?, test: some(&layout.test)? })
    }

    /// Files, read one after the other.
    ///
    /// # Errors
    /// Those of [`Self::from_file`].
    pub fn from_files(files: &[PathBuf]) -> Result<Self, TextError> {
        let mut joined = Self::default();
        for file in files {
            joined.parts.extend(Self::from_file(file)?.parts);
        }
        Ok(joined)
    }

    /// The number of bytes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// A file, standard input for `-`, or of a folder the text to measure on: its test text, else its validation text, else all
    /// of it. Which files of a folder that is, is said in a line. `lossy`: whether it may hold bytes that are no text.
    ///
    /// # Errors
    /// A file that cannot be read, or a folder without text.
    pub fn to_measure(path: &Path, lossy: bool) -> Result<(Self, Option<String>), TextError> {
        if path == Path::new("-") {
            return Ok((Self::from_reader(&mut std::io::stdin().lock(), "standard input")?, None));
        }
        let layout = path.is_dir().then(|| Layout::to_measure(path)).transpose()?;
        let files = layout.as_ref().map_or_else(|| vec![path.to_owned()], |layout| layout.test.clone());
        if !lossy {
            files.iter().try_for_each(|file| Self::check_start(file))?;
        }
        Ok((Self::from_files(&files)?, layout.map(|layout| layout.to_string())))
    }

    /// Everything that a reader gives, in memory.
    ///
    /// # Errors
    /// A reader that fails, gives nothing, or more than fits half of the free memory.
    pub fn from_reader(reader: &mut dyn Read, name: &str) -> Result<Self, TextError> {
        let most = free_memory().map_or(u64::MAX, |free| free / 2);
        let mut text = Vec::new();
        reader.take(most).read_to_end(&mut text).map_err(io(Path::new(name)))?;
        if text.is_empty() {
            return Err(TextError::Unusable(format!("{name} is empty; there is nothing to read")));
        }
        if text.len() as u64 == most {
            return Err(TextError::Unusable(format!(
                "{name} is longer than the {} that half of the free memory has room for; save it to a file first",
                size(most)
            )));
        }
        Ok(Self::from_bytes(&text, name))
    }

    /// Its name in a sentence: its file, or the first of several.
    pub(super) fn name(&self) -> String {
        let more = if self.parts.len() > 1 { format!(" and {} more", self.parts.len() - 1) } else { String::new() };
        match self.parts.first() {
            Some(part) => format!("{}{more}", part.path().display()),
            None => "the text".to_owned(),
        }
    }
}

/// Bytes as people say them.
pub(super) fn size(bytes: u64) -> String {
    crate::free_memory::size(bytes.into())
}

impl Part {
    pub(super) fn bytes(&self) -> u64 {
        let (Part::File { start, end, .. } | Part::Memory { start, end, .. }) = self;
        end - start
    }

    /// The first byte of it in its file.
    pub(super) fn start(&self) -> u64 {
        let (Part::File { start, .. } | Part::Memory { start, .. }) = self;
        *start
    }

    /// The file it is of, as errors name it.
    pub(super) fn path(&self) -> &Path {
        match self {
            Part::File { path, .. } => path,
            Part::Memory { name, .. } => name,
        }
    }

    /// Whether it is of a compressed file.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self, Part::File { compression: Some(_), .. })
    }

    /// Whether it goes on where `before` ends.
    pub(super) fn follows(&self, before: &Self) -> bool {
        self.path() == before.path() && self.start() == before.start() + before.bytes()
    }

    /// What is before byte `at` of it, and the rest.
    pub(super) fn cut(&self, at: u64) -> (Self, Self) {
        let middle = self.start() + at.min(self.bytes());
        let (mut first, mut rest) = (self.clone(), self.clone());
        match &mut first {
            Part::File { end, .. } | Part::Memory { end, .. } => *end = middle,
        }
        match &mut rest {
            Part::File { start, .. } | Part::Memory { start, .. } => *start = middle,
        }
        (first, rest)
    }

    /// A reader from byte `at` of it on, also of what comes after it in its file.
    pub(super) fn reader(&self, at: u64) -> Result<Box<dyn BufRead>, TextError> {
        let from = self.start() + at;
        let (path, compression) = match self {
            Part::File { path, compression, .. } => (path, compression),
            Part::Memory { text, .. } => {
                let mut cursor = Cursor::new(text.clone());
                cursor.set_position(from);
                return Ok(Box::new(cursor));
            }
        };
        let mut file = File::open(path).map_err(io(path))?;
        let Some(compression) = compression else {
            file.seek(SeekFrom::Start(from)).map_err(io(path))?;
            return Ok(Box::new(BufReader::with_capacity(BUFFER, file)));
        };
        let mut reader = compression.reader(file);
        std::io::copy(&mut reader.by_ref().take(from), &mut std::io::sink()).map_err(damaged(path))?;
        Ok(reader)
    }

    pub(super) fn trouble(&self, error: std::io::Error) -> TextError {
        if self.is_packed() { damaged(self.path())(error) } else { io(self.path())(error) }
    }
}

#[cfg(test)]
mod tests;
