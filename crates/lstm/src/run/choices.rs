//! Choices that bring others with them, whoever makes them.

use super::config::RunConfig;
use crate::nn::config::Wiring;
use crate::optim::averaging::Averaging;
use crate::optim::schedule::{ScheduleKind, Warmup};
use crate::run::preset::Preset;
use crate::text::batch::Batching;
use crate::text::documents::LineEnds;
use crate::text::tokenizer::TokenizerKind;

/// How long a run is to be: the first bound that is reached ends it. What is not given stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Length {
    /// The most epochs.
    pub epochs: Option<usize>,
    /// The most training steps.
    pub steps: Option<u64>,
    /// The most seconds.
    pub budget: Option<f64>,
    /// Epochs without a better validation after which to stop; 0 for any number.
    pub patience: Option<usize>,
}

impl RunConfig {
    /// Sets how long the run is. A preset's epochs are no bound beside steps or a time: its schedule is then stretched.
    pub fn set_length(&mut self, length: Length) {
        let Length { epochs, steps, budget, patience } = length;
        if steps.is_some() || budget.is_some() {
            self.schedule.planned_epochs = self.schedule.planned_epochs.or(self.epochs);
            self.epochs = None;
        }
        self.epochs = epochs.or(self.epochs);
        (self.steps, self.budget) = (steps, budget);
        if let Some(patience) = patience {
            self.patience = (patience > 0).then_some(patience);
        }
    }

    /// Sets what a token is, and how lines end: to bytes every byte is a token.
    pub fn set_tokenizer(&mut self, kind: TokenizerKind) {
        self.tokenizer = kind;
        self.data.line_ends = if kind == TokenizerKind::Bytes { LineEnds::Keep } else { LineEnds::Lf };
    }

    /// Sets how texts are cut into batches. Segments of varying length are those of a stream.
    pub fn set_batching(&mut self, batching: Batching) {
        self.batching = batching;
        self.variable_segment &= batching == Batching::Stream;
    }

    /// Sets the average of the weights. Beside one that waits for the validation the learning rate is constant.
    pub fn set_average(&mut self, average: Averaging) {
        self.average = average;
        if average.watches_validation() {
            self.schedule.kind = ScheduleKind::Constant;
        }
    }

    /// Sets how the learning rate changes. One cycle rises by itself, so a warm-up gives way to it.
    pub fn set_schedule(&mut self, kind: ScheduleKind) {
        self.schedule.kind = kind;
        if kind == ScheduleKind::OneCycle {
            self.schedule.warmup = Warmup::default();
        }
    }

    /// Sets the number of layers of a run of `preset`. Those of the report are joined by their scores.
    pub fn set_layers(&mut self, layers: usize, preset: Preset) {
        self.model.layers = layers;
        if preset == Preset::TextLstm && layers > 1 {
            self.model.wiring = Wiring::Scores;
        }
    }
}
