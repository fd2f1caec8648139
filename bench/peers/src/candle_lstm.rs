//! candle's LSTM on its CPU device.

use std::collections::HashMap;
use std::error::Error;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use candle_nn::rnn::{LSTM, LSTMConfig, RNN, lstm};

use crate::numbered::{INPUT, OUTPUT_GRADIENT};
use crate::{Peer, Shape};

pub struct Candle {
    /// Layers whose parameters are variables, for training, and the same as plain tensors.
    trained: Vec<LSTM>,
    frozen: Vec<LSTM>,
    variables: Vec<Var>,
    /// `[B, T, I]` and `[B, T, H]`.
    input: Var,
    d_output: Tensor,
}

fn forward(layers: &[LSTM], input: &Tensor) -> candle_core::Result<Tensor> {
    let mut output = input.clone();
    for layer in layers {
        output = layer.states_to_tensor(&layer.seq(&output)?)?;
    }
    Ok(output)
}

impl Peer for Candle {
    const NAME: &str = "candle";

    fn new(shape: Shape) -> Result<Self, Box<dyn Error>> {
        let (device, gates) = (Device::Cpu, 4 * shape.hidden);
        let (mut trained, mut frozen, mut variables) = (Vec::new(), Vec::new(), Vec::new());
        for (layer, values) in shape.parameters().into_iter().enumerate() {
            let input = shape.input(layer);
            let shapes = [vec![gates, input], vec![gates, shape.hidden], vec![gates], vec![gates]];
            let names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"];
            let (mut tracked, mut plain) = (HashMap::new(), HashMap::new());
            for ((values, sizes), name) in values.into_iter().zip(shapes).zip(names) {
                let variable = Var::from_vec(values, sizes, &device)?;
                tracked.insert(name.to_owned(), variable.as_tensor().clone());
                plain.insert(name.to_owned(), variable.as_detached_tensor());
                variables.push(variable);
            }
            let build = |tensors| {
                let source = VarBuilder::from_tensors(tensors, DType::F32, &device);
                lstm(input, shape.hidden, LSTMConfig::default(), source)
            };
            trained.push(build(tracked)?);
            frozen.push(build(plain)?);
        }
        let sizes = |width| (shape.batch, shape.segment, width);
        let input = Var::from_vec(shape.batch_first(INPUT, shape.embedding), sizes(shape.embedding), &device)?;
        let d_output = shape.batch_first(OUTPUT_GRADIENT, shape.hidden);
        let d_output = Tensor::from_vec(d_output, sizes(shape.hidden), &device)?;
        Ok(Self { trained, frozen, variables, input, d_output })
    }

    fn both(&self, norms: bool) -> Result<(f64, f64), Box<dyn Error>> {
        let output = forward(&self.trained, &self.input)?;
        let gradients = (&output * &self.d_output)?.sum_all()?.backward()?;
        if !norms {
            return Ok((0.0, 0.0));
        }
        let squares = |tensor: &Tensor| -> candle_core::Result<f64> {
            tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()
        };
        let mut total = 0.0;
        for variable in &self.variables {
            total += squares(gradients.get(variable).ok_or("a parameter has no gradient")?)?;
        }
        Ok((squares(&output)?.sqrt(), total.sqrt()))
    }

    fn forward(&self) -> Result<(), Box<dyn Error>> {
        forward(&self.frozen, &self.input.as_detached_tensor())?;
        Ok(())
    }
}
