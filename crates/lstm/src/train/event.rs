//! Training: event.
