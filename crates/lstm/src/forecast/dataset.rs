//! A table as the series of a forecast: their values on a regular grid of time, what is known of every step, and how both are scaled.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::calendar::Cycle;
use super::config::{Columns, ForecastConfig, SPLIT};
use super::head::LEVELS;
use crate::data::{Clock, Column, DataError, Stamp, Step, Table, shortened};
use crate::run::error::TrainError;
use crate::said::count;

/// How a column becomes numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoder {
    /// Numbers, less their mean and by their deviation.
    Numbers(Scaler),
    /// One value each for these texts, 1 where it is the one.
    Classes(Vec<String>),
}

/// The mean and the deviation of values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// The mean.
    pub mean: f64,
    /// The standard deviation; of values that are all the same 1.
    pub deviation: f64,
}

/// The most different texts of a column that is known or fixed.
const MOST_CLASSES: usize = 200;

impl Scaler {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let count = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / count;
        let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        (count > 0.0).then_some(Self { mean, deviation: variance.sqrt() })
    }

    /// The value on its scale.
    pub fn scale(self, value: f64) -> f64 {
        (value - self.mean) / self.deviation
    }

    /// The value that this was.
    pub fn restore(self, scaled: f64) -> f64 {
        self.mean + self.deviation * scaled
    }
}

/// All that is needed beside the parameters to forecast from a table: it lies in the model's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// How stamps are written.
    pub clock: Clock,
    /// The step from one to the next.
    pub step: Step,
    /// The cycles of the calendar that are seen.
    pub cycles: Vec<Cycle>,
    /// The known columns, in the order of the settings.
    pub known: Vec<Encoder>,
    /// The columns that are fixed for a series, likewise.
    pub fixed: Vec<Encoder>,
    /// The scaler of every target of each series, by its name; a table of one series has the name "".
    pub scalers: BTreeMap<String, Vec<Scaler>>,
    /// The last stamps of training, validation and test over all series.
    pub until: [Stamp; 3],
    /// The offsets from UTC that those are written with, where not all stamps have that of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets: Option<[i32; 3]>,
    /// The steps after which values repeat most, 1 where they do not; for the naive forecast to compare with.
    pub season: usize,
    /// Factors of how far each quantile is from the median, found on the validation part; 1 until then.
    pub widen: Vec<f64>,
}

/// One series.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name, "" where a table has one.
    pub name: String,
    /// The first stamp.
    pub start: Stamp,
    /// How the stamp of each of its rows is written.
    pub clocks: Vec<Clock>,
    /// The steps from the start of the table's earliest series to it.
    pub offset: usize,
    /// The steps that have values, or could have: all before the first that is to be forecast.
    pub observed: usize,
    /// The targets, `[steps, targets]`, not a number where missing.
    pub values: Vec<f64>,
    /// What the calendar and the known columns say, `[steps, known]`; steps may reach beyond the observed ones.
    pub known: Vec<f32>,
    /// What is fixed.
    pub fixed: Vec<f32>,
    /// The scaler of each target.
    pub scalers: Vec<Scaler>,
}

/// The series of a table.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// How it is read and scaled.
    pub frame: Frame,
    /// The series, by name.
    pub series: Vec<Series>,
    /// The number of targets.
    pub targets: usize,
    /// The steps from the start after which training, validation and test end.
    pub cuts: [usize; 3],
    /// A checksum of all of it.
    pub fingerprint: String,
    /// The series that the frame has no scaler of, which then is of the table at hand.
    pub unknown: Vec<String>,
}

/// Where the columns of a table are that values are read from.
struct Places {
    targets: Vec<Column>,
    known: Vec<Column>,
    fixed: Vec<Column>,
}

impl Places {
    fn of(table: &Table, columns: &Columns) -> Result<Self, DataError> {
        let of = |names: &[String]| -> Result<Vec<Column>, DataError> {
            names.iter().map(|name| table.column(name)).collect()
        };
        Ok(Self { targets: of(&columns.target)?, known: of(&columns.known)?, fixed: of(&columns.fixed)? })
    }
}

/// A series before it is scaled: the rows of the table that are its.
struct Rows {
    name: String,
    rows: Vec<usize>,
    stamps: Vec<Stamp>,
    /// How each of them is written.
    clocks: Vec<Clock>,
}

