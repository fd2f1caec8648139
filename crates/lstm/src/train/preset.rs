//! Training: preset.
