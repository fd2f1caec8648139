//! Choosing a run: how far the time goes with every size, and which size goes as far as it should.

use super::facts::{Facts, TRAINING_PER_EVALUATION};
use super::machine::{Machine, Speed};
use super::rules::*;
use crate::model::{LanguageModel, LanguageModelConfig};
use crate::nn::config::LstmConfig;
use crate::optim::muon;
use crate::optim::optimizer::OptimizerKind;
use crate::run::config::RunConfig;
use crate::run::training::Training;
use crate::train::data::Data;

/// The share of the time that is not kept for saving and for what is not foreseen, and the least that is trained in.
const KEPT: f64 = 0.97;
const LEAST_TRAINING: f64 = 0.1;

/// A run chosen for a time, a machine and a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The run.
    pub config: RunConfig,
    /// The size of it.
    pub size: Size,
    /// How much larger a step is than one machine's, where it is and rate and warm-up follow that.
    pub larger: Option<Larger>,
}

/// A step of more rows than one machine would take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Larger {
    /// How many times the rows.
    pub rows: f64,
    /// How many times the rate.
    pub rate: f64,
}

impl Plan {
    /// Whether what was measured of another run holds for this one.
    pub(super) fn is_as_fast_as(&self, other: &Self) -> bool {
        let plain = |config: &RunConfig| {
            let mut model = config.model.clone();
            model.dropout = Default::default();
            (model, config.training.batch, config.segment, config.candidates, config.training.optimizer)
        };
        plain(&self.config) == plain(&other.config)
    }
}

/// The cost of a run, and how far the time goes with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// The multiply-adds of a token going forward: the weights it passes, of the readout those of the candidates.
    pub weights: f64,
    /// How many times the text is read.
    pub epochs: f64,
    /// The tokens read.
    pub tokens: f64,
}

impl Facts {
    /// Of a run that has so many seconds once its texts are read.
    pub fn of(machine: Machine, seconds: f64, data: &Data) -> Self {
        let Machine { rate, exact_rate, precision, bandwidth, ranks, travel } = machine;
        let vocabulary = data.tokenizer.vocabulary_size();
        let are_characters = data.tokenizer.kind().is_of_characters();
        Self {
            seconds,
            rate,
            precision,
            bandwidth,
            ranks,
            travel,
            // An evaluation is in f32, whatever the precision of training.
            evaluation: TRAINING_PER_EVALUATION * exact_rate / rate,
            tokens: data.train.tokens() as f64,
            evaluated: data.evaluated_tokens() as f64,
            lines: data.train.lines as f64,
            vocabulary,
            words: !are_characters || vocabulary > CHARACTERS,
        }
    }

    /// Of a run that time does not bound: what one would have on a machine with two fast cores, or so many `ranks` on one each, in
    /// [`DEFAULT_SECONDS`], so that the same command chooses the same anywhere.
    pub fn nominal(data: &Data, ranks: usize) -> Self {
        Self::of(Machine { ranks, ..Machine::NOMINAL }, DEFAULT_SECONDS, data)
    }

    /// The tokens that are read if the number of epochs or steps was decided.
    fn asked(&self, config: &RunConfig) -> Option<f64> {
        let epochs = config.training.epochs.map(|epochs| epochs as f64 * self.tokens);
        let steps = config.training.steps.map(|steps| steps as f64 * tokens_per_step(config));
        epochs.into_iter().chain(steps).reduce(f64::min)
    }

    /// How far a run goes that has no budget of time if the number of epochs or steps was decided.
    fn whole_size(&self, config: &RunConfig) -> Size {
        let size = self.size(config);
        let tokens = self.asked(config).filter(|_| config.training.budget.is_none()).unwrap_or(size.tokens);
        Size { tokens, epochs: tokens / self.tokens, ..size }
    }

    /// What each of so many members has, that are trained one after the other; beside its own validation and test the texts are read once
    /// more by all together.
    pub(super) fn of_each(&self, members: usize) -> Self {
        let times = if members > 1 { 2.0 } else { 1.0 };
        Self { seconds: self.seconds / members as f64, evaluated: times * self.evaluated, ..*self }
    }

