//! Follows a graph node by node, in its order: constants are folded, sizes computed, and what flows from the input becomes the
//! parts of a network.
//!
//! A node that does not fit is no error yet: only where something that the graph gives depends on it is it refused, by its name.
//! Here are a graph's values, its inputs and its constants; what is done with the others is in the files by what they are: `sizes`,
//! `flow`, `states`, `readout`, and the LSTM itself in `operator`.

use std::collections::HashMap;

use super::super::network::{Activation, Stack};
use super::axes::{Axis, Dim, Factor, InputSizes};
use super::fold::{self, Budget, Unfolded, fold, range};
use super::node::Node;
use super::operator;
use super::proto::{DimensionValue, GraphProto, TypeValue, ValueInfoProto, data};
use super::sizes::{as_sizes, sizes};
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
    /// What the LSTM below gives, with its input added.
    Added {
        below: usize,
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
pub(super) type Followed = Result<Vec<Value>, String>;

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
}

/// The sentence about an operator that has no place here.
pub(super) fn unknown() -> String {
    "it has no place in a network of an embedding, LSTM layers and linear readouts".to_owned()
}

fn why(unfolded: Unfolded) -> String {
    match unfolded {
        Unfolded::Unknown => "it is none of the operators that are computed from constants here".to_owned(),
        Unfolded::Unfit(why) => why,
    }
}

pub(super) fn as_constant(value: Option<&Value>) -> Option<&Tensor> {
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
