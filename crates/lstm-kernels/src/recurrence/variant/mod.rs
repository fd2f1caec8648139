//! The recurrence of cells that differ from the plain one: peepholes, coupled gates, layer normalisation, zoneout,
//! a mogrifier.
//!
//! Every step is the product of its hidden states with weights that were packed once, and a pass over its rows for gates and
//! cells. On the way back the same in the other order.

mod backward;
mod forward;
mod loops;
mod mogrifier;
#[cfg(test)]
mod tests;
mod zoneout;

pub(crate) use forward::{CellRow, NormRow, cell_row};
pub(crate) use loops::{VariantTape, backward, forward};
pub(crate) use mogrifier::Gate;
pub(crate) use zoneout::{Blend, Zoneout};
