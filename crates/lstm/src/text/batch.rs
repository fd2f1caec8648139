//! Batches: what the model reads in one pass, `[T, B]`, and what it shall predict.

mod pieces;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use self::pieces::{even_rows, pieces, rows_of_documents};
use super::TextError;
use super::corpus::Corpus;
use super::tokenizer::Tokenizer;
use crate::nn::config::ConfigError;
use crate::rng::{Purpose, Rng};
use crate::said::count;

/// A position where nothing is predicted.
pub const NO_TARGET: u32 = u32::MAX;

/// How a text is cut into batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batching {
    /// B contiguous columns read side by side, the state carried from segment to segment (Mikolov 2010).
    #[default]
    Stream,
    /// Each sample is a window of n tokens of one line and predicts the next (the report's task).
    Windows(usize),
    /// One line a row, from its start to its end, masked to its length.
    Lines,
}

impl fmt::Display for Batching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream => f.write_str("stream"),
            Self::Windows(n) => write!(f, "windows({n})"),
            Self::Lines => f.write_str("lines"),
        }
    }
}

impl FromStr for Batching {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        let n = value.strip_prefix("windows(").and_then(|rest| rest.strip_suffix(')'));
        match (value, n.map(str::parse::<usize>)) {
            ("stream", _) => Ok(Self::Stream),
            ("lines", _) => Ok(Self::Lines),
            (_, Some(Ok(n))) if n > 0 => Ok(Self::Windows(n)),
            _ => Err(ConfigError::Unknown {
                kind: "way of batching",
                value: value.to_owned(),
                choices: "stream, windows(n) with n of at least 1, lines",
            }),
        }
    }
}

impl Serialize for Batching {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Batching {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One pass of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// T.
    pub steps: usize,
    /// B.
    pub batch: usize,
    /// The tokens of the input: `[T, B]`.
    pub tokens: Vec<u32>,
    /// The tokens to predict: `[T, B]`, [`NO_TARGET`] where there is none.
    pub targets: Vec<u32>,
    /// The length of each row, if they differ.
    pub lengths: Option<Vec<usize>>,
    /// Whether the states start from zero.
    pub fresh: bool,
    /// The rows whose states start from zero where not all do: a document begins in them.
    pub restarts: Vec<usize>,
    /// Where in the text each target stands, whatever the batches are: `[T, B]`, see `Batches::placed`; else empty.
    pub places: Vec<usize>,
}

impl Batch {
    /// Fills `part` with these rows of it.
    pub(crate) fn cut(&self, rows: Range<usize>, part: &mut Self) {
        part.shape(self.steps, rows.len(), NO_TARGET);
        for step in 0..self.steps {
            let (from, to) = (step * self.batch + rows.start, step * rows.len());
            part.tokens[to..to + rows.len()].copy_from_slice(&self.tokens[from..from + rows.len()]);
            part.targets[to..to + rows.len()].copy_from_slice(&self.targets[from..from + rows.len()]);
            if !self.places.is_empty() {
                part.places.extend_from_slice(&self.places[from..from + rows.len()]);
            }
        }
        part.lengths = self.lengths.as_ref().map(|lengths| lengths[rows.clone()].to_vec());
        part.fresh = self.fresh;
        let restarts = self.restarts.iter().filter(|row| rows.contains(row));
        part.restarts.extend(restarts.map(|row| row - rows.start));
    }

    fn shape(&mut self, steps: usize, batch: usize, fill: u32) {
        (self.steps, self.batch) = (steps, batch);
        self.tokens.clear();
        self.tokens.resize(steps * batch, fill);
        self.targets.clear();
        self.targets.resize(steps * batch, NO_TARGET);
        self.lengths = None;
        self.restarts.clear();
        self.places.clear();
    }

    /// Sets a target, and where it stands if that is asked for.
    fn set(&mut self, at: usize, target: u32, place: Option<usize>) {
        self.targets[at] = target;
        if let Some(place) = place {
            self.places.resize(self.targets.len(), usize::MAX);
            self.places[at] = place;
        }
    }
}

/// The batches of one epoch, each to be had by its number, so that a resumed run goes on anywhere.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    corpus: &'a Corpus,
    tokenizer: &'a Tokenizer,
    plan: Plan,
    batch: usize,
    predicted: usize,
    /// The token that each column of a stream begins with; empty where all begin with their first.
    rotation: Vec<usize>,
    /// Whether batches say where their targets stand.
    is_placed: bool,
}

