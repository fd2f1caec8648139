//! The neutral form of a network, which every format reads into and writes from: an embedding, LSTM stacks, linear readouts.
//!
//! The LSTM is this library's own: a [`Stack`] is an [`Lstm`] with its parameters under PyTorch's names, gates in the order
//! i, f, g, o. A format turns its gate order, its biases and its layouts into these and back; nothing else knows them.
//! A chain of stacks says what one cannot: layers in one direction after layers in both, layers read from their end,
//! projections of different sizes.

mod forward;
mod functions;
mod join;
mod language_model;

use std::sync::Arc;

use thiserror::Error;

use crate::nn::config::{ConfigError, LstmConfig, Readout, Wiring};
use crate::nn::params::{Layout, Params};
use crate::nn::stack::Lstm;
use crate::nn::state::State;
use crate::said::count;
use crate::text::tokenizer::Tokenizer;

pub use forward::{Input, Output};
pub use functions::{CellFunctions, Function};
pub use language_model::Language;

/// A network that cannot be, or cannot become what it shall, in a sentence.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum NetworkError {
    /// Two parts whose sizes do not meet.
    #[error("{part} reads {}, but {below} gives {gives}", count(*reads, "value"))]
    Sizes {
        /// The part above.
        part: String,
        /// What it reads.
        reads: usize,
        /// The part below.
        below: String,
        /// What that gives.
        gives: usize,
    },
    /// An array that is not as large as its shape.
    #[error("{part} has {}, where its shape has {expected}", count(*found, "value"))]
    Values {
        /// The part.
        part: String,
        /// What its shape says.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// An LSTM that cannot be built.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the network has and its destination cannot say.
    #[error("{0}")]
    Unfit(String),
}

/// A table of rows, one for each token.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// V, the number of rows.
    pub vocabulary: usize,
    /// E, the size of a row.
    pub size: usize,
    /// `[V, E]`.
    pub weight: Vec<f32>,
}

/// One LSTM of this library and its parameters.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Its layers.
    pub lstm: Lstm,
    /// Their parameters, in the LSTM's layout.
    pub params: Params,
    /// Whether it reads every row from its last step to its first; what it gives is in the order of the input. For a
    /// stack in one direction.
    pub reverse: bool,
    /// What its cells compute where those of an LSTM here have sigmoid and tanh: only [`Network::forward`] and the graphs of
    /// ONNX know such cells, and `lstm` by itself computes plain ones.
    pub functions: Option<CellFunctions>,
    /// The states it starts from, of one row, where they are not zeros: every row starts from them.
    pub initial: Option<State>,
}

/// What follows a linear readout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    Linear,
    /// The larger of the value and zero.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// The logistic function.
    Sigmoid,
    /// The share of each value's exponential in their sum.
    Softmax,
    /// The logarithm of [`Activation::Softmax`].
    LogSoftmax,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Linear, Self::Relu, Self::Tanh, Self::Sigmoid, Self::Softmax, Self::LogSoftmax];

    /// Its name, which is Keras's too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Relu => "relu",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Softmax => "softmax",
            Self::LogSoftmax => "log_softmax",
        }
    }
}

/// A linear map `x Wᵀ + b` of every step, and what follows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// I, the size of its input.
    pub input: usize,
    /// O, the size of its output.
    pub output: usize,
    /// W: `[O, I]`.
    pub weight: Vec<f32>,
    /// b: `[O]`, where it has one.
    pub bias: Option<Vec<f32>>,
    /// What follows.
    pub activation: Activation,
}

/// The part between the LSTM and the last readout of a mixture of K softmaxes (Yang 2018): the readout scores each of K latent
/// vectors `tanh(Λ o)`, and the shares `softmax(P o)` weigh what their softmaxes give. The network then gives logarithms of
/// probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// K.
    pub softmaxes: usize,
    /// P: `[K, O]`, of what the LSTM gives.
    pub prior: Vec<f32>,
    /// Λ: `[K·E, O]`.
    pub latent: Vec<f32>,
}

/// What of the LSTM is read out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// The output of every step.
    #[default]
    Steps,
    /// The final hidden state of the last layer, both directions joined: what Keras returns without `return_sequences`.
    Final,
}

/// An embedding, LSTM stacks and linear readouts, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// The table of the tokens; without one the network reads vectors.
    pub embedding: Option<Embedding>,
    /// The LSTMs, from the input on.
    pub stacks: Vec<Stack>,
    /// What of the last one is read.
    pub reads: Reads,
    /// What lies between the LSTM and the one readout of a mixture of softmaxes.
    pub mixture: Option<Mixture>,
    /// The readouts, from the LSTM on.
    pub readouts: Vec<Linear>,
    /// What the tokens are, where it is known.
    pub vocabulary: Option<Tokenizer>,
    /// What there was beside the network and is not in it, in sentences: said when it is shown or converted.
    pub notes: Vec<String>,
}

