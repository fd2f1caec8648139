//! The learning rate over the run.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::named::{named, stored_as_text};
use crate::nn::config::{ConfigError, within};
use crate::said::{DIGITS, count, rounded};

/// How the rate changes over the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Not at all.
    Constant,
    /// Constant for some epochs, then divided every epoch (Zaremba 2014).
    #[default]
    Step,
    /// Down to zero in a straight line.
    Linear,
    /// Down to zero along half a cosine (Loshchilov & Hutter 2017).
    Cosine,
    /// Up from 1/25 of the rate over the first 30 % of the run, then down to almost nothing, both along half a cosine
    /// (Smith & Topin 2018, in PyTorch's form).
    OneCycle,
    /// Warm-up, stable, decay: all of it until the last fifth of the run, then down to zero by 1 − √x (Hu 2024; Hägele 2024).
    Wsd,
    /// Divided after every epoch whose validation is no better than the best before it (Mikolov 2010).
    Plateau,
}

named!(
    ScheduleKind, "schedule",
    "constant" => Constant, "step" => Step, "linear" => Linear, "cosine" => Cosine, "one-cycle" => OneCycle,
    "wsd" => Wsd, "plateau" => Plateau,
);

/// How long the rate rises, in a straight line from a hundredth of what the schedule says to all of it. Written as a
/// whole number of steps or a share of the run below 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warmup {
    /// So many steps; 0 for no warm-up.
    Steps(u64),
    /// Such a share of the run.
    Share(f64),
}

impl Default for Warmup {
    fn default() -> Self {
        Self::Steps(0)
    }
}

impl fmt::Display for Warmup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Share(share) => write!(f, "{share}"),
        }
    }
}

impl FromStr for Warmup {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        if let Ok(steps) = value.parse() {
            return Ok(Self::Steps(steps));
        }
        match value.parse() {
            Ok(0.0) => Ok(Self::Steps(0)),
            Ok(share) if (1e-6..1.0).contains(&share) => Ok(Self::Share(share)),
            _ => Err(ConfigError::Range { name: "warmup", value: value.to_owned(), expected: WARMUP }),
        }
    }
}

/// More steps than a run of days has.
const MOST_WARMUP: u64 = 1_000_000_000;

const WARMUP: &str =
    "a whole number of steps, such as 200, up to 1000000000, or a share of the run below 1, such as 0.05";

stored_as_text!(Warmup);

/// The learning rate over the run: how it changes, and the numbers it does so by. It is a function of where the run
/// stands, so nothing of it is carried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// How the rate changes.
    #[serde(default)]
    pub kind: ScheduleKind,
    /// The learning rate at the start; of `one-cycle` the highest.
    #[serde(alias = "rate")]
    pub learning_rate: f32,
    /// Of `step` and `plateau`: what the rate is divided by; 1 keeps it constant.
    pub decay: f32,
    /// Of `step`: the number of epochs at the full rate.
    pub decay_after: usize,
    /// Of `step`: the number of epochs that `decay` and `decay_after` are meant for: the run, however long, is mapped
    /// onto them. `None`: they count the run's own epochs.
    pub planned_epochs: Option<usize>,
    /// How long the rate rises at first.
    #[serde(default)]
    pub warmup: Warmup,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// The epoch, from 0.
    pub epoch: usize,
    /// The steps taken.
    pub step: u64,
    /// The share of the whole run that is done, in [0, 1], by its epochs, steps or seconds.
    pub done: f64,
    /// The epochs so far whose validation was no better than the best before it.
    pub plateaus: usize,
}

/// The share of what the schedule says that a warm-up starts from: the first step shall not be wasted.
const WARMUP_START: f64 = 0.01;

/// Of `one-cycle`: the share of the run in which the rate rises, what its start is of the highest rate, and what its end
/// is of its start.
const RISE: f64 = 0.3;
const CYCLE_START: f64 = 1.0 / 25.0;
const CYCLE_END: f64 = 1e-4;

/// Of `wsd`: the share of the run until which the rate is stable.
const STABLE: f64 = 0.8;

/// The points of a run whose mean stands for that of all of it.
const MEAN_OF: usize = 1_000;

