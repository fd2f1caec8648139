//! The stack against the slow reference: outputs, final states, and gradients against finite differences, for every
//! combination of wiring, readout, direction, projection, horizon and masking.

use std::sync::Arc;

use lstm::Start;
use lstm::nn::config::{CellOptions, Init, LstmConfig, Readout, Wiring, Zoneout};
use lstm::nn::dropout::{Dropout, DropoutKind, Masks};
use lstm::nn::params::{Params, ParamsMut, ParamsRef};
use lstm::nn::precision::Precision;
use lstm::nn::segment::Segment;
use lstm::nn::stack::Lstm;
use lstm::nn::state::State;
use lstm::rng::{Purpose, Rng};

use crate::reference::{Outcome, Reference, Values};

/// Of the largest output: the promise of DESIGN for the fast path.
const FORWARD: f64 = 1e-5;
/// Of a tensor's largest gradient.
const GRADIENT: f64 = 1e-4;

/// The same with products of bf16, whose factors are off by 2⁻⁹ of themselves.
const FORWARD_BF16: f64 = 4e-2;
/// See [`FORWARD_BF16`].
const GRADIENT_BF16: f64 = 8e-2;

/// With factors in two parts of bf16, which are off by 2⁻¹⁷ of themselves: a 256th of those.
const FORWARD_BF16X3: f64 = 2e-4;
/// See [`FORWARD_BF16X3`]; finite differences have an error of their own.
const GRADIENT_BF16X3: f64 = 6e-4;

/// One computation, its random numbers and the random linear loss over what comes out.
struct Case {
    config: LstmConfig,
    steps: usize,
    batch: usize,
    lengths: Option<Vec<usize>>,
    values: Values,
    loss: [Vec<f64>; 3],
}

