//! Writes what `torch.load` takes, also with `weights_only=True` and `mmap=True`: an archive of a pickle and of storages
//! that are not compressed and begin at multiples of 64 bytes.
//!
//! The pickle is a dictionary of `torch._utils._rebuild_tensor_v2` calls, as `torch.save` writes it, in a fixed order and
//! without a time: the same network is always the same bytes.

use std::io::{Cursor, Write as _};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::network::Network;
use super::super::state_dict::{Named, named};
use super::super::{FormatError, write_bytes};

/// Where a storage begins, as PyTorch's own files have it.
const ALIGNMENT: u16 = 64;

/// Writes the state dict of a network. has_module: whether a Python file beside it says what its layers alone do not.
///
/// # Errors
/// A network that `nn.LSTM` cannot compute, by what it has; a folder that cannot be written.
pub(crate) fn write(path: &Path, network: &Network, has_module: bool) -> Result<(), FormatError> {
    let unusable = |why: String| FormatError::Unusable { path: path.to_owned(), why };
    let arrays = named(network, has_module).map_err(|error| unusable(error.to_string()))?;
    let bytes = archive(&arrays).map_err(|error| unusable(error.to_string()))?;
    write_bytes(path, &bytes)
}

/// The whole file.
fn archive(arrays: &[Named]) -> zip::result::ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let plain = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut put = |name: &str, bytes: &[u8]| {
        let large = bytes.len() as u64 >= u64::from(u32::MAX);
        archive.start_file(format!("archive/{name}"), plain.with_alignment(ALIGNMENT).large_file(large))?;
        archive.write_all(bytes)?;
        zip::result::ZipResult::Ok(())
    };
    put("data.pkl", &pickle(arrays))?;
    put("byteorder", b"little")?;
    for (index, array) in arrays.iter().enumerate().filter(|(_, array)| array.shared.is_none()) {
        put(&format!("data/{index}"), bytemuck::cast_slice(array.values))?;
    }
    put("version", b"3\n")?;
    Ok(archive.finish()?.into_inner())
}

/// The dictionary of the arrays, whose storages are numbered as they are.
fn pickle(arrays: &[Named]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for (index, array) in arrays.iter().enumerate() {
        string(&mut out, &array.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        string(&mut out, "storage");
        out.extend(b"ctorch\nFloatStorage\n");
        string(&mut out, &array.shared.unwrap_or(index).to_string());
        string(&mut out, "cpu");
        integer(&mut out, array.values.len());
        // The storage; where in it the tensor begins.
        out.extend(b"tQ");
        integer(&mut out, 0);
        let mut strides = vec![1; array.shape.len()];
        for axis in (1..array.shape.len()).rev() {
            strides[axis - 1] = strides[axis] * array.shape[axis];
        }
        for sizes in [&array.shape, &strides] {
            out.push(b'(');
            sizes.iter().for_each(|size| integer(&mut out, *size));
            out.push(b't');
        }
        // It needs no gradient and has no hooks.
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn integer(out: &mut Vec<u8>, value: usize) {
    match i32::try_from(value) {
        Ok(value) => {
            out.push(b'J');
            out.extend(value.to_le_bytes());
        }
        // Nine bytes, so that the highest bit is no sign.
        Err(_) => {
            out.extend([0x8a, 9]);
            out.extend((value as u64).to_le_bytes());
            out.push(0);
        }
    }
}
