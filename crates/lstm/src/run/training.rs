//! How a run is trained: the settings of its loop, the same whatever the model is.

use serde::{Deserialize, Serialize};

use crate::named::named;
use crate::nn::config::{ConfigError, Init, above_zero, at_least_one, within};
use crate::nn::precision::Precision;
use crate::optim::averaging::Averaging;
use crate::optim::decay::DecayShares;
use crate::optim::muon::MuonSettings;
use crate::optim::optimizer::{AdamSettings, DECAY_EVERY, OptimizerKind};
use crate::optim::schedule::{Schedule, ScheduleKind, Warmup};
use crate::said::{DIGITS, count, rounded};

/// How a run is trained; the table `[training]` of `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// One seed for initial values, order and dropout.
    pub seed: u64,
    /// B.
    pub batch: usize,
    /// The precision of a step's matrix products.
    #[serde(default)]
    pub precision: Precision,
    /// The batches whose gradients are joined into one step, as if they were one batch of so many times the rows.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// The parts that a step's rows are cut into, whose gradients are computed by themselves and added in a fixed order; `None` for one
    /// gradient of all rows. It decides the bits, and how many ranks may share a step.
    #[serde(default)]
    pub shards: Option<usize>,
    /// How the gradients of shards travel between ranks.
    #[serde(default)]
    pub wire: Wire,
    /// The most epochs. The first of the three bounds that is reached ends the run.
    pub epochs: Option<usize>,
    /// The most training steps.
    pub steps: Option<u64>,
    /// The most seconds, from the reading of the data to the end of the test. With such a bound the result depends on the
    /// machine's speed.
    pub budget: Option<f64>,
    /// Epochs without a better validation after which to stop; of a non-monotone average those since it began.
    pub patience: Option<usize>,
    /// The gradient's norm is clipped to it.
    pub clip: Option<f32>,
    /// Which optimizer.
    pub optimizer: OptimizerKind,
    /// The average of the weights to evaluate and to save.
    #[serde(default)]
    pub average: Averaging,
    /// The optimizer's weight decay.
    pub weight_decay: f32,
    /// The shares of it that groups of parameters have; `None` for all alike.
    #[serde(default)]
    pub weight_decay_shares: Option<DecayShares>,
    /// The settings of Adam and AdamW.
    #[serde(default)]
    pub adam: AdamSettings,
    /// The settings of Muon.
    #[serde(default)]
    pub muon: MuonSettings,
    /// The learning rate.
    pub schedule: Schedule,
    /// The initial values.
    pub init: Init,
    /// The checkpoints of the latest epochs that are kept beside the latest of all; they decide nothing of the run.
    #[serde(default, skip_serializing_if = "is_none")]
    pub keep_checkpoints: usize,
    /// Where the schedule stood when the run was lengthened, if it was.
    #[serde(default)]
    pub lengthened: Option<Lengthened>,
    /// Which of the members of a run it is, where that is of several models or was decided to be of one.
    #[serde(default)]
    pub member: Option<Member>,
}

/// One of the models that are trained one after the other in a run, alike but for their seeds, to be used as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its number; the run itself is the first.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

/// How gradients travel between the ranks that share a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wire {
    /// As they are computed: the result is the same for any number of ranks.
    #[default]
    F32,
    /// In half the bytes, with what rounding leaves out added to the next step's. The result depends on the number of ranks, and a run
    /// that goes on begins with nothing left out.
    Bf16,
}

named!(Wire, "wire", "f32" => F32, "bf16" => Bf16);

/// How long a run is to be: the first bound that is reached ends it. What is not given stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Length {
    /// The most epochs.
    pub epochs: Option<usize>,
    /// The most training steps.
    pub steps: Option<u64>,
    /// The most seconds.
    pub budget: Option<f64>,
    /// Epochs without a better validation after which to stop; 0 for any number.
    pub patience: Option<usize>,
}

/// A run whose bounds were changed when it was resumed: from there on its schedule goes on from where it was to where the run now
/// ends, so that the rate does not jump.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lengthened {
    /// The share of the lengthened run that was done then.
    pub reached: f64,
    /// The share of the schedule that was.
    pub done: f64,
}

impl Lengthened {
    /// The share of the schedule that is done where `share` of the run is.
    pub(crate) fn of_schedule(self, share: f64) -> f64 {
        let Self { reached, done } = self;
        let rest = (1.0 - reached).max(f64::MIN_POSITIVE);
        (done + (share - reached).max(0.0) / rest * (1.0 - done)).min(1.0)
    }
}

/// The most epochs that can be asked for, whatever they are for.
const MOST: usize = 1_000_000_000;

/// The most members of a run: they are folders in one, and used together all of them are in memory.
const MOST_MEMBERS: usize = 1000;

