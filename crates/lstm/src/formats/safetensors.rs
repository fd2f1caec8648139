//! Named tensors, one JSON document and texts in a safetensors file, with checksums over all of it.
//!
//! The file is written here and not by the `safetensors` crate, whose metadata is a hash map: several keys would come in an
//! arbitrary order, and equal models shall be equal files. Tensors lie in the order they are given in, from a multiple of
//! 64 bytes on, so that the parameters of a model are in the file what they are in memory.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lstm_kernels::Aligned;
use safetensors::tensor::{Dtype, Metadata};
use serde_json::{Value, json};

use super::{FormatError, open, quantized, write_bytes};
use crate::free_memory::free_memory;
use crate::mapped::Mapped;
use crate::nn::params::{Entry, Layout, Params, Values};

#[cfg(target_endian = "big")]
compile_error!("tensors are written as they lie in memory, and safetensors files are little-endian");

/// The version of the files this program writes.
const VERSION: u64 = 1;

/// The metadata key of version, checksums and document; texts have keys of their own.
pub(super) const KEY: &str = "lstm";

/// Where the header ends and tensors begin: at a multiple of a cache line.
const ALIGNMENT: usize = 64;

/// The most bytes of a header, which names tensors and holds document and texts. The `safetensors` crate reads no longer ones
/// than 100 million.
pub(crate) const MOST_HEADER: u64 = 64 << 20;

/// One tensor to write: name, shape, values.
pub type Tensor<'a> = (&'a str, &'a [usize], &'a [f32]);

/// What a file holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// The JSON document.
    pub document: Value,
    /// Texts by their keys.
    pub texts: BTreeMap<String, String>,
    /// Where tensors lie among the values.
    places: Places,
    values: Values,
    /// Whether matrices are bytes with a scale a row in the file. The values are those that they stand for.
    pub quantized: bool,
}

/// The shape of each tensor, and where it lies among the values.
pub(super) type Places = HashMap<String, (Vec<usize>, Range<usize>)>;

fn checksum(document: &Value, tensors: &[Tensor]) -> String {
    let mut tensors = tensors.to_vec();
    tensors.sort_unstable_by_key(|(name, ..)| *name);
    let sums = checksums(&tensors);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&VERSION.to_le_bytes());
    hasher.update(document.to_string().as_bytes());
    for ((name, shape, _), sum) in tensors.iter().zip(&sums) {
        hasher.update(format!("{name}{shape:?}").as_bytes());
        hasher.combine(sum);
    }
    format!("{:08x}", hasher.finalize())
}

/// The checksum of every tensor's bytes: of many of them on several threads, for it takes as long as to read a file that is in memory
/// already.
fn checksums(tensors: &[Tensor]) -> Vec<crc32fast::Hasher> {
    /// The values of a piece of work, and how many make threads worth their start.
    const PIECE: usize = 1 << 18;
    const WORTH_THREADS: usize = 1 << 20;
    const MOST_THREADS: usize = 8;
    let pieces: Vec<(usize, &[f32])> = tensors
        .iter()
        .enumerate()
        .flat_map(|(at, (.., values))| values.chunks(PIECE).map(move |piece| (at, piece)))
        .collect();
    let of_piece = |values: &[f32]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(bytemuck::cast_slice(values));
        hasher
    };
    let values: usize = pieces.iter().map(|(_, piece)| piece.len()).sum();
    let threads = if values < WORTH_THREADS { 1 } else { lstm_kernels::threads().min(MOST_THREADS) };
    let sums: Vec<crc32fast::Hasher> = if threads == 1 {
        pieces.iter().map(|(_, piece)| of_piece(piece)).collect()
    } else {
        std::thread::scope(|scope| {
            let shares = pieces.chunks(pieces.len().div_ceil(threads));
            let running: Vec<_> = shares
                .map(|share| scope.spawn(move || share.iter().map(|(_, piece)| of_piece(piece)).collect::<Vec<_>>()))
                .collect();
            running.into_iter().flat_map(|thread| thread.join().expect("a checksum does not fail")).collect()
        })
    };
    let mut joined = vec![crc32fast::Hasher::new(); tensors.len()];
    pieces.iter().zip(&sums).for_each(|((at, _), sum)| joined[*at].combine(sum));
    joined
}

