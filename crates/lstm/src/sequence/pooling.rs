//! Pooling: the steps of a sequence become one vector. Forward and backward over a packed batch, whose row r has its step t at
//! `starts[t] + r`.

use std::ops::Range;

use lstm_kernels::{Matrix, MatrixMut, Start, column_sums, product, product_with_bias, tanh, tanh_backward};
use serde::{Deserialize, Serialize};

use crate::named::named;
use crate::nn::config::Init;
use crate::nn::params::{Layout, Params, Slot};

/// How the steps of a sequence become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The hidden state after the last step; of the reverse direction after the first.
    Last,
    /// The mean of all steps.
    Mean,
    /// The largest value of each unit over all steps.
    #[default]
    Max,
    /// A mean by weights that are learned: `softmax over t of v · tanh(W h_t + b)` (Bahdanau 2015; Yang 2016).
    Attention,
    /// The last, the mean and the largest, one behind the other (Howard & Ruder 2018).
    Concat,
}

named!(
    Pooling, "pooling",
    "last" => Last, "mean" => Mean, "max" => Max, "attention" => Attention, "concat" => Concat,
);

/// A batch of sequences, longest first: where each step's rows begin and where the last's end, T + 1 numbers; and the length of each row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed<'a> {
    pub(crate) starts: &'a [usize],
    pub(crate) lengths: &'a [usize],
}

impl Packed<'_> {
    /// The places of the steps of row `row`.
    fn steps(self, row: usize) -> impl DoubleEndedIterator<Item = usize> {
        self.starts[..self.lengths[row]].iter().map(move |start| start + row)
    }

    /// N, the steps of all rows.
    fn len(self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }
}

/// Pools hidden states of `width`, of which the first `forward` are of the forward direction.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    kind: Pooling,
    width: usize,
    forward: usize,
    attention: Option<Attention>,
}

/// The parameters of attention: W `[A, width]`, b `[A]`, v `[A]`, with A = width.
#[derive(Clone, Copy, Debug)]
struct Attention {
    weight: Slot,
    bias: Slot,
    vector: Slot,
}

/// The values that a forward pass leaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolTape {
    /// `[B, pooled]`.
    pub(crate) pooled: Vec<f32>,
    /// `[B, width]`: where each unit was largest.
    places: Vec<u32>,
    /// `[N, A]`: tanh(W h + b).
    hidden: Vec<f32>,
    /// `[N]`: the weights of attention.
    pub(crate) weights: Vec<f32>,
    d_hidden: Vec<f32>,
    d_scores: Vec<f32>,
}

impl Pool {
    /// Adds its parameters, if it has any, to `layout`.
    pub(crate) fn in_layout(kind: Pooling, width: usize, directions: usize, layout: &mut Layout) -> Self {
        let attention = (kind == Pooling::Attention).then(|| Attention {
            weight: layout.add("attention.weight", &[width, width]),
            bias: layout.add("attention.bias", &[width]),
            vector: layout.add("attention.vector", &[width]),
        });
        Self { kind, width, forward: width / directions.max(1), attention }
    }

    /// The size of what is pooled.
    pub(crate) fn size(&self) -> usize {
        if self.kind == Pooling::Concat { 3 * self.width } else { self.width }
    }

