//! The experiment that the project grew from, as one call: the choices of the report that built its LSTM by hand (what is read out, how
//! biases begin, how layers are joined, how far the gradient goes, how many layers there are), each beside the standard one, over several
//! seeds, in so much time.
//!
//! Every trial reads the same text, in the report's own task: five tokens of a sentence, and the next is to be predicted. All take the
//! same number of steps, as many as fit the time.

mod page;

use std::time::Instant;

use serde::Serialize;

use crate::evaluate::Evaluation;
use crate::nn::config::{InitScheme, Readout, Wiring};
use crate::run::checkpoint::Progress;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::preset::Preset;
use crate::said::{self, count};
use crate::text::corpus::Corpus;
use crate::train::data::Data;
use crate::train::gates::{LayerGates, is_due};
use crate::train::language::Language;
use crate::train::step::TrainStep;
use crate::train::task::{Part, Task as _};

pub use page::page;

/// A trial: a model among those that are compared.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Its name on the page.
    pub name: &'static str,
    /// What is read out: the hidden state, or the report's output gate.
    pub readout: Readout,
    /// How parameters begin: as PyTorch's, or with the report's biases of one.
    pub init: InitScheme,
    /// The steps after which the gradient is cut; none for the whole window.
    pub horizon: Option<usize>,
    /// The layers, and how they are joined.
    pub layers: usize,
    /// See `layers`.
    pub wiring: Wiring,
}

impl Trial {
    const STANDARD: Self = Self {
        name: "standard",
        readout: Readout::Hidden,
        init: InitScheme::Torch,
        horizon: None,
        layers: 1,
        wiring: Wiring::Stacked,
    };

    /// All trials, the standard one first.
    pub fn all() -> [Self; 9] {
        let standard = Self::STANDARD;
        [
            standard.clone(),
            Self { name: "output gate read out", readout: Readout::OutputGate, ..standard.clone() },
            Self { name: "biases of one", init: InitScheme::OnesBias, ..standard.clone() },
            Self {
                name: "the report's: both",
                readout: Readout::OutputGate,
                init: InitScheme::OnesBias,
                ..standard.clone()
            },
            Self { name: "gradient cut at every step", horizon: Some(1), ..standard.clone() },
            Self { name: "two layers, stacked", layers: 2, ..standard.clone() },
            Self { name: "two layers, skip", layers: 2, wiring: Wiring::Skip, ..standard.clone() },
            Self { name: "two layers, scores", layers: 2, wiring: Wiring::Scores, ..standard.clone() },
            Self {
                name: "the report's in two layers: scores and ones",
                layers: 2,
                wiring: Wiring::Scores,
                readout: Readout::OutputGate,
                init: InitScheme::OnesBias,
                ..standard
            },
        ]
    }

    fn over(&self, base: &RunConfig, seed: u64) -> RunConfig {
        let mut config = base.clone();
        (config.training.seed, config.training.init.scheme) = (seed, self.init);
        let lstm = &mut config.model.lstm;
        (lstm.readout, lstm.horizon, lstm.layers, lstm.wiring) = (self.readout, self.horizon, self.layers, self.wiring);
        config
    }
}

/// What to try, and how long.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The text: a file or a folder; `None` for the built-in language.
    pub text: Option<std::path::PathBuf>,
    /// The seconds that all trials take together.
    pub budget: f64,
    /// The steps of each run, instead of as many as fit the time.
    pub steps: Option<u64>,
    /// The seeds of each.
    pub seeds: usize,
}

/// A run of a trial.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// The validation perplexity after so many steps.
    pub valid: Vec<(u64, f64)>,
    /// The gates after so many steps.
    pub gates: Vec<(u64, Vec<LayerGates>)>,
}

/// A trial with its runs.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// The trial.
    pub trial: Trial,
    /// Its parameters.
    pub parameters: usize,
    /// Its runs, one a seed.
    pub runs: Vec<Run>,
}

impl Tried {
    /// The last validation perplexity of each seed.
    pub fn ends(&self) -> Vec<f64> {
        self.runs.iter().filter_map(|run| Some(run.valid.last()?.1)).collect()
    }

    /// Their geometric mean, the lowest and the highest.
    pub fn end(&self) -> (f64, f64, f64) {
        let ends = self.ends();
        let mean = (ends.iter().map(|value| value.ln()).sum::<f64>() / ends.len().max(1) as f64).exp();
        let (low, high) =
            ends.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
        (mean, low, high)
    }
}