impl Frame {
    /// The last stamp of training (0), validation (1) or test (2), as the table writes it.
    pub fn written_until(&self, part: usize) -> String {
        let clock = self.offsets.map_or(self.clock, |offsets| self.clock.at(Some(offsets[part])));
        clock.write(self.until[part])
    }
}

impl Dataset {
    /// How the row of a stamp is written, or the nearest before it: tables may change their offset from UTC on the way.
    pub(crate) fn clock_of(&self, stamp: Stamp) -> Clock {
        let before = |series: &&Series| series.start <= stamp;
        let nearest = self.series.iter().filter(before).map(|series| {
            let at = self.frame.step.between(series.start, stamp) as usize;
            (at.saturating_sub(series.clocks.len()), series.clock(self.frame.clock, at))
        });
        nearest.min_by_key(|(beyond, _)| *beyond).map_or(self.frame.clock, |(_, clock)| clock)
    }

    /// Reads the series that a model is to be trained on.
    ///
    /// # Errors
    /// A table that has no such columns, stamps that are not regular, values that are no numbers or all the same, or too few of them.
    pub fn read(table: &Table, config: &mut ForecastConfig) -> Result<Self, TrainError> {
        let (groups, clock, step) = grouped(table, &config.columns)?;
        let start = groups.iter().map(|group| group.stamps[0]).min().unwrap_or(0);
        let places = Places::of(table, &config.columns)?;
        // Rows that are yet to come, of which only known columns say anything, are no part of what is split.
        let observed = |row: usize| places.targets.iter().any(|column| !matches!(table.number(row, *column), Ok(None)));
        let last_of = |group: &Rows| {
            let found = group.rows.iter().zip(&group.stamps).rev().find(|(row, _)| observed(**row));
            found.map(|(_, stamp)| *stamp)
        };
        let last_row = || groups.iter().filter_map(|group| group.stamps.last()).max().copied();
        // Targets without any value are named as such by who scales them.
        let end = groups.iter().filter_map(last_of).max().or_else(last_row).unwrap_or(start);
        let steps = step.between(start, end) as usize + 1;
        if config.horizon == 0 {
            // A day of hours, a week of days, a year of months.
            let cycles = step.cycles(clock);
            let cycle = cycles.iter().copied().find(|cycle| *cycle > 4).or(cycles.first().copied()).unwrap_or(10);
            config.horizon = cycle.min(steps / 10).max(1);
        }
        if config.split.is_empty() {
            config.split = usual_split(steps, config.horizon);
        }
        let cuts = cuts(config, steps)?;
        let last = |cut: usize| step.after(start, cut as i64 - 1);
        let encoders = |columns: &[Column]| -> Result<Vec<Encoder>, DataError> {
            columns.iter().map(|column| Encoder::of(table, *column)).collect()
        };
        let frame = Frame {
            clock,
            step,
            cycles: Cycle::of(step, clock, cuts[0]),
            known: encoders(&places.known)?,
            fixed: encoders(&places.fixed)?,
            scalers: BTreeMap::new(),
            until: cuts.map(last),
            offsets: None,
            season: 1,
            widen: vec![1.0; LEVELS.len()],
        };
        let mut dataset = Self::assemble(table, &places, frame, groups, start)?;
        dataset.cuts = cuts;
        let offsets = dataset.frame.until.map(|stamp| dataset.clock_of(stamp).offset());
        if offsets.iter().any(|offset| *offset != clock.offset()) {
            dataset.frame.offsets = Some(offsets.map(|offset| offset.unwrap_or(0)));
        }
        let trained = dataset.frame.written_until(0);
        for series in &mut dataset.series {
            let rows = dataset.cuts[0].saturating_sub(series.offset).min(series.observed);
            let scalers = (0..dataset.targets).map(|target| {
                let name = &config.columns.target[target];
                let values = series.values[..rows * dataset.targets].iter().skip(target).step_by(dataset.targets);
                let values = values.copied().filter(|value| !value.is_nan());
                let scaler = Scaler::of(values).ok_or_else(|| {
                    unusable(format!(
                        "{}, column \"{name}\": {} no value in its training part, up to {}; leave it out, or give another `split`",
                        table.path().display(),
                        of_series(&series.name, "has"),
                        trained
                    ))
                })?;
                if scaler.deviation <= 1e-12 * scaler.mean.abs().max(1e-300) {
                    return Err(unusable(format!(
                        "{}, column \"{name}\": {} the same value, {}, all through its training part, up to {}: there is nothing \
                         to learn; leave it out, or give another column",
                        table.path().display(),
                        of_series(&series.name, "has"),
                        scaler.mean,
                        trained
                    )));
                }
                Ok(scaler)
            });
            series.scalers = scalers.collect::<Result<_, TrainError>>()?;
            dataset.frame.scalers.insert(series.name.clone(), series.scalers.clone());
        }
        dataset.frame.season = super::baseline::season(&dataset);
        if config.context == 0 {
            // A season of seasons, as a week of days of hours.
            let season = dataset.frame.season;
            let wanted = if season > 1 { 7 * season } else { 3 * config.horizon };
            config.context = wanted.max(config.horizon).min(512).min((cuts[0] / 3).max(1));
        }
        if config.likelihood.counts() {
            check_counts(table, &places.targets)?;
        }
        Ok(dataset)
    }

