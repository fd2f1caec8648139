//! What a prediction goes back to: the exact gradient of its log-probability by every earlier embedding, gate and cell, and its
//! integrated gradients (Sundararajan et al. 2017).
//!
//! The gradient is that of the backward pass which trains the model, over the whole text before the prediction, with nothing cut,
//! dropped or penalised. It is one of pre-activations: what a gate would change by if a little were added to it before its logistic
//! function. That of a cell is its whole effect, through the hidden state of the same step too.

use lstm_kernels::{Matrix, MatrixMut, Start, product};
use serde::Serialize;

use super::{Inspection, parts, row, start};
use crate::model::penalty::Penalties;
use crate::model::{LanguageModel, LanguageModelConfig};
use crate::nn::config::{ConfigError, LstmConfig};
use crate::nn::params::Params;
use crate::run::error::TrainError;
use crate::run::saved::LoadedRun;
use crate::said::count;
use crate::text::batch::{Batch, NO_TARGET};

/// The points at which integrated gradients are taken, at the middle of equal pieces of the way from zero.
const POINTS: usize = 62;

/// The multiply-adds that predictions may cost that nobody asked for by name.
const UNASKED: f64 = 6e9;

/// The most predictions that are explained unasked.
const MOST_UNASKED: usize = 64;

/// What a prediction goes back to. Gradients are those of the log-probability of the token that came.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// The number of the predicted token in the text, from 1.
    pub token: usize,
    /// The tokens that were read for it: places among those read, the start among them.
    pub from: usize,
    /// Its log-probability, in nats.
    pub log_probability: f64,
    /// The norm of the gradient by each token's embedding.
    pub embedding: Vec<f32>,
    /// Gradient times embedding: what each token adds, to first order.
    pub product: Vec<f32>,
    /// The norm of the gradient by each layer's gates i, f, g, o (those coupled: f, g, o) at each token, before their activation.
    pub gates: Vec<Vec<Vec<f32>>>,
    /// The norm of the gradient by each layer's cell at each token; empty for cells that differ from the plain one.
    pub cell: Vec<Vec<f32>>,
    /// The integrated gradients from embeddings of zeros: what each token adds; empty where they were not taken.
    pub integrated: Vec<f32>,
    /// By how much they miss the difference that they should add up to, as a share of it.
    pub integrated_error: Option<f64>,
}

/// The gradients of a prediction, value by value; see [`Cause`].
#[derive(Clone, Debug)]
pub struct Gradient {
    /// The log-probability of the token.
    pub log_probability: f64,
    /// H of each layer.
    pub hidden: Vec<usize>,
    /// `[T, E]`.
    pub embedding: Vec<f32>,
    /// Of each layer, `[T, K·H]`.
    pub gates: Vec<Vec<f32>>,
    /// Of each layer, `[T, H]`; empty for cells that differ from the plain one.
    pub cell: Vec<Vec<f32>>,
}

/// The model as it predicts: nothing is penalised and no gradient cut, so that the gradient is the prediction's own. Its parameters have
/// the same layout.
pub(crate) fn uncut(model: &LanguageModel) -> Result<LanguageModel, ConfigError> {
    let config = LanguageModelConfig { penalties: Penalties::default(), ..model.config().clone() };
    let config = LanguageModelConfig { lstm: LstmConfig { horizon: None, ..config.lstm.clone() }, ..config };
    LanguageModel::new(config)
}

/// The embeddings of a row's tokens, `[T, E]`.
pub(crate) fn embeddings(run: &LoadedRun, tokens: &[u32]) -> Vec<f32> {
    let size = run.model.config().embedding();
    let table = run.params.by_name("embedding.weight").unwrap_or_default();
    tokens.iter().flat_map(|&token| table[token as usize * size..][..size].iter().copied()).collect()
}

/// The gradient of the log-probability of `target` after the tokens of `embedded: [T, E]`.
///
/// # Errors
/// A model that cannot be built.
pub fn gradient(run: &LoadedRun, embedded: &[f32], target: u32) -> Result<Gradient, ConfigError> {
    let model = uncut(&run.model)?;
    let config = model.config();
    let steps = embedded.len() / config.embedding();
    let batch = at_end(steps, 1, target);
    let (mut state, mut tape, mut gradients) = (model.state(1), model.tape(), model.gradients());
    let mut activated = Vec::new();
    let traced = model.trace(&run.params, &batch, embedded, &mut state, &mut tape, &mut gradients, &mut |tape| {
        activated = (0..config.lstm.layers)
            .map(|layer| (tape.gates(layer, 0).to_vec(), tape.cell(layer, 0).to_vec()))
            .collect();
    });
    // The pass descends the surprisal; what is asked for is the log-probability's.
    let negative = |values: &[f32]| values.iter().map(|value| -value).collect::<Vec<f32>>();
    let gates: Vec<Vec<f32>> = (0..config.lstm.layers).map(|layer| negative(tape.lstm().gates(layer, 0))).collect();
    let mut cell = Vec::new();
    if config.lstm.variant.is_plain() {
        for layer in 0..config.lstm.layers {
            let top = (layer + 1 == config.lstm.layers).then_some(&traced.d_output[..]);
            let given = negative(tape.lstm().d_hidden(layer, top));
            cell.push(cells(&run.params, config, layer, &gates[layer], given, &activated[layer]));
        }
    }
    let embedding = negative(tape.lstm().d_input());
    let hidden = (0..config.lstm.layers).map(|layer| config.lstm.hidden.of(layer)).collect();
    Ok(Gradient { log_probability: -traced.loss.mean(), hidden, embedding, gates, cell })
}

