//! From a time, a machine and a text to a run: what `lstm train` does when no preset is named.
//!
//! The time buys so many multiply-adds. A larger model learns more from a token, a smaller one reads more of them. What a
//! token is, is chosen by what a sample of the text says ([`Measured`]); the rules of the rest were found by trying both on
//! the Penn Treebank, and `docs/budget.md` shows it.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # let (text, run) = (folder.path().join("text.txt"), folder.path().join("run"));
//! # std::fs::write(&text, "a text to learn from, line by line\n".repeat(200))?;
//! // `lstm train TEXT --budget 2s --out RUN`, in Rust.
//! let mut trainer = lstm::train(&text).budget(2.0).begin(&run)?;
//! let outcome = trainer.run(&mut |event| println!("{event:?}"), None)?;
//! assert!(outcome.test.unwrap().perplexity() > 1.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod expected;
mod facts;
mod machine;
mod rules;
mod search;
mod tokens;

use std::fmt;
use std::time::Instant;

pub use self::expected::Unforeseen;
pub use self::facts::Facts;
pub use self::machine::Machine;
use self::machine::{ReadingSpeed, Speed};
pub use self::rules::DEFAULT_SECONDS;
use self::rules::{LEAST_RATE_OF_SGD, MOST_WORDS, UNKNOWN_WORDS};
use self::search::mean;
pub use self::search::{Larger, Plan, Size};
pub use self::tokens::Measured;
use self::tokens::{Sample, compare, subwords};
use crate::model::LanguageModel;
use crate::nn::precision::Precision;
use crate::optim::optimizer::OptimizerKind;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::expectation::Expectation;
use crate::run::preset::Preset;
use crate::run::training::Member;
use crate::text::batch::Batching;
use crate::text::corpus::Corpus;
use crate::text::tokenizer::{Tokenizer, TokenizerKind};
use crate::train::data::Data;
pub use crate::train::fastest::PrecisionChoice;
use crate::train::fastest::is_left_open;
use crate::train::pretrained::Pretrained;
use crate::train::ranks::Orders;
use crate::train::teachers::check_teachers;
use crate::train::texts::training_source;

/// The share of the time in which a text is read, and that in which subwords are trained on it.
const READING: f64 = 0.08;
const TRAINING_SUBWORDS: f64 = 0.04;

/// The fewest bytes of a text that are read, however little time there is.
const LEAST_READ: f64 = 65_536.0;

/// The bytes of a token where it is not known yet what a token is: about those of a subword.
const BYTES_PER_TOKEN: f64 = 4.0;

/// The share of the time that validation and test may take with the smallest model, before less of the text is used.
const MOST_EVALUATION: f64 = 0.25;

/// The most times a run is chosen anew because the one before was measured to be faster or slower than was thought.
const ROUNDS: usize = 3;

/// The share of the time after which a run is not chosen anew any more.
const LATE: f64 = 0.2;

/// The settings that are there before any are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Those of a preset.
    Preset(Preset),
    /// Those that are chosen for the text, the time and the machine.
    Planned,
}

impl Basis {
    /// The basis of a run: a preset that is named, else a plan for the text, if there is one; the built-in language has its own.
    pub fn of(preset: Option<Preset>, has_text: bool) -> Self {
        match preset {
            Some(preset) => Self::Preset(preset),
            None if has_text => Self::Planned,
            None => Self::Preset(Preset::Builtin),
        }
    }
}

/// A run whose texts are read.
#[derive(Debug)]
pub enum Ready {
    /// By a preset.
    Preset(Box<(RunConfig, Data)>),
    /// By a plan.
    Planned(Box<Chosen>),
}

impl Ready {
    /// The configuration and the texts.
    pub fn into_parts(self) -> (RunConfig, Data) {
        match self {
            Self::Preset(parts) => *parts,
            Self::Planned(chosen) => (chosen.plan.config, chosen.data),
        }
    }
}

/// Reads the texts of a run, and chooses what is not decided about it.
///
/// # Errors
/// What was decided contradicts itself, or a text cannot be used.
pub fn prepare<E: From<TrainError>>(
    basis: Basis,
    decided: &Decided<E>,
    observer: &mut dyn FnMut(Stage),
) -> Result<Ready, E> {
    if basis == Basis::Planned {
        return Ok(Ready::Planned(Box::new(choose(decided, observer)?)));
    }
    let config = decided.start_from(basis)?;
    observer(Stage::Reading);
    let data = Data::read_by(&config, None, true, decided.pretrained).map_err(TrainError::from)?;
    Ok(Ready::Preset(Box::new((config, data))))
}

