//! A language model: embedding → [`Lstm`] → readout → softmax cross-entropy, forward and backward.

#[cfg(test)]
mod gradients;
#[cfg(test)]
mod tests;
mod token_stream;

use std::sync::Arc;

use lstm_kernels::{
    Aligned, Matrix, MatrixMut, ScoreGradient, Start, cross_entropy, multiply, product, product_with_bias,
    smooth_targets,
};

use super::candidates::{Candidates, Drawn, Sampler};
use super::head::{Head, HeadTape};
use super::{LanguageModelConfig, LayerWiring, Loss};
use crate::free_memory::bytes_of;
use crate::model::penalty::{self, Penalties};
use crate::nn::config::{ConfigError, Init, InitScheme, LstmConfig, Wiring, at_least_one};
use crate::nn::dropout::{self, Dropout, DropoutKind, INPUT, Masks, OUTPUT, WORDS};
use crate::nn::gradients::Gradients;
use crate::nn::params::{Layout, Params, Slot, gather};
use crate::nn::segment::Segment;
use crate::nn::stack::{Lstm, Tape};
use crate::nn::state::State;
use crate::text::batch::{Batch, NO_TARGET};

pub use token_stream::TokenStream;

/// The most floats of a slab of scores (32 MiB): the loss goes through the rows slab by slab, so that a large vocabulary
/// needs no `T·B·V` floats. The readout's weight and gradient are read and written once a slab: a training step of 700
/// tokens over V = 33,278 with 2 layers of 200 takes 87 ms on 2 cores with this slab, 102 with half of it, 155 with an
/// eighth; with V = 10,000 this and half of it are the same.
const SLAB: usize = 1 << 23;

/// A language model. It holds no values: parameters, state and tape are the caller's.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    config: LanguageModelConfig,
    layout: Arc<Layout>,
    embedding: Slot,
    lstm: Lstm,
    head: Head,
    /// The size of what the readout scores.
    read_size: usize,
    /// The embedding's place in a tied model.
    readout: Slot,
    readout_bias: Slot,
}

/// What a pass leaves behind, sized at its first use and reused.
#[derive(Clone, Debug)]
pub struct LanguageTape {
    lstm: Tape,
    embedded: Aligned,
    embedded_mask: Vec<f32>,
    /// `[V]`: the mask of whole words.
    word_mask: Vec<f32>,
    /// Whether every position is predicted from the LSTM's output as it is.
    is_whole: bool,
    /// The positions that are predicted, and their outputs after dropout; unused if `is_whole`.
    rows: Vec<u32>,
    read: Aligned,
    targets: Vec<u32>,
    read_mask: Vec<f32>,
    d_read: Aligned,
    head: HeadTape,
    d_output: Aligned,
    scores: Aligned,
    nll: Vec<f32>,
    /// What a training step scores instead of the whole vocabulary.
    candidates: Option<Candidates>,
}

/// The predicted positions of a pass, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Predicted<'a> {
    /// What they were predicted from: the LSTM's outputs `[rows, output]`, after dropout.
    pub(crate) outputs: &'a [f32],
    /// What came: `[rows]`.
    pub(crate) targets: &'a [u32],
    /// How surprising that was: `[rows]`, in nats.
    pub(crate) nll: &'a [f32],
}

impl LanguageModel {
    /// A model of this shape.
    ///
    /// # Errors
    /// A setting that cannot be built.
    pub fn new(config: LanguageModelConfig) -> Result<Self, ConfigError> {
        at_least_one("vocabulary", config.vocabulary)?;
        at_least_one("embedding", config.embedding)?;
        config.dropout.validate()?;
        config.penalties.validate()?;
        at_least_one("softmaxes", config.softmaxes)?;
        if config.softmaxes > 1 && config.penalties.label_smoothing > 0.0 {
            return Err(ConfigError::Conflict(
                "label smoothing needs the probability of every token in every step, of which a mixture of softmaxes \
                 has only the target's; leave one of --softmaxes and --label-smoothing out"
                    .to_owned(),
            ));
        }
        let lstm_config = LstmConfig {
            layers: config.layers,
            projection: config.projection,
            wiring: match config.wiring {
                LayerWiring::Stacked => Wiring::Stacked,
                LayerWiring::Skip => Wiring::Skip,
                LayerWiring::Scores => Wiring::Scores { size: config.vocabulary },
            },
            readout: config.readout,
            horizon: config.horizon,
            residual: config.residual,
            variant: config.variant,
            ..LstmConfig::new(config.embedding, config.hidden.clone())
        };
        let mut layout = Layout::default();
        let embedding = layout.add("embedding.weight", &[config.vocabulary, config.embedding]);
        let lstm = Lstm::in_layout(lstm_config, "lstm.", &mut layout)?;
        let head = Head::new(&config, lstm.output_size(), &mut layout);
        let read_size = if let Head::Output = head { lstm.output_size() } else { config.embedding };
        let readout = match config.tied {
            true => embedding,
            false => layout.add("readout.weight", &[config.vocabulary, read_size]),
        };
        let readout_bias = layout.add("readout.bias", &[config.vocabulary]);
        Ok(Self { config, layout: Arc::new(layout), embedding, lstm, head, read_size, readout, readout_bias })
    }

