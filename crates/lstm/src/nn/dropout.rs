//! Dropout (Srivastava 2014): what is dropped where, at which rate, and the masks of a training step. Inverted scaling;
//! off in evaluation.

use std::fmt;

use lstm_kernels::{for_each_chunk, multiply};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::named::named;
use crate::nn::config::{ConfigError, rate, within};
use crate::rng::{Purpose, Rng};
use crate::said::{DIGITS, rounded};

/// How the masks of dropout are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropoutKind {
    /// A fresh choice for every value of every step (Zaremba 2014).
    #[default]
    Standard,
    /// One choice for every value of a row, the same at all steps of a segment: variational dropout (Gal & Ghahramani
    /// 2016), on what goes in and out of the layers as Merity 2017 has it.
    Locked,
}

named!(DropoutKind, "kind of dropout", "standard" => Standard, "locked" => Locked);

/// Where a language model drops values, and at which rates, each in `[0, 1)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DropoutRates {
    /// How the masks of the next three are drawn.
    pub kind: DropoutKind,
    /// Of the embedding's values, before the first layer.
    pub input: f32,
    /// Of what each layer but the last gives to the next.
    pub hidden: f32,
    /// Of what the last layer gives to the readout.
    pub output: f32,
    /// Of whole words: all values of a token's embedding, the same tokens wherever they stand in the batch (Gal &
    /// Ghahramani 2016; Merity 2017).
    pub embedding: f32,
    /// Of the hidden-to-hidden weights, the same for all steps and rows of a segment: DropConnect (Wan 2013; Merity
    /// 2017).
    pub weights: f32,
    /// The share of these rates that a run begins with, in `[0, 1]`: they rise in a straight line to all of them at its end (Morerio et al. 2017,
    /// "Curriculum dropout").
    pub start: f32,
}

impl Default for DropoutRates {
    fn default() -> Self {
        Self {
            kind: DropoutKind::default(),
            input: 0.0,
            hidden: 0.0,
            output: 0.0,
            embedding: 0.0,
            weights: 0.0,
            start: 1.0,
        }
    }
}

impl DropoutRates {
    /// One rate for inputs, between layers, and for outputs, all along.
    pub fn all(rate: f32) -> Self {
        Self { input: rate, hidden: rate, output: rate, ..Self::default() }
    }

    /// Whether anything is dropped.
    pub fn any(&self) -> bool {
        [self.input, self.hidden, self.output, self.embedding, self.weights] != [0.0; 5]
    }

    /// The share of the rates at which is dropped where the share `done` of the run is over.
    pub(crate) fn share_at(&self, done: f64) -> f32 {
        self.start + (1.0 - self.start) * done.clamp(0.0, 1.0) as f32
    }

    /// Checks every rate.
    ///
    /// # Errors
    /// The rate that is not in `[0, 1)`.
    pub fn validate(&self) -> Result<(), ConfigError> {
        rate("dropout-embedding", self.embedding)?;
        rate("dropout-weights", self.weights)?;
        if self.start != 0.0 {
            let expected = "a share of the rates of dropout, 0 or from 0.000001 to 1";
            within("dropout-start", self.start, 1e-6..=1.0, expected)?;
        }
        if self.input == self.hidden && self.hidden == self.output {
            return rate("dropout", self.input);
        }
        rate("dropout-input", self.input)?;
        rate("dropout-hidden", self.hidden)?;
        rate("dropout-output", self.output)
    }
}

impl fmt::Display for DropoutRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, input, hidden, output, embedding, weights, start } = self;
        if *kind == DropoutKind::Locked {
            f.write_str("locked, ")?;
        }
        match input == hidden && hidden == output {
            true => write!(f, "{input}")?,
            false => write!(f, "input {input}, hidden {hidden}, output {output}")?,
        }
        for (name, rate) in [("words", embedding), ("recurrent weights", weights)] {
            if *rate > 0.0 {
                write!(f, ", {name} {rate}")?;
            }
        }
        if *start < 1.0 && self.any() {
            write!(f, ", rising from ")?;
            if *start == 0.0 { write!(f, "0")? } else { write!(f, "{} of that", rounded(*start, DIGITS))? }
        }
        Ok(())
    }
}

/// A table as it is written by [`DropoutRates`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kind: DropoutKind,
    input: f32,
    hidden: f32,
    output: f32,
    embedding: f32,
    weights: f32,
    /// Runs that were begun before there was one drop as much all along.
    #[serde(default = "all_of_it")]
    start: f32,
}

fn all_of_it() -> f32 {
    1.0
}

/// Written as a table, or as one rate for all. By hand, so that a key of the table that there is none of is named.
impl<'de> Deserialize<'de> for DropoutRates {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RateOrTable;
        impl<'de> Visitor<'de> for RateOrTable {
            type Value = DropoutRates;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate, or a table of kind, input, hidden, output, embedding, weights and start")
            }

            fn visit_f64<E>(self, rate: f64) -> Result<DropoutRates, E> {
                Ok(DropoutRates::all(rate as f32))
            }

