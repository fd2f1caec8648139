//! The rules of a plan, and what each was measured by: `docs/budget.md` has their tables.

use super::facts::Facts;
use super::search::Larger;
use crate::model::LanguageModelConfig;
use crate::nn::config::LstmConfig;
use crate::nn::dropout::{DropoutKind, DropoutRates};
use crate::optim::optimizer::{AdamSettings, OptimizerKind};
use crate::optim::schedule::{Schedule, ScheduleKind, Warmup};
use crate::run::config::RunConfig;
use crate::run::preset::Preset;
use crate::run::training::Training;

/// The share of words that occur once above which a text is read in subwords: so many words of a new text would be
/// unknown, and a model that predicts `<unk>` predicts nothing.
pub(super) const UNKNOWN_WORDS: f64 = 0.03;

/// The words above which a text is read in subwords however often each occurs: a tenth of a run and every evaluation
/// score them all.
pub(super) const MOST_WORDS: usize = 65_536;

/// Where no optimizer is named, a learning rate below this is Adam's.
pub(super) const LEAST_RATE_OF_SGD: f32 = 0.1;

/// The widths to choose from: multiples of the vectors of every instruction set, a step of a quarter apart.
pub(super) const WIDTHS: [usize; 15] = [48, 64, 96, 128, 160, 208, 256, 320, 400, 512, 640, 800, 1024, 1280, 1536];

/// Tokens read for every weight a token passes, where most of them are new: two minutes of two slow cores come to a
/// validation perplexity of 125.3 on the Penn Treebank with 13 (a layer of 128), of 131.8 with 7 (of 160).
pub(super) const TOKENS_PER_WEIGHT: f64 = 16.0;

/// The same times the readings, where a text is read again: what is read once more teaches less, so that a larger
/// model that reads it less often ends lower. On a tenth of that text 3.6 tokens for each weight (18 readings, a
/// layer of 160) come to 174.5, 1.4 (12 readings, of 224) to 166.1.
pub(super) const TOKENS_PER_WEIGHT_AND_READING: f64 = 36.0;

/// The most times a text is read: more is learned by heart, whatever is dropped: 94,000 words reach 173.5
/// with 29 readings and 189.0 with 60; 9,000 words 143.2 with 30 and 142.6 with 60.
pub(super) const MOST_EPOCHS: f64 = 30.0;

/// The most weights a token passes for every token of the text, for the same reason.
pub(super) const WEIGHTS_PER_TEXT: f64 = 10.0;

/// The multiply-adds forward, for the square of the text's tokens, that each of several members of words and of characters has at least. With 118
/// one model of 94,000 words reaches a test perplexity of 173.1, with 171 it reaches 173.5 and with 530 189.0, where the mean of two or
/// three lies 0.03 to 0.05 nats below one of them. Of characters a model that has less loses more than the others give back (6.1 with 75,
/// 6.9 by four with 37.5), so each has all that one can make use of: 30 readings of 10 weights for each character.
pub(super) const WORK_OF_MEMBERS: [f64; 2] = [150.0, 300.0];

/// The fewest seconds of a member: beginning one, writing its files and testing it take a share of a shorter time.
pub(super) const SECONDS_OF_MEMBERS: f64 = 10.0;

/// The most members that are chosen: using them takes as many times longer, and each gains less than the one before.
pub(super) const MOST_MEMBERS: usize = 8;

/// The weights a character passes above which they are better in two layers than in one.
pub(super) const TWO_LAYERS_OF_CHARACTERS: f64 = 2.5e6;

/// How often a text of words is read from where on two layers with residual connections end lower than one wide
/// layer, which learns faster and more by heart.
pub(super) const READINGS_FOR_TWO_LAYERS: f64 = 10.0;

/// The weights a word passes up to which they are in one layer however often the text is read, and above which they
/// are in two: with 29 readings of 94,000 words 0.76 million in one reach 184.1, 0.73 million in two 188.2.
pub(super) const TWO_LAYERS_OF_WORDS: (f64, f64) = (1.5e6, 10e6);

