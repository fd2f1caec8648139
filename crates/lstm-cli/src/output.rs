//! The common parts of the subcommands: starting up, naming choices, printing results.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail};
use lstm::model::Loss;
use lstm::nn::precision::Precision;
use lstm::optim::parts::Frozen;
use lstm::run::config::RunConfig;
use lstm::run::expectation::Expectation;
use lstm::run::fine_tuning::FineTuning;
use lstm::run::training::Training;
use lstm::text::corpus::Corpus;
use serde_json::{Value, json};

use crate::{flags, stdin};

pub use lstm::said::{count, grouped, perplexity, seconds};

/// More threads than any machine of today has processors.
const MOST_THREADS: usize = 1024;

/// Uses `threads` threads, or as many as there are processors.
pub fn use_threads(threads: Option<usize>) -> Result<()> {
    if let Some(threads) = threads.filter(|threads| !(1..=MOST_THREADS).contains(threads)) {
        bail!("--threads is {threads}; it must be at least 1 and at most {MOST_THREADS}");
    }
    lstm::set_threads(threads.unwrap_or(0));
    Ok(())
}

/// Says a line to the person who watches, on standard error. One who has stopped listening (`lstm train … 2>&1 | head`)
/// stops nothing.
pub fn talk(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
    *last_said() = Instant::now();
}

/// When a line was said last; before the first, when this was asked first.
pub fn last_said() -> MutexGuard<'static, Instant> {
    static SAID: OnceLock<Mutex<Instant>> = OnceLock::new();
    SAID.get_or_init(|| Mutex::new(Instant::now())).lock().unwrap_or_else(PoisonError::into_inner)
}

/// A result as JSON; what the text it is of says too, where that is at hand.
pub fn loss_json(loss: Option<Loss>, corpus: Option<&Corpus>) -> Value {
    let Some(loss) = loss else { return Value::Null };
    json!({
        "perplexity": loss.perplexity(),
        "nll": loss.mean(),
        "tokens": loss.tokens,
        "word_perplexity": corpus.map(|corpus| corpus.word_perplexity(loss)),
        "bits_per_char": corpus.map(|corpus| corpus.bits_per_char(loss)),
        "unknown": corpus.map(|corpus| corpus.unknown),
        "spelling": corpus.map(|corpus| corpus.spelling),
    })
}

/// Why there is no figure of a text's words and characters.
pub const NO_SPELLING: &str = "some words are unknown, and this run has no model of how they are spelled (it is of an older \
                               version), without which a figure per word or character would be too good; train again for it";

/// Why there is no figure per word of a text that has one per character.
pub const NO_WORDS: &str = "no white space sets the words of this text apart";

/// A text's perplexity per word and bits per character, with what its unknown words have in them; or why there are none.
pub fn per_word(corpus: &Corpus, loss: Loss) -> String {
    let Some(bits) = corpus.bits_per_char(loss) else {
        return format!("per word   not known: {NO_SPELLING}");
    };
    let of_words = match corpus.word_perplexity(loss) {
        Some(of_words) => perplexity(of_words),
        None => format!("- ({NO_WORDS})"),
    };
    let spelled = corpus.spelling.unwrap_or(0.0) / corpus.characters.max(1) as f64 / std::f64::consts::LN_2;
    let spelled = match corpus.unknown {
        0 => String::new(),
        unknown => format!(", {spelled:.4} of them to spell out {}", count(unknown as u64, "unknown token")),
    };
    format!("per word   {of_words}, {bits:.4} bits a character{spelled}")
}

/// Which of its models a run keeps; of no step where no run trained it.
pub fn best(epoch: usize, step: u64) -> String {
    if step == 0 {
        return "converted, not trained here".to_owned();
    }
    format!("best after epoch {epoch}, step {}", grouped(step))
}

/// Said where a training perplexity is below what no model can beat.
pub const BELOW_FLOOR: &str = "below the floor, as these very sentences were learned by heart";

/// Where steps are taken: here, by this machine's unit, or wherever a run was trained, which may have been by another's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Here,
    Anywhere,
}

/// The batches of a training step.
pub fn batches(config: &RunConfig, taken: Taken) -> String {
    let RunConfig { batching, segment, training, .. } = config;
    let about = if config.variable_segment { "about " } else { "" };
    let rows = count(training.batch as u64, "row");
    format!("{batching}, {rows} of {about}{}{}", count(*segment as u64, "step"), of_a_step(training, taken))
}

