//! `lstm train` of several models that are used as one: what is said of each, and of all together at the end.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result, anyhow};
use lstm::Ensemble;
use lstm::model::Loss;
use lstm::run::training::Member;
use lstm::text::corpus::Corpus;
use lstm::train::event::Outcome;
use lstm::train::trainer::Trainer;
use serde_json::{Value, json};

use crate::ensemble::read;
use crate::output::{came_of, count, expected_json, grouped, loss_json, perplexity, talk};
use crate::progress::during;

/// A member that is trained.
pub struct Ended {
    run: PathBuf,
    seed: u64,
    tokens: u64,
    outcome: Outcome,
}

impl Ended {
    /// That of a run that came to its end.
    pub fn of(trainer: &Trainer, outcome: Outcome) -> Self {
        let (run, seed) = (trainer.folder().to_owned(), trainer.training().seed);
        Self { run, seed, tokens: trainer.trained_tokens(), outcome }
    }
}

/// Says which member is trained now.
pub fn describe(trainer: &Trainer) {
    if let Some(note) = trainer.note() {
        talk(format_args!("note     {note}"));
    }
    let Some(Member { number, of }) = trainer.member() else { return };
    let from =
        if trainer.step() > 0 { format!(", going on after step {}", grouped(trainer.step())) } else { String::new() };
    let (seed, folder) = (trainer.training().seed, trainer.folder().display());
    talk(format_args!("member   {number} of {of}, seed {seed}: {folder}{from}"));
}

/// The folder of a member's curves, in that of the whole run's.
pub fn curves_folder(folder: &Path, trainer: &Trainer) -> PathBuf {
    match trainer.member() {
        Some(Member { number, .. }) if number > 1 => folder.join("members").join(number.to_string()),
        _ => folder.to_owned(),
    }
}

/// A member that could not begin, with what goes on with the run.
pub fn stopped(run: &str, error: impl Into<Error>) -> Error {
    anyhow!("{}; what was trained is saved: go on with: lstm train --resume {run}", error.into())
}

/// The results of all together and of each, on standard output.
pub fn report(trainer: &Trainer, ended: &[Ended], as_json: bool) -> Result<()> {
    let data = trainer.data();
    let runs = ended.iter().map(|member| &member.run);
    let ensemble = during("opening the models", || Ensemble::open(runs))?;
    let together = |corpus: &Option<Corpus>| -> Result<Option<Loss>> {
        let read = corpus.as_ref().map(|corpus| read(&ensemble, corpus)).transpose()?;
        Ok(read.map(|read| read.mean(ensemble.shares())))
    };
    let (valid, test) = (together(&data.valid)?, together(&data.test)?);
    let spent: f64 = ended.iter().map(|member| member.outcome.seconds).sum();
    let tokens: u64 = ended.iter().map(|member| member.tokens).sum();
    let speed = tokens as f64 / spent.max(1e-9);
    // Each was expected to come to the same; the first is the run's own.
    let first = &ended[0];
    let reached = first.outcome.test.map(|loss| loss.perplexity());
    let expected = trainer.expected();
    let mut out = std::io::stdout().lock();
    if as_json {
        let member = |member: &Ended| {
            let Ended { run, seed, outcome, .. } = member;
            json!({
                "run": run,
                "seed": seed,
                "seconds": outcome.seconds,
                "best": outcome.best.map(|(epoch, step)| json!({"epoch": epoch, "step": step})),
                "train": loss_json(Some(outcome.train), Some(&data.train)),
                "valid": loss_json(outcome.valid, data.valid.as_ref()),
                "test": loss_json(outcome.test, data.test.as_ref()),
            })
        };
        let result = json!({
            "run": trainer.whole_run(),
            "floor": data.floor,
            "seconds": spent,
            "tokens_per_second": speed,
            "parameters": trainer.model().layout().len(),
            "members": ended.iter().map(member).collect::<Vec<Value>>(),
            "best": null,
            "exchange": null,
            "train": null,
            "valid": loss_json(valid, data.valid.as_ref()),
            "test": loss_json(test, data.test.as_ref()),
            "expected": expected.map(|expected| expected_json(expected, reached, first.tokens)),
        });
        writeln!(out, "{result}")?;
        return Ok(());
    }
    writeln!(out, "         perplexity   per word  bits/char    tokens   unknown   model")?;
    let each = |of: fn(&Outcome) -> Option<Loss>| -> String {
        let said = |member: &Ended| of(&member.outcome).map_or("-".to_owned(), |loss| perplexity(loss.perplexity()));
        ended.iter().map(said).collect::<Vec<_>>().join(", ")
    };
    let all = count(ended.len(), "model");
    let rows = [
        ("valid", valid, &data.valid, each(|outcome| outcome.valid)),
        ("test", test, &data.test, each(|outcome| outcome.test)),
    ];
    for (name, loss, corpus, alone) in rows {
        if let (Some(loss), Some(corpus)) = (loss, corpus) {
            let of_tokens = perplexity(loss.perplexity());
            let of_words = corpus.word_perplexity(loss).map_or("-".to_owned(), perplexity);
            let bits = corpus.bits_per_char(loss).map_or("-".to_owned(), |bits| format!("{bits:.3}"));
            let (tokens, unknown) = (loss.tokens, corpus.unknown);
            writeln!(
                out,
                "{name:<7} {of_tokens:>11} {of_words:>10} {bits:>10} {tokens:>9} {unknown:>9}   {all} as one; alone {alone}"
            )?;
        }
    }
    if let Some(floor) = data.floor {
        writeln!(out, "floor   {floor:>11.2}   no model can beat it on a new text")?;
    }
    if let (Some(expected), Some(reached)) = (expected, reached) {
        writeln!(out, "expected test perplexity of each {}", came_of(&expected, reached, first.tokens))?;
    }
    writeln!(out, "{spent:.1} s, {} tokens/s", grouped(speed as u64))?;
    talk(format_args!("try: lstm generate {}", trainer.whole_run().display()));
    Ok(())
}
