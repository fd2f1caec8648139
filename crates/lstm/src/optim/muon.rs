//! Muon (Jordan 2024): a matrix is changed by its momentum made orthogonal, so that a step is as long in every direction that the gradient
//! has at all, not long in the few that outweigh the rest.
//!
//! With the momentum m, kept by μ, of the gradient g, Nesterov's way:
//!
//! ```text
//! m ← μ m + (1 − μ) g      u = (1 − μ) g + μ m      X = u / ‖u‖
//! five times  X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X      with a, b, c = 3.4445, −4.7750, 2.0315
//! W ← (1 − η λ) W − η 0.2 √max(rows, columns) X
//! ```
//!
//! Each turn (Newton & Schulz's, by a quintic) maps the singular values of X one by one, and five bring all but the smallest to within 0.7
//! and 1.2: X is about U Vᵀ. The factor before X (Liu et al. 2025, arXiv 2502.16982) gives a change the root mean square of one of Adam, 0.2,
//! whatever the shape: so a learning rate of Adam is one of Muon, and both train one model at one rate. The first choice, √max(1, rows/columns),
//! leaves it to the shape.
//!
//! PyTorch lays the gates' weights one under another, `[4H, I]`; they are four matrices, which meet nowhere but in the cell. Each is made
//! orthogonal by itself: as one, a gate whose gradient is small would get a small part of the step.

use std::ops::Range;

use lstm_kernels::{Aligned, Matrix, MatrixMut, Start, product, sum_of_squares};
use serde::{Deserialize, Serialize};

use crate::nn::config::{ConfigError, rate, within};
use crate::nn::params::Layout;
use crate::optim::optimizer::Change;

/// a, b and c.
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// The turns of the quintic.
const TURNS: usize = 5;

/// Added to ‖u‖.
const EPSILON: f64 = 1e-7;

/// The root mean square of a change at a rate of one.
const ROOT_MEAN_SQUARE: f32 = 0.2;

/// The settings of Muon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MuonSettings {
    /// The learning rate of the matrices at the height of the schedule, which they follow as all else does; `None` for that of the rest.
    pub rate: Option<f32>,
    /// μ, the share of the momentum that every step keeps.
    pub momentum: f32,
}

impl Default for MuonSettings {
    /// The rate of the rest, and the paper's momentum.
    fn default() -> Self {
        Self { rate: None, momentum: 0.95 }
    }
}

impl MuonSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// A sentence naming the setting.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        rate("muon-momentum", self.momentum)?;
        self.rate.map_or(Ok(()), |rate| within("muon-rate", rate, 1e-8..=1e3, "a rate from 0.00000001 to 1000"))
    }
}

/// A matrix of the flat buffer, `[rows, columns]`.
#[derive(Clone, Copy, Debug)]
struct Block {
    start: usize,
    rows: usize,
    columns: usize,
}

impl Block {
    fn range(self) -> Range<usize> {
        self.start..self.start + self.rows * self.columns
    }
}

/// The matrices of a model that Muon changes, and what it works with.
#[derive(Clone, Debug)]
pub(super) struct Muon {
    momentum: f32,
    /// How many times the learning rate theirs is.
    share: f32,
    blocks: Vec<Block>,
    /// Where the rest of the parameters lies, in order.
    rest: Vec<Range<usize>>,
    work: Work,
}

/// The matrices of a layout.
fn blocks(layout: &Layout) -> Vec<Block> {
    let mut blocks = Vec::new();
    for entry in layout.entries().iter().filter(|entry| entry.matrices > 0) {
        let range = entry.slot.range();
        let columns = entry.shape.last().copied().unwrap_or(1).max(1);
        let rows = range.len() / columns / entry.matrices;
        let starts = range.step_by((rows * columns).max(1));
        blocks.extend(starts.map(|start| Block { start, rows, columns }));
    }
    blocks
}

