//! One step of an LSTM that differs from the plain one, gate by gate: peephole connections, coupled gates, layer
//! normalisation and zoneout, in any combination, and with the rounds of a [`mogrifier`] before it; and the sLSTM. As [`crate::cell`] it is slow and obvious, and the definition.
//!
//! # Peephole connections (Gers & Schmidhuber 2000)
//!
//! Every unit's gates see its own cell, the input and forget gates the one before, the output gate the new one; in the
//! plain LSTM a closed output gate hides the cell from them:
//!
//! ```text
//! (1p) i = σ(… + p_i ∘ c)      (2p) f = σ(… + p_f ∘ c)      (4p) o = σ(… + p_o ∘ c')
//! ```
//!
//! # Coupled gates (Greff et al. 2017)
//!
//! What enters takes the place of what leaves. The input gate has no parameters:
//!
//! ```text
//! (1c) i = 1 − f
//! ```
//!
//! # Layer normalisation (Ba, Kiros & Hinton 2016)
//!
//! With N(s) = (s − mean(s)) / √(var(s) + ε), ε = 10⁻⁵, over all values of a vector, the paper's equations 20 to 22:
//!
//! ```text
//! (1n–4n)  the gates' sums are  γ_x ∘ N(W_x x) + b_x + γ_h ∘ N(W_h h) + b_h
//! (6n)     h' = o ∘ tanh(γ_c ∘ N(c') + β_c)
//! ```
//!
//! W_x x and W_h h are the `[4H]` vectors of all gates together (`[3H]` if they are coupled), each with a mean and variance
//! of its own. b_x and b_h are the biases of both normalisations; the paper's third, b, would add to the same sum. The
//! cell state that recurs is not normalised, only what is read of it. Peepholes see it as it is and are added after
//! the normalisation.
//!
//! # Zoneout (Krueger et al. 2017)
//!
//! The states c̃ and h̃ that a step computes replace only a part of those before; k is 1 where a unit keeps its value and
//! 0 elsewhere, drawn for every unit and step of training, and the probability itself in evaluation:
//!
//! ```text
//! (14) c' = k_c ∘ c + (1 − k_c) ∘ c̃      h' = k_h ∘ h + (1 − k_h) ∘ h̃
//! ```
//!
//! As in the paper h̃ is read from c̃, not from c'; the output gate's peephole sees c̃, too. With a projection h̃ is the
//! projected state.
//!
//! # The sLSTM (Beck, Pöppel et al. 2024, arXiv 2405.04517)
//!
//! What enters is weighed by an exponential, so that one step can outweigh all before it, and a normaliser n keeps the sum of all weights:
//!
//! ```text
//! (1s) i = exp(…)      (5s) C' = f ∘ C + i ∘ g      n' = f ∘ n + i      (6s) h' = o ∘ C' / n'
//! ```
//!
//! f stays σ, one of the paper's two. Kept are c = C / n, a mean of all candidates so far, and n, so that c needs no stabilising: with α the
//! share of the newest,
//!
//! ```text
//! (19) α = i / n'      c' = (1 − α) ∘ c + α ∘ g      h' = o ∘ c'
//! ```
//!
//! which is the paper's stabilised form in exact arithmetic. Before the first step n is zero, so α is 1. The state's c is `[2H]`, c and then n;
//! a step leaves α in place of i. In the kernels a sum above 40 counts as 40 in (1s). It has four gates and none of the differences above but
//! a projection, zoneout of h and a mogrifier.
//!
//! # The backward step
//!
//! Zoneout splits the gradients that arrive. The other equations are those of the plain step with more ways to the cell:
//!
//! ```text
//! (15) δh̃ = (1 − k_h) ∘ δh'      δh = k_h ∘ δh' + …      δc̃ = (1 − k_c) ∘ δc' + …      δc = k_c ∘ δc' + …
//! (16) δc̃ += p_o ∘ δô            δc += p_i ∘ δî + p_f ∘ δf̂
//!      δp_i += δî ∘ c            δp_f += δf̂ ∘ c            δp_o += δô ∘ c̃
//! (17) δf = δc̃ ∘ (c − g)         where the gates are coupled
//! ```
//!
//! Through y = γ ∘ N(s) + β, with ŝ = N(s), r = 1 / √(var(s) + ε) and d = δy ∘ γ:
//!
//! ```text
//! (18) δγ += δy ∘ ŝ      δβ += δy      δs = r (d − mean(d) − ŝ mean(d ∘ ŝ))
//! ```
//!
//! Of an sLSTM, with δλ the derivative by log n':
//!
//! ```text
//! (22) δc' += δh' ∘ o      δα = δc' ∘ (g − c)      δλ = n' ∘ δn' − α ∘ δα
//!      δî = α ∘ (δα + δλ)      δf̂ = δλ ∘ (1 − α) ∘ (1 − f)      δg = δc' ∘ α
//!      δc = δc' ∘ (1 − α)      δn = δλ ∘ f / n'
//! ```

