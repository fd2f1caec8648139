//! From a time, a machine and a text to a run: what `lstm train` does when no preset is named.
//!
//! The time buys so many multiply-adds. A larger model learns more from a token, a smaller one reads more of them. The
//! rules here were found by trying both on the Penn Treebank; `docs/budget.md` shows it.

use std::time::Duration;

use lstm_kernels::{peak_gflops, read_gigabytes_per_second};

use crate::bench::{Shape, train};
use crate::model::{LanguageModel, LanguageModelConfig};
use crate::nn::config::ConfigError;
use crate::nn::dropout::{DropoutKind, DropoutRates};
use crate::optim::optimizer::{AdamSettings, OptimizerKind};
use crate::optim::schedule::{Schedule, ScheduleKind, Warmup};
use crate::run::config::RunConfig;
use crate::run::preset::Preset;
use crate::text::corpus::Corpus;
use crate::text::tokenizer::TokenizerKind;
use crate::train::data::Data;

/// The seconds of a run to which nothing sets a bound.
pub const DEFAULT_SECONDS: f64 = 600.0;

/// The share of this machine's peak that training is taken to reach if less is measured: something else is at work
/// then, and need not be for the whole run.
const LEAST_OF_PEAK: f64 = 0.4;

/// How much longer a token takes in training than in an evaluation, which goes forward only: 2.8 times with two layers of
/// 512, less where rows are few.
const TRAINING_PER_EVALUATION: f64 = 2.5;

/// The share of words that occur once above which a text is read in subwords: so many words of a new text would be
/// unknown, and a model that predicts `<unk>` predicts nothing.
const UNKNOWN_WORDS: f64 = 0.03;

/// The words above which a text is read in subwords however often each occurs: a tenth of a run and every evaluation
/// score them all.
const MOST_WORDS: usize = 65_536;

/// The words of a text for each of its subwords, so that each is met often enough, and the bounds of their number.
const WORDS_PER_SUBWORD: usize = 50;
const SUBWORDS: (usize, usize) = (1_000, 8_000);

/// The widths to choose from: multiples of the vectors of every instruction set, a step of a quarter apart.
const WIDTHS: [usize; 15] = [48, 64, 96, 128, 160, 208, 256, 320, 400, 512, 640, 800, 1024, 1280, 1536];

/// Tokens read for every weight a token passes, where most of them are new: two minutes of two slow cores come to a
/// validation perplexity of 125.3 on the Penn Treebank with 13 (a layer of 128), of 131.8 with 7 (of 160).
const TOKENS_PER_WEIGHT: f64 = 16.0;

/// The same times the readings, where a text is read again: what is read once more teaches less, so that a larger
/// model that reads it less often ends lower. On a tenth of that text 3.6 tokens for each weight (18 readings, a
/// layer of 160) come to 174.5, 1.4 (12 readings, of 224) to 166.1.
const TOKENS_PER_WEIGHT_AND_READING: f64 = 36.0;

/// The most times a text is read: more is learned by heart, whatever is dropped: 94,000 words reach 173.5
/// with 29 readings and 189.0 with 60; 9,000 words 143.2 with 30 and 142.6 with 60.
const MOST_EPOCHS: f64 = 30.0;

/// The most weights a token passes for every token of the text, for the same reason.
const WEIGHTS_PER_TEXT: f64 = 10.0;

/// The weights a character passes above which they are better in two layers than in one.
const TWO_LAYERS_OF_CHARACTERS: f64 = 2.5e6;

/// How often a text of words is read from where on two layers with residual connections end lower than one wide
/// layer, which learns faster and more by heart.
const READINGS_FOR_TWO_LAYERS: f64 = 10.0;

/// The weights a word passes up to which they are in one layer however often the text is read, and above which they
/// are in two: with 29 readings of 94,000 words 0.76 million in one reach 184.1, 0.73 million in two 188.2.
const TWO_LAYERS_OF_WORDS: (f64, f64) = (1.5e6, 10e6);

