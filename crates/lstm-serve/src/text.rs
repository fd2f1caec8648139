//! How tokens become pieces of text: whole characters, up to what ends the text, each token with what it adds.

use std::collections::VecDeque;

use lstm::generate::{Stops, Token};
use lstm::text::tokenizer::{Decoder, Tokenizer};

/// A token as clients see it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its id.
    pub id: u32,
    /// The text that it adds; of one that adds none yet its name.
    pub text: String,
    /// The logarithm of its probability, in nats.
    pub log_probability: Option<f32>,
    /// The likeliest tokens in its place with theirs.
    pub alternatives: Vec<(u32, String, f32)>,
    /// The characters of prompt and text before it.
    pub offset: usize,
    /// The values that were asked for.
    pub inside: Vec<f32>,
}

/// A text on its way out.
pub(crate) struct Text<'a> {
    tokenizer: &'a Tokenizer,
    /// That of what is written, which goes on from the prompt; and that of the prompt's own tokens.
    decoder: Decoder<'a>,
    prompt_decoder: Decoder<'a>,
    stops: Stops,
    /// Bytes of a character that is not whole yet.
    held: Vec<u8>,
    /// The bytes that were written, and those that can be handed out.
    written: usize,
    released: usize,
    /// Tokens that begin behind what can be handed out: where, and they themselves.
    pending: VecDeque<(usize, Shown)>,
    offset: usize,
    shows: bool,
}

/// What can be handed out.
#[derive(Debug, Default)]
pub struct Piece {
    /// Text.
    pub text: String,
    /// Its tokens, if they were asked for.
    pub tokens: Vec<Shown>,
    /// How many tokens were written since the last piece, whether their text is handed out or not.
    pub written: usize,
}

impl<'a> Text<'a> {
    /// A text that goes on from `prompt`; `shows`: whether tokens are handed out beside the text.
    pub(crate) fn new(tokenizer: &'a Tokenizer, prompt: &str, stops: Stops, echoes: bool, shows: bool) -> Self {
        Self {
            tokenizer,
            decoder: tokenizer.decoder(prompt),
            prompt_decoder: tokenizer.decoder(""),
            stops,
            held: Vec::new(),
            written: 0,
            released: 0,
            pending: VecDeque::new(),
            offset: if echoes { 0 } else { prompt.chars().count() },
            shows,
        }
    }

    /// Takes a token; gives what can be handed out, and whether the text ends here.
    pub(crate) fn push(&mut self, token: Token) -> (Piece, bool) {
        let mut piece = Piece::default();
        let before = if token.is_prompt { &mut self.prompt_decoder } else { &mut self.decoder };
        let fresh = self.shows.then(|| before.clone());
        let is_prompt = token.is_prompt;
        let bytes = before.push(token.id);
        if let Some(before) = fresh {
            let text = |id, bytes: &[u8]| match bytes.is_empty() {
                true => self.tokenizer.text(id),
                false => String::from_utf8_lossy(bytes).into_owned(),
            };
            let alternatives = token.alternatives.iter().map(|other| {
                let bytes = before.clone().push(other.id);
                (other.id, text(other.id, &bytes), other.log_probability)
            });
            let shown = Shown {
                id: token.id,
                text: text(token.id, &bytes),
                log_probability: token.log_probability,
                alternatives: alternatives.collect(),
                offset: self.offset,
                inside: token.inside,
            };
            match is_prompt {
                true => piece.tokens.push(shown),
                false => self.pending.push_back((self.written, shown)),
            }
        }
        self.offset += bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        if is_prompt {
            return (piece, false);
        }
        piece.written = 1;
        self.written += bytes.len();
        let (bytes, stopped) = self.stops.push(&bytes);
        self.release(&bytes, &mut piece);
        if stopped {
            piece.text.push_str(&self.rest());
        }
        (piece, stopped)
    }

