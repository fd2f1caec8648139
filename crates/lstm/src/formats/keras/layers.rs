//! The network that a chain of layers and their weights is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::import::{Found, Import};
use super::super::network::{Activation, CellFunctions, Embedding, Function, Linear, Network, Reads, Stack};
use super::super::state_dict::{Float, readout_name};
use super::chain::{Chain, Kind, Layer, Recurrent, chain};
use super::hdf5::Tree;
use super::places::Places;
use super::transposed;
use crate::nn::config::LstmConfig;
use crate::said::count;

/// Reads the network of a tree of weights and, where there is one, the configuration.
///
/// # Errors
/// A sentence on the first layer or array that has no place.
pub(super) fn import(
    tree: &Tree,
    model: Option<&Value>,
    version: Option<&str>,
    kind: String,
) -> Result<Import, String> {
    let places = Places::of(tree).ok_or_else(|| {
        "it is HDF5, but Keras did not write it: it has neither a group of layers nor a list of layer_names".to_owned()
    })?;
    let Chain { layers, notes } = model.map_or_else(|| places.infer(tree), |model| chain(model, version))?;
    let mut reading = Reading {
        tree,
        network: Network { notes, ..Network::default() },
        found: Vec::new(),
        taken: BTreeSet::new(),
        forms: BTreeSet::new(),
        final_alone: None,
        adds: Vec::new(),
    };
    for layer in &layers {
        reading.add(layer, &places).map_err(|why| format!("the layer {} {why}", layer.name))?;
    }
    reading.finish(kind)
}

/// A network on the way.
struct Reading<'a> {
    tree: &'a Tree,
    network: Network,
    /// Where arrays come from. Of the LSTMs' ours is what follows the layer's name, and the number is the layer's.
    found: Vec<(Option<usize>, Found)>,
    taken: BTreeSet<String>,
    forms: BTreeSet<Float>,
    /// The LSTM that gives the final state alone.
    final_alone: Option<String>,
    /// Of each LSTM whether what it reads is added to what it gives.
    adds: Vec<bool>,
}

