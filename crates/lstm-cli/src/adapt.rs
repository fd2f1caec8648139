//! `lstm eval --adapt`: a model that follows the text it is measured on, and the tuning of how.

use std::time::Instant;

use anyhow::{Result, bail};
use lstm::adapt::Adapted;
use lstm::adapt::dynamic::GradientScale;
use lstm::adapt::settings::{Adaptation, CacheSettings, DynamicSettings, Settings, Tuned};
use lstm::adapt::tune::{CacheGrid, Event, Trial, tune_cache, tune_dynamic};
use lstm::model::Loss;
use lstm::run::folder::RunFolder;
use lstm::run::saved::{LoadedRun, Origin};
use lstm::text::corpus::Corpus;
use serde_json::Value;

use crate::output::{count, grouped, loss_json, perplexity};
use crate::progress::Progress;

/// The options of adaptation.
#[derive(clap::Args)]
pub struct Adapt {
    /// Measure once more while following the text: by a `cache` of what followed similar outputs, by `dynamic` evaluation,
    /// which goes on learning after each segment, or by `both`. Settings are tuned once on the run's validation text and
    /// kept in its adaptation.toml; a model file takes them from one that lies beside it, but `dynamic` and `both` need the
    /// run folder and its training text, whose gradients they are scaled by [default: the model alone]
    #[arg(long, value_name = "HOW")]
    adapt: Option<Adaptation>,
    /// Tune the settings anew [default: use those in adaptation.toml, if there are any]
    #[arg(long)]
    tune: bool,
    /// How much more a similar output counts in the cache [default: tuned]
    #[arg(long, value_name = "THETA", allow_negative_numbers = true)]
    cache_theta: Option<f32>,
    /// The share of the cache in a prediction, at least 0 and below 1 [default: tuned]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    cache_weight: Option<f32>,
    /// The tokens that the cache looks back [default: tuned]
    #[arg(long, value_name = "TOKENS")]
    cache_window: Option<usize>,
    #[command(flatten)]
    dynamic: Dynamic,
    /// The parts of the text that dynamic evaluation reads side by side, each predicted from itself and from what was learned of the others
    /// until then: it takes that many times fewer steps; it is tuned for each number [default: 1, the order of the text]
    #[arg(long, value_name = "COLUMNS")]
    dynamic_columns: Option<usize>,
}

/// How a model goes on learning.
#[derive(clap::Args)]
struct Dynamic {
    /// The learning rate of dynamic evaluation [default: tuned]
    #[arg(long = "dynamic-rate", value_name = "RATE", allow_negative_numbers = true)]
    rate: Option<f32>,
    /// How strongly dynamic evaluation draws parameters back to their trained values [default: tuned]
    #[arg(long = "dynamic-decay", value_name = "DECAY", allow_negative_numbers = true)]
    decay: Option<f32>,
    /// The tokens that dynamic evaluation scores before it learns from them [default: tuned]
    #[arg(long = "dynamic-segment", value_name = "TOKENS")]
    segment: Option<usize>,
}

/// The options of a model that goes on learning from a text in its order.
#[derive(clap::Args)]
pub struct Learning {
    /// Let the model go on learning while it packs: dynamic. It is scaled by the gradients of the run's training text, so that packing
    /// and unpacking need the run folder, and that text where it lay. How fast it learns is tuned once on the run's validation text and
    /// kept in its adaptation.toml [default: the model packs as it is]
    #[arg(long, value_name = "HOW", value_parser = learning)]
    adapt: Option<Adaptation>,
    /// Tune its settings anew [default: use those in adaptation.toml, if there are any]
    #[arg(long)]
    tune: bool,
    #[command(flatten)]
    dynamic: Dynamic,
}

/// The adaptation that a text can be coded with.
fn learning(text: &str) -> Result<Adaptation, String> {
    match text.parse() {
        Ok(Adaptation::Dynamic) => Ok(Adaptation::Dynamic),
        _ => Err("a text is coded by the model as it is, or by one that goes on learning: dynamic".to_owned()),
    }
}

impl Learning {
    /// As options of an adaptation, of one column.
    pub fn adapt(self) -> Adapt {
        let Self { adapt, tune, dynamic } = self;
        Adapt { adapt, tune, cache_theta: None, cache_weight: None, cache_window: None, dynamic, dynamic_columns: None }
    }
}

/// An adaptation that is ready to begin.
pub struct Ready {
    adaptation: Adaptation,
    settings: Settings,
    scale: Option<GradientScale>,
}

