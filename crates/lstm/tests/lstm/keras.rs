//! Files as Keras 2 and Keras 3 write them (`tests/golden/make_keras.py`): read, run, compared with what Keras computes; written and
//! read again; refused.

use std::io::{Cursor, Read as _, Write as _};
use std::path::PathBuf;

use flate2::read::GzDecoder;
use lstm::formats::foreign::{self, Format, Wishes};
use lstm::formats::import::{Hints, Import};
use lstm::formats::network::{Activation, CellFunctions, Function, Input, Network, Reads, Stack};
use lstm::nn::config::{LstmConfig, Wiring};
use lstm::nn::segment::Segment;
use safetensors::SafeTensors;

const TOLERANCE: f32 = 1e-5;

fn golden(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden/keras", name].iter().collect()
}

/// The bytes of a golden file.
fn bytes(name: &str) -> Vec<u8> {
    let packed = std::fs::File::open(golden(&format!("{name}.gz"))).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Reads bytes as a file of that name.
fn read_bytes(name: &str, bytes: &[u8]) -> Result<Import, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    foreign::read(&path, Hints::default()).map_err(|error| error.to_string())
}

/// Runs a network on the input of an expected file and compares what it gives.
fn check(stem: &str, network: &Network) {
    let bytes = std::fs::read(golden(&format!("{stem}.expected.safetensors"))).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| expected.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
    let floats = |name: &str| words(name).into_iter().map(f32::from_le_bytes).collect::<Vec<_>>();
    let input = if expected.tensor("tokens").is_ok() { "tokens" } else { "vectors" };
    let shape = expected.tensor(input).unwrap().shape().to_vec();
    let segment = Segment { steps: shape[0], batch: shape[1], lengths: None, packed: None };
    let tokens: Vec<u32> = words(input).into_iter().map(u32::from_le_bytes).collect();
    let vectors = floats(input);
    let input = if input == "tokens" { Input::Tokens(&tokens) } else { Input::Vectors(&vectors) };
    let output = network.forward(input, segment, &mut network.states(shape[1])).unwrap();
    let expected = floats("output");
    assert_eq!(output.values.len(), expected.len(), "{stem}");
    for (index, (got, expected)) in output.values.iter().zip(&expected).enumerate() {
        assert!((got - expected).abs() <= TOLERANCE, "{stem}[{index}]: got {got}, Keras has {expected}");
    }
}

/// Every kind of file, what it is said to be, and a word of what is noted or left over.
const FILES: [(&str, &str, &str); 9] = [
    ("chain3.keras", "Keras 3.15.1, a model (.keras)", ""),
    ("chain3.h5", "Keras 3.15.1, a model as HDF5 (.h5)", ""),
    ("chain2.keras", "Keras 2.15.0, a model (.keras)", ""),
    ("chain2.h5", "Keras 2.15.0, a model as HDF5 (.h5)", ""),
    ("functional3.keras", "Keras 3.15.1, a model (.keras)", "optimizer, of training"),
    ("functional2.h5", "Keras 2.15.0, a model as HDF5 (.h5)", "optimizer_weights, of training"),
    ("forms3.keras", "Keras 3.15.1, a model (.keras)", "values in float16 and bfloat16 become float32"),
    ("backwards3.keras", "Keras 3.15.1, a model (.keras)", ""),
    ("weights3.weights.h5", "Keras, weights alone, as HDF5", "no configuration: tanh and sigmoid are assumed"),
];

