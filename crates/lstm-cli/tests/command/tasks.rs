//! Tasks beside language: labels of texts and of words, trained, measured, predicted, refused.

use std::path::Path;

use tempfile::TempDir;

use crate::{folder as texts, line, lstm, piped};

/// Sizes that learn in a moment.
const SMALL: &str = "--embedding 12 --hidden 10 --epochs 15 --batch 8 --learning-rate 0.01 --threads 1";

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

/// `count` reviews that say by one word which they are, each as `label` and text.
fn reviews(count: usize) -> Vec<(&'static str, String)> {
    let fillers = ["the", "film", "a", "story", "is", "and", "of", "it"];
    (0..count)
        .map(|i| {
            let mut words: Vec<&str> = (0..2 + i % 6).map(|j| fillers[(i * 3 + j * 5 + i / 7) % 8]).collect();
            let (label, of) = [("neg", ["bad", "dull", "poor"]), ("pos", ["good", "fine", "great"])][(i / 3) % 2];
            words.insert(i % (words.len() + 1), of[i % 3]);
            (label, words.join(" "))
        })
        .collect()
}

/// A folder with `train.csv`, `test.txt` and a finished run `run` on them.
fn classifier() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let table: String = reviews(300).iter().map(|(label, text)| format!("{label},\"{text}\"\n")).collect();
    write(folder.path(), "train.csv", &format!("kind,review\n{table}"));
    let lines: String = reviews(340)[300..].iter().map(|(label, text)| format!("{label}\t{text}\n")).collect();
    write(folder.path(), "test.tsv", &format!("kind\treview\n{lines}"));
    let columns = "--text review --label kind --test test.tsv";
    let said = line(folder.path(), &format!("train train.csv --task classify {columns} {SMALL} --out run"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("labels   2: neg, pos") && said.err.contains("is held out"), "{}", said.err);
    assert!(said.out.contains("most frequent label") && said.out.contains("bag of words"), "{}", said.out);
    folder
}

#[test]
fn a_classifier_is_trained_measured_shown_and_predicts() {
    let folder = classifier();
    let path = folder.path();
    let measured = line(path, "eval run --json").json();
    assert!(measured["accuracy"].as_f64().unwrap() > 0.9, "{measured}");
    assert_eq!(measured["examples"], 40);
    assert!(measured["baselines"]["bag of words"]["accuracy"].as_f64().unwrap() > 0.9, "{measured}");
    let confusion = measured["confusion"].as_array().unwrap();
    let all: u64 = confusion.iter().flat_map(|row| row.as_array().unwrap()).map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(all, 40);
    // The bag knows these words too, so the model can at best be as good.
    let table = line(path, "eval run test.tsv");
    assert!(table.out.contains("precision") && table.out.contains("(columns: predicted)"), "{}", table.out);
    assert_eq!(table.out.contains("does not beat the baseline"), measured["beats_baselines"] == false);
    let shown = line(path, "show run");
    assert!(shown.out.contains("task        classify") && shown.out.contains("neg, pos"), "{}", shown.out);
    assert_eq!(line(path, "show run --json").json()["config"]["task"], "classify");

    // A table, lines of a stream, JSON objects: the same answers.
    write(path, "new.csv", "review\na good film\n\"bad, bad\"\n");
    let csv = line(path, "predict run new.csv");
    let rows: Vec<&str> = csv.out.lines().collect();
    assert_eq!(rows[0], "label,neg,pos");
    assert!(rows[1].starts_with("pos,") && rows[2].starts_with("neg,") && rows.len() == 3, "{}", csv.out);
    assert_eq!(piped(path, "predict run", "a good film\nbad, bad\n").out, csv.out);
    let json = piped(path, "predict run --json --text t", "{\"t\":\"a good film\"}\n");
    let object: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(object["label"], "pos");
    assert!(object["probabilities"]["pos"].as_f64().unwrap() > 0.5, "{object}");

    // The model by itself.
    std::fs::copy(path.join("run/model.safetensors"), path.join("model.safetensors")).unwrap();
    assert_eq!(piped(path, "predict model.safetensors", "a good film\nbad, bad\n").out, csv.out);
    let alone = line(path, "eval model.safetensors test.tsv --json");
    assert_eq!(alone.json()["accuracy"], measured["accuracy"]);
    assert!(alone.err.contains("no baselines") && alone.json()["baselines"].is_null(), "{}", alone.err);

    // It goes on as its settings say.
    let over = line(path, "train --resume run");
    assert!(over.code == Some(0) && over.err.contains("the run is over"), "{}", over.err);
    let longer = line(path, "train --resume run --epochs 18");
    assert_eq!(longer.code, Some(0), "{}", longer.err);
    for (option, why) in
        [("--pooling last", "--pooling has no part with --resume"), ("train.csv", "has no part with --resume")]
    {
        let said = line(path, &format!("train --resume run {option}"));
        assert!(said.code == Some(2) && said.err.contains(why), "{}", said.err);
    }
}

