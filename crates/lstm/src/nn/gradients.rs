//! The gradients of a model one of whose parameters is a table of rows, of which a training step touches few.

use std::ops::Range;
use std::sync::Arc;

use lstm_kernels::for_each_chunk;

use crate::nn::params::{Layout, Params, Slot};

/// The values that one thread adds or scales at a time.
const CHUNK: usize = 1 << 15;

/// The gradients of a model of which one table of rows, the embedding, is touched in few places a step: the rows that
/// are not are known to be zero, and no pass needs to visit them.
#[derive(Clone, Debug)]
pub struct Gradients {
    values: Params,
    /// The length of the table, which comes first in the buffer.
    table: usize,
    width: usize,
    ranges: Vec<Range<usize>>,
    touched: Vec<u32>,
}

impl Gradients {
    /// All zeros. The table comes first in the layout; its rows have `width` values.
    pub(crate) fn zeros(layout: Arc<Layout>, table: Slot, width: usize) -> Self {
        debug_assert_eq!(table.range().start, 0);
        let (table, rest) = (table.range().end, table.range().end..layout.len());
        Self { values: Params::zeros(layout), table, width, ranges: vec![rest], touched: Vec::new() }
    }

    /// All zeros, of a model without such a table.
    pub fn dense(layout: Arc<Layout>) -> Self {
        let all = 0..layout.len();
        Self { values: Params::zeros(layout), table: 0, width: 1, ranges: vec![all], touched: Vec::new() }
    }

    /// Zeroes the table's rows that were touched, and notes those of `rows` as touched.
    pub(crate) fn touch(&mut self, rows: impl IntoIterator<Item = u32>) {
        for range in self.ranges.iter().take_while(|range| range.start < self.table) {
            self.values.values_mut()[range.start..range.end.min(self.table)].fill(0.0);
        }
        self.touched.clear();
        self.note(rows);
    }

    /// Notes every row of the table as touched; a pass shall replace them all.
    pub(crate) fn touch_all(&mut self) {
        let rows = self.table / self.width;
        // Once they all are, they stay so until the next step that touches some.
        if self.touched.len() < rows {
            self.touched.clear();
            self.note(0..rows as u32);
        }
    }

    /// Notes `rows` of the table as touched beside those that are.
    fn note(&mut self, rows: impl IntoIterator<Item = u32>) {
        self.touched.extend(rows);
        self.touched.sort_unstable();
        self.touched.dedup();
        self.ranges.clear();
        for &row in &self.touched {
            let start = row as usize * self.width;
            match self.ranges.last_mut() {
                Some(last) if last.end == start => last.end += self.width,
                _ => self.ranges.push(start..start + self.width),
            }
        }
        let rest = self.table..self.values.values().len();
        match self.ranges.last_mut() {
            // A whole buffer is one part.
            Some(last) if last.end == rest.start => last.end = rest.end,
            _ => self.ranges.push(rest),
        }
    }

    /// Takes those of another batch into the mean of several. `share`: its weight in the new mean.
    pub(crate) fn average_in(&mut self, other: &Self, share: f32) {
        self.note(other.touched.iter().copied());
        for range in &self.ranges {
            let others = &other.values()[range.clone()];
            let values = self.values.values_mut()[range.clone()].iter_mut().zip(others);
            values.for_each(|(value, other)| *value += share * (other - *value));
        }
    }

    /// Makes it that of nothing: all zeros, no row touched.
    pub(crate) fn clear(&mut self) {
        self.touch([]);
        self.values.values_mut()[self.table..].fill(0.0);
    }

    /// Multiplies what lies below `end` in the buffer.
    pub(crate) fn scale_below(&mut self, end: usize, factor: f32) {
        for range in &self.ranges {
            scale(&mut self.values.values_mut()[range.start.min(end)..range.end.min(end)], factor);
        }
    }

    /// Adds what lies below `end` of those of other rows of the batch.
    pub(crate) fn add_below(&mut self, end: usize, other: &Self) {
        self.note(other.touched.iter().copied());
        for range in &self.ranges {
            let range = range.start.min(end)..range.end.min(end);
            add(&mut self.values.values_mut()[range.clone()], &other.values()[range]);
        }
    }

    /// The rows of the table that were touched, in order.
    pub(crate) fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// The number of the table's rows, and their width.
    pub(crate) fn rows(&self) -> (usize, usize) {
        (self.table / self.width, self.width)
    }

    /// The gradients, as one buffer.
    pub fn params(&self) -> &Params {
        &self.values
    }

    /// The gradients, to write.
    pub fn params_mut(&mut self) -> &mut Params {
        &mut self.values
    }

    /// Every value, in the order of the layout.
    pub fn values(&self) -> &[f32] {
        self.values.values()
    }

    /// The parts of the buffer outside of which every value is zero, in order.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }
}

/// Multiplies values.
pub(crate) fn scale(values: &mut [f32], factor: f32) {
    for_each_chunk(values, CHUNK, |_, values| values.iter_mut().for_each(|value| *value *= factor));
}

/// Adds `others` to as many `values`.
pub(crate) fn add(values: &mut [f32], others: &[f32]) {
    for_each_chunk(values, CHUNK, |chunk, values| {
        let others = &others[chunk * CHUNK..];
        values.iter_mut().zip(others).for_each(|(value, other)| *value += other);
    });
}
