//! Sequences of numbers with a label, and numbers to be said of sequences and of texts: trained, measured, predicted, refused.

use std::path::Path;

use crate::{line, lstm, piped};

/// Sizes that learn in a moment.
const SMALL: &str = "--embedding 8 --hidden 12 --epochs 12 --batch 8 --learning-rate 0.01 --threads 1";

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

/// `count` sequences of two values whose first rises or falls from somewhere: the class, and the slope.
fn ramps(count: usize) -> Vec<(&'static str, f64, Vec<[f64; 2]>)> {
    (0..count)
        .map(|i| {
            let rises = (i / 3) % 2 == 0;
            let slope = (1.0 + (i % 7) as f64 / 7.0) * if rises { 1.0 } else { -1.0 };
            let value = |t: usize| [(i * 5 % 11) as f64 + slope * t as f64, ((i + t) % 3) as f64];
            (if rises { "up" } else { "down" }, slope, (0..6 + i % 4).map(value).collect())
        })
        .collect()
}

/// As a `.ts`, with classes or with numbers.
fn ts(ramps: &[(&str, f64, Vec<[f64; 2]>)], numbers: bool) -> String {
    let head = if numbers { "@targetlabel true" } else { "@classLabel true up down" };
    let lines = ramps.iter().map(|(class, slope, steps)| {
        let dimension = |of: usize| steps.iter().map(|step| step[of].to_string()).collect::<Vec<_>>().join(",");
        let label = if numbers { slope.to_string() } else { (*class).to_owned() };
        format!("{}:{}:{label}\n", dimension(0), dimension(1))
    });
    format!("# Ramps.\n{head}\n@data\n{}", lines.collect::<String>())
}

/// As a table with a row a step.
fn table(ramps: &[(&str, f64, Vec<[f64; 2]>)]) -> String {
    let rows = ramps.iter().enumerate().flat_map(|(at, (class, slope, steps))| {
        steps.iter().map(move |[x, y]| format!("s{at},{x},{class},{y},{slope},{}\n", 2.0 * slope))
    });
    format!("id,height,kind,other,slope,double\n{}", rows.collect::<String>())
}

