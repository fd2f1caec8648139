//! Times the training step of a language model: embedding, LSTM, readout, loss, backward, clipping, SGD.
//!
//! The twin of `bench/pytorch_step.py`: same shapes, same work, one JSON object on stdout. `bench/compare.py` runs
//! both in turns. The number of threads is `RAYON_NUM_THREADS`.
//!
//! ```sh
//! cargo run --release --example training_step -- --hidden 650 --segment 35
//! ```

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Instant;

use lstm::config::{Init, InitScheme};
use lstm::model::{LanguageModel, LanguageModelConfig};
use lstm::rng::{Purpose, Rng};
use lstm::text::batches::Batch;
use lstm::train::optimizer::{Optimizer, OptimizerKind};

/// The options and their defaults: the preset `small` of Zaremba et al. (2014).
const OPTIONS: [(&str, usize); 8] = [
    ("vocabulary", 10_000),
    ("embedding", 200),
    ("hidden", 200),
    ("layers", 2),
    ("segment", 20),
    ("batch", 20),
    ("steps", 100),
    ("warm-up", 10),
];

fn options() -> Result<HashMap<&'static str, usize>, String> {
    let mut options = HashMap::from(OPTIONS);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let names = || OPTIONS.map(|(name, _)| format!("--{name}")).join(", ");
        let known = OPTIONS.iter().find(|(name, _)| argument.strip_prefix("--") == Some(name));
        let (name, _) = known.ok_or_else(|| format!("there is no option {argument}; there are {}", names()))?;
        let value = arguments.next().unwrap_or_default();
        let number = value.parse().map_err(|_| format!("{argument} takes a whole number, not {value:?}"))?;
        options.insert(name, number);
    }
    Ok(options)
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let options = options()?;
    let (vocabulary, segment, rows) = (options["vocabulary"], options["segment"], options["batch"]);
    let model = LanguageModel::new(LanguageModelConfig {
        vocabulary,
        embedding: options["embedding"],
        hidden: options["hidden"],
        layers: options["layers"],
        projection: None,
        wiring: Default::default(),
        readout: Default::default(),
        horizon: None,
        dropout: 0.0,
    })?;
    let mut params = model.initialise(&Init { scheme: InitScheme::Uniform(0.1), forget_bias: None }, 1);
    let mut gradients = model.gradients();
    let mut optimizer = Optimizer::new(OptimizerKind::Sgd, 0.0, params.values().len());
    let mut state = model.state(rows);
    let mut tape = model.tape();

    let mut rng = Rng::new(1, Purpose::Shuffle, 0);
    let tokens: Vec<u32> = (0..(segment + 1) * rows).map(|_| rng.below(vocabulary) as u32).collect();
    let batch = Batch {
        steps: segment,
        batch: rows,
        tokens: tokens[..segment * rows].to_vec(),
        targets: tokens[rows..].to_vec(),
        lengths: None,
        fresh: false,
    };
    let mut step = || {
        let loss = model.train_step(&params, &batch, &mut state, None, &mut tape, &mut gradients);
        optimizer.step_within(params.values_mut(), gradients.values(), gradients.ranges(), 1.0, Some(0.25));
        loss.mean()
    };
    for _ in 0..options["warm-up"] {
        step();
    }
    let start = Instant::now();
    let mut loss = f64::NAN;
    for _ in 0..options["steps"] {
        loss = step();
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = (options["steps"] * segment * rows) as f64 / seconds;
    let isa = lstm_kernels::isa();
    println!("{}", serde_json::json!({ "tokens_per_second": rate, "loss": loss, "seconds": seconds, "isa": isa }));
    Ok(())
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
