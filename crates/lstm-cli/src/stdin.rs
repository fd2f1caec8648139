//! A text from standard input. It is read more than once (for its vocabulary, for its ids, to go on with the run), so it is
//! written to a file: beside the run folder while there is none, then in it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use lstm::train::trainer::Trainer;

/// What was read, removed again if no run begins.
pub struct Spool {
    path: PathBuf,
}

impl Spool {
    /// Reads standard input to its end, for a run in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut name = folder.file_name().unwrap_or_default().to_owned();
        name.push(".stdin");
        let path = std::path::absolute(folder.with_file_name(name))?;
        let said = |error: std::io::Error| anyhow!("{}: {error}", path.display());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(said)?;
        }
        let mut file = File::create(&path).map_err(said)?;
        let spool = Self { path: path.clone() };
        let read = std::io::copy(&mut std::io::stdin().lock(), &mut file);
        let read =
            read.map_err(|error| anyhow!("standard input cannot be read or kept in {}: {error}", path.display()))?;
        if read == 0 {
            bail!("standard input is empty; there is nothing to read");
        }
        file.flush().map_err(said)?;
        Ok(spool)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it into the folder of the run that has begun.
    pub fn keep(self, trainer: &mut Trainer) -> Result<()> {
        trainer.keep_text(&self.path)?;
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // It has been moved, or no run has begun with it.
        let _ = std::fs::remove_file(&self.path);
    }
}
