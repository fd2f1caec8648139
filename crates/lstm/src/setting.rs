//! Checks of one setting, and the sentences of those that fail. A setting is named in backticks, by which a program in front of
//! the library can say it in its own way.

use std::fmt;
use std::ops::RangeInclusive;

use thiserror::Error;

/// A configuration that cannot be built, in a sentence.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ConfigError {
    /// A size that must be at least one is zero.
    #[error("`{name}` is 0; it must be at least 1")]
    Zero {
        /// The setting's name.
        name: &'static str,
    },
    /// A number outside its range.
    #[error("`{name}` is {value}; it must be {expected}")]
    Range {
        /// The setting's name.
        name: &'static str,
        /// The value given.
        value: String,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// A name that is not one of the choices.
    #[error("`{value}` is no {kind}; choose one of: {choices}")]
    Unknown {
        /// The kind of choice.
        kind: &'static str,
        /// The name given.
        value: String,
        /// The names that exist.
        choices: &'static str,
    },
    /// Two settings that cannot go together.
    #[error("{0}")]
    Conflict(String),
}

/// Refuses zero for the setting `name`.
pub(crate) fn at_least_one(name: &'static str, value: usize) -> Result<(), ConfigError> {
    if value == 0 { Err(ConfigError::Zero { name }) } else { Ok(()) }
}

/// Refuses a number for the setting `name` that is not above zero.
pub(crate) fn above_zero(name: &'static str, value: f64) -> Result<(), ConfigError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(ConfigError::Range { name, value: value.to_string(), expected: "a number above 0" })
}

/// Refuses a number for the setting `name` outside of `range`, which `expected` says in words. Numbers that are none are
/// outside of every range.
pub(crate) fn within<T: PartialOrd + fmt::Display>(
    name: &'static str,
    value: T,
    range: RangeInclusive<T>,
    expected: &'static str,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Range { name, value: value.to_string(), expected })
}
