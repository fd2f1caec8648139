//! What travels of a step's gradient before all of it is computed. The pass back completes it from its end on; as it goes through the last of
//! a rank's shards, what is complete is added to the other shards' and handed to a thread, which brings it to all ranks.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use super::travel::{Arrived, Travel};
use super::{is_finite, sum_of};
use crate::model::Loss;
use crate::nn::gradients::{Gradients, add, scale};
use crate::run::error::TrainError;
use crate::train::ranks::Ranks;

/// A part of this rank's summands that is complete.
pub(super) struct Piece {
    place: Range<usize>,
    /// Of each summand.
    values: Vec<Vec<f32>>,
    /// Of all shards, of which this rank's are known.
    losses: Vec<Loss>,
}

/// Sends the pieces of this rank's summands as the last of them is computed.
pub(super) struct Early<'e> {
    /// The starts of those that are left.
    pub(super) starts: &'e [usize],
    /// From here on the last summand is added up, and sent.
    pub(super) end: usize,
    /// The summands before the last.
    pub(super) before: &'e [Gradients],
    pub(super) copies: Vec<Vec<f32>>,
    pub(super) pieces: Sender<Piece>,
}

/// The result of bringing pieces to all ranks.
#[derive(Default)]
pub(super) struct Carried {
    pub(super) arrived: Vec<Arrived>,
    /// Of all shards, where a piece was brought.
    pub(super) losses: Option<Vec<Loss>>,
    pub(super) copies: Vec<Vec<f32>>,
    /// When each piece began to travel, and when it had arrived.
    pub(super) times: Vec<Range<Instant>>,
}

impl Early<'_> {
    /// What sends nothing.
    pub(super) fn none(&self) -> Self {
        let end = self.end;
        Self { starts: &[], end, before: &[], copies: Vec::new(), pieces: self.pieces.clone() }
    }

    /// Adds up and sends those pieces that are complete where the gradient of the last shard, `values`, is so from `from` on: the mean over
    /// `tokens` that it predicts. `lefts`: the sums to which it is added, the last first.
    pub(super) fn send(
        &mut self,
        from: usize,
        values: &mut [f32],
        tokens: usize,
        lefts: &[Gradients],
        losses: &[Loss],
    ) {
        while let Some((&start, rest)) = self.starts.split_first().filter(|(start, _)| **start >= from) {
            let place = start..self.end;
            (self.starts, self.end) = (rest, start);
            let piece = &mut values[place.clone()];
            scale(piece, tokens as f32);
            lefts.iter().rev().for_each(|left| add(piece, &left.values()[place.clone()]));
            let mut copy = |values: &[f32]| {
                let mut copy = self.copies.pop().unwrap_or_default();
                copy.clear();
                copy.extend_from_slice(values);
                copy
            };
            let mut values: Vec<_> = self.before.iter().map(|summand| copy(&summand.values()[place.clone()])).collect();
            values.push(copy(piece));
            // If nobody listens any more, the step is over for all ranks.
            let _ = self.pieces.send(Piece { place, values, losses: losses.to_vec() });
        }
    }
}

/// Brings pieces of this rank's summands to all ranks, each as it comes, until no more come or the loss is no number.
pub(super) fn carry(travel: &mut Travel, ranks: &dyn Ranks, pieces: Receiver<Piece>) -> Result<Carried, TrainError> {
    let mut carried = Carried::default();
    for piece in pieces {
        let values: Vec<&[f32]> = piece.values.iter().map(|values| &values[..]).collect();
        let touched = travel.touched(&piece.place, &values, &[]);
        let is_first = carried.losses.is_none();
        let losses = carried.losses.get_or_insert(piece.losses);
        let touched = travel.meet(ranks, is_first.then_some(&mut losses[..]), touched)?;
        if !is_finite(losses) {
            break;
        }
        let met = Instant::now();
        carried.arrived.push(travel.add(ranks, piece.place, &values, &touched, sum_of(losses).tokens)?);
        carried.times.push(met..Instant::now());
        carried.copies.extend(piece.values);
    }
    Ok(carried)
}
