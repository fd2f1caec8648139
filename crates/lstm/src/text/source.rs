//! Where text comes from: files, also compressed, parts of them and folders, cut for training, validation and test.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::TextError;
use super::archive::{BUFFER, Compression};
use super::documents::Reading;
use super::folder::Layout;
use super::lines::{as_text, visit_lines};
use super::tokenizer::kind::TokenizerKind;
use crate::free_memory::free_memory;

/// A text: whole files, parts of files, or text in memory; and how it is read.
#[derive(Clone, Debug, Default)]
pub struct Source {
    parts: Vec<Part>,
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
    move |error| {
        TextError::Unusable(format!(
            "{} cannot be unpacked: it is damaged, was cut short, or is not what its name says ({error}); get it again",
            path.display()
        ))
    }
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
    fn of(&self, parts: Vec<Part>) -> Self {
        Self { parts, reading: self.reading.clone() }
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

    /// Cuts into training, validation and test at the line ends nearest after the given shares (percent); in a line
    /// that is long, or the last, between words.
    ///
    /// # Errors
    /// Shares that do not add up to 100, or a text that is too short.
    pub fn split(&self, shares: &[u32]) -> Result<Splits, TextError> {
        if !(2..=3).contains(&shares.len())
            || shares.iter().map(|&share| u64::from(share)).sum::<u64>() != 100
            || shares[0] == 0
        {
            let given: Vec<String> = shares.iter().map(u32::to_string).collect();
            return Err(TextError::Unusable(format!(
                "the split {} is not two or three percentages that add up to 100, such as 90/5/5 or 90/10",
                given.join("/")
            )));
        }
        let (train, valid, test) = (shares[0], shares[1], shares.get(2).copied().unwrap_or(0));
        // Of the sums of shares, so that what is rounded off one is the next one's.
        let until = |share: u32| (u128::from(self.bytes()) * u128::from(share) / 100) as u64;
        let piece = |from: u32, share: u32| (share > 0).then(|| until(from + share) - until(from));
        self.hold_out(piece(train, valid), piece(train + valid, test))
    }

    /// Cuts into training, validation and test as is done when nothing is said: a twentieth each for the last two, but
    /// of a long text no more than 2 MiB, so that measuring does not take the time of learning. most: the bytes
    /// of the training text that will be used.
    ///
    /// # Errors
    /// A text that is too short.
    pub fn split_by_default(&self, most: Option<u64>) -> Result<Splits, TextError> {
        let held_out = most.map_or(MOST_HELD_OUT, |most| (most / 18).clamp(LEAST_HELD_OUT, MOST_HELD_OUT));
        if self.bytes() / 20 <= held_out {
            return self.split(&[90, 5, 5]);
        }
        self.hold_out(Some(held_out), Some(held_out))
    }

    /// About a twentieth of the text, at most 2 MiB, for validation beside a test text of its own; `None` for a text too short.
    pub(crate) fn hold_out_validation(&self) -> Result<Option<Splits>, TextError> {
        let piece = (self.bytes() / 20).min(MOST_HELD_OUT);
        match self.hold_out(Some(piece), None) {
            Err(TextError::Unusable(_)) => Ok(None),
            splits => splits.map(Some),
        }
    }

    /// Cuts about so many bytes off the end, first the validation; of a text of several files, off the ends of stretches all
    /// over it, because the last files by name are seldom like the others.
    fn hold_out(&self, valid: Option<u64>, test: Option<u64>) -> Result<Splits, TextError> {
        let total = self.bytes();
        let (for_valid, for_test) = (valid.unwrap_or(0), test.unwrap_or(0));
        let stretches = self.stretches(for_valid + for_test);
        let [mut train, mut first, mut second] = [(); 3].map(|()| self.of(Vec::new()));
        let mut rest = self.clone();
        for number in 1..=stretches {
            let before = total - rest.bytes();
            let until = |share: u64| (u128::from(share) * u128::from(number) / u128::from(stretches)) as u64;
            let mut stretch = rest.clone();
            if number < stretches {
                (stretch, rest) = rest.cut(until(total).saturating_sub(before))?;
            }
            let length = stretch.bytes();
            let (of_valid, of_test) = (for_valid / stretches, for_test / stretches);
            let (learned, held_out) = stretch.cut(length.saturating_sub(of_valid + of_test))?;
            // What the first cut went beyond its place is the first piece's.
            let place = length.saturating_sub(of_test).saturating_sub(learned.bytes());
            let (watched, tested) = held_out.cut(place)?;
            for (whole, piece) in [(&mut train, learned), (&mut first, watched), (&mut second, tested)] {
                whole.parts.extend(piece.parts);
            }
        }
        let pieces = [valid.map(|_| first), test.map(|_| second)];
        if train.bytes() == 0 || pieces.iter().flatten().any(|piece| piece.bytes() == 0) {
            return Err(TextError::Unusable(format!(
                "a text of {total} bytes is too short to be split into {} parts; give a longer text, or `valid` and \
                 `test` files",
                1 + pieces.iter().flatten().count()
            )));
        }
        let [valid, test] = pieces;
        Ok(Splits { train, valid, test })
    }

    /// The stretches off whose ends a text of several files is held out, such that some lines are of each; one of a single file.
    fn stretches(&self, held_out: u64) -> u64 {
        const MOST: u64 = 32;
        const SOME_LINES: u64 = 64;
        const MANY_LINES: u64 = 2048;
        let files = self.files() as u64;
        if files < 2 {
            return 1;
        }
        // To find a place in a compressed file all before it is unpacked.
        let most = if self.parts.iter().any(Part::is_packed) { files.clamp(2, 8) } else { MOST };
        (held_out / MANY_LINES).max(files).min(held_out / SOME_LINES).clamp(1, most)
    }

    /// Whether what is held out of it comes from all over it.
    pub(crate) fn is_cut_all_over(&self, held_out: u64) -> bool {
        self.stretches(held_out) > 1
    }

    /// About so many bytes of the text, in pieces from all over it; all of one that is not longer.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn sample(&self, most: u64) -> Result<Self, TextError> {
        if self.bytes() <= most {
            return Ok(self.clone());
        }
        // To find a place in a compressed file all before it is unpacked.
        let pieces = if self.parts.iter().any(Part::is_packed) { 2 } else { 32 };
        let (piece, between) = (most / pieces, (self.bytes() - most) / pieces);
        let (mut sample, mut rest) = (self.of(Vec::new()), self.clone());
        for _ in 0..pieces {
            let (taken, remaining) = rest.cut(piece)?;
            sample.parts.extend(taken.parts);
            rest = remaining.cut(between)?.1;
        }
        Ok(sample)
    }

