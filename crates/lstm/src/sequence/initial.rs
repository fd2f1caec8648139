//! Initial states that are learned: what the layers know before the first step, the same for every sequence. Forward and backward.

use crate::nn::config::LstmConfig;
use crate::nn::params::{Layout, Params, Slot};
use crate::nn::state::State;

/// The initial states of every layer and direction, in the order in which a [`State`] has them.
#[derive(Clone, Debug)]
pub(crate) struct InitialStates {
    /// `initial.h_l0 [R]` and `initial.c_l0 [H]`, those of the other direction with `_reverse`, and so on.
    slots: Vec<[Slot; 2]>,
}

impl InitialStates {
    /// Adds its parameters to `layout`; they begin at zero.
    pub(crate) fn in_layout(config: &LstmConfig, layout: &mut Layout) -> Self {
        let mut slots = Vec::new();
        for layer in 0..config.layers {
            for suffix in ["", "_reverse"].into_iter().take(config.directions()) {
                let h = layout.add(format!("initial.h_l{layer}{suffix}"), &[config.recurrent(layer)]);
                let c = layout.add(format!("initial.c_l{layer}{suffix}"), &[config.cell_state(layer)]);
                slots.push([h, c]);
            }
        }
        Self { slots }
    }

    /// Gives every row of `state` the initial states.
    pub(crate) fn forward(&self, params: &Params, state: &mut State) {
        for (index, [h, c]) in self.slots.iter().enumerate() {
            let (of_h, of_c) = state.both_mut(index);
            for (rows, initial) in [(of_h, params.get(*h)), (of_c, params.get(*c))] {
                rows.chunks_exact_mut(initial.len()).for_each(|row| row.copy_from_slice(initial));
            }
        }
    }

    /// The gradient of the initial states of all rows → those of its parameters.
    pub(crate) fn backward(&self, d_initial: &State, gradients: &mut Params) {
        for (index, [h, c]) in self.slots.iter().enumerate() {
            let (of_h, of_c) = d_initial.both(index);
            for (rows, slot) in [(of_h, *h), (of_c, *c)] {
                let to = gradients.get_mut(slot);
                to.fill(0.0);
                for row in rows.chunks_exact(to.len()) {
                    to.iter_mut().zip(row).for_each(|(to, from)| *to += from);
                }
            }
        }
    }
}