    /// How many models to train one after the other, and to use as one: as many as are of a size for which a text says no more,
    /// [`WORK_OF_MEMBERS`]. `plan` chooses one of them.
    pub(super) fn members<E>(&self, plan: impl Fn(&Self) -> Result<Plan, E>) -> Result<usize, E> {
        let [of_words, of_characters] = WORK_OF_MEMBERS;
        let least = if self.words { of_words } else { of_characters } * self.tokens * self.tokens;
        let mut members = 1;
        for more in 2..=MOST_MEMBERS {
            let each = self.of_each(more);
            if each.seconds < SECONDS_OF_MEMBERS {
                break;
            }
            let Size { weights, tokens, .. } = plan(&each)?.size;
            if weights * tokens < least {
                break;
            }
            members = more;
        }
        Ok(members)
    }

    /// The same for one of the ranks.
    pub(super) fn alone(&self) -> Self {
        Self { ranks: 1, travel: 0.0, ..*self }
    }

    /// The steps of a run.
    pub(super) fn steps(&self, config: &RunConfig) -> f64 {
        let tokens = self.whole_size(config).tokens;
        let most = if self.asked(config).is_none() { MOST_EPOCHS * self.tokens } else { f64::INFINITY };
        tokens.min(most) / tokens_per_step(config)
    }

    /// The seconds that a token takes in a training step that scores candidates, if there are any, and in one that scores
    /// every token.
    fn seconds_per_token(&self, config: &RunConfig) -> (f64, f64) {
        let (stack, read) = passed(&config.model);
        let vocabulary = self.vocabulary as f64;
        // The bytes of a parameter that a step changes: its own and its gradient's, and Adam's two moments.
        let bytes = if config.training.optimizer.has_moments() { 28.0 } else { 12.0 };
        let multiplications =
            || LanguageModel::new(config.model.clone()).map_or(0.0, |model| muon::multiplications(model.layout()));
        let orthogonal = if config.training.optimizer.is_muon() { multiplications() / 3.0 } else { 0.0 };
        let stepped = |values: f64| values * (bytes / self.bandwidth + self.travel) + orthogonal / self.rate;
        let seconds = |rows: f64| {
            let values = stack + rows * read;
            values / (self.rate * self.ranks as f64) + stepped(values) / tokens_per_step(config)
        };
        (seconds(scored(config, vocabulary)), seconds(vocabulary))
    }

    /// How far the time goes with a run.
    pub(super) fn size(&self, config: &RunConfig) -> Size {
        let (stack, read) = passed(&config.model);
        let (sampled, whole) = self.seconds_per_token(config);
        // One rank alone evaluates.
        let evaluation = self.evaluated * self.alone().seconds_per_token(config).1 / self.evaluation;
        let time = (KEPT * self.seconds - evaluation).max(LEAST_TRAINING * self.seconds);
        let within_time = time / mean(config, sampled, whole);
        let tokens = within_time.min(self.asked(config).unwrap_or(f64::INFINITY));
        let weights = stack + scored(config, self.vocabulary as f64) * read;
        Size { weights, epochs: tokens / self.tokens, tokens }
    }

    /// Takes it into account how fast a run was measured to be. Gives how many times longer it takes than was thought.
    pub(super) fn correct(&mut self, config: &RunConfig, speed: Speed) -> f64 {
        // What travels was measured by itself.
        let (sampled, whole) = Self { travel: 0.0, ..*self }.seconds_per_token(config);
        let ratio = mean(config, speed.sampled, speed.whole) / mean(config, sampled, whole);
        self.rate /= ratio;
        self.bandwidth /= ratio;
        self.evaluation = self.alone().seconds_per_token(config).1 / speed.evaluation;
        ratio
    }

