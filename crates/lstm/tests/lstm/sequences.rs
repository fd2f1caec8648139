//! Models over sequences: against PyTorch (`tests/golden/sequences.py`) and against finite differences in f64, of every pooling and
//! objective; whole runs, which go on after a stop with the same bits.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use lstm::formats::safetensors::{Contents, read};
use lstm::nn::config::LstmConfig;
use lstm::nn::dropout::Masks;
use lstm::nn::params::Params;
use lstm::optim::averaging::Averaging;
use lstm::optim::optimizer::OptimizerKind;
use lstm::rng::{Purpose, Rng};
use lstm::run::folder::{Claim, Existing};
use lstm::run::{Length, TaskKind};
use lstm::sequence::batch::SequenceBatch;
use lstm::sequence::config::{ClassWeights, SequenceConfig};
use lstm::sequence::data::SequenceDataset;
use lstm::sequence::model::SequenceModel;
use lstm::sequence::numbers::NumbersConfig;
use lstm::sequence::saved::LoadedSequence;
use lstm::sequence::{Pooling, Targets};
use lstm::train::event::{End, Event};
use lstm::train::trainer::{Extension, Trainer};

use crate::golden::Golden;
use crate::reference::{Reference, Values};

const POOLINGS: [Pooling; 5] = [Pooling::Last, Pooling::Mean, Pooling::Max, Pooling::Attention, Pooling::Concat];

/// Of a tensor's largest value.
const FORWARD: f32 = 1e-5;
const GRADIENT: f32 = 1e-4;

fn config(pooling: Pooling, vocabulary: usize, outputs: usize, lstm: LstmConfig) -> SequenceConfig {
    let mut config = SequenceConfig::usual(TaskKind::Classify);
    config.labels = (0..outputs).map(|label| label.to_string()).collect();
    (config.model.vocabulary, config.model.outputs) = (vocabulary, outputs);
    (config.model.pooling, config.model.lstm) = (Some(pooling), lstm);
    config
}

/// A packed batch of padded tokens `[T, B]` whose rows are sorted by length.
fn packed(tokens: &[u32], lengths: &[usize], targets: Targets) -> SequenceBatch {
    let rows = lengths.len();
    let mut batch = SequenceBatch { lengths: lengths.to_vec(), targets, starts: vec![0], ..Default::default() };
    batch.examples = (0..rows).collect();
    for step in 0..lengths[0] {
        let inside = lengths.iter().filter(|length| **length > step).count();
        batch.tokens.extend(&tokens[step * rows..][..inside]);
        batch.starts.push(batch.tokens.len());
    }
    batch
}

#[test]
fn every_pooling_and_objective_is_that_of_pytorch() {
    for pooling in POOLINGS {
        let golden = Golden::read(&format!("sequences_{pooling}"));
        let lengths: Vec<usize> = golden.integers("lengths").into_iter().map(|length| length as usize).collect();
        let targets = Targets { classes: golden.integers("classes"), values: golden.floats("values") };
        let batch = packed(&golden.integers("tokens"), &lengths, targets);
        for loss in ["class", "smooth", "classes"] {
            let lstm = LstmConfig { layers: 2, bidirectional: true, ..LstmConfig::new(4, 5) };
            let mut config = config(pooling, 11, 3, lstm);
            config.several = loss == "classes";
            config.label_smoothing = if loss == "smooth" { 0.1 } else { 0.0 };
            let mut model = SequenceModel::new(&config, None).unwrap();
            if loss == "class" {
                model.weigh(golden.floats("weights"));
            }
            let params = golden.params(model.layout());
            let (mut tape, mut gradients) = (model.tape(), model.gradients());
            model.forward(&params, &batch, None, &mut tape);
            golden.check("scores", tape.scores(), FORWARD);
            let found = model.train_step(&params, &batch, None, &mut tape, &mut gradients);
            let expected = f64::from(golden.floats(&format!("loss.{loss}"))[0]);
            assert!((found.mean() - expected).abs() < 1e-5 * expected, "{pooling} {loss}: {} {expected}", found.mean());
            for entry in model.layout().entries() {
                // Where attention is nearly even, its gradients are differences of f32 that nearly cancel, here as in PyTorch: those in f64 below
                // hold them closer.
                let tolerance = if entry.name.starts_with("attention.") { 10.0 * GRADIENT } else { GRADIENT };
                golden.check(&format!("grad.{loss}.{}", entry.name), gradients.params().get(entry.slot), tolerance);
            }
        }
    }
}

