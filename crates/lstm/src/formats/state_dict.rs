//! Named tensors, as PyTorch's state dicts have them, and the network that is found among them by name and shape.

mod find;
mod named;
mod names;
mod tensors;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::import::{Hints, Import};
use super::network::Network;
use super::{FormatError, write_bytes};

pub(super) use find::find;
pub(super) use named::{Named, RESIDUAL, TorchLstm, named, readout_name, torch_lstms};
pub(super) use tensors::{Array, Float, StateDict};

/// Reads a `.safetensors` file of PyTorch's names.
///
/// # Errors
/// As [`foreign::read`](crate::formats::foreign::read).
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