    /// The share of the time that validation and test take with the smallest model.
    pub(super) fn least_evaluation(&self) -> f64 {
        let config = self.run_of(1, WIDTHS[0], OptimizerKind::Sgd, 1);
        self.evaluated * self.alone().seconds_per_token(&config).1 / self.evaluation / self.seconds
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
            self.run_of(layers, width, optimizer.unwrap_or(usual_optimizer(words, epochs)), softmaxes)
        };
        // Muon's steps cost the most, so a size chosen for them does for those of Adam.
        let sized = |layers, width| run_of(layers, width, 0.0, 1);
        let overlay = |config: RunConfig| {
            // Residual connections are the plan's, and give way to what they do not go with.
            let plain = RunConfig {
                model: LanguageModelConfig {
                    lstm: LstmConfig { residual: false, ..config.model.lstm.clone() },
                    ..config.model.clone()
                },
                ..config.clone()
            };
            let mut config = overlay(config).or_else(|_| overlay(plain))?;
            if config.model.penalties.label_smoothing > 0.0 || !config.teaching.is_none() {
                // One raises the score of every token, the other speaks of every token.
                config.candidates = None;
            }
            Ok(config)
        };
        let mut best: Option<(f64, RunConfig)> = None;
        let mut refused = None;
        for (layers, width) in WIDTHS.into_iter().flat_map(|width| [(1, width), (2, width)]) {
            let overlaid = overlay(sized(layers, width));
            // Where the width was decided, the rest follows that.
            let follow = |config: RunConfig| overlay(sized(config.model.lstm.layers, config.model.lstm.hidden.of(0)));
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
            let is_deep = config.model.lstm.layers > 1;
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
        let mut run = run_of(config.model.lstm.layers, config.model.lstm.hidden.of(0), epochs, config.model.softmaxes);
        let optimizer = run.training.optimizer;
        run.model.dropout = dropout(epochs, weights / self.tokens, config.model.lstm.layers, words, optimizer);
        let decided = overlay(run.clone())?;
        let Training { batch, accumulate, .. } = decided.training;
        run.spectral_embedding = words && epochs < VECTORS_BELOW && 2 * decided.model.embedding() <= self.vocabulary;
        let larger = self.follow_rows(&mut run, (batch, accumulate));
        let followed = run.training.schedule;
        let decided = overlay(run.clone())?;
        run.training.weight_decay = match decided.training.optimizer {
            OptimizerKind::Sgd if words => {
                weight_decay(epochs, self.steps(&decided), decided.training.schedule.mean_rate(epochs))
            }
            OptimizerKind::Muon if !words => MUON_DECAY,
            _ => 0.0,
        };
        let start = run.model.dropout.start;
        let mut config = overlay(run)?;
        // Where it was decided that nothing drops, nothing rises.
        if config.model.dropout.start == start && !config.model.dropout.any() {
            config.model.dropout.start = 1.0;
        }
        if self.asked(&config).is_none() && self.size(&config).epochs > MOST_EPOCHS {
            config.training.epochs = Some(MOST_EPOCHS as usize);
        }
        let size = self.whole_size(&config);
        let larger = larger.filter(|_| config.training.schedule == followed);
        Ok(Plan { config, size, larger })
    }
}

/// The tokens that a step scores while there are candidates.
fn scored(config: &RunConfig, vocabulary: f64) -> f64 {
    config.candidates.map_or(vocabulary, |candidates| vocabulary.min(candidates as f64))
}

/// The mean seconds of a token over the run, of which a part scores candidates.
pub(super) fn mean(config: &RunConfig, sampled: f64, whole: f64) -> f64 {
    let until = if config.candidates.is_some() { config.candidates_until } else { 0.0 };
    1.0 / (until / sampled + (1.0 - until) / whole)
}

