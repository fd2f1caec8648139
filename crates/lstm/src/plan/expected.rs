//! The test perplexity that a run is expected to reach, said before it is trained, and how sure that is.
//!
//! What a network reaches on a text lies near what counting reaches there, nearer and then below it the more tokens the network
//! reads and the wider it is. So the logarithm of its nats a token is taken to be linear in that of the nats of a Kneser-Ney model
//! that is counted on a little of the training text, in the powers -½ of the tokens read and of the width, which level off as losses
//! do (Hestness 2017, Kaplan 2020), and in the kind of run. The constants are those of a least-squares fit to runs over texts of many
//! kinds, the band Student's of what a fit misses that has not seen the text: `bench/expected.py`, drawn in `docs/budget.md`.

use std::convert::Infallible;
use std::fmt;

use serde_json::json;

use super::facts::Facts;
use super::search::Plan;
use crate::optim::optimizer::OptimizerKind;
use crate::run::config::RunConfig;
use crate::run::expectation::{Expectation, Known};
use crate::run::fine_tuning::FineTuning;
use crate::run::settings::{difference, said_name};
use crate::run::training::Training;
use crate::said::{count, grouped};
use crate::text::batch::Batching;
use crate::text::corpus::Corpus;
use crate::text::ngram::Ngram;
use crate::train::data::Data;

/// The fit: what the logarithm of the nats a token is the sum of. As `bench/expected.py` prints it.
const CONSTANT: f64 = -0.6045;
const OF_COUNTED: f64 = 1.1091;
const OF_TOKENS: f64 = 0.2205;
const OF_TOKENS_OF_WORDS: f64 = -0.1416;
const OF_WIDTH: f64 = 0.1263;
const OF_ADAM: f64 = 0.2505;
const OF_WORDS: f64 = 0.0265;

/// What an embedding gains that starts from the company of words, which no run of the fit did: two runs of 1,500 and 3,000 steps on the
/// Penn Treebank beside the same without, -0.06 and -0.04.
const OF_VECTORS: f64 = -0.05;

/// The deviation of what a fit without the text misses, and how many times it four of five runs lie within: Student's t with as many
/// degrees of freedom as there were other texts.
const DEVIATION: f64 = 0.0916;
const QUANTILE: f64 = 1.325;

/// Between which nats a token that were counted, tokens that were read and widths the runs of the fit lay.
const COUNTED: (f64, f64) = (1.65, 6.1);
const TOKENS: (f64, f64) = (220e3, 3.6e6);
const WIDTHS: (f64, f64) = (48.0, 256.0);

/// How much wider the band is for each doubling outside of them: no run says by how much, so it is a tenth. It is as if there were
/// [`OF_LAYERS`] more of them with two layers, of which the fit had none.
const WIDER: f64 = 0.1;
const OF_LAYERS: f64 = 2.0;

/// The fewest tokens of a run, of its training text and of its test text of which anything is said.
const FEWEST_READ: f64 = 100e3;
const FEWEST_TOKENS: usize = 16_000;
const FEWEST_TESTED: usize = 1_000;

/// The fewest nats a token, by counting, of which anything is said: a text that repeats itself is none that was measured.
const LEAST_COUNTED: f64 = 0.4;

/// The tokens that are counted, of the training text, and foreseen, of the test text, in how many pieces from all over them: counting
/// takes some hundredths of a second, and a network of a run of a minute is as good as what is counted on about so few.
const TAKEN: (usize, usize) = (16_000, 40);
const FORESEEN: (usize, usize) = (20_000, 20);

/// How many tokens are counted at a time, of letters and of words or parts of them: the best stands for all.
const ORDERS_OF_LETTERS: [usize; 3] = [3, 5, 7];
const ORDERS_OF_WORDS: [usize; 2] = [2, 3];

/// The logarithm of the nats a token, and the deviation of it.
fn logarithm_of_nats(known: &Known) -> (f64, f64) {
    let Known { counted, tokens, width, layers, letters, adam, vectors } = *known;
    let is = |so: bool| f64::from(u8::from(so));
    let few = (tokens / 1e6).powf(-0.5);
    let middle = CONSTANT
        + OF_COUNTED * counted.ln()
        + (OF_TOKENS + OF_TOKENS_OF_WORDS * is(!letters)) * few
        + OF_WIDTH * (width as f64 / 100.0).powf(-0.5)
        + OF_ADAM * is(adam)
        + OF_WORDS * is(!letters)
        + OF_VECTORS * is(vectors);
    let doublings = |value: f64, (least, most): (f64, f64)| (least / value).max(value / most).max(1.0).log2();
    let outside = doublings(counted, COUNTED)
        + doublings(tokens, TOKENS)
        + doublings(width as f64, WIDTHS)
        + OF_LAYERS * is(layers > 1);
    (middle, DEVIATION * (1.0 + WIDER * outside))
}