#[test]
fn sequences_of_numbers_are_labelled_beside_their_nearest_neighbour() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "train.ts", &ts(&ramps(90), false));
    write(path, "test.ts", &ts(&ramps(120)[90..], false));
    let said = line(path, &format!("train train.ts --task classify --test test.ts {SMALL} --initial-states --out run"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("steps    ") && said.err.contains("of 2 values"), "{}", said.err);
    assert!(said.out.contains("most frequent label") && said.out.contains("1-NN DTW"), "{}", said.out);
    let measured = line(path, "eval run --json").json();
    assert!(measured["accuracy"].as_f64().unwrap() > 0.9, "{measured}");
    assert!(measured["baselines"]["1-NN DTW"]["accuracy"].as_f64().unwrap() > 0.4, "{measured}");
    let shown = line(path, "show run");
    assert!(shown.out.contains("step        2 values") && shown.out.contains("learned states"), "{}", shown.out);
    let rows = line(path, "predict run test.ts");
    assert!(rows.out.starts_with("label,down,up\n") && rows.out.lines().count() == 31, "{}", rows.out);
    // A line is a sequence, which is answered as it is.
    let (_, _, steps) = &ramps(120)[90];
    let answer = piped(path, "predict run", &format!("{}\n", serde_json::json!(steps)));
    assert_eq!(answer.out.lines().nth(1), rows.out.lines().nth(1));
    for (given, why) in [
        ("[[1, 2], [3]]", "line 1 of standard input: a list of steps of 2 numbers each"),
        ("[[1, \"x\"]]", "found \"x\""),
        ("[]", "found no step"),
        ("up", "found something else"),
        ("[[1, 1e99]]", "too large"),
    ] {
        let said = piped(path, "predict run", &format!("{given}\n"));
        assert!(said.code == Some(2) && said.err.contains(why), "{given}: {}", said.err);
    }
    let said = line(path, "predict run test.ts --text x");
    assert!(said.code == Some(2) && said.err.contains("--text is of texts"), "{}", said.err);

    // The same from a table.
    write(path, "train.csv", &table(&ramps(90)));
    write(
        path,
        "new.csv",
        "other,height,id\n0,3,a\n1,5,a\n2,7,a\n0,9,a\n1,11,a\n2,13,a\n0,10,b\n1,8,b\n2,6,b\n0,,b\n1,2,b\n2,0,b\n",
    );
    let columns = "--sequence id --label kind --features height,other";
    let said = line(path, &format!("train train.csv --task classify {columns} {SMALL} --out of-table"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let rows = line(path, "predict of-table new.csv");
    let labels: Vec<&str> = rows.out.lines().map(|row| row.split(',').next().unwrap()).collect();
    assert_eq!(labels, ["label", "up", "down"], "{}", rows.err);
    assert!(rows.err.contains("1 value missing, of which the training data had none"), "{}", rows.err);
}

#[test]
fn numbers_are_said_of_sequences_and_of_texts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "train.csv", &table(&ramps(90)));
    write(path, "test.csv", &table(&ramps(120)[90..]));
    let columns = "--sequence id --label slope,double --features height,other";
    let options =
        format!("{columns} --test test.csv {SMALL} --patch 2 --noise 0.05 --keep-checkpoints 2 --out run --json");
    let said = line(path, &format!("train train.csv --task regress {options}"));
    let measured = said.json();
    let of = &measured["test"]["numbers"];
    assert!(of["slope"]["r2"].as_f64().unwrap() > 0.8 && of["double"]["r2"].as_f64().unwrap() > 0.8, "{measured}");
    assert!(measured["test"]["baselines"]["mean"]["slope"]["r2"].as_f64().unwrap() < 0.1, "{measured}");
    let ridge = measured["test"]["baselines"]["ridge on statistics"]["slope"]["r2"].as_f64().unwrap();
    assert!(ridge > 0.9, "{measured}");
    let table = line(path, "eval run");
    assert!(table.out.contains("MAE") && table.out.contains("ridge on statistics"), "{}", table.out);
    assert_eq!(table.out.contains("does not beat the baseline"), measured["test"]["beats_baselines"] == false);
    let rows = line(path, "predict run test.csv");
    assert!(rows.out.starts_with("slope,double\n") && rows.out.lines().count() == 31, "{}", rows.out);
    assert!(line(path, "show run").out.contains("numbers     2: slope, double"));
    let page = std::fs::read_to_string(path.join("run/report.html")).unwrap();
    for part in ["double: ridge on statistics", "RMSE", "Examples a second"] {
        assert!(page.contains(part), "{part}");
    }
    let verified = line(path, "verify run");
    assert!(verified.code == Some(0) && verified.out.contains("the same bits"), "{}{}", verified.out, verified.err);
    // The file alone has the scales.
    std::fs::copy(path.join("run/model.safetensors"), path.join("alone.safetensors")).unwrap();
    assert_eq!(line(path, "predict alone.safetensors test.csv").out, rows.out);

    let words = ["poor", "fair", "good", "fine", "great"];
    let text: String = (0..200)
        .map(|i| format!("\"a {} film {}\",{}\n", words[i % 5], ["of it", "again"][i / 5 % 2], 10 * (i % 5)))
        .collect();
    write(path, "stars.csv", &format!("review,stars\n{text}"));
    let options = format!("--text review --label stars {SMALL} --out words");
    let said = line(path, &format!("train stars.csv --task regress {options} --json"));
    let measured = said.json();
    assert!(measured["valid"]["numbers"]["stars"]["r2"].as_f64().unwrap() > 0.9, "{measured}");
    assert!(measured["valid"]["baselines"]["ridge on bag of words"]["stars"]["r2"].as_f64().unwrap() > 0.9);
    let said = piped(path, "predict words --json", "a great film\na poor film\n");
    let numbers: Vec<f64> = said
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["numbers"]["stars"].as_f64().unwrap())
        .collect();
    assert!(numbers[0] > 30.0 && numbers[1] < 10.0, "{}", said.out);

    // From a language model of the same texts.
    let films: String = (0..200).map(|i| format!("a {} film again\n", words[i % 5])).collect();
    write(path, "films.txt", &films);
    let said = line(path, &format!("train films.txt {} --out language", crate::TINY));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let options = "--text review --label stars --from language --epochs 12 --batch 8 --learning-rate 0.01 --out from";
    let said = line(path, &format!("train stars.csv --task regress {options} --json"));
    assert!(said.err.contains("words kept, "), "{}", said.err);
    assert!(said.json()["valid"]["numbers"]["stars"]["r2"].as_f64().unwrap() > 0.8, "{}", said.out);
    let listed = line(path, "show words from");
    assert!(listed.code == Some(0) && listed.out.contains("one-cycle"), "{}{}", listed.out, listed.err);
}

#[test]
fn a_time_alone_chooses_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "train.ts", &ts(&ramps(30), false));
    write(path, "test.ts", &ts(&ramps(60)[30..], false));
    let said = line(path, "train train.ts --task classify --test test.ts --budget 4s --hidden 10 --out run --json");
    assert!(said.json()["test"]["accuracy"].as_f64().unwrap() > 0.8, "{}", said.out);
    assert!(said.json()["valid"].is_null());
    let used = said.json()["seconds"].as_f64().unwrap();
    let plan: Vec<&str> = said.err.lines().filter(|line| line.starts_with("plan     ")).collect();
    assert!((3..=6).contains(&plan.len()), "{}", said.err);
    assert!(said.err.contains("cross-validation in 5 parts") && said.err.contains("by 10 units"), "{}", said.err);
    let config = std::fs::read_to_string(path.join("run/config.toml")).unwrap();
    let precision = config.lines().find_map(|line| line.strip_prefix("precision = ")).unwrap().trim_matches('"');
    assert!(plan.iter().any(|line| line.contains(&format!("products in {precision}"))), "{config}{}", said.err);
    // It goes on as it was chosen.
    let over = line(path, &format!("train --resume run --epochs 1000 --steps 1000000 --budget {:.1}s", used + 1.0));
    assert_eq!(over.code, Some(0), "{}", over.err);
}

