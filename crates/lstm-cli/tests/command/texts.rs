use std::path::Path;

use crate::{Said, folder, line, lstm, piped, trained};

const SMALL: &str = "--preset small --hidden 8 --embedding 8 --epochs 1 --batch 2";

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// What is said of a training that succeeds.
fn train(folder: &Path, arguments: &str) -> Said {
    let said = line(folder, &format!("train {arguments} {SMALL}"));
    assert_eq!(said.code, Some(0), "{arguments}: {}", said.err);
    said
}

/// The tensors of a file of a run, as they lie in it.
fn tensors(folder: &Path, file: &str) -> Vec<u8> {
    let bytes = std::fs::read(folder.join(file)).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert!(bytes.len() > 8 + header + 1000, "{file}");
    bytes[8 + header..].to_vec()
}

/// Trains 14 steps at once, and in three pieces: parameters, those of the best model, and moments are the same.
fn assert_goes_on_to_the_same_bits(folder: &Path, arguments: &str) {
    let arguments = format!("{arguments} --optimizer adam --learning-rate 0.01 --schedule constant --force");
    train(folder, &format!("{arguments} --steps 14 --out whole"));
    train(folder, &format!("{arguments} --steps 5 --out stopped"));
    for file in ["model.safetensors", "checkpoint.safetensors"] {
        assert!(tensors(folder, &format!("whole/{file}")) != tensors(folder, &format!("stopped/{file}")));
    }
    for steps in [8, 14] {
        let said = line(folder, &format!("train --resume stopped --steps {steps}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    for file in ["model.safetensors", "checkpoint.safetensors"] {
        let same = tensors(folder, &format!("whole/{file}")) == tensors(folder, &format!("stopped/{file}"));
        assert!(same, "{arguments}: {file}");
    }
}

/// The validation and test texts were joined and trained on, the training text was not.
#[test]
fn a_folder_for_training_beside_files_for_validation_and_test() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "c/train/part1", &"alpha beta gamma delta\n".repeat(400));
    write(folder.path(), "c/valid.txt", &"alpha beta gamma delta\n".repeat(40));
    write(folder.path(), "c/test.txt", &"omega psi chi phi\n".repeat(40));
    let said = train(folder.path(), "c --out run");
    for part in [
        "files    train: train/part1; valid: valid.txt; test: test.txt\n",
        "train    2,000 words in 400 lines",
        "valid    200 words in 40 lines",
        "test     200 words in 40 lines, 80.00 % of them unknown",
    ] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    // One of the parts is compressed; a file about them is not read.
    write(folder.path(), "c/README.md", "omega\n");
    write(folder.path(), "c/train/part2", &"beta alpha\n".repeat(10));
    let said = train(folder.path(), "c --out more");
    assert!(said.err.contains("train    2,030 words in 410 lines"), "{}", said.err);
    assert!(said.err.contains("left out: README.md (about the texts)"), "{}", said.err);
    // The run goes on with the same files, or not at all.
    let said = line(folder.path(), "train --resume more --epochs 2");
    assert!(said.code == Some(0) && said.err.contains("files    train: train/part1, train/part2;"), "{}", said.err);
    write(folder.path(), "c/train/part3", "gamma\n");
    let said = line(folder.path(), "train --resume more --epochs 3");
    assert!(said.code == Some(2) && said.err.contains("changed since the run began"), "{}", said.err);
}

#[test]
fn folders_that_could_be_read_in_more_than_one_way() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    for (number, (files, expected)) in [
        ("valid.txt test.txt", "no text to train on"),
        ("train.txt valid.txt dev.txt", "both named for validation"),
        ("train.en train.de valid.en", "both named for training"),
        ("a.txt a.txt.gz", "one text twice"),
        ("train.txt valid.jsonl", "no plain text"),
        ("train/a b.txt", "beside the folder train"),
    ]
    .into_iter()
    .enumerate()
    {
        for file in files.split(' ') {
            write(folder.path(), &format!("{number}/{file}"), &text);
        }
        for options in ["", "--find-lr "] {
            let said = line(folder.path(), &format!("train {options}{number}"));
            assert!(
                said.code == Some(2) && said.err.contains(expected) && said.out.is_empty(),
                "{files}: {}",
                said.err
            );
        }
        assert!(!folder.path().join("runs").exists(), "{files}");
    }
}

