//! `lstm train --task forecast`: from a table with a time column to a model of what comes next.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lstm::forecast::{
    Comparison, ForecastConfig, Forecasting, Likelihood, Measures, Normalise, Prepared, finish, resume,
};
use lstm::nn::config::{HiddenSizes, InitScheme};
use lstm::report::Results;
use lstm::run::TaskKind;
use lstm::train::event::{End, Outcome};
use lstm::train::task::Task as _;
use lstm::train::trainer::Trainer;
use serde_json::{Value, json};

use crate::given::set;
use crate::length_options::LengthOptions;
use crate::output::{best, count, talk, use_threads};
use crate::progress::{Progress, during};
use crate::signals::Signals;
use crate::stdin;
use crate::task_options::{TaskRun, TaskTraining, extension, is_stdin};
use crate::task_train::{Kept, absolute, describe, drive};

/// The options of `lstm train` of a forecast.
#[derive(clap::Args)]
#[command(about = "Train a model that forecasts the columns of a table with time stamps")]
pub struct TrainForecast {
    /// The table: CSV or TSV with a header, or JSON lines, each also compressed (.gz, .zst); or - for standard input, which is then kept in
    /// the run folder
    file: Option<PathBuf>,
    /// What is learned: forecast
    #[arg(long, value_name = "TASK")]
    task: Option<TaskKind>,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    training: TaskTraining,
    #[command(flatten)]
    length: LengthOptions,
    #[command(flatten)]
    run: TaskRun,
}

/// What is read, and what of it is forecast.
#[derive(clap::Args)]
#[command(next_help_heading = "Data")]
struct DataOptions {
    /// The column of time stamps: dates, dates and times, or seconds since 1970 [default: the only column of such]
    #[arg(long, value_name = "COL")]
    time: Option<String>,
    /// The columns to forecast, with commas between them [default: the only column of numbers that is not named otherwise]
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    target: Vec<String>,
    /// The column that tells several series apart [default: the table is one series]
    #[arg(long, value_name = "COL")]
    series: Option<String>,
    /// Columns whose values are known for the time to come too, numbers or up to 200 texts, with commas between them [default: none]
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    known: Vec<String>,
    /// Columns that have one value a series, likewise [default: none]
    #[arg(long = "static", value_name = "COL,…", value_delimiter = ',')]
    fixed: Vec<String>,
    /// The steps to forecast [default: a day of hours, a week of days, a year of months, but at most a tenth of the table]
    #[arg(long, value_name = "STEPS")]
    horizon: Option<usize>,
    /// The steps before them to read [default: planned; where --epochs or --steps say how long the run is: seven seasons]
    #[arg(long, value_name = "STEPS")]
    context: Option<usize>,
    /// The parts of the table's time for training, validation and test: percentages, or steps [default: 70/10/20, of a short table at least
    /// a horizon each]
    #[arg(long, value_parser = parts, value_name = "A/B/C")]
    split: Option<Parts>,
}

/// What the model is.
#[derive(clap::Args)]
#[command(next_help_heading = "Model")]
struct ModelOptions {
    /// What is said of every value: quantiles, by the pinball loss; student, a Student t distribution; negative-binomial, of counts; point, one
    /// value by the squared error
    #[arg(long, value_name = "KIND")]
    likelihood: Option<Likelihood>,
    /// What a window is measured from: last, its last value; window, its mean and deviation; series, those of the series
    #[arg(long, value_name = "HOW")]
    normalise: Option<Normalise>,
    /// Add a linear map from the context to the horizon; --linear=false undoes it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    linear: Option<bool>,
    /// Number of layers
    #[arg(long)]
    layers: Option<usize>,
    /// Hidden size, or one for each layer such as 64,32
    #[arg(long)]
    hidden: Option<HiddenSizes>,
    /// Drop of what a layer gives to the next and to the head
    #[arg(long, value_name = "RATE")]
    dropout: Option<f32>,
    /// Initial values: torch, uniform(a), ones-bias
    #[arg(long)]
    init: Option<InitScheme>,
    /// Sum of the forget gate's biases at the start
    #[arg(long)]
    forget_bias: Option<f32>,
}

/// The parts of a table's time, in percent or in steps.
#[derive(Clone)]
struct Parts(Vec<u32>);

fn parts(text: &str) -> Result<Parts, String> {
    let parts: Result<Vec<u32>, _> = text.split('/').map(str::parse).collect();
    parts
        .map(Parts)
        .map_err(|_| format!("`{text}` is not a list of percentages or steps such as 70/10/20 or 8640/2880/2880"))
}

