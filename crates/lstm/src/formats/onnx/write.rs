//! A network as an ONNX graph: tokens or vectors and states in, what the readouts give and states out.
//!
//! ```text
//! tokens [time, batch] or input [time, batch, I] · h0, c0, h1, c1, … [D, batch, ·], one pair a layer
//!     → logits [time, batch, V] · h0_out, c0_out, …
//! ```
//!
//! A layer of plain cells, with peepholes or coupled gates, is the operator LSTM; what that cannot say is written out, see
//! [`scan`](super::scan). Coupled gates, i = 1 − f, are an input gate with the forget gate's parameters negated, for
//! σ(−s) = 1 − σ(s): some programs ignore the attribute `input_forget`.

use super::super::network::{
    Activation, CellFunctions, Function, Linear, Mixture, Network, NetworkError, Reads, Stack,
};
use super::graph::{BATCH, Graph, OPSET, Size, TIME, float, floats, int, ints, string, strings, transposed};
use super::own;
use super::proto::{AttributeProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, data};
use super::scan::{Direction, cell};
use crate::nn::config::{LstmConfig, Readout, Wiring};

/// The version of the file's form that belongs to it.
const IR: i64 = 8;

/// The graph of a network.
///
/// # Errors
/// What no operators say, by name.
pub(super) fn graph_of(network: &Network) -> Result<Graph, NetworkError> {
    let mut graph = Graph::default();
    let mut x = match &network.embedding {
        Some(embedding) => {
            let tokens = graph.input("tokens", data::INT64, &[TIME, BATCH]);
            let table = graph.floats("embedding", &[embedding.vocabulary, embedding.size], &embedding.weight);
            graph.node("Gather", &[&table, &tokens], "embedded", vec![int("axis", 0)])
        }
        None => graph.input("input", data::FLOAT, &[TIME, BATCH, Size::Known(network.input_size())]),
    };
    let mut number = 0;
    let mut last = String::new();
    for stack in &network.stacks {
        (x, last) = write_stack(&mut graph, stack, &x, &mut number)?;
    }
    let mut shape = vec![TIME, BATCH, Size::Known(network.output_size())];
    if network.reads == Reads::Final {
        // [D, batch, R] to [batch, D·R].
        let turned = graph.node("Transpose", &[&last], "final_state", vec![ints("perm", &[1, 0, 2])]);
        let sizes = graph.whole("sizes_0_rest", &[0, -1]);
        x = graph.node("Reshape", &[&turned, &sizes], "final", vec![]);
        shape.remove(0);
    }
    let name = match (&network.embedding, network.readouts.last()) {
        (Some(_), Some(readout)) if readout.activation == Activation::Linear => "logits",
        _ => "output",
    };
    match (&network.mixture, &network.readouts[..]) {
        (Some(mixture), [readout]) => x = write_mixture(&mut graph, mixture, readout, network, &x),
        _ => {
            for (index, readout) in network.readouts.iter().enumerate() {
                let tied = index + 1 == network.readouts.len() && network.is_tied();
                x = write_readout(&mut graph, readout, index, tied, &x);
            }
        }
    }
    graph.node("Identity", &[&x], name, vec![]);
    graph.output(name, &shape);
    for (index, stack) in network.stacks.iter().enumerate() {
        let layers_before: usize = network.stacks[..index].iter().map(|stack| stack.config().layers).sum();
        let config = stack.config();
        for layer in 0..config.layers {
            for (kind, size) in [("h", config.recurrent(layer)), ("c", config.cell_state(layer))] {
                let shape = [Size::Known(config.directions()), BATCH, Size::Known(size)];
                graph.output(&format!("{kind}{}_out", layers_before + layer), &shape);
            }
        }
    }
    Ok(graph)
}

/// The file that holds a graph.
pub(super) fn model_of(graph: Graph, network: &Network) -> ModelProto {
    let entry =
        |key: &str, value: &str| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) };
    let layers = network.stacks.iter().map(|stack| entry("layers", &stack.describe()));
    let line = own::written(network).map(|line| entry(own::KEY, &line));
    ModelProto {
        ir_version: Some(IR),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        producer_name: Some("lstm".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(graph.into_proto(own::KEY)),
        metadata_props: line.into_iter().chain(layers).collect(),
        ..ModelProto::default()
    }
}