    /// Reads the series that a trained model is to forecast or to be measured on.
    ///
    /// # Errors
    /// As [`Dataset::read`], and a step that is not the model's.
    pub fn read_with(table: &Table, config: &ForecastConfig, frame: &Frame) -> Result<Self, TrainError> {
        let (groups, clock, step) = grouped(table, &config.columns)?;
        if step != frame.step || clock.is_time() != frame.clock.is_time() {
            return Err(unusable(format!(
                "{}: its rows are {} apart, but the model was trained on steps of {}; give a table of that step",
                table.path().display(),
                step.written(clock),
                frame.step.written(frame.clock)
            )));
        }
        let start = groups.iter().map(|group| group.stamps[0]).min().unwrap_or(0);
        // Written as this table is.
        let frame = Frame { clock, ..frame.clone() };
        let places = Places::of(table, &config.columns)?;
        let mut dataset = Self::assemble(table, &places, frame, groups, start)?;
        for series in &mut dataset.series {
            let known = dataset.frame.scalers.get(&series.name);
            series.scalers = match known {
                Some(scalers) => scalers.clone(),
                None => {
                    dataset.unknown.push(series.name.clone());
                    let of = |target: usize| {
                        let values = series.values.iter().skip(target).step_by(dataset.targets).copied();
                        let scaler = Scaler::of(values.filter(|value| !value.is_nan()));
                        let scaler = scaler.unwrap_or(Scaler { mean: 0.0, deviation: 1.0 });
                        if scaler.deviation > 0.0 { scaler } else { Scaler { deviation: 1.0, ..scaler } }
                    };
                    (0..dataset.targets).map(of).collect()
                }
            };
        }
        Ok(dataset)
    }

    fn assemble(
        table: &Table,
        Places { targets, known, fixed }: &Places,
        frame: Frame,
        groups: Vec<Rows>,
        start: Stamp,
    ) -> Result<Self, TrainError> {
        // Said of a whole column before anything else is said of its parts.
        targets.iter().try_for_each(|column| table.numbers(*column).map(drop))?;
        let mut hash = crc32fast::Hasher::new();
        let mut all = Vec::new();
        for group in groups {
            let mut series = Series {
                offset: frame.step.between(start, group.stamps[0]) as usize,
                start: group.stamps[0],
                clocks: group.clocks,
                observed: 0,
                values: Vec::with_capacity(group.rows.len() * targets.len()),
                known: Vec::new(),
                fixed: Vec::new(),
                scalers: Vec::new(),
                name: group.name,
            };
            for (at, (&row, &stamp)) in group.rows.iter().zip(&group.stamps).enumerate() {
                for column in targets {
                    let value = table.number(row, *column)?;
                    if value.is_some() {
                        series.observed = at + 1;
                    }
                    series.values.push(value.unwrap_or(f64::NAN));
                }
                // The hour and the day are those of the wall's clock, which summer time puts forward.
                frame.cycles.iter().for_each(|cycle| cycle.append(stamp, series.clocks[at], &mut series.known));
                for (column, encoder) in known.iter().zip(&frame.known) {
                    encoder.append(table, row, *column, &mut series.known)?;
                }
                for (column, encoder) in fixed.iter().zip(&frame.fixed) {
                    if table.cell(row, *column) != table.cell(group.rows[0], *column) {
                        let why = format!(
                            "\"{}\" differs from \"{}\" on line {}, but a static column has one value for all rows of a series; name \
                             it with `known` if it is known ahead",
                            shortened(table.cell(row, *column)),
                            shortened(table.cell(group.rows[0], *column)),
                            table.line(group.rows[0])
                        );
                        return Err(table.error(row, *column, why).into());
                    }
                    if at == 0 {
                        encoder.append(table, row, *column, &mut series.fixed)?;
                    }
                }
            }
            if series.observed == 0 {
                let name = of_series(&series.name, "has");
                return Err(unusable(format!("{}: {name} no value at all; leave it out", table.path().display())));
            }
            hash.update(series.name.as_bytes());
            hash.update(&series.start.to_le_bytes());
            series.values.iter().for_each(|value| hash.update(&value.to_bits().to_le_bytes()));
            series.known.iter().chain(&series.fixed).for_each(|value| hash.update(&value.to_bits().to_le_bytes()));
            all.push(series);
        }
        let steps = all.iter().map(|series| series.offset + series.observed).max().unwrap_or(0);
        Ok(Self {
            frame,
            series: all,
            targets: targets.len(),
            cuts: [0, 0, steps],
            fingerprint: format!("{:08x}", hash.finalize()),
            unknown: Vec::new(),
        })
    }

