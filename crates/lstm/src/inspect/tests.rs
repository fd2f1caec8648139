//! Gradients against differences, changes against what they say, and what units follow on the built-in language.

use super::cause::{embeddings, gradient, integrated};
use super::effect::{Change, Gate, What, ablate_all, effect};
use super::*;
use crate::model::{LanguageModel, LanguageModelConfig};
use crate::nn::config::{CellOptions, Init, InitScheme, Readout, Wiring};
use crate::nn::params::Params;
use crate::nn::precision::Weights;
use crate::run::preset::Preset;
use crate::run::saved::{ModelCard, Origin};
use crate::text::builtin::Grammar;
use crate::text::source::Source;
use crate::text::tokenizer::{Tokenizer, TokenizerKind, VocabularyOptions};

/// A run of the built-in language with random parameters, large enough for gates to differ.
fn run(change: impl FnOnce(&mut LanguageModelConfig)) -> LoadedRun {
    let source = Source::from_text(&Grammar::standard().sample(3, 0, 3_000));
    let options = VocabularyOptions { min_count: Some(1), ..VocabularyOptions::default() };
    let tokenizer = Tokenizer::build(TokenizerKind::Words, &source, options, false).unwrap();
    let mut config = Preset::Builtin.config();
    config.fit(tokenizer.vocabulary_size(), 3_000);
    (config.model.lstm.hidden, config.model.lstm.input, config.model.lstm.layers) = (7.into(), 5, 2);
    change(&mut config.model);
    let model = LanguageModel::new(config.model.clone()).unwrap();
    let params = model.initialise(&Init { scheme: InitScheme::Uniform(0.7), forget_bias: None }, 1);
    let (card, weights) = (ModelCard::default(), Weights::F32);
    LoadedRun { origin: Origin::File("model".into()), config, tokenizer, model, params, card, weights }
}

const TEXT: &str = "the dog near the cats sees a bird .\n";

/// The log-probability of `target` after `embedded`, by nothing but the pass forward.
fn log_probability(run: &LoadedRun, params: &Params, embedded: &[f32], target: u32) -> f64 {
    let steps = embedded.len() / run.model.config().embedding();
    let mut targets = vec![crate::text::batch::NO_TARGET; steps];
    targets[steps - 1] = target;
    let batch = Batch { steps, batch: 1, tokens: vec![0; steps], targets, fresh: true, ..Batch::default() };
    let (model, mut gradients) = (&run.model, run.model.gradients());
    let (mut state, mut tape) = (model.state(1), model.tape());
    -model.trace(params, &batch, embedded, &mut state, &mut tape, &mut gradients, &mut |_| ()).loss.mean()
}

#[test]
fn gradients_by_embeddings_gates_and_cells_are_those_of_differences() {
    let changes: [fn(&mut LanguageModelConfig); 6] = [
        |_| (),
        |config| config.lstm.wiring = Wiring::Scores,
        |config| config.lstm.wiring = Wiring::Skip,
        |config| config.lstm.readout = Readout::OutputGate,
        |config| config.lstm.projection = Some(4),
        |config| config.lstm.variant = CellOptions { peepholes: true, coupled: true, ..CellOptions::default() },
    ];
    for change in changes {
        let run = run(change);
        let ids = tokens(&run, TEXT).unwrap();
        let target = ids[6];
        let embedded = embeddings(&run, &row(start(&run), &ids[..6]).tokens);
        let found = gradient(&run, &embedded, target).unwrap();
        assert!((found.log_probability - log_probability(&run, &run.params, &embedded, target)).abs() < 1e-6);
        let difference = |at: &dyn Fn(f32) -> f64| (at(1.0 / 64.0) - at(-1.0 / 64.0)) * 32.0;
        for place in 0..embedded.len() {
            let expected = difference(&|by| {
                let mut changed = embedded.clone();
                changed[place] += by;
                log_probability(&run, &run.params, &changed, target)
            });
            assert!(
                (f64::from(found.embedding[place]) - expected).abs() < 3e-4,
                "{place}: {} {expected}",
                found.embedding[place]
            );
        }
        // The sum over all steps of a gate's gradient is that of its bias.
        for (layer, gates) in found.gates.iter().enumerate() {
            let width = run.model.config().lstm.variant.gates() * found.hidden[layer];
            for gate in 0..width {
                let sum: f64 = gates.iter().skip(gate).step_by(width).map(|d| f64::from(*d)).sum();
                let expected = difference(&|by| {
                    let mut params = run.params.clone();
                    params.by_name_mut(&format!("lstm.bias_ih_l{layer}")).unwrap()[gate] += by;
                    log_probability(&run, &params, &embedded, target)
                });
                assert!((sum - expected).abs() < 1e-3, "layer {layer} gate {gate}: {sum} {expected}");
            }
        }
        assert_eq!(found.cell.is_empty(), !run.model.config().lstm.variant.is_plain());
    }
}

