//! What is said of a sequence of numbers without its order in full: of each value its mean, deviation, extremes, ends, slope and
//! roughness, and the sequence's length.

use super::ridge::Row;

/// The statistics of each value.
const EACH: usize = 9;

/// The number of statistics of sequences of so many values a step.
pub fn statistics_len(features: usize) -> usize {
    1 + EACH * features
}

/// The statistics of a sequence `[T, F]`; values that are missing count nothing.
pub fn statistics(values: &[f32], features: usize) -> Vec<f64> {
    let mut all = vec![((values.len() / features.max(1)) as f64).ln_1p()];
    for feature in 0..features {
        let of: Vec<(f64, f64)> = (values.iter().skip(feature).step_by(features).enumerate())
            .filter(|(_, value)| !value.is_nan())
            .map(|(step, value)| (step as f64, f64::from(*value)))
            .collect();
        let count = of.len().max(1) as f64;
        let mean = of.iter().map(|(_, value)| value).sum::<f64>() / count;
        let middle = of.iter().map(|(step, _)| step).sum::<f64>() / count;
        let variance = of.iter().map(|(_, value)| (value - mean).powi(2)).sum::<f64>() / count;
        let over = of.iter().map(|(step, _)| (step - middle).powi(2)).sum::<f64>();
        let along = of.iter().map(|(step, value)| (step - middle) * (value - mean)).sum::<f64>();
        let changes = of.windows(2).map(|pair| (pair[1].1 - pair[0].1).abs()).sum::<f64>() / count;
        let least = of.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let most = of.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        let ends = [of.first(), of.last()].map(|end| end.map_or(0.0, |(_, value)| *value));
        let extremes = if of.is_empty() { [0.0; 2] } else { [least, most] };
        let slope = if over > 0.0 { along / over } else { 0.0 };
        all.extend([mean, variance.sqrt(), extremes[0], extremes[1], ends[0], ends[1], slope, changes, count]);
    }
    all
}

/// The statistics of sequences as rows of features, on the scale of those of `train`.
pub fn rows<'a>(train: &[Vec<f32>], others: &'a [Vec<f32>], features: usize) -> impl Iterator<Item = Row> + use<'a> {
    let known: Vec<Vec<f64>> = train.iter().map(|values| statistics(values, features)).collect();
    let count = known.len().max(1) as f64;
    let scales: Vec<(f64, f64)> = (0..statistics_len(features))
        .map(|at| {
            let mean = known.iter().map(|row| row[at]).sum::<f64>() / count;
            let variance = known.iter().map(|row| (row[at] - mean).powi(2)).sum::<f64>() / count;
            // What is the same everywhere says nothing.
            (mean, if variance.sqrt() > 1e-9 * mean.abs() { 1.0 / variance.sqrt() } else { 0.0 })
        })
        .collect();
    others.iter().map(move |values| {
        let scaled = statistics(values, features).into_iter().zip(&scales);
        scaled.zip(0..).map(|((value, (mean, scale)), at)| (at, ((value - mean) * scale) as f32)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_of_what_is_there() {
        let of = statistics(&[1.0, 7.0, f32::NAN, 7.0, 5.0, 7.0], 2);
        assert_eq!(of.len(), statistics_len(2));
        assert_eq!(of[1..10], [3.0, 2.0, 1.0, 5.0, 1.0, 5.0, 2.0, 2.0, 2.0]);
        assert_eq!(of[10..19], [7.0, 0.0, 7.0, 7.0, 7.0, 7.0, 0.0, 0.0, 3.0]);
        let train = [vec![1.0, 2.0], vec![3.0, 4.0]];
        let rows: Vec<Row> = rows(&train, &train, 1).collect();
        // The length and the slope are the same in both.
        assert_eq!((rows[0][0].1, rows[0][1].1, rows[1][1].1, rows[1][7].1), (0.0, -1.0, 1.0, 0.0));
        assert!(statistics(&[f32::NAN], 1).iter().all(|value| value.is_finite()));
    }
}
