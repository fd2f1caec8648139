//! One direction of one layer over a segment: `[T, B, I]` → `[T, B, R]`, forward, backward, and one step.
//!
//! The equations are those of [`crate::cell`]; here they run over a whole segment. The input product of all T·B rows
//! is one matrix product, only the recurrence goes step by step, in the kernels, and every weight gradient is one product
//! again. The input of a mogrified cell is gated by its hidden state first, so its product goes step by step too: the input is handed
//! to the kernels, and what they read of it, and its gradient, taken from there.

mod cell;

use std::ops::Range;

use lstm_kernels::{
    Aligned, CellWeights, Columns, Matrix, MatrixMut, Reaching, Recurrence, RecurrenceTape, RecurrentWeights, Start,
    StepPlan, multiply, product, product_with_bias, products,
};

use crate::free_memory::bytes_of;
use crate::nn::config::{Init, InitScheme, LstmConfig};
use crate::nn::dropout::{Dropout, layer_place};
use crate::nn::params::{Layout, Params, ParamsMut, ParamsRef, Slot};
use crate::nn::segment::Segment;
use cell::{LayerCell, Sizes};

/// One direction of one layer: where its parameters lie, and how it runs.
#[derive(Clone, Debug)]
pub(crate) struct Recurrent {
    weight_ih: Slot,
    weight_hh: Slot,
    bias_ih: Slot,
    bias_hh: Slot,
    weight_hr: Option<Slot>,
    cell: LayerCell,
    sizes: Sizes,
    /// Which layer it is of.
    layer: usize,
}

/// What a forward pass leaves for its backward pass, and the scratch of both.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecurrentTape {
    recurrence: RecurrenceTape,
    dropped: DroppedWeights,
}

/// Recurrent weights of which some are dropped.
#[derive(Clone, Debug, Default)]
struct DroppedWeights {
    /// `[K·H, R]`: the mask, empty if none are dropped.
    mask: Vec<f32>,
    /// The weights that are left; after the backward pass their gradient.
    left: Aligned,
}

impl Recurrent {
    /// Adds the parameters of layer `layer` to `layout` under PyTorch's names, and those it does not know under our own.
    pub(crate) fn in_layout(
        config: &LstmConfig,
        layer: usize,
        reverse: bool,
        prefix: &str,
        layout: &mut Layout,
    ) -> Self {
        let sizes = Sizes {
            gates: config.variant.gates(),
            input: config.layer_input(layer),
            hidden: config.hidden.of(layer),
            recurrent: config.recurrent(layer),
            reverse,
            horizon: config.horizon,
        };
        let Sizes { input, hidden, recurrent, .. } = sizes;
        let width = sizes.width();
        let suffix = format!("l{layer}{}", if reverse { "_reverse" } else { "" });
        // The gates are a matrix each, one under another.
        let mut add = |name: &str, shape: &[usize], matrices: usize| {
            layout.add_matrices(format!("{prefix}{name}_{suffix}"), shape, matrices)
        };
        Self {
            weight_ih: add("weight_ih", &[width, input], sizes.gates),
            weight_hh: add("weight_hh", &[width, recurrent], sizes.gates),
            bias_ih: add("bias_ih", &[width], 0),
            bias_hh: add("bias_hh", &[width], 0),
            weight_hr: config.projection.map(|size| add("weight_hr", &[size, hidden], 1)),
            cell: LayerCell::in_layout(config.variant, sizes, add),
            sizes,
            layer,
        }
    }

    /// K·H, the width of the gates.
    pub(crate) fn width(&self) -> usize {
        self.sizes.width()
    }

