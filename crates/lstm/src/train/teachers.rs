//! Teachers: what trained models say of every place of a run's training text, which a student learns beside what came there.
//!
//! They read the text once, before the first step, as they are evaluated: so a step costs no more than without them, whatever the epoch, and
//! a resumed run that reads it again finds the same bits. That reading is a part of a time budget; a run whose teachers would take the most of
//! it is not begun.

use std::time::Instant;

use crate::ensemble::{Ensemble, Mean, check_alike};
use crate::evaluate::{COLUMN_SEGMENT, COLUMNS, LEAST_COLUMN, SEGMENT};
use crate::free_memory::{check_memory, times};
use crate::model::{LanguageTape, Lesson, TOP};
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::saved::params_checksum;
use crate::text::batch::{Batch, Batches, Batching, NO_TARGET};
use crate::text::tokenizer::Tokenizer;
use crate::train::data::Data;

/// The segments at the beginning of columns that are read again with the states in which the columns before them ended: 512 tokens, after
/// which models have mostly forgotten how they began (`evaluate.rs`).
const REREAD: usize = 8;

/// The share of what is left of a time budget that the teachers may take: a run is planned for all of it.
const MOST_OF_BUDGET: f64 = 0.5;

/// The share of that after which the time that they will take is judged by the time they took.
const JUDGED: f64 = 0.05;

/// The likeliest tokens of every place of a text, by the mean of the teachers.
#[derive(Debug)]
pub(crate) struct Teachers {
    /// α.
    weight: f32,
    /// K: [`TOP`], or all tokens but one of a smaller vocabulary.
    top: usize,
    /// `[places, K]`: the tokens from the likeliest on, and their probabilities.
    ids: Vec<u32>,
    shares: Vec<f32>,
    /// The seconds that they took.
    pub(crate) seconds: f64,
}

/// When the teachers began to read, and until when they have to have read.
struct Hours {
    began: Instant,
    /// The seconds that they may take, and those of the budget that are spent by now; none without a budget.
    most: Option<(f64, f64)>,
}

impl Hours {
    /// Refuses to go on where the share `done` of the reading says that all of it takes too long.
    fn check(&self, done: f64) -> Result<(), TrainError> {
        let (Some((most, spent)), seconds) = (self.most, self.began.elapsed().as_secs_f64()) else { return Ok(()) };
        let all = seconds / done.max(f64::MIN_POSITIVE);
        if seconds < JUDGED * most || all <= most {
            return Ok(());
        }
        Err(TrainError::Unusable(format!(
            "the teachers would take {all:.0} s to read the training text, more than half of what is left of `budget`, and a run is planned \
             for all of it; give at least {:.0}s, a part of the text by `text-limit`, or `epochs` or `steps` in place of a time",
            (spent + all / MOST_OF_BUDGET).ceil()
        )))
    }
}

/// Refuses teachers that cannot be opened, are of other tokens than the run's or read in another way, before a run is planned for what
/// they shall teach.
pub(crate) fn check_teachers(config: &RunConfig, data: &Data) -> Result<(), TrainError> {
    if config.teaching.is_none() {
        return Ok(());
    }
    let mut config = config.clone();
    data.note_in(&mut config.data);
    opened(&config, &data.tokenizer).map(drop)
}

/// The teachers of a run of this tokenizer.
fn opened(config: &RunConfig, tokenizer: &Tokenizer) -> Result<Ensemble, TrainError> {
    let ensemble = Ensemble::open(&config.teaching.models).map_err(|error| {
        let where_now =
            "; a run that is resumed reads its teachers again, and `teach` beside `resume` says where they lie now";
        TrainError::Unusable(format!("a teacher cannot be used: {error}{where_now}"))
    })?;
    for member in ensemble.members() {
        check_alike(&member.run, &member.path, config, tokenizer, "the run that it shall teach")?;
    }
    Ok(ensemble)
}

impl Teachers {
    /// Lets the teachers of a run read its training text, if it has some. Of a run that begins their checksums are noted in `config`.
    ///
    /// # Errors
    /// A model that cannot be opened, that changed since the run began, or of other tokens or another way to read than the run's.
    pub(crate) fn read(config: &mut RunConfig, data: &Data) -> Result<Option<Self>, TrainError> {
        Self::read_by(config, data, Hours { began: Instant::now(), most: None })
    }

    /// The same of a run that begins, with the part of its time budget that is not spent yet.
    ///
    /// # Errors
    /// Also where they would take more than half of that.
    pub(crate) fn read_in_time(config: &mut RunConfig, data: &Data) -> Result<Option<Self>, TrainError> {
        let spent = data.seconds;
        let most = config.training.budget.map(|budget| (MOST_OF_BUDGET * (budget - spent).max(0.0), spent));
        Self::read_by(config, data, Hours { began: Instant::now(), most })
    }

