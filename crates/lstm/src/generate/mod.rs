//! Writing with a model: sampling token by token, beam search for the likeliest text, and where to stop.

mod beam;
mod reading;
mod sampling;
mod stops;

pub use beam::{Beam, Hypothesis};
pub use reading::Rules;
pub use sampling::{Generator, Sampling};
pub use stops::Stops;

#[cfg(test)]
pub(crate) mod tiny {
    //! A model with random parameters, small enough to try every text of a few tokens.

    use crate::config::{Init, Readout};
    use crate::model::{LanguageModel, LanguageModelConfig, LayerWiring};
    use crate::params::Params;

    /// V.
    pub(crate) const VOCABULARY: usize = 11;

    pub(crate) fn model() -> (LanguageModel, Params) {
        let config = LanguageModelConfig {
            vocabulary: VOCABULARY,
            embedding: 5,
            hidden: 6,
            layers: 2,
            projection: None,
            wiring: LayerWiring::Stacked,
            readout: Readout::Hidden,
            horizon: None,
            dropout: Default::default(),
        };
        let model = LanguageModel::new(config).unwrap();
        let mut params = model.initialise(&Init::default(), 3);
        // Initial values say little; larger ones make a model with preferences.
        params.values_mut().iter_mut().for_each(|value| *value *= 2.0);
        (model, params)
    }
}
