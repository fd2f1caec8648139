use std::path::Path;

use crate::{Said, folder, line, lstm, trained};

/// A file as PyTorch wrote it, of the library's tests.
fn golden(name: &str) -> String {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lstm/tests/golden/pytorch").join(name);
    golden.to_str().unwrap().to_owned()
}

/// The words of the golden language models.
const WORDS: &str = "<unk>\n<eos>\nthe\ncat\nsees\na\ndog\n";

/// A command that is refused with a sentence that has every one of `expected`.
fn refused(said: &Said, expected: &[&str]) {
    assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
    assert!(said.err.contains("error: ") && !said.err.contains("panicked"), "{}", said.err);
    for part in expected {
        assert!(said.err.contains(part), "{part} is not in: {}", said.err);
    }
}

#[test]
fn a_file_is_shown_and_becomes_a_run_and_a_file_again() {
    let folder = folder();
    let at = folder.path();
    let file = golden("lightning.pt");
    let shown = lstm(at, &["show", &file]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    for part in [
        "PyTorch, an archive",
        "2 layers of 5 hidden over 4",
        "state_dict.model.decoder.weight   → readout.weight [7, 5]",
        "left over   optimizer_states, of training (33 tensors)",
    ] {
        assert!(shown.out.contains(part), "{part} is not in: {}", shown.out);
    }
    let json = lstm(at, &["show", "--json", &file]).json();
    assert_eq!((json["parameters"].as_u64(), json["tensors"].as_array().unwrap().len()), (Some(530), 11));

    // What has no place is shown, and refused where a model is made of it.
    let bytes = std::fs::read(golden("tagger.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let end = bytes.len() - header;
    tensors["scale"] = serde_json::json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]});
    let tensors = tensors.to_string();
    let parts = [&(tensors.len() as u64).to_le_bytes()[..], tensors.as_bytes(), &bytes[header..], &[0; 4]];
    std::fs::write(at.join("scaled.safetensors"), parts.concat()).unwrap();
    let said = line(at, "show scaled.safetensors");
    assert!(said.code == Some(0) && said.out.contains("no place    scale [1]"), "{}{}", said.out, said.err);
    refused(&line(at, "convert scaled.safetensors out.pt"), &["would change the result: scale [1]"]);
    assert_eq!(line(at, "convert scaled.safetensors out.pt --map scale=").code, Some(0));

    std::fs::write(at.join("words.txt"), WORDS).unwrap();
    let converted = lstm(at, &["convert", &file, "run", "--vocab", "words.txt"]);
    assert_eq!(converted.code, Some(0), "{}", converted.err);
    assert!(converted.err.contains("→ lstm.weight_hh_l1") && converted.out.is_empty(), "{}", converted.err);
    assert_eq!(
        line(at, "eval run text.txt --json").json()["tokens"],
        line(at, "score run text.txt").out.matches(':').count()
    );
    // What it was trained on is not known, and its file is no text.
    let shown = line(at, "show run").out;
    assert!(shown.contains("train       not measured") && shown.contains("trained on  texts that "), "{shown}");
    // There was no training of which there is a rate, an optimizer, a seed.
    assert!(
        shown.contains("model       converted, not trained here") && shown.contains("reads       stream"),
        "{shown}"
    );
    for row in ["optimizer", "initial", "batches", "dropout"] {
        assert!(!shown.lines().any(|line| line.starts_with(row)), "{row}: {shown}");
    }
    assert!(line(at, "show run --json").json()["config"]["training"].is_null());
    for command in ["train --resume run", "verify run"] {
        refused(&line(at, command), &["run has a model and no checkpoint.safetensors", "--from in place of --resume"]);
    }
    let config = std::fs::read_to_string(at.join("run/config.toml")).unwrap();
    assert!(config.contains("imported = ") && !config.contains("train = "), "{config}");
    refused(&line(at, "eval run"), &["run has no test text of its own, for its model was read from", "give the text"]);
    refused(&line(at, "eval run text.txt --baseline"), &["run has no training text of its own"]);

    std::fs::write(at.join("odd.txt"), "a\nb\nc\nd\ne\nf\n<unk>\n").unwrap();
    let odd = lstm(at, &["convert", &file, "odd", "--vocab", "odd.txt"]);
    assert!(odd.err.contains("the vocabulary has no <eos>: the end of a line is read as <unk>"), "{}", odd.err);

    let back = line(at, "convert run model.pt --module");
    assert!(back.err.contains("lost        what the tokens are"), "{}", back.err);
    let module = std::fs::read_to_string(at.join("model.py")).unwrap();
    assert!(module.contains("nn.LSTM(4, 5, num_layers=2)") && module.contains("nn.Embedding(7, 4)"), "{module}");
    // The same values under our names.
    let values = |run: &str| std::fs::read(at.join(run).join("model.safetensors")).unwrap();
    assert_eq!(line(at, "convert model.pt again --vocab words.txt").code, Some(0));
    assert_eq!(values("run"), values("again"));
}

