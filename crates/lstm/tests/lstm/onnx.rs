//! Graphs of ONNX (`tests/golden/onnx_graphs.py`): those of PyTorch's exporters and the node tests of the standard's package, read, run
//! and compared; written and read again; and damaged in every way that is quick to try.

use std::path::{Path, PathBuf};

use lstm::formats::foreign::{self, Format, Peer, Wishes};
use lstm::formats::import::{Hints, Import};
use lstm::formats::network::{CellFunctions, Function, Input, Network, Reads, Stack};
use lstm::model::{LanguageModel, LanguageModelConfig};
use lstm::nn::config::{CellOptions, Init, LstmConfig, Readout, Wiring, Zoneout};
use lstm::nn::segment::Segment;
use lstm::text::source::Source;
use lstm::text::tokenizer::{Tokenizer, TokenizerKind, VocabularyOptions};
use safetensors::SafeTensors;

const TOLERANCE: f32 = 1e-5;

fn golden() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden/onnx"].iter().collect()
}

fn read(path: &Path) -> Import {
    foreign::read(path, Hints::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a network on the input of an expected file and compares what is expected of outputs and final states.
fn check(name: &str, network: &Network) {
    let bytes = std::fs::read(golden().join(format!("{name}.expected.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| file.tensor(name).ok().map(|view| view.data().as_chunks::<4>().0.to_vec());
    let floats = |name: &str| Some(words(name)?.into_iter().map(f32::from_le_bytes).collect::<Vec<_>>());
    let wholes = |name: &str| Some(words(name)?.into_iter().map(u32::from_le_bytes).collect::<Vec<_>>());
    let shape = file.tensor("tokens").or_else(|_| file.tensor("vectors")).unwrap().shape().to_vec();
    let lengths: Option<Vec<usize>> = wholes("lengths").map(|all| all.into_iter().map(|own| own as usize).collect());
    let segment = Segment { steps: shape[0], batch: shape[1], lengths: lengths.as_deref(), packed: None };
    let mut states = network.states(shape[1]);
    if let Some((h, c)) = floats("h_0").zip(floats("c_0")) {
        (states[0].h, states[0].c) = (h, c);
    }
    let output = match wholes("tokens") {
        Some(tokens) => network.forward(Input::Tokens(&tokens), segment, &mut states).unwrap(),
        None => network.forward(Input::Vectors(&floats("vectors").unwrap()), segment, &mut states).unwrap(),
    };
    let mut compared = 0;
    for (what, got) in [("output", &output.values), ("h_n", &states[0].h), ("c_n", &states[0].c)] {
        let Some(expected) = floats(what) else { continue };
        assert_eq!(got.len(), expected.len(), "{name}, {what}");
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert!((got - expected).abs() <= TOLERANCE, "{name}, {what}[{index}]: got {got}, expected {expected}");
        }
        compared += 1;
    }
    assert!(compared > 0, "{name} expects nothing");
}

/// The golden files by name; those with `broken` in it are refused.
fn names(broken: bool) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(golden())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".onnx").map(str::to_owned))
        .filter(|name| name.contains("broken") == broken)
        .collect();
    names.sort();
    names
}

#[test]
fn every_graph_computes_what_it_did_where_it_is_from_and_so_does_what_is_written_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let all = names(false);
    // Six of the standard's own tests of the operator, seven exports.
    assert_eq!(all.iter().filter(|name| name.starts_with("test_lstm")).count(), 6);
    assert!(all.len() >= 21, "{all:?}");
    for name in all {
        let import = read(&golden().join(format!("{name}.onnx")));
        assert!(import.left_over.is_empty() && import.without_place.is_empty(), "{name}: {import:?}");
        check(&name, &import.network);
        let path = folder.path().join("again.onnx");
        foreign::write(&path, Format::Onnx, &import.network, Wishes::default()).unwrap();
        let again = read(&path).network;
        assert_eq!(again.parameters(), import.network.parameters(), "{name}");
        check(&name, &again);
    }
}

