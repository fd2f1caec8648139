//! What a file of another program holds, for `lstm show` and before `lstm convert` makes something of it.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use lstm::formats::foreign;
use lstm::formats::import::{Found, Hints, Import};
use lstm::formats::network::{Activation, Reads, Stack};
use serde_json::json;

use crate::output::{count, grouped, talk};

/// Shows what a file of another program holds.
pub fn show_file(path: &Path, as_json: bool) -> Result<ExitCode> {
    let import = foreign::read(path, Hints { is_look: true, ..Hints::default() })?;
    let mut out = std::io::stdout().lock();
    if as_json {
        let found: Vec<_> = import
            .found
            .iter()
            .map(|found| json!({"theirs": found.theirs, "ours": found.ours, "shape": found.shape}))
            .collect();
        let shown = json!({
            "kind": import.kind,
            "layers": import.network.stacks.iter().map(Stack::describe).collect::<Vec<_>>(),
            "parameters": import.network.parameters(),
            "tensors": found,
            "notes": import.network.notes,
            "left_over": import.left_over,
            "without_place": import.without_place,
        });
        writeln!(out, "{shown}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in lines(&import) {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what was found in a file, before anything is made of it.
pub fn talk_import(import: &Import) {
    lines(import).iter().for_each(talk);
}

/// What was found in a file: what it is, its parts, where each array comes from, what is not taken.
fn lines(import: &Import) -> Vec<String> {
    let network = &import.network;
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String| lines.push(format!("{name:<11} {value}"));
    row("file", import.kind.clone());
    if let Some(embedding) = &network.embedding {
        row("embedding", format!("{} of {}", count(embedding.vocabulary, "token"), embedding.size));
    }
    network.stacks.iter().for_each(|stack| row("lstm", stack.describe()));
    for (index, readout) in network.readouts.iter().enumerate() {
        let bias = if readout.bias.is_none() { ", no bias" } else { "" };
        let tied = network.is_tied() && index + 1 == network.readouts.len();
        let tied = if tied { ", its weights are the embedding's" } else { "" };
        let follows = match readout.activation {
            Activation::Linear => String::new(),
            other => format!(", then {}", other.name()),
        };
        row("readout", format!("linear, {} to {}{bias}{tied}{follows}", readout.input, readout.output));
    }
    if network.reads == Reads::Final {
        row("reads", "the final state".to_owned());
    }
    row("parameters", grouped(network.parameters() as u64));
    let widest = import.found.iter().map(|found| found.theirs.chars().count()).max().unwrap_or(0);
    for Found { theirs, ours, shape } in &import.found {
        row("", format!("{theirs:<widest$} → {ours} {shape:?}"));
    }
    network.notes.iter().for_each(|note| row("note", note.clone()));
    import.left_over.iter().for_each(|left| row("left over", left.clone()));
    for tensor in &import.without_place {
        // Of a graph it is a sentence itself, about a node, which no map helps.
        let advice = if import.kind.starts_with("ONNX") { "" } else { " without --map" };
        row("no place", format!("{tensor}: it would change the result, so `lstm convert` refuses it{advice}"));
    }
    lines
}