fn text_checksum(key: &str, text: &str) -> String {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(text.as_bytes());
    format!("{:08x}", hasher.finalize())
}

/// Writes a file, whole or not at all.
///
/// # Errors
/// When the folder cannot be written or is full; the old file, if any, is untouched.
pub fn write(
    path: &Path,
    tensors: &[Tensor],
    document: Value,
    texts: &BTreeMap<String, String>,
) -> Result<(), FormatError> {
    write_bytes(path, &to_bytes(path, tensors, document, texts)?)
}

/// The bytes of a file that shall be `path`.
pub(crate) fn to_bytes(
    path: &Path,
    tensors: &[Tensor],
    document: Value,
    texts: &BTreeMap<String, String>,
) -> Result<Vec<u8>, FormatError> {
    let crc32 = checksum(&document, tensors);
    let parts = tensors.iter().map(|(name, shape, values)| (*name, *shape, "F32", bytemuck::cast_slice(values)));
    file_bytes(path, VERSION, &crc32, &parts.collect::<Vec<_>>(), document, texts)
}

/// A tensor as it lies in a file: name, shape, type, bytes.
pub(super) type Part<'a> = (&'a str, &'a [usize], &'static str, &'a [u8]);

pub(super) fn file_bytes(
    path: &Path,
    version: u64,
    crc32: &str,
    parts: &[Part],
    document: Value,
    texts: &BTreeMap<String, String>,
) -> Result<Vec<u8>, FormatError> {
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    let sums: BTreeMap<&String, String> = texts.iter().map(|(key, text)| (key, text_checksum(key, text))).collect();
    let mut ours = json!({ "version": version, "crc32": crc32, "document": document });
    // Files without texts are those of before there were any, byte for byte in what they say.
    if !sums.is_empty() {
        ours["texts"] = json!(sums);
    }
    let ours = ours.to_string();
    let metadata: BTreeMap<&str, &str> =
        texts.iter().map(|(key, text)| (key.as_str(), text.as_str())).chain([(KEY, ours.as_str())]).collect();
    let mut header = format!("{{\"__metadata__\":{}", json!(metadata));
    let mut end = 0;
    for (name, shape, dtype, part) in parts {
        let start = end;
        end += part.len();
        let info = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
        header.push_str(&format!(",{}:{info}", json!(name)));
    }
    header.push('}');
    let length = (8 + header.len()).next_multiple_of(ALIGNMENT) - 8;
    if length as u64 > MOST_HEADER {
        return Err(unusable(format!("its header would have {length} bytes, more than the {MOST_HEADER} that it can")));
    }
    header.extend(std::iter::repeat_n(' ', length - header.len()));
    let mut bytes = Vec::with_capacity(8 + length + end);
    bytes.extend_from_slice(&(length as u64).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    parts.iter().for_each(|(.., part)| bytes.extend_from_slice(part));
    Ok(bytes)
}

impl Contents {
    /// The shape and the values of a tensor.
    pub fn get(&self, name: &str) -> Option<(&[usize], &[f32])> {
        self.places.get(name).map(|(shape, range)| (&shape[..], &self.values[range.clone()]))
    }

    /// The parameters of `layout`, which the file has: its values as they are where they lie as the layout says, else copied.
    pub(crate) fn into_params(self, layout: &Arc<Layout>) -> Params {
        let lies = |entry: &Entry| self.places.get(&entry.name).is_some_and(|(_, range)| *range == entry.slot.range());
        if self.values.len() == layout.len() && layout.entries().iter().all(lies) {
            return Params::of(layout.clone(), self.values);
        }
        let mut params = Params::zeros(layout.clone());
        for entry in layout.entries() {
            if let Some((_, values)) = self.get(&entry.name) {
                params.get_mut(entry.slot).copy_from_slice(values);
            }
        }
        params
    }

    /// Every tensor, in the order of the file.
    pub fn tensors(&self) -> Vec<Tensor<'_>> {
        let mut places: Vec<_> = self.places.iter().collect();
        places.sort_unstable_by_key(|(name, (_, range))| (range.start, range.end, *name));
        places.into_iter().map(|(name, (shape, range))| (&name[..], &shape[..], &self.values[range.clone()])).collect()
    }

    /// Refuses a tensor that nothing reads: what the file says would be more than what is used of it.
    pub(crate) fn refuse_others(&self, path: &Path, is_read: impl Fn(&str) -> bool) -> Result<(), FormatError> {
        let mut others: Vec<&String> = self.places.keys().filter(|name| !is_read(name)).collect();
        others.sort_unstable();
        others.first().map_or(Ok(()), |name| {
            let why = format!(
                "it has a tensor {name}, which the model that its configuration describes has none of; put the files it was \
                 trained with beside it"
            );
            Err(FormatError::Unusable { path: path.to_owned(), why })
        })
    }
}

