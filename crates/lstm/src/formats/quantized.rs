//! A model file a quarter the size: matrices are bytes, whole multiples of a scale that each of their rows has; all else is f32.
//!
//! Beside a tensor of bytes `[N, K]` lies `NAME.scale`, `[N]`. The values of a file are those the bytes stand for, and become the
//! same bytes again.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use lstm_kernels::{Aligned, row_scale, to_int8};
use safetensors::tensor::{Dtype, Metadata};
use serde_json::Value;

use super::FormatError;
use super::safetensors::{Part, Places, Tensor, check_free, damaged, file_bytes};

/// The version of these files, which programs that know no bytes refuse.
pub(super) const VERSION: u64 = 2;

/// The end of the name of the scales.
const SCALE: &str = ".scale";

/// The bytes of a file that shall be `path`.
pub(crate) fn to_bytes(
    path: &Path,
    tensors: &[Tensor],
    document: Value,
    texts: &BTreeMap<String, String>,
) -> Result<Vec<u8>, FormatError> {
    let quantize = |(_, shape, values): &Tensor| -> Option<(Vec<i8>, Vec<f32>)> {
        let &[_, columns] = *shape else { return None };
        let (mut bytes, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
        for row in values.chunks_exact(columns.max(1)) {
            let scale = row_scale(row);
            bytes.extend(row.iter().map(|x| to_int8(*x, scale)));
            scales.push(scale);
        }
        Some((bytes, scales))
    };
    let quantized: Vec<_> = tensors.iter().map(quantize).collect();
    let names: Vec<String> = tensors.iter().map(|(name, ..)| format!("{name}{SCALE}")).collect();
    // Whatever has four bytes comes first, so that it lies at multiples of four.
    let (mut parts, mut bytes): (Vec<Part>, Vec<Part>) = Default::default();
    for (((name, shape, values), quantized), scales_name) in tensors.iter().zip(&quantized).zip(&names) {
        match quantized {
            None => parts.push((name, shape, "F32", bytemuck::cast_slice(values))),
            Some((of_rows, scales)) => {
                parts.push((scales_name, &shape[..1], "F32", bytemuck::cast_slice(scales)));
                bytes.push((name, shape, "I8", bytemuck::cast_slice(of_rows)));
            }
        }
    }
    parts.append(&mut bytes);
    let crc32 = checksum(&document, parts.iter().map(|(name, shape, _, bytes)| (*name, *shape, *bytes)));
    file_bytes(path, VERSION, &crc32, &parts, document, texts)
}

fn checksum<'a>(document: &Value, tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>) -> String {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&VERSION.to_le_bytes());
    hasher.update(document.to_string().as_bytes());
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_unstable_by_key(|(name, ..)| *name);
    for (name, shape, bytes) in tensors {
        hasher.update(format!("{name}{shape:?}").as_bytes());
        hasher.update(bytes);
    }
    format!("{:08x}", hasher.finalize())
}

/// Reads the `data` bytes after the header, and gives the values that they stand for.
pub(super) fn read(
    path: &Path,
    file: &mut std::fs::File,
    data: u64,
    metadata: &Metadata,
    document: &Value,
    crc32: &Value,
) -> Result<(Places, Aligned), FormatError> {
    check_free(path, data.saturating_mul(5))?;
    let mut bytes = vec![0; data as usize];
    file.read_exact(&mut bytes).map_err(|source| FormatError::Read { path: path.to_owned(), source })?;
    let infos = metadata.tensors();
    let of = |name: &str| infos.get(name).map(|info| &bytes[info.data_offsets.0..info.data_offsets.1]);
    let all = infos
        .iter()
        .map(|(name, info)| (name.as_str(), info.shape.as_slice(), &bytes[info.data_offsets.0..info.data_offsets.1]));
    if *crc32 != checksum(document, all).as_str() {
        return Err(damaged(path, "its checksum is wrong"));
    }
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let is_scale = |name: &str| {
        let of = name.strip_suffix(SCALE).and_then(|of| infos.get(of));
        of.is_some_and(|of| of.dtype == Dtype::I8)
    };
    let mut names: Vec<&String> = infos.keys().filter(|name| !is_scale(name)).collect();
    names.sort_unstable();
    let (mut places, mut values) = (Places::new(), Vec::new());
    for name in names {
        let (shape, start) = (infos[name].shape.clone(), values.len());
        let bytes = of(name).unwrap_or(&[]);
        if infos[name].dtype == Dtype::I8 {
            let scales = of(&format!("{name}{SCALE}")).map(floats);
            let scales = scales.filter(|scales| matches!(shape[..], [rows, _] if rows == scales.len()));
            let scales = scales.ok_or_else(|| damaged(path, &format!("{name} has no scale for every row")))?;
            for (row, scale) in bytes.chunks_exact(shape[1].max(1)).zip(scales) {
                values.extend(row.iter().map(|byte| f32::from(byte.cast_signed()) * scale));
            }
        } else {
            values.extend(floats(bytes));
        }
        places.insert(name.clone(), (shape, start..values.len()));
    }
    Ok((places, Aligned::from(&values[..])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::safetensors;
    use crate::formats::write_bytes;

    /// A quarter of the bytes; what they stand for becomes the same bytes again.
    #[test]
    fn quantized_matrices_are_read_as_what_they_stand_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let values: Vec<f32> = (0..60 * 51).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.0173).collect();
        let (bias, texts) = ([0.1, 0.2, 0.3], BTreeMap::from([("a".to_owned(), "text".to_owned())]));
        let document = || serde_json::json!({ "x": 1 });
        let tensors: [Tensor; 3] = [("w", &[60, 51], &values), ("b", &[3], &bias), ("z", &[1, 2], &[0.0, -0.0])];
        let bytes = to_bytes(&path, &tensors, document(), &texts).unwrap();
        write_bytes(&path, &bytes).unwrap();
        let contents = safetensors::read(&path).unwrap();
        assert!(contents.quantized && contents.tensors().len() == 3 && bytes.len() < 60 * 51 + 1100, "{}", bytes.len());
        assert_eq!((contents.get("b").unwrap().1, &contents.texts), (&bias[..], &texts));
        assert_eq!(contents.document, document());
        let (shape, kept) = contents.get("w").unwrap();
        assert_eq!(shape, &[60, 51]);
        for (row, kept_row) in values.chunks(51).zip(kept.chunks(51)) {
            let most = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            assert!(row.iter().zip(kept_row).all(|(a, b)| (a - b).abs() <= most / 253.0));
        }
        let again: [Tensor; 3] = [("w", &[60, 51], kept), tensors[1], tensors[2]];
        assert_eq!(to_bytes(&path, &again, document(), &texts).unwrap(), bytes);
        for at in [bytes.len() - 1, bytes.len() - 60 * 51 - 10] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            std::fs::write(&path, damaged).unwrap();
            assert!(safetensors::read(&path).unwrap_err().to_string().contains("damaged"));
        }
    }
}
