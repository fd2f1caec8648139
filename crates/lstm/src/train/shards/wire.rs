//! How the values of a gradient travel: as they are, or as bf16, with what that leaves out added to the next step's (error feedback: Seide
//! 2014, "1-bit stochastic gradient descent"; Karimireddy 2019).

use std::ops::Range;

use crate::run::training::Wire;

/// The half of an f32 that is its bf16, where its memory is looked at as two of 16 bits.
const HIGH: usize = if cfg!(target_endian = "little") { 1 } else { 0 };

impl Wire {
    /// The bytes of so many values.
    pub(super) fn bytes(self, values: usize) -> usize {
        match self {
            Self::F32 => 4 * values,
            Self::Bf16 => 2 * values,
        }
    }

    /// The bytes in which values travel, at the start of their own memory; [`Self::pack`] puts them there.
    pub(super) fn sent(self, values: &[f32]) -> &[u8] {
        &bytemuck::cast_slice(values)[..self.bytes(values.len())]
    }

    /// The place for them on arrival; [`Self::unpack`] makes values of them.
    pub(super) fn received(self, values: &mut [f32]) -> &mut [u8] {
        let bytes = self.bytes(values.len());
        &mut bytemuck::cast_slice_mut(values)[..bytes]
    }

    /// Makes values, which are rounded, ready to be sent.
    pub(super) fn pack(self, values: &mut [f32]) {
        if self == Self::Bf16 {
            let halves: &mut [u16] = bytemuck::cast_slice_mut(values);
            (0..halves.len() / 2).for_each(|at| halves[at] = halves[2 * at + HIGH]);
        }
    }

    /// Makes values of what arrived.
    pub(super) fn unpack(self, values: &mut [f32]) {
        if self == Self::Bf16 {
            let halves: &mut [u16] = bytemuck::cast_slice_mut(values);
            for at in (0..halves.len() / 2).rev() {
                let half = halves[at];
                (halves[2 * at + HIGH], halves[2 * at + 1 - HIGH]) = (half, 0);
            }
        }
    }

    /// Rounds `values`, which belong to `places` of the gradient, to what travels. `left`: what earlier steps left out, of every place;
    /// it is added first, and becomes what this one leaves out.
    pub(super) fn round(self, values: &mut [f32], places: impl Iterator<Item = Range<usize>>, left: &mut [f32]) {
        if self == Self::F32 {
            return;
        }
        let mut rest = values;
        for place in places {
            let (these, behind) = rest.split_at_mut(place.len());
            for (value, left) in these.iter_mut().zip(&mut left[place]) {
                let whole = *value + *left;
                *value = rounded(whole);
                // Of what is no number nothing is left; the step is not taken.
                *left = if value.is_finite() { whole - *value } else { 0.0 };
            }
            rest = behind;
        }
    }
}

/// To the nearest bf16, ties to even.
fn rounded(value: f32) -> f32 {
    if value.is_nan() {
        return value;
    }
    let bits = value.to_bits();
    f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_values_travel_as_half_their_bytes_and_come_back() {
        let values: Vec<f32> = (0..33).map(|at| rounded((at as f32 - 9.0) * 1.234e-3)).collect();
        for wire in [Wire::F32, Wire::Bf16] {
            let mut sent = values.clone();
            wire.pack(&mut sent);
            let bytes = wire.sent(&sent).to_vec();
            assert_eq!(bytes.len(), wire.bytes(33));
            let mut came = vec![7.0; 33];
            wire.received(&mut came).copy_from_slice(&bytes);
            wire.unpack(&mut came);
            assert_eq!(came, values);
        }
    }

    #[test]
    fn what_rounding_leaves_out_comes_with_the_next_steps() {
        // Too little to be seen beside 1 in one step.
        let (mut left, mut sum) = (vec![0.0; 4], 0.0);
        for _ in 0..1024 {
            let mut values = [1.0 + 1e-3];
            Wire::Bf16.round(&mut values, std::iter::once(2..3), &mut left);
            sum += f64::from(values[0]);
        }
        assert!((sum - 1024.0 * 1.001).abs() < 0.01, "{sum}");
        assert!(left[2] != 0.0 && left[0] == 0.0);
        assert_eq!([rounded(f32::INFINITY), rounded(-0.0), rounded(1.0)], [f32::INFINITY, -0.0, 1.0]);
        assert!(rounded(f32::NAN).is_nan());
    }
}
