//! The folder of a run, from its first byte to its replacement: its files, who may write them, and how several take their
//! places as one.
//!
//! A process that writes holds a [`Claim`]: a lock that the system gives back when the process ends, however it ends. Single files
//! change under temporary names. What has to change together waits in the folder `pending`, whose name is given in one step: whatever stops
//! the process before it, the old files are all there; after it, whoever opens the run next brings the rest about.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::formats::{FormatError, Partial, disk, is_partial};

const CONFIG: &str = "config.toml";
const TOKENIZER: &str = "tokenizer.json";
const MODEL: &str = "model.safetensors";
const CHECKPOINT: &str = "checkpoint.safetensors";
const METRICS: &str = "metrics.jsonl";
const TEXT: &str = "text.txt";
const ADAPTATION: &str = "adaptation.toml";
const REPORT: &str = "report.html";

/// Every file that a run can have.
const FILES: [&str; 8] = [CONFIG, TOKENIZER, MODEL, CHECKPOINT, METRICS, TEXT, ADAPTATION, REPORT];

/// What the name of a checkpoint that is kept beside the latest begins and ends with; between them is the step that it is of.
const KEPT: [&str; 2] = ["checkpoint-", ".safetensors"];

/// The folder of the other members of a run, each a run in a folder of its number.
const MEMBERS: &str = "members";

/// The lock, which names who holds it.
const LOCK: &str = "run.lock";

/// The folder of files that are to take their places together, and the list in it of those to be removed.
const PENDING: &str = "pending";
const REMOVED: &str = "removed";

/// The files of a run folder.
#[derive(Clone, Debug)]
pub struct RunFolder(pub PathBuf);

impl RunFolder {
    /// `config.toml`: everything resolved.
    pub fn config(&self) -> PathBuf {
        self.0.join(CONFIG)
    }

    /// `tokenizer.json`.
    pub fn tokenizer(&self) -> PathBuf {
        self.0.join(TOKENIZER)
    }

    /// `model.safetensors`: the best model.
    pub fn model(&self) -> PathBuf {
        self.0.join(MODEL)
    }

    /// `checkpoint.safetensors`: the latest state of training.
    pub fn checkpoint(&self) -> PathBuf {
        self.0.join(CHECKPOINT)
    }

    /// `checkpoint-STEP.safetensors`: the state of training after a step, kept beside the latest.
    pub(crate) fn kept_checkpoint(&self, step: u64) -> PathBuf {
        let [begin, end] = KEPT;
        self.0.join(format!("{begin}{step}{end}"))
    }

