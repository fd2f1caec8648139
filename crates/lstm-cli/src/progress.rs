//! How training and long passes are watched: a live line on a terminal, plain lines elsewhere, so that nothing is silent for
//! longer than two seconds.

use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lstm::model::Loss;
use lstm::train::event::Event;

use crate::output::{grouped, last_said, perplexity, seconds, talk};

/// The longest time without a line where nobody sees a live one, and the share of a training so far after which its steps
/// have another, within a bound.
const SILENCE: Duration = Duration::from_millis(1_800);
const SHARE_OF_TRAINING: f64 = 0.05;
const SILENCE_OF_TRAINING: Duration = Duration::from_secs(10);

/// How often a live line is drawn anew.
const REDRAWN: Duration = Duration::from_millis(100);

/// Shows the events of a trainer, or how far something else is, on standard error.
pub struct Progress {
    shown: Arc<(Mutex<Shown>, Condvar)>,
    /// When the pass that is watched began, and its tokens done.
    started: Instant,
    done: usize,
    /// The seconds and the share done of the run after its first step here: a resumed run may be faster than it was.
    first_step: Option<(f64, f64)>,
    /// The text that is being evaluated, while one is.
    evaluated: &'static str,
    /// What a loss is shown as: a name, and its value.
    figure: Figure,
}

