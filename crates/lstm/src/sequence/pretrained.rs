//! A model over sequences that starts from a trained language model (Howard & Ruder 2018): its embedding and its layers become the
//! lower part of the new one, under a head that has yet to be learned.

use super::config::SequenceConfig;
use super::spelling::KINDS;
use crate::nn::config::{ConfigError, LstmConfig, Readout, Wiring, Zoneout};
use crate::nn::params::Params;
use crate::optim::schedule::ScheduleKind;
use crate::run::task_kind::TaskKind;
use crate::text::tokenizer::TokenizerKind;
use crate::train::pretrained::{Inherited, Pretrained, rows};

/// What the rate of a part is of that of the part above it. A language model of a million words has yet to learn nearly all of what a text
/// says: of 6,920 sentences the validation loss was 0.44 after three epochs of this with all parts at once, and 0.49 after six with 0.4 and
/// parts that begin an epoch after one another (Howard & Ruder 2018 have 1/2.6, of a model of a hundred million words).
const DECAY: f32 = 0.9;

impl SequenceConfig {
    /// The same settings for a model that starts from a language model: one cycle of the rate, each part at a lower rate than the one
    /// above it, one direction.
    #[must_use]
    pub fn fine_tuned(mut self) -> Self {
        self.training.set_schedule(ScheduleKind::OneCycle);
        self.training.schedule.learning_rate = 3e-3;
        self.fine_tuning.layer_rate_decay = DECAY;
        self.model.lstm.bidirectional = false;
        self
    }
}

impl Pretrained {
    /// Gives a run over sequences the model's layers and its way to read. A language model reads forward: where the run's layers are
    /// to run in both directions, the forward ones are the model's and the others new.
    ///
    /// # Errors
    /// A model whose layers a model over sequences cannot have.
    pub fn lay_over_sequences(&self, config: &mut SequenceConfig) -> Result<(), ConfigError> {
        let refused = |why: &str| {
            let path = self.path.display();
            Err(ConfigError::Conflict(format!("{path} {why}; give another language model by `from`")))
        };
        if config.model.numbers.is_some() {
            return refused(
                "is a language model, which reads tokens, and sequences of numbers have none: nothing can start from it",
            );
        }
        let own = &self.run.config;
        let LstmConfig { wiring, readout, mut variant, .. } = own.model.lstm.clone();
        // What a unit keeps by chance in training is no part of its equations.
        variant.zoneout = Zoneout::default();
        if wiring == Wiring::Scores {
            return refused(
                "has layers that read what the layer below predicts (the wiring scores), and labels are no tokens",
            );
        }
        if readout != Readout::Hidden || !variant.is_plain() {
            return refused(
                "has cells that a model over sequences cannot have: it takes plain ones, whose hidden states are read",
            );
        }
        if config.task == TaskKind::Tag && own.tokenizer != TokenizerKind::Words {
            let noun = own.tokenizer.noun();
            return refused(&format!("reads {noun}, and here each word has a label, so it has to read words"));
        }
        let bidirectional = config.model.lstm.bidirectional;
        config.model.lstm = LstmConfig { bidirectional, horizon: None, scores: 0, variant, ..own.model.lstm.clone() };
        config.model.set_input(own.model.embedding(), config.model.spelling);
        config.tokenizer = own.tokenizer;
        let (lower_case, split) = self.habits();
        config.lower_case = lower_case;
        config.split_punctuation = split && config.task != TaskKind::Tag;
        self.note(&mut config.fine_tuning);
        Ok(())
    }

    /// How the text was written that the model learned from, by its tokens: without capital letters, and with punctuation apart.
    fn habits(&self) -> (bool, bool) {
        let tokenizer = &self.run.tokenizer;
        let tokens = || (0..tokenizer.vocabulary_size() as u32).map(|id| tokenizer.token(id));
        let is_name = |token: &str| token.starts_with('<') && token.ends_with('>');
        let has_capitals = tokens().any(|token| !is_name(token) && token.chars().any(char::is_uppercase));
        // Bytes have no letters to go by, and such a model reads whatever comes.
        let lower_case = !has_capitals && tokenizer.kind() != TokenizerKind::Bytes;
        let split =
            tokenizer.kind() == TokenizerKind::Words && [".", ","].iter().any(|mark| tokenizer.id(mark).is_some());
        (lower_case, split)
    }
}

