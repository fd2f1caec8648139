//! The gradient of a training step against central differences of what it descends, for every choice of a model.

use super::tests::{batch, config};
use super::*;
use crate::model::Lesson;
use crate::model::penalty::Penalties;
use crate::nn::config::{CellOptions, InitScheme, LstmConfig, Readout, Wiring, Zoneout};
use crate::nn::dropout::{DropoutKind, DropoutRates};
use crate::text::batch::NO_TARGET;

/// The objective that the last training step descended, from its values, in double precision.
fn objective(model: &LanguageModel, params: &Params, tape: &LanguageTape, batch: &Batch, loss: Loss) -> f64 {
    let config = model.config();
    let Penalties { activation, temporal, label_smoothing } = config.penalties;
    let double = |values: &[f32]| -> Vec<f64> { values.iter().map(|&value| f64::from(value)).collect() };
    let square = |value: f64| value * value;
    let (output, width) = (double(tape.lstm.output()), model.lstm.output_size());
    let read = double(tape.readout.positions.outputs(tape.lstm.output()));
    let mut total = loss.mean();
    total += f64::from(activation) * read.iter().map(|&h| square(h)).sum::<f64>() / read.len() as f64;
    let (mut changes, mut count) = (0.0, 0);
    for row in 0..batch.batch {
        let length = batch.lengths.as_ref().map_or(batch.steps, |lengths| lengths[row]);
        for step in 1..length {
            let at = |step: usize, unit: usize| output[(step * batch.batch + row) * width + unit];
            changes += (0..width).map(|unit| square(at(step, unit) - at(step - 1, unit))).sum::<f64>();
            count += width;
        }
    }
    total += f64::from(temporal) * changes / count.max(1) as f64;
    let softmax = model.readout.softmax;
    let vectors = &tape.readout.head.vectors;
    let read = if vectors.is_empty() { read } else { double(vectors) };
    let (weight, bias) = (double(params.get(softmax.weight)), double(params.get(softmax.bias)));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for (row, &target) in read.chunks(softmax.width).zip(&tape.readout.positions.targets) {
        let logits: Vec<f64> = weight.chunks(row.len()).zip(&bias).map(|(w, b)| dot(row, w) + b).collect();
        let mean = logits.iter().sum::<f64>() / logits.len() as f64;
        total += f64::from(label_smoothing) * (logits[target as usize] - mean) / loss.tokens as f64;
    }
    if let Some(lesson) = &tape.readout.softmax.lesson {
        total = taught(lesson, &read, (&weight, &bias), loss, total);
    }
    total
}

/// The objective `total` of a step with this mean loss, of which the teachers' share is what they say.
fn taught(lesson: &Lesson, read: &[f64], (weight, bias): (&[f64], &[f64]), loss: Loss, total: f64) -> f64 {
    let (alpha, top, width) = (f64::from(lesson.weight()), lesson.top(), weight.len() / bias.len());
    let mut said = 0.0;
    for (row, at) in read.chunks(width).zip(0..) {
        let dot = |w: &[f64]| w.iter().zip(row).map(|(a, b)| a * b).sum::<f64>();
        let scores: Vec<f64> = weight.chunks(width).zip(bias).map(|(w, b)| (dot(w) + b).exp()).collect();
        let (ids, shares) = lesson.row(at);
        let whole: f64 = scores.iter().sum();
        let named: f64 = ids.iter().map(|&id| scores[id as usize]).sum();
        let left = 1.0 - shares.iter().map(|q| f64::from(*q)).sum::<f64>();
        said -= ids.iter().zip(shares).map(|(&id, q)| f64::from(*q) * (scores[id as usize] / whole).ln()).sum::<f64>();
        said -= left * ((whole - named) / whole).ln();
        assert_eq!(ids.len(), top);
    }
    total - alpha * loss.mean() + alpha * said / loss.tokens as f64
}

/// The whole gradient against central differences of what a training step descends.
fn assert_gradient(config: LanguageModelConfig, batch: &Batch) {
    assert_sampled_gradient(config, batch, None);
}

/// The same of a step that scores what a sampler draws.
fn assert_sampled_gradient(config: LanguageModelConfig, batch: &Batch, sampler: Option<&Arc<Sampler>>) {
    assert_taught_gradient(config, batch, sampler, None);
}