use super::mogrifier::{self, Round};
use super::{CellState, Float, Gates, add_outer, add_transposed, dot, row};
use crate::nn::config::CellOptions;

/// The parameters of one gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate<F> {
    /// From x, `[H, I]`.
    pub w_x: Vec<F>,
    /// From h, `[H, R]`.
    pub w_h: Vec<F>,
    /// The bias beside x, `[H]`.
    pub b_x: Vec<F>,
    /// The bias beside h, `[H]`.
    pub b_h: Vec<F>,
    /// From the unit's own cell, `[H]`; empty for a gate that sees none.
    pub peephole: Vec<F>,
    /// γ_x, `[H]`; empty without layer normalisation.
    pub gain_x: Vec<F>,
    /// γ_h, `[H]`; empty likewise.
    pub gain_h: Vec<F>,
}

/// The parameters of a cell, or their gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantCell<F> {
    /// I, the size of x.
    pub input: usize,
    /// H, the size of the gates and of c.
    pub hidden: usize,
    /// R, the size of h: P with a projection, else H.
    pub recurrent: usize,
    /// The gates with parameters: i, f, g, o, or f, g, o if i = 1 − f.
    pub gates: Vec<Gate<F>>,
    /// γ_c, `[H]`; empty without layer normalisation.
    pub gain_cell: Vec<F>,
    /// β_c, `[H]`; empty likewise.
    pub bias_cell: Vec<F>,
    /// The projection, `[P, H]`; `None` when h̃ is `o ∘ tanh(…)` itself.
    pub w_hr: Option<Vec<F>>,
    /// Whether it is an sLSTM's.
    pub exponential: bool,
    /// The rounds before the step: odd ones gate x, even ones h; none of a cell that is not mogrified.
    pub rounds: Vec<Round<F>>,
}

/// What zoneout keeps of the states before: k_h `[R]` and k_c `[H]`.
pub type Kept<F> = CellState<F>;

/// What a step computed, besides the states: what its backward step reads.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantStep<F> {
    /// The gates.
    pub gates: Gates<F>,
    /// c̃, `[H]`; of an sLSTM c and n after the step, `[2H]`.
    pub c: Vec<F>,
}

/// An array of a gate.
type Field<F> = fn(&mut Gate<F>) -> &mut Vec<F>;

/// N(s), and 1 / √(var(s) + ε).
struct Normalised<F> {
    values: Vec<F>,
    scale: F,
}

impl<F: Float> Normalised<F> {
    fn of(s: &[F]) -> Self {
        let mean = mean(s.iter().copied());
        let variance = self::mean(s.iter().map(|&s| (s - mean) * (s - mean)));
        let scale = F::ONE / (variance + F::EPSILON).sqrt();
        Self { values: s.iter().map(|&s| (s - mean) * scale).collect(), scale }
    }

    /// δs of (18), from d.
    fn backward(&self, d: &[F]) -> Vec<F> {
        let mean_d = mean(d.iter().copied());
        let along = mean(d.iter().zip(&self.values).map(|(&d, &s)| d * s));
        d.iter().zip(&self.values).map(|(&d, &s)| self.scale * (d - mean_d - s * along)).collect()
    }
}

impl<F: Float> VariantCell<F> {
    /// A cell with every parameter zero, gains too.
    pub fn zeros(input: usize, hidden: usize, projection: Option<usize>, variant: &CellOptions) -> Self {
        let recurrent = projection.unwrap_or(hidden);
        let zeros = |len: usize| vec![F::ZERO; len];
        let some = |chosen: bool| zeros(if chosen { hidden } else { 0 });
        let first = 4 - variant.gates();
        // i, f, g, o: the candidate g has no peephole.
        let gate = |gate: usize| Gate {
            w_x: zeros(hidden * input),
            w_h: zeros(hidden * recurrent),
            b_x: zeros(hidden),
            b_h: zeros(hidden),
            peephole: some(variant.peepholes && gate != 2),
            gain_x: some(variant.layer_norm),
            gain_h: some(variant.layer_norm),
        };
        Self {
            input,
            hidden,
            recurrent,
            gates: (first..4).map(gate).collect(),
            gain_cell: some(variant.layer_norm),
            bias_cell: some(variant.layer_norm),
            w_hr: projection.map(|size| zeros(size * hidden)),
            exponential: variant.exponential,
            rounds: (0..variant.mogrify)
                .map(|index| {
                    let (n, m) = if index % 2 == 0 { (input, recurrent) } else { (recurrent, input) };
                    Round::zeros(n, m, variant.mogrify_rank)
                })
                .collect(),
        }
    }

