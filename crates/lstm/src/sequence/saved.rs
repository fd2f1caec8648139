//! A trained model over sequences, opened to be used.

use std::path::{Path, PathBuf};

use super::batch::{SequenceBatch, SequenceBatches, Sequences};
use super::config::SequenceConfig;
use super::data::{Examples, Reader, SequenceDataset};
use super::head::Objective;
use super::model::SequenceModel;
use super::numbers::{SCALERS, Scalers};
use super::read::{Place, Record};
use crate::formats::FormatError;
use crate::formats::safetensors::map;
use crate::nn::params::Params;
use crate::run::error::TrainError;
use crate::run::folder::RunFolder;
use crate::run::saved::{ModelCard, Origin, TOKENIZER, card, load_tokenizer, model_params};
use crate::run::settings::Settings as _;
use crate::run::task_kind::TaskKind;
use crate::said::count;
use crate::text::tokenizer::Tokenizer;
use crate::train::task::Batches as _;

/// A trained model over sequences, to use.
#[derive(Debug)]
pub struct LoadedSequence {
    /// Where it is from.
    pub origin: Origin,
    /// The settings; of a model file without where the data lie.
    pub config: SequenceConfig,
    /// The tokenizer; none of numbers.
    pub tokenizer: Option<Tokenizer>,
    /// The scales of numbers.
    pub scalers: Scalers,
    /// The model.
    pub model: SequenceModel,
    /// Its best parameters.
    pub params: Params,
    /// The facts about them.
    pub card: ModelCard,
}

/// What a model says of an example: the probability of each label, or numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// `[C]`: of each label; of a regression the numbers on the scale that it was trained on.
    pub probabilities: Vec<f32>,
    /// The weight of each token, where the model attends.
    pub attention: Vec<f32>,
}

impl Prediction {
    /// The likeliest label of each word, the first of equals, where each of `classes` has a probability.
    pub fn tags(&self, classes: usize) -> Vec<usize> {
        self.probabilities.chunks(classes.max(1)).map(best).collect()
    }

    /// The likeliest label, the first of equals.
    pub fn best(&self) -> usize {
        best(&self.probabilities)
    }

    /// The labels that are likelier than not.
    pub fn likely(&self) -> Vec<usize> {
        (0..self.probabilities.len()).filter(|at| self.probabilities[*at] >= 0.5).collect()
    }
}

/// The place of the largest, the first of equals.
fn best(probabilities: &[f32]) -> usize {
    (0..probabilities.len()).rev().max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b])).unwrap_or(0)
}

