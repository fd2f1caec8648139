//! The loop over a segment for cells that differ from the plain one, and their step in a stream. Equations in
//! [`crate::cell::variant`].
//!
//! The input product of all T·B rows is one product, as for the plain cell; then every step is the product of its hidden
//! states with weights that were packed once, and a pass over its rows for gates and cells. On the way back the same
//! in the other order, and every weight gradient is one product over all rows.

use lstm_kernels::{
    Aligned, CellNorm, Columns, Ended, Keep, Matrix, NormGradient, NormTape, PackedFactor, StepPlan, VariantBackward,
    VariantCell, VariantForward, column_products, column_sums, hold, hold_backward, layer_norm, layer_norm_backward,
};

use super::{Layer, LayerTape, Reaching};
use crate::nn::config::CellVariant;
use crate::nn::dropout::{Dropout, zoneout_places};
use crate::nn::params::{Accumulate, Layout, Params, Slot};
use crate::nn::segment::Segment;

/// What a layer's cells have beyond the plain one's.
#[derive(Clone, Debug)]
pub(crate) struct VariantLayer {
    pub(crate) variant: CellVariant,
    /// `weight_peephole [3H]`, of i, f, o; `[2H]` of f, o if the gates are coupled.
    pub(crate) peepholes: Option<Slot>,
    pub(crate) norm: Option<NormSlots>,
}

/// The parameters of layer normalisation, besides the biases that every cell has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormSlots {
    /// `[K·H]`.
    pub(crate) gain_ih: Slot,
    /// `[K·H]`.
    pub(crate) gain_hh: Slot,
    /// `[H]`.
    pub(crate) gain_cell: Slot,
    /// `[H]`.
    pub(crate) bias_cell: Slot,
}

/// What the loop leaves for its way back beside the plain tape, and its scratch.
#[derive(Clone, Debug, Default)]
pub(super) struct VariantTape {
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
    pub(super) d_sums: Aligned,
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

impl VariantLayer {
    /// Adds the parameters beyond the plain cell's; `None` for a plain cell.
    pub(super) fn in_layout(
        variant: CellVariant,
        hidden: usize,
        layout: &mut Layout,
        add: impl Fn(&mut Layout, &str, &[usize]) -> Slot,
    ) -> Option<Self> {
        if variant.is_plain() {
            return None;
        }
        let width = hidden.saturating_mul(variant.gates());
        let peepholes = variant.peepholes.then(|| add(layout, "weight_peephole", &[width - hidden]));
        let norm = variant.layer_norm.then(|| NormSlots {
            gain_ih: add(layout, "gain_ih", &[width]),
            gain_hh: add(layout, "gain_hh", &[width]),
            gain_cell: add(layout, "gain_cell", &[hidden]),
            bias_cell: add(layout, "bias_cell", &[hidden]),
        });
        Some(Self { variant, peepholes, norm })
    }

    fn cell<'a>(&self, params: &'a Params, hidden: usize) -> VariantCell<'a> {
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
}

impl Layer {
    /// Whether the input part of the gates is normalised before its bias is added.
    pub(super) fn is_normalised(&self) -> bool {
        self.variant.as_ref().is_some_and(|own| own.norm.is_some())
    }

    /// Draws the masks of zoneout for the segment, or none.
    pub(crate) fn draw_zoneout(&self, dropout: Option<Dropout>, layer: usize, segment: Segment, tape: &mut LayerTape) {
        let Some(own) = &self.variant else { return };
        let rows = segment.steps * segment.batch;
        let [cell, hidden] = zoneout_places(layer, self.reverse);
        let zoneout = own.variant.zoneout;
        for (place, rate, mask, len) in [
            (cell, zoneout.cell, &mut tape.variant.kept_c, rows * self.hidden),
            (hidden, zoneout.hidden, &mut tape.variant.kept_h, rows * self.recurrent),
        ] {
            mask.clear();
            if let Some(Dropout { masks, .. }) = dropout.filter(|_| rate > 0.0) {
                masks.keep(place, rate, mask, len);
            }
        }
    }