    /// The values of a step that the calendar and the known columns give.
    pub fn known_width(&self) -> usize {
        let of = |encoders: &[Encoder]| encoders.iter().map(Encoder::width).sum::<usize>();
        self.frame.cycles.iter().map(|cycle| cycle.width()).sum::<usize>() + of(&self.frame.known)
    }

    /// The values that are fixed for a series.
    pub fn fixed_width(&self) -> usize {
        self.frame.fixed.iter().map(Encoder::width).sum()
    }

    /// Appends what the calendar says of the steps after a series' last row, so that so many of them after its observed ones are known.
    ///
    /// # Errors
    /// Known columns, whose values the table has to say.
    pub(crate) fn extend(&mut self, horizon: usize, path: &std::path::Path) -> Result<(), TrainError> {
        let (step, width) = (self.frame.step, self.known_width());
        for series in &mut self.series {
            let clock = series.clock(self.frame.clock, usize::MAX);
            let rows = series.values.len() / self.targets;
            if !self.frame.known.is_empty() && rows < series.observed + horizon {
                return Err(unusable(format!(
                    "{}: {} {} after its last value, but the known columns are needed for each of {} that are forecast; append rows with \
                     time stamps and those columns, and empty targets",
                    path.display(),
                    of_series(&series.name, "has"),
                    count(rows - series.observed, "row"),
                    count(horizon, "step")
                )));
            }
            for at in rows..series.observed + horizon {
                let stamp = step.after(series.start, at as i64);
                self.frame.cycles.iter().for_each(|cycle| cycle.append(stamp, clock, &mut series.known));
            }
            debug_assert!(width == 0 || series.known.len() >= (series.observed + horizon) * width);
        }
        Ok(())
    }
}

impl Series {
    /// How the stamp of a step is written: as its row's is; of one that is yet to come as that of the last, at its offset from UTC. `usual`: of a
    /// series without rows.
    pub(crate) fn clock(&self, usual: Clock, step: usize) -> Clock {
        self.clocks.get(step).or(self.clocks.last()).copied().unwrap_or(usual)
    }

    /// A value on the series' scale; not a number where it is missing.
    pub(crate) fn scaled(&self, step: usize, target: usize) -> f64 {
        self.scalers[target].scale(self.values[step * self.scalers.len() + target])
    }
}

impl Encoder {
    fn of(table: &Table, column: Column) -> Result<Self, DataError> {
        // Where most cells are numbers, text among them is a slip and no class.
        if table.is_mostly_numeric(column) {
            table.numbers(column)?;
            let values = (0..table.rows()).filter_map(|row| table.number(row, column).ok().flatten());
            let scaler = Scaler::of(values).unwrap_or(Scaler { mean: 0.0, deviation: 1.0 });
            let deviation = if scaler.deviation > 0.0 { scaler.deviation } else { 1.0 };
            return Ok(Self::Numbers(Scaler { deviation, ..scaler }));
        }
        let mut classes: Vec<String> = Vec::new();
        for row in 0..table.rows() {
            let text = table.cell(row, column).trim();
            if text.is_empty() {
                return Err(table.error(
                    row,
                    column,
                    "the value is missing, but a known or static column has to have one in every row",
                ));
            }
            if !classes.iter().any(|class| class == text) {
                if classes.len() == MOST_CLASSES {
                    let why = format!(
                        "it is text of more than {MOST_CLASSES} different values; give numbers, or leave it out"
                    );
                    return Err(table.error(row, column, why));
                }
                classes.push(text.to_owned());
            }
        }
        classes.sort();
        Ok(Self::Classes(classes))
    }