/// The result of the experiment.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// The text's name.
    pub text: String,
    /// V, and the tokens that were trained on.
    pub vocabulary: usize,
    /// See `vocabulary`.
    pub tokens: usize,
    /// The steps of every run, and the windows of each.
    pub steps: u64,
    /// See `steps`.
    pub batch: usize,
    /// The sizes of embedding and hidden state.
    pub sizes: (usize, usize),
    /// The seconds that all took.
    pub seconds: f64,
    /// The perplexity of counting single tokens, which no model should stay above.
    pub counted: f64,
    /// The trials.
    pub tried: Vec<Tried>,
}

/// The fewest and the most steps of a run: beneath nothing can be seen, above five epochs of the report's text nothing changes.
const STEPS: std::ops::RangeInclusive<u64> = 60..=20_000;

/// The parts of a run after which it is validated.
const VALIDATED: [f64; 6] = [0.06, 0.12, 0.25, 0.5, 0.75, 1.0];

/// The windows that a validation reads at most, from the beginning of the text.
const MOST_VALIDATED: usize = 6_000;

/// Steps by which a trial's time is measured, after two that touch the memory.
const MEASURED: usize = 4;

/// Runs the experiment. `watch` is told what is being done, and the share of the runs that is done.
///
/// # Errors
/// A text that cannot be used, or too little time for a run of every trial.
pub fn experiment(wanted: &Experiment, watch: &mut dyn FnMut(&str, f64)) -> Result<Results, TrainError> {
    let started = Instant::now();
    if wanted.seeds == 0 {
        return Err(TrainError::Unusable("`seeds` is 0; it must be at least 1".to_owned()));
    }
    let mut base = Preset::TextLstm.config();
    let text = wanted.text.as_deref().map(std::path::absolute).transpose();
    base.data.train = text.map_err(|error| TrainError::Unusable(format!("the text cannot be found: {error}")))?;
    if base.data.train.is_none() {
        // Three hundred words need no more, and a teacher has no hour.
        (base.model.lstm.input, base.model.lstm.hidden, base.vocabulary.min_count) = (64, 64.into(), Some(1));
        base.training.schedule.learning_rate = 2e-3;
    }
    watch("reading the text", 0.0);
    let data = Data::read(&base, None)?;
    base.fit(data.tokenizer.vocabulary_size(), data.train.ids.len());
    let valid = data.valid.as_ref().or(data.test.as_ref());
    let valid =
        valid.ok_or_else(|| TrainError::Unusable("there is no text to validate on; give a longer one".to_owned()))?;
    let trials = Trial::all();
    let steps = match wanted.steps {
        Some(0) => return Err(TrainError::Unusable("`steps` is 0; it must be at least 1".to_owned())),
        Some(steps) => steps.min(*STEPS.end()),
        None => {
            watch("measuring how fast each model is", 0.0);
            steps_within(wanted, &trials, &base, &data, started)?
        }
    };
    let seeds = wanted.seeds as f64;
    let mut tried: Vec<Tried> = Vec::new();
    let all = (trials.len() * wanted.seeds) as f64;
    for (number, trial) in trials.iter().enumerate() {
        let mut runs = Vec::new();
        let mut parameters = 0;
        for seed in 1..=wanted.seeds as u64 {
            watch(trial.name, (number as f64 * seeds + (seed - 1) as f64) / all);
            let (count, found) = run(trial.over(&base, seed), &data, steps)?;
            parameters = count;
            runs.push(found);
        }
        tried.push(Tried { trial: trial.clone(), parameters, runs });
    }
    Ok(Results {
        text: base.data.train.as_ref().map_or("the built-in language".to_owned(), |path| path.display().to_string()),
        vocabulary: base.model.vocabulary,
        tokens: data.train.ids.len(),
        steps,
        batch: base.training.batch,
        sizes: (base.model.embedding(), base.model.lstm.hidden.of(0)),
        seconds: started.elapsed().as_secs_f64(),
        counted: counted(&data, valid),
        tried,
    })
}

