//! How the summands of a gradient meet: every rank adds up one slice of it and gives the result to all others, so each sends about twice
//! the gradient, however many ranks there are. Rows of matrices that no shard touched, of the embedding and of a readout of candidates,
//! do not travel: they are zero everywhere.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use lstm_kernels::for_each_chunk;

use super::{Shard, halves, own, whole_parts};
use crate::nn::gradients::Gradients;
use crate::nn::params::Layout;
use crate::run::error::TrainError;
use crate::run::training::Wire;
use crate::train::ranks::{Ranks, to_all};

/// The values that one thread adds at a time.
const CHUNK: usize = 1 << 15;

/// Brings together what several ranks computed.
pub(super) struct Travel {
    /// The matrices of the layout, in its order.
    tables: Vec<Table>,
    /// The values of the whole layout.
    len: usize,
    rank: usize,
    /// The summands of each rank.
    parts: Vec<Vec<Range<usize>>>,
    of: usize,
    wire: Wire,
    /// What rounding left out of each of this rank's summands, and of its slice of the sum; empty where nothing is rounded.
    left: Vec<Vec<f32>>,
    left_of_sum: Vec<f32>,
    /// Buffers that are not in use.
    free: Vec<Vec<f32>>,
    sent: u64,
    whole: u64,
}

/// A matrix, and the bits that tell which of its rows are touched.
struct Table {
    start: usize,
    rows: usize,
    width: usize,
    first_bit: usize,
}

impl Table {
    fn row(&self, row: usize) -> Range<usize> {
        let start = self.start + row * self.width;
        start..start + self.width
    }
}

impl Travel {
    pub(super) fn new(layout: &Layout, of: usize, wire: Wire, ranks: &dyn Ranks) -> Self {
        let mut bits = 0;
        let matrices = layout.entries().iter().filter(|entry| entry.shape.len() == 2 && entry.shape[1] > 1);
        let tables = matrices.map(|entry| {
            let (rows, width) = (entry.shape[0], entry.shape[1]);
            let table = Table { start: entry.slot.range().start, rows, width, first_bit: bits };
            bits += rows;
            table
        });
        let tables = if ranks.count() > 1 { tables.collect() } else { Vec::new() };
        let parts = |rank: usize| whole_parts(0..of, &own(of, rank, ranks.count()));
        let parts: Vec<_> = (0..ranks.count()).map(parts).collect();
        let (len, rank) = (layout.len(), ranks.rank());
        let is_rounded = wire != Wire::F32 && ranks.count() > 1;
        let left = if is_rounded { vec![vec![0.0; len]; parts[rank].len()] } else { Vec::new() };
        let left_of_sum = if is_rounded { vec![0.0; len] } else { Vec::new() };
        Self { tables, len, rank, parts, of, wire, left, left_of_sum, free: Vec::new(), sent: 0, whole: 0 }
    }

    /// A bit for every row of every matrix: whether one of the summands touches it.
    pub(super) fn touched(&self, summands: &[Gradients]) -> Vec<u8> {
        let rows = self.tables.last().map_or(0, |table| table.first_bit + table.rows);
        let mut bits = vec![0; rows.div_ceil(8)];
        let mut set = |bit: usize| bits[bit / 8] |= 1u8 << (bit % 8);
        for gradients in summands {
            let (known, _) = gradients.rows();
            for table in &self.tables {
                // A row may be touched and zero all the same, so what is known is not looked at.
                if table.start == 0 && known == table.rows {
                    gradients.touched().iter().for_each(|row| set(table.first_bit + *row as usize));
                    continue;
                }
                // Of the sign of a zero, too, nothing may be lost.
                let is_zero = |row: &Range<usize>| gradients.values()[row.clone()].iter().all(|d| d.to_bits() == 0);
                let rows = (0..table.rows).filter(|row| !is_zero(&table.row(*row)));
                rows.for_each(|row| set(table.first_bit + row));
            }
        }
        bits
    }

