//! Training: optimizer.
