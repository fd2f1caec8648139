//! `lstm show`: what a trained model is.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use lstm::model::penalty::Penalties;
use lstm::optim::schedule::{Schedule, ScheduleKind};
use lstm::run::checkpoint::LoadedRun;
use lstm::run::config::RunConfig;
use serde::Serialize;
use serde_json::{Value, json};

use crate::output::{BELOW_FLOOR, batches, best, count, grouped, loss_json, optimizer, perplexity, source};

/// The options of `lstm show`.
#[derive(clap::Args)]
pub struct Show {
    /// The run folder
    run: PathBuf,
    /// Print one JSON object [default: a table]
    #[arg(long)]
    json: bool,
}

/// The run, for machines.
#[derive(Serialize)]
struct Shown<'a> {
    config: &'a RunConfig,
    results: Value,
    parameters: usize,
    tensors: Vec<Value>,
}

/// Shows the run.
pub fn run(options: Show) -> Result<ExitCode> {
    let run = LoadedRun::open(&options.run)?;
    let (config, model, card, layout) = (&run.config, run.model.config(), &run.card, run.model.layout());
    let mut out = std::io::stdout().lock();
    if options.json {
        let tensors: Vec<_> =
            layout.entries().iter().map(|entry| json!({"name": entry.name, "shape": entry.shape})).collect();
        let results = json!({
            "epoch": card.epoch,
            "step": card.step,
            "train": loss_json(Some(card.train), None),
            "valid": loss_json(card.valid, None),
            "test": loss_json(card.test, None),
            "floor": card.floor,
        });
        let shown = Shown { config, results, parameters: layout.len(), tensors };
        writeln!(out, "{}", serde_json::to_string(&shown)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let projection = model.projection.map(|size| format!(", projected to {size}")).unwrap_or_default();
    let horizon = model.horizon.map_or("the whole segment".to_owned(), |steps| format!("{steps} steps"));
    let mut row = |name: &str, value: String| writeln!(out, "{name:<11} {value}");
    row("layers", format!("{} × {} hidden, embedding {}{projection}", model.layers, model.hidden, model.embedding))?;
    row("wiring", format!("{}, readout {}, gradient through {horizon}", model.wiring, model.readout))?;
    if !model.variant.is_plain() {
        row("cells", model.variant.to_string())?;
    }
    if model.residual {
        row("residual", "layers add their input where sizes agree".to_owned())?;
    }
    if model.tied {
        row("tied", "the readout's weights are the embedding's".to_owned())?;
    }
    if model.softmaxes > 1 {
        row("softmaxes", format!("a mixture of {}", model.softmaxes))?;
    }
    row("vocabulary", format!("{} {}", grouped(model.vocabulary as u64), run.tokenizer.kind().noun()))?;
    let forget = config.init.forget_bias.map(|bias| format!(", forget bias {bias}")).unwrap_or_default();
    row("initial", format!("{}{forget}, seed {}", config.init.scheme, config.seed))?;
    row("trained on", source(config))?;
    row("batches", batches(config))?;
    let Schedule { kind, decay, decay_after, planned_epochs, .. } = config.schedule;
    let of = planned_epochs.map(|epochs| format!(" of {epochs} that the run is taken for")).unwrap_or_default();
    let falling = match kind {
        ScheduleKind::Step if decay != 1.0 => format!(", divided by {decay} each epoch after {decay_after}{of}"),
        ScheduleKind::Plateau => format!(", divided by {decay} after an epoch that does not improve the validation"),
        _ => String::new(),
    };
    let clip = config.clip.map_or("not clipped".to_owned(), |clip| format!("clipped to {clip}"));
    row("optimizer", format!("{}{falling}; gradient {clip}", optimizer(config)))?;
    row("dropout", model.dropout.to_string())?;
    let Penalties { activation, temporal, label_smoothing } = model.penalties;
    for (name, weight) in [("ar", activation), ("tar", temporal), ("smoothing", label_smoothing)] {
        if weight > 0.0 {
            row(name, weight.to_string())?;
        }
    }
    row("model", best(card.epoch, card.step))?;
    for (name, loss) in [("train", Some(card.train)), ("valid", card.valid), ("test", card.test)] {
        let said = loss.map_or("not measured".to_owned(), |loss| {
            let below = match card.floor {
                Some(floor) if name == "train" && loss.perplexity() < floor => format!(", {BELOW_FLOOR}"),
                _ => String::new(),
            };
            let of = if name == "train" { "while it trained" } else { "by this model" };
            let (perplexity, tokens) = (perplexity(loss.perplexity()), count(loss.tokens as u64, "token"));
            format!("perplexity {perplexity} on {tokens}, {of}{below}")
        });
        row(name, said)?;
    }
    if let Some(floor) = card.floor {
        row("floor", format!("perplexity {floor:.2}, which no model can beat on a new text"))?;
    }
    row("parameters", grouped(layout.len() as u64))?;
    for entry in layout.entries() {
        writeln!(out, "  {:<26} {:?}", entry.name, entry.shape)?;
    }
    Ok(ExitCode::SUCCESS)
}
