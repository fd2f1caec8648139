//! Named tensors and one JSON document in a safetensors file, with a checksum over both.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorView, serialize};
use serde_json::Value;

use super::{FormatError, open, write_bytes};
use crate::free_memory::free_memory;

#[cfg(target_endian = "big")]
compile_error!("tensors are written as they lie in memory, and safetensors files are little-endian");

/// The version of the files this program writes.
const VERSION: u64 = 1;

/// The one metadata key: several would be written in an arbitrary order, and equal models shall be equal files.
pub(super) const KEY: &str = "lstm";

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

impl Contents {
    /// Refuses a tensor that nothing reads: what the file says would be more than what is used of it.
    pub(crate) fn refuse_others(&self, path: &Path, is_read: impl Fn(&str) -> bool) -> Result<(), FormatError> {
        let mut others: Vec<&String> = self.tensors.keys().filter(|name| !is_read(name)).collect();
        others.sort_unstable();
        others.first().map_or(Ok(()), |name| {
            let why = format!(
                "it has a tensor {name}, which the model that config.toml describes has none of; put the files it was \
                 trained with beside it"
            );
            Err(FormatError::Unusable { path: path.to_owned(), why })
        })
    }
}

/// The most bytes of a header, which names tensors and holds the document.
const MOST_HEADER: u64 = 64 << 20;

/// Reads a file and proves its checksum. By its header it is known what it is and how long it has to be, before the rest
/// is read.
///
/// # Errors
/// A file that is missing, truncated, damaged, from a newer version, or not this program's.
pub fn read(path: &Path) -> Result<Contents, FormatError> {
    let trouble = |source| FormatError::Read { path: path.to_owned(), source };
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    let damaged = |what: &str| {
        unusable(format!("{what}: the file is truncated or damaged; restore it from a copy, or train again"))
    };
    let mut file = open(path)?;
    let length = file.metadata().map_err(trouble)?.len();
    let mut size = [0; 8];
    if length < size.len() as u64 {
        return Err(damaged("it has no header"));
    }
    file.read_exact(&mut size).map_err(trouble)?;
    let size = u64::from_le_bytes(size);
    if size > MOST_HEADER || size > length - 8 {
        return Err(damaged(&format!("its header says that it has {size} bytes itself, in a file of {length}")));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(trouble)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| damaged(&e.to_string()))?;
    let ours = metadata.metadata().as_ref().and_then(|map| map.get(KEY));
    let ours = ours.ok_or_else(|| unusable("it was not written by this program".to_owned()))?;
    let mut ours: Value = serde_json::from_str(ours).map_err(|e| damaged(&e.to_string()))?;
    match ours["version"].as_u64() {
        Some(version) if version > VERSION => {
            return Err(unusable(format!("its version {version} is newer than {VERSION}; update the program")));
        }
        Some(VERSION) => {}
        _ => return Err(damaged("it names no version")),
    }
    let data = metadata.data_len() as u64;
    if data != length - 8 - size {
        return Err(damaged(&format!("its tensors have {data} bytes, in a file of {length}")));
    }
    if let Some((name, _)) = metadata.tensors().iter().find(|(_, info)| info.dtype != Dtype::F32) {
        return Err(damaged(&format!("{name} is not of 32-bit floating-point numbers")));
    }
    // The bytes and the values that they are.
    if let Some(free) = free_memory().filter(|free| data.saturating_mul(2) > *free) {
        let [needed, free] = [data.saturating_mul(2), free].map(|bytes| bytes >> 20);
        return Err(unusable(format!(
            "its tensors take {needed} MiB of memory to read, but {free} MiB are free; close other programs, or use a \
             machine with more"
        )));
    }
    let mut bytes = vec![0; data as usize];
    file.read_exact(&mut bytes).map_err(trouble)?;
    let infos = metadata.tensors();
    let views: Vec<(&str, &[usize], &[u8])> = infos
        .iter()
        .map(|(name, info)| (name.as_str(), info.shape.as_slice(), &bytes[info.data_offsets.0..info.data_offsets.1]))
        .collect();
    if ours["crc32"] != checksum(&ours["document"], views.iter().copied()).as_str() {
        return Err(damaged("its checksum is wrong"));
    }
    let tensors = views.iter().map(|(name, shape, bytes)| {
        let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        ((*name).to_owned(), (shape.to_vec(), values))
    });
    Ok(Contents { tensors: tensors.collect(), document: ours["document"].take() })
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
