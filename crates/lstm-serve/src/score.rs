//! `/v1/score`: how likely a model finds each token of a text.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use lstm::generate::{Stops, Writing};
use lstm::said::count;
use serde_json::{Value, json};

use crate::completions::ask;
use crate::engine::Message;
use crate::error::Refusal;
use crate::request::{ScoreRequest, encode, parse};
use crate::server::Server;
use crate::text::Shown;

/// The most alternatives of a token.
const MOST_TOP: usize = 100;

/// Answers `/v1/score`.
pub(crate) async fn score(server: Arc<Server>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let request: ScoreRequest = parse(&body)?;
    let engine = server.engine(request.model.as_deref())?.clone();
    if request.top > MOST_TOP {
        return Err(Refusal::bad("top", format!("top is {}; it must be at most {MOST_TOP}", request.top)));
    }
    let texts = request.text.list();
    if texts.is_empty() || texts.len() > engine.most_texts() {
        let why = format!("it has {} to score; give from 1 to {}", count(texts.len(), "text"), engine.most_texts());
        return Err(Refusal::bad("text", why));
    }
    let none = Stops::new(&[]).map_err(|error| Refusal::bad("text", error.to_string()))?;
    let (mut jobs, mut places) = (Vec::new(), Vec::new());
    for (place, text) in texts.iter().enumerate() {
        let prompt = encode(&engine.model.tokenizer, text, "text")?;
        if prompt.len() > server.settings.most_tokens {
            let (found, most) = (count(prompt.len(), "token"), server.settings.most_tokens);
            let why = format!("a text of {found} is more than the {most} that this server takes; cut it");
            return Err(Refusal { code: Some("context_length_exceeded"), ..Refusal::bad("text", why) });
        }
        // Of nothing there is nothing to say.
        if !prompt.is_empty() {
            let writing = Writing { prompt, echo: true, alternatives: Some(request.top), ..Writing::default() };
            jobs.push((writing, text.clone(), none.clone()));
            places.push(place);
        }
    }
    let mut scored: Vec<Vec<Shown>> = vec![Vec::new(); texts.len()];
    if !jobs.is_empty() {
        let mut left = jobs.len();
        let mut asked = ask(&engine, &server.settings, jobs, true).await?;
        while left > 0 {
            if let (index, Message::Piece(piece, end)) = asked.next().await? {
                scored[places[index]].extend(piece.tokens);
                left -= usize::from(end.is_some());
            }
        }
    }
    let of_text = |tokens: &Vec<Shown>| {
        let nats: f64 = tokens.iter().filter_map(|token| token.log_probability).map(|log| -f64::from(log)).sum();
        let mean = nats / tokens.len().max(1) as f64;
        let of_token = |token: &Shown| {
            let top = token.alternatives.iter().map(|(id, text, log)| json!({"id": id, "text": text, "logprob": log}));
            json!({
                "id": token.id, "text": token.text, "logprob": token.log_probability, "top": top.collect::<Vec<_>>(),
            })
        };
        json!({
            "nats": nats, "perplexity": (!tokens.is_empty()).then(|| mean.exp()),
            "tokens": tokens.iter().map(of_token).collect::<Vec<_>>(),
        })
    };
    let tokens: usize = scored.iter().map(Vec::len).sum();
    Ok(Json(json!({
        "object": "score", "model": engine.name, "texts": scored.iter().map(of_text).collect::<Vec<_>>(),
        "usage": {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens},
    })))
}
