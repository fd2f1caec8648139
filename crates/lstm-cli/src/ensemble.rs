//! `lstm ensemble`: several models as one, beside each alone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use lstm::ensemble::Member;
use lstm::model::Loss;
use lstm::run::saved::{Origin, is_trained};
use lstm::text::corpus::Corpus;
use serde_json::{Value, json};

use crate::eval::own_test;
use crate::measured::{READING, note_line_ends, text_source};
use crate::output::{count, grouped, loss_json, per_word, perplexity, talk, use_threads};
use crate::progress::{Progress, during};

/// The options of `lstm ensemble`.
#[derive(clap::Args)]
pub struct Ensemble {
    /// The models, run folders (each with its members, where it is of several models) or model files of the same tokens, and behind them
    /// the text: a file, - for standard input, or a folder; where there is none the first run's own test text
    #[arg(required = true, value_name = "RUN|TEXT")]
    paths: Vec<PathBuf>,
    /// The shares of the models in the mean: equal; tuned, those with which the mean is least surprised by the validation text of the
    /// first; or numbers in the order of the models, such as 2,1,1
    #[arg(long, value_name = "SHARES", default_value = "equal", allow_negative_numbers = true)]
    shares: Shares,
    /// Replace bytes that are not UTF-8 [default: refuse them]
    #[arg(long)]
    lossy: bool,
    /// Print one JSON object [default: a table]
    #[arg(long)]
    json: bool,
    /// Threads to use; the result is the same for any number [default: all processors]
    #[arg(long)]
    threads: Option<usize>,
}

/// How much each model counts.
#[derive(Clone, Debug)]
enum Shares {
    Equal,
    Tuned,
    These(Vec<f64>),
}

impl FromStr for Shares {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let numbers = || value.split(',').map(|number| number.parse().ok()).collect::<Option<Vec<f64>>>();
        match value {
            "equal" => Ok(Self::Equal),
            "tuned" => Ok(Self::Tuned),
            _ => numbers().map(Self::These).ok_or("it is one of equal, tuned, or numbers such as 2,1,1".to_owned()),
        }
    }
}

/// Evaluates and prints.
pub fn run(options: Ensemble) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let (models, text) = options.split()?;
    let ensemble = during("opening the models", || lstm::Ensemble::open_runs(models, usize::MAX))?;
    if ensemble.members().len() < 2 {
        return Err(too_few(text));
    }
    let run = ensemble.first();
    let corpus = match text {
        Some(file) => {
            let source = text_source(run, file, options.lossy)?;
            during(READING, || Corpus::read(&source, &run.tokenizer, options.lossy))?
        }
        None => own_test(run, &models[0])?,
    };
    note_line_ends(run, &corpus);
    let ensemble = match &options.shares {
        Shares::Equal => ensemble,
        Shares::These(shares) => ensemble.with_shares(shares)?,
        Shares::Tuned => {
            let shares = tuned(&ensemble)?;
            ensemble.with_shares(&shares)?
        }
    };
    let started = Instant::now();
    let read = read(&ensemble, &corpus)?;
    let mean = read.mean(ensemble.shares());
    let (members, seconds) = (read.members().collect::<Vec<_>>(), started.elapsed().as_secs_f64());
    if options.json {
        let member = |((member, share), loss): ((&Member, &f64), &Loss)| {
            let mut result = loss_json(Some(*loss), Some(&corpus));
            result["model"] = json!(member.path);
            result["share"] = json!(share);
            result
        };
        let mut result = loss_json(Some(mean), Some(&corpus));
        let members: Vec<Value> = ensemble.members().iter().zip(ensemble.shares()).zip(&members).map(member).collect();
        result["members"] = members.into();
        result["seconds"] = seconds.into();
        writeln!(std::io::stdout(), "{result}")?;
    } else {
        print(&ensemble, &corpus, &members, mean)?;
        talk(format_args!("read in {seconds:.1} s"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The table of the members and the mean.
fn print(ensemble: &lstm::Ensemble, corpus: &Corpus, members: &[Loss], mean: Loss) -> Result<()> {
    let names: Vec<String> = ensemble.members().iter().map(|member| member.path.display().to_string()).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{:<width$}    share  perplexity   per word  bits/char    nats", "")?;
    let mut row = |name: &str, share: Option<f64>, loss: Loss| {
        let share = share.map_or(String::new(), |share| format!("{share:.4}"));
        let of_words = corpus.word_perplexity(loss).map_or("-".to_owned(), perplexity);
        let bits = corpus.bits_per_char(loss).map_or("-".to_owned(), |bits| format!("{bits:.4}"));
        let (of_tokens, nats) = (perplexity(loss.perplexity()), loss.mean());
        writeln!(out, "{name:<width$}  {share:>7} {of_tokens:>11} {of_words:>10} {bits:>10}  {nats:.4}")
    };
    for ((name, share), loss) in names.iter().zip(ensemble.shares()).zip(members) {
        row(name, Some(*share), *loss)?;
    }
    row("mean", None, mean)?;
    let unknown = grouped(corpus.unknown as u64);
    writeln!(out, "on {}, {unknown} of them unknown to the models", count(mean.tokens as u64, "token"))?;
    writeln!(out, "{}", per_word(corpus, mean))?;
    Ok(())
}

impl Ensemble {
    /// The models, and the text behind them if there is one.
    fn split(&self) -> Result<(&[PathBuf], Option<&Path>)> {
        let (last, before) = self.paths.split_last().ok_or_else(|| anyhow!("no model is given"))?;
        let (models, text) = match is_trained(last) {
            true => (&self.paths[..], None),
            false => (before, Some(last.as_path())),
        };
        if models.is_empty() {
            return Err(too_few(text));
        }
        if self.lossy && text.is_none() {
            bail!("--lossy has no part in the run's own test text, which is read as the run does; leave it out");
        }
        Ok((models, text))
    }
}

/// That there are not two models; what stands where another could may be none.
fn too_few(text: Option<&Path>) -> anyhow::Error {
    let hint = text.map_or(String::new(), |text| format!(" ({} is none of this program)", text.display()));
    anyhow!("an ensemble is of two models or more{hint}; one alone is measured by: lstm eval")
}

/// Reads a text with all models.
pub fn read(ensemble: &lstm::Ensemble, corpus: &Corpus) -> Result<lstm::ensemble::Read> {
    let (mut progress, of) = (Progress::new(), ensemble.members().len());
    let read = ensemble.read(corpus, &mut |number, loss| {
        progress.pass(&format!("evaluating {} of {of}", number + 1), loss.tokens, corpus.tokens(), Some(loss));
    });
    progress.finish();
    Ok(read?)
}

/// The shares that are best on the validation text of the first run.
fn tuned(ensemble: &lstm::Ensemble) -> Result<Vec<f64>> {
    let (run, path) = (ensemble.first(), ensemble.members()[0].path.display());
    if let Origin::File(_) = run.origin {
        bail!(
            "{path} is a model by itself, without a validation text to tune --shares on; give the folder of its run first, or numbers"
        );
    }
    let Some(text) = during("reading the validation text", || run.validation_text())? else {
        bail!("{path} has no validation text to tune --shares on; give numbers, or another run first");
    };
    Ok(read(ensemble, &text)?.tuned())
}
