//! `lstm train`: from a text to a trained model.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use lstm::config::{InitScheme, Readout};
use lstm::model::LayerWiring;
use lstm::text::batches::Batching;
use lstm::text::tokenizer::TokenizerKind;
use lstm::train::optimizer::OptimizerKind;
use lstm::train::run::{Data, Preset, RunConfig};
use lstm::train::trainer::{End, Event, Outcome, Trainer};
use serde_json::json;

use crate::output::{loss_json, use_threads};

/// The options of `lstm train`. What is not given is the preset's.
#[derive(clap::Args)]
pub struct Train {
    /// A text file or a folder of them [default: the built-in language]
    text: Option<PathBuf>,
    /// Validation text
    #[arg(long, requires = "text", conflicts_with = "split")]
    valid: Option<PathBuf>,
    /// Test text
    #[arg(long, requires = "text", conflicts_with = "split")]
    test: Option<PathBuf>,
    /// Percentages for training, validation and test [default: 90/5/5]
    #[arg(long)]
    split: Option<String>,
    /// A named bundle of choices: textlstm (the report's), small, medium, large (Zaremba et al. 2014), char
    #[arg(long, value_parser = ["textlstm", "small", "medium", "large", "char"])]
    preset: Option<String>,
    /// Number of layers [default: 1; presets small, medium, large, char: 2]
    #[arg(long)]
    layers: Option<usize>,
    /// Hidden size [default: 200; the preset's]
    #[arg(long)]
    hidden: Option<usize>,
    /// Embedding size [default: 200; the preset's]
    #[arg(long)]
    embedding: Option<usize>,
    /// Project the hidden state to this size [default: no projection]
    #[arg(long)]
    projection: Option<usize>,
    /// What a layer takes from the one below: stacked, skip, scores [default: stacked; textlstm: scores]
    #[arg(long, value_parser = ["stacked", "skip", "scores"])]
    wiring: Option<String>,
    /// What is read out: hidden, output-gate [default: hidden; textlstm: output-gate]
    #[arg(long)]
    readout: Option<Readout>,
    /// Cut the gradient through time every so many steps, or `segment` for never [default: segment]
    #[arg(long)]
    horizon: Option<String>,
    /// Initial values: torch, uniform(a), ones-bias [default: uniform(0.1); the preset's]
    #[arg(long)]
    init: Option<InitScheme>,
    /// Sum of the forget gate's biases at the start [default: 1; presets but char: as --init]
    #[arg(long)]
    forget_bias: Option<f32>,
    /// How the text is read: stream, windows(n), lines [default: stream; textlstm: windows(5)]
    #[arg(long)]
    batches: Option<Batching>,
    /// Rows read side by side [default: 20; textlstm: 128, char: 64]
    #[arg(long)]
    batch: Option<usize>,
    /// Steps of truncated back-propagation [default: 20; medium, large: 35, char: 64]
    #[arg(long)]
    segment: Option<usize>,
    /// Dropout rate [default: 0.3; small, textlstm: 0, medium: 0.5, large: 0.65, char: 0.1]
    #[arg(long)]
    dropout: Option<f32>,
    /// What a token is: words, chars, bytes [default: words; char: chars]
    #[arg(long)]
    tokenizer: Option<TokenizerKind>,
    /// Rarer tokens become <unk> [default: 2 for words of a text without <unk>, else 1]
    #[arg(long)]
    min_count: Option<u64>,
    /// Keep only the most frequent tokens [default: all]
    #[arg(long)]
    vocab_size: Option<usize>,
    /// sgd, adam, adamw [default: adam; small, medium, large: sgd]
    #[arg(long)]
    optimizer: Option<OptimizerKind>,
    /// Learning rate [default: 0.002; the preset's]
    #[arg(long)]
    rate: Option<f32>,
    /// Divide the rate by this every epoch after --decay-after [default: 2; the preset's]
    #[arg(long)]
    decay: Option<f32>,
    /// Epochs at the full rate [default: 4; the preset's]
    #[arg(long)]
    decay_after: Option<usize>,
    /// Clip the gradient's norm to this; 0 for never [default: 1; the preset's]
    #[arg(long)]
    clip: Option<f32>,
    /// Weight decay [default: 0]
    #[arg(long)]
    weight_decay: Option<f32>,
    /// Epochs to train [default: 10; the preset's]
    #[arg(long)]
    epochs: Option<usize>,
    /// Stop after so many steps; the schedule is stretched over them
    #[arg(long)]
    steps: Option<u64>,
    /// Stop after this time, such as 90s, 10m, 2h; the schedule is stretched over it
    #[arg(long, value_parser = duration)]
    budget: Option<f64>,
    /// Stop after so many epochs without a better validation; 0 for never [default: 2; presets: never]
    #[arg(long)]
    patience: Option<usize>,
    /// One seed for everything [default: 1]
    #[arg(long)]
    seed: Option<u64>,
    /// Threads to use; the result is the same for any number [default: all processors]
    #[arg(long)]
    threads: Option<usize>,
    /// The run folder [default: runs/NAME of the text]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace a run that exists
    #[arg(long)]
    force: bool,
    /// Go on with this run where it stopped; may be lengthened by --epochs, --steps or --budget
    #[arg(long, value_name = "RUN", conflicts_with_all = ["text", "preset", "out", "force", "layers", "hidden",
        "embedding", "projection", "wiring", "readout", "horizon", "init", "forget_bias", "batches", "batch",
        "segment", "dropout", "tokenizer", "min_count", "vocab_size", "optimizer", "rate", "decay", "decay_after",
        "clip", "weight_decay", "seed", "split"])]
    resume: Option<PathBuf>,
    /// Replace bytes that are not UTF-8
    #[arg(long)]
    lossy: bool,
    /// End with one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// Seconds of `90s`, `10m`, `1h30m`.
