//! The order of a text's lines: whether it is that of a sorted list, and another one drawn by the seed.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::TextError;
use super::decode::as_text;
use super::documents::{LineEnds, Reading};
use super::lines::{Line, visit_lines};
use super::source::{Source, size};
use crate::free_memory::free_memory;
use crate::nn::config::ConfigError;
use crate::rng::{Purpose, Rng};

/// The parts of a text that are shuffled before it is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shuffle {
    /// Its lines.
    Lines,
}

impl fmt::Display for Shuffle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lines")
    }
}

impl FromStr for Shuffle {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        match value {
            "lines" => Ok(Self::Lines),
            _ => Err(ConfigError::Unknown { kind: "thing to shuffle", value: value.to_owned(), choices: "lines" }),
        }
    }
}

impl Source {
    /// The same lines in an order that `seed` alone gives. The text is then in memory. `lossy`: whether it may hold bytes that
    /// are no text.
    ///
    /// # Errors
    /// A text that cannot be read, has one line, or does not fit the memory.
    pub fn shuffled(&self, seed: u64, lossy: bool) -> Result<Self, TextError> {
        // The text twice: as it is, and shuffled.
        let needed = self.bytes().saturating_mul(2);
        if let Some(free) = free_memory().filter(|free| needed > *free) {
            return Err(TextError::Unusable(format!(
                "{} has {} of text, and to shuffle its lines takes {} of memory, but {} are free; shuffle it beforehand, \
                 with: shuf FILE > SHUFFLED",
                self.name(),
                size(self.bytes()),
                size(needed),
                size(free)
            )));
        }
        let raw = self.clone().read_as(&Reading { line_ends: LineEnds::Keep, documents: None });
        let (mut text, mut starts) = (Vec::with_capacity(self.bytes() as usize), Vec::new());
        visit_lines(&raw, &mut |line| {
            // Where it is not text is to be said by its place in the file.
            let checked = as_text(line.path, line.offset, line.bytes, lossy)?;
            let marked = line.offset == 0 && line.bytes.starts_with(b"\xEF\xBB\xBF");
            if line.opens {
                starts.push(text.len());
            }
            text.extend_from_slice(if marked { &line.bytes[3..] } else { line.bytes });
            drop(checked);
            Ok(())
        })?;
        if starts.len() < 2 {
            let why = "has one line, so there is nothing to shuffle";
            return Err(TextError::Unusable(format!("{} {why}", self.name())));
        }
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        starts.push(text.len());
        let mut order: Vec<(usize, usize)> = starts.windows(2).map(|pair| (pair[0], pair[1])).collect();
        Rng::new(seed, Purpose::Lines, 0).shuffle(&mut order);
        let shuffled: Vec<u8> = order.into_iter().flat_map(|(start, end)| &text[start..end]).copied().collect();
        Ok(Self::from_bytes(&shuffled, &format!("{}, shuffled", self.name())).read_as(self.reading()))
    }

    /// The order of the lines, if they are sorted: of a list that is, the last tenth is unlike the rest.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn sorted(&self) -> Result<Option<Sorted>, TextError> {
        const LOOKED_AT: u64 = 1 << 20;
        let mut orders = [Pairs::default(); 3];
        let mut before: Option<Keys> = None;
        visit_lines(&self.sample(LOOKED_AT)?, &mut |line: Line| {
            if line.opens && line.ended {
                let keys = Keys::of(line.bytes);
                if let Some(before) = &before {
                    orders[0].count(Some(before.bytes.cmp(&keys.bytes)));
                    orders[1].count(Some(before.letters.cmp(&keys.letters)));
                    orders[2].count(before.number.and_then(|number| number.partial_cmp(&keys.number?)));
                }
                before = Some(keys);
            }
            Ok(())
        })?;
        let [bytes, letters, numbers] = orders.map(Pairs::are_sorted);
        Ok(if numbers {
            Some(Sorted::ByNumber)
        } else if bytes || letters {
            Some(Sorted::ByLetter)
        } else {
            None
        })
    }
}

