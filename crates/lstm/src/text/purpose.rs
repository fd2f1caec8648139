//! The purpose of a file or folder, by its name.

use std::collections::BTreeSet;
use std::fmt;

use super::archive::Compression;

/// The purpose of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Train,
    Valid,
    Test,
    /// Validation where there is none, else test.
    Evaluation,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "training",
            Self::Valid => "validation",
            Self::Test => "test",
            Self::Evaluation => "evaluation",
        })
    }
}

/// The words that say it, also with `set`, `data` or the like behind them.
const WORDS: [(Purpose, &[&str]); 4] = [
    (Purpose::Train, &["train", "training", "trn"]),
    (Purpose::Valid, &["valid", "validation", "validate", "val", "dev", "devel", "heldout", "holdout", "newsdev"]),
    (Purpose::Test, &["test", "tests", "tst", "devtest", "newstest", "newsdiscusstest"]),
    (Purpose::Evaluation, &["eval", "evals"]),
];

/// Words of other titles too, which say it only where they are the whole name.
const WHOLE: [(Purpose, &[&str]); 4] = [
    (Purpose::Train, &["trains", "learn", "learning"]),
    (Purpose::Valid, &["development", "tune", "tuning"]),
    (Purpose::Test, &["testing", "final_test", "final-test"]),
    (Purpose::Evaluation, &["evaluation"]),
];

/// The endings that may stand behind such a word without a gap.
const ENDINGS: [&str; 8] = ["", "set", "data", "text", "file", "files", "split", "corpus"];

/// A name in lower case, with a gap where a capital letter begins a word, as in `myTest`.
pub(super) fn lower(name: &str) -> String {
    let (mut said, mut before) = (String::new(), ' ');
    for c in name.chars() {
        if c.is_uppercase() && before.is_lowercase() {
            said.push('-');
        }
        said.extend(c.to_lowercase());
        before = c;
    }
    said
}

/// The purposes of files whose names begin alike and go on without a gap, as `ptbtrain` beside `ptbtest`. One alone, such as
/// `contest`, is a word of its own.
pub(super) fn joined(names: &[String]) -> Vec<Option<Purpose>> {
    let parts = |name: &String| {
        let (folder, file) = name.rsplit_once(std::path::is_separator).unwrap_or(("", name));
        let stem = file.split('.').next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_digit());
        let known = WORDS.iter().flat_map(|(purpose, known)| known.iter().map(move |word| (*purpose, *word)));
        let ends = known.filter_map(|(purpose, word)| Some((stem.strip_suffix(word)?, purpose)));
        ends.min_by_key(|(begin, _)| begin.len()).map(|(begin, purpose)| ([folder, "/", begin].concat(), purpose))
    };
    let parts: Vec<Option<(String, Purpose)>> = names.iter().map(parts).collect();
    let begins = |begin: &str, trains: bool| {
        parts.iter().flatten().any(|(other, purpose)| other == begin && (*purpose == Purpose::Train) == trains)
    };
    let say = |(begin, purpose): &(String, Purpose)| (begins(begin, true) && begins(begin, false)).then_some(*purpose);
    parts.iter().map(|parts| parts.as_ref().and_then(say)).collect()
}

/// The purposes that a name in lower case says, of which no more than one should be.
pub(super) fn purposes(name: &str) -> BTreeSet<Purpose> {
    let digits = |c: char| c.is_ascii_digit();
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).map(|word| word.trim_matches(digits)).collect();
    let says = |word: &str, known: &&[&str]| {
        known.iter().any(|known| word.strip_prefix(known).is_some_and(|rest| ENDINGS.contains(&rest)))
    };
    let mut found: BTreeSet<Purpose> = WORDS
        .iter()
        .filter(|(_, known)| words.iter().any(|word| says(word, known)))
        .map(|(purpose, _)| *purpose)
        .collect();
    if words.windows(2).any(|pair| ["held", "hold"].contains(&pair[0]) && pair[1] == "out") {
        found.insert(Purpose::Valid);
    }
    let stem = name.split('.').next().unwrap_or_default().trim_matches(digits);
    found.extend(WHOLE.iter().filter(|(_, known)| known.contains(&stem)).map(|(purpose, _)| *purpose));
    found
}