/// A little more in a cell is a little more of i ∘ g: d c = d g-pre-activation / (i (1 − g²)), where that can be divided by.
#[test]
fn gradients_by_cells_are_those_behind_the_candidates() {
    for projection in [None, Some(4)] {
        let run = run(|config| config.lstm.projection = projection);
        let ids = tokens(&run, TEXT).unwrap();
        let inspection = Inspection::of(&run, &ids[..6]);
        let embedded = embeddings(&run, &row(start(&run), &ids[..6]).tokens);
        let found = gradient(&run, &embedded, ids[6]).unwrap();
        let mut compared = 0;
        for (layer, states) in inspection.layers.iter().enumerate() {
            for (at, (i, g)) in states.i.iter().zip(&states.g).enumerate() {
                let (step, unit, slope) = (at / 7, at % 7, i * (1.0 - g * g));
                if slope > 0.05 {
                    let expected = found.gates[layer][(step * 4 + 2) * 7 + unit] / slope;
                    assert!((found.cell[layer][at] - expected).abs() < 1e-4 + 1e-3 * expected.abs(), "{at}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 50, "{compared}");
    }
}

#[test]
fn integrated_gradients_add_up_to_the_difference() {
    let run = run(|_| ());
    let ids = tokens(&run, TEXT).unwrap();
    let embedded = embeddings(&run, &row(start(&run), &ids[..6]).tokens);
    let (added, error) = integrated(&run, &embedded, ids[6]).unwrap();
    let zeros = vec![0.0; embedded.len()];
    let [from, to] = [&zeros, &embedded].map(|embedded| log_probability(&run, &run.params, embedded, ids[6]));
    let sum: f64 = added.iter().map(|value| f64::from(*value)).sum();
    assert!((sum - (to - from)).abs() < 0.01 * (to - from).abs() + 1e-4, "{sum} {}", to - from);
    assert!(error < 0.01, "{error}");
}

#[test]
fn what_is_read_is_what_the_model_scores() {
    let run = run(|_| ());
    let ids = tokens(&run, TEXT).unwrap();
    let inspection = Inspection::of(&run, &ids);
    let mut state = run.model.state(1);
    let loss = run.model.evaluate(&run.params, &row(start(&run), &ids), &mut state, &mut run.model.tape(), None);
    assert!((inspection.loss().nll - loss.nll).abs() < 1e-3 && inspection.loss().tokens == loss.tokens);
    // h = o tanh c.
    let layer = &inspection.layers[1];
    let h = layer.o.iter().zip(&layer.c).map(|(o, c)| o * c.tanh());
    assert!(h.zip(&layer.h).all(|(expected, h)| (expected - h).abs() < 1e-5));
}

#[test]
fn a_change_holds_what_it_says_and_only_where_it_says() {
    let run = run(|_| ());
    let ids = tokens(&run, TEXT).unwrap();
    let change = |what, span| Change { layer: 1, what, span };
    // Before the span everything is as it was, to the bit; within it not.
    let found = effect(&run, &ids, &[change(What::Layer, Some((4, 6)))]).unwrap();
    assert_eq!(found.without.nats[..3], found.with.nats[..3]);
    assert!(found.without.nats[4..] != found.with.nats[4..] && found.with.perplexity() != found.without.perplexity());
    // A cell that is held stays where it is, through all of the text.
    let mut held = run_with(&run, |changed| super::effect::made(changed, 0, What::Cell(3, 2.5)));
    held.config = run.config.clone();
    let mut state = held.model.state(1);
    state.c[3] = 2.5;
    let mut tape = held.model.tape();
    let batch = Batch { fresh: false, ..row(start(&run), &ids) };
    held.model.read(&held.params, &batch, &mut state, &mut tape);
    assert!(tape.lstm().cell(0, 0).iter().skip(3).step_by(7).all(|c| *c == 2.5));
    // A gate that is held has its value at every step.
    for (gate, place, value) in [(Gate::I, 0, 0.25), (Gate::F, 1, 1.0), (Gate::G, 2, -0.5), (Gate::O, 3, 0.0)] {
        let held = run_with(&run, |changed| super::effect::made(changed, 1, What::Gate(gate, None, value)));
        held.model.read(&held.params, &row(start(&run), &ids), &mut held.model.state(1), &mut tape);
        for row in tape.lstm().gates(1, 0).chunks_exact(28) {
            assert!(row[place * 7..][..7].iter().all(|found| (found - value).abs() < 1e-6), "{gate:?} {row:?}");
        }
    }
    for (wrong, why) in [
        (Change { layer: 3, what: What::Layer, span: None }, "has 2"),
        (change(What::Unit(7), None), "unit 7"),
        (change(What::Gate(Gate::F, None, 1.5), None), "0 to 1"),
        (change(What::Layer, Some((5, 40))), "no part"),
    ] {
        let error = effect(&run, &ids, &[wrong]).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

fn run_with(run: &LoadedRun, change: impl FnOnce(&LoadedRun) -> Params) -> LoadedRun {
    let params = change(run);
    LoadedRun {
        origin: run.origin.clone(),
        config: run.config.clone(),
        tokenizer: run.tokenizer.clone(),
        model: run.model.clone(),
        params,
        card: ModelCard::default(),
        weights: Weights::F32,
    }
}

#[test]
fn the_loss_of_a_unit_costs_what_switching_it_off_costs() {
    let run = run(|_| ());
    let ids = tokens(&run, TEXT).unwrap();
    let ablated = ablate_all(&run, &ids).unwrap();
    assert_eq!(ablated.len(), 14);
    assert!(ablated.windows(2).all(|pair| pair[0].cost >= pair[1].cost));
    let first = ablated[0];
    let change = Change { layer: first.layer, what: What::Unit(first.unit), span: None };
    let found = effect(&run, &ids, &[change]).unwrap();
    assert!((found.with.perplexity() / first.perplexity - 1.0).abs() < 1e-4);
}

/// A small model trained for a moment on the built-in language knows what is open and what agrees with what.
#[test]
fn the_brackets_and_the_number_of_the_subject_are_found_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = crate::train::new_run::NewRun::new(None)
        .steps(1000)
        .with(|config| {
            (config.model.lstm.hidden, config.model.lstm.input) = (48.into(), 24);
            config.training.schedule.learning_rate = 0.01;
        })
        .begin(folder.path().join("run"))
        .unwrap();
    trainer.run(&mut |_| (), None).unwrap();
    let run = LoadedRun::open(&folder.path().join("run")).unwrap();
    let text = Grammar::standard().sample(9, 7, 4_000);
    let ids = tokens(&run, &text).unwrap();
    let inspection = Inspection::of(&run, &ids);
    let followed = super::follow::follow(&run, &inspection, None).unwrap();
    for name in ["inside brackets", "inside double quotes", "number agreement"] {
        let found = followed.iter().find(|found| found.name.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        eprintln!(
            "{}: {:?} right {:?}, probe {:.3}, chance {:.3}",
            found.name, found.rule, found.rule_accuracy, found.probe, found.chance
        );
        // A half is chance.
        assert!(found.probe > 0.75, "{name}: {}", found.probe);
        assert!(found.rule_accuracy.unwrap() > 0.6, "{name}: {:?}", found.rule_accuracy);
    }
}
