//! The options of `lstm train` that name its teachers, and how they are laid over a run.

use std::path::PathBuf;

use anyhow::Result;
use lstm::run::config::RunConfig;

/// Who teaches.
#[derive(clap::Args)]
#[command(next_help_heading = "Teachers")]
pub struct TeachingOptions {
    /// Learn not only what comes next in the text, but also what these trained models of the same tokens say of it, by the mean of their
    /// probabilities (Hinton 2015): run folders or model files, with commas between them. They read the text once, before the first step, in
    /// the time of --budget; every step scores the whole vocabulary [default: nobody teaches]
    #[arg(long, value_name = "RUN,…", value_delimiter = ',')]
    pub teach: Vec<PathBuf>,
    /// The share of the teachers in what is learned; the rest is what came [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    teach_weight: Option<f32>,
}

impl TeachingOptions {
    /// Lays the options over a run. `samples`: whether candidates were asked for, which do not go with teachers.
    pub fn lay_over(&self, config: &mut RunConfig, samples: bool) -> Result<()> {
        if self.teach.is_empty() {
            return Ok(());
        }
        config.teaching.models = self.teach.iter().map(std::path::absolute).collect::<Result<_, _>>()?;
        config.teaching.weight = self.teach_weight.unwrap_or(config.teaching.weight);
        if !samples {
            config.candidates = None;
        }
        Ok(())
    }
}
