//! How training and long passes are watched: a live line on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lstm::model::Loss;
use lstm::train::event::Event;

use crate::output::{grouped, perplexity, seconds, talk};

/// Shows the events of a trainer, or how far a pass is, on standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    last: Instant,
    /// When the pass that is watched began, and its tokens done.
    started: Instant,
    done: usize,
    /// The seconds and the share done of the run after its first step here: a resumed run may be faster than it was.
    first_step: Option<(f64, f64)>,
}

impl Progress {
    /// A live line if standard error is a terminal.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1000);
            if let Ok(style) = ProgressStyle::with_template("{bar:20} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, last: Instant::now(), started: Instant::now(), done: 0, first_step: None }
    }

    /// Shows an event; steps only now and then.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Step { epoch, of_epoch, epoch_loss, tokens_per_second, progress, seconds: spent, .. } => {
                let Some((spent_before, before)) = self.first_step else {
                    self.first_step = Some((*spent, *progress));
                    return;
                };
                if !self.is_due() {
                    return;
                }
                let line = format!(
                    "epoch {} step {}/{}  loss {epoch_loss:.4}  perplexity {}  {} tokens/s  {} left",
                    epoch + 1,
                    of_epoch.0,
                    of_epoch.1,
                    perplexity(epoch_loss.exp()),
                    grouped(*tokens_per_second as u64),
                    left(spent - spent_before, progress - before, 1.0 - progress),
                );
                self.live(*progress, line);
            }
            Event::Validated { epoch, train, valid, best, .. } => {
                let valid = valid
                    .map_or("no validation text".to_owned(), |loss| format!("valid {}", perplexity(loss.perplexity())));
                let best = if *best { "  best, saved" } else { "" };
                self.say(&format!(
                    "epoch {:>3}  perplexity: train {}  {valid}{best}",
                    epoch + 1,
                    perplexity(train.perplexity())
                ));
            }
            Event::EpochEnded { epoch, train, .. } => {
                self.say(&format!("epoch {:>3}  perplexity: train {}", epoch + 1, perplexity(train.perplexity())));
            }
            Event::Averaging { step } => {
                self.say(&format!("averaging the weights from step {} on", grouped(*step)));
            }
            // The final table says it.
            Event::Tested { .. } => {}
        }
    }

    /// Shows how far a pass over a text is, now and then.
    pub fn pass(&mut self, what: &str, tokens: usize, of: usize, loss: Option<Loss>) {
        if tokens < self.done {
            (self.last, self.started) = (Instant::now(), Instant::now());
        }
        self.done = tokens;
        if !self.is_due() {
            return;
        }
        let share = tokens as f64 / of.max(1) as f64;
        let spent = self.started.elapsed().as_secs_f64();
        let loss = loss.map_or(String::new(), |loss| format!("  perplexity {}", perplexity(loss.perplexity())));
        let (done, of, left) = (grouped(tokens as u64), grouped(of as u64), left(spent, share, 1.0 - share));
        self.live(share, format!("{what}  {done}/{of} tokens{loss}  {left} left"));
    }

    /// Whether it is time for the next line that does not stay.
    fn is_due(&mut self) -> bool {
        let wait = if self.bar.is_some() { Duration::from_millis(100) } else { Duration::from_secs(10) };
        let due = self.last.elapsed() >= wait;
        if due {
            self.last = Instant::now();
        }
        due
    }

    /// Shows a line that does not stay on a terminal. progress: the share that is done.
    fn live(&self, progress: f64, line: String) {
        match &self.bar {
            Some(bar) => {
                bar.set_position((progress * 1000.0) as u64);
                bar.set_message(line);
            }
            None => talk(line),
        }
    }

    /// Says a line that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => talk(line),
        }
    }

    /// Takes the live line away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The time that the share `ahead` takes if the share `done` took so many seconds.
fn left(spent: f64, done: f64, ahead: f64) -> String {
    seconds(spent / done.max(1e-6) * ahead)
}
