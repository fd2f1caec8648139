//! Presets: named bundles of every choice, from the papers they are known by.

use crate::model::LanguageModelConfig;
use crate::model::penalty::Penalties;
use crate::nn::config::{Init, InitScheme, LstmConfig, Readout};
use crate::nn::dropout::{DropoutKind, DropoutRates};
use crate::nn::precision::Precision;
use crate::optim::averaging::Averaging;
use crate::optim::muon::MuonSettings;
use crate::optim::optimizer::{AdamSettings, OptimizerKind};
use crate::optim::schedule::{Schedule, ScheduleKind};
use crate::run::config::{DataConfig, RunConfig};
use crate::run::fine_tuning::FineTuning;
use crate::run::teaching::Teaching;
use crate::run::training::{Training, Wire};
use crate::text::batch::Batching;
use crate::text::tokenizer::{TokenizerKind, VocabularyOptions};

/// A named bundle of choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// For the built-in language.
    Builtin,
    /// For a text when nothing is said.
    Default,
    /// The model and the task of the report that the project grew from (`docs/experiments.md`): an LSTM built by hand that reads
    /// out its output gate and predicts the word after five. Elsewhere in the code it is "the report" alone.
    TextLstm,
    /// Zaremba et al. 2014, not regularised.
    Small,
    /// Zaremba et al. 2014, regularised.
    Medium,
    /// Zaremba et al. 2014, regularised.
    Large,
    /// Merity et al. 2017: the sizes, rates and penalties of the authors' runs on the Penn Treebank, by NT-ASGD over
    /// segments of varying length.
    Awd,
    /// A character model.
    Char,
}

