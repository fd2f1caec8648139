//! Graphs of ONNX (`tests/golden/onnx_graphs.py`): those of PyTorch's exporters and the node tests of the standard's package, read, run
//! and compared; written and read again; and damaged in every way that is quick to try.

use std::path::{Path, PathBuf};

use lstm::formats::foreign::{self, Format, Peer, Wishes};
use lstm::formats::import::{Hints, Import};
use lstm::formats::network::{Input, Network, Reads, Stack};
use lstm::model::{LanguageModel, LanguageModelConfig};
use lstm::nn::config::{CellOptions, Init, LstmConfig, Readout, Wiring, Zoneout};
use lstm::nn::segment::Segment;
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
    assert!(all.len() >= 14, "{all:?}");
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
    for (name, expected) in
        [("broken_projection", "PyTorch's exporter writes such files"), ("broken_training", "call eval()")]
    {
        let path = golden().join(format!("{name}.onnx"));
        let error = foreign::read(&path, Hints::default()).unwrap_err().to_string();
        assert!(error.contains("the node ") && error.contains(expected), "{error}");
        // Even where it is only looked at there is no network to show.
        assert!(foreign::read(&path, Hints { is_look: true, ..Hints::default() }).is_err());
    }
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
    ]
}

#[test]
fn a_model_of_every_kind_is_written_and_read_again_where_operators_say_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    for config in models() {
        let model = LanguageModel::new(config.clone()).unwrap();
        let params = model.initialise(&Init::default(), 3);
        let network = Network::from_language_model(&model, &params, None).unwrap();
        foreign::write(&path, Format::Onnx, &network, Wishes::default()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        foreign::write(&path, Format::Onnx, &network, Wishes::default()).unwrap();
        assert_eq!(bytes, std::fs::read(&path).unwrap(), "equal networks are equal files");
        let lstm = &config.lstm;
        let is_chain = lstm.wiring == Wiring::Stacked
            && lstm.readout == Readout::Hidden
            && lstm.projection.is_none()
            && config.softmaxes == 1
            && !lstm.residual
            && !lstm.variant.layer_norm
            && lstm.variant.zoneout == Zoneout::default();
        match foreign::read(&path, Hints::default()) {
            Ok(import) => {
                assert!(is_chain, "{config:?} was read as something else");
                let tokens = [1, 2, 3, 4, 5, 6];
                let segment = Segment { steps: 3, batch: 2, lengths: None, packed: None };
                let run = |network: &Network| {
                    network.forward(Input::Tokens(&tokens), segment, &mut network.states(2)).unwrap().values
                };
                for (again, before) in run(&import.network).iter().zip(run(&network)) {
                    assert!((again - before).abs() <= 1e-6, "{config:?}: {again} against {before}");
                }
            }
            Err(error) => assert!(!is_chain && error.to_string().contains("the node "), "{config:?}: {error}"),
        }
    }
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
    assert_eq!(said(&peepholes, "onnxruntime") + &said(&reverse, "onnxruntime"), "");
    assert!("torch".parse::<Peer>().unwrap_err().to_string().contains("tract, rten, openvino, onnxruntime"));
}