/// The result of an adaptation.
pub struct Outcome {
    adaptation: Adaptation,
    settings: Settings,
    /// The loss on the text.
    pub loss: Loss,
    seconds: f64,
}

impl Adapt {
    /// The option that asks for it, if one does.
    pub fn asked(&self) -> Option<&'static str> {
        self.adapt.map(|_| "--adapt").or(self.tune.then_some("--tune"))
    }

    /// Refuses what contradicts itself, finds the settings, tuning them where they are missing, and reads what dynamic
    /// evaluation needs of the training text. `None` without `--adapt`.
    pub fn prepare(&self, run: &LoadedRun) -> Result<Option<Ready>> {
        let Some(adaptation) = self.adapt else { return Ok(None) };
        self.check(adaptation)?;
        if let Origin::File(file) = &run.origin
            && adaptation.is_dynamic()
        {
            bail!(
                "{} is a model by itself, but --adapt {adaptation} is scaled by the gradients of the text that its run was trained on; give \
                 the folder of its run",
                file.display()
            );
        }
        let folder = run.origin.folder();
        let mut preparation = Preparation { run, adaptation, scale: None, progress: Progress::new() };
        let settings = self.tuned_settings(&mut preparation, &folder);
        preparation.progress.finish();
        Ok(Some(Ready { adaptation, settings: settings?, scale: preparation.scale }))
    }

    /// The settings, tuned where they are missing. What dynamic evaluation needs is then in the preparation.
    fn tuned_settings(&self, preparation: &mut Preparation, folder: &RunFolder) -> Result<Settings> {
        let (adaptation, params) = (preparation.adaptation, &preparation.run.params);
        let settings = match self.given(adaptation) {
            Some(settings) => settings,
            None => {
                let mut tuned = match Tuned::load(folder, params) {
                    // What is tuned anew need not be readable.
                    Err(_) if self.tune => Tuned::new(params),
                    loaded => loaded?,
                };
                // Rates are tuned for a number of columns.
                let columns = self.columns();
                tuned.dynamic = tuned.dynamic.filter(|dynamic| dynamic.columns == columns);
                if tuned.dynamic.is_none() {
                    tuned.cache_with_dynamic = None;
                }
                if self.tune || !is_complete(tuned.of(adaptation), adaptation) {
                    preparation.tune(&mut tuned, folder, self.tune, columns)?;
                }
                self.over(tuned.of(adaptation))
            }
        };
        settings.validate()?;
        if settings.dynamic.is_some() {
            preparation.scale()?;
        }
        Ok(settings)
    }

    /// Refuses options of what does not take part and values out of their bounds.
    fn check(&self, adaptation: Adaptation) -> Result<()> {
        let cache = [
            ("--cache-theta", self.cache_theta.is_some()),
            ("--cache-weight", self.cache_weight.is_some()),
            ("--cache-window", self.cache_window.is_some()),
        ];
        let dynamic = [
            ("--dynamic-rate", self.dynamic.rate.is_some()),
            ("--dynamic-decay", self.dynamic.decay.is_some()),
            ("--dynamic-segment", self.dynamic.segment.is_some()),
            ("--dynamic-columns", self.dynamic_columns.is_some()),
        ];
        for (options, takes_part) in [(&cache[..], adaptation.has_cache()), (&dynamic, adaptation.is_dynamic())] {
            if let Some((name, _)) = options.iter().find(|(_, given)| *given && !takes_part) {
                bail!("{name} has no part in --adapt {adaptation}; leave it out, or choose --adapt both");
            }
        }
        let cache = CacheSettings { theta: 0.0, weight: 0.0, window: 1 };
        let dynamic = DynamicSettings { rate: 0.0, decay: 0.0, segment: 1, columns: self.columns() };
        self.over(Settings { cache: Some(cache), dynamic: Some(dynamic) }).validate()?;
        Ok(())
    }

    /// The settings, if every one is given.
    fn given(&self, adaptation: Adaptation) -> Option<Settings> {
        let mut settings = Settings::default();
        if adaptation.has_cache() {
            let (theta, weight, window) = (self.cache_theta?, self.cache_weight?, self.cache_window?);
            settings.cache = Some(CacheSettings { theta, weight, window });
        }
        if adaptation.is_dynamic() {
            let (rate, decay, segment) = (self.dynamic.rate?, self.dynamic.decay?, self.dynamic.segment?);
            settings.dynamic = Some(DynamicSettings { rate, decay, segment, columns: self.columns() });
        }
        Some(settings)
    }

    /// The parts of a text that dynamic evaluation reads side by side.
    pub fn columns(&self) -> usize {
        self.dynamic_columns.unwrap_or(1)
    }

    /// `settings` with those that are given in their places.
    fn over(&self, settings: Settings) -> Settings {
        let cache = settings.cache.map(|cache| CacheSettings {
            theta: self.cache_theta.unwrap_or(cache.theta),
            weight: self.cache_weight.unwrap_or(cache.weight),
            window: self.cache_window.unwrap_or(cache.window),
        });
        let dynamic = settings.dynamic.map(|dynamic| DynamicSettings {
            rate: self.dynamic.rate.unwrap_or(dynamic.rate),
            decay: self.dynamic.decay.unwrap_or(dynamic.decay),
            segment: self.dynamic.segment.unwrap_or(dynamic.segment),
            columns: self.columns(),
        });
        Settings { cache, dynamic }
    }
}

