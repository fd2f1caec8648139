//! Passes over rows, columns and flat buffers: activations, normalisation, losses, sums, optimizer steps.

pub(crate) mod activation;
pub(crate) mod mixture;
pub(crate) mod normalise;
pub(crate) mod optimizer;
pub(crate) mod reduce;
pub(crate) mod softmax;