/// Of what is known.
pub(super) fn of(known: Known) -> Expectation {
    let (middle, deviation) = logarithm_of_nats(&known);
    let perplexity = |deviations: f64| four_digits((middle + deviations * deviation).exp().exp());
    Expectation { perplexity: perplexity(0.0), low: perplexity(-QUANTILE), high: perplexity(QUANTILE), known }
}

/// A number in as many digits as say something, the same when it was written and read again.
fn four_digits(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Why nothing is said of what a run will reach.
#[derive(Clone, Debug, PartialEq)]
pub enum Unforeseen {
    /// There is no test text.
    NoTest,
    /// The training text, the test text or what is read in the time is too short: its tokens, and the fewest.
    Short {
        /// Which.
        what: &'static str,
        /// Its tokens.
        tokens: usize,
        /// The fewest.
        fewest: usize,
    },
    /// It goes on from a trained model, or has teachers, or reads otherwise than in a stream.
    Other(&'static str),
    /// A setting is not the plan's: its name, its value, and what the plan would choose.
    Decided {
        /// What it is called in sentences.
        setting: String,
        /// Its value.
        value: String,
        /// The plan's.
        planned: String,
    },
}

impl fmt::Display for Unforeseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTest => f.write_str("there is no test text"),
            Self::Short { what, tokens, fewest } => {
                let (tokens, fewest) = (count(*tokens, "token"), grouped(*fewest as u64));
                write!(f, "{what} has {tokens}, and {fewest} are the fewest that it was measured with")
            }
            Self::Other(why) => f.write_str(why),
            Self::Decided { setting, value, planned } => {
                write!(f, "`{setting}` is {value}, where the plan has {planned}")
            }
        }
    }
}

/// About `most` tokens of a corpus, in `pieces` from all over it; all of one that has no more.
fn taken(corpus: &Corpus, (most, pieces): (usize, usize)) -> Vec<u32> {
    let all = corpus.ids.len();
    if all <= most {
        return (0..all).map(|at| corpus.ids.get(at)).collect();
    }
    let size = most / pieces;
    let start = |piece: usize| piece * (all - size) / (pieces - 1);
    (0..pieces).flat_map(|piece| (start(piece)..start(piece) + size).map(|at| corpus.ids.get(at))).collect()
}

/// The nats a token of the test text, by a model that counted a little of the training text.
///
/// # Errors
/// Texts of which nothing is said.
pub(super) fn counted(data: &Data, config: &RunConfig, letters: bool) -> Result<f64, Unforeseen> {
    let short = |what, corpus: &Corpus, fewest| {
        let tokens = corpus.ids.len();
        if tokens < fewest { Err(Unforeseen::Short { what, tokens, fewest }) } else { Ok(()) }
    };
    let test = data.test.as_ref().ok_or(Unforeseen::NoTest)?;
    short("the training text", &data.train, FEWEST_TOKENS)?;
    short("the test text", test, FEWEST_TESTED)?;
    if config.fine_tuning != FineTuning::default() {
        return Err(Unforeseen::Other("it goes on from a trained model"));
    }
    if !config.teaching.is_none() {
        return Err(Unforeseen::Other("it has teachers"));
    }
    if config.batching != Batching::Stream || config.data.documents.is_some() {
        return Err(Unforeseen::Other("it does not read one long stream"));
    }
    let (learn, foresee) = (taken(&data.train, TAKEN), taken(test, FORESEEN));
    let orders = if letters { &ORDERS_OF_LETTERS[..] } else { &ORDERS_OF_WORDS };
    let vocabulary = data.tokenizer.vocabulary_size();
    let nats = |order: &usize| Ngram::train(*order, &learn, vocabulary, None).perplexity(&foresee).ln();
    let least = orders.iter().map(nats).fold(f64::INFINITY, f64::min);
    if least < LEAST_COUNTED {
        return Err(Unforeseen::Other("counting a little of the text foresees nearly all of the test text"));
    }
    Ok(four_digits(least))
}

