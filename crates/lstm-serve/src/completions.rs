//! `/v1/completions`: texts as OpenAI's clients read them, whole or as they come.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lstm::generate::Writing;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::engine::{End, Engine, Job, Message};
use crate::error::Refusal;
use crate::request::{CompletionRequest, Completions};
use crate::server::Server;
use crate::settings::Settings;
use crate::text::{Piece, Shown};

/// The pieces of a text that may wait for a slow reader before the text waits for it.
const PIECES: usize = 64;

/// Texts that were handed in, and where their pieces come.
pub(crate) struct Asked {
    pub(crate) pieces: mpsc::Receiver<(usize, Message)>,
    /// What was said before the first piece of any.
    early: Vec<(usize, Message)>,
}

/// Hands texts in, of which all or none are taken, and waits until the first has a place.
pub(crate) async fn ask(
    engine: &Engine,
    settings: &Settings,
    jobs: Vec<(Writing, String, lstm::generate::Stops)>,
    shows: bool,
) -> Result<Asked, Refusal> {
    let arrived = Instant::now();
    let texts = jobs.len();
    let waits = engine.reserve(texts).map_err(|seconds| {
        let why = "as many texts wait as this server lets wait; ask again later, or for fewer at once";
        Refusal::later(StatusCode::TOO_MANY_REQUESTS, why, seconds)
    })?;
    let (to, pieces) = mpsc::channel(PIECES * texts);
    for ((index, (writing, prompt, stops)), waits) in jobs.into_iter().enumerate().zip(waits) {
        let (to, deadline) = (to.clone(), arrived + settings.time);
        engine.submit(Job { writing, prompt, stops, shows, index, texts, to, arrived, deadline, waits });
    }
    drop(to);
    let mut asked = Asked { pieces, early: Vec::new() };
    let first = asked.next().await?;
    asked.early.push(first);
    Ok(asked)
}

impl Asked {
    /// What is said next; a refusal ends all.
    pub(crate) async fn next(&mut self) -> Result<(usize, Message), Refusal> {
        if let Some(early) = self.early.pop() {
            return Ok(early);
        }
        match self.pieces.recv().await {
            Some((_, Message::Refused(why))) => Err(Refusal::new(StatusCode::BAD_REQUEST, why)),
            Some((_, Message::Late)) => Err(Refusal::later(
                StatusCode::SERVICE_UNAVAILABLE,
                "the time of this request was over before there was a place for it; ask again later",
                10,
            )),
            Some(message) => Ok(message),
            None => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the model ended before the text did")),
        }
    }
}

/// Answers `/v1/completions`.
pub(crate) async fn complete(server: Arc<Server>, body: Bytes) -> Result<Response, Refusal> {
    let request: CompletionRequest = crate::request::parse(&body)?;
    let engine = server.engine(request.model())?.clone();
    let completions = request.check(&engine, &server.settings)?;
    let prompt_tokens: usize = completions.prompts.iter().map(|(_, tokens)| tokens.len()).sum();
    let mut jobs = Vec::new();
    for (prompt, tokens) in &completions.prompts {
        for sample in 0..completions.best_of {
            let writing = Writing { prompt: tokens.clone(), sample: sample as u64, ..completions.writing.clone() };
            jobs.push((writing, prompt.clone(), completions.stops.clone()));
        }
    }
    let answer = Answer::new(&engine, completions, prompt_tokens);
    if jobs.iter().all(|(writing, ..)| writing.length == 0 && writing.prompt.is_empty()) {
        // Nothing to read and nothing to write: no part of a model.
        return Ok(answer.all(Vec::new()).into_response());
    }
    let shows = answer.asked.logprobs.is_some() || answer.asked.details;
    let asked = ask(&engine, &server.settings, jobs, shows || answer.asked.best_of > answer.asked.n).await?;
    if answer.asked.stream { Ok(answer.stream(asked)) } else { answer.whole(asked).await }
}

/// An answer and what all its parts have in common.
struct Answer {
    id: String,
    created: u64,
    model: String,
    asked: Completions,
    prompt_tokens: usize,
    written: usize,
}