/// Numbers an f32 holds exactly, so that both sides compute with the same.
fn random(rng: &mut Rng, len: usize) -> Vec<f64> {
    (0..len).map(|_| f64::from(rng.normal() * 0.5)).collect()
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

fn double(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

impl Case {
    fn new(config: LstmConfig, steps: usize, batch: usize, lengths: Option<Vec<usize>>) -> Self {
        let rng = &mut Rng::new(11, Purpose::Init, (config.hidden.of(0) * 100 + config.layers) as u64);
        let lstm = Lstm::new(config.clone()).expect("a valid configuration");
        let scale = 2.0 / (config.hidden.of(0) as f64).sqrt();
        let mut values: Values = lstm
            .layout()
            .entries()
            .iter()
            .map(|entry| {
                let weights = random(rng, entry.shape.iter().product());
                (entry.name.clone(), weights.iter().map(|w| f64::from((w * scale) as f32)).collect())
            })
            .collect();
        let (h, c) = (lstm.state(batch).h.len(), lstm.state(batch).c.len());
        values.insert("input".into(), random(rng, steps * batch * config.input));
        values.insert("h_0".into(), random(rng, h));
        // A normaliser is a sum of exponentials.
        let of_cell = |c: f64| if config.variant.exponential { 0.1 + c.abs() } else { c };
        values.insert("c_0".into(), random(rng, c).into_iter().map(of_cell).collect());
        let loss = [random(rng, steps * batch * config.output()), random(rng, h), random(rng, c)];
        Self { config, steps, batch, lengths, values, loss }
    }

    fn reference(&self) -> Reference<'_> {
        Reference { config: &self.config, steps: self.steps, batch: self.batch, lengths: self.lengths.as_deref() }
    }

    fn loss(&self, outcome: &Outcome) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&outcome.output, &self.loss[0]) + dot(&outcome.h, &self.loss[1]) + dot(&outcome.c, &self.loss[2])
    }

    /// Central finite differences of the loss in every number.
    fn slopes(&self, baseline: &Outcome) -> Values {
        const STEP: f64 = 1e-5;
        let reference = self.reference();
        let mut moved = self.values.clone();
        let mut slopes = Values::new();
        for (name, values) in &self.values {
            let mut slope = Vec::with_capacity(values.len());
            for (index, &value) in values.iter().enumerate() {
                let mut at = |value: f64| {
                    moved.get_mut(name).expect("the same names")[index] = value;
                    self.loss(&reference.forward(&moved, Some(&baseline.entered)))
                };
                slope.push((at(value + STEP) - at(value - STEP)) / (2.0 * STEP));
                at(value);
            }
            slopes.insert(name.clone(), slope);
        }
        slopes
    }

    /// The same bits where every array lies for itself.
    fn assert_the_same_apart(&self, lstm: &Lstm, params: &Params, gradients: &Params, d_final: &State) {
        let segment = Segment { steps: self.steps, batch: self.batch, lengths: self.lengths.as_deref(), packed: None };
        let (input, d_output) = (single(&self.values["input"]), single(&self.loss[0]));
        let (mut state, mut tape) = (lstm.state(self.batch), lstm.tape());
        state.h = single(&self.values["h_0"]);
        state.c = single(&self.values["c_0"]);
        let layout = lstm.layout();
        let slots: Vec<_> = layout.entries().iter().map(|entry| entry.slot).collect();
        let arrays: Vec<&[f32]> = slots.iter().map(|slot| params.get(*slot)).collect();
        let mut apart: Vec<Vec<f32>> = arrays.iter().map(|array| vec![f32::NAN; array.len()]).collect();
        let params = ParamsRef::apart(layout, &arrays);
        lstm.forward(params, &input, segment, &mut state, None, &mut tape);
        let to = ParamsMut::apart(layout, apart.iter_mut().map(|array| &mut array[..]).collect());
        lstm.backward(params, &input, segment, &d_output, Some(d_final), &mut tape, to, Start::Zero);
        assert!(slots.iter().zip(&apart).all(|(slot, array)| gradients.get(*slot) == array));
    }

    /// The library's outcome, and its gradients of the loss.
    fn run(&self) -> ([Vec<f64>; 3], Values) {
        let lstm = Lstm::new(self.config.clone()).expect("a valid configuration");
        let mut params = Params::zeros(Arc::clone(lstm.layout()));
        for entry in lstm.layout().entries() {
            params.get_mut(entry.slot).copy_from_slice(&single(&self.values[&entry.name]));
        }
        let input = single(&self.values["input"]);
        let segment = Segment { steps: self.steps, batch: self.batch, lengths: self.lengths.as_deref(), packed: None };
        let mut state = lstm.state(self.batch);
        state.h = single(&self.values["h_0"]);
        state.c = single(&self.values["c_0"]);
        let mut d_final: State = lstm.state(self.batch);
        d_final.h = single(&self.loss[1]);
        d_final.c = single(&self.loss[2]);
        let mut tape = lstm.tape();
        let mut gradients = Params::zeros(Arc::clone(lstm.layout()));
        lstm.forward(&params, &input, segment, &mut state, None, &mut tape);
        let outcome = [double(tape.output()), double(&state.h), double(&state.c)];
        lstm.backward(
            &params,
            &input,
            segment,
            &single(&self.loss[0]),
            Some(&d_final),
            &mut tape,
            &mut gradients,
            Start::Zero,
        );
        self.assert_the_same_apart(&lstm, &params, &gradients, &d_final);

        let mut named: Values = lstm
            .layout()
            .entries()
            .iter()
            .map(|entry| (entry.name.clone(), double(gradients.get(entry.slot))))
            .collect();
        named.insert("input".into(), double(tape.d_input()));
        named.insert("h_0".into(), double(&tape.d_initial().h));
        named.insert("c_0".into(), double(&tape.d_initial().c));
        (outcome, named)
    }

    fn check_forward(&self) {
        let expected = self.reference().forward(&self.values, None);
        let (got, _) = self.run();
        self.compare_outcome(&got, &expected, FORWARD);
    }

    fn check(&self) {
        let expected = self.reference().forward(&self.values, None);
        let slopes = self.slopes(&expected);
        let (got, gradients) = self.run();
        self.compare_outcome(&got, &expected, FORWARD);
        for (name, slope) in &slopes {
            self.close(&format!("gradient of {name}"), &gradients[name], slope, GRADIENT);
        }
        for (precision, forward, gradient) in
            [(Precision::Bf16, FORWARD_BF16, GRADIENT_BF16), (Precision::Bf16x3, FORWARD_BF16X3, GRADIENT_BF16X3)]
        {
            let (rounded, gradients) = precision.within(|| self.run());
            // Whatever is chosen runs in it, and falls back to nothing else.
            assert_ne!(rounded, got, "{precision} of {:?}", self.config);
            // Layer normalisation divides by the deviation of so few units, which makes any rounding as large as it likes.
            if self.config.variant.layer_norm {
                assert!(
                    gradients.values().flatten().all(|value| value.is_finite()),
                    "{precision} of {:?}",
                    self.config
                );
                continue;
            }
            // The rounds of a mogrifier are products one behind another, each of what the last one rounded.
            let wider = if self.config.variant.mogrify > 0 { 4.0 } else { 1.0 };
            self.compare_outcome(&rounded, &expected, wider * forward);
            for (name, slope) in &slopes {
                self.close(&format!("{precision} gradient of {name}"), &gradients[name], slope, wider * gradient);
            }
        }
    }

    fn compare_outcome(&self, got: &[Vec<f64>; 3], expected: &Outcome, tolerance: f64) {
        self.close("output", &got[0], &expected.output, tolerance);
        self.close("final h", &got[1], &expected.h, tolerance);
        self.close("final c", &got[2], &expected.c, tolerance);
    }

    fn close(&self, what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(got.len(), expected.len(), "{what} of {:?}", self.config);
        // Behind a horizon a whole tensor's gradient can be zero; finite differences then leave their own noise.
        let largest = expected.iter().fold(1e-4, |most: f64, value| most.max(value.abs()));
        for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert!(
                (got - expected).abs() <= tolerance * largest,
                "{what}[{index}]: got {got}, expected {expected} (largest {largest})\n{:?}, T {}, B {}, lengths {:?}",
                self.config,
                self.steps,
                self.batch,
                self.lengths
            );
        }
    }
}

