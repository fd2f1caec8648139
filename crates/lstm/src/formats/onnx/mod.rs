//! ONNX, in and out: a graph of operators, of which the LSTM is one.
//!
//! A file of ours has W, R and B as they are, with time and batch named and the states as inputs and outputs ([`write`]), and is read
//! back as the network that it was ([`own`]). A file of others is followed node by node ([`follow`]): subgraphs of constants are folded,
//! shape operators are followed by the axes that they turn, and what is left must be an embedding, LSTMs and linear readouts. This is
//! no general runtime.

mod axes;
mod flow;
mod fold;
mod follow;
mod graph;
mod import;
mod limits;
mod node;
mod operator;
mod own;
mod peers;
mod proto;
mod readout;
mod scan;
mod sizes;
mod states;
mod tensor;
mod write;

use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

use proto::ModelProto;

use super::import::{Hints, Import};
use super::network::{Network, NetworkError};
use super::{FormatError, write_bytes};

pub use peers::Peer;

/// Writes a network, for any program that follows the standard or for one of which it is known what it would not do.
///
/// # Errors
/// What no operators say, or the peer would not compute, by name; a folder that cannot be written.
pub(super) fn write(path: &Path, network: &Network, peer: Option<Peer>) -> Result<(), FormatError> {
    let unusable = |error: NetworkError| FormatError::Unusable { path: path.to_owned(), why: error.to_string() };
    let graph = write::graph_of(network).map_err(unusable)?;
    if let Some(peer) = peer {
        peer.check(&graph).map_err(unusable)?;
    }
    let model = write::model_of(graph, network);
    /// Readers of the wire format count its bytes in 31 bits.
    const MOST: usize = (1 << 31) - 1;
    if model.encoded_len() > MOST {
        let why = format!("the network has {} parameters, and a file of this format holds 2 GiB", network.parameters());
        return Err(unusable(NetworkError::Unfit(why)));
    }
    write_bytes(path, &model.encode_to_vec())
}

/// Reads the network of a file.
///
/// # Errors
/// As [`foreign::read`](super::foreign::read).
pub(super) fn read(path: &Path, hints: Hints) -> Result<Import, FormatError> {
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    let trouble = |source| FormatError::Read { path: path.to_owned(), source };
    let bytes = Bytes::from(std::fs::read(path).map_err(trouble)?);
    let stored = bytes.len() as u64;
    limits::check(&bytes).map_err(unusable)?;
    let model = ModelProto::decode(bytes).map_err(|error| {
        unusable(format!("it is no ONNX model, or truncated or damaged ({error}); fetch or export it again"))
    })?;
    import::import(path, &model, stored, hints)
}