fn duration(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is not a duration; write it like 90s, 10m, 2h or 1h30m");
    let (mut total, mut digits) = (0.0, String::new());
    for c in text.chars() {
        let unit = match c {
            's' => 1.0,
            'm' => 60.0,
            'h' => 3600.0,
            _ => {
                digits.push(c);
                continue;
            }
        };
        total += unit * digits.parse::<f64>().ok().filter(|n| *n >= 0.0).ok_or_else(wrong)?;
        digits.clear();
    }
    if digits.is_empty() && total > 0.0 { Ok(total) } else { Err(wrong()) }
}

/// Trains and prints.
pub fn run(options: Train) -> Result<ExitCode> {
    use_threads(options.threads)?;
    let (folder, mut trainer) = match &options.resume {
        Some(folder) => {
            let lengthen = |config: &mut RunConfig| {
                config.epochs = options.epochs.unwrap_or(config.epochs);
                config.steps = options.steps.or(config.steps.filter(|_| options.epochs.is_none()));
                config.budget = options.budget.or(config.budget);
            };
            (folder.clone(), Trainer::resume(folder, lengthen)?)
        }
        None => {
            let config = options.resolve()?;
            let data = Data::read(&config, None)?;
            let folder = options.out.clone().unwrap_or_else(|| free_folder(config.data.train.as_deref()));
            (folder.clone(), Trainer::create(config, data, &folder, options.force)?)
        }
    };
    describe(&trainer, &folder);
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    let mut watch = Watch::new();
    let outcome = trainer.run(&mut |event| watch.show(event), &stop)?;
    watch.bar.finish_and_clear();
    if outcome.end == End::Interrupted {
        eprintln!("stopped and saved; go on with: lstm train --resume {}", folder.display());
        return Ok(ExitCode::from(130));
    }
    report(&trainer, &folder, &outcome, options.json);
    Ok(ExitCode::SUCCESS)
}

