//! A run folder of the first version of `config.toml`, stored as it was left: it opens, and goes on, as one of today.

use std::path::Path;

use lstm::formats::safetensors::read;
use lstm::nn::config::Wiring;
use lstm::run::config::RunConfig;
use lstm::run::folder::Existing;
use lstm::run::saved::LoadedRun;
use lstm::text::batch::Batching;
use lstm::train::data::Data;
use lstm::train::trainer::{Extension, Trainer};

/// A copy of the stored run, which `golden/version-1.sh` made.
fn stored(folder: &Path) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/version-1");
    std::fs::create_dir(folder).unwrap();
    for entry in std::fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_run_of_the_first_version_opens_and_scores_what_it_scored() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    stored(&run);
    let LoadedRun { config, model, card, .. } = LoadedRun::open(&run).unwrap();
    assert_eq!((config.training.batch, config.training.steps, config.training.seed), (4, Some(10), 4));
    let lstm = &config.model.lstm;
    assert_eq!((lstm.input, lstm.layers, lstm.wiring, lstm.variant.coupled), (3, 2, Wiring::Skip, true));
    assert_eq!(model.layout().len(), 426);
    let loaded = LoadedRun::open(&run).unwrap();
    let text = loaded.validation_text().unwrap().unwrap();
    let evaluation =
        lstm::evaluate::Evaluation::new(&model, &loaded.params, &loaded.tokenizer, &text, Batching::Stream, 4);
    let (found, noted) = (evaluation.unwrap().finish(), card.valid.unwrap());
    assert_eq!(found.tokens, noted.tokens);
    assert!((found.nll / noted.nll - 1.0).abs() < 1e-5, "{found:?} {noted:?}");
}

#[test]
fn a_run_of_the_first_version_goes_on_as_if_it_were_of_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| folder.path().join(name));
    stored(&old);
    let extension = Extension { steps: Some(20), ..Extension::default() };
    Trainer::resume(&old, extension).unwrap().run(&mut |_| (), None).unwrap();
    // Once resumed it is one of this version, which goes on too.
    let written = std::fs::read_to_string(old.join("config.toml")).unwrap();
    assert!(written.starts_with("version = 2") && written.contains("[model.lstm]"), "{written}");
    assert!(Trainer::resume(&old, Extension::default()).unwrap().ended_by().is_some());

    let mut config: RunConfig = LoadedRun::open(&old).unwrap().config;
    config.data.train = Some(old.join("text.txt"));
    let data = Data::read(&config, None).unwrap();
    Trainer::create(config, data, &new, Existing::Refuse).unwrap().run(&mut |_| (), None).unwrap();
    let [gone_on, anew] = [&old, &new].map(|folder| read(&folder.join("checkpoint.safetensors")).unwrap());
    assert_eq!(gone_on.tensors().len(), anew.tensors().len());
    for (name, shape, values) in gone_on.tensors() {
        let (expected_shape, expected) = anew.get(name).unwrap();
        assert_eq!(shape, expected_shape);
        // Another instruction set than the stored run's rounds in another way.
        let close = values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs()));
        assert!(close, "{name}: {values:?} {expected:?}");
    }
}
