//! Tokenizers: words, characters, bytes, subwords. A vocabulary comes from the training text alone, or from a file.

mod build;
mod decoder;
mod extend;
mod file;
pub(crate) mod kind;
mod pieces;
mod subwords;
#[cfg(test)]
mod tests;
mod tokens;
mod vocabulary;
mod vocabulary_file;

pub use self::decoder::Decoder;
pub use self::kind::TokenizerKind;
pub use self::tokens::Tokenizer;
pub use self::vocabulary::VocabularyOptions;
