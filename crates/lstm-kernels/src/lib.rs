//! Numbers in, numbers out: the vectorised loops and matrix products behind `lstm`.
//!
//! Every result has the same bits for any number of threads: work is cut by shapes alone, or in ways that change no
//! order of additions.
//!
//! | file | what it does |
//! |---|---|
//! | `simd/` | vectors of each instruction set, and the choice among them |
//! | `team.rs` | threads that stay and meet |
//! | `tile.rs` | the register tile of every product |
//! | `pack.rs` | factors laid out for the tile |
//! | `product.rs` | matrix products |
//! | `activation.rs` | exp, sigmoid, tanh |
//! | `recurrence/` | the recurrent loop over a segment, forward and backward |
//! | `variant.rs`, `normalise.rs` | one step of the cell variants beside its products; layer normalisation |
//! | `packed_product.rs` | products with one right factor again and again |
//! | `step.rs` | one step of a network, for generation and streams |
//! | `softmax.rs` | softmax cross-entropy over rows of scores, the logarithm of a sum of exponentials |
//! | `smoothing.rs` | label smoothing of their gradient |
//! | `mixture.rs` | what a mixture of softmaxes needs beside them |
//! | `chunks.rs` | slices shared among threads |
//! | `memory.rs` | large buffers |
//! | `optimizer.rs` | SGD, Adam and the step of dynamic evaluation, one pass over the flat buffer |
//! | `vector.rs` | column sums, norms |
//! | `peak.rs` | what this machine can do at most, to measure the rest by |

mod activation;
mod chunks;
mod memory;
mod mixture;
mod normalise;
mod optimizer;
mod pack;
mod packed_product;
mod peak;
mod product;
mod recurrence;
mod simd;
mod smoothing;
mod softmax;
mod step;
mod team;
mod tile;
mod variant;
mod vector;

pub use chunks::for_each_chunk;
pub use memory::Aligned;
pub use mixture::{column_log_sum_exp, tanh, tanh_backward};
pub use normalise::{column_products, layer_norm, layer_norm_backward};
pub use optimizer::{AdamStep, AdaptStep, adam, adapt, sgd};
pub use packed_product::PackedFactor;
pub use peak::{peak_gflops, read_gigabytes_per_second};
pub use product::{Matrix, MatrixMut, Start, product, products};
pub use recurrence::{BackwardBuffers, PackedRecurrence, Recurrence, RecurrentWeights};
pub use simd::{check_isa, isa};
pub use smoothing::smooth_targets;
pub use softmax::{ScoreGradient, cross_entropy, log_sum_exp};
pub use step::{CellWeights, Columns, StepPlan};
pub use team::{set_threads, threads, with_threads};
pub use variant::{
    CellNorm, Ended, Keep, NormGradient, NormTape, VariantBackward, VariantCell, VariantForward, hold, hold_backward,
};
pub use vector::{column_sums, multiply, sum_of_squares};
