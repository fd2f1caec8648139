//! `lstm generate`: writes with a trained model, streaming.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use lstm::generate::{Generator, Sampling};
use lstm::text::batches::Batching;
use lstm::train::checkpoint::LoadedRun;

/// The options of `lstm generate`.
#[derive(clap::Args)]
pub struct Generate {
    /// The run folder
    run: PathBuf,
    /// The text to go on from [default: none, a fresh line]
    #[arg(long, default_value = "", hide_default_value = true)]
    prompt: String,
    /// Below 1 safer, above 1 wilder, 0 always the likeliest token
    #[arg(long, default_value_t = 0.8)]
    temperature: f32,
    /// Choose among the k likeliest tokens only; 0 for all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Choose among the likeliest tokens that together have this probability; 1 for all
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// How many tokens to write
    #[arg(long, default_value_t = 100)]
    length: usize,
    /// The seed of the choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Generates and prints.
pub fn run(options: Generate) -> Result<ExitCode> {
    let run = LoadedRun::open(&options.run)?;
    let tokenizer = &run.tokenizer;
    let window = match run.config.batching {
        Batching::Windows(n) => Some(n),
        _ => None,
    };
    let banned = [tokenizer.unknown(), tokenizer.pad(), tokenizer.sos()].into_iter().flatten().collect();
    let Generate { temperature, top_k, top_p, .. } = options;
    let sampling = Sampling { temperature, top_k, top_p };
    let mut generator = Generator::new(&run.model, &run.params, sampling, banned, window, options.seed)?;
    let prompt = tokenizer.encode(&options.prompt);
    let unknown = prompt.iter().filter(|&&id| Some(id) == tokenizer.unknown()).count();
    if unknown > 0 {
        eprintln!("{unknown} of the prompt's {} tokens are unknown to the model", prompt.len());
    }
    let line_start = tokenizer.sos().unwrap_or(tokenizer.start());
    let mut last = line_start;
    for token in prompt {
        generator.read(last);
        last = token;
    }
    let mut out = std::io::stdout();
    out.write_all(options.prompt.as_bytes())?;
    let mut at_line_start = options.prompt.is_empty() || options.prompt.ends_with(['\n', ' ']);
    for _ in 0..options.length {
        let token = generator.next(last);
        let text = tokenizer.decode(token, at_line_start);
        at_line_start = text.ends_with(b"\n");
        out.write_all(&text)?;
        out.flush()?;
        // Where lines have markers, the next one begins with its own.
        last = if Some(token) == tokenizer.eos() && tokenizer.line_markers() { line_start } else { token };
    }
    if !at_line_start {
        writeln!(out)?;
    }
    Ok(ExitCode::SUCCESS)
}
