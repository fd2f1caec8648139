//! The tree of an HDF5 file: its arrays by path, the texts that are attributes of its groups.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use hdf5_pure::{Dataset, Datatype, DatatypeByteOrder, File, FloatingPointLayout, FormatError, Group, Source};

use super::super::state_dict::Float;

/// The arrays of a file, whose values are not read yet.
pub(super) struct Tree {
    file: File,
    /// The bytes of the file.
    size: u64,
    arrays: BTreeMap<String, Stored>,
    /// What is beneath each group, the root's name being empty.
    groups: BTreeMap<String, Group>,
}

/// An array of a file.
struct Stored {
    dataset: Dataset,
    shape: Vec<usize>,
    float: Option<Float>,
}

/// How deep groups lie in each other at most; a group may be its own child.
const DEPTH: usize = 16;
/// Groups and arrays that no chain of layers has.
const MOST: usize = 1 << 14;
/// How many times a file's size an array may take: float16 doubles as float32, chunks may be compressed.
const GROWTH: u64 = 16;
/// What small files may claim beyond that.
const SLACK: u64 = 1 << 20;

impl Tree {
    /// Opens a file that is in memory and goes through its groups.
    ///
    /// # Errors
    /// A sentence on a file that is damaged.
    pub(super) fn open(bytes: Vec<u8>) -> Result<Self, String> {
        let size = bytes.len() as u64;
        let left = AtomicU64::new(size.saturating_mul(GROWTH).saturating_add(16 * SLACK));
        let file = File::from_source(Bounded { bytes, left }).map_err(damaged)?;
        let mut tree = Self { size, arrays: BTreeMap::new(), groups: BTreeMap::new(), file };
        let mut left = MOST;
        let mut open = vec![(String::new(), tree.file.root(), 0)];
        while let Some((path, group, depth)) = open.pop() {
            for (name, dataset) in group.iter_datasets().map_err(damaged)? {
                count(&mut left)?;
                let shape = dataset.shape().map_err(damaged)?;
                let shape = shape.into_iter().map(usize::try_from).collect::<Result<_, _>>().map_err(damaged)?;
                let float = form(&dataset.datatype().map_err(damaged)?);
                tree.arrays.insert(join(&path, &name), Stored { dataset, shape, float });
            }
            for (name, group) in group.iter_groups().map_err(damaged)? {
                count(&mut left)?;
                if depth == DEPTH {
                    return Err(format!(
                        "its groups lie in each other more than {DEPTH} deep (…{path}); Keras writes no such file"
                    ));
                }
                open.push((join(&path, &name), group, depth + 1));
            }
            tree.groups.insert(path, group);
        }
        Ok(tree)
    }

