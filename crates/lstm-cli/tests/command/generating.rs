use crate::{line, lstm, trained};

/// A tokenizer of bytes has 256 tokens, of which a text may have thirty: the others were written too, if seldom.
#[test]
fn what_training_never_saw_is_not_written() {
    for options in ["--tokenizer bytes", "--tokenizer bpe --vocab-size 300", "--tokenizer bytes --batches lines"] {
        let folder = trained(options);
        let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap();
        let check = |generate: &str| {
            let said = line(folder.path(), generate);
            assert_eq!(said.code, Some(0), "{}", said.err);
            let foreign: Vec<char> = said.out.chars().filter(|c| !text.contains(*c)).collect();
            assert!(said.out.len() > 20 && foreign.is_empty(), "{options}: {foreign:?}");
            said.err
        };
        let wild = "generate run --length 300 --temperature 50";
        let before = check(wild);
        check("generate run --length 30 --beam 60");
        assert!(!before.contains("note:"), "{before}");
        // What is noted of the training text belongs to the model: changed, it is refused.
        let path = folder.path().join("run/tokenizer.json");
        let mut tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert!(tokenizer["unseen"].is_array());
        tokenizer["unseen"] = serde_json::json!([]);
        std::fs::write(&path, tokenizer.to_string()).unwrap();
        let said = line(folder.path(), wild);
        assert!(said.code == Some(2) && said.err.contains("tokenizer"), "{}", said.err);
    }
}

#[test]
fn the_seed_is_said_where_there_is_one() {
    let folder = trained("");
    for (options, seed) in
        [("", Some("seed 1")), ("--seed 7", Some("seed 7")), ("--temperature 0", None), ("--beam 2", None)]
    {
        let said = line(folder.path(), &format!("generate run --length 5 {options}"));
        assert_eq!(said.err.lines().find(|line| line.starts_with("seed ")), seed, "{options}: {}", said.err);
    }
    assert_eq!(line(folder.path(), "generate run --length 5 --seed 9 --json").json()["seed"], 9);
}

/// `--stop '\n'` stood for a backslash and an n, which never came.
#[test]
fn escapes_are_what_they_stand_for_or_refused() {
    let folder = trained("--tokenizer chars");
    let write = |arguments: &[&str]| {
        lstm(folder.path(), &[&["generate", "run", "--json", "--length", "400"], arguments].concat())
    };
    let stopped = write(&["--stop", "\\n"]).json();
    assert_eq!((&stopped["stopped"], &stopped), (&true.into(), &write(&["--stop", "\n"]).json()));
    assert_eq!(write(&["--prompt", "the\\ncat", "--stop", "\\n"]).json()["prompt"], "the\ncat");
    for (given, text) in [("a\\tb", "a\tb"), ("a\\\\n", "a\\n"), ("\\r", "\r"), ("", "")] {
        assert_eq!(write(&["--prompt", given]).json()["prompt"], text);
    }
    for (option, value, expected) in [
        ("--stop", "\\x", "\\x is none of"),
        ("--prompt", "C:\\dir", "\\d is none of"),
        ("--stop", "end\\", "backslash at the end"),
    ] {
        let said = write(&[option, value]);
        assert!(said.code == Some(2) && said.err.contains(expected) && said.err.contains(option), "{}", said.err);
    }
}