/// The name of what a loss is shown as, and its value.
pub type Figure = (&'static str, fn(Loss) -> f64);

/// The stage that is going on.
struct Shown {
    bar: Option<ProgressBar>,
    /// The line that does not stay, and since when what it says is being done, where it does not say how far that is.
    line: String,
    since: Option<Instant>,
    wait: Duration,
    is_over: bool,
}

impl Shown {
    fn line(&self) -> String {
        match self.since {
            Some(since) if since.elapsed() >= Duration::from_secs(1) => {
                format!("{}, {} so far", self.line, seconds(since.elapsed().as_secs_f64()))
            }
            _ => self.line.clone(),
        }
    }
}

fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says what is being done whenever nothing was said for a while, also while a single call takes long.
fn watch(shown: &(Mutex<Shown>, Condvar)) {
    let (shown, changed) = shown;
    let mut now = lock(shown);
    while !now.is_over {
        if !now.line.is_empty() {
            match &now.bar {
                Some(bar) => {
                    bar.set_message(now.line());
                    bar.tick();
                }
                None => {
                    let silence = last_said().elapsed();
                    if silence >= now.wait {
                        talk(now.line());
                    }
                }
            }
        }
        now = changed.wait_timeout(now, REDRAWN).unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Progress {
    /// A live line if standard error is a terminal, that shows perplexities.
    pub fn new() -> Self {
        Self::of(("perplexity", |loss| loss.perplexity()))
    }

    /// The same that shows losses as this figure.
    pub fn of(figure: Figure) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1000);
            if let Ok(style) = ProgressStyle::with_template("{bar:20} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        let now = Instant::now();
        drop(last_said());
        let shown = Shown { bar, line: String::new(), since: None, wait: SILENCE, is_over: false };
        let shown = Arc::new((Mutex::new(shown), Condvar::new()));
        let watched = shown.clone();
        // Where the system gives no thread, the lines that stay are all there are.
        let _ = std::thread::Builder::new().spawn(move || watch(&watched));
        Self { shown, started: now, done: 0, first_step: None, evaluated: "", figure }
    }

    /// Something begins that may take more than a moment.
    pub fn stage(&self, what: impl Display) {
        let mut shown = lock(&self.shown.0);
        shown.line = what.to_string();
        (shown.since, shown.wait) = (Some(Instant::now()), SILENCE);
    }

    /// Shows an event; steps only now and then.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Step { epoch, of_epoch, epoch_loss, tokens_per_second, progress, seconds: spent, .. } => {
                let (spent_before, before) = *self.first_step.get_or_insert((*spent, *progress));
                self.evaluated = "validation";
                let line = format!(
                    "epoch {} step {}/{}  loss {epoch_loss:.4}{}  {} {}/s  {} left",
                    epoch + 1,
                    of_epoch.0,
                    of_epoch.1,
                    if self.is_language() {
                        format!("  perplexity {}", perplexity(epoch_loss.exp()))
                    } else {
                        String::new()
                    },
                    grouped(*tokens_per_second as u64),
                    self.positions(),
                    left(spent - spent_before, progress - before, 1.0 - progress),
                );
                let wait = Duration::from_secs_f64(SHARE_OF_TRAINING * spent).clamp(SILENCE, SILENCE_OF_TRAINING);
                self.live(*progress, line, wait);
            }
            Event::Started { .. } => self.stage("training"),
            Event::Evaluating { tokens, of } => self.pass(self.evaluated, *tokens, *of, None),
            Event::Validated { epoch, train, valid, best, .. } => {
                self.evaluated = "test";
                let without = if self.is_language() { "no validation text" } else { "nothing to watch" };
                let valid = valid.map_or(without.to_owned(), |loss| format!("valid {}", self.value(loss)));
                let best = if *best { "  best, saved" } else { "" };
                let (name, train) = (self.figure.0, self.value(*train));
                self.say(&format!("epoch {:>3}  {name}: train {train}  {valid}{best}", epoch + 1));
            }
            Event::EpochEnded { epoch, train, .. } => {
                self.say(&format!("epoch {:>3}  {}: train {}", epoch + 1, self.figure.0, self.value(*train)));
            }
            Event::Averaging { step } => {
                self.say(&format!("averaging the weights from step {} on", grouped(*step)));
            }
            // The final table says it.
            Event::Tested { .. } | Event::Gates { .. } | Event::Sampled { .. } => {}
        }
    }

    fn is_language(&self) -> bool {
        self.figure.0 == "perplexity"
    }

    /// What is predicted.
    fn positions(&self) -> &'static str {
        if self.is_language() { "tokens" } else { "predictions" }
    }

    /// A loss as it is shown.
    fn value(&self, loss: Loss) -> String {
        let value = (self.figure.1)(loss);
        if self.is_language() { perplexity(value) } else { format!("{value:.4}") }
    }

    /// Shows how far a pass over a text is, now and then.
    pub fn pass(&mut self, what: &str, tokens: usize, of: usize, loss: Option<Loss>) {
        if tokens < self.done {
            self.started = Instant::now();
        }
        self.done = tokens;
        let share = tokens as f64 / of.max(1) as f64;
        let spent = self.started.elapsed().as_secs_f64();
        let loss = loss.map_or(String::new(), |loss| format!("  perplexity {}", perplexity(loss.perplexity())));
        let (done, of, left) = (grouped(tokens as u64), grouped(of as u64), left(spent, share, 1.0 - share));
        self.live(share, format!("{what}  {done}/{of} {}{loss}  {left} left", self.positions()), SILENCE);
    }

    /// Shows how many bytes are done.
    pub fn bytes(&self, what: &str, done: usize, of: usize) {
        let (share, spent) = (done as f64 / of.max(1) as f64, self.started.elapsed().as_secs_f64());
        let left = left(spent, share, 1.0 - share);
        let line = format!("{what}  {}/{} bytes  {left} left", grouped(done as u64), grouped(of as u64));
        self.live(share, line, SILENCE);
    }

    /// Shows a line that does not stay on a terminal. progress: the share that is done; wait: for how long nothing else may be
    /// said.
    fn live(&self, progress: f64, line: String, wait: Duration) {
        let mut shown = lock(&self.shown.0);
        if shown.is_over {
            return;
        }
        (shown.line, shown.since, shown.wait) = (line, None, wait);
        if let Some(bar) = &shown.bar {
            bar.set_position((progress * 1000.0) as u64);
        }
    }

    /// Says a line that stays.
    pub fn say(&self, line: &str) {
        let shown = lock(&self.shown.0);
        match &shown.bar {
            Some(bar) => bar.println(line),
            None => talk(line),
        }
    }

    /// Takes the live line away.
    pub fn finish(&self) {
        let mut shown = lock(&self.shown.0);
        shown.is_over = true;
        if let Some(bar) = &shown.bar {
            bar.finish_and_clear();
        }
        self.shown.1.notify_all();
    }
}

/// Says what a call does while it takes long.
pub fn during<T>(what: impl Display, call: impl FnOnce() -> T) -> T {
    let progress = Progress::new();
    progress.stage(what);
    let result = call();
    progress.finish();
    result
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The time that the share `ahead` takes if the share `done` took so many seconds, to a tenth of one; before anything is done nothing is known of it.
fn left(spent: f64, done: f64, ahead: f64) -> String {
    if done > 0.0 { seconds((10.0 * spent / done * ahead).round() / 10.0) } else { "an unknown time".to_owned() }
}
