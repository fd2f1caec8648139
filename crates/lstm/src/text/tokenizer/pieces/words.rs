//! Words: what stands between white space is a token, and the end of a line.

/// Hands on the words of a line.
pub(super) fn split(line: &str, word: &mut dyn FnMut(&str)) {
    line.split_whitespace().for_each(word);
}

/// The bytes that a word adds to a text: with a space before it, but at the start of a line.
pub(super) fn written(word: &str, at_start: bool) -> Vec<u8> {
    if at_start { word.as_bytes().to_vec() } else { format!(" {word}").into_bytes() }
}
