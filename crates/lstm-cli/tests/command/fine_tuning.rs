use std::path::Path;

use crate::{Said, line, lstm, trained};

/// A folder with a run of the usual text and with `other.txt`, which has some of its words and some of its own.
fn pretrained(options: &str) -> tempfile::TempDir {
    let folder = trained(options);
    let words = ["the", "cat", "sees", "a", "mouse", "and", "eats", "cheese", "today"];
    let text: String = (0..300)
        .map(|i| {
            let line: Vec<&str> = (0..3 + i % 5).map(|j| words[(i * 5 + j * (i % 4 + 1)) % 9]).collect();
            format!("{}\n", line.join(" "))
        })
        .collect();
    std::fs::write(folder.path().join("other.txt"), text).unwrap();
    folder
}

fn ok(folder: &Path, command: &str) -> Said {
    let said = line(folder, command);
    assert_eq!(said.code, Some(0), "{command}: {}", said.err);
    said
}

/// The bytes of a run's checkpoint without what it says of itself.
fn values(folder: &Path, run: &str) -> Vec<u8> {
    let bytes = std::fs::read(folder.join(run).join("checkpoint.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[header..].to_vec()
}

#[test]
fn a_run_goes_on_from_a_model_and_says_what_becomes_of_its_words() {
    let folder = pretrained("--tied=false --residual=false");
    let at = folder.path();
    std::fs::rename(at.join("run/model.safetensors"), at.join("m.safetensors")).unwrap();
    let train = "train other.txt --from m.safetensors --epochs 1 --batch 4 --segment 8 --force --out";
    // Beside nine words there are <unk> and <eos>.
    for (how, said) in [
        ("", "11 words kept, 0 added, 0 dropped"),
        (" --vocabulary keep", "11 words kept, 0 added, 0 dropped"),
        (" --vocabulary extend", "11 words kept, 3 added, 0 dropped"),
        (" --vocabulary match", "8 words kept, 3 added, 3 dropped"),
    ] {
        let begun = ok(at, &format!("{train} on{how}"));
        assert!(begun.err.contains(&format!("m.safetensors: {said}\n")), "{}", begun.err);
        let json = line(at, "show on --json").json();
        assert_eq!(
            json["config"]["fine_tuning"]["vocabulary"],
            how.rsplit(' ').next().filter(|h| !h.is_empty()).unwrap_or("keep")
        );
        ok(at, "eval on other.txt");
        ok(at, "generate on --length 5");
    }
    // The same command, the same bits; the model is asked for once.
    let twice = |out: &str| {
        ok(
            at,
            &format!(
                "{train} {out} --vocabulary extend --freeze embedding,0 --layer-rate-decay 0.5 --average ema(0.9)"
            ),
        )
    };
    twice("one");
    let shown = line(at, "show one").out;
    for row in ["from        ", "parts       embedding,0 not trained, each at 0.5 of the rate of the one above it\n"] {
        assert!(shown.contains(row), "{shown}");
    }
    twice("two");
    assert!(values(at, "one") == values(at, "two"));
    // What was done of a run, without the model, and the rest of it: the bits of one that was never stopped.
    let stopped =
        "train other.txt --from m.safetensors --preset small --schedule constant --batch 4 --segment 8 --freeze 1";
    ok(at, &format!("{stopped} --steps 40 --out whole"));
    ok(at, &format!("{stopped} --steps 20 --out half"));
    std::fs::remove_file(at.join("m.safetensors")).unwrap();
    ok(at, "train --resume half --steps 40");
    assert!(values(at, "half") == values(at, "whole"));
}

#[test]
fn what_is_frozen_is_as_it_was() {
    let folder = pretrained("--tied=false --residual=false --average none");
    let at = folder.path();
    for (optimizer, rate, decay) in [("sgd", "1", "0.001"), ("adam", "0.01", "0"), ("adamw", "0.01", "0.001")] {
        for average in ["none", "ema(0.9)"] {
            ok(
                at,
                &format!(
                    "train other.txt --from run --freeze embedding,1 --optimizer {optimizer} --learning-rate {rate} --weight-decay {decay} \
                     --average {average} --epochs 1 --batch 4 --segment 8 --out on --force"
                ),
            );
            ok(at, "convert on on.safetensors --to pytorch --force");
            ok(at, "convert run run.safetensors --to pytorch --force");
            let [on, run] = ["on.safetensors", "run.safetensors"].map(|file| std::fs::read(at.join(file)).unwrap());
            assert_eq!(on.len(), run.len());
            let (mut same, mut changed) = (Vec::new(), Vec::new());
            let length = 8 + u64::from_le_bytes(on[..8].try_into().unwrap()) as usize;
            let header: serde_json::Value = serde_json::from_slice(&on[8..length]).unwrap();
            for (name, info) in header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__") {
                let [from, to] = [0, 1].map(|i| length + info["data_offsets"][i].as_u64().unwrap() as usize);
                if on[from..to] == run[from..to] { same.push(name.as_str()) } else { changed.push(name.as_str()) }
            }
            assert!(same.iter().all(|name| name.contains("embedding") || name.contains("_l1")), "{same:?}");
            assert!(changed.iter().all(|name| !name.contains("embedding") && !name.contains("_l1")), "{changed:?}");
            assert!(same.len() == 5 && changed.len() == 6, "{same:?} {changed:?}");
        }
    }
}

#[test]
fn what_a_run_cannot_go_on_from_is_refused() {
    let folder = pretrained("");
    let at = folder.path();
    ok(
        at,
        "train text.txt --tokenizer bpe --vocab-size 300 --epochs 1 --layers 1 --hidden 8 --embedding 6 --out subwords",
    );
    ok(at, "train other.txt --from subwords --epochs 1 --out on");
    let bytes = std::fs::read(at.join("run/model.safetensors")).unwrap();
    std::fs::write(at.join("cut.safetensors"), &bytes[..bytes.len() - 40]).unwrap();
    ok(at, "convert run state.pt --module");
    for (options, expected) in [
        ("--from nothing.safetensors", "nothing.safetensors"),
        ("--from cut.safetensors", "truncated"),
        ("--from state.pt", "convert it"),
        ("--from text.txt", "text.txt"),
        ("--from run/checkpoint.safetensors", "it is a checkpoint"),
        ("--from run --hidden 9", "--hidden has no part with --from"),
        ("--from run --tokenizer chars", "--tokenizer has no part with --from"),
        ("--from run --min-count 2", "--min-count and --vocabulary keep"),
        ("--from run --freeze 2", "--freeze names layer 2, but the model has the layers 0 to 1"),
        ("--from run --freeze embeding", "embedding,0"),
        ("--from run --freeze embedding,0,1,readout", "every part"),
        ("--from run --layer-rate-decay 0", "--layer-rate-decay is 0"),
        ("--from run --vocabulary all", "keep, extend, match"),
        ("--from run --batches lines", "--batches lines"),
        ("--from subwords --vocabulary extend", "--vocabulary extend is for words, chars and bytes"),
        ("--vocabulary match", "--vocabulary has no part without --from"),
        ("--from run --resume run", "--from has no part with --resume"),
    ] {
        let arguments: Vec<&str> = format!("train other.txt {options} --epochs 1").leak().split_whitespace().collect();
        let said = lstm(at, &arguments);
        assert_eq!(said.code, Some(2), "{options}: {}", said.err);
        assert!(said.err.contains(expected) && !said.err.contains("panicked"), "{options}: {}", said.err);
        assert!(!at.join("runs").exists(), "{options} left something behind");
    }
    // The vocabulary of the text may be read in another way.
    ok(at, "train other.txt --from run --vocabulary match --batches lines --epochs 1 --out lines");
    for kind in ["chars", "bytes"] {
        ok(
            at,
            &format!("train text.txt --tokenizer {kind} --epochs 1 --layers 1 --hidden 8 --embedding 6 --out {kind}"),
        );
        for how in ["keep", "extend", "match"] {
            ok(at, &format!("train other.txt --from {kind} --vocabulary {how} --epochs 1 --out {kind}-{how}"));
        }
    }
    ok(at, "train other.txt --from run --budget 2s --out timed");
    ok(at, "train other.txt --from run --find-lr --vocabulary extend");
}

#[test]
fn a_run_does_not_replace_what_it_learns_from() {
    let folder = pretrained("");
    let at = folder.path();
    std::fs::write(at.join("labelled.txt"), "a the cat\nb a mouse\n".repeat(50)).unwrap();
    let before = std::fs::read(at.join("run/model.safetensors")).unwrap();
    for command in [
        "train other.txt --from run --epochs 1 --out run --force",
        "train other.txt --from run/model.safetensors --epochs 1 --out run --force",
        "train text.txt --teach run --epochs 1 --out ./run --force",
        "train labelled.txt --task classify --from run --epochs 1 --out run --force",
    ] {
        let said = line(at, command);
        assert!(said.code == Some(2) && said.err.contains("choose another --out"), "{command}: {}", said.err);
        assert_eq!(std::fs::read(at.join("run/model.safetensors")).unwrap(), before, "{command}");
    }
    // And one that began from a model is proven from its beginning.
    let said = line(at, "train other.txt --from run --epochs 1 --batch 4 --segment 8 --out tuned --keep-checkpoints 3");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let said = line(at, "verify tuned --all");
    assert!(said.code == Some(0) && said.out.contains("from the beginning"), "{}{}", said.out, said.err);
}
