//! Operators over constants: what exporters reorder gates with, and compute shapes with.

use super::node::{Node, place};
use super::tensor::{Tensor, Values, volume};

/// The room that folding has left, in values: no file needs much more than its own constants.
pub(super) struct Budget(u64);

/// Why an operator was not folded.
pub(super) enum Unfolded {
    /// It is none of those that are folded over constants.
    Unknown,
    /// Its inputs do not fit it.
    Unfit(String),
}

type Folded = Result<Tensor, Unfolded>;

impl Budget {
    /// For a file of so many bytes.
    pub(super) fn of(bytes: u64) -> Self {
        Self(bytes.saturating_mul(4).saturating_add(1 << 20))
    }

    /// Takes what an array of this shape needs.
    fn take(&mut self, shape: &[usize]) -> Result<usize, Unfolded> {
        let count = volume(shape).filter(|count| *count as u64 <= self.0);
        let count = count.ok_or_else(|| {
            Unfolded::Unfit(format!(
                "it makes an array {shape:?} of constants, which is more than the file can be about"
            ))
        })?;
        self.0 -= count as u64;
        Ok(count)
    }
}

fn unfit<T>(why: impl Into<String>) -> Result<T, Unfolded> {
    Err(Unfolded::Unfit(why.into()))
}

/// A row-major array's step along each axis.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// The places of all values of an array of `shape` in one that has these `strides` and begins at `first`.
fn places(shape: &[usize], strides: &[isize], first: isize) -> Vec<usize> {
    if shape.contains(&0) {
        return Vec::new();
    }
    let mut all = vec![first];
    for (size, stride) in shape.iter().zip(strides) {
        all = all.iter().flat_map(|base| (0..*size as isize).map(move |index| base + index * stride)).collect();
    }
    all.into_iter().map(|place| place.max(0) as usize).collect()
}

/// Axes by an input (`from` on) or an attribute, by the version of the operators.
pub(super) fn axes_of(node: &Node, inputs: &[Option<&Tensor>], from: usize) -> Option<Vec<i64>> {
    match inputs.get(from).copied().flatten() {
        Some(tensor) => tensor.wholes().map(<[i64]>::to_vec),
        None => node.ints("axes").map(<[i64]>::to_vec),
    }
}

