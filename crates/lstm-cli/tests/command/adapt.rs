use std::path::Path;

use crate::{folder, line, trained};

/// Explicit settings of both, for tests that tune nothing.
const CACHE: &str = "--cache-theta 0.5 --cache-weight 0.2 --cache-window 50";
const DYNAMIC: &str = "--dynamic-rate 0.001 --dynamic-decay 0.001 --dynamic-segment 10";

fn refused(folder: &Path, arguments: &str, expected: &[&str]) {
    let said = line(folder, &format!("eval run text.txt {arguments}"));
    assert_eq!(said.code, Some(2), "{arguments}: {}", said.err);
    for part in expected {
        assert!(said.err.contains(part), "{arguments}: {}", said.err);
    }
    assert!(said.out.is_empty() && !said.err.contains("panicked"), "{arguments}: {}", said.err);
}

#[test]
fn settings_are_tuned_once_and_used_from_then_on() {
    let folder = trained("--optimizer adam --unigram-bias=false");
    let stored = folder.path().join("run/adaptation.toml");
    let read = || std::fs::read_to_string(&stored).unwrap();
    let plain = line(folder.path(), "eval run text.txt --json").json();
    assert!(plain["adapted"].is_null() && !stored.exists());

    let said = line(folder.path(), "eval run text.txt --adapt cache --json");
    for talk in ["perplexity with its best weight", "theta", "chosen   cache of theta", "adaptation.toml"] {
        assert!(said.err.contains(talk), "{}", said.err);
    }
    let result = said.json();
    assert_eq!(result["perplexity"], plain["perplexity"]);
    let adapted = &result["adapted"];
    assert_eq!((&adapted["adapt"], &adapted["tokens"]), (&"cache".into(), &plain["tokens"]));
    assert!(adapted["cache"]["window"].is_u64() && adapted["dynamic"].is_null() && adapted["seconds"].is_f64());
    for key in ["perplexity", "nll", "word_perplexity", "bits_per_char"] {
        assert!(adapted[key].as_f64().unwrap() > 0.0, "{key}");
    }
    let text = read();
    assert!(text.contains("[cache]") && !text.contains("[dynamic]"), "{text}");

    // The second time there is nothing to say; what is tuned beside it leaves it alone.
    let said = line(folder.path(), "eval run text.txt --adapt cache --json");
    assert!(said.err.is_empty(), "{}", said.err);
    assert_eq!(said.json()["adapted"]["perplexity"], adapted["perplexity"]);
    let said = line(folder.path(), "eval run text.txt --adapt both --json");
    assert!(said.err.contains("chosen   dynamic at rate"), "{}", said.err);
    let both = said.json()["adapted"].clone();
    assert!(both["cache"].is_object() && both["dynamic"]["segment"].is_u64());
    // The checksum above the settings is another; they are the same.
    let settings = &text[text.find("[cache]").unwrap()..];
    assert!(read().contains("[dynamic]") && read().contains("[cache_with_dynamic]") && read().contains(settings));
    let said = line(folder.path(), "eval run text.txt --adapt dynamic --json");
    assert!(said.err.is_empty(), "{}", said.err);
    assert_eq!(said.json()["adapted"]["dynamic"], both["dynamic"]);

    // An option overrides one setting; --tune begins anew.
    let said = line(folder.path(), "eval run text.txt --adapt cache --cache-weight 0 --json").json();
    assert!((said["adapted"]["nll"].as_f64().unwrap() - plain["nll"].as_f64().unwrap()).abs() < 1e-9);
    assert_eq!(said["adapted"]["cache"]["window"], adapted["cache"]["window"]);
    std::fs::write(&stored, text.replace("theta = ", "theta = 7")).unwrap();
    let said = line(folder.path(), "eval run text.txt --adapt cache");
    assert!(said.code == Some(2) && said.err.contains("its checksum is wrong"), "{}", said.err);
    let said = line(folder.path(), "eval run text.txt --adapt cache --tune");
    assert_eq!((said.code, read()), (Some(0), text));
    assert!(said.out.lines().nth(2).unwrap().starts_with("adapted    "), "{}", said.out);
    assert!(said.out.lines().nth(3).unwrap().starts_with("per word   "), "{}", said.out);

    // Columns have rates of their own.
    let said = line(folder.path(), "eval run text.txt --adapt dynamic --dynamic-columns 3 --json");
    assert!(said.err.contains("chosen   dynamic at rate") && said.err.contains("in 3 columns"), "{}", said.err);
    assert_eq!((said.json()["adapted"]["dynamic"]["columns"]).as_u64(), Some(3));
    assert!(read().contains("columns = 3"), "{}", read());

    // Another model in the same folder is tuned for by itself.
    let more = line(folder.path(), "train --resume run --epochs 8");
    assert_eq!(more.code, Some(0), "{}", more.err);
    let said = line(folder.path(), "eval run text.txt --adapt cache");
    assert!(said.err.contains("chosen   cache"), "{}", said.err);
}

