//! A line of a text as a model tells it.

use super::Tokens;
use crate::coder::{Adaptive, Coder};
use crate::text::spelling::Spelling;
use crate::text::tokenizer::{Tokenizer, TokenizerKind};

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    LineFeed,
    /// A carriage return before it: the line is told without.
    Both,
    /// That of the last line of a text that does not end with one.
    Nothing,
}

impl Ending {
    const ALL: [Self; 3] = [Self::LineFeed, Self::Both, Self::Nothing];

    fn bytes(self) -> &'static [u8] {
        match self {
            Self::LineFeed => b"\n",
            Self::Both => b"\r\n",
            Self::Nothing => b"",
        }
    }
}

/// How a line is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By its tokens.
    Tokens,
    /// By its tokens and the white space around its words.
    Gaps,
    /// Byte by byte; the model does not read it.
    Bytes,
}

impl Way {
    const ALL: [Self; 3] = [Self::Tokens, Self::Gaps, Self::Bytes];
}

/// A token, and of a word that has none the word.
type Piece = (u32, Option<String>);

/// A line to be written.
#[derive(Debug)]
pub(super) struct Line {
    ending: Ending,
    way: Way,
    /// Without its ending.
    body: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Line {
    /// A line of a text, with its ending.
    pub fn new(tokenizer: &Tokenizer, bytes: &[u8]) -> Self {
        let endings = [Ending::Both, Ending::LineFeed, Ending::Nothing];
        let ending = endings.into_iter().find(|ending| bytes.ends_with(ending.bytes())).unwrap_or(Ending::Nothing);
        let body = &bytes[..bytes.len() - ending.bytes().len()];
        let mut line = Self { ending, way: Way::Bytes, body: body.to_vec(), pieces: Vec::new() };
        let ended = ending != Ending::Nothing;
        let told = [body, if ended { b"\n" } else { b"" }].concat();
        let text = String::from_utf8_lossy(&told);
        let mut put = |id, unknown: Option<&str>| line.pieces.push((id, unknown.map(str::to_owned)));
        let encoded = tokenizer.encode_line(&told, &text, ended, &mut put);
        if let Some(eos) = tokenizer.eos().filter(|_| tokenizer.line_markers()) {
            put(eos, None);
        }
        // What a reader would take for other words, or for the end of the line.
        let unknown = tokenizer.unknown();
        let (last, others) = match line.pieces.split_last() {
            Some((last, others)) => (Some(last), others),
            None => (None, &[][..]),
        };
        let ends = |piece: &Piece| ends(tokenizer, piece);
        let is_told = encoded.is_ok()
            && line
                .pieces
                .iter()
                .all(|(id, word)| word.as_ref().is_none_or(|word| unknown == Some(*id) && !word.is_empty()))
            && !others.iter().any(ends)
            && last.is_some_and(ends) == (ended || tokenizer.line_markers());
        if is_told && let Some(written) = written(tokenizer, &line.pieces) {
            line.way = match (std::str::from_utf8(&written), std::str::from_utf8(body)) {
                _ if written == body => Way::Tokens,
                (Ok(written), Ok(body)) if written.split_whitespace().eq(body.split_whitespace()) => Way::Gaps,
                _ => Way::Bytes,
            };
        }
        line
    }
}

/// Whether a line ends with this piece.
fn ends(tokenizer: &Tokenizer, (id, word): &Piece) -> bool {
    word.as_ref().map_or_else(|| tokenizer.ends_line(*id), |word| word.ends_with('\n'))
}

/// The text of a line's tokens as the tokenizer writes it, without the end of the line; `None` where it cannot tell.
fn written(tokenizer: &Tokenizer, pieces: &[Piece]) -> Option<Vec<u8>> {
    let pieces = match pieces.split_last() {
        Some((last, others)) if ends(tokenizer, last) && !is_subword_feed(tokenizer, last) => others,
        _ => pieces,
    };
    let text = |(id, word): &Piece| word.clone().unwrap_or_else(|| tokenizer.token(*id).to_owned());
    match tokenizer.kind() {
        TokenizerKind::Words => Some(pieces.iter().map(text).collect::<Vec<_>>().join(" ").into_bytes()),
        TokenizerKind::Chars => Some(pieces.iter().map(text).collect::<String>().into_bytes()),
        _ if pieces.iter().any(|(_, word)| word.is_some()) => None,
        _ => {
            let mut decoder = tokenizer.decoder("");
            let mut bytes: Vec<u8> = pieces.iter().flat_map(|(id, _)| decoder.push(*id)).collect();
            bytes.extend(decoder.finish());
            bytes.pop_if(|byte| *byte == b'\n');
            Some(bytes)
        }
    }
}

/// Whether the last token of a line is a subword that holds the line feed and may hold more.
fn is_subword_feed(tokenizer: &Tokenizer, (id, _): &Piece) -> bool {
    tokenizer.kind().noun() == "subwords" && tokenizer.eos() != Some(*id)
}

/// What lines are told by beside the model: how they end, how they are spaced, bytes. All of it is learned from the lines so
/// far.
pub(super) struct LineModel<'a> {
    tokenizer: &'a Tokenizer,
    spelling: Spelling,
    endings: Adaptive,
    ways: Adaptive,
    /// The bytes of white space by where it stands and the byte before.
    gaps: Vec<Option<Adaptive>>,
    /// The bytes of lines that are told so, by the byte before.
    bytes: Vec<Option<Adaptive>>,
}

