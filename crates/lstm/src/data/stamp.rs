//! Time stamps: ISO 8601 dates and date-times, seconds since 1970, or a plain counter; the regular step between them, and the first
//! place where there is none.
//!
//! A stamp is a number of seconds of its own clock: of the wall where stamps have no offset, of UTC where they have. So an hour that
//! daylight saving repeats is a stamp that comes twice, and is refused by name.

use std::fmt;

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Span};
use serde::{Deserialize, Serialize};

use super::{Column, DataError, Table, shortened};

/// Seconds since 1970 of the clock that the stamps are of; of a counter its own numbers.
pub type Stamp = i64;

/// How stamps are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Clock {
    /// Whole numbers that are too small for a time: 1, 2, 3, …, or years.
    Counter,
    /// Seconds since 1970.
    Epoch,
    /// Milliseconds since 1970.
    EpochMillis,
    /// `2020-01`.
    Month,
    /// `2020-01-31`.
    Date,
    /// `2020-01-31 12:00`, with seconds or without, by a `T` or a blank, with an offset from UTC in seconds or none.
    DateTime {
        /// Whether a `T` stands before the time.
        t: bool,
        /// Whether seconds are written.
        seconds: bool,
        /// The offset from UTC, in seconds.
        offset: Option<i32>,
    },
}

/// The step from one stamp to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// So many seconds; of a counter so many of its numbers.
    Seconds(i64),
    /// So many months, from one day of the month to the same, or from last day to last day.
    Months(i64),
}

const DAY: i64 = 86_400;
const HOUR: i64 = 3600;

/// Whole numbers from here on are seconds since 1970, and from a thousand times that milliseconds: days from 1973 on.
const LEAST_EPOCH: i64 = 100_000_000;
const LEAST_MILLIS: i64 = 100_000_000_000;

/// The midnight that seconds count from.
fn origin() -> DateTime {
    DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
}

fn seconds_of(time: DateTime) -> Stamp {
    time.duration_since(origin()).as_secs()
}

impl Clock {
    /// Reads a stamp, and says how it is written.
    ///
    /// # Errors
    /// What is none.
    pub fn parse(text: &str) -> Result<(Stamp, Self), String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the time stamp is missing".to_owned());
        }
        let none = || {
            format!(
                "\"{}\" is no time stamp; write a date such as 2020-01-31, a date and a time such as 2020-01-31 12:00:00, or whole \
                 seconds since 1970",
                shortened(text)
            )
        };
        if let Ok(number) = text.parse::<i64>() {
            return Ok(Self::of_number(number, text));
        }
        // What spreadsheets make of whole numbers.
        if let Some(number) = text.strip_suffix(".0").and_then(|whole| whole.parse::<i64>().ok()) {
            return Ok(Self::of_number(number, ""));
        }
        if text.len() == 7 && text.as_bytes()[4] == b'-' {
            let date: Date = format!("{text}-01").parse().map_err(|_| none())?;
            return Ok((seconds_of(date.at(0, 0, 0, 0)), Self::Month));
        }
        if text.len() <= 10 {
            let date: Date = text.parse().map_err(|_| none())?;
            return Ok((seconds_of(date.at(0, 0, 0, 0)), Self::Date));
        }
        let (civil, offset) = split_offset(text).ok_or_else(none)?;
        // Of a time alone, or of a date with letters behind it, nothing else would say that it is none.
        let time: DateTime = civil.parse().map_err(|_| none())?;
        if time.subsec_nanosecond() != 0 {
            return Err(format!(
                "\"{}\" is between two seconds; round the time stamps to whole seconds",
                shortened(text)
            ));
        }
        let (t, seconds) = (civil.contains(['T', 't']), civil.matches(':').count() > 1);
        Ok((seconds_of(time) - i64::from(offset.unwrap_or(0)), Self::DateTime { t, seconds, offset }))
    }

    fn of_number(number: i64, text: &str) -> (Stamp, Self) {
        // 20200131 is a day, as many tables have it, where it is one of a century around this one.
        if text.len() == 8
            && let Ok(date) = format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..]).parse::<Date>()
            && (1900..2100).contains(&date.year())
        {
            return (seconds_of(date.at(0, 0, 0, 0)), Self::Date);
        }
        match number {
            LEAST_MILLIS.. if number % 1000 == 0 => (number / 1000, Self::EpochMillis),
            LEAST_EPOCH..LEAST_MILLIS => (number, Self::Epoch),
            _ => (number, Self::Counter),
        }
    }

    /// A stamp as it is written.
    pub fn write(self, stamp: Stamp) -> String {
        let at = |offset: i32| {
            origin().checked_add(SignedDuration::from_secs(stamp + i64::from(offset))).unwrap_or(DateTime::MAX)
        };
        match self {
            Self::Counter | Self::Epoch => stamp.to_string(),
            Self::EpochMillis => (stamp * 1000).to_string(),
            Self::Month => at(0).strftime("%Y-%m").to_string(),
            Self::Date => at(0).strftime("%Y-%m-%d").to_string(),
            Self::DateTime { t, seconds, offset } => {
                let time = at(offset.unwrap_or(0));
                let written = time.strftime(match (t, seconds) {
                    (true, true) => "%Y-%m-%dT%H:%M:%S",
                    (true, false) => "%Y-%m-%dT%H:%M",
                    (false, true) => "%Y-%m-%d %H:%M:%S",
                    (false, false) => "%Y-%m-%d %H:%M",
                });
                format!("{written}{}", offset.map_or(String::new(), written_offset))
            }
        }
    }

    /// Whether stamps are times, with hours and days.
    pub fn is_time(self) -> bool {
        self != Self::Counter
    }

    /// The offset from UTC, in seconds, of what is written with one.
    pub(crate) fn offset(self) -> Option<i32> {
        if let Self::DateTime { offset, .. } = self { offset } else { None }
    }

    /// The same at another offset from UTC.
    pub(crate) fn at(self, offset: Option<i32>) -> Self {
        if let Self::DateTime { t, seconds, .. } = self { Self::DateTime { t, seconds, offset } } else { self }
    }

    /// Whether both are of one kind; offsets and seconds that are left out may differ from stamp to stamp.
    fn agrees(self, other: Self) -> bool {
        match (self, other) {
            (Self::DateTime { offset: one, .. }, Self::DateTime { offset: two, .. }) => one.is_some() == two.is_some(),
            _ => self == other,
        }
    }

    /// The date and the time that a stamp is of, on the clock of its offset.
    pub(crate) fn civil(self, stamp: Stamp) -> DateTime {
        let offset = self.offset().unwrap_or(0);
        origin().checked_add(SignedDuration::from_secs(stamp + i64::from(offset))).unwrap_or(DateTime::MAX)
    }
}

