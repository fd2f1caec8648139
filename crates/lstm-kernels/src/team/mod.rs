//! Threads that stay: a team runs one closure on all its members at once, and they meet at a barrier that costs less
//! than a microsecond.
//!
//! A task queue would pay for a wake-up at each of the thousands of small steps of a recurrent loop. Members wait for
//! work by spinning for a moment and sleep only after it. What a team computes never depends on its size, so a caller
//! that finds the team at work for another caller runs its closure alone, and nobody ever waits for a team.

pub(crate) mod chunks;
mod openmp;
pub(crate) mod shared;

pub use openmp::{find_openmp, with_openmp};

use std::cell::Cell;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::Thread;

/// Rounds of waiting with the processor held before it is offered to others, some 100 µs: longer than members differ in
/// their share of a step, so that the offer is made only where another program has taken a member's processor.
const SPINS: usize = 10_000;

/// Rounds before a member without work sleeps: longer than what a training step does between two calls of its team.
const IDLE: usize = 5_000;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OVERRIDE: Cell<usize> = const { Cell::new(0) };
    /// Whether this thread is a member at work: what it calls runs alone.
    static AT_WORK: Cell<bool> = const { Cell::new(false) };
}

/// Sets the number of threads that kernels use; 0 for as many as there are processors.
pub fn set_threads(threads: usize) {
    THREADS.store(threads, Ordering::Relaxed);
}

/// The number of threads that kernels called from this thread use.
pub fn threads() -> usize {
    match (OVERRIDE.get(), THREADS.load(Ordering::Relaxed)) {
        (0, 0) => {
            let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
            THREADS.store(processors, Ordering::Relaxed);
            processors
        }
        (0, threads) => threads,
        (threads, _) => threads,
    }
}

/// Runs `f` with another number of threads for the kernels it calls from this thread.
pub fn with_threads<R>(threads: usize, f: impl FnOnce() -> R) -> R {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    let _restore = Restore(OVERRIDE.replace(threads));
    f()
}

/// One of the threads that run a closure together.
pub(crate) struct Member<'a> {
    /// From 0.
    pub(crate) index: usize,
    /// The number of members.
    pub(crate) count: usize,
    meeting: &'a Meeting,
    met: Cell<usize>,
}

/// Where members meet.
#[derive(Default)]
struct Meeting {
    arrived: AtomicUsize,
    broken: AtomicBool,
}

impl Member<'_> {
    /// Waits until every member has called it as often; what they wrote before is visible after.
    #[inline]
    pub(crate) fn meet(&self) {
        if self.count == 1 {
            return;
        }
        let met = self.met.get() + self.count;
        self.met.set(met);
        self.meeting.arrived.fetch_add(1, Ordering::AcqRel);
        wait(|| {
            assert!(!self.meeting.broken.load(Ordering::Relaxed), "another thread of the team panicked");
            self.meeting.arrived.load(Ordering::Acquire) >= met
        });
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.meeting.broken.store(true, Ordering::Relaxed);
        }
    }
}

/// Spins until `done`, then lets others run between looks.
#[inline]
fn wait(done: impl Fn() -> bool) {
    for round in 0.. {
        if done() {
            return;
        }
        if round < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

/// While it lives, this thread is a member at work.
struct AtWork;

impl AtWork {
    fn begin() -> Self {
        AT_WORK.set(true);
        Self
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.set(false);
    }
}

/// The closure that every member runs.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// A worker and its letter box: a job that is not null is at work, null says it is done.
struct Worker {
    job: AtomicPtr<&'static Job<'static>>,
    asleep: AtomicBool,
    panicked: AtomicBool,
}

static TEAM: Mutex<Vec<(Arc<Worker>, Thread)>> = Mutex::new(Vec::new());

/// Runs `f` on at most `wanted` members, as many as [`threads`] allows.
pub(crate) fn run(wanted: usize, f: impl Fn(&Member) + Sync) {
    let meeting = Meeting::default();
    let threads = threads();
    let count = wanted.min(threads).max(1);
    let alone = || f(&Member { index: 0, count: 1, meeting: &meeting, met: Cell::new(0) });
    if count == 1 || AT_WORK.get() {
        return alone();
    }
    if openmp::is_wanted() {
        let job = |index: usize, threads: usize| {
            // It may give fewer threads than were asked for.
            let count = count.min(threads);
            if index < count {
                let _at_work = AtWork::begin();
                f(&Member { index, count, meeting: &meeting, met: Cell::new(0) });
            }
        };
        if openmp::run(threads, &job) {
            return;
        }
    }
    let mut team = match TEAM.try_lock() {
        Ok(team) => team,
        Err(TryLockError::Poisoned(team)) => team.into_inner(),
        Err(TryLockError::WouldBlock) => return alone(),
    };
    while team.len() + 1 < count {
        match hire(team.len() + 1) {
            Some(worker) => team.push(worker),
            // The system gives no more threads; the result is the same with fewer.
            None => break,
        }
    }
    let count = count.min(team.len() + 1);
    let job = |index: usize| f(&Member { index, count, meeting: &meeting, met: Cell::new(0) });
    let job: &Job = &job;
    // SAFETY: only the lifetime is changed; `Finish` keeps this frame alive until no worker holds the reference.
    let mut job: &'static Job<'static> = unsafe { std::mem::transmute::<&Job, &'static Job<'static>>(job) };
    let workers = &team[..count - 1];
    for (worker, thread) in workers {
        worker.job.store(&raw mut job, Ordering::SeqCst);
        if worker.asleep.swap(false, Ordering::SeqCst) {
            thread.unpark();
        }
    }
    // Waits even if this member's own part panics: the workers use what this frame holds.
    struct Finish<'a>(&'a [(Arc<Worker>, Thread)]);
    impl Drop for Finish<'_> {
        fn drop(&mut self) {
            for (worker, _) in self.0 {
                wait(|| worker.job.load(Ordering::Acquire).is_null());
            }
        }
    }
    let finish = Finish(workers);
    let at_work = AtWork::begin();
    let own = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(0)));
    drop(at_work);
    drop(finish);
    let others_panicked = workers.iter().filter(|(worker, _)| worker.panicked.swap(false, Ordering::Relaxed)).count();
    if let Err(panic) = own {
        std::panic::resume_unwind(panic);
    }
    assert!(others_panicked == 0, "a thread of the team panicked");
}

