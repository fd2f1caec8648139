//! The loop of those cells over a segment, forward and backward.

use super::backward::{NormGradient, VariantBackward};
use super::forward::{NormTape, VariantForward};
use super::mogrifier::MogrifierTape;
use super::zoneout::{Zoneout, zoneout_backward, zoneout_state};
use crate::gemm::matrix::{Matrix, Start};
use crate::gemm::packed::PackedFactor;
use crate::memory::Aligned;
use crate::ops::normalise::{layer_norm, layer_norm_backward};
use crate::ops::reduce::{column_products, column_sums};
use crate::recurrence::cell::{Cell, CellParameter};
use crate::recurrence::segment::{Reaching, Recurrence, RecurrentWeights};
use crate::recurrence::tape::{Sequence, part, part_mut};

/// The arrays that the loop leaves for its way back beside those of every cell, and its scratch.
#[derive(Clone, Debug, Default)]
pub(crate) struct VariantTape {
    recurrent: PackedFactor,
    projection: PackedFactor,
    recurrent_backward: PackedFactor,
    projection_backward: PackedFactor,
    /// `[T, B, H]`: the new cell states, for peepholes where zoneout replaces them; else empty.
    new_c: Aligned,
    /// Of layer normalisation: what comes from the input and from the hidden state `[T, B, K·H]`, the cell `[T, B, H]`.
    input: Normalised,
    sums: Normalised,
    cells: Normalised,
    /// `[T, B, K·H]`: the gradient of W_hh h of a normalised cell; else empty.
    pub(crate) d_sums: Aligned,
    /// `[T, B, H]`: that of the normalised cell.
    d_cells: Aligned,
    gradients: ParameterGradients,
    mogrifier: MogrifierTape,
    /// `[B, K·H]`: the gradient of the input part of a mogrified, normalised cell at one step, before its normalisation.
    d_input: Aligned,
}

/// Normalised rows, and what they were scaled by.
#[derive(Clone, Debug, Default)]
struct Normalised {
    values: Aligned,
    scales: Aligned,
}

/// The gradients of the parameters that only these cells have.
#[derive(Clone, Debug, Default)]
struct ParameterGradients {
    peepholes: Aligned,
    gain_ih: Aligned,
    gain_hh: Aligned,
    gain_cell: Aligned,
    bias_cell: Aligned,
}

impl Normalised {
    fn resize(&mut self, rows: usize, width: usize) {
        self.values.resize(rows * width);
        self.scales.resize(rows);
    }
}

impl VariantTape {
    /// Packs the weights for the pass forward.
    pub(crate) fn pack_forward(&mut self, recurrence: &Recurrence, weights: RecurrentWeights) {
        let &Recurrence { cell, recurrent, .. } = recurrence;
        self.recurrent.pack(Matrix::new(weights.weight_hh, cell.width(), recurrent).transposed());
        if let Some(weight_hr) = weights.weight_hr {
            self.projection.pack(Matrix::new(weight_hr, recurrent, cell.hidden).transposed());
        }
        self.mogrifier.pack_forward(recurrence, weights);
    }

    /// Packs the weights for the way back.
    pub(crate) fn pack_backward(&mut self, recurrence: &Recurrence, weights: RecurrentWeights) {
        let &Recurrence { cell, recurrent, .. } = recurrence;
        self.recurrent_backward.pack(Matrix::new(weights.weight_hh, cell.width(), recurrent));
        if let Some(weight_hr) = weights.weight_hr {
            self.projection_backward.pack(Matrix::new(weight_hr, recurrent, cell.hidden));
        }
        self.mogrifier.pack_backward(recurrence, weights);
    }

