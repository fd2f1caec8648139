//! Measuring: what this machine does in a second, and how fast it reads a text and trains exactly the model that was chosen.

use std::time::{Duration, Instant};

use lstm_kernels::read_gigabytes_per_second;

use super::facts::TRAINING_PER_EVALUATION;
use super::rules::TOKENS_PER_WEIGHT;
use super::tokens::Sample;
use crate::bench::{Shape, train};
use crate::nn::config::ConfigError;
use crate::nn::precision::Precision;
use crate::run::checkpoint::Progress;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::training::Wire;
use crate::text::TextError;
use crate::text::corpus::Corpus;
use crate::text::tokenizer::{Tokenizer, TokenizerKind};
use crate::train::check::check_memory;
use crate::train::data::Data;
use crate::train::fastest::{PrecisionChoice, seconds_of_each, seconds_to_measure};
use crate::train::language::Language;
use crate::train::pretrained::Pretrained;
use crate::train::ranks::Orders;
use crate::train::step::TrainStep;
use crate::train::task::{Part, Task as _};

/// The values of a gradient that travels to be measured: 4 MiB, a tenth of a second at 1 Gbit/s.
const TRAVELLING: usize = 1 << 20;

/// The speed of a machine, and how many train together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Multiply-adds of a training step.
    pub rate: f64,
    /// The precision of its products at that rate.
    pub precision: Precision,
    /// Multiply-adds of one in f32.
    pub exact_rate: f64,
    /// Bytes read from memory.
    pub bandwidth: f64,
    /// The ranks that share every step; each is taken to be as fast as this one.
    pub ranks: usize,
    /// The seconds that a value of the gradient takes to be added up between them.
    pub travel: f64,
}

impl Machine {
    /// Two fast cores.
    pub(super) const NOMINAL: Self =
        Self { rate: 5e10, exact_rate: 5e10, precision: Precision::F32, bandwidth: 3e10, ranks: 1, travel: 0.0 };

    /// Measures this machine for a run of so many seconds, whose products are in `decided`, or, of `None`, in f32 or in bf16 where steps are
    /// faster in that. What else is at work on it counts: the run will share it, too.
    ///
    /// # Errors
    /// Too little memory to measure.
    pub fn measured(seconds: f64, decided: Option<Precision>) -> Result<Self, ConfigError> {
        // Small, so that a slow machine is not kept long; the model that is chosen is measured itself.
        let shape = Shape { vocabulary: 512, embedding: 128, hidden: 128, layers: 1, segment: 16, batch: 16 };
        // Three passes of two operations each, see the module `bench`.
        let rate_in = |precision| {
            let timing = train(shape, precision, Duration::from_secs_f64(seconds_to_measure(seconds)))?.step;
            Ok::<_, ConfigError>(timing.gflops() * 1e9 / 6.0)
        };
        let exact_rate = rate_in(Precision::F32)?;
        let other = decided.unwrap_or(if Precision::Bf16.has_unit() { Precision::Bf16 } else { Precision::F32 });
        let other_rate = if other == Precision::F32 { exact_rate } else { rate_in(other)? };
        let is_other = decided.is_some() || PrecisionChoice::Measured(other_rate / exact_rate).precision() == other;
        let (precision, rate) = if is_other { (other, other_rate) } else { (Precision::F32, exact_rate) };
        let bandwidth = read_gigabytes_per_second(1 << 24) * 1e9;
        Ok(Self { rate, exact_rate, precision, bandwidth, ..Self::NOMINAL })
    }

    /// The same as one of the ranks that are given `orders`, whose exchange is measured.
    ///
    /// # Errors
    /// A rank that is lost.
    pub(super) fn among(self, orders: Option<&Orders<'_>>, wire: Wire) -> Result<Self, TrainError> {
        let Some(orders) = orders.filter(|orders| orders.count() > 1) else { return Ok(self) };
        Ok(Self { ranks: orders.count(), travel: orders.seconds_per_value(TRAVELLING, wire)?, ..self })
    }

    /// The bytes of text that a run of so many seconds could learn from if it did nothing else.
    pub(super) fn learnable(&self, seconds: f64, bytes_per_token: f64) -> f64 {
        bytes_per_token * (TOKENS_PER_WEIGHT * self.ranks as f64 * self.rate * seconds).sqrt()
    }
}

/// How fast a text becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ReadingSpeed {
    /// The bytes of a token.
    pub(super) bytes_per_token: f64,
    /// The seconds to count a byte for the vocabulary; of subwords those to train them on one.
    pub(super) counting: f64,
    /// The seconds to make ids of a byte.
    pub(super) encoding: f64,
}

