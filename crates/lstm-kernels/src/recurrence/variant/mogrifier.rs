//! The rounds before a step of a mogrified cell (Melis et al. 2019), and their way back: input and hidden state gate one another in turn, so
//! a step's input product can only be made when its rounds are over. The equations are those of `lstm::cell::mogrifier`.

use crate::gemm::matrix::{Matrix, MatrixMut, Start};
use crate::gemm::packed::PackedFactor;
use crate::gemm::product::product;
use crate::memory::Aligned;
use crate::ops::activation::sigmoid;
use crate::recurrence::segment::{Recurrence, RecurrentWeights};
use crate::recurrence::tape::{part, part_mut};
use crate::simd::{Kernel, Lane, Simd, dispatch, for_vectors};
use crate::team::chunks::for_each_share;
use crate::team::shared::Shared;

/// The arrays that the rounds of a segment leave for their way back, and its scratch.
#[derive(Clone, Debug, Default)]
pub(super) struct MogrifierTape {
    rounds: Vec<Round>,
    /// W_ih, for either pass.
    input: PackedFactor,
    input_backward: PackedFactor,
    /// `[B, I]` and `[B, R]`: the gradients of both at one step, from the last round to the first.
    d_x: Aligned,
    d_h: Aligned,
    /// Those of the matrices, as the cell has them.
    pub(super) d_of_input: [Aligned; 2],
    pub(super) d_of_hidden: [Aligned; 2],
}

/// One round over a segment: n values, gated by m others.
#[derive(Clone, Debug, Default)]
struct Round {
    n: usize,
    m: usize,
    /// k, by way of which the others are read where the matrix has a lower rank; else 0.
    rank: usize,
    left: PackedFactor,
    right: PackedFactor,
    left_backward: PackedFactor,
    right_backward: PackedFactor,
    /// `[T, B, n]`: the gates 2σ(…); after the way back the gradients of what is inside.
    gates: Aligned,
    /// `[T, B, n]`: the gated values.
    values: Aligned,
    /// `[T, B, k]`, and its gradient.
    inner: Aligned,
    d_inner: Aligned,
}

impl MogrifierTape {
    /// Packs the weights for the pass forward.
    pub(super) fn pack_forward(&mut self, recurrence: &Recurrence, weights: RecurrentWeights) {
        let &Recurrence { cell, recurrent, .. } = recurrence;
        let Some(mogrifier) = cell.mogrifier else { return };
        self.input.pack(Matrix::new(weights.weight_ih, cell.width(), mogrifier.input).transposed());
        self.rounds.resize_with(mogrifier.rounds, Round::default);
        for (index, round) in self.rounds.iter_mut().enumerate() {
            (round.n, round.m) = mogrifier.sizes(index, recurrent);
            round.rank = mogrifier.rank.unwrap_or(0);
            let (left, right) = mogrifier.matrices(index, recurrent);
            round.left.pack(Matrix::new(left, round.n, mogrifier.rank.unwrap_or(round.m)).transposed());
            if let Some(right) = right {
                round.right.pack(Matrix::new(right, round.rank, round.m).transposed());
            }
        }
    }

    /// Packs the weights for the way back.
    pub(super) fn pack_backward(&mut self, recurrence: &Recurrence, weights: RecurrentWeights) {
        let &Recurrence { cell, recurrent, .. } = recurrence;
        let Some(mogrifier) = cell.mogrifier else { return };
        self.input_backward.pack(Matrix::new(weights.weight_ih, cell.width(), mogrifier.input));
        for (index, round) in self.rounds.iter_mut().enumerate() {
            let (left, right) = mogrifier.matrices(index, recurrent);
            round.left_backward.pack(Matrix::new(left, round.n, mogrifier.rank.unwrap_or(round.m)));
            if let Some(right) = right {
                round.right_backward.pack(Matrix::new(right, round.rank, round.m));
            }
        }
    }

    /// Sizes the arrays of the pass forward for so many rows of all steps.
    pub(super) fn resize(&mut self, rows: usize) {
        for Round { n, rank, gates, values, inner, .. } in &mut self.rounds {
            [gates, values].into_iter().for_each(|values| values.resize(rows * *n));
            inner.resize(rows * *rank);
        }
    }

    /// The rounds of step `t`, of B rows: from the input x `[B, I]` and the hidden state before h `[B, R]` to those that the cell reads, of
    /// which the hidden state is at [`Self::hidden`] and the input's product with its weights is added to, or put into, `gates`.
    pub(super) fn forward(&mut self, t: usize, batch: usize, x: &[f32], h: &[f32], gates: &mut [f32], start: Start) {
        for index in 0..self.rounds.len() {
            let (before, round) = self.rounds.split_at_mut(index);
            let own = |at: usize| part(&before[at].values, batch * before[at].n, t);
            let Round { n, rank, left, right, gates, values, inner, .. } = &mut round[0];
            let source = if index > 0 { own(index - 1) } else { h };
            let changed = match index {
                0 => x,
                1 => h,
                _ => own(index - 2),
            };
            let gates = part_mut(gates, batch * *n, t);
            let mut read = source;
            if *rank > 0 {
                let inner = part_mut(inner, batch * *rank, t);
                right.product(inner, Start::Zero, source);
                read = inner;
            }
            left.product(gates, Start::Zero, read);
            gate(gates, changed, part_mut(values, batch * *n, t), batch);
        }
        let last = &self.rounds[(self.rounds.len() - 1) / 2 * 2];
        self.input.product(gates, start, part(&last.values, batch * last.n, t));
    }

