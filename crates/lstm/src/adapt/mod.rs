//! Adaptation at evaluation: a trained model that follows the text it is measured on, by what it has read of it so far.
//!
//! | file | what it does |
//! |---|---|
//! | `cache.rs` | the continuous cache (Grave 2017): what followed where the output was like it is now |
//! | `frozen.rs` | what a cache looks back at: the trained model's outputs, read in columns and handed on in order |
//! | `dynamic.rs` | dynamic evaluation (Krause 2018): it goes on learning, segment by segment |
//! | `settings.rs` | their settings, and `adaptation.toml`, which keeps what was tuned |
//! | `tune.rs` | tunes them on a validation text |
//!
//! Every token is predicted from what came before it, so the perplexities are those of a language model like any other.
//! The text is read in its order, in whatever way the run cuts it: a stream from its first token to its last; lines go one at a time, and
//! windows too, each from a zero state, while the cache and what was learned are carried over all of them. Dynamic evaluation in
//! several columns reads as many parts of a text side by side, each with a cache of its own, and learns from the next segment of
//! all of them at once: a token is then predicted from what came before it in its column, and from what was learned of the others
//! until then, never from what is read with it or after it.

mod cache;
pub mod dynamic;
mod frozen;
pub mod settings;
pub mod tune;

use cache::{Cache, mixed};
use dynamic::{Dynamic, GradientScale};
use frozen::Frozen;
use settings::{CacheSettings, DynamicSettings};

use crate::model::{Loss, Predicted};
use crate::run::saved::LoadedRun;
use crate::text::TextError;
use crate::text::corpus::Corpus;

/// A scorer of a text block by block: the model as it was trained, or one that goes on learning.
enum Scorer<'a> {
    Frozen(Box<Frozen<'a>>),
    Dynamic(Box<Dynamic<'a>>),
}

impl<'a> Scorer<'a> {
    fn new(
        run: &'a LoadedRun,
        corpus: &'a Corpus,
        dynamic: Option<(&'a GradientScale, DynamicSettings)>,
    ) -> Result<Self, TextError> {
        if let Some((scale, settings)) = dynamic {
            return Ok(Self::Dynamic(Box::new(Dynamic::new(run, corpus, scale, settings)?)));
        }
        Ok(Self::Frozen(Box::new(Frozen::new(run, corpus)?)))
    }

    /// Scores the next block; false when there is none.
    fn advance(&mut self) -> bool {
        match self {
            Self::Frozen(frozen) => frozen.advance(),
            Self::Dynamic(dynamic) => dynamic.advance(),
        }
    }

    /// The parts of the text that are read side by side.
    fn columns(&self) -> usize {
        match self {
            Self::Frozen(_) => 1,
            Self::Dynamic(dynamic) => dynamic.columns(),
        }
    }

    /// The predictions of the last block in a column, in the order of the text.
    fn scored(&self, column: usize) -> Predicted<'_> {
        match self {
            Self::Frozen(frozen) => frozen.scored(),
            Self::Dynamic(dynamic) => dynamic.scored(column),
        }
    }

    fn tokens(&self) -> usize {
        match self {
            Self::Frozen(frozen) => frozen.tokens(),
            Self::Dynamic(dynamic) => dynamic.tokens(),
        }
    }
}

/// A pass over a whole text by a model that adapts to it: every token is predicted once.
pub struct Adapted<'a> {
    scorer: Scorer<'a>,
    /// One of every column, and their weight.
    caches: Option<(Vec<Cache>, f32)>,
    shares: Vec<f32>,
    total: Loss,
}

impl<'a> Adapted<'a> {
    /// Before the first token, with a cache, dynamic evaluation, both, or neither.
    ///
    /// # Errors
    /// A text without anything to predict.
    pub fn new(
        run: &'a LoadedRun,
        corpus: &'a Corpus,
        cache: Option<CacheSettings>,
        dynamic: Option<(&'a GradientScale, DynamicSettings)>,
    ) -> Result<Self, TextError> {
        let scorer = Scorer::new(run, corpus, dynamic)?;
        let caches = cache.map(|cache| {
            let (width, vocabulary) = (run.model.output_size(), run.model.config().vocabulary);
            let one = Cache::new(width, vocabulary, &[cache.theta], &[cache.window]);
            (vec![one; scorer.columns()], cache.weight)
        });
        Ok(Self { scorer, caches, shares: Vec::new(), total: Loss::default() })
    }

    /// Goes on for some hundred tokens; false when there are none left.
    pub fn advance(&mut self) -> bool {
        if !self.scorer.advance() {
            return false;
        }
        for column in 0..self.scorer.columns() {
            let predicted = self.scorer.scored(column);
            let nll = match &mut self.caches {
                None => predicted.nll.iter().map(|&nll| f64::from(nll)).sum(),
                Some((caches, weight)) => {
                    caches[column].read(predicted, &mut self.shares);
                    let pairs = predicted.nll.iter().zip(&self.shares);
                    pairs.map(|(&nll, &share)| mixed(nll, share, *weight)).sum()
                }
            };
            self.total.add(Loss { nll, tokens: predicted.targets.len() });
        }
        true
    }

    /// The loss so far. It is not a number where dynamic evaluation learned too fast.
    pub fn total(&self) -> Loss {
        self.total
    }

    /// The tokens that the whole pass predicts.
    pub fn tokens(&self) -> usize {
        self.scorer.tokens()
    }

    /// Goes through what is left of the text.
    pub fn finish(mut self) -> Loss {
        while self.advance() {}
        self.total
    }
}

#[cfg(test)]
mod tests;
