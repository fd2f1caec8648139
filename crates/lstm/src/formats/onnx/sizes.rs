//! Sizes that are computed when a graph runs: the operators that exporters compute shapes with.

use super::axes::Dim;
use super::fold::{self, cuts, range};
use super::follow::{Followed, Follower, Value, as_constant, unknown};
use super::node::{Node, place};
use super::tensor::Tensor;

impl Follower<'_> {
    /// Sizes that the file fixes as a constant.
    pub(super) fn fixed(&self, value: &Value) -> Value {
        let Value::Sizes { dims, is_scalar } = value else { return value.clone() };
        let numbers: Option<Vec<Dim>> = dims.iter().map(|dim| dim.known(&self.sizes).map(Dim::number)).collect();
        numbers.map_or_else(|| value.clone(), |dims| sizes(dims, *is_scalar))
    }

    /// Arithmetic and shape operators over sizes.
    pub(super) fn of_sizes(&self, node: &Node, inputs: &[Option<Value>]) -> Followed {
        let first = inputs[0].as_ref().and_then(as_sizes);
        let (dims, is_scalar) = first.ok_or_else(unknown)?;
        let whole = |place: usize| match inputs.get(place) {
            Some(Some(Value::Constant(tensor))) => tensor.wholes().map(<[i64]>::to_vec),
            _ => None,
        };
        let result = match node.operator() {
            "Identity" | "Cast" => sizes(dims, is_scalar),
            "Squeeze" if dims.len() == 1 => sizes(dims, true),
            "Unsqueeze" if is_scalar => sizes(dims, false),
            "Reshape" => sizes(dims, whole(1).is_some_and(|shape| shape.is_empty())),
            "Gather" => {
                let Some(Some(Value::Constant(index))) = inputs.get(1) else { return Err(unknown()) };
                let chosen = index.wholes().unwrap_or(&[]).iter();
                let chosen: Option<Vec<Dim>> = chosen.map(|at| Some(dims[place(*at, dims.len())?].clone())).collect();
                sizes(chosen.ok_or("it takes a size that is not there")?, index.shape.is_empty())
            }
            "Slice" => {
                let constants: Vec<Option<&Tensor>> = inputs.iter().map(|value| as_constant(value.as_ref())).collect();
                let cuts = cuts(node, &constants).ok_or_else(unknown)?;
                let [fold::Cut { start, end, step: 1, .. }] = cuts[..] else { return Err(unknown()) };
                sizes(dims[range(Some(start), Some(end), dims.len())].to_vec(), false)
            }
            "Concat" => {
                let all: Option<Vec<_>> = inputs.iter().flatten().map(as_sizes).collect();
                let all = all.ok_or_else(unknown)?;
                sizes(all.into_iter().flat_map(|(dims, _)| dims).collect(), false)
            }
            "Mul" => {
                let (other, other_scalar) =
                    inputs.get(1).and_then(Option::as_ref).and_then(as_sizes).ok_or_else(unknown)?;
                let count = dims.len().max(other.len());
                if [dims.len(), other.len()].iter().any(|len| *len != count && *len != 1) {
                    return Err("its sizes do not fit each other".to_owned());
                }
                let at = |dims: &[Dim], place: usize| dims[if dims.len() == 1 { 0 } else { place }].clone();
                let products = (0..count).map(|place| at(&dims, place).times(&at(&other, place))).collect();
                sizes(products, is_scalar && other_scalar)
            }
            _ => return Err(unknown()),
        };
        Ok(vec![result])
    }
}

/// Sizes, as a constant where none of them waits for the input.
pub(super) fn sizes(dims: Vec<Dim>, is_scalar: bool) -> Value {
    if dims.iter().all(|dim| dim.inputs.is_empty()) {
        let shape = if is_scalar { vec![] } else { vec![dims.len()] };
        return Value::Constant(Tensor::whole("", shape, dims.iter().map(|dim| dim.number).collect()));
    }
    Value::Sizes { dims, is_scalar }
}

/// The sizes that a value holds, if it holds some: at most as many as a tensor has axes.
pub(super) fn as_sizes(value: &Value) -> Option<(Vec<Dim>, bool)> {
    match value {
        Value::Sizes { dims, is_scalar } => Some((dims.clone(), *is_scalar)),
        Value::Constant(tensor) if tensor.shape.len() <= 1 && tensor.len() <= 16 => {
            Some((tensor.wholes()?.iter().map(|size| Dim::number(*size)).collect(), tensor.shape.is_empty()))
        }
        _ => None,
    }
}
