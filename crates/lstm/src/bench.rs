//! How fast this machine trains and runs a model: what `lstm bench` measures.
//!
//! Floating-point operations are counted as two for every multiply-add of the matrix products, nothing else: a token
//! passes `Σ_l 4H·(I_l + H)` multiply-adds in the layers and `V·H` in the readout going forward, and twice as many
//! going backward (one product for the gradient of the input, one for the gradient of the weights).
//!
//! Weights, inputs and tokens are [`numbered`] values that any other program can make too, so that its losses and
//! norms on the same shape can be laid beside these.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::free_memory::{check_memory, sum, times};
use crate::model::{LanguageModel, LanguageModelConfig};
use crate::nn::config::{ConfigError, LstmConfig, at_least_one};
use crate::nn::params::Params;
use crate::nn::precision::{Precision, Weights};
use crate::nn::segment::Segment;
use crate::nn::stack::Lstm;
use crate::nn::stream::Stream;
use crate::optim::optimizer::{Optimizer, OptimizerKind};
use crate::said::count;
use crate::text::batch::Batch;

use lstm_kernels::Start;
pub use lstm_kernels::read_gigabytes_per_second;

/// The passes before the clock starts: buffers are sized, caches and predictors warm.
const WARM_UP: usize = 4;

/// The fewest rounds a median is taken of, however long they take.
const FEWEST_ROUNDS: usize = 5;

/// The tokens of each stream of [`decode`], read over and over.
const DECODED_TOKENS: usize = 64;

/// The gradient's norm in [`train`] is clipped to it, the preset `small`'s.
const CLIP: f32 = 0.25;

/// The sizes of what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// V, the number of tokens.
    pub vocabulary: usize,
    /// E, the size of a token's embedding: the input of the first layer.
    pub embedding: usize,
    /// H, the hidden size.
    pub hidden: usize,
    /// L, the number of layers.
    pub layers: usize,
    /// T, the steps of a segment.
    pub segment: usize,
    /// B, the rows of a batch: independent streams.
    pub batch: usize,
}

impl Shape {
    /// Multiply-adds of one token in the layers, forward.
    fn stack_products(&self) -> f64 {
        let layer = |input: usize| 4.0 * self.hidden as f64 * (input as f64 + self.hidden as f64);
        layer(self.embedding) + (self.layers as f64 - 1.0) * layer(self.hidden)
    }

    /// Multiply-adds of one token in the readout, forward.
    fn readout_products(&self) -> f64 {
        self.vocabulary as f64 * self.hidden as f64
    }

    /// The bytes of the layers' weights, all of which a pass must read.
    pub fn stack_bytes(&self, weights: Weights) -> usize {
        weights.bytes() * self.stack_products() as usize
    }

    /// The same with the readout.
    pub fn model_bytes(&self, weights: Weights) -> usize {
        self.stack_bytes(weights) + weights.bytes() * self.readout_products() as usize
    }

    /// The values of the layers' parameters.
    fn stack_parameters(&self) -> usize {
        let gates = self.hidden.saturating_mul(4);
        let layer = |input: usize| input.saturating_add(self.hidden).saturating_add(2).saturating_mul(gates);
        layer(self.embedding).saturating_add(self.layers.saturating_sub(1).saturating_mul(layer(self.hidden)))
    }

    /// The values of all parameters of a model.
    fn model_parameters(&self) -> usize {
        let token = self.embedding.saturating_add(self.hidden).saturating_add(1);
        token.saturating_mul(self.vocabulary).saturating_add(self.stack_parameters())
    }

    /// Roughly the values a pass over `rows` keeps: gates, states and their gradients of every layer, the input and
    /// its gradient.
    fn kept(&self, rows: usize) -> usize {
        let row = self.layers.saturating_mul(self.hidden).saturating_mul(12);
        row.saturating_add(self.embedding.saturating_mul(3)).saturating_mul(rows)
    }

    /// Refuses sizes of zero, and sizes that need room for more values than fit the memory that is free.
    fn check(&self, values: usize) -> Result<(), ConfigError> {
        at_least_one("vocab", self.vocabulary)?;
        // Before the embedding size, which is the hidden size unless it is given.
        at_least_one("hidden", self.hidden)?;
        at_least_one("embedding", self.embedding)?;
        at_least_one("layers", self.layers)?;
        at_least_one("segment", self.segment)?;
        at_least_one("batch", self.batch)?;
        if u32::try_from(self.vocabulary).is_err() {
            let value = self.vocabulary.to_string();
            return Err(ConfigError::Range { name: "vocab", value, expected: "at most 4294967295" });
        }
        // The names and buffers of a layer take some 4 KiB, however small it is.
        let needed = sum([times(&[values, 4]), times(&[self.layers, 4096])]);
        let smaller = "`hidden`, `layers`, `vocab`, `batch` or `segment`";
        check_memory(|| format!("a model of {} of {}", count(self.layers, "layer"), self.hidden), needed, smaller)
    }

