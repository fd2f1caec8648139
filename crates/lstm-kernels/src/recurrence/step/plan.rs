//! The plan of a step: its weights packed once, its values in one workspace.

use std::ops::Range;
use std::sync::Arc;

use super::phase::{Buffer, Columns, Form, Phase};
use super::run::{Plan, Step};
use crate::gemm::arithmetic::Format;
use crate::gemm::matrix::Source;
use crate::gemm::narrow::{NarrowFactor, Weights};
use crate::gemm::pack::pack_columns;
use crate::memory::Aligned;
use crate::recurrence::cell::{Cell, CellMogrifier};
use crate::recurrence::plain::pack_blocks;
use crate::simd::dispatch;
use crate::team;
use crate::team::shared::Shared;

/// The weights a second thread is worth reading half of: what a core reads in about 4 µs.
const WORTH_A_THREAD: usize = 1 << 16;

/// The parameters of one layer of LSTM cells, in PyTorch's shapes.
#[derive(Clone, Copy, Debug)]
pub struct CellWeights<'a> {
    /// `[K·H, I]`.
    pub weight_ih: &'a [f32],
    /// `[K·H, R]`.
    pub weight_hh: &'a [f32],
    /// `[K·H]`.
    pub bias_ih: &'a [f32],
    /// `[K·H]`.
    pub bias_hh: &'a [f32],
    /// `[P, H]`, if the hidden state is projected.
    pub weight_hr: Option<&'a [f32]>,
}

/// A network's step, built part by part and then run again and again.
#[derive(Clone, Debug)]
pub struct StepPlan {
    batch: usize,
    values: Vec<f32>,
    buffers: Vec<Buffer>,
    /// Packed weights, and gains and biases as they are. Shared by clones.
    packed: Vec<Arc<Aligned>>,
    /// Weights of fewer bits, likewise.
    narrow: Vec<Arc<NarrowFactor>>,
    kind: Weights,
    phases: Vec<Phase>,
    /// Where the phases begin that are run for the rows alone whose results are asked for.
    results: Option<usize>,
    /// The weights read by a step, in words of 4 bytes.
    weights: usize,
}

impl StepPlan {
    /// A plan for B rows side by side.
    pub fn new(batch: usize) -> Self {
        Self::with_weights(batch, Weights::F32)
    }

    /// The same with weights of fewer bits. Products with them begin a phase of their own, before the cells.
    pub fn with_weights(batch: usize, kind: Weights) -> Self {
        let (values, buffers, packed, narrow, phases) = Default::default();
        Self { batch, values, buffers, packed, narrow, kind, phases, results: None, weights: 0 }
    }

    /// The bytes of the weights that a step reads.
    pub fn weight_bytes(&self) -> usize {
        4 * self.weights
    }

    /// B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The same plan for another number of rows, every buffer zero. The weights are shared.
    pub fn with_batch(&self, batch: usize) -> Self {
        let mut plan = Self { batch, values: Vec::new(), buffers: Vec::new(), ..self.clone() };
        for buffer in &self.buffers {
            let columns = plan.add(buffer.width, buffer.shared);
            if buffer.shared {
                let to = plan.buffers[columns.buffer].offset;
                plan.values[to..to + buffer.width].copy_from_slice(&self.values[buffer.offset..][..buffer.width]);
            }
        }
        plan
    }

    /// A new buffer `[B, width]`, zero.
    pub fn buffer(&mut self, width: usize) -> Columns {
        self.add(width, false)
    }

    fn add(&mut self, width: usize, shared: bool) -> Columns {
        let offset = self.values.len();
        self.values.resize(offset + if shared { 1 } else { self.batch } * width, 0.0);
        self.buffers.push(Buffer { offset, width, shared });
        Columns { buffer: self.buffers.len() - 1, first: 0, width }
    }

    /// One row that every row of the batch shares.
    fn shared_row(&mut self, values: impl Iterator<Item = f32>) -> Columns {
        let values: Vec<f32> = values.collect();
        let row = self.add(values.len(), true);
        let offset = self.buffers[row.buffer].offset;
        self.values[offset..].copy_from_slice(&values);
        row
    }