/// How much further away a run is that has not the number of layers it should have: beyond all widths.
const OTHER_DEPTH: f64 = 100.0;

/// The vocabulary above which a step scores candidates, its share of the vocabulary that they are, within bounds, and
/// the share of the time in which they are scored: two minutes of two slow cores come to a validation perplexity of
/// 139 on the Penn Treebank with 2,000 candidates, of 125 with 1,000 and with 500; step by step as many as 2,000
/// teach no more than 1,000.
const SAMPLED_ABOVE: usize = 4_000;
const CANDIDATES: (usize, usize, usize) = (20, 1_000, 4_000);
const CANDIDATES_UNTIL: f64 = 0.9;

/// The characters up to which their embedding is small beside the layers; a script of more kinds is learned as words are.
const CHARACTERS: usize = 1_024;

/// What a run has to work with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// The seconds for training, validation and test.
    pub seconds: f64,
    /// Multiply-adds of a training step a second.
    pub rate: f64,
    /// Bytes read from memory a second.
    pub bandwidth: f64,
    /// The tokens of the training text.
    pub tokens: f64,
    /// The tokens to validate on and to test with.
    pub evaluated: f64,
    /// The lines of the training text.
    pub lines: f64,
    /// V.
    pub vocabulary: usize,
    /// Whether tokens are words, parts of words, or characters of a script that has as many kinds, rather than letters.
    pub words: bool,
}

/// A run chosen for a time, a machine and a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The run.
    pub config: RunConfig,
    /// The size of it.
    pub size: Size,
}

/// What a run costs, and how far the time goes with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// The multiply-adds of a token going forward: the weights it passes, of the readout those of the candidates.
    pub weights: f64,
    /// How many times the text is read.
    pub epochs: f64,
    /// The tokens read.
    pub tokens: f64,
}

/// Why a text is not read in words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NotWords {
    /// This share of the words of a new text would be unknown.
    Unknown(f64),
    /// There are so many words that to score them all would take the time of learning.
    Kinds(usize),
}

/// Whether a text is better read in subwords than in words, and why. words: the training text, read as words of which
/// there are `vocabulary`.
pub fn not_words(words: &Corpus, vocabulary: usize) -> Option<NotWords> {
    // As many words of a new text are new as words of this one occur once (Good 1953). They have an id of their own where
    // the text marks unknown words itself.
    let once = words.unknown + words.ids.counts(vocabulary).into_iter().filter(|count| *count == 1).count();
    let unknown = once as f64 / words.ids.len() as f64;
    match (unknown > UNKNOWN_WORDS, vocabulary > MOST_WORDS) {
        (true, _) => Some(NotWords::Unknown(unknown)),
        (false, true) => Some(NotWords::Kinds(vocabulary)),
        (false, false) => None,
    }
}

/// How many subwords to read a text in.
pub fn subwords(words: &Corpus) -> usize {
    (words.words / WORDS_PER_SUBWORD).clamp(SUBWORDS.0, SUBWORDS.1)
}

/// What a machine does in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Multiply-adds of a training step.
    pub rate: f64,
    /// Bytes read from memory.
    pub bandwidth: f64,
}

impl Machine {
    /// Two fast cores.
    const NOMINAL: Self = Self { rate: 5e10, bandwidth: 3e10 };

    /// Measures this machine, for about a second.
    ///
    /// # Errors
    /// Too little memory to measure.
    pub fn measured() -> Result<Self, ConfigError> {
        let shape = Shape { vocabulary: 2_500, embedding: 320, hidden: 320, layers: 1, segment: 35, batch: 20 };
        let timing = train(shape, Duration::from_millis(500))?.step;
        Ok(Self {
            // Three passes of two operations each, see the module `bench`.
            rate: timing.gflops().max(LEAST_OF_PEAK * peak_gflops()) * 1e9 / 6.0,
            bandwidth: read_gigabytes_per_second(1 << 26) * 1e9,
        })
    }