#[derive(Clone, Debug)]
enum Plan {
    /// Columns of `column` tokens in segments.
    Stream { column: usize, segment: usize },
    /// The same in segments that start at these tokens.
    Varied { column: usize, starts: Vec<usize> },
    /// One column in segments that start at these tokens, some of them from a zero state.
    Alone { starts: Vec<(usize, bool)> },
    /// A stream of documents, cut where they begin and into segments: where each piece starts, and the first piece of each
    /// row, and the end.
    Documents { pieces: Vec<usize>, rows: Vec<usize>, segment: usize },
    /// (line, index of the window's target among the line's tokens with markers)
    Windows { n: usize, samples: Vec<(u32, u32)> },
    /// Rows of lines, and for each batch its rows and the part of them.
    Lines { order: Vec<u32>, passes: Vec<(u32, u32)>, segment: usize },
}

impl<'a> Batches<'a> {
    /// The batches of a training epoch, in the order that `seed` and `epoch` give.
    ///
    /// # Errors
    /// A text too short for one batch.
    pub fn training(
        corpus: &'a Corpus,
        tokenizer: &'a Tokenizer,
        batching: Batching,
        batch: usize,
        segment: usize,
        seed: u64,
        epoch: u64,
    ) -> Result<Self, TextError> {
        let mut rng = Rng::new(seed, Purpose::Shuffle, epoch);
        if batching == Batching::Stream && !corpus.document_starts.is_empty() {
            let pieces = pieces(corpus, &mut || segment);
            if pieces.len() < batch {
                return Err(TextError::Unusable(format!(
                    "the documents, in {}, are too few for {} side by side; `batch` {} would fit, or give a longer text",
                    count(pieces.len(), "piece"),
                    count(batch, "row"),
                    pieces.len()
                )));
            }
            let plan = Plan::Documents { rows: even_rows(pieces.len(), batch), pieces, segment };
            return Ok(Self::planned(corpus, tokenizer, plan, batch, corpus.ids.len()));
        }
        if batching == Batching::Stream {
            let column = corpus.ids.len() / batch;
            if column < 2 {
                return Err(TextError::Unusable(format!(
                    "a training text of {} is too short for {} side by side; `batch` {} would fit, or give a longer text",
                    count(corpus.ids.len(), "token"),
                    count(batch, "column"),
                    (corpus.ids.len() / 2).max(1)
                )));
            }
            let plan = Plan::Stream { column, segment };
            return Ok(Self::planned(corpus, tokenizer, plan, batch, column * batch));
        }
        let batches = Self::of_lines(corpus, tokenizer, batching, batch, segment, Some(&mut rng))?;
        let (rows, kind) = match &batches.plan {
            Plan::Windows { samples, .. } => (samples.len(), "windows"),
            _ => (corpus.line_starts.len(), "lines"),
        };
        if rows < batch {
            return Err(TextError::Unusable(format!(
                "{rows} {kind} of training text are too few for a batch of {batch}; `batch` {rows} would fit, or give a \
                 longer text"
            )));
        }
        Ok(batches)
    }

    fn planned(corpus: &'a Corpus, tokenizer: &'a Tokenizer, plan: Plan, batch: usize, predicted: usize) -> Self {
        Self { corpus, tokenizer, plan, batch, predicted, rotation: Vec::new(), is_placed: false }
    }

    /// Lets the segments of a stream vary in length (Merity 2017), so that not the same places are always cut: normal
    /// around `segment`, in one case of twenty around half of it, with a deviation of 5; at least 5 steps, or `segment`
    /// where that is less, and at most 15 more than it. `seed` and `epoch` give all lengths of the epoch.
    pub fn varied(mut self, seed: u64, epoch: u64) -> Self {
        let (Plan::Stream { segment, .. } | Plan::Documents { segment, .. }) = self.plan else { return self };
        let mut rng = Rng::new(seed, Purpose::Segments, epoch);
        let mut length = || {
            let middle = if rng.uniform() < 0.95 { segment as f32 } else { segment as f32 / 2.0 };
            let length = (middle + 5.0 * rng.normal()).round().max(0.0) as usize;
            length.clamp(segment.min(5), segment.saturating_add(15))
        };
        let Plan::Stream { column, .. } = self.plan else {
            let pieces = pieces(self.corpus, &mut length);
            self.plan = Plan::Documents { rows: even_rows(pieces.len(), self.batch), pieces, segment };
            return self;
        };
        let (mut starts, mut start) = (Vec::with_capacity(column / segment + 1), 0);
        while start < column {
            starts.push(start);
            start += length();
        }
        self.plan = Plan::Varied { column, starts };
        self
    }