/// The output of a node all of whose inputs are constants.
pub(super) fn fold(node: &Node, inputs: &[Option<&Tensor>], budget: &mut Budget) -> Folded {
    let input = |index: usize| match inputs.get(index).copied().flatten() {
        Some(tensor) => Ok(tensor),
        None => unfit(format!("its input {index} is missing")),
    };
    let shape_of = |tensor: &Tensor| -> Result<Vec<i64>, Unfolded> {
        tensor.wholes().map(<[i64]>::to_vec).ok_or_else(|| Unfolded::Unfit("its sizes are no whole numbers".to_owned()))
    };
    match node.operator() {
        "Identity" | "Dropout" => Ok(input(0)?.clone()),
        "Cast" => cast(input(0)?, node.int("to").unwrap_or(1)),
        "Shape" => {
            let shape: Vec<i64> = input(0)?.shape.iter().map(|size| *size as i64).collect();
            let shape = shape[range(node.int("start"), node.int("end"), shape.len())].to_vec();
            Ok(Tensor::whole("", vec![shape.len()], shape))
        }
        "Reshape" => {
            let (tensor, wanted) = (input(0)?, shape_of(input(1)?)?);
            let shape = reshaped(&tensor.shape, &wanted, node.int("allowzero") == Some(1));
            match shape {
                Some(shape) => Ok(tensor.reshaped(shape)),
                None => unfit(format!("{:?} cannot become {wanted:?}", tensor.shape)),
            }
        }
        "Squeeze" => {
            let tensor = input(0)?;
            let rank = tensor.shape.len();
            let axes = axes_of(node, inputs, 1);
            let is_gone = |axis: usize| match &axes {
                Some(axes) => axes.iter().any(|own| place(*own, rank) == Some(axis)),
                None => tensor.shape[axis] == 1,
            };
            let kept: Vec<usize> = (0..rank).filter(|axis| !is_gone(*axis)).map(|axis| tensor.shape[axis]).collect();
            match volume(&kept) == Some(tensor.len()) {
                true => Ok(tensor.reshaped(kept)),
                false => unfit("it removes an axis that is not of size 1"),
            }
        }
        "Unsqueeze" => {
            let tensor = input(0)?;
            let axes = axes_of(node, inputs, 1).unwrap_or_default();
            match unsqueezed(&tensor.shape, &axes, 1) {
                Some(shape) => Ok(tensor.reshaped(shape)),
                None => unfit(format!("axes {axes:?} do not fit {:?}", tensor.shape)),
            }
        }
        "Flatten" => {
            let tensor = input(0)?;
            let rank = tensor.shape.len();
            let axis = node.int("axis").unwrap_or(1);
            let axis = if axis == rank as i64 { Some(rank) } else { place(axis, rank) };
            let Some(axis) = axis else { return unfit("its axis is none") };
            let [front, back] = [&tensor.shape[..axis], &tensor.shape[axis..]].map(|part| volume(part).unwrap_or(0));
            Ok(tensor.reshaped(vec![front, back]))
        }
        "Transpose" => {
            let tensor = input(0)?;
            let rank = tensor.shape.len();
            let order = order_of(node, rank);
            let Some(order) = order else { return unfit("its perm is no order of the axes") };
            let strides = strides(&tensor.shape);
            let shape: Vec<usize> = order.iter().map(|axis| tensor.shape[*axis]).collect();
            let turned: Vec<isize> = order.iter().map(|axis| strides[*axis] as isize).collect();
            budget.take(&shape)?;
            Ok(tensor.picked(shape.clone(), places(&shape, &turned, 0).into_iter()))
        }
        "Slice" => slice(node, inputs, budget),
        "Concat" => {
            let tensors = (0..inputs.len()).map(input).collect::<Result<Vec<_>, _>>()?;
            let Some(first) = tensors.first() else { return unfit("it has no inputs") };
            let Some(axis) = place(node.int("axis").unwrap_or(0), first.shape.len()) else {
                return unfit("its axis is none");
            };
            concat(&tensors, axis, budget)
        }
        "Gather" => {
            let (tensor, index) = (input(0)?, input(1)?);
            let Some(axis) = place(node.int("axis").unwrap_or(0), tensor.shape.len()) else {
                return unfit("its axis is none");
            };
            let size = tensor.shape[axis];
            let index_values = shape_of(index)?;
            let chosen: Option<Vec<usize>> = index_values.iter().map(|index| place(*index, size)).collect();
            let Some(chosen) = chosen else { return unfit("it takes a place that is not there") };
            let shape = [&tensor.shape[..axis], &index.shape, &tensor.shape[axis + 1..]].concat();
            if budget.take(&shape)? == 0 {
                return Ok(tensor.picked(shape, std::iter::empty()));
            }
            let inner = volume(&tensor.shape[axis + 1..]).unwrap_or(0);
            let outer = volume(&tensor.shape[..axis]).unwrap_or(0);
            let places = (0..outer).flat_map(|outer| {
                chosen.iter().flat_map(move |index| (0..inner).map(move |at| (outer * size + index) * inner + at))
            });
            Ok(tensor.picked(shape, places))
        }
        "Expand" => {
            let (tensor, wanted) = (input(0)?, shape_of(input(1)?)?);
            let wanted: Option<Vec<usize>> = wanted.iter().map(|size| usize::try_from(*size).ok()).collect();
            let shape = wanted.and_then(|wanted| broadcast(&tensor.shape, &wanted));
            let Some(shape) = shape else { return unfit("its sizes do not fit") };
            budget.take(&shape)?;
            Ok(tensor.picked(shape.clone(), spread(&tensor.shape, &shape).into_iter()))
        }
        "ConstantOfShape" => {
            let shape: Option<Vec<usize>> =
                shape_of(input(0)?)?.iter().map(|size| usize::try_from(*size).ok()).collect();
            let Some(shape) = shape else { return unfit("its sizes are none") };
            let count = budget.take(&shape)?;
            // What is filled with is read by the caller, who has the file.
            Ok(Tensor::float("", shape, vec![0.0; count]))
        }
        "Neg" => {
            let tensor = input(0)?;
            Ok(match &tensor.values {
                Values::Float(values) => {
                    Tensor::float(&tensor.name, tensor.shape.clone(), values.iter().map(|v| -v).collect())
                }
                Values::Whole(values) => {
                    Tensor::whole(&tensor.name, tensor.shape.clone(), values.iter().map(|v| v.wrapping_neg()).collect())
                }
            })
        }
        operator @ ("Add" | "Sub" | "Mul" | "Div") => {
            let (a, b) = (input(0)?, input(1)?);
            let Some(shape) = broadcast(&a.shape, &b.shape) else { return unfit("its inputs do not fit each other") };
            budget.take(&shape)?;
            let (at_a, at_b) = (spread(&a.shape, &shape), spread(&b.shape, &shape));
            let both = at_a.into_iter().zip(at_b);
            match (&a.values, &b.values) {
                (Values::Float(x), Values::Float(y)) => {
                    let values = both.map(|(p, q)| match operator {
                        "Add" => x[p] + y[q],
                        "Sub" => x[p] - y[q],
                        "Mul" => x[p] * y[q],
                        _ => x[p] / y[q],
                    });
                    Ok(Tensor::float(&a.name, shape, values.collect()))
                }
                (Values::Whole(x), Values::Whole(y)) => {
                    let values = both.map(|(p, q)| match operator {
                        "Add" => x[p].checked_add(y[q]),
                        "Sub" => x[p].checked_sub(y[q]),
                        "Mul" => x[p].checked_mul(y[q]),
                        _ => x[p].checked_div(y[q]),
                    });
                    match values.collect::<Option<Vec<i64>>>() {
                        Some(values) => Ok(Tensor::whole(&a.name, shape, values)),
                        None => unfit("its result is no number"),
                    }
                }
                _ => unfit("its inputs are of two kinds"),
            }
        }
        _ => Err(Unfolded::Unknown),
    }
}

