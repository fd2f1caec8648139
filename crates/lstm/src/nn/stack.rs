//! Any number of layers over a segment: [`Lstm`].

mod tape;

use std::sync::Arc;

use lstm_kernels::{Columns, Start, StepPlan};

pub use self::tape::Tape;

use crate::free_memory::bytes_of;
use crate::nn::config::{ConfigError, Init, LstmConfig, Readout};
use crate::nn::dropout::Dropout;
use crate::nn::layer::{Layer, LayerGradient, LayerTape, ReachingLayer};
use crate::nn::params::{Layout, Params, ParamsMut, ParamsRef};
use crate::nn::segment::Segment;
use crate::nn::state::State;
use crate::nn::wiring::{Below, DBelow, GradientSum};

/// An LSTM of any number of layers, in one or two directions.
///
/// It holds no values: parameters, states and the tape are the caller's.
#[derive(Clone, Debug)]
pub struct Lstm {
    config: LstmConfig,
    layout: Arc<Layout>,
    layers: Vec<Layer>,
    /// Where the parameters of each layer begin.
    starts: Vec<usize>,
}

/// Where one step of a stack finds and leaves its values, see [`Lstm::plan_step`].
#[derive(Clone, Debug)]
pub(crate) struct StepColumns {
    /// `[B, I]`.
    pub(crate) input: Columns,
    /// `[B, output]`.
    pub(crate) output: Columns,
    /// The hidden state of each layer, `[B, R]`.
    pub(crate) h: Vec<Columns>,
    /// The cell state of each layer, `[B, H]`.
    pub(crate) c: Vec<Columns>,
    /// The gates of each layer, `[B, K·H]`.
    pub(crate) gates: Vec<Columns>,
    /// What the hidden states of each layer are clamped to, `[B, R]`; none where they cannot be.
    pub(crate) clamps: Vec<Columns>,
}

impl Lstm {
    /// An LSTM whose parameters carry PyTorch's `nn.LSTM` names.
    ///
    /// # Errors
    /// A configuration that cannot be built.
    pub fn new(config: LstmConfig) -> Result<Self, ConfigError> {
        let mut layout = Layout::default();
        let mut lstm = Self::in_layout(config, "", &mut layout)?;
        lstm.layout = Arc::new(layout);
        Ok(lstm)
    }

    /// An LSTM as a part of a larger model: its parameters are appended to `layout` with `prefix` before their names.
    ///
    /// # Errors
    /// A configuration that cannot be built.
    pub fn in_layout(config: LstmConfig, prefix: &str, layout: &mut Layout) -> Result<Self, ConfigError> {
        config.check_memory()?;
        config.validate()?;
        let layers = (0..config.layers).map(|index| (layout.len(), Layer::in_layout(&config, index, prefix, layout)));
        let (starts, layers) = layers.unzip();
        Ok(Self { config, layout: Arc::new(Layout::default()), layers, starts })
    }

    /// The configuration.
    pub fn config(&self) -> &LstmConfig {
        &self.config
    }

    /// The layout of the parameters. Empty for an LSTM made by [`Lstm::in_layout`]: the larger model has it.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Where the parameters of each layer begin in the layout.
    pub(crate) fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The size of the output at every step: D·R, or D·H for the `output-gate` readout.
    pub fn output_size(&self) -> usize {
        self.config.output()
    }

    /// Zero states for `batch` rows.
    pub fn state(&self, batch: usize) -> State {
        State::zeros(&self.config, batch)
    }

    /// A tape for training: it follows the parameters from call to call.
    pub fn tape(&self) -> Tape {
        Tape::new(&self.layers, &self.config, false)
    }

    /// A tape for inference: the recurrent weights are packed at its first use and never again, so every call must
    /// bring the same parameters. One step at a time, a [`Stream`](crate::nn::stream::Stream) is faster still.
    pub fn frozen_tape(&self) -> Tape {
        Tape::new(&self.layers, &self.config, true)
    }

