//! Texts line by line, through a fixed buffer: a line without end comes in pieces, files are never joined within one.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use super::TextError;
use super::decode::as_text;
use super::documents::LineEnds;
use super::source::{Part, Source};

/// The longest piece of a line handed on at once: a text without line ends is read in such pieces.
const PIECE: u64 = 1 << 20;

/// A line, or a piece of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// The file it is of.
    pub path: &'a Path,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes, its line feed included.
    pub bytes: &'a [u8],
    /// Whether it begins a line, a document.
    pub opens: bool,
    pub begins_document: bool,
    /// Whether what delimits documents stands at its end.
    pub ends_document: bool,
    /// Whether it ends with a line feed, and with a carriage return before it in the file.
    pub ended: bool,
    pub crlf: bool,
}

/// What comes before the next piece.
struct Place {
    line_open: bool,
    begins_document: bool,
}

/// Hands every line to `visit`. Where a file does not end with a line feed and another follows, one is put between them.
pub(super) fn visit_lines(
    source: &Source,
    visit: &mut dyn FnMut(Line) -> Result<(), TextError>,
) -> Result<(), TextError> {
    let mut place = Place { line_open: false, begins_document: true };
    let mut packed = None;
    let mut before: Option<&Part> = None;
    for part in source.parts() {
        if let Some(before) = before {
            let goes_on = part.follows(before);
            if place.line_open && part.path() != before.path() {
                let (path, offset) = (before.path(), before.start() + before.bytes());
                hand_on(source, path, offset, &mut b"\n".to_vec(), &mut place, visit)?;
            }
            place.begins_document |= !goes_on;
        }
        visit_part(source, part, &mut packed, &mut place, visit)?;
        before = Some(part);
    }
    Ok(())
}

/// A compressed file that is being read, and how far it is.
type Unpacking = Option<(PathBuf, u64, Box<dyn BufRead>)>;

/// A reader of a part. A compressed file is unpacked once, if its parts come in order.
fn open(part: &Part, packed: &mut Unpacking) -> Result<Box<dyn BufRead>, TextError> {
    if part.is_packed()
        && let Some((_, at, mut reader)) =
            packed.take().filter(|(path, at, _)| path == part.path() && *at <= part.start())
    {
        let skipped = std::io::copy(&mut reader.by_ref().take(part.start() - at), &mut std::io::sink());
        skipped.map_err(|error| part.trouble(error))?;
        return Ok(reader);
    }
    part.reader(0)
}

fn visit_part(
    source: &Source,
    part: &Part,
    packed: &mut Unpacking,
    place: &mut Place,
    visit: &mut dyn FnMut(Line) -> Result<(), TextError>,
) -> Result<(), TextError> {
    let (mut left, mut reader, path) = (part.bytes(), open(part, packed)?, part.path());
    let mut offset = part.start();
    let mut buffer = Vec::new();
    while left > 0 {
        // What was cut inside a character or a word stays for the next piece.
        let before = buffer.len();
        let read = reader.by_ref().take(left.min(PIECE)).read_until(b'\n', &mut buffer);
        let read = read.map_err(|error| part.trouble(error))?;
        if read == 0 {
            break;
        }
        left -= read as u64;
        let mut end = buffer.len();
        if !buffer.ends_with(b"\n") && left > 0 {
            let boundary = buffer.iter().rposition(|b| b.is_ascii_whitespace()).map(|at| at + 1);
            let character = (0..buffer.len()).rev().find(|&at| buffer[at] & 0xC0 != 0x80);
            let cut = boundary.or(character).filter(|&at| at > 0 && buffer.len() - before > 4);
            end = cut.unwrap_or(end);
            // Nor between a carriage return and its line feed, nor within what delimits documents.
            let begun = source.reading().documents.as_ref().map_or(0, |documents| documents.begun(&buffer[..end]));
            let kept = begun.max(usize::from(buffer[..end].ends_with(b"\r")));
            end -= if kept < end { kept } else { 0 };
        }
        let rest = buffer.split_off(end);
        hand_on(source, path, offset, &mut buffer, place, visit)?;
        offset += end as u64;
        buffer = rest;
    }
    if !buffer.is_empty() {
        hand_on(source, path, offset, &mut buffer, place, visit)?;
    }
    if part.is_packed() {
        *packed = Some((path.to_owned(), part.start() + part.bytes() - left, reader));
    }
    Ok(())
}

/// Hands on a line or a piece of one, cut where documents end in it.
fn hand_on(
    source: &Source,
    path: &Path,
    offset: u64,
    buffer: &mut Vec<u8>,
    place: &mut Place,
    visit: &mut dyn FnMut(Line) -> Result<(), TextError>,
) -> Result<(), TextError> {
    let crlf = buffer.ends_with(b"\r\n");
    if crlf && source.reading().line_ends == LineEnds::Lf {
        buffer.truncate(buffer.len() - 2);
        buffer.push(b'\n');
    }
    let ended = buffer.ends_with(b"\n");
    let opens = !place.line_open;
    let line = |from: usize, to: usize, place: &Place, ends_document: bool| Line {
        path,
        offset: offset + from as u64,
        bytes: &buffer[from..to],
        opens: opens && from == 0,
        begins_document: place.begins_document,
        ends_document,
        ended: ended && to == buffer.len(),
        crlf: crlf && to == buffer.len(),
    };
    match &source.reading().documents {
        None => {
            visit(line(0, buffer.len(), place, false))?;
            place.begins_document = false;
        }
        Some(documents) => {
            let mut from = 0;
            for (to, ends_document) in documents.cut(buffer, opens, ended) {
                visit(line(from, to, place, ends_document))?;
                place.begins_document = ends_document;
                from = to;
            }
        }
    }
    place.line_open = !ended;
    Ok(())
}

/// Hands every line as text, and whether it ended. `binary` lets NUL and other bytes pass (for byte tokens).
pub(crate) fn visit_text(
    source: &Source,
    lossy: bool,
    binary: bool,
    visit: &mut dyn FnMut(&str, bool),
) -> Result<(), TextError> {
    visit_lines(source, &mut |line| {
        let text = as_text(line.path, line.offset, line.bytes, lossy || binary)?;
        visit(&text, line.ended);
        Ok(())
    })
}
