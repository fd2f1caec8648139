//! Numbers in, numbers out: the vectorised loops and matrix products behind `lstm`.
//!
//! Every result has the same bits for any number of threads: work is cut into tasks by the shapes alone, and the
//! tasks are spread over the current rayon pool.
//!
//! | file | what it does |
//! |---|---|
//! | `isa.rs` | the instruction set, chosen once |
//! | `product.rs` | matrix products (faer) over a fixed task grid |
//! | `activation.rs` | exp, sigmoid, tanh |
//! | `recurrence.rs` | the recurrent loop over a segment, forward and backward |
//! | `softmax.rs` | softmax cross-entropy over rows of scores |
//! | `optimizer.rs` | SGD and Adam, one pass over the flat buffer |
//! | `vector.rs` | biases, column sums, norms |

pub mod activation;
mod isa;
mod optimizer;
mod product;
mod recurrence;
mod softmax;
mod vector;

pub use isa::isa;
pub use optimizer::{AdamStep, adam, sgd};
pub use product::{Accumulate, Matrix, MatrixMut, product};
pub use recurrence::{PackedRecurrence, Recurrence};
pub use softmax::cross_entropy;
pub use vector::{column_sums, fill_bias, multiply, sum_of_squares};
