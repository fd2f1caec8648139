//! A model's configuration as a chain of layers: of Sequential, and of a Functional model whose layers lie one after the other, but
//! for sums of what an LSTM gives and what it reads.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::network::{Activation, Function};

/// A layer of a chain.
#[derive(Debug)]
pub(super) struct Layer {
    /// Its name in the model.
    pub(super) name: String,
    /// Where its weights lie in a file of Keras 3: its class, and its number among those of that class.
    pub(super) key: String,
    /// What it computes.
    pub(super) kind: Kind,
}

/// What a layer computes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A table of rows.
    Embedding,
    /// An LSTM, or two in a Bidirectional.
    Recurrent(Recurrent),
    /// A linear map of every step; wrapped: in a TimeDistributed.
    Dense { units: Option<usize>, activation: Activation, wrapped: bool },
    /// What follows a linear map, as a layer of its own.
    Activation(Activation),
    /// The sum of what the LSTM below gives and what it reads.
    Add,
    /// Nothing in use: Dropout and its kin.
    Nothing,
}

/// An LSTM of Keras.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recurrent {
    /// H, where the configuration says it.
    pub(super) units: Option<usize>,
    /// Whether it gives every step, not the final one.
    pub(super) sequences: bool,
    /// Whether it reads from the last step to the first.
    pub(super) backwards: bool,
    /// Whether it is a Bidirectional's, and a second one reads backwards.
    pub(super) both: bool,
    /// The functions of its gates, of its candidate and of its cell where it is read, of each direction.
    pub(super) functions: Vec<[Function; 3]>,
}

/// A model's layers, in the order in which they compute, and what is to be said of them.
pub(super) struct Chain {
    pub(super) layers: Vec<Layer>,
    pub(super) notes: Vec<String>,
}

/// The classes that are read.
pub(super) const CLASSES: &str = "Embedding, LSTM, Bidirectional, TimeDistributed (of Dense), Dense, Activation, Softmax, ReLU, \
                                  Add of what an LSTM gives and reads; Dropout and its kin are passed over";

/// Reads the configuration of a model.
///
/// # Errors
/// A sentence that names the first layer that has no place in a chain of embedding, LSTMs and linear readouts.
pub(super) fn chain(model: &Value, version: Option<&str>) -> Result<Chain, String> {
    let class = model["class_name"].as_str().unwrap_or("nothing");
    let config = &model["config"];
    // Keras before 2.2 wrote the layers of a Sequential alone.
    let listed = config.as_array().or_else(|| config["layers"].as_array());
    let all = listed.map_or(&[][..], Vec::as_slice);
    let ordered = match class {
        "Sequential" => match all.iter().find(|layer| layer["class_name"] == "Add") {
            Some(layer) => {
                return Err(format!("the layer {} adds several values, where each layer reads one", name_of(layer)));
            }
            None => all.iter().collect(),
        },
        "Functional" | "Model" => functional(config, all)?,
        other => {
            return Err(format!(
                "the model is a {other}, whose layers its file does not list in order; those that can be read are Sequential, \
                 and Functional with one layer after the other"
            ));
        }
    };
    let mut keys = HashMap::new();
    let mut counted: HashMap<String, usize> = HashMap::new();
    for layer in all {
        let class = snake_case(layer["class_name"].as_str().unwrap_or_default());
        let number = counted.entry(class.clone()).or_default();
        keys.insert(name_of(layer), if *number == 0 { class } else { format!("{class}_{number}") });
        *number += 1;
    }
    let mut chain = Chain { layers: Vec::new(), notes: Vec::new() };
    for layer in ordered {
        let name = name_of(layer);
        let key = keys.get(name).cloned().unwrap_or_default();
        let kind =
            kind(layer, is_before_3(version), &mut chain.notes).map_err(|why| format!("the layer {name} {why}"))?;
        chain.layers.push(Layer { name: name.to_owned(), key, kind });
    }
    Ok(chain)
}

fn name_of(layer: &Value) -> &str {
    layer["config"]["name"].as_str().or_else(|| layer["name"].as_str()).unwrap_or("without a name")
}

/// Whether a file was written by Keras 1 or 2, some of whose functions have other numbers. A file that does not say is one of today.
fn is_before_3(version: Option<&str>) -> bool {
    version.and_then(|version| version.split('.').next()?.parse::<u32>().ok()).is_some_and(|major| major < 3)
}

