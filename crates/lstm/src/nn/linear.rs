//! A linear map, `nn.Linear`: what numbers go through on their way to the layers, and what the layers give on its way out. Forward and
//! backward.

use lstm_kernels::{Matrix, MatrixMut, Start, column_sums, product, product_with_bias};

use crate::nn::config::Init;
use crate::nn::params::{Layout, Params, Slot};

/// y = W x + b. It holds no values.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// `NAME.weight [output, input]`.
    weight: Slot,
    /// `NAME.bias [output]`.
    bias: Slot,
    input: usize,
    output: usize,
}

impl Linear {
    /// Adds its parameters to `layout`: `NAME.weight [output, input]` and `NAME.bias [output]`.
    pub fn in_layout(name: &str, input: usize, output: usize, layout: &mut Layout) -> Self {
        let weight = layout.add(format!("{name}.weight"), &[output, input]);
        let bias = layout.add(format!("{name}.bias"), &[output]);
        Self { weight, bias, input, output }
    }

    /// The size of what it gives.
    pub fn output(&self) -> usize {
        self.output
    }

    /// Sets initial values: of the weights as `init` says, of the bias zero.
    pub fn initialise(&self, params: &mut Params, init: &Init, seed: u64) {
        params.fill_uniform(self.weight, init.linear_bound(self.input), seed);
        params.get_mut(self.bias).fill(0.0);
    }

    /// x `[N, input]` → y `[N, output]`.
    ///
    /// # Panics
    /// When x and y do not have as many rows.
    pub fn forward(&self, params: &Params, x: &[f32], y: &mut [f32]) {
        let rows = x.len() / self.input;
        let weight = Matrix::new(params.get(self.weight), self.output, self.input);
        let x = Matrix::new(x, rows, self.input);
        product_with_bias(MatrixMut::new(y, rows, self.output), params.get(self.bias), x, weight.transposed());
    }

    /// d_y `[N, output]` → the gradients of weight and bias, and d_x `[N, input]` where it is asked for, all of which it replaces.
    ///
    /// # Panics
    /// When the arrays do not have as many rows.
    pub fn backward(&self, params: &Params, x: &[f32], d_y: &[f32], d_x: Option<&mut [f32]>, gradients: &mut Params) {
        let rows = x.len() / self.input;
        let d = Matrix::new(d_y, rows, self.output);
        column_sums(gradients.get_mut(self.bias), Start::Zero, d_y);
        let d_weight = MatrixMut::new(gradients.get_mut(self.weight), self.output, self.input);
        product(d_weight, Start::Zero, d.transposed(), Matrix::new(x, rows, self.input));
        let Some(d_x) = d_x else { return };
        let weight = Matrix::new(params.get(self.weight), self.output, self.input);
        product(MatrixMut::new(d_x, rows, self.input), Start::Zero, d, weight);
    }
}