    /// The steps whose checkpoints are kept, in order.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn kept_steps(&self) -> Result<Vec<u64>, FormatError> {
        let entries = fs::read_dir(&self.0).map_err(|source| FormatError::Read { path: self.0.clone(), source })?;
        let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        let mut steps: Vec<u64> = names.filter_map(|name| kept_step(&name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Removes the checkpoint that is kept of a step.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(crate) fn remove_kept(&self, step: u64) -> Result<(), FormatError> {
        let path = self.kept_checkpoint(step);
        disk::remove(&path).map_err(|source| FormatError::Write { path, source })
    }

    /// `metrics.jsonl`: a line every 100 steps and every validation.
    pub fn metrics(&self) -> PathBuf {
        self.0.join(METRICS)
    }

    /// `text.txt`: the text of a run that read it from standard input.
    pub fn text(&self) -> PathBuf {
        self.0.join(TEXT)
    }

    /// `text.txt`, wherever the command is that reads it.
    ///
    /// # Errors
    /// A current folder that is gone.
    pub(crate) fn own_text(&self) -> Result<PathBuf, FormatError> {
        let text = self.text();
        std::path::absolute(&text).map_err(|source| FormatError::Read { path: text, source })
    }

    /// Where data lie, as `config.toml` has it: those that the run keeps itself by their name alone, for it can be moved with them.
    pub(crate) fn stored(&self, data: Option<&Path>) -> Option<PathBuf> {
        let own = self.own_text().ok();
        data.map(|data| if own.as_deref() == Some(data) { PathBuf::from(TEXT) } else { data.to_owned() })
    }

    /// The same the other way round.
    ///
    /// # Errors
    /// A current folder that is gone.
    pub(crate) fn located(&self, data: Option<PathBuf>) -> Result<Option<PathBuf>, FormatError> {
        match data {
            Some(data) if data == Path::new(TEXT) => self.own_text().map(Some),
            data => Ok(data),
        }
    }

    /// `report.html`: what the run is and how it went, as a page.
    pub fn report(&self) -> PathBuf {
        self.0.join(REPORT)
    }

    /// `adaptation.toml`: the settings that were tuned for adaptation.
    pub fn adaptation(&self) -> PathBuf {
        self.0.join(ADAPTATION)
    }

    /// The folder of a member of the run; the first is the run itself.
    pub fn member(&self, number: usize) -> Self {
        if number == 1 { self.clone() } else { Self(self.0.join(MEMBERS).join(number.to_string())) }
    }

    /// The members beside the first that have a folder, in order.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn other_members(&self) -> Result<Vec<Self>, FormatError> {
        let around = self.0.join(MEMBERS);
        let entries = match fs::read_dir(&around) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| FormatError::Read { path: around, source })?,
        };
        let number =
            |name: String| name.parse().ok().filter(|number: &usize| *number > 1 && number.to_string() == name);
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut numbers: Vec<usize> = names.filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers.into_iter().map(|number| self.member(number)).filter(|member| member.0.is_dir()).collect())
    }

    /// Removes the members beside the first, of each what a run has. What else somebody put there stays.
    fn remove_members(&self) -> io::Result<()> {
        let members = self.other_members().map_err(io::Error::other)?;
        // The last one first: whatever stops this, none is left without those before it.
        for member in members.iter().rev() {
            member.tidy()?;
            for entry in fs::read_dir(&member.0)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if FILES.contains(&name.as_str()) || kept_step(&name).is_some() || name == LOCK {
                    disk::remove(&entry.path())?;
                }
            }
            remove_if_empty(&member.0)?;
        }
        remove_if_empty(&self.0.join(MEMBERS))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A run to be read: what was left for the next one to bring about is brought about.
    ///
    /// # Errors
    /// A folder that is no run.
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
        let folder = Self(path.to_owned());
        // A process that is at it needs a moment.
        for _ in 0..100 {
            if !folder.is_pending() {
                break;
            }
            match folder.lock().map_err(|source| folder.trouble(source))? {
                Lock::Held(lock) => {
                    let _claim = Claim { folder: folder.clone(), made: Vec::new(), spool: None, lock };
                    folder.finish_pending().map_err(|source| folder.trouble(source))?;
                }
                Lock::Busy(_) | Lock::Gone => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        folder.check_is_run()?;
        Ok(folder)
    }

    /// Refuses what is no run.
    fn check_is_run(&self) -> Result<(), FormatError> {
        if self.is_run() {
            return Ok(());
        }
        let why = if self.foreign().is_ok_and(|found| found.is_none()) && self.0.join(LOCK).exists() {
            "is the folder of a run that was stopped before it began, or is just about to; begin it by the same `lstm train` again"
        } else {
            "is not a run folder: it has no config.toml; give the folder that `lstm train` made"
        };
        Err(self.unusable(why))
    }

    fn unusable(&self, why: &str) -> FormatError {
        FormatError::Conflict { path: self.0.clone(), why: why.to_owned() }
    }

    fn trouble(&self, source: io::Error) -> FormatError {
        FormatError::Write { path: self.0.clone(), source }
    }

    /// Whether there is a run, be it that its files have yet to take their places.
    fn is_run(&self) -> bool {
        self.config().exists() || self.is_pending()
    }

    fn is_pending(&self) -> bool {
        self.0.join(PENDING).is_dir()
    }

    /// Something in the folder that is neither a run's nor left by one that never began.
    fn foreign(&self) -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if entry.file_name() != LOCK && !is_leftover(&entry.file_name().to_string_lossy()) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }

    /// Removes what stopped processes left under temporary names. Only who holds the lock may.
    fn tidy(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if !is_leftover(&entry.file_name().to_string_lossy()) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                for inner in fs::read_dir(entry.path())? {
                    disk::remove(&inner?.path())?;
                }
                disk::remove_folder(&entry.path())?;
            } else {
                disk::remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Puts the files that wait in their places and removes those that they replace. It can be stopped anywhere and done again.
    /// Only who holds the lock may.
    fn finish_pending(&self) -> io::Result<()> {
        let pending = self.0.join(PENDING);
        if !pending.is_dir() {
            return Ok(());
        }
        let removed = fs::read_to_string(pending.join(REMOVED)).unwrap_or_default();
        if removed.lines().any(|name| name == MEMBERS) {
            self.remove_members()?;
        }
        for name in removed.lines().filter(|name| FILES.contains(name) || kept_step(name).is_some()) {
            disk::remove(&self.0.join(name))?;
        }
        for name in FILES {
            if pending.join(name).exists() {
                disk::rename(&pending.join(name), &self.0.join(name))?;
            }
        }
        disk::sync_folder(&self.0)?;
        disk::remove(&pending.join(REMOVED))?;
        disk::remove_folder(&pending)
    }

    /// Takes the lock, if nobody has it.
    fn lock(&self) -> io::Result<Lock> {
        let path = self.0.join(LOCK);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::Gone),
            opened => opened?,
        };
        let is_locked = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                return Ok(Lock::Busy(fs::read_to_string(&path).unwrap_or_default().trim().to_owned()));
            }
            // There are file systems without locks, and a run on one is better than none.
            Err(TryLockError::Error(_)) => false,
        };
        if !is_the_same(&file, &path) {
            // Who had it before removed it.
            return Ok(Lock::Gone);
        }
        // It says more than it needs to: without space for it there is a lock all the same.
        let _ =
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(me().as_bytes()));
        Ok(Lock::Held(is_locked.then_some(file)))
    }
}

