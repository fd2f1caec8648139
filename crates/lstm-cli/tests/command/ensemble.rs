use std::path::Path;

use serde_json::Value;

use crate::{TINY, line, trained};

/// A folder with `text.txt` and the runs `run` and `two` of it, of other sizes.
fn two() -> tempfile::TempDir {
    let folder = trained("");
    let said = line(folder.path(), &format!("train text.txt {TINY} --seed 2 --out two --residual"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    folder
}

/// A command line that is refused in a sentence with all of these, and nothing else.
pub fn refused(folder: &Path, arguments: &str, expected: &[&str]) {
    let said = line(folder, arguments);
    assert_eq!(said.code, Some(2), "{arguments}: {}", said.err);
    for part in expected {
        assert!(said.err.contains(part), "{arguments}: {}", said.err);
    }
    assert!(said.out.is_empty() && !said.err.contains("panicked"), "{arguments}: {}", said.err);
}

#[test]
fn models_are_measured_alone_and_as_one() {
    let folder = two();
    let folder = folder.path();
    let nats = |value: &Value| value["nll"].as_f64().unwrap();
    for text in ["text.txt", ""] {
        let result = line(folder, &format!("ensemble run two/model.safetensors {text} --json")).json();
        let members = result["members"].as_array().unwrap();
        assert_eq!((members.len(), &members[1]["model"]), (2, &"two/model.safetensors".into()));
        for (member, run) in members.iter().zip(["run", "two"]) {
            let text = if text.is_empty() { "".to_owned() } else { text.to_owned() };
            let alone = line(folder, &format!("eval {run} {text} --json")).json();
            for key in ["perplexity", "nll", "tokens", "bits_per_char", "word_perplexity"] {
                assert_eq!(member[key], alone[key], "{run} {key}");
            }
            assert_eq!(member["share"], 0.5);
        }
        assert!(nats(&result) < (nats(&members[0]) + nats(&members[1])) / 2.0);
        assert_eq!(result["tokens"], members[0]["tokens"]);
    }
    let on = |options: &str| {
        let mut result = line(folder, &format!("ensemble run two text.txt --json {options}")).json();
        result["seconds"].take();
        result
    };
    assert_eq!(on("--threads 1"), on("--threads 2"));
    assert_ne!(on("--shares 3,1"), on(""));
    assert_eq!(on("--shares 3,1")["members"][0]["share"], 0.75);
    assert_eq!(on("--shares 1,0")["nll"], line(folder, "eval run text.txt --json").json()["nll"]);
    let tuned = on("--shares tuned");
    let sum: f64 = tuned["members"].as_array().unwrap().iter().map(|member| member["share"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{tuned}");
    let said = line(folder, "ensemble run two text.txt");
    let rows: Vec<&str> = said.out.lines().collect();
    assert!(rows[1].starts_with("run ") && rows[2].starts_with("two ") && rows[3].starts_with("mean "), "{}", said.out);
    assert!(rows[4].contains("unknown to the models") && rows[5].starts_with("per word"), "{}", said.out);
}

#[test]
fn models_score_and_write_together() {
    let folder = two();
    let folder = folder.path();
    let said = line(folder, "score run text.txt --with two --json");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let tokens = |out: &str| -> f64 {
        let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .flat_map(|line| line["tokens"].as_array().unwrap().clone())
            .map(|token| token["nats"].as_f64().unwrap())
            .sum()
    };
    let mean = line(folder, "ensemble run two text.txt --json").json();
    let expected = mean["nll"].as_f64().unwrap() * mean["tokens"].as_f64().unwrap();
    assert!((tokens(&said.out) / expected - 1.0).abs() < 1e-5, "{} {expected}", tokens(&said.out));
    let write = |options: &str| {
        let said = line(folder, &format!("generate run --length 30 --json {options}"));
        said.json()["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(write("--with two --seed 3"), write("--with two --seed 3"));
    assert_eq!(write("--with two --shares 1,0 --temperature 0"), write("--temperature 0"));
    assert_eq!(write("--with run --beam 3"), write("--beam 3"));
    assert_eq!(line(folder, "generate run --with two --weights int8 --samples 2").code, Some(0));
}

#[test]
fn a_student_learns_from_models_and_says_so() {
    let folder = two();
    let folder = folder.path();
    let said = line(
        folder,
        &format!("train text.txt {TINY} --seed 3 --out student --teach run,two --teach-weight 0.7 --json"),
    );
    assert!(said.err.contains("teachers ") && said.err.contains("with a weight of 0.7"), "{}", said.err);
    let result = said.json();
    let config = std::fs::read_to_string(folder.join("student/config.toml")).unwrap();
    assert!(config.contains("[teaching]") && config.contains("weight = 0.7"), "{config}");
    let alone = line(folder, &format!("train text.txt {TINY} --seed 3 --out alone --json")).json();
    assert_ne!(result["test"]["perplexity"], alone["test"]["perplexity"]);
    assert!(!std::fs::read_to_string(folder.join("alone/config.toml")).unwrap().contains("teaching"));
    let more = line(folder, "train --resume student --epochs 3");
    assert_eq!(more.code, Some(0), "{}", more.err);
    std::fs::rename(folder.join("two"), folder.join("moved")).unwrap();
    refused(
        folder,
        "train --resume student --epochs 4",
        &["a teacher cannot be used", "two", "--teach beside --resume"],
    );
    // Named where they lie now, they are those that it had, or refused.
    refused(
        folder,
        "train --resume student --teach run --epochs 4",
        &["--teach names 1 model, but the run has 2 teachers", "2 teachers"],
    );
    refused(folder, "train --resume student --teach moved,run --epochs 4", &["another teacher than", "moved"]);
    refused(folder, "train --resume alone --teach run --epochs 4", &["--teach says where teachers lie", "has none"]);
    let said = line(folder, "train --resume student --teach run,moved --epochs 4");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(line(folder, "train --resume student --epochs 5").code, Some(0));
    // The student itself needs no teachers.
    assert_eq!(line(folder, "eval student text.txt").code, Some(0));
}

#[test]
fn models_that_do_not_go_together_are_refused_by_name() {
    let folder = two();
    let folder = folder.path();
    assert_eq!(line(folder, &format!("train text.txt {TINY} --tokenizer chars --out letters")).code, Some(0));
    assert_eq!(line(folder, &format!("train text.txt {TINY} --batches lines --out lines")).code, Some(0));
    assert_eq!(
        line(folder, &format!("train text.txt {TINY} --tokenizer words --vocab-size 7 --out fewer")).code,
        Some(0)
    );
    refused(folder, "ensemble run letters text.txt", &["letters does not read the tokens of run", "chars, not words"]);
    refused(folder, "ensemble run lines text.txt", &["lines", "markers"]);
    refused(folder, "ensemble run fewer text.txt", &["fewer does not read the tokens of run", "--tokenizer"]);
    refused(folder, "ensemble run text.txt", &["two models or more", "lstm eval"]);
    refused(folder, "ensemble run", &["two models or more"]);
    refused(folder, "ensemble run nothing two", &["nothing"]);
    refused(folder, "ensemble run two missing.txt", &["missing.txt"]);
    refused(folder, "ensemble run two --lossy", &["--lossy"]);
    refused(folder, "ensemble run two text.txt --shares 1,2,3", &["--shares has 3 numbers for 2 models"]);
    refused(folder, "ensemble run two text.txt --shares best", &["equal, tuned"]);
    refused(folder, "ensemble two/model.safetensors run text.txt --shares tuned", &["validation text", "--shares"]);
    refused(folder, "generate run --with letters", &["letters does not read the tokens of run"]);
    refused(folder, "generate run --shares 1,2", &["--shares has no part without --with"]);
    refused(folder, "score run text.txt --shares 1", &["--shares has no part without --with"]);
    let train = format!("train text.txt {TINY} --out student");
    refused(folder, &format!("{train} --teach letters"), &["letters does not read the tokens", "--tokenizer"]);
    // Before anything is planned for what they would teach.
    let said = line(folder, "train text.txt --tokenizer words --budget 5s --out student --teach letters");
    assert!(said.code == Some(2) && said.err.contains("letters does not read the tokens"), "{}", said.err);
    assert!(!said.err.contains("plan  "), "{}", said.err);
    refused(folder, &format!("{train} --teach run --candidates 5"), &["--candidates", "--teach"]);
    refused(folder, &format!("{train} --teach run --softmaxes 2"), &["--softmaxes", "--teach"]);
    refused(folder, &format!("{train} --teach-weight 0.5"), &["--teach-weight has no part without --teach"]);
    refused(folder, &format!("{train} --teach run --teach-weight 0"), &["--teach-weight is 0"]);
    assert!(!folder.join("student").exists());
}