/// The tokens that a step learns from.
fn tokens_per_step(config: &RunConfig) -> f64 {
    config.training.batch as f64 * config.segment as f64 * config.training.accumulate as f64
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::nn::dropout::DropoutRates;
    use crate::nn::precision::Precision;
    use crate::optim::schedule::Warmup;
    use crate::run::preset::Preset;
    use crate::text::tokenizer::TokenizerKind;

    /// The Penn Treebank on two cores.
    const PTB: Facts = Facts {
        seconds: 180.0,
        rate: 5e10,
        precision: Precision::F32,
        bandwidth: 3e10,
        ranks: 1,
        travel: 0.0,
        evaluation: TRAINING_PER_EVALUATION,
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
        (plan.config.model.lstm.layers, plan.config.model.lstm.hidden.of(0))
    }

    #[test]
    fn words_that_are_read_a_few_times_start_from_their_company() {
        assert!(plan(Facts { seconds: 60.0, ..PTB }).config.spectral_embedding);
        let others =
            [Facts { seconds: 3600.0, ..PTB }, Facts { seconds: 60.0, ..LETTERS }, Facts { vocabulary: 20, ..PTB }];
        assert!(others.into_iter().all(|facts| !plan(facts).config.spectral_embedding));
        assert!(others.into_iter().all(|facts| plan(facts).config.unigram_bias));
    }

    #[test]
    fn every_plan_can_be_run() {
        for seconds in [1.0, 60.0, 1e3, 1e5] {
            for rate in [1e9, 1e11, 1e13] {
                for tokens in [2.0, 1e4, 1e6, 1e9] {
                    for vocabulary in [2, 66, 10_000, 300_000] {
                        for (words, ranks) in [(false, 1), (true, 1), (false, 64), (true, 3)] {
                            let facts = Facts { seconds, rate, tokens, vocabulary, words, ranks, ..PTB };
                            let Plan { config, size, .. } = plan(facts);
                            config.validate().unwrap_or_else(|error| panic!("{facts:?}: {error}"));
                            LanguageModel::new(config.model).unwrap_or_else(|error| panic!("{facts:?}: {error}"));
                            assert!(size.epochs > 0.0 && size.epochs <= MOST_EPOCHS, "{facts:?}: {size:?}");
                        }
                    }
                }
            }
        }
    }

    /// The plan said 4.54 million subwords where 2.49 million were trained.
    #[test]
    fn a_measured_speed_changes_what_is_foreseen_and_the_size() {
        let before = plan(PTB);
        for slower in [0.25, 1.0, 8.0] {
            let mut facts = PTB;
            let (sampled, whole) = facts.seconds_per_token(&before.config);
            let speed = Speed { sampled: slower * sampled, whole: slower * whole, evaluation: slower * whole / 3.0 };
            assert!((facts.correct(&before.config, speed) / slower - 1.0).abs() < 1e-9);
            let corrected = facts.size(&before.config);
            // What is left of the time after the evaluation, by the speeds that were measured.
            let time = KEPT * PTB.seconds - PTB.evaluated * speed.evaluation;
            let expected = time.max(LEAST_TRAINING * PTB.seconds) / mean(&before.config, speed.sampled, speed.whole);
            assert!((corrected.tokens / expected - 1.0).abs() < 1e-9, "{slower}: {corrected:?} {expected}");
            let after = plan(facts);
            assert_eq!(shape(&after).1.cmp(&shape(&before).1), 1.0f64.total_cmp(&slower), "{slower}");
        }
    }

    #[test]
    fn a_plan_is_in_the_precision_of_its_rate_unless_another_was_decided() {
        let fast = Facts { precision: Precision::Bf16, ..PTB };
        assert_eq!(plan(PTB).config.training.precision, Precision::F32);
        assert_eq!(plan(fast).config, {
            let mut config = plan(PTB).config;
            config.training.precision = Precision::Bf16;
            config
        });
        let Ok(decided) = fast.plan(None, |mut config| {
            config.training.precision = Precision::F32;
            Ok::<_, Infallible>(config)
        });
        assert_eq!(decided, plan(PTB));
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
        assert!(shortest < longest && longest >= MOST_DROPOUT_OF_LAYERS as f32);
    }

    #[test]
    fn ranks_take_the_rows_of_one_machine_each_and_rate_and_warm_up_follow() {
        let on = |ranks, travel| plan(Facts { seconds: 60.0, ranks, travel, ..PTB });
        let (one, four, far) = (on(1, 0.0), on(4, 0.0), on(4, 1e-7));
        let four_times = Some(Larger { rows: 4.0, rate: 2.0 });
        let steps = |plan: &Plan| {
            let Training { batch, shards, schedule, .. } = &plan.config.training;
            (*batch, *shards, schedule.learning_rate, schedule.warmup, plan.larger)
        };
        assert_eq!(steps(&one), (20, None, 35.0, Warmup::Share(0.03), None));
        // As many steps as one machine takes in the same time, so the same share of them.
        assert_eq!(steps(&four), (80, Some(4), 70.0, Warmup::Share(0.03), four_times));
        // A rate of SGD does not grow for ever.
        assert_eq!((steps(&on(16, 0.0)).0, steps(&on(16, 0.0)).4.map(|larger| larger.rate)), (320, Some(2.0)));
        let work = |plan: &Plan| plan.size.tokens * plan.size.weights;
        assert!(work(&four) > 2.5 * work(&one) && shape(&four) >= shape(&one), "{:?} {:?}", one.size, four.size);
        // What travels takes of the time, and leaves fewer steps.
        assert!(far.size.tokens < 0.8 * four.size.tokens, "{:?} {:?}", far.size, four.size);
        assert!(matches!(steps(&far).3, Warmup::Share(share) if share > 0.03));
        // Too short for so many rows, and one that is read as often as is of use by one machine's.
        let rows_within = |seconds| steps(&plan(Facts { tokens: 80e3, seconds, ranks: 4, ..PTB })).0;
        assert_eq!([0.5, 1.0, 2.0, 5.0, 20.0].map(rows_within).into_iter().max(), Some(40));
        let often = plan(Facts { tokens: 150e3, seconds: 7_200.0, ranks: 4, ..PTB });
        assert_eq!((often.config.training.batch, often.config.training.shards), (20, Some(4)));
        // Each has a row at least.
        assert_eq!(steps(&plan(Facts { tokens: 2e3, ranks: 9, ..PTB })).0, 9);

        // Rows that were decided are followed on one machine too, over as many steps of the fewer that there is time for.
        let of_rows = |batch, accumulate, rate: Option<f32>| {
            let Ok(plan) = PTB.plan(None, |mut config| {
                (config.training.batch, config.training.accumulate) = (batch, accumulate);
                config.training.schedule.learning_rate = rate.unwrap_or(config.training.schedule.learning_rate);
                Ok::<_, Infallible>(config)
            });
            plan
        };
        for plan in [of_rows(80, 1, None), of_rows(20, 4, None)] {
            let (.., rate, Warmup::Share(share), larger) = steps(&plan) else { panic!("{plan:?}") };
            assert!(rate == 70.0 && share > 0.06 && share <= 0.12 && larger == four_times, "{plan:?}");
        }
        assert_eq!((steps(&of_rows(80, 1, Some(9.0))).2, of_rows(80, 1, Some(9.0)).larger), (9.0, None));
        assert_eq!(steps(&of_rows(10, 1, None)).2, 35.0);
    }

    #[test]
    fn several_models_share_a_time_that_is_more_than_one_can_use() {
        let of = |facts: Facts| {
            let plan = |facts: &Facts| facts.plan(None, Ok::<_, Infallible>);
            let Ok(members) = facts.members(plan);
            let Ok(each) = plan(&facts.of_each(members));
            (members, each)
        };
        let words = Facts { tokens: 94e3, evaluated: 15e3, vocabulary: 7_600, ..PTB };
        let within = |facts: Facts, seconds: f64| of(Facts { seconds, ..facts }).0;
        // What one has a use for takes a minute, half of which gives it nearly all.
        assert_eq!([30.0, 50.0, 80.0, 150.0, 600.0].map(|seconds| within(words, seconds)), [1, 1, 2, 4, 8]);
        assert_eq!([600.0, 3_600.0].map(|seconds| within(PTB, seconds)), [1, 1], "a long text is not known so soon");
        let letters = Facts { tokens: 94e3, evaluated: 15e3, ..LETTERS };
        assert!(within(letters, 150.0) < within(words, 150.0), "of letters one has to have all");
        assert_eq!(within(Facts { tokens: 1e3, ..words }, 15.0), 1, "too little time to begin another");
        // Each is like one that has that part of the time.
        let (members, each) = of(Facts { seconds: 150.0, ..words });
        let alone = plan(Facts { seconds: 150.0 / members as f64, ..words });
        assert_eq!(shape(&each), shape(&alone));
    }

    #[test]
    fn a_long_text_is_read_once_and_a_short_one_in_a_small_model() {
        let long = plan(Facts { tokens: 100e6, ..PTB });
        assert!(long.size.epochs < 1.0 && long.config.model.dropout.input == 0.0);
        let short = plan(Facts { tokens: 5e3, ..PTB });
        assert!(shape(&short) < shape(&plan(PTB)));
        assert_eq!(short.config.training.epochs, Some(MOST_EPOCHS as usize));
        let DropoutRates { input, embedding, start, .. } = short.config.model.dropout;
        assert!(input > MOST_DROPOUT.1 as f32 && start == 0.0, "it is learned by heart: {input}");
        assert!(embedding > MOST_DROPOUT_OF_WORDS as f32);
        assert_eq!(plan(PTB).config.model.dropout.embedding, 0.0);
        let characters = plan(Facts { tokens: 5e3, ..LETTERS });
        assert_eq!(characters.config.model.dropout.embedding, 0.0, "a text has few kinds of characters to drop");
        assert!(
            short.config.training.batch < long.config.training.batch
                && short.config.training.schedule.learning_rate < plan(PTB).config.training.schedule.learning_rate
        );
    }

    #[test]
    fn words_read_often_are_learned_by_two_layers_with_residual_connections() {
        let deep = plan(Facts { seconds: 1_800.0, ..PTB }).config;
        assert!(deep.model.lstm.layers == 2 && deep.model.lstm.residual, "{deep:?}");
        assert_eq!((deep.model.dropout.input, deep.model.dropout.embedding), (0.42, 0.0));
        assert!(!plan(PTB).config.model.lstm.residual);
        let characters = plan(Facts { seconds: 6_000.0, tokens: 1e6, ..LETTERS }).config.model;
        assert!(characters.lstm.layers == 2 && !characters.lstm.residual);
        // They give way where they are not possible.
        let sizes = Facts { seconds: 1_800.0, ..PTB }.plan(None, |mut config| {
            (config.model.lstm.layers, config.model.lstm.hidden) = (2, vec![300, 200].into());
            LanguageModel::new(config.model.clone()).map(|_| config)
        });
        assert!(!sizes.unwrap().config.model.lstm.residual);
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
                Facts::nominal(&Data::read(&config, None).unwrap(), 1)
            });
        assert_eq!(facts.map(|facts| facts.words), [true, true, false, false]);
        assert!(facts.iter().all(|facts| facts.vocabulary <= CHARACTERS));
        let few = plan(Facts { vocabulary: 300, ..PTB }).config;
        assert!(few.model.tied && few.training.optimizer == OptimizerKind::Sgd && few.candidates.is_none());
    }

    #[test]
    fn the_rate_is_the_optimizers() {
        let with = |optimizer, facts: Facts| {
            let Ok(plan) = facts.plan(optimizer, Ok::<_, Infallible>);
            plan.config
        };
        let (adam, sgd) = (with(Some(OptimizerKind::Adam), PTB), with(None, PTB));
        assert_eq!((adam.training.optimizer, sgd.training.optimizer), (OptimizerKind::Adam, OptimizerKind::Sgd));
        assert!(adam.training.schedule.learning_rate < 0.01 && sgd.training.schedule.learning_rate > 1.0);
        assert!(adam.training.adam.lazy && sgd.training.adam.lazy);
        let longer = with(Some(OptimizerKind::Adam), Facts { seconds: 6_000.0, ..PTB });
        assert!(longer.training.schedule.learning_rate < adam.training.schedule.learning_rate, "a wider layer's");
        let characters = with(None, Facts { seconds: 2_400.0, ..LETTERS });
        assert!(
            characters.training.optimizer == OptimizerKind::Adam && characters.training.schedule.learning_rate < 0.01
        );
        let short = with(None, Facts { seconds: 20.0, ..LETTERS });
        assert!(
            short.training.optimizer == OptimizerKind::Muon
                && (0.01..0.05).contains(&short.training.schedule.learning_rate)
        );
    }

    #[test]
    fn words_that_are_read_again_decay_as_much_over_a_long_run_as_over_a_short_one() {
        // With a rate and a decay that were decided, if any were.
        let with = |facts: Facts, rate: Option<f32>, decay: Option<f32>| {
            let Ok(plan) = facts.plan(None, |mut config| {
                let training = &mut config.training;
                training.schedule.learning_rate = rate.unwrap_or(training.schedule.learning_rate);
                training.weight_decay = decay.unwrap_or(training.weight_decay);
                Ok::<_, Infallible>(config)
            });
            plan.config.validate().unwrap();
            (plan.size.epochs, facts.steps(&plan.config), plan.config.training)
        };
        for seconds in [20.0, 180.0, 1_800.0] {
            for rate in [None, Some(10.0)] {
                let (epochs, steps, training) = with(Facts { seconds, ..PTB }, rate, None);
                // At a cosine's mean rate, a half of its height.
                let taken = 0.5 * steps * f64::from(training.schedule.learning_rate * training.weight_decay);
                assert!((taken / (0.4 * epochs.log2()) - 1.0).abs() < 0.06, "{taken}, {epochs}: {training:?}");
            }
        }
        assert_eq!(with(Facts { tokens: 1e9, ..PTB }, None, None).2.weight_decay, 0.0, "read once");
        // Of characters it is Muon's, and none of Adam's.
        let [muon, adam] = [60.0, 2_400.0].map(|seconds| with(Facts { seconds, ..LETTERS }, None, None).2);
        assert_eq!((muon.optimizer, muon.weight_decay), (OptimizerKind::Muon, MUON_DECAY));
        assert_eq!((adam.optimizer, adam.weight_decay), (OptimizerKind::Adam, 0.0));
        assert_eq!(with(PTB, None, Some(1e-7)).2.weight_decay, 1e-7);
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
        let wide = with(|config| config.model.lstm.hidden = 650.into());
        assert_eq!((shape(&wide).1, wide.config.model.embedding()), (650, 650));
        assert!(wide.size.epochs < plan(PTB).size.epochs);
        assert_eq!(shape(&with(|config| config.model.lstm.layers = 3)).0, 3);
        // What time does not bound is as long as it was decided to be, and dropout goes with that.
        let longer = with(|config| config.training.steps = Some(13_280));
        assert!((longer.size.epochs - 10.0).abs() < 0.01, "{:?}", longer.size);
        assert_eq!((longer.config.model.dropout.start, longer.config.model.dropout.input), (0.0, 0.42));
        let nothing = with(|config| {
            config.model.dropout = DropoutRates { start: config.model.dropout.start, ..DropoutRates::all(0.0) }
        });
        assert_eq!(nothing.config.model.dropout.start, 1.0);
        // Who asks for more steps than a text is usually read with gets them.
        let short = Facts { tokens: 9e3, ..PTB };
        let Ok(many) = short.plan(None, |config| {
            Ok::<_, Infallible>(RunConfig {
                training: Training { steps: Some(100_000), ..config.training.clone() },
                ..config
            })
        });
        assert!(
            many.config.training.epochs.is_none() && plan(short).config.training.epochs == Some(MOST_EPOCHS as usize)
        );
        // Every token is scored where every one is smoothed, and the model is smaller for it.
        let smoothed = with(|config| config.model.penalties.label_smoothing = 0.1);
        assert_eq!(smoothed.config.candidates, None);
        assert!(shape(&smoothed).1 < shape(&plan(PTB)).1);
        // Coupled gates have three quarters of the weights, so more is read with them.
        let [coupled, plain] = [true, false].map(|coupled| {
            let Ok(plan) = PTB.plan(None, |mut config| {
                config.model.lstm.hidden = 400.into();
                config.model.lstm.variant.coupled = coupled;
                Ok::<_, Infallible>(config)
            });
            plan.size
        });
        assert!(coupled.weights < 0.9 * plain.weights && coupled.tokens > plain.tokens);
        // A mixture of softmaxes is learned at a lower rate.
        assert_eq!(with(|config| config.model.softmaxes = 3).config.training.schedule.learning_rate, 23.3);
        // What needs two layers gets them.
        let residual = PTB.plan(None, |mut config| {
            config.model.lstm.residual = true;
            LanguageModel::new(config.model.clone()).map(|_| config)
        });
        assert_eq!(shape(&residual.unwrap()).0, 2);
        let refused = PTB.plan(None, |config| Err::<RunConfig, _>(format!("not {}", config.model.lstm.layers)));
        assert_eq!(refused.unwrap_err(), "not 1");
    }
}
