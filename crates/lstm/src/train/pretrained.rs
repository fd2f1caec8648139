//! A run that goes on from a trained model on another text: what it takes of the model, its shape, its vocabulary, its values.

use std::path::{Path, PathBuf};

use crate::model::{LanguageModel, LanguageModelConfig};
use crate::nn::config::{ConfigError, Wiring, Zoneout};
use crate::nn::params::Params;
use crate::run::config::RunConfig;
use crate::run::error::TrainError;
use crate::run::fine_tuning::{FineTuning, VocabularyChange};
use crate::run::saved::{LoadedRun, params_checksum};
use crate::text::TextError;
use crate::text::tokenizer::{Tokenizer, TokenizerKind};

/// A trained model that a run goes on from.
#[derive(Debug)]
pub struct Pretrained {
    pub(crate) run: LoadedRun,
    pub(crate) path: PathBuf,
    parameters: String,
    pub(crate) change: VocabularyChange,
}

impl Pretrained {
    /// Opens a run folder or a model file, whose words, chars or bytes shall be extended; subwords are kept.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_extending(path: &Path) -> Result<Self, TrainError> {
        let kept = Self::open(path, VocabularyChange::Keep)?;
        let change =
            if is_counted(kept.run.tokenizer.kind()) { VocabularyChange::Extend } else { VocabularyChange::Keep };
        Ok(Self { change, ..kept })
    }

    /// Opens a run folder or a model file.
    ///
    /// # Errors
    /// What cannot be opened, has values that are no numbers, or a vocabulary that cannot be changed so.
    pub fn open(path: &Path, change: VocabularyChange) -> Result<Self, TrainError> {
        let run = LanguageModel::open(path)?;
        let kind = run.tokenizer.kind();
        if !is_counted(kind) && change != VocabularyChange::Keep {
            return Err(TrainError::Unusable(format!(
                "{} reads {}, which are made for its text and split another one too: `vocabulary` {change} is for words, chars and bytes; \
                 leave it out, or choose keep",
                path.display(),
                kind.noun()
            )));
        }
        let broken = run.model.layout().entries().iter().find(|entry| {
            let values = run.params.get(entry.slot);
            !values.iter().all(|value| value.is_finite())
        });
        if let Some(entry) = broken {
            let name = &entry.name;
            return Err(TrainError::Unusable(format!(
                "{} has a value in {name} that is no number, from which nothing can be learned; give another model",
                path.display()
            )));
        }
        let parameters = params_checksum(&run.params);
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { run, path, parameters, change })
    }

    /// Gives a run the model's shape and its way to read; dropout and penalties stay the run's.
    pub fn lay_over(&self, config: &mut RunConfig) {
        let own = &self.run.config;
        config.model = LanguageModelConfig {
            dropout: config.model.dropout,
            penalties: config.model.penalties,
            vocabulary: config.model.vocabulary,
            ..own.model.clone()
        };
        config.set_tokenizer(own.tokenizer);
        config.data.line_ends = own.data.line_ends;
        config.set_batching(own.batching);
        config.start_uncounted();
        if config.candidates.is_some_and(|candidates| candidates >= own.model.vocabulary) {
            config.candidates = None;
        }
        self.note(&mut config.fine_tuning);
    }

    /// Notes in a run's settings what it starts from.
    pub(crate) fn note(&self, settings: &mut FineTuning) {
        settings.from = Some(self.path.clone());
        settings.parameters = Some(self.parameters.clone());
        settings.vocabulary = self.change;
    }

    /// The tokenizer of a run on the text `source`, whose own is `build`.
    pub(crate) fn tokenizer(
        &self,
        config: &RunConfig,
        build: impl FnOnce() -> Result<Tokenizer, TextError>,
    ) -> Result<Tokenizer, TextError> {
        let own = &self.run.tokenizer;
        if own.kind() != config.tokenizer {
            return Err(TextError::Unusable(format!(
                "{} reads {}, and `tokenizer` is {}: a model goes on with the tokens that it has learned; leave `tokenizer` out, or train a \
                 new one",
                self.path.display(),
                own.kind(),
                config.tokenizer
            )));
        }
        let line_markers = config.vocabulary_options().line_markers;
        if self.change != VocabularyChange::Match && own.line_markers() != line_markers {
            let [is, wants] = [!line_markers, line_markers].map(|with| if with { "with" } else { "without" });
            return Err(TextError::Unusable(format!(
                "{} reads texts {is} markers around their lines, and `batches` {} needs one {wants}; leave `batches` out, or choose \
                 `vocabulary` match",
                self.path.display(),
                config.batching
            )));
        }
        self.vocabulary(build)
    }

    /// The model's vocabulary as it goes on to a text whose own is `build`.
    pub(crate) fn vocabulary(
        &self,
        build: impl FnOnce() -> Result<Tokenizer, TextError>,
    ) -> Result<Tokenizer, TextError> {
        match self.change {
            VocabularyChange::Keep => Ok(self.run.tokenizer.clone()),
            VocabularyChange::Extend => Ok(self.run.tokenizer.extended_by(&build()?)),
            VocabularyChange::Match => build(),
        }
    }

    /// Whether the text says nothing new of the tokenizer.
    pub(crate) fn keeps(&self) -> bool {
        self.change == VocabularyChange::Keep
    }

    /// What of the model a run with this tokenizer, built by [`Self::tokenizer`] and then taught by the text, takes; tokens that the model knows
    /// from its own text are known.
    pub(crate) fn inherit(&self, tokenizer: &mut Tokenizer) -> Inherited {
        let own = &self.run.tokenizer;
        if self.change == VocabularyChange::Extend {
            tokenizer.know_what(own);
        }
        let (config, params) = (self.run.model.config().clone(), self.run.params.clone());
        Inherited::new(self.path.clone(), config, params, tokenizer.ids_in(own))
    }
}

