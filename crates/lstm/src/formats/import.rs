//! What the reader of another program's file is told, and what it found there.

use super::network::Network;
use crate::text::tokenizer::Tokenizer;

/// What the reader of a file is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'a> {
    /// Pairs of a name in the file and this library's name for it; an empty one leaves the tensor out, and a name that ends
    /// with a dot is the start of many.
    pub map: &'a [(String, String)],
    /// What the tokens are.
    pub vocabulary: Option<&'a Tokenizer>,
    /// Whether the file is only looked at: what would be refused for having no place is listed.
    pub is_look: bool,
}

/// A network found in a file.
#[derive(Clone, Debug)]
pub struct Import {
    /// What the file is, in words.
    pub kind: String,
    /// The network; its notes say what of the file is not in it.
    pub network: Network,
    /// Where each of its arrays comes from.
    pub found: Vec<Found>,
    /// What is in the file and changes nothing, in words.
    pub left_over: Vec<String>,
    /// What is in the file, has no place, and would change the result: only of a file that is looked at.
    pub without_place: Vec<String>,
}

/// An array of a network and the one of the file that it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name in the file.
    pub theirs: String,
    /// Its name here.
    pub ours: String,
    /// Its shape.
    pub shape: Vec<usize>,
}
