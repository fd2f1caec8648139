//! The pieces that a line is cut into where tokens are no subwords, and how they are written again: one file a kind.

mod bytes;
mod chars;
mod words;

pub(super) use self::bytes::{encode as encode_bytes, readable, tokens as every_byte};
use super::kind::TokenizerKind;

/// Hands on the pieces of a line, where markers may stand around lines without their ends.
pub(super) fn split(kind: TokenizerKind, line: &str, line_markers: bool, piece: &mut dyn FnMut(&str)) {
    match kind {
        TokenizerKind::Words => words::split(line, piece),
        _ => chars::split(line, line_markers, piece),
    }
}

/// The bytes that a token adds to a text; `at_start`: where a word needs no space before it.
pub(super) fn written(kind: TokenizerKind, id: u32, token: &str, at_start: bool) -> Vec<u8> {
    match kind {
        TokenizerKind::Words => words::written(token, at_start),
        TokenizerKind::Bytes if id < 256 => vec![id as u8],
        _ => token.as_bytes().to_vec(),
    }
}