    /// Sets initial values.
    pub(crate) fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        let Some(Attention { weight, bias, vector }) = self.attention else { return };
        let bound = init.linear_bound(self.width);
        for slot in [weight, bias, vector] {
            params.fill_uniform(slot, bound, seed);
        }
    }

    /// hidden states `[N, width]` → `tape.pooled: [B, size]`.
    pub(crate) fn forward(&self, params: &Params, states: &[f32], packed: Packed, tape: &mut PoolTape) {
        let (rows, width, size) = (packed.lengths.len(), self.width, self.size());
        tape.pooled.clear();
        tape.pooled.resize(rows * size, 0.0);
        tape.weights.clear();
        match self.kind {
            Pooling::Last => self.last(states, packed, size, tape),
            Pooling::Mean => mean(states, packed, width, 0..width, &mut tape.pooled),
            Pooling::Max => max(states, packed, width, 0..width, tape),
            Pooling::Attention => self.attend(params, states, packed, tape),
            Pooling::Concat => {
                self.last(states, packed, size, tape);
                mean(states, packed, width, width..2 * width, &mut tape.pooled);
                max(states, packed, width, 2 * width..3 * width, tape);
            }
        }
    }

    /// d_pooled `[B, size]` → d_states `[N, width]`, which it replaces; the gradients of its own parameters too.
    pub(crate) fn backward(
        &self,
        params: &Params,
        states: &[f32],
        packed: Packed,
        d_pooled: &[f32],
        d_states: &mut [f32],
        tape: &mut PoolTape,
        gradients: &mut Params,
    ) {
        d_states.fill(0.0);
        let (width, size) = (self.width, self.size());
        match self.kind {
            Pooling::Last => self.last_backward(packed, d_pooled, d_states),
            Pooling::Mean => mean_backward(packed, width, 0..width, d_pooled, d_states),
            Pooling::Max => max_backward(width, size, 0, d_pooled, &tape.places, d_states),
            Pooling::Attention => self.attend_backward(params, states, packed, d_pooled, d_states, tape, gradients),
            Pooling::Concat => {
                self.last_backward(packed, d_pooled, d_states);
                mean_backward(packed, width, width..2 * width, d_pooled, d_states);
                max_backward(width, size, 2 * width, d_pooled, &tape.places, d_states);
            }
        }
    }

    /// The places of a row's last forward and last reverse state.
    fn ends(packed: Packed, row: usize) -> [usize; 2] {
        let last = packed.lengths[row].max(1) - 1;
        [packed.starts[last] + row, packed.starts[0] + row]
    }

    fn last(&self, states: &[f32], packed: Packed, size: usize, tape: &mut PoolTape) {
        for (row, pooled) in tape.pooled.chunks_exact_mut(size).enumerate() {
            let [end, first] = Self::ends(packed, row);
            pooled[..self.forward].copy_from_slice(&states[end * self.width..][..self.forward]);
            let reverse = &states[first * self.width..][self.forward..self.width];
            pooled[self.forward..self.width].copy_from_slice(reverse);
        }
    }

    fn last_backward(&self, packed: Packed, d_pooled: &[f32], d_states: &mut [f32]) {
        for (row, d) in d_pooled.chunks_exact(self.size()).enumerate() {
            let [end, first] = Self::ends(packed, row);
            add(&mut d_states[end * self.width..][..self.forward], &d[..self.forward]);
            add(&mut d_states[first * self.width..][self.forward..self.width], &d[self.forward..self.width]);
        }
    }

    fn attend(&self, params: &Params, states: &[f32], packed: Packed, tape: &mut PoolTape) {
        let Some(Attention { weight, bias, vector }) = self.attention else { return };
        let (steps, width) = (packed.len(), self.width);
        let PoolTape { pooled, hidden, weights, .. } = tape;
        hidden.resize(steps * width, 0.0);
        weights.resize(steps, 0.0);
        let weight = Matrix::new(params.get(weight), width, width);
        let x = Matrix::new(states, steps, width);
        product_with_bias(MatrixMut::new(hidden, steps, width), params.get(bias), x, weight.transposed());
        tanh(hidden);
        let vector = params.get(vector);
        for (score, hidden) in weights.iter_mut().zip(hidden.chunks_exact(width)) {
            *score = dot(hidden, vector);
        }
        for (row, pooled) in pooled.chunks_exact_mut(width).enumerate() {
            let highest = packed.steps(row).map(|at| weights[at]).fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for at in packed.steps(row) {
                weights[at] = (weights[at] - highest).exp();
                sum += weights[at];
            }
            for at in packed.steps(row) {
                weights[at] /= sum;
                let share = weights[at];
                pooled.iter_mut().zip(&states[at * width..][..width]).for_each(|(p, h)| *p += share * h);
            }
        }
    }

    fn attend_backward(
        &self,
        params: &Params,
        states: &[f32],
        packed: Packed,
        d_pooled: &[f32],
        d_states: &mut [f32],
        tape: &mut PoolTape,
        gradients: &mut Params,
    ) {
        let Some(Attention { weight, bias, vector }) = self.attention else { return };
        let (steps, width) = (packed.len(), self.width);
        let PoolTape { hidden, weights, d_hidden, d_scores, .. } = tape;
        d_scores.resize(steps, 0.0);
        d_hidden.resize(steps * width, 0.0);
        for (row, d) in d_pooled.chunks_exact(width).enumerate() {
            // Of a softmax: dL/ds_t = a_t (g_t − Σ a g), with g_t = d · h_t.
            let mut mean = 0.0;
            for at in packed.steps(row) {
                d_scores[at] = dot(d, &states[at * width..][..width]);
                mean += weights[at] * d_scores[at];
            }
            for at in packed.steps(row) {
                d_scores[at] = weights[at] * (d_scores[at] - mean);
                let share = weights[at];
                d_states[at * width..][..width].iter_mut().zip(d).for_each(|(to, d)| *to += share * d);
            }
        }
        let d_vector = gradients.get_mut(vector);
        d_vector.fill(0.0);
        let vector = params.get(vector);
        let of_steps = hidden.chunks_exact(width).zip(d_hidden.chunks_exact_mut(width));
        for ((hidden, d_hidden), d) in of_steps.zip(&*d_scores) {
            d_vector.iter_mut().zip(hidden).for_each(|(to, h)| *to += d * h);
            d_hidden.iter_mut().zip(vector).for_each(|(to, v)| *to = d * v);
        }
        tanh_backward(d_hidden, hidden);
        column_sums(gradients.get_mut(bias), Start::Zero, d_hidden);
        let d = Matrix::new(d_hidden, steps, width);
        let x = Matrix::new(states, steps, width);
        product(MatrixMut::new(gradients.get_mut(weight), width, width), Start::Zero, d.transposed(), x);
        let weight = Matrix::new(params.get(weight), width, width);
        product(MatrixMut::new(d_states, steps, width), Start::Out, d, weight);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// The mean of each row's steps, into the columns `to` of what is pooled.
fn mean(states: &[f32], packed: Packed, width: usize, to: Range<usize>, pooled: &mut [f32]) {
    let size = pooled.len() / packed.lengths.len().max(1);
    for (row, pooled) in pooled.chunks_exact_mut(size.max(1)).enumerate() {
        let pooled = &mut pooled[to.clone()];
        packed.steps(row).for_each(|at| add(pooled, &states[at * width..][..width]));
        let share = 1.0 / packed.lengths[row].max(1) as f32;
        pooled.iter_mut().for_each(|value| *value *= share);
    }
}

fn mean_backward(packed: Packed, width: usize, from: Range<usize>, d_pooled: &[f32], d_states: &mut [f32]) {
    let size = d_pooled.len() / packed.lengths.len().max(1);
    for (row, d) in d_pooled.chunks_exact(size.max(1)).enumerate() {
        let (d, share) = (&d[from.clone()], 1.0 / packed.lengths[row].max(1) as f32);
        for at in packed.steps(row) {
            d_states[at * width..][..width].iter_mut().zip(d).for_each(|(to, d)| *to += share * d);
        }
    }
}

/// The largest value of each unit over each row's steps, the earliest of equals, into the columns `to` of what is pooled.
fn max(states: &[f32], packed: Packed, width: usize, to: Range<usize>, tape: &mut PoolTape) {
    let PoolTape { pooled, places, .. } = tape;
    let rows = packed.lengths.len();
    let size = pooled.len() / rows.max(1);
    places.clear();
    places.resize(rows * width, 0);
    let of_rows = pooled.chunks_exact_mut(size.max(1)).zip(places.chunks_exact_mut(width));
    for (row, (pooled, places)) in of_rows.enumerate() {
        let pooled = &mut pooled[to.clone()];
        pooled.fill(f32::NEG_INFINITY);
        for at in packed.steps(row) {
            let values = &states[at * width..][..width];
            for ((best, place), value) in pooled.iter_mut().zip(&mut *places).zip(values) {
                if *value > *best {
                    (*best, *place) = (*value, at as u32);
                }
            }
        }
    }
}

fn max_backward(width: usize, size: usize, from: usize, d_pooled: &[f32], places: &[u32], d_states: &mut [f32]) {
    for (d, places) in d_pooled.chunks_exact(size).zip(places.chunks_exact(width)) {
        for (unit, (d, place)) in d[from..from + width].iter().zip(places).enumerate() {
            d_states[*place as usize * width + unit] += d;
        }
    }
}