/// The part `start..end` of so many axes that `Shape` gives.
pub(super) fn range(start: Option<i64>, end: Option<i64>, rank: usize) -> std::ops::Range<usize> {
    let at = |axis: i64| if axis < 0 { axis.saturating_add(rank as i64) } else { axis }.clamp(0, rank as i64) as usize;
    let (start, end) = (at(start.unwrap_or(0)), at(end.unwrap_or(rank as i64)));
    start..end.max(start)
}

/// The order of the axes that `Transpose` gives: reversed, where it is not said.
pub(super) fn order_of(node: &Node, rank: usize) -> Option<Vec<usize>> {
    let Some(perm) = node.ints("perm") else { return Some((0..rank).rev().collect()) };
    let order: Option<Vec<usize>> = perm.iter().map(|axis| place(*axis, rank)).collect();
    order.filter(|order| order.len() == rank && (0..rank).all(|axis| order.contains(&axis)))
}

/// A shape with axes of `one` at these places of the result.
pub(super) fn unsqueezed<T: Clone>(shape: &[T], axes: &[i64], one: T) -> Option<Vec<T>> {
    let rank = shape.len() + axes.len();
    let mut new: Vec<usize> = axes.iter().map(|axis| place(*axis, rank)).collect::<Option<_>>()?;
    new.sort_unstable();
    new.dedup();
    if new.len() != axes.len() || rank > 16 {
        return None;
    }
    let mut old = shape.iter();
    (0..rank).map(|axis| if new.contains(&axis) { Some(one.clone()) } else { old.next().cloned() }).collect()
}