    /// Appends a layer of cells: from `joined: [B, I + R]`, the input beside the hidden state before, and the cell state
    /// `c: [B, S]`, both of which are carried on to the next step, to the hidden state `out: [B, R]`; zoneout is its
    /// expectation. Returns the activated gates, `[B, K·H]`.
    ///
    /// # Panics
    /// When the shapes do not fit each other.
    pub fn cells(&mut self, cell: Cell, weights: CellWeights, joined: Columns, c: Columns, out: Columns) -> Columns {
        let (hidden, width) = (cell.hidden, cell.width());
        let [input, recurrent] = [weights.weight_ih, weights.weight_hh].map(|weight| weight.len() / width);
        cell.check(recurrent);
        assert_eq!(
            [joined.width, c.width, out.width],
            [input + recurrent, cell.state(), recurrent],
            "columns of cells"
        );
        assert_eq!([weights.bias_ih.len(), weights.bias_hh.len()], [width; 2], "biases of cells");
        assert_eq!(self.buffers[c.buffer].width, cell.state(), "cell states are a buffer of their own");
        let raw = if weights.weight_hr.is_some() { self.buffer(hidden) } else { out };
        let bias: Vec<f32> = weights.bias_ih.iter().zip(weights.bias_hh).map(|(a, b)| a + b).collect();
        let read = cell.mogrifier.map_or(joined, |mogrifier| self.mogrify(mogrifier, recurrent, joined));
        let gates = match cell.is_plain_in_itself() && self.kind == Weights::F32 {
            true => self.plain_cells(hidden, weights, bias, read, c, raw),
            false => self.variant_cells(cell, weights, bias, read, c, raw),
        };
        if let Some(weight_hr) = weights.weight_hr {
            self.linear(weight_hr, None, raw, out);
        }
        let h = joined.part(input..input + recurrent);
        if cell.zoneout.hidden > 0.0 {
            self.phases.push(Phase::Blend { values: out, before: h, rate: cell.zoneout.hidden });
        }
        self.carry(out, h);
        gates
    }

    /// The rounds before a mogrified cell's step: what its gates read of `joined: [B, I + R]`.
    fn mogrify(&mut self, mogrifier: CellMogrifier, recurrent: usize, joined: Columns) -> Columns {
        let input = mogrifier.input;
        let read = self.buffer(joined.width);
        self.copy(joined, read);
        let (x, h) = (read.part(0..input), read.part(input..input + recurrent));
        let sums = [self.buffer(input), self.buffer(recurrent)];
        let inner = mogrifier.rank.map(|rank| self.buffer(rank));
        for round in 0..mogrifier.rounds {
            let (values, source) = if round.is_multiple_of(2) { (x, h) } else { (h, x) };
            let sums = sums[round % 2];
            let (left, right) = mogrifier.matrices(round, recurrent);
            match right.zip(inner) {
                Some((right, inner)) => {
                    self.linear(right, None, source, inner);
                    self.linear(left, None, inner, sums);
                }
                None => self.linear(left, None, source, sums),
            }
            self.phases.push(Phase::Gate { sums, values });
        }
        read
    }

    /// [`Self::cells`] of plain cells, before projection. bias: the sum of both.
    fn plain_cells(
        &mut self,
        hidden: usize,
        weights: CellWeights,
        bias: Vec<f32>,
        joined: Columns,
        c: Columns,
        out: Columns,
    ) -> Columns {
        let CellWeights { weight_ih, weight_hh, .. } = weights;
        let [input, recurrent] = [weight_ih, weight_hh].map(|weight| weight.len() / (4 * hidden));
        let bias = self.shared_row(bias.into_iter());
        let (gates, tanh_c) = (self.buffer(4 * hidden), self.buffer(hidden));
        let mut packed = Aligned::new();
        pack_blocks(&mut packed, &[(weight_ih, input), (weight_hh, recurrent)], hidden);
        self.weights += packed.len();
        self.packed.push(Arc::new(packed));
        let packed = self.packed.len() - 1;
        self.phases.push(Phase::Cells { packed, bias, joined, gates, c, tanh_c, out });
        gates
    }