    /// The first `at` bytes and on to the next place to cut, and the rest.
    fn cut(&self, mut at: u64) -> Result<(Self, Self), TextError> {
        let (mut first, mut rest) = (self.of(Vec::new()), self.of(Vec::new()));
        for (index, part) in self.parts.iter().enumerate() {
            let bytes = part.bytes();
            if at >= bytes {
                at -= bytes;
                first.parts.push(part.clone());
            } else if at == 0 {
                rest.parts.push(part.clone());
            } else {
                let (a, b) = part.cut(part.place_to_cut(at, index + 1 == self.parts.len())?);
                first.parts.push(a);
                rest.parts.extend((b.bytes() > 0).then_some(b));
                at = 0;
            }
        }
        Ok((first, rest))
    }

    /// About how many tokens the text has, by those of its first megabytes; `None` for one so short that it does not
    /// matter.
    fn expected_tokens(&self, kind: TokenizerKind) -> Result<Option<u64>, TextError> {
        if self.bytes() <= SAMPLE {
            return Ok(None);
        }
        let (sample, _) = self.cut(SAMPLE)?;
        let mut tokens = 0;
        visit_lines(&sample, &mut |line| {
            tokens += kind.expected(line.bytes, line.ended);
            Ok(())
        })?;
        Ok(Some((tokens as u128 * u128::from(self.bytes()) / u128::from(sample.bytes())) as u64))
    }

