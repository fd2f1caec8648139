//! Operators over what flows from the input: shapes that are turned, steps that are taken, directions that are joined.

use super::super::network::{Activation, Stack};
use super::axes::{Axis, Dim, Factor, InputSizes, is_one, plain, reshape};
use super::fold::{self, axes_of, cuts, order_of, unsqueezed};
use super::follow::{Flow, Followed, Follower, Part, States, Value, as_constant, unknown};
use super::node::{Node, place};
use super::operator;
use super::proto::data;
use super::sizes::as_sizes;
use super::states::concat_states;
use super::tensor::Tensor;

impl Follower<'_> {
    /// Operators over what flows.
    pub(super) fn flow(&mut self, node: &Node, flow: &Flow, inputs: &[Option<Value>]) -> Followed {
        let constants: Vec<Option<&Tensor>> = inputs.iter().map(|value| as_constant(value.as_ref())).collect();
        let keep = |axes: Vec<Axis>| Ok(vec![Value::Flow(Flow { part: flow.part, axes })]);
        let rank = flow.axes.len();
        match node.operator() {
            "Identity" => keep(flow.axes.clone()),
            "Cast" => {
                if node.int("to").is_some_and(|to| [data::FLOAT16, data::BFLOAT16].contains(&(to as i32))) {
                    let note = format!("{} rounds to 16 bits; here everything is float32", node.describe());
                    self.notes.push(note);
                }
                keep(flow.axes.clone())
            }
            "Dropout" => {
                let training = match inputs.get(2) {
                    Some(Some(Value::Constant(tensor))) => {
                        tensor.wholes().is_some_and(|values| values.iter().any(|v| *v != 0))
                    }
                    Some(Some(_)) => true,
                    _ => node.int("is_test") == Some(0),
                };
                if training {
                    return Err(
                        "it drops values at random, since the network was exported in training mode; call eval() on \
                                the module, and export again"
                            .to_owned(),
                    );
                }
                keep(flow.axes.clone())
            }
            "Transpose" => {
                let order = order_of(node, rank).ok_or("its perm is no order of the axes")?;
                keep(order.into_iter().map(|axis| flow.axes[axis].clone()).collect())
            }
            "Squeeze" => {
                let axes = squeezed(node, &flow.axes, &constants, &self.sizes)?;
                keep(axes)
            }
            "Unsqueeze" => {
                let new = axes_of(node, &constants, 1).ok_or("its axes are no constants")?;
                keep(unsqueezed(&flow.axes, &new, vec![]).ok_or("its axes do not fit")?)
            }
            "Reshape" => {
                let wanted = inputs.get(1).and_then(Option::as_ref).and_then(as_sizes);
                let (wanted, _) = wanted.ok_or("its sizes are not known before it runs")?;
                let keeps_zero = node.int("allowzero") == Some(1);
                let axes = reshape(&flow.axes, &wanted, keeps_zero, &self.sizes);
                keep(axes.ok_or("it mixes steps, rows or values of a vector")?)
            }
            "Slice" => {
                let cuts = cuts(node, &constants).ok_or("where it cuts is not known before it runs")?;
                let mut value = Value::Flow(flow.clone());
                for fold::Cut { axis, start, end, step } in cuts {
                    let axis = place(axis, rank).ok_or("its axis is none")?;
                    value = self.cut(&value, axis, (start, end, step), false)?;
                }
                Ok(vec![value])
            }
            "Gather" => {
                let axis = place(node.int("axis").unwrap_or(0), rank).ok_or("its axis is none")?;
                let index =
                    constants.get(1).copied().flatten().and_then(|tensor| Some((tensor.wholes()?, &tensor.shape)));
                let Some(([index], shape)) = index else { return Err(unknown()) };
                let end = if *index == -1 { i64::MAX } else { index.saturating_add(1) };
                self.cut(&Value::Flow(flow.clone()), axis, (*index, end, 1), shape.is_empty()).map(|value| vec![value])
            }
            "MatMul" | "Gemm" => self.linear(node, flow, &constants),
            "Relu" => self.activate(flow, Activation::Relu),
            "Tanh" => self.activate(flow, Activation::Tanh),
            "Sigmoid" => self.activate(flow, Activation::Sigmoid),
            operator @ ("Softmax" | "LogSoftmax") => {
                let default = if node.opset < 13 { 1 } else { -1 };
                let axis = place(node.int("axis").unwrap_or(default), rank);
                if axis.is_none() || axis != rank.checked_sub(1) {
                    return Err("its shares are not those of the values of one step".to_owned());
                }
                self.activate(flow, if operator == "Softmax" { Activation::Softmax } else { Activation::LogSoftmax })
            }
            _ => Err(unknown()),
        }
    }

    /// A part of an axis of a flow: of an input, states; of what an LSTM gives, the last step.
    fn cut(
        &mut self,
        value: &Value,
        axis: usize,
        (start, end, step): (i64, i64, i64),
        removes: bool,
    ) -> Result<Value, String> {
        let Value::Flow(flow) = value else { return Err(unknown()) };
        let size = Dim::of(&flow.axes[axis]).known(&self.sizes);
        let is_all = step == 1
            && (start == 0 || size.is_some_and(|size| start <= -size))
            && (end >= i64::from(i32::MAX) || size.is_some_and(|size| end >= size));
        if is_all && !removes {
            return Ok(value.clone());
        }
        match &self.parts[flow.part] {
            Part::Input { .. } if axis == 0 && step == 1 => {
                let at = |place: i64, size: Option<i64>| match (place < 0, size) {
                    (true, Some(size)) => place.saturating_add(size),
                    _ => place.min(size.unwrap_or(place)),
                };
                Ok(Value::Given { input: flow.part, from: at(start, size), to: at(end, size) })
            }
            Part::Lstm { stack, .. } => {
                let [time, _] = self.course.as_ref().ok_or_else(unknown)?;
                let is_time = plain(&flow.axes[axis], &self.sizes) == *time;
                let is_last = step == 1
                    && (start == -1 && end >= i64::from(i32::MAX)
                        || size.is_some_and(|size| start == size - 1 && end >= size));
                let is_first = step == 1 && start == 0 && end == 1;
                let is_final = match (stack.config().bidirectional, stack.reverse) {
                    (false, false) => is_last,
                    (false, true) => is_first,
                    (true, _) => false,
                };
                if !is_time || !is_final || self.has_lengths {
                    return Err("it takes a part of what the LSTM gives that is not its final state".to_owned());
                }
                let mut axes = flow.axes.clone();
                axes[axis] = vec![];
                if removes {
                    axes.remove(axis);
                }
                self.parts.push(Part::Final { below: flow.part });
                Ok(Value::Flow(Flow { part: self.parts.len() - 1, axes }))
            }
            _ => Err("it takes a part of the values, as no chain of layers does".to_owned()),
        }
    }

    /// Sizes, states, or the two directions of an LSTM beside each other.
    pub(super) fn concat(&mut self, node: &Node, inputs: &[Option<Value>]) -> Followed {
        let all: Vec<&Value> = inputs.iter().flatten().collect();
        if all.iter().all(|value| as_sizes(value).is_some()) {
            return self.of_sizes(node, inputs);
        }
        let states: Option<Vec<&States>> =
            all.iter().map(|value| if let Value::States(states) = value { Some(states) } else { None }).collect();
        if let Some(states) = states {
            return concat_states(node, &states).map(|value| vec![value]);
        }
        if let [Value::Flow(a), Value::Flow(b)] = all[..] {
            let last = a.axes.len().saturating_sub(1);
            let is_last = place(node.int("axis").unwrap_or(0), a.axes.len()) == Some(last);
            let same_axes = a.axes.get(..last) == b.axes.get(..last);
            if let (true, true, Part::Lstm { .. }, Part::Lstm { .. }) =
                (is_last, same_axes, &self.parts[a.part], &self.parts[b.part])
                && let Some(part) = operator::both_directions(&self.parts[a.part], &self.parts[b.part])
            {
                self.parts.push(part);
                let part = self.parts.len() - 1;
                let mut axes = a.axes.clone();
                axes[last] = self.vector(part);
                return Ok(vec![Value::Flow(Flow { part, axes })]);
            }
        }
        Err("it joins values of several parts, as no chain of layers does".to_owned())
    }

    /// The axis of what a part gives at one step of one row.
    pub(super) fn vector(&self, part: usize) -> Axis {
        match &self.parts[part] {
            Part::Input { .. } => vec![],
            Part::Embedding { table, .. } => vec![Factor::Features(table.shape[1])],
            Part::Lstm { stack, .. } => directed(stack),
            Part::Added { below } | Part::Final { below } => self.vector(*below),
            Part::Linear { linear, .. } => vec![Factor::Features(linear.output)],
        }
    }

    /// Whether an axis is all of what a part gives at a step, in its order.
    pub(super) fn is_vector(&self, flow: &Flow) -> bool {
        let own = self.vector(flow.part);
        flow.axes.last().is_some_and(|axis| plain(axis, &self.sizes) == plain(&own, &self.sizes))
    }
}

/// The axis of what a stack gives at one step of one row.
pub(super) fn directed(stack: &Stack) -> Axis {
    let config = stack.config();
    vec![Factor::Directions(config.directions()), Factor::Features(config.recurrent(config.layers - 1))]
}

/// Axes without those of one place.
pub(super) fn squeezed(
    node: &Node,
    axes: &[Axis],
    constants: &[Option<&Tensor>],
    sizes: &InputSizes,
) -> Result<Vec<Axis>, String> {
    let rank = axes.len();
    let gone: Vec<usize> = match axes_of(node, constants, 1) {
        Some(own) => own.iter().map(|axis| place(*axis, rank)).collect::<Option<_>>().ok_or("its axes do not fit")?,
        None => (0..rank).filter(|axis| is_one(&axes[*axis], sizes)).collect(),
    };
    // A size that only the run knows has to be one there.
    let fits = |axis: &usize| is_one(&axes[*axis], sizes) || Dim::of(&axes[*axis]).known(sizes).is_none();
    if !gone.iter().all(fits) {
        return Err("it removes an axis that is not of size 1".to_owned());
    }
    Ok((0..rank).filter(|axis| !gone.contains(axis)).map(|axis| axes[axis].clone()).collect())
}