impl LoadedSequence {
    /// Opens a run folder or a model file.
    ///
    /// # Errors
    /// What is neither, or of another task; damaged files, or files that do not fit each other.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        if path.is_file() { Self::of_file(path) } else { Self::of_folder(path) }
    }

    fn of_file(path: &Path) -> Result<Self, TrainError> {
        let contents = map(path)?;
        let card = card(&contents, path)?;
        TaskKind::of_settings(&card.config, path)?.check(SequenceConfig::TASKS, path)?;
        let config = SequenceConfig::noted(&card.config, path)?;
        let tokenizer = match contents.texts.get(TOKENIZER) {
            _ if config.model.numbers.is_some() => None,
            Some(text) => Some(Tokenizer::from_bytes(path, text.as_bytes())?),
            None => {
                let why = "it says nothing of its tokenizer; give the run folder that it lies in".to_owned();
                return Err(FormatError::Unusable { path: path.to_owned(), why }.into());
            }
        };
        let origin = Origin::File(path.to_owned());
        Self::assemble(origin, config, tokenizer, contents, card, path)
    }

    fn of_folder(folder: &Path) -> Result<Self, TrainError> {
        let folder = RunFolder::open(folder)?;
        let config = SequenceConfig::load(&folder)?;
        let path = folder.model();
        if !path.exists() && folder.checkpoint().exists() {
            return Err(TrainError::NoModel { folder: folder.path().to_owned() });
        }
        let contents = map(&path)?;
        let card = card(&contents, &path)?;
        let tokenizer = match config.model.numbers {
            Some(_) => None,
            None => Some(load_tokenizer(&folder, &card.tokenizer_file, &path)?.0),
        };
        config.check_against(&card.config, SequenceConfig::lasting, &folder, &path)?;
        Self::assemble(Origin::Run(folder), config, tokenizer, contents, card, &path)
    }

    fn assemble(
        origin: Origin,
        config: SequenceConfig,
        tokenizer: Option<Tokenizer>,
        contents: crate::formats::safetensors::Contents,
        card: ModelCard,
        path: &Path,
    ) -> Result<Self, TrainError> {
        let (fingerprint, size) = match &tokenizer {
            Some(tokenizer) => (tokenizer.fingerprint(), tokenizer.vocabulary_size()),
            None => (String::new(), 0),
        };
        if card.tokenizer != fingerprint || config.model.vocabulary != size {
            let why = "its tokenizer is not the one that it was trained with; restore it from a copy".to_owned();
            return Err(FormatError::Unusable { path: path.to_owned(), why }.into());
        }
        let targets = if config.task == TaskKind::Regress { config.labels.len() } else { 0 };
        let scalers = Scalers::of_text(contents.texts.get(SCALERS), [config.features_of_a_step(), targets], path)?;
        let model = SequenceModel::new(&config, tokenizer.as_ref().and_then(Tokenizer::unknown))?;
        let params = model_params(model.layout(), contents, path)?;
        Ok(Self { origin, config, tokenizer, scalers, model, params, card })
    }

    /// How its examples are made of what is read.
    fn reader(&self) -> Reader<'_> {
        Reader { config: &self.config, tokenizer: self.tokenizer.as_ref(), scalers: &self.scalers }
    }

    /// The data that it was trained on, read again.
    ///
    /// # Errors
    /// A model file, which does not say where its data lie; data that are no longer there or no longer the same.
    pub fn data(&self) -> Result<SequenceDataset, TrainError> {
        if let Origin::File(path) = &self.origin {
            return Err(TrainError::Unusable(format!(
                "{} is a model by itself, and does not say where its data lie; give the folder of its run",
                path.display()
            )));
        }
        let data = SequenceDataset::read(&mut self.config.clone(), self.tokenizer.clone())?;
        if !self.card.text.is_empty() && data.train.sequences.fingerprint() != self.card.text {
            let why = "the training data changed since the model was trained on them, so nothing can be compared; restore them, or train \
                       again";
            return Err(TrainError::Unusable(why.to_owned()));
        }
        Ok(data)
    }

    /// The examples of a file or a folder, with labels that are the model's.
    ///
    /// # Errors
    /// A file that cannot be used, with line and column.
    pub fn read(&self, path: &Path) -> Result<Examples, TrainError> {
        Ok(self.reader().read(path, true)?)
    }

    /// The sequences of numbers of a file, whatever labels it has.
    ///
    /// # Errors
    /// A file that cannot be used, with line and column.
    pub fn read_unlabelled(&self, path: &Path) -> Result<Examples, TrainError> {
        Ok(self.reader().read(path, false)?)
    }

    /// The examples of what was read without labels.
    fn unlabelled(&self, records: impl Iterator<Item = Record>) -> Result<Examples, TrainError> {
        if self.config.model.numbers.is_some() {
            let why = "the model reads sequences of numbers, and these are words; give it such, or a model of words";
            return Err(TrainError::Unusable(why.to_owned()));
        }
        Ok(self.reader().examples(&records.collect::<Vec<_>>())?)
    }

    /// The predictions for texts, in their order.
    ///
    /// # Errors
    /// A text that a tokenizer has no tokens for.
    pub fn predict(&self, texts: &[impl AsRef<str>]) -> Result<Vec<Prediction>, TrainError> {
        let records = texts.iter().map(|text| Record { text: text.as_ref().to_owned(), ..Record::default() });
        let examples = self.unlabelled(records)?;
        Ok(self.predict_sequences(&examples.sequences))
    }

    /// The labels of the words of sentences, in their order: the probabilities of each word behind those of the word before it,
    /// `[words, C]`; of a sentence that is longer than what is read, of its first words.
    ///
    /// # Errors
    /// Sentences that cannot be read.
    pub fn tag(&self, sentences: &[Vec<String>]) -> Result<Vec<Prediction>, TrainError> {
        let records = sentences.iter().map(|words| Record { words: words.clone(), ..Record::default() }.joined());
        let examples = self.unlabelled(records)?;
        Ok(self.predict_sequences(&examples.sequences))
    }

    /// The tokens of a text, as they are written; those that attention is over.
    ///
    /// # Errors
    /// A text that a tokenizer has no tokens for.
    pub fn tokens(&self, text: &str) -> Result<Vec<String>, TrainError> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(Vec::new()) };
        let (tokens, ..) = self.config.tokens(tokenizer, &self.config.prepared(text))?;
        Ok(tokens.iter().map(|token| tokenizer.text(*token)).collect())
    }

    /// The predictions for sequences of numbers, each `[T, F]`, not a number where a value is missing; in their order.
    ///
    /// # Errors
    /// A model of words, or sequences with other values a step.
    pub fn predict_numbers(&self, sequences: &[Vec<f32>]) -> Result<Vec<Prediction>, TrainError> {
        let features = self.config.features_of_a_step();
        if features == 0 {
            let why = "the model reads words, and these are sequences of numbers; give it texts, or a model of numbers";
            return Err(TrainError::Unusable(why.to_owned()));
        }
        if let Some(at) =
            sequences.iter().position(|values| values.is_empty() || !values.len().is_multiple_of(features))
        {
            return Err(TrainError::Unusable(format!(
                "sequence {at} has {}, which are no steps of {features}",
                count(sequences[at].len(), "value")
            )));
        }
        let place = |at: usize| Place { column: Some(format!("x[{at}]")), ..Place::default() };
        let records = sequences.iter().enumerate().map(|(at, values)| Record {
            values: values.clone(),
            features,
            place: place(at),
            ..Record::default()
        });
        let examples = self.reader().examples(&records.collect::<Vec<_>>())?;
        Ok(self.predict_sequences(&examples.sequences))
    }

    /// The numbers that a regression says, as those of the data.
    pub fn said(&self, prediction: &Prediction) -> Vec<f64> {
        self.scalers.restore(&prediction.probabilities)
    }

    /// The predictions for sequences, in their order.
    pub fn predict_sequences(&self, sequences: &Sequences) -> Vec<Prediction> {
        let outputs = self.model.outputs();
        let batches = SequenceBatches::of_all(sequences, self.config.training.batch, outputs);
        let (mut batch, mut tape) = (SequenceBatch::default(), self.model.frozen_tape());
        let mut predictions = vec![Prediction { probabilities: Vec::new(), attention: Vec::new() }; sequences.len()];
        for number in 0..batches.count() {
            batches.fill(number, &mut batch);
            self.model.forward(&self.params, &batch, None, &mut tape);
            let mut probabilities = tape.scores().to_vec();
            self.model.probabilities(&mut probabilities);
            if outputs.0 == Objective::Tags {
                for (row, example) in batch.examples.iter().enumerate() {
                    let steps = batch.starts[..batch.lengths[row]].iter();
                    let of_step = |start: &usize| &probabilities[(start + row) * outputs.1..][..outputs.1];
                    predictions[*example].probabilities = steps.flat_map(of_step).copied().collect();
                }
                continue;
            }
            for (row, (example, probabilities)) in
                batch.examples.iter().zip(probabilities.chunks_exact(outputs.1)).enumerate()
            {
                let prediction = &mut predictions[*example];
                prediction.probabilities = probabilities.to_vec();
                if !tape.attention().is_empty() {
                    let steps = batch.starts[..batch.lengths[row]].iter();
                    prediction.attention = steps.map(|start| tape.attention()[start + row]).collect();
                }
            }
        }
        predictions
    }

    /// The file or folder that it was opened from.
    pub fn path(&self) -> PathBuf {
        match &self.origin {
            Origin::Run(folder) => folder.path().to_owned(),
            Origin::File(file) => file.clone(),
        }
    }
}
