use super::*;
use crate::model::penalty::Penalties;
use crate::model::readout::SLAB;
use crate::nn::config::{CellOptions, InitScheme, LstmConfig, Zoneout};
use crate::nn::dropout::DropoutRates;
use crate::rng::{Purpose, Rng};
use crate::text::batch::NO_TARGET;

pub(super) fn config() -> LanguageModelConfig {
    LanguageModelConfig::of(7, LstmConfig { layers: 2, ..LstmConfig::new(3, 5) })
}

/// Everything a cell can have beyond the plain one.
fn variant() -> CellOptions {
    let zoneout = Zoneout { cell: 0.3, hidden: 0.1 };
    CellOptions {
        peepholes: true,
        coupled: true,
        layer_norm: true,
        zoneout,
        mogrify: 3,
        mogrify_rank: Some(2),
        ..CellOptions::default()
    }
}

/// Random ids; every third place of `[T, B]` predicts nothing when `sparse`.
pub(super) fn batch(steps: usize, batch: usize, vocabulary: usize, sparse: bool) -> Batch {
    let mut rng = Rng::new(11, Purpose::Shuffle, 0);
    let mut ids = || -> Vec<u32> { (0..steps * batch).map(|_| rng.below(vocabulary) as u32).collect() };
    let (tokens, mut targets) = (ids(), ids());
    if sparse {
        targets.iter_mut().step_by(3).for_each(|target| *target = NO_TARGET);
    }
    Batch { steps, batch, tokens, targets, lengths: None, fresh: true, ..Batch::default() }
}

#[test]
fn evaluation_and_the_reported_loss_know_no_regularisation() {
    let plain = LanguageModel::new(config()).unwrap();
    let penalties = Penalties { activation: 2.0, temporal: 3.0, label_smoothing: 0.3 };
    let dropout = DropoutRates { embedding: 0.4, weights: 0.4, ..DropoutRates::all(0.5) };
    let regularised = LanguageModel::new(LanguageModelConfig { penalties, dropout, ..config() }).unwrap();
    let params = plain.initialise(&Init::default(), 1);
    let batch = batch(5, 2, 7, true);
    let evaluate =
        |model: &LanguageModel| model.evaluate(&params, &batch, &mut model.state(2), &mut model.frozen_tape(), None);
    assert_eq!(evaluate(&plain), evaluate(&regularised));
    // Without masks only the penalties are left, and they are not reported.
    let train = |masks| {
        let (mut state, mut tape, mut gradients) = (plain.state(2), plain.tape(), plain.gradients());
        regularised.train_step(&params, &batch, &mut state, masks, &mut tape, &mut gradients)
    };
    assert_eq!(train(None), evaluate(&plain));
    assert_ne!(train(Some(Masks { seed: 1, step: 0, shard: 0, share: 1.0 })), evaluate(&plain));
}

#[test]
fn a_tied_model_has_one_table_and_a_projection_where_sizes_differ() {
    let model = |embedding| {
        let config =
            LanguageModelConfig { tied: true, lstm: LstmConfig { input: embedding, ..config().lstm }, ..config() };
        LanguageModel::new(config).unwrap()
    };
    let shape = |model: &LanguageModel, name: &str| {
        let entry = model.layout().entries().iter().find(|entry| entry.name == name);
        entry.map(|entry| entry.shape.clone())
    };
    let (same, other) = (model(5), model(3));
    for model in [&same, &other] {
        assert_eq!(shape(model, "readout.weight"), None);
        assert_eq!(shape(model, "readout.bias"), Some(vec![7]));
        let params = model.initialise(&Init::default(), 1);
        let bound = 1.0 / (model.config.embedding() as f32).sqrt();
        assert!(params.by_name("embedding.weight").unwrap().iter().all(|value| value.abs() <= bound));
    }
    assert_eq!(shape(&same, "readout_projection.weight"), None);
    assert_eq!(shape(&other, "readout_projection.weight"), Some(vec![3, 5]));
}