/// Settings of a regression of sequences of `width` numbers a step.
fn of_numbers(width: usize, outputs: usize, pooling: Pooling, lstm: LstmConfig) -> SequenceConfig {
    let mut config = SequenceConfig::usual_of_numbers(TaskKind::Regress);
    config.labels = (0..outputs).map(|number| number.to_string()).collect();
    config.model.numbers = Some(NumbersConfig { features: width, ..NumbersConfig::default() });
    (config.model.outputs, config.model.pooling, config.model.lstm) = (outputs, Some(pooling), lstm);
    config
}

/// A packed batch of padded numbers `[T, B, width]` whose rows are sorted by length.
fn packed_numbers(numbers: &[f32], width: usize, lengths: &[usize], targets: Targets) -> SequenceBatch {
    let places: Vec<u32> = (0..(numbers.len() / width) as u32).collect();
    let mut batch = packed(&places, lengths, targets);
    batch.numbers = batch.tokens.drain(..).flat_map(|at| numbers[at as usize * width..][..width].to_vec()).collect();
    batch
}

#[test]
fn numbers_from_learned_initial_states_are_those_of_pytorch() {
    let golden = Golden::read("sequences_numbers");
    let lengths: Vec<usize> = golden.integers("lengths").into_iter().map(|length| length as usize).collect();
    let targets = Targets { classes: Vec::new(), values: golden.floats("values") };
    let batch = packed_numbers(&golden.floats("numbers"), 6, &lengths, targets);
    let lstm = LstmConfig { layers: 2, bidirectional: true, ..LstmConfig::new(4, 5) };
    let mut config = of_numbers(6, 2, Pooling::Mean, lstm);
    config.model.initial_states = true;
    let model = SequenceModel::new(&config, None).unwrap();
    let params = golden.params(model.layout());
    let (mut tape, mut gradients) = (model.tape(), model.gradients());
    model.forward(&params, &batch, None, &mut tape);
    golden.check("scores", tape.scores(), FORWARD);
    // What an earlier pass left must not matter.
    model.train_step(&params, &batch, None, &mut tape, &mut gradients);
    let found = model.train_step(&params, &batch, None, &mut tape, &mut gradients);
    let expected = f64::from(golden.floats("loss")[0]);
    assert!((found.mean() - expected).abs() < 1e-5 * expected, "{} {expected}", found.mean());
    for entry in model.layout().entries() {
        golden.check(&format!("grad.{}", entry.name), gradients.params().get(entry.slot), GRADIENT);
    }
}

