//! What a product multiplies: values, or pairs of bf16. And which of them products use.

use std::cell::Cell;

use crate::simd::{Kernel, Simd, dispatch, dispatch_pairs};

/// The precision of the factors of products; sums are f32 in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bf16, to the nearest: twice the speed where the processor has `vdpbf16ps` at the rate of a multiply-add.
    Bf16,
}

thread_local! {
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Runs `work` with factors of this precision in every matrix product that the calling thread asks for, those of recurrences
/// included. Steps of a [`StepPlan`](crate::StepPlan) have the precision of their weights.
pub fn with_precision<T>(precision: Precision, work: impl FnOnce() -> T) -> T {
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            PRECISION.set(self.0);
        }
    }
    let _restore = Restore(PRECISION.replace(precision));
    work()
}

/// That of products asked for here and now.
pub(crate) fn precision() -> Precision {
    PRECISION.get()
}

/// The innermost step of a product. Factors are words: values, or pairs of them along k.
pub(crate) trait Arithmetic: Copy + Send + Sync + 'static {
    /// The values of a word.
    const VALUES: usize;

    /// c + a · b.
    fn add_product<S: Simd>(simd: S, a: S::V, b: S::V, c: S::V) -> S::V;

    /// Runs a kernel on the best instruction set for it.
    fn dispatch<K: Kernel>(kernel: K) -> K::Output;

    /// The words of so many values.
    fn words(values: usize) -> usize {
        values.div_ceil(Self::VALUES)
    }
}

/// f32.
#[derive(Clone, Copy)]
pub(crate) struct Values;

/// Pairs of bf16.
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

impl Arithmetic for Values {
    const VALUES: usize = 1;

    #[inline(always)]
    fn add_product<S: Simd>(simd: S, a: S::V, b: S::V, c: S::V) -> S::V {
        simd.mul_add(a, b, c)
    }

    fn dispatch<K: Kernel>(kernel: K) -> K::Output {
        dispatch(kernel)
    }
}

impl Arithmetic for Pairs {
    const VALUES: usize = 2;

    #[inline(always)]
    fn add_product<S: Simd>(simd: S, a: S::V, b: S::V, c: S::V) -> S::V {
        simd.dot_pairs(a, b, c)
    }

    fn dispatch<K: Kernel>(kernel: K) -> K::Output {
        dispatch_pairs(kernel)
    }
}