    /// The cell whose parameters lie as the library's layers have them, under their names without the layer: the gates
    /// of `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`, `gain_ih` and `gain_hh` one after the other, i, f and o in
    /// `weight_peephole`, the rounds that gate x in `weight_mogrify_input`, of a lower rank beside `weight_mogrify_input_right`, those of h
    /// in `weight_mogrify_hidden` likewise.
    ///
    /// # Panics
    /// When there is no array of a name, or one of another size.
    pub fn from_stacked(
        input: usize,
        hidden: usize,
        projection: Option<usize>,
        variant: &CellOptions,
        named: impl Fn(&str) -> Vec<F>,
    ) -> Self {
        let mut cell = Self::zeros(input, hidden, projection, variant);
        let fields: [(&str, Field<F>); 7] = [
            ("weight_ih", |gate| &mut gate.w_x),
            ("weight_hh", |gate| &mut gate.w_h),
            ("bias_ih", |gate| &mut gate.b_x),
            ("bias_hh", |gate| &mut gate.b_h),
            ("weight_peephole", |gate| &mut gate.peephole),
            ("gain_ih", |gate| &mut gate.gain_x),
            ("gain_hh", |gate| &mut gate.gain_h),
        ];
        for (name, field) in fields {
            let mut targets: Vec<&mut Vec<F>> = cell.gates.iter_mut().map(field).collect();
            if targets.iter().all(|target| target.is_empty()) {
                continue;
            }
            let stacked = named(name);
            assert_eq!(stacked.len(), targets.iter().map(|target| target.len()).sum::<usize>(), "{name}");
            let mut at = 0;
            for target in &mut targets {
                let len = target.len();
                target.copy_from_slice(&stacked[at..at + len]);
                at += len;
            }
        }
        let whole = [("gain_cell", Some(&mut cell.gain_cell)), ("bias_cell", Some(&mut cell.bias_cell))];
        let whole = whole.into_iter().chain([("weight_hr", cell.w_hr.as_mut())]);
        for (name, target) in whole.filter_map(|(name, target)| Some(name).zip(target)) {
            if !target.is_empty() {
                target.copy_from_slice(&named(name));
            }
        }
        let names = [
            ["weight_mogrify_input", "weight_mogrify_input_right"],
            ["weight_mogrify_hidden", "weight_mogrify_hidden_right"],
        ];
        for (index, round) in cell.rounds.iter_mut().enumerate() {
            for (target, name) in [&mut round.left, &mut round.right].into_iter().zip(names[index % 2]) {
                if !target.is_empty() {
                    let len = target.len();
                    target.copy_from_slice(&named(name)[index / 2 * len..][..len]);
                }
            }
        }
        cell
    }

    /// A cell of the same shape with every parameter zero: where [`VariantCell::backward`] adds up gradients.
    pub fn zeros_like(&self) -> Self {
        let mut cell = self.clone();
        cell.parameters_mut().into_iter().for_each(|values| values.fill(F::ZERO));
        cell
    }

    /// Every parameter.
    pub fn parameters_mut(&mut self) -> Vec<&mut Vec<F>> {
        let gates = self.gates.iter_mut();
        let mut all: Vec<&mut Vec<F>> = gates
            .flat_map(|Gate { w_x, w_h, b_x, b_h, peephole, gain_x, gain_h }| {
                [w_x, w_h, b_x, b_h, peephole, gain_x, gain_h]
            })
            .collect();
        all.extend([&mut self.gain_cell, &mut self.bias_cell]);
        all.extend(self.w_hr.as_mut());
        all.extend(self.rounds.iter_mut().flat_map(|Round { left, right }| [left, right]));
        all
    }

    /// The state before the first step: zeros. Also what zoneout keeps where there is none.
    pub fn zero_state(&self) -> CellState<F> {
        CellState { h: vec![F::ZERO; self.recurrent], c: vec![F::ZERO; self.state()] }
    }

    /// The size of c: H, or 2H.
    fn state(&self) -> usize {
        if self.exponential { 2 * self.hidden } else { self.hidden }
    }

    /// The gates f, g and o, whose places are the same whether or not there is an i before them.
    fn last_three(&self) -> [&Gate<F>; 3] {
        let [.., f, g, o] = &self.gates[..] else { unreachable!("at least three gates") };
        [f, g, o]
    }

    /// i, unless it is 1 − f.
    fn own_i(&self) -> Option<&Gate<F>> {
        (self.gates.len() == 4).then(|| &self.gates[0])
    }

    fn is_normalised(&self) -> bool {
        !self.gain_cell.is_empty()
    }

    /// W v of all gates, one after the other: `[K·H]`.
    fn linear(&self, v: &[F], weight: impl Fn(&Gate<F>) -> &[F]) -> Vec<F> {
        let units =
            |gate: &Gate<F>| (0..self.hidden).map(|u| dot(row(weight(gate), u, v.len()), v)).collect::<Vec<F>>();
        self.gates.iter().flat_map(units).collect()
    }

