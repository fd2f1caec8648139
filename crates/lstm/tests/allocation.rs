//! After its first steps, training allocates nothing, and neither does a stream of tokens. A program of its own: it counts
//! what the whole process asks the system for.

use std::alloc::System;

use lstm::model::penalty::Penalties;
use lstm::model::{LanguageModel, LanguageModelConfig};
use lstm::nn::config::{CellOptions, Init, LstmConfig, Readout, Wiring, Zoneout};
use lstm::nn::dropout::{DropoutKind, DropoutRates, Masks};
use lstm::optim::muon::MuonSettings;
use lstm::optim::optimizer::{Optimizer, OptimizerKind};
use lstm::text::batch::Batch;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn asked_for(run: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    run();
    let stats = region.change();
    stats.allocations + stats.reallocations
}

/// The least that one of several repetitions of `run` asks for. A thread sizes its scratch when it gets its first task, and on a
/// machine at other work that may be many steps after the first.
fn asked_for_at_last(mut run: impl FnMut()) -> usize {
    (0..10).map(|_| asked_for(&mut run)).find(|count| *count == 0).unwrap_or_else(|| asked_for(run))
}

#[test]
fn nothing_is_allocated_after_the_first_steps() {
    let dropout = DropoutRates::all(0.3);
    let plain = LanguageModelConfig::of(2_000, LstmConfig { layers: 2, ..LstmConfig::new(40, 72) });
    let (wiring, readout) = (Wiring::Scores, Readout::OutputGate);
    let awd = LanguageModelConfig {
        tied: true,
        dropout: DropoutRates { kind: DropoutKind::Locked, embedding: 0.1, weights: 0.5, ..dropout },
        penalties: Penalties { activation: 2.0, temporal: 1.0, label_smoothing: 0.1 },
        lstm: LstmConfig { layers: 3, hidden: vec![72, 72, 50].into(), residual: true, ..plain.lstm.clone() },
        ..plain.clone()
    };
    let zoneout = Zoneout { cell: 0.3, hidden: 0.1 };
    let variant = CellOptions {
        peepholes: true,
        coupled: true,
        layer_norm: true,
        zoneout,
        mogrify: 3,
        mogrify_rank: Some(2),
        ..CellOptions::default()
    };
    for (config, kind) in [
        (plain.clone(), OptimizerKind::Sgd),
        (LanguageModelConfig { dropout, ..plain.clone() }, OptimizerKind::Adam),
        (
            LanguageModelConfig {
                dropout,
                lstm: LstmConfig { wiring: Wiring::Skip, ..plain.lstm.clone() },
                ..plain.clone()
            },
            OptimizerKind::Sgd,
        ),
        (
            LanguageModelConfig { lstm: LstmConfig { wiring, readout, ..plain.lstm.clone() }, ..plain.clone() },
            OptimizerKind::Adam,
        ),
        (awd.clone(), OptimizerKind::Sgd),
        (
            LanguageModelConfig {
                dropout,
                lstm: LstmConfig { variant, projection: Some(30), ..plain.lstm.clone() },
                ..plain.clone()
            },
            OptimizerKind::Muon,
        ),
        (LanguageModelConfig { lstm: LstmConfig { variant, ..awd.lstm.clone() }, ..awd }, OptimizerKind::Sgd),
        (LanguageModelConfig { softmaxes: 3, tied: true, dropout, ..plain.clone() }, OptimizerKind::Sgd),
    ] {
        let case = format!("{config:?} {kind}");
        let model = LanguageModel::new(config).unwrap();
        let mut params = model.initialise(&Init::default(), 1);
        let (steps, rows) = (12, 20);
        let batch = |first: u32| Batch {
            steps,
            batch: rows,
            tokens: (0..(steps * rows) as u32).map(|i| (i * 7 + first) % 2_000).collect(),
            targets: (0..(steps * rows) as u32).map(|i| (i * 11 + first) % 2_000).collect(),
            lengths: None,
            fresh: false,
            ..Batch::default()
        };
        let batches: Vec<Batch> = (0..3).map(|first| batch(first * 500)).collect();
        let (mut state, mut tape, mut gradients) = (model.state(rows), model.tape(), model.gradients());
        let optimizer = Optimizer::new(kind, 0.0, params.values().len());
        let mut optimizer = optimizer.with_muon(model.layout(), MuonSettings::default(), 1.0);
        let mut train = |step: u64| {
            let batch = &batches[step as usize % batches.len()];
            let masks = Some(Masks { seed: 1, step, shard: 0, share: 1.0 });
            model.train_step(&params, batch, &mut state, masks, &mut tape, &mut gradients);
            optimizer.step_within(params.values_mut(), gradients.values(), gradients.ranges(), 0.1, Some(1.0));
        };
        assert!(asked_for(|| (0..6).for_each(&mut train)) > 0, "the first steps size the buffers");
        let count = asked_for_at_last(|| (6..12).for_each(&mut train));
        assert_eq!(count, 0, "{case}");

        let mut stream = model.stream(&params, 4).unwrap();
        stream.step(&[1, 2, 3, 4]);
        let count =
            asked_for_at_last(|| (0..5).for_each(|token| assert_eq!(stream.step(&[token; 4]).len(), 4 * 2_000)));
        assert_eq!(count, 0, "a stream, {case}");
    }
}
