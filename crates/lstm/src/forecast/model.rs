//! The model of a forecast: a window's steps → LSTM layers over the context and on over the horizon → a head at every step to come, and
//! beside them a linear map from the context to the horizon.
//!
//! The layers read the horizon too, of which they see the calendar and the known columns, so a step's forecast knows when it is. The
//! linear map is the autoregressive part of LSTNet (Lai 2018): it begins at zero, where the forecast is the window's offset.

use std::sync::Arc;

use lstm_kernels::{Aligned, Matrix, MatrixMut, Start, column_sums, product, product_with_bias};

use super::config::ForecastConfig;
use super::head::{Forecast, Likelihood};
use super::windows::{ForecastBatch, InputLayout};
use crate::free_memory::bytes_of;
use crate::model::Loss;
use crate::nn::config::{ConfigError, Init, LstmConfig};
use crate::nn::dropout::{Dropout, DropoutKind, Masks, OUTPUT, apply};
use crate::nn::params::{Layout, Params, Slot};
use crate::nn::segment::Segment;
use crate::nn::stack::{Lstm, Tape};

/// The model of a forecast. It holds no values.
#[derive(Clone, Debug)]
pub struct ForecastModel {
    layout: Arc<Layout>,
    lstm: Lstm,
    /// `[targets · outputs, R]` and `[targets · outputs]`.
    weight: Slot,
    bias: Slot,
    /// `[targets, H, C]`.
    linear: Option<Slot>,
    likelihood: Likelihood,
    targets: usize,
    context: usize,
    horizon: usize,
    dropout: f32,
}

/// The values that a pass leaves behind.
#[derive(Debug)]
pub struct ForecastTape {
    lstm: Tape,
    /// The outputs of the horizon as the head reads them, `[H, B, R]`, where they are dropped.
    dropped: Aligned,
    mask: Vec<f32>,
    /// `[H, B, targets, outputs]`.
    raw: Vec<f32>,
    d_raw: Vec<f32>,
    /// `[C + H, B, R]`.
    d_output: Aligned,
    /// The linear map's part of one target, `[H, B]`.
    straight: Vec<f32>,
}

impl ForecastModel {
    /// The model of these settings for what the table gives.
    ///
    /// # Errors
    /// Layers that cannot be built, or do not fit the memory.
    pub(crate) fn new(config: &ForecastConfig, input: InputLayout) -> Result<Self, ConfigError> {
        let mut layout = Layout::default();
        let layers = LstmConfig { input: input.width(), ..config.lstm.clone() };
        let lstm = Lstm::in_layout(layers, "lstm.", &mut layout)?;
        let outputs = input.targets * config.likelihood.outputs();
        let weight = layout.add("head.weight", &[outputs, lstm.output_size()]);
        let bias = layout.add("head.bias", &[outputs]);
        let shape = [input.targets, config.horizon, config.context];
        let linear = config.linear.then(|| layout.add("linear.weight", &shape));
        Ok(Self {
            layout: Arc::new(layout),
            lstm,
            weight,
            bias,
            linear,
            likelihood: config.likelihood,
            targets: input.targets,
            context: config.context,
            horizon: config.horizon,
            dropout: config.dropout,
        })
    }

    /// The parameters' names, shapes and places.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The bytes that a tape and a batch of so many rows take.
    pub(crate) fn bytes(&self, rows: usize) -> usize {
        let (steps, width) = (self.context + self.horizon, self.lstm.output_size());
        let own = bytes_of(&[[steps, rows, width], [self.horizon, rows, 2 * self.targets * self.likelihood.outputs()]]);
        self.lstm.bytes(steps, rows, false).saturating_add(own)
    }

