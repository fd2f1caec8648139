//! What is counted, and how Prometheus reads it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Upper bounds of the times that are counted, in seconds.
const BOUNDS: [f64; 15] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// How often times fell below each bound.
#[derive(Debug, Default)]
pub(crate) struct Times {
    below: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Times {
    pub(crate) fn note(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.below[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// The mean, in seconds; 0 of none.
    pub(crate) fn mean(&self) -> f64 {
        self.nanoseconds.load(Ordering::Relaxed) as f64 * 1e-9 / self.count.load(Ordering::Relaxed).max(1) as f64
    }
}

/// What is counted of one model.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    /// Texts that are being written, and that wait.
    pub(crate) running: AtomicUsize,
    pub(crate) waiting: AtomicUsize,
    /// Texts that were begun; that ended by themselves; whose client went away; that took too long.
    pub(crate) begun: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) gone: AtomicU64,
    pub(crate) late: AtomicU64,
    /// Requests that there was no room for.
    pub(crate) refused: AtomicU64,
    /// Tokens of prompts that were read, and that were not because their state was kept.
    pub(crate) read: AtomicU64,
    pub(crate) reused: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) steps: AtomicU64,
    /// The states that are kept.
    pub(crate) prefixes: AtomicUsize,
    pub(crate) prefix_bytes: AtomicUsize,
    /// From the arrival of a request to its first token; between two tokens; of a step; of a whole text.
    pub(crate) first_token: Times,
    pub(crate) between_tokens: Times,
    pub(crate) step: Times,
    pub(crate) text: Times,
}

/// The answer to `/metrics`: every model by its name.
pub(crate) fn prometheus(models: &[(&str, &Measures)]) -> String {
    let mut out = String::new();
    let mut single = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Measures) -> u64| {
        let _ = writeln!(out, "# HELP lstm_{name} {help}\n# TYPE lstm_{name} {kind}");
        for (model, measures) in models {
            let _ = writeln!(out, "lstm_{name}{{model=\"{}\"}} {}", escaped(model), value(measures));
        }
    };
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let size = |gauge: &AtomicUsize| gauge.load(Ordering::Relaxed) as u64;
    single("texts_running", "gauge", "Texts that are being written.", &|m| size(&m.running));
    single("texts_waiting", "gauge", "Texts that wait for a place.", &|m| size(&m.waiting));
    single("texts_begun_total", "counter", "Texts that were begun.", &|m| load(&m.begun));
    single("texts_finished_total", "counter", "Texts that came to their end.", &|m| load(&m.finished));
    single("texts_abandoned_total", "counter", "Texts whose client went away.", &|m| load(&m.gone));
    single("texts_late_total", "counter", "Texts that took too long.", &|m| load(&m.late));
    single("requests_refused_total", "counter", "Requests there was no room for.", &|m| load(&m.refused));
    single("prompt_tokens_total", "counter", "Tokens of prompts that were read.", &|m| load(&m.read));
    single("prompt_tokens_reused_total", "counter", "Tokens of prompts whose state was kept.", &|m| load(&m.reused));
    single("tokens_total", "counter", "Tokens that were written.", &|m| load(&m.written));
    single("steps_total", "counter", "Steps of the model.", &|m| load(&m.steps));
    single("prefixes", "gauge", "States that are kept.", &|m| size(&m.prefixes));
    single("prefix_bytes", "gauge", "Bytes of the states that are kept.", &|m| size(&m.prefix_bytes));
    type Of = fn(&Measures) -> &Times;
    let times: [(&str, &str, Of); 4] = [
        ("first_token_seconds", "From the arrival of a request to its first token.", |m| &m.first_token),
        ("between_tokens_seconds", "Between two tokens of a text.", |m| &m.between_tokens),
        ("step_seconds", "A step of the model with all its texts.", |m| &m.step),
        ("text_seconds", "From the arrival of a request to its end.", |m| &m.text),
    ];
    for (name, help, of) in times {
        let _ = writeln!(out, "# HELP lstm_{name} {help}\n# TYPE lstm_{name} histogram");
        for (model, measures) in models {
            let (model, times) = (escaped(model), of(measures));
            let mut below = 0;
            for (bound, count) in BOUNDS.iter().zip(&times.below) {
                below += load(count);
                let _ = writeln!(out, "lstm_{name}_bucket{{model=\"{model}\",le=\"{bound}\"}} {below}");
            }
            // What is noted meanwhile must not make a smaller count than its parts.
            let count = load(&times.count).max(below);
            let sum = load(&times.nanoseconds) as f64 * 1e-9;
            let _ = writeln!(out, "lstm_{name}_bucket{{model=\"{model}\",le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "lstm_{name}_sum{{model=\"{model}\"}} {sum}");
            let _ = writeln!(out, "lstm_{name}_count{{model=\"{model}\"}} {count}");
        }
    }
    out
}

/// A label's value as the format has it.
fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_below_their_bounds() {
        let measures = Measures::default();
        for seconds in [0.0004, 0.003, 0.003, 100.0] {
            measures.step.note(Duration::from_secs_f64(seconds));
        }
        let text = prometheus(&[("a\"b", &measures)]);
        for line in [
            "lstm_step_seconds_bucket{model=\"a\\\"b\",le=\"0.0005\"} 1",
            "lstm_step_seconds_bucket{model=\"a\\\"b\",le=\"0.004\"} 3",
            "lstm_step_seconds_bucket{model=\"a\\\"b\",le=\"60\"} 3",
            "lstm_step_seconds_bucket{model=\"a\\\"b\",le=\"+Inf\"} 4",
            "lstm_step_seconds_count{model=\"a\\\"b\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!((measures.step.mean() - 25.0016).abs() < 1e-3);
    }
}
