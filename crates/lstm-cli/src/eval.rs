//! `lstm eval`: a trained model's perplexity on a text.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use lstm::Ensemble;
use lstm::ensemble::{Member, members_of};
use lstm::evaluate::{Evaluation, by_steps};
use lstm::model::Loss;
use lstm::nn::precision::Weights;
use lstm::run::saved::{LoadedRun, Origin};
use lstm::text::corpus::Corpus;
use lstm::text::ngram::Ngram;
use serde_json::{Value, json};

use crate::adapt::Adapt;
use crate::measured::{READING, note_line_ends, open_members, text_source};
use crate::output::{best, count, grouped, loss_json, per_word, perplexity, talk, use_threads};
use crate::progress::{Progress, during};

/// The tokens that the baseline counts together.
const BASELINE_ORDER: usize = 5;

/// The options of `lstm eval`.
#[derive(clap::Args)]
pub struct Eval {
    /// The model: a run folder, or a model file
    pub run: PathBuf,
    /// The text file, - for standard input, or a folder: its test text, else its validation text, else all of it;
    /// where none is given the run's own test text
    pub file: Option<PathBuf>,
    /// Replace bytes that are not UTF-8 [default: refuse them]
    #[arg(long, requires = "file")]
    lossy: bool,
    /// Compare with a Kneser-Ney 5-gram that is counted on the same training text [default: the model alone]
    #[arg(long)]
    baseline: bool,
    #[command(flatten)]
    adapt: Adapt,
    /// Read the text one token at a time, as `lstm generate --weights` does: with weights of f32, bf16 or int8
    /// [default: whole segments, in f32]
    #[arg(long, value_name = "KIND", conflicts_with_all = ["adapt", "tune"])]
    weights: Option<Weights>,
    /// Of a run that is of several models use the first so many as one, such as 1; --adapt and --weights are of the first alone
    /// [default: all]
    #[arg(long, value_name = "K")]
    pub members: Option<usize>,
    /// Of a forecast: measure the last so many, one horizon after the other up to the table's end [default: all after the model's
    /// validation; without a table those of its test part]
    #[arg(long, value_name = "K", requires = "file")]
    pub backtest: Option<usize>,
    /// Print one JSON object [default: a sentence]
    #[arg(long)]
    pub json: bool,
    /// Threads to use; the result is the same for any number [default: all processors]
    #[arg(long)]
    pub threads: Option<usize>,
}