    /// What the gates of a mogrified cell read at each step.
    pub(crate) fn mogrified<'a>(&'a self, sequence: &'a Sequence) -> Option<(&'a [f32], &'a [f32])> {
        self.mogrifier.read(sequence.before(&sequence.h))
    }

    /// The gradient of `parameter` after the way back.
    pub(crate) fn gradient(&self, parameter: CellParameter) -> &[f32] {
        match parameter {
            CellParameter::Peepholes => &self.gradients.peepholes,
            CellParameter::GainIh => &self.gradients.gain_ih,
            CellParameter::GainHh => &self.gradients.gain_hh,
            CellParameter::GainCell => &self.gradients.gain_cell,
            CellParameter::BiasCell => &self.gradients.bias_cell,
            CellParameter::MogrifyInput(place) => &self.mogrifier.d_of_input[place],
            CellParameter::MogrifyHidden(place) => &self.mogrifier.d_of_hidden[place],
        }
    }
}

/// The values of one step of the arrays of a segment.
#[derive(Clone, Copy)]
struct StepSizes {
    /// B·R, B·H, B·S and B·K·H.
    h: usize,
    c: usize,
    state: usize,
    gates: usize,
}

impl StepSizes {
    fn of(recurrence: &Recurrence) -> Self {
        let &Recurrence { cell, recurrent, batch, .. } = recurrence;
        Self { h: batch * recurrent, c: batch * cell.hidden, state: batch * cell.state(), gates: batch * cell.width() }
    }
}

/// Runs the segment: from the input part of the gates and the initial state to all else in `sequence`.
pub(crate) fn forward(recurrence: &Recurrence, tape: &mut VariantTape, sequence: &mut Sequence) {
    let &Recurrence { cell, steps, batch, lengths, .. } = recurrence;
    let (rows, width, sizes) = (recurrence.rows(), cell.width(), StepSizes::of(recurrence));
    let rates = cell.zoneout;
    let Sequence { gates, input, bias, zoneout_masks: [masks_c, masks_h], h, c, tanh_c, raw, .. } = sequence;
    let is_mogrified = cell.mogrifier.is_some();
    let projects = !raw.is_empty();
    if let Some(norm) = cell.norm {
        tape.input.resize(rows, width);
        tape.sums.resize(rows, width);
        tape.cells.resize(rows, cell.hidden);
        if !is_mogrified {
            let Normalised { values, scales } = &mut tape.input;
            layer_norm(gates, values, scales, norm.gain_ih, bias);
        }
    } else if is_mogrified {
        gates.chunks_exact_mut(width).for_each(|gates| gates.copy_from_slice(&bias[..]));
    }
    if is_mogrified {
        tape.mogrifier.resize(rows);
    }
    tape.new_c.resize(if keeps_new_c(&cell) { rows * cell.hidden } else { 0 });
    for n in 0..steps {
        let (t, before, after) = recurrence.step(n);
        let masked = recurrence.masked_at(t);
        let (h_before, h) = two_slots(h, sizes.h, before, after);
        let (c_before, c) = two_slots(c, sizes.state, before, after);
        let gates = part_mut(gates, sizes.gates, t);
        let mut h_read = h_before;
        if let Some(mogrifier) = cell.mogrifier {
            // A normalised cell's biases come with its normalisation.
            let start = if cell.norm.is_some() { Start::Zero } else { Start::Out };
            let x = part(input, batch * mogrifier.input, t);
            tape.mogrifier.forward(t, batch, x, h_before, gates, start);
            h_read = tape.mogrifier.hidden(t, batch, h_before);
            if let Some(norm) = cell.norm {
                let values = part_mut(&mut tape.input.values, sizes.gates, t);
                layer_norm(gates, values, part_mut(&mut tape.input.scales, batch, t), norm.gain_ih, bias);
            }
        }
        let mut norm = cell.norm.map(|_| NormTape {
            sums: part_mut(&mut tape.sums.values, sizes.gates, t),
            sum_scales: part_mut(&mut tape.sums.scales, batch, t),
            cells: part_mut(&mut tape.cells.values, sizes.c, t),
            cell_scales: part_mut(&mut tape.cells.scales, batch, t),
        });
        match &mut norm {
            Some(norm) => tape.recurrent.product(norm.sums, Start::Zero, h_read),
            None => tape.recurrent.product(gates, Start::Out, h_read),
        }
        let tanh_c = part_mut(tanh_c, sizes.c, t);
        let raw_h = if projects { part_mut(raw, sizes.c, t) } else { &mut *h };
        cell.step_forward(masked, VariantForward { gates, c_before, c, tanh_c, h: raw_h, norm });
        if projects {
            tape.projection.product(h, Start::Zero, part(raw, sizes.c, t));
        }
        if !tape.new_c.is_empty() {
            part_mut(&mut tape.new_c, sizes.c, t).copy_from_slice(c);
        }
        if rates.cell > 0.0 {
            zoneout_state(c, c_before, batch, zoneout_at(masks_c, rates.cell, sizes.c, t), masked);
        }
        if rates.hidden > 0.0 || lengths.is_some() {
            zoneout_state(h, h_before, batch, zoneout_at(masks_h, rates.hidden, sizes.h, t), masked);
        }
    }
}

