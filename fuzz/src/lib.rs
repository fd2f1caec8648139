//! What the fuzz targets share: the readers take paths, so every input becomes a file, in memory where the system has a place for it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use lstm::formats::foreign;
use lstm::formats::import::Hints;

/// Gives `read` a file of these bytes with that name.
pub fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        tempfile::Builder::new().prefix("lstm-fuzz-").tempdir_in(parent).expect("a folder for inputs").keep()
    });
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("an input is written");
    read(&path);
}

/// Reads a file of another program, looks at it as `lstm show` does, and writes what was found as every format: an error is a sentence,
/// and what was read can be written or is refused.
pub fn foreign(name: &str, bytes: &[u8]) {
    with_file(name, bytes, |path| {
        let _ = foreign::read(path, Hints { is_look: true, ..Hints::default() });
        match foreign::read(path, Hints::default()) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(import) => {
                for stack in &import.network.stacks {
                    assert!(!stack.describe().is_empty());
                }
                let _ = import.network.into_language_model();
            }
        }
    });
}
