//! Finds the network in a state dict: which tensors are LSTM layers, which the embedding and the readout, and whether
//! what is left over can be left.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::named::RESIDUAL;
use super::names::{LstmName, Role, is_of_training, natural, place, plain, series};
use super::tensors::{Array, Float, StateDict};
use crate::formats::FormatError;
use crate::formats::import::{Found, Hints, Import};
use crate::formats::network::{Embedding, Linear, Network, NetworkError, Stack, same_bits};
use crate::nn::config::LstmConfig;
use crate::said::count;

/// A tensor with the name it goes by.
struct Item<'a> {
    theirs: String,
    /// Without wrappers, or as the map says.
    name: String,
    role: Role,
    /// Whether the map gave it its name.
    given: bool,
    array: Array<'a>,
}

/// The tensors of one LSTM.
struct Module {
    prefix: String,
    /// Of each layer, direction and array: the item.
    arrays: BTreeMap<(usize, bool, &'static str), usize>,
}

struct Finder<'a> {
    path: &'a Path,
    items: Vec<Item<'a>>,
    /// The items that have a place or a reason to have none.
    placed: RefCell<BTreeSet<usize>>,
    left_over: Vec<String>,
}

/// Words in the names of tables and of readouts, where shapes alone do not tell them apart.
const TABLES: [&str; 6] = ["emb", "wte", "lookup", "encoder", "vocab", "tokens"];
const READOUTS: [&str; 10] = ["decoder", "readout", "fc", "linear", "out", "head", "proj", "dense", "classif", "logit"];
/// Words in the names of what stands before an LSTM.
const BEFORE: [&str; 3] = ["input", "in_proj", "emb"];

/// A tied model's map from its LSTM's output to the embedding's size.
const PROJECTION: &str = "readout_projection.weight";

/// What a place is called that the map can give.
const PLACES: &str = "embedding.weight, lstm.weight_ih_l0 (and so on), readout.weight, readout.bias";

/// The network among the tensors of `dict`.
pub(in crate::formats) fn find(
    path: &Path,
    kind: String,
    dict: StateDict,
    hints: Hints,
) -> Result<Import, FormatError> {
    let mut finder = Finder { path, items: Vec::new(), placed: RefCell::default(), left_over: Vec::new() };
    finder.name(dict, hints.map)?;
    finder.set_training_aside();
    finder.choose_sources()?;
    let modules = finder.modules()?;
    let mut found = Vec::new();
    let mut stacks = Vec::new();
    for module in &modules {
        stacks.push(finder.stack(module)?);
    }
    let network = Network { stacks, ..Network::default() };
    let before: Vec<usize> = network.stacks.iter().map(|stack| stack.config().layers).collect();
    let mut network = network.joined().map_err(|error| finder.unusable(error.to_string()))?;
    if modules[0].prefix.contains(RESIDUAL) {
        let [stack] = &mut network.stacks[..] else {
            return Err(finder.unusable("its layers with residual connections are not one LSTM".to_owned()));
        };
        let config = LstmConfig { residual: stack.config().layers > 1, ..stack.config().clone() };
        let values = |name: &str, _: &[usize]| Ok(stack.get(name).unwrap_or(&[]).into());
        *stack = Stack::new(config, values).map_err(|error| finder.unusable(error.to_string()))?;
    }
    finder.name_layers(&modules, &before, &network, &mut found);
    let table = finder.table(&network)?;
    let size = network.stacks.last().map_or(0, |stack| stack.lstm.output_size());
    let projection = finder.projection(size);
    let size = projection.map_or(size, |item| finder.items[item].array.shape[0]);
    let readout = finder.readout(&network, table, projection, size)?;
    if let Some(table) = table {
        let item = &finder.items[table];
        let [vocabulary, size] = item.array.shape[..] else { return Err(finder.unusable("no table".to_owned())) };
        network.embedding = Some(Embedding { vocabulary, size, weight: finder.values(table)? });
        found.insert(0, finder.found(table, "embedding.weight"));
    }
    if let Some(projection) = projection {
        let [output, input] = finder.items[projection].array.shape[..] else {
            return Err(finder.unusable("no matrix".to_owned()));
        };
        network.readouts.push(Linear::new([output, input], finder.values(projection)?, None));
        found.push(finder.found(projection, PROJECTION));
    }
    if let Some((weight, bias)) = readout {
        let [output, input] = finder.items[weight].array.shape[..] else {
            return Err(finder.unusable("no readout".to_owned()));
        };
        let values = bias.map(|bias| finder.values(bias)).transpose()?;
        network.readouts.push(Linear::new([output, input], finder.values(weight)?, values));
        found.push(finder.found(weight, "readout.weight"));
        found.extend(bias.map(|bias| finder.found(bias, "readout.bias")));
    }
    finder.place_copies(&found)?;
    let without_place = finder.without_place();
    if !without_place.is_empty() && !hints.is_look {
        let names = without_place.iter().take(6).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = match without_place.len() {
            0..=6 => String::new(),
            all => format!(" and {} more", all - 6),
        };
        return Err(finder.unusable(format!(
            "it has more than an embedding, LSTM layers and a linear readout, and what has no place there would change the \
             result: {names}{more}; map each to one of {PLACES}, or to nothing to leave it out"
        )));
    }
    network.notes = finder.notes(&found);
    Ok(Import { kind, network, found, left_over: finder.left_over, without_place })
}