/// Evaluates and prints.
pub fn run(options: Eval) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let alone = if options.weights.is_some() { Some("--weights") } else { options.adapt.asked() };
    let ensemble = open_run(&options, alone)?;
    let run = ensemble.first();
    let several = ensemble.members().len() > 1;
    let corpus = match &options.file {
        Some(file) => {
            let source = text_source(run, file, options.lossy)?;
            during(READING, || Corpus::read(&source, &run.tokenizer, options.lossy))?
        }
        None => own_test(run, &options.run)?,
    };
    note_line_ends(run, &corpus);
    let ready = options.adapt.prepare(run)?;
    let started = Instant::now();
    let (batching, rows) = (run.config.batching, run.config.training.batch);
    let mut progress = Progress::new();
    let mut members = Vec::new();
    let loss = match options.weights {
        _ if several => {
            let read = ensemble.read(&corpus, &mut |_, loss| show(&mut progress, loss, &corpus))?;
            members.extend(read.members());
            read.mean(ensemble.shares())
        }
        Some(weights) => by_steps(run, &corpus, weights, &mut |total| show(&mut progress, total, &corpus))?,
        None => {
            let mut evaluation = Evaluation::new(&run.model, &run.params, &run.tokenizer, &corpus, batching, rows)?;
            while evaluation.advance() {
                show(&mut progress, evaluation.total(), &corpus);
            }
            evaluation.total()
        }
    };
    progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    let (epoch, step) = (run.card.epoch, run.card.step);
    if options.file.is_none() && run.card.test.is_some_and(|test| test.tokens != loss.tokens) {
        talk("note: the test text is no longer the one that the run was tested with");
    }
    let adapted = ready.map(|ready| ready.run(run, &corpus)).transpose()?;
    let baseline = options.baseline.then(|| -> Result<_> {
        let started = Instant::now();
        let text = during("reading the training text", || run.training_text())?;
        let counting =
            format!("counting {BASELINE_ORDER} tokens at a time in {}", count(text.tokens() as u64, "token"));
        let model = during(counting, || Ngram::of_corpus(BASELINE_ORDER, &text, &run.tokenizer))?;
        let loss = during("evaluating the baseline", || model.loss(&corpus, &run.tokenizer, batching));
        Ok((loss, started.elapsed().as_secs_f64()))
    });
    let baseline = baseline.transpose()?;
    let mut out = std::io::stdout();
    if options.json {
        let mut result = loss_json(Some(loss), Some(&corpus));
        result["seconds"] = seconds.into();
        result["model"] = json!({"epoch": epoch, "step": step});
        let member = |(member, loss): (&Member, &Loss)| {
            let mut result = loss_json(Some(*loss), Some(&corpus));
            result["model"] = json!(member.path);
            result
        };
        let each: Vec<Value> = ensemble.members().iter().zip(&members).map(member).collect();
        result["members"] = if several { each.into() } else { Value::Null };
        result["adapted"] = adapted.map_or(Ok(Value::Null), |adapted| adapted.json(&corpus))?;
        result["baseline"] = baseline.map_or(Value::Null, |(loss, seconds)| {
            let mut baseline = loss_json(Some(loss), Some(&corpus));
            baseline["order"] = BASELINE_ORDER.into();
            baseline["seconds"] = seconds.into();
            baseline
        });
        writeln!(out, "{result}")?;
    } else {
        writeln!(
            out,
            "perplexity {} ({:.4} nats a token) on {}, {} of them unknown to the model, in {seconds:.1} s",
            perplexity(loss.perplexity()),
            loss.mean(),
            count(loss.tokens as u64, "token"),
            grouped(corpus.unknown as u64)
        )?;
        let per_word = |loss| per_word(&corpus, loss);
        writeln!(out, "{}", per_word(loss))?;
        if let Some(adapted) = adapted {
            writeln!(out, "{}", adapted.line())?;
            writeln!(out, "{}", per_word(adapted.loss))?;
        }
        if let Some((loss, seconds)) = baseline {
            let (perplexity, nats) = (loss.perplexity(), loss.mean());
            writeln!(
                out,
                "baseline   {perplexity:.2} ({nats:.4} nats a token), a Kneser-Ney {BASELINE_ORDER}-gram of the same \
                 training text, in {seconds:.1} s"
            )?;
            writeln!(out, "{}", per_word(loss))?;
        }
        if several {
            let each: Vec<String> = members.iter().map(|loss| perplexity(loss.perplexity())).collect();
            writeln!(out, "model      {} as one; alone {}", count(members.len(), "model"), each.join(", "))?;
        } else {
            writeln!(out, "model      {}", best(epoch, step))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how far an evaluation is.
fn show(progress: &mut Progress, total: Loss, corpus: &Corpus) {
    progress.pass("evaluating", total.tokens, corpus.tokens(), Some(total));
}

/// Opens the run with its members, or the first alone where `alone`, an option, is of one model.
fn open_run(options: &Eval, alone: Option<&str>) -> Result<Ensemble> {
    let Some(option) = alone else { return open_members([options.run.as_path()], options.members) };
    if let Some(members) = options.members.filter(|members| *members > 1) {
        bail!("{option} is of one model, so that --members {members} has no part in it; leave one of them out");
    }
    let of = members_of(&options.run)?.len();
    if of > 1 && options.members.is_none() {
        talk(format_args!("members  {option} is of one model: the first of the run's {of} is measured"));
    }
    open_members([options.run.as_path()], Some(1))
}

/// The text that a run was tested with.
pub fn own_test(run: &LoadedRun, folder: &Path) -> Result<Corpus> {
    if let Origin::File(file) = &run.origin {
        bail!(
            "{} is a model by itself, without a test text of its own; give the text to measure it on, or the folder of its run",
            file.display()
        );
    }
    if let Some(file) = &run.config.data.imported {
        bail!(
            "{} has no test text of its own, for its model was read from {}; give the text to measure it on",
            folder.display(),
            file.display()
        );
    }
    let Some(corpus) = during(READING, || run.test_text())? else {
        bail!("{} has no test text of its own; give the text to measure it on", folder.display());
    };
    talk(format_args!("text     the run's own test text, of {}", run.config.data.source()));
    Ok(corpus)
}
