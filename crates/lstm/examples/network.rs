//! Runs the network of another program's file, or of a run folder, over an input, and its LSTM backward: what
//! bench/pytorch_files.py compares with PyTorch and bench/onnx_files.py with ONNX Runtime.
//!
//! ```text
//! cargo run --release --example network -- MODEL INPUT.safetensors OUTPUT.safetensors
//! ```
//!
//! INPUT has `vectors [T, B, I]` or `tokens [T, B]` (f32), and may have `lengths [B]`, the states `h_0` and `c_0` of the first LSTM
//! and `d_output [T, B, ·]`, the gradient of what it gives. OUTPUT has `values`, `hidden`, `h_n`, `c_n`, and of the LSTM
//! `gradient.NAME`.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use lstm::Start;
use lstm::formats::foreign;
use lstm::formats::import::Hints;
use lstm::formats::network::{Input, Network};
use lstm::nn::params::Params;
use lstm::nn::segment::Segment;
use lstm::run::saved::LoadedRun;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

/// Names and values, without their shapes: the reader knows those.
type Results = Vec<(String, Vec<f32>)>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, input, output] = &arguments[..] else { return Err("give MODEL INPUT OUTPUT".into()) };
    let network = match Path::new(model).is_dir() {
        true => {
            let run = LoadedRun::open(Path::new(model))?;
            Network::from_language_model(&run.model, &run.params, None)?
        }
        false => foreign::read(Path::new(model), Hints::default())?.network,
    };
    let bytes = std::fs::read(input)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let given: HashMap<String, (Vec<usize>, Vec<f32>)> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let values = view.data().as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect();
            (name, (view.shape().to_vec(), values))
        })
        .collect();
    let (shape, x) = given.get("vectors").or(given.get("tokens")).ok_or("no input")?;
    let lengths: Option<Vec<usize>> =
        given.get("lengths").map(|(_, lengths)| lengths.iter().map(|length| *length as usize).collect());
    let segment = Segment { steps: shape[0], batch: shape[1], lengths: lengths.as_deref(), packed: None };
    let mut states = network.states(segment.batch);
    for (name, state) in [("h_0", 0), ("c_0", 1)] {
        if let Some((_, values)) = given.get(name) {
            let first = &mut states[0];
            [&mut first.h, &mut first.c][state].copy_from_slice(values);
        }
    }
    let initial = states.clone();
    let tokens: Vec<u32> = x.iter().map(|token| *token as u32).collect();
    let is_tokens = given.contains_key("tokens");
    let all =
        network.forward(if is_tokens { Input::Tokens(&tokens) } else { Input::Vectors(x) }, segment, &mut states)?;
    let last = &states[states.len() - 1];
    let mut results: Results = vec![("values".to_owned(), all.values), ("hidden".to_owned(), all.hidden)];
    results.extend([("h_n".to_owned(), last.h.clone()), ("c_n".to_owned(), last.c.clone())]);
    if let Some((_, d_output)) = given.get("d_output") {
        let stack = &network.stacks[0];
        let read: Vec<f32> = match &network.embedding {
            Some(table) if is_tokens => tokens
                .iter()
                .flat_map(|&token| table.weight[token as usize * table.size..][..table.size].to_vec())
                .collect(),
            _ => x.clone(),
        };
        let (mut tape, mut state) = (stack.lstm.tape(), initial[0].clone());
        stack.lstm.forward(&stack.params, &read, segment, &mut state, None, &mut tape);
        let mut gradients = Params::zeros(stack.lstm.layout().clone());
        stack.lstm.backward(&stack.params, &read, segment, d_output, None, &mut tape, &mut gradients, Start::Zero);
        results.push(("gradient.input".to_owned(), tape.d_input().to_vec()));
        for entry in stack.lstm.layout().entries() {
            results.push((format!("gradient.{}", entry.name), gradients.get(entry.slot).to_vec()));
        }
    }
    let views = results
        .iter()
        .map(|(name, values)| {
            Ok((name, TensorView::new(Dtype::F32, vec![values.len()], bytemuck::cast_slice(values))?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    Ok(std::fs::write(output, safetensors::serialize(views, None)?)?)
}