fn is_complete(settings: Settings, adaptation: Adaptation) -> bool {
    settings.cache.is_some() == adaptation.has_cache() && settings.dynamic.is_some() == adaptation.is_dynamic()
}

/// The preparation of an adaptation, once, before the pass.
struct Preparation<'a> {
    run: &'a LoadedRun,
    adaptation: Adaptation,
    scale: Option<GradientScale>,
    progress: Progress,
}

impl Preparation<'_> {
    /// The scale of the gradients on the training text.
    fn scale(&mut self) -> Result<()> {
        if self.scale.is_none() {
            self.progress.stage("reading the training text");
            let text = self.run.training_text()?;
            let Self { run, progress, .. } = self;
            let mut watch = |tokens, of| progress.pass("gradients of the training text", tokens, of, None);
            self.scale = Some(GradientScale::collect(run, &text, &mut watch)?);
        }
        Ok(())
    }

    /// Tunes what `adaptation` lacks, all of it if `anew`, and stores it.
    fn tune(&mut self, tuned: &mut Tuned, folder: &RunFolder, anew: bool, columns: usize) -> Result<()> {
        let adaptation = self.adaptation;
        let options = match adaptation {
            Adaptation::Cache => "--cache-theta, --cache-weight and --cache-window",
            Adaptation::Dynamic => "--dynamic-rate, --dynamic-decay and --dynamic-segment",
            Adaptation::Both => {
                "--cache-theta, --cache-weight, --cache-window, --dynamic-rate, --dynamic-decay and --dynamic-segment"
            }
        };
        if let Origin::File(file) = &self.run.origin {
            bail!(
                "{} is a model by itself, without the validation text that --adapt {adaptation} is tuned on; give the folder of its \
                 run, put the adaptation.toml of that beside the file, or give {options}",
                file.display()
            );
        }
        self.progress.stage("reading the validation text");
        let Some(text) = self.run.validation_text()? else {
            bail!(
                "{} has no validation text to tune --adapt {adaptation} on; give {options}, or train with --valid",
                folder.path().display()
            );
        };
        let started = Instant::now();
        if adaptation.is_dynamic() && (anew || tuned.dynamic.is_none()) {
            self.scale()?;
            self.progress.say("tuning   dynamic evaluation on the validation text");
            let best = self.tune_dynamic(&text, columns)?;
            self.progress.say(&format!("chosen   {}", dynamic_settings(best.settings)));
            tuned.dynamic = Some(best.settings);
            // A cache beside another model is another cache.
            tuned.cache_with_dynamic = None;
        }
        if adaptation.has_cache() {
            let dynamic = tuned.dynamic.filter(|_| adaptation.is_dynamic());
            if dynamic.is_some() {
                self.scale()?;
            }
            let Self { run, scale, progress, .. } = self;
            let mut watch = |event| {
                if let Event::Pass { tokens, of } = event {
                    progress.pass("tuning the cache", tokens, of, None);
                }
            };
            let grid = tune_cache(run, &text, scale.as_ref().zip(dynamic), &mut watch)?;
            let best = grid.best().0;
            progress.say(&grid_table(&grid));
            progress.say(&format!("chosen   {}", cache_settings(best)));
            match dynamic {
                Some(_) => tuned.cache_with_dynamic = Some(best),
                None => tuned.cache = Some(best),
            }
        }
        tuned.save(folder)?;
        let (path, seconds) = (folder.adaptation(), started.elapsed().as_secs_f64());
        self.progress.say(&format!("stored   {} after {seconds:.0} s", path.display()));
        Ok(())
    }

    fn tune_dynamic(&mut self, text: &Corpus, columns: usize) -> Result<Trial> {
        let Self { run, scale, progress, .. } = self;
        let mut watch = |event| match event {
            Event::Pass { tokens, of } => progress.pass("trying", tokens, of, None),
            Event::Tried(Trial { settings: DynamicSettings { rate: 0.0, .. }, loss }) => {
                progress.say(&format!(
                    "        rate      decay  segment  perplexity on {}",
                    count(loss.tokens as u64, "token")
                ));
                progress.say(&format!("           0          -        -  {:>10}", perplexity(loss.perplexity())));
            }
            Event::Tried(Trial { settings: DynamicSettings { rate, decay, segment, .. }, loss }) => {
                let perplexity = perplexity(loss.perplexity());
                progress.say(&format!("{rate:>12.3e} {decay:>10.3e} {segment:>8}  {perplexity:>10}"));
            }
        };
        let Some(scale) = scale else { bail!("the gradients of the training text are not known") };
        Ok(tune_dynamic(run, text, scale, columns, &mut watch)?)
    }
}

