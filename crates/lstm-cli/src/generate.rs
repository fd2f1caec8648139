//! `lstm generate`: writes with a trained model, streaming.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lstm::Ensemble;
use lstm::ensemble::Member;
use lstm::generate::{Beam, Generator, Rules, Sampling, Stops};
use lstm::nn::precision::Weights;
use serde_json::{Value, json};

use crate::measured::{Together, open_together};
use crate::output::{count, talk};
use crate::progress::{Progress, during};

/// The options of `lstm generate`.
#[derive(clap::Args)]
pub struct Generate {
    /// The model: a run folder, or a model file
    run: PathBuf,
    #[command(flatten)]
    together: Together,
    /// The text to go on from; \n, \t, \r and \\ in it are a line feed, a tab, a carriage return and a backslash
    /// [default: none, a fresh line]
    #[arg(long, default_value = "", hide_default_value = true, value_parser = unescaped)]
    prompt: String,
    /// How many tokens to write
    #[arg(long, default_value_t = 100)]
    length: usize,
    /// Stop before this text comes, written as --prompt is; may be given more than once [default: at --length only]
    #[arg(long, value_name = "TEXT", value_parser = unescaped)]
    stop: Vec<String>,
    /// How many texts to write
    #[arg(long, default_value_t = 1)]
    samples: usize,
    /// Print one JSON object a text [default: the texts, an empty line between them]
    #[arg(long)]
    json: bool,
    /// The weights that every token reads: f32, bf16 (half the bytes), int8 (a quarter, with a scale a row)
    /// [default: as the run's model has them]
    #[arg(long, value_name = "KIND")]
    weights: Option<Weights>,
    #[command(flatten)]
    sampling: SamplingOptions,
    /// Search for the likeliest text instead of sampling, this many at a time; --samples then gives the best of them
    /// [default: sample]
    #[arg(long, value_name = "WIDTH")]
    beam: Option<usize>,
}

/// The seed where none is given.
const DEFAULT_SEED: u64 = 1;

/// How tokens are drawn.
#[derive(clap::Args)]
#[command(next_help_heading = "Sampling")]
struct SamplingOptions {
    /// Below 1 safer, above 1 wilder, 0 always the likeliest token [default: 0.8]
    #[arg(long)]
    temperature: Option<f32>,
    /// Choose among the k likeliest tokens only; 0 for all [default: 0]
    #[arg(long)]
    top_k: Option<usize>,
    /// Choose among the likeliest tokens that together have this probability; 1 for all [default: 1]
    #[arg(long)]
    top_p: Option<f32>,
    /// Choose among tokens with at least this share of the likeliest one's probability; 0 for all [default: 0]
    #[arg(long)]
    min_p: Option<f32>,
    /// Divide the scores of tokens that were there before by this; below 1 invites them [default: 1]
    #[arg(long)]
    repetition_penalty: Option<f32>,
    /// The seed of the choices [default: 1]
    #[arg(long)]
    seed: Option<u64>,
}

/// A text of the command line with its escapes as what they stand for.
fn unescaped(given: &str) -> Result<String, String> {
    let (mut text, mut characters) = (String::with_capacity(given.len()), given.chars());
    while let Some(character) = characters.next() {
        text.push(match (character, (character == '\\').then(|| characters.next())) {
            (character, None) => character,
            (_, Some(Some('n'))) => '\n',
            (_, Some(Some('t'))) => '\t',
            (_, Some(Some('r'))) => '\r',
            (_, Some(Some('\\'))) => '\\',
            (_, Some(other)) => {
                let found = other.map_or("a backslash at the end".to_owned(), |other| format!("\\{other}"));
                return Err(format!("{found} is none of \\n, \\t, \\r and \\\\; write \\\\ for a backslash"));
            }
        });
    }
    Ok(text)
}

/// The rules of models that write together; of one that did not note what its training text has, that text is asked.
fn rules(ensemble: &Ensemble) -> Rules {
    let unseen = |rules: Rules, Member { run, .. }: &Member| match run.tokenizer.unseen() {
        Some(unseen) => rules.without(unseen),
        None => match during("reading the training text", || run.unseen()) {
            Ok(unseen) => rules.without(unseen),
            Err(error) => {
                talk(format_args!(
                    "note: tokens that training never saw may be written, for which they are is not known: {error}"
                ));
                rules
            }
        },
    };
    ensemble.members().iter().fold(Rules::of(ensemble.first()), unseen)
}

/// More than anybody reads.
const MOST_TOKENS: usize = 1_000_000_000;

