//! A model of one's own over sequences of numbers: a linear input, the stack, and a head that says a number, with its way back.
//! It learns how far a wave has come when it ends: `cargo run --release --example own_numbers`.

use std::sync::Arc;

use lstm::nn::config::{ConfigError, Init};
use lstm::nn::linear::Linear;
use lstm::nn::params::{Layout, Params};
use lstm::nn::stack::Tape;
use lstm::optim::optimizer::{Optimizer, OptimizerKind};
use lstm::rng::{Purpose, Rng};
use lstm::{Lstm, LstmConfig, Segment, Start};

/// `input.weight`, `input.bias`, those of the layers, `head.weight`, `head.bias` lie in one layout; it holds no values itself.
struct Model {
    layout: Arc<Layout>,
    input: Linear,
    lstm: Lstm,
    head: Linear,
}

impl Model {
    fn new(values: usize, size: usize, hidden: usize) -> Result<Self, ConfigError> {
        let mut layout = Layout::default();
        let input = Linear::in_layout("input", values, size, &mut layout);
        let lstm = Lstm::in_layout(LstmConfig::new(size, hidden), "lstm.", &mut layout)?;
        let head = Linear::in_layout("head", hidden, 1, &mut layout);
        Ok(Self { layout: Arc::new(layout), input, lstm, head })
    }

    /// x `[T, B, values]`, targets `[B]` → the mean squared error; gradients: its own.
    fn step(&self, params: &Params, x: &[f32], targets: &[f32], tape: &mut Tape, gradients: &mut Params) -> f32 {
        let (batch, width) = (targets.len(), self.lstm.output_size());
        let (steps, rows) = (x.len() / 2 / batch, x.len() / 2);
        let segment = Segment { steps, batch, lengths: None, packed: None };
        let mut read = vec![0.0; rows * self.input.output()];
        self.input.forward(params, x, &mut read);
        self.lstm.forward(params, &read, segment, &mut self.lstm.state(batch), None, tape);
        let last = tape.output()[(rows - batch) * width..].to_vec();
        let mut said = vec![0.0; batch];
        self.head.forward(params, &last, &mut said);

        // And back: of the head, of the last step of the layers, of the input.
        let errors: Vec<f32> = said.iter().zip(targets).map(|(said, target)| said - target).collect();
        let d_said: Vec<f32> = errors.iter().map(|error| 2.0 * error / batch as f32).collect();
        let mut d_output = vec![0.0; rows * width];
        self.head.backward(params, &last, &d_said, Some(&mut d_output[(rows - batch) * width..]), gradients);
        self.lstm.backward(params, &read, segment, &d_output, None, tape, &mut *gradients, Start::Zero);
        self.input.backward(params, x, tape.d_input(), None, gradients);
        errors.iter().map(|error| error * error).sum::<f32>() / batch as f32
    }
}

fn main() -> Result<(), ConfigError> {
    let model = Model::new(2, 8, 24)?;
    let mut params = Params::zeros(model.layout.clone());
    model.lstm.initialise(&mut params, &Init { forget_bias: Some(1.0), ..Init::default() }, 1);
    [model.input, model.head].iter().for_each(|linear| linear.initialise(&mut params, &Init::default(), 1));
    let (mut gradients, mut tape) = (params.clone(), model.lstm.tape());
    let mut optimizer = Optimizer::new(OptimizerKind::Adam, 0.0, params.values().len());
    let mut rng = Rng::new(1, Purpose::Shuffle, 0);
    for step in 0..=1000 {
        // Waves of 20 steps that go on each at its own speed: their sines and cosines are read, the angle of the end is to be said.
        let speeds: Vec<f32> = (0..16).map(|_| rng.uniform_in(0.02, 0.3)).collect();
        let angle = |at: usize| (at / 16 + 1) as f32 * speeds[at % 16];
        let x: Vec<f32> = (0..20 * 16).flat_map(|at| [angle(at).sin(), angle(at).cos()]).collect();
        let targets: Vec<f32> = speeds.iter().map(|speed| 20.0 * speed / 3.0).collect();
        let loss = model.step(&params, &x, &targets, &mut tape, &mut gradients);
        optimizer.step(params.values_mut(), gradients.values(), 5e-3, Some(1.0));
        if step % 200 == 0 {
            println!("step {step:4}  mean squared error {loss:.5}");
        }
    }
    Ok(())
}