/// The perplexities of a grid, with the best weight of every cell.
fn grid_table(grid: &CacheGrid) -> String {
    let plain = perplexity(grid.plain().perplexity());
    let mut table = format!(
        "tuning   the cache on {} of the validation text: perplexity with its best weight, {plain} without\n   theta  window",
        count(grid.tokens as u64, "token")
    );
    grid.windows.iter().for_each(|window| table.push_str(&format!(" {window:>8}")));
    for (row, theta) in grid.thetas.iter().enumerate() {
        table.push_str(&format!("\n{theta:>8}        "));
        for column in 0..grid.windows.len() {
            table.push_str(&format!(" {:>8}", perplexity(grid.cell(row, column).1.perplexity())));
        }
    }
    table
}

fn cache_settings(settings: CacheSettings) -> String {
    let CacheSettings { theta, weight, window } = settings;
    format!("cache of theta {theta}, weight {weight}, window {}", grouped(window as u64))
}

fn dynamic_settings(settings: DynamicSettings) -> String {
    let DynamicSettings { rate, decay, segment, columns } = settings;
    let side_by_side = if columns == 1 { String::new() } else { format!(" in {columns} columns") };
    format!("dynamic at rate {rate:.3e}, decay {decay:.3e}, segments of {segment}{side_by_side}")
}

impl Ready {
    /// What goes on learning while it packs: the scale of its gradients, and how.
    pub fn into_learning(self) -> Option<(GradientScale, DynamicSettings)> {
        self.scale.zip(self.settings.dynamic)
    }

    /// Goes through the text.
    pub fn run(self, run: &LoadedRun, corpus: &Corpus) -> Result<Outcome> {
        let Self { adaptation, settings, scale } = self;
        let (started, mut progress) = (Instant::now(), Progress::new());
        let mut pass = Adapted::new(run, corpus, settings.cache, scale.as_ref().zip(settings.dynamic))?;
        while pass.advance() {
            let loss = pass.total();
            if !loss.perplexity().is_finite() {
                progress.finish();
                let rate = settings.dynamic.map_or(0.0, |dynamic| dynamic.rate);
                bail!(
                    "after {} the perplexity of the adapted model is no finite number; give a lower --dynamic-rate than {rate}",
                    count(loss.tokens as u64, "token")
                );
            }
            progress.pass("adapting", loss.tokens, pass.tokens(), Some(loss));
        }
        progress.finish();
        Ok(Outcome { adaptation, settings, loss: pass.total(), seconds: started.elapsed().as_secs_f64() })
    }
}

impl Outcome {
    /// One object.
    pub fn json(&self, corpus: &Corpus) -> Result<Value> {
        let mut result = loss_json(Some(self.loss), Some(corpus));
        result["adapt"] = self.adaptation.to_string().into();
        // By way of their text, single-precision numbers keep their few digits.
        result["cache"] = serde_json::from_str(&serde_json::to_string(&self.settings.cache)?)?;
        result["dynamic"] = serde_json::from_str(&serde_json::to_string(&self.settings.dynamic)?)?;
        result["seconds"] = self.seconds.into();
        Ok(result)
    }

    /// One line.
    pub fn line(&self) -> String {
        let Self { settings, loss, seconds, .. } = self;
        let parts = [settings.dynamic.map(dynamic_settings), settings.cache.map(cache_settings)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let (perplexity, nats) = (perplexity(loss.perplexity()), loss.mean());
        format!("adapted    {perplexity} ({nats:.4} nats a token), {}, in {seconds:.1} s", parts.join(", "))
    }
}