/// What is expected of a planned run, of whose texts so many nats a token were counted. `overlay` lays over a run what was decided.
pub(super) fn expected(
    plan: &Plan,
    facts: &Facts,
    counted: f64,
    overlay: impl Fn(RunConfig) -> Option<RunConfig>,
) -> Result<Expectation, Unforeseen> {
    let (config, tokens) = (&plan.config, plan.size.tokens);
    // Texts, length, and what decides no quality may be anything.
    let neutral = |chosen: RunConfig| {
        let Training {
            seed, precision, shards, wire, epochs, steps, budget, patience, keep_checkpoints, member, ..
        } = config.training;
        let training = Training {
            seed,
            precision,
            shards,
            wire,
            epochs,
            steps,
            budget,
            patience,
            keep_checkpoints,
            member,
            ..chosen.training
        };
        let (data, tokenizer, vocabulary) = (config.data.clone(), config.tokenizer, config.vocabulary);
        RunConfig { data, tokenizer, vocabulary, training, ..chosen }
    };
    let Ok(alone) = facts.plan(None, |chosen| Ok::<_, Infallible>(neutral(chosen)));
    // Of what was decided first: what follows from it says less.
    let decided = overlay(alone.config.clone()).map_or(config.clone(), neutral);
    let differing = |config: &RunConfig| difference(&json!(alone.config), &json!(config), "");
    if let Some((setting, [planned, value])) = differing(&decided).or(differing(config)) {
        return Err(Unforeseen::Decided { setting: said_name(&setting), value, planned });
    }
    if tokens < FEWEST_READ {
        let (tokens, fewest) = (tokens as usize, FEWEST_READ as usize);
        return Err(Unforeseen::Short { what: "the whole run", tokens, fewest });
    }
    let lstm = &config.model.lstm;
    Ok(of(Known {
        counted,
        tokens: tokens.round(),
        width: lstm.hidden.of(0),
        layers: lstm.layers,
        letters: !facts.words,
        adam: !facts.words && config.training.optimizer == OptimizerKind::Adam,
        vectors: config.spectral_embedding,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of `bench/expected.jsonl`, and what its script makes of them (`python3 bench/expected.py fit --check`).
    #[test]
    fn the_formula_is_that_of_the_fit() {
        let known = |counted, tokens, width, letters, adam| Known {
            counted,
            tokens,
            width,
            layers: 1,
            letters,
            adam,
            vectors: false,
        };
        for (known, [middle, low, high]) in [
            (known(4.173, 970_289.0, 64, false, false), [32.182, 21.644, 50.364]),
            (known(6.1117, 1_348_396.0, 48, false, false), [213.96, 115.89, 427.56]),
            (known(1.9489, 1_489_283.0, 128, true, false), [4.637, 3.8914, 5.6519]),
            (known(2.1178, 3_647_427.0, 256, true, false), [4.5964, 3.8612, 5.596]),
        ] {
            let expected = of(known);
            for (found, script) in [(expected.perplexity, middle), (expected.low, low), (expected.high, high)] {
                assert!((found / script - 1.0).abs() < 2e-3, "{expected:?}: {script}");
            }
        }
    }

    #[test]
    fn what_lies_outside_of_the_fit_widens_the_band() {
        let inside =
            Known { counted: 5.0, tokens: 1e6, width: 64, layers: 1, letters: false, adam: false, vectors: false };
        let deviation = |known| logarithm_of_nats(&known).1;
        assert_eq!(deviation(inside), DEVIATION);
        // Two doublings.
        for outside in [Known { tokens: 4.0 * TOKENS.1, ..inside }, Known { layers: 2, ..inside }] {
            assert!((deviation(outside) / DEVIATION - 1.2).abs() < 1e-9, "{outside:?}");
        }
        let all = Known { tokens: 4.0 * TOKENS.1, width: 1024, counted: 12.2, ..inside };
        assert!((deviation(all) / DEVIATION - 1.5).abs() < 1e-9);
        // More tokens and wider layers never make it worse.
        assert!(of(Known { width: 128, ..inside }).perplexity < of(inside).perplexity);
        assert!(of(Known { tokens: 1e9, ..inside }).perplexity < of(inside).perplexity);
    }

    #[test]
    fn a_result_lies_below_within_or_above() {
        let expected =
            of(Known { counted: 5.0, tokens: 1e6, width: 64, layers: 1, letters: false, adam: false, vectors: false });
        let places = [expected.low - 0.1, expected.low, expected.perplexity, expected.high, expected.high + 0.1];
        assert_eq!(
            places.map(|reached| expected.place(reached).to_string()),
            ["below", "within", "within", "within", "above"]
        );
        assert_eq!(expected.other_length(1_200_000), None);
        assert_eq!(expected.other_length(500_000), Some(0.5));
        let written = serde_json::to_string(&expected).unwrap();
        assert_eq!(serde_json::from_str::<Expectation>(&written).unwrap(), expected);
    }
}
