//! One step of one LSTM, gate by gate: the definition everything faster is tested against.
//!
//! An LSTM reads a sequence one vector at a time. At step t it takes the input `x_t` `[I]`, the hidden state
//! `h_{t−1}` `[R]` and the cell state `c_{t−1}` `[H]`, and computes (Hochreiter & Schmidhuber 1997; the forget gate is
//! Gers, Schmidhuber & Cummins 2000):
//!
//! ```text
//! (1)  i = σ(W_ii x + b_ii + W_hi h + b_hi)        input gate: how much of the candidate enters
//! (2)  f = σ(W_if x + b_if + W_hf h + b_hf)        forget gate: how much of the old cell stays
//! (3)  g = tanh(W_ig x + b_ig + W_hg h + b_hg)     cell gate: the candidate
//! (4)  o = σ(W_io x + b_io + W_ho h + b_ho)        output gate: how much of the cell shows
//! (5)  c' = f ∘ c + i ∘ g                          cell state
//! (6)  h' = o ∘ tanh(c')                           hidden state
//! ```
//!
//! With a projection (Sak, Senior & Beaufays 2014) the hidden state is `h' = W_hr (o ∘ tanh(c'))`, of size R = P
//! instead of R = H. Cells that differ more, by peepholes, coupled gates, layer normalisation, zoneout, a
//! mogrifier or an exponential gate, are [`variant`]'s.
//!
//! # Why it remembers
//!
//! In (5) the old cell reaches the new one through a product with f and nothing else. The derivative of `c'` with
//! respect to `c` along that path is f itself: where f is near 1, an error signal travels back over many steps
//! without shrinking or growing, the "constant error carousel" of the 1997 paper.
//!
//! # The backward step
//!
//! Let δv stand for the derivative of the loss with respect to v. The step after this one and the reader above
//! provide δh' and δc'. From (6), then (5):
//!
//! ```text
//! (7)   δo  = δh' ∘ tanh(c')                       (a reader of the output gate adds its own δo)
//! (8)   δc' ← δc' + δh' ∘ o ∘ (1 − tanh²(c'))
//! (9)   δi  = δc' ∘ g      δf = δc' ∘ c      δg = δc' ∘ i
//! (10)  δc  = δc' ∘ f
//! ```
//!
//! Through the non-linearities, with σ' = σ (1 − σ) and tanh' = 1 − tanh², the gradients of the four sums inside
//! them, written â:
//!
//! ```text
//! (11)  δî = δi ∘ i ∘ (1 − i)      δf̂ = δf ∘ f ∘ (1 − f)
//!       δĝ = δg ∘ (1 − g²)         δô = δo ∘ o ∘ (1 − o)
//! ```
//!
//! and each sum is linear in its weights, biases, x and h, here for the input gate:
//!
//! ```text
//! (12)  δW_ii += δî xᵀ      δW_hi += δî hᵀ      δb_ii += δî      δb_hi += δî
//! (13)  δx = Σ over gates W_i·ᵀ δ·̂              δh = Σ over gates W_h·ᵀ δ·̂
//! ```
//!
//! # Example
//!
//! ```
//! use lstm::cell::{Cell, CellState};
//!
//! // One unit that adds up its inputs: every gate wide open, the candidate almost linear.
//! let mut cell = Cell::<f64>::zeros(1, 1);
//! for bias in [&mut cell.b_ii, &mut cell.b_if, &mut cell.b_io] {
//!     bias[0] = 20.0;
//! }
//! cell.w_ig[0] = 1.0;
//!
//! let mut state = CellState::zeros(&cell);
//! for x in [0.01, 0.02, 0.03] {
//!     let (next, gates) = cell.forward(&[x], &state);
//!     assert!(gates.f[0] > 0.999_999);
//!     state = next;
//! }
//! assert!((state.c[0] - 0.06).abs() < 1e-4);
//! ```

pub mod mogrifier;
pub mod variant;

use std::ops::{Add, AddAssign, Div, Mul, Sub};

/// The arithmetic an LSTM step needs: `f32` or `f64`.
pub trait Float:
    Copy + PartialEq + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + AddAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// 10⁻⁵, which layer normalisation adds to a variance.
    const EPSILON: Self;

    /// The logistic function σ(x) = 1 / (1 + e⁻ˣ).
    fn sigmoid(self) -> Self;

    /// The hyperbolic tangent.
    fn tanh(self) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// The exponential function.
    fn exp(self) -> Self;
}