    /// What was kept back, when no token follows.
    pub(crate) fn finish(&mut self) -> Piece {
        let mut piece = Piece::default();
        let bytes = self.decoder.finish();
        self.written += bytes.len();
        let (mut bytes, stopped) = self.stops.push(&bytes);
        if !stopped {
            bytes.extend(self.stops.finish());
        }
        self.release(&bytes, &mut piece);
        piece.text.push_str(&self.rest());
        if !stopped {
            piece.tokens.extend(self.pending.drain(..).map(|(_, shown)| shown));
        }
        piece
    }

    fn release(&mut self, bytes: &[u8], piece: &mut Piece) {
        self.released += bytes.len();
        self.held.extend_from_slice(bytes);
        // Bytes that are no text are replaced; those of a character that may yet come whole wait for the rest.
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(text) => {
                    piece.text.push_str(text);
                    self.held.clear();
                    break;
                }
                Err(error) => {
                    let whole = error.valid_up_to();
                    piece.text.push_str(&String::from_utf8_lossy(&self.held[..whole]));
                    let Some(broken) = error.error_len() else {
                        self.held.drain(..whole);
                        break;
                    };
                    piece.text.push(char::REPLACEMENT_CHARACTER);
                    self.held.drain(..whole + broken);
                }
            }
        }
        while self.pending.front().is_some_and(|(start, _)| *start < self.released) {
            piece.tokens.extend(self.pending.pop_front().map(|(_, shown)| shown));
        }
    }

    /// The bytes of a last character that never came whole.
    fn rest(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        rest
    }
}

#[cfg(test)]
mod tests {
    use lstm::generate::{Alternative, Writers, Writing};
    use lstm::text::source::Source;
    use lstm::text::tokenizer::{TokenizerKind, VocabularyOptions};

    use super::*;

    /// A token of a writer that does not matter.
    fn token(id: u32) -> Token {
        let config = lstm::LanguageModelConfig::new(2, 1, 1);
        let model = lstm::LanguageModel::new(config).unwrap();
        let params = lstm::Params::zeros(model.layout().clone());
        let mut writers = Writers::new(&model, &params, Default::default(), 1, 0).unwrap();
        let writer = writers.begin(Writing { length: 1, ..Writing::default() }).unwrap();
        let alternatives = vec![Alternative { id, log_probability: -1.0 }];
        Token {
            writer,
            id,
            is_prompt: false,
            is_last: false,
            log_probability: Some(-1.0),
            alternatives,
            inside: Vec::new(),
        }
    }

    fn tokenizer(kind: TokenizerKind, text: &str) -> Tokenizer {
        Tokenizer::build(kind, &Source::from_text(text), VocabularyOptions::default(), true).unwrap()
    }

    #[test]
    fn characters_are_handed_out_whole_and_tokens_with_their_text() {
        let tokenizer = tokenizer(TokenizerKind::Bytes, "Straße\n");
        let ids = tokenizer.encode("aße").unwrap();
        let mut text = Text::new(&tokenizer, "Str", Stops::new(&[]).unwrap(), false, true);
        let pieces: Vec<Piece> = ids.iter().map(|&id| text.push(token(id)).0).collect();
        let texts: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(texts, ["a", "", "ß", "e"]);
        let offsets: Vec<usize> = pieces.iter().flat_map(|piece| &piece.tokens).map(|shown| shown.offset).collect();
        assert_eq!(offsets, [3, 4, 5, 5]);
        text.push(token(0xC3));
        assert_eq!(text.finish().text, "\u{FFFD}");
    }

    #[test]
    fn tokens_behind_a_stop_are_not_handed_out() {
        let tokenizer = tokenizer(TokenizerKind::Words, &"the cat sees a dog .\n".repeat(2));
        let ids = tokenizer.encode("the cat sees a dog").unwrap();
        let stops = Stops::new(&["cat sees a".to_owned()]).unwrap();
        let mut text = Text::new(&tokenizer, "", stops, false, true);
        let mut out = (String::new(), Vec::new());
        for id in ids {
            let (piece, stopped) = text.push(token(id));
            out.0.push_str(&piece.text);
            out.1.extend(piece.tokens.into_iter().map(|shown| shown.text));
            if stopped {
                break;
            }
        }
        assert_eq!(out.0, "the ");
        // The space before it is part of the second one.
        assert_eq!(out.1, ["the", " cat"]);
    }
}
