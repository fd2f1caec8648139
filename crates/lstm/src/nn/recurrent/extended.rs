//! The loop over a segment of cells that differ from the plain one, and their step in a stream. Equations in
//! [`crate::cell::variant`].
//!
//! The input product of all T·B rows is one product, as for the plain cell; then every step is the product of its hidden
//! states with weights that were packed once, and a pass over its rows for gates and cells. On the way back the same
//! in the other order, and every weight gradient is one product over all rows.

use lstm_kernels::{
    Aligned, CellNorm, CellWeights, Columns, Ended, Keep, Matrix, NormGradient, NormTape, PackedFactor, Start,
    StepPlan, VariantBackward, VariantCell, VariantForward, column_products, column_sums, hold, hold_backward,
    layer_norm, layer_norm_backward,
};

use super::sequence::{Loop, Reaching, Sequence, Sizes, after, before};
use crate::free_memory::bytes_of;
use crate::nn::config::CellOptions;
use crate::nn::dropout::{Dropout, zoneout_places};
use crate::nn::params::{Params, Slot};
use crate::nn::segment::Segment;

/// A cell with peepholes, coupled gates, layer normalisation or zoneout: which of them, and their parameters.
#[derive(Clone, Debug)]
pub(super) struct ExtendedCell {
    variant: CellOptions,
    /// `weight_peephole [3H]`, of i, f, o; `[2H]` of f, o if the gates are coupled.
    peepholes: Option<Slot>,
    norm: Option<NormSlots>,
}

/// The parameters of layer normalisation, besides the biases that every cell has.
#[derive(Clone, Copy, Debug)]
struct NormSlots {
    /// `[K·H]`.
    gain_ih: Slot,
    /// `[K·H]`.
    gain_hh: Slot,
    /// `[H]`.
    gain_cell: Slot,
    /// `[H]`.
    bias_cell: Slot,
}

/// What the loop leaves for its way back beside the plain tape, and its scratch.
#[derive(Clone, Debug, Default)]
pub(super) struct ExtendedTape {
    recurrent: PackedFactor,
    projection: PackedFactor,
    recurrent_backward: PackedFactor,
    projection_backward: PackedFactor,
    /// `[T, B, H]` and `[T, B, R]`: the masks of zoneout; empty for its expectation.
    kept_c: Vec<f32>,
    kept_h: Vec<f32>,
    /// `[T, B, H]`: c̃, for peepholes where zoneout replaces it; else empty.
    new_c: Aligned,
    /// Of layer normalisation: what comes from the input and from the hidden state `[T, B, K·H]`, the cell `[T, B, H]`.
    input: Normalised,
    sums: Normalised,
    cells: Normalised,
    /// `[T, B, K·H]`: the gradient of W_hh h.
    d_sums: Aligned,
    /// `[T, B, H]`: that of the normalised cell.
    d_cells: Aligned,
}

/// Normalised rows, and what they were scaled by.
#[derive(Clone, Debug, Default)]
struct Normalised {
    values: Aligned,
    scales: Aligned,
}

impl Normalised {
    fn grow(&mut self, rows: usize, width: usize) {
        self.values.resize(rows * width);
        self.scales.resize(rows);
    }
}

impl ExtendedCell {
    /// The cell that `variant` names, its own parameters added.
    pub(super) fn in_layout(variant: CellOptions, hidden: usize, mut add: impl FnMut(&str, &[usize]) -> Slot) -> Self {
        let width = hidden.saturating_mul(variant.gates());
        let peepholes = variant.peepholes.then(|| add("weight_peephole", &[width - hidden]));
        let norm = variant.layer_norm.then(|| NormSlots {
            gain_ih: add("gain_ih", &[width]),
            gain_hh: add("gain_hh", &[width]),
            gain_cell: add("gain_cell", &[hidden]),
            bias_cell: add("bias_cell", &[hidden]),
        });
        Self { variant, peepholes, norm }
    }

    /// Sets initial values: peepholes uniform within `bound`, gains 1.
    pub(super) fn initialise(&self, params: &mut Params, bound: f32, seed: u64) {
        if let Some(slot) = self.peepholes {
            params.fill_uniform(slot, bound, seed);
        }
        if let Some(norm) = self.norm {
            for gain in [norm.gain_ih, norm.gain_hh, norm.gain_cell] {
                params.get_mut(gain).fill(1.0);
            }
            params.get_mut(norm.bias_cell).fill(0.0);
        }
    }

    /// Whether the input part of the gates is normalised before its bias is added.
    pub(super) fn is_normalised(&self) -> bool {
        self.norm.is_some()
    }

