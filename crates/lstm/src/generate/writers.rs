//! Texts that are written side by side: every one a row of the same model step, so that the weights are read once for all of them.
//! They begin and end when they like (continuous batching, Yu et al. 2022), each with its own state, settings and random numbers:
//! what one writes has the same bits whatever stands beside it.

use std::collections::VecDeque;

use lstm_kernels::log_sum_exp;

use super::chooser::{Chooser, Scratch};
use super::documents::Place;
use super::prefixes::Prefixes;
use super::reading::{Fed, Rules};
use super::sampling::Sampling;
use crate::model::{LanguageModel, TokenStream};
use crate::nn::config::ConfigError;
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
    /// The input gate; of coupled gates it is 1 minus the forget gate.
    Input,
    /// The forget gate.
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
            stream: model.clampable_stream(params, rows)?,
            rules,
            vocabulary,
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
        let inside = row.writing.inside.map_or(Vec::new(), |inside| look(&self.stream, index, inside));
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
fn look(stream: &TokenStream, row: usize, Inside { layer, part }: Inside) -> Vec<f32> {
    let streams = stream.streams();
    let (h, c) = streams.layer_state(layer, row);
    let gates = streams.gates(layer, row);
    // i, f, g, o; of coupled gates f, g, o.
    let kinds = gates.len() / c.len();
    let gate = |from_last: usize| gates[(kinds - from_last) * c.len()..][..c.len()].to_vec();
    match part {
        Part::Hidden => h.to_vec(),
        Part::Cell => c.to_vec(),
        Part::Output => gate(1),
        Part::Candidate => gate(2),
        Part::Forget => gate(3),
        Part::Input if kinds == 4 => gate(4),
        Part::Input => gate(3).iter().map(|forget| 1.0 - forget).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Generator;
    use super::super::tiny::{VOCABULARY, model};
    use super::*;

    fn rules() -> Rules {
        Rules { start: 1, banned: vec![0], ..Rules::default() }
    }

    fn writing(prompt: &[u32], length: usize, seed: u64) -> Writing {
        Writing { prompt: prompt.to_vec(), length, seed, ..Writing::default() }
    }

    /// What every text writes, when each begins before the step of its number.
    fn written(writers: &mut Writers, begins: &[(usize, Writing)]) -> Vec<Vec<Token>> {
        let (mut ids, mut texts) = (HashMap::new(), vec![Vec::new(); begins.len()]);
        for step in 0.. {
            for (text, (_, writing)) in begins.iter().enumerate().filter(|(_, (begin, _))| *begin == step) {
                ids.insert(writers.begin(writing.clone()).unwrap(), text);
            }
            writers.step(&mut |token| texts[ids[&token.writer]].push(token));
            if writers.is_empty() && ids.len() == begins.len() {
                break;
            }
        }
        texts
    }

    fn ids(tokens: &[Token]) -> Vec<u32> {
        tokens.iter().map(|token| token.id).collect()
    }

    /// The same text alone, by the generator that has no company.
    fn alone(rules: &Rules, writing: &Writing) -> Vec<u32> {
        let (model, params) = model();
        let Writing { sampling, seed, sample, .. } = *writing;
        let mut generator = Generator::new(&model, &params, rules.clone(), sampling, seed, sample).unwrap();
        writing.prompt.iter().for_each(|&token| generator.read(token));
        generator.take(writing.length).collect()
    }

    #[test]
    fn a_text_is_the_same_whatever_is_written_beside_it_and_whatever_is_kept() {
        let (model, params) = model();
        for window in [None, Some(3)] {
            let rules = Rules { window, line_end: Some(9), ..rules() };
            let hot = Sampling { temperature: 1.7, top_k: 6, repetition_penalty: 1.2, ..Sampling::default() };
            let mut begins: Vec<(usize, Writing)> = (0..40)
                .map(|text| {
                    let prompt: Vec<u32> =
                        (0..text * 7 % 90).map(|at| ((at * at + text % 5) % VOCABULARY) as u32).collect();
                    let mut own = writing(&prompt, 1 + text * 13 % 50, text as u64 % 3);
                    own.sample = text as u64 / 3;
                    own.sampling = if text % 2 == 0 { hot } else { Sampling::default() };
                    (text * 11 % 60, own)
                })
                .collect();
            let expected: Vec<Vec<u32>> = begins.iter().map(|(_, writing)| alone(&rules, writing)).collect();
            for prefix_bytes in [0, 5_000, 1 << 20] {
                let mut writers = Writers::new(&model, &params, rules.clone(), 40, prefix_bytes).unwrap();
                for _ in 0..2 {
                    let texts = written(&mut writers, &begins);
                    assert_eq!(texts.iter().map(|text| ids(text)).collect::<Vec<_>>(), expected);
                    begins.iter_mut().for_each(|(begin, _)| *begin = *begin * 5 % 31);
                }
                assert!(writers.prefixes().bytes() <= prefix_bytes);
                let reused = writers.prompt_tokens().1;
                assert_eq!(reused > 0, prefix_bytes > 0 && window.is_none(), "{prefix_bytes}: {reused}");
            }
        }
    }

    #[test]
    fn a_text_that_goes_on_reads_its_new_tokens_alone() {
        let (model, params) = model();
        let mut writers = Writers::new(&model, &params, rules(), 2, 1 << 20).unwrap();
        let mut text: Vec<u32> = (0..200).map(|at| 1 + at % 7).collect();
        let first = written(&mut writers, &[(0, writing(&text, 20, 1))]);
        assert_eq!(writers.prompt_tokens(), (200, 0));
        text.extend(ids(&first[0]));
        text.extend([3, 4, 5]);
        let more = writing(&text, 10, 1);
        let second = written(&mut writers, &[(0, more.clone())]);
        // The last that was written had not been read.
        assert_eq!(writers.prompt_tokens(), (204, 219));
        assert_eq!(ids(&second[0]), alone(&rules(), &more));
        // The same again reads its last token, another one goes on where they part.
        written(&mut writers, &[(0, more)]);
        assert_eq!(writers.prompt_tokens(), (205, 219 + 222));
        text[130] = 9;
        written(&mut writers, &[(0, writing(&text, 1, 1))]);
        assert_eq!(writers.prompt_tokens(), (205 + 223 - 128, 219 + 222 + 128));
    }

    #[test]
    fn probabilities_are_those_of_the_model_and_an_echo_has_them_too() {
        let (model, params) = model();
        let mut writers = Writers::new(&model, &params, rules(), 3, 1 << 20).unwrap();
        let cold = Sampling { temperature: 0.0, ..Sampling::default() };
        let asked = Writing { echo: true, alternatives: Some(3), sampling: cold, ..writing(&[4, 2, 7], 5, 1) };
        let texts = written(&mut writers, &[(0, asked.clone()), (1, Writing { length: 0, ..asked })]);
        assert_eq!(
            texts[0][..3].iter().map(|token| (token.id, token.is_prompt)).collect::<Vec<_>>(),
            [(4, true), (2, true), (7, true)]
        );
        assert_eq!(texts[1].len(), 3);
        let mut stream = model.stream(&params, 1).unwrap();
        let mut last = 1;
        for (at, token) in texts[0].iter().enumerate() {
            let scores = stream.step(&[last]).to_vec();
            let total: f64 = scores.iter().map(|score| f64::from(*score).exp()).sum();
            let probability = |id: u32| f64::from(scores[id as usize]).exp() / total;
            let close = |log: f32, id: u32| (f64::from(log).exp() - probability(id)).abs() < 1e-5;
            assert!(close(token.log_probability.unwrap(), token.id), "{at}");
            assert_eq!(token.alternatives.len(), 3);
            assert!(token.alternatives.iter().all(|other| close(other.log_probability, other.id)));
            assert!(token.alternatives.is_sorted_by(|a, b| a.log_probability >= b.log_probability));
            let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(scores[token.alternatives[0].id as usize], best);
            assert_eq!((token.is_prompt, token.is_last), (at < 3, at == 7));
            last = token.id;
        }
    }

    #[test]
    fn a_clamped_unit_says_its_value_and_changes_its_own_text_alone() {
        let (model, params) = model();
        let inside = |part| Some(Inside { layer: 0, part });
        let free = Writing { inside: inside(Part::Hidden), ..writing(&[3, 5], 30, 4) };
        let clamps = vec![Clamp { layer: 0, unit: 2, value: -4.0 }, Clamp { layer: 1, unit: 0, value: 3.0 }];
        let clamped = Writing { clamps, ..free.clone() };
        let mut writers = Writers::new(&model, &params, rules(), 3, 1 << 20).unwrap();
        let texts = written(&mut writers, &[(0, clamped), (0, free.clone()), (3, free)]);
        assert!(texts[0].iter().all(|token| token.inside.len() == 6 && token.inside[2] == -4.0));
        assert_ne!(ids(&texts[0]), ids(&texts[1]));
        assert_eq!(ids(&texts[1]), ids(&texts[2]));
        assert_eq!(ids(&texts[1]), alone(&rules(), &writing(&[3, 5], 30, 4)));
        assert!(texts[1].iter().all(|token| token.inside[2].abs() < 1.0));
        for part in [Part::Input, Part::Forget, Part::Output] {
            let texts = written(&mut writers, &[(0, Writing { inside: inside(part), ..writing(&[], 3, 1) })]);
            assert!(texts[0].iter().flat_map(|token| &token.inside).all(|gate| (0.0..=1.0).contains(gate)));
        }
    }

    #[test]
    fn one_who_waits_or_leaves_changes_nothing_for_the_others() {
        let (model, params) = model();
        let mut writers = Writers::new(&model, &params, rules(), 3, 0).unwrap();
        let texts: Vec<Writing> = (0..3).map(|text| writing(&[text + 2; 20], 30, 1)).collect();
        let ids: Vec<WriterId> = texts.iter().map(|text| writers.begin(text.clone()).unwrap()).collect();
        assert!(!writers.has_room());
        let mut written: HashMap<WriterId, Vec<u32>> = HashMap::new();
        for step in 0.. {
            writers.hold(ids[0], (5..40).contains(&step));
            if step == 8 {
                writers.end(ids[1]);
            }
            assert_eq!(writers.can_step(), !(5..40).contains(&step) || writers.len() > 1);
            writers.step(&mut |token| written.entry(token.writer).or_default().push(token.id));
            if writers.is_empty() {
                break;
            }
        }
        assert_eq!(written[&ids[0]], alone(&rules(), &texts[0]));
        assert_eq!(written[&ids[2]], alone(&rules(), &texts[2]));
        assert!(written[&ids[1]].len() < 30);
    }

    #[test]
    fn what_the_model_has_not_is_refused_by_name() {
        let (model, params) = model();
        let mut writers = Writers::new(&model, &params, rules(), 1, 0).unwrap();
        let base = writing(&[1], 3, 1);
        let clamp = |layer, unit, value| Writing { clamps: vec![Clamp { layer, unit, value }], ..base.clone() };
        for (writing, said) in [
            (writing(&[99], 3, 1), "token 99"),
            (writing(&[1], 0, 1), "nothing to write"),
            (clamp(2, 0, 0.0), "layer 2"),
            (clamp(1, 6, 0.0), "unit 6"),
            (clamp(1, 5, f32::NAN), "NaN"),
            (Writing { inside: Some(Inside { layer: 7, part: Part::Cell }), ..base.clone() }, "layer 7"),
            (
                Writing { sampling: Sampling { temperature: -1.0, ..Sampling::default() }, ..base.clone() },
                "temperature",
            ),
        ] {
            let error = writers.begin(writing).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(writers.is_empty());
    }
}