/// The sequences of a training step.
pub fn sequences(training: &Training, taken: Taken) -> String {
    let of = if training.accumulate == 1 { "step" } else { "batch" };
    format!("{} a {of}{}", count(training.batch as u64, "sequence"), of_a_step(training, taken))
}

/// How a step is made of batches, where that needs saying.
fn of_a_step(training: &Training, taken: Taken) -> String {
    let Training { accumulate, shards, precision, .. } = training;
    let joined = if *accumulate == 1 { String::new() } else { format!(", {accumulate} batches a step") };
    let cut = shards.map_or(String::new(), |shards| format!(", in {}", count(shards as u64, "shard")));
    let precise = match precision {
        Precision::F32 => String::new(),
        rounded if taken == Taken::Here => format!(", products in {rounded} ({})", rounded.unit()),
        rounded => format!(", products in {rounded}"),
    };
    format!("{joined}{cut}{precise}")
}

/// Says it of a run in fewer bits where this machine has no instructions for them: its steps have the same bits, and take longer.
pub fn note_unit(precision: Precision) {
    if !precision.has_unit() {
        talk(format_args!(
            "note     products are in {precision}, for which {}, so that a step takes longer than one in f32 would",
            precision.who_has_no_unit()
        ));
    }
}

/// How a run learns, and whether its gradient is clipped.
pub fn learning(training: &Training) -> String {
    let clip = training.clip.map_or("not clipped".to_owned(), |clip| format!("clipped to {clip}"));
    format!("{}; gradient {clip}", training.learning())
}

/// Which parts are trained how, where that is not all of them alike. `unfreeze`: the epochs after which a part begins that lies below another.
pub fn parts(FineTuning { freeze, layer_rate_decay, .. }: &FineTuning, unfreeze: usize) -> Option<String> {
    let frozen = (*freeze != Frozen::default()).then(|| format!("{freeze} not trained"));
    let decay =
        (*layer_rate_decay != 1.0).then(|| format!("each at {layer_rate_decay} of the rate of the one above it"));
    let later = (unfreeze > 0).then(|| format!("each {} after the one above it", count(unfreeze as u64, "epoch")));
    let said: Vec<String> = [frozen, decay, later].into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// The bounds of a run, in words.
pub fn until(training: &Training) -> String {
    let patience = |patience: usize| format!("{} without a better validation", count(patience as u64, "epoch"));
    let bounds = [
        training.epochs.map(|epochs| count(epochs as u64, "epoch")),
        training.steps.map(|steps| count(steps, "step")),
        training.budget.map(seconds),
        training.patience.map(patience),
    ];
    bounds.into_iter().flatten().collect::<Vec<_>>().join(" or ")
}

/// The exit code of a failed command: nothing, if the reader has seen enough (`lstm generate … | head`), else the sentence
/// and 2.
pub fn failure(error: &anyhow::Error, commands: &clap::Command) -> ExitCode {
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        return ExitCode::SUCCESS;
    }
    // The library's errors say their cause in their own sentence; one of the system's alone is about standard output.
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => talk(format_args!("error: the result cannot be written: {error}")),
        None => talk(format_args!("error: {}", stdin::named(&flags::sentence(error, commands)))),
    }
    ExitCode::from(2)
}

/// A test perplexity that is expected, and the band that four of five runs end in.
pub fn band(expected: &Expectation) -> String {
    let Expectation { perplexity: middle, low, high, .. } = expected;
    let [middle, low, high] = [middle, low, high].map(|&value| match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => grouped(value.round() as u64),
    });
    format!("{middle} (80 %: {low} to {high})")
}

/// What came of what was expected.
pub fn came_of(expected: &Expectation, reached: f64, trained: u64) -> String {
    let other = expected.other_length(trained).map_or(String::new(), |times| {
        format!("; of {} tokens, {times:.1} times as many as were expected", grouped(trained))
    });
    format!("{}: {} is {} the band{other}", band(expected), perplexity(reached), expected.place(reached))
}

/// The same for machines.
pub fn expected_json(expected: Expectation, reached: Option<f64>, trained: u64) -> Value {
    let Expectation { perplexity, low, high, known } = expected;
    let mut said = json!(known);
    said["perplexity"] = perplexity.into();
    (said["low"], said["high"]) = (low.into(), high.into());
    said["trained"] = trained.into();
    said["place"] = json!(reached.map(|reached| expected.place(reached)));
    said
}

/// A cell of separated values (RFC 4180).
pub fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