/// The header of a file: what it is, and how long it has to be.
struct Header {
    metadata: Metadata,
    /// What stands under [`KEY`].
    ours: Value,
    texts: BTreeMap<String, String>,
    /// The bytes before the tensors.
    length: u64,
    quantized: bool,
}

/// Whether a file is one of this program, by its header; `false` for what is not.
pub(crate) fn is_ours(path: &Path) -> bool {
    let read = || -> Option<bool> {
        let mut file = std::fs::File::open(path).ok().filter(|_| path.is_file())?;
        let mut size = [0; 8];
        file.read_exact(&mut size).ok()?;
        let size = Some(u64::from_le_bytes(size)).filter(|size| *size <= MOST_HEADER)?;
        let mut header = Vec::new();
        file.take(size).read_to_end(&mut header).ok()?;
        let metadata: Metadata = serde_json::from_slice(&header).ok()?;
        Some(metadata.metadata().as_ref()?.contains_key(KEY))
    };
    read().unwrap_or(false)
}

/// The document of a file and nothing else of it; `None` where it is none of this program.
pub(crate) fn document(path: &Path) -> Option<Value> {
    let mut file = open(path).ok()?;
    let length = file.metadata().ok()?.len();
    header(path, &mut file, length).ok().map(|mut header| header.ours["document"].take())
}

/// The number of values of all tensors of a file of this program, by its header.
pub(crate) fn values(path: &Path) -> Option<usize> {
    let mut file = open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let header = header(path, &mut file, length).ok()?;
    Some(header.metadata.tensors().values().map(|info| info.shape.iter().product::<usize>()).sum())
}

pub(super) fn damaged(path: &Path, what: &str) -> FormatError {
    let why = format!("{what}: the file is truncated or damaged; restore it from a copy, or train again");
    FormatError::Unusable { path: path.to_owned(), why }
}

/// Reads the header of a file of `length` bytes, and checks that it goes with that.
fn header(path: &Path, file: &mut std::fs::File, length: u64) -> Result<Header, FormatError> {
    let trouble = |source| FormatError::Read { path: path.to_owned(), source };
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    let damaged = |what: &str| damaged(path, what);
    let mut size = [0; 8];
    if length < size.len() as u64 {
        return Err(damaged("it has no header"));
    }
    file.read_exact(&mut size).map_err(trouble)?;
    let size = u64::from_le_bytes(size);
    if size > MOST_HEADER || size > length - 8 {
        // What begins otherwise never was one: a text, an archive.
        let mut first = [0];
        if file.read_exact(&mut first).is_ok() && first != *b"{" {
            let why = "it is no model; give a run folder or a model file that `lstm train` made";
            return Err(unusable(why.to_owned()));
        }
        return Err(damaged(&format!("its header says that it has {size} bytes itself, in a file of {length}")));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(trouble)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| damaged(&e.to_string()))?;
    let ours = metadata.metadata().as_ref().and_then(|map| map.get(KEY));
    let ours = ours.ok_or_else(|| unusable("it was not written by this program".to_owned()))?;
    let ours: Value = serde_json::from_str(ours).map_err(|e| damaged(&e.to_string()))?;
    let quantized = match ours["version"].as_u64() {
        Some(version) if version > quantized::VERSION => {
            let newest = quantized::VERSION;
            return Err(unusable(format!("its version {version} is newer than {newest}; update the program")));
        }
        Some(version @ (VERSION | quantized::VERSION)) => version == quantized::VERSION,
        _ => return Err(damaged("it names no version")),
    };
    let known = ["version", "crc32", "document", "texts"];
    if let Some(key) = ours.as_object().and_then(|ours| ours.keys().find(|key| !known.contains(&key.as_str()))) {
        return Err(damaged(&format!("its header has a {key}")));
    }
    let data = metadata.data_len() as u64;
    if data != length - 8 - size {
        return Err(damaged(&format!("its tensors have {data} bytes, in a file of {length}")));
    }
    let is_known = |dtype| dtype == Dtype::F32 || quantized && dtype == Dtype::I8;
    if let Some((name, _)) = metadata.tensors().iter().find(|(_, info)| !is_known(info.dtype)) {
        return Err(damaged(&format!("{name} is not of 32-bit floating-point numbers")));
    }
    // Every text has its checksum, and every checksum its text; keys that others added are theirs.
    let mut texts = BTreeMap::new();
    for (key, sum) in ours["texts"].as_object().into_iter().flatten() {
        let text = metadata.metadata().as_ref().and_then(|map| map.get(key));
        match text.filter(|text| *sum == text_checksum(key, text).as_str()) {
            Some(text) => texts.insert(key.clone(), text.clone()),
            None => return Err(damaged(&format!("its {key} is not the one it was written with"))),
        };
    }
    Ok(Header { metadata, ours, texts, length: 8 + size, quantized })
}

