//! A ridge regression: the minimum of `Σ (y − b − w·x)² + α |w|²` with α = 1, as scikit-learn's `Ridge` has it, by conjugate gradients.

/// A row of features: the places and values of those that are not zero, the places ascending.
pub type Row = Vec<(u32, f32)>;

/// A fitted regression of one number.
#[derive(Clone, Debug)]
pub struct Ridge {
    /// `[F]`.
    weights: Vec<f64>,
    bias: f64,
}

/// The most iterations, and the share of the first residual at which the minimum is found.
const ITERATIONS: usize = 500;
const TOLERANCE: f64 = 1e-9;

impl Ridge {
    /// The regression of numbers on rows of features below `features`.
    pub fn fit(rows: &[Row], numbers: &[f64], features: usize) -> Self {
        let mean = numbers.iter().sum::<f64>() / numbers.len().max(1) as f64;
        // w and, last, b, which is not drawn to zero. The residual of the normal equations at zero.
        let mut weights = vec![0.0; features + 1];
        let centred: Vec<f64> = numbers.iter().map(|number| number - mean).collect();
        let mut residual = back(rows, &centred, features);
        let mut direction = residual.clone();
        let mut size = dot(&residual, &residual);
        let enough = TOLERANCE * TOLERANCE * size;
        for _ in 0..ITERATIONS {
            if size <= enough {
                break;
            }
            let through: Vec<f64> = rows.iter().map(|row| apply(&direction, row)).collect();
            let mut image = back(rows, &through, features);
            image.iter_mut().zip(&direction[..features]).for_each(|(to, w)| *to += w);
            let step = size / dot(&direction, &image);
            weights.iter_mut().zip(&direction).for_each(|(to, d)| *to += step * d);
            residual.iter_mut().zip(&image).for_each(|(to, d)| *to -= step * d);
            let next = dot(&residual, &residual);
            direction.iter_mut().zip(&residual).for_each(|(to, r)| *to = r + next / size * *to);
            size = next;
        }
        let bias = weights.pop().unwrap_or(0.0) + mean;
        Self { weights, bias }
    }

    /// The number of a row.
    pub fn predict(&self, row: &Row) -> f64 {
        self.bias + row.iter().map(|(at, value)| self.weights[*at as usize] * f64::from(*value)).sum::<f64>()
    }
}

/// w·x + b.
fn apply(weights: &[f64], row: &Row) -> f64 {
    let of_row = row.iter().map(|(at, value)| weights[*at as usize] * f64::from(*value));
    of_row.sum::<f64>() + weights[weights.len() - 1]
}

/// Xᵀ r, and last Σ r.
fn back(rows: &[Row], values: &[f64], features: usize) -> Vec<f64> {
    let mut sums = vec![0.0; features + 1];
    for (row, value) in rows.iter().zip(values) {
        row.iter().for_each(|(at, x)| sums[*at as usize] += value * f64::from(*x));
        sums[features] += value;
    }
    sums
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_is_that_of_the_closed_form() {
        // Of x = 0, 1, 2 and y = x: Sxy / (Sxx + 1) = 2/3, and the means' difference 1/3.
        let rows: Vec<Row> = [0.0, 1.0, 2.0].map(|x| vec![(0, x)]).into();
        let ridge = Ridge::fit(&rows, &[10.0, 11.0, 12.0], 1);
        assert!((ridge.weights[0] - 2.0 / 3.0).abs() < 1e-9 && (ridge.bias - 10.0 - 1.0 / 3.0).abs() < 1e-9);
        // Of more features than rows the gradient vanishes all the same.
        let rows: Vec<Row> = vec![vec![(0, 1.0), (2, -2.0)], vec![(1, 3.0), (3, 0.5)], vec![(0, 2.0), (1, 1.0)]];
        let numbers = [1.0, -1.0, 4.0];
        let ridge = Ridge::fit(&rows, &numbers, 4);
        let errors: Vec<f64> = rows.iter().zip(numbers).map(|(row, y)| ridge.predict(row) - y).collect();
        let slopes = back(&rows, &errors, 4);
        assert!(slopes[4].abs() < 1e-6, "{slopes:?}");
        for (slope, weight) in slopes.iter().zip(&ridge.weights) {
            assert!((slope + weight).abs() < 1e-6, "{slopes:?} {:?}", ridge.weights);
        }
    }
}
