//! A graph under construction: nodes one after the other, and the tensors that they read.

use prost::bytes::Bytes;

use super::node::Node;
use super::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, TypeValue, ValueInfoProto, attribute, data,
};

/// The operators' version: LayerNormalization is of 17, and of version 17 OpenVINO 2026.4 reads no axes of ReduceLogSumExp.
pub(super) const OPSET: i64 = 18;

/// The size of an axis of an input or an output.
#[derive(Clone, Copy)]
pub(super) enum Size {
    Known(usize),
    Named(&'static str),
}

/// The names of sizes that are known only when the network runs.
pub(super) const TIME: Size = Size::Named("time");
pub(super) const BATCH: Size = Size::Named("batch");

/// A graph that grows at its end.
#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
}

impl Graph {
    /// A node with one output, of which nodes and values take the name.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.nodes_of(operator, inputs, &[output], attributes);
        output.to_owned()
    }

    /// A node with several outputs; an input or output that is not there has an empty name.
    pub(super) fn nodes_of(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.nodes.push(NodeProto {
            input: owned(inputs),
            output: owned(outputs),
            name: Some(format!("{operator}:{}", outputs.iter().find(|name| !name.is_empty()).unwrap_or(&""))),
            op_type: Some(operator.to_owned()),
            attribute,
            ..NodeProto::default()
        });
    }

    /// A tensor of numbers with a fraction.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, shape, data::FLOAT, bytes)
    }

    /// A vector of whole numbers: axes or sizes.
    pub(super) fn whole(&mut self, name: &str, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, &[values.len()], data::INT64, bytes)
    }

    /// A tensor, unless one of this name is there: a name says what the values are.
    fn constant(&mut self, name: &str, shape: &[usize], kind: i32, bytes: Vec<u8>) -> String {
        if !self.constants.iter().any(|tensor| tensor.name.as_deref() == Some(name)) {
            self.constants.push(TensorProto {
                dims: shape.iter().map(|size| *size as i64).collect(),
                data_type: Some(kind),
                name: Some(name.to_owned()),
                raw_data: Some(Bytes::from(bytes)),
                ..TensorProto::default()
            });
        }
        name.to_owned()
    }

    /// An input of the graph.
    pub(super) fn input(&mut self, name: &str, kind: i32, shape: &[Size]) -> String {
        self.inputs.push(value_info(name, kind, shape));
        name.to_owned()
    }

    /// An output of the graph, of numbers with a fraction.
    pub(super) fn output(&mut self, name: &str, shape: &[Size]) {
        self.outputs.push(value_info(name, data::FLOAT, shape));
    }

    /// The nodes so far.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.nodes.iter().map(|proto| Node { proto, opset: OPSET })
    }

    /// The graph as the file has it.
    pub(super) fn into_proto(self, name: &str) -> GraphProto {
        GraphProto {
            node: self.nodes,
            name: Some(name.to_owned()),
            initializer: self.constants,
            input: self.inputs,
            output: self.outputs,
            ..GraphProto::default()
        }
    }
}

fn value_info(name: &str, kind: i32, shape: &[Size]) -> ValueInfoProto {
    let dim = shape.iter().map(|size| {
        let value = Some(match size {
            Size::Known(size) => DimensionValue::Size(*size as i64),
            Size::Named(name) => DimensionValue::Name((*name).to_owned()),
        });
        DimensionProto { value, denotation: None }
    });
    let shape = Some(TensorShapeProto { dim: dim.collect() });
    let tensor = TensorTypeProto { elem_type: Some(kind), shape };
    let r#type = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), denotation: None });
    ValueInfoProto { name: Some(name.to_owned()), r#type, doc_string: None }
}

/// An attribute without a value yet.
fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind), ..AttributeProto::default() }
}

/// A whole number.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, attribute::INT) }
}

/// Whole numbers.
pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, attribute::INTS) }
}

/// A number with a fraction.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, attribute::FLOAT) }
}

/// Numbers with a fraction.
pub(super) fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, attribute::FLOATS) }
}

/// A name.
pub(super) fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::copy_from_slice(value.as_bytes())), ..attribute(name, attribute::STRING) }
}

/// Names.
pub(super) fn strings(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect();
    AttributeProto { strings, ..attribute(name, attribute::STRINGS) }
}

/// A graph within a node.
pub(super) fn graph(name: &str, value: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(value), ..attribute(name, attribute::GRAPH) }
}

/// `[rows, columns]` to `[columns, rows]`.
pub(super) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}
