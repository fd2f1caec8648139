//! Compressed files, read as the text in them: gzip and Zstandard, of any number of members or frames.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use thiserror::Error;

/// Bytes that are read from a file at once.
pub(super) const BUFFER: usize = 1 << 18;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstandard,
}

impl Compression {
    /// The compression that the name of a file says.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "gz" => Some(Self::Gzip),
            "zst" => Some(Self::Zstandard),
            _ => None,
        }
    }

    /// A reader of what is in `file`. Reading fails where it is damaged or ends too early; [`trouble`] says it.
    pub(crate) fn reader(self, file: File) -> Box<dyn BufRead> {
        let mut file = BufReader::with_capacity(BUFFER, file);
        let is_other = file.fill_buf().is_ok_and(|first| !self.may_begin_with(first));
        let packed: Box<dyn Read> = match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(file)),
            Self::Zstandard => Box::new(Frames { file, decoder: FrameDecoder::new(), within: false }),
        };
        let within = Unpacking { packed, is_other: is_other.then_some(self) };
        Box::new(BufReader::with_capacity(BUFFER, within))
    }

    /// Whether a file of it may begin so; it may be cut short anywhere.
    fn may_begin_with(self, first: &[u8]) -> bool {
        let agrees = |magic: &[u8]| first.iter().zip(magic).all(|(first, magic)| first == magic);
        match self {
            Self::Gzip => agrees(&[0x1F, 0x8B]),
            // A frame, or one without text, which has sixteen numbers.
            Self::Zstandard => {
                agrees(&[0x28, 0xB5, 0x2F, 0xFD])
                    || (agrees(&[first.first().map_or(0, |first| 0x50 | first & 0x0F), 0x2A, 0x4D, 0x18]))
            }
        }
    }
}

/// What is in a compressed file. Its errors are [`Damage`], or those of the system.
struct Unpacking {
    packed: Box<dyn Read>,
    /// The compression that the file's name says, where its first bytes are of something else.
    is_other: Option<Compression>,
}

impl Read for Unpacking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.packed.read(buffer).map_err(|error| match (Damage::of(&error), self.is_other) {
            (None, _) => error,
            (Some(_), Some(compression)) => io::Error::other(Damage::Other(compression)),
            (Some(damage), None) => io::Error::other(damage),
        })
    }
}

/// Why a compressed file cannot be unpacked, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum Damage {
    #[error("it is not what its name says, a file of {}; give it its right name, or get it again",
        match .0 { Compression::Gzip => "gzip", Compression::Zstandard => "Zstandard" })]
    Other(Compression),
    #[error("it was cut short; get it again")]
    Cut,
    #[error("it is damaged; get it again")]
    Changed,
}

impl Damage {
    /// That of an error met in unpacking; `None` where the system could not read the file.
    fn of(error: &io::Error) -> Option<Self> {
        let mut damage = Self::Changed;
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            let io = error.downcast_ref::<io::Error>();
            match io {
                Some(io) if io.raw_os_error().is_some() => return None,
                Some(io) if io.kind() == ErrorKind::UnexpectedEof => damage = Self::Cut,
                _ => {}
            }
            // The source of a wrapped error is not that which it wraps.
            cause = match io.and_then(io::Error::get_ref) {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        Some(damage)
    }
}

/// What an error of reading a file is, whatever it is compressed with: the end of a sentence that begins with the file's name.
pub(crate) fn trouble(error: &io::Error) -> String {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<Damage>()) {
        Some(damage) => format!("cannot be unpacked: {damage}"),
        None => format!("cannot be read: {error}"),
    }
}

/// The name of what is in a file: that of a compressed one without the end that says so.
pub(crate) fn unpacked(path: &Path) -> Cow<'_, Path> {
    match Compression::of(path) {
        Some(_) => Cow::Owned(path.with_extension("")),
        None => Cow::Borrowed(path),
    }
}

/// The frames of a Zstandard file, one after the other.
struct Frames {
    file: BufReader<File>,
    decoder: FrameDecoder,
    within: bool,
}

impl Frames {
    /// Begins the next frame; false at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.file.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.file) {
                Ok(()) => return Ok(true),
                // A frame without text, such as the sizes of the others.
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.file.by_ref().take(length), &mut io::sink())? < length {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.within && !self.begin()? {
                return Ok(0);
            }
            self.within = true;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let decoded = self.decoder.decode_blocks(&mut self.file, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(io::Error::other)?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            let stored = self.decoder.get_checksum_from_data();
            if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
                return Err(io::Error::new(ErrorKind::InvalidData, "the checksum is not that of the text"));
            }
            self.within = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn read(compression: Compression, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        let mut text = Vec::new();
        compression.reader(File::open(path)?).read_to_end(&mut text)?;
        Ok(text)
    }

    /// Longer than the buffers, and not the same all over.
    fn text() -> Vec<u8> {
        (0..300_000u32).flat_map(|n| (n.wrapping_mul(n) % 9973).to_string().into_bytes()).collect()
    }

    #[test]
    fn what_was_packed_is_read() {
        for text in [b"".to_vec(), b"a".to_vec(), text()] {
            assert!(read(Compression::Gzip, &gzip(&text)).unwrap() == text);
            assert!(read(Compression::Zstandard, &zstandard(&text)).unwrap() == text);
        }
    }

    #[test]
    fn members_and_frames_are_joined_and_frames_without_text_are_skipped() {
        let twice = [&gzip(b"one ")[..], &gzip(b"two")].concat();
        assert_eq!(read(Compression::Gzip, &twice).unwrap(), b"one two");
        let empty = [&0x184D_2A50u32.to_le_bytes()[..], &4u32.to_le_bytes(), b"abcd"].concat();
        let frames = [&empty[..], &zstandard(b"one "), &empty, &zstandard(b"two"), &empty].concat();
        assert_eq!(read(Compression::Zstandard, &frames).unwrap(), b"one two");
        assert!(read(Compression::Zstandard, &frames[..frames.len() - 1]).is_err());
    }

    #[test]
    fn cut_or_changed_files_fail() {
        for (compression, packed) in [(Compression::Gzip, gzip(&text())), (Compression::Zstandard, zstandard(&text()))]
        {
            for length in [1, 5, 20, packed.len() / 2, packed.len() - 1] {
                let said = trouble(&read(compression, &packed[..length]).unwrap_err());
                assert_eq!(said, "cannot be unpacked: it was cut short; get it again", "{compression:?} {length}");
            }
            for at in [0, packed.len() / 2, packed.len() - 2] {
                let mut changed = packed.clone();
                changed[at] ^= 0x10;
                let said = trouble(&read(compression, &changed).unwrap_err());
                let expected = if at == 0 { "not what its name says" } else { "it is damaged; get it again" };
                assert!(said.contains(expected), "{compression:?} changed at {at}: {said}");
            }
            let longer = [&packed[..], b"more"].concat();
            assert!(read(compression, &longer).is_err(), "{compression:?} with more behind it");
        }
    }
}