    /// Lets each column of a stream begin anywhere and go on from its end with its start (Press 2019, "Partially shuffling the training
    /// data"), so that other tokens stand side by side in every epoch and the text is cut elsewhere. `seed` and `epoch` give the places.
    pub fn rotated(mut self, seed: u64, epoch: u64) -> Self {
        if let Plan::Stream { column, .. } | Plan::Varied { column, .. } = self.plan {
            let mut rng = Rng::new(seed, Purpose::Rotation, epoch);
            self.rotation = (0..self.batch).map(|_| rng.below(column)).collect();
        }
        self
    }

    /// Lets every batch say where in the text its targets stand ([`Batch::places`]): below [`Self::places`], and the same in every way
    /// to cut a text of the same batching.
    pub(crate) fn placed(mut self) -> Self {
        self.is_placed = true;
        self
    }

    /// The places of a text: those of its tokens, and behind each line of windows or lines one of its end.
    pub(crate) fn places(corpus: &Corpus, batching: Batching) -> usize {
        corpus.ids.len() + if batching == Batching::Stream { 0 } else { corpus.line_starts.len() }
    }

    /// The place of a target, if that is asked for.
    fn place(&self, at: usize) -> Option<usize> {
        self.is_placed.then_some(at)
    }

    /// Every token of a text predicted once: a stream in `batch` columns, of which the next goes on where one ends,
    /// windows and lines `batch` at a time. With `batch` 1 they come in the order of the text.
    ///
    /// # Errors
    /// A text without anything to predict.
    pub fn evaluation(
        corpus: &'a Corpus,
        tokenizer: &'a Tokenizer,
        batching: Batching,
        batch: usize,
        segment: usize,
    ) -> Result<Self, TextError> {
        if batching == Batching::Stream && !corpus.document_starts.is_empty() {
            let pieces = pieces(corpus, &mut || segment);
            let rows = rows_of_documents(corpus, &pieces, batch);
            let (batch, predicted) = (rows.len() - 1, corpus.ids.len());
            return Ok(Self::planned(corpus, tokenizer, Plan::Documents { pieces, rows, segment }, batch, predicted));
        }
        if batching == Batching::Stream {
            let predicted = corpus.ids.len();
            let column = predicted.div_ceil(batch);
            // Rounded up, so many tokens may fill fewer columns. An empty text has no batches of one.
            let batch = predicted.div_ceil(column.max(1)).max(1);
            return Ok(Self::planned(corpus, tokenizer, Plan::Stream { column, segment }, batch, predicted));
        }
        Self::of_lines(corpus, tokenizer, batching, batch, segment, None)
    }

    /// A stream in one column of which parts are read each from a zero state, as if nothing stood before them: all but the first
    /// begin at `starts`. Parts of more than `segment` tokens are read in several segments.
    pub(crate) fn of_starts(corpus: &'a Corpus, tokenizer: &'a Tokenizer, starts: Vec<usize>, segment: usize) -> Self {
        let predicted = corpus.ids.len();
        let ends = starts.iter().copied().chain([predicted]);
        let parts = std::iter::once(0).chain(starts.iter().copied()).zip(ends);
        let starts = parts.flat_map(|(start, end)| (start..end).step_by(segment).map(move |at| (at, at == start)));
        Self::planned(corpus, tokenizer, Plan::Alone { starts: starts.collect() }, 1, predicted)
    }

    /// A stream in one column, in segments of `segment` tokens.
    pub(crate) fn in_order(mut self, segment: usize) -> Self {
        self.plan = Plan::Stream { column: self.corpus.ids.len(), segment };
        self.rotation.clear();
        self.batch = 1;
        self
    }

