//! `lstm verify`: trains a stretch of a run again, and compares every bit with what the run kept.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use lstm::forecast;
use lstm::run::TaskKind;
use lstm::train::task::Task;
use lstm::train::trainer::{Difference, Extension, Stretch, Trainer, Verified};
use serde_json::json;

use crate::output::{grouped, seconds, talk, use_threads};
use crate::progress::{Progress, during};
use crate::signals::Signals;

/// The options of `lstm verify`.
#[derive(clap::Args)]
pub struct Verify {
    /// The run folder, of a run that was trained with --keep-checkpoints and whose data lie where they were; nothing of it changes
    run: PathBuf,
    /// Which of the stretches between two checkpoints, drawn by this number [default: another one each time]
    #[arg(long, conflicts_with = "all")]
    seed: Option<u64>,
    /// Every stretch, one after the other [default: one of them]
    #[arg(long)]
    all: bool,
    /// Threads to use; the result is the same for any number [default: all processors]
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object [default: a table]
    #[arg(long)]
    json: bool,
}

/// Verifies a run of any task.
pub fn run(options: &Verify) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let signals = Signals::watch()?;
    let extension = Extension::default();
    let stage = "reading the data and the checkpoint";
    let folder = &options.run;
    match TaskKind::of(folder)? {
        TaskKind::Language => verify(&during(stage, || Trainer::resume(folder, extension))?, options, &signals),
        TaskKind::Classify | TaskKind::Tag | TaskKind::Regress => {
            verify(&during(stage, || Trainer::resume_sequences(folder, &extension))?, options, &signals)
        }
        TaskKind::Forecast => verify(&during(stage, || forecast::resume(folder, &extension))?, options, &signals),
    }
}

fn verify<T: Task>(trainer: &Trainer<T>, options: &Verify, signals: &Signals) -> Result<ExitCode> {
    signals.begin();
    let stretches = trainer.stretches()?;
    let run = options.run.display();
    if stretches.is_empty() {
        bail!(
            "{run} has no two checkpoints with all steps between them: lstm train --keep-checkpoints N keeps those of the last N epochs; \
             with --resume {run} from now on"
        );
    }
    let seed = options.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_micros()))
    });
    let drawn = stretches[(seed % stretches.len() as u64) as usize];
    let chosen = if options.all { &stretches[..] } else { &[drawn] };
    let how_many = if stretches.len() == 1 { "1 stretch".to_owned() } else { format!("{} stretches", stretches.len()) };
    talk(format_args!("run      {run}: {how_many}"));
    let mut results = Vec::new();
    for stretch in chosen {
        let Some(verified) = take(trainer, *stretch, options, signals)? else {
            talk("stopped; nothing was changed");
            return Ok(ExitCode::from(signals.exit_code()));
        };
        results.push(verified);
    }
    let is_same = results.iter().all(Verified::is_same);
    if options.json {
        let object = json!({"same": is_same, "stretches": results.iter().map(object).collect::<Vec<_>>()});
        writeln!(std::io::stdout(), "{object}")?;
    }
    Ok(ExitCode::from(u8::from(!is_same)))
}

/// Takes a stretch again and says what came of it.
fn take<T: Task>(
    trainer: &Trainer<T>,
    stretch: Stretch,
    options: &Verify,
    signals: &Signals,
) -> Result<Option<Verified>> {
    let (started, steps) = (Instant::now(), stretch.to - stretch.from);
    let progress = Progress::new();
    let mut observer = |taken: u64| progress.stage(format_args!("step {} of {}", grouped(taken), grouped(steps)));
    let verified = trainer.verify(stretch, &mut observer, Some(&signals.stop))?;
    progress.finish();
    let Some(verified) = verified else { return Ok(None) };
    if options.json {
        return Ok(Some(verified));
    }
    let mut out = std::io::stdout().lock();
    let from = if stretch.from == 0 { "the beginning".to_owned() } else { format!("step {}", grouped(stretch.from)) };
    let took = seconds(started.elapsed().as_secs_f64());
    let outcome = if verified.is_same() { "the same bits" } else { "NOT the same" };
    writeln!(
        out,
        "{outcome}: from {from} to step {}, {} numbers compared, training loss {:.6}; {took}",
        grouped(stretch.to),
        grouped(verified.values as u64),
        verified.loss[0]
    )?;
    if verified.is_same() {
        return Ok(Some(verified));
    }
    for Difference { name, differing: (differing, of), first: (place, kept, again), most } in &verified.differences {
        writeln!(
            out,
            "  {name}: {} of {} differ, the first at {place}: {kept:e} kept, {again:e} now; at most by {most:e}",
            grouped(*differing as u64),
            grouped(*of as u64)
        )?;
    }
    if verified.loss[0].to_bits() != verified.loss[1].to_bits() {
        writeln!(out, "  training loss: {} kept, {} now", verified.loss[0], verified.loss[1])?;
    }
    let isas = verified.isas.join(", then ");
    if verified.isas.iter().any(|isa| isa != verified.here) {
        // Pairs of bf16 are what vectors of this name compute products with.
        let forced = verified.isas.first().map_or("", |isa| if isa == "avx512bf16" { "avx512" } else { isa });
        writeln!(
            out,
            "  these steps were taken by the kernels of {isas}, here run those of {}, which round otherwise: LSTM_ISA={forced} where the \
             processor has them",
            verified.here
        )?;
    } else {
        writeln!(
            out,
            "  the kernels are the same, {isas}: another version of this program took these steps, or a file was changed, or this machine computes wrongly"
        )?;
    }
    Ok(Some(verified))
}

/// For machines.
fn object(verified: &Verified) -> serde_json::Value {
    let differences: Vec<_> = verified
        .differences
        .iter()
        .map(|Difference { name, differing: (differing, of), most, .. }| {
            json!({"name": name, "differing": differing, "of": of, "most": most})
        })
        .collect();
    json!({
        "from": verified.stretch.from,
        "to": verified.stretch.to,
        "same": verified.is_same(),
        "numbers": verified.values,
        "isa": verified.isas,
        "loss": {"kept": verified.loss[0], "again": verified.loss[1]},
        "differences": differences,
    })
}