/// Runs the segment backward, with the gradients of what the plain cell has not. The gates become the gradient of their
/// input part, the bias that of the biases.
pub(crate) fn backward(recurrence: &Recurrence, reaching: Reaching, tape: &mut VariantTape, sequence: &mut Sequence) {
    let &Recurrence { cell, recurrent, steps, batch, .. } = recurrence;
    let (rows, width, sizes) = (recurrence.rows(), cell.width(), StepSizes::of(recurrence));
    let rates = cell.zoneout;
    let Reaching { d_hidden, d_gate, dh, dc } = reaching;
    let projects = !sequence.raw.is_empty();
    sequence.d_raw.resize(sizes.c);
    sequence.d_projected.resize(if projects { rows * recurrent } else { 0 });
    let Sequence { gates, input, zoneout_masks: [masks_c, masks_h], h, c, tanh_c, d_raw, d_projected, .. } =
        &mut *sequence;
    if cell.norm.is_some() {
        tape.d_sums.resize(rows * width);
        tape.d_cells.resize(rows * cell.hidden);
    }
    for n in (0..steps).rev() {
        let (t, before, after) = recurrence.step(n);
        let (masked, cut) = (recurrence.masked_at(t), recurrence.cut(n));
        let (above, zoneout) = (part(d_hidden, sizes.h, t), zoneout_at(masks_h, rates.hidden, sizes.h, t));
        if projects {
            let d_projected = part_mut(d_projected, sizes.h, t);
            zoneout_backward(dh, above, d_projected, batch, zoneout, cut, masked);
            tape.projection_backward.product(d_raw, Start::Zero, d_projected);
        } else {
            zoneout_backward(dh, above, d_raw, batch, zoneout, cut, masked);
        }
        let norm = cell.norm.map(|_| NormGradient {
            sums: part(&tape.sums.values, sizes.gates, t),
            sum_scales: part(&tape.sums.scales, batch, t),
            cells: part(&tape.cells.values, sizes.c, t),
            cell_scales: part(&tape.cells.scales, batch, t),
            d_sums: part_mut(&mut tape.d_sums, sizes.gates, t),
            d_cells: part_mut(&mut tape.d_cells, sizes.c, t),
        });
        let step = VariantBackward {
            gates: part_mut(gates, sizes.gates, t),
            c_before: part(c, sizes.state, before),
            c: part(c, sizes.state, after),
            tanh_c: part(tanh_c, sizes.c, t),
            d_h: d_raw,
            d_o: d_gate.map(|d_gate| part(d_gate, sizes.c, t)),
            dc,
            zoneout: zoneout_at(masks_c, rates.cell, sizes.c, t),
            cut,
            norm,
        };
        cell.step_backward(masked, step);
        let d_sums = part(if cell.norm.is_some() { &tape.d_sums[..] } else { &gates[..] }, sizes.gates, t);
        let recurrent_backward = &tape.recurrent_backward;
        if let Some(mogrifier) = cell.mogrifier {
            let mut d_gates = part(&gates[..], sizes.gates, t);
            if let Some(norm) = cell.norm {
                let Normalised { values, scales } = &tape.input;
                tape.d_input.resize(sizes.gates);
                tape.d_input.copy_from_slice(d_gates);
                let (values, scales) = (part(values, sizes.gates, t), part(scales, batch, t));
                layer_norm_backward(&mut tape.d_input, values, scales, norm.gain_ih);
                d_gates = &tape.d_input;
            }
            let d_hidden = |d: &mut [f32]| recurrent_backward.product(d, Start::Zero, d_sums);
            let (x, h) = (part_mut(input, batch * mogrifier.input, t), part(h, sizes.h, before));
            tape.mogrifier.backward(t, batch, d_gates, d_hidden, x, h, dh, cut);
        } else if !cut {
            recurrent_backward.product(dh, Start::Out, d_sums);
        }
    }
    parameter_gradients(recurrence, tape, sequence);
}

