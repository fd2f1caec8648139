//! Numbers in, numbers out: the vectorised loops and matrix products behind `lstm`.
//!
//! Every result has the same bits for any number of threads: work is cut by shapes alone, or in ways that change no
//! order of additions.
//!
//! | room | what it does |
//! |---|---|
//! | `memory.rs` | large buffers |
//! | `simd/` | vectors of each instruction set, and the choice among them |
//! | `team/` | threads that stay and meet; work cut for them; slices that they share |
//! | `gemm/` | matrix products: the register tile, factors packed for it, products, and products with one right factor again and again |
//! | `ops/` | exp, sigmoid, tanh; softmax cross-entropy and mixtures; layer normalisation; sums and norms; optimizer steps |
//! | `recurrence/` | one direction of one layer over a segment, forward and backward, with any cell; one step of a network |
//! | `peak.rs` | the most that this machine can do, to measure the rest by |
//!
//! A file imports from rooms above its own alone, and within its room from files that do not import it.

mod gemm;
mod memory;
mod ops;
mod peak;
mod recurrence;
mod simd;
mod team;
#[cfg(test)]
mod testing;

pub use gemm::arithmetic::{Precision, with_precision};
pub use gemm::matrix::{Matrix, MatrixMut, Start};
pub use gemm::narrow::{Weights, row_scale, to_int8};
pub use gemm::product::{product, product_with_bias, products};
pub use memory::Aligned;
pub use ops::activation::{tanh_backward, tanh_of as tanh};
pub use ops::mixture::column_log_sum_exp;
pub use ops::optimizer::{AdamStep, AdaptStep, adam, adapt, sgd};
pub use ops::reduce::{column_sums, multiply, sum_of_squares};
pub use ops::softmax::{ScoreGradient, cross_entropy, exponentials, log_sum_exp, smooth_targets};
pub use peak::{peak_gflops, read_gigabytes_per_second};
pub use recurrence::{
    Cell, CellMogrifier, CellNorm, CellParameter, CellWeights, Columns, Reaching, Recurrence, RecurrenceTape,
    RecurrentWeights, Sequence, StepPlan, ZoneoutRates,
};
pub use simd::{check_isa, isa, pairs_isa};
pub use team::chunks::for_each_chunk;
pub use team::{after_fork, find_openmp, set_threads, threads, with_openmp, with_threads};
