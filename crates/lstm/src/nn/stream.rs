//! Streams: a network run one step at a time, with its weights packed once and nothing allocated from step to step.

use std::ops::Range;

use lstm_kernels::StepPlan;

use crate::nn::config::ConfigError;
use crate::nn::params::Params;
use crate::nn::precision::Weights;
use crate::nn::stack::{Lstm, StepColumns};
use crate::nn::state::State;

/// B independent streams through an LSTM: each step reads one input a row and gives one output a row. The parameters
/// are those it was made with.
///
/// ```
/// use lstm::nn::config::{Init, LstmConfig};
/// use lstm::nn::params::Params;
/// use lstm::nn::stack::Lstm;
/// use lstm::nn::stream::Stream;
///
/// let lstm = Lstm::new(LstmConfig { layers: 2, ..LstmConfig::new(3, 8) })?;
/// let mut params = Params::zeros(lstm.layout().clone());
/// lstm.initialise(&mut params, &Init::default(), 1);
///
/// let mut stream = Stream::new(&lstm, &params, 1)?;
/// for x in [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]] {
///     stream.input_mut(0).copy_from_slice(&x);
///     stream.step();
///     assert_eq!(stream.output(0).len(), 8);
/// }
/// # Ok::<(), lstm::nn::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    plan: StepPlan,
    columns: StepColumns,
}

impl Stream {
    /// `batch` streams from zero states.
    ///
    /// # Errors
    /// A bidirectional LSTM, which cannot be run step by step.
    pub fn new(lstm: &Lstm, params: &Params, batch: usize) -> Result<Self, ConfigError> {
        Self::with_weights(lstm, params, batch, Weights::F32)
    }

