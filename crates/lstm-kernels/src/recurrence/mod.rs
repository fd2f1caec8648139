//! The recurrent loop over a segment, forward and backward, as one call that a team of threads stays in.
//!
//! A step is a small product followed by the gates' non-linearities. Its weights are packed once a segment: for the
//! forward loop in blocks of units, `[block][k][gate][unit]`, so that the four gates of a block are computed together
//! and activated while they are in the first-level cache. Members of the team own rows, units, or both, see
//! [`Grid`](crate::gemm::streamed::Grid): rows never meet, so members that share none run without waiting; members that
//! share rows meet once a step.

mod backward;
mod cells;
mod forward;
mod packed;
mod segment;
pub(crate) mod step;
#[cfg(test)]
mod tests;
mod units;
pub(crate) mod variant;

pub use backward::BackwardBuffers;
pub use packed::{PackedRecurrence, RecurrentWeights};
pub use segment::Recurrence;
