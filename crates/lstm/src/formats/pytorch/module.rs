//! A small Python file whose class has just the layers of a network, to load its state dict into.

use std::path::Path;

use super::super::network::{Activation, Network, NetworkError, Reads};
use super::super::state_dict::{RESIDUAL, TorchLstm, readout_name, torch_lstms};
use super::super::{FormatError, write_bytes};

/// Writes a module for the state dict in `weights`, a file that lies beside it.
///
/// # Errors
/// What `nn.LSTM` has not, by name; a folder that cannot be written.
pub(crate) fn write_module(path: &Path, network: &Network, weights: &Path) -> Result<(), FormatError> {
    let unusable = |error: NetworkError| FormatError::Unusable { path: path.to_owned(), why: error.to_string() };
    write_bytes(path, module(network, weights).map_err(unusable)?.as_bytes())
}

/// Its source.
fn module(network: &Network, weights: &Path) -> Result<String, NetworkError> {
    let lstms = torch_lstms(network, true)?;
    let name = weights.file_name().unwrap_or_default().to_string_lossy().replace(['\\', '"'], "_");
    let is_safetensors = weights.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
    let loading = match is_safetensors {
        true => "safetensors.torch.load_file(path)",
        false => "torch.load(path, map_location=\"cpu\", mmap=True, weights_only=True)",
    };
    let import = if is_safetensors { "import safetensors.torch\n" } else { "" };
    let class = if lstms.len() == 1 && lstms[0].prefix.is_empty() { bare(&lstms[0]) } else { whole(network, &lstms) };
    Ok(format!(
        r#""""The network whose weights are in {name}."""

from pathlib import Path

{import}import torch
from torch import nn


{class}

def load(path=Path(__file__).with_name("{name}")):
    """The network with its weights, ready to be used."""
    network = Network()
    network.load_state_dict({loading}, strict=True)
    return network.eval()
"#
    ))
}

/// The arguments of an `nn.LSTM`.
fn arguments(lstm: &TorchLstm) -> String {
    let config = &lstm.config;
    let mut text = format!("{}, {}, num_layers={}", config.input, config.hidden, config.layers);
    if config.bidirectional {
        text += ", bidirectional=True";
    }
    if let Some(size) = config.projection {
        text += &format!(", proj_size={size}");
    }
    text
}

/// A network that is one `nn.LSTM`.
fn bare(lstm: &TorchLstm) -> String {
    format!(
        r#"class Network(nn.LSTM):
    """Reads [T, B, {}], gives [T, B, {}] and the states."""

    def __init__(self):
        super().__init__({})
"#,
        lstm.config.input,
        lstm.config.output(),
        arguments(lstm)
    )
}

/// A network of more parts.
fn whole(network: &Network, lstms: &[TorchLstm]) -> String {
    let mut init = String::new();
    let mut line = |text: String| init += &format!("        {text}\n");
    if let Some(embedding) = &network.embedding {
        line(format!("self.embedding = nn.Embedding({}, {})", embedding.vocabulary, embedding.size));
    }
    let is_residual = lstms[0].prefix.starts_with(RESIDUAL);
    let list = if is_residual { RESIDUAL.trim_end_matches('.') } else { "lstm" };
    match lstms {
        [one] if !is_residual => line(format!("self.lstm = nn.LSTM({})", arguments(one))),
        _ => {
            line(format!("self.{list} = nn.ModuleList(["));
            lstms.iter().for_each(|lstm| line(format!("    nn.LSTM({}),", arguments(lstm))));
            line("])".to_owned());
        }
    }
    let names: Vec<String> = (0..network.readouts.len()).map(|index| readout_name(network, index)).collect();
    let listed = names.iter().any(|name| name.matches('.').count() > 1);
    let linear = |index: usize| {
        let readout = &network.readouts[index];
        let bias = if readout.bias.is_none() { ", bias=False" } else { "" };
        format!("nn.Linear({}, {}{bias})", readout.input, readout.output)
    };
    match listed {
        true => {
            line("self.readout = nn.ModuleList([".to_owned());
            (0..names.len()).for_each(|index| line(format!("    {},", linear(index))));
            line("])".to_owned());
        }
        false => names
            .iter()
            .enumerate()
            .for_each(|(index, name)| line(format!("self.{} = {}", name.trim_end_matches('.'), linear(index)))),
    }
    if network.is_tied() && !listed {
        line("self.readout.weight = self.embedding.weight".to_owned());
    }
    let mut forward = String::new();
    let mut line = |text: &str| forward += &format!("        {text}\n");
    let (takes, reads) = match &network.embedding {
        Some(_) => ("tokens", "[T, B]".to_owned()),
        None => ("x", format!("[T, B, {}]", network.input_size())),
    };
    line(if network.embedding.is_some() { "x = self.embedding(tokens)" } else { "" });
    match lstms.len() {
        1 if !is_residual => line("x, state = self.lstm(x, state)"),
        count => {
            line(&format!("states = state or [None] * {count}"));
            line("state = []");
            line(&format!("for lstm, before in zip(self.{list}, states):"));
            match is_residual {
                // The first has no layer below, and sizes may differ.
                true => {
                    line("    given, (x, after) = x, lstm(x, before)");
                    line("    x = x + given if state and x.shape == given.shape else x");
                }
                false => line("    x, after = lstm(x, before)"),
            }
            line("    state.append(after)");
        }
    }
    let gives = match network.reads {
        Reads::Steps => format!("[T, B, {}]", network.output_size()),
        Reads::Final => {
            let last = if lstms.len() == 1 && !is_residual { "state" } else { "state[-1]" };
            let directions = lstms.last().map_or(1, |lstm| lstm.config.directions());
            line(&format!("x = torch.cat(tuple({last}[0][-{directions}:]), dim=-1)"));
            format!("[B, {}]", network.output_size())
        }
    };
    for (index, readout) in network.readouts.iter().enumerate() {
        let name = names[index].trim_end_matches('.');
        let call = match listed {
            true => format!("self.readout[{index}](x)"),
            false => format!("self.{name}(x)"),
        };
        line(&format!(
            "x = {}",
            match readout.activation {
                Activation::Linear => call,
                Activation::Relu => format!("torch.relu({call})"),
                Activation::Tanh => format!("torch.tanh({call})"),
                Activation::Sigmoid => format!("torch.sigmoid({call})"),
                Activation::Softmax => format!("torch.softmax({call}, dim=-1)"),
                Activation::LogSoftmax => format!("torch.log_softmax({call}, dim=-1)"),
            }
        ));
    }
    let forward = forward.trim_start_matches([' ', '\n']);
    format!(
        r#"class Network(nn.Module):
    """Reads {reads}, gives {gives} and the states."""

    def __init__(self):
        super().__init__()
{init}
    def forward(self, {takes}, state=None):
        {forward}        return x, state
"#
    )
}
