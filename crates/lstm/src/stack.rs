//! Any number of layers.
