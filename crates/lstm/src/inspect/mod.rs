//! What a trained model does inside while it reads a text: every gate, cell and hidden state ([`Inspection`]), what a prediction goes
//! back to ([`cause`]), what a unit or a gate does to it ([`effect`]), and what units follow ([`follow`]).
//!
//! Everything is measured on the model as it is, by the passes that train it: no sampling, no second model.

pub mod cause;
pub mod effect;
pub mod follow;
mod page;
pub mod table;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::model::Loss;
use crate::nn::config::CellOptions;
use crate::run::error::TrainError;
use crate::run::saved::LoadedRun;
use crate::text::TextError;
use crate::text::batch::{Batch, Batching, NO_TARGET};
use crate::text::corpus::Corpus;
use crate::text::source::Source;

pub use page::{Shown, page};

/// The most tokens that are looked into at once: every one has six values of every unit.
pub const MOST_TOKENS: usize = 20_000;

/// The predictions shown of each token.
pub const BEST: usize = 5;

/// A token with what the model expected after it.
#[derive(Clone, Debug, Serialize)]
pub struct Read {
    /// Its id.
    pub id: u32,
    /// Its text; of the first, which stands for what comes before a text, `⟨start⟩`.
    pub text: String,
    /// How surprising it was, in nats; the first is given.
    pub nats: Option<f32>,
    /// Whether a line begins with it, from a zero state where the model reads lines.
    pub begins: bool,
    /// What the model expected to come after it: the best five tokens with their probabilities.
    pub best: Vec<(String, f32)>,
}

/// The gates and states of one layer after each token, `[tokens, units]` each.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// H.
    pub hidden: usize,
    /// R, the size of h: H, or that of its projection.
    pub recurrent: usize,
    /// The input gate.
    pub i: Vec<f32>,
    /// The forget gate.
    pub f: Vec<f32>,
    /// The candidate.
    pub g: Vec<f32>,
    /// The output gate.
    pub o: Vec<f32>,
    /// The cell.
    pub c: Vec<f32>,
    /// The hidden state, `[tokens, R]`.
    pub h: Vec<f32>,
}

impl Layer {
    /// The six channels by their names, with their widths.
    pub fn channels(&self) -> [(&'static str, &[f32], usize); 6] {
        let Self { hidden, recurrent, i, f, g, o, c, h } = self;
        [
            ("i", i, *hidden),
            ("f", f, *hidden),
            ("g", g, *hidden),
            ("o", o, *hidden),
            ("c", c, *hidden),
            ("h", h, *recurrent),
        ]
    }
}

/// A text, read by a model that is watched.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The tokens, the start first.
    pub read: Vec<Read>,
    /// The layers.
    pub layers: Vec<Layer>,
}

/// The places of the lines that a model reads from a zero state each; of a stream there is one.
pub(crate) fn parts(run: &LoadedRun, ids: &[u32]) -> Vec<std::ops::Range<usize>> {
    if run.config.batching == Batching::Stream {
        return std::iter::once(0..ids.len()).collect();
    }
    let mut parts = Vec::new();
    let mut start = 0;
    for at in 0..ids.len() {
        if run.tokenizer.ends_line(ids[at]) || Some(ids[at]) == run.tokenizer.eos() {
            parts.push(start..at + 1);
            start = at + 1;
        }
    }
    parts.extend((start < ids.len()).then_some(start..ids.len()));
    parts
}

/// The tokens of a text, as the model of a run knows them.
///
/// # Errors
/// A text without tokens, with more than [`MOST_TOKENS`], or that the tokenizer has none for.
pub fn tokens(run: &LoadedRun, text: &str) -> Result<Vec<u32>, TextError> {
    let ids = run.tokenizer.encode(text)?;
    check_length(ids.len())?;
    Ok(ids)
}

/// The same of a file, whose lines end as those of the run's own text do.
///
/// # Errors
/// As [`tokens`]; a file that cannot be read.
pub fn tokens_of(run: &LoadedRun, source: &Source, lossy: bool) -> Result<Vec<u32>, TextError> {
    let ids = Corpus::read(source, &run.tokenizer, lossy)?.ids;
    check_length(ids.len())?;
    Ok((0..ids.len()).map(|at| ids.get(at)).collect())
}

fn check_length(tokens: usize) -> Result<(), TextError> {
    match tokens {
        0 => Err(TextError::Unusable("the text has no tokens; give one to read".to_owned())),
        many if many > MOST_TOKENS => Err(TextError::Unusable(format!(
            "the text has {many} tokens, and every one has six values of every unit; give one of at most {MOST_TOKENS}"
        ))),
        _ => Ok(()),
    }
}

/// The token before the first of a text.
pub(crate) fn start(run: &LoadedRun) -> u32 {
    run.tokenizer.sos().unwrap_or(run.tokenizer.start())
}

/// One row of tokens, each predicting the next.
pub(crate) fn row(start: u32, ids: &[u32]) -> Batch {
    let tokens: Vec<u32> = std::iter::once(start).chain(ids.iter().copied()).collect();
    let targets = ids.iter().copied().chain([NO_TARGET]).collect();
    Batch { steps: tokens.len(), batch: 1, tokens, targets, lengths: None, fresh: true, ..Batch::default() }
}

