//! Any number of layers: their wiring, their directions, dropout between them.

use std::sync::Arc;

use lstm_kernels::{Aligned, CellWeights, Columns, Matrix, MatrixMut, Start, StepPlan, column_sums, product};

use crate::nn::config::{ConfigError, Init, InitScheme, LstmConfig, Readout, Wiring};
use crate::nn::dropout::{self, Dropout, layer_place};
use crate::nn::layer::{Layer, LayerTape, Reaching};
use crate::nn::params::{Accumulate, Layout, Params, Slot};
use crate::nn::segment::Segment;
use crate::nn::state::State;

/// The most floats a slab of scores between layers holds (4 MiB): scores are made, used and forgotten slab by slab, so
/// a vocabulary of any size needs no `T·B·V` floats.
const SLAB: usize = 1 << 20;

/// An LSTM of any number of layers, in one or two directions.
///
/// It holds no values: parameters, states and the tape are the caller's.
#[derive(Clone, Debug)]
pub struct Lstm {
    config: LstmConfig,
    layout: Arc<Layout>,
    layers: Vec<Vec<Layer>>,
    /// The scores each layer but the last emits, in the `scores` wiring: weight `[S, output]` and bias `[S]`.
    scores: Vec<(Slot, Slot)>,
}

/// What a forward pass leaves behind: outputs, all states and gates, and what the backward pass needs. Sized at its
/// first use and reused: passes over segments of the same shape allocate nothing.
#[derive(Clone, Debug)]
pub struct Tape {
    /// Whose passes it holds: what the readers below need of it.
    lstm: Lstm,
    frozen: bool,
    layers: Vec<Vec<LayerTape>>,
    above: Vec<LayerOutput>,
    d_above: Vec<OutputGradient>,
    slab: Aligned,
    d_slab: Aligned,
    d_direction: Aligned,
    d_gate_direction: Aligned,
    d_input: Aligned,
    state_gradient: State,
    steps: usize,
    batch: usize,
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
}

/// What one layer gives to the layer above or to the reader of the stack.
#[derive(Clone, Debug, Default)]
struct LayerOutput {
    /// `[T, B, D·R]`: the hidden states of both directions, zero where masked, after dropout; where none of this
    /// changes anything they stay in the layer's tape.
    hidden: Aligned,
    is_copied: bool,
    /// `[T, B, D·H]`: the output gates, likewise; empty for the `hidden` readout.
    gate: Aligned,
    hidden_mask: Vec<f32>,
    gate_mask: Vec<f32>,
}

