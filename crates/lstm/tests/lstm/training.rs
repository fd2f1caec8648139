//! Whole training runs: every choice learns, a broken run goes on with the same bits, and what cannot go on says why.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use lstm::formats::safetensors::{Contents, Tensor, read, write};
use lstm::model::penalty::Penalties;
use lstm::nn::config::{Init, InitScheme, Readout, Wiring};
use lstm::nn::dropout::{DropoutKind, DropoutRates};
use lstm::nn::precision::Precision;
use lstm::optim::optimizer::{AdamSettings, OptimizerKind};
use lstm::optim::schedule::{Schedule, ScheduleKind};
use lstm::run::config::RunConfig;
use lstm::run::error::TrainError;
use lstm::run::folder::Existing;
use lstm::run::preset::Preset;
use lstm::run::saved::LoadedRun;
use lstm::run::training::Training;
use lstm::text::batch::Batching;
use lstm::text::builtin::Grammar;
use lstm::text::corpus::Corpus;
use lstm::text::ngram::Ngram;
use lstm::text::tokenizer::TokenizerKind;
use lstm::train::data::Data;
use lstm::train::event::{End, Event, Outcome};
use lstm::train::trainer::{Extension, Trainer};
use tempfile::TempDir;

/// A folder with a text of about `tokens` words and a short one to validate and test with.
pub(crate) fn texts(tokens: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let grammar = Grammar::standard();
    for (split, name, tokens) in [(0, "train.txt", tokens), (1, "valid.txt", 300), (2, "test.txt", 300)] {
        std::fs::write(folder.path().join(name), grammar.sample(7, split, tokens)).unwrap();
    }
    folder
}

/// A small run on such a folder: two layers, dropout, Adam, two epochs.
pub(crate) fn config(texts: &TempDir) -> RunConfig {
    let mut config = Preset::Builtin.config();
    config.data.train = Some(texts.path().to_owned());
    (config.training.batch, config.segment, config.training.epochs) = (4, 8, Some(2));
    config.model.lstm.input = 7;
    config.model.lstm.hidden = 9.into();
    config.model.lstm.layers = 2;
    config.model.dropout = DropoutRates::all(0.2);
    config
}

/// The same with every regularisation at once.
pub(crate) fn regularised(config: &RunConfig) -> RunConfig {
    let mut config = config.clone();
    let kind = DropoutKind::Locked;
    config.model.dropout =
        DropoutRates { kind, input: 0.1, hidden: 0.2, output: 0.3, embedding: 0.1, weights: 0.2, start: 0.5 };
    config.model.penalties = Penalties { activation: 0.2, temporal: 0.1, label_smoothing: 0.05 };
    config
}

pub(crate) fn create(config: &RunConfig, folder: &Path) -> Result<Trainer, TrainError> {
    Trainer::create(config.clone(), Data::read(config, None)?, folder, Existing::Refuse)
}

/// Runs to the end.
pub(crate) fn finish(trainer: &mut Trainer) -> Outcome {
    trainer.run(&mut |_| (), None).unwrap()
}

/// Runs until `enough` says so.
pub(crate) fn run_until(trainer: &mut Trainer, mut enough: impl FnMut(&Event) -> bool) -> Outcome {
    let stop = AtomicBool::new(false);
    let mut observer = |event: &Event| {
        if enough(event) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    trainer.run(&mut observer, Some(&stop)).unwrap()
}

pub(crate) type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

pub(crate) fn tensors(contents: &Contents) -> Tensors {
    let owned = |(name, shape, values): Tensor| (name.to_owned(), (shape.to_vec(), values.to_vec()));
    contents.tensors().into_iter().map(owned).collect()
}

/// What a run left: the tensors of its checkpoint and of its model, and its metrics without the times.
pub(crate) type Left = (Tensors, Tensors, Vec<serde_json::Value>);

pub(crate) fn left(folder: &Path) -> Left {
    let tensors = |file: &str| tensors(&read(&folder.join(file)).unwrap());
    let metrics = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let timeless = metrics.lines().map(|line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["seconds"].take();
        line["tokens_per_second"].take();
        line
    });
    (tensors("checkpoint.safetensors"), tensors("model.safetensors"), timeless.collect())
}