/// The gradients of the biases and of what the plain cell has not, and on through the normalisation of the input part.
fn parameter_gradients(recurrence: &Recurrence, tape: &mut VariantTape, sequence: &mut Sequence) {
    let Recurrence { cell, .. } = *recurrence;
    let (rows, width, hidden) = (recurrence.rows(), cell.width(), cell.hidden);
    column_sums(&mut sequence.bias, Start::Zero, &sequence.gates);
    if cell.mogrifier.is_some() {
        tape.mogrifier.gradients(rows, sequence.before(&sequence.h));
    }
    let gradients = &mut tape.gradients;
    if cell.peepholes.is_some() {
        gradients.peepholes.resize(width - hidden);
        let c_before = sequence.before(&sequence.c);
        // Where zoneout replaces nothing, the new cell state is the one after.
        let new_c = if keeps_new_c(&cell) { &tape.new_c } else { sequence.after(&sequence.c) };
        // The places of the gates i, f and o, or f and o.
        let last = width - hidden;
        let places = (0..last - hidden).step_by(hidden).map(|at| (at, c_before));
        let targets = gradients.peepholes.chunks_exact_mut(hidden);
        for (target, (at, seen)) in targets.zip(places.chain([(last, new_c)])) {
            let d = Matrix::with_stride(&sequence.gates[at..], rows, hidden, width);
            column_products(target, Start::Zero, d, Matrix::new(seen, rows, hidden));
        }
    }
    if let Some(norm) = cell.norm {
        [&mut gradients.gain_ih, &mut gradients.gain_hh].into_iter().for_each(|gradient| gradient.resize(width));
        [&mut gradients.gain_cell, &mut gradients.bias_cell].into_iter().for_each(|gradient| gradient.resize(hidden));
        let wide = |values| Matrix::new(values, rows, width);
        let narrow = |values| Matrix::new(values, rows, hidden);
        column_products(&mut gradients.gain_ih, Start::Zero, wide(&sequence.gates), wide(&tape.input.values));
        column_products(&mut gradients.gain_hh, Start::Zero, wide(&sequence.gates), wide(&tape.sums.values));
        column_products(&mut gradients.gain_cell, Start::Zero, narrow(&tape.d_cells), narrow(&tape.cells.values));
        column_sums(&mut gradients.bias_cell, Start::Zero, &tape.d_cells);
        layer_norm_backward(&mut sequence.gates, &tape.input.values, &tape.input.scales, norm.gain_ih);
    }
}

/// Whether peepholes need the new cell states where zoneout replaces them.
fn keeps_new_c(cell: &Cell) -> bool {
    cell.peepholes.is_some() && cell.zoneout.cell > 0.0
}

/// Zoneout at step t, of `size` values a step.
fn zoneout_at(masks: &[f32], rate: f32, size: usize, t: usize) -> Zoneout<'_> {
    if masks.is_empty() { Zoneout::Rate(rate) } else { Zoneout::Mask(part(masks, size, t)) }
}

/// Two slots side by side of `size` values each: that of the states before, and that of those after, to write.
fn two_slots(slots: &mut [f32], size: usize, before: usize, after: usize) -> (&[f32], &mut [f32]) {
    let (first, second) = slots.split_at_mut(before.max(after) * size);
    let first = &mut first[before.min(after) * size..];
    if before < after { (first, &mut second[..size]) } else { (&second[..size], first) }
}
