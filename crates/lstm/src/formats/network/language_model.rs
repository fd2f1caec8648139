//! A network that is a language model becomes one of this library's, and back.

use super::{Activation, Embedding, Linear, Mixture, Network, NetworkError, Reads, Stack};
use crate::model::{LanguageModel, LanguageModelConfig};
use crate::nn::config::LstmConfig;
use crate::nn::params::Params;
use crate::said::count;
use crate::text::tokenizer::Tokenizer;

/// A language model, its parameters and its tokenizer: what a network becomes, or was.
#[derive(Clone, Debug)]
pub struct Language {
    /// The model.
    pub model: LanguageModel,
    /// Its parameters.
    pub params: Params,
    /// What its tokens are.
    pub tokenizer: Tokenizer,
}

/// What a linear map of a language model's own is called: it may lie between the LSTM and a tied readout.
const PROJECTION: &str = "readout_projection.weight";

/// The arrays of a mixture of softmaxes.
const PRIOR: &str = "mixture_prior.weight";
const LATENT: &str = "mixture_latent.weight";

impl Network {
    /// The language model that this network is: a table of tokens, one LSTM forward in time, and one linear readout over the
    /// same tokens, of every step. A softmax at the end is the model's own.
    ///
    /// # Errors
    /// A sentence about the first part that no language model has.
    pub fn into_language_model(self) -> Result<Language, NetworkError> {
        self.validate()?;
        let unfit = |why: &str| NetworkError::Unfit(format!("it is no language model that can be used here: {why}"));
        let tied = self.is_tied();
        let Self { embedding, stacks, reads, mixture, mut readouts, vocabulary, .. } = self;
        let embedding = embedding.ok_or_else(|| unfit("it has no embedding, so it reads vectors, not tokens"))?;
        for stack in &stacks {
            stack.refuse_functions("a cell here").map_err(|why| unfit(&why.to_string()))?;
        }
        let [stack] = <[Stack; 1]>::try_from(stacks)
            .map_err(|_| unfit("its layers differ in their directions or projections"))?;
        let config = stack.config();
        if config.bidirectional || stack.reverse {
            return Err(unfit("it reads what it should predict (its layers run from the last step to the first)"));
        }
        if stack.initial.is_some() {
            return Err(unfit("its states start from values of their own, not from zeros"));
        }
        if reads == Reads::Final {
            return Err(unfit("it gives one answer at the end of a text, not one at every step"));
        }
        let readout = readouts.pop().ok_or_else(|| unfit("it has no readout over its tokens"))?;
        if readout.output != embedding.vocabulary {
            let why = format!(
                "its readout gives {} for {}",
                count(readout.output, "value"),
                count(embedding.vocabulary, "token")
            );
            return Err(unfit(&why));
        }
        if !matches!(readout.activation, Activation::Linear | Activation::Softmax | Activation::LogSoftmax) {
            return Err(unfit("what follows its readout is no softmax"));
        }
        let projection = readouts.pop();
        let is_between = |between: &Linear| between.activation == Activation::Linear && between.bias.is_none();
        if !readouts.is_empty() || projection.as_ref().is_some_and(|between| !tied || !is_between(between)) {
            return Err(unfit("there is more than one linear readout between its LSTM and its tokens"));
        }
        let tokenizer = vocabulary.ok_or_else(|| {
            unfit("nothing says what its tokens are; give its vocabulary, a file with one word a line or a tokenizer.json")
        })?;
        let model = LanguageModel::new(LanguageModelConfig {
            tied,
            softmaxes: mixture.as_ref().map_or(1, |mixture| mixture.softmaxes),
            // Scores are those of the tokens.
            ..LanguageModelConfig::of(embedding.vocabulary, LstmConfig { scores: 0, ..config.clone() })
        })?;
        let of_mixture = |array: fn(&Mixture) -> &Vec<f32>| mixture.as_ref().map_or(&[][..], |mixture| array(mixture));
        let layout = model.layout().clone();
        let mut params = Params::zeros(layout.clone());
        for entry in layout.entries() {
            let values = match entry.name.as_str() {
                "embedding.weight" => &embedding.weight[..],
                "readout.weight" => &readout.weight,
                "readout.bias" => match &readout.bias {
                    Some(bias) => bias,
                    // Without one it stays zero.
                    None => continue,
                },
                PROJECTION => projection.as_ref().map_or(&[][..], |between| &between.weight),
                PRIOR => of_mixture(|mixture| &mixture.prior),
                LATENT => of_mixture(|mixture| &mixture.latent),
                name => stack.get(name.strip_prefix("lstm.").unwrap_or(name)).unwrap_or(&[]),
            };
            let expected = entry.shape.iter().product();
            if values.len() != expected {
                return Err(NetworkError::Values { part: entry.name.clone(), expected, found: values.len() });
            }
            params.get_mut(entry.slot).copy_from_slice(values);
        }
        Ok(Language { model, params, tokenizer })
    }

    /// The network that a language model is.
    ///
    /// # Errors
    /// An LSTM that cannot be built.
    pub fn from_language_model(
        model: &LanguageModel,
        params: &Params,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Self, NetworkError> {
        let config = model.config();
        let array = |name: &str| params.by_name(name).unwrap_or(&[]).to_vec();
        let (vocabulary, size) = (config.vocabulary, config.embedding());
        let embedding = Embedding { vocabulary, size, weight: array("embedding.weight") };
        let stack = Stack::new(model.lstm().config().clone(), |name, _| Ok(array(&format!("lstm.{name}")).into()))?;
        let output = stack.lstm.output_size();
        let mut readouts = Vec::new();
        let mut input = output;
        if params.layout().slot(PROJECTION).is_some() {
            readouts.push(Linear::new([size, output], array(PROJECTION), None));
            input = size;
        }
        let mixture = (config.softmaxes > 1).then(|| {
            input = size;
            Mixture { softmaxes: config.softmaxes, prior: array(PRIOR), latent: array(LATENT) }
        });
        let weight = if config.tied { embedding.weight.clone() } else { array("readout.weight") };
        readouts.push(Linear::new([vocabulary, input], weight, Some(array("readout.bias"))));
        let (embedding, vocabulary) = (Some(embedding), tokenizer.cloned());
        Ok(Self { embedding, stacks: vec![stack], mixture, readouts, vocabulary, ..Self::default() })
    }
}