/// The answer to a request for the lock.
enum Lock {
    /// It is this process's until the file is closed; on a file system without locks nobody's.
    Held(Option<File>),
    /// Another process has it: who.
    Busy(String),
    /// It, or the folder, was removed at this moment.
    Gone,
}

/// Whether a name is one that a process leaves that was stopped.
fn is_leftover(name: &str) -> bool {
    let of_kept = name.match_indices(KEPT[1]).any(|(at, end)| {
        let of = &name[..at + end.len()];
        kept_step(of).is_some() && is_partial(name, of)
    });
    of_kept || FILES.iter().chain([&PENDING]).any(|of| is_partial(name, of))
}

/// Removes a folder, if there is one and nothing in it.
fn remove_if_empty(folder: &Path) -> io::Result<()> {
    let is_empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if is_empty { disk::remove_folder(folder) } else { Ok(()) }
}

/// The step that a checkpoint of this name is kept of.
fn kept_step(name: &str) -> Option<u64> {
    let number = name.strip_prefix(KEPT[0])?.strip_suffix(KEPT[1])?;
    // As it was written: no sign, no zeros in front.
    number.parse().ok().filter(|step: &u64| step.to_string() == number)
}

/// Whether the open file is still what has this name.
fn is_the_same(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let [open, named] = [file.metadata(), fs::metadata(path)];
        matches!((open, named), (Ok(open), Ok(named)) if (open.dev(), open.ino()) == (named.dev(), named.ino()))
    }
    #[cfg(not(unix))]
    {
        // A file that is open is not removed there.
        let _ = file;
        path.exists()
    }
}

/// The holder of the lock, as the lock says.
fn me() -> String {
    let host = sysinfo::System::host_name().unwrap_or("an unnamed machine".to_owned());
    format!("process {} on {host} since {}\n", std::process::id(), utc(SystemTime::now()))
}

/// A time as people read it.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let [hour, minute, second] = [second / 3600, second / 60 % 60, second % 60];
    format!("{year}-{:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", month + 1, days + 1)
}

/// A run folder that this process alone writes, until the claim is dropped. If no run has begun by then, a folder that was made for it is
/// removed again.
#[derive(Debug)]
pub struct Claim {
    folder: RunFolder,
    /// The folders made for it, the outermost first.
    made: Vec<PathBuf>,
    /// Where a text that is read from standard input is written before the run begins.
    spool: Option<Partial>,
    lock: Option<File>,
}

/// The fate of a run that has the folder of a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new run is refused.
    Refuse,
    /// The new run replaces it.
    Replace,
}

