//! What a unit, a gate or a layer does to a prediction: the text is read once as it is and once with it changed, for all tokens or some.
//!
//! A change is another set of parameters, so that it goes through every wiring, cell and readout as the model does: a gate whose weights
//! are zero and whose bias is far below or above it is shut or open, and a cell that only keeps, f = 1 and i = 0, stays at what it is set to.

use std::ops::Range;

use serde::Serialize;

use super::{BEST, Scores, parts, row, start};
use crate::model::Loss;
use crate::nn::params::Params;
use crate::nn::state::State;
use crate::run::error::TrainError;
use crate::run::saved::LoadedRun;

/// A gate by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Gate {
    /// The input gate.
    I,
    /// The forget gate.
    F,
    /// The candidate.
    G,
    /// The output gate.
    O,
}

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum What {
    /// The cell of a unit is held at this value.
    Cell(usize, f32),
    /// The hidden state of a unit is zero: its output gate is shut.
    Unit(usize),
    /// A gate of all units, or of one, is held at this value: of i, f and o from 0 to 1, of g from −1 to 1.
    Gate(Gate, Option<usize>, f32),
    /// The layer says nothing: all its output gates are shut.
    Layer,
}

/// A change, and where it is made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The layer, from 1.
    pub layer: usize,
    /// What of it.
    pub what: What,
    /// The tokens while whose reading it holds, by their numbers from 1; `None` for all.
    pub span: Option<(usize, usize)>,
}

/// A reading of a text: what it cost, and what was expected after each token.
#[derive(Clone, Debug, Serialize)]
pub struct Reading {
    /// The surprisal of each token, in nats.
    pub nats: Vec<f32>,
    /// After each token that was read, the start first: the best five.
    pub best: Vec<Vec<(String, f32)>>,
}

/// The text with and without the changes.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
    /// As the model is.
    pub without: Reading,
    /// Changed.
    pub with: Reading,
    /// Kullback–Leibler divergence from the one to the other after each token that was read, in nats.
    pub divergence: Vec<f32>,
}

impl Reading {
    /// Its perplexity.
    pub fn perplexity(&self) -> f64 {
        self.loss().perplexity()
    }

    fn loss(&self) -> Loss {
        Loss { nll: self.nats.iter().map(|nats| f64::from(*nats)).sum(), tokens: self.nats.len() }
    }
}

/// Far enough for a logistic function to be 0 or 1 in single precision.
const FAR: f32 = 1e4;

/// The bias at which a gate that sees nothing else has this value.
fn bias(gate: Gate, value: f32) -> f32 {
    let held = match gate {
        Gate::G => value.atanh(),
        _ => (value / (1.0 - value)).ln(),
    };
    held.clamp(-FAR, FAR)
}

/// The changed parameters of a run.
struct Changed<'a> {
    run: &'a LoadedRun,
    params: Params,
}

impl Changed<'_> {
    /// H of a layer, and the place of a gate among those that have parameters: none of the input gate where it is coupled.
    fn place(&self, layer: usize, gate: Gate) -> (usize, Option<usize>) {
        let config = self.run.model.config();
        let first = usize::from(config.lstm.variant.coupled);
        let place = match gate {
            Gate::I => 0_usize.checked_sub(first),
            Gate::F => Some(1 - first),
            Gate::G => Some(2 - first),
            Gate::O => Some(3 - first),
        };
        (config.lstm.hidden.of(layer), place)
    }

    /// Holds a gate of some units at a value.
    fn hold(&mut self, layer: usize, gate: Gate, units: Range<usize>, value: f32) {
        let (hidden, Some(place)) = self.place(layer, gate) else { return };
        let gates = self.run.model.config().lstm.variant.gates();
        let rows = place * hidden + units.start..place * hidden + units.end;
        for name in ["weight_ih", "weight_hh", "gain_ih", "gain_hh", "bias_hh", "bias_ih"] {
            let Some(values) = self.params.by_name_mut(&format!("lstm.{name}_l{layer}")) else { continue };
            let width = values.len() / (gates * hidden);
            let held = if name == "bias_ih" { bias(gate, value) } else { 0.0 };
            values[rows.start * width..rows.end * width].fill(held);
        }
        // Peepholes are of i, f, o: the candidate sees no cell.
        let peephole = match gate {
            Gate::G => None,
            Gate::O => Some(gates - 2),
            _ => Some(place),
        };
        let peepholes = self.params.by_name_mut(&format!("lstm.weight_peephole_l{layer}"));
        if let Some((peepholes, place)) = peepholes.zip(peephole) {
            peepholes[place * hidden + units.start..place * hidden + units.end].fill(0.0);
        }
    }

    /// Makes a change.
    fn make(&mut self, layer: usize, what: What) {
        let hidden = self.run.model.config().lstm.hidden.of(layer);
        match what {
            What::Cell(unit, _) => {
                self.hold(layer, Gate::F, unit..unit + 1, 1.0);
                self.hold(layer, Gate::I, unit..unit + 1, 0.0);
            }
            What::Unit(unit) => self.hold(layer, Gate::O, unit..unit + 1, 0.0),
            What::Gate(gate, unit, value) => {
                let units = unit.map_or(0..hidden, |unit| unit..unit + 1);
                // i = 1 − f where they are coupled.
                match (gate, self.place(layer, gate).1) {
                    (Gate::I, None) => self.hold(layer, Gate::F, units, 1.0 - value),
                    _ => self.hold(layer, gate, units, value),
                }
            }
            What::Layer => self.hold(layer, Gate::O, 0..hidden, 0.0),
        }
    }
}

