//! The thread of a model: it takes texts in, writes them all side by side, and hands pieces out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use lstm::generate::{Rules, Stops, Token, WriterId, Writers, Writing};
use lstm::nn::config::ConfigError;
use lstm::run::saved::LoadedRun;
use tokio::sync::mpsc;

use crate::measures::Measures;
use crate::settings::Settings;
use crate::text::{Piece, Text};

/// How long a text whose time is over waits for its client to read on, to be told of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the thread sleeps when every reader is slower than the model.
const PAUSE: Duration = Duration::from_millis(2);

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A stop text came.
    Stop,
    /// All its tokens were written, or its time was over.
    Length,
}

/// What an engine says about a text.
#[derive(Debug)]
pub(crate) enum Message {
    /// It has a place.
    Begun,
    /// Some of it, and its end with the last.
    Piece(Piece, Option<End>),
    /// It cannot be written, for this reason.
    Refused(String),
    /// Its time was over before it had a place.
    Late,
}

/// A text that is asked for.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) writing: Writing,
    /// The text of its prompt.
    pub(crate) prompt: String,
    pub(crate) stops: Stops,
    /// Whether its tokens are handed out beside the text.
    pub(crate) shows: bool,
    /// Its number among the texts of a request, which share a channel.
    pub(crate) index: usize,
    /// The texts of that request: so much room the channel needs for a step.
    pub(crate) texts: usize,
    pub(crate) to: mpsc::Sender<(usize, Message)>,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Instant,
    /// Its place among those that wait.
    pub(crate) waits: Waiting,
}

/// A place among those that wait, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Measures>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A model that is served.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) name: String,
    pub(crate) model: Arc<LoadedRun>,
    pub(crate) measures: Arc<Measures>,
    /// The bytes that the state after a prefix takes without its tokens.
    pub(crate) state_bytes: usize,
    jobs: Sender<Job>,
    rows: usize,
    most_waiting: usize,
}

impl Engine {
    /// Starts the thread of a model.
    pub(crate) fn start(name: String, model: LoadedRun, settings: &Settings) -> Result<Self, ConfigError> {
        let (model, measures) = (Arc::new(model), Arc::new(Measures::default()));
        let Settings { rows, waiting, prefix_bytes, .. } = *settings;
        // Whether it can be written with shows here, not in its thread.
        let state_bytes = writers(&model, 1, 0)?.prefix_bytes(0);
        let (jobs, taken) = std::sync::mpsc::channel();
        let (own, counted) = (model.clone(), measures.clone());
        let work = move || {
            if let Ok(writers) = writers(&own, rows, prefix_bytes) {
                Work::new(&own, &counted, writers).run(&taken);
            }
        };
        std::thread::Builder::new()
            .name(format!("model {name}"))
            .spawn(work)
            .map_err(|error| ConfigError::Conflict(format!("the system gives no thread for a model: {error}")))?;
        Ok(Self { name, model, measures, state_bytes, jobs, rows, most_waiting: waiting })
    }

    /// Places for `count` texts among those that wait, or after how many seconds there may be some.
    pub(crate) fn reserve(&self, count: usize) -> Result<Vec<Waiting>, u64> {
        let waiting = &self.measures.waiting;
        let room = |now: usize| (now + count <= self.most_waiting + self.free()).then_some(now + count);
        if waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_err() {
            self.measures.refused.fetch_add(1, Ordering::Relaxed);
            let ahead = waiting.load(Ordering::Relaxed) as f64 / self.rows as f64 + 1.0;
            return Err((ahead * self.measures.text.mean()).ceil() as u64);
        }
        Ok((0..count).map(|_| Waiting(self.measures.clone())).collect())
    }

    /// The places of the model that nobody has.
    fn free(&self) -> usize {
        self.rows.saturating_sub(self.measures.running.load(Ordering::Relaxed))
    }

    /// The most texts that one request can have.
    pub(crate) fn most_texts(&self) -> usize {
        self.rows
    }

    /// Hands a text in.
    pub(crate) fn submit(&self, job: Job) {
        // A thread that ended drops it, which its client sees.
        let _ = self.jobs.send(job);
    }
}

fn writers(model: &LoadedRun, rows: usize, prefix_bytes: usize) -> Result<Writers<'_>, ConfigError> {
    Writers::new(&model.model, &model.params, Rules::of(model), rows, prefix_bytes)
}

/// A model at work.
struct Work<'a> {
    model: &'a LoadedRun,
    measures: &'a Measures,
    writers: Writers<'a>,
    waiting: VecDeque<Job>,
    live: HashMap<WriterId, Live<'a>>,
}

/// A text that is being written.
struct Live<'a> {
    text: Text<'a>,
    index: usize,
    texts: usize,
    to: mpsc::Sender<(usize, Message)>,
    arrived: Instant,
    deadline: Instant,
    /// When its last token came.
    last: Option<Instant>,
    is_held: bool,
}

impl<'a> Work<'a> {
    fn new(model: &'a LoadedRun, measures: &'a Measures, writers: Writers<'a>) -> Self {
        Self { model, measures, writers, waiting: VecDeque::new(), live: HashMap::new() }
    }