impl Float for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const EPSILON: Self = 1e-5;

    fn sigmoid(self) -> Self {
        1.0 / (1.0 + (-self).exp())
    }

    fn tanh(self) -> Self {
        self.tanh()
    }

    fn sqrt(self) -> Self {
        self.sqrt()
    }

    fn exp(self) -> Self {
        self.exp()
    }
}

impl Float for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const EPSILON: Self = 1e-5;

    fn sigmoid(self) -> Self {
        1.0 / (1.0 + (-self).exp())
    }

    fn tanh(self) -> Self {
        self.tanh()
    }

    fn sqrt(self) -> Self {
        self.sqrt()
    }

    fn exp(self) -> Self {
        self.exp()
    }
}

/// The parameters of an LSTM, each gate's apart: eight weight matrices, eight bias vectors, and the projection if
/// there is one. The gradient of a cell has the same type.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell<F> {
    /// I, the size of x.
    pub input: usize,
    /// H, the size of the gates and of c.
    pub hidden: usize,
    /// R, the size of h: P with a projection, else H.
    pub recurrent: usize,
    /// Input gate from x, `[H, I]` row-major.
    pub w_ii: Vec<F>,
    /// Forget gate from x, `[H, I]`.
    pub w_if: Vec<F>,
    /// Cell gate from x, `[H, I]`.
    pub w_ig: Vec<F>,
    /// Output gate from x, `[H, I]`.
    pub w_io: Vec<F>,
    /// Input gate from h, `[H, R]`.
    pub w_hi: Vec<F>,
    /// Forget gate from h, `[H, R]`.
    pub w_hf: Vec<F>,
    /// Cell gate from h, `[H, R]`.
    pub w_hg: Vec<F>,
    /// Output gate from h, `[H, R]`.
    pub w_ho: Vec<F>,
    /// Input gate's bias beside x, `[H]`.
    pub b_ii: Vec<F>,
    /// Forget gate's bias beside x, `[H]`.
    pub b_if: Vec<F>,
    /// Cell gate's bias beside x, `[H]`.
    pub b_ig: Vec<F>,
    /// Output gate's bias beside x, `[H]`.
    pub b_io: Vec<F>,
    /// Input gate's bias beside h, `[H]`.
    pub b_hi: Vec<F>,
    /// Forget gate's bias beside h, `[H]`.
    pub b_hf: Vec<F>,
    /// Cell gate's bias beside h, `[H]`.
    pub b_hg: Vec<F>,
    /// Output gate's bias beside h, `[H]`.
    pub b_ho: Vec<F>,
    /// The projection, `[P, H]`; `None` when h is `o ∘ tanh(c)` itself.
    pub w_hr: Option<Vec<F>>,
}

/// What a step takes from the one before and leaves to the one after, or the gradient of it.
#[derive(Clone, Debug, PartialEq)]
pub struct CellState<F> {
    /// Hidden state `[R]`.
    pub h: Vec<F>,
    /// Cell state `[H]`.
    pub c: Vec<F>,
}

/// The values of the four gates in one step, `[H]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Gates<F> {
    /// Input gate, within 0 and 1.
    pub i: Vec<F>,
    /// Forget gate, within 0 and 1.
    pub f: Vec<F>,
    /// Cell gate (the candidate), within −1 and 1.
    pub g: Vec<F>,
    /// Output gate, within 0 and 1.
    pub o: Vec<F>,
}

/// The same parameters as PyTorch's `nn.LSTM` stores them: the four gates stacked in the order i, f, g, o.
#[derive(Clone, Debug, PartialEq)]
pub struct Stacked<F> {
    /// `[4H, I]`.
    pub weight_ih: Vec<F>,
    /// `[4H, R]`.
    pub weight_hh: Vec<F>,
    /// `[4H]`.
    pub bias_ih: Vec<F>,
    /// `[4H]`.
    pub bias_hh: Vec<F>,
    /// `[P, H]`, with a projection.
    pub weight_hr: Option<Vec<F>>,
}

impl<F: Float> CellState<F> {
    /// The state before the first step: zeros.
    pub fn zeros(cell: &Cell<F>) -> Self {
        Self { h: vec![F::ZERO; cell.recurrent], c: vec![F::ZERO; cell.hidden] }
    }
}

