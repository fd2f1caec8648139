//! The gates while a run trains: how they are distributed, how many stand open or shut, and how long units remember.
//!
//! They are measured now and then, on the batch that is next and with copies of the states, so that no bit of the run depends on it.
//! A gate that is nearly always above 0.9 or below 0.1 is one that learned to be a switch (Karpathy et al. 2015); one that never leaves
//! where it was initialised learned nothing.

use serde::{Deserialize, Serialize};

use crate::model::LanguageModel;
use crate::nn::config::CellOptions;
use crate::nn::params::Params;
use crate::nn::state::State;
use crate::text::batch::Batch;

/// The bins of a distribution: of i, f and o a tenth each of [0, 1], of g a tenth each of [−1, 1].
pub const BINS: usize = 10;

/// The distribution of one gate over all tokens and units: the share of its values in each bin. The first of i, f, o is shut,
/// the last open.
pub type Distribution = [f64; BINS];

/// The gates of one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerGates {
    /// The input gate.
    pub i: Distribution,
    /// The forget gate.
    pub f: Distribution,
    /// The candidate, which adds to the cell.
    pub g: Distribution,
    /// The output gate.
    pub o: Distribution,
    /// For how many tokens units remember, −1/ln of their mean forget gate: the tenth, the half and the nine tenths of the units below
    /// which it lies.
    pub memory: [f64; 3],
}

/// Whether gates are measured before the step after so many: often in the beginning, then every hundred steps, and of long runs at
/// numbers of two digits and zeros. A measurement takes a third of a step, so this is below half a percent of the time.
pub(crate) fn is_due(step: u64) -> bool {
    const FIRST: [u64; 7] = [0, 1, 2, 5, 10, 20, 50];
    let spacing = 10_u64.pow(step.max(1).ilog10().saturating_sub(1)).max(100);
    FIRST.contains(&step) || step > 0 && step.is_multiple_of(spacing)
}

/// The memory in tokens of a unit whose mean forget gate is `forget`: what it holds falls to 1/e in so many steps. At most ten million.
pub fn memory(forget: f64) -> f64 {
    const MOST: f64 = 1e7;
    match forget {
        f if f <= 0.0 => 0.0,
        f if f >= 1.0 => MOST,
        f => (-1.0 / f.ln()).min(MOST),
    }
}

/// The gates of every layer of a language model on a batch that is read from `state`.
pub(crate) fn measure(model: &LanguageModel, params: &Params, batch: &Batch, state: &State) -> Vec<LayerGates> {
    let mut tape = model.tape();
    model.read(params, batch, &mut state.clone(), &mut tape);
    let config = &model.config().lstm;
    // A masked step has no gates.
    let is_read = |row: usize| {
        let (step, column) = (row / batch.batch, row % batch.batch);
        batch.lengths.as_ref().is_none_or(|lengths| step < lengths[column])
    };
    let of_layer = |layer| {
        let gates = tape.lstm().gates(layer, 0);
        LayerGates::of(gates, config.hidden.of(layer), config.variant, is_read)
    };
    (0..config.layers).map(of_layer).collect()
}

impl LayerGates {
    /// From the activated gates `[rows, K·H]` of a layer whose cells differ by `variant`; of the rows for which `is_read`.
    fn of(gates: &[f32], hidden: usize, variant: CellOptions, is_read: impl Fn(usize) -> bool) -> Self {
        let width = variant.gates() * hidden;
        let mut counts = [[0_u32; BINS]; 4];
        let (mut forget, mut rows) = (vec![0.0_f64; hidden], 0);
        for (_, row) in gates.chunks_exact(width).enumerate().filter(|(row, _)| is_read(*row)) {
            rows += 1;
            let (g, o) = row[width - 2 * hidden..].split_at(hidden);
            for unit in 0..hidden {
                let [i, f] = variant.shares(row, unit);
                for (counts, value) in counts.iter_mut().zip([i, f, (g[unit] + 1.0) / 2.0, o[unit]]) {
                    counts[((value * BINS as f32) as usize).min(BINS - 1)] += 1;
                }
                forget[unit] += f64::from(f);
            }
        }
        let all = (rows * hidden).max(1) as f64;
        // Four digits, so that the metrics stay small.
        let [i, f, g, o] = counts.map(|counts| counts.map(|count| (1e4 * f64::from(count) / all).round() / 1e4));
        let mut remembered: Vec<f64> = forget.iter().map(|sum| memory(sum / f64::from(rows.max(1) as u32))).collect();
        remembered.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = ((remembered.len() as f64 - 1.0) * share).round() as usize;
            remembered.get(place).map_or(0.0, |tokens| (100.0 * tokens).round() / 100.0)
        };
        Self { i, f, g, o, memory: [at(0.1), at(0.5), at(0.9)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_counted_where_they_stand_and_memory_is_that_of_the_forget_gate() {
        // One unit, two rows that are read and one that is not: i shut, f 0.9 on average, g −1 and 1, o open.
        let gates = [0.01, 0.85, -1.0, 0.99, 0.09, 0.95, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5];
        let plain = CellOptions::default();
        let found = LayerGates::of(&gates, 1, plain, |row| row < 2);
        let only = |at: usize| std::array::from_fn(|bin| f64::from(u8::from(bin == at)));
        assert_eq!((found.i, found.o), (only(0), only(9)));
        assert_eq!(found.g, std::array::from_fn(|bin| if bin == 0 || bin == 9 { 0.5 } else { 0.0 }));
        assert!(found.memory.iter().all(|tokens| (tokens - (-1.0 / 0.9_f64.ln())).abs() < 0.01));
        // Coupled gates have no i of their own.
        let coupled = CellOptions { coupled: true, ..plain };
        let coupled = LayerGates::of(&[0.05, 0.0, 0.5], 1, coupled, |_| true);
        assert_eq!((coupled.i, coupled.f), (only(9), only(0)));
        // What stays of an exponential cell is what is not new.
        let exponential = CellOptions { exponential: true, ..plain };
        let exponential = LayerGates::of(&[0.05, 0.5, 0.0, 0.5], 1, exponential, |_| true);
        assert_eq!((exponential.i, exponential.f), (only(0), only(9)));
        assert_eq!([memory(0.0), memory(1.0)], [0.0, 1e7]);
    }

    #[test]
    fn measurements_become_rarer() {
        let due = |range: std::ops::Range<u64>| range.filter(|step| is_due(*step)).count();
        assert_eq!([due(0..100), due(100..1_000), due(1_000..10_000), due(10_000..100_000)], [7, 9, 90, 90]);
    }
}