impl Schedule {
    /// Zaremba's: `rate` for `decay_after` epochs, then divided by `decay` every epoch.
    pub fn step(learning_rate: f32, decay: f32, decay_after: usize) -> Self {
        let (kind, warmup) = (ScheduleKind::Step, Warmup::default());
        Self { kind, learning_rate, decay, decay_after, planned_epochs: None, warmup }
    }

    /// The rate at a moment of the run.
    pub fn learning_rate_at(&self, at: Moment) -> f32 {
        // From the first to the second of two shares of the rate, along half a cosine.
        let swing = |from: f64, to: f64, x: f64| to + (from - to) * (1.0 + (PI * x).cos()) / 2.0;
        let rate = match self.kind {
            ScheduleKind::Constant => self.learning_rate,
            ScheduleKind::Step => self.divided(self.decays(at)),
            ScheduleKind::Plateau => self.divided(at.plateaus),
            ScheduleKind::Linear => self.share(1.0 - at.done),
            ScheduleKind::Cosine => self.share(swing(1.0, 0.0, at.done)),
            ScheduleKind::OneCycle if at.done < RISE => self.share(swing(CYCLE_START, 1.0, at.done / RISE)),
            ScheduleKind::OneCycle => self.share(swing(1.0, CYCLE_START * CYCLE_END, (at.done - RISE) / (1.0 - RISE))),
            ScheduleKind::Wsd => self.share(1.0 - ((at.done - STABLE) / (1.0 - STABLE)).clamp(0.0, 1.0).sqrt()),
        };
        let warm = match self.warmup {
            Warmup::Steps(steps) if at.step < steps => at.step as f64 / steps as f64,
            Warmup::Share(share) if at.done < share => at.done / share,
            _ => return rate,
        };
        (f64::from(rate) * (WARMUP_START + (1.0 - WARMUP_START) * warm)) as f32
    }

    /// The mean rate over a run of so many epochs, without the warm-up, which is short, and of `plateau` without plateaus.
    pub(crate) fn mean_rate(&self, epochs: f64) -> f64 {
        let settled = Self { warmup: Warmup::default(), ..*self };
        let rate = |point: usize| {
            let done = (point as f64 + 0.5) / MEAN_OF as f64;
            let epoch = (done * epochs) as usize;
            f64::from(settled.learning_rate_at(Moment { epoch, done, ..Moment::default() }))
        };
        (0..MEAN_OF).map(rate).sum::<f64>() / MEAN_OF as f64
    }

    /// Whether the rate comes down to 0 where the run ends.
    pub(crate) fn ends_at_zero(&self) -> bool {
        matches!(self.kind, ScheduleKind::Linear | ScheduleKind::Cosine | ScheduleKind::OneCycle | ScheduleKind::Wsd)
    }

    /// Whether the rate depends on how long the run is.
    pub(crate) fn follows_length(&self) -> bool {
        let stretched = self.kind == ScheduleKind::Step && self.planned_epochs.is_some();
        self.ends_at_zero() || stretched || matches!(self.warmup, Warmup::Share(_))
    }

    fn share(&self, share: f64) -> f32 {
        (f64::from(self.learning_rate) * share) as f32
    }

    fn divided(&self, times: usize) -> f32 {
        self.learning_rate / self.decay.powi(times.min(i32::MAX as usize) as i32)
    }

