use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::{Said, command, folder, line};

/// Some forty steps in two epochs, on one thread.
const BRIEF: &str = "--preset small --hidden 4 --embedding 4 --batch 4 --segment 24 --epochs 2 --threads 1";

/// Every curve as the files have it: step and value of each point, in their order.
type Curves = BTreeMap<String, Vec<(u64, f32)>>;

/// CRC-32C bit by bit, then masked as TensorFlow's records have it.
fn masked_crc(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A field of a protobuf message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        shift += 7;
        if byte < &128 {
            return value;
        }
    }
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let mut taken = |count: usize| {
            let (taken, rest) = bytes.split_at(count);
            bytes = rest;
            taken
        };
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(taken(8).try_into().unwrap())),
            5 => Field::Number(u64::from(u32::from_le_bytes(taken(4).try_into().unwrap()))),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (taken, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(taken)
            }
            kind => panic!("wire type {kind}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// The messages of a file, each of whose records has to be whole.
fn messages(file: &[u8]) -> Vec<&[u8]> {
    let (mut messages, mut rest) = (Vec::new(), file);
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let sum = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let message = &rest[12..12 + length];
        assert_eq!(sum(8), masked_crc(&rest[..8]));
        assert_eq!(sum(12 + length), masked_crc(message));
        messages.push(message);
        rest = &rest[16 + length..];
    }
    messages
}

/// The curves in a folder, as a reader finds them that heeds nothing but points.
fn read(folder: &Path) -> Curves {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut curves = Curves::new();
    let mut before = 0.0;
    for path in paths {
        let file = std::fs::read(&path).unwrap();
        for (place, message) in messages(&file).into_iter().enumerate() {
            let (mut time, mut step, mut summary) = (0.0, 0, &[][..]);
            for field in fields(message) {
                match field {
                    (1, Field::Number(bits)) => time = f64::from_bits(bits),
                    (2, Field::Number(number)) => step = number,
                    (3, Field::Bytes(version)) => assert!(place == 0 && version == b"brain.Event:2"),
                    (5, Field::Bytes(bytes)) => summary = bytes,
                    (7, Field::Bytes(_)) => assert_eq!(place, 1),
                    (other, _) => panic!("field {other}"),
                }
            }
            assert!(time >= before && time > 1.7e9, "{time} after {before}");
            before = time;
            for (number, value) in fields(summary) {
                let (1, Field::Bytes(value)) = (number, value) else { panic!("field {number} of a summary") };
                match &fields(value)[..] {
                    [(1, Field::Bytes(tag)), (2, Field::Number(bits))] => curves
                        .entry(String::from_utf8(tag.to_vec()).unwrap())
                        .or_default()
                        .push((step, f32::from_bits(*bits as u32))),
                    _ => panic!("a value of another form"),
                }
            }
        }
    }
    curves
}

/// The curves without their values where these are times.
fn timeless(mut curves: Curves) -> Curves {
    for point in curves.get_mut("tokens_per_second").unwrap() {
        point.1 = 0.0;
    }
    curves
}

fn at_fault(folder: &Path, fault: &str, arguments: &str) -> Said {
    let mut command = command(folder, &arguments.split_whitespace().collect::<Vec<_>>());
    Said::new(command.env("LSTM_TEST_FAULT", fault).output().unwrap())
}

