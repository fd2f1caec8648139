//! A model over sequences: embedding or a linear map of numbers, layers, pooling, head. Forward and backward over a packed batch.

use std::sync::Arc;

use lstm_kernels::{Aligned, Start};

use super::bag::Bag;
use super::batch::SequenceBatch;
use super::config::{SequenceConfig, SequenceDropout};
use super::head::{Head, Objective};
use super::initial::InitialStates;
use super::input::{Input, Steps};
use super::numbers::NumbersConfig;
use super::pooling::{Packed, Pool, PoolTape};
use crate::model::Loss;
use crate::nn::config::{ConfigError, Init};
use crate::nn::dropout::{self, Dropout, DropoutKind, INPUT, Masks, OUTPUT, WORDS};
use crate::nn::gradients::Gradients;
use crate::nn::params::{Layout, Params};
use crate::nn::stack::{Lstm, Tape};
use crate::nn::state::State;
use crate::run::task_kind::TaskKind;

/// An embedding or a linear map of numbers, an LSTM of any number of layers, pooling and a linear head. It holds no values: parameters and tape are the caller's.
#[derive(Clone, Debug)]
pub struct SequenceModel {
    layout: Arc<Layout>,
    input: Input,
    /// What of sequences of numbers is read.
    numbers: Option<NumbersConfig>,
    /// None, where the layers begin at zero.
    initial: Option<InitialStates>,
    lstm: Lstm,
    /// None, where every step has scores of its own.
    pool: Option<Pool>,
    head: Head,
    /// What has a share of the scores outside of training.
    bag: Option<Bag>,
    dropout: SequenceDropout,
    /// The token that a dropped one is read as; where there is none, its vector is zero.
    unknown: Option<u32>,
}

/// The values that a pass leaves, sized at its first use and reused.
#[derive(Debug)]
pub struct SequenceTape {
    tokens: Vec<u32>,
    /// `[N, I]`: the numbers that were read.
    numbers: Vec<f32>,
    /// `[N, E]`.
    embedded: Aligned,
    word_mask: Vec<f32>,
    input_mask: Vec<f32>,
    state: State,
    lstm: Tape,
    pool: PoolTape,
    output_mask: Vec<f32>,
    /// `[N, D·R]`: the hidden states with dropout, where every step has scores.
    steps: Vec<f32>,
    /// `[M, C]`: the scores; after a training step their gradient.
    scores: Vec<f32>,
    d_pooled: Vec<f32>,
    d_states: Vec<f32>,
}

impl SequenceTape {
    /// The scores of the last pass: `[B, C]`; of every step, where they are asked for, `[N, C]`.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// The weights of attention of the last pass, each step's where its token stands in the batch; none where nothing attends.
    pub fn attention(&self) -> &[f32] {
        &self.pool.weights
    }
}

impl SequenceModel {
    /// The model of settings that were fitted to its data.
    ///
    /// # Errors
    /// A model that cannot be built.
    pub fn new(config: &SequenceConfig, unknown: Option<u32>) -> Result<Self, ConfigError> {
        let model = &config.model;
        model.validate()?;
        let mut layout = Layout::default();
        let input = Input::in_layout(model, &mut layout);
        let lstm = Lstm::in_layout(model.lstm.clone(), "lstm.", &mut layout)?;
        let (width, directions) = (lstm.output_size(), model.lstm.directions());
        let pool = model.pooling.map(|pooling| Pool::in_layout(pooling, width, directions, &mut layout));
        let initial = model.initial_states.then(|| InitialStates::in_layout(&model.lstm, &mut layout));
        let objective = match (&pool, config.several) {
            (None, _) => Objective::Tags,
            (Some(_), _) if config.task == TaskKind::Regress => Objective::Numbers,
            (Some(_), true) => Objective::Classes,
            (Some(_), false) => Objective::Class,
        };
        let pooled = pool.as_ref().map_or(width, Pool::size);
        let head = Head::in_layout(objective, pooled, model.outputs, config.label_smoothing, &mut layout);
        let has_bag = model.bag > 0.0;
        let bag = has_bag.then(|| Bag::in_layout(model.vocabulary, model.outputs, model.bag, &mut layout));
        let (layout, dropout) = (Arc::new(layout), model.dropout);
        let numbers = model.numbers.clone();
        Ok(Self { layout, input, numbers, initial, lstm, pool, head, bag, dropout, unknown })
    }

