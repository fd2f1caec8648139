//! The phases of a step, and the columns of the workspace that they compute with.

use std::ops::Range;

use crate::recurrence::cell::{Cell, CellNorm};

/// Some columns of a `[B, ·]` buffer of a [`StepPlan`](crate::StepPlan).
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    pub(super) buffer: usize,
    pub(super) first: usize,
    pub(super) width: usize,
}

impl Columns {
    /// How many.
    pub fn width(self) -> usize {
        self.width
    }

    /// Some of these columns.
    ///
    /// # Panics
    /// When there are not as many.
    pub fn part(self, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.width, "columns {columns:?} of {}", self.width);
        Self { first: self.first + columns.start, width: columns.len(), ..self }
    }
}

/// Where a buffer lies among the values: `[B, width]`, or one row that all rows share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) offset: usize,
    pub(super) width: usize,
    pub(super) shared: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// gates, c, out from `[x, h]` and c.
    Cells { packed: usize, bias: Columns, joined: Columns, gates: Columns, c: Columns, tanh_c: Columns, out: Columns },
    /// out = input · Wᵀ + bias, of whole buffers if a row is `parts` rows of the product.
    Linear { packed: usize, bias: Option<Columns>, input: Columns, out: Columns, parts: usize },
    /// The same product with a weight of fewer bits; added to `out` where it is `added`.
    Narrow { factor: usize, bias: Option<Columns>, added: bool, input: Columns, out: Columns, parts: usize },
    /// values = tanh(values).
    Tanh { values: Columns },
    /// gates, c, out of a variant's cell from its pre-activations and the cell state before; where it is normalised, from
    /// W_hh h in `norm` as well, beside a buffer for the normalised cell state. `parameters`: its peepholes, then its
    /// gains and bias.
    Variant {
        parameters: usize,
        form: Form,
        gates: Columns,
        norm: Option<(Columns, Columns)>,
        c_before: Columns,
        c: Columns,
        tanh_c: Columns,
        out: Columns,
    },
    /// Layer normalisation in place. `parameters`: the gain, then the bias.
    Normalise { parameters: usize, values: Columns },
    /// sums = 2σ(sums), values = sums ∘ values.
    Gate { sums: Columns, values: Columns },
    /// values = rate · before + (1 − rate) · values.
    Blend { values: Columns, before: Columns, rate: f32 },
    /// values = the row's setting, where that is a number.
    Clamp { values: Columns, settings: Columns },
    /// out = a + b.
    Sum { a: Columns, b: Columns, out: Columns },
    /// to = from; `later` if only the next step reads it.
    Copy { from: Columns, to: Columns, later: bool },
}

/// Which variant a cell is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    hidden: usize,
    coupled: bool,
    exponential: bool,
    peepholes: bool,
    norm: bool,
}

impl Form {
    /// The form of a cell, and its parameters one after the other.
    pub(super) fn of(cell: Cell) -> (Self, Vec<f32>) {
        let Cell { hidden, coupled, exponential, peepholes, norm, .. } = cell;
        let mut parameters = peepholes.unwrap_or_default().to_vec();
        let norms = norm.map(|norm| [norm.gain_ih, norm.gain_hh, norm.gain_cell, norm.bias_cell]);
        norms.iter().flatten().for_each(|values| parameters.extend_from_slice(values));
        (Self { hidden, coupled, exponential, peepholes: peepholes.is_some(), norm: norm.is_some() }, parameters)
    }

    /// The cell of this form with the parameters that lie one after the other, zoneout apart.
    pub(super) fn cell(self, parameters: &[f32]) -> Cell<'_> {
        let Self { hidden, coupled, exponential, peepholes, norm } = self;
        let form = Cell { coupled, exponential, ..Cell::plain(hidden) };
        let width = form.width();
        let (peephole, rest) = parameters.split_at(if peepholes { width - hidden } else { 0 });
        let norm = norm.then(|| {
            let (gains, cell) = rest.split_at(2 * width);
            let (gain_ih, gain_hh) = gains.split_at(width);
            CellNorm { gain_ih, gain_hh, gain_cell: &cell[..hidden], bias_cell: &cell[hidden..] }
        });
        Cell { peepholes: peepholes.then_some(peephole), norm, ..form }
    }
}