impl Preset {
    /// The presets that are chosen by name.
    pub const NAMED: [(&'static str, Self); 6] = [
        ("textlstm", Self::TextLstm),
        ("small", Self::Small),
        ("medium", Self::Medium),
        ("large", Self::Large),
        ("awd", Self::Awd),
        ("char", Self::Char),
    ];

    /// The configuration. Zaremba's rate 1 and clip 5 are for the loss summed over T steps; here the loss is the mean
    /// over all tokens, so the rate is T times and the clip 1/T of it.
    pub fn config(self) -> RunConfig {
        let training = Training {
            seed: 1,
            batch: 20,
            precision: Precision::F32,
            accumulate: 1,
            shards: None,
            wire: Wire::F32,
            epochs: Some(13),
            steps: None,
            budget: None,
            patience: None,
            clip: Some(0.25),
            optimizer: OptimizerKind::Sgd,
            average: Averaging::None,
            weight_decay: 0.0,
            weight_decay_shares: None,
            adam: AdamSettings::default(),
            muon: MuonSettings::default(),
            schedule: Schedule::step(20.0, 2.0, 4),
            init: Init { scheme: InitScheme::Uniform(0.1), forget_bias: None },
            keep_checkpoints: 0,
            lengthened: None,
            member: None,
        };
        let model = |embedding, hidden: usize, layers, dropout| LanguageModelConfig {
            dropout: DropoutRates::all(dropout),
            ..LanguageModelConfig::of(1, LstmConfig { layers, ..LstmConfig::new(embedding, hidden) })
        };
        let base = RunConfig {
            segment: 20,
            variable_segment: false,
            partial_shuffle: false,
            unigram_bias: false,
            spectral_embedding: false,
            batching: Batching::Stream,
            candidates: None,
            candidates_until: 0.8,
            tokenizer: TokenizerKind::Words,
            training: training.clone(),
            vocabulary: VocabularyOptions::default(),
            model: model(200, 200, 2, 0.0),
            data: DataConfig::default(),
            fine_tuning: FineTuning::default(),
            teaching: Teaching::default(),
        };
        let adam = |rate, decay, decay_after| (OptimizerKind::Adam, Schedule::step(rate, decay, decay_after));
        let init = |scheme, forget_bias| Init { scheme, forget_bias };
        match self {
            Self::Small => base,
            Self::Medium => RunConfig {
                segment: 35,
                training: Training {
                    epochs: Some(39),
                    clip: Some(5.0 / 35.0),
                    schedule: Schedule::step(35.0, 1.2, 6),
                    init: init(InitScheme::Uniform(0.05), None),
                    ..training
                },
                model: model(650, 650, 2, 0.5),
                ..base
            },
            Self::Large => RunConfig {
                segment: 35,
                training: Training {
                    epochs: Some(55),
                    clip: Some(10.0 / 35.0),
                    schedule: Schedule::step(35.0, 1.15, 14),
                    init: init(InitScheme::Uniform(0.04), None),
                    ..training
                },
                model: model(1500, 1500, 2, 0.65),
                ..base
            },
            Self::Awd => RunConfig {
                segment: 70,
                variable_segment: true,
                training: Training {
                    epochs: Some(500),
                    average: Averaging::NonMonotone(Averaging::LEFT_OUT),
                    weight_decay: 1.2e-6,
                    schedule: Schedule { kind: ScheduleKind::Constant, ..Schedule::step(30.0, 1.0, 1) },
                    init: init(InitScheme::Torch, None),
                    ..training
                },
                model: LanguageModelConfig {
                    tied: true,
                    dropout: DropoutRates {
                        kind: DropoutKind::Locked,
                        input: 0.4,
                        hidden: 0.25,
                        output: 0.4,
                        embedding: 0.1,
                        weights: 0.5,
                        start: 1.0,
                    },
                    penalties: Penalties { activation: 2.0, temporal: 1.0, label_smoothing: 0.0 },
                    ..LanguageModelConfig::of(
                        1,
                        LstmConfig { layers: 3, ..LstmConfig::new(400, vec![1150, 1150, 400]) },
                    )
                },
                ..base
            },
            Self::TextLstm => {
                let (optimizer, schedule) = adam(5e-4, 1.0, 1);
                let mut model = model(256, 128, 1, 0.0);
                model.lstm.readout = Readout::OutputGate;
                RunConfig {
                    batching: Batching::Windows(5),
                    training: Training {
                        batch: 128,
                        epochs: Some(5),
                        clip: None,
                        optimizer,
                        schedule,
                        init: init(InitScheme::OnesBias, None),
                        ..training
                    },
                    model,
                    ..base
                }
            }
            Self::Char => {
                let (optimizer, schedule) = adam(2e-3, 1.5, 6);
                RunConfig {
                    segment: 64,
                    tokenizer: TokenizerKind::Chars,
                    training: Training {
                        batch: 64,
                        epochs: Some(12),
                        clip: Some(1.0),
                        optimizer,
                        schedule,
                        init: init(InitScheme::Torch, Some(1.0)),
                        ..training
                    },
                    model: model(64, 256, 2, 0.1),
                    ..base
                }
            }
            Self::Default => {
                let (optimizer, schedule) = adam(2e-3, 2.0, 4);
                RunConfig {
                    training: Training {
                        // As many as the length of the text asks for, see [`RunConfig::fit`].
                        epochs: None,
                        clip: Some(1.0),
                        optimizer,
                        schedule: Schedule { planned_epochs: Some(10), ..schedule },
                        patience: Some(3),
                        init: init(InitScheme::Uniform(0.1), Some(1.0)),
                        ..training
                    },
                    model: model(200, 200, 1, 0.3),
                    ..base
                }
            }
            Self::Builtin => {
                let (optimizer, schedule) = adam(4e-3, 2.0, 2);
                RunConfig {
                    segment: 32,
                    training: Training {
                        batch: 32,
                        epochs: Some(5),
                        clip: Some(1.0),
                        optimizer,
                        schedule,
                        init: init(InitScheme::Torch, Some(1.0)),
                        ..training
                    },
                    vocabulary: VocabularyOptions { min_count: Some(1), ..VocabularyOptions::default() },
                    model: model(64, 128, 1, 0.0),
                    ..base
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LanguageModel;

    #[test]
    fn every_preset_is_a_valid_run() {
        let unnamed = [Preset::Builtin, Preset::Default];
        for preset in Preset::NAMED.into_iter().map(|(_, preset)| preset).chain(unnamed) {
            let mut config = preset.config();
            config.fit(1000, 100_000);
            config.validate().unwrap_or_else(|e| panic!("{preset:?}: {e}"));
            LanguageModel::new(config.model).unwrap_or_else(|e| panic!("{preset:?}: {e}"));
        }
    }

    #[test]
    fn awd_has_its_published_number_of_parameters() {
        let mut config = Preset::Awd.config();
        config.fit(10_000, 929_589);
        assert_eq!(LanguageModel::new(config.model).unwrap().layout().len(), 24_221_600);
    }

    #[test]
    fn the_report_s_task_has_its_published_sizes() {
        let mut config = Preset::TextLstm.config();
        config.fit(7616, 94_000);
        assert_eq!((config.segment, config.batching, config.training.batch), (5, Batching::Windows(5), 128));
        assert_eq!(
            (config.model.embedding(), config.model.lstm.hidden, config.model.lstm.layers),
            (256, 128.into(), 1)
        );
        assert_eq!(
            (config.training.schedule.learning_rate, config.training.epochs, config.training.optimizer),
            (5e-4, Some(5), OptimizerKind::Adam)
        );
    }
}