    /// Works until nobody can ask any more and all is written.
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            if self.live.is_empty() && self.waiting.is_empty() {
                let Ok(job) = jobs.recv() else { return };
                self.waiting.push_back(job);
            }
            while let Ok(job) = jobs.try_recv() {
                self.waiting.push_back(job);
            }
            let now = Instant::now();
            self.look_after(now);
            self.admit();
            if self.writers.can_step() {
                self.step();
            } else if !self.live.is_empty() {
                // Every reader is behind.
                std::thread::sleep(PAUSE);
            }
            self.count();
        }
    }

    /// Ends texts whose client went away or whose time is over, and lets those wait whose client does not keep up.
    fn look_after(&mut self, now: Instant) {
        let (writers, measures) = (&mut self.writers, self.measures);
        self.live.retain(|&id, live| {
            if live.to.is_closed() {
                measures.gone.fetch_add(1, Ordering::Relaxed);
                writers.end(id);
                measures.running.fetch_sub(1, Ordering::Relaxed);
                return false;
            }
            if now >= live.deadline {
                // One whose client has yet to read what there is room for writes no more, and is told when there is.
                if live.to.capacity() == 0 && now < live.deadline + PATIENCE {
                    live.is_held = true;
                    writers.hold(id, true);
                    return true;
                }
                measures.late.fetch_add(1, Ordering::Relaxed);
                measures.running.fetch_sub(1, Ordering::Relaxed);
                let _ = live.to.try_send((live.index, Message::Piece(live.text.finish(), Some(End::Length))));
                writers.end(id);
                return false;
            }
            let is_behind = live.to.capacity() < live.texts;
            if is_behind != live.is_held {
                live.is_held = is_behind;
                writers.hold(id, is_behind);
            }
            true
        });
        self.waiting.retain(|job| {
            if job.to.is_closed() {
                measures.gone.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            if now >= job.deadline {
                measures.late.fetch_add(1, Ordering::Relaxed);
                let _ = job.to.try_send((job.index, Message::Late));
                return false;
            }
            true
        });
    }

    /// Gives those that waited longest the places that are free.
    fn admit(&mut self) {
        while self.writers.has_room() {
            let Some(job) = self.waiting.pop_front() else { break };
            let Job { writing, prompt, stops, shows, index, texts, to, arrived, deadline, waits } = job;
            let echoes = writing.echo;
            match self.writers.begin(writing) {
                Ok(id) => {
                    let _ = to.try_send((index, Message::Begun));
                    let text = Text::new(&self.model.tokenizer, &prompt, stops, echoes, shows);
                    let live = Live { text, index, texts, to, arrived, deadline, last: None, is_held: false };
                    self.live.insert(id, live);
                    self.measures.begun.fetch_add(1, Ordering::Relaxed);
                    self.measures.running.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    let _ = to.try_send((index, Message::Refused(error.to_string())));
                }
            }
            drop(waits);
        }
    }

    fn step(&mut self) {
        let begun = Instant::now();
        let Self { writers, live, measures, .. } = self;
        let mut stopped = Vec::new();
        writers.step(&mut |token: Token| {
            let (id, is_last, is_prompt) = (token.writer, token.is_last, token.is_prompt);
            let Some(own) = live.get_mut(&id) else { return };
            let now = Instant::now();
            match own.last.replace(now) {
                Some(last) => measures.between_tokens.note(now - last),
                None => measures.first_token.note(now - own.arrived),
            }
            measures.written.fetch_add(u64::from(!is_prompt), Ordering::Relaxed);
            let (mut piece, stops) = own.text.push(token);
            let end = match (stops, is_last) {
                (true, _) => Some(End::Stop),
                (false, true) => Some(End::Length),
                (false, false) => None,
            };
            if end == Some(End::Length) {
                let rest = own.text.finish();
                piece.text.push_str(&rest.text);
                piece.tokens.extend(rest.tokens);
            }
            if end.is_some() {
                // Before it is told, so that who hears of it and asks again finds the place free.
                measures.running.fetch_sub(1, Ordering::Relaxed);
                measures.finished.fetch_add(1, Ordering::Relaxed);
                measures.text.note(now - own.arrived);
            }
            // A closed channel is found before the next step; room there is, for who is behind was made to wait.
            let _ = own.to.try_send((own.index, Message::Piece(piece, end)));
            if end.is_some() {
                live.remove(&id);
                if !is_last {
                    stopped.push(id);
                }
            }
        });
        stopped.into_iter().for_each(|id| writers.end(id));
        measures.step.note(begun.elapsed());
    }

    fn count(&self) {
        let (measures, writers) = (self.measures, &self.writers);
        let (read, reused) = writers.prompt_tokens();
        measures.read.store(read, Ordering::Relaxed);
        measures.reused.store(reused, Ordering::Relaxed);
        measures.steps.store(writers.steps(), Ordering::Relaxed);
        store(&measures.prefixes, writers.prefixes().len());
        store(&measures.prefix_bytes, writers.prefixes().bytes());
    }
}

fn store(gauge: &AtomicUsize, value: usize) {
    gauge.store(value, Ordering::Relaxed);
}