#[test]
fn what_is_no_number_is_refused_with_its_place_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "good.ts", &ts(&ramps(30), false));
    write(path, "slopes.ts", &ts(&ramps(30), true));
    write(path, "good.csv", &table(&ramps(30)));
    write(path, "good.txt", &"1 it is\n2 it was\n".repeat(10));
    write(path, "text.ts", "@classLabel true a b\n@data\n1,2:a\n1,warm:b\n");
    write(path, "inf.ts", "@classLabel true a b\n@data\n1,2:a\n1,inf:b\n");
    write(path, "one.ts", "@classLabel true a b\n@data\n1,2:a\n1,3:a\n");
    write(path, "bare.ts", "@classLabel false\n@data\n1,2\n1,3\n");
    write(path, "empty.ts", &format!("@classLabel true a b\n@data\n{}", "1,2:?,?:a\n2,1:?,?:b\n".repeat(9)));
    write(path, "wide.ts", "@classLabel true up down\n@data\n1,2:1,2:1,2:up\n");
    write(path, "odd.ts", "@classLabel true odd\n@data\n1,2:1,2:odd\n");
    write(path, "same.csv", "text,label\nit is,3\nit was,3\nso,3\n");
    write(path, "warm.csv", "text,label\nit is,3\nit was,warm\nso,3\n");
    write(path, "hole.csv", "text,label\nit is,3\nit was,\nso,4\n");
    write(path, "two.csv", "id,x,kind\na,1,up\na,2,down\n");
    write(path, "no.npz", "nothing");
    for (given, why) in [
        ("text.ts --task classify", "text.ts, line 4: dimension 1: \"warm\" is no number"),
        ("inf.ts --task classify", "inf.ts, line 4: dimension 1: inf is infinite"),
        ("one.ts --task classify", "has the label a, so there is nothing to tell apart"),
        ("bare.ts --task classify", "has no labels, so there is nothing to learn"),
        ("empty.ts --task classify", "dimension 2 is empty: it has no number at all"),
        (
            "good.ts --task classify --test wide.ts",
            "wide.ts line 3: a step has 3 values, where the training data have 2",
        ),
        ("good.ts --task classify --test odd.ts", "odd.ts line 3: the label odd is none of the training data"),
        ("slopes.ts --task classify", "is a number that is measured, not a class; --task regress learns such"),
        ("good.ts --task regress", "good.ts line 4: a number is expected, found \"up\""),
        ("same.csv --task regress", "target is 3 in every example, so there is nothing to learn"),
        ("warm.csv --task regress", "warm.csv line 3, column label: a number is expected, found \"warm\""),
        ("hole.csv --task regress", "hole.csv line 3, column label: the number is missing"),
        ("two.csv --task classify --sequence id --label kind", "two.csv, line 3, column \"kind\": the sequence \"a\""),
        ("good.csv --task classify --sequence who --label kind", "no column is named \"who\""),
        ("no.npz --task classify", "no.npz"),
        ("good.ts --task classify --text x", "--text has no part in sequences of numbers"),
        ("good.ts --task classify --tokenizer chars", "--tokenizer has no part in sequences of numbers"),
        ("good.ts --task classify --from model", "--from has no part in sequences of numbers"),
        (
            "good.csv --task regress --sequence id --label slope --from model",
            "--from has no part in sequences of numbers",
        ),
        ("good.ts --task classify --label x", "has no columns, so --label has no part in it"),
        ("good.ts --task classify --features x", "--sequence"),
        ("good.ts --task classify --patch 0", "--patch is 0"),
        ("good.ts --task classify --patch 2 --stride 3", "--stride is 3 and --patch 2"),
        ("good.ts --task classify --noise 99", "--noise is 99"),
        ("good.ts --task tag", "a sequence of numbers has one label, or numbers to be said of it, and no words"),
        ("good.txt --task classify --patch 3", "--patch has no part in texts"),
        ("good.txt --task regress --separator ,", "--separator has no part in --task regress"),
        ("good.txt --task regress --class-weights balanced", "--class-weights has no part in --task regress"),
        ("good.txt --task tag --gain 1", "--gain has no part in --task tag"),
    ] {
        let said = line(path, &format!("train {given}"));
        assert!(said.code == Some(2) && said.err.contains(why), "{given}: {}\n{why}", said.err);
        assert!(!said.err.contains("panicked"), "{}", said.err);
    }
    assert!(!path.join("runs").exists(), "nothing half-written");
    let said = lstm(path, &["train", "--task", "regress", "--help"]);
    assert!(said.out.contains("--sequence") && !said.out.contains("--class-weights"), "{}", said.out);
}