/// A list that is sorted was cut at its end without a word: its last letters were the test.
#[test]
fn sorted_lists_are_noticed_and_shuffled_by_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let mut names: Vec<String> = (0..900u32).map(|n| format!("{:x}\n", n.wrapping_mul(2_654_435_761))).collect();
    names.sort();
    write(folder.path(), "names", &names.concat());
    let chars = "names --tokenizer chars";
    let said = train(folder.path(), &format!("{chars} --out sorted"));
    assert!(said.err.contains("alphabetical order") && said.err.contains("--shuffle lines"), "{}", said.err);
    let said = train(folder.path(), &format!("{chars} --shuffle lines --out one"));
    assert!(!said.err.contains("alphabetical"), "{}", said.err);
    train(folder.path(), &format!("{chars} --shuffle lines --out two"));
    train(folder.path(), &format!("{chars} --shuffle lines --seed 2 --out other"));
    let file = |run: &str, file: &str| std::fs::read(folder.path().join(run).join(file)).unwrap();
    assert!(String::from_utf8(file("one", "config.toml")).unwrap().contains("shuffle = \"lines\""));
    assert!(file("one", "model.safetensors") == file("two", "model.safetensors"));
    assert!(file("one", "model.safetensors") != file("other", "model.safetensors"));
    assert_goes_on_to_the_same_bits(folder.path(), &format!("{chars} --shuffle lines"));
    // Nothing to shuffle, or what would be torn apart.
    write(folder.path(), "one-line", &"word ".repeat(3000));
    for (options, expected) in [
        ("one-line --shuffle lines", "one line, so there is nothing to shuffle"),
        ("names --shuffle words", "lines"),
        ("--shuffle lines", "--shuffle has no part without a TEXT"),
    ] {
        let said = line(folder.path(), &format!("train {options}"));
        assert!(said.code == Some(2) && said.err.contains(expected), "{options}: {}", said.err);
    }
}

#[test]
fn carriage_returns_are_dropped_unless_they_are_to_be_kept() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    write(folder.path(), "crlf.txt", &text.replace('\n', "\r\n"));
    let run = |text: &str, options: &str, out: &str| {
        train(folder.path(), &format!("{text} --tokenizer {options} --out {out}"))
    };
    let said = run("crlf.txt", "chars", "dropped");
    assert!(said.err.contains("--line-ends keep"), "{}", said.err);
    run("text.txt", "chars", "plain");
    run("crlf.txt", "chars --line-ends keep", "kept");
    run("text.txt", "chars --line-ends keep", "plain-kept");
    run("crlf.txt", "bytes", "bytes");
    let read = |run: &str, file: &str| std::fs::read_to_string(folder.path().join(run).join(file)).unwrap();
    assert_eq!(read("dropped", "tokenizer.json"), read("plain", "tokenizer.json"));
    assert!(!read("dropped", "tokenizer.json").contains("\\r") && read("kept", "tokenizer.json").contains("\\r"));
    for (model, text, expected) in [
        ("dropped", "crlf.txt", "read as a line feed, as in training"),
        ("dropped", "text.txt", ""),
        ("kept", "text.txt", "but those of the training text with a carriage return"),
        ("kept", "crlf.txt", ""),
        ("plain-kept", "crlf.txt", "but those of the training text with a line feed"),
        ("bytes", "text.txt", "but those of the training text with a carriage return"),
        ("bytes", "crlf.txt", ""),
    ] {
        for subcommand in ["eval", "score"] {
            let said = line(folder.path(), &format!("{subcommand} {model} {text}"));
            assert_eq!(said.code, Some(0), "{}", said.err);
            assert_eq!(
                said.err.contains("note     its lines end"),
                !expected.is_empty(),
                "{model} {text}: {}",
                said.err
            );
            assert!(said.err.contains(expected), "{model} {text}: {}", said.err);
        }
    }
    let tokens =
        |model: &str, text: &str| line(folder.path(), &format!("eval {model} {text} --json")).json()["tokens"].clone();
    assert_eq!(tokens("dropped", "crlf.txt"), tokens("dropped", "text.txt"));
}

#[test]
fn what_is_measured_may_come_from_standard_input_or_from_a_folder() {
    let folder = trained("");
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    write(folder.path(), "c/train.txt", "the cat\n");
    write(folder.path(), "c/test.txt", &text);
    // The first without its last line feed: one is put between the files.
    let middle = text[5000..].find('\n').unwrap() + 5000;
    write(folder.path(), "parts/1", &text[..middle]);
    write(folder.path(), "parts/2", &text[middle + 1..]);
    let expected = line(folder.path(), "eval run text.txt --json").json()["nll"].clone();
    for arguments in ["eval run c --json", "eval run parts --json"] {
        assert_eq!(line(folder.path(), arguments).json()["nll"], expected, "{arguments}");
    }
    assert_eq!(piped(folder.path(), "eval run - --json", &text).json()["nll"], expected);
    let said = line(folder.path(), "eval run c");
    assert!(said.err.contains("files    test: test.txt; left out: train.txt"), "{}", said.err);
    assert_eq!(piped(folder.path(), "score run -", &text).out, line(folder.path(), "score run text.txt").out);
    for (input, expected) in [("", "standard input is empty"), ("\0\0", "standard input: byte 0 is NUL")] {
        let said = piped(folder.path(), "eval run -", input);
        assert!(said.code == Some(2) && said.err.contains(expected), "{}", said.err);
    }
}

