//! The operator LSTM: W, R, B and P in the order i, o, f, c become this library's i, f, g, o.

use std::borrow::Cow;

use super::super::network::{CellFunctions, Function, Stack};
use super::axes::{Axis, Dim, Factor, plain};
use super::follow::{Flow, Follower, Part, States, Taken, Value};
use super::node::{Kind, Node};
use super::tensor::Tensor;
use crate::nn::config::{CellOptions, LstmConfig};
use crate::nn::state::State;
use crate::said::count;

/// The weights of an LSTM as the file has them: of both directions, one after the other.
struct Weights<'a> {
    directions: usize,
    hidden: usize,
    input: usize,
    w: &'a [f32],
    r: &'a [f32],
    b: Option<&'a [f32]>,
    p: Option<&'a [f32]>,
    /// Whether i is what f leaves, and f is not computed.
    coupled: bool,
}

/// What the states start from.
enum Initial {
    Zeros,
    /// Those of an input, or of what calls the network.
    Given,
    /// One row: `[D, H]`.
    Row(Vec<f32>),
}

/// Makes a part of a network of the operator.
///
/// # Errors
/// A sentence on the first of its inputs or attributes that is not understood.
pub(super) fn follow(follower: &mut Follower, node: &Node, inputs: &[Option<Value>]) -> Result<Vec<Value>, String> {
    node.check_kinds(&[
        ("layout", Kind::Whole),
        ("hidden_size", Kind::Whole),
        ("input_forget", Kind::Whole),
        ("clip", Kind::Number),
        ("direction", Kind::Name),
    ])?;
    if let Some(other) = node.int("input_forget").filter(|own| ![0, 1].contains(own)) {
        return Err(format!("its input_forget is {other}, which is neither 0 nor 1"));
    }
    let batch_first = match node.int("layout").unwrap_or(0) {
        layout @ (0 | 1) => layout == 1,
        other => return Err(format!("its layout is {other}, which is none: 0 is steps first, 1 rows first")),
    };
    let direction = node.string("direction").unwrap_or_else(|| "forward".to_owned());
    let (directions, reverse) = match direction.as_str() {
        "forward" => (1, false),
        "reverse" => (1, true),
        "bidirectional" => (2, false),
        other => return Err(format!("its direction is {other:?}, which is none")),
    };
    let functions = functions(node, directions)?;
    let input = |place: usize| inputs.get(place).and_then(Option::as_ref);
    let constant = |place: usize, name: &str| match input(place) {
        Some(Value::Constant(tensor)) => Ok(Some(tensor)),
        None => Ok(None),
        Some(_) => Err(format!("its {name} is computed when the graph runs, and weights have to be constants")),
    };
    let needed = |place, name| constant(place, name)?.ok_or_else(|| format!("its {name} is missing"));
    let (w, r) = (needed(1, "W")?, needed(2, "R")?);
    let (b, p) = (constant(3, "B")?, constant(7, "P")?);
    let [of_w, rows, size] = w.shape[..] else { return Err(format!("its W {:?} has not three axes", w.shape)) };
    let hidden = match node.int("hidden_size") {
        None => rows / 4,
        Some(size) => usize::try_from(size).map_err(|_| format!("its hidden_size is {size}, and cells are counted"))?,
    };
    let shapes = [
        ("W", Some(w), vec![directions, 4 * hidden, size]),
        ("R", Some(r), vec![directions, 4 * hidden, hidden]),
        ("B", b, vec![directions, 8 * hidden]),
        ("P", p, vec![directions, 3 * hidden]),
    ];
    for (name, tensor, expected) in shapes {
        if let Some(tensor) = tensor.filter(|tensor| tensor.shape != expected || tensor.floats().is_none()) {
            return Err(format!(
                "its {name} is {:?}, where {directions} of {} over {} have {expected:?}",
                tensor.shape,
                count(hidden, "cell"),
                count(size, "value")
            ));
        }
    }
    if of_w != directions || hidden == 0 || size == 0 {
        return Err(format!("its W {:?} is that of no LSTM", w.shape));
    }
    for place in [5, 6] {
        let other = match input(place) {
            Some(Value::Constant(tensor)) => tensor.shape.last().copied(),
            Some(Value::Flow(Flow { axes, .. })) => axes
                .last()
                .and_then(|axis| Dim::of(axis).known(&follower.sizes))
                .and_then(|size| usize::try_from(size).ok()),
            _ => None,
        };
        if let Some(other) = other.filter(|other| *other != hidden) {
            return Err(format!(
                "its hidden_size is {hidden}, but its initial states have {}: PyTorch's exporter writes such files \
                 of an LSTM with proj_size, and leaves most of its weights out; convert the .pt file instead",
                count(other, "value")
            ));
        }
    }

    let x = match input(0) {
        Some(Value::Flow(flow)) => flow.clone(),
        Some(Value::States(_)) => return Err("it reads final states as if they were steps".to_owned()),
        Some(_) => return Err("it reads no input of the graph".to_owned()),
        None => return Err("its input is missing".to_owned()),
    };
    match &follower.parts[x.part] {
        Part::Input { is_whole: false, .. } | Part::Embedding { .. } | Part::Lstm { .. } | Part::Added { .. } => {}
        Part::Input { .. } => return Err("it reads whole numbers without an embedding".to_owned()),
        Part::Final { .. } => return Err("it reads a final state, not steps".to_owned()),
        Part::Linear { .. } => {
            return Err("it reads what a linear layer gives, and a network here has its linear layers above the LSTM"
                .to_owned());
        }
    }
    let [first, second, _] = &x.axes[..] else {
        return Err(format!(
            "it reads a value of {}, not of steps, rows and values",
            match x.axes.len() {
                1 => "1 axis".to_owned(),
                axes => format!("{axes} axes"),
            }
        ));
    };
    let is_input = matches!(follower.parts[x.part], Part::Input { .. });
    let own_size = match is_input {
        true => x.axes.last().and_then(|axis| Dim::of(axis).known(&follower.sizes)),
        false if !follower.is_vector(&x) => return Err("it reads what are not the values of one step".to_owned()),
        false => Some(Dim::of(&follower.vector(x.part)).number),
    };
    if own_size.is_some_and(|own| own != size as i64) {
        return Err(format!("it takes {} at a step, but {} come", count(size, "value"), own_size.unwrap_or(0)));
    }
    let (time, batch) = if batch_first { (second, first) } else { (first, second) };
    let course = [time, batch].map(|axis| plain(axis, &follower.sizes));
    match &follower.course {
        Some(other) if *other != course => {
            return Err(
                "it runs over the rows of an LSTM below it, as steps: one of both has its layout or its transposition \
                        the other way round"
                    .to_owned(),
            );
        }
        Some(_) => {}
        None => follower.course = Some(course),
    }
    lengths(follower, input(4), time)?;

    let weights = Weights {
        directions,
        hidden,
        input: size,
        w: w.floats().unwrap_or(&[]),
        r: r.floats().unwrap_or(&[]),
        b: b.and_then(Tensor::floats),
        p: p.and_then(Tensor::floats),
        coupled: functions.is_none() && is_coupled(node),
    };
    let mut stack = weights.stack().map_err(|error| error.to_string())?;
    stack.reverse = reverse;
    if let Some(functions) = &functions {
        follower.notes.push(format!(
            "{} has {functions}: such cells run here gate by gate, slowly, and no model of this program trains them",
            node.describe()
        ));
    }
    stack.functions = functions;
    let states = [5, 6].map(|place| initial(follower, input(place), batch_first, directions, hidden));
    let [h, c] = states;
    let mut state = State::zeros(stack.config(), 1);
    for (initial, values) in [(h?, &mut state.h), (c?, &mut state.c)] {
        if let Initial::Row(row) = initial {
            *values = row;
        }
    }
    if state.h.iter().chain(&state.c).any(|value| *value != 0.0) {
        stack.initial = Some(state);
    }
    let taken = |tensor: Option<&Tensor>, ours| {
        tensor.map(|tensor| Taken { theirs: tensor.name.clone(), ours, shape: tensor.shape.clone() })
    };
    let names =
        [taken(Some(w), "weight_ih"), taken(Some(r), "weight_hh"), taken(b, "bias"), taken(p, "weight_peephole")];
    let names = names.into_iter().flatten().collect();
    follower.parts.push(Part::Lstm { below: x.part, stack: Box::new(stack), names });
    let part = follower.parts.len() - 1;
    let (time, batch) = (time.clone(), batch.clone());
    let (of_directions, features) = (vec![Factor::Directions(directions)], vec![Factor::Features(hidden)]);
    let state_axis = vec![Factor::States(directions)];
    let (axes, state_axes): (Vec<Axis>, Vec<Axis>) = match batch_first {
        false => (vec![time, of_directions, batch.clone(), features.clone()], vec![state_axis, batch, features]),
        true => (vec![batch.clone(), time, of_directions, features.clone()], vec![batch, state_axis, features]),
    };
    let items: Vec<(usize, usize)> = (0..directions).map(|direction| (part, direction)).collect();
    let states = |hidden| Value::States(States { hidden, items: items.clone(), axes: state_axes.clone() });
    Ok(vec![Value::Flow(Flow { part, axes }), states(true), states(false)])
}

