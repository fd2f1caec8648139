//! What the ranks tell one another before anything else: one that is another program, or was asked for another run, is refused.

use serde::{Deserialize, Serialize};

use super::{Ranks, gather};
use crate::run::error::TrainError;
use crate::run::saved::file_checksum;

/// What must be the same at every rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Greeting {
    /// The version, and the checksum of the program's file.
    pub program: String,
    /// The instruction set, which decides the bits.
    pub instructions: String,
    /// What it was asked for.
    pub arguments: Vec<String>,
}

impl Greeting {
    /// That of this program, which was asked for this.
    pub fn of(arguments: Vec<String>) -> Self {
        let file = std::env::current_exe().and_then(std::fs::read).unwrap_or_default();
        let program = format!("{} ({})", env!("CARGO_PKG_VERSION"), file_checksum(&file));
        Self { program, instructions: crate::isa().to_owned(), arguments }
    }

    /// How this differs from rank 0's.
    fn difference(&self, first: &Self) -> Option<String> {
        if self.program != first.program {
            return Some(format!(
                "is another program, {}, than rank 0, {}; start all from the same file",
                self.program, first.program
            ));
        }
        if self.instructions != first.instructions {
            return Some(format!(
                "computes with {}, rank 0 with {}, which gives other bits; LSTM_ISA in the environment of all makes them the same",
                self.instructions, first.instructions
            ));
        }
        if self.arguments != first.arguments {
            let differ = |(own, first): &(Option<&String>, Option<&String>)| own != first;
            let longest = self.arguments.len().max(first.arguments.len());
            let pairs = (0..longest).map(|at| (self.arguments.get(at), first.arguments.get(at)));
            let (own, other) = pairs.clone().find(differ).unwrap_or_default();
            let said = |argument: Option<&String>| argument.map_or("nothing".to_owned(), |argument| argument.clone());
            return Some(format!(
                "was started with other arguments than rank 0: {} where that has {}; start all with the same",
                said(own),
                said(other)
            ));
        }
        None
    }
}

/// Exchanges greetings, and refuses the first rank whose differs from rank 0's. Every rank comes to the same result.
///
/// # Errors
/// That rank, and how it differs; or one that is lost.
pub fn greet(ranks: &dyn Ranks, own: &Greeting) -> Result<(), TrainError> {
    let all = gather(ranks, &serde_json::to_vec(own).unwrap_or_default())?;
    let read = |(rank, bytes): (usize, &Vec<u8>)| {
        serde_json::from_slice::<Greeting>(bytes).map_err(|_| {
            TrainError::Unusable(format!("{} is another program; start all from the same file", ranks.name(rank)))
        })
    };
    let greetings = all.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    for (rank, greeting) in greetings.iter().enumerate() {
        if let Some(difference) = greeting.difference(&greetings[0]) {
            return Err(TrainError::Unusable(format!("{} {difference}", ranks.name(rank))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let first = Greeting { program: "1 (a)".into(), instructions: "avx2".into(), arguments: vec!["1".into()] };
        let said = |other: &Greeting| other.difference(&first);
        assert_eq!(said(&first), None);
        assert!(
            said(&Greeting { program: "1 (b)".into(), ..first.clone() }).unwrap().contains("another program, 1 (b)")
        );
        assert!(said(&Greeting { instructions: "avx512".into(), ..first.clone() }).unwrap().contains("with avx512"));
        let arguments = vec!["1".into(), "2".into()];
        assert!(said(&Greeting { arguments, ..first.clone() }).unwrap().contains("2 where that has nothing"));
    }
}
