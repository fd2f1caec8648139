//! A model that is no language model, through the same loop: the next value of a wave, by an LSTM and a linear head. It trains, is
//! validated and saved, and goes on after a stop with the same bits.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lstm::formats::FormatError;
use lstm::formats::safetensors::read;
use lstm::model::Loss;
use lstm::nn::config::{Init, LstmConfig};
use lstm::nn::dropout::Masks;
use lstm::nn::gradients::Gradients;
use lstm::nn::params::{Layout, Params, Slot};
use lstm::nn::segment::Segment;
use lstm::nn::stack::{Lstm, Tape};
use lstm::nn::state::State;
use lstm::optim::schedule::ScheduleKind;
use lstm::rng::{Purpose, Rng};
use lstm::run::error::TrainError;
use lstm::run::folder::{Claim, Existing};
use lstm::run::preset::Preset;
use lstm::run::saved::{ModelCard, Texts};
use lstm::run::settings::Settings;
use lstm::run::training::Training;
use lstm::train::event::{End, Event, Outcome};
use lstm::train::shards::Shard;
use lstm::train::task::{Batches, Evaluation, Part, Task};
use lstm::train::trainer::Trainer;
use lstm::train::trainer::start::Stopped;
use serde::{Deserialize, Serialize};

/// T and B.
const STEPS: usize = 12;
const ROWS: usize = 4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WaveConfig {
    period: f32,
    training: Training,
    lstm: LstmConfig,
}

impl Settings for WaveConfig {
    fn training(&self) -> &Training {
        &self.training
    }

    fn training_mut(&mut self) -> &mut Training {
        &mut self.training
    }
}

/// The model and its data, which are all computed.
struct Wave {
    config: WaveConfig,
    layout: Arc<Layout>,
    lstm: Lstm,
    weight: Slot,
    bias: Slot,
}

/// Values `[T + 1, B, 1]`: those of all steps but the last are read, those of all but the first predicted.
#[derive(Default)]
struct WaveBatch(Vec<f32>);

impl WaveBatch {
    /// B, or of a shard fewer.
    fn rows(&self) -> usize {
        self.0.len() / (STEPS + 1)
    }
}

/// The waves of some seeds, a batch each.
struct Waves {
    period: f32,
    seeds: std::ops::Range<u64>,
}

impl Batches<WaveBatch> for Waves {
    fn count(&self) -> usize {
        self.seeds.clone().count()
    }

    fn fill(&self, number: usize, batch: &mut WaveBatch) {
        let mut rng = Rng::new(self.seeds.start + number as u64, Purpose::Shuffle, 0);
        let starts: Vec<f32> = (0..ROWS).map(|_| rng.uniform_in(0.0, self.period)).collect();
        let value = |at: usize| ((at / ROWS) as f32 + starts[at % ROWS]) * std::f32::consts::TAU / self.period;
        batch.0 = (0..(STEPS + 1) * ROWS).map(|at| value(at).sin()).collect();
    }

    fn cut(&self, _number: usize, whole: &WaveBatch, shard: Shard, part: &mut WaveBatch) -> bool {
        let rows = shard.rows(ROWS);
        part.0 = whole.0.chunks(ROWS).flat_map(|step| step[rows.clone()].to_vec()).collect();
        !rows.is_empty()
    }
}

struct WaveTape {
    lstm: Tape,
    errors: Vec<f32>,
}

impl Wave {
    fn new(config: WaveConfig) -> Self {
        let mut layout = Layout::default();
        let lstm = Lstm::in_layout(config.lstm.clone(), "lstm.", &mut layout).unwrap();
        let (weight, bias) = (layout.add("head.weight", &[1, lstm.output_size()]), layout.add("head.bias", &[1]));
        Self { config, layout: Arc::new(layout), lstm, weight, bias }
    }