impl Train {
    /// The preset with the options laid over it.
    fn resolve(&self) -> Result<RunConfig> {
        let preset = match self.preset.as_deref() {
            Some("textlstm") => Preset::TextLstm,
            Some("small") => Preset::Small,
            Some("medium") => Preset::Medium,
            Some("large") => Preset::Large,
            Some("char") => Preset::Char,
            _ if self.text.is_none() => Preset::Builtin,
            _ => Preset::Default,
        };
        let mut config = preset.config();
        fn set<T: Copy>(target: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *target = value;
            }
        }
        let model = &mut config.model;
        set(&mut model.layers, self.layers);
        set(&mut model.hidden, self.hidden);
        set(&mut model.embedding, self.embedding);
        set(&mut model.readout, self.readout);
        set(&mut model.dropout, self.dropout);
        model.projection = self.projection.or(model.projection);
        if preset == Preset::TextLstm && model.layers > 1 {
            model.wiring = LayerWiring::Scores;
        }
        match self.wiring.as_deref() {
            Some("skip") => model.wiring = LayerWiring::Skip,
            Some("scores") => model.wiring = LayerWiring::Scores,
            Some(_) => model.wiring = LayerWiring::Stacked,
            None => {}
        }
        match self.horizon.as_deref() {
            None | Some("segment") => {}
            Some(text) => match text.parse() {
                Ok(steps) => model.horizon = Some(steps),
                Err(_) => bail!("--horizon {text} is neither a number of steps nor `segment`"),
            },
        }
        set(&mut config.init.scheme, self.init);
        config.init.forget_bias = self.forget_bias.or(config.init.forget_bias);
        set(&mut config.batching, self.batches);
        set(&mut config.batch, self.batch);
        if let (Batching::Windows(n), Some(segment)) = (config.batching, self.segment) {
            bail!("--segment {segment} and windows({n}) contradict each other: a window has {n} steps");
        }
        set(&mut config.segment, self.segment);
        set(&mut config.tokenizer, self.tokenizer);
        config.vocabulary.min_count = self.min_count.or(config.vocabulary.min_count);
        config.vocabulary.max_size = self.vocab_size.or(config.vocabulary.max_size);
        set(&mut config.optimizer, self.optimizer);
        set(&mut config.schedule.rate, self.rate);
        set(&mut config.schedule.decay, self.decay);
        set(&mut config.schedule.decay_after, self.decay_after);
        for (name, value) in [("--rate", config.schedule.rate), ("--decay", config.schedule.decay)] {
            if !(value > 0.0 && value.is_finite()) {
                bail!("{name} is {value}; it must be a number above 0");
            }
        }
        match self.clip {
            Some(clip) if clip < 0.0 || !clip.is_finite() => bail!("--clip is {clip}; it must be at least 0"),
            Some(clip) => config.clip = (clip > 0.0).then_some(clip),
            None => {}
        }
        set(&mut config.weight_decay, self.weight_decay);
        if config.weight_decay != 0.0 && config.optimizer == OptimizerKind::Adam {
            bail!("--weight-decay has no effect on adam; use --optimizer adamw");
        }
        set(&mut config.epochs, self.epochs);
        if config.epochs == 0 {
            bail!("--epochs is 0; at least one is needed to learn anything");
        }
        (config.steps, config.budget) = (self.steps, self.budget);
        if let Some(patience) = self.patience {
            config.patience = (patience > 0).then_some(patience);
        }
        set(&mut config.seed, self.seed);
        if let Some(split) = &self.split {
            let shares: Result<Vec<u32>, _> = split.split('/').map(str::parse).collect();
            match shares {
                Ok(shares) => config.data.split = shares,
                Err(_) => bail!("--split {split} is not a list of percentages such as 90/5/5"),
            }
        }
        // Absolute, so that a run can be resumed from any folder.
        let absolute = |path: &Option<PathBuf>| path.as_ref().map(std::path::absolute).transpose();
        config.data.train = absolute(&self.text)?;
        config.data.valid = absolute(&self.valid)?;
        config.data.test = absolute(&self.test)?;
        config.data.lossy = self.lossy;
        Ok(config)
    }
}

/// runs/NAME, or the next free runs/NAME-2, …
fn free_folder(text: Option<&Path>) -> PathBuf {
    let name = text.and_then(Path::file_stem).map_or("builtin".into(), |name| name.to_string_lossy());
    let first = Path::new("runs").join(name.as_ref());
    let numbered = (2..).map(|n| first.with_file_name(format!("{name}-{n}")));
    std::iter::once(first.clone()).chain(numbered).find(|folder| !folder.exists()).unwrap_or(first)
}

