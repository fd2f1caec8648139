//! A text read batch by batch with several models: the mean's probability of every token at every place.

use std::cell::RefCell;

use lstm_kernels::{exponentials, for_each_chunk};

use super::MemberRef;
use crate::model::{LanguageTape, Loss};
use crate::nn::state::State;
use crate::text::batch::{Batch, Batches, NO_TARGET};

/// A pass over a text that says the whole distribution of every predicted token.
pub(crate) struct Mean<'a> {
    members: Vec<(MemberRef<'a>, State, LanguageTape)>,
    batches: Batches<'a>,
    next: usize,
    batch: Batch,
    vocabulary: usize,
    /// Of the last batch, the predicted positions alone: the targets, and a member's logits `[rows, V]`.
    targets: Vec<u32>,
    logits: Vec<f32>,
    /// `[rows, V + 1]`: the probabilities, and behind them the surprisal of the target, in nats.
    means: Vec<f32>,
    total: Loss,
}

impl<'a> Mean<'a> {
    /// Before the first of these batches.
    pub(crate) fn new(members: Vec<MemberRef<'a>>, batches: Batches<'a>) -> Self {
        let vocabulary = members.first().map_or(0, |member| member.model.config().vocabulary);
        let rows = batches.rows();
        let ready = |member: MemberRef<'a>| (member, member.model.state(rows), member.model.frozen_tape());
        Self {
            members: members.into_iter().map(ready).collect(),
            batches,
            next: 0,
            batch: Batch::default(),
            vocabulary,
            targets: Vec::new(),
            logits: Vec::new(),
            means: Vec::new(),
            total: Loss::default(),
        }
    }

    /// Reads the next batch; false when there is none.
    pub(crate) fn advance(&mut self) -> bool {
        if self.next == self.batches.len() {
            return false;
        }
        self.batches.get(self.next, &mut self.batch);
        self.next += 1;
        self.read();
        self.total.nll +=
            self.means.iter().skip(self.vocabulary).step_by(self.vocabulary + 1).map(|x| f64::from(*x)).sum::<f64>();
        self.total.tokens += self.targets.len();
        true
    }

    /// Reads the first `count` batches of columns again, each column from where the one before it ended.
    pub(crate) fn reread(&mut self, count: usize, each: &mut dyn FnMut(&Self)) {
        self.members.iter_mut().for_each(|(_, state, _)| state.hand_down());
        for number in 0..count.min(self.batches.len()) {
            self.batches.get(number, &mut self.batch);
            self.batch.fresh = false;
            self.read();
            each(self);
        }
    }

    fn read(&mut self) {
        let Self { members, batch, vocabulary, targets, logits, means, .. } = self;
        let vocabulary = *vocabulary;
        targets.clear();
        targets.extend(batch.targets.iter().filter(|&&target| target != NO_TARGET));
        means.resize(targets.len() * (vocabulary + 1), 0.0);
        for (number, (member, state, tape)) in members.iter_mut().enumerate() {
            member.model.read(member.params, batch, state, tape);
            logits.clear();
            let mut position = 0;
            member.model.logits(member.params, tape, &mut |values| {
                if batch.targets[position] != NO_TARGET {
                    logits.extend_from_slice(values);
                }
                position += 1;
            });
            let (share, is_first, targets, logits) = (member.share, number == 0, &*targets, &*logits);
            for_each_chunk(means, vocabulary + 1, |row, mean| {
                let logits = &logits[row * vocabulary..][..vocabulary];
                add(logits, share, targets[row] as usize, is_first, mean);
            });
        }
    }

    /// The predicted positions of the last batch, in their order: what came, its surprisal in nats, and the probability of every token.
    pub(crate) fn predicted(&self) -> impl Iterator<Item = (u32, f32, &[f32])> {
        let rows = self.means.chunks_exact(self.vocabulary + 1);
        self.targets.iter().zip(rows).map(|(&target, row)| (target, row[self.vocabulary], &row[..self.vocabulary]))
    }

    /// Where they stand in the text, if the batches say so.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        let pairs = self.batch.targets.iter().zip(&self.batch.places);
        pairs.filter(|(target, _)| **target != NO_TARGET).map(|(_, &place)| place)
    }

    /// The loss so far.
    pub(crate) fn total(&self) -> Loss {
        self.total
    }

    /// The number of batches.
    pub(crate) fn batches(&self) -> usize {
        self.batches.len()
    }
}

/// Adds `share` times the softmax of a member's logits `[V]` to the mean `[V + 1]`, and to the surprisal of the target behind it.
fn add(logits: &[f32], share: f64, target: usize, is_first: bool, mean: &mut [f32]) {
    thread_local! {
        /// The exponentials of a row, reused.
        static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    ROW.with_borrow_mut(|row| {
        row.resize(logits.len(), 0.0);
        let most = exponentials(logits, 1.0, row);
        let sum = sum(row);
        let factor = (share / sum) as f32;
        let (mean, nats) = mean.split_at_mut(logits.len());
        // ln (share · p): where it is -inf, the member has no part.
        let own = (share.ln() + f64::from(logits[target] - most) - sum.ln()) as f32;
        if is_first {
            mean.iter_mut().zip(&*row).for_each(|(mean, e)| *mean = factor * e);
            nats[0] = -own;
        } else {
            mean.iter_mut().zip(&*row).for_each(|(mean, e)| *mean += factor * e);
            nats[0] = -log_of_sum(-f64::from(nats[0]), f64::from(own)) as f32;
        }
    });
}

/// The logarithm of the sum of two numbers that are given by theirs.
fn log_of_sum(a: f64, b: f64) -> f64 {
    let (most, least) = (a.max(b), a.min(b));
    if least == f64::NEG_INFINITY { most } else { most + (least - most).exp().ln_1p() }
}

/// The sum of many values, in an order that their number alone decides.
fn sum(values: &[f32]) -> f64 {
    let (groups, rest) = values.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for group in groups {
        sums.iter_mut().zip(group).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    sums.iter().sum::<f64>() + rest.iter().map(|value| f64::from(*value)).sum::<f64>()
}
