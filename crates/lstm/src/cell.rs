//! One step of one LSTM, gate by gate: the definition. Slow and obvious; everything faster is tested against it.
//!
//! With σ the logistic function and ∘ the product element by element (Hochreiter & Schmidhuber 1997, with the
//! forget gate of Gers, Schmidhuber & Cummins 2000):
//!
//! ```text
//! i = σ(W_ii x + b_ii + W_hi h + b_hi)      input gate
//! f = σ(W_if x + b_if + W_hf h + b_hf)      forget gate
//! g = tanh(W_ig x + b_ig + W_hg h + b_hg)   cell gate (candidate)
//! o = σ(W_io x + b_io + W_ho h + b_ho)      output gate
//! c' = f ∘ c + i ∘ g                        cell state
//! h' = o ∘ tanh(c')                         hidden state
//! ```
//!
//! Backward, given the gradients dh' and dc' of the new states, by the chain rule from the last line to the first:
//!
//! ```text
//! dc  = dc' + dh' ∘ o ∘ (1 - tanh²(c'))     all that reaches c'
//! do  = dh' ∘ tanh(c') ∘ o ∘ (1 - o)        before the non-linearity, as the next three
//! di  = dc ∘ g ∘ i ∘ (1 - i)
//! df  = dc ∘ c ∘ f ∘ (1 - f)
//! dg  = dc ∘ i ∘ (1 - g²)
//! dx  = Σ W_i·ᵀ d·     dh = Σ W_h·ᵀ d·      dc_previous = dc ∘ f
//! dW_i· = d· xᵀ        dW_h· = d· hᵀ        db_i· = db_h· = d·
//! ```
//!
//! ```
//! use lstm::cell::{Cell, CellState};
//!
//! let mut cell = Cell::<f64>::zeros(2, 3);
//! cell.b_if.fill(1.0);
//! let before = CellState { h: vec![0.0; 3], c: vec![1.0; 3] };
//! let step = cell.forward(&[0.5, -0.5], &before);
//! assert!((step.state.c[0] - step.f[0]).abs() < 1e-12); // i ∘ g is zero here
//! ```

use std::ops::{Add, AddAssign, Mul, Neg, Sub};

/// A floating-point number: `f32` or `f64`.
pub trait Float:
    Copy
    + PartialEq
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    /// One.
    const ONE: Self;
    /// The logistic function.
    fn sigmoid(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
}

impl Float for f32 {
    const ONE: Self = 1.0;
    fn sigmoid(self) -> Self {
        1.0 / (1.0 + (-self).exp())
    }
    fn tanh(self) -> Self {
        self.tanh()
    }
}

impl Float for f64 {
    const ONE: Self = 1.0;
    fn sigmoid(self) -> Self {
        1.0 / (1.0 + (-self).exp())
    }
    fn tanh(self) -> Self {
        self.tanh()
    }
}

/// The eight weights and eight biases of an LSTM cell; also their gradients. Matrices are row-major.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // named as in the equations: `w_if` is `[H, I]`, `w_hf` is `[H, H]`, biases are `[H]`
pub struct Cell<F> {
    pub w_ii: Vec<F>,
    pub w_if: Vec<F>,
    pub w_ig: Vec<F>,
    pub w_io: Vec<F>,
    pub w_hi: Vec<F>,
    pub w_hf: Vec<F>,
    pub w_hg: Vec<F>,
    pub w_ho: Vec<F>,
    pub b_ii: Vec<F>,
    pub b_if: Vec<F>,
    pub b_ig: Vec<F>,
    pub b_io: Vec<F>,
    pub b_hi: Vec<F>,
    pub b_hf: Vec<F>,
    pub b_hg: Vec<F>,
    pub b_ho: Vec<F>,
}

/// The states of one row: `h` and `c`, `[H]` each; also their gradients.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct CellState<F> {
    pub h: Vec<F>,
    pub c: Vec<F>,
}

/// What one step computed: the activated gates and the new state.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Step<F> {
    pub i: Vec<F>,
    pub f: Vec<F>,
    pub g: Vec<F>,
    pub o: Vec<F>,
    pub state: CellState<F>,
}

impl<F: Float> Cell<F> {
    /// A cell of `hidden` units over inputs of size `input`, all zeros.
    pub fn zeros(input: usize, hidden: usize) -> Self {
        let (w_i, w_h, b) =
            (vec![F::default(); hidden * input], vec![F::default(); hidden * hidden], vec![F::default(); hidden]);
        Self {
            w_ii: w_i.clone(),
            w_if: w_i.clone(),
            w_ig: w_i.clone(),
            w_io: w_i,
            w_hi: w_h.clone(),
            w_hf: w_h.clone(),
            w_hg: w_h.clone(),
            w_ho: w_h,
            b_ii: b.clone(),
            b_if: b.clone(),
            b_ig: b.clone(),
            b_io: b.clone(),
            b_hi: b.clone(),
            b_hf: b.clone(),
            b_hg: b.clone(),
            b_ho: b,
        }
    }

