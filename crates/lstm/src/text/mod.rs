//! From a text file to batches of token ids.

pub mod batches;
pub mod builtin;
pub mod corpus;
pub mod ngram;
pub mod tokenizer;