    /// [`Layer::recur`] of a variant.
    pub(super) fn recur_variant(
        &self,
        own: &VariantLayer,
        params: &Params,
        segment: Segment,
        frozen: bool,
        tape: &mut LayerTape,
    ) {
        let Segment { steps, batch, lengths } = segment;
        let (rows, width) = (steps * batch, self.width());
        let (h_size, c_size, gates_size) = (batch * self.recurrent, batch * self.hidden, batch * width);
        let cell = own.cell(params, self.hidden);
        let zoneout = own.variant.zoneout;
        if !(frozen && tape.is_packed) {
            let weights = self.recurrent_weights(params, &tape.weight_mask, &tape.weights_left);
            let weight_hh = Matrix::new(weights.weight_hh, width, self.recurrent);
            tape.variant.recurrent.pack(weight_hh.transposed());
            if let Some(weight_hr) = weights.weight_hr {
                let weight_hr = Matrix::new(weight_hr, self.recurrent, self.hidden);
                tape.variant.projection.pack(weight_hr.transposed());
            }
            tape.is_packed = true;
        }
        let own_tape = &mut tape.variant;
        if let Some(norm) = own.norm {
            own_tape.input.grow(rows, width);
            own_tape.sums.grow(rows, width);
            own_tape.cells.grow(rows, self.hidden);
            let Normalised { values, scales } = &mut own_tape.input;
            layer_norm(&mut tape.gates, values, scales, params.get(norm.gain_ih), &tape.bias);
        }
        let keeps_new_c = own.peepholes.is_some() && zoneout.cell > 0.0;
        own_tape.new_c.resize(if keeps_new_c { rows * self.hidden } else { 0 });
        for n in 0..steps {
            let (t, before, after) = self.step(steps, n);
            let ended = Ended { lengths, t };
            let (h_before, h) = two_slots(&mut tape.h, h_size, before, after);
            let (c_before, c) = two_slots(&mut tape.c, c_size, before, after);
            let gates = part_mut(&mut tape.gates, gates_size, t);
            let mut norm = own.norm.map(|_| NormTape {
                sums: part_mut(&mut own_tape.sums.values, gates_size, t),
                sum_scales: part_mut(&mut own_tape.sums.scales, batch, t),
                cells: part_mut(&mut own_tape.cells.values, c_size, t),
                cell_scales: part_mut(&mut own_tape.cells.scales, batch, t),
            });
            match &mut norm {
                Some(norm) => own_tape.recurrent.product(norm.sums, false, h_before),
                None => own_tape.recurrent.product(gates, true, h_before),
            }
            let tanh_c = part_mut(&mut tape.tanh_c, c_size, t);
            let shown = if self.weight_hr.is_some() { part_mut(&mut tape.raw, c_size, t) } else { &mut *h };
            cell.forward(ended, VariantForward { gates, c_before, c, tanh_c, shown, norm });
            if self.weight_hr.is_some() {
                own_tape.projection.product(h, false, part(&tape.raw, c_size, t));
            }
            if keeps_new_c {
                part_mut(&mut own_tape.new_c, c_size, t).copy_from_slice(c);
            }
            if zoneout.cell > 0.0 {
                hold(c, c_before, batch, kept(&own_tape.kept_c, zoneout.cell, c_size, t), ended);
            }
            if zoneout.hidden > 0.0 || lengths.is_some() {
                hold(h, h_before, batch, kept(&own_tape.kept_h, zoneout.hidden, h_size, t), ended);
            }
        }
    }