    fn of_lines(
        corpus: &'a Corpus,
        tokenizer: &'a Tokenizer,
        batching: Batching,
        batch: usize,
        segment: usize,
        rng: Option<&mut Rng>,
    ) -> Result<Self, TextError> {
        let lines = corpus.line_starts.len();
        if lines == 0 {
            let why = "was read without line markers, which windows and lines need";
            return Err(TextError::Unusable(format!("the text {why}; train with the batching it is evaluated with")));
        }
        let predicted: usize;
        let plan = if let Batching::Windows(n) = batching {
            let mut samples = Vec::new();
            for line in 0..lines {
                // With both markers a line has two tokens more; its window targets are tokens n.. of them.
                let length = corpus.line(line).len() + 2;
                samples.extend((n.min(length - 1)..length).map(|target| (line as u32, target as u32)));
            }
            if let Some(rng) = rng {
                rng.shuffle(&mut samples);
            }
            predicted = samples.len();
            Plan::Windows { n, samples }
        } else {
            let mut order: Vec<u32> = (0..lines as u32).collect();
            if let Some(rng) = rng {
                // Lines of a like length share a batch, so that little is masked; which lines meet, and in what
                // order the batches come, is new in every epoch.
                rng.shuffle(&mut order);
                for pool in order.chunks_mut(batch * 50) {
                    pool.sort_by_key(|&line| corpus.line(line as usize).len());
                }
                let mut groups: Vec<Vec<u32>> = order.chunks(batch).map(<[u32]>::to_vec).collect();
                let last = groups.pop();
                rng.shuffle(&mut groups);
                order = groups.into_iter().chain(last).flatten().collect();
            }
            let mut passes = Vec::new();
            for (group, rows) in order.chunks(batch).enumerate() {
                let longest = rows.iter().map(|&line| corpus.line(line as usize).len() + 1).max().unwrap_or(1);
                passes.extend((0..longest.div_ceil(segment)).map(|pass| (group as u32, pass as u32)));
            }
            predicted = corpus.ids.len() + lines;
            Plan::Lines { order, passes, segment }
        };
        Ok(Self::planned(corpus, tokenizer, plan, batch, predicted))
    }