/// The loss in f64, by the slow reference of the layers and plain loops.
fn slow_loss(config: &SequenceConfig, values: &Values, batch: &SequenceBatch) -> f64 {
    let (lstm, rows, steps) = (&config.model.lstm, batch.lengths.len(), batch.lengths[0]);
    let mut inner = Values::new();
    for (name, value) in values {
        if let Some(name) = name.strip_prefix("lstm.") {
            inner.insert(name.to_owned(), value.clone());
        }
    }
    let mut input = vec![0.0; steps * rows * lstm.input];
    for (row, length) in batch.lengths.iter().enumerate() {
        for step in 0..*length {
            let at = batch.starts[step] + row;
            let to = &mut input[(step * rows + row) * lstm.input..][..lstm.input];
            if let Some(numbers) = &config.model.numbers {
                let (width, x) = (numbers.width(), &batch.numbers[at * numbers.width()..][..numbers.width()]);
                for (unit, to) in to.iter_mut().enumerate() {
                    let weight = &values["input.weight"][unit * width..][..width];
                    let sum: f64 = weight.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum();
                    *to = sum + values["input.bias"][unit];
                }
                continue;
            }
            let token = batch.tokens[at] as usize;
            to.copy_from_slice(&values["embedding.weight"][token * lstm.input..][..lstm.input]);
        }
    }
    let (states, hidden) = (lstm.layers * lstm.directions(), lstm.hidden.of(0));
    inner.insert("input".into(), input);
    for kind in ["h", "c"] {
        let mut initial = vec![0.0; states * rows * hidden];
        for (index, rows_of) in initial.chunks_exact_mut(rows * hidden).enumerate() {
            let (layer, reverse) =
                (index / lstm.directions(), if index % lstm.directions() == 1 { "_reverse" } else { "" });
            if let Some(of_one) = values.get(&format!("initial.{kind}_l{layer}{reverse}")) {
                rows_of.chunks_exact_mut(hidden).for_each(|row| row.copy_from_slice(of_one));
            }
        }
        inner.insert(format!("{kind}_0"), initial);
    }
    let reference = Reference { config: lstm, steps, batch: rows, lengths: Some(&batch.lengths) };
    let output = reference.forward(&inner, None).output;
    let width = lstm.output();
    let mut loss = 0.0;
    for (row, length) in batch.lengths.iter().enumerate() {
        let at = |step: usize| &output[(step * rows + row) * width..][..width];
        let over = |f: &dyn Fn(usize, usize) -> f64| (0..width).map(|unit| f(unit, *length)).collect::<Vec<f64>>();
        let last = over(&|unit, length| if unit < hidden { at(length - 1)[unit] } else { at(0)[unit] });
        let mean = over(&|unit, length| (0..length).map(|step| at(step)[unit]).sum::<f64>() / length as f64);
        let max = over(&|unit, length| (0..length).map(|step| at(step)[unit]).fold(f64::NEG_INFINITY, f64::max));
        let pooled = match config.model.pooling.unwrap_or_default() {
            Pooling::Last => last,
            Pooling::Mean => mean,
            Pooling::Max => max,
            Pooling::Concat => [last, mean, max].concat(),
            Pooling::Attention => {
                let [weight, bias, vector] =
                    ["attention.weight", "attention.bias", "attention.vector"].map(|name| &values[name]);
                let score = |step: usize| {
                    let unit = |unit: usize| {
                        let sum: f64 = weight[unit * width..][..width].iter().zip(at(step)).map(|(w, h)| w * h).sum();
                        vector[unit] * (sum + bias[unit]).tanh()
                    };
                    (0..width).map(unit).sum::<f64>().exp()
                };
                let scores: Vec<f64> = (0..*length).map(score).collect();
                let sum: f64 = scores.iter().sum();
                over(&|unit, length| (0..length).map(|step| scores[step] / sum * at(step)[unit]).sum())
            }
        };
        let (weight, bias) = (&values["head.weight"], &values["head.bias"]);
        let scores: Vec<f64> = bias
            .iter()
            .zip(weight.chunks(pooled.len()))
            .map(|(bias, weight)| bias + weight.iter().zip(&pooled).map(|(w, p)| w * p).sum::<f64>())
            .collect();
        loss += if config.task == TaskKind::Regress {
            let targets = &batch.targets.values[row * scores.len()..][..scores.len()];
            let errors = scores.iter().zip(targets).map(|(score, target)| (score - f64::from(*target)).powi(2));
            errors.sum::<f64>() / scores.len() as f64
        } else if config.several {
            let targets = &batch.targets.values[row * scores.len()..][..scores.len()];
            let of = |(score, target): (&f64, &f32)| (1.0 + (if *target > 0.5 { -score } else { *score }).exp()).ln();
            scores.iter().zip(targets).map(of).sum::<f64>()
        } else {
            let log_sum = scores.iter().map(|score| score.exp()).sum::<f64>().ln();
            let (class, smoothing) = (batch.targets.classes[row] as usize, f64::from(config.label_smoothing));
            let spread: f64 = scores.iter().map(|score| log_sum - score).sum::<f64>() / scores.len() as f64;
            (1.0 - smoothing) * (log_sum - scores[class]) + smoothing * spread
        };
    }
    loss / rows as f64
}

