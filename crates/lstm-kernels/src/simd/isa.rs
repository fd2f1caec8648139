//! The instruction sets of this processor, and the choice among them.

use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::scalar::Scalar;
use super::vector::{Kernel, Simd};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};

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
    Avx512(Avx512<false>),
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

/// An instruction set for products of bf16, which compute the same bits on each: those of `vdpbf16ps`.
#[derive(Clone, Copy)]
pub(crate) enum PairIsa {
    /// With the instruction itself.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512<true>),
    /// By multiply-adds of f32, as those below.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512<false>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    Scalar,
}

impl PairIsa {
    /// Runs a kernel on it.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(simd) => simd.run(kernel),
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

/// Runs a kernel of pairs of bf16 on the chosen instruction set. Vectors have as many lanes as those of [`dispatch`].
pub(crate) fn dispatch_pairs<K: Kernel>(kernel: K) -> K::Output {
    chosen_pairs().0.run(kernel)
}

/// The name of what computes products of bf16: `avx512bf16` where the processor has an instruction for them, else as
/// [`isa`], by multiply-adds of f32.
pub fn pairs_isa() -> &'static str {
    chosen_pairs().1
}

fn chosen_pairs() -> &'static (PairIsa, &'static str) {
    static CHOSEN: OnceLock<(PairIsa, &'static str)> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let all = available_pairs();
        let chosen = isa();
        *all.iter().find(|(_, name)| name.starts_with(chosen)).unwrap_or(&all[all.len() - 1])
    })
}

/// The instruction sets of this processor for products of bf16, best first; scalar always.
pub(crate) fn available_pairs() -> Vec<(PairIsa, &'static str)> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = Avx512::<true>::detect() {
            all.push((PairIsa::Avx512Bf16(simd), "avx512bf16"));
        }
        if let Some(simd) = Avx512::<false>::detect() {
            all.push((PairIsa::Avx512(simd), "avx512"));
        }
        if let Some(simd) = Avx2::detect() {
            all.push((PairIsa::Avx2(simd), "avx2"));
        }
    }
    #[cfg(target_arch = "aarch64")]
    all.push((PairIsa::Neon(Neon::new()), "neon"));
    all.push((PairIsa::Scalar, "scalar"));
    all
}

fn chosen() -> &'static (Isa, &'static str) {
    static CHOSEN: OnceLock<(Isa, &'static str)> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let all = available();
        let forced = std::env::var("LSTM_ISA").unwrap_or_default();
        *all.iter().find(|(_, name)| *name == forced).unwrap_or(&all[0])
    })
}

/// The instruction sets of this processor, best first; scalar always.
pub(crate) fn available() -> Vec<(Isa, &'static str)> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = Avx512::<false>::detect() {
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