    /// What is inside the gates' non-linearities without peepholes: `[K·H]`.
    fn sums(&self, x: &[F], h: &[F]) -> Vec<F> {
        let (from_x, from_h) = (self.linear(x, |gate| &gate.w_x), self.linear(h, |gate| &gate.w_h));
        let (from_x, from_h) = match self.is_normalised() {
            true => (Normalised::of(&from_x).values, Normalised::of(&from_h).values),
            false => (from_x, from_h),
        };
        let sum = |at: usize| {
            let (gate, unit) = (&self.gates[at / self.hidden], at % self.hidden);
            let gain = |gains: &[F]| gains.get(unit).copied().unwrap_or(F::ONE);
            gain(&gate.gain_x) * from_x[at] + gate.b_x[unit] + gain(&gate.gain_h) * from_h[at] + gate.b_h[unit]
        };
        (0..from_x.len()).map(sum).collect()
    }

    /// tanh of what is read of c̃; of an sLSTM c itself.
    fn tanh_of(&self, c: &[F]) -> Vec<F> {
        if self.exponential {
            return c[..self.hidden].to_vec();
        }
        if !self.is_normalised() {
            return c.iter().map(|c| c.tanh()).collect();
        }
        let normalised = Normalised::of(c).values;
        (0..c.len()).map(|u| (self.gain_cell[u] * normalised[u] + self.bias_cell[u]).tanh()).collect()
    }

    /// One step: from `x` `[I]` and the state before to the state after and what was computed. `kept`: what zoneout keeps,
    /// zeros for none.
    ///
    /// # Panics
    /// When `x` or the states do not have the cell's sizes.
    pub fn forward(&self, x: &[F], before: &CellState<F>, kept: &Kept<F>) -> (CellState<F>, VariantStep<F>) {
        assert_eq!(x.len(), self.input, "x is [I]");
        for state in [before, kept] {
            assert_eq!((state.h.len(), state.c.len()), (self.recurrent, self.state()), "h is [R], c is [H]");
        }
        let units = || 0..self.hidden;
        let read = mogrifier::forward(&self.rounds, x, &before.h);
        let [x_read, h_read] = &read[self.rounds.len()];
        let sums = self.sums(x_read, h_read);
        // The sums of the gate at `place` from the last.
        let sum = |place: usize, u: usize| sums[sums.len() - (place + 1) * self.hidden + u];
        let [f_gate, _, o_gate] = self.last_three();
        let see = |gate: &Gate<F>, u: usize, c: &[F]| match gate.peephole.get(u) {
            Some(&weight) => weight * c[u],
            None => F::ZERO,
        };
        let f: Vec<F> = units().map(|u| (sum(2, u) + see(f_gate, u, &before.c)).sigmoid()).collect();
        let i: Vec<F> = match self.own_i() {
            Some(gate) => units().map(|u| (sum(3, u) + see(gate, u, &before.c)).sigmoid()).collect(),
            None => units().map(|u| F::ONE - f[u]).collect(),
        };
        let g: Vec<F> = units().map(|u| sum(1, u).tanh()).collect();
        let (i, c) = match self.exponential {
            true => self.newest(&before.c, &f, |u| sum(3, u).exp(), &g),
            false => {
                let c = units().map(|u| f[u] * before.c[u] + i[u] * g[u]).collect();
                (i, c)
            }
        };
        let o: Vec<F> = units().map(|u| (sum(0, u) + see(o_gate, u, &c)).sigmoid()).collect();
        let tanh_c = self.tanh_of(&c);
        let shown: Vec<F> = units().map(|u| o[u] * tanh_c[u]).collect();
        let h = match &self.w_hr {
            None => shown,
            Some(w_hr) => (0..self.recurrent).map(|p| dot(row(w_hr, p, self.hidden), &shown)).collect(),
        };
        let after = CellState { h: blend(&kept.h, &before.h, &h), c: blend(&kept.c, &before.c, &c) };
        (after, VariantStep { gates: Gates { i, f, g, o }, c })
    }

