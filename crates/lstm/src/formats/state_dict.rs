//! Named tensors, as PyTorch's state dicts have them, and the network that is found among them by name and shape.

mod find;
mod named;
mod names;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::foreign::{Hints, Import};
use super::network::Network;
use super::{FormatError, write_bytes};

pub(super) use find::find;
pub(super) use named::{Named, RESIDUAL, TorchLstm, named, readout_name, torch_lstms};

/// One tensor of a file, whose values are not read yet.
pub(super) struct Array<'a> {
    /// Its shape.
    pub(super) shape: Vec<usize>,
    /// What its values are stored as, if they are numbers with a fraction.
    pub(super) float: Option<Float>,
    /// Reads them, row-major.
    pub(super) read: Box<dyn Fn() -> Result<Vec<f32>, String> + 'a>,
}

/// The stored forms of a number with a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Float {
    F64,
    F32,
    F16,
    Bf16,
}

/// Tensors by name.
pub(super) type StateDict<'a> = BTreeMap<String, Array<'a>>;

impl Float {
    /// The bytes of a value.
    pub(super) fn bytes(self) -> usize {
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
    pub(super) fn note(forms: &BTreeSet<Self>) -> Option<String> {
        let other: Vec<&str> = forms.iter().filter(|form| **form != Self::F32).map(|form| form.name()).collect();
        let rounded = if forms.contains(&Self::F64) { ", rounded to it" } else { "" };
        (!other.is_empty()).then(|| format!("values in {} become float32{rounded}", other.join(" and ")))
    }

    /// Little-endian values as this library's; those of float64 are rounded.
    pub(super) fn values(self, bytes: &[u8]) -> Vec<f32> {
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

/// Reads a `.safetensors` file of PyTorch's names.
///
/// # Errors
/// As [`foreign::read`](super::foreign::read).
pub(super) fn read_safetensors(path: &Path, hints: Hints) -> Result<Import, FormatError> {
    let bytes = std::fs::read(path).map_err(|source| FormatError::Read { path: path.to_owned(), source })?;
    let damaged = |error: safetensors::SafeTensorError| FormatError::Unusable {
        path: path.to_owned(),
        why: format!("{error}: the file is truncated or damaged; fetch or save it again"),
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    if metadata.metadata().as_ref().is_some_and(|metadata| metadata.contains_key(super::safetensors::KEY)) {
        let why = "it is a file of this program itself; open it as a model".to_owned();
        return Err(FormatError::Unusable { path: path.to_owned(), why });
    }
    let mut dict = StateDict::new();
    let views: BTreeMap<_, _> = file.tensors().into_iter().collect();
    let array = |name: &str| {
        let view = &views[name];
        let float = match view.dtype() {
            Dtype::F64 => Some(Float::F64),
            Dtype::F32 => Some(Float::F32),
            Dtype::F16 => Some(Float::F16),
            Dtype::BF16 => Some(Float::Bf16),
            _ => None,
        };
        let data = view.data();
        let read = move || Ok(float.map_or_else(Vec::new, |float| float.values(data)));
        Array { shape: view.shape().to_vec(), float, read: Box::new(read) }
    };
    for name in views.keys() {
        dict.insert(name.clone(), array(name));
    }
    // `safetensors.torch.save_model` keeps one of the names of a shared tensor, and notes the others.
    for (name, kept) in metadata.metadata().iter().flatten() {
        if views.contains_key(kept) && !views.contains_key(name) {
            dict.insert(name.clone(), array(kept));
        }
    }
    find(path, "named tensors (safetensors)".to_owned(), dict, hints)
}

/// Writes the state dict of a network as `.safetensors`; a tied readout is there twice, as the format has no shared tensors.
///
/// # Errors
/// As [`pytorch::write`](super::pytorch::write).
pub(super) fn write_safetensors(path: &Path, network: &Network, has_module: bool) -> Result<(), FormatError> {
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    let arrays = named(network, has_module).map_err(|error| unusable(error.to_string()))?;
    let views = arrays
        .iter()
        .map(|array| {
            let view = TensorView::new(Dtype::F32, array.shape.clone(), bytemuck::cast_slice(array.values))?;
            Ok((array.name.as_str(), view))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    // What `safetensors` in Python writes for PyTorch.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes =
        views.and_then(|views| serialize(views, Some(metadata))).map_err(|error| unusable(error.to_string()))?;
    write_bytes(path, &bytes)
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
