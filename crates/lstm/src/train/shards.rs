//! The gradient of a step as a fixed sum: its rows are cut into shards, each shard's gradient is computed by itself, and they are added
//! in an order that their number alone decides. So the bits are the same whatever rank computed which.
//!
//! The sum of shards `[0, N)` is that of `[0, m)` and that of `[m, N)`, where m is the largest power of two below N, and so on down to
//! single shards. A rank adds up what it has whole parts of; the rest is added where it meets (`travel`).

mod travel;
mod wire;

use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::travel::Travel;
pub(super) use self::travel::seconds_per_value;
use super::ranks::{Ranks, to_all};
use super::task::{Batches as _, Task};
use crate::model::Loss;
use crate::nn::dropout::Masks;
use crate::nn::gradients::Gradients;
use crate::nn::precision::Precision;
use crate::nn::state::State;
use crate::run::checkpoint::Progress;
use crate::run::error::TrainError;
use crate::run::settings::Settings as _;

/// One part of the rows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 0.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl Shard {
    /// Its rows of so many: as many as every other's, or one more.
    pub fn rows(self, rows: usize) -> Range<usize> {
        rows * self.number / self.of..rows * (self.number + 1) / self.of
    }
}

/// What training on several ranks takes beside computing, of all steps of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Exchanged {
    /// The ranks.
    pub ranks: usize,
    /// The shards of a step.
    pub shards: usize,
    /// The steps.
    pub steps: u64,
    /// Seconds in which this rank computed gradients of its shards.
    pub computing: f64,
    /// Seconds in which it waited for the slowest of the others to have computed theirs.
    pub waiting: f64,
    /// Seconds in which gradients travelled and were added.
    pub travelling: f64,
    /// The bytes that this rank sent.
    pub sent: u64,
    /// The bytes that it would have sent of a gradient of every parameter.
    pub whole: u64,
}

/// Computes the gradient of steps, shard by shard.
pub(super) struct Shards<'a, T: Task> {
    task: &'a T,
    ranks: &'a dyn Ranks,
    of: usize,
    /// Those that this rank computes.
    own: Range<usize>,
    /// The batches of the step, and a shard of one.
    batches: Vec<T::Batch>,
    part: T::Batch,
    /// Gradients that are not in use.
    free: Vec<Gradients>,
    travel: Travel,
    pub(super) exchanged: Exchanged,
}

/// What the gradient of a step is taken at.
pub(super) struct At<'p> {
    pub(super) progress: &'p mut Progress,
    pub(super) numbers: Range<usize>,
    pub(super) seed: u64,
    pub(super) accumulate: usize,
    pub(super) precision: Precision,
}

impl<'a, T: Task> Shards<'a, T> {
    /// The steps of `task` in `of` shards, of which each of the `ranks` computes its share.
    pub(super) fn new(task: &'a T, ranks: &'a dyn Ranks, of: usize) -> Self {
        let exchanged = Exchanged { ranks: ranks.count(), shards: of, ..Exchanged::default() };
        let (batches, free, travel) =
            (Vec::new(), Vec::new(), Travel::new(task.layout(), of, task.settings().training().wire, ranks));
        Self {
            task,
            ranks,
            of,
            own: own(of, ranks.rank(), ranks.count()),
            batches,
            part: T::Batch::default(),
            free,
            travel,
            exchanged,
        }
    }

    /// Puts the gradient of the mean loss of all positions that the batches predict into `gradients`. Gives their loss, and the length of
    /// all of them and of as many usual ones.
    pub(super) fn gradient(
        &mut self,
        mut at: At<'_>,
        epoch: &T::Batches<'_>,
        tape: &mut T::Tape,
        gradients: &mut Gradients,
    ) -> Result<(Loss, (usize, usize)), TrainError> {
        let started = Instant::now();
        self.batches.resize_with(at.numbers.len().max(self.batches.len()), T::Batch::default);
        let mut lengths = (0, 0);
        for (batch, number) in self.batches.iter_mut().zip(at.numbers.clone()) {
            epoch.fill(number, batch);
            let (length, usual) = self.task.lengths(batch);
            lengths = (lengths.0 + length, lengths.1 + usual);
        }
        let (mut losses, mut summands) = (vec![Loss::default(); self.of], Vec::new());
        for shards in whole_parts(0..self.of, &self.own) {
            summands.push(self.sum(shards, &mut at, epoch, tape, &mut losses));
        }
        let computed = Instant::now();
        let touched = self.travel.touched(&summands);
        let (loss, touched) = self.share_losses(&mut losses, touched)?;
        let met = Instant::now();
        if loss.nll.is_finite() {
            self.travel.add(self.ranks, &mut summands, &touched, loss.tokens, gradients)?;
        }
        self.free.extend(summands);
        let seconds = |from: Instant, to: Instant| Duration::as_secs_f64(&(to - from));
        let exchanged = &mut self.exchanged;
        exchanged.steps += 1;
        exchanged.computing += seconds(started, computed);
        exchanged.waiting += seconds(computed, met);
        exchanged.travelling += seconds(met, Instant::now());
        (exchanged.sent, exchanged.whole) = self.travel.bytes();
        Ok((loss, lengths))
    }