    /// A cell from PyTorch's stacked arrays: `weight_ih [4H, I]`, `weight_hh [4H, H]`, biases `[4H]`, gates i, f, g, o.
    ///
    /// # Panics
    /// When the lengths are not multiples of four.
    pub fn from_stacked(weight_ih: &[F], weight_hh: &[F], bias_ih: &[F], bias_hh: &[F]) -> Self {
        let part = |all: &[F], gate: usize| {
            assert_eq!(all.len() % 4, 0, "four gates");
            all[gate * all.len() / 4..(gate + 1) * all.len() / 4].to_vec()
        };
        Self {
            w_ii: part(weight_ih, 0),
            w_if: part(weight_ih, 1),
            w_ig: part(weight_ih, 2),
            w_io: part(weight_ih, 3),
            w_hi: part(weight_hh, 0),
            w_hf: part(weight_hh, 1),
            w_hg: part(weight_hh, 2),
            w_ho: part(weight_hh, 3),
            b_ii: part(bias_ih, 0),
            b_if: part(bias_ih, 1),
            b_ig: part(bias_ih, 2),
            b_io: part(bias_ih, 3),
            b_hi: part(bias_hh, 0),
            b_hf: part(bias_hh, 1),
            b_hg: part(bias_hh, 2),
            b_ho: part(bias_hh, 3),
        }
    }

    /// One step. x: `[I]`; `before`: the state the step starts from, `[H]` each.
    pub fn forward(&self, x: &[F], before: &CellState<F>) -> Step<F> {
        let gate = |w_i: &[F], b_i: &[F], w_h: &[F], b_h: &[F], activation: fn(F) -> F| -> Vec<F> {
            (0..b_i.len())
                .map(|u| activation(row_dot(w_i, x, u) + b_i[u] + row_dot(w_h, &before.h, u) + b_h[u]))
                .collect()
        };
        let i = gate(&self.w_ii, &self.b_ii, &self.w_hi, &self.b_hi, F::sigmoid);
        let f = gate(&self.w_if, &self.b_if, &self.w_hf, &self.b_hf, F::sigmoid);
        let g = gate(&self.w_ig, &self.b_ig, &self.w_hg, &self.b_hg, F::tanh);
        let o = gate(&self.w_io, &self.b_io, &self.w_ho, &self.b_ho, F::sigmoid);
        let c: Vec<F> = (0..f.len()).map(|u| f[u] * before.c[u] + i[u] * g[u]).collect();
        let h = (0..f.len()).map(|u| o[u] * c[u].tanh()).collect();
        Step { i, f, g, o, state: CellState { h, c } }
    }

    /// The step backward. `after`: the gradients of the new state; the parameters' gradients are added to
    /// `gradients`. Returns the gradients of x, `[I]`, and of the state the step started from.
    pub fn backward(
        &self,
        x: &[F],
        before: &CellState<F>,
        step: &Step<F>,
        after: &CellState<F>,
        gradients: &mut Self,
    ) -> (Vec<F>, CellState<F>) {
        let Step { i, f, g, o, state } = step;
        let mut dx = vec![F::default(); x.len()];
        let mut dh = vec![F::default(); before.h.len()];
        let mut dc_before = vec![F::default(); before.c.len()];
        for u in 0..f.len() {
            let tanh_c = state.c[u].tanh();
            let dc = after.c[u] + after.h[u] * o[u] * (F::ONE - tanh_c * tanh_c);
            let d_o = after.h[u] * tanh_c * o[u] * (F::ONE - o[u]);
            let d_i = dc * g[u] * i[u] * (F::ONE - i[u]);
            let d_f = dc * before.c[u] * f[u] * (F::ONE - f[u]);
            let d_g = dc * i[u] * (F::ONE - g[u] * g[u]);
            dc_before[u] = dc * f[u];
            let mut gate = |d: F, w: (&[F], &[F]), dw: (&mut [F], &mut [F]), db: (&mut F, &mut F)| {
                for (k, value) in x.iter().enumerate() {
                    dx[k] += w.0[u * x.len() + k] * d;
                    dw.0[u * x.len() + k] += d * *value;
                }
                for (k, value) in before.h.iter().enumerate() {
                    dh[k] += w.1[u * before.h.len() + k] * d;
                    dw.1[u * before.h.len() + k] += d * *value;
                }
                *db.0 += d;
                *db.1 += d;
            };
            let n = &mut *gradients;
            gate(d_i, (&self.w_ii, &self.w_hi), (&mut n.w_ii, &mut n.w_hi), (&mut n.b_ii[u], &mut n.b_hi[u]));
            gate(d_f, (&self.w_if, &self.w_hf), (&mut n.w_if, &mut n.w_hf), (&mut n.b_if[u], &mut n.b_hf[u]));
            gate(d_g, (&self.w_ig, &self.w_hg), (&mut n.w_ig, &mut n.w_hg), (&mut n.b_ig[u], &mut n.b_hg[u]));
            gate(d_o, (&self.w_io, &self.w_ho), (&mut n.w_io, &mut n.w_ho), (&mut n.b_io[u], &mut n.b_ho[u]));
        }
        (dx, CellState { h: dh, c: dc_before })
    }

