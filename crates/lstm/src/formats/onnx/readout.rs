//! Linear readouts: the products, biases and activations above the LSTM.

use super::super::network::Activation;
use super::axes::{Dim, Factor, plain};
use super::follow::{Flow, Followed, Follower, LinearPart, Part, Value, unknown};
use super::node::Node;
use super::tensor::Tensor;
use crate::said::count;

impl Follower<'_> {
    /// A linear readout.
    pub(super) fn linear(&mut self, node: &Node, flow: &Flow, constants: &[Option<&Tensor>]) -> Followed {
        let is_gemm = node.operator() == "Gemm";
        let weight = constants.get(1).copied().flatten().ok_or("its weights are no constants")?;
        let (Some(values), [rows, columns]) = (weight.floats(), &weight.shape[..]) else {
            return Err(format!("its weights {:?} are no matrix", weight.shape));
        };
        if is_gemm && (node.int("transA").unwrap_or(0) != 0 || flow.axes.len() != 2) {
            return Err("it multiplies what is not rows of vectors".to_owned());
        }
        if !matches!(
            self.parts[flow.part],
            Part::Lstm { .. } | Part::Added { .. } | Part::Final { .. } | Part::Linear { .. }
        ) {
            return Err("it is a linear map below the LSTM, which no network here has".to_owned());
        }
        if !self.is_vector(flow) {
            return Err("it multiplies what are not the values of one step".to_owned());
        }
        let turned = is_gemm && node.int("transB").unwrap_or(0) != 0;
        let (input, output) = if turned { (*columns, *rows) } else { (*rows, *columns) };
        let expected = Dim::of(&self.vector(flow.part)).number;
        if input as i64 != expected {
            return Err(format!("its weights take {}, but {expected} come", count(input, "value")));
        }
        let mut own = if turned { values.to_vec() } else { super::graph::transposed(values, input, output) };
        let alpha = if is_gemm { node.float("alpha").unwrap_or(1.0) } else { 1.0 };
        own.iter_mut().for_each(|value| *value *= alpha);
        let mut linear = LinearPart {
            output,
            weight: own,
            bias: None,
            activation: Activation::Linear,
            names: [weight.name.clone(), String::new()],
        };
        if let Some(bias) = constants.get(2).copied().flatten().filter(|_| is_gemm) {
            let values = bias.floats().filter(|values| values.len() == output && bias.shape.last() == Some(&output));
            let beta = node.float("beta").unwrap_or(1.0);
            let values = values
                .ok_or_else(|| format!("it adds {:?} to {}, which is no bias", bias.shape, count(output, "value")))?;
            linear.bias = Some(values.iter().map(|value| value * beta).collect());
            linear.names[1].clone_from(&bias.name);
        }
        self.parts.push(Part::Linear { below: flow.part, linear: Box::new(linear) });
        let mut axes = flow.axes.clone();
        axes.pop();
        axes.push(vec![Factor::Features(output)]);
        Ok(vec![Value::Flow(Flow { part: self.parts.len() - 1, axes })])
    }

    /// What follows a readout.
    pub(super) fn activate(&mut self, flow: &Flow, activation: Activation) -> Followed {
        let Part::Linear { below, linear } = &self.parts[flow.part] else {
            return Err("it follows what is no linear readout".to_owned());
        };
        if linear.activation != Activation::Linear || !self.is_vector(flow) {
            return Err("it follows what is no linear readout".to_owned());
        }
        let (below, mut linear) = (*below, linear.clone());
        linear.activation = activation;
        self.parts.push(Part::Linear { below, linear });
        Ok(vec![Value::Flow(Flow { part: self.parts.len() - 1, axes: flow.axes.clone() })])
    }

    /// A bias, on a linear readout, or what an LSTM reads, on what it gives.
    pub(super) fn add(&mut self, inputs: &[Option<Value>]) -> Followed {
        let (flow, bias) = match inputs {
            [Some(Value::Flow(flow)), Some(Value::Constant(bias))] => (flow, bias),
            [Some(Value::Constant(bias)), Some(Value::Flow(flow))] => (flow, bias),
            [Some(Value::Flow(a)), Some(Value::Flow(b))] => return self.residual(a, b),
            _ => return Err(unknown()),
        };
        let Part::Linear { below, linear } = &self.parts[flow.part] else {
            return Err("it adds a constant to what is no linear readout".to_owned());
        };
        let output = linear.output;
        let fits = bias.len() == output && bias.shape.last() == Some(&output);
        let (Some(values), true, Activation::Linear) = (bias.floats(), fits, linear.activation) else {
            return Err(format!("it adds {:?} to {}, which is no bias", bias.shape, count(output, "value")));
        };
        let mut linear = linear.clone();
        linear.names[1].clone_from(&bias.name);
        linear.bias = Some(match &linear.bias {
            Some(first) => first.iter().zip(values).map(|(a, b)| a + b).collect(),
            None => values.to_vec(),
        });
        self.parts.push(Part::Linear { below: *below, linear });
        Ok(vec![Value::Flow(Flow { part: self.parts.len() - 1, axes: flow.axes.clone() })])
    }
    /// What an LSTM gives and what it reads, in either order.
    fn residual(&mut self, a: &Flow, b: &Flow) -> Followed {
        let is_sum = |given: &Flow, read: &Flow| match &self.parts[given.part] {
            Part::Lstm { below, .. } => {
                let last = given.axes.len().saturating_sub(1);
                let steps =
                    |flow: &Flow| flow.axes[..last].iter().map(|axis| plain(axis, &self.sizes)).collect::<Vec<_>>();
                let size = |flow: &Flow| Dim::of(&self.vector(flow.part));
                *below == read.part
                    && given.axes.len() == read.axes.len()
                    && last > 0
                    && steps(given) == steps(read)
                    && self.is_vector(given)
                    && self.is_vector(read)
                    && size(given) == size(read)
            }
            _ => false,
        };
        let given = match (is_sum(a, b), is_sum(b, a)) {
            (true, _) => a,
            (_, true) => b,
            _ => {
                return Err(
                    "it adds two values that flow; of such sums what an LSTM gives and what it reads is followed"
                        .to_owned(),
                );
            }
        };
        self.parts.push(Part::Added { below: given.part });
        Ok(vec![Value::Flow(Flow { part: self.parts.len() - 1, axes: given.axes.clone() })])
    }
}
