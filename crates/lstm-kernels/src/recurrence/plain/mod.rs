//! The loop of the plain cell, fused down to the register tile. Nothing that other cells need is in it.
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
#[cfg(test)]
mod tests;
mod units;

pub(crate) use backward::backward;
pub(crate) use cells::{Cells, ROWS, Scratch};
pub(crate) use forward::forward;
pub(crate) use packed::{PackedRecurrence, pack_blocks};
pub(crate) use units::own_blocks;
