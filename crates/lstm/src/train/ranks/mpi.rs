//! Ranks that MPI joins: those that `mpirun` or `srun` started together.
//!
//! Messages are sent and received without blocking and asked after in a loop, which yields the processor, and notices where MPI itself
//! would wait for ever: a rank that died.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ferrompi::{Communicator, Request, ThreadLevel};

use super::{Ranks, gather};
use crate::run::error::TrainError;

/// The bytes of one message. MPI moves them only while it is asked whether they came, and how often it is asked depends on when the last message
/// came: so none may take long.
const MOST_BYTES: usize = 1 << 20;

/// How often it is looked whether those that are waited for live.
const LOOK: Duration = Duration::from_millis(100);

/// How long a rank on another machine is waited for after this one was asked to end. `mpirun` ends all a second after one died.
const GRACE: Duration = Duration::from_millis(600);

/// This process's part in MPI, which ends with it.
pub struct Mpi {
    ranks: World,
    // Dropped after what needs it.
    _mpi: ferrompi::Mpi,
}

/// All ranks that MPI joins.
pub struct World {
    world: Communicator,
    /// Set when this process is asked to end.
    stop: Arc<AtomicBool>,
    /// Says what was lost, if it is this rank's to say, and ends the process, for with a rank lost MPI cannot be ended; but not before the
    /// others have seen the same, who would take this one for what was lost.
    lost: fn(Option<&str>) -> !,
    /// Where every rank runs.
    places: Vec<Place>,
}

/// Where a rank runs.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    machine: String,
    process: u32,
    /// The processors that it may use, as the system writes them; empty where that is not known.
    processors: String,
}

impl Place {
    /// Whether it is known to have ended: of this machine alone.
    fn is_dead(&self, own: &Self) -> bool {
        if !cfg!(target_os = "linux") || self.machine != own.machine {
            return false;
        }
        // What has ended and was not waited for is still listed, as Z behind the name in parentheses.
        let state = std::fs::read_to_string(format!("/proc/{}/stat", self.process));
        state.map_or(true, |state| {
            state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
        })
    }
}

impl Mpi {
    /// Joins the others. `stop` is set when this process is asked to end; `lost` ends it when a rank was lost, and says the sentence where
    /// one is given.
    ///
    /// # Errors
    /// MPI that cannot be begun.
    pub fn join(stop: Arc<AtomicBool>, lost: fn(Option<&str>) -> !) -> Result<Self, TrainError> {
        // A thread that trains and one that brings gradients to others take turns.
        let mpi = ferrompi::Mpi::init_thread(ThreadLevel::Serialized).map_err(unusable)?;
        if mpi.thread_level() < ThreadLevel::Serialized {
            let why =
                "it was built for one thread alone; use one that any thread may call, as MPI_THREAD_SERIALIZED allows";
            return Err(TrainError::Unusable(format!("MPI: {why}")));
        }
        let world = mpi.world();
        let machine = world.processor_name().map_err(unusable)?;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let processors = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
        let own = Place { machine, process: std::process::id(), processors: processors.trim().to_owned() };
        let places = vec![own.clone(); world.size() as usize];
        let mut ranks = World { world, stop, lost, places };
        let all = gather(&ranks, format!("{} {} {}", own.process, own.processors, own.machine).as_bytes())?;
        for (place, said) in ranks.places.iter_mut().zip(&all) {
            let said = String::from_utf8_lossy(said);
            if let [process, processors, machine] = said.splitn(3, ' ').collect::<Vec<_>>()[..] {
                let process = process.parse().unwrap_or(own.process);
                *place = Place { machine: machine.to_owned(), process, processors: processors.to_owned() };
            }
        }
        Ok(Self { ranks, _mpi: mpi })
    }

    /// All that joined.
    pub fn ranks(&self) -> &World {
        &self.ranks
    }
}

