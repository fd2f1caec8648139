//! The learning rate over the run.

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
    /// The number of epochs that `decay` and `decay_after` are meant for: the run, however long, is mapped onto them.
    /// `None`: they count the run's own epochs.
    pub planned_epochs: Option<usize>,
}

impl Schedule {
    /// The rate in `epoch`, from 0, when `progress` of the whole run, in [0, 1), is done.
    pub fn rate(&self, epoch: usize, progress: f64) -> f32 {
        let epoch = match self.planned_epochs {
            // The small excess keeps the start of an epoch, a rounded quotient, from falling into the one before.
            Some(planned) => ((progress * planned as f64 + 1e-9) as usize).min(planned.saturating_sub(1)),
            None => epoch,
        };
        let decays = (epoch + 1).saturating_sub(self.decay_after.max(1));
        self.rate / self.decay.powi(decays.min(i32::MAX as usize) as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZAREMBA: Schedule = Schedule { rate: 1.0, decay: 2.0, decay_after: 4, planned_epochs: None };

    #[test]
    fn decays_from_the_epoch_after() {
        let rates: Vec<f32> = (0..7).map(|epoch| ZAREMBA.rate(epoch, 0.0)).collect();
        assert_eq!(rates, [1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.125]);
    }

    #[test]
    fn a_planned_schedule_is_stretched_over_the_run() {
        let schedule = Schedule { planned_epochs: Some(7), ..ZAREMBA };
        let rates: Vec<f32> = (0..21).map(|epoch| schedule.rate(epoch, epoch as f64 / 21.0)).collect();
        for (epoch, rate) in rates.iter().enumerate() {
            assert_eq!(*rate, ZAREMBA.rate(epoch / 3, 0.0), "epoch {epoch}");
        }
        assert_eq!(schedule.rate(0, 1.0), 0.125);
    }
}
