//! What is asked for: the fields of a request, checked once.

use std::fmt;
use std::marker::PhantomData;

use axum::http::StatusCode;
use lstm::generate::{Clamp, Inside, Part, Sampling, Stops, Writing};
use lstm::said::count;
use lstm::text::tokenizer::Tokenizer;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::engine::Engine;
use crate::error::Refusal;
use crate::settings::Settings;

/// The seed where none is given: clients that give none expect another text each time, so it is drawn from the clock.
fn any_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // Small enough for every reader of JSON.
    now.as_nanos() as u64 & 0xFFFF_FFFF
}

/// The most texts that a request may have written at once, for each of its prompts.
const MOST_TEXTS: usize = 128;

/// The most alternatives of a token.
const MOST_ALTERNATIVES: usize = 100;

/// The body of `/v1/completions`: OpenAI's fields, then ours.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompletionRequest {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    prompt: Option<Prompt>,
    #[serde(default)]
    max_tokens: Option<usize>,
    #[serde(default)]
    temperature: Option<f32>,
    #[serde(default)]
    top_p: Option<f32>,
    #[serde(default)]
    n: Option<usize>,
    #[serde(default)]
    best_of: Option<usize>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<Named<StreamOptions>>,
    #[serde(default)]
    logprobs: Option<usize>,
    #[serde(default)]
    echo: Option<bool>,
    #[serde(default)]
    stop: Option<OneOrMany>,
    #[serde(default)]
    seed: Option<i64>,
    /// Whom a request is made for says nothing to a model.
    #[serde(default)]
    #[allow(dead_code, reason = "taken, as OpenAI's clients send it, and of no use here")]
    user: Option<String>,
    #[serde(default)]
    suffix: Option<Value>,
    #[serde(default)]
    logit_bias: Option<Value>,
    #[serde(default)]
    presence_penalty: Option<f32>,
    #[serde(default)]
    frequency_penalty: Option<f32>,
    #[serde(default)]
    top_k: Option<usize>,
    #[serde(default)]
    min_p: Option<f32>,
    #[serde(default)]
    repetition_penalty: Option<f32>,
    #[serde(default)]
    clamp: Vec<Named<ClampRequest>>,
    #[serde(default)]
    inside: Option<Named<InsideRequest>>,
    #[serde(default)]
    details: Option<bool>,
}

/// The body of `/v1/score`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScoreRequest {
    #[serde(default)]
    pub(crate) model: Option<String>,
    /// The texts.
    pub(crate) text: OneOrMany,
    /// How many of the likeliest tokens are told with each.
    #[serde(default)]
    pub(crate) top: usize,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text, texts, tokens, or lists of tokens")]
enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

