//! Several processes that train one model: each computes some shards of a step, and all take the same step.
//!
//! Rank 0 is the run: it reads what is asked for, decides, validates, writes and talks. The others [`follow`] it: they are told which
//! batch is next and at which rate, compute their shards of it ([`shards`](super::shards)), and change their copy of the parameters by
//! the same bits.

mod follow;
pub mod greeting;
#[cfg(feature = "mpi")]
pub mod mpi;
mod order;

use std::fmt::Debug;

pub use self::follow::follow;
pub(crate) use self::order::Order;
pub use self::order::Orders;
pub use super::check::check_ranks;
use crate::run::error::TrainError;

/// The processes of a run, of which this is one. Messages between two arrive in the order in which they were sent.
pub trait Ranks: Debug + Sync {
    /// The number of this one, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn count(&self) -> usize;

    /// How a rank is named in a sentence.
    fn name(&self, rank: usize) -> String {
        format!("rank {rank}")
    }

    /// Sends to some ranks and receives from some, all at once; whoever is named receives as many bytes as it was sent. A rank may be
    /// named more than once. One thread calls it at a time, whichever.
    ///
    /// # Errors
    /// A rank that is lost.
    fn exchange(&self, send: &[(usize, &[u8])], receive: &mut [(usize, &mut [u8])]) -> Result<(), TrainError>;
}

/// One process that trains alone.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        1
    }

    fn exchange(&self, send: &[(usize, &[u8])], receive: &mut [(usize, &mut [u8])]) -> Result<(), TrainError> {
        debug_assert!(send.is_empty() && receive.is_empty(), "there is nobody else");
        Ok(())
    }
}

/// Everybody's bytes, by rank: this one's are `own`.
pub(crate) fn gather(ranks: &dyn Ranks, own: &[u8]) -> Result<Vec<Vec<u8>>, TrainError> {
    let length = (own.len() as u64).to_le_bytes();
    let mut lengths = vec![length; ranks.count()];
    to_all(ranks, &length, lengths.iter_mut().map(|length| &mut length[..]))?;
    let mut all: Vec<Vec<u8>> =
        lengths.into_iter().map(|length| vec![0; u64::from_le_bytes(length) as usize]).collect();
    all[ranks.rank()].copy_from_slice(own);
    to_all(ranks, own, all.iter_mut().map(|bytes| &mut bytes[..]))?;
    Ok(all)
}

/// Sends the same bytes to all others and receives theirs into `all`, of which this rank's own stay as they are.
pub(crate) fn to_all<'a>(
    ranks: &dyn Ranks,
    own: &[u8],
    all: impl Iterator<Item = &'a mut [u8]>,
) -> Result<(), TrainError> {
    let others = |rank: &usize| *rank != ranks.rank();
    let send: Vec<(usize, &[u8])> = (0..ranks.count()).filter(others).map(|rank| (rank, own)).collect();
    let mut receive: Vec<(usize, &mut [u8])> = all.enumerate().filter(|(rank, _)| others(rank)).collect();
    ranks.exchange(&send, &mut receive)
}

/// Rank 0's bytes, at every rank. Down a tree, so that no rank sends to more than log₂ of all.
pub(crate) fn tell(ranks: &dyn Ranks, bytes: &mut [u8]) -> Result<(), TrainError> {
    let (rank, count) = (ranks.rank(), ranks.count());
    // Rank r has them from r without its highest bit, and gives them to r with a higher one.
    let highest = (usize::BITS - rank.leading_zeros()) as usize;
    if rank > 0 {
        ranks.exchange(&[], &mut [(rank - (1 << (highest - 1)), &mut *bytes)])?;
    }
    let below = (highest..usize::BITS as usize).map(|bit| rank + (1 << bit)).take_while(|below| *below < count);
    let send: Vec<(usize, &[u8])> = below.map(|below| (below, &*bytes)).collect();
    ranks.exchange(&send, &mut [])
}