/// The same of a step with a lesson.
fn assert_taught_gradient(
    config: LanguageModelConfig,
    batch: &Batch,
    sampler: Option<&Arc<Sampler>>,
    lesson: Option<Lesson>,
) {
    let masks = Some(Masks { seed: 2, step: 5, shard: 0, share: 1.0 });
    let model = LanguageModel::new(config).unwrap();
    let mut params = model.initialise(&Init { scheme: InitScheme::Uniform(0.5), forget_bias: None }, 1);
    let mut tape = model.tape();
    tape.sample(sampler);
    *tape.lesson() = lesson;
    let mut state = model.state(batch.batch);
    let mut gradients = model.gradients();
    // What was in the buffer must not matter.
    gradients.touch(0..model.config.vocabulary as u32);
    gradients.params_mut().values_mut().fill(f32::NAN);
    let loss = model.train_step(&params, batch, &mut state, masks, &mut tape, &mut gradients);
    assert_eq!(loss.tokens, batch.targets.iter().filter(|&&target| target != NO_TARGET).count());
    let mut scratch = model.gradients();
    for i in 0..params.values().len() {
        let value = params.values()[i];
        let mut at = |x: f32| {
            params.values_mut()[i] = x;
            let loss = model.train_step(&params, batch, &mut state, masks, &mut tape, &mut scratch);
            objective(&model, &params, &tape, batch, loss)
        };
        let mut difference = |step: f32| (at(value + step) - at(value - step)) / f64::from(2.0 * step);
        // Of normalised values, which may be small before they are, the loss bends much more: two finer differences, whose
        // error is of the fourth order, and more rounding.
        let (expected, tolerance) = match model.config.lstm.variant.layer_norm {
            true => {
                let [coarse, fine] = [1.0 / 2048.0, 1.0 / 4096.0].map(&mut difference);
                ((4.0 * fine - coarse) / 3.0, 3e-3)
            }
            false => (difference(1.0 / 128.0), 2e-4),
        };
        params.values_mut()[i] = value;
        let actual = f64::from(gradients.values()[i]);
        assert!((actual - expected).abs() < tolerance, "parameter {i}: {actual}, difference {expected}");
    }
}

#[test]
fn the_gradient_is_that_of_the_mean_loss() {
    assert_gradient(config(), &batch(4, 3, 7, false));
}

#[test]
fn the_gradient_holds_for_every_wiring_and_readout() {
    for wiring in [Wiring::Stacked, Wiring::Skip, Wiring::Scores] {
        for readout in [Readout::Hidden, Readout::OutputGate] {
            let config = LanguageModelConfig {
                lstm: LstmConfig { wiring, readout, projection: Some(2), ..config().lstm },
                ..config()
            };
            assert_gradient(config, &batch(3, 2, 7, false));
        }
    }
}

#[test]
fn the_gradient_holds_under_dropout_and_with_places_that_predict_nothing() {
    let mut window = batch(4, 3, 7, false);
    window.targets[..9].fill(NO_TARGET);
    assert_gradient(config(), &window);
    for kind in [DropoutKind::Standard, DropoutKind::Locked] {
        let dropout = DropoutRates { kind, input: 0.2, hidden: 0.4, output: 0.5, ..Default::default() };
        let config = LanguageModelConfig { dropout, ..config() };
        for batch in [&window, &batch(4, 3, 7, true), &batch(4, 3, 7, false)] {
            assert_gradient(config.clone(), batch);
        }
        let gates = LanguageModelConfig {
            lstm: LstmConfig { readout: Readout::OutputGate, wiring: Wiring::Scores, ..config.lstm.clone() },
            ..config
        };
        assert_gradient(gates, &batch(4, 3, 7, true));
    }
}

#[test]
fn the_gradient_holds_without_some_words_and_recurrent_weights() {
    let words = DropoutRates { embedding: 0.4, ..Default::default() };
    let weights = DropoutRates { weights: 0.4, ..Default::default() };
    let all = DropoutRates { embedding: 0.4, weights: 0.4, kind: DropoutKind::Locked, ..DropoutRates::all(0.3) };
    for dropout in [words, weights, all] {
        for (tied, projection) in [(false, None), (true, None), (false, Some(2))] {
            let config =
                LanguageModelConfig { dropout, tied, lstm: LstmConfig { projection, ..config().lstm }, ..config() };
            assert_gradient(config, &batch(4, 3, 7, tied));
        }
    }
}

