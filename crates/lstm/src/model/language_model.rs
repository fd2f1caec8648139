//! A language model: embedding → [`Lstm`] → readout → softmax cross-entropy, forward and backward.

#[cfg(test)]
mod gradients;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use lstm_kernels::Start;

use crate::free_memory::check_memory;
use crate::model::config::LanguageModelConfig;
use crate::model::embedding::{Embedding, EmbeddingTape};
use crate::model::loss::Loss;
use crate::model::penalty;
use crate::model::readout::{Lesson, Readout, ReadoutTape, Sampler};
use crate::nn::config::{ConfigError, Init, at_least_one};
use crate::nn::dropout::{Dropout, Masks};
use crate::nn::gradients::Gradients;
use crate::nn::params::{Layout, Params};
use crate::nn::segment::Segment;
use crate::nn::stack::{Lstm, Tape};
use crate::nn::state::State;
use crate::text::batch::Batch;

/// A language model. It holds no values: parameters, state and tape are the caller's.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    config: LanguageModelConfig,
    layout: Arc<Layout>,
    embedding: Embedding,
    lstm: Lstm,
    readout: Readout,
    /// Where the parameters of the readout begin, but for a tied table.
    readout_from: usize,
}

/// The values that a pass leaves behind, sized at its first use and reused.
#[derive(Clone, Debug)]
pub struct LanguageTape {
    embedding: EmbeddingTape,
    lstm: Tape,
    readout: ReadoutTape,
}

/// The predicted positions of a pass, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Predicted<'a> {
    /// The LSTM's outputs `[rows, output]`, after dropout.
    pub(crate) outputs: &'a [f32],
    /// The tokens that came: `[rows]`.
    pub(crate) targets: &'a [u32],
    /// Their negative log-likelihood: `[rows]`, in nats.
    pub(crate) nll: &'a [f32],
}

/// What a pass there and back from embeddings that are given leaves.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) loss: Loss,
    /// The surprisal of each row's target.
    pub(crate) nll: Vec<f32>,
    /// `[T, B, output]`: the gradient of the LSTM's output.
    pub(crate) d_output: Vec<f32>,
}

/// The root mean square of an embedding's values where they start from vectors of the text: 1,500 steps on the Penn Treebank end
/// higher with 0.06 and with 0.3, level with 0.17.
const SIZE_OF_VECTORS: f32 = 0.1;

