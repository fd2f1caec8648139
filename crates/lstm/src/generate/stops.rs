//! Texts that end the writing.

use crate::nn::config::ConfigError;

/// Texts of which the first that comes ends the writing and is no part of it. What is written is handed on as soon as
/// it can no longer be the beginning of one of them.
#[derive(Clone, Debug)]
pub struct Stops {
    stops: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl Stops {
    /// Any number of texts.
    ///
    /// # Errors
    /// An empty one.
    pub fn new(stops: &[String]) -> Result<Self, ConfigError> {
        if stops.iter().any(String::is_empty) {
            let why = "an empty stop text would end the writing before it began; give it some text, or leave it out";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        Ok(Self { stops: stops.iter().map(|stop| stop.clone().into_bytes()).collect(), held: Vec::new() })
    }

    /// Takes what was written; gives what can be handed on, and whether one of the texts has come.
    pub fn push(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        for &byte in bytes {
            self.held.push(byte);
            // Byte by byte, so that it does not matter how the text was cut into tokens.
            let ending = self.stops.iter().filter(|stop| self.held.ends_with(stop)).map(Vec::len).max();
            if let Some(length) = ending {
                self.held.truncate(self.held.len() - length);
                return (std::mem::take(&mut self.held), true);
            }
        }
        let begun =
            |length: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[self.held.len() - length..]));
        let longest = self.stops.iter().map(Vec::len).max().unwrap_or(1) - 1;
        let keep = (1..=longest.min(self.held.len())).rev().find(begun).unwrap_or(0);
        (self.held.drain(..self.held.len() - keep).collect(), false)
    }

    /// The text that was kept back when the generation ended otherwise.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed on of `text`, given in pieces of `size` bytes, and whether it was stopped.
    fn written(stops: &[&str], text: &str, size: usize) -> (String, bool) {
        let mut stops = Stops::new(&stops.iter().map(|&stop| stop.to_owned()).collect::<Vec<_>>()).unwrap();
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            let (bytes, stopped) = stops.push(piece);
            out.extend(bytes);
            if stopped {
                return (String::from_utf8(out).unwrap(), true);
            }
        }
        out.extend(stops.finish());
        (String::from_utf8(out).unwrap(), false)
    }

    #[test]
    fn the_first_stop_ends_the_text_however_it_is_cut() {
        let cases: [(&[&str], &str, &str, bool); 8] = [
            (&["."], "a b. c.", "a b", true),
            (&["END"], "the ENEND of it", "the EN", true),
            (&["aab"], "aaab", "a", true),
            (&["\n\n"], "one\ntwo\n\nthree", "one\ntwo", true),
            (&["xyz", "b"], "abc", "a", true),
            // The one that is complete first, and of those the longest.
            (&["abcd", "bc"], "xabcd", "xa", true),
            (&["ß"], "Straße", "Stra", true),
            (&["END"], "no EN", "no EN", false),
        ];
        for (stops, text, expected, stopped) in cases {
            for size in 1..=text.len() {
                assert_eq!(written(stops, text, size), (expected.to_owned(), stopped), "{stops:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn nothing_is_held_back_that_cannot_become_a_stop() {
        let mut stops = Stops::new(&["END".to_owned()]).unwrap();
        assert_eq!(stops.push(b"text E"), (b"text ".to_vec(), false));
        assert_eq!(stops.push(b"X"), (b"EX".to_vec(), false));
        let mut none = Stops::new(&[]).unwrap();
        assert_eq!(none.push(b"text"), (b"text".to_vec(), false));
        assert!(Stops::new(&[String::new()]).unwrap_err().to_string().contains("empty"));
    }
}