    /// Lets the classes weigh so much in the loss.
    pub fn weigh(&mut self, class_weights: Vec<f32>) {
        self.head.weigh(class_weights);
    }

    /// The bag of words that has a share of the scores, if one has.
    pub(crate) fn bag(&self) -> Option<&Bag> {
        self.bag.as_ref()
    }

    /// Gives the bag of words another share.
    pub(crate) fn set_share(&mut self, share: f32) {
        if let Some(bag) = &mut self.bag {
            bag.set_share(share);
        }
    }

    /// The parameters' names, shapes and places.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// What its scores are of, and how many there are.
    pub fn outputs(&self) -> (Objective, usize) {
        (self.head.objective(), self.head.outputs())
    }

    /// Fresh parameters.
    pub fn initialise(&self, init: &Init, seed: u64) -> Params {
        let mut params = Params::zeros(self.layout.clone());
        self.input.initialise(&mut params, init, seed);
        self.lstm.initialise(&mut params, init, seed);
        if let Some(pool) = &self.pool {
            pool.initialise(&mut params, init, seed);
        }
        self.head.initialise(&mut params, init, seed);
        params
    }

    /// Gradients for [`Self::train_step`].
    pub fn gradients(&self) -> Gradients {
        self.input.gradients(&self.layout)
    }

    /// A tape for training.
    pub fn tape(&self) -> SequenceTape {
        self.tape_of(self.lstm.tape())
    }

    /// A tape for parameters that stay as they are.
    pub fn frozen_tape(&self) -> SequenceTape {
        self.tape_of(self.lstm.frozen_tape())
    }

    fn tape_of(&self, lstm: Tape) -> SequenceTape {
        SequenceTape {
            tokens: Vec::new(),
            numbers: Vec::new(),
            embedded: Aligned::new(),
            word_mask: Vec::new(),
            input_mask: Vec::new(),
            state: State::none(),
            lstm,
            pool: PoolTape::default(),
            output_mask: Vec::new(),
            steps: Vec::new(),
            scores: Vec::new(),
            d_pooled: Vec::new(),
            d_states: Vec::new(),
        }
    }

    /// The scores of a batch, which are the tape's; `masks` say what is dropped, without them nothing is. A bag of words has its share.
    pub fn forward(&self, params: &Params, batch: &SequenceBatch, masks: Option<Masks>, tape: &mut SequenceTape) {
        self.network(params, batch, masks, tape);
        if let Some(bag) = &self.bag {
            bag.mix(params, batch, &mut tape.scores);
        }
    }

    /// The scores of the network alone, which is what learns.
    fn network(&self, params: &Params, batch: &SequenceBatch, masks: Option<Masks>, tape: &mut SequenceTape) {
        self.embed(params, batch, masks, tape);
        let segment = batch.segment();
        if tape.state.batch() != segment.batch {
            tape.state = self.lstm.state(segment.batch);
        }
        match &self.initial {
            Some(initial) => initial.forward(params, &mut tape.state),
            None => tape.state.reset(),
        }
        let between = masks.map(|masks| self.between(masks));
        self.lstm.forward(params, &tape.embedded, segment, &mut tape.state, between, &mut tape.lstm);
        let SequenceTape { lstm, pool: pool_tape, steps, output_mask, scores, .. } = tape;
        let read = match &self.pool {
            Some(pool) => {
                pool.forward(params, lstm.output(), packed(batch), pool_tape);
                &mut pool_tape.pooled
            }
            None => {
                steps.clear();
                steps.extend_from_slice(lstm.output());
                steps
            }
        };
        output_mask.clear();
        if let Some(masks) = masks.filter(|_| self.dropout.output > 0.0) {
            masks.fill(OUTPUT, self.dropout.output, output_mask, read.len());
            dropout::apply(read, output_mask);
        }
        self.head.scores(params, read, scores);
    }

    /// What is dropped within the stack.
    fn between(&self, masks: Masks) -> Dropout {
        let SequenceDropout { hidden: rate, weights, .. } = self.dropout;
        Dropout { kind: DropoutKind::Standard, rate, weights, masks }
    }