/// The most checkpoints that can be kept: they are files in one folder.
const MOST_KEPT: usize = 100_000;

/// One batch a step.
fn one() -> usize {
    1
}

/// Not one.
fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Training {
    /// Whether the weights are averaged, from the start or from a trigger on.
    pub(crate) fn averages(&self) -> bool {
        self.average != Averaging::None
    }

    /// The same run without a length and a number of members, which may be changed later.
    pub(crate) fn of_any_length(&self) -> Self {
        Self { epochs: None, steps: None, budget: None, patience: None, lengthened: None, member: None, ..self.clone() }
    }

    /// How many models the run is of.
    pub fn members(&self) -> usize {
        self.member.map_or(1, |member| member.of)
    }

    /// Makes it a run of so many members, each of which has an equal part of the time.
    pub fn set_members(&mut self, of: usize) {
        self.member = Some(Member { number: 1, of });
        self.budget = self.budget.map(|budget| budget / of.max(1) as f64);
    }

    /// The seed of what all members share: the order in which lines are shuffled before the text is cut, the built-in language.
    pub(crate) fn shared_seed(&self) -> u64 {
        let before = self.member.map_or(0, |member| member.number.saturating_sub(1));
        self.seed.saturating_sub(before as u64)
    }

    /// How it learns, in a few words: `adam at rate 0.002, cosine, averaged by ema(0.99)`. What is as it mostly is goes without saying.
    pub fn learning(&self) -> String {
        let (adam, muon) = (AdamSettings::default(), MuonSettings::default());
        let mut parts = vec![format!("{} at {}", self.optimizer, self.schedule)];
        if self.optimizer.is_muon() {
            parts.extend(self.muon.rate.map(|rate| format!("matrices at {}", rounded(rate, DIGITS))));
            let kept = Some(self.muon.momentum).filter(|kept| *kept != muon.momentum);
            parts.extend(kept.map(|kept| format!("momentum {kept}")));
        }
        if self.optimizer.has_moments() {
            let AdamSettings { beta1, beta2, epsilon, .. } = self.adam;
            let given = [("β₁", beta1, adam.beta1), ("β₂", beta2, adam.beta2), ("ε", epsilon, adam.epsilon)];
            parts.extend(
                given.iter().filter(|(_, own, usual)| own != usual).map(|(name, own, _)| format!("{name} {own}")),
            );
        }
        parts.extend(
            Some(self.weight_decay)
                .filter(|decay| *decay > 0.0)
                .map(|decay| format!("weight decay {}", rounded(decay, DIGITS))),
        );
        parts.extend(self.weight_decay_shares.map(|shares| format!("of it {shares}")));
        if self.averages() {
            parts.push(format!("averaged by {}", self.average));
        }
        parts.join(", ")
    }

    /// Sets how long the run is. A preset's epochs are no bound beside steps or a time: its schedule is then stretched.
    pub fn set_length(&mut self, length: Length) {
        let Length { epochs, steps, budget, patience } = length;
        if steps.is_some() || budget.is_some() {
            self.schedule.planned_epochs = self.schedule.planned_epochs.or(self.epochs);
            self.epochs = None;
        }
        self.epochs = epochs.or(self.epochs);
        (self.steps, self.budget) = (steps, budget);
        if let Some(patience) = patience {
            self.patience = (patience > 0).then_some(patience);
        }
    }

    /// Sets the average of the weights. Beside one that waits for the validation the learning rate is constant.
    pub fn set_average(&mut self, average: Averaging) {
        self.average = average;
        if average.watches_validation() {
            self.schedule.kind = ScheduleKind::Constant;
        }
    }

    /// Sets how the learning rate changes. One cycle rises by itself, so a warm-up gives way to it.
    pub fn set_schedule(&mut self, kind: ScheduleKind) {
        self.schedule.kind = kind;
        if kind == ScheduleKind::OneCycle {
            self.schedule.warmup = Warmup::default();
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// A sentence naming the setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("batch", self.batch)?;
        at_least_one("accumulate", self.accumulate)?;
        if let Some(shards) = self.shards {
            at_least_one("shards", shards)?;
            if shards > self.batch {
                return Err(ConfigError::Conflict(format!(
                    "`shards` is {shards}, but a batch has {} to be cut into them; choose fewer, or a larger `batch`",
                    count(self.batch, "row")
                )));
            }
        }
        if self.shards.is_none() && self.wire != Wire::F32 {
            let why = format!(
                "`wire` {} says how the gradients of shards travel, but a step is not cut into any; give `shards` too, or leave it out",
                self.wire
            );
            return Err(ConfigError::Conflict(why));
        }
        if let Some(epochs) = self.epochs {
            at_least_one("epochs", epochs)?;
            within("epochs", epochs, 1..=MOST, "at most 1000000000")?;
        }
        if let Some(steps) = self.steps {
            at_least_one("steps", usize::try_from(steps).unwrap_or(usize::MAX))?;
            within("steps", steps, 1..=1_000_000_000_000, "at most 1000000000000")?;
        }
        if let Some(patience) = self.patience {
            within("patience", patience, 1..=MOST, "a number of epochs up to 1000000000")?;
        }
        within("keep-checkpoints", self.keep_checkpoints, 0..=MOST_KEPT, "at most 100000")?;
        // What config.toml can hold.
        within("seed", self.seed, 0..=i64::MAX as u64, "at most 9223372036854775807")?;
        if let Some(Member { number, of }) = self.member {
            within("members", of, 1..=MOST_MEMBERS, "a number from 1 to 1000")?;
            if !(1..=of).contains(&number) {
                return Err(ConfigError::Conflict(format!(
                    "there is no member {number} of {of} `members`; they count from 1"
                )));
            }
            let last = self.seed.checked_add((of - number) as u64);
            within(
                "seed",
                last.unwrap_or(u64::MAX),
                0..=i64::MAX as u64,
                "at most 9223372036854775807 with that of the last member",
            )?;
        }
        self.schedule.validate()?;
        if let Some(clip) = self.clip {
            within("clip", clip, 1e-6..=1e6, "a norm from 0.000001 to 1000000")?;
        }
        if let Some(budget) = self.budget {
            above_zero("budget", budget)?;
        }
        if self.weight_decay != 0.0 {
            let expected = "0, or a number from 1e-10 to 1000000";
            within("weight-decay", self.weight_decay, 1e-10..=1e6, expected)?;
        }
        let shares = self.weight_decay_shares.unwrap_or_default();
        shares.validate()?;
        if self.weight_decay == 0.0 && !shares.is_none() {
            let why = "`weight-decay-shares` says which share of the weight decay a group has, but there is none; give `weight-decay` too, \
                       such as 0.01";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        let decay = self.weight_decay * shares.largest();
        let at_once = if self.adam.lazy && !self.optimizer.has_moments() { DECAY_EVERY } else { 1 };
        let taken = decay * self.schedule.learning_rate * at_once as f32;
        if taken >= 1.0 {
            let together = if at_once > 1 { format!(", that of {at_once} steps at once") } else { String::new() };
            return Err(ConfigError::Conflict(format!(
                "a weight decay of {decay} at a learning rate of {} takes away {} times every weight in a step{together}; \
                 their product must be below {}",
                self.schedule.learning_rate,
                rounded(taken, DIGITS),
                1.0 / at_once as f32
            )));
        }
        if self.weight_decay > 0.0 && self.optimizer == OptimizerKind::Adam {
            let why = "weight decay in plain adam is scaled away by its second moment; use the optimizer adamw";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        self.adam.validate()?;
        self.muon.validate()?;
        if self.optimizer == OptimizerKind::MuonSgd && self.muon.rate.is_none() {
            let why = "the learning rate of muon-sgd is that of sgd, which is far too high for the matrices; give them a `muon-rate`, such \
                       as 0.01";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        if let Some(rate) = self.muon.rate.filter(|rate| decay * rate >= 1.0) {
            return Err(ConfigError::Conflict(format!(
                "a weight decay of {} at a `muon-rate` of {rate} takes away every matrix in a step; their product must be below 1",
                decay
            )));
        }
        if let Some(bias) = self.init.forget_bias {
            within("forget-bias", bias, -100.0..=100.0, "a number from -100 to 100")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::preset::Preset;

    #[test]
    fn a_run_says_how_it_learns_and_leaves_out_what_is_as_usual() {
        let mut training = Preset::Char.config().training;
        training.schedule = Schedule { decay: 3.0, ..Schedule::step(0.01, 3.0, 4) };
        training.optimizer = OptimizerKind::Adam;
        assert_eq!(training.learning(), "adam at rate 0.01, divided by 3 each epoch after 4");
        training.schedule.planned_epochs = Some(10);
        assert!(training.learning().ends_with("after 4 of 10 that the run is taken for"));
        training.schedule.kind = ScheduleKind::Plateau;
        (training.optimizer, training.muon) = (OptimizerKind::Muon, MuonSettings { rate: Some(0.02), momentum: 0.9 });
        (training.adam.beta2, training.weight_decay, training.average) = (0.99, 0.1, Averaging::Ema(0.5));
        assert_eq!(
            training.learning(),
            "muon at rate 0.01, divided by 3 after an epoch that does not improve the validation, matrices at 0.02, momentum 0.9, β₂ 0.99, \
             weight decay 0.1, averaged by ema(0.5)"
        );
        // Settings of another optimizer are not its.
        training.optimizer = OptimizerKind::Sgd;
        assert!(!training.learning().contains("matrices") && !training.learning().contains('β'));
    }
}
