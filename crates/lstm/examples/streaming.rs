//! Reads an endless signal piece by piece: the state is the caller's, so pieces of any length give what the whole would.
//!
//! ```sh
//! cargo run --release --example streaming
//! ```

use lstm::nn::config::{ConfigError, Init, LstmConfig};
use lstm::nn::params::Params;
use lstm::nn::segment::Segment;
use lstm::nn::stack::Lstm;
use lstm::nn::stream::Stream;

fn main() -> Result<(), ConfigError> {
    let lstm = Lstm::new(LstmConfig { layers: 2, ..LstmConfig::new(2, 16) })?;
    let mut params = Params::zeros(lstm.layout().clone());
    lstm.initialise(&mut params, &Init::default(), 1);

    // A signal of 1000 steps, two values each, one row.
    let signal: Vec<f32> = (0..1000).flat_map(|t| [(t as f32 * 0.1).sin(), (t as f32 * 0.037).cos()]).collect();
    let read = |pieces: usize| {
        let mut state = lstm.state(1);
        // The parameters stay as they are, so the tape may keep them packed.
        let mut tape = lstm.frozen_tape();
        let mut last = Vec::new();
        for piece in signal.chunks(2 * pieces) {
            let segment = Segment { steps: piece.len() / 2, batch: 1, lengths: None, packed: None };
            lstm.forward(&params, piece, segment, &mut state, None, &mut tape);
            last = tape.output()[tape.output().len() - lstm.output_size()..].to_vec();
        }
        last
    };
    let whole = read(1000);
    for pieces in [7, 100] {
        let difference = read(pieces).iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{pieces:4} steps at a time: the last output differs by {difference:e} from that of the whole");
    }
    // One step at a time there is a faster way, with everything packed and nothing allocated.
    let mut stream = Stream::new(&lstm, &params, 1)?;
    for step in signal.chunks(2) {
        stream.input_mut(0).copy_from_slice(step);
        stream.step();
    }
    let difference = stream.output(0).iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("   as a stream of steps: the last output differs by {difference:e} from that of the whole");
    Ok(())
}
