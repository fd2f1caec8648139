//! The processes that `mpirun` or `srun` started together: rank 0 trains, talks and writes, the others do as it says and keep quiet.

use std::process::ExitCode;

use anyhow::{Result, bail};
use lstm::train::ranks::{Alone, Orders, Ranks};

use crate::signals::Signals;

/// The shards of a step where ranks share it and nothing else is said.
pub const SHARDS: usize = 8;

/// One of several processes, as whoever started them says.
#[derive(Debug, PartialEq)]
struct Launched {
    /// Its number, where that is said.
    rank: Option<usize>,
    count: usize,
    /// The variable of the environment that says so.
    by: &'static str,
}

/// Finds out whether this is one of several processes: `variable` reads the environment.
fn launched(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
    let number = |name: &str| variable(name)?.parse::<usize>().ok();
    // Open MPI; MPICH and its like; Slurm, whose batch script alone is no step and is one process.
    let known = [
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
        ("PMI_SIZE", "PMI_RANK"),
        ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    ];
    let several = known.into_iter().find_map(|(count, rank)| {
        let count_of = number(count).filter(|count| *count > 1)?;
        Some(Launched { rank: number(rank), count: count_of, by: count })
    });
    // PMIx alone tells the rank, not how many there are.
    let pmix = || number("PMIX_RANK").filter(|rank| *rank > 0);
    several.or_else(|| pmix().map(|rank| Launched { rank: Some(rank), count: rank + 1, by: "PMIX_RANK" }))
}

/// Refuses to be one of several processes, with the reason and what to do.
pub fn refuse(why: &str) -> Result<()> {
    let Some(Launched { rank, count, by }) = launched(|name| std::env::var(name).ok()) else { return Ok(()) };
    let which = rank.map_or("one".to_owned(), |rank| format!("process {rank}"));
    bail!("this is {which} of {count} that were started together ({by} in the environment), but {why}")
}

/// The processes of this run.
pub enum Company {
    Alone,
    #[cfg(feature = "mpi")]
    Several(Box<lstm::train::ranks::mpi::Mpi>),
}

impl Company {
    /// Joins the processes that were started together, if there are others.
    #[cfg(not(feature = "mpi"))]
    pub fn join(_signals: &Signals) -> Result<Self> {
        refuse(
            "this lstm was built without MPI, so each of them would train the whole run by itself; start one process, or build it \
             with cargo build --release -p lstm-cli --features mpi",
        )
        .map(|()| Self::Alone)
    }

    /// Joins the processes that were started together, if there are others; refuses those that were asked for something else.
    #[cfg(feature = "mpi")]
    pub fn join(signals: &Signals) -> Result<Self> {
        use lstm::train::ranks::greeting::{Greeting, greet};
        if launched(|name| std::env::var(name).ok()).is_none() {
            return Ok(Self::Alone);
        }
        let mpi = lstm::train::ranks::mpi::Mpi::join(signals.stop.clone(), lost)?;
        let arguments = std::env::args().skip(1).collect();
        match greet(mpi.ranks(), &Greeting::of(arguments)) {
            Ok(()) => Ok(Self::Several(Box::new(mpi))),
            // Every rank finds the same; one says so. If another ended as if it had failed, that one would be ended before it has.
            Err(error) if mpi.ranks().rank() == 0 => Err(error.into()),
            Err(_) => {
                drop(mpi);
                std::process::exit(0)
            }
        }
    }

    fn ranks(&self) -> &dyn Ranks {
        match self {
            Self::Alone => &Alone,
            #[cfg(feature = "mpi")]
            Self::Several(mpi) => mpi.ranks(),
        }
    }

    /// Notes how to go on with the run that is about to train, for whichever rank has to say so.
    pub fn note_go_on(&self, orders: &Orders<'_>, sentence: &str) {
        orders.note(sentence);
        note_go_on(sentence);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ranks().count()
    }

    /// Rank 0's hold on the others.
    pub fn orders(&self) -> Orders<'_> {
        Orders::to(self.ranks())
    }

    /// The threads of this process where none are asked for: its share of the processors.
    pub fn threads(&self) -> Option<usize> {
        match self {
            Self::Alone => None,
            #[cfg(feature = "mpi")]
            Self::Several(mpi) => {
                let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                Some((processors / mpi.ranks().beside()).max(1))
            }
        }
    }

    /// Does as rank 0 says, if this is another; gives how it ended.
    pub fn follow(&self, signals: &Signals) -> Option<ExitCode> {
        if self.ranks().rank() == 0 {
            return None;
        }
        // Whoever ends all asks every process to end; rank 0 saves first, and says when it is over.
        signals.begin();
        Some(match lstm::train::ranks::follow(self.ranks(), &mut note_go_on) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        })
    }
}

/// How to go on with the run that is being trained, for whoever has to say so at any time.
#[cfg(feature = "mpi")]
static GO_ON: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Notes how to go on with the run.
fn note_go_on(_sentence: &str) {
    #[cfg(feature = "mpi")]
    let _ = GO_ON.set(_sentence.to_owned());
}

/// Ends this process because another rank was lost, of which one says so.
#[cfg(feature = "mpi")]
fn lost(said: Option<&str>) -> ! {
    if let Some(said) = said {
        let go_on = GO_ON.get().map_or("start it again".to_owned(), String::clone);
        crate::output::talk(format_args!("error: {said}, so the run ends; {go_on}, on the ranks that are left"));
    }
    // Whoever has not noticed yet looks for the dead. mpirun waits for a second at most.
    std::thread::sleep(std::time::Duration::from_secs(3));
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_were_started_together_are_noticed() {
        let found = |variables: &[(&str, &str)]| {
            launched(|name| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("OMPI_COMM_WORLD_SIZE", "1"), ("OMPI_COMM_WORLD_RANK", "0")]), None);
        // An allocation, and its batch script.
        assert_eq!(found(&[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")]), None);
        for (variables, by) in [
            (&[("OMPI_COMM_WORLD_SIZE", "8"), ("OMPI_COMM_WORLD_RANK", "3")], "OMPI_COMM_WORLD_SIZE"),
            (&[("PMI_SIZE", "8"), ("PMI_RANK", "3")], "PMI_SIZE"),
            (&[("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "3")], "SLURM_STEP_NUM_TASKS"),
        ] {
            assert_eq!(found(variables), Some(Launched { rank: Some(3), count: 8, by }));
            // A wrapper may keep the number back; it is one of several all the same.
            assert_eq!(found(&variables[..1]), Some(Launched { rank: None, count: 8, by }));
        }
        assert_eq!(found(&[("PMIX_RANK", "2")]), Some(Launched { rank: Some(2), count: 3, by: "PMIX_RANK" }));
    }
}