    /// The shape.
    pub fn config(&self) -> &LanguageModelConfig {
        &self.config
    }

    /// The parameters' names, shapes and places.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Fresh parameters. The embedding is normal as `nn.Embedding`'s unless everything is `uniform(a)`; a tied one
    /// starts as a readout, whose scores would be far too large otherwise.
    pub fn initialise(&self, init: &Init, seed: u64) -> Params {
        let mut params = Params::zeros(self.layout.clone());
        self.lstm.initialise(&mut params, init, seed);
        let bound_of = |fan_in: usize| match init.scheme {
            InitScheme::Uniform(a) => a,
            InitScheme::Torch | InitScheme::OnesBias => 1.0 / (fan_in as f32).sqrt(),
        };
        let bound = bound_of(self.read_size);
        match init.scheme {
            InitScheme::Uniform(a) => params.fill_uniform(self.embedding, a, seed),
            InitScheme::Torch | InitScheme::OnesBias => params.fill_normal(self.embedding, seed),
        }
        self.head.initialise(&mut params, bound_of(self.lstm.output_size()), seed);
        params.fill_uniform(self.readout, bound, seed);
        match init.scheme {
            InitScheme::OnesBias => params.get_mut(self.readout_bias).fill(1.0),
            _ => params.fill_uniform(self.readout_bias, bound, seed),
        }
        params
    }

    /// The layers between the embedding and the readout; the layout of their parameters is the model's.
    pub fn lstm(&self) -> &Lstm {
        &self.lstm
    }

    /// The size of the LSTM's output, from which tokens are predicted.
    pub(crate) fn output_size(&self) -> usize {
        self.lstm.output_size()
    }

    /// Zero states for `batch` rows.
    pub fn state(&self, batch: usize) -> State {
        self.lstm.state(batch)
    }

    /// Gradients for [`Self::train_step`].
    pub fn gradients(&self) -> Gradients {
        Gradients::zeros(self.layout.clone(), self.embedding, self.config.embedding)
    }

    /// A tape for training.
    pub fn tape(&self) -> LanguageTape {
        LanguageTape::new(self.lstm.tape())
    }

    /// A tape for evaluation and generation: every call must bring the same parameters (see [`Lstm::frozen_tape`]).
    pub fn frozen_tape(&self) -> LanguageTape {
        LanguageTape::new(self.lstm.frozen_tape())
    }

