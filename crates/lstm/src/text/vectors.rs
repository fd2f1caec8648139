//! Vectors of tokens from what stands beside them in a text: where an embedding starts that would start from random numbers.
//!
//! Tokens that keep the same company get similar vectors, as they have them in an embedding that was learned; to count the company takes
//! a second where to learn it takes most of a short run. M: `[V, 2V]` adds up 1/d for every place where a context stands d = 1 or 2 places
//! from token a: a token behind it, or one before it. With p(b) in proportion to (Σ_a M_ab)^0.75, the positive pointwise mutual information of
//! smoothed contexts (Levy, Goldberg & Dagan 2015) is
//!
//! ```text
//! X_ab = max(0, ln(M_ab / (Σ_b M_ab · p(b))))
//! ```
//!
//! and the vectors are the rows of W: `[V, k]` with W Wᵀ ≈ (X Xᵀ)^½: of the k largest singular values σ of X, their vectors times √σ, turned
//! in some way, which is nothing to a layer whose weights are random. Q is an orthonormal basis of what X Xᵀ makes of random vectors when it
//! is applied again and again (Halko, Martinsson & Tropp 2011), and
//!
//! ```text
//! B = Xᵀ Q      W = Q (Bᵀ B)^¼
//! ```
//!
//! Roots of a matrix are found by products alone, Newton & Schulz's coupled iteration (Higham 2008, eq. 6.35).

use std::ops::Range;

use lstm_kernels::{Aligned, Matrix, MatrixMut, Start, for_each_chunk, product, sum_of_squares};

use super::corpus::Ids;
use crate::rng::{Purpose, Rng};

/// How far company reaches.
const REACH: usize = 2;

/// The power that frequent contexts are smoothed by.
const SMOOTHING: f64 = 0.75;

/// How often X Xᵀ is applied before what it gives is taken for its largest directions.
const PASSES: usize = 2;

/// The turns of the coupled iteration: each brings a small value 2.25 times as near.
const TURNS: usize = 18;

/// What is added to the length of every direction, of that of the matrix: more than rounding takes from it.
const ROUNDING: f32 = 2e-6;

/// The most tokens whose company is counted, and the pieces from all over a longer text that they lie in.
const MOST: usize = 1 << 22;
const PIECE: usize = 1 << 10;

