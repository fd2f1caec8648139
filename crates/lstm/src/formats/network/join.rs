//! Stacks that a format has one by one, joined to the LSTM of several layers that they are.

use std::sync::Arc;

use super::{Network, NetworkError, Reads, Stack};
use crate::nn::config::{LstmConfig, Wiring};

impl Network {
    /// Joins neighbouring stacks that are one LSTM of more layers: forward, stacked, plain, without projection or with the
    /// same, in the same directions. Formats whose every layer is an operator of its own read into many.
    pub fn joined(mut self) -> Result<Self, NetworkError> {
        let mut joined: Vec<Stack> = Vec::new();
        for stack in self.stacks.drain(..) {
            match joined.last_mut() {
                Some(last) if follows(last, &stack) => *last = join(last, &stack)?,
                _ => joined.push(stack),
            }
        }
        self.stacks = joined;
        Ok(self)
    }

    /// As [`Network::joined`], of stacks of one layer each, of which some have their input added to what they give. adds: which.
    ///
    /// # Errors
    /// Residual connections that no LSTM here has, which has them at every layer after the first whose sizes agree.
    pub(in crate::formats) fn joined_with_residual(self, adds: &[bool]) -> Result<Self, NetworkError> {
        let mut joined = self.joined()?;
        if !adds.contains(&true) {
            return Ok(joined);
        }
        let unfit =
            |why: &str| Err(NetworkError::Unfit(format!("its residual connections are those of no LSTM here: {why}")));
        let [stack] = &mut joined.stacks[..] else {
            return unfit("the layers that they join differ in their directions, projections or cells");
        };
        let config = LstmConfig { residual: true, ..stack.config().clone() };
        for (layer, adds) in adds.iter().enumerate() {
            // To a final state nothing is added: it is what recurs.
            let is_read = layer + 1 < config.layers || joined.reads == Reads::Steps;
            if *adds != (is_read && config.adds_input(layer)) {
                return unfit(match (layer, adds) {
                    (0, _) => "its first layer's input is added, where it is that of every layer after the first",
                    (_, true) => "the input of the last layer is added, whose final state is read",
                    (_, false) => "the input of some layers is added, and of others whose sizes agree it is not",
                });
            }
        }
        *stack = Stack::new(config, |name, _| Ok(stack.get(name).unwrap_or(&[]).into()))?;
        Ok(joined)
    }
}

/// Whether two stacks are one.
fn follows(below: &Stack, above: &Stack) -> bool {
    let (a, b) = (below.config(), above.config());
    let stacked = |stack: &Stack| {
        let config = stack.config();
        !stack.reverse
            && stack.functions.is_none()
            && config.wiring == Wiring::Stacked
            && !config.residual
            && config.readout == Default::default()
    };
    stacked(below)
        && stacked(above)
        // Those of both would have to be put together.
        && below.initial.is_none()
        && above.initial.is_none()
        && a.variant == b.variant
        && a.bidirectional == b.bidirectional
        && a.projection == b.projection
        && below.lstm.output_size() == b.input
}

/// One stack of the layers of both.
fn join(below: &Stack, above: &Stack) -> Result<Stack, NetworkError> {
    let (a, b) = (below.config(), above.config());
    let hidden: Vec<usize> =
        (0..a.layers).map(|layer| a.hidden.of(layer)).chain((0..b.layers).map(|layer| b.hidden.of(layer))).collect();
    let mut config = a.clone();
    config.layers = a.layers + b.layers;
    config.hidden = match hidden.iter().all(|size| *size == hidden[0]) {
        true => hidden[0].into(),
        false => hidden.into(),
    };
    // The arrays come layer by layer, so those of both stacks in order are those of one.
    let all = [below, above].into_iter().flat_map(|stack| {
        let layout: Arc<_> = stack.lstm.layout().clone();
        let slots: Vec<_> = layout.entries().iter().map(|entry| entry.slot).collect();
        slots.into_iter().map(move |slot| stack.params.get(slot))
    });
    let mut all = all.collect::<Vec<_>>().into_iter();
    Stack::new(config, |_, _| Ok(all.next().unwrap_or(&[]).into()))
}
