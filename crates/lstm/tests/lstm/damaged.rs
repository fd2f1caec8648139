//! Run folders that are damaged, of another run or in the way, and those of before their files noted what they are.

use std::path::{Path, PathBuf};

use lstm::formats::safetensors::read;
use lstm::run::folder::{Claim, Existing};
use lstm::run::saved::LoadedRun;
use lstm::train::data::Data;
use lstm::train::trainer::{Extension, Trainer};
use tempfile::TempDir;

use crate::training::{config, create, finish, rewrite, tensors, texts};

/// A finished run to damage.
fn finished(texts: &TempDir) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut config = config(texts);
    config.training.epochs = Some(1);
    finish(&mut create(&config, &run).unwrap());
    (folder, run)
}

#[test]
fn damaged_runs_say_what_is_wrong() {
    let texts = texts(600);
    let resume = |run: &Path| Trainer::resume(run, Extension::default()).unwrap_err().to_string();
    let open = |run: &Path| LoadedRun::open(run).unwrap_err().to_string();
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let cut: Damage = |bytes| bytes[..bytes.len() / 2].to_vec();
    let flip: Damage = |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        bytes
    };
    let newer: Damage = |bytes| String::from_utf8(bytes).unwrap().replace("version = 2", "version = 3").into_bytes();
    let newer_json: Damage =
        |bytes| String::from_utf8(bytes).unwrap().replace("\"version\": 3", "\"version\": 4").into_bytes();
    let misspelt: Damage = |bytes| {
        String::from_utf8(bytes).unwrap().replace("patience", "patients").replace("batch =", "bach =").into_bytes()
    };
    let (_folder, run) = finished(&texts);
    for (file, damage, said) in [
        ("checkpoint.safetensors", cut, "truncated or damaged"),
        ("checkpoint.safetensors", flip, "truncated or damaged"),
        ("model.safetensors", cut, "truncated or damaged"),
        ("model.safetensors", flip, "truncated or damaged"),
        ("config.toml", newer, "version 3 is newer than 2"),
        ("config.toml", misspelt, "bach"),
        ("tokenizer.json", newer_json, "version 4 is newer than 3"),
        ("tokenizer.json", cut, "not a tokenizer"),
    ] {
        let path = run.join(file);
        let healthy = std::fs::read(&path).unwrap();
        std::fs::write(&path, damage(healthy.clone())).unwrap();
        let error = if file == "checkpoint.safetensors" { resume(&run) } else { open(&run) };
        assert!(error.contains(said) && error.contains(file), "{error}");
        std::fs::write(&path, healthy).unwrap();
    }
    LoadedRun::open(&run).unwrap();
    assert!(open(texts.path()).contains("not a run folder"));
}

#[test]
fn a_model_and_a_tokenizer_or_text_that_do_not_belong_together_are_refused() {
    let texts = texts(600);
    let other_texts = self::texts(900);
    let (_folder, run) = finished(&texts);
    let (_other_folder, other) = finished(&other_texts);
    let original = std::fs::read(run.join("tokenizer.json")).unwrap();
    std::fs::copy(other.join("tokenizer.json"), run.join("tokenizer.json")).unwrap();
    let error = LoadedRun::open(&run).unwrap_err().to_string();
    assert!(error.contains("another tokenizer"), "{error}");
    std::fs::write(run.join("tokenizer.json"), original).unwrap();
    std::fs::write(texts.path().join("train.txt"), "the dog sleeps .\n".repeat(200)).unwrap();
    let error = Trainer::resume(&run, Extension::default()).unwrap_err().to_string();
    assert!(error.contains("is not what the run was trained on"), "{error}");
}

#[test]
fn a_folder_that_exists_is_never_overwritten_unasked() {
    let texts = texts(600);
    let config = config(&texts);
    let (_folder, run) = finished(&texts);
    let before = std::fs::read(run.join("model.safetensors")).unwrap();
    let error = create(&config, &run).unwrap_err().to_string();
    assert!(error.contains("`force`") && error.contains("`resume`"), "{error}");
    let error = create(&config, texts.path()).unwrap_err().to_string();
    assert!(error.contains("not a run folder"), "{error}");
    assert_eq!(std::fs::read(run.join("model.safetensors")).unwrap(), before);
    // Not even asked, before the new run's files are written in full.
    let claim = Claim::new(&run, Existing::Replace).unwrap();
    let error =
        Trainer::create(config.clone(), Data::read(&config, None).unwrap(), &run, Existing::Replace).unwrap_err();
    assert!(error.to_string().contains("is being written by process"), "{error}");
    drop(claim);
    assert_eq!(std::fs::read(run.join("model.safetensors")).unwrap(), before);
    Trainer::create(config.clone(), Data::read(&config, None).unwrap(), &run, Existing::Replace).unwrap();
    assert!(!run.join("model.safetensors").exists());
    assert!(LoadedRun::open(&run).unwrap_err().to_string().contains("no model yet"));
}

#[test]
fn a_tensor_that_nothing_reads_is_refused() {
    let texts = texts(600);
    let (_folder, run) = finished(&texts);
    for file in ["model.safetensors", "checkpoint.safetensors"] {
        let healthy = std::fs::read(run.join(file)).unwrap();
        rewrite(&run.join(file), |tensors, _| drop(tensors.insert("strange".to_owned(), (vec![1], vec![1.0]))));
        let error = match file {
            "model.safetensors" => LoadedRun::open(&run).unwrap_err().to_string(),
            _ => Trainer::resume(&run, Extension::default()).unwrap_err().to_string(),
        };
        assert!(error.contains(file) && error.contains("a tensor strange"), "{error}");
        std::fs::write(run.join(file), healthy).unwrap();
    }
}

#[test]
fn a_run_of_before_its_files_noted_their_settings_opens_and_goes_on() {
    let texts = texts(600);
    let (_folder, run) = finished(&texts);
    let expected = tensors(&read(&run.join("model.safetensors")).unwrap());
    for file in ["model.safetensors", "checkpoint.safetensors"] {
        rewrite(&run.join(file), |_, document| {
            let document = document.as_object_mut().unwrap();
            assert!(document.remove("config").is_some() && document.remove("tokenizer_file").is_some());
            document.remove("metrics");
        });
    }
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(!config.contains("lengthened"), "what is not set is not written");
    assert_eq!(
        LoadedRun::open(&run).unwrap().params.by_name("embedding.weight").unwrap(),
        expected["embedding.weight"].1
    );
    let extension = Extension { epochs: Some(2), ..Extension::default() };
    finish(&mut Trainer::resume(&run, extension).unwrap());
    let noted = &read(&run.join("checkpoint.safetensors")).unwrap().document["config"];
    assert_eq!(noted["training"]["epochs"], 2);
}