/// The gradient of a [`LayerOutput`].
#[derive(Clone, Debug, Default)]
struct OutputGradient {
    /// `[T, B, D·R]`.
    hidden: Aligned,
    /// `[T, B, D·H]`, if the output gates are read.
    gate: Aligned,
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
        config.validate()?;
        let mut layers = Vec::new();
        let mut scores = Vec::new();
        for layer in 0..config.layers {
            let directions = [false, true].into_iter().take(config.directions());
            layers.push(directions.map(|reverse| Layer::in_layout(&config, layer, reverse, prefix, layout)).collect());
            if let Wiring::Scores { size } = config.wiring
                && layer + 1 < config.layers
            {
                let weight = layout.add(format!("{prefix}weight_score_l{layer}"), &[size, config.layer_output(layer)]);
                let bias = layout.add(format!("{prefix}bias_score_l{layer}"), &[size]);
                scores.push((weight, bias));
            }
        }
        Ok(Self { config, layout: Arc::new(Layout::default()), layers, scores })
    }

    /// The configuration.
    pub fn config(&self) -> &LstmConfig {
        &self.config
    }

    /// The layout of the parameters. Empty for an LSTM made by [`Lstm::in_layout`]: the larger model has it.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
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
        Tape {
            lstm: self.clone(),
            frozen: false,
            layers: self.layers.iter().map(|layer| vec![LayerTape::default(); layer.len()]).collect(),
            above: vec![LayerOutput::default(); self.config.layers],
            d_above: vec![OutputGradient::default(); self.config.layers],
            slab: Aligned::new(),
            d_slab: Aligned::new(),
            d_direction: Aligned::new(),
            d_gate_direction: Aligned::new(),
            d_input: Aligned::new(),
            state_gradient: self.state(0),
            steps: 0,
            batch: 0,
        }
    }

    /// A tape for inference: the recurrent weights are packed at its first use and never again, so every call must
    /// bring the same parameters. One step at a time, a [`Stream`](crate::nn::stream::Stream) is faster still.
    pub fn frozen_tape(&self) -> Tape {
        Tape { frozen: true, ..self.tape() }
    }

    /// Sets initial values as `init` says, from the run's `seed`.
    pub fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        let fan_in = |size: usize| 1.0 / (size as f32).sqrt();
        for (index, layer) in self.layers.iter().enumerate() {
            let hidden = self.config.hidden.of(index);
            for direction in layer {
                let bounds = |size: usize| match init.scheme {
                    InitScheme::Torch => fan_in(hidden),
                    InitScheme::Uniform(a) => a,
                    InitScheme::OnesBias => fan_in(size),
                };
                params.fill_uniform(direction.weight_ih, bounds(self.config.layer_input(index)), seed);
                params.fill_uniform(direction.weight_hh, bounds(self.config.recurrent(index)), seed);
                if let Some(slot) = direction.weight_hr {
                    params.fill_uniform(slot, bounds(hidden), seed);
                }
                for slot in [direction.bias_ih, direction.bias_hh] {
                    match init.scheme {
                        InitScheme::OnesBias => params.get_mut(slot).fill(1.0),
                        _ => params.fill_uniform(slot, bounds(1), seed),
                    }
                    if let Some(sum) = init.forget_bias {
                        // The forget gate is the third from the last, whether or not an input gate is before it.
                        let first = direction.width() - 3 * hidden;
                        params.get_mut(slot)[first..first + hidden].fill(sum / 2.0);
                    }
                }
                let Some(own) = &direction.variant else { continue };
                if let Some(slot) = own.peepholes {
                    params.fill_uniform(slot, bounds(hidden), seed);
                }
                if let Some(norm) = own.norm {
                    for gain in [norm.gain_ih, norm.gain_hh, norm.gain_cell] {
                        params.get_mut(gain).fill(1.0);
                    }
                    params.get_mut(norm.bias_cell).fill(0.0);
                }
            }
        }
        for (index, &(weight, bias)) in self.scores.iter().enumerate() {
            let bound = match init.scheme {
                InitScheme::Uniform(a) => a,
                _ => fan_in(self.config.layer_output(index)),
            };
            params.fill_uniform(weight, bound, seed);
            match init.scheme {
                InitScheme::OnesBias => params.get_mut(bias).fill(1.0),
                _ => params.fill_uniform(bias, bound, seed),
            }
        }
    }

    /// Runs a segment.
    ///
    /// input: `[T, B, I]`; `state`: in the initial state, out the final; `dropout`: on what each layer but the last
    /// gives to the next, and on recurrent weights, in training, where zoneout draws masks; without it zoneout is its
    /// expectation. The outputs are the tape's.
    ///
    /// # Panics
    /// When `input`, `state` or `lengths` do not have the segment's shape.
    pub fn forward(
        &self,
        params: &Params,
        input: &[f32],
        segment: Segment,
        state: &mut State,
        dropout: Option<Dropout>,
        tape: &mut Tape,
    ) {
        let rows = self.check(input, segment, state);
        (tape.steps, tape.batch) = (segment.steps, segment.batch);
        let directions = self.config.directions();
        for (index, layer) in self.layers.iter().enumerate() {
            let (recurrent, hidden) = (self.config.recurrent(index), self.config.hidden.of(index));
            let (below_tapes, tapes) = tape.layers.split_at_mut(index);
            let (below, above) = tape.above.split_at_mut(index);
            let below = below.last().zip(below_tapes.last()).map(|(output, tapes)| {
                let hidden = output.hidden(&self.layers[index - 1], tapes, segment);
                (hidden, output.readout(self.config.readout, hidden))
            });
            let tapes = &mut tapes[0];
            for (direction, part) in layer.iter().enumerate() {
                let part_tape = &mut tapes[direction];
                part.begin(params, segment, part_tape);
                let columns = self.config.layer_input(index);
                match below {
                    None => part.add_input(params, 0..columns, 0..rows, input, true, part_tape),
                    Some((below, readout)) => {
                        let joined = columns - directions * self.config.recurrent(index - 1);
                        part.add_input(params, joined..columns, 0..rows, below, true, part_tape);
                        match self.config.wiring {
                            Wiring::Stacked => {}
                            Wiring::Skip => part.add_input(params, 0..joined, 0..rows, input, false, part_tape),
                            Wiring::Scores { size } => {
                                for slab in slabs(rows, size) {
                                    self.score(params, index - 1, readout, slab.clone(), &mut tape.slab);
                                    part.add_input(params, 0..joined, slab, &tape.slab, false, part_tape);
                                }
                            }
                        }
                    }
                }
                let state_index = index * directions + direction;
                let (h, c) = state.both_mut(state_index);
                part.drop_weights(params, dropout, index, part_tape);
                part.draw_zoneout(dropout, index, segment, part_tape);
                part.recur(params, segment, h, c, tape.frozen, part_tape);
            }
            let output = &mut above[0];
            let dropout = dropout.filter(|dropout| dropout.rate > 0.0 && index + 1 < self.config.layers);
            // One direction's hidden states are read where the recurrence left them, unless they must be changed.
            let below = below.filter(|_| self.config.adds_input(index));
            output.is_copied = directions > 1 || segment.lengths.is_some() || dropout.is_some() || below.is_some();
            if output.is_copied {
                output.hidden.resize(rows * directions * recurrent);
                for (direction, part) in layer.iter().enumerate() {
                    let source = part.hidden(segment, &tapes[direction]);
                    put_columns(&mut output.hidden, directions * recurrent, direction * recurrent, source, recurrent);
                }
                segment.clear_masked(&mut output.hidden);
                if let Some((below, _)) = below {
                    add(&mut output.hidden, below);
                }
            }
            if self.config.readout == Readout::OutputGate {
                output.gate.resize(rows * directions * hidden);
                let width = layer[0].width();
                for (direction, part) in tapes.iter().enumerate() {
                    // The gates of a masked step are zero already.
                    for (row, gates) in part.gates.chunks_exact(width).enumerate() {
                        output.gate[row * directions * hidden + direction * hidden..][..hidden]
                            .copy_from_slice(&gates[width - hidden..]);
                    }
                }
            }
            output.drop(dropout, index, segment.steps);
        }
    }

    /// Runs the last forward pass backward; `gradients` receives those of the parameters as `accumulate` says.
    ///
    /// d_output: `[T, B, output_size]`; `d_final`: the gradient of the final state, if anything depends on it. The
    /// gradients of the input and of the initial state are the tape's. The forward pass's gates are overwritten.
    ///
    /// # Panics
    /// When `input`, `segment` or `d_output` are not those of the last forward pass.
    pub fn backward(
        &self,
        params: &Params,
        input: &[f32],
        segment: Segment,
        d_output: &[f32],
        d_final: Option<&State>,
        tape: &mut Tape,
        gradients: &mut Params,
        accumulate: Accumulate,
    ) {
        let rows = segment.steps * segment.batch;
        assert_eq!((tape.steps, tape.batch), (segment.steps, segment.batch), "the segment of the last forward pass");
        assert_eq!(d_output.len(), rows * self.output_size(), "d_output is [T, B, output]");
        let directions = self.config.directions();
        let gate_read = self.config.readout == Readout::OutputGate;
        if gate_read {
            for (index, gradient) in tape.d_above.iter_mut().enumerate() {
                zeroed(&mut gradient.gate, rows * self.config.layer_output(index));
            }
        }
        // The gradient of the last layer's hidden states is read where the caller left it, unless it must be changed.
        let is_copied = gate_read || segment.lengths.is_some();
        if let Some(last) = tape.d_above.last_mut().filter(|_| is_copied) {
            zeroed(&mut last.hidden, rows * directions * self.config.recurrent(self.layers.len() - 1));
            let target = if gate_read { &mut last.gate } else { &mut last.hidden };
            target.copy_from_slice(d_output);
            segment.clear_masked(target);
        }
        match d_final {
            Some(state) => tape.state_gradient.clone_from(state),
            None if tape.state_gradient.batch() == segment.batch => tape.state_gradient.reset(),
            None => tape.state_gradient = self.state(segment.batch),
        }
        tape.d_input.resize(input.len());
        // The first gradient of the input replaces what the buffer held, later ones are added to it.
        let mut to_input = Accumulate::Replace;
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let (d_below, d_above) = tape.d_above.split_at_mut(index);
            let (below_tapes, tapes) = tape.layers.split_at_mut(index);
            let (d_above, tapes) = (&mut d_above[0], &mut tapes[0]);
            tape.above[index].drop_backward(d_above);
            segment.clear_masked(&mut d_above.hidden);
            let (recurrent, hidden) = (self.config.recurrent(index), self.config.hidden.of(index));
            let d_layer = if index + 1 < self.layers.len() || is_copied { &d_above.hidden } else { d_output };
            let below = tape.above[..index].last().zip(below_tapes.last()).map(|(output, tapes)| {
                let hidden = output.hidden(&self.layers[index - 1], tapes, segment);
                (hidden, output.readout(self.config.readout, hidden))
            });
            let columns = self.config.layer_input(index);
            let width_below = if index == 0 { columns } else { directions * self.config.recurrent(index - 1) };
            let joined = columns - width_below;
            for (direction, part) in layer.iter().enumerate() {
                let part_tape = &mut tapes[direction];
                let (total, first) = (directions * recurrent, direction * recurrent);
                let d_hidden = take_columns(d_layer, total, first, recurrent, &mut tape.d_direction);
                let d_gate = gate_read.then(|| {
                    let width = directions * hidden;
                    take_columns(&d_above.gate, width, direction * hidden, hidden, &mut tape.d_gate_direction)
                });
                let state_index = index * directions + direction;
                let (dh, dc) = tape.state_gradient.both_mut(state_index);
                let reaching = Reaching { d_hidden, d_gate, dh, dc };
                let met = (joined..columns, below.map_or(input, |(hidden, _)| hidden));
                part.recur_backward(params, segment, reaching, met, part_tape, gradients, accumulate);
                let Some(((_, readout), d_below)) = below.zip(d_below.last_mut()) else {
                    part.input_gradient(params, 0..columns, 0..rows, &mut tape.d_input, to_input, part_tape);
                    to_input = Accumulate::Add;
                    continue;
                };
                if direction == 0 {
                    d_below.hidden.resize(rows * width_below);
                }
                let to_below = Accumulate::Replace.part(direction == 0);
                part.input_gradient(params, joined..columns, 0..rows, &mut d_below.hidden, to_below, part_tape);
                match self.config.wiring {
                    Wiring::Stacked => {}
                    Wiring::Skip => {
                        part.input_weight_gradient(0..joined, 0..rows, input, part_tape, gradients, accumulate);
                        part.input_gradient(params, 0..joined, 0..rows, &mut tape.d_input, to_input, part_tape);
                        to_input = Accumulate::Add;
                    }
                    Wiring::Scores { size } => {
                        for slab in slabs(rows, size) {
                            self.score(params, index - 1, readout, slab.clone(), &mut tape.slab);
                            let (at, weights) = (slab.clone(), accumulate.part(slab.start == 0));
                            part.input_weight_gradient(0..joined, at, &tape.slab, part_tape, gradients, weights);
                            tape.d_slab.resize(slab.len() * size);
                            let (at, d_scores) = (slab.clone(), &mut tape.d_slab);
                            part.input_gradient(params, 0..joined, at, d_scores, Accumulate::Replace, part_tape);
                            let d_readout = if gate_read { &mut d_below.gate } else { &mut d_below.hidden };
                            let shared = accumulate.part(slab.start == 0 && direction == 0);
                            let (scores, d_scores) = ((index - 1, slab), &tape.d_slab);
                            self.score_backward(params, scores, readout, d_scores, d_readout, gradients, shared);
                        }
                    }
                }
            }
            if let Some(d_below) = d_below.last_mut().filter(|_| self.config.adds_input(index)) {
                add(&mut d_below.hidden, d_layer);
            }
        }
    }

    /// scores `[rows, S]` = readout `[rows, output]` · Wᵀ + b, for one slab of rows of all `readout`.
    fn score(
        &self,
        params: &Params,
        layer: usize,
        readout: &[f32],
        rows: std::ops::Range<usize>,
        scores: &mut Aligned,
    ) {
        let (weight, bias) = self.scores[layer];
        let (bias, width) = (params.get(bias), self.config.layer_output(layer));
        scores.resize(rows.len() * bias.len());
        product(
            MatrixMut::new(scores, rows.len(), bias.len()),
            Start::Bias(bias),
            Matrix::new(&readout[rows.start * width..rows.end * width], rows.len(), width),
            Matrix::new(params.get(weight), bias.len(), width).transposed(),
        );
    }

    /// The backward pass of [`Lstm::score`]. d_scores: `[rows, S]`; adds to the rows of d_readout `[T·B, output]`.
    fn score_backward(
        &self,
        params: &Params,
        (layer, rows): (usize, std::ops::Range<usize>),
        readout: &[f32],
        d_scores: &[f32],
        d_readout: &mut [f32],
        gradients: &mut Params,
        accumulate: Accumulate,
    ) {
        let (weight, bias) = self.scores[layer];
        let (size, width) = (params.get(bias).len(), self.config.layer_output(layer));
        let part = rows.start * width..rows.end * width;
        let d_scores_matrix = Matrix::new(d_scores, rows.len(), size);
        column_sums(gradients.get_mut(bias), d_scores, accumulate == Accumulate::Add);
        product(
            MatrixMut::new(gradients.get_mut(weight), size, width),
            accumulate.start(),
            d_scores_matrix.transposed(),
            Matrix::new(&readout[part.clone()], rows.len(), width),
        );
        product(
            MatrixMut::new(&mut d_readout[part], rows.len(), width),
            Start::Out,
            d_scores_matrix,
            Matrix::new(params.get(weight), size, width),
        );
    }

    /// Appends one step of this stack to `plan`, its weights packed.
    ///
    /// # Errors
    /// Two directions: the second one begins at an end that a stream does not have.
    pub(crate) fn plan_step(&self, params: &Params, plan: &mut StepPlan) -> Result<StepColumns, ConfigError> {
        if self.config.bidirectional {
            let why = "a bidirectional LSTM needs the whole sequence; it cannot be run step by step";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        let LstmConfig { layers, ref hidden, .. } = self.config;
        let recurrent = |layer| self.config.recurrent(layer);
        let sizes: Vec<usize> = (0..layers).map(|layer| self.config.layer_input(layer)).collect();
        // The input of each layer beside its hidden state before.
        let joined: Vec<Columns> = (0..layers).map(|layer| plan.buffer(sizes[layer] + recurrent(layer))).collect();
        let state = |layer: usize| joined[layer].part(sizes[layer]..sizes[layer] + recurrent(layer));
        let h: Vec<Columns> = (0..layers).map(state).collect();
        let c: Vec<Columns> = (0..layers).map(|layer| plan.buffer(hidden.of(layer))).collect();
        let input = joined[0].part(0..self.config.input);
        let mut output = plan.buffer(recurrent(layers - 1));
        if self.config.wiring == Wiring::Skip {
            joined[1..].iter().for_each(|joined| plan.carry(input, joined.part(0..self.config.input)));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let (layer, hidden, recurrent) = (&layer[0], hidden.of(index), recurrent(index));
            let next = joined.get(index + 1).zip(sizes.get(index + 1));
            let above = next.map_or(output, |(joined, &size)| joined.part(size - recurrent..size));
            // What recurs, if it is not what is given on.
            let own = if self.config.adds_input(index) { plan.buffer(recurrent) } else { above };
            let weights = CellWeights {
                weight_ih: params.get(layer.weight_ih),
                weight_hh: params.get(layer.weight_hh),
                bias_ih: params.get(layer.bias_ih),
                bias_hh: params.get(layer.bias_hh),
                hidden,
            };
            let (cells, joined) = (c[index], joined[index]);
            let plan_cells = |plan: &mut StepPlan, out: Columns| match &layer.variant {
                Some(own) => layer.plan_variant(own, params, plan, joined, cells, out),
                None => plan.cells(weights, joined, cells, out),
            };
            let gates = match layer.weight_hr {
                None => plan_cells(plan, own),
                Some(weight_hr) => {
                    let raw = plan.buffer(hidden);
                    let gates = plan_cells(plan, raw);
                    plan.linear(params.get(weight_hr), None, raw, own);
                    gates
                }
            };
            if self.config.variant.zoneout.hidden > 0.0 {
                plan.blend(own, h[index], self.config.variant.zoneout.hidden);
            }
            plan.carry(own, h[index]);
            if self.config.adds_input(index) {
                plan.sum(own, joined.part(0..sizes[index]), above);
            }
            let readout = match self.config.readout {
                Readout::Hidden => above,
                Readout::OutputGate => gates.part(layer.width() - hidden..layer.width()),
            };
            match next {
                None => output = readout,
                Some((joined, _)) => {
                    if let Wiring::Scores { size } = self.config.wiring {
                        let (weight, bias) = self.scores[index];
                        plan.linear(params.get(weight), Some(params.get(bias)), readout, joined.part(0..size));
                    }
                }
            }
        }
        Ok(StepColumns { input, output, h, c })
    }

    /// Asserts the shapes of a forward pass and gives T·B.
    fn check(&self, input: &[f32], segment: Segment, state: &State) -> usize {
        let rows = segment.steps * segment.batch;
        assert_eq!(input.len(), rows * self.config.input, "input is [T, B, I]");
        assert_eq!(state.batch(), segment.batch, "the state has a row for every row of the batch");
        if let Some(lengths) = segment.lengths {
            assert_eq!(lengths.len(), segment.batch, "one length for every row");
            assert!(lengths.iter().all(|&length| length <= segment.steps), "no length exceeds T");
        }
        rows
    }
}