/// The gradient by the cells of a plain layer, `[T, H]`: dc_t = dh_t ∘ o_t ∘ (1 − tanh² c_t) + f_{t+1} ∘ dc_{t+1}, where dh_t is what
/// comes from above, `given: [T, R]`, and W_hhᵀ times the next step's gates.
fn cells(
    params: &Params,
    config: &LanguageModelConfig,
    layer: usize,
    d_gates: &[f32],
    given: Vec<f32>,
    (gates, c): &(Vec<f32>, Vec<f32>),
) -> Vec<f32> {
    let (hidden, recurrent) = (config.lstm.hidden.of(layer), config.lstm.recurrent(layer));
    let steps = c.len() / hidden;
    let weight = |name: &str| params.by_name(&format!("lstm.{name}_l{layer}"));
    let mut d_h = given;
    if let Some(weight) = weight("weight_hh").filter(|_| steps > 1) {
        let later = Matrix::new(&d_gates[4 * hidden..], steps - 1, 4 * hidden);
        let earlier = MatrixMut::new(&mut d_h[..(steps - 1) * recurrent], steps - 1, recurrent);
        product(earlier, Start::Out, later, Matrix::new(weight, 4 * hidden, recurrent));
    }
    if let Some(weight) = weight("weight_hr") {
        let mut raw = vec![0.0; steps * hidden];
        let projected = Matrix::new(&d_h, steps, recurrent);
        product(
            MatrixMut::new(&mut raw, steps, hidden),
            Start::Zero,
            projected,
            Matrix::new(weight, recurrent, hidden),
        );
        d_h = raw;
    }
    let mut d_c = vec![0.0; steps * hidden];
    for step in (0..steps).rev() {
        for unit in 0..hidden {
            let at = step * hidden + unit;
            let (tanh, o) = (c[at].tanh(), gates[(step * 4 + 3) * hidden + unit]);
            let later = match step + 1 < steps {
                true => gates[((step + 1) * 4 + 1) * hidden + unit] * d_c[at + hidden],
                false => 0.0,
            };
            d_c[at] = d_h[at] * o * (1.0 - tanh * tanh) + later;
        }
    }
    d_c
}

/// A batch that predicts `target` after its last step, in every row. Its tokens have a place but no part: embeddings are given.
fn at_end(steps: usize, rows: usize, target: u32) -> Batch {
    let mut targets = vec![NO_TARGET; steps * rows];
    targets[(steps - 1) * rows..].fill(target);
    Batch { steps, batch: rows, tokens: vec![0; steps * rows], targets, lengths: None, fresh: true, ..Batch::default() }
}

/// The integrated gradients of the log-probability of `target` after `embedded: [T, E]`, from embeddings of zeros: of each token, and by
/// how much their sum misses the difference of the log-probabilities, as a share of it.
///
/// # Errors
/// A model that cannot be built.
pub fn integrated(run: &LoadedRun, embedded: &[f32], target: u32) -> Result<(Vec<f32>, f64), ConfigError> {
    let model = uncut(&run.model)?;
    let size = model.config().embedding();
    let steps = embedded.len() / size;
    // Two rows more: both ends, whose difference it should be.
    let rows = POINTS + 2;
    let scale = |row: usize| match row {
        row if row < POINTS => (row as f32 + 0.5) / POINTS as f32,
        row => (row - POINTS) as f32,
    };
    let mut scaled = vec![0.0; steps * rows * size];
    for (place, values) in scaled.chunks_exact_mut(size).enumerate() {
        let (step, row) = (place / rows, place % rows);
        values.iter_mut().zip(&embedded[step * size..]).for_each(|(to, from)| *to = scale(row) * from);
    }
    let batch = at_end(steps, rows, target);
    let (mut state, mut tape, mut gradients) = (model.state(rows), model.tape(), model.gradients());
    let traced = model.trace(&run.params, &batch, &scaled, &mut state, &mut tape, &mut gradients, &mut |_| ());
    let at_ends = |row: usize| -f64::from(traced.nll[POINTS + row]);
    let mut added = vec![0.0_f64; steps];
    for (place, d) in tape.lstm().d_input().chunks_exact(size).enumerate() {
        let (step, row) = (place / rows, place % rows);
        if row < POINTS {
            // The pass gives the gradient of the mean over the rows.
            let of_row: f64 = d.iter().zip(&embedded[step * size..]).map(|(d, x)| f64::from(*d) * f64::from(*x)).sum();
            added[step] -= of_row * rows as f64 / POINTS as f64;
        }
    }
    let difference = at_ends(1) - at_ends(0);
    let sum: f64 = added.iter().sum();
    let error = (sum - difference).abs() / difference.abs().max(1e-6);
    Ok((added.into_iter().map(|value| value as f32).collect(), error))
}