    /// The bytes of text that a run of so many seconds could read if it did nothing else.
    pub fn readable(&self, seconds: f64) -> u64 {
        let tokens = (TOKENS_PER_WEIGHT * self.rate * seconds).sqrt();
        (BYTES_PER_WORD * tokens) as u64
    }
}

impl Facts {
    /// Of a run that has so many seconds once its texts are read.
    pub fn of(machine: Machine, seconds: f64, data: &Data) -> Self {
        let Machine { rate, bandwidth } = machine;
        let vocabulary = data.tokenizer.vocabulary_size();
        let are_characters = matches!(data.tokenizer.kind(), TokenizerKind::Chars | TokenizerKind::Bytes);
        Self {
            seconds,
            rate,
            bandwidth,
            tokens: data.train.tokens() as f64,
            evaluated: data.evaluated_tokens() as f64,
            lines: data.train.lines as f64,
            vocabulary,
            words: !are_characters || vocabulary > CHARACTERS,
        }
    }

    /// Of a run that time does not bound: what one would have on a machine with two fast cores in
    /// [`DEFAULT_SECONDS`], so that the same command chooses the same anywhere.
    pub fn nominal(data: &Data) -> Self {
        Self::of(Machine::NOMINAL, DEFAULT_SECONDS, data)
    }

    /// The tokens that are read if the number of epochs or steps was decided.
    fn asked(&self, config: &RunConfig) -> Option<f64> {
        let epochs = config.epochs.map(|epochs| epochs as f64 * self.tokens);
        let steps = config.steps.map(|steps| steps as f64 * tokens_per_step(config));
        epochs.into_iter().chain(steps).reduce(f64::min)
    }

    /// How far a run goes that has no budget of time if the number of epochs or steps was decided.
    fn whole_size(&self, config: &RunConfig) -> Size {
        let size = self.size(config);
        let tokens = self.asked(config).filter(|_| config.budget.is_none()).unwrap_or(size.tokens);
        Size { tokens, epochs: tokens / self.tokens, ..size }
    }

    /// How far the time goes with a run.
    fn size(&self, config: &RunConfig) -> Size {
        let (stack, read) = passed(&config.model);
        let vocabulary = self.vocabulary as f64;
        let scored = config.candidates.map_or(vocabulary, |candidates| vocabulary.min(candidates as f64));
        // The bytes of a parameter that a step changes: its own and its gradient's, and Adam's two moments.
        let bytes = if config.optimizer.has_moments() { 28.0 } else { 12.0 };
        let stepped = |rows: f64| bytes * (stack + rows * read) / self.bandwidth / tokens_per_step(config);
        let seconds = |rows: f64| (stack + rows * read) / self.rate + stepped(rows);
        let (sampled, whole) = (seconds(scored), seconds(vocabulary));
        let evaluation = self.evaluated * whole / TRAINING_PER_EVALUATION;
        let until = if config.candidates.is_some() { config.candidates_until } else { 0.0 };
        let time = (0.97 * self.seconds - evaluation).max(0.5 * self.seconds);
        let within_time = time * (until / sampled + (1.0 - until) / whole);
        let tokens = within_time.min(self.asked(config).unwrap_or(f64::INFINITY));
        Size { weights: stack + scored * read, epochs: tokens / self.tokens, tokens }
    }

    /// The weights that a token should pass, of a run whose size is `size`.
    fn wanted(&self, size: Size) -> f64 {
        let all = size.weights * size.tokens;
        let of_new = (TOKENS_PER_WEIGHT * all).sqrt();
        let of_old = (TOKENS_PER_WEIGHT_AND_READING * self.tokens * all).cbrt();
        let tokens = of_new.min(of_old).min(MOST_EPOCHS * self.tokens);
        (all / tokens).min(WEIGHTS_PER_TEXT * self.tokens)
    }