impl LayerOutput {
    /// The hidden states of a layer as the layer above and the reader of the stack see them: `[T, B, D·R]`.
    fn hidden<'a>(&'a self, layer: &[Layer], tapes: &'a [LayerTape], segment: Segment) -> &'a [f32] {
        if self.is_copied { &self.hidden } else { layer[0].hidden(segment, &tapes[0]) }
    }

    /// What is read out of the layer, if `hidden` are its hidden states.
    fn readout<'a>(&'a self, readout: Readout, hidden: &'a [f32]) -> &'a [f32] {
        match readout {
            Readout::Hidden => hidden,
            Readout::OutputGate => &self.gate,
        }
    }

    /// Applies fresh masks, or none.
    fn drop(&mut self, dropout: Option<Dropout>, layer: usize, steps: usize) {
        self.hidden_mask.clear();
        self.gate_mask.clear();
        let Some(dropout) = dropout else { return };
        dropout.apply(layer_place(layer, 0), steps, &mut self.hidden, &mut self.hidden_mask);
        if !self.gate.is_empty() {
            dropout.apply(layer_place(layer, 1), steps, &mut self.gate, &mut self.gate_mask);
        }
    }

    /// Applies the masks of the forward pass to the gradients.
    fn drop_backward(&self, gradient: &mut OutputGradient) {
        dropout::apply(&mut gradient.hidden, &self.hidden_mask);
        dropout::apply(&mut gradient.gate, &self.gate_mask);
    }
}

