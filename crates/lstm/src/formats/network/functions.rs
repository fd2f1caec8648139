//! Cells with other activations than sigmoid and tanh, or with sums that are cut off, as the operator LSTM of ONNX may have them.
//!
//! No model of this library trains such a cell, and no kernel computes it: it is run gate by gate in double precision, slowly, so
//! that a network of another program gives its numbers here. The equations are the standard's, with σ, τ and η for the three
//! functions of a direction, P for the peepholes and |·|ᵦ for what the clip β cuts off:
//!
//! ```text
//! i = σ(|W_i x + R_i h + b_i + P_i ∘ c|ᵦ)      f = σ(|W_f x + R_f h + b_f + P_f ∘ c|ᵦ), or 1 − i
//! g = τ(|W_g x + R_g h + b_g|ᵦ)                c' = f ∘ c + i ∘ g
//! o = σ(|W_o x + R_o h + b_o + P_o ∘ c'|ᵦ)     h' = o ∘ η(c')
//! ```
//!
//! The standard says that the input of activations is cut off, which would be that of η as well; ONNX Runtime cuts off the four
//! sums alone, and so does this.

use std::fmt;

use super::{NetworkError, Stack};
use crate::nn::config::{CellOptions, LstmConfig};
use crate::nn::segment::Segment;
use crate::nn::state::State;

/// A function of one number, by the standard's name. α and β are its attributes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// max(x, 0).
    Relu,
    /// x / (1 + |x|).
    Softsign,
    /// ln(1 + eˣ).
    Softplus,
    /// α x + β.
    Affine {
        /// α.
        alpha: f32,
        /// β.
        beta: f32,
    },
    /// x where x ≥ 0, else α x.
    LeakyRelu {
        /// α.
        alpha: f32,
    },
    /// x where x ≥ α, else 0.
    ThresholdedRelu {
        /// α.
        alpha: f32,
    },
    /// α tanh(β x).
    ScaledTanh {
        /// α.
        alpha: f32,
        /// β.
        beta: f32,
    },
    /// α x + β within 0 and 1.
    HardSigmoid {
        /// α.
        alpha: f32,
        /// β.
        beta: f32,
    },
    /// x where x ≥ 0, else α (eˣ − 1).
    Elu {
        /// α.
        alpha: f32,
    },
}

/// What the cells of one layer compute where those of every LSTM here have sigmoid, tanh and tanh.
#[derive(Clone, Debug, PartialEq)]
pub struct CellFunctions {
    /// Of each direction: that of the gates i, f and o, that of the candidate, that of the cell where it is read.
    pub of: Vec<[Function; 3]>,
    /// Above what size, up and down, the sums that enter the gates and the candidate are cut off.
    pub clip: Option<f32>,
    /// Whether f is 1 − i, and its own parameters are not used.
    pub input_forget: bool,
}

impl Function {
    /// Those of every LSTM here: of the gates, of the candidate, of the cell.
    pub const PLAIN: [Self; 3] = [Self::Sigmoid, Self::Tanh, Self::Tanh];

