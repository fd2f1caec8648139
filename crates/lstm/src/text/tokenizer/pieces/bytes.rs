//! Bytes: every byte is a token, its id its value.

/// The tokens: the 256 bytes by their values.
pub(crate) fn tokens() -> Vec<String> {
    (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect()
}

/// Hands on the ids of a line, where markers stand around lines without its end.
pub(crate) fn encode(line: &[u8], line_markers: bool, id: &mut dyn FnMut(u32)) {
    let end = line.len() - usize::from(line_markers && line.ends_with(b"\n"));
    line[..end].iter().for_each(|&byte| id(u32::from(byte)));
}

/// Bytes as people read them: those that are no whole character are `\\xNN`.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let chunk = |chunk: std::str::Utf8Chunk| {
        let escaped: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")).collect();
        chunk.valid().to_owned() + &escaped
    };
    bytes.utf8_chunks().map(chunk).collect()
}
