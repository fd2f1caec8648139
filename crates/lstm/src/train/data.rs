//! The texts of a run, read into ids by one tokenizer.

use std::sync::Arc;
use std::time::Instant;

use crate::model::Sampler;
use crate::run::config::{DataConfig, RunConfig};
use crate::run::expectation::Expectation;
use crate::run::training::Training;
use crate::text::TextError;
use crate::text::batch::{Batches, Batching};
use crate::text::corpus::Corpus;
use crate::text::documents::{Documents, LineEnds};
use crate::text::folder::Layout;
use crate::text::ngram::Ngram;
use crate::text::source::Source;
use crate::text::spelling::Spelling;
use crate::text::tokenizer::{Tokenizer, TokenizerKind};
use crate::train::pretrained::{Inherited, Pretrained};
pub use crate::train::texts::Note;
use crate::train::texts::{Texts, layout};

/// The texts of a run, read.
#[derive(Debug)]
pub struct Data {
    /// The tokenizer, of the training text.
    pub tokenizer: Tokenizer,
    /// Trained on.
    pub train: Corpus,
    /// Watched.
    pub valid: Option<Corpus>,
    /// Measured at the end.
    pub test: Option<Corpus>,
    /// The perplexity no model can beat: that of the built-in language, if every token of it is kept and predicted.
    pub floor: Option<f64>,
    /// A trigram's test perplexity beside it, for words.
    pub trigram: Option<f64>,
    /// The test perplexity that a run of a plan is expected to reach on them, if one is.
    pub expected: Option<Expectation>,
    /// Notes on how they were read.
    pub notes: Vec<Note>,
    /// How long reading all this took.
    pub seconds: f64,
    /// The values that the run goes on from, if it starts from a trained model.
    pub inherited: Option<Inherited>,
}

impl Data {
    /// Reads the texts; with `tokenizer`, a resumed run's own, instead of building one.
    ///
    /// # Errors
    /// A text that cannot be used.
    pub fn read(config: &RunConfig, tokenizer: Option<Tokenizer>) -> Result<Self, TextError> {
        let is_new = tokenizer.is_none();
        Self::read_by(config, tokenizer, is_new, None)
    }

    /// Notes in the settings what the training text decides: how its lines end where that is kept, and whether what delimits documents stands
    /// within lines.
    pub(crate) fn note_in(&self, config: &mut DataConfig) {
        let train = &self.train;
        config.crlf = (config.line_ends == LineEnds::Keep).then_some(2 * train.crlf > train.lines);
        config.inline_documents = match config.documents {
            Some(Documents::After(_)) => Some(2 * train.inline > train.delimiters),
            _ => None,
        };
    }

    /// Reads the texts of a run that starts from a trained model.
    ///
    /// # Errors
    /// A text that cannot be used.
    pub fn read_from(config: &RunConfig, pretrained: &Pretrained) -> Result<Self, TextError> {
        Self::read_by(config, None, true, Some(pretrained))
    }

