//! A model that goes on learning from a text while it tells it.

use crate::adapt::dynamic::{GradientScale, Learner};
use crate::adapt::settings::DynamicSettings;
use crate::model::{LanguageModel, TokenStream};
use crate::nn::params::Params;
use crate::text::batch::Batch;

/// The tokens of a segment so far, and the model that will learn from them.
pub(super) struct Learning<'a> {
    learner: Learner<'a>,
    segment: usize,
    batch: Batch,
}

impl<'a> Learning<'a> {
    pub(super) fn new(
        model: &LanguageModel,
        params: &'a Params,
        scale: &'a GradientScale,
        settings: DynamicSettings,
    ) -> Self {
        let batch = Batch { batch: 1, fresh: true, ..Batch::default() };
        Self { learner: Learner::new(model, params, scale, settings, 1), segment: settings.segment, batch }
    }

    /// Notes that `target` came after `read`; after a segment gives the stream of the model that has learned from it, which goes on
    /// from where `stream` is.
    pub(super) fn note(&mut self, read: u32, target: u32, stream: &TokenStream) -> Option<TokenStream<'static>> {
        self.batch.tokens.push(read);
        self.batch.targets.push(target);
        (self.batch.tokens.len() == self.segment).then(|| self.learn(stream))
    }

    /// Ends a line, which the next one knows nothing of but what was learned from it.
    pub(super) fn end_line(&mut self, stream: &TokenStream) -> Option<TokenStream<'static>> {
        let changed = (!self.batch.tokens.is_empty()).then(|| self.learn(stream));
        self.batch.fresh = true;
        changed
    }

    fn learn(&mut self, stream: &TokenStream) -> TokenStream<'static> {
        self.batch.steps = self.batch.tokens.len();
        let loss = self.learner.score(&self.batch);
        self.learner.learn(loss);
        self.batch.tokens.clear();
        self.batch.targets.clear();
        self.batch.fresh = false;
        let mut changed = self.learner.stream();
        changed.streams_mut().copy_state(0, stream.streams(), 0);
        changed
    }
}
