//! Operators over the final states of LSTMs.

use super::axes::{Axis, Factor, reshape};
use super::flow::squeezed;
use super::fold::{self, axes_of, cuts, order_of, range, unsqueezed};
use super::follow::{Flow, Followed, Follower, Part, States, Value, as_constant, unknown};
use super::node::{Node, place};
use super::sizes::as_sizes;
use super::tensor::Tensor;

impl Follower<'_> {
    /// Final hidden states as what flows, if they are all of one LSTM.
    pub(super) fn as_flow(&mut self, states: &States) -> Option<Flow> {
        let (part, _) = *states.items.first()?;
        let Part::Lstm { stack, .. } = &self.parts[part] else { return None };
        let directions = stack.config().directions();
        let in_order = states.items.iter().enumerate().all(|(place, item)| *item == (part, place));
        if !states.hidden || !in_order || states.items.len() != directions {
            return None;
        }
        let turn = |factor: &Factor| match factor {
            Factor::States(count) => Factor::Directions(*count),
            other => *other,
        };
        let axes = states.axes.iter().map(|axis| axis.iter().map(turn).collect()).collect();
        self.parts.push(Part::Final { below: part });
        Some(Flow { part: self.parts.len() - 1, axes })
    }

    /// Operators over final states.
    pub(super) fn states(&mut self, node: &Node, states: &States, inputs: &[Option<Value>]) -> Followed {
        let constants: Vec<Option<&Tensor>> = inputs.iter().map(|value| as_constant(value.as_ref())).collect();
        let keep = |axes: Vec<Axis>| Ok(vec![Value::States(States { axes, ..states.clone() })]);
        let rank = states.axes.len();
        match node.operator() {
            "Identity" | "Cast" => keep(states.axes.clone()),
            "Transpose" => {
                let order = order_of(node, rank).ok_or("its perm is no order of the axes")?;
                keep(order.into_iter().map(|axis| states.axes[axis].clone()).collect())
            }
            "Squeeze" => keep(squeezed(node, &states.axes, &constants, &self.sizes)?),
            "Unsqueeze" => {
                let new = axes_of(node, &constants, 1).ok_or("its axes are no constants")?;
                keep(unsqueezed(&states.axes, &new, vec![]).ok_or("its axes do not fit")?)
            }
            "Reshape" => {
                let wanted = inputs.get(1).and_then(Option::as_ref).and_then(as_sizes);
                let (wanted, _) = wanted.ok_or("its sizes are not known before it runs")?;
                let axes = reshape(&states.axes, &wanted, node.int("allowzero") == Some(1), &self.sizes);
                keep(axes.ok_or("it mixes states of several rows")?)
            }
            "Slice" | "Gather" => {
                let is_gather = node.operator() == "Gather";
                let (axis, from, to, removes) = if is_gather {
                    let index = constants.get(1).copied().flatten().ok_or_else(unknown)?;
                    let Some([at]) = index.wholes() else { return Err(unknown()) };
                    (node.int("axis").unwrap_or(0), *at, *at, index.shape.is_empty())
                } else {
                    let cuts = cuts(node, &constants).ok_or_else(unknown)?;
                    let [fold::Cut { axis, start, end, step: 1 }] = cuts[..] else { return Err(unknown()) };
                    (axis, start, end, false)
                };
                let axis = place(axis, rank).ok_or("its axis is none")?;
                let count = states.items.len();
                if states.axes[axis] != [Factor::States(count)] {
                    return Err("it takes a part of a state".to_owned());
                }
                let chosen = match is_gather {
                    true => place(from, count).map(|at| at..at + 1).ok_or("it takes a state that is not there")?,
                    false => range(Some(from), Some(to), count),
                };
                let mut axes = states.axes.clone();
                axes[axis] = vec![Factor::States(chosen.len())];
                if removes {
                    axes.remove(axis);
                }
                let items = states.items[chosen].to_vec();
                Ok(vec![Value::States(States { items, axes, hidden: states.hidden })])
            }
            _ => {
                let flow =
                    self.as_flow(states).ok_or("it reads states that are not the final hidden ones of one LSTM")?;
                self.flow(node, &flow, inputs)
            }
        }
    }
}

/// States one after the other, or the directions of one side by side.
pub(super) fn concat_states(node: &Node, states: &[&States]) -> Result<Value, String> {
    let first = states.first().ok_or_else(unknown)?;
    let rank = first.axes.len();
    let axis = place(node.int("axis").unwrap_or(0), rank).ok_or("its axis is none")?;
    let items: Vec<(usize, usize)> = states.iter().flat_map(|states| states.items.iter().copied()).collect();
    let of_same = states.iter().all(|other| {
        other.hidden == first.hidden
            && other.axes.len() == rank
            && (0..rank).all(|place| place == axis || other.axes[place] == first.axes[place])
    });
    if !of_same {
        return Err("it joins states of several kinds".to_owned());
    }
    let mut axes = first.axes.clone();
    let stacked = states.iter().all(|own| own.axes[axis] == [Factor::States(own.items.len())]);
    // A vector of one direction each.
    let beside = states.iter().all(|own| own.items.len() == 1 && matches!(own.axes[axis][..], [Factor::Features(_)]));
    axes[axis] = match (stacked, beside, &first.axes[axis][..]) {
        (true, ..) => vec![Factor::States(items.len())],
        (_, true, [features]) => vec![Factor::States(items.len()), *features],
        _ => return Err("it joins states as no chain of layers does".to_owned()),
    };
    Ok(Value::States(States { hidden: first.hidden, items, axes }))
}
