//! The label of the nearest training sequence by dynamic time warping (Sakoe & Chiba 1978; Bagnall 2017), the classifier that others
//! are compared with.

/// Sequences with their labels, to find the nearest of.
#[derive(Clone, Debug)]
pub struct NearestNeighbour {
    /// Each `[T, F]`; not a number where missing.
    sequences: Vec<Vec<f32>>,
    labels: Vec<u32>,
    features: usize,
}

/// The most steps of one sequence that may be beside those of another, times values: some ten seconds.
const MOST_CELLS: f64 = 5e9;

impl NearestNeighbour {
    /// Of these sequences.
    pub fn new(sequences: Vec<Vec<f32>>, labels: Vec<u32>, features: usize) -> Self {
        Self { sequences, labels, features: features.max(1) }
    }

    /// The steps by which warping may move, of `others` to be labelled: all, or as many as there is time for.
    pub fn window(&self, others: &[Vec<f32>]) -> Option<usize> {
        let length = |sequences: &[Vec<f32>]| {
            let steps: usize = sequences.iter().map(Vec::len).sum();
            steps as f64 / self.features as f64
        };
        // Every step beside every other of each pair.
        let all = length(&self.sequences) * length(others) * self.features as f64;
        if all <= MOST_CELLS {
            return None;
        }
        let longest = self.sequences.iter().chain(others).map(Vec::len).max().unwrap_or(0) / self.features;
        Some((MOST_CELLS / all * longest as f64 / 2.0) as usize)
    }

    /// The label of the nearest, the first of equals. `window`: the most steps by which warping may move; none for any.
    pub fn label(&self, sequence: &[f32], window: Option<usize>) -> u32 {
        let (mut nearest, mut label) = (f32::INFINITY, self.labels.first().copied().unwrap_or(0));
        let mut rows = [Vec::new(), Vec::new()];
        for (other, of) in self.sequences.iter().zip(&self.labels) {
            let distance = distance([sequence, other], self.features, window, nearest, &mut rows);
            if distance < nearest {
                (nearest, label) = (distance, *of);
            }
        }
        label
    }
}

/// The least sum of squared differences of two sequences `[T, F]` over all ways to walk through both; infinite as soon as it cannot be
/// less than `most`. A value that one of them misses differs by nothing.
fn distance(pair: [&[f32]; 2], features: usize, window: Option<usize>, most: f32, rows: &mut [Vec<f32>; 2]) -> f32 {
    let [a, b] = pair;
    let (steps, others) = (a.len() / features, b.len() / features);
    let window = window.unwrap_or(usize::MAX).max(steps.abs_diff(others));
    let [before, row] = rows;
    before.clear();
    before.resize(others + 1, f32::INFINITY);
    before[0] = 0.0;
    for (i, x) in a.chunks_exact(features).enumerate() {
        row.clear();
        row.resize(others + 1, f32::INFINITY);
        let mut least = f32::INFINITY;
        let (from, to) = (i.saturating_sub(window), others.min(i.saturating_add(window).saturating_add(1)));
        for j in from..to {
            let y = &b[j * features..][..features];
            let differ = |(x, y): (&f32, &f32)| if (x - y).is_nan() { 0.0 } else { (x - y) * (x - y) };
            let cost: f32 = x.iter().zip(y).map(differ).sum();
            row[j + 1] = cost + before[j].min(before[j + 1]).min(row[j]);
            least = least.min(row[j + 1]);
        }
        if least >= most {
            return f32::INFINITY;
        }
        std::mem::swap(before, row);
    }
    before[others]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(a: &[f32], b: &[f32], features: usize, window: Option<usize>) -> f32 {
        distance([a, b], features, window, f32::INFINITY, &mut [Vec::new(), Vec::new()])
    }

    /// Against aeon 1.6: dtw_distance(a, b, window=None or 0).
    #[test]
    fn warping_is_that_of_the_definition() {
        // The same shape a step later costs nothing but at its ends.
        assert_eq!(between(&[0., 0., 1., 2., 1.], &[0., 1., 2., 1., 1.], 1, None), 0.0);
        assert_eq!(between(&[0., 0., 1., 2., 1.], &[0., 1., 2., 1., 1.], 1, Some(0)), 1.0 + 1.0 + 1.0);
        assert_eq!(between(&[1., 5.], &[1.], 1, None), 16.0);
        assert_eq!(between(&[0., 1., 2., 3.], &[0., 1., 2., 5.], 2, None), 4.0);
        assert_eq!(between(&[0., f32::NAN], &[0., 7.], 2, None), 0.0);
        // Given up as soon as it cannot be the nearest.
        assert_eq!(distance([&[0., 9.], &[5., 9.]], 1, None, 3.0, &mut [Vec::new(), Vec::new()]), f32::INFINITY);
        let of = NearestNeighbour::new(vec![vec![0., 1., 2.], vec![2., 1., 0.]], vec![4, 7], 1);
        assert_eq!((of.label(&[0., 0., 2., 2.], None), of.label(&[3., 0.], None)), (4, 7));
        assert_eq!(of.window(&[vec![0.0; 4]]), None);
    }
}
