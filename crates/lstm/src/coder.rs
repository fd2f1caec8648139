//! A range coder (Martin 1979): symbols of known frequencies into bytes of their information, and back.
//!
//! All is integer arithmetic, so a reader with the same frequencies finds the same symbols on every machine.

/// The least range before a symbol. Frequencies sum to at most 2³³, so a symbol's share is right to 2⁻²³ of itself.
const LEAST: u64 = 1 << 56;

/// A symbol's part of all frequencies: those before it, its own, and their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub before: u64,
    pub own: u64,
    pub of: u64,
}

/// Writes or finds symbols: both sides take the same steps, so each step is written once.
pub(crate) trait Coder {
    /// Codes one symbol. frequencies: of each symbol, 0 of one that cannot be; chosen: the symbol where it is written. Gives the symbol.
    fn symbol(&mut self, frequencies: &[u64], chosen: Option<usize>) -> usize;

    /// Whether more was asked for than there is; of a writer never.
    fn is_over(&self) -> bool;

    /// Codes a number below 2^bits, all of which are alike.
    fn number(&mut self, bits: u32, chosen: Option<u64>) -> u64 {
        (0..bits.div_ceil(8)).fold(0, |number, at| {
            let shift = 8 * at;
            let byte = self.symbol(&[1; 256], chosen.map(|chosen| (chosen >> shift & 0xFF) as usize)) as u64;
            number | byte << shift
        })
    }
}

/// The writing side.
#[derive(Debug)]
pub(crate) struct Encoder {
    low: u64,
    range: u64,
    bytes: Vec<u8>,
}

impl Encoder {
    pub fn new() -> Self {
        Self { low: 0, range: u64::MAX, bytes: Vec::new() }
    }

    fn put(&mut self, Share { before, own, of }: Share) {
        let unit = self.range / of;
        self.raise(unit * before);
        self.range = unit * own;
        while self.range < LEAST {
            self.bytes.push((self.low >> 56) as u8);
            self.low <<= 8;
            self.range <<= 8;
        }
    }

    fn raise(&mut self, by: u64) {
        let (low, carried) = self.low.overflowing_add(by);
        self.low = low;
        // A carry goes through all bytes of ones to one that is none: all together are a fraction below 1.
        let mut bytes = self.bytes.iter_mut().rev();
        while carried && bytes.next().is_some_and(|byte| std::mem::replace(byte, byte.wrapping_add(1)) == 0xFF) {}
    }

    /// All bytes, as few as tell the last symbol.
    pub fn finish(mut self) -> Vec<u8> {
        // Of the fractions from `low` on, below `low + range`, the shortest; a reader takes zeros for what follows.
        let to_round = |kept: u32| {
            let unit = 1u128 << (64 - 8 * kept);
            (u128::from(self.low).next_multiple_of(unit) - u128::from(self.low), kept)
        };
        let (by, kept) = (1..=8).map(to_round).find(|(by, _)| *by < u128::from(self.range)).unwrap_or((0, 8));
        self.raise(by as u64);
        self.bytes.extend(&self.low.to_be_bytes()[..kept as usize]);
        self.bytes
    }
}

impl Coder for Encoder {
    fn symbol(&mut self, frequencies: &[u64], chosen: Option<usize>) -> usize {
        let chosen = chosen.expect("the writing side knows the symbol");
        let before = frequencies[..chosen].iter().sum();
        let own = frequencies[chosen];
        let of = before + frequencies[chosen..].iter().sum::<u64>();
        self.put(Share { before, own, of });
        chosen
    }

    fn is_over(&self) -> bool {
        false
    }
}

/// The reading side.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    /// What was written, less what the symbols so far begin with.
    code: u64,
    range: u64,
    bytes: std::slice::Iter<'a, u8>,
    /// Bytes that were taken for zeros behind the end.
    missing: usize,
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { code: 0, range: u64::MAX, bytes: bytes.iter(), missing: 0 };
        (0..8).for_each(|_| decoder.shift());
        decoder
    }

    fn shift(&mut self) {
        let next = self.bytes.next();
        self.missing += usize::from(next.is_none());
        self.code = self.code << 8 | u64::from(next.copied().unwrap_or(0));
    }
}

impl Coder for Decoder<'_> {
    fn symbol(&mut self, frequencies: &[u64], _: Option<usize>) -> usize {
        let of: u64 = frequencies.iter().sum();
        let unit = self.range / of;
        let at = self.code / unit;
        let (mut before, mut symbol) = (0, 0);
        while symbol + 1 < frequencies.len() && before + frequencies[symbol] <= at {
            before += frequencies[symbol];
            symbol += 1;
        }
        // Of a damaged file the code may lie beyond; what is found then is nonsense, and its checksum says so.
        self.code = self.code.saturating_sub(unit * before);
        self.range = unit * frequencies[symbol];
        while self.range < LEAST {
            self.shift();
            self.range <<= 8;
        }
        symbol
    }

    /// A writer leaves no more zeros away than a number has.
    fn is_over(&self) -> bool {
        self.missing > size_of::<u64>()
    }
}

