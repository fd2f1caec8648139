//! `lstm pack` and `lstm unpack`: a text as small as a model makes it, and back.

use std::io::{Read, Write};
use std::path::{Display, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use lstm::adapt::dynamic::GradientScale;
use lstm::adapt::settings::DynamicSettings;
use lstm::formats::write_bytes;
use lstm::pack::Packer;
use lstm::run::saved::LoadedRun;

use crate::adapt::Learning;
use crate::measured::open;
use crate::output::{count, grouped, talk, use_threads};
use crate::progress::Progress;

/// The end of a packed file's name.
const EXTENSION: &str = "packed";

/// The options of `lstm pack`.
#[derive(clap::Args)]
pub struct Pack {
    /// The model: a run folder, or a model file
    run: PathBuf,
    /// The file to pack, - for standard input
    file: PathBuf,
    #[command(flatten)]
    learning: Learning,
    #[command(flatten)]
    common: Common,
}

/// The options of `lstm unpack`.
#[derive(clap::Args)]
pub struct Unpack {
    /// The model it was packed with: a run folder, or a model file; of a text packed with --adapt dynamic the run folder, whose
    /// training text has to lie where it lay
    run: PathBuf,
    /// The packed file, - for standard input
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// The options of both.
#[derive(clap::Args)]
struct Common {
    /// The file to write, - for standard output [default: FILE with .packed at its end, or without it]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Threads to use; the result is the same for any number [default: all processors]
    #[arg(long)]
    threads: Option<usize>,
}

/// Packs.
pub fn pack(Pack { run, file, learning, common }: Pack) -> Result<ExitCode> {
    use_threads(common.threads)?;
    let out = common.destination(&file, || {
        let is_named = file != Path::new(STANDARD);
        is_named.then(|| PathBuf::from(format!("{}.{EXTENSION}", file.display())))
    })?;
    let run = open(&run)?;
    let text = read(&file)?;
    let learning = learning.adapt().prepare(&run)?.and_then(|ready| ready.into_learning());
    let packer = packer(&run, learning.as_ref())?;
    let progress = Progress::new();
    let packed = packer.pack(&text, &mut |done| progress.bytes("packing", done, text.len()));
    progress.finish();
    write(&out, &packed)?;
    let bits = 8.0 * packed.len() as f64;
    let characters = String::from_utf8_lossy(&text).chars().count();
    // Of nothing there is no rate, only the head of the file.
    let rate = match characters {
        0 => String::new(),
        characters => format!(", {:.4} bits a character", bits / characters as f64),
    };
    talk(format_args!(
        "wrote {}: {} from {}{rate}",
        shown(&out),
        count(packed.len() as u64, "byte"),
        grouped(text.len() as u64)
    ));
    Ok(ExitCode::SUCCESS)
}

/// Unpacks.
pub fn unpack(Unpack { run, file, common }: Unpack) -> Result<ExitCode> {
    use_threads(common.threads)?;
    let is_named = file.extension().is_some_and(|extension| extension == EXTENSION);
    let out = common.destination(&file, || is_named.then(|| file.with_extension("")))?;
    let run = open(&run)?;
    let packed = read(&file)?;
    let named = |error| anyhow!("{}: {error}", file.display());
    let learned = Packer::learned(&packed).map_err(named)?;
    let scaled = |settings| {
        let scale = scale(&run).map_err(|error| {
            anyhow!("{} was packed by a model that went on learning (--adapt dynamic), scaled by the gradients of its training text: {error}", file.display())
        });
        Ok::<_, anyhow::Error>((scale?, settings))
    };
    let learning = learned.map(scaled).transpose()?;
    let packer = packer(&run, learning.as_ref())?;
    let progress = Progress::new();
    let text = packer.unpack(&packed, &mut |done, of| progress.bytes("unpacking", done, of));
    progress.finish();
    let text = text.map_err(named)?;
    write(&out, &text)?;
    talk(format_args!("wrote {}: {}", shown(&out), count(text.len() as u64, "byte")));
    Ok(ExitCode::SUCCESS)
}

/// What packs with a model, which may go on learning.
fn packer<'a>(run: &'a LoadedRun, learning: Option<&'a (GradientScale, DynamicSettings)>) -> Result<Packer<'a>> {
    let packer = Packer::new(&run.model, &run.params, &run.tokenizer, run.config.batching)?;
    Ok(match learning {
        Some((scale, settings)) => packer.learning(scale, *settings)?,
        None => packer,
    })
}

/// The scale of the gradients of a model on the text that it was trained on.
fn scale(run: &LoadedRun) -> Result<GradientScale> {
    let mut progress = Progress::new();
    progress.stage("reading the training text");
    let text = run.training_text()?;
    let mut watch = |tokens, of| progress.pass("gradients of the training text", tokens, of, None);
    let scale = GradientScale::collect(run, &text, &mut watch)?;
    progress.finish();
    Ok(scale)
}

impl Common {
    /// The file to write.
    fn destination(&self, file: &Path, usual: impl FnOnce() -> Option<PathBuf>) -> Result<PathBuf> {
        let Some(out) = self.out.clone().or_else(usual) else {
            bail!("{} says no name for what is written; give one: --out PATH", file.display());
        };
        if out != Path::new(STANDARD) && out.exists() && !self.force {
            bail!("{} is there already; give another name by --out, or pass --force to replace it", out.display());
        }
        Ok(out)
    }
}

/// The name of standard input and standard output.
const STANDARD: &str = "-";

/// The place that was written to, in a sentence.
fn shown(out: &Path) -> Display<'_> {
    if out == Path::new(STANDARD) { Path::new("standard output").display() } else { out.display() }
}

/// Writes the bytes to a file, or to standard output.
fn write(out: &Path, bytes: &[u8]) -> Result<()> {
    if out != Path::new(STANDARD) {
        return Ok(write_bytes(out, bytes)?);
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// The bytes of a file, all at once: they are packed as they are.
fn read(file: &Path) -> Result<Vec<u8>> {
    if file == Path::new(STANDARD) {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        return read.map(|_| bytes).map_err(|error| anyhow!("standard input cannot be read: {error}"));
    }
    std::fs::read(file).map_err(|error| anyhow!("{} cannot be read: {error}", file.display()))
}