/// Explains predictions: of the tokens named, counted from 1, or of the most surprising ones, as many as take little time.
///
/// # Errors
/// A token that is not there, or a model that cannot be built.
pub fn explain(
    run: &LoadedRun,
    ids: &[u32],
    inspection: &Inspection,
    named: &[usize],
) -> Result<Vec<Cause>, TrainError> {
    if let Some(none) = named.iter().find(|token| !(1..=ids.len()).contains(*token)) {
        return Err(TrainError::Unusable(format!(
            "`explain` is {none}, but the text has {}, the first of which is number 1",
            count(ids.len(), "token")
        )));
    }
    let weights: usize = run
        .model
        .layout()
        .entries()
        .iter()
        .filter(|e| e.name.starts_with("lstm."))
        .map(|e| e.shape.iter().product::<usize>())
        .sum();
    // Forward, and twice back.
    let cost = |tokens: usize| 3.0 * (weights * tokens + run.model.layout().len()) as f64;
    let parts = parts(run, ids);
    let mut wanted: Vec<usize> = named.to_vec();
    if named.is_empty() {
        let surprising = |token: &usize| inspection.read[place(&parts, token - 1)].nats.unwrap_or(0.0);
        let mut all: Vec<usize> = (1..=ids.len()).collect();
        all.sort_by(|a, b| surprising(b).total_cmp(&surprising(a)));
        let mut spent = 0.0;
        for token in all.into_iter().take(MOST_UNASKED) {
            spent += cost(length(&parts, token - 1));
            if wanted.is_empty() || spent < UNASKED {
                wanted.push(token);
            }
        }
        wanted.sort_unstable();
    }
    let integrates = |tokens: usize| {
        !named.is_empty() || cost(tokens) * (POINTS + 2) as f64 * (wanted.len() as f64) < 10.0 * UNASKED
    };
    let mut causes = Vec::with_capacity(wanted.len());
    for &token in &wanted {
        let part = parts.iter().find(|part| part.contains(&(token - 1))).cloned().unwrap_or(0..ids.len());
        let before = row(start(run), &ids[part.start..token - 1]);
        let embedded = embeddings(run, &before.tokens);
        let target = ids[token - 1];
        let found = gradient(run, &embedded, target)?;
        let (integrated, integrated_error) = match integrates(before.steps) {
            true => integrated(run, &embedded, target).map(|(values, error)| (values, Some(error)))?,
            false => (Vec::new(), None),
        };
        causes.push(found.summed(
            &embedded,
            before.steps,
            token,
            place(&parts, part.start).saturating_sub(1),
            integrated,
            integrated_error,
        ));
    }
    Ok(causes)
}

/// The place of the text's token number `at`, from 0, among those read: every part has its start before it.
fn place(parts: &[std::ops::Range<usize>], at: usize) -> usize {
    at + parts.iter().take_while(|part| part.start <= at).count()
}

/// The tokens that are read for the prediction of the token `at`.
fn length(parts: &[std::ops::Range<usize>], at: usize) -> usize {
    parts.iter().find(|part| part.contains(&at)).map_or(1, |part| at - part.start + 1)
}

impl Gradient {
    /// The norms at each token.
    fn summed(
        &self,
        embedded: &[f32],
        steps: usize,
        token: usize,
        from: usize,
        integrated: Vec<f32>,
        integrated_error: Option<f64>,
    ) -> Cause {
        let norm = |values: &[f32]| values.iter().map(|v| v * v).sum::<f32>().sqrt();
        let norms = |values: &[f32]| values.chunks_exact((values.len() / steps).max(1)).map(norm).collect::<Vec<f32>>();
        let size = embedded.len() / steps;
        let dot = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let gates = self.gates.iter().zip(&self.hidden).map(|(values, &hidden)| {
            let kinds = values.len() / steps / hidden;
            let of = |kind: usize| {
                values.chunks_exact(kinds * hidden).map(|row| norm(&row[kind * hidden..][..hidden])).collect()
            };
            (0..kinds).map(of).collect()
        });
        Cause {
            token,
            from,
            log_probability: self.log_probability,
            embedding: norms(&self.embedding),
            product: self.embedding.chunks_exact(size).zip(embedded.chunks_exact(size)).map(dot).collect(),
            gates: gates.collect(),
            cell: self.cell.iter().map(|values| norms(values)).collect(),
            integrated,
            integrated_error,
        }
    }
}