    /// One step backward, as [`Cell::backward`](super::Cell::backward).
    ///
    /// `x`, `before`, `kept` and `step` are those of the forward step; `after` is the gradient of the state after it;
    /// `d_o` `[H]` is what a reader of the output gate adds to δo. The gradients of the parameters are added to
    /// `gradients`. Gives δx `[I]` and the gradient of the state before.
    pub fn backward(
        &self,
        x: &[F],
        before: &CellState<F>,
        kept: &Kept<F>,
        step: &VariantStep<F>,
        after: &CellState<F>,
        d_o: Option<&[F]>,
        gradients: &mut Self,
    ) -> (Vec<F>, CellState<F>) {
        let VariantStep { gates: Gates { i, f, g, o }, c } = step;
        let hidden = self.hidden;
        let units = || 0..hidden;
        let tanh_c = self.tanh_of(c);

        // (15)
        let new_h: Vec<F> = after.h.iter().zip(&kept.h).map(|(&d, &k)| (F::ONE - k) * d).collect();
        let mut d_h: Vec<F> = after.h.iter().zip(&kept.h).map(|(&d, &k)| k * d).collect();
        let d_shown = match (&self.w_hr, &mut gradients.w_hr) {
            (Some(w_hr), Some(d_w_hr)) => {
                let shown: Vec<F> = units().map(|u| o[u] * tanh_c[u]).collect();
                add_outer(d_w_hr, &new_h, &shown);
                let mut d_shown = vec![F::ZERO; hidden];
                add_transposed(&mut d_shown, w_hr, &new_h);
                d_shown
            }
            _ => new_h,
        };
        // (7), (8): to the output gate, and to what is read of c̃.
        let d_o: Vec<F> = units().map(|u| d_shown[u] * tanh_c[u] + d_o.map_or(F::ZERO, |d_o| d_o[u])).collect();
        let slope = |read: F| if self.exponential { F::ONE } else { F::ONE - read * read };
        let d_read: Vec<F> = units().map(|u| d_shown[u] * o[u] * slope(tanh_c[u])).collect();
        let through_read = match self.is_normalised() {
            false => d_read,
            true => {
                let normalised = Normalised::of(c);
                add_products(&mut gradients.gain_cell, &d_read, &normalised.values);
                add(&mut gradients.bias_cell, &d_read);
                normalised.backward(&products(&d_read, &self.gain_cell))
            }
        };
        let sum_o: Vec<F> = units().map(|u| d_o[u] * o[u] * (F::ONE - o[u])).collect();
        let mut d_c: Vec<F> = units().map(|u| (F::ONE - kept.c[u]) * after.c[u] + through_read[u]).collect();
        let mut d_c_before: Vec<F> = units().map(|u| kept.c[u] * after.c[u]).collect();
        let [f_gate, _, o_gate] = self.last_three();
        // (16) for o, which has to come before (9).
        add_products(&mut d_c, &o_gate.peephole, &sum_o);

        // (9), (17) and (11), in the order of the gates.
        let coupled = self.own_i().is_none();
        let through_f = |u: usize| if coupled { before.c[u] - g[u] } else { before.c[u] };
        let sum_i: Vec<F> = units().map(|u| d_c[u] * g[u] * i[u] * (F::ONE - i[u])).collect();
        let sum_f: Vec<F> = units().map(|u| d_c[u] * through_f(u) * f[u] * (F::ONE - f[u])).collect();
        let sum_g: Vec<F> = units().map(|u| d_c[u] * i[u] * (F::ONE - g[u] * g[u])).collect();
        let (sum_i, sum_f) = match self.exponential {
            true => {
                let [sum_i, sum_f, before] = self.newest_backward(&before.c, step, &d_c, &after.c);
                d_c_before = before;
                (sum_i, sum_f)
            }
            false => {
                // (10)
                add_products(&mut d_c_before, &d_c, f);
                (sum_i, sum_f)
            }
        };
        // (16) for i and f.
        add_products(&mut d_c_before, &f_gate.peephole, &sum_f);
        if let Some(gate) = self.own_i() {
            add_products(&mut d_c_before, &gate.peephole, &sum_i);
        }
        let seen: [&[F]; 4] = [&before.c, &before.c, &[], c];
        let sums = [sum_i, sum_f, sum_g, sum_o];
        let first = usize::from(coupled);
        for ((gate, sum), seen) in gradients.gates.iter_mut().zip(&sums[first..]).zip(&seen[first..]) {
            add_products(&mut gate.peephole, sum, seen);
            add(&mut gate.b_x, sum);
            add(&mut gate.b_h, sum);
        }

        // (18), (12) and (13), of x and of h.
        let sums = sums[first..].concat();
        let read = mogrifier::forward(&self.rounds, x, &before.h);
        let [x_read, h_read] = &read[self.rounds.len()];
        let (mut d_x, mut d_h_read) = (vec![F::ZERO; self.input], vec![F::ZERO; self.recurrent]);
        self.linear_backward(x_read, &sums, [|gate| &mut gate.w_x, |gate| &mut gate.gain_x], gradients, &mut d_x);
        self.linear_backward(h_read, &sums, [|gate| &mut gate.w_h, |gate| &mut gate.gain_h], gradients, &mut d_h_read);
        // (21), after which what zoneout carries joins.
        let [d_x, d_h_rounds] = mogrifier::backward(&self.rounds, &read, [d_x, d_h_read], &mut gradients.rounds);
        add(&mut d_h, &d_h_rounds);
        (d_x, CellState { h: d_h, c: d_c_before })
    }

    /// (19) and the normaliser: α, and c and n after the step.
    fn newest(&self, before: &[F], f: &[F], i: impl Fn(usize) -> F, g: &[F]) -> (Vec<F>, Vec<F>) {
        let (c, n) = before.split_at(self.hidden);
        let n: Vec<F> = n.iter().enumerate().map(|(u, &n)| f[u] * n + i(u)).collect();
        let share: Vec<F> = n.iter().enumerate().map(|(u, &n)| i(u) / n).collect();
        let c = c.iter().enumerate().map(|(u, &c)| (F::ONE - share[u]) * c + share[u] * g[u]);
        let after = c.chain(n.iter().copied()).collect();
        (share, after)
    }