    /// The bytes that a tape takes in training over batches of so many steps and rows, at most `usize::MAX`.
    pub(crate) fn bytes(&self, steps: usize, batch: usize) -> usize {
        let LanguageModelConfig { embedding, softmaxes, vocabulary, dropout, .. } = self.config;
        let output = self.lstm.output_size();
        let latent = if let Head::Output = self.head { 0 } else { softmaxes.saturating_mul(embedding) };
        let scores = bytes_of(&[[steps, batch, softmaxes.saturating_mul(vocabulary)]]);
        let slab = bytes_of(&[[1, 1, SLAB.max(softmaxes.saturating_mul(vocabulary))]]);
        // The embedded tokens; the outputs that are predicted from, and latent vectors, each with their gradients.
        let arrays = [[steps, batch, embedding], [steps, batch, output.saturating_mul(2)]];
        let vectors = [[steps, batch, latent.saturating_mul(2)], [steps, batch, softmaxes.saturating_mul(4)]];
        let drops_weights = dropout.weights > 0.0;
        [bytes_of(&arrays), bytes_of(&vectors), scores.min(slab), self.lstm.bytes(steps, batch, drops_weights)]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    /// Forward and backward over one batch. `gradients` receives the gradient of the mean nll of the predicted tokens,
    /// and of the model's [`Penalties`], in place of what it held; the loss that is returned is without them. The state
    /// is taken from the batch before (or zeroed, if the batch is fresh) and carried on. Without `masks` nothing is
    /// dropped.
    pub fn train_step(
        &self,
        params: &Params,
        batch: &Batch,
        state: &mut State,
        masks: Option<Masks>,
        tape: &mut LanguageTape,
        gradients: &mut Gradients,
    ) -> Loss {
        self.forward(params, batch, state, masks, tape);
        let mut candidates = tape.candidates.take();
        let sampled = candidates.as_mut().zip(masks).map(|(candidates, masks)| {
            candidates.draw(masks, &tape.head.targets, params, self.readout());
            candidates
        });
        let tokens = batch.tokens.iter().copied();
        match &sampled {
            Some(candidates) if self.config.tied => gradients.touch(tokens.chain(candidates.drawn.tokens())),
            // As a readout, every row of the table has a gradient.
            None if self.config.tied => gradients.touch_all(),
            _ => gradients.touch(tokens),
        }
        let gradients = gradients.params_mut();
        let loss = self.loss(params, tape, Some(gradients), sampled);
        tape.candidates = candidates;
        let (width, segment) = (self.lstm.output_size(), segment(batch));
        let read = outputs(tape.is_whole, &tape.lstm, &tape.read);
        self.head.backward(params, read, width, &mut tape.head, &mut tape.d_read, gradients);
        let Penalties { activation, temporal, .. } = self.config.penalties;
        if activation > 0.0 {
            penalty::activation(activation, read, &mut tape.d_read);
        }
        tape.drop_read(self.config.dropout.kind, batch.batch, Pass::Backward);
        let d_output = if tape.is_whole {
            &mut tape.d_read
        } else {
            tape.d_output.resize(batch.tokens.len() * width);
            tape.d_output.fill(0.0);
            for (&row, source) in tape.rows.iter().zip(tape.d_read.chunks_exact(width)) {
                tape.d_output[row as usize * width..][..width].copy_from_slice(source);
            }
            &mut tape.d_output
        };
        if temporal > 0.0 {
            penalty::temporal(temporal, segment, tape.lstm.output(), d_output);
        }
        let input = &tape.embedded;
        self.lstm.backward(params, input, segment, d_output, None, &mut tape.lstm, gradients, Start::Zero);
        let size = self.config.embedding;
        let d_embedding = gradients.get_mut(self.embedding);
        dropout::apply(tape.lstm.d_input_mut(), &tape.embedded_mask);
        drop_words(tape.lstm.d_input_mut(), &batch.tokens, &tape.word_mask);
        for (source, &token) in tape.lstm.d_input().chunks_exact(size).zip(&batch.tokens) {
            let target = &mut d_embedding[token as usize * size..][..size];
            target.iter_mut().zip(source).for_each(|(d, s)| *d += s);
        }
        loss
    }

    /// The loss of one batch, nothing learned. `surprisal` receives the nll of every predicted token in the order of
    /// the batch's positions, in nats.
    pub fn evaluate(
        &self,
        params: &Params,
        batch: &Batch,
        state: &mut State,
        tape: &mut LanguageTape,
        surprisal: Option<&mut Vec<f32>>,
    ) -> Loss {
        self.forward(params, batch, state, None, tape);
        let loss = self.loss(params, tape, None, None);
        if let Some(surprisal) = surprisal {
            surprisal.extend_from_slice(&tape.nll);
        }
        loss
    }

    fn embed(&self, params: &Params, tokens: &[u32], tape: &mut LanguageTape) {
        let (size, table) = (self.config.embedding, params.get(self.embedding));
        gather(table, tokens, size, &mut tape.embedded);
    }

    /// Embedding and LSTM, then the outputs of the positions that have a target, in order, and from them what is scored.
    fn forward(
        &self,
        params: &Params,
        batch: &Batch,
        state: &mut State,
        masks: Option<Masks>,
        tape: &mut LanguageTape,
    ) {
        match batch.fresh {
            // The last batch of windows or lines may have fewer rows.
            true if state.batch() != batch.batch => *state = self.state(batch.batch),
            true => state.reset(),
            false => {}
        }
        self.embed(params, &batch.tokens, tape);
        let rates = self.config.dropout;
        let dropout = |rate| masks.map(|masks| Dropout { kind: rates.kind, rate, weights: rates.weights, masks });
        tape.word_mask.clear();
        if let Some(masks) = masks.filter(|_| rates.embedding > 0.0) {
            masks.fill(WORDS, rates.embedding, &mut tape.word_mask, self.config.vocabulary);
            drop_words(&mut tape.embedded, &batch.tokens, &tape.word_mask);
        }
        tape.embedded_mask.clear();
        if let Some(dropout) = dropout(rates.input).filter(|_| rates.input > 0.0) {
            dropout.apply(INPUT, batch.steps, &mut tape.embedded, &mut tape.embedded_mask);
        }
        self.lstm.forward(params, &tape.embedded, segment(batch), state, dropout(rates.hidden), &mut tape.lstm);
        self.read(batch, dropout(rates.output).filter(|_| rates.output > 0.0), tape);
        let read = outputs(tape.is_whole, &tape.lstm, &tape.read);
        self.head.forward(params, read, self.lstm.output_size(), &tape.targets, &mut tape.head);
    }

    /// The outputs of the positions that have a target into `tape.read`; if all have one and nothing is dropped, they
    /// are read where they lie.
    fn read(&self, batch: &Batch, dropout: Option<Dropout>, tape: &mut LanguageTape) {
        tape.read_mask.clear();
        tape.targets.clear();
        tape.is_whole = dropout.is_none() && !batch.targets.contains(&NO_TARGET);
        if tape.is_whole {
            tape.targets.extend_from_slice(&batch.targets);
            return;
        }
        let width = self.lstm.output_size();
        tape.rows.clear();
        for (row, &target) in batch.targets.iter().enumerate() {
            if target != NO_TARGET {
                tape.rows.push(row as u32);
                tape.targets.push(target);
            }
        }
        gather(tape.lstm.output(), &tape.rows, width, &mut tape.read);
        if let Some(Dropout { kind, rate, masks, .. }) = dropout {
            let len = match kind {
                DropoutKind::Standard => tape.read.len(),
                DropoutKind::Locked => batch.batch * width,
            };
            masks.fill(OUTPUT, rate, &mut tape.read_mask, len);
            tape.drop_read(kind, batch.batch, Pass::Forward);
        }
    }

    /// The readout's weights and bias.
    fn readout(&self) -> (Slot, Slot) {
        (self.readout, self.readout_bias)
    }

    /// Readout and loss of the positions that have a target, slab by slab; with `gradients` also the gradient of what is
    /// scored, `tape.d_read` or that of the head's tape, and the readout's. With `candidates` the scores are theirs alone.
    fn loss(
        &self,
        params: &Params,
        tape: &mut LanguageTape,
        mut gradients: Option<&mut Params>,
        candidates: Option<&mut Candidates>,
    ) -> Loss {
        let (width, softmaxes) = (self.read_size, self.head.softmaxes());
        let LanguageTape { lstm, is_whole, targets, read, d_read, head, scores, nll, .. } = tape;
        let HeadTape { targets: row_targets, scored: of_head, d_scored, mixture } = head;
        let (read, d_read): (&[f32], _) = match self.head {
            Head::Output => (outputs(*is_whole, lstm, read), d_read),
            Head::Projection(_) | Head::Mixture(_) => (of_head, d_scored),
        };
        let (positions, rows) = (targets.len(), row_targets.len());
        let scale = 1.0 / positions.max(1) as f32;
        nll.resize(positions, 0.0);
        if gradients.is_some() {
            d_read.resize(rows * width);
        }
        let (candidates, mut part) = match candidates {
            Some(Candidates { drawn, gradient }) => (Some(&*drawn), Some(gradient)),
            None => (None, None),
        };
        // V, or the number of candidates.
        let scored = candidates.map_or(self.config.vocabulary, Drawn::len);
        // Whole positions.
        let step = (SLAB / scored.max(1) / softmaxes).max(1) * softmaxes;
        for start in (0..rows).step_by(step) {
            let end = rows.min(start + step);
            let read = &read[start * width..end * width];
            scores.resize((end - start) * scored);
            let whole = || (params.get(self.readout), params.get(self.readout_bias));
            let (weight, bias) = candidates.map_or_else(whole, Drawn::readout);
            let weight = Matrix::new(weight, scored, width);
            let read = Matrix::new(read, end - start, width);
            product_with_bias(MatrixMut::new(scores, end - start, scored), bias, read, weight.transposed());
            let targets = match candidates {
                Some(candidates) => candidates.lower_targets(scores, start..end),
                None => &row_targets[start..end],
            };
            let nll = &mut nll[start / softmaxes..end / softmaxes];
            let (nll, weights) = match self.head {
                Head::Output | Head::Projection(_) => (nll, None),
                Head::Mixture(_) => {
                    let (nll, shares) = mixture.weigh(scores, targets, start..end, nll, scale);
                    (nll, Some(shares))
                }
            };
            let Some(gradients) = gradients.as_deref_mut() else {
                if weights.is_none() {
                    cross_entropy(scores, scored, targets, nll, None);
                }
                continue;
            };
            let (d_weight, d_bias) = match part.as_deref_mut() {
                Some(part) => (&mut part.weight[..], &mut part.bias[..]),
                None => gradients.pair_mut(self.readout, self.readout_bias),
            };
            let sums = Start::Zero.of_part(start == 0);
            let asked = ScoreGradient { scale, weights, bias: &mut *d_bias, start: sums };
            cross_entropy(scores, scored, targets, nll, Some(asked));
            let epsilon = self.config.penalties.label_smoothing;
            if epsilon > 0.0 {
                smooth_targets(scores, targets, epsilon, scale, d_bias);
            }
            let d_scores = Matrix::new(scores, end - start, scored);
            product(MatrixMut::new(d_weight, scored, width), sums, d_scores.transposed(), read);
            let d_read = MatrixMut::new(&mut d_read[start * width..end * width], end - start, width);
            product(d_read, Start::Zero, d_scores, weight);
        }
        if let Some(gradients) = gradients {
            match candidates.zip(part) {
                // Nothing was predicted, so no slab replaced what they held.
                _ if rows == 0 => {
                    gradients.get_mut(self.readout).fill(0.0);
                    gradients.get_mut(self.readout_bias).fill(0.0);
                }
                Some((candidates, part)) => candidates.scatter(part, gradients, self.readout(), self.config.tied),
                None => {}
            }
        }
        Loss { nll: nll.iter().map(|&nll| f64::from(nll)).sum(), tokens: positions }
    }
}

impl LanguageTape {
    fn new(lstm: Tape) -> Self {
        Self {
            lstm,
            embedded: Aligned::new(),
            embedded_mask: Vec::new(),
            word_mask: Vec::new(),
            is_whole: false,
            rows: Vec::new(),
            targets: Vec::new(),
            read: Aligned::new(),
            read_mask: Vec::new(),
            d_read: Aligned::new(),
            head: HeadTape::default(),
            d_output: Aligned::new(),
            scores: Aligned::new(),
            nll: Vec::new(),
            candidates: None,
        }
    }

