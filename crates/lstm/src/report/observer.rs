//! The observer that keeps a run's `report.html` while it trains.

use std::time::{Duration, Instant};

use super::machine::Machine;
use super::run_page::{Facts, Results, Session, write_run_page};
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::train::event::Event;
use crate::train::task::Task;
use crate::train::trainer::Trainer;

/// The shortest time between two writings, and how many times as long as one writing takes: so they take at most a hundredth of it.
const SHORTEST: Duration = Duration::from_secs(2);
const TIMES_OF_WRITING: u32 = 100;

/// Between two writings while nothing but steps is new.
const OF_STEPS: Duration = Duration::from_secs(20);

/// The training after which the machine's peak is measured, which takes a quarter of a second.
const WORTH_A_PEAK: Duration = Duration::from_secs(30);

/// Writes the page of a run that trains: at its beginning and its end, after validations, and now and then.
///
/// ```no_run
/// # fn train(trainer: &mut lstm::Trainer) -> Result<(), Box<dyn std::error::Error>> {
/// use lstm::report::Report;
///
/// let mut report = Report::begin(trainer, None);
/// let outcome = trainer.run(&mut |event| report.record(event).unwrap_or_else(|error| eprintln!("{error}")), None)?;
/// report.finish()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Report {
    folder: RunFolder,
    facts: Facts,
    began: Instant,
    written: Instant,
    wait: Duration,
}

impl Report {
    /// The report of a run that is about to train. `command`: what repeats the run.
    pub fn begin(trainer: &Trainer, command: Option<String>) -> Self {
        let mut report = Self::begin_task(trainer, command);
        let data = trainer.data();
        if let Some(expected) = trainer.expected() {
            report.facts.set("expected before training, on the test text", expected.perplexity);
        }
        if let Some(trigram) = data.trigram {
            report.facts.set("Kneser-Ney trigram, on the test text", trigram);
        }
        if let Some(floor) = data.floor {
            report.facts.set(super::run_page::FLOOR, floor);
        }
        report
    }

    /// The same of a run of any task.
    pub fn begin_task<T: Task>(trainer: &Trainer<T>, command: Option<String>) -> Self {
        let folder = RunFolder(trainer.folder().to_owned());
        let mut facts = Facts::of(&folder);
        facts.command = command.or(facts.command);
        // What was trained after the checkpoint is trained again.
        facts.sessions.retain(|session| session.from < trainer.step());
        facts.sessions.push(Session { from: trainer.step(), machine: Machine::here() });
        // They are of a model that may no longer be the best when the run is over.
        facts.results.clear();
        let now = Instant::now();
        Self { folder, facts, began: now, written: now, wait: Duration::ZERO }
    }

    /// Takes an event, and writes the page if it is time to.
    ///
    /// # Errors
    /// A page that cannot be written; training can go on without it.
    pub fn record(&mut self, event: &Event) -> Result<(), TrainError> {
        let wait = match event {
            Event::Started { .. } => Duration::ZERO,
            Event::Sampled { .. } | Event::EpochEnded { .. } => self.wait,
            Event::Step { .. } => self.wait.max(OF_STEPS),
            _ => return Ok(()),
        };
        if self.written.elapsed() >= wait { self.write() } else { Ok(()) }
    }

    /// Writes the page of a run that has come to its end, for now or for good.
    ///
    /// # Errors
    /// A page that cannot be written.
    pub fn finish(&mut self) -> Result<(), TrainError> {
        self.write()
    }

    /// Notes how the best model did, and writes the page.
    ///
    /// # Errors
    /// A page that cannot be written.
    pub fn measured(&mut self, results: Vec<Results>) -> Result<(), TrainError> {
        self.facts.results = results;
        self.write()
    }

    fn write(&mut self) -> Result<(), TrainError> {
        let started = Instant::now();
        if let Some(session) = self.facts.sessions.last_mut()
            && session.machine.peak.is_none()
            && self.began.elapsed() > WORTH_A_PEAK
        {
            session.machine.peak = Some(crate::nn::precision::Precision::F32.peak_gflops());
        }
        let written = write_run_page(&self.folder, &self.facts);
        self.wait = SHORTEST.max(TIMES_OF_WRITING * started.elapsed());
        self.written = Instant::now();
        written
    }
}
