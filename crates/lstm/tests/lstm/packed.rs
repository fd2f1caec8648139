//! A packed segment against the same rows masked: outputs, states and gradients.

use std::sync::Arc;

use lstm::nn::config::Init;
use lstm::rng::{Purpose, Rng};
use lstm::{Lstm, LstmConfig, Params, Segment, Start};

fn assert_close(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off <= 1e-5 * scale, "{what} is off by {off} of {scale}");
}

/// The rows of `padded: [T, B, ·]` that are in a packed segment.
fn pack(padded: &[f32], width: usize, lengths: &[usize]) -> Vec<f32> {
    let steps = lengths[0];
    let rows =
        (0..steps).flat_map(|t| (0..lengths.len()).filter(move |row| lengths[*row] > t).map(move |row| (t, row)));
    rows.flat_map(|(t, row)| padded[(t * lengths.len() + row) * width..][..width].to_vec()).collect()
}

#[test]
fn a_packed_segment_is_a_masked_one_without_what_is_masked() {
    let rng = &mut Rng::new(5, Purpose::Init, 0);
    for lengths in [&[1][..], &[3, 1], &[7, 7, 5, 3, 3, 1], &[9; 4], &[70; 65]] {
        for (bidirectional, projection, layers, hidden) in [
            (false, None, 1, 7),
            (true, None, 2, 33),
            (false, Some(5), 2, 20),
            (true, Some(3), 1, 17),
            (true, None, 1, 64),
        ] {
            let config = LstmConfig { bidirectional, projection, layers, ..LstmConfig::new(3, hidden) };
            let lstm = Lstm::new(config).unwrap();
            let mut params = Params::zeros(Arc::clone(lstm.layout()));
            lstm.initialise(&mut params, &Init::default(), 1);
            let (steps, batch, width) = (lengths[0], lengths.len(), lstm.output_size());
            let mut numbers = |len: usize| (0..len).map(|_| rng.normal()).collect::<Vec<f32>>();
            let (input, d_output) = (numbers(steps * batch * 3), numbers(steps * batch * width));
            let (mut start, mut d_final) = (lstm.state(batch), lstm.state(batch));
            for state in [&mut start, &mut d_final] {
                state.h = numbers(state.h.len());
                state.c = numbers(state.c.len());
            }
            let run = |segment: Segment, input: &[f32], d_output: &[f32]| {
                let (mut state, mut tape) = (start.clone(), lstm.tape());
                let mut gradients = Params::zeros(Arc::clone(lstm.layout()));
                lstm.forward(&params, input, segment, &mut state, None, &mut tape);
                let output = tape.output().to_vec();
                let cells = tape.cell(0, 0).to_vec();
                lstm.backward(
                    &params,
                    input,
                    segment,
                    d_output,
                    Some(&d_final),
                    &mut tape,
                    &mut gradients,
                    Start::Zero,
                );
                (output, cells, state, tape, gradients)
            };
            let masked = run(Segment { steps, batch, lengths: Some(lengths), packed: None }, &input, &d_output);
            let mut starts = vec![0];
            starts.extend((0..steps).scan(0, |sum, t| {
                *sum += lengths.iter().filter(|length| **length > t).count();
                Some(*sum)
            }));
            let segment = Segment { steps, batch, lengths: None, packed: Some(&starts) };
            for threads in [1, 2, 3] {
                let packed = lstm::with_threads(threads, || {
                    run(segment, &pack(&input, 3, lengths), &pack(&d_output, width, lengths))
                });
                assert_close("output", &packed.0, &pack(&masked.0, width, lengths));
                assert_close("cells", &packed.1, &pack(&masked.1, hidden, lengths));
                assert_close("h_n", &packed.2.h, &masked.2.h);
                assert_close("c_n", &packed.2.c, &masked.2.c);
                assert_close("d_input", packed.3.d_input(), &pack(masked.3.d_input(), 3, lengths));
                assert_close("d_h_0", &packed.3.d_initial().h, &masked.3.d_initial().h);
                assert_close("d_c_0", &packed.3.d_initial().c, &masked.3.d_initial().c);
                for entry in lstm.layout().entries() {
                    assert_close(&entry.name, packed.4.get(entry.slot), masked.4.get(entry.slot));
                }
            }
        }
    }
}
