//! The instruction sets of this processor, and the choice among them.

use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::scalar::Scalar;
use super::vector::{Kernel, Simd};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512, MULTIPLY_ADDS, PAIRS, TILES};

/// Runs a kernel on the chosen instruction set.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    chosen().run(kernel)
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

/// The name of the vectors in use: `avx512`, `avx2`, `neon` or `scalar`. The environment variable `LSTM_ISA` forces them, without
/// the tiles that `amx` would add.
pub fn isa() -> &'static str {
    chosen().vectors()
}

/// Checks the environment variable `LSTM_ISA`.
///
/// # Errors
/// A sentence, when it names an instruction set that does not exist or that this processor lacks. Kernels then use the
/// best one there is.
pub fn check_isa() -> Result<(), String> {
    let Ok(forced) = std::env::var("LSTM_ISA") else { return Ok(()) };
    let mut names: Vec<_> = available().into_iter().map(Isa::name).collect();
    names.dedup();
    if names.contains(&forced.as_str()) {
        return Ok(());
    }
    let known = ["amx", "avx512", "avx2", "neon", "scalar"].contains(&forced.as_str());
    let why = if known { "an instruction set this processor lacks" } else { "no instruction set" };
    Err(format!("LSTM_ISA is `{forced}`, {why}; set it to one of {}, or unset it", names.join(", ")))
}

/// An instruction set that this processor has: its vectors, and what computes products of bf16.
#[derive(Clone, Copy)]
pub(crate) enum Isa {
    /// AVX-512 with tiles of bf16.
    #[cfg(target_arch = "x86_64")]
    Amx(Avx512<TILES>),
    /// With `vdpbf16ps`.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512<PAIRS>),
    /// This and what follows: by multiply-adds of f32.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512<MULTIPLY_ADDS>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    Scalar,
}

impl Isa {
    /// The name of its vectors.
    fn vectors(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) | Self::Avx512Bf16(_) | Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            Self::Scalar => "scalar",
        }
    }

    /// The name of what computes products of bf16.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => "amx",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_) => "avx512bf16",
            other => other.vectors(),
        }
    }

    /// The name that forces it, or one with more.
    fn name(self) -> &'static str {
        if self.has_tiles() { self.unit() } else { self.vectors() }
    }

    /// Whether it has tiles of bf16.
    pub(crate) fn has_tiles(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self, Self::Amx(_));
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Runs a kernel on its vectors.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(simd) => simd.vectors().run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(simd) => simd.vectors().run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => simd.run(kernel),
            Self::Scalar => kernel.run(Scalar),
        }
    }

    /// Runs a kernel of pairs of bf16 on it, which computes the same bits on each: those of `vdpbf16ps`. Vectors have as many lanes
    /// as those of [`Self::run`].
    pub(crate) fn run_pairs<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(simd) => simd.pairs().run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(simd) => simd.run(kernel),
            other => other.run(kernel),
        }
    }

    /// Runs a kernel of tiles of bf16 on it: the bits are those of `tdpbf16ps`, which in tests every instruction set computes by
    /// definition.
    pub(crate) fn run_tiles<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(simd) => simd.run_and_release(kernel),
            #[cfg(test)]
            other => other.run(kernel),
            // A format of tiles is that of an instruction set that has them.
            #[cfg(not(test))]
            _ => unreachable!("products of tiles on {}", self.unit()),
        }
    }
}

/// Runs a kernel of pairs of bf16 on the chosen instruction set.
pub(crate) fn dispatch_pairs<K: Kernel>(kernel: K) -> K::Output {
    chosen().run_pairs(kernel)
}

/// Runs a kernel of tiles of bf16 on the chosen instruction set.
pub(crate) fn dispatch_tiles<K: Kernel>(kernel: K) -> K::Output {
    chosen().run_tiles(kernel)
}

/// Whether the chosen instruction set has tiles of bf16.
pub(crate) fn has_tiles() -> bool {
    chosen().has_tiles()
}

/// The name of what computes products of bf16: `amx` or `avx512bf16` where the processor has instructions for them, else as
/// [`isa`], by multiply-adds of f32.
pub fn pairs_isa() -> &'static str {
    chosen().unit()
}

fn chosen() -> Isa {
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let all = available();
        let forced = std::env::var("LSTM_ISA").unwrap_or_default();
        *all.iter().find(|isa| isa.name() == forced).unwrap_or(&all[0])
    })
}

/// The instruction sets of this processor, best first; scalar always.
pub(crate) fn available() -> Vec<Isa> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        all.extend(Avx512::<TILES>::detect().map(Isa::Amx));
        all.extend(Avx512::<PAIRS>::detect().map(Isa::Avx512Bf16));
        all.extend(Avx512::<MULTIPLY_ADDS>::detect().map(Isa::Avx512));
        all.extend(Avx2::detect().map(Isa::Avx2));
    }
    #[cfg(target_arch = "aarch64")]
    all.push(Isa::Neon(Neon::new()));
    all.push(Isa::Scalar);
    all
}

/// Those whose vectors differ, with their names, for tests of f32.
#[cfg(test)]
pub(crate) fn vectors() -> Vec<(Isa, &'static str)> {
    let mut all: Vec<_> = available().into_iter().map(|isa| (isa, isa.vectors())).collect();
    all.dedup_by_key(|(_, name)| *name);
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
        for (isa, name) in vectors() {
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
