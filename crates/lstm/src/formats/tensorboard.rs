//! TensorBoard's event files: a trainer's events as curves, in a folder of their own.
//!
//! A file is a row of records: the length, a checksum of it, a message `Event`, a checksum of that (CRC-32C, rotated and shifted). The
//! messages are written here by hand, the few fields that curves need; `prost` makes the bytes, and reads them again when a run is resumed.
//!
//! Every session of a run has a file, numbered, since TensorBoard reads files in the order of their names and the last one as it grows. What
//! earlier sessions wrote beyond the checkpoint is cut off before a run goes on, so the files hold every point once, whoever reads them.
//! A TensorBoard that has read it already has to drop it by itself: the Python reader does at a `SessionLog` START, the Rust one where a
//! curve's steps go back.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

use super::{FormatError, Partial, disk};
use crate::model::Loss;
use crate::run::task_kind::TaskKind;
use crate::train::event::Event;

/// Steps between two points of a curve that has one for steps: a record is some 250 bytes.
const STEPS_PER_POINT: u64 = 10;

/// How the names begin and end; between them stands the session's number.
const FIRST_OF_NAME: &str = "events.out.tfevents.";
const LAST_OF_NAME: &str = ".lstm";

/// What TensorBoard takes a file for an event file by.
const INFIX: &str = "tfevents";

/// The version from which on TensorBoard heeds a START.
const VERSION: &str = "brain.Event:2";

/// `tensorflow.Event`, with the fields that are used.
#[derive(Clone, PartialEq, Message)]
struct Record {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Point>,
}

/// `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, Message)]
struct Point {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// `tensorflow.SessionLog`.
#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
    /// The run's name, by which another run's curves are noticed.
    #[prost(string, tag = "3")]
    msg: String,
}

/// `SessionLog.START`.
const START: i32 = 1;

/// The checksum of a record's parts.
fn checksum(bytes: &[u8]) -> u32 {
    const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    CASTAGNOLI.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The bytes of a record.
fn framed(record: &Record) -> Vec<u8> {
    let message = record.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    let parts: [&[u8]; 4] = [&length, &checksum(&length).to_le_bytes(), &message, &checksum(&message).to_le_bytes()];
    parts.concat()
}

/// The next record of a file with `left` bytes, and its length there; `None` where none is whole, at which TensorBoard stops too.
fn next(file: &mut impl Read, left: u64) -> io::Result<Option<(Record, u64)>> {
    const AROUND: u64 = 16;
    if left < AROUND {
        return Ok(None);
    }
    let mut head = [0; 12];
    file.read_exact(&mut head)?;
    let (length, sum) = head.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
    if checksum(&head[..8]).to_le_bytes() != sum || length > left - AROUND {
        return Ok(None);
    }
    let mut bytes = vec![0; length as usize + 4];
    file.read_exact(&mut bytes)?;
    let (message, sum) = bytes.split_at(length as usize);
    if checksum(message).to_le_bytes() != sum {
        return Ok(None);
    }
    Ok(Record::decode(message).ok().map(|record| (record, length + AROUND)))
}

/// Curves of a run in a folder: loss and perplexity of training, validation and test, the learning rate, the gradient's norm, the speed.
///
/// ```no_run
/// # fn train(trainer: &mut lstm::Trainer) -> Result<(), Box<dyn std::error::Error>> {
/// use lstm::formats::tensorboard::Curves;
///
/// let mut curves = Curves::open("curves".as_ref(), false)?;
/// curves.begin(trainer.folder(), trainer.step())?;
/// let mut observer = |event: &_| curves.record(event).unwrap_or_else(|error| eprintln!("{error}"));
/// trainer.run(&mut observer, None)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Curves {
    folder: PathBuf,
    task: TaskKind,
    /// The session's file, and how long it is without what was written in part.
    file: Option<(PathBuf, File, u64)>,
    /// The last step of each curve.
    last: HashMap<String, u64>,
}

