//! Every way of batching predicts what it should, once.

use super::*;
use crate::text::corpus::Ids;
use crate::text::source::Source;
use crate::text::tokenizer::{TokenizerKind, VocabularyOptions};

fn read(text: &str, line_markers: bool) -> (Tokenizer, Corpus) {
    let source = Source::from_text(text);
    let options = VocabularyOptions { line_markers, min_count: Some(1), ..Default::default() };
    let tokenizer = Tokenizer::build(TokenizerKind::Words, &source, options, false).unwrap();
    let corpus = Corpus::read(&source, &tokenizer, false).unwrap();
    (tokenizer, corpus)
}

const TEXT: &str = "a b c d e f g\nh\n\ni j k l m\nn o\n";

#[test]
fn evaluation_predicts_every_token_once() {
    for (batching, expected) in [(Batching::Stream, 20), (Batching::Lines, 20), (Batching::Windows(5), 9)] {
        let (tokenizer, corpus) = read(TEXT, batching != Batching::Stream);
        let batches = Batches::evaluation(&corpus, &tokenizer, batching, 3, 4).unwrap();
        let mut batch = Batch::default();
        let mut predicted = 0;
        for index in 0..batches.len() {
            batches.get(index, &mut batch);
            predicted += batch.targets.iter().filter(|&&t| t != NO_TARGET).count();
        }
        assert_eq!((predicted, batches.predicted()), (expected, expected), "{batching}");
    }
}

#[test]
fn parts_alone_begin_as_a_text_does() {
    let (tokenizer, corpus) = read(TEXT, false);
    let batches = Batches::of_starts(&corpus, &tokenizer, vec![8, 10, 11], 3);
    let (mut batch, mut targets, mut fresh) = (Batch::default(), Vec::new(), Vec::new());
    for index in 0..batches.len() {
        batches.get(index, &mut batch);
        fresh.push(batch.fresh);
        let before = if batch.fresh { tokenizer.start() } else { corpus.ids.get(targets.len() - 1) };
        assert_eq!(batch.tokens[0], before);
        assert_eq!(batch.tokens[1..], batch.targets[..batch.targets.len() - 1]);
        targets.extend_from_slice(&batch.targets);
    }
    assert!(targets.len() == 20 && (0..20).all(|at| targets[at] == corpus.ids.get(at)));
    assert_eq!(fresh, [true, false, false, true, true, true, false, false]);
}

#[test]
fn an_empty_text_has_no_batches_to_evaluate() {
    let (tokenizer, mut corpus) = read(TEXT, false);
    corpus.ids = Ids::U8(Vec::new());
    let batches = Batches::evaluation(&corpus, &tokenizer, Batching::Stream, 3, 4).unwrap();
    assert_eq!((batches.len(), batches.predicted(), batches.rows()), (0, 0, 1));
}

#[test]
fn streams_shift_by_one_and_carry() {
    let (tokenizer, corpus) = read(TEXT, false);
    let batches = Batches::training(&corpus, &tokenizer, Batching::Stream, 2, 4, 1, 0).unwrap();
    let (mut first, mut second) = (Batch::default(), Batch::default());
    batches.get(0, &mut first);
    batches.get(1, &mut second);
    assert!(first.fresh && !second.fresh);
    assert_eq!(first.tokens[0], tokenizer.eos().unwrap());
    assert_eq!(first.tokens[2..], first.targets[..6]);
    assert_eq!(second.tokens[..2], first.targets[6..]);
}