impl World {
    /// How many ranks share the processors of this one, which a launcher may have bound to some of its machine's.
    pub fn beside(&self) -> usize {
        let own = &self.places[self.rank()];
        let shares = |place: &&Place| (&place.machine, &place.processors) == (&own.machine, &own.processors);
        self.places.iter().filter(shares).count()
    }

    /// Ends this process because a rank was lost; the lowest rank that lives says so.
    fn give_up(&self, rank: usize, how: &str) -> ! {
        let own = &self.places[self.rank()];
        let dead: Vec<usize> = (0..self.count()).filter(|other| self.places[*other].is_dead(own)).collect();
        let lowest = (0..self.count()).find(|other| *other != rank && !dead.contains(other));
        // Where more have ended than rank 0, it was rank 0 that said so.
        let is_first = self.rank() == 0 || dead.len() < 2;
        (self.lost)((lowest == Some(self.rank()) && is_first).then(|| format!("{} {how}", self.name(rank))).as_deref())
    }

    /// Waits until all requests are complete. `of`: the rank that each is of.
    fn complete(&self, requests: &mut [Request<'_>], of: &[usize]) -> Result<(), TrainError> {
        let mut moved = Instant::now();
        let (mut looked, mut told) = (moved, None);
        let own = &self.places[self.rank()];
        loop {
            let completed = Request::test_some(requests);
            let now = Instant::now();
            let failed = match completed {
                Ok(completed) => {
                    if !completed.is_empty() {
                        moved = now;
                    }
                    completed.into_iter().find_map(|(at, status)| Some((of[at], status.error?.to_string())))
                }
                Err(error) => Some((of[0], error.to_string())),
            };
            if let Some((rank, error)) = failed {
                self.give_up(rank, &format!("cannot be reached ({error})"));
            }
            let pending = || requests.iter().zip(of).filter(|(request, _)| !request.is_completed()).map(|(_, of)| *of);
            if pending().next().is_none() {
                return Ok(());
            }
            if told.is_none() && self.stop.load(Ordering::Relaxed) {
                told = Some(now);
            }
            if told == Some(now) || now - looked > LOOK {
                looked = now;
                if let Some(dead) = (0..self.count()).find(|rank| self.places[*rank].is_dead(own)) {
                    self.give_up(dead, "died");
                }
                let far = pending().find(|rank| self.places[*rank].machine != own.machine);
                if let Some(far) = far.filter(|_| told.is_some_and(|told| now - told > GRACE)) {
                    self.give_up(far, "does not answer, and this rank was asked to end");
                }
            }
            // What is on its way comes soon; later the others compute, perhaps on this very processor.
            match (now - moved).as_micros() {
                0..200 => std::thread::yield_now(),
                micros => std::thread::sleep(Duration::from_micros((micros as u64 / 20).clamp(20, 5_000))),
            }
        }
    }
}

impl Ranks for World {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn count(&self) -> usize {
        self.places.len()
    }

    fn name(&self, rank: usize) -> String {
        let Place { machine, process, .. } = &self.places[rank];
        format!("rank {rank} (process {process} on {machine})")
    }

    fn exchange(&self, send: &[(usize, &[u8])], receive: &mut [(usize, &mut [u8])]) -> Result<(), TrainError> {
        let exchanged = ferrompi::scope(move |scope| {
            let (mut requests, mut of) = (Vec::new(), Vec::new());
            for (rank, bytes) in receive {
                for part in bytes.chunks_mut(MOST_BYTES) {
                    requests.push(self.world.irecv(scope, part, *rank as i32, 0)?);
                    of.push(*rank);
                }
            }
            for (rank, bytes) in send {
                for part in bytes.chunks(MOST_BYTES) {
                    requests.push(self.world.isend(scope, part, *rank as i32, 0)?);
                    of.push(*rank);
                }
            }
            Ok(self.complete(&mut requests, &of))
        });
        exchanged.map_err(unusable)?
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("rank", &self.rank()).field("places", &self.places).finish_non_exhaustive()
    }
}

fn unusable(error: ferrompi::Error) -> TrainError {
    TrainError::Unusable(format!("MPI: {error}"))
}