fn cast(tensor: &Tensor, to: i64) -> Folded {
    use super::proto::data;
    let to_float = [data::FLOAT, data::FLOAT16, data::DOUBLE, data::BFLOAT16].contains(&(to as i32));
    let shape = tensor.shape.clone();
    Ok(match &tensor.values {
        Values::Whole(values) if to_float => {
            Tensor::float(&tensor.name, shape, values.iter().map(|value| *value as f32).collect())
        }
        Values::Float(values) if !to_float => {
            Tensor::whole(&tensor.name, shape, values.iter().map(|value| *value as i64).collect())
        }
        _ => tensor.clone(),
    })
}

/// The shape that `Reshape` asks for.
fn reshaped(shape: &[usize], wanted: &[i64], keeps_zero: bool) -> Option<Vec<usize>> {
    let total = volume(shape)?;
    let mut sizes: Vec<usize> = Vec::new();
    for (place, size) in wanted.iter().enumerate() {
        sizes.push(match size {
            -1 => 1,
            0 if !keeps_zero => *shape.get(place)?,
            size => usize::try_from(*size).ok()?,
        });
    }
    if let Some(open) = wanted.iter().position(|size| *size == -1) {
        let rest = volume(&sizes)?;
        sizes[open] = total.checked_div(rest)?;
    }
    (volume(&sizes)? == total && sizes.len() <= 16).then_some(sizes)
}

fn slice(node: &Node, inputs: &[Option<&Tensor>], budget: &mut Budget) -> Folded {
    let Some(tensor) = inputs.first().copied().flatten() else { return unfit("its input is missing") };
    let Some(cuts) = cuts(node, inputs) else { return unfit("where it cuts is not said in numbers") };
    let rank = tensor.shape.len();
    let (mut shape, mut first) = (tensor.shape.clone(), 0isize);
    let mut steps: Vec<isize> = strides(&tensor.shape).iter().map(|stride| *stride as isize).collect();
    for Cut { axis, start, end, step } in cuts {
        let Some(axis) = place(axis, rank) else { return unfit("its axis is none") };
        let size = tensor.shape[axis] as i64;
        let from_end = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
        let (start, end) = (from_end(start), from_end(end));
        let (start, end) = match step > 0 {
            true => (start.clamp(0, size), end.clamp(0, size)),
            false => (start.clamp(0, size - 1), end.clamp(-1, size - 1)),
        };
        let span = if step > 0 { end - start } else { start - end };
        let count = if span <= 0 { 0 } else { (span as u64).div_ceil(step.unsigned_abs()) };
        shape[axis] = count as usize;
        if count > 0 {
            first += start as isize * steps[axis];
        }
        steps[axis] = steps[axis].saturating_mul(step as isize);
    }
    let count = budget.take(&shape)?;
    let places = if count == 0 { Vec::new() } else { places(&shape, &steps, first) };
    Ok(tensor.picked(shape, places.into_iter()))
}

/// What `Slice` keeps of an axis.
pub(super) struct Cut {
    pub(super) axis: i64,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) step: i64,
}

/// What `Slice` keeps, by inputs or, before version 10, by attributes.
pub(super) fn cuts(node: &Node, inputs: &[Option<&Tensor>]) -> Option<Vec<Cut>> {
    let numbers = |place: usize, attribute: &str| match inputs.get(place).copied().flatten() {
        Some(tensor) => tensor.wholes().map(<[i64]>::to_vec),
        None => node.ints(attribute).map(<[i64]>::to_vec),
    };
    let (starts, ends) = (numbers(1, "starts")?, numbers(2, "ends")?);
    let axes = numbers(3, "axes").unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = numbers(4, "steps").unwrap_or_else(|| vec![1; starts.len()]);
    let fits = [ends.len(), axes.len(), steps.len()] == [starts.len(); 3] && !steps.contains(&0);
    let all = |index: usize| Cut { axis: axes[index], start: starts[index], end: ends[index], step: steps[index] };
    fits.then(|| (0..starts.len()).map(all).collect())
}