    /// The sum of the gradients of `shards`, which are this rank's: of what they predict, not its mean.
    fn sum(
        &mut self,
        shards: Range<usize>,
        at: &mut At<'_>,
        epoch: &T::Batches<'_>,
        tape: &mut T::Tape,
        losses: &mut [Loss],
    ) -> Gradients {
        if shards.len() == 1 {
            return self.shard(shards.start, at, epoch, tape, &mut losses[shards.start]);
        }
        let [left, right] = halves(&shards);
        let mut sum = self.sum(left, at, epoch, tape, losses);
        let other = self.sum(right, at, epoch, tape, losses);
        sum.add(&other);
        self.free.push(other);
        sum
    }

    /// The gradient of one shard, of all batches of the step.
    fn shard(
        &mut self,
        number: usize,
        at: &mut At<'_>,
        epoch: &T::Batches<'_>,
        tape: &mut T::Tape,
        loss: &mut Loss,
    ) -> Gradients {
        let (task, shard) = (self.task, Shard { number, of: self.of });
        let rows = shard.rows(at.progress.state.batch());
        let mut state = at.progress.state.part(rows.clone());
        let mut sum: Option<Gradients> = None;
        for (place, index) in at.numbers.clone().enumerate() {
            let Self { batches, part, free, .. } = self;
            // What is nobody's row, or predicts nothing, has no gradient.
            if !epoch.cut(index, &batches[place], shard, part) {
                continue;
            }
            let step = at.progress.position.step * at.accumulate as u64 + place as u64;
            let masks = Masks { seed: at.seed, step, shard: number as u32 };
            let mut gradients = free.pop().unwrap_or_else(|| task.gradients());
            let params = &at.progress.params;
            let of = at.precision.within(|| task.train_step(params, part, &mut state, masks, tape, &mut gradients));
            loss.add(of);
            gradients.scale(of.tokens as f32);
            match &mut sum {
                None => sum = Some(gradients),
                Some(sum) => {
                    sum.add(&gradients);
                    free.push(gradients);
                }
            }
        }
        at.progress.state.set_part(rows.start, &state);
        sum.unwrap_or_else(|| {
            let mut none = self.free.pop().unwrap_or_else(|| task.gradients());
            none.clear();
            none
        })
    }

    /// Tells the losses of this rank's shards and the rows that they touched, and hears the others'. Gives the sum of all losses and the
    /// rows that any shard touched.
    fn share_losses(&self, losses: &mut [Loss], mut touched: Vec<u8>) -> Result<(Loss, Vec<u8>), TrainError> {
        let bytes = |losses: &[Loss]| -> Vec<u8> {
            let each = |loss: &Loss| [loss.nll.to_le_bytes(), (loss.tokens as u64).to_le_bytes()].concat();
            losses.iter().flat_map(each).collect()
        };
        let message = [bytes(&losses[self.own.clone()]), touched.clone()].concat();
        let ranks = self.ranks;
        let of = |rank: usize| own(self.of, rank, ranks.count());
        let mut all: Vec<Vec<u8>> =
            (0..ranks.count()).map(|rank| vec![0; 16 * of(rank).len() + touched.len()]).collect();
        to_all(ranks, &message, all.iter_mut().map(|message| &mut message[..]))?;
        for (rank, message) in all.iter().enumerate().filter(|(rank, _)| *rank != ranks.rank()) {
            let (numbers, theirs) = message.split_at(16 * of(rank).len());
            for (loss, bytes) in losses[of(rank)].iter_mut().zip(numbers.as_chunks::<16>().0) {
                let halves = bytes.as_chunks::<8>().0;
                *loss = Loss { nll: f64::from_le_bytes(halves[0]), tokens: u64::from_le_bytes(halves[1]) as usize };
            }
            touched.iter_mut().zip(theirs).for_each(|(own, other)| *own |= other);
        }
        let mut total = Loss::default();
        losses.iter().for_each(|loss| total.add(*loss));
        Ok((total, touched))
    }

