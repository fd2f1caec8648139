//! `lstm predict`: what a model says of data, as CSV or as JSON lines.

use std::path::PathBuf;

/// The options of `lstm predict`.
#[derive(clap::Args)]
pub struct Predict {
    /// The model: a run folder, or a model file
    pub model: PathBuf,
    /// The data, or - for standard input, each line of which is answered at once
    #[arg(default_value = "-", hide_default_value = true)]
    pub file: PathBuf,
    /// The column, or the key, of the text [default: that of the model's training data]
    #[arg(long, value_name = "COL")]
    pub text: Option<String>,
    /// Print how much the model attends to each token, of one that is pooled by attention; with --json [default: labels and
    /// probabilities alone]
    #[arg(long, requires = "json")]
    pub attention: bool,
    /// Replace bytes that are not UTF-8 [default: refuse them]
    #[arg(long)]
    pub lossy: bool,
    /// Print a JSON object a line [default: CSV]
    #[arg(long)]
    pub json: bool,
    /// Threads to use; the result is the same for any number [default: all processors]
    #[arg(long)]
    pub threads: Option<usize>,
}
