use std::io::{Read, Write};
use std::process::Stdio;

use crate::{TINY, command, folder, line, lstm, piped, trained};

#[test]
fn training_ends_with_a_table_or_one_json_object() {
    let folder = folder();
    let said = line(folder.path(), &format!("train text.txt {TINY}"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    for row in ["perplexity", "per word", "bits/char", "train", "valid", "test", "tokens/s"] {
        assert!(said.out.contains(row), "{}", said.out);
    }
    for talk in ["vocabulary 11", "parameters", "epoch   2", "try: lstm generate runs/text"] {
        assert!(said.err.contains(talk), "{}", said.err);
    }
    let result = line(folder.path(), &format!("train text.txt {TINY} --json")).json();
    // The name was taken, so the next free one is used.
    assert_eq!(result["run"], "runs/text-2");
    for split in ["train", "valid", "test"] {
        let (perplexity, nll) = (result[split]["perplexity"].as_f64().unwrap(), result[split]["nll"].as_f64().unwrap());
        assert!((perplexity.ln() - nll).abs() < 1e-9);
        // A word is a token here.
        assert!((result[split]["word_perplexity"].as_f64().unwrap() / perplexity - 1.0).abs() < 1e-9);
        let bits = result[split]["bits_per_char"].as_f64().unwrap();
        assert!(bits > 0.0 && bits < nll / std::f64::consts::LN_2);
        assert!(result[split]["tokens"].as_u64().unwrap() > 50 && result[split]["unknown"].is_u64());
    }
    assert!(result["floor"].is_null() && result["parameters"].is_u64());
    assert!(result["seconds"].as_f64().unwrap() > 0.0 && result["tokens_per_second"].as_f64().unwrap() > 0.0);
    assert!(result["best"]["epoch"].as_u64().unwrap() > 0 && result["best"]["step"].is_u64());
    assert!(result["exchange"].is_null(), "one process has nobody to exchange with");
    assert!(result["expected"].is_null(), "a preset was not measured");
    assert_eq!(result.as_object().unwrap().len(), 12);
    assert!(result["members"].is_null(), "{result}");
}

/// What stands behind the label of the one line of `said` that has it.
fn expected_line(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("expected ")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    lines[0].to_owned()
}

#[test]
fn a_test_perplexity_is_expected_before_training_and_compared_with_at_the_end() {
    let folder = folder();
    let mut state = 1_u32;
    let mut text = |bytes: usize| {
        let words =
            ["the ", "cat ", "sees ", "a ", "dog ", "and ", "runs ", "home ", "today\n", "far ", "or ", "near\n"];
        let mut text = String::new();
        while text.len() < bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text += words[(state >> 16) as usize % words.len()];
        }
        text
    };
    for (name, bytes) in [("train", 17_000), ("valid", 1_500), ("test", 2_000)] {
        std::fs::write(folder.path().join(name), text(bytes)).unwrap();
    }
    let train = "train train --valid valid --test test --tokenizer chars";
    let said = line(folder.path(), &format!("{train} --steps 330 --out run"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let before = expected_line(&said.err);
    assert!(before.starts_with("test perplexity ") && before.ends_with(')') && before.contains(" (80 %: "), "{before}");
    let after = expected_line(&said.out);
    assert!(after.starts_with(&before) && after.ends_with(" the band") && after.contains(" is "), "{before}\n{after}");
    // The number depends on text and steps alone.
    let again = line(folder.path(), "train --resume run --json").json();
    let expected = &again["expected"];
    assert!(before.contains(&format!("{:.2}", expected["perplexity"].as_f64().unwrap())), "{before}: {expected}");
    let figure = |key: &str| expected[key].as_f64().unwrap();
    assert!(figure("low") < figure("perplexity") && figure("perplexity") < figure("high"));
    let test = again["test"]["perplexity"].as_f64().unwrap();
    let place = ["below", "within", "above"][usize::from(test >= figure("low")) + usize::from(test > figure("high"))];
    assert_eq!(expected["place"], place);
    // The run says it of itself, too.
    let shown = line(folder.path(), "show run").out;
    let row = shown.lines().find_map(|line| line.strip_prefix("expected")).unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(row.trim_start(), after);
    assert_eq!(line(folder.path(), "show run --json").json()["results"]["expected"], *expected);
    // A run that is made longer is another one.
    let longer = line(folder.path(), "train --resume run --steps 500");
    assert!(expected_line(&longer.out).contains("times as many as were expected"), "{}", longer.out);
    // Nothing is said of what no plan would choose, and why not.
    for (options, why) in [
        ("--steps 330 --hidden 20", "--hidden is 20, where the plan has "),
        ("--steps 330 --learning-rate 0.5", "--learning-rate is 0.5, where the plan has "),
        ("--steps 20", "the whole run has "),
    ] {
        let said = line(folder.path(), &format!("{train} {options} --out other --force"));
        let said = expected_line(&said.err);
        assert!(said.starts_with("nothing is said of the test perplexity: ") && said.contains(why), "{said}");
    }
}

#[test]
fn a_run_without_a_preset_is_chosen_for_its_time_and_said_to_be() {
    let folder = folder();
    let said = line(folder.path(), "train text.txt --budget 2s --out run --json");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let plan: Vec<&str> = said.err.lines().skip_while(|line| !line.starts_with("plan")).collect();
    let named = [
        "GFLOP/s, enough for",
        "products in ",
        "of 11 kinds, 7 a line",
        "bits a character: words 0.",
        "weights",
        "so dropout is locked",
        "it starts from how often words occur",
        "by its option",
    ];
    for (line, expected) in plan.iter().zip(named) {
        assert!(line.contains(expected), "{line}: {expected}");
    }
    assert!(!plan[8].starts_with(' '), "{}", plan[8]);
    // With less time than that, it still ends with a model.
    assert!(said.json()["test"]["perplexity"].as_f64().unwrap() > 1.0);
    let said = line(folder.path(), "train text.txt --budget 2s --hidden 24 --dropout 0.25 --batch 3 --out other");
    assert!(said.err.contains("1 layer of 24") && said.err.contains("dropout is locked, 0.25"), "{}", said.err);
    let config = line(folder.path(), "show other --json").json()["config"].clone();
    assert_eq!((&config["training"]["batch"], &config["model"]["lstm"]["hidden"]), (&3.into(), &24.into()));
    // Without a time the machine decides nothing: the same command gives the same run.
    let runs = ["first", "second"].map(|run| {
        let said = line(folder.path(), &format!("train text.txt --epochs 1 --out {run} --json"));
        said.json()["test"]["nll"].clone()
    });
    assert_eq!(runs[0], runs[1]);
}

/// Rare words were read in subwords by a rule, on which Thai, names and DNA lost to their characters.
#[test]
fn a_text_of_rare_words_is_read_in_what_was_measured_to_be_better() {
    let folder = folder();
    let numbers: Vec<String> = (0..3_000u32).map(|n| format!("{} and {}", n * 7919 % 10_007, n % 3)).collect();
    std::fs::write(folder.path().join("rare.txt"), numbers.join("\n")).unwrap();
    let said = line(folder.path(), "train rare.txt --epochs 1 --hidden 8 --out run");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let counted = said.err.lines().find(|line| line.contains("counted on a sample")).unwrap();
    let bits = |kind: &str| {
        let after = counted.split_once(&format!(" {kind} ")).unwrap_or_else(|| panic!("{kind}: {counted}")).1;
        after.split(',').next().unwrap().split(';').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(bits("chars") < bits("subwords"), "{counted}");
    assert_eq!(line(folder.path(), "show run --json").json()["config"]["tokenizer"], "chars");
    let said = line(folder.path(), "train rare.txt --tokenizer words --epochs 1 --hidden 8 --out words");
    assert!(!said.err.contains("counted on a sample"), "{}", said.err);
    assert_eq!(line(folder.path(), "show words --json").json()["config"]["tokenizer"], "words");
}

/// A text that has `<unk>` in it for once was not asked how many of its words are rare.
#[test]
fn a_word_that_is_called_unknown_does_not_make_rare_words_known() {
    let folder = folder();
    let numbers: Vec<String> = (0..3_000u32).map(|n| format!("{} and {}", n * 7919 % 10_007, n % 3)).collect();
    std::fs::write(folder.path().join("rare.txt"), format!("<unk>\n{}", numbers.join("\n"))).unwrap();
    let said = line(folder.path(), "train rare.txt --epochs 1 --hidden 8 --out run");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_ne!(line(folder.path(), "show run --json").json()["config"]["tokenizer"], "words", "{}", said.err);
}

/// One line without white space was refused as a text of one token.
#[test]
fn a_text_without_white_space_is_read_in_characters() {
    let folder = folder();
    let mut state = 7u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"ACGT"[(state >> 30) as usize] as char
    };
    std::fs::write(folder.path().join("dna"), (0..40_000).map(|_| letter()).collect::<String>()).unwrap();
    let said = line(folder.path(), "train dna --steps 60 --hidden 8 --out run --json");
    let bits = said.json()["test"]["bits_per_char"].as_f64().unwrap();
    assert!((1.98..2.05).contains(&bits), "{bits}: {}", said.err);
    assert_eq!(line(folder.path(), "show run --json").json()["config"]["tokenizer"], "chars");
}

#[test]
fn a_run_that_is_chosen_takes_an_optimizer_that_goes_with_weight_decay() {
    let folder = folder();
    // Muon's decay is decoupled; plain Adam, by which more readings are learned, gives way to AdamW.
    for (epochs, optimizer) in [(2, "muon"), (13, "adamw")] {
        let options = format!("--tokenizer chars --weight-decay 1e-5 --epochs {epochs} --hidden 8");
        let said = line(folder.path(), &format!("train text.txt {options} --out run --force"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        let config = line(folder.path(), "show run --json").json()["config"].clone();
        assert_eq!(config["training"]["optimizer"], optimizer, "{epochs}");
    }
}

/// The warm-up and the rate that they were refused for were the plan's, not the user's.
#[test]
fn a_run_that_is_chosen_takes_any_schedule_and_any_optimizer() {
    let folder = folder();
    let schedules =
        ["constant", "step", "linear", "cosine", "one-cycle", "plateau"].map(|kind| format!("--schedule {kind}"));
    let optimizers = ["sgd", "nt-asgd", "adam", "adamw"].map(|kind| format!("--optimizer {kind}"));
    for option in schedules.iter().chain(&optimizers) {
        let said = line(folder.path(), &format!("train text.txt {option} --epochs 1 --hidden 8 --force --out run"));
        assert_eq!(said.code, Some(0), "{option}: {}", said.err);
        let config = line(folder.path(), "show run --json").json()["config"].clone();
        let (name, value) = option.split_once(' ').unwrap();
        let (optimizer, schedule) = (&config["training"]["optimizer"], &config["training"]["schedule"]);
        if value == "nt-asgd" {
            assert_eq!((optimizer, &config["training"]["average"]), (&"sgd".into(), &"non-monotone(5)".into()));
        } else {
            assert_eq!(if name == "--optimizer" { optimizer } else { &schedule["kind"] }, value, "{option}");
        }
        let rate = schedule["learning_rate"].as_f64().unwrap();
        assert_eq!(rate < 0.1, optimizer.as_str().unwrap().starts_with("adam"), "{option}: {rate}");
        if value == "one-cycle" {
            assert_eq!(schedule["warmup"], "0");
        }
    }
    let said = line(folder.path(), "train text.txt --schedule one-cycle --warmup 0.1 --out other");
    assert!(said.code == Some(2) && said.err.contains("rises by itself"), "{}", said.err);
}

/// The plan's own choices made it one that is refused.
#[test]
fn a_run_that_is_chosen_scores_every_word_where_labels_are_smoothed() {
    let folder = folder();
    let words: Vec<String> = (0..20_000u32).map(|n| format!("word{}", n % 5_000)).collect();
    std::fs::write(folder.path().join("words.txt"), words.join("\n")).unwrap();
    let said = line(folder.path(), "train words.txt --label-smoothing 0.1 --steps 1 --hidden 4 --out run");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains(" words of 5,00") && !said.err.contains("scored in a step"), "{}", said.err);
}

/// They could be asked for and not done without.
#[test]
fn residual_connections_that_were_chosen_can_be_done_without() {
    let folder = folder();
    let words: Vec<String> = (0..20_000u32).map(|n| format!("word{}", n % 5_000)).collect();
    std::fs::write(folder.path().join("words.txt"), words.join("\n")).unwrap();
    for (option, expected) in [("", true), ("--residual", true), ("--residual=false", false)] {
        let command = format!("train words.txt --layers 2 {option} --steps 1 --hidden 4 --force --out run");
        let said = line(folder.path(), &command);
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert_eq!(
            line(folder.path(), "show run --json").json()["config"]["model"]["lstm"]["residual"],
            expected,
            "{option}"
        );
    }
}

#[test]
fn a_part_of_a_text_is_used_when_asked_for() {
    let folder = folder();
    std::fs::write(folder.path().join("long.txt"), "some words of a long text\n".repeat(40_000)).unwrap();
    let tokens = |command: &str, run: &str| {
        let said = line(folder.path(), &format!("train long.txt --hidden 4 {command} --out {run}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        let train = said.err.lines().find(|line| line.starts_with("train ")).unwrap().to_owned();
        let number = train.split_whitespace().nth(1).unwrap().replace(',', "").parse::<f64>().unwrap();
        (number, said.err)
    };
    let (all, _) = tokens("--steps 1", "all");
    // Of 40,000 lines nine tenths, each of six words and its end.
    assert!((all / (7.0 * 36_000.0) - 1.0).abs() < 1e-3, "{all}");
    let (limited, said) = tokens("--steps 1 --text-limit 0.25", "limited");
    assert!((limited / all - 0.25 * 1.049 / 0.936).abs() < 0.02, "{limited} of {all}");
    assert!(!said.contains("more than there is time to read"));
    // With the same run folder the same part is read again.
    let more = line(folder.path(), "train --resume limited --steps 2");
    assert_eq!(more.code, Some(0), "{}", more.err);
}

#[test]
fn a_schedule_is_said_and_kept_with_the_run() {
    let folder = folder();
    let said =
        line(folder.path(), &format!("train text.txt {TINY} --out run --rate 0.002 --schedule cosine --warmup 0.05"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("adam at rate 0.002, cosine, warm-up 0.05 of the run, until 2 epochs"), "{}", said.err);
    let said = line(
        folder.path(),
        &format!(
            "train text.txt {TINY} --out other --accumulate 3 --variable-segment --beta1 0.5 --beta2 0.75 --epsilon 1e-6"
        ),
    );
    assert!(said.err.contains("stream, 4 rows of about 8 steps, 3 batches a step, adam"), "{}", said.err);
    assert!(said.err.contains(", β₁ 0.5, β₂ 0.75, ε 0.000001, until"), "{}", said.err);
    let other = line(folder.path(), "show other --json").json()["config"].clone();
    assert_eq!((&other["training"]["accumulate"], &other["variable_segment"]), (&3.into(), &true.into()));
    assert_eq!((&other["training"]["adam"]["beta1"], &other["training"]["adam"]["beta2"]), (&0.5.into(), &0.75.into()));
    let shown = line(folder.path(), "show other").out;
    assert!(shown.contains("stream, 4 rows of about 8 steps, 3 batches a step\n"), "{shown}");
    assert!(shown.contains(", β₁ 0.5, β₂ 0.75, ε 0.000001; gradient"), "{shown}");
    let page = std::fs::read_to_string(folder.path().join("other/report.html")).unwrap();
    assert!(page.contains(", by adam at rate ") && page.contains(", β₁ 0.5, β₂ 0.75"), "{page}");
    let shown = line(folder.path(), "show run").out;
    assert!(shown.contains("adam at rate 0.002, cosine, warm-up 0.05 of the run; gradient clipped to 1\n"), "{shown}");
    let schedule = line(folder.path(), "show run --json").json()["config"]["training"]["schedule"].clone();
    assert_eq!((&schedule["kind"], &schedule["warmup"]), (&"cosine".into(), &"0.05".into()));
}

#[test]
fn a_range_test_prints_its_curve_and_suggestions_and_leaves_nothing() {
    let folder = folder();
    let options = TINY.replace("--epochs 2", "--optimizer adam --find-lr");
    let said = line(folder.path(), &format!("train text.txt {options}"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let rows: Vec<&str> = said.out.lines().collect();
    assert!(rows[0].contains("rate") && rows[1].contains("1.00e-6"), "{}", said.out);
    assert!(
        rows[rows.len() - 2].starts_with("steepest ") && rows[rows.len() - 1].starts_with("tenth "),
        "{}",
        said.out
    );
    assert!(said.err.contains("try: --learning-rate "), "{}", said.err);
    let result = line(folder.path(), &format!("train text.txt {options} --json")).json();
    assert_eq!(result["curve"].as_array().unwrap().len(), rows.len() - 3);
    for suggestion in ["steepest", "tenth_of_minimum"] {
        assert!((1e-5..1.0).contains(&result[suggestion].as_f64().unwrap()), "{}", result[suggestion]);
    }
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    assert_eq!(piped(folder.path(), &format!("train - {options} --json"), &text).json(), result);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_noise_of_gradients_suggests_a_batch_and_leaves_nothing() {
    let folder = folder();
    let options = TINY.replace("--epochs 2", "--optimizer adam --rate 0.01 --find-batch");
    let said = line(folder.path(), &format!("train text.txt {options}"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let rows: Vec<&str> = said.out.lines().collect();
    assert!(rows[0].contains("noise scale, tokens") && rows[1].trim_start().starts_with("50 "), "{}", said.out);
    let result = line(folder.path(), &format!("train text.txt {options} --json")).json();
    let points = result["points"].as_array().unwrap();
    assert_eq!(
        points.iter().map(|point| point["step"].as_u64().unwrap()).collect::<Vec<_>>(),
        [50, 100, 200, 400, 800]
    );
    match result["batch"].as_u64() {
        Some(batch) => {
            assert!(batch.is_power_of_two() && !result["costs"].as_array().unwrap().is_empty(), "{result}");
            // By the clock it may be another one.
            assert!(rows[6].contains("tokens/s") && rows[rows.len() - 1].starts_with("batch "), "{}", said.out);
            assert!(said.err.contains("try: --batch "), "{}", said.err);
        }
        None => assert!(rows.len() == 6 && said.err.contains("larger --batch"), "{}", said.err),
    }
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    assert_eq!(piped(folder.path(), &format!("train - {options} --json"), &text).json()["points"], result["points"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_average_of_the_weights_is_what_is_used() {
    for options in ["--optimizer nt-asgd --non-monotone 1 --rate 60", "--average ema(0.99)"] {
        let folder = folder();
        let options =
            format!("train text.txt {} --epochs 8 --out run --json {options}", TINY.replace("--epochs 2", ""));
        let said = line(folder.path(), &options);
        let result = said.json();
        assert!(
            said.err.contains(if options.contains("ema") {
                "averaged by ema(0.99)"
            } else {
                "averaging the weights from step"
            }),
            "{}",
            said.err
        );
        let show = line(folder.path(), "show run --json").json();
        assert_eq!(show["results"]["test"]["perplexity"], result["test"]["perplexity"]);
        let generated = line(folder.path(), "generate run --length 5");
        assert_eq!(generated.code, Some(0), "{}", generated.err);
    }
}

#[test]
fn cells_that_differ_train_go_on_and_are_used() {
    for (options, shown) in [
        ("--peepholes", "peepholes"),
        ("--coupled", "coupled gates"),
        ("--layer-norm", "layer normalisation"),
        ("--zoneout 0.1", "zoneout 0.1"),
        ("--zoneout 0.1 --zoneout-cell 0.3", "zoneout of cells 0.3, of hidden states 0.1"),
        (
            "--peepholes --coupled --layer-norm --zoneout-hidden 0.1 --projection 5 --wiring scores --batches lines",
            "peepholes, coupled gates, layer normalisation, zoneout of cells 0, of hidden states 0.1",
        ),
    ] {
        let folder = trained(&format!("--rate 0.02 --dropout 0 {options}"));
        let show = line(folder.path(), "show run");
        assert!(show.out.contains(&format!("cells       {shown}\n")), "{options}: {}", show.out);
        let said = line(folder.path(), "train --resume run --epochs 3 --json");
        assert!(said.err.contains(&format!("cells with {shown}")), "{options}: {}", said.err);
        let result = said.json();
        assert!(result["valid"]["perplexity"].as_f64().unwrap() < 9.9, "{options}: {result}");
        let eval = line(folder.path(), "eval run text.txt --json").json();
        let score = line(folder.path(), "score run text.txt --json");
        assert_eq!(score.code, Some(0), "{options}: {}", score.err);
        assert!(eval["perplexity"].as_f64().unwrap() < 9.9, "{options}: {eval}");
        for generate in ["generate run --length 9", "generate run --length 9 --beam 3"] {
            let said = line(folder.path(), generate);
            assert!(said.code == Some(0) && !said.out.is_empty(), "{options}: {}", said.err);
        }
    }
}

#[test]
fn a_text_from_a_pipe_or_an_archive_trains_as_the_file_does() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    std::fs::create_dir(folder.path().join("packed")).unwrap();
    std::fs::write(folder.path().join("packed/text.txt.gz"), encoder.finish().unwrap()).unwrap();
    let model = |run: &str| std::fs::read(folder.path().join(run).join("model.safetensors")).unwrap();
    assert_eq!(line(folder.path(), &format!("train text.txt {TINY}")).code, Some(0));
    for archive in ["packed/text.txt.gz", "packed"] {
        let said = line(folder.path(), &format!("train {archive} {TINY} --out runs/archive --force"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert_eq!(model("runs/archive"), model("runs/text"));
    }
    let said = piped(folder.path(), &format!("train - {TINY} --json"), &text);
    assert_eq!(said.json()["run"], "runs/stdin");
    assert_eq!(model("runs/stdin"), model("runs/text"));
    // The text is in the run folder, so that the run goes on, and nowhere else.
    assert_eq!(std::fs::read_to_string(folder.path().join("runs/stdin/text.txt")).unwrap(), text);
    assert!(!folder.path().join("runs/stdin.stdin").exists());
    for run in ["runs/stdin", "runs/text"] {
        let said = line(folder.path(), &format!("train --resume {run} --epochs 4"));
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    assert_eq!(model("runs/stdin"), model("runs/text"));
    let said = line(folder.path(), "eval runs/stdin packed/text.txt.gz --baseline");
    assert!(said.code == Some(0) && said.out.contains("baseline"), "{}", said.err);
}

#[test]
fn without_a_test_text_its_result_is_null() {
    let folder = folder();
    let result = line(folder.path(), &format!("train text.txt --split 90/10 {TINY} --json")).json();
    assert!(result["test"].is_null() && result["valid"].is_object());
}

#[test]
fn evaluation_repeats_the_test_of_the_training() {
    for kind in
        ["words", "chars --batches lines", "bytes", "bpe --vocab-size 280", "unigram --batches lines", "wordpiece"]
    {
        let folder = folder();
        let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
        let (train, test) = text.split_at(text.match_indices('\n').nth(350).unwrap().0 + 1);
        std::fs::write(folder.path().join("train.txt"), train).unwrap();
        std::fs::write(folder.path().join("test.txt"), test).unwrap();
        let files = "train.txt --valid test.txt --test test.txt";
        let trained = line(folder.path(), &format!("train {files} {TINY} --tokenizer {kind} --out run --json")).json();
        let result = line(folder.path(), "eval run test.txt --json").json();
        for key in ["perplexity", "nll", "tokens", "unknown", "word_perplexity", "bits_per_char"] {
            assert_eq!(result[key], trained["test"][key], "{kind}: {key}");
        }
        assert!(result["seconds"].is_f64());
        let said = line(folder.path(), "eval run test.txt");
        assert!(said.out.starts_with("perplexity "), "{}", said.out);
    }
}

#[test]
fn a_tokenizer_of_one_run_or_of_the_library_serves_another() {
    let folder = trained("--tokenizer bpe --vocab-size 280");
    let own = std::fs::read(folder.path().join("run/tokenizer.json")).unwrap();
    let own: serde_json::Value = serde_json::from_slice(&own).unwrap();
    std::fs::write(folder.path().join("library.json"), own["subwords"].to_string()).unwrap();
    let mut results = Vec::new();
    for tokenizer in ["run/tokenizer.json", "library.json", "bpe --vocab-size 280"] {
        let said = line(folder.path(), &format!("train text.txt {TINY} --json --tokenizer {tokenizer}"));
        results.push(said.json()["test"].clone());
    }
    assert!(results[0] == results[1] && results[1] == results[2], "{results:?}");
    // The run has the tokenizer itself; the file is needed no more.
    let said = line(folder.path(), &format!("train text.txt {TINY} --out other --tokenizer library.json"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    std::fs::remove_file(folder.path().join("library.json")).unwrap();
    for command in ["eval other text.txt", "train --resume other --epochs 3", "generate other --stop cat"] {
        let said = line(folder.path(), command);
        assert_eq!(said.code, Some(0), "{command}: {}", said.err);
    }
    assert!(line(folder.path(), "show other").out.contains("subwords"));
    let said = line(folder.path(), &format!("train text.txt {TINY} --batches lines --tokenizer run/tokenizer.json"));
    assert!(said.code == Some(2) && said.err.contains("markers around their lines"), "{}", said.err);
}

#[test]
fn evaluation_compares_with_a_five_gram_of_the_same_text() {
    for options in ["", "--tokenizer chars", "--batches lines", "--preset textlstm --tokenizer words"] {
        let tiny = if options.contains("textlstm") { "--hidden 8 --embedding 6 --batch 4 --epochs 1" } else { TINY };
        let folder = folder();
        let said = line(folder.path(), &format!("train text.txt {tiny} --out run {options}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        let result = line(folder.path(), "eval run text.txt --baseline --json").json();
        let baseline = &result["baseline"];
        assert_eq!((&baseline["tokens"], &baseline["order"]), (&result["tokens"], &5.into()), "{options}");
        // Nine words that follow each other by rule; most of the text is what was counted.
        let perplexity = baseline["perplexity"].as_f64().unwrap();
        assert!(
            perplexity > 1.0 && perplexity < 4.0 && perplexity < result["perplexity"].as_f64().unwrap(),
            "{result}"
        );
        assert!(line(folder.path(), "eval run text.txt --json").json()["baseline"].is_null());
    }
    let folder = trained("");
    let said = line(folder.path(), "eval run text.txt --baseline");
    assert!(said.out.lines().nth(2).unwrap().starts_with("baseline   "), "{}", said.out);
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    std::fs::write(folder.path().join("other.txt"), &text).unwrap();
    std::fs::write(folder.path().join("text.txt"), text.replace("the cat", "a dog")).unwrap();
    let said = line(folder.path(), "eval run other.txt --baseline");
    assert!(said.code == Some(2) && said.err.contains("training text changed"), "{}", said.err);
    std::fs::remove_file(folder.path().join("text.txt")).unwrap();
    let said = line(folder.path(), "eval run other.txt --baseline");
    assert!(said.code == Some(2) && said.err.contains("text.txt"), "{}", said.err);
    assert_eq!(line(folder.path(), "eval run other.txt").code, Some(0));
}

#[test]
fn scores_add_up_to_the_perplexity() {
    let subwords = ["--tokenizer bpe", "--tokenizer unigram --batches lines", "--tokenizer wordpiece"];
    let others = ["", "--tokenizer chars", "--batches lines", "--preset textlstm --tokenizer words"];
    for options in subwords.into_iter().chain(others) {
        let tiny = if options.contains("textlstm") { "--hidden 8 --embedding 6 --batch 4 --epochs 2" } else { TINY };
        let folder = folder();
        let said = line(folder.path(), &format!("train text.txt {tiny} --out run {options}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        let expected = line(folder.path(), "eval run text.txt --json").json();
        let scored = line(folder.path(), "score run text.txt --json");
        let (mut nll, mut tokens) = (0.0, 0);
        for line in scored.out.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let nats = line["tokens"].as_array().unwrap().iter().map(|token| token["nats"].as_f64().unwrap());
            let mean = nats.clone().sum::<f64>() / nats.len() as f64;
            assert!((line["perplexity"].as_f64().unwrap() / mean.exp() - 1.0).abs() < 1e-6);
            nll += nats.clone().sum::<f64>();
            tokens += nats.len();
        }
        assert_eq!(scored.out.lines().count(), 400, "{options}");
        assert_eq!(expected["tokens"], tokens);
        assert!((nll / tokens as f64 / expected["nll"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{options}");
        let said = line(folder.path(), "score run text.txt");
        assert_eq!(said.out.lines().count(), 400);
        assert!(said.err.contains("perplexity"), "{}", said.err);
    }
}

#[test]
fn generation_follows_its_seed_and_streams() {
    let folder = trained("");
    let write = |options: &str| {
        let said = line(folder.path(), &format!("generate run --length 30 {options}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        said.out
    };
    assert_eq!(write("--seed 3"), write("--seed 3"));
    assert_ne!(write("--seed 3 --temperature 2"), write("--seed 4 --temperature 2"));
    assert_eq!(write("--temperature 0"), write("--temperature 0"));
    assert_eq!(write("--top-k 1 --seed 3"), write("--temperature 0"));
    assert!(write("--prompt cat").starts_with("cat "));
    assert!(!write("--temperature 5").contains("<unk>"));
    // Words arrive as they are written: the reader may leave at any time.
    let mut child =
        command(folder.path(), &["generate", "run", "--length", "1000000"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 64];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn several_texts_differ_and_stop_where_they_are_told() {
    let folder = trained("--tokenizer chars");
    let texts = |options: &str| -> Vec<serde_json::Value> {
        let said = line(folder.path(), &format!("generate run --prompt the --length 80 --json {options}"));
        assert_eq!(said.code, Some(0), "{options}: {}", said.err);
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let three = texts("--samples 3 --seed 5 --temperature 1 --min-p 0.05 --repetition-penalty 1.1");
    assert_eq!(three, texts("--samples 3 --seed 5 --temperature 1 --min-p 0.05 --repetition-penalty 1.1"));
    assert!(three.len() == 3 && three[0]["text"] != three[1]["text"] && three[1]["text"] != three[2]["text"]);
    assert_eq!(
        (&three[0]["prompt"], &three[0]["tokens"], &three[0]["stopped"]),
        (&"the".into(), &80.into(), &false.into())
    );
    // A stop cuts the same text short.
    let (whole, stopped) = (&texts("")[0], &texts("--stop e")[0]);
    let (whole, text) = (whole["text"].as_str().unwrap(), stopped["text"].as_str().unwrap());
    assert!(whole.contains('e') && stopped["stopped"] == true);
    assert_eq!(whole.split('e').next().unwrap(), text);
    assert_eq!(stopped["tokens"].as_u64().unwrap() as usize, text.chars().count() + 1);
    let said = line(folder.path(), "generate run --prompt the --length 80 --stop e --samples 2");
    assert!(said.out.starts_with(&format!("the{text}\n\nthe")), "{}", said.out);
}

#[test]
fn a_beam_finds_likelier_texts_than_taking_the_likeliest_token() {
    let folder = trained("");
    let beam = |options: &str| -> Vec<serde_json::Value> {
        let said = line(folder.path(), &format!("generate run --length 8 --json {options}"));
        assert_eq!(said.code, Some(0), "{options}: {}", said.err);
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (one, best) = (beam("--beam 1"), beam("--beam 40 --samples 3"));
    assert_eq!(one[0]["text"], beam("--temperature 0")[0]["text"]);
    let probability = |text: &serde_json::Value| text["log_probability"].as_f64().unwrap();
    assert!(best.len() == 3 && best.iter().map(probability).rev().is_sorted());
    assert!(probability(&best[0]) >= probability(&one[0]) - 1e-5);
    let said = lstm(folder.path(), &["generate", "run", "--beam", "4", "--stop", "\n", "--length", "20", "--json"]);
    assert!(said.json()["stopped"] == true && !said.out.contains("\\n"), "{}", said.out);
}

#[test]
fn generation_of_characters_and_windows_goes_on_from_the_prompt() {
    let subwords = ["--tokenizer bpe", "--tokenizer unigram", "--tokenizer wordpiece --batches lines"];
    let others = ["--tokenizer chars", "--tokenizer bytes", "--batches lines", "--batches windows(3)"];
    for options in subwords.into_iter().chain(others) {
        let folder = folder();
        let tiny = TINY.replace("--segment 8", if options.contains("windows") { "" } else { "--segment 8" });
        let said = line(folder.path(), &format!("train text.txt {tiny} --out run {options}"));
        assert_eq!(said.code, Some(0), "{options}: {}", said.err);
        let said = lstm(folder.path(), &["generate", "run", "--prompt", "the cat", "--length", "20"]);
        assert!(said.code == Some(0) && said.out.starts_with("the cat"), "{options}: {} {}", said.out, said.err);
        for marker in ["<pad>", "<sos>", "<eos>"] {
            assert!(!said.out.contains(marker), "{options}: {}", said.out);
        }
    }
}

#[test]
fn show_names_every_parameter_and_the_results() {
    let folder = trained("--wiring skip");
    let said = line(folder.path(), "show run");
    for fact in ["lstm.weight_ih_l1", "[32, 14]", "skip", "text.txt", "test", "perplexity", "embedding.weight"] {
        assert!(said.out.contains(fact), "{fact}: {}", said.out);
    }
    let shown = line(folder.path(), "show run --json").json();
    assert!(shown["results"]["test"]["perplexity"].as_f64().unwrap() > 1.0);
    assert_eq!(shown["config"]["model"]["lstm"]["hidden"], 8);
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_says_how_to_go_on_and_ends_as_an_unbroken_one() {
    let folder = folder();
    let options = format!("train text.txt {} --epochs 400 --patience 0", TINY.replace("--epochs 2", ""));
    let whole = line(folder.path(), &format!("{options} --out whole --json")).json();
    let arguments = format!("{options} --out broken");
    let mut child = command(folder.path(), &arguments.split_whitespace().collect::<Vec<_>>())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while !folder.path().join("broken/model.safetensors").exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let interrupted = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(err.contains("lstm train --resume broken"), "{err}");
    let resumed = line(folder.path(), "train --resume broken --json").json();
    for split in ["train", "valid", "test"] {
        assert_eq!(resumed[split], whole[split]);
    }
    let model = |run: &str| std::fs::read(folder.path().join(run).join("model.safetensors")).unwrap();
    assert_eq!(model("broken"), model("whole"));
}

/// `lstm train … 2>&1 | head` ended the training, with a panic or as a success.
#[cfg(unix)]
#[test]
fn a_watcher_who_leaves_stops_nothing() {
    let folder = folder();
    let script = format!(
        "exec 3>result; {{ {} train text.txt {TINY} --json --out run 2>&1 >&3; echo $? >code; }} | head -n 1",
        env!("CARGO_BIN_EXE_lstm")
    );
    let mut shell = std::process::Command::new("sh");
    assert!(shell.current_dir(folder.path()).args(["-c", &script]).output().unwrap().status.success());
    let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
    assert_eq!(read("code").trim(), "0");
    assert!(read("result").contains("perplexity"));
}

#[test]
fn completions_are_made_for_every_shell() {
    let folder = folder();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let said = line(folder.path(), &format!("completions {shell}"));
        assert!(said.code == Some(0) && said.out.contains("lstm") && said.out.contains("resume"), "{shell}");
    }
}

#[test]
fn every_option_of_every_command_says_its_default() {
    let folder = folder();
    let data: &[&str] = if cfg!(feature = "download") { &["data get"] } else { &[] };
    for subcommand in ["train", "eval", "generate", "score", "show", "bench"].iter().chain(data) {
        let said = line(folder.path(), &format!("{subcommand} --help"));
        // An option's text runs to the next option or to an empty line.
        let mut options: Vec<String> = Vec::new();
        for row in said.out.lines() {
            if row.starts_with("      --") {
                options.push(row.to_owned());
            } else if let Some(last) = options.last_mut() {
                last.push_str(row);
            }
        }
        assert!(!options.is_empty());
        for option in options.iter().filter(|option| !option.contains("--resume")) {
            assert!(option.contains("[default"), "{subcommand}: {option}");
        }
    }
}