    /// The bytes of what these cells keep for a segment beside what every cell does.
    pub(super) fn bytes(&self, steps: usize, batch: usize, sizes: Sizes) -> usize {
        let Sizes { hidden, recurrent, .. } = sizes;
        let (zoneout, norm) = (self.variant.zoneout, usize::from(self.is_normalised()));
        let [of_cell, of_hidden] = [zoneout.cell, zoneout.hidden].map(|rate| usize::from(rate > 0.0));
        let of_new = of_cell * usize::from(self.peepholes.is_some());
        bytes_of(&[
            [steps, batch, of_cell * hidden],
            [steps, batch, of_hidden * recurrent],
            [steps, batch, of_new * hidden],
            // Both parts of the gates and the gradient of one; the cells and their gradient.
            [steps, batch, sizes.width().saturating_mul(3 * norm)],
            [steps, batch, hidden.saturating_mul(2 * norm)],
            [steps, batch, 3 * norm],
        ])
    }

    /// Draws the masks of zoneout for the segment, or none.
    pub(super) fn draw_zoneout(
        &self,
        dropout: Option<Dropout>,
        layer: usize,
        segment: Segment,
        sizes: Sizes,
        tape: &mut ExtendedTape,
    ) {
        let rows = segment.rows();
        let [cell, hidden] = zoneout_places(layer, sizes.reverse);
        let zoneout = self.variant.zoneout;
        for (place, rate, mask, len) in [
            (cell, zoneout.cell, &mut tape.kept_c, rows * sizes.hidden),
            (hidden, zoneout.hidden, &mut tape.kept_h, rows * sizes.recurrent),
        ] {
            mask.clear();
            if let Some(Dropout { masks, .. }) = dropout.filter(|_| rate > 0.0) {
                masks.keep(place, rate, mask, len);
            }
        }
    }

    /// The cell as the passes of a step take it.
    fn kernel<'a>(&self, params: &'a Params, hidden: usize) -> VariantCell<'a> {
        VariantCell {
            hidden,
            coupled: self.variant.coupled,
            peepholes: self.peepholes.map(|slot| params.get(slot)),
            norm: self.norm.map(|norm| CellNorm {
                gain_hh: params.get(norm.gain_hh),
                gain_cell: params.get(norm.gain_cell),
                bias_cell: params.get(norm.bias_cell),
            }),
        }
    }

    /// Appends one step of these cells to `plan`: from `joined: [B, I + R]`, the input beside the hidden state before, and
    /// the cell state `c`, which is replaced, to `out: [B, H]`, `o ∘ tanh`. Returns the activated gates, `[B, K·H]`.
    pub(super) fn plan_step(
        &self,
        params: &Params,
        weights: CellWeights,
        plan: &mut StepPlan,
        sizes: Sizes,
        joined: Columns,
        c: Columns,
        out: Columns,
    ) -> Columns {
        let CellWeights { weight_ih, weight_hh, bias_ih, bias_hh, .. } = weights;
        let Sizes { input, hidden, recurrent, .. } = sizes;
        let bias: Vec<f32> = bias_ih.iter().zip(bias_hh).map(|(a, b)| a + b).collect();
        let gates = plan.buffer(sizes.width());
        let sums = match self.norm {
            None => {
                let rows = weight_ih.chunks_exact(input).zip(weight_hh.chunks_exact(recurrent));
                let weight: Vec<f32> = rows.flat_map(|(x, h)| [x, h].concat()).collect();
                plan.linear(&weight, Some(&bias), joined, gates);
                None
            }
            Some(norm) => {
                let sums = plan.buffer(sizes.width());
                plan.linear(weight_ih, None, joined.part(0..input), gates);
                plan.linear(weight_hh, None, joined.part(input..input + recurrent), sums);
                plan.normalise(gates, params.get(norm.gain_ih), &bias);
                Some(sums)
            }
        };
        let rate = self.variant.zoneout.cell;
        let new = if rate > 0.0 { plan.buffer(hidden) } else { c };
        plan.variant(self.kernel(params, hidden), gates, sums, c, new, out);
        if rate > 0.0 {
            plan.blend(new, c, rate);
            plan.carry(new, c);
        }
        gates
    }

    /// Appends the expectation of zoneout of the hidden states `h: [B, R]`, of which `before` are those before.
    pub(super) fn plan_zoneout(&self, plan: &mut StepPlan, h: Columns, before: Columns) {
        if self.variant.zoneout.hidden > 0.0 {
            plan.blend(h, before, self.variant.zoneout.hidden);
        }
    }
}

impl ExtendedTape {
    /// The gradient of W_hh h where it is another than that of W_ih x, of a normalised cell: `[T, B, K·H]`.
    pub(super) fn d_sums(&self) -> &[f32] {
        &self.d_sums
    }