/// A matrix of which most values are zero, by rows: where each ends, columns and values.
struct Sparse {
    ends: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Sparse {
    /// X of a text.
    fn of(ids: &Ids, vocabulary: usize) -> Self {
        let places = Places::of(ids, vocabulary);
        let (mut of_tokens, mut of_contexts) = (vec![0.0_f64; vocabulary], vec![0.0_f64; 2 * vocabulary]);
        let (mut row, mut met) = (vec![0.0_f32; 2 * vocabulary], Vec::new());
        for (token, sum) in of_tokens.iter_mut().enumerate() {
            places.company(ids, token, &mut row, &mut met);
            for context in met.drain(..).map(|context: u32| context as usize) {
                let together = f64::from(std::mem::take(&mut row[context]));
                *sum += together;
                of_contexts[context] += together;
            }
        }
        of_contexts.iter_mut().for_each(|sum| *sum = sum.powf(SMOOTHING));
        let smoothed: f64 = of_contexts.iter().sum();
        let mut matrix = Self { ends: Vec::with_capacity(vocabulary), columns: Vec::new(), values: Vec::new() };
        for (token, sum) in of_tokens.iter().enumerate() {
            places.company(ids, token, &mut row, &mut met);
            met.sort_unstable();
            for context in met.drain(..) {
                let together = f64::from(std::mem::take(&mut row[context as usize]));
                let by_chance = sum * of_contexts[context as usize] / smoothed;
                if together > by_chance {
                    matrix.columns.push(context);
                    matrix.values.push((together / by_chance).ln() as f32);
                }
            }
            matrix.ends.push(matrix.columns.len());
        }
        matrix
    }

    /// Where a row lies.
    fn row(&self, row: usize) -> Range<usize> {
        if row == 0 { 0..self.ends[0] } else { self.ends[row - 1]..self.ends[row] }
    }

    /// Its transpose, with so many rows.
    fn transposed(&self, rows: usize) -> Self {
        let mut ends = vec![0; rows + 1];
        self.columns.iter().for_each(|&column| ends[column as usize + 1] += 1);
        (1..=rows).for_each(|row| ends[row] += ends[row - 1]);
        let (mut columns, mut values) = (vec![0; self.columns.len()], vec![0.0; self.values.len()]);
        for row in 0..self.ends.len() {
            for at in self.row(row) {
                let next = &mut ends[self.columns[at] as usize];
                (columns[*next], values[*next]) = (row as u32, self.values[at]);
                *next += 1;
            }
        }
        // What was where each row begins is now where it ends.
        ends.pop();
        Self { ends, columns, values }
    }

    /// This times `right`, which has rows of `width` values.
    fn times(&self, right: &[f32], width: usize) -> Aligned {
        let mut out = Aligned::zeros(self.ends.len() * width);
        for_each_chunk(&mut out, width, |row, out| {
            let of_row = self.row(row);
            for (&column, &value) in self.columns[of_row.clone()].iter().zip(&self.values[of_row]) {
                let right = &right[column as usize * width..][..width];
                out.iter_mut().zip(right).for_each(|(out, right)| *out += value * right);
            }
        });
        out
    }
}

/// Where each token stands in a text.
struct Places {
    ends: Vec<usize>,
    at: Vec<usize>,
}

impl Places {
    fn of(ids: &Ids, vocabulary: usize) -> Self {
        let apart = ids.len().div_ceil(MOST).max(1) * PIECE;
        let counted = || (0..ids.len()).step_by(apart).flat_map(|piece| piece..ids.len().min(piece + PIECE));
        let mut ends = vec![0; vocabulary + 1];
        counted().for_each(|place| ends[ids.get(place) as usize + 1] += 1);
        (1..=vocabulary).for_each(|token| ends[token] += ends[token - 1]);
        let mut at = vec![0; ends[vocabulary]];
        for place in counted() {
            let next = &mut ends[ids.get(place) as usize];
            at[*next] = place;
            *next += 1;
        }
        // What was where the places of each token begin is now where they end.
        ends.pop();
        Self { ends, at }
    }

