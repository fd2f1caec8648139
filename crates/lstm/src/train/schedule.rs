//! The learning rate over the epochs.

use serde::{Deserialize, Serialize};

/// Zaremba's schedule (2014): a constant rate for `decay_after` epochs, then divided by `decay` every epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The rate at the start.
    pub rate: f32,
    /// What the rate is divided by each epoch; 1 keeps it constant.
    pub decay: f32,
    /// The number of epochs at the full rate.
    pub decay_after: usize,
}

impl Schedule {
    /// The rate of `epoch`, from 0.
    pub fn rate(&self, epoch: usize) -> f32 {
        let decays = (epoch + 1).saturating_sub(self.decay_after.max(1));
        self.rate / self.decay.powi(decays as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decays_from_the_epoch_after() {
        let schedule = Schedule { rate: 1.0, decay: 2.0, decay_after: 4 };
        let rates: Vec<f32> = (0..7).map(|epoch| schedule.rate(epoch)).collect();
        assert_eq!(rates, [1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.125]);
    }
}
