//! A forecast as a task of the loop: windows in a random order, and those of the parts that are held out.

use std::path::Path;
use std::sync::Arc;

use super::config::ForecastConfig;
use super::dataset::{Dataset, unusable};
use super::model::{ForecastModel, ForecastTape};
use super::windows::{ForecastBatch, InputLayout, Window};
use crate::formats::FormatError;
use crate::free_memory;
use crate::model::Loss;
use crate::nn::config::{ConfigError, Init};
use crate::nn::dropout::Masks;
use crate::nn::gradients::Gradients;
use crate::nn::params::{Layout, Params};
use crate::nn::state::State;
use crate::rng::{Purpose, Rng};
use crate::run::error::TrainError;
use crate::run::folder::{Claim, Pending};
use crate::run::saved::{ModelCard, Texts};
use crate::run::settings::Settings as _;
use crate::said::count;
use crate::train::shards::Shard;
use crate::train::task::{self, Part, Task};

/// The metadata key of the frame in a model's file.
pub(crate) const FRAME: &str = "frame.json";

/// The most windows of an epoch: a long table's epoch is a part of it, drawn anew each time.
const MOST_OF_EPOCH: usize = 16_384;

/// The fewest batches of an epoch: a short table is read several times in one, so that a validation comes after something was learned.
const LEAST_OF_EPOCH: usize = 20;

/// The most windows on which a model is watched. Windows beside each other are nearly the same.
const MOST_WATCHED: usize = 2_000;

/// A forecast and its table.
#[derive(Debug)]
pub struct Forecasting {
    config: ForecastConfig,
    model: ForecastModel,
    dataset: Arc<Dataset>,
    train: Vec<Window>,
    valid: Vec<Window>,
    test: Vec<Window>,
}

impl Forecasting {
    /// The model of these settings for these series.
    ///
    /// # Errors
    /// Settings that cannot be built, too large a model for the memory, or parts without a single window.
    pub fn new(mut config: ForecastConfig, dataset: Arc<Dataset>) -> Result<Self, TrainError> {
        let layout = InputLayout::of(&dataset);
        config.lstm.input = layout.width();
        config.validate()?;
        let model = ForecastModel::new(&config, layout)?;
        check_memory(&config, &model)?;
        let [train_end, valid_end, test_end] = dataset.cuts;
        let train = dataset.windows(&config, 0, train_end, 1);
        let watched = |from, to| {
            let all = dataset.windows(&config, from, to, 1);
            let stride = all.len().div_ceil(MOST_WATCHED).max(1);
            all.into_iter().step_by(stride).collect::<Vec<_>>()
        };
        let (valid, test) = (watched(train_end, valid_end), watched(valid_end, test_end));
        for (what, windows, is_needed) in
            [("training", &train, true), ("validation", &valid, true), ("test", &test, test_end > valid_end)]
        {
            if windows.is_empty() && is_needed {
                return Err(unusable(format!(
                    "the {what} part has no stretch of {} with values before and in it: too much is missing; give another `split`, or a \
                     shorter `horizon`",
                    count(config.horizon, "step")
                )));
            }
        }
        Ok(Self { config, model, dataset, train, valid, test })
    }

    /// The same, watched on no more than so many windows of the validation part.
    pub(super) fn watched_on(self, most: usize) -> Self {
        let stride = self.valid.len().div_ceil(most).max(1);
        Self { valid: self.valid.into_iter().step_by(stride).collect(), ..self }
    }

    /// The model.
    pub fn model(&self) -> &ForecastModel {
        &self.model
    }

    /// The series.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// The windows that are trained on.
    pub fn windows(&self) -> usize {
        self.train.len()
    }

    fn part(&self, part: Part) -> &[Window] {
        match part {
            Part::Validation => &self.valid,
            Part::Test => &self.test,
        }
    }
}

/// Refuses a model whose parameters, gradients and moments, and what a batch leaves for its way back, do not fit the free memory.
fn check_memory(config: &ForecastConfig, model: &ForecastModel) -> Result<(), ConfigError> {
    let values = free_memory::times(&[model.layout().len(), 6, size_of::<f32>()]);
    let batch = model.bytes(config.training.batch) as u128;
    let what = || {
        let steps = config.context.saturating_add(config.horizon);
        format!("training on {} of {}", count(config.training.batch, "row"), count(steps, "step"))
    };
    free_memory::check_memory(what, free_memory::sum([values, batch]), "`hidden`, `context`, `horizon` or `batch`")
}

/// The windows of an epoch in its order.
#[derive(Debug)]
pub struct ForecastBatches<'a> {
    task: &'a Forecasting,
    order: Vec<u32>,
}

impl ForecastBatches<'_> {
    /// The windows of batch `number`, by their numbers.
    fn chosen(&self, number: usize) -> &[u32] {
        let rows = self.task.config.training.batch;
        &self.order[number * rows..self.order.len().min((number + 1) * rows)]
    }

    fn read(&self, chosen: &[u32], batch: &mut ForecastBatch) {
        let windows: Vec<Window> = chosen.iter().map(|at| self.task.train[*at as usize]).collect();
        batch.fill(&self.task.dataset, &self.task.config, &windows, true);
    }
}