/// A text as it grows.
#[derive(Default)]
struct Grown {
    text: String,
    tokens: Vec<Shown>,
    end: Option<End>,
}

impl Answer {
    fn new(engine: &Engine, asked: Completions, prompt_tokens: usize) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            id: format!("cmpl-{:x}{number:06x}", now.as_micros()),
            created: now.as_secs(),
            model: engine.name.clone(),
            asked,
            prompt_tokens,
            written: 0,
        }
    }

    fn object(&self, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut object = json!({
            "id": self.id, "object": "text_completion", "created": self.created, "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            object["usage"] = usage;
        }
        object
    }

    fn usage(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens, "completion_tokens": self.written,
            "total_tokens": self.prompt_tokens + self.written,
        })
    }

    /// The number among the answer's of a text that was written, by the order of what was asked.
    fn place(&self, index: usize) -> usize {
        index / self.asked.best_of * self.asked.n + index % self.asked.best_of
    }

    /// The text of the prompt before that of text `index`, if it is to be echoed.
    fn echoed(&self, index: usize) -> &str {
        match self.asked.echo {
            true => &self.asked.prompts[index / self.asked.best_of].0,
            false => "",
        }
    }

    /// Takes what a piece says of how much was written. The tokens of a text are counted where they come, echoes among them.
    fn choice(&self, place: usize, text: &str, tokens: &[Shown], end: Option<End>) -> Value {
        let mut choice = json!({
            "index": place, "text": text, "logprobs": null,
            "finish_reason": end.map(|end| if end == End::Stop { "stop" } else { "length" }),
        });
        if self.asked.logprobs.is_some() {
            choice["logprobs"] = logprobs(tokens, self.asked.logprobs.unwrap_or(0));
        }
        if self.asked.details {
            choice["details"] = tokens.iter().map(details).collect();
        }
        choice
    }

    /// The answer when all is written.
    async fn whole(mut self, mut asked: Asked) -> Result<Response, Refusal> {
        let texts = self.asked.prompts.len() * self.asked.best_of;
        let mut grown: Vec<Grown> = (0..texts).map(|_| Grown::default()).collect();
        let mut ended = 0;
        while ended < texts {
            let (index, message) = asked.next().await?;
            if let Message::Piece(piece, end) = message {
                let own = &mut grown[index];
                own.text.push_str(&piece.text);
                self.written += piece.written;
                own.tokens.extend(piece.tokens);
                own.end = end;
                ended += usize::from(end.is_some());
            }
        }
        Ok(self.all(grown).into_response())
    }

    fn all(&self, grown: Vec<Grown>) -> Json<Value> {
        let mut choices = Vec::new();
        if grown.is_empty() {
            choices.extend((0..self.asked.n).map(|place| self.choice(place, "", &[], Some(End::Length))));
        }
        for (prompt, texts) in grown.chunks(self.asked.best_of).enumerate() {
            let mut order: Vec<usize> = (0..texts.len()).collect();
            if self.asked.best_of > self.asked.n {
                // The best by what the model gives a token of it on average, as OpenAI's.
                let mean = |text: &Grown| {
                    let logs = text.tokens.iter().filter_map(|token| token.log_probability).map(f64::from);
                    logs.sum::<f64>() / text.tokens.len().max(1) as f64
                };
                order.sort_by(|&a, &b| mean(&texts[b]).total_cmp(&mean(&texts[a])));
            }
            for (rank, &text) in order.iter().take(self.asked.n).enumerate() {
                let index = prompt * self.asked.best_of + text;
                let Grown { text, tokens, end } = &texts[text];
                let text = format!("{}{text}", self.echoed(index));
                choices.push(self.choice(prompt * self.asked.n + rank, &text, tokens, *end));
            }
        }
        Json(self.object(choices, Some(self.usage())))
    }

    /// The answer as it is written.
    fn stream(self, asked: Asked) -> Response {
        let texts = self.asked.prompts.len() * self.asked.best_of;
        let writing = Streamed { answer: self, asked, left: texts, begun: vec![false; texts], is_over: false };
        let pieces = futures_util::stream::unfold(writing, |mut writing| async move {
            writing.next().await.map(|bytes| (Ok::<_, Infallible>(bytes), writing))
        });
        let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
        (headers, Body::from_stream(pieces)).into_response()
    }
}