/// What a layer computes; notes: gains what is to be said of it. The sentence of an error goes on from the layer's name.
fn kind(layer: &Value, is_before_3: bool, notes: &mut Vec<String>) -> Result<Kind, String> {
    let class = layer["class_name"].as_str().unwrap_or_default();
    let (config, name) = (&layer["config"], name_of(layer));
    if let Some(registered) = layer["registered_name"].as_str().filter(|registered| registered.contains('>')) {
        return Err(format!("is {registered}, a class that Keras has not"));
    }
    let policy = config["dtype"].as_str().or_else(|| config["dtype"]["config"]["name"].as_str()).unwrap_or("float32");
    let is_input = class == "InputLayer";
    if !is_input && (!config["quantization_config"].is_null() || policy.contains("int") || policy.contains("float8")) {
        return Err(format!("is quantized ({policy}); save the model before it is"));
    }
    if !config["lora_rank"].is_null() {
        return Err("has a low-rank part (LoRA) beside its weights; merge it before the model is saved".to_owned());
    }
    if let Some(narrow) = policy.strip_prefix("mixed_") {
        notes.push(format!("{name} computes in {narrow} in Keras, and in float32 here"));
    }
    Ok(match class {
        "Embedding" => {
            if config["mask_zero"] == true {
                notes.push(format!(
                    "{name} has mask_zero: Keras passes over steps of token 0, which are read like others here"
                ));
            }
            Kind::Embedding
        }
        "LSTM" => Kind::Recurrent(recurrent(config, name, is_before_3, notes)?),
        "Bidirectional" => bidirectional(config, name, is_before_3, notes)?,
        "TimeDistributed" => {
            match (config["layer"]["class_name"].as_str(), kind(&config["layer"], is_before_3, notes)?) {
                (Some("Dense"), Kind::Dense { units, activation, .. }) => {
                    Kind::Dense { units, activation, wrapped: true }
                }
                (inner, _) => {
                    let inner = inner.unwrap_or("nothing");
                    return Err(format!("is a TimeDistributed of {inner}; only that of a Dense can be read"));
                }
            }
        }
        "Dense" => {
            Kind::Dense { units: size(config, "units"), activation: activation(&config["activation"])?, wrapped: false }
        }
        "Activation" => Kind::Activation(activation(&config["activation"])?),
        "Softmax" if config["axis"] == -1 || config["axis"].is_null() => Kind::Activation(Activation::Softmax),
        "ReLU"
            if config["max_value"].is_null()
                && ["negative_slope", "threshold"].iter().all(|key| config[key].as_f64().unwrap_or(0.0) == 0.0) =>
        {
            Kind::Activation(Activation::Relu)
        }
        // Where it is one, the order of the layers was found by it.
        "Add" => Kind::Add,
        "Masking" => {
            notes.push(format!("{name} masks steps: Keras passes over them, which are read like others here"));
            Kind::Nothing
        }
        "InputLayer"
        | "Dropout"
        | "SpatialDropout1D"
        | "GaussianDropout"
        | "GaussianNoise"
        | "AlphaDropout"
        | "ActivityRegularization" => Kind::Nothing,
        other => return Err(format!("is a {other}, which cannot be read; layers that can are {CLASSES}")),
    })
}

fn recurrent(config: &Value, name: &str, is_before_3: bool, notes: &mut Vec<String>) -> Result<Recurrent, String> {
    let functions = [("activation", Function::Tanh), ("recurrent_activation", Function::Sigmoid)].map(|(key, usual)| {
        match config.get(key) {
            None => Ok(usual),
            Some(found) => cell_function(found, is_before_3).map_err(|found| {
                format!(
                    "has the {key} {found}; those that a cell can have are tanh, sigmoid, hard_sigmoid, relu, leaky_relu, elu, softplus, \
                     softsign and linear"
                )
            }),
        }
    });
    let [activation, gates] = functions;
    let activation = activation?;
    let functions = [gates?, activation, activation];
    if functions != Function::PLAIN {
        let names = functions.map(Function::name).join(", ");
        notes.push(format!(
            "{name} has {names} in its cells: such cells run here gate by gate, slowly, and no model of this program trains them"
        ));
    }
    if config["stateful"] == true {
        notes.push(format!(
            "{name} is stateful: Keras keeps its states from batch to batch, here they are given and taken"
        ));
    }
    Ok(Recurrent {
        units: size(config, "units"),
        sequences: config["return_sequences"] == true,
        backwards: config["go_backwards"] == true,
        both: false,
        functions: vec![functions],
    })
}

