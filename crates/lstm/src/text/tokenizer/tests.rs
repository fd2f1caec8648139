//! Every kind of tokens gives back the text that it was given, and says what it cannot.

use super::build::SUBWORDS;
use super::decoder::DECODED;
use super::tokens::EOS;
use super::*;
use crate::text::source::Source;

fn build(kind: TokenizerKind, text: &str, options: VocabularyOptions) -> Tokenizer {
    Tokenizer::build(kind, &Source::from_text(text), options, false).unwrap()
}

#[test]
fn words_seen_once_become_unknown_unless_the_text_says_unk() {
    let words = build(TokenizerKind::Words, "a b a\nc a b\n", VocabularyOptions::default());
    assert_eq!(words.encode("a c zzz\n").unwrap(), vec![0, 3, 3, 2]);
    assert_eq!((words.token(0), words.token(1), words.token(2), words.token(3)), ("a", "b", "<eos>", "<unk>"));
    let with_unk = build(TokenizerKind::Words, "a b <unk>\n", VocabularyOptions::default());
    assert_eq!(with_unk.vocabulary_size(), 4);
}

#[test]
fn characters_and_bytes_decode_to_what_they_encode() {
    for kind in [TokenizerKind::Chars, TokenizerKind::Bytes] {
        let text = "Grüße,\nWelt\n";
        let tokenizer = build(kind, text, VocabularyOptions::default());
        let mut decoder = tokenizer.decoder("");
        let bytes: Vec<u8> = tokenizer.encode(text).unwrap().iter().flat_map(|&id| decoder.push(id)).collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), text);
    }
}

#[test]
fn markers_have_ids_of_their_own_and_sizes_are_cut() {
    let options = VocabularyOptions { line_markers: true, max_size: Some(2), ..Default::default() };
    let words = build(TokenizerKind::Words, "a a a b b c <unk>\n", options);
    assert_eq!(words.vocabulary_size(), 6);
    assert!(words.pad().is_some() && words.sos() != words.eos());
    let [a, eos] = ["a", EOS].map(|token| words.id(token).unwrap());
    assert_eq!(words.encode("a a\na").unwrap(), [a, a, eos, a]);
}

const SUBWORD_KINDS: [TokenizerKind; 3] = [TokenizerKind::Bpe, TokenizerKind::Unigram, TokenizerKind::Wordpiece];

/// Lines with words that begin and end alike, characters of two bytes, and an empty line.
fn lines() -> String {
    let words = ["Grüße", "größer", "größte", "grün", "grüner", "süß", "süßer"];
    let line = |i: usize| (0..3 + i % 4).map(|j| words[(i * 5 + j * 3) % 7]).collect::<Vec<_>>().join(" ") + "\n";
    (0..60).map(line).collect::<String>() + "\n" + &line(3)
}

#[test]
fn subwords_written_one_by_one_are_the_text_also_after_a_prompt() {
    for kind in SUBWORD_KINDS {
        for (line_markers, max_size) in [(false, Some(300)), (true, Some(300)), (false, None)] {
            let options = VocabularyOptions { line_markers, max_size, ..Default::default() };
            let tokenizer = build(kind, &lines(), options);
            assert!(tokenizer.vocabulary_size() <= max_size.unwrap_or(SUBWORDS));
            let ids = tokenizer.encode(&lines()).unwrap();
            let write = |ids: &[u32], before: &str| {
                let mut decoder = tokenizer.decoder(before);
                let mut bytes: Vec<u8> = ids.iter().flat_map(|&id| decoder.push(id)).collect();
                bytes.extend(decoder.finish());
                String::from_utf8(bytes).unwrap()
            };
            assert_eq!(write(&ids, ""), lines(), "{kind} {line_markers}");
            // Cut anywhere, the rest goes on from what the first part says.
            for at in (0..ids.len()).step_by(7) {
                let before = write(&ids[..at], "");
                if !before.contains(char::REPLACEMENT_CHARACTER) && tokenizer.encode(&before).unwrap() == ids[..at] {
                    assert_eq!(before.clone() + &write(&ids[at..], &before), lines(), "{kind} {before:?}");
                }
            }
            let ends = ids.iter().filter(|&&id| tokenizer.ends_line(id)).count();
            assert_eq!(ends, 62, "{kind}");
        }
    }
}