    /// The paths of all arrays, in order.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.arrays.keys().map(String::as_str)
    }

    /// The shape of an array.
    pub(super) fn shape(&self, path: &str) -> Option<&[usize]> {
        self.arrays.get(path).map(|stored| &stored.shape[..])
    }

    /// Whether there is such a group.
    pub(super) fn has_group(&self, path: &str) -> bool {
        self.groups.contains_key(path)
    }

    /// The names of the groups that lie in a group, in order.
    pub(super) fn groups_in(&self, path: &str) -> Vec<&str> {
        let start = join(path, "");
        let beneath = self.groups.keys().filter_map(|name| name.strip_prefix(&start));
        beneath.filter(|name| !name.is_empty() && !name.contains('/')).collect()
    }

    /// The values of an array, and what they are stored as.
    ///
    /// # Errors
    /// A sentence on an array that holds no numbers with a fraction, claims more than the file can hold, or is damaged.
    pub(super) fn read(&self, path: &str) -> Result<(Vec<f32>, Float), String> {
        let stored = self.arrays.get(path).ok_or_else(|| format!("{path} is not in it"))?;
        let float = stored.float.ok_or_else(|| {
            let form = stored.dataset.dtype().map_or_else(|error| error.to_string(), |form| form.to_string());
            format!("{path} holds {form}, not numbers with a fraction")
        })?;
        let width = stored.dataset.element_size().map_err(damaged)?;
        let claimed = stored.shape.iter().try_fold(width, |bytes, side| bytes.checked_mul(*side as u64));
        let most = self.size.saturating_mul(GROWTH).saturating_add(SLACK);
        if claimed.is_none_or(|claimed| claimed > most) {
            return Err(format!(
                "{path} claims {:?} values, in a file of {} bytes: the file is damaged; fetch or save it again",
                stored.shape, self.size
            ));
        }
        let bytes = stored.dataset.read_raw().map_err(|error| format!("{path}: {}", damaged(error)))?;
        Ok((float.values(&bytes), float))
    }

    /// An attribute of a group that is a text.
    pub(super) fn text(&self, group: &str, name: &str) -> Option<String> {
        let attributes = self.groups.get(group)?.attrs().ok()?;
        attributes.get(name)?.as_str().map(str::to_owned)
    }

    /// An attribute of a group that is a list of texts. One that is too large for an attribute is in several: `name0`, `name1`, …
    pub(super) fn texts(&self, group: &str, name: &str) -> Option<Vec<String>> {
        let attributes = self.groups.get(group)?.attrs().ok()?;
        // An empty list is one of numbers, as numpy makes it.
        let list = |name: &str| attributes.get(name).map(|value| value.as_strings().unwrap_or(&[]).to_vec());
        list(name).or_else(|| {
            let parts: Vec<_> = (0..).map_while(|part| list(&format!("{name}{part}"))).collect();
            (!parts.is_empty()).then(|| parts.concat())
        })
    }
}

/// A file in memory of which only so much is read in all: a few bytes can name the same text thousands of times, or a group that is
/// its own child.
struct Bounded {
    bytes: Vec<u8>,
    left: AtomicU64,
}

impl Source for Bounded {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FormatError> {
        let wanted = buffer.len();
        let read = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(wanted as u64));
        let read =
            read.map_err(|_| FormatError::Source("it names more bytes than a file of its size holds".to_owned()));
        read?;
        let rest = usize::try_from(offset).ok().and_then(|start| self.bytes.get(start..)).unwrap_or(&[]);
        let there = rest.get(..wanted).ok_or(FormatError::UnexpectedEof { expected: wanted, available: rest.len() })?;
        buffer.copy_from_slice(there);
        Ok(())
    }
}

/// `a/b`; the root has no name.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

fn damaged(error: impl std::fmt::Display) -> String {
    format!("{error}: the file is truncated or damaged; fetch or save it again")
}

fn count(left: &mut usize) -> Result<(), String> {
    *left = left
        .checked_sub(1)
        .ok_or_else(|| format!("it has more than {MOST} groups and arrays; no chain of layers has"))?;
    Ok(())
}

/// What numbers with a fraction are stored as. bfloat16 is two bytes that HDF5 knows nothing of: `void16` of numpy, beside which Keras
/// 3 notes its name in weights files and nothing in `.h5` files.
fn form(datatype: &Datatype) -> Option<Float> {
    match datatype {
        Datatype::FloatingPoint { size, byte_order: DatatypeByteOrder::LittleEndian, layout } => {
            match (size, layout.exponent_size, layout.mantissa_size, layout.exponent_bias) {
                (8, ..) if *layout == FloatingPointLayout::IEEE754_BINARY64 => Some(Float::F64),
                (4, ..) if *layout == FloatingPointLayout::IEEE754_BINARY32 => Some(Float::F32),
                (2, 5, 10, 15) => Some(Float::F16),
                (2, 8, 7, 127) => Some(Float::Bf16),
                _ => None,
            }
        }
        Datatype::Opaque { size: 2, .. } => Some(Float::Bf16),
        _ => None,
    }
}
