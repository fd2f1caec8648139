//! Vectors of f32 as the kernels use them, one implementation for each instruction set, and the choice among them.
//!
//! A value of an instruction set, such as [`x86::Avx512`], is proof that the processor has the instructions: only detection
//! makes one, so a kernel that takes it may use them. A kernel must be `#[inline(always)]` down to its innermost function,
//! for only what is inlined into [`dispatch`] is compiled with the instructions; that holds for closures too.

#[cfg(target_arch = "x86_64")]
mod amx;
mod int8;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod trap;
mod vector;
mod words;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use int8::{GROUP, OUTPUTS, int8};
#[cfg(test)]
pub(crate) use isa::{Isa, available, vectors};
pub(crate) use isa::{MOST_LANES, dispatch, dispatch_pairs, dispatch_tiles, has_tiles, lanes};
pub use isa::{check_isa, isa, pairs_isa};
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
pub(crate) use trap::trapped;
pub(crate) use vector::{FirstLanes, Kernel, Lane, Simd, WholeVector, for_vectors};
pub(crate) use words::{TILE_ROWS, TILE_WORDS, TileProduct};
#[cfg(test)]
pub(crate) use words::{dot_of_tile, dot_of_words, rounded, word};
