//! `lstm bench`: this machine's peak, and how much of it training and inference reach.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use lstm::bench::{self, Shape, Timing};
use lstm::nn::config::{ConfigError, HiddenSizes};
use lstm::nn::precision::{Precision, Weights};
use lstm::run::preset::Preset;
use lstm::text::batch::Batching;
use serde_json::{Value, json};

use crate::output::{count, grouped, talk, use_threads};
use crate::signals::Signals;

/// The options of `lstm bench`.
#[derive(clap::Args)]
pub struct Bench {
    /// What to measure: a training step, the layers alone forward and backward, or one token at a time [default: all of
    /// them at the presets' sizes; with any size given: train]
    kind: Option<Kind>,
    /// Vocabulary of the model [default: 10000]
    #[arg(long)]
    vocab: Option<usize>,
    /// Embedding size, the input of the first layer [default: the hidden size]
    #[arg(long)]
    embedding: Option<usize>,
    /// Hidden size [default: 200]
    #[arg(long)]
    hidden: Option<usize>,
    /// Number of layers [default: 2]
    #[arg(long)]
    layers: Option<usize>,
    /// Steps of a segment [default: 20]
    #[arg(long)]
    segment: Option<usize>,
    /// Rows of a batch, independent streams [default: 20; decode: 1]
    #[arg(long)]
    batch: Option<usize>,
    /// The precision of training's matrix products: f32, bf16x3, bf16 [default: f32]
    #[arg(long)]
    precision: Option<Precision>,
    /// The weights that a token of decode reads: f32, bf16, int8 [default: f32]
    #[arg(long, value_name = "KIND")]
    weights: Option<Weights>,
    /// Threads to use [default: all processors]
    #[arg(long)]
    threads: Option<usize>,
    /// Seconds of each measurement; at least five rounds are run [default: 1]
    #[arg(long)]
    seconds: Option<f64>,
    /// Print one JSON object [default: a table]
    #[arg(long)]
    json: bool,
}

/// The measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Train,
    Layer,
    Decode,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Layer => "layer",
            Self::Decode => "decode",
        }
    }
}

/// A day.
const MOST_SECONDS: f64 = 86_400.0;

