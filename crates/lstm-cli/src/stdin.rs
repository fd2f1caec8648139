//! A text from standard input. It is read more than once (for its vocabulary, for its ids, to go on with the run), so it is
//! written to a file: in the run folder where there is one.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use lstm::run::folder::Claim;

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
    Ok(())
}

/// A copy that is not kept.
pub struct Copy(pub PathBuf);

impl Copy {
    /// Where one of this process lies.
    pub fn place() -> PathBuf {
        std::env::temp_dir().join(format!("lstm-{}.stdin", std::process::id()))
    }

    /// Reads standard input to its end.
    pub fn read() -> Result<Self> {
        let path = Self::place();
        let file = File::create_new(&path);
        let mut file = file.map_err(|error| anyhow!("{} cannot be written: {error}", path.display()))?;
        let copy = Self(path);
        read(&mut file, &copy.0)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
