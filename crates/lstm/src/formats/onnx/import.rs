//! From the parts that a graph was found to be to a network, and what of the file is not in it.

use std::path::Path;

use super::super::FormatError;
use super::super::import::{Found, Hints, Import};
use super::super::network::{Embedding, Linear, Network, Reads};
use super::super::state_dict::Float;
use super::axes::Factor;
use super::follow::{Flow, Follower, Part, Value};
use super::own;
use super::proto::{GraphProto, ModelProto};
use super::tensor::Storage;
use crate::said::count;

/// The versions of the standard's operators that are known.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=27;

/// The network of a model.
///
/// # Errors
/// The first node that does not fit, by its name and operator.
pub(super) fn import(path: &Path, model: &ModelProto, stored: u64, hints: Hints) -> Result<Import, FormatError> {
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    if !hints.map.is_empty() {
        let why = "the map gives tensors of a state dict their places; a graph says itself what is computed from what";
        return Err(unusable(why.to_owned()));
    }
    let graph =
        model.graph.as_ref().ok_or_else(|| unusable("it has no graph: it is damaged, or no ONNX model".to_owned()))?;
    let opset = opset(model).map_err(unusable)?;
    if let Some(import) = own::import(path, model, stored) {
        return Ok(import);
    }
    let changed =
        "this program wrote the file, but its graph is not the one that was written: it was followed node by node";
    let is_own = own::is_own(model);
    let mut import = followed(path, model, graph, opset, stored, hints.is_look).map_err(|why| match is_own {
        true => unusable(format!("{why} ({changed})")),
        false => unusable(why),
    })?;
    import.network.notes.extend(is_own.then(|| changed.to_owned()));
    Ok(import)
}

/// The network of a graph that is followed node by node.
fn followed(
    path: &Path,
    model: &ModelProto,
    graph: &GraphProto,
    opset: i64,
    stored: u64,
    is_look: bool,
) -> Result<Import, String> {
    let mut follower = Follower::new(Storage::new(path, stored));
    follower.run(graph, opset)?;
    let Outputs { result, left_over, lost } = result(&mut follower, graph)?;
    // Before the node that does not fit: one of many of gates that are written out.
    if let Some(why) = result.is_none().then(|| written_out(model, graph)).flatten() {
        return Err(why);
    }
    if let Some(why) = lost.first().filter(|_| !is_look || result.is_none()) {
        return Err(why.clone());
    }
    let Some(result) = result else {
        let nodes = count(graph.node.len(), "node");
        return Err(format!("there is no operator LSTM on the way to what it gives, among its {nodes}"));
    };
    let (mut network, found, input) = chain(&follower, result.part)?;
    network.notes = notes(&follower, &input);
    let producer = model.producer_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("an unnamed program");
    let version = model.producer_version.as_deref().unwrap_or("");
    let kind = format!("ONNX, operators of version {opset}, from {producer} {version}");
    Ok(Import { kind: kind.trim_end().to_owned(), network, found, left_over, without_place: lost })
}

/// The version of the standard's operators.
fn opset(model: &ModelProto) -> Result<i64, String> {
    let is_own = |domain: &Option<String>| matches!(domain.as_deref().unwrap_or(""), "" | "ai.onnx");
    let own = model.opset_import.iter().find(|set| is_own(&set.domain)).and_then(|set| set.version);
    let version =
        own.ok_or("it does not say which version of the operators it uses: it is damaged, or no ONNX model")?;
    match OPSETS.contains(&version) {
        true => Ok(version),
        false => Err(format!(
            "its operators are of version {version}; versions {} to {} are known here: convert it with onnx.version_converter",
            OPSETS.start(),
            OPSETS.end()
        )),
    }
}

/// What a graph gives.
struct Outputs {
    /// What the network gives.
    result: Option<Flow>,
    /// What is given beside it.
    left_over: Vec<String>,
    /// Why what is given cannot be followed.
    lost: Vec<String>,
}

/// What the graph gives that is a network, with what it gives beside it, and why what it gives cannot be followed.
fn result(follower: &mut Follower, graph: &GraphProto) -> Result<Outputs, String> {
    let (mut flows, mut states, mut lost, mut left_over) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for output in &graph.output {
        let name = output.name.as_deref().unwrap_or("");
        match follower.values.get(name).cloned() {
            None => return Err(format!("it gives {name}, which no node computes")),
            Some(Value::Lost(why)) if !lost.contains(&why) => lost.push(why),
            Some(Value::Lost(_)) => {}
            Some(Value::Flow(flow)) if has_lstm(follower, flow.part) => flows.push((name, flow)),
            // A vector for each row, not the states as they lie.
            Some(Value::States(own)) if own.axes.len() == 2 => match follower.as_flow(&own) {
                Some(flow) => flows.push((name, flow)),
                None => states.push(own),
            },
            Some(Value::States(own)) => states.push(own),
            Some(_) => left_over.push(format!("the output {name}, in which no LSTM takes part")),
        }
    }
    let depth = |follower: &Follower, part: usize| above(follower, part).count();
    flows.sort_by_key(|(_, flow)| std::cmp::Reverse(depth(follower, flow.part)));
    let mut flows = flows.into_iter();
    let result = match flows.next() {
        Some((name, flow)) => {
            let all: Vec<usize> = above(follower, flow.part).collect();
            for (other, beside) in flows {
                // A readout without its bias or activation is a part of the readout.
                if !all.contains(&beside.part) && beside.part != flow.part {
                    return Err(format!(
                        "it gives {name} and {other}, neither of which is on the way to the other: two networks in one file"
                    ));
                }
                left_over.push(format!("the output {other}, which is on the way to {name}"));
            }
            Some(flow)
        }
        // Only final states: those of the last LSTM.
        None => {
            let last = states.iter().flat_map(|own| own.items.iter().map(|(part, _)| *part)).max();
            last.map(|part| Flow { part, axes: vec![] })
        }
    };
    Ok(Outputs { result, left_over, lost })
}