impl Tape {
    /// The output of the last forward pass: `[T, B, output_size]`, zero where masked.
    pub fn output(&self) -> &[f32] {
        let Some((output, tapes)) = self.above.last().zip(self.layers.last()) else { return &[] };
        let layer = &self.lstm.layers[self.layers.len() - 1];
        let hidden = output.hidden(layer, tapes, self.segment());
        output.readout(self.lstm.config.readout, hidden)
    }

    /// The hidden states of one layer and direction after each step: `[T, B, R]`; a masked row keeps its last.
    pub fn hidden(&self, layer: usize, direction: usize) -> &[f32] {
        self.lstm.layers[layer][direction].hidden(self.segment(), &self.layers[layer][direction])
    }

    /// The cell states of one layer and direction after each step: `[T, B, H]`; a masked row keeps its last.
    pub fn cell(&self, layer: usize, direction: usize) -> &[f32] {
        self.lstm.layers[layer][direction].cell(self.segment(), &self.layers[layer][direction])
    }

    /// The activated gates i, f, g, o of one layer and direction: `[T, B, 4H]`, zero where masked; f, g, o and `[T, B, 3H]` if
    /// they are coupled. A backward pass overwrites them with their gradients.
    pub fn gates(&self, layer: usize, direction: usize) -> &[f32] {
        &self.layers[layer][direction].gates
    }