impl Stack {
    /// A stack whose parameters are those that `values` gives for each name and shape of its layout.
    ///
    /// # Errors
    /// A configuration that cannot be built, or the first error of `values`.
    pub fn new<'a>(
        config: LstmConfig,
        mut values: impl FnMut(&str, &[usize]) -> Result<std::borrow::Cow<'a, [f32]>, NetworkError>,
    ) -> Result<Self, NetworkError> {
        let lstm = Lstm::new(config)?;
        let layout: Arc<Layout> = lstm.layout().clone();
        // Every array is looked at before room is made for all: a shape that nothing backs costs nothing.
        let mut found = Vec::new();
        for entry in layout.entries() {
            let values = values(&entry.name, &entry.shape)?;
            let expected = entry.shape.iter().product();
            if values.len() != expected {
                return Err(NetworkError::Values { part: entry.name.clone(), expected, found: values.len() });
            }
            found.push(values);
        }
        let mut params = Params::zeros(layout.clone());
        for (entry, values) in layout.entries().iter().zip(found) {
            params.get_mut(entry.slot).copy_from_slice(&values);
        }
        Ok(Self { lstm, params, reverse: false, functions: None, initial: None })
    }

    /// Its shape.
    pub fn config(&self) -> &LstmConfig {
        self.lstm.config()
    }

    /// One of its arrays, by the name it has in PyTorch.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.params.by_name(name)
    }

    /// Whether `nn.LSTM` computes the same: stacked, read out as it is, plain cells, the same size in all layers, forward.
    pub fn is_torch(&self) -> bool {
        let config = self.config();
        let hidden = config.hidden.of(0);
        !self.reverse
            && self.functions.is_none()
            && config.wiring == Wiring::Stacked
            && config.readout == Readout::Hidden
            && !config.residual
            && config.variant.is_plain()
            && (0..config.layers).all(|layer| config.hidden.of(layer) == hidden)
    }

    /// What its layers are, in a line.
    pub fn describe(&self) -> String {
        let config = self.config();
        let layers = if config.layers == 1 { "layer" } else { "layers" };
        let directions = match (config.bidirectional, self.reverse) {
            (true, _) => ", both directions",
            (false, true) => ", from the last step to the first",
            (false, false) => "",
        };
        let projection = config.projection.map(|size| format!(", projected to {size}")).unwrap_or_default();
        let mut line = format!(
            "{} {layers} of {} hidden over {}{projection}{directions}",
            config.layers, config.hidden, config.input
        );
        match config.wiring {
            Wiring::Stacked => {}
            Wiring::Skip => line += ", wiring skip",
            Wiring::Scores => line += ", wiring scores",
        }
        if config.readout != Readout::Hidden {
            line += &format!(", readout {}", config.readout);
        }
        if config.residual {
            line += ", residual";
        }
        if !config.variant.is_plain() {
            line += &format!(", {}", config.variant);
        }
        if let Some(functions) = &self.functions {
            line += &format!(", {functions}");
        }
        line
    }
}

impl Linear {
    /// A readout from its shape `[O, I]`.
    pub fn new(shape: [usize; 2], weight: Vec<f32>, bias: Option<Vec<f32>>) -> Self {
        Self { input: shape[1], output: shape[0], weight, bias, activation: Activation::Linear }
    }
}

impl Network {
    /// The size of what the first stack reads.
    pub fn input_size(&self) -> usize {
        self.stacks.first().map_or(0, |stack| stack.config().input)
    }

    /// The size of what the network gives at a step.
    pub fn output_size(&self) -> usize {
        match (self.readouts.last(), self.stacks.last()) {
            (Some(readout), _) => readout.output,
            (None, Some(stack)) => stack.lstm.output_size(),
            (None, None) => 0,
        }
    }

    /// The number of values of all parts; a table used twice counts once.
    pub fn parameters(&self) -> usize {
        let embedding = self.embedding.as_ref().map_or(0, |embedding| embedding.weight.len());
        let stacks: usize = self.stacks.iter().map(|stack| stack.params.values().len()).sum();
        let readouts = self.readouts.iter().map(|r| r.weight.len() + r.bias.as_ref().map_or(0, Vec::len));
        let mixture = self.mixture.as_ref().map_or(0, |mixture| mixture.prior.len() + mixture.latent.len());
        let shared = if self.is_tied() { embedding } else { 0 };
        embedding + stacks + mixture + readouts.sum::<usize>() - shared
    }

