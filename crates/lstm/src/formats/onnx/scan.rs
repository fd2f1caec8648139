//! A layer that the operator LSTM cannot say, written out: the input product of all steps at once, but of a mogrified cell, then the
//! operator Scan over time, whose body is one step. The equations are those of [`crate::cell::variant`]; zoneout is its expectation, as in use.

use super::super::network::Stack;
use super::graph::{BATCH, Graph, Size, float, graph, int, ints, transposed};
use super::proto::data;
use crate::nn::config::Readout;

/// ε of layer normalisation.
const EPSILON: f32 = 1e-5;

/// Of an exponential cell the bounds of its sums and of its normaliser, as the kernels have them.
const LARGEST_SUM: f32 = 40.0;
const LEAST_NORMALISER: f32 = 1e-30;

/// One direction of one layer.
pub(super) struct Direction<'a> {
    pub(super) stack: &'a Stack,
    pub(super) layer: usize,
    /// What its parameters' names end with.
    pub(super) suffix: &'a str,
    /// What the names of its values end with.
    pub(super) name: String,
    pub(super) reverse: bool,
}

/// What a direction gives.
pub(super) struct Loop {
    /// The final states, [batch, R] and [batch, H].
    pub(super) h: String,
    pub(super) c: String,
    /// [time, batch, R].
    pub(super) hidden: String,
    /// The output gates [time, batch, H], where they are read.
    pub(super) gate: Option<String>,
}

impl Direction<'_> {
    fn array(&self, name: &str) -> &[f32] {
        self.stack.get(&format!("{name}_l{}{}", self.layer, self.suffix)).unwrap_or(&[])
    }

    /// A tensor of the graph that is named after this direction.
    fn tensor(&self, graph: &mut Graph, name: &str, shape: &[usize], values: &[f32]) -> String {
        graph.floats(&format!("{name}{}", self.name), shape, values)
    }

    /// A matrix `[rows, columns]` of the parameters as a product takes it, `[columns, rows]`.
    fn matrix(&self, graph: &mut Graph, name: &str, rows: usize) -> String {
        let values = self.array(name);
        let columns = values.len() / rows.max(1);
        self.tensor(graph, name, &[columns, rows], &transposed(values, rows, columns))
    }
}

