//! A network as a state dict: the names and shapes of the PyTorch modules that compute the same.

use super::super::network::{Activation, Network, NetworkError, Stack};
use crate::nn::config::{CellOptions, LstmConfig, Readout, Wiring};

/// An array under the name it has in PyTorch.
pub(in crate::formats) struct Named<'a> {
    pub(in crate::formats) name: String,
    pub(in crate::formats) shape: Vec<usize>,
    pub(in crate::formats) values: &'a [f32],
    /// The place of an earlier array that it is.
    pub(in crate::formats) shared: Option<usize>,
}

/// One `nn.LSTM`: some layers of a stack.
pub(in crate::formats) struct TorchLstm<'a> {
    /// What is before the names of its arrays.
    pub(in crate::formats) prefix: String,
    pub(in crate::formats) config: LstmConfig,
    pub(in crate::formats) stack: &'a Stack,
    /// Its first layer among the stack's.
    pub(in crate::formats) first: usize,
}

/// What the list of `nn.LSTM`s of a network with residual connections is called. The name says it, so that a file of it is not taken
/// for one without.
pub(in crate::formats) const RESIDUAL: &str = "lstm_residual.";

/// The `nn.LSTM`s of a network, from the input on: layers of one size are one, but each is its own where inputs are added.
/// has_module: whether a Python file says what the layers alone do not.
///
/// # Errors
/// What `nn.LSTM` has not, by name.
pub(in crate::formats) fn torch_lstms(network: &Network, has_module: bool) -> Result<Vec<TorchLstm<'_>>, NetworkError> {
    network.refuse_mixture()?;
    let mut all: Vec<TorchLstm> = Vec::new();
    for stack in &network.stacks {
        let config = stack.config();
        check(stack, has_module && network.stacks.len() == 1)?;
        let mut first = 0;
        while first < config.layers {
            let hidden = config.hidden.of(first);
            let same = (first..config.layers).take_while(|layer| config.hidden.of(*layer) == hidden).count();
            let layers = if config.residual { 1 } else { same };
            let input = config.layer_input(first);
            let part = LstmConfig { layers, hidden: hidden.into(), input, residual: false, ..config.clone() };
            all.push(TorchLstm { prefix: String::new(), config: part, stack, first });
            first += layers;
        }
    }
    let is_bare = network.embedding.is_none() && network.readouts.is_empty();
    let one = all.len() == 1;
    for (index, lstm) in all.iter_mut().enumerate() {
        lstm.prefix = match (one, is_bare) {
            _ if lstm.stack.config().residual => format!("{RESIDUAL}{index}."),
            (true, true) => String::new(),
            (true, false) => "lstm.".to_owned(),
            (false, _) => format!("lstm.{index}."),
        };
    }
    Ok(all)
}

/// Refuses what `nn.LSTM` has not, and no module around it adds.
fn check(stack: &Stack, has_module: bool) -> Result<(), NetworkError> {
    stack.refuse_functions("PyTorch's nn.LSTM")?;
    let config = stack.config();
    if config.residual && !has_module && config.variant.is_plain() {
        return Err(NetworkError::Unfit(
            "the network has residual connections, which a state dict does not say: ask for its module as well, whose class \
             adds them"
                .to_owned(),
        ));
    }
    let CellOptions { peepholes, coupled, layer_norm, zoneout, exponential, mogrify, mogrify_rank: _ } = config.variant;
    let missing = match config.wiring {
        Wiring::Skip => Some("the wiring skip"),
        Wiring::Scores => Some("the wiring scores"),
        Wiring::Stacked if config.readout == Readout::OutputGate => Some("the readout output-gate"),
        Wiring::Stacked if peepholes => Some("peepholes"),
        Wiring::Stacked if coupled => Some("coupled gates"),
        Wiring::Stacked if layer_norm => Some("layer normalisation"),
        Wiring::Stacked if exponential => Some("exponential input gates"),
        Wiring::Stacked if mogrify > 0 => Some("a mogrifier"),
        Wiring::Stacked if zoneout != Default::default() => {
            Some("zoneout, which in use takes the mean of a cell and the one before")
        }
        Wiring::Stacked if stack.initial.is_some() => {
            Some("initial states of its own, which are an input of the module")
        }
        Wiring::Stacked if stack.reverse => Some("layers that read from the last step to the first alone"),
        Wiring::Stacked => None,
    };
    match missing {
        Some(missing) => Err(NetworkError::Unfit(format!(
            "the network has {missing}, which PyTorch's nn.LSTM has not: nothing that it loads would compute the same"
        ))),
        None => Ok(()),
    }
}

/// The name of the readout `index`, with its dot.
pub(in crate::formats) fn readout_name(network: &Network, index: usize) -> String {
    let plain = |index: usize| {
        let readout = &network.readouts[index];
        readout.bias.is_none() && readout.activation == Activation::Linear
    };
    match (network.readouts.len(), index) {
        (1, _) => "readout.".to_owned(),
        (2, 0) if plain(0) => "readout_projection.".to_owned(),
        (2, 1) if plain(0) => "readout.".to_owned(),
        _ => format!("readout.{index}."),
    }
}

/// Every array of a network under its name in PyTorch. has_module: as for [`torch_lstms`].
///
/// # Errors
/// What `nn.LSTM` has not, by name.
pub(in crate::formats) fn named(network: &Network, has_module: bool) -> Result<Vec<Named<'_>>, NetworkError> {
    let mut all = Vec::new();
    if let Some(embedding) = &network.embedding {
        let (name, shape) = ("embedding.weight".to_owned(), vec![embedding.vocabulary, embedding.size]);
        all.push(Named { name, shape, values: &embedding.weight, shared: None });
    }
    for lstm in torch_lstms(network, has_module)? {
        let layout = lstm.stack.lstm.layout();
        for layer in 0..lstm.config.layers {
            for entry in layout.entries() {
                let Some(name) = super::names::LstmName::parse(&entry.name) else { continue };
                if name.layer == lstm.first + layer {
                    let reverse = if name.reverse { "_reverse" } else { "" };
                    let name = format!("{}{}_l{layer}{reverse}", lstm.prefix, name.array);
                    let (shape, values) = (entry.shape.clone(), lstm.stack.params.get(entry.slot));
                    all.push(Named { name, shape, values, shared: None });
                }
            }
        }
    }
    let tied = network.is_tied();
    for (index, readout) in network.readouts.iter().enumerate() {
        let start = readout_name(network, index);
        let shared = (tied && index + 1 == network.readouts.len()).then_some(0);
        let shape = vec![readout.output, readout.input];
        all.push(Named { name: format!("{start}weight"), shape, values: &readout.weight, shared });
        if let Some(bias) = &readout.bias {
            all.push(Named { name: format!("{start}bias"), shape: vec![readout.output], values: bias, shared: None });
        }
    }
    Ok(all)
}
