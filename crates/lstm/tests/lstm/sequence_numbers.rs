//! Whole runs over sequences of numbers: labels and numbers, values that are missing, a stop between, a file alone, a choice for a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lstm::formats::safetensors::read;
use lstm::nn::config::LstmConfig;
use lstm::rng::{Purpose, Rng};
use lstm::run::TaskKind;
use lstm::run::error::TrainError;
use lstm::run::folder::{Claim, Existing};
use lstm::sequence::config::SequenceConfig;
use lstm::sequence::data::SequenceDataset;
use lstm::sequence::plan::SequencePlan;
use lstm::sequence::saved::LoadedSequence;
use lstm::train::event::{End, Event};
use lstm::train::trainer::{Extension, Trainer};

/// Writes `count` sequences of two values a step: a wave, faster in the one class than in the other, and noise. Their lengths differ, and
/// of every fifth some values are missing. The label is the class; or the number of the wave's speed.
fn waves(path: &Path, count: usize, seed: u64, numbers: bool) {
    let mut rng = Rng::new(seed, Purpose::Init, 9);
    let mut text = format!("@{}\n@data\n", if numbers { "targetLabel true" } else { "classLabel true slow fast" });
    for at in 0..count {
        let speed = if numbers { rng.uniform_in(0.2, 1.2) } else { [0.3, 0.6][at % 2] };
        let (phase, steps) = (rng.uniform_in(0.0, 6.0), 18 + (rng.bits() % 8) as usize);
        let wave: Vec<String> = (0..steps)
            .map(|t| match at % 5 == 0 && t % 7 == 3 {
                true => "?".to_owned(),
                false => format!("{:.3}", 40.0 + 7.0 * (phase + speed * t as f32).sin() + rng.normal()),
            })
            .collect();
        let noise: Vec<String> = (0..steps).map(|_| format!("{:.3}", 1e3 * rng.normal())).collect();
        let label = if numbers { format!("{:.4}", 100.0 * speed) } else { ["slow", "fast"][at % 2].to_owned() };
        text += &format!("{}:{}:{label}\n", wave.join(","), noise.join(","));
    }
    std::fs::write(path, text).unwrap();
}

/// Settings that learn these in a moment.
fn settings(task: TaskKind, train: PathBuf, test: PathBuf) -> SequenceConfig {
    let mut config = SequenceConfig::usual_of_numbers(task);
    config.model.lstm = LstmConfig { bidirectional: true, ..LstmConfig::new(8, 12) };
    config.model.initial_states = true;
    if let Some(numbers) = &mut config.model.numbers {
        (numbers.patch, numbers.stride, numbers.noise, numbers.gain) = (4, 2, 0.1, 0.1);
    }
    config.training.schedule.learning_rate = 0.01;
    config.training.epochs = Some(15);
    (config.data.train, config.data.test) = (Some(train), Some(test));
    config
}