    /// The arrays under their names, in the order of the equations.
    pub fn named_mut(&mut self) -> [(&'static str, &mut Vec<F>); 16] {
        [
            ("w_ii", &mut self.w_ii),
            ("w_if", &mut self.w_if),
            ("w_ig", &mut self.w_ig),
            ("w_io", &mut self.w_io),
            ("w_hi", &mut self.w_hi),
            ("w_hf", &mut self.w_hf),
            ("w_hg", &mut self.w_hg),
            ("w_ho", &mut self.w_ho),
            ("b_ii", &mut self.b_ii),
            ("b_if", &mut self.b_if),
            ("b_ig", &mut self.b_ig),
            ("b_io", &mut self.b_io),
            ("b_hi", &mut self.b_hi),
            ("b_hf", &mut self.b_hf),
            ("b_hg", &mut self.b_hg),
            ("b_ho", &mut self.b_ho),
        ]
    }
}

/// The product of row `row` of `matrix` with `x`.
fn row_dot<F: Float>(matrix: &[F], x: &[F], row: usize) -> F {
    let mut sum = F::default();
    for (weight, x) in matrix[row * x.len()..].iter().zip(x) {
        sum += *weight * *x;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (input, hidden) = (3, 4);
        let mut rng = Rng::new(5, Purpose::Init, 0);
        let mut draw = |len: usize| (0..len).map(|_| f64::from(rng.uniform_in(-1.0, 1.0))).collect::<Vec<_>>();
        let mut cell = Cell::zeros(input, hidden);
        for (_, values) in cell.named_mut() {
            *values = draw(values.len());
        }
        let x = draw(input);
        let before = CellState { h: draw(hidden), c: draw(hidden) };
        let after = CellState { h: draw(hidden), c: draw(hidden) };
        let loss = |cell: &Cell<f64>, x: &[f64], before: &CellState<f64>| -> f64 {
            let step = cell.forward(x, before);
            (0..hidden).map(|u| step.state.h[u] * after.h[u] + step.state.c[u] * after.c[u]).sum()
        };
        let mut gradients = Cell::zeros(input, hidden);
        let step = cell.forward(&x, &before);
        let (dx, d_before) = cell.backward(&x, &before, &step, &after, &mut gradients);
        let epsilon = 1e-6;
        let check = |name: &str, analytic: f64, difference: f64| {
            let numeric = difference / (2.0 * epsilon);
            assert!((analytic - numeric).abs() < 1e-8, "{name}: {analytic} against {numeric}");
        };
        for index in 0..16 {
            for k in 0..cell.named_mut()[index].1.len() {
                let mut moved = |by: f64| {
                    let mut cell = cell.clone();
                    cell.named_mut()[index].1[k] += by;
                    loss(&cell, &x, &before)
                };
                let difference = moved(epsilon) - moved(-epsilon);
                let (name, gradient) = &gradients.named_mut()[index];
                check(name, gradient[k], difference);
            }
        }
        for k in 0..input {
            let moved = |by: f64| {
                let mut x = x.clone();
                x[k] += by;
                loss(&cell, &x, &before)
            };
            check("x", dx[k], moved(epsilon) - moved(-epsilon));
        }
        for k in 0..hidden {
            let moved = |by: f64, of_c: bool| {
                let mut before = before.clone();
                if of_c {
                    before.c[k] += by
                } else {
                    before.h[k] += by
                }
                loss(&cell, &x, &before)
            };
            check("h", d_before.h[k], moved(epsilon, false) - moved(-epsilon, false));
            check("c", d_before.c[k], moved(epsilon, true) - moved(-epsilon, true));
        }
    }
}
