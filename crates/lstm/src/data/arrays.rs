//! NumPy's arrays: the files `.npy` and `.npz`, of numbers and of short texts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{DataError, shortened};

/// An array as it lies in its file, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Numbers of any type, and their shape.
    Numbers(Vec<usize>, Vec<f64>),
    /// Texts, and their shape.
    Texts(Vec<usize>, Vec<String>),
}

/// The most bytes of an array: more than any that is held in memory beside a model.
const MOST_BYTES: u64 = 16 << 30;

impl Array {
    /// The sizes of its axes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Numbers(shape, _) | Self::Texts(shape, _) => shape,
        }
    }
}

/// Reads the arrays of an `.npz` by their names; of an `.npy` its only one, named `x`.
///
/// # Errors
/// A file that is neither, is cut off, or holds objects.
pub fn read_arrays(path: &Path) -> Result<BTreeMap<String, Array>, DataError> {
    let cannot = |e: std::io::Error| DataError::of_file(path, format!("cannot be read: {e}"));
    let mut file = File::open(path).map_err(cannot)?;
    let mut start = [0; 4];
    let read = file.read(&mut start).map_err(cannot)?;
    let mut file = File::open(path).map_err(cannot)?;
    if start[..read].starts_with(b"\x93NUM") {
        return Ok([("x".to_owned(), read_array(path, "", &mut file)?)].into());
    }
    let mut archive = zip::ZipArchive::new(file)
        .map_err(|e| DataError::of_file(path, format!("it is no array of NumPy, and no archive of them ({e})")))?;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let mut member = archive
            .by_index(index)
            .map_err(|e| DataError::of_file(path, format!("its member {index} cannot be read: {e}")))?;
        let name = member.name().map_or(String::new(), |name| name.into_owned());
        if let Some(name) = name.strip_suffix(".npy") {
            arrays.insert(name.to_owned(), read_array(path, name, &mut member)?);
        }
    }
    Ok(arrays)
}

fn read_array(path: &Path, name: &str, reader: &mut impl Read) -> Result<Array, DataError> {
    let of = if name.is_empty() { "it".to_owned() } else { format!("its array \"{name}\"") };
    let wrong = |why: &str| DataError::of_file(path, format!("{of} {why}"));
    let cut_off = |e: std::io::Error| wrong(&format!("cannot be read ({e}); copy the file again"));
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(cut_off)?;
    if start[..6] != *b"\x93NUMPY" {
        return Err(wrong("is no array of NumPy"));
    }
    let mut length = [0; 4];
    let bytes = if start[6] == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..bytes]).map_err(cut_off)?;
    let length = u64::from(u32::from_le_bytes(length));
    if length > 1 << 16 {
        return Err(wrong("has a header that is too long to be one"));
    }
    let mut header = String::new();
    reader.by_ref().take(length).read_to_string(&mut header).map_err(cut_off)?;
    let value = |key: &str| header.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let kind =
        value("descr").and_then(|rest| rest.strip_prefix('\'')?.split('\'').next()).unwrap_or_default().to_owned();
    let shape = value("shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next());
    let shape: Option<Vec<usize>> = shape.and_then(|shape| {
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        sizes.map(|size| size.parse().ok()).collect()
    });
    let shape = shape.ok_or_else(|| wrong("says nothing of its shape"))?;
    if value("fortran_order").is_some_and(|rest| rest.starts_with("True")) && shape.len() > 1 {
        return Err(wrong("lies column by column; save numpy.ascontiguousarray of it"));
    }
    let refused = || wrong(&format!("is of the type {}; save it as float32", shortened(&kind)));
    let (order, letter) = (kind.chars().next().unwrap_or(' '), kind.chars().nth(1).unwrap_or(' '));
    let size: usize = kind.get(2..).and_then(|size| size.parse().ok()).ok_or_else(refused)?;
    if order == '>' {
        return Err(refused());
    }
    let width = if letter == 'U' { 4 * size } else { size };
    let count = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
    let bytes = count.and_then(|count| count.checked_mul(width)).filter(|bytes| *bytes as u64 <= MOST_BYTES);
    let (Some(count), Some(bytes)) = (count, bytes) else { return Err(wrong("is too large")) };
    let mut data = Vec::new();
    reader.by_ref().take(bytes as u64).read_to_end(&mut data).map_err(cut_off)?;
    if data.len() < bytes {
        return Err(wrong("is cut off; copy the file again"));
    }
    if letter == 'U' || letter == 'S' {
        let text = |cell: &[u8]| -> String {
            let chars: Vec<char> = match letter {
                'U' => cell.as_chunks().0.iter().filter_map(|code| char::from_u32(u32::from_le_bytes(*code))).collect(),
                _ => cell.iter().map(|byte| char::from(*byte)).collect(),
            };
            chars.into_iter().take_while(|char| *char != '\0').collect()
        };
        let texts = if width == 0 { vec![String::new(); count] } else { data.chunks(width).map(text).collect() };
        return Ok(Array::Texts(shape, texts));
    }
    /// The values of a type of so many bytes, as f64.
    macro_rules! values {
        ($type:ty) => {
            data.as_chunks().0.iter().map(|bytes| <$type>::from_le_bytes(*bytes) as f64).collect()
        };
    }
    let values: Vec<f64> = match (letter, size) {
        ('f', 4) => values!(f32),
        ('f', 8) => values!(f64),
        ('i', 1) => values!(i8),
        ('i', 2) => values!(i16),
        ('i', 4) => values!(i32),
        ('i', 8) => values!(i64),
        ('u' | 'b', 1) => values!(u8),
        ('u', 2) => values!(u16),
        ('u', 4) => values!(u32),
        ('u', 8) => values!(u64),
        _ => return Err(refused()),
    };
    Ok(Array::Numbers(shape, values))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The bytes of an `.npy`, as NumPy writes them.
    pub(super) fn npy(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn arrays_of_every_kind_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        let floats: Vec<u8> = [1.5_f32, f32::NAN, -2.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let texts: Vec<u8> = "ab\0c\0\0".chars().flat_map(|char| (char as u32).to_le_bytes()).collect();
        let members =
            [("x", npy("<f4", "(2, 2)", &floats)), ("y", npy("<U3", "(2,)", &texts)), ("n", npy("|i1", "()", &[255]))];
        for (name, bytes) in members {
            archive.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(&bytes).unwrap();
        }
        archive.finish().unwrap();
        let arrays = read_arrays(&path).unwrap();
        let Array::Numbers(shape, values) = &arrays["x"] else { panic!() };
        assert_eq!((&shape[..], values[0], values[3]), (&[2, 2][..], 1.5, 4.0));
        assert!(values[1].is_nan());
        assert_eq!(arrays["y"], Array::Texts(vec![2], vec!["ab".to_owned(), "c".to_owned()]));
        assert_eq!(arrays["n"], Array::Numbers(vec![], vec![-1.0]));
    }

    #[test]
    fn damaged_and_foreign_arrays_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let said = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_arrays(&path).unwrap_err().to_string()
        };
        assert!(said(&npy("<f4", "(2,)", &[0; 7])).contains("cut off"));
        assert!(said(&npy("|O", "(2,)", &[0; 7])).contains("type |O"));
        assert!(said(&npy(">f4", "(2,)", &[0; 8])).contains("type >f4"));
        assert!(said(&npy("<f4", "(9999999999, 9999999999)", &[])).contains("too large"));
        assert!(said(b"no array").contains("no array of NumPy"));
        assert!(said(b"").contains("no array of NumPy"));
    }
}
