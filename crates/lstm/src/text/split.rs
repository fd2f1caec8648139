//! A text cut for training, validation and test, and a part of a long one to read in its place.

use std::io::Read;

use super::TextError;
use super::source::{Part, Source, Splits};
use crate::said::count;

/// The most bytes of a validation or a test text where nothing is said: some 350,000 words, whose perplexity has a standard
/// error of half a percent.
pub(super) const MOST_HELD_OUT: u64 = 2 << 20;

/// The fewest of a text that is longer, however little of it is used for training.
const LEAST_HELD_OUT: u64 = 4 << 10;

/// A line longer than this is cut between words.
const LONG_LINE: u64 = 1 << 16;

/// Fewer bytes than these without white space are a word, not a text.
const FEW_CHARACTERS: usize = 100;

impl Source {
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
                "a text of {} is too short to be split into {} parts; give a longer text, or `valid` and `test` files",
                count(total, "byte"),
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
    pub(super) fn cut(&self, mut at: u64) -> Result<(Self, Self), TextError> {
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
}

impl Part {
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
}
