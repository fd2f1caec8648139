//! Dynamic evaluation (Krause, Kahembwe, Murray & Renals 2018): the model goes on learning from the text it is measured
//! on. Each segment is scored first and learned from after that, so no token is predicted by what has seen it.

use lstm_kernels::{AdaptStep, Aligned, adapt, for_each_chunk};

use super::settings::DynamicSettings;
use crate::model::penalty::Penalties;
use crate::model::{LanguageModel, LanguageModelConfig, LanguageTape, Loss, Predicted, TokenStream};
use crate::nn::gradients::Gradients;
use crate::nn::params::Params;
use crate::nn::state::State;
use crate::run::saved::LoadedRun;
use crate::text::TextError;
use crate::text::batch::{Batch, Batches, Batching, NO_TARGET};
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

    /// A checksum, to tell the scale of one text from that of another.
    pub(crate) fn checksum(&self) -> u32 {
        crc32fast::hash(bytemuck::cast_slice(&self.rms))
    }
}

/// The values of a task in a pass over parameters.
const CHUNK: usize = 1 << 15;

/// The same model with nothing added to the loss: adaptation follows the text alone.
fn unpenalised(model: &LanguageModel) -> LanguageModel {
    let config = LanguageModelConfig { penalties: Penalties::default(), ..model.config().clone() };
    LanguageModel::new(config).unwrap_or_else(|_| model.clone())
}

/// A model that learns from segments that it has scored.
#[derive(Debug)]
pub(crate) struct Learner<'a> {
    model: LanguageModel,
    trained: &'a Params,
    params: Params,
    scale: &'a GradientScale,
    settings: DynamicSettings,
    state: State,
    tape: LanguageTape,
    gradients: Gradients,
}

impl<'a> Learner<'a> {
    /// Before the first segment of `rows` rows.
    pub(crate) fn new(
        model: &LanguageModel,
        trained: &'a Params,
        scale: &'a GradientScale,
        settings: DynamicSettings,
        rows: usize,
    ) -> Self {
        let model = unpenalised(model);
        Self {
            trained,
            params: trained.clone(),
            scale,
            settings,
            state: model.state(rows),
            tape: model.tape(),
            gradients: model.gradients(),
            model,
        }
    }

    /// Scores a segment and finds its gradient.
    pub(crate) fn score(&mut self, batch: &Batch) -> Loss {
        let Self { model, params, state, tape, gradients, .. } = self;
        model.train_step(params, batch, state, None, tape, gradients)
    }

    /// One token at a time through the model as it is by now.
    pub(crate) fn stream(&self) -> TokenStream<'static> {
        self.model.lasting_stream(&self.params).expect("a model that ran token by token before")
    }

    /// The step after a segment with this loss.
    pub(crate) fn learn(&mut self, loss: Loss) {
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
}

/// A pass over a text by a model that learns from it, segment by segment.
///
/// A segment is n tokens of a stream, at most n of a line, or n windows; with columns it is one of each, side by side. After it,
/// `p += min(λ √MS / mean √MS, 1) (p_trained - p) - η g / (√MS + ε)` with g the gradient of its mean loss and ε the mean
/// √MS; a shorter one counts by its share of n, and one of several columns as many times.
#[derive(Debug)]
pub(crate) struct Dynamic<'a> {
    learner: Learner<'a>,
    batches: Batches<'a>,
    next: usize,
    batch: Batch,
    /// What was scored since the last call, by columns; of windows, which come in order, there is one.
    scored: Vec<Scored>,
}

/// Predictions of a column.
#[derive(Clone, Debug, Default)]
struct Scored {
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
        let is_windows = matches!(batching, Batching::Windows(_));
        let rows = if is_windows { segment.saturating_mul(settings.columns) } else { settings.columns };
        let batches = Batches::evaluation(corpus, &run.tokenizer, batching, rows, segment)?;
        let rows = batches.rows();
        Ok(Self {
            learner: Learner::new(&run.model, &run.params, scale, settings, rows),
            next: 0,
            batch: Batch::default(),
            scored: vec![Scored::default(); if is_windows { 1 } else { rows }],
            batches,
        })
    }

    /// Scores the next segments, each before it is learned from; false when there are none.
    pub(crate) fn advance(&mut self) -> bool {
        for Scored { outputs, targets, nll } in &mut self.scored {
            outputs.clear();
            targets.clear();
            nll.clear();
        }
        let mut tokens = 0;
        while tokens < BLOCK && self.next < self.batches.len() {
            self.batches.get(self.next, &mut self.batch);
            self.next += 1;
            let loss = self.learner.score(&self.batch);
            tokens += loss.tokens;
            self.take();
            if self.next < self.batches.len() {
                self.learner.learn(loss);
            }
        }
        tokens > 0
    }

    /// Takes the predictions of the last segment, each into its column.
    fn take(&mut self) {
        let Predicted { outputs, targets, nll } = self.learner.tape.predicted();
        let width = outputs.len() / targets.len().max(1);
        let columns = self.scored.len();
        let positions = self.batch.targets.iter().enumerate().filter(|(_, target)| **target != NO_TARGET);
        for (at, (position, _)) in positions.enumerate() {
            let scored = &mut self.scored[position % self.batch.batch % columns];
            scored.outputs.extend_from_slice(&outputs[at * width..(at + 1) * width]);
            scored.targets.push(targets[at]);
            scored.nll.push(nll[at]);
        }
    }

    /// The number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.scored.len()
    }

    /// The predictions of the last call in a column.
    pub(crate) fn scored(&self, column: usize) -> Predicted<'_> {
        let Scored { outputs, targets, nll } = &self.scored[column];
        Predicted { outputs, targets, nll }
    }

    /// The tokens that the whole pass predicts.
    pub(crate) fn tokens(&self) -> usize {
        self.batches.predicted()
    }
}
