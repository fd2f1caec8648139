//! Whole runs: the rate as it falls, and averages of the weights.

use lstm::nn::dropout::DropoutRates;
use lstm::optim::averaging::Averaging;
use lstm::optim::optimizer::OptimizerKind;
use lstm::optim::schedule::{Schedule, ScheduleKind, Warmup};
use lstm::run::config::RunConfig;
use lstm::run::saved::LoadedRun;
use lstm::run::training::Training;
use lstm::train::data::Data;
use lstm::train::event::Event;
use lstm::train::trainer::{Extension, Trainer};

use crate::training::{Tensors, assert_same_bits, config, create, finish, left, texts};

/// The learning rate of every step of a run, and the validation after every epoch: whether it was the best.
fn rates(config: &RunConfig) -> (Vec<f32>, Vec<bool>) {
    let folder = tempfile::tempdir().unwrap();
    let (mut rates, mut best) = (Vec::new(), Vec::new());
    let mut observer = |event: &Event| match event {
        Event::Step { rate, .. } => rates.push(*rate),
        Event::Validated { best: is_best, .. } => best.push(*is_best),
        _ => {}
    };
    create(config, &folder.path().join("run")).unwrap().run(&mut observer, None).unwrap();
    (rates, best)
}

#[test]
fn schedules_go_on_with_the_same_bits_and_follow_the_run_s_own_length() {
    let texts = texts(600);
    let mut config = config(&texts);
    let kinds =
        [ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::OneCycle, ScheduleKind::Wsd, ScheduleKind::Plateau];
    for kind in kinds {
        config.training.schedule.kind = kind;
        config.training.schedule.warmup =
            if kind == ScheduleKind::OneCycle { Warmup::default() } else { Warmup::Share(0.1) };
        assert_same_bits(
            &config,
            &[
                |event| matches!(event, Event::Step { step: 2, .. }),
                |event| matches!(event, Event::Validated { epoch: 0, .. }),
                |event| matches!(event, Event::Step { step: 21, .. }),
            ],
        );
    }
    // 30 of the 38 steps of two epochs; three quarters of the first 20 are behind the warm-up.
    (config.training.steps, config.training.epochs) = (Some(30), None);
    config.training.schedule = Schedule {
        kind: ScheduleKind::Linear,
        learning_rate: 0.004,
        warmup: Warmup::Steps(5),
        ..config.training.schedule
    };
    let (rates, _) = rates(&config);
    assert_eq!(rates.len(), 30);
    for (step, rate) in rates.into_iter().enumerate() {
        let warm = if step < 5 { 0.01 + 0.99 * step as f64 / 5.0 } else { 1.0 };
        let expected = 0.004 * warm * (1.0 - step as f64 / 30.0);
        assert!((f64::from(rate) - expected).abs() < 1e-8, "step {step}: {rate}, not {expected}");
    }
}

#[test]
fn a_plateau_divides_the_rate_after_an_epoch_that_does_not_improve() {
    let texts = texts(600);
    let mut config = config(&texts);
    config.training.epochs = Some(8);
    config.training.schedule =
        Schedule { kind: ScheduleKind::Plateau, learning_rate: 0.3, decay: 4.0, ..config.training.schedule };
    let (rates, best) = rates(&config);
    let epochs: Vec<&[f32]> = rates.chunks(rates.len() / 8).collect();
    assert!(best.contains(&false) && best.contains(&true), "{best:?}");
    for (epoch, best) in best[..7].iter().enumerate() {
        let (before, after) = (epochs[epoch], epochs[epoch + 1]);
        let expected = if *best { before[0] } else { before[0] / 4.0 };
        assert!(after.iter().all(|rate| (rate / expected - 1.0).abs() < 1e-6), "{epoch}: {rates:?}");
    }
}

#[test]
fn a_plateau_without_a_validation_text_and_a_warm_up_longer_than_the_run_are_refused() {
    let texts = texts(600);
    let folder = tempfile::tempdir().unwrap();
    let refused = |config: &RunConfig| create(config, &folder.path().join("run")).unwrap_err().to_string();
    let mut config = config(&texts);
    config.training.schedule.warmup = Warmup::Steps(38);
    assert!(refused(&config).contains("no shorter than the run, which has 38"));
    (config.training.schedule.warmup, config.training.schedule.kind) = (Warmup::default(), ScheduleKind::Plateau);
    config.data.train = Some(texts.path().join("train.txt"));
    config.data.split = Some(vec![90, 0, 10]);
    assert!(refused(&config).contains("no validation text"));
    assert!(!folder.path().join("run").exists());
}