    /// The bytes that a tape takes in training over segments of so many steps and rows, at most `usize::MAX`; with weights
    /// dropped if `drops_weights`.
    pub(crate) fn bytes(&self, steps: usize, batch: usize, drops_weights: bool) -> usize {
        let own = bytes_of(&[[steps, batch, self.config.input]]);
        self.layers.iter().map(|layer| layer.bytes(steps, batch, drops_weights)).fold(own, usize::saturating_add)
    }

    /// Sets initial values as `init` says, from the run's `seed`.
    pub fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        self.layers.iter().for_each(|layer| layer.initialise(params, init, seed));
    }

    /// Runs a segment.
    ///
    /// `params`: a [`Params`], or arrays that lie apart ([`ParamsRef::apart`]), so memory of
    /// another program is used where it is; input: `[T, B, I]`; `state`: in the initial state, out the final; `dropout`: on what each layer but the last
    /// gives to the next, and on recurrent weights, in training, where zoneout draws masks; without it zoneout is its
    /// expectation. The outputs are the tape's.
    ///
    /// # Panics
    /// When `input`, `state` or `lengths` do not have the segment's shape.
    pub fn forward<'a>(
        &self,
        params: impl Into<ParamsRef<'a>>,
        input: &[f32],
        segment: Segment,
        state: &mut State,
        dropout: Option<Dropout>,
        tape: &mut Tape,
    ) {
        let params = params.into();
        self.check(input, segment, state);
        (tape.steps, tape.batch) = (segment.steps, segment.batch);
        for (index, layer) in self.layers.iter().enumerate() {
            let (below, own) = tape.layers.split_at_mut(index);
            layer.forward(params, Below::of(input, below), segment, state, dropout, tape.frozen, &mut own[0]);
        }
    }

    /// Runs the last forward pass backward; `gradients` receives those of the parameters as `accumulate` says.
    ///
    /// d_output: `[T, B, output_size]`; `d_final`: the gradient of the final state, if anything depends on it. The
    /// gradients of the input and of the initial state are the tape's. The forward pass's gates are overwritten.
    ///
    /// # Panics
    /// When `input`, `segment` or `d_output` are not those of the last forward pass.
    pub fn backward<'a, 'b>(
        &self,
        params: impl Into<ParamsRef<'a>>,
        input: &[f32],
        segment: Segment,
        d_output: &[f32],
        d_final: Option<&State>,
        tape: &mut Tape,
        gradients: impl Into<ParamsMut<'b>>,
        accumulate: Start,
    ) {
        let (params, mut gradients) = (params.into(), gradients.into());
        self.backward_layers(
            params,
            input,
            segment,
            d_output,
            d_final,
            tape,
            (&mut gradients, accumulate),
            &mut |_, _| (),
        );
    }

    /// The same into one buffer, in place of what it held, without a final state that anything depends on. When a layer is done `complete` is
    /// told where its parameters begin ([`Self::starts`]): from there on the gradients of all layers are complete.
    pub(crate) fn backward_telling(
        &self,
        params: &Params,
        input: &[f32],
        segment: Segment,
        d_output: &[f32],
        tape: &mut Tape,
        gradients: &mut Params,
        complete: &mut dyn FnMut(usize, &mut [f32]),
    ) {
        let mut told = |from: usize, gradients: &mut ParamsMut<'_>| complete(from, gradients.flat_mut());
        let (params, mut gradients) = (params.into(), gradients.into());
        self.backward_layers(params, input, segment, d_output, None, tape, (&mut gradients, Start::Zero), &mut told);
    }

    fn backward_layers(
        &self,
        params: ParamsRef<'_>,
        input: &[f32],
        segment: Segment,
        d_output: &[f32],
        d_final: Option<&State>,
        tape: &mut Tape,
        (gradients, accumulate): (&mut ParamsMut<'_>, Start),
        complete: &mut dyn FnMut(usize, &mut ParamsMut<'_>),
    ) {
        assert_eq!((tape.steps, tape.batch), (segment.steps, segment.batch), "the segment of the last forward pass");
        assert_eq!(d_output.len(), segment.rows() * self.output_size(), "d_output is [T, B, output]");
        let is_copied = tape.begin_backward(&self.config, &self.layers, segment, d_output, d_final);
        tape.d_input.resize(input.len());
        // The first gradient of the input replaces what the buffer held, later ones are added to it.
        let mut to_input = Start::Zero;
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let (below, own) = tape.layers.split_at_mut(index);
            let (d_below, d_own) = tape.gradients.split_at_mut(index);
            let (own, d_own) = (&mut own[0], &mut d_own[0]);
            layer.join_backward(segment, own, d_own);
            let d_hidden = if index + 1 < self.layers.len() || is_copied { &d_own.hidden[..] } else { d_output };
            let d_gate = (self.config.readout == Readout::OutputGate).then_some(&d_own.gate[..]);
            let mut to_hidden = Start::Zero;
            let d_input = GradientSum { values: &mut tape.d_input, start: &mut to_input };
            let to = match d_below.last_mut() {
                None => DBelow { input: None, hidden: d_input, gate: None },
                Some(LayerGradient { hidden, gate }) => {
                    hidden.resize(segment.rows() * self.layers[index - 1].output_width());
                    let hidden = GradientSum { values: hidden, start: &mut to_hidden };
                    DBelow { input: Some(d_input), hidden, gate: d_gate.is_some().then_some(&mut gate[..]) }
                }
            };
            let (below, state) = (Below::of(input, below), &mut tape.state_gradient);
            let reaching = ReachingLayer { d_hidden, d_gate, state };
            layer.backward(params, below, segment, reaching, to, own, gradients, accumulate);
            complete(self.starts[index], gradients);
        }
    }

    /// Appends one step of this stack to `plan`, its weights packed.
    ///
    /// # Errors
    /// Two directions: the second one begins at an end that a stream does not have.
    pub(crate) fn plan_step(
        &self,
        params: ParamsRef,
        plan: &mut StepPlan,
        clamps: bool,
    ) -> Result<StepColumns, ConfigError> {
        if self.config.bidirectional {
            let why = "a bidirectional LSTM needs the whole sequence; it cannot be run step by step";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        let columns: Vec<_> = self.layers.iter().map(|layer| layer.plan_columns(plan, clamps)).collect();
        let input = columns[0].input;
        self.layers.iter().zip(&columns).for_each(|(layer, own)| layer.plan_input(plan, input, *own));
        let (mut output, mut gates) = (input, Vec::new());
        for (index, layer) in self.layers.iter().enumerate() {
            let next = self.layers.get(index + 1).zip(columns.get(index + 1).copied());
            let above = match next {
                Some((next, columns)) => next.hidden_below(columns),
                None => plan.buffer(layer.output_width()),
            };
            let (readout, own_gates) = layer.plan_step(params, plan, columns[index], above, next);
            output = readout;
            gates.push(own_gates);
        }
        let (h, c) = columns.iter().map(|columns| (columns.h, columns.c)).unzip();
        let clamps = columns.iter().filter_map(|columns| columns.clamps).collect();
        Ok(StepColumns { input, output, h, c, gates, clamps })
    }

    /// Asserts the shapes of a forward pass.
    fn check(&self, input: &[f32], segment: Segment, state: &State) {
        assert_eq!(input.len(), segment.rows() * self.config.input, "input is [T, B, I]");
        assert_eq!(state.batch(), segment.batch, "the state has a row for every row of the batch");
        if let Some(lengths) = segment.lengths {
            assert_eq!(lengths.len(), segment.batch, "one length for every row");
            assert!(lengths.iter().all(|&length| length <= segment.steps), "no length exceeds T");
        }
    }
}

impl<'a> Below<'a> {
    /// The output of the last of the layers `below`, or the stack's input.
    fn of(input: &'a [f32], below: &'a [LayerTape]) -> Self {
        let last = below.last();
        Self { input, hidden: last.map_or(input, LayerTape::hidden), readout: last.map_or(input, LayerTape::readout) }
    }
}