    /// The hidden state that the cell reads at step `t`, of B rows, after [`Self::forward`]; `before`: the one before the rounds.
    pub(super) fn hidden<'a>(&'a self, t: usize, batch: usize, before: &'a [f32]) -> &'a [f32] {
        match self.last_hidden() {
            Some(round) => part(&round.values, batch * round.n, t),
            None => before,
        }
    }

    /// The last round that gates the hidden state, if one does.
    fn last_hidden(&self) -> Option<&Round> {
        (self.rounds.len() > 1).then(|| &self.rounds[(self.rounds.len() - 2) / 2 * 2 + 1])
    }

    /// What the cell read at all steps, the input `[T, B, I]` and the hidden state `[T, B, R]`, if there are rounds; `before`: the hidden
    /// states before each step's rounds.
    pub(super) fn read<'a>(&'a self, before: &'a [f32]) -> Option<(&'a [f32], &'a [f32])> {
        let last = self.rounds.len().checked_sub(1)?;
        Some((&self.rounds[last / 2 * 2].values, self.last_hidden().map_or(before, |round| &round.values)))
    }

    /// The way back of step `t`. d_gates: the gradients of the input part of the gates, `[B, K·H]`; `d_hidden` gives that of the hidden
    /// state that the cell read. x: in the input, out its gradient; h: the hidden state before. dh is added that of h, unless the step is
    /// `cut` from those before it.
    pub(super) fn backward(
        &mut self,
        t: usize,
        batch: usize,
        d_gates: &[f32],
        d_hidden: impl FnOnce(&mut [f32]),
        x: &mut [f32],
        h: &[f32],
        dh: &mut [f32],
        cut: bool,
    ) {
        let Self { rounds, input_backward, d_x, d_h, .. } = self;
        d_x.resize(x.len());
        d_h.resize(h.len());
        input_backward.product(d_x, Start::Zero, d_gates);
        d_hidden(&mut d_h[..]);
        for index in (0..rounds.len()).rev() {
            let (before, round) = rounds.split_at_mut(index);
            let Round { n, rank, left_backward, right_backward, gates, inner, d_inner, .. } = &mut round[0];
            let changed = match index {
                0 => &*x,
                1 => h,
                _ => part(&before[index - 2].values, batch * *n, t),
            };
            let (d_changed, d_source) =
                if index.is_multiple_of(2) { (&mut *d_x, &mut *d_h) } else { (&mut *d_h, &mut *d_x) };
            let gates = part_mut(gates, batch * *n, t);
            gate_backward(gates, changed, d_changed, batch);
            if *rank > 0 {
                d_inner.resize(inner.len());
                let d_inner = part_mut(d_inner, batch * *rank, t);
                left_backward.product(d_inner, Start::Zero, gates);
                right_backward.product(d_source, Start::Out, d_inner);
            } else {
                left_backward.product(d_source, Start::Out, gates);
            }
        }
        x.copy_from_slice(d_x);
        if !cut {
            dh.iter_mut().zip(d_h.iter()).for_each(|(sum, d)| *sum += d);
        }
    }

    /// The gradients of the matrices, of all steps' `rows`, after their way back. h: the hidden states before each step.
    pub(super) fn gradients(&mut self, rows: usize, h: &[f32]) {
        let Self { rounds, d_of_input, d_of_hidden, .. } = self;
        let count = [rounds.len().div_ceil(2), rounds.len() / 2];
        for index in 0..rounds.len() {
            let source = if index > 0 { &rounds[index - 1].values[..] } else { h };
            let Round { n, m, rank, ref gates, ref inner, ref d_inner, .. } = rounds[index];
            let (read, depth) = if rank > 0 { (&inner[..], rank) } else { (source, m) };
            let parity = index % 2;
            let [d_left, d_right] = if parity == 0 { &mut *d_of_input } else { &mut *d_of_hidden };
            d_left.resize(count[parity] * n * depth);
            d_right.resize(count[parity] * rank * m);
            let of_all = |values, columns| Matrix::new(values, rows, columns);
            product(
                MatrixMut::new(part_mut(d_left, n * depth, index / 2), n, depth),
                Start::Zero,
                of_all(gates, n).transposed(),
                of_all(read, depth),
            );
            if rank > 0 {
                product(
                    MatrixMut::new(part_mut(d_right, rank * m, index / 2), rank, m),
                    Start::Zero,
                    of_all(d_inner, rank).transposed(),
                    of_all(source, m),
                );
            }
        }
    }
}