impl<F: Float> Cell<F> {
    /// A cell without projection, every parameter zero.
    pub fn zeros(input: usize, hidden: usize) -> Self {
        Self::of_size(input, hidden, None)
    }

    /// A cell whose hidden state is projected to `projection` values, every parameter zero.
    pub fn zeros_projected(input: usize, hidden: usize, projection: usize) -> Self {
        Self::of_size(input, hidden, Some(projection))
    }

    fn of_size(input: usize, hidden: usize, projection: Option<usize>) -> Self {
        let recurrent = projection.unwrap_or(hidden);
        let from_x = || vec![F::ZERO; hidden * input];
        let from_h = || vec![F::ZERO; hidden * recurrent];
        let bias = || vec![F::ZERO; hidden];
        Self {
            input,
            hidden,
            recurrent,
            w_ii: from_x(),
            w_if: from_x(),
            w_ig: from_x(),
            w_io: from_x(),
            w_hi: from_h(),
            w_hf: from_h(),
            w_hg: from_h(),
            w_ho: from_h(),
            b_ii: bias(),
            b_if: bias(),
            b_ig: bias(),
            b_io: bias(),
            b_hi: bias(),
            b_hf: bias(),
            b_hg: bias(),
            b_ho: bias(),
            w_hr: projection.map(|size| vec![F::ZERO; size * hidden]),
        }
    }

    /// A cell of the same shape with every parameter zero: where [`Cell::backward`] adds up gradients.
    pub fn zeros_like(&self) -> Self {
        Self::of_size(self.input, self.hidden, self.w_hr.is_some().then_some(self.recurrent))
    }

    /// Every parameter with its name.
    pub fn parameters_mut(&mut self) -> Vec<(&'static str, &mut Vec<F>)> {
        let mut all = vec![
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
        ];
        all.extend(self.w_hr.as_mut().map(|w_hr| ("w_hr", w_hr)));
        all
    }

    /// The cell whose parameters PyTorch's layout stacks.
    ///
    /// # Panics
    /// When the arrays do not have the shapes that `input` and the biases' length imply.
    pub fn from_stacked(input: usize, stacked: &Stacked<F>) -> Self {
        let hidden = stacked.bias_ih.len() / 4;
        let projection = stacked.weight_hr.as_ref().map(|weight| weight.len() / hidden);
        let recurrent = projection.unwrap_or(hidden);
        assert_eq!(stacked.weight_ih.len(), 4 * hidden * input, "weight_ih is [4H, I]");
        assert_eq!(stacked.weight_hh.len(), 4 * hidden * recurrent, "weight_hh is [4H, R]");
        assert_eq!(stacked.bias_hh.len(), 4 * hidden, "bias_hh is [4H]");
        let split = |array: &[F]| -> [Vec<F>; 4] {
            let size = array.len() / 4;
            std::array::from_fn(|gate| array[gate * size..(gate + 1) * size].to_vec())
        };
        let [w_ii, w_if, w_ig, w_io] = split(&stacked.weight_ih);
        let [w_hi, w_hf, w_hg, w_ho] = split(&stacked.weight_hh);
        let [b_ii, b_if, b_ig, b_io] = split(&stacked.bias_ih);
        let [b_hi, b_hf, b_hg, b_ho] = split(&stacked.bias_hh);
        Self {
            input,
            hidden,
            recurrent,
            w_ii,
            w_if,
            w_ig,
            w_io,
            w_hi,
            w_hf,
            w_hg,
            w_ho,
            b_ii,
            b_if,
            b_ig,
            b_io,
            b_hi,
            b_hf,
            b_hg,
            b_ho,
            w_hr: stacked.weight_hr.clone(),
        }
    }

    /// These parameters in PyTorch's layout.
    pub fn to_stacked(&self) -> Stacked<F> {
        Stacked {
            weight_ih: [&self.w_ii[..], &self.w_if, &self.w_ig, &self.w_io].concat(),
            weight_hh: [&self.w_hi[..], &self.w_hf, &self.w_hg, &self.w_ho].concat(),
            bias_ih: [&self.b_ii[..], &self.b_if, &self.b_ig, &self.b_io].concat(),
            bias_hh: [&self.b_hi[..], &self.b_hf, &self.b_hg, &self.b_ho].concat(),
            weight_hr: self.w_hr.clone(),
        }
    }

