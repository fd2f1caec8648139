//! Several trained models as one: the mean of their probabilities.
//!
//! Of members k with shares wₖ that sum to 1, `p(token) = Σₖ wₖ pₖ(token)`: of probabilities, never of logits, so that the mean is never more
//! surprised by a text than its members are in the mean (Jensen), and mostly less than any of them. Sizes and cells may differ; the tokens
//! and the way to read a text must not.
//!
//! | file | what it does |
//! |---|---|
//! | `reading.rs` | reads a text in order with all members, and says the mean's probability of every token |
//!
//! ```no_run
//! let ensemble = lstm::Ensemble::open(["runs/a", "runs/b"])?;
//! let text = ensemble.first().test_text()?.expect("the run was made with a test text");
//! let read = ensemble.read(&text, &mut |_, _| ())?;
//! println!("{:.2}", read.mean(ensemble.shares()).perplexity());
//! # Ok::<(), lstm::TrainError>(())
//! ```

mod reading;

use std::path::{Path, PathBuf};

pub(crate) use reading::Mean;

use crate::evaluate::{Evaluation, Surprisals};
use crate::generate::Rules;
use crate::model::{LanguageModel, Loss};
use crate::nn::config::ConfigError;
use crate::nn::params::Params;
use crate::nn::precision::Weights;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::run::saved::LoadedRun;
use crate::run::settings::Settings as _;
use crate::run::summary::card;
use crate::run::task_kind::TaskKind;
use crate::said::count;
use crate::text::batch::Batches;
use crate::text::corpus::Corpus;
use crate::text::tokenizer::Tokenizer;

/// A trained model, and where it was opened.
#[derive(Debug)]
pub struct Member {
    /// The run folder or model file, as it was given.
    pub path: PathBuf,
    /// The model.
    pub run: LoadedRun,
}

/// Trained models that are used as one.
#[derive(Debug)]
pub struct Ensemble {
    members: Vec<Member>,
    shares: Vec<f64>,
}

impl Ensemble {
    /// Opens models, each a run folder or a model file, that count alike.
    ///
    /// # Errors
    /// None given, one that cannot be opened, or models of other tokens or another way to read than the first.
    pub fn open<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self, TrainError> {
        let mut members: Vec<Member> = Vec::new();
        for path in paths {
            let path = path.as_ref().to_owned();
            let run = LoadedRun::open(&path)?;
            if let Some(Member { path: first, run: of }) = members.first() {
                check_alike(&run, &path, &of.config, &of.tokenizer, &first.display().to_string())?;
            }
            members.push(Member { path, run });
        }
        let count = members.len();
        if count == 0 {
            return Err(TrainError::Unusable("an ensemble has no members; give the models".to_owned()));
        }
        Ok(Self { members, shares: vec![1.0 / count as f64; count] })
    }

    /// Opens runs, each with its members where it is of several models ([`members_of`]), but at most so many of each: 1 for the first alone.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_runs<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>, most: usize) -> Result<Self, TrainError> {
        let mut models = Vec::new();
        for path in paths {
            models.extend(members_of(path.as_ref())?.into_iter().take(most));
        }
        Self::open(models)
    }

    /// The same with the members' shares in the mean, brought to a sum of 1.
    ///
    /// # Errors
    /// Not one for each member, or one that is no number of at least 0, or nothing but zeros.
    pub fn with_shares(mut self, shares: &[f64]) -> Result<Self, ConfigError> {
        let sum: f64 = shares.iter().sum();
        let (given, models) = (shares.len(), self.members.len());
        if given != models {
            return Err(ConfigError::Conflict(format!(
                "`shares` has {} for {}; give one for each, in their order",
                count(given, "number"),
                count(models, "model")
            )));
        }
        if !shares.iter().all(|share| (0.0..=1e9).contains(share)) || sum <= 0.0 {
            let why = "`shares` are numbers from 0 to 1000000000 that are not all 0, such as 2,1,1";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        self.shares = shares.iter().map(|share| share / sum).collect();
        Ok(self)
    }

    /// The members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Their shares in the mean, which sum to 1.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// The first member, in whose way texts are read.
    pub fn first(&self) -> &LoadedRun {
        &self.members[0].run
    }

    /// The rules by which the members write together: those of the first, and what any of them never writes is not written.
    ///
    /// # Errors
    /// A training text that has to be asked for what it has, but is no longer there.
    pub fn rules(&self) -> Result<Rules, TrainError> {
        let mut rules = Rules::of(self.first());
        for Member { run, .. } in &self.members {
            rules = rules.without(run.unseen()?);
        }
        Ok(rules)
    }

    /// Reads a text with every member, each as it is evaluated alone. `each` is told the member and its loss so far.
    ///
    /// # Errors
    /// A text without anything to predict.
    pub fn read(&self, corpus: &Corpus, each: &mut dyn FnMut(usize, Loss)) -> Result<Read, TrainError> {
        let batching = self.first().config.batching;
        let places = Batches::places(corpus, batching);
        let read = |(number, Member { run, .. }): (usize, &Member)| {
            let LoadedRun { config, tokenizer, model, params, .. } = run;
            let evaluation = Evaluation::new(model, params, tokenizer, corpus, batching, config.training.batch)?;
            Ok(evaluation.surprisals(places, &mut |loss| each(number, loss)))
        };
        Ok(Read { members: self.members.iter().enumerate().map(read).collect::<Result<_, TrainError>>()? })
    }

    /// The members as a pass or a writer takes them; each with its weights as its file has them, or as `weights` says.
    pub(crate) fn refs(&self, weights: Option<Weights>) -> Vec<MemberRef<'_>> {
        let members = self.members.iter().zip(&self.shares);
        members
            .map(|(Member { run, .. }, &share)| MemberRef {
                model: &run.model,
                params: &run.params,
                weights: weights.unwrap_or(run.weights),
                share,
            })
            .collect()
    }
}