#[test]
fn what_exporters_get_wrong_is_said() {
    let all = [
        ("broken_projection", "the node ", "PyTorch's exporter writes such files"),
        ("broken_training", "the node ", "call eval()"),
        (
            "broken_lengths",
            "the node /lstm/LSTM (LSTM)",
            "the constants [4, 2]: the exporter wrote the lengths of its example",
        ),
        (
            "broken_alphas",
            "the node Y (LSTM)",
            "its activation_alpha has 2 more than its activations Sigmoid, Tanh, LeakyRelu take",
        ),
        ("broken_keras", "the gates of 1 step written out", "Keras on the torch backend (the file is from pytorch)"),
    ];
    assert_eq!(all.len(), names(true).len());
    for (name, first, then) in all {
        let path = golden().join(format!("{name}.onnx"));
        let error = foreign::read(&path, Hints::default()).unwrap_err().to_string();
        assert!(error.contains(first) && error.contains(then), "{error}");
        // Even where it is only looked at there is no network to show.
        assert!(foreign::read(&path, Hints { is_look: true, ..Hints::default() }).is_err());
    }
}

#[test]
fn cells_of_their_own_run_and_no_model_or_format_without_them_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let import = read(&golden().join("cell_both.onnx"));
    let line = import.network.stacks[0].describe();
    let named = "Softsign, LeakyRelu(0.2), Softplus, Sigmoid, Affine(0.8, 0.1), HardSigmoid(0.25, 0.5)";
    assert!(line.contains(&format!("peepholes, the activations {named}")), "{line}");
    assert!(import.network.notes.iter().any(|note| note.contains("no model of this program trains them")));
    for name in ["model.pt", "model.keras", "model.weights.h5"] {
        let path = folder.path().join(name);
        let format = Format::of_name(&path).unwrap();
        let error = foreign::write(&path, format, &import.network, Wishes::default()).unwrap_err().to_string();
        assert!(error.contains("its cells have the activations Softsign") && !path.exists(), "{error}");
    }
    // A language model but for its cells.
    let model = LanguageModel::new(LanguageModelConfig::of(7, LstmConfig::new(4, 5))).unwrap();
    let mut network = Network::from_language_model(&model, &model.initialise(&Init::default(), 3), None).unwrap();
    let functions = CellFunctions { of: vec![Function::PLAIN], clip: Some(0.1), input_forget: false };
    network.stacks[0].functions = Some(functions.clone());
    let path = folder.path().join("model.onnx");
    foreign::write(&path, Format::Onnx, &network, Wishes::default()).unwrap();
    let again = read(&path).network;
    assert_eq!(again.stacks[0].functions, Some(functions));
    let said = again.into_language_model().unwrap_err().to_string();
    assert!(said.contains("no language model that can be used here: its cells have sums cut off at 0.1"), "{said}");
    // A function is for one layer, three for each direction.
    network.stacks[0].functions.as_mut().unwrap().of.push(Function::PLAIN);
    assert!(network.validate().unwrap_err().to_string().contains("three for each of its directions"));
}

/// A plain cell by its kernels, and the same cell gate by gate; a clip that nothing reaches changes nothing, one that all reach does.
#[test]
fn a_cell_with_the_functions_of_every_lstm_here_is_the_plain_one() {
    let variant = CellOptions { peepholes: true, ..CellOptions::default() };
    let config = LstmConfig { bidirectional: true, variant, ..LstmConfig::new(3, 4) };
    let stack = Stack::new(config, |_, shape| {
        Ok((0..shape.iter().product()).map(|place| (place as f32 * 0.7).sin()).collect::<Vec<_>>().into())
    });
    let plain = Network { stacks: vec![stack.unwrap()], ..Network::default() };
    let vectors: Vec<f32> = (0..5 * 3 * 3).map(|place| (place as f32 * 0.3).cos()).collect();
    let segment = Segment { steps: 5, batch: 3, lengths: Some(&[5, 2, 0]), packed: None };
    let run = |network: &Network| {
        let mut states = network.states(3);
        let lstm::nn::state::State { h, c, .. } = &mut states[0];
        h.iter_mut().chain(c).enumerate().for_each(|(n, value)| *value = (n as f32).sin());
        let output = network.forward(Input::Vectors(&vectors), segment, &mut states).unwrap();
        [output.values, states[0].h.clone(), states[0].c.clone()].concat()
    };
    let apart = |clip| {
        let mut own = plain.clone();
        own.stacks[0].functions = Some(CellFunctions { of: vec![Function::PLAIN; 2], clip, input_forget: false });
        own.validate().unwrap();
        let (own, plain) = (run(&own), run(&plain));
        own.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(apart(None) <= 1e-6 && apart(Some(1e3)) <= 1e-6);
    assert!(apart(Some(0.1)) > 1e-2);
}

#[test]
fn functions_that_cannot_be_followed_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cell.onnx");
    let said = |name: &str, from: &[u8], to: &[u8]| {
        let mut bytes = std::fs::read(golden().join(format!("{name}.onnx"))).unwrap();
        let place =
            bytes.windows(from.len()).position(|window| window == from).expect("what is to be changed is there");
        assert_eq!(from.len(), to.len());
        bytes[place..place + from.len()].copy_from_slice(to);
        std::fs::write(&path, &bytes).unwrap();
        foreign::read(&path, Hints::default()).map(|_| String::new()).unwrap_or_else(|error| error.to_string())
    };
    assert_eq!(said("cell_clip", b"Tanh", b"TANH"), "", "names are those of the standard, however they are written");
    assert!(said("cell_clip", b"Tanh", b"Sinh").contains("its activation Sinh is none of the standard's"));
    assert!(said("cell_scaled", b"HardSigmoid", b"HardSigmoix").contains("its activation HardSigmoix"));
    let (clip, below) = (0.4f32.to_le_bytes(), (-0.4f32).to_le_bytes());
    assert!(said("cell_clip", &clip, &below).contains("its clip is -0.4, and sums are cut off at a size above 0"));
    assert!(
        said("cell_scaled", b"activation_alpha", b"activation_alphx")
            .contains("its ScaledTanh has no activation_alpha")
    );
    assert!(
        said("cell_scaled", b"activation_beta", b"activation_betx")
            .contains("or activation_beta, and the standard has no")
    );
}

