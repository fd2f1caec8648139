//! Training: run.
