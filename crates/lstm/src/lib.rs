//! LSTM networks from the gates up.
#![deny(unsafe_code)]

pub mod rng;
pub mod text;