#[test]
fn the_gradient_holds_under_every_penalty() {
    let none = Penalties::default();
    let activation = Penalties { activation: 2.0, ..none };
    let temporal = Penalties { temporal: 3.0, ..none };
    let label_smoothing = Penalties { label_smoothing: 0.3, ..none };
    let all = Penalties { activation: 2.0, temporal: 3.0, label_smoothing: 0.3 };
    let dropout = DropoutRates { kind: DropoutKind::Locked, ..DropoutRates::all(0.4) };
    let mut lines = batch(4, 3, 7, false);
    lines.lengths = Some(vec![4, 1, 0]);
    (0..12).filter(|place| place / 3 >= [4, 1, 0][place % 3]).for_each(|place| lines.targets[place] = NO_TARGET);
    for penalties in [activation, temporal, label_smoothing, all] {
        let plain = LanguageModelConfig { penalties, ..config() };
        assert_gradient(plain.clone(), &batch(4, 3, 7, false));
        assert_gradient(plain.clone(), &lines);
        assert_gradient(LanguageModelConfig { tied: true, dropout, ..plain.clone() }, &batch(4, 3, 7, true));
        let gates =
            LanguageModelConfig { lstm: LstmConfig { readout: Readout::OutputGate, ..plain.lstm.clone() }, ..plain };
        assert_gradient(gates, &batch(4, 3, 7, true));
    }
}

#[test]
fn the_gradient_holds_for_layers_of_different_sizes_and_residual_connections() {
    let dropout = DropoutRates { kind: DropoutKind::Locked, weights: 0.3, ..DropoutRates::all(0.3) };
    for (sizes, residual) in [(vec![5, 4, 3], false), (vec![4, 4, 3], true), (vec![3, 5, 5], true)] {
        let config = LanguageModelConfig {
            tied: true,
            lstm: LstmConfig { layers: 3, residual, hidden: sizes.into(), ..config().lstm },
            ..config()
        };
        assert_gradient(config.clone(), &batch(4, 3, 7, false));
        assert_gradient(LanguageModelConfig { dropout, ..config }, &batch(4, 3, 7, true));
    }
}

#[test]
fn the_gradient_of_a_tied_table_is_the_sum_of_both_uses() {
    let dropout = DropoutRates { kind: DropoutKind::Locked, ..DropoutRates::all(0.4) };
    for (embedding, projection) in [(5, None), (3, None), (3, Some(3)), (6, Some(2))] {
        let config = LanguageModelConfig {
            tied: true,
            lstm: LstmConfig { input: embedding, projection, ..config().lstm },
            ..config()
        };
        assert_gradient(config.clone(), &batch(4, 3, 7, false));
        assert_gradient(LanguageModelConfig { dropout, ..config.clone() }, &batch(4, 3, 7, true));
        assert_gradient(
            LanguageModelConfig { lstm: LstmConfig { wiring: Wiring::Scores, ..config.lstm.clone() }, ..config },
            &batch(3, 2, 7, true),
        );
    }
}

#[test]
fn the_gradient_holds_for_lines_of_different_lengths() {
    let mut lines = batch(4, 3, 7, false);
    let lengths = [4, 1, 0];
    for place in 0..12 {
        if place / 3 >= lengths[place % 3] {
            lines.targets[place] = NO_TARGET;
        }
    }
    lines.lengths = Some(lengths.to_vec());
    assert_gradient(config(), &lines);
    let dropout = DropoutRates { kind: DropoutKind::Locked, ..DropoutRates::all(0.4) };
    assert_gradient(LanguageModelConfig { dropout, ..config() }, &lines);
}

#[test]
fn the_gradient_holds_for_a_sampled_softmax() {
    let sampler = Arc::new(Sampler::new(&[9, 1, 5, 0, 3, 2, 7], 3));
    let dropout = DropoutRates { kind: DropoutKind::Locked, ..DropoutRates::all(0.4) };
    for (embedding, tied) in [(3, false), (5, true), (3, true)] {
        let config = LanguageModelConfig { tied, lstm: LstmConfig { input: embedding, ..config().lstm }, ..config() };
        assert_sampled_gradient(config.clone(), &batch(4, 3, 7, false), Some(&sampler));
        assert_sampled_gradient(LanguageModelConfig { dropout, ..config }, &batch(2, 2, 7, true), Some(&sampler));
    }
}