    /// The batch's N steps → `tape.embedded: [N, E]`.
    fn embed(&self, params: &Params, batch: &SequenceBatch, masks: Option<Masks>, tape: &mut SequenceTape) {
        let SequenceTape { tokens, numbers, embedded, word_mask, input_mask, .. } = tape;
        tokens.clone_from(&batch.tokens);
        numbers.clone_from(&batch.numbers);
        if let Some((config, masks)) = self.numbers.as_ref().zip(masks) {
            config.disturb(numbers, &batch.starts, masks);
        }
        word_mask.clear();
        input_mask.clear();
        if let Some(masks) = masks.filter(|_| self.dropout.words > 0.0) {
            masks.fill(WORDS, self.dropout.words, word_mask, batch.steps());
            if let Some(unknown) = self.unknown {
                let dropped = tokens.iter_mut().zip(&*word_mask).filter(|(_, factor)| **factor == 0.0);
                dropped.for_each(|(token, _)| *token = unknown);
                word_mask.clear();
            } else {
                // Nothing takes the place of what is gone, so what stays need not be more.
                word_mask.iter_mut().for_each(|factor| *factor = factor.min(1.0));
            }
        }
        self.input.forward(params, batch, Steps { tokens, numbers }, embedded);
        drop_steps(embedded, word_mask, self.width());
        if let Some(masks) = masks.filter(|_| self.dropout.input > 0.0) {
            masks.fill(INPUT, self.dropout.input, input_mask, embedded.len());
            dropout::apply(embedded, input_mask);
        }
    }

    /// The loss of a batch without dropout; the tape's scores are gone then.
    pub fn loss(&self, params: &Params, batch: &SequenceBatch, tape: &mut SequenceTape) -> Loss {
        self.forward(params, batch, None, tape);
        self.head.loss(&mut tape.scores, &batch.targets)
    }

    /// Forward and backward of the network: `gradients` receives the gradient of the mean loss over the rows.
    pub fn train_step(
        &self,
        params: &Params,
        batch: &SequenceBatch,
        masks: Option<Masks>,
        tape: &mut SequenceTape,
        gradients: &mut Gradients,
    ) -> Loss {
        self.network(params, batch, masks, tape);
        gradients.touch(tape.tokens.iter().copied());
        let gradients = gradients.params_mut();
        let SequenceTape {
            tokens,
            numbers,
            embedded,
            word_mask,
            input_mask,
            state: _,
            lstm,
            pool,
            output_mask,
            steps,
            scores,
            d_pooled,
            d_states,
        } = tape;
        let loss = self.head.loss(scores, &batch.targets);
        let read: &[f32] = if self.pool.is_some() { &pool.pooled } else { steps };
        self.head.backward(params, read, scores, d_pooled, gradients);
        dropout::apply(d_pooled, output_mask);
        if let Some(of) = &self.pool {
            d_states.resize(lstm.output().len(), 0.0);
            of.backward(params, lstm.output(), packed(batch), d_pooled, d_states, pool, gradients);
        } else {
            std::mem::swap(d_states, d_pooled);
        }
        self.lstm.backward(params, embedded, batch.segment(), d_states, None, lstm, &mut *gradients, Start::Zero);
        let d_embedded = lstm.d_input_mut();
        dropout::apply(d_embedded, input_mask);
        drop_steps(d_embedded, word_mask, self.width());
        self.input.backward(params, batch, Steps { tokens, numbers }, d_embedded, gradients);
        if let Some(initial) = &self.initial {
            initial.backward(lstm.d_initial(), gradients);
        }
        loss
    }

    /// I, the input of the layers.
    fn width(&self) -> usize {
        self.lstm.config().input
    }

    /// Scores `[B, C]` become probabilities; numbers stay what they are.
    pub fn probabilities(&self, scores: &mut [f32]) {
        self.head.probabilities(scores);
    }

    /// The bytes of a tape in training over batches of so many steps and rows.
    pub(crate) fn bytes(&self, steps: usize, rows: usize) -> usize {
        self.lstm.bytes(steps, rows, self.dropout.weights > 0.0)
    }
}

/// The places of a batch's steps.
fn packed(batch: &SequenceBatch) -> Packed<'_> {
    Packed { starts: &batch.starts, lengths: &batch.lengths }
}

/// Multiplies each step's vector by its factor; an empty mask drops nothing.
fn drop_steps(values: &mut [f32], mask: &[f32], size: usize) {
    for (values, factor) in values.chunks_exact_mut(size.max(1)).zip(mask) {
        values.iter_mut().for_each(|value| *value *= factor);
    }
}
