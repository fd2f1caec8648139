//! Writes what `keras.saving.load_model` takes, a `.keras` file, and what `load_weights` does, a `.weights.h5` file, of a chain of
//! layers: a Sequential, or a Functional model where layers' inputs are added to what they give. The same network is always the same
//! bytes.

use std::collections::HashMap;
use std::io::{Cursor, Write as _};
use std::path::Path;

use hdf5_pure::{AttrValue, FileBuilder, GroupBuilder};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::network::{Function, Network, NetworkError, Reads, Stack};
use super::super::{FormatError, write_bytes};
use super::chain::keras_name;
use super::{CONFIG, METADATA, WEIGHTS, transposed};
use crate::nn::config::{CellOptions, Readout, Wiring};

/// The version whose files these are like.
const VERSION: &str = "3.15.1";

/// An array in Keras's order of rows and columns.
struct Array {
    shape: Vec<u64>,
    values: Vec<f32>,
}

/// A layer that is written.
struct Layer {
    class: &'static str,
    /// Its class and number, which is its name as well.
    key: String,
    config: Value,
    /// Its arrays, in the groups where they lie.
    arrays: Vec<(&'static str, Vec<Array>)>,
    /// The size of what it gives at a step.
    size: usize,
    /// The layers that it reads, by their places among all; none reads the input alone.
    reads: Vec<usize>,
}

/// Writes a network: a model as `.keras`, or its weights alone.
///
/// # Errors
/// What Keras's layers have not, by name; a name that is neither kind of file; a folder that cannot be written.
pub(crate) fn write(path: &Path, weights_alone: bool, network: &Network) -> Result<(), FormatError> {
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    let is_model = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("keras"));
    if !weights_alone && !is_model {
        let why = "Keras itself no longer writes such files; name it .keras for a model, or .weights.h5 for weights that \
                   load_weights takes";
        return Err(unusable(why.to_owned()));
    }
    let layers = layers(network).map_err(|error| unusable(error.to_string()))?;
    let weights = weights(&layers).map_err(|error| unusable(error.to_string()))?;
    match is_model {
        true => write_bytes(path, &archive(network, &layers, &weights).map_err(|error| unusable(error.to_string()))?),
        false => write_bytes(path, &weights),
    }
}