    /// Fresh parameters.
    pub fn initialise(&self, init: &Init, seed: u64) -> Params {
        let mut params = Params::zeros(self.layout.clone());
        self.lstm.initialise(&mut params, init, seed);
        // Small, so that a forecast begins near the window's offset.
        params.fill_uniform(self.weight, 0.1 * init.linear_bound(self.lstm.output_size()), seed);
        let outputs = self.likelihood.outputs();
        for (at, bias) in params.get_mut(self.bias).iter_mut().enumerate() {
            *bias = self.likelihood.first_bias(at % outputs) as f32;
        }
        params
    }

    /// A tape for training.
    pub fn tape(&self) -> ForecastTape {
        Self::tape_of(self.lstm.tape())
    }

    /// A tape for parameters that stay as they are.
    pub fn frozen_tape(&self) -> ForecastTape {
        Self::tape_of(self.lstm.frozen_tape())
    }

    fn tape_of(lstm: Tape) -> ForecastTape {
        let (raw, d_raw, straight, mask) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        ForecastTape { lstm, dropped: Aligned::new(), mask, raw, d_raw, d_output: Aligned::new(), straight }
    }

    fn segment(&self, rows: usize) -> Segment<'static> {
        Segment { steps: self.context + self.horizon, batch: rows, lengths: None, packed: None }
    }

    /// The outputs of every position, `[H, B, targets, outputs]`, into the tape.
    fn forward(&self, params: &Params, batch: &ForecastBatch, masks: Option<Masks>, tape: &mut ForecastTape) {
        let rows = batch.rows;
        let dropout = masks.map(|masks| Dropout { kind: DropoutKind::Locked, rate: self.dropout, weights: 0.0, masks });
        let between = dropout.filter(|dropout| dropout.rate > 0.0);
        let segment = self.segment(rows);
        self.lstm.forward(params, &batch.input, segment, &mut self.lstm.state(rows), dropout, &mut tape.lstm);
        let width = self.lstm.output_size();
        let outputs = &tape.lstm.output()[self.context * rows * width..];
        tape.mask.clear();
        if let Some(dropout) = between {
            tape.dropped.resize(outputs.len());
            tape.dropped.copy_from_slice(outputs);
            dropout.apply(OUTPUT, self.horizon, &mut tape.dropped, &mut tape.mask);
        }
        let read: &[f32] = if tape.mask.is_empty() { outputs } else { &tape.dropped };
        let (positions, columns) = (self.horizon * rows, self.targets * self.likelihood.outputs());
        tape.raw.resize(positions * columns, 0.0);
        let weight = Matrix::new(params.get(self.weight), columns, width).transposed();
        let raw = MatrixMut::new(&mut tape.raw, positions, columns);
        product_with_bias(raw, params.get(self.bias), Matrix::new(read, positions, width), weight);
        let Some(linear) = self.linear else { return };
        let (each, location) = (self.horizon * self.context, self.likelihood.location());
        tape.straight.resize(positions, 0.0);
        for target in 0..self.targets {
            let map = Matrix::new(&params.get(linear)[target * each..][..each], self.horizon, self.context);
            let history = &batch.history[target * rows * self.context..][..rows * self.context];
            let straight = MatrixMut::new(&mut tape.straight, self.horizon, rows);
            product(straight, Start::Zero, map, Matrix::new(history, rows, self.context).transposed());
            let at = target * self.likelihood.outputs() + location;
            tape.raw.iter_mut().skip(at).step_by(columns).zip(&tape.straight).for_each(|(raw, part)| *raw += part);
        }
    }

    /// The loss of what the last pass said, and the gradient of its mean by the outputs.
    fn loss(&self, batch: &ForecastBatch, tape: &mut ForecastTape) -> Loss {
        let outputs = self.likelihood.outputs();
        tape.d_raw.clear();
        tape.d_raw.resize(tape.raw.len(), 0.0);
        let mut loss = Loss { nll: 0.0, tokens: batch.target.iter().filter(|value| !value.is_nan()).count() };
        let share = 1.0 / loss.tokens.max(1) as f32;
        let positions = tape.raw.chunks(outputs).zip(tape.d_raw.chunks_mut(outputs));
        for (at, ((raw, d_raw), value)) in positions.zip(&batch.target).enumerate() {
            // What is missing is no error, and has no gradient.
            if value.is_nan() {
                continue;
            }
            let place = batch.places[at % batch.places.len()];
            loss.nll += self.likelihood.loss(raw, place, *value, d_raw);
            d_raw.iter_mut().for_each(|d| *d *= share);
        }
        loss
    }

    /// Forward and backward over a batch: `gradients` receives the gradient of the mean loss.
    pub(crate) fn train_step(
        &self,
        params: &Params,
        batch: &ForecastBatch,
        masks: Masks,
        tape: &mut ForecastTape,
        gradients: &mut Params,
    ) -> Loss {
        self.forward(params, batch, Some(masks), tape);
        let loss = self.loss(batch, tape);
        self.backward(params, batch, tape, gradients);
        loss
    }

    /// The way back after [`Self::loss`].
    fn backward(&self, params: &Params, batch: &ForecastBatch, tape: &mut ForecastTape, gradients: &mut Params) {
        let (rows, width, outputs) = (batch.rows, self.lstm.output_size(), self.likelihood.outputs());
        let (positions, columns, before) = (self.horizon * rows, self.targets * outputs, self.context * rows * width);
        let read: &[f32] = if tape.mask.is_empty() { &tape.lstm.output()[before..] } else { &tape.dropped };
        let d_raw = Matrix::new(&tape.d_raw, positions, columns);
        let d_weight = MatrixMut::new(gradients.get_mut(self.weight), columns, width);
        product(d_weight, Start::Zero, d_raw.transposed(), Matrix::new(read, positions, width));
        column_sums(gradients.get_mut(self.bias), Start::Zero, &tape.d_raw);
        if let Some(linear) = self.linear {
            let (each, location) = (self.horizon * self.context, self.likelihood.location());
            for target in 0..self.targets {
                let at = target * outputs + location;
                tape.straight.clear();
                tape.straight.extend(tape.d_raw.iter().skip(at).step_by(columns));
                let history = &batch.history[target * rows * self.context..][..rows * self.context];
                let d_map = &mut gradients.get_mut(linear)[target * each..][..each];
                product(
                    MatrixMut::new(d_map, self.horizon, self.context),
                    Start::Zero,
                    Matrix::new(&tape.straight, self.horizon, rows),
                    Matrix::new(history, rows, self.context),
                );
            }
        }
        // Nothing is read of the outputs before the horizon.
        tape.d_output.resize(before + positions * width);
        let (nothing, d_read) = tape.d_output.split_at_mut(before);
        nothing.fill(0.0);
        let weight = Matrix::new(params.get(self.weight), columns, width);
        product(MatrixMut::new(d_read, positions, width), Start::Zero, d_raw, weight);
        apply(d_read, &tape.mask);
        let (segment, d_output) = (self.segment(rows), &tape.d_output);
        self.lstm.backward(params, &batch.input, segment, d_output, None, &mut tape.lstm, gradients, Start::Zero);
    }

    /// The loss of a batch, without dropout.
    pub(crate) fn evaluate(&self, params: &Params, batch: &ForecastBatch, tape: &mut ForecastTape) -> Loss {
        self.forward(params, batch, None, tape);
        self.loss(batch, tape)
    }

    /// The forecasts of a batch in the model's units, `[H, B, targets]`.
    pub(crate) fn forecasts(&self, params: &Params, batch: &ForecastBatch, tape: &mut ForecastTape) -> Vec<Forecast> {
        self.forward(params, batch, None, tape);
        let positions = tape.raw.chunks(self.likelihood.outputs()).enumerate();
        positions.map(|(at, raw)| self.likelihood.forecast(raw, batch.places[at % batch.places.len()])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

    const INPUT: InputLayout = InputLayout { targets: 2, known: 3, fixed: 1 };

    fn config(likelihood: Likelihood) -> ForecastConfig {
        let mut config = ForecastConfig::new(Default::default(), 3, 4);
        (config.likelihood, config.dropout) = (likelihood, 0.0);
        config.lstm = LstmConfig { layers: 2, ..LstmConfig::new(INPUT.width(), 5) };
        config
    }

    /// Random windows, some of whose values are missing.
    fn batch(rows: usize) -> ForecastBatch {
        let mut rng = Rng::new(3, Purpose::Init, 0);
        let mut numbers = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.uniform_in(-1.0, 1.0)).collect() };
        let input = numbers(7 * rows * INPUT.width());
        let history = numbers(INPUT.targets * rows * 4);
        let target = numbers(3 * rows * INPUT.targets).into_iter().enumerate();
        let target =
            target.map(|(at, value)| if at % 5 == 2 { f64::NAN } else { (4.0 * f64::from(value)).abs().round() });
        let (target, places) =
            (target.collect(), (0..rows * INPUT.targets).map(|at| [0.1 * at as f64, 0.5 + at as f64]));
        ForecastBatch { rows, input, history, target, places: places.collect() }
    }

    #[test]
    fn gradients_of_every_parameter_are_finite_differences() {
        for likelihood in [Likelihood::Quantiles, Likelihood::Student, Likelihood::NegativeBinomial, Likelihood::Point]
        {
            let config = config(likelihood);
            let model = ForecastModel::new(&config, INPUT).unwrap();
            let (mut params, batch) = (model.initialise(&Init::default(), 1), batch(3));
            let mut rng = Rng::new(4, Purpose::Init, 0);
            params.values_mut().iter_mut().for_each(|value| *value += rng.uniform_in(-0.2, 0.2));
            let mut tape = model.tape();
            let mut gradients = Params::zeros(model.layout().clone());
            // What an earlier pass left must not matter.
            gradients.values_mut().fill(7.0);
            let loss = model.train_step(
                &params,
                &batch,
                Masks { seed: 1, step: 0, shard: 0, share: 1.0 },
                &mut tape,
                &mut gradients,
            );
            assert_eq!(loss.tokens, batch.target.iter().filter(|value| !value.is_nan()).count());
            for entry in model.layout().entries() {
                let range = entry.slot.range();
                for at in [range.start, (range.start + range.end) / 2, range.end - 1] {
                    let mut at_distance = |by: f32| {
                        let mut params = params.clone();
                        params.values_mut()[at] += by;
                        let moved = f64::from(params.values()[at]);
                        (moved, model.evaluate(&params, &batch, &mut tape).mean())
                    };
                    let ((low, before), (high, after)) = (at_distance(-2e-3), at_distance(2e-3));
                    let expected = (after - before) / (high - low);
                    let found = f64::from(gradients.values()[at]);
                    assert!(
                        (found - expected).abs() < 3e-3 * (0.3 + expected.abs()),
                        "{likelihood} {}: {found} and {expected}",
                        entry.name
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_missing_changes_nothing() {
        let config = config(Likelihood::Quantiles);
        let model = ForecastModel::new(&config, INPUT).unwrap();
        let (params, batch) = (model.initialise(&Init::default(), 1), batch(3));
        let (mut tape, mut gradients) = (model.tape(), Params::zeros(model.layout().clone()));
        model.train_step(&params, &batch, Masks { seed: 1, step: 0, shard: 0, share: 1.0 }, &mut tape, &mut gradients);
        // The gradient of a missing position's outputs is zero.
        for (d_raw, value) in tape.d_raw.chunks(LEVELS_OF_A_POSITION).zip(&batch.target) {
            assert_eq!(value.is_nan(), d_raw.iter().all(|d| *d == 0.0));
        }
    }

    const LEVELS_OF_A_POSITION: usize = 11;
}