/// Every combination of the other choices, for one wiring and number of layers.
fn check_all(wiring: Wiring, layers: usize) {
    for bits in 0..16 {
        let chosen = |bit: usize| bits >> bit & 1 == 1;
        for horizon in [None, Some(1), Some(2)] {
            let config = LstmConfig {
                layers,
                wiring,
                scores: 3,
                projection: chosen(0).then_some(2),
                bidirectional: chosen(1),
                readout: if chosen(2) { Readout::OutputGate } else { Readout::Hidden },
                horizon,
                ..LstmConfig::new(3, 5)
            };
            // Rows that end early, fill the segment, are empty, and end at a horizon.
            let lengths = chosen(3).then(|| vec![3, 5, 0, 2]);
            let batch = if chosen(3) { 4 } else { 1 };
            Case::new(config, 5, batch, lengths).check();
        }
    }
}

#[test]
fn one_layer() {
    check_all(Wiring::Stacked, 1);
}

#[test]
fn two_layers_stacked() {
    check_all(Wiring::Stacked, 2);
}

#[test]
fn two_layers_skip() {
    check_all(Wiring::Skip, 2);
}

#[test]
fn two_layers_scores() {
    check_all(Wiring::Scores, 2);
}

#[test]
fn three_layers_of_every_wiring() {
    for wiring in [Wiring::Stacked, Wiring::Skip, Wiring::Scores] {
        for readout in [Readout::Hidden, Readout::OutputGate] {
            let config = LstmConfig {
                layers: 3,
                wiring,
                scores: 3,
                readout,
                projection: Some(2),
                bidirectional: true,
                horizon: Some(2),
                ..LstmConfig::new(2, 3)
            };
            Case::new(config, 4, 3, Some(vec![4, 1, 3])).check();
        }
    }
}

#[test]
fn layers_of_different_sizes_and_residual_connections() {
    for (sizes, residual, wiring, readout) in [
        (vec![5, 3, 4], false, Wiring::Stacked, Readout::Hidden),
        (vec![5, 3, 4], false, Wiring::Stacked, Readout::OutputGate),
        (vec![5, 3, 4], false, Wiring::Skip, Readout::Hidden),
        (vec![3, 5, 4], false, Wiring::Scores, Readout::OutputGate),
        (vec![3, 5, 4], false, Wiring::Scores, Readout::Hidden),
        (vec![3, 3, 3], true, Wiring::Stacked, Readout::Hidden),
        (vec![4, 4, 3], true, Wiring::Stacked, Readout::Hidden),
        (vec![4, 3, 3], true, Wiring::Stacked, Readout::Hidden),
    ] {
        for (bidirectional, projection) in [(false, None), (true, None), (true, Some(2))] {
            let config = LstmConfig {
                layers: 3,
                wiring,
                scores: 3,
                readout,
                projection,
                bidirectional,
                residual,
                ..LstmConfig::new(2, sizes.clone())
            };
            Case::new(config.clone(), 4, 3, Some(vec![4, 1, 3])).check();
            Case::new(config, 4, 2, None).check();
        }
    }
}