impl Curves {
    /// Sees that the folder can be written, or made, before a run is begun or, if it `resumes`, gone on with. It leaves nothing there yet.
    ///
    /// # Errors
    /// A folder that cannot be written, or with event files that would be drawn as one with the run's.
    pub fn open(folder: &Path, resumes: bool) -> Result<Self, FormatError> {
        let task = TaskKind::Language;
        let curves = Self { folder: folder.to_owned(), task, file: None, last: HashMap::new() };
        if folder.is_dir() {
            let names = curves.names()?;
            if let Some(name) = names.iter().find(|name| !resumes || number(name).is_none()) {
                return Err(conflict(folder, format!("it has event files already ({name})")));
            }
        }
        // What may make a file in a folder may make folders in it.
        let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new(""));
        let probe = Partial::beside(&there.join("events.out"));
        disk::create(&probe.0).map_err(|source| FormatError::Write { path: folder.to_owned(), source })?;
        Ok(curves)
    }

    /// The same of a run of this task: of language alone losses are perplexities too.
    #[must_use]
    pub fn of_task(self, task: TaskKind) -> Self {
        Self { task, ..self }
    }

    /// Makes the folder and those around it that are missing.
    fn make_folder(&self) -> Result<(), FormatError> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<&Path> = self.folder.ancestors().take_while(is_missing).collect();
        for path in missing.into_iter().rev() {
            match disk::create_folder(path) {
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
                made => made.map_err(|source| FormatError::Write { path: path.to_owned(), source })?,
            }
        }
        Ok(())
    }

    /// The names of the event files, sorted as TensorBoard sorts them.
    fn names(&self) -> Result<Vec<String>, FormatError> {
        let trouble = |source| FormatError::Read { path: self.folder.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(trouble)? {
            let name = entry.map_err(trouble)?.file_name().to_string_lossy().into_owned();
            if name.contains(INFIX) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Begins a session of the run in the folder `run` after `step`: cuts off what earlier ones recorded beyond it, which a kill may have left
    /// behind the checkpoint, and makes a new file.
    ///
    /// # Errors
    /// Files that cannot be read or written, or are of a run of another name.
    pub fn begin(&mut self, run: &Path, step: u64) -> Result<(), FormatError> {
        let run = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
        let run = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.make_folder()?;
        let names = self.names()?;
        // Every file is looked at before one is changed.
        let mut cuts = Vec::new();
        for name in &names {
            let path = self.folder.join(name);
            cuts.extend(self.look_at(&path, &run, step)?.map(|length| (path, length)));
        }
        for (path, length) in cuts {
            disk::shorten(&path, length).map_err(|source| FormatError::Write { path, source })?;
        }
        let session = names.iter().filter_map(|name| number(name)).max().map_or(0, |last| last.saturating_add(1));
        let path = self.folder.join(format!("{FIRST_OF_NAME}{session:010}{LAST_OF_NAME}"));
        let made = disk::create_new(&path).and_then(|()| disk::open_end(&path));
        let file = made.map_err(|source| FormatError::Write { path: path.clone(), source })?;
        self.file = Some((path, file, 0));
        self.append(Record { file_version: Some(VERSION.to_owned()), ..record(0) })?;
        // It drops the points at its own step, too. TensorBoard's server takes the first START for the run's beginning and drops nothing, so the
        // first session has one as well.
        self.append(Record {
            session_log: Some(SessionLog { status: START, msg: run }),
            ..record(step.saturating_add(1))
        })
    }

    /// Notes the last step of each curve in a file up to `step`, and gives where to cut what lies beyond.
    fn look_at(&mut self, path: &Path, run: &str, step: u64) -> Result<Option<u64>, FormatError> {
        let trouble = |source| FormatError::Read { path: path.to_owned(), source };
        let file = super::open(path)?;
        let length = file.metadata().map_err(trouble)?.len();
        let mut file = BufReader::new(file);
        let mut kept = 0;
        while let Some((record, bytes)) = next(&mut file, length - kept).map_err(trouble)? {
            if let Some(of) = record.session_log.filter(|log| log.msg != run) {
                return Err(conflict(&self.folder, format!("it has the curves of the run {}, not of {run}", of.msg)));
            }
            let at = u64::try_from(record.step).unwrap_or_default();
            if let Some(summary) = record.summary {
                if at > step {
                    break;
                }
                self.last.extend(summary.value.into_iter().map(|point| (point.tag, at)));
            }
            kept += bytes;
        }
        Ok((kept < length).then_some(kept))
    }

    /// Records an event. What could not be written leaves nothing, so that later events can be once there is space again.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn record(&mut self, event: &Event) -> Result<(), FormatError> {
        let is_language = self.task == TaskKind::Language;
        let both = |name: &str, loss: Loss| {
            let perplexity = is_language.then(|| (format!("perplexity/{name}"), loss.perplexity()));
            [(format!("loss/{name}"), loss.mean())].into_iter().chain(perplexity).collect::<Vec<_>>()
        };
        let (step, mut points) = match event {
            Event::Started { .. } | Event::Evaluating { .. } | Event::Averaging { .. } => return Ok(()),
            Event::Gates { .. } | Event::Sampled { .. } => return Ok(()),
            Event::Step { step, .. } if step % STEPS_PER_POINT != 0 => return Ok(()),
            Event::Step { step, loss, norm, rate, tokens_per_second, .. } => {
                let speed = format!("{}_per_second", self.task.counted());
                let points = [
                    ("loss/train", *loss),
                    ("learning_rate", f64::from(*rate)),
                    ("gradient_norm", *norm),
                    (speed.as_str(), *tokens_per_second),
                ];
                let perplexity = is_language.then(|| ("perplexity/train", loss.exp()));
                let points = points.into_iter().chain(perplexity);
                (*step, points.map(|(tag, value)| (tag.to_owned(), value)).collect())
            }
            Event::Validated { step, train, valid, .. } => {
                let valid = valid.map(|loss| both("valid", loss));
                (*step, both("train_epoch", *train).into_iter().chain(valid.into_iter().flatten()).collect())
            }
            Event::EpochEnded { step, train, .. } => (*step, both("train_epoch", *train)),
            Event::Tested { step, test } => (*step, both("test", *test)),
        };
        // A validation or a test that was recorded but not noted in a checkpoint comes out again as it was.
        points.retain(|(tag, _)| self.last.get(tag).is_none_or(|last| *last < step));
        if points.is_empty() {
            return Ok(());
        }
        let point = |(tag, value): &(String, f64)| Point { tag: tag.clone(), simple_value: Some(*value as f32) };
        let value = points.iter().map(point).collect();
        self.append(Record { summary: Some(Summary { value }), ..record(step) })?;
        self.last.extend(points.into_iter().map(|(tag, _)| (tag, step)));
        Ok(())
    }

    /// Writes a record whole or not at all.
    fn append(&mut self, record: Record) -> Result<(), FormatError> {
        let Some((path, file, length)) = &mut self.file else { return Ok(()) };
        let bytes = framed(&record);
        // Nothing waits in the program: a kill takes at most the record that is being written.
        match disk::append(file, &bytes).and_then(|()| file.flush()) {
            Ok(()) => *length += bytes.len() as u64,
            Err(source) => {
                let _ = file.set_len(*length);
                return Err(FormatError::Write { path: path.clone(), source });
            }
        }
        Ok(())
    }
}

/// An empty record of now.
fn record(step: u64) -> Record {
    let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Record { wall_time, step: i64::try_from(step).unwrap_or(i64::MAX), ..Record::default() }
}

/// The session's number in a name of ours.
fn number(name: &str) -> Option<u32> {
    name.strip_prefix(FIRST_OF_NAME)?.strip_suffix(LAST_OF_NAME)?.parse().ok()
}

fn conflict(folder: &Path, what: String) -> FormatError {
    let why = format!("{what}, and TensorBoard would draw both as one; name another folder");
    FormatError::Conflict { path: folder.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Event {
        Event::Step {
            epoch: 0,
            step,
            of_epoch: (1, 100),
            loss: 2.0,
            epoch_loss: 2.0,
            norm: 0.5,
            rate: 0.1,
            tokens_per_second: 100.0,
            progress: 0.1,
            tokens: (1, 1),
            seconds: 1.0,
        }
    }

    fn validated(step: u64) -> Event {
        let loss = Loss { nll: 2.0, tokens: 2 };
        Event::Validated { epoch: 0, step, train: loss, valid: Some(loss), best: true, seconds: 1.0 }
    }

    /// The steps of a curve in the files of a folder.
    fn steps(folder: &Path, tag: &str) -> Vec<u64> {
        let curves = Curves::open(folder, true).unwrap();
        let mut steps = Vec::new();
        for name in curves.names().unwrap() {
            let bytes = fs::read(folder.join(name)).unwrap();
            let mut rest = &bytes[..];
            while let Some((record, _)) = {
                let left = rest.len() as u64;
                next(&mut rest, left).unwrap()
            } {
                let points = record.summary.unwrap_or_default().value;
                steps.extend(points.iter().filter(|point| point.tag == tag).map(|_| record.step as u64));
            }
            assert!(rest.is_empty(), "{} bytes are no record", rest.len());
        }
        steps
    }

    fn session(folder: &Path, from: u64, events: &[Event]) -> Curves {
        let mut curves = Curves::open(folder, from > 0).unwrap();
        curves.begin("runs/a".as_ref(), from).unwrap();
        for event in events {
            curves.record(event).unwrap();
        }
        curves
    }

    #[test]
    fn the_checksum_is_castagnolis_masked() {
        // RFC 3720, B.4: 32 bytes of zeros have the CRC 8a9136aa.
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn a_resumed_run_has_every_point_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        session(path, 0, &[step(10), step(15), step(20), validated(20), step(30), validated(30)]);
        // The checkpoint was of step 20, before its validation was noted.
        session(path, 20, &[validated(20), step(30), step(40)]);
        assert_eq!(steps(path, "loss/train"), [10, 20, 30, 40]);
        assert_eq!(steps(path, "perplexity/valid"), [20]);
        // Half a record, as a kill leaves it.
        let last = path.join("events.out.tfevents.0000000001.lstm");
        let mut bytes = fs::read(&last).unwrap();
        bytes.extend(&framed(&record(50))[..15]);
        fs::write(&last, bytes).unwrap();
        session(path, 40, &[step(50)]);
        assert_eq!(steps(path, "loss/train"), [10, 20, 30, 40, 50]);
    }

    #[test]
    fn a_lying_length_a_flipped_bit_and_zeros_end_a_file() {
        let whole = framed(&record(7));
        let mut lying = u64::MAX.to_le_bytes().to_vec();
        lying.extend(checksum(&lying).to_le_bytes());
        lying.extend([0; 40]);
        assert!(next(&mut &lying[..], lying.len() as u64).unwrap().is_none());
        assert!(next(&mut &[0; 64][..], 64).unwrap().is_none());
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 4;
            assert!(next(&mut &broken[..], broken.len() as u64).unwrap().is_none(), "byte {at}");
            assert!(next(&mut &whole[..at], at as u64).unwrap().is_none(), "{at} bytes");
        }
        assert_eq!(next(&mut &whole[..], whole.len() as u64).unwrap().unwrap().0.step, 7);
    }

    #[test]
    fn the_curves_of_another_run_are_refused_and_left_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        drop(session(folder.path(), 0, &[step(10), step(20)]));
        let said = Curves::open(folder.path(), false).unwrap_err().to_string();
        assert!(said.contains("already") && said.contains("name another folder"), "{said}");
        let mut curves = Curves::open(folder.path(), true).unwrap();
        let said = curves.begin("runs/b".as_ref(), 10).unwrap_err().to_string();
        assert!(said.contains("the run a, not of b"), "{said}");
        assert_eq!(steps(folder.path(), "loss/train"), [10, 20]);
        fs::write(folder.path().join("events.out.tfevents.1764000000.host.1.0"), "").unwrap();
        assert!(Curves::open(folder.path(), true).unwrap_err().to_string().contains("host.1.0"));
    }

    #[test]
    fn nothing_is_left_before_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        drop(Curves::open(&path, false).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(session(&path, 0, &[]));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }
}
