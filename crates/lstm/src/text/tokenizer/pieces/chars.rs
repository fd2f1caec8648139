//! Characters: every Unicode character is a token, a line feed too.

/// Hands on the characters of a line, where markers stand around lines without its end.
pub(super) fn split(line: &str, line_markers: bool, character: &mut dyn FnMut(&str)) {
    let line = if line_markers { line.trim_end_matches('\n') } else { line };
    let mut buffer = [0; 4];
    line.chars().for_each(|c| character(c.encode_utf8(&mut buffer)));
}
