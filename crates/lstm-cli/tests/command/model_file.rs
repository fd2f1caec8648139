use std::path::Path;

use crate::{Said, line, lstm, trained};

/// A run `run` beside a copy of its model, alone in the folder `alone`, with a short text.
fn alone(options: &str) -> tempfile::TempDir {
    let folder = trained(options);
    let at = folder.path();
    std::fs::create_dir(at.join("alone")).unwrap();
    std::fs::copy(at.join("run/model.safetensors"), at.join("alone/m.safetensors")).unwrap();
    std::fs::write(at.join("alone/text.txt"), "the cat sees a dog\nand runs home\n").unwrap();
    folder
}

fn refused(said: &Said, expected: &[&str]) {
    assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
    assert!(said.err.contains("error: ") && !said.err.contains("panicked"), "{}", said.err);
    for part in expected {
        assert!(said.err.contains(part), "{part} is not in: {}", said.err);
    }
}

/// What a command prints, without what takes time.
fn timeless(folder: &Path, command: &str) -> String {
    let said = line(folder, command);
    assert_eq!(said.code, Some(0), "{command}: {}", said.err);
    said.out.split(", in ").next().unwrap().to_owned()
}

#[test]
fn a_model_file_is_used_wherever_it_lies_as_its_run_is() {
    for options in [
        "",
        "--tokenizer chars",
        "--tokenizer bpe --vocab-size 280",
        "--batches lines",
        "--wiring scores --readout output-gate",
    ] {
        let folder = alone(options);
        let (at, alone) = (folder.path(), folder.path().join("alone"));
        for command in ["eval RUN text.txt", "generate RUN --length 20 --seed 3", "score RUN text.txt --json"] {
            let of_run = timeless(&alone, &command.replace("RUN", "../run"));
            assert_eq!(timeless(&alone, &command.replace("RUN", "m.safetensors")), of_run, "{options}");
            assert!(!of_run.is_empty());
        }
        let shown = |what: &str| timeless(at, &format!("show {what}"));
        let without_text = |shown: String| -> Vec<String> {
            shown.lines().filter(|line| !line.starts_with("trained on")).map(str::to_owned).collect()
        };
        let of_file = shown("alone/m.safetensors");
        assert!(of_file.contains("does not name"), "{of_file}");
        assert_eq!(without_text(of_file), without_text(shown("run")));
        // The model knows its results.
        let json = line(&alone, "show m.safetensors --json").json();
        assert!(json["results"]["test"]["perplexity"].as_f64().unwrap() > 1.0, "{json}");
    }
}

#[test]
fn a_model_file_becomes_others_and_a_run_again() {
    let folder = alone("--residual=false --tied=false");
    let alone = folder.path().join("alone");
    let text = timeless(&alone, "eval ../run text.txt");
    for (from, to) in [
        ("../run", "a.safetensors"),
        ("m.safetensors", "b.safetensors"),
        ("m.safetensors", "again"),
        ("again", "c.safetensors"),
        ("../run", "copy"),
    ] {
        assert_eq!(lstm(&alone, &["convert", from, to]).code, Some(0));
        assert_eq!(timeless(&alone, &format!("eval {to} text.txt")), text, "{from} {to}");
    }
    // The same model is the same bytes.
    let bytes = |name: &str| std::fs::read(alone.join(name)).unwrap();
    assert!(bytes("a.safetensors") == bytes("m.safetensors") && bytes("b.safetensors") == bytes("m.safetensors"));
    // A copy of a run knows its texts.
    assert_eq!(timeless(&alone, "eval copy"), timeless(&alone, "eval ../run"));
    assert_eq!(line(&alone, "convert m.safetensors state.safetensors --to pytorch").code, Some(0));
    let words = line(&alone, "convert state.safetensors d.safetensors");
    refused(&words, &["--vocab"]);
    refused(&line(&alone, "eval state.safetensors text.txt"), &["another program's file", "convert it"]);
    refused(&line(&alone, "convert m.safetensors d.pt --vocab text.txt"), &["--vocab", "has its own"]);
    refused(&line(&alone, "convert m.safetensors d.pt --to model"), &[".safetensors"]);
    refused(&line(&alone, "convert m.safetensors b.safetensors"), &["b.safetensors is there already"]);
}

#[test]
fn a_model_file_that_is_no_whole_model_says_what_is_missing() {
    let folder = alone("");
    let (at, alone) = (folder.path(), folder.path().join("alone"));
    refused(&line(&alone, "eval m.safetensors"), &["without a test text of its own", "give the text"]);
    refused(&line(&alone, "eval m.safetensors text.txt --baseline"), &["training text", "give the folder of its run"]);
    refused(
        &line(at, "eval run/checkpoint.safetensors text.txt"),
        &["it is a checkpoint", "model.safetensors beside it"],
    );
    refused(&line(&alone, "generate text.txt"), &["text.txt"]);
    refused(&line(&alone, "generate nothing.safetensors"), &["nothing.safetensors"]);
    let bytes = std::fs::read(alone.join("m.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for cut in [4, 100, header, header + 100, bytes.len() - 1] {
        std::fs::write(alone.join("cut.safetensors"), &bytes[..cut]).unwrap();
        refused(&line(&alone, "generate cut.safetensors"), &["cut.safetensors", "cut"]);
    }
    for at in [header / 2, header + 8, bytes.len() - 3] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        std::fs::write(alone.join("flipped.safetensors"), &flipped).unwrap();
        refused(&line(&alone, "generate flipped.safetensors"), &["flipped.safetensors"]);
    }
    // One of before tokenizers were part of it: the header without them.
    let mut json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let mut ours: serde_json::Value = serde_json::from_str(json["__metadata__"]["lstm"].as_str().unwrap()).unwrap();
    ours.as_object_mut().unwrap().remove("texts").unwrap();
    json["__metadata__"] = serde_json::json!({"lstm": ours.to_string()});
    let json = json.to_string();
    let old = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &bytes[header..]].concat();
    std::fs::write(alone.join("old.safetensors"), &old).unwrap();
    refused(&line(&alone, "generate old.safetensors"), &["earlier versions", "give the run folder"]);
    // In its run it is what it always was, and converted it is whole.
    std::fs::write(at.join("run/model.safetensors"), &old).unwrap();
    assert_eq!(line(&alone, "convert ../run new.safetensors").code, Some(0));
    assert!(std::fs::read(alone.join("new.safetensors")).unwrap() == bytes);
}

#[test]
fn adaptation_of_a_model_file_is_given_or_lies_beside_it() {
    let folder = alone("");
    let alone = folder.path().join("alone");
    refused(
        &line(&alone, "eval m.safetensors text.txt --adapt cache"),
        &["--adapt cache is tuned on", "adaptation.toml", "--cache-theta"],
    );
    let given =
        "eval m.safetensors text.txt --adapt cache --cache-theta 0.5 --cache-weight 0.1 --cache-window 20 --json";
    assert!(line(&alone, given).json()["adapted"]["perplexity"].as_f64().unwrap() > 1.0);
    let tuned = line(&alone, "eval ../run text.txt --adapt cache --json").json();
    std::fs::copy(folder.path().join("run/adaptation.toml"), alone.join("adaptation.toml")).unwrap();
    let beside = line(&alone, "eval m.safetensors text.txt --adapt cache --json").json();
    assert_eq!(beside["adapted"]["perplexity"], tuned["adapted"]["perplexity"]);
}
