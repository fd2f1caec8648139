//! One seed for everything: named, numbered random streams.
//!
//! Nothing in the library carries a generator from step to step. Whoever needs random numbers asks for the stream
//! of its purpose and number (the epoch, the step, the parameter), so a resumed run draws what an unbroken one
//! would have drawn, and the order in which parts of the program run changes nothing.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// What a stream of random numbers is used for. Streams of different purposes never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Initial values of the parameters, numbered by parameter.
    Init = 1,
    /// Dropout masks, numbered by training step and place.
    Dropout = 2,
    /// The order of training samples, numbered by epoch.
    Shuffle = 3,
    /// Sampling from a trained model, numbered by sample.
    Generate = 4,
    /// Sentences of the built-in language, numbered by split.
    BuiltinText = 5,
    /// The lengths of varied segments, numbered by epoch.
    Segments = 6,
    /// The candidates of a sampled softmax, numbered by training step.
    Candidates = 7,
    /// Masks of zoneout, numbered by training step and place.
    Zoneout = 8,
    /// The order of a text's lines.
    Lines = 9,
    /// Where the columns of a stream begin, numbered by epoch.
    Rotation = 10,
    /// Noise on numbers that are trained on, numbered by training step.
    Noise = 11,
}

/// A deterministic random stream (ChaCha8), the same on every machine.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The stream of `purpose` and `number` under the run's `seed`.
    pub fn new(seed: u64, purpose: Purpose, number: u64) -> Self {
        Self::of_part(seed, purpose, number, 0)
    }

    /// The stream of one part of what has that purpose and number; the first part's is that of the whole.
    pub(crate) fn of_part(seed: u64, purpose: Purpose, number: u64, part: u32) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = purpose as u8;
        key[9..13].copy_from_slice(&part.to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(number);
        Self(generator)
    }

    /// The stream from its `word`-th 32 bits on: parts of one stream can be drawn side by side.
    pub fn from_word(mut self, word: u64) -> Self {
        self.0.set_word_pos(word.into());
        self
    }

    /// 32 uniform bits.
    pub fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Fills `bytes` with uniform bits.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `[low, high)`.
    pub fn uniform_in(&mut self, low: f32, high: f32) -> f32 {
        (f64::from(low) + (f64::from(high) - f64::from(low)) * self.uniform()) as f32
    }

    /// Standard normal (Box & Muller 1958).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.uniform()).cos()) as f32
    }

    /// A uniform integer below `n`. `n` must not be zero.
    pub fn below(&mut self, n: usize) -> usize {
        debug_assert!(n > 0);
        // Lemire 2019: the high half of a 64 × 64 bit product; the bias is below n / 2⁶⁴.
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Shuffles in place (Fisher & Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_reproducible_and_distinct() {
        let draw = |seed, purpose, number| Rng::new(seed, purpose, number).bits();
        assert_eq!(draw(1, Purpose::Init, 0), draw(1, Purpose::Init, 0));
        assert_ne!(draw(1, Purpose::Init, 0), draw(2, Purpose::Init, 0));
        assert_ne!(draw(1, Purpose::Init, 0), draw(1, Purpose::Init, 1));
        assert_ne!(draw(1, Purpose::Init, 0), draw(1, Purpose::Dropout, 0));
    }

    #[test]
    fn a_stream_can_be_drawn_from_the_middle() {
        let mut all = [0; 4096];
        Rng::new(1, Purpose::Dropout, 5).fill(&mut all);
        for word in [0, 1, 16, 100] {
            let mut part = [0; 128];
            Rng::new(1, Purpose::Dropout, 5).from_word(word as u64).fill(&mut part);
            assert_eq!(part, all[4 * word..][..128]);
        }
    }

    #[test]
    fn normal_has_unit_variance() {
        let mut rng = Rng::new(7, Purpose::Init, 0);
        let n = 20_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let x = f64::from(rng.normal());
            sum += x;
            squares += x * x;
        }
        assert!((sum / f64::from(n)).abs() < 0.03);
        assert!((squares / f64::from(n) - 1.0).abs() < 0.05);
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut items: Vec<usize> = (0..100).collect();
        Rng::new(3, Purpose::Shuffle, 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