    /// Chooses a run. `overlay` lays over it whatever else was decided, which the choice follows; a decided `optimizer` is
    /// told apart, since the rate goes with it.
    ///
    /// # Errors
    /// Those of `overlay`.
    pub fn plan<E>(
        &self,
        optimizer: Option<OptimizerKind>,
        overlay: impl Fn(RunConfig) -> Result<RunConfig, E>,
    ) -> Result<Plan, E> {
        let words = self.words;
        let run_of = |layers, width, epochs, softmaxes| {
            let usual = if words || epochs < ADAM_FROM { OptimizerKind::Sgd } else { OptimizerKind::Adam };
            self.run_of(layers, width, optimizer.unwrap_or(usual), softmaxes)
        };
        // Adam's steps cost more, so a size chosen for them does for those of SGD.
        let sized = |layers, width| run_of(layers, width, f64::INFINITY, 1);
        let overlay = |config: RunConfig| {
            // Residual connections are the plan's, and give way to what they do not go with.
            let plain =
                RunConfig { model: LanguageModelConfig { residual: false, ..config.model.clone() }, ..config.clone() };
            let mut config = overlay(config).or_else(|_| overlay(plain))?;
            if config.model.penalties.label_smoothing > 0.0 {
                // It raises the score of every token.
                config.candidates = None;
            }
            Ok(config)
        };
        let mut best: Option<(f64, RunConfig)> = None;
        let mut refused = None;
        for (layers, width) in WIDTHS.into_iter().flat_map(|width| [(1, width), (2, width)]) {
            let overlaid = overlay(sized(layers, width));
            // Where the width was decided, the rest follows that.
            let follow = |config: RunConfig| overlay(sized(config.model.layers, config.model.hidden.of(0)));
            let config = match overlaid.and_then(follow) {
                Ok(config) => config,
                // What was decided may need two layers.
                Err(error) => {
                    refused.get_or_insert(error);
                    continue;
                }
            };
            let size = self.size(&config);
            let wanted = self.wanted(size);
            let is_deep = config.model.layers > 1;
            let readings = size.weights * size.tokens / (wanted * self.tokens);
            let (fewest, most) = TWO_LAYERS_OF_WORDS;
            let should = if words {
                wanted > most || readings > READINGS_FOR_TWO_LAYERS && wanted > fewest
            } else {
                wanted > TWO_LAYERS_OF_CHARACTERS
            };
            let misfit = if is_deep == should { 0.0 } else { OTHER_DEPTH };
            let distance = (size.weights / wanted).ln().abs() + misfit;
            if best.as_ref().is_none_or(|(least, _)| distance < *least) {
                best = Some((distance, config));
            }
        }
        let config = match (best, refused) {
            (Some((_, config)), _) => config,
            (None, Some(error)) => return Err(error),
            (None, None) => unreachable!("every width is either taken or refused"),
        };
        // What follows from the size.
        let Size { epochs, weights, .. } = self.whole_size(&config);
        let mut run = run_of(config.model.layers, config.model.hidden.of(0), epochs, config.model.softmaxes);
        run.model.dropout = dropout(epochs, weights / self.tokens, config.model.layers, words);
        let mut config = overlay(run)?;
        if self.asked(&config).is_none() && self.size(&config).epochs > MOST_EPOCHS {
            config.epochs = Some(MOST_EPOCHS as usize);
        }
        let size = self.whole_size(&config);
        Ok(Plan { config, size })
    }