    /// From the input part of the gates and the initial state in `sequence` to all else in it. `pack`: whether the weights
    /// are other ones than before.
    pub(super) fn forward(
        &mut self,
        cell: &ExtendedCell,
        params: &Params,
        run: Loop,
        pack: bool,
        sequence: &mut Sequence,
    ) {
        let Loop { segment, sizes, weights } = run;
        let Sizes { hidden, recurrent, .. } = sizes;
        let Segment { steps, batch, lengths } = segment;
        let (rows, width) = (segment.rows(), sizes.width());
        let (h_size, c_size, gates_size) = (batch * recurrent, batch * hidden, batch * width);
        let kernel = cell.kernel(params, hidden);
        let zoneout = cell.variant.zoneout;
        if pack {
            self.recurrent.pack(Matrix::new(weights.weight_hh, width, recurrent).transposed());
            if let Some(weight_hr) = weights.weight_hr {
                self.projection.pack(Matrix::new(weight_hr, recurrent, hidden).transposed());
            }
        }
        let has_projection = weights.weight_hr.is_some();
        if let Some(norm) = cell.norm {
            self.input.grow(rows, width);
            self.sums.grow(rows, width);
            self.cells.grow(rows, hidden);
            let Normalised { values, scales } = &mut self.input;
            layer_norm(&mut sequence.gates, values, scales, params.get(norm.gain_ih), &sequence.bias);
        }
        let keeps_new_c = cell.peepholes.is_some() && zoneout.cell > 0.0;
        self.new_c.resize(if keeps_new_c { rows * hidden } else { 0 });
        for n in 0..steps {
            let (t, before, after) = sizes.step(steps, n);
            let ended = Ended { lengths, t };
            let (h_before, h) = two_slots(&mut sequence.h, h_size, before, after);
            let (c_before, c) = two_slots(&mut sequence.c, c_size, before, after);
            let gates = part_mut(&mut sequence.gates, gates_size, t);
            let mut norm = cell.norm.map(|_| NormTape {
                sums: part_mut(&mut self.sums.values, gates_size, t),
                sum_scales: part_mut(&mut self.sums.scales, batch, t),
                cells: part_mut(&mut self.cells.values, c_size, t),
                cell_scales: part_mut(&mut self.cells.scales, batch, t),
            });
            match &mut norm {
                Some(norm) => self.recurrent.product(norm.sums, Start::Zero, h_before),
                None => self.recurrent.product(gates, Start::Out, h_before),
            }
            let tanh_c = part_mut(&mut sequence.tanh_c, c_size, t);
            let shown = if has_projection { part_mut(&mut sequence.raw, c_size, t) } else { &mut *h };
            kernel.forward(ended, VariantForward { gates, c_before, c, tanh_c, shown, norm });
            if has_projection {
                self.projection.product(h, Start::Zero, part(&sequence.raw, c_size, t));
            }
            if keeps_new_c {
                part_mut(&mut self.new_c, c_size, t).copy_from_slice(c);
            }
            if zoneout.cell > 0.0 {
                hold(c, c_before, batch, kept(&self.kept_c, zoneout.cell, c_size, t), ended);
            }
            if zoneout.hidden > 0.0 || lengths.is_some() {
                hold(h, h_before, batch, kept(&self.kept_h, zoneout.hidden, h_size, t), ended);
            }
        }
    }