    /// One step, equations (1) to (6): from `x` `[I]` and the state before to the state after and the gates.
    ///
    /// # Panics
    /// When `x` or the state do not have the cell's sizes.
    pub fn forward(&self, x: &[F], before: &CellState<F>) -> (CellState<F>, Gates<F>) {
        assert_eq!(x.len(), self.input, "x is [I]");
        assert_eq!(before.h.len(), self.recurrent, "h is [R]");
        assert_eq!(before.c.len(), self.hidden, "c is [H]");
        let h = &before.h;
        let sum = |w_x: &[F], b_x: &[F], w_h: &[F], b_h: &[F], unit: usize| {
            dot(row(w_x, unit, x.len()), x) + b_x[unit] + dot(row(w_h, unit, h.len()), h) + b_h[unit]
        };
        let units = || 0..self.hidden;
        let i: Vec<F> = units().map(|u| sum(&self.w_ii, &self.b_ii, &self.w_hi, &self.b_hi, u).sigmoid()).collect();
        let f: Vec<F> = units().map(|u| sum(&self.w_if, &self.b_if, &self.w_hf, &self.b_hf, u).sigmoid()).collect();
        let g: Vec<F> = units().map(|u| sum(&self.w_ig, &self.b_ig, &self.w_hg, &self.b_hg, u).tanh()).collect();
        let o: Vec<F> = units().map(|u| sum(&self.w_io, &self.b_io, &self.w_ho, &self.b_ho, u).sigmoid()).collect();
        let gates = Gates { i, f, g, o };
        let c = cell_state(&gates, &before.c);
        let shown: Vec<F> = units().map(|u| gates.o[u] * c[u].tanh()).collect();
        let h = match &self.w_hr {
            None => shown,
            Some(w_hr) => (0..self.recurrent).map(|p| dot(row(w_hr, p, self.hidden), &shown)).collect(),
        };
        (CellState { h, c }, gates)
    }

    /// One step backward, equations (7) to (13).
    ///
    /// `x`, `before` and `gates` are those of the forward step; `after` is the gradient of the state after it: δh'
    /// `[R]` and δc' `[H]`; `d_o` `[H]` is what a reader of the output gate adds to δo. The gradients of the parameters
    /// are added to `gradients`. Gives δx `[I]` and the gradient of the state before, δh `[R]` and δc `[H]`.
    pub fn backward(
        &self,
        x: &[F],
        before: &CellState<F>,
        gates: &Gates<F>,
        after: &CellState<F>,
        d_o: Option<&[F]>,
        gradients: &mut Self,
    ) -> (Vec<F>, CellState<F>) {
        let Gates { i, f, g, o } = gates;
        let tanh_c: Vec<F> = cell_state(gates, &before.c).into_iter().map(F::tanh).collect();
        let units = || 0..self.hidden;

        let d_shown = match (&self.w_hr, &mut gradients.w_hr) {
            (Some(w_hr), Some(d_w_hr)) => {
                let shown: Vec<F> = units().map(|u| o[u] * tanh_c[u]).collect();
                add_outer(d_w_hr, &after.h, &shown);
                let mut d_shown = vec![F::ZERO; self.hidden];
                add_transposed(&mut d_shown, w_hr, &after.h);
                d_shown
            }
            _ => after.h.clone(),
        };
        let d_c: Vec<F> = // (8)
            units().map(|u| after.c[u] + d_shown[u] * o[u] * (F::ONE - tanh_c[u] * tanh_c[u])).collect();
        let d_o: Vec<F> = // (7)
            units().map(|u| d_shown[u] * tanh_c[u] + d_o.map_or(F::ZERO, |d_o| d_o[u])).collect();

        // (9) and (11): the gradients of the four sums.
        let sum_i: Vec<F> = units().map(|u| d_c[u] * g[u] * i[u] * (F::ONE - i[u])).collect();
        let sum_f: Vec<F> = units().map(|u| d_c[u] * before.c[u] * f[u] * (F::ONE - f[u])).collect();
        let sum_g: Vec<F> = units().map(|u| d_c[u] * i[u] * (F::ONE - g[u] * g[u])).collect();
        let sum_o: Vec<F> = units().map(|u| d_o[u] * o[u] * (F::ONE - o[u])).collect();

        // (12)
        let d = gradients;
        add_linear(&mut d.w_ii, &mut d.b_ii, &mut d.w_hi, &mut d.b_hi, &sum_i, x, &before.h);
        add_linear(&mut d.w_if, &mut d.b_if, &mut d.w_hf, &mut d.b_hf, &sum_f, x, &before.h);
        add_linear(&mut d.w_ig, &mut d.b_ig, &mut d.w_hg, &mut d.b_hg, &sum_g, x, &before.h);
        add_linear(&mut d.w_io, &mut d.b_io, &mut d.w_ho, &mut d.b_ho, &sum_o, x, &before.h);

        // (13) and (10)
        let mut d_x = vec![F::ZERO; self.input];
        let mut d_h = vec![F::ZERO; self.recurrent];
        for (w_x, w_h, sum) in [
            (&self.w_ii, &self.w_hi, &sum_i),
            (&self.w_if, &self.w_hf, &sum_f),
            (&self.w_ig, &self.w_hg, &sum_g),
            (&self.w_io, &self.w_ho, &sum_o),
        ] {
            add_transposed(&mut d_x, w_x, sum);
            add_transposed(&mut d_h, w_h, sum);
        }
        let d_c_before = units().map(|u| d_c[u] * f[u]).collect();
        (d_x, CellState { h: d_h, c: d_c_before })
    }
}