    /// (22): δî, δf̂, and δc and δn before the step. `d_c`: δc' with all that reaches it; `after`: what the step after gives of c and n.
    fn newest_backward(&self, before: &[F], step: &VariantStep<F>, d_c: &[F], after: &[F]) -> [Vec<F>; 3] {
        let VariantStep { gates: Gates { i: share, f, g, .. }, c } = step;
        let (hidden, n) = (self.hidden, &c[self.hidden..]);
        let d_share: Vec<F> = (0..hidden).map(|u| d_c[u] * (g[u] - before[u])).collect();
        let d_log: Vec<F> = (0..hidden).map(|u| n[u] * after[hidden + u] - share[u] * d_share[u]).collect();
        let sum_i = (0..hidden).map(|u| share[u] * (d_share[u] + d_log[u])).collect();
        let sum_f = (0..hidden).map(|u| d_log[u] * (F::ONE - share[u]) * (F::ONE - f[u])).collect();
        let of_c = (0..hidden).map(|u| d_c[u] * (F::ONE - share[u]));
        let of_n = (0..hidden).map(|u| d_log[u] * f[u] / n[u]);
        [sum_i, sum_f, of_c.chain(of_n).collect()]
    }

    /// From the gradient of what is inside the gates' non-linearities, `[K·H]`, back through the normalisation of W v, if
    /// there is one, and through W v to v, whose gradient is added to `d_v`.
    fn linear_backward(&self, v: &[F], sums: &[F], [weight, gain]: [Field<F>; 2], gradients: &mut Self, d_v: &mut [F]) {
        let hidden = self.hidden;
        let mut gates = self.gates.clone();
        let mut d_linear = sums.to_vec();
        if self.is_normalised() {
            let normalised =
                Normalised::of(&gates.iter_mut().flat_map(|gate| multiply(weight(gate), v)).collect::<Vec<F>>());
            for (at, gate) in gradients.gates.iter_mut().enumerate() {
                let own = at * hidden..(at + 1) * hidden;
                add_products(gain(gate), &sums[own.clone()], &normalised.values[own]);
            }
            let gains: Vec<F> = gates.iter_mut().flat_map(|gate| gain(gate).clone()).collect();
            d_linear = normalised.backward(&products(sums, &gains));
        }
        for (own, (gate, gradient)) in d_linear.chunks_exact(hidden).zip(gates.iter_mut().zip(&mut gradients.gates)) {
            add_outer(weight(gradient), own, v);
            add_transposed(d_v, weight(gate), own);
        }
    }
}

/// Equation (14).
fn blend<F: Float>(kept: &[F], before: &[F], new: &[F]) -> Vec<F> {
    (0..new.len()).map(|u| kept[u] * before[u] + (F::ONE - kept[u]) * new[u]).collect()
}

fn mean<F: Float>(values: impl ExactSizeIterator<Item = F>) -> F {
    let (mut sum, mut count) = (F::ZERO, F::ZERO);
    for value in values {
        sum += value;
        count += F::ONE;
    }
    sum / count
}

fn products<F: Float>(a: &[F], b: &[F]) -> Vec<F> {
    a.iter().zip(b).map(|(&a, &b)| a * b).collect()
}

/// M v for a matrix of as many columns.
fn multiply<F: Float>(matrix: &[F], v: &[F]) -> Vec<F> {
    matrix.chunks_exact(v.len()).map(|row| dot(row, v)).collect()
}

/// out += values.
fn add<F: Float>(out: &mut [F], values: &[F]) {
    out.iter_mut().zip(values).for_each(|(out, &value)| *out += value);
}

/// out += a ∘ b; nothing where one of them is empty.
fn add_products<F: Float>(out: &mut [F], a: &[F], b: &[F]) {
    out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (&a, &b))| *out += a * b);
}

#[cfg(test)]
mod tests {
    use super::super::{Cell, Stacked};
    use super::*;
    use crate::rng::{Purpose, Rng};

    /// Every combination of peepholes, coupled gates and layer normalisation.
    fn combinations() -> impl Iterator<Item = CellOptions> {
        (0..8).map(|bits| CellOptions {
            peepholes: bits & 1 > 0,
            coupled: bits & 2 > 0,
            layer_norm: bits & 4 > 0,
            ..CellOptions::default()
        })
    }

    fn random(rng: &mut Rng, len: usize) -> Vec<f64> {
        (0..len).map(|_| f64::from(rng.normal()) * 0.6).collect()
    }