impl Claim {
    /// A folder for a new run: one that is not there or empty, or that of another run that is to be replaced, which stays whole until the new one
    /// [begins](crate::train::trainer::Trainer::begin).
    ///
    /// # Errors
    /// A folder that cannot be used, or that another process writes.
    pub fn new(path: &Path, existing: Existing) -> Result<Self, FormatError> {
        let folder = RunFolder(path.to_owned());
        let refusal = || {
            folder.unusable(
                "exists already; choose another folder by `out`, replace it by `force`, or go on with it by `resume`",
            )
        };
        for _ in 0..100 {
            let made = folder.make()?;
            if folder.is_run() && existing == Existing::Refuse {
                return Err(refusal());
            }
            // No lock is left in a folder of other things.
            let foreign = folder.foreign();
            if !folder.is_run() && foreign.is_ok_and(|found| found.is_some()) {
                return Err(folder.unusable("exists and is not a run folder; choose another `out`"));
            }
            let Some(claim) = folder.take(made)? else { continue };
            // One may have begun just before.
            if folder.is_run() && existing == Existing::Refuse {
                return Err(refusal());
            }
            // Its members are replaced with it, so none may be another process's. What is claimed is given back at once.
            for member in folder.other_members()? {
                member.take(Vec::new())?;
            }
            return Ok(claim);
        }
        Err(folder.unusable("is made and removed again by other processes all the time; choose another `out`"))
    }

    /// The first of `NAME`, `NAME-2`, … that is free: not there, or left by a run that never began.
    ///
    /// # Errors
    /// A place that cannot be written.
    pub fn first_free(path: &Path) -> Result<Self, FormatError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut number = 1;
        loop {
            let candidate = if number == 1 { path.to_owned() } else { path.with_file_name(format!("{name}-{number}")) };
            match Self::new(&candidate, Existing::Refuse) {
                // Whatever is there has the name; what is not there could not be made.
                Err(FormatError::Conflict { .. }) if candidate.exists() => number += 1,
                claimed => return claimed,
            }
        }
    }

    /// A run to go on with.
    ///
    /// # Errors
    /// A folder that is no run, or that another process writes.
    pub fn existing(path: &Path) -> Result<Self, FormatError> {
        let folder = RunFolder(path.to_owned());
        for _ in 0..100 {
            folder.check_is_run()?;
            if let Some(claim) = folder.take(Vec::new())? {
                return Ok(claim);
            }
        }
        Err(folder.unusable("is made and removed again by other processes all the time"))
    }

    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Whether other processes are kept from writing it: some file systems have no locks.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Begins the file of a text that is read from standard input; it becomes the run's `text.txt` when that begins.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn spool(&mut self) -> Result<Spool, FormatError> {
        let partial = Partial::beside(&self.folder.text());
        let path = partial.0.clone();
        self.spool = Some(partial);
        let file = disk::create(&path).map_err(|source| FormatError::Write { path: path.clone(), source })?;
        Ok(Spool { path, file })
    }

    /// The temporary name of the text from standard input, if there is one.
    pub(crate) fn spooled(&self) -> Option<&Path> {
        self.spool.as_ref().map(|partial| partial.0.as_path())
    }

    /// The files to remove if the process is stopped before the run begins.
    pub fn leftovers(&self) -> Leftovers {
        Leftovers { folder: self.folder.clone(), made: self.made.clone() }
    }

    /// Files that are to take their places together.
    pub(crate) fn pending(&self) -> Result<Pending<'_>, FormatError> {
        let partial = Partial::beside(&self.folder.0.join(PENDING));
        disk::create_folder(&partial.0).map_err(|source| self.folder.trouble(source))?;
        let kept = self.folder.kept_steps()?;
        let kept = kept.into_iter().map(|step| self.folder.kept_checkpoint(step));
        let kept = kept.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let members = self.folder.0.join(MEMBERS).exists().then(|| MEMBERS.to_owned());
        let removed = FILES.map(str::to_owned).into_iter().chain(kept).chain(members).collect();
        Ok(Pending { folder: &self.folder, partial, removed })
    }
}