/// One text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
    /// OpenAI's padding against listeners on the way; there is none on this server's.
    #[serde(default)]
    #[allow(dead_code, reason = "taken, as OpenAI's clients may send it, and of no use here")]
    include_obfuscation: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClampRequest {
    layer: usize,
    unit: usize,
    value: f32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InsideRequest {
    layer: usize,
    part: PartName,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PartName {
    I,
    F,
    G,
    O,
    C,
    H,
}

/// A request for completions, checked.
#[derive(Debug)]
pub(crate) struct Completions {
    /// The texts of its prompts, with their tokens.
    pub(crate) prompts: Vec<(String, Vec<u32>)>,
    /// How many texts are handed out for each prompt, of how many that are written.
    pub(crate) n: usize,
    pub(crate) best_of: usize,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) echo: bool,
    /// Whether OpenAI's `logprobs` are told, and our details of every token.
    pub(crate) logprobs: Option<usize>,
    pub(crate) details: bool,
    pub(crate) stops: Stops,
    /// What all its texts have in common.
    pub(crate) writing: Writing,
}

impl CompletionRequest {
    /// The model that is asked for.
    pub(crate) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Checks everything that can be checked without the model's thread.
    pub(crate) fn check(self, engine: &Engine, settings: &Settings) -> Result<Completions, Refusal> {
        let nothing = |value: &Option<Value>| match value {
            None | Some(Value::Null) => true,
            Some(Value::Object(fields)) => fields.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
        };
        for (field, is_idle, instead) in [
            ("suffix", nothing(&self.suffix), "a model that reads from left to right alone cannot fit a text in"),
            ("logit_bias", nothing(&self.logit_bias), "tokens are not weighted one by one"),
            ("presence_penalty", self.presence_penalty.is_none_or(|p| p == 0.0), "use repetition_penalty"),
            ("frequency_penalty", self.frequency_penalty.is_none_or(|p| p == 0.0), "use repetition_penalty"),
        ] {
            if !is_idle {
                return Err(Refusal::bad(field, format!("{field} is not known here: {instead}; leave it out")));
            }
        }
        let within = |field, value: usize, least: usize, most: usize| match (least..=most).contains(&value) {
            true => Ok(value),
            false => {
                Err(Refusal::bad(field, format!("{field} is {value}; it must be at least {least} and at most {most}")))
            }
        };
        let stream = self.stream.unwrap_or(false);
        let n = within("n", self.n.unwrap_or(1), 1, MOST_TEXTS.min(engine.most_texts()))?;
        let best_of = within("best_of", self.best_of.unwrap_or(n), n, MOST_TEXTS.min(engine.most_texts()))?;
        if stream && best_of > n {
            let why = "which text is best is known only when all are written, so none can be streamed; leave best_of or \
                       stream out";
            return Err(Refusal::bad("best_of", why));
        }
        let logprobs = self.logprobs.map(|count| within("logprobs", count, 0, MOST_ALTERNATIVES)).transpose()?;
        let (echo, details) = (self.echo.unwrap_or(false), self.details.unwrap_or(false));
        if self.stream_options.is_some() && !stream {
            return Err(Refusal::bad(
                "stream_options",
                "stream_options are for a stream; set stream, or leave them out",
            ));
        }
        let length = self.max_tokens.unwrap_or(16);
        if length == 0 && !echo {
            return Err(Refusal::bad(
                "max_tokens",
                "max_tokens is 0, so there is nothing to write; give more, or echo",
            ));
        }
        let tokenizer = &engine.model.tokenizer;
        let prompts = prompts(self.prompt, tokenizer)?;
        if prompts.is_empty() || prompts.len() * best_of > engine.most_texts() {
            let why = format!(
                "{} of {} each are asked for; give at least one, and at most {} at once",
                count(prompts.len(), "prompt"),
                count(best_of, "text"),
                count(engine.most_texts(), "text")
            );
            return Err(Refusal::bad("prompt", why));
        }
        for (_, tokens) in &prompts {
            if tokens.len() + length > settings.most_tokens {
                let why = format!(
                    "a prompt of {} and {length} to write are more than the {} that this server takes; shorten one \
                     of them",
                    count(tokens.len(), "token"),
                    settings.most_tokens
                );
                return Err(Refusal { code: Some("context_length_exceeded"), ..Refusal::bad("max_tokens", why) });
            }
        }
        let temperature = self.temperature.unwrap_or(1.0);
        // Nothing is cut of what is always the likeliest: OpenAI's clients send such pairs.
        let is_cold = temperature == 0.0;
        let sampling = Sampling {
            temperature,
            top_p: if is_cold { 1.0 } else { self.top_p.unwrap_or(1.0) },
            top_k: if is_cold { 0 } else { self.top_k.unwrap_or(0) },
            min_p: if is_cold { 0.0 } else { self.min_p.unwrap_or(0.0) },
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
        };
        sampling.validate().map_err(|error| of_sampling(&error.to_string()))?;
        let stops = self.stop.map_or(Vec::new(), OneOrMany::list);
        let stops = Stops::new(&stops).map_err(|error| Refusal::bad("stop", error.to_string()))?;
        let inside = self.inside.map(|Named(inside)| Inside { layer: inside.layer, part: inside.part.into() });
        if inside.is_some() && !details {
            return Err(Refusal::bad(
                "inside",
                "values of inside come with the details of tokens; set details to true",
            ));
        }
        let ranks_texts = best_of > n;
        let alternatives = logprobs.or((details || ranks_texts).then_some(if details { 8 } else { 0 }));
        let writing = Writing {
            length,
            sampling,
            seed: self.seed.map_or_else(any_seed, |seed| seed as u64),
            echo: echo && (logprobs.is_some() || details || length == 0),
            alternatives,
            clamps: self.clamp.iter().map(|Named(c)| Clamp { layer: c.layer, unit: c.unit, value: c.value }).collect(),
            inside,
            ..Writing::default()
        };
        let include_usage = self.stream_options.is_some_and(|Named(options)| options.include_usage);
        Ok(Completions { prompts, n, best_of, stream, include_usage, echo, logprobs, details, stops, writing })
    }
}

/// The refusal of a setting of how tokens are chosen: the library's names are those of the command's options.
fn of_sampling(said: &str) -> Refusal {
    let fields = [("top-p", "top_p"), ("min-p", "min_p"), ("repetition-penalty", "repetition_penalty")];
    let found = fields.iter().find(|(setting, _)| said.contains(&format!("`{setting}`")));
    let (setting, field) = found.copied().unwrap_or(("temperature", "temperature"));
    Refusal::bad(field, said.replace(&format!("`{setting}`"), field))
}

impl From<PartName> for Part {
    fn from(name: PartName) -> Self {
        match name {
            PartName::I => Self::Input,
            PartName::F => Self::Forget,
            PartName::G => Self::Candidate,
            PartName::O => Self::Output,
            PartName::C => Self::Cell,
            PartName::H => Self::Hidden,
        }
    }
}

fn prompts(prompt: Option<Prompt>, tokenizer: &Tokenizer) -> Result<Vec<(String, Vec<u32>)>, Refusal> {
    let of_text = |text: String| match encode(tokenizer, &text, "prompt") {
        Ok(tokens) => Ok((text, tokens)),
        Err(refusal) => Err(refusal),
    };
    let of_tokens = |tokens: Vec<u32>| {
        if let Some(token) = tokens.iter().find(|token| **token as usize >= tokenizer.vocabulary_size()) {
            let why = format!(
                "token {token} is none of this model, whose vocabulary has {}; its first token is 0",
                tokenizer.vocabulary_size()
            );
            return Err(Refusal::bad("prompt", why));
        }
        let mut decoder = tokenizer.decoder("");
        let mut bytes: Vec<u8> = tokens.iter().flat_map(|&token| decoder.push(token)).collect();
        bytes.extend(decoder.finish());
        Ok((String::from_utf8_lossy(&bytes).into_owned(), tokens))
    };
    match prompt {
        None => Ok(vec![(String::new(), Vec::new())]),
        Some(Prompt::Text(text)) => Ok(vec![of_text(text)?]),
        Some(Prompt::Texts(texts)) => texts.into_iter().map(of_text).collect(),
        Some(Prompt::Tokens(tokens)) => Ok(vec![of_tokens(tokens)?]),
        Some(Prompt::ManyTokens(many)) => many.into_iter().map(of_tokens).collect(),
    }
}

/// The tokens of a text.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str, field: &'static str) -> Result<Vec<u32>, Refusal> {
    tokenizer.encode(text).map_err(|error| Refusal::bad(field, error.to_string()))
}

/// Fields by their names: a list of them in the order in which they happen to be written here, which serde takes for them too, is none.
#[derive(Clone, Copy, Debug)]
struct Named<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with named fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Named)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// Reads the body of a request.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map(|Named(fields)| fields).map_err(|error| {
        let what = if error.is_data() { "this request is not understood" } else { "the body is no JSON" };
        Refusal::new(StatusCode::BAD_REQUEST, format!("{what}: {error}"))
    })
}