/// The curves of a run that was left alone.
fn whole() -> Curves {
    let folder = folder();
    let said = line(folder.path(), &format!("train text.txt {BRIEF} --out run --tensorboard logs/run"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    read(&folder.path().join("logs/run"))
}

#[test]
fn curves_have_what_the_run_measured() {
    let folder = folder();
    let path = folder.path();
    let said = line(path, &format!("train text.txt {BRIEF} --out run --tensorboard run/curves --json"));
    let result = said.json();
    let curves = read(&path.join("run/curves"));
    let tags: Vec<&str> = curves.keys().map(String::as_str).collect();
    let losses = ["test", "train", "train_epoch", "valid"];
    let of = |kind: &str| losses.map(|name| format!("{kind}/{name}"));
    let expected =
        [&["gradient_norm".to_owned(), "learning_rate".to_owned()][..], &of("loss"), &of("perplexity")].concat();
    assert_eq!(tags, [&expected[..], &["tokens_per_second".to_owned()]].concat());
    for (name, tag) in [("valid", "perplexity/valid"), ("test", "perplexity/test")] {
        let best = curves[tag].iter().map(|point| point.1).fold(f32::INFINITY, f32::min);
        let expected = result[name]["perplexity"].as_f64().unwrap() as f32;
        assert!((best - expected).abs() < 1e-3 * expected, "{tag}: {best} and {expected}");
    }
    let steps: Vec<u64> = curves["loss/train"].iter().map(|point| point.0).collect();
    assert!(steps.len() >= 4 && steps.iter().zip(1..).all(|(step, place)| *step == 10 * place), "{steps:?}");
    assert_eq!(curves["loss/valid"].len(), 2);
    let speed = curves["tokens_per_second"][0].1;
    assert!(speed > 1.0, "{speed}");
    // A run that is over has nothing to add, one that is made longer goes on.
    let said = line(path, "train --resume run --tensorboard run/curves --threads 1");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(read(&path.join("run/curves")), curves);
    let said = line(path, "train --resume run --epochs 3 --tensorboard run/curves --threads 1");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let longer = read(&path.join("run/curves"));
    for (tag, points) in &curves {
        assert_eq!(longer[tag][..points.len()], points[..], "{tag}");
        assert!(longer[tag].windows(2).all(|pair| pair[0].0 < pair[1].0), "{tag}: {:?}", longer[tag]);
    }
    assert_eq!(longer["loss/valid"].len(), 3);
}

/// Killed at its every file operation, or with a disk that is full from there on, and resumed: the curves are those of a run that was left
/// alone, in files that have every point once.
#[test]
fn a_run_that_was_stopped_anywhere_goes_on_with_its_curves() {
    let expected = timeless(whole());
    let mut resumed = 0;
    for fault in ["kill", "full"] {
        for at in 1.. {
            let folder = folder();
            let path = folder.path();
            let begin = format!("train text.txt {BRIEF} --out run --tensorboard logs/run");
            let said = at_fault(path, &format!("{fault}:{at}"), &begin);
            if said.code == Some(0) {
                assert!(at > 60, "only {at} operations");
                break;
            }
            let has_begun = path.join("run/config.toml").exists() || path.join("run/pending").exists();
            let go_on = "train --resume run --tensorboard logs/run --threads 1";
            if fault == "full" && has_begun {
                assert!(said.err.contains("free some space"), "{at}: {}", said.err);
            }
            let said = line(path, if has_begun { go_on } else { &begin });
            assert_eq!(said.code, Some(0), "{fault} at {at}: {}", said.err);
            resumed += u32::from(has_begun);
            assert_eq!(timeless(read(&path.join("logs/run"))), expected, "{fault} at {at}");
        }
    }
    assert!(resumed > 40, "{resumed}");
}

/// Curves on a disk of their own that is full: training goes on, says so once, and what there is can be read.
#[cfg(target_os = "linux")]
#[test]
fn curves_that_can_no_longer_be_written_do_not_end_a_run() {
    let folder = folder();
    let path = folder.path();
    // No file of the run has so much as its curves of so many steps; the limit is on each file.
    let long = "--preset small --hidden 1 --embedding 1 --batch 1 --segment 2 --epochs 1 --threads 1";
    let said = line(path, &format!("train text.txt {long} --out whole --tensorboard logs/whole"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let size = |file: &str| std::fs::metadata(path.join(file)).unwrap().len();
    let curves = size("logs/whole/events.out.tfevents.0000000000.lstm");
    let largest = ["checkpoint.safetensors", "model.safetensors", "metrics.jsonl", "tokenizer.json"]
        .map(|file| size(&format!("whole/{file}")));
    let blocks = largest.iter().max().unwrap() / 512 + 4;
    assert!(curves > 512 * (blocks + 1), "{curves} and {largest:?}");
    let program = env!("CARGO_BIN_EXE_lstm");
    let script = format!(
        "trap '' XFSZ; ulimit -f {blocks}; exec {program} train text.txt {long} --out run --tensorboard logs/run"
    );
    let said = Said::new(Command::new("sh").current_dir(path).args(["-c", &script]).output().unwrap());
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(said.err.matches("training goes on meanwhile").count(), 1, "{}", said.err);
    let (whole, cut) = (timeless(read(&path.join("logs/whole"))), timeless(read(&path.join("logs/run"))));
    let (whole, cut) = (&whole["loss/train"], &cut["loss/train"]);
    assert!(cut.len() > 10 && cut.len() < whole.len() && whole[..cut.len()] == cut[..], "{} points", cut.len());
}