fn bidirectional(config: &Value, name: &str, is_before_3: bool, notes: &mut Vec<String>) -> Result<Kind, String> {
    match config["merge_mode"].as_str() {
        Some("concat") => {}
        other => {
            let other = other.unwrap_or("none");
            return Err(format!("joins its directions with merge_mode {other}; only concat can be read"));
        }
    }
    let mut one = |layer: &Value| match layer["class_name"].as_str() {
        Some("LSTM") => recurrent(&layer["config"], name, is_before_3, notes),
        other => Err(format!("is a Bidirectional of {}; only that of an LSTM can be read", other.unwrap_or("nothing"))),
    };
    let mut forward = one(&config["layer"])?;
    let mut functions = [&forward.functions[..], &forward.functions].concat();
    if forward.backwards {
        return Err(
            "has a first layer that reads backwards (go_backwards); its halves would have to change places".to_owned()
        );
    }
    // Without one it is the same layer again, backwards.
    if config["backward_layer"].is_object() {
        let backward = one(&config["backward_layer"])?;
        if !backward.backwards || backward.sequences != forward.sequences || backward.units != forward.units {
            return Err("has a backward_layer that is no mirror of its layer (go_backwards, return_sequences, units)"
                .to_owned());
        }
        functions.truncate(1);
        functions.extend(backward.functions);
    }
    notes.dedup();
    (forward.both, forward.functions) = (true, functions);
    Ok(Kind::Recurrent(forward))
}

fn size(config: &Value, key: &str) -> Option<usize> {
    config[key].as_u64().and_then(|size| size.try_into().ok())
}

/// The name of a function: itself, or in the form of an object of Keras 3.
fn function(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["config"].as_str()).or_else(|| value["class_name"].as_str())
}

/// The name of a function in Keras 3, of those that have one with the same numbers.
pub(super) fn keras_name(function: Function) -> Option<&'static str> {
    let names = ["tanh", "sigmoid", "hard_sigmoid", "relu", "softplus", "softsign", "linear", "elu", "leaky_relu"];
    names.into_iter().find(|name| cell_function(&Value::from(*name), false).as_ref() == Ok(&function))
}

/// The function of a cell by its name in Keras. Null is none, which changes nothing. The error is what was found.
fn cell_function(value: &Value, is_before_3: bool) -> Result<Function, String> {
    let number = |key: &str, usual: f64| value["config"][key].as_f64().unwrap_or(usual) as f32;
    let name = if value.is_null() { Some("linear") } else { function(value) };
    Ok(match name {
        Some("tanh") => Function::Tanh,
        Some("sigmoid") => Function::Sigmoid,
        // Keras 3 has another slope than Keras 1 and 2, whose LSTMs had it for their gates unless told otherwise before 2.3.
        Some("hard_sigmoid") if is_before_3 => Function::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Some("hard_sigmoid") => Function::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
        Some("relu") => Function::Relu,
        Some("softplus") => Function::Softplus,
        Some("softsign") => Function::Softsign,
        Some("linear") => Function::Affine { alpha: 1.0, beta: 0.0 },
        Some("elu") => Function::Elu { alpha: number("alpha", 1.0) },
        Some("leaky_relu") => Function::LeakyRelu { alpha: number("negative_slope", 0.2) },
        found => return Err(found.map_or_else(|| value.to_string(), str::to_owned)),
    })
}

fn activation(value: &Value) -> Result<Activation, String> {
    let name = if value.is_null() { Some("linear") } else { function(value) };
    Activation::ALL.into_iter().find(|activation| Some(activation.name()) == name).ok_or_else(|| {
        let name = name.map_or_else(|| value.to_string(), str::to_owned);
        let all = Activation::ALL.map(Activation::name).join(", ");
        format!("has the activation {name}; those that can be read are {all}")
    })
}

/// Where a tensor comes from: a layer, which of its calls, which of its outputs; whether it is a mask.
struct Origin<'a> {
    layer: &'a str,
    output: u64,
    is_mask: bool,
}

/// The origins of all tensors in a part of the configuration: objects in Keras 3, `[layer, call, output, …]` before.
fn origins<'a>(value: &'a Value, is_mask: bool, found: &mut Vec<Origin<'a>>) {
    match value {
        Value::Object(object) => match &value["config"]["keras_history"] {
            Value::Array(_) => origins(&value["config"]["keras_history"], is_mask, found),
            _ => object.iter().for_each(|(key, inner)| origins(inner, is_mask || key == "mask", found)),
        },
        Value::Array(items) => match &items[..] {
            [Value::String(layer), Value::Number(_), Value::Number(output), rest @ ..] => {
                found.push(Origin { layer, output: output.as_u64().unwrap_or(u64::MAX), is_mask });
                rest.iter().for_each(|inner| origins(inner, is_mask, found));
            }
            _ => items.iter().for_each(|inner| origins(inner, is_mask, found)),
        },
        _ => {}
    }
}