/// Reads a file and proves its checksum. By its header it is known what it is and how long it has to be, before the rest
/// is read.
///
/// # Errors
/// A file that is missing, truncated, damaged, from a newer version, or not this program's.
pub fn read(path: &Path) -> Result<Contents, FormatError> {
    contents(path, false)
}

/// As [`read`], but values that are many are mapped and not read where that can be, see [`Mapped`].
pub(crate) fn map(path: &Path) -> Result<Contents, FormatError> {
    contents(path, true)
}

/// Values of fewer bytes are read as fast as they are mapped.
const WORTH_A_MAP: u64 = 4 << 20;

fn contents(path: &Path, maps: bool) -> Result<Contents, FormatError> {
    let trouble = |source| FormatError::Read { path: path.to_owned(), source };
    let mut file = open(path)?;
    let length = file.metadata().map_err(trouble)?.len();
    let Header { metadata, mut ours, texts, length: before, quantized } = header(path, &mut file, length)?;
    let data = length - before;
    let document = ours["document"].take();
    if quantized {
        let (places, values) = quantized::read(path, &mut file, data, &metadata, &document, &ours["crc32"])?;
        return Ok(Contents { document, texts, places, values: Values::Own(values), quantized });
    }
    let mapped = match maps && data >= WORTH_A_MAP {
        true => Mapped::open(&file, before as usize, length as usize).map_err(trouble)?,
        false => None,
    };
    let values = match mapped {
        Some(mapped) => Values::Mapped(mapped),
        None => Values::Own(read_values(path, &mut file, data)?),
    };
    let place = |range: (usize, usize)| range.0 / size_of::<f32>()..range.1 / size_of::<f32>();
    let places: Places = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| (name, (info.shape.clone(), place(info.data_offsets))))
        .collect();
    let contents = Contents { document, texts, places, values, quantized };
    if ours["crc32"] != checksum(&contents.document, &contents.tensors()).as_str() {
        return Err(damaged(path, "its checksum is wrong"));
    }
    Ok(contents)
}

/// Refuses a file of which there is no memory for what is `needed`.
pub(super) fn check_free(path: &Path, needed: u64) -> Result<(), FormatError> {
    if let Some(free) = free_memory().filter(|free| needed > *free) {
        let [needed, free] = [needed, free].map(|bytes| bytes >> 20);
        let why = format!(
            "its tensors take {needed} MiB of memory to read, but {free} MiB are free; close other programs, or use a \
             machine with more"
        );
        return Err(FormatError::Unusable { path: path.to_owned(), why });
    }
    Ok(())
}