#[test]
fn gradients_of_every_pooling_and_objective_are_finite_differences() {
    let rng = &mut Rng::new(5, Purpose::Init, 0);
    let lengths = [5, 3, 3, 1];
    let tokens: Vec<u32> = (0..20).map(|_| rng.below(7) as u32).collect();
    for (number, pooling) in POOLINGS.into_iter().enumerate() {
        for several in [false, true] {
            let lstm = LstmConfig { layers: 1 + number % 2, bidirectional: number != 2, ..LstmConfig::new(3, 4) };
            let mut config = config(pooling, 7, 3, lstm);
            config.several = several;
            config.label_smoothing = if several { 0.0 } else { 0.2 };
            let targets =
                Targets { classes: vec![0, 2, 1, 2], values: vec![1., 0., 1., 0., 0., 0., 0., 1., 0., 1., 1., 1.] };
            let batch = packed(&tokens, &lengths, targets);
            check_gradients(&config, &batch, rng, &format!("{pooling} several {several}"));
        }
    }
}

#[test]
fn gradients_of_numbers_and_of_initial_states_are_finite_differences() {
    let rng = &mut Rng::new(6, Purpose::Init, 0);
    let lengths = [4, 3, 3, 1];
    let numbers: Vec<f32> = (0..4 * 4 * 3).map(|_| rng.normal()).collect();
    for (layers, bidirectional, task) in
        [(1, false, TaskKind::Regress), (2, true, TaskKind::Regress), (1, true, TaskKind::Classify)]
    {
        let lstm = LstmConfig { layers, bidirectional, ..LstmConfig::new(3, 4) };
        let mut config = of_numbers(3, 2, Pooling::Concat, lstm);
        (config.task, config.model.initial_states) = (task, true);
        let targets = Targets { classes: vec![0, 1, 1, 0], values: (0..8).map(|_| rng.normal()).collect() };
        let batch = packed_numbers(&numbers, 3, &lengths, targets);
        check_gradients(&config, &batch, rng, &format!("{layers} layers, {task}"));
    }
}

/// Holds the gradients of random parameters to finite differences.
fn check_gradients(config: &SequenceConfig, batch: &SequenceBatch, rng: &mut Rng, what: &str) {
    let model = SequenceModel::new(config, None).unwrap();
    let mut params = Params::zeros(model.layout().clone());
    params.values_mut().fill_with(|| rng.normal() * 0.6);
    let mut values = Values::new();
    for entry in model.layout().entries() {
        values.insert(entry.name.clone(), params.get(entry.slot).iter().map(|v| f64::from(*v)).collect());
    }
    let (mut tape, mut gradients) = (model.tape(), model.gradients());
    let loss = model.train_step(&params, batch, None, &mut tape, &mut gradients);
    assert!((loss.mean() - slow_loss(config, &values, batch)).abs() < 1e-5, "{what}");
    for entry in model.layout().entries() {
        const STEP: f64 = 1e-5;
        let found = gradients.params().get(entry.slot);
        let mut slopes = Vec::new();
        for at in 0..found.len() {
            let mut moved = |by: f64| {
                values.get_mut(&entry.name).unwrap()[at] += by;
                let loss = slow_loss(config, &values, batch);
                values.get_mut(&entry.name).unwrap()[at] -= by;
                loss
            };
            slopes.push((moved(STEP) - moved(-STEP)) / (2.0 * STEP));
        }
        let largest = slopes.iter().fold(1e-3, |most: f64, slope| most.max(slope.abs()));
        for (found, slope) in found.iter().zip(&slopes) {
            let off = (f64::from(*found) - slope).abs();
            assert!(off < 1e-4 * largest, "{what} {}: {found} {slope}", entry.name);
        }
    }
}

