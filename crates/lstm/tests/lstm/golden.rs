//! The library against files made by PyTorch (`tests/golden/make.py`).

use std::path::PathBuf;
use std::sync::Arc;

use lstm::Start;
use lstm::model::penalty::Penalties;
use lstm::model::{LanguageModel, LanguageModelConfig};
use lstm::nn::config::{CellOptions, LstmConfig};
use lstm::nn::params::{Layout, Params};
use lstm::nn::segment::Segment;
use lstm::nn::stack::Lstm;
use lstm::nn::state::State;
use lstm::optim::muon::MuonSettings;
use lstm::optim::optimizer::{Optimizer, OptimizerKind};
use lstm::text::batch::Batch;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

/// Of a tensor's largest value, forward.
const FORWARD: f32 = 1e-5;
/// Of a tensor's largest value, gradients.
const GRADIENT: f32 = 1e-4;
/// Of the loss, at every step of a training run.
const LOSS: f64 = 1e-4;

/// A golden file's bytes.
pub(crate) struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    pub(crate) fn read(name: &str) -> Self {
        let path: PathBuf =
            [env!("CARGO_MANIFEST_DIR"), "tests/golden", &format!("{name}.safetensors")].iter().collect();
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { bytes }
    }

    fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        SafeTensors::deserialize(&self.bytes).expect("a safetensors file").tensor(name).ok()
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.tensor(name).unwrap_or_else(|| panic!("no {name} in the golden file")).shape().to_vec()
    }

    fn words<const DTYPE_F32: bool>(&self, name: &str) -> Vec<[u8; 4]> {
        let tensor = self.tensor(name).unwrap_or_else(|| panic!("no {name} in the golden file"));
        assert_eq!(tensor.dtype(), if DTYPE_F32 { Dtype::F32 } else { Dtype::I32 }, "{name}");
        tensor.data().chunks_exact(4).map(|word| word.try_into().expect("four bytes")).collect()
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        self.words::<true>(name).into_iter().map(f32::from_le_bytes).collect()
    }

    pub(crate) fn integers(&self, name: &str) -> Vec<u32> {
        self.words::<false>(name).into_iter().map(u32::from_le_bytes).collect()
    }

    /// The parameters of `layout`, whose names must be PyTorch's.
    pub(crate) fn params(&self, layout: &Arc<Layout>) -> Params {
        let mut params = Params::zeros(Arc::clone(layout));
        for entry in layout.entries() {
            assert_eq!(self.shape(&entry.name), entry.shape, "the shape of {}", entry.name);
            params.get_mut(entry.slot).copy_from_slice(&self.floats(&entry.name));
        }
        params
    }

    fn metadata(&self, key: &str) -> String {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes).expect("a safetensors file");
        metadata.metadata().as_ref().and_then(|all| all.get(key).cloned()).unwrap_or_default()
    }

    pub(crate) fn check(&self, name: &str, got: &[f32], tolerance: f32) {
        let expected = self.floats(name);
        assert_eq!(got.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert!(
                (got - expected).abs() <= tolerance * largest,
                "{name}[{index}]: got {got}, PyTorch has {expected} (largest {largest})"
            );
        }
    }

    fn check_gradients(&self, gradients: &Params) {
        for entry in gradients.layout().entries() {
            self.check(&format!("gradient.{}", entry.name), gradients.get(entry.slot), GRADIENT);
        }
    }
}

