//! The threads of an OpenMP that the process has already, PyTorch's above all, in place of our own.
//!
//! Such threads wait for work by spinning, for milliseconds after each parallel operation. A team of our own that is called
//! meanwhile has to share the processors with them; on these threads there is nobody to share with, and nobody to wake.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What the compilers call for a parallel region, in GNU's OpenMP and in LLVM's: function, its data, number of threads, flags.
type Parallel = unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);
type Number = unsafe extern "C" fn() -> c_int;

#[derive(Clone, Copy)]
struct OpenMp {
    parallel: Parallel,
    thread: Number,
    threads: Number,
}

static FOUND: Mutex<Option<OpenMp>> = Mutex::new(None);
/// Whether a region is at work: who comes meanwhile computes alone, as with our own team.
static AT_WORK: AtomicBool = AtomicBool::new(false);

thread_local! {
    static WANTED: Cell<bool> = const { Cell::new(false) };
}

/// Looks for an OpenMP among the libraries that the process has loaded for all; whether there is one.
pub fn find_openmp() -> bool {
    let found = look_up();
    *FOUND.lock().unwrap_or_else(PoisonError::into_inner) = found;
    found.is_some()
}

#[cfg(unix)]
fn look_up() -> Option<OpenMp> {
    let symbol = |name: &CStr| {
        // SAFETY: a name that ends in zero, looked up in what is loaded; nothing is loaded by it.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    };
    let (parallel, thread, threads) =
        (symbol(c"GOMP_parallel")?, symbol(c"omp_get_thread_num")?, symbol(c"omp_get_num_threads")?);
    // SAFETY: these names have had these types in every OpenMP of GNU and of LLVM since version 4.
    unsafe {
        Some(OpenMp {
            parallel: std::mem::transmute::<*mut c_void, Parallel>(parallel),
            thread: std::mem::transmute::<*mut c_void, Number>(thread),
            threads: std::mem::transmute::<*mut c_void, Number>(threads),
        })
    }
}

#[cfg(not(unix))]
fn look_up() -> Option<OpenMp> {
    None
}

/// Forgets it: the threads do not come along with a process that is forked.
pub(super) fn forget() {
    if let Ok(mut found) = FOUND.try_lock() {
        *found = None;
    }
}

/// Runs `f` with the threads of the OpenMP that [`find_openmp`] found, if any, for the kernels it calls from this thread.
pub fn with_openmp<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            WANTED.set(self.0);
        }
    }
    let _restore = Restore(WANTED.replace(true));
    f()
}

/// Whether this thread's kernels should run there.
pub(super) fn is_wanted() -> bool {
    WANTED.get()
}

/// Runs `job`, given its index and the number of threads, on all of `threads` threads; false, and nothing ran, where there is no OpenMP or it is at work.
///
/// Always all of them: OpenMP ends and starts threads wherever their number changes.
pub(super) fn run(threads: usize, job: &(dyn Fn(usize, usize) + Sync)) -> bool {
    struct Region<'a> {
        openmp: OpenMp,
        job: &'a (dyn Fn(usize, usize) + Sync),
        panic: Mutex<Option<Box<dyn Any + Send>>>,
    }
    unsafe extern "C" fn enter(region: *mut c_void) {
        // SAFETY: the caller's frame holds it until every thread has left the region.
        let region = unsafe { &*region.cast::<Region>() };
        // SAFETY: functions that take nothing and only look.
        let (index, count) = unsafe { ((region.openmp.thread)(), (region.openmp.threads)()) };
        let job = || (region.job)(index as usize, count as usize);
        // Nothing may unwind through OpenMP's own frames.
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job))
            && let Ok(mut first) = region.panic.lock()
        {
            first.get_or_insert(panic);
        }
    }
    let found = *FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(openmp) = found else { return false };
    if AT_WORK.swap(true, Ordering::Acquire) {
        return false;
    }
    let region = Region { openmp, job, panic: Mutex::new(None) };
    // SAFETY: `enter` is given the region, which outlives the call: it returns when every thread has left.
    unsafe { (openmp.parallel)(enter, (&raw const region).cast_mut().cast(), threads as c_uint, 0) };
    AT_WORK.store(false, Ordering::Release);
    if let Ok(Some(panic)) = region.panic.into_inner() {
        std::panic::resume_unwind(panic);
    }
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::team::{Member, run, with_threads};

    /// Loads GNU's OpenMP as PyTorch does; false where there is none.
    fn load() -> bool {
        // SAFETY: a library of the system's compiler, which starts nothing when it is loaded.
        let library = unsafe { libc::dlopen(c"libgomp.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if library.is_null() {
            eprintln!("not tested: there is no libgomp.so.1 here");
            return false;
        }
        assert!(find_openmp());
        true
    }

    /// Names of the threads that take part in a run of so many members.
    fn members(wanted: usize) -> Vec<(usize, usize, Option<String>)> {
        let seen = Mutex::new(Vec::new());
        run(wanted, |member: &Member| {
            let name = std::thread::current().name().map(str::to_owned);
            seen.lock().unwrap().push((member.index, member.count, name));
            member.meet();
        });
        let mut seen = seen.into_inner().unwrap();
        seen.sort();
        seen
    }

    // One test, for the OpenMP that was found is the process's.
    #[test]
    fn members_are_threads_of_openmp_and_meet_and_a_panic_reaches_the_caller() {
        if !load() {
            return;
        }
        with_threads(3, || {
            with_openmp(|| {
                for wanted in [2, 3, 5] {
                    let seen = members(wanted);
                    assert_eq!(
                        seen.iter().map(|seen| seen.0).collect::<Vec<_>>(),
                        (0..wanted.min(3)).collect::<Vec<_>>()
                    );
                    assert!(seen.iter().all(|seen| seen.1 == wanted.min(3)));
                    let is_ours = |name: &Option<String>| name.as_ref().is_some_and(|name| name.starts_with("lstm-"));
                    assert!(!seen.iter().any(|(_, _, name)| is_ours(name)), "{seen:?}");
                }
                // A kernel within a kernel runs alone, and so does one that finds the threads at work.
                let (within, beside) = (AtomicUsize::new(0), AtomicUsize::new(0));
                run(3, |member| {
                    run(3, |inner| {
                        within.fetch_add(inner.count, Ordering::Relaxed);
                    });
                    if member.index == 0 {
                        assert!(!super::run(3, &|_, _| {}), "at work");
                        beside.fetch_add(1, Ordering::Relaxed);
                    }
                    member.meet();
                });
                assert_eq!((within.into_inner(), beside.into_inner()), (3, 1));
                for culprit in [0, 2] {
                    let result =
                        std::panic::catch_unwind(|| run(3, |member| assert!(member.index != culprit, "as planned")));
                    assert!(result.is_err());
                    assert_eq!(members(3).len(), 3, "the threads work on");
                }
            });
            assert!(!is_wanted());
        });
    }
}
