//! PyTorch's files: read as `torch.save` ever wrote them, written as `torch.load` takes them.

mod calls;
mod module;
mod write;

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use pytorch_reader::{DType, FileFormat, PytorchError, PytorchReader};

use super::FormatError;
use super::import::{Hints, Import};
use super::state_dict::{Array, Float, StateDict, find};

pub(crate) use module::write_module;
pub(crate) use write::write;

/// How many times a file's size its tensors may take: float16 doubles as float32, and a view over one storage may repeat
/// it; an `expand` can claim any size.
const GROWTH: u64 = 16;

/// What small files may claim beyond that.
const SLACK: u64 = 1 << 20;

/// Reads a `.pt`, `.pth` or another of PyTorch's files. Nothing in it is executed.
///
/// # Errors
/// As [`foreign::read`](crate::formats::foreign::read); a pickle that calls what is not data is refused by the name it calls.
pub(crate) fn read(path: &Path, hints: Hints) -> Result<Import, FormatError> {
    let trouble = |source| FormatError::Read { path: path.to_owned(), source };
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(trouble)?.len();
    // The pickle is gone through before the reader builds anything of it.
    let objects = look(path, size).map_err(unusable)?;
    let damaged = |why: String| unusable(format!("{why}: the file is truncated or damaged; fetch or save it again"));
    let reader = PytorchReader::new(path).map_err(|error| match error {
        PytorchError::InvalidFormat(why) if why.contains("dictionary at the root") => unusable(format!(
            "it holds no state dict ({why}); save one where it came from: torch.save(model.state_dict(), …)"
        )),
        error => damaged(error.to_string()),
    })?;
    let kind = match reader.metadata().format_type {
        FileFormat::Zip => "PyTorch, an archive of torch.save",
        FileFormat::Legacy => "PyTorch, a pickle as torch.save wrote before version 1.6",
        FileFormat::Tar => "PyTorch, an archive as torch.save wrote before version 0.1.10",
        FileFormat::Pickle => "a pickle",
    };
    let mut dict = StateDict::new();
    for (name, tensor) in reader.tensors() {
        let claimed = tensor.byte_len() as u64;
        if claimed > size.saturating_mul(GROWTH).saturating_add(SLACK) {
            return Err(unusable(format!(
                "{name} claims {claimed} bytes, in a file of {size}; save it without `expand`"
            )));
        }
        let float = match tensor.dtype() {
            DType::F64 => Some(Float::F64),
            DType::F32 => Some(Float::F32),
            DType::F16 => Some(Float::F16),
            DType::BF16 => Some(Float::Bf16),
            _ => None,
        };
        let shape = tensor.shape().to_vec();
        let read = move || match float {
            Some(float) => tensor.read().map(|bytes| float.values(&bytes)).map_err(|error| error.to_string()),
            None => Ok(Vec::new()),
        };
        dict.insert(name.clone(), Array { shape, float, read: Box::new(read) });
    }
    let mut import = find(path, kind.to_owned(), dict, hints)?;
    if !objects.is_empty() {
        import.left_over.push(format!("objects of {}, of which tensors alone are read", objects.join(", ")));
    }
    Ok(import)
}

/// The most bytes that a pickle may have, for each byte of its file and beyond: an archive may be compressed.
const PICKLE_GROWTH: u64 = 16;

/// Goes through a file's pickles and gives the classes whose objects they hold.
///
/// # Errors
/// A sentence on a call that is not data, or on a size that no file of its kind needs.
fn look(path: &Path, size: u64) -> Result<Vec<String>, String> {
    let said = |error: std::io::Error| format!("it cannot be read: {error}");
    let mut head = [0; 512];
    let mut file = File::open(path).map_err(said)?;
    let mut filled = 0;
    while filled < head.len() {
        match file.read(&mut head[filled..]).map_err(said)? {
            0 => break,
            read => filled += read,
        }
    }
    file.rewind().map_err(said)?;
    let mut calls = calls::Calls::new(size);
    if head.starts_with(b"PK") {
        let mut archive = zip::ZipArchive::new(BufReader::new(file))
            .map_err(|error| format!("{error}: the archive is truncated or damaged; fetch or save it again"))?;
        let damaged = |error: zip::result::ZipError| format!("{error}: the archive is damaged; fetch or save it again");
        let names: Vec<String> = archive
            .file_names()
            .map(|name| name.map(|name| name.to_string()))
            .collect::<Result<_, _>>()
            .map_err(damaged)?;
        let names = names.into_iter().filter(|name| name == "data.pkl" || name.ends_with("/data.pkl"));
        let name = names.min_by_key(String::len).ok_or_else(|| {
            "it is an archive without a data.pkl, so torch.save did not write it; of TorchScript or another program, save \
             the state dict: torch.save(model.state_dict(), …)"
                .to_owned()
        })?;
        let entry = archive.by_name(&name).map_err(damaged)?;
        if entry.size() > size.saturating_mul(PICKLE_GROWTH).saturating_add(SLACK) {
            return Err(format!("its {name} claims {} bytes, in a file of {size}", entry.size()));
        }
        calls.read(&mut BufReader::new(entry))?;
    } else if head[257..262] == *b"ustar" {
        // Entries of zeros that are not stored could be of any size.
        let mut archive = tar::Archive::new(BufReader::new(file));
        for entry in archive.entries().map_err(said)? {
            let entry = entry.map_err(|error| format!("{error}: the archive is damaged; fetch or save it again"))?;
            if entry.header().entry_type().is_gnu_sparse() || entry.size() > size {
                return Err(
                    "an entry of the archive is larger than the file; torch.save wrote no such archive".to_owned()
                );
            }
            if entry.path().is_ok_and(|path| path.file_name().is_some_and(|name| name == "pickle")) {
                calls.read(&mut BufReader::new(entry))?;
            }
        }
    } else {
        // Magic number, protocol, system, object and storage keys; a plain pickle is one.
        let mut reader = BufReader::new(file);
        let legacy = pytorch_legacy(&head);
        for _ in 0..if legacy { 5 } else { 1 } {
            calls.read(&mut reader)?;
        }
    }
    Ok(calls.into_objects())
}

/// Whether a file begins with the magic number of `torch.save` before version 1.6.
fn pytorch_legacy(head: &[u8]) -> bool {
    const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    let head = &head[..64];
    head.windows(MAGIC.len()).any(|bytes| bytes == MAGIC)
        || head.windows(24).any(|bytes| bytes == b"119547037146038801333356")
}
