//! A graph that this program wrote: read back as the network that it was, whatever operators say it.
//!
//! Beside the graph the file has a line of what the network is ([`written`]). Nothing is believed of it: the network that it and the
//! tensors give is written again, and only where that is the graph of the file, byte by byte, is it the network. So what is written
//! out in a Scan, or wired by operators around the layers, is recognised without following it. A graph that was changed since is
//! followed node by node like any other.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::import::{Found, Import};
use super::super::network::{Activation, Embedding, Linear, Mixture, Network, NetworkError, Reads, Stack};
use super::super::state_dict::readout_name;
use super::graph::{OPSET, transposed};
use super::proto::{GraphProto, ModelProto, TensorProto};
use super::tensor::Storage;
use super::write::{graph_of, is_operator};
use crate::nn::config::LstmConfig;

/// The key of the line among the file's metadata.
pub(super) const KEY: &str = "lstm";

/// What a network is, but for its arrays.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    stacks: Vec<StackLine>,
    /// Whether the final state is read, not every step.
    is_final: bool,
    /// K of a mixture of softmaxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    softmaxes: Option<usize>,
    /// What follows each readout.
    readouts: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StackLine {
    config: LstmConfig,
    reverse: bool,
}

/// The line of a network; none of one that has cells of its own, whose operators say all of it.
pub(super) fn written(network: &Network) -> Option<String> {
    if network.stacks.iter().any(|stack| stack.functions.is_some()) {
        return None;
    }
    let stack = |stack: &Stack| StackLine { config: stack.config().clone(), reverse: stack.reverse };
    let line = Line {
        stacks: network.stacks.iter().map(stack).collect(),
        is_final: network.reads == Reads::Final,
        softmaxes: network.mixture.as_ref().map(|mixture| mixture.softmaxes),
        readouts: network.readouts.iter().map(|readout| readout.activation.name().to_owned()).collect(),
    };
    serde_json::to_string(&line).ok()
}

/// Whether a file says that this program wrote it.
pub(super) fn is_own(model: &ModelProto) -> bool {
    line(model).is_some()
}

fn line(model: &ModelProto) -> Option<&str> {
    let entry = model.metadata_props.iter().find(|entry| entry.key.as_deref() == Some(KEY))?;
    entry.value.as_deref()
}

/// The network of a file that this program wrote and nobody changed.
pub(super) fn import(path: &Path, model: &ModelProto, stored: u64) -> Option<Import> {
    let line: Line = serde_json::from_str(line(model)?).ok()?;
    let graph = model.graph.as_ref()?;
    let mut tensors = Tensors { storage: Storage::new(path, stored), all: HashMap::new(), found: Vec::new() };
    tensors.all.extend(graph.initializer.iter().map(|tensor| (tensor.name.as_deref().unwrap_or(""), tensor)));
    let network = network(&line, graph, &mut tensors)?;
    let is_opset = matches!(&model.opset_import[..], [set] if set.version == Some(OPSET));
    if !is_opset || graph_of(&network).ok()?.into_proto(KEY) != *graph {
        return None;
    }
    let version = model.producer_version.as_deref().unwrap_or("");
    let kind = format!("ONNX, operators of version {OPSET}, from lstm {version}");
    let found = tensors.found;
    Some(Import { kind: kind.trim_end().to_owned(), network, found, left_over: Vec::new(), without_place: Vec::new() })
}

/// The tensors of a file, and which of them were taken.
struct Tensors<'a> {
    storage: Storage<'a>,
    all: HashMap<&'a str, &'a TensorProto>,
    found: Vec<Found>,
}

impl Tensors<'_> {
    /// The values and the shape of a tensor, which is `ours` here.
    fn take(&mut self, name: &str, ours: &str) -> Option<(Vec<f32>, Vec<usize>)> {
        let tensor = self.storage.tensor(self.all.get(name)?).ok()?;
        let values = tensor.floats()?.to_vec();
        let (theirs, ours) = (name.to_owned(), ours.to_owned());
        if !self.found.iter().any(|found| found.theirs == theirs) {
            self.found.push(Found { theirs, ours, shape: tensor.shape.clone() });
        }
        Some((values, tensor.shape))
    }

    /// A matrix that lies in the file as a product takes it, turned back: its values, its rows and columns here.
    fn matrix(&mut self, name: &str, ours: &str) -> Option<(Vec<f32>, [usize; 2])> {
        let (values, shape) = self.take(name, ours)?;
        let [rows, columns] = shape[..] else { return None };
        Some((transposed(&values, rows, columns), [columns, rows]))
    }
}