/// The decisions about a run that were made; the rest is chosen, and follows them.
pub struct Decided<'a, E> {
    /// Lays what was decided over a run, such as its texts and its bounds.
    pub overlay: &'a dyn Fn(RunConfig) -> Result<RunConfig, E>,
    /// Whether that says what a token is.
    pub tokens: bool,
    /// The optimizer that was named, since the learning rate goes with it.
    pub optimizer: Option<OptimizerKind>,
    /// Where none was named: the one that other settings are of, such as a learning rate ([`optimizer_of_rate`]).
    pub likely_optimizer: Option<OptimizerKind>,
    /// The trained model that the run goes on from, if there is one.
    pub pretrained: Option<&'a Pretrained>,
    /// Whether several models may be chosen, to be trained one after the other
    /// ([`Trainer::next_member`](crate::train::trainer::Trainer::next_member)) and used as one. Where their number was decided it is that.
    pub members: bool,
    /// The ranks that will share its steps, if this is the first of several.
    pub orders: Option<&'a Orders<'a>>,
    /// When the run began: its budget counts from here.
    pub since: Instant,
}

impl<'a, E: From<TrainError>> Decided<'a, E> {
    /// Only the decisions that `overlay` lays over a run; the run begins now.
    pub fn by(overlay: &'a dyn Fn(RunConfig) -> Result<RunConfig, E>) -> Self {
        Self {
            overlay,
            tokens: false,
            optimizer: None,
            likely_optimizer: None,
            pretrained: None,
            members: false,
            orders: None,
            since: Instant::now(),
        }
    }

    /// The configuration of the run before its text is read.
    ///
    /// # Errors
    /// What was decided contradicts itself.
    pub fn start_from(&self, basis: Basis) -> Result<RunConfig, E> {
        let Basis::Preset(preset) = basis else { return self.start() };
        let config = (self.overlay)(preset.config())?;
        config.validate().map_err(TrainError::from)?;
        Ok(config)
    }

    fn start(&self) -> Result<RunConfig, E> {
        self.start_in(Precision::F32)
    }

    /// The precision of its products, if that was decided.
    fn precision(&self) -> Result<Option<Precision>, E> {
        let laid = |precision| Ok::<_, E>(self.start_in(precision)?.training.precision);
        Ok(if is_left_open(laid)? { None } else { Some(laid(Precision::F32)?) })
    }

    fn start_in(&self, precision: Precision) -> Result<RunConfig, E> {
        let mut base = Preset::Default.config();
        base.training.precision = precision;
        // What needs two layers is not refused before it is known that there are as many.
        let mut deep = base.clone();
        deep.model.lstm.layers = 2;
        let config = self.lay(deep).or_else(|_| self.lay(base))?;
        config.validate().map_err(TrainError::from)?;
        Ok(config)
    }

    fn lay(&self, config: RunConfig) -> Result<RunConfig, E> {
        let mut config = (self.overlay)(config)?;
        if config.training.weight_decay > 0.0
            && self.optimizer.is_none()
            && config.training.optimizer == OptimizerKind::Adam
        {
            // Nobody asked for plain Adam, which does not go with it.
            config.training.optimizer = OptimizerKind::AdamW;
        }
        Ok(config)
    }

    /// Chooses a run for texts that were read by `read`. `part`: the time and the number of its members.
    fn plan(&self, facts: &Facts, read: &RunConfig, part: Part) -> Result<Plan, E> {
        // Of Muon nothing is left where no layer is trained.
        let frozen = read.fine_tuning.freeze.holds_every_layer(read.model.lstm.layers).then_some(OptimizerKind::Adam);
        facts.plan(self.optimizer.or(self.likely_optimizer).or(frozen.filter(|_| !facts.words)), |chosen| {
            let mut chosen = self.lay(chosen)?;
            (chosen.tokenizer, chosen.vocabulary) = (read.tokenizer, read.vocabulary);
            chosen.data = read.data.clone();
            (chosen.training.budget, chosen.training.member) = (part.budget, part.member);
            LanguageModel::new(chosen.model.clone()).map_err(TrainError::from)?;
            Ok(chosen)
        })
    }
}