#[test]
fn odd_sizes_forward() {
    for (input, hidden, steps, batch) in
        [(1, 1, 1, 1), (7, 33, 9, 7), (33, 7, 33, 1), (129, 129, 3, 33), (20, 65, 7, 5)]
    {
        for bidirectional in [false, true] {
            for projection in [None, Some(hidden / 2)] {
                if projection == Some(0) {
                    continue;
                }
                let config = LstmConfig { layers: 2, projection, bidirectional, ..LstmConfig::new(input, hidden) };
                let lengths = (batch > 1).then(|| (0..batch).map(|row| (row * 5 + 1) % (steps + 1)).collect());
                Case::new(config, steps, batch, lengths).check_forward();
            }
        }
    }
}

/// The combinations of peepholes, coupled gates, layer normalisation and zoneout but the plain cell; and exponential cells.
fn variants() -> impl Iterator<Item = CellOptions> {
    let exponential = [(0.25, 0), (0.0, 3)].map(|(hidden, mogrify)| CellOptions {
        exponential: true,
        zoneout: Zoneout { cell: 0.0, hidden },
        mogrify,
        ..CellOptions::default()
    });
    let others = (1..16).map(|bits| CellOptions {
        peepholes: bits & 1 > 0,
        coupled: bits & 2 > 0,
        layer_norm: bits & 4 > 0,
        zoneout: if bits & 8 > 0 { Zoneout { cell: 0.25, hidden: 0.125 } } else { Zoneout::default() },
        ..CellOptions::default()
    });
    others.chain(exponential)
}

#[test]
fn every_variant_with_every_choice() {
    for (number, variant) in variants().enumerate() {
        for bits in 0..16 {
            let chosen = |bit: usize| bits >> bit & 1 == 1;
            let wirings = [Wiring::Stacked, Wiring::Skip, Wiring::Scores];
            let config = LstmConfig {
                layers: 2,
                // A mogrified layer has no input of scores.
                wiring: wirings[(number + bits) % if variant.mogrify > 0 { 2 } else { 3 }],
                scores: 3,
                projection: chosen(0).then_some(2),
                bidirectional: chosen(1),
                readout: if chosen(2) { Readout::OutputGate } else { Readout::Hidden },
                horizon: [None, Some(1), Some(2)][(number / 3 + bits / 2) % 3],
                variant,
                ..LstmConfig::new(3, 5)
            };
            let lengths = chosen(3).then(|| vec![3, 5, 0, 2]);
            let batch = if chosen(3) { 4 } else { 1 };
            Case::new(config, 5, batch, lengths).check();
        }
    }
}

#[test]
fn every_variant_with_residual_connections_and_odd_sizes() {
    for variant in variants() {
        let config = LstmConfig { layers: 3, residual: true, variant, ..LstmConfig::new(2, vec![3, 3, 4]) };
        Case::new(config.clone(), 4, 3, Some(vec![4, 1, 3])).check();
        Case::new(LstmConfig { bidirectional: true, projection: Some(2), ..config }, 4, 2, None).check();
        for (input, hidden, steps, batch) in [(7, 33, 9, 7), (129, 129, 3, 33), (20, 65, 7, 5)] {
            let config = LstmConfig { layers: 2, variant, ..LstmConfig::new(input, hidden) };
            Case::new(config, steps, batch, None).check_forward();
        }
    }
}

/// Mogrified cells, alone and with all else.
fn mogrified() -> impl Iterator<Item = CellOptions> {
    let zoneout = Zoneout { cell: 0.25, hidden: 0.125 };
    let plain = CellOptions::default();
    [(1, None), (2, Some(1)), (5, None), (4, Some(1))].into_iter().flat_map(move |(mogrify, mogrify_rank)| {
        let all = CellOptions {
            peepholes: true,
            coupled: true,
            layer_norm: true,
            zoneout,
            mogrify,
            mogrify_rank,
            exponential: false,
        };
        [CellOptions { mogrify, mogrify_rank, ..plain }, all, CellOptions { layer_norm: false, ..all }]
    })
}