/// Measures and prints.
pub fn run(options: Bench) -> Result<ExitCode> {
    let seconds = options.seconds.unwrap_or(1.0);
    if !(0.0..=MOST_SECONDS).contains(&seconds) {
        bail!("--seconds is {seconds}; it must be a number from 0 to {MOST_SECONDS}");
    }
    let budget = Duration::from_secs_f64(seconds);
    options.refuse_unused()?;
    use_threads(options.threads)?;
    // What was measured is printed already; there is nothing to save.
    let _signals = Signals::watch()?;
    let sizes = [options.vocab, options.embedding, options.hidden, options.layers, options.segment, options.batch];
    let bits = options.bits();
    if options.kind.is_none() && sizes.iter().all(Option::is_none) {
        presets(bits, budget, options.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let kind = options.kind.unwrap_or(Kind::Train);
    // Before the machine's peak, so that a shape that cannot be is refused at once.
    let measured = Measured::new(kind, options.shape(kind), bits, budget)?;
    let machine = Machine::measure(bits.precision);
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", measured.json(&machine))?;
    } else {
        writeln!(out, "{machine}\n\n{}", heading(&machine))?;
        measured.write(&mut out, "", &machine)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Bench {
    /// An option that would change nothing is a misunderstanding.
    fn refuse_unused(&self) -> Result<()> {
        match self.kind {
            Some(Kind::Layer) if self.vocab.is_some() => {
                bail!("`layer` measures the layers alone, which have no vocabulary; leave out --vocab")
            }
            Some(Kind::Decode) if self.segment.is_some() => {
                bail!("`decode` reads one token at a time; leave out --segment, or use `layer` for whole segments")
            }
            Some(Kind::Decode) if self.precision.is_some() => {
                bail!("`decode` reads one token at a time with --weights; leave out --precision, which is of training")
            }
            Some(Kind::Train | Kind::Layer) if self.weights.is_some() => {
                bail!("--weights is of `decode`; --precision is that of training")
            }
            _ => Ok(()),
        }
    }

    fn bits(&self) -> Bits {
        Bits { precision: self.precision.unwrap_or_default(), weights: self.weights.unwrap_or_default() }
    }

    fn shape(&self, kind: Kind) -> Shape {
        let hidden = self.hidden.unwrap_or(200);
        let (segment, batch) = if kind == Kind::Decode { (1, 1) } else { (20, 20) };
        Shape {
            vocabulary: self.vocab.unwrap_or(10_000),
            embedding: self.embedding.unwrap_or(hidden),
            hidden,
            layers: self.layers.unwrap_or(2),
            segment: self.segment.unwrap_or(segment),
            batch: self.batch.unwrap_or(batch),
        }
    }
}

/// In how many bits products are made.
#[derive(Clone, Copy, Debug)]
struct Bits {
    precision: Precision,
    weights: Weights,
}

/// The peak of the machine with the chosen instruction set, precision and threads, and that of f32.
struct Machine {
    precision: Precision,
    peak: f64,
    f32_peak: f64,
    threads: usize,
}

impl Machine {
    fn measure(precision: Precision) -> Self {
        let f32_peak = Precision::F32.peak_gflops();
        let peak = if precision == Precision::F32 { f32_peak } else { precision.peak_gflops() };
        Self { precision, peak, f32_peak, threads: lstm::threads() }
    }

    /// How many times the peak of f32 a pass makes.
    fn f32_peaks(&self, timing: &Timing) -> f64 {
        timing.gflops() / self.f32_peak
    }

    /// That of a kind of measurement: one token at a time is f32 but for its weights.
    fn peak_of(&self, kind: Kind) -> f64 {
        if kind == Kind::Decode { self.f32_peak } else { self.peak }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [peak, f32_peak] = [self.peak, self.f32_peak].map(gigaflops);
        let threads = count(self.threads as u64, "thread");
        write!(f, "peak {peak} GFLOP/s in {} ({}, {threads})", self.precision, self.precision.unit())?;
        if self.precision != Precision::F32 {
            write!(f, ", {f32_peak} in f32 ({})", lstm::isa())?;
        }
        Ok(())
    }
}

/// A peak as people read it: whole, and with two digits where it is less than ten, as that of plain code is.
fn gigaflops(peak: f64) -> String {
    match peak {
        peak if peak < 1.0 => format!("{peak:.2}"),
        peak if peak < 10.0 => format!("{peak:.1}"),
        peak => format!("{peak:.0}"),
    }
}

/// The line over the table; `floor` is the time it takes to read the weights alone. Of fewer bits the peak is that of their unit, so the
/// last column has how many peaks of f32 that is.
fn heading(machine: &Machine) -> String {
    let [what, ms, floor, tokens, gflops, peak] = ["", "ms", "floor ms", "tokens/s", "GFLOP/s", "of peak"];
    let of_f32 = if machine.precision == Precision::F32 { "" } else { "  f32 peaks" };
    format!("{what:<64} {ms:>11} {floor:>9} {tokens:>11} {gflops:>8} {peak:>8}{of_f32}")
}

/// One shape measured.
struct Measured {
    kind: Kind,
    shape: Shape,
    bits: Bits,
    peak_rss: Option<u64>,
    /// The measurement the shape is asked for, then its parts.
    parts: Vec<Part>,
    /// What another program must find too on the same shape.
    check: Vec<(&'static str, Value)>,
}

/// One row of the table.
struct Part {
    name: &'static str,
    timing: Timing,
    /// The gigabytes of weights a pass must read, and how many the machine reads in a second.
    read: Option<(f64, f64)>,
}

impl Part {
    fn floor_milliseconds(&self) -> Option<f64> {
        self.read.map(|(gigabytes, per_second)| gigabytes / per_second * 1e3)
    }

    fn json(&self, kind: Kind, machine: &Machine) -> Value {
        let timing = &self.timing;
        let mut json = json!({
            "milliseconds": timing.milliseconds,
            "rounds": timing.rounds,
            "tokens_per_second": timing.tokens_per_second(),
            "gflops": timing.gflops(),
            "peak_share": timing.gflops() / machine.peak_of(kind),
            "f32_peaks": machine.f32_peaks(timing),
        });
        if let Some((_, per_second)) = self.read {
            json["floor_milliseconds"] = self.floor_milliseconds().into();
            json["read_gigabytes_per_second"] = per_second.into();
        }
        json
    }
}

impl Measured {
    fn new(kind: Kind, shape: Shape, bits: Bits, budget: Duration) -> Result<Self, ConfigError> {
        bench::restart_peak_rss();
        let part = |name, timing| Part { name, timing, read: None };
        let (mut parts, check) = match kind {
            Kind::Train => {
                let measured = bench::train(shape, bits.precision, budget)?;
                (vec![part("", measured.step)], vec![("losses", measured.losses.into())])
            }
            Kind::Layer => {
                let measured = bench::layer(shape, bits.precision, budget)?;
                let check = vec![
                    ("output_norm", measured.output_norm.into()),
                    ("gradient_norm", measured.gradient_norm.into()),
                ];
                (vec![part("", measured.both), part("forward", measured.forward)], check)
            }
            Kind::Decode => {
                let measured = bench::decode(shape, bits.weights, budget)?;
                let parts = vec![part("", measured.model), part("stack", measured.stack)];
                (parts, vec![("score_norm", measured.score_norm.into())])
            }
        };
        let peak_rss = bench::peak_rss_bytes();
        if kind == Kind::Decode {
            for (part, bytes) in
                parts.iter_mut().zip([shape.model_bytes(bits.weights), shape.stack_bytes(bits.weights)])
            {
                part.read = Some((bytes as f64 * 1e-9, bench::read_gigabytes_per_second(bytes)));
            }
        }
        Ok(Self { kind, shape, bits, peak_rss, parts, check })
    }

    fn json(&self, machine: &Machine) -> Value {
        let shape = &self.shape;
        let mut json = self.parts[0].json(self.kind, machine);
        for (key, value) in [
            ("kind", self.kind.name().into()),
            ("embedding", shape.embedding.into()),
            ("hidden", shape.hidden.into()),
            ("layers", shape.layers.into()),
            ("batch", shape.batch.into()),
            ("isa", lstm::isa().into()),
            ("threads", machine.threads.into()),
            ("peak_gflops", machine.peak_of(self.kind).into()),
            ("f32_peak_gflops", machine.f32_peak.into()),
            ("peak_rss_bytes", self.peak_rss.into()),
        ] {
            json[key] = value;
        }
        // What a kind does not have is null, as its option is refused.
        json["vocab"] = if self.kind == Kind::Layer { Value::Null } else { shape.vocabulary.into() };
        json["segment"] = if self.kind == Kind::Decode { Value::Null } else { shape.segment.into() };
        let is_decode = self.kind == Kind::Decode;
        let Bits { precision, weights } = self.bits;
        json["precision"] = if is_decode { Value::Null } else { precision.to_string().into() };
        json["unit"] = if is_decode { lstm::isa() } else { precision.unit() }.into();
        json["weights"] = if is_decode { weights.to_string().into() } else { Value::Null };
        for (key, value) in &self.check {
            json[key] = value.clone();
        }
        for part in &self.parts[1..] {
            json[part.name] = part.json(self.kind, machine);
        }
        json
    }

    fn write(&self, out: &mut impl Write, name: &str, machine: &Machine) -> Result<()> {
        let Shape { vocabulary, embedding, hidden, layers, segment, batch } = self.shape;
        for part in &self.parts {
            let mut sizes = String::new();
            if self.kind != Kind::Layer && part.name.is_empty() {
                sizes += &format!("V {} ", grouped(vocabulary as u64));
            }
            sizes += &format!("E {embedding} {layers}×{hidden} ");
            if self.kind != Kind::Decode {
                sizes += &format!("T {segment} ");
            }
            sizes += &format!("B {batch}");
            if self.kind == Kind::Decode && self.bits.weights != Weights::F32 {
                sizes += &format!(" {}", self.bits.weights);
            }
            let timing = &part.timing;
            let of_f32 = match machine.precision {
                Precision::F32 => String::new(),
                _ => format!(" {:>10.2}", machine.f32_peaks(timing)),
            };
            writeln!(
                out,
                "{:<6} {:<8} {name:<9} {sizes:<38} {:>11.4} {:>9} {:>11} {:>8.1} {:>6.1} %{of_f32}",
                self.kind.name(),
                part.name,
                timing.milliseconds,
                part.floor_milliseconds().map_or(String::new(), |floor| format!("{floor:.4}")),
                grouped(timing.tokens_per_second() as u64),
                timing.gflops(),
                100.0 * timing.gflops() / machine.peak_of(self.kind)
            )?;
        }
        Ok(())
    }
}

/// Every kind at the presets' sizes, row by row as they are measured.
fn presets(bits: Bits, budget: Duration, as_json: bool) -> Result<()> {
    let machine = Machine::measure(bits.precision);
    let mut out = std::io::stdout().lock();
    if !as_json {
        writeln!(out, "{machine}\n\n{}", heading(&machine))?;
    }
    let mut results = Vec::new();
    for kind in [Kind::Train, Kind::Layer, Kind::Decode] {
        for (name, preset) in Preset::NAMED {
            let Some(shape) = preset_shape(preset, kind) else {
                talk(format_args!("{} {name} is left out: its layers have different sizes", kind.name()));
                continue;
            };
            match Measured::new(kind, shape, bits, budget) {
                Ok(measured) if as_json => {
                    let mut result = measured.json(&machine);
                    result["preset"] = name.into();
                    results.push(result);
                }
                Ok(measured) => measured.write(&mut out, name, &machine)?,
                // The smaller ones are still worth measuring.
                Err(error) => talk(format_args!("{} {name} is left out: {error}", kind.name())),
            }
            out.flush()?;
        }
    }
    if as_json {
        let Machine { precision, peak, f32_peak, threads } = machine;
        let all = json!({
            "isa": lstm::isa(),
            "precision": precision.to_string(),
            "unit": precision.unit(),
            "threads": threads,
            "peak_gflops": peak,
            "f32_peak_gflops": f32_peak,
            "results": results,
        });
        writeln!(out, "{all}")?;
    }
    Ok(())
}

/// The sizes of a preset, with a vocabulary of the texts it is known from; `None` if its layers have different sizes,
/// which a shape has not.
fn preset_shape(preset: Preset, kind: Kind) -> Option<Shape> {
    let config = preset.config();
    let HiddenSizes::Same(hidden) = config.model.lstm.hidden else { return None };
    let vocabulary = match preset {
        Preset::TextLstm => 5_000,
        Preset::Char => 65,
        _ => 10_000,
    };
    let segment = match config.batching {
        Batching::Windows(steps) => steps,
        _ => config.segment,
    };
    Some(Shape {
        vocabulary,
        embedding: config.model.embedding(),
        hidden,
        layers: config.model.lstm.layers,
        segment,
        batch: if kind == Kind::Decode { 1 } else { config.training.batch },
    })
}
