//! The test perplexity that a run is expected to reach: said before it is trained, kept in its checkpoints, compared at its end.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::folder::RunFolder;

/// What of a run the expectation is made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// The nats a token of the test text by a model that counted a little of the training text.
    pub counted: f64,
    /// The tokens that are to be read.
    pub tokens: f64,
    /// The units of a layer.
    pub width: usize,
    /// The layers.
    pub layers: usize,
    /// Whether tokens are letters, rather than words, parts of words, or characters of a script that has as many.
    pub letters: bool,
    /// Whether letters are learned by Adam.
    pub adam: bool,
    /// Whether the embedding starts from the company that words keep.
    #[serde(default)]
    pub vectors: bool,
}

/// The test perplexity that a run is expected to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// That which as many runs end above as below.
    pub perplexity: f64,
    /// Four of five runs end between this
    pub low: f64,
    /// and this.
    pub high: f64,
    /// What it is made of.
    pub known: Known,
}

/// Where a result lies, of an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// It is lower than the band.
    Below,
    /// It is within the band.
    Within,
    /// It is higher than the band.
    Above,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Below => "below",
            Self::Within => "within",
            Self::Above => "above",
        })
    }
}

impl Expectation {
    /// What was expected of the run in a folder, and the tokens that it has learned from, as its latest checkpoint notes; `None` where
    /// nothing was.
    pub fn of_run(folder: &RunFolder) -> Option<(Self, u64)> {
        let position = Checkpoint::position(&folder.checkpoint()).ok()?;
        Some((position.expected?, position.tokens))
    }

    /// Where a test perplexity lies.
    pub fn place(&self, perplexity: f64) -> Place {
        match perplexity {
            reached if reached < self.low => Place::Below,
            reached if reached > self.high => Place::Above,
            _ => Place::Within,
        }
    }

    /// How many times the tokens that it was made for `trained` are, where that is so far off that it says why a run reached more or less.
    pub fn other_length(&self, trained: u64) -> Option<f64> {
        let times = trained as f64 / self.known.tokens;
        (!(1.0 / OTHER_LENGTH..=OTHER_LENGTH).contains(&times)).then_some(times)
    }
}

/// How many times as many tokens make another run of it.
const OTHER_LENGTH: f64 = 1.3;
