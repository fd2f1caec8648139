use crate::{Said, TINY, command, folder, line, trained};

/// Weights of fewer bits change a perplexity little, and what is written in them is read as the same bytes.
#[test]
fn weights_of_fewer_bits_cost_little_and_a_quarter_of_the_bytes() {
    let folder = trained("");
    let loss = |arguments: &str| {
        let said = line(folder.path(), &format!("eval {arguments} --json"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        said.json()["nll"].as_f64().unwrap()
    };
    let exact = loss("run text.txt");
    let near = |found: f64, bound: f64| assert!((found - exact).abs() < bound, "{found} and {exact} nats");
    near(loss("run text.txt --weights f32"), 1e-5);
    near(loss("run text.txt --weights bf16"), 1e-3);
    let bytes = loss("run text.txt --weights int8");
    near(bytes, 5e-3);
    assert_ne!(bytes, exact);

    let said = line(folder.path(), "quantize run small.safetensors");
    assert_eq!(said.code, Some(0), "{}", said.err);
    // The same bytes again; a sum of f32 may differ in its last bit.
    assert!((loss("small.safetensors text.txt --weights int8") - bytes).abs() < 1e-8 * bytes);
    let written = |arguments: &str| line(folder.path(), &format!("generate {arguments} --length 30 --seed 3")).out;
    assert_eq!(written("small.safetensors"), written("run --weights int8"));
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    assert!(size("small.safetensors") < size("run/model.safetensors"));
    for (arguments, why) in [
        ("quantize run small.safetensors", "is there already"),
        ("quantize small.safetensors other.safetensors", "quantized already"),
        ("quantize run model.bin", "extension"),
        ("eval run text.txt --weights int4", "f32, bf16, int8"),
    ] {
        let said = line(folder.path(), arguments);
        assert!(said.code == Some(2) && said.err.contains(why), "{arguments}: {}", said.err);
    }
}

#[test]
fn a_measurement_says_in_how_many_bits_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = "--vocab 30 --hidden 8 --layers 1 --batch 2 --seconds 0 --json";
    let of = |arguments: &str| line(folder.path(), &format!("bench {arguments} {sizes}")).json();
    let (train, exact) = (of("train --segment 3 --precision bf16"), of("train --segment 3"));
    assert_eq!((&train["precision"], &exact["precision"]), (&"bf16".into(), &"f32".into()));
    // The same numbers, rounded: in two parts to fewer bits than f32, and to more than one part.
    let in_parts = of("train --segment 3 --precision bf16x3");
    let off = |json: &serde_json::Value| {
        assert_ne!(json["losses"], exact["losses"]);
        (json["losses"][3].as_f64().unwrap() - exact["losses"][3].as_f64().unwrap()).abs()
    };
    assert!(off(&train) < 1e-2 && off(&in_parts) < 1e-4, "{} and {}", off(&train), off(&in_parts));
    assert_eq!((&in_parts["precision"], &in_parts["unit"]), (&"bf16x3".into(), &train["unit"]));
    assert!(train["unit"].is_string() && exact["unit"] == exact["isa"]);
    let rate = |json: &serde_json::Value, key: &str| json[key].as_f64().unwrap_or_else(|| panic!("{key} in {json}"));
    for json in [&train, &in_parts, &exact] {
        let (gflops, peaks) = (rate(json, "gflops"), rate(json, "f32_peaks"));
        assert!((gflops / peaks / rate(json, "f32_peak_gflops") - 1.0).abs() < 1e-6, "{json}");
    }
    let share = train["gflops"].as_f64().unwrap() / train["peak_gflops"].as_f64().unwrap();
    assert!((share / train["peak_share"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    // The table says the same: the unit and its peak over it, and the peaks of f32 in its last column.
    let sizes = sizes.trim_end_matches(" --json");
    let said = line(folder.path(), &format!("bench train --segment 3 --precision bf16 {sizes}")).out;
    let unit = train["unit"].as_str().unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains(&format!("in bf16 ({unit}, ")) && lines[0].contains(" in f32 ("), "{said}");
    assert!(lines[2].ends_with("of peak  f32 peaks"), "{said}");
    assert!(lines[3].split_whitespace().last().unwrap().parse::<f64>().unwrap() >= 0.0, "{said}");
    // Plain code's peak is below a GFLOP/s, and not 0.
    let mut plain = command(folder.path(), &["bench", "decode", "--hidden", "8", "--vocab", "16", "--seconds", "0"]);
    let said = Said::new(plain.env("LSTM_ISA", "scalar").output().unwrap()).out;
    let peak: f64 = said.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak > 0.0 && said.contains("(scalar, "), "{said}");
    let said = line(folder.path(), &format!("bench decode --weights int8 {sizes}")).out;
    assert!(said.lines().nth(2).unwrap().ends_with("of peak") && said.contains("B 2 int8"), "{said}");
    let norms = ["f32", "bf16", "int8"].map(|weights| {
        let measured = of(&format!("decode --weights {weights}"));
        assert_eq!(measured["weights"], weights);
        measured["score_norm"].as_f64().unwrap()
    });
    assert!(norms.iter().all(|norm| (norm / norms[0] - 1.0).abs() < 1e-2), "{norms:?}");
    assert!(norms[0] != norms[1] && norms[1] != norms[2]);
    for (arguments, why) in
        [("bench decode --precision bf16", "--weights"), ("bench train --weights int8", "--precision")]
    {
        let said = line(folder.path(), arguments);
        assert!(said.code == Some(2) && said.err.contains(why), "{arguments}: {}", said.err);
    }
}

/// A plan's products are in bf16 where that was measured to be faster, and what was decided stays as it was.
#[test]
fn a_planned_run_is_in_the_precision_that_is_fastest_here_and_says_why() {
    let folder = folder();
    let planned = |options: &str, isa: &str| {
        let given = format!("train text.txt --budget 2s --out run --force {options}");
        let mut command = command(folder.path(), &given.split_whitespace().collect::<Vec<_>>());
        if !isa.is_empty() {
            command.env("LSTM_ISA", isa);
        }
        let said = Said::new(command.output().unwrap());
        assert_eq!(said.code, Some(0), "{}", said.err);
        let config = line(folder.path(), "show run --json").json()["config"]["training"]["precision"].clone();
        let why = said.err.lines().find_map(|line| line.trim_start().strip_prefix("products in ")).map(str::to_owned);
        (config.as_str().unwrap().to_owned(), why, said.err)
    };
    let (chosen, why, said) = planned("", "");
    let why = why.unwrap_or_else(|| panic!("{said}"));
    assert!(why.starts_with(&chosen), "{said}");
    assert_eq!(chosen == "bf16", why.contains("times the speed of f32 here"), "{said}");
    let (chosen, why, said) = planned("", "scalar");
    assert_eq!(chosen, "f32");
    assert!(why.is_some_and(|why| why.contains("LSTM_ISA=scalar leaves no instructions for bf16")), "{said}");
    let (chosen, why, said) = planned("--layer-norm", "");
    assert_eq!(chosen, "f32");
    assert!(why.is_some_and(|why| why.contains("layer normalisation")), "{said}");
    // Decided, it is computed as it says, and says what that does.
    let (chosen, _, said) = planned("--layer-norm --precision bf16", "");
    assert!(chosen == "bf16" && said.contains("note     layer normalisation divides by"), "{said}");
    for decided in ["f32", "bf16"] {
        let (chosen, why, said) = planned(&format!("--precision {decided}"), "scalar");
        assert_eq!((chosen.as_str(), why), (decided, None), "{said}");
        assert_eq!(said.contains("note     products are in"), decided != "f32", "{said}");
    }
    // A run goes on in its precision on a machine without it, and says that this takes longer.
    assert_eq!(line(folder.path(), &format!("train text.txt {TINY} --precision bf16 --out exact")).code, Some(0));
    let mut command = command(folder.path(), &["train", "--resume", "exact", "--epochs", "3"]);
    let said = Said::new(command.env("LSTM_ISA", "scalar").output().unwrap());
    assert!(
        said.code == Some(0) && said.err.contains("for which LSTM_ISA=scalar leaves no instructions"),
        "{}",
        said.err
    );
    assert!(said.err.contains("products in bf16 (scalar)"), "{}", said.err);
    // What shows the run may be another machine than those that trained it, and names no unit.
    let shown = line(folder.path(), "show exact").out;
    assert!(shown.contains("products in bf16\n"), "{shown}");
}
