//! Dynamic evaluation (Krause, Kahembwe, Murray & Renals 2018): the model goes on learning from the text it is measured
//! on. Each segment is scored first and learned from after that, so no token is predicted by what has seen it.

use lstm_kernels::{AdaptStep, Aligned, adapt, for_each_chunk};

use super::settings::DynamicSettings;
use crate::model::penalty::Penalties;
use crate::model::{LanguageModel, LanguageModelConfig, LanguageTape, Loss, Predicted};
use crate::nn::gradients::Gradients;
use crate::nn::params::Params;
use crate::nn::state::State;
use crate::run::saved::LoadedRun;
use crate::text::TextError;
use crate::text::batch::{Batch, Batches, Batching};
use crate::text::corpus::Corpus;

/// The most training tokens whose gradients are looked at.
const STATISTICS: usize = 50_000;

/// The tokens that [`Dynamic::advance`] scores at least: a block is worth more to a cache than a segment.
const BLOCK: usize = 256;

/// √MS_g: the roots of the parameters' mean squared gradients on the training text.
#[derive(Clone, Debug)]
pub struct GradientScale {
    /// In the order of the parameters.
    rms: Aligned,
    /// Their mean.
    mean: f32,
}

impl GradientScale {
    /// Collects them over batches as the run was trained with, nothing dropped and nothing learned, until 50,000
    /// tokens; the columns of a stream begin all over the text, so these are from all of it. `watch` hears of tokens done
    /// and to do.
    ///
    /// # Errors
    /// A text too short for a batch.
    pub fn collect(run: &LoadedRun, text: &Corpus, watch: &mut dyn FnMut(usize, usize)) -> Result<Self, TextError> {
        let config = &run.config;
        let (batching, rows, segment) = (config.batching, config.training.batch, config.segment);
        let batches = Batches::training(text, &run.tokenizer, batching, rows, segment, config.training.seed, 0)?;
        let model = unpenalised(&run.model);
        let of = batches.predicted().min(STATISTICS);
        let (mut batch, mut state, mut tape) = (Batch::default(), model.state(rows), model.tape());
        let (mut gradients, mut squares) = (model.gradients(), Aligned::zeros(model.layout().len()));
        let (mut tokens, mut number) = (0, 0);
        while tokens < STATISTICS && number < batches.len() {
            batches.get(number, &mut batch);
            let loss = model.train_step(&run.params, &batch, &mut state, None, &mut tape, &mut gradients);
            let values = gradients.values();
            for_each_chunk(&mut squares, CHUNK, |index, squares| {
                let values = &values[index * CHUNK..][..squares.len()];
                squares.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * value);
            });
            (tokens, number) = (tokens + loss.tokens, number + 1);
            watch(tokens.min(of), of);
        }
        let mut rms = squares;
        rms.iter_mut().for_each(|value| *value = (*value / number as f32).sqrt());
        let mean = rms.iter().map(|&value| f64::from(value)).sum::<f64>() / rms.len() as f64;
        Ok(Self { rms, mean: mean as f32 })
    }
}

/// The values of a task in a pass over parameters.
const CHUNK: usize = 1 << 15;

/// The same model with nothing added to the loss: adaptation follows the text alone.
fn unpenalised(model: &LanguageModel) -> LanguageModel {
    let config = LanguageModelConfig { penalties: Penalties::default(), ..model.config().clone() };
    LanguageModel::new(config).unwrap_or_else(|_| model.clone())
}

/// A pass over a text by a model that learns from it, segment by segment.
///
/// A segment is n tokens of a stream, at most n of a line, or n windows. After it,
/// `p += min(λ √MS / mean √MS, 1) (p_trained - p) - η g / (√MS + ε)` with g the gradient of its mean loss and ε the mean
/// √MS; a shorter one counts by its share of n.
#[derive(Debug)]
pub(crate) struct Dynamic<'a> {
    model: LanguageModel,
    trained: &'a Params,
    params: Params,
    scale: &'a GradientScale,
    settings: DynamicSettings,
    batches: Batches<'a>,
    next: usize,
    state: State,
    tape: LanguageTape,
    batch: Batch,
    gradients: Gradients,
    // What was scored since the last call.
    outputs: Vec<f32>,
    targets: Vec<u32>,
    nll: Vec<f32>,
}

impl<'a> Dynamic<'a> {
    /// Before the first segment.
    ///
    /// # Errors
    /// A text without anything to predict.
    pub(crate) fn new(
        run: &'a LoadedRun,
        corpus: &'a Corpus,
        scale: &'a GradientScale,
        settings: DynamicSettings,
    ) -> Result<Self, TextError> {
        let (batching, segment) = (run.config.batching, settings.segment);
        let rows = if matches!(batching, Batching::Windows(_)) { segment } else { 1 };
        let batches = Batches::evaluation(corpus, &run.tokenizer, batching, rows, segment)?;
        let model = unpenalised(&run.model);
        Ok(Self {
            trained: &run.params,
            params: run.params.clone(),
            scale,
            settings,
            next: 0,
            state: model.state(rows),
            tape: model.tape(),
            batch: Batch::default(),
            gradients: model.gradients(),
            outputs: Vec::new(),
            targets: Vec::new(),
            nll: Vec::new(),
            batches,
            model,
        })
    }

    /// Scores the next segments, each before it is learned from; false when there are none.
    pub(crate) fn advance(&mut self) -> bool {
        self.outputs.clear();
        self.targets.clear();
        self.nll.clear();
        while self.targets.len() < BLOCK && self.next < self.batches.len() {
            self.batches.get(self.next, &mut self.batch);
            self.next += 1;
            let Self { model, params, batch, state, tape, gradients, .. } = self;
            let loss = model.train_step(params, batch, state, None, tape, gradients);
            let predicted = self.tape.predicted();
            self.outputs.extend_from_slice(predicted.outputs);
            self.targets.extend_from_slice(predicted.targets);
            self.nll.extend_from_slice(predicted.nll);
            if self.next < self.batches.len() {
                self.learn(loss);
            }
        }
        !self.targets.is_empty()
    }

    /// The step after a segment with this loss.
    fn learn(&mut self, loss: Loss) {
        let share = loss.tokens as f32 / self.settings.segment as f32;
        let settings = AdaptStep {
            rate: self.settings.rate * share,
            // The mean √MS, so that ε means the same in any model. Of a fifth of it, it, three and eight times it, at one
            // to four rates each, it gave the lowest perplexity on the Penn Treebank's validation text: 134.5, 130.3, 131.7
            // and 135.5. Never 0: gradients that all vanish teach nothing.
            epsilon: self.scale.mean.max(f32::MIN_POSITIVE),
            pull: self.settings.decay * share / self.scale.mean.max(f32::MIN_POSITIVE),
        };
        let values = self.params.values_mut();
        adapt(values, self.gradients.values(), &self.scale.rms, self.trained.values(), settings);
    }

    /// The predictions of the last call.
    pub(crate) fn scored(&self) -> Predicted<'_> {
        Predicted { outputs: &self.outputs, targets: &self.targets, nll: &self.nll }
    }

    /// The tokens that the whole pass predicts.
    pub(crate) fn tokens(&self) -> usize {
        self.batches.predicted()
    }
}