/// Models of every cell, wiring and readout.
fn models() -> Vec<LanguageModelConfig> {
    let plain = LstmConfig { layers: 2, ..LstmConfig::new(4, 5) };
    let of = |lstm| LanguageModelConfig::of(7, lstm);
    let cell = |variant| of(LstmConfig { variant, ..plain.clone() });
    let none = CellOptions::default();
    vec![
        of(plain.clone()),
        LanguageModelConfig { tied: true, ..of(plain.clone()) },
        LanguageModelConfig { softmaxes: 3, ..of(plain.clone()) },
        of(LstmConfig { residual: true, ..plain.clone() }),
        of(LstmConfig { projection: Some(2), ..plain.clone() }),
        of(LstmConfig { wiring: Wiring::Skip, ..plain.clone() }),
        of(LstmConfig { wiring: Wiring::Scores, ..plain.clone() }),
        of(LstmConfig { readout: Readout::OutputGate, ..plain.clone() }),
        cell(CellOptions { peepholes: true, ..none }),
        cell(CellOptions { coupled: true, peepholes: true, ..none }),
        cell(CellOptions { layer_norm: true, ..none }),
        cell(CellOptions { zoneout: Zoneout { cell: 0.3, hidden: 0.1 }, ..none }),
        cell(CellOptions { mogrify: 5, ..none }),
        cell(CellOptions { exponential: true, ..none }),
        cell(CellOptions { mogrify: 2, mogrify_rank: Some(2), layer_norm: true, peepholes: true, ..none }),
    ]
}

#[test]
fn a_model_of_every_kind_is_written_and_read_again_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let (text, options) = (Source::from_text("abcde\n"), VocabularyOptions::default());
    let tokenizer = Tokenizer::build(TokenizerKind::Chars, &text, options, false).unwrap();
    for config in models() {
        let model = LanguageModel::new(config.clone()).unwrap();
        let params = model.initialise(&Init::default(), 3);
        let network = Network::from_language_model(&model, &params, None).unwrap();
        foreign::write(&path, Format::Onnx, &network, Wishes::default()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let import = read(&path);
        assert_eq!(import.network.stacks[0].config(), model.lstm().config());
        assert!(import.network.notes.is_empty() && import.left_over.is_empty(), "{:?}", import.network.notes);
        foreign::write(&path, Format::Onnx, &import.network, Wishes::default()).unwrap();
        assert_eq!(bytes, std::fs::read(&path).unwrap(), "equal networks are equal files");
        // Every tensor is named, and by names of here.
        let named: usize = import.found.iter().map(|found| found.shape.iter().product::<usize>()).sum();
        let sums: usize = if lstm_is_written_out(&config.lstm) { biases(&network.stacks[0]) } else { 0 };
        // A gate that is what another leaves has parameters in the operator.
        assert!(config.lstm.variant.coupled || named == network.parameters() - sums, "{:?}", import.found);
        let tokens = [1, 2, 3, 4, 5, 6];
        let segment = Segment { steps: 3, batch: 2, lengths: None, packed: None };
        let run = |network: &Network| {
            network.forward(Input::Tokens(&tokens), segment, &mut network.states(2)).unwrap().values
        };
        for (again, before) in run(&import.network).iter().zip(run(&network)) {
            assert!((again - before).abs() <= 1e-6, "{config:?}: {again} against {before}");
        }
        // And again the model: what is written out has the sums of its biases.
        let back = Network { vocabulary: Some(tokenizer.clone()), ..import.network }.into_language_model().unwrap();
        assert_eq!(back.model.lstm().config(), model.lstm().config());
        if sums == 0 {
            assert_eq!(back.params.values(), params.values(), "{config:?}");
        }
    }
}