    /// The way back, with the gradients of what the plain cell has not. The gates become the gradient of the input
    /// product, the bias that of the biases.
    pub(super) fn backward(
        &mut self,
        cell: &ExtendedCell,
        params: &Params,
        run: Loop,
        reaching: Reaching,
        sequence: &mut Sequence,
        gradients: &mut Params,
        accumulate: Start,
    ) {
        let Loop { segment, sizes, weights } = run;
        let Sizes { hidden, recurrent, .. } = sizes;
        let Reaching { d_hidden, d_gate, dh, dc } = reaching;
        let Segment { steps, batch, lengths } = segment;
        let (rows, width) = (segment.rows(), sizes.width());
        let (h_size, c_size, gates_size) = (batch * recurrent, batch * hidden, batch * width);
        let kernel = cell.kernel(params, hidden);
        let zoneout = cell.variant.zoneout;
        self.recurrent_backward.pack(Matrix::new(weights.weight_hh, width, recurrent));
        if let Some(weight_hr) = weights.weight_hr {
            self.projection_backward.pack(Matrix::new(weight_hr, recurrent, hidden));
        }
        let has_projection = weights.weight_hr.is_some();
        sequence.raw_gradient.resize(c_size);
        if cell.norm.is_some() {
            self.d_sums.resize(rows * width);
            self.d_cells.resize(rows * hidden);
        }
        for n in (0..steps).rev() {
            let (t, before, _) = sizes.step(steps, n);
            let (ended, cut) = (Ended { lengths, t }, sizes.cut(n));
            let gates = part_mut(&mut sequence.gates, gates_size, t);
            let (above, keep) = (part(d_hidden, h_size, t), kept(&self.kept_h, zoneout.hidden, h_size, t));
            if has_projection {
                let d_projected = part_mut(&mut sequence.d_projected, h_size, t);
                hold_backward(dh, above, d_projected, batch, keep, cut, ended);
                self.projection_backward.product(&mut sequence.raw_gradient, Start::Zero, d_projected);
            } else {
                hold_backward(dh, above, &mut sequence.raw_gradient, batch, keep, cut, ended);
            }
            let norm = cell.norm.map(|_| NormGradient {
                sums: part(&self.sums.values, gates_size, t),
                sum_scales: part(&self.sums.scales, batch, t),
                cells: part(&self.cells.values, c_size, t),
                cell_scales: part(&self.cells.scales, batch, t),
                d_sums: part_mut(&mut self.d_sums, gates_size, t),
                d_cells: part_mut(&mut self.d_cells, c_size, t),
            });
            let step = VariantBackward {
                gates,
                c_before: part(&sequence.c, c_size, before),
                tanh_c: part(&sequence.tanh_c, c_size, t),
                d_shown: &sequence.raw_gradient,
                d_o: d_gate.map(|d_gate| part(d_gate, c_size, t)),
                dc,
                keep: kept(&self.kept_c, zoneout.cell, c_size, t),
                cut,
                norm,
            };
            kernel.backward(ended, step);
            if !cut {
                let d_sums = if cell.norm.is_some() { &self.d_sums } else { &sequence.gates };
                self.recurrent_backward.product(dh, Start::Out, part(d_sums, gates_size, t));
            }
        }
        column_sums(&mut sequence.bias, Start::Zero, &sequence.gates);
        if let Some(slot) = cell.peepholes {
            let seen_before = before(&sequence.c, steps, sizes.reverse);
            // Where zoneout replaces nothing, the new cell state is the one after.
            let seen_after = if zoneout.cell > 0.0 { &self.new_c } else { after(&sequence.c, steps, sizes.reverse) };
            // The places of the gates i, f and o, or f and o.
            let last = width - hidden;
            let places = (0..last - hidden).step_by(hidden).map(|at| (at, seen_before));
            let targets = gradients.get_mut(slot).chunks_exact_mut(hidden);
            for (target, (at, seen)) in targets.zip(places.chain([(last, seen_after)])) {
                let d = Matrix::with_stride(&sequence.gates[at..], rows, hidden, width);
                column_products(target, accumulate, d, Matrix::new(seen, rows, hidden));
            }
        }
        if let Some(norm) = cell.norm {
            let wide = |values| Matrix::new(values, rows, width);
            let cells = Matrix::new(&self.d_cells, rows, hidden);
            column_products(
                gradients.get_mut(norm.gain_ih),
                accumulate,
                wide(&sequence.gates),
                wide(&self.input.values),
            );
            column_products(
                gradients.get_mut(norm.gain_hh),
                accumulate,
                wide(&sequence.gates),
                wide(&self.sums.values),
            );
            let normalised = Matrix::new(&self.cells.values, rows, hidden);
            column_products(gradients.get_mut(norm.gain_cell), accumulate, cells, normalised);
            column_sums(gradients.get_mut(norm.bias_cell), accumulate, &self.d_cells);
            let Normalised { values, scales } = &self.input;
            layer_norm_backward(&mut sequence.gates, values, scales, params.get(norm.gain_ih));
        }
    }
}

/// What zoneout keeps at step t, of `size` values a step.
fn kept(mask: &[f32], rate: f32, size: usize, t: usize) -> Keep<'_> {
    if mask.is_empty() { Keep::Rate(rate) } else { Keep::Mask(part(mask, size, t)) }
}

/// The `index`-th `size` values.
fn part(values: &[f32], size: usize, index: usize) -> &[f32] {
    &values[index * size..][..size]
}

/// The same, to write.
fn part_mut(values: &mut [f32], size: usize, index: usize) -> &mut [f32] {
    &mut values[index * size..][..size]
}

/// Two slots side by side of `size` values each: one to read, one to write.
fn two_slots(slots: &mut [f32], size: usize, read: usize, write: usize) -> (&[f32], &mut [f32]) {
    let (first, second) = slots.split_at_mut(read.max(write) * size);
    let first = &mut first[read.min(write) * size..];
    if read < write { (first, &mut second[..size]) } else { (&second[..size], first) }
}