    /// A run with layers of this width, before its regularisation.
    fn run_of(&self, layers: usize, width: usize, optimizer: OptimizerKind, softmaxes: usize) -> RunConfig {
        let words = self.words;
        let (share, fewest, most) = CANDIDATES;
        let candidates = (self.vocabulary / share).clamp(fewest, most);
        let base = Preset::Default.config();
        let line = 1.5 * self.tokens / self.lines.max(1.0);
        let (batch, segment) = if words { (20, (line as usize).clamp(SEGMENT.0, SEGMENT.1)) } else { (32, 64) };
        // A short text in smaller batches, so that it takes some steps to read it.
        let batch = batch.min((self.tokens / (segment * FEWEST_STEPS) as f64) as usize).max(4);
        let (rate, clip) = match optimizer.has_moments() {
            true => (adam_rate(width), 1.0),
            false => (sgd_rate(words, layers, batch, softmaxes), SGD_CLIP),
        };
        RunConfig {
            batch,
            segment,
            candidates: (words && self.vocabulary > SAMPLED_ABOVE).then_some(candidates),
            candidates_until: CANDIDATES_UNTIL,
            schedule: Schedule {
                kind: ScheduleKind::Cosine,
                rate,
                warmup: Warmup::Share(0.03),
                planned_epochs: None,
                ..base.schedule
            },
            epochs: None,
            patience: None,
            optimizer,
            clip: Some(clip),
            adam: AdamSettings { lazy: words && optimizer.has_moments(), ..base.adam },
            model: LanguageModelConfig {
                vocabulary: self.vocabulary,
                layers,
                residual: words && layers > 1,
                tied: words,
                // Not yet chosen.
                dropout: DropoutRates { kind: DropoutKind::Locked, ..DropoutRates::all(0.1) },
                ..LanguageModelConfig::new(self.vocabulary, if words { width } else { width.min(128) }, width)
            },
            ..base
        }
    }
}

/// The tokens that a step learns from.
fn tokens_per_step(config: &RunConfig) -> f64 {
    config.batch as f64 * config.segment as f64 * config.accumulate as f64
}

/// The weights of a model that every token passes on its way to the readout, and those of the readout for each token
/// scored.
fn passed(config: &LanguageModelConfig) -> (f64, f64) {
    // A model that cannot be is refused by whoever builds it.
    let Ok(model) = LanguageModel::new(config.clone()) else { return (1.0, 1.0) };
    let layout = model.layout();
    let of = |name: &str| layout.entries().iter().find(|entry| entry.name == name);
    let scored = of("readout.weight").or(of("embedding.weight"));
    let read = scored.map_or(0, |entry| entry.shape[1].saturating_mul(config.softmaxes));
    let tables = ["embedding.weight", "readout.weight"];
    let matrices = layout.entries().iter().filter(|entry| entry.shape.len() == 2 && !tables.contains(&&entry.name[..]));
    (matrices.map(|entry| entry.shape.iter().product::<usize>()).sum::<usize>() as f64, read as f64)
}

/// The bytes of a word of most languages, and the space after it.
const BYTES_PER_WORD: f64 = 6.0;

/// The bounds of a segment of words, between which it is half as long again as a line.
const SEGMENT: (usize, usize) = (35, 50);

/// The fewest steps of an epoch.
const FEWEST_STEPS: usize = 50;

/// How often a text of characters is read from where on Adam is as good as SGD, which ends lower before:
/// tinyshakespeare comes to 4.69 with SGD and 5.07 with Adam in 2.8 readings, 4.12 and 4.17 in 7. A text of words
/// never is: on the Penn Treebank SGD ends 12 % lower with 0.6 readings and 11 % with 1.4, 3 % with four and 5 % with
/// nine.
const ADAM_FROM: f64 = 5.0;

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

/// What of that rate a mixture of softmaxes takes: Yang 2018 has 20 where Merity 2017 has 30. With two layers of 200 and
/// five softmaxes the first reading of a tenth of the Penn Treebank has a training perplexity of 1,167 at 15 and of 5,147,
/// hardly less than untrained, at 30; after four the validation perplexity is 287 and 278.
const SGD_RATE_OF_MIXTURES: f32 = 2.0 / 3.0;

/// Adam's rate for layers of this width: 0.0045 at 256, less for wider ones, whose scores each step changes by more.
fn adam_rate(width: usize) -> f32 {
    let rate = 0.0045 * (256.0 / width.max(128) as f64).sqrt();
    ((rate * 1e4).round().max(1.0) * 1e-4) as f32
}