    /// Refuses a mixture of softmaxes, for a format of layers in a chain.
    pub(crate) fn refuse_mixture(&self) -> Result<(), NetworkError> {
        self.mixture.as_ref().map_or(Ok(()), |mixture| {
            Err(NetworkError::Unfit(format!(
                "the model is a mixture of {} softmaxes, which is no chain of linear readouts: no layers of the kind that is \
                 to be written say it",
                mixture.softmaxes
            )))
        })
    }

    /// Whether the last readout's weights are the embedding's.
    pub fn is_tied(&self) -> bool {
        match (&self.embedding, self.readouts.last()) {
            (Some(embedding), Some(readout)) => {
                embedding.size == readout.input && same_bits(&embedding.weight, &readout.weight)
            }
            _ => false,
        }
    }

    /// The states that every stack starts from, zeros where it has none of its own, for `batch` rows.
    pub fn states(&self, batch: usize) -> Vec<State> {
        let states = self.stacks.iter().map(|stack| match &stack.initial {
            Some(initial) => initial.for_rows(batch),
            None => stack.lstm.state(batch),
        });
        states.collect()
    }

    /// Checks that there is an LSTM, that its parts fit each other, and that every value is a number.
    ///
    /// # Errors
    /// The first part that does not.
    pub fn validate(&self) -> Result<(), NetworkError> {
        let Some(first) = self.stacks.first() else {
            return Err(NetworkError::Unfit("there is no LSTM in it".to_owned()));
        };
        let sizes = |part: &str, reads: usize, below: &str, gives: usize| {
            let (part, below) = (part.to_owned(), below.to_owned());
            if reads == gives { Ok(()) } else { Err(NetworkError::Sizes { part, reads, below, gives }) }
        };
        let filled = |part: &str, values: &[f32], shape: &[usize]| {
            let expected = shape.iter().product();
            if values.len() != expected {
                return Err(NetworkError::Values { part: part.to_owned(), expected, found: values.len() });
            }
            match values.iter().find(|value| !value.is_finite()) {
                Some(value) => Err(NetworkError::Unfit(format!(
                    "{part} has a value that is no finite number ({value}): the training that made it went wrong; take an \
                     earlier model"
                ))),
                None => Ok(()),
            }
        };
        if let Some(embedding) = &self.embedding {
            filled("the embedding", &embedding.weight, &[embedding.vocabulary, embedding.size])?;
            sizes("the LSTM", first.config().input, "the embedding", embedding.size)?;
        }
        for (index, stack) in self.stacks.iter().enumerate() {
            for entry in stack.lstm.layout().entries() {
                let name = if index == 0 { entry.name.clone() } else { format!("{} of LSTM {index}", entry.name) };
                filled(&name, stack.params.get(entry.slot), &entry.shape)?;
            }
            if stack.reverse && stack.config().bidirectional {
                let why = "an LSTM in both directions cannot be read from the last step to the first as well";
                return Err(NetworkError::Unfit(why.to_owned()));
            }
            stack.check_functions()?;
            if let Some(initial) = &stack.initial {
                let zeros = stack.lstm.state(1);
                filled("the initial hidden states", &initial.h, &[zeros.h.len()])?;
                filled("the initial cell states", &initial.c, &[zeros.c.len()])?;
            }
        }
        for pair in self.stacks.windows(2) {
            sizes("an LSTM", pair[1].config().input, "the one below", pair[0].lstm.output_size())?;
        }
        let mut gives = self.stacks.last().map_or(0, |stack| stack.lstm.output_size());
        if let Some(Mixture { softmaxes, prior, latent }) = &self.mixture {
            let [readout] = &self.readouts[..] else {
                return Err(NetworkError::Unfit("a mixture of softmaxes has one readout".to_owned()));
            };
            filled("the shares of the mixture", prior, &[*softmaxes, gives])?;
            filled("the latent vectors of the mixture", latent, &[*softmaxes, readout.input, gives])?;
            gives = readout.input;
        }
        for readout in &self.readouts {
            sizes("the readout", readout.input, "what is below it", gives)?;
            filled("the readout", &readout.weight, &[readout.output, readout.input])?;
            if let Some(bias) = &readout.bias {
                filled("the readout's bias", bias, &[readout.output])?;
            }
            gives = readout.output;
        }
        if let Some((vocabulary, embedding)) = self.vocabulary.as_ref().zip(self.embedding.as_ref()) {
            let words = vocabulary.vocabulary_size();
            sizes("the vocabulary", words, "the embedding", embedding.vocabulary).map_err(|_| {
                NetworkError::Unfit(format!(
                    "the vocabulary has {}, but the embedding has {}: give the one that the network was trained with, in its order",
                    count(words, "token"),
                    count(embedding.vocabulary, "row")
                ))
            })?;
        }
        Ok(())
    }
}

/// Whether two arrays hold the same values, to the bit.
pub(crate) fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
