//! Weights of fewer bits for one token at a time, which costs the bytes of the weights it reads: bf16, or bytes with a scale a row.
//!
//! A panel is 64 outputs: of bf16 `[panel][k][32 words]`, each the outputs j and 32 + j, multiplied as f32 by f32 inputs; of bytes
//! `[panel][k / 4][64][4]`, multiplied by inputs that are bytes too, with a scale for every row of them. Sums of bytes are
//! exact; those of bf16 run over k in two accumulators, even and odd.

use std::cell::RefCell;
use std::ops::Range;

use crate::gemm::matrix::{Initial, Out, Source};
use crate::simd::{GROUP, OUTPUTS, Simd, int8};
use crate::team::chunks::share;

/// How the weights of a step are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// As they are: 4 bytes each.
    #[default]
    F32,
    /// Rounded to bf16, to the nearest: 2 bytes.
    Bf16,
    /// Rounded to whole multiples of a scale, one for each row of a weight, up to 127 of them: 1 byte.
    Int8,
}

/// A weight `[N, K]` of fewer bits, packed.
#[derive(Debug)]
pub(crate) struct NarrowFactor {
    depth: usize,
    outputs: usize,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bf16(Lines),
    Int8 {
        bytes: Lines,
        /// `[N]`.
        scales: Vec<f32>,
        /// `[panels · 64]`: the sums of the bytes over K.
        sums: Vec<i32>,
    },
}

/// Words that begin with a cache line.
#[derive(Debug)]
struct Lines(Vec<Line>);

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u32; 16]);

impl Lines {
    fn zeros(words: usize) -> Self {
        Self(vec![Line([0; 16]); words.div_ceil(16)])
    }

    fn words(&self) -> &[u32] {
        // SAFETY: a line is an array of words without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), 16 * self.0.len()) }
    }

    fn bytes(&self) -> &[i8] {
        // SAFETY: words are four bytes each, any of which is an i8.
        unsafe { std::slice::from_raw_parts(self.words().as_ptr().cast(), 4 * self.words().len()) }
    }

    fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: a line is an array of words without padding.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), 16 * self.0.len()) }
    }

    fn bytes_mut(&mut self) -> &mut [i8] {
        let words = self.words_mut();
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 4 * words.len()) }
    }
}

/// `x` to the nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub(crate) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The scale of a row of weights as bytes: its largest over 127, in 17 bits, so that 127 times it is exact. Bytes and scale of
/// what they stand for are the same again.
pub fn row_scale(row: &[f32]) -> f32 {
    let most = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let scale = most / 127.0;
    let shortened = f32::from_bits(scale.to_bits() & !0x7f);
    let scale = if shortened * 127.0 >= most { shortened } else { f32::from_bits((scale.to_bits() & !0x7f) + 0x80) };
    if scale.is_normal() { scale } else { 0.0 }
}