#[test]
fn labels_and_numbers_are_learned_with_the_same_bits_after_a_stop_and_by_the_file_alone() {
    for task in [TaskKind::Classify, TaskKind::Regress] {
        let folder = tempfile::tempdir().unwrap();
        let [train, test] = ["train.ts", "test.ts"].map(|name| folder.path().join(name));
        let is_regression = task == TaskKind::Regress;
        waves(&train, 120, 1, is_regression);
        waves(&test, 60, 2, is_regression);
        let config = settings(task, train.clone(), test.clone());
        let begin = |name: &str| {
            let mut config = config.clone();
            let data = SequenceDataset::read(&mut config, None).unwrap();
            assert_eq!((config.model.outputs, config.features_of_a_step()), (if is_regression { 1 } else { 2 }, 2));
            let claim = Claim::new(&folder.path().join(name), Existing::Refuse).unwrap();
            Trainer::begin_sequences(config, data, claim).unwrap()
        };
        let outcome = begin("whole").run(&mut |_| (), None).unwrap();
        let stop = AtomicBool::new(false);
        let mut observer = |event: &Event| {
            if matches!(event, Event::Step { step: 43, .. }) {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let stopped = folder.path().join("stopped");
        assert_eq!(begin("stopped").run(&mut observer, Some(&stop)).unwrap().end, End::Interrupted);
        let mut trainer = Trainer::resume_sequences(&stopped, &Extension::default()).unwrap();
        assert_eq!((trainer.step(), trainer.run(&mut |_| (), None).unwrap().test), (43, outcome.test));
        drop(trainer);
        let whole = folder.path().join("whole");
        for file in ["model.safetensors", "checkpoint.safetensors"] {
            let [once, again] = [&whole, &stopped].map(|folder| read(&folder.join(file)).unwrap());
            assert_eq!(once.tensors(), again.tensors(), "{file}");
        }
        assert!(!whole.join("tokenizer.json").exists());
        // From the folder, and from the file alone wherever it lies: the scales are in it.
        let alone = folder.path().join("alone.safetensors");
        std::fs::copy(whole.join("model.safetensors"), &alone).unwrap();
        let [of_folder, of_file] = [&whole, &alone].map(|path| LoadedSequence::open(path).unwrap());
        let examples = of_folder.read(&test).unwrap();
        let predictions = of_folder.predict_numbers(&examples.series).unwrap();
        assert_eq!(of_file.predict_sequences(&of_file.read_unlabelled(&test).unwrap().sequences), predictions);
        if is_regression {
            let said: Vec<f64> = predictions.iter().map(|prediction| of_file.said(prediction)[0]).collect();
            let error = |said: f64, right: &Vec<f64>| (said - right[0]).powi(2);
            let errors: f64 = said.iter().zip(&examples.targets).map(|(said, right)| error(*said, right)).sum();
            let mean = examples.targets.iter().map(|right| right[0]).sum::<f64>() / 60.0;
            let of_mean: f64 = examples.targets.iter().map(|right| error(mean, right)).sum();
            assert!(errors < 0.3 * of_mean, "{errors} against {of_mean}");
        } else {
            let right = |at: &usize| predictions[*at].best() == examples.sequences.labels(*at)[0] as usize;
            let right = (0..60).filter(right).count();
            assert!(right >= 54, "{right} of 60");
        }
        // Neither words nor sequences of other values are read.
        assert!(of_file.predict(&["a word"]).unwrap_err().to_string().contains("sequences of numbers"));
        assert!(of_file.predict_numbers(&[vec![1.0; 3]]).unwrap_err().to_string().contains("no steps of 2"));
        // Data that changed are noticed.
        waves(&train, 119, 1, is_regression);
        let error = Trainer::resume_sequences(&stopped, &Extension::default()).unwrap_err().to_string();
        assert!(error.contains("is not what the run was trained on"), "{error}");
    }
}

#[test]
fn few_sequences_are_all_trained_on_in_the_time_and_the_run_goes_on() {
    for task in [TaskKind::Classify, TaskKind::Regress] {
        let folder = tempfile::tempdir().unwrap();
        let [train, test, run] = ["train.ts", "test.ts", "run"].map(|name| folder.path().join(name));
        waves(&train, 40, 3, task == TaskKind::Regress);
        waves(&test, 20, 4, task == TaskKind::Regress);
        let over = |mut config: SequenceConfig| -> Result<SequenceConfig, TrainError> {
            (config.data.train, config.data.test) = (Some(train.clone()), Some(test.clone()));
            (config.training.epochs, config.training.budget) = (None, Some(2.0));
            Ok(config)
        };
        let mut config = over(SequenceConfig::usual_of_numbers(task)).unwrap();
        let mut data = Arc::new(SequenceDataset::read(&mut config, None).unwrap());
        let plan = SequencePlan::choose(&config, &mut data, 2.0, &over).unwrap();
        assert_eq!(plan.config.data.split, Some(vec![100, 0, 0]), "{:?}", plan.why);
        assert!((3..=6).contains(&plan.why.len()), "{:?}", plan.why);
        // On a busy machine there may be no time to try anything.
        assert!(plan.why[0].contains("patch") || plan.why[0].contains("nothing else"), "{:?}", plan.why);
        let claim = Claim::new(&run, Existing::Refuse).unwrap();
        let mut trainer = Trainer::begin_sequences(plan.config.clone(), data, claim).unwrap();
        assert!(trainer.run(&mut |_| (), None).unwrap().test.unwrap().mean().is_finite());
        drop(trainer);
        // It goes on from there, whatever part of the data it was chosen on.
        Trainer::resume_sequences(&run, &Extension::default()).unwrap();
    }
}