#[test]
fn varied_segments_are_the_same_stream_cut_elsewhere_in_every_epoch() {
    let text = "a b c d e f g h i j k l m n o p q r s t\n".repeat(2000);
    let (tokenizer, corpus) = read(&text, false);
    let fixed = Batches::training(&corpus, &tokenizer, Batching::Stream, 2, 40, 1, 0).unwrap();
    let column = corpus.ids.len() / 2;
    let mut batch = Batch::default();
    let mut epochs = Vec::new();
    for epoch in 0..2 {
        let varied = fixed.clone().varied(9, epoch);
        assert_eq!(varied.predicted(), fixed.predicted());
        // From the last to the first: any batch can be had at any time.
        let (mut targets, mut lengths) = (Vec::<u32>::new(), Vec::new());
        for index in (0..varied.len()).rev() {
            varied.get(index, &mut batch);
            assert_eq!(batch.fresh, index == 0);
            lengths.push(batch.steps);
            targets.extend(batch.targets.iter().skip(1).step_by(2).rev());
        }
        targets.reverse();
        assert!(targets.iter().enumerate().all(|(at, &target)| target == corpus.ids.get(column + at)));
        assert_eq!((targets.len(), lengths.iter().sum::<usize>()), (column, column));
        let whole = &lengths[1..];
        assert!(whole.iter().all(|&steps| (5..=55).contains(&steps)), "{whole:?}");
        let halves = whole.iter().filter(|&&steps| steps < 30).count() as f64 / whole.len() as f64;
        let mean = whole.iter().sum::<usize>() as f64 / whole.len() as f64;
        // 0.95 · 40 + 0.05 · 20, within four standard errors.
        assert!((mean - 39.0).abs() < 1.1 && (0.01..0.1).contains(&halves), "{mean} {halves}");
        epochs.push(lengths);
    }
    assert_ne!(epochs[0], epochs[1]);
    // Segments shorter than the least length stay as they are at the least.
    let short = Batches::training(&corpus, &tokenizer, Batching::Stream, 2, 1, 1, 0).unwrap().varied(1, 0);
    short.get(3, &mut batch);
    assert!((1..=16).contains(&batch.steps));
}

#[test]
fn rotated_columns_have_every_token_of_theirs_once_after_the_one_before_it() {
    // No word twice in a column, so that a token is its place.
    let words: Vec<String> = (0..60).map(|number| format!("w{number}")).collect();
    let (tokenizer, corpus) = read(&(words.join(" ") + "\n"), false);
    let (mut batch, mut firsts) = (Batch::default(), Vec::new());
    for (epoch, varied) in [(0, false), (1, false), (1, true)] {
        let plain = Batches::training(&corpus, &tokenizer, Batching::Stream, 3, 7, 5, epoch).unwrap();
        let column = corpus.ids.len() / 3;
        let plain = if varied { plain.varied(5, epoch) } else { plain };
        let rotated = plain.clone().rotated(5, epoch);
        assert_eq!((rotated.len(), rotated.predicted()), (plain.len(), plain.predicted()));
        for row in 0..3 {
            let mut places = Vec::new();
            // From the last to the first: any batch can be had at any time.
            for index in (0..rotated.len()).rev() {
                rotated.get(index, &mut batch);
                assert_eq!(batch.fresh, index == 0);
                let mut of_batch = Vec::new();
                for t in 0..batch.steps {
                    let target = batch.targets[t * 3 + row];
                    let place = (0..corpus.ids.len()).find(|&at| corpus.ids.get(at) == target).unwrap();
                    let before = place.checked_sub(1).map_or(tokenizer.start(), |at| corpus.ids.get(at));
                    assert_eq!(batch.tokens[t * 3 + row], before);
                    of_batch.push(place);
                }
                places.splice(0..0, of_batch);
            }
            firsts.push(places[0] - row * column);
            let turned = |at: usize| row * column + (firsts[firsts.len() - 1] + at) % column;
            assert!(
                places.len() == column && places.iter().enumerate().all(|(at, &place)| place == turned(at)),
                "{places:?}"
            );
        }
    }
    assert_ne!(firsts[..3], firsts[3..6]);
    assert!(firsts[..3] != [firsts[0]; 3] && firsts[3..6] == firsts[6..]);
}

#[test]
fn the_courses_windows_are_counted_as_published() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/penn_small");
    if !folder.exists() {
        eprintln!("skipped: penn_small is not beside the project");
        return;
    }
    let splits = Source::open(&folder).unwrap();
    let options = VocabularyOptions { line_markers: true, ..Default::default() };
    let tokenizer = Tokenizer::build(TokenizerKind::Words, &splits.train, options, false).unwrap();
    let parts = [(Some(splits.train), 77_267, 0), (splits.valid, 5_628, 214), (splits.test, 6_572, 179)];
    for (source, windows, unknown) in parts {
        let corpus = Corpus::read(&source.unwrap(), &tokenizer, false).unwrap();
        let batches = Batches::evaluation(&corpus, &tokenizer, Batching::Windows(5), 128, 5).unwrap();
        assert_eq!((batches.predicted(), corpus.unknown), (windows, unknown));
    }
}

