//! The machine that a run was trained on, and what its training asks of it.

use serde::{Deserialize, Serialize};

use crate::model::LanguageModel;
use crate::run::config::RunConfig;
use crate::text::batch::Batching;

/// A machine, in a session of training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Its processor.
    pub processor: String,
    /// The instruction set that kernels were chosen for.
    pub instructions: String,
    /// The threads at work.
    pub threads: usize,
    /// Its system.
    pub system: String,
    /// Its peak in GFLOP/s, once it was measured.
    pub peak: Option<f64>,
    /// The version of this program.
    pub version: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let mut system = sysinfo::System::new();
        system.refresh_cpu_all();
        let brand = system.cpus().first().map_or("", |cpu| cpu.brand()).trim().to_owned();
        let processor = if brand.is_empty() { std::env::consts::ARCH.to_owned() } else { brand };
        Self {
            processor,
            instructions: lstm_kernels::isa().to_string(),
            threads: lstm_kernels::threads(),
            system: sysinfo::System::long_os_version().unwrap_or(std::env::consts::OS.to_owned()),
            peak: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// The floating-point operations of training on one predicted token: three passes of two for each weight that it meets in a matrix
/// product, as `lstm bench` counts them. Of windows the layers read n tokens for one.
pub fn operations(config: &RunConfig, model: &LanguageModel) -> f64 {
    let size = |shape: &[usize]| shape.iter().product::<usize>() as f64;
    let (mut stack, mut readout) = (0.0, 0.0);
    let kinds = config.model.vocabulary as f64;
    let scored = config.candidates.map_or(1.0, |candidates| (candidates as f64 / kinds).min(1.0));
    for entry in model.layout().entries().iter().filter(|entry| entry.shape.len() == 2) {
        match entry.name.as_str() {
            name if name.starts_with("lstm.") => stack += size(&entry.shape),
            // Each of several softmaxes scores all.
            "readout.weight" => readout += scored * config.model.softmaxes as f64 * size(&entry.shape),
            "embedding.weight" if config.model.tied => {
                readout += scored * config.model.softmaxes as f64 * size(&entry.shape);
            }
            "embedding.weight" => {}
            _ => readout += size(&entry.shape),
        }
    }
    let read = if let Batching::Windows(n) = config.batching { n as f64 } else { 1.0 };
    6.0 * (read * stack + readout)
}