    /// The divisions of `step` until then.
    fn decays(&self, at: Moment) -> usize {
        let epoch = match self.planned_epochs {
            // The small excess keeps the start of an epoch, a rounded quotient, from falling into the one before.
            Some(planned) => ((at.done * planned as f64 + 1e-9) as usize).min(planned.saturating_sub(1)),
            None => at.epoch,
        };
        (epoch + 1).saturating_sub(self.decay_after.max(1))
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// A sentence naming the setting.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        within("learning-rate", self.learning_rate, 1e-10..=1e4, "a number from 0.0000000001 to 10000")?;
        let expected = "what the learning rate is divided by, from 1 to 1000000 (2 to halve it)";
        within("decay", self.decay, 1.0..=1e6, expected)?;
        within("decay-after", self.decay_after, 1..=1_000_000, "a number of epochs from 1 to 1000000")?;
        if self.kind == ScheduleKind::Plateau && self.decay <= 1.0 {
            let expected = "above 1 for the schedule plateau, or the rate would never fall";
            return Err(ConfigError::Range { name: "decay", value: self.decay.to_string(), expected });
        }
        if self.kind == ScheduleKind::OneCycle && self.warmup != Warmup::default() {
            let why = "the schedule one-cycle rises by itself over the first 30 % of the run, so a warm-up contradicts \
                       it; leave `warmup` out, or choose the schedule cosine or linear";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        match self.warmup {
            Warmup::Steps(steps) if steps > MOST_WARMUP => {
                Err(ConfigError::Range { name: "warmup", value: steps.to_string(), expected: WARMUP })
            }
            Warmup::Share(share) if !(share > 0.0 && share < 1.0) => {
                Err(ConfigError::Range { name: "warmup", value: share.to_string(), expected: WARMUP })
            }
            _ => Ok(()),
        }
    }

    /// Refuses a warm-up that a run of `steps` steps would not outlast.
    pub(crate) fn fits(&self, steps: u64) -> Result<(), ConfigError> {
        match self.warmup {
            Warmup::Steps(warmup) if warmup > 0 && warmup >= steps => Err(ConfigError::Conflict(format!(
                "a warm-up of {} is no shorter than the run, which has {steps}; choose a shorter `warmup`, a share of the run such as \
                 0.05, or a longer run",
                count(warmup, "step")
            ))),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Schedule {
    /// `rate 20`, `rate 0.002, cosine, warm-up 0.05 of the run`; the steps are named by what they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, decay, decay_after, planned_epochs, .. } = self;
        write!(f, "rate {}", rounded(self.learning_rate, DIGITS))?;
        match kind {
            ScheduleKind::Step if *decay == 1.0 => {}
            ScheduleKind::Step => {
                write!(f, ", divided by {decay} each epoch after {decay_after}")?;
                planned_epochs.map_or(Ok(()), |epochs| write!(f, " of {epochs} that the run is taken for"))?;
            }
            ScheduleKind::Plateau => {
                write!(f, ", divided by {decay} after an epoch that does not improve the validation")?;
            }
            kind => write!(f, ", {kind}")?,
        }
        match self.warmup {
            Warmup::Steps(0) => Ok(()),
            Warmup::Steps(steps) => write!(f, ", warm-up {}", count(steps, "step")),
            Warmup::Share(share) => write!(f, ", warm-up {share} of the run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zaremba() -> Schedule {
        Schedule::step(1.0, 2.0, 4)
    }

    fn of(kind: ScheduleKind) -> Schedule {
        Schedule { kind, ..zaremba() }
    }

    fn done(done: f64) -> Moment {
        Moment { done, ..Moment::default() }
    }

    fn epoch(epoch: usize) -> Moment {
        Moment { epoch, ..Moment::default() }
    }

    #[test]
    fn decays_from_the_epoch_after() {
        let rates: Vec<f32> = (0..7).map(|e| zaremba().learning_rate_at(epoch(e))).collect();
        assert_eq!(rates, [1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.125]);
    }

    #[test]
    fn a_planned_schedule_is_stretched_over_the_run() {
        let schedule = Schedule { planned_epochs: Some(7), ..zaremba() };
        let rates: Vec<f32> = (0..21).map(|epoch| schedule.learning_rate_at(done(epoch as f64 / 21.0))).collect();
        for (e, rate) in rates.iter().enumerate() {
            assert_eq!(*rate, zaremba().learning_rate_at(epoch(e / 3)), "epoch {e}");
        }
        assert_eq!(schedule.learning_rate_at(done(1.0)), 0.125);
    }

    #[test]
    fn curves_pass_through_their_points() {
        for (kind, points) in [
            (ScheduleKind::Constant, [(0.0, 1.0), (0.3, 1.0), (0.65, 1.0), (1.0, 1.0)]),
            (ScheduleKind::Linear, [(0.0, 1.0), (0.25, 0.75), (0.9, 0.1), (1.0, 0.0)]),
            (ScheduleKind::Cosine, [(0.0, 1.0), (1.0 / 3.0, 0.75), (0.5, 0.5), (1.0, 0.0)]),
            (ScheduleKind::OneCycle, [(0.0, 0.04), (0.15, 0.52), (0.3, 1.0), (1.0, 4e-6)]),
            (ScheduleKind::Wsd, [(0.0, 1.0), (0.79, 1.0), (0.85, 0.5), (1.0, 0.0)]),
        ] {
            for (x, expected) in points {
                let rate = of(kind).learning_rate_at(done(x));
                assert!((rate - expected).abs() < 1e-6, "{kind} at {x}: {rate}");
            }
        }
    }

    #[test]
    fn the_mean_rate_is_that_of_the_area_below_the_curve() {
        for (kind, mean) in [
            (ScheduleKind::Constant, 1.0),
            (ScheduleKind::Linear, 0.5),
            (ScheduleKind::Cosine, 0.5),
            (ScheduleKind::OneCycle, 0.506),
            (ScheduleKind::Wsd, 0.8 + 0.2 / 3.0),
            (ScheduleKind::Plateau, 1.0),
        ] {
            let found = Schedule { warmup: Warmup::Share(0.1), ..of(kind) }.mean_rate(7.0);
            assert!((found - mean).abs() < 1e-4, "{kind}: {found}");
        }
        assert!((zaremba().mean_rate(7.0) - 4.875 / 7.0).abs() < 1e-3);
    }

    #[test]
    fn a_plateau_divides_whatever_the_epoch() {
        let rates =
            [0, 1, 3].map(|plateaus| of(ScheduleKind::Plateau).learning_rate_at(Moment { plateaus, ..epoch(9) }));
        assert_eq!(rates, [1.0, 0.5, 0.125]);
    }

    #[test]
    fn a_warm_up_rises_to_the_schedule_by_steps_or_by_the_share_done() {
        let by_steps = Schedule { warmup: Warmup::Steps(4), ..of(ScheduleKind::Constant) };
        let rates = [0, 2, 4, 5].map(|step| by_steps.learning_rate_at(Moment { step, ..Moment::default() }));
        assert_eq!(rates, [0.01, 0.505, 1.0, 1.0]);
        let by_share = Schedule { warmup: Warmup::Share(0.1), ..of(ScheduleKind::Linear) };
        let rates = [0.0, 0.05, 0.1, 0.5].map(|x| by_share.learning_rate_at(done(x)));
        for (rate, expected) in rates.into_iter().zip([0.01, 0.95 * 0.505, 0.9, 0.5]) {
            assert!((rate - expected).abs() < 1e-6, "{rates:?}");
        }
    }

    #[test]
    fn names_and_files_round_trip() {
        for name in ["constant", "step", "linear", "cosine", "one-cycle", "wsd", "plateau"] {
            let kind: ScheduleKind = name.parse().unwrap();
            assert_eq!(kind.to_string(), name);
            for warmup in ["0", "200", "0.05"] {
                let schedule = Schedule { warmup: warmup.parse().unwrap(), planned_epochs: Some(3), ..of(kind) };
                let text = toml::to_string(&schedule).unwrap();
                assert!(text.contains(&format!("kind = \"{name}\"")), "{text}");
                assert_eq!(toml::from_str::<Schedule>(&text).unwrap(), schedule);
            }
        }
        // As it was written before there were kinds.
        let old = "rate = 1.0\ndecay = 2.0\ndecay_after = 4\n";
        assert_eq!(toml::from_str::<Schedule>(old).unwrap(), zaremba());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let refused = |schedule: Schedule| schedule.validate().unwrap_err().to_string();
        assert!(refused(Schedule { decay: 1.0, ..of(ScheduleKind::Plateau) }).contains("above 1"));
        let warmup = Warmup::Share(0.1);
        assert!(refused(Schedule { warmup, ..of(ScheduleKind::OneCycle) }).contains("rises by itself"));
        assert!(refused(Schedule { warmup: Warmup::Share(1.5), ..zaremba() }).contains("`warmup` is 1.5"));
        for text in ["1.0", "-1", "nan", "many", ""] {
            assert!(text.parse::<Warmup>().is_err(), "{text}");
        }
        let warm = Schedule { warmup: Warmup::Steps(10), ..zaremba() };
        assert!(warm.fits(10).unwrap_err().to_string().contains("no shorter than the run"));
        assert!(warm.fits(11).is_ok() && zaremba().fits(1).is_ok());
    }
}
