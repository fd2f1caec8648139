//! Where the weights of a chain's layers lie in a file, and the chain of a file that holds weights alone.

use std::collections::HashSet;

use super::super::network::{Activation, Function};
use super::chain::{CLASSES, Chain, Kind, Layer, Recurrent};
use super::hdf5::{Tree, join};

/// How a file orders its weights.
#[derive(Debug)]
pub(super) enum Places {
    /// By class and number, `layers/lstm_1/cell/vars/0`: `.keras` and `.weights.h5`. The group of the layers.
    Classes(&'static str),
    /// By the layers' names, with lists of names as attributes: `.h5`. The group of the layers.
    Names(&'static str),
}

impl Places {
    /// How a file does it.
    pub(super) fn of(tree: &Tree) -> Option<Self> {
        let classes = ["layers", "_layer_checkpoint_dependencies"].into_iter().find(|group| tree.has_group(group));
        let named = |group: &&str| tree.texts(group, "layer_names").is_some();
        classes.map(Self::Classes).or_else(|| ["model_weights", ""].into_iter().find(named).map(Self::Names))
    }

    /// The paths of a layer's arrays, for each of its directions in the order in which Keras made them.
    ///
    /// # Errors
    /// A sentence on a layer that has none, or others than its class has.
    pub(super) fn arrays(&self, tree: &Tree, layer: &Layer) -> Result<Vec<Vec<String>>, String> {
        match self {
            Self::Classes(group) => {
                let parts: &[&str] = match &layer.kind {
                    Kind::Recurrent(Recurrent { both: true, .. }) => {
                        &["forward_layer/cell/vars", "backward_layer/cell/vars"]
                    }
                    Kind::Recurrent(_) => &["cell/vars"],
                    Kind::Dense { wrapped: true, .. } => &["layer/vars"],
                    _ => &["vars"],
                };
                let all = parts.iter().map(|part| {
                    let start = format!("{group}/{}/{part}", layer.key);
                    let numbered = (0..).map(|index: usize| join(&start, &index.to_string()));
                    numbered.take_while(|path| tree.shape(path).is_some()).collect()
                });
                Ok(all.collect())
            }
            Self::Names(group) => {
                let start = join(group, &layer.name);
                let names = tree.texts(&start, "weight_names").unwrap_or_default();
                let mut all: Vec<String> = names.iter().map(|name| join(&start, name)).collect();
                if let Some(missing) = all.iter().find(|path| tree.shape(path).is_none()) {
                    return Err(format!(
                        "{missing} is listed and not there: the file is damaged; fetch or save it again"
                    ));
                }
                let is_both = matches!(layer.kind, Kind::Recurrent(Recurrent { both: true, .. }));
                if is_both && all.len().is_multiple_of(2) {
                    let backward = all.split_off(all.len() / 2);
                    return Ok(vec![all, backward]);
                }
                Ok(vec![all])
            }
        }
    }

    /// The chain of a file without a configuration, from the names and shapes of its arrays.
    ///
    /// # Errors
    /// A sentence on a layer of a class that cannot be read, or on layers of which several orders would do.
    pub(super) fn infer(&self, tree: &Tree) -> Result<Chain, String> {
        let layers = match self {
            Self::Classes(group) => ordered(tree, self, by_class(tree, group)?)?,
            Self::Names(group) => by_name(tree, group)?,
        };
        let note = "the file has weights and no configuration: tanh and sigmoid are assumed in its LSTMs, that each reads what the \
                    one before it gives, that every step is read out, and that nothing follows its linear maps; a .keras file \
                    says all this";
        Ok(Chain { layers, notes: vec![note.to_owned()] })
    }
}

fn plain(units: Option<usize>, both: bool) -> Kind {
    let functions = vec![Function::PLAIN; 1 + usize::from(both)];
    Kind::Recurrent(Recurrent { units, sequences: true, backwards: false, both, functions })
}

fn dense(wrapped: bool) -> Kind {
    Kind::Dense { units: None, activation: Activation::Linear, wrapped }
}

/// The layers by the classes in their groups' names, in no order but that of each class.
fn by_class(tree: &Tree, group: &str) -> Result<Vec<Layer>, String> {
    let mut layers = Vec::new();
    for key in tree.groups_in(group) {
        let numbered = key.rsplit_once('_').and_then(|(class, number)| Some((class, number.parse::<usize>().ok()?)));
        let (class, number) = numbered.unwrap_or((key, 0));
        let kind = match class {
            "embedding" => Kind::Embedding,
            "lstm" => plain(None, false),
            "bidirectional" => plain(None, true),
            "dense" => dense(false),
            "time_distributed" => dense(true),
            "activation"
            | "softmax"
            | "re_lu"
            | "dropout"
            | "spatial_dropout1d"
            | "gaussian_dropout"
            | "gaussian_noise"
            | "alpha_dropout"
            | "activity_regularization"
            | "masking"
            | "input_layer"
            | "not_equal" => continue,
            "add" => {
                return Err(format!(
                    "the layer {group}/{key} adds what other layers give, and weights alone do not say which; give the whole model, .keras or .h5"
                ));
            }
            _ => {
                return Err(format!(
                    "the layer {group}/{key} is of a class that cannot be read; those that can are {CLASSES}"
                ));
            }
        };
        let name = tree.text(&format!("{group}/{key}/vars"), "name").unwrap_or_else(|| key.to_owned());
        layers.push((number, Layer { name, key: key.to_owned(), kind }));
    }
    layers.sort_by_key(|(number, _)| *number);
    Ok(layers.into_iter().map(|(_, layer)| layer).collect())
}

/// The layers in the order of the file's list, by what their arrays are called.
fn by_name(tree: &Tree, group: &str) -> Result<Vec<Layer>, String> {
    let mut layers = Vec::new();
    for name in tree.texts(group, "layer_names").unwrap_or_default() {
        let weights = tree.texts(&join(group, &name), "weight_names").unwrap_or_default();
        let last = |weight: &String| weight.rsplit('/').next().unwrap_or_default().trim_end_matches(":0").to_owned();
        let called: Vec<String> = weights.iter().map(last).collect();
        let called: Vec<&str> = called.iter().map(String::as_str).collect();
        let kind = match called[..] {
            [] => Kind::Nothing,
            ["embeddings"] => Kind::Embedding,
            ["kernel"] | ["kernel", "bias"] => dense(false),
            ["kernel", "recurrent_kernel"] | ["kernel", "recurrent_kernel", "bias"] => plain(None, false),
            ["kernel", "recurrent_kernel", "kernel", "recurrent_kernel"]
            | ["kernel", "recurrent_kernel", "bias", "kernel", "recurrent_kernel", "bias"] => plain(None, true),
            _ => {
                let called = called.join(", ");
                return Err(format!(
                    "the layer {name} has the weights {called}: no layer that can be read; those are {CLASSES}"
                ));
            }
        };
        layers.push(Layer { key: name.clone(), name, kind });
    }
    Ok(layers)
}

/// What a layer reads and gives at a step, by the shapes of its arrays.
fn sizes(tree: &Tree, places: &Places, layer: &Layer) -> Result<(usize, usize), String> {
    let arrays = places.arrays(tree, layer)?;
    let shape = arrays.iter().flatten().next().and_then(|path| tree.shape(path));
    match (shape, &layer.kind) {
        (Some([input, output]), Kind::Recurrent(recurrent)) => {
            Ok((*input, output / 4 * if recurrent.both { 2 } else { 1 }))
        }
        (Some([input, output]), _) => Ok((*input, *output)),
        _ => Err(format!("the layer {} has no weights", layer.name)),
    }
}

/// Embeddings, then LSTMs, then linear maps; LSTMs of two classes, or linear maps, in the one order in which their sizes meet.
fn ordered(tree: &Tree, places: &Places, layers: Vec<Layer>) -> Result<Vec<Layer>, String> {
    let (mut tables, mut recurrent, mut maps) = (Vec::new(), [Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for layer in layers {
        let sized = (sizes(tree, places, &layer)?, layer);
        match sized.1.kind {
            Kind::Embedding => tables.push(sized),
            Kind::Recurrent(Recurrent { both, .. }) => recurrent[usize::from(both)].push(sized),
            _ => maps[usize::from(matches!(sized.1.kind, Kind::Dense { wrapped: true, .. }))].push(sized),
        }
    }
    let mut at = tables.last().map(|((_, size), _)| *size);
    let mut ordered: Vec<Layer> = tables.into_iter().map(|(_, layer)| layer).collect();
    for [one, other] in [recurrent, maps] {
        let size = |all: &[((usize, usize), Layer)]| all.iter().map(|(sizes, _)| *sizes).collect::<Vec<_>>();
        let mut search = Search { one: &size(&one), other: &size(&other), dead: HashSet::new(), found: Vec::new() };
        search.go(&mut Vec::new(), at);
        let order = match &search.found[..] {
            [] if one.is_empty() || other.is_empty() => vec![other.is_empty(); one.len() + other.len()],
            [order] => order.clone(),
            found => {
                let names: Vec<&str> = one.iter().chain(&other).map(|(_, layer)| &layer.key[..]).collect();
                let why = if found.is_empty() { "no order" } else { "several orders" };
                return Err(format!(
                    "the file has weights and no configuration, and {why} of {} would do by their sizes; give the .keras file of \
                     the model",
                    names.join(", ")
                ));
            }
        };
        let (mut one, mut other) = (one.into_iter(), other.into_iter());
        for of_one in order {
            let Some(((_, gives), layer)) = (if of_one { one.next() } else { other.next() }) else { continue };
            at = Some(gives);
            ordered.push(layer);
        }
    }
    Ok(ordered)
}

/// A search for the orders of two rows of layers, each in its own, in which every layer reads what the one before gives.
struct Search<'a> {
    one: &'a [(usize, usize)],
    other: &'a [(usize, usize)],
    /// How many are placed of each, and what the last gives, where nothing goes on.
    dead: HashSet<(usize, usize, Option<usize>)>,
    /// The first two found; whether each layer is of the first row.
    found: Vec<Vec<bool>>,
}

impl Search<'_> {
    fn go(&mut self, order: &mut Vec<bool>, at: Option<usize>) {
        let placed = order.iter().filter(|of_one| **of_one).count();
        let state = (placed, order.len() - placed, at);
        if order.len() == self.one.len() + self.other.len() {
            self.found.push(order.clone());
            return;
        }
        if self.dead.contains(&state) || self.found.len() > 1 {
            return;
        }
        let before = self.found.len();
        for of_one in [true, false] {
            let next = if of_one { self.one.get(state.0) } else { self.other.get(state.1) };
            if let Some((_, gives)) = next.copied().filter(|(reads, _)| at.is_none_or(|at| at == *reads)) {
                order.push(of_one);
                self.go(order, Some(gives));
                order.pop();
            }
        }
        if self.found.len() == before {
            self.dead.insert(state);
        }
    }
}
