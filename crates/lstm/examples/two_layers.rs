//! Trains two layers on sequences of one's own: say again what was heard three steps ago.
//!
//! ```sh
//! cargo run --release --example two_layers
//! ```

use lstm::Start;
use lstm::nn::config::{ConfigError, Init, LstmConfig};
use lstm::nn::params::Params;
use lstm::nn::segment::Segment;
use lstm::nn::stack::Lstm;
use lstm::optim::optimizer::{Optimizer, OptimizerKind};
use lstm::rng::{Purpose, Rng};

const STEPS: usize = 20;
const ROWS: usize = 16;
const DELAY: usize = 3;

fn main() -> Result<(), ConfigError> {
    // 24 units a layer; the second layer's hidden state is projected to one value, the answer.
    let lstm = Lstm::new(LstmConfig { layers: 2, projection: Some(1), ..LstmConfig::new(1, 24) })?;
    let mut params = Params::zeros(lstm.layout().clone());
    lstm.initialise(&mut params, &Init { forget_bias: Some(1.0), ..Init::default() }, 1);
    let mut gradients = params.clone();
    let mut optimizer = Optimizer::new(OptimizerKind::Adam, 0.0, params.values().len());
    let (mut tape, mut rng) = (lstm.tape(), Rng::new(1, Purpose::Shuffle, 0));
    let segment = Segment { steps: STEPS, batch: ROWS, lengths: None, packed: None };

    for step in 0..=3000 {
        // [T, B, 1]: what is heard, and what should be said.
        let heard: Vec<f32> = (0..STEPS * ROWS).map(|_| rng.uniform_in(-0.5, 0.5)).collect();
        let wanted = |at: usize| at.checked_sub(DELAY * ROWS).map_or(0.0, |before| heard[before]);

        lstm.forward(&params, &heard, segment, &mut lstm.state(ROWS), None, &mut tape);
        let errors: Vec<f32> = tape.output().iter().enumerate().map(|(at, said)| said - wanted(at)).collect();
        let loss = errors.iter().map(|e| e * e).sum::<f32>() / errors.len() as f32;

        // The gradient of the mean squared error.
        let d_output: Vec<f32> = errors.iter().map(|e| 2.0 * e / errors.len() as f32).collect();
        lstm.backward(&params, &heard, segment, &d_output, None, &mut tape, &mut gradients, Start::Zero);
        optimizer.step(params.values_mut(), gradients.values(), 5e-3, Some(1.0));
        if step % 500 == 0 {
            println!("step {step:4}  mean squared error {loss:.5}");
        }
    }
    Ok(())
}