/// Whether a loop over time is written, in which the two biases are one.
fn lstm_is_written_out(config: &LstmConfig) -> bool {
    let variant = config.variant;
    !variant.layer_norm
        && (config.projection.is_some()
            || config.readout == Readout::OutputGate
            || variant.mogrify > 0
            || variant.exponential
            || variant.zoneout != Zoneout::default())
}

/// The number of values of the second biases.
fn biases(stack: &Stack) -> usize {
    let entries = stack.lstm.layout().entries().iter();
    entries.filter(|entry| entry.name.starts_with("bias_hh")).map(|entry| entry.shape[0]).sum()
}

/// The sizes of what is changed and of what it becomes are equal, or a graph would be none any more.
#[test]
fn a_graph_of_this_program_that_was_changed_is_followed_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let network = |lstm: LstmConfig| {
        let model = LanguageModel::new(LanguageModelConfig::of(7, LstmConfig { layers: 2, ..lstm })).unwrap();
        Network::from_language_model(&model, &model.initialise(&Init::default(), 3), None).unwrap()
    };
    let changed = |network: &Network, from: &[u8], to: &[u8]| {
        foreign::write(&path, Format::Onnx, network, Wishes::default()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
        assert!(!places.is_empty() && from.len() == to.len());
        places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
        std::fs::write(&path, bytes).unwrap();
        foreign::read(&path, Hints::default()).map_err(|error| error.to_string())
    };
    let residual = network(LstmConfig { residual: true, ..LstmConfig::new(4, 5) });
    // Another name of a value in between: the same network, by its nodes.
    let again = changed(&residual, b"added1", b"summed").unwrap().network;
    assert!(
        again.notes.iter().any(|note| note.contains("its graph is not the one that was written")),
        "{:?}",
        again.notes
    );
    assert_eq!(again.stacks[0].config(), residual.stacks[0].config());
    assert_eq!(again.stacks[0].params.values(), residual.stacks[0].params.values());
    // The line says other layers than there are.
    let again = changed(&residual, b"\"residual\":true", b"\"residual\":null").unwrap().network;
    assert!(again.stacks[0].config().residual);
    let plain = network(LstmConfig::new(4, 5));
    let again = changed(&plain, b"\"layers\":2", b"\"layers\":9").unwrap().network;
    assert_eq!(again.stacks[0].config().layers, 2);
    assert!(changed(&plain, b"\"layers\":2,", b"\"layers\":2;").is_ok());
    let scan = network(LstmConfig { projection: Some(2), ..LstmConfig::new(4, 5) });
    let error = changed(&scan, b"given0", b"gotten").unwrap_err();
    assert!(
        error.contains("the node MatMul:input_product0 (MatMul)") && error.contains("this program wrote the file"),
        "{error}"
    );
    let skip = network(LstmConfig { wiring: Wiring::Skip, ..LstmConfig::new(4, 5) });
    let error = changed(&skip, b"joined1", b"beside1").unwrap_err();
    assert!(error.contains("(Concat): it joins values of several parts"), "{error}");
}

