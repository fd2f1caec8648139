//! Texts are read whole, and cut without loss, wherever they come from.

use super::*;
use crate::text::lines::visit_text;
use crate::text::split::MOST_HELD_OUT;
use crate::text::tokenizer::{Tokenizer, TokenizerKind, VocabularyOptions};
use std::io::Write;

#[test]
fn splits_fall_on_line_ends_and_lose_nothing() {
    let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let splits = Source::from_text(&text).split(&[90, 5, 5]).unwrap();
    let mut joined = String::new();
    for part in [Some(splits.train), splits.valid, splits.test].into_iter().flatten() {
        visit_text(&part, false, false, &mut |line, ended| {
            assert!(ended);
            joined.push_str(line);
        })
        .unwrap();
    }
    assert_eq!(joined, text);
    assert!(Source::from_text("word").split(&[90, 5, 5]).is_err());
    assert!(Source::from_text(&text).split(&[90, 5]).unwrap_err().to_string().contains("90/5"));
}

#[test]
fn a_long_text_keeps_most_for_training() {
    let text = "some words\n".repeat(5_000_000);
    let splits = Source::from_text(&text).split_by_default(None).unwrap();
    let [valid, test] = [splits.valid, splits.test].map(|piece| piece.unwrap().bytes());
    assert_eq!(splits.train.bytes() + valid + test, text.len() as u64);
    assert!(valid.abs_diff(MOST_HELD_OUT) < 20 && test.abs_diff(MOST_HELD_OUT) < 20, "{valid} and {test}");
    let short = Source::from_text(&text[..1_100_000]).split_by_default(None).unwrap();
    assert!(short.valid.unwrap().bytes().abs_diff(55_000) < 20);
    let sampled = Source::from_text(&text).split_by_default(Some(18_000_000)).unwrap();
    assert!(sampled.test.unwrap().bytes().abs_diff(1_000_000) < 20);
}

#[test]
fn a_sample_comes_from_all_over_a_text() {
    let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
    let source = Source::from_text(&text);
    let sample = joined(&source.sample(200_000).unwrap());
    assert!(sample.len().abs_diff(200_000) < 1_000, "{}", sample.len());
    let numbers: Vec<usize> = sample.lines().map(|line| line[5..].parse().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers[0] == 0);
    let of_half = |range: std::ops::Range<usize>| numbers.iter().filter(|n| range.contains(n)).count() as f64;
    assert!((of_half(0..50_000) / of_half(50_000..100_000) - 1.0).abs() < 0.1);
    assert_eq!(joined(&source.sample(10_000_000).unwrap()), text);
}

/// A text without line ends, as text8 is one, could not be split.
#[test]
fn a_long_line_is_split_between_words_and_one_without_words_between_characters() {
    let words: String = (0..40_000).map(|n| format!("word{n} ")).collect();
    let characters = "字".repeat(100_000);
    for text in [&words, &characters, "a few words on one line without an end to be split in three parts"] {
        let splits = Source::from_text(text).split(&[80, 10, 10]).unwrap();
        let pieces = [splits.train, splits.valid.unwrap(), splits.test.unwrap()].map(|piece| joined(&piece));
        assert_eq!(pieces.concat(), *text);
        for (piece, share) in pieces.iter().zip([0.8, 0.1, 0.1]) {
            assert!((piece.len() as f64 / text.len() as f64 - share).abs() < 0.1, "{}", piece.len());
        }
        assert!(!text.contains(' ') || pieces[..2].iter().all(|piece| piece.ends_with(' ')));
    }
}

#[test]
fn files_without_a_last_line_end_are_split_where_they_meet() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("a.txt", "a b c d e f g h i j"), ("b.txt", "k l m"), ("training.md", "n o p")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let splits = Source::open(folder.path()).unwrap();
    // One name alone does not make a split of the folder.
    assert!(splits.valid.is_none() && splits.train.bytes() == 29);
    let pieces = splits.train.split(&[50, 20, 30]).unwrap();
    assert_eq!((pieces.train.bytes(), pieces.valid.unwrap().bytes(), pieces.test.unwrap().bytes()), (19, 5, 5));
}

/// The last word of one file and the first of the next were one line.
#[test]
fn files_are_not_joined_within_a_line() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("1.txt", "a b"), ("2.txt", "c\n"), ("3.txt", "\u{feff}d"), ("4.txt", "e")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let source = Source::open(folder.path()).unwrap().train;
    let mut lines = Vec::new();
    visit_text(&source, false, false, &mut |line, ended| lines.push((line.to_owned(), ended))).unwrap();
    let expected = [("a b", false), ("\n", true), ("c\n", true), ("d", false), ("\n", true), ("e", false)];
    assert_eq!(lines, expected.map(|(line, ended)| (line.to_owned(), ended)));
    for (kind, tokens) in [(TokenizerKind::Words, 8), (TokenizerKind::Chars, 9)] {
        let options = VocabularyOptions { min_count: Some(1), ..Default::default() };
        let tokenizer = Tokenizer::build(kind, &source, options, false).unwrap();
        let corpus = crate::text::corpus::Corpus::read(&source, &tokenizer, false).unwrap();
        assert_eq!((corpus.ids.len(), corpus.lines), (tokens, 4), "{kind}");
    }
}

