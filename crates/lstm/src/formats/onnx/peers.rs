//! The programs that people run ONNX files with, and what each of them would not compute of ours: measured, in docs/formats.md.

use super::super::network::{Function, NetworkError};
use super::graph::Graph;
use super::node::Node;
use crate::named::named;

/// A program that runs ONNX files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// tract 0.23.
    Tract,
    /// rten 0.27.
    Rten,
    /// OpenVINO 2026.4.
    Openvino,
    /// ONNX Runtime 1.32, also in a browser.
    Onnxruntime,
}

named!(Peer, "program", "tract" => Tract, "rten" => Rten, "openvino" => Openvino, "onnxruntime" => Onnxruntime);

impl Peer {
    /// Refuses what this program would ignore or cannot read.
    pub(super) fn check(self, graph: &Graph) -> Result<(), NetworkError> {
        let lstms: Vec<Node> = graph.nodes().filter(|node| node.operator() == "LSTM").collect();
        let from_end = lstms.iter().any(|node| node.string("direction").as_deref() == Some("reverse"));
        // A fourth output of a loop is that of the output gates.
        let gates = graph.nodes().any(|node| node.operator() == "Scan" && node.output(3).is_some());
        let peepholes = lstms.iter().any(|node| node.input(7).is_some());
        let has = |attribute: &str| lstms.iter().any(|node| node.has(attribute));
        let why = match self {
            Self::Tract if has("clip") || has("activations") => {
                "tract 0.23 ignores the clip and the activations of an LSTM, and would run plain cells"
            }
            Self::Rten if has("clip") || has("activations") && !are_plain(&lstms) => {
                "rten 0.27 reads no LSTM with a clip or other activations than Sigmoid, Tanh, Tanh"
            }
            Self::Openvino if has("activations") && !are_plain(&lstms) => {
                "OpenVINO 2026.4 compiles no LSTM with other activations than Sigmoid, Tanh, Tanh"
            }
            Self::Rten if peepholes => "rten 0.27 reads no peepholes",
            Self::Rten if graph.nodes().any(|node| node.operator() == "Scan") => {
                "rten 0.27 has no operator Scan, in which projections, layer normalisation, zoneout, mogrifiers and the \
                 readout output-gate are written"
            }
            Self::Tract if from_end => {
                "tract 0.23 ignores the direction of an LSTM from the last step to the first, and would run it forward"
            }
            Self::Tract if gates => "tract 0.23 cannot type the loop in which the readout output-gate is written",
            Self::Openvino if peepholes => "OpenVINO 2026.4 leaves the peepholes out, and says nothing of it",
            Self::Tract | Self::Rten | Self::Openvino | Self::Onnxruntime => return Ok(()),
        };
        Err(NetworkError::Unfit(format!("{why}; write the graph for another program")))
    }
}

/// Whether all have the activations of every LSTM here.
fn are_plain(lstms: &[Node]) -> bool {
    let plain = Function::PLAIN.map(Function::name);
    lstms.iter().all(|node| node.strings("activations").chunks(3).all(|own| own == plain))
}