    /// Brings the rows of the state that other ranks carried to every rank, as a checkpoint needs them.
    pub(super) fn collect(&self, state: &mut State) -> Result<(), TrainError> {
        let ranks = self.ranks;
        if ranks.count() == 1 || state.batch() == 0 {
            return Ok(());
        }
        let total = state.batch();
        let rows = |rank: usize| {
            let of = own(self.of, rank, ranks.count());
            let first = |number: usize| Shard { number, of: self.of }.rows(total);
            first(of.start).start..first(of.end - 1).end
        };
        let mut parts: Vec<State> = (0..ranks.count()).map(|rank| state.part(rows(rank))).collect();
        let own = &parts[ranks.rank()];
        let (h, c) = (own.h.clone(), own.c.clone());
        to_all(ranks, bytemuck::cast_slice(&h), parts.iter_mut().map(|part| bytemuck::cast_slice_mut(&mut part.h)))?;
        to_all(ranks, bytemuck::cast_slice(&c), parts.iter_mut().map(|part| bytemuck::cast_slice_mut(&mut part.c)))?;
        for (rank, part) in parts.iter().enumerate() {
            state.set_part(rows(rank).start, part);
        }
        Ok(())
    }
}

/// The shards that a rank computes, of so many.
fn own(of: usize, rank: usize, ranks: usize) -> Range<usize> {
    Shard { number: rank, of: ranks }.rows(of)
}

/// What a sum of several shards is the sum of.
fn halves(shards: &Range<usize>) -> [Range<usize>; 2] {
    let middle = shards.start + shards.len().next_power_of_two() / 2;
    [shards.start..middle, middle..shards.end]
}

/// The largest parts of the sum of `shards` all of whose shards are among `own`.
fn whole_parts(shards: Range<usize>, own: &Range<usize>) -> Vec<Range<usize>> {
    if shards.start >= own.end || shards.end <= own.start {
        return Vec::new();
    }
    if own.start <= shards.start && shards.end <= own.end {
        return vec![shards];
    }
    halves(&shards).into_iter().flat_map(|half| whole_parts(half, own)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of `shards` as a text, of parts that lie at hand.
    fn written(shards: Range<usize>, parts: &[Range<usize>]) -> String {
        fn inside(shards: &Range<usize>) -> String {
            match shards.len() {
                1 => shards.start.to_string(),
                _ => format!("({})", halves(shards).map(|half| inside(&half)).join("+")),
            }
        }
        if parts.contains(&shards) {
            return inside(&shards);
        }
        assert!(shards.len() > 1, "{shards:?} is nobody's");
        format!("({})", halves(&shards).map(|half| written(half, parts)).join("+"))
    }

    #[test]
    fn the_sum_is_the_same_for_any_number_of_ranks() {
        assert_eq!(written(0..5, &whole_parts(0..5, &(0..5))), "(((0+1)+(2+3))+4)");
        assert_eq!(written(0..6, &whole_parts(0..6, &(0..6))), "(((0+1)+(2+3))+(4+5))");
        for of in 1..20 {
            let alone = written(0..of, &whole_parts(0..of, &(0..of)));
            for ranks in 1..=of {
                let parts: Vec<_> = (0..ranks).flat_map(|rank| whole_parts(0..of, &own(of, rank, ranks))).collect();
                assert_eq!(parts.iter().map(Range::len).sum::<usize>(), of);
                assert_eq!(written(0..of, &parts), alone);
            }
        }
    }

    #[test]
    fn rows_are_cut_evenly() {
        let rows = |of, rows| (0..of).map(|number| Shard { number, of }.rows(rows)).collect::<Vec<_>>();
        assert_eq!(rows(3, 8), [0..2, 2..5, 5..8]);
        assert_eq!(rows(4, 2), [0..0, 0..1, 1..1, 1..2]);
    }
}
