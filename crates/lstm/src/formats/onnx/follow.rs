//! Follows a graph node by node, in its order: constants are folded, sizes computed, and what flows from the input becomes the
//! parts of a network.
//!
//! A node that does not fit is no error yet: only where something that the graph gives depends on it is it refused, by its name.

use std::collections::HashMap;

use super::super::network::{Activation, Stack};
use super::axes::{Axis, Dim, Factor, InputSizes, is_one, plain, reshape};
use super::fold::{self, Budget, Unfolded, axes_of, cuts, fold, order_of, range, unsqueezed};
use super::node::{Node, place};
use super::operator;
use super::proto::{DimensionValue, GraphProto, TypeValue, ValueInfoProto, data};
use super::tensor::{Storage, Tensor};

/// A value of the graph.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Constant(Tensor),
    /// Sizes that are computed when the graph runs: a vector, or one number.
    Sizes {
        dims: Vec<Dim>,
        is_scalar: bool,
    },
    /// One number over and over, in a shape that is not known before.
    Filled(f32),
    /// What flows from an input.
    Flow(Flow),
    /// Some places along the first axis of an input: initial states.
    Given {
        input: usize,
        from: i64,
        to: i64,
    },
    States(States),
    /// What cannot be followed, and why.
    Lost(String),
}

/// A value that flows from an input through the parts of a network.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// The part that gives it.
    pub(super) part: usize,
    pub(super) axes: Vec<Axis>,
}

/// Final states of LSTMs.
#[derive(Clone, Debug)]
pub(super) struct States {
    /// Whether they are the hidden ones.
    pub(super) hidden: bool,
    /// The LSTM's part and the direction of each.
    pub(super) items: Vec<(usize, usize)>,
    pub(super) axes: Vec<Axis>,
}

/// A part of a network.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Input {
        name: String,
        is_whole: bool,
    },
    Embedding {
        below: usize,
        table: Tensor,
    },
    Lstm {
        below: usize,
        stack: Box<Stack>,
        names: Vec<Taken>,
    },
    /// The final hidden state of the LSTM below.
    Final {
        below: usize,
    },
    Linear {
        below: usize,
        linear: Box<LinearPart>,
    },
}

/// A linear readout.
#[derive(Clone, Debug)]
pub(super) struct LinearPart {
    pub(super) output: usize,
    /// `[O, I]`.
    pub(super) weight: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) activation: Activation,
    pub(super) names: [String; 2],
}

/// An array of the file that an LSTM took.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) theirs: String,
    /// Without the number of the layer.
    pub(super) ours: &'static str,
    pub(super) shape: Vec<usize>,
}

/// A graph on its way to a network.
pub(super) struct Follower<'a> {
    pub(super) values: HashMap<&'a str, Value>,
    pub(super) parts: Vec<Part>,
    pub(super) storage: Storage<'a>,
    pub(super) sizes: InputSizes,
    pub(super) budget: Budget,
    /// The axes of steps and of rows, once an LSTM has run over them.
    pub(super) course: Option<[Axis; 2]>,
    /// Which states inputs gave to an LSTM.
    pub(super) given: Vec<(usize, i64, i64)>,
    pub(super) has_lengths: bool,
    pub(super) notes: Vec<String>,
}

/// The result of a node, or why it cannot be followed.
type Followed = Result<Vec<Value>, String>;

impl<'a> Follower<'a> {
    pub(super) fn new(storage: Storage<'a>) -> Self {
        Self {
            values: HashMap::new(),
            parts: Vec::new(),
            budget: Budget::of(storage.stored),
            storage,
            sizes: Vec::new(),
            course: None,
            given: Vec::new(),
            has_lengths: false,
            notes: Vec::new(),
        }
    }