/// The part before an offset from UTC, and the offset in seconds.
fn split_offset(text: &str) -> Option<(&str, Option<i32>)> {
    if !text.is_ascii() {
        return None;
    }
    if let Some(civil) = text.strip_suffix(['Z', 'z']) {
        return Some((civil, Some(0)));
    }
    let Some(at) = text.rfind(['+', '-']).filter(|at| *at > 10) else { return Some((text, None)) };
    let digits: String = text[at + 1..].chars().filter(|char| *char != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (digits.parse::<i32>().ok()?, 0),
        4 => (digits[..2].parse::<i32>().ok()?, digits[2..].parse::<i32>().ok()?),
        _ => return None,
    };
    let seconds = 60 * (60 * hours + minutes);
    let sign = if text.as_bytes()[at] == b'-' { -1 } else { 1 };
    (hours <= 18 && minutes < 60).then_some((text[..at].trim_end(), Some(sign * seconds)))
}

fn written_offset(offset: i32) -> String {
    let minutes = offset.abs() / 60;
    match offset {
        0 => "Z".to_owned(),
        _ => format!("{}{:02}:{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60),
    }
}

/// The months since the year 0, and whether the day is its month's last.
fn month_of(stamp: Stamp) -> (i64, Date, bool) {
    let date = Clock::Epoch.civil(stamp).date();
    (12 * i64::from(date.year()) + i64::from(date.month()) - 1, date, date.day() == date.days_in_month())
}

impl Step {
    /// The step of stamps that follow one another, at least two of them. `clocks`: how each is written.
    ///
    /// # Errors
    /// The index of the first stamp that does not follow the one before by a step, and why.
    pub fn find(stamps: &[Stamp], clocks: &[Clock]) -> Result<Self, (usize, String)> {
        Self::of_time(stamps, clocks).map_err(|(at, why)| match Self::on_the_wall(stamps, clocks) {
            Some(step) => {
                let why = format!(
                    "by a clock on the wall the rows are {} apart, but not by UTC, which the offsets say: {} comes {} after {}; write the \
                     dates alone, such as {}",
                    step.written(Clock::Date),
                    clocks[at].write(stamps[at]),
                    exactly(stamps[at] - stamps[at - 1]),
                    clocks[at - 1].write(stamps[at - 1]),
                    Clock::Date.write(wall(stamps[at], clocks[at]))
                );
                (at, why)
            }
            None => (at, why),
        })
    }

    /// The step of a day or more that stamps with offsets from UTC have by the clocks on the wall, if they have one there.
    fn on_the_wall(stamps: &[Stamp], clocks: &[Clock]) -> Option<Self> {
        clocks.first()?.offset()?;
        let walls: Vec<Stamp> = stamps.iter().zip(clocks).map(|(stamp, clock)| wall(*stamp, *clock)).collect();
        let step = Self::of_time(&walls, &vec![Clock::Date; walls.len()]).ok()?;
        match step {
            Self::Seconds(step) if step % DAY != 0 => None,
            step => Some(step),
        }
    }

    /// The step by the time that passes, or by the calendar of UTC.
    fn of_time(stamps: &[Stamp], clocks: &[Clock]) -> Result<Self, (usize, String)> {
        let clock = clocks.first().copied().unwrap_or(Clock::Counter);
        let differences: Vec<i64> = stamps.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let said = |at: usize| clocks[at].write(stamps[at]);
        if let Some(at) = differences.iter().position(|difference| *difference <= 0) {
            let (before, after) = (stamps[at], stamps[at + 1]);
            let saving = if may_be_saving(clock, before) {
                ", or, where clocks are put back for the winter, write times of UTC or with their offsets"
            } else {
                ""
            };
            let why = if before == after {
                format!(
                    "the time stamp {} comes twice; keep one of the rows, name the column that tells several series apart{saving}",
                    said(at + 1)
                )
            } else {
                // An hour that is there twice begins again before it ends, where steps are shorter.
                let saving = if before - after < HOUR { saving } else { "" };
                format!(
                    "the time stamp {} comes after the later {}; sort the rows by time, or name the column that tells several series \
                     apart{saving}",
                    said(at + 1),
                    said(at)
                )
            };
            return Err((at + 1, why));
        }
        let Some(&first) = differences.first() else {
            return Err((0, "there is one time stamp only, and so no step; give more rows".to_owned()));
        };
        if differences.iter().all(|difference| *difference == first) && !(clock.is_time() && first >= 28 * DAY) {
            return Ok(Self::Seconds(first));
        }
        if clock.is_time() && first >= 28 * DAY {
            let months: Vec<_> = stamps.iter().map(|stamp| month_of(*stamp)).collect();
            let step = months[1].0 - months[0].0;
            let day = months.iter().map(|(_, date, _)| date.day()).max().unwrap_or(1);
            // The day of the month, or the last of a month that has no such day.
            let is_even = step > 0
                && months.windows(2).all(|pair| pair[1].0 - pair[0].0 == step)
                && stamps.iter().all(|stamp| stamp.rem_euclid(DAY) == stamps[0].rem_euclid(DAY))
                && months.iter().all(|(_, date, is_last)| date.day() == day || *is_last);
            if is_even {
                return Ok(Self::Months(step));
            }
        }
        if differences.iter().all(|difference| *difference == first) {
            return Ok(Self::Seconds(first));
        }
        // The most frequent one is the step that was meant; of months any, for the gap is named anyway.
        let mut sorted = differences.clone();
        sorted.sort_unstable();
        let step = sorted.chunk_by(|a, b| a == b).max_by_key(|same| same.len()).map_or(first, |same| same[0]);
        let months: Vec<i64> = stamps.windows(2).map(|pair| month_of(pair[1]).0 - month_of(pair[0]).0).collect();
        let at = if clock.is_time() && step >= 28 * DAY {
            let mut sorted = months.clone();
            sorted.sort_unstable();
            let step = sorted.chunk_by(|a, b| a == b).max_by_key(|same| same.len()).map_or(1, |same| same[0]);
            // Of rows that are as many months apart, the first on another day or at another time of it.
            let time = |stamp: Stamp| (month_of(stamp).1.day(), stamp.rem_euclid(DAY));
            let other = || stamps.windows(2).position(|pair| time(pair[0]) != time(pair[1]));
            months.iter().position(|months| *months != step).or_else(other)
        } else {
            differences.iter().position(|difference| *difference != step)
        };
        let at = at.unwrap_or(0);
        let gap = differences[at];
        let saving = if (gap - step).abs() == HOUR && step < DAY && may_be_saving(clock, stamps[at]) {
            "; if it is the night in which clocks are put forward, write times of UTC or with their offsets"
        } else {
            ""
        };
        let step =
            if step >= 28 * DAY && clock.is_time() { "about a month or more".to_owned() } else { written(step, clock) };
        Err((
            at + 1,
            format!(
                "the time stamps are not regular: {} comes {} after {}, where most rows are {step} apart; put in the rows that are \
                 missing, with empty values, or take out those that are too many{saving}",
                said(at + 1),
                written(gap, clock),
                said(at),
            ),
        ))
    }

    /// The stamp so many steps after `stamp`, or before it.
    pub fn after(self, stamp: Stamp, steps: i64) -> Stamp {
        match self {
            Self::Seconds(step) => stamp + step * steps,
            Self::Months(step) => {
                let (_, date, is_last) = month_of(stamp);
                let time = stamp.rem_euclid(DAY);
                let moved = date.checked_add(Span::new().months(step * steps)).unwrap_or(Date::MAX);
                // The last day of a short month stands for the last of the next ones too.
                let moved = if is_last && date.day() < 31 { moved.last_of_month() } else { moved };
                seconds_of(moved.at(0, 0, 0, 0)) + time
            }
        }
    }

    /// The steps from one stamp to a later one, rounded down.
    pub fn between(self, from: Stamp, to: Stamp) -> i64 {
        match self {
            Self::Seconds(step) => (to - from).div_euclid(step),
            Self::Months(step) => (month_of(to).0 - month_of(from).0).div_euclid(step),
        }
    }

    /// The step as people say it.
    pub fn written(self, clock: Clock) -> String {
        match self {
            Self::Seconds(step) => written(step, clock),
            Self::Months(1) => "a month".to_owned(),
            Self::Months(3) => "a quarter".to_owned(),
            Self::Months(12) => "a year".to_owned(),
            Self::Months(months) => format!("{months} months"),
        }
    }

    /// The steps of the cycles that times have: those of a day, a week and a year, as far as they are whole and more than one.
    pub fn cycles(self, clock: Clock) -> Vec<usize> {
        let of = |seconds: i64, step: i64| (seconds % step == 0 && seconds > step).then_some((seconds / step) as usize);
        match self {
            _ if !clock.is_time() => Vec::new(),
            Self::Seconds(step) if step < DAY => {
                [of(HOUR, step), of(DAY, step), of(7 * DAY, step)].into_iter().flatten().collect()
            }
            Self::Seconds(step) => [of(7 * DAY, step), of(364 * DAY, step)].into_iter().flatten().collect(),
            Self::Months(step) => (12 % step == 0 && step < 12).then_some((12 / step) as usize).into_iter().collect(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(Clock::Epoch))
    }
}

/// The seconds since 1970 that a clock on the wall shows at a stamp.
fn wall(stamp: Stamp, clock: Clock) -> Stamp {
    stamp + i64::from(clock.offset().unwrap_or(0))
}

/// Seconds in days and what is left in hours.
fn exactly(seconds: i64) -> String {
    match (seconds / DAY, seconds % DAY) {
        (0, _) | (_, 0) => written(seconds, Clock::Epoch),
        (days, rest) => format!("{} and {}", written(days * DAY, Clock::Epoch), written(rest, Clock::Epoch)),
    }
}

/// Seconds as people say them; of a counter its numbers.
fn written(seconds: i64, clock: Clock) -> String {
    if !clock.is_time() {
        return seconds.to_string();
    }
    let units = [(7 * DAY, "week"), (DAY, "day"), (HOUR, "hour"), (60, "minute"), (1, "second")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds % unit == 0).unwrap_or((1, "second"));
    let count = seconds / unit;
    let article = if name == "hour" { "an" } else { "a" };
    if count == 1 { format!("{article} {name}") } else { format!("{count} {name}s") }
}

/// Whether a stamp is in the months in which clocks are changed, and of a wall's clock.
fn may_be_saving(clock: Clock, stamp: Stamp) -> bool {
    let civil = matches!(clock, Clock::DateTime { offset: None, .. });
    civil && [3, 4, 9, 10, 11].contains(&clock.civil(stamp).month())
}

impl Table {
    /// The time stamps of a column, and how each is written: all in one way, with seconds if one has them, but for their offsets from UTC.
    ///
    /// # Errors
    /// The first cell that is none, or is written in another way than the first.
    pub fn stamps(&self, column: Column) -> Result<(Vec<Stamp>, Vec<Clock>), DataError> {
        let (mut stamps, mut offsets) = (Vec::with_capacity(self.rows()), Vec::with_capacity(self.rows()));
        let mut first: Option<Clock> = None;
        for row in 0..self.rows() {
            let (stamp, clock) = Clock::parse(self.cell(row, column)).map_err(|why| self.error(row, column, why))?;
            let written = first.get_or_insert(clock);
            if !written.agrees(clock) {
                let why = format!(
                    "the time stamp {} is not written as the first, {}; write all of them in one way",
                    self.cell(row, column).trim(),
                    self.cell(0, column).trim()
                );
                return Err(self.error(row, column, why));
            }
            if let (Clock::DateTime { seconds, .. }, Clock::DateTime { seconds: own, .. }) = (written, clock) {
                *seconds |= own;
            }
            stamps.push(stamp);
            offsets.push(clock.offset());
        }
        let clock = first.unwrap_or(Clock::Counter);
        Ok((stamps, offsets.into_iter().map(|offset| clock.at(offset)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(texts: &[&str]) -> (Vec<Stamp>, Clock) {
        let parsed: Vec<_> = texts.iter().map(|text| Clock::parse(text).unwrap()).collect();
        (parsed.iter().map(|(stamp, _)| *stamp).collect(), parsed[0].1)
    }

    fn step(texts: &[&str]) -> Result<Step, (usize, String)> {
        let parsed: Vec<_> = texts.iter().map(|text| Clock::parse(text).unwrap()).collect();
        let (stamps, clocks): (Vec<Stamp>, Vec<Clock>) = parsed.into_iter().unzip();
        Step::find(&stamps, &clocks)
    }

    #[test]
    fn stamps_are_read_and_written_again() {
        for text in [
            "7",
            "1467331200",
            "1467331200000",
            "2016-07",
            "2016-07-01",
            "2016-07-01 00:00",
            "2016-07-01 00:00:00",
            "2016-07-01T00:00:00",
            "2016-07-01T02:00:00+02:00",
            "2016-07-01T00:00:00Z",
        ] {
            let (stamp, clock) = Clock::parse(text).unwrap();
            assert_eq!(clock.write(stamp), text);
            assert_eq!(stamp, if text == "7" { 7 } else { 1_467_331_200 }, "{text}");
        }
        assert_eq!(Clock::parse("20160701").unwrap(), (1_467_331_200, Clock::Date));
        assert_eq!(Clock::parse("2016-06-30T22:30-0130").unwrap().0, 1_467_331_200);
        for text in ["", "yesterday", "2016-13-01", "01/07/2016", "2016-02-30", "12:00", "2016-07-01 25:00:00"] {
            assert!(Clock::parse(text).is_err(), "{text}");
        }
        assert!(Clock::parse("2016-07-01 00:00:00.5").unwrap_err().contains("between two seconds"));
    }

    #[test]
    fn regular_steps_are_found_and_followed() {
        for (texts, expected, next) in [
            (["2020-01-01", "2020-01-02", "2020-01-03"], Step::Seconds(DAY), "2020-01-04"),
            (["2020-01-31", "2020-02-29", "2020-03-31"], Step::Months(1), "2020-04-30"),
            (["2020-01", "2020-02", "2020-03"], Step::Months(1), "2020-04"),
            (["2019-12-01", "2020-03-01", "2020-06-01"], Step::Months(3), "2020-09-01"),
            (["2019-02-28", "2020-02-29", "2021-02-28"], Step::Months(12), "2022-02-28"),
            (["1949", "1950", "1951"], Step::Seconds(1), "1952"),
            (["2020-02-29 23:00", "2020-02-29 23:30", "2020-03-01 00:00"], Step::Seconds(1800), "2020-03-01 00:30"),
        ] {
            let (values, clock) = stamps(&texts);
            let step = Step::find(&values, &[clock; 3]).unwrap();
            assert_eq!(step, expected, "{texts:?}");
            assert_eq!(clock.write(step.after(values[2], 1)), next);
            assert_eq!(step.between(values[0], step.after(values[2], 5)), 7);
        }
        // A short month's last day is followed by last days, and 29 days by themselves are no month.
        assert_eq!(step(&["2021-02-28", "2021-03-31", "2021-04-30"]), Ok(Step::Months(1)));
    }

    #[test]
    fn the_first_irregular_stamp_is_named() {
        let (at, why) = step(&["2020-01-01", "2020-01-02", "2020-01-04", "2020-01-05", "2020-01-06"]).unwrap_err();
        assert_eq!(at, 2);
        assert!(why.contains("2020-01-04 comes 2 days after 2020-01-02, where most rows are a day apart"), "{why}");
        let (at, why) = step(&["2020-01-01", "2020-01-01"]).unwrap_err();
        assert!(at == 1 && why.contains("2020-01-01 comes twice") && !why.contains("winter"), "{why}");
        let (at, why) = step(&["2020-01-02", "2020-01-01"]).unwrap_err();
        assert!(at == 1 && why.contains("comes after the later 2020-01-02"), "{why}");
        let (_, why) = step(&["2020-10-25 01:00", "2020-10-25 02:00", "2020-10-25 02:00"]).unwrap_err();
        assert!(why.contains("put back for the winter"), "{why}");
        // Of half hours the one that comes twice begins before the one ends that came before it.
        let (_, why) =
            step(&["2020-10-25 01:30", "2020-10-25 02:00", "2020-10-25 02:30", "2020-10-25 02:00"]).unwrap_err();
        assert!(why.contains("comes after the later") && why.contains("put back for the winter"), "{why}");
        let (_, why) = step(&["2020-10-25 01:00", "2020-10-25 02:00", "2020-10-24 02:00"]).unwrap_err();
        assert!(!why.contains("winter"), "{why}");
        let (at, why) =
            step(&["2020-03-29 00:00", "2020-03-29 01:00", "2020-03-29 03:00", "2020-03-29 04:00"]).unwrap_err();
        assert!(at == 2 && why.contains("put forward"), "{why}");
        let (at, why) = step(&["2020-01-31", "2020-02-29", "2020-04-30", "2020-05-31"]).unwrap_err();
        assert!(at == 2 && why.contains("2020-04-30 comes 61 days after"), "{why}");
        assert!(step(&["2020-01-31"]).unwrap_err().1.contains("one time stamp"));
    }

    #[test]
    fn stamps_with_offsets_are_said_as_they_are_written_and_days_of_a_wall_are_named() {
        let hours =
            ["2020-03-29T01:00+01:00", "2020-03-29T03:00+02:00", "2020-03-29T04:00+02:00", "2020-03-29T06:00+02:00"];
        let (at, why) = step(&hours).unwrap_err();
        assert!(at == 3 && why.contains("2020-03-29T06:00+02:00 comes 2 hours after 2020-03-29T04:00+02:00"), "{why}");
        for (texts, apart) in [
            (&["2020-03-28T00:00+01:00", "2020-03-29T00:00+01:00", "2020-03-30T00:00+02:00"][..], "a day apart"),
            (
                &[
                    "2020-02-01T00:00+01:00",
                    "2020-03-01T00:00+01:00",
                    "2020-04-01T00:00+02:00",
                    "2020-05-01T00:00+02:00",
                ],
                "a month apart",
            ),
            // Of a clock that never changes too: in UTC these are no ends of months.
            (&["2020-01-31T00:00+01:00", "2020-02-29T00:00+01:00", "2020-03-31T00:00+01:00"], "a month apart"),
        ] {
            let (at, why) = step(texts).unwrap_err();
            assert!(why.contains(apart) && why.contains(&format!("{} comes", texts[at])), "{why}");
            let date = &texts[at][..10];
            assert!(why.ends_with(&format!("write the dates alone, such as {date}")), "{why}");
            assert!(!why.contains("missing"), "{why}");
        }
        // Months of UTC stay what they are.
        assert_eq!(step(&["2020-01-01T00:00Z", "2020-02-01T00:00Z", "2020-03-01T00:00Z"]), Ok(Step::Months(1)));
    }

    #[test]
    fn cycles_are_those_of_the_calendar() {
        let clock = Clock::Date;
        assert_eq!(Step::Seconds(HOUR).cycles(clock), [24, 168]);
        assert_eq!(Step::Seconds(900).cycles(clock), [4, 96, 672]);
        assert_eq!(Step::Seconds(DAY).cycles(clock), [7, 364]);
        assert_eq!(Step::Months(1).cycles(clock), [12]);
        assert_eq!(Step::Months(3).cycles(clock), [4]);
        assert!(Step::Seconds(1).cycles(Clock::Counter).is_empty());
    }
}