    /// Sets initial values as `init` says.
    pub(crate) fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        let Sizes { input, hidden, recurrent, .. } = self.sizes;
        let fan_in = |size: usize| 1.0 / (size as f32).sqrt();
        let bound = |size: usize| match init.scheme {
            InitScheme::Torch => fan_in(hidden),
            InitScheme::Uniform(a) => a,
            InitScheme::OnesBias => fan_in(size),
        };
        params.fill_uniform(self.weight_ih, bound(input), seed);
        params.fill_uniform(self.weight_hh, bound(recurrent), seed);
        if let Some(slot) = self.weight_hr {
            params.fill_uniform(slot, bound(hidden), seed);
        }
        for slot in [self.bias_ih, self.bias_hh] {
            match init.scheme {
                InitScheme::OnesBias => params.get_mut(slot).fill(1.0),
                _ => params.fill_uniform(slot, bound(1), seed),
            }
            if let Some(sum) = init.forget_bias {
                // The forget gate is the third from the last, whether or not an input gate is before it.
                let first = self.width() - 3 * hidden;
                params.get_mut(slot)[first..first + hidden].fill(sum / 2.0);
            }
        }
        self.cell.initialise(params, bound(hidden), seed);
    }

    /// The bytes of a tape for a segment of so many steps and rows, the weights that are packed beside it included.
    pub(crate) fn bytes(&self, steps: usize, batch: usize, drops_weights: bool) -> usize {
        let Sizes { hidden, recurrent, .. } = self.sizes;
        let (width, all) = (self.width(), steps.saturating_add(1));
        let of_projection = usize::from(self.weight_hr.is_some());
        // The recurrent weights are packed for either pass; where some are dropped, there are the mask and what it leaves too.
        let weights = if drops_weights { 4 } else { 2 };
        let shared = bytes_of(&[
            [steps, batch, width],
            [all, batch, recurrent],
            [all, batch, hidden],
            [steps, batch, hidden],
            // Before projection, the gradient of that, and that of the projected ones.
            [steps, batch, of_projection * hidden],
            [steps, batch, of_projection * hidden],
            [steps, batch, of_projection * recurrent],
            [weights, width, recurrent],
            [2 * of_projection, hidden, recurrent],
            [1, 1, width],
        ]);
        shared.saturating_add(self.cell.bytes(steps, batch, self.sizes))
    }

    /// Sizes the tape for the segment, adds up both biases, and draws the masks that hold for the segment.
    pub(crate) fn begin(
        &self,
        params: ParamsRef,
        segment: Segment,
        dropout: Option<Dropout>,
        tape: &mut RecurrentTape,
    ) {
        let recurrence = self.recurrence(params, segment);
        let sequence = &mut tape.recurrence.sequence;
        sequence.resize(&recurrence, self.weight_hr.is_some());
        let biases = params.get(self.bias_ih).iter().zip(params.get(self.bias_hh));
        sequence.bias.iter_mut().zip(biases).for_each(|(sum, (a, b))| *sum = a + b);
        self.drop_weights(params, dropout, &mut tape.dropped);
        self.cell.draw_zoneout(dropout, self.layer, segment, self.sizes, &mut tape.recurrence);
    }

    /// Draws the mask of the recurrent weights, which holds for the whole segment, or none.
    fn drop_weights(&self, params: ParamsRef, dropout: Option<Dropout>, dropped: &mut DroppedWeights) {
        let Some(Dropout { weights: rate, masks, .. }) = dropout.filter(|dropout| dropout.weights > 0.0) else {
            dropped.mask.clear();
            return;
        };
        let weight = params.get(self.weight_hh);
        let place = layer_place(self.layer, 2 + usize::from(self.sizes.reverse));
        masks.fill_shared(place, rate, &mut dropped.mask, weight.len());
        dropped.left.resize(weight.len());
        dropped.left.copy_from_slice(weight);
        multiply(&mut dropped.left, &dropped.mask);
    }

    /// The product of some rows of a part of the input with its columns of the input weights, into the gates
    /// `[T, B, K·H]`. The part that starts from zero brings the biases; those of a normalised cell come later.
    ///
    /// source: `[rows, columns]`, the part of the input that the weights' `columns` meet.
    pub(crate) fn add_input(
        &self,
        params: ParamsRef,
        columns: Range<usize>,
        rows: Range<usize>,
        source: &[f32],
        start: Start,
        tape: &mut RecurrentTape,
    ) {
        let width = self.width();
        let sequence = &mut tape.recurrence.sequence;
        if self.cell.is_mogrified() {
            let all = &mut sequence.input[rows.start * self.sizes.input..rows.end * self.sizes.input];
            put_columns(all, self.sizes.input, columns, source);
            return;
        }
        let gates = &mut sequence.gates[rows.start * width..rows.end * width];
        let out = MatrixMut::new(gates, rows.len(), width);
        let source = Matrix::new(source, rows.len(), columns.len());
        let weight = self.input_columns(params.get(self.weight_ih), &columns).transposed();
        match start {
            Start::Zero if !self.cell.is_normalised() => product_with_bias(out, &sequence.bias, source, weight),
            start => product(out, start, source, weight),
        }
    }

    /// Runs the recurrence over the gates' input part. h: `[B, R]`, c: `[B, H]`, in the initial state, out the final.
    /// `frozen`: the weights are those that were packed at the tape's first use.
    pub(crate) fn forward(
        &self,
        params: ParamsRef,
        segment: Segment,
        h: &mut [f32],
        c: &mut [f32],
        frozen: bool,
        tape: &mut RecurrentTape,
    ) {
        let RecurrentTape { recurrence, dropped } = tape;
        self.recurrence(params, segment).forward(self.weights(params, dropped), h, c, frozen, recurrence);
    }

    /// Runs the recurrence backward: the tape's gates become the gradients of their pre-activations, and `gradients`
    /// receives those of the recurrent parameters, of the biases, and of the input weights' `columns`, which met
    /// `source: [T, B, columns]`.
    pub(crate) fn backward(
        &self,
        params: ParamsRef,
        segment: Segment,
        reaching: Reaching,
        (columns, source): (Range<usize>, &[f32]),
        tape: &mut RecurrentTape,
        gradients: &mut ParamsMut,
        accumulate: Start,
    ) {
        let Sizes { input, hidden, recurrent, .. } = self.sizes;
        let (rows, width) = (segment.rows(), self.width());
        let RecurrentTape { recurrence, dropped } = tape;
        let course = self.recurrence(params, segment);
        course.backward(self.weights(params, dropped), reaching, recurrence);
        recurrence.sequence.gather_before(&course);
        self.cell.store_gradients(recurrence, gradients, accumulate);
        let sequence = &recurrence.sequence;
        let (source, hidden_before) = match recurrence.mogrified() {
            Some((read, h)) => (Matrix::with_stride(&read[columns.start..], rows, columns.len(), input), h),
            None => (Matrix::new(source, rows, columns.len()), sequence.hidden_before()),
        };
        let (d_input_weight, d_weight) = gradients.pair_mut(self.weight_ih, self.weight_hh);
        let d_input_weight = &mut d_input_weight[columns.start..];
        let is_dropped = !dropped.mask.is_empty();
        let (target, start) = match is_dropped {
            true => (&mut dropped.left[..], Start::Zero),
            false => (&mut *d_weight, accumulate),
        };
        let hidden_weight =
            (MatrixMut::new(target, width, recurrent), start, Matrix::new(hidden_before, rows, recurrent));
        let input_weight = (MatrixMut::with_stride(d_input_weight, width, columns.len(), input), accumulate, source);
        let d_gates = Matrix::new(&sequence.gates, rows, width).transposed();
        match recurrence.d_recurrent() {
            Some(d_recurrent) => {
                products(Matrix::new(d_recurrent, rows, width).transposed(), [hidden_weight]);
                products(d_gates, [input_weight]);
            }
            None => products(d_gates, [hidden_weight, input_weight]),
        }
        if is_dropped {
            multiply(&mut dropped.left, &dropped.mask);
            accumulate.store(d_weight, &dropped.left);
        }
        if let Some(slot) = self.weight_hr {
            product(
                MatrixMut::new(gradients.get_mut(slot), recurrent, hidden),
                accumulate,
                Matrix::new(sequence.d_projected(), rows, recurrent).transposed(),
                Matrix::new(sequence.raw(), rows, hidden),
            );
        }
        // Both biases enter the same sum, so they share one gradient.
        for slot in [self.bias_ih, self.bias_hh] {
            accumulate.store(gradients.get_mut(slot), &sequence.bias);
        }
    }

    /// The gradient of the input weights' `columns`, which met the part `source: [rows, columns]` of the input; after
    /// [`Self::backward`].
    pub(crate) fn input_weight_gradient(
        &self,
        columns: Range<usize>,
        rows: Range<usize>,
        source: &[f32],
        tape: &RecurrentTape,
        gradients: &mut ParamsMut,
        accumulate: Start,
    ) {
        let input = self.sizes.input;
        let d_weight = &mut gradients.get_mut(self.weight_ih)[columns.start..];
        let source = match tape.recurrence.mogrified() {
            Some((read, _)) => {
                Matrix::with_stride(&read[rows.start * input + columns.start..], rows.len(), columns.len(), input)
            }
            None => Matrix::new(source, rows.len(), columns.len()),
        };
        product(
            MatrixMut::with_stride(d_weight, self.width(), columns.len(), input),
            accumulate,
            self.d_gates(&rows, tape).transposed(),
            source,
        );
    }

    /// The gradient of the part of the input that the input weights' `columns` met; after [`Self::backward`].
    ///
    /// d_source: `[rows, columns]`.
    pub(crate) fn input_gradient(
        &self,
        params: ParamsRef,
        columns: Range<usize>,
        rows: Range<usize>,
        d_source: &mut [f32],
        accumulate: Start,
        tape: &RecurrentTape,
    ) {
        if self.cell.is_mogrified() {
            let input = self.sizes.input;
            let all = &tape.recurrence.sequence.input[rows.start * input..rows.end * input];
            take_columns(all, input, columns, d_source, accumulate);
            return;
        }
        product(
            MatrixMut::new(d_source, rows.len(), columns.len()),
            accumulate,
            self.d_gates(&rows, tape),
            self.input_columns(params.get(self.weight_ih), &columns),
        );
    }

    /// Appends one step to `plan`: from `joined: [B, I + R]`, the input beside the hidden state before, and the cell state
    /// `c: [B, H]`, both of which are carried on, to `out: [B, R]`. Returns the activated gates, `[B, K·H]`.
    pub(crate) fn plan_step(
        &self,
        params: ParamsRef,
        plan: &mut StepPlan,
        joined: Columns,
        c: Columns,
        out: Columns,
    ) -> Columns {
        let weights = CellWeights {
            weight_ih: params.get(self.weight_ih),
            weight_hh: params.get(self.weight_hh),
            bias_ih: params.get(self.bias_ih),
            bias_hh: params.get(self.bias_hh),
            weight_hr: self.weight_hr.map(|slot| params.get(slot)),
        };
        plan.cells(self.cell.kernel(params, self.sizes.hidden), weights, joined, c, out)
    }

    /// The recurrence over a segment, as the kernels take it.
    fn recurrence<'a>(&self, params: ParamsRef<'a>, segment: Segment<'a>) -> Recurrence<'a> {
        let Sizes { hidden, recurrent, reverse, horizon, .. } = self.sizes;
        let Segment { steps, batch, lengths, packed } = segment;
        Recurrence {
            cell: self.cell.kernel(params, hidden),
            recurrent,
            reverse,
            horizon,
            steps,
            batch,
            lengths,
            packed,
        }
    }

    /// The gradients of the gates' pre-activations of some of the T·B rows.
    fn d_gates<'a>(&self, rows: &Range<usize>, tape: &'a RecurrentTape) -> Matrix<'a> {
        let width = self.width();
        Matrix::new(&tape.recurrence.sequence.gates[rows.start * width..rows.end * width], rows.len(), width)
    }

    fn weights<'a>(&self, params: ParamsRef<'a>, dropped: &'a DroppedWeights) -> RecurrentWeights<'a> {
        RecurrentWeights {
            weight_hh: if dropped.mask.is_empty() { params.get(self.weight_hh) } else { &dropped.left },
            weight_hr: self.weight_hr.map(|slot| params.get(slot)),
            weight_ih: params.get(self.weight_ih),
        }
    }

    fn input_columns<'a>(&self, weight: &'a [f32], columns: &Range<usize>) -> Matrix<'a> {
        Matrix::with_stride(&weight[columns.start..], self.width(), columns.len(), self.sizes.input)
    }
}