/// An unbroken run of `config`, and one broken off wherever `breaks` says and resumed, leave the same; gives the tensors
/// of the checkpoint.
pub(crate) fn assert_same_bits(config: &RunConfig, breaks: &[fn(&Event) -> bool]) -> Tensors {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    finish(&mut create(config, &whole).unwrap());
    let mut trainer = create(config, &broken).unwrap();
    for enough in breaks {
        assert_eq!(run_until(&mut trainer, enough).end, End::Interrupted);
        // A run is one trainer's at a time.
        drop(trainer);
        trainer = Trainer::resume(&broken, Extension::default()).unwrap();
    }
    finish(&mut trainer);
    assert_eq!(left(&whole), left(&broken), "{}", config.batching);
    left(&whole).0
}

/// It is written beside training, so the run notices it later.
/// Every token occurs once more than it does; the ends of lines are tokens.
#[test]
fn a_readout_starts_from_how_often_tokens_occur() {
    let texts = texts(2_000);
    let train = std::fs::read_to_string(texts.path().join("train.txt")).unwrap();
    for batching in [Batching::Stream, Batching::Lines] {
        let mut config = config(&texts);
        (config.unigram_bias, config.training.steps) = (true, Some(1));
        (config.training.schedule.learning_rate, config.training.clip) = (1e-8, None);
        config.set_batching(batching);
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        finish(&mut create(&config, &run).unwrap());
        let LoadedRun { tokenizer, model, params, .. } = LoadedRun::open(&run).unwrap();
        let (_, bias) = model
            .layout()
            .entries()
            .iter()
            .map(|entry| (&entry.name, params.get(entry.slot)))
            .find(|(name, _)| *name == "readout.bias")
            .unwrap();
        let all = train.split_whitespace().count() + train.lines().count() + tokenizer.vocabulary_size();
        for id in 0..tokenizer.vocabulary_size() as u32 {
            let count = if tokenizer.ends_line(id) {
                train.lines().count()
            } else {
                train.split_whitespace().filter(|word| *word == tokenizer.token(id)).count()
            };
            let expected = ((count as f64 + 1.0) / all as f64).ln();
            assert!(
                (f64::from(bias[id as usize]) - expected).abs() < 1e-4,
                "{batching}: {}, {count} times",
                tokenizer.token(id)
            );
        }
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_run_with_its_sentence() {
    let (texts, folder) = (texts(900), tempfile::tempdir().unwrap());
    let run = folder.path().join("run");
    let mut trainer = create(
        &RunConfig { training: Training { epochs: Some(9), ..config(&texts).training }, ..config(&texts) },
        &run,
    )
    .unwrap();
    let checkpoint = run.join("checkpoint.safetensors");
    let mut validated = 0;
    let mut observer = |event: &Event| {
        if let Event::Validated { .. } = event {
            validated += 1;
            if validated == 2 {
                // What no file can be put in the place of.
                std::fs::remove_file(&checkpoint).unwrap();
                std::fs::create_dir_all(checkpoint.join("in the way")).unwrap();
            }
        }
    };
    let broken = trainer.run(&mut observer, None).unwrap_err().to_string();
    assert!(broken.contains("checkpoint.safetensors cannot be written"), "{broken}");
    assert!(validated == 2, "the next validation waits for it: {validated}");
    let left = std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.contains("partial")).count(), 0);
}

#[test]
fn a_resumed_run_has_the_bits_of_an_unbroken_one() {
    let texts = texts(1000);
    for (batching, optimizer, rate) in [
        (Batching::Stream, OptimizerKind::Adam, 4e-3),
        (Batching::Windows(5), OptimizerKind::Sgd, 1.0),
        (Batching::Lines, OptimizerKind::AdamW, 4e-3),
        (Batching::Stream, OptimizerKind::Muon, 4e-3),
        (Batching::Stream, OptimizerKind::MuonSgd, 1.0),
    ] {
        let mut config = config(&texts);
        (config.batching, config.training.optimizer, config.training.schedule.learning_rate) =
            (batching, optimizer, rate);
        config.training.muon.rate = (optimizer == OptimizerKind::MuonSgd).then_some(0.01);
        assert_same_bits(
            &config,
            &[
                |event| matches!(event, Event::Step { step: 7, .. }),
                // The last step of an epoch: the validation is stopped too.
                |event| matches!(event, Event::Step { epoch: 0, of_epoch: (at, of), .. } if at == of),
                |event| matches!(event, Event::Validated { epoch: 0, .. }),
                |event| matches!(event, Event::Step { epoch: 1, of_epoch: (2, _), .. }),
                // All that is left is the test.
                |event| matches!(event, Event::Validated { epoch: 1, .. }),
            ],
        );
    }
}

