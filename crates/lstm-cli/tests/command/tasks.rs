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
    let other: String = reviews(299).iter().map(|(label, text)| format!("{label},\"{text}\"\n")).collect();
    write(path, "other.csv", &format!("kind,review\n{other}"));
    for (option, why) in [
        ("--pooling last", "--pooling has no part with --resume"),
        ("other.csv", "other.csv is not what the run was trained on"),
        ("--valid train.csv", "validation data to go on with, but the run has none of its own"),
    ] {
        let said = line(path, &format!("train --resume run {option}"));
        assert!(said.code == Some(2) && said.err.contains(why), "{option}: {}", said.err);
    }
    // Data that were moved are named where they lie now, and proven to be the same.
    for name in ["train.csv", "test.tsv"] {
        std::fs::rename(path.join(name), path.join(format!("moved-{name}"))).unwrap();
    }
    let moved = line(path, "train --resume run moved-train.csv --test moved-test.tsv --epochs 19");
    assert_eq!(moved.code, Some(0), "{}", moved.err);
    assert_eq!(line(path, "train --resume run --epochs 20").code, Some(0));
}

/// The same model as from a file, whose data lie in the run folder from then on.
#[test]
fn labelled_texts_come_from_standard_input_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let lines: String = reviews(120).iter().map(|(label, text)| format!("{label}\t{text}\n")).collect();
    let object = |(label, text): &(&str, String)| format!("{{\"label\":\"{label}\",\"text\":\"{text}\"}}\n");
    let objects: String = reviews(120).iter().map(object).collect();
    write(path, "lines.txt", &lines);
    let brief = SMALL.replace("--epochs 15", "--epochs 2");
    let said = line(path, &format!("train lines.txt --task classify {brief} --out file"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let model = |run: &str| std::fs::read(path.join(run).join("model.safetensors")).unwrap();
    for (input, run) in [(&lines, "lines"), (&objects, "objects")] {
        let said = piped(path, &format!("train - --task classify {brief} --out {run}"), input);
        assert!(said.code == Some(0) && said.err.contains("data     standard input"), "{}", said.err);
        assert!(model(run) == model("file"), "{run}");
        assert_eq!(std::fs::read_to_string(path.join(run).join("text.txt")).unwrap(), *input);
        // It may be moved with them.
        std::fs::rename(path.join(run), path.join("moved")).unwrap();
        let said = line(path, "train --resume moved --epochs 3");
        assert_eq!(said.code, Some(0), "{}", said.err);
        std::fs::rename(path.join("moved"), path.join(run)).unwrap();
        assert_eq!(line(path, &format!("eval {run}")).code, Some(0));
    }
    // Chosen by a time alone, in a folder of its own name; and another in its place.
    let said = piped(path, "train - --task classify --budget 1s --hidden 8 --threads 1 --json", &lines);
    assert_eq!(said.json()["run"], "runs/stdin", "{}", said.err);
    let said = piped(path, &format!("train - --task classify {brief} --out lines --force"), &objects);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for (arguments, input, why) in [
        ("train - --task classify --out none", "", "standard input is empty"),
        ("train - --task classify --out none", "pos\n", "standard input line 1: it has a label and no text"),
        ("train - --task classify --text a --out none", "a,b\nc,d\n", "standard input is read as lines of a label"),
        ("train --resume lines -", "", "- and --resume contradict each other"),
    ] {
        let said = piped(path, arguments, input);
        assert!(said.code == Some(2) && said.err.contains(why), "{arguments}: {}", said.err);
        assert!(!path.join("none").exists());
    }
}

#[test]
fn a_folder_of_classes_has_no_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (number, (label, text)) in reviews(60).into_iter().enumerate() {
        std::fs::create_dir_all(path.join("data").join(label)).unwrap();
        write(path, &format!("data/{label}/{number}.txt"), &text);
    }
    let brief = SMALL.replace("--epochs 15", "--epochs 1");
    for column in ["--text review", "--label kind"] {
        let said = line(path, &format!("train data --task classify {column} {brief} --out run"));
        assert!(said.code == Some(2) && said.err.contains("leave --text and --label out"), "{}", said.err);
        assert!(!path.join("run").exists());
    }
    // They may be those of a table beside it.
    let table: String = reviews(20).iter().map(|(label, text)| format!("{label},{text}\n")).collect();
    write(path, "test.csv", &format!("kind,review\n{table}"));
    let said =
        line(path, &format!("train data --task classify --text review --label kind --test test.csv {brief} --out run"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(line(path, "eval run data").code, Some(0));
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
        (
            "hole.csv --task classify --label kind",
            "no column is named \"kind\"; there are \"text\", \"label\": name one of them by --label",
        ),
        ("short.csv --task classify", "short.csv, line 3: it has 1 value where the first line names 2 columns"),
        ("bad.jsonl --task classify", "bad.jsonl line 2: no JSON object"),
        ("few.txt --task classify", "none would be left to train on or to watch"),
        ("missing.csv --task classify", "missing.csv"),
        ("good.txt --task classify --split 50/20/20", "--split is 50/20/20; it must be two or three percentages"),
        ("good.txt --task classify --split 0/50/50", "--split is 0/50/50; it must be two or three percentages"),
        ("good.txt --task classify --vocabulary match", "--vocabulary has no part without --from"),
        ("good.txt --task classify --from good.txt", "--from good.txt: "),
        ("good.txt --task classify --from good.txt --hidden 8", "--hidden has no part with --from"),
        ("good.txt --task classify --decay 2", "--decay and the schedule constant contradict each other"),
        ("good.txt --task classify --schedule step", "give by what, such as --decay 2"),
        ("good.txt --task classify --beta1 0.8 --optimizer sgd --learning-rate 1", "it is of adam and adamw"),
        ("good.txt --task classify --split 80/10/10 --valid one.txt", "--valid has no part with --split"),
        ("good.txt --task classify --dropout-words 1.5", "--dropout-words is 1.5"),
        ("good.txt --task classify --hidden 0", "--hidden"),
        ("good.txt --task classify --embedding 0", "--embedding is 0"),
        ("good.txt --task classify --separator ; --label-smoothing 0.1", "leave --label-smoothing out"),
        ("good.txt --task classify --tokenizer chars --spelling 4", "leave --spelling out"),
        ("good.txt --task classify --bag 1", "--bag is 1"),
        ("good.txt --task classify --bag 0.5 --class-weights balanced", "leave --bag out, or what differs"),
        ("good.txt --task tag --bag 0.5", "--bag has no part in --task tag"),
        ("good.txt --task regress --bag 0.5", "--bag has no part in --task regress"),
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

/// A language model of the reviews' words, and what trains a classifier from it.
fn language_model(path: &Path) {
    let lines: String = reviews(400).iter().map(|(_, text)| format!("{text}\n")).collect();
    write(path, "language.txt", &lines);
    let options = "--tokenizer words --layers 2 --hidden 9 --embedding 7 --batch 4 --segment 8 --epochs 2 --threads 1";
    let said = line(path, &format!("train language.txt {options} --out language"));
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[test]
fn a_classifier_starts_from_a_language_model_and_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    language_model(path);
    let lines: String = reviews(300).iter().map(|(label, text)| format!("{label} {text} never\n")).collect();
    write(path, "train.txt", &lines);
    let run = |options: &str| {
        let said = line(
            path,
            &format!("train train.txt --task classify --batch 8 --threads 1 --learning-rate 0.05 {options}"),
        );
        assert_eq!(said.code, Some(0), "{}", said.err);
        said
    };
    let said = run(
        "--from language --epochs 8 --patience 0 --layer-rate-decay 0.8 --dropout-output 0.1 --dropout-input 0 --out whole --json",
    );
    // The one word that the language model has not comes behind its own.
    assert!(said.err.contains("1 added, 0 dropped"), "{}", said.err);
    assert!(said.json()["valid"]["accuracy"].as_f64().unwrap() > 0.9, "{}", said.out);
    let config = line(path, "show whole --json").json()["config"].clone();
    assert_eq!(
        (&config["model"]["lstm"]["hidden"], &config["model"]["lstm"]["layers"], &config["unfreeze"]),
        (&9.into(), &2.into(), &0.into())
    );
    assert_eq!((&config["model"]["pooling"], &config["fine_tuning"]["vocabulary"]), (&"max".into(), &"extend".into()));

    // Parts begin one after the other in whatever pieces the run is trained; the language model is not needed again.
    run("--from language --unfreeze 1 --steps 90 --schedule constant --patience 0 --out all");
    let said = run("--from language --unfreeze 1 --steps 50 --schedule constant --patience 0 --out parts");
    let parts = "each at 0.9 of the rate of the one above it, each 1 epoch after the one above it";
    let shown = line(path, "show parts").out;
    assert!(
        said.err.contains(&format!("parts    {parts}\n")) && shown.contains(&format!("parts       {parts}\n")),
        "{shown}"
    );
    std::fs::rename(path.join("language"), path.join("moved")).unwrap();
    let said = line(path, "train --resume parts --steps 90");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let [all, parts] = ["all", "parts"].map(|run| piped(path, &format!("predict {run}"), "a good film\nbad\n").out);
    assert_eq!(all, parts);

    // Frozen parts stay what they were; both directions and other vocabularies go as well.
    for options in [
        "--freeze embedding,0,1",
        "--bidirectional --pooling max",
        "--vocabulary keep --unfreeze 0",
        "--vocabulary match --layer-rate-decay 1",
    ] {
        let name = options.replace([' ', ',', '-'], "");
        run(&format!("--from moved {options} --epochs 1 --out {name}"));
    }
    for (options, why) in [
        ("--freeze readout", "--freeze names the readout"),
        ("--freeze 2", "--freeze names layer 2"),
        ("--vocabulary keep --min-count 2", "--min-count and --vocabulary keep contradict each other"),
        ("--vocabulary keep --wiring skip", "--wiring has no part with --from"),
        ("--layer-rate-decay 2", "--layer-rate-decay is 2"),
        ("--forget-bias 2", "--forget-bias has no part with --from"),
        ("--init ones-bias", "--init ones-bias has no part with --from"),
    ] {
        let said = line(path, &format!("train train.txt --task classify --from moved {options}"));
        assert!(said.code == Some(2) && said.err.contains(why), "{options}: {}", said.err);
    }
    let said = line(path, "train train.txt --task classify --from whole");
    assert!(said.code == Some(2) && said.err.contains("it is of the task classify"), "{}", said.err);
}

#[test]
fn words_are_tagged_from_a_language_model_and_chars_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    language_model(path);
    let sentences: String = reviews(200)
        .iter()
        .map(|(_, text)| {
            let word =
                |word: &str| format!("{word} {}\n", if ["good", "fine", "great"].contains(&word) { "B" } else { "O" });
            text.split(' ').map(word).collect::<String>() + "\n"
        })
        .collect();
    write(path, "train.conll", &sentences);
    let options = "--batch 8 --learning-rate 0.02 --epochs 6 --threads 1";
    let said = line(path, &format!("train train.conll --task tag --from language {options} --out run --json"));
    assert!(
        said.code == Some(0) && said.json()["valid"]["accuracy"].as_f64().unwrap() > 0.95,
        "{} {}",
        said.err,
        said.out
    );
    let said = line(
        path,
        "train language.txt --tokenizer chars --hidden 8 --embedding 6 --batch 4 --segment 8 --epochs 1 --out chars",
    );
    assert_eq!(said.code, Some(0), "{}", said.err);
    let said = line(path, "train train.conll --task tag --from chars");
    assert!(said.code == Some(2) && said.err.contains("here each word has a label"), "{}", said.err);
}

#[test]
fn a_run_has_a_page_curves_and_a_line_in_the_list_of_runs() {
    let folder = classifier();
    let path = folder.path();
    std::fs::create_dir(path.join("runs")).unwrap();
    std::fs::rename(path.join("run"), path.join("runs/a")).unwrap();
    // Made anew from the run's files it is the same, but for the run's name.
    let page = std::fs::read_to_string(path.join("runs/a/report.html")).unwrap();
    assert_eq!(line(path, "report runs/a").code, Some(0));
    let again = std::fs::read_to_string(path.join("runs/a/report.html")).unwrap();
    assert_eq!(again.replace("<title>a:", "<title>run:").replace("<h1>a:", "<h1>run:"), page);
    for part in [
        "Loss of an example",
        "Learning rate",
        "accuracy, test",
        "bag of words",
        "lstm train train.csv",
        "Configuration",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("erplexity"), "a classifier has none");
    let listed = line(path, "show").out;
    assert!(listed.contains("classify") && listed.contains("accuracy ") && listed.contains("train.csv"), "{listed}");
    assert_eq!(line(path, "show --json").json()[0]["task"], "classify");

    // Beside another, whose curves are kept for TensorBoard.
    let columns = "--text review --label kind --test test.tsv";
    let said = line(
        path,
        &format!("train train.csv --task classify {columns} {SMALL} --seed 2 --out runs/b --tensorboard curves"),
    );
    assert_eq!(said.code, Some(0), "{}", said.err);
    let curves = std::fs::read_dir(path.join("curves")).unwrap().next().unwrap().unwrap().path();
    let bytes = String::from_utf8_lossy(&std::fs::read(curves).unwrap()).into_owned();
    assert!(bytes.contains("loss/valid") && bytes.contains("examples_per_second") && !bytes.contains("perplexity"));
    let said =
        line(path, &format!("train train.csv --task classify {columns} {SMALL} --out runs/c --tensorboard curves"));
    assert!(said.code == Some(2) && said.err.contains("it has event files already"), "{}", said.err);
    let said = line(path, "report runs/a runs/b --out both.html");
    assert!(
        said.code == Some(0) && said.out.contains("accuracy ") && said.out.contains("training.seed"),
        "{}",
        said.out
    );
    assert!(std::fs::read_to_string(path.join("both.html")).unwrap().contains("Validation loss"));
    let csv = line(path, "report runs/a runs/b --csv").out;
    assert!(csv.starts_with("run,parameters,epochs,steps,examples,seconds,train,valid,test,result,"), "{csv}");
    let said = line(path, "report runs/a --baseline");
    assert!(said.code == Some(2) && said.err.contains("--baseline counts n-grams"), "{}", said.err);
    language_model(path);
    let said = line(path, "report runs/a language");
    assert!(said.code == Some(2) && said.err.contains("which have no figure in common"), "{}", said.err);
}