    fn read_by(config: &mut RunConfig, data: &Data, hours: Hours) -> Result<Option<Self>, TrainError> {
        if config.teaching.is_none() {
            return Ok(None);
        }
        let vocabulary = config.model.vocabulary;
        let ensemble = opened(config, &data.tokenizer)?;
        let found: Vec<String> = ensemble.members().iter().map(|member| params_checksum(&member.run.params)).collect();
        let noted = &mut config.teaching.parameters;
        if noted.is_empty() {
            noted.clone_from(&found);
        }
        if let Some(at) = (0..found.len().max(noted.len())).find(|&at| found.get(at) != noted.get(at)) {
            let path = ensemble.members().get(at).map_or("one".to_owned(), |member| member.path.display().to_string());
            return Err(TrainError::Unusable(format!(
                "the run had another teacher than {path}: the model changed since, is another, or is missing under [teaching] in config.toml, \
                 so the run cannot go on with the same result; put back the one that it had, say by `teach` where it lies now, or start a new run"
            )));
        }
        let batching = config.batching;
        let (places, top) = (Batches::places(&data.train, batching), TOP.min(vocabulary.saturating_sub(1)));
        let bytes = times(&[places, top, size_of::<u32>() + size_of::<f32>()]);
        check_memory(|| format!("what teachers say of {places} tokens"), bytes, "training text (`text-limit`)")?;
        let (ids, shares) = (vec![0; places * top], vec![0.0; places * top]);
        let mut teachers = Self { weight: config.teaching.weight, top, ids, shares, seconds: 0.0 };
        teachers.listen(&ensemble, config, data, &hours)?;
        teachers.seconds = hours.began.elapsed().as_secs_f64();
        Ok(Some(teachers))
    }

    /// Reads the whole text with them.
    fn listen(
        &mut self,
        ensemble: &Ensemble,
        config: &RunConfig,
        data: &Data,
        hours: &Hours,
    ) -> Result<(), TrainError> {
        let (corpus, batching) = (&data.train, config.batching);
        let columns = (corpus.ids.len() / LEAST_COLUMN).clamp(1, COLUMNS);
        let is_stream = batching == Batching::Stream;
        let rows = if is_stream { columns } else { config.training.batch };
        let segment = if is_stream { COLUMN_SEGMENT } else { SEGMENT };
        let batches = Batches::evaluation(corpus, &data.tokenizer, batching, rows, segment)?.placed();
        let rows = batches.rows();
        let mut mean = Mean::new(ensemble.refs(None), batches);
        // Documents begin afresh, wherever their columns do.
        let again = match is_stream && rows > 1 && corpus.document_starts.is_empty() {
            true => REREAD.min(mean.batches().div_ceil(2)),
            false => 0,
        };
        let (mut read, all) = (0, mean.batches() + again);
        while mean.advance() {
            self.note(&mean);
            read += 1;
            hours.check(read as f64 / all as f64)?;
        }
        if !mean.total().nll.is_finite() {
            let why =
                "the teachers say what is no number of the training text; one of them is broken: lstm eval shows which";
            return Err(TrainError::Unusable(why.to_owned()));
        }
        if again > 0 {
            mean.reread(again, &mut |mean| self.note(mean));
        }
        Ok(())
    }

    /// Notes what is said of the last batch.
    fn note(&mut self, mean: &Mean) {
        let Self { top, ids, shares, .. } = self;
        for (place, (_, _, all)) in mean.places().zip(mean.predicted()) {
            let own = place * *top..(place + 1) * *top;
            likeliest(all, &mut ids[own.clone()], &mut shares[own]);
        }
    }

    /// Says what there is to say of the positions of a batch, which knows their places.
    pub(crate) fn teach(&self, batch: &Batch, tape: &mut LanguageTape) {
        let lesson = tape.lesson().get_or_insert_with(Lesson::default);
        lesson.begin(self.weight, self.top);
        for (_, &place) in batch.targets.iter().zip(&batch.places).filter(|(target, _)| **target != NO_TARGET) {
            let own = place * self.top..(place + 1) * self.top;
            lesson.add(&self.ids[own.clone()], &self.shares[own]);
        }
    }
}

/// The likeliest of all tokens, from the likeliest on, of equals the first: as many as there is room for.
fn likeliest(all: &[f32], ids: &mut [u32], shares: &mut [f32]) {
    let (mut found, last) = (0, ids.len().wrapping_sub(1));
    if ids.is_empty() {
        return;
    }
    for (id, &share) in all.iter().enumerate() {
        if found > last && share <= shares[last] {
            continue;
        }
        let mut at = found.min(last);
        while at > 0 && shares[at - 1] < share {
            (ids[at], shares[at]) = (ids[at - 1], shares[at - 1]);
            at -= 1;
        }
        (ids[at], shares[at]) = (id as u32, share);
        found = (found + 1).min(last + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_in_their_order_and_of_equals_the_first() {
        let all: Vec<f32> = (0..100).map(|i| ((i * 37) % 50) as f32).collect();
        let mut expected: Vec<(u32, f32)> = (0..).zip(all.iter().copied()).collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for count in [0, 1, 7, 32, 99] {
            let (mut ids, mut shares) = (vec![0; count], vec![0.0; count]);
            likeliest(&all, &mut ids, &mut shares);
            let found: Vec<(u32, f32)> = ids.into_iter().zip(shares).collect();
            assert_eq!(found, expected[..count]);
        }
    }
}