/// The layers of a stack over `x` [time, batch, I]: what the last one gives, and its final hidden states.
fn write_stack(
    graph: &mut Graph,
    stack: &Stack,
    x: &str,
    number: &mut usize,
) -> Result<(String, String), NetworkError> {
    let config = stack.config();
    if stack.initial.is_some() {
        return Err(NetworkError::Unfit(
            "the network starts from states of its own, but those of a file that is written are its inputs".to_owned(),
        ));
    }
    let (mut hidden, mut readout, mut last) = (x.to_owned(), x.to_owned(), String::new());
    for layer in 0..config.layers {
        let below = match config.wiring {
            _ if layer == 0 => hidden.clone(),
            Wiring::Stacked => hidden.clone(),
            Wiring::Skip => graph.node("Concat", &[x, &hidden], &format!("joined{number}"), vec![int("axis", 2)]),
            Wiring::Scores => {
                let below = layer - 1;
                let width = config.layer_output(below);
                let array = |name: &str| stack.get(&format!("{name}_l{below}")).unwrap_or(&[]);
                let (weight, bias) = (array("weight_score").to_vec(), Some(array("bias_score").to_vec()));
                let scores = Linear::new([config.scores, width], weight, bias);
                let scores = linear(graph, &scores, &format!("scores{}", *number - 1), &readout);
                graph.node("Concat", &[&scores, &hidden], &format!("joined{number}"), vec![int("axis", 2)])
            }
        };
        let mut own = write_layer(graph, stack, layer, *number, &below);
        if config.adds_input(layer) {
            own.hidden = graph.node("Add", &[&own.hidden, &below], &format!("added{number}"), vec![]);
        }
        (hidden, last) = (own.hidden, own.last);
        readout = own.gate.unwrap_or_else(|| hidden.clone());
        *number += 1;
    }
    Ok((readout, last))
}

/// What a layer gives.
struct LayerOutput {
    /// [time, batch, D·R].
    hidden: String,
    /// The output gates [time, batch, D·H], where they are read.
    gate: Option<String>,
    /// The final hidden states, [D, batch, R].
    last: String,
}

/// One layer, in one or two directions, from and to states of its own.
fn write_layer(graph: &mut Graph, stack: &Stack, layer: usize, number: usize, x: &str) -> LayerOutput {
    let config = stack.config();
    let (directions, hidden, recurrent) = (config.directions(), config.hidden.of(layer), config.recurrent(layer));
    let state = |size| [Size::Known(directions), BATCH, Size::Known(size)];
    let h = graph.input(&format!("h{number}"), data::FLOAT, &state(recurrent));
    let c = graph.input(&format!("c{number}"), data::FLOAT, &state(config.cell_state(layer)));
    let (h_out, c_out) = (format!("h{number}_out"), format!("c{number}_out"));
    if is_operator(config) {
        let weights = operator_weights(graph, stack, layer, number);
        let [w, r, b] = [&weights[0], &weights[1], &weights[2]];
        let mut inputs = vec![x, w, r, b, "", &h, &c];
        inputs.extend(weights.get(3).map(String::as_str));
        let direction = match (stack.reverse, config.bidirectional) {
            (true, _) => "reverse",
            (false, true) => "bidirectional",
            (false, false) => "forward",
        };
        let mut attributes = vec![int("hidden_size", hidden as i64), string("direction", direction)];
        attributes.extend(stack.functions.iter().flat_map(functions));
        let y = format!("y{number}");
        graph.nodes_of("LSTM", &inputs, &[&y, &h_out, &c_out], attributes);
        let name = format!("hidden{number}");
        let hidden = match directions {
            1 => {
                let axis = graph.whole("axis_1", &[1]);
                graph.node("Squeeze", &[&y, &axis], &name, vec![])
            }
            _ => {
                let turned = format!("turned{number}");
                graph.node("Transpose", &[&y], &turned, vec![ints("perm", &[0, 2, 1, 3])]);
                let sizes = graph.whole("sizes_0_0_rest", &[0, 0, -1]);
                graph.node("Reshape", &[&turned, &sizes], &name, vec![])
            }
        };
        return LayerOutput { hidden, gate: None, last: h_out };
    }
    // Every direction by itself: its states without their first axis, its loop, and all put together again.
    let mut all = Vec::new();
    for direction in 0..directions {
        let suffix = if direction == 1 { "_reverse" } else { "" };
        let own = |graph: &mut Graph, states: &str| {
            let index = graph.whole(&format!("index_{direction}"), &[direction as i64]);
            let name = format!("{states}{suffix}_row");
            let row = match directions {
                1 => states.to_owned(),
                _ => graph.node("Gather", &[states, &index], &name, vec![int("axis", 0)]),
            };
            let axis = graph.whole("axis_0", &[0]);
            graph.node("Squeeze", &[&row, &axis], &format!("{states}{suffix}_in"), vec![])
        };
        let states = [own(graph, &h), own(graph, &c)];
        let name = format!("{number}{suffix}");
        let reverse = stack.reverse || direction == 1;
        all.push(cell(graph, &Direction { stack, layer, suffix, name, reverse }, x, states));
    }
    let joined = |graph: &mut Graph, names: &[&str], name: &str, axis: i64| match names {
        [one] => (*one).to_owned(),
        _ => graph.node("Concat", names, name, vec![int("axis", axis)]),
    };
    for (place, name) in [(0, &h_out), (1, &c_out)] {
        let axis = graph.whole("axis_0", &[0]);
        let rows: Vec<String> = all
            .iter()
            .map(|own| {
                let own = [&own.h, &own.c][place];
                let output = if directions == 1 { name.clone() } else { format!("{own}_row") };
                graph.node("Unsqueeze", &[own, &axis], &output, vec![])
            })
            .collect();
        joined(graph, &rows.iter().map(String::as_str).collect::<Vec<_>>(), name, 0);
    }
    let hidden: Vec<&str> = all.iter().map(|own| own.hidden.as_str()).collect();
    let hidden = joined(graph, &hidden, &format!("hidden{number}"), 2);
    let gate = (config.readout == Readout::OutputGate).then(|| {
        let gates: Vec<&str> = all.iter().filter_map(|own| own.gate.as_deref()).collect();
        joined(graph, &gates, &format!("gate{number}"), 2)
    });
    LayerOutput { hidden, gate, last: h_out }
}

