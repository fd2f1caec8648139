//! How a run begins, and how it goes on from its last checkpoint.

use std::path::Path;
use std::time::Instant;

use super::{Saved, Trainer};
use crate::formats::FormatError;
use crate::model::LanguageModel;
use crate::run::checkpoint::{Checkpoint, Progress};
use crate::run::config::{DataConfig, RunConfig};
use crate::run::error::TrainError;
use crate::run::folder::{Claim, Existing};
use crate::run::saved::{check_model, file_checksum, load_tokenizer, with_settings};
use crate::text::documents::{Documents, LineEnds};
use crate::train::check::{check_effect, check_memory, check_schedule};
use crate::train::data::Data;
use crate::train::length::{Extension, lengthen};

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
        config.fit(data.tokenizer.vocabulary_size(), data.train.ids.len());
        config.data.crlf = (config.data.line_ends == LineEnds::Keep).then_some(2 * data.train.crlf > data.train.lines);
        config.data.inline_documents = match config.data.documents {
            Some(Documents::After(_)) => Some(2 * data.train.inline > data.train.delimiters),
            _ => None,
        };
        // Without validation nothing can be waited for.
        config.training.patience = config.training.patience.filter(|_| data.valid.is_some());
        config.validate()?;
        let model = LanguageModel::new(config.model.clone())?;
        check_effect(&config)?;
        check_memory(&config, &data, &model)?;
        check_schedule(&config, &data)?;
        if claim.spooled().is_some() {
            let text = claim.folder().text();
            config.data.train =
                Some(std::path::absolute(&text).map_err(|source| FormatError::Write { path: text, source })?);
        }
        let mut progress = Progress::new(&config, &model, data.fingerprint());
        (progress.position.seconds, progress.position.reading) = (data.seconds, data.seconds);
        progress.position.metrics = Some(0);
        begin(&config, &data, &mut progress, &claim)?;
        // Making the model and writing the first files are a part of the time that there is.
        let spent = data.seconds + started.elapsed().as_secs_f64();
        (progress.position.seconds, progress.position.reading) = (spent, spent);
        Ok(Self::assemble(config, data, model, claim, progress))
    }

    fn assemble(config: RunConfig, data: Data, model: LanguageModel, claim: Claim, progress: Progress) -> Self {
        let (seconds_before, now) = (progress.position.seconds, Instant::now());
        let saved = Saved { step: Some(progress.position.step), at: now };
        Self { config, data, model, claim, progress, saved, note: None, seconds_before, started: now }
    }

    /// Goes on with the run in `folder` from its last checkpoint, with the same bits as if it had never stopped.
    ///
    /// # Errors
    /// A folder that is no run, files that are damaged, or texts that changed.
    pub fn resume(folder: &Path, extension: Extension) -> Result<Self, TrainError> {
        let claim = Claim::existing(folder)?;
        let folder = claim.folder();
        let stored = RunConfig::load(folder)?;
        let path = folder.checkpoint();
        let checkpoint = Checkpoint::read(&path)?;
        stored.check_against(&checkpoint.position.config, RunConfig::deciding, folder, &path)?;
        let (tokenizer, tokenizer_file) = load_tokenizer(folder, &checkpoint.position.tokenizer_file, &path)?;
        if tokenizer.vocabulary_size() != stored.model.vocabulary {
            return Err(TrainError::Unusable(format!(
                "{} has {} tokens, but the run was trained with {}; put the tokenizer it was trained with beside it",
                folder.tokenizer().display(),
                tokenizer.vocabulary_size(),
                stored.model.vocabulary
            )));
        }
        let mut config = extension.lay_over(&stored)?;
        config.validate()?;
        let data = Data::read(&config, Some(tokenizer))?;
        if data.valid.is_none() && extension.patience.is_some_and(|patience| patience > 0) {
            return Err(TrainError::Unusable(
                "patience waits for a better validation, but the run has no validation text; leave `patience` out"
                    .to_owned(),
            ));
        }
        if checkpoint.position.data != data.fingerprint() {
            let text = config
                .data
                .train
                .as_ref()
                .map_or("the built-in language".to_owned(), |path| path.display().to_string());
            return Err(TrainError::Unusable(format!(
                "{text} is not what the run was trained on: the run's texts or its tokenizer.json changed since it began, so \
                 it cannot go on with the same result; restore them, name the text that it was trained on beside `resume`, or \
                 start a new run"
            )));
        }
        let model = LanguageModel::new(config.model.clone())?;
        check_memory(&config, &data, &model)?;
        check_schedule(&config, &data)?;
        let mut progress = checkpoint.restore(&config, &model)?;
        if folder.model().exists() || progress.position.best.is_some() {
            check_model(folder, &stored, &model, &tokenizer_file, &data.train.fingerprint)?;
        }
        progress.position.tokenizer_file = tokenizer_file;
        let note = lengthen(&stored, &mut config, extension.learning_rate, &data, &progress.position)?;
        progress.position.config = config.deciding();
        if stored.deciding() != progress.position.config {
            // Together, for each proves the other.
            let mut pending = claim.pending()?;
            pending.add(&folder.config(), &config.to_bytes(folder)?)?;
            pending.add(&path, &progress.to_bytes(&path)?)?;
            if config.lasting() != stored.lasting() && folder.model().exists() {
                pending.add(&folder.model(), &with_settings(&folder.model(), &config)?)?;
            }
            pending.keep_others();
            pending.publish()?;
        } else if stored != config {
            config.save(folder)?;
        }
        Ok(Self { note, ..Self::assemble(config, data, model, claim, progress) })
    }
}

/// Writes the first files of a run. Those of a run that is replaced go when these are written in full.
fn begin(config: &RunConfig, data: &Data, progress: &mut Progress, claim: &Claim) -> Result<(), FormatError> {
    let folder = claim.folder();
    let tokenizer = data.tokenizer.to_bytes(&folder.tokenizer())?;
    progress.position.tokenizer_file = file_checksum(&tokenizer);
    let mut pending = claim.pending()?;
    pending.add(&folder.config(), &config.to_bytes(folder)?)?;
    pending.add(&folder.tokenizer(), &tokenizer)?;
    pending.add(&folder.checkpoint(), &progress.to_bytes(&folder.checkpoint())?)?;
    let DataConfig { train, valid, test, .. } = &config.data;
    let own = std::path::absolute(folder.text()).ok();
    if let Some(spooled) = claim.spooled() {
        pending.adopt(&folder.text(), spooled)?;
    } else if [train, valid, test].into_iter().any(|text| text.is_some() && *text == own) {
        // The text of the run that is replaced is this one's too.
        pending.keep(&folder.text());
    }
    pending.publish()
}