/// Forgets the workers, in a process that was forked: threads do not come along, and whoever hands them work waits for ever.
pub fn after_fork() {
    if let Ok(mut team) = TEAM.try_lock() {
        team.clear();
    }
    openmp::forget();
}

/// Starts the worker with this index, if the system gives a thread. Index 0 is the caller's.
fn hire(index: usize) -> Option<(Arc<Worker>, Thread)> {
    let worker = Arc::new(Worker {
        job: AtomicPtr::default(),
        asleep: AtomicBool::new(false),
        panicked: AtomicBool::new(false),
    });
    let own = worker.clone();
    let builder = std::thread::Builder::new().name(format!("lstm-{index}"));
    let handle = builder.spawn(move || work(&own, index)).ok()?;
    Some((worker, handle.thread().clone()))
}

fn work(worker: &Worker, index: usize) {
    AT_WORK.set(true);
    loop {
        let job = next_job(worker);
        // SAFETY: the caller keeps the job alive until the letter box is null again.
        let job = unsafe { *job };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(index)));
        if result.is_err() {
            worker.panicked.store(true, Ordering::Relaxed);
        }
        worker.job.store(std::ptr::null_mut(), Ordering::Release);
    }
}

fn next_job(worker: &Worker) -> *mut &'static Job<'static> {
    loop {
        for _ in 0..IDLE {
            let job = worker.job.load(Ordering::Acquire);
            if !job.is_null() {
                return job;
            }
            std::hint::spin_loop();
        }
        worker.asleep.store(true, Ordering::SeqCst);
        // A job that came before the flag was seen would find nobody to wake.
        if !worker.job.load(Ordering::SeqCst).is_null() {
            worker.asleep.store(false, Ordering::SeqCst);
            continue;
        }
        while worker.asleep.load(Ordering::SeqCst) {
            std::thread::park();
        }
    }
}

/// Runs `task` for every index below `count` on the team, whichever member is free.
pub(crate) fn for_each(count: usize, task: impl Fn(usize) + Sync) {
    for_each_on(count, count, task);
}

/// The same on at most `wanted` members, where that is fewer than there are tasks.
pub(crate) fn for_each_on(wanted: usize, count: usize, task: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    run(wanted.min(count), |_| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            task(index);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_runs_and_meets() {
        for threads in [1, 2, 5] {
            with_threads(threads, || {
                let sums: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
                run(threads, |member| {
                    for (round, sum) in sums.iter().enumerate() {
                        sum.fetch_add(1, Ordering::Relaxed);
                        member.meet();
                        assert_eq!(sum.load(Ordering::Relaxed) % member.count, 0, "round {round}");
                    }
                });
                assert!(sums.iter().all(|sum| (1..=threads).contains(&sum.load(Ordering::Relaxed))));
            });
        }
    }

    #[test]
    fn every_task_runs_once_also_from_within_and_from_many_callers() {
        let call = || {
            let counts: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
            for_each(10, |outer| {
                for_each(100, |inner| {
                    counts[outer * 100 + inner].fetch_add(1, Ordering::Relaxed);
                })
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| with_threads(3, call)))));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_works_on() {
        for culprit in [0, 1] {
            with_threads(2, || {
                let result = std::panic::catch_unwind(|| {
                    run(2, |member| assert!(member.count == 2 && member.index != culprit, "as planned"));
                });
                assert!(result.is_err());
                for_each(8, |_| {});
            });
        }
    }
}