/// An answer on its way out.
struct Streamed {
    answer: Answer,
    asked: Asked,
    /// Texts that have not ended, and whether each has begun.
    left: usize,
    begun: Vec<bool>,
    is_over: bool,
}

impl Streamed {
    /// The next events: all that are there already, so that who reads slowly reads fewer.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let mut events = String::new();
        while events.is_empty() {
            if self.left == 0 {
                self.is_over = true;
                if self.answer.asked.include_usage {
                    event(&mut events, &self.answer.object(Vec::new(), Some(self.answer.usage())));
                }
                events.push_str("data: [DONE]\n\n");
                break;
            }
            let mut next = self.asked.next().await;
            loop {
                match next {
                    Ok((index, Message::Piece(piece, end))) => self.piece(&mut events, index, piece, end),
                    Ok(_) => {}
                    Err(refusal) => {
                        // The headers are gone: clients take an event with an error for one.
                        event(&mut events, &refusal.object());
                        self.is_over = true;
                        break;
                    }
                }
                match self.asked.pieces.try_recv() {
                    Ok(more @ (_, Message::Begun | Message::Piece(..))) => next = Ok(more),
                    Ok((_, Message::Refused(why))) => next = Err(Refusal::new(StatusCode::BAD_REQUEST, why)),
                    Ok((_, Message::Late)) => {
                        next = Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the time of this request is over"));
                    }
                    Err(_) => break,
                }
            }
        }
        Some(Bytes::from(events))
    }

    fn piece(&mut self, events: &mut String, index: usize, piece: Piece, end: Option<End>) {
        self.answer.written += piece.written;
        self.left -= usize::from(end.is_some());
        let is_first = !std::mem::replace(&mut self.begun[index], true);
        let text = if is_first { format!("{}{}", self.answer.echoed(index), piece.text) } else { piece.text };
        // Half a character, or what may be the beginning of a stop, is nothing yet.
        if text.is_empty() && piece.tokens.is_empty() && end.is_none() {
            return;
        }
        let choice = self.answer.choice(self.answer.place(index), &text, &piece.tokens, end);
        // Where the usage comes at the end, every other event says that it is not there.
        let usage = self.answer.asked.include_usage.then_some(Value::Null);
        event(events, &self.answer.object(vec![choice], usage));
    }
}

fn event(events: &mut String, object: &Value) {
    events.push_str("data: ");
    events.push_str(&object.to_string());
    events.push_str("\n\n");
}

/// OpenAI's form of probabilities.
fn logprobs(tokens: &[Shown], count: usize) -> Value {
    let top = |token: &Shown| -> Value {
        // The token itself is always among them.
        let mut top: BTreeMap<&str, f32> =
            BTreeMap::from([(token.text.as_str(), token.log_probability.unwrap_or(0.0))]);
        for (_, text, log_probability) in token.alternatives.iter().take(count) {
            // Of two tokens with one text the likelier.
            top.entry(text).or_insert(*log_probability);
        }
        top.into_iter().map(|(text, log)| (text.to_owned(), json!(log))).collect::<Map<String, Value>>().into()
    };
    json!({
        "tokens": tokens.iter().map(|token| &token.text).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.log_probability).collect::<Vec<_>>(),
        "top_logprobs": if count == 0 { Value::Null } else { tokens.iter().map(top).collect() },
        "text_offset": tokens.iter().map(|token| token.offset).collect::<Vec<_>>(),
    })
}

/// A token with all that the page shows of it.
fn details(token: &Shown) -> Value {
    let alternatives = token.alternatives.iter().map(|(id, text, log)| json!({"id": id, "text": text, "logprob": log}));
    // A value needs no more digits than a colour has shades.
    let inside = token.inside.iter().map(|value| (f64::from(*value) * 1000.0).round() / 1000.0);
    json!({
        "id": token.id, "text": token.text, "logprob": token.log_probability,
        "top": alternatives.collect::<Vec<_>>(), "inside": inside.collect::<Vec<_>>(),
    })
}
