//! A language model: embedding → [`Lstm`] → readout → softmax cross-entropy, forward and backward.

#[cfg(test)]
mod gradients;
mod token_stream;

use std::sync::Arc;

use lstm_kernels::{
    Aligned, Matrix, MatrixMut, ScoreGradient, Start, cross_entropy, multiply, product, smooth_targets,
};

use super::candidates::{Candidates, Drawn, Sampler};
use super::{LanguageModelConfig, LayerWiring, Loss};
use crate::config::{ConfigError, Init, InitScheme, LstmConfig, Wiring, at_least_one};
use crate::dropout::{self, Dropout, DropoutKind, INPUT, Masks, OUTPUT, WORDS};
use crate::params::{Accumulate, Gradients, Layout, Params, Slot, gather};
use crate::penalty::{self, Penalties};
use crate::stack::{Lstm, Segment, Tape};
use crate::state::State;
use crate::text::batches::{Batch, NO_TARGET};

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
    /// Brings the LSTM's output to the embedding's size, in a tied model where they differ.
    readout_projection: Option<Slot>,
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
    /// `[rows, E]`: what is read, projected, and its gradient; unused without a readout projection.
    projected: Aligned,
    d_projected: Aligned,
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
        let (output, size) = (lstm.output_size(), config.embedding);
        let readout_projection =
            (config.tied && output != size).then(|| layout.add("readout_projection.weight", &[size, output]));
        let readout = match config.tied {
            true => embedding,
            false => layout.add("readout.weight", &[config.vocabulary, output]),
        };
        let readout_bias = layout.add("readout.bias", &[config.vocabulary]);
        Ok(Self { config, layout: Arc::new(layout), embedding, lstm, readout_projection, readout, readout_bias })
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
        let bound = bound_of(self.read_size());
        match init.scheme {
            InitScheme::Uniform(a) => params.fill_uniform(self.embedding, a, seed),
            InitScheme::Torch | InitScheme::OnesBias => params.fill_normal(self.embedding, seed),
        }
        if let Some(slot) = self.readout_projection {
            params.fill_uniform(slot, bound_of(self.lstm.output_size()), seed);
        }
        params.fill_uniform(self.readout, bound, seed);
        match init.scheme {
            InitScheme::OnesBias => params.get_mut(self.readout_bias).fill(1.0),
            _ => params.fill_uniform(self.readout_bias, bound, seed),
        }
        params
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
            candidates.draw(masks, &tape.targets, params, self.readout());
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
        self.project_backward(params, tape, gradients);
        let Penalties { activation, temporal, .. } = self.config.penalties;
        if activation > 0.0 {
            let read = if tape.is_whole { tape.lstm.output() } else { &tape.read };
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
        self.lstm.backward(params, input, segment, d_output, None, &mut tape.lstm, gradients, Accumulate::Replace);
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

    /// The size of what the readout scores.
    fn read_size(&self) -> usize {
        if self.config.tied { self.config.embedding } else { self.lstm.output_size() }
    }

    /// projected `[rows, E]` = read `[rows, output]` · Pᵀ, where the model has a readout projection P.
    fn project(&self, params: &Params, tape: &mut LanguageTape) {
        let Some(slot) = self.readout_projection else { return };
        let (size, width) = (self.config.embedding, self.lstm.output_size());
        let LanguageTape { lstm, is_whole, read, projected, .. } = tape;
        let read = outputs(*is_whole, lstm, read);
        let rows = read.len() / width;
        projected.resize(rows * size);
        product(
            MatrixMut::new(projected, rows, size),
            Start::Zero,
            Matrix::new(read, rows, width),
            Matrix::new(params.get(slot), size, width).transposed(),
        );
    }

    /// The backward pass of [`Self::project`]: from `tape.d_projected` to `tape.d_read` and the gradient of P.
    fn project_backward(&self, params: &Params, tape: &mut LanguageTape, gradients: &mut Params) {
        let Some(slot) = self.readout_projection else { return };
        let (size, width) = (self.config.embedding, self.lstm.output_size());
        let LanguageTape { lstm, is_whole, read, d_read, d_projected, .. } = tape;
        let read = outputs(*is_whole, lstm, read);
        let rows = read.len() / width;
        let d_projected = Matrix::new(d_projected, rows, size);
        product(
            MatrixMut::new(gradients.get_mut(slot), size, width),
            Start::Zero,
            d_projected.transposed(),
            Matrix::new(read, rows, width),
        );
        d_read.resize(rows * width);
        let projection = Matrix::new(params.get(slot), size, width);
        product(MatrixMut::new(d_read, rows, width), Start::Zero, d_projected, projection);
    }

    /// Embedding and LSTM, then the outputs of the positions that have a target into `tape.read`, in order; if all have
    /// one and nothing is dropped, they are read where they lie.
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
        let dropout = dropout(rates.output).filter(|_| rates.output > 0.0);
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

    /// Readout and loss of the positions that have a target, slab by slab; with `gradients` also `tape.d_read`, or
    /// `tape.d_projected`, and the readout's gradients. With `candidates` the scores are theirs alone.
    fn loss(
        &self,
        params: &Params,
        tape: &mut LanguageTape,
        mut gradients: Option<&mut Params>,
        candidates: Option<&mut Candidates>,
    ) -> Loss {
        self.project(params, tape);
        let width = self.read_size();
        let rows = tape.targets.len();
        let scale = 1.0 / rows.max(1) as f32;
        let LanguageTape { lstm, is_whole, targets, read, d_read, projected, d_projected, scores, nll, .. } = tape;
        let (read, d_read): (&[f32], _) = match self.readout_projection {
            Some(_) => (projected, d_projected),
            None => (outputs(*is_whole, lstm, read), d_read),
        };
        nll.resize(rows, 0.0);
        if gradients.is_some() {
            d_read.resize(rows * width);
        }
        let (candidates, mut part) = match candidates {
            Some(Candidates { drawn, gradient }) => (Some(&*drawn), Some(gradient)),
            None => (None, None),
        };
        // V, or the number of candidates.
        let scored = candidates.map_or(self.config.vocabulary, Drawn::len);
        let step = (SLAB / scored.max(1)).max(1);
        for start in (0..rows).step_by(step) {
            let end = rows.min(start + step);
            let read = &read[start * width..end * width];
            scores.resize((end - start) * scored);
            let whole = || (params.get(self.readout), params.get(self.readout_bias));
            let (weight, bias) = candidates.map_or_else(whole, Drawn::readout);
            let weight = Matrix::new(weight, scored, width);
            let read = Matrix::new(read, end - start, width);
            product(MatrixMut::new(scores, end - start, scored), Start::Bias(bias), read, weight.transposed());
            let targets = match candidates {
                Some(candidates) => candidates.lower_targets(scores, start..end),
                None => &targets[start..end],
            };
            let nll = &mut nll[start..end];
            let Some(gradients) = gradients.as_deref_mut() else {
                cross_entropy(scores, scored, targets, nll, None);
                continue;
            };
            let (d_weight, d_bias) = match part.as_deref_mut() {
                Some(part) => (&mut part.weight[..], &mut part.bias[..]),
                None => gradients.pair_mut(self.readout, self.readout_bias),
            };
            let asked = ScoreGradient { scale, bias: &mut *d_bias, add: start > 0 };
            cross_entropy(scores, scored, targets, nll, Some(asked));
            let epsilon = self.config.penalties.label_smoothing;
            if epsilon > 0.0 {
                smooth_targets(scores, targets, epsilon, ScoreGradient { scale, bias: d_bias, add: true });
            }
            let d_scores = Matrix::new(scores, end - start, scored);
            product(
                MatrixMut::new(d_weight, scored, width),
                Accumulate::Replace.part(start == 0).start(),
                d_scores.transposed(),
                read,
            );
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
        Loss { nll: nll.iter().map(|&nll| f64::from(nll)).sum(), tokens: rows }
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
            projected: Aligned::new(),
            d_projected: Aligned::new(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CellVariant, Zoneout};
    use crate::dropout::DropoutRates;
    use crate::rng::{Purpose, Rng};

    pub(super) fn config() -> LanguageModelConfig {
        LanguageModelConfig { layers: 2, ..LanguageModelConfig::new(7, 3, 5) }
    }

    /// Everything a cell can have beyond the plain one.
    fn variant() -> CellVariant {
        let zoneout = Zoneout { cell: 0.3, hidden: 0.1 };
        CellVariant { peepholes: true, coupled: true, layer_norm: true, zoneout }
    }

    /// Random ids; every third place of `[T, B]` predicts nothing when `sparse`.
    pub(super) fn batch(steps: usize, batch: usize, vocabulary: usize, sparse: bool) -> Batch {
        let mut rng = Rng::new(11, Purpose::Shuffle, 0);
        let mut ids = || -> Vec<u32> { (0..steps * batch).map(|_| rng.below(vocabulary) as u32).collect() };
        let (tokens, mut targets) = (ids(), ids());
        if sparse {
            targets.iter_mut().step_by(3).for_each(|target| *target = NO_TARGET);
        }
        Batch { steps, batch, tokens, targets, lengths: None, fresh: true }
    }

    #[test]
    fn evaluation_and_the_reported_loss_know_no_regularisation() {
        let plain = LanguageModel::new(config()).unwrap();
        let penalties = Penalties { activation: 2.0, temporal: 3.0, label_smoothing: 0.3 };
        let dropout = DropoutRates { embedding: 0.4, weights: 0.4, ..DropoutRates::all(0.5) };
        let regularised = LanguageModel::new(LanguageModelConfig { penalties, dropout, ..config() }).unwrap();
        let params = plain.initialise(&Init::default(), 1);
        let batch = batch(5, 2, 7, true);
        let evaluate = |model: &LanguageModel| {
            model.evaluate(&params, &batch, &mut model.state(2), &mut model.frozen_tape(), None)
        };
        assert_eq!(evaluate(&plain), evaluate(&regularised));
        // Without masks only the penalties are left, and they are not reported.
        let train = |masks| {
            let (mut state, mut tape, mut gradients) = (plain.state(2), plain.tape(), plain.gradients());
            regularised.train_step(&params, &batch, &mut state, masks, &mut tape, &mut gradients)
        };
        assert_eq!(train(None), evaluate(&plain));
        assert_ne!(train(Some(Masks { seed: 1, step: 0 })), evaluate(&plain));
    }

    #[test]
    fn a_tied_model_has_one_table_and_a_projection_where_sizes_differ() {
        let model = |embedding| {
            let config = LanguageModelConfig { embedding, tied: true, ..config() };
            LanguageModel::new(config).unwrap()
        };
        let shape = |model: &LanguageModel, name: &str| {
            let entry = model.layout().entries().iter().find(|entry| entry.name == name);
            entry.map(|entry| entry.shape.clone())
        };
        let (same, other) = (model(5), model(3));
        for model in [&same, &other] {
            assert_eq!(shape(model, "readout.weight"), None);
            assert_eq!(shape(model, "readout.bias"), Some(vec![7]));
            let params = model.initialise(&Init::default(), 1);
            let bound = 1.0 / (model.config.embedding as f32).sqrt();
            assert!(params.by_name("embedding.weight").unwrap().iter().all(|value| value.abs() <= bound));
        }
        assert_eq!(shape(&same, "readout_projection.weight"), None);
        assert_eq!(shape(&other, "readout_projection.weight"), Some(vec![3, 5]));
    }

    #[test]
    fn a_batch_that_predicts_nothing_has_no_loss_and_no_gradient() {
        let model = LanguageModel::new(config()).unwrap();
        let params = model.initialise(&Init::default(), 1);
        let mut nothing = batch(2, 2, 7, false);
        nothing.targets.fill(NO_TARGET);
        let tied = LanguageModel::new(LanguageModelConfig { tied: true, ..config() }).unwrap();
        let values = tied.initialise(&Init::default(), 1);
        let mut gradients = tied.gradients();
        gradients.params_mut().values_mut().fill(1.0);
        tied.train_step(&values, &nothing, &mut tied.state(2), None, &mut tied.tape(), &mut gradients);
        assert!(gradients.values().iter().all(|&gradient| gradient == 0.0));
        let mut gradients = model.gradients();
        gradients.touch(0..7);
        gradients.params_mut().values_mut().fill(1.0);
        let (mut state, mut tape) = (model.state(2), model.tape());
        let loss = model.train_step(&params, &nothing, &mut state, None, &mut tape, &mut gradients);
        assert_eq!(loss, Loss::default());
        assert!(gradients.values().iter().all(|&gradient| gradient == 0.0));
    }

    #[test]
    fn evaluation_agrees_with_training_and_with_the_scores() {
        evaluation_agrees(config());
        evaluation_agrees(LanguageModelConfig { tied: true, ..config() });
        evaluation_agrees(LanguageModelConfig { variant: variant(), ..config() });
    }

    fn evaluation_agrees(config: LanguageModelConfig) {
        let model = LanguageModel::new(config).unwrap();
        let params = model.initialise(&Init::default(), 1);
        let mut gradients = model.gradients();
        let batch = batch(5, 2, 7, true);
        let (mut state, mut tape) = (model.state(2), model.tape());
        let trained = model.train_step(&params, &batch, &mut state, None, &mut tape, &mut gradients);
        let mut surprisal = Vec::new();
        let evaluated = model.evaluate(&params, &batch, &mut state, &mut tape, Some(&mut surprisal));
        assert_eq!(trained, evaluated);
        assert_eq!(surprisal.len(), evaluated.tokens);

        let mut expected = surprisal.iter();
        let mut stream = model.stream(&params, 2).unwrap();
        for (tokens, targets) in batch.tokens.chunks(2).zip(batch.targets.chunks(2)) {
            let scores = stream.read(tokens);
            for (scores, &target) in scores.chunks(7).zip(targets) {
                if target != NO_TARGET {
                    let total: f32 = scores.iter().map(|score| score.exp()).sum();
                    let nll = total.ln() - scores[target as usize];
                    assert!((nll - expected.next().unwrap()).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn state_is_carried_unless_the_batch_is_fresh() {
        let model = LanguageModel::new(config()).unwrap();
        let params = model.initialise(&Init::default(), 1);
        let (whole, mut tape) = (batch(6, 2, 7, false), model.tape());
        let expected = model.evaluate(&params, &whole, &mut model.state(2), &mut tape, None);
        let mut state = model.state(2);
        let mut sum = Loss::default();
        for part in [0..8, 8..12] {
            let piece = Batch {
                steps: part.len() / 2,
                batch: 2,
                tokens: whole.tokens[part.clone()].to_vec(),
                targets: whole.targets[part].to_vec(),
                lengths: None,
                fresh: false,
            };
            sum.add(model.evaluate(&params, &piece, &mut state, &mut tape, None));
        }
        assert!((sum.nll - expected.nll).abs() < 1e-5 * expected.nll, "{sum:?} {expected:?}");
        // A fresh batch ignores the state it finds, and its number of rows.
        let mut other = model.state(5);
        other.h.fill(3.0);
        assert_eq!(model.evaluate(&params, &whole, &mut state, &mut tape, None), expected);
        assert_eq!(model.evaluate(&params, &whole, &mut other, &mut tape, None), expected);
        assert_eq!(state, other);
    }

    #[test]
    fn the_same_bits_for_any_number_of_threads() {
        let dropout = DropoutRates::all(0.2);
        let config = LanguageModelConfig { vocabulary: 301, hidden: 33.into(), embedding: 17, dropout, ..config() };
        assert_same_bits(config.clone());
        // Large enough for the shares of a variant's rows and weights.
        for projection in [None, Some(40)] {
            assert_same_bits(LanguageModelConfig {
                variant: variant(),
                hidden: 260.into(),
                projection,
                ..config.clone()
            });
        }
    }

    fn assert_same_bits(config: LanguageModelConfig) {
        let batch = batch(9, 7, 301, true);
        let run = |threads| {
            lstm_kernels::with_threads(threads, || {
                let model = LanguageModel::new(config.clone()).unwrap();
                let params = model.initialise(&Init::default(), 1);
                let mut gradients = model.gradients();
                let (mut state, mut tape) = (model.state(7), model.tape());
                let masks = Some(Masks { seed: 1, step: 0 });
                let loss = model.train_step(&params, &batch, &mut state, masks, &mut tape, &mut gradients);
                (loss, gradients.params().clone(), state)
            })
        };
        assert_eq!(run(1), run(2));
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn a_large_vocabulary_needs_no_more_than_a_slab_of_scores() {
        // WikiText-2's vocabulary: all scores of this batch would take 93 MB.
        let config = LanguageModelConfig { vocabulary: 33_278, hidden: 4.into(), embedding: 4, layers: 1, ..config() };
        let model = LanguageModel::new(config).unwrap();
        let params = model.initialise(&Init::default(), 1);
        let mut gradients = model.gradients();
        let batch = batch(35, 20, 33_278, false);
        let (mut state, mut tape) = (model.state(20), model.tape());
        let loss = model.train_step(&params, &batch, &mut state, None, &mut tape, &mut gradients);
        assert!(tape.scores.capacity() <= SLAB);
        assert!((loss.mean() - 33_278f64.ln()).abs() < 0.5, "{}", loss.mean());
    }

    #[test]
    fn names_shapes_and_initial_values_are_as_documented() {
        let model = LanguageModel::new(config()).unwrap();
        let names: Vec<&str> = model.layout().entries().iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names[..2], ["embedding.weight", "lstm.weight_ih_l0"]);
        assert_eq!(names[names.len() - 2..], ["readout.weight", "readout.bias"]);
        assert_eq!(model.layout().entries().last().unwrap().shape, [7]);

        let within = |scheme, name: &str, bound: f32| {
            let params = model.initialise(&Init { scheme, forget_bias: None }, 4);
            let values = params.by_name(name).unwrap().to_vec();
            assert!(values.iter().any(|value| value.abs() > bound / 4.0), "{name}");
            values.iter().all(|value| value.abs() <= bound)
        };
        assert!(!within(InitScheme::Torch, "embedding.weight", 1.0));
        assert!(within(InitScheme::Torch, "readout.weight", 1.0 / 5f32.sqrt()));
        for entry in model.layout().entries() {
            assert!(within(InitScheme::Uniform(0.1), &entry.name, 0.1), "{}", entry.name);
        }
        let params = model.initialise(&Init { scheme: InitScheme::OnesBias, forget_bias: None }, 4);
        assert_eq!(params.by_name("readout.bias").unwrap(), [1.0; 7]);
    }

    #[test]
    fn a_file_from_before_there_were_variants_is_of_the_plain_cell() {
        let mut table = toml::Table::try_from(config()).unwrap();
        assert!(table.remove("variant").is_some());
        assert_eq!(table.try_into::<LanguageModelConfig>().unwrap(), config());
    }

    #[test]
    fn the_parameters_of_variants_have_their_names_shapes_and_initial_values() {
        let model = LanguageModel::new(LanguageModelConfig { variant: variant(), ..config() }).unwrap();
        let shape = |name: &str| {
            let entry = model.layout().entries().iter().find(|entry| entry.name == format!("lstm.{name}_l1"));
            entry.map(|entry| entry.shape.clone())
        };
        assert_eq!(shape("weight_ih"), Some(vec![15, 5]));
        assert_eq!(shape("weight_hh"), Some(vec![15, 5]));
        assert_eq!(shape("bias_hh"), Some(vec![15]));
        assert_eq!(shape("weight_peephole"), Some(vec![10]));
        assert_eq!([shape("gain_ih"), shape("gain_hh")], [Some(vec![15]), Some(vec![15])]);
        assert_eq!([shape("gain_cell"), shape("bias_cell")], [Some(vec![5]), Some(vec![5])]);
        let params = model.initialise(&Init { scheme: InitScheme::Uniform(0.1), forget_bias: Some(1.0) }, 1);
        let values = |name: &str| params.by_name(&format!("lstm.{name}_l1")).unwrap();
        assert_eq!([values("gain_ih"), values("gain_hh"), values("gain_cell")].concat(), [1.0; 35]);
        assert_eq!(values("bias_cell"), [0.0; 5]);
        assert_eq!(values("bias_hh")[..5], [0.5; 5]);
        assert!(values("weight_peephole").iter().all(|weight| weight.abs() <= 0.1));
        let peepholes = CellVariant { peepholes: true, ..CellVariant::default() };
        let model = LanguageModel::new(LanguageModelConfig { variant: peepholes, ..config() }).unwrap();
        let params = model.initialise(&Init::default(), 1);
        assert_eq!(params.by_name("lstm.weight_peephole_l0").unwrap().len(), 15);
        assert_eq!(params.by_name("lstm.gain_ih_l0"), None);
    }

    #[test]
    fn what_cannot_be_built_is_a_sentence() {
        let refused = |config: LanguageModelConfig| LanguageModel::new(config).unwrap_err().to_string();
        assert!(refused(LanguageModelConfig { vocabulary: 0, ..config() }).contains("`vocabulary` is 0"));
        assert!(refused(LanguageModelConfig { embedding: 0, ..config() }).contains("`embedding` is 0"));
        assert!(refused(LanguageModelConfig { hidden: 0.into(), ..config() }).contains("`hidden` is 0"));
        assert!(refused(LanguageModelConfig { layers: 0, ..config() }).contains("`layers` is 0"));
        let dropping = |dropout| refused(LanguageModelConfig { dropout, ..config() });
        assert!(dropping(DropoutRates::all(1.0)).contains("`dropout` is 1"));
        assert!(dropping(DropoutRates::all(f32::NAN)).contains("dropout"));
        assert!(dropping(DropoutRates { hidden: -0.1, ..Default::default() }).contains("`dropout-hidden` is -0.1"));
        let without = |weights| refused(LanguageModelConfig { penalties: weights, ..config() });
        let none = Penalties::default();
        assert!(without(Penalties { activation: -1.0, ..none }).contains("`ar` is -1"));
        assert!(without(Penalties { temporal: f32::INFINITY, ..none }).contains("`tar` is inf"));
        assert!(without(Penalties { label_smoothing: 1.0, ..none }).contains("`label-smoothing` is 1"));
        let penalties = Penalties { activation: 2.0, ..none };
        let hidden = vec![4, 5].into();
        let full = LanguageModelConfig { tied: true, hidden, penalties, variant: variant(), ..config() };
        for config in [config(), full] {
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<LanguageModelConfig>(&text).unwrap(), config);
        }
    }
}
