//! Signals that end a program from outside: Ctrl-C, a scheduler's or a container's end, a closed terminal. Before a run begins nothing is kept and
//! what was begun is tidied up; a run that has begun saves first. Whoever asks twice does not wait for that.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;

/// What to do when a signal comes.
enum Then {
    /// Tidy up and end.
    End(Box<dyn FnOnce() + Send>),
    /// Have the run stop and save; end if it was asked to already.
    Stop,
}

/// The signals of this process.
pub struct Signals {
    then: Arc<Mutex<Then>>,
    /// Set when a run is to stop.
    pub stop: Arc<AtomicBool>,
    signal: Arc<AtomicI32>,
}

impl Signals {
    /// Watches them from now on; one that comes ends the program.
    pub fn watch() -> Result<Self> {
        let then = Arc::new(Mutex::new(Then::End(Box::new(|| ()))));
        let stop = Arc::new(AtomicBool::new(false));
        let signal = Arc::new(AtomicI32::new(SIGINT));
        let (on, flag, which) = (then.clone(), stop.clone(), signal.clone());
        listen(move |signal| {
            let mut on = on.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match &mut *on {
                Then::End(tidy) => {
                    std::mem::replace(tidy, Box::new(|| ()))();
                    std::process::exit(code(signal).into());
                }
                Then::Stop => {
                    which.store(signal, Ordering::Relaxed);
                    if flag.swap(true, Ordering::Relaxed) {
                        std::process::exit(code(signal).into());
                    }
                }
            }
        })?;
        Ok(Self { then, stop, signal })
    }

    /// Until [`begin`](Self::begin), a signal tidies up by `tidy`.
    pub fn tidy(&self, tidy: impl FnOnce() + Send + 'static) {
        *self.then.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Then::End(Box::new(tidy));
    }

    /// From here on a signal sets [`stop`](Self::stop).
    pub fn begin(&self) {
        *self.then.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Then::Stop;
    }

    /// The exit code of a program that a signal ended: 130 after Ctrl-C, 143 when it was asked to terminate, 129 when its terminal closed.
    pub fn exit_code(&self) -> u8 {
        code(self.signal.load(Ordering::Relaxed))
    }
}

const SIGINT: i32 = 2;

/// 128 and the signal, as shells have it.
fn code(signal: i32) -> u8 {
    128u8.saturating_add(signal.clamp(0, 127) as u8)
}

/// Hands every signal that asks this process to end to `then`, in a thread of its own.
#[cfg(unix)]
fn listen(mut then: impl FnMut(i32) + Send + 'static) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGTERM};
    let mut watched = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        watched.push(SIGHUP);
    }
    let mut signals = signal_hook::iterator::Signals::new(watched)?;
    std::thread::spawn(move || signals.forever().for_each(&mut then));
    Ok(())
}

/// Whether the program was started with this signal ignored, as `nohup` does with that of a closed terminal.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// Elsewhere there is Ctrl-C alone.
#[cfg(not(unix))]
fn listen(mut then: impl FnMut(i32) + Send + 'static) -> Result<()> {
    Ok(ctrlc::set_handler(move || then(SIGINT))?)
}