fn is_coupled(node: &Node) -> bool {
    node.int("input_forget").unwrap_or(0) != 0
}

/// What the cells compute, where it is not what those of every LSTM here do.
fn functions(node: &Node, directions: usize) -> Result<Option<CellFunctions>, String> {
    // The largest number cuts off nothing: ONNX Runtime's value for none.
    let clip = node.float("clip").filter(|clip| *clip != f32::MAX && *clip != f32::INFINITY);
    if let Some(clip) = clip.filter(|clip| clip.is_nan() || *clip <= 0.0) {
        return Err(format!("its clip is {clip}, and sums are cut off at a size above 0"));
    }
    let names = node.strings("activations");
    if !names.is_empty() && names.len() != 3 * directions {
        return Err(format!(
            "its activations are {}, where each direction, {directions} in all, has three: of the gates, of the candidate, of the cell",
            names.join(", ")
        ));
    }
    // Each takes the next of its kind, and those without attributes none.
    let (mut alphas, mut betas) = (node.floats("activation_alpha").iter(), node.floats("activation_beta").iter());
    let mut all = Vec::new();
    for name in &names {
        all.push(function(name, || alphas.next().copied(), || betas.next().copied())?);
    }
    for (left, attribute) in [(alphas.len(), "activation_alpha"), (betas.len(), "activation_beta")] {
        if left > 0 {
            return Err(format!(
                "its {attribute} has {left} more than its activations {} take, so nothing says whose is whose",
                names.join(", ")
            ));
        }
    }
    let mut of: Vec<[Function; 3]> = all.as_chunks::<3>().0.to_vec();
    of.resize(directions, Function::PLAIN);
    let is_plain = of.iter().all(|own| *own == Function::PLAIN) && clip.is_none();
    Ok((!is_plain).then(|| CellFunctions { of, clip, input_forget: is_coupled(node) }))
}