#[test]
fn adam_s_settings_decide_the_run_and_are_kept_with_it() {
    let texts = texts(600);
    let mut config = config(&texts);
    config.training.epochs = Some(1);
    let plain = assert_same_bits(&config, &[|event| matches!(event, Event::Step { step: 5, .. })]);
    config.training.adam = AdamSettings { beta1: 0.5, beta2: 0.9, epsilon: 1e-6, lazy: true };
    let other = assert_same_bits(&config, &[|event| matches!(event, Event::Step { step: 5, .. })]);
    assert_ne!(plain["readout.weight"], other["readout.weight"]);
    assert_ne!(plain["optimizer.second"], other["optimizer.second"]);
}

#[test]
fn accumulated_and_varied_runs_go_on_with_the_same_bits() {
    let texts = texts(1000);
    for (batching, accumulate, variable_segment) in
        [(Batching::Stream, 3, false), (Batching::Stream, 2, true), (Batching::Windows(5), 4, false)]
    {
        let config = RunConfig {
            batching,
            variable_segment,
            training: Training { accumulate, ..config(&texts).training.clone() },
            ..config(&texts)
        };
        assert_same_bits(
            &config,
            &[
                |event| matches!(event, Event::Step { step: 2, .. }),
                |event| matches!(event, Event::Validated { epoch: 0, .. }),
                |event| matches!(event, Event::Step { epoch: 1, of_epoch: (at, of), .. } if at == of),
            ],
        );
    }
}

/// A run of fewer bits goes on with those it has for any number of threads; its model is one of f32 like any other, which learned as
/// much.
#[test]
fn a_run_of_fewer_bits_goes_on_with_them_and_learns_as_much() {
    for (precision, nats) in [(Precision::Bf16, 0.02), (Precision::Bf16x3, 0.001)] {
        goes_on_and_learns(precision, nats);
    }
}

fn goes_on_and_learns(precision: Precision, nats: f64) {
    let texts = texts(3000);
    let exact = config(&texts);
    let mut config = exact.clone();
    config.training.precision = precision;
    let one = lstm::with_threads(1, || assert_same_bits(&config, &[]));
    let broken = lstm::with_threads(3, || {
        assert_same_bits(
            &config,
            &[
                |event| matches!(event, Event::Step { step: 7, .. }),
                |event| matches!(event, Event::Validated { epoch: 0, .. }),
            ],
        )
    });
    assert_eq!(one, broken);
    let valid = |config: &RunConfig| {
        let folder = tempfile::tempdir().unwrap();
        finish(&mut create(config, &folder.path().join("run")).unwrap());
        let run = LoadedRun::open(&folder.path().join("run")).unwrap();
        (run.card.valid.unwrap().mean(), run.params.values().to_vec())
    };
    let ((in_f32, exact), (in_fewer, rounded)) = (valid(&exact), valid(&config));
    assert_ne!(exact, rounded);
    assert!((in_fewer - in_f32).abs() < nats, "{in_fewer} nats in {precision}, {in_f32} in f32");
}

#[test]
fn a_step_of_several_batches_is_a_step_of_a_larger_one() {
    let texts = texts(1000);
    let mut config = config(&texts);
    (config.batching, config.training.batch, config.model.dropout) =
        (Batching::Windows(5), 12, DropoutRates::default());
    (config.training.optimizer, config.training.schedule.learning_rate, config.training.clip) =
        (OptimizerKind::Sgd, 1.0, Some(0.1));
    let run = |batch, accumulate| {
        let folder = tempfile::tempdir().unwrap();
        let config =
            RunConfig { training: Training { batch, accumulate, ..config.training.clone() }, ..config.clone() };
        let mut trainer = create(&config, &folder.path().join("run")).unwrap();
        let outcome = finish(&mut trainer);
        (trainer.step(), outcome.train.tokens, outcome.valid.unwrap().mean())
    };
    let ((steps, tokens, loss), joined) = (run(12, 1), run(4, 3));
    assert_eq!((steps, tokens), (joined.0, joined.1));
    assert!((loss - joined.2).abs() < 1e-3, "{loss} and {}", joined.2);
    assert!((loss - run(4, 1).2).abs() > 1e-2);
}