    /// Follows all nodes.
    ///
    /// # Errors
    /// A sentence on a graph that is none.
    pub(super) fn run(&mut self, graph: &'a GraphProto, opset: i64) -> Result<(), String> {
        for tensor in &graph.initializer {
            let name = tensor.name.as_deref().unwrap_or("");
            let value =
                self.storage.tensor(tensor).map_err(|why| format!("the tensor {name} cannot be used: {why}"))?;
            self.values.insert(name, Value::Constant(value));
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().and_then(|values| values.name.as_deref()).unwrap_or("");
            self.values.insert(name, Value::Lost(format!("the tensor {name} is sparse, and only dense ones are read")));
        }
        let mut names: HashMap<&str, usize> = HashMap::new();
        for input in &graph.input {
            let name = input.name.as_deref().unwrap_or("");
            // Before version 4 of the form constants were inputs, too.
            if !self.values.contains_key(name) {
                let value = self.input(input, &mut names);
                self.values.insert(name, value);
            }
        }
        for proto in &graph.node {
            let node = Node { proto, opset };
            let mut inputs = Vec::with_capacity(proto.input.len());
            for name in &proto.input {
                let value = self.values.get(name.as_str()).cloned();
                if value.is_none() && !name.is_empty() {
                    return Err(format!(
                        "{} reads {name}, which nothing before it gives: the nodes are not in order, or go in a circle",
                        node.describe()
                    ));
                }
                inputs.push(value);
            }
            let results = self
                .node(&node, &inputs)
                .unwrap_or_else(|why| vec![Value::Lost(format!("{}: {why}", node.describe())); proto.output.len()]);
            let mut results = results.into_iter();
            for name in &proto.output {
                let lost = || Value::Lost(format!("{} gives no such output as {name}", node.describe()));
                self.values.insert(name, results.next().unwrap_or_else(lost));
            }
        }
        Ok(())
    }