    /// Refuses a text whose ids, of `width` bytes each, do not fit the free memory; else gives the number of tokens to
    /// make room for.
    pub(crate) fn check_memory(&self, kind: TokenizerKind, width: u64) -> Result<usize, TextError> {
        let expected = self.expected_tokens(kind)?.unwrap_or(0);
        match free_memory() {
            Some(free) if expected.saturating_mul(width) > free => Err(TextError::Unusable(format!(
                "{} has {} of text, which takes {} of memory as token ids, but {} are free; use a shorter text (for \
                 validation a few megabytes are plenty)",
                self.name(),
                size(self.bytes()),
                size(expected.saturating_mul(width)),
                size(free)
            ))),
            _ => Ok(expected as usize),
        }
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

/// The bytes of a text that are looked at to tell how many tokens it has.
const SAMPLE: u64 = 4 << 20;

/// The most bytes of a validation or a test text where nothing is said: some 350,000 words, whose perplexity has a standard
/// error of half a percent.
const MOST_HELD_OUT: u64 = 2 << 20;

/// The fewest of a text that is longer, however little of it is used for training.
const LEAST_HELD_OUT: u64 = 4 << 10;

/// A line longer than this is cut between words.
const LONG_LINE: u64 = 1 << 16;

/// Fewer bytes than these without white space are a word, not a text.
const FEW_CHARACTERS: usize = 100;

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

    /// The place nearest after `at` bytes to cut at, such that something is left behind it (unless the part is not the
    /// `last`): behind a line end; in a long line behind white space, and without any between two characters, if there
    /// are many. The end of the part if there is none.
    fn place_to_cut(&self, at: u64, last: bool) -> Result<u64, TextError> {
        let bytes = self.bytes();
        let mut window = Vec::new();
        let read = self.reader(at)?.take(LONG_LINE.min(bytes - at)).read_to_end(&mut window);
        read.map_err(|error| self.trouble(error))?;
        let behind = |cuts: fn(&u8) -> bool| {
            let place = window.iter().position(cuts).map(|found| at + found as u64 + 1);
            place.filter(|&place| place < bytes || !last)
        };
        if let Some(place) = behind(|byte| *byte == b'\n') {
            return Ok(place);
        }
        if !last && (window.len() as u64) < LONG_LINE {
            return Ok(bytes);
        }
        let characters = window.iter().position(|byte| byte & 0xC0 != 0x80).filter(|_| window.len() >= FEW_CHARACTERS);
        Ok(behind(u8::is_ascii_whitespace).or(characters.map(|n| at + n as u64)).unwrap_or(bytes))
    }

    fn cut(&self, at: u64) -> (Self, Self) {
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
mod tests {
    use super::*;
    use crate::text::lines::visit_text;
    use crate::text::tokenizer::{Tokenizer, VocabularyOptions};
    use std::io::Write;

    #[test]
    fn splits_fall_on_line_ends_and_lose_nothing() {
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let splits = Source::from_text(&text).split(&[90, 5, 5]).unwrap();
        let mut joined = String::new();
        for part in [Some(splits.train), splits.valid, splits.test].into_iter().flatten() {
            visit_text(&part, false, false, &mut |line, ended| {
                assert!(ended);
                joined.push_str(line);
            })
            .unwrap();
        }
        assert_eq!(joined, text);
        assert!(Source::from_text("word").split(&[90, 5, 5]).is_err());
        assert!(Source::from_text(&text).split(&[90, 5]).unwrap_err().to_string().contains("90/5"));
    }

    #[test]
    fn a_long_text_keeps_most_for_training() {
        let text = "some words\n".repeat(5_000_000);
        let splits = Source::from_text(&text).split_by_default(None).unwrap();
        let [valid, test] = [splits.valid, splits.test].map(|piece| piece.unwrap().bytes());
        assert_eq!(splits.train.bytes() + valid + test, text.len() as u64);
        assert!(valid.abs_diff(MOST_HELD_OUT) < 20 && test.abs_diff(MOST_HELD_OUT) < 20, "{valid} and {test}");
        let short = Source::from_text(&text[..1_100_000]).split_by_default(None).unwrap();
        assert!(short.valid.unwrap().bytes().abs_diff(55_000) < 20);
        let sampled = Source::from_text(&text).split_by_default(Some(18_000_000)).unwrap();
        assert!(sampled.test.unwrap().bytes().abs_diff(1_000_000) < 20);
    }

    #[test]
    fn a_sample_comes_from_all_over_a_text() {
        let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        let source = Source::from_text(&text);
        let sample = joined(&source.sample(200_000).unwrap());
        assert!(sample.len().abs_diff(200_000) < 1_000, "{}", sample.len());
        let numbers: Vec<usize> = sample.lines().map(|line| line[5..].parse().unwrap()).collect();
        assert!(numbers.is_sorted() && numbers[0] == 0);
        let of_half = |range: std::ops::Range<usize>| numbers.iter().filter(|n| range.contains(n)).count() as f64;
        assert!((of_half(0..50_000) / of_half(50_000..100_000) - 1.0).abs() < 0.1);
        assert_eq!(joined(&source.sample(10_000_000).unwrap()), text);
    }

    /// A text without line ends, as text8 is one, could not be split.
    #[test]
    fn a_long_line_is_split_between_words_and_one_without_words_between_characters() {
        let words: String = (0..40_000).map(|n| format!("word{n} ")).collect();
        let characters = "字".repeat(100_000);
        for text in [&words, &characters, "a few words on one line without an end to be split in three parts"] {
            let splits = Source::from_text(text).split(&[80, 10, 10]).unwrap();
            let pieces = [splits.train, splits.valid.unwrap(), splits.test.unwrap()].map(|piece| joined(&piece));
            assert_eq!(pieces.concat(), *text);
            for (piece, share) in pieces.iter().zip([0.8, 0.1, 0.1]) {
                assert!((piece.len() as f64 / text.len() as f64 - share).abs() < 0.1, "{}", piece.len());
            }
            assert!(!text.contains(' ') || pieces[..2].iter().all(|piece| piece.ends_with(' ')));
        }
    }

    #[test]
    fn files_without_a_last_line_end_are_split_where_they_meet() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("a.txt", "a b c d e f g h i j"), ("b.txt", "k l m"), ("training.md", "n o p")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let splits = Source::open(folder.path()).unwrap();
        // One name alone does not make a split of the folder.
        assert!(splits.valid.is_none() && splits.train.bytes() == 29);
        let pieces = splits.train.split(&[50, 20, 30]).unwrap();
        assert_eq!((pieces.train.bytes(), pieces.valid.unwrap().bytes(), pieces.test.unwrap().bytes()), (19, 5, 5));
    }

    /// The last word of one file and the first of the next were one line.
    #[test]
    fn files_are_not_joined_within_a_line() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("1.txt", "a b"), ("2.txt", "c\n"), ("3.txt", "\u{feff}d"), ("4.txt", "e")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let source = Source::open(folder.path()).unwrap().train;
        let mut lines = Vec::new();
        visit_text(&source, false, false, &mut |line, ended| lines.push((line.to_owned(), ended))).unwrap();
        let expected = [("a b", false), ("\n", true), ("c\n", true), ("d", false), ("\n", true), ("e", false)];
        assert_eq!(lines, expected.map(|(line, ended)| (line.to_owned(), ended)));
        for (kind, tokens) in [(TokenizerKind::Words, 8), (TokenizerKind::Chars, 9)] {
            let options = VocabularyOptions { min_count: Some(1), ..Default::default() };
            let tokenizer = Tokenizer::build(kind, &source, options, false).unwrap();
            let corpus = crate::text::corpus::Corpus::read(&source, &tokenizer, false).unwrap();
            assert_eq!((corpus.ids.len(), corpus.lines), (tokens, 4), "{kind}");
        }
    }

    /// The last files by name became validation and test, whatever stood in them.
    #[test]
    fn several_files_are_held_out_from_all_over() {
        let folder = tempfile::tempdir().unwrap();
        let authors = ["austen", "melville", "woolf"];
        let mut whole = String::new();
        for author in authors {
            let text: String = (0..500).map(|n| format!("{author} line {n}\n")).collect();
            std::fs::write(folder.path().join(format!("{author}.txt")), &text).unwrap();
            std::fs::write(folder.path().join(format!("{author}.gz")), gzip(&text)).unwrap();
            whole.push_str(&text);
        }
        for ending in ["txt", "gz"] {
            let files = authors.map(|author| folder.path().join(format!("{author}.{ending}")));
            let source = Source::from_files(&files).unwrap();
            let splits = source.split_by_default(None).unwrap();
            let pieces = [splits.train, splits.valid.unwrap(), splits.test.unwrap()].map(|piece| joined(&piece));
            for (piece, share) in pieces.iter().zip([0.9, 0.05, 0.05]) {
                assert!(authors.iter().all(|author| piece.contains(author)), "{ending}: {piece}");
                assert!((piece.len() as f64 / whole.len() as f64 - share).abs() < 0.02, "{}", piece.len());
            }
            let mut lines: Vec<&str> = pieces.iter().flat_map(|piece| piece.lines()).collect();
            let mut expected: Vec<&str> = whole.lines().collect();
            lines.sort_unstable();
            expected.sort_unstable();
            assert_eq!(lines, expected);
        }
    }

    #[test]
    fn tokens_are_foreseen_from_the_start_of_a_text() {
        let text = "some words and 字\n".repeat(400_000);
        let source = Source::from_text(&text);
        for (kind, tokens) in [(TokenizerKind::Words, 5), (TokenizerKind::Chars, 17), (TokenizerKind::Bytes, 19)] {
            let expected = source.expected_tokens(kind).unwrap().unwrap() as f64;
            assert!((expected / (400_000.0 * f64::from(tokens)) - 1.0).abs() < 1e-3, "{kind}: {expected}");
        }
        assert!(source.check_memory(TokenizerKind::Bytes, 1).is_ok());
        let error = source.check_memory(TokenizerKind::Bytes, 1 << 40).unwrap_err().to_string();
        assert!(error.contains("7.2 MiB of text"), "{error}");
        assert_eq!([5, 2_000_000, 1 << 42].map(size), ["0.0 KiB", "1.9 MiB", "4.0 TiB"].map(str::to_owned));
    }

    /// The text of `source`, joined.
    fn joined(source: &Source) -> String {
        let mut text = String::new();
        visit_text(source, false, false, &mut |line, _| text.push_str(line)).unwrap();
        text
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(text: &str) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn a_compressed_file_is_read_and_cut_as_the_text_in_it() {
        let text: String = (0..20_000).map(|n| format!("line {} größer\n", n * n % 977)).collect();
        let folder = tempfile::tempdir().unwrap();
        let whole = Source::from_text(&text).split(&[80, 10, 10]).unwrap();
        for (name, bytes) in [("text.txt.gz", gzip(&text)), ("text.zst", zstandard(&text)), ("TEXT.GZ", gzip(&text))] {
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let source = Source::from_file(&path).unwrap();
            assert_eq!(source.bytes(), text.len() as u64);
            assert!(joined(&source) == text);
            let splits = source.split(&[80, 10, 10]).unwrap();
            assert!(joined(&splits.train) == joined(&whole.train), "{name}");
            assert!(joined(&splits.valid.unwrap()) == joined(whole.valid.as_ref().unwrap()), "{name}");
            assert!(joined(&splits.test.unwrap()) == joined(whole.test.as_ref().unwrap()), "{name}");
            for cut in [0, 3, bytes.len() / 2, bytes.len() - 1] {
                std::fs::write(&path, &bytes[..cut]).unwrap();
                let error = Source::from_file(&path).unwrap_err().to_string();
                assert!(error.contains(name) && (cut == 0 || error.contains("cut short")), "{cut}: {error}");
            }
            std::fs::write(&path, &text).unwrap();
            assert!(Source::from_file(&path).unwrap_err().to_string().contains("not what its name says"));
        }
    }

    #[test]
    fn a_folder_may_hold_compressed_files_among_others() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("1.txt.gz", &gzip("one\n"));
        write("2.txt", b"two\n");
        write("3.zst", &zstandard("three\n"));
        write("4.tar.gz", b"no text");
        write("5.png", b"no text");
        assert_eq!(joined(&Source::open(folder.path()).unwrap().train), "one\ntwo\nthree\n");
        write("train.txt.zst", &zstandard("to train on\n"));
        write("valid.gz", &gzip("to watch\n"));
        let splits = Source::open(folder.path()).unwrap();
        assert_eq!(
            (joined(&splits.train).as_str(), joined(&splits.valid.unwrap()).as_str()),
            ("to train on\n", "to watch\n")
        );
        assert!(splits.test.is_none());
    }

    #[test]
    fn wrong_bytes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, b"good\nba\xFFd\n").unwrap();
        let source = Source::from_file(&path).unwrap();
        let options = VocabularyOptions::default();
        let error = Tokenizer::build(TokenizerKind::Words, &source, options, false).unwrap_err();
        assert!(error.to_string().contains("byte 7"), "{error}");
        assert!(Tokenizer::build(TokenizerKind::Words, &source, options, true).is_ok());
    }
}
