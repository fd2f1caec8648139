//! The built-in language.
