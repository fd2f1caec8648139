//! Constants of a graph: values of a tensor, wherever the file keeps them, and what folding makes of them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path};
use std::rc::Rc;

use prost::bytes::Bytes;

use super::super::state_dict::Float;
use super::proto::{StringStringEntryProto, TensorProto, data};
use crate::said;

/// A constant array, row-major.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// The name that its values had first.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
}

/// Its values; what folding only names anew is not copied.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Float(Rc<Vec<f32>>),
    Whole(Rc<Vec<i64>>),
}

/// The files that tensors are read from, and what of them was said.
pub(super) struct Storage<'a> {
    /// The model's file.
    path: &'a Path,
    /// The bytes of other files, by the name that the model gives them.
    files: HashMap<String, Bytes>,
    /// The forms of the numbers that were read.
    pub(super) forms: BTreeSet<Float>,
    /// The bytes read of all files.
    pub(super) stored: u64,
}

impl Tensor {
    /// A vector of whole numbers.
    pub(super) fn whole(name: &str, shape: Vec<usize>, values: Vec<i64>) -> Self {
        Self { name: name.to_owned(), shape, values: Values::Whole(Rc::new(values)) }
    }

    /// Numbers with a fraction.
    pub(super) fn float(name: &str, shape: Vec<usize>, values: Vec<f32>) -> Self {
        Self { name: name.to_owned(), shape, values: Values::Float(Rc::new(values)) }
    }

    /// The number of values.
    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Float(values) => values.len(),
            Values::Whole(values) => values.len(),
        }
    }

    /// Its values, if they have a fraction.
    pub(super) fn floats(&self) -> Option<&[f32]> {
        match &self.values {
            Values::Float(values) => Some(values),
            Values::Whole(_) => None,
        }
    }

    /// Its values, if they are whole.
    pub(super) fn wholes(&self) -> Option<&[i64]> {
        match &self.values {
            Values::Whole(values) => Some(values),
            Values::Float(_) => None,
        }
    }

    /// The same values in another shape.
    pub(super) fn reshaped(&self, shape: Vec<usize>) -> Self {
        Self { shape, ..self.clone() }
    }

    /// The values at `places` of this one, in a shape.
    pub(super) fn picked(&self, shape: Vec<usize>, places: impl Iterator<Item = usize>) -> Self {
        let values = match &self.values {
            Values::Float(values) => Values::Float(Rc::new(places.map(|place| values[place]).collect())),
            Values::Whole(values) => Values::Whole(Rc::new(places.map(|place| values[place]).collect())),
        };
        Self { name: self.name.clone(), shape, values }
    }
}

/// The number of values of a shape, if it is one.
pub(super) fn volume(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))
}

impl<'a> Storage<'a> {
    pub(super) fn new(path: &'a Path, stored: u64) -> Self {
        Self { path, files: HashMap::new(), forms: BTreeSet::new(), stored }
    }

