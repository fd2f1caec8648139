//! How the summands of a gradient meet: every rank adds up one slice of it and gives the result to all others, so each sends about twice
//! the gradient, however many ranks there are. Rows of matrices that no shard touched, of the embedding and of a readout of candidates,
//! do not travel: they are zero everywhere.
//!
//! A gradient travels in pieces, from its end on: what is complete of it may be on its way while the rest is computed. Every value is added
//! in the same order in whichever piece it is.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::{Shard, halves, own, whole_parts};
use crate::model::Loss;
use crate::nn::gradients::{Gradients, add};
use crate::nn::params::Layout;
use crate::run::error::TrainError;
use crate::run::training::Wire;
use crate::train::ranks::{Ranks, to_all};

/// Brings together what several ranks computed.
pub(super) struct Travel {
    /// The matrices of the layout, in its order.
    tables: Vec<Table>,
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

    /// Whether it is the table of so many rows of which gradients know which rows are touched.
    fn is_known(&self, rows: usize) -> bool {
        self.start == 0 && self.rows == rows
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
        Self { tables, rank, parts, of, wire, left, left_of_sum, free: Vec::new(), sent: 0, whole: 0 }
    }

    /// Agrees with all ranks on what travels of a piece: tells the losses of this rank's shards, where they are asked for, and the rows
    /// that they touched, and hears the others'. `losses`: of all shards, of which this rank's are known.
    pub(super) fn meet(
        &self,
        ranks: &dyn Ranks,
        losses: Option<&mut [Loss]>,
        mut touched: Vec<u8>,
    ) -> Result<Vec<u8>, TrainError> {
        let of = |rank: usize| own(self.of, rank, ranks.count());
        let bytes = |losses: &[Loss]| -> Vec<u8> {
            let each = |loss: &Loss| [loss.nll.to_le_bytes(), (loss.tokens as u64).to_le_bytes()].concat();
            losses.iter().flat_map(each).collect()
        };
        let told = losses.as_ref().map(|losses| bytes(&losses[of(self.rank)]));
        let length = |rank: usize| if told.is_some() { 16 * of(rank).len() } else { 0 };
        let mut all: Vec<Vec<u8>> = (0..ranks.count()).map(|rank| vec![0; length(rank) + touched.len()]).collect();
        let message = [told.as_deref().unwrap_or_default(), &touched].concat();
        if !message.is_empty() {
            to_all(ranks, &message, all.iter_mut().map(|message| &mut message[..]))?;
        }
        let mut losses = losses;
        for (rank, message) in all.iter().enumerate().filter(|(rank, _)| *rank != self.rank) {
            let (numbers, theirs) = message.split_at(length(rank));
            touched.iter_mut().zip(theirs).for_each(|(own, other)| *own |= other);
            let Some(losses) = &mut losses else { continue };
            for (loss, bytes) in losses[of(rank)].iter_mut().zip(numbers.as_chunks::<16>().0) {
                let halves = bytes.as_chunks::<8>().0;
                *loss = Loss { nll: f64::from_le_bytes(halves[0]), tokens: u64::from_le_bytes(halves[1]) as usize };
            }
        }
        Ok(touched)
    }

    /// A bit for every row of every matrix of a piece: whether one of this rank's summands touches it. `known`: gradients that know of the rows
    /// of the first table, of the piece that it is in.
    pub(super) fn touched(&self, piece: &Range<usize>, summands: &[&[f32]], known: &[Gradients]) -> Vec<u8> {
        let tables = self.tables_of(piece);
        let first_bit = tables.first().map_or(0, |table| table.first_bit);
        let count = tables.last().map_or(0, |table| table.first_bit + table.rows - first_bit);
        let mut bits = vec![0; count.div_ceil(8)];
        let mut set = |bit: usize| bits[(bit - first_bit) / 8] |= 1u8 << ((bit - first_bit) % 8);
        let known_rows = known.first().map_or(0, |gradients| gradients.rows().0);
        if tables.first().is_some_and(|table| table.is_known(known_rows)) {
            // A row may be touched and zero all the same, so what is known is not looked at.
            known.iter().flat_map(Gradients::touched).for_each(|row| set(*row as usize));
        }
        for summand in summands {
            for table in tables.iter().filter(|table| !table.is_known(known_rows)) {
                // Of the sign of a zero, too, nothing may be lost.
                let values = |row: usize| &summand[table.row(row).start - piece.start..][..table.width];
                let is_zero = |row: &usize| values(*row).iter().all(|d| d.to_bits() == 0);
                (0..table.rows).filter(|row| !is_zero(row)).for_each(|row| set(table.first_bit + row));
            }
        }
        bits
    }

