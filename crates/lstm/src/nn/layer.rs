//! One direction of one layer over a segment: `[T, B, I]` → `[T, B, R]`, forward and backward.
//!
//! The equations are those of [`crate::cell`]; here they run over a whole segment. The input product of all T·B rows
//! is one matrix product, only the recurrence goes step by step, and every weight gradient is one product again. The
//! recurrence of cells that differ from the plain one is `layer/variant.rs`'s.

mod variant;

use std::ops::Range;

use lstm_kernels::{
    Aligned, BackwardBuffers, Matrix, MatrixMut, PackedRecurrence, Recurrence, RecurrentWeights, Start, column_sums,
    multiply, product, products,
};

use crate::nn::config::LstmConfig;
use crate::nn::dropout::{Dropout, layer_place};
use crate::nn::params::{Accumulate, Layout, Params, Slot};
use crate::nn::segment::Segment;
pub(crate) use variant::VariantLayer;
use variant::VariantTape;

/// One direction of one layer: where its parameters lie, and how it runs.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) weight_ih: Slot,
    pub(crate) weight_hh: Slot,
    pub(crate) bias_ih: Slot,
    pub(crate) bias_hh: Slot,
    pub(crate) weight_hr: Option<Slot>,
    /// What its cells have beyond the plain one's.
    pub(crate) variant: Option<VariantLayer>,
    /// K, the gates with parameters.
    gates: usize,
    input: usize,
    hidden: usize,
    recurrent: usize,
    reverse: bool,
    horizon: Option<usize>,
}

/// What the forward pass of a layer leaves for its backward pass, and the scratch of both.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerTape {
    /// `[T, B, K·H]`: activated gates; after the backward pass the gradients of their pre-activations, of a normalised cell
    /// those of W_ih x.
    pub(crate) gates: Aligned,
    /// `[T + 1, B, R]`: the hidden states with the initial one in front (behind, in the reverse direction).
    h: Aligned,
    /// `[T + 1, B, H]`: the cell states, likewise.
    c: Aligned,
    /// `[T, B, H]`: tanh of the cell states.
    tanh_c: Aligned,
    /// `[T, B, H]`: the hidden states before projection; empty without one.
    raw: Aligned,
    raw_gradient: Aligned,
    d_projected: Aligned,
    /// `[K·H]`: the sum of both biases; in the backward pass its gradient.
    bias: Aligned,
    packed: PackedRecurrence,
    packed_backward: PackedRecurrence,
    is_packed: bool,
    /// `[K·H, R]`: the mask of the recurrent weights, empty if none are dropped, and the weights that are left; after the
    /// backward pass their gradient.
    weight_mask: Vec<f32>,
    weights_left: Aligned,
    variant: VariantTape,
}

/// The gradients that reach one direction of a layer.
pub(crate) struct Reaching<'a> {
    /// `[T, B, R]`: of its hidden states, from above.
    pub(crate) d_hidden: &'a [f32],
    /// `[T, B, H]`: of the activated output gate, if it is read.
    pub(crate) d_gate: Option<&'a [f32]>,
    /// `[B, R]` and `[B, H]`: in the gradient of the final state, out that of the initial.
    pub(crate) dh: &'a mut [f32],
    /// See `dh`.
    pub(crate) dc: &'a mut [f32],
}

impl Layer {
    /// Adds the parameters of layer `layer` to `layout` under PyTorch's names, and those it does not know under our own.
    pub(crate) fn in_layout(
        config: &LstmConfig,
        layer: usize,
        reverse: bool,
        prefix: &str,
        layout: &mut Layout,
    ) -> Self {
        let (hidden, input, recurrent) = (config.hidden.of(layer), config.layer_input(layer), config.recurrent(layer));
        let gates = hidden.saturating_mul(config.variant.gates());
        let suffix = format!("l{layer}{}", if reverse { "_reverse" } else { "" });
        let add =
            |layout: &mut Layout, name: &str, shape: &[usize]| layout.add(format!("{prefix}{name}_{suffix}"), shape);
        Self {
            weight_ih: add(layout, "weight_ih", &[gates, input]),
            weight_hh: add(layout, "weight_hh", &[gates, recurrent]),
            bias_ih: add(layout, "bias_ih", &[gates]),
            bias_hh: add(layout, "bias_hh", &[gates]),
            weight_hr: config.projection.map(|size| add(layout, "weight_hr", &[size, hidden])),
            variant: VariantLayer::in_layout(config.variant, hidden, layout, add),
            gates: config.variant.gates(),
            input,
            hidden,
            recurrent,
            reverse,
            horizon: config.horizon,
        }
    }