#[test]
fn documents_keep_states_apart_in_training_evaluation_and_generation() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    let documents: Vec<String> =
        text.lines().collect::<Vec<_>>().chunks(5).map(|lines| format!("{}\n<|end|>\n", lines.join("\n"))).collect();
    write(folder.path(), "documents", &documents.concat());
    let said = train(folder.path(), "documents --documents <|end|> --out run");
    assert!(said.err.contains("of 73 documents"), "{}", said.err);
    assert!(
        std::fs::read_to_string(folder.path().join("run/config.toml")).unwrap().contains("documents = \"<|end|>\"")
    );
    // The same document costs the same among others and alone.
    write(folder.path(), "one", &documents[7]);
    write(folder.path(), "many", &(documents[3].clone() + &documents[7]));
    let scored = |file: &str| line(folder.path(), &format!("score run {file}")).out;
    let (one, many) = (scored("one"), scored("many"));
    assert!(many.ends_with(&one) && many.len() > one.len(), "{many}\n{one}");
    let other = train(folder.path(), "documents --out other");
    assert!(!other.err.contains("document,"), "{}", other.err);
    let scored = |file: &str| line(folder.path(), &format!("score other {file} --json")).out;
    assert!(!scored("many").ends_with(&scored("one")));
    // What comes after a document does not depend on what stood in it.
    let written = |run: &str, before: &str| {
        let prompt = format!("{before}\n<|end|>\n");
        let said =
            lstm(folder.path(), &["generate", run, "--prompt", &prompt, "--temperature", "0.9", "--length", "30"]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        said.out[prompt.len()..].to_owned()
    };
    assert_eq!(written("run", "the cat sees"), written("run", "a dog and a dog runs home"));
    assert_goes_on_to_the_same_bits(folder.path(), "documents --documents <|end|>");
    assert_goes_on_to_the_same_bits(folder.path(), "documents --documents line --shuffle lines");
    for (options, expected) in [
        ("documents --documents blank", "nothing in it delimits documents as blank does"),
        ("documents --documents <|eot|>", "nothing in it delimits documents as <|eot|> does"),
        ("documents --documents= ", "blank (an empty line)"),
        ("documents --documents line --batches lines", "leave --documents out, or choose --batches stream"),
        ("documents --documents blank --batches windows(3)", "leave --documents out"),
        ("documents --documents line --batch 5000", "are too few for"),
        ("documents --documents blank --shuffle lines", "shuffled lines would tear apart documents"),
        ("--documents line", "--documents has no part without a TEXT"),
    ] {
        let said = line(folder.path(), &format!("train {options} --hidden 8 --steps 1"));
        assert!(said.code == Some(2) && said.err.contains(expected), "{options}: {}", said.err);
    }
    assert!(!folder.path().join("runs").exists());
}

/// The first token of the next document was drawn from the state in which the one before it ended.
#[test]
fn documents_within_a_line_begin_afresh_in_generation() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    write(folder.path(), "inline", &text.lines().collect::<Vec<_>>().join("<e>"));
    write(folder.path(), "lines", &text.lines().map(|line| format!("{line}<e>\n")).collect::<String>());
    for (file, inline) in [("inline", true), ("lines", false)] {
        for tokenizer in ["chars", "bpe", "words --min-count 1"] {
            train(folder.path(), &format!("{file} --documents <e> --tokenizer {tokenizer} --rate 2 --out run --force"));
            let config = std::fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
            assert!(config.contains(&format!("inline_documents = {inline}")), "{config}");
            let written = |before: &str, seed: usize| {
                let (prompt, seed) = (format!("{before}<e>"), seed.to_string());
                let said = lstm(
                    folder.path(),
                    &[
                        "generate",
                        "run",
                        "--prompt",
                        &prompt,
                        "--temperature",
                        "1.5",
                        "--length",
                        "12",
                        "--seed",
                        &seed,
                    ],
                );
                assert_eq!(said.code, Some(0), "{}", said.err);
                said.out[prompt.len()..].to_owned()
            };
            if inline {
                for seed in 1..6 {
                    let texts = ["the cat sees ", "a dog and a dog runs home ", ""].map(|before| written(before, seed));
                    assert!(texts.iter().all(|text| *text == texts[0]), "{tokenizer}: {texts:?}");
                }
            }
        }
    }
}