/// The mean over steps of one tensor of the checkpoints that a run of `config` leaves after each of `steps`.
fn mean_over(config: &RunConfig, steps: std::ops::RangeInclusive<u64>, name: &str) -> Vec<f64> {
    let count = (steps.end() - steps.start() + 1) as f64;
    let mut mean = Vec::new();
    for step in steps {
        let folder = tempfile::tempdir().unwrap();
        let config =
            RunConfig { training: Training { steps: Some(step), ..config.training.clone() }, ..config.clone() };
        finish(&mut create(&config, &folder.path().join("run")).unwrap());
        let values = &left(&folder.path().join("run")).0[name].1;
        mean.resize(values.len(), 0.0);
        mean.iter_mut().zip(values).for_each(|(mean, value)| *mean += f64::from(*value) / count);
    }
    mean
}

fn assert_close(actual: &[f32], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        assert!((f64::from(*actual) - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{actual} and {expected}");
    }
}

#[test]
fn nt_asgd_averages_from_its_trigger_on_and_evaluates_the_average() {
    let texts = texts(600);
    let mut config = config(&texts);
    config.model.dropout = DropoutRates::default();
    // So high a rate that validation soon gets worse; patience does not end the run before the average has begun.
    (config.training.optimizer, config.training.average, config.training.clip) =
        (OptimizerKind::Sgd, Averaging::NonMonotone(1), None);
    config.training.schedule =
        Schedule { kind: ScheduleKind::Constant, learning_rate: 12.0, ..config.training.schedule };
    (config.training.epochs, config.training.patience) = (Some(12), Some(4));
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (mut began, mut losses, mut last) = (None, Vec::new(), None);
    let mut observer = |event: &Event| match event {
        Event::Averaging { step } => began = Some((*step, losses.clone())),
        Event::Validated { valid, .. } => {
            losses.push(valid.unwrap().mean());
            last = *valid;
        }
        _ => {}
    };
    let mut trainer = create(&config, &run).unwrap();
    trainer.run(&mut observer, None).unwrap();
    let (began, before) = began.expect("the average begins");
    let (loss, earlier) = before.split_last().unwrap();
    assert!(loss > &earlier[..earlier.len() - 1].iter().copied().fold(f64::INFINITY, f64::min), "{before:?}");
    assert!(losses[before.len()..].iter().all(|averaged| averaged < loss), "{before:?} of {losses:?}");
    let (_, model, metrics) = left(&run);
    assert!(metrics.iter().any(|line| line["averaging"] == true && line["step"] == began));
    // Three steps after the trigger the checkpoint has the weights, and beside them the mean of the last three; that is
    // what is validated.
    config.training.steps = Some(began + 3);
    config.training.epochs = None;
    let short = folder.path().join("short");
    let mut trainer = create(&config, &short).unwrap();
    finish(&mut trainer);
    let checkpoint = left(&short).0;
    let name = "readout.weight";
    let mean = mean_over(&config, began + 1..=began + 3, name);
    let average = averaged(&trainer, &checkpoint, name, mean.len());
    assert_close(average, &mean);
    assert_ne!(average, checkpoint[name].1);
    // The best model of the whole run is an average: its loss is the one that was seen.
    let best = LoadedRun::open(&run).unwrap();
    assert_eq!(model[name].1, best.params.by_name(name).unwrap());
    let best_loss = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!((best.card.valid.unwrap().mean() - best_loss).abs() < 1e-9);
    assert!(losses[before.len()..].contains(&best_loss), "{losses:?}");
}

#[test]
fn the_average_of_a_tail_is_the_mean_of_its_weights() {
    let texts = texts(600);
    let mut config = config(&texts);
    config.training.epochs = None;
    config.training.steps = Some(20);
    // Constant, so that shorter runs take the same steps.
    config.training.schedule.kind = ScheduleKind::Constant;
    let mean = mean_over(&config, 16..=20, "readout.weight");
    config.training.average = Averaging::Tail(0.25);
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut began = None;
    let mut observer = |event: &Event| {
        if let Event::Averaging { step } = event {
            began = Some(*step);
        }
    };
    let mut trainer = create(&config, &run).unwrap();
    trainer.run(&mut observer, None).unwrap();
    assert_eq!(began, Some(15));
    let (checkpoint, model, _) = left(&run);
    assert_close(averaged(&trainer, &checkpoint, "readout.weight", mean.len()), &mean);
    // That is what is validated and saved.
    assert_ne!(checkpoint["readout.weight"].1, model["readout.weight"].1);
}

/// The part of a checkpoint's average that is a tensor of so many values.
fn averaged<'a>(trainer: &Trainer, checkpoint: &'a Tensors, name: &str, len: usize) -> &'a [f32] {
    let layout = trainer.model().layout();
    let place = layout.entries().iter().take_while(|entry| entry.name != name);
    let start: usize = place.map(|entry| entry.shape.iter().product::<usize>()).sum();
    let average = &checkpoint["average"].1;
    assert_eq!(average.len(), layout.len());
    &average[start..start + len]
}