    /// The bytes that this rank sent so far, and those of as many whole gradients.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.sent, self.whole)
    }

    /// Adds a piece of the summands of all ranks, of which `summands` are this one's, as the mean over `tokens`. `touched`: which of its rows
    /// any of them touches ([`Self::meet`]).
    pub(super) fn add(
        &mut self,
        ranks: &dyn Ranks,
        piece: Range<usize>,
        summands: &[&[f32]],
        touched: &[u8],
        tokens: usize,
    ) -> Result<Arrived, TrainError> {
        let scale = 1.0 / tokens.max(1) as f32;
        let places = self.places(&piece, touched);
        let len = places.iter().map(Range::len).sum();
        let slice = |rank: usize| Shard { number: rank, of: ranks.count() }.rows(len);
        let others = || (0..ranks.count()).filter(|rank| *rank != ranks.rank());

        // Every summand's slices go to the ranks that add them.
        let (mine, wire) = (slice(self.rank), self.wire);
        let mut compact: Vec<Vec<f32>> = Vec::new();
        for (number, summand) in summands.iter().enumerate() {
            let mut values = self.buffer(0);
            let within = |place: &Range<usize>| place.start - piece.start..place.end - piece.start;
            places.iter().for_each(|place| values.extend_from_slice(&summand[within(place)]));
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
        let all = piece.len();
        let dense = |rank: usize| Shard { number: rank, of: ranks.count() }.rows(all).len() as u64;
        let slices = others().map(dense).sum::<u64>() * self.parts[self.rank].len() as u64;
        self.whole += 4 * (slices + each * dense(self.rank));

        self.free.extend(compact);
        self.free.push(sum);
        let known = self.tables_of(&piece).first().filter(|table| table.start == 0);
        let rows = 0..known.map_or(0, |table| table.rows) as u32;
        Ok(Arrived { rows: rows.filter(|row| is_set(touched, *row as usize)).collect(), places, values: whole })
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
        add(&mut sum, &other);
        self.free.push(other);
        sum
    }

    /// The tables that lie in a piece; none of them is cut by its ends.
    fn tables_of(&self, piece: &Range<usize>) -> &[Table] {
        let first = self.tables.partition_point(|table| table.start < piece.start);
        let last = self.tables.partition_point(|table| table.start < piece.end);
        &self.tables[first..last]
    }

    /// The places of a piece's values that travel, in order: all but rows that nobody touches.
    fn places(&self, piece: &Range<usize>, touched: &[u8]) -> Vec<Range<usize>> {
        let mut places: Vec<Range<usize>> = Vec::new();
        let mut put = |place: Range<usize>| match places.last_mut() {
            _ if place.is_empty() => {}
            Some(last) if last.end == place.start => last.end = place.end,
            _ => places.push(place),
        };
        let (mut end, tables) = (piece.start, self.tables_of(piece));
        let first_bit = tables.first().map_or(0, |table| table.first_bit);
        for table in tables {
            put(end..table.start);
            let rows = (0..table.rows).filter(|row| is_set(touched, table.first_bit + row - first_bit));
            rows.for_each(|row| put(table.row(row)));
            end = table.row(table.rows).start;
        }
        put(end..piece.end);
        places
    }

    /// Writes what arrived, the pieces in order, to its places; the rest is zero.
    pub(super) fn unpack(&mut self, pieces: Vec<Arrived>, gradients: &mut Gradients) {
        let (known, _) = gradients.rows();
        let first = self.tables.first().filter(|table| table.is_known(known));
        let rows = pieces.first().filter(|_| first.is_some()).map_or(&[][..], |piece| &piece.rows);
        gradients.touch(rows.iter().copied());
        let to = gradients.params_mut().values_mut();
        let mut end = first.map_or(0, |table| table.row(table.rows).start);
        for Arrived { places, values, .. } in pieces {
            let mut from = 0;
            for place in places {
                // Of the first table all is zero that was not touched.
                if place.start > end {
                    to[end..place.start].fill(0.0);
                }
                to[place.clone()].copy_from_slice(&values[from..from + place.len()]);
                from += place.len();
                end = end.max(place.end);
            }
            self.free.push(values);
        }
        to[end..].fill(0.0);
    }
}

/// The sum of a piece, on its way to the gradient.
#[derive(Debug)]
pub(super) struct Arrived {
    /// The rows of the first table that any shard touches, of a piece that it is in.
    rows: Vec<u32>,
    places: Vec<Range<usize>>,
    /// Of one place after the other.
    values: Vec<f32>,
}

fn is_set(bits: &[u8], bit: usize) -> bool {
    bits[bit / 8] >> (bit % 8) & 1 == 1
}

/// The seconds that each of so many `values` takes until all ranks have its sum, of which every rank measures as much at the same time.
pub(in crate::train) fn seconds_per_value(ranks: &dyn Ranks, values: usize, wire: Wire) -> Result<f64, TrainError> {
    let mut layout = Layout::default();
    layout.add("values", &[values]);
    let layout = Arc::new(layout);
    let mut travel = Travel::new(&layout, ranks.count(), wire, ranks);
    let (summand, mut sum) = (Gradients::dense(layout.clone()), Gradients::dense(layout));
    let mut seconds = 0.0;
    // At first memory is touched, and others come when they are told.
    for _ in 0..2 {
        let started = Instant::now();
        let arrived = travel.add(ranks, 0..values, &[summand.values()], &[], 1)?;
        travel.unpack(vec![arrived], &mut sum);
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
