//! The values that a stack's pass forward leaves behind, and the gradients on its way back.

use lstm_kernels::Aligned;

use crate::nn::config::{LstmConfig, Readout};
use crate::nn::layer::{Layer, LayerGradient, LayerTape};
use crate::nn::segment::Segment;
use crate::nn::state::State;

/// The values that a forward pass leaves behind: outputs, all states and gates, and what the backward pass needs. Sized at its
/// first use and reused: passes over segments of the same shape allocate nothing.
#[derive(Clone, Debug)]
pub struct Tape {
    pub(super) frozen: bool,
    pub(super) layers: Vec<LayerTape>,
    /// The gradients of what each layer gives to the one above, or to the reader of the stack.
    pub(super) gradients: Vec<LayerGradient>,
    pub(super) d_input: Aligned,
    pub(super) state_gradient: State,
    pub(super) steps: usize,
    pub(super) batch: usize,
}

impl Tape {
    /// An empty one for these layers; `frozen`: of parameters that stay as they are.
    pub(super) fn new(layers: &[Layer], config: &LstmConfig, frozen: bool) -> Self {
        Self {
            frozen,
            layers: layers.iter().map(Layer::tape).collect(),
            gradients: vec![LayerGradient::default(); layers.len()],
            d_input: Aligned::new(),
            state_gradient: State::zeros(config, 0),
            steps: 0,
            batch: 0,
        }
    }

    /// Gives the gradient of the final state its start, and that of the last layer if it must be another than d_output,
    /// which is then said.
    pub(super) fn begin_backward(
        &mut self,
        config: &LstmConfig,
        layers: &[Layer],
        segment: Segment,
        d_output: &[f32],
        d_final: Option<&State>,
    ) -> bool {
        match d_final {
            Some(state) => self.state_gradient.clone_from(state),
            None if self.state_gradient.batch() == segment.batch => self.state_gradient.reset(),
            None => self.state_gradient = State::zeros(config, segment.batch),
        }
        let gate_is_read = config.readout == Readout::OutputGate;
        if gate_is_read {
            for (layer, gradient) in layers.iter().zip(&mut self.gradients) {
                zeroed(&mut gradient.gate, segment.rows() * layer.gate_width());
            }
        }
        let is_copied = gate_is_read || segment.lengths.is_some();
        if let Some((last, layer)) = self.gradients.last_mut().zip(layers.last()).filter(|_| is_copied) {
            zeroed(&mut last.hidden, segment.rows() * layer.output_width());
            let target = if gate_is_read { &mut last.gate } else { &mut last.hidden };
            target.copy_from_slice(d_output);
            segment.clear_masked(target);
        }
        is_copied
    }

    /// The output of the last forward pass: `[T, B, output_size]`, zero where masked.
    pub fn output(&self) -> &[f32] {
        self.layers.last().map_or(&[], LayerTape::readout)
    }

    /// The hidden states of one layer and direction after each step: `[T, B, R]`; a masked row keeps its last.
    pub fn hidden(&self, layer: usize, direction: usize) -> &[f32] {
        self.layers[layer].direction(direction).hidden()
    }

    /// The cell states of one layer and direction after each step: `[T, B, H]`; a masked row keeps its last.
    pub fn cell(&self, layer: usize, direction: usize) -> &[f32] {
        self.layers[layer].direction(direction).cell()
    }

    /// The activated gates i, f, g, o of one layer and direction: `[T, B, 4H]`, zero where masked; f, g, o and `[T, B, 3H]` if
    /// they are coupled. A backward pass overwrites them with their gradients.
    pub fn gates(&self, layer: usize, direction: usize) -> &[f32] {
        self.layers[layer].direction(direction).gates()
    }

    /// The gradient of the hidden states that a layer gives on, after a backward pass: `[T, B, D·R]`. `output`: that of the stack's output,
    /// which is the last layer's where its hidden states are read.
    pub(crate) fn d_hidden<'a>(&'a self, layer: usize, output: Option<&'a [f32]>) -> &'a [f32] {
        let own = &self.gradients[layer].hidden;
        output.filter(|_| own.is_empty()).unwrap_or(own)
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
}

/// Resizes and zeroes.
fn zeroed(values: &mut Aligned, len: usize) {
    values.resize(len);
    values.fill(0.0);
}