#[test]
fn a_mixture_has_a_prior_and_latent_vectors_of_the_embeddings_size() {
    for (tied, readout) in [(false, Some(vec![7, 3])), (true, None)] {
        let model = LanguageModel::new(LanguageModelConfig { softmaxes: 4, tied, ..config() }).unwrap();
        let shape = |name: &str| {
            let entry = model.layout().entries().iter().find(|entry| entry.name == name);
            entry.map(|entry| entry.shape.clone())
        };
        assert_eq!(shape("mixture_prior.weight"), Some(vec![4, 5]));
        assert_eq!(shape("mixture_latent.weight"), Some(vec![12, 5]));
        assert_eq!((shape("readout.weight"), shape("readout_projection.weight")), (readout, None));
        let params = model.initialise(&Init::default(), 1);
        for name in ["mixture_prior.weight", "mixture_latent.weight"] {
            let values = params.by_name(name).unwrap();
            assert!(values.iter().all(|value| value.abs() <= 1.0 / 5f32.sqrt() && *value != 0.0), "{name}");
        }
    }
}

#[test]
fn a_batch_that_predicts_nothing_has_no_loss_and_no_gradient() {
    let model = LanguageModel::new(config()).unwrap();
    let params = model.initialise(&Init::default(), 1);
    let mut nothing = batch(2, 2, 7, false);
    nothing.targets.fill(NO_TARGET);
    for softmaxes in [1, 3] {
        let tied = LanguageModel::new(LanguageModelConfig { tied: true, softmaxes, ..config() }).unwrap();
        let values = tied.initialise(&Init::default(), 1);
        let mut gradients = tied.gradients();
        gradients.params_mut().values_mut().fill(1.0);
        tied.train_step(&values, &nothing, &mut tied.state(2), None, &mut tied.tape(), &mut gradients);
        assert!(gradients.values().iter().all(|&gradient| gradient == 0.0));
    }
    let mut gradients = model.gradients();
    gradients.touch(0..7);
    gradients.params_mut().values_mut().fill(1.0);
    let (mut state, mut tape) = (model.state(2), model.tape());
    let loss = model.train_step(&params, &nothing, &mut state, None, &mut tape, &mut gradients);
    assert_eq!(loss, Loss::default());
    assert!(gradients.values().iter().all(|&gradient| gradient == 0.0));
}

#[test]
fn evaluation_agrees_with_training_and_with_the_scores() {
    evaluation_agrees(config());
    evaluation_agrees(LanguageModelConfig { tied: true, ..config() });
    evaluation_agrees(LanguageModelConfig { lstm: LstmConfig { variant: variant(), ..config().lstm }, ..config() });
    evaluation_agrees(LanguageModelConfig { softmaxes: 4, ..config() });
    evaluation_agrees(LanguageModelConfig { softmaxes: 2, tied: true, ..config() });
}

#[test]
fn a_mixture_of_softmaxes_that_are_all_the_same_is_one_softmax() {
    let config = LanguageModelConfig { lstm: LstmConfig { input: 5, ..config().lstm }, ..config() };
    let mixture = LanguageModel::new(LanguageModelConfig { softmaxes: 3, ..config.clone() }).unwrap();
    let mut params = mixture.initialise(&Init::default(), 1);
    // Latent vectors that are a thousandth of the output, for which tanh changes nothing.
    let scale = 1.0 / 1024.0;
    for (row, weights) in params.by_name_mut("mixture_latent.weight").unwrap().chunks_exact_mut(5).enumerate() {
        weights.fill(0.0);
        weights[row % 5] = scale;
    }
    let single = LanguageModel::new(config).unwrap();
    let mut same = Params::zeros(single.layout().clone());
    for entry in single.layout().entries() {
        same.by_name_mut(&entry.name).unwrap().copy_from_slice(params.by_name(&entry.name).unwrap());
    }
    params.by_name_mut("readout.weight").unwrap().iter_mut().for_each(|weight| *weight /= scale);
    let batch = batch(5, 2, 7, true);
    let evaluate = |model: &LanguageModel, params: &Params| {
        model.evaluate(params, &batch, &mut model.state(2), &mut model.tape(), None).mean()
    };
    let (of_mixture, of_one) = (evaluate(&mixture, &params), evaluate(&single, &same));
    assert!((of_mixture - of_one).abs() < 1e-5, "{of_mixture} and {of_one}");
}