/// The multiply-adds by which a step makes the matrices of a layout orthogonal.
pub(crate) fn multiplications(layout: &Layout) -> f64 {
    let of = |Block { rows, columns, .. }: Block| {
        let (short, long) = (rows.min(columns) as f64, rows.max(columns) as f64);
        TURNS as f64 * short * short * (2.0 * long + short)
    };
    blocks(layout).into_iter().map(of).sum()
}

/// Scratch, sized by the largest matrix.
#[derive(Clone, Debug, Default)]
struct Work {
    x: Aligned,
    next: Aligned,
    /// X Xᵀ, or Xᵀ X where that is smaller, and the polynomial of it.
    gram: Aligned,
    polynomial: Aligned,
}

impl Muon {
    /// The matrices of a layout. `height`: the learning rate that `settings.rate` stands beside.
    pub(super) fn of(layout: &Layout, settings: MuonSettings, height: f32) -> Self {
        let blocks = blocks(layout);
        let (mut rest, mut end) = (Vec::new(), 0);
        let end_of_all = layout.len()..layout.len();
        for block in blocks.iter().map(|block| block.range()).chain(std::iter::once(end_of_all)) {
            if end < block.start {
                rest.push(end..block.start);
            }
            end = block.end;
        }
        let share = settings.rate.map_or(1.0, |rate| rate / height);
        Self { momentum: settings.momentum, share, blocks, rest, work: Work::default() }
    }

    /// The parameters that it does not change.
    pub(super) fn rest(&self) -> &[Range<usize>] {
        &self.rest
    }

    /// Changes the matrices that lie in `part`. All are as long as the parameters.
    pub(super) fn step(
        &mut self,
        params: &mut [f32],
        gradient: &[f32],
        momentum: &mut [f32],
        part: &Range<usize>,
        step: Change,
    ) {
        let (kept, rate) = (self.momentum, step.rate * self.share);
        let inside = |block: &&Block| part.start <= block.start && block.range().end <= part.end;
        for block in self.blocks.iter().filter(inside) {
            let (range, len) = (block.range(), block.rows * block.columns);
            let work = &mut self.work;
            work.x.resize(len);
            let (gradient, momentum) = (&gradient[range.clone()], &mut momentum[range.clone()]);
            for ((x, momentum), gradient) in work.x.iter_mut().zip(momentum).zip(gradient) {
                let new = (1.0 - kept) * (step.scale * gradient);
                *momentum = kept * *momentum + new;
                *x = kept * *momentum + new;
            }
            work.orthogonalise(block.rows, block.columns);
            let keep = 1.0 - rate * step.weight_decay;
            let length = rate * ROOT_MEAN_SQUARE * (block.rows.max(block.columns) as f32).sqrt();
            let params = params[range].iter_mut();
            params.zip(work.x.iter()).for_each(|(value, x)| *value = keep * *value - length * x);
        }
    }
}

