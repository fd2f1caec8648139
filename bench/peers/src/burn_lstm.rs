//! burn's LSTM on its flex backend.

use std::error::Error;

use burn::module::Param;
use burn::nn::{GateController, Linear, Lstm, LstmConfig};
use burn::tensor::{Device, Tensor, TensorData};

use crate::numbered::{INPUT, OUTPUT_GRADIENT};
use crate::{Peer, Shape};

pub struct Burn {
    /// Layers on the device that follows gradients, and on the one that does not.
    trained: Vec<Lstm>,
    frozen: Vec<Lstm>,
    /// `[B, T, I]` on both devices, and `[B, T, H]`.
    input: Tensor<3>,
    frozen_input: Tensor<3>,
    d_output: Tensor<3>,
}

fn forward(layers: &[Lstm], input: &Tensor<3>) -> Tensor<3> {
    layers.iter().fold(input.clone(), |input, layer| layer.forward(input, None).0)
}

/// The layers with the numbered parameters. PyTorch's `[4H, I]` are four transposed `[I, H]` here, in the order i, f,
/// g, o.
fn layers(shape: Shape, device: &Device) -> Vec<Lstm> {
    let hidden = shape.hidden;
    let fill = |linear: &mut Linear, weight: &[f32], bias: &[f32], input: usize, gate: usize| {
        let value = |i: usize, h: usize| weight[(gate * hidden + h) * input + i];
        let weight: Vec<f32> = (0..input).flat_map(|i| (0..hidden).map(move |h| value(i, h))).collect();
        let bias = bias[gate * hidden..][..hidden].to_vec();
        linear.weight = Param::from_tensor(Tensor::from_data(TensorData::new(weight, [input, hidden]), device));
        linear.bias = Some(Param::from_tensor(Tensor::from_data(TensorData::new(bias, [hidden]), device)));
    };
    let build = |(layer, [weight_ih, weight_hh, bias_ih, bias_hh]): (usize, [Vec<f32>; 4])| {
        let input = shape.input(layer);
        let mut lstm = LstmConfig::new(input, hidden, true).init(device);
        let Lstm { input_gate, forget_gate, cell_gate, output_gate, .. } = &mut lstm;
        for (gate, part) in [Some(input_gate), forget_gate.as_mut(), Some(cell_gate), Some(output_gate)]
            .into_iter()
            .flatten()
            .enumerate()
        {
            fill(&mut part.input_transform, &weight_ih, &bias_ih, input, gate);
            fill(&mut part.hidden_transform, &weight_hh, &bias_hh, hidden, gate);
        }
        lstm
    };
    shape.parameters().into_iter().enumerate().map(build).collect()
}

fn gates(lstm: &Lstm) -> impl Iterator<Item = &GateController> {
    [Some(&lstm.input_gate), lstm.forget_gate.as_ref(), Some(&lstm.cell_gate), Some(&lstm.output_gate)]
        .into_iter()
        .flatten()
}

impl Peer for Burn {
    const NAME: &str = "burn (flex)";

    fn new(shape: Shape) -> Result<Self, Box<dyn Error>> {
        let (plain, following) = (Device::flex(), Device::flex().autodiff());
        let values = |row, width, device: &Device| -> Tensor<3> {
            let data = TensorData::new(shape.batch_first(row, width), [shape.batch, shape.segment, width]);
            Tensor::from_data(data, device)
        };
        Ok(Self {
            trained: layers(shape, &following),
            frozen: layers(shape, &plain),
            input: values(INPUT, shape.embedding, &following).require_grad(),
            frozen_input: values(INPUT, shape.embedding, &plain),
            d_output: values(OUTPUT_GRADIENT, shape.hidden, &following),
        })
    }

    fn both(&self, norms: bool) -> Result<(f64, f64), Box<dyn Error>> {
        let output = forward(&self.trained, &self.input);
        let gradients = (output.clone() * self.d_output.clone()).sum().backward();
        if !norms {
            return Ok((0.0, 0.0));
        }
        let squares = |data: TensorData| -> Result<f64, Box<dyn Error>> {
            let values = data.try_to_vec::<f32>().map_err(|e| format!("{e:?}"))?;
            Ok(values.iter().map(|x| f64::from(*x).powi(2)).sum())
        };
        let missing = "a parameter has no gradient";
        let mut total = 0.0;
        for gate in self.trained.iter().flat_map(gates) {
            for linear in [&gate.input_transform, &gate.hidden_transform] {
                total += squares(linear.weight.val().grad(&gradients).ok_or(missing)?.to_data())?;
                let bias = linear.bias.as_ref().ok_or("a gate has no bias")?;
                total += squares(bias.val().grad(&gradients).ok_or(missing)?.to_data())?;
            }
        }
        Ok((squares(output.to_data())?.sqrt(), total.sqrt()))
    }

    fn forward(&self) -> Result<(), Box<dyn Error>> {
        forward(&self.frozen, &self.frozen_input);
        Ok(())
    }
}