/// The seconds of a run that nothing bounds.
const USUAL_SECONDS: f64 = 60.0;

/// The options whose default is a value of the settings, and where.
const SETTINGS: [(&str, &str); 10] = [
    ("likelihood", "/likelihood"),
    ("normalise", "/normalise"),
    ("linear", "/linear"),
    ("layers", "/lstm/layers"),
    ("hidden", "/lstm/hidden"),
    ("dropout", "/dropout"),
    ("init", "/training/init/scheme"),
    ("forget-bias", "/training/init/forget_bias"),
    ("epochs", "/training/epochs"),
    ("patience", "/training/patience"),
];

/// What the help says after the options.
const EXPLANATION: &str = "\
Where neither --epochs nor --steps say how long the run is, context, normalisation, linear map, sizes, dropout, rate and epochs are chosen by \
the validation part, in about half of --budget (a minute if nothing is said); what is given stays.";

/// The command with the defaults of its options in their help.
pub fn shown(train: clap::Command) -> clap::Command {
    let settings: Vec<(&str, &str)> = SETTINGS.into_iter().chain(TaskTraining::SETTINGS).collect();
    let usual = ForecastConfig::new(Default::default(), 0, 0);
    crate::defaults::shown_by(train, &json!(usual), &settings).after_help(EXPLANATION)
}

impl TrainForecast {
    /// The settings that the options come to, before the table is read.
    fn config(&self) -> Result<ForecastConfig> {
        let mut config = ForecastConfig::new(Default::default(), 0, 0);
        config.split = self.data.split.clone().map_or(Vec::new(), |parts| parts.0);
        let DataOptions { time, target, series, known, fixed, .. } = &self.data;
        config.columns.table = absolute(self.file.as_deref())?;
        config.columns.time = time.clone().unwrap_or_default();
        (config.columns.target, config.columns.series) = (target.clone(), series.clone());
        (config.columns.known, config.columns.fixed) = (known.clone(), fixed.clone());
        if let Some(zero) =
            [("horizon", self.data.horizon), ("context", self.data.context)].iter().find(|given| given.1 == Some(0))
        {
            bail!("--{} is 0; it must be at least 1", zero.0);
        }
        self.training.lay_over(&mut config.training)?;
        self.given(&mut config);
        config.training.set_length(self.length.length());
        set(&mut config.training.keep_checkpoints, self.run.keep_checkpoints);
        Ok(config)
    }

    /// Puts what is given in its place.
    fn given(&self, config: &mut ForecastConfig) {
        set(&mut config.horizon, self.data.horizon);
        set(&mut config.context, self.data.context);
        let ModelOptions { likelihood, normalise, linear, layers, hidden, dropout, init, forget_bias } = &self.model;
        set(&mut config.likelihood, *likelihood);
        set(&mut config.normalise, *normalise);
        set(&mut config.linear, *linear);
        let sizes = match hidden {
            Some(HiddenSizes::Each(sizes)) => Some(sizes.len()),
            _ => None,
        };
        set(&mut config.lstm.layers, layers.or(sizes));
        if let Some(hidden) = hidden {
            config.lstm.hidden = hidden.clone();
        }
        set(&mut config.dropout, *dropout);
        set(&mut config.training.init.scheme, *init);
        config.training.init.forget_bias = forget_bias.or(config.training.init.forget_bias);
        set(&mut config.training.batch, self.training.batch);
        set(&mut config.training.precision, self.training.precision);
        set(&mut config.training.schedule.learning_rate, self.training.learning_rate);
        config.training.patience = match self.length.length().patience {
            Some(0) => None,
            patience => patience.or(config.training.patience),
        };
    }

    /// Whether the time is the interface: nothing else says how long the run is.
    fn is_planned(&self) -> bool {
        let length = self.length.length();
        length.epochs.is_none() && length.steps.is_none()
    }
}

