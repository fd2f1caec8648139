//! Students: what they learn of teachers, and what keeps them from going on with others.

use std::path::PathBuf;

use lstm::run::config::RunConfig;
use lstm::run::saved::LoadedRun;
use lstm::text::batch::Batching;
use lstm::train::event::Event;
use lstm::train::trainer::{Extension, Trainer};
use tempfile::TempDir;

use crate::training::{assert_same_bits, config, create, finish, texts};

/// Two trained models of other sizes and seeds, beside their texts.
fn teachers(texts: &TempDir, batching: Batching) -> Vec<PathBuf> {
    let teacher = |seed: u64| {
        let mut config = config(texts);
        (config.batching, config.training.seed, config.model.lstm.hidden) =
            (batching, seed, (8 + seed as usize).into());
        let folder = texts.path().join(format!("teacher-{batching}-{seed}"));
        finish(&mut create(&config, &folder).unwrap());
        folder
    };
    vec![teacher(1), teacher(2)]
}

fn taught(texts: &TempDir, batching: Batching) -> RunConfig {
    let mut config = config(texts);
    (config.batching, config.training.seed) = (batching, 3);
    config.teaching.models = teachers(texts, batching);
    config
}

#[test]
fn a_student_goes_on_with_the_same_bits_however_its_text_is_cut() {
    let texts = texts(600);
    for batching in [Batching::Stream, Batching::Lines, Batching::Windows(4)] {
        let mut config = taught(&texts, batching);
        let is_stream = batching == Batching::Stream;
        (config.variable_segment, config.partial_shuffle, config.training.accumulate) = (is_stream, is_stream, 2);
        config.training.shards = is_stream.then_some(2);
        assert_same_bits(
            &config,
            &[
                |event| matches!(event, Event::Step { step: 3, .. }),
                |event| matches!(event, Event::Validated { epoch: 0, .. }),
            ],
        );
    }
}

#[test]
fn a_student_learns_what_its_teachers_say() {
    let texts = texts(600);
    let mut config = taught(&texts, Batching::Stream);
    let result = |config: &RunConfig| {
        let folder = tempfile::tempdir().unwrap();
        finish(&mut create(config, &folder.path().join("run")).unwrap());
        LoadedRun::open(&folder.path().join("run")).unwrap()
    };
    // So little weight that it is alone but for rounding.
    config.teaching.weight = 1e-6;
    let barely = result(&config);
    config.teaching.weight = 0.5;
    let student = result(&config);
    assert_eq!(student.config.teaching.parameters.len(), 2);
    config.teaching = Default::default();
    let alone = result(&config);
    let distance = |a: &LoadedRun, b: &LoadedRun| {
        let pairs = a.params.values().iter().zip(b.params.values());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(distance(&barely, &alone) < 0.1 * distance(&student, &alone), "{}", distance(&barely, &alone));
    // Teachers see no validation and no test: those that are read by the student are its own.
    assert!(student.card.valid.unwrap().perplexity() < 1.5 * alone.card.valid.unwrap().perplexity());
}

/// They read the text inside the budget, and the run was planned for all of it.
#[test]
fn teachers_that_would_take_the_most_of_the_time_are_refused_at_once() {
    let texts = texts(600);
    let mut config = taught(&texts, Batching::Stream);
    config.training.epochs = None;
    let run = texts.path().join("run");
    config.training.budget = Some(1e-3);
    let error = create(&config, &run).unwrap_err().to_string();
    assert!(error.contains("the teachers would take") && error.contains("`budget`"), "{error}");
    assert!(!run.exists());
    config.training.budget = Some(30.0);
    let trainer = create(&config, &run).unwrap();
    assert!(trainer.teaching_seconds().is_some_and(|seconds| seconds > 0.0));
}

#[test]
fn a_student_whose_teachers_changed_does_not_go_on() {
    let texts = texts(600);
    let config = taught(&texts, Batching::Stream);
    let folder = texts.path().join("student");
    finish(&mut create(&config, &folder).unwrap());
    let longer = || Trainer::resume(&folder, Extension { epochs: Some(3), ..Extension::default() });
    // Another trained model of the same shape in its place.
    let mut other = self::config(&texts);
    (other.training.seed, other.model.lstm.hidden, other.training.epochs) = (2, 10.into(), Some(1));
    let another = texts.path().join("another");
    finish(&mut create(&other, &another).unwrap());
    std::fs::remove_dir_all(&config.teaching.models[1]).unwrap();
    let error = longer().unwrap_err().to_string();
    assert!(error.contains("a teacher cannot be used") && error.contains("teacher-stream-2"), "{error}");
    assert!(error.contains("`teach` beside `resume`"), "{error}");
    std::fs::rename(&another, &config.teaching.models[1]).unwrap();
    let error = longer().unwrap_err().to_string();
    assert!(error.contains("another teacher than") && error.contains("teacher-stream-2"), "{error}");
}

#[test]
fn what_does_not_go_with_teachers_is_refused_by_name() {
    let texts = texts(600);
    let refused = |config: &RunConfig| create(config, &texts.path().join("run")).unwrap_err().to_string();
    let plain = taught(&texts, Batching::Stream);
    let mut config = plain.clone();
    config.candidates = Some(5);
    assert!(refused(&config).contains("leave `candidates` or `teach` out"));
    let mut config = plain.clone();
    config.model.softmaxes = 2;
    assert!(refused(&config).contains("leave `softmaxes` or `teach` out"));
    let mut config = plain.clone();
    config.model.penalties.label_smoothing = 0.1;
    assert!(refused(&config).contains("leave `label-smoothing` or `teach` out"));
    for weight in [0.0, 1.1, f32::NAN, -1.0] {
        let mut config = plain.clone();
        config.teaching.weight = weight;
        assert!(refused(&config).contains("`teach-weight` is"), "{weight}");
    }
    // Other tokens, another way to read.
    let mut config = plain.clone();
    config.vocabulary.min_count = Some(20);
    let error = refused(&config);
    assert!(error.contains("teacher-stream-1 does not read the tokens of") && error.contains("token"), "{error}");
    let mut config = plain.clone();
    config.batching = Batching::Lines;
    assert!(refused(&config).contains("teacher-stream-1"));
    assert!(!texts.path().join("run").exists());
}
