//! What rank 0 tells the others to do next.

use std::cell::{Cell, RefCell};

use serde::{Deserialize, Serialize};

use super::{Alone, Ranks, tell};
use crate::run::error::TrainError;
use crate::run::training::Wire;
use crate::train::shards::seconds_per_value;

/// What is to be done next, by every rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Read the run, whose description has so many bytes, and take over its parameters.
    Begin(usize),
    /// Take the step of these batches.
    Step {
        epoch: usize,
        batch: usize,
        step: u64,
        /// The share of the schedule that is done.
        done: f64,
        learning_rate: f32,
    },
    /// Bring the states that each rank carries to all.
    Collect,
    /// Begin an average of the parameters.
    Average,
    /// Measure how long a gradient of so many values takes to be added up.
    Measure { values: usize, wire: Wire },
    /// Nothing any more.
    End,
}

/// The bytes of an order; what it does not need is blank.
const BYTES: usize = 256;

impl Order {
    /// The next order of rank 0.
    pub(super) fn heard(ranks: &dyn Ranks) -> Result<Self, TrainError> {
        let mut bytes = [b' '; BYTES];
        tell(ranks, &mut bytes)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            TrainError::Unusable(format!("rank 0 gave an order that is none of this program ({error}); start all anew"))
        })
    }

    fn give(&self, ranks: &dyn Ranks) -> Result<(), TrainError> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        debug_assert!(bytes.len() <= BYTES);
        bytes.resize(BYTES, b' ');
        tell(ranks, &mut bytes)
    }
}

/// Rank 0's hold on the others. When it is dropped they are told that there is nothing more to do.
#[derive(Debug)]
pub struct Orders<'a> {
    ranks: &'a dyn Ranks,
    /// Whether the others hear: not after one of them was lost.
    heard: Cell<bool>,
    /// What goes on with the run, in words.
    go_on: RefCell<String>,
}

impl Orders<'static> {
    /// Of one process alone.
    pub(crate) fn to_nobody() -> Self {
        Self::to(&Alone)
    }
}

impl<'a> Orders<'a> {
    /// Orders to all `ranks`, of which this is number 0 and the others [`follow`](super::follow).
    pub fn to(ranks: &'a dyn Ranks) -> Self {
        let heard = Cell::new(ranks.count() > 1 && ranks.rank() == 0);
        Self { ranks, heard, go_on: RefCell::default() }
    }

    /// Notes what goes on with the run that is about to train, in words, for the others to say if this process dies.
    pub fn note(&self, go_on: &str) {
        go_on.clone_into(&mut self.go_on.borrow_mut());
    }

    pub(super) fn go_on(&self) -> String {
        self.go_on.borrow().clone()
    }

    /// How many ranks there are, this one among them.
    pub fn count(&self) -> usize {
        self.ranks.count()
    }

    /// The seconds that each value of a gradient of so many `values` takes to be added up between all ranks.
    pub(crate) fn seconds_per_value(&self, values: usize, wire: Wire) -> Result<f64, TrainError> {
        self.give(Order::Measure { values, wire })?;
        self.noted(seconds_per_value(self.ranks, values, wire))
    }

    /// All ranks.
    pub(crate) fn ranks(&self) -> &'a dyn Ranks {
        self.ranks
    }

    /// Gives an order, where there is anybody to hear it.
    pub(crate) fn give(&self, order: Order) -> Result<(), TrainError> {
        if !self.heard.get() {
            return Ok(());
        }
        self.noted(order.give(self.ranks))
    }

    /// The result of what was done with the others: none of them is waited for any more after one was lost.
    pub(crate) fn noted<T>(&self, result: Result<T, TrainError>) -> Result<T, TrainError> {
        if result.is_err() {
            self.heard.set(false);
        }
        result
    }
}

impl Drop for Orders<'_> {
    fn drop(&mut self) {
        // Who is lost by then cannot be told.
        let _ = self.give(Order::End);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_fits_its_bytes_and_is_read_back() {
        let (epoch, batch, step) = (usize::MAX, usize::MAX, u64::MAX);
        let longest =
            Order::Step { epoch, batch, step, done: 0.123_456_789_012_345_68e-300, learning_rate: 1.234_567_8e-38 };
        let measure = Order::Measure { values: usize::MAX, wire: Wire::Bf16 };
        for order in [Order::Begin(usize::MAX), longest, Order::Collect, Order::Average, measure, Order::End] {
            let mut bytes = serde_json::to_vec(&order).unwrap();
            assert!(bytes.len() <= BYTES);
            bytes.resize(BYTES, b' ');
            assert_eq!(serde_json::from_slice::<Order>(&bytes).unwrap(), order);
        }
    }
}
