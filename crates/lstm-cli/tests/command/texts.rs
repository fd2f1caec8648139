use std::path::Path;

use crate::{Said, folder, line};

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
    assert!(said.code == Some(2) && said.err.contains("changed since it began"), "{}", said.err);
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
