//! How a run begins, and how it goes on from its last checkpoint.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::Trainer;
use super::members::check_members;
use super::saved::Saved;
use crate::formats::FormatError;
use crate::run::checkpoint::{Checkpoint, Progress};
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::folder::{Claim, Existing, RunFolder};
use crate::run::saved::{ModelCard, load_model, load_tokenizer, with_settings};
use crate::run::settings::Settings;
use crate::run::training::Member;
use crate::said::count;
use crate::text::tokenizer::TokenizerKind;
use crate::train::check::{check_effect, check_memory, check_schedule, check_sources};
use crate::train::data::Data;
use crate::train::language::{Language, checksum_of};
use crate::train::length::{Extension, check_data, lengthen};
use crate::train::task::Task;
use crate::train::teachers::Teachers;

impl Trainer {
    /// Starts a run in `folder`, which must not exist unless it is a run that is to be replaced.
    ///
    /// # Errors
    /// A setting, a text or a folder that cannot be used; nothing is left behind.
    pub fn create(config: RunConfig, data: Data, folder: &Path, existing: Existing) -> Result<Self, TrainError> {
        Self::begin(config, data, Claim::new(folder, existing)?)
    }

    /// Starts a run in a folder that was claimed for it. A text from standard input that was written there is kept as the run's.
    ///
    /// # Errors
    /// A setting or a text that cannot be used; nothing is left behind.
    pub fn begin(mut config: RunConfig, data: Data, claim: Claim) -> Result<Self, TrainError> {
        let started = Instant::now();
        if config.tokenizer == TokenizerKind::File {
            // A file may be that of a run, whose tokens are of any kind.
            config.tokenizer = data.tokenizer.kind();
        }
        config.fit(data.tokenizer.vocabulary_size(), data.train.ids.len());
        data.note_in(&mut config.data);
        // Without validation nothing can be waited for.
        config.training.patience = config.training.patience.filter(|_| data.valid.is_some());
        config.validate()?;
        if claim.spooled().is_some() {
            config.data.train = Some(claim.folder().own_text()?);
        }
        let (read, tokenizer_file) = (data.seconds, checksum_of(&data, &claim)?);
        let teachers = Teachers::read_in_time(&mut config, &data)?;
        let task = Language::new(config, data)?.with_tokenizer_file(tokenizer_file).taught(teachers);
        check_effect(task.settings())?;
        check_memory(task.settings(), task.data(), task.model())?;
        // Making the model is a part of the time that there is.
        Self::begin_task(task, claim, read + started.elapsed().as_secs_f64())
    }

    /// Goes on with the run in `folder` from its last checkpoint, with the same bits as if it had never stopped.
    ///
    /// # Errors
    /// A folder that is no run, files that are damaged, or texts that changed.
    pub fn resume(folder: &Path, extension: Extension) -> Result<Self, TrainError> {
        Self::resume_as(folder, &extension, None)
    }

    /// The same, as a `member` of a run that may have got more of them since it was begun.
    pub(super) fn resume_as(folder: &Path, extension: &Extension, member: Option<Member>) -> Result<Self, TrainError> {
        let stopped = Stopped::<RunConfig>::open(folder)?;
        let (folder, stored) = (stopped.claim.folder(), &stopped.settings);
        let noted = &stopped.checkpoint.position;
        let (tokenizer, tokenizer_file) = load_tokenizer(folder, &noted.tokenizer_file, &folder.checkpoint())?;
        if tokenizer.vocabulary_size() != stored.model.vocabulary {
            return Err(TrainError::Unusable(format!(
                "{} has {}, but the run was trained with {}; put the tokenizer it was trained with beside it",
                folder.tokenizer().display(),
                count(tokenizer.vocabulary_size(), "token"),
                stored.model.vocabulary
            )));
        }
        let mut config = stopped.extended(extension)?;
        config.training.member = member.or(config.training.member);
        check_members(&config, folder)?;
        extension.move_to(&mut config)?;
        let data = Data::read(&config, Some(tokenizer))?;
        if data.valid.is_none() && extension.patience.is_some_and(|patience| patience > 0) {
            return Err(TrainError::Unusable(
                "patience waits for a better validation, but the run has no validation text; leave `patience` out"
                    .to_owned(),
            ));
        }
        check_data(&config, &noted.data, &data.fingerprint())?;
        let teachers = Teachers::read(&mut config, &data)?;
        let task = Language::new(config, data)?.with_tokenizer_file(tokenizer_file).taught(teachers);
        check_memory(task.settings(), task.data(), task.model())?;
        stopped.go_on(task, extension.learning_rate)
    }
}