/// How much further away a run is that has not the number of layers it should have: beyond all widths.
pub(super) const OTHER_DEPTH: f64 = 100.0;

/// The vocabulary above which a step scores candidates, its share of the vocabulary that they are, within bounds, and
/// the share of the time in which they are scored: two minutes of two slow cores come to a validation perplexity of
/// 139 on the Penn Treebank with 2,000 candidates, of 125 with 1,000 and with 500; step by step as many as 2,000
/// teach no more than 1,000.
const SAMPLED_ABOVE: usize = 4_000;
const CANDIDATES: (usize, usize, usize) = (20, 1_000, 4_000);
const CANDIDATES_UNTIL: f64 = 0.9;

/// The readings of a text from which on vectors of what stands beside its words are no better a start than random ones.
pub(super) const VECTORS_BELOW: f64 = 5.0;

/// The characters up to which their embedding is small beside the layers; a script of more kinds is learned as words are.
pub(super) const CHARACTERS: usize = 1_024;

/// The seconds of a run to which nothing sets a bound.
pub const DEFAULT_SECONDS: f64 = 600.0;

impl Facts {
    /// A run with layers of this width, before its regularisation.
    pub(super) fn run_of(&self, layers: usize, width: usize, optimizer: OptimizerKind, softmaxes: usize) -> RunConfig {
        let words = self.words;
        let (share, fewest, most) = CANDIDATES;
        let candidates = (self.vocabulary / share).clamp(fewest, most);
        let base = Preset::Default.config();
        let (batch, segment) = self.usual_batch();
        let (rate, clip) = match optimizer.has_moments() {
            true if optimizer.is_muon() => (muon_rate(width), 1.0),
            true => (adam_rate(width), 1.0),
            false => (sgd_rate(words, layers, batch, softmaxes), SGD_CLIP),
        };
        let config = RunConfig {
            segment,
            candidates: (words && self.vocabulary > SAMPLED_ABOVE).then_some(candidates),
            candidates_until: CANDIDATES_UNTIL,
            // Learned, they take a good part of a short run: those of rare tokens have small gradients.
            unigram_bias: true,
            model: LanguageModelConfig {
                vocabulary: self.vocabulary,
                tied: words,
                // Not yet chosen.
                dropout: DropoutRates { kind: DropoutKind::Locked, ..DropoutRates::all(0.1) },
                ..LanguageModelConfig::of(
                    self.vocabulary,
                    LstmConfig {
                        layers,
                        residual: words && layers > 1,
                        ..LstmConfig::new(if words { width } else { width.min(128) }, width)
                    },
                )
            },
            training: Training {
                batch,
                precision: self.precision,
                schedule: Schedule {
                    kind: ScheduleKind::Cosine,
                    learning_rate: rate,
                    warmup: Warmup::Share(WARMUP),
                    planned_epochs: None,
                    ..base.training.schedule
                },
                epochs: None,
                patience: None,
                optimizer,
                clip: Some(clip),
                adam: AdamSettings { lazy: words, ..base.training.adam },
                ..base.training.clone()
            },
            ..base
        };
        self.shared(config)
    }

    /// The rows of a batch that one machine takes, and its steps.
    pub(super) fn usual_batch(&self) -> (usize, usize) {
        let line = 1.5 * self.tokens / self.lines.max(1.0);
        let (batch, segment) = if self.words { (20, (line as usize).clamp(SEGMENT.0, SEGMENT.1)) } else { (32, 64) };
        // A short text in smaller batches, so that it takes some steps to read it.
        (batch.min((self.tokens / (segment * FEWEST_STEPS) as f64) as usize).max(4), segment)
    }