    /// The bytes that this rank sent so far, and those of as many whole gradients.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.sent, self.whole)
    }

    /// Adds the summands of all ranks, of which `own` are this one's, into `gradients`, as the mean over `tokens`. `touched`: which rows
    /// any of them touches.
    pub(super) fn add(
        &mut self,
        ranks: &dyn Ranks,
        summands: &mut [Gradients],
        touched: &[u8],
        tokens: usize,
        gradients: &mut Gradients,
    ) -> Result<(), TrainError> {
        let scale = 1.0 / tokens.max(1) as f32;
        if ranks.count() == 1 {
            std::mem::swap(gradients, &mut summands[0]);
            gradients.scale(scale);
            return Ok(());
        }
        let is_touched = |bit: usize| touched[bit / 8] >> (bit % 8) & 1 == 1;
        let places = self.places(is_touched);
        let len = places.iter().map(Range::len).sum();
        let slice = |rank: usize| Shard { number: rank, of: ranks.count() }.rows(len);
        let others = || (0..ranks.count()).filter(|rank| *rank != ranks.rank());

        // Every summand's slices go to the ranks that add them.
        let (mine, wire) = (slice(self.rank), self.wire);
        let mut compact: Vec<Vec<f32>> = Vec::new();
        for (number, summand) in summands.iter().enumerate() {
            let mut values = self.buffer(0);
            places.iter().for_each(|place| values.extend_from_slice(&summand.values()[place.clone()]));
            if let Some(left) = self.left.get_mut(number) {
                wire.round(&mut values, places.iter().cloned(), left);
            }
            others().for_each(|rank| wire.pack(&mut values[slice(rank)]));
            compact.push(values);
        }
        let mut met: Vec<(usize, Range<usize>, Vec<f32>)> = Vec::new();
        for rank in others() {
            for part in self.parts[rank].clone() {
                met.push((rank, part, self.buffer(mine.len())));
            }
        }
        let sent = others().flat_map(|rank| compact.iter().map(move |values| (rank, &values[slice(rank)])));
        let send: Vec<(usize, &[u8])> = sent.map(|(rank, values)| (rank, wire.sent(values))).collect();
        let mut receive: Vec<(usize, &mut [u8])> =
            met.iter_mut().map(|(rank, _, values)| (*rank, wire.received(values))).collect();
        ranks.exchange(&send, &mut receive)?;
        self.sent += send.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();

        // This rank's slice of the sum, in the order of the shards.
        met.iter_mut().for_each(|(_, _, values)| wire.unpack(values));
        let mut parts: Vec<(Range<usize>, Vec<f32>)> =
            met.into_iter().map(|(_, part, values)| (part, values)).collect();
        for (part, values) in self.parts[self.rank].clone().into_iter().zip(&compact) {
            let mut copy = self.buffer(0);
            copy.extend_from_slice(&values[mine.clone()]);
            parts.push((part, copy));
        }
        let mut sum = self.total(0..self.of, &mut parts);
        sum.iter_mut().for_each(|value| *value *= scale);

        wire.round(&mut sum, within(&places, &mine), &mut self.left_of_sum);

        // Every slice goes to every rank.
        let mut whole = compact.pop().unwrap_or_default();
        whole.resize(len, 0.0);
        whole[mine].copy_from_slice(&sum);
        let mut slices = Vec::new();
        let mut rest = &mut whole[..];
        for rank in 0..ranks.count() {
            let (first, behind) = rest.split_at_mut(slice(rank).len());
            slices.push(wire.received(first));
            rest = behind;
        }
        wire.pack(&mut sum);
        to_all(ranks, wire.sent(&sum), slices.into_iter())?;
        others().for_each(|rank| wire.unpack(&mut whole[slice(rank)]));
        let each = (ranks.count() - 1) as u64;
        self.sent += each * wire.bytes(sum.len()) as u64;
        // Without this, every rank would send all slices but its own of every summand, and its own of the sum to everyone.
        let all = self.len;
        let dense = |rank: usize| Shard { number: rank, of: ranks.count() }.rows(all).len() as u64;
        let slices = others().map(dense).sum::<u64>() * self.parts[self.rank].len() as u64;
        self.whole += 4 * (slices + each * dense(self.rank));

        self.unpack(&whole, &places, is_touched, gradients);
        self.free.extend(compact);
        self.free.extend([whole, sum]);
        Ok(())
    }

    /// A buffer of so many values, whatever they are.
    fn buffer(&mut self, len: usize) -> Vec<f32> {
        let mut buffer = self.free.pop().unwrap_or_default();
        if len == 0 {
            buffer.clear();
        }
        buffer.resize(len, 0.0);
        buffer
    }

    /// The sum of `shards`, of the parts of it that lie at hand.
    fn total(&mut self, shards: Range<usize>, parts: &mut Vec<(Range<usize>, Vec<f32>)>) -> Vec<f32> {
        if let Some(at) = parts.iter().position(|(part, _)| *part == shards) {
            return parts.swap_remove(at).1;
        }
        let [left, right] = halves(&shards);
        let mut sum = self.total(left, parts);
        let other = self.total(right, parts);
        for_each_chunk(&mut sum, CHUNK, |chunk, values| {
            let others = &other[chunk * CHUNK..];
            values.iter_mut().zip(others).for_each(|(value, other)| *value += other);
        });
        self.free.push(other);
        sum
    }

    /// The places of the values that travel, in order: all but rows that nobody touches.
    fn places(&self, is_touched: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
        let mut places: Vec<Range<usize>> = Vec::new();
        let mut put = |place: Range<usize>| match places.last_mut() {
            _ if place.is_empty() => {}
            Some(last) if last.end == place.start => last.end = place.end,
            _ => places.push(place),
        };
        let mut end = 0;
        for table in &self.tables {
            put(end..table.start);
            (0..table.rows).filter(|row| is_touched(table.first_bit + row)).for_each(|row| put(table.row(row)));
            end = table.row(table.rows).start;
        }
        put(end..self.len);
        places
    }

    /// Writes what travelled to its places; the rest is zero.
    fn unpack(
        &self,
        values: &[f32],
        places: &[Range<usize>],
        is_touched: impl Fn(usize) -> bool,
        gradients: &mut Gradients,
    ) {
        let (known, _) = gradients.rows();
        let first = self.tables.first().filter(|table| table.start == 0 && table.rows == known);
        let known = first.map_or(0, |table| table.rows);
        gradients.touch((0..known as u32).filter(|row| is_touched(*row as usize)));
        let to = gradients.params_mut().values_mut();
        let (mut from, mut end) = (0, first.map_or(0, |table| table.row(table.rows).start));
        for place in places {
            // Of the first table all is zero that was not touched.
            if place.start > end {
                to[end..place.start].fill(0.0);
            }
            to[place.clone()].copy_from_slice(&values[from..from + place.len()]);
            from += place.len();
            end = end.max(place.end);
        }
        to[end..].fill(0.0);
    }
}