/// The layers of a Functional model in the order in which they compute.
fn functional<'a>(config: &'a Value, all: &'a [Value]) -> Result<Vec<&'a Value>, String> {
    let by_name: HashMap<&str, &Value> = all.iter().map(|layer| (name_of(layer), layer)).collect();
    let single = |key: &str, what: &str| {
        let mut found = Vec::new();
        origins(&config[key], false, &mut found);
        match found[..] {
            [Origin { layer, .. }] => Ok(layer),
            _ => Err(format!("the model has {} {what}; one can be read", found.len())),
        }
    };
    let (first, mut at) = (single("input_layers", "inputs")?, single("output_layers", "outputs")?);
    let mut ordered: Vec<&Value> = Vec::new();
    let mut masks = HashSet::new();
    loop {
        let layer = *by_name.get(at).ok_or_else(|| format!("the layer {at} is named and not there"))?;
        if ordered.len() == all.len() {
            return Err(format!("the layer {at} reads what comes of itself"));
        }
        ordered.push(layer);
        if at == first {
            break;
        }
        let found = inputs(layer)?;
        let reads_mask = found.iter().any(|origin| origin.is_mask);
        if reads_mask && !matches!(layer["class_name"].as_str(), Some("LSTM" | "Bidirectional" | "TimeDistributed")) {
            return Err(format!(
                "the layer {at} reads a mask, which there is none of here; save the model without mask_zero"
            ));
        }
        masks.extend(found.iter().filter(|origin| origin.is_mask).map(|origin| origin.layer));
        let found: Vec<Origin> = found.into_iter().filter(|origin| !origin.is_mask).collect();
        if let Some(state) = found.iter().find(|origin| origin.output != 0) {
            return Err(format!("the layer {at} reads the states of {}; only what it gives can be read", state.layer));
        }
        at = match (&found[..], layer["class_name"] == "Add") {
            ([below], false) => below.layer,
            ([a, b], true) => match [(a.layer, b.layer), (b.layer, a.layer)]
                .into_iter()
                .find(|(given, read)| is_sum(given, read, &by_name))
            {
                Some((given, _)) => given,
                None => {
                    return Err(format!(
                        "the layer {at} adds what {} and {} give; of sums what one LSTM gives and what it reads can be read",
                        a.layer, b.layer
                    ));
                }
            },
            _ => return Err(format!("the layer {at} reads {} others; in a chain it is one", found.len())),
        };
    }
    ordered.reverse();
    let in_chain: HashSet<&str> = ordered.iter().map(|layer| name_of(layer)).collect();
    match all.iter().map(name_of).find(|name| !in_chain.contains(name) && !masks.contains(name)) {
        Some(beside) => Err(format!("the layer {beside} lies beside the chain from {first} to the output")),
        None => Ok(ordered),
    }
}

/// What a layer that is called once reads, masks among it.
fn inputs(layer: &Value) -> Result<Vec<Origin<'_>>, String> {
    let calls = layer["inbound_nodes"].as_array().map_or(0, Vec::len);
    if calls != 1 {
        return Err(format!("the layer {} is called {calls} times; a chain calls each once", name_of(layer)));
    }
    let mut found = Vec::new();
    origins(&layer["inbound_nodes"], false, &mut found);
    Ok(found)
}

/// Whether `given` is what one LSTM, and layers that do nothing in use, make of `read`.
fn is_sum<'a>(mut given: &'a str, read: &str, by_name: &HashMap<&str, &'a Value>) -> bool {
    let mut lstms = 0;
    // No more layers than there are: they might lie in a circle.
    for _ in 0..by_name.len() {
        let Some(layer) = by_name.get(given) else { return false };
        match layer["class_name"].as_str() {
            Some("LSTM" | "Bidirectional") => lstms += 1,
            Some("Dropout" | "SpatialDropout1D" | "GaussianDropout" | "GaussianNoise" | "AlphaDropout") => {}
            _ => return false,
        }
        let Ok(found) = inputs(layer) else { return false };
        let mut below = found.into_iter().filter(|origin| !origin.is_mask);
        let (Some(Origin { layer: below, .. }), None) = (below.next(), below.next()) else { return false };
        if below == read {
            return lstms == 1;
        }
        given = below;
    }
    false
}

/// `TimeDistributed` as `time_distributed`.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().filter(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    let mut name = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| letters[before]);
        let after = letters.get(index + 1);
        // A capital begins a word after a small letter, and before one.
        if letter.is_ascii_uppercase()
            && before.is_some_and(|before| before != '_')
            && (before.is_some_and(|before| before.is_ascii_lowercase()) || after.is_some_and(char::is_ascii_lowercase))
        {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_the_names_that_keras_gives_them() {
        for (class, name) in [
            ("LSTM", "lstm"),
            ("TimeDistributed", "time_distributed"),
            ("SpatialDropout1D", "spatial_dropout1d"),
            ("ReLU", "re_lu"),
            ("Bidirectional", "bidirectional"),
            ("InputLayer", "input_layer"),
        ] {
            assert_eq!(snake_case(class), name);
        }
    }
}