impl RunFolder {
    /// Makes the folder and those around it that are missing, and gives them.
    fn make(&self) -> Result<Vec<PathBuf>, FormatError> {
        let path = self.path();
        let mut made = Vec::new();
        let missing: Vec<&Path> =
            path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
        for folder in missing.into_iter().rev() {
            match disk::create_folder(folder) {
                Ok(()) => made.push(folder.to_owned()),
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    made.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
                    return Err(self.trouble(error));
                }
            }
        }
        if path.is_file() {
            return Err(self.unusable("is a file, not a folder; choose another `out`"));
        }
        if let (Some(outermost), false) = (made.first(), made.is_empty()) {
            let around = outermost.parent().unwrap_or(Path::new(""));
            disk::sync_folder(around).map_err(|source| self.trouble(source))?;
        }
        Ok(made)
    }

    /// Takes the lock, brings about what was left to be, and tidies up. `None` where the folder vanished at this moment.
    fn take(&self, made: Vec<PathBuf>) -> Result<Option<Claim>, FormatError> {
        match self.lock().map_err(|source| self.trouble(source))? {
            Lock::Gone => Ok(None),
            Lock::Busy(who) => {
                let who = if who.is_empty() { "another process" } else { &who };
                Err(self.unusable(&format!(
                    "is being written by {who}; wait for it to end or stop it, or use another folder"
                )))
            }
            Lock::Held(lock) => {
                let claim = Claim { folder: self.clone(), made, spool: None, lock };
                self.finish_pending().and_then(|()| self.tidy()).map_err(|source| self.trouble(source))?;
                Ok(Some(claim))
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.leftovers().remove();
    }
}

/// The files that a claim leaves if the process ends before the run begins.
#[derive(Clone, Debug)]
pub struct Leftovers {
    folder: RunFolder,
    made: Vec<PathBuf>,
}

impl Leftovers {
    /// Removes it, as far as it can be; what stays is no obstacle.
    pub fn remove(&self) {
        let _ = self.folder.tidy();
        let _ = disk::remove(&self.folder.0.join(LOCK));
        if !self.folder.is_run() {
            self.made.iter().rev().for_each(|folder| drop(disk::remove_folder(folder)));
        }
    }
}

/// The file of a text that is read from standard input.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: File,
}

impl Spool {
    /// Where it lies until the run begins.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        disk::append(&mut self.file, bytes)?;
        Ok(bytes.len())
    }

    /// Makes what was written last.
    fn flush(&mut self) -> io::Result<()> {
        disk::sync(&self.file)
    }
}

/// Files written in full, to take their places together: all of them or none.
#[derive(Debug)]
pub struct Pending<'a> {
    folder: &'a RunFolder,
    partial: Partial,
    removed: Vec<String>,
}