/// The part of the whole time that a run has: all of it, or as much as each of its members.
#[derive(Clone, Copy, Debug)]
struct Part {
    budget: Option<f64>,
    member: Option<Member>,
}

/// The optimizer that a learning rate is of, for those of SGD are some ten thousand times Adam's.
pub fn optimizer_of_rate(rate: f32) -> OptimizerKind {
    if rate < LEAST_RATE_OF_SGD { OptimizerKind::Adam } else { OptimizerKind::Sgd }
}

/// A stage of the choice, told as it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The machine's speed is measured.
    Machine,
    /// Kinds of tokens are compared on a sample of the text.
    Tokens,
    /// Subwords are trained.
    Subwords,
    /// The texts are read into tokens.
    Reading,
    /// The speed of the model that was chosen is measured.
    Speed,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "measuring this machine",
            Self::Tokens => "comparing words, subwords and characters on a sample of the text",
            Self::Subwords => "training subwords",
            Self::Reading => "reading the text",
            Self::Speed => "timing the model that was chosen",
        })
    }
}

/// Why a text that words foresee best is not read in words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NotWords {
    /// This share of the words of a new text would be unknown.
    Unknown(f64),
    /// There are so many words that to score them all would take the time of learning.
    Kinds(usize),
}

/// A run that was chosen, the texts it was chosen for, and why it was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// The run and its size.
    pub plan: Plan,
    /// Its texts, read.
    pub data: Data,
    /// The facts it was chosen by.
    pub facts: Facts,
    /// The seconds that validation and test were measured to take, where time bounds the run.
    pub evaluation: f64,
    /// Where it was chosen what a token is: the kinds that were measured, the one to take first.
    pub measured: Vec<Measured>,
    /// Why it is not read in words, where those are the first.
    pub not_words: Option<NotWords>,
    /// Where time bounds the run and nobody decided the precision of its products: what was chosen, and why.
    pub precision: Option<PrecisionChoice>,
    /// The test perplexity that it is expected to reach, or why nothing is said of that.
    pub expected: Result<Expectation, Unforeseen>,
    /// Where less of the text is used than there is, for want of time: the bytes used, and those of the text.
    pub cut: Option<(u64, u64)>,
}