/// The layers of a network, as Python makes them: what weights alone do not say.
pub(crate) fn describe(network: &Network) -> String {
    let Ok(layers) = layers(network) else { return String::new() };
    let one = |layer: &Layer| {
        let of = |config: &Value| {
            let sequences = if config["return_sequences"] == true { ", return_sequences=True" } else { "" };
            let backwards = if config["go_backwards"] == true { ", go_backwards=True" } else { "" };
            format!("LSTM({}{sequences}{backwards})", config["units"])
        };
        match layer.class {
            "Embedding" => format!("Embedding({}, {})", layer.config["input_dim"], layer.config["output_dim"]),
            "LSTM" => of(&layer.config),
            "Bidirectional" => format!("Bidirectional({})", of(&layer.config["layer"]["config"])),
            "Add" => "Add() of it and what it reads".to_owned(),
            _ => {
                let bias = if layer.config["use_bias"] == false { ", use_bias=False" } else { "" };
                format!("Dense({}{bias})", layer.config["units"])
            }
        }
    };
    layers.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The layers of Keras that compute what a network does.
///
/// # Errors
/// What they have not, by name.
fn layers(network: &Network) -> Result<Vec<Layer>, NetworkError> {
    network.refuse_mixture()?;
    let mut layers = Vec::new();
    let mut counted: HashMap<&str, usize> = HashMap::new();
    let mut add = |class: &'static str, key: &'static str, mut config: Value, arrays, size| {
        let number = counted.entry(key).or_default();
        let key = if *number == 0 { key.to_owned() } else { format!("{key}_{number}") };
        *number += 1;
        config["name"] = key.clone().into();
        let place = layers.len();
        // A sum is of the layer below and of what that reads.
        let reads =
            if class == "Add" { vec![place - 1, place - 2] } else { place.checked_sub(1).into_iter().collect() };
        layers.push(Layer { class, key, config, arrays, size, reads });
    };
    if let Some(table) = &network.embedding {
        let shape = vec![table.vocabulary as u64, table.size as u64];
        let config = json!({"input_dim": table.vocabulary, "output_dim": table.size, "mask_zero": false});
        let arrays = vec![("vars", vec![Array { shape, values: table.weight.clone() }])];
        add("Embedding", "embedding", config, arrays, table.size);
    }
    for (index, stack) in network.stacks.iter().enumerate() {
        let config = stack.config();
        let is_final =
            |layer| network.reads == Reads::Final && index + 1 == network.stacks.len() && layer + 1 == config.layers;
        let functions = functions(stack)?;
        check(stack, is_final(0))?;
        for layer in 0..config.layers {
            let units = config.hidden.of(layer);
            let lstm = |backwards: bool| {
                let [activation, gates] = functions[if backwards { functions.len() - 1 } else { 0 }];
                json!({
                    "units": units, "activation": activation, "recurrent_activation": gates, "use_bias": true,
                    "return_sequences": !is_final(layer), "go_backwards": backwards,
                })
            };
            match config.bidirectional {
                true => {
                    let inner = |name: &str, backwards| {
                        let mut config = lstm(backwards);
                        config["name"] = name.into();
                        wrapped("LSTM", config)
                    };
                    let config = json!({
                        "merge_mode": "concat", "layer": inner("forward_lstm", false), "backward_layer": inner("backward_lstm", true),
                    });
                    let arrays = vec![
                        ("forward_layer/cell/vars", cell(stack, layer, "")),
                        ("backward_layer/cell/vars", cell(stack, layer, "_reverse")),
                    ];
                    add("Bidirectional", "bidirectional", config, arrays, 2 * units);
                }
                false => {
                    let arrays = vec![("cell/vars", cell(stack, layer, ""))];
                    add("LSTM", "lstm", lstm(stack.reverse), arrays, units);
                }
            }
            // To a final state nothing is added.
            if config.adds_input(layer) && !is_final(layer) {
                add("Add", "add", json!({}), vec![], config.directions() * units);
            }
        }
    }
    for readout in &network.readouts {
        let [input, output] = [readout.input as u64, readout.output as u64];
        let values = transposed(&readout.weight, readout.output, readout.input);
        let mut arrays = vec![Array { shape: vec![input, output], values }];
        arrays.extend(readout.bias.iter().map(|bias| Array { shape: vec![output], values: bias.clone() }));
        let config =
            json!({"units": output, "activation": readout.activation.name(), "use_bias": readout.bias.is_some()});
        add("Dense", "dense", config, vec![("vars", arrays)], readout.output);
    }
    Ok(layers)
}

/// The activation and the recurrent activation of each direction of a stack's cells, by their names in Keras.
fn functions(stack: &Stack) -> Result<Vec<[&'static str; 2]>, NetworkError> {
    let unfit = || {
        let found = stack.functions.as_ref().map(ToString::to_string).unwrap_or_default();
        NetworkError::Unfit(format!(
            "its cells have {found}; those of Keras have one function for the candidate and the cell, with Keras's own numbers, and no clip"
        ))
    };
    let Some(own) = &stack.functions else { return Ok(vec![["tanh", "sigmoid"]; stack.config().directions()]) };
    if own.clip.is_some() || own.input_forget || own.of.iter().any(|[_, candidate, cell]| candidate != cell) {
        return Err(unfit());
    }
    let named = |[gates, candidate, _]: &[Function; 3]| Some([keras_name(*candidate)?, keras_name(*gates)?]);
    own.of.iter().map(named).collect::<Option<_>>().ok_or_else(unfit)
}

/// Refuses what Keras's LSTM has not. is_final: whether it is the last layer and its final state alone is read.
fn check(stack: &Stack, is_final: bool) -> Result<(), NetworkError> {
    let config = stack.config();
    let CellOptions { peepholes, coupled, layer_norm, zoneout, exponential, mogrify, mogrify_rank: _ } = config.variant;
    let missing = match config.wiring {
        Wiring::Skip => Some("the wiring skip"),
        Wiring::Scores => Some("the wiring scores"),
        Wiring::Stacked if config.readout == Readout::OutputGate => Some("the readout output-gate"),
        Wiring::Stacked if config.projection.is_some() => Some("a projection"),
        Wiring::Stacked if peepholes => Some("peepholes"),
        Wiring::Stacked if coupled => Some("coupled gates"),
        Wiring::Stacked if layer_norm => Some("layer normalisation"),
        Wiring::Stacked if exponential => Some("exponential input gates"),
        Wiring::Stacked if mogrify > 0 => Some("a mogrifier"),
        Wiring::Stacked if zoneout != Default::default() => {
            Some("zoneout, which in use takes the mean of a cell and the one before")
        }
        Wiring::Stacked if stack.initial.is_some() => Some("initial states of its own, which are an input of the call"),
        Wiring::Stacked if stack.reverse && !is_final => {
            Some("layers that read from the last step to the first and give their steps in the order of the input")
        }
        Wiring::Stacked => None,
    };
    match missing {
        Some(missing) => Err(NetworkError::Unfit(format!(
            "the network has {missing}, which a chain of Keras's layers has not: nothing that it loads would compute the same"
        ))),
        None => Ok(()),
    }
}

/// Kernel, recurrent kernel and bias of one direction of a layer; the bias is the sum of both here.
fn cell(stack: &Stack, layer: usize, suffix: &str) -> Vec<Array> {
    let get = |name: &str| stack.get(&format!("{name}_l{layer}{suffix}")).unwrap_or(&[]);
    let (of_input, of_hidden) = (get("bias_ih"), get("bias_hh"));
    let gates = of_input.len();
    let kernel = |name: &str| {
        let values = get(name);
        let reads = values.len() / gates.max(1);
        Array { shape: vec![reads as u64, gates as u64], values: transposed(values, gates, reads) }
    };
    let bias = of_input.iter().zip(of_hidden).map(|(a, b)| a + b).collect();
    vec![kernel("weight_ih"), kernel("weight_hh"), Array { shape: vec![gates as u64], values: bias }]
}

/// A layer in the form in which configurations hold it.
fn wrapped(class: &str, mut config: Value) -> Value {
    config["trainable"] = true.into();
    config["dtype"] = "float32".into();
    json!({"module": "keras.layers", "class_name": class, "config": config, "registered_name": null})
}

/// Groups of groups with arrays in the innermost.
#[derive(Default)]
struct Group<'a> {
    groups: Vec<(String, Group<'a>)>,
    arrays: &'a [Array],
    /// The name that Keras notes beside arrays.
    name: Option<&'a str>,
}

impl<'a> Group<'a> {
    /// The group at a path, made where it is not there.
    fn at(&mut self, path: &str) -> &mut Self {
        path.split('/').fold(self, |group, name| {
            let index = group.groups.iter().position(|(there, _)| there == name).unwrap_or_else(|| {
                group.groups.push((name.to_owned(), Group::default()));
                group.groups.len() - 1
            });
            &mut group.groups[index].1
        })
    }

    fn fill(&self, builder: &mut GroupBuilder) {
        for (index, array) in self.arrays.iter().enumerate() {
            builder.create_dataset(&index.to_string()).with_f32_data(&array.values).with_shape(&array.shape);
        }
        if let Some(name) = self.name {
            builder.set_attr("name", AttrValue::VarLenString(name.to_owned()));
        }
        for (name, group) in &self.groups {
            let mut inner = builder.create_group(name);
            group.fill(&mut inner);
            builder.add_group(inner.finish());
        }
    }
}

/// The file of the weights.
fn weights(layers: &[Layer]) -> Result<Vec<u8>, hdf5_pure::Error> {
    let mut root = Group::default();
    root.at("vars").name = Some(model_name(layers));
    for layer in layers {
        let start = format!("layers/{}", layer.key);
        root.at(&format!("{start}/vars")).name = Some(&layer.key);
        for (place, arrays) in &layer.arrays {
            root.at(&format!("{start}/{place}")).arrays = arrays;
        }
    }
    let mut builder = FileBuilder::new();
    for (name, group) in &root.groups {
        let mut inner = builder.create_group(name);
        group.fill(&mut inner);
        builder.add_group(inner.finish());
    }
    builder.finish()
}

fn is_sequential(layers: &[Layer]) -> bool {
    layers.iter().all(|layer| layer.class != "Add")
}

fn model_name(layers: &[Layer]) -> &'static str {
    if is_sequential(layers) { "sequential" } else { "functional" }
}

