//! Values of a file that the system maps into memory instead of reading them: the one place of this crate with unsafe code.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::{fmt, io};

use memmap2::Mmap;

/// Single-precision values in a file, as they lie there. Pages are read when they are first met, and shared by all processes that map the
/// file.
///
/// A file that is made shorter while it is mapped ends the process with SIGBUS at the first value that is gone, and one that is written
/// over changes the values. Files of this program are never changed in place: they are replaced under their names, and a map keeps the old
/// one. What is left is another program that copies over the file in place (`cp new.safetensors model.safetensors`) while a command of a
/// few seconds reads it, which `torch.load(mmap=True)` and every linker take into account the same way. A process that lives for long
/// copies the values instead ([`Params::detach`](crate::nn::params::Params::detach)), and whatever writes parameters has them in memory of
/// its own anyway.
#[derive(Clone)]
pub(crate) struct Mapped {
    map: Arc<Mmap>,
    /// The bytes of the values, from a multiple of four on.
    bytes: Range<usize>,
}

impl Mapped {
    /// The values of `file` behind its first `before` bytes, to its end at `length`. `None` where they cannot be mapped: the file lies
    /// where there are no maps, or the values are not aligned in it.
    pub(crate) fn open(file: &File, before: usize, length: usize) -> io::Result<Option<Self>> {
        if !before.is_multiple_of(align_of::<f32>()) || !(length - before).is_multiple_of(size_of::<f32>()) {
            return Ok(None);
        }
        // SAFETY: only values are read of it, and every four bytes are one, so that a file that is written over meanwhile gives other
        // numbers and nothing worse; one that is cut off ends the process, as said above.
        let Ok(map) = (unsafe { Mmap::map(file) }) else { return Ok(None) };
        // It may have become shorter since its length was asked for.
        let fits = map.len() >= length;
        Ok(fits.then(|| Self { map: Arc::new(map), bytes: before..length }))
    }
}

impl Deref for Mapped {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.map[self.bytes.clone()])
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self[..].fmt(f)
    }
}