/// Outputs, final states and all gradients of `nn.LSTM`.
fn check_lstm(name: &str) {
    let golden = Golden::read(name);
    let [steps, batch, input] = golden.shape("input").try_into().expect("[T, B, I]");
    let [_, _, state] = golden.shape("c_0").try_into().expect("[L·D, B, S]");
    let exponential = golden.metadata("exponential") == "True";
    let hidden = if exponential { state / 2 } else { state };
    let number = |key| golden.metadata(key).parse::<usize>().expect("a number");
    let config = LstmConfig {
        layers: number("layers"),
        projection: Some(number("projection")).filter(|&size| size > 0),
        bidirectional: golden.metadata("bidirectional") == "True",
        variant: CellOptions {
            mogrify: golden.metadata("rounds").parse().unwrap_or(0),
            mogrify_rank: golden.metadata("rank").parse().ok().filter(|&rank| rank > 0),
            exponential,
            ..CellOptions::default()
        },
        ..LstmConfig::new(input, hidden)
    };
    let lstm = Lstm::new(config).expect("a valid configuration");
    let params = golden.params(lstm.layout());
    let lengths: Option<Vec<usize>> =
        golden.tensor("lengths").map(|_| golden.integers("lengths").iter().map(|&length| length as usize).collect());
    let segment = Segment { steps, batch, lengths: lengths.as_deref(), packed: None };
    let x = golden.floats("input");
    let mut state = lstm.state(batch);
    state.h = golden.floats("h_0");
    state.c = golden.floats("c_0");
    let mut tape = lstm.tape();
    lstm.forward(&params, &x, segment, &mut state, None, &mut tape);
    golden.check("output", tape.output(), FORWARD);
    golden.check("h_n", &state.h, FORWARD);
    golden.check("c_n", &state.c, FORWARD);

    let mut d_final = lstm.state(batch);
    d_final.h = golden.floats("loss.h_n");
    d_final.c = golden.floats("loss.c_n");
    let mut gradients = Params::zeros(Arc::clone(lstm.layout()));
    let d_output = golden.floats("loss.output");
    lstm.backward(&params, &x, segment, &d_output, Some(&d_final), &mut tape, &mut gradients, Start::Zero);
    golden.check_gradients(&gradients);
    golden.check("gradient.input", tape.d_input(), GRADIENT);
    golden.check("gradient.h_0", &tape.d_initial().h, GRADIENT);
    golden.check("gradient.c_0", &tape.d_initial().c, GRADIENT);
}

#[test]
fn one_to_three_layers() {
    check_lstm("layers_1");
    check_lstm("layers_2");
    check_lstm("layers_3");
}

#[test]
fn both_directions() {
    check_lstm("bidirectional");
}

#[test]
fn projections() {
    check_lstm("projection");
    check_lstm("projection_bidirectional");
}

#[test]
fn packed_sequences_of_different_lengths() {
    check_lstm("lengths");
    check_lstm("lengths_bidirectional");
    check_lstm("lengths_projection");
}

#[test]
fn exponential_cells() {
    check_lstm("exponential");
}

#[test]
fn mogrified_cells() {
    check_lstm("mogrified");
    check_lstm("mogrified_rank");
}

/// The model whose parameters a golden file holds.
fn language_model(golden: &Golden) -> LanguageModel {
    let [vocabulary, embedding] = golden.shape("embedding.weight").try_into().expect("[V, E]");
    let [_, hidden] = golden.shape("readout.weight").try_into().expect("[V, H]");
    LanguageModel::new(LanguageModelConfig::of(
        vocabulary,
        LstmConfig {
            layers: golden.metadata("layers").parse().expect("a number"),
            ..LstmConfig::new(embedding, hidden)
        },
    ))
    .expect("a valid configuration")
}

/// The batch that reads `steps` rows of `tokens` from row `start` and predicts each one's successor.
fn batch(tokens: &[u32], start: usize, steps: usize, batch: usize) -> Batch {
    let rows = |from: usize| tokens[from * batch..(from + steps) * batch].to_vec();
    Batch {
        steps,
        batch,
        tokens: rows(start),
        targets: rows(start + 1),
        lengths: None,
        fresh: false,
        ..Batch::default()
    }
}

/// One step over all tokens of a golden file from `state`: its loss and gradients against the file's. Gives the batch.
fn check_step(golden: &Golden, model: &LanguageModel, params: &Params, state: &mut State) -> Batch {
    let [rows, columns] = golden.shape("tokens").try_into().expect("[T + 1, B]");
    let batch = batch(&golden.integers("tokens"), 0, rows - 1, columns);
    let mut gradients = model.gradients();
    let loss = model.train_step(params, &batch, state, None, &mut model.tape(), &mut gradients);
    assert_eq!(loss.tokens, (rows - 1) * columns);
    golden.check("loss", &[(loss.nll / loss.tokens as f64) as f32], FORWARD);
    golden.check_gradients(gradients.params());
    batch
}

#[test]
fn loss_and_gradients_of_a_language_model() {
    let golden = Golden::read("language_model");
    let model = language_model(&golden);
    let mut state = model.state(golden.shape("tokens")[1]);
    state.h = golden.floats("h_0");
    state.c = golden.floats("c_0");
    check_step(&golden, &model, &golden.params(model.layout()), &mut state);
    golden.check("h_n", &state.h, FORWARD);
    golden.check("c_n", &state.c, FORWARD);
}

