//! Writing with a model: sampling token by token, one text or many side by side, beam search for the likeliest text, and where to
//! stop.

mod beam;
mod chooser;
mod documents;
mod prefixes;
mod reading;
mod sampling;
mod stops;
mod writers;

pub use beam::{Beam, Hypothesis};
pub use documents::DocumentEnds;
pub use prefixes::Prefixes;
pub use reading::Rules;
pub use sampling::{Generator, Sampling};
pub use stops::Stops;
pub use writers::{Alternative, Clamp, Inside, Part, Token, WriterId, Writers, Writing};

#[cfg(test)]
pub(crate) mod tiny {
    //! A model with random parameters, small enough to try every text of a few tokens.

    use crate::model::{LanguageModel, LanguageModelConfig};
    use crate::nn::config::Init;
    use crate::nn::config::LstmConfig;
    use crate::nn::params::Params;

    /// V.
    pub(crate) const VOCABULARY: usize = 11;

    pub(crate) fn model() -> (LanguageModel, Params) {
        let config = LanguageModelConfig::of(VOCABULARY, LstmConfig { layers: 2, ..LstmConfig::new(5, 6) });
        let model = LanguageModel::new(config).unwrap();
        let mut params = model.initialise(&Init::default(), 3);
        // Initial values say little; larger ones make a model with preferences.
        params.values_mut().iter_mut().for_each(|value| *value *= 2.0);
        (model, params)
    }
}