/// The parameters of a run with one change made.
#[cfg(test)]
pub(super) fn made(run: &LoadedRun, layer: usize, what: What) -> Params {
    let mut changed = Changed { run, params: run.params.clone() };
    changed.make(layer, what);
    changed.params
}

/// Refuses a change of what is not there.
fn check(run: &LoadedRun, tokens: usize, change: &Change) -> Result<(), TrainError> {
    let config = run.model.config();
    let refuse = |why: String| Err(TrainError::Unusable(why));
    if !(1..=config.lstm.layers).contains(&change.layer) {
        return refuse(format!(
            "layer {} is not there: the model has {}, the first of which is 1",
            change.layer, config.lstm.layers
        ));
    }
    let hidden = config.lstm.hidden.of(change.layer - 1);
    let unit = match change.what {
        What::Cell(unit, _) | What::Unit(unit) | What::Gate(_, Some(unit), _) => Some(unit),
        _ => None,
    };
    if let Some(unit) = unit.filter(|unit| *unit >= hidden) {
        return refuse(format!(
            "unit {unit} is not in layer {}: it has {hidden}, the first of which is 0",
            change.layer
        ));
    }
    match change.what {
        What::Cell(_, value) if !value.is_finite() || value.abs() > 1e6 => {
            return refuse(format!("a cell cannot be held at {value}; give a number from −1000000 to 1000000"));
        }
        What::Gate(Gate::I, ..) if config.lstm.variant.exponential => {
            return refuse(
                "the input gate of an exponential cell has no value to be held at, for it is weighed against all before; hold f, g or o"
                    .to_owned(),
            );
        }
        What::Gate(gate, _, value) => {
            let range = if gate == Gate::G { -1.0..=1.0 } else { 0.0..=1.0 };
            if !range.contains(&value) {
                return refuse(format!(
                    "a gate cannot be held at {value}; i, f and o are from 0 to 1, g is from −1 to 1"
                ));
            }
        }
        _ => {}
    }
    match change.span {
        Some((from, to)) if from == 0 || from > to || to > tokens => refuse(format!(
            "tokens {from} to {to} are no part of the text, which has {tokens}, the first of which is 1"
        )),
        _ => Ok(()),
    }
}

/// Reads the text with and without the changes.
///
/// # Errors
/// A layer, a unit or a span that is not there.
pub fn effect(run: &LoadedRun, ids: &[u32], changes: &[Change]) -> Result<Effect, TrainError> {
    changes.iter().try_for_each(|change| check(run, ids.len(), change))?;
    let mut effect = Effect {
        without: Reading { nats: Vec::new(), best: Vec::new() },
        with: Reading { nats: Vec::new(), best: Vec::new() },
        divergence: Vec::new(),
    };
    // Which changes hold while token `number` is read; the start is number 0, and goes with the first token.
    let held = |number: usize| -> Vec<usize> {
        let at = number.max(1);
        (0..changes.len()).filter(|n| changes[*n].span.is_none_or(|(from, to)| (from..=to).contains(&at))).collect()
    };
    let changed = |held: &[usize]| -> Params {
        let mut changed = Changed { run, params: run.params.clone() };
        held.iter().for_each(|n| changed.make(changes[*n].layer - 1, changes[*n].what));
        changed.params
    };
    // Every set of changes that holds somewhere, with its parameters.
    let mut sets: Vec<Vec<usize>> = (0..=ids.len()).map(held).collect();
    sets.sort_unstable();
    sets.dedup();
    let params: Vec<Params> = sets.iter().map(|held| changed(held)).collect();
    let mut streams = params.iter().map(|params| run.model.stream(params, 1)).collect::<Result<Vec<_>, _>>()?;
    let mut plain = run.model.stream(&run.params, 1)?;
    for part in parts(run, ids) {
        plain.streams_mut().reset(0);
        let mut state = run.model.state(1);
        let batch = row(start(run), &ids[part.clone()]);
        let mut last: Option<usize> = None;
        for (step, &token) in batch.tokens.iter().enumerate() {
            let holds = held(part.start + step);
            let Ok(now) = sets.binary_search(&holds) else { continue };
            if last != Some(now) {
                if let Some(last) = last {
                    streams[last].streams().state(&mut state);
                }
                hold_cells(run, changes, &holds, &mut state);
                streams[now].streams_mut().set_state(&state);
                last = Some(now);
            }
            let [before, after] = [Scores::of(plain.step(&[token])), Scores::of(streams[now].step(&[token]))];
            effect.divergence.push(before.divergence(&after));
            let target = ids[part.clone()].get(step);
            for (scores, reading) in [(&before, &mut effect.without), (&after, &mut effect.with)] {
                reading.nats.extend(target.map(|target| scores.nats(*target)));
                reading.best.push(scores.best(BEST).into_iter().map(|(id, p)| (run.tokenizer.text(id), p)).collect());
            }
        }
    }
    Ok(effect)
}