    /// The same with weights of fewer bits.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_weights(lstm: &Lstm, params: &Params, batch: usize, weights: Weights) -> Result<Self, ConfigError> {
        Self::planned(lstm, params, batch, weights, false)
    }

    fn planned(
        lstm: &Lstm,
        params: &Params,
        batch: usize,
        weights: Weights,
        clamps: bool,
    ) -> Result<Self, ConfigError> {
        let mut plan = StepPlan::with_weights(batch, weights.kernel());
        let columns = lstm.plan_step(params.into(), &mut plan, clamps)?;
        let mut stream = Self { plan, columns };
        (0..batch).for_each(|row| stream.free(row));
        Ok(stream)
    }

    /// A stream through a larger network, which appends its own parts behind the stack's output: the results of a row.
    /// clamps: whether hidden states can be clamped.
    pub(crate) fn extended<T>(
        lstm: &Lstm,
        params: &Params,
        batch: usize,
        weights: Weights,
        clamps: bool,
        extend: impl FnOnce(&mut StepPlan, &StepColumns) -> T,
    ) -> Result<(Self, T), ConfigError> {
        let mut stream = Self::planned(lstm, params, batch, weights, clamps)?;
        stream.plan.begin_results();
        let extension = extend(&mut stream.plan, &stream.columns);
        Ok((stream, extension))
    }

    /// B, the number of streams.
    pub fn batch(&self) -> usize {
        self.plan.batch()
    }

    /// As many streams as asked for through the same network, from zero states.
    pub fn with_batch(&self, batch: usize) -> Self {
        let mut stream = Self { plan: self.plan.with_batch(batch), columns: self.columns.clone() };
        (0..batch).for_each(|row| stream.free(row));
        stream
    }

    /// The next input of stream `row`, to write: `[I]`.
    ///
    /// # Panics
    /// When there is no such stream.
    pub fn input_mut(&mut self, row: usize) -> &mut [f32] {
        self.plan.row_mut(self.columns.input, row)
    }

    /// Every stream reads its input.
    pub fn step(&mut self) {
        self.plan.run();
    }

    /// The first `rows` streams read their inputs; the parts behind the stack are run for the `results` of them.
    pub(crate) fn step_rows(&mut self, rows: usize, results: Range<usize>) {
        self.plan.run_rows(rows, results);
    }

    /// The output of stream `row` after its last step: `[output]`, see [`Lstm::output_size`].
    ///
    /// # Panics
    /// When there is no such stream.
    pub fn output(&self, row: usize) -> &[f32] {
        self.plan.row(self.columns.output, row)
    }

    pub(crate) fn plan(&self) -> &StepPlan {
        &self.plan
    }

    /// Copies the states of all streams to `state`, which has as many rows.
    ///
    /// # Panics
    /// When its shape is another one.
    pub fn state(&self, state: &mut State) {
        let batch = self.batch();
        assert_eq!(state.batch(), batch, "the state has a row for every stream");
        for (index, columns) in self.columns.h.iter().zip(&self.columns.c).enumerate() {
            let (h, c) = state.both_mut(index);
            for row in 0..batch {
                for (values, columns) in [(&mut *h, columns.0), (&mut *c, columns.1)] {
                    let source = self.plan.row(*columns, row);
                    values[row * source.len()..][..source.len()].copy_from_slice(source);
                }
            }
        }
    }

    /// Sets the states of all streams.
    ///
    /// # Panics
    /// When the state's shape is another one.
    pub fn set_state(&mut self, state: &State) {
        let batch = self.batch();
        assert_eq!(state.batch(), batch, "the state has a row for every stream");
        for (index, columns) in self.columns.h.iter().zip(&self.columns.c).enumerate() {
            let (h, c) = state.both(index);
            for row in 0..batch {
                for (values, columns) in [(h, columns.0), (c, columns.1)] {
                    let target = self.plan.row_mut(*columns, row);
                    target.copy_from_slice(&values[row * target.len()..][..target.len()]);
                }
            }
        }
    }

    /// Sets the states of stream `row` to zero.
    ///
    /// # Panics
    /// When there is no such stream.
    pub fn reset(&mut self, row: usize) {
        for columns in self.columns.h.iter().chain(&self.columns.c) {
            self.plan.row_mut(*columns, row).fill(0.0);
        }
    }

    /// The activated gates of layer `layer` in stream `row` at its last step: `[K·H]`, i, f, g, o where the cell is plain.
    ///
    /// # Panics
    /// When there is no such layer or stream.
    pub fn gates(&self, layer: usize, row: usize) -> &[f32] {
        self.plan.row(self.columns.gates[layer], row)
    }

    /// The hidden state `[R]` and the cell state `[H]` of layer `layer` in stream `row`.
    ///
    /// # Panics
    /// When there is no such layer or stream.
    pub fn layer_state(&self, layer: usize, row: usize) -> (&[f32], &[f32]) {
        (self.plan.row(self.columns.h[layer], row), self.plan.row(self.columns.c[layer], row))
    }

    /// The number of layers.
    pub fn layers(&self) -> usize {
        self.columns.h.len()
    }

    /// The number of values that [`Self::row_state`] gives.
    pub fn row_size(&self) -> usize {
        self.columns.h.iter().chain(&self.columns.c).map(|columns| columns.width()).sum()
    }

    /// The states of stream `row`, one after the other; as many values for every row.
    ///
    /// # Panics
    /// When there is no such stream.
    pub fn row_state(&self, row: usize) -> Vec<f32> {
        let columns = self.columns.h.iter().chain(&self.columns.c);
        columns.flat_map(|columns| self.plan.row(*columns, row)).copied().collect()
    }

    /// Sets the states of stream `row` to what [`Self::row_state`] gave.
    ///
    /// # Panics
    /// When there is no such stream, or as many values.
    pub fn set_row_state(&mut self, row: usize, mut values: &[f32]) {
        for columns in self.columns.h.iter().chain(&self.columns.c) {
            let target = self.plan.row_mut(*columns, row);
            let (own, rest) = values.split_at(target.len());
            target.copy_from_slice(own);
            values = rest;
        }
        assert!(values.is_empty(), "as many values as a row has states");
    }

    /// Exchanges streams `a` and `b`: their states and their clamps, and nothing that a step writes anew.
    ///
    /// # Panics
    /// When there is no such stream.
    pub fn swap(&mut self, a: usize, b: usize) {
        let StepColumns { h, c, clamps, .. } = &self.columns;
        for columns in h.iter().chain(c).chain(clamps) {
            self.plan.swap_rows(*columns, a, b);
        }
    }

    /// From now on unit `unit` of layer `layer` says `value` in stream `row`, whatever its gates and its cell are; of a
    /// layer that is projected the unit is one of the projection's.
    ///
    /// # Panics
    /// When there is no such unit, layer or stream, or the streams were not made for it.
    pub(crate) fn clamp(&mut self, row: usize, layer: usize, unit: usize, value: f32) {
        self.plan.row_mut(self.columns.clamps[layer], row)[unit] = value;
    }

    /// Nothing in stream `row` is clamped any more.
    pub(crate) fn free(&mut self, row: usize) {
        for columns in &self.columns.clamps {
            self.plan.row_mut(*columns, row).fill(f32::NAN);
        }
    }

    /// Makes the states of stream `row` those of stream `from` of `other`, which runs through the same network.
    ///
    /// # Panics
    /// When there is no such stream.
    pub fn copy_state(&mut self, row: usize, other: &Self, from: usize) {
        let columns = self.columns.h.iter().chain(&self.columns.c);
        for (to, columns) in columns.zip(other.columns.h.iter().chain(&other.columns.c)) {
            self.plan.row_mut(*to, row).copy_from_slice(other.plan.row(*columns, from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::config::{CellOptions, Init, LstmConfig, Readout, Wiring, Zoneout};
    use crate::nn::segment::Segment;
    use crate::rng::{Purpose, Rng};

    #[test]
    fn a_stream_of_layers_that_differ_or_add_their_input_gives_what_a_segment_gives() {
        let base = LstmConfig { layers: 3, scores: 6, ..LstmConfig::new(5, 19) };
        let sizes = LstmConfig { hidden: vec![7, 19, 4].into(), ..base.clone() };
        for wiring in [Wiring::Stacked, Wiring::Skip, Wiring::Scores] {
            check(LstmConfig { wiring, ..sizes.clone() });
            check(LstmConfig { wiring, readout: Readout::OutputGate, ..sizes.clone() });
            check(LstmConfig { wiring, projection: Some(3), ..sizes.clone() });
        }
        for projection in [None, Some(3)] {
            for hidden in [vec![19, 19, 19], vec![7, 7, 4], vec![4, 7, 7]] {
                check(LstmConfig { residual: true, projection, hidden: hidden.into(), ..base.clone() });
            }
        }
    }

    #[test]
    fn a_stream_gives_what_a_segment_gives() {
        for wiring in [Wiring::Stacked, Wiring::Skip, Wiring::Scores] {
            for (readout, projection) in
                [(Readout::Hidden, None), (Readout::Hidden, Some(7)), (Readout::OutputGate, None)]
            {
                check(LstmConfig { layers: 3, wiring, scores: 6, readout, projection, ..LstmConfig::new(5, 19) });
            }
        }
    }

    #[test]
    fn a_stream_of_every_variant_gives_what_a_segment_gives() {
        for bits in 1..16 {
            let variant = CellOptions {
                peepholes: bits & 1 > 0,
                coupled: bits & 2 > 0,
                layer_norm: bits & 4 > 0,
                zoneout: if bits & 8 > 0 { Zoneout { cell: 0.4, hidden: 0.2 } } else { Zoneout::default() },
                ..CellOptions::default()
            };
            let base = LstmConfig { layers: 3, scores: 6, variant, ..LstmConfig::new(5, 19) };
            for wiring in [Wiring::Stacked, Wiring::Skip, Wiring::Scores] {
                check(LstmConfig { wiring, ..base.clone() });
                check(LstmConfig { wiring, readout: Readout::OutputGate, projection: Some(7), ..base.clone() });
            }
            check(LstmConfig { residual: true, hidden: vec![7, 7, 4].into(), ..base });
        }
    }

    #[test]
    fn a_stream_of_exponential_cells_gives_what_a_segment_gives() {
        for (hidden, mogrify) in [(0.0, 0), (0.2, 0), (0.2, 3)] {
            let zoneout = Zoneout { cell: 0.0, hidden };
            let variant = CellOptions { exponential: true, zoneout, mogrify, ..CellOptions::default() };
            let base = LstmConfig { layers: 3, scores: 6, variant, ..LstmConfig::new(5, 19) };
            check(LstmConfig { wiring: Wiring::Skip, ..base.clone() });
            check(LstmConfig { readout: Readout::OutputGate, projection: Some(7), ..base.clone() });
            check(LstmConfig { residual: true, hidden: vec![7, 7, 4].into(), ..base });
        }
    }

    #[test]
    fn a_stream_of_mogrified_cells_gives_what_a_segment_gives() {
        for (mogrify, mogrify_rank) in [(1, None), (5, None), (4, Some(2))] {
            for layer_norm in [false, true] {
                let zoneout = Zoneout { cell: 0.4, hidden: 0.2 };
                let all = CellOptions {
                    peepholes: true,
                    layer_norm,
                    zoneout,
                    mogrify,
                    mogrify_rank,
                    coupled: true,
                    exponential: false,
                };
                for variant in [CellOptions { layer_norm, mogrify, mogrify_rank, ..CellOptions::default() }, all] {
                    let base = LstmConfig { layers: 3, variant, ..LstmConfig::new(5, 19) };
                    for wiring in [Wiring::Stacked, Wiring::Skip] {
                        check(LstmConfig { wiring, ..base.clone() });
                        check(LstmConfig { wiring, readout: Readout::OutputGate, projection: Some(7), ..base.clone() });
                    }
                    check(LstmConfig { residual: true, hidden: vec![7, 7, 4].into(), ..base });
                }
            }
        }
    }

    /// A stream of `config` against whole segments.
    fn check(config: LstmConfig) {
        let (steps, input) = (4, config.input);
        for batch in [1, 3, 5] {
            let lstm = Lstm::new(config.clone()).unwrap();
            let mut params = Params::zeros(lstm.layout().clone());
            lstm.initialise(&mut params, &Init::default(), 1);
            let mut rng = Rng::new(1, Purpose::Init, 7);
            let x: Vec<f32> = (0..steps * batch * input).map(|_| rng.normal()).collect();
            let mut state = lstm.state(batch);
            state.h.iter_mut().chain(&mut state.c).for_each(|value| *value = rng.normal());
            if config.variant.exponential {
                // A normaliser is a sum of exponentials.
                state.c.iter_mut().for_each(|value| *value = 0.1 + value.abs());
            }
            let mut stream = Stream::new(&lstm, &params, batch).unwrap();
            stream.set_state(&state);
            let mut tape = lstm.tape();
            let segment = Segment { steps, batch, lengths: None, packed: None };
            lstm.forward(&params, &x, segment, &mut state, None, &mut tape);
            let mut outputs = Vec::new();
            for x in x.chunks_exact(batch * input) {
                for (row, x) in x.chunks_exact(input).enumerate() {
                    stream.input_mut(row).copy_from_slice(x);
                }
                stream.step();
                (0..batch).for_each(|row| outputs.extend_from_slice(stream.output(row)));
            }
            let mut end = lstm.state(batch);
            stream.state(&mut end);
            let close = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(
                close(&outputs, tape.output()) && close(&end.h, &state.h) && close(&end.c, &state.c),
                "{config:?}, B {batch}"
            );
        }
    }

    #[test]
    fn both_directions_cannot_be_streamed() {
        let lstm = Lstm::new(LstmConfig { bidirectional: true, ..LstmConfig::new(2, 3) }).unwrap();
        let params = Params::zeros(lstm.layout().clone());
        assert!(Stream::new(&lstm, &params, 1).unwrap_err().to_string().contains("whole sequence"));
    }
}
