//! A network's forward pass, through this library's own LSTM, or gate by gate where its cells are others.

use lstm_kernels::{Matrix, MatrixMut, Start, log_sum_exp, product, product_with_bias};

use super::{Activation, Linear, Mixture, Network, NetworkError, Reads, Stack, functions};
use crate::nn::segment::Segment;
use crate::nn::state::State;
use crate::said::count;

/// What a network reads in a segment.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Tokens `[T, B]`, for a network with an embedding.
    Tokens(&'a [u32]),
    /// Vectors `[T, B, I]`.
    Vectors(&'a [f32]),
}

/// What a network gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// What the last stack gives: `[T, B, ·]`, zero past a row's length.
    pub hidden: Vec<f32>,
    /// What the readouts give, `[T, B, O]`, or `[B, O]` of a network that reads the final state; without readouts what
    /// they would have read.
    pub values: Vec<f32>,
}

impl Network {
    /// Runs a segment. states: of each stack, in the initial, out the final.
    ///
    /// # Errors
    /// Input or states that do not have the network's sizes, a token that is no row of its embedding.
    pub fn forward(&self, input: Input, segment: Segment, states: &mut [State]) -> Result<Output, NetworkError> {
        let rows = segment.steps * segment.batch;
        let unfit = |why: String| Err(NetworkError::Unfit(why));
        if states.len() != self.stacks.len() || states.iter().any(|state| state.batch() != segment.batch) {
            return unfit(format!(
                "the states are not those of {} over {}",
                count(self.stacks.len(), "LSTM"),
                count(segment.batch, "row")
            ));
        }
        let mut values = match (input, &self.embedding) {
            (Input::Tokens(tokens), Some(embedding)) => {
                if tokens.len() != rows {
                    return unfit(format!(
                        "the input has {} for {}",
                        count(tokens.len(), "token"),
                        count(rows, "position")
                    ));
                }
                let mut values = Vec::with_capacity(rows * embedding.size);
                for &token in tokens {
                    if token as usize >= embedding.vocabulary {
                        return unfit(format!("token {token} is no row of an embedding of {}", embedding.vocabulary));
                    }
                    values.extend_from_slice(&embedding.weight[token as usize * embedding.size..][..embedding.size]);
                }
                values
            }
            (Input::Tokens(_), None) => return unfit("the network has no embedding: it reads vectors".to_owned()),
            (Input::Vectors(values), _) => {
                if values.len() != rows * self.input_size() {
                    let size = self.input_size();
                    return unfit(format!(
                        "the input has {} for {} of {size}",
                        count(values.len(), "value"),
                        count(rows, "vector")
                    ));
                }
                values.to_vec()
            }
        };
        for (stack, state) in self.stacks.iter().zip(&mut *states) {
            if stack.reverse {
                values = reversed(&values, segment);
            }
            values = stack.forward(&values, segment, state);
            if stack.reverse {
                values = reversed(&values, segment);
            }
        }
        let hidden = values.clone();
        if self.reads == Reads::Final {
            values = self.final_state(&states[states.len() - 1]);
        }
        match (&self.mixture, &self.readouts[..]) {
            (Some(mixture), [readout]) => values = mixture.forward(&values, readout),
            _ => self.readouts.iter().for_each(|readout| values = readout.forward(&values)),
        }
        Ok(Output { hidden, values })
    }

    /// `[B, D·R]`: the final hidden state of the last layer, both directions joined.
    fn final_state(&self, state: &State) -> Vec<f32> {
        let Some(config) = self.stacks.last().map(|stack| stack.config()) else { return Vec::new() };
        let (directions, size) = (config.directions(), config.recurrent(config.layers - 1));
        let first = (config.layers - 1) * directions;
        let mut values = Vec::with_capacity(state.batch() * directions * size);
        for row in 0..state.batch() {
            for direction in 0..directions {
                values.extend_from_slice(&state.both(first + direction).0[row * size..][..size]);
            }
        }
        values
    }
}

