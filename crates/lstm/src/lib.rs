//! LSTM networks from the gates up.
#![deny(unsafe_code)]

pub mod cell;
pub mod config;
pub mod dropout;
pub mod evaluate;
pub mod formats;
pub mod generate;
mod layer;
pub mod model;
pub mod params;
pub mod rng;
pub mod stack;
pub mod state;
pub mod text;
pub mod train;
