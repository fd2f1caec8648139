//! The server of `lstm` models: OpenAI's completions, scores, and a page to talk to the models in a browser. No arithmetic is done here.
//!
//! A model has a thread of its own that writes all its texts side by side (`engine.rs`): whoever asks waits for no other's end. The
//! tasks that speak HTTP only hand requests in and pieces of text out.
//!
//! | file | what it is |
//! |---|---|
//! | `settings.rs` | what a server is told when it starts, and its bounds |
//! | `engine.rs`, `text.rs` | the thread of a model; how tokens become pieces of text |
//! | `request.rs`, `completions.rs`, `score.rs` | what is asked for, and the answers |
//! | `server.rs` | addresses, start and end |
//! | `access.rs` | who may ask |
//! | `measures.rs`, `runs.rs` | what `/metrics` and the page's dashboard show |
//! | `error.rs` | refusals, as OpenAI's clients read them |
//! | `page/` | the page: HTML, a style sheet, a script, the document of the API |
#![deny(unsafe_code)]

mod access;
mod completions;
mod engine;
mod error;
mod measures;
mod request;
mod runs;
mod score;
mod server;
mod settings;
mod text;

pub use server::{ServeError, serve};
pub use settings::Settings;