    /// The number of batches.
    pub fn len(&self) -> usize {
        match &self.plan {
            Plan::Stream { column, segment } => column.div_ceil(*segment),
            Plan::Varied { starts, .. } => starts.len(),
            Plan::Alone { starts } => starts.len(),
            Plan::Documents { rows, .. } => rows.windows(2).map(|row| row[1] - row[0]).max().unwrap_or(0),
            Plan::Windows { samples, .. } => samples.len().div_ceil(self.batch),
            Plan::Lines { passes, .. } => passes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// B, the rows of the state that is carried.
    pub fn rows(&self) -> usize {
        self.batch
    }

    /// The number of predicted tokens of all batches.
    pub fn predicted(&self) -> usize {
        self.predicted
    }

    /// Fills `out` with batch `index`. The last batch of windows or lines is filled up with rows of nothing, so that
    /// the state has the same rows throughout.
    pub fn get(&self, index: usize, out: &mut Batch) {
        let pad = self.tokenizer.pad().unwrap_or(0);
        match &self.plan {
            Plan::Stream { column, segment } => {
                let start = index * segment;
                self.columns(*column, start, (*segment).min(column - start), out);
            }
            Plan::Varied { column, starts } => {
                let end = starts.get(index + 1).unwrap_or(column);
                self.columns(*column, starts[index], end - starts[index], out);
            }
            Plan::Alone { starts } => {
                let (start, fresh) = starts[index];
                let end = starts.get(index + 1).map_or(self.corpus.ids.len(), |(end, _)| *end);
                self.columns(self.corpus.ids.len(), start, end - start, out);
                out.fresh = fresh;
                if fresh {
                    out.tokens[0] = self.tokenizer.start();
                }
            }
            Plan::Documents { pieces, rows, .. } => self.documents(pieces, rows, index, out),
            Plan::Windows { n, samples } => {
                out.shape(*n, self.batch, pad);
                out.fresh = true;
                let first = index * self.batch;
                for (row, &(line, target)) in samples[first..samples.len().min(first + self.batch)].iter().enumerate() {
                    let target = target as usize;
                    for t in 0..*n {
                        // Tokens before the line's start stay padding.
                        if let Some(at) = (target + t).checked_sub(*n) {
                            out.tokens[t * self.batch + row] = self.marked(line as usize, at);
                        }
                    }
                    let place = self.place(self.corpus.line(line as usize).start + line as usize + target - 1);
                    out.set((n - 1) * self.batch + row, self.marked(line as usize, target), place);
                }
            }
            Plan::Lines { order, passes, segment } => {
                let (group, pass) = passes[index];
                let rows = &order[group as usize * self.batch..order.len().min((group as usize + 1) * self.batch)];
                let start = pass as usize * segment;
                let left = |line: u32| (self.corpus.line(line as usize).len() + 1).saturating_sub(start).min(*segment);
                let steps = rows.iter().map(|&line| left(line)).max().unwrap_or(0);
                out.shape(steps, self.batch, pad);
                out.fresh = pass == 0;
                let mut lengths = vec![0; self.batch];
                for (row, &line) in rows.iter().enumerate() {
                    lengths[row] = left(line);
                    for t in 0..lengths[row] {
                        out.tokens[t * self.batch + row] = self.marked(line as usize, start + t);
                        let place = self.place(self.corpus.line(line as usize).start + line as usize + start + t);
                        out.set(t * self.batch + row, self.marked(line as usize, start + t + 1), place);
                    }
                }
                out.lengths = Some(lengths);
            }
        }
    }

    /// Fills `out` with the piece `index` of every row that has as many.
    fn documents(&self, pieces: &[usize], rows: &[usize], index: usize, out: &mut Batch) {
        let (corpus, all) = (self.corpus, self.corpus.ids.len());
        let piece = |row: usize| {
            let at = rows[row] + index;
            let end = || pieces.get(at + 1).copied().unwrap_or(all);
            if at < rows[row + 1] { pieces[at]..end() } else { all..all }
        };
        let steps = (0..self.batch).map(|row| piece(row).len()).max().unwrap_or(0);
        out.shape(steps, self.batch, self.tokenizer.pad().unwrap_or(0));
        out.fresh = index == 0;
        let mut lengths = vec![0; self.batch];
        for (row, length) in lengths.iter_mut().enumerate() {
            let piece = piece(row);
            *length = piece.len();
            let begins = corpus.document_starts.binary_search(&piece.start).is_ok();
            if begins && !out.fresh {
                out.restarts.push(row);
            }
            for (t, position) in piece.enumerate() {
                let before = position.checked_sub(1).filter(|_| !begins || t > 0);
                out.tokens[t * self.batch + row] = before.map_or(self.tokenizer.start(), |at| corpus.ids.get(at));
                out.set(t * self.batch + row, corpus.ids.get(position), self.place(position));
            }
        }
        out.lengths = lengths.iter().any(|&length| length < steps).then_some(lengths);
    }

    /// Fills `out` with `steps` steps of all columns of `column` tokens, from token `start` of each. Where the text ends
    /// before its last column does, there is nothing to predict.
    fn columns(&self, column: usize, start: usize, steps: usize, out: &mut Batch) {
        let ids = &self.corpus.ids;
        out.shape(steps, self.batch, self.tokenizer.pad().unwrap_or(0));
        out.fresh = start == 0;
        for row in 0..self.batch {
            let first = row * column;
            let offset = self.rotation.get(row).copied().unwrap_or(0);
            for t in 0..steps.min(ids.len().saturating_sub(first + start)) {
                let place = start + t + offset;
                // Both are less than a column.
                let position = first + if place < column { place } else { place - column };
                let before = position.checked_sub(1).map_or(self.tokenizer.start(), |at| ids.get(at));
                out.tokens[t * self.batch + row] = before;
                out.set(t * self.batch + row, ids.get(position), self.place(position));
            }
        }
    }

    /// Token `at` of a line with its markers: `<sos>`, its tokens, `<eos>`.
    fn marked(&self, line: usize, at: usize) -> u32 {
        let range = self.corpus.line(line);
        if at == 0 {
            self.tokenizer.sos().unwrap_or(0)
        } else if at <= range.len() {
            self.corpus.ids.get(range.start + at - 1)
        } else {
            self.tokenizer.eos().unwrap_or(0)
        }
    }
}

#[cfg(test)]
mod tests;