    /// The values of a tensor.
    ///
    /// # Errors
    /// A sentence, without the tensor's name, on what is damaged or of another kind.
    pub(super) fn tensor(&mut self, proto: &TensorProto) -> Result<Tensor, String> {
        let name = proto.name.clone().unwrap_or_default();
        let shape: Option<Vec<usize>> = proto.dims.iter().map(|size| usize::try_from(*size).ok()).collect();
        let shape = shape.filter(|shape| shape.len() <= 8);
        let count = shape.as_ref().and_then(|shape| volume(shape));
        let (Some(shape), Some(count)) = (shape, count) else {
            return Err(format!("its shape {:?} is none", proto.dims));
        };
        if proto.segment.is_some() {
            return Err("it is stored in segments, which no program writes".to_owned());
        }
        let kind = proto.data_type.unwrap_or(0);
        let raw = match proto.data_location.unwrap_or(0) {
            0 => proto.raw_data.clone(),
            1 => Some(self.external(&proto.external_data)?),
            other => return Err(format!("its values are in a place of the kind {other}, which is not known")),
        };
        let fits = |found: usize| match found == count {
            true => Ok(()),
            false => Err(format!(
                "its shape {shape:?} is of {}, but {found} are stored: the file is damaged",
                said::count(count, "value")
            )),
        };
        let float = match kind {
            data::FLOAT => Some(Float::F32),
            data::DOUBLE => Some(Float::F64),
            data::FLOAT16 => Some(Float::F16),
            data::BFLOAT16 => Some(Float::Bf16),
            _ => None,
        };
        if let Some(float) = float {
            let values = match raw {
                Some(raw) => {
                    if raw.len() % float.bytes() != 0 {
                        return Err(format!("it has {} bytes, which are no values: the file is damaged", raw.len()));
                    }
                    fits(raw.len() / float.bytes())?;
                    float.values(&raw)
                }
                None => {
                    let values: Vec<f32> = match float {
                        Float::F32 => proto.float_data.clone(),
                        Float::F64 => proto.double_data.iter().map(|value| *value as f32).collect(),
                        // In the lower half of whole numbers.
                        Float::F16 | Float::Bf16 => {
                            let bytes = proto.int32_data.iter().flat_map(|value| (*value as u16).to_le_bytes());
                            float.values(&bytes.collect::<Vec<u8>>())
                        }
                    };
                    fits(values.len())?;
                    values
                }
            };
            self.forms.insert(float);
            return Ok(Tensor { name, shape, values: Values::Float(Rc::new(values)) });
        }
        let values: Vec<i64> = match (kind, raw) {
            (data::INT64 | data::UINT64, Some(raw)) if raw.len() % 8 == 0 => {
                raw.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
            }
            (data::INT32 | data::UINT32, Some(raw)) if raw.len() % 4 == 0 => {
                raw.as_chunks::<4>().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect()
            }
            (data::INT16 | data::UINT16, Some(raw)) if raw.len() % 2 == 0 => {
                raw.as_chunks::<2>().0.iter().map(|bytes| i64::from(i16::from_le_bytes(*bytes))).collect()
            }
            (data::INT8, Some(raw)) => raw.iter().map(|byte| i64::from(*byte as i8)).collect(),
            (data::UINT8 | data::BOOL, Some(raw)) => raw.iter().map(|byte| i64::from(*byte)).collect(),
            (data::INT64, None) => proto.int64_data.clone(),
            (data::UINT32 | data::UINT64, None) => proto.uint64_data.iter().map(|value| *value as i64).collect(),
            (data::INT32 | data::INT16 | data::UINT16 | data::INT8 | data::UINT8 | data::BOOL, None) => {
                proto.int32_data.iter().map(|value| i64::from(*value)).collect()
            }
            _ => return Err(format!("its values are of the type {kind}, of which nothing is read here")),
        };
        fits(values.len())?;
        Ok(Tensor { name, shape, values: Values::Whole(Rc::new(values)) })
    }

    /// The bytes that lie in another file, which has to be in the model's own folder.
    fn external(&mut self, entries: &[StringStringEntryProto]) -> Result<Bytes, String> {
        let entry = |key: &str| {
            let found = entries.iter().find(|entry| entry.key.as_deref() == Some(key));
            found.and_then(|entry| entry.value.as_deref())
        };
        let number = |key: &str| match entry(key) {
            Some(text) => text.parse::<usize>().map(Some).map_err(|_| format!("its {key} {text:?} is no number")),
            None => Ok(None),
        };
        let location = entry("location").ok_or("nothing says in which file its values are")?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let inside =
            Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(format!("its values are in {location:?}, which is outside the folder of the model"));
        }
        let bytes = match self.files.get(location) {
            Some(bytes) => bytes.clone(),
            None => {
                let folder = self.path.parent().unwrap_or(Path::new(""));
                let path = folder.join(location);
                let missing = |error: std::io::Error| {
                    format!(
                        "its values are in {}, which cannot be read: {error}; it belongs beside the model",
                        path.display()
                    )
                };
                // A link may lead anywhere.
                let root = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                let real = path.canonicalize().map_err(missing)?;
                if !real.starts_with(root.canonicalize().map_err(missing)?) {
                    return Err(format!("its values are in {location:?}, which leads outside the folder of the model"));
                }
                if !real.is_file() {
                    return Err(format!("its values are in {location:?}, which is no file"));
                }
                let bytes = Bytes::from(std::fs::read(&real).map_err(missing)?);
                self.stored += bytes.len() as u64;
                self.files.insert(location.to_owned(), bytes.clone());
                bytes
            }
        };
        let all = bytes.len();
        let end = length.map_or(Some(all), |length| offset.checked_add(length));
        match end.filter(|end| offset <= *end && *end <= all) {
            Some(end) => Ok(bytes.slice(offset..end)),
            None => Err(format!(
                "its values should be {} bytes from byte {offset} of {location}, which has {all}: the file is another, or \
                 truncated",
                length.map_or("some".to_owned(), |length| length.to_string())
            )),
        }
    }
}
