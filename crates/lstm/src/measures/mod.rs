//! What models are measured by, and the baselines beside them.

pub mod bag_of_words;
pub mod classes;
pub mod entities;
pub(crate) mod logistic;
pub mod neighbour;
pub mod numbers;
pub mod ridge;
pub mod statistics;