/// The symbol behind the bytes.
const END: usize = 256;

/// Places of white space: before the first word, between two, behind the last, in a line without words.
const PLACES: usize = 4;

impl<'a> LineModel<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let spelling = tokenizer.spelling().cloned();
        Self {
            tokenizer,
            spelling: spelling.unwrap_or_else(|| Spelling::of_words(std::collections::HashMap::new(), 0, 0)),
            endings: Adaptive::new(Ending::ALL.len()),
            ways: Adaptive::new(Way::ALL.len()),
            gaps: vec![None; PLACES * (END + 1)],
            bytes: vec![None; END + 1],
        }
    }

    /// Codes a line and gives its bytes; `None` where there is no such line, so that what is read is damaged.
    pub fn code(&mut self, coder: &mut impl Coder, tokens: &mut Tokens, line: Option<&Line>) -> Option<Vec<u8>> {
        let ending = Ending::ALL[self.endings.code(coder, line.map(|line| line.ending as usize))];
        let way = Way::ALL[self.ways.code(coder, line.map(|line| line.way as usize))];
        let mut bytes = match way {
            Way::Bytes => run_of_bytes(&mut self.bytes, coder, line.map(|line| &line.body[..]))?,
            _ => {
                let pieces = self.pieces(coder, tokens, ending, line.map(|line| &line.pieces[..]))?;
                let written = written(self.tokenizer, &pieces)?;
                if way == Way::Tokens {
                    written
                } else {
                    self.spaced(coder, &written, line.map(|line| &line.body[..]))?
                }
            }
        };
        bytes.extend(ending.bytes());
        Some(bytes)
    }

    fn pieces(
        &mut self,
        coder: &mut impl Coder,
        tokens: &mut Tokens,
        ending: Ending,
        line: Option<&[Piece]>,
    ) -> Option<Vec<Piece>> {
        // Where nothing else says when it is over.
        let is_counted = ending == Ending::Nothing && !self.tokenizer.line_markers();
        let count = is_counted.then(|| coder.number(32, line.map(|line| line.len() as u64)) as usize);
        tokens.begin_line();
        let mut pieces: Vec<Piece> = Vec::new();
        while count.is_none_or(|count| pieces.len() < count) {
            let chosen = line.map(|line| &line[pieces.len()]);
            let id = tokens.code(coder, chosen.map(|(id, _)| *id));
            let is_unknown = self.tokenizer.unknown() == Some(id);
            let word = match is_unknown {
                true => self.spelling.code(coder, chosen.map(|(_, word)| word.as_deref()))?,
                false => None,
            };
            let piece = (id, word);
            let is_last = ends(self.tokenizer, &piece);
            pieces.push(piece);
            if is_last || coder.is_over() {
                break;
            }
        }
        Some(pieces)
    }

    /// The words of a line with its own white space around them.
    fn spaced(&mut self, coder: &mut impl Coder, written: &[u8], body: Option<&[u8]>) -> Option<Vec<u8>> {
        let words: Vec<&str> = std::str::from_utf8(written).ok()?.split_whitespace().collect();
        let mut rest = body.map(|body| std::str::from_utf8(body).expect("lines that are told by words are text"));
        let mut bytes = Vec::new();
        for at in 0..=words.len() {
            let gap = rest.map(|rest| &rest[..rest.len() - rest.trim_start().len()]);
            let place = match at {
                0 if words.is_empty() => 3,
                0 => 0,
                _ if at == words.len() => 2,
                _ => 1,
            };
            let models = &mut self.gaps[place * (END + 1)..][..END + 1];
            bytes.extend(run_of_bytes(models, coder, gap.map(str::as_bytes))?);
            let word = words.get(at).copied().unwrap_or_default();
            bytes.extend(word.as_bytes());
            rest = rest.zip(gap).map(|(rest, gap)| &rest[gap.len() + word.len()..]);
        }
        Some(bytes)
    }
}

/// Bytes up to their end, each by the one before it.
fn run_of_bytes(models: &mut [Option<Adaptive>], coder: &mut impl Coder, chosen: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.last().map_or(END, |byte| usize::from(*byte));
        let model = models[before].get_or_insert_with(|| Adaptive::new(END + 1));
        let symbol = chosen.map(|chosen| chosen.get(bytes.len()).map_or(END, |byte| usize::from(*byte)));
        match model.code(coder, symbol) {
            END => return Some(bytes),
            _ if coder.is_over() => return None,
            byte => bytes.push(byte as u8),
        }
    }
}
