//! One step of a whole network: its weights packed once, its values in one workspace, its layers run one after the other
//! by a team that meets between them. A step allocates nothing.

mod phase;
mod plan;
mod run;

pub use phase::Columns;
pub use plan::{CellWeights, StepPlan};
