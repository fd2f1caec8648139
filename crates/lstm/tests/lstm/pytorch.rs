//! Files as PyTorch writes them (`tests/golden/pytorch.py`): read, run, compared with what PyTorch computes; written and read
//! again.

use std::path::PathBuf;

use lstm::formats::foreign::{self, Format, Wishes};
use lstm::formats::import::{Hints, Import};
use lstm::formats::network::{Input, Network};
use lstm::nn::config::HiddenSizes;
use lstm::nn::segment::Segment;
use safetensors::SafeTensors;

const TOLERANCE: f32 = 1e-5;

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden/pytorch", name].iter().collect()
}

fn read(name: &str) -> Import {
    foreign::read(&path(name), Hints::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a network on the input of an expected file and compares outputs and final states.
fn check(name: &str, network: &Network) {
    let stem = name.split('.').next().unwrap();
    let bytes = std::fs::read(path(&format!("{stem}.expected.safetensors"))).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let data = expected.tensor(name).unwrap().data().to_vec();
        data.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    let shape = expected.tensor("tokens").or_else(|_| expected.tensor("vectors")).unwrap().shape().to_vec();
    let segment = Segment { steps: shape[0], batch: shape[1], lengths: None, packed: None };
    let mut states = network.states(shape[1]);
    let output = match expected.tensor("tokens") {
        Ok(tokens) => {
            let words = tokens.data().as_chunks::<4>().0;
            let tokens: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
            network.forward(Input::Tokens(&tokens), segment, &mut states).unwrap()
        }
        Err(_) => network.forward(Input::Vectors(&floats("vectors")), segment, &mut states).unwrap(),
    };
    let last = states.last().unwrap();
    for (what, got) in [("output", &output.values), ("h_n", &last.h), ("c_n", &last.c)] {
        let expected = floats(what);
        // Of LSTMs one after the other, PyTorch's states are those of the last.
        let got = &got[got.len() - expected.len()..];
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let apart = (got - expected).abs();
            assert!(apart <= TOLERANCE, "{name}, {what}[{index}]: got {got}, PyTorch has {expected}");
        }
    }
}

/// Every kind of file, what it is said to be, and a word of what is left over or noted.
const FILES: [(&str, &str, &str); 10] = [
    ("lightning.pt", "archive of torch.save", "optimizer_states, of training (33 tensors)"),
    ("legacy.pt", "before version 1.6", ""),
    ("tar.pt", "before version 0.1.10", ""),
    ("views.pt", "archive of torch.save", ""),
    ("forms.pt", "archive of torch.save", "values in float64 and float16 and bfloat16 become float32"),
    ("awd.pt", "archive of torch.save", "0.encoder_dp.emb.weight, a copy of 0.encoder.weight"),
    ("normalised.pt", "archive of torch.save", "of a parametrization the file keeps what it is given"),
    ("whole.pt", "archive of torch.save", "objects of __main__.Tagger"),
    ("tagger.safetensors", "named tensors", ""),
    ("tied.safetensors", "named tensors", ""),
];

#[test]
fn every_kind_of_file_computes_what_pytorch_does() {
    for (name, kind, said) in FILES {
        let import = read(name);
        assert!(import.kind.contains(kind), "{name}: {}", import.kind);
        let all: Vec<&String> = import.network.notes.iter().chain(&import.left_over).collect();
        assert!(said.is_empty() && all.is_empty() || all.iter().any(|text| text.contains(said)), "{name}: {all:?}");
        check(name, &import.network);
    }
}

#[test]
fn what_is_found_has_a_name_of_ours_for_each_of_theirs() {
    let awd = read("awd.pt");
    assert_eq!(awd.network.stacks.len(), 1);
    assert_eq!(awd.network.stacks[0].config().hidden, HiddenSizes::Each(vec![6, 6, 4]));
    let ours = |theirs: &str| awd.found.iter().find(|found| found.theirs == theirs).map(|found| found.ours.as_str());
    assert_eq!(ours("0.rnns.2.weight_hh_l0_raw"), Some("lstm.weight_hh_l2"));
    assert_eq!(ours("0.rnns.2.module.weight_hh_l0"), None);
    assert_eq!(ours("1.decoder.weight"), Some("readout.weight"));
    for name in ["views.pt", "tied.safetensors", "awd.pt"] {
        assert!(read(name).network.is_tied(), "{name}");
    }
}

#[test]
fn what_is_written_is_read_again_and_is_always_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, ..) in FILES {
        let network = read(name).network;
        for (extension, format) in [("pt", Format::Pytorch), ("safetensors", Format::Safetensors)] {
            let [first, second] = ["a", "b"].map(|name| folder.path().join(name).with_extension(extension));
            foreign::write(&first, format, &network, Wishes::default()).unwrap();
            let again = foreign::read(&first, Hints::default()).unwrap();
            assert!(again.left_over.is_empty(), "{name}: {:?}", again.left_over);
            check(name, &again.network);
            foreign::write(&second, format, &again.network, Wishes::default()).unwrap();
            assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap(), "{name} as .{extension}");
        }
    }
}