/// What more is dropped for every doubling of the times a text is read, from [`DROPOUT_FROM`] on, and for every
/// doubling of the weights that a token passes for each token of the text: with nine readings of the Penn Treebank by
/// a layer of 512 the validation perplexity is 94.5 at 0.2, 90.5 at 0.3 and 93.5 at 0.4; with 2.7 by a layer of 96 it
/// is 148.7 at 0.18 and 142.9 at 0.05, with four by one of 128 it is 130.4 at 0.05 and 125.3 without. What has fewer
/// weights than the text has tokens learns little by heart, so the second counts twice there.
const DROPOUT: f64 = 0.14;
const DROPOUT_BY_SIZE: f64 = 0.04;
const DROPOUT_FROM: f64 = 2.3;

/// How much less of the recurrent weights is dropped.
const LESS_OF_WEIGHTS: f64 = 0.1;

/// The bounds of the most that is dropped, and of weights. What a word of the text has of the model's weights says
/// where between the two: with few of them a model cannot learn by heart, with many it does. Layers above the first learn
/// less by heart, so with them it is the lower one: with fifteen readings of a quarter of the Penn Treebank by two layers of
/// 304 the test perplexity is 147.3 at 0.35 and 165.7 at 0.48 with 0.18 of the words.
const MOST_DROPOUT: (f64, f64) = (0.35, 0.5);
const MOST_DROPOUT_OF_WEIGHTS: f64 = 0.3;
const DROPOUT_FOR_WEIGHTS: f64 = 1.0 / 16.0;

/// The words that are dropped whole where the upper of the two bounds is reached, and in proportion below it: with
/// twenty readings of 94,000 words by a layer of 208 the test perplexity is 178.3 without and 173.1 with it.
const MOST_DROPOUT_OF_WORDS: f64 = 0.2;