    /// The run in steps that the ranks share: each takes the rows that one machine would, as one shard, for a shard of fewer rows takes longer a
    /// row, and what travels is the same for any. So many ranks as would leave an epoch with few steps, or could read the text more
    /// often than is of use, take fewer rows each.
    fn shared(&self, config: RunConfig) -> RunConfig {
        if self.ranks == 1 {
            return config;
        }
        let (batch, segment) = self.usual_batch();
        let with = |machines: usize| {
            let (batch, shards) = ((machines * batch).max(self.ranks), Some(self.ranks));
            RunConfig { training: Training { batch, shards, ..config.training.clone() }, ..config.clone() }
        };
        let is_enough = |machines: usize| self.size(&with(machines)).epochs > MOST_EPOCHS;
        let most = (self.tokens / (batch * segment * FEWEST_STEPS) as f64) as usize;
        let (mut few, mut enough) = (0, self.ranks.min(most).max(1));
        while enough - few > 1 && is_enough(enough) {
            let middle = few.midpoint(enough);
            if is_enough(middle) { enough = middle } else { few = middle }
        }
        with(enough)
    }

    /// Follows the rows of a run's steps with rate and warm-up, where they are more than one machine would take: the rate grows with the root
    /// of how many times more, that of SGD up to [`MOST_OF_SGD`], and rises over as many steps as it would with the usual ones, so over as many times
    /// more epochs (LEGW: You et al. 2019, "Large-batch training for LSTM and beyond").
    pub(super) fn follow_rows(&self, run: &mut RunConfig, (rows, accumulate): (usize, usize)) -> Option<Larger> {
        let (batch, _) = self.usual_batch();
        // What was decided of the rows is not yet in the run.
        let of = |training| RunConfig { training, ..run.clone() };
        let larger = of(Training { batch: rows, accumulate, ..run.training.clone() });
        let usual = of(Training { batch, accumulate: 1, shards: None, ..run.training.clone() });
        let rows = rows as f64 * accumulate as f64 / batch as f64;
        if rows <= 1.0 {
            return None;
        }
        let warmup = (WARMUP * self.alone().steps(&usual) / self.steps(&larger)).clamp(WARMUP, MOST_WARMUP);
        let most = if run.training.optimizer.has_moments() { f64::INFINITY } else { MOST_OF_SGD };
        let rate = rows.sqrt().min(most);
        let schedule = &mut run.training.schedule;
        schedule.learning_rate = in_digits(f64::from(schedule.learning_rate) * rate, 3);
        schedule.warmup = Warmup::Share((100.0 * warmup).round() / 100.0);
        Some(Larger { rows, rate })
    }
}

/// The share of a run in which its rate rises, and the most where its steps have more rows than one machine would take.
const WARMUP: f64 = 0.03;
const MOST_WARMUP: f64 = 0.3;

/// How many times as high the rate of SGD is at most: on the Penn Treebank a layer of 128 ends worse at a rate of 99 with 160 rows, and of 140 with 80,
/// than at 35.
const MOST_OF_SGD: f64 = 2.0;

/// A number in as many digits as say something.
fn in_digits(number: f64, digits: i32) -> f32 {
    let unit = 10f64.powi(number.log10().floor() as i32 + 1 - digits);
    // By way of text: the nearest number of so many digits.
    format!("{:.*}", (-unit.log10()).round().max(0.0) as usize, (number / unit).round() * unit)
        .parse()
        .unwrap_or(number as f32)
}

/// The bounds of a segment of words, between which it is half as long again as a line.
const SEGMENT: (usize, usize) = (35, 50);

/// The fewest steps of an epoch.
const FEWEST_STEPS: usize = 50;

/// How often a text of characters is read from where on it is learned by Adam. Until then it is by Muon: in the same processor time, in
/// which it takes five steps where SGD takes seven, a layer of 256 comes to a test perplexity of 4.83 and 5.19 on tinyshakespeare with
/// two readings, of 3.31 and 3.66 on the Penn Treebank with a third of one; with six and weight decay to 4.42, where Adam has 4.70 with eight.
/// With 19 readings, which ask for more dropout, they are level by steps (6.01 and 6.07 on a quarter of that text), and Adam's are cheaper.
const ADAM_FROM: f64 = 12.0;