#[test]
fn storages_begin_at_multiples_of_64_and_tied_tensors_share_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    foreign::write(&path, Format::Pytorch, &read("views.pt").network, Wishes::default()).unwrap();
    let mut archive = zip::ZipArchive::new(std::fs::File::open(&path).unwrap()).unwrap();
    let mut storages = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).unwrap();
        assert_eq!(entry.compression(), zip::CompressionMethod::Stored);
        if entry.name().unwrap().contains("/data/") {
            assert_eq!(entry.data_start().unwrap() % 64, 0, "{}", entry.name().unwrap());
            storages += 1;
        }
    }
    // A table, two layers of four arrays, a bias; the readout's weights are the table's.
    assert_eq!(storages, 10);
}

#[test]
fn the_map_gives_places_and_leaves_out() {
    let read = |name: &str, map: &[(&str, &str)]| {
        let map: Vec<_> = map.iter().map(|(theirs, ours)| (theirs.to_string(), ours.to_string())).collect();
        foreign::read(&path(name), Hints { map: &map, ..Hints::default() })
    };
    let error = |name: &str, map: &[(&str, &str)]| read(name, map).unwrap_err().to_string();
    // Without its readout a tagger is two layers.
    let bare = read("tagger.safetensors", &[("head.", "")]).unwrap();
    assert!(bare.network.readouts.is_empty());
    assert!(bare.left_over[0].contains("2 left out by the map"));
    // Another name for the same.
    let renamed = read("whole.pt", &[("head.weight", "readout.weight"), ("head.bias", "readout.bias")]).unwrap();
    check("whole.pt", &renamed.network);
    let chosen = read("lightning.pt", &[("state_dict.model.", "x.")]).unwrap();
    check("lightning.pt", &chosen.network);
    assert!(
        error("tagger.safetensors", &[("head.weight", "")])
            .contains("would change the result: head.bias [6]; map each to one of")
    );
    assert!(error("lightning.pt", &[("decoder.bias", "")]).ends_with("there are: state_dict.model.decoder.bias"));
    assert!(error("tagger.safetensors", &[("nothing", "")]).contains("names nothing, which is not in it"));
    assert!(error("tagger.safetensors", &[("head.bias", "head")]).contains("the places are: embedding.weight"));
    let twice = [("head.bias", "readout.bias"), ("lstm.bias_ih_l0", "readout.bias")];
    assert!(error("tagger.safetensors", &twice).contains("gives readout.bias to two tensors"));
}

/// Whatever the bytes, reading ends with a network or a sentence.
#[test]
fn damaged_files_end_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = lstm::rng::Rng::new(1, lstm::rng::Purpose::Generate, 0);
    for (name, ..) in FILES {
        let bytes = std::fs::read(path(name)).unwrap();
        let target = folder.path().join(name);
        let look = |bytes: &[u8]| {
            std::fs::write(&target, bytes).unwrap();
            match foreign::read(&target, Hints::default()) {
                Ok(import) => assert!(import.network.parameters() < 1 << 20),
                Err(error) => assert!(error.to_string().contains(name), "{error}"),
            }
        };
        for part in 0..40 {
            look(&bytes[..bytes.len() * part / 40]);
        }
        for _ in 0..300 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(damaged.len());
                damaged[at] = random.below(256) as u8;
            }
            look(&damaged);
        }
    }
}

#[test]
fn a_bias_that_is_missing_beside_another_is_named_and_both_may_be() {
    use safetensors::tensor::{Dtype, TensorView};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let zeros = [0; 4 * 8 * 3];
    let read = |biases: &[&'static str]| {
        let weights = [("weight_ih_l0", vec![8, 3]), ("weight_hh_l0", vec![8, 2])];
        let biases = biases.iter().map(|name| (*name, vec![8]));
        let tensors = weights.into_iter().chain(biases).map(|(name, shape)| {
            let bytes = 4 * shape.iter().product::<usize>();
            (name.to_owned(), TensorView::new(Dtype::F32, shape, &zeros[..bytes]).unwrap())
        });
        std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        foreign::read(&path, Hints::default())
    };
    let said = read(&["bias_ih_l0"]).unwrap_err().to_string();
    assert!(said.contains("bias_hh_l0 is missing"), "{said}");
    assert!(read(&[]).is_ok() && read(&["bias_ih_l0", "bias_hh_l0"]).is_ok());
}
