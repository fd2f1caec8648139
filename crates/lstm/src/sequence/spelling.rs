//! What the spelling of a word says of it beside the word itself: its first and last letters and its shape, each hashed to a row of a
//! table. So a word that the vocabulary has not is more than unknown.

/// The kinds of features of a word.
pub const KINDS: usize = 4;

/// The rows of each kind: the first two letters, the last two, the last three, the shape.
const BUCKETS: [u32; KINDS] = [1024, 1024, 4096, 64];

/// The rows of all kinds together.
pub(crate) const ROWS: usize = (BUCKETS[0] + BUCKETS[1] + BUCKETS[2] + BUCKETS[3]) as usize;

/// The rows of a word's features in the one table of all.
pub(crate) fn features(word: &str) -> [u32; KINDS] {
    let lower: Vec<char> = word.to_lowercase().chars().collect();
    let first: String = lower.iter().take(2).collect();
    let last = |count: usize| -> String { lower[lower.len().saturating_sub(count)..].iter().collect() };
    let texts = [first, last(2), last(3), shape(word)];
    let mut start = 0;
    let mut rows = [0; KINDS];
    for (at, (row, text)) in rows.iter_mut().zip(&texts).enumerate() {
        *row = start + crc32fast::hash(text.as_bytes()) % BUCKETS[at];
        start += BUCKETS[at];
    }
    rows
}

/// The kinds of characters of a word, each run of the same one once: `Xx` of Paris, `d.d` of 3.5; no more than four.
fn shape(word: &str) -> String {
    const MOST: usize = 4;
    let kind = |c: char| match c {
        c if c.is_numeric() => 'd',
        c if c.is_uppercase() => 'X',
        c if c.is_alphabetic() => 'x',
        c => c,
    };
    let mut shape = String::new();
    for c in word.chars().map(kind) {
        if !shape.ends_with(c) && shape.chars().count() < MOST {
            shape.push(c);
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_spelled_alike_share_features() {
        assert_eq!([shape("Paris"), shape("3.5"), shape("IBM"), shape("x-ray")], ["Xx", "d.d", "X", "x-x"]);
        let [walking, talking, capital] = ["walking", "talking", "Walking"].map(features);
        assert_eq!(walking[1..], talking[1..]);
        assert_ne!(walking[0], talking[0]);
        assert_eq!(walking[..3], capital[..3]);
        assert_ne!(walking[3], capital[3]);
        for word in ["", "a", "ß", "日本語の", "...."] {
            assert!(features(word).iter().all(|row| (*row as usize) < ROWS), "{word}");
        }
    }
}