/// Frequencies that follow what was coded, from all alike.
#[derive(Clone, Debug)]
pub(crate) struct Adaptive {
    frequencies: Vec<u64>,
    sum: u64,
}

impl Adaptive {
    /// What one more occurrence adds to a frequency that begins at 1: what came a few times takes next to nothing.
    const STEP: u64 = 256;

    /// Above this all are halved. High, because a symbol that is always the same costs `symbols / sum` bits each time.
    const MOST: u64 = 1 << 30;

    pub fn new(symbols: usize) -> Self {
        Self { frequencies: vec![1; symbols], sum: symbols as u64 }
    }

    /// Codes a symbol and counts it.
    pub fn code(&mut self, coder: &mut impl Coder, chosen: Option<usize>) -> usize {
        let symbol = coder.symbol(&self.frequencies, chosen);
        self.frequencies[symbol] += Self::STEP;
        self.sum += Self::STEP;
        if self.sum > Self::MOST {
            self.frequencies.iter_mut().for_each(|frequency| *frequency = frequency.div_ceil(2));
            self.sum = self.frequencies.iter().sum();
        }
        symbol
    }
}

/// e^x for x ≤ 0 with additions and multiplications alone, whose results the standard of floating point fixes to the last
/// bit: that of the system's library may differ between two machines, and then a reader would find other frequencies.
/// Within 10⁻¹² of it; 0 below −700.
pub(crate) fn exponential(x: f64) -> f64 {
    // 2^(x / ln 2) = 2^n · e^r with |r| ≤ ln 2 / 2. 1.5 · 2⁵² rounds to a whole number.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = x.max(-700.0);
    let n = x * std::f64::consts::LOG2_E + ROUND;
    let whole = n - ROUND;
    let r = x - whole * std::f64::consts::LN_2;
    // Taylor's series: the next term is below 10⁻¹³.
    let series = (1..=10).rev().fold(1.0, |sum, k| 1.0 + r / f64::from(k) * sum);
    let scale = f64::from_bits(n.to_bits().wrapping_add(1023) << 52);
    if x > -700.0 { series * scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Rng};

    #[test]
    fn symbols_come_back_and_take_their_information() {
        let mut rng = Rng::new(3, Purpose::Shuffle, 0);
        for case in 0..60u64 {
            // From one symbol to many, from alike to one that has nearly all.
            let symbols = 1 + rng.below(if case % 3 == 0 { 3 } else { 300 });
            let of = |rng: &mut Rng, at: usize| match case % 4 {
                0 => 1,
                1 => 1 + rng.below(1000) as u64,
                2 => 1 + (rng.below(2) as u64) * (1 << 30) / symbols as u64,
                _ => {
                    if at == symbols / 2 {
                        1 << 32
                    } else {
                        1
                    }
                }
            };
            let frequencies: Vec<u64> = (0..symbols).map(|at| of(&mut rng, at)).collect();
            let sum: u64 = frequencies.iter().sum();
            let draw = |rng: &mut Rng| {
                if case % 5 == 4 {
                    return rng.below(symbols);
                }
                let mut at = (rng.below(1 << 31) as u64 * sum) >> 31;
                frequencies.iter().position(|f| at.checked_sub(*f).map(|left| at = left).is_none()).unwrap()
            };
            let written: Vec<usize> = (0..rng.below(2000)).map(|_| draw(&mut rng)).collect();
            let mut encoder = Encoder::new();
            written.iter().for_each(|&symbol| {
                encoder.symbol(&frequencies, Some(symbol));
            });
            let bytes = encoder.finish();
            let bits: f64 = written.iter().map(|&s| -(frequencies[s] as f64 / sum as f64).log2()).sum();
            assert!(bytes.len() as f64 <= bits / 8.0 * (1.0 + 1e-6) + 2.0, "{} bytes for {bits} bits", bytes.len());
            let mut decoder = Decoder::new(&bytes);
            let read: Vec<usize> = written.iter().map(|_| decoder.symbol(&frequencies, None)).collect();
            assert!(read == written && !decoder.is_over(), "case {case}");
        }
    }

    #[test]
    fn what_is_always_the_same_takes_nothing() {
        let mut encoder = Encoder::new();
        let mut adaptive = Adaptive::new(257);
        (0..200_000).for_each(|_| {
            adaptive.code(&mut encoder, Some(32));
        });
        assert!(encoder.finish().len() < 16);
    }

    #[test]
    fn the_exponential_is_that_of_the_library() {
        for step in 0..100_000 {
            let x = -f64::from(step) * 0.007;
            let (own, expected) = (exponential(x), x.exp());
            assert!((own - expected).abs() <= 1e-12 * expected, "e^{x} is {own}, not {expected}");
        }
        assert!(exponential(0.0) == 1.0 && exponential(-1e9) == 0.0 && exponential(f64::NEG_INFINITY) == 0.0);
    }
}
