//! A slow f64 reference of the whole stack, built from the gate-by-gate cell: forward only, nothing shared between
//! steps, one row at a time. Its gradients are finite differences.

use std::collections::BTreeMap;

use lstm::cell::variant::VariantCell;
use lstm::cell::{Cell, CellState, Stacked};
use lstm::nn::config::{LstmConfig, Readout, Wiring};

/// Every number the loss depends on, by name: the parameters under PyTorch's names, `input` `[T, B, I]`, `h_0`
/// `[L·D, B, R]` and `c_0` `[L·D, B, H]`. Also the gradients of all of these.
pub(crate) type Values = BTreeMap<String, Vec<f64>>;

/// The states that entered every step: `[L·D][n · B + row]`, n in the order of processing.
pub(crate) type Entered = Vec<Vec<CellState<f64>>>;

/// What a forward pass gives.
pub(crate) struct Outcome {
    /// `[T, B, output]`, zero where masked.
    pub(crate) output: Vec<f64>,
    /// Final hidden states `[L·D, B, R]`.
    pub(crate) h: Vec<f64>,
    /// Final cell states `[L·D, B, H]`.
    pub(crate) c: Vec<f64>,
    /// What the gradient horizon holds fixed.
    pub(crate) entered: Entered,
}

/// The shape of a computation.
pub(crate) struct Reference<'a> {
    pub(crate) config: &'a LstmConfig,
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) lengths: Option<&'a [usize]>,
}

/// Hidden states and output gates of one layer, `[T · B]` rows, directions joined, zero where masked.
struct Layer {
    hidden: Vec<Vec<f64>>,
    gate: Vec<Vec<f64>>,
}

impl Layer {
    fn readout(&self, readout: Readout) -> &[Vec<f64>] {
        match readout {
            Readout::Hidden => &self.hidden,
            Readout::OutputGate => &self.gate,
        }
    }
}