#[test]
fn every_kind_of_file_computes_what_keras_does() {
    for (name, kind, said) in
        FILES.into_iter().chain([("weights2.h5", "Keras 2.15.0, weights alone, as HDF5", "assumed")])
    {
        let import = read_bytes(name, &bytes(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(import.kind, kind, "{name}");
        let all: Vec<&String> = import.network.notes.iter().chain(&import.left_over).collect();
        assert!(said.is_empty() && all.is_empty() || all.iter().any(|text| text.contains(said)), "{name}: {all:?}");
        check(name.split('.').next().unwrap(), &import.network);
        // Every array of the network is one of the file's, but second biases and biases that are not there.
        let named: usize = import.found.iter().map(|found| found.shape.iter().product::<usize>()).sum();
        let zeros = import.network.stacks.iter().flat_map(|stack| stack.lstm.layout().entries());
        let biases: usize = zeros.filter(|entry| entry.name.starts_with("bias_hh")).map(|entry| entry.shape[0]).sum();
        assert!(import.network.parameters() - named >= biases, "{name}");
    }
}

#[test]
fn layers_one_after_the_other_are_one_lstm_and_their_arrays_are_named_so() {
    let import = read_bytes("functional3.keras", &bytes("functional3.keras")).unwrap();
    assert_eq!(import.network.stacks.len(), 1);
    assert_eq!(import.network.stacks[0].config().layers, 2);
    assert_eq!((import.network.reads, import.network.readouts[0].activation), (Reads::Final, Activation::Sigmoid));
    let ours: Vec<&str> = import.found.iter().map(|found| found.ours.as_str()).collect();
    for name in ["lstm.weight_ih_l0", "lstm.weight_hh_l1", "readout.weight"] {
        assert!(ours.contains(&name), "{name} is not in {ours:?}");
    }
    // Keras's second LSTM has no bias.
    assert!(!ours.contains(&"lstm.bias_ih_l1"));
    let chain = read_bytes("chain3.keras", &bytes("chain3.keras")).unwrap();
    let pair =
        chain.found.iter().find(|found| found.theirs == "layers/bidirectional/backward_layer/cell/vars/1").unwrap();
    assert_eq!((pair.ours.as_str(), &pair.shape[..]), ("lstm.0.weight_hh_l0_reverse", &[3, 12][..]));
}

#[test]
fn what_is_written_is_read_again_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    for (name, _, _) in FILES {
        let import = read_bytes(name, &bytes(name)).unwrap();
        let path = folder.path().join("again.keras");
        foreign::write(&path, Format::Keras, &import.network, Wishes::default()).unwrap();
        let written = std::fs::read(&path).unwrap();
        let again = foreign::read(&path, Hints::default()).unwrap().network;
        let values = |network: &Network| network.stacks.iter().map(|s| s.params.values().to_vec()).collect::<Vec<_>>();
        assert_eq!(values(&again), values(&import.network), "{name}");
        assert_eq!(
            (&again.readouts, &again.embedding),
            (&import.network.readouts, &import.network.embedding),
            "{name}"
        );
        check(name.split('.').next().unwrap(), &again);
        // And again the same bytes.
        foreign::write(&path, Format::Keras, &again, Wishes::default()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), written, "{name}");
        let path = folder.path().join("again.weights.h5");
        foreign::write(&path, Format::KerasWeights, &import.network, Wishes::default()).unwrap();
        let told = foreign::lost(Format::KerasWeights, &import.network).join(" ");
        assert!(told.contains("load_weights") && told.contains("LSTM("), "{told}");
        if !name.starts_with("backwards") && import.network.reads == Reads::Steps {
            assert_eq!(
                values(&foreign::read(&path, Hints::default()).unwrap().network),
                values(&import.network),
                "{name}"
            );
        }
    }
}

/// A golden `.keras` file with another text in its configuration.
fn changed(name: &str, from: &str, to: &str) -> Vec<u8> {
    changed_bytes(bytes(name), from, to)
}

fn changed_bytes(bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    with_entry(bytes, "config.json", from, to)
}

/// A file as another version of Keras would have written it.
fn with_version(bytes: &[u8], version: &str) -> Vec<u8> {
    with_entry(bytes.to_vec(), "metadata.json", "\"keras_version\":\"3", &format!("\"keras_version\":\"{version}+3"))
}

fn with_entry(bytes: Vec<u8>, which: &str, from: &str, to: &str) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let (name, mut bytes) = (entry.name().unwrap().to_string(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        if name == which {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from), "{from} is not in {text}");
            bytes = text.replace(from, to).into_bytes();
        }
        out.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        out.write_all(&bytes).unwrap();
    }
    out.finish().unwrap().into_inner()
}

