//! The most that this machine can do: multiply-adds, and bytes read, in a second. The measure of every kernel.
//!
//! Both use the chosen instruction set and as many threads as kernels do, and both take the best of several bursts: a
//! peak is what the machine can reach, and anything that disturbs it only makes it look lower.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::gemm::arithmetic::{Arithmetic, FactorKernel, Format, Precision};
use crate::simd::{Kernel, Simd, dispatch};
use crate::team;

/// The length of a burst: long against the start of the threads (some 10 µs), short enough that on a machine with other
/// work some bursts run undisturbed.
const BURST: Duration = Duration::from_millis(4);

/// The bursts of which the best counts.
const BURSTS: usize = 50;

/// The most operations a second with factors of a precision, in GFLOP/s; a multiply-add is two.
///
/// Independent chains of multiply-adds on registers alone: no load, no store, nothing to wait for. Where factors are in two parts, the
/// three products of one multiply-add count as one.
pub fn peak_gflops(precision: Precision) -> f64 {
    let format = Format::of(precision);
    let operations = 2 * format.dispatch(MultiplyAdds { rounds: 1 });
    let rate = best_rate(|rounds, _, _| {
        format.dispatch(MultiplyAdds { rounds });
    });
    let parts = if let Format::Words(words) = format { words.parts() } else { 1 };
    rate * operations as f64 * 1e-9 / parts as f64
}

/// How fast the threads together read an array of `bytes` again and again, in GB/s, each its own part: from the cache
/// that holds it, or from memory. It bounds whatever must read its weights once for every token.
pub fn read_gigabytes_per_second(bytes: usize) -> f64 {
    let data = vec![1u32; (bytes / 4).max(1)];
    let parts = best_rate(|rounds, index, count| {
        let part = data.chunks(data.len().div_ceil(count)).nth(index).unwrap_or(&[]);
        for _ in 0..rounds {
            black_box(dispatch(Sum { part: black_box(part) }));
        }
    });
    parts / team::threads() as f64 * (4 * data.len()) as f64 * 1e-9
}

/// How many rounds of `work(rounds, index, count)` all members of the team together do in a second, in the best burst.
fn best_rate(work: impl Fn(usize, usize, usize) + Sync) -> f64 {
    let (mut rounds, mut bursts, mut best) = (1, 0, 0.0f64);
    let members = AtomicUsize::new(0);
    while bursts < BURSTS {
        let start = Instant::now();
        team::run(team::threads(), |member| {
            work(rounds, member.index, member.count);
            members.store(member.count, Ordering::Relaxed);
        });
        let taken = start.elapsed();
        if taken < BURST {
            rounds *= 2;
            continue;
        }
        best = best.max((rounds * members.load(Ordering::Relaxed)) as f64 / taken.as_secs_f64());
        bursts += 1;
    }
    best
}

/// `rounds` of one multiply-add in every lane of every chain; gives the multiply-adds of a round.
struct MultiplyAdds {
    rounds: usize,
}

impl FactorKernel for MultiplyAdds {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd, A: Arithmetic>(self, simd: S) -> usize {
        if A::TILES {
            return simd.chain_tiles(self.rounds);
        }
        // Two units times a latency of four to five cycles need ten chains in flight, four units twenty; a register is
        // left for the factor. An instruction set with small tiles has 16 registers, the others 32.
        if S::TILE_ROWS < 8 { chains::<S, A, 12>(simd, self.rounds) } else { chains::<S, A, 24>(simd, self.rounds) }
    }
}

#[inline(always)]
fn chains<S: Simd, A: Arithmetic, const CHAINS: usize>(simd: S, rounds: usize) -> usize {
    // x ← x · factor + factor stays near factor / (1 − factor), and sums of pairs grow until they stay as they are, far from
    // infinities and subnormals.
    let factor = simd.splat(black_box(0.75));
    // Different starts, or the chains would be one to the compiler.
    let mut chains: [S::V; CHAINS] = [factor; CHAINS];
    for (i, chain) in chains.iter_mut().enumerate() {
        *chain = simd.splat(i as f32);
    }
    for _ in 0..rounds {
        for chain in &mut chains {
            // Of pairs a sum is no factor.
            let (a, b, c) = if A::IS_F32 { (*chain, factor, factor) } else { (factor, factor, *chain) };
            *chain = A::add_product(simd, a, b, c);
        }
    }
    black_box(chains);
    S::LANES * CHAINS * if A::IS_F32 { 1 } else { 2 }
}

/// The sum of the values: one addition a load, in as wide vectors as the instruction set has.
struct Sum<'a> {
    part: &'a [u32],
}

impl Kernel for Sum<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> u32 {
        self.part.iter().fold(0, |sum, x| sum.wrapping_add(*x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::vectors;

    #[test]
    fn the_sum_reads_every_value() {
        for len in [0, 1, 63, 64, 1001] {
            let values: Vec<u32> = (0..len).collect();
            let expected = len * len.saturating_sub(1) / 2;
            for (isa, name) in vectors() {
                assert_eq!(isa.run(Sum { part: &values }), expected, "{name}");
            }
        }
    }

    #[test]
    fn peaks_are_rates_of_a_machine() {
        let every = [Precision::F32, Precision::Bf16x3, Precision::Bf16];
        assert!(every.iter().all(|precision| peak_gflops(*precision) > 0.01));
        assert!(read_gigabytes_per_second(1 << 20) > 0.01);
    }
}
