//! The library's integration tests, one binary.

/// Run folders that are damaged, of another run or in the way.
mod damaged;
/// Run folders of earlier versions.
mod earlier;
/// Golden files made by PyTorch: outputs, states, gradients and whole training runs.
mod golden;
/// The stack against the gate-by-gate cell and against finite differences.
mod gradients;
/// Steps taken again between checkpoints that were kept.
mod kept;
/// Files of Keras, in and out.
mod keras;
/// Runs of several models.
mod members;
/// The form that all file formats share, against the models it comes from.
mod network;
/// Graphs of ONNX, in and out.
mod onnx;
/// Packed segments against masked ones.
mod packed;
/// Files of PyTorch, in and out.
mod pytorch;
/// Several ranks that train one model.
mod ranks;
/// A slow stack in f64, built from the cell.
mod reference;
/// Rates and averages of weights over whole runs.
mod schedules;
/// A model that is no language model, in the same loop.
mod second_model;
/// Whole runs over sequences of numbers, and what is chosen for them.
mod sequence_numbers;
/// Models over sequences.
mod sequences;
/// Students and their teachers.
mod teaching;
/// Whole runs: learning, resuming, refusing.
mod training;
