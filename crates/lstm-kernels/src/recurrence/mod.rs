//! The recurrence of one direction of one layer over a segment, forward and backward, whichever cell it has; and one step of
//! a whole network.
//!
//! | file | what it has |
//! |---|---|
//! | `cell.rs` | which cell, with the parameters that only it has |
//! | `segment.rs` | a segment: its steps in their order, masked rows, cuts of the gradient |
//! | `tape.rs` | the arrays that every cell leaves for the way back |
//! | `passes.rs` | both passes: the one entry for every cell |
//! | `plain/` | the loop of the plain cell, one call that a team of threads stays in |
//! | `variant/` | the loop of cells that differ from it, and its steps |
//! | `step/` | one step of a network, planned once |

mod cell;
mod passes;
mod plain;
mod segment;
mod step;
mod tape;
mod variant;

pub use cell::{Cell, CellMogrifier, CellNorm, CellParameter, ZoneoutRates};
pub use passes::RecurrenceTape;
pub use segment::{Reaching, Recurrence, RecurrentWeights};
pub use step::{CellWeights, Columns, StepPlan};
pub use tape::Sequence;