/// The optimizer of a text that is read so many times: of words SGD, which on the Penn Treebank ends lower than Adam by 12 % with 0.6
/// readings, 11 % with 1.4, 3 % with four and 5 % with nine, and whose steps, of a few hundred words, are over before Muon has made a
/// matrix orthogonal.
pub(super) fn usual_optimizer(words: bool, epochs: f64) -> OptimizerKind {
    match words {
        true => OptimizerKind::Sgd,
        false if epochs < ADAM_FROM => OptimizerKind::Muon,
        false => OptimizerKind::Adam,
    }
}

/// What a run's weight decay takes of a weight that no gradient changes, as a power of e: this much for every doubling of the times a text is read, and at
/// most. With 4.5 readings of the Penn Treebank by a layer of 256 the test perplexity is 98.6 without, 96.0 with 0.3, 93.1 with 1.05, 94.6 with 2.1 and
/// 103.7 with 4.2; what is read 1.1 times is best without.
const FORGOTTEN: f64 = 0.4;
const MOST_FORGOTTEN: f64 = 2.2;
const LEAST_FORGOTTEN: f64 = 0.1;

/// The weight decay of Muon, as in Liu et al. 2025 ("Muon is scalable for LLM training"): by a layer of 256 the test perplexity on tinyshakespeare is 4.78
/// without and 4.63 with so much where it is read twice; 4.66 without, 4.59 with 0.05 and 4.50 with 0.15 where it is four times.
pub(super) const MUON_DECAY: f32 = 0.1;

/// The weight decay of a run of SGD in so many steps, whose rate has this mean: none of what is read once, and then as much over the whole run,
/// however many steps it has.
pub(super) fn weight_decay(epochs: f64, steps: f64, mean_rate: f64) -> f32 {
    // Of a few steps none takes more than a small part.
    let forgotten = (FORGOTTEN * epochs.log2()).min(MOST_FORGOTTEN).min(0.01 * steps);
    // Less is as good as none.
    if forgotten < LEAST_FORGOTTEN { 0.0 } else { in_digits(forgotten / (mean_rate * steps), 2) }
}

/// The rate of SGD, whose gradient is clipped to a norm of [`SGD_CLIP`]: with four readings of the Penn Treebank by a
/// layer of 400 the validation perplexity is 104.7 at a rate of 20, 98.2 at 35 and 108.0 at 60; with one of
/// tinyshakespeare's characters the test perplexity is 6.60 at 10, 6.03 at 20 and 6.41 at 40. In proportion to the
/// rows of a short text's batches: with sixty readings of 9,500 words and 5 rows the test perplexity is 150.8 at 9
/// and 185.8 at 35.
fn sgd_rate(words: bool, layers: usize, batch: usize, softmaxes: usize) -> f32 {
    let (rate, rows) = match (words, layers) {
        (true, 1) => (35.0, 20),
        (true, _) => (30.0, 20),
        (false, _) => (20.0, 32),
    };
    let rate = rate * (batch as f32 / rows as f32).min(1.0);
    if softmaxes > 1 { (10.0 * SGD_RATE_OF_MIXTURES * rate).round() / 10.0 } else { rate }
}

const SGD_CLIP: f32 = 0.25;

/// The share of that learning rate that a mixture of softmaxes takes: Yang 2018 has 20 where Merity 2017 has 30. With two layers of 200 and
/// five softmaxes the first reading of a tenth of the Penn Treebank has a training perplexity of 1,167 at 15 and of 5,147,
/// hardly less than untrained, at 30; after four the validation perplexity is 287 and 278.
const SGD_RATE_OF_MIXTURES: f32 = 2.0 / 3.0;