/// The last files by name became validation and test, whatever stood in them.
#[test]
fn several_files_are_held_out_from_all_over() {
    let folder = tempfile::tempdir().unwrap();
    let authors = ["austen", "melville", "woolf"];
    let mut whole = String::new();
    for author in authors {
        let text: String = (0..500).map(|n| format!("{author} line {n}\n")).collect();
        std::fs::write(folder.path().join(format!("{author}.txt")), &text).unwrap();
        std::fs::write(folder.path().join(format!("{author}.gz")), gzip(&text)).unwrap();
        whole.push_str(&text);
    }
    for ending in ["txt", "gz"] {
        let files = authors.map(|author| folder.path().join(format!("{author}.{ending}")));
        let source = Source::from_files(&files).unwrap();
        let splits = source.split_by_default(None).unwrap();
        let pieces = [splits.train, splits.valid.unwrap(), splits.test.unwrap()].map(|piece| joined(&piece));
        for (piece, share) in pieces.iter().zip([0.9, 0.05, 0.05]) {
            assert!(authors.iter().all(|author| piece.contains(author)), "{ending}: {piece}");
            assert!((piece.len() as f64 / whole.len() as f64 - share).abs() < 0.02, "{}", piece.len());
        }
        let mut lines: Vec<&str> = pieces.iter().flat_map(|piece| piece.lines()).collect();
        let mut expected: Vec<&str> = whole.lines().collect();
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected);
    }
}

#[test]
fn tokens_are_foreseen_from_the_start_of_a_text() {
    let text = "some words and 字\n".repeat(400_000);
    let source = Source::from_text(&text);
    for (kind, tokens) in [(TokenizerKind::Words, 5), (TokenizerKind::Chars, 17), (TokenizerKind::Bytes, 19)] {
        let expected = source.expected_tokens(kind).unwrap().unwrap() as f64;
        assert!((expected / (400_000.0 * f64::from(tokens)) - 1.0).abs() < 1e-3, "{kind}: {expected}");
    }
    assert!(source.check_memory(TokenizerKind::Bytes, 1).is_ok());
    let error = source.check_memory(TokenizerKind::Bytes, 1 << 40).unwrap_err().to_string();
    assert!(error.contains("7.2 MiB of text"), "{error}");
    assert_eq!([5, 2_000_000, 1 << 42].map(size), ["0.0 KiB", "1.9 MiB", "4.0 TiB"].map(str::to_owned));
}

/// The text of `source`, joined.
fn joined(source: &Source) -> String {
    let mut text = String::new();
    visit_text(source, false, false, &mut |line, _| text.push_str(line)).unwrap();
    text
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(text: &str) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn a_compressed_file_is_read_and_cut_as_the_text_in_it() {
    let text: String = (0..20_000).map(|n| format!("line {} größer\n", n * n % 977)).collect();
    let folder = tempfile::tempdir().unwrap();
    let whole = Source::from_text(&text).split(&[80, 10, 10]).unwrap();
    for (name, bytes) in [("text.txt.gz", gzip(&text)), ("text.zst", zstandard(&text)), ("TEXT.GZ", gzip(&text))] {
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        let source = Source::from_file(&path).unwrap();
        assert_eq!(source.bytes(), text.len() as u64);
        assert!(joined(&source) == text);
        let splits = source.split(&[80, 10, 10]).unwrap();
        assert!(joined(&splits.train) == joined(&whole.train), "{name}");
        assert!(joined(&splits.valid.unwrap()) == joined(whole.valid.as_ref().unwrap()), "{name}");
        assert!(joined(&splits.test.unwrap()) == joined(whole.test.as_ref().unwrap()), "{name}");
        for cut in [0, 3, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let error = Source::from_file(&path).unwrap_err().to_string();
            assert!(error.contains(name) && (cut == 0 || error.contains("cut short")), "{cut}: {error}");
        }
        std::fs::write(&path, &text).unwrap();
        assert!(Source::from_file(&path).unwrap_err().to_string().contains("not what its name says"));
    }
}

#[test]
fn a_folder_may_hold_compressed_files_among_others() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("1.txt.gz", &gzip("one\n"));
    write("2.txt", b"two\n");
    write("3.zst", &zstandard("three\n"));
    write("4.tar.gz", b"no text");
    write("5.png", b"no text");
    assert_eq!(joined(&Source::open(folder.path()).unwrap().train), "one\ntwo\nthree\n");
    write("train.txt.zst", &zstandard("to train on\n"));
    write("valid.gz", &gzip("to watch\n"));
    let splits = Source::open(folder.path()).unwrap();
    assert_eq!(
        (joined(&splits.train).as_str(), joined(&splits.valid.unwrap()).as_str()),
        ("to train on\n", "to watch\n")
    );
    assert!(splits.test.is_none());
}

#[test]
fn wrong_bytes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(&path, b"good\nba\xFFd\n").unwrap();
    let source = Source::from_file(&path).unwrap();
    let options = VocabularyOptions::default();
    let error = Tokenizer::build(TokenizerKind::Words, &source, options, false).unwrap_err();
    assert!(error.to_string().contains("byte 7"), "{error}");
    assert!(Tokenizer::build(TokenizerKind::Words, &source, options, true).is_ok());
}