    /// The values that a cell becomes.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Numbers(_) => 1,
            Self::Classes(classes) => classes.len(),
        }
    }

    fn append(&self, table: &Table, row: usize, column: Column, to: &mut Vec<f32>) -> Result<(), DataError> {
        match self {
            Self::Numbers(scaler) => {
                let value = table.number(row, column)?;
                let missing = "the value is missing, but a known or static column has to have one in every row";
                to.push(scaler.scale(value.ok_or_else(|| table.error(row, column, missing))?) as f32);
            }
            Self::Classes(classes) => {
                let text = table.cell(row, column).trim();
                if !classes.iter().any(|class| class == text) {
                    let names: Vec<String> = classes.iter().take(10).map(|class| format!("\"{class}\"")).collect();
                    let why = format!(
                        "\"{}\" was not among the values that the model was trained with: {}",
                        shortened(text),
                        names.join(", ")
                    );
                    return Err(table.error(row, column, why));
                }
                to.extend(classes.iter().map(|class| if class == text { 1.0 } else { 0.0 }));
            }
        }
        Ok(())
    }
}

pub(crate) fn unusable(why: String) -> TrainError {
    TrainError::Unusable(why)
}

/// A series as a sentence names it.
pub(crate) fn of_series(name: &str, verb: &str) -> String {
    if name.is_empty() { format!("the series {verb}") } else { format!("the series \"{}\" {verb}", shortened(name)) }
}

/// The rows of each series, its stamps regular.
fn grouped(table: &Table, columns: &Columns) -> Result<(Vec<Rows>, Clock, Step), DataError> {
    let time = table.column(&columns.time)?;
    let (stamps, clocks) = table.stamps(time)?;
    let clock = clocks.first().copied().unwrap_or(Clock::Counter);
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    match &columns.series {
        None => drop(groups.insert(String::new(), (0..table.rows()).collect())),
        Some(name) => {
            let column = table.column(name)?;
            for row in 0..table.rows() {
                let name = table.cell(row, column).trim();
                if name.is_empty() {
                    return Err(table.error(row, column, "the name of the series is missing"));
                }
                groups.entry(name.to_owned()).or_default().push(row);
            }
        }
    }
    let mut found: Option<(Step, String)> = None;
    let mut all = Vec::new();
    for (name, rows) in groups {
        let stamps: Vec<Stamp> = rows.iter().map(|row| stamps[*row]).collect();
        let clocks: Vec<Clock> = rows.iter().map(|row| clocks[*row]).collect();
        let step = Step::find(&stamps, &clocks).map_err(|(at, why)| {
            let of = if name.is_empty() { String::new() } else { format!("series \"{}\": ", shortened(&name)) };
            table.error(rows[at], time, format!("{of}{why}"))
        })?;
        let (first, of) = found.get_or_insert((step, name.clone()));
        if *first != step {
            let why = format!(
                "the rows of the series \"{}\" are {} apart, those of \"{}\" {}; give tables of one step each",
                shortened(&name),
                step.written(clock),
                shortened(of),
                first.written(clock)
            );
            return Err(table.error(rows[1], time, why));
        }
        all.push(Rows { name, rows, stamps, clocks });
    }
    let step = found.map_or(Step::Seconds(1), |(step, _)| step);
    Ok((all, clock, step))
}

/// The steps after which training, validation and test end.
fn cuts(config: &ForecastConfig, steps: usize) -> Result<[usize; 3], TrainError> {
    let horizon = config.horizon;
    let least = least_context(config) + horizon;
    let parts: Vec<usize> = if config.is_in_percent() {
        let mut sum = 0;
        let ends = config.split.iter().map(|&part| {
            sum += part as usize;
            sum * steps / 100
        });
        ends.collect()
    } else {
        let mut sum = 0;
        let ends = config.split.iter().map(|&part| {
            sum += part as usize;
            sum
        });
        ends.collect()
    };
    let (train, valid, test) = (parts[0], parts[1], parts.get(2).copied().unwrap_or(parts[1]));
    if test > steps {
        return Err(unusable(format!(
            "`split` has {test} steps, but the table has {steps}; give fewer, or percentages"
        )));
    }
    let too_short = |what: &str, has: usize, needs: usize| {
        unusable(format!(
            "the {what} part has {has} of the table's {}, but a forecast of {horizon} needs {needs}; give a shorter `horizon`, another \
             `split`, or a longer table",
            count(steps, "step")
        ))
    };
    if train < least {
        return Err(too_short("training", train, least));
    }
    if valid - train < horizon {
        return Err(too_short("validation", valid - train, horizon));
    }
    if test > valid && test - valid < horizon {
        return Err(too_short("test", test - valid, horizon));
    }
    Ok([train, valid, test])
}