fn concat(tensors: &[&Tensor], axis: usize, budget: &mut Budget) -> Folded {
    let first = tensors[0];
    let mut shape = first.shape.clone();
    shape[axis] = 0;
    for tensor in tensors {
        let fits = tensor.shape.len() == shape.len()
            && (0..shape.len()).all(|other| other == axis || tensor.shape[other] == shape[other])
            && tensor.floats().is_some() == first.floats().is_some();
        if !fits {
            return unfit("its inputs do not fit each other");
        }
        shape[axis] = shape[axis].saturating_add(tensor.shape[axis]);
    }
    if budget.take(&shape)? == 0 {
        return Ok(first.picked(shape, std::iter::empty()));
    }
    let outer = volume(&shape[..axis]).unwrap_or(0);
    let block = |tensor: &Tensor| tensor.len().checked_div(outer).unwrap_or(0);
    let name = &first.name;
    let parts = (0..outer).flat_map(|outer| tensors.iter().map(move |tensor| (tensor, outer)));
    Ok(match &first.values {
        Values::Float(_) => {
            let values = parts
                .flat_map(|(tensor, outer)| &tensor.floats().unwrap_or(&[])[outer * block(tensor)..][..block(tensor)]);
            Tensor::float(name, shape.clone(), values.copied().collect())
        }
        Values::Whole(_) => {
            let values = parts
                .flat_map(|(tensor, outer)| &tensor.wholes().unwrap_or(&[])[outer * block(tensor)..][..block(tensor)]);
            Tensor::whole(name, shape.clone(), values.copied().collect())
        }
    })
}

/// The parts of `Split`, each a constant.
pub(super) fn split(node: &Node, inputs: &[Option<&Tensor>], budget: &mut Budget) -> Result<Vec<Tensor>, Unfolded> {
    let Some(tensor) = inputs.first().copied().flatten() else { return unfit("its input is missing") };
    let Some(axis) = place(node.int("axis").unwrap_or(0), tensor.shape.len()) else { return unfit("its axis is none") };
    let (size, parts) = (tensor.shape[axis], node.proto.output.len());
    let given = match inputs.get(1).copied().flatten() {
        Some(tensor) => tensor.wholes().map(<[i64]>::to_vec),
        None => node.ints("split").map(<[i64]>::to_vec),
    };
    let given: Option<Vec<usize>> = match given {
        Some(sizes) => sizes.iter().map(|size| usize::try_from(*size).ok()).collect(),
        None if parts > 0 => {
            let each = size.div_ceil(parts);
            Some((0..parts).map(|part| each.min(size.saturating_sub(part * each))).collect())
        }
        None => None,
    };
    let sizes = given
        .filter(|sizes| sizes.len() == parts && sizes.iter().try_fold(0usize, |a, b| a.checked_add(*b)) == Some(size));
    let Some(sizes) = sizes else { return unfit("its sizes do not add up") };
    let strides: Vec<isize> = strides(&tensor.shape).iter().map(|stride| *stride as isize).collect();
    let mut first = 0;
    sizes
        .into_iter()
        .map(|size| {
            let mut shape = tensor.shape.clone();
            shape[axis] = size;
            let count = budget.take(&shape)?;
            let places = if count == 0 { Vec::new() } else { places(&shape, &strides, first * strides[axis]) };
            first += size as isize;
            Ok(tensor.picked(shape, places.into_iter()))
        })
        .collect()
}

/// The shape that two become together.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    let joined = (0..rank).map(|axis| match (size(a, axis), size(b, axis)) {
        (1, size) | (size, 1) => Some(size),
        (x, y) if x == y => Some(x),
        _ => None,
    });
    joined.collect()
}

/// For every value of `shape`, its place in an array that was spread to it.
fn spread(own: &[usize], shape: &[usize]) -> Vec<usize> {
    let strides = strides(own);
    let steps: Vec<isize> = (0..shape.len())
        .map(|axis| match (axis + own.len()).checked_sub(shape.len()) {
            Some(axis) if own[axis] != 1 => strides[axis] as isize,
            _ => 0,
        })
        .collect();
    places(shape, &steps, 0)
}
