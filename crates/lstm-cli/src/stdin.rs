//! A text from standard input. It is read more than once (for its vocabulary, for its ids, to go on with the run), so it is
//! written to a file: in the run folder where there is one.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow, bail};
use lstm::run::folder::Claim;

/// The file that standard input is read into, for a sentence about it.
static COPY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// A sentence in which the copy is called what it is of.
pub fn named(sentence: &str) -> String {
    let copy = COPY.lock().unwrap_or_else(PoisonError::into_inner);
    copy.as_ref().map_or(sentence.to_owned(), |copy| sentence.replace(&copy.display().to_string(), "standard input"))
}

/// Reads standard input to its end into the folder of a run that is about to begin; gives where it lies.
pub fn spool(claim: &mut Claim) -> Result<PathBuf> {
    let mut spool = claim.spool()?;
    let path = spool.path().to_owned();
    read(&mut spool, &path)?;
    Ok(path)
}

fn read(to: &mut impl Write, path: &Path) -> Result<()> {
    let read = std::io::copy(&mut std::io::stdin().lock(), to).and_then(|read| to.flush().map(|()| read));
    let read = read.map_err(|error| anyhow!("standard input cannot be read or kept in {}: {error}", path.display()))?;
    if read == 0 {
        bail!("standard input is empty; there is nothing to read");
    }
    *COPY.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.to_owned());
    Ok(())
}

/// A copy that is not kept.
pub struct Copy(pub PathBuf);

impl Copy {
    /// An empty one under a name that nobody has. The number of a process may be that of one in another container with the same
    /// temporary folder, or of one that was killed.
    pub fn create() -> Result<Self> {
        const MOST: usize = 10_000;
        let process = std::process::id();
        for number in 1..=MOST {
            let number = if number == 1 { String::new() } else { format!("-{number}") };
            let path = std::env::temp_dir().join(format!("lstm-{process}{number}.stdin"));
            match File::create_new(&path) {
                Ok(_) => return Ok(Self(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => bail!("{} cannot be written: {error}", path.display()),
            }
        }
        bail!("{} is full of copies of standard input; remove them", std::env::temp_dir().display())
    }

    /// Reads standard input to its end.
    pub fn fill(&self) -> Result<()> {
        let file = File::options().write(true).open(&self.0);
        read(&mut file.map_err(|error| anyhow!("{} cannot be written: {error}", self.0.display()))?, &self.0)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