    /// The standard's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::Relu => "Relu",
            Self::Softsign => "Softsign",
            Self::Softplus => "Softplus",
            Self::Affine { .. } => "Affine",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::ThresholdedRelu { .. } => "ThresholdedRelu",
            Self::ScaledTanh { .. } => "ScaledTanh",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::Elu { .. } => "Elu",
        }
    }

    /// α and β, of the functions that have them.
    pub fn attributes(self) -> (Option<f32>, Option<f32>) {
        match self {
            Self::Sigmoid | Self::Tanh | Self::Relu | Self::Softsign | Self::Softplus => (None, None),
            Self::LeakyRelu { alpha } | Self::ThresholdedRelu { alpha } | Self::Elu { alpha } => (Some(alpha), None),
            Self::Affine { alpha, beta } | Self::ScaledTanh { alpha, beta } | Self::HardSigmoid { alpha, beta } => {
                (Some(alpha), Some(beta))
            }
        }
    }

    /// Its value at `x`; of what is no number, none.
    pub fn at(self, x: f64) -> f64 {
        match self {
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Softsign => x / (1.0 + x.abs()),
            // ln(1 + eˣ) without an overflow of eˣ.
            Self::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Self::Affine { alpha, beta } => f64::from(alpha) * x + f64::from(beta),
            Self::LeakyRelu { alpha } => {
                if x >= 0.0 {
                    x
                } else {
                    f64::from(alpha) * x
                }
            }
            Self::ThresholdedRelu { alpha } => {
                if x < f64::from(alpha) {
                    0.0
                } else {
                    x
                }
            }
            Self::ScaledTanh { alpha, beta } => f64::from(alpha) * (f64::from(beta) * x).tanh(),
            Self::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
            Self::Elu { alpha } => {
                if x >= 0.0 {
                    x
                } else {
                    f64::from(alpha) * x.exp_m1()
                }
            }
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.attributes() {
            (Some(alpha), Some(beta)) => write!(f, "({alpha}, {beta})"),
            (Some(alpha), None) => write!(f, "({alpha})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for CellFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = Vec::new();
        if self.of.iter().any(|own| *own != Function::PLAIN) {
            let names = self.of.iter().flatten().map(Function::to_string).collect::<Vec<_>>();
            all.push(format!("the activations {}", names.join(", ")));
        }
        all.extend(self.clip.map(|clip| format!("sums cut off at {clip}")));
        if self.input_forget {
            all.push("a forget gate of 1 − i".to_owned());
        }
        f.write_str(&all.join(", "))
    }
}

impl Stack {
    /// Refuses functions of a stack that is more than one layer of plain cells, or peepholes, in the directions they are for.
    pub(super) fn check_functions(&self) -> Result<(), NetworkError> {
        let Some(functions) = &self.functions else { return Ok(()) };
        let config = self.config();
        let of_cell = CellOptions { peepholes: config.variant.peepholes, ..CellOptions::default() };
        let plain = LstmConfig {
            bidirectional: config.bidirectional,
            variant: of_cell,
            horizon: config.horizon,
            ..LstmConfig::new(config.input, config.hidden.of(0))
        };
        if *config != plain || functions.of.len() != config.directions() {
            let why = "activations of their own are those of one plain layer, three for each of its directions";
            return Err(NetworkError::Unfit(why.to_owned()));
        }
        if functions.clip.is_some_and(|clip| clip.is_nan() || clip <= 0.0) {
            return Err(NetworkError::Unfit("sums are cut off at a size above 0".to_owned()));
        }
        Ok(())
    }

    /// Refuses cells with functions of their own, for what computes those of every LSTM here. what: what it is that has none.
    pub(crate) fn refuse_functions(&self, what: &str) -> Result<(), NetworkError> {
        match &self.functions {
            Some(functions) => Err(NetworkError::Unfit(format!(
                "its cells have {functions}; {what} has Sigmoid, Tanh, Tanh, and sums that are not cut off"
            ))),
            None => Ok(()),
        }
    }
}

/// Runs the one layer of a stack, gate by gate. x: `[T, B, I]`; state: in the initial, out the final; gives `[T, B, D·H]`, zero
/// past a row's length.
pub(super) fn forward(
    stack: &Stack,
    functions: &CellFunctions,
    x: &[f32],
    segment: Segment,
    state: &mut State,
) -> Vec<f32> {
    let config = stack.config();
    let (directions, hidden, input) = (config.directions(), config.hidden.of(0), config.input);
    let Segment { steps, batch, lengths, .. } = segment;
    let mut given = vec![0.0; steps * batch * directions * hidden];
    for (direction, own) in functions.of.iter().enumerate() {
        let suffix = if direction == 1 { "_reverse" } else { "" };
        let array = |name: &str| stack.get(&format!("{name}_l0{suffix}")).unwrap_or(&[]);
        let cell = Cell {
            hidden,
            weight_ih: array("weight_ih"),
            weight_hh: array("weight_hh"),
            bias_ih: array("bias_ih"),
            bias_hh: array("bias_hh"),
            peephole: array("weight_peephole"),
            own: *own,
            functions,
        };
        let (of_h, of_c) = state.both_mut(direction);
        for row in 0..batch {
            let places = row * hidden..(row + 1) * hidden;
            let mut h: Vec<f64> = of_h[places.clone()].iter().copied().map(f64::from).collect();
            let mut c: Vec<f64> = of_c[places.clone()].iter().copied().map(f64::from).collect();
            let length = lengths.map_or(steps, |lengths| lengths[row]);
            for number in 0..length {
                let step = if direction == 1 { length - 1 - number } else { number };
                let place = step * batch + row;
                cell.step(&x[place * input..][..input], &mut h, &mut c);
                let out = &mut given[(place * directions + direction) * hidden..][..hidden];
                out.iter_mut().zip(&h).for_each(|(out, h)| *out = *h as f32);
            }
            of_h[places.clone()].iter_mut().zip(&h).for_each(|(to, from)| *to = *from as f32);
            of_c[places].iter_mut().zip(&c).for_each(|(to, from)| *to = *from as f32);
        }
    }
    given
}

/// One direction of a layer: gates in the order i, f, g, o, peepholes i, f, o or none.
struct Cell<'a> {
    hidden: usize,
    /// `[4H, I]`.
    weight_ih: &'a [f32],
    /// `[4H, H]`.
    weight_hh: &'a [f32],
    bias_ih: &'a [f32],
    bias_hh: &'a [f32],
    peephole: &'a [f32],
    own: [Function; 3],
    functions: &'a CellFunctions,
}

impl Cell<'_> {
    /// x: `[I]`; h and c, `[H]`, become those after the step.
    fn step(&self, x: &[f32], h: &mut [f64], c: &mut [f64]) {
        let [of_gates, of_candidate, of_cell] = self.own;
        let sums: Vec<f64> = (0..4 * self.hidden)
            .map(|row| {
                let of_x = self.weight_ih[row * x.len()..][..x.len()].iter().zip(x);
                let of_h = self.weight_hh[row * h.len()..][..h.len()].iter().zip(&*h);
                let x: f64 = of_x.map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                let h: f64 = of_h.map(|(w, h)| f64::from(*w) * h).sum();
                x + h + f64::from(self.bias_ih[row]) + f64::from(self.bias_hh[row])
            })
            .collect();
        let sum = |gate: usize, unit: usize| sums[gate * self.hidden + unit];
        let seen = |gate: usize, unit: usize, cell: f64| match self.peephole {
            [] => 0.0,
            all => f64::from(all[gate * self.hidden + unit]) * cell,
        };
        // What is no number stays none.
        let cut = |sum: f64| match self.functions.clip.map(f64::from) {
            Some(clip) if sum > clip => clip,
            Some(clip) if sum < -clip => -clip,
            _ => sum,
        };
        for unit in 0..self.hidden {
            let i = of_gates.at(cut(sum(0, unit) + seen(0, unit, c[unit])));
            let f = match self.functions.input_forget {
                true => 1.0 - i,
                false => of_gates.at(cut(sum(1, unit) + seen(1, unit, c[unit]))),
            };
            let g = of_candidate.at(cut(sum(2, unit)));
            c[unit] = f * c[unit] + i * g;
            let o = of_gates.at(cut(sum(3, unit) + seen(2, unit, c[unit])));
            h[unit] = o * of_cell.at(c[unit]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values worked out by hand, left and right of where each function bends.
    #[test]
    fn every_function_has_its_values() {
        let (alpha, beta) = (0.5, 0.25);
        let e = std::f64::consts::E;
        for (function, left, right) in [
            (Function::Sigmoid, 1.0 / (1.0 + e), e / (1.0 + e)),
            (Function::Tanh, -0.7615941559557649, 0.7615941559557649),
            (Function::Relu, 0.0, 1.0),
            (Function::Softsign, -0.5, 0.5),
            (Function::Softplus, (1.0 + 1.0 / e).ln(), (1.0 + e).ln()),
            (Function::Affine { alpha, beta }, -0.25, 0.75),
            (Function::LeakyRelu { alpha }, -0.5, 1.0),
            (Function::ThresholdedRelu { alpha }, 0.0, 1.0),
            (Function::ScaledTanh { alpha, beta }, -0.12245933120185457, 0.12245933120185457),
            (Function::HardSigmoid { alpha, beta }, 0.0, 0.75),
            (Function::Elu { alpha }, 0.5 * (1.0 / e - 1.0), 1.0),
        ] {
            for (x, expected) in [(-1.0, left), (1.0, right)] {
                assert!((function.at(x) - expected).abs() < 1e-15, "{function} at {x}: {}", function.at(x));
            }
        }
        assert_eq!(Function::ThresholdedRelu { alpha }.at(0.5), 0.5, "the standard has x ≥ α");
        assert_eq!(Function::Softplus.at(1000.0), 1000.0);
        assert_eq!(Function::HardSigmoid { alpha, beta }.at(9.0), 1.0);
        let all = [Function::Relu, Function::ThresholdedRelu { alpha }, Function::HardSigmoid { alpha, beta }];
        assert!(all.iter().all(|function| function.at(f64::NAN).is_nan()));
    }
}