    fn model(&self) -> Result<(LanguageModel, Params), ConfigError> {
        let model = LanguageModel::new(LanguageModelConfig::of(
            self.vocabulary,
            LstmConfig { layers: self.layers, ..LstmConfig::new(self.embedding, self.hidden) },
        ))?;
        let params = self.parameters(Params::zeros(Arc::clone(model.layout())));
        Ok((model, params))
    }

    fn stack(&self) -> Result<(Lstm, Params), ConfigError> {
        let lstm = Lstm::new(LstmConfig { layers: self.layers, ..LstmConfig::new(self.embedding, self.hidden) })?;
        let params = self.parameters(Params::zeros(Arc::clone(lstm.layout())));
        Ok((lstm, params))
    }

    /// Every parameter uniform within ±1/√H, in the order of the layout.
    fn parameters(&self, mut params: Params) -> Params {
        let bound = 1.0 / (self.hidden as f32).sqrt();
        params.values_mut().iter_mut().zip(0..).for_each(|(value, i)| *value = bound * numbered(Numbers::Weights, i));
        params
    }

    /// `count` tokens.
    fn tokens(&self, count: usize) -> Vec<u32> {
        let token = |i| (((bits(Numbers::Tokens, i) >> 32) * self.vocabulary as u64) >> 32) as u32;
        (0..count as u64).map(token).collect()
    }
}

/// What a row of numbered values is for.
#[derive(Clone, Copy, Debug)]
pub enum Numbers {
    /// Parameters.
    Weights = 0,
    /// Tokens.
    Tokens = 1,
    /// The input of the layers alone.
    Input = 2,
    /// The gradient of their output.
    OutputGradient = 3,
}

/// Value `index` of a row of numbers, uniform in `[−1, 1)`: SplitMix64 (Steele et al. 2014) of the row and the index.
pub fn numbered(row: Numbers, index: u64) -> f32 {
    (bits(row, index) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn bits(row: Numbers, index: u64) -> u64 {
    let mut z = (((row as u64) << 40) + index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// How long one pass takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// The median, in milliseconds.
    pub milliseconds: f64,
    /// The passes it is the median of.
    pub rounds: usize,
    /// The tokens of a pass.
    pub tokens: usize,
    /// The floating-point operations of a pass, as the module's first lines count them.
    pub operations: f64,
}

impl Timing {
    /// Tokens a second.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.milliseconds * 1e3
    }

    /// GFLOP/s.
    pub fn gflops(&self) -> f64 {
        self.operations / self.milliseconds * 1e-6
    }

    /// Times `pass` for `budget` or [`FEWEST_ROUNDS`], whichever is longer.
    fn of(tokens: usize, operations: f64, budget: Duration, mut pass: impl FnMut()) -> Self {
        let mut taken = Vec::new();
        let started = Instant::now();
        while taken.len() < FEWEST_ROUNDS || started.elapsed() < budget {
            let start = Instant::now();
            pass();
            taken.push(start.elapsed());
        }
        let rounds = taken.len();
        let median = *taken.select_nth_unstable(rounds / 2).1;
        Self { milliseconds: median.as_secs_f64() * 1e3, rounds, tokens, operations }
    }
}

/// A training step measured.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainTiming {
    /// The whole step: forward, backward, clipping, SGD.
    pub step: Timing,
    /// The mean losses of the first steps, in nats.
    pub losses: Vec<f64>,
}

/// Times the training step of a language model that predicts after every token.
///
/// # Errors
/// Sizes that cannot be built or do not fit the memory.
pub fn train(shape: Shape, precision: Precision, budget: Duration) -> Result<TrainTiming, ConfigError> {
    let tokens = shape.segment.saturating_mul(shape.batch);
    shape.check(shape.model_parameters().saturating_mul(2).saturating_add(shape.kept(tokens)))?;
    let (model, mut params) = shape.model()?;
    let mut gradients = model.gradients();
    let mut optimizer = Optimizer::new(OptimizerKind::Sgd, 0.0, params.values().len());
    let (mut state, mut tape) = (model.state(shape.batch), model.tape());
    let read = shape.tokens(tokens + shape.batch);
    let batch = Batch {
        steps: shape.segment,
        batch: shape.batch,
        tokens: read[..tokens].to_vec(),
        targets: read[shape.batch..].to_vec(),
        lengths: None,
        fresh: false,
        ..Batch::default()
    };
    let mut step = || {
        let loss = precision.within(|| model.train_step(&params, &batch, &mut state, None, &mut tape, &mut gradients));
        optimizer.step_within(params.values_mut(), gradients.values(), gradients.ranges(), 1.0, Some(CLIP));
        loss.mean()
    };
    let losses = (0..WARM_UP).map(|_| step()).collect();
    let operations = 6.0 * tokens as f64 * (shape.stack_products() + shape.readout_products());
    let step = Timing::of(tokens, operations, budget, || {
        step();
    });
    Ok(TrainTiming { step, losses })
}

/// The layers alone measured.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTiming {
    /// Forward and backward, the gradient of the input included.
    pub both: Timing,
    /// Forward alone, as for inference.
    pub forward: Timing,
    /// The L2 norm of the outputs of the first pass.
    pub output_norm: f64,
    /// The L2 norm of the parameters' gradients of the first pass.
    pub gradient_norm: f64,
}