/// Puts `source: [rows, columns]` into those columns of `all: [rows, width]`.
fn put_columns(all: &mut [f32], width: usize, columns: Range<usize>, source: &[f32]) {
    for (row, source) in all.chunks_exact_mut(width).zip(source.chunks_exact(columns.len())) {
        row[columns.clone()].copy_from_slice(source);
    }
}

/// Stores or adds some columns of `all: [rows, width]` in `to: [rows, columns]`.
fn take_columns(all: &[f32], width: usize, columns: Range<usize>, to: &mut [f32], accumulate: Start) {
    for (row, to) in all.chunks_exact(width).zip(to.chunks_exact_mut(columns.len())) {
        accumulate.store(to, &row[columns.clone()]);
    }
}

impl RecurrentTape {
    /// The activated gates: `[T, B, K·H]`; after the backward pass their gradients.
    pub(crate) fn gates(&self) -> &[f32] {
        &self.recurrence.sequence.gates
    }

    /// The hidden states after each step: `[T, B, R]`.
    pub(crate) fn hidden(&self) -> &[f32] {
        self.recurrence.sequence.hidden()
    }

    /// The cell states after each step: `[T, B, H]`.
    pub(crate) fn cell(&self) -> &[f32] {
        self.recurrence.sequence.cell()
    }
}