impl Reference<'_> {
    /// Runs the segment. A gradient horizon of k steps stops the gradient into every k-th step: with `held`, the
    /// states that enter those steps are constants, those of an unperturbed pass.
    pub(crate) fn forward(&self, values: &Values, held: Option<&Entered>) -> Outcome {
        let config = self.config;
        let directions = config.directions();
        let rows = self.steps * self.batch;
        let input: Vec<Vec<f64>> = values["input"].chunks_exact(config.input).map(<[f64]>::to_vec).collect();
        let mut below: Option<Layer> = None;
        let mut outcome = Outcome { output: Vec::new(), h: Vec::new(), c: Vec::new(), entered: Vec::new() };
        for layer in 0..config.layers {
            let x = match &below {
                None => input.clone(),
                Some(below) => self.join(values, layer - 1, &input, below),
            };
            let (recurrent, hidden) = (config.recurrent(layer), config.hidden.of(layer));
            // Where the states of this layer begin.
            let before =
                |size: &dyn Fn(usize) -> usize| (0..layer).map(|l| directions * self.batch * size(l)).sum::<usize>();
            let first_h = before(&|layer| config.recurrent(layer));
            let first_c = before(&|layer| config.cell_state(layer));
            let of_cell = config.cell_state(layer);
            let mut this = Layer { hidden: vec![Vec::new(); rows], gate: vec![Vec::new(); rows] };
            for direction in 0..directions {
                let index = layer * directions + direction;
                let cell = AnyCell::of(config, values, layer, direction);
                let mut states: Vec<CellState<f64>> = (0..self.batch)
                    .map(|row| CellState {
                        h: values["h_0"][first_h + (direction * self.batch + row) * recurrent..][..recurrent].to_vec(),
                        c: values["c_0"][first_c + (direction * self.batch + row) * of_cell..][..of_cell].to_vec(),
                    })
                    .collect();
                let mut entered = Vec::with_capacity(rows);
                for n in 0..self.steps {
                    let t = if direction == 0 { n } else { self.steps - 1 - n };
                    for (row, state) in states.iter_mut().enumerate() {
                        let cut = config.horizon.is_some_and(|horizon| n > 0 && n % horizon == 0);
                        let at = t * self.batch + row;
                        // A masked step is no step, so there is nothing to cut.
                        let masked = self.lengths.is_some_and(|lengths| t >= lengths[row]);
                        if let Some(held) = held.filter(|_| cut && !masked) {
                            state.clone_from(&held[index][n * self.batch + row]);
                        }
                        entered.push(state.clone());
                        if masked {
                            this.hidden[at].extend(vec![0.0; recurrent]);
                            this.gate[at].extend(vec![0.0; hidden]);
                            continue;
                        }
                        let (next, o) = cell.forward(&x[at], state);
                        this.hidden[at].extend(&next.h);
                        this.gate[at].extend(&o);
                        *state = next;
                    }
                }
                outcome.entered.push(entered);
                outcome.h.extend(states.iter().flat_map(|state| &state.h));
                outcome.c.extend(states.iter().flat_map(|state| &state.c));
            }
            if config.residual && layer > 0 {
                for (hidden, x) in this.hidden.iter_mut().zip(&x).filter(|(hidden, x)| hidden.len() == x.len()) {
                    hidden.iter_mut().zip(x).for_each(|(h, x)| *h += x);
                }
            }
            below = Some(this);
        }
        outcome.output = below.map(|last| last.readout(config.readout).concat()).unwrap_or_default();
        outcome
    }

    /// The input of layer `layer + 1`.
    fn join(&self, values: &Values, layer: usize, input: &[Vec<f64>], below: &Layer) -> Vec<Vec<f64>> {
        let join = |first: Vec<f64>, at: usize| [first, below.hidden[at].clone()].concat();
        match self.config.wiring {
            Wiring::Stacked => below.hidden.clone(),
            Wiring::Skip => (0..input.len()).map(|at| join(input[at].clone(), at)).collect(),
            Wiring::Scores => {
                let size = self.config.scores;
                let weight = &values[&format!("weight_score_l{layer}")];
                let bias = &values[&format!("bias_score_l{layer}")];
                let readout = below.readout(self.config.readout);
                let score = |at: usize, s: usize| {
                    let row: &Vec<f64> = &readout[at];
                    let products = weight[s * row.len()..].iter().zip(row).map(|(w, r)| w * r);
                    bias[s] + products.sum::<f64>()
                };
                (0..input.len()).map(|at| join((0..size).map(|s| score(at, s)).collect(), at)).collect()
            }
        }
    }
}

/// A layer's cell: the plain one, or one that differs, with what zoneout keeps in evaluation.
enum AnyCell {
    Plain(Box<Cell<f64>>),
    Variant(VariantCell<f64>, CellState<f64>),
}

impl AnyCell {
    fn of(config: &LstmConfig, values: &Values, layer: usize, direction: usize) -> Self {
        let suffix = if direction == 0 { "" } else { "_reverse" };
        let named = |name: &str| values[&format!("{name}_l{layer}{suffix}")].clone();
        let (input, hidden) = (config.layer_input(layer), config.hidden.of(layer));
        if !config.variant.is_plain() {
            let cell = VariantCell::from_stacked(input, hidden, config.projection, &config.variant, named);
            let [kept_h, kept_c] = [config.variant.zoneout.hidden, config.variant.zoneout.cell].map(f64::from);
            let kept =
                CellState { h: vec![kept_h; config.recurrent(layer)], c: vec![kept_c; config.cell_state(layer)] };
            return Self::Variant(cell, kept);
        }
        let stacked = Stacked {
            weight_ih: named("weight_ih"),
            weight_hh: named("weight_hh"),
            bias_ih: named("bias_ih"),
            bias_hh: named("bias_hh"),
            weight_hr: config.projection.map(|_| named("weight_hr")),
        };
        Self::Plain(Box::new(Cell::from_stacked(input, &stacked)))
    }

    /// The next state, and the output gate.
    fn forward(&self, x: &[f64], before: &CellState<f64>) -> (CellState<f64>, Vec<f64>) {
        match self {
            Self::Plain(cell) => {
                let (next, gates) = cell.forward(x, before);
                (next, gates.o)
            }
            Self::Variant(cell, kept) => {
                let (next, step) = cell.forward(x, before, kept);
                (next, step.gates.o)
            }
        }
    }
}