/// c' = f ∘ c + i ∘ g, equation (5).
fn cell_state<F: Float>(gates: &Gates<F>, c: &[F]) -> Vec<F> {
    (0..c.len()).map(|u| gates.f[u] * c[u] + gates.i[u] * gates.g[u]).collect()
}

/// Row `index` of a row-major matrix of `columns` columns.
fn row<F>(matrix: &[F], index: usize, columns: usize) -> &[F] {
    &matrix[index * columns..(index + 1) * columns]
}

fn dot<F: Float>(a: &[F], b: &[F]) -> F {
    let mut sum = F::ZERO;
    for (&a, &b) in a.iter().zip(b) {
        sum += a * b;
    }
    sum
}

/// out `[N]` += Mᵀ v for a matrix `[M, N]` and v `[M]`.
fn add_transposed<F: Float>(out: &mut [F], matrix: &[F], v: &[F]) {
    let columns = out.len();
    for (index, &v) in v.iter().enumerate() {
        for (out, &m) in out.iter_mut().zip(row(matrix, index, columns)) {
            *out += m * v;
        }
    }
}

/// out `[M, N]` += a bᵀ for a `[M]` and b `[N]`.
fn add_outer<F: Float>(out: &mut [F], a: &[F], b: &[F]) {
    for (index, &a) in a.iter().enumerate() {
        for (out, &b) in out[index * b.len()..].iter_mut().zip(b) {
            *out += a * b;
        }
    }
}