#[test]
fn given_settings_need_no_validation_text_and_any_batching_adapts() {
    for (batching, adapt) in [
        ("--batches stream", "cache"),
        ("--batches lines", "both"),
        ("--batches windows(3)", "both"),
        ("--tokenizer chars", "dynamic"),
    ] {
        let folder = folder();
        let tiny = "--hidden 8 --embedding 6 --batch 4 --epochs 1 --optimizer adam --unigram-bias=false";
        let said = line(folder.path(), &format!("train text.txt --split 90/0/10 {tiny} --out run {batching}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        let settings = match adapt {
            "cache" => CACHE.to_owned(),
            "dynamic" => DYNAMIC.to_owned(),
            _ => format!("{CACHE} {DYNAMIC}"),
        };
        let said = line(folder.path(), &format!("eval run text.txt --adapt {adapt} {settings} --json"));
        let result = said.json();
        let nats = |value: &serde_json::Value| value["nll"].as_f64().unwrap();
        // Whether it helps on such a text is not the point here.
        let difference = (nats(&result["adapted"]) - nats(&result)).abs();
        assert!(difference > 1e-6 && difference < 0.3, "{batching}: {result}");
        let weight = if adapt == "dynamic" { serde_json::Value::Null } else { 0.2.into() };
        assert_eq!(result["adapted"]["cache"]["weight"], weight);
        assert!(!folder.path().join("run/adaptation.toml").exists());
        let arguments = format!("--adapt {adapt}");
        refused(folder.path(), &arguments, &["run has no validation text to tune", "train with --valid"]);
    }
}

#[test]
fn adaptations_that_cannot_be_made() {
    let folder = trained("");
    let refused = |arguments: &str, expected: &[&str]| refused(folder.path(), arguments, expected);
    refused("--adapt memory", &["`memory` is no adaptation", "cache, dynamic, both"]);
    refused("--tune", &["--adapt"]);
    refused("--cache-window 5", &["--adapt"]);
    refused("--adapt cache --tune --cache-window 5", &["--tune", "--cache-window"]);
    refused("--adapt cache --dynamic-rate 1", &["--dynamic-rate has no part in --adapt cache", "--adapt both"]);
    refused("--adapt cache --dynamic-columns 4", &["--dynamic-columns has no part in --adapt cache"]);
    refused("--adapt dynamic --cache-weight 0.1", &["--cache-weight has no part in --adapt dynamic"]);
    for (option, value, expected) in [
        ("cache-theta", "-1", "must be a number of at least 0"),
        ("cache-theta", "nan", "must be a number of at least 0"),
        ("cache-weight", "1", "must be at least 0 and below 1"),
        ("cache-weight", "-0.5", "must be at least 0 and below 1"),
        ("cache-window", "0", "must be at least 1"),
        ("dynamic-rate", "-1", "must be a number of at least 0"),
        ("dynamic-rate", "1e30", "from 0.0000000001 to 10000"),
        ("dynamic-decay", "1e30", "from 0.0000000001 to 10000"),
        ("cache-theta", "1e30", "from 0.0000000001 to 10000"),
        ("dynamic-decay", "inf", "must be a number of at least 0"),
        ("dynamic-segment", "0", "must be at least 1"),
        ("dynamic-columns", "0", "must be at least 1"),
        ("dynamic-columns", "5000", "from 1 to 1024"),
    ] {
        refused(&format!("--adapt both --{option} {value}"), &[option, expected]);
    }
    refused(
        "--adapt dynamic --dynamic-rate 10000 --dynamic-decay 0 --dynamic-segment 5",
        &["no finite number", "a lower --dynamic-rate than"],
    );
    assert!(!folder.path().join("run/adaptation.toml").exists());
    std::fs::write(folder.path().join("run/adaptation.toml"), "version = 1\nmodel = 3\n").unwrap();
    refused("--adapt cache", &["adaptation.toml", "remove it"]);
    std::fs::remove_file(folder.path().join("run/adaptation.toml")).unwrap();
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    std::fs::write(folder.path().join("other.txt"), &text).unwrap();
    std::fs::write(folder.path().join("text.txt"), text.replace("the cat", "a dog")).unwrap();
    let said = line(folder.path(), &format!("eval run other.txt --adapt dynamic {DYNAMIC}"));
    assert!(said.code == Some(2) && said.err.contains("training text changed"), "{}", said.err);
}