fn evaluation_agrees(config: LanguageModelConfig) {
    let model = LanguageModel::new(config).unwrap();
    let params = model.initialise(&Init::default(), 1);
    let mut gradients = model.gradients();
    let batch = batch(5, 2, 7, true);
    let (mut state, mut tape) = (model.state(2), model.tape());
    let trained = model.train_step(&params, &batch, &mut state, None, &mut tape, &mut gradients);
    let mut surprisal = Vec::new();
    assert!(tape.ranks().is_empty());
    tape.rank();
    let evaluated = model.evaluate(&params, &batch, &mut state, &mut tape, Some(&mut surprisal));
    assert_eq!(trained, evaluated);
    assert_eq!(surprisal.len(), evaluated.tokens);

    assert_eq!(tape.ranks().len(), evaluated.tokens);
    let mut expected = surprisal.iter().zip(tape.ranks());
    let mut stream = model.stream(&params, 2).unwrap();
    for (tokens, targets) in batch.tokens.chunks(2).zip(batch.targets.chunks(2)) {
        let logits = stream.step(tokens);
        for (logits, &target) in logits.chunks(7).zip(targets) {
            if target != NO_TARGET {
                let total: f32 = logits.iter().map(|logit| logit.exp()).sum();
                let nll = total.ln() - logits[target as usize];
                let (expected, rank) = expected.next().unwrap();
                assert!((nll - expected).abs() < 1e-5);
                let likelier = logits.iter().filter(|logit| **logit > logits[target as usize]).count();
                assert_eq!(likelier + 1, *rank as usize);
            }
        }
    }
}

#[test]
fn state_is_carried_unless_the_batch_is_fresh() {
    let model = LanguageModel::new(config()).unwrap();
    let params = model.initialise(&Init::default(), 1);
    let (whole, mut tape) = (batch(6, 2, 7, false), model.tape());
    let expected = model.evaluate(&params, &whole, &mut model.state(2), &mut tape, None);
    let mut state = model.state(2);
    let mut sum = Loss::default();
    for part in [0..8, 8..12] {
        let piece = Batch {
            steps: part.len() / 2,
            batch: 2,
            tokens: whole.tokens[part.clone()].to_vec(),
            targets: whole.targets[part].to_vec(),
            lengths: None,
            fresh: false,
            ..Batch::default()
        };
        sum.add(model.evaluate(&params, &piece, &mut state, &mut tape, None));
    }
    assert!((sum.nll - expected.nll).abs() < 1e-5 * expected.nll, "{sum:?} {expected:?}");
    // A fresh batch ignores the state it finds, and its number of rows.
    let mut other = model.state(5);
    other.h.fill(3.0);
    assert_eq!(model.evaluate(&params, &whole, &mut state, &mut tape, None), expected);
    assert_eq!(model.evaluate(&params, &whole, &mut other, &mut tape, None), expected);
    assert_eq!(state, other);
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let dropout = DropoutRates::all(0.2);
    let config = LanguageModelConfig {
        vocabulary: 301,
        dropout,
        lstm: LstmConfig { hidden: 33.into(), input: 17, ..config().lstm },
        ..config()
    };
    assert_same_bits(config.clone());
    assert_same_bits(LanguageModelConfig { softmaxes: 3, ..config.clone() });
    // Large enough for the shares of a variant's rows and weights.
    for projection in [None, Some(40)] {
        assert_same_bits(LanguageModelConfig {
            lstm: LstmConfig { variant: variant(), hidden: 260.into(), projection, ..config.lstm.clone() },
            ..config.clone()
        });
    }
}

fn assert_same_bits(config: LanguageModelConfig) {
    let batch = batch(9, 7, 301, true);
    let run = |threads| {
        lstm_kernels::with_threads(threads, || {
            let model = LanguageModel::new(config.clone()).unwrap();
            let params = model.initialise(&Init::default(), 1);
            let mut gradients = model.gradients();
            let (mut state, mut tape) = (model.state(7), model.tape());
            let masks = Some(Masks { seed: 1, step: 0, shard: 0, share: 1.0 });
            let loss = model.train_step(&params, &batch, &mut state, masks, &mut tape, &mut gradients);
            (loss, gradients.params().clone(), state)
        })
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1), run(3));
}

