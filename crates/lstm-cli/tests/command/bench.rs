use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::{command, folder, line};

/// Sizes that are measured in a moment.
const TINY: &str = "--embedding 3 --hidden 5 --layers 2 --batch 2 --seconds 0 --threads 1";

/// Runs `lstm bench` with `--json`.
fn measured(arguments: &str) -> Value {
    line(folder().path(), &format!("bench {arguments} {TINY} --json")).json()
}

/// That a timing is one: every rate follows from its milliseconds.
fn check_timing(timing: &Value, tokens: f64, operations: f64, peak: f64) {
    let number = |key: &str| timing[key].as_f64().unwrap_or_else(|| panic!("{key} in {timing}"));
    let seconds = number("milliseconds") * 1e-3;
    assert!(seconds > 0.0 && timing["rounds"].as_u64().unwrap() >= 5, "{timing}");
    let close = |key: &str, expected: f64| assert!((number(key) / expected - 1.0).abs() < 1e-9, "{key} in {timing}");
    close("tokens_per_second", tokens / seconds);
    close("gflops", operations / seconds * 1e-9);
    close("peak_share", operations / seconds * 1e-9 / peak);
}

/// Multiply-adds of a token in the layers and in a readout of 11 tokens.
const STACK: f64 = (4 * 5 * (3 + 5) + 4 * 5 * (5 + 5)) as f64;
const READOUT: f64 = (11 * 5) as f64;

#[test]
fn a_training_step_is_measured() {
    let result = measured("train --vocab 11 --segment 4");
    let peak = result["peak_gflops"].as_f64().unwrap();
    assert!(peak > 0.0);
    check_timing(&result, 8.0, 6.0 * 8.0 * (STACK + READOUT), peak);
    for (key, expected) in
        [("vocab", 11), ("embedding", 3), ("hidden", 5), ("layers", 2), ("segment", 4), ("batch", 2), ("threads", 1)]
    {
        assert_eq!(result[key], expected, "{key}");
    }
    assert_eq!(result["kind"], "train");
    assert!(result["isa"].is_string());
    let losses: Vec<f64> = result["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect();
    assert!(losses[0] > losses[losses.len() - 1] && (losses[0] - 11f64.ln()).abs() < 1.0, "{losses:?}");
    if cfg!(target_os = "linux") {
        assert!(result["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    }
    // With sizes and no kind, it is the training step.
    assert_eq!(measured("--vocab 11 --segment 4")["losses"], result["losses"]);
}

#[test]
fn layers_and_single_tokens_are_measured() {
    let result = measured("layer --segment 4");
    let peak = result["peak_gflops"].as_f64().unwrap();
    check_timing(&result, 8.0, 6.0 * 8.0 * STACK, peak);
    check_timing(&result["forward"], 8.0, 2.0 * 8.0 * STACK, peak);
    assert!(result["output_norm"].as_f64().unwrap() > 0.0 && result["gradient_norm"].as_f64().unwrap() > 0.0);
    assert!(result["vocab"].is_null());

    let result = measured("decode --vocab 11");
    let peak = result["peak_gflops"].as_f64().unwrap();
    check_timing(&result, 2.0, 2.0 * 2.0 * (STACK + READOUT), peak);
    check_timing(&result["stack"], 2.0, 2.0 * 2.0 * STACK, peak);
    for part in [&result, &result["stack"]] {
        let floor = part["floor_milliseconds"].as_f64().unwrap();
        assert!(floor > 0.0 && floor < part["milliseconds"].as_f64().unwrap(), "{part}");
    }
    assert!(result["score_norm"].as_f64().unwrap() > 0.0 && result["segment"].is_null());
}

#[test]
fn a_table_names_the_peak_and_the_sizes() {
    let said = line(folder().path(), &format!("bench decode --vocab 11 {TINY}"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    for part in ["peak", "GFLOP/s", "1 thread)", "of peak", "tokens/s", "V 11 E 3 2×5 B 2", "stack"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
}

#[test]
fn the_same_numbers_for_any_threads() {
    let norms = |threads: u32| {
        let arguments = format!("bench layer --hidden 33 --batch 9 --segment 5 --seconds 0 --threads {threads} --json");
        let result = line(folder().path(), &arguments).json();
        assert_eq!(result["threads"], threads);
        (result["output_norm"].clone(), result["gradient_norm"].clone())
    };
    assert_eq!(norms(1), norms(3));
}

#[test]
fn sizes_that_cannot_be_measured_are_refused() {
    for (arguments, expected) in [
        ("train --hidden 0", "--hidden is 0"),
        ("train --vocab 0", "--vocab is 0"),
        ("train --embedding 0", "--embedding is 0"),
        ("layer --layers 0", "--layers is 0"),
        ("layer --segment 0", "--segment is 0"),
        ("decode --batch 0", "--batch is 0"),
        ("train --threads 0", "--threads is 0"),
        ("train --seconds=-1", "--seconds is -1"),
        ("train --seconds nan", "--seconds is NaN"),
        ("train --hidden 10000000", "are free"),
        ("layer --segment 18446744073709551615", "are free"),
        ("layer --layers 1000000000000", "are free"),
        ("decode --batch 100000000000", "are free"),
        ("decode --vocab 18446744073709551615", "--vocab is 18446744073709551615"),
        ("layer --vocab 10", "leave out --vocab"),
        ("decode --segment 10", "leave out --segment"),
        ("dream", "train, layer, decode"),
        ("train --hidden many", "it must be a whole number"),
    ] {
        let said = line(folder().path(), &format!("bench {arguments}"));
        assert_eq!(said.code, Some(2), "{arguments}: {}", said.err);
        assert!(said.err.contains(expected) && !said.err.contains("panicked"), "{arguments}: {}", said.err);
        assert!(said.out.is_empty(), "{arguments}: {}", said.out);
    }
}

#[cfg(unix)]
#[test]
fn it_can_be_interrupted() {
    let folder = folder();
    let mut child = command(folder.path(), &["bench", "--seconds", "600"]).stdout(Stdio::piped()).spawn().unwrap();
    // The peak comes first, the first row ten minutes later.
    let mut peak = [0; 4];
    // Held to the end: a command whose reader has left ends by itself, as a success.
    let mut said = child.stdout.take().unwrap();
    said.read_exact(&mut peak).unwrap();
    assert_eq!(&peak, b"peak");
    let interrupted = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