    /// What is predicted less what comes, and the sum of the squares.
    fn errors(&self, params: &Params, batch: &WaveBatch, tape: &mut WaveTape) -> Loss {
        let rows = batch.rows();
        let (input, targets) = (&batch.0[..STEPS * rows], &batch.0[rows..]);
        let segment = Segment { steps: STEPS, batch: rows, lengths: None, packed: None };
        self.lstm.forward(params, input, segment, &mut self.lstm.state(rows), None, &mut tape.lstm);
        let (weight, bias) = (params.get(self.weight), params.get(self.bias)[0]);
        let outputs = tape.lstm.output().chunks(weight.len());
        let predicted = outputs.map(|h| bias + h.iter().zip(weight).map(|(h, w)| h * w).sum::<f32>());
        tape.errors = predicted.zip(targets).map(|(predicted, target)| predicted - target).collect();
        let nll = tape.errors.iter().map(|error| f64::from(error * error)).sum();
        Loss { nll, tokens: tape.errors.len() }
    }
}

impl Task for Wave {
    type Settings = WaveConfig;
    type Batch = WaveBatch;
    type Batches<'a> = Waves;
    type Tape = WaveTape;
    type Evaluation<'a> = WaveEvaluation<'a>;

    fn settings(&self) -> &WaveConfig {
        &self.config
    }

    fn settings_mut(&mut self) -> &mut WaveConfig {
        &mut self.config
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn initialise(&self, init: &Init, seed: u64) -> Params {
        let mut params = Params::zeros(self.layout.clone());
        self.lstm.initialise(&mut params, init, seed);
        params
    }

    fn tape(&self) -> WaveTape {
        WaveTape { lstm: self.lstm.tape(), errors: Vec::new() }
    }

    fn train_step(
        &self,
        params: &Params,
        batch: &WaveBatch,
        _state: &mut State,
        _masks: Masks,
        tape: &mut WaveTape,
        gradients: &mut Gradients,
    ) -> Loss {
        let loss = self.errors(params, batch, tape);
        let (gradients, weight) = (gradients.params_mut(), params.get(self.weight));
        let d_errors: Vec<f32> = tape.errors.iter().map(|error| 2.0 * error / loss.tokens as f32).collect();
        let d_output: Vec<f32> = d_errors.iter().flat_map(|d| weight.iter().map(move |w| d * w)).collect();
        let d_weight = gradients.get_mut(self.weight);
        d_weight.fill(0.0);
        for (h, d) in tape.lstm.output().chunks(weight.len()).zip(&d_errors) {
            d_weight.iter_mut().zip(h).for_each(|(d_w, h)| *d_w += d * h);
        }
        gradients.get_mut(self.bias)[0] = d_errors.iter().sum();
        let (input, segment) = (
            &batch.0[..STEPS * batch.rows()],
            Segment { steps: STEPS, batch: batch.rows(), lengths: None, packed: None },
        );
        self.lstm.backward(params, input, segment, &d_output, None, &mut tape.lstm, gradients, lstm::Start::Zero);
        loss
    }

    fn fingerprint(&self) -> String {
        format!("waves of {}", self.config.period)
    }

    fn batches(&self, epoch: usize) -> Result<Waves, TrainError> {
        let first = 10 * epoch as u64;
        Ok(Waves { period: self.config.period, seeds: first..first + 10 })
    }

    fn positions(&self, part: Part) -> Option<usize> {
        (part == Part::Validation).then_some(3 * STEPS * ROWS)
    }

    fn evaluation<'a>(&'a self, params: &'a Params, _part: Part) -> Result<WaveEvaluation<'a>, TrainError> {
        let waves = Waves { period: self.config.period, seeds: 1_000..1_003 };
        Ok(WaveEvaluation { wave: self, params, waves, tape: self.tape(), next: 0, total: Loss::default() })
    }

    fn describe(&self, card: &mut ModelCard) {
        card.text = self.fingerprint();
    }

    fn texts(&self, _path: &Path) -> Result<Texts, FormatError> {
        Ok(Texts::from([("unit".to_owned(), "metres".to_owned())]))
    }
}

struct WaveEvaluation<'a> {
    wave: &'a Wave,
    params: &'a Params,
    waves: Waves,
    tape: WaveTape,
    next: usize,
    total: Loss,
}

