//! The state that streaming carries from one segment to the next: hidden and cell states of every layer and direction.

use std::ops::Range;

use crate::nn::config::LstmConfig;

/// Hidden and cell states, as the model takes and returns them.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Hidden states `[L·D, B, R]`, layer by layer, forward direction first; R may be another for each layer.
    pub h: Vec<f32>,
    /// Cell states `[L·D, B, S]`, likewise; S is H, or 2H of exponential cells, whose normaliser lies beside each row's cell state.
    pub c: Vec<f32>,
    batch: usize,
    /// R and S of each layer and direction.
    sizes: Vec<(usize, usize)>,
}

impl State {
    /// The state before anything was read: zeros, for `batch` rows.
    pub fn zeros(config: &LstmConfig, batch: usize) -> Self {
        let layers = (0..config.layers).map(|layer| (config.recurrent(layer), config.cell_state(layer)));
        let sizes: Vec<(usize, usize)> = layers.flat_map(|sizes| vec![sizes; config.directions()]).collect();
        let h = batch * sizes.iter().map(|(h, _)| h).sum::<usize>();
        let c = batch * sizes.iter().map(|(_, c)| c).sum::<usize>();
        Self { h: vec![0.0; h], c: vec![0.0; c], batch, sizes }
    }

    /// No state, of what carries none.
    pub fn none() -> Self {
        Self { h: Vec::new(), c: Vec::new(), batch: 0, sizes: Vec::new() }
    }

    /// `batch` rows, each with the states of the first.
    pub(crate) fn for_rows(&self, batch: usize) -> Self {
        let (mut h, mut c) = (Vec::new(), Vec::new());
        for (index, (of_h, of_c)) in self.sizes.iter().enumerate() {
            let (row_h, row_c) = self.both(index);
            (0..batch).for_each(|_| h.extend_from_slice(&row_h[..*of_h]));
            (0..batch).for_each(|_| c.extend_from_slice(&row_c[..*of_c]));
        }
        Self { h, c, batch, sizes: self.sizes.clone() }
    }

    /// Some of its rows, as a state of their own.
    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        let (mut h, mut c) = (Vec::new(), Vec::new());
        for (index, (of_h, of_c)) in self.sizes.iter().enumerate() {
            let (all_h, all_c) = self.both(index);
            h.extend_from_slice(&all_h[rows.start * of_h..rows.end * of_h]);
            c.extend_from_slice(&all_c[rows.start * of_c..rows.end * of_c]);
        }
        Self { h, c, batch: rows.len(), sizes: self.sizes.clone() }
    }

    /// Takes back the rows from `first` on, which [`Self::part`] gave.
    pub(crate) fn set_part(&mut self, first: usize, part: &Self) {
        for index in 0..self.sizes.len() {
            let ((of_h, of_c), (part_h, part_c)) = (self.sizes[index], part.both(index));
            let (h, c) = self.both_mut(index);
            h[first * of_h..][..part_h.len()].copy_from_slice(part_h);
            c[first * of_c..][..part_c.len()].copy_from_slice(part_c);
        }
    }

    /// B, the number of rows.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Sets every state to zero.
    pub fn reset(&mut self) {
        self.h.fill(0.0);
        self.c.fill(0.0);
    }

    /// Sets the states of these rows to zero.
    pub(crate) fn reset_rows(&mut self, rows: &[usize]) {
        for index in 0..self.sizes.len() {
            let (of_h, of_c) = self.sizes[index];
            let (h, c) = self.both_mut(index);
            for &row in rows {
                h[row * of_h..][..of_h].fill(0.0);
                c[row * of_c..][..of_c].fill(0.0);
            }
        }
    }

    /// Gives every row the states of the row before it, and the first row zeros.
    pub(crate) fn hand_down(&mut self) {
        for index in 0..self.sizes.len() {
            let (of_h, of_c) = self.sizes[index];
            let (h, c) = self.both_mut(index);
            for (values, size) in [(h, of_h), (c, of_c)] {
                values.copy_within(..values.len() - size, size);
                values[..size].fill(0.0);
            }
        }
    }

    /// Both states of the `index`-th layer and direction: `[B, R]` and `[B, H]`.
    pub(crate) fn both(&self, index: usize) -> (&[f32], &[f32]) {
        let (h, c) = self.places(index);
        (&self.h[h], &self.c[c])
    }

    /// The same, to write.
    pub(crate) fn both_mut(&mut self, index: usize) -> (&mut [f32], &mut [f32]) {
        let (h, c) = self.places(index);
        (&mut self.h[h], &mut self.c[c])
    }

    /// Where both states of the `index`-th layer and direction lie.
    fn places(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let before = self.sizes[..index].iter().fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
        let (start, size, batch) = (before, self.sizes[index], self.batch);
        (start.0 * batch..(start.0 + size.0) * batch, start.1 * batch..(start.1 + size.1) * batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_different_sizes_lie_one_after_the_other() {
        let config = LstmConfig { layers: 2, ..LstmConfig::new(1, vec![2, 1]) };
        let mut state = State::zeros(&config, 3);
        state.h = (1..=9).map(|value| value as f32).collect();
        state.c = state.h.clone();
        assert_eq!(state.both_mut(0).0, [1., 2., 3., 4., 5., 6.]);
        assert_eq!(state.both_mut(1), (&mut [7., 8., 9.][..], &mut [7., 8., 9.][..]));
        state.hand_down();
        assert_eq!(state.h, [0., 0., 1., 2., 3., 4., 0., 7., 8.]);
        let part = state.part(1..3);
        assert_eq!((&part.h[..], part.batch()), (&[1., 2., 3., 4., 7., 8.][..], 2));
        let mut other = State::zeros(&config, 3);
        other.set_part(0, &part);
        assert_eq!(other.h, [1., 2., 3., 4., 0., 0., 7., 8., 0.]);
        state.reset_rows(&[1]);
        assert_eq!(state.h, [0., 0., 0., 0., 3., 4., 0., 0., 8.]);
        state.reset();
        assert_eq!(state, State::zeros(&config, 3));
    }
}
