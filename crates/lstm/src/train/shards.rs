//! The gradient of a step as a fixed sum: its rows are cut into shards, each shard's gradient is computed by itself, and they are added
//! in an order that their number alone decides. So the bits are the same whatever rank computed which.
//!
//! The sum of shards `[0, N)` is that of `[0, m)` and that of `[m, N)`, where m is the largest power of two below N, and so on down to
//! single shards. A rank adds up what it has whole parts of; the rest is added where it meets (`travel`).
//!
//! The pass back completes a gradient from its end on: the readout's part first, then layer after layer. While a rank computes its last
//! shard, a thread brings what is complete to the others.

mod early;
mod travel;
mod wire;

use std::ops::Range;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::early::{Carried, Early, carry};
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
    /// The pieces of a gradient, each of which travels when it is complete.
    pub pieces: usize,
    /// The steps.
    pub steps: u64,
    /// Seconds in which this rank computed gradients of its shards.
    pub computing: f64,
    /// Seconds in which it waited for the slowest of the others to have computed theirs.
    pub waiting: f64,
    /// Seconds in which gradients travelled and were added after it had computed its own.
    pub travelling: f64,
    /// Seconds in which they did while it still computed.
    pub beneath: f64,
    /// The bytes that this rank sent.
    pub sent: u64,
    /// The bytes that it would have sent of a gradient of every parameter.
    pub whole: u64,
}

/// The least values that travel by themselves: fewer wait for what is complete next.
const LEAST_PIECE: usize = 1 << 14;

/// Computes the gradient of steps, shard by shard.
pub(super) struct Shards<'a, T: Task> {
    ranks: &'a dyn Ranks,
    own: Own<'a, T>,
    /// Where the pieces start that travel while the rest is computed, the last in the buffer first.
    early: Vec<usize>,
    travel: Travel,
    pub(super) exchanged: Exchanged,
}

/// The shards that this rank computes, and what it computes them with.
struct Own<'a, T: Task> {
    task: &'a T,
    of: usize,
    shards: Range<usize>,
    /// The batches of the step, and a shard of one.
    batches: Vec<T::Batch>,
    part: T::Batch,
    /// Of all shards of the step, as far as they are known.
    losses: Vec<Loss>,
    /// Gradients that are not in use.
    free: Vec<Gradients>,
    /// Copies of pieces that are not in use.
    copies: Vec<Vec<f32>>,
}

/// What the gradient of a step is taken at.
pub(super) struct At<'p> {
    pub(super) progress: &'p mut Progress,
    pub(super) numbers: Range<usize>,
    pub(super) seed: u64,
    pub(super) accumulate: usize,
    pub(super) precision: Precision,
    /// The share of the rates of dropout that the step has.
    pub(super) share: f32,
}