/// gates `[B, n]`, in what is inside, out 2σ(gates); values = gates ∘ changed.
fn gate(gates: &mut [f32], changed: &[f32], values: &mut [f32], batch: usize) {
    let width = gates.len() / batch.max(1);
    assert_eq!([changed.len(), values.len()], [gates.len(); 2], "a gate for every value");
    let (gates, values) = (Shared::new(gates), Shared::new(values));
    for_each_share(batch, width, |rows| {
        let range = rows.start * width..rows.end * width;
        // SAFETY: rows inside the arrays, each of one share.
        unsafe {
            let (gates, values) = (gates.take(range.clone()), values.take(range.clone()));
            dispatch(Gate {
                gates: gates.as_mut_ptr(),
                changed: changed[range.clone()].as_ptr(),
                values: values.as_mut_ptr(),
                len: range.len(),
            });
        }
    });
}

/// The way back through [`gate`]: gates, in those it gave, out the gradient of what is inside them; d, in the gradient of the gated values,
/// out that of those before.
fn gate_backward(gates: &mut [f32], changed: &[f32], d: &mut [f32], batch: usize) {
    let width = gates.len() / batch.max(1);
    assert_eq!([changed.len(), d.len()], [gates.len(); 2], "a gate for every value");
    let (gates, d) = (Shared::new(gates), Shared::new(d));
    for_each_share(batch, width, |rows| {
        let range = rows.start * width..rows.end * width;
        // SAFETY: rows inside the arrays, each of one share.
        unsafe {
            let (gates, d) = (gates.take(range.clone()), d.take(range.clone()));
            dispatch(Ungate { gates, changed: &changed[range], d });
        }
    });
}

/// gates = 2σ(gates), values = gates ∘ changed, which may be the same.
pub(crate) struct Gate {
    pub(crate) gates: *mut f32,
    pub(crate) changed: *const f32,
    pub(crate) values: *mut f32,
    pub(crate) len: usize,
}

impl Kernel for Gate {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { gates, changed, values, len } = self;
        // SAFETY: as whoever made it promised.
        unsafe {
            for_vectors!(S, len, |at, lanes| {
                let half = sigmoid(simd, lanes.load(simd, gates.add(at)));
                let gate = simd.add(half, half);
                let value = simd.mul(gate, lanes.load(simd, changed.add(at)));
                lanes.store(simd, gates.add(at), gate);
                lanes.store(simd, values.add(at), value);
            });
        }
    }
}

struct Ungate<'a> {
    gates: &'a mut [f32],
    changed: &'a [f32],
    d: &'a mut [f32],
}

impl Kernel for Ungate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let len = self.gates.len();
        let (gates, changed) = (self.gates.as_mut_ptr(), self.changed[..len].as_ptr());
        let d = self.d[..len].as_mut_ptr();
        let half = simd.splat(0.5);
        for_vectors!(S, len, |at, lanes| {
            // SAFETY: all three have these values.
            unsafe {
                let (gate, reached) = (lanes.load(simd, gates.add(at)), lanes.load(simd, d.add(at)));
                // (2σ)' = 2σ (1 − σ) = γ (1 − γ/2) with γ = 2σ.
                let slope = simd.neg_mul_add(simd.mul(half, gate), gate, gate);
                let inside = simd.mul(simd.mul(reached, lanes.load(simd, changed.add(at))), slope);
                lanes.store(simd, gates.add(at), inside);
                lanes.store(simd, d.add(at), simd.mul(reached, gate));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, values};

    #[test]
    fn gates_are_their_formula_both_ways_for_any_threads() {
        for (batch, width) in [(1, 1), (3, 7), (5, 33), (40, 129)] {
            let len = batch * width;
            let (inside, changed, d) = (values(len, 1), values(len, 2), values(len, 3));
            let run = |threads| {
                let (mut gates, mut gated, mut back) = (inside.clone(), vec![7.0; len], d.clone());
                let mut forward = Vec::new();
                crate::with_threads(threads, || {
                    gate(&mut gates, &changed, &mut gated, batch);
                    forward.clone_from(&gates);
                    gate_backward(&mut gates, &changed, &mut back, batch);
                });
                (forward, gated, gates, back)
            };
            let (forward, gated, d_inside, d_changed) = run(1);
            assert!([2, 3].into_iter().all(|threads| run(threads) == run(1)), "[{batch}, {width}]");
            let twice = |x: f32| 2.0 / (1.0 + f64::from(-x).exp());
            let each = |value: &dyn Fn(usize) -> f64| (0..len).map(|at| value(at) as f32).collect::<Vec<_>>();
            close(&forward, &each(&|at| twice(inside[at])), 1e-6);
            close(&gated, &each(&|at| twice(inside[at]) * f64::from(changed[at])), 1e-6);
            close(&d_changed, &each(&|at| twice(inside[at]) * f64::from(d[at])), 1e-6);
            let slope = |at: usize| (twice(inside[at] + 1e-2) - twice(inside[at] - 1e-2)) / 2e-2;
            close(&d_inside, &each(&|at| slope(at) * f64::from(changed[at]) * f64::from(d[at])), 1e-4);
        }
    }
}