    /// Lets training steps score the tokens that `sampler` draws, or all. A step without masks scores all.
    pub fn sample(&mut self, sampler: Option<&Arc<Sampler>>) {
        self.candidates = sampler.map(|sampler| Candidates::new(sampler.clone()));
    }

    /// The predicted positions of the last pass.
    pub(crate) fn predicted(&self) -> Predicted<'_> {
        let outputs = outputs(self.is_whole, &self.lstm, &self.read);
        Predicted { outputs, targets: &self.targets, nll: &self.nll }
    }

    /// Multiplies what is read, or its gradient, by the mask of the outputs, if one was drawn: `[rows, output]` of the
    /// predicted rows, or `[B, output]`.
    fn drop_read(&mut self, kind: DropoutKind, batch: usize, pass: Pass) {
        let Self { read, d_read, read_mask: mask, rows, .. } = self;
        let values = if pass == Pass::Forward { read } else { d_read };
        match kind {
            _ if mask.is_empty() => {}
            DropoutKind::Standard => multiply(values, mask),
            DropoutKind::Locked => {
                let width = mask.len() / batch;
                for (values, &row) in values.chunks_exact_mut(width).zip(rows.iter()) {
                    let mask = &mask[row as usize % batch * width..][..width];
                    values.iter_mut().zip(mask).for_each(|(value, factor)| *value *= factor);
                }
            }
        }
    }
}

/// The outputs that are predicted from: those of all positions where they lie, or those that were gathered.
fn outputs<'a>(is_whole: bool, lstm: &'a Tape, gathered: &'a [f32]) -> &'a [f32] {
    if is_whole { lstm.output() } else { gathered }
}

/// Multiplies the rows of `values: [T·B, E]` by the factors of their tokens; an empty mask drops nothing.
fn drop_words(values: &mut [f32], tokens: &[u32], mask: &[f32]) {
    if mask.is_empty() {
        return;
    }
    let size = values.len() / tokens.len().max(1);
    for (values, &token) in values.chunks_exact_mut(size.max(1)).zip(tokens) {
        let factor = mask[token as usize];
        values.iter_mut().for_each(|value| *value *= factor);
    }
}

/// The direction of a pass.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Forward,
    Backward,
}

fn segment(batch: &Batch) -> Segment<'_> {
    Segment { steps: batch.steps, batch: batch.batch, lengths: batch.lengths.as_deref() }
}