/// Whether the operator LSTM says the cells of a stack.
pub(super) fn is_operator(config: &LstmConfig) -> bool {
    let variant = config.variant;
    config.projection.is_none()
        && config.readout == Readout::Hidden
        && !variant.layer_norm
        && !variant.exponential
        && variant.mogrify == 0
        && variant.zoneout == Default::default()
}

/// The attributes that say what a cell computes, every α and β among them: programs have values of their own for those that are
/// not there.
fn functions(functions: &CellFunctions) -> Vec<AttributeProto> {
    let all: Vec<Function> = functions.of.concat();
    let names: Vec<&str> = all.iter().map(|function| function.name()).collect();
    let (alphas, betas): (Vec<_>, Vec<_>) = all.iter().map(|function| function.attributes()).unzip();
    let mut attributes = vec![strings("activations", &names)];
    for (name, values) in [("activation_alpha", alphas), ("activation_beta", betas)] {
        let values: Vec<f32> = values.into_iter().flatten().collect();
        attributes.extend((!values.is_empty()).then(|| floats(name, &values)));
    }
    attributes.extend(functions.clip.map(|clip| float("clip", clip)));
    attributes.extend(functions.input_forget.then(|| int("input_forget", 1)));
    attributes
}

/// W, R, B and, with peepholes, P of the operator LSTM: both directions, gates in the order i, o, f, g.
fn operator_weights(graph: &mut Graph, stack: &Stack, layer: usize, number: usize) -> Vec<String> {
    let config = stack.config();
    let (directions, hidden, input) = (config.directions(), config.hidden.of(layer), config.layer_input(layer));
    let coupled = config.variant.coupled;
    let (mut w, mut r, mut b, mut p) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for suffix in ["", "_reverse"].iter().take(directions) {
        let array = |name: &str| stack.get(&format!("{name}_l{layer}{suffix}")).unwrap_or(&[]);
        for (name, place) in [("weight_ih", 0), ("weight_hh", 1), ("bias_ih", 2), ("bias_hh", 2)] {
            let values = array(name);
            let to = match place {
                0 => &mut w,
                1 => &mut r,
                _ => &mut b,
            };
            let block = values.len() / config.variant.gates();
            // Ours are i, f, g, o, or f, g, o.
            let gate = |index: usize| &values[index * block..][..block];
            match coupled {
                true => {
                    to.extend(gate(0).iter().map(|value| -value));
                    [2, 0, 1].into_iter().for_each(|index| to.extend_from_slice(gate(index)));
                }
                false => [0, 3, 1, 2].into_iter().for_each(|index| to.extend_from_slice(gate(index))),
            }
        }
        if config.variant.peepholes {
            let values = array("weight_peephole");
            let gate = |index: usize| &values[index * hidden..][..hidden];
            match coupled {
                true => {
                    p.extend(gate(0).iter().map(|value| -value));
                    [1, 0].into_iter().for_each(|index| p.extend_from_slice(gate(index)));
                }
                false => [0, 2, 1].into_iter().for_each(|index| p.extend_from_slice(gate(index))),
            }
        }
    }
    let gates = 4 * hidden;
    let mut names = vec![
        graph.floats(&format!("W{number}"), &[directions, gates, input], &w),
        graph.floats(&format!("R{number}"), &[directions, gates, hidden], &r),
        graph.floats(&format!("B{number}"), &[directions, 2 * gates], &b),
    ];
    if config.variant.peepholes {
        names.push(graph.floats(&format!("P{number}"), &[directions, 3 * hidden], &p));
    }
    names
}

