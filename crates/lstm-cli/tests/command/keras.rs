//! Keras's files: shown, written, read again, refused.

use crate::{folder, line, lstm, trained};

#[test]
fn a_trained_run_goes_to_keras_and_comes_back() {
    let residual = trained("--residual");
    let at = residual.path();
    assert_eq!(line(at, "convert run model.keras").code, Some(0));
    let shown = line(at, "show model.keras");
    assert!(shown.out.contains("2 layers of 8 hidden over 6, residual"), "{}{}", shown.out, shown.err);
    assert_eq!(line(at, "convert model.keras back --vocab run/tokenizer.json").code, Some(0));
    assert_eq!(line(at, "generate run --length 20").out, line(at, "generate back --length 20").out);
    let folder = trained("--residual=false --tied");
    let at = folder.path();
    for (name, lost) in [
        ("model.keras", "a Dense has its own"),
        ("model.weights.h5", "load_weights wants them made before: Embedding("),
    ] {
        let said = line(at, &format!("convert run {name}"));
        assert!(said.code == Some(0) && said.err.contains(lost), "{}", said.err);
        let shown = line(at, &format!("show {name}"));
        assert!(shown.code == Some(0) && shown.out.contains("→ lstm.weight_hh_l0 ["), "{}{}", shown.out, shown.err);
        let said = line(at, &format!("convert {name} back --force --vocab run/tokenizer.json"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert_eq!(line(at, "generate run --length 20").out, line(at, "generate back --length 20").out);
    }
    let bytes = std::fs::read(at.join("model.keras")).unwrap();
    assert_eq!(line(at, "convert model.keras again.keras").code, Some(0));
    assert_eq!(std::fs::read(at.join("again.keras")).unwrap(), bytes);
}

#[test]
fn conversions_that_keras_cannot_say() {
    let folder = folder();
    let at = folder.path();
    let there = trained("--peepholes");
    let run = there.path().join("run");
    let run = run.to_str().unwrap();
    std::fs::write(at.join("half.keras"), b"PK\x03\x04").unwrap();
    std::fs::write(at.join("half.h5"), b"\x89HDF\r\n\x1a\n\0\0").unwrap();
    std::fs::write(at.join("empty.h5"), b"").unwrap();
    let plain = trained("--residual=false");
    let plain = plain.path().join("run");
    assert_eq!(lstm(at, &["convert", plain.to_str().unwrap(), "there.keras"]).code, Some(0));
    let cases: [(&[&str], &[&str]); 9] = [
        (&["convert", run, "out.keras"], &["peepholes", "Keras"]),
        (&["convert", run, "out.h5"], &[".keras for a model", ".weights.h5"]),
        (&["convert", run, "out.keras", "--module"], &["--module writes the class"]),
        (&["convert", run, "out.keras", "--to", "pytorch"], &["extension .pt or .safetensors"]),
        (&["convert", "there.keras", "out.pt", "--map", "a=b"], &["layers of a Keras file say themselves"]),
        (&["show", "half.keras"], &["half.keras", "truncated or damaged"]),
        (&["show", "half.h5"], &["half.h5", "truncated or damaged"]),
        (&["show", "empty.h5"], &["empty.h5"]),
        (&["convert", "there.keras", "out"], &["nothing says what its tokens are", "--vocab"]),
    ];
    for (arguments, expected) in cases {
        let said = lstm(at, arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}: {}{}", said.out, said.err);
        assert!(said.err.contains("error: ") && !said.err.contains("panicked"), "{}", said.err);
        assert!(expected.iter().all(|part| said.err.contains(part)), "{arguments:?}: {}", said.err);
    }
    assert!(!at.join("out.keras").exists() && !at.join("out.h5").exists());
}