    /// Adds up the company of a token in `row`: `[2V]`, of tokens behind it and before it, and notes in `met` which it has.
    fn company(&self, ids: &Ids, token: usize, row: &mut [f32], met: &mut Vec<u32>) {
        let vocabulary = self.ends.len();
        let start = if token == 0 { 0 } else { self.ends[token - 1] };
        for &place in &self.at[start..self.ends[token]] {
            for distance in 1..=REACH {
                let behind = (place + distance < ids.len()).then(|| ids.get(place + distance) as usize);
                let before = place.checked_sub(distance).map(|at| vocabulary + ids.get(at) as usize);
                for context in behind.into_iter().chain(before) {
                    if row[context] == 0.0 {
                        met.push(context as u32);
                    }
                    row[context] += 1.0 / distance as f32;
                }
            }
        }
    }
}

/// `basis`ᵀ · `basis`, which has rows of `width` values.
fn inner(basis: &[f32], width: usize) -> Aligned {
    let mut out = Aligned::zeros(width * width);
    let basis = Matrix::new(basis, basis.len() / width, width);
    product(MatrixMut::new(&mut out, width, width), Start::Zero, basis.transposed(), basis);
    out
}

/// `left: [n, width]` · `right: [width, width]`.
fn times(left: &[f32], right: &[f32], width: usize) -> Aligned {
    let rows = left.len() / width;
    let mut out = Aligned::zeros(left.len());
    let (left, right) = (Matrix::new(left, rows, width), Matrix::new(right, width, width));
    product(MatrixMut::new(&mut out, rows, width), Start::Zero, left, right);
    out
}

/// The square root of a symmetric matrix without negative values in any direction, and its inverse. Directions of next to no length keep
/// a small one in both.
fn roots(square: &[f32], width: usize) -> (Aligned, Aligned) {
    let squares = sum_of_squares(square, std::slice::from_ref(&(0..square.len())));
    // Of nothing it is nothing.
    let norm = if squares > 0.0 { squares.sqrt() } else { 1.0 };
    let mut root: Aligned = square.into();
    root.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
    // A direction that has no length but for rounding may have less than none, from which the iteration would flee.
    root.iter_mut().step_by(width + 1).for_each(|value| *value += ROUNDING);
    let mut inverse = Aligned::zeros(width * width);
    inverse.iter_mut().step_by(width + 1).for_each(|value| *value = 1.0);
    for _ in 0..TURNS {
        // ½ (3 I − Z Y).
        let mut step = times(&inverse, &root, width);
        step.iter_mut().for_each(|value| *value *= -0.5);
        step.iter_mut().step_by(width + 1).for_each(|value| *value += 1.5);
        (root, inverse) = (times(&root, &step, width), times(&step, &inverse, width));
    }
    let scale = norm.sqrt();
    root.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    inverse.iter_mut().for_each(|value| *value = (f64::from(*value) / scale) as f32);
    (root, inverse)
}

/// The vectors of a text's tokens: `[V, width]`, of a root mean square of one over those that have company; zeros for others.
///
/// `width`: at most V.
pub(crate) fn vectors(ids: &Ids, vocabulary: usize, width: usize, seed: u64) -> Aligned {
    let matrix = Sparse::of(ids, vocabulary);
    let transposed = matrix.transposed(2 * vocabulary);
    let mut rng = Rng::new(seed, Purpose::Init, u64::MAX);
    let mut basis = Aligned::zeros(vocabulary * width);
    basis.iter_mut().for_each(|value| *value = rng.normal());
    for _ in 0..PASSES {
        basis = matrix.times(&transposed.times(&basis, width), width);
        let (_, inverse) = roots(&inner(&basis, width), width);
        basis = times(&basis, &inverse, width);
    }
    let (root, _) = roots(&inner(&transposed.times(&basis, width), width), width);
    let (fourth, _) = roots(&root, width);
    let mut vectors = times(&basis, &fourth, width);
    let company = (0..vocabulary).filter(|&token| !matrix.row(token).is_empty()).count();
    let squares = sum_of_squares(&vectors, std::slice::from_ref(&(0..vectors.len())));
    let scale = ((company * width) as f64 / squares.max(f64::MIN_POSITIVE)).sqrt() as f32;
    vectors.iter_mut().for_each(|value| *value *= scale);
    vectors
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of which the next depends on the one before; the last of all occurs nowhere.
    fn text(vocabulary: u8) -> Ids {
        let mut rng = Rng::new(3, Purpose::BuiltinText, 0);
        let mut last = 0;
        let next = |_| {
            let step = if rng.uniform() < 0.7 {
                1 + u32::from(last % 3 == 0)
            } else {
                rng.below(usize::from(vocabulary)) as u32
            };
            last = (last + step) % u32::from(vocabulary - 1);
            last as u8
        };
        Ids::U8((0..2_000).map(next).collect())
    }

    /// X of its definition, sum by sum.
    fn information(ids: &Ids, vocabulary: usize) -> Vec<f64> {
        let contexts = 2 * vocabulary;
        let mut together = vec![0.0; vocabulary * contexts];
        for a in 0..ids.len() {
            for b in a + 1..ids.len().min(a + 3) {
                let (first, second) = (ids.get(a) as usize, ids.get(b) as usize);
                together[first * contexts + second] += 1.0 / (b - a) as f64;
                together[second * contexts + vocabulary + first] += 1.0 / (b - a) as f64;
            }
        }
        let of_context =
            |context: usize| (0..vocabulary).map(|token| together[token * contexts + context]).sum::<f64>().powf(0.75);
        let all: f64 = (0..contexts).map(of_context).sum();
        let of_token = |token: usize| together[token * contexts..][..contexts].iter().sum::<f64>();
        (0..vocabulary * contexts)
            .map(|at| together[at] / (of_token(at / contexts) * of_context(at % contexts) / all))
            .map(|ratio| if ratio > 1.0 { ratio.ln() } else { 0.0 })
            .collect()
    }

    #[test]
    fn as_many_vectors_as_tokens_are_the_root_of_what_tokens_say_of_one_another() {
        let vocabulary = 24;
        let ids = text(vocabulary as u8);
        let x = information(&ids, vocabulary);
        let w = vectors(&ids, vocabulary, vocabulary, 5);
        let gram = |of: &dyn Fn(usize, usize) -> f64, depth: usize| -> Vec<f64> {
            let sum = |at: usize| (0..depth).map(|k| of(at / vocabulary, k) * of(at % vocabulary, k)).sum::<f64>();
            (0..vocabulary * vocabulary).map(sum).collect()
        };
        let of_w = gram(&|row, k| f64::from(w[row * vocabulary + k]), vocabulary);
        // (W Wᵀ)² is X Xᵀ but for the scale.
        let squared = gram(&|row, k| of_w[row * vocabulary + k], vocabulary);
        let of_x = gram(&|row, k| x[row * 2 * vocabulary + k], 2 * vocabulary);
        let [own, others] = [&squared, &of_x].map(|square| square.iter().map(|v| v * v).sum::<f64>().sqrt());
        let apart = squared.iter().zip(&of_x).map(|(w, x)| (w / own - x / others).powi(2)).sum::<f64>().sqrt();
        assert!(apart < 1e-3, "{apart}");
        // The last token has no company; the others have a root mean square of one.
        let known = &w[..(vocabulary - 1) * vocabulary];
        assert!(w[known.len()..].iter().all(|&value| value == 0.0));
        let mean = known.iter().map(|v| f64::from(v * v)).sum::<f64>() / known.len() as f64;
        assert!((mean - 1.0).abs() < 1e-4, "{mean}");
    }

    #[test]
    fn texts_of_few_directions_have_finite_vectors() {
        let mut rng = Rng::new(4, Purpose::BuiltinText, 0);
        let texts = [
            vec![],
            vec![7],
            (0..400).map(|at| (at % 2) as u8).collect(),
            (0..400).map(|at| (at % 5) as u8).collect(),
            (0..50).map(|_| rng.below(40) as u8).collect(),
        ];
        for text in texts {
            let found = vectors(&Ids::U8(text.clone()), 40, 30, 5);
            assert!(found.iter().all(|value| value.is_finite() && value.abs() < 100.0), "{text:?}");
        }
    }

    #[test]
    fn fewer_dimensions_hold_the_most_of_it_with_the_same_bits_for_any_number_of_threads() {
        let (vocabulary, width) = (60, 16);
        let ids = text(vocabulary as u8);
        let few = vectors(&ids, vocabulary, width, 5);
        assert!(
            [1, 2, 3].into_iter().all(|n| lstm_kernels::with_threads(n, || vectors(&ids, vocabulary, width, 5)) == few)
        );
        // Beside as many dimensions of chance, tokens that follow one another by rule are told apart from others.
        let product = |a: usize, b: usize| -> f32 {
            few[a * width..][..width].iter().zip(&few[b * width..][..width]).map(|(a, b)| a * b).sum()
        };
        let own = (0..vocabulary - 1).map(|token| product(token, token)).sum::<f32>() / (vocabulary - 1) as f32;
        let apart = (0..vocabulary - 1).map(|token| product(token, (token + 20) % (vocabulary - 1)).abs()).sum::<f32>();
        assert!(own > 3.0 * apart / (vocabulary - 1) as f32, "{own} and {apart}");
    }
}