    /// An input of the graph: what flows, with an axis of its own for each of its sizes.
    fn input(&mut self, input: &'a ValueInfoProto, names: &mut HashMap<&'a str, usize>) -> Value {
        let name = input.name.as_deref().unwrap_or("");
        let Some(TypeValue::Tensor(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
            return Value::Lost(format!("the input {name} is no tensor"));
        };
        let Some(shape) = &tensor.shape else {
            return Value::Lost(format!(
                "the input {name} has no shape, so nothing says what are steps and what are rows"
            ));
        };
        let kind = tensor.elem_type.unwrap_or(0);
        let is_float = [data::FLOAT, data::FLOAT16, data::DOUBLE, data::BFLOAT16].contains(&kind);
        self.parts.push(Part::Input { name: name.to_owned(), is_whole: !is_float });
        let part = self.parts.len() - 1;
        let axes = shape.dim.iter().map(|dim| {
            let (known, symbol) = match &dim.value {
                Some(DimensionValue::Size(size)) => (usize::try_from(*size).ok(), None),
                Some(DimensionValue::Name(name)) if !name.is_empty() => (None, Some(name.as_str())),
                _ => (None, None),
            };
            if let Some(axis) = symbol.and_then(|symbol| names.get(symbol)) {
                return vec![Factor::Input(*axis)];
            }
            self.sizes.push(known);
            let axis = self.sizes.len() - 1;
            names.extend(symbol.map(|symbol| (symbol, axis)));
            vec![Factor::Input(axis)]
        });
        Value::Flow(Flow { part, axes: axes.collect() })
    }

    fn node(&mut self, node: &Node<'a>, inputs: &[Option<Value>]) -> Followed {
        let proto = node.proto;
        // What is lost stays lost, by the first reason.
        for value in inputs.iter().flatten() {
            if let Value::Lost(why) = value {
                return Ok(vec![Value::Lost(why.clone()); proto.output.len()]);
            }
        }
        if !node.is_standard() {
            let domain = proto.domain.as_deref().unwrap_or("");
            return Err(format!("it is an operator of {domain}, and only the standard's own are known here"));
        }
        if let Some(named) = proto.attribute.iter().find(|attribute| attribute.ref_attr_name.is_some()) {
            return Err(format!("its attribute {} refers to one outside", named.name.as_deref().unwrap_or("")));
        }
        if node.operator() == "Constant" {
            return self.constant(node).map(|value| vec![value]);
        }
        if node.operator() == "LSTM" {
            return operator::follow(self, node, inputs);
        }
        if let Some(all) = constants(inputs) {
            return self.fold(node, &all);
        }
        let first = inputs.first().and_then(Option::as_ref).ok_or("its first input is missing")?;
        if matches!(first, Value::Constant(tensor) if tensor.floats().is_some()) {
            // Weights that are cut by sizes of inputs which the file fixes.
            let known: Vec<Option<Value>> =
                inputs.iter().map(|value| value.as_ref().map(|value| self.fixed(value))).collect();
            if let Some(all) = constants(&known) {
                return self.fold(node, &all);
            }
        }
        match (node.operator(), first) {
            ("Shape", Value::Flow(Flow { axes, .. }) | Value::States(States { axes, .. })) => {
                let dims: Vec<Dim> = axes.iter().map(|axis| Dim::of(axis)).collect();
                let dims = dims[range(node.int("start"), node.int("end"), dims.len())].to_vec();
                Ok(vec![sizes(dims, false)])
            }
            ("ConstantOfShape", Value::Sizes { .. }) => Ok(vec![Value::Filled(self.filling(node)?)]),
            ("Expand", Value::Constant(tensor)) => match (tensor.floats(), tensor.len()) {
                (Some(values), 1) => Ok(vec![Value::Filled(values[0])]),
                // Rows of it over and over, which who takes it has to bear.
                _ => Ok(vec![first.clone()]),
            },
            (_, Value::Filled(_)) => self.filled(node, inputs),
            ("Gather", Value::Constant(tensor)) => self.gather(node, tensor, inputs),
            // Flows, states and given states may stand behind a constant in a sum.
            ("Add", _) => self.add(inputs),
            ("Mul" | "Sub" | "Div", _) if inputs.iter().flatten().all(|value| as_sizes(value).is_some()) => {
                self.of_sizes(node, inputs)
            }
            ("Concat", _) => self.concat(node, inputs),
            (_, Value::Sizes { .. }) => self.of_sizes(node, inputs),
            (_, Value::Given { .. }) => match node.operator() {
                "Identity" | "Cast" | "Squeeze" | "Unsqueeze" | "Reshape" | "Transpose" => Ok(vec![first.clone()]),
                _ => Err("it changes the initial states, and those of an input are taken as they are".to_owned()),
            },
            (_, Value::Flow(flow)) => self.flow(node, flow, inputs),
            (_, Value::States(states)) => self.states(node, states, inputs),
            _ => Err(unknown()),
        }
    }

    /// Sizes that the file fixes as a constant.
    fn fixed(&self, value: &Value) -> Value {
        let Value::Sizes { dims, is_scalar } = value else { return value.clone() };
        let numbers: Option<Vec<Dim>> = dims.iter().map(|dim| dim.known(&self.sizes).map(Dim::number)).collect();
        numbers.map_or_else(|| value.clone(), |dims| sizes(dims, *is_scalar))
    }

    /// The operator Constant, in its several forms.
    fn constant(&mut self, node: &Node) -> Result<Value, String> {
        let name = node.output(0).unwrap_or("");
        let tensor = match (node.tensor("value"), node.int("value_int"), node.float("value_float")) {
            (Some(proto), ..) => self.storage.tensor(proto)?,
            (_, Some(value), _) => Tensor::whole("", vec![], vec![value]),
            (_, _, Some(value)) => Tensor::float("", vec![], vec![value]),
            _ if node.has("value_ints") => {
                let values = node.ints("value_ints").unwrap_or(&[]);
                Tensor::whole("", vec![values.len()], values.to_vec())
            }
            _ if node.has("value_floats") => {
                let values = node.floats("value_floats");
                Tensor::float("", vec![values.len()], values.to_vec())
            }
            _ => return Err("its value is none of those that are read".to_owned()),
        };
        Ok(Value::Constant(Tensor { name: name.to_owned(), ..tensor }))
    }

    fn fold(&mut self, node: &Node, inputs: &[Option<&Tensor>]) -> Followed {
        if node.operator() == "Split" {
            let parts = fold::split(node, inputs, &mut self.budget).map_err(why)?;
            return Ok(parts.into_iter().map(Value::Constant).collect());
        }
        let mut folded = fold(node, inputs, &mut self.budget).map_err(why)?;
        if node.operator() == "ConstantOfShape" {
            let value = self.filling(node)?;
            folded = Tensor::float("", folded.shape.clone(), vec![value; folded.len()]);
            let filled = node.tensor("value").and_then(|proto| self.storage.tensor(proto).ok());
            if let Some(whole) = filled.and_then(|tensor| tensor.wholes().and_then(|values| values.first().copied())) {
                folded = Tensor::whole("", folded.shape.clone(), vec![whole; folded.len()]);
            }
        }
        if folded.name.is_empty() {
            node.output(0).unwrap_or("").clone_into(&mut folded.name);
        }
        let mut all = vec![Value::Constant(folded)];
        // The mask of a Dropout, say: nothing reads it.
        all.resize(
            node.proto.output.len().max(1),
            Value::Lost(format!("{} gives only its first output here", node.describe())),
        );
        Ok(all)
    }

    /// What `ConstantOfShape` fills with.
    fn filling(&mut self, node: &Node) -> Result<f32, String> {
        let Some(proto) = node.tensor("value") else { return Ok(0.0) };
        let tensor = self.storage.tensor(proto)?;
        let first = tensor.floats().and_then(|values| values.first().copied());
        let first = first.or(tensor.wholes().and_then(|values| values.first().map(|value| *value as f32)));
        first.ok_or_else(|| "it fills with nothing".to_owned())
    }

    /// Operators over one number again and again.
    fn filled(&self, node: &Node, inputs: &[Option<Value>]) -> Followed {
        let Some(Value::Filled(value)) = inputs[0] else { return Err(unknown()) };
        let same = |other: &Value| matches!(other, Value::Filled(other) if *other == value);
        match node.operator() {
            "Concat" if !inputs.iter().flatten().all(same) => Err("it joins states of several kinds".to_owned()),
            "Identity" | "Cast" | "Slice" | "Squeeze" | "Unsqueeze" | "Reshape" | "Transpose" | "Expand" | "Gather"
            | "Concat" | "Split" | "Dropout" => Ok(vec![Value::Filled(value); node.proto.output.len()]),
            _ => Err(unknown()),
        }
    }

    /// A table's rows.
    fn gather(&mut self, node: &Node, table: &Tensor, inputs: &[Option<Value>]) -> Followed {
        let Some(Some(Value::Flow(flow))) = inputs.get(1) else { return Err(unknown()) };
        let Part::Input { is_whole: true, .. } = self.parts[flow.part] else {
            return Err("its rows are chosen by what is no input of whole numbers".to_owned());
        };
        let (Some(_), [_, size]) = (table.floats(), &table.shape[..]) else {
            return Err(format!("its table {:?} is no matrix of numbers with a fraction", table.shape));
        };
        if node.int("axis").unwrap_or(0) != 0 {
            return Err("it takes columns of its table, where an embedding has its rows".to_owned());
        }
        let mut axes = flow.axes.clone();
        axes.push(vec![Factor::Features(*size)]);
        self.parts.push(Part::Embedding { below: flow.part, table: table.clone() });
        Ok(vec![Value::Flow(Flow { part: self.parts.len() - 1, axes })])
    }

    /// Arithmetic and shape operators over sizes.
    fn of_sizes(&self, node: &Node, inputs: &[Option<Value>]) -> Followed {
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

    /// A bias, on a linear readout.
    fn add(&mut self, inputs: &[Option<Value>]) -> Followed {
        let (flow, bias) = match inputs {
            [Some(Value::Flow(flow)), Some(Value::Constant(bias))] => (flow, bias),
            [Some(Value::Constant(bias)), Some(Value::Flow(flow))] => (flow, bias),
            [Some(Value::Flow(_)), Some(Value::Flow(_))] => {
                return Err("it adds two values that flow; residual connections of this kind are not read".to_owned());
            }
            _ => return Err(unknown()),
        };
        let Part::Linear { below, linear } = &self.parts[flow.part] else {
            return Err("it adds a constant to what is no linear readout".to_owned());
        };
        let output = linear.output;
        let fits = bias.len() == output && bias.shape.last() == Some(&output);
        let (Some(values), true, Activation::Linear) = (bias.floats(), fits, linear.activation) else {
            return Err(format!("it adds {:?} to {output} values, which is no bias", bias.shape));
        };
        let mut linear = linear.clone();
        linear.names[1].clone_from(&bias.name);
        linear.bias = Some(match &linear.bias {
            Some(first) => first.iter().zip(values).map(|(a, b)| a + b).collect(),
            None => values.to_vec(),
        });
        self.parts.push(Part::Linear { below: *below, linear });
        Ok(vec![Value::Flow(Flow { part: self.parts.len() - 1, axes: flow.axes.clone() })])
    }

    /// Sizes, states, or the two directions of an LSTM beside each other.
    fn concat(&mut self, node: &Node, inputs: &[Option<Value>]) -> Followed {
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
            Part::Final { below } => self.vector(*below),
            Part::Linear { linear, .. } => vec![Factor::Features(linear.output)],
        }
    }

    /// Whether an axis is all of what a part gives at a step, in its order.
    pub(super) fn is_vector(&self, flow: &Flow) -> bool {
        let own = self.vector(flow.part);
        flow.axes.last().is_some_and(|axis| plain(axis, &self.sizes) == plain(&own, &self.sizes))
    }

    /// Operators over what flows.
    fn flow(&mut self, node: &Node, flow: &Flow, inputs: &[Option<Value>]) -> Followed {
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

    /// A linear readout.
    fn linear(&mut self, node: &Node, flow: &Flow, constants: &[Option<&Tensor>]) -> Followed {
        let is_gemm = node.operator() == "Gemm";
        let weight = constants.get(1).copied().flatten().ok_or("its weights are no constants")?;
        let (Some(values), [rows, columns]) = (weight.floats(), &weight.shape[..]) else {
            return Err(format!("its weights {:?} are no matrix", weight.shape));
        };
        if is_gemm && (node.int("transA").unwrap_or(0) != 0 || flow.axes.len() != 2) {
            return Err("it multiplies what is not rows of vectors".to_owned());
        }
        if !matches!(self.parts[flow.part], Part::Lstm { .. } | Part::Final { .. } | Part::Linear { .. }) {
            return Err("it is a linear map below the LSTM, which no network here has".to_owned());
        }
        if !self.is_vector(flow) {
            return Err("it multiplies what are not the values of one step".to_owned());
        }
        let turned = is_gemm && node.int("transB").unwrap_or(0) != 0;
        let (input, output) = if turned { (*columns, *rows) } else { (*rows, *columns) };
        let expected = Dim::of(&self.vector(flow.part)).number;
        if input as i64 != expected {
            return Err(format!("its weights take {input} values, but {expected} come"));
        }
        let mut own = if turned { values.to_vec() } else { super::graph::transposed(values, input, output) };
        let alpha = if is_gemm { node.float("alpha").unwrap_or(1.0) } else { 1.0 };
        own.iter_mut().for_each(|value| *value *= alpha);
        let mut linear = LinearPart {
            output,
            weight: own,
            bias: None,
            activation: Activation::Linear,
            names: [weight.name.clone(), String::new()],
        };
        if let Some(bias) = constants.get(2).copied().flatten().filter(|_| is_gemm) {
            let values = bias.floats().filter(|values| values.len() == output && bias.shape.last() == Some(&output));
            let beta = node.float("beta").unwrap_or(1.0);
            let values =
                values.ok_or_else(|| format!("it adds {:?} to {output} values, which is no bias", bias.shape))?;
            linear.bias = Some(values.iter().map(|value| value * beta).collect());
            linear.names[1].clone_from(&bias.name);
        }
        self.parts.push(Part::Linear { below: flow.part, linear: Box::new(linear) });
        let mut axes = flow.axes.clone();
        axes.pop();
        axes.push(vec![Factor::Features(output)]);
        Ok(vec![Value::Flow(Flow { part: self.parts.len() - 1, axes })])
    }

    /// What follows a readout.
    fn activate(&mut self, flow: &Flow, activation: Activation) -> Followed {
        let Part::Linear { below, linear } = &self.parts[flow.part] else {
            return Err("it follows what is no linear readout".to_owned());
        };
        if linear.activation != Activation::Linear || !self.is_vector(flow) {
            return Err("it follows what is no linear readout".to_owned());
        }
        let (below, mut linear) = (*below, linear.clone());
        linear.activation = activation;
        self.parts.push(Part::Linear { below, linear });
        Ok(vec![Value::Flow(Flow { part: self.parts.len() - 1, axes: flow.axes.clone() })])
    }

    /// Final hidden states as what flows, if they are all of one LSTM.
    pub(super) fn as_flow(&mut self, states: &States) -> Option<Flow> {
        let (part, _) = *states.items.first()?;
        let Part::Lstm { stack, .. } = &self.parts[part] else { return None };
        let directions = stack.config().directions();
        let in_order = states.items.iter().enumerate().all(|(place, item)| *item == (part, place));
        if !states.hidden || !in_order || states.items.len() != directions {
            return None;
        }
        let turn = |factor: &Factor| match factor {
            Factor::States(count) => Factor::Directions(*count),
            other => *other,
        };
        let axes = states.axes.iter().map(|axis| axis.iter().map(turn).collect()).collect();
        self.parts.push(Part::Final { below: part });
        Some(Flow { part: self.parts.len() - 1, axes })
    }

    /// Operators over final states.
    fn states(&mut self, node: &Node, states: &States, inputs: &[Option<Value>]) -> Followed {
        let constants: Vec<Option<&Tensor>> = inputs.iter().map(|value| as_constant(value.as_ref())).collect();
        let keep = |axes: Vec<Axis>| Ok(vec![Value::States(States { axes, ..states.clone() })]);
        let rank = states.axes.len();
        match node.operator() {
            "Identity" | "Cast" => keep(states.axes.clone()),
            "Transpose" => {
                let order = order_of(node, rank).ok_or("its perm is no order of the axes")?;
                keep(order.into_iter().map(|axis| states.axes[axis].clone()).collect())
            }
            "Squeeze" => keep(squeezed(node, &states.axes, &constants, &self.sizes)?),
            "Unsqueeze" => {
                let new = axes_of(node, &constants, 1).ok_or("its axes are no constants")?;
                keep(unsqueezed(&states.axes, &new, vec![]).ok_or("its axes do not fit")?)
            }
            "Reshape" => {
                let wanted = inputs.get(1).and_then(Option::as_ref).and_then(as_sizes);
                let (wanted, _) = wanted.ok_or("its sizes are not known before it runs")?;
                let axes = reshape(&states.axes, &wanted, node.int("allowzero") == Some(1), &self.sizes);
                keep(axes.ok_or("it mixes states of several rows")?)
            }
            "Slice" | "Gather" => {
                let is_gather = node.operator() == "Gather";
                let (axis, from, to, removes) = if is_gather {
                    let index = constants.get(1).copied().flatten().ok_or_else(unknown)?;
                    let Some([at]) = index.wholes() else { return Err(unknown()) };
                    (node.int("axis").unwrap_or(0), *at, *at, index.shape.is_empty())
                } else {
                    let cuts = cuts(node, &constants).ok_or_else(unknown)?;
                    let [fold::Cut { axis, start, end, step: 1 }] = cuts[..] else { return Err(unknown()) };
                    (axis, start, end, false)
                };
                let axis = place(axis, rank).ok_or("its axis is none")?;
                let count = states.items.len();
                if states.axes[axis] != [Factor::States(count)] {
                    return Err("it takes a part of a state".to_owned());
                }
                let chosen = match is_gather {
                    true => place(from, count).map(|at| at..at + 1).ok_or("it takes a state that is not there")?,
                    false => range(Some(from), Some(to), count),
                };
                let mut axes = states.axes.clone();
                axes[axis] = vec![Factor::States(chosen.len())];
                if removes {
                    axes.remove(axis);
                }
                let items = states.items[chosen].to_vec();
                Ok(vec![Value::States(States { items, axes, hidden: states.hidden })])
            }
            _ => {
                let flow =
                    self.as_flow(states).ok_or("it reads states that are not the final hidden ones of one LSTM")?;
                self.flow(node, &flow, inputs)
            }
        }
    }
}

/// The axis of what a stack gives at one step of one row.
pub(super) fn directed(stack: &Stack) -> Axis {
    let config = stack.config();
    vec![Factor::Directions(config.directions()), Factor::Features(config.recurrent(config.layers - 1))]
}

/// The sentence about an operator that has no place here.
fn unknown() -> String {
    "it has no place in a network of an embedding, LSTM layers and linear readouts".to_owned()
}

fn why(unfolded: Unfolded) -> String {
    match unfolded {
        Unfolded::Unknown => "it is none of the operators that are computed from constants here".to_owned(),
        Unfolded::Unfit(why) => why,
    }
}

fn as_constant(value: Option<&Value>) -> Option<&Tensor> {
    match value {
        Some(Value::Constant(tensor)) => Some(tensor),
        _ => None,
    }
}

/// All inputs, if they are constants or not there.
fn constants(inputs: &[Option<Value>]) -> Option<Vec<Option<&Tensor>>> {
    inputs
        .iter()
        .map(|value| match value {
            Some(Value::Constant(tensor)) => Some(Some(tensor)),
            Some(_) => None,
            None => Some(None),
        })
        .collect()
}

/// Sizes, as a constant where none of them waits for the input.
fn sizes(dims: Vec<Dim>, is_scalar: bool) -> Value {
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

/// Axes without those of one place.
fn squeezed(
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

/// States one after the other, or the directions of one side by side.
fn concat_states(node: &Node, states: &[&States]) -> Result<Value, String> {
    let first = states.first().ok_or_else(unknown)?;
    let rank = first.axes.len();
    let axis = place(node.int("axis").unwrap_or(0), rank).ok_or("its axis is none")?;
    let items: Vec<(usize, usize)> = states.iter().flat_map(|states| states.items.iter().copied()).collect();
    let of_same = states.iter().all(|other| {
        other.hidden == first.hidden
            && other.axes.len() == rank
            && (0..rank).all(|place| place == axis || other.axes[place] == first.axes[place])
    });
    if !of_same {
        return Err("it joins states of several kinds".to_owned());
    }
    let mut axes = first.axes.clone();
    let stacked = states.iter().all(|own| own.axes[axis] == [Factor::States(own.items.len())]);
    // A vector of one direction each.
    let beside = states.iter().all(|own| own.items.len() == 1 && matches!(own.axes[axis][..], [Factor::Features(_)]));
    axes[axis] = match (stacked, beside, &first.axes[axis][..]) {
        (true, ..) => vec![Factor::States(items.len())],
        (_, true, [features]) => vec![Factor::States(items.len()), *features],
        _ => return Err("it joins states as no chain of layers does".to_owned()),
    };
    Ok(Value::States(States { hidden: first.hidden, items, axes }))
}
