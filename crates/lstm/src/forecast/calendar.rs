//! What a time stamp says by itself: where in the day, the week and the year it is.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use crate::data::{Clock, Stamp, Step};

/// A cycle of the calendar, seen as the sines and cosines of its first two harmonics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cycle {
    /// The time of day.
    Day,
    /// The day of the week; beside it whether that is Saturday or Sunday.
    Week,
    /// The day of the year.
    Year,
}

/// The repetitions of a cycle that a training part has to have: of one that comes once, a model would learn what came with it.
const LEAST_REPEATED: f64 = 2.0;

impl Cycle {
    /// The cycles that stamps of this step have, and that repeat over so many steps.
    pub(crate) fn of(step: Step, clock: Clock, steps: usize) -> Vec<Self> {
        let seconds = match step {
            _ if !clock.is_time() => return Vec::new(),
            Step::Seconds(seconds) => seconds as f64,
            Step::Months(months) => months as f64 * 30.44 * 86_400.0,
        };
        let cycles = [(Self::Day, 86_400.0), (Self::Week, 604_800.0), (Self::Year, 365.25 * 86_400.0)];
        let repeats = |length: f64| seconds * 2.0 <= length && seconds * steps as f64 >= LEAST_REPEATED * length;
        cycles.into_iter().filter(|(_, length)| repeats(*length)).map(|(cycle, _)| cycle).collect()
    }

    /// The values of a stamp.
    pub(crate) fn width(self) -> usize {
        if self == Self::Week { 5 } else { 4 }
    }

    /// Appends the values of a stamp.
    pub(crate) fn append(self, stamp: Stamp, clock: Clock, to: &mut Vec<f32>) {
        let time = clock.civil(stamp);
        let of_day =
            (f64::from(time.hour()) * 3600.0 + f64::from(time.minute()) * 60.0 + f64::from(time.second())) / 86_400.0;
        let weekday = f64::from(time.weekday().to_monday_zero_offset());
        let phase = match self {
            Self::Day => of_day,
            Self::Week => (weekday + of_day) / 7.0,
            Self::Year => (f64::from(time.day_of_year()) - 1.0 + of_day) / 365.25,
        };
        for harmonic in [1.0, 2.0] {
            let (sine, cosine) = (TAU * harmonic * phase).sin_cos();
            to.extend([sine as f32, cosine as f32]);
        }
        if self == Self::Week {
            to.push(if weekday >= 5.0 { 1.0 } else { 0.0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_those_that_repeat() {
        let clock = Clock::Date;
        assert_eq!(Cycle::of(Step::Seconds(3600), clock, 8640), [Cycle::Day, Cycle::Week]);
        assert_eq!(Cycle::of(Step::Seconds(3600), clock, 20_000), [Cycle::Day, Cycle::Week, Cycle::Year]);
        assert_eq!(Cycle::of(Step::Seconds(86_400), clock, 800), [Cycle::Week, Cycle::Year]);
        assert_eq!(Cycle::of(Step::Months(1), clock, 100), [Cycle::Year]);
        assert!(Cycle::of(Step::Months(12), clock, 100).is_empty());
        assert!(Cycle::of(Step::Seconds(1), Clock::Counter, 10_000_000).is_empty());
    }

    #[test]
    fn a_stamp_is_where_the_calendar_has_it() {
        let (noon, clock) = Clock::parse("2016-07-02 12:00").unwrap();
        let mut values = Vec::new();
        Cycle::Day.append(noon, clock, &mut values);
        assert!((values[1] + 1.0).abs() < 1e-6 && (values[3] - 1.0).abs() < 1e-6, "{values:?}");
        values.clear();
        Cycle::Week.append(noon, clock, &mut values);
        assert_eq!((values.len(), values[4]), (Cycle::Week.width(), 1.0));
    }
}
