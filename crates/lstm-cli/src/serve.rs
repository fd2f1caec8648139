//! `lstm serve`: models behind an address, for OpenAI's clients and for a browser.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lstm::nn::precision::Weights;
use lstm_serve::Settings;

use crate::measured::open;
use crate::output::{talk, use_threads};
use crate::signals::Signals;

/// The variable that holds the token: the arguments of a program can be read by everybody on its machine.
const TOKEN: &str = "LSTM_SERVE_TOKEN";

/// The options of `lstm serve`.
#[derive(clap::Args)]
pub struct Serve {
    /// The models, each a run folder or a model file, under their own name or another, NAME=MODEL
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// The address to listen at; one that other machines reach wants a token, in the variable LSTM_SERVE_TOKEN or by
    /// --token-file
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port to listen at; 0 for any that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The file with the token that clients have to send as their API key [default: that of LSTM_SERVE_TOKEN, or none]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The weights that every token reads, of a text that is written and of one that is scored: f32, bf16 (half the bytes), int8
    /// (a quarter, with a scale a row) [default: as each model has them]
    #[arg(long, value_name = "KIND")]
    weights: Option<Weights>,
    /// A folder of runs that the page shows while they train [default: none]
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    #[command(flatten)]
    bounds: Bounds,
}

/// What is taken on.
#[derive(clap::Args)]
#[command(next_help_heading = "Bounds, of each model")]
struct Bounds {
    /// Texts that are written side by side, in one step of the model
    #[arg(long, default_value_t = 256)]
    rows: usize,
    /// Texts that may wait beside them; more are told to come again
    #[arg(long, default_value_t = 1024)]
    waiting: usize,
    /// Tokens of a text, its prompt among them
    #[arg(long, default_value_t = 8192)]
    most_tokens: usize,
    /// Bytes of a request
    #[arg(long, default_value_t = 1 << 20)]
    most_bytes: usize,
    /// Seconds that a request may take
    #[arg(long, default_value_t = 300)]
    time: u64,
    /// Megabytes for the states of recent prefixes, from which texts go on without being read again
    #[arg(long, default_value_t = 64)]
    prefixes: usize,
    /// Threads of all models together [default: one for each processor]
    #[arg(long)]
    threads: Option<usize>,
}

/// More than a machine has.
const MOST_MEGABYTES: usize = 1 << 30;

/// Serves until it is asked to end.
pub fn run(options: Serve) -> Result<ExitCode> {
    let Bounds { rows, waiting, most_tokens, most_bytes, time, prefixes, threads } = options.bounds;
    use_threads(threads)?;
    if prefixes > MOST_MEGABYTES {
        bail!("--prefixes is {prefixes}; it must be at most {MOST_MEGABYTES}");
    }
    if let Some(runs) = options.runs.as_ref().filter(|runs| !runs.is_dir()) {
        bail!("{} is no folder; name one that holds runs", runs.display());
    }
    let settings = Settings {
        address: address(&options.host, options.port)?,
        token: token(options.token_file)?,
        rows,
        waiting,
        most_tokens,
        most_bytes,
        time: Duration::from_secs(time),
        prefix_bytes: prefixes << 20,
        runs: options.runs,
    };
    let signals = Signals::watch()?;
    let mut models = options.models.iter().map(|model| named(model)).collect::<Result<Vec<_>>>()?;
    if let Some(weights) = options.weights {
        models.iter_mut().for_each(|(_, model)| model.weights = weights);
    }
    signals.begin();
    lstm_serve::serve(models, settings, signals.stop.clone(), |address| {
        // The one line of standard output, so that a program that starts this one can read it.
        let _ = writeln!(std::io::stdout(), "http://{address}");
        let _ = std::io::stdout().flush();
        talk("Ctrl-C ends it when what it writes is written; twice at once");
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A model and its name.
fn named(model: &str) -> Result<(String, lstm::run::saved::LoadedRun)> {
    let path = PathBuf::from(model);
    // A folder whose own name has an equals sign is one all the same.
    let (name, path) = match model.split_once('=').filter(|_| !path.exists()) {
        Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
        None => {
            let full = path.canonicalize().unwrap_or_else(|_| path.clone());
            let name = if full.is_file() { full.file_stem() } else { full.file_name() };
            (name.map_or(model.to_owned(), |name| name.to_string_lossy().into_owned()), path)
        }
    };
    if name.is_empty() || name.contains('/') {
        bail!("a model cannot be named {name:?}; give it a name without slashes: NAME=MODEL");
    }
    let mut run = open(&path)?;
    // It runs for long: nobody who copies over the file meanwhile shall end it.
    run.params.detach();
    Ok((name, run))
}

fn address(host: &str, port: u16) -> Result<SocketAddr> {
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = (host, port).to_socket_addrs().ok().and_then(|mut found| found.next());
    found
        .with_context(|| format!("--host {host} is no address of this machine; give one, such as 127.0.0.1 or 0.0.0.0"))
}

fn token(file: Option<PathBuf>) -> Result<Option<String>> {
    let Some(file) = file else { return Ok(std::env::var(TOKEN).ok()) };
    match std::fs::read_to_string(&file) {
        Ok(token) => Ok(Some(token.trim().to_owned())),
        Err(error) => bail!("{} cannot be read: {error}; give a file with the token in it", file.display()),
    }
}
