//! LSTM networks from the gates up: forward and backward derived by hand, any number of layers, and around them a
//! language model, its trainer, its evaluation and its generator.
//!
//! Everything takes its values as arguments: parameters and gradients are one flat buffer each ([`nn::params::Params`]),
//! states are given and returned ([`nn::state::State`]), and what a backward pass needs lies in a tape that is reused. All
//! arrays are row-major `f32`, sequences time-major `[T, B, ·]`.
//!
//! # In reading order
//!
//! | module | what it is |
//! |---|---|
//! | [`cell`] | one step of one LSTM, gate by gate, forward and backward: the definition |
//! | [`cell::variant`] | the same with peepholes, coupled gates, layer normalisation, zoneout, an exponential gate |
//! | [`nn`] | any number of layers over a segment, [`Lstm`], or one step at a time, [`nn::stream::Stream`]; the choices, parameters, gradients and states of it, dropout |
//! | [`model`] | embedding → LSTM → readout → loss: [`LanguageModel`]; what is added to the loss |
//! | [`optim`] | optimizers, the learning rate over a run, averages of the weights |
//! | [`text`] | tokenizers, corpora, batches, the built-in language |
//! | [`data`] | tables, time stamps, sequences of numbers |
//! | [`forecast`] | what comes next in a table with a time column |
//! | [`run`] | a run's settings, its presets, the files of its folder |
//! | [`mod@train`] | one training step, the loop, [`Trainer`], its events; the rate finder |
//! | [`plan`] | a model and its settings for a text, a time and a machine: [`Plan`] |
//! | [`evaluate`], [`score`], [`generate`] | a trained model at work: its loss on a text, on each of its parts, [`Generator`] |
//! | [`ensemble`] | several models as one, [`Ensemble`]: the mean of their probabilities |
//! | [`report`] | pages: a run while it trains and after, several runs over one another |
//! | [`inspect`] | the inside of a model: states, cause and effect, what units follow |
//! | [`lab`] | the experiment that the project grew from |
//! | [`adapt`] | one that follows the text it is measured on |
//! | [`formats`] | files |
//! | [`mod@bench`] | how fast all this is on this machine |
//!
//! # A layer to train
//!
//! ```
//! use lstm::nn::config::Init;
//! use lstm::{Lstm, LstmConfig, Params, Segment, Start};
//!
//! // Two layers of 8 units that read 3 values a step; a segment of 5 steps, 2 rows side by side.
//! let lstm = Lstm::new(LstmConfig { layers: 2, ..LstmConfig::new(3, 8) })?;
//! let mut params = Params::zeros(lstm.layout().clone());
//! lstm.initialise(&mut params, &Init::default(), 1);
//! let segment = Segment { steps: 5, batch: 2, lengths: None, packed: None };
//! let input = vec![0.5; 5 * 2 * 3];
//!
//! let (mut state, mut tape) = (lstm.state(2), lstm.tape());
//! lstm.forward(&params, &input, segment, &mut state, None, &mut tape);
//! assert_eq!(tape.output().len(), 5 * 2 * 8);
//!
//! // The gradient of half the sum of squares of the outputs is the outputs.
//! let d_output = tape.output().to_vec();
//! let mut gradients = Params::zeros(lstm.layout().clone());
//! lstm.backward(&params, &input, segment, &d_output, None, &mut tape, &mut gradients, Start::Zero);
//! assert!(gradients.by_name("weight_hh_l1").unwrap().iter().any(|d| *d != 0.0));
//! # Ok::<(), lstm::nn::config::ConfigError>(())
//! ```
#![deny(unsafe_code)]

pub mod adapt;
pub mod bench;
pub mod cell;
mod coder;
pub mod data;
pub mod ensemble;
pub mod evaluate;
pub mod forecast;
pub mod formats;
mod free_memory;
pub mod generate;
pub mod inspect;
pub mod lab;
mod mapped;
pub mod measures;
pub mod model;
mod named;
pub mod nn;
pub mod optim;
pub mod pack;
pub mod plan;
pub mod report;
pub mod rng;
pub mod run;
pub mod said;
pub mod score;
pub mod sequence;
mod setting;
pub mod text;
pub mod train;

pub use ensemble::Ensemble;
pub use generate::Generator;
pub use lstm_kernels::{
    Start, after_fork, check_isa, find_openmp, isa, set_threads, threads, with_openmp, with_threads,
};
pub use model::{LanguageModel, LanguageModelConfig};
pub use nn::config::LstmConfig;
pub use nn::params::Params;
pub use nn::segment::Segment;
pub use nn::stack::Lstm;
pub use plan::Plan;
pub use run::error::TrainError;
pub use train::trainer::Trainer;

/// A run on a text, a file or a folder of files: what `lstm train TEXT` does.
///
/// ```no_run
/// let mut trainer = lstm::train("text.txt").budget(600.0).begin("runs/text")?;
/// let outcome = trainer.run(&mut |event| println!("{event:?}"), None)?;
/// println!("test perplexity {:.2}", outcome.test.unwrap().perplexity());
/// # Ok::<(), lstm::TrainError>(())
/// ```
pub fn train(text: impl AsRef<std::path::Path>) -> train::new_run::NewRun {
    train::new_run::NewRun::new(Some(text.as_ref()))
}

/// The README's example is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