#[test]
fn every_mogrified_cell_with_every_choice() {
    for (number, variant) in mogrified().enumerate() {
        // Half of them each time, for they take long.
        for bits in (number % 2..16).step_by(2) {
            let chosen = |bit: usize| bits >> bit & 1 == 1;
            let config = LstmConfig {
                layers: 2,
                wiring: [Wiring::Stacked, Wiring::Skip][(number / 2 + bits / 2) % 2],
                projection: chosen(0).then_some(2),
                bidirectional: chosen(1),
                readout: if chosen(2) { Readout::OutputGate } else { Readout::Hidden },
                horizon: [None, Some(1), Some(2)][(number + bits / 2) % 3],
                variant,
                ..LstmConfig::new(3, 5)
            };
            let lengths = chosen(3).then(|| vec![3, 5, 0, 2]);
            Case::new(config, 5, if chosen(3) { 4 } else { 1 }, lengths).check();
        }
        let config = LstmConfig { layers: 3, residual: true, variant, ..LstmConfig::new(2, vec![3, 3, 4]) };
        Case::new(config, 4, 3, Some(vec![4, 1, 3])).check();
        for (input, hidden, steps, batch) in [(7, 33, 9, 7), (129, 129, 3, 33), (20, 65, 7, 5)] {
            let config = LstmConfig { layers: 2, variant, ..LstmConfig::new(input, hidden) };
            Case::new(config, steps, batch, None).check_forward();
        }
    }
}

#[test]
fn gradients_of_variants_add_up_and_respect_dropped_weights() {
    for variant in variants().chain(mogrified()) {
        let config = LstmConfig { layers: 2, projection: Some(4), variant, ..LstmConfig::new(3, 7) };
        let lstm = Lstm::new(config).expect("a valid configuration");
        let mut params = Params::zeros(Arc::clone(lstm.layout()));
        lstm.initialise(&mut params, &Init::default(), 1);
        let segment = Segment { steps: 5, batch: 2, lengths: None, packed: None };
        let rng = &mut Rng::new(3, Purpose::Init, 0);
        let (input, d_output) = (single(&random(rng, 5 * 2 * 3)), single(&random(rng, 5 * 2 * 4)));
        let masks = Masks { seed: 1, step: 2, shard: 0, share: 1.0 };
        let dropout = Some(Dropout { kind: DropoutKind::Standard, rate: 0.0, weights: 0.5, masks });
        let run = |passes: &[Start]| {
            let (mut tape, mut gradients) = (lstm.tape(), Params::zeros(Arc::clone(lstm.layout())));
            gradients.values_mut().fill(f32::NAN);
            for &accumulate in passes {
                lstm.forward(&params, &input, segment, &mut lstm.state(2), dropout, &mut tape);
                lstm.backward(&params, &input, segment, &d_output, None, &mut tape, &mut gradients, accumulate);
            }
            gradients
        };
        let (once, twice) = (run(&[Start::Zero]), run(&[Start::Zero, Start::Out]));
        for (twice, once) in twice.values().iter().zip(once.values()) {
            assert!((twice - 2.0 * once).abs() <= 1e-5 * (1.0 + once.abs()), "{twice} and {once}, {variant}");
        }
        let dropped = once.by_name("weight_hh_l0").unwrap();
        let share = dropped.iter().filter(|d| **d == 0.0).count() as f32 / dropped.len() as f32;
        assert!(share > 0.25 && share < 0.75, "{share}, {variant}");
    }
}

#[test]
fn zoneout_draws_masks_in_training_and_takes_their_mean_in_evaluation() {
    let (hidden, batch, steps) = (40, 4, 6);
    let zoneout = Zoneout { cell: 0.5, hidden: 0.25 };
    let config =
        LstmConfig { variant: CellOptions { zoneout, ..CellOptions::default() }, ..LstmConfig::new(3, hidden) };
    let lstm = Lstm::new(config).expect("a valid configuration");
    let mut params = Params::zeros(Arc::clone(lstm.layout()));
    lstm.initialise(&mut params, &Init::default(), 1);
    let rng = &mut Rng::new(3, Purpose::Init, 0);
    let input = single(&random(rng, steps * batch * 3));
    let mut initial = lstm.state(batch);
    initial.h = single(&random(rng, initial.h.len()));
    initial.c = single(&random(rng, initial.c.len()));
    let run = |seed_and_step: Option<(u64, u64)>| {
        let masks = |(seed, step)| Masks { seed, step, shard: 0, share: 1.0 };
        let dropout = seed_and_step.map(masks).map(|masks| Dropout {
            kind: DropoutKind::Standard,
            rate: 0.0,
            weights: 0.0,
            masks,
        });
        let (mut tape, mut state) = (lstm.tape(), initial.clone());
        lstm.forward(
            &params,
            &input,
            Segment { steps, batch, lengths: None, packed: None },
            &mut state,
            dropout,
            &mut tape,
        );
        (tape.hidden(0, 0).to_vec(), tape.cell(0, 0).to_vec())
    };
    let size = batch * hidden;
    // The share of units whose value is that of the step before.
    let held = |values: &[f32]| {
        let pairs = values.iter().zip(&values[size..]);
        pairs.filter(|(before, after)| before == after).count() as f32 / (values.len() - size) as f32
    };
    let (h, c) = run(Some((1, 0)));
    assert!((held(&h) - 0.25).abs() < 0.06 && (held(&c) - 0.5).abs() < 0.06, "{} {}", held(&h), held(&c));
    assert_eq!(run(Some((1, 0))), (h.clone(), c.clone()));
    assert_ne!(run(Some((1, 1))).1, c);
    assert_ne!(run(Some((2, 0))).1, c);

    let (mean_h, mean_c) = run(None);
    assert!(held(&mean_h) < 0.01 && held(&mean_c) < 0.01);
    // The first step starts from the same state every time, so its states are linear in the masks.
    let draws = 400;
    let (mut sum_h, mut sum_c) = (vec![0.0; size], vec![0.0; size]);
    for step in 0..draws {
        let (h, c) = run(Some((1, step)));
        sum_h.iter_mut().zip(&h).for_each(|(sum, h)| *sum += h / draws as f32);
        sum_c.iter_mut().zip(&c).for_each(|(sum, c)| *sum += c / draws as f32);
    }
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / size as f32;
    assert!(distance(&sum_h, &mean_h) < 0.02 && distance(&sum_c, &mean_c) < 0.02);
}

