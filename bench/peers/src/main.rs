//! The LSTMs of candle and burn, timed as `lstm bench layer` times ours: one JSON object with the same keys.
//!
//! `peers candle|burn layer --embedding 200 --hidden 200 --layers 1 --segment 35 --batch 20 --threads 2 --seconds 1`

mod burn_lstm;
mod candle_lstm;
mod numbered;

use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The passes before the clock starts, and the fewest that are timed: as `lstm bench` has them.
const WARM_UP: usize = 4;
const FEWEST_ROUNDS: usize = 5;

/// What tells the peers how many threads to use.
const THREADS: &str = "RAYON_NUM_THREADS";

/// The sizes of a measurement.
#[derive(Clone, Copy)]
struct Shape {
    embedding: usize,
    hidden: usize,
    layers: usize,
    segment: usize,
    batch: usize,
}

impl Shape {
    /// I of layer `layer`.
    fn input(&self, layer: usize) -> usize {
        if layer == 0 { self.embedding } else { self.hidden }
    }

    /// The parameters of each layer in PyTorch's order: weight_ih `[4H, I]`, weight_hh `[4H, H]`, bias_ih, bias_hh.
    fn parameters(&self) -> Vec<[Vec<f32>; 4]> {
        let bound = 1.0 / (self.hidden as f32).sqrt();
        let (gates, mut next) = (4 * self.hidden, 0u64);
        let mut take = |count: usize| {
            let values = (next..next + count as u64).map(|i| bound * numbered::value(numbered::WEIGHTS, i)).collect();
            next += count as u64;
            values
        };
        let sizes = |layer| [gates * self.input(layer), gates * self.hidden, gates, gates];
        (0..self.layers).map(|layer| sizes(layer).map(&mut take)).collect()
    }

    /// `[B, T, width]` of a numbered row that is laid out as `[T, B, width]`.
    fn batch_first(&self, row: u64, width: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.segment * self.batch * width);
        for b in 0..self.batch {
            for t in 0..self.segment {
                let start = (t * self.batch + b) * width;
                values.extend((start..start + width).map(|i| numbered::value(row, i as u64)));
            }
        }
        values
    }
}

/// What a peer's LSTM can do: passes over one segment from zero states.
trait Peer: Sized {
    /// Its name; its version is in `Cargo.lock`.
    const NAME: &str;

    /// The layers with the numbered parameters, their input and the gradient of their output.
    fn new(shape: Shape) -> Result<Self, Box<dyn Error>>;

    /// Forward and backward; the L2 norms of the outputs and of the parameters' gradients, if `norms`.
    fn both(&self, norms: bool) -> Result<(f64, f64), Box<dyn Error>>;

    /// Forward alone, nothing kept for a backward pass.
    fn forward(&self) -> Result<(), Box<dyn Error>>;
}

/// The median of the milliseconds of a pass.
fn median(seconds: f64, mut pass: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<(f64, usize), Box<dyn Error>> {
    for _ in 0..WARM_UP {
        pass()?;
    }
    let mut taken = Vec::new();
    let started = Instant::now();
    while taken.len() < FEWEST_ROUNDS || started.elapsed() < Duration::from_secs_f64(seconds) {
        let start = Instant::now();
        pass()?;
        taken.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let middle = taken.len() / 2;
    Ok((*taken.select_nth_unstable_by(middle, f64::total_cmp).1, taken.len()))
}

fn measure<P: Peer>(shape: Shape, seconds: f64) -> Result<(), Box<dyn Error>> {
    let peer = P::new(shape)?;
    let (output_norm, gradient_norm) = peer.both(true)?;
    let (both, rounds) = median(seconds, || peer.both(false).map(|_| ()))?;
    let (forward, _) = median(seconds, || peer.forward())?;
    let tokens = (shape.segment * shape.batch) as f64;
    println!(
        "{{\"name\":\"{}\",\"milliseconds\":{both},\"rounds\":{rounds},\"tokens_per_second\":{},\"output_norm\":\
         {output_norm},\"gradient_norm\":{gradient_norm},\"forward\":{{\"milliseconds\":{forward},\
         \"tokens_per_second\":{}}}}}",
        P::NAME,
        tokens / both * 1e3,
        tokens / forward * 1e3
    );
    Ok(())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage =
        "peers candle|burn layer --embedding I --hidden H --layers L --segment T --batch B --threads N --seconds S";
    let [peer, kind, options @ ..] = arguments.as_slice() else { return Err(usage.into()) };
    if kind != "layer" {
        return Err(format!("{kind} is not measured here; {usage}").into());
    }
    let mut shape = Shape { embedding: 200, hidden: 200, layers: 1, segment: 35, batch: 20 };
    let (mut seconds, mut threads) = (1.0, None);
    for pair in options.chunks(2) {
        let [name, value] = pair else { return Err(format!("{} has no value; {usage}", pair[0]).into()) };
        let wrong = |e: &dyn Error| format!("{name} {value}: {e}; {usage}");
        let size = || value.parse::<usize>().map_err(|e| wrong(&e));
        match name.as_str() {
            "--embedding" => shape.embedding = size()?,
            "--hidden" => shape.hidden = size()?,
            "--layers" => shape.layers = size()?,
            "--segment" => shape.segment = size()?,
            "--batch" => shape.batch = size()?,
            "--seconds" => seconds = value.parse().map_err(|e: std::num::ParseFloatError| wrong(&e))?,
            "--threads" => threads = Some(size()?.to_string()),
            _ => return Err(format!("there is no option {name}; {usage}").into()),
        }
    }
    // Both peers read the number when they start their threads, so it must be in the environment of the process.
    if let Some(threads) = threads.filter(|threads| std::env::var(THREADS).as_ref() != Ok(threads)) {
        let mut same = Command::new(std::env::current_exe()?);
        return match same.args(&arguments).env(THREADS, threads).status()? {
            status if status.success() => Ok(()),
            status => Err(format!("the process with its number of threads ended with {status}").into()),
        };
    }
    match peer.as_str() {
        "candle" => measure::<candle_lstm::Candle>(shape, seconds),
        "burn" => measure::<burn_lstm::Burn>(shape, seconds),
        _ => Err(format!("{peer} is no peer; {usage}").into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