/// Generates and prints.
pub fn run(options: Generate) -> Result<ExitCode> {
    for (option, value, most) in [("--samples", options.samples, 1_000_000), ("--length", options.length, MOST_TOKENS)]
    {
        if !(1..=most).contains(&value) {
            bail!("{option} is {value}; it must be at least 1 and at most {most}");
        }
    }
    if options.sampling.temperature == Some(0.0) {
        let idle = [("--seed", options.sampling.seed.is_some()), ("--samples", options.samples > 1)];
        if let Some((option, _)) = idle.into_iter().find(|(_, given)| *given) {
            bail!(
                "{option} has no part with --temperature 0, which always takes the likeliest token, so that every text is \
                 the same; leave one of them out"
            );
        }
    }
    let ensemble = open_together(&options.run, &options.together)?;
    let tokenizer = &ensemble.first().tokenizer;
    let prompt = tokenizer.encode(&options.prompt)?;
    let unknown = prompt.iter().filter(|&&id| Some(id) == tokenizer.unknown()).count();
    if unknown > 0 {
        talk(format_args!("unknown to the model: {unknown} of the prompt's {}", count(prompt.len(), "token")));
    }
    match options.beam {
        Some(width) => search(&options, width, &ensemble, &prompt)?,
        None => sample(&options, &ensemble, &prompt)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws the texts, each shown while it is written.
fn sample(options: &Generate, ensemble: &Ensemble, prompt: &[u32]) -> Result<()> {
    let given = &options.sampling;
    let mut sampling = Sampling { temperature: given.temperature.unwrap_or(0.8), ..Sampling::default() };
    sampling.top_k = given.top_k.unwrap_or(sampling.top_k);
    sampling.top_p = given.top_p.unwrap_or(sampling.top_p);
    sampling.min_p = given.min_p.unwrap_or(sampling.min_p);
    sampling.repetition_penalty = given.repetition_penalty.unwrap_or(sampling.repetition_penalty);
    let (seed, rules) = (given.seed.unwrap_or(DEFAULT_SEED), rules(ensemble));
    sampling.validate()?;
    if sampling.temperature > 0.0 {
        talk(format_args!("seed {seed}"));
    }
    for sample in 0..options.samples as u64 {
        let mut generator = Generator::of_ensemble(ensemble, options.weights, rules.clone(), sampling, seed, sample)?;
        let mut progress = Progress::new();
        for (read, &token) in prompt.iter().enumerate() {
            progress.pass("reading the prompt", read, prompt.len(), None);
            generator.read(token);
        }
        // On a terminal the text itself shows how far it is.
        if !options.json && std::io::stdout().is_terminal() {
            progress.finish();
        }
        let mut text = Text::begin(options, sample == 0)?;
        let (mut decoder, mut stops) =
            (ensemble.first().tokenizer.decoder(&options.prompt), Stops::new(&options.stop)?);
        for token in generator.take(options.length) {
            let (bytes, stopped) = stops.push(&decoder.push(token));
            text.add(&bytes)?;
            text.tokens += 1;
            progress.pass("writing", text.tokens, options.length, None);
            text.stopped = stopped;
            if stopped {
                break;
            }
        }
        if !text.stopped {
            text.add(&stops.push(&decoder.finish()).0)?;
        }
        text.add(&stops.finish())?;
        progress.finish();
        text.end("seed", json!(seed))?;
    }
    Ok(())
}

/// Searches and shows the best.
fn search(options: &Generate, width: usize, ensemble: &Ensemble, prompt: &[u32]) -> Result<()> {
    let mut beam = Beam::of_ensemble(ensemble, options.weights, rules(ensemble), width)?;
    if options.samples > width {
        bail!("--samples {} is more than --beam {width} finds; give a wider beam", options.samples);
    }
    prompt.iter().for_each(|&token| beam.read(token));
    let stops = Stops::new(&options.stop)?;
    let written = |tokens: &[u32]| {
        let mut decoder = ensemble.first().tokenizer.decoder(&options.prompt);
        let mut bytes: Vec<u8> = tokens.iter().flat_map(|&token| decoder.push(token)).collect();
        bytes.extend(decoder.finish());
        let mut stops = stops.clone();
        let (mut text, stopped) = stops.push(&bytes);
        text.extend(stops.finish());
        (text, stopped)
    };
    let searching = format!("searching {width} texts side by side");
    let found = during(searching, || beam.search(options.length, &mut |tokens| written(tokens).1));
    for (number, hypothesis) in found.iter().take(options.samples).enumerate() {
        let mut text = Text::begin(options, number == 0)?;
        text.add(&written(&hypothesis.tokens).0)?;
        (text.tokens, text.stopped) = (hypothesis.tokens.len(), hypothesis.ended);
        text.end("log_probability", json!(hypothesis.log_probability))?;
    }
    Ok(())
}

/// A text on its way out: as it comes, or as one object when it is whole.
struct Text<'a> {
    options: &'a Generate,
    written: Vec<u8>,
    tokens: usize,
    stopped: bool,
}

impl<'a> Text<'a> {
    fn begin(options: &'a Generate, first: bool) -> Result<Self> {
        if !options.json {
            let mut out = std::io::stdout();
            if !first {
                writeln!(out)?;
            }
            out.write_all(options.prompt.as_bytes())?;
        }
        Ok(Self { options, written: Vec::new(), tokens: 0, stopped: false })
    }

    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.written.extend_from_slice(bytes);
        if !self.options.json {
            let mut out = std::io::stdout();
            out.write_all(bytes)?;
            out.flush()?;
        }
        Ok(())
    }

    /// What is known beside the text is one value.
    fn end(self, name: &str, known: Value) -> Result<()> {
        let mut out = std::io::stdout();
        let prompt = &self.options.prompt;
        if self.options.json {
            let text = String::from_utf8_lossy(&self.written);
            let mut object = json!({"prompt": prompt, "text": text, "tokens": self.tokens, "stopped": self.stopped});
            object[name] = known;
            writeln!(out, "{object}")?;
        } else if self.written.last().or(prompt.as_bytes().last()).is_some_and(|&last| last != b'\n') {
            writeln!(out)?;
        }
        Ok(())
    }
}
