//! The bytes of a file as text, and what those are that are none.

use std::borrow::Cow;
use std::path::Path;

use super::TextError;

/// How a file begins that a packer wrote, and how to read it all the same.
fn packed(bytes: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 6] = [
        (b"PK\x03\x04", "a zip archive; unpack it"),
        (b"7z\xBC\xAF\x27\x1C", "a 7z archive; unpack it"),
        (b"\xFD7zXZ\0", "compressed with xz; unpack it, or compress it with gzip or zstd"),
        (b"BZh91AY&SY", "compressed with bzip2; unpack it, or compress it with gzip or zstd"),
        (b"\x1F\x8B\x08", "compressed with gzip; unpack it, or give it a name that ends in .gz"),
        (b"\x28\xB5\x2F\xFD", "compressed with zstd; unpack it, or give it a name that ends in .zst"),
    ];
    // The first header of a tar archive says it behind the name of the first file.
    let is_tar = bytes.get(257..262) == Some(&b"ustar"[..]);
    let found = BEGINNINGS.iter().find(|(begin, _)| bytes.starts_with(begin)).map(|(_, kind)| *kind);
    found.or(is_tar.then_some("a tar archive; unpack it"))
}

/// The bytes of a line as text. offset: where they begin in the file.
pub(crate) fn as_text<'a>(path: &Path, offset: u64, bytes: &'a [u8], lossy: bool) -> Result<Cow<'a, str>, TextError> {
    // A byte-order mark is no part of the first word.
    let (offset, bytes) = match bytes.strip_prefix(b"\xEF\xBB\xBF") {
        Some(rest) if offset == 0 => (3, rest),
        _ => (offset, bytes),
    };
    if lossy {
        return Ok(String::from_utf8_lossy(bytes));
    }
    // The mark of UTF-32 begins as one of UTF-16.
    const MARKS: [(&[u8], &str); 4] =
        [(b"\xFF\xFE\0\0", "UTF-32"), (b"\0\0\xFE\xFF", "UTF-32"), (b"\xFF\xFE", "UTF-16"), (b"\xFE\xFF", "UTF-16")];
    if let Some((_, kind)) = MARKS.iter().find(|(mark, _)| offset == 0 && bytes.starts_with(mark)) {
        return Err(TextError::Unusable(format!(
            "{} is {kind}; convert it: iconv -f {kind} -t UTF-8 {0} > FILE",
            path.display()
        )));
    }
    if let Some(kind) = packed(bytes).filter(|_| offset == 0) {
        return Err(TextError::Unusable(format!("{} is {kind}", path.display())));
    }
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        return Err(TextError::Binary { path: path.to_owned(), offset: offset + at as u64 });
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(e) => Err(TextError::Utf8 { path: path.to_owned(), offset: offset + e.valid_up_to() as u64 }),
    }
}