/// The name of the layer that stands for the input.
const INPUT: &str = "input_layer";

/// The configuration of a model whose layers lie one after the other.
fn sequential(layers: &[Layer], entrance: Value, input: &Value) -> Value {
    let all = layers.iter().map(|layer| wrapped(layer.class, layer.config.clone()));
    let all: Vec<Value> = std::iter::once(entrance).chain(all).collect();
    json!({
        "module": "keras", "class_name": "Sequential", "registered_name": null,
        "config": {"name": "sequential", "trainable": true, "dtype": "float32", "layers": all, "build_input_shape": input},
        "build_config": {"input_shape": input},
    })
}

/// The configuration of a model whose layers say which others they read. input: the shape of what comes in, of the type dtype.
fn functional(layers: &[Layer], entrance: Value, input: &Value, dtype: &str) -> Value {
    let tensor = |place: Option<usize>| {
        let (name, shape, dtype) = match place {
            Some(place) => (&layers[place].key[..], json!([null, null, layers[place].size]), "float32"),
            None => (INPUT, input.clone(), dtype),
        };
        let config = json!({"shape": shape, "dtype": dtype, "keras_history": [name, 0, 0]});
        json!({"class_name": "__keras_tensor__", "config": config})
    };
    let node = |layer: &Layer| {
        let reads = match &layer.reads[..] {
            [] => tensor(None),
            [one] => tensor(Some(*one)),
            several => several.iter().map(|place| tensor(Some(*place))).collect(),
        };
        json!([{"args": [reads], "kwargs": {}}])
    };
    let named = |mut layer: Value, nodes: Value| {
        layer["name"] = layer["config"]["name"].clone();
        layer["inbound_nodes"] = nodes;
        layer
    };
    let all = layers.iter().map(|layer| named(wrapped(layer.class, layer.config.clone()), node(layer)));
    let all: Vec<Value> = std::iter::once(named(entrance, json!([]))).chain(all).collect();
    let last = layers.last().map_or(INPUT, |layer| &layer.key);
    json!({
        "module": "keras.src.models.functional", "class_name": "Functional", "registered_name": "Functional",
        "config": {
            "name": "functional", "trainable": true, "layers": all,
            "input_layers": [INPUT, 0, 0], "output_layers": [last, 0, 0],
        },
        "build_config": {"input_shape": null},
    })
}

/// A `.keras` file: an archive that is not compressed, as Keras writes it.
fn archive(network: &Network, layers: &[Layer], weights: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
    let input = match &network.embedding {
        Some(_) => json!([null, null]),
        None => json!([null, null, network.input_size()]),
    };
    let dtype = if network.embedding.is_some() { "int32" } else { "float32" };
    let first = json!({"name": INPUT, "batch_shape": input, "dtype": dtype, "sparse": false});
    let first = json!({"module": "keras.layers", "class_name": "InputLayer", "config": first, "registered_name": null});
    let config = match is_sequential(layers) {
        true => sequential(layers, first, &input),
        false => functional(layers, first, &input, dtype),
    };
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let plain = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let metadata = json!({"keras_version": VERSION}).to_string();
    for (name, bytes) in [(METADATA, metadata.as_bytes()), (CONFIG, config.to_string().as_bytes()), (WEIGHTS, weights)]
    {
        archive.start_file(name, plain.large_file(bytes.len() as u64 >= u64::from(u32::MAX)))?;
        archive.write_all(bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}