#[test]
fn a_network_in_both_directions_or_from_the_end_is_written_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let stack = |config: LstmConfig, seed| {
        let stack = Stack::new(config, |_, shape| Ok(vec![0.0; shape.iter().product()].into())).unwrap();
        let mut params = stack.params.clone();
        stack.lstm.initialise(&mut params, &Init::default(), seed);
        Stack { params, ..stack }
    };
    let both = stack(LstmConfig { bidirectional: true, layers: 2, ..LstmConfig::new(3, 4) }, 1);
    let reverse = Stack { reverse: true, ..stack(LstmConfig::new(8, 2), 2) };
    for reads in [Reads::Steps, Reads::Final] {
        for stacks in [vec![both.clone()], vec![both.clone(), reverse.clone()]] {
            let network = Network { stacks, reads, ..Network::default() };
            foreign::write(&path, Format::Onnx, &network, Wishes::default()).unwrap();
            let again = read(&path).network;
            assert_eq!(again.reads, reads);
            let vectors: Vec<f32> = (0..5 * 2 * 3).map(|place| (place as f32 * 0.7).sin()).collect();
            let segment = Segment { steps: 5, batch: 2, lengths: None, packed: None };
            let run = |network: &Network| {
                network.forward(Input::Vectors(&vectors), segment, &mut network.states(2)).unwrap().values
            };
            assert_eq!(run(&again), run(&network));
        }
    }
}

/// Every file cut off everywhere, and with bytes changed: a sentence or a network, no panic and no memory without end.
#[test]
fn damaged_graphs_are_sentences() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden().join("dynamo.onnx.data"), folder.path().join("dynamo.onnx.data")).unwrap();
    let path = folder.path().join("damaged.onnx");
    let mut random = 1u64;
    let mut next = |bound: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize % bound
    };
    let (mut refused, mut tried) = (0, 0);
    for name in names(false).into_iter().chain(names(true)) {
        let bytes = std::fs::read(golden().join(format!("{name}.onnx"))).unwrap();
        let mut look = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            tried += 1;
            refused += usize::from(foreign::read(&path, Hints { is_look: true, ..Hints::default() }).is_err());
        };
        // Of long files not every length: what is in them is in the short ones.
        (0..bytes.len()).step_by(1 + bytes.len() / 400).for_each(|length| look(&bytes[..length]));
        for _ in 0..300 {
            let mut changed = bytes.clone();
            for _ in 0..=next(3) {
                let place = next(bytes.len());
                changed[place] = next(256) as u8;
            }
            look(&changed);
        }
    }
    assert!(refused * 2 > tried, "only {refused} of {tried} damaged files were refused");
}

#[test]
fn what_a_graph_must_not_ask_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let said = |bytes: &[u8]| {
        let path = folder.path().join("hostile.onnx");
        std::fs::write(&path, bytes).unwrap();
        foreign::read(&path, Hints::default()).unwrap_err().to_string()
    };
    // Two bytes of a node of the graph, again and again.
    let nodes = [10, 0].repeat(400_000);
    let graph = |graph: &[u8]| [&[58][..], &length(graph.len()), graph, &[66, 2, 16, 17]].concat();
    assert!(said(&graph(&nodes)).contains("no network needs so many"));
    // A node whose attribute is a graph with such a node.
    let mut deep = Vec::new();
    for _ in 0..200 {
        // graph: node 1 · node: attribute 5 · attribute: graph 6
        let attribute = [&[50][..], &length(deep.len()), &deep].concat();
        let node = [&[42][..], &length(attribute.len()), &attribute].concat();
        deep = [&[10][..], &length(node.len()), &node].concat();
    }
    assert!(said(&graph(&deep)).contains("levels deep"));
    // A tensor of 10¹⁸ values without any.
    let tensor = [&[8][..], &length(1_000_000_000), &[8], &length(1_000_000_000), &[16, 1, 66, 1, 120, 74, 0]].concat();
    let one = [&[42][..], &length(tensor.len()), &tensor].concat();
    assert!(said(&graph(&one)).contains("the tensor x cannot be used"), "{}", said(&graph(&one)));
    assert!(said(&[]).contains("no graph"));
    assert!(said(b"no graph at all").contains("truncated or damaged"));
    // Values that should be outside the model's folder.
    let golden = std::fs::read(golden().join("dynamo.onnx")).unwrap();
    let text = b"dynamo.onnx.data";
    let mut outside = golden.clone();
    for place in 0..outside.len() - text.len() {
        if outside[place..].starts_with(text) {
            outside[place..place + text.len()].copy_from_slice(b"../../etc/passwd");
        }
    }
    assert!(said(&outside).contains("outside the folder of the model"), "{}", said(&outside));
    assert!(said(&golden).contains("belongs beside the model"), "{}", said(&golden));
    std::fs::write(folder.path().join("dynamo.onnx.data"), [0; 100]).unwrap();
    assert!(said(&golden).contains("truncated"), "{}", said(&golden));
}

