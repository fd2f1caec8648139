//! A model of one's own over words: an embedding, the stack, and a head that tells two classes apart, with its way back.
//! It learns whether more brackets open than close: `cargo run --release --example own_words`.

use std::sync::Arc;

use lstm::nn::config::{ConfigError, Init};
use lstm::nn::linear::Linear;
use lstm::nn::lookup::Lookup;
use lstm::nn::params::{Layout, Params};
use lstm::nn::stack::Tape;
use lstm::optim::optimizer::{Optimizer, OptimizerKind};
use lstm::rng::{Purpose, Rng};
use lstm::{Lstm, LstmConfig, Segment, Start};

/// `embedding.weight`, those of the layers, `head.weight`, `head.bias` lie in one layout; it holds no values itself.
struct Model {
    layout: Arc<Layout>,
    embedding: Lookup,
    lstm: Lstm,
    head: Linear,
}

impl Model {
    fn new(vocabulary: usize, size: usize, hidden: usize) -> Result<Self, ConfigError> {
        let mut layout = Layout::default();
        let embedding = Lookup::in_layout("embedding", vocabulary, size, &mut layout);
        let lstm = Lstm::in_layout(LstmConfig::new(size, hidden), "lstm.", &mut layout)?;
        let head = Linear::in_layout("head", hidden, 1, &mut layout);
        Ok(Self { layout: Arc::new(layout), embedding, lstm, head })
    }

    /// tokens `[T, B]`, classes `[B]`, each 0 or 1 → the mean logistic loss and how many are right; gradients: its own.
    fn step(
        &self,
        params: &Params,
        tokens: &[u32],
        classes: &[f32],
        tape: &mut Tape,
        gradients: &mut Params,
    ) -> (f32, usize) {
        let (batch, rows, width) = (classes.len(), tokens.len(), self.lstm.output_size());
        let segment = Segment { steps: rows / batch, batch, lengths: None, packed: None };
        let mut read = vec![0.0; rows * self.embedding.size()];
        self.embedding.forward(params, tokens, &mut read);
        self.lstm.forward(params, &read, segment, &mut self.lstm.state(batch), None, tape);
        let last = tape.output()[(rows - batch) * width..].to_vec();
        let mut scores = vec![0.0; batch];
        self.head.forward(params, &last, &mut scores);

        // And back: of the head, of the last step of the layers, of the embedding.
        let pairs = || scores.iter().zip(classes);
        let loss = |(score, class): (&f32, &f32)| (1.0 + score.exp()).ln() - class * score;
        let d_scores: Vec<f32> = pairs().map(|(s, class)| (1.0 / (1.0 + (-s).exp()) - class) / batch as f32).collect();
        let mut d_output = vec![0.0; rows * width];
        self.head.backward(params, &last, &d_scores, Some(&mut d_output[(rows - batch) * width..]), gradients);
        self.lstm.backward(params, &read, segment, &d_output, None, tape, &mut *gradients, Start::Zero);
        self.embedding.zero(gradients);
        self.embedding.backward(tokens, tape.d_input(), gradients);
        let right = pairs().filter(|(score, class)| (**score > 0.0) == (**class > 0.5)).count();
        (pairs().map(loss).sum::<f32>() / batch as f32, right)
    }
}

fn main() -> Result<(), ConfigError> {
    let model = Model::new(3, 8, 24)?;
    let mut params = Params::zeros(model.layout.clone());
    model.embedding.initialise(&mut params, 0.25, 1);
    model.lstm.initialise(&mut params, &Init { forget_bias: Some(1.0), ..Init::default() }, 1);
    model.head.initialise(&mut params, &Init::default(), 1);
    let (mut gradients, mut tape) = (params.clone(), model.lstm.tape());
    let mut optimizer = Optimizer::new(OptimizerKind::Adam, 0.0, params.values().len());
    let mut rng = Rng::new(1, Purpose::Shuffle, 0);
    for step in 0..=1000 {
        // 12 tokens, ( ) or a blank, in 32 rows; the class is whether more of the first kind came than of the second.
        let tokens: Vec<u32> = (0..12 * 32).map(|_| rng.bits() % 3).collect();
        let more =
            |row: usize| tokens.iter().skip(row).step_by(32).map(|token| [1, -1, 0][*token as usize]).sum::<i32>() > 0;
        let classes: Vec<f32> = (0..32).map(|row| f32::from(u8::from(more(row)))).collect();
        let (loss, right) = model.step(&params, &tokens, &classes, &mut tape, &mut gradients);
        optimizer.step(params.values_mut(), gradients.values(), 5e-3, Some(1.0));
        if step % 200 == 0 {
            println!("step {step:4}  loss {loss:.4}, {right} of 32 right");
        }
    }
    Ok(())
}