/// A member of a mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberRef<'a> {
    pub(crate) model: &'a LanguageModel,
    pub(crate) params: &'a Params,
    /// How the weights are kept that every token reads, where it reads token by token.
    pub(crate) weights: Weights,
    /// Its share in the mean.
    pub(crate) share: f64,
}

/// A text that was read by every member.
#[derive(Clone, Debug)]
pub struct Read {
    members: Vec<Surprisals>,
}

/// The most rounds of tuning, and the change of all shares together at which it ends.
const ROUNDS: usize = 1000;
const CONVERGED: f64 = 1e-6;

impl Read {
    /// Each member's own loss.
    pub fn members(&self) -> impl Iterator<Item = Loss> {
        self.members.iter().map(Surprisals::total)
    }

    /// The loss of the mean with these shares, one for each member.
    pub fn mean(&self, shares: &[f64]) -> Loss {
        let mut loss = Loss::default();
        self.each(|nats| {
            // The largest is taken out, so that nothing vanishes.
            let least = nats.iter().copied().fold(f64::INFINITY, f64::min);
            let mean: f64 = shares.iter().zip(nats).map(|(share, nats)| share * (least - nats).exp()).sum();
            loss.add(Loss { nll: least - mean.ln(), tokens: 1 });
        });
        loss
    }

    /// The shares with which the mean is least surprised, by expectation and maximisation (Dempster 1977): each becomes the part that the
    /// member had in the probabilities of the tokens, until they no longer change. The loss has one valley, so it is the lowest.
    pub fn tuned(&self) -> Vec<f64> {
        let count = self.members.len();
        let mut shares = vec![1.0 / count as f64; count];
        for _ in 0..ROUNDS {
            let (mut sums, mut tokens, mut parts) = (vec![0.0; count], 0.0, vec![0.0; count]);
            self.each(|nats| {
                let least = nats.iter().copied().fold(f64::INFINITY, f64::min);
                for ((part, share), nats) in parts.iter_mut().zip(&shares).zip(nats) {
                    *part = share * (least - nats).exp();
                }
                let whole: f64 = parts.iter().sum();
                sums.iter_mut().zip(&parts).for_each(|(sum, part)| *sum += part / whole);
                tokens += 1.0;
            });
            let next: Vec<f64> = sums.iter().map(|sum| sum / f64::max(tokens, 1.0)).collect();
            let change: f64 = shares.iter().zip(&next).map(|(share, next)| (share - next).abs()).sum();
            shares = next;
            if change < CONVERGED {
                break;
            }
        }
        shares
    }

    /// Hands the surprisals of every token to `each`, in the order of the text: one of each member.
    fn each(&self, mut each: impl FnMut(&[f64])) {
        let mut all: Vec<_> = self.members.iter().map(Surprisals::iter).collect();
        let mut nats = vec![0.0; all.len()];
        while all.iter_mut().zip(&mut nats).all(|(one, nats)| one.next().map(|x| *nats = f64::from(x)).is_some()) {
            each(&nats);
        }
    }
}

/// The models of a run, its own first: the members that are trained to their end. Of anything else the path alone.
///
/// # Errors
/// A run folder whose settings cannot be read.
pub fn members_of(path: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut models = vec![path.to_owned()];
    let folder = RunFolder(path.to_owned());
    if !folder.config().exists() || TaskKind::in_folder(&folder)? != TaskKind::Language {
        return Ok(models);
    }
    if let Some(member) = RunConfig::load(&folder)?.training.member.filter(|member| member.number == 1) {
        let is_tested = |folder: &RunFolder| card(&folder.model()).map(|card| card.test.is_some());
        let first = is_tested(&folder);
        // One that has yet to come to its end has not been tested, where there is something to test with.
        let is_trained = |member: &RunFolder| is_tested(member).is_some_and(|tested| tested || first == Some(false));
        models.extend((2..=member.of).map(|number| folder.member(number)).filter(is_trained).map(|member| member.0));
    }
    Ok(models)
}

/// Refuses a model that predicts other tokens than `of`, a run of this configuration and tokenizer, does, or reads a text in another way.
pub(crate) fn check_alike(
    run: &LoadedRun,
    path: &Path,
    config: &RunConfig,
    tokenizer: &Tokenizer,
    of: &str,
) -> Result<(), TrainError> {
    let path = path.display();
    let refused = |why: String| Err(TrainError::Unusable(why));
    if let Some(difference) = run.tokenizer.difference(tokenizer) {
        return refused(format!(
            "{path} does not read the tokens of {of}: {difference}; so their probabilities are not of the same things: take models of one \
             text, or give all of them the tokenizer.json of one by `tokenizer`"
        ));
    }
    let (own, other) = (&run.config, config);
    if own.batching != other.batching {
        return refused(format!(
            "{path} reads a text in {}, but {of} in {}, and not every token is predicted in both; take models of the same `batches`",
            own.batching, other.batching
        ));
    }
    if own.data.documents != other.data.documents || own.data.inline_documents != other.data.inline_documents {
        let said = |config: &RunConfig| match &config.data.documents {
            Some(documents) => format!("after each document (\"{documents}\")"),
            None => "never".to_owned(),
        };
        return refused(format!(
            "{path} begins afresh {}, but {of} {}; take models of the same `documents`",
            said(own),
            said(other)
        ));
    }
    if own.data.line_ends != other.data.line_ends {
        return refused(format!(
            "{path} reads line ends by {}, but {of} by {}, so that a text has other tokens; take models of the same `line-ends`",
            own.data.line_ends, other.data.line_ends
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