impl<'a> Finder<'a> {
    fn unusable(&self, why: String) -> FormatError {
        FormatError::Unusable { path: self.path.to_owned(), why }
    }

    fn values(&self, item: usize) -> Result<Vec<f32>, FormatError> {
        let Item { theirs, array, .. } = &self.items[item];
        let values = (array.read)().map_err(|why| self.unusable(format!("{theirs} cannot be read: {why}")))?;
        self.placed.borrow_mut().insert(item);
        Ok(values)
    }

    fn found(&self, item: usize, ours: &str) -> Found {
        let Item { theirs, array, .. } = &self.items[item];
        Found { theirs: theirs.clone(), ours: ours.to_owned(), shape: array.shape.clone() }
    }

    /// Gives every tensor its name: the map's, or its own without wrappers.
    fn name(&mut self, dict: StateDict<'a>, map: &[(String, String)]) -> Result<(), FormatError> {
        let all: Vec<String> = dict.keys().cloned().collect();
        for (theirs, ours) in map {
            let is_start = theirs.ends_with('.');
            if !all.iter().any(|name| name == theirs || is_start && name.starts_with(theirs.as_str())) {
                let like: Vec<_> =
                    all.iter().filter(|name| name.ends_with(theirs.as_str())).map(String::as_str).collect();
                let names: Vec<_> = all.iter().take(8).map(String::as_str).collect();
                let more = if like.is_empty() && all.len() > names.len() { ", …" } else { "" };
                let names = if like.is_empty() { names } else { like };
                let names = names.join(", ");
                return Err(
                    self.unusable(format!("the map names {theirs}, which is not in it; there are: {names}{more}"))
                );
            }
            if !is_start && !ours.is_empty() && !is_place(ours) {
                return Err(self.unusable(format!("the map gives {theirs} the name {ours}; the places are: {PLACES}")));
            }
        }
        let mut left_out = 0;
        for (theirs, array) in dict {
            let exact = map.iter().find(|(name, _)| *name == theirs);
            // The longest start that fits.
            let start = map.iter().filter(|(name, _)| name.ends_with('.') && theirs.starts_with(name.as_str()));
            let start = start.max_by_key(|(name, _)| name.len());
            let (name, given) = match exact.or(start) {
                Some((_, ours)) if ours.is_empty() => {
                    left_out += 1;
                    continue;
                }
                Some((name, ours)) if *name == theirs => (ours.clone(), true),
                Some((name, ours)) => (format!("{ours}{}", &theirs[name.len()..]), false),
                None => (theirs.clone(), false),
            };
            let plain = plain(&name);
            self.items.push(Item { theirs, name: plain.name, role: plain.role, given, array });
        }
        if left_out > 0 {
            self.left_over.push(format!("{left_out} left out by the map"));
        }
        let mut given: Vec<&str> = self.items.iter().filter(|item| item.given).map(|item| item.name.as_str()).collect();
        given.sort_unstable();
        if let Some(twice) = given.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(self.unusable(format!("the map gives {} to two tensors", twice[0])));
        }
        Ok(())
    }

    /// Sets aside what only training needs.
    fn set_training_aside(&mut self) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (index, item) in self.items.iter().enumerate() {
            if item.given {
                continue;
            }
            if is_of_training(&item.theirs) {
                let section = item.theirs.split('.').next().unwrap_or("");
                *counts.entry(format!("{section}, of training")).or_default() += 1;
            } else if item.array.float.is_none() {
                *counts.entry(format!("{}, whole numbers", item.theirs)).or_default() += 1;
            } else {
                continue;
            }
            self.placed.borrow_mut().insert(index);
        }
        self.left_over.extend(counts.into_iter().map(|(section, tensors)| match tensors {
            1 => section,
            _ => format!("{section} ({})", count(tensors, "tensor")),
        }));
    }

    fn is_open(&self, item: usize) -> bool {
        !self.placed.borrow().contains(&item)
    }

    /// Where a name is there as it is and as what it is computed from, takes the latter; folds weight normalisation.
    fn choose_sources(&mut self) -> Result<(), FormatError> {
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, item) in self.items.iter().enumerate() {
            if self.is_open(index) {
                by_name.entry(item.name.clone()).or_default().push(index);
            }
        }
        for (name, indices) in by_name {
            let of = |role| indices.iter().copied().find(|&index| self.items[index].role == role);
            let (itself, source) = (of(Role::Itself), of(Role::Source));
            let pair = (of(Role::Length), of(Role::Direction));
            if let (Some(itself), true) = (itself, source.is_some() || pair.0.is_some()) {
                self.placed.borrow_mut().insert(itself);
                self.left_over.push(format!("{}, computed from others that are taken", self.items[itself].theirs));
            }
            match pair {
                (Some(length), Some(direction)) => self.fold(&name, length, direction)?,
                (None, None) => {}
                (Some(one), None) | (None, Some(one)) => {
                    let theirs = &self.items[one].theirs;
                    return Err(
                        self.unusable(format!("{theirs} is half of a normalised weight, whose other half is missing"))
                    );
                }
            }
        }
        Ok(())
    }

    /// Weight normalisation, w = g v / |v| over each row, or over whatever g has one value for.
    fn fold(&mut self, name: &str, length: usize, direction: usize) -> Result<(), FormatError> {
        let (g, v) = (self.values(length)?, self.values(direction)?);
        let (of_g, of_v) = (self.items[length].array.shape.clone(), self.items[direction].array.shape.clone());
        let (rows, columns) = match of_v[..] {
            [rows, columns] => (rows, columns),
            _ => return Err(self.unusable(format!("{name} is a normalised weight that is no matrix ({of_v:?})"))),
        };
        // Which length belongs to a place: that of its row, of its column, or of all.
        let group: Box<dyn Fn(usize) -> usize> = match of_g[..] {
            [a, 1] if a == rows => Box::new(move |at| at / columns),
            [1, b] if b == columns => Box::new(move |at| at % columns),
            _ if g.len() == 1 => Box::new(|_| 0),
            _ => return Err(self.unusable(format!("{name}: lengths {of_g:?} do not fit directions {of_v:?}"))),
        };
        let mut norms = vec![0.0f64; g.len()];
        v.iter().enumerate().for_each(|(at, value)| norms[group(at)] += f64::from(*value).powi(2));
        let values: Vec<f32> = v
            .iter()
            .enumerate()
            .map(|(at, value)| (f64::from(g[group(at)]) * f64::from(*value) / norms[group(at)].sqrt()) as f32)
            .collect();
        let theirs = format!("{} × {}", self.items[length].theirs, self.items[direction].theirs);
        let array = Array { shape: of_v, float: Some(Float::F32), read: Box::new(move || Ok(values.clone())) };
        self.items.push(Item { theirs, name: name.to_owned(), role: Role::Source, given: false, array });
        Ok(())
    }

    /// The LSTMs, from the input on.
    fn modules(&self) -> Result<Vec<Module>, FormatError> {
        let mut modules: BTreeMap<String, Module> = BTreeMap::new();
        for (index, item) in self.items.iter().enumerate().filter(|(index, _)| self.is_open(*index)) {
            let Some(name) = LstmName::parse(&item.name) else { continue };
            let prefix = name.module.clone();
            let module = modules.entry(prefix.clone()).or_insert(Module { prefix, arrays: BTreeMap::new() });
            if let Some(other) = module.arrays.insert((name.layer, name.reverse, name.array), index) {
                let [a, b] = [other, index].map(|index| &self.items[index].theirs);
                return Err(
                    self.unusable(format!("{a} and {b} are the same array of one LSTM; map one of them to nothing"))
                );
            }
        }
        let mut modules: Vec<Module> = modules.into_values().collect();
        modules.sort_by(|a, b| natural(&a.prefix, &b.prefix));
        let Some(first) = modules.first() else {
            let names: Vec<&str> = self.items.iter().take(6).map(|item| item.theirs.as_str()).collect();
            let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            return Err(self.unusable(format!(
                "there is no LSTM in it: no tensor is called weight_ih_l0 or the like; it holds {names}; map the LSTM's \
                 tensors to {PLACES}"
            )));
        };
        if modules.iter().any(|module| series(&module.prefix) != series(&first.prefix)) {
            let names: Vec<&str> = modules.iter().map(|module| module.prefix.trim_end_matches('.')).collect();
            let [a, b] = [0, 1].map(|index| &modules[index].prefix);
            return Err(self.unusable(format!(
                "it holds {} LSTMs ({}), and nothing says how they are joined; leave one out by mapping {b} to nothing, or say \
                 their order by mapping {a} to lstm.0. and {b} to lstm.1.",
                names.len(),
                names.join(", ")
            )));
        }
        Ok(modules)
    }

    /// The LSTM of a module's tensors.
    fn stack(&self, module: &Module) -> Result<Stack, FormatError> {
        let named = |key: &(usize, bool, &'static str)| {
            let (layer, reverse, array) = key;
            format!("{}{array}_l{layer}{}", module.prefix, if *reverse { "_reverse" } else { "" })
        };
        let shape = |key: (usize, bool, &'static str)| -> Result<[usize; 2], FormatError> {
            let item = module.arrays.get(&key).ok_or_else(|| self.unusable(format!("{} is missing", named(&key))))?;
            let shape = &self.items[*item].array.shape;
            <[usize; 2]>::try_from(&shape[..])
                .map_err(|_| self.unusable(format!("{} should be a matrix, and is {shape:?}", named(&key))))
        };
        let layers = module.arrays.keys().map(|(layer, ..)| layer + 1).max().unwrap_or(0);
        let bidirectional = module.arrays.keys().any(|(_, reverse, _)| *reverse);
        let [rows, recurrent] = shape((0, false, "weight_hh"))?;
        let [_, input] = shape((0, false, "weight_ih"))?;
        let projection = match module.arrays.contains_key(&(0, false, "weight_hr")) {
            true => Some(shape((0, false, "weight_hr"))?[0]),
            false => None,
        };
        let hidden = rows / 4;
        if projection.is_none() && rows != 4 * recurrent {
            let what = match rows.checked_div(recurrent) {
                Some(3) if rows == 3 * recurrent => "three, as a GRU".to_owned(),
                Some(1) if rows == recurrent => "one, as a plain recurrent layer".to_owned(),
                _ => format!("{} over {}", count(rows, "row"), count(recurrent, "column")),
            };
            return Err(self.unusable(format!(
                "{} has not an LSTM's four gates but {what}; only LSTMs can be read",
                named(&(0, false, "weight_hh"))
            )));
        }
        // Every layer is there, before a layout of so many is made.
        for layer in 0..layers {
            for reverse in [false, true].into_iter().take(1 + usize::from(bidirectional)) {
                shape((layer, reverse, "weight_ih"))?;
                shape((layer, reverse, "weight_hh"))?;
            }
        }
        let config = LstmConfig { layers, bidirectional, projection, ..LstmConfig::new(input, hidden) };
        let trouble = RefCell::new(None);
        let has_biases = module.arrays.keys().any(|(.., array)| array.starts_with("bias"));
        let stack = Stack::new(config, |name, expected| {
            let parsed = LstmName::parse(name).ok_or_else(|| NetworkError::Unfit(name.to_owned()))?;
            let key = (parsed.layer, parsed.reverse, parsed.array);
            let Some(&item) = module.arrays.get(&key) else {
                return match parsed.array.starts_with("bias") && !has_biases {
                    // `bias=False`.
                    true => Ok(Cow::Owned(vec![0.0; expected.iter().product()])),
                    false => Err(NetworkError::Unfit(format!("{} is missing", named(&key)))),
                };
            };
            let found = &self.items[item].array.shape;
            if found != expected {
                let theirs = &self.items[item].theirs;
                return Err(NetworkError::Unfit(format!("{theirs} should be {expected:?}, and is {found:?}")));
            }
            self.values(item).map(Cow::Owned).map_err(|error| {
                *trouble.borrow_mut() = Some(error);
                NetworkError::Unfit(String::new())
            })
        });
        stack.map_err(|error| trouble.take().unwrap_or_else(|| self.unusable(error.to_string())))
    }

    /// Where the LSTMs' tensors are now that neighbours are joined. before: the layers of each module.
    fn name_layers(&self, modules: &[Module], before: &[usize], network: &Network, found: &mut Vec<Found>) {
        let (mut stack, mut first) = (0, 0);
        for (module, layers) in modules.iter().zip(before) {
            if first == network.stacks[stack].config().layers {
                (stack, first) = (stack + 1, 0);
            }
            let start = if network.stacks.len() == 1 { "lstm.".to_owned() } else { format!("lstm.{stack}.") };
            let mut arrays: Vec<_> = module.arrays.iter().collect();
            arrays.sort_by_key(|((layer, reverse, array), _)| (*layer, *reverse, place(array)));
            for ((layer, reverse, array), item) in arrays {
                let reverse = if *reverse { "_reverse" } else { "" };
                found.push(self.found(*item, &format!("{start}{array}_l{}{reverse}", first + layer)));
            }
            first += layers;
        }
    }

    /// The open matrices with `columns`, whose name or its start is not another place's.
    fn matrices(&self, columns: usize, place: &str) -> Vec<usize> {
        let fits = |index: &usize| {
            let item = &self.items[*index];
            self.is_open(*index) && item.array.shape.len() == 2 && item.array.shape[1] == columns
        };
        let all = (0..self.items.len()).filter(fits);
        all.filter(|index| !self.items[*index].given || self.items[*index].name == place).collect()
    }

    /// The bias beside a matrix.
    fn bias_of(&self, weight: usize) -> Option<usize> {
        let item = &self.items[weight];
        let start = item.name.strip_suffix("weight")?;
        let name = format!("{start}bias");
        (0..self.items.len()).find(|&index| {
            let other = &self.items[index];
            other.name == name && self.is_open(index) && other.array.shape == item.array.shape[..1]
        })
    }

    /// The one of several that a name with one of `words` says it is, or that all are copies of.
    fn choose(&self, found: &[usize], place: &str, words: &[&str]) -> Result<Option<usize>, FormatError> {
        let given = found.iter().copied().find(|&index| self.items[index].name == place);
        if given.is_some() || found.len() < 2 {
            return Ok(given.or(found.first().copied()));
        }
        let says = |index: &usize| {
            let name = self.items[*index].name.to_ascii_lowercase();
            words.iter().any(|word| name.contains(word))
        };
        let named: Vec<usize> = found.iter().copied().filter(says).collect();
        let from = if named.is_empty() { found } else { &named };
        if from.len() > 1 {
            let first = (self.items[from[0]].array.read)();
            for other in &from[1..] {
                let same = matches!((&first, (self.items[*other].array.read)()), (Ok(a), Ok(b)) if same_bits(a, &b));
                if !same {
                    let names: Vec<&str> = from.iter().map(|index| self.items[*index].theirs.as_str()).collect();
                    return Err(self.unusable(format!(
                        "any of {} could be {place}; say which: map it to {place}, the others to nothing if they do not matter",
                        names.join(", ")
                    )));
                }
            }
        }
        Ok(from.first().copied())
    }

    /// The embedding, if there is one: a matrix of the LSTM's input size that has no bias.
    fn table(&self, network: &Network) -> Result<Option<usize>, FormatError> {
        let place = "embedding.weight";
        let mut found = self.matrices(network.input_size(), place);
        found.retain(|index| self.bias_of(*index).is_none());
        let reads = network.stacks.last().map_or(0, |stack| stack.lstm.output_size());
        if reads == network.input_size() && found.iter().all(|index| self.items[*index].name != place) {
            // It could be a readout as well: then its name says which.
            let is_readout = |index: &usize| {
                let name = self.items[*index].name.to_ascii_lowercase();
                let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
                says(&READOUTS) && !says(&TABLES)
            };
            found.retain(|index| !is_readout(index));
        }
        self.choose(&found, place, &TABLES)
    }

    /// What this library puts between an LSTM and a tied readout of another size.
    fn projection(&self, size: usize) -> Option<usize> {
        let named = |index: &usize| self.is_open(*index) && self.items[*index].name == PROJECTION;
        (0..self.items.len())
            .filter(named)
            .find(|index| matches!(self.items[*index].array.shape[..], [_, columns] if columns == size))
    }

    /// The readout's weight and bias, if there is one: a matrix of `size` columns, what it reads.
    fn readout(
        &self,
        network: &Network,
        table: Option<usize>,
        projection: Option<usize>,
        size: usize,
    ) -> Result<Option<(usize, Option<usize>)>, FormatError> {
        let place = "readout.weight";
        let mut found = self.matrices(size, place);
        found.retain(|index| Some(*index) != table && Some(*index) != projection);
        // Whether it stands before the LSTM, by its rows and its name.
        found.retain(|&index| {
            let item = &self.items[index];
            let name = item.name.to_ascii_lowercase();
            item.given || item.array.shape[0] != network.input_size() || !BEFORE.iter().any(|word| name.contains(word))
        });
        if let Some(weight) = self.choose(&found, place, &READOUTS)? {
            return Ok(Some((weight, self.bias_of(weight))));
        }
        // A tied readout may have kept its bias alone.
        let Some(table) = table.filter(|table| self.items[*table].array.shape[1] == size) else { return Ok(None) };
        let rows = &self.items[table].array.shape[..1];
        let bias = (0..self.items.len()).find(|&index| {
            let item = &self.items[index];
            self.is_open(index) && item.name.ends_with("bias") && item.array.shape == rows
        });
        Ok(bias.map(|bias| (table, Some(bias))))
    }

    /// Places tensors that are copies of some that have a place.
    fn place_copies(&mut self, found: &[Found]) -> Result<(), FormatError> {
        for index in 0..self.items.len() {
            if !self.is_open(index) {
                continue;
            }
            let shape = &self.items[index].array.shape;
            let like: Vec<usize> = (0..self.items.len())
                .filter(|&other| found.iter().any(|f| f.theirs == self.items[other].theirs))
                .filter(|&other| self.items[other].array.shape == *shape)
                .collect();
            if like.is_empty() {
                continue;
            }
            let values = (self.items[index].array.read)();
            for other in like {
                if let (Ok(a), Ok(b)) = (&values, (self.items[other].array.read)())
                    && same_bits(a, &b)
                {
                    let [copy, of] = [index, other].map(|index| self.items[index].theirs.clone());
                    self.left_over.push(format!("{copy}, a copy of {of}"));
                    self.placed.borrow_mut().insert(index);
                    break;
                }
            }
        }
        Ok(())
    }

    /// What has no place and is no copy: it would change the result.
    fn without_place(&self) -> Vec<String> {
        let open = self.items.iter().enumerate().filter(|(index, _)| self.is_open(*index));
        open.map(|(_, item)| format!("{} {:?}", item.theirs, item.array.shape)).collect()
    }

    /// What the reader of the network should know.
    fn notes(&self, found: &[Found]) -> Vec<String> {
        let taken = |item: &&Item| found.iter().any(|f| f.theirs == item.theirs);
        let forms: BTreeSet<Float> = self.items.iter().filter(taken).filter_map(|item| item.array.float).collect();
        let mut notes: Vec<String> = Float::note(&forms).into_iter().collect();
        if self
            .items
            .iter()
            .any(|item| item.theirs.contains("parametrizations.") && item.theirs.ends_with(".original") && taken(&item))
        {
            notes.push(
                "of a parametrization the file keeps what it is given, not what it does: that is taken as the weight"
                    .to_owned(),
            );
        }
        notes
    }
}

/// Whether the map can give this name.
fn is_place(name: &str) -> bool {
    ["embedding.weight", "readout.weight", "readout.bias"].contains(&name) || LstmName::parse(name).is_some()
}