/// The steps that a window has to have before its horizon; those that are missing before them are masked.
pub(crate) fn least_context(config: &ForecastConfig) -> usize {
    if config.context == 0 { config.horizon } else { config.context.min(config.horizon) }
}

/// The split where nothing is said: percentages, but of a short table whole horizons at its end.
fn usual_split(steps: usize, horizon: usize) -> Vec<u32> {
    let [_, valid, test] = SPLIT.map(|share| (share as usize * steps / 100).max(horizon));
    if valid == SPLIT[1] as usize * steps / 100 || valid + test >= steps {
        return SPLIT.to_vec();
    }
    [steps - valid - test, valid, test].map(|part| part as u32).to_vec()
}

/// Refuses what is no count.
fn check_counts(table: &Table, targets: &[Column]) -> Result<(), DataError> {
    for &column in targets {
        for row in 0..table.rows() {
            if let Some(value) = table.number(row, column)?.filter(|value| *value < 0.0 || value.fract() != 0.0) {
                let why = format!(
                    "{value} is no count, as the likelihood negative-binomial has them: 0 or a whole number above; choose another \
                     `likelihood`"
                );
                return Err(table.error(row, column, why));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Hours from 15 March 2020 on by a clock of Berlin, put forward in the 338th of them.
    #[test]
    fn summer_time_moves_the_calendar_and_what_is_forecast_goes_on_in_it() {
        let row = |hour: usize| {
            let (wall, offset) = if hour < 338 { (hour, 1) } else { (hour + 1, 2) };
            let value = (hour * 7) % 11;
            format!("2020-03-{:02}T{:02}:00+0{offset}:00,{value}\n", 15 + wall / 24, wall % 24)
        };
        let text: String = ["time,value\n".to_owned()].into_iter().chain((0..400).map(row)).collect();
        let table = Table::parse(Path::new("table.csv"), text.as_bytes()).unwrap();
        let columns = Columns { time: "time".to_owned(), target: vec!["value".to_owned()], ..Columns::default() };
        let mut config = ForecastConfig::new(columns, 6, 24);
        let mut dataset = Dataset::read(&table, &mut config).unwrap();
        assert_eq!((dataset.frame.step, dataset.frame.cycles[0]), (Step::Seconds(3600), Cycle::Day));
        dataset.extend(6, Path::new("table.csv")).unwrap();
        let (series, width) = (&dataset.series[0], dataset.known_width());
        // The sine and cosine of noon on the day before, on the day after, and on that after the table's last row.
        let day = |hour: usize| &series.known[hour * width..hour * width + 4];
        let noon = 13 * 24 + 12;
        assert_eq!(day(noon), day(noon + 47));
        assert_eq!(day(noon + 7), day(402));
        let clock = dataset.frame.clock;
        let written =
            |hour: usize| series.clock(clock, hour).write(dataset.frame.step.after(series.start, hour as i64));
        assert_eq!([337, 338].map(written), ["2020-03-29T01:00+01:00", "2020-03-29T03:00+02:00"]);
        assert_eq!(written(400), "2020-03-31T17:00+02:00");
    }

    #[test]
    fn days_of_a_clock_that_changes_are_named_as_such() {
        let row = |day: usize| format!("2020-03-{day:02}T00:00+0{}:00,{day}\n", if day < 30 { 1 } else { 2 });
        let text: String = ["time,value\n".to_owned()].into_iter().chain((1..=31).map(row)).collect();
        let table = Table::parse(Path::new("table.csv"), text.as_bytes()).unwrap();
        let columns = Columns { time: "time".to_owned(), target: vec!["value".to_owned()], ..Columns::default() };
        let error = Dataset::read(&table, &mut ForecastConfig::new(columns, 2, 4)).unwrap_err().to_string();
        assert!(error.contains("line 31, column \"time\"") && error.contains("write the dates alone"), "{error}");
    }
}