impl Evaluation for WaveEvaluation<'_> {
    fn advance(&mut self) -> bool {
        if self.next == self.waves.count() {
            return false;
        }
        let mut batch = WaveBatch::default();
        self.waves.fill(self.next, &mut batch);
        self.total.add(self.wave.errors(self.params, &batch, &mut self.tape));
        self.next += 1;
        true
    }

    fn positions(&self) -> usize {
        STEPS * ROWS
    }

    fn total(&self) -> Loss {
        self.total
    }
}

fn config() -> WaveConfig {
    let mut training = Preset::Builtin.config().training;
    (training.batch, training.epochs, training.accumulate) = (ROWS, Some(40), 2);
    (training.schedule.learning_rate, training.schedule.kind) = (0.02, ScheduleKind::Constant);
    WaveConfig { period: 9.0, training, lstm: LstmConfig { layers: 2, ..LstmConfig::new(1, 10) } }
}

fn begin(folder: &Path) -> Trainer<Wave> {
    Trainer::begin_task(Wave::new(config()), Claim::new(folder, Existing::Refuse).unwrap(), 0.0).unwrap()
}

/// Runs until the step `last`.
fn run_until(trainer: &mut Trainer<Wave>, last: u64) -> Outcome {
    let stop = AtomicBool::new(false);
    let mut observer = |event: &Event| {
        if matches!(event, Event::Step { step, .. } if *step == last) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    trainer.run(&mut observer, Some(&stop)).unwrap()
}

#[test]
fn a_model_of_ones_own_trains_in_the_same_loop_and_goes_on_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, stopped] = ["whole", "stopped"].map(|name| folder.path().join(name));
    let outcome = begin(&whole).run(&mut |_| (), None).unwrap();
    assert_eq!((outcome.end, outcome.epochs), (End::Complete, 40));
    let error = outcome.valid.unwrap().mean();
    assert!(error < 0.05, "the variance of a wave is 0.5, the error {error}");

    // Stopped within an epoch, read back from its files, and gone on with.
    assert_eq!(run_until(&mut begin(&stopped), 23).end, End::Interrupted);
    let go_on = |folder: &Path| -> Result<Trainer<Wave>, TrainError> {
        let run = Stopped::<WaveConfig>::open(folder)?;
        let task = Wave::new(run.settings().clone());
        run.go_on(task, None)
    };
    let mut trainer = go_on(&stopped).unwrap();
    assert_eq!((trainer.step(), trainer.task().config.period), (23, 9.0));
    assert_eq!(trainer.run(&mut |_| (), None).unwrap().valid, outcome.valid);
    drop(trainer);
    for file in ["model.safetensors", "checkpoint.safetensors"] {
        let [once, again] = [&whole, &stopped].map(|folder| read(&folder.join(file)).unwrap());
        assert_eq!(once.tensors(), again.tensors(), "{file}");
    }
    let model = read(&whole.join("model.safetensors")).unwrap();
    assert!(model.get("head.weight").is_some() && model.texts["unit"] == "metres");
    let metrics = std::fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    assert!(metrics.contains(&format!("\"valid\":{error}")), "{metrics}");

    // Its settings are in config.toml, and other data are noticed.
    let settings = std::fs::read_to_string(stopped.join("config.toml")).unwrap();
    assert!(settings.contains("period = 9") && settings.contains("[training.schedule]"), "{settings}");
    let run = Stopped::<WaveConfig>::open(&stopped).unwrap();
    let other = Wave::new(WaveConfig { period: 8.0, ..config() });
    assert!(run.go_on(other, None).err().unwrap().to_string().contains("not what the run was trained on"));
    std::fs::write(stopped.join("config.toml"), settings.replace("period = 9", "period = 8")).unwrap();
    assert!(go_on(&stopped).err().unwrap().to_string().contains("period is 8"));
}