    /// Everything that two steps depend on, and the weights of a linear loss over h, o and c.
    #[derive(Clone)]
    struct Case {
        cell: VariantCell<f64>,
        x: [Vec<f64>; 2],
        initial: CellState<f64>,
        kept: [Kept<f64>; 2],
        loss: [CellState<f64>; 2],
        o: [Vec<f64>; 2],
    }

    impl Case {
        fn new(variant: &CellOptions, projection: Option<usize>, zoneout: bool) -> Self {
            let rng = &mut Rng::new(9, Purpose::Init, variant.gates() as u64);
            let mut cell = VariantCell::zeros(3, 5, projection, variant);
            cell.parameters_mut().into_iter().for_each(|values| *values = random(rng, values.len()));
            let mut state = || CellState { h: random(rng, cell.recurrent), c: random(rng, cell.state()) };
            let (mut initial, loss) = (state(), [state(), state()]);
            // A normaliser is a sum of exponentials.
            initial.c[cell.hidden..].iter_mut().for_each(|n| *n = n.abs() + 0.1);
            let kept = [0.4, 1.0].map(|rate| {
                let keep =
                    |values: &[f64]| values.iter().map(|v| if zoneout && *v > 0.0 { rate } else { 0.0 }).collect();
                let drawn = state();
                CellState { h: keep(&drawn.h), c: keep(&drawn.c) }
            });
            let x = [random(rng, 3), random(rng, 3)];
            let o = [random(rng, cell.hidden), random(rng, cell.hidden)];
            Self { cell, x, initial, kept, loss, o }
        }

        fn loss(&self) -> f64 {
            let (first, first_step) = self.cell.forward(&self.x[0], &self.initial, &self.kept[0]);
            let (second, second_step) = self.cell.forward(&self.x[1], &first, &self.kept[1]);
            let of = |state: &CellState<f64>, step: &VariantStep<f64>, at: usize| {
                dot(&state.h, &self.loss[at].h) + dot(&state.c, &self.loss[at].c) + dot(&step.gates.o, &self.o[at])
            };
            of(&first, &first_step, 0) + of(&second, &second_step, 1)
        }

        fn slope(&self, pick: impl Fn(&mut Self) -> &mut f64) -> f64 {
            let at = |offset: f64| {
                let mut moved = self.clone();
                *pick(&mut moved) += offset;
                moved.loss()
            };
            (at(1e-5) - at(-1e-5)) / 2e-5
        }

        fn check(&self) {
            let cell = &self.cell;
            let (first, first_step) = cell.forward(&self.x[0], &self.initial, &self.kept[0]);
            let (_, second_step) = cell.forward(&self.x[1], &first, &self.kept[1]);
            let mut gradients = cell.zeros_like();
            let [kept, last] = &self.kept;
            let (d_x1, mut between) =
                cell.backward(&self.x[1], &first, last, &second_step, &self.loss[1], Some(&self.o[1]), &mut gradients);
            add(&mut between.h, &self.loss[0].h);
            add(&mut between.c, &self.loss[0].c);
            let o = Some(&self.o[0][..]);
            let (d_x0, d_initial) =
                cell.backward(&self.x[0], &self.initial, kept, &first_step, &between, o, &mut gradients);
            let close = |what: &str, analytic: f64, slope: f64| {
                assert!((analytic - slope).abs() <= 1e-7 * (1.0 + slope.abs()), "{what}: {analytic} against {slope}");
            };
            for (place, values) in gradients.parameters_mut().into_iter().enumerate() {
                for (index, &analytic) in values.iter().enumerate() {
                    let slope = self.slope(|case| &mut case.cell.parameters_mut().swap_remove(place)[index]);
                    close(&format!("parameter {place}"), analytic, slope);
                }
            }
            for index in 0..3 {
                close("x of the first step", d_x0[index], self.slope(|case| &mut case.x[0][index]));
                close("x of the second step", d_x1[index], self.slope(|case| &mut case.x[1][index]));
            }
            for (index, &d) in d_initial.h.iter().enumerate() {
                close("initial h", d, self.slope(|case| &mut case.initial.h[index]));
            }
            for (index, &d) in d_initial.c.iter().enumerate() {
                close("initial c", d, self.slope(|case| &mut case.initial.c[index]));
            }
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        for variant in combinations() {
            for projection in [None, Some(2)] {
                Case::new(&variant, projection, false).check();
                Case::new(&variant, projection, true).check();
            }
        }
    }

    #[test]
    fn gradients_of_mogrified_cells_are_the_slopes_of_the_loss() {
        for (rounds, rank) in [(1, None), (2, Some(2)), (5, None), (5, Some(1)), (6, None)] {
            for variant in [CellOptions::default(), combinations().last().unwrap()] {
                let variant = CellOptions { mogrify: rounds, mogrify_rank: rank, ..variant };
                Case::new(&variant, None, true).check();
                Case::new(&variant, Some(2), false).check();
            }
        }
    }

