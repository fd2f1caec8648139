//! Adaptation at evaluation: a trained model that follows the text it is measured on, by what it has read of it so far.
//!
//! | file | what it does |
//! |---|---|
//! | `cache.rs` | the continuous cache (Grave 2017): what followed where the output was like it is now |
//! | `dynamic.rs` | dynamic evaluation (Krause 2018): it goes on learning, segment by segment |
//! | `settings.rs` | their settings, and `adaptation.toml`, which keeps what was tuned |
//! | `tune.rs` | tunes them on a validation text |
//!
//! Every token is predicted from what came before it, so the perplexities are those of a language model like any other.
//! The text is read in its order, in whatever way the run cuts it: a stream is one row; lines go one at a time, and
//! windows too, each from a zero state, while the cache and what was learned are carried over all of them.

mod cache;
pub mod dynamic;
pub mod settings;
pub mod tune;

use cache::{Cache, mixed};
use dynamic::{Dynamic, GradientScale};
use settings::{CacheSettings, DynamicSettings};

use crate::evaluate::Evaluation;
use crate::model::{Loss, Predicted};
use crate::run::saved::LoadedRun;
use crate::text::TextError;
use crate::text::batch::Batching;
use crate::text::corpus::Corpus;

/// A scorer of a text block by block: the model as it was trained, or one that goes on learning.
enum Scorer<'a> {
    Frozen(Box<Evaluation<'a>>),
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
        let LoadedRun { config, tokenizer, model, params, .. } = run;
        let evaluation = match config.batching {
            // Side by side they come in order too, for each predicts one token.
            Batching::Windows(_) => {
                Evaluation::new(model, params, tokenizer, corpus, config.batching, config.training.batch)
            }
            _ => Evaluation::in_order(model, params, tokenizer, corpus, config.batching),
        };
        Ok(Self::Frozen(Box::new(evaluation?)))
    }

    /// Scores the next block; false when there is none.
    fn advance(&mut self) -> bool {
        match self {
            Self::Frozen(evaluation) => evaluation.advance(),
            Self::Dynamic(dynamic) => dynamic.advance(),
        }
    }

    /// The predictions of the last block, in the order of the text.
    fn scored(&self) -> Predicted<'_> {
        match self {
            Self::Frozen(evaluation) => evaluation.scored(),
            Self::Dynamic(dynamic) => dynamic.scored(),
        }
    }

    fn tokens(&self) -> usize {
        match self {
            Self::Frozen(evaluation) => evaluation.tokens(),
            Self::Dynamic(dynamic) => dynamic.tokens(),
        }
    }
}

/// A pass over a whole text by a model that adapts to it: every token is predicted once.
pub struct Adapted<'a> {
    scorer: Scorer<'a>,
    cache: Option<(Cache, f32)>,
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
        let cache = cache.map(|cache| {
            let (width, vocabulary) = (run.model.output_size(), run.model.config().vocabulary);
            (Cache::new(width, vocabulary, &[cache.theta], &[cache.window]), cache.weight)
        });
        Ok(Self { scorer, cache, shares: Vec::new(), total: Loss::default() })
    }

    /// Goes on for some hundred tokens; false when there are none left.
    pub fn advance(&mut self) -> bool {
        if !self.scorer.advance() {
            return false;
        }
        let predicted = self.scorer.scored();
        let tokens = predicted.targets.len();
        let nll = match &mut self.cache {
            None => predicted.nll.iter().map(|&nll| f64::from(nll)).sum(),
            Some((cache, weight)) => {
                cache.read(predicted, &mut self.shares);
                let pairs = predicted.nll.iter().zip(&self.shares);
                pairs.map(|(&nll, &share)| mixed(nll, share, *weight)).sum()
            }
        };
        self.total.add(Loss { nll, tokens });
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