#[test]
fn averages_go_on_with_the_same_bits() {
    let texts = texts(600);
    let breaks: [fn(&Event) -> bool; 4] = [
        |event| matches!(event, Event::Step { step: 7, .. }),
        |event| matches!(event, Event::Validated { epoch: 1, .. }),
        |event| matches!(event, Event::Validated { epoch: 4, .. }),
        |event| matches!(event, Event::Step { epoch: 5, of_epoch: (5, _), .. }),
    ];
    let mut config = config(&texts);
    config.training.epochs = Some(6);
    config.training.average = Averaging::Ema(0.9);
    assert!(assert_same_bits(&config, &breaks).contains_key("average"));
    // Before its tail begins, where it does, and within it.
    config.training.average = Averaging::Tail(0.3);
    assert!(assert_same_bits(&config, &breaks).contains_key("average"));
    (config.training.optimizer, config.training.average, config.training.clip) =
        (OptimizerKind::Sgd, Averaging::NonMonotone(1), None);
    config.training.schedule =
        Schedule { kind: ScheduleKind::Constant, learning_rate: 12.0, ..config.training.schedule };
    let breaks: [fn(&Event) -> bool; 3] = [
        |event| matches!(event, Event::Validated { epoch: 0, .. }),
        |event| matches!(event, Event::Averaging { .. }),
        |event| matches!(event, Event::Step { epoch: 9, of_epoch: (5, _), .. }),
    ];
    (config.training.epochs, config.model.dropout) = (Some(10), DropoutRates::default());
    assert!(assert_same_bits(&config, &breaks).contains_key("average"));
}

#[test]
fn a_moving_average_is_what_is_saved() {
    let texts = texts(600);
    let mut config = config(&texts);
    (config.training.epochs, config.training.steps, config.training.average) = (None, Some(4), Averaging::Ema(0.999));
    config.training.schedule.kind = ScheduleKind::Constant;
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    finish(&mut create(&config, &run).unwrap());
    let (checkpoint, model, _) = left(&run);
    // The configuration cannot be given or lose an average on the way.
    let config_file = run.join("config.toml");
    let text = std::fs::read_to_string(&config_file).unwrap();
    std::fs::write(&config_file, text.replace("ema(0.999)", "none")).unwrap();
    let error = Trainer::resume(&run, Extension::default()).unwrap_err().to_string();
    assert!(error.contains("average is \"none\", but was \"ema(0.999)\"") && error.contains("undo that"), "{error}");
    std::fs::write(&config_file, text).unwrap();
    // So early it is the mean of all steps.
    let name = "lstm.weight_hh_l0";
    assert_close(&model[name].1, &mean_over(&config, 1..=4, name));
    assert_ne!(model[name].1, checkpoint[name].1);
}

#[test]
fn the_rate_follows_the_length_of_a_varied_segment() {
    let texts = texts(2000);
    let mut config = config(&texts);
    (config.variable_segment, config.segment, config.training.epochs) = (true, 12, Some(1));
    config.training.schedule =
        Schedule { kind: ScheduleKind::Constant, learning_rate: 0.012, ..config.training.schedule };
    let (rates, _) = rates(&config);
    // A thousandth for every step of a segment; only the last of the epoch may be shorter than five.
    let lengths: Vec<f32> = rates.iter().map(|rate| rate * 1000.0).collect();
    assert!(lengths.iter().all(|length| (length - length.round()).abs() < 1e-3 && *length < 27.5), "{lengths:?}");
    assert!(lengths.iter().rev().skip(1).all(|length| *length > 4.5), "{lengths:?}");
    let tokens = lengths.iter().map(|length| length.round() as usize).sum::<usize>() * 4;
    assert_eq!(tokens, Data::read(&config, None).unwrap().train.ids.len() / 4 * 4);
    assert!(lengths.iter().any(|length| *length < 11.5) && lengths.iter().any(|length| *length > 12.5));
}