impl Inherited {
    /// Puts the values of the language model into their places among those of a model over sequences, in whose layout they have the same
    /// names. What its layers read beside what the language model's read (spelling, the states of layers that run backward) has weights of
    /// zero at first: so the forward layers begin with what they were.
    pub(crate) fn lay_into(&self, params: &mut Params, lstm: &LstmConfig) {
        let layout = params.layout().clone();
        let own = &self.config.lstm;
        for entry in layout.entries() {
            let name = entry.name.as_str();
            let Some(from) =
                self.params.by_name(name).filter(|_| name == "embedding.weight" || name.starts_with("lstm."))
            else {
                continue;
            };
            let to = params.get_mut(entry.slot);
            if name == "embedding.weight" {
                rows(from, to, own.input, &self.old_ids);
            } else if let Some(layer) = name.strip_prefix("lstm.weight_ih_l").and_then(|layer| layer.parse().ok()) {
                let (old, new) = (own.layer_input(layer), lstm.layer_input(layer));
                // The input comes first where it is joined to what lies below.
                let joined = if layer > 0 && own.wiring == Wiring::Stacked { 0 } else { own.input };
                let below = if joined > 0 { lstm.input } else { 0 };
                to.fill(0.0);
                for (from, to) in from.chunks_exact(old).zip(to.chunks_exact_mut(new)) {
                    to[..joined].copy_from_slice(&from[..joined]);
                    to[below..][..old - joined].copy_from_slice(&from[joined..]);
                }
            } else {
                to.copy_from_slice(from);
            }
        }
        debug_assert_eq!((lstm.input - own.input) % KINDS, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::model::{LanguageModel, LanguageModelConfig};
    use crate::nn::config::Init;
    use crate::nn::params::Layout;
    use crate::nn::segment::Segment;
    use crate::nn::stack::Lstm;

    /// The states of the top layer over five steps of one row, whose input is the embedding of tokens and behind it `beside` ones.
    fn states(lstm: &Lstm, params: &Params, tokens: &[u32], embedding: usize, beside: usize) -> Vec<f32> {
        let table = params.by_name("embedding.weight").unwrap();
        let row = |token: &u32| table[*token as usize * embedding..][..embedding].iter().copied();
        let input: Vec<f32> =
            tokens.iter().flat_map(|token| row(token).chain(std::iter::repeat_n(1.0, beside))).collect();
        let segment = Segment { steps: tokens.len(), batch: 1, lengths: None, packed: None };
        let (mut state, mut tape) = (lstm.state(1), lstm.frozen_tape());
        lstm.forward(params, &input, segment, &mut state, None, &mut tape);
        tape.output().to_vec()
    }

    #[test]
    fn forward_layers_begin_with_what_they_were_whatever_is_read_beside() {
        for (wiring, bidirectional, spelling) in [
            (Wiring::Stacked, false, 0),
            (Wiring::Stacked, true, 0),
            (Wiring::Stacked, true, 3),
            (Wiring::Skip, false, 3),
            (Wiring::Skip, true, 3),
        ] {
            let own = LstmConfig { layers: 2, wiring, ..LstmConfig::new(5, vec![4, 6]) };
            let language = LanguageModel::new(LanguageModelConfig::of(9, own.clone())).unwrap();
            let params = language.initialise(&Init::default(), 1);
            let old_ids = (0..9).map(Some).chain([None]).collect();
            let inherited = Inherited::new(PathBuf::from("model"), language.config().clone(), params.clone(), old_ids);
            let taken = LstmConfig { bidirectional, input: 5 + KINDS * spelling, ..own };
            let mut layout = Layout::default();
            layout.add("embedding.weight", &[10, 5]);
            let lstm = Lstm::in_layout(taken.clone(), "lstm.", &mut layout).unwrap();
            let mut new = Params::zeros(Arc::new(layout));
            lstm.initialise(&mut new, &Init::default(), 2);
            inherited.lay_into(&mut new, &taken);

            let tokens = [3, 8, 0, 3, 1];
            let expected = states(language.lstm(), &params, &tokens, 5, 0);
            let found = states(&lstm, &new, &tokens, 5, KINDS * spelling);
            let width = taken.directions() * 6;
            for (expected, found) in expected.chunks(6).zip(found.chunks(width)) {
                for (expected, found) in expected.iter().zip(found) {
                    assert!((expected - found).abs() < 1e-6, "{wiring} {bidirectional} {spelling}");
                }
            }
            // What is new is the mean of what is known.
            let table = new.by_name("embedding.weight").unwrap();
            let mean = (0..9).map(|row| table[row * 5]).sum::<f32>() / 9.0;
            assert!((table[45] - mean).abs() < 1e-6);
        }
    }
}