#[test]
fn a_dropped_word_is_read_as_the_unknown_one_and_dropout_repeats() {
    let mut config = config(Pooling::Max, 7, 2, LstmConfig::new(3, 4));
    config.model.dropout.words = 0.5;
    let batch = packed(&[1, 2, 3, 4, 5, 6], &[3, 3], Targets { classes: vec![0, 1], values: Vec::new() });
    for unknown in [Some(0), None] {
        let model = SequenceModel::new(&config, unknown).unwrap();
        let params = model.initialise(&config.training.init, 1);
        let (mut tape, mut gradients) = (model.tape(), model.gradients());
        let mut touched = 0;
        for step in 0..8 {
            let masks = Some(Masks { seed: 1, step, shard: 0, share: 1.0 });
            let first = model.train_step(&params, &batch, masks, &mut tape, &mut gradients);
            let row = gradients.params().by_name("embedding.weight").unwrap()[..3].iter().any(|d| *d != 0.0);
            touched += usize::from(row);
            let again = model.train_step(&params, &batch, masks, &mut tape, &mut gradients);
            assert_eq!(first, again);
        }
        assert!(if unknown.is_some() { touched >= 7 } else { touched == 0 }, "{touched}");
    }
}

/// Reviews that say by one word which they are, wherever it stands.
fn reviews(path: &Path, count: usize, shift: usize) {
    let fillers = ["the", "film", "a", "story", "is", "and", "of", "it"];
    let [good, bad] = [["good", "fine", "great"], ["bad", "dull", "poor"]];
    let text: String = (0..count)
        .map(|i| {
            let i = i + shift;
            let mut words: Vec<&str> = (0..2 + i % 6).map(|j| fillers[(i * 3 + j * 5 + i / 7) % 8]).collect();
            let (label, words_of) = if (i / 3).is_multiple_of(2) { ("pos", good) } else { ("neg", bad) };
            words.insert(i % (words.len() + 1), words_of[i % 3]);
            format!("{label} {}\n", words.join(" "))
        })
        .collect();
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_run_learns_goes_on_with_the_same_bits_and_is_a_model_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let [train, test] = ["train.txt", "test.txt"].map(|name| folder.path().join(name));
    reviews(&train, 300, 0);
    reviews(&test, 60, 1_000);
    let mut config = SequenceConfig::usual(TaskKind::Classify);
    config.model.lstm = LstmConfig { bidirectional: true, ..LstmConfig::new(12, 10) };
    config.training.schedule.learning_rate = 0.01;
    (config.training.epochs, config.class_weights) = (Some(8), ClassWeights::Balanced);
    (config.data.train, config.data.test) = (Some(train), Some(test.clone()));
    let begin = |name: &str| {
        let mut config = config.clone();
        let data = SequenceDataset::read(&mut config, None).unwrap();
        let claim = Claim::new(&folder.path().join(name), Existing::Refuse).unwrap();
        Trainer::begin_sequences(config, data, claim).unwrap()
    };
    let outcome = begin("whole").run(&mut |_| (), None).unwrap();
    let stop = AtomicBool::new(false);
    let mut observer = |event: &Event| {
        if matches!(event, Event::Step { step: 23, .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let stopped = folder.path().join("stopped");
    assert_eq!(begin("stopped").run(&mut observer, Some(&stop)).unwrap().end, End::Interrupted);
    let mut trainer = Trainer::resume_sequences(&stopped, &Extension::default()).unwrap();
    assert_eq!((trainer.step(), trainer.run(&mut |_| (), None).unwrap().valid), (23, outcome.valid));
    drop(trainer);
    let whole = folder.path().join("whole");
    for file in ["model.safetensors", "checkpoint.safetensors"] {
        let [once, again] = [&whole, &stopped].map(|folder| read(&folder.join(file)).unwrap());
        assert_eq!(once.tensors(), again.tensors(), "{file}");
    }
    // From the folder, and from the file alone wherever it lies.
    let alone = folder.path().join("alone.safetensors");
    std::fs::copy(whole.join("model.safetensors"), &alone).unwrap();
    let of_folder = LoadedSequence::open(&whole).unwrap();
    let of_file = LoadedSequence::open(&alone).unwrap();
    let examples = of_folder.read(&test).unwrap();
    let predictions = of_folder.predict_sequences(&examples.sequences);
    let right = (0..60).filter(|at| predictions[*at].best() == examples.sequences.labels(*at)[0] as usize).count();
    assert!(right >= 58, "{right} of 60");
    assert_eq!(of_file.predict_sequences(&examples.sequences), predictions);
    assert_eq!(of_file.predict(&["a good film"]).unwrap()[0].best(), 1);
    assert!(of_file.data().unwrap_err().to_string().contains("by itself"));
    // What it is no model of says so, both ways.
    let error = lstm::LanguageModel::open(&alone).unwrap_err().to_string();
    assert!(error.contains("it is of the task classify"), "{error}");
    let error = lstm::LanguageModel::open(&whole).unwrap_err().to_string();
    assert!(error.contains("it is of the task classify") && error.contains("config.toml"), "{error}");
    // Data that changed are noticed.
    reviews(&folder.path().join("train.txt"), 299, 0);
    let error = Trainer::resume_sequences(&stopped, &Extension::default()).unwrap_err().to_string();
    assert!(error.contains("is not what the run was trained on"), "{error}");
}

#[test]
fn a_bag_of_words_is_fitted_once_and_the_layers_learn_as_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let train = folder.path().join("train.txt");
    reviews(&train, 200, 0);
    let run = |name: &str, steps: u64, bag: f32| {
        let mut config = SequenceConfig::usual(TaskKind::Classify);
        config.model.lstm = LstmConfig { bidirectional: true, ..LstmConfig::new(12, 10) };
        (config.training.optimizer, config.training.weight_decay) = (OptimizerKind::AdamW, 0.1);
        config.training.average = Averaging::Ema(0.9);
        config.training.set_length(Length { steps: Some(steps), ..Length::default() });
        (config.model.bag, config.data.train) = (bag, Some(train.clone()));
        let data = SequenceDataset::read(&mut config, None).unwrap();
        let claim = Claim::new(&folder.path().join(name), Existing::Refuse).unwrap();
        let valid = Trainer::begin_sequences(config, data, claim).unwrap().run(&mut |_| (), None).unwrap().valid;
        (read(&folder.path().join(name).join("checkpoint.safetensors")).unwrap(), valid.unwrap().mean())
    };
    let (without, alone) = run("without", 12, 0.0);
    let (with, both) = run("with", 12, 0.5);
    let (early, _) = run("early", 1, 0.5);
    for tensor @ (name, ..) in without.tensors() {
        // Moments and the average are of all parameters, one behind the other.
        if !name.starts_with("optimizer.") && name != "average" {
            assert!(with.tensors().contains(&tensor), "{name}");
        }
    }
    let bag = |of: &Contents| of.tensors().into_iter().find(|(name, ..)| *name == "bag.weight").unwrap().2.to_vec();
    assert_eq!(bag(&early), bag(&with));
    assert!(both < 0.8 * alone, "after few steps the bag knows more: {both} {alone}");
}