#[test]
fn layers_that_have_no_place_are_refused_by_name() {
    let cases = [
        (r#""class_name": "LSTM""#, r#""class_name": "GRU""#, &["bidirectional is a Bidirectional of GRU"][..]),
        (
            r#""zero_output_for_mask": false, "units": 5"#,
            r#""return_sequences": false, "units": 5"#,
            &["time_distributed", "upper gives one state"],
        ),
        (r#""merge_mode": "concat""#, r#""merge_mode": "sum""#, &["bidirectional", "merge_mode sum"]),
        (
            r#""recurrent_activation": "sigmoid""#,
            r#""recurrent_activation": "gelu""#,
            &["recurrent_activation gelu", "softsign"],
        ),
        (r#""activation": "softmax""#, r#""activation": "gelu""#, &["activation gelu", "log_softmax"]),
        (r#""class_name": "Dropout""#, r#""class_name": "BatchNormalization""#, &["dropout is a BatchNormalization"]),
        (r#""class_name": "Sequential""#, r#""class_name": "Mine""#, &["the model is a Mine"]),
        (r#""units": 5"#, r#""units": 6"#, &["the layer upper", "an LSTM of 6 units"]),
        (r#""quantization_config": null"#, r#""quantization_config": {}"#, &["table is quantized"]),
        (r#""class_name": "Embedding""#, r#""class_name": "Dropout""#, &["embedding/vars/0", "belongs to no layer"]),
        (r#""merge_mode""#, r#"{{"#, &["config.json is no configuration"]),
    ];
    for (from, to, expected) in cases {
        let error = read_bytes("changed.keras", &changed("chain3.keras", from, to)).unwrap_err();
        assert!(expected.iter().all(|part| error.contains(part)), "{to}: {error}");
    }
    let backwards = changed("backwards3.keras", r#""return_sequences": false"#, r#""return_sequences": true"#);
    let error = read_bytes("changed.keras", &backwards).unwrap_err();
    assert!(error.contains("gives its steps in that order (go_backwards)"), "{error}");
    let shared = changed(
        "functional3.keras",
        r#""keras_history": ["dense_2", 0, 0]"#,
        r#""keras_history": ["activation", 0, 0]"#,
    );
    let error = read_bytes("changed.keras", &shared).unwrap_err();
    assert!(error.contains("reads what comes of itself") || error.contains("beside the chain"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twice.keras");
    let network = read_bytes("functional3.keras", &bytes("functional3.keras")).unwrap().network;
    foreign::write(&path, Format::Keras, &network, Wishes::default()).unwrap();
    let twice = changed_bytes(std::fs::read(&path).unwrap(), r#""name":"lstm_1""#, r#""name":"lstm""#);
    let error = read_bytes("twice.keras", &twice).unwrap_err();
    assert!(error.contains("layers/lstm_1/cell/vars") && error.contains("another layer's"), "{error}");
    let masked = changed("chain3.keras", r#""mask_zero": false"#, r#""mask_zero": true"#);
    assert!(read_bytes("changed.keras", &masked).unwrap().network.notes[0].contains("table has mask_zero"));
}

/// Against the equations: cells of one unit over one input, in which each function can be seen.
#[test]
fn a_cell_has_the_functions_of_the_version_that_wrote_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cell.keras");
    let weights = [0.9, -0.4, 0.7, 1.3, 0.3, -0.2, 0.5, 0.8, 0.1, 0.6, -0.3, 0.2, 0.0, 0.0, 0.0, 0.0f32];
    let mut rest = weights.iter().copied();
    let mut stack = Stack::new(LstmConfig::new(1, 1), |_, shape| {
        Ok(rest.by_ref().take(shape.iter().product()).collect::<Vec<_>>().into())
    })
    .unwrap();
    let hard = |alpha| Function::HardSigmoid { alpha, beta: 0.5 };
    let cell = |gates, other| Some(CellFunctions { of: vec![[gates, other, other]], clip: None, input_forget: false });
    stack.functions = cell(hard(1.0 / 6.0), Function::Softsign);
    let network = Network { stacks: vec![stack.clone()], ..Network::default() };
    foreign::write(&path, Format::Keras, &network, Wishes::default()).unwrap();
    let written = std::fs::read(&path).unwrap();
    let read = |bytes: &[u8]| read_bytes("cell.keras", bytes).unwrap().network.stacks[0].functions.clone();
    assert_eq!(read(&written), stack.functions);
    // The same words in a file of Keras 2 are other numbers.
    let older = with_version(&written, "2.15.0");
    assert_eq!(read(&older), cell(hard(0.2), Function::Softsign));
    // Numbers that Keras has no name for are refused, not rounded to one that it has.
    let mut network = network;
    network.stacks[0].functions = cell(hard(0.2), Function::Tanh);
    let error = foreign::write(&path, Format::Keras, &network, Wishes::default()).unwrap_err().to_string();
    assert!(error.contains("HardSigmoid") && error.contains("Keras's own numbers"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), written);
}

#[test]
fn what_keras_has_not_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut network = read_bytes("backwards3.keras", &bytes("backwards3.keras")).unwrap().network;
    let refused = |network: &Network, name: &str, format| {
        foreign::write(&folder.path().join(name), format, network, Wishes::default()).unwrap_err().to_string()
    };
    let error = refused(&network, "out.h5", Format::Keras);
    assert!(error.contains(".keras") && error.contains(".weights.h5"), "{error}");
    network.reads = Reads::Steps;
    assert!(refused(&network, "out.keras", Format::Keras).contains("from the last step to the first"));
    for (name, config) in [
        ("a projection", LstmConfig { projection: Some(2), ..LstmConfig::new(3, 3) }),
        ("the wiring skip", LstmConfig { wiring: Wiring::Skip, layers: 2, ..LstmConfig::new(3, 3) }),
    ] {
        let stack = Stack::new(config, |_, shape| Ok(vec![0.0; shape.iter().product()].into())).unwrap();
        let network = Network { stacks: vec![stack], ..Network::default() };
        let error = refused(&network, "out.weights.h5", Format::KerasWeights);
        assert!(error.contains(name), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Layers of equal and of other sizes, in one and in both directions, of every step and of the final state.
#[test]
fn residual_connections_are_sums_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.keras");
    for (bidirectional, reads, sums) in [(false, Reads::Steps, 2), (true, Reads::Steps, 2), (false, Reads::Final, 1)] {
        let config = LstmConfig { residual: true, layers: 4, bidirectional, ..LstmConfig::new(3, vec![4, 2, 2, 2]) };
        let mut value = 0.0f32;
        let mut values = |size: usize| -> Vec<f32> {
            let next = || {
                value += 0.7;
                value.sin()
            };
            std::iter::repeat_with(next).take(size).collect()
        };
        let mut stack = Stack::new(config.clone(), |_, shape| Ok(values(shape.iter().product()).into())).unwrap();
        // Keras has one bias.
        let layout = stack.lstm.layout().clone();
        for entry in layout.entries().iter().filter(|entry| entry.name.starts_with("bias_hh")) {
            stack.params.get_mut(entry.slot).fill(0.0);
        }
        let network = Network { stacks: vec![stack], reads, ..Network::default() };
        foreign::write(&path, Format::Keras, &network, Wishes::default()).unwrap();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert_eq!(text.matches(r#""class_name":"Add""#).count(), sums);
        let again = foreign::read(&path, Hints::default()).unwrap().network;
        assert_eq!((again.stacks.len(), again.stacks[0].config(), again.reads), (1, &config, reads));
        assert_eq!(again.stacks[0].params.values(), network.stacks[0].params.values());
        // The sum of others than an LSTM's own is refused by the layer's name.
        let whole = std::fs::read(&path).unwrap();
        let below = if bidirectional { "bidirectional" } else { "lstm" };
        let other = format!(r#""keras_history":["{below}",0,0]"#);
        let wrong = changed_bytes(whole, &format!(r#""keras_history":["{below}_1",0,0]"#), &other);
        let error = read_bytes("changed.keras", &wrong).unwrap_err();
        assert!(error.contains("the layer add adds what") || error.contains("beside the chain"), "{error}");
        // Weights alone do not say what is added.
        let weights = folder.path().join("model.weights.h5");
        foreign::write(&weights, Format::KerasWeights, &network, Wishes::default()).unwrap();
        let error = foreign::read(&weights, Hints::default()).unwrap_err().to_string();
        assert!(error.contains("layers/add adds what other layers give"), "{error}");
        assert!(foreign::lost(Format::KerasWeights, &network).concat().contains("Add() of it and what it reads"));
    }
}

#[test]
fn damaged_files_are_refused_in_a_sentence() {
    let whole = bytes("weights3.weights.h5");
    let model = bytes("forms3.keras");
    for (name, whole) in [("a.weights.h5", &whole), ("a.keras", &model)] {
        for length in (9..whole.len()).step_by(61) {
            if let Err(error) = read_bytes(name, &whole[..length]) {
                assert!(!error.is_empty());
            }
        }
        assert!(read_bytes(name, &whole[..whole.len() / 2]).is_err());
    }
    // Every word in turn: all ones, ten thousand million, a length that overflows, the root group (so that groups are their own children).
    for at in (8..whole.len() - 8).step_by(8).filter(|at| *at < 2048 || at % 40 == 0) {
        for word in [u64::MAX, 10_000_000_000, 1 << 61, 0x60] {
            let mut damaged = whole.clone();
            if whole[at..at + 8] == [0; 8] && at % 64 != 0 {
                continue;
            }
            damaged[at..at + 8].copy_from_slice(&word.to_le_bytes());
            let _ = read_bytes("a.weights.h5", &damaged);
        }
    }
}

#[test]
fn a_text_that_is_named_thousands_of_times_is_not_read_as_often() {
    let mut file = bytes("named_often.h5");
    // Layers without weights: nothing to read, but read.
    assert!(read_bytes("a.h5", &file).unwrap_err().contains("there is no LSTM in it"));
    // Every reference, its length first, becomes the first: 300 MB of a file of 223 kB.
    let at = file.windows(4).position(|word| word == 100_000u32.to_le_bytes()).unwrap();
    let first = file[at..at + 16].to_vec();
    file[at..at + 16 * 3000].copy_from_slice(&first.repeat(3000));
    let error = read_bytes("a.h5", &file).unwrap_err();
    assert!(error.contains("Keras did not write it"), "{error}");
}
