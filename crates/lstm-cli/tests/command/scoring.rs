use serde_json::Value;

use crate::{TINY, folder, line, piped, trained};

/// Three thousand words of twelve letters, each drawn alike.
fn random_words() -> String {
    let mut state = 7u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + ((state >> 33) % 26) as u8)
    };
    (0..3000).map(|n| (0..12).map(|_| letter()).collect::<String>() + if n % 10 == 9 { "\n" } else { " " }).collect()
}

/// They took 0.007 bits a character: a word that became `<unk>` still counted its letters.
#[test]
fn words_that_nobody_can_know_take_what_their_letters_take() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("u"), random_words()).unwrap();
    let options = "--tokenizer words --preset small --hidden 8 --embedding 8 --epochs 1 --batch 2";
    let trained = line(folder.path(), &format!("train u {options} --out run --json")).json();
    let least = 12.0 * 26.0f64.log2() / 13.0;
    let check = |result: &serde_json::Value| {
        let bits = result["bits_per_char"].as_f64().unwrap();
        assert!(bits > least && bits < 1.2 * least, "{bits} of {least}");
        // The plain perplexity is that of the tokens, most of which are unknown.
        assert!(result["perplexity"].as_f64().unwrap() < 10.0 && result["unknown"].as_u64().unwrap() > 100);
    };
    ["train", "valid", "test"].iter().for_each(|split| check(&trained[split]));
    check(&line(folder.path(), "eval run u --json").json());
    let said = line(folder.path(), "eval run u").out;
    assert!(said.contains("to spell out 3,000 unknown tokens"), "{said}");
    // The model of their spelling belongs to the run: changed, it is refused.
    let path = folder.path().join("run/tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    tokenizer["spelling"]["words"][0][1] = 2.into();
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let said = line(folder.path(), "eval run u");
    assert!(said.code == Some(2) && said.err.contains("another tokenizer"), "{}", said.err);
}

/// Where a subword tokenizer has no token for a character, its cost was left out of the figure.
#[test]
fn characters_that_subwords_do_not_know_are_part_of_the_figure() {
    for tokenizer in ["unigram", "wordpiece", "chars"] {
        let folder = trained(&format!("--tokenizer {tokenizer}"));
        let text = "the cat sees a dog\n".repeat(5);
        std::fs::write(folder.path().join("known.txt"), &text).unwrap();
        std::fs::write(folder.path().join("unknown.txt"), text.replace("cat", "字字字")).unwrap();
        let [known, unknown] =
            ["known", "unknown"].map(|name| line(folder.path(), &format!("eval run {name}.txt --json")).json());
        assert!(unknown["unknown"].as_u64().unwrap() >= 5, "{unknown}");
        let bits = |result: &serde_json::Value| result["bits_per_char"].as_f64().unwrap() * (5.0 * 19.0);
        // Each of the fifteen characters is one of a million that are alike.
        assert!(bits(&unknown) - bits(&known) > 15.0 * 18.0, "{tokenizer}: {known} {unknown}");
    }
}

