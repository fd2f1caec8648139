//! `lstm train`: from a text to a trained model.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use lstm::text::corpus::Corpus;
use lstm::train::data::Data;
use lstm::train::event::{End, Outcome};
use lstm::train::trainer::Trainer;
use serde_json::json;

use crate::output::{INTERRUPTED, grouped, loss_json, seconds, source, use_threads};
use crate::progress::Progress;
use crate::stdin::Spool;
use crate::train_options::Train;

/// Trains and prints.
pub fn run(options: Train) -> Result<ExitCode> {
    use_threads(options.run.threads)?;
    let mut trainer = match &options.run.resume {
        Some(folder) => Trainer::resume(folder, options.extension())?,
        None => {
            let mut config = options.config()?;
            config.validate()?;
            let folder = options.folder();
            let spool = options.reads_stdin().then(|| Spool::read(&folder)).transpose()?;
            if let Some(spool) = &spool {
                config.data.train = Some(spool.path().to_owned());
            }
            let data = Data::read(&config, None)?;
            let mut trainer = Trainer::create(config, data, &folder, options.run.force)?;
            if let Some(spool) = spool {
                spool.keep(&mut trainer)?;
            }
            trainer
        }
    };
    describe(&trainer)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        // Whoever asks twice does not want to wait for the checkpoint.
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
    })?;
    let mut progress = Progress::new();
    let outcome = trainer.run(&mut |event| progress.show(event), &stop);
    progress.finish();
    let outcome = outcome?;
    if outcome.end == End::Interrupted {
        eprintln!("stopped and saved; go on with: lstm train --resume {}", trainer.folder().display());
        return Ok(ExitCode::from(INTERRUPTED));
    }
    report(&trainer, &outcome, options.run.json)?;
    Ok(ExitCode::SUCCESS)
}

/// What was understood of the input, and what will be trained.
fn describe(trainer: &Trainer) -> Result<()> {
    let (data, config, model) = (trainer.data(), trainer.config(), &trainer.config().model);
    let kind = config.tokenizer.noun();
    let mut talk = std::io::stderr().lock();
    writeln!(talk, "text     {}", source(config))?;
    for (name, corpus) in [("train", Some(&data.train)), ("valid", data.valid.as_ref()), ("test", data.test.as_ref())] {
        if let Some(corpus) = corpus {
            writeln!(
                talk,
                "{name:<8} {} {kind} in {} lines, {:.2} % of them unknown",
                grouped(corpus.ids.len() as u64),
                grouped(corpus.lines as u64),
                100.0 * corpus.unknown as f64 / corpus.ids.len() as f64
            )?;
        }
    }
    let of =
        if model.layers == 1 { "one layer".to_owned() } else { format!("{} {} layers", model.layers, model.wiring) };
    writeln!(
        talk,
        "model    vocabulary {}, embedding {}, {of} of {}: {} parameters",
        grouped(model.vocabulary as u64),
        model.embedding,
        model.hidden,
        grouped(trainer.model().layout().len() as u64)
    )?;
    let bounds: Vec<String> = [
        config.epochs.map(|epochs| format!("{epochs} epochs")),
        config.steps.map(|steps| format!("{} steps", grouped(steps))),
        config.budget.map(seconds),
        config.patience.map(|patience| format!("{patience} epochs without a better validation")),
    ]
    .into_iter()
    .flatten()
    .collect();
    writeln!(
        talk,
        "training {}, {} rows of {} steps, {} at rate {}, until {}",
        config.batching,
        config.batch,
        config.segment,
        config.optimizer,
        config.schedule.rate,
        bounds.join(" or ")
    )?;
    let from =
        if trainer.step() > 0 { format!(", going on after step {}", grouped(trainer.step())) } else { String::new() };
    writeln!(talk, "run      {}{from}", trainer.folder().display())?;
    Ok(())
}

/// The results, on standard output.
fn report(trainer: &Trainer, outcome: &Outcome, as_json: bool) -> Result<()> {
    let data = trainer.data();
    let losses: [(_, _, Option<&Corpus>); 3] = [
        ("train", Some(outcome.train), Some(&data.train)),
        ("valid", outcome.valid, data.valid.as_ref()),
        ("test", outcome.test, data.test.as_ref()),
    ];
    let mut out = std::io::stdout().lock();
    if as_json {
        let mut result = json!({
            "run": trainer.folder(),
            "floor": data.floor,
            "seconds": outcome.seconds,
            "tokens_per_second": outcome.tokens_per_second,
            "parameters": trainer.model().layout().len(),
        });
        for (name, loss, corpus) in losses {
            result[name] = loss_json(loss, corpus);
        }
        writeln!(out, "{result}")?;
        return Ok(());
    }
    writeln!(out, "         perplexity   per word  bits/char    tokens   unknown")?;
    for (name, loss, corpus) in losses {
        if let (Some(loss), Some(corpus)) = (loss, corpus) {
            let (word_perplexity, bits_per_char) = (corpus.word_perplexity(loss), corpus.bits_per_char(loss));
            writeln!(
                out,
                "{name:<7} {:>11.2} {word_perplexity:>10.2} {bits_per_char:>10.3} {:>9} {:>9}",
                loss.perplexity(),
                loss.tokens,
                corpus.unknown
            )?;
        }
    }
    if let Some(floor) = data.floor {
        writeln!(out, "floor   {floor:>11.2}   no model can beat it")?;
    }
    if let Some(trigram) = data.trigram {
        writeln!(out, "trigram {trigram:>11.2}   what counting three words reaches")?;
    }
    writeln!(out, "{:.1} s, {} tokens/s", outcome.seconds, grouped(outcome.tokens_per_second as u64))?;
    if outcome.end == End::Patience {
        eprintln!("stopped early: validation no longer improved");
    }
    eprintln!("try: lstm generate {}", trainer.folder().display());
    Ok(())
}
