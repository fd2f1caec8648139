//! Texts that are written side by side: every one a row of the same model step, so that the weights are read once for all of them.
//! They begin and end when they like (continuous batching, Yu et al. 2022), each with its own state, settings and random numbers:
//! what one writes has the same bits whatever stands beside it.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use lstm_kernels::log_sum_exp;

use super::chooser::{Chooser, Scratch};
use super::documents::Place;
use super::prefixes::Prefixes;
use super::reading::{Fed, Rules};
use super::sampling::Sampling;
use crate::model::{LanguageModel, TokenStream};
use crate::nn::config::{CellOptions, ConfigError};
use crate::nn::params::Params;

/// The tokens of a prompt after which its state is kept, beside that at its end.
const KEPT_EVERY: usize = 64;

/// The tokens that a prompt is read ahead in a step, without scores: so many steps cost about as much as a step with scores.
const READ_AHEAD: usize = 8;

/// A text to write.
#[derive(Clone, Debug, Default)]
pub struct Writing {
    /// What it goes on from.
    pub prompt: Vec<u32>,
    /// The tokens to write; 0 to read the prompt alone.
    pub length: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// The seed of the choices.
    pub seed: u64,
    /// Its number among the texts of that seed.
    pub sample: u64,
    /// Whether the prompt's tokens are handed out too.
    pub echo: bool,
    /// Whether tokens come with their probability, and how many of the likeliest with theirs.
    pub alternatives: Option<usize>,
    /// Units that say what they are told to.
    pub clamps: Vec<Clamp>,
    /// The values to hand out with every token.
    pub inside: Option<Inside>,
}

/// A unit whose hidden state is held at a value; where the layer is projected one of the projection's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// The layer, from 0.
    pub layer: usize,
    /// The unit, from 0.
    pub unit: usize,
    /// Its value.
    pub value: f32,
}

/// Values of a layer, one for every unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The layer, from 0.
    pub layer: usize,
    /// Which of them.
    pub part: Part,
}

/// The values of a layer that can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The input gate; of coupled gates it is 1 minus the forget gate, of an exponential cell the share of what is new.
    Input,
    /// The forget gate; of an exponential cell the share that is not new.
    Forget,
    /// The candidates of the cell.
    Candidate,
    /// The output gate.
    Output,
    /// The cell state.
    Cell,
    /// The hidden state.
    Hidden,
}

/// A token with its probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alternative {
    /// The token.
    pub id: u32,
    /// The logarithm of its probability by the model, whatever it was chosen with; in nats.
    pub log_probability: f32,
}

/// A token that was read or written.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The text it belongs to.
    pub writer: WriterId,
    /// The token.
    pub id: u32,
    /// Whether it is of the prompt.
    pub is_prompt: bool,
    /// Whether it is the last.
    pub is_last: bool,
    /// Its probability, if that was asked for.
    pub log_probability: Option<f32>,
    /// The likeliest tokens in its place, the best first.
    pub alternatives: Vec<Alternative>,
    /// Of the units of a layer, when the model has read what comes before this token.
    pub inside: Vec<f32>,
}

/// The name of a text among those that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriterId(u64);

/// The texts that are written with one model.
#[derive(Debug)]
pub struct Writers<'a> {
    rules: Rules,
    stream: TokenStream<'a>,
    fallback: u32,
    vocabulary: usize,
    /// How the model's cells differ.
    variant: CellOptions,
    /// One for each row of the stream, from the first on.
    rows: Vec<Row>,
    prefixes: Prefixes,
    scratch: Scratch,
    next: u64,
    /// The tokens of prompts that were read, and that were not because the state after them was kept.
    prompt_tokens: (u64, u64),
    steps: u64,
}

#[derive(Debug)]
struct Row {
    id: WriterId,
    writing: Writing,
    chooser: Chooser,
    place: Place,
    /// What the model is still to read before its scores are looked at.
    unread: VecDeque<Unread>,
    /// With a window: the last tokens.
    window: Vec<u32>,
    /// The tokens of the text that the state has read, if it is worth keeping.
    read: Option<Vec<u32>>,
    /// The tokens of the prompt that were handed out, or need not be.
    handed_out: usize,
    written: usize,
    /// Whether it waits, and is part of no step.
    is_held: bool,
}