/// The parts from one down to the input.
fn above<'a>(follower: &'a Follower, part: usize) -> impl Iterator<Item = usize> + 'a {
    std::iter::successors(Some(part), |part| match &follower.parts[*part] {
        Part::Input { .. } => None,
        Part::Embedding { below, .. }
        | Part::Lstm { below, .. }
        | Part::Added { below }
        | Part::Final { below }
        | Part::Linear { below, .. } => Some(*below),
    })
}

fn has_lstm(follower: &Follower, part: usize) -> bool {
    above(follower, part).any(|part| matches!(follower.parts[part], Part::Lstm { .. }))
}

/// The network of the parts down from `top`, where each of its arrays comes from, and the input's name.
fn chain(follower: &Follower, top: usize) -> Result<(Network, Vec<Found>, String), String> {
    let mut parts: Vec<usize> = above(follower, top).collect();
    parts.reverse();
    let (mut network, mut found, mut input) = (Network::default(), Vec::new(), String::new());
    let (mut layer, mut readout, mut adds) = (0, 0, Vec::new());
    let readouts = parts.iter().filter(|part| matches!(follower.parts[**part], Part::Linear { .. })).count();
    let mut find = |theirs: &str, ours: String, shape: Vec<usize>| {
        found.push(Found { theirs: theirs.to_owned(), ours, shape });
    };
    for part in parts {
        match &follower.parts[part] {
            Part::Input { name, .. } => input.clone_from(name),
            Part::Embedding { table, .. } => {
                let (vocabulary, size) = (table.shape[0], table.shape[1]);
                let weight = table.floats().unwrap_or(&[]).to_vec();
                network.embedding = Some(Embedding { vocabulary, size, weight });
                find(&table.name, "embedding.weight".to_owned(), table.shape.clone());
            }
            Part::Lstm { stack, names, .. } => {
                for name in names {
                    find(&name.theirs, format!("lstm.{}_l{layer}", name.ours), name.shape.clone());
                }
                network.stacks.push((**stack).clone());
                adds.push(false);
                layer += 1;
            }
            Part::Added { .. } => adds.iter_mut().next_back().into_iter().for_each(|adds| *adds = true),
            Part::Final { .. } => network.reads = Reads::Final,
            Part::Linear { linear, .. } => {
                let input = linear.weight.len() / linear.output.max(1);
                let name = if readouts == 1 { "readout".to_owned() } else { format!("readout.{readout}") };
                find(&linear.names[0], format!("{name}.weight"), vec![linear.output, input]);
                if linear.bias.is_some() {
                    find(&linear.names[1], format!("{name}.bias"), vec![linear.output]);
                }
                let own = Linear::new([linear.output, input], linear.weight.clone(), linear.bias.clone());
                network.readouts.push(Linear { activation: linear.activation, ..own });
                readout += 1;
            }
        }
    }
    Ok((network.joined_with_residual(&adds).map_err(|error| error.to_string())?, found, input))
}

/// What a reader of the network should know.
fn notes(follower: &Follower, input: &str) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(Float::note(&follower.storage.forms));
    if let Some([time, batch]) = &follower.course {
        let place = |axis: &[Factor]| match axis {
            [Factor::Input(input)] => Some(*input),
            _ => None,
        };
        let known = |axis: &[Factor]| place(axis).and_then(|input| follower.sizes.get(input).copied().flatten());
        match (known(time), time.is_empty()) {
            (Some(steps), _) => notes.push(format!("the file is for {}; here for any number", count(steps, "step"))),
            (None, true) => notes.push("the file is for one step; here for any number".to_owned()),
            (None, false) => {}
        }
        if let Some(rows) = known(batch) {
            notes.push(format!("the file is for {}; here for any number", count(rows, "row")));
        }
        if place(time).zip(place(batch)).is_some_and(|(time, batch)| batch < time) {
            notes.push(format!("rows come before steps in its input {input}; here steps come first"));
        }
    }
    if follower.has_lengths {
        notes.push("the lengths of rows are an input of the file; a segment has them here, and what is written into another file has not: it reads every row to its end".to_owned());
    }
    notes.extend(follower.notes.iter().cloned());
    notes
}

/// The sentence about a file that has the gates of an LSTM in place of the operator, if it has.
fn written_out(model: &ModelProto, graph: &GraphProto) -> Option<String> {
    let count = |operator: &str| graph.node.iter().filter(|node| node.op_type.as_deref() == Some(operator)).count();
    let (sigmoids, tanhs) = (count("Sigmoid"), count("Tanh"));
    if count("LSTM") > 0 || tanhs < 2 || sigmoids * 2 != tanhs * 3 {
        return None;
    }
    let steps = tanhs / 2;
    let by = model.producer_name.as_deref().unwrap_or("");
    Some(format!(
        "there is no operator LSTM in it, but the gates of {steps} step{} written out: Keras on the torch backend (the file is \
         from {by}) writes an LSTM for the length it was called with, and of an open length a single time step; export it \
         with another backend, or convert the .keras file",
        if steps == 1 { "" } else { "s" }
    ))
}