impl LanguageModel {
    /// A model of this shape.
    ///
    /// # Errors
    /// A setting that cannot be built.
    pub fn new(config: LanguageModelConfig) -> Result<Self, ConfigError> {
        at_least_one("vocabulary", config.vocabulary)?;
        at_least_one("embedding", config.embedding())?;
        if config.lstm.bidirectional {
            let why = "layers that run from the last step to the first too read what a language model shall predict; let them run \
                       forward alone";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        if config.lstm.scores > 0 {
            let why =
                "a language model's layers score its vocabulary, so it has no `scores` of its own; leave them out";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        config.dropout.validate()?;
        config.penalties.validate()?;
        at_least_one("softmaxes", config.softmaxes)?;
        if config.softmaxes > 1 && config.penalties.label_smoothing > 0.0 {
            return Err(ConfigError::Conflict(
                "label smoothing needs the probability of every token in every step, of which a mixture of softmaxes \
                 has only the target's; leave one of `softmaxes` and `label-smoothing` out"
                    .to_owned(),
            ));
        }
        // Before any part of it is made: a number of layers alone can be too large.
        check_memory(
            || format!("a model of {config}"),
            config.bytes()?,
            if config.softmaxes > 1 {
                "`softmaxes`, `hidden`, `embedding`, number of `layers` or vocabulary"
            } else {
                "`hidden`, `embedding`, number of `layers` or vocabulary"
            },
        )?;
        let mut layout = Layout::default();
        let embedding = Embedding::in_layout(&config, &mut layout);
        let lstm = Lstm::in_layout(config.with_scores(), "lstm.", &mut layout)?;
        let readout_from = layout.len();
        let readout = Readout::in_layout(&config, lstm.output_size(), embedding.table(), &mut layout);
        Ok(Self { config, layout: Arc::new(layout), embedding, lstm, readout, readout_from })
    }

    /// The shape.
    pub fn config(&self) -> &LanguageModelConfig {
        &self.config
    }

    /// The parameters' names, shapes and places.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The layers between the embedding and the readout; the layout of their parameters is the model's.
    pub fn lstm(&self) -> &Lstm {
        &self.lstm
    }

    pub(super) fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    pub(super) fn readout(&self) -> &Readout {
        &self.readout
    }

    /// Fresh parameters.
    pub fn initialise(&self, init: &Init, seed: u64) -> Params {
        let mut params = Params::zeros(self.layout.clone());
        self.embedding.initialise(&mut params, init, seed);
        self.lstm.initialise(&mut params, init, seed);
        // A tied table starts as a readout.
        self.readout.initialise(&mut params, init, seed);
        params
    }

    /// Sets the readout's biases to the logarithms of the tokens' frequencies, of which each token has one more. counts: `[V]`.
    pub(crate) fn start_from_counts(&self, params: &mut Params, counts: &[u64]) {
        let all = counts.iter().map(|&count| count as f64 + 1.0).sum::<f64>();
        let biases = params.get_mut(self.readout.bias()).iter_mut();
        biases.zip(counts).for_each(|(bias, &count)| *bias = ((count as f64 + 1.0) / all).ln() as f32);
    }

    /// Puts vectors in place of the embedding's values, a tenth as large, except where they are zeros: `[V, E]`, of a root mean square of one.
    pub(crate) fn start_from_vectors(&self, params: &mut Params, vectors: &[f32]) {
        let table = params.get_mut(self.embedding.table());
        let width = vectors.len() / self.config.vocabulary;
        let rows = table.chunks_exact_mut(width).zip(vectors.chunks_exact(width));
        for (row, vector) in rows.filter(|(_, vector)| vector.iter().any(|&value| value != 0.0)) {
            row.iter_mut().zip(vector).for_each(|(value, vector)| *value = SIZE_OF_VECTORS * vector);
        }
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
        self.embedding.gradients(self.layout.clone())
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
        let drops_weights = self.config.dropout.weights > 0.0;
        [
            self.embedding.bytes(steps, batch),
            self.lstm.bytes(steps, batch, drops_weights),
            self.readout.bytes(steps, batch),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// Forward and backward over one batch. `gradients` receives the gradient of the mean nll of the predicted tokens,
    /// and of the model's [`Penalties`](penalty::Penalties), in place of what it held; the loss that is returned is without
    /// them. The state is taken from the batch before (or zeroed, if the batch is fresh) and carried on. Without `masks`
    /// nothing is dropped.
    pub fn train_step(
        &self,
        params: &Params,
        batch: &Batch,
        state: &mut State,
        masks: Option<Masks>,
        tape: &mut LanguageTape,
        gradients: &mut Gradients,
    ) -> Loss {
        self.train_step_telling(params, batch, state, masks, tape, gradients, &mut |_, _, _| ())
    }

    /// The same, and `complete` is told as the pass back goes on: the loss, one of [`Self::completes_from`], and the buffer of the gradient, of
    /// which nothing from there on changes any more but by `complete` itself.
    pub(crate) fn train_step_telling(
        &self,
        params: &Params,
        batch: &Batch,
        state: &mut State,
        masks: Option<Masks>,
        tape: &mut LanguageTape,
        gradients: &mut Gradients,
        complete: &mut dyn FnMut(Loss, usize, &mut [f32]),
    ) -> Loss {
        self.forward(params, batch, state, masks, tape);

        let LanguageTape { embedding, lstm, readout } = tape;
        self.readout.touch(&batch.tokens, readout, gradients);
        let (gradients, segment) = (gradients.params_mut(), segment(batch));
        let loss = self.readout.loss(params, lstm.output(), Some(gradients), readout);

        let d_output = self.readout.backward(params, lstm.output(), batch, gradients, readout);
        complete(loss, self.readout_from, gradients.values_mut());
        penalty::temporal(self.config.penalties.temporal, segment, lstm.output(), d_output);
        let input = embedding.embedded();
        let mut told = |from: usize, values: &mut [f32]| complete(loss, from, values);
        self.lstm.backward_telling(params, input, segment, d_output, lstm, gradients, &mut told);
        self.embedding.backward(batch, lstm.d_input_mut(), embedding, gradients);
        loss
    }

    /// The places of the gradient's buffer from which on it is complete before all of it is, from the end down: when the readout is done, and
    /// when each layer is.
    pub(crate) fn completes_from(&self) -> Vec<usize> {
        std::iter::once(self.readout_from).chain(self.lstm.starts().iter().rev().copied()).collect()
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
        let loss = self.readout.loss(params, tape.lstm.output(), None, &mut tape.readout);
        if let Some(surprisal) = surprisal {
            surprisal.extend_from_slice(tape.readout.nll());
        }
        loss
    }

    /// Forward and backward from embeddings `[T, B, E]` that are given in place of the batch's tokens: the gradients of the layers are the
    /// tape's ([`LanguageTape::lstm`]), of the mean nll of the targets. `between` sees what the way forward left, of which the way back
    /// overwrites the gates.
    pub(crate) fn trace(
        &self,
        params: &Params,
        batch: &Batch,
        embedded: &[f32],
        state: &mut State,
        tape: &mut LanguageTape,
        gradients: &mut Gradients,
        between: &mut dyn FnMut(&Tape),
    ) -> Traced {
        self.begin(batch, state);
        let (segment, LanguageTape { lstm, readout, .. }) = (segment(batch), tape);
        self.lstm.forward(params, embedded, segment, state, None, lstm);
        between(lstm);
        self.readout.forward(params, lstm.output(), batch, None, readout);
        let gradients = gradients.params_mut();
        let loss = self.readout.loss(params, lstm.output(), Some(gradients), readout);
        let d_output = self.readout.backward(params, lstm.output(), batch, gradients, readout).to_vec();
        self.lstm.backward(params, embedded, segment, &d_output, None, lstm, gradients, Start::Zero);
        Traced { loss, nll: readout.nll().to_vec(), d_output }
    }

    /// Reads one batch for the states and gates that it leaves on the tape ([`LanguageTape::lstm`]); nothing is dropped and
    /// nothing predicted.
    pub fn read(&self, params: &Params, batch: &Batch, state: &mut State, tape: &mut LanguageTape) {
        self.begin(batch, state);
        self.embedding.forward(params, batch, None, &mut tape.embedding);
        self.lstm.forward(params, tape.embedding.embedded(), segment(batch), state, None, &mut tape.lstm);
    }

    /// Hands the logits `[V]` of what follows each position that the tape has read ([`Self::read`]) to `each`, in order; of a mixture of
    /// softmaxes the logarithms of its probabilities.
    pub(crate) fn logits(&self, params: &Params, tape: &mut LanguageTape, each: &mut dyn FnMut(&[f32])) {
        self.readout.logits(params, tape.lstm.output(), &mut tape.readout, each);
    }

    /// Gives a batch the states it begins with: those carried, or zeros.
    fn begin(&self, batch: &Batch, state: &mut State) {
        match batch.fresh {
            // The last batch of windows or lines may have fewer rows.
            true if state.batch() != batch.batch => *state = self.state(batch.batch),
            true => state.reset(),
            false => state.reset_rows(&batch.restarts),
        }
    }

    /// Embedding, layers, and what the readout's softmax is taken of.
    fn forward(
        &self,
        params: &Params,
        batch: &Batch,
        state: &mut State,
        masks: Option<Masks>,
        tape: &mut LanguageTape,
    ) {
        self.begin(batch, state);
        let LanguageTape { embedding, lstm, readout } = tape;
        let rates = self.config.dropout;
        let dropout =
            masks.map(|masks| Dropout { kind: rates.kind, rate: rates.hidden, weights: rates.weights, masks });
        self.embedding.forward(params, batch, masks, embedding);
        self.lstm.forward(params, embedding.embedded(), segment(batch), state, dropout, lstm);
        self.readout.forward(params, lstm.output(), batch, masks, readout);
    }
}

impl LanguageTape {
    fn new(lstm: Tape) -> Self {
        Self { embedding: EmbeddingTape::default(), lstm, readout: ReadoutTape::default() }
    }

    /// What the layers left: states and gates.
    pub fn lstm(&self) -> &Tape {
        &self.lstm
    }

    /// Lets evaluations find the ranks of what comes too.
    pub(crate) fn rank(&mut self) {
        self.readout.softmax.rank();
    }

    /// The ranks of the predicted tokens of the last evaluation, if they were asked for: `[rows]`.
    pub(crate) fn ranks(&self) -> &[u32] {
        self.readout.softmax.ranks()
    }

    /// Lets training steps score the tokens that `sampler` draws, or all. A step without masks scores all.
    pub fn sample(&mut self, sampler: Option<&Arc<Sampler>>) {
        self.readout.sample(sampler);
    }

    /// What teachers say of the positions that the next training step predicts, in their order; `None` for nothing. It has to be said anew
    /// for every step, and is for steps that score every token by one softmax, none of them smoothed.
    pub fn lesson(&mut self) -> &mut Option<Lesson> {
        &mut self.readout.softmax.lesson
    }

    /// Whether training steps score the tokens that a sampler draws.
    pub(crate) fn samples(&self) -> bool {
        self.readout.samples()
    }

    /// The predicted positions of the last pass.
    pub(crate) fn predicted(&self) -> Predicted<'_> {
        let positions = &self.readout.positions;
        let outputs = positions.outputs(self.lstm.output());
        Predicted { outputs, targets: &positions.targets, nll: self.readout.nll() }
    }
}

fn segment(batch: &Batch) -> Segment<'_> {
    Segment { steps: batch.steps, batch: batch.batch, lengths: batch.lengths.as_deref(), packed: None }
}
