//! Training, as the command does it.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use lstm::nn::dropout::DropoutRates;
use lstm::run::preset::Preset;
use lstm::train::event::Event;
use lstm::train::new_run::NewRun;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::of_new_run;

/// Trains a model on a text into a folder, from event to event. A signal or an error of `callback` ends it at the next step,
/// with a checkpoint.
#[pyfunction]
#[pyo3(signature = (text, folder, callback=None, *, preset=None, replace=false, epochs=None, steps=None, budget=None, tokenizer=None, optimizer=None, learning_rate=None, hidden=None, layers=None, embedding=None, batch=None, segment=None, dropout=None, patience=None, seed=None, pretrained=None, settings=None))]
pub(crate) fn train(
    py: Python<'_>,
    text: Option<PathBuf>,
    folder: PathBuf,
    callback: Option<Py<PyAny>>,
    preset: Option<&str>,
    replace: bool,
    epochs: Option<usize>,
    steps: Option<u64>,
    budget: Option<f64>,
    tokenizer: Option<&str>,
    optimizer: Option<&str>,
    learning_rate: Option<f32>,
    hidden: Option<Vec<usize>>,
    layers: Option<usize>,
    embedding: Option<usize>,
    batch: Option<usize>,
    segment: Option<usize>,
    dropout: Option<f32>,
    patience: Option<usize>,
    seed: Option<u64>,
    pretrained: Option<(PathBuf, String)>,
    settings: Option<&str>,
) -> PyResult<()> {
    let mut run = NewRun::new(text.as_deref());
    if let Some(preset) = preset {
        let named = Preset::NAMED.into_iter().find(|(name, _)| *name == preset);
        let Some((_, named)) = named else {
            let names = Preset::NAMED.map(|(name, _)| name).join(", ");
            return Err(PyValueError::new_err(format!("there is no preset {preset:?}; choose among {names}")));
        };
        run = run.preset(named);
    }
    if replace {
        run = run.replace();
    }
    if let Some(epochs) = epochs {
        run = run.epochs(epochs);
    }
    if let Some(steps) = steps {
        run = run.steps(steps);
    }
    if let Some(budget) = budget {
        run = run.budget(budget);
    }
    if let Some(kind) = tokenizer {
        run = run.tokenizer(parsed(kind)?);
    }
    if let Some(kind) = optimizer {
        run = run.optimizer(parsed(kind)?);
    }
    if let Some(rate) = learning_rate {
        run = run.learning_rate(rate);
    }
    if let Some((model, vocabulary)) = pretrained {
        run = run.from(model, parsed(&vocabulary)?);
    }
    let run = run.with(move |config| {
        if let Some(hidden) = &hidden {
            config.model.lstm.hidden = match &hidden[..] {
                [size] => (*size).into(),
                sizes => sizes.to_vec().into(),
            };
        }
        if let Some(layers) = layers {
            config.model.lstm.layers = layers;
        }
        if let Some(embedding) = embedding {
            config.model.lstm.input = embedding;
        }
        if let Some(batch) = batch {
            config.training.batch = batch;
        }
        if let Some(segment) = segment {
            config.segment = segment;
        }
        if let Some(rate) = dropout {
            config.model.dropout = DropoutRates { kind: config.model.dropout.kind, ..DropoutRates::all(rate) };
        }
        if patience.is_some() {
            config.training.patience = patience;
        }
        if let Some(seed) = seed {
            config.training.seed = seed;
        }
    });
    let run = match settings {
        Some(given) => run.settings(serde_json::from_str(given).map_err(|e| PyValueError::new_err(e.to_string()))?),
        None => run,
    };
    let stop = AtomicBool::new(false);
    let mut failed = None;
    let outcome = py.detach(|| {
        let mut trainer = run.begin(&folder)?;
        let mut observe = |event: &Event| {
            if failed.is_some() {
                return;
            }
            let told = Python::attach(|py| {
                py.check_signals()?;
                callback.as_ref().map_or(Ok(()), |callback| {
                    let event = of_event(py, event)?;
                    callback.call1(py, (event,)).map(drop)
                })
            });
            if let Err(error) = told {
                failed = Some(error);
                stop.store(true, Ordering::Relaxed);
            }
        };
        trainer.run(&mut observe, Some(&stop))
    });
    match failed {
        Some(error) => Err(error),
        None => outcome.map(drop).map_err(of_new_run),
    }
}

fn parsed<T: FromStr<Err: ToString>>(name: &str) -> PyResult<T> {
    name.parse().map_err(|error: T::Err| PyValueError::new_err(error.to_string()))
}

/// An event as a dictionary.
fn of_event<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    match event {
        Event::Step {
            epoch,
            step,
            of_epoch,
            loss,
            epoch_loss,
            norm,
            rate,
            tokens_per_second,
            progress,
            tokens,
            seconds,
        } => {
            dict.set_item("event", "step")?;
            dict.set_item("epoch", epoch + 1)?;
            dict.set_item("step", step)?;
            dict.set_item("of_epoch", of_epoch)?;
            dict.set_item("loss", loss)?;
            dict.set_item("epoch_loss", epoch_loss)?;
            dict.set_item("norm", norm)?;
            dict.set_item("rate", rate)?;
            dict.set_item("tokens_per_second", tokens_per_second)?;
            dict.set_item("progress", progress)?;
            dict.set_item("tokens", tokens)?;
            dict.set_item("seconds", seconds)?;
        }
        Event::Gates { step, .. } => {
            dict.set_item("event", "gates")?;
            dict.set_item("step", step)?;
        }
        Event::Sampled { epoch, step, text } => {
            dict.set_item("event", "sampled")?;
            dict.set_item("epoch", epoch + 1)?;
            dict.set_item("step", step)?;
            dict.set_item("text", text)?;
        }
        Event::Started { step } => {
            dict.set_item("event", "started")?;
            dict.set_item("step", step)?;
        }
        Event::Evaluating { tokens, of } => {
            dict.set_item("event", "evaluating")?;
            dict.set_item("tokens", tokens)?;
            dict.set_item("of", of)?;
        }
        Event::Validated { epoch, step, train, valid, best, seconds } => {
            dict.set_item("event", "validated")?;
            dict.set_item("epoch", epoch + 1)?;
            dict.set_item("step", step)?;
            dict.set_item("train", train.perplexity())?;
            dict.set_item("valid", valid.map(|loss| loss.perplexity()))?;
            dict.set_item("best", best)?;
            dict.set_item("seconds", seconds)?;
        }
        Event::EpochEnded { epoch, step, train, seconds } => {
            dict.set_item("event", "epoch ended")?;
            dict.set_item("epoch", epoch + 1)?;
            dict.set_item("step", step)?;
            dict.set_item("train", train.perplexity())?;
            dict.set_item("seconds", seconds)?;
        }
        Event::Averaging { step } => {
            dict.set_item("event", "averaging")?;
            dict.set_item("step", step)?;
        }
        Event::Tested { step, test } => {
            dict.set_item("event", "tested")?;
            dict.set_item("step", step)?;
            dict.set_item("test", test.perplexity())?;
        }
    }
    Ok(dict)
}