            fn visit_i64<E>(self, rate: i64) -> Result<DropoutRates, E> {
                Ok(DropoutRates::all(rate as f32))
            }

            fn visit_u64<E>(self, rate: u64) -> Result<DropoutRates, E> {
                Ok(DropoutRates::all(rate as f32))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DropoutRates, A::Error> {
                let Table { kind, input, hidden, output, embedding, weights, start } =
                    Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(DropoutRates { kind, input, hidden, output, embedding, weights, start })
            }
        }
        deserializer.deserialize_any(RateOrTable)
    }
}

/// The places of masks: those of a model, before those of its layers.
pub(crate) const INPUT: u32 = 0;
pub(crate) const OUTPUT: u32 = 1;
pub(crate) const WORDS: u32 = 2;

/// The places of a layer: its hidden states, its gates, and the recurrent weights of both directions.
pub(crate) fn layer_place(layer: usize, which: usize) -> u32 {
    (3 + 4 * layer + which) as u32
}

/// The places of a layer's zoneout, of one direction: its cell state and its hidden state.
pub(crate) fn zoneout_places(layer: usize, reverse: bool) -> [u32; 2] {
    let first = (4 * layer + 2 * usize::from(reverse)) as u32;
    [first, first + 1]
}

/// The values of a mask that one thread draws at a time, of 32 KiB of random bits.
const DRAWN: usize = 1 << 14;

/// The masks of one training step: every step draws its own, from streams named by the step and the place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Masks {
    /// The run's seed.
    pub seed: u64,
    /// The training step.
    pub step: u64,
    /// Which part of the step's rows this is, of a step that is cut into shards; else 0.
    pub shard: u32,
    /// The share of every rate of dropout that the step has, in `[0, 1]`.
    pub share: f32,
}

impl Masks {
    /// Fills `mask` with `len` factors: 0 with the step's share of the probability `rate`, else the inverse of what that leaves. `place` tells the
    /// masks of one step apart.
    pub fn fill(&self, place: u32, rate: f32, mask: &mut Vec<f32>, len: usize) {
        let rate = self.share * rate;
        self.draw((Purpose::Dropout, place), rate, [0.0, 1.0 / (1.0 - rate)], mask, len);
    }

    /// The same of what all rows of a step share, weights and words: the same mask in every shard.
    pub(crate) fn fill_shared(&self, place: u32, rate: f32, mask: &mut Vec<f32>, len: usize) {
        Self { shard: 0, ..*self }.fill(place, rate, mask, len);
    }

    /// Fills `mask` with `len` values for zoneout: 1, to keep what was, with probability `rate`, else 0.
    pub(crate) fn fill_zoneout(&self, place: u32, rate: f32, mask: &mut Vec<f32>, len: usize) {
        self.draw((Purpose::Zoneout, place), rate, [1.0, 0.0], mask, len);
    }

    /// Fills `mask` with `len` of two values, the first with probability `rate`.
    fn draw(&self, (purpose, place): (Purpose, u32), rate: f32, values: [f32; 2], mask: &mut Vec<f32>, len: usize) {
        // 16 bits a value: the probability is exact to 2⁻¹⁶, and half the random bytes are needed.
        let threshold = (f64::from(rate) * 65536.0).round() as u32;
        let [chosen, other] = values;
        let stream = Rng::of_part(self.seed, purpose, (self.step << 16) | u64::from(place), self.shard);
        mask.resize(len, 0.0);
        for_each_chunk(mask, DRAWN, |index, mask| {
            let mut rng = stream.clone().from_word((index * DRAWN / 2) as u64);
            let mut bytes = [0; 512];
            for values in mask.chunks_mut(bytes.len() / 2) {
                rng.fill(&mut bytes);
                for (value, bits) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = if u32::from(u16::from_le_bytes(*bits)) < threshold { chosen } else { other };
                }
            }
        });
    }
}

/// The dropout of a stack of layers in one training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// How the masks are drawn.
    pub kind: DropoutKind,
    /// The rate at which what a layer gives to the next is dropped, in `[0, 1)`.
    pub rate: f32,
    /// The rate at which hidden-to-hidden weights are dropped, in `[0, 1)`.
    pub weights: f32,
    /// Where the masks come from, those of zoneout too.
    pub masks: Masks,
}

impl Dropout {
    /// Draws the mask of `values: [T, B, ·]`, of `steps` steps, and applies it.
    pub(crate) fn apply(&self, place: u32, steps: usize, values: &mut [f32], mask: &mut Vec<f32>) {
        let len = match self.kind {
            DropoutKind::Standard => values.len(),
            DropoutKind::Locked => values.len() / steps.max(1),
        };
        self.masks.fill(place, self.rate, mask, len);
        apply(values, mask);
    }
}

