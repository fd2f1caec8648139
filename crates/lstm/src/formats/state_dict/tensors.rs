//! The tensors of a state dict, by name, and the stored forms of their values.

use std::collections::{BTreeMap, BTreeSet};

/// One tensor of a file, whose values are not read yet.
pub(in crate::formats) struct Array<'a> {
    /// Its shape.
    pub(in crate::formats) shape: Vec<usize>,
    /// What its values are stored as, if they are numbers with a fraction.
    pub(in crate::formats) float: Option<Float>,
    /// Reads them, row-major.
    pub(in crate::formats) read: Box<dyn Fn() -> Result<Vec<f32>, String> + 'a>,
}

/// The stored forms of a number with a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::formats) enum Float {
    F64,
    F32,
    F16,
    Bf16,
}

/// Tensors by name.
pub(in crate::formats) type StateDict<'a> = BTreeMap<String, Array<'a>>;

impl Float {
    /// The bytes of a value.
    pub(in crate::formats) fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Its name for a sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// What is said of values that are stored otherwise than they are computed with.
    pub(in crate::formats) fn note(forms: &BTreeSet<Self>) -> Option<String> {
        let other: Vec<&str> = forms.iter().filter(|form| **form != Self::F32).map(|form| form.name()).collect();
        let rounded = if forms.contains(&Self::F64) { ", rounded to it" } else { "" };
        (!other.is_empty()).then(|| format!("values in {} become float32{rounded}", other.join(" and ")))
    }

    /// Little-endian values as this library's; those of float64 are rounded.
    pub(in crate::formats) fn values(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Self::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Self::F16 => bytes.as_chunks::<2>().0.iter().map(|b| half(u16::from_le_bytes(*b))).collect(),
            Self::Bf16 => {
                let wide = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                bytes.as_chunks::<2>().0.iter().map(wide).collect()
            }
        }
    }
}

/// A value of IEEE 754's 16 bits: sign, five bits of exponent, ten of fraction.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, u32::from(bits >> 10) & 31, u32::from(bits) & 1023);
    match (exponent, fraction) {
        // Below 2⁻¹⁴ the fraction counts 2⁻²⁴.
        (0, _) => f32::from_bits(sign | (fraction as f32 * f32::powi(2.0, -24)).to_bits()),
        (31, _) => f32::from_bits(sign | 255 << 23 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_forms_are_read_to_the_bit() {
        let cases = [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (0x0001, f32::powi(2.0, -24)), (0x8000, -0.0)];
        for (bits, value) in cases {
            assert_eq!(half(bits).to_bits(), f32::to_bits(value));
        }
        assert!(half(0x7e00).is_nan() && half(0xfc00) == f32::NEG_INFINITY);
        assert_eq!(Float::Bf16.values(&[0x80, 0x3f, 0x20, 0xc1]), [1.0, -10.0]);
        assert_eq!(Float::F64.values(&0.1f64.to_le_bytes()), [0.1]);
    }
}