#[test]
fn several_labels_and_attention_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let lines: String = (0..240)
        .map(|i| {
            let (first, second) = (i % 2 == 0, i % 3 == 0);
            let labels: Vec<&str> =
                [("a", first), ("b", second)].iter().filter(|(_, has)| *has).map(|(l, _)| *l).collect();
            let words = format!("x {} y {}", if first { "one" } else { "y" }, if second { "two" } else { "x" });
            format!("{{\"text\": \"{words}\", \"label\": {labels:?}}}\n")
        })
        .collect();
    write(path, "data.jsonl", &lines);
    let said = line(
        path,
        &format!("train data.jsonl --task classify --separator ; --pooling attention {SMALL} --out run --json"),
    );
    assert!(said.json()["valid"]["micro_f1"].as_f64().unwrap() > 0.9, "{}", said.out);
    assert!(said.json()["valid"]["confusion"].is_null());
    let answers = piped(path, "predict run --json --attention", "x one y two\nx y y x\n");
    let objects: Vec<serde_json::Value> = answers.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(
        (&objects[0]["labels"], &objects[1]["labels"]),
        (&serde_json::json!(["a", "b"]), &serde_json::json!([]))
    );
    let attention = objects[0]["attention"].as_array().unwrap();
    let sum: f64 = attention.iter().map(|pair| pair[1].as_f64().unwrap()).sum();
    assert!(attention.len() == 4 && attention[1][0] == "one" && (sum - 1.0).abs() < 1e-4, "{}", objects[0]);
}

#[test]
fn words_are_tagged_and_entities_counted_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (names, verbs, places) = (["Ada", "Bob", "Eve"], ["saw", "met", "left"], ["Paris", "New York", "Rome"]);
    let sentences = |range: std::ops::Range<usize>| -> String {
        range
            .map(|i| {
                let place = places[i / 3 % 3].split(' ').enumerate();
                let place: String =
                    place.map(|(at, word)| format!("{word} NNP {}-LOC\n", if at == 0 { "B" } else { "I" })).collect();
                format!("{} NNP B-PER\n{} VBD O\n{place}. . O\n\n", names[i % 3], verbs[i / 9 % 3])
            })
            .collect()
    };
    write(path, "train.conll", &sentences(0..120));
    write(path, "test.conll", &sentences(120..150));
    let said = line(path, &format!("train train.conll --task tag --test test.conll {SMALL} --out run"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("entity F1") && said.out.contains("most frequent of word"), "{}", said.out);
    let measured = line(path, "eval run --json").json();
    assert!(measured["entities"]["f1"].as_f64().unwrap() > 0.95, "{measured}");
    assert_eq!(measured["types"]["LOC"]["support"], 30);
    let tagged = piped(path, "predict run --json", "Eve met New York.\n");
    let object: serde_json::Value = serde_json::from_str(&tagged.out).unwrap();
    assert_eq!(object["tokens"], serde_json::json!(["Eve", "met", "New", "York", "."]));
    assert_eq!(object["tags"], serde_json::json!(["B-PER", "O", "B-LOC", "I-LOC", "O"]));
    let rows = line(path, "predict run test.conll");
    assert!(rows.out.starts_with("sentence,word,label,probability\n1,Ada,B-PER,"), "{}", rows.out);
    let said = line(path, "train train.conll --task tag --pooling max");
    assert!(said.code == Some(2) && said.err.contains("--pooling has no part in --task tag"), "{}", said.err);
}