impl<T: Task> Trainer<T> {
    /// Starts a run of any task in a folder that was claimed for it. `seconds`: those that reading its data took.
    ///
    /// # Errors
    /// A schedule that does not fit the run, or a folder that cannot be written; nothing is left behind.
    pub fn begin_task(task: T, claim: Claim, seconds: f64) -> Result<Self, TrainError> {
        let started = Instant::now();
        check_schedule(&task)?;
        check_sources(task.settings(), claim.folder().path())?;
        let mut progress = Progress::new(&task);
        (progress.position.seconds, progress.position.reading) = (seconds, seconds);
        progress.position.metrics = Some(0);
        progress.position.tokenizer_file = described(&task).tokenizer_file;
        write_first(&task, &progress, &claim)?;
        // Writing the first files is a part of the time that there is.
        let spent = seconds + started.elapsed().as_secs_f64();
        (progress.position.seconds, progress.position.reading) = (spent, spent);
        let mut trainer = Self::assemble(task, claim, progress);
        trainer.keep_checkpoint()?;
        Ok(trainer)
    }

    fn assemble(task: T, claim: Claim, progress: Progress) -> Self {
        let (seconds_before, now) = (progress.position.seconds, Instant::now());
        let saved = Saved::of(progress.position.step);
        Self { task: Arc::new(task), claim, first: None, progress, saved, note: None, seconds_before, started: now }
    }
}

/// A run that was stopped, before its data are read again.
#[derive(Debug)]
pub struct Stopped<S> {
    claim: Claim,
    settings: S,
    checkpoint: Checkpoint,
}