impl ReadingSpeed {
    /// Measures it on a sample.
    ///
    /// # Errors
    /// A text or a tokenizer file that cannot be used.
    pub(super) fn measured(
        config: &RunConfig,
        pretrained: Option<&Pretrained>,
        sample: &Sample,
    ) -> Result<Self, TextError> {
        let source = sample.source();
        let started = Instant::now();
        let build = || Tokenizer::build(config.tokenizer, &source, config.vocabulary, config.data.lossy);
        let tokenizer = match (pretrained, &config.data.tokenizer) {
            (Some(pretrained), _) => pretrained.tokenizer(config, build)?,
            (None, Some(path)) => {
                Tokenizer::import(path, false).map_err(|error| TextError::Unusable(error.to_string()))?
            }
            (None, None) => build()?,
        };
        let counted = started.elapsed().as_secs_f64();
        let corpus = Corpus::read(&source, &tokenizer, config.data.lossy)?;
        let all = started.elapsed().as_secs_f64();
        let bytes = sample.bytes().max(1.0);
        Ok(Self {
            bytes_per_token: bytes / corpus.ids.len() as f64,
            counting: counted / bytes,
            encoding: (all - counted) / bytes,
        })
    }

    /// The bytes that can be read in so many seconds.
    pub(super) fn readable(&self, kind: TokenizerKind, seconds: f64) -> f64 {
        // Subwords are trained on a part that is bounded.
        let counting = if kind.is_trained() || kind == TokenizerKind::File { 0.0 } else { self.counting };
        seconds / (counting + self.encoding)
    }
}

/// The seconds that a token takes, of exactly the model and the batches of a run; in training of a step that ranks share, without what
/// travels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Speed {
    /// In a training step that scores candidates; where none does, as the next.
    pub(super) sampled: f64,
    /// In one that scores every token.
    pub(super) whole: f64,
    /// In an evaluation, which is in f32 always.
    pub(super) evaluation: f64,
}

impl Speed {
    /// Takes a few steps in each of these precisions for a run of so many seconds, and keeps nothing of them. Of several `ranks` it takes the
    /// part of them that the busiest has.
    ///
    /// # Errors
    /// A run that cannot be trained.
    pub(super) fn measured(
        config: &RunConfig,
        data: &Data,
        seconds: f64,
        precisions: &[Precision],
        ranks: usize,
    ) -> Result<Vec<Self>, TrainError> {
        let mut config = config.clone();
        let mut share = 1.0;
        if let Some(shards) = config.training.shards.filter(|_| ranks > 1) {
            let (own, rows) = (shards.div_ceil(ranks), config.training.batch);
            config.training.shards = Some(own);
            config.training.batch = (rows * own).div_ceil(shards);
            share = config.training.batch as f64 / rows as f64;
        }
        // To count takes time, and a step none the less or more.
        config.start_uncounted();
        config.fit(data.tokenizer.vocabulary_size(), data.train.ids.len());
        config.validate()?;
        let task = Language::new(config, data)?;
        check_memory(task.settings(), data, task.model())?;
        let mut progress = Progress::new(&task);
        let mut training = TrainStep::new(&task);
        let batches = task.batches(0)?;
        let mut of_steps = |sampling: bool| {
            // Candidates are scored from the start, but never at the end.
            training.adjust(if sampling { 0.0 } else { 1.0 });
            seconds_of_each(&mut training, &mut progress, &batches, precisions, seconds)
        };
        let whole = of_steps(false)?;
        let sampled = if task.samples() { of_steps(true)? } else { whole.clone() };
        drop(training);
        let params = progress.evaluated();
        let part = [Part::Validation, Part::Test].into_iter().find_map(|part| Some((part, task.positions(part)?)));
        let evaluation = match part {
            None => whole[0] / TRAINING_PER_EVALUATION,
            Some((part, of)) => {
                let mut evaluation = task.evaluation(params, part)?;
                let (mut started, mut tokens, mut passes) = (Instant::now(), 0, 0);
                while started.elapsed().as_secs_f64() < seconds_to_measure(seconds) && evaluation.advance() {
                    tokens += evaluation.predicted().count();
                    if passes == 0 && tokens < of {
                        (started, tokens) = (Instant::now(), 0);
                    }
                    passes += 1;
                }
                if tokens > 0 { started.elapsed().as_secs_f64() / tokens as f64 } else { whole[0] }
            }
        };
        let of_each = sampled.into_iter().zip(whole);
        let shared = |(sampled, whole)| Self { sampled: share * sampled, whole: share * whole, evaluation };
        Ok(of_each.map(shared).collect())
    }
}