/// Reads the texts, and chooses the run for them, the time and this machine. Without a time (where epochs or steps were
/// decided, and no budget) nothing depends on the machine.
///
/// # Errors
/// What was decided contradicts itself, or a text cannot be used.
pub fn choose<E: From<TrainError>>(decided: &Decided<E>, observer: &mut dyn FnMut(Stage)) -> Result<Chosen, E> {
    let mut config = decided.start()?;
    let unbounded = config.training.epochs.is_none() && config.training.steps.is_none();
    let decided_member = config.training.member;
    // Of all members: choosing them is a part of the time of all.
    let whole = config.training.budget.map(|budget| budget * config.training.members() as f64);
    let budget = whole.or(unbounded.then_some(DEFAULT_SECONDS));
    let decided_precision = decided.precision()?;
    let chooses_precision = budget.is_some() && decided_precision.is_none();
    let mut precision = PrecisionChoice::before_measuring(config.model.lstm.variant.layer_norm);
    precision = precision.filter(|_| chooses_precision);
    let known = decided_precision.or(precision.map(PrecisionChoice::precision));
    let mut texts = Texts::open(decided, &mut config, (budget, known), observer)?;
    let mut data = texts.read(&mut config, decided.pretrained, observer)?;
    let mut not_words = None;
    if let (Some(next), TokenizerKind::Words) = (texts.second(), config.tokenizer) {
        not_words = why_not_words(&data.train, data.tokenizer.vocabulary_size());
        if not_words.is_some() {
            config.tokenizer = next;
            data = texts.read(&mut config, decided.pretrained, observer)?;
        }
    }
    check_teachers(&config, &data)?;
    let machine = texts.machine;
    let facts_of = |data: &Data| match budget {
        Some(budget) => Facts::of(machine, budget - decided.since.elapsed().as_secs_f64(), data),
        None => Facts::nominal(data, decided.orders.map_or(1, Orders::count)),
    };
    let mut facts = facts_of(&data);
    let share = facts.least_evaluation();
    if budget.is_some() && share > MOST_EVALUATION && texts.holds_out(&data) {
        texts.use_less(&mut config, MOST_EVALUATION / share);
        data = texts.read(&mut config, decided.pretrained, observer)?;
        facts = facts_of(&data);
    }
    let counted = expected::counted(&data, &config, !facts.words);
    // Even when the time is over, some is planned for: a run trains a little, whatever happens.
    let bound = |facts: &mut Facts| {
        if let Some(budget) = budget {
            facts.seconds = (budget - decided.since.elapsed().as_secs_f64()).max(0.05 * budget);
        }
    };
    bound(&mut facts);
    let chooses_members = decided.members && decided_member.is_none() && budget.is_some() && facts.ranks == 1;
    let part_of = |whole: &Facts| -> Result<(Facts, Part), E> {
        let of = match decided_member {
            Some(member) => member.of,
            None if chooses_members => {
                whole.members(|facts| decided.plan(facts, &config, Part { budget, member: None }))?
            }
            None => 1,
        };
        let facts = whole.of_each(of);
        let member = decided_member.or((of > 1).then_some(Member { number: 1, of }));
        Ok((facts, Part { budget: if of > 1 { budget.map(|_| facts.seconds) } else { budget }, member }))
    };
    let (mut own, mut part) = part_of(&facts)?;
    let mut plan = decided.plan(&own, &config, part)?;
    let mut evaluation = 0.0;
    if let Some(seconds) = budget {
        for _ in 0..ROUNDS {
            observer(Stage::Speed);
            // In each precision once: the model that was chosen decides, not the small one of the machine's measurement.
            let compares = chooses_precision && precision.is_none();
            let both = [Precision::F32, Precision::Bf16];
            let one = [plan.config.training.precision];
            let precisions = if compares { &both[..] } else { &one };
            let speeds = Speed::measured(&plan.config, &data, seconds, precisions, facts.ranks)?;
            let mut speed = speeds[0];
            if let [exact, rounded] = speeds[..] {
                let of = |speed: Speed| mean(&plan.config, speed.sampled, speed.whole);
                let found = PrecisionChoice::Measured(of(exact) / of(rounded));
                facts.precision = found.precision();
                speed = if facts.precision == Precision::F32 { exact } else { rounded };
                precision = Some(found);
            }
            bound(&mut facts);
            facts.correct(&plan.config, speed);
            (own, part) = part_of(&facts)?;
            let next = decided.plan(&own, &config, part)?;
            let is_the_same = next.is_as_fast_as(&plan);
            plan = next;
            evaluation = speed.evaluation * data.evaluated_tokens() as f64;
            if is_the_same || decided.since.elapsed().as_secs_f64() > LATE * seconds {
                break;
            }
        }
    }
    let expected =
        counted.and_then(|counted| expected::expected(&plan, &own, counted, |config| decided.lay(config).ok()));
    data.expected = expected.as_ref().ok().copied();
    // Measuring is a part of the time that there is; of members that of all, which they share what is left of.
    data.seconds = decided.since.elapsed().as_secs_f64();
    if plan.config.training.members() > 1 {
        data.seconds -= budget.map_or(data.seconds, |budget| budget - facts.seconds);
        data.seconds = data.seconds.max(0.0);
    }
    let (measured, cut) = (texts.measured, texts.cut);
    Ok(Chosen { plan, data, facts: own, evaluation, measured, not_words, precision, expected, cut })
}