/// What is dropped: nothing of what is read once or twice, more with every reading. weights_per_token: those that a
/// token passes, for each token of the text; whole_words: whether tokens are words, or parts of words as long.
fn dropout(epochs: f64, weights_per_token: f64, layers: usize, whole_words: bool) -> DropoutRates {
    let rounded = |rate: f64| ((rate * 100.0).round() * 0.01).max(0.0) as f32;
    let (fewest, most) = MOST_DROPOUT;
    let bound = if layers > 1 { fewest } else { (DROPOUT_FOR_WEIGHTS * weights_per_token).clamp(fewest, most) };
    let size = weights_per_token.log2();
    let rate = DROPOUT * (epochs / DROPOUT_FROM).log2() + DROPOUT_BY_SIZE * (size + size.min(0.0));
    let rate = rate.min(bound);
    let weights = rounded((rate - LESS_OF_WEIGHTS).min(MOST_DROPOUT_OF_WEIGHTS));
    let words = MOST_DROPOUT_OF_WORDS * (rate - fewest).max(0.0) / (most - fewest);
    let embedding = if whole_words { rounded(words) } else { 0.0 };
    DropoutRates { kind: DropoutKind::Locked, weights, embedding, ..DropoutRates::all(rounded(rate)) }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// The Penn Treebank on two cores.
    const PTB: Facts = Facts {
        seconds: 180.0,
        rate: 5e10,
        bandwidth: 3e10,
        tokens: 930e3,
        evaluated: 156e3,
        lines: 42e3,
        vocabulary: 10_000,
        words: true,
    };

    /// The same text, if it were of letters.
    const LETTERS: Facts = Facts { vocabulary: 66, words: false, ..PTB };

    fn plan(facts: Facts) -> Plan {
        let Ok(plan) = facts.plan(None, Ok::<_, Infallible>);
        plan
    }

    fn shape(plan: &Plan) -> (usize, usize) {
        (plan.config.model.layers, plan.config.model.hidden.of(0))
    }

    #[test]
    fn every_plan_can_be_run() {
        for seconds in [1.0, 60.0, 1e3, 1e5] {
            for rate in [1e9, 1e11, 1e13] {
                for tokens in [2.0, 1e4, 1e6, 1e9] {
                    for vocabulary in [2, 66, 10_000, 300_000] {
                        for words in [false, true] {
                            let facts = Facts { seconds, rate, tokens, vocabulary, words, ..PTB };
                            let Plan { config, size } = plan(facts);
                            config.validate().unwrap_or_else(|error| panic!("{facts:?}: {error}"));
                            LanguageModel::new(config.model).unwrap_or_else(|error| panic!("{facts:?}: {error}"));
                            assert!(size.epochs > 0.0 && size.epochs <= MOST_EPOCHS, "{facts:?}: {size:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn more_time_buys_a_larger_model_and_more_reading_which_asks_for_more_dropout() {
        let plans = [60.0, 600.0, 6_000.0].map(|seconds| plan(Facts { seconds, ..PTB }));
        for pair in plans.windows(2) {
            assert!(shape(&pair[0]) < shape(&pair[1]));
            assert!(pair[0].size.epochs < pair[1].size.epochs);
            assert!(pair[0].config.model.dropout.input <= pair[1].config.model.dropout.input);
        }
        let [shortest, .., longest] = plans.map(|plan| plan.config.model.dropout.input);
        assert!(shortest < longest && longest >= MOST_DROPOUT.0 as f32);
    }

    #[test]
    fn a_long_text_is_read_once_and_a_short_one_in_a_small_model() {
        let long = plan(Facts { tokens: 100e6, ..PTB });
        assert!(long.size.epochs < 1.0 && long.config.model.dropout.input == 0.0);
        let short = plan(Facts { tokens: 5e3, ..PTB });
        assert!(shape(&short) < shape(&plan(PTB)));
        assert_eq!(short.config.epochs, Some(MOST_EPOCHS as usize));
        assert_eq!(short.config.model.dropout.input, MOST_DROPOUT.1 as f32, "it is learned by heart");
        assert_eq!(short.config.model.dropout.embedding, MOST_DROPOUT_OF_WORDS as f32);
        assert_eq!(plan(PTB).config.model.dropout.embedding, 0.0);
        let characters = plan(Facts { tokens: 5e3, ..LETTERS });
        assert_eq!(characters.config.model.dropout.embedding, 0.0, "a text has few kinds of characters to drop");
        assert!(short.config.batch < long.config.batch && short.config.schedule.rate < plan(PTB).config.schedule.rate);
    }

    #[test]
    fn words_read_often_are_learned_by_two_layers_with_residual_connections() {
        let deep = plan(Facts { seconds: 1_800.0, ..PTB }).config;
        assert!(deep.model.layers == 2 && deep.model.residual, "{deep:?}");
        assert_eq!((deep.model.dropout.input, deep.model.dropout.embedding), (MOST_DROPOUT.0 as f32, 0.0));
        assert!(!plan(PTB).config.model.residual);
        let characters = plan(Facts { seconds: 6_000.0, tokens: 1e6, ..LETTERS }).config.model;
        assert!(characters.layers == 2 && !characters.residual);
        // They give way where they are not possible.
        let sizes = Facts { seconds: 1_800.0, ..PTB }.plan(None, |mut config| {
            (config.model.layers, config.model.hidden) = (2, vec![300, 200].into());
            LanguageModel::new(config.model.clone()).map(|_| config)
        });
        assert!(!sizes.unwrap().config.model.residual);
    }

    #[test]
    fn large_vocabularies_are_sampled_and_characters_are_not_tied() {
        let candidates =
            [66, 3_000, 10_000, 33_000, 300_000].map(|vocabulary| plan(Facts { vocabulary, ..PTB }).config.candidates);
        assert_eq!(candidates, [None, None, Some(1_000), Some(1_650), Some(4_000)]);
        assert!(!plan(LETTERS).config.model.tied);
        assert!(plan(PTB).config.model.tied);
    }

    /// Texts of fewer than 1,025 words or subwords were planned as if they were of characters.
    #[test]
    fn few_kinds_of_words_are_words() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text.txt");
        std::fs::write(&text, "a few words of few kinds\n".repeat(200)).unwrap();
        let facts =
            [TokenizerKind::Words, TokenizerKind::Bpe, TokenizerKind::Chars, TokenizerKind::Bytes].map(|kind| {
                let mut config = RunConfig { tokenizer: kind, ..Preset::Default.config() };
                config.data.train = Some(text.clone());
                Facts::nominal(&Data::read(&config, None).unwrap())
            });
        assert_eq!(facts.map(|facts| facts.words), [true, true, false, false]);
        assert!(facts.iter().all(|facts| facts.vocabulary <= CHARACTERS));
        let few = plan(Facts { vocabulary: 300, ..PTB }).config;
        assert!(few.model.tied && few.optimizer == OptimizerKind::Sgd && few.candidates.is_none());
    }

    #[test]
    fn the_rate_is_the_optimizers() {
        let with = |optimizer, facts: Facts| {
            let Ok(plan) = facts.plan(optimizer, Ok::<_, Infallible>);
            plan.config
        };
        let (adam, sgd) = (with(Some(OptimizerKind::Adam), PTB), with(None, PTB));
        assert_eq!((adam.optimizer, sgd.optimizer), (OptimizerKind::Adam, OptimizerKind::Sgd));
        assert!(adam.schedule.rate < 0.01 && sgd.schedule.rate > 1.0);
        assert!(adam.adam.lazy && !sgd.adam.lazy);
        let longer = with(Some(OptimizerKind::Adam), Facts { seconds: 6_000.0, ..PTB });
        assert!(longer.schedule.rate < adam.schedule.rate, "a wider layer's");
        let characters = with(None, LETTERS);
        assert!(characters.optimizer == OptimizerKind::Adam && characters.schedule.rate < 0.01);
    }

    #[test]
    fn what_was_decided_is_followed() {
        let with = |change: fn(&mut RunConfig)| {
            let Ok(plan) = PTB.plan(None, |mut config| {
                change(&mut config);
                Ok::<_, Infallible>(config)
            });
            plan
        };
        let wide = with(|config| config.model.hidden = 650.into());
        assert_eq!((shape(&wide).1, wide.config.model.embedding), (650, 650));
        assert!(wide.size.epochs < plan(PTB).size.epochs);
        assert_eq!(shape(&with(|config| config.model.layers = 3)).0, 3);
        // What time does not bound is as long as it was decided to be, and dropout goes with that.
        let longer = with(|config| config.steps = Some(13_280));
        assert!((longer.size.epochs - 10.0).abs() < 0.01, "{:?}", longer.size);
        assert_eq!(longer.config.model.dropout.input, 0.31);
        // Who asks for more steps than a text is usually read with gets them.
        let short = Facts { tokens: 9e3, ..PTB };
        let Ok(many) = short.plan(None, |config| Ok::<_, Infallible>(RunConfig { steps: Some(100_000), ..config }));
        assert!(many.config.epochs.is_none() && plan(short).config.epochs == Some(MOST_EPOCHS as usize));
        // Every token is scored where every one is smoothed, and the model is smaller for it.
        let smoothed = with(|config| config.model.penalties.label_smoothing = 0.1);
        assert_eq!(smoothed.config.candidates, None);
        assert!(shape(&smoothed).1 < shape(&plan(PTB)).1);
        // Coupled gates have three quarters of the weights, so more is read with them.
        let [coupled, plain] = [true, false].map(|coupled| {
            let Ok(plan) = PTB.plan(None, |mut config| {
                config.model.hidden = 400.into();
                config.model.variant.coupled = coupled;
                Ok::<_, Infallible>(config)
            });
            plan.size
        });
        assert!(coupled.weights < 0.9 * plain.weights && coupled.tokens > plain.tokens);
        // A mixture of softmaxes is learned at a lower rate.
        assert_eq!(with(|config| config.model.softmaxes = 3).config.schedule.rate, 23.3);
        // What needs two layers gets them.
        let residual = PTB.plan(None, |mut config| {
            config.model.residual = true;
            LanguageModel::new(config.model.clone()).map(|_| config)
        });
        assert_eq!(shape(&residual.unwrap()).0, 2);
        let refused = PTB.plan(None, |config| Err::<RunConfig, _>(format!("not {}", config.model.layers)));
        assert_eq!(refused.unwrap_err(), "not 1");
    }
}
