//! What a product multiplies: values, or words of two bf16. Which of them products use, and how words follow each other along k.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::simd::{self, Kernel, Simd, TILE_WORDS, dispatch, dispatch_pairs, dispatch_tiles};

/// The precision of the factors of products; sums are f32 in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Each factor in two bf16, rounded and the rest rounded, and three products of the four, all but that of the rests: 16 to 17 bits.
    Bf16x3,
    /// Rounded to bf16, to the nearest: twice the speed where the processor has `vdpbf16ps` at the rate of a multiply-add, more with
    /// the tiles of AMX.
    Bf16,
}

/// How the values of a factor lie along k.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// As they are.
    #[default]
    Values,
    /// In words.
    Words(Words),
}

/// How the words of a factor follow each other along k. A word of 32 bits holds the values of k and k + 1 as bf16, the even one in its
/// low half.
///
/// In groups of [`TILE_WORDS`], the last one shorter unless it is for tiles; of factors in two parts each group three times, so that
/// a product over so many words adds up low · high, high · high and high · low: [`Factor`] has the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// Factors in two bf16 parts.
    pub(crate) split: bool,
    /// For tiles: K in whole groups, which are padded with zeros.
    pub(crate) tiles: bool,
}

/// A factor of a product. Of a factor in two parts the left one has its groups low, high, high, the right one high, high, low.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factor {
    Left,
    Right,
}

impl Factor {
    /// Whether the `part`-th of three has the low parts.
    #[inline(always)]
    pub(crate) fn is_low(self, part: usize) -> bool {
        part == if self == Self::Left { 0 } else { 2 }
    }
}

impl Words {
    /// How often each group comes.
    #[inline(always)]
    pub(crate) fn parts(self) -> usize {
        if self.split { 3 } else { 1 }
    }

    /// The words of so many values, each counted once.
    #[inline(always)]
    pub(crate) fn single(self, values: usize) -> usize {
        let words = values.div_ceil(2);
        if self.tiles { words.next_multiple_of(TILE_WORDS) } else { words }
    }

    /// The words of so many values.
    #[inline(always)]
    pub(crate) fn len(self, values: usize) -> usize {
        self.parts() * self.single(values)
    }

    /// Where the `word`-th of `single` words is, and how many words later it comes again.
    #[inline(always)]
    pub(crate) fn place(self, word: usize, single: usize) -> (usize, usize) {
        if !self.split {
            return (word, 0);
        }
        let (first, within) = (word - word % TILE_WORDS, word % TILE_WORDS);
        (3 * first + within, TILE_WORDS.min(single - first))
    }

    /// Runs a kernel on the instruction set for it.
    pub(crate) fn dispatch<K: FactorKernel>(self, kernel: K) -> K::Output {
        if self.tiles {
            dispatch_tiles(Of(kernel, PhantomData::<Tiles>))
        } else {
            dispatch_pairs(Of(kernel, PhantomData::<Pairs>))
        }
    }
}

impl Format {
    /// That of a precision on this machine.
    pub(crate) fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::Values,
            _ => Self::Words(Words { split: precision == Precision::Bf16x3, tiles: simd::has_tiles() }),
        }
    }

    /// The values, or words, that so many values are.
    #[inline(always)]
    pub(crate) fn len(self, values: usize) -> usize {
        match self {
            Self::Values => values,
            Self::Words(words) => words.len(values),
        }
    }

    /// Runs a kernel on the instruction set for it.
    pub(crate) fn dispatch<K: FactorKernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Values => dispatch(Of(kernel, PhantomData::<Values>)),
            Self::Words(words) => words.dispatch(kernel),
        }
    }
}

thread_local! {
    static FORMAT: Cell<Format> = const { Cell::new(Format::Values) };
}

/// Runs `work` with factors of this precision in every matrix product that the calling thread asks for, those of recurrences
/// included. Steps of a [`StepPlan`](crate::StepPlan) have the precision of their weights.
pub fn with_precision<T>(precision: Precision, work: impl FnOnce() -> T) -> T {
    with_format(Format::of(precision), work)
}

/// The same by format.
pub(crate) fn with_format<T>(format: Format, work: impl FnOnce() -> T) -> T {
    struct Restore(Format);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORMAT.set(self.0);
        }
    }
    let _restore = Restore(FORMAT.replace(format));
    work()
}

/// That of products asked for here and now.
pub(crate) fn format() -> Format {
    FORMAT.get()
}