#[test]
fn a_trained_run_goes_to_pytorch_and_comes_back() {
    // What a text is given has residual connections, which a state dict does not say.
    let folder = trained("--tied");
    let at = folder.path();
    refused(&line(at, "convert run model.pt"), &["residual connections", "--module"]);
    assert!(!at.join("model.pt").exists());
    for (name, options) in [("model.pt", "--module"), ("model.safetensors", "--to pytorch --module")] {
        let _ = std::fs::remove_file(at.join("model.py"));
        let said = line(at, &format!("convert run {name} {options}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        let said = line(at, &format!("convert {name} back --force --vocab run/tokenizer.json"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        let perplexity = |run: &str| line(at, &format!("eval {run} text.txt --json")).json()["nll"].as_f64().unwrap();
        let (before, after) = (perplexity("run"), perplexity("back"));
        // The rows of a batch are not a part of the model.
        assert!((before - after).abs() < 0.05 * before, "{before} against {after}");
        assert_eq!(line(at, "generate run --length 20").out, line(at, "generate back --length 20").out);
    }
}

/// A model of lines begins each of them afresh: read as a stream it would be another.
#[test]
fn a_run_of_lines_comes_back_as_one() {
    let folder = trained("--batches lines --residual=false");
    let at = folder.path();
    assert_eq!(line(at, "convert run model.onnx").code, Some(0));
    let nll = |run: &str| line(at, &format!("eval {run} text.txt --json")).json()["nll"].as_f64().unwrap();
    let back = "convert model.onnx back --vocab run/tokenizer.json";
    refused(&line(at, back), &["markers around their lines", "--batches"]);
    let said = line(at, &format!("{back} --batches lines"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!((nll("back") / nll("run") - 1.0).abs() < 1e-5);
    refused(&line(at, "convert run other --batches lines"), &["--batches is for a file of another program"]);
    refused(&line(at, "convert model.onnx other.pt --batches lines"), &["--batches is of a model of this program"]);
    refused(&line(at, "convert model.onnx other --batches pages"), &["pages"]);
    assert!(!at.join("other").exists() && !at.join("other.pt").exists());
}

#[test]
fn a_trained_run_goes_to_onnx_and_comes_back() {
    let folder = trained("--peepholes --residual=false");
    let at = folder.path();
    let said = line(at, "convert run model.onnx");
    assert!(said.code == Some(0) && said.err.contains("lost        what the tokens are"), "{}", said.err);
    let shown = line(at, "show model.onnx");
    for part in ["ONNX, operators of version 18, from lstm", "2 layers of 8 hidden over 6, peepholes", "P1 "] {
        assert!(shown.out.contains(part), "{part} is not in: {}{}", shown.out, shown.err);
    }
    let said = line(at, "convert model.onnx back --vocab run/tokenizer.json");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(line(at, "generate run --length 20").out, line(at, "generate back --length 20").out);
    refused(&line(at, "convert run other.onnx --for openvino"), &["OpenVINO 2026.4 leaves the peepholes out"]);
    refused(&line(at, "convert run other.pt --for openvino"), &["--for names the program", ".onnx"]);
    refused(&line(at, "convert run other.onnx --for torch"), &["choose one of: tract, rten, openvino, onnxruntime"]);
    refused(&line(at, "convert model.onnx other.pt --map a=b"), &["the map gives tensors of a state dict"]);
    refused(&line(at, "convert model.onnx other.onnx --module"), &["--module writes the class"]);
    assert!(!at.join("other.onnx").exists() && !at.join("other.pt").exists());
}

#[test]
fn conversions_that_cannot_be_said() {
    let folder = trained("--peepholes --residual=false");
    let at = folder.path();
    let [plain, tagger] = ["legacy.pt", "tagger.safetensors"].map(golden);
    std::fs::write(at.join("words.txt"), WORDS).unwrap();
    std::fs::write(at.join("short.txt"), "a\nb\n").unwrap();
    std::fs::write(at.join("there.pt"), "").unwrap();
    let cases: [(&[&str], &[&str]); 16] = [
        (&["convert", "run", "out.pt"], &["peepholes", "nn.LSTM has not"]),
        (&["convert", &plain, "out"], &["nothing says what its tokens are", "--vocab"]),
        (&["convert", &plain, "out", "--vocab", "short.txt"], &["vocabulary has 2 tokens", "7 rows"]),
        (&["convert", &tagger, "out", "--vocab", "words.txt"], &["no embedding"]),
        (&["convert", &plain, "out.safetensors"], &["nothing says what its tokens are", "--vocab"]),
        (&["convert", &plain, "out.xyz"], &["out.xyz has an extension that is no format's"]),
        (&["convert", &plain, "out", "--module", "--vocab", "words.txt"], &["--module writes the class"]),
        (&["convert", &plain, "out.pt", "--to", "run"], &["--to run writes a folder"]),
        (&["convert", &plain, "out", "--to", "pytorch"], &["extension .pt or .safetensors"]),
        (&["convert", &plain, "there.pt"], &["there.pt is there already", "--force"]),
        (&["convert", &plain, "run", "--vocab", "words.txt"], &["exists already", "--force"]),
        (&["convert", "run", "out.pt", "--vocab", "words.txt"], &["--vocab is for a file of another program"]),
        (&["convert", "run", "out.pt", "--map", "a=b"], &["--map is for a file of another program"]),
        (&["convert", &plain, "out.pt", "--map", "x"], &["THEIRS=OURS"]),
        (&["convert", &plain, "out.pt", "--map", "x="], &["names x, which is not in it", "module.decoder.bias"]),
        (&["convert", "missing.pt", "out.pt"], &["missing.pt", "No such file"]),
    ];
    for (arguments, expected) in cases {
        refused(&lstm(at, arguments), expected);
        assert!(!at.join("out").exists() && !at.join("out.pt").exists(), "{arguments:?} left something behind");
    }
    refused(&line(at, "convert there.pt there.pt --force"), &["what would be read as well"]);
    refused(&line(at, "show text.txt"), &["no network that can be read"]);
}

/// A dictionary of one pair, as a pickle of protocol 2.
fn pair(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02}X\x01\x00\x00\x00a", value, b"s."].concat()
}

#[test]
fn hostile_files_are_sentences() {
    let folder = folder();
    let at = folder.path();
    let file = |name: &str, bytes: &[u8]| std::fs::write(at.join(name), bytes).unwrap();
    file("runs.pt", &pair(b"cos\nsystem\nX\x04\x00\x00\x00true\x85R"));
    file("drops.pt", b"\x80\x02}cbuiltins\neval\nX\x01\x00\x00\x001\x85R0.");
    file("deep.pt", &pair(&[&b"N"[..], &vec![0x85; 1_000_000]].concat()));
    file("marks.pt", &pair(&vec![b'('; 1_000_000]));
    file("cycle.pt", b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.");
    file("long.pt", b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc");
    file("flood.pt", &[&b"\x80\x02"[..], &vec![b'N'; 3_000_000]].concat());
    file("cut.pt", &std::fs::read(golden("lightning.pt")).unwrap()[..5000]);
    file("legacy.pt", &std::fs::read(golden("legacy.pt")).unwrap()[..3000]);
    file("empty.pt", b"");
    file("list.pt", b"\x80\x02]K\x01a.");
    // A dictionary of dictionaries: 400,000 in 2.4 MB take 214 MiB where as many values as bytes are let through.
    file("flock.pt", &[&b"\x80\x02"[..], &b"}K\x01K\x02s".repeat(400_000), b"."].concat());
    file("zip.pt", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let mut header = u64::MAX.to_le_bytes().to_vec();
    header[5..].fill(0);
    file("claims.safetensors", &[&header[..], b"{}"].concat());
    let huge = br#"{"weight_ih_l0":{"dtype":"F32","shape":[4000000000,4000000000],"data_offsets":[0,8]}}"#;
    file("huge.safetensors", &[&(huge.len() as u64).to_le_bytes()[..], huge, &[0; 8]].concat());
    for (name, expected) in [
        ("runs.pt", "its pickle calls os.system, which is no data; nothing of it was executed"),
        ("drops.pt", "its pickle calls builtins.eval"),
        ("deep.pt", "nesting"),
        ("marks.pt", "truncated or damaged"),
        ("cycle.pt", "there is no LSTM in it"),
        ("long.pt", "truncated or damaged"),
        ("flood.pt", "more values than any state dict has"),
        ("cut.pt", "truncated or damaged"),
        ("legacy.pt", "truncated or damaged"),
        ("empty.pt", "truncated or damaged"),
        ("list.pt", "it holds no state dict"),
        ("flock.pt", "more values than any state dict has"),
        ("zip.pt", "archive without a data.pkl"),
        ("claims.safetensors", "truncated or damaged"),
        ("huge.safetensors", "truncated or damaged"),
    ] {
        let said = line(at, &format!("show {name}"));
        refused(&said, &[name, expected]);
        refused(&line(at, &format!("convert {name} out.pt")), &[name, expected]);
    }
}