impl Pending<'_> {
    /// Writes a file that shall become `path`, which is one of the folder's.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn add(&mut self, path: &Path, bytes: &[u8]) -> Result<(), FormatError> {
        let place = self.place(path);
        disk::write(&place, bytes).map_err(|source| FormatError::Write { path: path.to_owned(), source })
    }

    /// Takes a file that is written, and made to last, under another name.
    pub(crate) fn adopt(&mut self, path: &Path, from: &Path) -> Result<(), FormatError> {
        let place = self.place(path);
        disk::rename(from, &place).map_err(|source| FormatError::Write { path: path.to_owned(), source })
    }

    /// Takes what was read from standard input as the run's `text.txt`; or leaves that of the run that is replaced, if `data` of this one lie
    /// there too.
    pub(crate) fn add_text(&mut self, claim: &Claim, data: [Option<&Path>; 3]) -> Result<(), FormatError> {
        let folder = claim.folder();
        if let Some(spooled) = claim.spooled() {
            return self.adopt(&folder.text(), spooled);
        }
        let own = folder.own_text().ok();
        if own.is_some() && data.contains(&own.as_deref()) {
            self.keep(&folder.text());
        }
        Ok(())
    }

    /// Leaves a file where it is that would be removed.
    pub(crate) fn keep(&mut self, path: &Path) {
        self.removed.retain(|name| self.folder.0.join(name) != path);
    }

    /// Leaves all where they are that are not replaced.
    pub(crate) fn keep_others(&mut self) {
        self.removed.clear();
    }

    fn place(&mut self, path: &Path) -> PathBuf {
        self.keep(path);
        self.partial.0.join(path.file_name().unwrap_or_default())
    }

    /// Puts the files in their places and removes those of the run before that are neither among them nor kept.
    pub(crate) fn publish(self) -> Result<(), FormatError> {
        let published = || {
            if !self.removed.is_empty() {
                disk::write(&self.partial.0.join(REMOVED), self.removed.join("\n").as_bytes())?;
            }
            disk::sync_folder(&self.partial.0)?;
            disk::rename(&self.partial.0, &self.folder.0.join(PENDING))?;
            disk::sync_folder(&self.folder.0)?;
            self.folder.finish_pending()
        };
        published().map_err(|source| self.folder.trouble(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    /// A run of two files in a folder, as far as these tests look.
    fn run() -> (tempfile::TempDir, RunFolder) {
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder(parent.path().join("run"));
        fs::create_dir(&folder.0).unwrap();
        fs::write(folder.config(), "old").unwrap();
        fs::write(folder.model(), "old").unwrap();
        (parent, folder)
    }

    #[test]
    fn a_time_is_written_as_in_the_calendar() {
        let after = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(after(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(after(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(after(1_795_948_609), "2026-11-29 10:36:49 UTC");
    }

    #[test]
    fn files_take_their_places_together_or_not_at_all() {
        let (_parent, folder) = run();
        let claim = Claim::new(&folder.0, Existing::Replace).unwrap();
        let mut pending = claim.pending().unwrap();
        pending.add(&folder.config(), b"new").unwrap();
        assert_eq!((text(&folder.config()), text(&folder.model())), ("old".into(), "old".into()));
        drop(pending);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 3, "the two and the lock");
        let mut pending = claim.pending().unwrap();
        pending.add(&folder.config(), b"new").unwrap();
        pending.publish().unwrap();
        assert_eq!(text(&folder.config()), "new");
        assert!(!folder.model().exists() && !folder.is_pending());
        let mut pending = claim.pending().unwrap();
        pending.add(&folder.checkpoint(), b"newer").unwrap();
        pending.keep_others();
        pending.publish().unwrap();
        assert_eq!((text(&folder.config()), text(&folder.checkpoint())), ("new".into(), "newer".into()));
        drop(claim);
        assert!(!folder.0.join(LOCK).exists());
    }

    #[test]
    fn what_waits_for_its_place_is_put_there_by_whoever_comes_next() {
        let (_parent, folder) = run();
        let pending = folder.0.join(PENDING);
        fs::create_dir(&pending).unwrap();
        fs::write(pending.join(CONFIG), "new").unwrap();
        fs::write(pending.join(REMOVED), format!("{MODEL}\n../run\n{LOCK}")).unwrap();
        assert_eq!(text(&RunFolder::open(&folder.0).unwrap().config()), "new");
        assert!(!folder.model().exists() && !pending.exists());
    }

    #[test]
    fn a_folder_is_one_process_s_and_what_others_left_in_it_is_no_obstacle() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("runs").join("run");
        let claim = Claim::new(&path, Existing::Refuse).unwrap();
        let said = Claim::new(&path, Existing::Refuse).unwrap_err().to_string();
        assert!(said.contains(&format!("process {} on ", std::process::id())) && said.contains(" since 20"), "{said}");
        let second = Claim::first_free(&path).unwrap();
        assert_eq!(second.folder().path(), path.with_file_name("run-2"));
        drop((second, claim));
        assert!(!parent.path().join("runs").exists(), "what no run began in is removed");
        // As old and new programs leave it that were killed.
        fs::create_dir_all(path.join("pending.12-0.partial")).unwrap();
        for name in
            ["config.toml.partial", "config.toml.12-0.partial", "text.txt.12-1.partial", "pending.12-0.partial/x", LOCK]
        {
            fs::write(path.join(name), "half").unwrap();
        }
        assert!(Claim::existing(&path).unwrap_err().to_string().contains("before it began"));
        let claim = Claim::first_free(&path).unwrap();
        assert_eq!(claim.folder().path(), path);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "the lock");
        drop(claim);
        fs::write(path.join("notes.partial"), "a person's own").unwrap();
        assert!(Claim::new(&path, Existing::Replace).unwrap_err().to_string().contains("not a run folder"));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "nothing is added to a folder of other things");
    }
}