/// What a model is to read.
#[derive(Clone, Copy, Debug)]
enum Unread {
    /// The start of every text, which is no token of it.
    Start(u32),
    /// A token of the text.
    Token(u32),
    /// One of a window, which is read for every token anew.
    Window(Fed),
}

impl<'a> Writers<'a> {
    /// At most `rows` texts side by side; the states of recent prefixes are kept in at most so many bytes.
    ///
    /// # Errors
    /// A model that cannot be run token by token, or rules that ban every token.
    pub fn new(
        model: &'a LanguageModel,
        params: &'a Params,
        rules: Rules,
        rows: usize,
        prefix_bytes: usize,
    ) -> Result<Self, ConfigError> {
        let vocabulary = model.config().vocabulary;
        Ok(Self {
            fallback: rules.first_allowed(vocabulary)?,
            stream: model.clampable_stream(params, rows, rules.weights)?,
            rules,
            vocabulary,
            variant: model.config().lstm.variant,
            rows: Vec::new(),
            prefixes: Prefixes::new(prefix_bytes),
            scratch: Scratch::default(),
            next: 0,
            prompt_tokens: (0, 0),
            steps: 0,
        })
    }

    /// Whether another text may begin.
    pub fn has_room(&self) -> bool {
        self.rows.len() < self.stream.streams().batch()
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The states that are kept.
    pub fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    /// The bytes that the state after a prefix of so many tokens takes.
    pub fn prefix_bytes(&self, tokens: usize) -> usize {
        Prefixes::bytes_of(self.stream.streams().row_size(), tokens)
    }

    /// The tokens of prompts so far: how many were read, and how many were not because the state after them was kept.
    pub fn prompt_tokens(&self) -> (u64, u64) {
        self.prompt_tokens
    }

    /// The model steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Begins a text.
    ///
    /// # Errors
    /// Settings out of range, tokens, layers or units that the model has not.
    ///
    /// # Panics
    /// When there is no room.
    pub fn begin(&mut self, writing: Writing) -> Result<WriterId, ConfigError> {
        assert!(self.has_room(), "room for one more text");
        self.check(&writing)?;
        let (row, id) = (self.rows.len(), WriterId(self.next));
        self.next += 1;
        let streams = self.stream.streams_mut();
        streams.reset(row);
        streams.free(row);
        for Clamp { layer, unit, value } in &writing.clamps {
            streams.clamp(row, *layer, *unit, *value);
        }
        let Writing { sampling, seed, sample, echo, .. } = writing;
        let mut chooser = Chooser::new(sampling, self.vocabulary, self.fallback, seed, sample);
        writing.prompt.iter().for_each(|&token| chooser.note(token));
        let is_kept = self.rules.window.is_none() && writing.clamps.is_empty();
        let mut own = Row {
            id,
            chooser,
            place: Place::default(),
            unread: VecDeque::new(),
            window: Vec::new(),
            read: is_kept.then(Vec::new),
            handed_out: if echo { 0 } else { writing.prompt.len() },
            written: 0,
            is_held: false,
            writing,
        };
        // A prompt whose tokens are handed out is read, for its scores.
        let known = if is_kept && !echo { self.prefixes.longest(&own.writing.prompt) } else { None };
        let mut begun = 0;
        match known {
            Some((length, state, place)) => {
                self.stream.streams_mut().set_row_state(row, state);
                (own.place, begun) = (place.clone(), length);
                own.read = Some(own.writing.prompt[..length].to_vec());
            }
            None => own.take(&self.rules, Unread::Start(self.rules.start)),
        }
        self.prompt_tokens.1 += begun as u64;
        for at in begun..own.handed_out {
            own.take(&self.rules, Unread::Token(own.writing.prompt[at]));
        }
        own.look_at_window();
        self.rows.push(own);
        Ok(id)
    }

    fn check(&self, writing: &Writing) -> Result<(), ConfigError> {
        writing.sampling.validate()?;
        let conflict = |why| Err(ConfigError::Conflict(why));
        if writing.length == 0 && (writing.prompt.is_empty() || !writing.echo) {
            return conflict("there is nothing to write and nothing to read; give a `length` above 0".to_owned());
        }
        if let Some(token) = writing.prompt.iter().find(|token| **token as usize >= self.vocabulary) {
            return conflict(format!(
                "token {token} is none of this model, whose vocabulary has {}; its first token is 0",
                self.vocabulary
            ));
        }
        let streams = self.stream.streams();
        let layers = streams.layers();
        let asked = writing.clamps.iter().map(|clamp| clamp.layer).chain(writing.inside.map(|inside| inside.layer));
        if let Some(layer) = asked.into_iter().find(|layer| *layer >= layers) {
            return conflict(format!(
                "layer {layer} is none of this model, which has {layers}, the first of which is 0"
            ));
        }
        for clamp in &writing.clamps {
            let units = streams.layer_state(clamp.layer, 0).0.len();
            if clamp.unit >= units {
                return conflict(format!(
                    "unit {} is none of layer {}, which has {units}, the first of which is 0",
                    clamp.unit, clamp.layer
                ));
            }
            if !clamp.value.is_finite() || clamp.value.abs() > 1e3 {
                return conflict(format!(
                    "a unit is clamped to {}; it must be a number from -1000 to 1000",
                    clamp.value
                ));
            }
        }
        Ok(())
    }

    /// Ends a text, whatever it has written; what it read and wrote may be gone on from.
    pub fn end(&mut self, id: WriterId) {
        if let Some(row) = self.rows.iter().position(|row| row.id == id) {
            self.remove(row);
        }
    }

    /// Lets a text wait, part of no step, or go on.
    pub fn hold(&mut self, id: WriterId, is_held: bool) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.id == id) {
            row.is_held = is_held;
        }
    }

    /// Whether a step would do anything.
    pub fn can_step(&self) -> bool {
        self.rows.iter().any(|row| !row.is_held)
    }

    /// Every text reads some tokens, or writes one; those that are handed out go to `token`. A text ends with its last.
    pub fn step(&mut self, token: &mut dyn FnMut(Token)) {
        for _ in 0..READ_AHEAD {
            let (reading, _) = self.arrange();
            if reading == 0 {
                break;
            }
            self.advance(reading, reading);
        }
        let (reading, rows) = self.arrange();
        if rows == 0 {
            return;
        }
        self.advance(reading, rows);
        for row in (reading..rows).rev() {
            let next = self.next_token(row);
            let is_last = next.is_last;
            token(next);
            if is_last {
                // From the last row down, so that none that comes later is moved.
                self.remove(row);
            }
        }
    }

    /// Puts the rows first that have more than one token to read, then those whose scores are looked at after the next step, then
    /// those that wait; gives the number of the first kind, and of the first two.
    fn arrange(&mut self) -> (usize, usize) {
        let is = |row: &Row, most_reads: usize| !row.is_held && row.unread.len() > most_reads;
        let mut gather = |most_reads| {
            let mut end = 0;
            for index in 0..self.rows.len() {
                if is(&self.rows[index], most_reads) {
                    if index > end {
                        self.rows.swap(index, end);
                        self.stream.streams_mut().swap(index, end);
                    }
                    end += 1;
                }
            }
            end
        };
        let reading = gather(1);
        (reading, gather(0))
    }

    /// A model step of the first `rows` rows, scores for those from `reading` on.
    fn advance(&mut self, reading: usize, rows: usize) {
        let mut tokens = Vec::with_capacity(rows);
        for (index, row) in self.rows[..rows].iter_mut().enumerate() {
            // `arrange` put only such rows here as have something to read.
            let Some(unread) = row.unread.pop_front() else { unreachable!("a row with nothing to read") };
            let fed = match unread {
                Unread::Start(token) | Unread::Token(token) => self.rules.feed(&mut row.place, token),
                Unread::Window(fed) => fed,
            };
            if let (Unread::Token(token), Some(read)) = (unread, &mut row.read) {
                read.push(token);
            }
            if fed.afresh {
                self.stream.streams_mut().reset(index);
            }
            tokens.push(fed.token);
        }
        self.stream.step_rows(&tokens, reading..rows);
        self.steps += 1;
        for index in 0..rows {
            let (row, streams) = (&self.rows[index], self.stream.streams());
            let Some(read) = &row.read else { continue };
            let (length, prompt) = (read.len(), row.writing.prompt.len());
            if length > 0 && length <= prompt {
                self.prompt_tokens.0 += 1;
                // The same prompt again has its last token still to read.
                if length + 1 >= prompt || length.is_multiple_of(KEPT_EVERY) {
                    self.prefixes.insert(read, streams.row_state(index), &row.place);
                }
            }
        }
    }

    /// The token that comes after what a row has read: the prompt's next, or one that it writes.
    fn next_token(&mut self, index: usize) -> Token {
        let scores = self.stream.logits(index);
        let row = &mut self.rows[index];
        let prompt = &row.writing.prompt;
        let is_prompt = row.handed_out < prompt.len();
        let id = match is_prompt {
            true => prompt[row.handed_out],
            false => row.chooser.choose(scores, &self.rules.banned, &mut self.scratch),
        };
        let (mut log_probability, mut alternatives) = (None, Vec::new());
        if let Some(count) = row.writing.alternatives {
            let all = log_sum_exp(scores, 1.0);
            let of = |id: u32| (f64::from(scores[id as usize]) - all) as f32;
            log_probability = Some(of(id));
            alternatives = best(scores, count).iter().map(|&id| Alternative { id, log_probability: of(id) }).collect();
        }
        let inside = row.writing.inside.map_or(Vec::new(), |inside| look(&self.stream, self.variant, index, inside));
        if is_prompt {
            row.handed_out += 1;
        } else {
            row.written += 1;
            row.chooser.note(id);
        }
        let is_last = row.handed_out == prompt.len() && row.written == row.writing.length;
        if !is_last {
            row.take(&self.rules, Unread::Token(id));
            row.look_at_window();
        }
        Token { writer: row.id, id, is_prompt, is_last, log_probability, alternatives, inside }
    }

    /// Takes a row away, the last one coming in its place; the state after what it wrote is kept.
    fn remove(&mut self, index: usize) {
        let last = self.rows.len() - 1;
        let row = &self.rows[index];
        if let Some(read) = row.read.as_ref().filter(|read| read.len() > row.writing.prompt.len()) {
            self.prefixes.insert(read, self.stream.streams().row_state(index), &row.place);
        }
        self.stream.streams_mut().swap(index, last);
        self.rows.swap_remove(index);
    }
}