/// The steps of each run that fit the time.
fn steps_within(
    wanted: &Experiment,
    trials: &[Trial],
    base: &RunConfig,
    data: &Data,
    started: Instant,
) -> Result<u64, TrainError> {
    let (mut a_step, mut validations) = (0.0, 0.0);
    for trial in trials {
        let (step, validation) = cost(trial.over(base, 1), data)?;
        a_step += step;
        validations += validation * VALIDATED.len() as f64;
    }
    let seeds = wanted.seeds as f64;
    let left = wanted.budget - started.elapsed().as_secs_f64() - validations * seeds;
    let steps = (left / (a_step * seeds)) as u64;
    if left <= 0.0 || steps < *STEPS.start() {
        let needed = started.elapsed().as_secs_f64() + seeds * (validations + a_step * *STEPS.start() as f64);
        return Err(TrainError::Unusable(format!(
            "`budget` is {}, but {} with {} need at least {:.0} s on this machine; give more, or fewer `seeds`",
            said::seconds(wanted.budget),
            count(trials.len(), "model"),
            count(wanted.seeds as u64, "seed"),
            1.2 * needed
        )));
    }
    Ok(steps.min(*STEPS.end()))
}

/// The seconds of a step of a model, and of its validation.
fn cost(config: RunConfig, data: &Data) -> Result<(f64, f64), TrainError> {
    let task = Language::new(config, data)?;
    let (batches, rate) = (task.batches(0)?, task.settings().training.schedule.learning_rate);
    let mut progress = Progress::new(&task);
    let mut step = TrainStep::new(&task);
    let mut take = |count: usize, progress: &mut Progress| {
        let before = Instant::now();
        for _ in 0..count {
            progress.position.batch %= batches.len();
            step.take(progress, &batches, rate)?;
        }
        Ok::<_, TrainError>(before.elapsed().as_secs_f64() / count as f64)
    };
    take(2, &mut progress)?;
    let seconds = take(MEASURED, &mut progress)?;
    let before = Instant::now();
    let mut evaluation = task.evaluation(&progress.params, part(data))?;
    // A part of it says how long the whole takes.
    for _ in 0..MEASURED {
        if !evaluation.advance() {
            break;
        }
    }
    let all = evaluation.tokens().clamp(1, MOST_VALIDATED);
    let share = evaluation.total().tokens as f64 / all as f64;
    Ok((seconds, before.elapsed().as_secs_f64() / share.clamp(1e-3, 1.0)))
}

/// What is validated on: the text for it, or that for the test.
fn part(data: &Data) -> Part {
    if data.valid.is_some() { Part::Validation } else { Part::Test }
}

/// One run: so many steps, validated on the way. Gives its parameters' number, too.
fn run(config: RunConfig, data: &Data, steps: u64) -> Result<(usize, Run), TrainError> {
    let (seed, rate) = (config.training.seed, config.training.schedule.learning_rate);
    let task = Language::new(config, data)?;
    let mut progress = Progress::new(&task);
    let mut step = TrainStep::new(&task);
    let mut found = Run { seed, valid: Vec::new(), gates: Vec::new() };
    let stops: Vec<u64> = VALIDATED.iter().map(|share| ((share * steps as f64) as u64).max(1)).collect();
    let mut batches = task.batches(0)?;
    while progress.position.step < steps {
        if progress.position.batch >= batches.len() {
            progress.position.begin_epoch();
            batches = task.batches(progress.position.epoch)?;
        }
        if is_due(progress.position.step) {
            found.gates.push((progress.position.step, step.gates(&progress, &batches)));
        }
        let result = step.take(&mut progress, &batches, rate)?;
        if !result.loss.nll.is_finite() || !result.norm.is_finite() {
            let (what, step) = ("the loss of step", progress.position.step);
            return Err(TrainError::NotFinite { what, step, last: None, saved: None });
        }
        if stops.contains(&progress.position.step) {
            let evaluation = task.evaluation(&progress.params, part(data))?;
            found.valid.push((progress.position.step, validated(evaluation)));
        }
    }
    progress.position.batch = progress.position.batch.min(batches.len() - 1);
    found.gates.push((progress.position.step, step.gates(&progress, &batches)));
    Ok((task.layout().len(), found))
}

/// The perplexity of the first windows of a text, or of all.
fn validated(mut evaluation: Evaluation) -> f64 {
    while evaluation.total().tokens < MOST_VALIDATED && evaluation.advance() {}
    evaluation.total().perplexity()
}

/// The perplexity of the tokens by how often each is in the training text, with one added to every count.
fn counted(data: &Data, valid: &Corpus) -> f64 {
    let counts = data.train.counts(&data.tokenizer);
    let all = counts.iter().sum::<u64>() as f64 + counts.len() as f64;
    let nats = |id: u32| -((counts[id as usize] as f64 + 1.0) / all).ln();
    let sum: f64 = (0..valid.ids.len()).map(|at| nats(valid.ids.get(at))).sum();
    (sum / valid.ids.len().max(1) as f64).exp()
}
