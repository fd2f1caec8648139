//! What a file may ask of memory before it is decoded: a message of two bytes becomes some hundred, so their number is bounded.

/// The most messages of a file: a network of the kind that is read here has some hundred nodes.
const MOST: usize = 1 << 18;

/// The most levels of messages within messages; `prost` stops at 100, too.
const DEEPEST: usize = 90;

/// The messages that have messages in them, by what they hold: the field's number, and what its messages are.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    Sparse,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Sequence,
    Map,
    Shape,
    /// One that has none.
    Leaf,
}

impl Kind {
    /// What the messages of a field are, if it has messages.
    fn field(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Model, 8 | 14) => Self::Leaf,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 15) => Self::Sparse,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Self::Tensor,
            (Self::Graph, 11..=13) => Self::ValueInfo,
            (Self::ValueInfo, 2) | (Self::Attribute, 14 | 15) | (Self::Sequence, 1) | (Self::Map, 2) => Self::Type,
            (Self::Type, 1 | 8) => Self::TensorType,
            (Self::Type, 4 | 9) => Self::Sequence,
            (Self::Type, 5) => Self::Map,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Function, 9) | (Self::Type, 7) | (Self::Shape, 1) | (Self::Tensor, 3 | 13) => Self::Leaf,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Attribute, 22 | 23) => Self::Sparse,
            _ => return None,
        })
    }
}

/// Refuses a file that would become very much more than it is. What is damaged is left to the decoder.
///
/// # Errors
/// A sentence.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut left = MOST;
    count(bytes, Kind::Model, 0, &mut left)
}

fn count(mut bytes: &[u8], kind: Kind, depth: usize, left: &mut usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!(
            "its graphs are {depth} levels deep; no network needs that, so it is damaged or made to harm"
        ));
    }
    while !bytes.is_empty() {
        let Some(tag) = varint(&mut bytes) else { return Ok(()) };
        let length = match tag & 7 {
            0 => {
                if varint(&mut bytes).is_none() {
                    return Ok(());
                }
                continue;
            }
            1 => 8,
            5 => 4,
            2 => match varint(&mut bytes).and_then(|length| usize::try_from(length).ok()) {
                Some(length) => length,
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let Some((field, rest)) = bytes.split_at_checked(length) else { return Ok(()) };
        bytes = rest;
        if let (2, Some(inner)) = (tag & 7, kind.field(tag >> 3)) {
            *left = left.checked_sub(1).ok_or_else(|| {
                format!("it has more than {MOST} nodes, tensors and attributes; no network needs so many, so it is damaged or made to harm")
            })?;
            if inner != Kind::Leaf {
                count(field, inner, depth + 1, left)?;
            }
        }
    }
    Ok(())
}

/// A number in groups of seven bits.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for place in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 127).checked_shl(7 * place)?;
        if first & 128 == 0 {
            return Some(value);
        }
    }
    None
}