#[test]
fn attributes_that_an_lstm_cannot_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let coupled = std::fs::read(golden().join("cell_coupled.onnx")).unwrap();
    // Behind its name stand the attribute's value, as field 3, and its type, as field 20.
    let said = |name: &str, value: u8, kind: u8| {
        let mut changed = coupled.clone();
        let at = changed.windows(name.len()).position(|bytes| bytes == name.as_bytes()).unwrap() + name.len();
        assert_eq!((changed[at], &changed[at + 2..at + 5]), (24, &[160, 1, 2][..]));
        // Of another type it is in another field, 12, which nobody reads.
        (changed[at], changed[at + 1], changed[at + 4]) = (if kind == 2 { 24 } else { 96 }, value, kind);
        let path = folder.path().join("changed.onnx");
        std::fs::write(&path, changed).unwrap();
        foreign::read(&path, Hints::default()).map_or_else(|error| error.to_string(), |_| String::new())
    };
    assert_eq!(said("input_forget", 1, 2), "");
    assert!(said("input_forget", 2, 2).contains("its input_forget is 2"), "{}", said("input_forget", 2, 2));
    assert!(said("input_forget", 1, 1).contains("its input_forget is no whole number"));
    assert!(said("hidden_size", 3, 1).contains("its hidden_size is no whole number"));
    assert!(!said("hidden_size", 77, 2).is_empty());
}

/// A number in groups of seven bits.
fn length(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[test]
fn what_a_program_would_not_compute_is_refused_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let network = |lstm: LstmConfig| {
        let model = LanguageModel::new(LanguageModelConfig::of(7, lstm)).unwrap();
        Network::from_language_model(&model, &model.initialise(&Init::default(), 3), None).unwrap()
    };
    let plain = network(LstmConfig::new(4, 5));
    let variant = CellOptions { peepholes: true, ..CellOptions::default() };
    let peepholes = network(LstmConfig { variant, ..LstmConfig::new(4, 5) });
    let projected = network(LstmConfig { projection: Some(2), ..LstmConfig::new(4, 5) });
    let reverse = read(&golden().join("test_lstm_reverse.onnx")).network;
    let said = |network: &Network, peer: &str| {
        let wishes = Wishes { peer: Some(peer.parse::<Peer>().unwrap()), ..Wishes::default() };
        let written = foreign::write(&path, Format::Onnx, network, wishes);
        written.err().map(|error| error.to_string()).unwrap_or_default()
    };
    for peer in ["tract", "rten", "openvino", "onnxruntime"] {
        assert_eq!(said(&plain, peer), "");
    }
    assert!(said(&peepholes, "openvino").contains("OpenVINO 2026.4 leaves the peepholes out"));
    assert!(said(&peepholes, "rten").contains("rten 0.27 reads no peepholes"));
    assert!(said(&projected, "rten").contains("rten 0.27 has no operator Scan"));
    assert!(said(&reverse, "tract").contains("tract 0.23 ignores"));
    let [clip, other] = ["cell_clip", "cell_defaults"].map(|name| read(&golden().join(format!("{name}.onnx"))).network);
    let both = read(&golden().join("tagger_old.onnx")).network;
    assert_eq!(said(&both, "tract") + &said(&projected, "tract"), "");
    let gates = network(LstmConfig { readout: Readout::OutputGate, ..LstmConfig::new(4, 5) });
    assert!(said(&gates, "tract").contains("cannot type the loop in which the readout output-gate"));
    assert!(
        [&clip, &other].iter().all(|network| said(network, "rten").contains("rten 0.27 reads no LSTM with a clip"))
    );
    assert!(said(&clip, "tract").contains("tract 0.23 ignores the clip"));
    assert_eq!(said(&clip, "openvino") + &said(&other, "onnxruntime"), "");
    assert!(said(&other, "openvino").contains("no LSTM with other activations"));
    assert_eq!(said(&peepholes, "onnxruntime") + &said(&reverse, "onnxruntime"), "");
    assert!("torch".parse::<Peer>().unwrap_err().to_string().contains("tract, rten, openvino, onnxruntime"));
}