/// Multiplies `values: [T, B, ·]` by a mask of as many values, or by one `[B, ·]` at every step; an empty mask drops
/// nothing.
pub(crate) fn apply(values: &mut [f32], mask: &[f32]) {
    if !mask.is_empty() {
        values.chunks_exact_mut(mask.len()).for_each(|values| multiply(values, mask));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_rates_is_dropped() {
        let of = |rate, share| {
            let mut mask = Vec::new();
            Masks { seed: 1, step: 9, shard: 0, share }.fill(0, rate, &mut mask, 10_000);
            mask
        };
        assert_eq!(of(0.8, 0.25), of(0.2, 1.0));
        assert!(of(0.8, 0.0).iter().all(|&kept| kept == 1.0));
    }

    #[test]
    fn masks_keep_the_expectation_and_repeat() {
        let masks = Masks { seed: 1, step: 9, shard: 0, share: 1.0 };
        let (mut first, mut again, mut other) = (Vec::new(), Vec::new(), Vec::new());
        masks.fill(0, 0.25, &mut first, 40_000);
        masks.fill(0, 0.25, &mut again, 40_000);
        masks.fill(1, 0.25, &mut other, 40_000);
        assert_eq!(first, again);
        assert_ne!(first, other);
        let mean = first.iter().sum::<f32>() / 40_000.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(first.iter().all(|&x| x == 0.0 || x == 1.0 / 0.75));
        Masks { seed: 1, step: 10, shard: 0, share: 1.0 }.fill(0, 0.25, &mut other, 40_000);
        assert_ne!(first, other);
        // Zoneout's are drawn from a stream of their own: 1 is kept.
        masks.fill_zoneout(0, 0.25, &mut other, 40_000);
        assert!(other.iter().all(|&x| x == 0.0 || x == 1.0));
        let agreeing = first.iter().zip(&other).filter(|(dropped, kept)| (**dropped == 0.0) == (**kept == 1.0)).count();
        assert!(agreeing < 30_000, "{agreeing}");
        assert!((other.iter().sum::<f32>() / 40_000.0 - 0.25).abs() < 0.02);
    }

    #[test]
    fn a_mask_is_one_stream_however_many_threads_draw_it() {
        let len = 3 * DRAWN + 777;
        let draw = |threads| {
            let mut mask = Vec::new();
            lstm_kernels::with_threads(threads, || {
                Masks { seed: 3, step: 4, shard: 0, share: 1.0 }.fill(1, 0.5, &mut mask, len)
            });
            mask
        };
        let mut rng = Rng::new(3, Purpose::Dropout, (4 << 16) | 1);
        let mut bytes = vec![0; 2 * len];
        rng.fill(&mut bytes);
        let plain =
            bytes.as_chunks::<2>().0.iter().map(|bits| if u16::from_le_bytes(*bits) < 1 << 15 { 0.0 } else { 2.0 });
        let plain: Vec<f32> = plain.collect();
        assert_eq!(draw(1), plain);
        assert_eq!(draw(2), plain);
    }

    #[test]
    fn a_locked_mask_is_the_same_at_every_step_and_another_for_every_row() {
        let (steps, row) = (5, 60);
        let drop = |kind| {
            let mut values = vec![1.0; steps * 2 * row];
            let dropout =
                Dropout { kind, rate: 0.5, weights: 0.0, masks: Masks { seed: 1, step: 0, shard: 0, share: 1.0 } };
            dropout.apply(0, steps, &mut values, &mut Vec::new());
            values
        };
        let (locked, standard) = (drop(DropoutKind::Locked), drop(DropoutKind::Standard));
        let [first, second] = [&locked[..2 * row], &locked[2 * row..4 * row]];
        assert_eq!(first, second);
        assert_ne!(first[..row], first[row..]);
        assert_ne!(standard[..2 * row], standard[2 * row..4 * row]);
        assert!(locked.chunks(2 * row).all(|step| step == first));
    }

    #[test]
    fn rates_are_written_and_read() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Model {
            dropout: DropoutRates,
        }
        let kind = DropoutKind::Locked;
        let rates = DropoutRates {
            kind,
            input: 0.5,
            hidden: 0.25,
            output: 0.125,
            embedding: 0.0625,
            weights: 0.75,
            start: 0.25,
        };
        let text = toml::to_string(&Model { dropout: rates }).unwrap();
        assert_eq!(toml::from_str::<Model>(&text).unwrap().dropout, rates);
        // One of a run that was begun when rates did not rise.
        let before = toml::from_str::<Model>(&text.replace("start = 0.25\n", "")).unwrap().dropout;
        assert_eq!(before, DropoutRates { start: 1.0, ..rates });
        assert_eq!(toml::from_str::<Model>("dropout = 0.5").unwrap().dropout, DropoutRates::all(0.5));
        assert!(toml::from_str::<Model>("dropout = \"much\"").unwrap_err().to_string().contains("kind, input"));
        assert_eq!(
            rates.to_string(),
            "locked, input 0.5, hidden 0.25, output 0.125, words 0.0625, recurrent weights 0.75, rising from 0.25 of that"
        );
        assert_eq!(DropoutRates { start: 0.0, ..DropoutRates::all(0.5) }.to_string(), "0.5, rising from 0");
        let dropping = DropoutRates { start: 0.25, ..rates };
        assert_eq!([0.0, 0.5, 1.0].map(|done| dropping.share_at(done)), [0.25, 0.625, 1.0]);
        assert_eq!(DropoutRates::all(0.5).to_string(), "0.5");
    }
}