/// Runs a direction over `x` [time, batch, I] from `states`, h and c.
pub(super) fn cell(outer: &mut Graph, direction: &Direction, x: &str, states: [String; 2]) -> Loop {
    let config = direction.stack.config();
    let variant = config.variant;
    let (hidden, recurrent) = (config.hidden.of(direction.layer), config.recurrent(direction.layer));
    let width = variant.gates() * hidden;
    let name = &direction.name;
    let norm = |graph: &mut Graph, [x, gain, bias]: [&str; 3], output: &str| {
        let attributes = vec![int("axis", -1), float("epsilon", EPSILON)];
        graph.node("LayerNormalization", &[x, gain, bias], output, attributes)
    };
    let input_weight = direction.matrix(outer, "weight_ih", width);
    let input_rest = match variant.layer_norm {
        true => vec![
            direction.tensor(outer, "gain_ih", &[width], direction.array("gain_ih")),
            direction.tensor(outer, "bias_ih", &[width], direction.array("bias_ih")),
        ],
        false => {
            let biases = direction.array("bias_ih").iter().zip(direction.array("bias_hh"));
            let both: Vec<f32> = biases.map(|(a, b)| a + b).collect();
            vec![direction.tensor(outer, "bias", &[width], &both)]
        }
    };
    // Of all steps, or inside of one.
    let input_sums = |graph: &mut Graph, x: &str, ending: &str| {
        let product = graph.node("MatMul", &[x, &input_weight], &format!("input_product{ending}"), vec![]);
        match &input_rest[..] {
            [gain, bias] => norm(graph, [&product, gain, bias], &format!("input_normalised{ending}")),
            rest => graph.node("Add", &[&product, &rest[0]], &format!("input_sums{ending}"), vec![]),
        }
    };
    let (scanned_input, entering_size) = match variant.mogrify {
        0 => (input_sums(outer, x, name), width),
        _ => (x.to_owned(), config.layer_input(direction.layer)),
    };

    // One step. The names of its values are its own: a body sees those outside, so they must not be there.
    let own = |value: &str| format!("{value}{name}_step");
    let mut step = Graph::default();
    let [h, c, mut s] = [("h", recurrent), ("c", config.cell_state(direction.layer)), ("sums", entering_size)]
        .map(|(value, size)| step.input(&own(value), data::FLOAT, &[BATCH, Size::Known(size)]));
    let mut h_read = h.clone();
    if variant.mogrify > 0 {
        let [x_read, gated] = mogrified(&mut step, outer, direction, [s, h_read]);
        (s, h_read) = (input_sums(&mut step, &x_read, &format!("{name}_step")), gated);
    }
    let recurring = direction.matrix(outer, "weight_hh", width);
    let mut from_h = step.node("MatMul", &[&h_read, &recurring], &own("recurrent_product"), vec![]);
    if variant.layer_norm {
        let gain = direction.tensor(outer, "gain_hh", &[width], direction.array("gain_hh"));
        let bias = direction.tensor(outer, "bias_hh", &[width], direction.array("bias_hh"));
        from_h = norm(&mut step, [&from_h, &gain, &bias], &own("recurrent_normalised"));
    }
    let all = step.node("Add", &[&s, &from_h], &own("all_sums"), vec![]);
    let sums: Vec<String> =
        ["i", "f", "g", "o"][4 - variant.gates()..].iter().map(|gate| own(&format!("sum_{gate}"))).collect();
    let outputs: Vec<&str> = sums.iter().map(String::as_str).collect();
    step.nodes_of("Split", &[&all], &outputs, vec![int("axis", -1), int("num_outputs", outputs.len() as i64)]);
    let [.., sum_f, sum_g, sum_o] = &sums[..] else { unreachable!("at least three gates") };
    let peepholes = direction.array("weight_peephole");
    // Of i, f, o, or of f, o.
    let peephole = |outer: &mut Graph, gate: &str| {
        let places = ["i", "f", "o"];
        let place = places[4 - variant.gates()..].iter().position(|name| *name == gate).unwrap_or(0);
        direction.tensor(outer, &format!("peephole_{gate}"), &[hidden], &peepholes[place * hidden..][..hidden])
    };
    let gate = |step: &mut Graph, outer: &mut Graph, gate: &str, sum: &str, cell: &str| {
        let mut sum = sum.to_owned();
        if variant.peepholes {
            let weight = peephole(outer, gate);
            let seen = step.node("Mul", &[cell, &weight], &own(&format!("seen_{gate}")), vec![]);
            sum = step.node("Add", &[&sum, &seen], &own(&format!("seeing_{gate}")), vec![]);
        }
        step.node("Sigmoid", &[&sum], &own(gate), vec![])
    };
    let f = gate(&mut step, outer, "f", sum_f, &c);
    let g = step.node("Tanh", &[sum_g], &own("g"), vec![]);
    let (mut new_c, normaliser) = if variant.exponential {
        let [before, n_before] = ["c_before", "n_before"].map(own);
        let halves = vec![int("axis", -1), int("num_outputs", 2)];
        step.nodes_of("Split", &[&c], &[&before, &n_before], halves);
        let [most, least] = [("most", LARGEST_SUM), ("least", LEAST_NORMALISER)]
            .map(|(name, value)| outer.floats(name, &[1], &[value]));
        let bounded = step.node("Min", &[&sums[0], &most], &own("sum_i_bounded"), vec![]);
        let i = step.node("Exp", &[&bounded], &own("i"), vec![]);
        let kept = step.node("Mul", &[&f, &n_before], &own("n_kept"), vec![]);
        let n = step.node("Add", &[&kept, &i], &own("n_sum"), vec![]);
        let n = step.node("Max", &[&n, &least], &own("n_new"), vec![]);
        let share = step.node("Div", &[&i, &n], &own("share"), vec![]);
        let away = step.node("Sub", &[&g, &before], &own("away"), vec![]);
        let moved = step.node("Mul", &[&share, &away], &own("moved"), vec![]);
        (step.node("Add", &[&before, &moved], &own("c_new"), vec![]), Some(n))
    } else {
        let i = match variant.coupled {
            true => {
                let one = outer.floats("one", &[1], &[1.0]);
                step.node("Sub", &[&one, &f], &own("i"), vec![])
            }
            false => gate(&mut step, outer, "i", &sums[0], &c),
        };
        let kept = step.node("Mul", &[&f, &c], &own("kept"), vec![]);
        let entering = step.node("Mul", &[&i, &g], &own("entering"), vec![]);
        (step.node("Add", &[&kept, &entering], &own("c_new"), vec![]), None)
    };
    let o = gate(&mut step, outer, "o", sum_o, &new_c);
    let mut read = new_c.clone();
    if variant.layer_norm {
        let gain = direction.tensor(outer, "gain_cell", &[hidden], direction.array("gain_cell"));
        let bias = direction.tensor(outer, "bias_cell", &[hidden], direction.array("bias_cell"));
        read = norm(&mut step, [&new_c, &gain, &bias], &own("c_normalised"));
    }
    if !variant.exponential {
        read = step.node("Tanh", &[&read], &own("c_read"), vec![]);
    }
    if let Some(n) = normaliser {
        new_c = step.node("Concat", &[&new_c, &n], &own("state_new"), vec![int("axis", -1)]);
    }
    let mut new_h = step.node("Mul", &[&o, &read], &own("h_new"), vec![]);
    if let Some(size) = config.projection {
        let weight = direction.matrix(outer, "weight_hr", size);
        new_h = step.node("MatMul", &[&new_h, &weight], &own("h_projected"), vec![]);
    }
    let mut blend = |step: &mut Graph, rate: f32, before: &str, new: &str, output: &str| {
        if rate == 0.0 {
            return step.node("Identity", &[new], output, vec![]);
        }
        let [keeps, takes] = [rate, 1.0 - rate].map(|rate| outer.floats(&format!("rate_{rate}"), &[1], &[rate]));
        let before = step.node("Mul", &[before, &keeps], &format!("{output}_before"), vec![]);
        let new = step.node("Mul", &[new, &takes], &format!("{output}_after"), vec![]);
        step.node("Add", &[&before, &new], output, vec![])
    };
    let h_out = blend(&mut step, variant.zoneout.hidden, &h, &new_h, &own("h_out"));
    let c_out = blend(&mut step, variant.zoneout.cell, &c, &new_c, &own("c_out"));
    let given = step.node("Identity", &[&h_out], &own("given"), vec![]);
    step.output(&h_out, &[BATCH, Size::Known(recurrent)]);
    step.output(&c_out, &[BATCH, Size::Known(config.cell_state(direction.layer))]);
    step.output(&given, &[BATCH, Size::Known(recurrent)]);
    let reads_gate = config.readout == Readout::OutputGate;
    if reads_gate {
        step.output(&o, &[BATCH, Size::Known(hidden)]);
    }

    let [h_last, c_last, all_hidden, all_gates] =
        ["h_last", "c_last", "given", "gates"].map(|value| format!("{value}{name}"));
    let scanned = if reads_gate { 2 } else { 1 };
    let turn = i64::from(direction.reverse);
    let attributes = vec![
        graph("body", step.into_proto(&format!("step{name}"))),
        int("num_scan_inputs", 1),
        ints("scan_input_directions", &[turn]),
        ints("scan_output_directions", &vec![turn; scanned]),
    ];
    let outputs = [&h_last[..], &c_last, &all_hidden, &all_gates];
    outer.nodes_of("Scan", &[&states[0], &states[1], &scanned_input], &outputs[..2 + scanned], attributes);
    let gate = reads_gate.then_some(all_gates);
    Loop { h: h_last, c: c_last, hidden: all_hidden, gate }
}