    #[test]
    fn gradients_of_an_exponential_cell_are_the_slopes_of_the_loss() {
        for mogrify in [0, 3] {
            let variant = CellOptions { exponential: true, mogrify, ..CellOptions::default() };
            Case::new(&variant, None, false).check();
            Case::new(&variant, Some(2), false).check();
        }
    }

    /// The paper's equations 8 to 17 as they stand, with its stabiliser m, over several steps.
    #[test]
    fn an_exponential_cell_is_that_of_the_paper() {
        let variant = CellOptions { exponential: true, ..CellOptions::default() };
        let Case { cell, .. } = Case::new(&variant, None, false);
        let rng = &mut Rng::new(4, Purpose::Init, 1);
        let mut state = cell.zero_state();
        let (mut c, mut n, mut m, mut h) = ([0.0; 5], [0.0; 5], [f64::NEG_INFINITY; 5], vec![0.0; 5]);
        for step in 0..6 {
            let x: Vec<f64> = random(rng, 3).iter().map(|x| x * f64::from(1 + 3 * step)).collect();
            (state, _) = cell.forward(&x, &state, &cell.zero_state());
            let sums = cell.sums(&x, &h);
            for u in 0..5 {
                let [i, f, z, o] = [0, 1, 2, 3].map(|gate: usize| sums[gate * 5 + u]);
                let (log_f, z, o) = (f.sigmoid().ln(), z.tanh(), o.sigmoid());
                let stabiliser = (log_f + m[u]).max(i);
                let (i, f) = ((i - stabiliser).exp(), (log_f + m[u] - stabiliser).exp());
                (c[u], n[u], m[u]) = (f * c[u] + i * z, f * n[u] + i, stabiliser);
                h[u] = o * c[u] / n[u];
            }
            assert!(h.iter().zip(&state.h).all(|(a, b)| (a - b).abs() < 1e-12), "{h:?} {:?}", state.h);
        }
    }

    #[test]
    fn rounds_of_zeros_leave_the_cell_as_it_is() {
        let variant = CellOptions { mogrify: 4, ..CellOptions::default() };
        let mut case = Case::new(&variant, None, false);
        let other = case.loss();
        case.cell.rounds.iter_mut().for_each(|round| round.left.fill(0.0));
        let with = case.loss();
        case.cell.rounds.clear();
        assert_eq!(case.loss(), with);
        assert_ne!(other, with);
    }

    #[test]
    fn without_a_difference_it_is_the_plain_cell() {
        let rng = &mut Rng::new(2, Purpose::Init, 0);
        let stacked = Stacked {
            weight_ih: random(rng, 4 * 5 * 3),
            weight_hh: random(rng, 4 * 5 * 2),
            bias_ih: random(rng, 20),
            bias_hh: random(rng, 20),
            weight_hr: Some(random(rng, 10)),
        };
        let plain = Cell::from_stacked(3, &stacked);
        let variant = VariantCell::from_stacked(3, 5, Some(2), &CellOptions::default(), |name| match name {
            "weight_ih" => stacked.weight_ih.clone(),
            "weight_hh" => stacked.weight_hh.clone(),
            "bias_ih" => stacked.bias_ih.clone(),
            "bias_hh" => stacked.bias_hh.clone(),
            _ => stacked.weight_hr.clone().unwrap(),
        });
        let (x, before) = (random(rng, 3), CellState { h: random(rng, 2), c: random(rng, 5) });
        let (expected, gates) = plain.forward(&x, &before);
        let (state, step) = variant.forward(&x, &before, &variant.zero_state());
        let close = |a: &[f64], b: &[f64]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-14), "{a:?} {b:?}");
        close(&state.h, &expected.h);
        close(&state.c, &expected.c);
        close(&step.gates.o, &gates.o);
        let (mut d_plain, mut d_variant) = (plain.zeros_like(), variant.zeros_like());
        let (d_x, d_before) = plain.backward(&x, &before, &gates, &expected, None, &mut d_plain);
        let kept = variant.zero_state();
        let (variant_x, variant_before) = variant.backward(&x, &before, &kept, &step, &expected, None, &mut d_variant);
        close(&variant_x, &d_x);
        close(&[variant_before.h, variant_before.c].concat(), &[d_before.h, d_before.c].concat());
        close(&d_variant.gates[1].w_h, &d_plain.w_hf);
        close(&d_variant.gates[3].b_x, &d_plain.b_io);
    }

    #[test]
    fn zoneout_keeps_what_it_is_told() {
        let case = Case::new(&CellOptions::default(), None, false);
        let step = |kept: f64| {
            let kept = CellState { h: vec![kept; 5], c: vec![kept; 5] };
            case.cell.forward(&case.x[0], &case.initial, &kept).0
        };
        assert_eq!(step(1.0), case.initial);
        let (new, half) = (step(0.0), step(0.5));
        assert!((half.c[1] - 0.5 * (new.c[1] + case.initial.c[1])).abs() < 1e-15);
    }
}