    /// The gradient of the input after a backward pass: `[T, B, I]`.
    pub fn d_input(&self) -> &[f32] {
        &self.d_input
    }

    /// The gradient of the input, to change it before it goes on.
    pub(crate) fn d_input_mut(&mut self) -> &mut [f32] {
        &mut self.d_input
    }

    /// The gradient of the initial state after a backward pass.
    pub fn d_initial(&self) -> &State {
        &self.state_gradient
    }

    fn segment(&self) -> Segment<'static> {
        Segment { steps: self.steps, batch: self.batch, lengths: None }
    }
}

/// The rows `0..rows` in slabs whose scores, `size` a row, stay within [`SLAB`] floats.
fn slabs(rows: usize, size: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let step = (SLAB / size).max(1);
    (0..rows).step_by(step).map(move |start| start..rows.min(start + step))
}

/// Writes `source: [rows, width]` into the columns of `out: [rows, total]` that start at `first`.
fn put_columns(out: &mut [f32], total: usize, first: usize, source: &[f32], width: usize) {
    if total == width {
        out.copy_from_slice(source);
        return;
    }
    for (row, source) in out.chunks_exact_mut(total).zip(source.chunks_exact(width)) {
        row[first..first + width].copy_from_slice(source);
    }
}

/// The columns of `source: [rows, total]` that start at `first`, as `[rows, width]`; copied only if there are others.
fn take_columns<'a>(source: &'a [f32], total: usize, first: usize, width: usize, copy: &'a mut Aligned) -> &'a [f32] {
    if total == width {
        return source;
    }
    copy.resize(source.len() / total * width);
    for (to, row) in copy.chunks_exact_mut(width).zip(source.chunks_exact(total)) {
        to.copy_from_slice(&row[first..first + width]);
    }
    copy
}

/// Adds `values` to `sums`.
fn add(sums: &mut [f32], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

/// Resizes and zeroes.
fn zeroed(values: &mut Aligned, len: usize) {
    values.resize(len);
    values.fill(0.0);
}