    /// The loop of [`Layer::recur_backward`] of a variant, and the gradients of what the plain cell has not. Leaves the
    /// gradient of the biases in `tape.bias`, that of the input product in the gates, and that of W_hh h beside
    /// them if it is another.
    pub(super) fn recur_variant_backward(
        &self,
        own: &VariantLayer,
        params: &Params,
        segment: Segment,
        reaching: Reaching,
        tape: &mut LayerTape,
        gradients: &mut Params,
        accumulate: Accumulate,
    ) {
        let Reaching { d_hidden, d_gate, dh, dc } = reaching;
        let Segment { steps, batch, lengths } = segment;
        let (rows, width) = (steps * batch, self.width());
        let (h_size, c_size, gates_size) = (batch * self.recurrent, batch * self.hidden, batch * width);
        let cell = own.cell(params, self.hidden);
        let zoneout = own.variant.zoneout;
        let own_tape = &mut tape.variant;
        {
            let weights = self.recurrent_weights(params, &tape.weight_mask, &tape.weights_left);
            own_tape.recurrent_backward.pack(Matrix::new(weights.weight_hh, width, self.recurrent));
            if let Some(weight_hr) = weights.weight_hr {
                own_tape.projection_backward.pack(Matrix::new(weight_hr, self.recurrent, self.hidden));
            }
        }
        tape.raw_gradient.resize(c_size);
        if own.norm.is_some() {
            own_tape.d_sums.resize(rows * width);
            own_tape.d_cells.resize(rows * self.hidden);
        }
        for n in (0..steps).rev() {
            let (t, before, _) = self.step(steps, n);
            let (ended, cut) = (Ended { lengths, t }, self.cut(n));
            let gates = part_mut(&mut tape.gates, gates_size, t);
            let (above, keep) = (part(d_hidden, h_size, t), kept(&own_tape.kept_h, zoneout.hidden, h_size, t));
            if self.weight_hr.is_some() {
                let d_projected = part_mut(&mut tape.d_projected, h_size, t);
                hold_backward(dh, above, d_projected, batch, keep, cut, ended);
                own_tape.projection_backward.product(&mut tape.raw_gradient, false, d_projected);
            } else {
                hold_backward(dh, above, &mut tape.raw_gradient, batch, keep, cut, ended);
            }
            let norm = own.norm.map(|_| NormGradient {
                sums: part(&own_tape.sums.values, gates_size, t),
                sum_scales: part(&own_tape.sums.scales, batch, t),
                cells: part(&own_tape.cells.values, c_size, t),
                cell_scales: part(&own_tape.cells.scales, batch, t),
                d_sums: part_mut(&mut own_tape.d_sums, gates_size, t),
                d_cells: part_mut(&mut own_tape.d_cells, c_size, t),
            });
            let step = VariantBackward {
                gates,
                c_before: part(&tape.c, c_size, before),
                tanh_c: part(&tape.tanh_c, c_size, t),
                d_shown: &tape.raw_gradient,
                d_o: d_gate.map(|d_gate| part(d_gate, c_size, t)),
                dc,
                keep: kept(&own_tape.kept_c, zoneout.cell, c_size, t),
                cut,
                norm,
            };
            cell.backward(ended, step);
            if !cut {
                let d_sums = if own.norm.is_some() { &own_tape.d_sums } else { &tape.gates };
                own_tape.recurrent_backward.product(dh, true, part(d_sums, gates_size, t));
            }
        }
        column_sums(&mut tape.bias, &tape.gates, false);
        let add = accumulate == Accumulate::Add;
        if let Some(slot) = own.peepholes {
            let seen_before = self.before(&tape.c, segment);
            // Where zoneout replaces nothing, the new cell state is the one after.
            let seen_after = if zoneout.cell > 0.0 { &own_tape.new_c } else { self.after(&tape.c, segment) };
            // The places of the gates i, f and o, or f and o.
            let last = width - self.hidden;
            let places = (0..last - self.hidden).step_by(self.hidden).map(|at| (at, seen_before));
            let targets = gradients.get_mut(slot).chunks_exact_mut(self.hidden);
            for (target, (at, seen)) in targets.zip(places.chain([(last, seen_after)])) {
                let d = Matrix::with_stride(&tape.gates[at..], rows, self.hidden, width);
                column_products(target, d, Matrix::new(seen, rows, self.hidden), add);
            }
        }
        if let Some(norm) = own.norm {
            let wide = |values| Matrix::new(values, rows, width);
            let cells = Matrix::new(&own_tape.d_cells, rows, self.hidden);
            column_products(gradients.get_mut(norm.gain_ih), wide(&tape.gates), wide(&own_tape.input.values), add);
            column_products(gradients.get_mut(norm.gain_hh), wide(&tape.gates), wide(&own_tape.sums.values), add);
            let normalised = Matrix::new(&own_tape.cells.values, rows, self.hidden);
            column_products(gradients.get_mut(norm.gain_cell), cells, normalised, add);
            column_sums(gradients.get_mut(norm.bias_cell), &own_tape.d_cells, add);
            let Normalised { values, scales } = &own_tape.input;
            layer_norm_backward(&mut tape.gates, values, scales, params.get(norm.gain_ih));
        }
    }

    /// Appends one step of these cells to `plan`: from `joined: [B, I + R]`, the input beside the hidden state before, and
    /// the cell state `c`, which is replaced, to `out: [B, H]`, `o ∘ tanh`. Returns the activated gates, `[B, K·H]`.
    pub(crate) fn plan_variant(
        &self,
        own: &VariantLayer,
        params: &Params,
        plan: &mut StepPlan,
        joined: Columns,
        c: Columns,
        out: Columns,
    ) -> Columns {
        let (weight_ih, weight_hh) = (params.get(self.weight_ih), params.get(self.weight_hh));
        let biases = params.get(self.bias_ih).iter().zip(params.get(self.bias_hh));
        let bias: Vec<f32> = biases.map(|(a, b)| a + b).collect();
        let gates = plan.buffer(self.width());
        let sums = match own.norm {
            None => {
                let rows = weight_ih.chunks_exact(self.input).zip(weight_hh.chunks_exact(self.recurrent));
                let weight: Vec<f32> = rows.flat_map(|(x, h)| [x, h].concat()).collect();
                plan.linear(&weight, Some(&bias), joined, gates);
                None
            }
            Some(norm) => {
                let sums = plan.buffer(self.width());
                plan.linear(weight_ih, None, joined.part(0..self.input), gates);
                plan.linear(weight_hh, None, joined.part(self.input..self.input + self.recurrent), sums);
                plan.normalise(gates, params.get(norm.gain_ih), &bias);
                Some(sums)
            }
        };
        let rate = own.variant.zoneout.cell;
        let new = if rate > 0.0 { plan.buffer(self.hidden) } else { c };
        plan.variant(own.cell(params, self.hidden), gates, sums, c, new, out);
        if rate > 0.0 {
            plan.blend(new, c, rate);
            plan.carry(new, c);
        }
        gates
    }

    /// The n-th step to run, and the slots of the states it reads and writes.
    fn step(&self, steps: usize, n: usize) -> (usize, usize, usize) {
        let t = if self.reverse { steps - 1 - n } else { n };
        if self.reverse { (t, t + 1, t) } else { (t, t, t + 1) }
    }

    /// Whether the gradient is cut between the n-th step and the one before it.
    fn cut(&self, n: usize) -> bool {
        n > 0 && self.horizon.is_some_and(|horizon| n.is_multiple_of(horizon))
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