/// How the lines of a text are sorted, up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorted {
    /// By their letters.
    ByLetter,
    /// By the number they begin with.
    ByNumber,
}

/// The order that lines are sorted by.
struct Keys {
    bytes: Vec<u8>,
    /// Letters and digits alone, in lower case, as `sort` compares them in most languages.
    letters: Vec<u8>,
    number: Option<f64>,
}

impl Keys {
    fn of(line: &[u8]) -> Self {
        /// Longer ones do not differ later.
        const LENGTH: usize = 64;
        let bytes = line[..line.len().min(LENGTH)].to_vec();
        let text = String::from_utf8_lossy(&bytes);
        let letters = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
        let first = text.split(|c: char| c.is_whitespace() || c == ',' || c == ';').next().unwrap_or_default();
        let number = first.parse().ok().filter(|number: &f64| number.is_finite());
        Self { letters: letters.into_bytes(), number, bytes }
    }
}

/// Neighbouring lines, and how many of them rise, fall, or cannot be compared.
#[derive(Clone, Copy, Default)]
struct Pairs {
    rising: usize,
    falling: usize,
    equal: usize,
    other: usize,
}

impl Pairs {
    fn count(&mut self, order: Option<Ordering>) {
        *match order {
            Some(Ordering::Less) => &mut self.rising,
            Some(Ordering::Greater) => &mut self.falling,
            Some(Ordering::Equal) => &mut self.equal,
            None => &mut self.other,
        } += 1;
    }

    /// Whether nearly all of them go one way, and there are so many that this is no chance.
    fn are_sorted(self) -> bool {
        const FEWEST: usize = 20;
        let Self { rising, falling, equal, other } = self;
        let (most, least) = (rising.max(falling), rising.min(falling));
        most >= FEWEST && most * 5 >= equal && (least + other) * 50 <= most + equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::lines::visit_text;

    fn lines(source: &Source) -> Vec<String> {
        let mut lines = Vec::new();
        visit_text(source, false, false, &mut |line, _| lines.push(line.to_owned())).unwrap();
        lines
    }

    #[test]
    fn lines_are_shuffled_by_the_seed_alone_and_none_is_lost() {
        let text: String = (0..1000).map(|n| format!("line {n}\r\n")).collect();
        let text = text.trim_end();
        let source = Source::from_text(text);
        let [one, again, other] = [1, 1, 2].map(|seed| lines(&source.shuffled(seed, false).unwrap()));
        assert!(one == again && one != other && one != lines(&source));
        let [mut sorted, mut expected] = [one, lines(&source)];
        // The last line had no end.
        expected[999].push('\n');
        sorted.sort();
        expected.sort();
        assert_eq!(sorted, expected);
        let error = Source::from_text("one line").shuffled(1, false).unwrap_err().to_string();
        assert!(error.contains("one line, so there is nothing to shuffle"), "{error}");
    }

    #[test]
    fn sorted_lists_are_noticed_and_other_texts_are_not() {
        let mut names: Vec<String> =
            (0..500u32).map(|n| format!("{:x}{}\n", n.wrapping_mul(2_654_435_761), n)).collect();
        let order = |lines: &[String]| Source::from_text(&lines.concat()).sorted().unwrap();
        assert_eq!(order(&names), None);
        assert_eq!(order(&vec!["the same line\n".to_owned(); 500]), None);
        names.sort();
        assert_eq!(order(&names), Some(Sorted::ByLetter));
        assert_eq!(order(&names[..10]), None);
        names.reverse();
        assert_eq!(order(&names), Some(Sorted::ByLetter));
        let numbers: Vec<String> = (0..500).map(|n| format!("{n} apples\n")).collect();
        assert_eq!(order(&numbers), Some(Sorted::ByNumber));
        // Sorted as if case and punctuation were not there.
        let words: Vec<String> =
            (0..500).map(|n| if n % 2 == 0 { format!("Word{n:03}\n") } else { format!("wo-rd{n:03}\n") }).collect();
        assert_eq!(order(&words), Some(Sorted::ByLetter));
    }
}