/// Whether a text is better not read in words, of which there are `vocabulary`, and why.
fn why_not_words(words: &Corpus, vocabulary: usize) -> Option<NotWords> {
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

/// The texts of a run that is being chosen, and what is known of them.
struct Texts {
    machine: Machine,
    /// The seconds of the run, where time bounds it.
    budget: Option<f64>,
    /// The bytes of the training text, where that was asked for.
    bytes: u64,
    /// A part of it; none of what is only white space.
    sample: Option<Sample>,
    measured: Vec<Measured>,
    cut: Option<(u64, u64)>,
    /// Whether the size of the vocabulary and the part of the text were left to choose.
    sizes: (bool, bool),
}

impl Texts {
    /// Looks at the texts, and chooses what a token is where it was not decided. The seconds of the run and the precision of its
    /// products are those that are known.
    fn open<E: From<TrainError>>(
        decided: &Decided<E>,
        config: &mut RunConfig,
        (budget, precision): (Option<f64>, Option<Precision>),
        observer: &mut dyn FnMut(Stage),
    ) -> Result<Self, E> {
        let train = training_source(config).map_err(TrainError::from)?;
        let mut machine = Machine::NOMINAL;
        if let Some(seconds) = budget {
            observer(Stage::Machine);
            machine = Machine::measured(seconds, precision).map_err(TrainError::from)?;
            machine = machine.among(decided.orders, config.training.wire)?;
        }
        let sizes = (config.vocabulary.max_size.is_none(), config.data.most.is_none());
        let bytes = train.bytes();
        let mut texts = Self { machine, budget, bytes, sample: None, measured: Vec::new(), cut: None, sizes };
        let chooses = !decided.tokens && decided.pretrained.is_none() && config.batching == Batching::Stream;
        if chooses || budget.is_some() {
            observer(Stage::Tokens);
            let seconds = budget.unwrap_or(DEFAULT_SECONDS);
            let lossy = config.data.lossy || config.tokenizer == TokenizerKind::Bytes;
            // A slow machine looks at less of it.
            let share = (machine.exact_rate / Machine::NOMINAL.rate).min(1.0);
            let sample = Sample::of(&train, share * seconds, lossy).map_err(TrainError::from)?;
            texts.sample = (!sample.is_blank()).then_some(sample);
            if let Some(sample) = texts.sample.as_ref().filter(|_| chooses) {
                let read = machine.learnable(seconds, BYTES_PER_TOKEN);
                texts.measured = compare(sample, config.vocabulary, read).map_err(TrainError::from)?;
                config.tokenizer = texts.measured.first().map_or(config.tokenizer, |first| first.kind);
            }
        }
        Ok(texts)
    }

    /// The kind of tokens to use where it should not be words.
    fn second(&self) -> Option<TokenizerKind> {
        self.measured.iter().map(|measured| measured.kind).find(|kind| *kind != TokenizerKind::Words)
    }

    /// Reads the texts: as much of them, and as many subwords, as there is time and text for.
    fn read(
        &mut self,
        config: &mut RunConfig,
        pretrained: Option<&Pretrained>,
        observer: &mut dyn FnMut(Stage),
    ) -> Result<Data, TrainError> {
        let mut tokenizer = None;
        if let Some(sample) = &self.sample {
            if self.sizes.0 && config.tokenizer == TokenizerKind::Bpe {
                let characters = sample.characters(config.data.most.unwrap_or(self.bytes).min(self.bytes) as f64);
                config.vocabulary.max_size = Some(subwords(characters));
            } else if self.sizes.0 {
                config.vocabulary.max_size = None;
            }
            if let Some(seconds) = self.budget {
                let kind = config.tokenizer;
                let speed = ReadingSpeed::measured(config, pretrained, sample)?;
                let readable = speed.readable(kind, READING * seconds);
                let most = self.machine.learnable(seconds, speed.bytes_per_token).min(readable).max(LEAST_READ) as u64;
                // To read more of a text than there will be time to learn from would take from that time.
                if self.sizes.1 && most < config.data.most.unwrap_or(self.bytes) {
                    config.data.most = Some(most);
                    self.cut = Some((most, self.bytes));
                }
                let trained = (TRAINING_SUBWORDS * seconds / speed.counting).max(sample.bytes());
                if kind.is_trained() && pretrained.is_none() && trained < self.bytes as f64 {
                    observer(Stage::Subwords);
                    let part = training_source(config)?.sample(trained as u64)?;
                    let options = config.vocabulary_options();
                    tokenizer = Some(Tokenizer::build(kind, &part, options, config.data.lossy)?);
                }
            }
        }
        observer(Stage::Reading);
        Ok(Data::read_by(config, tokenizer, true, pretrained)?)
    }

    /// Whether the validation and the test text are cut off the training text, and are less where less of it is used.
    fn holds_out(&self, data: &Data) -> bool {
        self.sizes.1 && 5 * data.evaluated_tokens() < data.train.tokens()
    }

    /// Lets a smaller share of the text be used.
    fn use_less(&mut self, config: &mut RunConfig, share: f64) {
        let used = config.data.most.unwrap_or(self.bytes) as f64;
        let most = (share * used).max(LEAST_READ) as u64;
        config.data.most = Some(most);
        self.cut = Some((most, self.bytes));
    }
}