/// The network of a line and the tensors of a graph.
fn network(line: &Line, graph: &GraphProto, tensors: &mut Tensors) -> Option<Network> {
    let mut network = Network { reads: if line.is_final { Reads::Final } else { Reads::Steps }, ..Network::default() };
    // Every layer has a tensor at least: a line cannot ask for more room than the file backs.
    let layers = line.stacks.iter().try_fold(0usize, |sum, stack| sum.checked_add(stack.config.layers))?;
    if layers > graph.initializer.len() || line.readouts.len() > graph.initializer.len() {
        return None;
    }
    if tensors.all.contains_key("embedding") {
        let (weight, shape) = tensors.take("embedding", "embedding.weight")?;
        let [vocabulary, size] = shape[..] else { return None };
        network.embedding = Some(Embedding { vocabulary, size, weight });
    }
    let mut first = 0;
    for StackLine { config, reverse } in &line.stacks {
        let prefix =
            if line.stacks.len() == 1 { "lstm.".to_owned() } else { format!("lstm.{}.", network.stacks.len()) };
        let found = Stack::new(config.clone(), |name, shape| {
            let values = parameter(config, first, name, shape, &prefix, tensors);
            values.map(Into::into).ok_or_else(|| NetworkError::Unfit(format!("{name} is not there")))
        });
        network.stacks.push(Stack { reverse: *reverse, ..found.ok()? });
        first += config.layers;
    }
    if let Some(softmaxes) = line.softmaxes {
        let (prior, _) = tensors.matrix("prior_weight", "mixture_prior.weight")?;
        let (latent, _) = tensors.matrix("latent_weight", "mixture_latent.weight")?;
        network.mixture = Some(Mixture { softmaxes, prior, latent });
    }
    for (index, activation) in line.readouts.iter().enumerate() {
        let activation = Activation::ALL.into_iter().find(|own| own.name() == activation)?;
        // The names that readouts have here depend on all of them, so they come afterwards.
        let (own, weight_name) = (index.to_string(), format!("readout{index}_weight"));
        let (weight, shape) = match (tensors.all.contains_key(weight_name.as_str()), &network.embedding) {
            (true, _) => tensors.matrix(&weight_name, &format!("{own}.weight"))?,
            (false, Some(table)) => (table.weight.clone(), [table.vocabulary, table.size]),
            (false, None) => return None,
        };
        let bias = tensors.take(&format!("readout{index}_bias"), &format!("{own}.bias")).map(|(bias, _)| bias);
        network.readouts.push(Linear { activation, ..Linear::new(shape, weight, bias) });
    }
    for found in &mut tensors.found {
        if let Some((index, name)) = found.ours.split_once('.')
            && let Ok(index) = index.parse()
        {
            found.ours = format!("{}{name}", readout_name(&network, index));
        }
    }
    network.validate().is_ok().then_some(network)
}

/// A parameter of a stack, whose layers are numbered from `first` in the file.
fn parameter(
    config: &LstmConfig,
    first: usize,
    name: &str,
    shape: &[usize],
    prefix: &str,
    tensors: &mut Tensors,
) -> Option<Vec<f32>> {
    let (kind, rest) = name.rsplit_once("_l")?;
    let (layer, suffix) = rest.strip_suffix("_reverse").map_or((rest, ""), |layer| (layer, "_reverse"));
    let layer: usize = layer.parse().ok()?;
    let number = first + layer;
    let ours = format!("{prefix}{name}");
    match kind {
        "weight_score" => return Some(tensors.matrix(&format!("scores{number}_weight"), &ours)?.0),
        "bias_score" => return Some(tensors.take(&format!("scores{number}_bias"), &ours)?.0),
        _ => {}
    }
    let coupled = config.variant.coupled;
    if is_operator(config) {
        let (tensor, blocks, from) = match kind {
            "weight_ih" => ("W", 4, 0),
            "weight_hh" => ("R", 4, 0),
            "bias_ih" => ("B", 8, 0),
            "bias_hh" => ("B", 8, 4),
            "weight_peephole" => ("P", 3, 0),
            _ => return None,
        };
        let (values, _) = tensors.take(&format!("{tensor}{number}"), &ours)?;
        // i, o, f, c as i, f, g, o, or f, g, o; peepholes i, o, f as i, f, o, or f, o.
        let order: &[usize] = match (blocks, coupled) {
            (3, false) => &[0, 2, 1],
            (3, true) => &[2, 1],
            (_, false) => &[0, 2, 3, 1],
            (_, true) => &[2, 3, 1],
        };
        let own = values.len() / config.directions();
        let own = values.get(if suffix.is_empty() { 0 } else { own }..)?.get(..own)?;
        let width = own.len() / blocks;
        return Some(order.iter().flat_map(|gate| own[(from + gate) * width..][..width].to_vec()).collect());
    }
    let tensor = |name: &str| format!("{name}{number}{suffix}");
    match kind {
        "weight_ih" | "weight_hh" | "weight_hr" => Some(tensors.matrix(&tensor(kind), &ours)?.0),
        // Their sum is in the file.
        "bias_ih" if !config.variant.layer_norm => Some(tensors.take(&tensor("bias"), &ours)?.0),
        "bias_hh" if !config.variant.layer_norm => {
            let size = shape.iter().product();
            (Some(size) == tensors.take(&tensor("bias"), &ours).map(|(bias, _)| bias.len())).then(|| vec![0.0; size])
        }
        "weight_peephole" => {
            let gates: &[&str] = if coupled { &["f", "o"] } else { &["i", "f", "o"] };
            let all = gates.iter().map(|gate| Some(tensors.take(&tensor(&format!("peephole_{gate}")), &ours)?.0));
            Some(all.collect::<Option<Vec<_>>>()?.concat())
        }
        _ if kind.starts_with("weight_mogrify") => {
            // A matrix for each round.
            let rounds = config.variant.mogrify;
            let count = if kind.starts_with("weight_mogrify_input") { rounds.div_ceil(2) } else { rounds / 2 };
            let all = (0..count).map(|round| Some(tensors.matrix(&tensor(&format!("{kind}_{round}")), &ours)?.0));
            Some(all.collect::<Option<Vec<_>>>()?.concat())
        }
        _ => Some(tensors.take(&tensor(kind), &ours)?.0),
    }
}