/// Whether tokens of this kind are counted, and not made for a text.
fn is_counted(kind: TokenizerKind) -> bool {
    matches!(kind, TokenizerKind::Words | TokenizerKind::Chars | TokenizerKind::Bytes)
}

/// The values of a trained model, on their way into a run.
#[derive(Clone, Debug)]
pub struct Inherited {
    path: PathBuf,
    pub(crate) config: LanguageModelConfig,
    pub(crate) params: Params,
    /// For every token of the run the one of the model that it is.
    pub(crate) old_ids: Vec<Option<u32>>,
    /// The tokens that both have.
    pub kept: usize,
    /// Those that the model has not.
    pub added: usize,
    /// Those that the run has not.
    pub dropped: usize,
}

impl Inherited {
    /// The values of the model at `path`; `old_ids`: for every token of the run the one of the model that it is.
    pub(crate) fn new(path: PathBuf, config: LanguageModelConfig, params: Params, old_ids: Vec<Option<u32>>) -> Self {
        let kept = old_ids.iter().flatten().count();
        let (added, dropped) = (old_ids.len() - kept, config.vocabulary - kept);
        Self { path, config, params, old_ids, kept, added, dropped }
    }

    /// The parameters that the run's model starts with.
    ///
    /// # Errors
    /// A run whose model has another shape.
    pub(crate) fn params(&self, model: &LanguageModel) -> Result<Params, ConfigError> {
        // Shapes may agree where the computations do not.
        let shape = |config: &LanguageModelConfig| {
            let mut config = config.clone();
            (config.vocabulary, config.dropout, config.penalties) = (0, Default::default(), Default::default());
            (config.lstm.horizon, config.lstm.variant.zoneout) = (None, Zoneout::default());
            config
        };
        if shape(model.config()) != shape(&self.config) {
            return Err(ConfigError::Conflict(format!(
                "the run's model, {}, is of another architecture than that of {}, {}; leave the settings of the model out: the run goes on \
                 with the one it starts from",
                model.config(),
                self.path.display(),
                self.config
            )));
        }
        let mut params = Params::zeros(model.layout().clone());
        let (old, new) = (self.config.vocabulary, self.old_ids.len());
        let is_same = old == new && self.old_ids.iter().zip(0..).all(|(id, new)| *id == Some(new));
        for entry in model.layout().entries() {
            let missing = || ConfigError::Conflict(format!("{} has no {}", self.path.display(), entry.name));
            let from = self.params.by_name(&entry.name).ok_or_else(missing)?;
            let to = params.get_mut(entry.slot);
            let name = entry.name.as_str();
            if is_same {
                to.copy_from_slice(from);
            } else if is_of_tokens(name) {
                let width = to.len() / new;
                rows(from, to, width, &self.old_ids);
            } else if reads_scores(name) && model.config().lstm.wiring == Wiring::Scores {
                // `[4H, V + H]`: the scores of the layer below, then its hidden states.
                let gates = entry.shape[0];
                for (from, to) in from.chunks_exact(from.len() / gates).zip(to.chunks_exact_mut(entry.shape[1])) {
                    rows(&from[..old], &mut to[..new], 1, &self.old_ids);
                    to[new..].copy_from_slice(&from[old..]);
                }
            } else {
                to.copy_from_slice(from);
            }
        }
        Ok(params)
    }
}

/// Whether a parameter has a row for each token.
fn is_of_tokens(name: &str) -> bool {
    let scores = ["lstm.weight_score_l", "lstm.bias_score_l"];
    ["embedding.weight", "readout.weight", "readout.bias"].contains(&name)
        || scores.iter().any(|of| name.starts_with(of))
}

/// Whether a parameter reads scores in the wiring of that name: the input weights of every layer but the first.
fn reads_scores(name: &str) -> bool {
    name.starts_with("lstm.weight_ih_l") && !name.starts_with("lstm.weight_ih_l0")
}

/// Rows of tokens: those of known ones are theirs, others the mean of all. from: `[old, width]`; to: `[new, width]`.
pub(crate) fn rows(from: &[f32], to: &mut [f32], width: usize, old_ids: &[Option<u32>]) {
    let mut mean = vec![0.0f64; width];
    for row in from.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let count = (from.len() / width).max(1) as f64;
    let mean: Vec<f32> = mean.iter().map(|sum| (sum / count) as f32).collect();
    for (row, id) in to.chunks_exact_mut(width).zip(old_ids) {
        row.copy_from_slice(id.map_or(&mean, |id| &from[id as usize * width..][..width]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_rows_are_theirs_and_new_ones_the_mean() {
        let from = [1.0, 10.0, 2.0, 20.0, 6.0, 60.0];
        let mut to = [0.0; 8];
        rows(&from, &mut to, 2, &[Some(2), None, Some(0), None]);
        assert_eq!(to, [6.0, 60.0, 3.0, 30.0, 1.0, 10.0, 3.0, 30.0]);
        assert!(is_of_tokens("lstm.bias_score_l0") && !is_of_tokens("readout_projection.weight"));
        assert!(
            reads_scores("lstm.weight_ih_l1")
                && !reads_scores("lstm.weight_ih_l0")
                && !reads_scores("lstm.weight_hh_l1")
        );
    }
}