fn describe(trainer: &Trainer, folder: &Path) {
    let (data, config) = (&trainer.data, &trainer.config);
    let source = config.data.train.as_ref().map_or("the built-in language".to_owned(), |p| p.display().to_string());
    eprintln!(
        "text     {source}: {} lines, {} {} to train on",
        data.train.lines,
        data.train.ids.len(),
        config.tokenizer
    );
    for (name, corpus) in [("valid", &data.valid), ("test", &data.test)] {
        if let Some(corpus) = corpus {
            let share = 100.0 * corpus.unknown as f64 / corpus.ids.len() as f64;
            eprintln!("{name:<8} {} {}, {share:.2} % of them unknown", corpus.ids.len(), config.tokenizer);
        }
    }
    let model = &config.model;
    eprintln!(
        "model    vocabulary {}, embedding {}, {} × {} hidden: {} parameters",
        model.vocabulary,
        model.embedding,
        model.layers,
        model.hidden,
        trainer.model.layout().len()
    );
    eprintln!("run      {}", folder.display());
}

/// The live line on a terminal, plain lines elsewhere.
struct Watch {
    bar: ProgressBar,
    live: bool,
    last: Instant,
    started: Instant,
}

impl Watch {
    fn new() -> Self {
        let live = std::io::stderr().is_terminal();
        let bar = if live { ProgressBar::new(1000) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {msg}") {
            bar.set_style(style);
        }
        Self { bar, live, last: Instant::now(), started: Instant::now() }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Step { epoch, step, epoch_loss, tokens_per_second, progress, .. } => {
                let wait = if self.live { Duration::from_millis(100) } else { Duration::from_secs(10) };
                if self.last.elapsed() < wait {
                    return;
                }
                self.last = Instant::now();
                let left = self.started.elapsed().as_secs_f64() * (1.0 / progress.max(1e-6) - 1.0);
                let line = format!(
                    "epoch {} step {}/{} loss {epoch_loss:.4} perplexity {:.2}, {tokens_per_second:.0} tokens/s, {left:.0} s left",
                    epoch + 1,
                    step.0,
                    step.1,
                    epoch_loss.exp()
                );
                if self.live {
                    self.bar.set_position((progress * 1000.0) as u64);
                    self.bar.set_message(line);
                } else {
                    eprintln!("{line}");
                }
            }
            Event::Epoch { epoch, train, valid, best } => {
                let valid = valid.map_or("no validation".to_owned(), |loss| format!("valid {:.2}", loss.perplexity()));
                let line = format!(
                    "epoch {:>3}  train {:.2}  {valid}{}",
                    epoch + 1,
                    train.perplexity(),
                    if *best { "  best" } else { "" }
                );
                if self.live { self.bar.println(line) } else { eprintln!("{line}") }
            }
        }
    }
}

fn report(trainer: &Trainer, folder: &Path, outcome: &Outcome, as_json: bool) {
    let data = &trainer.data;
    let unknown = |corpus: &Option<lstm::text::corpus::Corpus>| corpus.as_ref().map(|corpus| corpus.unknown);
    if as_json {
        let result = json!({
            "run": folder,
            "train": loss_json(Some(outcome.train), Some(data.train.unknown)),
            "valid": loss_json(outcome.valid, unknown(&data.valid)),
            "test": loss_json(outcome.test, unknown(&data.test)),
            "floor": data.floor,
            "seconds": outcome.seconds,
            "tokens_per_second": outcome.tokens_per_second,
            "parameters": trainer.model.layout().len(),
        });
        println!("{result}");
        return;
    }
    println!("         perplexity    tokens   unknown");
    let rows = [
        ("train", Some(outcome.train), Some(data.train.unknown)),
        ("valid", outcome.valid, unknown(&data.valid)),
        ("test", outcome.test, unknown(&data.test)),
    ];
    for (name, loss, unknown) in rows {
        if let Some(loss) = loss {
            println!("{name:<7} {:>11.2} {:>9} {:>9}", loss.perplexity(), loss.tokens, unknown.unwrap_or(0));
        }
    }
    if let Some(floor) = data.floor {
        println!("floor   {floor:>11.2}   no model can beat it");
    }
    if let Some(trigram) = data.trigram {
        println!("trigram {trigram:>11.2}   what counting three words reaches");
    }
    println!("{:.1} s, {:.0} tokens/s", outcome.seconds, outcome.tokens_per_second);
    if outcome.end == End::Patience {
        eprintln!("stopped early: validation no longer improved");
    }
    eprintln!("try: lstm generate {}", folder.display());
}