/// The corpus of a text of documents, in words.
fn documents(text: &str, delimiter: &str) -> (Tokenizer, Corpus) {
    use crate::text::documents::Reading;
    let reading = Reading { documents: Some(delimiter.parse().unwrap()), ..Reading::default() };
    let source = Source::from_text(text).read_as(&reading);
    let options = VocabularyOptions { min_count: Some(1), ..Default::default() };
    let tokenizer = Tokenizer::build(TokenizerKind::Words, &source, options, false).unwrap();
    let corpus = Corpus::read(&source, &tokenizer, false).unwrap();
    (tokenizer, corpus)
}

#[test]
fn documents_begin_where_they_are_delimited() {
    for (text, delimiter, starts) in [
        ("a b\nc\n\nd e f\n\n\ng\n", "blank", vec![0, 6, 11, 12]),
        ("a b\nc\nd\n", "line", vec![0, 3, 5]),
        ("a b\n%%\nc d%%e\n%%", "%%", vec![0, 5, 8]),
        ("a b", "%%", vec![0]),
    ] {
        assert_eq!(documents(text, delimiter).1.document_starts, starts, "{text:?} {delimiter}");
    }
}

/// Whatever the rows, epochs and segments: each token is predicted once, from the one before it in its document or from the
/// start, and the first of a document from a state of zeros.
#[test]
fn a_stream_of_documents_keeps_states_apart() {
    let text: String = (0..200).map(|n| format!("{}{}\n", "w x y z ".repeat(n % 7), n % 11)).collect();
    let (tokenizer, corpus) = documents(&text, "line");
    assert_eq!(corpus.document_starts.len(), 200);
    let training = Batches::training(&corpus, &tokenizer, Batching::Stream, 6, 4, 1, 0).unwrap();
    let varied = training.clone().varied(3, 1);
    let evaluation = |rows| Batches::evaluation(&corpus, &tokenizer, Batching::Stream, rows, 5).unwrap();
    for (batches, within) in [(training, true), (varied, true), (evaluation(5), false), (evaluation(1), false)] {
        let mut rows: Vec<Vec<(u32, u32, bool)>> = vec![Vec::new(); batches.rows()];
        let mut batch = Batch::default();
        for index in 0..batches.len() {
            batches.get(index, &mut batch);
            for (row, read) in rows.iter_mut().enumerate() {
                let length = batch.lengths.as_ref().map_or(batch.steps, |lengths| lengths[row]);
                for t in 0..length {
                    let at = t * batch.batch + row;
                    let restarts = t == 0 && (batch.fresh || batch.restarts.contains(&row));
                    read.push((batch.tokens[at], batch.targets[at], restarts));
                }
            }
        }
        let read: Vec<_> = rows.concat();
        let mut restarts_within = 0;
        assert_eq!((read.len(), batches.predicted()), (corpus.ids.len(), corpus.ids.len()));
        for (position, &(token, target, restarts)) in read.iter().enumerate() {
            let begins = corpus.document_starts.binary_search(&position).is_ok();
            let before = if begins { tokenizer.start() } else { corpus.ids.get(position - 1) };
            assert_eq!((token, target), (before, corpus.ids.get(position)), "{position}");
            assert!(restarts || !begins, "{position}");
            restarts_within += usize::from(restarts && !begins);
        }
        assert!(if within { restarts_within < 6 } else { restarts_within == 0 }, "{restarts_within}");
    }
    let error = Batches::training(&corpus, &tokenizer, Batching::Stream, 9999, 4, 1, 0).unwrap_err().to_string();
    assert!(error.contains("are too few for"), "{error}");
}

#[test]
fn a_text_too_short_says_what_fits() {
    let (tokenizer, corpus) = read("a b c\n", false);
    let error = Batches::training(&corpus, &tokenizer, Batching::Stream, 20, 4, 1, 0).unwrap_err();
    assert!(error.to_string().contains("`batch` 2"), "{error}");
}