    /// [`Self::cells`] of other cells, before projection and zoneout of the hidden state. bias: the sum of both.
    fn variant_cells(
        &mut self,
        cell: Cell,
        weights: CellWeights,
        bias: Vec<f32>,
        joined: Columns,
        c: Columns,
        out: Columns,
    ) -> Columns {
        let CellWeights { weight_ih, weight_hh, .. } = weights;
        let (hidden, width) = (cell.hidden, cell.width());
        let [input, recurrent] = [weight_ih, weight_hh].map(|weight| weight.len() / width);
        let gates = self.buffer(width);
        let sums = match cell.norm {
            // A scale for each of them: inputs and hidden states are of different sizes.
            None if self.kind != Weights::F32 => {
                self.linear(weight_ih, Some(&bias), joined.part(0..input), gates);
                self.add_linear(weight_hh, None, 1, true, joined.part(input..input + recurrent), gates);
                None
            }
            None => {
                let rows = weight_ih.chunks_exact(input).zip(weight_hh.chunks_exact(recurrent));
                let weight: Vec<f32> = rows.flat_map(|(x, h)| [x, h].concat()).collect();
                self.linear(&weight, Some(&bias), joined, gates);
                None
            }
            Some(norm) => {
                let sums = self.buffer(width);
                self.linear(weight_ih, None, joined.part(0..input), gates);
                self.linear(weight_hh, None, joined.part(input..input + recurrent), sums);
                let parameters = self.keep_parameters(&[norm.gain_ih, &bias].concat());
                self.phases.push(Phase::Normalise { parameters, values: gates });
                Some(sums)
            }
        };
        let rate = cell.zoneout.cell;
        let new = if rate > 0.0 { self.buffer(hidden) } else { c };
        let (form, parameters) = Form::of(cell);
        let parameters = self.keep_parameters(&parameters);
        let (tanh_c, cells) = (self.buffer(hidden), sums.map(|_| self.buffer(hidden)));
        let norm = sums.zip(cells);
        self.phases.push(Phase::Variant { parameters, form, gates, norm, c_before: c, c: new, tanh_c, out });
        if rate > 0.0 {
            self.phases.push(Phase::Blend { values: new, before: c, rate });
            self.carry(new, c);
        }
        gates
    }

    /// Keeps parameters as they are, and gives where.
    fn keep_parameters(&mut self, parameters: &[f32]) -> usize {
        self.packed.push(Arc::new(Aligned::from(parameters)));
        self.packed.len() - 1
    }

    /// Appends out `[B, N]` = input `[B, K]` · weightᵀ + bias, weight: `[N, K]`.
    ///
    /// # Panics
    /// When the shapes do not fit each other.
    pub fn linear(&mut self, weight: &[f32], bias: Option<&[f32]>, input: Columns, out: Columns) {
        self.linear_of_parts(weight, bias, 1, input, out);
    }

    /// Appends the same product of every part of a row by itself: out `[B, parts, N]` = input `[B, parts, K]` · weightᵀ +
    /// bias, weight: `[N, K]`, which is read once.
    ///
    /// # Panics
    /// When the shapes do not fit each other, or a row is several parts and not a whole buffer's.
    pub fn linear_of_parts(
        &mut self,
        weight: &[f32],
        bias: Option<&[f32]>,
        parts: usize,
        input: Columns,
        out: Columns,
    ) {
        self.add_linear(weight, bias, parts, false, input, out);
    }

    /// [`Self::linear_of_parts`], or where it is `added` a product on top of what is there, which only weights of fewer bits
    /// have.
    fn add_linear(
        &mut self,
        weight: &[f32],
        bias: Option<&[f32]>,
        parts: usize,
        added: bool,
        input: Columns,
        out: Columns,
    ) {
        let is_whole = |columns: Columns| self.buffers[columns.buffer].width == columns.width;
        assert!(parts == 1 || is_whole(input) && is_whole(out), "parts are a whole buffer's");
        assert_eq!([input.width % parts, out.width % parts], [0; 2], "parts of one size");
        let (depth, columns) = (input.width / parts, out.width / parts);
        assert_eq!(weight.len(), depth * columns, "a weight is [N, K]");
        let bias = bias.map(|bias| {
            assert_eq!(bias.len(), columns, "a bias has a value for every column");
            self.shared_row(bias.iter().copied())
        });
        if self.kind != Weights::F32 {
            let factor = NarrowFactor::pack(weight, depth, self.kind);
            self.weights += factor.bytes() / 4;
            self.narrow.push(Arc::new(factor));
            self.phases.push(Phase::Narrow { factor: self.narrow.len() - 1, bias, added, input, out, parts });
            return;
        }
        let mut packed = Aligned::new();
        let source = Source { data: weight.as_ptr(), row: 1, column: depth };
        pack_columns(&mut packed, Format::Values, source, (depth, columns), 1);
        self.weights += packed.len();
        self.packed.push(Arc::new(packed));
        self.phases.push(Phase::Linear { packed: self.packed.len() - 1, bias, input, out, parts });
    }