/// A function by its name, which may be written anyhow, with the attributes that it takes; those that are not there are the
/// standard's.
fn function(
    name: &str,
    mut alpha: impl FnMut() -> Option<f32>,
    mut beta: impl FnMut() -> Option<f32>,
) -> Result<Function, String> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "sigmoid" => Function::Sigmoid,
        "tanh" => Function::Tanh,
        "relu" => Function::Relu,
        "softsign" => Function::Softsign,
        "softplus" => Function::Softplus,
        "affine" => Function::Affine { alpha: alpha().unwrap_or(1.0), beta: beta().unwrap_or(0.0) },
        "leakyrelu" => Function::LeakyRelu { alpha: alpha().unwrap_or(0.01) },
        "thresholdedrelu" => Function::ThresholdedRelu { alpha: alpha().unwrap_or(1.0) },
        "scaledtanh" => {
            match (alpha(), beta()) {
                (Some(alpha), Some(beta)) => Function::ScaledTanh { alpha, beta },
                _ => {
                    return Err("its ScaledTanh has no activation_alpha or activation_beta, and the standard has no values for \
                            them"
                    .to_owned());
                }
            }
        }
        "hardsigmoid" => Function::HardSigmoid { alpha: alpha().unwrap_or(0.2), beta: beta().unwrap_or(0.5) },
        "elu" => Function::Elu { alpha: alpha().unwrap_or(1.0) },
        _ => return Err(format!("its activation {name} is none of the standard's eleven")),
    })
}

/// `sequence_lens`: an input, or the length of every row.
fn lengths(follower: &mut Follower, value: Option<&Value>, time: &Axis) -> Result<(), String> {
    match value {
        None => Ok(()),
        Some(Value::Flow(Flow { part, axes }))
            if axes.len() == 1 && matches!(follower.parts[*part], Part::Input { .. }) =>
        {
            follower.has_lengths = true;
            Ok(())
        }
        Some(Value::Constant(tensor)) => {
            let steps = Dim::of(time).known(&follower.sizes);
            let values = tensor.wholes().unwrap_or(&[]);
            match steps.is_some_and(|steps| values.iter().all(|length| *length == steps)) {
                true => Ok(()),
                false => Err(format!(
                    "its sequence_lens are the constants {values:?}: the exporter wrote the lengths of its example into the \
                     file; export with the lengths as an input of the model, or without them"
                )),
            }
        }
        // Every row is as long as there are steps.
        Some(Value::Sizes { .. }) => Ok(()),
        Some(_) => Err("its sequence_lens are computed from what flows, and lengths have to be an input".to_owned()),
    }
}