/// `x` in whole multiples of `scale`, at most 127.
#[inline(always)]
pub fn to_int8(x: f32, scale: f32) -> i8 {
    // A cast takes what is beyond to the ends, and NaN to zero.
    if scale > 0.0 { (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8 } else { 0 }
}

impl NarrowFactor {
    /// Packs `weight`, `[N, K]`.
    ///
    /// # Panics
    /// When the weight is of another size, or `kind` is f32.
    pub(crate) fn pack(weight: &[f32], depth: usize, kind: Weights) -> Self {
        let outputs = weight.len() / depth.max(1);
        assert_eq!(weight.len(), outputs * depth, "a weight is [N, K]");
        let panels = outputs.div_ceil(OUTPUTS);
        let rows = || weight.chunks_exact(depth.max(1)).enumerate();
        let values = match kind {
            Weights::F32 => unreachable!("weights of fewer bits"),
            Weights::Bf16 => {
                let mut lines = Lines::zeros(panels * depth * OUTPUTS / 2);
                let words = lines.words_mut();
                for (output, row) in rows() {
                    let (panel, column) = (output / OUTPUTS, output % OUTPUTS);
                    for (k, x) in row.iter().enumerate() {
                        let word = &mut words[(panel * depth + k) * OUTPUTS / 2 + column % (OUTPUTS / 2)];
                        *word |= u32::from(to_bf16(*x)) << if column < OUTPUTS / 2 { 0 } else { 16 };
                    }
                }
                Values::Bf16(lines)
            }
            Weights::Int8 => {
                let groups = depth.div_ceil(GROUP);
                let mut lines = Lines::zeros(panels * groups * OUTPUTS * GROUP / 4);
                let mut sums = vec![0; panels * OUTPUTS];
                let mut scales = Vec::with_capacity(outputs);
                let bytes = lines.bytes_mut();
                for (output, row) in rows() {
                    let (panel, column, scale) = (output / OUTPUTS, output % OUTPUTS, row_scale(row));
                    scales.push(scale);
                    for (k, x) in row.iter().enumerate() {
                        let byte = to_int8(*x, scale);
                        bytes[((panel * groups + k / GROUP) * OUTPUTS + column) * GROUP + k % GROUP] = byte;
                        sums[output] += i32::from(byte);
                    }
                }
                Values::Int8 { bytes: lines, scales, sums }
            }
        };
        Self { depth, outputs, values }
    }

    /// The bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.values {
            Values::Bf16(lines) => 64 * lines.0.len(),
            Values::Int8 { bytes, scales, sums } => 64 * bytes.0.len() + 4 * (scales.len() + sums.len()),
        }
    }

    /// out `[rows, N]` = initial + left `[rows, K]` · weightᵀ, for one of several shares of the outputs.
    ///
    /// # Safety
    /// `left` is readable and dense within rows, `out` writable for its share and nobody else's.
    #[inline(always)]
    pub(crate) unsafe fn product<S: Simd>(
        &self,
        simd: S,
        rows: usize,
        left: Source,
        out: Out,
        (parts, part): (usize, usize),
    ) {
        let panels = share(self.outputs.div_ceil(OUTPUTS), parts, part);
        if panels.is_empty() {
            return;
        }
        // SAFETY: as the caller promises.
        unsafe {
            match &self.values {
                Values::Bf16(lines) => self.bf16(simd, lines.words(), rows, left, out, panels),
                Values::Int8 { bytes, scales, sums } => {
                    self.int8(simd, (bytes.bytes(), scales, sums), rows, left, out, panels);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn bf16<S: Simd>(&self, simd: S, words: &[u32], rows: usize, left: Source, out: Out, panels: Range<usize>) {
        let mut sums = [0.0; OUTPUTS];
        for panel in panels {
            let words = words[panel * self.depth * OUTPUTS / 2..].as_ptr();
            for row in 0..rows {
                // SAFETY: rows as the caller promises; the panel has `depth` rows of words.
                unsafe {
                    bf16_panel(simd, self.depth, left.at(row, 0).data, words, &mut sums);
                    store(out, row, panel * OUTPUTS..self.outputs.min((panel + 1) * OUTPUTS), |i| sums[i]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn int8<S: Simd>(
        &self,
        simd: S,
        (bytes, scales, weights): (&[i8], &[f32], &[i32]),
        rows: usize,
        left: Source,
        out: Out,
        panels: Range<usize>,
    ) {
        thread_local! {
            /// The rows as bytes, and their scales.
            static INPUT: RefCell<(Vec<i8>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
        }
        let unit = int8();
        let depth = self.depth.next_multiple_of(GROUP);
        let (mut input, mut input_scales) = INPUT.take();
        input.clear();
        input.resize(rows * depth, 0);
        input_scales.clear();
        for row in 0..rows {
            // SAFETY: as the caller promises.
            let values = unsafe { std::slice::from_raw_parts(left.at(row, 0).data, self.depth) };
            input_scales.push(quantise(simd, values, &mut input[row * depth..][..self.depth]));
        }
        for panel in panels {
            let own = panel * OUTPUTS..self.outputs.min((panel + 1) * OUTPUTS);
            let bytes = &bytes[panel * depth * OUTPUTS..][..depth * OUTPUTS];
            let weights = weights[panel * OUTPUTS..].first_chunk().expect("a panel of sums");
            for (row, scale) in input_scales.iter().enumerate() {
                let mut sums = [0; OUTPUTS];
                unit.add_panel(&input[row * depth..][..depth], bytes, weights, &mut sums);
                let scales = &scales[own.clone()];
                // SAFETY: as the caller promises.
                unsafe { store(out, row, own.clone(), |i| scale * scales[i] * sums[i] as f32) };
            }
        }
        INPUT.set((input, input_scales));
    }
}

/// A row as bytes; gives its scale, NaN of a row with a value that is no finite number.
#[inline(always)]
fn quantise<S: Simd>(_: S, values: &[f32], bytes: &mut [i8]) -> f32 {
    let bits = values.iter().fold(0, |most: u32, x| most.max(x.to_bits() & 0x7fff_ffff));
    let most = f32::from_bits(bits);
    if !most.is_finite() {
        return f32::NAN;
    }
    let scale = most / 127.0;
    let inverse = if scale.is_normal() { 127.0 / most } else { 0.0 };
    for (byte, x) in bytes.iter_mut().zip(values) {
        // The nearest whole number lies in the low bits of what is near 1.5 · 2²³.
        *byte = (x * inverse + 12_582_912.0).to_bits() as i8;
    }
    if scale.is_normal() { scale } else { 0.0 }
}

#[inline(always)]
unsafe fn bf16_panel<S: Simd>(simd: S, depth: usize, x: *const f32, words: *const u32, sums: &mut [f32; OUTPUTS]) {
    // As many words as registers take, for narrow vectors; all 32 at once for the widest.
    const HALF: usize = OUTPUTS / 2;
    let step = if S::LANES == 16 { HALF } else { HALF / 4 };
    for first in (0..HALF).step_by(step) {
        // Vectors of words; low and high; even and odd k.
        let mut totals = [[[simd.splat(0.0); 2]; 2]; 2];
        let pairs = depth / 2;
        for pair in 0..pairs {
            for odd in 0..2 {
                let k = 2 * pair + odd;
                // SAFETY: inside the panel and the row, as the caller promises.
                unsafe { add_words(simd, &mut totals[odd], *x.add(k), words.add(k * HALF + first), step) };
            }
        }
        if !depth.is_multiple_of(2) {
            let k = depth - 1;
            // SAFETY: as above.
            unsafe { add_words(simd, &mut totals[0], *x.add(k), words.add(k * HALF + first), step) };
        }
        for v in 0..step / S::LANES {
            for half in 0..2 {
                let total = simd.add(totals[0][v][half], totals[1][v][half]);
                // SAFETY: a vector inside the sums.
                unsafe { simd.store(sums.as_mut_ptr().add(half * HALF + first + v * S::LANES), total) };
            }
        }
    }
}

/// totals += x · the halves of `step` words.
#[inline(always)]
unsafe fn add_words<S: Simd>(simd: S, totals: &mut [[S::V; 2]; 2], x: f32, words: *const u32, step: usize) {
    let factor = simd.splat(x);
    // About a microsecond ahead of a stream that no cache holds.
    simd.prefetch(words.wrapping_add(512).cast());
    simd.prefetch(words.wrapping_add(512 + 16).cast());
    for v in 0..step / S::LANES {
        // SAFETY: as the caller promises.
        let halves = unsafe { simd.load_halves(words.add(v * S::LANES)) };
        for half in 0..2 {
            totals[v][half] = simd.mul_add(factor, halves[half], totals[v][half]);
        }
    }
}

/// Stores some columns of a row: what the sums start from, and the sums, of the first column on.
#[inline(always)]
unsafe fn store(out: Out, row: usize, columns: Range<usize>, sum: impl Fn(usize) -> f32) {
    for (i, column) in columns.enumerate() {
        // SAFETY: as the caller promises.
        unsafe {
            let at = out.data.add(row * out.row + column);
            let initial = match out.initial {
                Initial::Zero => 0.0,
                Initial::Out => *at,
                Initial::Bias(bias) => *bias.add(column),
            };
            *at = initial + sum(i);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, vectors};
    use crate::testing::{close, values};

    struct Whole<'a> {
        factor: &'a NarrowFactor,
        rows: usize,
        left: Source,
        out: Out,
        parts: usize,
    }

    impl Kernel for Whole<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let Self { factor, rows, left, out, parts } = self;
            // SAFETY: the whole output.
            (0..parts).for_each(|part| unsafe { factor.product(simd, rows, left, out, (parts, part)) });
        }
    }

    /// What a weight stands for once packed.
    fn kept(weight: &[f32], depth: usize, kind: Weights) -> Vec<f32> {
        let keep = |row: &[f32]| -> Vec<f32> {
            let scale = row_scale(row);
            let one = |x: &f32| match kind {
                Weights::F32 => *x,
                Weights::Bf16 => f32::from_bits(u32::from(to_bf16(*x)) << 16),
                Weights::Int8 => f32::from(to_int8(*x, scale)) * scale,
            };
            row.iter().map(one).collect()
        };
        weight.chunks_exact(depth).flat_map(keep).collect()
    }

    #[test]
    fn products_are_those_of_the_weights_they_stand_for() {
        for (rows, depth, outputs) in [(1, 1, 1), (1, 33, 129), (3, 7, 64), (2, 650, 65), (5, 129, 200)] {
            let (a, weight, bias) = (values(rows * depth, 1), values(outputs * depth, 2), values(outputs, 3));
            for (kind, bound) in [(Weights::Bf16, 1e-5), (Weights::Int8, 6e-3)] {
                let kept = kept(&weight, depth, kind);
                let dot = |i: usize| -> f32 {
                    let (row, weights) = (&a[i / outputs * depth..][..depth], &kept[i % outputs * depth..][..depth]);
                    row.iter().zip(weights).map(|(a, b)| a * b).sum::<f32>() + bias[i % outputs]
                };
                let expected: Vec<f32> = (0..rows * outputs).map(dot).collect();
                let factor = NarrowFactor::pack(&weight, depth, kind);
                let mut bits: Option<Vec<f32>> = None;
                for (isa, name) in vectors() {
                    for parts in [1, 2, 3] {
                        let mut out = vec![0.0; rows * outputs];
                        let to = Out { data: out.as_mut_ptr(), row: outputs, initial: Initial::Bias(bias.as_ptr()) };
                        let left = Source { data: a.as_ptr(), row: depth, column: 1 };
                        isa.run(Whole { factor: &factor, rows, left, out: to, parts });
                        let size = (depth as f32).sqrt();
                        out.iter().zip(&expected).for_each(|(a, b)| {
                            assert!((a - b).abs() <= bound * size, "{name}, {kind:?}, K {depth}: {a} and {b}");
                        });
                        if kind == Weights::Int8 {
                            assert_eq!(bits.get_or_insert_with(|| out.clone()), &out, "{name}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_bytes_stand_for_is_kept_as_the_same_bytes() {
        for depth in [1, 7, 129] {
            let weight: Vec<f32> = values(5 * depth, 9).iter().map(|x| x * 0.37).collect();
            let once = kept(&weight, depth, Weights::Int8);
            assert_eq!(once, kept(&once, depth, Weights::Int8));
            close(&once, &weight, 0.37 / 127.0);
        }
        assert_eq!((row_scale(&[0.0, -0.0]), to_int8(3.0, 0.0)), (0.0, 0));
    }

    /// A value that is no number is seen in its own row, and only there.
    #[test]
    fn rows_do_not_touch() {
        let (depth, outputs) = (9, 70);
        let weight = values(outputs * depth, 2);
        for kind in [Weights::Bf16, Weights::Int8] {
            let mut a = values(3 * depth, 1);
            a[depth + 8] = f32::NAN;
            let factor = NarrowFactor::pack(&weight, depth, kind);
            let mut out = vec![0.0; 3 * outputs];
            let to = Out { data: out.as_mut_ptr(), row: outputs, initial: Initial::Zero };
            let left = Source { data: a.as_ptr(), row: depth, column: 1 };
            vectors()[0].0.run(Whole { factor: &factor, rows: 3, left, out: to, parts: 1 });
            for (row, out) in out.chunks_exact(outputs).enumerate() {
                assert!(out.iter().all(|x| x.is_nan() == (row == 1)), "{kind:?}, row {row}");
            }
        }
    }
}