    /// Appends values = tanh(values).
    pub fn tanh(&mut self, values: Columns) {
        self.phases.push(Phase::Tanh { values });
    }

    /// Appends values = the row's own settings, where those are numbers; what is not a number leaves a value as it is.
    ///
    /// # Panics
    /// When the widths differ.
    pub fn clamp(&mut self, values: Columns, settings: Columns) {
        assert_eq!(values.width, settings.width, "a setting for every value");
        self.phases.push(Phase::Clamp { values, settings });
    }

    /// From here on parts are appended that [`Self::run_rows`] runs for the rows alone whose results are asked for.
    pub fn begin_results(&mut self) {
        self.results = Some(self.phases.len());
    }

    /// Appends out = a + b.
    ///
    /// # Panics
    /// When the widths differ.
    pub fn sum(&mut self, a: Columns, b: Columns, out: Columns) {
        assert_eq!([a.width, b.width], [out.width; 2], "columns of a sum");
        self.phases.push(Phase::Sum { a, b, out });
    }

    /// Appends a copy.
    ///
    /// # Panics
    /// When the widths differ.
    pub fn copy(&mut self, from: Columns, to: Columns) {
        assert_eq!(from.width, to.width, "columns of a copy");
        self.phases.push(Phase::Copy { from, to, later: false });
    }

    /// Appends a copy of which this step reads nothing: what the next one starts from.
    ///
    /// # Panics
    /// When the widths differ.
    pub fn carry(&mut self, from: Columns, to: Columns) {
        assert_eq!(from.width, to.width, "columns of a copy");
        self.phases.push(Phase::Copy { from, to, later: true });
    }

