//! The time, the machine and the text that a run is chosen for.

use crate::nn::precision::Precision;

/// The time, the speed and the text that a run has to work with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// The seconds for training, validation and test.
    pub seconds: f64,
    /// Multiply-adds of a training step a second.
    pub rate: f64,
    /// The precision of its products at that rate.
    pub precision: Precision,
    /// Bytes read from memory a second.
    pub bandwidth: f64,
    /// The ranks that share every step, each as fast.
    pub ranks: usize,
    /// The seconds that a value of the gradient takes to be added up between them.
    pub travel: f64,
    /// The tokens of the training text.
    pub tokens: f64,
    /// How much longer a token takes in training than in an evaluation, which goes forward only.
    pub evaluation: f64,
    /// The tokens to validate on and to test with.
    pub evaluated: f64,
    /// The lines of the training text.
    pub lines: f64,
    /// V.
    pub vocabulary: usize,
    /// Whether tokens are words, parts of words, or characters of a script that has as many kinds, rather than letters.
    pub words: bool,
}

/// How much longer a token takes in training in f32 than in an evaluation, where it was not measured: 2.8 times with two layers
/// of 512, less where rows are few.
pub(super) const TRAINING_PER_EVALUATION: f64 = 2.5;
