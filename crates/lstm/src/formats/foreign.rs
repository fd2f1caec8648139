//! Files of other programs: what they are by their first bytes, and who reads and writes each.

use std::io::Read as _;
use std::path::Path;

use super::import::{Hints, Import};
use super::network::{Activation, Network, Reads};
pub use super::onnx::Peer;
use super::{FormatError, keras, onnx, pytorch, state_dict};
use crate::text::tokenizer::TokenizerKind;

/// A kind of file that holds a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What `torch.save` writes: an archive, or a pickle of the years before.
    Pytorch,
    /// Named tensors without code: PyTorch's names, or this program's own.
    Safetensors,
    /// A model of Keras: `.keras`, an archive, and `.h5`.
    Keras,
    /// The weights of a model of Keras without its configuration: `.weights.h5`.
    KerasWeights,
    /// A graph of operators: ONNX.
    Onnx,
}

/// The bytes that are looked at to tell what a file is; a tar archive says so after 257.
const HEAD: usize = 512;

impl Format {
    /// What a file is: by its first bytes, and where they say nothing by its name.
    ///
    /// # Errors
    /// A file that cannot be read, or is nothing that can be.
    pub fn of(path: &Path) -> Result<Self, FormatError> {
        let trouble = |source| FormatError::Read { path: path.to_owned(), source };
        if path.is_dir() {
            let why = "it is a folder and no run; give a run folder, or the file that holds the network".to_owned();
            return Err(FormatError::Unusable { path: path.to_owned(), why });
        }
        let mut head = Vec::new();
        std::fs::File::open(path).map_err(trouble)?.take(HEAD as u64).read_to_end(&mut head).map_err(trouble)?;
        if head.starts_with(b"PK") && keras::is_keras(path) {
            return Ok(Self::Keras);
        }
        Self::of_bytes(&head).or_else(|| Self::of_name(path)).ok_or_else(|| FormatError::Unusable {
            path: path.to_owned(),
            why: format!("it is no network that can be read; give a run folder, or one of: {}", Self::READABLE),
        })
    }

    /// What can be read, for a sentence.
    pub const READABLE: &'static str = "PyTorch's .pt or .pth, .safetensors, .onnx, Keras's .keras or .h5";

    fn of_bytes(head: &[u8]) -> Option<Self> {
        let is_safetensors = head.len() > 8 && head[8] == b'{' && head[5..8] == [0; 3];
        let is_pytorch = head.starts_with(b"PK\x03\x04")
            || head.starts_with(b"PK\x05\x06")
            || head.get(257..262) == Some(b"ustar")
            // A pickle of protocol 2 or later; those before begin with an object's or a number's sign.
            || matches!(head, [0x80, 2..=5, ..])
            || head.starts_with(b"L119547037146038801333356L");
        if head.starts_with(b"\x89HDF\r\n\x1a\n") {
            return Some(Self::Keras);
        }
        match (is_safetensors, is_pytorch) {
            (true, _) => Some(Self::Safetensors),
            (false, true) => Some(Self::Pytorch),
            (false, false) => None,
        }
    }

    /// What a file of this name would be.
    pub fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "pt" | "pth" | "bin" | "ckpt" | "tar" | "pkl" => Some(Self::Pytorch),
            "safetensors" => Some(Self::Safetensors),
            "keras" => Some(Self::Keras),
            "h5" | "hdf5" => {
                let stem = path.file_stem()?.to_str()?.to_ascii_lowercase();
                Some(if stem.ends_with(".weights") { Self::KerasWeights } else { Self::Keras })
            }
            "onnx" => Some(Self::Onnx),
            _ => None,
        }
    }
}

/// Reads the network that a file holds.
///
/// # Errors
/// A file that is damaged, holds no such network, or more than one; a tensor that has no place and would change the result.
pub fn read(path: &Path, hints: Hints) -> Result<Import, FormatError> {
    let mut import = match Format::of(path)? {
        Format::Pytorch => pytorch::read(path, hints)?,
        Format::Safetensors => state_dict::read_safetensors(path, hints)?,
        Format::Keras | Format::KerasWeights => keras::read(path, hints)?,
        Format::Onnx => onnx::read(path, hints)?,
    };
    if let Some(words) = hints.vocabulary.filter(|vocabulary| vocabulary.kind() == TokenizerKind::Words) {
        for (is_there, name, what) in [
            (words.unknown().is_some(), "<unk>", "a word that is not in it"),
            (words.eos().is_some(), "<eos>", "the end of a line"),
        ] {
            if !is_there {
                let instead = words.token(words.unknown().unwrap_or(0));
                import.network.notes.push(format!("the vocabulary has no {name}: {what} is read as {instead}"));
            }
        }
    }
    import.network.vocabulary = hints.vocabulary.cloned();
    import
        .network
        .validate()
        .map_err(|error| FormatError::Unusable { path: path.to_owned(), why: error.to_string() })?;
    Ok(import)
}

/// How a file is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'a> {
    /// Where to write a Python file whose class has just the network's layers: of a state dict.
    pub module: Option<&'a Path>,
    /// The program that is to run the file: of a graph.
    pub peer: Option<Peer>,
}

/// Writes a network as another program reads it.
///
/// # Errors
/// A network that the format cannot say, by what it has; a folder that cannot be written.
pub fn write(path: &Path, format: Format, network: &Network, wishes: Wishes) -> Result<(), FormatError> {
    let module = wishes.module;
    match format {
        Format::Pytorch => pytorch::write(path, network, module.is_some())?,
        Format::Safetensors => state_dict::write_safetensors(path, network, module.is_some())?,
        Format::Keras | Format::KerasWeights => keras::write(path, format == Format::KerasWeights, network)?,
        Format::Onnx => return onnx::write(path, network, wishes.peer),
    }
    module.map_or(Ok(()), |module| pytorch::write_module(module, network, path))
}

/// What of a network a file of this format does not hold, in sentences.
pub fn lost(format: Format, network: &Network) -> Vec<String> {
    let mut lost = Vec::new();
    match format {
        Format::Onnx => {
            if network.vocabulary.is_some() {
                lost.push("what the tokens are: a graph has no vocabulary".to_owned());
            }
        }
        Format::Pytorch | Format::Safetensors => {
            if network.vocabulary.is_some() {
                lost.push("what the tokens are: a state dict has no vocabulary".to_owned());
            }
            if network.readouts.iter().any(|readout| readout.activation != Activation::Linear) {
                lost.push(
                    "what follows the readouts: a state dict has no activations, its module computes them".to_owned(),
                );
            }
            if network.reads == Reads::Final {
                lost.push("that the final state is read out: a state dict does not say it, its module does".to_owned());
            }
        }
        Format::Keras | Format::KerasWeights => {
            if network.vocabulary.is_some() {
                lost.push("what the tokens are: a model of Keras has no vocabulary".to_owned());
            }
            if network.is_tied() {
                lost.push(
                    "that the readout's weights are the embedding's: a Dense has its own, so they are there twice"
                        .to_owned(),
                );
            }
            if format == Format::KerasWeights {
                lost.push(format!("the layers: load_weights wants them made before: {}", keras::describe(network)));
            }
        }
    }
    lost
}
