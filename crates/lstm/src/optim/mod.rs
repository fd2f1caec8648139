//! How a gradient changes the parameters: the optimizers, the learning rate over a run, averages of the parameters.

pub mod averaging;
pub mod decay;
pub mod muon;
pub mod optimizer;
pub mod parts;
pub mod schedule;