/// Equation (12) for one gate whose sum has the gradient `sum`.
fn add_linear<F: Float>(
    d_w_x: &mut [F],
    d_b_x: &mut [F],
    d_w_h: &mut [F],
    d_b_h: &mut [F],
    sum: &[F],
    x: &[F],
    h: &[F],
) {
    add_outer(d_w_x, sum, x);
    add_outer(d_w_h, sum, h);
    for (unit, &sum) in sum.iter().enumerate() {
        d_b_x[unit] += sum;
        d_b_h[unit] += sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

    /// Everything a two-step computation depends on, so that gradients flow through h and c as well.
    #[derive(Clone)]
    struct Case {
        cell: Cell<f64>,
        x: [Vec<f64>; 2],
        initial: CellState<f64>,
    }

    /// The weights of a random linear loss over the outputs.
    struct Loss {
        h: [Vec<f64>; 2],
        o: [Vec<f64>; 2],
        c: Vec<f64>,
    }

    impl Loss {
        fn of(&self, case: &Case) -> f64 {
            let (first, first_gates) = case.cell.forward(&case.x[0], &case.initial);
            let (second, second_gates) = case.cell.forward(&case.x[1], &first);
            dot(&first.h, &self.h[0])
                + dot(&second.h, &self.h[1])
                + dot(&first_gates.o, &self.o[0])
                + dot(&second_gates.o, &self.o[1])
                + dot(&second.c, &self.c)
        }

        /// The central difference quotient in the value that `pick` finds.
        fn slope(&self, case: &Case, pick: impl Fn(&mut Case) -> &mut f64) -> f64 {
            let step = 1e-5;
            let at = |offset: f64| {
                let mut moved = case.clone();
                *pick(&mut moved) += offset;
                self.of(&moved)
            };
            (at(step) - at(-step)) / (2.0 * step)
        }
    }

    fn random(rng: &mut Rng, len: usize) -> Vec<f64> {
        (0..len).map(|_| f64::from(rng.normal()) * 0.6).collect()
    }

    fn check_against_finite_differences(mut cell: Cell<f64>) {
        let rng = &mut Rng::new(5, Purpose::Init, cell.recurrent as u64);
        for (_, values) in cell.parameters_mut() {
            *values = random(rng, values.len());
        }
        let (input, hidden, recurrent) = (cell.input, cell.hidden, cell.recurrent);
        let case = Case {
            x: [random(rng, input), random(rng, input)],
            initial: CellState { h: random(rng, recurrent), c: random(rng, hidden) },
            cell,
        };
        let loss = Loss {
            h: [random(rng, recurrent), random(rng, recurrent)],
            o: [random(rng, hidden), random(rng, hidden)],
            c: random(rng, hidden),
        };

        let (first, first_gates) = case.cell.forward(&case.x[0], &case.initial);
        let (_, second_gates) = case.cell.forward(&case.x[1], &first);
        let mut gradients = case.cell.zeros_like();
        let last = CellState { h: loss.h[1].clone(), c: loss.c.clone() };
        let (d_x1, mut between) =
            case.cell.backward(&case.x[1], &first, &second_gates, &last, Some(&loss.o[1]), &mut gradients);
        for (d_h, read) in between.h.iter_mut().zip(&loss.h[0]) {
            *d_h += read;
        }
        let (d_x0, d_initial) =
            case.cell.backward(&case.x[0], &case.initial, &first_gates, &between, Some(&loss.o[0]), &mut gradients);

        let close = |what: &str, analytic: f64, slope: f64| {
            assert!((analytic - slope).abs() <= 1e-8 * (1.0 + slope.abs()), "{what}: {analytic} against {slope}");
        };
        for (place, (name, values)) in gradients.parameters_mut().into_iter().enumerate() {
            for (index, &analytic) in values.iter().enumerate() {
                close(
                    name,
                    analytic,
                    loss.slope(&case, |case| &mut case.cell.parameters_mut().swap_remove(place).1[index]),
                );
            }
        }
        for index in 0..input {
            close("x of the first step", d_x0[index], loss.slope(&case, |case| &mut case.x[0][index]));
            close("x of the second step", d_x1[index], loss.slope(&case, |case| &mut case.x[1][index]));
        }
        for index in 0..recurrent {
            close("initial h", d_initial.h[index], loss.slope(&case, |case| &mut case.initial.h[index]));
        }
        for index in 0..hidden {
            close("initial c", d_initial.c[index], loss.slope(&case, |case| &mut case.initial.c[index]));
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        check_against_finite_differences(Cell::zeros(3, 4));
        check_against_finite_differences(Cell::zeros(1, 1));
    }

    #[test]
    fn gradients_with_a_projection_are_the_slopes_of_the_loss() {
        check_against_finite_differences(Cell::zeros_projected(3, 5, 2));
    }

    #[test]
    fn the_stacked_layout_orders_gates_i_f_g_o_and_round_trips() {
        let mut cell = Cell::<f32>::zeros_projected(2, 3, 1);
        for (place, (_, values)) in cell.parameters_mut().into_iter().enumerate() {
            values.fill(place as f32);
        }
        let stacked = cell.to_stacked();
        assert_eq!(stacked.bias_ih, [8., 8., 8., 9., 9., 9., 10., 10., 10., 11., 11., 11.]);
        assert_eq!(Cell::from_stacked(2, &stacked), cell);
    }

    #[test]
    fn single_and_double_precision_agree() {
        let mut single = Cell::<f32>::zeros(2, 2);
        let mut double = Cell::<f64>::zeros(2, 2);
        let rng = &mut Rng::new(1, Purpose::Init, 0);
        for ((_, single), (_, double)) in single.parameters_mut().into_iter().zip(double.parameters_mut()) {
            single.fill_with(|| rng.normal());
            *double = single.iter().map(|&value| f64::from(value)).collect();
        }
        let (state, _) = single.forward(&[0.5, -1.0], &CellState::zeros(&single));
        let (expected, _) = double.forward(&[0.5, -1.0], &CellState::zeros(&double));
        for (value, expected) in state.h.iter().zip(&expected.h) {
            assert!((f64::from(*value) - expected).abs() < 1e-6);
        }
    }
}