/// Sets the cells that are held.
fn hold_cells(run: &LoadedRun, changes: &[Change], holds: &[usize], state: &mut State) {
    let config = run.model.config();
    for change in holds.iter().map(|n| &changes[*n]) {
        if let What::Cell(unit, value) = change.what {
            let before: usize = (0..change.layer - 1).map(|layer| config.lstm.cell_state(layer)).sum();
            state.c[before + unit] = value;
        }
    }
}

impl Scores<'_> {
    /// The Kullback–Leibler divergence of other scores from these, in nats.
    fn divergence(&self, other: &Self) -> f32 {
        let pairs = self.logits.iter().zip(other.logits);
        let sum: f64 = pairs
            .map(|(a, b)| {
                let (a, b) = (f64::from(*a) - self.total, f64::from(*b) - other.total);
                a.exp() * (a - b)
            })
            .sum();
        sum.max(0.0) as f32
    }
}

/// A unit and what its loss costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ablated {
    /// The layer, from 1.
    pub layer: usize,
    /// The unit, from 0.
    pub unit: usize,
    /// The text's perplexity without it.
    pub perplexity: f64,
    /// The rise of the loss, in nats a token.
    pub cost: f64,
}

/// Switches off every unit in turn; gives them by what that costs, the dearest first.
///
/// # Errors
/// A model that cannot be read token by token.
pub fn ablate_all(run: &LoadedRun, ids: &[u32]) -> Result<Vec<Ablated>, TrainError> {
    let config = run.model.config();
    let batches: Vec<_> = parts(run, ids).into_iter().map(|part| row(start(run), &ids[part])).collect();
    let mut tape = run.model.tape();
    let mut loss = |params: &Params| {
        let mut loss = Loss::default();
        let mut state = run.model.state(1);
        batches.iter().for_each(|batch| loss.add(run.model.evaluate(params, batch, &mut state, &mut tape, None)));
        loss
    };
    let whole = loss(&run.params).mean();
    let mut ablated = Vec::new();
    let mut changed = Changed { run, params: run.params.clone() };
    for layer in 0..config.lstm.layers {
        for unit in 0..config.lstm.hidden.of(layer) {
            changed.make(layer, What::Unit(unit));
            let without = loss(&changed.params);
            let cost = without.mean() - whole;
            ablated.push(Ablated { layer: layer + 1, unit, perplexity: without.perplexity(), cost });
            changed.params.values_mut().copy_from_slice(run.params.values());
        }
    }
    ablated.sort_by(|a, b| b.cost.total_cmp(&a.cost));
    Ok(ablated)
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layer = self.layer;
        match self.what {
            What::Cell(unit, value) => write!(f, "cell {unit} of layer {layer} held at {value}")?,
            What::Unit(unit) => write!(f, "unit {unit} of layer {layer} switched off")?,
            What::Gate(gate, unit, value) => {
                let gate = format!("{gate:?}").to_lowercase();
                match unit {
                    Some(unit) => write!(f, "gate {gate} of unit {unit} of layer {layer} held at {value}")?,
                    None => write!(f, "gate {gate} of layer {layer} held at {value}")?,
                }
            }
            What::Layer => write!(f, "layer {layer} switched off")?,
        }
        match self.span {
            Some((from, to)) => write!(f, " from token {from} to {to}"),
            None => Ok(()),
        }
    }
}
