//! `lstm convert`: a model from another program's file, or into one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use lstm::LanguageModel;
use lstm::formats::foreign::{self, Format, Peer, Wishes};
use lstm::formats::import::{Hints, Import};
use lstm::formats::network::Network;
use lstm::run::folder::{Existing, RunFolder};
use lstm::run::imported::{imported, write_run};
use lstm::run::saved::{LoadedRun, is_trained};
use lstm::text::batch::Batching;
use lstm::text::tokenizer::Tokenizer;

use crate::output::{count, talk};

/// The options of `lstm convert`.
#[derive(clap::Args)]
pub struct Convert {
    /// A run folder, a model file, or a file of another program: .pt, .pth, .safetensors, .onnx, .keras, .h5
    input: PathBuf,
    /// What to write: a file whose format is its extension's, a model file for .safetensors, or a run folder
    output: PathBuf,
    /// What OUTPUT shall be [default: what its name says]
    #[arg(long)]
    to: Option<Target>,
    /// Where a tensor of INPUT belongs that is not found by itself: its name, or the start of several names up to a dot,
    /// and ours, such as lstm.weight_ih_l0; nothing after the sign leaves it out. May be given several times
    #[arg(long, value_name = "THEIRS=OURS")]
    map: Vec<String>,
    /// What the tokens of INPUT are: a file with one word a line, or a tokenizer.json
    #[arg(long, value_name = "FILE")]
    vocab: Option<PathBuf>,
    /// How a model that is read in is given a text: stream, lines, or windows(N) of N tokens of one line [default: stream]
    #[arg(long)]
    batches: Option<Batching>,
    /// Write a Python file beside OUTPUT whose class has just its layers
    #[arg(long)]
    module: bool,
    /// The program that is to run OUTPUT, a graph of ONNX: what it would ignore is refused. tract, rten, openvino or onnxruntime
    #[arg(long = "for", value_name = "PROGRAM")]
    peer: Option<Peer>,
    /// Replace what is there
    #[arg(long)]
    force: bool,
}

/// What a model becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// PyTorch's state dict, as .pt or .safetensors
    Pytorch,
    /// The whole model in one file, .safetensors: configuration, tokenizer and results in its metadata
    Model,
    /// A graph of ONNX
    Onnx,
    /// A run folder
    Run,
}

/// A place to write to, and as what.
enum Destination {
    File(Format),
    Model,
    Run,
}