/// What states start from.
fn initial(
    follower: &mut Follower,
    value: Option<&Value>,
    batch_first: bool,
    directions: usize,
    hidden: usize,
) -> Result<Initial, String> {
    let given = match value {
        None => return Ok(Initial::Zeros),
        Some(Value::Filled(value)) => return Ok(Initial::Row(vec![*value; directions * hidden])),
        Some(Value::Constant(tensor)) => {
            let (Some(values), [a, b, _]) = (tensor.floats(), &tensor.shape[..]) else {
                return Err(format!("its initial states {:?} have not three axes", tensor.shape));
            };
            let (of_directions, rows) = if batch_first { (*b, *a) } else { (*a, *b) };
            if of_directions != directions || rows == 0 {
                return Err(format!(
                    "its initial states are {:?}, for {}",
                    tensor.shape,
                    count(directions, "direction")
                ));
            }
            let row = |row: usize, direction: usize| {
                let place = if batch_first { row * directions + direction } else { direction * rows + row };
                &values[place * hidden..][..hidden]
            };
            let same =
                (0..directions).all(|direction| (1..rows).all(|other| row(other, direction) == row(0, direction)));
            if !same {
                return Err("its initial states are constants that differ from row to row".to_owned());
            }
            return Ok(Initial::Row((0..directions).flat_map(|direction| row(0, direction).to_vec()).collect()));
        }
        Some(Value::Given { input, from, to }) => (*input, *from, *to),
        Some(Value::Flow(Flow { part, .. }))
            if matches!(follower.parts[*part], Part::Input { is_whole: false, .. }) =>
        {
            (*part, 0, i64::MAX)
        }
        Some(_) => return Err("its initial states are computed from another part of the network".to_owned()),
    };
    let (input, from, to) = given;
    if follower.given.iter().any(|(other, first, last)| *other == input && from < *last && *first < to) {
        return Err("its initial states are those of another LSTM as well".to_owned());
    }
    follower.given.push((input, from, to));
    Ok(Initial::Given)
}

impl Weights<'_> {
    /// The stack of one layer that computes the same.
    fn stack(&self) -> Result<Stack, super::super::network::NetworkError> {
        let variant = CellOptions { peepholes: self.p.is_some(), ..CellOptions::default() };
        let config =
            LstmConfig { bidirectional: self.directions == 2, variant, ..LstmConfig::new(self.input, self.hidden) };
        Stack::new(config, |name, _| {
            let direction = usize::from(name.ends_with("_reverse"));
            let hidden = self.hidden;
            let part = |values: &[f32], blocks: usize, first: usize, width: usize| -> Vec<f32> {
                values[direction * blocks * width..][first * width..][..width].to_vec()
            };
            // i, o, f, c as i, f, g, o; where f is what i leaves, its sums are those of i, negated.
            let gates = |values: &[f32], blocks: usize, first: usize, width: usize| {
                let gate = |gate: usize| part(values, blocks, first + gate, width);
                let f = if self.coupled { negated(gate(0)) } else { gate(2) };
                Cow::Owned([gate(0), f, gate(3), gate(1)].concat())
            };
            Ok(match name.split("_l").next().unwrap_or("") {
                "weight_ih" => gates(self.w, 4, 0, hidden * self.input),
                "weight_hh" => gates(self.r, 4, 0, hidden * hidden),
                "bias_ih" => self.b.map_or_else(|| vec![0.0; 4 * hidden].into(), |b| gates(b, 8, 0, hidden)),
                "bias_hh" => self.b.map_or_else(|| vec![0.0; 4 * hidden].into(), |b| gates(b, 8, 4, hidden)),
                // i, o, f as i, f, o.
                "weight_peephole" => {
                    let p = self.p.unwrap_or(&[]);
                    let gate = |gate: usize| part(p, 3, gate, hidden);
                    let f = if self.coupled { negated(gate(0)) } else { gate(2) };
                    Cow::Owned([gate(0), f, gate(1)].concat())
                }
                _ => Cow::Borrowed(&[]),
            })
        })
    }
}

fn negated(mut values: Vec<f32>) -> Vec<f32> {
    values.iter_mut().for_each(|value| *value = -*value);
    values
}

/// One LSTM of two that read the same, the first forward and the second from the end.
pub(super) fn both_directions(forward: &Part, backward: &Part) -> Option<Part> {
    let (Part::Lstm { below, stack: a, names }, Part::Lstm { below: other, stack: b, names: more }) =
        (forward, backward)
    else {
        return None;
    };
    let fits = below == other
        && a.functions.is_none()
        && b.functions.is_none()
        && !a.reverse
        && b.reverse
        && a.config() == b.config()
        && !a.config().bidirectional
        && a.initial.is_none()
        && b.initial.is_none();
    if !fits {
        return None;
    }
    let config = LstmConfig { bidirectional: true, ..a.config().clone() };
    let stack = Stack::new(config, |name, _| {
        let own = match name.strip_suffix("_reverse") {
            Some(name) => b.get(name),
            None => a.get(name),
        };
        Ok(own.unwrap_or(&[]).into())
    });
    let names = [&names[..], more].concat();
    Some(Part::Lstm { below: *below, stack: Box::new(stack.ok()?), names })
}
