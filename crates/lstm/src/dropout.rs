//! Dropout masks (Srivastava 2014; between layers only, as Zaremba 2014): inverted scaling, off in evaluation.

use crate::rng::{Purpose, Rng};

/// The dropout of one training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability that a value is dropped, in `[0, 1)`.
    pub rate: f32,
    /// The run's seed.
    pub seed: u64,
    /// The training step: every step draws fresh masks.
    pub step: u64,
}

impl Dropout {
    /// Fills `mask` with `len` factors: 0 with probability `rate`, else `1 / (1 - rate)`. `place` tells the masks of
    /// one step apart.
    pub fn mask(&self, place: u32, mask: &mut Vec<f32>, len: usize) {
        // 16 bits a value: the probability is exact to 2⁻¹⁶, and half the random bytes are needed.
        let threshold = (f64::from(self.rate) * 65536.0).round() as u32;
        let scale = 1.0 / (1.0 - self.rate);
        let mut rng = Rng::new(self.seed, Purpose::Dropout, (self.step << 8) | u64::from(place));
        mask.clear();
        mask.resize(len, 0.0);
        let mut bytes = [0; 512];
        for chunk in mask.chunks_mut(bytes.len() / 2) {
            rng.fill(&mut bytes);
            for (value, bits) in chunk.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = if u32::from(u16::from_le_bytes(*bits)) < threshold { 0.0 } else { scale };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_the_expectation_and_repeat() {
        let dropout = Dropout { rate: 0.25, seed: 1, step: 9 };
        let (mut first, mut again, mut other) = (Vec::new(), Vec::new(), Vec::new());
        dropout.mask(0, &mut first, 40_000);
        dropout.mask(0, &mut again, 40_000);
        dropout.mask(1, &mut other, 40_000);
        assert_eq!(first, again);
        assert_ne!(first, other);
        let mean = first.iter().sum::<f32>() / 40_000.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(first.iter().all(|&x| x == 0.0 || x == 1.0 / 0.75));
    }
}