/// Whether names in lower case are those of the parts of one text: alike but for numbers, or for letters that count as
/// `split` does (aa, ab, …).
pub(super) fn are_parts(names: &BTreeSet<String>) -> bool {
    let plain = |name: &str| {
        let name =
            Compression::of(std::path::Path::new(name)).and_then(|_| name.rsplit_once('.')).map_or(name, |n| n.0);
        name.to_owned()
    };
    let names: BTreeSet<String> = names.iter().map(|name| plain(name)).collect();
    let numbered = |name: &String| {
        // `train.txt` beside `train2.txt` counts too.
        let mut skeleton: String = name.chars().filter(|c| !c.is_ascii_digit()).collect();
        for gap in ["-of-", "_of_", "-", "_", " ", ".", "(", ")"] {
            skeleton = skeleton.replace(gap, "");
        }
        skeleton
    };
    let skeletons: BTreeSet<String> = names.iter().map(numbered).collect();
    skeletons.len() <= 1 || are_lettered(&names)
}

/// Whether the names differ in one word alone, which counts from a, or from aa.
fn are_lettered(names: &BTreeSet<String>) -> bool {
    let words =
        |name: &String| -> Vec<String> { name.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect() };
    let split: Vec<Vec<String>> = names.iter().map(words).collect();
    let Some(first) = split.first() else { return true };
    if split.iter().any(|words| words.len() != first.len()) {
        return false;
    }
    let differing: Vec<usize> =
        (0..first.len()).filter(|&at| split.iter().any(|words| words[at] != first[at])).collect();
    let [at] = differing[..] else { return false };
    let width = first[at].len();
    let counted = |number: usize| {
        let letter = |place: u32| char::from(b'a' + (number / 26usize.pow(place) % 26) as u8);
        (0..width as u32).rev().map(letter).collect::<String>()
    };
    (1..=3).contains(&width) && split.iter().enumerate().all(|(number, words)| words[at] == counted(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_text_is_for() {
        use Purpose::{Evaluation, Test, Train, Valid};
        for (purpose, names) in [
            (
                Some(Train),
                "train.txt ptb.train.txt train-00000-of-00010 wiki.train.tokens train1 training trainset.txt",
            ),
            (Some(Valid), "valid.txt validation dev.txt val.bin held-out.txt heldout news.en.heldout-00000-of-00050"),
            (Some(Test), "test.txt newstest2013.en test_2.txt devtest test testing.txt"),
            (Some(Evaluation), "eval.txt evaluation.txt eval-1.txt"),
            (None, "contest.txt latest greatest.txt trainer.txt strain.txt value.txt devil.txt evaluations.md part1"),
        ] {
            for name in names.split(' ') {
                assert_eq!(purposes(name).into_iter().collect::<Vec<_>>(), Vec::from_iter(purpose), "{name}");
            }
        }
        assert_eq!(purposes("train_test.txt").len(), 2);
    }

    #[test]
    fn words_without_a_gap_say_it_where_a_capital_or_another_name_sets_them_apart() {
        for (name, expected) in [("myTest.txt", "my-test.txt"), ("PTB.Test", "ptb.test"), ("wikiTrain2", "wiki-train2")]
        {
            assert_eq!(lower(name), expected);
        }
        use Purpose::{Test, Train, Valid};
        let said = |names: &str| joined(&names.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(said("ptbtrain.txt ptbvalid.txt ptbtest01"), [Some(Train), Some(Valid), Some(Test)]);
        assert_eq!(said("contest.txt latest greatest"), [None; 3]);
        assert_eq!(said("a/strain b/stest restrain.txt"), [None; 3]);
    }

    #[test]
    fn parts_are_told_from_other_texts() {
        for (parts, names) in [
            (true, "train.txt"),
            (true, "train-00000-of-00002.txt train-00001-of-00002.txt"),
            (true, "train1.txt train2.txt train10.txt.gz"),
            (true, "train.aa train.ab train.ac"),
            (true, "train_a.txt train_b.txt"),
            (false, "train.en train.de"),
            (false, "ptb.train.txt ptb.char.train.txt"),
            (false, "valid.txt dev.txt"),
            (false, "train_a.txt train_c.txt"),
        ] {
            assert_eq!(are_parts(&names.split(' ').map(str::to_owned).collect()), parts, "{names}");
        }
    }
}