#[test]
fn loss_and_gradients_of_a_regularised_model() {
    let golden = Golden::read("regularised");
    let [vocabulary, embedding] = golden.shape("embedding.weight").try_into().expect("[V, E]");
    let sizes = (0..3).map(|layer| golden.shape(&format!("lstm.weight_hh_l{layer}"))[1]);
    let model = LanguageModel::new(LanguageModelConfig {
        tied: true,
        penalties: Penalties { activation: 2.0, temporal: 1.0, label_smoothing: 0.1 },
        ..LanguageModelConfig::of(
            vocabulary,
            LstmConfig { layers: 3, residual: true, ..LstmConfig::new(embedding, sizes.collect::<Vec<_>>()) },
        )
    })
    .expect("a valid configuration");
    // The loss that is reported is the plain one.
    let mut state = model.state(golden.shape("tokens")[1]);
    check_step(&golden, &model, &golden.params(model.layout()), &mut state);
}

#[test]
fn loss_gradients_and_scores_of_a_mixture_of_softmaxes() {
    let golden = Golden::read("mixture");
    let [vocabulary, embedding] = golden.shape("embedding.weight").try_into().expect("[V, E]");
    let [softmaxes, hidden] = golden.shape("mixture_prior.weight").try_into().expect("[K, H]");
    let model = LanguageModel::new(LanguageModelConfig {
        tied: true,
        softmaxes,
        ..LanguageModelConfig::new(vocabulary, embedding, hidden)
    })
    .expect("a valid configuration");
    let (params, columns) = (golden.params(model.layout()), golden.shape("tokens")[1]);
    let batch = check_step(&golden, &model, &params, &mut model.state(columns));
    let mut stream = model.stream(&params, columns).expect("one direction");
    let scores: Vec<f32> = batch.tokens.chunks(columns).flat_map(|tokens| stream.step(tokens).to_vec()).collect();
    golden.check("scores", &scores, FORWARD);
}

/// So many steps from the same weights on the same batches: the loss of every step.
fn check_training(name: &str, kind: OptimizerKind, rate: f32, steps: usize) {
    let golden = Golden::read(name);
    let model = language_model(&golden);
    let mut params = golden.params(model.layout());
    let (tokens, losses, norms) = (golden.integers("tokens"), golden.floats("losses"), golden.floats("norms"));
    let [_, columns] = golden.shape("tokens").try_into().expect("[steps · T + 1, B]");
    let segment: usize = golden.metadata("segment").parse().expect("a number");
    let clip: f32 = golden.metadata("clip").parse().expect("a number");
    let decay = golden.metadata("decay").parse().unwrap_or(0.0);
    let optimizer = Optimizer::new(kind, decay, params.values().len());
    let mut optimizer = optimizer.with_muon(model.layout(), MuonSettings::default(), rate);
    let mut state = model.state(columns);
    let mut tape = model.tape();
    let mut gradients = model.gradients();
    assert_eq!(losses.len(), steps);
    for (step, (&expected, &norm)) in losses.iter().zip(&norms).enumerate() {
        let batch = batch(&tokens, step * segment, segment, columns);
        let loss = model.train_step(&params, &batch, &mut state, None, &mut tape, &mut gradients);
        let (got, expected) = (loss.nll / loss.tokens as f64, f64::from(expected));
        assert!((got - expected).abs() <= LOSS * expected, "{name}, step {step}: loss {got}, PyTorch has {expected}");
        let got = optimizer.step(params.values_mut(), gradients.values(), rate, Some(clip));
        let expected = f64::from(norm);
        // Norms follow the weights' rounding more closely than the loss does.
        assert!((got - expected).abs() <= 1e-3 * expected, "{name}, step {step}: norm {got}, PyTorch has {expected}");
    }
}

#[test]
fn two_hundred_steps_of_sgd() {
    check_training("training_sgd", OptimizerKind::Sgd, 1.5, 200);
}

#[test]
fn two_hundred_steps_of_adam() {
    check_training("training_adam", OptimizerKind::Adam, 0.02, 200);
}

#[test]
fn sixty_steps_of_muon() {
    check_training("training_muon", OptimizerKind::Muon, 0.006, 60);
}