/// x Wᵀ + b: the weights lie as the product takes them, `[I, O]`.
fn linear(graph: &mut Graph, linear: &Linear, name: &str, x: &str) -> String {
    let Linear { input, output, weight, .. } = linear;
    let weight = graph.floats(&format!("{name}_weight"), &[*input, *output], &transposed(weight, *output, *input));
    let product = graph.node("MatMul", &[x, &weight], &format!("{name}_product"), vec![]);
    with_bias(graph, linear, name, product)
}

fn with_bias(graph: &mut Graph, linear: &Linear, name: &str, product: String) -> String {
    match &linear.bias {
        Some(bias) => {
            let bias = graph.floats(&format!("{name}_bias"), &[linear.output], bias);
            graph.node("Add", &[&product, &bias], name, vec![])
        }
        None => product,
    }
}

/// Readout `index` and what follows it; a tied one takes its weights from the embedding.
fn write_readout(graph: &mut Graph, readout: &Linear, index: usize, tied: bool, x: &str) -> String {
    let name = format!("readout{index}");
    let value = match tied {
        true => {
            let table = tied_weight(graph);
            let product = graph.node("MatMul", &[x, &table], &format!("{name}_product"), vec![]);
            with_bias(graph, readout, &name, product)
        }
        false => linear(graph, readout, &name, x),
    };
    let output = format!("{name}_activated");
    let operator = match readout.activation {
        Activation::Linear => return value,
        Activation::Relu => "Relu",
        Activation::Tanh => "Tanh",
        Activation::Sigmoid => "Sigmoid",
        Activation::Softmax => "Softmax",
        Activation::LogSoftmax => "LogSoftmax",
    };
    let attributes = if operator.ends_with("Softmax") { vec![int("axis", -1)] } else { vec![] };
    graph.node(operator, &[&value], &output, attributes)
}

/// The embedding's table as a readout's weights, `[E, V]`.
fn tied_weight(graph: &mut Graph) -> String {
    graph.node("Transpose", &["embedding"], "embedding_turned", vec![ints("perm", &[1, 0])])
}

/// ln Σₖ πₖ pₖ of a mixture of softmaxes, `[time, batch, V]`.
fn write_mixture(graph: &mut Graph, mixture: &Mixture, readout: &Linear, network: &Network, x: &str) -> String {
    let softmaxes = mixture.softmaxes;
    let output = mixture.prior.len() / softmaxes.max(1);
    let prior = Linear::new([softmaxes, output], mixture.prior.clone(), None);
    let prior = linear(graph, &prior, "prior", x);
    let prior = graph.node("LogSoftmax", &[&prior], "log_prior", vec![int("axis", -1)]);
    let axis = graph.whole("axis_3", &[3]);
    let prior = graph.node("Unsqueeze", &[&prior, &axis], "log_prior_column", vec![]);
    let latent = Linear::new([softmaxes * readout.input, output], mixture.latent.clone(), None);
    let latent = linear(graph, &latent, "latent", x);
    let latent = graph.node("Tanh", &[&latent], "latent_activated", vec![]);
    let sizes = graph.whole("sizes_latent", &[0, 0, softmaxes as i64, readout.input as i64]);
    let latent = graph.node("Reshape", &[&latent, &sizes], "latent_rows", vec![]);
    let scores = write_readout(graph, readout, 0, network.is_tied(), &latent);
    let scores = graph.node("LogSoftmax", &[&scores], "log_softmaxes", vec![int("axis", -1)]);
    let weighed = graph.node("Add", &[&scores, &prior], "weighed", vec![]);
    let axis = graph.whole("axis_2", &[2]);
    graph.node("ReduceLogSumExp", &[&weighed, &axis], "mixed", vec![int("keepdims", 0)])
}