    /// K·H, the width of the gates.
    pub(crate) fn width(&self) -> usize {
        self.gates * self.hidden
    }

    /// Sizes the tape for the segment and adds up both biases.
    pub(crate) fn begin(&self, params: &Params, segment: Segment, tape: &mut LayerTape) {
        let rows = segment.steps * segment.batch;
        let slots = rows + segment.batch;
        tape.gates.resize(rows * self.width());
        tape.h.resize(slots * self.recurrent);
        tape.c.resize(slots * self.hidden);
        tape.tanh_c.resize(rows * self.hidden);
        if self.weight_hr.is_some() {
            tape.raw.resize(rows * self.hidden);
        }
        tape.bias.resize(self.width());
        let biases = params.get(self.bias_ih).iter().zip(params.get(self.bias_hh));
        tape.bias.iter_mut().zip(biases).for_each(|(sum, (a, b))| *sum = a + b);
    }

    /// The product of some rows of a part of the input with its columns of the input weights, plus the biases for the
    /// `first` part, into the gates `[T, B, K·H]`; added to them for the others. Biases of a normalised cell come later.
    ///
    /// source: `[rows, columns]`, the part of the input that the weights' `columns` meet.
    pub(crate) fn add_input(
        &self,
        params: &Params,
        columns: Range<usize>,
        rows: Range<usize>,
        source: &[f32],
        first: bool,
        tape: &mut LayerTape,
    ) {
        let width = self.width();
        let gates = &mut tape.gates[rows.start * width..rows.end * width];
        let start = match (first, self.is_normalised()) {
            (true, false) => Start::Bias(&tape.bias),
            (true, true) => Start::Zero,
            (false, _) => Start::Out,
        };
        product(
            MatrixMut::new(gates, rows.len(), width),
            start,
            Matrix::new(source, rows.len(), columns.len()),
            self.input_columns(params.get(self.weight_ih), &columns).transposed(),
        );
    }

    /// Draws the mask of the recurrent weights, which holds for the whole segment, or none.
    pub(crate) fn drop_weights(&self, params: &Params, dropout: Option<Dropout>, layer: usize, tape: &mut LayerTape) {
        let Some(Dropout { weights: rate, masks, .. }) = dropout.filter(|dropout| dropout.weights > 0.0) else {
            tape.weight_mask.clear();
            return;
        };
        let weight = params.get(self.weight_hh);
        masks.fill(layer_place(layer, 2 + usize::from(self.reverse)), rate, &mut tape.weight_mask, weight.len());
        tape.weights_left.resize(weight.len());
        tape.weights_left.copy_from_slice(weight);
        multiply(&mut tape.weights_left, &tape.weight_mask);
    }

    /// Runs the recurrence over the gates' input part. h: `[B, R]`, c: `[B, H]`, in the initial state, out the final.
    pub(crate) fn recur(
        &self,
        params: &Params,
        segment: Segment,
        h: &mut [f32],
        c: &mut [f32],
        frozen: bool,
        tape: &mut LayerTape,
    ) {
        let (first, last) = self.end_slots(segment.steps);
        tape.h[first * h.len()..][..h.len()].copy_from_slice(h);
        tape.c[first * c.len()..][..c.len()].copy_from_slice(c);
        match &self.variant {
            Some(own) => self.recur_variant(own, params, segment, frozen, tape),
            None => self.recur_plain(params, segment, frozen, tape),
        }
        h.copy_from_slice(&tape.h[last * h.len()..][..h.len()]);
        c.copy_from_slice(&tape.c[last * c.len()..][..c.len()]);
    }