/// Times the layers over a segment, without embedding and readout. Each pass starts from zero states.
///
/// # Errors
/// Sizes that cannot be built or do not fit the memory.
pub fn layer(shape: Shape, precision: Precision, budget: Duration) -> Result<LayerTiming, ConfigError> {
    let tokens = shape.segment.saturating_mul(shape.batch);
    shape.check(shape.stack_parameters().saturating_mul(2).saturating_add(shape.kept(tokens)))?;
    let (lstm, params) = shape.stack()?;
    let mut gradients = Params::zeros(Arc::clone(lstm.layout()));
    let input: Vec<f32> = (0..(tokens * shape.embedding) as u64).map(|i| numbered(Numbers::Input, i)).collect();
    let d_output: Vec<f32> =
        (0..(tokens * shape.hidden) as u64).map(|i| numbered(Numbers::OutputGradient, i)).collect();
    let segment = Segment { steps: shape.segment, batch: shape.batch, lengths: None, packed: None };
    let operations = tokens as f64 * shape.stack_products();

    let (mut state, mut tape) = (lstm.state(shape.batch), lstm.tape());
    let mut both = || {
        state.reset();
        precision.within(|| {
            lstm.forward(&params, &input, segment, &mut state, None, &mut tape);
            lstm.backward(&params, &input, segment, &d_output, None, &mut tape, &mut gradients, Start::Zero);
        });
    };
    for _ in 0..WARM_UP {
        both();
    }
    let both = Timing::of(tokens, 6.0 * operations, budget, both);
    let (output_norm, gradient_norm) = (norm(tape.output()), norm(gradients.values()));

    let mut tape = lstm.frozen_tape();
    let mut forward = || {
        state.reset();
        precision.within(|| lstm.forward(&params, &input, segment, &mut state, None, &mut tape));
    };
    for _ in 0..WARM_UP {
        forward();
    }
    let forward = Timing::of(tokens, 2.0 * operations, budget, forward);
    Ok(LayerTiming { both, forward, output_norm, gradient_norm })
}

/// One token at a time measured.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeTiming {
    /// A token of every stream through the whole model, the scores of what comes next included.
    pub model: Timing,
    /// The same through the layers alone.
    pub stack: Timing,
    /// The L2 norm of the scores after the first four tokens.
    pub score_norm: f64,
}

/// Times a model that reads `batch` independent streams one token at a time.
///
/// # Errors
/// Sizes that cannot be built or do not fit the memory.
pub fn decode(shape: Shape, weights: Weights, budget: Duration) -> Result<DecodeTiming, ConfigError> {
    let scores = shape.batch.saturating_mul(shape.vocabulary);
    let packed = shape.stack_parameters();
    let kept = shape.kept(shape.batch.saturating_mul(DECODED_TOKENS));
    shape.check([shape.model_parameters(), packed, kept, scores].into_iter().fold(0, usize::saturating_add))?;
    let batch = shape.batch;
    let (stack_products, readout_products) = (shape.stack_products(), shape.readout_products());

    let tokens = shape.tokens(DECODED_TOKENS * batch);
    let (trained, params) = shape.model()?;
    let mut stream = trained.stream_with(&params, batch, weights)?;
    let mut turns = tokens.chunks_exact(batch).cycle();
    let mut next = || norm(stream.step(turns.next().unwrap_or(&[])));
    let score_norm = (0..WARM_UP).fold(0.0, |_, _| next());
    let mut turns = tokens.chunks_exact(batch).cycle();
    let operations = 2.0 * batch as f64 * (stack_products + readout_products);
    let model = Timing::of(batch, operations, budget, || {
        stream.step(turns.next().unwrap_or(&[]));
    });
    drop(stream);

    let (lstm, params) = shape.stack()?;
    let mut stream = Stream::with_weights(&lstm, &params, batch, weights)?;
    let width = batch * shape.embedding;
    let input: Vec<f32> = (0..(DECODED_TOKENS * width) as u64).map(|i| numbered(Numbers::Input, i)).collect();
    let mut turns = input.chunks_exact(width).cycle();
    let mut pass = || {
        let input = turns.next().unwrap_or(&[]);
        for (row, input) in input.chunks_exact(shape.embedding).enumerate() {
            stream.input_mut(row).copy_from_slice(input);
        }
        stream.step();
    };
    for _ in 0..WARM_UP {
        pass();
    }
    let stack = Timing::of(batch, 2.0 * batch as f64 * stack_products, budget, pass);
    Ok(DecodeTiming { model, stack, score_norm })
}