impl Work {
    /// Makes `x: [rows, columns]` orthogonal: its rows, or its columns where they are fewer.
    fn orthogonalise(&mut self, rows: usize, columns: usize) {
        let Self { x, next, gram, polynomial } = self;
        let len = x.len();
        let norm = sum_of_squares(x, std::slice::from_ref(&(0..len))).sqrt();
        let inverse = (1.0 / (norm + EPSILON)) as f32;
        x.iter_mut().for_each(|x| *x *= inverse);
        let is_wide = rows <= columns;
        let side = rows.min(columns);
        next.resize(len);
        [&mut *gram, &mut *polynomial].into_iter().for_each(|square| square.resize(side * side));
        let [a, b, c] = QUINTIC;
        for _ in 0..TURNS {
            let all = Matrix::new(x, rows, columns);
            let (left, right) = if is_wide { (all, all.transposed()) } else { (all.transposed(), all) };
            product(MatrixMut::new(gram, side, side), Start::Zero, left, right);
            let square = Matrix::new(gram, side, side);
            product(MatrixMut::new(polynomial, side, side), Start::Zero, square, square);
            // a I + b G + c G².
            polynomial.iter_mut().zip(gram.iter()).for_each(|(sum, gram)| *sum = c * *sum + b * gram);
            polynomial.iter_mut().step_by(side + 1).for_each(|on_diagonal| *on_diagonal += a);
            let factor = Matrix::new(polynomial, side, side);
            let (left, right) = if is_wide { (factor, all) } else { (all, factor) };
            product(MatrixMut::new(next, rows, columns), Start::Zero, left, right);
            std::mem::swap(x, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::optimizer::{Optimizer, OptimizerKind};
    use crate::optim::parts::Share;
    use crate::rng::{Purpose, Rng};

    fn values(n: usize, number: u64) -> Vec<f32> {
        let mut rng = Rng::new(7, Purpose::Init, number);
        (0..n).map(|_| rng.uniform_in(-1.0, 1.0)).collect()
    }

    /// A table, weights of two gates, a bias, one matrix that is higher than wide.
    fn layout() -> Layout {
        let mut layout = Layout::default();
        layout.add("embedding.weight", &[5, 3]);
        layout.add_matrices("lstm.weight_ih_l0", &[14, 9], 2);
        layout.add("lstm.bias_ih_l0", &[14]);
        layout.add_matrices("lstm.weight_hr_l0", &[33, 7], 1);
        layout.add("readout.bias", &[5]);
        layout
    }

    /// The quintic of the paper in double precision, sum by sum, over a matrix that is no higher than wide.
    fn orthogonal(x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
        if rows > columns {
            let turned = |x: &[f64], rows: usize, columns: usize| -> Vec<f64> {
                (0..x.len()).map(|at| x[at % rows * columns + at / rows]).collect()
            };
            return turned(&orthogonal(&turned(x, rows, columns), columns, rows), columns, rows);
        }
        let multiply = |a: &[f64], b: &[f64], depth: usize, columns: usize| -> Vec<f64> {
            let rows = a.len() / depth;
            let sum = |at: usize| {
                (0..depth).map(|k| a[at / columns * depth + k] * b[k * columns + at % columns]).sum::<f64>()
            };
            (0..rows * columns).map(sum).collect()
        };
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let mut x: Vec<f64> = x.iter().map(|x| x / (norm + 1e-7)).collect();
        for _ in 0..5 {
            let transposed: Vec<f64> = (0..x.len()).map(|at| x[at % rows * columns + at / rows]).collect();
            let gram = multiply(&x, &transposed, columns, rows);
            let (once, twice) = (multiply(&gram, &x, rows, columns), multiply(&gram, &gram, rows, rows));
            let twice = multiply(&twice, &x, rows, columns);
            x = (0..x.len()).map(|at| 3.4445 * x[at] - 4.7750 * once[at] + 2.0315 * twice[at]).collect();
        }
        x
    }

    #[test]
    fn a_step_is_its_formula_and_has_the_same_bits_for_any_number_of_threads() {
        let layout = layout();
        let len = layout.len();
        let settings = MuonSettings { rate: Some(0.05), momentum: 0.8 };
        let run = |threads: usize| {
            let mut params = values(len, 0);
            let mut optimizer = Optimizer::new(OptimizerKind::Muon, 0.1, len).with_muon(&layout, settings, 0.1);
            lstm_kernels::with_threads(threads, || {
                for step in 1..=4 {
                    optimizer.step(&mut params, &values(len, step), 0.1, Some(2.0));
                }
            });
            (params, optimizer.first.to_vec(), optimizer.second.to_vec())
        };
        let got = run(1);
        assert!([2, 3].into_iter().all(|threads| run(threads) == got));
        let mut expected: Vec<f64> = values(len, 0).into_iter().map(f64::from).collect();
        let (mut momentum, mut rest) = (vec![0.0; len], Optimizer::new(OptimizerKind::AdamW, 0.1, len));
        let mut by_adam = values(len, 0);
        for step in 1..=4 {
            let gradient = values(len, step);
            let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            rest.step(&mut by_adam, &gradient, 0.1, Some(2.0));
            // Two gates of [7, 9], and [33, 7].
            for (start, rows, columns) in [(15, 7, 9), (15 + 63, 7, 9), (15 + 126 + 14, 33, 7)] {
                let range = start..start + rows * columns;
                let mut update = Vec::new();
                for at in range.clone() {
                    let g = f64::from(gradient[at]) * (2.0 / norm).min(1.0);
                    momentum[at] = 0.8 * momentum[at] + (1.0 - 0.8) * g;
                    update.push(0.8 * momentum[at] + (1.0 - 0.8) * g);
                }
                let length = 0.05 * 0.2 * (rows.max(columns) as f64).sqrt();
                for (at, x) in range.zip(orthogonal(&update, rows, columns)) {
                    expected[at] = expected[at] * (1.0 - 0.05 * 0.1) - length * x;
                }
            }
        }
        for (at, (&actual, &expected)) in got.0.iter().zip(&expected).enumerate() {
            let of_matrix = (15..141).contains(&at) || (155..386).contains(&at);
            if of_matrix {
                assert!((f64::from(actual) - expected).abs() < 1e-4, "{at}: {actual} and {expected}");
                assert!((f64::from(got.1[at]) - momentum[at]).abs() < 1e-5 && got.2[at] == 0.0);
            } else {
                assert_eq!(actual, by_adam[at], "{at}");
            }
        }
    }

    #[test]
    fn singular_values_come_to_about_one() {
        for (rows, columns) in [(1, 1), (7, 9), (33, 7), (129, 129), (1, 40)] {
            let mut work = Work { x: Aligned::from(&values(rows * columns, 3)[..]), ..Work::default() };
            work.orthogonalise(rows, columns);
            // The squares of singular values add up to that of the norm, and no row or column is longer than the largest.
            let mean = work.x.iter().map(|x| f64::from(x * x)).sum::<f64>() / rows.min(columns) as f64;
            assert!((0.4..1.45).contains(&mean), "[{rows}, {columns}]: {mean}");
            let longest = work.x.chunks_exact(columns).map(|row| row.iter().map(|x| x * x).sum::<f32>());
            assert!(longest.fold(0.0, f32::max) < 1.5, "[{rows}, {columns}]");
        }
    }

    #[test]
    fn what_is_frozen_stays_and_sgd_has_the_rest_where_it_is_asked() {
        let layout = layout();
        let len = layout.len();
        let (start, gradient) = (values(len, 0), values(len, 1));
        let shares =
            [(0..78, 0.0), (78..155, 1.0), (155..len, 0.5)].map(|(range, rate)| Share { range, rate, since: 0 });
        // The first share ends between the two gates of a weight: such a cut freezes neither.
        let of_kind = |kind, shares: &[Share]| {
            let (mut params, settings) = (start.clone(), MuonSettings { rate: Some(0.01), ..Default::default() });
            let mut optimizer = Optimizer::new(kind, 0.0, len).with_muon(&layout, settings, 1.0);
            optimizer.set_shares(shares.to_vec());
            optimizer.step(&mut params, &gradient, 1.0, None);
            params
        };
        let sgd = of_kind(OptimizerKind::MuonSgd, &[]);
        for at in (0..15).chain(141..155).chain(386..len) {
            assert!((sgd[at] - (start[at] - gradient[at])).abs() < 1e-6, "{at}");
        }
        assert!((15..141).all(|at| (sgd[at] - start[at]).abs() < 0.05) && sgd[15..141] != start[15..141]);
        let frozen = of_kind(OptimizerKind::MuonSgd, &shares);
        assert_eq!(frozen[..78], start[..78]);
        assert_eq!(frozen[78..155], sgd[78..155]);
        for at in 155..len {
            assert!((frozen[at] - (start[at] + sgd[at]) / 2.0).abs() < 1e-6, "{at}");
        }
    }
}