#[test]
fn a_long_line_of_subwords_is_decoded_as_it_is() {
    let text = "grüner süßer Grüße größer ".repeat(300);
    for kind in SUBWORD_KINDS {
        let tokenizer = build(kind, &text, VocabularyOptions { max_size: Some(280), ..Default::default() });
        let mut decoder = tokenizer.decoder("");
        let ids = tokenizer.encode(&text).unwrap();
        assert!(ids.len() > 4 * DECODED);
        let mut bytes: Vec<u8> = ids.iter().flat_map(|&id| decoder.push(id)).collect();
        bytes.extend(decoder.finish());
        assert_eq!(String::from_utf8(bytes).unwrap().trim_end(), text.trim_end(), "{kind}");
    }
}

#[test]
fn a_prompt_that_ends_with_a_space_needs_no_other() {
    for kind in SUBWORD_KINDS {
        let tokenizer = build(kind, &lines(), VocabularyOptions::default());
        let next = tokenizer.encode("grün süß").unwrap();
        let mut decoder = tokenizer.decoder("grün ");
        // The prompt is read as one word; the next begins one.
        let rest: Vec<u8> = next[next.len() - 1..].iter().flat_map(|&id| decoder.push(id)).collect();
        let text = format!("grün {}", String::from_utf8(rest).unwrap());
        assert!(kind != TokenizerKind::Wordpiece || text == "grün süß", "{text}");
    }
}

#[test]
fn a_saved_tokenizer_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    for kind in SUBWORD_KINDS.into_iter().chain([TokenizerKind::Chars, TokenizerKind::Words]) {
        for line_markers in [false, true] {
            let options = VocabularyOptions { line_markers, min_count: Some(1), ..Default::default() };
            let tokenizer = build(kind, &lines(), options);
            tokenizer.save(&path).unwrap();
            let loaded = Tokenizer::load(&path).unwrap();
            assert_eq!(loaded.fingerprint(), tokenizer.fingerprint());
            assert_eq!(loaded.vocabulary_size(), tokenizer.vocabulary_size());
            assert_eq!(loaded.encode(&lines()).unwrap(), tokenizer.encode(&lines()).unwrap());
            // Another run can use it, if its lines are read the same way.
            assert_eq!(Tokenizer::import(&path, line_markers).unwrap().fingerprint(), tokenizer.fingerprint());
            let error = Tokenizer::import(&path, !line_markers).unwrap_err().to_string();
            assert!(error.contains("markers around their lines"), "{error}");
        }
    }
}

#[test]
fn a_tokenizer_from_a_file_ends_lines_in_its_own_way_or_is_given_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    for kind in SUBWORD_KINDS {
        let trained = build(kind, &lines(), VocabularyOptions::default());
        std::fs::write(&path, trained.stored.subwords.clone().unwrap().to_string()).unwrap();
        let imported = Tokenizer::import(&path, false).unwrap();
        assert_eq!(imported.kind(), TokenizerKind::File);
        assert_eq!(imported.encode(&lines()).unwrap(), trained.encode(&lines()).unwrap());
        assert_eq!(imported.eos().is_some(), kind != TokenizerKind::Bpe);
        let markers = Tokenizer::import(&path, true).unwrap();
        assert!([markers.pad(), markers.sos(), markers.eos()].iter().all(Option::is_some));
    }
    for (document, expected) in [("[1]", "no `model`"), ("x", "no JSON"), (r#"{"model": {}}"#, "refused")] {
        std::fs::write(&path, document).unwrap();
        let error = Tokenizer::import(&path, false).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("tokenizer.json"), "{error}");
    }
}

#[test]
fn a_file_that_is_no_tokenizer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, "{}").unwrap();
    assert!(Tokenizer::load(&path).unwrap_err().to_string().contains("not a tokenizer"));
}