    fn recur_plain(&self, params: &Params, segment: Segment, frozen: bool, tape: &mut LayerTape) {
        if !(frozen && tape.is_packed) {
            tape.packed.pack_forward(self.recurrent_weights(params, &tape.weight_mask, &tape.weights_left));
            tape.is_packed = true;
        }
        self.recurrence(segment, &tape.packed).forward(
            &mut tape.gates,
            &mut tape.h,
            &mut tape.c,
            &mut tape.tanh_c,
            &mut tape.raw,
        );
    }

    /// Runs the recurrence backward: the tape's gates become the gradients of their pre-activations, and `gradients`
    /// receives those of the recurrent parameters, of the biases, and of the input weights' `columns`, which met
    /// `source: [T, B, columns]`.
    pub(crate) fn recur_backward(
        &self,
        params: &Params,
        segment: Segment,
        reaching: Reaching,
        (columns, source): (Range<usize>, &[f32]),
        tape: &mut LayerTape,
        gradients: &mut Params,
        accumulate: Accumulate,
    ) {
        let rows = segment.steps * segment.batch;
        let width = self.width();
        if self.weight_hr.is_some() {
            tape.d_projected.resize(rows * self.recurrent);
        }
        match &self.variant {
            Some(own) => self.recur_variant_backward(own, params, segment, reaching, tape, gradients, accumulate),
            None => self.recur_plain_backward(params, segment, reaching, tape),
        }
        let (d_input_weight, d_weight) = gradients.pair_mut(self.weight_ih, self.weight_hh);
        let d_input_weight = &mut d_input_weight[columns.start..];
        let dropped = !tape.weight_mask.is_empty();
        let (target, start) = match dropped {
            true => (&mut tape.weights_left[..], Start::Zero),
            false => (&mut *d_weight, accumulate.start()),
        };
        let hidden_weight = (
            MatrixMut::new(target, width, self.recurrent),
            start,
            Matrix::new(self.before(&tape.h, segment), rows, self.recurrent),
        );
        let input_weight = (
            MatrixMut::with_stride(d_input_weight, width, columns.len(), self.input),
            accumulate.start(),
            Matrix::new(source, rows, columns.len()),
        );
        let d_gates = Matrix::new(&tape.gates, rows, width).transposed();
        if self.is_normalised() {
            products(Matrix::new(&tape.variant.d_sums, rows, width).transposed(), [hidden_weight]);
            products(d_gates, [input_weight]);
        } else {
            products(d_gates, [hidden_weight, input_weight]);
        }
        if dropped {
            multiply(&mut tape.weights_left, &tape.weight_mask);
            accumulate.values(d_weight, &tape.weights_left);
        }
        if let Some(slot) = self.weight_hr {
            product(
                MatrixMut::new(gradients.get_mut(slot), self.recurrent, self.hidden),
                accumulate.start(),
                Matrix::new(&tape.d_projected, rows, self.recurrent).transposed(),
                Matrix::new(&tape.raw, rows, self.hidden),
            );
        }
        // Both biases enter the same sum, so they share one gradient.
        for slot in [self.bias_ih, self.bias_hh] {
            accumulate.values(gradients.get_mut(slot), &tape.bias);
        }
    }

    /// The loop of [`Layer::recur_backward`]; leaves the gradient of the biases in `tape.bias`.
    fn recur_plain_backward(&self, params: &Params, segment: Segment, reaching: Reaching, tape: &mut LayerTape) {
        if self.weight_hr.is_some() {
            tape.raw_gradient.resize(segment.steps * segment.batch * self.hidden);
        }
        let weights = self.recurrent_weights(params, &tape.weight_mask, &tape.weights_left);
        tape.packed_backward.pack_backward(weights, segment.batch);
        let Reaching { d_hidden, d_gate, dh, dc } = reaching;
        self.recurrence(segment, &tape.packed_backward).backward(BackwardBuffers {
            gates: &mut tape.gates,
            c: &tape.c,
            tanh_c: &tape.tanh_c,
            d_h: d_hidden,
            d_o: d_gate,
            dh,
            dc,
            raw_gradient: &mut tape.raw_gradient,
            d_projected: &mut tape.d_projected,
        });
        column_sums(&mut tape.bias, &tape.gates, false);
    }