impl Stack {
    /// x: `[T, B, I]`; state: in the initial, out the final; gives what the last layer does, `[T, B, ·]`.
    fn forward(&self, x: &[f32], segment: Segment, state: &mut State) -> Vec<f32> {
        if let Some(functions) = &self.functions {
            return functions::forward(self, functions, x, segment, state);
        }
        let mut tape = self.lstm.frozen_tape();
        self.lstm.forward(&self.params, x, segment, state, None, &mut tape);
        tape.output().to_vec()
    }
}

impl Linear {
    /// x: `[rows, I]`; gives `[rows, O]`.
    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut values = linear(x, &self.weight, [self.output, self.input], self.bias.as_deref());
        self.activation.apply(&mut values, self.output);
        values
    }
}

impl Mixture {
    /// x: `[rows, O]`; gives the logarithms of probabilities, `[rows, V]`.
    fn forward(&self, x: &[f32], readout: &Linear) -> Vec<f32> {
        let (softmaxes, output) = (self.softmaxes, self.prior.len() / self.softmaxes.max(1));
        let mut shares = linear(x, &self.prior, [softmaxes, output], None);
        Activation::LogSoftmax.apply(&mut shares, softmaxes);
        let mut latent = linear(x, &self.latent, [self.latent.len() / output.max(1), output], None);
        lstm_kernels::tanh(&mut latent);
        let mut scores = readout.forward(&latent);
        Activation::LogSoftmax.apply(&mut scores, readout.output);
        let mut values = Vec::with_capacity(scores.len() / softmaxes.max(1));
        let mut weighed = vec![0.0; softmaxes];
        for (scores, shares) in scores.chunks_exact(softmaxes * readout.output).zip(shares.chunks_exact(softmaxes)) {
            for token in 0..readout.output {
                for (softmax, weighed) in weighed.iter_mut().enumerate() {
                    *weighed = shares[softmax] + scores[softmax * readout.output + token];
                }
                values.push(log_sum_exp(&weighed, 1.0) as f32);
            }
        }
        values
    }
}

/// x: `[rows, I]`, weight: `[O, I]`; gives `[rows, O]`.
fn linear(x: &[f32], weight: &[f32], [output, input]: [usize; 2], bias: Option<&[f32]>) -> Vec<f32> {
    let rows = x.len() / input.max(1);
    let mut values = vec![0.0; rows * output];
    let weight = Matrix::new(weight, output, input).transposed();
    let (out, x) = (MatrixMut::new(&mut values, rows, output), Matrix::new(x, rows, input));
    match bias {
        Some(bias) => product_with_bias(out, bias, x, weight),
        None => product(out, Start::Zero, x, weight),
    }
    values
}

impl Activation {
    /// Over rows of `width` values.
    fn apply(self, values: &mut [f32], width: usize) {
        match self {
            Self::Linear => {}
            Self::Relu => values.iter_mut().for_each(|value| *value = value.max(0.0)),
            Self::Tanh => lstm_kernels::tanh(values),
            Self::Sigmoid => values.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp())),
            Self::Softmax | Self::LogSoftmax => {
                for row in values.chunks_exact_mut(width.max(1)) {
                    let total = log_sum_exp(row, 1.0) as f32;
                    row.iter_mut().for_each(|value| *value -= total);
                    if self == Self::Softmax {
                        row.iter_mut().for_each(|value| *value = value.exp());
                    }
                }
            }
        }
    }
}

/// Every row of `values: [T, B, ·]` from its last step to its first; what is past its length stays.
fn reversed(values: &[f32], segment: Segment) -> Vec<f32> {
    let Segment { steps, batch, lengths, .. } = segment;
    let width = values.len() / (steps * batch).max(1);
    let mut turned = values.to_vec();
    for row in 0..batch {
        let length = lengths.map_or(steps, |lengths| lengths[row]);
        for step in 0..length {
            let (from, to) = ((step * batch + row) * width, ((length - 1 - step) * batch + row) * width);
            turned[to..to + width].copy_from_slice(&values[from..from + width]);
        }
    }
    turned
}
