//! Vectors of f32 as the kernels use them, one implementation for each instruction set, and the choice among them.
//!
//! A value of [`Avx512`], [`Avx2`] or [`Neon`] is proof that the processor has the instructions: only detection makes
//! one, so a kernel that takes it may use them. A kernel must be `#[inline(always)]` down to its innermost function, for
//! only what is inlined into [`dispatch`] is compiled with the instructions; that holds for closures too.

mod lane;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

pub(crate) use lane::{FirstLanes, Lane, WholeVector, for_vectors};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// The vector operations of one instruction set.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// A vector of [`Self::LANES`] values.
    type V: Copy;
    /// The values of a vector, a multiple of 4.
    const LANES: usize;
    /// The most rows of a register tile of two vectors of columns: its sums, two vectors of the right factor and a
    /// broadcast value stay in registers.
    const TILE_ROWS: usize;

    /// Runs a kernel that is compiled for this instruction set once, and called.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;
    /// The same value in every lane.
    fn splat(self, value: f32) -> Self::V;
    /// # Safety
    /// `at` is readable for [`Self::LANES`] values.
    unsafe fn load(self, at: *const f32) -> Self::V;
    /// # Safety
    /// `at` is writable for [`Self::LANES`] values.
    unsafe fn store(self, at: *mut f32, value: Self::V);
    /// The first `count` values, zero in the other lanes.
    ///
    /// # Safety
    /// `at` is readable for `count` values, at most [`Self::LANES`].
    unsafe fn load_first(self, at: *const f32, count: usize) -> Self::V;
    /// Stores the first `count` lanes.
    ///
    /// # Safety
    /// `at` is writable for `count` values, at most [`Self::LANES`].
    unsafe fn store_first(self, at: *mut f32, count: usize, value: Self::V);
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// 1 / a, to 2 ULP; 0 where that is less than a normal number.
    #[inline(always)]
    fn reciprocal(self, a: Self::V) -> Self::V {
        self.div(self.splat(1.0), a)
    }
    /// Asks for a cache line to be brought to the second-level cache; any address may be given.
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        let _ = at;
    }
    /// √a
    fn sqrt(self, a: Self::V) -> Self::V;
    /// a · b + c, rounded once where the instruction set can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a · b, rounded once where the instruction set can.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · 2ⁿ` for the whole number `n`, of which 1.5 · 2²³ was added: `shifted = n + 1.5 · 2²³`. The result is a
    /// normal number for n in [-126, 127] and a in [0.5, 2).
    fn scale(self, a: Self::V, n: Self::V, shifted: Self::V) -> Self::V;
    /// The values of a vector, for reductions.
    fn lanes(self, a: Self::V) -> [f32; 16];
    /// Writes the transpose of a square: `to[c · to_stride + r] = from[r · from_stride + c]` for r and c below
    /// [`Self::LANES`].
    ///
    /// # Safety
    /// Both are accessible for [`Self::LANES`] rows of [`Self::LANES`] values at their strides.
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for c in 0..Self::LANES {
            for r in 0..Self::LANES {
                // SAFETY: as the caller promises.
                unsafe { *to.add(c * to_stride + r) = *from.add(r * from_stride + c) };
            }
        }
    }
}

/// A computation that is compiled once for each instruction set.
pub(crate) trait Kernel {
    /// What it gives.
    type Output;
    /// Runs it; must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs a kernel on the chosen instruction set.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    chosen().0.run(kernel)
}

/// The lanes of the widest vectors.
pub(crate) const MOST_LANES: usize = 16;

/// The lanes of a vector of the chosen instruction set.
pub(crate) fn lanes() -> usize {
    dispatch(Lanes)
}

struct Lanes;

impl Kernel for Lanes {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::LANES
    }
}

/// The name of the instruction set in use: `avx512`, `avx2`, `neon` or `scalar`. The environment variable `LSTM_ISA`
/// forces one.
pub fn isa() -> &'static str {
    chosen().1
}

/// Checks the environment variable `LSTM_ISA`.
///
/// # Errors
/// A sentence, when it names an instruction set that does not exist or that this processor lacks. Kernels then use the
/// best one there is.
pub fn check_isa() -> Result<(), String> {
    let Ok(forced) = std::env::var("LSTM_ISA") else { return Ok(()) };
    let names: Vec<_> = available().into_iter().map(|(_, name)| name).collect();
    if names.contains(&forced.as_str()) {
        return Ok(());
    }
    let known = ["avx512", "avx2", "neon", "scalar"].contains(&forced.as_str());
    let why = if known { "an instruction set this processor lacks" } else { "no instruction set" };
    Err(format!("LSTM_ISA is `{forced}`, {why}; set it to one of {}, or unset it", names.join(", ")))
}

/// An instruction set that this processor has.
#[derive(Clone, Copy)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    Scalar,
}

impl Isa {
    /// Runs a kernel on it.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => simd.run(kernel),
            Self::Scalar => kernel.run(Scalar),
        }
    }
}

fn chosen() -> &'static (Isa, &'static str) {
    static CHOSEN: OnceLock<(Isa, &'static str)> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let all = available();
        let forced = std::env::var("LSTM_ISA").unwrap_or_default();
        *all.iter().find(|(_, name)| *name == forced).unwrap_or(&all[0])
    })
}

/// What this processor has, best first; scalar always.
pub(crate) fn available() -> Vec<(Isa, &'static str)> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = Avx512::detect() {
            all.push((Isa::Avx512(simd), "avx512"));
        }
        if let Some(simd) = Avx2::detect() {
            all.push((Isa::Avx2(simd), "avx2"));
        }
    }
    #[cfg(target_arch = "aarch64")]
    all.push((Isa::Neon(Neon::new()), "neon"));
    all.push((Isa::Scalar, "scalar"));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    /// A square of a larger matrix, into one of another size.
    struct Square<'a> {
        from: &'a [f32],
        to: &'a mut [f32],
    }

    impl Kernel for Square<'_> {
        type Output = usize;

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> usize {
            // SAFETY: 16 rows of each stride, as many as the widest vectors have lanes.
            unsafe { simd.transpose(self.from.as_ptr(), 19, self.to.as_mut_ptr(), 21) };
            S::LANES
        }
    }

    #[test]
    fn a_square_is_transposed_and_nothing_else_is_written() {
        let from = values(16 * 19, 1);
        for (isa, name) in available() {
            let mut to = vec![2.0; 16 * 21];
            let lanes = isa.run(Square { from: &from, to: &mut to });
            for (at, got) in to.iter().enumerate() {
                let (c, r) = (at / 21, at % 21);
                let expected = if r < lanes && c < lanes { from[r * 19 + c] } else { 2.0 };
                assert_eq!(*got, expected, "{name}: row {r}, column {c}");
            }
        }
    }
}
