//! `lstm quantize`: a model whose weights are bytes, for one token at a time.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::convert::{is_part, same_file};
use crate::measured::open;
use crate::output::{grouped, talk};

/// The options of `lstm quantize`.
#[derive(clap::Args)]
pub struct Quantize {
    /// The run folder, or a model file
    run: PathBuf,
    /// The model file to write, a quarter the size: a .safetensors file
    out: PathBuf,
    /// Replace what is there
    #[arg(long)]
    force: bool,
}

/// Writes and says how large it is.
pub fn run(options: Quantize) -> Result<ExitCode> {
    let Quantize { run, out, force } = options;
    if out.extension().is_none_or(|extension| extension != "safetensors") {
        bail!("{} is no name for a model file; give it the extension .safetensors", out.display());
    }
    if out.exists() && !force {
        bail!("{} is there already; choose another name, or pass --force to replace it", out.display());
    }
    if same_file(&run, &out) || is_part(&run, &out) {
        bail!("{} is what would be read as well; choose another name", out.display());
    }
    let loaded = open(&run)?;
    let before = 4 * loaded.params.values().len() as u64;
    loaded.save_quantized(&out)?;
    let after = std::fs::metadata(&out).with_context(|| out.display().to_string())?.len();
    talk(format_args!(
        "wrote {}: {} bytes, where the weights had {} in f32; lstm eval {} TEXT --weights int8 measures what that costs",
        out.display(),
        grouped(after),
        grouped(before),
        out.display(),
    ));
    Ok(ExitCode::SUCCESS)
}
