//! The file operations by which a run changes: all of them, one by one, so that a test can stop the program at each.
//!
//! The environment variable `LSTM_TEST_FAULT` is for such tests. `kill:N` ends the process at its N-th operation as a kill
//! does: nothing is tidied up, and what was being written is half written. `full:N` refuses this operation and every later
//! one that takes space, as a full disk does. Without the variable nothing is counted; any other value is refused, so that
//! nobody sets it and does not notice.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const FAULT: &str = "LSTM_TEST_FAULT";

/// The exit code of a process that was killed.
const KILLED: i32 = 137;

/// What a test asked for, with the number of the operation, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill(u64),
    Full(u64),
}

fn parse(value: &str) -> Result<Fault, String> {
    let (kind, number) = value.split_once(':').unwrap_or((value, ""));
    match (kind, number.parse()) {
        ("kill", Ok(number)) => Ok(Fault::Kill(number)),
        ("full", Ok(number)) => Ok(Fault::Full(number)),
        _ => Err(format!("{FAULT} is `{value}`; it is for tests, which set kill:N or full:N; unset it")),
    }
}

/// Counts an operation, and gives whether the process is to end in it.
fn count(takes_space: bool) -> io::Result<bool> {
    static ASKED: OnceLock<Option<Result<Fault, String>>> = OnceLock::new();
    static COUNTED: AtomicU64 = AtomicU64::new(0);
    let asked = ASKED.get_or_init(|| std::env::var(FAULT).ok().map(|value| parse(&value)));
    let Some(fault) = asked else { return Ok(false) };
    let number = COUNTED.fetch_add(1, Ordering::Relaxed) + 1;
    match fault {
        Ok(Fault::Kill(at)) => Ok(number == *at),
        Ok(Fault::Full(at)) if takes_space && number >= *at => Err(io::ErrorKind::StorageFull.into()),
        Ok(Fault::Full(_)) => Ok(false),
        Err(why) => Err(io::Error::other(why.clone())),
    }
}

/// One that takes no space or that nothing can be half of.
fn whole(takes_space: bool) -> io::Result<()> {
    if count(takes_space)? {
        std::process::exit(KILLED);
    }
    Ok(())
}

/// Writes at the end of an open file.
pub(crate) fn append(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    if count(true)? {
        let _ = file.write_all(&bytes[..bytes.len() / 2]);
        std::process::exit(KILLED);
    }
    file.write_all(bytes)
}

/// Makes what was written last.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    whole(false)?;
    file.sync_all()
}

/// Makes a file with these bytes, or empties one, and makes it last.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    append(&mut file, bytes)?;
    sync(&file)
}

/// Makes an empty file.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    whole(true)?;
    File::create(path)
}

/// Makes an empty file where none is.
pub(crate) fn create_new(path: &Path) -> io::Result<()> {
    whole(true)?;
    File::create_new(path).map(drop)
}

/// Cuts off what a file has behind its first `length` bytes.
pub(crate) fn shorten(path: &Path, length: u64) -> io::Result<()> {
    whole(false)?;
    File::options().write(true).open(path)?.set_len(length)
}

/// Opens a file to write at its end, and makes it where it is missing.
pub(crate) fn open_end(path: &Path) -> io::Result<File> {
    whole(true)?;
    File::options().create(true).append(true).open(path)
}

/// Gives a file or folder another name, in place of what had it.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    whole(false)?;
    fs::rename(from, to)
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    whole(false)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes a folder in one that is there; one that is already there is an error.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    whole(true)?;
    fs::create_dir(path)
}

/// Removes an empty folder.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    whole(false)?;
    fs::remove_dir(path)
}

/// Makes names in a folder last: on Unix they are what it holds.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    whole(false)?;
    if cfg!(unix) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_asked_for_by_its_number_and_nothing_else_is_taken() {
        assert_eq!(parse("kill:17"), Ok(Fault::Kill(17)));
        assert_eq!(parse("full:1"), Ok(Fault::Full(1)));
        for value in ["", "1", "kill", "kill:", "kill:-1", "full:x", "Kill:1"] {
            assert!(parse(value).unwrap_err().contains("unset it"), "{value}");
        }
    }
}
