//! The native half of the Python package `lstm_cpu`: a thin skin over `lstm`, no arithmetic.
//!
//! | file | what it has |
//! |---|---|
//! | `arrays.rs` | numpy's arrays as slices and back |
//! | `layers.rs` | layers of an LSTM over memory of others, forward and backward |
//! | `model.rs` | a trained language model at work |
//! | `training.rs` | a run, from event to event |
//! | `tokenizer.rs` | text into tokens |
//! | `errors.rs` | the library's errors as Python's |
//!
//! Every call that computes releases the interpreter lock.
#![deny(unsafe_code)]
// They are the keywords of Python functions.
#![allow(clippy::too_many_arguments)]

use lstm::nn::precision::Precision;
use pyo3::prelude::*;

mod arrays;
mod errors;
mod layers;
mod model;
mod tokenizer;
mod training;

/// Sets the number of threads that the kernels use; 0 for as many as there are processors.
#[pyfunction]
fn set_threads(threads: usize) {
    lstm::set_threads(threads);
}

/// The number of threads that the kernels use.
#[pyfunction]
fn get_threads() -> usize {
    lstm::threads()
}

/// The instruction set that the kernels use.
#[pyfunction]
fn isa() -> &'static str {
    lstm::isa()
}

/// What computes products of bf16: `avx512bf16`, say, or an instruction set that has none and does so by f32.
#[pyfunction]
fn bf16_isa() -> &'static str {
    Precision::Bf16.unit()
}

/// Lets layers run on the threads of the OpenMP that is loaded, PyTorch's, from now on; whether there is one.
#[pyfunction]
fn find_openmp() -> bool {
    lstm::find_openmp()
}

/// Forgets the threads that a process had which this one was forked from.
#[pyfunction]
fn after_fork() {
    lstm::after_fork();
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<layers::Layers>()?;
    module.add_class::<layers::Pass>()?;
    module.add_class::<model::Model>()?;
    module.add_class::<model::Stream>()?;
    module.add_class::<model::Tokens>()?;
    module.add_class::<tokenizer::Tokenizer>()?;
    module.add_function(wrap_pyfunction!(model::import_torch, module)?)?;
    module.add_function(wrap_pyfunction!(training::train, module)?)?;
    module.add_function(wrap_pyfunction!(set_threads, module)?)?;
    module.add_function(wrap_pyfunction!(get_threads, module)?)?;
    module.add_function(wrap_pyfunction!(isa, module)?)?;
    module.add_function(wrap_pyfunction!(bf16_isa, module)?)?;
    module.add_function(wrap_pyfunction!(find_openmp, module)?)?;
    module.add_function(wrap_pyfunction!(after_fork, module)?)?;
    Ok(())
}
