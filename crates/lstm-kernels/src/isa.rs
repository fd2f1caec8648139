//! The instruction set, chosen once at run time; `LSTM_ISA=scalar|avx2|avx512` forces one for tests.

use std::sync::OnceLock;

use pulp::{Arch, WithSimd};

/// Runs a kernel on the chosen instruction set.
pub(crate) fn dispatch<K: WithSimd>(kernel: K) -> K::Output {
    chosen().0.dispatch(kernel)
}

/// The name of the instruction set in use: `avx512`, `avx2+fma`, `neon` or `scalar`.
pub fn isa() -> &'static str {
    chosen().1
}

fn chosen() -> &'static (Arch, &'static str) {
    static CHOSEN: OnceLock<(Arch, &'static str)> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let all = available();
        let forced = std::env::var("LSTM_ISA").unwrap_or_default();
        // An instruction set this processor lacks cannot be forced; the best one it has is used.
        *all.iter().find(|(_, name)| !forced.is_empty() && name.starts_with(&forced)).unwrap_or(&all[0])
    })
}

/// What this processor has, best first; scalar always.
pub(crate) fn available() -> Vec<(Arch, &'static str)> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            all.push((Arch::V4(simd), "avx512"));
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            all.push((Arch::V3(simd), "avx2+fma"));
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(simd) = pulp::aarch64::Neon::try_new() {
        all.push((Arch::Neon(simd), "neon"));
    }
    all.push((Arch::Scalar, "scalar"));
    all
}