/// Trains and prints.
pub fn run(options: &TrainForecast) -> Result<ExitCode> {
    use_threads(options.run.threads)?;
    let signals = Signals::watch()?;
    let curves = options.run.curves(TaskKind::Forecast)?;
    let mut trainer = match &options.run.resume {
        Some(folder) => {
            let extension = extension(options.file.as_deref(), &options.length, &options.training, &options.run)?;
            during("reading the table and the checkpoint", || resume(folder, &extension))?
        }
        None => begin(options, &signals)?,
    };
    if let Some(note) = trainer.note() {
        talk(format_args!("note     {note}"));
    }
    describe_model(&trainer);
    describe(&trainer);
    let driven = drive(&mut trainer, &signals, ("loss", |loss| loss.mean()), &options.run, curves)?;
    let Some((outcome, mut kept)) = driven else {
        return Ok(ExitCode::from(signals.exit_code()));
    };
    report(&trainer, &outcome, &mut kept, options.run.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Begins a run: reads the table, and chooses what is not given.
fn begin(options: &TrainForecast, signals: &Signals) -> Result<Trainer<Forecasting>> {
    let Some(file) = &options.file else {
        bail!("--task forecast needs a table: lstm train FILE --task forecast --time COL --target COL");
    };
    let mut config = options.config()?;
    let mut claim = options.run.claim(file)?;
    let leftovers = claim.leftovers();
    signals.tidy(move || leftovers.remove());
    if is_stdin(file) {
        config.columns.table = Some(stdin::spool(&mut claim)?);
    }
    let mut prepared = during("reading the table", || Prepared::read(config))?;
    if !prepared.guessed.is_empty() {
        talk(format_args!("columns  {}", prepared.guessed.join(", ")));
    }
    describe_table(&prepared);
    if options.is_planned() {
        let seconds = options.length.length().budget.unwrap_or(USUAL_SECONDS);
        let progress = Progress::new();
        let given = |config: &mut ForecastConfig| options.given(config);
        let plan = prepared.plan(seconds, &given, &mut |trial| progress.stage(trial))?;
        progress.finish();
        plan.why.iter().for_each(|line| talk(format_args!("plan     {line}")));
    }
    signals.begin();
    Ok(prepared.begin(claim)?)
}

/// Says what was found in the table.
fn describe_table(prepared: &Prepared) {
    let (config, dataset) = (&prepared.config, &prepared.dataset);
    let frame = &dataset.frame;
    let last = |part: usize| frame.written_until(part);
    let test = if dataset.cuts[2] > dataset.cuts[1] { format!(", test up to {}", last(2)) } else { String::new() };
    let steps: usize = dataset.series.iter().map(|series| series.observed).sum();
    let missing = dataset.series.iter().flat_map(|series| &series.values[..series.observed * dataset.targets]);
    let missing = match missing.filter(|value| value.is_nan()).count() {
        0 => String::new(),
        missing => format!(", {} missing", count(missing as u64, "value")),
    };
    talk(format_args!(
        "table    {} of {} in steps of {}{missing}; trained up to {}, validated up to {}{test}",
        count(steps, "row"),
        match dataset.series.len() {
            1 => "one series".to_owned(),
            series => format!("{series} series"),
        },
        frame.step.written(frame.clock),
        last(0),
        last(1)
    ));
    let unused =
        dataset.series.iter().map(|series| series.offset + series.observed).max().unwrap_or(0) - dataset.cuts[2];
    if unused > 0 {
        talk(format_args!("note     the split leaves the last {} of the table out", count(unused as u64, "step")));
    }
    talk(format_args!("forecast {} of {}", count(config.horizon as u64, "step"), config.columns.target.join(", ")));
}

/// Says what the model is.
fn describe_model(trainer: &Trainer<Forecasting>) {
    let (task, config) = (trainer.task(), trainer.task().settings());
    let linear = if config.linear { ", and a linear map" } else { "" };
    talk(format_args!(
        "model    {}{linear}: {}, {} from {}, trained on {}",
        layers(config),
        count(task.layout().len(), "parameter"),
        config.likelihood,
        count(config.context, "step"),
        count(task.windows() as u64, "window")
    ));
}

/// The layers as people say them.
pub fn layers(config: &ForecastConfig) -> String {
    format!("{} of {} units", count(config.lstm.layers as u64, "layer"), config.lstm.hidden)
}

/// Prints the result: the model beside its baselines.
fn report(trainer: &Trainer<Forecasting>, outcome: &Outcome, kept: &mut Kept, as_json: bool) -> Result<()> {
    let (trained, comparison) = during("measuring", || finish(trainer))?;
    let dataset = trainer.task().dataset();
    let part = if dataset.cuts[2] > dataset.cuts[1] { "test" } else { "validation" };
    kept.measured(vec![comparison_results(part, &comparison)]);
    let mut out = std::io::stdout().lock();
    if as_json {
        let end = match outcome.end {
            End::Patience => "patience",
            _ => "complete",
        };
        let shown = json!({
            "run": trainer.folder(),
            "train": outcome.train.mean(),
            "valid": outcome.valid.map(|loss| loss.mean()),
            "epochs": outcome.epochs,
            "best": outcome.best.map(|(epoch, step)| json!({"epoch": epoch, "step": step})),
            "seconds": outcome.seconds,
            "end": end,
            "part": part,
            "config": trained.config,
            "measures": comparison_json(&comparison),
        });
        writeln!(out, "{shown}")?;
        return Ok(());
    }
    if let Some((epoch, step)) = outcome.best {
        writeln!(
            out,
            "{}; validation loss {:.4}",
            best(epoch, step),
            trained.card.valid.map_or(f64::NAN, |loss| loss.mean())
        )?;
    }
    writeln!(out, "{part}, {} to {}:", comparison.from, comparison.to)?;
    print_comparison(&mut out, &comparison)?;
    writeln!(out, "forecast what comes next: lstm predict {} TABLE", trainer.folder().display())?;
    Ok(())
}

/// A comparison for machines.
pub fn comparison_json(comparison: &Comparison) -> Value {
    json!({
        "from": comparison.from, "to": comparison.to, "origins": comparison.origins, "season": comparison.season,
        "model": comparison.model,
        "baselines": comparison.baselines.iter().map(|(name, measures)| json!({"name": name, "measures": measures})).collect::<Vec<_>>(),
        "beaten_by": comparison.beaten_by(),
        "mae_scaled_by_step": comparison.by_step,
    })
}

/// A comparison for the page of its run.
fn comparison_results(part: &str, comparison: &Comparison) -> Results {
    let row = |name: &str, measures: &Measures| {
        let coverage = measures.coverage.map_or("-".to_owned(), |coverage| format!("{:.1} %", 100.0 * coverage));
        let scaled = [measures.mse_scaled, measures.mae_scaled, measures.crps_scaled, measures.mase];
        let own = [measures.mae, measures.rmse, measures.crps];
        let scaled = scaled.map(|value| format!("{value:.4}"));
        [name.to_owned()].into_iter().chain(scaled).chain([coverage]).chain(own.map(number)).collect()
    };
    let baselines = comparison.baselines.iter().map(|(name, measures)| row(name, measures));
    let beaten = comparison.beaten_by();
    let head = ["MSE, scaled", "MAE, scaled", "CRPS, scaled", "MASE", "in 90 %", "MAE", "RMSE", "CRPS"];
    Results {
        part: part.to_owned(),
        headline: ("MASE".to_owned(), format!("{:.3}", comparison.model.mase)),
        head: head.map(str::to_owned).to_vec(),
        rows: [row("model", &comparison.model)].into_iter().chain(baselines).collect(),
        said: match beaten.is_empty() {
            true => String::new(),
            false => format!("The model does not beat {}.", beaten.join(" and ")),
        },
    }
}

/// Prints a comparison as a table.
pub fn print_comparison(out: &mut impl Write, comparison: &Comparison) -> Result<()> {
    writeln!(
        out,
        "{:<22} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9}",
        "", "MSE", "MAE", "CRPS", "MASE", "in 90 %", "MAE", "RMSE", "CRPS"
    )?;
    writeln!(out, "{:<22} {:>26} {:>17} {:>29}", "", "on the series' scale", "", "on the table's")?;
    let mut row = |name: &str, measures: &Measures| {
        let coverage = measures.coverage.map_or("-".to_owned(), |coverage| format!("{:.1} %", 100.0 * coverage));
        writeln!(
            out,
            "{name:<22} {:>8.4} {:>8.4} {:>8.4} {:>8.3} {coverage:>8} {:>9} {:>9} {:>9}",
            measures.mse_scaled,
            measures.mae_scaled,
            measures.crps_scaled,
            measures.mase,
            number(measures.mae),
            number(measures.rmse),
            number(measures.crps)
        )
    };
    row("model", &comparison.model)?;
    let season = match comparison.season {
        1 => "last value".to_owned(),
        season => format!("naive, season of {season}"),
    };
    for (name, measures) in &comparison.baselines {
        row(if name == "seasonal naive" { &season } else { name }, measures)?;
    }
    let beaten = comparison.beaten_by();
    if !beaten.is_empty() {
        writeln!(
            out,
            "the model does not beat {}: use that instead, or train longer or on more",
            beaten.join(" and ")
        )?;
    }
    writeln!(
        out,
        "of {} from {}; CRPS is of 11 quantiles, MASE by the naive forecast's error in the training part",
        count(comparison.model.count as u64, "value"),
        count(comparison.origins as u64, "origin")
    )?;
    Ok(())
}

/// A number of any size in few characters.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        1e-3..1e6 => format!("{value:.*}", if value < 10.0 { 4 } else { 2 }),
        _ => format!("{value:.3e}"),
    }
}