#[test]
fn dropped_recurrent_weights_are_as_if_they_were_zero() {
    let config = LstmConfig { layers: 2, bidirectional: true, projection: Some(4), ..LstmConfig::new(3, 7) };
    let lstm = Lstm::new(config).expect("a valid configuration");
    let mut params = Params::zeros(Arc::clone(lstm.layout()));
    lstm.initialise(&mut params, &Init::default(), 1);
    let segment = Segment { steps: 5, batch: 2, lengths: None, packed: None };
    let rng = &mut Rng::new(3, Purpose::Init, 0);
    let input = single(&random(rng, 5 * 2 * 3));
    let d_output = single(&random(rng, 5 * 2 * 8));
    let run = |params: &Params, weights: f32, passes: usize| {
        let masks = Masks { seed: 1, step: 2, shard: 0, share: 1.0 };
        let dropout = Some(Dropout { kind: DropoutKind::Standard, rate: 0.0, weights, masks });
        let (mut tape, mut gradients) = (lstm.tape(), Params::zeros(Arc::clone(lstm.layout())));
        for pass in 0..passes {
            let accumulate = Start::Zero.of_part(pass == 0);
            lstm.forward(params, &input, segment, &mut lstm.state(2), dropout, &mut tape);
            lstm.backward(params, &input, segment, &d_output, None, &mut tape, &mut gradients, accumulate);
        }
        (tape.output().to_vec(), gradients)
    };
    let (output, gradients) = run(&params, 0.5, 1);
    // A weight that was dropped has no gradient, the others count twice.
    let mut left = params.clone();
    let recurrent: Vec<_> = lstm.layout().entries().iter().filter(|entry| entry.name.contains("weight_hh")).collect();
    for entry in &recurrent {
        let factors: Vec<f32> = gradients.get(entry.slot).iter().map(|d| if *d == 0.0 { 0.0 } else { 2.0 }).collect();
        let dropped = factors.iter().filter(|factor| **factor == 0.0).count();
        assert!(dropped > factors.len() / 4 && dropped < factors.len() * 3 / 4, "{}: {dropped}", entry.name);
        left.get_mut(entry.slot).iter_mut().zip(&factors).for_each(|(weight, factor)| *weight *= factor);
    }
    let (expected, mut plain) = run(&left, 0.0, 1);
    assert_eq!(output, expected);
    for entry in &recurrent {
        let kept = |weight: &f32| if *weight == 0.0 { 0.0 } else { 2.0 };
        let factors: Vec<f32> = left.get(entry.slot).iter().map(kept).collect();
        plain.get_mut(entry.slot).iter_mut().zip(&factors).for_each(|(d, factor)| *d *= factor);
    }
    assert_eq!(gradients, plain);
    let (_, twice) = run(&params, 0.5, 2);
    for (twice, once) in twice.values().iter().zip(gradients.values()) {
        assert!((twice - 2.0 * once).abs() <= 1e-5 * (1.0 + once.abs()), "{twice} and {once}");
    }
}
