//! Vectors of f32 as the kernels use them, one implementation for each instruction set, and the choice among them.
//!
//! A value of an instruction set, such as [`x86::Avx512`], is proof that the processor has the instructions: only detection
//! makes one, so a kernel that takes it may use them. A kernel must be `#[inline(always)]` down to its innermost function,
//! for only what is inlined into [`dispatch`] is compiled with the instructions; that holds for closures too.

mod int8;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use int8::{GROUP, OUTPUTS, int8};
#[cfg(test)]
pub(crate) use isa::{Isa, available, available_pairs};
pub(crate) use isa::{MOST_LANES, dispatch, dispatch_pairs, lanes};
pub use isa::{check_isa, isa, pairs_isa};
pub(crate) use vector::{FirstLanes, Kernel, Lane, Simd, WholeVector, for_vectors};
#[cfg(test)]
pub(crate) use vector::{dot_of_words, word};