/// Reads the `data` bytes of the values, if there is memory for them.
fn read_values(path: &Path, file: &mut std::fs::File, data: u64) -> Result<Aligned, FormatError> {
    check_free(path, data)?;
    let mut values = Aligned::zeros(data as usize / size_of::<f32>());
    let read = file.read_exact(bytemuck::cast_slice_mut(&mut values));
    read.map_err(|source| FormatError::Read { path: path.to_owned(), source })?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{TensorView, serialize};

    use super::*;

    #[test]
    fn files_round_trip_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let values = [1.0, -2.5, 3.0, f32::MIN_POSITIVE, 0.0, 6.0];
        let texts = BTreeMap::from([("b".to_owned(), "two \"words\"\n".to_owned()), ("a".to_owned(), "ä".to_owned())]);
        let write_it = || write(&path, &[("a", &[2, 3], &values)], json!({ "x": 1 }), &texts).unwrap();
        write_it();
        let bytes = std::fs::read(&path).unwrap();
        write_it();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let contents = read(&path).unwrap();
        assert_eq!(contents.get("a"), Some((&[2, 3][..], &values[..])));
        assert_eq!(contents.texts, texts);
        assert_eq!(contents.document["x"], 1);
    }

    /// More values than are read: they are mapped, their checksum is several threads', and writing them copies them.
    #[test]
    fn a_large_file_is_mapped_where_it_lies_as_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let values: Vec<f32> = (0..1_300_007).map(|i| (i as f32).sqrt()).collect();
        let (first, second) = values.split_at(700_001);
        // The second by name comes first.
        let tensors: [Tensor; 2] = [("z", &[first.len()], first), ("a", &[second.len()], second)];
        write(&path, &tensors, Value::Null, &BTreeMap::new()).unwrap();
        let mut layout = Layout::default();
        for (name, shape, _) in tensors {
            layout.add(name, shape);
        }
        let (layout, contents) = (Arc::new(layout), map(&path).unwrap());
        assert!(matches!(contents.values, Values::Mapped(_)));
        assert!(contents.values.as_ptr().addr().is_multiple_of(ALIGNMENT));
        let mut params = contents.into_params(&layout);
        assert_eq!(params.values(), values);
        params.values_mut()[5] = -1.0;
        assert_eq!(params.values()[..7], [&values[..5], &[-1.0, values[6]]].concat());
        assert_eq!(map(&path).unwrap().get("z").unwrap().1, first, "the file is as it was");
        // Of another order they are copied.
        let mut other = Layout::default();
        for (name, shape, _) in [tensors[1], tensors[0]] {
            other.add(name, shape);
        }
        assert_eq!(read(&path).unwrap().into_params(&Arc::new(other)).values(), [second, first].concat());
        // Damage is found in whatever thread.
        let healthy = std::fs::read(&path).unwrap();
        for place in [healthy.len() - 1, healthy.len() / 2, healthy.len() - 4 * values.len()] {
            let mut damaged = healthy.clone();
            damaged[place] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(map(&path).unwrap_err().to_string().contains("checksum"), "{place}");
        }
    }

    fn written() -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let tensors: [Tensor; 3] =
            [("b", &[2, 2], &[1.0, -2.5, 3.0, -0.0]), ("a", &[3], &[0.1, 0.2, 0.3]), ("none", &[0], &[])];
        let texts = BTreeMap::from([("words".to_owned(), "one\ntwo".to_owned())]);
        write(&path, &tensors, json!({ "name": "a \"run\"", "sum": 0.1 }), &texts).unwrap();
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
        write(&path, &[], json!(numbers), &BTreeMap::new()).unwrap();
        let read: Vec<f64> = serde_json::from_value(read(&path).unwrap().document).unwrap();
        assert_eq!(read, numbers);
    }

    #[test]
    fn a_newer_file_another_programs_and_none_are_told_apart() {
        let (folder, path, _) = written();
        let said = |path: &Path| read(path).unwrap_err().to_string();
        let view = || TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        let newer = json!({"version": quantized::VERSION + 1, "other": []}).to_string();
        let newer = HashMap::from([(KEY.to_owned(), newer)]);
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
        assert!(write(&path, &[], Value::Null, &BTreeMap::new()).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("no").join("model"), &[], Value::Null, &BTreeMap::new()).is_err());
    }
}
