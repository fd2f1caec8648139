//! Numbered values, as `lstm::bench` and `bench/measuring.py` make them: SplitMix64 of a row and an index.

/// The row of the parameters.
pub const WEIGHTS: u64 = 0;
/// The row of the input of the layers.
pub const INPUT: u64 = 2;
/// The row of the gradient of their output.
pub const OUTPUT_GRADIENT: u64 = 3;

/// Value `index` of `row`, uniform in `[−1, 1)`.
pub fn value(row: u64, index: u64) -> f32 {
    let mut z = ((row << 40) + index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}