    /// The gradient of the input weights' `columns`, which met the part `source: [rows, columns]` of the input; after
    /// [`Layer::recur_backward`].
    pub(crate) fn input_weight_gradient(
        &self,
        columns: Range<usize>,
        rows: Range<usize>,
        source: &[f32],
        tape: &LayerTape,
        gradients: &mut Params,
        accumulate: Accumulate,
    ) {
        let d_weight = &mut gradients.get_mut(self.weight_ih)[columns.start..];
        product(
            MatrixMut::with_stride(d_weight, self.width(), columns.len(), self.input),
            accumulate.start(),
            self.d_gates(&rows, tape).transposed(),
            Matrix::new(source, rows.len(), columns.len()),
        );
    }

    /// The gradient of the part of the input that the input weights' `columns` met; after [`Layer::recur_backward`].
    ///
    /// d_source: `[rows, columns]`.
    pub(crate) fn input_gradient(
        &self,
        params: &Params,
        columns: Range<usize>,
        rows: Range<usize>,
        d_source: &mut [f32],
        accumulate: Accumulate,
        tape: &LayerTape,
    ) {
        product(
            MatrixMut::new(d_source, rows.len(), columns.len()),
            accumulate.start(),
            self.d_gates(&rows, tape),
            self.input_columns(params.get(self.weight_ih), &columns),
        );
    }

    /// The gradients of the gates' pre-activations of some of the T·B rows.
    fn d_gates<'a>(&self, rows: &Range<usize>, tape: &'a LayerTape) -> Matrix<'a> {
        let width = self.width();
        Matrix::new(&tape.gates[rows.start * width..rows.end * width], rows.len(), width)
    }

    /// The hidden states after each step: `[T, B, R]`.
    pub(crate) fn hidden<'a>(&self, segment: Segment, tape: &'a LayerTape) -> &'a [f32] {
        self.after(&tape.h, segment)
    }

    /// The cell states after each step: `[T, B, H]`.
    pub(crate) fn cell<'a>(&self, segment: Segment, tape: &'a LayerTape) -> &'a [f32] {
        self.after(&tape.c, segment)
    }

    fn recurrent_weights<'a>(&self, params: &'a Params, mask: &[f32], left: &'a [f32]) -> RecurrentWeights<'a> {
        RecurrentWeights {
            weight_hh: if mask.is_empty() { params.get(self.weight_hh) } else { left },
            weight_hr: self.weight_hr.map(|slot| params.get(slot)),
            hidden: self.hidden,
            recurrent: self.recurrent,
        }
    }

    fn input_columns<'a>(&self, weight: &'a [f32], columns: &Range<usize>) -> Matrix<'a> {
        Matrix::with_stride(&weight[columns.start..], self.width(), columns.len(), self.input)
    }

    fn recurrence<'a>(&self, segment: Segment<'a>, packed: &'a PackedRecurrence) -> Recurrence<'a> {
        Recurrence {
            steps: segment.steps,
            batch: segment.batch,
            hidden: self.hidden,
            recurrent: self.recurrent,
            reverse: self.reverse,
            lengths: segment.lengths,
            packed,
            horizon: self.horizon,
        }
    }

    /// The slots of the initial and the final state among the T + 1.
    fn end_slots(&self, steps: usize) -> (usize, usize) {
        if self.reverse { (steps, 0) } else { (0, steps) }
    }

    /// The T slots that steps wrote, of T + 1.
    fn after<'a>(&self, slots: &'a [f32], segment: Segment) -> &'a [f32] {
        let slot = slots.len() / (segment.steps + 1);
        if self.reverse { &slots[..slots.len() - slot] } else { &slots[slot..] }
    }

    /// The T slots that steps read, of T + 1.
    fn before<'a>(&self, slots: &'a [f32], segment: Segment) -> &'a [f32] {
        let slot = slots.len() / (segment.steps + 1);
        if self.reverse { &slots[slot..] } else { &slots[..slots.len() - slot] }
    }
}