impl<'a, T: Task> Shards<'a, T> {
    /// The steps of `task` in `of` shards, of which each of the `ranks` computes its share.
    pub(super) fn new(task: &'a T, ranks: &'a dyn Ranks, of: usize) -> Self {
        let training = task.settings().training();
        let mut early = Vec::new();
        // A rank alone has nowhere to send, and of batches that accumulate only the last one's gradient would be complete.
        if ranks.count() > 1 && training.accumulate == 1 {
            let mut end = task.layout().len();
            for start in task.completes_from() {
                if end - start >= LEAST_PIECE {
                    early.push(start);
                    end = start;
                }
            }
        }
        let own = Own {
            task,
            of,
            shards: own(of, ranks.rank(), ranks.count()),
            batches: Vec::new(),
            part: T::Batch::default(),
            losses: Vec::new(),
            free: Vec::new(),
            copies: Vec::new(),
        };
        let pieces = early.len() + 1;
        let exchanged = Exchanged { ranks: ranks.count(), shards: of, pieces, ..Exchanged::default() };
        Self { ranks, own, early, travel: Travel::new(task.layout(), of, training.wire, ranks), exchanged }
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
        let Self { ranks, own, early, travel, .. } = self;
        let (ranks, len) = (*ranks, own.task.layout().len());
        let lengths = own.begin(&at, epoch);
        let parts = whole_parts(0..own.of, &own.shards);
        let (last, parts) = parts.split_last().expect("every rank has a shard");
        let (pieces, complete) = channel();
        let copies = std::mem::take(&mut own.copies);
        let sending = Early { starts: early, end: len, before: &[], copies, pieces };
        let mut summands: Vec<Gradients> = Vec::new();
        for shards in parts {
            summands.push(own.sum(shards.clone(), &mut at, epoch, tape, &mut sending.none()));
        }
        let (carried, computed) = std::thread::scope(|scope| {
            let carrier = (!early.is_empty()).then(|| scope.spawn(|| carry(travel, ranks, complete)));
            let mut sending = Early { before: &summands, ..sending };
            let last = own.sum(last.clone(), &mut at, epoch, tape, &mut sending);
            // When the sender is gone, nothing more comes.
            own.copies = sending.copies;
            drop(sending.pieces);
            summands.push(last);
            let computed = Instant::now();
            (carrier.map(|carrier| carrier.join().expect("whoever carries pieces does not panic")), computed)
        });
        let joined = Instant::now();
        let Carried { mut arrived, losses, copies, times } = carried.transpose()?.unwrap_or_default();
        own.copies.extend(copies);

        if ranks.count() == 1 {
            let loss = sum_of(&own.losses);
            if loss.nll.is_finite() {
                std::mem::swap(gradients, &mut summands[0]);
                gradients.scale_below(len, 1.0 / loss.tokens.max(1) as f32);
            }
            own.free.extend(summands);
            self.exchanged.steps += 1;
            self.exchanged.computing += Duration::as_secs_f64(&(computed - started));
            return Ok((loss, lengths));
        }

        // The rest of it travels when all is computed.
        let rest = 0..early.last().copied().unwrap_or(len);
        let is_first = losses.is_none();
        let mut losses = losses.unwrap_or_else(|| std::mem::take(&mut own.losses));
        let mut met = joined;
        if is_first || is_finite(&losses) {
            let values: Vec<&[f32]> = summands.iter().map(|summand| &summand.values()[rest.clone()]).collect();
            let touched = travel.touched(&rest, &values, &summands);
            let touched = travel.meet(ranks, is_first.then_some(&mut losses[..]), touched)?;
            met = Instant::now();
            if is_finite(&losses) {
                arrived.push(travel.add(ranks, rest, &values, &touched, sum_of(&losses).tokens)?);
                arrived.reverse();
                travel.unpack(arrived, gradients);
            }
        }
        own.free.extend(summands);
        let seconds = |from: Instant, to: Instant| Duration::as_secs_f64(&(to - from));
        let exchanged = &mut self.exchanged;
        exchanged.steps += 1;
        exchanged.computing += seconds(started, computed);
        exchanged.waiting += seconds(joined, met);
        exchanged.travelling += seconds(computed, joined) + seconds(met, Instant::now());
        exchanged.beneath +=
            times.iter().map(|time| seconds(time.start, time.end.min(computed).max(time.start))).sum::<f64>();
        (exchanged.sent, exchanged.whole) = self.travel.bytes();
        let loss = sum_of(&losses);
        self.own.losses = losses;
        Ok((loss, lengths))
    }