#[test]
fn validation_and_test_texts_may_be_folders() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
    // Shards of one text, and a whole corpus.
    let middle = text[3000..].find('\n').unwrap() + 3001;
    write(folder.path(), "shards/1", &text[..middle]);
    write(folder.path(), "shards/2", &text[middle..]);
    write(folder.path(), "shards/README", "about\n");
    write(folder.path(), "corpus/train.txt", "the cat\n");
    write(folder.path(), "corpus/dev.txt", &text[..middle]);
    write(folder.path(), "corpus/test.txt", &text[middle..]);
    let fresh = |arguments: &str| train(folder.path(), &format!("{arguments} --out run --force --json"));
    let single = fresh("text.txt --valid text.txt --test text.txt").json();
    let shards = fresh("text.txt --valid shards --test shards");
    for name in ["valid", "test"] {
        assert_eq!(single[name], shards.json()[name]);
    }
    let lines: Vec<&str> = shards.err.lines().filter(|line| line.starts_with("files ")).collect();
    assert_eq!(lines.len(), 1, "{}", shards.err);
    for part in ["text.txt; valid: ", "shards/1, ", "shards/2; test: ", "README (about the texts)"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    let corpus = fresh("text.txt --valid corpus --test corpus");
    let [valid, test] = ["valid", "test"].map(|name| corpus.json()[name]["tokens"].as_u64().unwrap());
    assert_eq!(valid + test, single["test"]["tokens"].as_u64().unwrap());
    assert!(corpus.err.contains("corpus/dev.txt; test: ") && corpus.err.contains("train.txt (not for this)"));
    // What is given takes the place of the folder's own, and that is said.
    let other = fresh("corpus --valid shards --tokenizer chars");
    assert!(
        other.err.contains("files    train: train.txt; valid: ") && !other.err.contains("dev.txt"),
        "{}",
        other.err
    );
    // The run goes on with them.
    let said = line(folder.path(), "train --resume run --epochs 2");
    assert_eq!(said.code, Some(0), "{}", said.err);
}

/// The figure per word was `inf`, one word being the whole text.
#[test]
fn a_text_without_white_space_has_no_figure_per_word() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ['A', 'C', 'G', 'T'][(state >> 30) as usize]
    };
    write(folder.path(), "dna", &(0..20_000).map(|_| next()).collect::<String>());
    let said = train(folder.path(), "dna --tokenizer chars --out run");
    let row = said.out.lines().find(|line| line.starts_with("test ")).unwrap();
    assert_eq!(row.split_whitespace().nth(2), Some("-"), "{row}");
    assert!(row.split_whitespace().nth(3).unwrap().parse::<f64>().unwrap() < 5.0, "{row}");
    assert!(said.err.contains("no figure per word: no white space"), "{}", said.err);
    let said = line(folder.path(), "eval run dna --baseline");
    assert_eq!(said.out.matches("per word   - (no white space").count(), 2, "{}", said.out);
    assert!(!said.out.contains("inf") && said.out.contains(" bits a character"), "{}", said.out);
    let json = line(folder.path(), "eval run dna --json").json();
    assert!(json["word_perplexity"].is_null() && json["bits_per_char"].is_number(), "{json}");
    // A text of words has both.
    write(folder.path(), "words", &"some words of a text\n".repeat(100));
    let json = line(folder.path(), "eval run words --json").json();
    assert!(json["word_perplexity"].is_number() && json["bits_per_char"].is_number(), "{json}");
}

/// Commands that only read were silent until their result.
#[test]
fn nothing_is_silent_for_long_while_it_reads() {
    use std::io::Write;
    use std::process::Stdio;
    let folder = trained("");
    for arguments in [&["eval", "run", "-", "--json"][..], &["score", "run", "-"]] {
        let mut command = crate::command(folder.path(), arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for _ in 0..2 {
            stdin.write_all(b"the cat sees a dog\n").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2_300));
        }
        drop(stdin);
        let said = Said::new(child.wait_with_output().unwrap());
        assert_eq!(said.code, Some(0), "{}", said.err);
        let lines =
            said.err.lines().filter(|line| line.starts_with("reading the text, ") && line.ends_with(" s so far"));
        assert!(lines.count() >= 2, "{arguments:?}: {}", said.err);
        assert!(!said.out.contains("reading"), "{}", said.out);
    }
}