/// Muon's rate for layers of this width: with two readings of tinyshakespeare's characters by a layer of 256 the validation perplexity is
/// 4.33 at 0.012, 4.29 at 0.02 and 4.57 at 0.04. The largest change that a step makes of what a cell reads grows as the root of the width.
fn muon_rate(width: usize) -> f32 {
    let rate = 0.02 * (256.0 / width.max(128) as f64).sqrt();
    ((rate * 1e3).round().max(1.0) * 1e-3) as f32
}

/// Adam's rate for layers of this width: 0.0045 at 256, less for wider ones, whose scores each step changes by more.
fn adam_rate(width: usize) -> f32 {
    let rate = 0.0045 * (256.0 / width.max(128) as f64).sqrt();
    ((rate * 1e4).round().max(1.0) * 1e-4) as f32
}

/// The dropout that is added for every doubling of the times a text is read, from [`DROPOUT_FROM`] on, and taken away for every halving of the
/// weights that a token passes below one for each token of the text, since what has fewer learns little by heart: with nine readings of the Penn
/// Treebank by a layer of 512 the validation perplexity is 94.5 at 0.2, 90.5 at 0.3 and 93.5 at 0.4; with 2.7 by a layer of 96 it is 148.7 at 0.18
/// and 142.9 at 0.05, with four by one of 128 it is 130.4 at 0.05 and 125.3 without. A tenth of that text by a layer of 208, six weights for each
/// token, with weight decay: 159.4 at 0.37 and 167.4 at 0.48 with 15 readings, 165.8 at 0.37 and 156.9 at 0.5 with 29.
const DROPOUT: f64 = 0.14;
/// The same of characters by Muon, whose weight decay does a part of it: of tinyshakespeare read 8.8 times by a layer of 640 the test perplexity is 4.13
/// at 0.27 and 3.98 at 0.15.
const DROPOUT_BY_MUON: f64 = 0.08;
const DROPOUT_BY_SIZE: f64 = 0.08;
const DROPOUT_FROM: f64 = 2.3;

/// How much less of the recurrent weights is dropped.
const LESS_OF_WEIGHTS: f64 = 0.1;

/// The bounds of the most that is dropped, and of weights. What a word of the text has of the model's weights says
/// where between the two: with few of them a model cannot learn by heart, with many it does. Layers above the first learn
/// less by heart, so with them it is less than the lower one: with fifteen readings of a quarter of the Penn Treebank by two layers of
/// 304 the test perplexity is 147.3 at 0.35 and 165.7 at 0.48 with 0.18 of the words.
pub(super) const MOST_DROPOUT: (f64, f64) = (0.35, 0.5);
pub(super) const MOST_DROPOUT_OF_LAYERS: f64 = 0.3;
const MOST_DROPOUT_OF_WEIGHTS: f64 = 0.3;
const DROPOUT_FOR_WEIGHTS: f64 = 1.0 / 12.0;

/// The words that are dropped whole where the upper of the two bounds is reached, and in proportion below it: with
/// twenty readings of 94,000 words by a layer of 208 the test perplexity is 178.3 without and 173.1 with it.
pub(super) const MOST_DROPOUT_OF_WORDS: f64 = 0.2;

/// By how much more words are dropped at the end of a run, whose dropout rises from none: twice as much at most. What is read for the first times is
/// not yet learned by heart. One layer of 256 on the Penn Treebank, 4.5 readings: test perplexity 93.3 with 0.12 all along, 91.9 from 0 to 0.24, 93.0
/// from 0 to 0.36.
const RISEN_BY: f64 = 0.12;