    /// Brings the rows of the state that other ranks carried to every rank, as a checkpoint needs them.
    pub(super) fn collect(&self, state: &mut State) -> Result<(), TrainError> {
        let ranks = self.ranks;
        if ranks.count() == 1 || state.batch() == 0 {
            return Ok(());
        }
        let total = state.batch();
        let rows = |rank: usize| {
            let of = own(self.own.of, rank, ranks.count());
            let first = |number: usize| Shard { number, of: self.own.of }.rows(total);
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

impl<T: Task> Own<'_, T> {
    /// Reads the batches of a step. Gives the length of all of them and of as many usual ones.
    fn begin(&mut self, at: &At<'_>, epoch: &T::Batches<'_>) -> (usize, usize) {
        self.losses.clear();
        self.losses.resize(self.of, Loss::default());
        self.batches.resize_with(at.numbers.len().max(self.batches.len()), T::Batch::default);
        let mut lengths = (0, 0);
        for (batch, number) in self.batches.iter_mut().zip(at.numbers.clone()) {
            epoch.fill(number, batch);
            let (length, usual) = self.task.lengths(batch);
            lengths = (lengths.0 + length, lengths.1 + usual);
        }
        lengths
    }

    /// The sum of the gradients of `shards`, which are this rank's: of what they predict, not its mean.
    fn sum(
        &mut self,
        shards: Range<usize>,
        at: &mut At<'_>,
        epoch: &T::Batches<'_>,
        tape: &mut T::Tape,
        early: &mut Early<'_>,
    ) -> Gradients {
        // Down the right edge of the sum, so that all that the last shard is added to is there when it is computed.
        let (mut lefts, mut last) = (Vec::new(), shards);
        while last.len() > 1 {
            let [left, right] = halves(&last);
            lefts.push(self.sum(left, at, epoch, tape, &mut early.none()));
            last = right;
        }
        let mut sum = self.shard(last.start, &lefts, at, epoch, tape, early);
        for left in lefts.into_iter().rev() {
            sum.add_below(early.end, &left);
            self.free.push(left);
        }
        sum
    }

    /// The gradient of one shard, of all batches of the step. What is sent early of it has `lefts` added to it.
    fn shard(
        &mut self,
        number: usize,
        lefts: &[Gradients],
        at: &mut At<'_>,
        epoch: &T::Batches<'_>,
        tape: &mut T::Tape,
        early: &mut Early<'_>,
    ) -> Gradients {
        let Self { task, of, batches, part, losses, free, .. } = self;
        let shard = Shard { number, of: *of };
        let rows = shard.rows(at.progress.state.batch());
        let mut state = at.progress.state.part(rows.clone());
        let mut sum: Option<Gradients> = None;
        for (place, index) in at.numbers.clone().enumerate() {
            // What is nobody's row, or predicts nothing, has no gradient.
            if !epoch.cut(index, &batches[place], shard, part) {
                continue;
            }
            let step = at.progress.position.step * at.accumulate as u64 + place as u64;
            let masks = Masks { seed: at.seed, step, shard: number as u32, share: at.share };
            let mut gradients = free.pop().unwrap_or_else(|| task.gradients());
            let params = &at.progress.params;
            let mut complete = |loss: Loss, from: usize, values: &mut [f32]| {
                losses[number] = loss;
                early.send(from, values, loss.tokens, lefts, losses);
            };
            let of = at.precision.within(|| {
                task.train_step_telling(params, part, &mut state, masks, tape, &mut gradients, &mut complete)
            });
            gradients.scale_below(early.end, of.tokens as f32);
            match &mut sum {
                None => {
                    losses[number] = of;
                    sum = Some(gradients);
                }
                Some(sum) => {
                    losses[number].add(of);
                    sum.add_below(early.end, &gradients);
                    free.push(gradients);
                }
            }
        }
        at.progress.state.set_part(rows.start, &state);
        let mut sum = sum.unwrap_or_else(|| {
            let mut none = free.pop().unwrap_or_else(|| task.gradients());
            none.clear();
            none
        });
        // Of a shard without rows nothing was told.
        early.send(0, sum.params_mut().values_mut(), 1, lefts, losses);
        sum
    }
}

/// The loss of all shards, added in their order.
fn sum_of(losses: &[Loss]) -> Loss {
    let mut total = Loss::default();
    losses.iter().for_each(|loss| total.add(*loss));
    total
}

fn is_finite(losses: &[Loss]) -> bool {
    sum_of(losses).nll.is_finite()
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
