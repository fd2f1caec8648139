//! Named tensors and one JSON document in a safetensors file, with a checksum over both.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::Value;

use super::{FormatError, write_bytes};

#[cfg(target_endian = "big")]
compile_error!("tensors are written as they lie in memory, and safetensors files are little-endian");

/// The version of the files this program writes.
const VERSION: u64 = 1;

/// The one metadata key: several would be written in an arbitrary order, and equal models shall be equal files.
const KEY: &str = "lstm";

/// One tensor to write: name, shape, values.
pub type Tensor<'a> = (&'a str, &'a [usize], &'a [f32]);

/// What a file holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// Tensors by name: shape and values.
    pub tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
    /// The JSON document.
    pub document: Value,
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

/// Writes a file, whole or not at all.
///
/// # Errors
/// When the folder cannot be written or is full; the old file, if any, is untouched.
pub fn write(path: &Path, tensors: &[Tensor], document: Value) -> Result<(), FormatError> {
    write_bytes(path, &to_bytes(path, tensors, document)?)
}

/// The bytes of a file that shall be `path`.
pub(crate) fn to_bytes(path: &Path, tensors: &[Tensor], document: Value) -> Result<Vec<u8>, FormatError> {
    let parts = || tensors.iter().map(|(name, shape, values)| (*name, *shape, bytemuck::cast_slice(values)));
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    let crc32 = checksum(&document, parts());
    let header = serde_json::json!({ "version": VERSION, "crc32": crc32, "document": document });
    let views = parts()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()
        .map_err(|e| unusable(e.to_string()))?;
    let metadata = HashMap::from([(KEY.to_owned(), header.to_string())]);
    serialize(views, Some(metadata)).map_err(|e| unusable(e.to_string()))
}

/// Reads a file and proves its checksum.
///
/// # Errors
/// A file that is missing, truncated, damaged, from a newer version, or not this program's.
pub fn read(path: &Path) -> Result<Contents, FormatError> {
    let bytes = std::fs::read(path).map_err(|source| FormatError::Read { path: path.to_owned(), source })?;
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    let damaged = |what: &str| {
        unusable(format!("{what}: the file is truncated or damaged; restore it from a copy, or train again"))
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e.to_string()))?;
    let header = metadata.metadata().as_ref().and_then(|map| map.get(KEY));
    let header = header.ok_or_else(|| unusable("it was not written by this program".to_owned()))?;
    let header: Value = serde_json::from_str(header).map_err(|e| damaged(&e.to_string()))?;
    match header["version"].as_u64() {
        Some(version) if version > VERSION => {
            return Err(unusable(format!("its version {version} is newer than {VERSION}; update the program")));
        }
        Some(VERSION) => {}
        _ => return Err(damaged("it names no version")),
    }
    let views = tensors.tensors();
    let found =
        checksum(&header["document"], views.iter().map(|(name, view)| (name.as_str(), view.shape(), view.data())));
    if header["crc32"] != found.as_str() {
        return Err(damaged("its checksum is wrong"));
    }
    let tensors = views.iter().map(|(name, view)| {
        let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        (name.clone(), (view.shape().to_vec(), values))
    });
    Ok(Contents { tensors: tensors.collect(), document: header["document"].clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_round_trip_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let values = [1.0, -2.5, 3.0, f32::MIN_POSITIVE, 0.0, 6.0];
        let write_it = || write(&path, &[("a", &[2, 3], &values)], serde_json::json!({ "x": 1 })).unwrap();
        write_it();
        let bytes = std::fs::read(&path).unwrap();
        write_it();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let contents = read(&path).unwrap();
        assert_eq!(contents.tensors["a"], (vec![2, 3], values.to_vec()));
        assert_eq!(contents.document["x"], 1);
    }

    fn written() -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let tensors: [Tensor; 3] =
            [("b", &[2, 2], &[1.0, -2.5, 3.0, -0.0]), ("a", &[3], &[0.1, 0.2, 0.3]), ("none", &[0], &[])];
        write(&path, &tensors, serde_json::json!({ "name": "a \"run\"", "sum": 0.1 })).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (folder, path, bytes)
    }

    #[test]
    fn every_cut_is_found() {
        let (_folder, path, bytes) = written();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("truncated"), "cut at {length}");
        }
        std::fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
        assert!(read(&path).is_err(), "a byte too many");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (_folder, path, bytes) = written();
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &damaged).unwrap();
            assert!(read(&path).is_err(), "bit {} of byte {}", bit % 8, bit / 8);
        }
    }

    /// serde_json reads one number in ten one bit off unless its `float_roundtrip` feature is on; the checksum of a
    /// healthy file was wrong then.
    #[test]
    fn numbers_in_the_document_are_read_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let mut rng = crate::rng::Rng::new(1, crate::rng::Purpose::Init, 0);
        let numbers: Vec<f64> = (0..2000).map(|_| rng.uniform() * 1e5).collect();
        write(&path, &[], serde_json::json!(numbers)).unwrap();
        let read: Vec<f64> = serde_json::from_value(read(&path).unwrap().document).unwrap();
        assert_eq!(read, numbers);
    }

    #[test]
    fn a_newer_file_another_programs_and_none_are_told_apart() {
        let (folder, path, _) = written();
        let said = |path: &Path| read(path).unwrap_err().to_string();
        let view = || TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        let newer = HashMap::from([(KEY.to_owned(), r#"{"version":2,"other":[]}"#.to_owned())]);
        std::fs::write(&path, serialize([("x", view())], Some(newer)).unwrap()).unwrap();
        assert!(said(&path).contains("newer"), "{}", said(&path));
        std::fs::write(&path, serialize([("x", view())], None).unwrap()).unwrap();
        assert!(said(&path).contains("not written by this program"), "{}", said(&path));
        std::fs::write(&path, serialize([("x", TensorView::new(Dtype::U8, vec![4], &[0; 4]).unwrap())], None).unwrap())
            .unwrap();
        assert!(read(&path).is_err());
        assert!(said(&folder.path().join("missing")).contains("missing"));
    }

    #[test]
    fn a_failed_write_leaves_no_part_behind() {
        let (folder, path, _) = written();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(write(&path, &[], Value::Null).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("no").join("model"), &[], Value::Null).is_err());
    }
}