impl task::Batches<ForecastBatch> for ForecastBatches<'_> {
    fn count(&self) -> usize {
        self.order.len().div_ceil(self.task.config.training.batch)
    }

    fn fill(&self, number: usize, batch: &mut ForecastBatch) {
        self.read(self.chosen(number), batch);
    }

    fn cut(&self, number: usize, _whole: &ForecastBatch, shard: Shard, part: &mut ForecastBatch) -> bool {
        let chosen = self.chosen(number);
        let rows = shard.rows(chosen.len());
        self.read(&chosen[rows.clone()], part);
        !rows.is_empty()
    }
}

/// A pass over the windows of a part.
#[derive(Debug)]
pub struct ForecastEvaluation<'a> {
    task: &'a Forecasting,
    params: &'a Params,
    windows: &'a [Window],
    next: usize,
    batch: ForecastBatch,
    tape: ForecastTape,
    last: usize,
    total: Loss,
}

impl task::Evaluation for ForecastEvaluation<'_> {
    fn advance(&mut self) -> bool {
        let rest = &self.windows[self.next..];
        if rest.is_empty() {
            return false;
        }
        let rows = rest.len().min(self.task.config.training.batch.max(64));
        self.batch.fill(&self.task.dataset, &self.task.config, &rest[..rows], true);
        let loss = self.task.model.evaluate(self.params, &self.batch, &mut self.tape);
        self.total.add(loss);
        self.next += rows;
        self.last = loss.tokens;
        true
    }

    fn positions(&self) -> usize {
        self.last
    }

    fn total(&self) -> Loss {
        self.total
    }
}

impl Task for Forecasting {
    type Settings = ForecastConfig;
    type Batch = ForecastBatch;
    type Batches<'a> = ForecastBatches<'a>;
    type Tape = ForecastTape;
    type Evaluation<'a> = ForecastEvaluation<'a>;

    fn settings(&self) -> &ForecastConfig {
        &self.config
    }

    fn settings_mut(&mut self) -> &mut ForecastConfig {
        &mut self.config
    }

    fn layout(&self) -> &Arc<Layout> {
        self.model.layout()
    }

    fn initialise(&self, init: &Init, seed: u64) -> Params {
        self.model.initialise(init, seed)
    }

    fn tape(&self) -> ForecastTape {
        self.model.tape()
    }

    fn train_step(
        &self,
        params: &Params,
        batch: &ForecastBatch,
        _state: &mut State,
        masks: Masks,
        tape: &mut ForecastTape,
        gradients: &mut Gradients,
    ) -> Loss {
        self.model.train_step(params, batch, masks, tape, gradients.params_mut())
    }

    fn fingerprint(&self) -> String {
        self.dataset.fingerprint.clone()
    }

    fn batches(&self, epoch: usize) -> Result<ForecastBatches<'_>, TrainError> {
        let least = LEAST_OF_EPOCH.saturating_mul(self.config.training.batch).min(MOST_OF_EPOCH);
        let mut order = Vec::new();
        for reading in 0..least.div_ceil(self.train.len()).max(1) as u64 {
            let mut once: Vec<u32> = (0..self.train.len() as u32).collect();
            Rng::new(self.config.training.seed, Purpose::Shuffle, (epoch as u64) << 24 | reading).shuffle(&mut once);
            order.append(&mut once);
        }
        order.truncate(MOST_OF_EPOCH);
        Ok(ForecastBatches { task: self, order })
    }

    fn positions(&self, part: Part) -> Option<usize> {
        let windows = self.part(part);
        let of = |window: &Window| {
            let series = &self.dataset.series[window.series];
            let range =
                window.origin * self.dataset.targets..(window.origin + self.config.horizon) * self.dataset.targets;
            series.values[range].iter().filter(|value| !value.is_nan()).count()
        };
        (!windows.is_empty()).then(|| windows.iter().map(of).sum())
    }

    fn evaluation<'a>(&'a self, params: &'a Params, part: Part) -> Result<ForecastEvaluation<'a>, TrainError> {
        Ok(ForecastEvaluation {
            task: self,
            params,
            windows: self.part(part),
            next: 0,
            batch: ForecastBatch::default(),
            tape: self.model.frozen_tape(),
            last: 0,
            total: Loss::default(),
        })
    }

    fn describe(&self, card: &mut ModelCard) {
        card.text = self.fingerprint();
    }

    fn add_files(&self, claim: &Claim, first: &mut Pending) -> Result<(), FormatError> {
        first.add_text(claim, [self.config.columns.table.as_deref(), None, None])
    }

    fn texts(&self, path: &Path) -> Result<Texts, FormatError> {
        let text = serde_json::to_string(&self.dataset.frame).map_err(|e| FormatError::Unusable {
            path: path.to_owned(),
            why: format!("the scalers cannot be described: {e}"),
        })?;
        Ok(Texts::from([(FRAME.to_owned(), text)]))
    }
}