impl Reading<'_> {
    /// Adds a layer to the end of the chain. The sentence of an error goes on from the layer's name.
    fn add(&mut self, layer: &Layer, places: &Places) -> Result<(), String> {
        let is_start = self.network.embedding.is_none() && self.network.stacks.is_empty();
        match &layer.kind {
            Kind::Nothing => Ok(()),
            Kind::Add => match (self.adds.last_mut(), &self.final_alone) {
                (Some(adds), None) => {
                    *adds = true;
                    Ok(())
                }
                (_, Some(lstm)) => Err(format!("adds steps to the one state that {lstm} gives")),
                (None, None) => Err("adds what no LSTM gives".to_owned()),
            },
            Kind::Embedding if !is_start || !self.network.readouts.is_empty() => {
                Err("is an Embedding and not the first layer; the network here begins with it".to_owned())
            }
            Kind::Embedding => {
                let arrays = places.arrays(self.tree, layer)?.concat();
                let [path] = &arrays[..] else { return Err(counted(&arrays, "an Embedding has one")) };
                let (vocabulary, size) = self.matrix(path)?;
                let weight = self.take(path, "embedding.weight", None)?;
                self.network.embedding = Some(Embedding { vocabulary, size, weight });
                Ok(())
            }
            Kind::Recurrent(_) if !self.network.readouts.is_empty() => {
                Err("is an LSTM above a Dense; the linear maps here follow the LSTMs".to_owned())
            }
            Kind::Recurrent(recurrent) => self.recurrent(layer, recurrent, places),
            Kind::Dense { .. } | Kind::Activation(_) if self.network.stacks.is_empty() => {
                Err("lies below the first LSTM; what can be read there is an Embedding".to_owned())
            }
            Kind::Dense { units, activation, wrapped } => {
                if *wrapped && let Some(lstm) = &self.final_alone {
                    return Err(format!("is a TimeDistributed, but {lstm} gives one state and no steps"));
                }
                self.dense(layer, *units, *activation, places)
            }
            Kind::Activation(Activation::Linear) => Ok(()),
            Kind::Activation(activation) => match self.network.readouts.last_mut() {
                Some(readout) if readout.activation == Activation::Linear => {
                    readout.activation = *activation;
                    Ok(())
                }
                _ => Err("is an activation that follows no linear map".to_owned()),
            },
        }
    }

    fn recurrent(&mut self, layer: &Layer, recurrent: &Recurrent, places: &Places) -> Result<(), String> {
        if let Some(lstm) = &self.final_alone {
            return Err(format!("reads steps, but {lstm} below it gives one state (return_sequences)"));
        }
        if recurrent.backwards && recurrent.sequences {
            return Err(
                "reads from the last step to the first and gives its steps in that order (go_backwards); that of a \
                        Bidirectional can be read, and one that gives its final state alone"
                    .to_owned(),
            );
        }
        let directions = places.arrays(self.tree, layer)?;
        let mut values = BTreeMap::new();
        let (mut input, mut hidden) = (0, 0);
        let number = self.network.stacks.len();
        for (paths, suffix) in directions.iter().zip(["", "_reverse"]) {
            let ([kernel, again] | [kernel, again, _]) = &paths[..] else {
                return Err(counted(paths, "an LSTM has kernel, recurrent kernel and bias"));
            };
            let (reads, gates) = self.matrix(kernel)?;
            let (units, of_units) = self.matrix(again)?;
            if units.checked_mul(4) != Some(gates)
                || of_units != gates
                || recurrent.units.is_some_and(|said| said != units)
            {
                let said = recurrent.units.map(|said| format!(" of {}", count(said, "unit"))).unwrap_or_default();
                return Err(format!(
                    "has the shapes {:?} and {:?}, which are not those of an LSTM{said}",
                    [reads, gates],
                    [units, of_units]
                ));
            }
            if suffix == "_reverse" && [reads, units] != [input, hidden] {
                return Err("has directions of different sizes".to_owned());
            }
            (input, hidden) = (reads, units);
            let bias = match paths.get(2) {
                Some(bias) if self.tree.shape(bias) != Some(&[gates]) => {
                    return Err(format!("has a bias that is not [{gates}]"));
                }
                Some(bias) => self.take(bias, &format!("bias_ih{suffix}"), Some(number))?,
                None => vec![0.0; gates],
            };
            for (path, name, rows) in [(kernel, "weight_ih", reads), (again, "weight_hh", units)] {
                let taken = self.take(path, &format!("{name}{suffix}"), Some(number))?;
                values.insert(format!("{name}_l0{suffix}"), transposed(&taken, rows, gates));
            }
            values.insert(format!("bias_hh_l0{suffix}"), vec![0.0; gates]);
            values.insert(format!("bias_ih_l0{suffix}"), bias);
        }
        let config = LstmConfig { bidirectional: recurrent.both, ..LstmConfig::new(input, hidden) };
        let mut stack = Stack::new(config, |name, _| Ok(values.remove(name).unwrap_or_default().into()))
            .map_err(|error| format!("is no LSTM that can be: {error}"))?;
        stack.reverse = recurrent.backwards;
        if recurrent.functions.iter().any(|functions| *functions != Function::PLAIN) {
            let of = recurrent.functions.clone();
            stack.functions = Some(CellFunctions { of, clip: None, input_forget: false });
        }
        self.network.stacks.push(stack);
        self.adds.push(false);
        if !recurrent.sequences {
            self.final_alone = Some(layer.name.clone());
            self.network.reads = Reads::Final;
        }
        Ok(())
    }

    fn dense(
        &mut self,
        layer: &Layer,
        said: Option<usize>,
        activation: Activation,
        places: &Places,
    ) -> Result<(), String> {
        let arrays = places.arrays(self.tree, layer)?.concat();
        let ([kernel] | [kernel, _]) = &arrays[..] else { return Err(counted(&arrays, "a Dense has kernel and bias")) };
        let (input, output) = self.matrix(kernel)?;
        if said.is_some_and(|said| said != output) {
            return Err(format!(
                "has the shape {:?}, which is not that of its {}",
                [input, output],
                count(said.unwrap_or(0), "unit")
            ));
        }
        let index = self.network.readouts.len();
        let bias = match arrays.get(1) {
            Some(bias) if self.tree.shape(bias) != Some(&[output]) => {
                return Err(format!("has a bias that is not [{output}]"));
            }
            Some(bias) => Some(self.take(bias, &format!("{index}.bias"), None)?),
            None => None,
        };
        let weight = transposed(&self.take(kernel, &format!("{index}.weight"), None)?, input, output);
        self.network.readouts.push(Linear { activation, ..Linear::new([output, input], weight, bias) });
        Ok(())
    }

    /// The sides of an array.
    fn matrix(&self, path: &str) -> Result<(usize, usize), String> {
        match self.tree.shape(path) {
            Some([rows, columns]) => Ok((*rows, *columns)),
            other => Err(format!("has {path} {:?}, which is no matrix", other.unwrap_or(&[]))),
        }
    }

    /// The values of an array, which is `ours` here.
    fn take(&mut self, path: &str, ours: &str, recurrent: Option<usize>) -> Result<Vec<f32>, String> {
        // A configuration can name the same weights any number of times.
        if !self.taken.insert(path.to_owned()) {
            return Err(format!("has the weights {path}, which are another layer's"));
        }
        let (values, form) = self.tree.read(path).map_err(|why| format!("cannot be read: {why}"))?;
        self.forms.insert(form);
        let shape = self.tree.shape(path).unwrap_or(&[]).to_vec();
        self.found.push((recurrent, Found { theirs: path.to_owned(), ours: ours.to_owned(), shape }));
        Ok(values)
    }

    /// The whole, with the names that arrays have here now that LSTMs one after the other are one.
    fn finish(mut self, kind: String) -> Result<Import, String> {
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for path in self.tree.paths().filter(|path| !self.taken.contains(*path)) {
            let top = path.split('/').next().unwrap_or_default();
            match top {
                "optimizer" | "optimizer_weights" | "metrics" | "compile_metrics" | "loss" => {
                    *left.entry(top).or_default() += 1
                }
                _ if path.contains("seed_generator") => *left.entry("seed_generator").or_default() += 1,
                _ => {
                    let shape = self.tree.shape(path).unwrap_or(&[]);
                    return Err(format!(
                        "{path} {shape:?} belongs to no layer of the chain, and would change the result"
                    ));
                }
            }
        }
        let left_over =
            left.iter().map(|(top, arrays)| format!("{top}, of training ({})", count(*arrays, "array"))).collect();
        self.network.notes.extend(Float::note(&self.forms));
        let network = self.network.joined_with_residual(&self.adds).map_err(|error| error.to_string())?;
        // The layer of each stack that a layer of Keras has become.
        let mut places = Vec::new();
        for (index, stack) in network.stacks.iter().enumerate() {
            let prefix = if network.stacks.len() == 1 { "lstm.".to_owned() } else { format!("lstm.{index}.") };
            places.extend((0..stack.config().layers).map(|layer| (prefix.clone(), layer)));
        }
        let named = |(number, found): (Option<usize>, Found)| {
            let ours = match number.and_then(|number| places.get(number)) {
                Some((prefix, layer)) => match found.ours.strip_suffix("_reverse") {
                    Some(name) => format!("{prefix}{name}_l{layer}_reverse"),
                    None => format!("{prefix}{}_l{layer}", found.ours),
                },
                None => match found.ours.split_once('.') {
                    Some((index, name)) if let Ok(index) = index.parse() => {
                        format!("{}{name}", readout_name(&network, index))
                    }
                    _ => found.ours,
                },
            };
            Found { ours, ..found }
        };
        let found = self.found.into_iter().map(named).collect();
        Ok(Import { kind, network, found, left_over, without_place: Vec::new() })
    }
}

fn counted(paths: &[String], expected: &str) -> String {
    format!("has {} in the file, where {expected}", count(paths.len(), "array"))
}