/// The lines of `lstm score … --json`.
fn scored(folder: &std::path::Path, options: &str) -> Vec<Value> {
    let said = line(folder, &format!("score run {options} --json"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn unknown_words_are_shown_counted_and_left_out_of_a_second_figure() {
    let folder = trained("");
    std::fs::write(folder.path().join("new.txt"), "the zebra sees a dog\nthe cat sees\nzebra lion\n").unwrap();
    let lines = scored(folder.path(), "new.txt");
    assert_eq!(lines.iter().map(|line| line["unknown"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 0, 2]);
    let tokens = lines[0]["tokens"].as_array().unwrap();
    assert_eq!(
        (&tokens[1]["token"], &tokens[1]["unknown"], &tokens[2]["unknown"]),
        (&"zebra".into(), &true.into(), &false.into())
    );
    assert!(tokens[1]["spelling"].as_f64().unwrap() > 5.0 && tokens[2]["spelling"].is_null());
    let known: Vec<f64> =
        tokens.iter().filter(|token| token["unknown"] == false).map(|token| token["nats"].as_f64().unwrap()).collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    assert!((lines[0]["nll_of_known"].as_f64().unwrap() - mean).abs() < 1e-6 && known.len() == 5);
    assert!((lines[0]["perplexity_of_known"].as_f64().unwrap() / mean.exp() - 1.0).abs() < 1e-6);
    assert_eq!(lines[1]["nll"], lines[1]["nll_of_known"]);
    let said = line(folder.path(), "score run new.txt");
    let rows: Vec<&str> = said.out.lines().collect();
    assert!(rows[0].contains(" zebra(unknown):") && rows[0].contains("[1 unknown, perplexity "), "{}", rows[0]);
    assert!(!rows[1].contains("unknown") && rows[2].contains("[2 unknown, "), "{}", said.out);
    assert!(said.err.contains("3 tokens of the text unknown"), "{}", said.err);
    // What spelling them takes is what evaluation adds.
    let eval = line(folder.path(), "eval run new.txt --json").json();
    let spelled =
        lines.iter().flat_map(|line| line["tokens"].as_array().unwrap()).filter_map(|t| t["spelling"].as_f64());
    assert!((spelled.sum::<f64>() - eval["spelling"].as_f64().unwrap()).abs() < 1e-9);
}

/// A line that stands in two places had two figures.
#[test]
fn lines_alone_have_the_same_figure_wherever_they_stand() {
    for options in
        ["", "--tokenizer chars", "--tokenizer bpe", "--tokenizer unigram", "--batches lines", "--tokenizer bytes"]
    {
        let folder = trained(options);
        let text = "a dog runs home today\nthe cat sees a dog\n\na dog runs home today\nthe cat\na dog runs home today";
        std::fs::write(folder.path().join("lines.txt"), text).unwrap();
        std::fs::write(folder.path().join("one.txt"), "a dog runs home today\n").unwrap();
        let alone = scored(folder.path(), "lines.txt --lines alone");
        assert_eq!(alone.len(), 6, "{options}");
        assert_eq!(alone[0]["tokens"], alone[3]["tokens"], "{options}");
        assert_eq!((&alone[3]["line"], &alone[0]["line"]), (&4.into(), &1.into()));
        assert_eq!(alone[0]["tokens"], scored(folder.path(), "one.txt")[0]["tokens"], "{options}");
        let last = alone[5]["tokens"].as_array().unwrap();
        assert_eq!(last[..4], alone[0]["tokens"].as_array().unwrap()[..4], "{options}");
        let joined = scored(folder.path(), "lines.txt");
        assert_eq!(joined[0]["tokens"] == joined[3]["tokens"], options == "--batches lines", "{options}");
        assert_eq!(joined[0]["tokens"], alone[0]["tokens"]);
    }
}

#[test]
fn scores_of_standard_input_are_those_of_the_file() {
    let folder = trained("");
    let text = "the cat sees a dog\nand runs home\n";
    std::fs::write(folder.path().join("some.txt"), text).unwrap();
    for command in ["score run - --lines alone --json", "score run - --ranks", "eval run - --json"] {
        let piped = piped(folder.path(), command, text);
        let mut expected = line(folder.path(), &command.replace(" - ", " some.txt "));
        let mut out = piped.out;
        assert_eq!(piped.code, Some(0), "{}", piped.err);
        if command.starts_with("eval") {
            for out in [&mut out, &mut expected.out] {
                let mut json: Value = serde_json::from_str(out).unwrap();
                json["seconds"] = Value::Null;
                *out = json.to_string();
            }
        }
        assert_eq!(out, expected.out);
    }
    for command in ["score run -", "eval run -"] {
        let said = piped(folder.path(), command, "");
        assert!(said.code == Some(2) && said.err.contains("standard input is empty"), "{}", said.err);
    }
    let said = line(folder.path(), "score run some.txt --lines apart");
    assert!(said.code == Some(2) && said.err.contains("joined, alone"), "{}", said.err);
}

#[test]
fn ranks_are_one_where_the_likeliest_came() {
    let folder = trained("--rate 0.02");
    let lines = scored(folder.path(), "text.txt");
    let tokens = || lines.iter().flat_map(|line| line["tokens"].as_array().unwrap());
    // Nine words, the end of a line, and the unknown one.
    assert!(tokens().all(|token| (1..=11).contains(&token["rank"].as_u64().unwrap())));
    for token in tokens() {
        let (rank, nats) = (token["rank"].as_f64().unwrap(), token["nats"].as_f64().unwrap());
        // Of rank r, r - 1 others are likelier.
        assert!(nats >= rank.ln() - 1e-5 && (rank > 1.0 || nats <= 11.0f64.ln() + 1e-5), "{token}");
    }
    assert!(tokens().any(|token| token["rank"] == 1) && tokens().any(|token| token["rank"] != 1));
    assert!(line(folder.path(), "score run text.txt --ranks").out.lines().next().unwrap().contains('#'));
    assert!(!line(folder.path(), "score run text.txt").out.contains('#'));
}

/// They were `Ġsees`, `Ċ` and `##es`.
#[test]
fn subwords_are_shown_as_the_text_that_they_are() {
    for tokenizer in ["bpe", "unigram", "wordpiece", "bytes", "chars"] {
        let folder = folder();
        let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap() + "größe\n";
        std::fs::write(folder.path().join("text.txt"), text).unwrap();
        let said = line(folder.path(), &format!("train text.txt {TINY} --out run --tokenizer {tokenizer}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        let text = "the cat sees größe\n";
        std::fs::write(folder.path().join("some.txt"), text).unwrap();
        let said = line(folder.path(), "score run some.txt").out;
        assert!(!said.contains(['Ġ', 'Ċ', '▁', 'Ã']) && !said.contains("##") && !said.contains("<0x"), "{said}");
        let tokens = scored(folder.path(), "some.txt")[0]["tokens"].clone();
        let joined: String = tokens.as_array().unwrap().iter().map(|token| token["token"].as_str().unwrap()).collect();
        let expected = match tokenizer {
            "wordpiece" => text.replace(' ', "").replace('\n', "<eos>"),
            "unigram" => text.replace('\n', "<eos>"),
            "bytes" => text.replace('ö', "\\xC3\\xB6").replace('ß', "\\xC3\\x9F"),
            _ => text.to_owned(),
        };
        let whole = joined.replace("\\xC3\\xB6", "ö").replace("\\xC3\\x9F", "ß");
        assert!(joined == expected || tokenizer == "bpe" && whole == text, "{tokenizer}: {joined}");
    }
}

/// Words showed as `it\'s`, bytes as `\\xC3`, and a vowel sign of its own as `\u{e34}`.
#[test]
fn tokens_are_shown_as_they_are_written_but_for_what_cannot_be_seen() {
    for (tokenizer, text, shown) in [
        (
            "words",
            "it's \"so\" \\ a\u{200b}b \u{1b}[31m\n",
            &[" it's(", " \"so\"(", " \\(", " a\\u{200b}b(", " \\u{1b}[31m("][..],
        ),
        ("bytes", "ä\n", &[" \\xC3:", " \\xA4:", " \"\\n\":"]),
        ("chars", "กิ\n", &[" ก(", " \u{e34}("]),
    ] {
        let folder = trained(&format!("--tokenizer {tokenizer}"));
        let said = piped(folder.path(), "score run -", text).out;
        for token in shown {
            assert!(said.contains(token), "{token}: {said}");
        }
    }
}

#[test]
fn evaluation_without_a_text_repeats_the_runs_own_test() {
    let folder = trained("");
    let shown = line(folder.path(), "show run --json").json();
    let said = line(folder.path(), "eval run --json");
    let own = said.json();
    assert_eq!(own["perplexity"], shown["results"]["test"]["perplexity"]);
    assert_eq!(
        (&own["model"]["epoch"], &own["model"]["step"]),
        (&shown["results"]["epoch"], &shown["results"]["step"])
    );
    assert!(said.err.contains("the run's own test text"), "{}", said.err);
    let said = line(folder.path(), "eval run");
    assert!(said.out.contains("best after epoch "), "{}", said.out);
    let said = line(folder.path(), "eval run --lossy");
    assert!(said.code == Some(2) && said.err.contains("FILE"), "{}", said.err);
    // A folder's test text, or all of a folder.
    std::fs::create_dir(folder.path().join("c")).unwrap();
    std::fs::write(folder.path().join("c/train.txt"), "the cat\n".repeat(9)).unwrap();
    let all = line(folder.path(), "eval run c --json");
    assert!(all.json()["tokens"] == 27 && all.err.contains("train.txt"), "{}", all.err);
    std::fs::write(folder.path().join("c/test.txt"), "a dog runs\n".repeat(5)).unwrap();
    let test = line(folder.path(), "eval run c --json");
    assert!(test.json()["tokens"] == 20 && test.err.contains("test.txt"), "{}", test.err);
    assert_eq!(scored(folder.path(), "c").len(), 5);
    let without = line(folder.path(), &format!("train text.txt --split 90/10 {TINY} --out none"));
    assert_eq!(without.code, Some(0), "{}", without.err);
    let said = line(folder.path(), "eval none");
    assert!(said.code == Some(2) && said.err.contains("no test text of its own"), "{}", said.err);
}

#[test]
fn figures_say_of_which_model_they_are() {
    let folder = folder();
    let said = line(folder.path(), &format!("train text.txt {TINY} --out run"));
    let row = |name: &str| said.out.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("train").ends_with("as it was in epoch 2"), "{}", said.out);
    for name in ["valid", "test"] {
        assert!(row(name).contains("best after epoch ") && row(name).contains(", step "), "{}", said.out);
    }
    let shown = line(folder.path(), "show run").out;
    assert!(shown.contains("best after epoch ") && shown.contains("while it trained"), "{shown}");
    // The built-in language: a model that has seen little of it for long.
    let options = "--steps 1 --preset small --hidden 4 --embedding 4";
    let said = line(folder.path(), &format!("train {options} --out builtin"));
    assert!(said.out.contains("no model can beat it on a new text"), "{}", said.out);
}

#[test]
fn show_without_a_run_lists_the_runs() {
    let folder = folder();
    let said = line(folder.path(), "show");
    assert!(said.code == Some(2) && said.err.contains("there are no runs in runs/"), "{}", said.err);
    for run in ["first", "second"] {
        let said = line(folder.path(), &format!("train text.txt {TINY} --out runs/{run}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    std::fs::create_dir_all(folder.path().join("runs/other")).unwrap();
    let said = line(folder.path(), "show");
    let rows: Vec<&str> = said.out.lines().collect();
    let test = line(folder.path(), "show runs/first --json").json()["results"]["test"]["perplexity"].as_f64().unwrap();
    assert!(
        rows[0].contains("written (UTC)") && rows[0].contains("spent") && rows[0].contains("result"),
        "{}",
        said.out
    );
    // The latest comes first.
    assert!(rows[1].starts_with("runs/second") && rows[2].starts_with("runs/first"), "{}", said.out);
    assert!(
        rows[2].contains(&format!(" perplexity {test:.2} ")) && rows[2].contains("text.txt, words"),
        "{}",
        said.out
    );
    let listed = line(folder.path(), "show --json").json();
    assert!((listed[1]["test"]["perplexity"].as_f64().unwrap() - test).abs() < 1e-9);
    assert!(listed[0]["seconds"].as_f64().unwrap() > 0.0 && listed[0]["written"].as_u64().unwrap() > 1_700_000_000);
    // A damaged one spoils nothing.
    std::fs::write(folder.path().join("runs/second/config.toml"), "version = 1\nnothing = 3\n").unwrap();
    std::fs::write(folder.path().join("runs/second/model.safetensors"), "no model").unwrap();
    let said = line(folder.path(), "show");
    assert!(
        said.code == Some(0) && said.out.contains("config.toml") && said.out.contains(&format!("{test:.2}")),
        "{}",
        said.out
    );
}
