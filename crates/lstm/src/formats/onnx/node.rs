//! A node as the reader asks it: its attributes by name, with the standard's defaults.

use super::proto::attribute::{FLOAT, INT, STRING};
use super::proto::{AttributeProto, NodeProto, TensorProto};

/// What an attribute is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Whole,
    Number,
    Name,
}

/// A node of the graph, and the version of the operators it is of.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) proto: &'a NodeProto,
    pub(super) opset: i64,
}

impl<'a> Node<'a> {
    /// Its operator.
    pub(super) fn operator(&self) -> &'a str {
        self.proto.op_type.as_deref().unwrap_or("")
    }

    /// Its name and operator for a sentence; a node without a name goes by what it gives.
    pub(super) fn describe(&self) -> String {
        let output = self.proto.output.iter().find(|name| !name.is_empty());
        let name = self.proto.name.as_deref().filter(|name| !name.is_empty());
        match name.or(output.map(String::as_str)) {
            Some(name) => format!("the node {name} ({})", self.operator()),
            None => format!("a node {}", self.operator()),
        }
    }

    /// Whether it is one of the standard's operators.
    pub(super) fn is_standard(&self) -> bool {
        matches!(self.proto.domain.as_deref().unwrap_or(""), "" | "ai.onnx")
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.proto.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// Refuses an attribute that is not of the kind its operator has it of: it would be read as if it were not there.
    ///
    /// # Errors
    /// A sentence on the first of them. `kinds`: the names, and what each is.
    pub(super) fn check_kinds(&self, kinds: &[(&str, Kind)]) -> Result<(), String> {
        for (name, kind) in kinds {
            let Some(attribute) = self.attribute(name) else { continue };
            let (is_there, of_kind, what) = match kind {
                Kind::Whole => (attribute.i.is_some(), INT, "whole number"),
                Kind::Number => (attribute.f.is_some(), FLOAT, "number"),
                Kind::Name => (attribute.s.is_some(), STRING, "name"),
            };
            // Some writers leave out a value that is 0.
            if !is_there && attribute.r#type != Some(of_kind) {
                return Err(format!("its {name} is no {what}, as the operator has it: the file is damaged"));
            }
        }
        Ok(())
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name)?.i
    }

    pub(super) fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name)?.f
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|attribute| &attribute.ints[..])
    }

    pub(super) fn floats(&self, name: &str) -> &'a [f32] {
        self.attribute(name).map_or(&[], |attribute| &attribute.floats[..])
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.attribute(name)?.t.as_ref()
    }

    pub(super) fn string(&self, name: &str) -> Option<String> {
        let bytes = self.attribute(name)?.s.as_ref()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    pub(super) fn strings(&self, name: &str) -> Vec<String> {
        let strings = self.attribute(name).map_or(&[][..], |attribute| &attribute.strings[..]);
        strings.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// The name of an input, if it is there.
    pub(super) fn input(&self, index: usize) -> Option<&'a str> {
        self.proto.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The name of an output, if it is there.
    pub(super) fn output(&self, index: usize) -> Option<&'a str> {
        self.proto.output.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// The place that an axis, which may count from the end, has among `rank`.
pub(super) fn place(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add(rank as i64)? } else { axis };
    usize::try_from(axis).ok().filter(|axis| *axis < rank)
}
