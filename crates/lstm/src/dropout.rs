//! Dropout masks.