/// Converts.
pub fn run(options: Convert) -> Result<ExitCode> {
    let destination = destination(&options)?;
    let Convert { input, output, map, vocab, force, .. } = &options;
    if output.is_file() && !force {
        bail!("{} is there already; choose another name, or pass --force to replace it", output.display());
    }
    if same_file(input, output) || is_part(input, output) {
        bail!("{} is what would be read as well; choose another name", output.display());
    }
    if is_trained(input) {
        let given =
            [(!map.is_empty(), "--map"), (vocab.is_some(), "--vocab"), (options.batches.is_some(), "--batches")];
        for (given, name) in given {
            if given {
                bail!(
                    "{name} is for a file of another program; {} is a model of this one and has its own",
                    input.display()
                );
            }
        }
        let trained = LanguageModel::open(input)?;
        match destination {
            Destination::File(format) => write_file(&options, format, &of_run(&trained)?)?,
            ours => write_ours(&options, &trained, &ours)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let batching = options.batches.unwrap_or_default();
    let import = read(input, map, vocab.as_deref(), batching)?;
    crate::show_file::talk_import(&import);
    let network = import.network;
    if let Destination::File(format) = destination {
        if options.batches.is_some() {
            bail!(
                "--batches is of a model of this program, a run folder or a .safetensors file; {} is neither",
                output.display()
            );
        }
        write_file(&options, format, &network)?;
        return Ok(ExitCode::SUCCESS);
    }
    let language = network.into_language_model().map_err(|error| match vocab {
        Some(_) => anyhow!("{}: {error}", input.display()),
        None => anyhow!("{}: {error} (--vocab FILE gives a vocabulary)", input.display()),
    })?;
    let ours = imported(language, input, batching)?;
    write_ours(&options, &ours, &destination)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a model of this program: its file, or a run folder.
fn write_ours(options: &Convert, trained: &LoadedRun, destination: &Destination) -> Result<()> {
    let Convert { output, force, .. } = options;
    let what = match destination {
        Destination::Run => {
            write_run(trained, output, if *force { Existing::Replace } else { Existing::Refuse })?;
            "run"
        }
        _ => {
            trained.save(output)?;
            "model"
        }
    };
    let use_it = "use it with `lstm eval`, `lstm generate`, `lstm score`";
    talk(format_args!("wrote the {what} {}: {use_it}", output.display()));
    Ok(())
}

/// Writes a network as another program reads it.
fn write_file(options: &Convert, format: Format, network: &Network) -> Result<()> {
    let Convert { input, output, module, peer, force, .. } = options;
    let module = module.then(|| output.with_extension("py"));
    if let Some(module) = module.as_ref().filter(|module| module.exists() && !force) {
        bail!("{} is there already; move it, or pass --force to replace it", module.display());
    }
    let is_state_dict = matches!(format, Format::Pytorch | Format::Safetensors);
    if is_state_dict && module.is_none() && network.stacks.iter().any(|stack| stack.config().residual) {
        bail!(
            "{} has residual connections, which a state dict does not say; with --module a Python file is written too, \
             whose class adds them",
            input.display()
        );
    }
    foreign::write(output, format, network, Wishes { module: module.as_deref(), peer: *peer })?;
    talk(format_args!("wrote {}: {}", output.display(), count(network.parameters() as u64, "parameter")));
    foreign::lost(format, network).iter().for_each(|lost| talk(format_args!("{:<11} {lost}", "lost")));
    if let Some(module) = module {
        talk(format_args!("wrote {}", module.display()));
    }
    Ok(())
}

/// What OUTPUT shall be, by `--to` and by its name.
fn destination(options: &Convert) -> Result<Destination> {
    let Convert { output, to, module, peer, .. } = options;
    let named = Format::of_name(output);
    let has_extension = output.extension().is_some();
    let destination = match (to, named) {
        (Some(Target::Pytorch), Some(format @ (Format::Pytorch | Format::Safetensors))) => Destination::File(format),
        (Some(Target::Pytorch), Some(Format::Keras | Format::KerasWeights) | None) => {
            bail!("{} is no name for PyTorch; give it the extension .pt or .safetensors", output.display())
        }
        (Some(Target::Pytorch), Some(Format::Onnx)) => {
            bail!("{} is the name of a graph; --to pytorch writes .pt or .safetensors", output.display())
        }
        (Some(Target::Onnx), Some(Format::Onnx)) | (None, Some(Format::Onnx)) => Destination::File(Format::Onnx),
        (Some(Target::Onnx), _) => bail!("{} is no name for a graph; give it the extension .onnx", output.display()),
        (None, Some(format @ (Format::Pytorch | Format::Keras | Format::KerasWeights))) => Destination::File(format),
        (None | Some(Target::Model), Some(Format::Safetensors)) => Destination::Model,
        (Some(Target::Model), _) => {
            bail!("{} is no name for a model file; give it the extension .safetensors", output.display())
        }
        (Some(Target::Run), Some(_)) => {
            bail!("{} is the name of a file, and --to run writes a folder; leave its extension out", output.display())
        }
        (Some(Target::Run), None) => Destination::Run,
        (None, None) if output.is_dir() || !has_extension => Destination::Run,
        (None, None) => bail!(
            "{} has an extension that is no format's; write .pt, .onnx, .keras, .weights.h5 or .safetensors, or a folder with \
             --to run",
            output.display()
        ),
    };
    if *module && !matches!(destination, Destination::File(Format::Pytorch | Format::Safetensors)) {
        bail!("--module writes the class of a PyTorch file; {} is none", output.display());
    }
    if peer.is_some() && !matches!(destination, Destination::File(Format::Onnx)) {
        bail!(
            "--for names the program that is to run a graph; {} is to be none: give it the extension .onnx",
            output.display()
        );
    }
    Ok(destination)
}

/// The network of a run.
pub fn of_run(run: &LoadedRun) -> Result<Network> {
    Ok(Network::from_language_model(&run.model, &run.params, Some(&run.tokenizer))?)
}

/// Reads a file of another program. map: THEIRS=OURS.
fn read(path: &Path, map: &[String], vocab: Option<&Path>, batching: Batching) -> Result<Import> {
    let map = map
        .iter()
        .map(|pair| match pair.rsplit_once('=') {
            Some((theirs, ours)) if !theirs.is_empty() => Ok((theirs.to_owned(), ours.to_owned())),
            _ => bail!("--map takes THEIRS=OURS, and {pair:?} is none; THEIRS= leaves a tensor out"),
        })
        .collect::<Result<Vec<_>>>()?;
    let with_markers = batching != Batching::Stream;
    let vocabulary = vocab.map(|vocab| Tokenizer::read_vocabulary(vocab, with_markers)).transpose()?;
    Ok(foreign::read(path, Hints { map: &map, vocabulary: vocabulary.as_ref(), is_look: false })?)
}

/// Whether a file to be written is one of the run folder that is read, or that the file which is read lies in.
pub fn is_part(input: &Path, output: &Path) -> bool {
    let parent = |file: &Path| match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let run = RunFolder(if input.is_dir() { input.to_owned() } else { parent(input) });
    let own = [run.model(), run.checkpoint(), run.tokenizer(), run.config(), run.metrics()];
    same_file(run.path(), &parent(output))
        && (input.is_dir() || run.config().exists())
        && own.iter().any(|own| own.file_name() == output.file_name())
}

/// Whether both are the same file.
pub fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