impl Row {
    /// Takes a token to be read.
    fn take(&mut self, rules: &Rules, unread: Unread) {
        match (rules.window, unread) {
            (Some(n), Unread::Start(token) | Unread::Token(token)) => {
                self.window.push(rules.feed(&mut self.place, token).token);
                self.window.drain(..self.window.len().saturating_sub(n));
            }
            _ => self.unread.push_back(unread),
        }
    }

    /// With a window: all of it is to be read.
    fn look_at_window(&mut self) {
        let fed = self.window.iter().enumerate().map(|(at, &token)| Unread::Window(Fed { token, afresh: at == 0 }));
        self.unread.extend(fed);
    }
}

/// The likeliest tokens, the best first; ties go to the lower id.
fn best(scores: &[f32], count: usize) -> Vec<u32> {
    let better = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    let mut best: Vec<u32> = Vec::with_capacity(count + 1);
    for id in 0..scores.len() as u32 {
        if best.len() == count && best.last().is_none_or(|last| scores[id as usize] <= scores[*last as usize]) {
            continue;
        }
        let place = best.partition_point(|known| better(known, &id).is_lt());
        best.insert(place, id);
        best.truncate(count);
    }
    best
}

/// The values of a layer's units at a row's last step.
fn look(stream: &TokenStream, variant: CellOptions, row: usize, Inside { layer, part }: Inside) -> Vec<f32> {
    let streams = stream.streams();
    let (h, c) = streams.layer_state(layer, row);
    let gates = streams.gates(layer, row);
    let hidden = gates.len() / variant.gates();
    let gate = |from_last: usize| gates[gates.len() - from_last * hidden..][..hidden].to_vec();
    let shares = |which: usize| (0..hidden).map(|unit| variant.shares(gates, unit)[which]).collect();
    match part {
        Part::Hidden => h.to_vec(),
        // Of an exponential cell its normaliser lies behind it.
        Part::Cell => c[..hidden].to_vec(),
        Part::Output => gate(1),
        Part::Candidate => gate(2),
        Part::Forget => shares(1),
        Part::Input => shares(0),
    }
}
