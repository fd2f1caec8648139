//! How surprising a text was.

use serde::{Deserialize, Serialize};

/// The summed negative log-likelihood of some predicted tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Total, in nats.
    pub nll: f64,
    /// The number of predicted tokens.
    pub tokens: usize,
}

impl Loss {
    /// Nats per token.
    pub fn mean(&self) -> f64 {
        self.nll / self.tokens.max(1) as f64
    }

    /// exp of the mean.
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// Adds another part of the same total.
    pub fn add(&mut self, other: Loss) {
        self.nll += other.nll;
        self.tokens += other.tokens;
    }
}