impl<S: Settings> Stopped<S> {
    /// Opens the run in `folder`, which is this process's from now on.
    ///
    /// # Errors
    /// A folder that is no run or another process's, or files that are damaged or do not fit.
    pub fn open(folder: &Path) -> Result<Self, TrainError> {
        let claim = Claim::existing(folder)?;
        let folder = claim.folder();
        let settings = S::load(folder)?;
        let path = folder.checkpoint();
        if !path.exists() {
            return Err(without_checkpoint(folder));
        }
        let checkpoint = Checkpoint::read(&path)?;
        settings.check_against(&checkpoint.position.config, S::deciding, folder, &path)?;
        Ok(Self { claim, settings, checkpoint })
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &RunFolder {
        self.claim.folder()
    }

    /// The checksum of the tokenizer's file that its checkpoint notes; empty where there was none.
    pub(crate) fn tokenizer_file(&self) -> &str {
        &self.checkpoint.position.tokenizer_file
    }

    /// Its settings, to read the data with.
    pub fn settings(&self) -> &S {
        &self.settings
    }

    /// The same with the bounds that are given in the place of its own.
    ///
    /// # Errors
    /// A bound that the run is past, or that is none.
    pub(crate) fn extended(&self, extension: &Extension) -> Result<S, TrainError> {
        let mut settings = self.settings.clone();
        extension.lengthen(settings.training_mut(), &self.checkpoint.position)?;
        settings.validate()?;
        Ok(settings)
    }

    /// Goes on from its last checkpoint, with the same bits as if it had never stopped. The task's settings may have other bounds;
    /// `rate`: where a schedule that has come down to 0 begins again.
    ///
    /// # Errors
    /// Data that changed, or files that do not fit.
    pub fn go_on<T: Task<Settings = S>>(self, mut task: T, rate: Option<f32>) -> Result<Trainer<T>, TrainError> {
        let Self { claim, settings: stored, checkpoint } = self;
        let folder = claim.folder();
        check_data(task.settings(), &checkpoint.position.data, &task.fingerprint())?;
        check_schedule(&task)?;
        let mut progress = checkpoint.restore(&task)?;
        if folder.model().exists() || progress.position.best.is_some() {
            check_model(folder, &stored, &task)?;
        }
        progress.position.tokenizer_file = described(&task).tokenizer_file;
        let note = lengthen(stored.training(), &mut task, rate, &progress.position)?;
        write_changed(&stored, &task, &mut progress, &claim)?;
        Ok(Trainer { note, ..Trainer::assemble(task, claim, progress) })
    }
}

/// Why a run without a checkpoint is none to go on with, or to verify: it was converted from a model, or its checkpoint was removed.
fn without_checkpoint(folder: &RunFolder) -> TrainError {
    let (run, file) = (folder.path().display(), folder.checkpoint());
    let name = file.file_name().unwrap_or_default().display();
    TrainError::Unusable(if folder.model().exists() {
        format!(
            "{run} has a model and no {name}, as a run has that was converted from a file: there is no training to go on with, and no step to \
             take again; train its model on a text by `from` in place of `resume`"
        )
    } else {
        format!("{run} has neither a {name} nor a model, so nothing is left of its training; start it again")
    })
}

/// What the files of a task's models say of it.
fn described<T: Task>(task: &T) -> ModelCard {
    let mut card = ModelCard::default();
    task.describe(&mut card);
    card
}

/// Refuses a best model that is not that of the run of this task, with these settings: damaged, or of another run. A run that goes on
/// would say its results, or end in an error when all is trained.
fn check_model<T: Task>(folder: &RunFolder, settings: &T::Settings, task: &T) -> Result<(), FormatError> {
    let path = folder.model();
    let (_, card) = load_model(&path, task.layout())?;
    settings.check_against(&card.config, T::Settings::lasting, folder, &path)?;
    let own = described(task);
    let noted = [(&card.tokenizer_file, &own.tokenizer_file), (&card.text, &own.text)];
    if noted.iter().any(|(noted, found)| !noted.is_empty() && noted != found) {
        let why = "it is the model of another run, with another text or tokenizer; put this run's own in its place";
        return Err(FormatError::Unusable { path, why: why.to_owned() });
    }
    Ok(())
}

/// Writes the first files of a run. Those of a run that is replaced go when these are written in full.
fn write_first<T: Task>(task: &T, progress: &Progress, claim: &Claim) -> Result<(), FormatError> {
    let folder = claim.folder();
    let mut pending = claim.pending()?;
    pending.add(&folder.config(), &task.settings().to_bytes(folder)?)?;
    pending.add(&folder.checkpoint(), &progress.to_bytes(&folder.checkpoint())?)?;
    task.add_files(claim, &mut pending)?;
    pending.publish()
}

/// Writes the files that say what the settings of a run are, if those were changed.
fn write_changed<T: Task>(
    stored: &T::Settings,
    task: &T,
    progress: &mut Progress,
    claim: &Claim,
) -> Result<(), FormatError> {
    let (folder, settings): (&RunFolder, _) = (claim.folder(), task.settings());
    progress.position.config = settings.deciding();
    if stored.deciding() != progress.position.config {
        // Together, for each proves the other.
        let mut pending = claim.pending()?;
        pending.add(&folder.config(), &settings.to_bytes(folder)?)?;
        pending.add(&folder.checkpoint(), &progress.to_bytes(&folder.checkpoint())?)?;
        if settings.lasting() != stored.lasting() && folder.model().exists() {
            pending.add(&folder.model(), &with_settings(&folder.model(), settings)?)?;
        }
        pending.keep_others();
        pending.publish()
    } else if stored != settings {
        settings.save(folder)
    } else {
        Ok(())
    }
}