/// The innermost step of a product. Factors are values, or words.
pub(crate) trait Arithmetic: Copy + Send + Sync + 'static {
    /// Whether factors are values.
    const IS_F32: bool = false;

    /// Whether products are made by tiles, [`TILE_WORDS`] words of k at a time.
    const TILES: bool = false;

    /// c + a · b; not of tiles.
    fn add_product<S: Simd>(simd: S, a: S::V, b: S::V, c: S::V) -> S::V;
}

/// f32.
#[derive(Clone, Copy)]
pub(crate) struct Values;

/// Words, by `vdpbf16ps`.
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

/// Words, by `tdpbf16ps`.
#[derive(Clone, Copy)]
pub(crate) struct Tiles;

impl Arithmetic for Values {
    const IS_F32: bool = true;

    #[inline(always)]
    fn add_product<S: Simd>(simd: S, a: S::V, b: S::V, c: S::V) -> S::V {
        simd.mul_add(a, b, c)
    }
}

impl Arithmetic for Pairs {
    #[inline(always)]
    fn add_product<S: Simd>(simd: S, a: S::V, b: S::V, c: S::V) -> S::V {
        simd.dot_pairs(a, b, c)
    }
}

impl Arithmetic for Tiles {
    const TILES: bool = true;

    #[inline(always)]
    fn add_product<S: Simd>(_: S, _: S::V, _: S::V, _: S::V) -> S::V {
        unreachable!("a single product of tiles")
    }
}

/// A computation with factors that is compiled once for each arithmetic and instruction set.
pub(crate) trait FactorKernel {
    /// Its result.
    type Output;
    /// Runs it; must be `#[inline(always)]`.
    fn run<S: Simd, A: Arithmetic>(self, simd: S) -> Self::Output;
}

struct Of<K, A>(K, PhantomData<A>);

impl<K: FactorKernel, A: Arithmetic> Kernel for Of<K, A> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> K::Output {
        self.0.run::<S, A>(simd)
    }
}

/// Every format of words, for tests.
#[cfg(test)]
pub(crate) const EVERY_WORDS: [Words; 4] = [
    Words { split: false, tiles: false },
    Words { split: true, tiles: false },
    Words { split: false, tiles: true },
    Words { split: true, tiles: true },
];

#[cfg(test)]
impl Words {
    /// Runs a kernel on `isa`.
    pub(crate) fn run_on<K: FactorKernel>(self, isa: simd::Isa, kernel: K) -> K::Output {
        if self.tiles {
            isa.run_tiles(Of(kernel, PhantomData::<Tiles>))
        } else {
            isa.run_pairs(Of(kernel, PhantomData::<Pairs>))
        }
    }

    /// `initial` and the product of a row and a column of values by definition, each value of k in order: tiles add to one sum, which
    /// begins with `initial`, other words to a sum for each block of whole groups.
    pub(crate) fn dot(self, left: &[f32], right: &[f32], initial: f32, most_groups: usize) -> f32 {
        use crate::simd::{dot_of_tile, dot_of_words, rounded, word};
        use crate::team::chunks::share;

        let single = self.single(left.len());
        let value = |from: &[f32], k: usize| from.get(k).copied().unwrap_or(0.0);
        let words = |from: &[f32], low: bool, ws: std::ops::Range<usize>| -> Vec<f32> {
            let part = |x: f32| if low { x - rounded(x) } else { x };
            ws.map(|w| word(part(value(from, 2 * w)), part(value(from, 2 * w + 1)))).collect()
        };
        let groups = single.div_ceil(TILE_WORDS);
        let blocks = if self.tiles { 1 } else { groups.div_ceil(most_groups).max(1) };
        let parts: &[(bool, bool)] =
            if self.split { &[(true, false), (false, false), (false, true)] } else { &[(false, false)] };
        (0..blocks).map(|block| share(groups, blocks, block)).fold(initial, |total, groups| {
            let mut sum = if self.tiles { total } else { 0.0 };
            for group in groups {
                let ws = group * TILE_WORDS..single.min((group + 1) * TILE_WORDS);
                for &(left_low, right_low) in parts {
                    let (a, b) = (words(left, left_low, ws.clone()), words(right, right_low, ws.clone()));
                    sum = match self.tiles {
                        true => dot_of_tile(std::array::from_fn(|w| (a[w], b[w])), sum),
                        false => a.iter().zip(&b).fold(sum, |sum, (a, b)| dot_of_words(*a, *b, sum)),
                    };
                }
            }
            if self.tiles { sum } else { total + sum }
        })
    }
}