fn norm(values: &[f32]) -> f64 {
    let all = 0..values.len();
    lstm_kernels::sum_of_squares(values, std::slice::from_ref(&all)).sqrt()
}

/// The most memory this process held since it started or since [`restart_peak_rss`], where the system tells.
pub fn peak_rss_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Makes [`peak_rss_bytes`] start again from what the process holds now, where the system can.
pub fn restart_peak_rss() {
    let control = Path::new("/proc/self/clear_refs");
    // A system without it keeps the peak of the whole process, which is the peak of a single measurement.
    let _ = std::fs::write(control, "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { vocabulary: 11, embedding: 3, hidden: 5, layers: 3, segment: 4, batch: 2 };

    #[test]
    fn sizes_are_counted_as_the_model_has_them() {
        let (model, params) = SHAPE.model().unwrap();
        assert_eq!(SHAPE.model_parameters(), model.layout().len());
        assert_eq!(SHAPE.stack_parameters(), SHAPE.stack().unwrap().1.values().len());
        let matrices: usize = model.layout().entries().iter().filter(|e| e.name.contains(".weight_")).map(size).sum();
        assert_eq!(SHAPE.stack_products(), matrices as f64);
        assert_eq!(SHAPE.readout_products(), 55.0);
        let bound = 1.0 / 5f32.sqrt();
        assert!(params.values().iter().all(|value| value.abs() <= bound));
    }

    fn size(entry: &crate::nn::params::Entry) -> usize {
        entry.shape.iter().product()
    }

    /// Other programs make the same values (`bench/measuring.py`, `bench/peers`): made by the formula in Python.
    #[test]
    fn numbered_values_never_change() {
        let values = [0, 1, 2, 1 << 33].map(|i| numbered(Numbers::Weights, i));
        assert_eq!(values, [0.7666216, -0.13694406, -0.94713247, 0.49056613]);
    }

    #[test]
    fn a_measured_training_learns_and_counts() {
        let timing = train(SHAPE, Precision::F32, Duration::ZERO).unwrap();
        assert_eq!((timing.losses.len(), timing.step.rounds, timing.step.tokens), (WARM_UP, FEWEST_ROUNDS, 8));
        assert!(timing.losses[WARM_UP - 1] < timing.losses[0]);
        assert_eq!(timing.step.operations, 6.0 * 8.0 * (4.0 * 5.0 * (3.0 + 5.0 + 2.0 * 10.0) + 55.0));
        assert!(timing.step.tokens_per_second() > 0.0 && timing.step.gflops() > 0.0);
    }

    #[test]
    fn the_layers_and_single_tokens_compute_something() {
        let layers = layer(SHAPE, Precision::F32, Duration::ZERO).unwrap();
        assert!(layers.output_norm > 0.0 && layers.gradient_norm > 0.0);
        assert_eq!(layers.both.operations, 3.0 * layers.forward.operations);
        let decoded = decode(SHAPE, Weights::F32, Duration::ZERO).unwrap();
        assert!(decoded.score_norm > 0.0);
        assert_eq!(decoded.model.operations - decoded.stack.operations, 2.0 * 2.0 * 55.0);
    }

    #[test]
    fn sizes_that_cannot_be_are_sentences() {
        let said = |shape: Shape| train(shape, Precision::F32, Duration::ZERO).unwrap_err().to_string();
        assert!(said(Shape { hidden: 0, ..SHAPE }).contains("`hidden` is 0"));
        assert!(said(Shape { layers: 0, ..SHAPE }).contains("`layers` is 0"));
        for huge in [1 << 40, usize::MAX] {
            for shape in [
                Shape { hidden: huge, ..SHAPE },
                Shape { layers: huge, ..SHAPE },
                Shape { embedding: huge, ..SHAPE },
                Shape { segment: huge, ..SHAPE },
                Shape { batch: huge, ..SHAPE },
            ] {
                assert!(said(shape).contains("are free"));
                assert!(layer(shape, Precision::F32, Duration::ZERO).is_err());
            }
            assert!(said(Shape { vocabulary: huge, ..SHAPE }).contains("`vocab`"));
            assert!(decode(Shape { batch: huge, ..SHAPE }, Weights::F32, Duration::ZERO).is_err());
        }
    }
}