    /// The same; `is_new` says of the tokenizer, if one is given, that no run has used it before.
    pub(crate) fn read_by(
        config: &RunConfig,
        tokenizer: Option<Tokenizer>,
        is_new: bool,
        pretrained: Option<&Pretrained>,
    ) -> Result<Self, TextError> {
        let started = Instant::now();
        let is_new = is_new && !pretrained.is_some_and(Pretrained::keeps);
        let Texts { splits, floor, mut notes } = Texts::of(config)?;
        let lossy = config.data.lossy;
        let options = config.vocabulary_options();
        let build = || {
            // Before it is counted, which takes its time; how wide the ids are is known only then.
            splits.train.check_memory(config.tokenizer, 1)?;
            Tokenizer::build(config.tokenizer, &splits.train, options, lossy)
        };
        let mut tokenizer = match (tokenizer, &config.data.tokenizer) {
            (Some(tokenizer), _) => tokenizer,
            (None, _) if pretrained.is_some() => {
                pretrained.map_or_else(build, |pretrained| pretrained.tokenizer(config, build))?
            }
            (None, Some(path)) => {
                Tokenizer::import(path, options.line_markers).map_err(|error| TextError::Unusable(error.to_string()))?
            }
            (None, None) => build()?,
        };
        let mut train = Corpus::read_training(&splits.train, &tokenizer, lossy)?;
        if let Some(documents) = config.data.documents.as_ref().filter(|_| train.delimiters == 0) {
            return Err(TextError::Unusable(format!(
                "the training text is one document: nothing in it delimits documents as {documents} does; leave that out, or \
                 give what stands between them"
            )));
        }
        if train.ids.len() < 2 {
            return Err(TextError::Unusable(
                "the training text has one token; to learn what follows what, at least two are needed: choose another \
                 tokenizer, such as chars for a text without white space, or give a longer text"
                    .to_owned(),
            ));
        }
        if (1..train.ids.len()).all(|at| train.ids.get(at) == train.ids.get(0)) {
            let token = train.ids.get(0);
            let advice = if Some(token) == tokenizer.unknown() {
                "every other token is rarer than `min-count`, so lower that"
            } else {
                "there is nothing to learn from it"
            };
            return Err(TextError::Unusable(format!(
                "the training text is nothing but the token {:?}, {} times; {advice}",
                tokenizer.text(token),
                train.ids.len()
            )));
        }
        if is_new {
            let counts = train.counts(&tokenizer);
            tokenizer.learn(&splits.train, &counts, train.unknown, lossy)?;
            let known = |spelling: &Spelling| spelling.training_nats(train.unknown, train.literal);
            train.spelling = Some(tokenizer.spelling().map_or(0.0, known));
        }
        let inherited = pretrained.map(|pretrained| pretrained.inherit(&mut tokenizer));
        let read = |source: &Source| Corpus::read(source, &tokenizer, lossy);
        let valid = splits.valid.as_ref().map(read).transpose()?;
        let test = splits.test.as_ref().map(read).transpose()?;
        // Windows predict only what has something before it, and a cut vocabulary is easier than the whole.
        let floor = floor.filter(|_| train.unknown == 0 && !matches!(config.batching, Batching::Windows(_)));
        let trigram = match (floor, &test) {
            (Some(_), Some(test)) if tokenizer.kind() == TokenizerKind::Words => {
                let model = Ngram::of_corpus(3, &train, &tokenizer)?;
                Some(model.loss(test, &tokenizer, config.batching).perplexity())
            }
            _ => None,
        };
        if let Some(valid) = valid.as_ref().filter(|valid| valid.fingerprint == train.fingerprint) {
            notes.push(Note::ValidIsTrain { lines: valid.lines });
        }
        // To words white space is all the same.
        if train.crlf > 0 && tokenizer.kind() != TokenizerKind::Words {
            notes.push(Note::CarriageReturns { lines: train.crlf, of: train.lines, kept: config.data.line_ends });
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(Self { tokenizer, train, valid, test, floor, trigram, expected: None, notes, seconds, inherited })
    }

    /// The tokens to validate on and to test with.
    pub(crate) fn evaluated_tokens(&self) -> usize {
        [&self.valid, &self.test].into_iter().flatten().map(Corpus::tokens).sum()
    }

    /// Which files are read as what, where a folder is among the texts.
    ///
    /// # Errors
    /// A folder without text, or one that could be read in more than one way.
    pub fn layout(config: &DataConfig) -> Result<Option<Layout>, TextError> {
        let texts = [&config.train, &config.valid, &config.test];
        if !texts.into_iter().flatten().any(|path| path.is_dir()) {
            return Ok(None);
        }
        config.train.as_deref().map(|train| layout(train, config)).transpose()
    }

    /// One checksum of all texts, to notice that they changed.
    pub fn fingerprint(&self) -> String {
        let part = |corpus: Option<&Corpus>| corpus.map_or("none", |corpus| corpus.fingerprint.as_str()).to_owned();
        [part(Some(&self.train)), part(self.valid.as_ref()), part(self.test.as_ref())].join("-")
    }
}

/// The batches of one epoch.
pub(crate) fn batches<'a>(config: &RunConfig, data: &'a Data, epoch: usize) -> Result<Batches<'a>, TextError> {
    let RunConfig { batching, segment, training: Training { batch, seed, .. }, .. } = *config;
    let batches = Batches::training(&data.train, &data.tokenizer, batching, batch, segment, seed, epoch as u64)?;
    let batches = if config.variable_segment { batches.varied(seed, epoch as u64) } else { batches };
    Ok(if config.partial_shuffle { batches.rotated(seed, epoch as u64) } else { batches })
}

/// Draws the candidates of a sampled softmax, by how often tokens occur in the training text.
pub(crate) fn sampler(config: &RunConfig, data: &Data) -> Option<Arc<Sampler>> {
    let candidates = config.candidates.filter(|&candidates| candidates < config.model.vocabulary)?;
    Some(Arc::new(Sampler::new(&data.train.ids.counts(config.model.vocabulary), candidates)))
}