#[test]
fn what_a_task_has_not_is_refused_by_name_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let good: String = reviews(60).iter().map(|(label, text)| format!("{label} {text}\n")).collect();
    write(path, "good.txt", &good);
    write(path, "one.txt", "pos it is\npos it was\n");
    write(path, "other.txt", "odd it is\n");
    write(path, "hole.csv", "text,label\nit is,a\nit was,\nso,b\n");
    write(path, "short.csv", "text,label\nit is,a\nit was\n");
    write(path, "few.txt", "a it is\nb it was\n");
    write(path, "bad.jsonl", "{\"text\":\"x\",\"label\":\"a\"}\nnot json\n");
    for (given, why) in [
        ("good.txt --task classify --segment 5", "--segment"),
        ("good.txt --task classify --preset char", "--preset"),
        ("good.txt --task nothing", "`nothing` is no task; choose one of: language, classify, tag"),
        ("--task classify", "--task classify needs data"),
        ("good.txt --task classify --text review", "which have no columns; leave --text and --label out"),
        (
            "good.txt --task classify --test other.txt",
            "other.txt line 1: the label odd is none of the training data, which have neg, pos",
        ),
        ("one.txt --task classify", "has the label pos, so there is nothing to tell apart"),
        ("hole.csv --task classify", "hole.csv line 3, column label: the label is empty"),
        ("hole.csv --task classify --label kind", "no column kind; the columns are text, label"),
        ("short.csv --task classify", "short.csv line 3: it has 1 fields"),
        ("bad.jsonl --task classify", "bad.jsonl line 2: no JSON object"),
        ("few.txt --task classify", "none would be left to train on or to watch"),
        ("missing.csv --task classify", "missing.csv"),
        ("good.txt --task classify --split 50/20/20", "--split is 90; it must be three percentages"),
        ("good.txt --task classify --split 80/10/10 --valid one.txt", "--valid has no part with --split"),
        ("good.txt --task classify --dropout-words 1.5", "--dropout-words is 1.5"),
        ("good.txt --task classify --hidden 0", "--hidden"),
        ("good.txt --task classify --embedding 0", "--embedding is 0"),
        ("good.txt --task classify --separator ; --label-smoothing 0.1", "leave --label-smoothing out"),
        ("good.txt --task classify --tokenizer chars --spelling 4", "leave --spelling out"),
        ("good.txt --task classify --force", "--force has no part without --out"),
        ("good.txt --task tag", "columns"),
    ] {
        let said = line(path, &format!("train {given}"));
        assert!(said.code == Some(2) && said.err.contains(why), "{given}: {}\n{why}", said.err);
        assert!(!said.err.contains("panicked"), "{}", said.err);
    }
    assert!(!path.join("runs").exists(), "nothing half-written");
}

#[test]
fn commands_of_one_task_refuse_models_of_another() {
    let folder = classifier();
    let path = folder.path();
    for command in [
        "generate run",
        "score run test.tsv",
        "pack run test.tsv",
        "inspect run test.tsv",
        "quantize run q.safetensors",
        "report run",
    ] {
        let said = line(path, command);
        assert!(said.code == Some(2) && said.err.contains("it is of the task classify"), "{command}: {}", said.err);
    }
    let said = line(path, "eval run --adapt cache");
    assert!(
        said.code == Some(2) && said.err.contains("--adapt has no part in a model of the task classify"),
        "{}",
        said.err
    );
    let said = line(path, "predict run --json --attention");
    assert!(said.code == Some(2) && said.err.contains("pooled by attention, and this one is not"), "{}", said.err);
    // And the other way round.
    let language = texts();
    let said =
        line(language.path(), "train text.txt --hidden 8 --embedding 6 --batch 4 --segment 8 --epochs 1 --out run");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let said = line(language.path(), "predict run text.txt");
    assert!(said.code == Some(2) && said.err.contains("is a language model"), "{}", said.err);
    let said = lstm(language.path(), &["train", "--task", "classify", "--help"]);
    assert!(said.out.contains("--pooling") && !said.out.contains("--segment"), "{}", said.out);
    let said = lstm(language.path(), &["train", "--help"]);
    assert!(said.out.contains("--task") && !said.out.contains("--pooling"), "{}", said.out);
}