/// The dropout: none of what is read once or twice, more with every reading. weights_per_token: those that a
/// token passes, for each token of the text; words: whether tokens are words, or parts of words as long.
pub(super) fn dropout(
    epochs: f64,
    weights_per_token: f64,
    layers: usize,
    words: bool,
    optimizer: OptimizerKind,
) -> DropoutRates {
    let (fewest, most) = MOST_DROPOUT;
    let bound = match layers {
        1 => (DROPOUT_FOR_WEIGHTS * weights_per_token).clamp(fewest, most),
        _ => MOST_DROPOUT_OF_LAYERS,
    };
    let of_readings = if !words && optimizer.is_muon() { DROPOUT_BY_MUON } else { DROPOUT };
    let by_size = DROPOUT_BY_SIZE * weights_per_token.log2().min(0.0);
    let rate = (of_readings * (epochs / DROPOUT_FROM).log2() + by_size).clamp(0.0, bound);
    let of_weights = (rate - LESS_OF_WEIGHTS).clamp(0.0, MOST_DROPOUT_OF_WEIGHTS);
    let of_words = MOST_DROPOUT_OF_WORDS * (rate - fewest).max(0.0) / (most - fewest);
    // What is dropped on average stays about the same.
    let risen = if words && rate > 0.0 { 1.0 + (RISEN_BY / rate).min(1.0) } else { 1.0 };
    let rounded = |rate: f64| ((risen * rate * 100.0).round() * 0.01) as f32;
    let rates = DropoutRates {
        kind: DropoutKind::Locked,
        weights: rounded(of_weights),
        embedding: if words { rounded(of_words) } else { 0.0 },
        ..DropoutRates::all(rounded(rate))
    };
    DropoutRates { start: if words && rates.any() { 0.0 } else { 1.0 }, ..rates }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_dropped_with_every_reading_as_far_as_the_weights_ask_for_it() {
        let of = |epochs, weights, layers| {
            let DropoutRates { input, weights, embedding, start, .. } =
                dropout(epochs, weights, layers, true, OptimizerKind::Sgd);
            assert_eq!(start, if input > 0.0 { 0.0 } else { 1.0 });
            [input, weights, embedding]
        };
        // The Penn Treebank by a layer of 512, a tenth of it by one of 208 and by two: each from 0 on, so half of it on average, or a little more.
        assert_eq!(of(9.0, 3.3, 1), [0.4, 0.25, 0.0]);
        assert_eq!([15.0, 29.0].map(|epochs| of(epochs, 6.0, 1)), [[0.5, 0.37, 0.05], [0.62, 0.37, 0.25]]);
        assert_eq!(of(29.0, 6.0, 2), [0.42, 0.28, 0.0]);
        // Half a weight for each token.
        assert_eq!(of(9.0, 0.5, 1), [0.32, 0.15, 0.0]);
        assert_eq!(of(3.0, 1.0, 1), [0.11, 0.0, 0.0]);
        assert_eq!(of(2.0, 6.0, 1), [0.0; 3]);
        // Characters drop as much all along.
        let of_characters = |epochs, optimizer| dropout(epochs, 2.0, 1, false, optimizer);
        let [muon, adam] = [OptimizerKind::Muon, OptimizerKind::Adam].map(|optimizer| of_characters(8.8, optimizer));
        assert_eq!((muon.input, muon.weights, muon.start), (0.15, 0.05, 1.0));
        assert_eq!((adam.input, adam.weights, adam.start), (0.27, 0.17, 1.0));
    }

    #[test]
    fn a_run_decays_as_much_in_many_steps_as_in_few() {
        for (steps, rate) in [(1_000.0, 35.0), (100_000.0, 35.0), (10_000.0, 5.0)] {
            let decay = f64::from(weight_decay(8.0, steps, rate));
            assert!((decay * steps * rate / 1.2 - 1.0).abs() < 0.03, "{decay}");
        }
        assert_eq!(weight_decay(1.1, 1_000.0, 35.0), 0.0);
        // Of forty steps none takes more than a few hundredths.
        assert!(40.0 * 35.0 * weight_decay(30.0, 40.0, 35.0) <= 0.41);
    }
}