#[test]
fn the_gradient_holds_with_teachers() {
    let dropout = DropoutRates { kind: DropoutKind::Locked, ..DropoutRates::all(0.3) };
    let penalties = Penalties { activation: 2.0, temporal: 3.0, label_smoothing: 0.0 };
    let mut some = batch(4, 3, 7, false);
    some.targets[..5].fill(NO_TARGET);
    for (tied, top, weight) in [(false, 3, 0.5), (true, 1, 1.0), (false, 6, 0.2)] {
        let lesson = |batch: &Batch| {
            let mut lesson = Lesson::default();
            lesson.begin(weight, top);
            for row in batch.targets.iter().filter(|target| **target != NO_TARGET).zip(0u32..).map(|(_, row)| row) {
                let ids: Vec<u32> = (0..top as u32).map(|k| (row + k) % 7).collect();
                let shares: Vec<f32> = (0..top).map(|k| 0.4 / (1 << k) as f32).collect();
                lesson.add(&ids, &shares);
            }
            Some(lesson)
        };
        let plain = LanguageModelConfig { tied, lstm: LstmConfig { input: 5, ..config().lstm }, ..config() };
        let whole = batch(4, 3, 7, false);
        assert_taught_gradient(plain.clone(), &whole, None, lesson(&whole));
        assert_taught_gradient(LanguageModelConfig { dropout, penalties, ..plain }, &some, None, lesson(&some));
    }
}

#[test]
fn the_gradient_holds_for_a_mixture_of_softmaxes() {
    let sampler = Arc::new(Sampler::new(&[9, 1, 5, 0, 3, 2, 7], 3));
    let dropout = DropoutRates { kind: DropoutKind::Locked, weights: 0.3, ..DropoutRates::all(0.3) };
    let penalties = Penalties { activation: 2.0, temporal: 3.0, label_smoothing: 0.0 };
    for (embedding, tied, softmaxes) in [(3, false, 2), (5, true, 3), (3, true, 4)] {
        let config =
            LanguageModelConfig { tied, softmaxes, lstm: LstmConfig { input: embedding, ..config().lstm }, ..config() };
        assert_gradient(config.clone(), &batch(4, 3, 7, false));
        assert_gradient(LanguageModelConfig { dropout, penalties, ..config.clone() }, &batch(4, 3, 7, true));
        assert_sampled_gradient(
            LanguageModelConfig { dropout, ..config.clone() },
            &batch(2, 2, 7, true),
            Some(&sampler),
        );
        let (wiring, readout) = (Wiring::Scores, Readout::OutputGate);
        assert_gradient(
            LanguageModelConfig {
                lstm: LstmConfig { wiring, readout, projection: Some(2), ..config.lstm.clone() },
                ..config
            },
            &batch(3, 2, 7, true),
        );
    }
}

#[test]
fn the_gradient_holds_for_every_variant_under_the_masks_of_zoneout() {
    let zoneout = Zoneout { cell: 0.4, hidden: 0.3 };
    let plain = CellOptions::default();
    let dropout = DropoutRates { kind: DropoutKind::Locked, weights: 0.3, ..DropoutRates::all(0.3) };
    let penalties = Penalties { activation: 2.0, temporal: 3.0, label_smoothing: 0.3 };
    for variant in [
        CellOptions { zoneout: Zoneout { hidden: 0.0, ..zoneout }, ..plain },
        CellOptions { zoneout: Zoneout { cell: 0.0, ..zoneout }, ..plain },
        CellOptions { coupled: true, zoneout, ..plain },
        CellOptions { peepholes: true, zoneout, ..plain },
        CellOptions { layer_norm: true, zoneout, ..plain },
        CellOptions { mogrify: 5, ..plain },
        CellOptions { mogrify: 2, zoneout, ..plain },
        CellOptions { exponential: true, zoneout: Zoneout { cell: 0.0, ..zoneout }, ..plain },
        CellOptions { exponential: true, mogrify: 3, ..plain },
        CellOptions {
            peepholes: true,
            coupled: true,
            layer_norm: true,
            zoneout,
            mogrify: 3,
            mogrify_rank: Some(2),
            ..CellOptions::default()
        },
    ] {
        let config = LanguageModelConfig { lstm: LstmConfig { variant, ..config().lstm }, ..config() };
        assert_gradient(config.clone(), &batch(4, 3, 7, false));
        assert_gradient(
            LanguageModelConfig { dropout, penalties, tied: true, ..config.clone() },
            &batch(4, 3, 7, true),
        );
        // A mogrified layer has no input of scores.
        let wiring = if variant.mogrify > 0 { Wiring::Skip } else { Wiring::Scores };
        let readout = Readout::OutputGate;
        assert_gradient(
            LanguageModelConfig {
                lstm: LstmConfig { wiring, readout, projection: Some(3), ..config.lstm.clone() },
                ..config
            },
            &batch(3, 2, 7, true),
        );
    }
}