/// The seconds that each of so many `values` takes until all ranks have its sum, of which every rank measures as much at the same time.
pub(in crate::train) fn seconds_per_value(ranks: &dyn Ranks, values: usize, wire: Wire) -> Result<f64, TrainError> {
    let mut layout = Layout::default();
    layout.add("values", &[values]);
    let layout = Arc::new(layout);
    let mut travel = Travel::new(&layout, ranks.count(), wire, ranks);
    let (mut summands, mut sum) = ([Gradients::dense(layout.clone())], Gradients::dense(layout));
    let mut seconds = 0.0;
    // At first memory is touched, and others come when they are told.
    for _ in 0..2 {
        let started = Instant::now();
        travel.add(ranks, &mut summands, &[], 1, &mut sum)?;
        seconds = started.elapsed().as_secs_f64();
    }
    Ok(seconds / values as f64)
}

/// The parts of `places` that the values of a slice come from.
fn within<'p>(places: &'p [Range<usize>], slice: &Range<usize>) -> impl Iterator<Item = Range<usize>> + 'p {
    let slice = slice.clone();
    let mut before = 0;
    places.iter().filter_map(move |place| {
        let own = before..before + place.len();
        before = own.end;
        let (start, end) = (own.start.max(slice.start), own.end.min(slice.end));
        (start < end).then(|| place.start + start - own.start..place.start + end - own.start)
    })
}
