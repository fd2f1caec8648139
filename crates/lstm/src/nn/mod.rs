//! The LSTM as a network: its configuration, its parameters and states, one layer over a segment, any number of layers.

pub mod config;
pub mod dropout;
pub mod gradients;
mod layer;
pub mod linear;
pub mod lookup;
pub mod params;
pub mod precision;
mod recurrent;
pub mod segment;
pub mod stack;
pub mod state;
pub mod stream;
mod wiring;