/// The rounds of a mogrified cell inside of its `step`: from the input and the hidden state to those that its gates read.
fn mogrified(step: &mut Graph, outer: &mut Graph, direction: &Direction, mut pair: [String; 2]) -> [String; 2] {
    let config = direction.stack.config();
    let variant = config.variant;
    let sizes = [config.layer_input(direction.layer), config.recurrent(direction.layer)];
    let two = outer.floats("two", &[1], &[2.0]);
    for round in 0..variant.mogrify {
        let (changed, read) = (round % 2, 1 - round % 2);
        let kind = ["weight_mogrify_input", "weight_mogrify_hidden"][changed];
        let own = |value: &str| format!("{value}_{round}{}_step", direction.name);
        let mut product = |step: &mut Graph, value: &str, kind: &str, rows: usize, columns: usize, output: &str| {
            let values = &direction.array(kind)[round / 2 * rows * columns..][..rows * columns];
            let name = format!("{kind}_{}", round / 2);
            let weight = direction.tensor(outer, &name, &[columns, rows], &transposed(values, rows, columns));
            step.node("MatMul", &[value, &weight], &own(output), vec![])
        };
        let mut inner = pair[read].clone();
        if let Some(rank) = variant.mogrify_rank {
            inner = product(step, &inner, &format!("{kind}_right"), rank, sizes[read], "mogrify_inner");
        }
        let columns = variant.mogrify_rank.unwrap_or(sizes[read]);
        let sum = product(step, &inner, kind, sizes[changed], columns, "mogrify_sum");
        let half = step.node("Sigmoid", &[&sum], &own("mogrify_half"), vec![]);
        let gate = step.node("Mul", &[&half, &two], &own("mogrify_gate"), vec![]);
        pair[changed] = step.node("Mul", &[&gate, &pair[changed]], &own("mogrified"), vec![]);
    }
    pair
}