#[test]
fn a_large_vocabulary_needs_no_more_than_a_slab_of_scores() {
    // WikiText-2's vocabulary: all logits of this batch would take 93 MB.
    let config = LanguageModelConfig {
        vocabulary: 33_278,
        lstm: LstmConfig { hidden: 4.into(), input: 4, layers: 1, ..config().lstm },
        ..config()
    };
    for softmaxes in [1, 3] {
        let model = LanguageModel::new(LanguageModelConfig { softmaxes, ..config.clone() }).unwrap();
        let params = model.initialise(&Init::default(), 1);
        let mut gradients = model.gradients();
        let batch = batch(35, 20, 33_278, false);
        let (mut state, mut tape) = (model.state(20), model.tape());
        let loss = model.train_step(&params, &batch, &mut state, None, &mut tape, &mut gradients);
        assert!(tape.readout.softmax.logits.capacity() <= SLAB);
        assert!((loss.mean() - 33_278f64.ln()).abs() < 0.5, "{}", loss.mean());
    }
}

#[test]
fn names_shapes_and_initial_values_are_as_documented() {
    let model = LanguageModel::new(config()).unwrap();
    let names: Vec<&str> = model.layout().entries().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names[..2], ["embedding.weight", "lstm.weight_ih_l0"]);
    assert_eq!(names[names.len() - 2..], ["readout.weight", "readout.bias"]);
    assert_eq!(model.layout().entries().last().unwrap().shape, [7]);

    let within = |scheme, name: &str, bound: f32| {
        let params = model.initialise(&Init { scheme, forget_bias: None }, 4);
        let values = params.by_name(name).unwrap().to_vec();
        assert!(values.iter().any(|value| value.abs() > bound / 4.0), "{name}");
        values.iter().all(|value| value.abs() <= bound)
    };
    assert!(!within(InitScheme::Torch, "embedding.weight", 1.0));
    assert!(within(InitScheme::Torch, "readout.weight", 1.0 / 5f32.sqrt()));
    for entry in model.layout().entries() {
        assert!(within(InitScheme::Uniform(0.1), &entry.name, 0.1), "{}", entry.name);
    }
    let params = model.initialise(&Init { scheme: InitScheme::OnesBias, forget_bias: None }, 4);
    assert_eq!(params.by_name("readout.bias").unwrap(), [1.0; 7]);
}

#[test]
fn a_file_from_before_there_were_variants_and_mixtures_is_of_the_plain_model() {
    let mut table = toml::Table::try_from(config()).unwrap();
    let lstm = table["lstm"].as_table_mut().unwrap();
    assert!(lstm.remove("variant").is_some() && table.remove("softmaxes").is_some());
    assert_eq!(table.try_into::<LanguageModelConfig>().unwrap(), config());
}

