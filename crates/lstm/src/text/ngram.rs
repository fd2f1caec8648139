//! The n-gram baseline.