    /// One row of some columns.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, columns: Columns, row: usize) -> &[f32] {
        let at = self.place(columns, row);
        &self.values[at..][..columns.width]
    }

    /// One row of some columns, to write.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row_mut(&mut self, columns: Columns, row: usize) -> &mut [f32] {
        let at = self.place(columns, row);
        &mut self.values[at..][..columns.width]
    }

    fn place(&self, columns: Columns, row: usize) -> usize {
        assert!(row < self.batch, "row {row} of {}", self.batch);
        let buffer = self.buffers[columns.buffer];
        buffer.offset + row * buffer.width + columns.first
    }

    /// All rows of a whole buffer: `[B, width]`.
    ///
    /// # Panics
    /// When the columns are a part of a buffer.
    pub fn rows(&self, columns: Columns) -> &[f32] {
        let buffer = self.buffers[columns.buffer];
        assert_eq!(buffer.width, columns.width, "a whole buffer");
        &self.values[buffer.offset..][..self.batch * buffer.width]
    }

    /// Exchanges two rows of some columns.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn swap_rows(&mut self, columns: Columns, a: usize, b: usize) {
        let (a, b) = (self.place(columns, a.min(b)), self.place(columns, a.max(b)));
        if a < b {
            let (before, after) = self.values.split_at_mut(b);
            before[a..][..columns.width].swap_with_slice(&mut after[..columns.width]);
        }
    }

    /// Runs the step.
    pub fn run(&mut self) {
        self.run_rows(self.batch, 0..self.batch);
    }

    /// Runs the step for the first `rows` rows, and what stands behind [`Self::begin_results`] for the rows `results` of them. A
    /// row's result has the same bits whatever rows are run beside it.
    ///
    /// # Panics
    /// When there are not as many rows.
    pub fn run_rows(&mut self, rows: usize, results: Range<usize>) {
        let fits = results.start <= results.end && results.end <= rows && rows <= self.batch;
        assert!(fits, "results of rows {results:?} of {rows} of {}", self.batch);
        let wanted = if self.weights * rows.min(4) < WORTH_A_THREAD { 1 } else { team::threads() };
        let values = Shared::new(&mut self.values);
        let (body, head) = self.phases.split_at(self.results.unwrap_or(self.phases.len()));
        let phases = [(0, rows, body), (results.start, results.len(), head)];
        let plan = Plan { buffers: &self.buffers, packed: &self.packed, narrow: &self.narrow, phases, values };
        team::run(wanted, |member| dispatch(Step { plan, member }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, values};

    #[test]
    fn parts_of_a_row_go_through_one_weight() {
        let (batch, parts, depth, columns) = (3, 4, 5, 7);
        let (weight, bias) = (values(columns * depth, 1), values(columns, 2));
        let input = values(batch * parts * depth, 3);
        let expected: Vec<f32> = input
            .chunks(depth)
            .flat_map(|part| {
                let part: Vec<f32> = part.iter().map(|x| x.tanh()).collect();
                let dot = |row: &[f32]| row.iter().zip(&part).map(|(a, b)| a * b).sum::<f32>();
                weight.chunks(depth).zip(&bias).map(|(row, bias)| dot(row) + bias).collect::<Vec<_>>()
            })
            .collect();
        for threads in [1, 2, 3] {
            let mut plan = StepPlan::new(batch);
            let (wide, out) = (plan.buffer(parts * depth), plan.buffer(parts * columns));
            plan.tanh(wide);
            plan.linear_of_parts(&weight, Some(&bias), parts, wide, out);
            plan.weights = usize::MAX / 8;
            for (row, input) in input.chunks(parts * depth).enumerate() {
                plan.row_mut(wide, row).copy_from_slice(input);
            }
            crate::with_threads(threads, || plan.run());
            close(plan.rows(out), &expected, 1e-5);
        }
    }

    /// Two steps of a layer and a projection of it, of 1, 3 and 60 rows, against the equations.
    #[test]
    fn a_plan_is_its_equations_for_any_threads() {
        let (input, hidden, columns) = (5, 19, 7);
        let (weight_ih, weight_hh) = (values(4 * hidden * input, 1), values(4 * hidden * hidden, 2));
        let (bias_ih, bias_hh) = (values(4 * hidden, 3), values(4 * hidden, 4));
        let (weight, bias) = (values(columns * hidden, 5), values(columns, 6));
        for batch in [1, 3, 60] {
            let x = values(2 * batch * input, 7);
            let (mut h, mut c) = (vec![vec![0.0f32; hidden]; batch], vec![vec![0.0f32; hidden]; batch]);
            let mut expected = Vec::new();
            for step in 0..2 {
                for row in 0..batch {
                    let x = &x[(step * batch + row) * input..][..input];
                    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                    let pre: Vec<f32> = (0..4 * hidden)
                        .map(|n| {
                            let from_x = dot(&weight_ih[n * input..][..input], x);
                            from_x + dot(&weight_hh[n * hidden..][..hidden], &h[row]) + bias_ih[n] + bias_hh[n]
                        })
                        .collect();
                    let logistic = |x: f32| 1.0 / (1.0 + (-x).exp());
                    for u in 0..hidden {
                        let [i, f, g, o] = std::array::from_fn(|gate| pre[gate * hidden + u]);
                        c[row][u] = logistic(f) * c[row][u] + logistic(i) * g.tanh();
                        h[row][u] = logistic(o) * c[row][u].tanh();
                    }
                    expected.extend((0..columns).map(|n| bias[n] + dot(&weight[n * hidden..][..hidden], &h[row])));
                }
            }
            for threads in [1, 2, 3] {
                let mut plan = StepPlan::new(batch);
                let (joined, c) = (plan.buffer(input + hidden), plan.buffer(hidden));
                let (h, out) = (plan.buffer(hidden), plan.buffer(columns));
                let weights = CellWeights {
                    weight_ih: &weight_ih,
                    weight_hh: &weight_hh,
                    bias_ih: &bias_ih,
                    bias_hh: &bias_hh,
                    weight_hr: None,
                };
                plan.cells(Cell::plain(hidden), weights, joined, c, h);
                plan.linear(&weight, Some(&bias), h, out);
                // A small plan would run alone.
                plan.weights = usize::MAX / 8;
                let mut plan = plan.with_batch(batch + 1).with_batch(batch);
                let mut got = Vec::new();
                for step in 0..2 {
                    for row in 0..batch {
                        let x = &x[(step * batch + row) * input..][..input];
                        plan.row_mut(joined.part(0..input), row).copy_from_slice(x);
                    }
                    crate::with_threads(threads, || plan.run());
                    got.extend_from_slice(plan.rows(out));
                }
                close(&got, &expected, 1e-5);
            }
        }
    }
}