#[test]
fn the_parameters_of_variants_have_their_names_shapes_and_initial_values() {
    let model = LanguageModel::new(LanguageModelConfig {
        lstm: LstmConfig { variant: variant(), ..config().lstm },
        ..config()
    })
    .unwrap();
    let shape = |name: &str| {
        let entry = model.layout().entries().iter().find(|entry| entry.name == format!("lstm.{name}_l1"));
        entry.map(|entry| entry.shape.clone())
    };
    assert_eq!(shape("weight_ih"), Some(vec![15, 5]));
    assert_eq!(shape("weight_hh"), Some(vec![15, 5]));
    assert_eq!(shape("bias_hh"), Some(vec![15]));
    // Rounds 1 and 3 gate the input, round 2 the hidden state.
    assert_eq!([shape("weight_mogrify_input"), shape("weight_mogrify_hidden")], [Some(vec![10, 2]), Some(vec![5, 2])]);
    let right = ["weight_mogrify_input_right", "weight_mogrify_hidden_right"].map(shape);
    assert_eq!(right, [Some(vec![4, 5]), Some(vec![2, 5])]);
    assert_eq!(shape("weight_peephole"), Some(vec![10]));
    assert_eq!([shape("gain_ih"), shape("gain_hh")], [Some(vec![15]), Some(vec![15])]);
    assert_eq!([shape("gain_cell"), shape("bias_cell")], [Some(vec![5]), Some(vec![5])]);
    let params = model.initialise(&Init { scheme: InitScheme::Uniform(0.1), forget_bias: Some(1.0) }, 1);
    let values = |name: &str| params.by_name(&format!("lstm.{name}_l1")).unwrap();
    assert_eq!([values("gain_ih"), values("gain_hh"), values("gain_cell")].concat(), [1.0; 35]);
    assert_eq!(values("bias_cell"), [0.0; 5]);
    assert_eq!(values("bias_hh")[..5], [0.5; 5]);
    assert!(values("weight_peephole").iter().all(|weight| weight.abs() <= 0.1));
    let peepholes = CellOptions { peepholes: true, ..CellOptions::default() };
    let model = LanguageModel::new(LanguageModelConfig {
        lstm: LstmConfig { variant: peepholes, ..config().lstm },
        ..config()
    })
    .unwrap();
    let params = model.initialise(&Init::default(), 1);
    assert_eq!(params.by_name("lstm.weight_peephole_l0").unwrap().len(), 15);
    assert_eq!(params.by_name("lstm.gain_ih_l0"), None);
}

#[test]
fn what_cannot_be_built_is_a_sentence() {
    let refused = |config: LanguageModelConfig| LanguageModel::new(config).unwrap_err().to_string();
    assert!(refused(LanguageModelConfig { vocabulary: 0, ..config() }).contains("`vocabulary` is 0"));
    assert!(
        refused(LanguageModelConfig { lstm: LstmConfig { input: 0, ..config().lstm }, ..config() })
            .contains("`embedding` is 0")
    );
    assert!(
        refused(LanguageModelConfig { lstm: LstmConfig { hidden: 0.into(), ..config().lstm }, ..config() })
            .contains("`hidden` is 0")
    );
    assert!(
        refused(LanguageModelConfig { lstm: LstmConfig { layers: 0, ..config().lstm }, ..config() })
            .contains("`layers` is 0")
    );
    let layers = |lstm| refused(LanguageModelConfig { lstm, ..config() });
    assert!(layers(LstmConfig { bidirectional: true, ..config().lstm }).contains("forward alone"));
    assert!(layers(LstmConfig { scores: 3, ..config().lstm }).contains("`scores`"));
    let dropping = |dropout| refused(LanguageModelConfig { dropout, ..config() });
    assert!(dropping(DropoutRates::all(1.0)).contains("`dropout` is 1"));
    assert!(dropping(DropoutRates::all(f32::NAN)).contains("dropout"));
    assert!(dropping(DropoutRates { hidden: -0.1, ..Default::default() }).contains("`dropout-hidden` is -0.1"));
    let without = |weights| refused(LanguageModelConfig { penalties: weights, ..config() });
    let none = Penalties::default();
    assert!(without(Penalties { activation: -1.0, ..none }).contains("`ar` is -1"));
    assert!(without(Penalties { temporal: f32::INFINITY, ..none }).contains("`tar` is inf"));
    assert!(without(Penalties { label_smoothing: 1.0, ..none }).contains("`label-smoothing` is 1"));
    let mixture = |softmaxes, penalties| refused(LanguageModelConfig { softmaxes, penalties, ..config() });
    assert!(mixture(0, none).contains("`softmaxes` is 0"));
    assert!(mixture(2, Penalties { label_smoothing: 0.1, ..none }).contains("leave one of"));
    let penalties = Penalties { activation: 2.0, ..none };
    let hidden = vec![4, 5].into();
    let full = LanguageModelConfig {
        tied: true,
        penalties,
        softmaxes: 2,
        lstm: LstmConfig { hidden, variant: variant(), ..config().lstm },
        ..config()
    };
    for config in [config(), full] {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<LanguageModelConfig>(&text).unwrap(), config);
    }
}