impl Inspection {
    /// Reads the tokens `ids`. A model that reads lines or windows begins each line with a zero state.
    pub fn of(run: &LoadedRun, ids: &[u32]) -> Self {
        let (model, params) = (&run.model, &run.params);
        let config = model.config();
        let start = start(run);
        let mut read: Vec<Read> = Vec::new();
        let mut layers: Vec<Layer> = (0..config.lstm.layers)
            .map(|layer| Layer {
                hidden: config.lstm.hidden.of(layer),
                recurrent: config.lstm.recurrent(layer),
                ..Layer::default()
            })
            .collect();
        let mut tape = model.frozen_tape();
        for part in parts(run, ids) {
            let ids = &ids[part];
            let batch = row(start, ids);
            let mut state = model.state(1);
            model.read(params, &batch, &mut state, &mut tape);
            for (number, layer) in layers.iter_mut().enumerate() {
                layer.take(tape.lstm().gates(number, 0), config.lstm.variant);
                layer.c.extend_from_slice(tape.lstm().cell(number, 0));
                layer.h.extend_from_slice(tape.lstm().hidden(number, 0));
            }
            let mut tokens = batch.tokens.iter().enumerate();
            let mut nats = None;
            model.logits(params, &mut tape, &mut |logits| {
                let Some((place, &id)) = tokens.next() else { return };
                let scores = Scores::of(logits);
                let best = scores.best(BEST).into_iter().map(|(id, p)| (run.tokenizer.text(id), p)).collect();
                let text = if place == 0 { "⟨start⟩".to_owned() } else { run.tokenizer.text(id) };
                read.push(Read { id, text, nats, begins: place == 0, best });
                nats = batch.tokens.get(place + 1).map(|&next| scores.nats(next));
            });
        }
        Self { read, layers }
    }

    /// The loss of the tokens.
    pub fn loss(&self) -> Loss {
        let nats = self.read.iter().filter_map(|token| token.nats);
        nats.fold(Loss::default(), |sum, nats| Loss { nll: sum.nll + f64::from(nats), tokens: sum.tokens + 1 })
    }

    /// The mean of a unit's forget gate over the text, from which its memory follows.
    pub fn forget(&self, layer: usize, unit: usize) -> f64 {
        let Layer { hidden, f, .. } = &self.layers[layer];
        let sum: f64 = f.iter().skip(unit).step_by(*hidden).map(|f| f64::from(*f)).sum();
        sum / self.read.len().max(1) as f64
    }
}

impl Layer {
    /// Takes activated gates `[T, K·H]` apart.
    fn take(&mut self, gates: &[f32], variant: CellOptions) {
        let hidden = self.hidden;
        for gates in gates.chunks_exact(variant.gates() * hidden) {
            let (g, o) = gates[gates.len() - 2 * hidden..].split_at(hidden);
            for unit in 0..hidden {
                let [i, f] = variant.shares(gates, unit);
                self.i.push(i);
                self.f.push(f);
            }
            self.g.extend_from_slice(g);
            self.o.extend_from_slice(o);
        }
    }
}

/// The scores of every token to come next, and the logarithm of the sum of their exponentials.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scores<'a> {
    logits: &'a [f32],
    total: f64,
}

impl<'a> Scores<'a> {
    pub(crate) fn of(logits: &'a [f32]) -> Self {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from((logit - most).exp())).sum();
        Self { logits, total: f64::from(most) + sum.ln() }
    }

    /// The surprisal of a token, in nats.
    pub(crate) fn nats(&self, id: u32) -> f32 {
        (self.total - f64::from(self.logits[id as usize])) as f32
    }

    /// The likeliest tokens with their probabilities.
    pub(crate) fn best(&self, most: usize) -> Vec<(u32, f32)> {
        let mut best: Vec<(u32, f32)> = Vec::with_capacity(most + 1);
        for (id, &logit) in (0..).zip(self.logits) {
            if best.len() < most || best.last().is_some_and(|(_, least)| logit > *least) {
                let at = best.partition_point(|(_, known)| *known >= logit);
                best.insert(at, (id, logit));
                best.truncate(most);
            }
        }
        best.into_iter().map(|(id, logit)| (id, (f64::from(logit) - self.total).exp() as f32)).collect()
    }
}

/// What to look at besides the states.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Which predictions are explained: the numbers of the tokens, from 1; empty for the most surprising, as many as take no longer than
    /// reading the text.
    pub explain: Vec<usize>,
    /// A change to be measured.
    pub changes: Vec<effect::Change>,
    /// Whether every unit is switched off in turn.
    pub ablate: bool,
    /// A word for each token, by which units are sorted too.
    pub labels: Option<Vec<String>>,
}

/// Everything that was asked for of a text.
#[derive(Debug)]
pub struct Looked {
    /// The states.
    pub inspection: Inspection,
    /// The predictions that are explained.
    pub causes: Vec<cause::Cause>,
    /// What the changes do.
    pub effect: Option<effect::Effect>,
    /// The units by what their loss costs.
    pub ablated: Vec<effect::Ablated>,
    /// What units follow.
    pub followed: Vec<follow::Followed>,
}

/// Looks into a run's model while it reads `ids`.
///
/// # Errors
/// A token or a unit that is not there, or a model that cannot be read token by token.
pub fn look(run: &LoadedRun, ids: &[u32], wanted: &Wanted) -> Result<Looked, TrainError> {
    let inspection = Inspection::of(run, ids);
    let causes = cause::explain(run, ids, &inspection, &wanted.explain)?;
    let effect = if wanted.changes.is_empty() { None } else { Some(effect::effect(run, ids, &wanted.changes)?) };
    let ablated = if wanted.ablate { effect::ablate_all(run, ids)? } else { Vec::new() };
    let followed = follow::follow(run, &inspection, wanted.labels.as_deref())?;
    Ok(Looked { inspection, causes, effect, ablated, followed })
}