#[test]
fn a_resumed_run_draws_the_masks_of_an_unbroken_one() {
    let texts = texts(1000);
    for batching in [Batching::Stream, Batching::Lines] {
        let config = RunConfig { batching, ..regularised(&config(&texts)) };
        assert_same_bits(&config, &[|event| matches!(event, Event::Step { step: 7, .. })]);
    }
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    let texts = texts(600);
    let mut config = config(&texts);
    config.training.epochs = Some(1);
    let run = |threads| {
        let folder = tempfile::tempdir().unwrap();
        lstm::with_threads(threads, || finish(&mut create(&config, &folder.path().join("run")).unwrap()));
        left(&folder.path().join("run")).0
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
}

#[test]
fn every_choice_learns() {
    let texts = texts(3000);
    let base = config(&texts);
    let mut cases: Vec<(String, RunConfig)> = Vec::new();
    for wiring in [Wiring::Stacked, Wiring::Skip, Wiring::Scores] {
        for readout in [Readout::Hidden, Readout::OutputGate] {
            let mut config = base.clone();
            (config.model.lstm.wiring, config.model.lstm.readout) = (wiring, readout);
            cases.push((format!("{wiring} {readout}"), config));
        }
    }
    for init in ["torch", "uniform(0.1)", "ones-bias"] {
        let mut config = base.clone();
        config.training.init = Init { scheme: init.parse::<InitScheme>().unwrap(), forget_bias: None };
        cases.push((init.to_owned(), config));
    }
    let mut tied = base.clone();
    tied.model.tied = true;
    // Latent vectors are one more layer: with two below them it takes longer than this run to leave the unigrams.
    let mut mixture = tied.clone();
    (mixture.model.softmaxes, mixture.model.lstm.layers, mixture.model.lstm.input) = (3, 1, 24);
    cases.extend([("tied".to_owned(), tied), ("mixture of softmaxes".to_owned(), mixture)]);
    let mut sizes = base.clone();
    (sizes.model.lstm.layers, sizes.model.lstm.hidden, sizes.model.lstm.residual) = (3, vec![24, 24, 16].into(), true);
    cases.push(("sizes and residual connections".to_owned(), sizes));
    let mut horizon = base.clone();
    horizon.model.lstm.horizon = Some(1);
    cases.push(("horizon 1".to_owned(), horizon));
    let mut projection = base.clone();
    projection.model.lstm.projection = Some(5);
    cases.push(("projection".to_owned(), projection));
    for batching in [Batching::Windows(5), Batching::Lines] {
        cases.push((batching.to_string(), RunConfig { batching, ..base.clone() }));
    }
    cases.push(("regularised".to_owned(), regularised(&base)));
    let mut unigram = None;
    for (name, mut config) in cases {
        (config.training.schedule.learning_rate, config.training.epochs) = (1e-2, Some(3));
        if config.model.lstm.hidden == 9.into() {
            config.model.lstm.hidden = 24.into();
        }
        let data = Data::read(&config, None).unwrap();
        // What knowing the words' frequencies alone reaches.
        let unigram = *unigram.get_or_insert_with(|| {
            let ids = |corpus: &Corpus| (0..corpus.ids.len()).map(|at| corpus.ids.get(at)).collect::<Vec<_>>();
            let model = Ngram::train(1, &ids(&data.train), data.tokenizer.vocabulary_size(), None);
            model.perplexity(&ids(data.valid.as_ref().unwrap()))
        });
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = Trainer::create(config, data, &folder.path().join("run"), Existing::Refuse).unwrap();
        let perplexity = finish(&mut trainer).valid.unwrap().perplexity();
        eprintln!("{name}: {perplexity:.1}, unigram {unigram:.1}");
        assert!(perplexity < 0.7 * unigram, "{name}: {perplexity}, unigram {unigram}");
    }
}

#[test]
fn the_first_bound_ends_the_run_and_a_longer_one_goes_on_within_the_epoch() {
    let texts = texts(600);
    let mut config = config(&texts);
    // Constant: a schedule that is stretched over the steps would differ.
    config.training.schedule = Schedule { kind: ScheduleKind::Constant, ..config.training.schedule };
    let folder = tempfile::tempdir().unwrap();
    let (whole, extended) = (folder.path().join("whole"), folder.path().join("extended"));
    config.training.steps = Some(25);
    finish(&mut create(&config, &whole).unwrap());
    config.training.steps = Some(5);
    let mut trainer = create(&config, &extended).unwrap();
    let outcome = finish(&mut trainer);
    assert_eq!((trainer.step(), outcome.end), (5, End::Complete));
    assert!(outcome.valid.is_some() && outcome.test.is_some());
    drop(trainer);
    let mut trainer = Trainer::resume(&extended, Extension { steps: Some(25), ..Extension::default() }).unwrap();
    finish(&mut trainer);
    assert_eq!(left(&whole).0, left(&extended).0);
    // The new bound is the run's from now on.
    drop(trainer);
    let mut again = Trainer::resume(&extended, Extension::default()).unwrap();
    assert_eq!(again.config().training.steps, Some(25));
    finish(&mut again);
    assert_eq!(again.step(), 25);
    // Fewer epochs than steps.
    (config.training.steps, config.training.epochs) = (Some(1000), Some(1));
    let mut short = create(&config, &folder.path().join("short")).unwrap();
    finish(&mut short);
    assert_eq!(short.step(), 19);
}

/// Its config.toml said a bound that the run was past.
#[test]
fn a_bound_that_a_run_is_past_is_refused_and_changes_nothing() {
    let texts = texts(600);
    let mut config = config(&texts);
    config.training.steps = Some(25);
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let used = finish(&mut create(&config, &run).unwrap()).seconds;
    let files = || (left(&run), std::fs::read_to_string(run.join("config.toml")).unwrap());
    let before = files();
    // 25 steps of 19 an epoch.
    let none = Extension::default;
    for (extension, said) in [
        (Extension { epochs: Some(1), ..none() }, "`epochs` is 1, but the run has begun 2 already; give more, or 2"),
        (Extension { steps: Some(24), ..none() }, "`steps` is 24, but the run has taken 25 already; give more, or 25"),
        (Extension { budget: Some(0.5 * used), ..none() }, "s already; give more, or leave it out"),
    ] {
        let error = Trainer::resume(&run, extension).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!(files(), before);
    }
    // A bound that it has just reached, or has already.
    for extension in [Extension { steps: Some(25), ..none() }, Extension { epochs: Some(2), ..none() }] {
        let mut trainer = Trainer::resume(&run, extension).unwrap();
        finish(&mut trainer);
        assert_eq!(trainer.step(), 25);
    }
}

#[test]
fn a_run_out_of_patience_stays_so() {
    let texts = texts(600);
    let mut config = config(&texts);
    // A rate this high never improves on its first epochs for long.
    (config.training.schedule.learning_rate, config.training.epochs, config.training.patience) =
        (0.5, Some(50), Some(1));
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut trainer = create(&config, &run).unwrap();
    let outcome = finish(&mut trainer);
    assert_eq!(outcome.end, End::Patience);
    let step = trainer.step();
    drop(trainer);
    let mut again = Trainer::resume(&run, Extension::default()).unwrap();
    let repeated = finish(&mut again);
    assert_eq!((again.step(), repeated.end, repeated.test), (step, End::Patience, outcome.test));
}

#[test]
fn a_time_budget_ends_the_run() {
    // Short enough for many epochs in a second, also on a machine at other work.
    let texts = texts(500);
    let mut config = config(&texts);
    (config.training.epochs, config.training.budget, config.training.patience) = (None, Some(1.0), None);
    // Validating as much as training is too much.
    config.data.valid = Some(texts.path().join("train.txt"));
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = create(&config, &folder.path().join("run")).unwrap();
    let (mut ended, mut validated) = (0, 0);
    let outcome = trainer.run(
        &mut |event| match event {
            Event::EpochEnded { .. } => ended += 1,
            Event::Validated { .. } => validated += 1,
            _ => {}
        },
        None,
    );
    let outcome = outcome.unwrap();
    // Half of it is trained at least, the rest is for the validation of its end and for the test.
    assert!(outcome.end == End::Complete && outcome.seconds >= 0.5, "{outcome:?}");
    assert!(outcome.valid.is_some() && outcome.test.is_some());
    // Epochs go by without a validation, the last one does not.
    assert!(trainer.step() > 0 && validated > 0 && ended > validated, "{ended} ended, {validated} validated");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint() {
    let texts = texts(600);
    let mut config = config(&texts);
    (config.training.optimizer, config.training.clip) = (OptimizerKind::Sgd, None);
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    drop(create(&config, &run).unwrap());
    // Logits that are numbers themselves, whose differences are beyond the range.
    rewrite(&run.join("checkpoint.safetensors"), |tensors, _| {
        let bias = &mut tensors.get_mut("readout.bias").unwrap().1;
        bias.fill(-3e38);
        bias[0] = 3e38;
    });
    let mut trainer = Trainer::resume(&run, Extension::default()).unwrap();
    let error = trainer.run(&mut |_| (), None).unwrap_err().to_string();
    assert!(error.contains("is not a finite number") && error.contains("lower learning rate"), "{error}");
    assert!(error.contains("checkpoint of step 0"), "{error}");
    drop(trainer);
    assert_eq!(Trainer::resume(&run, Extension::default()).unwrap().step(), 0);
}

/// One step that leaves the range of numbers was saved as the best model when there was no validation to notice.
#[test]
fn parameters_that_are_no_numbers_are_never_saved() {
    let texts = texts(600);
    let mut config = config(&texts);
    (config.data.train, config.data.test) = (Some(texts.path().join("train.txt")), Some(texts.path().join("test.txt")));
    (config.training.optimizer, config.training.schedule.learning_rate, config.training.clip, config.training.steps) =
        (OptimizerKind::Sgd, 1e4, None, Some(1));
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    drop(create(&config, &run).unwrap());
    // The products are small, but the gradient of the weights is as large as the embedding, and the step beyond the range.
    rewrite(&run.join("checkpoint.safetensors"), |tensors, _| {
        tensors.get_mut("embedding.weight").unwrap().1.fill(2e38);
        tensors.get_mut("lstm.weight_ih_l0").unwrap().1.fill(0.0);
    });
    let mut trainer = Trainer::resume(&run, Extension::default()).unwrap();
    let error = trainer.run(&mut |_| (), None).unwrap_err().to_string();
    assert!(error.contains("after step 1 is not a finite number"), "{error}");
    assert!(error.contains("checkpoint of step 0"), "{error}");
    assert!(!run.join("model.safetensors").exists());
    drop(trainer);
    assert_eq!(Trainer::resume(&run, Extension::default()).unwrap().step(), 0);
}

/// Characters were shown beside the floor of words, and windows or a cut vocabulary beside one they can beat.
#[test]
fn the_floor_of_the_built_in_language_is_that_of_its_tokens() {
    let read = |change: fn(&mut RunConfig)| {
        let mut config = Preset::Builtin.config();
        change(&mut config);
        Data::read(&config, None).unwrap()
    };
    let words = read(|_| ());
    let characters = read(|config| config.tokenizer = TokenizerKind::Chars);
    let lines = read(|config| config.batching = Batching::Lines);
    // The same sentences: what a word costs is shared among its characters.
    let bits = |data: &Data| data.floor.unwrap().ln() * data.train.ids.len() as f64;
    assert!((bits(&words) / bits(&characters) - 1.0).abs() < 0.01);
    assert!(words.trigram.is_some() && characters.trigram.is_none());
    assert_eq!(lines.floor, words.floor);
    assert!(read(|config| config.batching = Batching::Windows(5)).floor.is_none());
    assert!(read(|config| config.vocabulary.max_size = Some(100)).floor.is_none());
}

#[test]
fn a_model_beyond_the_memory_is_refused_before_anything_is_written() {
    let texts = texts(600);
    let folder = tempfile::tempdir().unwrap();
    for hidden in [10_000_000, usize::MAX / 2] {
        let mut config = config(&texts);
        config.model.lstm.hidden = hidden.into();
        let error = create(&config, &folder.path().join("run")).unwrap_err().to_string();
        assert!(error.contains("smaller `hidden`"), "{error}");
        assert!(!folder.path().join("run").exists());
    }
}

/// Writes a file of tensors anew: other tensors, another document, a checksum that is right.
pub(crate) fn rewrite(path: &Path, change: impl Fn(&mut Tensors, &mut serde_json::Value)) {
    let mut contents = read(path).unwrap();
    let mut changed = tensors(&contents);
    change(&mut changed, &mut contents.document);
    let mut tensors: Vec<Tensor> =
        changed.iter().map(|(name, (shape, values))| (name.as_str(), &shape[..], &values[..])).collect();
    tensors.sort_unstable_by_key(|(name, ..)| *name);
    write(path, &tensors, contents.document, &contents.texts).unwrap();
}
