use crate::{line, trained};

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
